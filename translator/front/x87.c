/* Which instructions move the x87 unit's pointers, and until when an operand's address can be made again. What counts
 * as control was asked of a processor (Zen 3): FNOP, FINCSTP, FFREE and FXAM move them, WAIT does not, nor does MMX. */
#include "translator/front/x87.h"

bool x87_moves(const struct insn *in)
{
    if (in->row->cls != CLS_x87) return false;
    switch (in->op) {
    case OP_FWAIT:
    case OP_FNINIT:
    case OP_FNCLEX:
    case OP_FNSTSW:
    case OP_FNSTCW:
    case OP_FLDCW:
    case OP_FNENI:
    case OP_FNDISI:
    case OP_FNSETPM:
    case OP_FNSTENV:
    case OP_FLDENV:
    case OP_FNSAVE:
    case OP_FRSTOR: return false;
    default: return true;
    }
}

u16 x87_opcode(const struct insn *in) { return (u16)((in->opcode & 7) << 8 | in->modrm); }

/* Integer instructions that change their first operand and nothing else. */
static bool changes_operand_0_only(const struct insn *in)
{
    switch (in->op) {
    case OP_ADD:
    case OP_OR:
    case OP_ADC:
    case OP_SBB:
    case OP_AND:
    case OP_SUB:
    case OP_XOR:
    case OP_CMP:
    case OP_TEST:
    case OP_INC:
    case OP_DEC:
    case OP_NOT:
    case OP_NEG:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
    case OP_MOV:
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_LEA:
    case OP_NOP: return true;
    default: return false;
    }
}

/* ADD, SUB, INC and DEC of a register by a constant: pointers that walk through an array. */
static bool steps(const struct insn *in, u32 *by)
{
    if (in->row->cls != CLS_int || !in->nops || in->opnd[0].kind != OPK_REG || in->opnd[0].size != 4) return false;
    bool constant = in->nops > 1 && in->opnd[1].kind == OPK_IMM;
    switch (in->op) {
    case OP_INC: *by = 1; return true;
    case OP_DEC: *by = ~0u; return true;
    case OP_ADD: *by = in->imm; return constant;
    case OP_SUB: *by = -in->imm; return constant;
    default: return false;
    }
}

bool x87_branch(const struct insn *in)
{
    switch (in->op) {
    case OP_JCC:
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE: return true;
    case OP_JMP: return in->opnd[0].kind == OPK_REL;
    default: return false;
    }
}

bool x87_steps(const struct x87_track *t, const struct insn *in)
{
    u32 by;
    return t->operand && steps(in, &by)
           && (in->opnd[0].reg == t->operand->base || in->opnd[0].reg == t->operand->index);
}

void x87_track(struct x87_track *t, const struct insn *in)
{
    u32 by;
    if (in->op == OP_FNINIT) *t = (struct x87_track){ 0 };
    if (t->operand && steps(in, &by)) {
        if (in->opnd[0].reg == t->operand->base) t->moved -= by;
        if (in->opnd[0].reg == t->operand->index) t->moved -= by * t->operand->scale;
    }
    if (!x87_moves(in)) return;
    t->last = in;
    if (!insn_has_mem(in)) return;
    t->operand = in;
    t->moved = 0;
}

bool x87_operand_lost(const struct x87_track *t, const struct insn *in)
{
    const struct insn *o = t->operand;
    u32 by;
    if (!o || steps(in, &by)) return false;
    if (in->row->cls == CLS_x87) return in->op == OP_FNSTSW && !insn_has_mem(in); /* AX */
    if (x87_branch(in)) return in->op != OP_JCC && in->op != OP_JMP && (o->base == G_ECX || o->index == G_ECX);
    if (in->row->cls != CLS_int || !changes_operand_0_only(in)) return true;
    if (!(in->row->attr & A_WR) || !in->nops || in->opnd[0].kind != OPK_REG) return false;
    int reg = in->opnd[0].size == 1 ? in->opnd[0].reg & 3 : in->opnd[0].reg;
    return reg == o->base || reg == o->index;
}
