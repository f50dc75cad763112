/* Patched copies of pages of code, which direct execution runs in their place. They are pages of the file of guest RAM
 * that are no memory of the guest's, so whoever maps that file maps them. */
#ifndef RUNTIME_COPIES_H
#define RUNTIME_COPIES_H
#include "runtime/direct/scan_page.h"
#include "runtime/mem/physmem.h"

struct copies;

/* Returns 0, or -errno if the host has no room for them. */
MUST_CHECK int copies_new(struct copies **out, struct bus *b);
void copies_free(struct copies *c); /* copes with NULL. Their pages stay until the bus is freed */

/* page: of the file. bytes: what it holds. Makes its copy, or makes it anew; false: there are too many. */
bool copies_make(struct copies *c, u64 page, const u8 *bytes, const struct scan_result *patches);
void copies_drop(struct copies *c, u64 page);            /* if there is one. Nobody maps it any more */
bool copies_find(struct copies *c, u64 page, u64 *copy); /* of which page of the file it is the copy's */
/* The page was read where its copy is. True: so often of late that it is not worth a copy. */
bool copies_read(struct copies *c, u64 page);
void copies_age(struct copies *c); /* every second or two: half of what has been read is forgotten */
#endif
