/* Owns the headers of what is cut: RFC 791, 768, 9293, 8200. Enter at segment_send(). */
#include "src/dev/net/segment.h"

#include <string.h>

enum { IP4_MIN = 20, IP6 = 40, TCP_MIN = 20, UDP = 8 };
enum { IP4_LENGTH = 2, IP4_ID = 4, IP4_PROTOCOL = 9, IP4_SUM = 10, IP4_FROM = 12, IP6_LENGTH = 4, IP6_FROM = 8 };
enum { TCP_SEQ = 4, TCP_FLAGS = 13, TCP_SUM = 16, UDP_LENGTH = 4, UDP_SUM = 6 };
enum { FIN = 0x01, PSH = 0x08, CWR = 0x80, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

static u16 be16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static u32 be32(const u8 *p) { return (u32)be16(p) << 16 | be16(p + 2); }
static void put_be16(u8 *p, u16 v)
{
    p[0] = v >> 8;
    p[1] = (u8)v;
}

u64 inet_sum(u64 sum, const u8 *p, size_t n)
{
    u64 odd = 0;

    for (; n >= 16; p += 16, n -= 16) {
        u64 v[2];

        memcpy(v, p, sizeof v);
        sum += (v[0] & 0xffffffff) + (v[1] & 0xffffffff);
        odd += (v[0] >> 32) + (v[1] >> 32);
    }
    sum += odd;
    for (; n >= 4; p += 4, n -= 4) {
        u32 v;

        memcpy(&v, p, 4);
        sum += v;
    }
    for (unsigned i = 0; i < n; i++) sum += (u64)p[i] << 8 * i;
    return sum;
}

/* The sum is of words with their low byte first: so is the checksum, in memory. */
u16 inet_fold(u64 sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (u16)~sum;
}

static void put_sum(u8 *p, u64 sum)
{
    u16 v = inet_fold(sum);

    memcpy(p, &v, 2);
}

bool inet_insert(u8 *packet, size_t len, size_t from, size_t end, size_t place)
{
    if (end > len) end = len;
    if (from >= end || place + 2 > len) return false;
    put_sum(packet + place, inet_sum(0, packet + from, end - from));
    return true;
}

size_t inet_network(const u8 *frame, size_t len)
{
    enum { TYPE = 12, TAGGED = 0x8100, TAG = 4 };

    return len >= NETDEV_FRAME_MIN && be16(frame + TYPE) == TAGGED ? NETDEV_FRAME_MIN + TAG : NETDEV_FRAME_MIN;
}

bool inet_is_valid(const u8 *frame, size_t len)
{
    enum { IP4 = 0x0800, FRAGMENT = 6 };
    size_t at = inet_network(frame, len);
    const u8 *ip = frame + at;

    if (len < at + IP4_MIN || be16(ip - 2) != IP4 || ip[0] >> 4 != 4) return false;
    size_t header = (ip[0] & 15) * 4u, total = be16(ip + IP4_LENGTH), n;
    const u8 protocol = ip[IP4_PROTOCOL], *l4 = ip + header;
    if (header < IP4_MIN || total < header || at + total > len || (be16(ip + FRAGMENT) & 0x3fff)) return false;
    n = total - header;
    if (protocol == PROTOCOL_TCP ? n < TCP_MIN : protocol != PROTOCOL_UDP || n < UDP || !be16(l4 + UDP_SUM))
        return false;
    const u8 pseudo[4] = { 0, protocol, (u8)(n >> 8), (u8)n };
    return !inet_fold(inet_sum(0, ip, header))
           && !inet_fold(inet_sum(inet_sum(inet_sum(0, ip + IP4_FROM, 8), pseudo, 4), l4, n));
}

/* Part number i of a packet, whose headers are in frame already; n bytes of data follow them. */
static void headers_fix(u8 *frame, const struct segment *s, size_t done, size_t n, unsigned i, bool last)
{
    u8 *ip = frame + s->network, *l4 = frame + s->transport;
    size_t l4_len = s->header - s->transport + n;
    u8 pseudo[4] = { 0, s->udp ? PROTOCOL_UDP : PROTOCOL_TCP };
    u8 *sum = l4 + (s->udp ? UDP_SUM : TCP_SUM);
    u64 add;

    put_be16(pseudo + 2, (u16)l4_len);
    if (s->v6) {
        put_be16(ip + IP6_LENGTH, (u16)(s->header - s->network - IP6 + n));
        add = inet_sum(0, ip + IP6_FROM, 32);
    } else {
        put_be16(ip + IP4_LENGTH, (u16)(s->header - s->network + n));
        put_be16(ip + IP4_ID, (u16)(be16(ip + IP4_ID) + i));
        memset(ip + IP4_SUM, 0, 2);
        put_sum(ip + IP4_SUM, inet_sum(0, ip, s->transport - s->network));
        add = inet_sum(0, ip + IP4_FROM, 8);
    }
    if (s->udp) {
        put_be16(l4 + UDP_LENGTH, (u16)l4_len);
    } else {
        u32 seq = be32(l4 + TCP_SEQ) + (u32)done;

        put_be16(l4 + TCP_SEQ, seq >> 16);
        put_be16(l4 + TCP_SEQ + 2, (u16)seq);
        if (!last) l4[TCP_FLAGS] &= (u8) ~(FIN | PSH);
        if (i) l4[TCP_FLAGS] &= (u8)~CWR;
    }
    memset(sum, 0, 2);
    put_sum(sum, inet_sum(inet_sum(add, pseudo, 4), l4, l4_len));
}

/* In one piece, if that is taken. */
static bool send_whole(u8 *packet, size_t len, const struct segment *s, struct netdev *to)
{
    if (!to->sends_large || s->v6 || s->udp || s->network != NETDEV_FRAME_MIN || len > NETDEV_LARGE_MAX) return false;
    headers_fix(packet, s, 0, len - s->header, 0, true);
    netdev_send(to, packet, len);
    return true;
}

void segment_join(u8 *packet, size_t len)
{
    u8 *ip = packet + NETDEV_FRAME_MIN;
    const size_t header = (ip[0] & 15) * 4u, n = len - NETDEV_FRAME_MIN;
    const u8 pseudo[4] = { 0, PROTOCOL_TCP, (u8)((n - header) >> 8), (u8)(n - header) };
    u16 sum;

    put_be16(ip + IP4_LENGTH, (u16)n);
    memset(ip + IP4_SUM, 0, 2);
    put_sum(ip + IP4_SUM, inet_sum(0, ip, header));
    sum = (u16)~inet_fold(inet_sum(inet_sum(0, ip + IP4_FROM, 8), pseudo, 4));
    memcpy(ip + header + TCP_SUM, &sum, 2);
}

unsigned segment_send(u8 *packet, size_t len, const struct segment *s, struct netdev *to)
{
    const size_t l3_min = s->v6 ? IP6 : IP4_MIN, l4_min = s->udp ? UDP : TCP_MIN;
    u8 frame[NETDEV_FRAME_MAX];
    unsigned i = 0;

    if (s->network < NETDEV_FRAME_MIN || s->transport < s->network + l3_min || s->header < s->transport + l4_min
        || s->header > len || !s->size || s->header + s->size > sizeof frame)
        return 0;
    size_t done = 0, all = len - s->header;
    if (all > s->size && send_whole(packet, len, s, to)) return (unsigned)segment_count(s, all);
    do {
        size_t n = all - done < s->size ? all - done : s->size;

        memcpy(frame, packet, s->header);
        memcpy(frame + s->header, packet + s->header + done, n);
        headers_fix(frame, s, done, n, i++, done + n == all);
        netdev_send(to, frame, s->header + n);
        done += n;
    } while (done < all);
    return i;
}
