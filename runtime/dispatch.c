/* Owns the way from one translated block to the next: look up, translate, link, enter, and the answer to each exit.
 *
 *   I1  A block is entered only after its linear page has been translated with the present page tables, or through a jump
 *       cache or edge that no flush since has invalidated.
 *   I2  A page with translated or decoded code has PG_CODE, and no soft-TLB write entry.  [source_at]
 *   I3  jump_mode says which mode key a jump cache's entries were made for; a change of it flushes that cache. */
#include "runtime/cpu_ops.h"
#include "runtime/interp.h"
#include "runtime/rt.h"

int rt_enter(struct cpu *c, const void *code); /* enter_x64.S */

static unsigned cpl_class(u32 mode) { return (mode & MK_CPL) == 3 ? XL_JC_USER : XL_JC_SUPERVISOR; }

/* ---- where the code is ---- */

static int fetch_page(struct rt *rt, laddr la, paddr *pa, const u8 **host)
{
    struct cpu *c = rt->cpu;
    bool user = c->cpl == 3;
    laddr page = la & PAGE_MASK;
    struct fetch_entry *f = &rt->fetch[(la >> PAGE_SHIFT) % FETCH_ENTRIES];
    if (!f->host || f->page != page || f->generation != c->tlb_generation || f->user != user) {
        paddr p;
        if (mmu_translate(c, page, ACC_X, user, &p)) return GUEST_FAULT;
        *f = (struct fetch_entry){ page, c->tlb_generation, user, p, bus_ram_ptr(rt->bus, p) };
    }
    *pa = f->pa;
    *host = f->host;
    return 0;
}

static void mark_code(struct rt *rt, paddr page)
{
    u8 *flags = bus_page_flags(rt->bus, page);
    if (*flags & PG_CODE) return;
    *flags |= PG_CODE;
    tlb_protect_phys(rt->cpu, page);
    TRACE(&rt->trace, smc, rt->cpu->eip, "smc: code page %llx\n", (unsigned long long)page);
}

/* Fills in what can be translated at eip. Returns 0, GUEST_FAULT (exception raised), or -1: not in RAM, interpret. */
static int source_at(struct rt *rt, laddr eip, struct xl_source *src)
{
    const u8 *host;
    paddr pa;
    if (fetch_page(rt, eip, &pa, &host)) return GUEST_FAULT;
    if (!host) return -1;
    unsigned off = eip & ~PAGE_MASK;
    *src = (struct xl_source){ .eip = eip, .pa = pa + off, .mode = rt->cpu->mode, .bytes = host + off, .nbytes = PAGE_SIZE - off, .pa2 = XL_NO_PAGE };
    return 0;
}

