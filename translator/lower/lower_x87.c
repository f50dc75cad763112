/* Pass 2, the x87 unit's pointers: for a block, behind its last x87 instruction
 *     mov   r9, eip << 32 | opcode
 *     mov   [r15+x87.op], r9
 * and for an operand's address, before a register in it changes, or at the end
 *     lea   r9d, [ea]
 *     mov   [r15+x87.dp], r9
 *     mov   dword [r15+x87.ds], segment register     ; if it is not DS
 * The ways out in between know what has not been stored (front/x87.h).
 *
 * A loop that is one block would do so in each turn. So its branch to itself leads to a second copy (xl_turns). That
 * one stores when the loop is left: on its other way out, and in the thunk of its edge to itself. */
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
    emit_lea32(&x->e, H_R9, ea);
    if (o->addrsize == 2) emit_movzx16(&x->e, H_R9, H_R9);
    emit_store(&x->e, CPU_FIELD(x87.dp), H_R9, 8);
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

void lower_x87_begin(struct xl_ctx *x)
{
    const struct scan *s = &x->scan;
    const struct insn *last = &s->insn[s->n - 1];
    x->x87 = (struct x87_track){ 0 };
    x->relocs.fixed = false;
    x->x87_kind = x->src->x87_due ? BLOCK_X87_DUE : 0;
    x->turns = x87_branch(last) && last->target == x->src->eip && !x->src->bound && !(x->src->mode & MK_CHECKED);
    for (unsigned i = 0; x->src->x87_due && i < s->n; i++) { /* as behind the end of a turn */
        if (x87_operand_lost(&x->x87, &s->insn[i])) x->x87.operand = NULL;
        x87_track(&x->x87, &s->insn[i]);
    }
}

/* The branch that ends a loop. The first copy stores all, so that the second can be entered from anywhere. */
static void before_turn(struct xl_ctx *x, const struct insn *in)
{
    if (x->x87.last) x->x87_kind |= BLOCK_X87_TURNS;
    if (!x->src->x87_due) store_all(x);
    else if (x87_operand_lost(&x->x87, in)) store_operand(x);
}

void lower_x87_before(struct xl_ctx *x, const struct insn *in)
{
    /* By the instruction alone, not by its being the last one: a block that ends here for what comes next is the same
     * as one that does not, or templates would differ. Other ends are those of recovery or of lower_x87_end(). */
    bool leaves = in->row->attr & A_END && !x87_moves(in);
    if (x->turns && x->n + 1 == x->scan.n) before_turn(x, in);
    else if (leaves) store_all(x);
    else if (x87_operand_lost(&x->x87, in)) store_operand(x);
    x->relocs.fixed = x87_steps(&x->x87, in);
}

void lower_x87_after(struct xl_ctx *x, const struct insn *in)
{
    x->relocs.fixed = false;
    if (in->op == OP_FNINIT && !x->ended) clear_all(x);
    x87_track(&x->x87, in);
    if (x87_moves(in)) x->x87_kind |= BLOCK_X87_MOVES;
}

void lower_x87_end(struct xl_ctx *x) { store_all(x); }

void lower_x87_leave(struct xl_ctx *x)
{
    struct x87_track due = x->x87;
    store_all(x);
    x->x87 = due;
}
