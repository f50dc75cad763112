/* How a block looks first, whether it is still the one to run. */
#ifndef TRANSLATOR_LOWER_CHECK_H
#define TRANSLATOR_LOWER_CHECK_H
#include "translator/lower/ctx.h"

/* The first two are to be called once, before anything is lowered. */
/* At a stop: leaves for the interpreter if a breakpoint is enabled there. */
void lower_stop(struct xl_ctx *x);
/* In a page whose writes nobody notices: compares the block's bytes, as far as they may run before it has written to
 * memory. May shorten the scan. */
void lower_check(struct xl_ctx *x);
/* There, after an instruction: if it may have written to memory, the bytes up to the next that may. */
void lower_check_behind(struct xl_ctx *x);

#endif
