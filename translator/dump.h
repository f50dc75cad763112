/* A block in print. */
#ifndef TRANSLATOR_DUMP_H
#define TRANSLATOR_DUMP_H
#include "translator/lower/ctx.h"
#include "translator/store/xl.h"

void xl_trace_block(struct xl *xl, const struct xl_ctx *x, const struct block *b); /* if it is to be traced */

#endif
