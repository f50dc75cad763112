/* Owns waiting for files: by poll() in short steps, so that no signal has to interrupt anything. */
#include "src/wait.h"
#include "core/hostfd.h"

#include <poll.h>
#include <sys/stat.h>

#define STEP_MS 20

static bool asked(const struct wait_end *end) { return end && end->asked && end->asked(end->arg); }

static bool is_fifo(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISFIFO(st.st_mode);
}

int wait_open(const char *path, int flags, mode_t mode, const struct wait_end *end)
{
    for (;;) {
        int fd = hostfd(open(path, flags | O_CLOEXEC | O_NONBLOCK, mode));
        if (fd >= 0) return fd;
        int err = errno;
        if (err == EINTR) continue;
        if (err != ENXIO || !is_fifo(path)) return -err; /* ENXIO: a FIFO, and nobody reads it */
        if (asked(end)) return -ECANCELED;
        (void)poll(NULL, 0, STEP_MS);
    }
}

/* Until fd is ready, or has failed in a way that the next call will tell. */
static int wait_for(int fd, short events, const struct wait_end *end)
{
    struct pollfd p = { .fd = fd, .events = events };
    for (;;) {
        int r = poll(&p, 1, STEP_MS);
        if (r > 0) return 0;
        if (r < 0 && errno != EINTR) return -errno;
        if (asked(end)) return -ECANCELED;
    }
}

ssize_t wait_read(int fd, void *buf, size_t n, const struct wait_end *end)
{
    for (;;) {
        int rc = wait_for(fd, POLLIN, end); /* first: a FIFO that has had no writer yet reads as ended */
        if (rc) return rc;
        ssize_t got = read(fd, buf, n);
        if (got >= 0) return got;
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

int wait_write(int fd, const void *buf, size_t n, const struct wait_end *end)
{
    const u8 *p = buf;
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w > 0) {
            p += w;
            n -= (size_t)w;
            continue;
        }
        if (w < 0 && errno == EINTR) continue;
        if (w < 0 && errno != EAGAIN) return -errno;
        int rc = wait_for(fd, POLLOUT, end);
        if (rc) return rc;
    }
    return 0;
}
