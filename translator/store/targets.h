/* What has been in a jump cache, page by page. */
#ifndef TRANSLATOR_TARGETS_H
#define TRANSLATOR_TARGETS_H
#include "translator/store/xl.h"

struct targets *xl_targets_of(struct alias *p, u32 mode, u32 context, u32 base); /* NULL: none has been */
/* Adds a LIVE block that lies on one page, or nothing if there is no room. Returns the set of its page, mode, context
 * and base of CS, or NULL. */
struct targets *xl_target_add(struct xl *xl, const struct block *b);
void xl_target_remove(const struct block *b); /* if it is one */
/* The one at that offset in the page, or NULL. */
const struct target *xl_target_find(const struct targets *t, u16 at);

#endif
