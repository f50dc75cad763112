/* Pass 2: the stack and near control transfers.
 *
 * Order matters where two things are committed: a push stores first and moves ESP then, a pop loads first, so that a
 * fault leaves ESP as it was (SDM vol. 2, PUSH and POP). */
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_stream.h"
#include "translator/lower/lower_x87.h"
#include "translator/lower/reloc.h"

/* ESP becomes reg + n, or only SP does if the stack is one of 16 bits. */
static void esp_set(struct xl_ctx *x, int reg, s32 n)
{
    (x->src->mode & MK_SS32 ? emit_lea32 : emit_lea16)(&x->e, H_ESP, hm(reg, n));
}
void xl_esp_add(struct xl_ctx *x, s32 n) { esp_set(x, H_ESP, n); }

static struct hmem push_mem(struct xl_ctx *x, unsigned size) { return xl_stack(x, H_ESP, -(s32)size, XL_W, size); }
static struct hmem top_mem(struct xl_ctx *x, unsigned size) { return xl_stack(x, H_ESP, 0, XL_R, size); }

/* A register gets what is on the host's; of 16 bits, the upper half stays. */
static void mov_sized(struct xl_ctx *x, int dst, int src, unsigned size)
{
    if (size == 4) emit_mov_rr32(&x->e, dst, src);
    else emit_op_rr(&x->e, 0x66, 0x8b, 0, dst, src);
}

static void zero_extended(struct xl_ctx *x, int dst, unsigned reg, unsigned size)
{
    if (size == 4) emit_mov_rr32(&x->e, dst, xl_gpr(reg));
    else emit_movzx16(&x->e, dst, xl_gpr(reg));
}

void lower_push(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    unsigned size = in->opsize;
    if (o->kind == OPK_IMM) {
        emit_store_imm(&x->e, push_mem(x, size), in->imm, size);
        emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
    } else if (o->kind == OPK_REG) {
        emit_store(&x->e, push_mem(x, size), xl_gpr(o->reg), size);
    } else {
        struct hmem from = xl_mem(x, in, XL_R, size);
        emit_loadz(&x->e, H_R11, from, size);
        emit_store(&x->e, push_mem(x, size), H_R11, size);
    }
    xl_esp_add(x, -(s32)size);
}

static void pop_reg(struct xl_ctx *x, unsigned reg, unsigned size)
{
    struct hmem from = top_mem(x, size);
    if (size == 4) {
        emit_load32(&x->e, xl_gpr(reg), from);
        if (reg != G_ESP) xl_esp_add(x, 4);
        return;
    }
    emit_loadz(&x->e, H_R11, from, 2);
    xl_esp_add(x, 2); /* first: of POP SP, SP is what was popped */
    mov_sized(x, xl_gpr(reg), H_R11, 2);
}

void lower_pop(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    unsigned size = in->opsize;
    if (o->kind == OPK_REG) {
        pop_reg(x, o->reg, size);
        return;
    }
    emit_loadz(&x->e, H_R11, top_mem(x, size), size);
    struct hmem to = xl_ea(in); /* with ESP as it will be */
    if (in->base == G_ESP) {
        to.disp = (s32)((u32)to.disp + size);
        to.at = 0; /* it is another one now */
    }
    to = (in->addrsize == 4 ? xl_mem_at : xl_mem_at16)(x, to, (enum segreg)in->seg, XL_W, size);
    emit_store(&x->e, to, H_R11, size);
    xl_esp_add(x, (s32)size);
}

/* Of nesting level 0. */
void lower_enter(struct xl_ctx *x, const struct insn *in)
{
    xl_room(x);
    emit_mov_ri32(&x->e, H_R8, in->opsize | (in->imm & 0xffff) << 8);
    xl_call_helper(x, HELPER_ENTER);
}

void lower_leave(struct xl_ctx *x, const struct insn *in)
{
    struct hmem m = xl_stack(x, H_BP, 0, XL_R, in->opsize);
    emit_loadz(&x->e, H_R11, m, in->opsize);
    esp_set(x, H_BP, in->opsize);
    mov_sized(x, H_BP, H_R11, in->opsize);
}

