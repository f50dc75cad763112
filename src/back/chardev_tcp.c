/* The serial line on a listening TCP socket, for one client at a time. While there is none, output is dropped.
 * Who names no address listens on the loopback alone: whoever reaches the port has the guest's console. */
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/listen.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct tcp_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int listen;
};

static void tcp_write(void *arg, const u8 *buf, size_t n)
{
    struct tcp_be *t = arg;
    pump_write(t->be.pump, buf, n);
}

static void tcp_close(struct chardev_be *be)
{
    struct tcp_be *t = (struct tcp_be *)be;
    pump_free(t->be.pump);
    if (t->listen >= 0) close(t->listen);
    free(t);
}

int chardev_tcp_open(struct chardev_be **out, const char *address, const struct chardev_host *host,
                     struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = tcp_write };
    char what[160];
    snprintf(what, sizeof what, "serial tcp:%s", address);
    struct tcp_be *t = calloc(1, sizeof *t);
    if (!t) return vm_fail(err, -ENOMEM, "%s: out of memory", what);
    t->be = (struct chardev_be){ .dev = { .ops = &ops, .be = t }, .out.stall_ms = 200, .close = tcp_close };
    t->listen = listen_tcp(address, what, err);
    int rc = t->listen < 0 ? t->listen : 0;
    if (!rc) {
        struct pump_config cfg = { .in = -1, .out = -1, .listen = t->listen, .outlet = &t->be.out };
        rc = pump_new(&t->be.pump, &cfg, host);
        if (rc) vm_fail(err, rc, "%s: %s", what, strerror(-rc));
    }
    if (rc) {
        tcp_close(&t->be);
        return rc;
    }
    *out = &t->be;
    return 0;
}
