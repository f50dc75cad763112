/* Owns how frames of one TCP stream become one packet (RFC 9293, 791): what a card takes that is told of large packets.
 *   I1  What has been put together is what the frames have said: one stream, in order, without a gap, the same in all
 *       that a header says but lengths, numbers and checksums.                                       [netdev_merge_add]
 * Enter at netdev_merge_add(). */
#include "src/back/netdev.h"

#include <string.h>

enum { IP = NETDEV_FRAME_MIN, IP_LEN = 20, TCP = IP + IP_LEN, TCP_MIN = 20 };
enum { IP_LENGTH = IP + 2, IP_FRAGMENT = IP + 6, IP_TTL = IP + 8, IP_PROTOCOL = IP + 9, IP_FROM = IP + 12 };
enum {
    SEQ = TCP + 4,
    ACK_NUMBER = TCP + 8,
    OFFSET = TCP + 12,
    FLAGS = TCP + 13,
    WINDOW = TCP + 14,
    OPTIONS = TCP + 20
};
enum { ACK = 0x10, PSH = 0x08, PROTOCOL_TCP = 6 };

static u16 be16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static u32 be32(const u8 *p) { return (u32)be16(p) << 16 | be16(p + 2); }

/* Bytes before the data; 0: it is nothing that is put together. */
static size_t header_of(const u8 *f, size_t n)
{
    if (n < TCP + TCP_MIN || be16(f + 12) != 0x0800 || f[IP] != 0x45 || f[IP_PROTOCOL] != PROTOCOL_TCP) return 0;
    const size_t header = TCP + (f[OFFSET] >> 4) * 4u;
    if (be16(f + IP_LENGTH) != n - IP || (be16(f + IP_FRAGMENT) & 0x3fff) || f[OFFSET] & 15) return 0;
    if ((f[FLAGS] & ~PSH) != ACK || header < TCP + TCP_MIN || header >= n) return 0;
    return header;
}

bool netdev_merge_begin(struct netdev_merge *m, const u8 *frame, size_t n)
{
    const size_t header = header_of(frame, n);
    m->len = 0;
    if (!header) return false;
    m->part = (u16)(n - header);
    m->next = be32(frame + SEQ) + m->part;
    m->ended = frame[FLAGS] & PSH;
    return true;
}

/* The same in all that is not of the single frame. */
static bool is_of_stream(const u8 *a, const u8 *b, size_t header)
{
    return !memcmp(a, b, IP_LENGTH) && !memcmp(a + IP_FRAGMENT, b + IP_FRAGMENT, IP_TTL + 2 - IP_FRAGMENT)
           && !memcmp(a + IP_FROM, b + IP_FROM, SEQ - IP_FROM) && !memcmp(a + ACK_NUMBER, b + ACK_NUMBER, 4)
           && a[OFFSET] == b[OFFSET] && !memcmp(a + WINDOW, b + WINDOW, 2)
           && !memcmp(a + OPTIONS, b + OPTIONS, header - OPTIONS);
}

bool netdev_merge_add(struct netdev_merge *m, const struct frame *first, const struct frame *next)
{
    const size_t header = header_of(next->data, next->len), n = next->len - header;
    const size_t have = m->len ? m->len : first->len;
    if (!header || m->ended || n > m->part || have + n > NETDEV_LARGE_MAX || be32(next->data + SEQ) != m->next)
        return false;
    if (!is_of_stream(first->data, next->data, header)) return false;
    if (!m->packet && !(m->packet = malloc(NETDEV_LARGE_MAX))) return false;
    if (!m->len) memcpy(m->packet, first->data, first->len);
    memcpy(m->packet + have, next->data + header, n);
    m->packet[FLAGS] |= next->data[FLAGS] & PSH;
    m->len = have + n;
    m->next += (u32)n;
    m->ended = n < m->part || (next->data[FLAGS] & PSH);
    return true;
}