/* ---- transfers ---- */

#define LONGEST_INSN 15u

/* An instruction that runs into the next page is never the target of an edge (xl_link). Which of the last ones of a
 * page do is not asked: a template is made for an offset in a page, and what is at the target may be other bytes where
 * it is used. */
static bool edge_to(const struct xl_ctx *x, vaddr target)
{
    laddr la = xl_linear(x, target);
    return !((la ^ x->src->la) & PAGE_MASK) && (la & ~PAGE_MASK) + LONGEST_INSN <= PAGE_SIZE;
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
    emit_jmp_m(e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts)
                                  + 8 * (xl_segmented(x) ? CALLOUT_JUMP_SEGMENTED : CALLOUT_JUMP))));
    emit_patch8(e, hit, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
}

void xl_goto_checked(struct xl_ctx *x, vaddr target, unsigned at)
{
    struct emit *e = &x->e;
    lower_stream_wrote(x);
    lower_x87_leave(x);
    xl_room(x);
    if (xl_segmented(x)) {
        emit_mov_ri32(e, H_R8, target);
        xl_goto_r8(x);
        return;
    }
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
    if (!edge_to(x, target)) {
        xl_goto_checked(x, target, at);
        return;
    }
    lower_stream_wrote(x);
    if (xl_linear(x, target) != x->src->la) lower_x87_leave(x); /* else its thunk does */
    add_edge(x, emit_jmp32(&x->e), target);
    x->ended = true;
}

/* The entry for the EIP in r8d, and what jump_cache_test() looks at. */
static void load_entry(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    emit_rorx32(e, H_R9, H_R8, 12); /* jump_index() */
    emit_lea64(e, H_R9, hmx(H_R9, H_R8, 1, 0));
    emit_movzx16(e, H_R9, H_R9);
    emit_lea64(e, H_R9, hmx(H_R9, H_R9, 1, 0));
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load32(e, H_CX, hmx(H_JC, H_R9, 8, 0));
    emit_op_rm(e, 0, 0x8d, 0, H_CX, hmx(H_CX, H_R8, 1, 0));
}

/* In segmented code, whose entries name the context too. */
static void load_tagged_entry(struct xl_ctx *x, u32 context)
{
    struct emit *e = &x->e;
    emit_lea32(e, H_R9, hm(H_R8, (s32)jump_spread(context)));
    emit_movzx16(e, H_R9, H_R9);
    emit_lea64(e, H_R9, hmx(H_R9, H_R9, 1, 0));
    emit_mov_rr64(e, H_R10, H_CX);
    emit_mov_ri64_long(e, H_R11, jump_tag(context, 0));
    emit_lea64(e, H_R11, hmx(H_R11, H_R8, 1, 0));
    emit_load64(e, H_CX, hmx(H_JC, H_R9, 8, 0));
    emit_lea64(e, H_CX, hmx(H_CX, H_R11, 1, 0));
}

void xl_goto_entry(struct xl_ctx *x)
{
    jump_cache_test(x);
    emit_jmp_m(&x->e, hmx(H_JC, H_R9, 8, (s32)offsetof(struct jump_entry, code)));
    x->ended = true;
}

void xl_goto_context(struct xl_ctx *x, u32 context)
{
    lower_stream_wrote(x);
    xl_room(x);
    load_tagged_entry(x, context);
    xl_goto_entry(x);
}

void xl_goto_r8(struct xl_ctx *x)
{
    if (xl_segmented(x)) {
        xl_goto_context(x, x->src->context);
        return;
    }
    lower_stream_wrote(x);
    xl_room(x);
    load_entry(x);
    xl_goto_entry(x);
}

