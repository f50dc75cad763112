/* Owns how a whole refcount structure is laid out: blocks, then the table, behind everything else. Also makes new
 * images, which are that and a header. */
#include "src/back/qcow2_build.h"
#include "src/back/qcow2.h"
#include "src/error.h"

#include <errno.h>
#include <unistd.h>

int qcow2_count(struct qcow2_counts *c, u64 first, u64 n)
{
    if (first > QCOW2_COUNTS_MAX || n > QCOW2_COUNTS_MAX - first) return -EFBIG;
    if (first + n > c->room) {
        u64 room = c->room ? c->room : 1024;
        while (room < first + n) room *= 2;
        u32 *more = realloc(c->count, room * sizeof *more);
        if (!more) return -ENOMEM;
        memset(more + c->room, 0, (room - c->room) * sizeof *more);
        c->count = more;
        c->room = room;
    }
    if (first + n > c->n) c->n = first + n;
    for (u64 i = first; i < first + n; i++)
        if (c->count[i] < UINT32_MAX) c->count[i]++;
    return 0;
}

/* Blocks and table clusters that count themselves, too. */
static void sizes(const struct qcow2_header *h, u64 used, u64 at_least, u64 *blocks, u64 *table)
{
    u64 per = qcow2_block_entries(h), was;
    *blocks = *table = 0;
    do {
        was = *blocks + *table;
        *blocks = (used + was + per - 1) / per;
        *table = qcow2_clusters(h, (*blocks > at_least ? *blocks : at_least) * 8);
    } while (*blocks + *table != was);
}

int qcow2_build(const struct image_file *f, const struct qcow2_header *h, struct qcow2_counts *c, u64 at_least,
                u64 *offset, u64 *clusters)
{
    u64 cluster = qcow2_cluster(h), per = qcow2_block_entries(h), max = qcow2_refcount_max(h->refcount_order);
    u64 first = c->n, blocks;
    sizes(h, first, at_least, &blocks, clusters);
    if (*clusters * cluster > QCOW2_REFTABLE_MAX) return -EFBIG;
    int rc = qcow2_count(c, first, blocks + *clusters);
    u8 *block = rc ? NULL : malloc(cluster), *table = rc ? NULL : calloc(*clusters, cluster);
    if (!rc && (!block || !table)) rc = -ENOMEM;
    for (u64 b = 0; b < blocks && !rc; b++) {
        memset(block, 0, cluster);
        for (u64 i = 0; i < per && b * per + i < c->n; i++) {
            u64 v = c->count[b * per + i];
            qcow2_refcount_set(block, i, h->refcount_order, v < max ? v : max);
        }
        qcow2_put64(table + b * 8, (first + b) << h->cluster_bits);
        rc = image_file_write(f, (first + b) << h->cluster_bits, block, cluster);
    }
    *offset = (first + blocks) << h->cluster_bits;
    if (!rc) rc = image_file_write(f, *offset, table, *clusters * cluster);
    if (!rc) rc = image_file_sync(f);
    free(block);
    free(table);
    return rc;
}

/* ---- new images ---- */

static u32 extension(u8 *p, u32 type, const char *text)
{
    u32 n = (u32)strlen(text);
    qcow2_put32(p, type);
    qcow2_put32(p + 4, n);
    memcpy(p + 8, text, n);
    return 8 + ((n + 7) & ~7u);
}

/* Header, the name of what it is based on, and its format. */
static int header_make(u8 *head, const struct qcow2_header *h, const struct qcow2_create *how)
{
    u64 cluster = qcow2_cluster(h);
    u32 at = h->version == 3 ? 104 : 72;
    memcpy(head, QCOW2_MAGIC, 4);
    qcow2_put32(head + 4, h->version);
    qcow2_put32(head + 20, h->cluster_bits);
    qcow2_put64(head + 24, h->size);
    qcow2_put32(head + 36, h->l1_entries);
    qcow2_put64(head + 40, h->l1_offset);
    qcow2_put64(head + 48, h->reftable_offset);
    qcow2_put32(head + 56, h->reftable_clusters);
    if (h->version == 3) {
        qcow2_put64(head + 80, how->lazy_refcounts ? QCOW2_LAZY : 0);
        qcow2_put32(head + 96, h->refcount_order);
        qcow2_put32(head + 100, at);
    }
    if (!how->backing) return 0;
    u32 n = (u32)strlen(how->backing);
    if (n > QCOW2_BACKING_MAX || at + 64 + n > cluster) return -ENAMETOOLONG;
    if (how->backing_format) at += extension(head + at, 0xe2792aca, how->backing_format);
    at += 8; /* end of the extensions */
    qcow2_put64(head + 8, at);
    qcow2_put32(head + 16, n);
    memcpy(head + at, how->backing, n);
    return 0;
}

int qcow2_make(const struct image_file *f, const char *path, const struct qcow2_create *how, struct vm_error *err)
{
    struct qcow2_header h = { .version = how->version,
                              .cluster_bits = how->cluster_bits,
                              .size = how->size,
                              .refcount_order = how->refcount_order };
    u64 cluster = qcow2_cluster(&h), per_l2 = cluster * qcow2_l2_entries(&h);
    u64 l1 = how->size / per_l2 + !!(how->size % per_l2), l1_clusters = qcow2_clusters(&h, l1 * 8);
    if (!l1 || l1 * 8 > QCOW2_L1_MAX)
        return vm_fail(err, -EFBIG, "disk %s: too large for clusters of %llu bytes", path, (unsigned long long)cluster);
    h.l1_entries = (u32)l1;
    h.l1_offset = cluster;
    /* Room in the refcount table for the whole disk, so that it need not move. */
    u64 all = 1 + l1_clusters + l1 + qcow2_clusters(&h, how->size), table = all / qcow2_block_entries(&h) + 2;
    struct qcow2_counts counts = { 0 };
    u64 table_clusters = 0;
    u8 *head = calloc(1, cluster);
    int rc = head ? qcow2_count(&counts, 0, 1 + l1_clusters) : -ENOMEM;
    if (!rc && ftruncate(f->fd, (off_t)((1 + l1_clusters) * cluster))) rc = -errno; /* the L1 table reads as zeroes */
    if (!rc && table * 8 > QCOW2_REFTABLE_MAX / 2) table = QCOW2_REFTABLE_MAX / 16;
    if (!rc) rc = qcow2_build(f, &h, &counts, table, &h.reftable_offset, &table_clusters);
    h.reftable_clusters = (u32)table_clusters;
    if (!rc) rc = header_make(head, &h, how);
    if (!rc) rc = image_file_write(f, 0, head, cluster);
    if (!rc) rc = image_file_sync(f);
    free(counts.count);
    free(head);
    return rc ? vm_fail(err, rc, "disk %s: %s", path, strerror(-rc)) : 0;
}
