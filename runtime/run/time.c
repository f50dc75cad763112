/* Owns guest time, the list of timers, and the host alarm that follows it.
 *
 * Guest time is CLOCK_MONOTONIC minus its value at power-on. The guest's TSC is the host's, and both tick with
 * CLOCK_MONOTONIC, so nothing is calibrated here.
 *
 *   I1  The list is sorted by deadline; timers of equal deadline fire in the order they were armed.  [timer_arm]
 *   I2  told is the earliest deadline the owner knows of; it is told of every other.                 [tell_owner]
 *   I3  While clock_run_due() fires, the owner is told nothing: once at the end is enough. */
#define _GNU_SOURCE
#include "core/clock.h"
#include "core/host_ns.h"
#include "runtime/run/alarm.h"

#include <errno.h>
#include <signal.h>

#define NS_PER_S 1000000000ull
#define NO_DEADLINE UINT64_MAX
/* A timer that re-arms itself in the past must not keep the vCPU from the guest: so many at a time. */
#define FIRE_MAX 64

struct clock {
    struct timer *first;
    u64 base;      /* host ns (CLOCK_MONOTONIC) at guest time 0 */
    u64 wall_base; /* UTC ns at guest time 0 */
    bool manual;
    u64 manual_now; /* guest ns */
    bool firing;
    u64 told; /* guest ns */
    void (*on_deadline)(void *arg, u64 deadline_ns);
    void *arg;
};

int clock_new(struct clock **out)
{
    struct clock *c = calloc(1, sizeof *c);
    if (!c) return -ENOMEM;
    c->base = host_ns(CLOCK_MONOTONIC);
    c->wall_base = host_ns(CLOCK_REALTIME);
    c->told = NO_DEADLINE;
    *out = c;
    return 0;
}

void clock_free(struct clock *c) { free(c); }

u64 clock_now(const struct clock *c) { return c->manual ? c->manual_now : host_ns(CLOCK_MONOTONIC) - c->base; }
void clock_stall(const struct clock *c, u64 ns)
{
    u64 begin = clock_now(c);
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
    c->base = host_ns(CLOCK_MONOTONIC) - c->manual_now;
    c->wall_base = host_ns(CLOCK_REALTIME) - c->manual_now;
    c->told = NO_DEADLINE;
    tell_owner(c);
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

struct alarm {
    timer_t timer;
    u64 due; /* host ns; in the past: the host's timer is not armed */
};

int alarm_new(struct alarm **out, int signo, pid_t tid)
{
    struct alarm *a = calloc(1, sizeof *a);
    if (!a) return -ENOMEM;
    struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signo };
    ev._sigev_un._tid = tid;
    if (timer_create(CLOCK_MONOTONIC, &ev, &a->timer) < 0) {
        int err = -errno;
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void alarm_free(struct alarm *a)
{
    if (!a) return;
    timer_delete(a->timer);
    free(a);
}

void alarm_set(struct alarm *a, u64 guest_deadline_ns, const struct clock *clk)
{
    u64 host = clk->base + guest_deadline_ns;
    if (clk->manual || host < clk->base || host / NS_PER_S > INT32_MAX)
        return; /* never, or beyond what the host's timer holds */
    if (a->due <= host && a->due > host_ns(CLOCK_MONOTONIC)) return;
    struct itimerspec it = { .it_value = { (time_t)(host / NS_PER_S), (long)(host % NS_PER_S) } };
    if (!host) it.it_value.tv_nsec = 1; /* 0 would disarm */
    timer_settime(a->timer, TIMER_ABSTIME, &it, NULL);
    a->due = host;
}

void alarm_stop(struct alarm *a)
{
    static const struct itimerspec never;
    if (a->due <= host_ns(CLOCK_MONOTONIC)) return;
    timer_settime(a->timer, 0, &never, NULL);
    a->due = 0;
}
