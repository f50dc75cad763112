/* The keys of our own on a terminal that is otherwise the guest's: they begin with Ctrl-A. */
#ifndef SRC_BACK_USER_KEYS_H
#define SRC_BACK_USER_KEYS_H
#include "core/types.h"
#include "transvisor/vm.h"

struct user_keys {
    void (*quit)(void *arg);                   /* Ctrl-A x */
    void (*tell)(void *arg, const char *text); /* one line for the user */
    /* What is typed between a Ctrl-A c and the next, and these themselves; NULL: nobody listens. */
    void (*talk)(void *arg, enum vm_talk what, const u8 *bytes, size_t n);
    void *arg;
    bool escape;          /* the last key was Ctrl-A */
    _Atomic bool talking; /* there has been a Ctrl-A c */
};
/* Takes our own keys out of n bytes of input; returns how many bytes are left. Ctrl-A Ctrl-A is a Ctrl-A. */
size_t user_keys_filter(struct user_keys *k, u8 *buf, size_t n);
/* The terminal goes away: who listens is told of the end. */
void user_keys_end(struct user_keys *k);

#endif
