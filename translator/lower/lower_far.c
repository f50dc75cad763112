/* Pass 2: far transfers in real and virtual-8086 mode. CS gets a selector and a base, and nothing else changes with it:
 * not its limit, nor what it is to data accesses, nor the mode. So the context of the target is that of the block with
 * another paragraph in it, and control goes on through the jump cache.
 *
 * A frame is one access: what is beyond the limit, or begins below offset 0 and ends above it, is the interpreter's.
 * All that may fault comes before anything is committed. */
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_far.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_sys.h"

#define CS_FIELD(f) hm(H_CPU, (s32)(offsetof(struct cpu, seg) + S_CS * sizeof(struct seg) + offsetof(struct seg, f)))

/* What the block pushes: CS << 16 | IP of the next instruction. */
static u32 return_address(const struct xl_ctx *x, const struct insn *in)
{
    return (x->src->context & 0xffff) << 16 | (in->next & 0xffff);
}

/* The x87 unit's pointers may still mean CS as it is. */
static void latch_x87(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, CPU_FIELD(fpu_hot));
    u8 *cold = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_call_helper(x, HELPER_LATCH);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_patch8(e, cold, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_room(x);
}

static void goto_known(struct xl_ctx *x, u16 paragraph, u16 ip)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_store_imm(e, CS_FIELD(sel), paragraph, 2);
    emit_store_imm(e, CS_FIELD(base), (u32)paragraph << 4, 4);
    emit_mov_ri32(e, H_R8, ip);
    xl_goto_context(x, (x->src->context & ~0xffffu) | paragraph);
}

/* To what is in R8: CS << 16 | IP. jump_spread() and jump_tag(). */
static void goto_r8(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    xl_flush_islands(x, true);
    emit_rorx32(e, H_R9, H_R8, 16);
    emit_movzx16(e, H_R9, H_R9);
    emit_store(e, CS_FIELD(sel), H_R9, 2);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_lea32(e, H_R11, hm(H_R9, (s32)(x->src->context & ~0xffffu)));
    emit_mov_ri32(e, H_CX, 32);
    emit_shlx64(e, H_R11, H_R11, H_CX);
    emit_mov_ri32(e, H_CX, 4);
    emit_shlx64(e, H_R9, H_R9, H_CX);
    emit_store(e, CS_FIELD(base), H_R9, 4);
    emit_rorx32(e, H_CX, H_R8, 24);
    emit_op_rr(e, 0, 0x0fb6, 0, H_CX, H_CX); /* movzx ecx, cl */
    emit_lea32(e, H_R9, hmx(H_R9, H_CX, 1, 0));
    emit_movzx16(e, H_R8, H_R8);
    emit_lea32(e, H_R9, hmx(H_R9, H_R8, 1, 0));
    emit_movzx16(e, H_R9, H_R9);
    emit_lea64(e, H_R9, hmx(H_R9, H_R9, 1, 0));
    emit_lea64(e, H_R11, hmx(H_R11, H_R8, 1, 0));
    emit_load64(e, H_CX, hmx(H_JC, H_R9, 8, 0));
    emit_lea64(e, H_CX, hmx(H_CX, H_R11, 1, 0));
    xl_goto_entry(x);
}

static void return_far(struct xl_ctx *x, const struct insn *in)
{
    u32 extra = in->nops ? in->imm & 0xffff : 0;
    emit_load32(&x->e, H_R8, xl_frame(x, 0, XL_R, 4));
    xl_esp_add(x, (s32)(4 + extra));
    goto_r8(x);
}

void lower_far_paragraph(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    bool direct = in->op != OP_RETF && in->opnd[0].kind == OPK_FAR;
    latch_x87(x);
    if (in->op == OP_RETF) {
        return_far(x, in);
        return;
    }
    if (!direct) emit_load32(e, H_R11, xl_mem(x, in, XL_R, 4));
    if (in->op == OP_CALLF) {
        emit_store_imm(e, xl_frame(x, -4, XL_W, 4), return_address(x, in), 4);
        xl_esp_add(x, -4);
    }
    if (direct) {
        goto_known(x, in->imm2, (u16)in->imm);
        return;
    }
    emit_mov_rr32(e, H_R8, H_R11);
    goto_r8(x);
}

