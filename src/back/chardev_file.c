/* Output to a file, which is truncated first; input never comes. A FIFO is a file with a reader, who may be slow. */
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int fd;
    bool regular; /* takes all, or fails */
};

static void file_write(void *arg, const u8 *buf, size_t n)
{
    struct file_be *f = arg;
    if (!f->regular) {
        (void)chardev_out_write(&f->be.out, f->fd, buf, n); /* the next reader may come any time */
        return;
    }
    while (n) {
        ssize_t w = write(f->fd, buf, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) break; /* disk full, or larger than RLIMIT_FSIZE */
        buf += w;
        n -= (size_t)w;
    }
    f->be.out.dropped += n;
}

static void file_close(struct chardev_be *be)
{
    struct file_be *f = (struct file_be *)be;
    close(f->fd);
    free(f);
}

int chardev_file_open(struct chardev_be **out, const char *path, const struct chardev_host *host, struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = file_write };
    const struct wait_end end = { host->stopping, host->arg };
    struct file_be *f = calloc(1, sizeof *f);
    if (!f) return vm_fail(err, -ENOMEM, "serial file:%s: out of memory", path);
    f->fd = wait_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &end);
    struct stat st;
    if (f->fd < 0) {
        int rc = vm_fail(err, f->fd, "serial file:%s: %s", path, strerror(-f->fd));
        free(f);
        return rc;
    }
    f->regular = !fstat(f->fd, &st) && S_ISREG(st.st_mode);
    f->be = (struct chardev_be){ .dev = { .ops = &ops, .be = f }, .out.stall_ms = -1, .close = file_close };
    *out = &f->be;
    return 0;
}
