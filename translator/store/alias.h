/* Which blocks are on a physical page, and under which linear ones. */
#ifndef TRANSLATOR_ALIAS_H
#define TRANSLATOR_ALIAS_H
#include "translator/store/xl.h"

struct code_page *xl_page(const struct xl *xl, paddr pa); /* NULL: never had a block */
MUST_CHECK int xl_pages_init(struct xl *xl);              /* 0 or -ENOMEM */
void xl_pages_free(struct xl *xl);
bool xl_pages_have_room(const struct xl *xl);     /* for what one more block may need */
void xl_pages_forget(struct xl *xl);              /* all of them: there are no blocks any more */
void xl_page_add(struct xl *xl, struct block *b); /* to where its la, pa and pa2 say; LIVE */
void xl_page_remove(struct xl *xl, struct block *b);
void xl_page_count(struct xl *xl, const struct block *b, int by); /* of LIVE ones */
struct block *xl_page_first(const struct code_page *pg); /* of all blocks that have a byte on it; pg may be NULL */
struct block *xl_page_after(const struct code_page *pg, const struct block *b);
struct alias *xl_alias(struct xl *xl, laddr la, paddr pa); /* NULL: no block has been there */
/* The same, of a page that is known, without a look at what was found last. */
struct alias *xl_alias_of(const struct code_page *pg, laddr la);

#endif
