/* Pass 2: sensitive instructions that are cheap enough to simulate in line. The rest leaves for the interpreter. */
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_sys.h"
#include "translator/lower/reloc.h"

/* The arithmetic flags are right as the host has them, and of the others it has exactly IF and bit 1 set (rt_enter sees
 * to that), so adding the difference composes them without a masking operation. */
void xl_eflags_to_r11(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_pushfq(e);
    emit_pop64(e, H_R11);
    emit_load32(e, H_R9, CPU_FIELD(eflags_sys));
    emit_lea64(e, H_R11, hmx(H_R11, H_R9, 1, -(s32)F_IF)); /* host IF out, F_FIXED stays */
    emit_loadz(e, H_R9, CPU_FIELD(iflag), 1);
    emit_rorx32(e, H_R9, H_R9, 32 - 9);
    emit_lea64(e, H_R11, hmx(H_R11, H_R9, 1, 0));
    emit_load32(e, H_R9, CPU_FIELD(df)); /* -1: DF set                   */
    emit_mov_ri32(e, H_R10, 31);
    emit_shrx32(e, H_R9, H_R9, H_R10);
    emit_rorx32(e, H_R9, H_R9, 32 - 10);
    emit_lea32(e, H_R11, hmx(H_R11, H_R9, 1, 0));
}

void lower_pushf(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    xl_eflags_to_r11(x);
    /* PUSHF stores RF and VM as zero (SDM vol. 2, PUSHF); neither is ever set here. */
    struct hmem m = xl_stack(x, H_ESP, -(s32)in->opsize, XL_W, in->opsize);
    emit_store(e, m, H_R11, in->opsize);
    xl_esp_add(x, -(s32)in->opsize);
}

void lower_cli(struct xl_ctx *x, const struct insn *in)
{
    (void)in;
    emit_store_imm(&x->e, CPU_FIELD(iflag), 0, 1);
}

/* With nothing pending there is nothing the interrupt shadow could delay; otherwise the interpreter does it. */
void lower_sti(struct xl_ctx *x, const struct insn *in)
{
    (void)in;
    struct emit *e = &x->e;
    xl_room(x);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, CPU_FIELD(irq_pending));
    u8 *quiet = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_call_m(e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * CALLOUT_EMULATE)));
    emit_patch8(e, quiet, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_store_imm(e, CPU_FIELD(iflag), 1, 1);
}

void lower_mov_from_sreg(struct xl_ctx *x, const struct insn *in)
{
    struct hmem sel =
        hm(H_CPU, (s32)(offsetof(struct cpu, seg) + in->opnd[1].reg * sizeof(struct seg) + offsetof(struct seg, sel)));
    const struct operand *dst = &in->opnd[0];
    if (dst->kind == OPK_MEM) {
        struct hmem m = xl_mem(x, in, XL_W, 2);
        emit_loadz(&x->e, H_R11, sel, 2);
        emit_store(&x->e, m, H_R11, 2);
    } else if (dst->size == 4) {
        emit_loadz(&x->e, xl_gpr(dst->reg), sel, 2);
    } else {
        emit_op_rm(&x->e, 0x66, 0x8b, 0, xl_gpr(dst->reg), sel);
    }
}

void lower_mov_from_cr(struct xl_ctx *x, const struct insn *in)
{
    static const s32 field[] = { offsetof(struct cpu, cr0), 0, offsetof(struct cpu, cr2), offsetof(struct cpu, cr3),
                                 offsetof(struct cpu, cr4) };
    emit_load32(&x->e, xl_gpr(in->opnd[0].reg), hm(H_CPU, field[in->opnd[1].reg]));
}

/* A bit that the guest's MXCSR does not have (31 to 16) is #GP, which the host may have another idea of: AMD has
 * bit 17. */
void lower_ldmxcsr(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    struct hmem m = xl_mem(x, in, XL_R, 4);
    emit_load32(e, H_R11, m);
    xl_room(x);
    emit_store(e, CPU_FIELD(scratch), H_R11, 4);
    emit_rorx32(e, H_R11, H_R11, 16);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_movzx16(e, H_CX, H_R11);
    u8 *defined = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_call_m(e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * CALLOUT_EMULATE)));
    emit_patch8(e, defined, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_op_rm(e, 0, 0x0fae, 0, 2, CPU_FIELD(scratch)); /* ldmxcsr */
}

