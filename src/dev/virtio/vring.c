/* Owns the reading of descriptors and the indices of both rings.
 *   I1  A chain has at most VRING_MAX descriptors, wherever they point: so none is followed for ever.    [chain_walk]
 *   I2  What a chain points to is RAM, all of it, before the device sees it.                             [chain_map]
 *   I3  At most `size` chains are the device's at a time: so the used ring never overruns.               [vring_pop]
 * Enter at vring_pop(). Virtual I/O Device (VIRTIO) 1.2, 2.7. */
#include "src/dev/virtio/vring.h"

#include <string.h>

enum { DESC_SIZE = 16, DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1, RING_IDX = 2, RING_ENTRIES = 4, USED_ENTRY = 8 };
#define ADDRESS_BITS 52 /* physical addresses have no more: so no sum of one and an offset wraps around */

struct descriptor {
    u64 addr;
    u32 len;
    u16 flags, next;
};

/* ---- guest memory ---- */

static bool get(const struct vring_mode *m, paddr pa, void *to, u32 n)
{
    return pa <= UINT64_MAX - n && bus_dma_read(m->bus, pa, to, n) == n;
}
static bool put(const struct vring_mode *m, paddr pa, const void *from, u32 n)
{
    return pa <= UINT64_MAX - n && bus_dma_write(m->bus, pa, from, n) == n;
}
static bool get16(const struct vring_mode *m, paddr pa, u16 *v) { return get(m, pa, v, sizeof *v); }
static bool put16(const struct vring_mode *m, paddr pa, u16 v) { return put(m, pa, &v, sizeof v); }

/* After the entries of the available ring: which used entry to interrupt for; after those of the used one: which
 * available entry to notify of (2.7.10). */
static paddr used_event(const struct vring *r) { return r->avail + RING_ENTRIES + 2 * (u64)r->size; }
static paddr avail_event(const struct vring *r) { return r->used + RING_ENTRIES + USED_ENTRY * (u64)r->size; }

/* ---- chains ---- */

/* Guest addresses: those to read, then those to write. */
struct walk {
    struct dma_seg seg[VRING_MAX];
    unsigned n, nout, seen;
    u64 out_len, in_len;
};

/* 2.7.4.2: all that the device reads comes before what it writes. */
static bool walk_add(struct walk *w, const struct descriptor *d)
{
    bool in = d->flags & DESC_WRITE;
    if (!in && w->n > w->nout) return false;
    if (d->addr > UINT64_MAX - d->len) return false;
    *(in ? &w->in_len : &w->out_len) += d->len;
    if (!d->len) return true;
    w->seg[w->n++] = (struct dma_seg){ d->addr, d->len };
    if (!in) w->nout++;
    return true;
}

/* n descriptors. copy: all of them, read at once; or NULL. */
struct table {
    u64 at;
    u32 n;
    const struct descriptor *copy;
};

static bool entry_get(const struct vring_mode *m, const struct table *t, u32 i, struct descriptor *d)
{
    if (i >= t->n) return false;
    if (!t->copy) return get(m, t->at + (u64)i * DESC_SIZE, d, sizeof *d);
    *d = t->copy[i];
    return true;
}

/* Follows a table from entry i. *indirect: the table that the chain goes on in; len 0: it ends here. */
static bool table_walk(const struct vring_mode *m, struct walk *w, const struct table *t, u32 i,
                       struct dma_seg *indirect, bool nested)
{
    struct descriptor d;
    do {
        if (w->seen++ == VRING_MAX || !entry_get(m, t, i, &d)) return false;
        if (d.flags & DESC_INDIRECT) {
            /* 2.7.5.3.1: not in such a table, not with more after it, and of whole descriptors. */
            if (nested || !m->indirect || (d.flags & DESC_NEXT) || !d.len || d.len % DESC_SIZE) return false;
            if (d.addr > UINT64_MAX - d.len) return false;
            *indirect = (struct dma_seg){ d.addr, d.len };
            return true;
        }
        if (!walk_add(w, &d)) return false;
        i = d.next;
    } while (d.flags & DESC_NEXT);
    return true;
}

