/* Templates as one piece of memory. */
#ifndef TRANSLATOR_TEMPLATE_FILE_H
#define TRANSLATOR_TEMPLATE_FILE_H
#include "translator/store/xl.h"

/* Those used last, max bytes of them at most, to be given to hostmem_unmap(). NULL: out of memory. */
u8 *template_collect(const struct xl *xl, u64 max, u64 *len);
/* Makes an image that template_collect() has made the only templates there are, or as much of it as an empty code cache
 * has room for. */
void template_take(struct xl *xl, const u8 *image);

#endif
