/* The keys of our own on a terminal that is otherwise the guest's: they begin with Ctrl-A. */
#ifndef SRC_BACK_USER_KEYS_H
#define SRC_BACK_USER_KEYS_H
#include "core/types.h"

struct user_keys {
    void (*quit)(void *arg);                   /* Ctrl-A x */
    void (*tell)(void *arg, const char *text); /* one line for the user */
    void *arg;
    bool escape; /* the last key was Ctrl-A */
};
/* Takes our own keys out of n bytes of input; returns how many bytes are left. Ctrl-A Ctrl-A leaves a Ctrl-A. */
size_t user_keys_filter(struct user_keys *k, u8 *buf, size_t n);

#endif
