/* Links between blocks. */
#ifndef TRANSLATOR_CHAIN_H
#define TRANSLATOR_CHAIN_H
#include "translator/store/xl.h"

void xl_unlink_block(struct xl *xl, struct block *b); /* cuts it out: edges in and out, and jump-cache entries */
void xl_unlink_out(struct xl *xl, struct block *b);   /* the edges out of it. Async-signal-safe */
void xl_reset_edges(struct xl *xl, struct block *b);  /* its code as it was made: for when the whole graph goes */

#endif
