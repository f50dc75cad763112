/* Owns direct execution as the guest sees it: admission, mapping on demand, promotion and demotion, and the way from a
 * stop of the process to the guest's own exception.
 *
 *   I1  Code runs directly only with IF=1, IOPL=0, TF=0, flat CS and SS at CPL 3, CR0.TS=EM=0, and a TSC that is the
 *       host's (clock_expose()): then what it can see of the processor without a trap is what the guest would show
 *       it.                     [admissible]
 *   I2  A page is executable in a process only with PG_DIRECT: scanned, and write-tracked by PG_CODE. If it has a
 *       patched copy, that is there instead, to be executed and not to be read.   [page_grant, be_map, window.c]
 *   I3  A mapping is there only while the guest's page tables say so, as of the last TLB flush.       [window.c]
 *   I4  The guest's x87/SSE state is in one place: cpu->fx, or with cpu->fpu_away the process fx_in.    [fpu_enter,
 *       fpu_home]
 *   I5  An instruction that stopped the process is interpreted before the process runs again, or its page has become
 *       executable: so every stop makes progress.                                                       [answer_fault]
 *
 * Whether an address space is worth a process is aspace.c's to decide; what it costs is measured here, on this host. */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "runtime/direct/direct.h"
#include "runtime/direct/copies.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/seg.h"
#include "runtime/mem/mmu.h"
#include "runtime/direct/dx_birth.h"
#include "runtime/direct/dx_process.h"
#include "runtime/run/hostsig.h"
#include "runtime/mem/aspace.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/watch.h"
#include "runtime/direct/scan_page.h"
#include "runtime/mem/window.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#define GAIN_SHARE(ns) ((ns)*3 / 16) /* what translated code would have taken longer, in a window: see aspace.c */
#define AROUND 16   /* pages among which a fault maps what the guest has used: a mapping costs a fraction of a stop */
#define UNFIT_MAX 8 /* stops at unfit pages in a row after which the translator takes over for */
#define UNFIT_REST \
    8 /* times as long as they took at least, with --direct always, too; twice as long each time, up to */
#define UNFIT_RESTS 5 /* so many times, while no run in between has paid */
#define FILL_MAX 4096 /* runs; of a larger address space only what the soft TLB has is mapped at once */
#define STARTS_MAX 1024
#define STOP_NS 20000 /* a guess at a stop, until a process has been made */
#define THRASH_MAX 4  /* writes to a page's code that make it unfit */
#define FAILURES_MAX \
    8 /* to make a process: the host may be short of something, or somebody has killed one at its birth */

struct slot {
    struct direct *d;
    struct dx *dx;
    struct window *w;
    u32 cr3;
    u32 fx_version; /* of cpu->fx, when the process's state was the same */
    bool fx_known;
    u16 cs, ds;    /* selectors, when it last ran */
    laddr pending; /* a guest page fault was raised for it: mapped as soon as it is there */
    bool has_pending;
    unsigned unfit; /* stops in a row because of pages that may not run here, or of patches, */
    unsigned rests; /* and rests in a row because of these */
    u64 rest_until; /* not 0: translated until then, ns */
};

struct direct {
    struct rt *rt;
    struct coherence_listener listener;
    enum rt_direct mode;
    bool tsc_faults;        /* the guest's time-stamp counter was not the host's when they were made */
    const char *off;        /* why the host cannot; NULL: it can, or was not asked yet */
    unsigned failures;      /* to make a process, in a row */
    bool resting;           /* one was lost: none is made until the next kick */
    struct dx_maker *maker; /* of its processes; NULL: the bound thread itself */
    struct slot slot[WINDOWS_DIRECT];
    struct slot *here; /* of the present address space, or NULL */
    struct slot *fx_in;
    u32 fx_lost[8]; /* CR3 of programs whose x87/SSE state died with their process: each is owed a #GP */
    unsigned nfx_lost;
    u32 first_page; /* vm.mmap_min_addr */
    struct scan_rules rules;
    struct copies *copies;                          /* of pages; NULL: none are made */
    u8 thrash[4096];                                /* by physical page, hashed: writes to its code */
    u64 create_ns, map_ns, sweep_ns, round_trip_ns; /* measured prices */
    u64 swept_ns;                                   /* what sweeps have cost since the last run */
    u64 inner, pf;                                  /* counters, when mech_stops() was called last */
    u64 decay_at_ns;
};

/* ---- admission ---- */

static bool seg_plain(const struct cpu *c, enum segreg s, u32 flat_bit)
{
    if (c->seg[s].attr & SEG_UNUSABLE) return true;
    return c->mode & flat_bit && !c->seg_complex[s];
}

/* What a descriptor of the host's can say: 32-bit data, expanding upwards. */
static bool seg_describable(const struct seg *s)
{
    if (s->attr & SEG_UNUSABLE) return true;
    if ((s->attr & (SEG_P | SEG_S | SEG_CODE | SEG_E | SEG_D)) != (SEG_P | SEG_S | SEG_D)) return false;
    return s->limit <= 0xfffff || (s->limit & 0xfff) == 0xfff;
}

