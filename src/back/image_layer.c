/* Owns the layer that takes writes where an image is to stay as it is.
 *   I1  A block of it counts iff its bit in `own` is set; then all of it does.   [layer_fill] */
#define _GNU_SOURCE
#include "src/back/image_layer.h"
#include "core/hostfd.h"
#include "src/back/image_file.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096u /* bytes */

struct layer {
    struct image base;
    struct image_file file; /* what was written */
    u8 *own;                /* a bit for each block */
};

static bool is_own(const struct layer *l, u64 block) { return l->own[block / 8] >> block % 8 & 1; }

static int base_read(struct layer *l, u64 at, u8 *p, size_t n)
{
    const struct iovec iov = { p, n };
    return l->base.ops->read(l->base.state, at, &iov, 1);
}

/* Makes a block the layer's, with the image's bytes, where a write will not cover all of it. */
static int layer_fill(struct layer *l, u64 block, bool whole)
{
    u8 buf[BLOCK];
    u64 at = block * BLOCK, n = l->base.size - at < BLOCK ? l->base.size - at : BLOCK;
    if (is_own(l, block)) return 0;
    int rc = whole ? 0 : base_read(l, at, buf, n);
    if (!rc && !whole) rc = image_file_write(&l->file, at, buf, n);
    if (!rc) l->own[block / 8] |= (u8)(1 << block % 8);
    return rc;
}

/* One piece of memory, block by block. */
static int piece(struct layer *l, bool write, u8 *p, size_t n, u64 at)
{
    int rc = 0;
    for (size_t k; n && !rc; p += k, n -= k, at += k) {
        u64 block = at / BLOCK;
        k = BLOCK - at % BLOCK < n ? BLOCK - at % BLOCK : n;
        if (write) rc = layer_fill(l, block, k == BLOCK);
        if (rc) break;
        if (write) rc = image_file_write(&l->file, at, p, k);
        else rc = is_own(l, block) ? image_file_read(&l->file, at, p, k) : base_read(l, at, p, k);
    }
    return rc;
}

static int layer_move(void *layer, bool write, u64 offset, const struct iovec *iov, unsigned niov)
{
    int rc = 0;
    for (unsigned i = 0; i < niov && !rc; offset += iov[i++].iov_len)
        rc = piece(layer, write, iov[i].iov_base, iov[i].iov_len, offset);
    return rc;
}
static int layer_read(void *layer, u64 offset, const struct iovec *iov, unsigned niov)
{
    return layer_move(layer, false, offset, iov, niov);
}
static int layer_write(void *layer, u64 offset, const struct iovec *iov, unsigned niov)
{
    return layer_move(layer, true, offset, iov, niov);
}
static int layer_flush(void *layer UNUSED) { return 0; } /* it is lost in any case */

static int layer_zero(void *layer, u64 offset, u64 len)
{
    static const u8 zeroes[64u << 10];
    int rc = 0;
    for (u64 n; len && !rc; offset += n, len -= n) {
        n = len < sizeof zeroes ? len : sizeof zeroes;
        rc = piece(layer, true, (u8 *)zeroes, n, offset);
    }
    return rc;
}

static const struct block_image_ops layer_ops = { layer_read, layer_write, layer_flush, layer_zero, NULL };

static void layer_close(void *layer)
{
    struct layer *l = layer;
    image_close(&l->base);
    image_file_close(&l->file);
    free(l->own);
    free(l);
}

/* A file without a name, where there is room for large ones. */
static int file_open(void)
{
    const char *folder[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
    int fd = -1;
    for (unsigned i = 0; i < ARRAY_LEN(folder) && fd < 0; i++)
        if (folder[i]) fd = hostfd(open(folder[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    return fd < 0 ? -errno : fd;
}

int image_layer(struct image *base, const char *path, struct vm_error *err)
{
    struct layer *l = calloc(1, sizeof *l);
    int rc = l && (l->own = calloc(base->size / BLOCK / 8 + 1, 1)) ? file_open() : -ENOMEM;
    if (rc < 0) {
        if (l) free(l->own);
        free(l);
        return vm_fail(err, rc, "disk %s: a file for its snapshot: %s", path, strerror(-rc));
    }
    l->file = (struct image_file){ .fd = rc, .regular = true };
    l->base = *base;
    *base = (struct image){ &layer_ops, l, l->base.size, layer_close };
    return ftruncate(l->file.fd, (off_t)base->size)
               ? vm_fail(err, -errno, "disk %s: snapshot: %s", path, strerror(errno))
               : 0;
}
