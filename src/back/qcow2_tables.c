/* Owns what of an image's tables is in memory, and the order in which changes reach the file:
 *   1. data, as it is written; refcount blocks
 *   2. the refcount table's entries, once the blocks are durable
 *   3. L2 tables, once data and refcounts are: what was durable before is so in its new place, and counted
 *   4. L1 entries, once the L2 tables are
 *   5. refcounts of what has been freed go down, once no durable table leads there
 * So what a crash leaves behind is clusters that are counted and that nobody uses, at worst. With lazy refcounts 1 and
 * 2 wait for the end, and the header says that they may be wrong.
 *   I1  A cluster in `meta` is written to by way of the caches alone.   [who writes data asks qcow2_is_table() before]
 *   I2  When a sync has failed nothing is written any more: the host may have dropped what it could not write.
 *                                                                                                             [sync] */
#include "src/back/qcow2_tables.h"

#include <errno.h>

#define CACHE_BYTES (4u << 20) /* of each kind */

/* ---- tables of a cluster ---- */

static int cache_new(struct qcow2_cache *c, u64 cluster)
{
    u64 n = CACHE_BYTES / cluster;
    c->n = (unsigned)(n < 4 ? 4 : n > 256 ? 256 : n);
    c->slot = calloc(c->n, sizeof *c->slot);
    return c->slot ? 0 : -ENOMEM;
}

static void cache_free(struct qcow2_cache *c)
{
    for (unsigned i = 0; c->slot && i < c->n; i++) free(c->slot[i].data);
    free(c->slot);
}

static int slot_write(struct qcow2 *q, struct qcow2_slot *s)
{
    int rc = s->dirty ? image_file_write(&q->file, s->offset, s->data, qcow2_cluster(&q->h)) : 0;
    if (!rc) s->dirty = false;
    return rc;
}

/* A refcount block may be written at any time: counts that are too high are no harm, and they go down only when no
 * table tells otherwise. */
static int slot_evict(struct qcow2 *q, struct qcow2_cache *c, struct qcow2_slot *s)
{
    if (!s->dirty) return 0;
    return c == &q->blocks ? slot_write(q, s) : qcow2_flush(q);
}

int qcow2_table(struct qcow2 *q, struct qcow2_cache *c, u64 offset, bool fresh, struct qcow2_slot **out)
{
    u64 cluster = qcow2_cluster(&q->h);
    struct qcow2_slot *oldest = c->slot;
    for (unsigned i = 0; i < c->n; i++) {
        if (c->slot[i].offset == offset) {
            c->slot[i].used = ++c->clock;
            *out = &c->slot[i];
            return 0;
        }
        if (c->slot[i].used < oldest->used) oldest = &c->slot[i];
    }
    if (offset & (cluster - 1)) return qcow2_corrupt(q);
    int rc = slot_evict(q, c, oldest);
    if (rc) return rc;
    oldest->offset = oldest->used = 0;
    if (!oldest->data && !(oldest->data = malloc(cluster))) return -ENOMEM;
    if (fresh) memset(oldest->data, 0, cluster);
    else rc = image_file_read(&q->file, offset, oldest->data, cluster);
    if (rc) return rc;
    *oldest = (struct qcow2_slot){ offset, ++c->clock, fresh, oldest->data };
    *out = oldest;
    return 0;
}

static bool cache_dirty(const struct qcow2_cache *c)
{
    bool dirty = false;
    for (unsigned i = 0; i < c->n; i++) dirty |= c->slot[i].dirty;
    return dirty;
}

static int cache_write(struct qcow2 *q, struct qcow2_cache *c)
{
    int rc = 0;
    for (unsigned i = 0; i < c->n && !rc; i++) rc = slot_write(q, &c->slot[i]);
    return rc;
}

/* ---- tables that are in memory as a whole ---- */

static int array_read(struct qcow2 *q, struct qcow2_array *a, u64 offset, u64 size)
{
    a->size = size;
    a->from = size; /* nothing is dirty */
    a->entry = calloc(size + 1, 8);
    if (!a->entry) return -ENOMEM;
    int rc = image_file_read(&q->file, offset, a->entry, size * 8);
    for (u64 i = 0; i < size; i++) a->entry[i] = be64toh(a->entry[i]);
    return rc;
}

static bool array_dirty(const struct qcow2_array *a) { return a->from < a->to; }

void qcow2_array_set(struct qcow2_array *a, u64 i, u64 value)
{
    a->entry[i] = value;
    if (i < a->from) a->from = i;
    if (i >= a->to) a->to = i + 1;
}

static int array_write(struct qcow2 *q, struct qcow2_array *a, u64 offset)
{
    u64 out[64];
    int rc = 0;
    for (u64 n; array_dirty(a) && !rc; a->from += rc ? 0 : n) {
        n = a->to - a->from < ARRAY_LEN(out) ? a->to - a->from : ARRAY_LEN(out);
        for (u64 i = 0; i < n; i++) out[i] = htobe64(a->entry[a->from + i]);
        rc = image_file_write(&q->file, offset + a->from * 8, out, n * 8);
    }
    if (!rc) *a = (struct qcow2_array){ a->entry, a->size, a->size, 0 };
    return rc;
}

/* ---- which clusters are tables ---- */

static u64 *meta_place(u64 *set, u64 room, u64 offset)
{
    u64 i = offset * 0x9e3779b97f4a7c15ull >> 20 & (room - 1);
    while (set[i] && set[i] != offset) i = (i + 1) & (room - 1);
    return &set[i];
}

static bool within(u64 offset, u64 from, u64 n, u64 cluster) { return offset + cluster > from && offset < from + n; }

