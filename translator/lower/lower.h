/* Pass 2: instructions to host code. */
#ifndef TRANSLATOR_LOWER_H
#define TRANSLATOR_LOWER_H
#include "translator/lower/ctx.h"

/* x->scan, src, opt, sites, number and e are set; fills in the rest. */
void xl_lower(struct xl_ctx *x);

#endif