/* ---- helpers: instructions done in C without leaving translated code ---- */

/* Expects the argument in r8d. */
static void call_helper(struct xl_ctx *x, enum helper h)
{
    xl_room(x);
    xl_call_helper(x, h);
}

static void call_helper_arg(struct xl_ctx *x, enum helper h, u32 arg)
{
    xl_room(x);
    emit_mov_ri32(&x->e, H_R8, arg);
    call_helper(x, h);
}

static void call_helper_eip(struct xl_ctx *x, enum helper h, vaddr eip)
{
    xl_room(x);
    emit_mov_eip(&x->e, H_R8, eip, 0);
    call_helper(x, h);
}

/* What programs at CPL 3 may do to IF with an IOPL of 3, and only then. */
static void need_iopl3(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, CPU_FIELD(eflags_sys));
    emit_rorx32(e, H_CX, H_CX, 14);
    emit_mov_ri32(e, H_R9, 30);
    emit_shrx32(e, H_CX, H_CX, H_R9);
    emit_lea32(e, H_CX, hm(H_CX, -3));
    xl_emulate_unless_cx_is_0(x);
    xl_room(x);
}

void lower_cli_user(struct xl_ctx *x, const struct insn *in)
{
    need_iopl3(x);
    lower_cli(x, in);
}
void lower_sti_user(struct xl_ctx *x, const struct insn *in)
{
    need_iopl3(x);
    lower_sti(x, in);
}
void lower_pushf_vm86(struct xl_ctx *x, const struct insn *in)
{
    need_iopl3(x);
    lower_pushf(x, in);
}

void lower_popf16(struct xl_ctx *x, const struct insn *in) { call_helper_eip(x, HELPER_POPF16, in->next); }

/* The helper always leaves: HELPER_NEXT, HELPER_JUMP or HELPER_EMULATE. */
static void end_in_helper(struct xl_ctx *x, enum helper h, vaddr eip)
{
    call_helper_eip(x, h, eip);
    x->ended = true;
}

void lower_rep_string(struct xl_ctx *x, const struct insn *in)
{
    unsigned size = in->opcode & 1 ? in->opsize : 1;
    enum segreg from = in->prefixes & IP_SEG ? (enum segreg)in->seg : S_DS;
    enum helper_string op = in->op == OP_MOVS   ? STRING_MOVS
                            : in->op == OP_STOS ? STRING_STOS
                            : in->op == OP_CMPS ? STRING_CMPS
                                                : STRING_SCAS;
    u32 arg = HELPER_STRING_ARG(size, op, (in->prefixes & IP_REPNE) != 0);
    if (!xl_segmented(x)) call_helper_arg(x, HELPER_STRING, arg);
    else call_helper_arg(x, HELPER_STRING_SEGMENTED, arg | HELPER_STRING_FROM(from, in->addrsize));
}

/* The segment register gets the selector in r8d. */
static void load_sreg(struct xl_ctx *x, unsigned reg)
{
    emit_rorx32(&x->e, H_R8, H_R8, 24);
    emit_lea32(&x->e, H_R8, hm(H_R8, (s32)reg));
    xl_room(x);
    /* The stub reads the descriptor itself, and tells nobody. */
    if (x->stream.memory) xl_call_helper(x, HELPER_MOV_SREG);
    else xl_callout(x, CALLOUT_MOV_SREG);
    x->seg_checked &= (u8) ~(1u << reg);
}

void lower_mov_sreg(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *src = &in->opnd[1];
    xl_room(x);
    if (src->kind == OPK_MEM) emit_loadz(&x->e, H_R8, xl_mem(x, in, XL_R, 2), 2);
    else emit_movzx16(&x->e, H_R8, xl_gpr(src->reg));
    load_sreg(x, in->opnd[0].reg);
}

void lower_pop_sreg(struct xl_ctx *x, const struct insn *in)
{
    emit_loadz(&x->e, H_R8, xl_stack(x, H_ESP, 0, XL_R, in->opsize), 2);
    load_sreg(x, in->opnd[0].reg);
    xl_esp_add(x, in->opsize);
}

/* Interrupts wait for the next instruction, which this block goes on with: only one that has come already is to be
 * looked at. */
