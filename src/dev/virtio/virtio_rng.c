/* Owns the requests between a virtio entropy device's ring and a source of random numbers.
 *   I1  At most one request is the source's at a time. It is in memory of ours, so that a reset by the driver need not
 *       wait: what comes back after one goes to nobody.                                                  [rng_done]
 * Enter at rng_notify(). Virtual I/O Device (VIRTIO) 1.2, 5.4. */
#include "core/iov.h"
#include "core/rngdev.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>

struct virtio_rng {
    struct virtio *v;
    const struct rngdev *source;
    struct rngdev_req req;
    struct vchain chain;  /* whose it is */
    bool under_way, lost; /* lost: the driver has reset the device since */
};

static void rng_notify(void *dev, unsigned queue)
{
    struct virtio_rng *r = dev;

    while (!r->under_way && virtio_pop(r->v, queue, &r->chain)) {
        if (!r->chain.in_len) {
            virtio_push(r->v, queue, &r->chain, 0);
            continue;
        }
        r->req.wanted = r->chain.in_len < RNGDEV_MAX ? r->chain.in_len : RNGDEV_MAX; /* 5.4.6.2: it may be fewer */
        r->under_way = true;
        rngdev_submit(r->source, &r->req);
    }
}

static void rng_done(struct rngdev_req *req)
{
    struct virtio_rng *r = req->arg;
    const bool lost = r->lost;

    r->under_way = r->lost = false;
    if (!lost) {
        if (req->got) iov_write(vchain_in(&r->chain), r->chain.nin, 0, req->buf, req->got);
        if (req->got) virtio_push(r->v, 0, &r->chain, req->got);
        else virtio_break(r->v); /* 5.4.6.2: one byte at least */
    }
    rng_notify(r, 0);
}

static void rng_reset(void *dev)
{
    struct virtio_rng *r = dev;
    r->lost = r->under_way;
}

int virtio_rng_new(struct virtio_rng **out, struct bus *bus, struct pci *p, u8 slot, const struct rngdev *source)
{
    static const struct virtio_ops ops = { .notify = rng_notify, .reset = rng_reset };
    struct virtio_rng *r = calloc(1, sizeof *r);
    int err;

    if (!r) return -ENOMEM;
    r->source = source;
    r->req.done = rng_done;
    r->req.arg = r;
    const struct virtio_desc d = {
        .slot = slot,
        .type = 4,
        .class_code = 0, /* none of the classes there were */
        .subclass = 0xff,
        .name = "virtio-rng",
        .queues = 1,
        .ops = &ops,
        .dev = r,
    };
    err = virtio_new(&r->v, bus, p, &d);
    if (err) {
        free(r);
        return err;
    }
    *out = r;
    return 0;
}

void virtio_rng_free(struct virtio_rng *r)
{
    if (!r) return;
    virtio_free(r->v);
    free(r);
}

struct snap_part virtio_rng_part(struct virtio_rng *r) { return virtio_part(r->v); }
