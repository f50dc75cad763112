/* Owns what a read or write of an image's file comes to on the host.
 *   I1  The file is written to only under an exclusive lock of its open description.                [image_file_open]
 *   I2  A call has done all that it was asked for, or says that it has not: short counts end here.             [all]
 *   I3  Without the host's page cache all that the host sees is aligned; what was not goes by way of `bounce`, with
 *       what is around it in the file.                                                                     [direct] */
#define _GNU_SOURCE
#include "src/back/image_file.h"
#include "core/hostfd.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_LEAST 512u
#define ALIGN_MAX 4096u
#define BOUNCE (256u << 10)
#define CALL_PIECES 1024 /* IOV_MAX */

/* One call for all pieces from the `skip`th byte of the first on; for that one alone, if some of it is done. */
static ssize_t call(const struct image_file *f, bool write, const struct iovec *iov, unsigned niov, size_t skip, u64 at)
{
    const struct iovec rest = { (u8 *)iov->iov_base + skip, iov->iov_len - skip };
    const struct iovec *v = skip ? &rest : iov;
    const int n = skip ? 1 : niov < CALL_PIECES ? (int)niov : CALL_PIECES;
    return write ? pwritev(f->fd, v, n, (off_t)at) : preadv(f->fd, v, n, (off_t)at);
}

