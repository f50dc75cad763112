/* Owns an 82540EM's descriptor rings: legacy, context and data descriptors to send, filters and buffers to receive.
 *   I1  A packet is taken when its last descriptor is before TDT, and then whole; so nothing of one is kept between
 *       two calls but the contexts.                                                            [transmit_one]
 *   I2  A frame for which there is no descriptor waits outside, until the driver moves RDT (NOT-HW: the card drops
 *       it and counts it in MPC or RNBC).                                                      [e1000_receive]
 * Enter at e1000_transmit(), e1000_receive(). Intel 317453, chapter 3. */
#include "src/dev/net/e1000_priv.h"

#include <string.h>

/* clang-format off */
enum { DESC = 16 };
/* Command, and status of what is sent. */
enum { CMD_EOP = 1, CMD_IFCS = 2, CMD_IC = 4, CMD_TSE = 4, CMD_RS = 8, CMD_DEXT = 0x20,
       CMD_VLE = 0x40, CMD_IDE = 0x80 };
enum { OPTION_IP = 1, OPTION_L4 = 2, TYPE_DATA = 1, STATUS_DD = 1, TUCMD_TCP = 1, TUCMD_IP4 = 2 };
/* Status and errors of what is received. */
enum { RX_DD = 1, RX_EOP = 2, RX_IXSM = 4, RX_VP = 8, RX_TCPCS = 0x20, RX_IPCS = 0x40, RX_PIF = 0x80 };
enum { RX_TCPE = 0x20, RX_IPE = 0x40 };
enum { IPOFL = 0x100, TUOFL = 0x200 };
enum { TAG = 4 };
/* clang-format on */
#define RAH_VALID 0x80000000u
#define NS_OF_DELAY 1024u

static u16 get16(const u8 *b) { return (u16)(b[0] | b[1] << 8); }
static u32 get32(const u8 *b) { return get16(b) | (u32)get16(b + 2) << 16; }
static u64 get64(const u8 *b) { return get32(b) | (u64)get32(b + 4) << 32; }
static u16 be16(const u8 *b) { return (u16)(b[0] << 8 | b[1]); }

/* ---- counters ---- */

static void count(struct e1000 *e, u32 at, u32 n)
{
    u32 *r = e1000_reg(e, at);

    *r = *r + n < *r ? ~0u : *r + n;
}

static void count64(struct e1000 *e, u32 at, u32 n)
{
    u64 v = (e1000_get(e, at) | (u64)e1000_get(e, at + 4) << 32) + n;

    *e1000_reg(e, at) = (u32)v;
    *e1000_reg(e, at + 4) = (u32)(v >> 32);
}

/* The counter of frames of such a length, checksum included, among six. */
static u32 bin(u32 first, size_t len)
{
    static const u16 up_to[] = { 64, 127, 255, 511, 1023 };
    unsigned i = 0;

    while (i < ARRAY_LEN(up_to) && len > up_to[i]) i++;
    return first + 4 * i;
}

static void count_frame(struct e1000 *e, const u8 *frame, size_t len, bool in)
{
    size_t n = (len < ETHER_MIN ? ETHER_MIN : len) + ETHER_FCS;

    count(e, in ? GPRC : GPTC, 1);
    count(e, in ? TPR : TPT, 1);
    count64(e, in ? GORC : GOTC, (u32)n);
    count64(e, in ? TOR : TOT, (u32)n);
    count(e, bin(in ? PRC64 : PTC64, n), 1);
    if (ether_is_broadcast(frame)) count(e, in ? BPRC : BPTC, 1);
    else if (ether_is_group(frame)) count(e, in ? MPRC : MPTC, 1);
}

/* ---- to the network ---- */

static paddr ring_at(const struct e1000 *e, u32 base, u32 i)
{
    return ((e1000_get(e, base) & ~15u) | (paddr)e1000_get(e, base + 4) << 32) + (paddr)i * DESC;
}

static bool is_looped(const struct e1000 *e)
{
    enum { PHY_LOOPBACK = 0x4000 };

    return (e1000_get(e, RCTL) & RCTL_LBM) || (e->phy[0] & PHY_LOOPBACK);
}

static bool take_in(struct e1000 *e, const u8 *frame, size_t len);

/* What is sent, one frame at a time, passes by here: to count it, and to turn it around in loopback. */
static void on_frame(void *card, const u8 *frame, size_t n)
{
    struct e1000 *e = card;

    if (n < NETDEV_FRAME_MIN || n > NETDEV_FRAME_MAX) return;
    count_frame(e, frame, n, false);
    if (is_looped(e)) (void)take_in(e, frame, n);
    else netdev_send(e->net, frame, n);
}

