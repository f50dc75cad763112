/* Owns which page of code has a patched copy, and where.
 *
 *   I1  of[i] is the page that copy i is of, NO_PAGE if none; a page is in it at most once.    [copies_make]
 *   I2  Copies from `end` on have never been made. */
#include "runtime/direct/copies.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COPIES 1024u
#define NO_PAGE UINT32_MAX
#define READS_MAX 16

struct copies {
    u64 first; /* page of the file */
    u8 *host;
    u32 end;
    u32 of[COPIES];
    u8 reads[COPIES];
};

int copies_new(struct copies **out, struct bus *b)
{
    struct copies *c = calloc(1, sizeof *c);
    if (!c) return -ENOMEM;
    int err = bus_spare(b, COPIES, &c->first, &c->host);
    if (err) {
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

void copies_free(struct copies *c) { free(c); }

/* The place of page's; c->end if it has none. */
static u32 place_of(const struct copies *c, u64 page)
{
    u32 i = 0;
    while (i < c->end && c->of[i] != page) i++;
    return i;
}

bool copies_make(struct copies *c, u64 page, const u8 *bytes, const struct scan_result *patches)
{
    u32 i = place_of(c, page);
    if (i == c->end) i = place_of(c, NO_PAGE);
    if (i == COPIES) return false;
    if (i == c->end) c->end++;
    u8 *copy = c->host + ((u64)i << PAGE_SHIFT);
    memcpy(copy, bytes, PAGE_SIZE);
    for (unsigned k = 0; k < patches->n; k++) copy[patches->patch[k].at] = patches->patch[k].byte;
    c->of[i] = (u32)page;
    c->reads[i] = 0;
    return true;
}

void copies_drop(struct copies *c, u64 page)
{
    u32 i = place_of(c, page);
    if (i < c->end) c->of[i] = NO_PAGE;
}

bool copies_find(struct copies *c, u64 page, u64 *copy)
{
    u32 i = place_of(c, page);
    *copy = c->first + i;
    return i < c->end;
}

bool copies_read(struct copies *c, u64 page)
{
    u32 i = place_of(c, page);
    return i < c->end && ++c->reads[i] >= READS_MAX;
}

void copies_age(struct copies *c)
{
    for (u32 i = 0; i < c->end; i++) c->reads[i] /= 2;
}
