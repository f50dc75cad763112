/* Owns the task switch (SDM vol. 3, chapter 7): saving the old task in its TSS, loading the new one from its own.
 *
 *   I1  Up to commit() nothing is changed: both TSSs, both descriptors and the page directory pointers have been read
 *       or probed by then.
 *   I2  From commit() on the new task is the current one. An exception while its segments are loaded belongs to it
 *       (TASK_FAULTED): a selector whose descriptor did not load is in its register, with the register unusable.
 *
 * Guest FPU state is left alone: CR0.TS makes its first use in the new task trap. */
#include "runtime/cpu/probe.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_priv.h"

/* Where things lie in a TSS (SDM vol. 3, figures 7-2 and 7-10). */
struct tss_layout {
    u8 eip, gpr, seg, ldt;   /* first byte of EIP, EAX, ES and the LDT selector */
    u8 word, nseg, seg_step; /* bytes of a register, number of segment registers, bytes from one to the next */
    u8 dynamic;              /* [eip, eip + dynamic) is what is saved */
    u8 size;
};
static const struct tss_layout tss32 = { .eip = 0x20,
                                         .gpr = 0x28,
                                         .seg = 0x48,
                                         .ldt = 0x60,
                                         .word = 4,
                                         .nseg = 6,
                                         .seg_step = 4,
                                         .dynamic = 0x40,
                                         .size = 0x68 };
static const struct tss_layout tss16 = { .eip = 0x0e,
                                         .gpr = 0x12,
                                         .seg = 0x22,
                                         .ldt = 0x2a,
                                         .word = 2,
                                         .nseg = 4,
                                         .seg_step = 2,
                                         .dynamic = 0x1c,
                                         .size = 0x2c };
#define TSS32_CR3 0x1c
#define TSS32_TRAP 0x64
#define TSS_MAX 0x68

static u32 get(const u8 *tss, unsigned at, unsigned n)
{
    u32 v = 0;
    while (n--) v = v << 8 | tss[at + n];
    return v;
}
static void put(u8 *tss, unsigned at, unsigned n, u32 v)
{
    for (; n--; v >>= 8) tss[at++] = (u8)v;
}

/* ---- the old task ---- */

static void fill_old(const struct cpu *c, const struct tss_layout *l, u8 *image, u32 eip, u32 eflags)
{
    put(image, l->eip, l->word, eip);
    put(image, l->eip + l->word, l->word, eflags);
    for (unsigned i = 0; i < 8; i++) put(image, l->gpr + i * l->word, l->word, c->gpr[i]);
    for (unsigned i = 0; i < l->nseg; i++) put(image, l->seg + i * l->seg_step, 2, c->seg[i].sel);
}

/* Clears or sets the busy bit of a TSS descriptor that has been probed. */
static int set_busy(struct cpu *c, laddr desc, bool busy)
{
    u64 v;
    if (mem_read(c, desc + 5, 1, false, &v)) return GUEST_FAULT;
    return mem_write(c, desc + 5, 1, false, busy ? v | DH_BUSY >> 8 : v & ~(u64)(DH_BUSY >> 8));
}

/* ---- the new task's segments, after the switch ---- */

static int load_ldt(struct cpu *c, u16 sel)
{
    struct desc d;
    c->ldtr = (struct seg){ .sel = sel, .attr = SEG_UNUSABLE };
    if (sel_null(sel)) return 0;
    if (sel & 4) return guest_fault(c, V_TS, sel_error(sel));
    int r = desc_need(c, sel, &d, V_TS, 0);
    if (r) return r;
    if (d.hi & DH_S || desc_type(&d) != ST_LDT || !desc_present(&d)) return guest_fault(c, V_TS, sel_error(sel));
    desc_unpack(&d, sel, &c->ldtr);
    return 0;
}