/* What goes in one piece counts as the frames that it is. */
static void on_packet(void *card, const u8 *packet, size_t n)
{
    struct e1000 *e = card;
    const struct e1000_context *c = &e->context[1];

    if (n <= NETDEV_FRAME_MAX) {
        on_frame(card, packet, n);
        return;
    }
    for (size_t done = c->header; done < n; done += c->size)
        count_frame(e, packet, c->header + (n - done < c->size ? n - done : c->size), false);
    netdev_send(e->net, packet, n);
}

static void context_set(struct e1000 *e, const u8 *d)
{
    u8 command = d[11];
    struct e1000_context *c = &e->context[!!(command & CMD_TSE)];

    *c = (struct e1000_context){
        .ip_start = d[0],
        .ip_place = d[1],
        .ip_end = get16(d + 2),
        .l4_start = d[4],
        .l4_place = d[5],
        .l4_end = get16(d + 6),
        .header = d[13],
        .size = get16(d + 14),
        .tcp = command & TUCMD_TCP,
        .ip4 = command & TUCMD_IP4,
    };
}

static size_t end_of(u16 inclusive) { return inclusive ? (size_t)inclusive + 1 : SIZE_MAX; }

/* CTRL.VME and the descriptor's VLE: a tag goes in behind the addresses. */
static size_t tag_insert(const struct e1000 *e, u8 *p, size_t len, u16 tag)
{
    const u16 type = (u16)e1000_get(e, VET);

    if (len < NETDEV_FRAME_MIN || len + TAG > SEGMENT_PACKET_MAX) return len;
    memmove(p + 12 + TAG, p + 12, len - 12);
    p[12] = type >> 8;
    p[13] = (u8)type;
    p[14] = tag >> 8;
    p[15] = (u8)tag;
    return len + TAG;
}

/* A packet whose descriptors have been gathered: first and last of them say what is to be done. */
static void packet_send(struct e1000 *e, size_t len, const u8 *first, const u8 *last)
{
    static const struct netdev_ops ops = { .send = on_packet };
    struct netdev out = { .ops = &ops, .be = e, .sends_large = e->net->sends_large && !is_looped(e) };
    u8 *p = e->packet, command = last[11], options = first[13];
    bool data = command & CMD_DEXT, cut = data && (first[11] & CMD_TSE);
    const struct e1000_context *c = &e->context[cut];
    struct segment s = { c->ip_start, c->l4_start, c->header, c->size, !c->ip4, !c->tcp };

    if (!data && (command & CMD_IC)) (void)inet_insert(p, len, last[13], SIZE_MAX, last[10]);
    if (data && !cut && (options & OPTION_L4)) (void)inet_insert(p, len, c->l4_start, end_of(c->l4_end), c->l4_place);
    if (data && !cut && (options & OPTION_IP)) (void)inet_insert(p, len, c->ip_start, end_of(c->ip_end), c->ip_place);
    if ((command & CMD_VLE) && (e1000_get(e, CTRL) & CTRL_VME)) {
        len = tag_insert(e, p, len, get16(last + 14));
        s.network += TAG;
        s.transport += TAG;
        s.header += TAG;
    }
    if (cut) (void)segment_send(p, len, &s, &out);
    else on_frame(e, p, len);
}

static bool is_context(const u8 *d) { return (d[11] & CMD_DEXT) && !(d[10] >> 4); }
static u32 length_of(const u8 *d) { return d[11] & CMD_DEXT ? get32(d + 8) & 0xfffff : get16(d + 8); }

/* RS: the driver wants to see that it is done. Returns what is to be told by an interrupt. */
static u32 give_back(struct e1000 *e, u32 i, const u8 *d)
{
    u8 status = d[12] | STATUS_DD;

    if (!(d[11] & CMD_RS)) return 0;
    (void)bus_dma_write(e->bus, ring_at(e, TDBAL, i) + 12, &status, 1);
    if (!(d[11] & CMD_IDE) || !(e1000_get(e, TIDV) & 0xffff)) return INT_TXDW;
    if (!e->tx_delay.armed)
        timer_arm(&e->tx_delay, clock_now(e->clk) + (u64)(e1000_get(e, TIDV) & 0xffff) * NS_OF_DELAY);
    return 0;
}

