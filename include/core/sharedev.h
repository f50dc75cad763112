/* A folder of the host's, as the chip in front of it sees it: messages of the 9P protocol that take their time. The
 * chip submits one and goes on; done() is called later, never from within sharedev_submit().
 * All of it runs on the vCPU thread, done() too. What waits is the back end's own thread (src/back/share.c). */
#ifndef CORE_SHAREDEV_H
#define CORE_SHAREDEV_H
#include "core/job.h"
#include "core/types.h"

#include <sys/uio.h>

#define SHARE_TAG_MAX 32u /* bytes */

/* One message. The chip owns it and what it points to, and leaves both alone until done(). */
struct sharedev_req {
    const struct iovec *out, *in; /* the message, and room for its answer; the guest may change it at any time */
    unsigned nout, nin;
    u32 out_len, in_len; /* bytes */
    u32 written;         /* of the answer; 0: there was no room for any, or no message that one could answer */
    void (*done)(struct sharedev_req *r);
    void *arg; /* the chip's */

    struct job job; /* the back end's */
};

struct byte_queue;
struct sharedev_ops {
    void (*submit)(void *be, struct sharedev_req *r);
    void (*settle)(void *be);
    void (*reset)(void *be);
    void (*save)(void *be, struct byte_queue *to);
    void (*load)(void *be, const struct byte_queue *from);
};
struct sharedev {
    const struct sharedev_ops *ops;
    void *be;
    char tag[SHARE_TAG_MAX + 1]; /* the name that guests mount it by */
};

/* Messages are answered in the order in which they were submitted. */
static inline void sharedev_submit(struct sharedev *d, struct sharedev_req *r) { d->ops->submit(d->be, r); }
/* Waits for a moment for what has been submitted: what is answered by then has its done() called from within. For when
 * a chip has submitted all that there is; not from within done(). */
static inline void sharedev_settle(struct sharedev *d) { d->ops->settle(d->be); }
/* The guest has forgotten what it had open. */
static inline void sharedev_reset(struct sharedev *d) { d->ops->reset(d->be); }
/* What the guest has open, as bytes, and back; nothing is under way. What is not there any more, or bytes that make no
 * sense, are files whose use fails. Without memory the bytes are none. */
static inline void sharedev_save(struct sharedev *d, struct byte_queue *to) { d->ops->save(d->be, to); }
static inline void sharedev_load(struct sharedev *d, const struct byte_queue *from) { d->ops->load(d->be, from); }
#define SHARE_STATE_MAX (4u << 20) /* bytes */

#endif
