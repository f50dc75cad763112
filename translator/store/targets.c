/* Owns, for each alias, which of its blocks have been in a jump cache: offset and code of each, one after another. Who
 * fills a jump cache reads these and no block records, each of which would cost a line of the host's caches or more.
 *
 *   I1  What is in a set is LIVE and lies on one page.                   [xl_jump_fill_page, retire_block in cache.c]
 *   I2  A set is in order of offset, each once.
 *   I3  Sets are in side memory and go with it (xl_flush); one that grows leaves its old list behind there. A block
 *       keeps its place in the cache when its alias is re-addressed, and so does what is here. */
#include "translator/store/targets.h"

#include <string.h>

#define TARGETS_MIN 8u

static void *side_take(struct xl *xl, u64 bytes)
{
    u64 at = (xl->side_used + 7) & ~7ull;
    if (at + bytes + XL_MAX_SIDE > xl->side_max) return NULL;
    xl->side_used = at + bytes;
    return xl->side + at;
}

/* The set is brought to the front: code of one mode and segment follows code of the same. */
struct targets *xl_targets_of(struct alias *p, u32 mode, u32 context, u32 base)
{
    for (struct targets **at = &p->targets; *at; at = &(*at)->next) {
        struct targets *t = *at;
        if (t->mode != mode || t->context != context || t->base != base) continue;
        *at = t->next;
        t->next = p->targets;
        return p->targets = t;
    }
    return NULL;
}

static struct targets *set_of(const struct block *b)
{
    return xl_targets_of(b->alias, b->mode, b->context, b->la - b->eip);
}

static struct targets *set_make(struct xl *xl, const struct block *b)
{
    struct targets *t = side_take(xl, sizeof *t);
    if (!t) return NULL;
    *t = (struct targets){
        .next = b->alias->targets, .alias = b->alias, .mode = b->mode, .context = b->context, .base = b->la - b->eip
    };
    return b->alias->targets = t;
}

static bool has_room(struct xl *xl, struct targets *t)
{
    if (t->n < t->max) return true;
    u32 max = t->max ? t->max * 2 : TARGETS_MIN;
    struct target *list = side_take(xl, max * sizeof *list);
    if (!list) return false;
    if (t->n) memcpy(list, t->list, t->n * sizeof *list);
    t->list = list;
    t->max = max;
    return true;
}

/* The first one that is not below that offset. */
static u32 place_of(const struct targets *t, u16 at)
{
    u32 low = 0, high = t->n;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (t->list[middle].at < at) low = middle + 1;
        else high = middle;
    }
    return low;
}

const struct target *xl_target_find(const struct targets *t, u16 at)
{
    u32 i = place_of(t, at);
    return i < t->n && t->list[i].at == at ? &t->list[i] : NULL;
}

static u16 offset_of(const struct block *b) { return (u16)(b->la & ~PAGE_MASK); }

struct targets *xl_target_add(struct xl *xl, const struct block *b)
{
    struct targets *t = set_of(b);
    if (!t && !(t = set_make(xl, b))) return NULL;
    u32 i = place_of(t, offset_of(b));
    bool there = i < t->n && t->list[i].at == offset_of(b);
    if (!there) {
        if (!has_room(xl, t)) return t;
        memmove(&t->list[i + 1], &t->list[i], (t->n++ - i) * sizeof *t->list);
    }
    t->list[i] = (struct target){ .at = offset_of(b), .host_off = b->host_off };
    return t;
}

void xl_target_remove(const struct block *b)
{
    struct targets *t = set_of(b);
    if (!t) return;
    u32 i = place_of(t, offset_of(b));
    if (i == t->n || t->list[i].host_off != b->host_off) return;
    memmove(&t->list[i], &t->list[i + 1], (--t->n - i) * sizeof *t->list);
}