static bool admissible(const struct direct *d)
{
    const struct cpu *c = d->rt->cpu;
    const u32 need = MK_PE | MK_CS32 | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_PG | 3 /* CPL */;
    if ((c->mode & (need | MK_VM | MK_SLOW)) != need || !c->iflag || c->intr_shadow || c->seg_complex[S_SS])
        return false;
    if (c->eflags_sys & (F_IOPL | F_TF | F_NT | F_VM | F_AC | F_VIF | F_VIP)) return false;
    if ((c->cr0 & (CR0_TS | CR0_EM | CR0_NE)) != CR0_NE || (c->cr4 & (CR4_TSD | CR4_OSFXSR)) != CR4_OSFXSR)
        return false;
    if (c->tsc_offset && !d->tsc_faults) return false; /* it would read the host's */
    return seg_plain(c, S_DS, MK_DSFLAT) && seg_plain(c, S_ES, MK_ESFLAT) && seg_describable(&c->seg[S_FS])
           && seg_describable(&c->seg[S_GS]);
}

/* ---- pages of code ---- */

static u8 *thrash_of(struct direct *d, paddr page) { return &d->thrash[(page >> PAGE_SHIFT) % sizeof d->thrash]; }

/* With what makes it so. */
static void trace_page(struct direct *d, laddr la, const struct code_page_bytes *page, enum scan_verdict verdict,
                       u16 at)
{
    static const char *const is[] = { [SCAN_FIT] = "fit", [SCAN_PATCHED] = "patched", [SCAN_UNFIT] = "unfit" };
    char text[96];
    if (verdict == SCAN_FIT) {
        TRACE(&d->rt->trace, direct, la, "direct: page %08x fit\n", la);
        return;
    }
    insn_text(d->rt->dec, page->bytes + at, PAGE_SIZE - at, la + at, true, text, sizeof text);
    TRACE(&d->rt->trace, direct, la, "direct: page %08x %s at +%03x: %s\n", la, is[verdict], at, text);
}

static u64 page_of_file(const struct direct *d, paddr pa) { return (u64)bus_ram_offset(d->rt->bus, pa) >> PAGE_SHIFT; }

/* Scans the page at la, which is physical page pa at host; at: where control is or will be, there or elsewhere. Where
 * no instruction of the page is known to begin, nobody knows what it has: its first bytes may be the end of an
 * instruction of the page before. Returns flags, 0 if it is not known. */
static u8 page_scan(struct direct *d, laddr la, paddr pa, const u8 *host, laddr at)
{
    struct cpu *c = d->rt->cpu;
    u16 starts[STARTS_MAX];
    struct scan_result found;
    struct code_page_bytes bytes = { .bytes = host, .starts = starts };
    struct walk next; /* looked at without a trace: the guest has not fetched from there */
    if (mmu_look(c, la + PAGE_SIZE, &next)) bytes.next = bus_ram_ptr(c->bus, next.pa);
    if (at >> PAGE_SHIFT == la >> PAGE_SHIFT) starts[bytes.nstarts++] = (u16)(at & ~PAGE_MASK);
    bytes.nstarts += xl_page_starts(d->rt->xl, pa, host, starts + bytes.nstarts, STARTS_MAX - bytes.nstarts);
    if (!bytes.nstarts) return 0;
    u64 begin = host_ns(CLOCK_THREAD_CPUTIME_ID);
    enum scan_verdict verdict = scan_page(d->rt->dec, &d->rules, &bytes, &found);
    if (verdict == SCAN_PATCHED && !copies_make(d->copies, page_of_file(d, pa), host, &found)) verdict = SCAN_UNFIT;
    const u64 took = host_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    d->sweep_ns = (d->sweep_ns * 7 + took) / 8;
    d->swept_ns += took;
    c->ctr.direct_scans++;
    c->ctr.direct_unfit += verdict == SCAN_UNFIT;
    c->ctr.direct_patched += verdict == SCAN_PATCHED;
    if (unlikely(d->rt->trace.mask & 1u << TR_direct)) trace_page(d, la, &bytes, verdict, found.where);
    if (verdict != SCAN_PATCHED && d->copies) copies_drop(d->copies, page_of_file(d, pa));
    return verdict == SCAN_UNFIT ? PG_INDIRECT : PG_DIRECT;
}

/* Maps la as the guest's tables have it now, and its neighbours that the guest has used. */
static void map_around(struct window *w, laddr la)
{
    (void)window_map(w, la, false);
    window_map_group(w, la, AROUND);
}

/* Makes the page of la executable in the present process, if it may be. la is not fetched from yet: no fault is raised.
 * at: as for page_scan(). */
static bool page_grant(struct direct *d, laddr la, laddr at)
{
    struct cpu *c = d->rt->cpu;
    struct window *w = d->here->w;
    paddr pa;
    const u8 *host;
    u32 error;
    if (window_executes(w, la)) return true;
    la &= PAGE_MASK;
    if (la >> PAGE_SHIFT < d->first_page || !tlb_exec(c, la, true, &pa, &host, &error) || !host) return false;
    u8 *flags = bus_page_flags(c->bus, pa);
    if (!flags || *flags & (PG_INDIRECT | PG_MIXED) || *thrash_of(d, pa) >= THRASH_MAX) return false;
    if (!(*flags & PG_DIRECT)) {
        bus_mark_code(c->bus, pa);
        *flags |= page_scan(d, la, pa, host, at);
        if (!(*flags & PG_DIRECT)) return false;
    }
    return window_map(w, la, false) && window_executes(w, la);
}

