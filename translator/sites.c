/* What one guest instruction has taught us: the set of sites (by physical address) whose memory accesses have turned out
 * not to suit the kernel window. A set of 64-bit keys, open addressing, grown at half full; never shrinks: a site that was
 * guilty once is cheap to keep as it is. */
#include "translator/xl.h"

static unsigned site_slot(const struct site_set *s, u64 key) { return (unsigned)((key * 0x9e3779b97f4a7c15ull) >> 32) & (s->cap - 1); }

static unsigned page_bit(paddr pa) { return (unsigned)(((pa >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull) >> 52); }

bool site_page(const struct site_set *s, paddr pa) { return s->pages[page_bit(pa) / 64] >> (page_bit(pa) % 64) & 1; }

bool site_has(const struct site_set *s, u64 key)
{
    if (!s->cap) return false;
    for (unsigned i = site_slot(s, key + 1); s->slot[i]; i = (i + 1) & (s->cap - 1))
        if (s->slot[i] == key + 1) return true;
    return false;
}

static void site_put(struct site_set *s, u64 stored)
{
    unsigned i = site_slot(s, stored);
    while (s->slot[i]) i = (i + 1) & (s->cap - 1);
    s->slot[i] = stored;
    s->used++;
}

void site_add(struct site_set *s, u64 key)
{
    if (site_has(s, key)) return;
    if (s->used * 2 >= s->cap) {
        struct site_set old = *s;
        s->cap = old.cap ? old.cap * 2 : 1024;
        s->used = 0;
        s->slot = calloc(s->cap, sizeof *s->slot);
        BUG_ON(!s->slot);
        for (unsigned i = 0; i < old.cap; i++)
            if (old.slot[i]) site_put(s, old.slot[i]);
        free(old.slot);
    }
    site_put(s, key + 1);
    s->pages[page_bit(key) / 64] |= (u64)1 << page_bit(key) % 64;
}

void xl_site_soft(struct xl *xl, paddr pa)
{
    site_add(&xl->soft, pa);
    xl->cfg.ctr->site_soft++;
    TRACE(xl->cfg.trace, sites, 0, "site: pa %llx soft\n", (unsigned long long)pa);
}
