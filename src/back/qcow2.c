/* Owns an open qcow2 image: what the disk's bytes are, and where a write to them goes. The order in which tables reach
 * the file is qcow2_tables.c's, which clusters are free qcow2_alloc.c's.
 *   I1  An entry is believed only as far as it has been checked here: its offset is a cluster's, and no table's where
 *       it is written to.                                                                           [entry_check]
 *   I2  A cluster that is written to where it is has QCOW2_COPIED, and is neither compressed nor zero.      [is_ours]
 *   I3  An entry changes when the whole cluster that it leads to has been written.                    [cluster_new]
 * Enter at qcow2_read() and qcow2_write(). */
#include "src/back/qcow2.h"
#include "src/back/qcow2_tables.h"
#include "src/error.h"

#include <errno.h>
#include <libgen.h>
#include <zlib.h>

/* ---- a list of memory, from its front to its end ---- */

#define PIECES 256u
struct cursor {
    const struct iovec *iov;
    size_t skip; /* bytes of iov[0] that are done */
};

/* Takes up to n bytes, as a list of memory. Returns how many. */
static u64 cursor_take(struct cursor *c, u64 n, struct iovec *v, unsigned *nv)
{
    u64 got = 0;
    for (*nv = 0; got < n && *nv < PIECES;) {
        size_t k = c->iov->iov_len - c->skip;
        if (k > n - got) k = (size_t)(n - got);
        if (k) v[(*nv)++] = (struct iovec){ (u8 *)c->iov->iov_base + c->skip, k };
        got += k;
        c->skip += k;
        if (c->skip == c->iov->iov_len && got < n) {
            c->iov++;
            c->skip = 0;
        }
    }
    return got;
}

/* Both ways between a list and one piece of memory. */
static void cursor_copy(struct cursor *c, u8 *buf, u64 n, bool to_buf)
{
    struct iovec v[PIECES];
    unsigned nv;
    while (n) {
        n -= cursor_take(c, n, v, &nv);
        for (unsigned i = 0; i < nv; buf += v[i++].iov_len)
            if (to_buf) memcpy(buf, v[i].iov_base, v[i].iov_len);
            else memcpy(v[i].iov_base, buf, v[i].iov_len);
    }
}

static void cursor_zero(struct cursor *c, u64 n)
{
    struct iovec v[PIECES];
    unsigned nv;
    while (n) {
        n -= cursor_take(c, n, v, &nv);
        for (unsigned i = 0; i < nv; i++) memset(v[i].iov_base, 0, v[i].iov_len);
    }
}

/* ---- entries ---- */

static u64 l1_index(const struct qcow2 *q, u64 at) { return (at >> q->h.cluster_bits) / qcow2_l2_entries(&q->h); }
static u64 l2_index(const struct qcow2 *q, u64 at) { return (at >> q->h.cluster_bits) % qcow2_l2_entries(&q->h); }

/* 0 if an entry may be followed. */
static int entry_check(struct qcow2 *q, u64 entry)
{
    if (entry & QCOW2_COMPRESSED) return 0; /* any byte of the file may be read */
    bool fine = !(entry & QCOW2_OFFSET & (qcow2_cluster(&q->h) - 1)) && !(entry & QCOW2_ZERO && q->h.version == 2);
    return fine ? 0 : qcow2_corrupt(q);
}

/* The entry of the cluster at `at`; 0 where there is no table. */
static int entry_get(struct qcow2 *q, u64 at, u64 *entry)
{
    u64 table = q->l1.entry[l1_index(q, at)] & QCOW2_OFFSET;
    struct qcow2_slot *s;
    *entry = 0;
    int rc = table ? qcow2_table(q, &q->l2, table, false, &s) : 0;
    if (rc || !table) return rc;
    *entry = qcow2_get64(s->data + 8 * l2_index(q, at));
    return entry_check(q, *entry);
}

