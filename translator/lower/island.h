/* What is emitted beside the straight way: islands, the records that lead from host code back to guest instructions,
 * and the way out to the interpreter. */
#ifndef TRANSLATOR_ISLAND_H
#define TRANSLATOR_ISLAND_H
#include "translator/lower/ctx.h"

/* Host bytes between two calls of xl_room(): a memory access takes up to 44, what follows it up to 21. */
#define XL_ROOM 66

void xl_record(struct xl_ctx *x, unsigned insn); /* what is emitted from here on is that instruction's */
void xl_room(struct xl_ctx *x); /* to be called before up to XL_ROOM bytes: keeps islands within reach of branches */
/* Where an access is beyond its segment's limit: the guest's ECX is in R10, the interpreter raises the fault. */
void xl_island_beyond(struct xl_ctx *x, u8 *branch);
void xl_flush_islands(struct xl_ctx *x, bool falls_through);
void xl_callout(struct xl_ctx *x, enum callout c);
/* This instruction is the interpreter's unless ECX is 0. The guest's RCX is in R10, and is in RCX again behind it. */
void xl_emulate_unless_cx_is_0(struct xl_ctx *x);
void xl_call_helper(struct xl_ctx *x, enum helper h); /* its argument is in r8d, which islands leave alone */
void xl_check_fpu(struct xl_ctx *x, const struct insn *in);
lower_fn xl_lower_emulate;

#endif
