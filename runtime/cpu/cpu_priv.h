/* What cpu.c, seg.c, far.c, task.c and except.c share, and nobody else needs: descriptors as they lie in memory, the
 * mode key piece by piece, frames on a stack, and memory accesses that ask the soft TLB in line.
 *
 * A system call goes through all of this, so it is short and inline, and it is called by translated code while the
 * guest's x87/SSE state is in the host's registers: no floating-point register, no libc. */
#ifndef RUNTIME_CPU_PRIV_H
#define RUNTIME_CPU_PRIV_H
#include "runtime/cpu/except.h"
#include "runtime/mem/mmu.h"

/* What DR6 and DR7 hold once v has been written to them: their other bits are fixed. */
static inline u32 dr6_of(u32 v) { return (v & 0xe00f) | 0xffff0ff0; }
static inline u32 dr7_of(u32 v) { return (v & 0xffff23ff) | 0x400; }

/* Always GUEST_FAULT, and the compiler knows it. */
static inline int guest_fault(struct cpu *c, enum vector v, u32 error)
{
    exc_raise_err(c, v, error);
    return GUEST_FAULT;
}

/* ---- memory ---- */

struct unaligned16 {
    u16 v;
} __attribute__((packed, may_alias));
struct unaligned32 {
    u32 v;
} __attribute__((packed, may_alias));
struct unaligned64 {
    u64 v;
} __attribute__((packed, may_alias));

/* Host pointer to [la, la+n) if it lies in one page that the soft TLB knows, else NULL. */
static inline u8 *fast_ptr(struct cpu *c, laddr la, unsigned n, enum tlb_kind k)
{
    u64 entry = cpu_tlb(c, k)[la >> PAGE_SHIFT];
    return likely(entry && (la & ~PAGE_MASK) + n <= PAGE_SIZE) ? (u8 *)(entry + la) : NULL;
}

/* n is 2, 4 or 8. */
static inline int lin_read(struct cpu *c, laddr la, unsigned n, bool user, u64 *out)
{
    const u8 *p = fast_ptr(c, la, n, user ? TLB_USER_R : TLB_SUP_R);
    if (unlikely(!p)) return mem_read(c, la, n, user, out);
    *out = n == 4   ? ((const struct unaligned32 *)p)->v
           : n == 2 ? ((const struct unaligned16 *)p)->v
                    : ((const struct unaligned64 *)p)->v;
    return 0;
}

/* ---- descriptors ---- */

/* lo and hi as they lie in memory (SDM vol. 3, 3.4.5): the bits of hi that are looked at without unpacking. */
struct desc {
    u32 lo, hi;
    laddr la;
};
/* clang-format off */
enum desc_hi {
    DH_TYPE_SHIFT = 8, DH_TYPE = 0xf << 8, DH_A = 1 << 8, DH_W = 1 << 9, DH_R = 1 << 9, DH_BUSY = 1 << 9,
    DH_E = 1 << 10, DH_C = 1 << 10,
    DH_CODE = 1 << 11, DH_S = 1 << 12, DH_DPL_SHIFT = 13, DH_P = 1 << 15, DH_G = 1 << 23,
};
/* clang-format on */
/* System descriptor types (SDM vol. 3, table 3-2); 32-bit ones have bit 3 set. */
/* clang-format off */
enum sys_type {
    ST_TSS16 = 1, ST_LDT = 2, ST_TSS16_BUSY = 3, ST_CALL16 = 4, ST_TASK_GATE = 5, ST_INT16 = 6, ST_TRAP16 = 7,
    ST_TSS32 = 9, ST_TSS32_BUSY = 11, ST_CALL32 = 12, ST_INT32 = 14, ST_TRAP32 = 15,
};
/* clang-format on */

static inline bool sel_null(u16 sel) { return !(sel & 0xfffc); }
static inline unsigned sel_rpl(u16 sel) { return sel & 3; }
static inline u32 sel_error(u16 sel) { return sel & 0xfffcu; } /* error code: TI and index */