/* windows_written() has taken the page's right to be executed. */
static bool direct_written(void *arg, paddr pa, unsigned len, u8 flags)
{
    struct direct *d = arg;
    (void)len;
    u8 *thrash = thrash_of(d, pa);
    if (d->copies && flags & PG_DIRECT) copies_drop(d->copies, page_of_file(d, pa));
    if (flags & PG_DIRECT && *thrash < UINT8_MAX) ++*thrash;
    return false;
}

static bool executes_here(void *arg, vaddr eip) { return window_executes(((struct direct *)arg)->here->w, eip); }

/* Translated code hands back as soon as control comes to a page that may run directly: no target there is in its jump
 * cache. While the way rested, some have come into it. The others stay, for to fill it again costs more than a run. */
static void hand_back(struct direct *d)
{
    if (d->here) xl_jump_drop_some(d->rt->xl, XL_JC_USER, executes_here, d);
}

static void mech_resume(void *arg) { hand_back(arg); }

static bool rests(struct direct *d, struct slot *s)
{
    if (likely(!s->rest_until)) return aspaces_rests(d->rt->aspaces, ASPACE_DIRECT);
    if (host_ns(CLOCK_MONOTONIC) < s->rest_until) return true;
    s->rest_until = 0;
    hand_back(d);
    return false;
}

static bool runs_here(struct direct *d) { return d->here && !rests(d, d->here) && admissible(d); }

bool direct_owns(struct direct *d, laddr la) { return runs_here(d) && window_executes(d->here->w, la); }

/* Whether the page of la is there, and may not run directly, whatever is mapped. */
static bool page_unfit(struct direct *d, laddr la)
{
    paddr pa;
    const u8 *host;
    u32 error;
    if (!tlb_exec(d->rt->cpu, la & PAGE_MASK, true, &pa, &host, &error) || !host) return false;
    const u8 *flags = bus_page_flags(d->rt->bus, pa);
    if (watch_kinds(d->rt->cpu, la) & WATCH_FETCHES) return true;
    return !flags || *flags & (PG_INDIRECT | PG_MIXED) || *thrash_of(d, pa) >= THRASH_MAX;
}

/* The flags of the page of la, as the guest's tables have it now; NULL: it is none of RAM. */
static u8 *flags_at(struct direct *d, laddr la, paddr *pa)
{
    struct walk w;
    *pa = 0;
    if (!mmu_look(d->rt->cpu, la, &w)) return NULL;
    *pa = w.pa;
    return bus_page_flags(d->rt->bus, w.pa);
}

static bool copy_of(struct direct *d, u64 page, u64 *copy) { return d->copies && copies_find(d->copies, page, copy); }

static bool page_patched(struct direct *d, laddr la)
{
    paddr pa;
    u64 copy;
    return window_executes(d->here->w, la) && flags_at(d, la, &pa) && copy_of(d, page_of_file(d, pa), &copy);
}

/* Two pages that call each other, one of them unfit, stop at each call; a loop around a patch stops each time. Both are
 * translated for a while. */
static void note_unfit(struct direct *d, struct slot *s)
{
    if (++s->unfit < UNFIT_MAX) return;
    s->unfit = 0;
    s->rest_until = host_ns(CLOCK_MONOTONIC) + (UNFIT_REST * UNFIT_MAX * d->round_trip_ns << s->rests);
    if (s->rests < UNFIT_RESTS) s->rests++;
    d->rt->cpu->ctr.direct_cooled++;
}

/* ---- x87 and SSE state ----
 *
 * A program whose process is killed by somebody while its x87 and SSE state is there (I4) has lost that state. It need
 * not be the one that runs when this is found out, so it is noted by its CR3, and gets #GP when it would run next. */

static bool fx_lost_is(const struct direct *d, u32 cr3)
{
    for (unsigned i = 0; i < d->nfx_lost; i++)
        if (d->fx_lost[i] == cr3) return true;
    return false;
}

static void fx_lost_add(struct direct *d, u32 cr3)
{
    if (fx_lost_is(d, cr3)) return;
    if (d->nfx_lost == ARRAY_LEN(d->fx_lost))
        d->nfx_lost--; /* the latest: those before it are as likely to be gone by themselves */
    d->fx_lost[d->nfx_lost++] = cr3;
}

static void fx_lost_remove(struct direct *d, u32 cr3)
{
    for (unsigned i = 0; i < d->nfx_lost; i++)
        if (d->fx_lost[i] == cr3) d->fx_lost[i] = d->fx_lost[--d->nfx_lost];
}

static void fpu_home(struct cpu *c)
{
    struct direct *d = c->rt->direct;
    struct slot *s = d->fx_in;
    c->fpu_away = false;
    d->fx_in = NULL;
    c->fx_version++;
    const struct fxstate in = c->fx;
    if (dx_get_fx(s->dx, &c->fx)) { /* it died */
        fx_lost_add(d, s->cr3);
        return;
    }
    if (c->fx.fip != in.fip || c->fx.fop != in.fop) c->fx.fcs = s->cs;
    if (c->fx.fdp != in.fdp) c->fx.fds = s->ds; /* or another flat one, of the same memory */
    s->fx_version = c->fx_version;
    s->fx_known = true;
}

