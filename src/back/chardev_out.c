/* Owns writing without hanging. A serial line has no way to say that it is stuck, and the guest must go on. */
#include "src/back/chardev_out.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define STEP_MS 20 /* a short poll, so that a cancelled machine is noticed */
#define CHUNK 512  /* once poll() has said so, a pipe takes PIPE_BUF bytes without blocking */

/* Until fd takes output; false: it does not, and what is left is to be dropped. */
static bool writable(struct chardev_out *o, int fd)
{
    /* Cancelled, nobody waits any longer; what goes at once still goes: a machine that is saved loses no byte. */
    int waited = 0;
    do {
        struct pollfd pfd = { .fd = fd, .events = POLLOUT };
        int step = waited ? STEP_MS : 0, r = poll(&pfd, 1, step);
        if (r > 0) { /* POLLERR as well: write() tells what it is */
            o->stalled = false;
            return true;
        }
        waited += step ? step : 1;
    } while (!o->cancelled && !o->stalled && (o->stall_ms < 0 || waited <= o->stall_ms));
    o->stalled = true;
    return false;
}

int chardev_out_write(struct chardev_out *o, int fd, const u8 *buf, size_t n)
{
    int err = 0;
    while (n && !err && writable(o, fd)) {
        /* A terminal takes at least a byte, and blocks over a second one. */
        ssize_t w = write(fd, buf, isatty(fd) ? 1 : n > CHUNK ? CHUNK : n);
        if (w < 0) {
            if (errno != EINTR && errno != EAGAIN) err = -errno;
            continue;
        }
        buf += w;
        n -= (size_t)w;
    }
    o->dropped += n;
    return err;
}
