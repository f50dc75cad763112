/* Owns what a disk's requests come to: whether they fit it, and which of the image's calls they are. Its thread is a
 * worker's (worker.c). */
#include "src/back/blockdev.h"
#include "src/back/worker.h"

#include <errno.h>

#define NS_MAX 500000u /* to watch for a request */

struct disk {
    struct blockdev dev; /* dev.be points back here */
    const struct block_image_ops *ops;
    void *image;
    struct worker *worker;
    struct blockdev_host host;
    struct job *held, **held_last;
};

/* What can be said without the image. */
static int request_check(const struct blockdev *d, const struct blockdev_req *r)
{
    u64 bytes = 0;
    if (r->op == BLOCKDEV_FLUSH) return r->offset || r->len ? -EINVAL : 0;
    if ((r->offset | r->len) % BLOCKDEV_SECTOR || r->offset > d->size || r->len > d->size - r->offset) return -EINVAL;
    if (r->op != BLOCKDEV_READ && d->readonly) return -EROFS;
    if (r->op == BLOCKDEV_DISCARD || r->op == BLOCKDEV_ZERO) return 0;
    for (unsigned i = 0; i < r->niov; i++) bytes += r->iov[i].iov_len;
    return bytes == r->len ? 0 : -EINVAL;
}

static int request_move(const struct disk *d, const struct blockdev_req *r)
{
    switch (r->op) {
    case BLOCKDEV_READ: return d->ops->read(d->image, r->offset, r->iov, r->niov);
    case BLOCKDEV_WRITE: return d->ops->write(d->image, r->offset, r->iov, r->niov);
    case BLOCKDEV_FLUSH: return d->ops->flush(d->image);
    case BLOCKDEV_ZERO: return d->ops->zero(d->image, r->offset, r->len);
    case BLOCKDEV_DISCARD: return d->ops->discard ? d->ops->discard(d->image, r->offset, r->len) : 0;
    }
    return -EINVAL;
}

static int request_run(const struct disk *d, const struct blockdev_req *r)
{
    const bool writes = r->op == BLOCKDEV_WRITE || r->op == BLOCKDEV_ZERO;
    if (r->err) return r->err;
    if (!d->ops) return -ENODEV;
    int rc = request_move(d, r);
    return !rc && writes && (r->durable || d->dev.write_through) ? d->ops->flush(d->image) : rc;
}

static void disk_run(void *disk, struct job *j)
{
    struct blockdev_req *r = JOB_OF(j, struct blockdev_req);
    r->err = request_run(disk, r);
}

/* What is wrong with a request itself would be wrong the next time. */
static void disk_finished(void *disk, struct job *j)
{
    struct disk *d = disk;
    struct blockdev_req *r = JOB_OF(j, struct blockdev_req);
    bool failed = r->err && d->host.hold && !request_check(&d->dev, r);
    if (!failed || !d->host.hold(d->host.hold_arg, r->op != BLOCKDEV_READ, r->err)) {
        r->done(r, r->err);
        return;
    }
    j->next = NULL;
    *d->held_last = j;
    d->held_last = &j->next;
}

/* How long one takes if the host has it in memory and nothing else to do, with room to spare. */
static u64 request_ns(const struct blockdev_req *r)
{
    const bool moves = r->op == BLOCKDEV_READ || r->op == BLOCKDEV_WRITE;
    const u64 ns = 100000 + (moves ? r->len / 8 : 0);
    return ns < NS_MAX ? ns : NS_MAX;
}

static void disk_submit(void *be, struct blockdev_req *r)
{
    struct disk *d = be;
    r->err = request_check(&d->dev, r);
    worker_submit(d->worker, &r->job);
    if (d->host.asked) d->host.asked(d->host.arg, request_ns(r));
}

void blockdev_change(struct blockdev *dev, const struct blockdev_medium *m)
{
    struct disk *d = dev->be;
    BUG_ON(m->size % BLOCKDEV_SECTOR);
    d->ops = m->ops; /* which the thread sees: a request goes to it by way of a lock */
    d->image = m->image;
    dev->size = m->size;
    dev->readonly = m->readonly;
    dev->write_through = m->write_through;
}

int blockdev_new(struct blockdev **out, const struct blockdev_medium *medium, enum thread_role role,
                 const struct blockdev_host *host)
{
    static const struct blockdev_ops disk_ops = { .submit = disk_submit };
    static const struct worker_ops work = { disk_run, disk_finished };
    struct disk *d = calloc(1, sizeof *d);
    if (!d) return -ENOMEM;
    d->dev = (struct blockdev){ .ops = &disk_ops, .be = d };
    blockdev_change(&d->dev, medium);
    d->host = *host;
    d->held_last = &d->held;
    int rc = worker_new(&d->worker, role, &work, d, host->wake, host->arg);
    if (rc) {
        free(d);
        return rc;
    }
    if (host->asked) worker_watch(d->worker);
    *out = &d->dev;
    return 0;
}

bool blockdev_holds(const struct blockdev *dev) { return ((const struct disk *)dev->be)->held; }

static struct job *held_take(struct disk *d)
{
    struct job *all = d->held;
    d->held = NULL;
    d->held_last = &d->held;
    return all;
}

void blockdev_retry(struct blockdev *dev)
{
    for (struct job *j = held_take(dev->be), *next; j; j = next) {
        next = j->next;
        disk_submit(dev->be, JOB_OF(j, struct blockdev_req));
    }
}

void blockdev_give_up(struct blockdev *dev)
{
    for (struct job *j = held_take(dev->be), *next; j; j = next) {
        struct blockdev_req *r = JOB_OF(j, struct blockdev_req);
        next = j->next;
        r->done(r, r->err);
    }
}

void blockdev_free(struct blockdev *dev)
{
    if (!dev) return;
    struct disk *d = dev->be;
    worker_free(d->worker);
    free(d);
}

void blockdev_complete(struct blockdev *dev) { worker_complete(((struct disk *)dev->be)->worker); }
void blockdev_drain(struct blockdev *dev) { worker_drain(((struct disk *)dev->be)->worker); }