/* The page behind, for an instruction that may straddle: if it is not there the interpreter raises the fault. */
static bool source_next_page(struct rt *rt, struct xl_source *src)
{
    const u8 *host;
    if (fetch_page(rt, src->eip + PAGE_SIZE, &src->pa2, &host) || !host) {
        rt->cpu->exc.valid = false;
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
    return pa2 == XL_NO_PAGE || (source_next_page(rt, src) && src->pa2 == pa2);
}

static struct block *make_block(struct rt *rt, struct xl_source *src, bool *evicted)
{
    if (src->nbytes < 16 && src->pa2 == XL_NO_PAGE) source_next_page(rt, src);
    mark_code(rt, src->pa & ~(paddr)(PAGE_SIZE - 1));
    if (src->pa2 != XL_NO_PAGE) mark_code(rt, src->pa2);
    return xl_translate(rt->xl, src, evicted);
}

/* The block at cpu->eip: found, revived or made. NULL with *fault 0: interpret. */
static struct block *block_here(struct rt *rt, int *fault, bool *evicted)
{
    struct cpu *c = rt->cpu;
    struct xl_source src;
    *evicted = false;
    *fault = 0;
    c->ctr.lookups++;
    int st = source_at(rt, c->eip, &src);
    if (st) {
        *fault = st > 0;
        return NULL;
    }
    struct block *b = xl_find(rt->xl, src.eip, src.pa, src.mode);
    if (b && !block_current(rt, b, &src)) {
        xl_forget(rt->xl, b);
        b = NULL;
    }
    if (b && !xl_block_live(b)) {
        mark_code(rt, src.pa & ~(paddr)(PAGE_SIZE - 1));
        if (src.pa2 != XL_NO_PAGE) mark_code(rt, src.pa2);
        if (!xl_revive(rt->xl, b, &src)) b = NULL;
    }
    return b ? b : make_block(rt, &src, evicted);
}

/* The jump cache that translated code of the present privilege uses; emptied first if it was filled for another mode. */
enum xl_jump_cache dispatch_select_jump_cache(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    unsigned which = cpl_class(c->mode);
    if (rt->jump_mode[which] != c->mode) {
        rt->jump_mode[which] = c->mode;
        xl_jump_flush(rt->xl, which);
    }
    c->jump_cache = xl_jump_cache(rt->xl, which);
    return which;
}

void dispatch_on_tlb_flush(struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct rt *rt = c->rt;
    if (!rt->xl) return;
    if (kind == TLB_FLUSH_PAGE) {
        xl_jump_drop_page(rt->xl, XL_JC_SUPERVISOR, la);
        xl_jump_drop_page(rt->xl, XL_JC_USER, la);
        return;
    }
    xl_jump_flush(rt->xl, XL_JC_USER);
    xl_jump_flush(rt->xl, XL_JC_SUPERVISOR);
}

/* A write to a page with code, before it happens. Blocks that it overlaps go; a page that is written to often loses all of
 * them, and with them its protection, until it is executed again. */
#define CODE_WRITES_MAX 32
void dispatch_on_code_write(void *arg, paddr pa, u64 len)
{
    struct rt *rt = arg;
    for (u64 done = 0; done < len;) {
        paddr at = pa + done, page = at & ~(paddr)(PAGE_SIZE - 1);
        u64 n = page + PAGE_SIZE - at < len - done ? page + PAGE_SIZE - at : len - done;
        u8 *writes = &rt->code_writes[(page >> PAGE_SHIFT) % sizeof rt->code_writes];
        bool all = ++*writes >= CODE_WRITES_MAX || n == PAGE_SIZE;
        unsigned live = rt->xl ? xl_retire(rt->xl, all ? page : at, all ? PAGE_SIZE : (unsigned)n) : 0;
        interp_invalidate(rt->interp, page, PAGE_SIZE);
        if (!live) {
            *bus_page_flags(rt->bus, page) &= (u8)~PG_CODE;
            *writes = 0;
        }
        done += n;
    }
}

/* ---- exits ---- */

/* Raises what is in cpu->exc. */
static int deliver(struct rt *rt)
{
    rt->cpu->ctr.exceptions++;
    return exc_deliver(rt->cpu);
}

/* Interprets the instruction at eip; a shadow that it opens is only worth keeping if something is pending. */
static int emulate(struct rt *rt, laddr eip)
{
    struct cpu *c = rt->cpu;
    c->eip = eip;
    c->ctr.emulated++;
    int r = interp_one(rt->interp) ? deliver(rt) : 0;
    if (!c->irq_pending) c->intr_shadow = 0;
    return r;
}

static int emulate_at_host(struct rt *rt)
{
    struct xl_point at;
    BUG_ON(!xl_recover(rt->xl, rt->cpu->exit_arg, &at));
    return emulate(rt, at.eip);
}

int dispatch_translated(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    struct edge *edge = NULL; /* what led here, to be linked */
    while (!c->kick && !c->halted && !(c->irq_pending && (c->iflag || c->nmi_pending))) {
        int fault;
        bool evicted;
        if (!xl_can_translate(c->mode)) return 0;
        struct block *b = block_here(rt, &fault, &evicted);
        if (!b) return fault ? deliver(rt) : emulate(rt, c->eip);
        enum xl_jump_cache jc = dispatch_select_jump_cache(rt);
        if (edge && !evicted) xl_link(rt->xl, edge, b);
        else xl_jump_fill(rt->xl, jc, b);
        edge = NULL;
        TRACE(&rt->trace, exec, c->eip, "exec %08x: eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x fl %08x cpl %u\n", c->eip,
              c->gpr[0], c->gpr[1], c->gpr[2], c->gpr[3], c->gpr[4], c->gpr[5], c->gpr[6], c->gpr[7], cpu_eflags(c), c->cpl);
        int r = 0;
        switch ((enum exit_reason)rt_enter(c, xl_entry(rt->xl, b))) {
        case EXIT_JUMP:
            c->ctr.jc_misses++;
            break;
        case EXIT_CHAIN:
            edge = (struct edge *)c->exit_arg;
            c->eip = xl_edge_target(edge);
            break;
        case EXIT_EMULATE:
        case EXIT_SIGNAL:
        case EXIT_FAULT:
            r = emulate_at_host(rt);
            break;
        case EXIT_NEXT:
            break;
        }
        if (r) return r;
    }
    return 0;
}
