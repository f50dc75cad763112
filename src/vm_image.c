/* Owns what is done to disk images as files: made, told about, converted, checked, committed.
 *   I1  A file that could not be made is gone again, if it was not there before.                        [target_drop]
 *   I2  An overlay is emptied when what it held is durable in what it is based on.                 [vm_image_commit] */
#include "src/back/image.h"
#include "src/back/image_file.h"
#include "src/back/qcow2.h"
#include "src/back/qcow2_format.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1u << 20) /* bytes that are copied at a time */
#define BLOCK 4096u      /* of zeroes that are not written */

static int image_for(struct image *im, const char *file, u8 format, bool write, struct vm_error *err)
{
    const struct image_options how = { .format = format, .readonly = !write, .unit = 1 };
    return image_open(im, file, &how, err);
}

static const char *format_name(u8 format) { return format == VM_FORMAT_PROBE ? "" : image_format_name(format); }

/* ---- create ---- */

static int log2_of(u64 n)
{
    int bits = 0;
    while (bits < 63 && (u64)1 << bits < n) bits++;
    return n && (u64)1 << bits == n ? bits : -1;
}

/* Fills in what was left open. */
static int how_check(const char *file, const struct vm_image *how, u64 bytes, struct qcow2_create *q,
                     struct vm_error *err)
{
    int cluster = how->cluster ? log2_of(how->cluster) : 16,
        order = log2_of(how->refcount_bits ? how->refcount_bits : 16);
    unsigned version = how->version ? how->version : 3;
    if (version != 2 && version != 3)
        return vm_fail(err, -EINVAL, "disk %s: there is no qcow2 of version %u", file, version);
    if (cluster < 9 || cluster > 21)
        return vm_fail(err, -EINVAL, "disk %s: clusters have 512 bytes to 2 MiB, and a power of two", file);
    if (order < 0 || order > 6 || (version == 2 && order != 4))
        return vm_fail(err, -EINVAL, "disk %s: refcounts have 1, 2, 4, 8, 16, 32 or 64 bits, in version 2 16", file);
    if (version == 2 && how->lazy_refcounts)
        return vm_fail(err, -EINVAL, "disk %s: lazy refcounts need version 3", file);
    *q = (struct qcow2_create){ .size = bytes,
                                .version = version,
                                .cluster_bits = (unsigned)cluster,
                                .refcount_order = (unsigned)order,
                                .lazy_refcounts = how->lazy_refcounts,
                                .backing = how->backing,
                                .backing_format = how->backing ? format_name((u8)how->backing_format) : NULL };
    return 0;
}

/* A file that is to become an image: empty, and locked. */
struct target {
    struct image_file f;
    const char *path;
    bool is_new;
};

static int target_open(struct target *t, const char *path, struct vm_error *err)
{
    struct stat st;
    *t = (struct target){ .f.fd = -1, .path = path, .is_new = stat(path, &st) != 0 };
    int fd = t->is_new ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
    if (t->is_new && fd < 0) return vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    int rc = image_file_open(&t->f, path, IMAGE_WRITE, err);
    if (!rc && t->f.regular && ftruncate(t->f.fd, 0)) rc = vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    t->f.size = 0;
    return rc;
}

static void target_drop(struct target *t, int rc)
{
    image_file_close(&t->f);
    if (rc && t->is_new) unlink(t->path);
}

static int target_make(struct target *t, const struct vm_image *how, u64 bytes, struct vm_error *err)
{
    struct qcow2_create q;
    if (how->format == VM_FORMAT_QCOW2 && !t->f.regular)
        return vm_fail(err, -ENOTSUP, "disk %s: qcow2 is made in files", t->path);
    if (how->format == VM_FORMAT_QCOW2) {
        int rc = how_check(t->path, how, bytes, &q, err);
        return rc ? rc : qcow2_make(&t->f, t->path, &q, err);
    }
    if (!t->f.regular) return 0;
    return ftruncate(t->f.fd, (off_t)bytes) ? vm_fail(err, -errno, "disk %s: %s", t->path, strerror(errno)) : 0;
}

/* The size of what an image is to be based on, which has to be there. */
static int backing_size(const char *file, const struct vm_image *how, u64 *bytes, struct vm_error *err)
{
    struct image im;
    char *path = qcow2_backing_path(file, how->backing);
    if (!path) return vm_fail(err, -ENOMEM, "disk %s: out of memory", file);
    int rc = image_for(&im, path, (u8)how->backing_format, false, err);
    free(path);
    if (rc) return rc;
    *bytes = im.size;
    image_close(&im);
    return 0;
}

