/* Owns guest time, the list of timers, and the host alarm that follows it.
 *
 * Guest time is CLOCK_MONOTONIC minus its value at power-on, minus a lag. The guest's TSC is the host's minus the same
 * lag, and both tick with CLOCK_MONOTONIC.
 *
 * The lag is what makes a busy host bearable. A guest that waits 50 ms by its TSC for five ticks of its timer would, on
 * a host that runs something else for so long, see 50 ms pass and one tick come; Linux then stops with a panic. So time
 * that the host took from the vCPU's thread (what passed, less what the thread ran) is not shown at once. It is given
 * back at a rate in proportion to what is owed, so that clocks run a little fast for a short while, or much faster for
 * longer: ticks keep their order and distance in guest time, and none is lost. While the guest sleeps it is given back
 * unseen.
 *
 * Or guest time is what a processor of a given speed would take for the instructions that have been done
 * (clock_set_speed). Then there is no lag: what the host takes from the thread, the guest does not see.
 *
 *   I1  The list is sorted by deadline; timers of equal deadline fire in the order they were armed.  [timer_arm]
 *   I2  told is the earliest deadline the owner knows of; it is told of every other.                 [tell_owner]
 *   I3  While clock_run_due() fires, the owner is told nothing: once at the end is enough.
 *   I4  Nothing later than horizon is shown without a look, and a look hides only what lies beyond it: so guest time
 *       and TSC never go back.                                                                       [clock_look]
 *   I5  The lag is at most LAG_MAX_NS: of a longer absence (SIGSTOP, a suspended host) the rest is a leap. */
#define _GNU_SOURCE
#include "core/clock.h"
#include "core/host_ns.h"
#include "runtime/run/alarm.h"
#include "runtime/run/hosttimer.h"

#include <errno.h>
#include <x86intrin.h>

#define NS_PER_S 1000000000ull
#define NO_DEADLINE UINT64_MAX
#define NOT_KNOWN UINT64_MAX
/* A timer that re-arms itself in the past must not keep the vCPU from the guest: so many at a time. */
#define FIRE_MAX 64

#define LOOK_NS 1000000u /* what may pass unlooked at, and what a look does not call a loss */
#define LAG_MAX_NS (10 * NS_PER_S)
#define CATCH_UP_NS 128000000u /* a lag is made good at so many ns a time constant */
#define EXTRA_ONE 256u         /* unit of the rates below: guest ns beside the host's own, for each of these */
#define EXTRA_MIN 16u          /* 6 % fast */
#define EXTRA_MAX \
    (8 * EXTRA_ONE)              /* nine times as fast: more, and handlers that run for the first time take too long \
                                 */
#define BEHIND_MAX_NS 500000000u /* what a clock that goes by instructions may be behind the host's, and catch up */
#define GAUGE_MIN_NS 10000000u   /* over so long the TSC's rate is known well enough */
#define GAUGE_MAX_CYCLES 20000u  /* a reading that took longer was interrupted */

struct clock {
    struct timer *first;
    u64 base;      /* host ns (CLOCK_MONOTONIC) at guest time 0 */
    u64 wall_base; /* UTC ns at guest time 0 */
    bool manual;
    u64 manual_now; /* guest ns */
    bool stands;    /* and the TSC with it, at */
    u64 stands_tsc; /* this */
    bool firing;
    u64 told; /* guest ns */

    bool running;   /* between clock_start() and clock_stop() */
    u64 mark;       /* host ns of the last look */
    u64 mark_ran;   /* CPU time of the thread then; NOT_KNOWN: nothing can be said of what follows */
    u64 horizon;    /* host ns: I4 */
    u64 lag, extra; /* at mark; and the rate at which it goes, in 1/EXTRA_ONE */
    u64 hidden;     /* ns, in all */
    u64 slept_from; /* guest ns at clock_sleep() */
    bool asleep;
    u64 tsc_shown; /* the latest TSC that the guest may have seen */
    struct gauge {
        u64 tsc, ns;
    } first_gauge, rate; /* a reading of both clocks; and what passed in both since, once it is long enough */
    struct {
        unsigned mhz; /* 0: time does not go by instructions */
        const u64 *done;
        u64 base; /* cycles at 0 of *done */
    } speed;
    void (*on_deadline)(void *arg, u64 deadline_ns);
    void *arg;
};

