/* What is to be noticed of a block (struct xl_tap). */
#ifndef TRANSLATOR_LOWER_TAP_H
#define TRANSLATOR_LOWER_TAP_H
#include "translator/lower/ctx.h"

/* First of all, before anything that may leave: counts what lower_tap_end() will find, and looks at the limit. */
void lower_tap_begin(struct xl_ctx *x);
/* Before an instruction that is not left to the interpreter: where it does not matter that flags change, counts it all,
 * if lower_tap_begin() has not. */
void lower_tap_count(struct xl_ctx *x);
/* Whether the instruction, number i, is left to the interpreter for that. */
bool lower_tap_leaves(const struct xl_ctx *x, unsigned i);
lower_fn lower_tap_interpret; /* how */
/* Before an instruction that is not: tells whoever wants to know that it begins. */
void lower_tap_tell(struct xl_ctx *x, const struct insn *in);
/* When all instructions have been lowered. */
void lower_tap_end(struct xl_ctx *x);

#endif
