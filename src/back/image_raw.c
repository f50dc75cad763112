/* Owns raw images: a file and its size. Enter at raw_move(). */
#include "src/back/image_raw.h"
#include "src/back/qcow2_format.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct raw {
    struct image_file file;
    bool guessed;
};

static int raw_read(void *raw, u64 offset, const struct iovec *iov, unsigned niov)
{
    return image_file_move(&((struct raw *)raw)->file, false, offset, iov, niov);
}

/* Whether the disk would begin as a qcow2 image does. A write of the guest's is a sector at least. */
static bool is_disguise(const struct iovec *iov, unsigned niov)
{
    u8 head[4] = { 0 };
    size_t n = 0;
    for (unsigned i = 0; i < niov; i++)
        for (size_t k = 0; k < iov[i].iov_len && n < sizeof head; k++) head[n++] = ((const u8 *)iov[i].iov_base)[k];
    return n == sizeof head && !memcmp(head, QCOW2_MAGIC, sizeof head);
}

static int raw_write(void *raw, u64 offset, const struct iovec *iov, unsigned niov)
{
    struct raw *r = raw;
    if (r->guessed && !offset && is_disguise(iov, niov)) return -EPERM;
    return image_file_move(&r->file, true, offset, iov, niov);
}

static int raw_flush(void *raw) { return image_file_sync(&((struct raw *)raw)->file); }

/* Where the host cannot do it by itself, zeroes are written. */
static int raw_zero(void *raw, u64 offset, u64 len)
{
    static const u8 zeroes[64u << 10];
    struct raw *r = raw;
    int rc = 0;
    if (!image_file_punch(&r->file, offset, len)) return 0;
    for (u64 n; len && !rc; offset += n, len -= n) {
        n = len < sizeof zeroes ? len : sizeof zeroes;
        rc = image_file_write(&r->file, offset, zeroes, n);
    }
    return rc;
}

/* A hint: a file system that cannot does not. */
static int raw_discard(void *raw, u64 offset, u64 len)
{
    struct raw *r = raw;
    if (r->file.regular && image_file_punch(&r->file, offset, len)) return 0;
    return 0;
}

static const struct block_image_ops raw_ops = { raw_read, raw_write, raw_flush, raw_zero, raw_discard };

static void raw_close(void *raw)
{
    image_file_close(&((struct raw *)raw)->file);
    free(raw);
}

int image_raw_new(struct image *out, struct image_file *f, const char *path, bool guessed, struct vm_error *err)
{
    const u64 sectors = f->size / BLOCKDEV_SECTOR;
    struct raw *r = calloc(1, sizeof *r);
    int rc = r ? 0 : vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    /* Else its last write would make it longer. */
    if (!rc && f->align && sectors * BLOCKDEV_SECTOR % f->align)
        rc = vm_fail(err, -EINVAL, "disk %s: its size is no multiple of %u bytes, as cache=none needs it there", path,
                     f->align);
    if (rc) {
        image_file_close(f);
        free(r);
        return rc;
    }
    *r = (struct raw){ *f, guessed };
    *out = (struct image){ &raw_ops, r, f->size, raw_close };
    return 0;
}
