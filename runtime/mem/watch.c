/* Owns which linear pages are watched (watch.h).
 *
 *   I1  The page of an enabled breakpoint is in the book, with the kinds of access that can meet it.  [watch_update]
 *   I2  No soft-TLB entry and no window serves an access of a kind that is watched in its page.       [watch_page,
 *       tlb_fill, rights_at in window.c]
 *
 * A page stays watched for KEEP_MS after its last breakpoint: a kernel writes DR7 at each switch to or from a process
 * that is debugged, and what is unmapped each time costs more than what is not mapped. */
#include "runtime/mem/watch.h"
#include "runtime/cpu/probe.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/physmem.h"

#include <errno.h>
#include <stdlib.h>

#define KEEP_MS 2000u
#define NOBODY WATCH_PAGES

/* R/W of DR7 (SDM vol. 3, 17.2.4). The meaning of 2 is I/O, or undefined. */
static unsigned kinds_of(u32 dr7, unsigned i)
{
    static const u8 kinds[4] = { WATCH_FETCHES, WATCH_WRITES, 0, WATCH_READS | WATCH_WRITES };
    return dr7 >> 2 * i & 3 ? kinds[dr7 >> (16 + 4 * i) & 3] : 0;
}

static u32 length_of(u32 dr7, unsigned i)
{
    static const u8 lengths[4] = { 1, 2, 8, 4 };
    return lengths[dr7 >> (18 + 4 * i) & 3];
}

static unsigned find(const struct watch_book *w, u32 page)
{
    for (unsigned i = 0; i < WATCH_PAGES; i++)
        if (w->at[i].kinds && w->at[i].page == page) return i;
    return NOBODY;
}

/* Of those that no breakpoint needs now, the one that has been left alone for longest. There are twice as many as
 * breakpoints. */
static unsigned victim(const struct cpu *c)
{
    const struct watch_book *w = c->watch;
    unsigned best = NOBODY;
    for (unsigned i = 0; i < WATCH_PAGES; i++) {
        bool needed = false;
        if (!w->at[i].kinds) return i;
        for (unsigned k = 0; k < 4; k++) needed |= kinds_of(c->dr[7], k) && c->dr[k] >> PAGE_SHIFT == w->at[i].page;
        if (!needed && (best == NOBODY || w->at[i].until_ms < w->at[best].until_ms)) best = i;
    }
    BUG_ON(best == NOBODY);
    return best;
}

static void watch_page(struct cpu *c, u32 page, unsigned kinds)
{
    struct watch_book *w = c->watch;
    unsigned i = find(w, page);
    if (i == NOBODY) {
        i = victim(c);
        w->n += !w->at[i].kinds;
        w->at[i].page = page;
        w->at[i].kinds = 0;
    }
    w->at[i].until_ms = w->now_ms + KEEP_MS;
    if ((w->at[i].kinds & kinds) == kinds) return;
    w->at[i].kinds |= (u8)kinds;
    coherence_watched(bus_coherence(c->bus), page << PAGE_SHIFT);
}

int watch_book_new(struct cpu *c)
{
    c->watch = calloc(1, sizeof *c->watch);
    return c->watch ? 0 : -ENOMEM;
}

void watch_book_free(struct cpu *c)
{
    if (c->watch) breaks_free(&c->watch->breaks), breaks_free(&c->watch->probes);
    free(c->watch);
    c->watch = NULL;
}

void watch_update(struct cpu *c)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned kinds = kinds_of(c->dr[7], i);
        if (kinds) watch_page(c, c->dr[i] >> PAGE_SHIFT, kinds);
    }
}

unsigned watch_kinds(const struct cpu *c, laddr la)
{
    const struct watch_book *w = c->watch;
    if (likely(!(w->n | w->breaks.n | w->probes.n))) return 0;
    unsigned i = find(w, la >> PAGE_SHIFT);
    return (i == NOBODY ? 0u : w->at[i].kinds) | breaks_kinds(&w->breaks, la) | breaks_kinds(&w->probes, la);
}

bool watch_hits(const struct cpu *c, laddr la, unsigned size, bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        if (!(kinds_of(c->dr[7], i) & (write ? WATCH_WRITES : WATCH_READS))) continue;
        u32 len = length_of(c->dr[7], i), from = c->dr[i] & ~(len - 1);
        if (la - from < len || from - la < size) return true;
    }
    const struct watch_book *w = c->watch;
    return (w->breaks.data && breaks_data(&w->breaks, la, size, WATCH_READS | WATCH_WRITES))
           || (w->probes.data && breaks_data(&w->probes, la, size, WATCH_READS | WATCH_WRITES));
}

/* ---- a debugger's ---- */

void watch_access(struct cpu *c, laddr la, unsigned size, bool write)
{
    const struct break_point *p = breaks_data(&c->watch->breaks, la, size, write ? WATCH_WRITES : WATCH_READS);
    if (p) breaks_meet(&c->watch->breaks, *p);
}

int watch_break_add(struct cpu *c, struct break_point p)
{
    int rc = breaks_add(&c->watch->breaks, p);
    if (rc) return rc;
    coherence_watched(bus_coherence(c->bus), p.la);
    if ((p.la ^ (p.la + p.len - 1)) & PAGE_MASK) coherence_watched(bus_coherence(c->bus), p.la + p.len - 1);
    return 0;
}

int watch_break_remove(struct cpu *c, struct break_point p) { return breaks_remove(&c->watch->breaks, p); }

/* ---- probes' ---- */

void watch_probes_none(struct cpu *c) { breaks_free(&c->watch->probes); }

/* A point for each page: none is longer than one. */
int watch_probe_add(struct cpu *c, laddr from, laddr to, unsigned kinds)
{
    for (u64 la = from; la <= to; la = (la | 0xfff) + 1) {
        laddr end = (laddr)la | 0xfff;
        struct break_point p = { (laddr)la, (end < to ? end : to) - (laddr)la + 1, (u8)kinds };
        int rc = breaks_add(&c->watch->probes, p);
        if (rc && rc != -EEXIST) return rc;
        coherence_watched(bus_coherence(c->bus), (laddr)la);
    }
    return 0;
}

void watch_probe(struct cpu *c, laddr la, unsigned size, bool write, u64 value)
{
    if (breaks_data(&c->watch->probes, la, size, write ? WATCH_WRITES : WATCH_READS))
        probe_tell(c, write ? EV_WRITE : EV_READ, la, size, value, 0);
}

void watch_age(struct cpu *c, u64 now_ms)
{
    struct watch_book *w = c->watch;
    w->now_ms = now_ms;
    if (likely(!w->n)) return;
    watch_update(c); /* what is enabled now is needed now */
    for (unsigned i = 0; i < WATCH_PAGES; i++) {
        if (!w->at[i].kinds || w->at[i].until_ms > now_ms) continue;
        w->at[i].kinds = 0;
        w->n--;
    }
}
