/* Owns how a socket is made that others connect to. */
#include "src/listen.h"
#include "core/hostfd.h"
#include "src/error.h"
#include "src/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- TCP ---- */

struct tcp_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
};

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
static int tcp_socket(const struct tcp_addr *a)
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

int listen_tcp(const char *address, const char *what, struct vm_error *err)
{
    struct tcp_addr addr;
    if (!parse_address(address, &addr))
        return vm_fail(err, -EINVAL, "%s: is not [ADDRESS:]PORT, the address in numbers", what);
    int fd = tcp_socket(&addr);
    return fd < 0 ? vm_fail(err, fd, "%s: %s", what, strerror(-fd)) : fd;
}

/* ---- Unix ---- */

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

static int unix_socket(const struct sockaddr_un *a)
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

int listen_unix(const char *path, const char *what, struct vm_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof a.sun_path)
        return vm_fail(err, -ENAMETOOLONG, "%s: the path is longer than %zu characters", what, sizeof a.sun_path - 1);
    strcpy(a.sun_path, path);
    int fd = unix_socket(&a);
    return fd < 0 ? vm_fail(err, fd, "%s: %s", what, strerror(-fd)) : fd;
}

void listen_unix_close(int fd, const char *path)
{
    if (fd < 0) return;
    close(fd);
    unlinkat(AT_FDCWD, path, 0);
}
