/* What guest instructions have taught us about their window accesses, by physical address: a table with open
 * addressing, grown at half full, whose entries are never taken out.
 *
 *     FITS --guard--> WRAPS --guard, or not to be mapped--> SOFT --its time has come--> FITS
 *       `-------------not to be mapped------------------------^
 *
 * A soft site goes back because reasons pass: a page held code once, a kernel's early page tables were not worth a
 * mapping, one caller of memcpy() passed a device's memory. Where they do not, it costs a host fault and a translation
 * or two, so each return is followed by a wait twice as long as the one before, and the caller says how many it can
 * afford. */
#include "translator/lower/sites.h"
#include "core/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 1024u

static unsigned site_slot(const struct site_set *s, u64 key) { return (unsigned)hash_slot(key, 32) & (s->cap - 1); }

static unsigned page_bit(paddr pa) { return (unsigned)hash_slot(pa >> PAGE_SHIFT, 12); }

bool site_page(const struct site_set *s, paddr pa) { return s->pages[page_bit(pa) / 64] >> (page_bit(pa) % 64) & 1; }

/* The entry of a key, or the empty one where it would go. */
static struct site *site_find(const struct site_set *s, u64 key)
{
    unsigned i = site_slot(s, key);
    while (s->slot[i].key && s->slot[i].key != key) i = (i + 1) & (s->cap - 1);
    return &s->slot[i];
}

enum site_state site_get(const struct site_set *s, paddr pa) { return (enum site_state)site_find(s, pa + 1)->state; }

int site_set_init(struct site_set *s)
{
    *s = (struct site_set){ .cap = FIRST_CAP, .slot = calloc(FIRST_CAP, sizeof *s->slot) };
    return s->slot ? 0 : -ENOMEM;
}

void site_set_free(struct site_set *s)
{
    free(s->slot);
    s->slot = NULL;
}

/* What has been learnt costs a fault each to learn again. */
static void site_forget_all(struct site_set *s)
{
    memset(s->slot, 0, s->cap * sizeof *s->slot);
    memset(s->pages, 0, sizeof s->pages);
    s->used = s->soft = 0;
}

static void site_grow(struct site_set *s)
{
    struct site_set old = *s;
    struct site *bigger = calloc(old.cap * (size_t)2, sizeof *bigger);
    if (!bigger) {
        site_forget_all(s);
        return;
    }
    s->slot = bigger;
    s->cap = old.cap * 2;
    for (unsigned i = 0; i < old.cap; i++)
        if (old.slot[i].key) *site_find(s, old.slot[i].key) = old.slot[i];
    free(old.slot);
}

enum site_state site_fault(struct site_set *s, paddr pa, bool guard)
{
    if (s->used * 2 >= s->cap) site_grow(s);
    struct site *t = site_find(s, pa + 1);
    if (!t->key) s->used++;
    t->key = pa + 1;
    s->pages[page_bit(pa) / 64] |= (u64)1 << page_bit(pa) % 64;
    if (guard && t->state == SITE_FITS) return t->state = SITE_WRAPS;
    if (t->state != SITE_SOFT) s->soft++;
    t->state = SITE_SOFT;
    t->due = s->now + (SITE_FIRST_WAIT << t->waits);
    if (t->waits < SITE_MAX_WAITS) t->waits++;
    return SITE_SOFT;
}

/* A hand that goes round, a few entries at a time. */
paddr site_next_due(struct site_set *s, unsigned look)
{
    for (; s->soft && look; look--) {
        struct site *t = &s->slot[s->hand++ & (s->cap - 1)];
        if (t->state != SITE_SOFT || (s32)(s->now - t->due) < 0) continue;
        t->state = SITE_FITS;
        s->soft--;
        return t->key - 1;
    }
    return XL_NO_PAGE;
}
