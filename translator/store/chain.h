/* Links between blocks. */
#ifndef TRANSLATOR_CHAIN_H
#define TRANSLATOR_CHAIN_H
#include "translator/store/xl.h"

void xl_unlink_block(struct xl *xl, struct block *b); /* cuts it out: edges in and out, and jump-cache entries */
void xl_unlink_out(struct xl *xl, struct block *b);   /* the edges out of it. Async-signal-safe */
void xl_reset_edges(struct xl *xl, struct block *b);  /* its code as it was made: for when the whole graph goes */
void xl_jump_empty(struct xl *xl, enum xl_jump_cache which); /* completes one that is all zeroes */
void xl_jump_forget(struct xl *xl, const struct block *b);
bool xl_jump_knows(const struct xl *xl, enum xl_jump_cache which, laddr la); /* may have entries for la's page */

#endif
