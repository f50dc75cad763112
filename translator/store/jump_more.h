/* More room for the user's jump cache. */
#ifndef TRANSLATOR_JUMP_MORE_H
#define TRANSLATOR_JUMP_MORE_H
#include "translator/store/xl.h"

void jump_more_put(struct xl *xl, const struct block *b);
void jump_more_remove(struct xl *xl, vaddr eip, const void *code); /* if it leads there; NULL: wherever it leads */
void jump_more_drop(struct xl *xl, bool (*drops)(void *arg, vaddr eip), void *arg);
void jump_more_flush(struct xl *xl);

#endif