/* The next packet or context, of n descriptors in all. 0: not all of one is there; else how many it took. */
static u32 transmit_one(struct e1000 *e, u32 n, u32 *causes)
{
    u32 head = e1000_get(e, TDH), tail = e1000_get(e, TDT), taken = 0, i;
    u8 d[DESC], first[DESC];
    size_t len = 0;

    for (i = head; i != tail; i = (i + 1) % n) { /* is all of it there? */
        (void)bus_dma_read(e->bus, ring_at(e, TDBAL, i), d, DESC);
        if (i == head && is_context(d)) {
            context_set(e, d);
            *causes |= give_back(e, i, d);
            return 1;
        }
        if (d[11] & CMD_EOP) break;
    }
    if (i == tail) return 0;
    i = head;
    do {
        (void)bus_dma_read(e->bus, ring_at(e, TDBAL, i), d, DESC);
        if (!taken) memcpy(first, d, DESC);
        size_t room = SEGMENT_PACKET_MAX - len, part = length_of(d);
        if (part > room) part = room;
        (void)bus_dma_read(e->bus, get64(d), e->packet + len, part);
        len += part;
        taken++;
        if (d[11] & CMD_EOP) packet_send(e, len, first, d);
        *causes |= give_back(e, i, d);
        i = (i + 1) % n;
    } while (!(d[11] & CMD_EOP) && taken < n);
    return taken;
}

void e1000_transmit(struct e1000 *e)
{
    enum { TCTL_EN = 2 };
    u32 n = e1000_get(e, TDLEN) / DESC, causes = 0, done = 0;

    if (!(e1000_get(e, TCTL) & TCTL_EN) || !n || !pci_fn_bus_master(e->fn)) return;
    if (e1000_get(e, TDH) >= n || e1000_get(e, TDT) >= n) return; /* no descriptors are there */
    for (u32 k; done < n && (k = transmit_one(e, n, &causes)); done += k)
        *e1000_reg(e, TDH) = (e1000_get(e, TDH) + k) % n;
    if (done && e1000_get(e, TDH) == e1000_get(e, TDT)) causes |= INT_TXQE;
    if (causes) e1000_cause(e, causes);
}

/* ---- from the network: filters ---- */

static bool matches_own(const struct e1000 *e, const u8 *frame)
{
    for (u32 at = RA; at < RA_END; at += 8) {
        u32 high = e1000_get(e, at + 4);

        if ((high & RAH_VALID) && get32(frame) == e1000_get(e, at) && get16(frame + 4) == (high & 0xffff)) return true;
    }
    return false;
}

/* 13.5.1: 12 bits of the address, which RCTL.MO chooses, are the number of a bit in MTA. */
static bool matches_group(const struct e1000 *e, const u8 *frame)
{
    static const u8 shift[4] = { 4, 3, 2, 0 };
    unsigned bit = (unsigned)get16(frame + 4) >> shift[e1000_get(e, RCTL) >> 12 & 3] & 0xfff;

    return e1000_get(e, MTA + 4 * (bit >> 5)) >> (bit & 31) & 1;
}

static bool is_tagged(const struct e1000 *e, const u8 *frame) { return be16(frame + 12) == (u16)e1000_get(e, VET); }

/* In *exact: not by a hash, nor because all are taken. */
static bool accepts(const struct e1000 *e, const u8 *frame, bool *exact)
{
    u32 rctl = e1000_get(e, RCTL);

    if ((rctl & RCTL_VFE) && is_tagged(e, frame)) {
        unsigned id = be16(frame + 14) & 0xfff;

        if (!(e1000_get(e, VFTA + 4 * (id >> 5)) >> (id & 31) & 1)) return false;
    }
    *exact = matches_own(e, frame);
    if (*exact) return true;
    if (ether_is_broadcast(frame)) return rctl & RCTL_BAM;
    if (!ether_is_group(frame)) return rctl & RCTL_UPE;
    return (rctl & RCTL_MPE) || matches_group(e, frame);
}

/* ---- from the network: checksums ---- */

/* RXCSUM: what the card has found out of IP, TCP and UDP; status and errors. IP at `at`. */
static void checksums(const struct e1000 *e, const u8 *p, size_t len, size_t at, u8 *status, u8 *errors)
{
    enum { TCP = 6, UDP = 17 };
    u32 csum = e1000_get(e, RXCSUM);

    *status |= RX_IXSM; /* ignore it */
    if (!(csum & (IPOFL | TUOFL)) || len < at + 20 || be16(p + at - 2) != 0x0800 || p[at] >> 4 != 4) return;
    size_t header = (p[at] & 15) * 4u, total = be16(p + at + 2);
    if (header < 20 || total < header || at + total > len) return;
    *status &= (u8)~RX_IXSM;
    if (csum & IPOFL) {
        *status |= RX_IPCS;
        if (inet_fold(inet_sum(0, p + at, header))) *errors |= RX_IPE;
    }
    const u8 *l4 = p + at + header, protocol = p[at + 9];
    size_t n = total - header;
    bool fragment = be16(p + at + 6) & 0x3fff;
    if (!(csum & TUOFL) || fragment || (protocol != TCP && protocol != UDP) || n < (protocol == TCP ? 20 : 8)) return;
    if (protocol == UDP && !get16(l4 + 6)) return; /* there is none */
    const u8 pseudo[4] = { 0, protocol, (u8)(n >> 8), (u8)n };
    *status |= RX_TCPCS;
    if (inet_fold(inet_sum(inet_sum(inet_sum(0, p + at + 12, 8), pseudo, 4), l4, n))) *errors |= RX_TCPE;
}