bool qcow2_is_table(const struct qcow2 *q, u64 offset)
{
    u64 cluster = qcow2_cluster(&q->h);
    offset &= ~(cluster - 1);
    return !offset || within(offset, q->h.l1_offset, (u64)q->h.l1_entries * 8, cluster)
           || within(offset, q->h.reftable_offset, q->h.reftable_clusters * cluster, cluster)
           || *meta_place(q->meta, q->meta_room, offset);
}

static int meta_grow(struct qcow2 *q)
{
    u64 room = q->meta_room ? q->meta_room * 2 : 256, *set = calloc(room, sizeof *set);
    if (!set) return -ENOMEM;
    for (u64 i = 0; i < q->meta_room; i++)
        if (q->meta[i]) *meta_place(set, room, q->meta[i]) = q->meta[i];
    free(q->meta);
    q->meta = set;
    q->meta_room = room;
    return 0;
}

int qcow2_table_note(struct qcow2 *q, u64 offset)
{
    int rc = (q->meta_n + 1) * 2 > q->meta_room ? meta_grow(q) : 0;
    if (rc) return rc;
    if (qcow2_is_table(q, offset)) return -EEXIST;
    *meta_place(q->meta, q->meta_room, offset) = offset;
    q->meta_n++;
    return 0;
}

/* Each table is where nothing else is. */
static int note_all(struct qcow2 *q, const struct qcow2_array *a, u64 mask)
{
    int rc = 0;
    for (u64 i = 0; i < a->size && !rc; i++) {
        u64 offset = a->entry[i] & mask;
        if (!offset) continue;
        rc = offset & (qcow2_cluster(&q->h) - 1) || offset >> 56 ? -EINVAL : qcow2_table_note(q, offset);
    }
    return rc;
}

int qcow2_tables_open(struct qcow2 *q)
{
    u64 cluster = qcow2_cluster(&q->h);
    int rc = cache_new(&q->l2, cluster);
    if (!rc) rc = cache_new(&q->blocks, cluster);
    if (!rc) rc = meta_grow(q);
    if (!rc) rc = array_read(q, &q->l1, q->h.l1_offset, q->h.l1_size);
    if (!rc) rc = array_read(q, &q->reftable, q->h.reftable_offset, q->h.reftable_clusters * cluster / 8);
    if (!rc) rc = note_all(q, &q->l1, QCOW2_OFFSET);
    if (!rc) rc = note_all(q, &q->reftable, ~0x1ffull);
    return rc == -EEXIST ? -EINVAL : rc;
}

void qcow2_tables_close(struct qcow2 *q)
{
    cache_free(&q->l2);
    cache_free(&q->blocks);
    free(q->l1.entry);
    free(q->reftable.entry);
    free(q->meta);
}

/* ---- the way to the file ---- */

static int sync(struct qcow2 *q)
{
    int rc = image_file_sync(&q->file);
    if (rc) q->broken = rc;
    return rc;
}

static int write_refcounts(struct qcow2 *q)
{
    int rc = cache_write(q, &q->blocks);
    if (rc || !array_dirty(&q->reftable)) return rc;
    rc = sync(q);
    return rc ? rc : array_write(q, &q->reftable, q->h.reftable_offset);
}

static bool is_lazy(const struct qcow2 *q) { return q->h.incompatible & QCOW2_DIRTY; }

int qcow2_flush(struct qcow2 *q)
{
    if (q->broken) return q->broken;
    if (!q->writable) return 0;
    int rc = is_lazy(q) ? 0 : write_refcounts(q);
    if (!rc && (cache_dirty(&q->l2) || array_dirty(&q->l1))) {
        rc = sync(q);
        if (!rc) rc = cache_write(q, &q->l2);
        if (!rc && array_dirty(&q->l1)) {
            rc = sync(q);
            if (!rc) rc = array_write(q, &q->l1, q->h.l1_offset);
        }
    }
    if (!rc) rc = sync(q);
    return !rc && q->freed_n ? qcow2_free_now(q) : rc;
}

/* ---- the header ---- */

static int header_put(struct qcow2 *q, unsigned at, u64 value)
{
    u8 b[8];
    qcow2_put64(b, value);
    return image_file_write(&q->file, at, b, sizeof b);
}

int qcow2_corrupt(struct qcow2 *q)
{
    if (!q->broken && q->writable && q->h.version == 3) {
        q->h.incompatible |= QCOW2_CORRUPT;
        (void)!header_put(q, QCOW2_AT_INCOMPATIBLE, q->h.incompatible);
    }
    if (q->writable) q->broken = -EIO;
    return -EIO;
}

/* What others keep beside the data (bitmaps of what was written) is out of date from the first write on. */
int qcow2_begin(struct qcow2 *q)
{
    int rc = q->broken;
    if (rc || q->opened) return rc;
    if (q->h.version == 3 && q->h.autoclear) rc = header_put(q, QCOW2_AT_AUTOCLEAR, 0);
    if (!rc && q->h.version == 3 && q->h.compatible & QCOW2_LAZY) {
        rc = header_put(q, QCOW2_AT_INCOMPATIBLE, q->h.incompatible | QCOW2_DIRTY);
        if (!rc) rc = sync(q);
        if (!rc) q->h.incompatible |= QCOW2_DIRTY;
    }
    q->opened = !rc;
    return rc;
}

int qcow2_end(struct qcow2 *q)
{
    int rc = qcow2_flush(q); /* which frees, and so changes refcounts once more */
    if (rc || !q->opened) return rc;
    rc = write_refcounts(q);
    if (!rc) rc = sync(q);
    if (rc || !is_lazy(q)) return rc;
    rc = header_put(q, QCOW2_AT_INCOMPATIBLE, q->h.incompatible & ~QCOW2_DIRTY);
    return rc ? rc : sync(q);
}
