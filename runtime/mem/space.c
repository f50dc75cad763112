/* Owns the decision which user address spaces have a window, by costs measured on this host.
 *
 * Code at CPL 3 takes longer through the soft TLB than through a window; a window costs a mapping for each run of
 * pages. Which of the two a process is better off with depends on how long it will live, which nobody knows, so it is
 * the old problem of renting or buying skis: an address space gets its window, filled with what it uses, when it has
 * lost as much without as the window will cost. That is at most twice the price of knowing.
 *
 *   - What is lost: LOSS of the CPU time at CPL 3, sampled at kicks.
 *   - What a window costs: its runs, at the present average price of one [windows_map_ns]. Later, each fault in it: the
 *     signal's price, measured once [hostsig_fault_ns], and the time that answering it takes.
 *   - A window that faults away more than it gains between two kicks is given up. - One that did not live to gain what
 *   it cost makes the monitor doubly cautious with whatever uses that CR3 next, since page
 *     directories of short-lived processes are used again and again; one that did takes half of that back. */
#define _GNU_SOURCE
#include "runtime/cpu/cpu_ops.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/rt.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/window.h"

#include <time.h>

/* bench/guest's programs, CPU time with a window against without: 0.37 to 0.91, geometric mean 0.54. Others touch
 * memory less. */
#define LOSS(soft_ns) ((soft_ns)*3 / 8)     /* of time without a window */
#define GAIN(window_ns) ((window_ns)*3 / 5) /* of time with one */
#define CAUTION_MAX 6
#define FILL_MAX 2048u        /* runs; of a larger address space only what the soft TLB has is mapped */
#define KICK_MAX_NS 20000000u /* CPU time between two kicks that is believed to have been one process's */
#define ANSWER_MAX_MAPS 8     /* answering a fault in a window takes no longer than so many mappings */
#define SITES_SHARE 100       /* one part in so many of the CPU time may go into sending sites back */
#define SITE_NS 40000u        /* what one costs beside a fault: translations */

static u64 ns_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

static unsigned us(u64 ns) { return (unsigned)(ns / 1000); }

static struct space *space_here(struct rt *rt)
{
    struct space *s = &rt->space[(rt->cpu->cr3 >> 5) * 0x9e3779b1u >> 26];
    if (s->cr3 != rt->cpu->cr3) *s = (struct space){ .cr3 = rt->cpu->cr3 };
    return s;
}
_Static_assert(SPACES == 64, "26 bits are shifted out above");

/* ---- getting and losing a window ---- */

/* The space's window is gone: was it worth it? */
static void settle(struct rt *rt, struct space *s)
{
    bool paid = GAIN(s->window_ns) >= s->cost_ns;
    TRACE(&rt->trace, window, 0, "window: cr3 %08x lost its own; it cost %u us, and served %u us\n", s->cr3,
          us(s->cost_ns), us(s->window_ns));
    if (paid && s->caution) s->caution--;
    if (!paid && s->caution < CAUTION_MAX) s->caution++;
    *s = (struct space){ .cr3 = s->cr3, .caution = s->caution };
}

static void promote(struct rt *rt, struct space *s, u32 runs, bool recent)
{
    TRACE(&rt->trace, window, 0, "window: cr3 %08x gets one after %u us without: %u runs%s, caution %u\n", s->cr3,
          us(s->soft_ns), runs, recent ? " in the soft TLB" : "", s->caution);
    u64 begin = ns_of(CLOCK_THREAD_CPUTIME_ID);
    rt->uwin = windows_make(rt->windows);
    window_fill(rt->uwin, recent);
    *s = (struct space){
        .cr3 = s->cr3, .caution = s->caution, .windowed = true, .cost_ns = ns_of(CLOCK_THREAD_CPUTIME_ID) - begin
    };
    rt->cpu->ctr.window_made++;
}

static void demote(struct rt *rt, struct space *s)
{
    TRACE(&rt->trace, window, 0, "window: cr3 %08x faults for %u us between two kicks\n", s->cr3, us(s->faults_ns));
    window_drop(rt->uwin);
    rt->uwin = NULL;
    settle(rt, s);
    if (s->caution < CAUTION_MAX) s->caution++;
    rt->cpu->ctr.window_given_up++;
}

/* Another kick has found it without. Looking at a working set costs something itself, so it is done when the loss may
 * be enough. */
static void consider(struct rt *rt, struct space *s)
{
    if (LOSS(s->soft_ns) < s->look_at_ns) return;
    u32 runs = windows_runs(rt->windows, false);
    bool recent = runs > FILL_MAX;
    if (recent) runs = windows_runs(rt->windows, true);
    s->look_at_ns = ((u64)(runs + 1) * windows_map_ns(rt->windows)) << s->caution;
    if (LOSS(s->soft_ns) >= s->look_at_ns) promote(rt, s, runs, recent);
}

/* ---- what happens to it ---- */

static void space_flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct rt *rt = arg;
    (void)la;
    if (kind == TLB_FLUSH_PAGE) return;
    rt->uwin = windows_here(rt->windows);
    if (!rt->uwin && rt->cfg.eager_windows && c->cr0 & CR0_PG) rt->uwin = windows_make(rt->windows);
    struct space *s = space_here(rt);
    if (s->windowed && !rt->uwin) settle(rt, s);
}

void space_listen(struct rt *rt)
{
    rt->space_listener = (struct coherence_listener){ .rank = COHERENCE_ASPACE, .arg = rt, .flushed = space_flushed };
    coherence_listen(bus_coherence(rt->bus), &rt->space_listener);
}

u64 space_begins(void) { return ns_of(CLOCK_MONOTONIC); }

static void charge(struct rt *rt, u64 begin, u64 more_ns)
{
    struct space *s = space_here(rt);
    u64 ns = ns_of(CLOCK_MONOTONIC) - begin, most = ANSWER_MAX_MAPS * windows_map_ns(rt->windows);
    if (ns > most) ns = most; /* the host has run something else meanwhile */
    ns += more_ns;
    s->faults_ns += ns;
    s->cost_ns += ns;
}

void space_fault_ends(struct rt *rt, u64 begin) { charge(rt, begin, hostsig_fault_ns()); }
void space_map_ends(struct rt *rt, u64 begin) { charge(rt, begin, 0); }

static void send_sites_back(struct rt *rt, u64 cpu_ns)
{
    const u64 each = hostsig_fault_ns() + SITE_NS;
    rt->sites_ns += cpu_ns / SITES_SHARE;
    unsigned most = (unsigned)(rt->sites_ns / each);
    rt->sites_ns -= most * each;
    if (most) xl_sites_age(rt->xl, (u32)(clock_now(rt->clock) / 1000000), most);
}

void space_on_kick(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    if (!rt->windows) return;
    u64 now = ns_of(CLOCK_THREAD_CPUTIME_ID), cpu_ns = rt->kicked_cpu_ns ? now - rt->kicked_cpu_ns : 0;
    rt->kicked_cpu_ns = now;
    if (cpu_ns > KICK_MAX_NS) cpu_ns = KICK_MAX_NS;
    send_sites_back(rt, cpu_ns);
    if (!(c->cr0 & CR0_PG)) return;
    struct space *s = space_here(rt);
    if (rt->uwin) {
        if (c->cpl == 3) s->window_ns += cpu_ns;
        if (s->faults_ns > GAIN(cpu_ns) && !rt->cfg.eager_windows) demote(rt, s);
        s->faults_ns = 0;
    } else if (c->cpl == 3) {
        s->soft_ns += cpu_ns;
        consider(rt, s);
    }
}