static u64 thread_ran_ns(void) { return host_ns(CLOCK_THREAD_CPUTIME_ID); }

/* Both clocks at the same moment: the reading that took the least time, since lags of seconds are reckoned by a rate
 * that was taken over milliseconds. False: each was interrupted. Even so the TSC is the later of the two. */
static bool gauge_read(struct gauge *g)
{
    u64 least = UINT64_MAX;
    for (unsigned tries = 0; tries < 4; tries++) {
        u64 before = __rdtsc(), ns = host_ns(CLOCK_MONOTONIC), tsc = __rdtsc();
        if (tsc - before >= least) continue;
        least = tsc - before;
        *g = (struct gauge){ tsc, ns };
    }
    return least < GAUGE_MAX_CYCLES;
}

int clock_new(struct clock **out)
{
    struct clock *c = calloc(1, sizeof *c);
    if (!c) return -ENOMEM;
    c->base = host_ns(CLOCK_MONOTONIC);
    c->wall_base = host_ns(CLOCK_REALTIME);
    c->told = NO_DEADLINE;
    c->mark = c->base;
    (void)gauge_read(&c->first_gauge);
    *out = c;
    return 0;
}

void clock_free(struct clock *c) { free(c); }

/* ---- time by instructions ---- */

u64 clock_cycles_of(const struct clock *c, u64 ns)
{
    return (u64)(((unsigned __int128)ns * c->speed.mhz + 999) / 1000);
}
static u64 speed_cycles(const struct clock *c) { return c->speed.base + *c->speed.done; }
static u64 speed_ns(const struct clock *c) { return (u64)((unsigned __int128)speed_cycles(c) * 1000 / c->speed.mhz); }
static void speed_set_ns(struct clock *c, u64 ns) { c->speed.base = clock_cycles_of(c, ns) - *c->speed.done; }

void clock_set_speed(struct clock *c, unsigned mhz, const u64 *done)
{
    u64 now = clock_now(c);
    c->speed.mhz = mhz;
    c->speed.done = done;
    speed_set_ns(c, now);
    c->lag = 0;
}

u64 clock_ahead_ns(struct clock *c)
{
    u64 now = speed_ns(c), host = host_ns(CLOCK_MONOTONIC) - c->base;
    if (host > now + BEHIND_MAX_NS) c->base += host - now - BEHIND_MAX_NS;
    return now > host ? now - host : 0;
}

/* The guest has slept until now: no longer than until it was to wake. */
static void speed_wake(struct clock *c)
{
    u64 now = speed_ns(c), host = host_ns(CLOCK_MONOTONIC) - c->base, due = clock_next_deadline(c);
    u64 woken = host < due ? host : due;
    if (woken > now) speed_set_ns(c, woken);
}

/* ---- the lag ---- */

/* At host time h, not before the last look. */
static u64 lag_at(const struct clock *c, u64 h)
{
    if (!c->lag) return 0;
    u64 given = (u64)((unsigned __int128)(h - c->mark) * c->extra / EXTRA_ONE);
    return given < c->lag ? c->lag - given : 0;
}

static void set_lag(struct clock *c, u64 h, u64 lag, u64 ran)
{
    if (lag > LAG_MAX_NS) lag = LAG_MAX_NS;
    u64 extra = lag * EXTRA_ONE / CATCH_UP_NS;
    c->mark = h;
    c->horizon = h + LOOK_NS;
    c->lag = lag;
    c->extra = extra < EXTRA_MIN ? EXTRA_MIN : extra > EXTRA_MAX ? EXTRA_MAX : extra;
    c->mark_ran = ran;
}

