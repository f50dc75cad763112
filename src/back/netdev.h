/* Networks outside of the machine.
 *
 * Threads. A back end has a thread of its own, which does all that waits or asks the host. The vCPU thread puts frames
 * into one bounded queue and takes them from another, and shares nothing else with it. What does not fit is dropped, as
 * on a wire, and counted. */
#ifndef SRC_NETDEV_H
#define SRC_NETDEV_H
#include "core/netdev.h"
#include "transvisor/vm.h"

/* Called on the back end's own thread: frames wait, arrange for netdev_deliver() on the vCPU thread, soon. */
struct netdev_host {
    void (*wake)(void *arg);
    void *arg;
};

/* A network of the process's own, 10.0.2.0/24, which reaches the host's (libslirp): 10.0.2.2 is the host, with its
 * loopback, 10.0.2.3 answers to DNS, 10.0.2.15 is given to the guest by DHCP. */
#define NETDEV_FORWARDS_MAX 16u
struct netdev_user_config {
    bool restricted;                          /* the guest reaches nothing outside, only what is forwarded comes in */
    const char *forward[NETDEV_FORWARDS_MAX]; /* PROTOCOL:[ADDRESS]:PORT-[GUEST]:PORT */
    unsigned forwards;
};
MUST_CHECK int netdev_user_open(struct netdev **out, const struct netdev_user_config *cfg,
                                const struct netdev_host *host, struct vm_error *err);
void netdev_user_close(struct netdev *d); /* copes with NULL; host is not called any more */
/* On the vCPU thread: hands over what has come in, as far as the card takes it. */
void netdev_user_deliver(struct netdev *d);
u64 netdev_user_dropped(struct netdev *d); /* frames, both ways */

/* ---- frame_queue.c: frames in order, up to a number of bytes; the caller locks ---- */

struct frame {
    struct frame *next;
    size_t len;
    u8 data[];
};
struct frame_queue {
    struct frame *first, **last;
    size_t bytes, max;
};
void frame_queue_init(struct frame_queue *q, size_t max);
void frame_queue_free(struct frame_queue *q);
bool frame_queue_put(struct frame_queue *q, const void *data, size_t n); /* false: there is no room, or no memory */
struct frame *frame_queue_take(struct frame_queue *q);                   /* the caller's to free; NULL: it is empty */

#endif
