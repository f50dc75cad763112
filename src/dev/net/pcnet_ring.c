/* Owns an Am79C973's rings: initialization block, descriptors in their three forms, and the frames they describe.
 *   I1  A frame goes out when all of its descriptors are the chip's, and then whole (NOT-HW: the chip begins with the
 *       first of them, and may run dry).                                                      [transmit_one]
 *   I2  A frame for which there is no descriptor waits outside (NOT-HW: the chip drops it and counts it in CSR112);
 *       the ring is looked at again when the driver touches CSR0 or CSR3, and by a timer. [pcnet_poll]
 *   I3  Nobody is kept for ever: at most BURST descriptors at a time.                         [pcnet_transmit]
 * Enter at pcnet_transmit(), pcnet_receive(). AMD 21510, "Buffer Management". */
#include "src/dev/net/pcnet_priv.h"

#include <string.h>

/* Status bits: the upper half of TMD1 and RMD1. */
/* clang-format off */
enum {
    D_OWN = 0x8000, D_ERR = 0x4000, D_STP = 0x0200, D_ENP = 0x0100,
    T_ADD_FCS = 0x2000, T_LTINT = 0x1000,
    R_BUFF = 0x0400, R_PAM = 0x40, R_LAFM = 0x20, R_BAM = 0x10,
};
/* clang-format on */
#define BURST 512u
#define CHAIN_MAX 64u /* buffers of a frame */
#define POLL_NS 1000000u

struct descriptor {
    paddr at;
    u32 buffer;
    u16 status;
    u16 len; /* bytes of the buffer: 1 to 4096 */
};

static unsigned style(const struct pcnet *p) { return p->bcr[20] & 3; }
static bool is_wide(const struct pcnet *p) { return p->bcr[20] & 0x100; } /* SSIZE32 */
static u32 csr32(const struct pcnet *p, unsigned n) { return p->csr[n] | (u32)p->csr[n + 1] << 16; }
static void csr32_set(struct pcnet *p, unsigned n, u32 v)
{
    p->csr[n] = (u16)v;
    p->csr[n + 1] = v >> 16;
}
static u16 get16(const u8 *b) { return (u16)(b[0] | b[1] << 8); }
static u32 get32(const u8 *b) { return get16(b) | (u32)get16(b + 2) << 16; }
static void put16(u8 *b, u16 v)
{
    b[0] = (u8)v;
    b[1] = v >> 8;
}

/* Where a 16-bit structure's 24-bit addresses lie: CSR2 has the rest. */
static u32 upper(const struct pcnet *p) { return (u32)(p->csr[2] & 0xff00) << 16; }

/* ---- the initialization block ---- */

/* A ring: its base's, length's and counter's CSRs. */
struct ring {
    u8 base, len, counter;
};
static const struct ring rx_ring = { 24, 76, 72 }, tx_ring = { 30, 78, 74 };

static void ring_set(struct pcnet *p, const struct ring *r, u32 base, unsigned log)
{
    csr32_set(p, r->base, base);
    p->csr[r->len] = p->csr[r->counter] = (u16) - (1u << log);
}

void pcnet_init_block(struct pcnet *p)
{
    paddr at = csr32(p, 1);
    u8 b[28];
    const u8 *address, *filter;
    unsigned rx_log, tx_log;
    u32 rx, tx;

    if (!pci_fn_bus_master(p->fn)) return;
    if (is_wide(p)) {
        (void)bus_dma_read(p->bus, at & ~3u, b, 28);
        tx_log = b[3] >> 4;
        rx_log = b[2] >> 4;
        address = b + 4;
        filter = b + 12;
        rx = get32(b + 20);
        tx = get32(b + 24);
        if (tx_log > 9) tx_log = 9;
        if (rx_log > 9) rx_log = 9;
    } else {
        (void)bus_dma_read(p->bus, at & ~1u, b, 24);
        address = b + 2;
        filter = b + 8;
        rx = (get32(b + 16) & 0xffffff) | upper(p);
        tx = (get32(b + 20) & 0xffffff) | upper(p);
        rx_log = b[19] >> 5;
        tx_log = b[23] >> 5;
    }
    p->csr[15] = get16(b);
    for (unsigned i = 0; i < 4; i++) p->csr[8 + i] = get16(filter + 2 * i);
    for (unsigned i = 0; i < 3; i++) p->csr[12 + i] = get16(address + 2 * i);
    ring_set(p, &rx_ring, rx, rx_log);
    ring_set(p, &tx_ring, tx, tx_log);
}

/* ---- descriptors ---- */

