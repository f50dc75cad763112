/* Owns the transfers of control that can change CS, privilege or task: JMP, CALL and RET far, IRET, SYSENTER, SYSEXIT.
 * SDM vol. 2 for each; vol. 3, 5.8 (privilege), 7.3 (tasks), 20.2 (virtual-8086 mode).
 *
 *   I1  All that can fault happens before the first register changes, so GUEST_FAULT means "as before the instruction".
 *   I2  cpl changes only together with CS and SS, and mode_refresh() follows.
 *
 * The order of checks is the manual's, because the first that fails decides the exception. */
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/far.h"
#include "runtime/cpu/cpu_priv.h"

/* ---- code segments ---- */

/* The target of a JMP or CALL without a gate: SDM vol. 2, JMP, CONFORMING- and NONCONFORMING-CODE-SEGMENT. */
static int check_direct_code(struct cpu *c, u16 sel, const struct desc *d)
{
    bool ok = d->hi & DH_C ? desc_dpl(d) <= c->cpl : sel_rpl(sel) <= c->cpl && desc_dpl(d) == c->cpl;
    if (unlikely(!ok)) return guest_fault(c, V_GP, sel_error(sel));
    if (unlikely(!desc_present(d))) return guest_fault(c, V_NP, sel_error(sel));
    return 0;
}

/* An offset beyond the limit is #GP(0), but only if the n words that would have been pushed first have room: else
 * #SS(error). */
static int bad_eip(struct cpu *c, const struct seg *ss, u32 sp, unsigned n, unsigned size, u32 error)
{
    if (stack_room(c, ss, sp, n, size, error)) return GUEST_FAULT;
    return guest_fault(c, V_GP, 0);
}

/* CS:EIP := cs:eip at privilege cpl, nothing left to fail. */
static void commit_cs(struct cpu *c, struct seg *cs, unsigned cpl, u32 eip)
{
    cs->sel = (u16)((cs->sel & 0xfffc) | cpl);
    c->cpl = (u8)cpl;
    seg_set(c, S_CS, cs);
    c->eip = eip;
    mode_refresh(c);
}

/* Real and virtual-8086 mode: CS is a paragraph number. */
static int check_paragraph_eip(struct cpu *c, u32 eip)
{
    u32 limit = c->eflags_sys & F_VM ? 0xffff : c->seg[S_CS].limit;
    return eip > limit ? guest_fault(c, V_GP, 0) : 0;
}
static void commit_paragraph(struct cpu *c, u16 sel, u32 eip)
{
    if (c->eflags_sys & F_VM) seg_set_vm86(c, S_CS, sel);
    else seg_set_real(c, S_CS, sel);
    c->eip = eip;
    mode_refresh(c);
}

/* ---- JMP and CALL ---- */

static int jmp_call_code(struct cpu *c, u16 sel, struct desc *d, u32 eip, unsigned opsize, const u32 *frame)
{
    int r = check_direct_code(c, sel, d);
    if (r) return r;
    if (opsize == 2) eip &= 0xffff;
    struct seg cs;
    desc_unpack(d, sel, &cs);
    if (eip > cs.limit) return bad_eip(c, &c->seg[S_SS], c->gpr[G_ESP], frame ? 2 : 0, opsize, 0);
    if (desc_mark(c, d)) return GUEST_FAULT;
    if (frame && stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], frame, 2, opsize, c->cpl == 3, 0)) return GUEST_FAULT;
    if (frame) stack_set_sp(c, c->gpr[G_ESP] - 2 * opsize);
    commit_cs(c, &cs, c->cpl, eip);
    return 0;
}

#define GATE_PARAMS_MAX 31