/* The checks of one selector; d is what it selects. *absent: what to raise if it is not present. */
static bool task_seg_ok(const struct cpu *c, enum segreg s, u16 sel, const struct desc *d, enum vector *absent)
{
    unsigned rpl = sel_rpl(sel), dpl = desc_dpl(d);
    *absent = s == S_SS ? V_SS : V_NP;
    if (s == S_CS) return desc_is_code(d) && (d->hi & DH_C ? dpl <= rpl : dpl == rpl);
    if (s == S_SS) return desc_is_writable_data(d) && dpl == c->cpl && rpl == c->cpl;
    return d->hi & DH_S && (d->hi & (DH_CODE | DH_R)) != DH_CODE && desc_data_privilege_ok(d, c->cpl, rpl);
}

static int load_task_seg(struct cpu *c, enum segreg s, u16 sel, u32 ext)
{
    struct desc d;
    enum vector absent;
    struct seg n;
    if (sel_null(sel)) return s == S_CS || s == S_SS ? guest_fault(c, V_TS, sel_error(sel) | ext) : 0;
    int r = desc_need(c, sel, &d, V_TS, ext);
    if (r) return r;
    if (!task_seg_ok(c, s, sel, &d, &absent)) return guest_fault(c, V_TS, sel_error(sel) | ext);
    if (!desc_present(&d)) return guest_fault(c, absent, sel_error(sel) | ext);
    if (desc_mark(c, &d)) return GUEST_FAULT;
    desc_unpack(&d, sel, &n);
    seg_set(c, s, &n);
    return 0;
}

static int load_segments(struct cpu *c, const u16 *sel, u16 ldt, u32 ext)
{
    static const u8 order[S_COUNT] = { S_CS, S_SS, S_ES, S_DS, S_FS, S_GS };
    if (load_ldt(c, ldt)) return GUEST_FAULT;
    if (c->eflags_sys & F_VM) return 0;
    for (unsigned i = 0; i < S_COUNT; i++)
        if (load_task_seg(c, (enum segreg)order[i], sel[order[i]], ext)) return GUEST_FAULT;
    return 0;
}

/* ---- the switch ---- */

struct switch_plan {
    struct seg tr; /* the new TR */
    laddr new_desc, old_desc;
    const struct tss_layout *l; /* of the new TSS */
    const u8 *image;            /* of the new TSS */
    enum task_how how;
    bool paging_changes;
    u32 cr3;
    u64 pdpte[4];
};

/* Everything but the descriptors of the new segments; cannot fail. */
static void commit(struct cpu *c, const struct switch_plan *p, u16 *sel)
{
    const struct tss_layout *l = p->l;
    u32 eflags = get(p->image, l->eip + l->word, l->word) & (~(u32)F_SYS | c->eflags_known);
    if (p->how == TASK_CALL) eflags |= F_NT;
    c->tr = p->tr;
    c->tr.attr |= 2; /* busy */
    c->cr0 |= CR0_TS;
    if (p->paging_changes) {
        c->cr3 = p->cr3;
        for (unsigned i = 0; i < 4; i++) c->pdpte[i] = p->pdpte[i];
        tlb_flush_nonglobal(c);
    }
    c->dr[7] &= ~0x155u; /* the local breakpoints: L0-L3, LE */
    c->eip = get(p->image, l->eip, l->word);
    cpu_set_eflags(c, eflags);
    for (unsigned i = 0; i < 8; i++) {
        u32 v = get(p->image, l->gpr + i * l->word, l->word);
        c->gpr[i] = l->word == 4 ? v : (c->gpr[i] & 0xffff0000) | v;
    }
    for (unsigned i = 0; i < S_COUNT; i++) {
        sel[i] = i < l->nseg ? (u16)get(p->image, l->seg + i * l->seg_step, 2) : 0;
        if (eflags & F_VM) seg_set_vm86(c, (enum segreg)i, sel[i]);
        else seg_set_null(c, (enum segreg)i, sel[i]);
    }
    c->cpl = eflags & F_VM ? 3 : sel_rpl(sel[S_CS]);
    cpu_update_mode(c);
}

