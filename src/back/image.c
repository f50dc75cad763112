/* Owns the choice of an image's format, and the way from a name to an open image. Enter at image_open(). */
#include "src/back/image.h"
#include "src/back/image_file.h"
#include "src/back/image_layer.h"
#include "src/back/image_nbd.h"
#include "src/back/image_raw.h"
#include "src/back/qcow2.h"
#include "src/back/qcow2_format.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define CHAIN_MAX 64u

static const char *const names[] = { [VM_FORMAT_RAW] = "raw", [VM_FORMAT_QCOW2] = "qcow2" };

int image_format_named(const char *name)
{
    for (unsigned i = VM_FORMAT_RAW; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], name)) return (int)i;
    return -1;
}
const char *image_format_name(unsigned format) { return names[format]; }

int image_format_probe(const struct image_file *f)
{
    u8 head[4];
    int rc = image_file_read(f, 0, head, sizeof head);
    if (rc) return rc;
    return memcmp(head, QCOW2_MAGIC, sizeof head) ? VM_FORMAT_RAW : VM_FORMAT_QCOW2;
}

/* Takes over *f. */
static int open_as(struct image *out, struct image_file *f, const char *path, int format, bool write,
                   const struct image_chain *above, struct vm_error *err)
{
    bool guessed = format == VM_FORMAT_PROBE;
    if (guessed) format = image_format_probe(f);
    if (format < 0) {
        image_file_close(f);
        return vm_fail(err, format, "disk %s: %s", path, strerror(-format));
    }
    if (format == VM_FORMAT_QCOW2) return qcow2_open(out, f, path, write, above, err);
    return image_raw_new(out, f, path, guessed, err);
}

static int open_backing(struct image *out, const char *path, const char *format, const struct image_chain *above,
                        struct vm_error *err)
{
    struct image_file f;
    int kind = *format ? image_format_named(format) : VM_FORMAT_PROBE;
    if (kind < 0) return vm_fail(err, -ENOTSUP, "disk %s: its format '%.20s' is neither raw nor qcow2", path, format);
    if (above->depth >= CHAIN_MAX)
        return vm_fail(err, -ELOOP, "disk %s: more than %u images are based on each other", path, CHAIN_MAX);
    int rc = image_file_open(&f, path, above->file->align ? IMAGE_DIRECT : 0, err);
    if (rc) return rc;
    for (const struct image_chain *c = above; c->file; c = c->above)
        if (c->file->dev == f.dev && c->file->ino == f.ino) {
            image_file_close(&f);
            return vm_fail(err, -ELOOP, "disk %s: is based on itself", path);
        }
    return open_as(out, &f, path, kind, false, above, err);
}

int image_open(struct image *out, const char *path, const struct image_options *how, struct vm_error *err)
{
    struct image_file f;
    const struct image_chain top = { .open = open_backing };
    bool write = !how->readonly && !how->snapshot;
    *out = (struct image){ 0 };
    int rc;
    if (image_nbd_named(path) && how->format == VM_FORMAT_QCOW2)
        return vm_fail(err, -EINVAL, "disk %s: its server is to know the format (qemu-nbd -f qcow2)", path);
    if (image_nbd_named(path) && how->direct)
        return vm_fail(err, -EINVAL, "disk %s: cache=none is for files and block devices of this host", path);
    if (image_nbd_named(path)) {
        rc = image_nbd_open(out, path, write, err);
    } else {
        rc = image_file_open(&f, path, (write ? IMAGE_WRITE : 0) | (how->direct ? IMAGE_DIRECT : 0), err);
        if (!rc) rc = open_as(out, &f, path, how->format, write, &top, err);
    }
    if (rc) return rc;
    u64 bytes = out->size;
    out->size -= out->size % how->unit;
    if (!out->size)
        rc = vm_fail(err, -ENOEXEC, "disk %s: has %llu bytes, less than a sector", path, (unsigned long long)bytes);
    if (!rc && how->snapshot) rc = image_layer(out, path, err);
    if (rc) image_close(out);
    return rc;
}
