/* What has been driven out of the user's jump cache. */
#ifndef TRANSLATOR_JUMP_MORE_H
#define TRANSLATOR_JUMP_MORE_H
#include "translator/store/xl.h"

int jump_more_init(struct xl *xl); /* 0 or -ENOMEM */
void jump_more_free(struct xl *xl);
/* Two EIPs want one place in the jump cache, of which one is this. */
void jump_more_put(struct xl *xl, vaddr eip, void *code);
void jump_more_remove(struct xl *xl, vaddr eip, const void *code); /* if it leads there; NULL: wherever it leads */
void jump_more_drop(struct xl *xl, bool (*drops)(void *arg, vaddr eip), void *arg);
void jump_more_flush(struct xl *xl);

#endif
