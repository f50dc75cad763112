/* Owns the dirty logs' bits. A page may be in several logs: it is clean in each or dirty in each by itself, and
 * PG_CLEAN as long as it is clean in one.
 *
 *   I1  A page with PG_CLEAN is writable in no view: soft TLB, windows, processes. [protect_page, and who fills views]
 *   I2  A page without PG_CLEAN is dirty in every log that it is in.                [dirty_note clears it, and sets
 * all] */
#include "runtime/mem/dirty.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/physmem.h"

#include <errno.h>

struct dirty_log {
    struct bus *b;
    u64 first, n; /* pages of RAM's file */
    struct dirty_log *next;
    u64 bits[]; /* dirty pages */
};

#define WORDS(pages) (((pages) + 63) / 64)
/* From so many pages on, all views start over rather than have each page protected. */
#define BULK 2048

void dirty_note(const struct dirty_logs *logs, u64 page, u8 *flags)
{
    *flags &= (u8)~PG_CLEAN;
    for (struct dirty_log *l = logs->first; l; l = l->next) {
        u64 at = page - l->first;
        if (at < l->n) l->bits[at / 64] |= 1ull << at % 64;
    }
}

bool dirty_logged(const struct dirty_logs *logs, u64 first, u64 n)
{
    for (const struct dirty_log *l = logs->first; l; l = l->next)
        if (first < l->first + l->n && l->first < first + n) return true;
    return false;
}

/* Clean from now on, and nobody writes to it unseen. A page with code, or that is clean already, has no writers. */
static void protect_page(struct dirty_log *l, u64 page, bool alone)
{
    u8 *flags = bus_page_flags_at(l->b, page), was = *flags;
    paddr pa;
    *flags |= PG_CLEAN;
    if (alone && !(was & PG_ANNOUNCED) && bus_page_pa(l->b, page, &pa)) coherence_protect(bus_coherence(l->b), pa);
}

int dirty_log_new(struct dirty_log **out, struct bus *b, const struct bus_ram *r)
{
    u64 first, n;
    bus_ram_pages(b, r, &first, &n);
    struct dirty_log *l = calloc(1, sizeof *l + WORDS(n) * sizeof l->bits[0]);
    if (!l) return -ENOMEM;
    l->b = b;
    l->first = first;
    l->n = n;
    l->next = bus_dirty_logs(b)->first;
    bus_dirty_logs(b)->first = l;
    for (u64 i = 0; i < n; i++) protect_page(l, first + i, n < BULK);
    if (n >= BULK) bus_forget_views(b);
    *out = l;
    return 0;
}

void dirty_log_free(struct dirty_log *l)
{
    if (!l) return;
    struct dirty_log **p = &bus_dirty_logs(l->b)->first;
    while (*p != l) p = &(*p)->next;
    *p = l->next;
    for (u64 i = l->first; i < l->first + l->n; i++) { /* in another log it is dirty then: once too often */
        u8 *flags = bus_page_flags_at(l->b, i);
        if (*flags & PG_CLEAN) dirty_note(bus_dirty_logs(l->b), i, flags);
    }
    free(l);
}

u64 dirty_log_pages(const struct dirty_log *l) { return l->n; }

u64 dirty_log_take(struct dirty_log *l, u64 *bits)
{
    u64 count = 0;
    for (u64 i = 0; i < WORDS(l->n); i++) count += (u64)__builtin_popcountll(l->bits[i]);
    for (u64 i = 0; i < WORDS(l->n); i++) {
        bits[i] = l->bits[i];
        l->bits[i] = 0;
        for (u64 left = bits[i]; left; left &= left - 1)
            protect_page(l, l->first + i * 64 + (u64)__builtin_ctzll(left), count < BULK);
    }
    if (count >= BULK) bus_forget_views(l->b);
    return count;
}
