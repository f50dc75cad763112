/* Owns direct execution as the guest sees it: admission, mapping on demand, promotion and demotion, and the way from a
 * stop of the process to the guest's own exception.
 *
 *   I1  Code runs directly only with IF=1, IOPL=0, TF=0, flat CS and SS at CPL 3, CR0.TS=EM=0, and a TSC that is the
 *       host's: then what it can see of the processor without a trap is what the guest would show
 *       it.                     [admissible]
 *   I2  A page is executable in a process only with PG_DIRECT: scanned, and write-tracked by PG_CODE.  [page_grant,
 *       window.c]
 *   I3  A mapping is there only while the guest's page tables say so, as of the last TLB flush.       [window.c]
 *   I4  The guest's x87/SSE state is in one place: cpu->fx, or with cpu->fpu_away the process fx_in.    [fpu_enter,
 *       fpu_home]
 *   I5  An instruction that stopped the process is interpreted before the process runs again, or its page has become
 *       executable: so every stop makes progress.                                                       [answer_fault]
 *
 * Whether an address space is worth a process is decided as a ski rental is: when the overhead that translation has
 * cost it equals the price of a process. All prices are measured here, on this host, in TSC cycles. */
#define _GNU_SOURCE
#include "runtime/direct/direct.h"
#include "runtime/cpu/cpu_ops.h"
#include "runtime/direct/dx_process.h"
#include "runtime/run/hostsig.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/direct/scan_page.h"
#include "runtime/mem/window.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <x86intrin.h>

/* What translated user code takes longer than the processor itself, in 1/16 (docs/architecture.md, "Engines"): through
 * the soft TLB and through a window. */
#define SLOWDOWN_SOFT 40
#define SLOWDOWN_WINDOW 19
#define AROUND 16     /* pages that a fault may map beside its own: a mapping costs a fraction of a stop */
#define FUTILE_MAX 3  /* futile runs before the translator takes over until the next kick */
#define FILL_MAX 4096 /* runs; of a larger address space only what the soft TLB has is mapped at once */
#define STARTS_MAX 256
#define THRASH_MAX 4 /* writes to a page's code that make it unfit */
#define CANDIDATES 64
#define FAILURES_MAX \
    8 /* to make a process: the host may be short of something, or somebody has killed one at its birth */

struct candidate {
    u32 cr3;
    u32 penalty;
    u64 paid;
}; /* paid: overhead of translation so far, cycles; penalty: times it must pay the price */

struct slot {
    struct dx *dx;
    struct window *w;
    u32 cr3;
    u32 fx_version; /* of cpu->fx, when the process's state was the same */
    bool fx_known;
    laddr pending; /* a guest page fault was raised for it: mapped as soon as it is there */
    bool has_pending;
    unsigned futile; /* runs in a row that gained less than their stop cost */
    bool cool;       /* translated until the next kick: a burst of stops is on */
    u64 gain, loss;  /* cycles, since the last kick: by being native; in stops and mappings */
    s64 balance;     /* gains less losses since promotion */
};

