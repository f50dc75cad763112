/* What the signals do that ask us to stop (SIGINT, SIGTERM, SIGHUP), to save (SIGUSR1) or to press the power button
 * (SIGPWR): one thread takes them all, so that no handler has to reach a machine. Those that were ignored when the
 * program was started (nohup, `&` in a script) stay ignored. */
#ifndef SRC_STOPPER_H
#define SRC_STOPPER_H
#include "transvisor/vm.h"

#include <pthread.h>
#include <signal.h>

struct stopper {
    pthread_t thread;
    sigset_t set;
    pthread_mutex_t lock;
    struct vm *vm;      /* NULL: there is none yet, or none any more */
    const char *save;   /* where SIGUSR1 saves it, or NULL */
    _Atomic int caught; /* the signal that ended us, or 0 */
    _Atomic bool done;
};

/* Blocks the signals in this thread and all that it makes from now on, and starts taking them. 0 or -errno. */
int stopper_start(struct stopper *s, const char *save);
/* From now on a signal stops vm; one that has come before stops it at once. NULL: none. */
void stopper_watch(struct stopper *s, struct vm *vm);
bool stopper_asked(void *stopper); /* one has come */
void stopper_end(struct stopper *s);

#endif