void lower_load_ss(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, CPU_FIELD(irq_pending));
    xl_emulate_unless_cx_is_0(x);
    xl_room(x);
    if (in->op == OP_POP_SREG) lower_pop_sreg(x, in);
    else lower_mov_sreg(x, in);
}

/* LDS and its like: the offset waits while the selector is loaded, which may fail. */
void lower_load_far(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    struct hmem m = xl_mem(x, in, XL_R, in->opsize + 2); /* R8 is the last part of it */
    emit_loadz(e, H_R11, m, in->opsize);
    xl_room(x);
    emit_lea32(e, H_R8, hm(H_R8, in->opsize));
    emit_loadz(e, H_R8, m, 2);
    xl_room(x);
    emit_store(e, CPU_FIELD(scratch[1]), H_R11, 4);
    load_sreg(x, in->opnd[2].reg);
    emit_load32(e, H_R11, CPU_FIELD(scratch[1]));
    emit_op_rr(e, in->opsize == 2 ? 0x66 : 0, 0x8b, 0, xl_gpr(in->opnd[0].reg), H_R11);
}

void lower_push_sreg(struct xl_ctx *x, const struct insn *in)
{
    struct hmem sel =
        hm(H_CPU, (s32)(offsetof(struct cpu, seg) + in->opnd[0].reg * sizeof(struct seg) + offsetof(struct seg, sel)));
    struct hmem m = xl_stack(x, H_ESP, -(s32)in->opsize, XL_W, in->opsize);
    emit_loadz(&x->e, H_R11, sel, 2);
    emit_store(&x->e, m, H_R11, in->opsize);
    xl_esp_add(x, -(s32)in->opsize);
}