static bool fpu_enter(struct direct *d, struct slot *s)
{
    struct cpu *c = d->rt->cpu;
    if (c->fpu_away && d->fx_in == s) return true;
    cpu_fpu_home(c);
    if (s->fx_known && s->fx_version == c->fx_version) return true;
    s->fx_version = c->fx_version;
    s->fx_known = true;
    return !dx_set_fx(s->dx, &c->fx);
}

/* ---- processes ---- */

/* Of what is executable, patched pages are each mapped by themselves. */
static int be_map(void *be, u32 page, u32 n, int prot, u64 off)
{
    const struct slot *s = be;
    u32 from = 0; /* the first page that is not mapped yet */
    u64 copy;
    for (u32 i = 0; prot & PROT_EXEC && i < n; i++) {
        if (!copy_of(s->d, (off >> PAGE_SHIFT) + i, &copy)) continue;
        if (i > from) dx_map(s->dx, page + from, i - from, prot, off + ((u64)from << PAGE_SHIFT));
        dx_map(s->dx, page + i, 1, PROT_EXEC, copy << PAGE_SHIFT);
        from = i + 1;
    }
    if (n > from) dx_map(s->dx, page + from, n - from, prot, off + ((u64)from << PAGE_SHIFT));
    return 0;
}
static int be_unmap(void *be, u32 page, u32 n)
{
    dx_unmap(((struct slot *)be)->dx, page, n);
    return 0;
}
static int be_protect(void *be, u32 page, u32 n, int prot)
{
    dx_protect(((struct slot *)be)->dx, page, n, prot);
    return 0;
}

static void slot_free(struct direct *d, struct slot *s)
{
    if (!s->dx) return;
    if (d->fx_in == s) cpu_fpu_home(d->rt->cpu);
    if (window_used(s->w)) window_drop(s->w);
    if (d->here == s) d->here = NULL;
    dx_free(s->dx);
    *s = (struct slot){ 0 };
}

/* A host that runs no 32-bit code is nothing to complain of; one that refuses something may not be meant to. */
static void switch_off(struct direct *d, int err, const char *why)
{
    d->off = why;
    if (err != -ENOTSUP) rt_warn(d->rt, "%s; user code runs translated", why);
}

static int process_new(struct direct *d, struct dx **out)
{
    u64 begin = host_ns(CLOCK_MONOTONIC);
    const char *why;
    int err = dx_new(out, d->maker, bus_ram_fd(d->rt->bus), d->tsc_faults, &why);
    if (err) {
        if (err == -EPERM || err == -ENOTSUP || ++d->failures >= FAILURES_MAX) switch_off(d, err, why);
        TRACE(&d->rt->trace, direct, 0, "direct: none on this host: %s\n", why);
        return err;
    }
    d->failures = 0;
    d->create_ns = host_ns(CLOCK_MONOTONIC) - begin;
    d->round_trip_ns = dx_round_trip_ns(*out);
    return 0;
}

/* Whether it is known of the page of la what it is. */
static bool page_swept(struct direct *d, laddr la)
{
    paddr pa;
    const u8 *flags = flags_at(d, la, &pa);
    return !flags || *flags & (PG_DIRECT | PG_INDIRECT | PG_MIXED);
}

/* How many of the pages that the jump cache knows may have to be swept. */
static u32 unswept_pages(struct direct *d)
{
    u32 unswept = 0;
    for (u32 n = 0; xl_jump_next_page(d->rt->xl, XL_JC_USER, &n); n++) unswept += !page_swept(d, n << PAGE_SHIFT);
    return unswept;
}

/* Maps what the address space is known to use, and makes executable what translated code has run lately and what has
 * been swept. The rest is swept when control comes to it: most of a program's pages have served its start. */
static void prefill(struct direct *d, struct window *w)
{
    struct rt *rt = d->rt;
    window_fill(w, windows_runs(rt->windows, false) > FILL_MAX);
    for (u32 n = 0; xl_jump_next_page(rt->xl, XL_JC_USER, &n); n++)
        if (page_swept(d, n << PAGE_SHIFT)) (void)page_grant(d, n << PAGE_SHIFT, d->rt->cpu->eip);
}

/* ---- as a way that address spaces have ---- */

static bool mech_has(void *arg) { return ((struct direct *)arg)->here; }

static bool mech_fits(void *arg)
{
    const struct direct *d = arg;
    return !d->off && !d->resting && admissible(d);
}

static u64 stop_ns(const struct direct *d) { return d->round_trip_ns ? d->round_trip_ns : STOP_NS; }

static u64 mech_price(void *arg)
{
    struct direct *d = arg;
    const struct tlb_list *l = &d->rt->cpu->tlb->list[1][0];
    u32 pages = l->n < 64 ? 64 : l->n;
    return d->create_ns + pages * d->map_ns + unswept_pages(d) * (stop_ns(d) + d->sweep_ns + d->map_ns);
}

/* Each ends a run, and with registers and cold caches costs two bare round trips; what a page fault has brought in is
 * mapped after that, alone, which is dearer than among others. */
static u64 mech_stops(void *arg)
{
    struct direct *d = arg;
    const struct counters *n = &d->rt->cpu->ctr;
    const u64 stops = n->inner - d->inner, faults = n->pf - d->pf;
    d->inner = n->inner;
    d->pf = n->pf;
    return 2 * (stops * stop_ns(d) + faults * d->map_ns);
}

