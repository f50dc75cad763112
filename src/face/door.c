/* Owns the sockets of a door, and its thread (door.h).
 *   I1  in and out are -1 while there is no client; only the thread touches them.
 *   I2  A client that does not take what it is sent for PATIENCE_MS is sent away: it must not hold up the machine. */
#define _GNU_SOURCE /* accept4 */
#include "src/face/door.h"
#include "core/hostfd.h"
#include "core/thread.h"
#include "src/error.h"
#include "src/listen.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 5000
#define SLICE_MS 100
#define SHORTAGE_MS 250

struct door {
    const struct door_ops *ops;
    void *arg;
    pthread_t thread;
    bool started, stdio;
    int listen, wake, in, out;
    bool hung_up;         /* the client is to go */
    _Atomic bool closing; /* the thread is to end */
    bool ends;            /* as the thread tells its functions */
    char path[];          /* of a Unix socket, or "" */
};

int door_open(struct door **out, const char *spec, const char *what, struct vm_error *err)
{
    bool is_unix = !strncmp(spec, "unix:", 5), is_tcp = !strncmp(spec, "tcp:", 4), is_stdio = !strcmp(spec, "stdio");
    const char *path = is_unix ? spec + 5 : "";
    if (!is_unix && !is_tcp && !is_stdio)
        return vm_fail(err, -EINVAL, "%.100s: is none of tcp:[ADDRESS:]PORT, unix:PATH, stdio", what);
    struct door *d = calloc(1, sizeof *d + strlen(path) + 1);
    if (!d) return vm_fail(err, -ENOMEM, "%.100s: out of memory", what);
    strcpy(d->path, path);
    d->stdio = is_stdio;
    d->listen = d->in = d->out = -1;
    d->wake = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = d->wake < 0 ? vm_fail(err, -errno, "%.100s: %s", what, strerror(errno)) : 0;
    if (!rc && is_tcp) rc = d->listen = listen_tcp(spec + 4, what, err);
    if (!rc && is_unix) rc = d->listen = listen_unix(path, what, err);
    if (rc < 0) {
        door_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void door_wake(struct door *d)
{
    const u64 one = 1;
    (void)!write(d->wake, &one, sizeof one);
}

bool door_has_client(const struct door *d) { return d->out >= 0; }
bool door_ends(const struct door *d) { return d->ends; }
void door_hang_up(struct door *d) { d->hung_up = true; }

void door_send(struct door *d, const void *bytes, size_t n)
{
    const u8 *p = bytes;
    for (int waited = 0; n && d->out >= 0 && !d->hung_up;) {
        struct pollfd pfd = { .fd = d->out, .events = POLLOUT };
        int ready = poll(&pfd, 1, SLICE_MS);
        if (ready < 0 && errno != EINTR) break;
        if (ready <= 0) {
            waited += SLICE_MS;
            if (waited >= PATIENCE_MS || d->closing) break;
            continue;
        }
        ssize_t got = write(d->out, p, n < 512 ? n : 512); /* what a pipe that is ready takes without waiting */
        if (got < 0 && errno != EAGAIN && errno != EINTR) break;
        if (got <= 0) continue;
        p += got;
        n -= (size_t)got;
        waited = 0;
    }
    if (n) d->hung_up = true;
}

/* ---- the thread ---- */

static void client_come(struct door *d, int in, int out)
{
    d->in = in, d->out = out;
    d->hung_up = false;
    d->ops->opened(d->arg);
}

static void client_go(struct door *d)
{
    if (d->out < 0) return;
    if (!d->stdio) close(d->in);
    d->in = d->out = -1;
    d->ops->closed(d->arg);
}

/* The client has hung up, though not all that it has sent may have been read. */
static bool client_leaves(const struct door *d)
{
    struct pollfd pfd = { .fd = d->in, .events = POLLRDHUP };
    return d->in >= 0 && poll(&pfd, 1, 0) > 0 && pfd.revents;
}

/* False: the host is short of something. */
static bool visitor(struct door *d)
{
    int fd = hostfd(accept4(d->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd < 0) return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
    if (d->out >= 0) close(fd); /* there is one already */
    else client_come(d, fd, fd);
    return true;
}

static void client_input(struct door *d)
{
    u8 buf[4096];
    ssize_t n = read(d->in, buf, sizeof buf);
    if (n > 0) d->ops->input(d->arg, buf, (size_t)n);
    else if (!n || (errno != EAGAIN && errno != EINTR)) d->hung_up = true;
}

static void woken(struct door *d)
{
    u64 count;
    (void)!read(d->wake, &count, sizeof count);
    d->ends = d->closing;
    d->ops->woken(d->arg);
}

static void *door_thread(void *arg)
{
    struct door *d = arg;
    bool shortage = false;
    if (d->stdio) client_come(d, STDIN_FILENO, STDOUT_FILENO);
    while (!d->ends) {
        struct pollfd pfd[3] = { { .fd = d->wake, .events = POLLIN },
                                 { .fd = shortage ? -1 : d->listen, .events = POLLIN },
                                 { .fd = d->in, .events = POLLIN } };
        if (poll(pfd, 3, shortage ? SHORTAGE_MS : -1) < 0 && errno != EINTR) break;
        if (pfd[0].revents) woken(d);
        if (pfd[2].revents && d->in >= 0 && !d->hung_up) client_input(d);
        if (d->hung_up) client_go(d);
        shortage = pfd[1].revents && !client_leaves(d) && !visitor(d); /* one that waits for the seat gets it */
        if (d->hung_up) client_go(d);
    }
    client_go(d);
    return NULL;
}

int door_start(struct door *d, const struct door_ops *ops, void *arg)
{
    d->ops = ops;
    d->arg = arg;
    int rc = thread_start(&d->thread, THREAD_SERIAL, door_thread, d);
    d->started = !rc;
    return rc;
}

void door_close(struct door *d)
{
    if (!d) return;
    if (d->started) {
        d->closing = true;
        door_wake(d);
        pthread_join(d->thread, NULL);
    }
    if (*d->path) listen_unix_close(d->listen, d->path);
    else if (d->listen >= 0) close(d->listen);
    if (d->wake >= 0) close(d->wake);
    free(d);
}
