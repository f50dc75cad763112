/* A disk, as the chip in front of it sees it: requests that take their time. The chip submits and goes on; done() is
 * called later, never from within blockdev_submit().
 * All of it runs on the vCPU thread, done() too. What waits is the back end's own thread (src/back/blockdev.c). */
#ifndef CORE_BLOCKDEV_H
#define CORE_BLOCKDEV_H
#include "core/job.h"
#include "core/types.h"

#include <sys/uio.h>

#define BLOCKDEV_SECTOR 512u

enum blockdev_op {
    BLOCKDEV_READ,
    BLOCKDEV_WRITE,
    BLOCKDEV_FLUSH,   /* all writes that were done before it was submitted outlive a power cut, once it is done */
    BLOCKDEV_ZERO,    /* the range reads as zeroes from then on */
    BLOCKDEV_DISCARD, /* the range reads as zeroes or as it was: nobody wants it any more. A hint */
};

/* One request. The chip owns it and what it points to, and leaves both alone until done(). */
struct blockdev_req {
    enum blockdev_op op;
    u64 offset, len;         /* bytes, multiples of BLOCKDEV_SECTOR, within the disk; FLUSH: 0 */
    const struct iovec *iov; /* READ, WRITE: len bytes of host memory; bus_sg_map() makes it of a guest's list */
    unsigned niov;
    bool durable; /* WRITE, ZERO: as if a FLUSH came right behind it. Its done() is that one's */
    void (*done)(struct blockdev_req *r, int err); /* 0 or -errno; the request is the chip's again, to be submitted */
    void *arg;                                     /* the chip's */

    /* ---- the back end's ---- */
    struct job job;
    int err;
};

struct blockdev_ops {
    void (*submit)(void *be, struct blockdev_req *r);
};
struct blockdev {
    const struct blockdev_ops *ops;
    void *be;
    u64 size; /* bytes, a multiple of BLOCKDEV_SECTOR */
    bool readonly;
    bool write_through; /* all writes are durable: there is no cache that a guest would have to know of */
};

/* Requests may be done in another order than they were submitted in; one that overlaps another under way may be done
 * before or after it. What does not fit the disk is done with -EINVAL, a write to a read-only one with -EROFS. */
static inline void blockdev_submit(struct blockdev *d, struct blockdev_req *r) { d->ops->submit(d->be, r); }

#endif