static u64 mech_give(void *arg)
{
    struct direct *d = arg;
    struct rt *rt = d->rt;
    u64 begin = host_ns(CLOCK_MONOTONIC), ran = host_ns(CLOCK_THREAD_CPUTIME_ID);
    u32 cr3 = rt->cpu->cr3;
    struct dx *dx = NULL;
    struct window *w = windows_direct_make(rt->windows, cr3);
    struct slot *s = &d->slot[window_direct_index(w)];
    slot_free(d, s);
    if (process_new(d, &dx)) return 0;
    u64 made = host_ns(CLOCK_MONOTONIC), swept = d->rt->cpu->ctr.direct_scans;
    const struct window_backend be = { be_map, be_unmap, be_protect, s, d->first_page };
    *s = (struct slot){ .d = d, .dx = dx, .w = w, .cr3 = cr3 };
    window_direct_start(w, cr3, &be);
    d->here = s;
    prefill(d, w);
    hand_back(d);
    rt->cpu->ctr.direct_promoted++;
    TRACE(&rt->trace, direct, 0,
          "direct: cr3 %08x promoted; process made in %u us, %u pages swept and others mapped in %u\n", cr3,
          (u32)((made - begin) / 1000), (u32)(rt->cpu->ctr.direct_scans - swept),
          (u32)((host_ns(CLOCK_MONOTONIC) - made) / 1000));
    /* The process's own part is no more than this thread's. What has passed beyond both was the host's other work. */
    u64 passed = host_ns(CLOCK_MONOTONIC) - begin, both = 2 * (host_ns(CLOCK_THREAD_CPUTIME_ID) - ran);
    return (passed < both ? passed : both) + 1;
}

static void mech_take(void *arg)
{
    struct direct *d = arg;
    if (!d->here) return;
    TRACE(&d->rt->trace, direct, 0, "direct: cr3 %08x demoted\n", d->rt->cpu->cr3);
    slot_free(d, d->here);
    d->rt->cpu->ctr.direct_demoted++;
}

/* It is taken away out of turn, and not given back soon: whatever has happened may happen every time. */
static void demote(struct direct *d, const char *why)
{
    TRACE(&d->rt->trace, direct, 0, "direct: cr3 %08x: %s\n", d->rt->cpu->cr3, why);
    mech_take(d);
    aspaces_lost(d->rt->aspaces, ASPACE_DIRECT, true);
}

/* The process is gone: somebody killed it, or the host refused a mapping. It may do so every time, so the translator
 * gets the guest on a bit. */
static void lost(struct direct *d)
{
    d->rt->cpu->ctr.direct_lost++;
    d->resting = true;
    demote(d, "its process is lost");
}

static void direct_flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct direct *d = arg;
    if (kind == TLB_FLUSH_PAGE) {
        if (d->here) window_flush_page(d->here->w, la);
        return;
    }
    struct window *w = c->cr0 & CR0_PG ? windows_direct(d->rt->windows, c->cr3) : NULL;
    d->here = w ? &d->slot[window_direct_index(w)] : NULL;
}

/* ---- runs ---- */

/* overhead_ns: what came before the run, for its sake. cut_short: that it ended says nothing of the program. */
static void account_run(struct direct *d, u64 took_ns, u64 overhead_ns, bool cut_short)
{
    struct aspaces *as = d->rt->aspaces;
    u64 stop = took_ns < d->round_trip_ns ? took_ns : d->round_trip_ns;
    if (GAIN_SHARE(took_ns - stop) >= stop) d->here->unfit = d->here->rests = 0;
    aspaces_ran(as, ASPACE_DIRECT, GAIN_SHARE(took_ns - stop), stop + overhead_ns + d->swept_ns, cut_short);
    d->swept_ns = 0;
    if (aspaces_rests(as, ASPACE_DIRECT)) d->rt->cpu->ctr.direct_cooled++;
}

void direct_kick(struct direct *d)
{
    u64 now = host_ns(CLOCK_MONOTONIC);
    d->resting = false;
    for (unsigned i = 0; i < WINDOWS_DIRECT; i++) /* its page directory is another's now */
        if (d->slot[i].dx && !window_used(d->slot[i].w)) slot_free(d, &d->slot[i]);
    if (now - d->decay_at_ns < 1500000000) return;
    d->decay_at_ns = now;
    for (unsigned i = 0; i < sizeof d->thrash; i++) d->thrash[i] /= 2;
    if (d->copies) copies_age(d->copies);
}

bool direct_here(struct direct *d)
{
    if (unlikely(d->nfx_lost) && fx_lost_is(d, d->rt->cpu->cr3)) return true;
    if (!d->here) aspaces_want(d->rt->aspaces, ASPACE_DIRECT);
    if (!runs_here(d)) return false;
    struct cpu *c = d->rt->cpu;
    laddr eip = c->eip;
    if (window_executes(d->here->w, eip)) return true;
    if (!page_grant(d, eip, eip)) return false;
    window_map_group(d->here->w, eip, AROUND); /* pages of code that are known to be fit, above all */
    c->ctr.direct_fetches++;
    u32 known = eip >> PAGE_SHIFT; /* the first page from there on that the jump cache knows */
    if (xl_jump_next_page(d->rt->xl, XL_JC_USER, &known) && known == eip >> PAGE_SHIFT) hand_back(d);
    return true;
}

