/* Owns which blocks are on a physical page: by the linear page under which they are run, and those that run into it
 * from the page before. Each linear page under which one physical page is run is an alias of it; blocks are an alias's,
 * for their code has linear addresses in it. What bounds their number is in readdress.c.
 *
 *   I1  A block that is LIVE or RETIRED is on the list of its alias, and on its second page's, if it has another one.
 *   I2  page->live counts the LIVE ones among them.
 *   I3  Records of pages and aliases come one after another out of memory that was reserved at the beginning, and go
 * all at once. When one of both runs out, the whole code cache is evicted.    [xl_pages_have_room, xl_has_room] */
#include "translator/store/alias.h"
#include "core/hash.h"
#include "translator/store/hostmem.h"

#include <errno.h>
#include <string.h>

static unsigned page_slot(u64 pfn) { return (unsigned)hash_slot(pfn, XL_PAGE_BITS); }

struct code_page *xl_page(const struct xl *xl, paddr pa)
{
    u64 pfn = pa >> PAGE_SHIFT;
    for (struct code_page *pg = xl->pages[page_slot(pfn)]; pg; pg = pg->next)
        if (pg->pfn == pfn) return pg;
    return NULL;
}

bool xl_page_known(const struct xl *xl, paddr pa) { return xl_page(xl, pa) != NULL; }

static struct code_page *page_make(struct xl *xl, paddr pa)
{
    struct code_page *pg = xl_page(xl, pa);
    if (pg) return pg;
    BUG_ON(xl->ncode_pages == xl->max_pages);
    pg = &xl->code_page[xl->ncode_pages++];
    *pg = (struct code_page){ .pfn = pa >> PAGE_SHIFT };
    struct code_page **slot = &xl->pages[page_slot(pg->pfn)];
    pg->next = *slot;
    *slot = pg;
    return pg;
}

int xl_pages_init(struct xl *xl)
{
    xl->max_pages = xl->max_blocks / 4;
    xl->code_page = (struct code_page *)hostmem_map_small(xl->max_pages * sizeof *xl->code_page);
    xl->alias = (struct alias *)hostmem_map_small(xl->max_pages * sizeof *xl->alias);
    return xl->code_page && xl->alias ? 0 : -ENOMEM;
}

void xl_pages_free(struct xl *xl)
{
    hostmem_unmap(xl->code_page, xl->max_pages * sizeof *xl->code_page);
    hostmem_unmap(xl->alias, xl->max_pages * sizeof *xl->alias);
}

bool xl_pages_have_room(const struct xl *xl)
{
    return xl->ncode_pages + 2 <= xl->max_pages && xl->naliases < xl->max_pages;
}

void xl_pages_forget(struct xl *xl)
{
    memset(xl->pages, 0, sizeof *xl->pages << XL_PAGE_BITS);
    memset(xl->alias_found, 0, sizeof *xl->alias_found << XL_ALIAS_BITS);
    xl->ncode_pages = xl->naliases = 0;
}

/* ---- lists ---- */

struct alias *xl_alias_of(const struct code_page *pg, laddr la)
{
    struct alias *p = pg->aliases;
    while (p && p->la != (la & PAGE_MASK)) p = p->next;
    return p;
}

struct alias *xl_alias(struct xl *xl, laddr la, paddr pa)
{
    u64 pfn = pa >> PAGE_SHIFT;
    struct alias **slot = &xl->alias_found[hash_slot(la >> PAGE_SHIFT ^ pfn << 9, XL_ALIAS_BITS)], *p = *slot;
    if (p && p->pfn == pfn && p->la == (la & PAGE_MASK)) return p;
    const struct code_page *pg = xl_page(xl, pa);
    if (pg && (p = xl_alias_of(pg, la))) return *slot = p;
    return NULL;
}

static struct alias *alias_make(struct xl *xl, struct code_page *pg, laddr la)
{
    struct alias *p = xl_alias_of(pg, la);
    if (p) return p;
    BUG_ON(xl->naliases == xl->max_pages);
    p = &xl->alias[xl->naliases++];
    *p = (struct alias){ .pfn = pg->pfn, .la = la & PAGE_MASK, .next = pg->aliases };
    pg->aliases = p;
    return p;
}

/* The second page of a block that straddles, if it is a page of its own: two linear pages may be one physical page. */
static bool other_page(const struct block *b)
{
    return b->pa2 != XL_NO_PAGE && b->pa2 >> PAGE_SHIFT != b->pa >> PAGE_SHIFT;
}

void xl_page_count(struct xl *xl, const struct block *b, int by)
{
    xl_page(xl, b->pa)->live += (unsigned)by;
    if (other_page(b)) xl_page(xl, b->pa2)->live += (unsigned)by;
}

void xl_page_add(struct xl *xl, struct block *b)
{
    b->alias = alias_make(xl, page_make(xl, b->pa), b->la);
    b->alias->used = ++xl->finds;
    b->alias_next = b->alias->first;
    b->alias->first = b;
    if (other_page(b)) {
        struct code_page *pg = page_make(xl, b->pa2);
        b->into_next = pg->into;
        pg->into = b;
    }
    xl_page_count(xl, b, 1);
}

static void list_remove(struct block *b)
{
    struct block **at = &b->alias->first;
    while (*at != b) at = &(*at)->alias_next;
    *at = b->alias_next;
}

void xl_page_remove(struct xl *xl, struct block *b)
{
    list_remove(b);
    if (!other_page(b)) return;
    struct block **at = &xl_page(xl, b->pa2)->into;
    while (*at != b) at = &(*at)->into_next;
    *at = b->into_next;
}

static struct block *first_from(const struct code_page *pg, const struct alias *p)
{
    while (p && !p->first) p = p->next;
    return p ? p->first : pg->into;
}

struct block *xl_page_first(const struct code_page *pg) { return pg ? first_from(pg, pg->aliases) : NULL; }

struct block *xl_page_after(const struct code_page *pg, const struct block *b)
{
    if (b->pa >> PAGE_SHIFT != pg->pfn) return b->into_next;
    return b->alias_next ? b->alias_next : first_from(pg, b->alias->next);
}

/* A page that other code was in before has its blocks for a while. */
static bool made_of(const struct xl *xl, const struct block *b, const u8 *page)
{
    unsigned at = b->pa & (PAGE_SIZE - 1), room = PAGE_SIZE - at;
    return !memcmp(xl->side + b->bytes, page + at, b->guest_len < room ? b->guest_len : room);
}

unsigned xl_page_starts(const struct xl *xl, paddr pa, const u8 *page, u16 *off, unsigned max)
{
    const struct code_page *pg = xl_page(xl, pa);
    u64 told[PAGE_SIZE / 64] = { 0 }; /* each alias has blocks of its own */
    unsigned n = 0;
    for (const struct block *b = xl_page_first(pg); b && n < max; b = xl_page_after(pg, b)) {
        u16 at = b->pa & (PAGE_SIZE - 1);
        if (b->pa >> PAGE_SHIFT != pg->pfn || told[at / 64] >> at % 64 & 1)
            continue; /* straddles into this page, or known */
        if (!made_of(xl, b, page)) continue;
        told[at / 64] |= 1ull << at % 64;
        off[n++] = at;
    }
    return n;
}
