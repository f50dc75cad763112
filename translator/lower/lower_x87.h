/* The x87 unit's instruction and data pointers in cpu->x87, stored as seldom as can be. */
#ifndef TRANSLATOR_LOWER_X87_H
#define TRANSLATOR_LOWER_X87_H
#include "translator/lower/ctx.h"

void lower_x87_begin(struct xl_ctx *x); /* once the block has been scanned */
/* Before and after the code of in, the instruction that is being lowered. */
void lower_x87_before(struct xl_ctx *x, const struct insn *in);
void lower_x87_after(struct xl_ctx *x, const struct insn *in);
void lower_x87_end(struct xl_ctx *x); /* where control falls out of the block's last instruction */
/* On one of the ways out of the block. What is still to be stored then is so on the others, too. R8 is kept. */
void lower_x87_leave(struct xl_ctx *x);

#endif