/* CALL to a more privileged code segment: a new stack out of the TSS, with the parameters copied over. */
static int call_inner(struct cpu *c, struct desc *d, u16 cs_sel, u32 eip, u32 next, unsigned size, unsigned params)
{
    unsigned dpl = desc_dpl(d), n = 0;
    struct seg ss, cs;
    u32 esp, word[4 + GATE_PARAMS_MAX], param[GATE_PARAMS_MAX];
    int r = stack_inner(c, dpl, 0, &ss, &esp);
    if (r) return r;
    if (stack_read(c, c->gpr[G_ESP], param, params, size)) return GUEST_FAULT;
    word[n++] = c->seg[S_SS].sel;
    word[n++] = c->gpr[G_ESP];
    while (params) word[n++] = param[--params];
    word[n++] = c->seg[S_CS].sel;
    word[n++] = next;
    desc_unpack(d, cs_sel, &cs);
    if (eip > cs.limit) return bad_eip(c, &ss, esp, n, size, sel_error(ss.sel));
    if (desc_mark(c, d)) return GUEST_FAULT;
    if (stack_push(c, &ss, esp, word, n, size, false, sel_error(ss.sel))) return GUEST_FAULT;
    seg_set(c, S_SS, &ss);
    c->gpr[G_ESP] = esp;
    stack_set_sp(c, esp - n * size);
    commit_cs(c, &cs, dpl, eip);
    return 0;
}

static int jmp_call_gate(struct cpu *c, u16 sel, const struct desc *gate, u32 next, bool call)
{
    if (!desc_present(gate)) return guest_fault(c, V_NP, sel_error(sel));
    unsigned size = desc_type(gate) == ST_CALL32 ? 4 : 2;
    u16 cs_sel = (u16)(gate->lo >> 16);
    u32 eip = size == 4 ? (gate->lo & 0xffff) | (gate->hi & 0xffff0000) : gate->lo & 0xffff;
    struct desc d;
    if (sel_null(cs_sel)) return guest_fault(c, V_GP, 0);
    int r = desc_need(c, cs_sel, &d, V_GP, 0);
    if (r) return r;
    bool conforming = d.hi & DH_C;
    bool ok = desc_is_code(&d) && (call || conforming ? desc_dpl(&d) <= c->cpl : desc_dpl(&d) == c->cpl);
    if (!ok) return guest_fault(c, V_GP, sel_error(cs_sel));
    if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(cs_sel));
    if (call && !conforming && desc_dpl(&d) < c->cpl)
        return call_inner(c, &d, cs_sel, eip, next, size, gate->hi & 0x1f);

    struct seg cs;
    desc_unpack(&d, cs_sel, &cs);
    u32 frame[2] = { c->seg[S_CS].sel, next };
    if (eip > cs.limit) return bad_eip(c, &c->seg[S_SS], c->gpr[G_ESP], call ? 2 : 0, size, 0);
    if (desc_mark(c, &d)) return GUEST_FAULT;
    if (call && stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], frame, 2, size, c->cpl == 3, 0)) return GUEST_FAULT;
    if (call) stack_set_sp(c, c->gpr[G_ESP] - 2 * size);
    commit_cs(c, &cs, c->cpl, eip);
    return 0;
}

static int jmp_call(struct cpu *c, u16 sel, u32 off, u32 next, unsigned opsize, bool call)
{
    const u32 frame[2] = { c->seg[S_CS].sel, next };
    if (!cpu_protected(c)) {
        if (opsize == 2) off &= 0xffff;
        if (check_paragraph_eip(c, off)) return GUEST_FAULT;
        if (call && stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], frame, 2, opsize, c->cpl == 3, 0)) return GUEST_FAULT;
        if (call) stack_set_sp(c, c->gpr[G_ESP] - 2 * opsize);
        commit_paragraph(c, sel, off);
        return 0;
    }
    struct desc d;
    if (sel_null(sel)) return guest_fault(c, V_GP, 0);
    int r = desc_need(c, sel, &d, V_GP, 0);
    if (r) return r;
    if (desc_is_code(&d)) return jmp_call_code(c, sel, &d, off, opsize, call ? frame : NULL);
    if (d.hi & DH_S) return guest_fault(c, V_GP, sel_error(sel));

    enum task_how how = call ? TASK_CALL : TASK_JMP;
    if (!call && desc_type(&d) != ST_CALL16 && desc_type(&d) != ST_CALL32 && task_insn_end(c, &next))
        return GUEST_FAULT;
    bool privileged = desc_dpl(&d) >= c->cpl && desc_dpl(&d) >= sel_rpl(sel);
    switch (desc_type(&d)) {
    case ST_CALL16:
    case ST_CALL32:
        if (!privileged) break;
        return jmp_call_gate(c, sel, &d, next, call);
    case ST_TASK_GATE:
        if (!privileged) break;
        if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel));
        return task_settle(c, task_switch_gate(c, (u16)(d.lo >> 16), how, next, NULL, 0));
    case ST_TSS16:
    case ST_TSS32:
        if (!privileged || sel & 4) break;
        if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel));
        return task_settle(c, task_switch(c, sel, &d, how, next, NULL, 0));
    default: break;
    }
    return guest_fault(c, V_GP, sel_error(sel));
}

