/* A host alarm that follows a guest clock: a signal to one thread when a guest deadline is reached. */
#ifndef RUNTIME_ALARM_H
#define RUNTIME_ALARM_H
#include "core/clock.h"

#include <sys/types.h>

struct alarm;

/* signo goes to thread tid of this process. Returns 0 or -errno of hosttimer_new(), as for signo. */
MUST_CHECK int alarm_new(struct alarm **out, int signo, pid_t tid);
void alarm_free(struct alarm *a); /* copes with NULL */
/* Sees to it that a signal comes once clk reaches guest_deadline_ns (at once if it has), or earlier: one that was asked
 * for before and is yet to come stays, for a signal too many costs less than moving the host's timer at each change. So
 * every signal is to be answered with a call. UINT64_MAX, or a clock that is set by hand: asks for nothing. */
void alarm_set(struct alarm *a, u64 guest_deadline_ns, const struct clock *clk);
/* No signal comes from here on, until alarm_set() asks for one. */
void alarm_stop(struct alarm *a);

#endif
