/* Checksums of the internet, and large packets cut into frames: what cards do for drivers that leave it to them. */
#ifndef SRC_DEV_NET_SEGMENT_H
#define SRC_DEV_NET_SEGMENT_H
#include "src/dev/net/ether.h"

#define SEGMENT_PACKET_MAX (65536u + 256u) /* bytes of a packet that is to be cut */

/* RFC 1071: the sum of p as 16-bit words, added to `sum`; not folded. */
u64 inet_sum(u64 sum, const u8 *p, size_t n);
u16 inet_fold(u64 sum); /* the checksum, complemented */
/* Puts the checksum of bytes from..end into place, two bytes. false: they are not there. */
bool inet_insert(u8 *packet, size_t len, size_t from, size_t end, size_t place);

/* Where IP begins in a frame, behind a tag if there is one. */
size_t inet_network(const u8 *frame, size_t len);
/* A TCP or UDP packet of IPv4, whole, whose checksums are both right. */
bool inet_is_valid(const u8 *frame, size_t len);

struct segment {
    size_t network, transport, header; /* offsets: of IP, of TCP or UDP, of the data */
    u16 size;                          /* bytes of data in a frame, at most */
    bool v6, udp;
};
/* Cuts a packet into frames; each is a whole one with lengths, numbers and checksums of its own. Whatever offsets and
 * sizes are, nothing outside of the packet is touched; what makes no frame is not sent. Returns how many were. Where
 * `to` takes it in one piece it goes so, with its headers made in place. */
unsigned segment_send(u8 *packet, size_t len, const struct segment *s, struct netdev *to);
/* The frames that n bytes of data are cut into. */
static inline size_t segment_count(const struct segment *s, size_t n) { return n ? (n + s->size - 1) / s->size : 1; }
/* The headers of frames of TCP over IPv4 that have been put together: lengths, IP's checksum, and in place of TCP's the
 * sum of its pseudo header. */
void segment_join(u8 *packet, size_t len);

#endif