int vm_image_create(const char *file, const struct vm_image *how, struct vm_error *err)
{
    struct target t;
    struct qcow2_create q;
    u64 bytes = how->bytes;
    int rc = 0;
    if (how->backing && how->format != VM_FORMAT_QCOW2)
        return vm_fail(err, -EINVAL, "disk %s: only qcow2 images are based on others", file);
    if (how->backing && how->backing_format == VM_FORMAT_PROBE)
        return vm_fail(err, -EINVAL, "disk %s: the format of what it is based on is missing", file);
    if (how->backing) rc = backing_size(file, how, &bytes, err);
    if (rc) return rc;
    if (how->bytes) bytes = how->bytes;
    bytes += -bytes % BLOCKDEV_SECTOR;
    if (!bytes || bytes > INT64_MAX) return vm_fail(err, -EINVAL, "disk %s: its size is missing or out of range", file);
    if (how->format == VM_FORMAT_QCOW2 && (rc = how_check(file, how, bytes, &q, err))) return rc;
    rc = target_open(&t, file, err);
    if (!rc) rc = target_make(&t, how, bytes, err);
    target_drop(&t, rc);
    return rc;
}

/* ---- copying ---- */

static bool is_zero(const u8 *p, size_t n) { return !n || (!*p && !memcmp(p, p + 1, n - 1)); }

/* A piece of one image into another: blocks of zeroes are not written. cleared: they are there already. */
static int piece_copy(struct image *to, u64 at, u8 *buf, u64 n, bool cleared)
{
    int rc = 0;
    for (u64 from = 0, end; from < n && !rc; from = end) {
        bool zero = is_zero(buf + from, n - from < BLOCK ? n - from : BLOCK);
        for (end = from; end < n && is_zero(buf + end, n - end < BLOCK ? n - end : BLOCK) == zero;)
            end += n - end < BLOCK ? n - end : BLOCK;
        const struct iovec v = { buf + from, end - from };
        if (!zero) rc = to->ops->write(to->state, at + from, &v, 1);
        else if (!cleared) rc = to->ops->zero(to->state, at + from, end - from);
    }
    return rc;
}

static int range_copy(struct image *from, struct image *to, u64 at, u64 len, bool cleared, u8 *buf)
{
    int rc = 0;
    for (u64 n; len && !rc; at += n, len -= n) {
        n = len < CHUNK ? len : CHUNK;
        const struct iovec v = { buf, n };
        rc = from->ops->read(from->state, at, &v, 1);
        if (!rc) rc = piece_copy(to, at, buf, n, cleared);
    }
    return rc;
}

int vm_image_convert(const char *from, enum vm_format format, const char *to, const struct vm_image *how,
                     struct vm_error *err)
{
    struct image source, image = { 0 };
    struct target t = { .f.fd = -1 };
    int rc = image_for(&source, from, (u8)format, false, err);
    if (rc) return rc;
    u8 *buf = malloc(CHUNK);
    rc = buf ? target_open(&t, to, err) : vm_fail(err, -ENOMEM, "disk %s: out of memory", to);
    bool cleared = t.f.regular;
    /* A disk has whole sectors; the last one of a file that has not is filled up with zeroes. */
    if (!rc) rc = target_make(&t, how, source.size + -source.size % BLOCKDEV_SECTOR, err);
    image_file_close(&t.f);
    if (!rc) rc = image_for(&image, to, (u8)how->format, true, err);
    if (!rc && image.size < source.size) rc = vm_fail(err, -ENOSPC, "disk %s: is smaller than %s", to, from);
    if (!rc) {
        rc = range_copy(&source, &image, 0, source.size, cleared, buf);
        if (!rc) rc = image.ops->flush(image.state);
        if (rc) vm_fail(err, rc, "disk %s: copying %s: %s", to, from, strerror(-rc));
    }
    image_close(&image);
    image_close(&source);
    target_drop(&t, rc);
    free(buf);
    return rc;
}

/* ---- check ---- */

int vm_image_check(const char *file, enum vm_format format, bool repair, struct vm_image_check *out,
                   struct vm_error *err)
{
    struct image_file f;
    struct qcow2_check found;
    int rc = image_file_open(&f, file, repair ? IMAGE_WRITE : 0, err);
    if (rc) return rc;
    int kind = format == VM_FORMAT_PROBE ? image_format_probe(&f) : (int)format;
    if (kind == VM_FORMAT_RAW) rc = vm_fail(err, -EOPNOTSUPP, "disk %s: is raw: there is nothing to check", file);
    else if (kind < 0) rc = vm_fail(err, kind, "disk %s: %s", file, strerror(-kind));
    else rc = qcow2_check(&f, file, repair, &found, err);
    image_file_close(&f);
    if (rc) return rc;
    *out = (struct vm_image_check){ .corruptions = found.corruptions,
                                    .leaks = found.leaks,
                                    .corruptions_left = repair ? found.left : found.corruptions,
                                    .leaks_left = repair ? 0 : found.leaks,
                                    .allocated_clusters = found.allocated,
                                    .clusters = found.clusters };
    return 0;
}

/* ---- info ---- */

