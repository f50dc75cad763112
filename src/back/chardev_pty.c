/* The serial line on a new pseudo-terminal.
 * Owns both ends: with one slave descriptor held open the master never sees a hang-up between two users. */
#define _GNU_SOURCE /* posix_openpt, ptsname_r */
#include "src/back/chardev.h"
#include "core/hostfd.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

struct pty_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int master, slave;
    char name[128];
};

static void pty_write(void *arg, const u8 *buf, size_t n)
{
    struct pty_be *p = arg;
    pump_write(p->be.pump, buf, n);
}

static void pty_close(struct chardev_be *be)
{
    struct pty_be *p = (struct pty_be *)be;
    pump_free(p->be.pump);
    if (p->slave >= 0) close(p->slave);
    if (p->master >= 0) close(p->master);
    free(p);
}

static int pty_make(struct pty_be *p)
{
    p->master = hostfd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (p->master < 0 || grantpt(p->master) || unlockpt(p->master)) return -errno;
    int rc = ptsname_r(p->master, p->name, sizeof p->name);
    if (rc) return -rc;
    p->slave = hostfd(open(p->name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (p->slave < 0) return -errno;
    /* Without this the line discipline would echo the guest's output back to it as input. */
    struct termios raw;
    if (tcgetattr(p->slave, &raw)) return -errno;
    cfmakeraw(&raw);
    if (tcsetattr(p->slave, TCSANOW, &raw) || fcntl(p->master, F_SETFL, O_NONBLOCK)) return -errno;
    return 0;
}

int chardev_pty_open(struct chardev_be **out, const char *none UNUSED, const struct chardev_host *host,
                     struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = pty_write };
    struct pty_be *p = calloc(1, sizeof *p);
    if (!p) return vm_fail(err, -ENOMEM, "serial pty: out of memory");
    p->be = (struct chardev_be){ .dev = { .ops = &ops, .be = p }, .close = pty_close };
    p->master = p->slave = -1;
    int rc = pty_make(p);
    if (!rc) {
        struct pump_config cfg = { .in = p->master, .out = p->master, .listen = -1, .outlet = &p->be.out };
        rc = pump_new(&p->be.pump, &cfg, host);
    }
    if (rc) {
        vm_fail(err, rc, "serial pty: %s", strerror(-rc));
        pty_close(&p->be);
        return rc;
    }
    p->be.terminal = p->name;
    *out = &p->be;
    return 0;
}
