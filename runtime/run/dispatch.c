/* Owns the way from one translated block to the next: look up, translate, link, enter, and the answer to each exit.
 *
 *   I1  A block is entered only after its linear page has been translated with the present page tables, or through a
 *       jump cache or edge that no flush since has invalidated.
 *   I2  A page with translated or decoded code has PG_CODE, and no soft-TLB write entry.  [make_block]
 *   I3  jump_mode and jump_base say which mode key and which base of CS a jump cache's entries were made for; a change
 *       of either flushes that cache. Entries of the one for segmented code say themselves what they were made for. */
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/far.h"
#include "runtime/mem/mmu.h"
#include "runtime/direct/direct.h"
#include "runtime/run/count.h"
#include "runtime/run/hostsig.h"
#include "runtime/interp/interp.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"
#include "runtime/run/stream.h"
#include "runtime/mem/watch.h"
#include "runtime/mem/window.h"
#include "runtime/run/x87.h"

#include <x86intrin.h>

#define ROM_SLICE 64 /* instructions: until code that can be translated may have come */

int rt_enter(struct cpu *c, const void *code); /* enter_x64.S */

/* What is to be noticed of user code is noticed of its translation. */
static bool runs_direct(const struct rt *rt) { return rt->direct && !rt->tap.on; }

static unsigned cpl_class(u32 mode) { return (mode & MK_CPL) == 3 ? XL_JC_USER : XL_JC_SUPERVISOR; }

static struct window *user_window(const struct rt *rt) { return rt->windows ? windows_here(rt->windows) : NULL; }

static u32 mode_here(const struct rt *rt)
{
    u32 mode = mode_translated(rt->cpu->mode);
    return mode | (rt->cpu->cpl == 3 && mode & MK_PG && user_window(rt) ? MK_UWINDOW : 0);
}

/* Of code in that mode; NULL: it has none. Without paging all see the same memory, the supervisor's. */
static struct window *window_of(const struct rt *rt, u32 mode)
{
    if (!rt->windows || !xl_mode_has_window(mode)) return NULL;
    return mode & MK_UWINDOW ? user_window(rt) : windows_supervisor(rt->windows);
}

/* ---- where the code is ---- */

/* ahead: la is not where the guest is yet, so a fault raises nothing. */
static int fetch_page(struct rt *rt, laddr la, bool ahead, paddr *pa, const u8 **host)
{
    u32 error;
    if (tlb_exec(rt->cpu, la, rt->cpu->cpl == 3, pa, host, &error)) return 0;
    return ahead ? GUEST_FAULT : mmu_page_fault(rt->cpu, la, error);
}

static u32 context_here(struct rt *rt, u32 mode)
{
    const struct seg *cs = &rt->cpu->seg[S_CS];
    if (likely(cpu_in_paragraph(rt->cpu))) return context_of_paragraph(mode, cs->sel);
    u32 context = xl_context(rt->xl, mode, cs->base, cs->limit);
    if (unlikely(context > rt->contexts)) { /* perhaps of one that had another number, which blocks are not found by */
        rt->contexts = context;
        far_forget(rt->cpu);
    }
    return context;
}

/* Fills in what can be translated at eip. Returns 0, GUEST_FAULT (exception raised), or -1: interpret. */
static int source_at(struct rt *rt, vaddr eip, struct xl_source *src)
{
    const u8 *host;
    paddr pa;
    laddr la = rt->cpu->seg[S_CS].base + eip;
    /* Two things come before a page fault of the fetch (SDM vol. 3, 6.9): a breakpoint there, and the limit of CS. */
    bool armed = rt->cpu->mode & MK_ARMED;
    if (unlikely(eip > rt->cpu->seg[S_CS].limit)) return -1;
    if (fetch_page(rt, la, armed, &pa, &host)) return armed ? -1 : GUEST_FAULT;
    if (!host) return -1;
    unsigned off = la & ~PAGE_MASK;
    *src = (struct xl_source){ .la = la,
                               .eip = eip,
                               .pa = pa + off,
                               .mode = mode_here(rt),
                               .bytes = host + off,
                               .nbytes = PAGE_SIZE - off,
                               .pa2 = XL_NO_PAGE };
    if (unlikely(mode_segmented(src->mode))) {
        src->context = context_here(rt, src->mode);
        src->limit = rt->cpu->seg[S_CS].limit;
    }
    stops_note(&rt->stops, &rt->cpu->watch->breaks, src);
    if (unlikely(rt->tap.on)) src->tap = &rt->tap.tap, src->bound = true;
    return 0;
}

