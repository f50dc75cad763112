/* Owns what loads a descriptor and what checks an access against one: segment registers, LDTR, TR, LAR to VERW, limits,
 * and the frames that transfers of control push and pop. SDM vol. 3, chapters 3 and 5; vol. 2 for each instruction.
 *
 *   I1  The hidden part of a segment register, its seg_complex word and its bits of the mode key change together.
 *       [seg_set]
 *   I2  A function that returns GUEST_FAULT has changed no register. It may have set an accessed bit, as a processor
 *       may that restarts the instruction.
 *
 * Enter at seg_load(), seg_linear(). */
#include "runtime/cpu/seg.h"
#include "runtime/cpu/cpu_priv.h"

/* ---- segment registers ---- */

/* SDM vol. 2, MOV: the stack segment must be writable data of exactly the current privilege. */
static int check_ss(struct cpu *c, u16 sel, struct desc *d)
{
    if (unlikely(sel_null(sel))) return guest_fault(c, V_GP, 0);
    int r = desc_need(c, sel, d, V_GP, 0);
    if (unlikely(r)) return r;
    if (unlikely(sel_rpl(sel) != c->cpl || desc_dpl(d) != c->cpl || !desc_is_writable_data(d)))
        return guest_fault(c, V_GP, sel_error(sel));
    if (unlikely(!desc_present(d))) return guest_fault(c, V_SS, sel_error(sel));
    return 0;
}

/* Data, or code that may be read; no more privileged than the program and its selector, unless conforming. */
static int check_data(struct cpu *c, u16 sel, struct desc *d)
{
    int r = desc_need(c, sel, d, V_GP, 0);
    if (unlikely(r)) return r;
    bool execute_only = (d->hi & (DH_CODE | DH_R)) == DH_CODE;
    if (unlikely(!(d->hi & DH_S) || execute_only || !desc_data_privilege_ok(d, c->cpl, sel_rpl(sel))))
        return guest_fault(c, V_GP, sel_error(sel));
    if (unlikely(!desc_present(d))) return guest_fault(c, V_NP, sel_error(sel));
    return 0;
}

int seg_load(struct cpu *c, enum segreg s, u16 sel)
{
    if (unlikely(!cpu_protected(c))) {
        if (c->eflags_sys & F_VM) seg_set_vm86(c, s, sel);
        else seg_set_real(c, s, sel);
        return 0;
    }
    if (sel_null(sel) && s != S_SS) {
        seg_set_null(c, s, sel);
        return 0;
    }
    struct desc d;
    int r = s == S_SS ? check_ss(c, sel, &d) : check_data(c, sel, &d);
    if (unlikely(r)) return r;
    if (unlikely(desc_mark(c, &d))) return GUEST_FAULT;
    struct seg n;
    desc_unpack(&d, sel, &n);
    seg_set(c, s, &n);
    return 0;
}

int seg_load_in_mode(struct cpu *c, enum segreg s, u16 sel, bool *same)
{
    const struct seg before = c->seg[s];
    u32 mode = c->mode;
    if (unlikely(seg_load(c, s, sel))) return GUEST_FAULT;
    *same = mode_translated(c->mode) == mode_translated(mode);
    if (!*same) seg_set(c, s, &before);
    return 0;
}

void seg_remember(struct cpu *c, enum segreg s, u16 sel, u32 mode)
{
    struct desc d = { 0 };
    if (!cpu_protected(c) || s == S_SS || s == S_CS || sel & 4 || c->mode != mode) return;
    if (!sel_null(sel) && desc_fetch(c, sel, &d)) {
        c->exc.valid = false; /* gone since: nothing to remember */
        return;
    }
    c->seg_memo[s][sel >> 3 & (SEG_MEMOS - 1)] = (struct seg_memo){ .raw = (u64)d.hi << 32 | d.lo,
                                                                    .key = SEG_MEMO_KEY(mode, sel),
                                                                    .complex = c->seg_complex[s],
                                                                    .seg = c->seg[s],
                                                                    .room = { c->seg_room[0][s], c->seg_room[1][s] } };
}