/* ---- in and out ---- */

static struct dx_seg seg_out(const struct seg *s)
{
    return (struct dx_seg){ s->sel, s->base, s->limit, s->attr & SEG_W };
}

static void regs_out(const struct cpu *c, struct dx_regs *r)
{
    memcpy(r->gpr, c->gpr, sizeof r->gpr);
    r->eip = c->eip;
    r->eflags = cpu_eflags(c);
    for (unsigned i = 0; i < S_COUNT; i++) r->null[i] = c->seg[i].attr & SEG_UNUSABLE;
    r->fs = seg_out(&c->seg[S_FS]);
    r->gs = seg_out(&c->seg[S_GS]);
}

static void regs_in(struct cpu *c, const struct dx_regs *r)
{
    const u32 sys = F_TF | F_NT | F_AC | F_ID;
    memcpy(c->gpr, r->gpr, sizeof r->gpr);
    c->eip = r->eip;
    c->aflags = r->eflags & F_ARITH;
    c->df = r->eflags & F_DF ? -1 : 1;
    u32 now = (c->eflags_sys & ~sys) | (r->eflags & sys);
    if (now == c->eflags_sys) return;
    c->eflags_sys = now;
    cpu_update_mode(c);
}

/* ---- answers to stops ---- */

static int raise(struct direct *d, enum vector v)
{
    (void)exc_raise(d->rt->cpu, v);
    return dispatch_deliver(d->rt);
}

/* Registers that were the guest's are lost: there is nothing better than to tell the guest that this program failed. */
static int fx_lost_raise(struct direct *d)
{
    fx_lost_remove(d, d->rt->cpu->cr3);
    return raise(d, V_GP);
}

static bool byte_is(struct cpu *c, laddr la, u8 want)
{
    u64 v;
    bool fault = mem_read(c, la, 1, true, &v);
    if (fault) c->exc.valid = false;
    return !fault && (u8)v == want;
}

/* Selectors that code nobody had scanned loaded from the host's tables: loaded now as the guest's. */
static int load_selectors(struct direct *d, const struct dx_regs *r)
{
    struct cpu *c = d->rt->cpu;
    for (unsigned i = 0; i < S_COUNT; i++) {
        if (!(r->changed >> i & 1)) continue;
        if (seg_load(c, (enum segreg)i, r->loaded[i])) return GUEST_FAULT;
    }
    return 0;
}

static int answer_syscall(struct direct *d)
{
    struct cpu *c = d->rt->cpu;
    if (byte_is(c, c->eip - 2, 0xcd) && byte_is(c, c->eip - 1, 0x80)) {
        c->ctr.direct_syscalls++;
        c->eip -= 2;
        return exc_soft_int(c, 0x80, c->eip + 2, true) ? dispatch_deliver(d->rt) : 0;
    }
    bool syscall = byte_is(c, c->eip - 2, 0x0f) && byte_is(c, c->eip - 1, 0x05);
    if (syscall) c->eip -= 2;
    return raise(d, syscall ? V_UD : V_GP); /* SYSENTER that no scan saw: its address is lost */
}

/* Where the instruction behind that at eip begins, which straddles into the next page; eip, if that is not there.
 * Leaves no trace in the guest's tables, for the guest may fault yet. */
static laddr insn_behind(struct direct *d, laddr eip)
{
    struct cpu *c = d->rt->cpu;
    const unsigned here = PAGE_SIZE - (eip & ~PAGE_MASK);
    u8 bytes[2 * 15];
    struct insn in;
    struct walk w;
    const u8 *first = mmu_look(c, eip & PAGE_MASK, &w) ? bus_ram_ptr(c->bus, w.pa) : NULL;
    const u8 *second = mmu_look(c, eip + here, &w) ? bus_ram_ptr(c->bus, w.pa) : NULL;
    if (!first || !second || here > 15) return eip;
    memcpy(bytes, first + PAGE_SIZE - here, here);
    memcpy(bytes + here, second, 15);
    return decode(d->rt->dec, bytes, here + 15, eip, true, d->rules.features, &in) == DECODE_OK ? in.next : eip;
}

static int answer_fault(struct direct *d, laddr la)
{
    struct cpu *c = d->rt->cpu;
    struct slot *s = d->here;
    c->ctr.direct_faults++;
    if (!window_executes(s->w, c->eip)) { /* a fetch: direct_here() decides anew */
        if (page_unfit(d, c->eip)) note_unfit(d, s);
        return 0;
    }
    u32 before = c->exc_count;
    bool straddles = !(la & ~PAGE_MASK) && la - c->eip - 1 < 14; /* its fetch faults at the first byte of the second
                                                                    page */
    laddr behind = straddles ? insn_behind(d, c->eip) : 0;       /* a jump leaves that page at once, and comes again */
    int r = dispatch_emulate(d->rt, c->eip);
    if (r || d->here != s) return r;
    s->has_pending = c->exc_count != before;
    s->pending = la;
    if (s->has_pending) return 0;
    map_around(d->here->w, la);
    if (straddles && c->cpl == 3) (void)page_grant(d, la, behind);
    return 0;
}