/* A length and a counter are two's complements: of the descriptors that there are, and that are left. */
static unsigned ring_len(const struct pcnet *p, const struct ring *r)
{
    unsigned n = (u16)-p->csr[r->len];

    return n ? n : 0x10000;
}

static unsigned log2_of(unsigned n)
{
    unsigned log = 0;

    while (log < 15 && 1u << log < n) log++;
    return log;
}

u16 pcnet_ring_lengths(const struct pcnet *p)
{
    return (u16)(log2_of(ring_len(p, &tx_ring)) << 12 | log2_of(ring_len(p, &rx_ring)) << 8);
}

static void ring_advance(struct pcnet *p, const struct ring *r, unsigned n)
{
    unsigned len = ring_len(p, r), at = (u16)(p->csr[r->counter] - p->csr[r->len]) % len;

    p->csr[r->counter] = (u16)(p->csr[r->len] + (at + n) % len);
}

/* The present descriptor, or the ahead-th after it. */
static struct descriptor fetch(const struct pcnet *p, const struct ring *r, unsigned ahead)
{
    unsigned len = ring_len(p, r), at = ((u16)(p->csr[r->counter] - p->csr[r->len]) + ahead) % len;
    unsigned size = is_wide(p) ? 16 : 8;
    struct descriptor d = { .at = (u32)(csr32(p, r->base) + at * size) };
    u8 b[16];

    (void)bus_dma_read(p->bus, d.at, b, size);
    if (!is_wide(p)) {
        d.buffer = (get32(b) & 0xffffff) | upper(p);
        d.status = get16(b + 2) & 0xff00;
        d.len = get16(b + 4);
    } else {
        d.buffer = get32(b + (style(p) == 3 ? 8 : 0));
        d.status = get16(b + 6);
        d.len = get16(b + 4);
    }
    d.len = (u16)(0x1000 - (d.len & 0xfff));
    return d;
}

/* Gives it back: the word of counts and errors first, then its status, which is what the driver looks at. */
static void give_back(struct pcnet *p, const struct descriptor *d, u16 status, u32 counts)
{
    u8 b[4];

    put16(b, (u16)counts);
    put16(b + 2, counts >> 16);
    if (!is_wide(p)) {
        (void)bus_dma_write(p->bus, d->at + 6, b, 2);
        b[0] = status >> 8;
        (void)bus_dma_write(p->bus, d->at + 3, b, 1);
        return;
    }
    (void)bus_dma_write(p->bus, d->at + (style(p) == 3 ? 0 : 8), b, 4);
    put16(b, status);
    (void)bus_dma_write(p->bus, d->at + 6, b, 2);
}

/* ---- to the network ---- */

static bool is_looped(const struct pcnet *p)
{
    enum { BCR32_MIIILP = 2, PHY_LOOPBACK = 0x4000 };

    return (p->csr[15] & MODE_LOOP) || (p->bcr[32] & BCR32_MIIILP) || (p->phy[0] & PHY_LOOPBACK);
}

static bool take_in(struct pcnet *p, const u8 *frame, size_t len);

static void frame_out(struct pcnet *p, const u8 *frame, size_t len, bool add_fcs)
{
    if ((p->csr[15] & MODE_NO_FCS) && !add_fcs) len = len > ETHER_FCS ? len - ETHER_FCS : 0; /* the driver's own */
    if (len < NETDEV_FRAME_MIN) return;
    if (len > NETDEV_FRAME_MAX) p->csr[0] |= CSR0_BABL;
    else if (is_looped(p)) (void)take_in(p, frame, len);
    else netdev_send(p->net, frame, len);
}

/* The next frame, of up to CHAIN_MAX buffers. 0: there is none; else how many descriptors it took. */
static unsigned transmit_one(struct pcnet *p)
{
    struct descriptor d[CHAIN_MAX];
    u8 frame[NETDEV_FRAME_MAX + ETHER_FCS + 1]; /* one more: it is too long */
    size_t len = 0;
    unsigned n = 0;

    do {
        d[n] = fetch(p, &tx_ring, n);
        if (!(d[n].status & D_OWN)) return 0;
        if (!n && !(d[n].status & D_STP)) { /* the rest of a frame whose start is gone */
            give_back(p, &d[0], d[0].status & (u16)~D_OWN, 0);
            ring_advance(p, &tx_ring, 1);
            return 1;
        }
        size_t room = sizeof frame - len, part = d[n].len < room ? d[n].len : room;
        (void)bus_dma_read(p->bus, d[n].buffer, frame + len, part);
        len += part;
    } while (!(d[n++].status & D_ENP) && n < CHAIN_MAX && n < ring_len(p, &tx_ring));
    p->csr[4] |= CSR4_TXSTRT;
    frame_out(p, frame, len, d[0].status & T_ADD_FCS);
    if (!(p->csr[5] & CSR5_LTINTEN) || (d[n - 1].status & T_LTINT)) p->csr[0] |= CSR0_TINT;
    for (unsigned i = n; i-- > 0;) give_back(p, &d[i], d[i].status & (u16) ~(D_OWN | D_ERR), 0);
    ring_advance(p, &tx_ring, n);
    return n;
}

