/* Owns the check of a qcow2 image, and its repair: counts what the tables lead to, and compares.
 *   I1  What is wrong with refcounts is mended by new ones behind the end of the file, which the header tells of once
 *       they are durable: a crash leaves the old ones or the new ones.                            [refcounts_mend]
 *   I2  Entries that lead nowhere are left as they are: what the guest had there nobody knows. */
#include "src/back/qcow2.h"
#include "src/back/qcow2_build.h"
#include "src/error.h"

#include <errno.h>

struct check {
    const struct image_file *f;
    struct qcow2_header h;
    struct qcow2_check *out;
    struct qcow2_counts counts; /* by what leads to them */
    u8 *table, *block;          /* a cluster each */
    u64 end;                    /* the file's, in clusters */
    bool refcounts_wrong;       /* too high or too low, or something is where they are */
};

static int count_range(struct check *c, u64 at, u64 n)
{
    u64 first = at >> c->h.cluster_bits;
    return n ? qcow2_count(&c->counts, first, ((at + n - 1) >> c->h.cluster_bits) - first + 1) : 0;
}

/* Whether the n bytes at `at` are in the file: that a cluster is cut off by its end is fine. */
static bool in_file(const struct check *c, u64 at) { return at && at >> c->h.cluster_bits < c->end; }

static int count_entry(struct check *c, u64 entry)
{
    u64 cluster = qcow2_cluster(&c->h), at = entry & QCOW2_OFFSET, n = cluster;
    if (!(entry & (QCOW2_OFFSET | QCOW2_ZERO | QCOW2_COMPRESSED))) return 0;
    c->out->allocated++;
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed(&c->h, entry, &at, &n);
        if (entry & QCOW2_COPIED || !in_file(c, at) || !in_file(c, at + n - 1)) {
            c->out->corruptions++;
            return 0;
        }
        return count_range(c, at, n);
    }
    bool bad = at & (cluster - 1) || (entry & QCOW2_ZERO && c->h.version == 2) || (at && !in_file(c, at));
    c->out->corruptions += bad;
    return bad || !at ? 0 : count_range(c, at, cluster);
}

/* Walks the L2 table at offset, if it can. */
static int count_l2(struct check *c, u64 offset)
{
    u64 cluster = qcow2_cluster(&c->h);
    if (offset & (cluster - 1) || !in_file(c, offset)) {
        c->out->corruptions++;
        return 0;
    }
    int rc = count_range(c, offset, cluster);
    if (!rc) rc = image_file_read(c->f, offset, c->table, cluster);
    for (u64 i = 0; i < qcow2_l2_entries(&c->h) && !rc; i++) rc = count_entry(c, qcow2_get64(c->table + i * 8));
    return rc;
}

static int l1_entry(struct check *c, u64 i, u64 *entry)
{
    u8 b[8];
    int rc = image_file_read(c->f, c->h.l1_offset + i * 8, b, sizeof b);
    *entry = qcow2_get64(b);
    return rc;
}

static int count_all(struct check *c)
{
    int rc = count_range(c, 0, qcow2_cluster(&c->h));
    if (!rc) rc = count_range(c, c->h.l1_offset, (u64)c->h.l1_entries * 8);
    for (u64 i = 0, entry; i < c->h.l1_entries && !rc; i++) {
        rc = l1_entry(c, i, &entry);
        if (!rc && entry & QCOW2_OFFSET) rc = count_l2(c, entry & QCOW2_OFFSET);
    }
    return rc;
}

/* ---- flags ---- */

static u32 used(const struct check *c, u64 offset)
{
    u64 i = offset >> c->h.cluster_bits;
    return i < c->counts.n ? c->counts.count[i] : 0;
}

/* The entry with the flag that it should have. */
static u64 flag_right(const struct check *c, u64 entry)
{
    u64 at = entry & QCOW2_OFFSET;
    if (entry & QCOW2_COMPRESSED || !at || at & (qcow2_cluster(&c->h) - 1) || !in_file(c, at)) return entry;
    return used(c, at) == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED;
}

static int flag_mend(struct check *c, u64 at, u64 entry, bool repair)
{
    u64 right = flag_right(c, entry);
    u8 b[8];
    if (right == entry) return 0;
    c->out->corruptions++;
    if (!repair) return 0;
    qcow2_put64(b, right);
    return image_file_write(c->f, at, b, sizeof b);
}

static int flags(struct check *c, bool repair)
{
    u64 cluster = qcow2_cluster(&c->h), entry;
    int rc = 0;
    for (u64 i = 0; i < c->h.l1_entries && !rc; i++) {
        rc = l1_entry(c, i, &entry);
        u64 offset = entry & QCOW2_OFFSET;
        if (rc || !offset || offset & (cluster - 1) || !in_file(c, offset)) continue;
        rc = flag_mend(c, c->h.l1_offset + i * 8, entry, repair);
        if (!rc) rc = image_file_read(c->f, offset, c->table, cluster);
        for (u64 k = 0; k < qcow2_l2_entries(&c->h) && !rc; k++)
            rc = flag_mend(c, offset + k * 8, qcow2_get64(c->table + k * 8), repair);
    }
    return rc;
}

/* ---- refcounts ---- */

