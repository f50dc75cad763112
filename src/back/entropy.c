/* Owns a descriptor of the kernel's random numbers, and the thread that reads it: in its jail the vCPU thread reads no
 * descriptor (docs/security.md). Nothing is kept: what a guest gets is read when it asks. */
#include "src/back/entropy.h"
#include "core/hostfd.h"
#include "src/back/worker.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOURCE "/dev/urandom" /* it never runs dry, and never blocks once the host is up */

struct entropy {
    struct rngdev dev; /* dev.be points back here */
    int fd;
    struct worker *worker;
};

static void on_run(void *owner, struct job *j)
{
    const struct entropy *e = owner;
    struct rngdev_req *r = JOB_OF(j, struct rngdev_req);
    ssize_t n;
    do n = read(e->fd, r->buf, r->wanted);
    while (n < 0 && errno == EINTR);
    r->got = n > 0 ? (u32)n : 0;
}

static void on_finished(void *owner UNUSED, struct job *j)
{
    struct rngdev_req *r = JOB_OF(j, struct rngdev_req);
    r->done(r);
}

static void on_submit(void *be, struct rngdev_req *r) { worker_submit(((struct entropy *)be)->worker, &r->job); }

int entropy_open(struct entropy **out, void (*wake)(void *arg), void *arg, struct vm_error *err)
{
    static const struct worker_ops work = { on_run, on_finished };
    struct entropy *e = calloc(1, sizeof *e);
    if (!e) return vm_fail(err, -ENOMEM, "rng: out of memory");
    e->dev = (struct rngdev){ on_submit, e };
    e->fd = hostfd(open(SOURCE, O_RDONLY | O_CLOEXEC));
    int rc = e->fd < 0 ? -errno : worker_new(&e->worker, THREAD_RNG, &work, e, wake, arg);
    if (!rc) {
        *out = e;
        return 0;
    }
    entropy_close(e);
    return vm_fail(err, rc, "rng: " SOURCE ": %s", strerror(-rc));
}

void entropy_close(struct entropy *e)
{
    if (!e) return;
    worker_free(e->worker);
    if (e->fd >= 0) close(e->fd);
    free(e);
}

const struct rngdev *entropy_dev(const struct entropy *e) { return e ? &e->dev : NULL; }
void entropy_complete(struct entropy *e)
{
    if (e) worker_complete(e->worker);
}
void entropy_drain(struct entropy *e)
{
    if (e) worker_drain(e->worker);
}
