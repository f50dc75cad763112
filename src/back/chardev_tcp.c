/* The serial line on a listening TCP socket, for one client at a time. While there is none, output is dropped.
 * Who names no address listens on the loopback alone: whoever reaches the port has the guest's console. */
#include "src/back/chardev.h"
#include "core/hostfd.h"
#include "src/error.h"
#include "src/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcp_be {
    struct chardev_be be; /* first: the two are cast into each other */
    int listen;
};
struct tcp_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
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

/* [ADDRESS:]PORT; an address of version 6 stands in brackets. */
static bool parse_address(const char *text, struct tcp_addr *a)
{
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
    size_t n = colon ? (size_t)(colon - text) : 0;
    u64 v;
    if (parse_u64(port, 65535, &v) || !v || n >= sizeof host) return false;
    if (n) {
        memcpy(host, text, n);
        host[n] = 0;
    }
    *a = (struct tcp_addr){ 0 };
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        a->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((u16)v) };
        a->len = sizeof a->v6;
        return inet_pton(AF_INET6, host + 1, &a->v6.sin6_addr) == 1;
    }
    a->v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((u16)v) };
    a->len = sizeof a->v4;
    return inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &a->v4.sin_addr) == 1;
}

/* A descriptor or -errno. */
static int tcp_listen(const struct tcp_addr *a)
{
    const int on = 1;
    int fd = hostfd(socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0) return -errno;
    /* Connections take both from the socket that they come from. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* characters come one by one */
    if (!bind(fd, &a->any, a->len) && !listen(fd, 1)) return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

int chardev_tcp_open(struct chardev_be **out, const char *address, const struct chardev_host *host,
                     struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = tcp_write };
    struct tcp_addr addr;
    if (!parse_address(address, &addr))
        return vm_fail(err, -EINVAL, "serial tcp:%s: is not [ADDRESS:]PORT, the address in numbers", address);
    struct tcp_be *t = calloc(1, sizeof *t);
    if (!t) return vm_fail(err, -ENOMEM, "serial tcp:%s: out of memory", address);
    t->be = (struct chardev_be){ .dev = { .ops = &ops, .be = t }, .out.stall_ms = 200, .close = tcp_close };
    t->listen = tcp_listen(&addr);
    int rc = t->listen < 0 ? t->listen : 0;
    if (!rc) {
        struct pump_config cfg = { .in = -1, .out = -1, .listen = t->listen, .outlet = &t->be.out };
        rc = pump_new(&t->be.pump, &cfg, host);
    }
    if (rc) {
        vm_fail(err, rc, "serial tcp:%s: %s", address, strerror(-rc));
        tcp_close(&t->be);
        return rc;
    }
    *out = &t->be;
    return 0;
}
