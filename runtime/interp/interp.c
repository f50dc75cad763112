/* The reference interpreter: the loop, and the cache of decoded blocks. What instructions do is in interp_*.c.
 *
 *   I1  A cached block's bytes are those in memory: its page has PG_CODE, and every write to such a page bumps the
 *       page's generation before it happens.                                  [block_make marks, interp_invalidate
 *       bumps]
 *   I2  A block lies within one page, and holds no instruction but the last that can change what its decoding or its
 *       way of accessing memory assumed (A_END, A_SHADOW).                  [block_make]
 *   I3  While a block runs cpu->eip is that of its first instruction, stale; it is right whenever a handler faults,
 *       jumps or the loop is left.                                           [run_block, step]
 *   I4  ip->state is what tlb_r, tlb_w, checked and single were made for; compared at every block entry.
 *
 * Enter at interp_run(). */
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/probe.h"
#include "runtime/interp/interp.h"
#include "runtime/interp/interp_core.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define INSN_BYTES_MAX 15u

/* ---- lifetime ---- */

/* Virgin pages cost nothing: most of struct interp and of the records is never touched by a small guest. */
static void *map_zero(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int interp_new(struct interp **out, struct cpu *c, struct decoder *d)
{
    struct interp *ip = map_zero(sizeof *ip);
    if (!ip) return -ENOMEM;
    ip->c = c;
    ip->dec = d;
    ip->state = ~0u;
    ip->recs = map_zero(IRECS * sizeof *ip->recs);
    int err = ip->recs ? hostexec_new(&ip->fpu) : -ENOMEM;
    if (err) {
        interp_free(ip);
        return err;
    }
    interp_flush(ip);
    *out = ip;
    return 0;
}

void interp_free(struct interp *ip)
{
    if (!ip) return;
    hostexec_free(ip->fpu);
    if (ip->recs) munmap(ip->recs, IRECS * sizeof *ip->recs);
    munmap(ip, sizeof *ip);
}

/* ---- what is cached, and when it no longer holds ---- */

static inline u64 *page_generation(struct interp *ip, paddr pa)
{
    return &ip->page_generation[(pa >> PAGE_SHIFT) % IPAGES];
}

/* Translated code that writes to a page with code may come here with the guest's x87/SSE state in the host's registers.
 */
#define KEEPS_FPU __attribute__((target("general-regs-only")))

KEEPS_FPU void interp_flush(struct interp *ip)
{
    for (unsigned i = 0; i < IPAGES; i++) ip->page_generation[i]++; /* so that 0, as in a virgin block, never matches */
    ip->recs_used = 0;
    ip->attention = 1;
}

KEEPS_FPU void interp_invalidate(struct interp *ip, paddr pa, u64 len)
{
    if (!len) return;
    u64 first = pa >> PAGE_SHIFT, last = (pa + len - 1) >> PAGE_SHIFT;
    if (last - first >= IPAGES) last = first + IPAGES - 1;
    for (u64 page = first; page <= last; page++) ip->page_generation[page % IPAGES]++;
    ip->attention = 1;
}

KEEPS_FPU void interp_attend(struct interp *ip) { ip->attention = 1; }

/* ---- where instructions are ---- */

/* Finds the physical page of linear la. Raises #PF. */
static int fetch_find(struct interp *ip, laddr la, struct ifetch **out)
{
    struct cpu *c = ip->c;
    bool user = c->cpl == 3;
    struct ifetch *f = &ip->fetch[(la >> PAGE_SHIFT) % IFETCHES];
    u32 tag = (la & PAGE_MASK) | (u32)user << 1 | 1;
    if (unlikely(f->tag != tag || f->generation != c->tlb_generation)) {
        paddr pa;
        if (mmu_translate(c, la, ACC_X, user, &pa)) return GUEST_FAULT;
        pa &= ~(paddr)(PAGE_SIZE - 1);
        *f = (struct ifetch){ tag, c->tlb_generation, pa, bus_ram_ptr(c->bus, pa) };
    }
    *out = f;
    return 0;
}

/* ---- decoding ---- */

static int do_invalid(struct interp *ip, struct cpu *c, const struct insn *in)
{
    (void)ip, (void)in;
    return exc_raise(c, V_UD);
}
static int do_too_long(struct interp *ip, struct cpu *c, const struct insn *in)
{
    (void)ip, (void)in;
    return exc_raise_err(c, V_GP, 0);
}

static interp_fn handler(const struct insn *in)
{
    interp_fn fn = NULL;
    if (in->id == INSN_INVALID || in->op == OP_UD2) return do_invalid;
    switch ((enum insn_class)in->row->cls) {
    case CLS_int:
    case CLS_bcd: fn = interp_int_handler(in); break;
    case CLS_ctl:
    case CLS_stack: fn = interp_ctl_handler(in); break;
    case CLS_string:
    case CLS_io: fn = interp_string_handler(in); break;
    case CLS_x87:
    case CLS_mmx:
    case CLS_sse: return interp_fpu_handler(in);
    default: break;
    }
    return fn ? fn : interp_sys_handler(in);
}

static bool ends_block(const struct insn *in) { return in->row->attr & (A_END | A_SHADOW); }

static u32 block_slot(paddr pa, u32 eip) { return (eip ^ eip >> 15 ^ (u32)(pa >> PAGE_SHIFT) * 0x9e37u) % IBLOCKS; }

/* Decodes the block at eip, of which left bytes are on its page. Returns the number of instructions: 0 if not even the
 * first one is whole. */
static unsigned block_decode(struct interp *ip, struct iblock *b, const u8 *bytes, unsigned left)
{
    b->recs = &ip->recs[ip->recs_used];
    b->n = b->bytes = 0;
    while (b->n < IBLOCK_MAX && b->bytes < left) {
        struct irec *r = &b->recs[b->n];
        if (decode(ip->dec, bytes + b->bytes, left - b->bytes, b->eip + b->bytes, b->code32, ip->c->model->features,
                   &r->in)
            != DECODE_OK)
            break;
        r->fn = handler(&r->in);
        b->n++;
        b->bytes += r->in.len;
        if (ends_block(&r->in)) break;
    }
    ip->recs_used += b->n;
    return b->n;
}

static struct iblock *block_make(struct interp *ip, struct iblock *b, const struct ifetch *f, laddr la)
{
    unsigned off = la & ~PAGE_MASK;
    if (*bus_page_flags(ip->c->bus, f->pa) & PG_MIXED) return NULL; /* nobody would tell of a write */
    bus_mark_code(ip->c->bus, f->pa);
    if (ip->recs_used + IBLOCK_MAX > IRECS) interp_flush(ip);
    *b = (struct iblock){ .pa = f->pa | off, .eip = ip->c->eip, .code32 = (ip->c->mode & MK_CS32) != 0 };
    if (!block_decode(ip, b, f->host + off, PAGE_SIZE - off)) return NULL;
    b->generation = *page_generation(ip, b->pa);
    return b;
}

/* How many bytes from eip on, of those an instruction may have, CS lets be fetched. One of 4 GiB wraps around. */
static unsigned bytes_within_limit(const struct cpu *c)
{
    u32 limit = c->seg[S_CS].limit, last = limit - c->eip;
    return limit != 0xffffffff && last < INSN_BYTES_MAX ? last + 1 : INSN_BYTES_MAX;
}

/* Where none is known the length is a guess, made from bytes that the limit may not let be fetched. */
static bool cut_by_limit(const struct cpu *c, const struct insn *in)
{
    u32 limit = c->seg[S_CS].limit;
    return in->row == &insn_rows[INSN_INVALID] && limit != 0xffffffff && limit - in->eip < INSN_BYTES_MAX - 1;
}

/* The instruction at eip alone, when it cannot be kept: on two pages, in ROM or a device, or among data. */
static int scratch_decode(struct interp *ip, laddr la)
{
    struct cpu *c = ip->c;
    struct irec *r = &ip->scratch;
    u8 bytes[INSN_BYTES_MAX] = { 0 };
    unsigned want = bytes_within_limit(c), got;
    if (mem_fetch(c, la, bytes, want, &got)) return GUEST_FAULT;
    switch (decode(ip->dec, bytes, got, c->eip, (c->mode & MK_CS32) != 0, c->model->features, &r->in)) {
    case DECODE_OK: r->fn = handler(&r->in); return 0;
    case DECODE_TOO_LONG:
        r->in.next = c->eip;
        r->fn = do_too_long;
        return 0;
    case DECODE_TRUNCATED: break;
    }
    if (got >= want) return exc_raise_err(c, V_GP, 0); /* too long, or across the limit of CS */
    return mem_fetch(c, la + got, bytes, 1, &got);     /* the page behind is what faults */
}

/* The block at cpu->eip, or a block of one that is not kept. Returns NULL with an exception raised. */
static const struct iblock *block_here(struct interp *ip, struct iblock *one)
{
    struct cpu *c = ip->c;
    struct ifetch *f;
    laddr la = c->eip + c->seg[S_CS].base;
    if (unlikely(c->eip > c->seg[S_CS].limit)) {
        exc_raise_err(c, V_GP, 0);
        return NULL;
    }
    if (fetch_find(ip, la, &f)) return NULL;
    if (likely(f->host != NULL)) {
        paddr pa = f->pa | (la & ~PAGE_MASK);
        struct iblock *b = &ip->blocks[block_slot(pa, c->eip)];
        u32 code32 = (c->mode & MK_CS32) != 0;
        if (likely(b->pa == pa && b->eip == c->eip && b->code32 == code32 && b->generation == *page_generation(ip, pa))
            || block_make(ip, b, f, la)) {
            if (likely(!cut_by_limit(c, &b->recs[0].in))) return b;
        } else b->generation = 0;
    }
    if (scratch_decode(ip, la)) return NULL;
    *one = (struct iblock){ .eip = c->eip, .recs = &ip->scratch, .n = 1, .bytes = ip->scratch.in.len };
    return one;
}

static bool insn_within_limit(const struct cpu *c, const struct insn *in)
{
    u32 last = in->eip + in->len - 1;
    return last >= in->eip && last <= c->seg[S_CS].limit;
}

/* A CS with a limit: what of the block lies within it. What is at its begin has been looked at by block_here(). */
static unsigned block_within_limit(struct cpu *c, const struct iblock *b, unsigned n)
{
    unsigned whole = 0;
    while (whole < n && insn_within_limit(c, &b->recs[whole].in) && !(whole && cut_by_limit(c, &b->recs[whole].in)))
        whole++;
    if (!whole) exc_raise_err(c, V_GP, 0);
    return whole;
}

/* ---- state that the fast path takes for granted ---- */

#define STATE_SHADOW (1u << 31)
static u32 interp_state(const struct cpu *c)
{
    return c->mode | (c->eflags_sys & (F_AC | F_RF)) | (c->intr_shadow ? STATE_SHADOW : 0);
}
/* One instruction at a time, with everything looked at that may happen before and after it. */
#define STATE_CAREFUL (MK_SLOW | MK_ARMED | F_RF | STATE_SHADOW)

static bool alignment_checked(const struct cpu *c)
{
    return c->cpl == 3 && (c->cr0 & CR0_AM) && (c->eflags_sys & F_AC);
}

/* Behind each soft-TLB table lies address space that reads as zero: a table in which everything misses. */
static void state_update(struct interp *ip, u32 state)
{
    struct cpu *c = ip->c;
    bool user = c->cpl == 3, breakpoints = c->dr[7] & 0xff;
    ip->state = state;
    ip->single = breakpoints || (c->eflags_sys & F_TF) || ip->stepped;
    ip->checked = breakpoints || alignment_checked(c) || (c->probes && c->probes->accesses);
    ip->tlb_r = cpu_tlb(c, user ? TLB_USER_R : TLB_SUP_R) + (ip->checked ? TLB_PAGES : 0);
    ip->tlb_w = cpu_tlb(c, user ? TLB_USER_W : TLB_SUP_W) + (ip->checked ? TLB_PAGES : 0);
}

/* ---- running ---- */

/* Runs up to n instructions of b. Returns the status of the last; *done says how many were completed. */
static inline int run_block(struct interp *ip, struct cpu *c, const struct iblock *b, unsigned n, unsigned *done)
{
    const struct irec *r = b->recs, *end = r + n;
    int st;
    ip->attention = 0;
    for (;;) {
        st = r->fn(ip, c, &r->in);
        if (unlikely(st)) break;
        if (unlikely(++r == end || ip->attention)) {
            c->eip = r[-1].in.next;
            *done = (unsigned)(r - b->recs);
            cpu_tally(c)[TALLY_INSNS] += *done;
            return ST_NEXT;
        }
    }
    *done = (unsigned)(r - b->recs) + (st != ST_FAULT);
    cpu_tally(c)[TALLY_INSNS] += *done - (st == ST_AGAIN || st == ST_WAIT);
    if (st == ST_FAULT) breaks_forget(&c->watch->breaks);
    if (st != ST_JUMP) c->eip = r->in.eip;
    return st;
}

/* Instruction breakpoints (SDM vol. 3, 17.2): a fault, before the instruction. Returns bits of DR6. The one fault whose
 * image of EFLAGS does not have RF set (17.3.1.1): setting it is up to the handler. */
static u32 instruction_breakpoints(struct cpu *c, laddr la)
{
    u32 dr7 = c->dr[7], hits = 0;
    for (unsigned i = 0; i < 4; i++)
        if ((dr7 >> 2 * i & 3) && !(dr7 >> (16 + 4 * i) & 15) && c->dr[i] == la) hits |= 1u << i;
    return c->eflags_sys & F_RF ? 0 : hits;
}

static bool is_soft_int(const struct insn *in)
{
    return in->op == OP_INT || in->op == OP_INT3 || in->op == OP_INTO || in->op == OP_INT1;
}
/* Those that load RF themselves. */
static bool loads_rf(const struct insn *in)
{
    return in->op == OP_IRET || in->op == OP_CALLF || in->op == OP_JMPF || is_soft_int(in);
}

#define AGAIN (1ull << 32)

void interp_told(struct interp *ip, laddr la) { ip->again = AGAIN | la; }

/* One instruction, with interrupt shadow, RF, single-step and breakpoints. A trap after it is raised, with eip behind
 * it. */
static int step(struct interp *ip)
{
    struct cpu *c = ip->c;
    struct iblock one;
    unsigned done;
    u8 shadow = c->intr_shadow, pending = c->debug_pending;
    bool tf = c->eflags_sys & F_TF, rf = c->eflags_sys & F_RF;
    u32 state = interp_state(c);
    if (state != ip->state) state_update(ip, state);
    u32 hits = ip->single && shadow != SHADOW_SS ? instruction_breakpoints(c, c->eip + c->seg[S_CS].base) : 0;
    if (hits) return exc_raise_db(c, hits);
    if (cpu_vip_due(c)) return exc_raise_err(c, V_GP, 0);
    const struct iblock *b = block_here(ip, &one);
    if (!b) return ST_FAULT;
    if (c->mode & MK_CSLIMIT && !block_within_limit(c, b, 1)) return ST_FAULT;
    const struct insn in = b->recs[0].in; /* a copy: the block may be overwritten by what it does */
    ip->watch_hits = pending;
    ip->last_op = in.op;
    const struct probe_hooks *probes = unlikely(c->probes != NULL) && c->probes->insns ? c->probes : NULL;
    laddr la = c->eip + c->seg[S_CS].base;
    u8 cpl = c->cpl;
    if (unlikely(probes != NULL)) {
        if (probes->begins(probes->arg, c, &in, ip->again == (AGAIN | la))) {
            c->eip = in.next;
            return ST_JUMP;
        }
        ip->again = 0;
        ip->block_over = in.row->attr & A_END;
    }
    c->intr_shadow = SHADOW_NONE;
    c->debug_pending = 0;
    int st = run_block(ip, c, b, 1, &done);
    if (unlikely(probes != NULL)) {
        if (st == ST_AGAIN || st == ST_WAIT) ip->again = AGAIN | la;
        else if (st != ST_FAULT) probes->done(probes->arg, c, &in, la, cpl);
    }
    if (st == ST_FAULT) { /* which forgets what was pending */
        c->intr_shadow = shadow;
        return ST_FAULT;
    }
    if (unlikely(st == ST_WAIT)) { /* an interrupt may come, whatever was before */
        c->debug_pending = pending;
        return st;
    }
    if (st == ST_AGAIN) c->intr_shadow = shadow;
    else if (rf && !loads_rf(&in)) c->eflags_sys &= ~(u32)F_RF;
    if (c->intr_shadow == SHADOW_SS) {
        c->debug_pending = ip->watch_hits;
        return st;
    }
    if (is_soft_int(&in) && st == ST_JUMP) tf = false; /* entering the handler has cleared TF */
    if (likely(!tf && !ip->watch_hits)) return st;
    c->halted = 0;
    return exc_raise_db(c, ip->watch_hits | (tf ? DR6_BS : 0));
}

void interp_probes_changed(struct interp *ip) { ip->state = ~0u; }

u16 interp_last_op(const struct interp *ip) { return ip->last_op; }

int interp_one(struct interp *ip)
{
    ip->c->ctr.interp_insns++;
    return step(ip) == ST_FAULT ? GUEST_FAULT : 0;
}

/* Whether the caller could deliver something now. */
static bool interrupt_window(const struct cpu *c)
{
    return c->irq_pending && !c->intr_shadow && (c->iflag || (c->nmi_pending && !c->nmi_blocked));
}

static int deliver(struct interp *ip)
{
    ip->c->ctr.exceptions++;
    return exc_deliver(ip->c);
}

bool interp_breaks(struct cpu *c)
{
    struct breaks *b = &c->watch->breaks;
    laddr la = c->eip + c->seg[S_CS].base;
    if (likely(!breaks_near(b, la)) || !breaks_code(b, la)) return false;
    breaks_meet(b, (struct break_point){ la, 1, WATCH_FETCHES });
    return true;
}

/* In a page with breakpoints one instruction is done at a time. */
static bool break_near(const struct cpu *c)
{
    const struct breaks *b = &c->watch->breaks;
    return unlikely(b->code) && breaks_near(b, c->eip + c->seg[S_CS].base);
}

/* One instruction, of which probes may want to know. A block begins where control has been transferred to. */
static int advance_told(struct interp *ip, struct cpu *c, u64 *n)
{
    const struct probe_hooks *probes = c->probes;
    if (ip->block_over && probes->blocks) probes->entered(probes->arg, c);
    --*n;
    ip->block_over = false;
    int st = step(ip);
    if (st == ST_FAULT) ip->block_over = true;
    return st;
}

/* Runs one block, or one instruction where care is needed. Counts down *n; returns a status. */
static inline int advance(struct interp *ip, struct cpu *c, u64 *n)
{
    struct iblock one;
    unsigned todo, done;
    u32 state = interp_state(c);
    if (unlikely(state != ip->state)) state_update(ip, state);
    if (unlikely(c->probes != NULL) && c->probes->insns) return advance_told(ip, c, n);
    if (unlikely(state & STATE_CAREFUL) || break_near(c)) {
        --*n;
        return step(ip);
    }
    const struct iblock *b = block_here(ip, &one);
    if (unlikely(!b)) return ST_FAULT;
    todo = likely(b->n <= *n) ? b->n : (unsigned)*n;
    if (unlikely(c->mode & MK_CSLIMIT)) {
        todo = block_within_limit(c, b, todo);
        if (!todo) return ST_FAULT;
    }
    int st = run_block(ip, c, b, todo, &done);
    *n -= done;
    return st;
}

static enum interp_stop run(struct interp *ip, struct cpu *c, u64 *n)
{
    while (*n) {
        if (unlikely(c->watch->breaks.code) && !ip->stepped && interp_breaks(c)) return INTERP_KICK;
        int st = advance(ip, c, n);
        if (unlikely(st == ST_FAULT)) {
            if (deliver(ip) == EXC_SHUTDOWN) return INTERP_SHUTDOWN;
            if (*n) --*n; /* a guest that only faults must not run for ever */
        }
        if (unlikely(c->kick)) return INTERP_KICK;
        if (unlikely(c->halted)) return INTERP_HLT;
        if (unlikely(c->irq_pending) && interrupt_window(c)) return INTERP_INT_WINDOW;
    }
    return INTERP_BUDGET;
}

enum interp_stop interp_run(struct interp *ip, u64 n)
{
    u64 left = n;
    enum interp_stop why = run(ip, ip->c, &left);
    ip->c->ctr.interp_insns += n - left;
    return why;
}

enum interp_stop interp_step(struct interp *ip)
{
    ip->stepped = true;
    ip->state = ~0u; /* what it was made for did not know of steps */
    enum interp_stop why = interp_run(ip, 1);
    ip->stepped = false;
    ip->state = ~0u;
    return why;
}
