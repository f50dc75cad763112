/* Pass 2: the stack and near control transfers.
 *
 * Order matters where two things are committed: a push stores first and moves ESP then, a pop loads first, so that a
 * fault leaves ESP as it was (SDM vol. 2, PUSH and POP). */
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/reloc.h"

static struct hmem stack_mem(struct xl_ctx *x, s32 disp, enum xl_access acc)
{
    return xl_mem_at(x, hm(H_ESP, disp), S_SS, acc, 4);
}

static void esp_add(struct xl_ctx *x, s32 n) { emit_lea32(&x->e, H_ESP, hm(H_ESP, n)); }

void lower_push(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_IMM) {
        emit_store_imm(&x->e, stack_mem(x, -4, XL_W), in->imm, 4);
        emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
    } else if (o->kind == OPK_REG) {
        emit_store(&x->e, stack_mem(x, -4, XL_W), xl_gpr(o->reg), 4);
    } else {
        struct hmem from = xl_mem(x, in, XL_R, 4);
        emit_load32(&x->e, H_R11, from);
        emit_store(&x->e, stack_mem(x, -4, XL_W), H_R11, 4);
    }
    esp_add(x, -4);
}

void lower_pop(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_REG) {
        struct hmem from = stack_mem(x, 0, XL_R);
        emit_load32(&x->e, xl_gpr(o->reg), from);
        if (o->reg != G_ESP) esp_add(x, 4);
        return;
    }
    emit_load32(&x->e, H_R11, stack_mem(x, 0, XL_R));
    struct hmem to = xl_ea(in); /* with ESP as it will be */
    if (in->base == G_ESP) {
        to.disp = (s32)((u32)to.disp + 4);
        to.at = 0; /* it is another one now */
    }
    emit_store(&x->e, xl_mem_at(x, to, (enum segreg)in->seg, XL_W, 4), H_R11, 4);
    esp_add(x, 4);
}

void lower_leave(struct xl_ctx *x, const struct insn *in)
{
    (void)in;
    struct hmem m = xl_mem_at(x, hm(H_BP, 0), S_SS, XL_R, 4);
    emit_load32(&x->e, H_R11, m);
    emit_lea32(&x->e, H_ESP, hm(H_BP, 4));
    emit_mov_rr32(&x->e, H_BP, H_R11);
}

/* ---- transfers ---- */

static bool same_page(const struct xl_ctx *x, vaddr target)
{
    return !((xl_linear(x, target) ^ x->src->la) & PAGE_MASK);
}

static void add_edge(struct xl_ctx *x, u8 *patch, vaddr target)
{
    BUG_ON(x->nedges == 2);
    x->edge[x->nedges].patch = patch;
    x->edge[x->nedges++].target = xl_linear(x, target);
}

/* On entry r8d = target, r10 = guest ECX, ecx = entry.neg_eip + target. What follows is the jump to where the entry has
 * the host address. A kick may exchange R13 between the comparison and that jump: r8d is set by then, so that what the
 * all-miss cache holds, the way out, finds its target. */
static void jump_cache_test(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    u8 *hit = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    emit_jmp_m(e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * CALLOUT_JUMP)));
    emit_patch8(e, hit, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
}

void xl_goto_checked(struct xl_ctx *x, vaddr target, unsigned at)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_mov_eip(e, H_R8, target, at);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load_slot(e, H_CX, target, at);
    emit_add_eip(e, H_CX, target, at);
    jump_cache_test(x);
    emit_jmp_slot(e, target, at);
    x->ended = true;
}

void xl_goto(struct xl_ctx *x, vaddr target, unsigned at)
{
    if (!same_page(x, target)) {
        xl_goto_checked(x, target, at);
        return;
    }
    add_edge(x, emit_jmp32(&x->e), target);
    x->ended = true;
}

void xl_goto_r8(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    xl_room(x);
    emit_rorx32(e, H_R9, H_R8, 12); /* jump_index() */
    emit_lea64(e, H_R9, hmx(H_R9, H_R8, 1, 0));
    emit_movzx16(e, H_R9, H_R9);
    emit_lea64(e, H_R9, hmx(H_R9, H_R9, 1, 0));
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, hmx(H_JC, H_R9, 8, 0));
    emit_op_rm(e, 0, 0x8d, 0, H_CX, hmx(H_CX, H_R8, 1, 0));
    jump_cache_test(x);
    emit_jmp_m(e, hmx(H_JC, H_R9, 8, (s32)offsetof(struct jump_entry, code)));
    x->ended = true;
}

void lower_jmp(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_REL) {
        xl_goto(x, in->target, insn_imm32_at(in));
        return;
    }
    if (o->kind == OPK_REG) emit_mov_rr32(&x->e, H_R8, xl_gpr(o->reg));
    else emit_load32(&x->e, H_R8, xl_mem(x, in, XL_R, 4));
    xl_goto_r8(x);
}

void lower_call(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_REG) emit_mov_rr32(&x->e, H_R11, xl_gpr(o->reg));
    else if (o->kind == OPK_MEM) emit_load32(&x->e, H_R11, xl_mem(x, in, XL_R, 4));
    emit_store_eip(&x->e, stack_mem(x, -4, XL_W), in->next);
    esp_add(x, -4);
    if (o->kind == OPK_REL) {
        xl_goto(x, in->target, insn_imm32_at(in));
        return;
    }
    emit_mov_rr32(&x->e, H_R8, H_R11);
    xl_goto_r8(x);
}

void lower_ret(struct xl_ctx *x, const struct insn *in)
{
    u32 extra = in->nops ? in->imm & 0xffff : 0;
    emit_load32(&x->e, H_R8, stack_mem(x, 0, XL_R));
    esp_add(x, (s32)(4 + extra));
    xl_goto_r8(x);
}

/* Both ways of a conditional: taken is the branch whose rel8 or rel32 is to be filled. */
void lower_jcc(struct xl_ctx *x, const struct insn *in)
{
    if (same_page(x, in->target)) {
        add_edge(x, emit_jcc32(&x->e, in->cc), in->target);
    } else {
        xl_room(x);
        u8 *not_taken = emit_jcc8(&x->e, in->cc ^ 1);
        xl_goto(x, in->target, insn_imm32_at(in));
        emit_patch8(&x->e, not_taken, x->e.p);
    }
    xl_goto(x, in->next, 0);
}

/* LOOP, LOOPE, LOOPNE, JECXZ: none of them touches flags; nor do JECXZ and Jcc, of which they are made. */
void lower_loop(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    xl_room(x);
    if (in->op == OP_JCXZ) {
        u8 *zero = emit_jecxz(e);
        u8 *over = emit_jmp32(e);
        emit_patch8(e, zero, e->p);
        xl_goto(x, in->target, insn_imm32_at(in));
        emit_patch32(over, e->p);
        xl_goto(x, in->next, 0);
        return;
    }
    emit_lea32(e, H_CX, hm(H_CX, -1));
    u8 *zero = emit_jecxz(e), *cond = NULL;
    if (in->op != OP_LOOP) cond = emit_jcc8(e, in->op == OP_LOOPE ? 5 /* NE */ : 4 /* E */);
    u8 *taken = emit_jmp32(e);
    emit_patch8(e, zero, e->p);
    if (cond) emit_patch8(e, cond, e->p);
    xl_goto(x, in->next, 0);
    emit_patch32(taken, e->p);
    xl_goto(x, in->target, insn_imm32_at(in));
}