/* Most drivers fill all of such a table, in order. */
static bool indirect_walk(const struct vring_mode *m, struct walk *w, const struct dma_seg *indirect)
{
    struct descriptor copy[VRING_MAX];
    struct table t = { .at = indirect->pa, .n = (u32)(indirect->len / DESC_SIZE) };
    struct dma_seg none;
    _Static_assert(sizeof copy[0] == DESC_SIZE, "as the driver lays it out");
    if (t.n <= VRING_MAX && get(m, t.at, copy, t.n * DESC_SIZE)) t.copy = copy;
    return table_walk(m, w, &t, 0, &none, true);
}

static bool chain_walk(const struct vring *r, const struct vring_mode *m, u16 head, struct walk *w)
{
    const struct table ring = { .at = r->desc, .n = r->size };
    struct dma_seg indirect = { 0, 0 };
    w->n = w->nout = w->seen = 0;
    w->out_len = w->in_len = 0;
    if (!table_walk(m, w, &ring, head, &indirect, false)) return false;
    if (indirect.len) {
        w->seen--; /* the one that points there is no part of the chain */
        if (!indirect_walk(m, w, &indirect)) return false;
    }
    return w->out_len <= UINT32_MAX && w->in_len <= UINT32_MAX;
}

static bool chain_map(const struct vring_mode *m, const struct walk *w, struct vchain *c)
{
    int n = bus_sg_map(m->bus, w->seg, w->nout, c->iov, VRING_PIECES);
    if (n < 0) return false;
    c->nout = (unsigned)n;
    n = bus_sg_map(m->bus, w->seg + w->nout, w->n - w->nout, vchain_in(c), VRING_PIECES - c->nout);
    if (n < 0) return false;
    c->nin = (unsigned)n;
    c->out_len = (u32)w->out_len;
    c->in_len = (u32)w->in_len;
    return true;
}

enum vring_pop vring_pop(struct vring *r, const struct vring_mode *m, struct vchain *c)
{
    struct walk w;
    u16 idx, head;
    if ((r->desc | r->avail | r->used) >> ADDRESS_BITS || !get16(m, r->avail + RING_IDX, &idx)) return VRING_BROKEN;
    if (idx == r->next_avail)
        return !m->event_idx || put16(m, avail_event(r), r->next_avail) ? VRING_EMPTY : VRING_BROKEN;
    if ((u16)(idx - r->next_avail) > r->size || (u16)(r->next_avail - r->next_used) >= r->size) return VRING_BROKEN;
    if (!get16(m, r->avail + RING_ENTRIES + 2 * (u64)(r->next_avail & (r->size - 1)), &head)) return VRING_BROKEN;
    if (!chain_walk(r, m, head, &w) || !chain_map(m, &w, c)) return VRING_BROKEN;
    c->head = head;
    r->next_avail++;
    return VRING_CHAIN;
}

void vring_unpop(struct vring *r, unsigned n) { r->next_avail = (u16)(r->next_avail - n); }

void vchain_unmap(struct bus *b, const struct vchain *c, u32 written)
{
    u32 left = written;
    for (unsigned k = c->nout; k < c->nout + c->nin && left; k++) {
        u32 n = c->iov[k].iov_len < left ? (u32)c->iov[k].iov_len : left;
        bus_dma_unmap(b, c->iov[k].iov_base, n, DMA_TO_GUEST);
        left -= n;
    }
    BUG_ON(left); /* the device has written more than there was room for */
}

bool vring_put(struct vring *r, const struct vring_mode *m, const struct vchain *c, unsigned i, u32 written)
{
    const u32 entry[2] = { c->head, written };
    vchain_unmap(m->bus, c, written);
    return put(m, r->used + RING_ENTRIES + USED_ENTRY * (u64)((r->next_used + i) & (r->size - 1u)), entry,
               sizeof entry);
}

bool vring_publish(struct vring *r, const struct vring_mode *m, unsigned n)
{
    r->next_used = (u16)(r->next_used + n);
    return put16(m, r->used + RING_IDX, r->next_used);
}

bool vring_wants_interrupt(struct vring *r, const struct vring_mode *m)
{
    u16 v, was = r->told;
    if (was == r->next_used) return false;
    r->told = r->next_used;
    if (m->event_idx) return get16(m, used_event(r), &v) && (u16)(r->next_used - v - 1) < (u16)(r->next_used - was);
    return get16(m, r->avail, &v) && !(v & AVAIL_NO_INTERRUPT);
}