/* The next page, for an instruction that may straddle: if it is not there the interpreter raises the fault. */
static bool source_next_page(struct rt *rt, struct xl_source *src)
{
    const u8 *host;
    if (fetch_page(rt, (src->la & PAGE_MASK) + PAGE_SIZE, true, &src->pa2, &host) || !host) {
        src->pa2 = XL_NO_PAGE;
        return false;
    }
    src->bytes2 = host;
    src->nbytes2 = 16;
    return true;
}

/* ---- blocks ---- */

static bool block_current(struct rt *rt, const struct block *b, struct xl_source *src)
{
    paddr pa2 = xl_block_pa2(b);
    if (xl_block_partial(b)) return !source_next_page(rt, src);
    return pa2 == XL_NO_PAGE || (source_next_page(rt, src) && src->pa2 == pa2);
}

static struct block *make_block(struct rt *rt, struct xl_source *src, bool *evicted)
{
    if (src->nbytes < 16 && src->pa2 == XL_NO_PAGE) source_next_page(rt, src);
    bus_mark_code(rt->bus, src->pa & ~(paddr)(PAGE_SIZE - 1));
    if (src->pa2 != XL_NO_PAGE) bus_mark_code(rt->bus, src->pa2);
    return xl_translate(rt->xl, src, evicted);
}

static bool page_mixed(const struct rt *rt, paddr pa)
{
    const u8 *flags = bus_page_flags(rt->bus, pa);
    return flags && *flags & PG_MIXED;
}

/* In a mixed page: a block that compares its bytes at entry. What changes each time it is come to is interpreted, and
 * so is what may end in the next page. */
static struct block *block_mixed(struct rt *rt, struct xl_source *src, bool *evicted)
{
    if (src->nbytes < 16) return NULL;
    src->mode |= MK_CHECKED;
    struct block *b = xl_find(rt->xl, src);
    paddr change;
    if (b && xl_block_live(b) && !xl_block_holds(rt->xl, b, src, &change)) {
        mixed_stale(&rt->mixed, change);
        xl_forget(rt->xl, b);
        b = NULL;
    }
    if (b && !xl_block_live(b) && !xl_revive(rt->xl, b, src)) b = NULL;
    if (b || !mixed_seen(&rt->mixed, src)) return b;
    mixed_bound(&rt->mixed, src);
    return xl_translate(rt->xl, src, evicted);
}

enum lookup {
    LOOKUP_BLOCK,
    LOOKUP_FAULT,
    LOOKUP_INTERPRET /* this instruction */,
    LOOKUP_NOT_RAM /* or what may fault in two ways */
};

/* The second copy of a loop: found, revived or made. */
static struct block *block_turned(struct rt *rt, struct xl_source *src, bool *evicted)
{
    src->x87_due = true;
    struct block *b = xl_find(rt->xl, src);
    if (b && !xl_block_live(b) && !xl_revive(rt->xl, b, src)) b = NULL;
    return b ? b : xl_translate(rt->xl, src, evicted);
}

/* The block at src: found, revived or made. NULL: interpret. edge: what has led here, or NULL. */
static struct block *block_at(struct rt *rt, struct xl_source *src, const struct edge *edge, bool *evicted)
{
    if (unlikely(page_mixed(rt, src->pa))) return block_mixed(rt, src, evicted);
    if (unlikely(src->nbytes < 16) && source_next_page(rt, src) && page_mixed(rt, src->pa2)) return NULL;
    struct block *b = xl_find(rt->xl, src);
    if (b && !block_current(rt, b, src)) {
        xl_forget(rt->xl, b);
        b = NULL;
    }
    if (b && !xl_block_live(b)) {
        bus_mark_code(rt->bus, src->pa & ~(paddr)(PAGE_SIZE - 1));
        if (src->pa2 != XL_NO_PAGE) bus_mark_code(rt->bus, src->pa2);
        if (!xl_revive(rt->xl, b, src)) b = NULL;
    }
    if (!b) return make_block(rt, src, evicted);
    return edge && xl_turns(edge, b) ? block_turned(rt, src, evicted) : b;
}

