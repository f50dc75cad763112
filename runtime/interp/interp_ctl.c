/* Near control transfers and the stack: classes ctl and stack.
 *
 * The stack's width is SS.B, the operand's is the operand size; both are general here. ESP is committed last. */
#include "runtime/interp/interp_core.h"

#define HANDLER(name) static int name(struct interp *ip UNUSED, struct cpu *c UNUSED, const struct insn *in UNUSED)

/* ---- jumps ---- */

#define JCC_HANDLER(cc) \
    HANDLER(do_jcc_##cc) { return condition(c->aflags, cc) ? jump_to(c, in->target) : ST_NEXT; }
#define CONDITIONS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
CONDITIONS(JCC_HANDLER)

HANDLER(do_jmp_rel) { return jump_to(c, in->target); }

HANDLER(do_jmp_indirect)
{
    u32 target;
    if (operand_read(ip, c, in, 0, &target)) return ST_FAULT;
    return jump_to(c, target);
}

static bool outside_cs(const struct cpu *c, u32 target)
{
    return unlikely(!(c->mode & MK_CSFLAT)) && target > c->seg[S_CS].limit;
}

ALWAYS_INLINE int call(struct interp *ip, struct cpu *c, const struct insn *in, u32 target)
{
    if (outside_cs(c, target)) return exc_raise_err(c, V_GP, 0);
    if (push(ip, c, in->opsize, in->next)) return ST_FAULT;
    c->eip = target;
    return ST_JUMP;
}
HANDLER(do_call_rel) { return call(ip, c, in, in->target); }
HANDLER(do_call_indirect)
{
    u32 target;
    if (operand_read(ip, c, in, 0, &target)) return ST_FAULT;
    return call(ip, c, in, target);
}

HANDLER(do_ret)
{
    u32 target;
    if (stack_peek(ip, c, 0, in->opsize, &target)) return ST_FAULT;
    if (outside_cs(c, target)) return exc_raise_err(c, V_GP, 0);
    stack_set(c, c->gpr[G_ESP] + in->opsize + (in->nops ? in->imm : 0));
    c->eip = target;
    return ST_JUMP;
}

/* ECX or CX, by address size. */
static u32 counter_mask(const struct insn *in) { return in->addrsize == 4 ? ~0u : 0xffffu; }

HANDLER(do_loop)
{
    u32 mask = counter_mask(in), count = (c->gpr[G_ECX] - 1) & mask;
    bool zf = c->aflags & F_ZF, taken = count && (in->op == OP_LOOP || zf == (in->op == OP_LOOPE));
    if (taken && outside_cs(c, in->target)) return exc_raise_err(c, V_GP, 0);
    c->gpr[G_ECX] = (c->gpr[G_ECX] & ~mask) | count;
    return taken ? jump_to(c, in->target) : ST_NEXT;
}

HANDLER(do_jcxz) { return c->gpr[G_ECX] & counter_mask(in) ? ST_NEXT : jump_to(c, in->target); }

/* ---- push and pop ---- */

HANDLER(do_push_r32) { return push(ip, c, 4, c->gpr[in->opnd[0].reg]); }

HANDLER(do_push)
{
    u32 v;
    if (operand_read(ip, c, in, 0, &v)) return ST_FAULT;
    return push(ip, c, in->opsize, v);
}

HANDLER(do_pop_r32) /* POP ESP: what was popped stays */
{
    u32 v;
    if (stack_peek(ip, c, 0, 4, &v)) return ST_FAULT;
    stack_set(c, c->gpr[G_ESP] + 4);
    c->gpr[in->opnd[0].reg] = v;
    return ST_NEXT;
}

HANDLER(do_pop) /* an address in memory that uses ESP sees it incremented (SDM vol. 2, POP) */
{
    u32 v, esp = c->gpr[G_ESP];
    if (stack_peek(ip, c, 0, in->opsize, &v)) return ST_FAULT;
    stack_set(c, esp + in->opsize);
    if (operand_write(ip, c, in, 0, v)) {
        c->gpr[G_ESP] = esp;
        return ST_FAULT;
    }
    return ST_NEXT;
}

HANDLER(do_pusha) /* all eight or none */
{
    u32 size = in->opsize, mask = stack_mask(c), esp = c->gpr[G_ESP];
    for (u32 i = 1; i <= 8; i++)
        if (interp_probe_write(ip, S_SS, (esp - i * size) & mask, size)) return ST_FAULT;
    for (u32 i = 1; i <= 8; i++)
        if (store(ip, c, S_SS, (esp - i * size) & mask, size, c->gpr[i - 1])) return ST_FAULT;
    stack_set(c, esp - 8 * size);
    return ST_NEXT;
}

HANDLER(do_popa)
{
    u32 size = in->opsize, v[8];
    for (u32 i = 0; i < 8; i++)
        if (stack_peek(ip, c, i * size, size, &v[i])) return ST_FAULT;
    stack_set(c, c->gpr[G_ESP] + 8 * size);
    for (u32 i = 0; i < 8; i++)
        if (7 - i != G_ESP) reg_set(c, 7 - i, size, v[i]);
    return ST_NEXT;
}

HANDLER(do_enter)
{
    u32 size = in->opsize, level = in->imm2 & 31, mask = stack_mask(c);
    u32 esp = c->gpr[G_ESP] - size, frame = esp, v;
    if (store(ip, c, S_SS, esp & mask, size, c->gpr[G_EBP])) return ST_FAULT;
    for (u32 i = 1; i < level; i++) {
        if (load(ip, c, S_SS, (c->gpr[G_EBP] - i * size) & mask, size, &v)) return ST_FAULT;
        esp -= size;
        if (store(ip, c, S_SS, esp & mask, size, v)) return ST_FAULT;
    }
    if (level) {
        esp -= size;
        if (store(ip, c, S_SS, esp & mask, size, (c->gpr[G_ESP] & ~mask) | (frame & mask))) return ST_FAULT;
    }
    esp -= in->imm;
    if (interp_probe_write(ip, S_SS, esp & mask, size)) return ST_FAULT; /* the new top must be writable */
    reg_set(c, G_EBP, size, (c->gpr[G_ESP] & ~mask) | (frame & mask));
    stack_set(c, esp);
    return ST_NEXT;
}

HANDLER(do_leave)
{
    u32 v;
    if (load(ip, c, S_SS, c->gpr[G_EBP] & stack_mask(c), in->opsize, &v)) return ST_FAULT;
    stack_set(c, c->gpr[G_EBP] + in->opsize);
    reg_set(c, G_EBP, in->opsize, v);
    return ST_NEXT;
}

/* ---- which ---- */

interp_fn interp_ctl_handler(const struct insn *in)
{
#define X(cc) do_jcc_##cc,
    static const interp_fn jcc[16] = { CONDITIONS(X) };
#undef X
    bool r32 = in->nops && in->opnd[0].kind == OPK_REG && in->opsize == 4;
    switch (in->op) {
    case OP_JCC: return jcc[in->cc];
    case OP_JMP: return in->opnd[0].kind == OPK_REL ? do_jmp_rel : do_jmp_indirect;
    case OP_CALL: return in->opnd[0].kind == OPK_REL ? do_call_rel : do_call_indirect;
    case OP_RET: return do_ret;
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE: return do_loop;
    case OP_JCXZ: return do_jcxz;
    case OP_PUSH: return r32 ? do_push_r32 : do_push;
    case OP_POP: return r32 ? do_pop_r32 : do_pop;
    case OP_PUSHA: return do_pusha;
    case OP_POPA: return do_popa;
    case OP_ENTER: return do_enter;
    case OP_LEAVE: return do_leave;
    default: return NULL;
    }
}