/* The vector is one that IDTR has, and AC is clear, which INT would clear. Neither changes much. */
static void check_vector(struct xl_ctx *x, u32 at)
{
    struct emit *e = &x->e;
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, CPU_FIELD(idtr.limit));
    emit_lea64(e, H_CX, hm(H_CX, -(s32)(at + 3)));
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_CX, H_CX, H_R9); /* 1: beyond */
    emit_load32(e, H_R8, CPU_FIELD(eflags_sys));
    emit_rorx32(e, H_R8, H_R8, 19);
    emit_mov_ri32(e, H_R9, 31);
    emit_shrx32(e, H_R8, H_R8, H_R9); /* AC */
    emit_lea32(e, H_CX, hmx(H_CX, H_R8, 1, 0));
    xl_emulate_unless_cx_is_0(x);
}

void lower_int_real(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    u32 at = (in->imm & 0xff) * 4;
    latch_x87(x);
    xl_flush_islands(x, true);
    check_vector(x, at);
    emit_load32(e, H_R8, CPU_FIELD(idtr.base));
    emit_lea32(e, H_R8, hm(H_R8, (s32)at));
    emit_load32(e, H_R11, xl_mem_linear(x, XL_R, 4));
    xl_room(x);
    emit_store(e, CPU_FIELD(far_target), H_R11, 4);
    xl_flush_islands(x, true);
    xl_eflags_to_r11(x);
    struct hmem frame = xl_frame(x, -6, XL_W, 6); /* R8 is the last part of its address */
    emit_store_imm(e, frame, return_address(x, in), 4);
    emit_lea32(e, H_R8, hm(H_R8, 4));
    emit_store(e, frame, H_R11, 2);
    xl_esp_add(x, -6);
    emit_store_imm(e, CPU_FIELD(iflag), 0, 1);
    xl_room(x);
    emit_load32(e, H_R8, CPU_FIELD(far_target));
    goto_r8(x);
}

/* IRET pops CS << 16 | IP to far_target and FLAGS to R11, if nothing else of them changes than what is in line. */
static void load_iret_frame(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    bool vm = x->src->mode & MK_VM;
    struct hmem m = xl_frame(x, 0, XL_R, vm ? 4 : 6);
    emit_load32(e, H_R11, m);
    emit_store(e, CPU_FIELD(far_target), H_R11, 4);
    if (vm) { /* whose soft TLB has no aligned accesses of six bytes */
        m = xl_stack(x, H_ESP, 4, XL_R, 2);
    } else {
        emit_lea32(e, H_R8, hm(H_R8, 4));
    }
    emit_loadz(e, H_R11, m, 2);
    xl_flush_islands(x, true);
}

/* In line where arithmetic flags, DF and IF are all that changes, no interrupt waits for an IF that becomes 1, and none
 * is blocked until here; in virtual-8086 mode, with IOPL 3. */
void lower_iret_paragraph(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    bool vm = x->src->mode & MK_VM;
    latch_x87(x);
    load_iret_frame(x);
    emit_mov_rr32(e, H_R10, H_AX);
    emit_flags_to_ax(e);
    emit_mov_rr32(e, H_R9, H_R11);
    emit_op_rm(e, 0, 0x33, 0, H_R9, CPU_FIELD(eflags_sys)); /* xor  r9d, [eflags_sys] */
    emit_and_ri32(e, H_R9, F_TF | F_NT | (vm ? 0 : F_IOPL));
    if (vm) {
        emit_load32(e, H_R8, CPU_FIELD(eflags_sys));
        emit_op_rr(e, 0, 0xf7, 0, 2, H_R8); /* not  r8d */
        emit_and_ri32(e, H_R8, F_IOPL);
        emit_op_rr(e, 0, 0x0b, 0, H_R9, H_R8); /* or   r9d, r8d */
    }
    emit_loadz(e, H_R8, CPU_FIELD(nmi_blocked), 1);
    emit_op_rr(e, 0, 0x0b, 0, H_R9, H_R8); /* or   r9d, r8d */
    u8 *odd = emit_jcc32(e, 5);            /* jnz           */
    xl_if_from_r11(x);
    u8 *waits = emit_jcc32(e, 5); /* jnz */
    emit_store(e, CPU_FIELD(iflag), H_R9, 1);
    emit_rorx32(e, H_R9, H_R11, 10);
    emit_and_ri32(e, H_R9, 1);
    emit_op_rr(e, 0, 0xf7, 0, 3, H_R9); /* neg  r9d */
    emit_lea32(e, H_R9, hmx(H_R9, H_R9, 1, 1));
    emit_store(e, CPU_FIELD(df), H_R9, 4);
    xl_arith_from_r11(x);
    xl_esp_add(x, 6);
    emit_load32(e, H_R8, CPU_FIELD(far_target));
    goto_r8(x);
    emit_patch32(odd, e->p);
    emit_patch32(waits, e->p);
    emit_flags_from_ax(e);
    emit_mov_rr32(e, H_AX, H_R10);
    lower_far(x, in);
}
