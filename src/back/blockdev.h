/* Disks made of images. An image is a table of calls that may wait; a thread makes them, one after another, so that
 * nothing that waits runs on the vCPU thread. */
#ifndef SRC_BLOCKDEV_H
#define SRC_BLOCKDEV_H
#include "core/blockdev.h"
#include "core/thread.h"

/* Called on the disk's own thread, one at a time. Each does all of it, or returns -errno. */
struct block_image_ops {
    int (*read)(void *image, u64 offset, const struct iovec *iov, unsigned niov);
    int (*write)(void *image, u64 offset, const struct iovec *iov, unsigned niov);
    int (*flush)(void *image);
    int (*zero)(void *image, u64 offset, u64 len);
    int (*discard)(void *image, u64 offset, u64 len); /* NULL: it is as if nobody had asked */
};

/* What is in a drive. ops NULL: nothing, and every request fails. */
struct blockdev_medium {
    const struct block_image_ops *ops;
    void *image; /* borrowed: outlives its stay */
    u64 size;    /* bytes, a multiple of BLOCKDEV_SECTOR */
    bool readonly, write_through;
};

struct blockdev_host {
    /* Called on the disk's own thread: requests are done, arrange for blockdev_complete() on the vCPU thread, soon. */
    void (*wake)(void *arg);
    /* On the vCPU thread: one has been submitted, and may be done within ns. NULL: nobody wants to know. */
    void (*asked)(void *arg, u64 ns);
    void *arg;
    /* A request has failed at the image; on the vCPU thread. True: it is held, and done() waits for blockdev_retry().
     * NULL: none is. */
    bool (*hold)(void *arg, bool write, int err);
    void *hold_arg;
};

/* role: its thread's, THREAD_DISK or THREAD_NBD. 0 or -errno. */
MUST_CHECK int blockdev_new(struct blockdev **out, const struct blockdev_medium *medium, enum thread_role role,
                            const struct blockdev_host *host);
/* Waits for the call that is under way; the rest is dropped, and done() is called for nothing any more. Copes with
 * NULL. Whoever must not lose a write drains first. */
void blockdev_free(struct blockdev *d);
/* Whether there are requests that are held. Those: once more, in their order; or done() with what they failed of. */
bool blockdev_holds(const struct blockdev *d);
void blockdev_retry(struct blockdev *d);
void blockdev_give_up(struct blockdev *d);
/* Another medium takes its place. Nothing is under way (blockdev_drain()). */
void blockdev_change(struct blockdev *d, const struct blockdev_medium *medium);
/* Calls done() for all that is done. On the vCPU thread. */
void blockdev_complete(struct blockdev *d);
/* Waits until nothing is under way, and completes it: before a save, a reset, the end. What done() submits, too. */
void blockdev_drain(struct blockdev *d);

#endif