void pcnet_transmit(struct pcnet *p)
{
    unsigned done = 0;

    if (!(p->csr[0] & CSR0_TXON) || (p->csr[5] & CSR5_SPND) || !pci_fn_bus_master(p->fn)) return;
    for (unsigned n; done < BURST && (n = transmit_one(p)); done += n) continue;
    if (done >= BURST) timer_arm(&p->poll, clock_now(p->clk) + POLL_NS);
}

/* ---- from the network ---- */

/* Whom it is for, as a bit of RMD1. 0: not for us. */
static u16 accepts(const struct pcnet *p, const u8 *frame)
{
    u16 mode = p->csr[15], match = 0;

    if (ether_is_broadcast(frame) && !(mode & MODE_NO_BROADCAST)) return R_BAM;
    if (ether_is_group(frame)) {
        unsigned bit = ether_hash(frame, true);

        if (p->csr[8 + bit / 16] >> bit % 16 & 1) match = R_LAFM;
    } else if (!(mode & MODE_NO_PHYSICAL)) {
        bool same = true;

        for (unsigned i = 0; i < 3; i++) same = same && get16(frame + 2 * i) == p->csr[12 + i];
        if (same) match = R_PAM;
    }
    return match;
}

/* CSR4.ASTRP_RCV: what a length field says is padding goes, and the checksum with it. */
static size_t strip(const struct pcnet *p, const u8 *wire, size_t n)
{
    unsigned data = (unsigned)(wire[12] << 8 | wire[13]);

    return (p->csr[4] & CSR4_STRIP) && data < 46 ? NETDEV_FRAME_MIN + data : n;
}

/* Into the ring. false: its first descriptor is the driver's. */
static bool take_in(struct pcnet *p, const u8 *frame, size_t len)
{
    u8 wire[ETHER_BUF];
    struct descriptor d[CHAIN_MAX];
    u16 match = accepts(p, frame), status = D_STP;
    size_t total, done = 0;
    unsigned n = 0;

    if (!match && !(p->csr[15] & MODE_PROM)) return true;
    total = ether_wire(wire, frame, len);
    total = strip(p, wire, total);
    while (done < total && n < CHAIN_MAX && n < ring_len(p, &rx_ring)) {
        d[n] = fetch(p, &rx_ring, n);
        if (!(d[n].status & D_OWN)) break;
        size_t part = total - done < d[n].len ? total - done : d[n].len;
        (void)bus_dma_write(p->bus, d[n++].buffer, wire + done, part);
        done += part;
    }
    if (!n) return false;
    for (unsigned i = 0; i < n; i++) {
        bool last = i + 1 == n;

        if (last) status |= D_ENP | (is_wide(p) ? match : 0);
        if (last && done < total) status |= D_ERR | R_BUFF; /* nothing to go on in: 4-2 of RMD1 */
        give_back(p, &d[i], status, last ? (u32)total : 0);
        status = 0;
    }
    ring_advance(p, &rx_ring, n);
    p->csr[0] |= CSR0_RINT;
    return true;
}

bool pcnet_receive(void *fe, const u8 *frame, size_t len)
{
    struct pcnet *p = fe;

    if (!(p->csr[0] & CSR0_RXON) || is_looped(p) || !pci_fn_bus_master(p->fn) || len > NETDEV_FRAME_MAX)
        return true;                         /* nobody listens */
    if (p->csr[5] & CSR5_SPND) return false; /* until it is lifted */
    if (take_in(p, frame, len)) {
        pcnet_interrupt(p);
        return true;
    }
    p->rx_waits = true;
    timer_arm(&p->poll, clock_now(p->clk) + POLL_NS);
    return false;
}

void pcnet_poll(struct pcnet *p, bool anyway)
{
    bool asks = p->rx_waits || anyway;

    p->rx_waits = false;
    if (asks) netdev_ready(p->net);
}

void pcnet_on_poll(void *arg)
{
    struct pcnet *p = arg;

    pcnet_transmit(p);
    pcnet_interrupt(p);
    pcnet_poll(p, false);
}