/* The L2 table of `at`, which may be written to. */
static int table_own(struct qcow2 *q, u64 at, struct qcow2_slot **s)
{
    u64 i = l1_index(q, at), old = q->l1.entry[i], offset;
    bool zero;
    if (old & QCOW2_COPIED && old & QCOW2_OFFSET) return qcow2_table(q, &q->l2, old & QCOW2_OFFSET, false, s);
    int rc = qcow2_alloc(q, &offset, &zero);
    if (rc) return rc;
    rc = qcow2_table_note(q, offset);
    if (!rc) rc = qcow2_table(q, &q->l2, offset, true, s);
    if (!rc && old & QCOW2_OFFSET) rc = image_file_read(&q->file, old & QCOW2_OFFSET, (*s)->data, qcow2_cluster(&q->h));
    if (rc) return rc; /* the cluster is lost until somebody checks the image */
    qcow2_array_set(&q->l1, i, offset | QCOW2_COPIED);
    return qcow2_free(q, old & QCOW2_OFFSET);
}

static int entry_set(struct qcow2 *q, u64 at, u64 entry)
{
    struct qcow2_slot *s;
    int rc = table_own(q, at, &s);
    if (rc) return rc;
    u8 *p = s->data + 8 * l2_index(q, at);
    u64 old = qcow2_get64(p);
    qcow2_put64(p, entry);
    s->dirty = true;
    bool same = !((old ^ entry) & QCOW2_OFFSET) && !((old | entry) & QCOW2_COMPRESSED);
    return same ? 0 : qcow2_free(q, old);
}

static bool is_ours(u64 entry)
{
    return entry & QCOW2_COPIED && entry & QCOW2_OFFSET && !(entry & (QCOW2_COMPRESSED | QCOW2_ZERO));
}
static bool is_data(u64 entry) { return entry & QCOW2_OFFSET && !(entry & (QCOW2_COMPRESSED | QCOW2_ZERO)); }

/* How many bytes from `at` on, n at most, lie one after another in the file, as entry begins it; or have no entry. */
static int run_length(struct qcow2 *q, u64 at, u64 entry, u64 *n)
{
    u64 cluster = qcow2_cluster(&q->h), k = cluster - (at & (cluster - 1)), next;
    while (k < *n && l2_index(q, at + k)) {
        int rc = entry_get(q, at + k, &next);
        if (rc) return rc;
        if (is_data(entry) ? next != entry + cluster : next != entry) break;
        if (entry & QCOW2_COMPRESSED) break;
        entry = next;
        k += cluster;
    }
    if (k < *n) *n = k;
    return 0;
}

/* ---- reading ---- */

static int inflate_raw(const u8 *from, u64 n, u8 *to, u64 cluster)
{
    z_stream z = { .next_in = (u8 *)from, .avail_in = (uInt)n, .next_out = to, .avail_out = (uInt)cluster };
    if (inflateInit2(&z, -15) != Z_OK) return -ENOMEM;
    int rc = inflate(&z, Z_FINISH);
    bool whole = !z.avail_out && (rc == Z_STREAM_END || rc == Z_BUF_ERROR || rc == Z_OK);
    inflateEnd(&z);
    return whole ? 0 : -EIO;
}

/* Makes q->whole the compressed cluster of an entry. */
static int unpack(struct qcow2 *q, u64 entry)
{
    u64 at, n;
    if (q->unpacked == entry) return 0;
    q->unpacked = 0;
    qcow2_compressed(&q->h, entry, &at, &n);
    int rc = image_file_read(&q->file, at, q->packed, n);
    if (!rc) rc = inflate_raw(q->packed, n, q->whole, qcow2_cluster(&q->h));
    if (!rc) q->unpacked = entry;
    return rc;
}

/* Of what this image is based on, which may be smaller. */
static int backing_read(struct qcow2 *q, u64 at, struct cursor *c, u64 n)
{
    struct iovec v[PIECES];
    unsigned nv;
    u64 there = at < q->backing.size ? q->backing.size - at : 0, end = at + (n < there ? n : there);
    u64 rest = at + n - end;
    while (at < end) {
        u64 k = cursor_take(c, end - at, v, &nv);
        int rc = q->backing.ops->read(q->backing.state, at, v, nv);
        if (rc) return rc;
        at += k;
    }
    cursor_zero(c, rest);
    return 0;
}

/* All of it lies one after another in the file, but the file may end before. */
static int data_read(struct qcow2 *q, u64 at, struct cursor *c, u64 n)
{
    struct iovec v[PIECES];
    unsigned nv;
    int rc = 0;
    while (n && !rc) {
        const u64 k = cursor_take(c, n, v, &nv);
        rc = image_file_readv(&q->file, at, v, nv);
        at += k;
        n -= k;
    }
    return rc;
}

