/* What is to be noticed of a block (struct xl_tap). */
#ifndef TRANSLATOR_LOWER_TAP_H
#define TRANSLATOR_LOWER_TAP_H
#include "translator/lower/ctx.h"

/* First of all, before anything that may leave: counts what lower_tap_end() will find, and looks at the limit. */
void lower_tap_begin(struct xl_ctx *x);
/* How the instruction is to be done, if not as policy says: NULL, or the interpreter has to tell of it. */
lower_fn *lower_tap_insn(struct xl_ctx *x, const struct insn *in);
/* When all instructions have been lowered. */
void lower_tap_end(struct xl_ctx *x);

#endif
