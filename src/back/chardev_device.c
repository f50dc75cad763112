/* The serial line on a serial port of the host's, or on whatever else is a terminal.
 * Owns its settings: bytes pass as they are, at the speed and with the format that the port has (stty); at the end it
 * gets back what it had. NOT-HW: the guest's divisor and line control do not reach it, nor do the modem lines. */
#define _GNU_SOURCE /* cfmakeraw */
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <termios.h>
#include <unistd.h>

struct device_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int fd;
    bool raw;
    struct termios saved;
};

static void device_write(void *arg, const u8 *buf, size_t n)
{
    struct device_be *d = arg;
    pump_write(d->be.pump, buf, n);
}

static void device_close(struct chardev_be *be)
{
    struct device_be *d = (struct device_be *)be;
    pump_free(d->be.pump);
    if (d->raw) tcsetattr(d->fd, TCSANOW, &d->saved);
    if (d->fd >= 0) close(d->fd);
    free(d);
}

/* Nobody else who asks, as minicom and the like do, shall read half of what comes. */
static int device_take(struct device_be *d)
{
    struct termios raw;
    if (flock(d->fd, LOCK_EX | LOCK_NB)) return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (tcgetattr(d->fd, &d->saved)) return -errno;
    raw = d->saved;
    cfmakeraw(&raw);
    raw.c_cflag = (d->saved.c_cflag & (tcflag_t)~HUPCL) | CREAD;
    if (tcsetattr(d->fd, TCSANOW, &raw)) return -errno;
    d->raw = true;
    return 0;
}

int chardev_device_open(struct chardev_be **out, const char *path, const struct chardev_host *host,
                        struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = device_write };
    const struct wait_end end = { host->stopping, host->arg };
    struct device_be *d = calloc(1, sizeof *d);
    if (!d) return vm_fail(err, -ENOMEM, "serial device:%s: out of memory", path);
    d->be = (struct chardev_be){ .dev = { .ops = &ops, .be = d }, .out.stall_ms = 200, .close = device_close };
    d->fd = wait_open(path, O_RDWR | O_NOCTTY, 0, &end);
    int rc = d->fd < 0 ? d->fd : device_take(d);
    if (!rc) {
        struct pump_config cfg = { .in = d->fd, .out = d->fd, .listen = -1, .outlet = &d->be.out };
        rc = pump_new(&d->be.pump, &cfg, host);
    }
    if (rc) {
        vm_fail(err, rc, "serial device:%s: %s", path, rc == -ENOTTY ? "is no serial port or terminal" : strerror(-rc));
        device_close(&d->be);
        return rc;
    }
    *out = &d->be;
    return 0;
}
