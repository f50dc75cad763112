/* Owns a debugger's breakpoints (breaks.h).
 *   I1  point[] is sorted by la, and has no two that are the same.       [breaks_add]
 *   I2  code, data and filter say what is in point[].                    [count]
 *   I3  None is longer than a page, so it touches two at most: what meets an address begins at most a page before.
 */
#include "runtime/mem/breaks.h"
#include "runtime/mem/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first that begins at la or beyond. */
static u32 find(const struct breaks *b, laddr la)
{
    u32 low = 0, high = b->n;
    while (low < high) {
        u32 mid = (low + high) / 2;
        if (b->point[mid].la < la) low = mid + 1;
        else high = mid;
    }
    return low;
}

static bool same(const struct break_point *p, const struct break_point *q)
{
    return p->la == q->la && p->len == q->len && p->kinds == q->kinds;
}

static u32 find_same(const struct breaks *b, const struct break_point *p)
{
    for (u32 i = find(b, p->la); i < b->n && b->point[i].la == p->la; i++)
        if (same(&b->point[i], p)) return i;
    return b->n;
}

static laddr last(const struct break_point *p) { return p->la + p->len - 1; }

static void count(struct breaks *b)
{
    b->code = b->data = 0;
    b->filter = 0;
    for (u32 i = 0; i < b->n; i++) {
        const struct break_point *p = &b->point[i];
        b->code += (p->kinds & WATCH_FETCHES) != 0;
        b->data += (p->kinds & (WATCH_READS | WATCH_WRITES)) != 0;
        b->filter |= 1ull << (p->la >> PAGE_SHIFT) % 64 | 1ull << (last(p) >> PAGE_SHIFT) % 64;
    }
}

int breaks_add(struct breaks *b, struct break_point p)
{
    if (!p.len || p.len > BREAK_BYTES_MAX || last(&p) < p.la) return -EINVAL;
    if (find_same(b, &p) < b->n) return -EEXIST;
    if (b->n == b->room) {
        u32 room = b->room ? 2 * b->room : 16;
        struct break_point *more = realloc(b->point, room * sizeof *more);
        if (!more) return -ENOMEM;
        b->point = more;
        b->room = room;
    }
    u32 i = find(b, p.la);
    memmove(&b->point[i + 1], &b->point[i], (b->n - i) * sizeof *b->point);
    b->point[i] = p;
    b->n++;
    count(b);
    return 0;
}

int breaks_remove(struct breaks *b, struct break_point p)
{
    u32 i = find_same(b, &p);
    if (i == b->n) return -ENOENT;
    b->n--;
    memmove(&b->point[i], &b->point[i + 1], (b->n - i) * sizeof *b->point);
    count(b);
    return 0;
}

void breaks_free(struct breaks *b)
{
    free(b->point);
    *b = (struct breaks){ 0 };
}

/* Index of the first that may touch what lies at la or beyond. */
static u32 first_near(const struct breaks *b, laddr la)
{
    return find(b, la < BREAK_BYTES_MAX ? 0 : la - BREAK_BYTES_MAX);
}

unsigned breaks_kinds(const struct breaks *b, laddr la)
{
    unsigned kinds = 0;
    laddr page = la & PAGE_MASK, end = page | ~PAGE_MASK;
    if (!breaks_near(b, la)) return 0;
    for (u32 i = first_near(b, page); i < b->n && b->point[i].la <= end; i++)
        if (last(&b->point[i]) >= page) kinds |= b->point[i].kinds;
    return kinds;
}

bool breaks_code(const struct breaks *b, laddr la)
{
    for (u32 i = find(b, la); i < b->n && b->point[i].la == la; i++)
        if (b->point[i].kinds & WATCH_FETCHES) return true;
    return false;
}

laddr breaks_next_code(const struct breaks *b, laddr la)
{
    for (u32 i = find(b, la); i < b->n && !((b->point[i].la ^ la) & PAGE_MASK); i++)
        if (b->point[i].la != la && b->point[i].kinds & WATCH_FETCHES) return b->point[i].la;
    return 0;
}

const struct break_point *breaks_data(const struct breaks *b, laddr la, u32 size, unsigned kinds)
{
    laddr end = la + size - 1 < la ? ~0u : la + size - 1;
    for (u32 i = first_near(b, la); i < b->n && b->point[i].la <= end; i++) {
        const struct break_point *p = &b->point[i];
        if (p->kinds & kinds & (WATCH_READS | WATCH_WRITES) && last(p) >= la) return p;
    }
    return NULL;
}

void breaks_meet(struct breaks *b, struct break_point p)
{
    if (b->met) return;
    b->met = true;
    b->at = p;
    if (b->notify) b->notify(b->arg);
}
