/* What Ethernet cards have in common: the checksum of frames, the filters made of it, the shortest frame. */
#ifndef SRC_DEV_NET_ETHER_H
#define SRC_DEV_NET_ETHER_H
#include "core/netdev.h"

#define ETHER_ADDRESS 6u
#define ETHER_FCS 4u                             /* bytes of the checksum behind a frame */
#define ETHER_MIN 60u                            /* bytes: what is shorter is padded on its way to the wire */
#define ETHER_BUF (NETDEV_FRAME_MAX + ETHER_FCS) /* a whole frame with its checksum */

/* The checksum of n bytes; its low byte goes first. */
u32 ether_fcs(const u8 *p, size_t n);
/* Bit of a filter of 64 that a group's address selects: the six bits that end up highest in the register of the
 * checksum. lsb: in that of a card that shifts it to the right (Am79C97x), as it is sent; else to the left (DP8390,
 * RTL8139). */
unsigned ether_hash(const u8 address[ETHER_ADDRESS], bool lsb);
static inline bool ether_is_group(const u8 *frame) { return frame[0] & 1; }
bool ether_is_broadcast(const u8 *frame);
/* The frame as it is on the wire: at least ETHER_MIN bytes, and its checksum behind it. Returns the bytes of both.
 * len: up to NETDEV_FRAME_MAX. */
size_t ether_wire(u8 out[ETHER_BUF], const u8 *frame, size_t len);

#endif
