/* The stack, and near transfers of control. */
#ifndef TRANSLATOR_LOWER_CTL_H
#define TRANSLATOR_LOWER_CTL_H
#include "translator/lower/ctx.h"

lower_fn lower_push, lower_pop, lower_enter, lower_leave;
lower_fn lower_jmp, lower_jcc, lower_call, lower_ret, lower_loop;
/* at: where in the instruction the target is, relative, as 32 bits; 0: it is not. */
void xl_goto(struct xl_ctx *x, vaddr target, unsigned at); /* direct transfer: an edge, or through the jump cache */
void xl_goto_checked(struct xl_ctx *x, vaddr target, unsigned at); /* the same, always through the jump cache */
void xl_esp_add(struct xl_ctx *x, s32 n);                          /* ESP, or SP if the stack is one of 16 bits */
void xl_goto_r8(struct xl_ctx *x);                                 /* indirect: target EIP in r8d */
void xl_goto_context(struct xl_ctx *x, u32 context);               /* the same, of segmented code, in that context */
/* The same, of what has looked for the entry: R9 is its index, twice; RCX is 0 if it is the target's; R10 is the
 * guest's ECX. */
void xl_goto_entry(struct xl_ctx *x);

#endif
