/* Owns an image's file, its lock, and the layer that takes writes where the file is to stay as it is.
 *   I1  Where there is a layer, a block of it counts iff its bit in `own` is set; then all of it does.   [layer_fill]
 *   I2  The file is written to only under an exclusive lock of its open description.                  [image_raw_open]
 * Enter at image_read(). */
#define _GNU_SOURCE
#include "src/back/image_raw.h"
#include "core/hostfd.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u /* of the layer, bytes */

struct image_raw {
    int fd, layer; /* layer: -1: there is none */
    u64 size;
    u8 *own; /* a bit for each block of the layer */
    bool regular;
};

static int all(bool write, int fd, void *buf, size_t n, u64 at)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = write ? pwrite(fd, (u8 *)buf + done, n - done, (off_t)(at + done))
                            : pread(fd, (u8 *)buf + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        if (!got) return -EIO; /* somebody has cut it off */
        done += (size_t)got;
    }
    return 0;
}

static bool is_own(const struct image_raw *im, u64 block) { return im->own[block / 8] >> block % 8 & 1; }

/* Makes a block the layer's, with the file's bytes, where a write will not cover all of it. */
static int layer_fill(struct image_raw *im, u64 block, bool whole)
{
    u8 buf[BLOCK];
    u64 at = block * BLOCK, n = im->size - at < BLOCK ? im->size - at : BLOCK;
    if (is_own(im, block)) return 0;
    int rc = whole ? 0 : all(false, im->fd, buf, n, at);
    if (!rc && !whole) rc = all(true, im->layer, buf, n, at);
    if (!rc) im->own[block / 8] |= (u8)(1 << block % 8);
    return rc;
}

/* One piece of memory, block by block where there is a layer. */
static int piece(struct image_raw *im, bool write, u8 *p, size_t n, u64 at)
{
    int rc = 0;
    if (im->layer < 0) return all(write, im->fd, p, n, at);
    for (size_t k; n && !rc; p += k, n -= k, at += k) {
        u64 block = at / BLOCK;
        k = BLOCK - at % BLOCK < n ? BLOCK - at % BLOCK : n;
        if (write) rc = layer_fill(im, block, k == BLOCK);
        if (!rc) rc = all(write, is_own(im, block) ? im->layer : im->fd, p, k, at);
    }
    return rc;
}

static int image_move(void *image, bool write, u64 offset, const struct iovec *iov, unsigned niov)
{
    int rc = 0;
    for (unsigned i = 0; i < niov && !rc; offset += iov[i++].iov_len)
        rc = piece(image, write, iov[i].iov_base, iov[i].iov_len, offset);
    return rc;
}
static int image_read(void *image, u64 offset, const struct iovec *iov, unsigned niov)
{
    return image_move(image, false, offset, iov, niov);
}
static int image_write(void *image, u64 offset, const struct iovec *iov, unsigned niov)
{
    return image_move(image, true, offset, iov, niov);
}

static int image_flush(void *image)
{
    struct image_raw *im = image;
    return im->layer >= 0 || !fdatasync(im->fd) ? 0 : -errno; /* a layer is lost in any case */
}

/* Where the host cannot do it by itself, zeroes are written. */
static int image_zero(void *image, u64 offset, u64 len)
{
    static const u8 zeroes[64u << 10];
    struct image_raw *im = image;
    const int mode = im->regular ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    if (im->layer < 0 && !fallocate(im->fd, mode, (off_t)offset, (off_t)len)) return 0;
    int rc = 0;
    for (u64 n; len && !rc; offset += n, len -= n) {
        n = len < sizeof zeroes ? len : sizeof zeroes;
        rc = piece(im, true, (u8 *)zeroes, n, offset);
    }
    return rc;
}

/* A hint: a file system that cannot does not. */
static int image_discard(void *image, u64 offset, u64 len)
{
    struct image_raw *im = image;
    if (im->layer < 0 && im->regular)
        (void)!fallocate(im->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
    return 0;
}

const struct block_image_ops image_raw_ops = { image_read, image_write, image_flush, image_zero, image_discard };

/* A file without a name, where there is room for large ones. */
static int layer_open(void)
{
    const char *folder[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
    int fd = -1;
    for (unsigned i = 0; i < ARRAY_LEN(folder) && fd < 0; i++)
        if (folder[i]) fd = hostfd(open(folder[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    return fd < 0 ? -errno : fd;
}

/* Two machines that write to one image destroy it; one that writes while others read confuses them. */
static int image_lock(int fd, bool exclusive)
{
    struct flock l = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
    if (!fcntl(fd, F_OFD_SETLK, &l)) return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0; /* a file system that knows no locks */
}

static int image_setup(struct image_raw *im, const char *path, bool exclusive, bool snapshot, u32 unit,
                       struct vm_error *err)
{
    struct stat st;
    if (fstat(im->fd, &st)) return vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    im->regular = S_ISREG(st.st_mode);
    if (!im->regular && !S_ISBLK(st.st_mode))
        return vm_fail(err, -ENOTBLK, "disk %s: is neither a file nor a block device", path);
    if (image_lock(im->fd, exclusive))
        return vm_fail(err, -EBUSY, "disk %s: another machine uses it; snapshot=on or readonly=on shares one", path);
    off_t size = lseek(im->fd, 0, SEEK_END);
    if (size < 0) return vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    im->size = (u64)size - (u64)size % unit;
    if (!im->size) return vm_fail(err, -ENOEXEC, "disk %s: has %lld bytes, less than a sector", path, (long long)size);
    if (!snapshot) return 0;
    im->own = calloc(im->size / BLOCK / 8 + 1, 1);
    im->layer = im->own ? layer_open() : -ENOMEM;
    if (im->layer < 0)
        return vm_fail(err, im->layer, "disk %s: a file for its snapshot: %s", path, strerror(-im->layer));
    return ftruncate(im->layer, (off_t)im->size) ? vm_fail(err, -errno, "disk %s: snapshot: %s", path, strerror(errno))
                                                 : 0;
}

int image_raw_open(struct image_raw **out, const char *path, bool readonly, bool snapshot, u32 unit,
                   struct vm_error *err)
{
    struct image_raw *im = calloc(1, sizeof *im);
    bool exclusive = !readonly && !snapshot;
    if (!im) return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    im->layer = -1;
    /* O_NONBLOCK: a FIFO is refused, not waited for. */
    im->fd = hostfd(open(path, (exclusive ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
    int rc = im->fd < 0 ? -errno : 0;
    if (rc)
        vm_fail(err, rc, "disk %s: %s%s", path, strerror(-rc),
                exclusive && (rc == -EACCES || rc == -EROFS) ? "; snapshot=on or readonly=on need no write access"
                                                             : "");
    else rc = image_setup(im, path, exclusive, snapshot, unit, err);
    if (rc) image_raw_close(im);
    else *out = im;
    return rc;
}

void image_raw_close(struct image_raw *im)
{
    if (!im) return;
    if (im->fd >= 0) close(im->fd);
    if (im->layer >= 0) close(im->layer);
    free(im->own);
    free(im);
}

u64 image_raw_size(const struct image_raw *im) { return im->size; }