static int run_read(struct qcow2 *q, u64 at, u64 entry, struct cursor *c, u64 n)
{
    u64 inside = at & (qcow2_cluster(&q->h) - 1);
    if (entry & QCOW2_COMPRESSED) {
        int rc = unpack(q, entry);
        if (!rc) cursor_copy(c, q->whole + inside, n, false);
        return rc;
    }
    if (is_data(entry)) return data_read(q, (entry & QCOW2_OFFSET) + inside, c, n);
    if (entry & QCOW2_ZERO) cursor_zero(c, n);
    else return backing_read(q, at, c, n);
    return 0;
}

static u64 iov_bytes(const struct iovec *iov, unsigned niov)
{
    u64 n = 0;
    for (unsigned i = 0; i < niov; i++) n += iov[i].iov_len;
    return n;
}

static int qcow2_read(void *image, u64 at, const struct iovec *iov, unsigned niov)
{
    struct qcow2 *q = image;
    struct cursor c = { iov, 0 };
    int rc = 0;
    for (u64 left = iov_bytes(iov, niov), n, entry; left && !rc; at += n, left -= n) {
        n = left;
        rc = entry_get(q, at, &entry);
        if (!rc) rc = run_length(q, at, entry, &n);
        if (!rc) rc = run_read(q, at, entry, &c, n);
    }
    return rc;
}

/* ---- writing ---- */

static int data_write(struct qcow2 *q, u64 at, struct cursor *c, u64 n)
{
    struct iovec v[PIECES];
    unsigned nv;
    for (u64 k; n; at += k, n -= k) {
        k = cursor_take(c, n, v, &nv);
        int rc = image_file_move(&q->file, true, at, v, nv);
        if (rc) return rc;
    }
    return 0;
}

/* Where it is: no cluster of the run may be a table's. */
static int run_write(struct qcow2 *q, u64 at, u64 entry, struct cursor *c, u64 n)
{
    u64 to = (entry & QCOW2_OFFSET) + (at & (qcow2_cluster(&q->h) - 1));
    for (u64 k = 0; k < n; k += qcow2_cluster(&q->h))
        if (qcow2_is_table(q, to + k)) return qcow2_corrupt(q);
    if (qcow2_is_table(q, to + n - 1)) return qcow2_corrupt(q);
    return data_write(q, to, c, n);
}

/* The whole of a cluster's old contents with the new ones over it, into q->whole. */
static int whole_make(struct qcow2 *q, u64 at, u64 entry, struct cursor *c, u64 n)
{
    u64 cluster = qcow2_cluster(&q->h), inside = at & (cluster - 1);
    int rc = 0;
    if (entry & QCOW2_COMPRESSED) {
        rc = n == cluster ? 0 : unpack(q, entry);
    } else if (n < cluster) {
        const struct iovec v = { q->whole, cluster };
        struct cursor old = { &v, 0 };
        rc = run_read(q, at - inside, entry, &old, cluster);
    }
    q->unpacked = 0;
    if (!rc) cursor_copy(c, q->whole + inside, n, true);
    return rc;
}

static bool reads_as_zero(const struct qcow2 *q, u64 at, u64 entry)
{
    if (entry & QCOW2_COMPRESSED) return false;
    return entry & QCOW2_ZERO || (!(entry & QCOW2_OFFSET) && at >= q->backing.size);
}

/* n bytes at `at`, within a cluster that is not to be written to where it is. */
static int cluster_new(struct qcow2 *q, u64 at, u64 entry, struct cursor *c, u64 n)
{
    u64 cluster = qcow2_cluster(&q->h), inside = at & (cluster - 1), offset = 0;
    bool zero = false;
    /* One that was kept for it (zero, preallocated) is used. */
    bool kept = entry & QCOW2_ZERO && entry & QCOW2_COPIED && entry & QCOW2_OFFSET && !(entry & QCOW2_COMPRESSED);
    int rc = kept ? 0 : qcow2_alloc(q, &offset, &zero);
    if (rc) return rc;
    if (kept) {
        offset = entry & QCOW2_OFFSET;
        if (qcow2_is_table(q, offset)) return qcow2_corrupt(q);
    }
    if (zero && reads_as_zero(q, at - inside, entry)) {
        rc = data_write(q, offset + inside, c, n); /* the rest is as it should be */
    } else {
        rc = whole_make(q, at, entry, c, n);
        if (!rc) rc = image_file_write(&q->file, offset, q->whole, cluster);
    }
    if (!rc) rc = entry_set(q, at, offset | QCOW2_COPIED);
    else if (!kept) qcow2_alloc_undo(q, offset);
    return rc;
}