/* An access of user code through its window has faulted on the host, and was a page fault of the guest's: its kernel
 * has been at work since, and now user code goes on, most likely with the same access. Its page is mapped first, if it
 * is there by now; otherwise the access would cost a host fault again. */
static void map_missing(struct rt *rt)
{
    rt->missing.waits = false;
    if (rt->missing.cr3 != rt->cpu->cr3) return;
    u64 begin = account_begin();
    if (window_map_ahead(user_window(rt), rt->missing.la, rt->missing.write)) account_map_end(rt, begin);
}

static enum xl_jump_cache prepare_segmented(struct rt *rt, u32 mode)
{
    struct cpu *c = rt->cpu;
    u32 context = context_here(rt, mode);
    c->context_tag = jump_tag(context, 0);
    c->context_spread = jump_spread(context);
    return XL_JC_SEGMENTED;
}

static enum xl_jump_cache prepare_flat(struct rt *rt, u32 mode)
{
    unsigned which = cpl_class(mode);
    if (rt->jump_mode[which] == mode && rt->jump_base[which] == rt->cpu->seg[S_CS].base) return which;
    rt->jump_mode[which] = mode;
    rt->jump_base[which] = rt->cpu->seg[S_CS].base;
    xl_jump_flush(rt->xl, which);
    return which;
}

enum xl_jump_cache dispatch_prepare(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    u32 mode = mode_here(rt);
    enum xl_jump_cache which = unlikely(mode_segmented(mode)) ? prepare_segmented(rt, mode) : prepare_flat(rt, mode);
    c->jump_cache = xl_jump_cache(rt->xl, which);
    if (mode & MK_UWINDOW && rt->missing.waits) map_missing(rt);
    const struct window *w = window_of(rt, mode);
    c->window = w ? window_base(w) : XL_NO_WINDOW;
    return which;
}

/* As xl_tallies_undo(). next: the first instruction that has not been done. */
static void tallies_undo(struct rt *rt, const struct xl_point *at, bool after, vaddr next)
{
    struct cpu *c = rt->cpu;
    u64 before = cpu_tally(c)[TALLY_INSNS];
    xl_tallies_undo(rt->xl, at, after, cpu_tally(c));
    if (likely(!rt->stream.cfg.what)) return;
    laddr base = c->seg[S_CS].base;
    stream_left(&rt->stream, base + at->begins, base + next, before - cpu_tally(c)[TALLY_INSNS]);
}

/* Where translated code was left, when that is not at a block's end. */
static void recover_point(struct rt *rt, struct xl_point *at)
{
    BUG_ON(!xl_recover(rt->xl, rt->cpu->exit_arg, at));
    tallies_undo(rt, at, false, at->eip);
    if (unlikely(at->told)) interp_told(rt->interp, rt->cpu->seg[S_CS].base + at->eip);
    x87_recover(rt->cpu, rt->xl, at);
}

/* A helper has done its instruction, or skipped it, and has not come back: what was to follow has not been done. */
static void left_in_helper(struct rt *rt)
{
    struct xl_point at;
    if (likely(!rt->tap.on) || !xl_recover(rt->xl, rt->cpu->exit_arg, &at)) return;
    tallies_undo(rt, &at, !rt->probes.skipped, rt->probes.skipped ? at.eip : rt->cpu->eip);
    if (rt->probes.skipped) x87_recover(rt->cpu, rt->xl, &at);
    rt->probes.skipped = false;
}

/* ---- windows ---- */

/* Whether an access that has faulted at offset off of its window will do so again. User pages that are not there yet
 * will be. */
static bool fault_is_lasting(struct rt *rt, struct window *w, u64 off, bool write)
{
    struct cpu *c = rt->cpu;
    paddr pa;
    if (off >> 32) return true; /* in a guard */
    if (window_map(w, (laddr)off, write)) return false;
    return c->cpl != 3 || mmu_try(c, (laddr)off, write ? ACC_W : ACC_R, true, &pa);
}