/* The TSC's rate, for as long as the lag is reckoned by it: once it has been used it stays until there is no lag. */
static void gauge_rate(struct clock *c)
{
    struct gauge now;
    if (c->lag || !gauge_read(&now) || now.ns - c->first_gauge.ns < GAUGE_MIN_NS) return;
    c->rate = (struct gauge){ now.tsc - c->first_gauge.tsc, now.ns - c->first_gauge.ns };
}

static u64 ns_to_tsc(const struct clock *c, u64 ns) { return (u64)((unsigned __int128)ns * c->rate.tsc / c->rate.ns); }

/* The latest that can have been shown is the horizon (I4). It is reckoned back from now: the rate is not exact, and
 * from the clock's beginning its error would be that of all time since. */
static void note_shown(struct clock *c)
{
    struct gauge now = { 0, 0 };
    (void)gauge_read(&now);
    u64 since = now.ns > c->horizon ? now.ns - c->horizon : 0;
    u64 shown = now.tsc - ns_to_tsc(c, since) - ns_to_tsc(c, lag_at(c, c->horizon));
    if (shown > c->tsc_shown) c->tsc_shown = shown;
}

/* The thread's CPU time is a call of the host. So it is read once, and not at all before the horizon, up to where
 * nothing is hidden whatever has been taken. */
void clock_look(struct clock *c)
{
    if (!c->running || c->speed.mhz) return;
    const bool known = c->mark_ran != NOT_KNOWN;
    if (!c->lag && known && c->rate.ns && host_ns(CLOCK_MONOTONIC) < c->horizon) return;
    if (!c->lag) gauge_rate(c);
    const u64 ran_now = thread_ran_ns(), ran = known ? ran_now - c->mark_ran : NOT_KNOWN;
    u64 h = host_ns(CLOCK_MONOTONIC), passed = h - c->mark, loss = passed > ran ? passed - ran : 0, seen = h;
    if (loss > LOOK_NS && h > c->horizon && c->rate.ns) {
        u64 hide = h - c->horizon < loss ? h - c->horizon : loss;
        note_shown(c);
        c->hidden += hide;
        seen -= hide;
    }
    set_lag(c, h, lag_at(c, seen) + (h - seen), ran_now);
    if (c->lag && c->on_deadline && !c->firing) c->on_deadline(c->arg, clock_next_deadline(c)); /* another rate now */
}

void clock_start(struct clock *c)
{
    c->running = !c->manual;
    c->asleep = false;
    if (c->speed.mhz) {
        if (c->running) speed_wake(c);
        return;
    }
    const u64 h = host_ns(CLOCK_MONOTONIC);
    set_lag(c, h, lag_at(c, h), thread_ran_ns());
}

void clock_stop(struct clock *c) { c->running = false; }

u64 clock_lag_ns(const struct clock *c) { return c->lag; }
u64 clock_hidden_ns(const struct clock *c) { return c->hidden; }

void clock_sleep(struct clock *c)
{
    if (!c->running || c->speed.mhz) return;
    clock_look(c);
    c->slept_from = clock_now(c);
    c->asleep = true;
    if (c->lag && c->on_deadline) c->on_deadline(c->arg, clock_next_deadline(c)); /* nearer, asleep */
}

void clock_wake(struct clock *c)
{
    if (!c->running) return;
    if (c->speed.mhz) {
        speed_wake(c);
        return;
    }
    u64 h = host_ns(CLOCK_MONOTONIC), full = h - c->base, due = clock_next_deadline(c), now = full;
    if (due < c->slept_from) due = c->slept_from;
    if (full > due && full - due > LOOK_NS && c->rate.ns) {
        now = due;
        if (full - due > c->lag) c->hidden += full - due - c->lag;
    }
    c->asleep = false;
    set_lag(c, h, full - now, thread_ran_ns());
}

void clock_expose(struct clock *c)
{
    if (c->running && c->lag) set_lag(c, host_ns(CLOCK_MONOTONIC), 0, thread_ran_ns());
}

void clock_exposed(struct clock *c)
{
    if (!c->running) return;
    c->mark = host_ns(CLOCK_MONOTONIC);
    c->horizon = c->mark + LOOK_NS;
    c->mark_ran = NOT_KNOWN;
}