static int qcow2_write(void *image, u64 at, const struct iovec *iov, unsigned niov)
{
    struct qcow2 *q = image;
    struct cursor c = { iov, 0 };
    u64 cluster = qcow2_cluster(&q->h);
    int rc = qcow2_begin(q);
    for (u64 left = iov_bytes(iov, niov), n, entry; left && !rc; at += n, left -= n) {
        n = left;
        rc = entry_get(q, at, &entry);
        if (rc) break;
        if (is_ours(entry)) {
            rc = run_length(q, at, entry, &n);
            if (!rc) rc = run_write(q, at, entry, &c, n);
            continue;
        }
        if (n > cluster - (at & (cluster - 1))) n = cluster - (at & (cluster - 1));
        rc = cluster_new(q, at, entry, &c, n);
    }
    return rc;
}

static int qcow2_flush_op(void *image) { return qcow2_flush(image); }

/* ---- zeroes ---- */

static int zero_write(struct qcow2 *q, u64 at, u64 n)
{
    static const u8 zeroes[4096];
    int rc = 0;
    for (u64 k; n && !rc; at += k, n -= k) {
        k = n < sizeof zeroes ? n : sizeof zeroes;
        const struct iovec iov = { (u8 *)zeroes, k };
        rc = qcow2_write(q, at, &iov, 1);
    }
    return rc;
}

/* A whole cluster is to read as zeroes; or it may, and takes room now. */
static int cluster_zero(struct qcow2 *q, u64 at, u64 entry, u64 n, bool discard)
{
    if (reads_as_zero(q, at, entry) && !(entry & QCOW2_OFFSET)) return 0;
    if (discard && !entry) return 0;
    if (q->h.version == 3) return entry_set(q, at, QCOW2_ZERO);
    if (at >= q->backing.size) return entry_set(q, at, 0);
    return discard ? 0 : zero_write(q, at, n);
}

static int range_zero(struct qcow2 *q, u64 at, u64 len, bool discard)
{
    u64 cluster = qcow2_cluster(&q->h);
    int rc = qcow2_begin(q);
    for (u64 n, entry; len && !rc; at += n, len -= n) {
        n = cluster - (at & (cluster - 1)) < len ? cluster - (at & (cluster - 1)) : len;
        bool whole = !(at & (cluster - 1)) && (n == cluster || at + n >= q->h.size);
        rc = entry_get(q, at, &entry);
        if (rc) break;
        if (whole) rc = cluster_zero(q, at, entry, n, discard);
        else if (!discard && !reads_as_zero(q, at & ~(cluster - 1), entry)) rc = zero_write(q, at, n);
    }
    return rc;
}
static int qcow2_zero(void *image, u64 at, u64 len) { return range_zero(image, at, len, false); }
static int qcow2_discard(void *image, u64 at, u64 len) { return range_zero(image, at, len, true); }

/* ---- for commit and convert ---- */

int qcow2_own(void *state, u64 offset, u64 len, bool *own, u64 *n)
{
    struct qcow2 *q = state;
    u64 cluster = qcow2_cluster(&q->h), entry;
    int rc = 0;
    for (*n = 0; *n < len && !rc;) {
        rc = entry_get(q, offset + *n, &entry);
        if (*n && *own != !!entry) break;
        *own = entry;
        *n += cluster - ((offset + *n) & (cluster - 1));
    }
    if (*n > len) *n = len;
    return rc;
}

int qcow2_empty(void *state)
{
    struct qcow2 *q = state;
    int rc = qcow2_begin(q);
    for (u64 at = 0, entry; at < q->h.size && !rc; at += qcow2_cluster(&q->h)) {
        rc = entry_get(q, at, &entry);
        if (!rc && entry) rc = entry_set(q, at, 0);
    }
    return rc ? rc : qcow2_flush(q);
}

const struct qcow2_header *qcow2_header(const void *state) { return &((const struct qcow2 *)state)->h; }

/* ---- opening ---- */

