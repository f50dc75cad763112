/* How a block in a page whose writes nobody notices begins. */
#ifndef TRANSLATOR_LOWER_CHECK_H
#define TRANSLATOR_LOWER_CHECK_H
#include "translator/lower/ctx.h"

/* To be called once, before anything is lowered: may shorten the scan. */
void lower_check(struct xl_ctx *x);

#endif