struct direct {
    struct rt *rt;
    struct coherence_listener listener;
    enum rt_direct mode;
    const char *off;   /* why the host cannot; NULL: it can, or was not asked yet */
    unsigned failures; /* to make a process, in a row */
    bool resting;      /* one was lost: none is made until the next kick */
    struct slot slot[WINDOWS_DIRECT];
    struct slot *here; /* of the present address space, or NULL */
    struct slot *fx_in;
    u32 bereft[8]; /* CR3 of programs whose x87/SSE state was lost with their process, and that do not know yet */
    unsigned nbereft;
    u32 first_page; /* vm.mmap_min_addr */
    struct candidate candidate[CANDIDATES];
    u8 thrash[4096];                           /* by physical page, hashed: writes to its code */
    u64 create_cycles, map_cycles, round_trip; /* measured prices */
    u64 kicked_at, decay_at;
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

static bool admissible(const struct cpu *c)
{
    const u32 need = MK_PE | MK_CS32 | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_PG | 3 /* CPL */;
    if ((c->mode & (need | MK_VM | MK_SLOW)) != need || !c->iflag || c->intr_shadow || c->seg_complex[S_SS])
        return false;
    if (c->eflags_sys & (F_IOPL | F_TF | F_NT | F_VM | F_AC | F_VIF | F_VIP)) return false;
    if (c->cr0 & (CR0_TS | CR0_EM) || (c->cr4 & (CR4_TSD | CR4_OSFXSR)) != CR4_OSFXSR || c->tsc_offset) return false;
    return seg_plain(c, S_DS, MK_DSFLAT) && seg_plain(c, S_ES, MK_ESFLAT) && seg_describable(&c->seg[S_FS])
           && seg_describable(&c->seg[S_GS]);
}

/* ---- pages of code ---- */

static u8 *thrash_of(struct direct *d, paddr page) { return &d->thrash[(page >> PAGE_SHIFT) % sizeof d->thrash]; }

/* Scans the page at la, which is physical page pa at host. */
static bool page_scan(struct direct *d, laddr la, paddr pa, const u8 *host)
{
    struct cpu *c = d->rt->cpu;
    u16 starts[STARTS_MAX], where;
    struct code_page_bytes bytes = { .bytes = host, .starts = starts };
    struct walk next; /* looked at without a trace: the guest has not fetched from there */
    if (mmu_look(c, la + PAGE_SIZE, &next)) bytes.next = bus_ram_ptr(c->bus, next.pa);
    starts[0] = c->eip >> PAGE_SHIFT == la >> PAGE_SHIFT ? (u16)(c->eip & ~PAGE_MASK) : 0;
    bytes.nstarts = 1 + xl_page_starts(d->rt->xl, pa, starts + 1, STARTS_MAX - 1);
    bool clean = scan_page(d->rt->dec, &bytes, &where);
    c->ctr.direct_scans++;
    TRACE(&d->rt->trace, direct, la, clean ? "direct: page %08x fit\n" : "direct: page %08x unfit at +%03x\n", la,
          where);
    return clean;
}

/* Makes the page of la executable in the present process, if it may be. la is not fetched from yet: no fault is raised.
 */
static bool page_grant(struct direct *d, laddr la)
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
    if (!flags || *flags & PG_INDIRECT || *thrash_of(d, pa) >= THRASH_MAX) return false;
    if (!(*flags & PG_DIRECT)) {
        bus_mark_code(c->bus, pa);
        bool clean = page_scan(d, la, pa, host);
        *flags |= clean ? PG_DIRECT : PG_INDIRECT;
        if (!clean) return false;
    }
    return window_map(w, la, false) && window_executes(w, la);
}

/* windows_written() has taken the page's right to be executed. */
static bool direct_written(void *arg, paddr pa, unsigned len, u8 flags)
{
    (void)len;
    u8 *thrash = thrash_of(arg, pa);
    if (flags & PG_DIRECT && *thrash < UINT8_MAX) ++*thrash;
    return false;
}

static bool runs_here(const struct direct *d) { return d->here && !d->here->cool && admissible(d->rt->cpu); }

bool direct_owns(struct direct *d, laddr la) { return runs_here(d) && window_executes(d->here->w, la); }

/* ---- x87 and SSE state ---- */

static bool bereft_is(const struct direct *d, u32 cr3)
{
    for (unsigned i = 0; i < d->nbereft; i++)
        if (d->bereft[i] == cr3) return true;
    return false;
}

static void bereft_add(struct direct *d, u32 cr3)
{
    if (bereft_is(d, cr3)) return;
    if (d->nbereft == ARRAY_LEN(d->bereft))
        d->nbereft--; /* the latest: those before it are as likely to be gone by themselves */
    d->bereft[d->nbereft++] = cr3;
}

static void bereft_told(struct direct *d, u32 cr3)
{
    for (unsigned i = 0; i < d->nbereft; i++)
        if (d->bereft[i] == cr3) d->bereft[i] = d->bereft[--d->nbereft];
}

