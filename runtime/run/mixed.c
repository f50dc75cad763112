/* Owns which pages are mixed (mixed.h), and for how long.
 *
 *   I1  A page with PG_MIXED has no PG_CODE, no decoded block and no LIVE block that is not MK_CHECKED. [mixed_written,
 *       code_written]
 *   I2  It is in page[], so that its time comes to an end.                                               [page_begins]
 *
 * A page becomes a mixed one when it has been written to MIXED_WRITES times within a second or so, less often by code
 * of its own, and executed in between: its protection ends at the DROP_WRITES'th write already, and nothing is noticed
 * before it has been executed again. What is written once and then executed, as a kernel's modules are, does not get
 * that far. */
#include "runtime/run/mixed.h"
#include "core/cpu.h"
#include "runtime/mem/physmem.h"
#include "translator/front/decode.h"
#include "translator/translator.h"

#include <string.h>

#define DROP_WRITES 32u
#define MIXED_WRITES 64u
#define DIRECT_WEIGHT 16u /* of a write to a page that has been running directly: a stop of its process, and a scan */
#define OWN_WEIGHT 16u    /* of a write by code in the page itself: it goes on there, and has to be translated again */
#define PATIENCE_MAX 31u
#define AGE_MS 1000u
#define MIXED_MS 4000u

static void page_ends(struct mixed *m, paddr page)
{
    u8 *flags = bus_page_flags(m->bus, page);
    if (!flags || !(*flags & PG_MIXED)) return;
    xl_retire_page(m->xl, page); /* checked blocks would be right, but are not linked to what comes now */
    *flags &= (u8)~PG_MIXED;
    TRACE(m->trace, smc, 0, "smc: page %llx is no longer mixed\n", (unsigned long long)page);
}

static void page_begins(struct mixed *m, paddr page)
{
    u32 at = m->next++ % MIXED_MAX;
    if (m->page[at].since_ms) page_ends(m, m->page[at].page);
    m->page[at].page = page;
    m->page[at].since_ms = m->aged_ms + 1;
    *bus_page_flags(m->bus, page) |= PG_MIXED;
    m->cpu->ctr.mixed_pages++;
    TRACE(m->trace, smc, 0, "smc: page %llx is mixed\n", (unsigned long long)page);
}

bool mixed_written(struct mixed *m, paddr page, u8 flags, bool own)
{
    u8 *writes = &m->writes[(page >> PAGE_SHIFT) % MIXED_SLOTS];
    unsigned weight = flags & PG_DIRECT ? DIRECT_WEIGHT : own ? OWN_WEIGHT : 1, before = *writes, now = before + weight;
    m->cpu->ctr.code_writes++;
    if (now >= MIXED_WRITES && m->xl && xl_page_known(m->xl, page)) {
        *writes = 0;
        page_begins(m, page);
        return true;
    }
    *writes = (u8)(now < UINT8_MAX ? now : UINT8_MAX);
    return now / DROP_WRITES != before / DROP_WRITES;
}

/* No two addresses of a page share one. */
static unsigned seen_slot(paddr pa) { return (unsigned)(pa + (pa >> PAGE_SHIFT) * 0x5a5) % MIXED_SLOTS; }

/* The bytes of the instruction alone: what comes after it may change without concerning it. */
static u32 insn_hash(struct mixed *m, const struct xl_source *src)
{
    struct insn in;
    u32 h = (u32)src->pa;
    if (decode(m->dec, src->bytes, src->nbytes, src->eip, (src->mode & MK_CS32) != 0, m->features, &in) != DECODE_OK)
        return h;
    for (unsigned i = 0; i < in.len; i++) h = (h ^ in.bytes[i]) * 0x01000193u;
    return h;
}

static u32 page_tag(paddr pa) { return (u32)(pa >> PAGE_SHIFT) + 1; }

bool mixed_seen(struct mixed *m, const struct xl_source *src)
{
    struct mixed_slot *s = &m->seen[seen_slot(src->pa)];
    u32 hash = insn_hash(m, src), page = page_tag(src->pa);
    bool first = s->page != page && !s->need, same = s->hash == hash;
    if (s->page != page) s->page = page, s->begins = false;
    s->hash = hash;
    if (first || (same && s->same++ >= s->need)) return true;
    if (!same) s->same = 0;
    return false;
}

void mixed_stale(struct mixed *m, paddr pa)
{
    struct mixed_slot *s = &m->seen[seen_slot(pa)];
    unsigned need = s->need * 2u + 1;
    s->same = 0;
    s->begins = false;
    s->need = (u8)(need < PATIENCE_MAX ? need : PATIENCE_MAX);
    m->cpu->ctr.mixed_stale++;
}

void mixed_bound(struct mixed *m, struct xl_source *src)
{
    m->seen[seen_slot(src->pa)].begins = true;
    for (unsigned i = 1; i < XL_CHECKED_MAX && i < src->nbytes; i++) {
        const struct mixed_slot *s = &m->seen[seen_slot(src->pa + i)];
        if (!s->need && !(s->begins && s->page == page_tag(src->pa))) continue;
        laddr la = src->la + i;
        if (!src->stop_before || la < src->stop_before) src->stop_before = la;
        return;
    }
}

void mixed_age(struct mixed *m, u64 now_ms)
{
    if (now_ms - m->aged_ms < AGE_MS) return;
    m->aged_ms = now_ms;
    for (unsigned i = 0; i < MIXED_SLOTS; i++) {
        m->writes[i] /= 2;
        m->seen[i].need /= 2;
        m->seen[i].begins = false;
    }
    for (unsigned i = 0; i < MIXED_MAX; i++) {
        if (!m->page[i].since_ms || now_ms - m->page[i].since_ms < MIXED_MS) continue;
        page_ends(m, m->page[i].page);
        m->page[i].since_ms = 0;
    }
}