static inline unsigned desc_type(const struct desc *d) { return d->hi >> DH_TYPE_SHIFT & 0xf; }
static inline unsigned desc_dpl(const struct desc *d) { return d->hi >> DH_DPL_SHIFT & 3; }
static inline bool desc_present(const struct desc *d) { return d->hi & DH_P; }
static inline bool desc_is_code(const struct desc *d) { return (d->hi & (DH_S | DH_CODE)) == (DH_S | DH_CODE); }
static inline bool desc_is_writable_data(const struct desc *d)
{
    return (d->hi & (DH_S | DH_CODE | DH_W)) == (DH_S | DH_W);
}
static inline bool desc_is_tss(const struct desc *d, bool busy)
{
    return (d->hi & (DH_S | 7 << 8)) == (busy ? 3u << 8 : 1u << 8); /* types 1 and 9, or 3 and 11 */
}
static inline u32 desc_base(const struct desc *d) { return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000); }
static inline u32 desc_limit(const struct desc *d)
{
    u32 raw = (d->lo & 0xffff) | (d->hi & 0xf0000);
    return d->hi & DH_G ? raw << 12 | 0xfff : raw;
}
static inline void desc_unpack(const struct desc *d, u16 sel, struct seg *out)
{
    out->sel = sel;
    out->pad = 0;
    out->base = desc_base(d);
    out->limit = desc_limit(d);
    out->attr = d->hi >> 8 & 0xf0ff;
}

/* The descriptor that sel selects; sel is not null. DESC_OUTSIDE: beyond the table's limit, or there is no LDT. */
enum { DESC_OUTSIDE = 2 };
static inline int desc_fetch(struct cpu *c, u16 sel, struct desc *d)
{
    bool local = sel & 4;
    u32 limit = local ? c->ldtr.limit : c->gdtr.limit;
    if (unlikely((sel | 7u) > limit || (local && c->ldtr.attr & SEG_UNUSABLE))) return DESC_OUTSIDE;
    u64 v;
    d->la = (local ? c->ldtr.base : c->gdtr.base) + (sel & 0xfff8u);
    if (unlikely(lin_read(c, d->la, 8, false, &v))) return GUEST_FAULT;
    d->lo = (u32)v;
    d->hi = (u32)(v >> 32);
    return 0;
}

/* The same for callers to whom "outside the table" is the exception vec(sel). */
MUST_CHECK static inline int desc_need(struct cpu *c, u16 sel, struct desc *d, enum vector vec, u32 ext)
{
    int r = desc_fetch(c, sel, d);
    return likely(!r) ? 0 : r == DESC_OUTSIDE ? guest_fault(c, vec, sel_error(sel) | ext) : r;
}

/* Sets the accessed bit of a code or data descriptor. May fault; harmless to repeat or to do for nothing. */
MUST_CHECK static inline int desc_mark(struct cpu *c, struct desc *d)
{
    if (likely(d->hi & DH_A)) return 0;
    d->hi |= DH_A;
    return mem_write(c, d->la + 5, 1, false, d->hi >> 8 & 0xff);
}

/* The order of privileges that data segments demand. */
static inline bool desc_data_privilege_ok(const struct desc *d, unsigned cpl, unsigned rpl)
{
    bool conforming = (d->hi & (DH_CODE | DH_C)) == (DH_CODE | DH_C);
    unsigned dpl = desc_dpl(d);
    return conforming || (cpl <= dpl && rpl <= dpl);
}

/* ---- the mode key ---- */

#define MK_SEG_BITS (MK_CS32 | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT | MK_CSLIMIT)

/* What of the mode key does not come from a segment register. */
static inline void mode_refresh(struct cpu *c)
{
    u32 m = c->mode & MK_SEG_BITS;
    m |= c->cpl;
    if (likely(c->cr0 & CR0_PE)) m |= MK_PE;
    if (likely(c->cr0 & CR0_PG)) m |= MK_PG;
    if (unlikely(c->eflags_sys & F_VM)) m |= MK_VM;
    bool align = c->eflags_sys & F_AC && c->cr0 & CR0_AM && c->cpl == 3; /* translated code does not check alignment */
    if (unlikely(c->eflags_sys & F_TF || align || cpu_vip_due(c))) m |= MK_SLOW;
    if (unlikely(c->dr[7] & 0xff)) m |= MK_ARMED;
    c->mode = m;
}

