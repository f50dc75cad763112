/* Blocks: taken into the cache, found, retired, revived, forgotten. */
#ifndef TRANSLATOR_CACHE_H
#define TRANSLATOR_CACHE_H
#include "translator/store/xl.h"

void xl_prefault(struct xl *xl); /* the host's pages that the next block will be written to */
void xl_commit(struct xl *xl, const struct xl_ctx *x, struct block *b);
void xl_keep_bytes(struct xl *xl, struct block *b, const struct xl_source *src); /* for xl_revive() */
void xl_block_add(struct xl *xl, struct block *b); /* makes a complete record LIVE, and part of the graph */
void xl_forget_at(struct xl *xl, paddr pa);        /* the blocks that contain it */

#endif