/* A host fault in a window or its guards: mapped now, or the site changes its way, or it was the guest's own fault. The
 * instruction is interpreted in any case. */
static int window_fault(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    struct xl_point at;
    bool write;
    recover_point(rt, &at);
    struct window *w = window_of(rt, mode_here(rt));
    bool user = w != windows_supervisor(rt->windows);
    u64 off = hostsig_fault_addr(&write) - window_base(w);
    c->ctr.fault_window++;
    c->ctr.fault_guard += off >> 32 != 0;
    u64 begin = account_begin();
    if (fault_is_lasting(rt, w, off, write)) xl_site_fault(rt->xl, at.pa, off >> 32 != 0);
    if (!user) return dispatch_emulate(rt, at.eip);
    account_fault_end(rt, begin);
    int r = dispatch_emulate(rt, at.eip);
    if (c->cpl != 3 && !(off >> 32)) { /* it has raised an exception */
        rt->missing.la = (laddr)off, rt->missing.write = write, rt->missing.cr3 = c->cr3;
        rt->missing.waits = true;
    }
    return r;
}

/* ---- code and what happens to its memory ---- */

static void code_flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct rt *rt = arg;
    (void)c;
    if (!rt->xl) return;
    if (kind == TLB_FLUSH_PAGE) {
        xl_jump_drop_page(rt->xl, XL_JC_SUPERVISOR, la);
        xl_jump_drop_page(rt->xl, XL_JC_USER, la);
        xl_jump_drop_page(rt->xl, XL_JC_SEGMENTED, la);
        return;
    }
    xl_jump_flush(rt->xl, XL_JC_USER);
    xl_jump_flush(rt->xl, XL_JC_SEGMENTED);
    if (kind == TLB_FLUSH_NONGLOBAL && !rt->jump_local) return;
    xl_jump_flush(rt->xl, XL_JC_SUPERVISOR);
    rt->jump_local = false;
}

static void code_forget(void *arg, laddr la, u32 pages)
{
    struct rt *rt = arg;
    if (!rt->xl) return;
    for (enum xl_jump_cache jc = 0; jc < XL_JC_MISS; jc++) xl_jump_drop_pages(rt->xl, jc, la, pages);
}

static void code_protect(void *arg, paddr page)
{
    struct rt *rt = arg;
    TRACE(&rt->trace, smc, rt->cpu->eip, "smc: code page %llx\n", (unsigned long long)page);
}

/* Whether what is at CS:EIP now is in that page. A look only: a fetch might set an accessed bit in this very page. */
static bool runs_in(const struct cpu *c, paddr page)
{
    paddr pa;
    return mmu_probe(c, c->seg[S_CS].base + c->eip, &pa) && pa - page < PAGE_SIZE;
}

/* Blocks that the write overlaps go; a page that is written to often loses all of them, and with them its protection,
 * until it is executed again, or for longer (mixed.c). */
static bool code_written(void *arg, paddr pa, unsigned len, u8 flags)
{
    struct rt *rt = arg;
    paddr page = pa & ~(paddr)(PAGE_SIZE - 1);
    bool all = mixed_written(&rt->mixed, page, flags, runs_in(rt->cpu, page)) || len == PAGE_SIZE;
    unsigned live = rt->xl ? xl_retire(rt->xl, all ? page : pa, all ? PAGE_SIZE : len) : 0;
    interp_invalidate(rt->interp, page, PAGE_SIZE);
    return live;
}

static void code_debug(void *arg, struct cpu *c)
{
    struct rt *rt = arg;
    if (rt->xl) stops_update(&rt->stops, c, rt->xl);
}

static void code_aged(void *arg, u64 now_ms)
{
    struct rt *rt = arg;
    mixed_age(&rt->mixed, now_ms);
}

void dispatch_listen(struct rt *rt)
{
    struct mixed *m = &rt->mixed;
    m->bus = rt->bus, m->cpu = rt->cpu, m->dec = rt->dec, m->features = rt->cpu->model->features, m->xl = rt->xl,
    m->trace = &rt->trace;
    rt->code_listener = (struct coherence_listener){ .rank = COHERENCE_CODE,
                                                     .arg = rt,
                                                     .flushed = code_flushed,
                                                     .forget = code_forget,
                                                     .protect = code_protect,
                                                     .debug = code_debug,
                                                     .aged = code_aged,
                                                     .written = code_written };
    coherence_listen(bus_coherence(rt->bus), &rt->code_listener);
}