/* past_end: what is behind the end reads as zeroes. */
static int whole(const struct image_file *f, bool write, const struct iovec *iov, unsigned niov, u64 at, bool past_end)
{
    size_t skip = 0;
    for (;;) {
        for (; niov && skip == iov->iov_len; iov++, niov--) skip = 0;
        if (!niov) return 0;
        const ssize_t got = call(f, write, iov, niov, skip, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        at += (u64)got;
        for (skip += (size_t)got; niov && skip >= iov->iov_len; iov++, niov--) skip -= iov->iov_len;
        const bool ends = !got || (f->align && (size_t)got % f->align);
        if (!ends || !niov) continue;
        if (write || !past_end) return -EIO; /* somebody has cut it off */
        for (; niov; iov++, niov--, skip = 0) memset((u8 *)iov->iov_base + skip, 0, iov->iov_len - skip);
        return 0;
    }
}

static int piece(const struct image_file *f, bool write, u8 *buf, size_t n, u64 at, bool past_end)
{
    return whole(f, write, &(struct iovec){ buf, n }, 1, at, past_end);
}

/* What is around [at, at + n) in the blocks that it begins and ends in, to be written with it. */
static int edges_read(const struct image_file *f, u64 at, size_t n)
{
    const u64 begin = at & ~(u64)(f->align - 1), last = (at + n - 1) & ~(u64)(f->align - 1);
    int rc = 0;
    if (at != begin) rc = piece(f, false, f->bounce, f->align, begin, true);
    if (rc || (at + n) % f->align == 0 || (at != begin && last == begin)) return rc;
    return piece(f, false, f->bounce + (last - begin), f->align, last, true);
}

/* n bytes that bounce has room for. */
static int bounced(const struct image_file *f, bool write, u8 *buf, size_t n, u64 at, bool past_end)
{
    const u64 begin = at & ~(u64)(f->align - 1);
    const size_t len = (size_t)((at + n + f->align - 1) & ~(u64)(f->align - 1)) - (size_t)begin;
    int rc = write ? edges_read(f, at, n) : 0;
    if (write) memcpy(f->bounce + (at - begin), buf, n);
    if (!rc) rc = piece(f, write, f->bounce, len, begin, past_end);
    if (!rc && !write) memcpy(buf, f->bounce + (at - begin), n);
    return rc;
}

static int direct(const struct image_file *f, bool write, u8 *buf, size_t n, u64 at, bool past_end)
{
    int rc = 0;
    for (size_t k; n && !rc; buf += k, at += k, n -= k) {
        const bool fits = !(((uintptr_t)buf | at) % f->align) && n >= f->align;
        const size_t room = BOUNCE - (size_t)(at % f->align);
        k = fits ? n - n % f->align : n < room ? n : room;
        rc = fits ? piece(f, write, buf, k, at, past_end) : bounced(f, write, buf, k, at, past_end);
    }
    return rc;
}

/* Whether the host takes all pieces as they are. */
static bool all_fit(const struct image_file *f, const struct iovec *iov, unsigned niov, u64 at)
{
    u64 bits = at;
    for (unsigned i = 0; i < niov; i++) bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return !f->align || !(bits % f->align);
}

static int all(const struct image_file *f, bool write, const struct iovec *iov, unsigned niov, u64 at, bool past_end)
{
    int rc = 0;
    u64 room = at > INT64_MAX ? 0 : INT64_MAX - at;
    for (unsigned i = 0; i < niov; room -= iov[i++].iov_len)
        if (iov[i].iov_len > room) return -EIO;
    if (all_fit(f, iov, niov, at)) return whole(f, write, iov, niov, at, past_end);
    for (; niov && !rc; at += iov++->iov_len, niov--) rc = direct(f, write, iov->iov_base, iov->iov_len, at, past_end);
    return rc;
}

int image_file_read(const struct image_file *f, u64 at, void *buf, size_t n)
{
    return all(f, false, &(struct iovec){ buf, n }, 1, at, true);
}
int image_file_write(const struct image_file *f, u64 at, const void *buf, size_t n)
{
    return all(f, true, &(struct iovec){ (void *)buf, n }, 1, at, false);
}
int image_file_readv(const struct image_file *f, u64 at, const struct iovec *iov, unsigned niov)
{
    return all(f, false, iov, niov, at, true);
}
int image_file_move(const struct image_file *f, bool write, u64 at, const struct iovec *iov, unsigned niov)
{
    return all(f, write, iov, niov, at, false);
}

int image_file_sync(const struct image_file *f) { return fdatasync(f->fd) ? -errno : 0; }

int image_file_punch(const struct image_file *f, u64 at, u64 n)
{
    const int mode = f->regular ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    return fallocate(f->fd, mode, (off_t)at, (off_t)n) ? -errno : 0;
}

/* Two machines that write to one image destroy it; one that writes while others read confuses them. */
static int file_lock(int fd, bool exclusive)
{
    struct flock l = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
    if (!fcntl(fd, F_OFD_SETLK, &l)) return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0; /* a file system that knows no locks */
}

static int file_setup(struct image_file *f, const char *path, bool write, struct vm_error *err)
{
    struct stat st;
    if (fstat(f->fd, &st)) return vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    f->regular = S_ISREG(st.st_mode);
    f->dev = f->regular ? st.st_dev : st.st_rdev;
    f->ino = f->regular ? st.st_ino : 0;
    if (!f->regular && !S_ISBLK(st.st_mode))
        return vm_fail(err, -ENOTBLK, "disk %s: is neither a file nor a block device", path);
    if (file_lock(f->fd, write))
        return vm_fail(err, -EBUSY, "disk %s: another machine uses it; snapshot=on or readonly=on shares one", path);
    off_t size = lseek(f->fd, 0, SEEK_END);
    if (size < 0) return vm_fail(err, -errno, "disk %s: %s", path, strerror(errno));
    f->size = (u64)size;
    return 0;
}

/* The host does not tell before Linux 6.1 what it wants, and not for all file systems: it is tried. */
static int direct_setup(struct image_file *f, const char *path, struct vm_error *err)
{
    if (posix_memalign((void **)&f->bounce, ALIGN_MAX, BOUNCE)) f->bounce = NULL;
    if (!f->bounce) return vm_fail(err, -ENOMEM, "disk %s: out of memory", path);
    for (u32 align = BLOCK_LEAST; align <= ALIGN_MAX && !f->align; align *= 2)
        if (call(f, false, &(struct iovec){ f->bounce + align, align }, 1, 0, 0) >= 0) f->align = align;
    if (f->align) return 0;
    return vm_fail(err, -ENOTSUP, "disk %s: the host cannot read it without its page cache (cache=none): %s", path,
                   strerror(errno));
}

int image_file_open(struct image_file *f, const char *path, unsigned how, struct vm_error *err)
{
    const bool write = how & IMAGE_WRITE, no_cache = how & IMAGE_DIRECT;
    /* O_NONBLOCK: a FIFO is refused, not waited for. */
    const int flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | (no_cache ? O_DIRECT : 0);
    *f = (struct image_file){ .fd = hostfd(open(path, flags)) };
    int rc = f->fd < 0 ? -errno : 0;
    if (rc == -EINVAL && no_cache)
        return vm_fail(err, -ENOTSUP, "disk %s: its file system cannot do without the host's page cache (cache=none)",
                       path);
    if (rc)
        return vm_fail(err, rc, "disk %s: %s%s", path, strerror(-rc),
                       write && (rc == -EACCES || rc == -EROFS) ? "; snapshot=on or readonly=on need no write access"
                                                                : "");
    rc = file_setup(f, path, write, err);
    if (!rc && no_cache) rc = direct_setup(f, path, err);
    if (rc) image_file_close(f);
    return rc;
}

void image_file_close(struct image_file *f)
{
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
    free(f->bounce);
    f->bounce = NULL;
}