/* See struct cpu.seg_complex. In real mode types are not looked at. */
static inline u32 seg_complexity(const struct cpu *c, const struct seg *s)
{
    if (s->limit != 0xffffffff || s->attr & SEG_UNUSABLE) return 3;
    if (unlikely(!cpu_protected(c))) return 0;
    if (s->attr & SEG_CODE) return s->attr & SEG_R ? 2 : 3;
    return s->attr & SEG_E ? 3 : s->attr & SEG_W ? 0 : 2;
}

/* See struct cpu.seg_room. */
static inline void seg_room_refresh(struct cpu *c, enum segreg r)
{
    const struct seg *s = &c->seg[r];
    u64 room = -((u64)s->limit + 1);
    bool code = s->attr & SEG_CODE, protected = cpu_protected(c);
    bool none = s->attr & SEG_UNUSABLE || (!code && s->attr & SEG_E);
    bool read = !none && (!protected || !code || s->attr & SEG_R);
    bool write = !none && (!protected || (!code && s->attr & SEG_W));
    c->seg_room[0][r] = read ? room : 0;
    c->seg_room[1][r] = write ? room : 0;
}

/* What of the mode key, of seg_complex and of seg_room comes from one segment register. */
static inline void seg_refresh(struct cpu *c, enum segreg r)
{
    static const u16 flat[S_COUNT] = { [S_ES] = MK_ESFLAT, [S_CS] = MK_CSFLAT, [S_SS] = MK_SSFLAT, [S_DS] = MK_DSFLAT };
    const struct seg *s = &c->seg[r];
    u32 complexity = seg_complexity(c, s), bits = 0;
    c->seg_complex[r] = complexity;
    seg_room_refresh(c, r);
    /* A flat CS is one to fetch and read from; the others must be writable too. */
    if (s->base == 0 && (complexity == 0 || (r == S_CS && complexity == 2))) bits = flat[r];
    u32 mask = flat[r];
    if (r == S_CS || r == S_SS) {
        u32 wide = r == S_CS ? MK_CS32 : MK_SS32;
        mask |= wide;
        if (s->attr & SEG_D) bits |= wide;
    }
    if (r == S_CS) {
        mask |= MK_CSLIMIT;
        if (s->limit != 0xffffffff) bits |= MK_CSLIMIT;
    }
    c->mode = (c->mode & ~mask) | bits;
}
/* What seg_refresh() looks at. Loads that change nothing of it are the rule: a kernel's entry and exit load flat
 * segments over flat ones. What CR0.PE and EFLAGS.VM add, cpu_update_mode() brings up to date when they change. */
static inline bool seg_same_shape(const struct seg *a, const struct seg *b)
{
    const u32 shape = SEG_UNUSABLE | SEG_CODE | SEG_E | SEG_W | SEG_D;
    return a->limit == b->limit && !((a->attr ^ b->attr) & shape) && !a->base == !b->base;
}
static inline void seg_set(struct cpu *c, enum segreg r, const struct seg *s)
{
    bool same = seg_same_shape(&c->seg[r], s);
    c->seg[r].sel = s->sel;
    c->seg[r].base = s->base;
    c->seg[r].limit = s->limit;
    c->seg[r].attr = s->attr;
    if (!same) seg_refresh(c, r);
}
static inline void seg_set_null(struct cpu *c, enum segreg r, u16 sel)
{
    struct seg s = { .sel = sel, .attr = SEG_UNUSABLE };
    seg_set(c, r, &s);
}
/* As virtual-8086 mode has it (SDM vol. 3, 20.1.1). */
static inline void seg_set_vm86(struct cpu *c, enum segreg r, u16 sel)
{
    struct seg s = {
        .sel = sel, .base = (u32)sel << 4, .limit = 0xffff, .attr = SEG_P | SEG_S | SEG_DPL | SEG_W | SEG_A
    };
    seg_set(c, r, &s);
}
/* As real-address mode has it: the limit and the size bit stay what they were ("unreal mode"). */
static inline void seg_set_real(struct cpu *c, enum segreg r, u16 sel)
{
    const struct seg *old = &c->seg[r];
    struct seg s = { .sel = sel,
                     .base = (u32)sel << 4,
                     .limit = old->attr & SEG_UNUSABLE ? 0xffff : old->limit,
                     .attr = SEG_P | SEG_S | SEG_W | SEG_A | (old->attr & (SEG_D | SEG_G)) };
    seg_set(c, r, &s);
}

