/* Owns a disk's thread and its two queues: to do, and done.
 *   I1  todo, done, busy and ending are touched only under lock.
 *   I2  A request is in one of three places: in todo, with the thread (busy), in done. Then it is the chip's again.
 *   I3  Neither host.wake() nor done() is called under lock: the host may take its own, the chip may submit. */
#include "src/back/blockdev.h"
#include "core/thread.h"

#include <errno.h>
#include <pthread.h>

struct queue {
    struct blockdev_req *first, **last;
};

struct disk {
    struct blockdev dev; /* dev.be points back here */
    const struct block_image_ops *ops;
    void *image;
    struct blockdev_host host;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something came to todo or done, or ending */
    struct queue todo, done;
    bool busy, ending;
};

static void queue_clear(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct blockdev_req *r)
{
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}

static struct blockdev_req *queue_take(struct queue *q)
{
    struct blockdev_req *r = q->first;
    if (r && !(q->first = r->next)) q->last = &q->first;
    return r;
}

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

static int request_run(struct disk *d, const struct blockdev_req *r)
{
    if (r->err) return r->err;
    switch (r->op) {
    case BLOCKDEV_READ: return d->ops->read(d->image, r->offset, r->iov, r->niov);
    case BLOCKDEV_WRITE: return d->ops->write(d->image, r->offset, r->iov, r->niov);
    case BLOCKDEV_FLUSH: return d->ops->flush(d->image);
    case BLOCKDEV_ZERO: return d->ops->zero(d->image, r->offset, r->len);
    case BLOCKDEV_DISCARD: return d->ops->discard ? d->ops->discard(d->image, r->offset, r->len) : 0;
    }
    return -EINVAL;
}

static void *disk_thread(void *arg)
{
    struct disk *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->ending) {
        struct blockdev_req *r = queue_take(&d->todo);
        if (!r) {
            pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        d->busy = true;
        pthread_mutex_unlock(&d->lock);
        r->err = request_run(d, r);
        pthread_mutex_lock(&d->lock);
        d->busy = false;
        bool first = !d->done.first;
        queue_put(&d->done, r);
        pthread_cond_broadcast(&d->changed);
        if (!first) continue; /* they have been told, and have not been yet */
        pthread_mutex_unlock(&d->lock);
        d->host.wake(d->host.arg);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void disk_submit(void *be, struct blockdev_req *r)
{
    struct disk *d = be;
    r->err = request_check(&d->dev, r);
    pthread_mutex_lock(&d->lock);
    queue_put(&d->todo, r);
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

int blockdev_new(struct blockdev **out, const struct block_image_ops *ops, void *image, u64 size, bool readonly,
                 const struct blockdev_host *host)
{
    static const struct blockdev_ops disk_ops = { .submit = disk_submit };
    struct disk *d = calloc(1, sizeof *d);
    if (!d) return -ENOMEM;
    BUG_ON(size % BLOCKDEV_SECTOR);
    d->dev = (struct blockdev){ .ops = &disk_ops, .be = d, .size = size, .readonly = readonly };
    d->ops = ops;
    d->image = image;
    d->host = *host;
    queue_clear(&d->todo);
    queue_clear(&d->done);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    int rc = thread_start(&d->thread, THREAD_DISK, disk_thread, d);
    if (rc) {
        free(d);
        return rc;
    }
    *out = &d->dev;
    return 0;
}

void blockdev_free(struct blockdev *dev)
{
    if (!dev) return;
    struct disk *d = dev->be;
    pthread_mutex_lock(&d->lock);
    d->ending = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    free(d);
}

void blockdev_complete(struct blockdev *dev)
{
    struct disk *d = dev->be;
    pthread_mutex_lock(&d->lock);
    struct blockdev_req *r = d->done.first; /* what is done from now on wakes us again */
    queue_clear(&d->done);
    pthread_mutex_unlock(&d->lock);
    while (r) {
        struct blockdev_req *next = r->next;
        r->done(r, r->err);
        r = next;
    }
}

void blockdev_drain(struct blockdev *dev)
{
    struct disk *d = dev->be;
    for (;;) {
        pthread_mutex_lock(&d->lock);
        while (d->todo.first || d->busy) pthread_cond_wait(&d->changed, &d->lock);
        bool none = !d->done.first;
        pthread_mutex_unlock(&d->lock);
        if (none) return;
        blockdev_complete(dev);
    }
}