u64 clock_tsc(struct clock *c, u64 *until)
{
    *until = 0;
    if (c->manual) return c->stands ? c->stands_tsc : __rdtsc();
    if (c->speed.mhz) {
        u64 cycles = speed_cycles(c);
        return c->tsc_shown = cycles > c->tsc_shown ? cycles : c->tsc_shown + 1;
    }
    /* The TSC first: if the host takes the processor in between, h is the later one, and it is h that is held against
     * the horizon. */
    u64 tsc = __rdtsc(), h = host_ns(CLOCK_MONOTONIC);
    while (c->running && h >= c->horizon) { /* again, if the host has taken the processor since the look */
        clock_look(c);
        tsc = __rdtsc();
        h = host_ns(CLOCK_MONOTONIC);
    }
    u64 lag = lag_at(c, h);
    if (!lag && !c->running) return tsc;
    if (!lag && c->rate.ns && tsc >= c->tsc_shown && h < c->horizon) {
        *until = tsc + ns_to_tsc(c, c->horizon - h);
        return tsc;
    }
    if (lag) tsc -= ns_to_tsc(c, lag);
    if (tsc <= c->tsc_shown) tsc = c->tsc_shown + 1; /* no two readings are alike: guests divide by what passed */
    return c->tsc_shown = tsc;
}

/* ---- reading it ---- */

u64 clock_now(const struct clock *clk)
{
    if (clk->manual) return clk->manual_now;
    if (clk->speed.mhz) return speed_ns(clk);
    struct clock *c = (struct clock *)clk; /* reading it may mean a look */
    u64 h = host_ns(CLOCK_MONOTONIC);
    if (unlikely(h >= c->horizon) && c->running && !c->asleep) {
        clock_look(c);
        h = c->mark; /* not later: the host may have taken the processor again since, which only a look can tell */
    }
    return h - c->base - lag_at(c, h);
}

void clock_stall(const struct clock *c, u64 ns)
{
    u64 begin = clock_now(c);
    if (c->speed.mhz && !c->manual) speed_set_ns((struct clock *)c, begin + ns);
    else
        while (!c->manual && clock_now(c) - begin < ns) __builtin_ia32_pause();
}

u64 clock_wall_ns(const struct clock *c) { return c->wall_base + clock_now(c); }
u64 clock_next_deadline(const struct clock *c) { return c->first ? c->first->deadline : NO_DEADLINE; }

void clock_set_manual(struct clock *c, u64 now_ns)
{
    c->manual = true;
    c->manual_now = now_ns;
}

void clock_set_wall(struct clock *c, u64 wall_ns) { c->wall_base = wall_ns - clock_now(c); }

static void tell_owner(struct clock *c)
{
    u64 next = clock_next_deadline(c);
    if (c->firing || next == c->told) return;
    c->told = next;
    if (c->on_deadline) c->on_deadline(c->arg, next);
}

/* The wall clock is the host's again as well: one that was stopped for long has jumped. */
void clock_go_on(struct clock *c)
{
    c->manual = false;
    u64 h = host_ns(CLOCK_MONOTONIC);
    c->base = h - c->manual_now;
    set_lag(c, h, 0, thread_ran_ns()); /* what passed meanwhile is nobody's loss */
    if (c->speed.mhz) speed_set_ns(c, c->manual_now);
    c->wall_base = host_ns(CLOCK_REALTIME) - c->manual_now;
    c->told = NO_DEADLINE;
    tell_owner(c);
}

void clock_stand(struct clock *c)
{
    u64 until;
    if (c->manual) return; /* somebody has the time in hand already */
    u64 now = clock_now(c);
    c->stands_tsc = clock_tsc(c, &until);
    c->stands = true;
    clock_set_manual(c, now);
}

u64 clock_walk(struct clock *c)
{
    u64 until;
    if (!c->stands) return 0;
    c->stands = false;
    clock_go_on(c);
    return clock_tsc(c, &until) - c->stands_tsc;
}

