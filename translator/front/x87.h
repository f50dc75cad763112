/* The x87 unit's instruction and data pointers (SDM vol. 1, 8.1.8) as the instructions of a block move them on.
 *
 * Code that never asks for them should not pay for each instruction. So a block stores them once, behind its last x87
 * instruction; who leaves it earlier goes through the instructions before that point again (recover.c). Both do it by
 * the functions here. The address of an operand is as good as stored for as long as the registers that make it are as
 * they were; x87_operand_lost() says before which instruction that ends. */
#ifndef TRANSLATOR_X87_H
#define TRANSLATOR_X87_H
#include "translator/front/insn.h"

struct x87_track {
    const struct insn *last; /* the last instruction that has moved the pointers, or NULL */
    const struct insn
        *operand; /* the last one of them with a memory operand whose address is not stored yet, or NULL */
    u32 moved;    /* to be added to what its registers make by now: they have been stepped on by constants */
};

/* What a block has to do with the x87 unit's pointers: a set. */
enum block_x87 {
    BLOCK_X87_MOVES = 1, /* its instructions move them (recover.c) */
    BLOCK_X87_TURNS = 2, /* it ends in a branch to its own beginning, where some are still to be stored (xl_turns) */
    BLOCK_X87_DUE = 4,   /* the copy that such a branch leads to: some are still to be stored where it begins */
    BLOCK_X87_ALL = 7
};

/* Whether it moves the pointers: all x87 instructions but those of control. */
bool x87_moves(const struct insn *in);
/* FOP: the last three bits of the first opcode byte, and ModRM. */
u16 x87_opcode(const struct insn *in);
/* A relative branch that pushes nothing: the registers are as before it, but for the ECX of LOOP. */
bool x87_branch(const struct insn *in);
/* Whether the address of t->operand has to be stored before in runs. */
bool x87_operand_lost(const struct x87_track *t, const struct insn *in);
/* Whether in steps on a register of t->operand by a constant, which is part of its address then. */
bool x87_steps(const struct x87_track *t, const struct insn *in);
/* After in. FNINIT clears them all, at once. */
void x87_track(struct x87_track *t, const struct insn *in);

#endif
