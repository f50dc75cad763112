/* The serial line on a listening Unix socket, for one client at a time. While there is none, output is dropped.
 * Owns the socket's name: it is removed at the end, and a name left behind by a dead process is taken over. */
#include "src/back/chardev.h"
#include "core/hostfd.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct unix_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int listen;
    struct sockaddr_un addr;
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
    if (u->listen >= 0) {
        close(u->listen);
        unlink(u->addr.sun_path);
    }
    free(u);
}

/* A socket that refuses connections has no process behind it any more. */
static bool unix_stale(const struct sockaddr_un *a)
{
    struct stat st;
    if (lstat(a->sun_path, &st) || !S_ISSOCK(st.st_mode)) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool stale = connect(fd, (const struct sockaddr *)a, sizeof *a) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int unix_listen(const struct sockaddr_un *a)
{
    int fd = hostfd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0) return -errno;
    int rc = bind(fd, (const struct sockaddr *)a, sizeof *a);
    if (rc && errno == EADDRINUSE && unix_stale(a)) {
        unlink(a->sun_path);
        rc = bind(fd, (const struct sockaddr *)a, sizeof *a);
    }
    if (rc || listen(fd, 1)) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int chardev_unix_open(struct chardev_be **out, const char *path, const struct chardev_host *host, struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = unix_write };
    struct unix_be *u = calloc(1, sizeof *u);
    if (!u) return vm_fail(err, -ENOMEM, "serial unix:%s: out of memory", path);
    u->be = (struct chardev_be){ .dev = { .ops = &ops, .be = u }, .out.stall_ms = 200, .close = unix_close };
    u->listen = -1;
    u->addr.sun_family = AF_UNIX;
    int rc;
    if (strlen(path) >= sizeof u->addr.sun_path) {
        rc = vm_fail(err, -ENAMETOOLONG, "serial unix:%s: the path is longer than %zu characters", path,
                     sizeof u->addr.sun_path - 1);
        goto fail;
    }
    strcpy(u->addr.sun_path, path);
    rc = unix_listen(&u->addr);
    if (rc < 0) {
        vm_fail(err, rc, "serial unix:%s: %s", path, strerror(-rc));
        goto fail;
    }
    u->listen = rc;
    struct pump_config cfg = { .in = -1, .out = -1, .listen = u->listen, .outlet = &u->be.out };
    rc = pump_new(&u->be.pump, &cfg, host);
    if (rc) {
        vm_fail(err, rc, "serial unix:%s: %s", path, strerror(-rc));
        goto fail;
    }
    *out = &u->be;
    return 0;
fail:
    unix_close(&u->be);
    return rc;
}