int far_jmp(struct cpu *c, u16 sel, u32 off, unsigned opsize) { return jmp_call(c, sel, off, 0, opsize, false); }
int far_call(struct cpu *c, u16 sel, u32 off, u32 next, unsigned opsize)
{
    return jmp_call(c, sel, off, next, opsize, true);
}

/* ---- returns ---- */

/* The CS that RET and IRET return to: RPL is the privilege returned to. */
static int check_return_cs(struct cpu *c, u16 sel, struct desc *d)
{
    if (unlikely(sel_null(sel))) return guest_fault(c, V_GP, 0);
    int r = desc_need(c, sel, d, V_GP, 0);
    if (unlikely(r)) return r;
    unsigned rpl = sel_rpl(sel), dpl = desc_dpl(d);
    bool ok = desc_is_code(d) && rpl >= c->cpl && (d->hi & DH_C ? dpl <= rpl : dpl == rpl);
    if (unlikely(!ok)) return guest_fault(c, V_GP, sel_error(sel));
    if (unlikely(!desc_present(d))) return guest_fault(c, V_NP, sel_error(sel));
    return 0;
}

/* The SS that goes with it when privilege changes. */
static int check_return_ss(struct cpu *c, u16 sel, unsigned rpl, struct desc *d)
{
    if (unlikely(sel_null(sel))) return guest_fault(c, V_GP, 0);
    int r = desc_need(c, sel, d, V_GP, 0);
    if (unlikely(r)) return r;
    if (unlikely(sel_rpl(sel) != rpl || desc_dpl(d) != rpl || !desc_is_writable_data(d)))
        return guest_fault(c, V_GP, sel_error(sel));
    if (unlikely(!desc_present(d))) return guest_fault(c, V_SS, sel_error(sel));
    return 0;
}

/* Same and outer privilege, for RET (nwords 2) and IRET (nwords 3: EFLAGS follows and is the caller's to set). frame is
 * EIP, CS and so on as popped; pop_bytes are dropped from both stacks. */
static int return_protected(struct cpu *c, const u32 *frame, unsigned nwords, unsigned opsize, u32 pop_bytes)
{
    u32 eip = frame[0], up = nwords * opsize + pop_bytes;
    u16 sel = (u16)frame[1];
    struct desc cd, sd;
    int r = check_return_cs(c, sel, &cd);
    if (unlikely(r)) return r;
    struct seg cs, ss;
    desc_unpack(&cd, sel, &cs);
    unsigned rpl = sel_rpl(sel);
    if (rpl == c->cpl) {
        if (unlikely(eip > cs.limit)) return guest_fault(c, V_GP, 0);
        if (unlikely(desc_mark(c, &cd))) return GUEST_FAULT;
        stack_set_sp(c, c->gpr[G_ESP] + up);
        commit_cs(c, &cs, rpl, eip);
        return 0;
    }
    u32 outer[2]; /* ESP, SS */
    if (unlikely(stack_read(c, c->gpr[G_ESP] + up, outer, 2, opsize))) return GUEST_FAULT;
    r = check_return_ss(c, (u16)outer[1], rpl, &sd);
    if (unlikely(r)) return r;
    if (unlikely(eip > cs.limit)) return guest_fault(c, V_GP, 0);
    if (unlikely(desc_mark(c, &cd) || desc_mark(c, &sd))) return GUEST_FAULT;
    desc_unpack(&sd, (u16)outer[1], &ss);
    seg_set(c, S_SS, &ss);
    stack_set_sp(c, outer[0] + pop_bytes); /* a 16-bit SS keeps the upper half of ESP, as processors do */
    commit_cs(c, &cs, rpl, eip);
    seg_drop_privileged(c);
    return 0;
}