/* Of an INTO or INT 4 that no scan has seen, and that has trapped: the host says neither that it was #OF nor that EIP
 * is behind it. A fault of the instruction at EIP, which it looks like, has RF set (SDM vol. 3, 17.3.1.1). 0: it is
 * one. */
static unsigned overflow_length(struct cpu *c, const struct dx_regs *r, const struct dx_stop *stop)
{
    if (!stop->placeless || r->eflags & F_RF) return 0;
    if (c->aflags & F_OF && byte_is(c, c->eip - 1, 0xce)) return 1;
    return byte_is(c, c->eip - 2, 0xcd) && byte_is(c, c->eip - 1, 4) ? 2 : 0;
}

static int answer_escape(struct direct *d, const char *why)
{
    d->rt->cpu->ctr.direct_escapes++;
    demote(d, why);
    return raise(d, V_GP);
}

/* An access to a page whose copy may be executed only. Where the guest does that often, it is the translator's. */
static int answer_sealed(struct direct *d, laddr la)
{
    struct cpu *c = d->rt->cpu;
    paddr pa;
    if (!page_patched(d, la)) return answer_escape(d, "it has forbidden itself an access");
    c->ctr.direct_reads++;
    note_unfit(d, d->here);
    u8 *flags = flags_at(d, la, &pa);
    if (copies_read(d->copies, page_of_file(d, pa))) {
        windows_end_execution(d->rt->windows, pa & ~(paddr)(PAGE_SIZE - 1));
        copies_drop(d->copies, page_of_file(d, pa));
        *flags = (u8)((*flags & ~PG_DIRECT) | PG_INDIRECT);
        TRACE(&d->rt->trace, direct, la, "direct: page %08x unfit, for it is read\n", la & PAGE_MASK);
    }
    return dispatch_emulate(d->rt, c->eip);
}

/* A patch is a HLT, whose #GP the host does not tell from others. */
static int answer_other(struct direct *d, const struct dx_regs *r, const struct dx_stop *stop)
{
    struct cpu *c = d->rt->cpu;
    c->ctr.direct_others++;
    if (stop->placeless && page_patched(d, c->eip)) {
        c->ctr.direct_traps++;
        note_unfit(d, d->here);
    } else d->here->unfit = 0;
    return dispatch_emulate(d->rt, c->eip - overflow_length(c, r, stop));
}

static int answer_trap(struct direct *d, const struct dx_stop *stop)
{
    struct cpu *c = d->rt->cpu;
    if (!stop->step) {
        for (unsigned n = 1; n <= 2; n++) { /* CC or F1, or CD 03: done again by the interpreter */
            u8 op = n == 1 ? 0xcc : 0xcd;
            if (!byte_is(c, c->eip - n, op) && !(n == 1 && byte_is(c, c->eip - 1, 0xf1))) continue;
            return dispatch_emulate(d->rt, c->eip - n);
        }
    }
    (void)exc_raise_db(c, DR6_BS);
    return dispatch_deliver(d->rt);
}

static int answer(struct direct *d, const struct dx_regs *r, const struct dx_stop *stop)
{
    struct cpu *c = d->rt->cpu;
    if (stop->why == DX_DIED) {
        lost(d); /* with it the x87/SSE state, if that was there */
        return stop->ran || fx_lost_is(d, c->cr3) ? fx_lost_raise(d) : 0;
    }
    regs_in(c, r);
    if (stop->why == DX_ESCAPED) return answer_escape(d, "it left 32-bit code");
    if (stop->why == DX_SYSCALL || stop->why == DX_TRAP) d->here->unfit = 0;
    if (unlikely(r->changed) && load_selectors(d, r)) return dispatch_deliver(d->rt);
    switch (stop->why) {
    case DX_SYSCALL: return answer_syscall(d);
    case DX_FAULT: return answer_fault(d, stop->addr);
    case DX_TRAP: return answer_trap(d, stop);
    case DX_SEALED: return answer_sealed(d, stop->addr);
    case DX_OTHER: return answer_other(d, r, stop);
    default: return 0; /* DX_KICKED */
    }
}

/* Maps what was missing, and the page that the guest's own handler has brought in meanwhile. False: it is lost. */
static bool ready(struct direct *d, struct slot *s, u64 *cost_ns)
{
    if (s->has_pending) map_around(s->w, s->pending);
    s->has_pending = false;
    unsigned n = dx_waiting(s->dx);
    *cost_ns = 0;
    if (!n) return !dx_commit(s->dx);
    u64 begin = host_ns(CLOCK_MONOTONIC);
    if (dx_commit(s->dx)) return false; /* or one has failed before, and nothing waits any more */
    u64 each = (host_ns(CLOCK_MONOTONIC) - begin) / n;
    if (each > 4 * d->map_ns) each = 4 * d->map_ns; /* the host has run something else meanwhile */
    d->map_ns = (d->map_ns * 7 + each) / 8;
    d->rt->cpu->ctr.direct_maps += n;
    *cost_ns = n * each;
    return true;
}

/* Whether it stopped at a page that is executable from then on: that happens once for each. */
static bool will_execute(struct direct *d, laddr eip, const struct dx_stop *stop)
{
    return stop->why == DX_FAULT && !window_executes(d->here->w, eip) && !page_unfit(d, eip);
}