/* ---- from the network: the ring ---- */

static u32 buffer_size(const struct e1000 *e)
{
    u32 rctl = e1000_get(e, RCTL), size = 2048u >> (rctl >> 16 & 3);

    return rctl & RCTL_BSEX && size < 2048 ? size * 16 : size;
}

/* RDMT0: as few descriptors are left as RCTL.RDMTS says. */
static bool is_low(const struct e1000 *e, u32 n, u32 free_now, u32 free_before)
{
    u32 threshold = n >> ((e1000_get(e, RCTL) >> 8 & 3) + 1);

    return free_now <= threshold && free_before > threshold;
}

/* false: there are not enough descriptors. */
static bool take_in(struct e1000 *e, const u8 *frame, size_t len)
{
    u8 wire[ETHER_BUF], status = RX_DD, errors = 0, d[DESC];
    u32 n = e1000_get(e, RDLEN) / DESC, head = e1000_get(e, RDH), tail = e1000_get(e, RDT), size = buffer_size(e);
    u16 tag = 0;
    bool exact;

    if (head >= n || tail >= n || !accepts(e, frame, &exact)) return true;
    u32 ready = (tail + n - head) % n;
    size_t total = ether_wire(wire, frame, len), at = NETDEV_FRAME_MIN;
    if (e1000_get(e, RCTL) & RCTL_SECRC) total -= ETHER_FCS;
    if (is_tagged(e, wire)) {
        at += TAG;
        if (e1000_get(e, CTRL) & CTRL_VME) {
            tag = be16(wire + 14);
            status |= RX_VP;
            memmove(wire + 12, wire + 12 + TAG, total - 12 - TAG);
            total -= TAG;
            at -= TAG;
        }
    }
    u32 needed = (u32)((total + size - 1) / size);
    if (needed >= n) return true; /* it never fits */
    if (needed > ready) return false;
    checksums(e, wire, total, at, &status, &errors);
    if (!exact) status |= RX_PIF;
    u8 start = (u8)e1000_get(e, RXCSUM);
    size_t data = len < ETHER_MIN ? ETHER_MIN : len;
    u16 sum = start < data ? (u16)~inet_fold(inet_sum(0, wire + start, data - start)) : 0;
    count_frame(e, frame, len, true);
    for (u32 i = 0; i < needed; i++) {
        paddr place = ring_at(e, RDBAL, (head + i) % n);
        size_t done = (size_t)i * size, part = total - done < size ? total - done : size;
        bool last = i + 1 == needed;

        (void)bus_dma_read(e->bus, place, d, 8);
        (void)bus_dma_write(e->bus, get64(d), wire + done, part);
        const u8 result[8] = {
            (u8)part,          part >> 8 & 0xff, (u8)sum, sum >> 8, (u8)(last ? status | RX_EOP : RX_DD),
            last ? errors : 0, (u8)tag,          tag >> 8
        };
        (void)bus_dma_write(e->bus, place + 8, result, 8);
    }
    *e1000_reg(e, RDH) = (head + needed) % n;
    u32 causes = is_low(e, n, ready - needed, ready) ? INT_RXDMT0 : 0, delay = e1000_get(e, RDTR) & 0xffff;
    if (!delay) causes |= INT_RXT0;
    else if (!e->rx_delay.armed) timer_arm(&e->rx_delay, clock_now(e->clk) + (u64)delay * NS_OF_DELAY);
    if (causes) e1000_cause(e, causes);
    return true;
}

bool e1000_receive(void *fe, const u8 *frame, size_t len)
{
    struct e1000 *e = fe;

    if (!(e1000_get(e, RCTL) & RCTL_EN) || is_looped(e) || !pci_fn_bus_master(e->fn) || len > NETDEV_FRAME_MAX)
        return true; /* nobody listens */
    return take_in(e, frame, len);
}
