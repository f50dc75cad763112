/* A timer of the host's that sends a signal to one thread of this process: timer_create(2), or, where that is refused
 * or the limit of queued signals is used up (RLIMIT_SIGPENDING), a timerfd and a thread that waits for it. */
#ifndef RUNTIME_HOSTTIMER_H
#define RUNTIME_HOSTTIMER_H
#include "core/types.h"

#include <sys/types.h>

struct hosttimer;

/* signo goes to thread tid; it must not be a real-time signal, for want of a queue entry would lose it. Returns 0 or
 * -errno. */
MUST_CHECK int hosttimer_new(struct hosttimer **out, int signo, pid_t tid);
void hosttimer_free(struct hosttimer *t); /* copes with NULL */
/* Once, at host_ns of CLOCK_MONOTONIC; at once if that has passed; 0: not at all. Async-signal-safe. */
void hosttimer_set(struct hosttimer *t, u64 host_ns);

#endif