/* ---- accesses ---- */

int seg_linear(struct cpu *c, enum segreg s, u32 off, unsigned size, enum access acc, laddr *out)
{
    const struct seg *g = &c->seg[s];
    *out = g->base + off;
    if (likely(size == 0)) return 0;
    if (likely(!(c->seg_complex[s] & (acc == ACC_W ? 2u : 1u)))) return 0;

    bool ok = !(g->attr & SEG_UNUSABLE) && seg_in_limit(g, off, size);
    if (ok && cpu_protected(c)) {
        if (acc == ACC_W) ok = (g->attr & (SEG_CODE | SEG_W)) == SEG_W;
        else if (acc == ACC_R) ok = (g->attr & (SEG_CODE | SEG_R)) != SEG_CODE;
        else ok = g->attr & SEG_CODE;
    }
    return ok ? 0 : guest_fault(c, s == S_SS ? V_SS : V_GP, 0);
}

/* ---- LDTR and TR ---- */

int seg_lldt(struct cpu *c, u16 sel)
{
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (sel_null(sel)) {
        c->ldtr = (struct seg){ .sel = sel, .attr = SEG_UNUSABLE };
        return 0;
    }
    struct desc d;
    if (sel & 4) return guest_fault(c, V_GP, sel_error(sel));
    int r = desc_need(c, sel, &d, V_GP, 0);
    if (r) return r;
    if (d.hi & DH_S || desc_type(&d) != ST_LDT) return guest_fault(c, V_GP, sel_error(sel));
    if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel));
    desc_unpack(&d, sel, &c->ldtr);
    return 0;
}

int seg_ltr(struct cpu *c, u16 sel)
{
    struct desc d;
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (sel_null(sel)) return guest_fault(c, V_GP, 0);
    if (sel & 4) return guest_fault(c, V_GP, sel_error(sel));
    int r = desc_need(c, sel, &d, V_GP, 0);
    if (r) return r;
    if (!desc_is_tss(&d, false)) return guest_fault(c, V_GP, sel_error(sel));
    if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel));
    d.hi |= DH_BUSY;
    if (mem_write(c, d.la + 5, 1, false, d.hi >> 8 & 0xff)) return GUEST_FAULT;
    desc_unpack(&d, sel, &c->tr);
    return 0;
}

/* ---- questions about a selector: they answer in ZF and raise nothing but #UD and #PF ---- */

/* Is there a descriptor, and does privilege let the program know of it? */
static bool visible(struct cpu *c, u16 sel, struct desc *d, int *fault)
{
    *fault = 0;
    if (!cpu_protected(c)) {
        *fault = exc_raise(c, V_UD);
        return false;
    }
    if (sel_null(sel)) return false;
    int r = desc_fetch(c, sel, d);
    if (r == GUEST_FAULT) *fault = GUEST_FAULT;
    if (r) return false;
    if (!(d->hi & DH_S)) return c->cpl <= desc_dpl(d) && sel_rpl(sel) <= desc_dpl(d);
    return desc_data_privilege_ok(d, c->cpl, sel_rpl(sel));
}

bool seg_lar(struct cpu *c, u16 sel, u32 *out, int *fault)
{
    const u32 valid = 1u << ST_TSS16 | 1u << ST_LDT | 1u << ST_TSS16_BUSY | 1u << ST_CALL16 | 1u << ST_TASK_GATE
                      | 1u << ST_TSS32 | 1u << ST_TSS32_BUSY | 1u << ST_CALL32;
    struct desc d;
    if (!visible(c, sel, &d, fault)) return false;
    if (!(d.hi & DH_S) && !(valid >> desc_type(&d) & 1)) return false;
    *out = d.hi & 0x00f0ff00;
    return true;
}

