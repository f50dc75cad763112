/* Owns refcounts: which clusters of the file are in use.
 *   I1  A refcount block that is missing covers free clusters only; a new one takes the first of them.  [block_new]
 *   I2  A count goes down only when no durable table leads to the cluster.                      [qcow2_free_now] */
#include "src/back/qcow2_tables.h"

#include <errno.h>

#define CLUSTER_MAX ((u64)1 << 47) /* offsets of clusters have 56 bits, and a cluster 9 at least */

static int block_new(struct qcow2 *q, u64 b, struct qcow2_slot **s)
{
    u64 first = b * qcow2_block_entries(&q->h), offset = first << q->h.cluster_bits;
    int rc = first >= CLUSTER_MAX ? -EFBIG : qcow2_table_note(q, offset);
    if (rc) return rc == -EEXIST ? qcow2_corrupt(q) : rc;
    if ((rc = qcow2_table(q, &q->blocks, offset, true, s))) return rc;
    qcow2_refcount_set((*s)->data, 0, q->h.refcount_order, 1);
    qcow2_array_set(&q->reftable, b, offset);
    if (offset >= q->end && q->end != UINT64_MAX) q->end = offset + qcow2_cluster(&q->h);
    return 0;
}

/* A larger table, behind all that the present one covers, with blocks for itself: all of it is durable before the
 * header tells of it. */
static int reftable_grow(struct qcow2 *q)
{
    u64 cluster = qcow2_cluster(&q->h), per = qcow2_block_entries(&q->h), old = q->reftable.size;
    u64 first = old * per, table = old * 8 * 2 > cluster ? qcow2_clusters(&q->h, old * 8 * 2) : 1, blocks = 1;
    while (blocks * per < blocks + table) blocks++;
    u64 size = table * cluster / 8, *entry;
    if (table * cluster > QCOW2_REFTABLE_MAX || old + blocks > size || first + table + blocks >= CLUSTER_MAX)
        return -EFBIG;
    int rc = qcow2_flush(q);
    if (rc) return rc;
    if (!(entry = calloc(size + 1, 8))) return -ENOMEM;
    memcpy(entry, q->reftable.entry, old * 8);
    u64 old_offset = q->h.reftable_offset, old_clusters = q->h.reftable_clusters;
    struct qcow2_slot *s;
    for (u64 i = 0; i < blocks && !rc; i++) {
        u64 offset = (first + i) << q->h.cluster_bits;
        entry[old + i] = offset;
        rc = qcow2_table_note(q, offset);
        if (rc == -EEXIST) rc = qcow2_corrupt(q);
        if (!rc) rc = qcow2_table(q, &q->blocks, offset, true, &s);
        for (u64 k = 0; k < per && !rc && i * per + k < blocks + table; k++)
            qcow2_refcount_set(s->data, k, q->h.refcount_order, 1);
        if (!rc) rc = image_file_write(&q->file, offset, s->data, cluster);
        if (!rc) s->dirty = false;
    }
    if (!rc) {
        for (u64 i = 0; i < size; i++) entry[i] = htobe64(entry[i]);
        rc = image_file_write(&q->file, (first + blocks) << q->h.cluster_bits, entry, size * 8);
        for (u64 i = 0; i < size; i++) entry[i] = be64toh(entry[i]);
    }
    if (!rc && (rc = image_file_sync(&q->file))) q->broken = rc;
    if (!rc) {
        u8 head[12];
        qcow2_put64(head, (first + blocks) << q->h.cluster_bits);
        qcow2_put32(head + 8, (u32)table);
        rc = image_file_write(&q->file, QCOW2_AT_REFTABLE, head, sizeof head);
        if (!rc) rc = image_file_sync(&q->file);
        if (rc) q->broken = rc; /* which of the two counts is not known */
    }
    if (rc) {
        free(entry);
        return rc;
    }
    free(q->reftable.entry);
    q->reftable = (struct qcow2_array){ entry, size, size, 0 };
    q->h.reftable_offset = (first + blocks) << q->h.cluster_bits;
    q->h.reftable_clusters = (u32)table;
    if (q->end != UINT64_MAX) q->end = (first + blocks + table) << q->h.cluster_bits;
    for (u64 i = 0; i < old_clusters && !rc; i++) rc = qcow2_free(q, old_offset + i * cluster);
    return rc;
}

