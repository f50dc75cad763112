/* Owns which pages are mixed (mixed.h), and for how long.
 *
 *   I1  A page with PG_MIXED has no PG_CODE, no decoded block and no LIVE block that is not MK_CHECKED. [mixed_written,
 *       code_written]
 *   I2  It is in page[], so that its time comes to an end.                                               [page_begins]
 *
 * A page becomes a mixed one when it has been written to MIXED_WRITES times within a second or so, and executed in
 * between: its protection ends at the DROP_WRITES'th write already, and nothing is noticed before it has been executed
 * again. What is written once and then executed, as a kernel's modules are, does not get that far. */
#include "runtime/run/mixed.h"
#include "runtime/cpu/cpu_ops.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"
#include "translator/front/decode.h"

#include <string.h>

#define DROP_WRITES 32u
#define MIXED_WRITES 64u
#define DIRECT_WEIGHT 8u /* of a write to a page that has been running directly: a stop of its process, and a scan */
#define PATIENCE_MAX 31u
#define AGE_MS 1000u
#define MIXED_MS 4000u

static void page_ends(struct rt *rt, paddr page)
{
    u8 *flags = bus_page_flags(rt->bus, page);
    if (!flags || !(*flags & PG_MIXED)) return;
    xl_retire_page(rt->xl, page); /* checked blocks would be right, but are not linked to what comes now */
    *flags &= (u8)~PG_MIXED;
    TRACE(&rt->trace, smc, 0, "smc: page %llx is no longer mixed\n", (unsigned long long)page);
}

static void page_begins(struct rt *rt, paddr page)
{
    struct mixed *m = &rt->mixed;
    u32 at = m->next++ % MIXED_MAX;
    if (m->page[at].since_ms) page_ends(rt, m->page[at].page);
    m->page[at].page = page;
    m->page[at].since_ms = m->aged_ms + 1;
    *bus_page_flags(rt->bus, page) |= PG_MIXED;
    rt->cpu->ctr.mixed_pages++;
    TRACE(&rt->trace, smc, 0, "smc: page %llx is mixed\n", (unsigned long long)page);
}

bool mixed_written(struct rt *rt, paddr page, u8 flags)
{
    u8 *writes = &rt->mixed.writes[(page >> PAGE_SHIFT) % MIXED_SLOTS];
    unsigned weight = flags & PG_DIRECT ? DIRECT_WEIGHT : 1, before = *writes, now = before + weight;
    rt->cpu->ctr.code_writes++;
    if (now >= MIXED_WRITES && rt->xl && xl_page_known(rt->xl, page)) {
        *writes = 0;
        page_begins(rt, page);
        return true;
    }
    *writes = (u8)(now < UINT8_MAX ? now : UINT8_MAX);
    return now / DROP_WRITES != before / DROP_WRITES;
}

/* No two addresses of a page share one. */
static unsigned seen_slot(paddr pa) { return (unsigned)(pa + (pa >> PAGE_SHIFT) * 0x5a5) % MIXED_SLOTS; }

/* The bytes of the instruction alone: what comes after it may change without concerning it. */
static u32 insn_hash(struct rt *rt, const struct xl_source *src)
{
    struct insn in;
    u32 features = rt->cpu->model->features, h = (u32)src->pa;
    if (decode(rt->dec, src->bytes, src->nbytes, src->eip, (src->mode & MK_CS32) != 0, features, &in) != DECODE_OK) return h;
    for (unsigned i = 0; i < in.len; i++) h = (h ^ in.bytes[i]) * 0x01000193u;
    return h;
}

bool mixed_seen(struct rt *rt, const struct xl_source *src)
{
    struct mixed_slot *s = &rt->mixed.seen[seen_slot(src->pa)];
    u32 hash = insn_hash(rt, src);
    bool same = s->hash == hash;
    s->hash = hash;
    if (same && s->same++ >= s->need) return true;
    if (!same) s->same = 0;
    return false;
}

void mixed_stale(struct rt *rt, paddr pa)
{
    struct mixed_slot *s = &rt->mixed.seen[seen_slot(pa)];
    unsigned need = s->need * 2u + 1;
    s->same = 0;
    s->need = (u8)(need < PATIENCE_MAX ? need : PATIENCE_MAX);
    rt->cpu->ctr.mixed_stale++;
}

void mixed_age(struct rt *rt)
{
    struct mixed *m = &rt->mixed;
    u64 now = clock_now(rt->clock) / 1000000;
    if (now - m->aged_ms < AGE_MS) return;
    m->aged_ms = now;
    for (unsigned i = 0; i < MIXED_SLOTS; i++) {
        m->writes[i] /= 2;
        m->seen[i].need /= 2;
    }
    for (unsigned i = 0; i < MIXED_MAX; i++) {
        if (!m->page[i].since_ms || now - m->page[i].since_ms < MIXED_MS) continue;
        page_ends(rt, m->page[i].page);
        m->page[i].since_ms = 0;
    }
}