bool seg_lsl(struct cpu *c, u16 sel, u32 *out, int *fault)
{
    const u32 valid = 1u << ST_TSS16 | 1u << ST_LDT | 1u << ST_TSS16_BUSY | 1u << ST_TSS32 | 1u << ST_TSS32_BUSY;
    struct desc d;
    if (!visible(c, sel, &d, fault)) return false;
    if (!(d.hi & DH_S) && !(valid >> desc_type(&d) & 1)) return false;
    *out = desc_limit(&d);
    return true;
}

bool seg_verr(struct cpu *c, u16 sel, bool write, int *fault)
{
    struct desc d;
    if (!visible(c, sel, &d, fault) || !(d.hi & DH_S)) return false;
    if (write) return desc_is_writable_data(&d);
    return !(d.hi & DH_CODE) || d.hi & DH_R;
}

/* ---- frames ---- */

int stack_room(struct cpu *c, const struct seg *ss, u32 sp, unsigned n, unsigned size, u32 error)
{
    u32 mask = seg_sp_mask(ss);
    for (unsigned i = 1; i <= n; i++)
        if (ss->attr & SEG_UNUSABLE || !seg_in_limit(ss, (sp - i * size) & mask, size))
            return guest_fault(c, V_SS, error);
    return 0;
}

int stack_push_slow(struct cpu *c, const struct seg *ss, u32 sp, const u32 *word, unsigned n, unsigned size, bool user,
                    u32 error)
{
    u32 mask = seg_sp_mask(ss);
    if (stack_room(c, ss, sp, n, size, error)) return GUEST_FAULT;
    for (unsigned i = 1; i <= n; i++)
        if (mem_probe_write(c, ss->base + ((sp - i * size) & mask), size, user)) return GUEST_FAULT;
    for (unsigned i = 1; i <= n; i++)
        if (mem_write(c, ss->base + ((sp - i * size) & mask), size, user, word[i - 1])) return GUEST_FAULT;
    return 0;
}

int stack_read_slow(struct cpu *c, u32 sp, u32 *word, unsigned n, unsigned size)
{
    const struct seg *ss = &c->seg[S_SS];
    u32 mask = seg_sp_mask(ss);
    for (unsigned i = 0; i < n; i++) {
        u32 off = (sp + i * size) & mask;
        u64 v;
        if (ss->attr & SEG_UNUSABLE || !seg_in_limit(ss, off, size)) return guest_fault(c, V_SS, 0);
        if (lin_read(c, ss->base + off, size, c->cpl == 3, &v)) return GUEST_FAULT;
        word[i] = (u32)v;
    }
    return 0;
}

int stack_inner(struct cpu *c, unsigned dpl, u32 ext, struct seg *ss, u32 *esp)
{
    bool tss32 = c->tr.attr & 8;
    u32 at = tss32 ? 4 + dpl * 8 : 2 + dpl * 4, len = tss32 ? 6 : 4;
    u64 lo, hi;
    if (unlikely(c->tr.attr & SEG_UNUSABLE || at + len - 1 > c->tr.limit))
        return guest_fault(c, V_TS, sel_error(c->tr.sel) | ext);
    unsigned size = tss32 ? 4 : 2;
    if (unlikely(lin_read(c, c->tr.base + at, size, false, &lo) || lin_read(c, c->tr.base + at + size, 2, false, &hi)))
        return GUEST_FAULT;
    u16 sel = (u16)hi;
    struct desc d;
    if (unlikely(sel_null(sel))) return guest_fault(c, V_TS, ext);
    int r = desc_need(c, sel, &d, V_TS, ext);
    if (unlikely(r)) return r;
    if (unlikely(sel_rpl(sel) != dpl || desc_dpl(&d) != dpl || !desc_is_writable_data(&d)))
        return guest_fault(c, V_TS, sel_error(sel) | ext);
    if (unlikely(!desc_present(&d))) return guest_fault(c, V_SS, sel_error(sel) | ext);
    if (unlikely(desc_mark(c, &d))) return GUEST_FAULT;
    desc_unpack(&d, sel, ss);
    *esp = (u32)lo;
    return 0;
}
