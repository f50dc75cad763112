/* The code cache as a whole. */
#ifndef TRANSLATOR_STORE_H
#define TRANSLATOR_STORE_H
#include "translator/store/xl.h"

bool xl_has_room(const struct xl *xl); /* for one more block */
void xl_evict(struct xl *xl);          /* empties it, but for templates */

#endif