/* ---- exits ---- */

/* Raises what is in cpu->exc. */
int dispatch_deliver(struct rt *rt)
{
    rt->cpu->ctr.exceptions++;
    return exc_deliver(rt->cpu);
}

/* Interprets the instruction at eip; a shadow that it opens is only worth keeping if something is pending. One in
 * EMULATED_TIMED is timed, and stands for all of them: reading the TSC costs as much as many an instruction. */
int dispatch_emulate(struct rt *rt, vaddr eip)
{
    struct cpu *c = rt->cpu;
    bool timed = ++c->ctr.emulated % EMULATED_TIMED == 0;
    u64 begin = unlikely(timed) ? __rdtsc() : 0;
    c->eip = eip;
    TRACE(&rt->trace, exits, eip, "emulate %08x cpl %u\n", eip, c->cpl);
    int r = interp_one(rt->interp) ? dispatch_deliver(rt) : 0;
    unsigned op = interp_last_op(rt->interp);
    rt->emulated_op[op]++;
    if (unlikely(timed)) rt->emulated_cycles[op] += (__rdtsc() - begin) * EMULATED_TIMED;
    if (cpu_shadow_is_idle(c)) c->intr_shadow = SHADOW_NONE;
    return r;
}

/* A block that compares its bytes has left: because they are others now? */
static void forget_stale(struct rt *rt, const struct xl_point *at)
{
    paddr change;
    unsigned off = at->pa & (PAGE_SIZE - 1);
    const struct xl_source now = {
        .eip = at->eip, .pa = at->pa, .bytes = bus_ram_ptr(rt->bus, at->pa), .nbytes = PAGE_SIZE - off
    };
    if (!now.bytes || xl_block_holds(rt->xl, at->block, &now, &change)) return;
    xl_forget(rt->xl, at->block);
    mixed_stale(&rt->mixed, change);
}

static int emulate_at_host(struct rt *rt)
{
    struct xl_point at;
    recover_point(rt, &at);
    if (unlikely(xl_block_checked(at.block))) forget_stale(rt, &at);
    if (unlikely(count_is_full(rt->cpu))) { /* that is why it has left */
        rt->cpu->eip = at.eip;
        return 0;
    }
    return dispatch_emulate(rt, at.eip);
}

static bool code_is_global(struct rt *rt, laddr la)
{
    struct walk w;
    return mmu_walk(rt->cpu, la, ACC_X, false, &w) && w.global;
}

/* Whether entries for what is at la, in linear pages la to `last`, may be made. Notes when the supervisor's jump cache
 * depends on a page that is not global: a CR3 write then concerns it. */
static bool may_fill(struct rt *rt, enum xl_jump_cache jc, laddr la, laddr last)
{
    if (jc == XL_JC_USER && runs_direct(rt) && direct_owns(rt->direct, la)) return false;
    if (jc == XL_JC_SUPERVISOR && !rt->jump_local)
        rt->jump_local = !code_is_global(rt, la) || (last != la && !code_is_global(rt, last));
    return true;
}

void dispatch_trace(struct rt *rt)
{
    const struct cpu *c = rt->cpu;
    TRACE(&rt->trace, exec, c->eip,
          "exec %08x: eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x fl %08x cpl %u\n", c->eip,
          c->gpr[0], c->gpr[1], c->gpr[2], c->gpr[3], c->gpr[4], c->gpr[5], c->gpr[6], c->gpr[7], cpu_eflags(c),
          c->cpl);
}

/* ---- translated code ---- */

/* Where the code for cpu->eip is, if it has been jumped to before in a page that is in use: without a look at page
 * tables or blocks, since what would have changed there has been dropped from the jump cache. NULL: not known. */
static const void *jumped_before(struct rt *rt)
{
    const struct cpu *c = rt->cpu;
    u32 mode = mode_here(rt);
    unsigned which = cpl_class(mode);
    if (mode_segmented(mode) || c->mode & MK_ARMED) return NULL;
    if (rt->jump_mode[which] != mode || rt->jump_base[which] != c->seg[S_CS].base) return NULL;
    return xl_jump_again(rt->xl, (enum xl_jump_cache)which, mode, c->eip);
}