/* The block that counts a cluster. make: also where there is none yet; else *s is NULL then. */
static int block_of(struct qcow2 *q, u64 cluster, bool make, struct qcow2_slot **s)
{
    u64 b = cluster / qcow2_block_entries(&q->h);
    int rc = 0;
    *s = NULL;
    while (b >= q->reftable.size && make && !rc) rc = reftable_grow(q);
    if (rc || b >= q->reftable.size) return rc;
    if (q->reftable.entry[b]) return qcow2_table(q, &q->blocks, q->reftable.entry[b], false, s);
    return make ? block_new(q, b, s) : 0;
}

int qcow2_refcount_of(struct qcow2 *q, u64 cluster, u64 *count)
{
    struct qcow2_slot *s;
    int rc = block_of(q, cluster, false, &s);
    *count = !rc && s ? qcow2_refcount(s->data, cluster % qcow2_block_entries(&q->h), q->h.refcount_order) : 0;
    return rc;
}

int qcow2_alloc(struct qcow2 *q, u64 *offset, bool *zero)
{
    u64 per = qcow2_block_entries(&q->h);
    for (u64 c = q->next;; c++) {
        struct qcow2_slot *s;
        int rc = c >= CLUSTER_MAX ? -EFBIG : block_of(q, c, true, &s);
        if (rc) return rc;
        u64 k = c % per;
        while (k < per && qcow2_refcount(s->data, k, q->h.refcount_order)) k++;
        c += k - c % per;
        if (k == per) {
            c--;
            continue;
        }
        *offset = c << q->h.cluster_bits;
        if (qcow2_is_table(q, *offset)) return qcow2_corrupt(q);
        qcow2_refcount_set(s->data, k, q->h.refcount_order, 1);
        s->dirty = true;
        q->next = c + 1;
        *zero = *offset >= q->end;
        if (*zero) q->end = *offset + qcow2_cluster(&q->h);
        return 0;
    }
}

static int drop(struct qcow2 *q, u64 cluster)
{
    struct qcow2_slot *s;
    u64 i = cluster % qcow2_block_entries(&q->h);
    int rc = block_of(q, cluster, false, &s);
    if (rc) return rc;
    u64 count = s ? qcow2_refcount(s->data, i, q->h.refcount_order) : 0;
    if (!count) return qcow2_corrupt(q);
    qcow2_refcount_set(s->data, i, q->h.refcount_order, count - 1);
    s->dirty = true;
    if (count > 1) return 0;
    if (cluster < q->next) q->next = cluster;
    /* Room for others on the host; where it cannot, the cluster is as it was. */
    if (image_file_punch(&q->file, cluster << q->h.cluster_bits, qcow2_cluster(&q->h))) return 0;
    return 0;
}

void qcow2_alloc_undo(struct qcow2 *q, u64 offset)
{
    if (drop(q, offset >> q->h.cluster_bits)) return; /* it is lost until somebody checks the image */
}

int qcow2_free_now(struct qcow2 *q)
{
    int rc = 0;
    while (q->freed_n && !rc) rc = drop(q, q->freed[--q->freed_n] >> q->h.cluster_bits);
    return rc;
}

int qcow2_free(struct qcow2 *q, u64 entry)
{
    u64 cluster = qcow2_cluster(&q->h), at, n;
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed(&q->h, entry, &at, &n);
    } else {
        at = entry & QCOW2_OFFSET;
        n = at ? cluster : 0;
    }
    if (!n) return 0;
    if (q->freed_n + n / cluster + 2 > QCOW2_FREED_MAX) {
        int rc = qcow2_flush(q);
        if (rc) return rc; /* the rest is lost until somebody checks the image */
    }
    for (u64 c = at & ~(cluster - 1); c < at + n; c += cluster) q->freed[q->freed_n++] = c;
    return 0;
}