/* A target in reg that CS does not let be executed faults here, with nothing committed. */
static void check_target(struct xl_ctx *x, const struct insn *in, int reg)
{
    struct emit *e = &x->e;
    if (!xl_segmented(x) || x->src->limit == 0xffffffff || (in->opsize == 2 && x->src->limit >= 0xffff)) return;
    xl_room(x);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_mov_ri64(e, H_R9, -((u64)x->src->limit + 1));
    emit_lea64(e, H_CX, hmx(reg, H_R9, 1, 0));
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_CX, H_CX, H_R9);
    xl_island_beyond(x, emit_jrcxz(e));
    emit_mov_rr64(e, H_CX, H_R10);
    xl_room(x);
}

void lower_jmp(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_REL) {
        xl_goto(x, in->target, insn_imm32_at(in));
        return;
    }
    if (o->kind == OPK_REG) zero_extended(x, H_R8, o->reg, in->opsize);
    else emit_loadz(&x->e, H_R8, xl_mem(x, in, XL_R, in->opsize), in->opsize);
    check_target(x, in, H_R8);
    xl_goto_r8(x);
}

void lower_call(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *o = &in->opnd[0];
    unsigned size = in->opsize;
    if (o->kind == OPK_REG) zero_extended(x, H_R11, o->reg, size);
    else if (o->kind == OPK_MEM) emit_loadz(&x->e, H_R11, xl_mem(x, in, XL_R, size), size);
    if (o->kind != OPK_REL) check_target(x, in, H_R11);
    if (size == 4) emit_store_eip(&x->e, push_mem(x, 4), in->next);
    else emit_store_imm(&x->e, push_mem(x, 2), in->next, 2);
    xl_esp_add(x, -(s32)size);
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
    emit_loadz(&x->e, H_R8, top_mem(x, in->opsize), in->opsize);
    check_target(x, in, H_R8);
    xl_esp_add(x, (s32)(in->opsize + extra));
    xl_goto_r8(x);
}

/* Both ways of a conditional: taken is the branch whose rel8 or rel32 is to be filled. */
void lower_jcc(struct xl_ctx *x, const struct insn *in)
{
    if (edge_to(x, in->target)) {
        add_edge(x, emit_jcc32(&x->e, in->cc), in->target);
    } else {
        xl_room(x);
        u8 *not_taken = emit_jcc8(&x->e, in->cc ^ 1);
        xl_goto(x, in->target, insn_imm32_at(in));
        emit_patch8(&x->e, not_taken, x->e.p);
    }
    xl_goto(x, in->next, 0);
}

/* A branch that is taken if the counter is zero: ECX, or CX. */
static u8 *jump_if_zero(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    if (in->addrsize == 4) return emit_jecxz(e);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_movzx16(e, H_CX, H_CX);
    u8 *zero = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    return zero;
}
/* Where that branch arrives. */
static void zero_here(struct xl_ctx *x, const struct insn *in, u8 *zero)
{
    emit_patch8(&x->e, zero, x->e.p);
    if (in->addrsize == 2) emit_mov_rr64(&x->e, H_CX, H_R10);
}

/* LOOP, LOOPE, LOOPNE, JECXZ: none of them touches flags; nor do JECXZ and Jcc, of which they are made. */
void lower_loop(struct xl_ctx *x, const struct insn *in)
{
    struct emit *e = &x->e;
    xl_room(x);
    if (in->op == OP_JCXZ) {
        u8 *zero = jump_if_zero(x, in);
        u8 *over = emit_jmp32(e);
        zero_here(x, in, zero);
        xl_goto(x, in->target, insn_imm32_at(in));
        emit_patch32(over, e->p);
        xl_goto(x, in->next, 0);
        return;
    }
    (in->addrsize == 4 ? emit_lea32 : emit_lea16)(e, H_CX, hm(H_CX, -1));
    u8 *zero = jump_if_zero(x, in), *cond = NULL;
    if (in->op != OP_LOOP) cond = emit_jcc8(e, in->op == OP_LOOPE ? 5 /* NE */ : 4 /* E */);
    u8 *taken = emit_jmp32(e);
    zero_here(x, in, zero);
    if (cond) emit_patch8(e, cond, e->p);
    xl_goto(x, in->next, 0);
    emit_patch32(taken, e->p);
    xl_goto(x, in->target, insn_imm32_at(in));
}