/* The code for cpu->eip, found by what has been jumped to in its page, or by its block, which is made if need be. What
 * was missed is linked or filled in. NULL: *why. edge: what has led here, or NULL. */
static const void *code_here(struct rt *rt, struct edge *edge, enum lookup *why)
{
    struct xl_source src;
    bool evicted = false;
    *why = LOOKUP_INTERPRET;
    rt->cpu->ctr.lookups++;
    int st = source_at(rt, rt->cpu->eip, &src);
    if (st) {
        *why = st > 0 ? LOOKUP_FAULT : LOOKUP_NOT_RAM;
        return NULL;
    }
    enum xl_jump_cache jc = dispatch_prepare(rt);
    if (!edge && !page_mixed(rt, src.pa) && may_fill(rt, jc, src.la, src.la)) {
        const void *code = xl_jump_known(rt->xl, jc, &src);
        if (code) return code;
    }
    struct block *b = block_at(rt, &src, edge, &evicted);
    if (!b) return NULL;
    laddr last = xl_block_pa2(b) == XL_NO_PAGE ? src.la : src.la + PAGE_SIZE;
    if (edge && !evicted) xl_link(rt->xl, edge, b);
    else if (!xl_block_turned(b) && may_fill(rt, jc, src.la, last)) xl_jump_fill_page(rt->xl, jc, b);
    return xl_entry(rt->xl, b);
}

static const char *const exit_names[] = {
#define EXIT(name, text) [EXIT_##name] = #name,
#include "core/exits.def"
#undef EXIT
};

/* In ROM there will be no block for the next instruction either. */
static int without_block(struct rt *rt, enum lookup why)
{
    if (why == LOOKUP_FAULT) return dispatch_deliver(rt);
    if (why == LOOKUP_INTERPRET || rt->trace.mask & 1u << TR_exec) return dispatch_emulate(rt, rt->cpu->eip);
    return interp_run(rt->interp, count_room(rt->cpu, ROM_SLICE)) == INTERP_SHUTDOWN ? EXC_SHUTDOWN : 0;
}

int dispatch_translated(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    struct edge *edge = NULL; /* what led here, to be linked */
    while (!c->kick && !c->halted && !rt_interrupt_waits(c) && cpu_shadow_is_idle(c) && !count_is_full(c)) {
        enum lookup why_not;
        if (!xl_can_translate(c->mode)) return 0;
        if (unlikely(c->watch->breaks.code) && interp_breaks(c)) return 0;
        if (unlikely(c->mode & MK_ARMED && c->eflags_sys & F_RF)) return dispatch_emulate(rt, c->eip);
        if (c->cpl == 3 && runs_direct(rt) && direct_here(rt->direct)) {
            int r = direct_run(rt->direct);
            if (r) return r;
            edge = NULL;
            continue;
        }
        const void *code = edge ? NULL : jumped_before(rt);
        if (code) (void)dispatch_prepare(rt);
        else if (!(code = code_here(rt, edge, &why_not))) return without_block(rt, why_not);
        edge = NULL;
        dispatch_trace(rt);
        laddr from = c->eip;
        int r = 0;
        const u8 shadow = c->intr_shadow;
        c->intr_shadow = 0; /* whatever runs now is the instruction behind */
        enum exit_reason why = (enum exit_reason)rt_enter(c, code);
        TRACE(&rt->trace, exits, from, "exit %s from %08x cpl %u\n", exit_names[why], from, c->cpl);
        switch (why) {
        case EXIT_JUMP: c->ctr.jc_misses++; break;
        case EXIT_CHAIN:
            edge = xl_edge(rt->xl, c->exit_arg);
            c->eip = xl_edge_target(edge);
            break;
        case EXIT_EMULATE:
        case EXIT_SIGNAL: r = emulate_at_host(rt); break;
        case EXIT_FAULT: r = window_fault(rt); break;
        case EXIT_NEXT:
            left_in_helper(rt);
            r = rt->step_result;
            rt->step_result = 0;
            break;
        case EXIT_KICKED: c->intr_shadow = shadow; break;
        }
        if (r) return r;
    }
    return 0;
}
