/* What of a block goes into the trace stream (struct xl_tap, transvisor/stream.h). Nothing is emitted where none is. */
#ifndef TRANSLATOR_LOWER_STREAM_H
#define TRANSLATOR_LOWER_STREAM_H
#include "translator/lower/ctx.h"

bool lower_stream_block(struct xl_ctx *x); /* first of all: room, and the block's record; false: nothing goes into it */
bool lower_stream_memory(const struct xl_ctx *x, const struct insn *in); /* its accesses do */
void lower_stream_insn(struct xl_ctx *x, const struct insn *in);         /* it is lowered next */
/* If they do: its access at m, which is [r9+r8] or [r12+r8], R8 being the linear address. Uses R10. What is read is put
 * now; what is written is noted, */
void lower_stream_access(struct xl_ctx *x, struct hmem m, bool write, unsigned size);
void lower_stream_wrote(struct xl_ctx *x); /* and put here, if there is something: it has been written. Uses R9, R10 */
void lower_stream_end(struct xl_ctx *x);   /* fills in what the block has come to */

#endif
