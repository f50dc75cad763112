/* A network, as the card in front of it sees it: whole Ethernet frames, without preamble and checksum.
 * All of it runs on the vCPU thread. What waits is the back end's own thread (src/back/netdev.h). */
#ifndef CORE_NETDEV_H
#define CORE_NETDEV_H
#include "core/types.h"

#define NETDEV_FRAME_MIN 14u   /* bytes: the header */
#define NETDEV_FRAME_MAX 1518u /* 1500, the header, a VLAN tag */

struct netdev_ops {
    void (*send)(void *be, const u8 *frame, size_t n); /* copies it; never waits. What does not fit is dropped */
    void (*ready)(void *be);                           /* the card has room again: what waits for it may come */
};
struct netdev {
    const struct netdev_ops *ops;
    void *be;
    /* Set by the card. false: it has no room, and will say netdev_ready(); the frame is offered again then. */
    bool (*receive)(void *fe, const u8 *frame, size_t n);
    void *fe;
};
static inline void netdev_send(struct netdev *d, const u8 *frame, size_t n) { d->ops->send(d->be, frame, n); }
static inline void netdev_ready(struct netdev *d) { d->ops->ready(d->be); }

#endif