int far_ret(struct cpu *c, unsigned opsize, u16 pop_bytes)
{
    u32 frame[2];
    if (stack_read(c, c->gpr[G_ESP], frame, 2, opsize)) return GUEST_FAULT;
    if (cpu_protected(c)) return return_protected(c, frame, 2, opsize, pop_bytes);
    if (check_paragraph_eip(c, frame[0])) return GUEST_FAULT;
    stack_set_sp(c, c->gpr[G_ESP] + 2 * opsize + pop_bytes);
    commit_paragraph(c, (u16)frame[1], frame[0]);
    return 0;
}

/* ---- IRET ---- */

/* Into virtual-8086 mode: EIP CS EFLAGS ESP SS ES DS FS GS. Only CPL 0 with a 32-bit operand size gets here. */
static int iret_to_vm86(struct cpu *c)
{
    u32 frame[9];
    if (stack_read(c, c->gpr[G_ESP], frame, 9, 4)) return GUEST_FAULT;
    if (frame[0] > 0xffff) return guest_fault(c, V_GP, 0);
    cpu_set_eflags(c, frame[2] & (~(u32)F_SYS | c->eflags_known));
    seg_set_vm86(c, S_CS, (u16)frame[1]);
    seg_set_vm86(c, S_SS, (u16)frame[4]);
    seg_set_vm86(c, S_ES, (u16)frame[5]);
    seg_set_vm86(c, S_DS, (u16)frame[6]);
    seg_set_vm86(c, S_FS, (u16)frame[7]);
    seg_set_vm86(c, S_GS, (u16)frame[8]);
    c->gpr[G_ESP] = frame[3];
    c->eip = frame[0];
    c->cpl = 3;
    mode_refresh(c);
    return 0;
}

/* IRET with NT set goes back along the TSS's link (SDM vol. 3, 7.4). */
static int iret_task(struct cpu *c)
{
    u64 link;
    struct desc d;
    if (lin_read(c, c->tr.base, 2, false, &link)) return GUEST_FAULT;
    u16 sel = (u16)link;
    if (sel_null(sel) || sel & 4) return guest_fault(c, V_TS, sel_error(sel));
    int r = desc_need(c, sel, &d, V_TS, 0);
    if (r) return r;
    if (!desc_is_tss(&d, true)) return guest_fault(c, V_TS, sel_error(sel));
    if (!desc_present(&d)) return guest_fault(c, V_NP, sel_error(sel));
    u32 next;
    if (task_insn_end(c, &next)) return GUEST_FAULT;
    return task_settle(c, task_switch(c, sel, &d, TASK_IRET, next, NULL, 0));
}

/* Real mode, or virtual-8086 mode with IOPL 3; with CR4.VME and another IOPL, VIF is loaded and IF stays (SDM vol. 3,
 * 20.3.2). VM and, in virtual-8086 mode, IOPL stay. */
static int iret_paragraph(struct cpu *c, unsigned opsize)
{
    u32 frame[3];
    bool vm86 = c->eflags_sys & F_VM, vif = vm86 && cpu_iopl(c) != 3;
    if (vif && (!cpu_uses_vif(c) || opsize == 4)) return guest_fault(c, V_GP, 0);
    if (stack_read(c, c->gpr[G_ESP], frame, 3, opsize)) return GUEST_FAULT;
    if (check_paragraph_eip(c, frame[0])) return GUEST_FAULT;
    u32 may = F_ARITH | F_TF | F_IF | F_DF | F_NT;
    if (vif) {
        bool pending = frame[2] & F_IF && c->eflags_sys & F_VIP;
        if (frame[2] & F_TF || pending) return guest_fault(c, V_GP, 0);
        may ^= F_IF | F_VIF;
        frame[2] |= frame[2] & F_IF ? F_VIF : 0;
    }
    if (opsize == 4) may |= F_RF | F_AC | F_ID;
    if (!vm86) may |= F_IOPL;
    may &= ~(u32)F_SYS | c->eflags_known;
    stack_set_sp(c, c->gpr[G_ESP] + 3 * opsize);
    cpu_set_eflags(c, (cpu_eflags(c) & ~may) | (frame[2] & may));
    commit_paragraph(c, (u16)frame[1], frame[0]);
    return 0;
}

