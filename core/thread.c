/* Owns how a thread of ours begins. What a thread is, is thread-local: a signal handler has no other way to find it. */
#include "core/thread.h"

#include <errno.h>
#include <stdlib.h>

struct start {
    void *(*fn)(void *arg);
    void *arg;
    enum thread_role role;
    bool jailed;
};

static __thread enum thread_role mine;
static __thread bool jailed;

enum thread_role thread_role(void) { return mine; }
bool thread_jailed(void) { return jailed; }
void thread_set_jailed(void) { jailed = true; }

static void *begin(void *arg)
{
    const struct start s = *(struct start *)arg;
    free(arg);
    sigset_t one;
    mine = s.role;
    jailed = s.jailed;
    sigemptyset(&one);
    sigaddset(&one, THREAD_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL); /* not before: a jail is entered as what the thread is */
    return s.fn(s.arg);
}

int thread_start(pthread_t *out, enum thread_role role, void *(*fn)(void *arg), void *arg)
{
    sigset_t most, before;
    struct start *s = malloc(sizeof *s);
    if (!s) return -ENOMEM;
    *s = (struct start){ fn, arg, role, jailed };
    sigfillset(&most);
    sigdelset(&most, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    int rc = -pthread_create(out, NULL, begin, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) free(s);
    return rc;
}