/* A block of the present table, or zeroes. */
static int block_read(struct check *c, u64 i)
{
    u64 cluster = qcow2_cluster(&c->h);
    u8 b[8];
    memset(c->block, 0, cluster);
    if (i >= c->h.reftable_clusters * cluster / 8) return 0;
    int rc = image_file_read(c->f, c->h.reftable_offset + i * 8, b, sizeof b);
    u64 offset = qcow2_get64(b) & ~0x1ffull;
    if (rc || !offset) return rc;
    if (offset & (cluster - 1) || offset >> 56 || !in_file(c, offset)) {
        c->out->corruptions++;
        c->refcounts_wrong = true;
        return 0;
    }
    return image_file_read(c->f, offset, c->block, cluster);
}

/* The refcounts' own tables. */
static int count_tables(struct check *c)
{
    u64 cluster = qcow2_cluster(&c->h), entries = c->h.reftable_clusters * cluster / 8;
    u8 b[8];
    int rc = count_range(c, c->h.reftable_offset, c->h.reftable_clusters * cluster);
    for (u64 i = 0; i < entries && !rc; i++) {
        rc = image_file_read(c->f, c->h.reftable_offset + i * 8, b, sizeof b);
        u64 offset = qcow2_get64(b) & ~0x1ffull;
        if (rc || !offset || offset & (cluster - 1) || offset >> 56 || !in_file(c, offset)) continue;
        if (used(c, offset)) c->refcounts_wrong = true; /* something else is there */
        rc = count_range(c, offset, cluster);
    }
    return rc;
}

static int compare(struct check *c)
{
    u64 per = qcow2_block_entries(&c->h), max = qcow2_refcount_max(c->h.refcount_order);
    u64 n = c->end > c->counts.n ? c->end : c->counts.n;
    int rc = 0;
    for (u64 i = 0; i < n && !rc; i++) {
        if (i % per == 0 && (rc = block_read(c, i / per))) break;
        u64 is = qcow2_refcount(c->block, i % per, c->h.refcount_order),
            should = i < c->counts.n ? c->counts.count[i] : 0;
        if (should > max) should = max;
        if (is < should) c->out->corruptions++;
        if (is > should) c->out->leaks++;
        if (is != should) c->refcounts_wrong = true;
    }
    return rc;
}

static int refcounts_mend(struct check *c, struct qcow2_counts *without)
{
    u64 offset, clusters;
    u8 head[12];
    if (without->n < c->end) without->n = c->end;
    if (without->n > without->room) { /* only longer, all zeroes there */
        int rc = qcow2_count(without, without->n - 1, 1);
        if (rc) return rc;
        without->count[without->n - 1]--;
    }
    int rc = qcow2_build(c->f, &c->h, without, c->h.reftable_clusters * qcow2_cluster(&c->h) / 8, &offset, &clusters);
    if (rc) return rc;
    qcow2_put64(head, offset);
    qcow2_put32(head + 8, (u32)clusters);
    rc = image_file_write(c->f, QCOW2_AT_REFTABLE, head, sizeof head);
    return rc ? rc : image_file_sync(c->f);
}

static int features_clear(struct check *c)
{
    u8 b[8];
    if (c->h.version != 3 || !(c->h.incompatible & (QCOW2_DIRTY | QCOW2_CORRUPT))) return 0;
    qcow2_put64(b, c->h.incompatible & ~(QCOW2_DIRTY | QCOW2_CORRUPT));
    int rc = image_file_write(c->f, QCOW2_AT_INCOMPATIBLE, b, sizeof b);
    return rc ? rc : image_file_sync(c->f);
}

static int check_all(struct check *c, bool repair)
{
    struct qcow2_counts without = { 0 };
    int rc = count_all(c);
    u64 lost = c->out->corruptions; /* what leads nowhere stays */
    without.n = c->counts.n;
    without.room = c->counts.n;
    without.count = malloc((c->counts.n + 1) * sizeof *without.count);
    if (!rc && !without.count) rc = -ENOMEM;
    if (!rc) memcpy(without.count, c->counts.count, c->counts.n * sizeof *without.count);
    if (!rc) rc = count_tables(c);
    if (!rc) rc = compare(c);
    if (!rc && repair && c->refcounts_wrong) {
        rc = refcounts_mend(c, &without);
        free(c->counts.count); /* flags follow what is used without the old tables */
        c->counts = without;
        without.count = NULL;
    }
    if (!rc) rc = flags(c, repair);
    if (!rc && repair) rc = image_file_sync(c->f);
    c->out->left = repair ? lost : c->out->corruptions;
    if (!rc && repair && !lost) rc = features_clear(c);
    free(without.count);
    return rc;
}

int qcow2_check(const struct image_file *f, const char *path, bool repair, struct qcow2_check *out,
                struct vm_error *err)
{
    struct check c = { .f = f, .out = out };
    *out = (struct qcow2_check){ 0 };
    int rc = qcow2_header_read(f, path, &c.h, err);
    if (rc) return rc;
    if (c.h.snapshots || c.h.bitmaps)
        return vm_fail(err, -ENOTSUP, "disk %s: has %s, which is not checked; qemu-img check does", path,
                       c.h.snapshots ? "internal snapshots" : "bitmaps");
    u64 cluster = qcow2_cluster(&c.h);
    out->clusters = qcow2_clusters(&c.h, c.h.size);
    c.end = qcow2_clusters(&c.h, f->size);
    c.table = malloc(cluster);
    c.block = malloc(cluster);
    if (c.end > QCOW2_COUNTS_MAX) rc = -EFBIG;
    else rc = c.table && c.block ? check_all(&c, repair) : -ENOMEM;
    free(c.counts.count);
    free(c.table);
    free(c.block);
    return rc ? vm_fail(err, rc, "disk %s: check: %s", path, strerror(-rc)) : 0;
}
