/* Pass 2: string instructions without a repeat prefix. DF is a number here, +1 or -1, so that advancing needs no
 * branch. */
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_string.h"

static void advance(struct xl_ctx *x, const struct insn *in, int reg, unsigned size)
{
    emit_loads32(&x->e, H_R9, CPU_FIELD(df));
    (in->addrsize == 4 ? emit_lea32 : emit_lea16)(&x->e, reg, hmx(reg, H_R9, size, 0));
}

static struct hmem source(struct xl_ctx *x, const struct insn *in, unsigned size)
{
    enum segreg seg = in->prefixes & IP_SEG ? (enum segreg)in->seg : S_DS;
    return (in->addrsize == 4 ? xl_mem_at : xl_mem_at16)(x, hm(H_SI, 0), seg, XL_R, size);
}
static struct hmem dest(struct xl_ctx *x, const struct insn *in, enum xl_access acc, unsigned size)
{
    return (in->addrsize == 4 ? xl_mem_at : xl_mem_at16)(x, hm(H_DI, 0), S_ES, acc, size);
}

static void op_size(struct xl_ctx *x, u32 byte_opcode, int reg, struct hmem m, unsigned size)
{
    emit_op_rm(&x->e, size == 2 ? 0x66 : 0, size == 1 ? byte_opcode : byte_opcode + 1, 0, reg, m);
}

void lower_string(struct xl_ctx *x, const struct insn *in)
{
    unsigned size = in->opcode & 1 ? in->opsize : 1;
    switch (in->op) {
    case OP_MOVS: {
        emit_loadz(&x->e, H_R11, source(x, in, size), size);
        emit_store(&x->e, dest(x, in, XL_W, size), H_R11, size);
        advance(x, in, H_SI, size);
        advance(x, in, H_DI, size);
        break;
    }
    case OP_STOS:
        emit_store(&x->e, dest(x, in, XL_W, size), H_AX, size);
        advance(x, in, H_DI, size);
        break;
    case OP_LODS:
        op_size(x, 0x8a, H_AX, source(x, in, size), size);
        advance(x, in, H_SI, size);
        break;
    case OP_SCAS:
        op_size(x, 0x3a, H_AX, dest(x, in, XL_R, size), size);
        advance(x, in, H_DI, size);
        break;
    case OP_CMPS:
        emit_loadz(&x->e, H_R11, source(x, in, size), size);
        op_size(x, 0x3a, H_R11, dest(x, in, XL_R, size), size);
        advance(x, in, H_SI, size);
        advance(x, in, H_DI, size);
        break;
    default: BUG_ON(true);
    }
}
