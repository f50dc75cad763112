/* Owns the measuring of what user code costs and gains, at kicks and at faults in windows, and tells the address
 * spaces' books (aspace.c).
 *
 *   - CPU time is this thread's, sampled at kicks: all that has passed since the last goes to who is found running.
 *   - A fault in a window costs the signal's price, measured once [hostsig_fault_ns], and the time that answering
 *     takes.
 *   - A program is known by the bytes of its code: the page that a kick finds it on. */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "runtime/mem/mmu.h"
#include "runtime/direct/direct.h"
#include "runtime/mem/aspace.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/window.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/rt.h"

#include <xxhash.h>

#define ANSWER_MAX_MAPS 8 /* answering a fault in a window takes no longer than so many mappings */
#define SITES_SHARE 100   /* one part in so many of the CPU time may go into sending sites back */
#define SITE_NS 40000u    /* what one costs beside a fault: translations */

static void account_flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct rt *rt = arg;
    (void)la;
    if (kind != TLB_FLUSH_PAGE) aspaces_switch(rt->aspaces, c->cr3);
}

void account_listen(struct rt *rt)
{
    rt->account.listener =
        (struct coherence_listener){ .rank = COHERENCE_ASPACE, .arg = rt, .flushed = account_flushed };
    coherence_listen(bus_coherence(rt->bus), &rt->account.listener);
}

/* ---- faults in a user window ---- */

u64 account_begin(void) { return host_ns(CLOCK_MONOTONIC); }

static void charge(struct rt *rt, u64 begin, u64 more_ns)
{
    u64 ns = host_ns(CLOCK_MONOTONIC) - begin, most = ANSWER_MAX_MAPS * windows_map_ns(rt->windows);
    if (ns > most) ns = most; /* the host has run something else meanwhile */
    aspaces_cost(rt->aspaces, ASPACE_WINDOW, ns + more_ns);
}

void account_fault_end(struct rt *rt, u64 begin) { charge(rt, begin, hostsig_fault_ns()); }
void account_map_end(struct rt *rt, u64 begin) { charge(rt, begin, 0); }

/* ---- kicks ---- */

static void send_sites_back(struct rt *rt, u64 cpu_ns)
{
    const u64 each = hostsig_fault_ns() + SITE_NS;
    rt->account.sites_ns += cpu_ns / SITES_SHARE;
    unsigned most = (unsigned)(rt->account.sites_ns / each);
    rt->account.sites_ns -= most * each;
    if (most) xl_sites_age(rt->xl, (u32)(clock_now(rt->clock) / 1000000), most);
}

/* The identity of the code at CS:EIP: its page's bytes. 0: it is not in RAM. */
static u64 text_here(const struct rt *rt)
{
    struct walk w;
    laddr la = rt->cpu->seg[S_CS].base + rt->cpu->eip;
    const u8 *host = mmu_look(rt->cpu, la & PAGE_MASK, &w) ? bus_ram_ptr(rt->bus, w.pa) : NULL;
    return host ? XXH3_64bits(host, PAGE_SIZE) : 0;
}

void account_kick(struct rt *rt)
{
    if (!rt->windows) return;
    u64 now = host_ns(CLOCK_THREAD_CPUTIME_ID), cpu_ns = rt->account.kicked_ns ? now - rt->account.kicked_ns : 0;
    rt->account.kicked_ns = now;
    send_sites_back(rt, cpu_ns);
    if (!(rt->cpu->cr0 & CR0_PG)) return;
    if (rt->direct) direct_kick(rt->direct);
    bool user = rt->cpu->cpl == 3;
    aspaces_kick(rt->aspaces, cpu_ns, user, user ? text_here(rt) : 0);
}
