/* Owns a machine's end of a wire at a Unix socket.
 *
 * The first machine listens and passes every frame on to all others: it is the wire's hub. The others connect to it.
 * When the hub has gone, each of them tries to take its place, and one does. Who listens holds a lock on PATH.lock as
 * long as it does; only with it may a socket that nobody listens at be removed.
 *   I1  A peer is at the beginning of a frame's length, or knows how many bytes of the frame are to come. [peer_take]
 *   I2  A peer that does not read loses frames; it keeps nobody waiting.                                  [peer_put]
 *   I3  All of it is the thread's, but for the first attempt, which is made before the thread is.         [wire_join]
 * Enter at socket_thread(). */
#define _GNU_SOURCE
#include "core/hostfd.h"
#include "src/back/netdev.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PEERS_MAX = 32, HEADER = 4, RETRY_MS = 50 };
#define LENGTH_MAX (1u << 20)  /* of a frame that is passed over as too long; more is no frame */
#define BACKLOG_MAX (1u << 20) /* bytes of frames that wait for a peer */

struct peer {
    int fd; /* -1: free */
    u8 buf[HEADER + NETDEV_FRAME_MAX];
    size_t have, skip;        /* bytes in buf; bytes of a frame that is too long still to come */
    struct frame_queue queue; /* to it; the frames have their header */
    size_t written;           /* of the first of queue */
};
struct wire {
    struct netdev_link link; /* first: the two are cast into each other */
    struct sockaddr_un addr;
    char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
    int listen, lock;            /* the hub's; else -1 */
    struct peer peer[PEERS_MAX]; /* the hub's: the others; else the hub alone, in peer[0] */
};

static bool is_hub(const struct wire *w) { return w->listen >= 0; }
static bool is_joined(const struct wire *w) { return is_hub(w) || w->peer[0].fd >= 0; }

/* ---- peers ---- */

static void peer_open(struct peer *p, int fd)
{
    *p = (struct peer){ .fd = fd };
    frame_queue_init(&p->queue, BACKLOG_MAX);
}

static void peer_close(struct peer *p)
{
    if (p->fd < 0) return;
    close(p->fd);
    p->fd = -1;
    frame_queue_free(&p->queue);
}

/* Sends what waits, as far as it goes. */
static void peer_flush(struct peer *p)
{
    struct frame *f;
    while (p->fd >= 0 && (f = p->queue.first)) {
        ssize_t n = send(p->fd, f->data + p->written, f->len - p->written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) {
            peer_close(p);
            return;
        }
        p->written += (size_t)n;
        if (p->written < f->len) continue;
        p->written = 0;
        free(frame_queue_take(&p->queue));
    }
}

static void peer_put(struct wire *w, struct peer *p, const u8 *whole, size_t n)
{
    if (p->fd < 0) return;
    bool first = !p->queue.first;
    if (!frame_queue_put(&p->queue, whole, n)) netdev_link_dropped(&w->link);
    else if (first) peer_flush(p);
}

/* whole: with its header. */
static void send_to_all(struct wire *w, const struct peer *but, const u8 *whole, size_t n)
{
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (&w->peer[i] != but) peer_put(w, &w->peer[i], whole, n);
}

static u32 length_of(const u8 *head) { return (u32)head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3]; }

/* What has come from a peer, or some of it. false: it is no peer of ours, or has gone. */
static bool peer_take(struct wire *w, struct peer *p)
{
    for (unsigned reads = 0; reads < 2 * NETDEV_BATCH; reads++) {
        u8 *at = p->buf + p->have, waste[4096];
        u32 len = p->have >= HEADER ? length_of(p->buf) : 0;
        size_t want = p->skip ? (p->skip < sizeof waste ? p->skip : sizeof waste)
                              : (p->have < HEADER ? HEADER : HEADER + len) - p->have;
        ssize_t n = recv(p->fd, p->skip ? waste : at, want, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 && errno == EAGAIN;
        if (p->skip) {
            p->skip -= (size_t)n;
            continue;
        }
        p->have += (size_t)n;
        if (p->have < HEADER) continue;
        len = length_of(p->buf);
        if (!len || len > LENGTH_MAX) return false;
        if (len > NETDEV_FRAME_MAX) {
            netdev_link_dropped(&w->link);
            p->skip = len;
            p->have = 0;
        } else if (p->have == HEADER + len) {
            netdev_link_received(&w->link, p->buf + HEADER, len);
            if (is_hub(w)) send_to_all(w, p, p->buf, p->have);
            p->have = 0;
        }
    }
    return true;
}

/* ---- joining ---- */

static int wire_connect(struct wire *w)
{
    int fd = hostfd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0) return -errno;
    if (!connect(fd, (const struct sockaddr *)&w->addr, sizeof w->addr)) {
        peer_open(&w->peer[0], fd);
        return 0;
    }
    int rc = -errno;
    close(fd);
    return rc;
}

/* -EAGAIN: somebody else has it. */
static int wire_lock(struct wire *w)
{
    struct stat ours, there;
    int fd = hostfd(open(w->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)), rc = 0;
    if (fd < 0) return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB)) rc = errno == EWOULDBLOCK ? -EAGAIN : -errno;
    /* The last one may have removed it between our open() and our lock. */
    else if (fstat(fd, &ours) || stat(w->lock_path, &there) || ours.st_ino != there.st_ino) rc = -EAGAIN;
    if (rc) close(fd);
    else w->lock = fd;
    return rc;
}

