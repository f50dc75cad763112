/* Owns what a read or write of an image's file comes to on the host.
 *   I1  The file is written to only under an exclusive lock of its open description.                [image_file_open]
 *   I2  A call has done all that it was asked for, or says that it has not: short counts end here.             [all] */
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

/* past_end: what is behind the end reads as zeroes. */
static int all(bool write, int fd, u8 *buf, size_t n, u64 at, bool past_end)
{
    if (at > INT64_MAX || n > INT64_MAX - at) return -EIO;
    for (size_t done = 0; done < n;) {
        ssize_t got = write ? pwrite(fd, buf + done, n - done, (off_t)(at + done))
                            : pread(fd, buf + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        if (!got && !past_end) return -EIO; /* somebody has cut it off */
        if (!got) {
            memset(buf + done, 0, n - done);
            return 0;
        }
        done += (size_t)got;
    }
    return 0;
}

int image_file_read(const struct image_file *f, u64 at, void *buf, size_t n)
{
    return all(false, f->fd, buf, n, at, true);
}
int image_file_write(const struct image_file *f, u64 at, const void *buf, size_t n)
{
    return all(true, f->fd, (u8 *)buf, n, at, false);
}
int image_file_move(const struct image_file *f, bool write, u64 at, const struct iovec *iov, unsigned niov)
{
    int rc = 0;
    for (unsigned i = 0; i < niov && !rc; at += iov[i++].iov_len)
        rc = all(write, f->fd, iov[i].iov_base, iov[i].iov_len, at, false);
    return rc;
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

int image_file_open(struct image_file *f, const char *path, bool write, struct vm_error *err)
{
    /* O_NONBLOCK: a FIFO is refused, not waited for. */
    *f = (struct image_file){ .fd = hostfd(open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK)) };
    int rc = f->fd < 0 ? -errno : 0;
    if (rc)
        return vm_fail(err, rc, "disk %s: %s%s", path, strerror(-rc),
                       write && (rc == -EACCES || rc == -EROFS) ? "; snapshot=on or readonly=on need no write access"
                                                                : "");
    rc = file_setup(f, path, write, err);
    if (rc) image_file_close(f);
    return rc;
}

void image_file_close(struct image_file *f)
{
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}
