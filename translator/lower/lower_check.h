/* How a block begins that has to look first. */
#ifndef TRANSLATOR_LOWER_CHECK_H
#define TRANSLATOR_LOWER_CHECK_H
#include "translator/lower/ctx.h"

/* Both to be called once, before anything is lowered. */
/* At a stop: leaves for the interpreter if a breakpoint is enabled there. */
void lower_stop(struct xl_ctx *x);
/* In a page whose writes nobody notices: compares the block's bytes. May shorten the scan. */
void lower_check(struct xl_ctx *x);

#endif
