/* Jump caches, for this folder; what the runtime has of them is in translator.h. */
#ifndef TRANSLATOR_JUMP_H
#define TRANSLATOR_JUMP_H
#include "translator/store/xl.h"

void xl_jump_empty(struct xl *xl, enum xl_jump_cache which); /* completes one that is all zeroes */
void xl_jump_forget(struct xl *xl, const struct block *b);
bool xl_jump_knows(const struct xl *xl, enum xl_jump_cache which, laddr la); /* may have entries for la's page */

#endif
