/* Owns the input thread and its buffer: what the back ends with input have in common.
 *   I1  ring, count, fd and gone are touched only under lock.
 *   I2  the thread never calls host.wake under lock: the host may take its own.
 *   I3  fd is closed only by the thread, or once it has ended; the writer holds the lock while it uses it.
 * The buffer is bounded: when the guest does not take its input, the thread stops reading, and whoever types waits. */
#define _GNU_SOURCE /* accept4 */
#include "src/back/chardev.h"
#include "core/hostfd.h"
#include "core/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING 4096u
#define SHORTAGE_MS 250

struct pump {
    struct pump_config cfg;
    struct chardev_host host;
    pthread_t thread;
    int wake_fd; /* readable: the thread is to end, or to look at room again */
    pthread_mutex_t lock;
    pthread_cond_t room; /* count went down, or stopping */
    bool stopping;       /* the thread is to end */
    bool gone;           /* the reader of our output has gone for good */
    int fd;              /* the connection, when listening; else cfg.in */
    unsigned head, count;
    u8 ring[RING];
};

/* Waits until fd is readable. Returns false when the thread is to end. */
static bool pump_wait(struct pump *p, int fd)
{
    struct pollfd pfd[2] = { { .fd = fd, .events = POLLIN }, { .fd = p->wake_fd, .events = POLLIN } };
    while (poll(pfd, 2, -1) < 0)
        if (errno != EINTR) return false;
    return !pfd[1].revents;
}

static void pump_put(struct pump *p, const u8 *buf, size_t n)
{
    while (n) {
        pthread_mutex_lock(&p->lock);
        while (p->count == RING && !p->stopping) pthread_cond_wait(&p->room, &p->lock);
        if (p->stopping) {
            pthread_mutex_unlock(&p->lock);
            return;
        }
        while (n && p->count < RING) {
            p->ring[(p->head + p->count++) % RING] = *buf++;
            n--;
        }
        pthread_mutex_unlock(&p->lock);
        p->host.wake(p->host.arg);
    }
}

/* The host is short of something: a client waits until there may be some again. False when the thread is to end. */
static bool pump_pause(struct pump *p)
{
    struct pollfd pfd = { .fd = p->wake_fd, .events = POLLIN };
    return poll(&pfd, 1, SHORTAGE_MS) <= 0;
}

/* The next connection becomes fd. Returns false when the thread is to end. */
static bool pump_accept(struct pump *p)
{
    for (;;) {
        if (!pump_wait(p, p->cfg.listen)) return false;
        int fd = hostfd(accept4(p->cfg.listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd < 0) { /* it has gone again; or there is no descriptor or memory for it, and listen stays readable */
            bool shortage = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            if (shortage && !pump_pause(p)) return false;
            continue;
        }
        pthread_mutex_lock(&p->lock);
        p->fd = fd;
        p->cfg.outlet->stalled = false;
        pthread_mutex_unlock(&p->lock);
        return true;
    }
}

static void pump_hang_up(struct pump *p)
{
    pthread_mutex_lock(&p->lock);
    close(p->fd);
    p->fd = -1;
    pthread_mutex_unlock(&p->lock);
}

static void *pump_thread(void *arg)
{
    struct pump *p = arg;
    for (;;) {
        if (p->fd < 0) {
            if (p->cfg.listen < 0 || !pump_accept(p)) return NULL;
        }
        if (!pump_wait(p, p->fd)) return NULL;
        u8 buf[512];
        ssize_t n = read(p->fd, buf, sizeof buf);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) { /* end of input: of a connection, wait for the next; of anything else, output goes on alone */
            if (p->cfg.listen < 0) return NULL;
            pump_hang_up(p);
            continue;
        }
        size_t len = p->cfg.filter ? p->cfg.filter(p->cfg.filter_arg, buf, (size_t)n) : (size_t)n;
        pump_put(p, buf, len);
    }
}

int pump_new(struct pump **out, const struct pump_config *cfg, const struct chardev_host *host)
{
    struct pump *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    p->cfg = *cfg;
    p->host = *host;
    p->fd = cfg->listen >= 0 ? -1 : cfg->in;
    p->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (p->wake_fd < 0) {
        int rc = -errno;
        free(p);
        return rc;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->room, NULL);
    int rc = thread_start(&p->thread, THREAD_SERIAL, pump_thread, p);
    if (rc) {
        close(p->wake_fd);
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void pump_free(struct pump *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->room);
    pthread_mutex_unlock(&p->lock);
    u64 one = 1;
    ssize_t w = write(p->wake_fd, &one, sizeof one);
    BUG_ON(w != sizeof one); /* a fresh eventfd takes a 1 */
    pthread_join(p->thread, NULL);
    if (p->cfg.listen >= 0 && p->fd >= 0) close(p->fd);
    close(p->wake_fd);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->room);
    free(p);
}

void pump_write(struct pump *p, const u8 *buf, size_t n)
{
    pthread_mutex_lock(&p->lock);
    int fd = p->cfg.listen >= 0 ? p->fd : p->cfg.out;
    if (fd < 0 || p->gone) p->cfg.outlet->dropped += n;
    else if (chardev_out_write(p->cfg.outlet, fd, buf, n)) p->gone = p->cfg.listen < 0;
    pthread_mutex_unlock(&p->lock);
}

size_t pump_take(struct pump *p, u8 *buf, size_t room)
{
    pthread_mutex_lock(&p->lock);
    size_t n = 0;
    while (n < room && p->count) {
        buf[n++] = p->ring[p->head];
        p->head = (p->head + 1) % RING;
        p->count--;
    }
    if (n) pthread_cond_signal(&p->room);
    pthread_mutex_unlock(&p->lock);
    return n;
}
