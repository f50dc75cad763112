/* Output to a file, which is truncated first; input never comes. */
#include "src/back/chardev.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct file_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int fd;
};

static void file_write(void *arg, const u8 *buf, size_t n)
{
    struct file_be *f = arg;
    while (n) {
        ssize_t w = write(f->fd, buf, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return; /* disk full: a serial line has no way to say so, and the guest must go on */
        buf += w;
        n -= (size_t)w;
    }
}

static void file_close(struct chardev_be *be)
{
    struct file_be *f = (struct file_be *)be;
    close(f->fd);
    free(f);
}

int chardev_file_open(struct chardev_be **out, const char *path, struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = file_write };
    struct file_be *f = calloc(1, sizeof *f);
    if (!f) return vm_fail(err, -ENOMEM, "--serial file:%s: out of memory", path);
    f->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        int rc = vm_fail(err, -errno, "--serial file:%s: %s", path, strerror(errno));
        free(f);
        return rc;
    }
    f->be = (struct chardev_be){ .dev = { .ops = &ops, .be = f }, .close = file_close };
    *out = &f->be;
    return 0;
}