/* Whether [off, off+size) is within the limit. A segment of 4 GiB wraps around (SDM vol. 3, 5.3 allows either). */
static inline bool seg_in_limit(const struct seg *s, u32 off, unsigned size)
{
    u32 last = off + size - 1;
    if (unlikely((s->attr & (SEG_S | SEG_CODE | SEG_E)) == (SEG_S | SEG_E))) {
        u32 top = s->attr & SEG_D ? 0xffffffff : 0xffff;
        return off > s->limit && last >= off && last <= top;
    }
    return s->limit == 0xffffffff || (last >= off && last <= s->limit);
}

/* ---- stacks ---- */

static inline u32 seg_sp_mask(const struct seg *ss) { return ss->attr & SEG_D ? 0xffffffff : 0xffff; }
static inline bool stack_is_flat32(const struct seg *ss)
{
    return ss->limit == 0xffffffff && (ss->attr & (SEG_D | SEG_E | SEG_CODE | SEG_UNUSABLE)) == SEG_D;
}

/* Host pointer to n bytes at an offset in a stack, if they are within its limit and a page that the soft TLB knows, and
 * the offset does not wrap around; else NULL. */
static inline u8 *stack_ptr(struct cpu *c, const struct seg *ss, u32 off, unsigned n, enum tlb_kind k)
{
    u32 last = off + n - 1;
    if (ss->attr & (SEG_E | SEG_CODE | SEG_UNUSABLE) || last < off || last > ss->limit || last > seg_sp_mask(ss))
        return NULL;
    return fast_ptr(c, ss->base + off, n, k);
}

/* Whether n words fit below sp, as far as the limit goes: #SS(error). (seg.c) */
MUST_CHECK int stack_room(struct cpu *c, const struct seg *ss, u32 sp, unsigned n, unsigned size, u32 error);
/* Pushes word[0..n), in that order, below sp in ss: all of them or, on a fault, none. error: of #SS. The caller moves
 * ESP by n * size. (seg.c) */
MUST_CHECK int stack_push_slow(struct cpu *c, const struct seg *ss, u32 sp, const u32 *word, unsigned n, unsigned size,
                               bool user, u32 error);
MUST_CHECK static inline int stack_push(struct cpu *c, const struct seg *ss, u32 sp, const u32 *word, unsigned n,
                                        unsigned size, bool user, u32 error)
{
    if (likely(size == 4 && stack_is_flat32(ss))) {
        u8 *p = fast_ptr(c, ss->base + sp - 4 * n, 4 * n, user ? TLB_USER_W : TLB_SUP_W);
        if (likely(p)) {
            for (unsigned i = 0; i < n; i++) ((struct unaligned32 *)p)[n - 1 - i].v = word[i];
            return 0;
        }
    } else {
        u32 off = (sp - n * size) & seg_sp_mask(ss);
        u8 *p = n ? stack_ptr(c, ss, off, n * size, user ? TLB_USER_W : TLB_SUP_W) : NULL;
        if (likely(p)) {
            for (unsigned i = 0; i < n; i++)
                if (size == 4) ((struct unaligned32 *)p)[n - 1 - i].v = word[i];
                else ((struct unaligned16 *)p)[n - 1 - i].v = (u16)word[i];
            return 0;
        }
    }
    return stack_push_slow(c, ss, sp, word, n, size, user, error);
}