static void fpu_home(struct cpu *c)
{
    struct direct *d = c->rt->direct;
    struct slot *s = d->fx_in;
    c->fpu_away = false;
    d->fx_in = NULL;
    c->fx_version++;
    if (dx_get_fx(s->dx, &c->fx)) { /* it died */
        bereft_add(d, s->cr3);
        return;
    }
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

static int be_map(void *be, u32 page, u32 n, int prot, u64 off)
{
    dx_map(be, page, n, prot, off);
    return 0;
}
static int be_unmap(void *be, u32 page, u32 n)
{
    dx_unmap(be, page, n);
    return 0;
}
static int be_protect(void *be, u32 page, u32 n, int prot)
{
    dx_protect(be, page, n, prot);
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

static int process_new(struct direct *d, struct dx **out)
{
    u64 begin = __rdtsc();
    const char *why;
    int err = dx_new(out, bus_ram_fd(d->rt->bus), &why);
    if (err) {
        if (err == -ENOTSUP || ++d->failures >= FAILURES_MAX) d->off = why;
        TRACE(&d->rt->trace, direct, 0, "direct: none on this host: %s\n", why);
        return err;
    }
    d->failures = 0;
    d->create_cycles = __rdtsc() - begin;
    d->round_trip = dx_round_trip(*out);
    return 0;
}

/* Maps what the address space is known to use, and makes executable what translated code has run lately. */
static void prefill(struct direct *d, struct window *w)
{
    struct rt *rt = d->rt;
    window_fill(w, windows_runs(rt->windows, false) > FILL_MAX);
    for (u32 n = 0; xl_jump_next_page(rt->xl, XL_JC_USER, &n); n++) (void)page_grant(d, n << PAGE_SHIFT);
}

static void promote(struct direct *d)
{
    struct rt *rt = d->rt;
    u32 cr3 = rt->cpu->cr3;
    struct dx *dx = NULL;
    struct window *w = windows_direct_make(rt->windows, cr3);
    struct slot *s = &d->slot[window_direct_index(w)];
    slot_free(d, s);
    if (process_new(d, &dx)) return;
    const struct window_backend be = { be_map, be_unmap, be_protect, dx, d->first_page };
    window_direct_start(w, cr3, &be);
    *s = (struct slot){ .dx = dx, .w = w, .cr3 = cr3 };
    d->here = s;
    prefill(d, w);
    xl_jump_flush(rt->xl, XL_JC_USER); /* what it knows is direct_owns()'s from now on */
    rt->cpu->ctr.direct_promoted++;
    TRACE(&rt->trace, direct, 0, "direct: cr3 %08x promoted\n", cr3);
}

static struct candidate *candidate_here(struct direct *d)
{
    u32 cr3 = d->rt->cpu->cr3;
    struct candidate *sp = &d->candidate[(cr3 >> 5) * 0x9e3779b1u >> 26];
    if (sp->cr3 != cr3) *sp = (struct candidate){ .cr3 = cr3, .penalty = 1 };
    return sp;
}
_Static_assert(CANDIDATES == 64, "26 bits are shifted out above");

#define PENALTY_MAX 1024u
static void demote(struct direct *d, const char *why)
{
    struct candidate *sp = candidate_here(d);
    sp->penalty = sp->penalty * 4 > PENALTY_MAX ? PENALTY_MAX : sp->penalty * 4;
    sp->paid = 0;
    slot_free(d, d->here);
    d->rt->cpu->ctr.direct_demoted++;
    TRACE(&d->rt->trace, direct, 0, "direct: cr3 %08x demoted: %s\n", d->rt->cpu->cr3, why);
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

/* ---- who deserves one ---- */

static u64 price(const struct direct *d)
{
    const struct tlb_list *l = &d->rt->cpu->tlb->list[1][0];
    u32 pages = l->n < 64 ? 64 : l->n;
    return d->create_cycles + pages * d->map_cycles;
}

/* Whether the stops and mappings of the last while cost more than being native gained. */
static void consider_demotion(struct direct *d)
{
    struct slot *s = d->here;
    s->balance += (s64)s->gain - (s64)s->loss;
    s64 most = (s64)price(d) * 4; /* neither an old loss nor an old gain counts for ever */
    if (s->balance > most) s->balance = most;
    s->gain = s->loss = 0;
    if (s->balance < -most) demote(d, "stops cost more than it gains");
    else if (s->cool) {
        s->cool = false;
        xl_jump_flush(d->rt->xl, XL_JC_USER);
    }
}

/* A burst of page faults or system calls is cheaper in the translator, at a few hundred cycles each; it is given the
 * time to the next kick. What such bursts cost here is bounded thereby, to a percent or so. */
static void account_run(struct direct *d, struct slot *s, u64 took)
{
    u64 stop = took < d->round_trip ? took : d->round_trip, gain = (took - stop) * (SLOWDOWN_WINDOW - 16) / 16;
    s->gain += gain;
    s->loss += stop;
    s->futile = gain < stop ? s->futile + 1 : 0;
    if (s->futile < FUTILE_MAX || d->mode == RT_DIRECT_ALWAYS) return;
    s->futile = 0;
    s->cool = true;
    d->rt->cpu->ctr.direct_cooled++;
}

void direct_kick(struct direct *d)
{
    struct cpu *c = d->rt->cpu;
    u64 now = __rdtsc(), spent = now - d->kicked_at;
    d->kicked_at = now;
    d->resting = false;
    for (unsigned i = 0; i < WINDOWS_DIRECT; i++) /* its page directory is another's now */
        if (d->slot[i].dx && !window_used(d->slot[i].w)) slot_free(d, &d->slot[i]);
    if (now - d->decay_at > 1ull << 32) { /* a second or two */
        d->decay_at = now;
        for (unsigned i = 0; i < sizeof d->thrash; i++) d->thrash[i] /= 2;
    }
    if (d->off || d->mode == RT_DIRECT_ALWAYS) return;
    if (d->here) {
        consider_demotion(d);
        return;
    }
    if (c->cpl != 3 || !admissible(c)) return;
    struct candidate *sp = candidate_here(d);
    const u64 most = 1ull << 25; /* a kick after a long sleep says nothing */
    unsigned slowdown = d->rt->uwin ? SLOWDOWN_WINDOW : SLOWDOWN_SOFT;
    sp->paid += (spent < most ? spent : most) * (slowdown - 16) / slowdown;
    if (sp->paid >= price(d) * sp->penalty) promote(d);
}

bool direct_here(struct direct *d)
{
    if (unlikely(d->nbereft) && bereft_is(d, d->rt->cpu->cr3)) return true;
    if (!d->here && d->mode == RT_DIRECT_ALWAYS && !d->off && !d->resting && admissible(d->rt->cpu)) promote(d);
    return runs_here(d) && page_grant(d, d->rt->cpu->eip);
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

/* A process died with registers that were the guest's: there is nothing better than to tell the guest that this program
 * failed. */
static int bereft_tell(struct direct *d)
{
    bereft_told(d, d->rt->cpu->cr3);
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

/* Maps la as the guest's tables have it now, and its neighbours that the guest has used. */
static void map_around(struct direct *d, laddr la)
{
    struct window *w = d->here->w;
    struct walk l;
    laddr first = la & ~(AROUND * PAGE_SIZE - 1);
    for (unsigned i = 0; i < AROUND; i++) {
        laddr at = first + i * PAGE_SIZE;
        bool own = at == (la & PAGE_MASK);
        if (!own && (window_has(w, at) || !mmu_look(d->rt->cpu, at, &l) || !l.accessed || !l.user)) continue;
        (void)window_map(w, at, false);
    }
}

static int answer_fault(struct direct *d, laddr la)
{
    struct cpu *c = d->rt->cpu;
    struct slot *s = d->here;
    c->ctr.direct_faults++;
    if (!window_executes(s->w, c->eip)) return 0; /* a fetch: direct_here() decides anew */
    u32 before = c->exc_count;
    bool straddles = !(la & ~PAGE_MASK) && la - c->eip - 1 < 14; /* its fetch faults at the first byte of the second
                                                                    page */
    int r = dispatch_emulate(d->rt, c->eip);
    if (r || d->here != s) return r;
    s->has_pending = c->exc_count != before;
    s->pending = la;
    if (s->has_pending) return 0;
    map_around(d, la);
    if (straddles && c->cpl == 3) (void)page_grant(d, la);
    return 0;
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
        return stop->ran || bereft_is(d, c->cr3) ? bereft_tell(d) : 0;
    }
    regs_in(c, r);
    if (stop->why == DX_ESCAPED) {
        c->ctr.direct_escapes++;
        demote(d, "it left 32-bit code");
        return raise(d, V_GP);
    }
    if (unlikely(r->changed) && load_selectors(d, r)) return dispatch_deliver(d->rt);
    switch (stop->why) {
    case DX_SYSCALL: return answer_syscall(d);
    case DX_FAULT: return answer_fault(d, stop->addr);
    case DX_TRAP: return answer_trap(d, stop);
    case DX_OTHER: c->ctr.direct_others++; return dispatch_emulate(d->rt, c->eip);
    default: return 0; /* DX_KICKED */
    }
}

/* Maps what was missing, and the page that the guest's own handler has brought in meanwhile. */
static bool ready(struct direct *d, struct slot *s)
{
    if (s->has_pending) map_around(d, s->pending);
    s->has_pending = false;
    unsigned n = dx_waiting(s->dx);
    u64 begin = __rdtsc();
    if (dx_commit(s->dx)) return false; /* or one has failed before, and nothing waits any more */
    if (!n) return true;
    u64 took = __rdtsc() - begin;
    s->loss += took;
    d->map_cycles = (d->map_cycles * 7 + took / n) / 8;
    d->rt->cpu->ctr.direct_maps += n;
    return true;
}

int direct_run(struct direct *d)
{
    struct cpu *c = d->rt->cpu;
    struct slot *s = d->here;
    struct dx_regs r;
    struct dx_stop stop = { .why = DX_KICKED };
    if (unlikely(d->nbereft) && bereft_is(d, c->cr3)) return bereft_tell(d);
    if (!ready(d, s) || !fpu_enter(d, s)) {
        lost(d); /* before it ran: nothing of the guest's is lost */
        return 0;
    }
    dx_pin(s->dx, sched_getcpu());
    regs_out(c, &r);
    r.changed = 0;
    TRACE(&d->rt->trace, direct, c->eip, "direct: enter %08x\n", c->eip);
    u64 begin = __rdtsc();
    hostsig_forward(dx_tid(s->dx), dx_signo());
    if (!c->kick) dx_run(s->dx, &r, &stop); /* a kick from here on goes to it */
    hostsig_forward(0, 0);
    u64 took = __rdtsc() - begin;
    c->ctr.direct_runs++;
    c->ctr.direct_cycles += took;
    if (stop.ran) {
        c->fpu_away = true;
        d->fx_in = s;
    }
    account_run(d, s, took);
    TRACE(&d->rt->trace, direct, c->eip, "direct: left %08x why %d addr %08x\n", r.eip, stop.why, stop.addr);
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
    int err = dx_new(&dx, ram_fd, why);
    if (!err) dx_free(dx);
    return err;
}

int direct_new(struct direct **out, struct rt *rt, enum rt_direct mode)
{
    struct direct *d = calloc(1, sizeof *d);
    if (!d) return -ENOMEM;
    *d = (struct direct){
        .rt = rt, .mode = mode, .first_page = lowest_page(), .kicked_at = __rdtsc(), .decay_at = __rdtsc()
    };
    d->create_cycles = 4u << 20; /* a guess, until the first has been made */
    d->map_cycles = 16384;       /* likewise */
    rt->cpu->fpu_fetch = fpu_home;
    d->listener = (struct coherence_listener){
        .rank = COHERENCE_DIRECT, .arg = d, .flushed = direct_flushed, .written = direct_written
    };
    coherence_listen(bus_coherence(rt->bus), &d->listener);
    *out = d;
    return 0;
}

void direct_free(struct direct *d)
{
    if (!d) return;
    coherence_unlisten(bus_coherence(d->rt->bus), &d->listener);
    cpu_fpu_home(d->rt->cpu);
    for (unsigned i = 0; i < WINDOWS_DIRECT; i++) slot_free(d, &d->slot[i]);
    free(d);
}

const char *direct_status(const struct direct *d) { return d->off ? d->off : d->round_trip ? "on" : "not tried"; }
