/* A host alarm that follows a guest clock: a signal to one thread when a guest deadline is reached. */
#ifndef RUNTIME_ALARM_H
#define RUNTIME_ALARM_H
#include "core/clock.h"

#include <sys/types.h>

struct alarm;

/* signo goes to thread tid of this process. Returns 0 or -errno (of timer_create, -ENOMEM). */
MUST_CHECK int alarm_new(struct alarm **out, int signo, pid_t tid);
void alarm_free(struct alarm *a); /* copes with NULL */
/* One signal once clk reaches guest_deadline_ns, at once if it has; replaces the one before. UINT64_MAX, or a clock that is
 * set by hand: none. */
void alarm_set(struct alarm *a, u64 guest_deadline_ns, const struct clock *clk);

#endif