static void wire_unlock(struct wire *w)
{
    if (w->lock < 0) return;
    unlinkat(AT_FDCWD, w->lock_path, 0);
    close(w->lock);
    w->lock = -1;
}

static int wire_listen(struct wire *w)
{
    struct stat st;
    int rc = wire_lock(w);
    if (rc) return rc;
    if (!lstat(w->addr.sun_path, &st) && S_ISSOCK(st.st_mode)) {
        rc = wire_connect(w);
        if (rc != -ECONNREFUSED) { /* somebody listens, without a lock (QEMU, passt), or it is not ours to know */
            wire_unlock(w);
            return rc;
        }
        unlinkat(AT_FDCWD, w->addr.sun_path, 0);
    }
    int fd = hostfd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0 || bind(fd, (const struct sockaddr *)&w->addr, sizeof w->addr) || listen(fd, PEERS_MAX)) {
        rc = -errno;
        if (fd >= 0) close(fd);
        wire_unlock(w);
        return rc;
    }
    w->listen = fd;
    return 0;
}

static void wire_leave(struct wire *w)
{
    for (unsigned i = 0; i < PEERS_MAX; i++) peer_close(&w->peer[i]);
    if (!is_hub(w)) return;
    unlinkat(AT_FDCWD, w->addr.sun_path, 0);
    close(w->listen);
    w->listen = -1;
    wire_unlock(w);
}

/* 0, -EAGAIN: later, or -errno. */
static int wire_join(struct wire *w)
{
    int rc = wire_connect(w);
    if (rc == -ECONNREFUSED || rc == -ENOENT) rc = wire_listen(w);
    return rc;
}

/* ---- the thread ---- */

static void take_sent(struct wire *w)
{
    u8 whole[HEADER + NETDEV_FRAME_MAX];
    for (struct frame *f; (f = netdev_link_sent(&w->link)); free(f)) {
        if (!is_joined(w)) netdev_link_dropped(&w->link);
        u32 n = (u32)f->len;
        const u8 head[HEADER] = { n >> 24 & 0xff, n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff };
        memcpy(whole, head, HEADER);
        memcpy(whole + HEADER, f->data, n);
        send_to_all(w, NULL, whole, HEADER + n);
    }
}

/* false: there is no descriptor for one that waits; later. */
static bool take_peers(struct wire *w)
{
    for (int fd; (fd = hostfd(accept4(w->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK))) >= 0;) {
        unsigned i = 0;
        while (i < PEERS_MAX && w->peer[i].fd >= 0) i++;
        if (i == PEERS_MAX) close(fd); /* the wire is full */
        else peer_open(&w->peer[i], fd);
    }
    return errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS;
}

static void *socket_thread(void *arg)
{
    struct wire *w = arg;
    bool accepts = true;
    while (!netdev_link_ending(&w->link)) {
        struct pollfd fds[2 + PEERS_MAX];
        if (!is_joined(w)) (void)!wire_join(w); /* whatever is wrong may pass */
        take_sent(w);
        netdev_link_tell(&w->link);
        fds[0] = (struct pollfd){ .fd = w->link.wake_fd, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = accepts ? w->listen : -1, .events = POLLIN };
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            const struct peer *p = &w->peer[i];
            fds[2 + i] = (struct pollfd){ .fd = p->fd, .events = (short)(p->queue.first ? POLLIN | POLLOUT : POLLIN) };
        }
        int rc = poll(fds, ARRAY_LEN(fds), is_joined(w) && accepts ? -1 : RETRY_MS);
        accepts = true;
        if (rc <= 0) continue;
        if (fds[0].revents) netdev_link_awake(&w->link);
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            struct peer *p = &w->peer[i];
            if (fds[2 + i].revents & POLLOUT) peer_flush(p);
            if (p->fd >= 0 && fds[2 + i].revents & ~POLLOUT && !peer_take(w, p)) peer_close(p);
        }
        if (fds[1].revents) accepts = take_peers(w);
    }
    return NULL;
}

/* ---- life ---- */

static void socket_close(struct netdev_link *l)
{
    struct wire *w = (struct wire *)l;
    netdev_link_stop(l);
    wire_leave(w);
    netdev_link_fini(l);
    free(w);
}

int netdev_socket_open(struct netdev_link **out, const char *path, const struct netdev_host *host, struct pcap *dump,
                       struct vm_error *err)
{
    struct wire *w = calloc(1, sizeof *w);
    if (!w) return vm_fail(err, -ENOMEM, "net: out of memory");
    w->link.close = socket_close;
    w->listen = w->lock = -1;
    for (unsigned i = 0; i < PEERS_MAX; i++) w->peer[i].fd = -1;
    w->addr.sun_family = AF_UNIX;
    int rc = netdev_link_init(&w->link, host, dump, err);
    if (!rc && (!*path || strlen(path) >= sizeof w->addr.sun_path))
        rc = vm_fail(err, -EINVAL, "net: socket:unix:%s: a path has 1 to %zu characters", path,
                     sizeof w->addr.sun_path - 1);
    if (!rc) {
        strcpy(w->addr.sun_path, path);
        snprintf(w->lock_path, sizeof w->lock_path, "%s.lock", path);
        rc = wire_join(w);
        if (rc == -EAGAIN) rc = 0; /* the hub is just coming up, or going */
        if (rc) vm_fail(err, rc, "net: socket:unix:%s: %s", path, strerror(-rc));
    }
    if (!rc) rc = netdev_link_start(&w->link, socket_thread, w, err);
    if (rc) socket_close(&w->link);
    else *out = &w->link;
    return rc;
}
