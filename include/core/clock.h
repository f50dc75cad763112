/* Guest time and timers: the only clock a device may read. Implemented in runtime/run/time.c.
 * Guest time is CLOCK_MONOTONIC minus its value at power-on, so every chip agrees with every other and with the host;
 * but it does not run on while the host runs something else (clock_start()). Or it goes by what the guest executes
 * (clock_set_speed()). Timers fire on the vCPU thread, between
 * guest blocks. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H
#include "core/types.h"

struct clock;

struct timer {
    struct clock *clk;
    void (*fn)(void *arg);
    void *arg;
    u64 deadline; /* guest ns */
    bool armed;
    struct timer *next; /* the clock's list, by deadline */
};

u64 clock_now(const struct clock *c);     /* guest ns since power-on */
u64 clock_wall_ns(const struct clock *c); /* UTC in ns since 1970, for the RTC */
/* Holds the CPU for ns, as a slow bus does. Nothing happens on a clock that is set by hand. */
void clock_stall(const struct clock *c, u64 ns);
void timer_init(struct timer *t, struct clock *c, void (*fn)(void *), void *arg);
void timer_arm(struct timer *t, u64 deadline_ns); /* absolute; re-arms if armed; a past deadline fires at once (soon) */
void timer_cancel(struct timer *t);

/* From here to clock_stop() the calling thread runs the guest, and nobody else reads the clock. What the host takes
 * from the thread, beyond a millisecond or so at a time, is kept from guest time and given later, bit by bit: the clock
 * lags behind, and runs fast for as long as it does. */
void clock_start(struct clock *c);
void clock_stop(struct clock *c);
void clock_look(struct clock *c);  /* finds out what the host has taken; also done by itself when time is read */
void clock_sleep(struct clock *c); /* around HLT, where a lag can be made good unseen, up to the next deadline: */
void clock_wake(struct clock *c);  /* what is later than that is the host's delay */
/* Guest code reads the host's TSC itself for a while: from the first call there is no lag, and all time until the
 * second has been seen. */
void clock_expose(struct clock *c);
void clock_exposed(struct clock *c);
/* The host's TSC, less what guest time lags behind. *until: for as long as the host's TSC is below, it is just that;
 * 0: ask each time. */
u64 clock_tsc(struct clock *c, u64 *until);
u64 clock_lag_ns(const struct clock *c);    /* at the last look */
u64 clock_hidden_ns(const struct clock *c); /* all that has ever been kept back, given or not */

/* From now on time is what a processor of so many MHz needs for *done instructions, one a cycle, and the TSC counts its
 * cycles. It does not wait for the host's: whoever runs the guest sleeps when it is ahead. *done never goes back. */
void clock_set_speed(struct clock *c, unsigned mhz, const u64 *done);
/* By how many ns such a clock is ahead of the host's, which the guest is to see from outside; 0: it is not. If it is
 * too far behind, it will not catch up: the host is slower than that processor. */
u64 clock_ahead_ns(struct clock *c);
u64 clock_cycles_of(const struct clock *c, u64 ns); /* of such a clock, rounded up */

/* For the owner of the clock (and for tests, which make one whose time they set). */
MUST_CHECK int clock_new(struct clock **out);
void clock_free(struct clock *c);
void clock_set_manual(struct clock *c, u64 now_ns); /* from now on time is what the test says */
void clock_set_wall(struct clock *c, u64 wall_ns);  /* what clock_wall_ns() gives now, and goes on from */
void clock_go_on(struct clock *c); /* after clock_set_manual(): with the host again, from that time on */
/* Stops guest time and the TSC, while somebody looks at the machine. Nothing happens on a clock that is set by hand. */
void clock_stand(struct clock *c);
/* They go on from there. Returns by how much clock_tsc() is ahead of what it was. */
u64 clock_walk(struct clock *c);
u64 clock_next_deadline(const struct clock *c); /* guest ns, UINT64_MAX if no timer is armed */
void clock_run_due(struct clock *c);            /* fires all timers that are due */
/* Called whenever the earliest deadline changes, so that the owner can arm the host's alarm. That it has gone off the
 * owner knows itself, and then asks clock_next_deadline(). */
void clock_on_deadline(struct clock *c, void (*fn)(void *arg, u64 deadline_ns), void *arg);

#endif
