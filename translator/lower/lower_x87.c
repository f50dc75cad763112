/* Pass 2, the x87 unit's pointers: for a block, behind its last x87 instruction
 *     mov   r9, eip << 32 | opcode
 *     mov   [r15+x87.op], r9
 * and for an operand's address, before a register in it changes, or at the end
 *     lea   r8d, [ea]
 *     mov   [r15+x87.dp], r8
 *     mov   dword [r15+x87.ds], segment register     ; if it is not DS
 * The ways out in between know what has not been stored (front/x87.h). */
#include "translator/lower/lower_x87.h"
#include "translator/lower/island.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/reloc.h"

static void store_operand(struct xl_ctx *x)
{
    const struct insn *o = x->x87.operand;
    if (!o) return;
    x->x87.operand = NULL;
    unsigned lowering = x->relocs.insn;
    x->relocs.insn = o->eip - x->src->eip; /* whose displacement it is */
    xl_room(x);
    struct hmem ea = xl_ea(o);
    ea.disp = (s32)((u32)ea.disp + x->x87.moved);
    emit_lea32(&x->e, H_R8, ea);
    if (o->addrsize == 2) emit_movzx16(&x->e, H_R8, H_R8);
    emit_store(&x->e, CPU_FIELD(x87.dp), H_R8, 8);
    if (o->seg != S_DS) emit_store_imm(&x->e, CPU_FIELD(x87.ds), X87_SEG(o->seg), 4);
    x->relocs.insn = lowering;
    xl_room(x);
}

static void store_all(struct xl_ctx *x)
{
    store_operand(x);
    if (!x->x87.last) return;
    xl_room(x);
    emit_mov_eip_high(&x->e, H_R9, x->x87.last->eip, x87_opcode(x->x87.last));
    emit_store(&x->e, CPU_FIELD(x87.op), H_R9, 8);
    x->x87.last = NULL;
    xl_room(x);
}

static void clear_all(struct xl_ctx *x)
{
    xl_room(x);
    emit_store_imm(&x->e, CPU_FIELD(x87.op), X87_LATCHED, 8);
    emit_store_imm(&x->e, CPU_FIELD(x87.dp), 0, 4);
    emit_store_imm(&x->e, CPU_FIELD(x87.ds), X87_LATCHED, 4);
    emit_store_imm(&x->e, CPU_FIELD(x87.cs), 0, 4);
    xl_room(x);
}

void lower_x87_before(struct xl_ctx *x, const struct insn *in)
{
    /* By the instruction alone, not by its being the last one: a block that ends here for what comes next is the same
     * as one that does not, or templates would differ. Other ends are those of recovery or of lower_x87_end(). */
    bool leaves = in->row->attr & A_END && !x87_moves(in);
    if (leaves) store_all(x);
    else if (x87_operand_lost(&x->x87, in)) store_operand(x);
}

void lower_x87_after(struct xl_ctx *x, const struct insn *in)
{
    if (in->op == OP_FNINIT && !x->ended) clear_all(x);
    x87_track(&x->x87, in);
    x->moves_x87 |= x87_moves(in);
}

void lower_x87_end(struct xl_ctx *x) { store_all(x); }
