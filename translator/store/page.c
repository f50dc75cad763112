/* Owns which blocks are on a physical page: by the linear page that they are for, and those that run into it from the
 * page before.
 *
 * A library is mapped elsewhere in each process, and most processes do not live long. If each left its blocks behind,
 * the code cache would be full of them, and what is looked up or written would be in none of the host's caches. So once
 * a physical page has blocks for PLACES linear pages, those for the place that has not been looked for longest are
 * moved to a further one, all at once, with the links between them: a new process finds its libraries translated,
 * except for what no process has run so far. Only if all of these are in use, as by many processes taking turns, there
 * are more of them, up to PLACES_MAX.
 *
 *   I1  A block that is LIVE or RETIRED is on the list of its place, and on its second page's, if it has another one.
 *   I2  page->live counts the LIVE ones among them. */
#include "translator/xl.h"

#include <stdlib.h>
#include <string.h>

#define PLACES 8
#define PLACES_MAX 64
#define IN_USE \
    (1u << 14) /* xl->finds: what runs makes some hundred in a time slice, since a CR3 write empties its jump cache */

static unsigned page_slot(u64 pfn) { return (unsigned)((pfn * 0x9e3779b97f4a7c15ull) >> (64 - XL_PAGE_BITS)); }

struct code_page *xl_page(const struct xl *xl, paddr pa)
{
    u64 pfn = pa >> PAGE_SHIFT;
    for (struct code_page *pg = xl->pages[page_slot(pfn)]; pg; pg = pg->next)
        if (pg->pfn == pfn) return pg;
    return NULL;
}

bool xl_page_has_live(const struct xl *xl, paddr pa)
{
    const struct code_page *pg = xl_page(xl, pa);
    return pg && pg->live;
}

static void *make(size_t bytes)
{
    void *p = calloc(1, bytes);
    BUG_ON(!p); /* a few dozen bytes; the host is out of memory */
    return p;
}

static struct code_page *page_make(struct xl *xl, paddr pa)
{
    struct code_page *pg = xl_page(xl, pa);
    if (pg) return pg;
    pg = make(sizeof *pg);
    pg->pfn = pa >> PAGE_SHIFT;
    struct code_page **slot = &xl->pages[page_slot(pg->pfn)];
    pg->next = *slot;
    *slot = pg;
    return pg;
}

void xl_pages_free(struct xl *xl)
{
    for (unsigned i = 0; i < 1u << XL_PAGE_BITS; i++)
        for (struct code_page *pg = xl->pages[i], *next; pg; pg = next) {
            next = pg->next;
            for (struct place *p = pg->places, *following; p; p = following) {
                following = p->next;
                free(p);
            }
            free(pg);
            xl->pages[i] = NULL;
        }
    memset(xl->place, 0, sizeof *xl->place << XL_PLACE_BITS);
}

/* ---- lists ---- */

static struct place *place_of(const struct code_page *pg, laddr la)
{
    struct place *p = pg->places;
    while (p && p->la != (la & PAGE_MASK)) p = p->next;
    return p;
}

struct place *xl_place(struct xl *xl, laddr eip, paddr pa)
{
    u64 pfn = pa >> PAGE_SHIFT;
    u32 hash = (eip >> PAGE_SHIFT ^ (u32)pfn << 9) * 0x9e3779b1u;
    struct place **slot = &xl->place[hash >> (32 - XL_PLACE_BITS)], *p = *slot;
    if (p && p->pfn == pfn && p->la == (eip & PAGE_MASK)) return p;
    const struct code_page *pg = xl_page(xl, pa);
    if (pg && (p = place_of(pg, eip))) return *slot = p;
    return NULL;
}

static struct place *place_make(struct xl *xl, struct code_page *pg, laddr la)
{
    struct place *p = place_of(pg, la);
    if (p) return p;
    p = make(sizeof *p);
    p->id = ++xl->nplaces;
    p->pfn = pg->pfn;
    p->la = la & PAGE_MASK;
    p->next = pg->places;
    pg->places = p;
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
    b->place = place_make(xl, page_make(xl, b->pa), b->eip);
    b->place->used = ++xl->finds;
    b->place_next = b->place->first;
    b->place->first = b;
    if (other_page(b)) {
        struct code_page *pg = page_make(xl, b->pa2);
        b->into_next = pg->into;
        pg->into = b;
    }
    xl_page_count(xl, b, 1);
}

void xl_page_remove(struct xl *xl, struct block *b)
{
    struct block **at = &b->place->first;
    while (*at != b) at = &(*at)->place_next;
    *at = b->place_next;
    if (!other_page(b)) return;
    at = &xl_page(xl, b->pa2)->into;
    while (*at != b) at = &(*at)->into_next;
    *at = b->into_next;
}

static struct block *first_from(const struct code_page *pg, const struct place *p)
{
    while (p && !p->first) p = p->next;
    return p ? p->first : pg->into;
}

struct block *xl_page_first(const struct code_page *pg) { return pg ? first_from(pg, pg->places) : NULL; }

struct block *xl_page_after(const struct code_page *pg, const struct block *b)
{
    if (b->pa >> PAGE_SHIFT != pg->pfn) return b->into_next;
    return b->place_next ? b->place_next : first_from(pg, b->place->next);
}

unsigned xl_page_starts(const struct xl *xl, paddr pa, u16 *off, unsigned max)
{
    const struct code_page *pg = xl_page(xl, pa);
    u64 told[PAGE_SIZE / 64] = { 0 }; /* each place has blocks of its own */
    unsigned n = 0;
    for (const struct block *b = xl_page_first(pg); b && n < max; b = xl_page_after(pg, b)) {
        u16 at = b->pa & (PAGE_SIZE - 1);
        if (b->pa >> PAGE_SHIFT != pg->pfn || told[at / 64] >> at % 64 & 1)
            continue; /* straddles into this page, or known */
        told[at / 64] |= 1ull << at % 64;
        off[n++] = at;
    }
    return n;
}

/* ---- places ---- */

/* What has no template, or is to be seen being translated, is made anew if it is wanted. */
static void move_place(struct xl *xl, struct place *p, laddr la)
{
    u32 delta = la - p->la;
    bool jumped_to = xl_jump_knows(xl, XL_JC_USER, p->la) || xl_jump_knows(xl, XL_JC_SUPERVISOR, p->la);
    for (struct block *b = p->first, *next; b; b = next) {
        next = b->place_next;
        if (!b->from || xl_traced(xl, b->eip + delta)) xl_forget(xl, b);
    }
    for (struct block *b = p->first; b; b = b->place_next) {
        if (jumped_to) xl_jump_forget(xl, b);
        template_readdress(xl, b, delta);
        b->eip += delta;
        xl_perf_block(xl, b);
        xl->cfg.ctr->readdressed++;
    }
    p->la = la;
    p->used = ++xl->finds;
}

bool xl_page_move(struct xl *xl, laddr eip, paddr pa)
{
    struct code_page *pg = xl_page(xl, pa);
    if (!pg || place_of(pg, eip)) return false;
    struct place *oldest = pg->places;
    unsigned n = 0;
    for (struct place *p = pg->places; p; p = p->next, n++)
        if (xl->finds - p->used > xl->finds - oldest->used) oldest = p;
    if (n < PLACES || (n < PLACES_MAX && xl->finds - oldest->used < IN_USE)) return false;
    move_place(xl, oldest, eip & PAGE_MASK);
    return true;
}
