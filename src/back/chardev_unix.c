/* The serial line on a listening Unix socket, for one client at a time. While there is none, output is dropped.
 * Owns the socket's name: it is removed at the end, and a name left behind by a dead process is taken over. */
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/listen.h"

#include <errno.h>
#include <string.h>

struct unix_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int listen;
    char path[]; /* the socket's name */
};

static void unix_write(void *arg, const u8 *buf, size_t n)
{
    struct unix_be *u = arg;
    pump_write(u->be.pump, buf, n);
}

static void unix_close(struct chardev_be *be)
{
    struct unix_be *u = (struct unix_be *)be;
    pump_free(u->be.pump);
    listen_unix_close(u->listen, u->path);
    free(u);
}

int chardev_unix_open(struct chardev_be **out, const char *path, const struct chardev_host *host, struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = unix_write };
    char what[160];
    snprintf(what, sizeof what, "serial unix:%s", path);
    struct unix_be *u = calloc(1, sizeof *u + strlen(path) + 1);
    if (!u) return vm_fail(err, -ENOMEM, "%s: out of memory", what);
    u->be = (struct chardev_be){ .dev = { .ops = &ops, .be = u }, .out.stall_ms = 200, .close = unix_close };
    strcpy(u->path, path);
    u->listen = listen_unix(path, what, err);
    int rc = u->listen < 0 ? u->listen : 0;
    if (!rc) {
        struct pump_config cfg = { .in = -1, .out = -1, .listen = u->listen, .outlet = &u->be.out };
        rc = pump_new(&u->be.pump, &cfg, host);
        if (rc) vm_fail(err, rc, "%s: %s", what, strerror(-rc));
    }
    if (rc) {
        unix_close(&u->be);
        return rc;
    }
    *out = &u->be;
    return 0;
}