/* Reads n words upwards from SS:sp of the present stack: #SS(0) beyond the limit. (seg.c) */
MUST_CHECK int stack_read_slow(struct cpu *c, u32 sp, u32 *word, unsigned n, unsigned size);
MUST_CHECK static inline int stack_read(struct cpu *c, u32 sp, u32 *word, unsigned n, unsigned size)
{
    const struct seg *ss = &c->seg[S_SS];
    if (likely(size == 4 && stack_is_flat32(ss))) {
        const u8 *p = fast_ptr(c, ss->base + sp, 4 * n, c->cpl == 3 ? TLB_USER_R : TLB_SUP_R);
        if (likely(p)) {
            for (unsigned i = 0; i < n; i++) word[i] = ((const struct unaligned32 *)p)[i].v;
            return 0;
        }
    } else {
        u32 off = sp & seg_sp_mask(ss);
        const u8 *p = n ? stack_ptr(c, ss, off, n * size, c->cpl == 3 ? TLB_USER_R : TLB_SUP_R) : NULL;
        if (likely(p)) {
            for (unsigned i = 0; i < n; i++)
                word[i] = size == 4 ? ((const struct unaligned32 *)p)[i].v : ((const struct unaligned16 *)p)[i].v;
            return 0;
        }
    }
    return stack_read_slow(c, sp, word, n, size);
}

/* ESP := val, or only SP if the stack is a 16-bit one. */
static inline void stack_set_sp(struct cpu *c, u32 val)
{
    u32 mask = seg_sp_mask(&c->seg[S_SS]);
    c->gpr[G_ESP] = (c->gpr[G_ESP] & ~mask) | (val & mask);
}

/* SS:ESP for privilege dpl out of the TSS, with all checks (SDM vol. 3, 5.8.5): #TS, #SS. ext: the EXT bit. (seg.c) */
MUST_CHECK int stack_inner(struct cpu *c, unsigned dpl, u32 ext, struct seg *ss, u32 *esp);

/* A data segment register that is too privileged for an outer ring becomes null (RET, IRET). */
static inline void seg_drop_privileged(struct cpu *c)
{
    static const u8 order[4] = { S_ES, S_DS, S_FS, S_GS };
    for (unsigned i = 0; i < 4; i++) {
        const struct seg *s = &c->seg[order[i]];
        if (s->attr & SEG_UNUSABLE) continue;
        bool conforming = (s->attr & (SEG_CODE | SEG_C)) == (SEG_CODE | SEG_C);
        if (!conforming && (s->attr & SEG_DPL) >> SEG_DPL_SHIFT < c->cpl) seg_set_null(c, (enum segreg)order[i], 0);
    }
}

/* ---- task switches (task.c) ---- */

enum task_how { TASK_JMP, TASK_CALL /* CALL, and gates in the IDT */, TASK_IRET };
/* The task switch is done, and loading the new task's state raised an exception, now in cpu->exc: it belongs to the new
 * task. */
#define TASK_FAULTED 3
/* Switches to the TSS that sel selects, whose descriptor *d has been checked for type, privilege and presence.
 * next: EIP to save for the old task. error: pushed on the new stack if not NULL. ext: EXT bit of error codes.
 * Returns 0, GUEST_FAULT (nothing done), or TASK_FAULTED. */
MUST_CHECK int task_switch(struct cpu *c, u16 sel, struct desc *d, enum task_how how, u32 next, const u32 *error,
                           u32 ext);
/* Through a task gate: finds and checks the TSS: #GP, #NP. */
MUST_CHECK int task_switch_gate(struct cpu *c, u16 sel, enum task_how how, u32 next, const u32 *error, u32 ext);
/* Where the JMP far or IRET at CS:EIP ends: the EIP that a task resumes at. */
MUST_CHECK int task_insn_end(struct cpu *c, u32 *next);
/* For instructions: delivers what TASK_FAULTED left behind, in the new task; what is left to report is 0 or
 * GUEST_FAULT. */
MUST_CHECK int task_settle(struct cpu *c, int r);

#endif
