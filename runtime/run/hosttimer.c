/* Owns the two ways to be told of a time by a signal. */
#define _GNU_SOURCE
#include "runtime/run/hosttimer.h"
#include "core/hostfd.h"
#include "core/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#define NS_PER_S 1000000000ull

struct hosttimer {
    timer_t timer;
    int fd; /* -1: timer is used */
    pthread_t thread;
    _Atomic bool ending;
    int signo;
    pid_t tid;
};

static void *sender(void *arg)
{
    struct hosttimer *t = arg;
    for (;;) {
        u64 times;
        ssize_t n = read(t->fd, &times, sizeof times);
        if (t->ending) return NULL;
        if (n == sizeof times) syscall(SYS_tgkill, getpid(), t->tid, t->signo);
    }
}

static int start_sender(struct hosttimer *t)
{
    t->fd = hostfd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    if (t->fd < 0) return -errno;
    int err = thread_start(&t->thread, THREAD_MAIN, sender, t);
    if (err) close(t->fd);
    return err;
}

int hosttimer_new(struct hosttimer **out, int signo, pid_t tid)
{
    struct hosttimer *t = calloc(1, sizeof *t);
    if (!t) return -ENOMEM;
    *t = (struct hosttimer){ .fd = -1, .signo = signo, .tid = tid };
    struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signo };
    ev._sigev_un._tid = tid;
    int err = timer_create(CLOCK_MONOTONIC, &ev, &t->timer) < 0 ? start_sender(t) : 0;
    if (err) {
        free(t);
        return err;
    }
    *out = t;
    return 0;
}

void hosttimer_set(struct hosttimer *t, u64 host_ns)
{
    const struct itimerspec it = { .it_value = { (time_t)(host_ns / NS_PER_S), (long)(host_ns % NS_PER_S) } };
    if (t->fd < 0) timer_settime(t->timer, TIMER_ABSTIME, &it, NULL);
    else timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &it, NULL);
}

void hosttimer_free(struct hosttimer *t)
{
    if (!t) return;
    if (t->fd < 0) {
        timer_delete(t->timer);
    } else {
        t->ending = true;
        hosttimer_set(t, 1);
        pthread_join(t->thread, NULL);
        close(t->fd);
    }
    free(t);
}