int direct_run(struct direct *d)
{
    struct cpu *c = d->rt->cpu;
    struct slot *s = d->here;
    struct dx_regs r;
    struct dx_stop stop = { .why = DX_KICKED };
    if (unlikely(d->nfx_lost) && fx_lost_is(d, c->cr3)) return fx_lost_raise(d);
    u64 map_ns;
    if (!ready(d, s, &map_ns) || !fpu_enter(d, s)) {
        lost(d); /* before it ran: nothing of the guest's is lost */
        return 0;
    }
    dx_pin(s->dx, sched_getcpu());
    regs_out(c, &r);
    r.changed = 0;
    TRACE(&d->rt->trace, direct, c->eip, "direct: enter %08x\n", c->eip);
    clock_expose(d->rt->clock); /* RDTSC is the host's there */
    u64 begin = host_ns(CLOCK_MONOTONIC), begin_tsc = __rdtsc();
    hostsig_forward(dx_tid(s->dx), dx_signo());
    if (!c->kick) dx_run(s->dx, &r, &stop); /* a kick from here on goes to it */
    hostsig_forward(0, 0);
    u64 took = host_ns(CLOCK_MONOTONIC) - begin;
    clock_exposed(d->rt->clock);
    c->ctr.direct_runs++;
    c->ctr.direct_cycles += __rdtsc() - begin_tsc;
    if (stop.ran) {
        c->fpu_away = true;
        d->fx_in = s;
        s->cs = c->seg[S_CS].sel, s->ds = c->seg[S_DS].sel;
    }
    TRACE(&d->rt->trace, direct, c->eip, "direct: left %08x why %d addr %08x after %u us; maps took %u, sweeps %u\n",
          r.eip, stop.why, stop.addr, (u32)(took / 1000), (u32)(map_ns / 1000), (u32)(d->swept_ns / 1000));
    account_run(d, took, map_ns, stop.why == DX_KICKED || will_execute(d, r.eip, &stop));
    return answer(d, &r, &stop);
}

/* ---- lifetime ---- */

/* Pages below cannot be mapped without privilege, and privilege is not to make a difference. */
static u32 lowest_page(void)
{
    u32 lowest = 65536;
    unsigned long v;
    FILE *f = fopen("/proc/sys/vm/mmap_min_addr", "re");
    if (f && fscanf(f, "%lu", &v) == 1 && v > lowest && v < UINT32_MAX) lowest = (u32)v;
    if (f) fclose(f);
    return (lowest + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

int direct_probe(int ram_fd, const char **why)
{
    struct dx *dx;
    int err = dx_new(&dx, NULL, ram_fd, false, why);
    if (!err) dx_free(dx);
    return err;
}

static void mech_offer(struct direct *d)
{
    const struct aspace_mech mech = {
        d, mech_has, mech_fits, mech_price, mech_stops, mech_give, mech_take, mech_resume
    };
    aspaces_way(d->rt->aspaces, ASPACE_DIRECT, &mech, d->mode == RT_DIRECT_ALWAYS);
}

static void processes_free(struct direct *d)
{
    aspaces_way(d->rt->aspaces, ASPACE_DIRECT, NULL, false);
    cpu_fpu_home(d->rt->cpu);
    for (unsigned i = 0; i < WINDOWS_DIRECT; i++) slot_free(d, &d->slot[i]);
}

int direct_new(struct direct **out, struct rt *rt, enum rt_direct mode)
{
    struct direct *d = calloc(1, sizeof *d);
    if (!d) return -ENOMEM;
    *d =
        (struct direct){ .rt = rt, .mode = mode, .first_page = lowest_page(), .decay_at_ns = host_ns(CLOCK_MONOTONIC) };
    d->rules = scan_rules_of_host(rt->cpu->model->features);
    d->tsc_faults = rt->cpu->tsc_offset != 0;
    d->create_ns = 2000000; /* a guess, until the first has been made */
    d->map_ns = 8000;       /* likewise */
    d->sweep_ns = 80000;    /* likewise */
    if (d->rules.execute_only && copies_new(&d->copies, rt->bus)) d->rules.execute_only = false;
    rt->cpu->fpu_fetch = fpu_home;
    d->listener = (struct coherence_listener){
        .rank = COHERENCE_DIRECT, .arg = d, .flushed = direct_flushed, .written = direct_written
    };
    coherence_listen(bus_coherence(rt->bus), &d->listener);
    mech_offer(d);
    *out = d;
    return 0;
}

void direct_confine(struct direct *d)
{
    const char *why;
    if (d->off || d->maker) return;
    int err = dx_maker_new(&d->maker, bus_ram_fd(d->rt->bus), &why);
    if (err) switch_off(d, err, why);
}

void direct_retimed(struct direct *d)
{
    if (d->tsc_faults) return;
    processes_free(d);
    d->tsc_faults = true;
    mech_offer(d);
}

void direct_free(struct direct *d)
{
    if (!d) return;
    coherence_unlisten(bus_coherence(d->rt->bus), &d->listener);
    processes_free(d);
    dx_maker_free(d->maker);
    copies_free(d->copies);
    free(d);
}

const char *direct_status(const struct direct *d) { return d->off ? d->off : d->round_trip_ns ? "on" : "not tried"; }
