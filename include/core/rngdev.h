/* Where random numbers come from, as the chip in front sees it: a source that takes its time. The chip submits a
 * request and goes on; done() is called later, never from within rngdev_submit(). All of it runs on the vCPU thread,
 * done() too; what reads is the back end's own thread (src/back/entropy.c). */
#ifndef CORE_RNGDEV_H
#define CORE_RNGDEV_H
#include "core/job.h"
#include "core/types.h"

#define RNGDEV_MAX 4096u /* bytes in one request */

/* The chip owns it, and leaves it alone until done(). */
struct rngdev_req {
    u32 wanted; /* bytes, 1 to RNGDEV_MAX */
    u32 got;    /* 0: the source has failed */
    u8 buf[RNGDEV_MAX];
    void (*done)(struct rngdev_req *r);
    void *arg; /* the chip's */

    struct job job; /* the back end's */
};
struct rngdev {
    void (*submit)(void *be, struct rngdev_req *r);
    void *be;
};
static inline void rngdev_submit(const struct rngdev *d, struct rngdev_req *r) { d->submit(d->be, r); }

#endif