int vm_image_info(const char *file, enum vm_format format, struct vm_image_info *out, struct vm_error *err)
{
    struct image_file f;
    struct qcow2_header h;
    struct stat st;
    int rc = image_file_open(&f, file, 0, err);
    if (rc) return rc;
    int kind = format == VM_FORMAT_PROBE ? image_format_probe(&f) : (int)format;
    *out = (struct vm_image_info){ .bytes = f.size + -f.size % BLOCKDEV_SECTOR };
    if (!fstat(f.fd, &st)) out->file_bytes = (u64)st.st_blocks * 512;
    if (kind < 0) rc = vm_fail(err, kind, "disk %s: %s", file, strerror(-kind));
    else out->format = (enum vm_format)kind;
    if (kind == VM_FORMAT_QCOW2 && !(rc = qcow2_header_read(&f, file, &h, err))) {
        out->bytes = h.size;
        out->cluster = qcow2_cluster(&h);
        out->version = h.version;
        out->refcount_bits = 1u << h.refcount_order;
        out->lazy_refcounts = h.version == 3 && h.compatible & QCOW2_LAZY;
        out->dirty = h.incompatible & QCOW2_DIRTY;
        out->corrupt = h.incompatible & QCOW2_CORRUPT;
        memcpy(out->backing, h.backing, sizeof out->backing);
        memcpy(out->backing_format, h.backing_format, sizeof out->backing_format);
    }
    image_file_close(&f);
    return rc;
}

int vm_image_read(const char *file, enum vm_format format, u64 at, void *to, size_t n, struct vm_error *err)
{
    struct image im;
    int rc = image_for(&im, file, (u8)format, false, err);
    if (rc) return rc;
    size_t there = at < im.size ? (im.size - at < n ? (size_t)(im.size - at) : n) : 0;
    const struct iovec v = { to, there };
    memset((u8 *)to + there, 0, n - there);
    if (there && (rc = im.ops->read(im.state, at, &v, 1))) vm_fail(err, rc, "disk %s: %s", file, strerror(-rc));
    image_close(&im);
    return rc;
}

/* ---- commit ---- */

/* Of an overlay only what it holds itself is read here. */
static int open_nothing(struct image *out, const char *path UNUSED, const char *format UNUSED,
                        const struct image_chain *above UNUSED, struct vm_error *err UNUSED)
{
    *out = (struct image){ 0 };
    return 0;
}

static int base_open(struct image *base, const struct image *top, const char *file, struct vm_error *err)
{
    const struct qcow2_header *h = qcow2_header(top->state);
    if (!*h->backing) return vm_fail(err, -EINVAL, "disk %s: is based on nothing", file);
    char *path = qcow2_backing_path(file, h->backing);
    if (!path) return vm_fail(err, -ENOMEM, "disk %s: out of memory", file);
    int kind = *h->backing_format ? image_format_named(h->backing_format) : VM_FORMAT_PROBE;
    int rc = kind < 0 ? vm_fail(err, -ENOTSUP, "disk %s: its format '%.15s' is neither raw nor qcow2", path,
                                h->backing_format)
                      : image_for(base, path, (u8)kind, true, err);
    if (!rc && base->size < top->size)
        rc = vm_fail(err, -ENOSPC, "disk %s: is larger than %s, on which it is based", file, path);
    free(path);
    return rc;
}

static int all_commit(struct image *top, struct image *base, u8 *buf)
{
    int rc = 0;
    for (u64 at = 0, n = 0; at < top->size && !rc; at += n) {
        bool own = false;
        rc = qcow2_own(top->state, at, top->size - at, &own, &n);
        if (!rc && own) rc = range_copy(top, base, at, n, false, buf);
    }
    return rc ? rc : base->ops->flush(base->state);
}

int vm_image_commit(const char *file, struct vm_error *err)
{
    const struct image_chain alone = { .open = open_nothing };
    struct image_file f;
    struct image top = { 0 }, base = { 0 };
    int rc = image_file_open(&f, file, IMAGE_WRITE, err);
    if (rc) return rc;
    if (image_format_probe(&f) != VM_FORMAT_QCOW2) {
        image_file_close(&f);
        return vm_fail(err, -EOPNOTSUPP, "disk %s: is no qcow2 image, and based on nothing", file);
    }
    rc = qcow2_open(&top, &f, file, true, &alone, err);
    if (rc) return rc;
    u8 *buf = malloc(CHUNK);
    rc = buf ? base_open(&base, &top, file, err) : vm_fail(err, -ENOMEM, "disk %s: out of memory", file);
    if (!rc && (rc = all_commit(&top, &base, buf))) vm_fail(err, rc, "disk %s: commit: %s", file, strerror(-rc));
    if (!rc && (rc = qcow2_empty(top.state))) vm_fail(err, rc, "disk %s: emptying it: %s", file, strerror(-rc));
    image_close(&base);
    image_close(&top);
    free(buf);
    return rc;
}
