/* Owns what of a qcow2 header is believed: nothing that has not been checked here. */
#include "src/back/qcow2_format.h"
#include "src/error.h"

#include <errno.h>

struct range {
    u64 from, n;
};
static bool overlap(struct range a, struct range b) { return a.from < b.from + b.n && b.from < a.from + a.n; }

static int features(const struct qcow2_header *h, const char *path, u8 compression, struct vm_error *err)
{
    static const char *const known[] = { NULL, NULL, "an external data file", "another compression than zlib",
                                         "extended L2 entries" };
    for (unsigned i = 2; i < 64; i++) {
        if (!(h->incompatible >> i & 1) || (i == 3 && !compression)) continue;
        if (i < ARRAY_LEN(known))
            return vm_fail(err, -ENOTSUP, "disk %s: it has %s, which is not supported", path, known[i]);
        return vm_fail(err, -ENOTSUP, "disk %s: it has a feature that is not known (incompatible bit %u)", path, i);
    }
    return 0;
}

/* Header extensions: where a backing image's format is. */
static int extensions(struct qcow2_header *h, const u8 *head, u64 at, u64 end)
{
    while (end - at >= 8) {
        u32 type = qcow2_get32(head + at), n = qcow2_get32(head + at + 4);
        at += 8;
        if (!type) return 0;
        if (n > end - at) return -EINVAL;
        if (type == 0xe2792aca && n < sizeof h->backing_format) {
            memcpy(h->backing_format, head + at, n);
            h->backing_format[n] = 0;
        } else if (type == 0xe2792aca) strcpy(h->backing_format, "?");
        if (type == 0x23852875) h->bitmaps = true;
        at += ((u64)n + 7) & ~7ull;
        if (at > end) return 0;
    }
    return 0;
}

/* The tables' places. Returns what is wrong, or NULL. */
static const char *places(const struct qcow2_header *h, u64 file)
{
    u64 cluster = qcow2_cluster(h);
    u64 per_l2 = cluster * qcow2_l2_entries(h);
    const struct range header = { 0, cluster }, l1 = { h->l1_offset, (u64)h->l1_entries * 8 },
                       rt = { h->reftable_offset, (u64)h->reftable_clusters * cluster };
    if (h->l1_entries > QCOW2_L1_MAX / 8) return "its L1 table is too large";
    if (h->size > INT64_MAX || h->size / per_l2 + !!(h->size % per_l2) > h->l1_entries)
        return "its L1 table is too small for its size";
    if (!h->reftable_clusters || (u64)h->reftable_clusters * cluster > QCOW2_REFTABLE_MAX)
        return "the size of its refcount table is out of range";
    if ((h->l1_offset | h->reftable_offset) & (cluster - 1)) return "a table is not at the start of a cluster";
    if (h->l1_offset >= file || h->reftable_offset >= file) return "a table is behind the end of the file";
    if (overlap(header, l1) || overlap(header, rt) || overlap(l1, rt)) return "its tables overlap";
    return NULL;
}

int qcow2_header_read(const struct image_file *f, const char *path, struct qcow2_header *h, struct vm_error *err)
{
    u8 fixed[112] = { 0 }, *head = NULL;
    *h = (struct qcow2_header){ 0 };
    int rc = image_file_read(f, 0, fixed, sizeof fixed);
    if (rc) return vm_fail(err, rc, "disk %s: %s", path, strerror(-rc));
    if (memcmp(fixed, QCOW2_MAGIC, 4)) return vm_fail(err, -ENOEXEC, "disk %s: is no qcow2 image", path);
    h->version = qcow2_get32(fixed + 4);
    if (h->version != 2 && h->version != 3)
        return vm_fail(err, -ENOTSUP, "disk %s: is qcow2 of version %u; 2 and 3 are supported", path, h->version);
    h->cluster_bits = qcow2_get32(fixed + 20);
    if (h->cluster_bits < 9 || h->cluster_bits > 21)
        return vm_fail(err, -EINVAL, "disk %s: damaged: the size of its clusters is out of range", path);
    h->size = qcow2_get64(fixed + 24);
    if (qcow2_get32(fixed + 32)) return vm_fail(err, -ENOTSUP, "disk %s: is encrypted, which is not supported", path);
    h->l1_entries = qcow2_get32(fixed + 36);
    h->l1_offset = qcow2_get64(fixed + 40);
    h->reftable_offset = qcow2_get64(fixed + 48);
    h->reftable_clusters = qcow2_get32(fixed + 56);
    h->snapshots = qcow2_get32(fixed + 60);
    h->refcount_order = 4;
    u64 length = 72, cluster = qcow2_cluster(h);
    u8 compression = 0;
    if (h->version == 3) {
        h->incompatible = qcow2_get64(fixed + 72);
        h->compatible = qcow2_get64(fixed + 80);
        h->autoclear = qcow2_get64(fixed + 88);
        h->refcount_order = qcow2_get32(fixed + 96);
        length = qcow2_get32(fixed + 100);
        if (length > 104) compression = fixed[104];
        if (length < 104 || length > cluster || length % 8)
            return vm_fail(err, -EINVAL, "disk %s: damaged: the size of its header is out of range", path);
        if ((rc = features(h, path, compression, err))) return rc;
        if (h->refcount_order > 6)
            return vm_fail(err, -EINVAL, "disk %s: damaged: the width of its refcounts is out of range", path);
    }
    const char *wrong = places(h, f->size);
    if (wrong) return vm_fail(err, -EINVAL, "disk %s: damaged: %s", path, wrong);
    u64 per_l2 = cluster * qcow2_l2_entries(h);
    h->l1_size = (u32)(h->size / per_l2 + !!(h->size % per_l2));

    u64 name = qcow2_get64(fixed + 8);
    u32 name_size = name ? qcow2_get32(fixed + 16) : 0;
    if (name_size > QCOW2_BACKING_MAX || name > cluster || name_size > cluster - name || (name && name < length))
        return vm_fail(err, -EINVAL, "disk %s: damaged: the name of what it is based on is out of range", path);
    head = malloc(cluster);
    if (!head) return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    rc = image_file_read(f, 0, head, cluster);
    if (!rc) rc = extensions(h, head, length, name ? name : cluster);
    if (!rc && name_size) memcpy(h->backing, head + name, name_size);
    free(head);
    if (!rc && strlen(h->backing) != name_size) rc = -EINVAL;
    return rc ? vm_fail(err, rc, "disk %s: damaged: its header extensions are out of range", path) : 0;
}
