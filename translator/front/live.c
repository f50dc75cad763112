/* Pass 2: which arithmetic flags are live after each instruction, backwards from the block's end, where all of them
 * are. An instruction that may fault shows all flags to the handler, so it counts as a reader of them. */
#include "translator/xl.h"

void xl_live(struct xl_ctx *x)
{
    u32 live = F_ARITH;
    for (unsigned i = x->n; i-- > 0;) {
        const struct insn *in = &x->insn[i];
        x->live[i] = live;
        live &= ~(insn_flags_written(in) | insn_flags_undef(in));
        live |= insn_flags_read(in) & F_ARITH;
        if (insn_has_mem(in) || in->row->attr & (A_FAULT | A_PRIV | A_IMPMEM | A_STACK | A_FPU)) live = F_ARITH;
    }
}
