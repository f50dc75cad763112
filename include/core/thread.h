/* Threads of the program's own, beside those of whoever uses it.
 *
 * Signals are the business of the thread that set them up: in these all are blocked but two. THREAD_SIGNAL does nothing
 * unless a jail is being entered, which every thread has to do itself; SIGSYS is how the kernel tells of a system call
 * that a jail refuses, and blocked it would kill without a word. */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H
#include "core/types.h"

#include <pthread.h>
#include <signal.h>

#define THREAD_SIGNAL SIGURG /* ignored by default */

/* What a thread is for, and so what it may ask of the host once it is in a jail. */
enum thread_role {
    THREAD_MAIN,   /* whatever nobody else does; those that were not started here */
    THREAD_VCPU,   /* runs the guest and its chips */
    THREAD_DISK,   /* one image */
    THREAD_NBD,    /* one image of a server's */
    THREAD_SERIAL, /* one line's input */
    THREAD_TEXT,   /* the screen on a terminal */
    THREAD_VNC,    /* the screen in clients */
    THREAD_NET,    /* one network back end */
    THREAD_AUDIO,  /* sound */
    THREAD_SHARE,  /* one shared folder */
    THREAD_RNG,    /* random numbers */
    THREAD_ROLES
};

/* 0 or -errno. To be joined. */
MUST_CHECK int thread_start(pthread_t *out, enum thread_role role, void *(*fn)(void *arg), void *arg);
/* The calling thread's. Async-signal-safe. */
enum thread_role thread_role(void);
/* Whether it is in a jail: it has said so, or was started by one that is. Async-signal-safe. */
bool thread_jailed(void);
void thread_set_jailed(void);

#endif