static const struct block_image_ops qcow2_ops = { qcow2_read, qcow2_write, qcow2_flush_op, qcow2_zero, qcow2_discard };

static void qcow2_free_all(struct qcow2 *q)
{
    image_close(&q->backing);
    qcow2_tables_close(q);
    image_file_close(&q->file);
    free(q->freed);
    free(q->whole);
    free(q->packed);
    free(q);
}

static void qcow2_close(void *image)
{
    struct qcow2 *q = image;
    /* Nothing that a flush has promised is lost if this fails: the rest the guest has not asked for. */
    if (q->writable && qcow2_end(q)) q->writable = false;
    qcow2_free_all(q);
}

char *qcow2_backing_path(const char *path, const char *backing)
{
    if (*backing == '/') return strdup(backing);
    char *copy = strdup(path), *out = NULL;
    const char *folder = copy ? dirname(copy) : NULL;
    size_t n = copy ? strlen(folder) + strlen(backing) + 2 : 0;
    if (copy && (out = malloc(n))) snprintf(out, n, "%s/%s", folder, backing);
    free(copy);
    return out;
}

static int backing_open(struct qcow2 *q, const char *path, const struct image_chain *above, struct vm_error *err)
{
    const char *name = q->h.backing;
    if (!*name) return 0;
    if (!strncmp(name, "file:", 5)) name += 5;
    if (memchr(name, ':', strcspn(name, "/")))
        return vm_fail(err, -ENOTSUP, "disk %s: is based on '%s', which is no file", path, name);
    const struct image_chain chain = { &q->file, above, above->depth + 1, above->open };
    char *there = qcow2_backing_path(path, name);
    if (!there) return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    int rc = above->open(&q->backing, there, q->h.backing_format, &chain, err);
    free(there);
    return rc;
}

/* What has to be so before it may be written to. */
static int writable_check(struct qcow2 *q, const char *path, struct vm_error *err)
{
    if (q->h.snapshots)
        return vm_fail(err, -ENOTSUP, "disk %s: has internal snapshots; it can be read: readonly=on or snapshot=on",
                       path);
    if (q->h.incompatible & QCOW2_CORRUPT)
        return vm_fail(err, -EIO, "disk %s: is marked as corrupt; transvisor img check --repair tells and mends", path);
    if (!(q->h.incompatible & QCOW2_DIRTY)) return 0;
    struct qcow2_check found;
    int rc = qcow2_check(&q->file, path, true, &found, err);
    if (!rc && found.left) rc = vm_fail(err, -EIO, "disk %s: is damaged; transvisor img check tells how", path);
    if (rc) return rc;
    q->file.size = (u64)lseek(q->file.fd, 0, SEEK_END);
    return qcow2_header_read(&q->file, path, &q->h, err);
}

static int qcow2_setup(struct qcow2 *q, const char *path, const struct image_chain *above, struct vm_error *err)
{
    int rc = qcow2_header_read(&q->file, path, &q->h, err);
    if (!rc && q->writable) rc = writable_check(q, path, err);
    if (rc) return rc;
    u64 cluster = qcow2_cluster(&q->h);
    q->end = q->file.regular ? qcow2_clusters(&q->h, q->file.size) << q->h.cluster_bits : UINT64_MAX;
    q->whole = malloc(cluster);
    q->packed = malloc(2 * cluster);
    q->freed = malloc(QCOW2_FREED_MAX * sizeof *q->freed);
    if (!q->whole || !q->packed || !q->freed) return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    rc = qcow2_tables_open(q);
    if (rc == -EINVAL) return vm_fail(err, rc, "disk %s: damaged: a table is where another one is, or nowhere", path);
    if (rc) return vm_fail(err, rc, "disk %s: %s", path, strerror(-rc));
    return backing_open(q, path, above, err);
}

int qcow2_open(struct image *out, struct image_file *f, const char *path, bool write, const struct image_chain *above,
               struct vm_error *err)
{
    struct qcow2 *q = calloc(1, sizeof *q);
    if (!q) {
        image_file_close(f);
        return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    }
    q->file = *f;
    q->writable = write;
    int rc = qcow2_setup(q, path, above, err);
    if (rc) qcow2_free_all(q);
    else *out = (struct image){ &qcow2_ops, q, q->h.size, qcow2_close };
    return rc;
}
