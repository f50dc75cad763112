/* A network, as the card in front of it sees it: whole Ethernet frames, without preamble and checksum.
 * All of it runs on the vCPU thread. What waits is the back end's own thread (src/back/netdev.h). */
#ifndef CORE_NETDEV_H
#define CORE_NETDEV_H
#include "core/types.h"

#define NETDEV_FRAME_MIN 14u    /* bytes: the header */
#define NETDEV_FRAME_MAX 1518u  /* 1500, the header, a VLAN tag */
#define NETDEV_LARGE_MAX 65549u /* the header, and a packet of IPv4 as long as there are */

struct netdev_ops {
    void (*send)(void *be, const u8 *frame, size_t n); /* copies it; never waits. What does not fit is dropped */
    void (*ready)(void *be);                           /* the card has room again: what waits for it may come */
};
/* What a card does that takes the data of several frames of a TCP stream as one packet. */
struct netdev_large {
    bool (*takes)(void *fe); /* now, by what its driver has agreed to */
    /* As receive(), with `part` bytes of data of each frame but the last. Headers are those of the first frame: lengths
     * and checksums are the card's to make. */
    bool (*receive)(void *fe, const u8 *packet, size_t n, u16 part);
};
struct netdev {
    const struct netdev_ops *ops;
    void *be;
    bool sends_large; /* set by the back end: send() takes TCP over IPv4, without a tag, up to NETDEV_LARGE_MAX */
    /* Set by the card. false: it has no room, and will say netdev_ready(); the frame is offered again then. */
    bool (*receive)(void *fe, const u8 *frame, size_t n);
    const struct netdev_large *large; /* NULL: frames alone */
    void *fe;
};
static inline void netdev_send(struct netdev *d, const u8 *frame, size_t n) { d->ops->send(d->be, frame, n); }
static inline void netdev_ready(struct netdev *d) { d->ops->ready(d->be); }

#endif