void clock_on_deadline(struct clock *c, void (*fn)(void *, u64), void *arg)
{
    c->on_deadline = fn;
    c->arg = arg;
    c->told = NO_DEADLINE; /* what a new owner may take for granted */
    tell_owner(c);
}

/* ---- timers ---- */

void timer_init(struct timer *t, struct clock *c, void (*fn)(void *), void *arg)
{
    *t = (struct timer){ .clk = c, .fn = fn, .arg = arg };
}

static void unlink_timer(struct timer *t)
{
    if (!t->armed) return;
    struct timer **p = &t->clk->first;
    while (*p != t) p = &(*p)->next;
    *p = t->next;
    t->next = NULL;
    t->armed = false;
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
    unlink_timer(t);
    struct timer **p = &t->clk->first;
    while (*p && (*p)->deadline <= deadline_ns) p = &(*p)->next;
    t->deadline = deadline_ns;
    t->armed = true;
    t->next = *p;
    *p = t;
    tell_owner(t->clk);
}

void timer_cancel(struct timer *t)
{
    if (!t->armed) return;
    unlink_timer(t);
    tell_owner(t->clk);
}

void clock_run_due(struct clock *c)
{
    if (c->firing) return;
    c->firing = true;
    u64 now = clock_now(c);
    for (unsigned n = 0; n < FIRE_MAX && c->first && c->first->deadline <= now; n++) {
        struct timer *t = c->first;
        unlink_timer(t);
        t->fn(t->arg);
    }
    c->firing = false;
    tell_owner(c);
}

/* ---- the host's alarm ---- */

/* Two timers: while a deadline is near, as of a card that delays its interrupts, the other stays at what comes behind
 * it, for to move a timer may take as long as to handle the signal. */
struct alarm {
    struct hosttimer *timer[2];
    u64 due[2]; /* host ns; in the past: the host's timer is not armed */
};

int alarm_new(struct alarm **out, int signo, pid_t tid)
{
    struct alarm *a = calloc(1, sizeof *a);
    if (!a) return -ENOMEM;
    int err = hosttimer_new(&a->timer[0], signo, tid);
    if (!err) err = hosttimer_new(&a->timer[1], signo, tid);
    if (err) {
        alarm_free(a);
        return err;
    }
    *out = a;
    return 0;
}

void alarm_free(struct alarm *a)
{
    if (!a) return;
    hosttimer_free(a->timer[0]);
    hosttimer_free(a->timer[1]);
    free(a);
}

/* The host time at which guest time will be ns, if nothing is taken from us until then. */
static u64 host_time_of(const struct clock *c, u64 ns)
{
    u64 host = c->base + ns, at_mark = c->mark - c->base - c->lag;
    if (!c->lag || c->asleep || ns < at_mark) return host;
    u64 all_given = (u64)((unsigned __int128)c->lag * EXTRA_ONE / c->extra); /* host ns from mark on */
    u64 fast = (u64)((unsigned __int128)(ns - at_mark) * EXTRA_ONE / (EXTRA_ONE + c->extra));
    return fast < all_given ? c->mark + fast : host;
}

void alarm_set(struct alarm *a, u64 guest_deadline_ns, const struct clock *clk)
{
    if (clk->manual || guest_deadline_ns > (u64)INT32_MAX * NS_PER_S)
        return; /* never, or beyond what the host's timer holds */
    u64 host = host_time_of(clk, guest_deadline_ns);
    if (host / NS_PER_S > INT32_MAX) return;
    const u64 now = host_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < 2; i++)
        if (a->due[i] <= host && a->due[i] > now) return;
    bool second = a->due[1] <= now;                              /* it is not armed, or */
    if (a->due[0] > now && a->due[1] > a->due[0]) second = true; /* both are, and it is the later */
    hosttimer_set(a->timer[second], host ? host : 1);            /* 0 would disarm */
    a->due[second] = host;
}

void alarm_stop(struct alarm *a)
{
    const u64 now = host_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < 2; i++) {
        if (a->due[i] <= now) continue;
        hosttimer_set(a->timer[i], 0);
        a->due[i] = 0;
    }
}