/* Reads and probes all that the switch will touch; fills in the plan. */
static int prepare(struct cpu *c, u16 sel, struct switch_plan *p, u8 *image, u32 ext)
{
    const struct tss_layout *l = p->l, *old = c->tr.attr & 8 ? &tss32 : &tss16;
    if (p->tr.limit < l->size - 1u) return guest_fault(c, V_TS, sel_error(sel) | ext);
    if (c->tr.attr & SEG_UNUSABLE || c->tr.limit < old->size - 1u)
        return guest_fault(c, V_TS, sel_error(c->tr.sel) | ext);
    if (mem_read_buf(c, p->tr.base, image, l->size, false)) return GUEST_FAULT;
    if (p->how == TASK_CALL && mem_probe_write(c, p->tr.base, 2, false)) return GUEST_FAULT;
    if (mem_probe_write(c, c->tr.base + old->eip, old->dynamic, false)) return GUEST_FAULT;
    if (mem_probe_write(c, p->new_desc + 5, 1, false) || mem_probe_write(c, p->old_desc + 5, 1, false))
        return GUEST_FAULT;
    p->cr3 = l->word == 4 ? get(image, TSS32_CR3, 4) : c->cr3;
    p->paging_changes = c->cr0 & CR0_PG && p->cr3 != c->cr3;
    for (unsigned i = 0; i < 4; i++) p->pdpte[i] = c->pdpte[i];
    if (p->paging_changes && c->cr4 & CR4_PAE) return cpu_read_pdptes(c, p->cr3, p->pdpte);
    return 0;
}

/* Writes what the old task leaves behind. All of it has been probed, through the old task's page tables. */
static int save_old(struct cpu *c, const struct switch_plan *p, u32 next)
{
    const struct tss_layout *old = c->tr.attr & 8 ? &tss32 : &tss16;
    u8 image[TSS_MAX] = { 0 };
    u32 eflags = cpu_eflags(c);
    if (p->how == TASK_IRET) eflags &= ~(u32)F_NT;
    fill_old(c, old, image, next, eflags);
    /* Selectors are 16 bits of 32: the upper halves in a 32-bit TSS are reserved, and written as zero. */
    if (mem_write_buf(c, c->tr.base + old->eip, image + old->eip, old->dynamic, false)) return GUEST_FAULT;
    if (p->how != TASK_CALL && set_busy(c, p->old_desc, false)) return GUEST_FAULT;
    if (p->how != TASK_IRET && set_busy(c, p->new_desc, true)) return GUEST_FAULT;
    return p->how == TASK_CALL ? mem_write(c, p->tr.base, 2, false, c->tr.sel) : 0;
}

/* The error code goes on the new task's stack, in the new TSS's word size. */
static int push_error(struct cpu *c, const u32 *error, unsigned size, u32 ext)
{
    if (!error) return 0;
    if (stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], error, 1, size, c->cpl == 3, ext)) return GUEST_FAULT;
    stack_set_sp(c, c->gpr[G_ESP] - size);
    return 0;
}