/* At CPL 0, where CR4.TSD means nothing, and while the guest's TSC is the host's and an offset (cpu_tsc()): in line. */
void lower_rdtsc(struct xl_ctx *x, const struct insn *in)
{
    (void)in;
    struct emit *e = &x->e;
    if (x->src->mode & MK_CPL) {
        call_helper_arg(x, HELPER_RDTSC, 0);
        return;
    }
    xl_flush_islands(x, true);
    emit_rdtsc(e);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_mov_ri32(e, H_R8, 32);
    emit_shlx64(e, H_R9, H_DX, H_R8);
    emit_lea64(e, H_R9, hmx(H_R9, H_AX, 1, 0));
    emit_mov_rr64(e, H_R11, H_R9);
    emit_not64(e, H_R11);
    emit_load64(e, H_R8, CPU_FIELD(tsc_until));
    emit_lea64(e, H_R11, hmx(H_R11, H_R8, 1, 0)); /* tsc_until - it - 1 */
    emit_mov_ri32(e, H_R8, 63);
    emit_shrx64(e, H_R11, H_R11, H_R8);
    emit_mov_rr32(e, H_CX, H_R11); /* 1: not below tsc_until */
    u8 *known = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    call_helper_arg(x, HELPER_RDTSC, 0);
    u8 *done = emit_jmp8(e);
    emit_patch8(e, known, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_load64(e, H_R11, CPU_FIELD(tsc_offset));
    emit_lea64(e, H_R9, hmx(H_R9, H_R11, 1, 0));
    emit_mov_rr32(e, H_AX, H_R9);
    emit_mov_ri32(e, H_R8, 32);
    emit_shrx64(e, H_R9, H_R9, H_R8);
    emit_mov_rr32(e, H_DX, H_R9);
    emit_patch8(e, done, e->p);
}

void xl_if_from_r11(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    emit_rorx32(e, H_R9, H_R11, 9);
    emit_and_ri32(e, H_R9, 1);
    emit_mov_rr32(e, H_R8, H_R9);
    emit_op_rr(e, 0, 0xf7, 0, 3, H_R8);                      /* neg  r8d                */
    emit_op_rm(e, 0, 0x85, 0, H_R8, CPU_FIELD(irq_pending)); /* test [irq_pending], r8d */
}

void xl_arith_from_r11(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    emit_op_rr(e, 0, 0x0fb6, 0, H_AX, H_R11); /* movzx eax, r11b */
    emit_rorx32(e, H_AX, H_AX, 24);
    emit_rorx32(e, H_R11, H_R11, 11);
    emit_and_ri32(e, H_R11, 1);
    emit_lea32(e, H_AX, hmx(H_AX, H_R11, 1, 0));
    emit_flags_from_ax(e);
    emit_mov_rr32(e, H_AX, H_R10);
}

void lower_far(struct xl_ctx *x, const struct insn *in)
{
    enum helper_far kind = in->op == OP_JMPF    ? FAR_JMP
                           : in->op == OP_CALLF ? FAR_CALL
                           : in->op == OP_RETF  ? FAR_RET
                           : in->op == OP_IRET  ? FAR_IRET
                                                : FAR_INT;
    const struct hmem off = CPU_FIELD(far.off), sel = CPU_FIELD(far.sel);
    struct emit *e = &x->e;
    xl_room(x);
    if (insn_has_mem(in)) { /* R8 is the last part of its address */
        struct hmem m = xl_mem(x, in, XL_R, in->opsize + 2);
        emit_loadz(e, H_R11, m, in->opsize);
        xl_room(x);
        emit_lea32(e, H_R8, hm(H_R8, in->opsize));
        emit_loadz(e, H_R8, m, 2);
        xl_room(x);
        emit_store(e, off, H_R11, 4);
        emit_store(e, sel, H_R8, 4);
    } else {
        emit_store_imm(e, off, in->nops ? in->imm : 0, 4);
        emit_store_imm(e, sel, in->imm2, 4);
    }
    emit_store_imm(&x->e, CPU_FIELD(far.how), HELPER_FAR_OF(kind, in->opsize, in->len), 4);
    end_in_helper(x, HELPER_FAR, in->eip);
}
void lower_pusha(struct xl_ctx *x, const struct insn *in)
{
    call_helper_arg(x, HELPER_PUSHA, in->opsize | (in->op == OP_POPA ? 0x100u : 0));
}
/* At CPL 0. In line where all of EFLAGS but arithmetic flags and IF is clear and stays so, and no interrupt waits for
 * an IF that becomes 1; else the helper does it, with the flags as they were. */
void lower_popf(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    u8 *odd, *waits, *done;
    emit_load32(e, H_R11, xl_stack(x, H_ESP, 0, XL_R, 4));
    xl_flush_islands(x, true);
    emit_mov_rr32(e, H_R10, H_AX);
    emit_flags_to_ax(e);
    emit_mov_rr32(e, H_R9, H_R11);
    emit_and_ri32(e, H_R9, ~(u32)(F_ARITH | F_IF | F_FIXED));
    emit_op_rm(e, 0, 0x0b, 0, H_R9, CPU_FIELD(eflags_sys)); /* or   r9d, [eflags_sys]  */
    odd = emit_jcc8(e, 5);                                  /* jnz                     */
    xl_if_from_r11(x);
    waits = emit_jcc8(e, 5);
    emit_store(e, CPU_FIELD(iflag), H_R9, 1);
    emit_store_imm(e, CPU_FIELD(df), 1, 4);
    xl_arith_from_r11(x);
    xl_esp_add(x, 4);
    done = emit_jmp8(e);
    emit_patch8(e, odd, e->p);
    emit_patch8(e, waits, e->p);
    emit_flags_from_ax(e);
    emit_mov_rr32(e, H_AX, H_R10);
    call_helper_eip(x, HELPER_POPF, in->next);
    emit_patch8(e, done, e->p);
}
void lower_iret(struct xl_ctx *x, const struct insn *in) { end_in_helper(x, HELPER_IRET, in->eip); }
void lower_int(struct xl_ctx *x, const struct insn *in)
{
    emit_store_eip(&x->e, CPU_FIELD(eip), in->eip);
    call_helper_arg(x, HELPER_INT, (in->imm & 0xff) | (in->next - in->eip) << 8); /* prefixes make it longer */
    x->ended = true;
}
void lower_sysenter(struct xl_ctx *x, const struct insn *in) { end_in_helper(x, HELPER_SYSENTER, in->eip); }
void lower_sysexit(struct xl_ctx *x, const struct insn *in) { end_in_helper(x, HELPER_SYSEXIT, in->eip); }

/* The page may be the one that is being executed: what follows is looked up again, not linked. */
void lower_invlpg(struct xl_ctx *x, const struct insn *in)
{
    xl_room(x);
    emit_lea32(&x->e, H_R8, xl_ea(in));
    call_helper(x, HELPER_INVLPG);
    xl_goto_checked(x, in->next, 0);
}