/* NMIs are taken again from here on, whether or not the IRET itself faults (SDM vol. 3, 6.7.1). */
static void unblock_nmi(struct cpu *c)
{
    c->nmi_blocked = false;
    c->irq_pending = c->intr_line || c->nmi_pending;
}

int far_iret(struct cpu *c, unsigned opsize)
{
    if (unlikely(c->nmi_blocked)) unblock_nmi(c);
    if (unlikely(!cpu_protected(c))) return iret_paragraph(c, opsize);
    if (unlikely(c->eflags_sys & F_NT)) return iret_task(c);
    u32 frame[3];
    if (unlikely(stack_read(c, c->gpr[G_ESP], frame, 3, opsize))) return GUEST_FAULT;
    if (unlikely(opsize == 4 && frame[2] & F_VM && c->cpl == 0)) return iret_to_vm86(c);

    /* What may change depends on the privilege before the return. */
    u32 may = F_ARITH | F_TF | F_DF | F_NT;
    if (opsize == 4) may |= F_RF | F_AC | F_ID;
    if (c->cpl <= cpu_iopl(c)) may |= F_IF;
    if (c->cpl == 0) may |= F_IOPL | (opsize == 4 ? F_VIF | F_VIP : 0);
    u32 before = cpu_eflags(c);
    int r = return_protected(c, frame, 3, opsize, 0);
    if (unlikely(r)) return r;
    may &= ~(u32)F_SYS | c->eflags_known;
    cpu_set_eflags(c, (before & ~may) | (frame[2] & may));
    mode_refresh(c); /* TF, AC */
    /* RF holds off instruction breakpoints for one instruction. With none armed it has nothing to do; and translated
     * code, which runs only then, does not take it back. */
    if (likely(!(c->mode & (MK_SLOW | MK_ARMED)))) c->eflags_sys &= ~(u32)F_RF;
    return 0;
}

/* ---- SYSENTER and SYSEXIT: flat segments, without looking at descriptors (SDM vol. 2) ---- */

static void set_flat(struct cpu *c, u16 cs_sel, unsigned cpl)
{
    const u32 common = SEG_S | SEG_P | SEG_D | SEG_G | SEG_A | cpl << SEG_DPL_SHIFT;
    bool was_vm86 = c->mode & MK_VM;
    struct seg cs = {
        .sel = (u16)((cs_sel & 0xfffc) | cpl), .base = 0, .limit = 0xffffffff, .attr = common | SEG_CODE | SEG_R
    };
    struct seg ss = {
        .sel = (u16)(((cs_sel + 8) & 0xfffc) | cpl), .base = 0, .limit = 0xffffffff, .attr = common | SEG_W
    };
    c->cpl = (u8)cpl;
    seg_set(c, S_CS, &cs);
    seg_set(c, S_SS, &ss);
    if (unlikely(was_vm86)) cpu_update_mode(c);
    else mode_refresh(c);
}

int far_sysenter(struct cpu *c)
{
    if (unlikely(!(c->cr0 & CR0_PE) || !(c->sysenter_cs & 0xfffc))) return guest_fault(c, V_GP, 0);
    c->eflags_sys &= ~(u32)(F_VM | F_RF);
    c->iflag = 0;
    c->gpr[G_ESP] = c->sysenter_esp;
    c->eip = c->sysenter_eip;
    set_flat(c, (u16)c->sysenter_cs, 0);
    c->ctr.inner++;
    return 0;
}

int far_sysexit(struct cpu *c)
{
    if (unlikely(!(c->cr0 & CR0_PE) || c->cpl != 0 || !(c->sysenter_cs & 0xfffc))) return guest_fault(c, V_GP, 0);
    c->gpr[G_ESP] = c->gpr[G_ECX];
    c->eip = c->gpr[G_EDX];
    set_flat(c, (u16)(c->sysenter_cs + 16), 3);
    return 0;
}