int task_switch(struct cpu *c, u16 sel, struct desc *d, enum task_how how, u32 next, const u32 *error, u32 ext)
{
    u8 image[TSS_MAX];
    u16 segs[S_COUNT];
    /* Translated code with live FPU state takes any fault as "let the interpreter do it"; CR0.TS must not be set under
     * it. */
    if (c->fpu_hot) return GUEST_FAULT;
    struct switch_plan p = { .how = how,
                             .new_desc = d->la,
                             .old_desc = c->gdtr.base + (c->tr.sel & 0xfff8u),
                             .l = d->hi & 8 << DH_TYPE_SHIFT ? &tss32 : &tss16,
                             .image = image };
    desc_unpack(d, sel, &p.tr);
    if (prepare(c, sel, &p, image, ext) || save_old(c, &p, next)) return GUEST_FAULT;
    bool trap = p.l == &tss32 && image[TSS32_TRAP] & 1;
    commit(c, &p, segs);
    if (p.paging_changes) probe_tell(c, EV_CR3, c->cr3, 4, c->cr3, 0);
    probe_tell(c, EV_TASK, c->tr.sel, 2, c->tr.sel, 0);
    if (load_segments(c, segs, (u16)get(image, p.l->ldt, 2), ext)) return TASK_FAULTED;
    if (push_error(c, error, p.l->word, ext)) return TASK_FAULTED;
    if (c->eip > c->seg[S_CS].limit) {
        exc_raise_err(c, V_GP, ext);
        return TASK_FAULTED;
    }
    if (trap) {
        exc_raise_db(c, DR6_BT);
        return TASK_FAULTED;
    }
    return 0;
}

int task_switch_gate(struct cpu *c, u16 sel, enum task_how how, u32 next, const u32 *error, u32 ext)
{
    struct desc d;
    if (sel_null(sel) || sel & 4) return guest_fault(c, V_GP, sel_error(sel) | ext);
    int r = desc_need(c, sel, &d, V_GP, ext);
    if (r) return r;
    if (!desc_is_tss(&d, false)) return guest_fault(c, V_GP, sel_error(sel) | ext);
    if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel) | ext);
    return task_switch(c, sel, &d, how, next, error, ext);
}

/* If even the new task's double fault cannot be delivered, it is raised once more: it will fail in the same way where
 * the caller can say so. */
int task_settle(struct cpu *c, int r)
{
    if (r != TASK_FAULTED) return r;
    return exc_deliver(c) == EXC_SHUTDOWN ? guest_fault(c, V_DF, 0) : 0;
}

/* ---- lengths ---- */

static int code_byte(struct cpu *c, u32 off, u8 *b)
{
    u64 v;
    if (mem_read(c, c->seg[S_CS].base + off, 1, c->cpl == 3, &v)) return GUEST_FAULT;
    *b = (u8)v;
    return 0;
}

/* Bytes of ModRM, SIB and displacement. */
static unsigned modrm_length(u8 modrm, u8 sib, bool addr32)
{
    unsigned mod = modrm >> 6, rm = modrm & 7;
    if (mod == 3) return 1;
    if (!addr32) return mod == 1 ? 2 : mod == 2 || rm == 6 ? 3 : 1;
    unsigned n = rm == 4 ? 2 : 1;
    bool disp32 = mod == 2 || (mod == 0 && (rm == 5 || (rm == 4 && (sib & 7) == 5)));
    return n + (mod == 1 ? 1 : disp32 ? 4 : 0);
}

int task_insn_end(struct cpu *c, u32 *next)
{
    bool code32 = c->seg[S_CS].attr & SEG_D, data32 = code32, addr32 = code32;
    u32 at = c->eip;
    u8 op = 0, modrm = 0, sib = 0;
    for (unsigned i = 0; i < 15; i++) {
        if (code_byte(c, at++, &op)) return GUEST_FAULT;
        if (op == 0x66) data32 = !code32;
        else if (op == 0x67) addr32 = !code32;
        else if (op != 0x26 && op != 0x2e && op != 0x36 && op != 0x3e && op != 0x64 && op != 0x65 && op != 0xf0
                 && op != 0xf2 && op != 0xf3)
            break;
    }
    if (op == 0xea) at += data32 ? 6 : 4;
    if (op == 0xff) {
        if (code_byte(c, at, &modrm)) return GUEST_FAULT;
        if (addr32 && (modrm & 7) == 4 && modrm < 0xc0 && code_byte(c, at + 1, &sib)) return GUEST_FAULT;
        at += modrm_length(modrm, sib, addr32);
    }
    *next = at;
    return 0;
}
