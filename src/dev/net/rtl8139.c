/* Owns an RTL8139C: four transmit descriptors in its registers, a ring of bytes for what it receives.
 *   I1  INTA is asserted iff ISR & IMR.                                                        [interrupt_update]
 *   I2  What has been received and not read lies between CAPR + 16 and CBR, and a frame goes in only if room is left
 *       for it; else it waits outside, until the driver moves CAPR (NOT-HW: the chip drops it), and RXOVW is set.
 *       [take_in]
 *   I4  The next frame comes in when the driver has acknowledged the last, or has moved CAPR and not acknowledged it in
 *       the time of a frame (NOT-HW: it comes when it comes). Drivers move CAPR first and acknowledge then: of what
 *       comes in between, nothing would tell them. At a hundred megabits that was rare, and another followed soon.
 *       [rtl_receive, may_come]
 *   I3  Transmit descriptors are served in turn, each once it is given (OWN is clear).          [transmit]
 * NOT-HW: transfers take no time; no early receive or transmit, no wake-up, no boot ROM's paging, no C+ mode.
 * Enter at reg_read(), reg_write(). Realtek RTL8139C(L) data sheet, rev. 1.4 (2002). */
#include "src/dev/net/eeprom93.h"
#include "src/dev/net/ether.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum {
    IDR = 0x00, MAR = 0x08, TSD = 0x10, TSAD = 0x20, RBSTART = 0x30, ERBCR = 0x34, ERSR = 0x36, CR = 0x37, CAPR = 0x38,
    CBR = 0x3a, IMR = 0x3c, ISR = 0x3e, TCR = 0x40, RCR = 0x44, TCTR = 0x48, MPC = 0x4c, CR9346 = 0x50, CONFIG0 = 0x51,
    CONFIG1 = 0x52, TIMERINT = 0x54, MSR = 0x58, CONFIG3 = 0x59, CONFIG4 = 0x5a, MULINT = 0x5c, RERID = 0x5e,
    TSAD_ALL = 0x60, BMCR = 0x62, BMSR = 0x64, ANAR = 0x66, ANLPAR = 0x68, ANER = 0x6a, WAKE_END = 0xd4, CONFIG5 = 0xd8,
    REGS = 0x100,
};
enum { CR_RST = 0x10, CR_RE = 8, CR_TE = 4, CR_EMPTY = 1 };
enum { ISR_ROK = 1, ISR_TOK = 4, ISR_TER = 8, ISR_RXOVW = 0x10, ISR_TIMEOUT = 0x4000, ISR_ALL = 0xe07f };
enum { RCR_AAP = 1, RCR_APM = 2, RCR_AM = 4, RCR_AB = 8, RCR_WRAP = 0x80 };
enum { TSD_OWN = 1 << 13, TSD_TOK = 1 << 15, TSD_SIZE = 0x1fff };
enum { RX_ROK = 1, RX_BAR = 0x2000, RX_PAM = 0x4000, RX_MAR = 0x8000 };
enum { CFG_NORMAL, CFG_LOAD, CFG_PROGRAM, CFG_WRITE }; /* bits 7:6 of 9346CR */
/* clang-format on */
#define TCR_VERSION 0x74000000u /* RTL8139C */
#define TCR_LOOPBACK 0x60000u
#define DESCRIPTORS 4u
#define RX_HEADER 4u
#define NS_OF_TIMER 30u     /* a PCI clock */
#define NS_OF_FRAME 123040u /* 1538 bytes of the wire at 100 Mbit/s */

struct rtl8139 {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct netdev *net;
    const char *name;
    u8 reg[REGS];   /* what is as it was written */
    u8 next;        /* the transmit descriptor whose turn it is */
    u64 timer_from; /* guest ns at which TCTR was 0 */
    struct timer timer;
    struct timer late; /* CAPR has moved: until then an acknowledgement may follow */
    bool overdue;      /* none has: a frame comes in without */
    struct eeprom93 eeprom;
};

static const struct snap_field rtl8139_fields[] = {
    SNAP_ARRAY(struct rtl8139, reg, .keep = true),  SNAP(struct rtl8139, next, .max = DESCRIPTORS - 1),
    SNAP(struct rtl8139, timer_from, .keep = true), SNAP(struct rtl8139, timer),
    SNAP(struct rtl8139, late, .since = 2),         SNAP(struct rtl8139, overdue, .since = 2),
    EEPROM93_FIELDS(struct rtl8139, eeprom),        { 0 },
};

static u16 get16(const struct rtl8139 *r, unsigned at) { return (u16)(r->reg[at] | r->reg[at + 1] << 8); }
static u32 get32(const struct rtl8139 *r, unsigned at) { return get16(r, at) | (u32)get16(r, at + 2) << 16; }
static void put(struct rtl8139 *r, unsigned at, unsigned n, u32 v)
{
    for (unsigned i = 0; i < n; i++) r->reg[at + i] = (u8)(v >> 8 * i);
}

/* ---- interrupts and the timer ---- */

static void interrupt_update(struct rtl8139 *r) { irq_set(&r->intx, get16(r, ISR) & get16(r, IMR)); }

static void cause(struct rtl8139 *r, u16 bits)
{
    put(r, ISR, 2, get16(r, ISR) | bits);
    interrupt_update(r);
}

static u32 timer_count(const struct rtl8139 *r) { return (u32)((clock_now(r->clk) - r->timer_from) / NS_OF_TIMER); }

/* TIMERINT: when TCTR comes to that; 0: never. */
static void timer_update(struct rtl8139 *r)
{
    u32 at = get32(r, TIMERINT), now = timer_count(r);

    if (!at) timer_cancel(&r->timer);
    else timer_arm(&r->timer, clock_now(r->clk) + ((u64)(u32)(at - now - 1) + 1) * NS_OF_TIMER);
}

static void on_timer(void *arg)
{
    struct rtl8139 *r = arg;

    timer_update(r);
    cause(r, ISR_TIMEOUT);
}

/* ---- life ---- */

static void address_load(struct rtl8139 *r)
{
    enum { ADDRESS = 7 /* the word in the EEPROM */ };

    for (unsigned i = 0; i < 3; i++) put(r, IDR + 2 * i, 2, r->eeprom.word[ADDRESS + i]);
}

/* CR.RST: addresses and the configuration stay. */
static void soft_reset(struct rtl8139 *r)
{
    static const u8 configs[] = { CONFIG0, CONFIG1, CONFIG3, CONFIG4 };
    u8 was[REGS];

    memcpy(was, r->reg, sizeof was);
    memset(r->reg, 0, sizeof r->reg);
    memcpy(r->reg, was, TSD);
    for (unsigned i = 0; i < sizeof configs; i++) r->reg[configs[i]] = was[configs[i]];
    for (unsigned i = 0; i < DESCRIPTORS; i++) put(r, TSD + 4 * i, 4, TSD_OWN);
    put(r, CAPR, 2, 0xfff0);
    put(r, BMCR, 2, 0x1100); /* negotiated, full duplex */
    put(r, ANAR, 2, 0x01e1);
    r->next = 0;
    r->overdue = false;
    timer_cancel(&r->timer);
    timer_cancel(&r->late);
    interrupt_update(r);
}

static const struct snap_table rtl8139_table;

static void rtl8139_on_reset(void *chip)
{
    struct rtl8139 *r = chip;

    timer_cancel(&r->timer);
    timer_cancel(&r->late);
    snap_reset(&rtl8139_table, r);
    memset(r->reg, 0, sizeof r->reg);
    r->timer_from = clock_now(r->clk);
    eeprom93_idle(&r->eeprom);
    address_load(r);
    r->reg[CONFIG1] = 0x0c; /* memory and I/O are mapped */
    soft_reset(r);
}

/* ---- to the network ---- */

static bool take_in(struct rtl8139 *r, const u8 *frame, size_t len);

static void transmit(struct rtl8139 *r)
{
    u8 frame[TSD_SIZE + 1];

    for (unsigned n = 0; n < DESCRIPTORS && (r->reg[CR] & CR_TE) && pci_fn_bus_master(r->fn); n++) {
        unsigned at = TSD + 4u * r->next;
        u32 tsd = get32(r, at), len = tsd & TSD_SIZE;

        if (tsd & TSD_OWN) return;
        (void)bus_dma_read(r->bus, get32(r, TSAD + 4u * r->next), frame, len);
        put(r, at, 4, tsd | TSD_OWN | TSD_TOK);
        r->next = (r->next + 1) % DESCRIPTORS;
        if (len >= NETDEV_FRAME_MIN && len <= NETDEV_FRAME_MAX) {
            if ((get32(r, TCR) & TCR_LOOPBACK) == TCR_LOOPBACK) (void)take_in(r, frame, len);
            else netdev_send(r->net, frame, len);
        }
        cause(r, ISR_TOK);
    }
}

/* ---- from the network ---- */

static u32 ring_size(const struct rtl8139 *r) { return 8192u << (get32(r, RCR) >> 11 & 3); }
static u32 ring_read(const struct rtl8139 *r) { return (get16(r, CAPR) + 16u) & 0xffff; }

/* Status bits for whom it is; 0: not for us, unless all is taken. */
static bool accepts(const struct rtl8139 *r, const u8 *frame, u16 *status)
{
    u32 rcr = get32(r, RCR);

    *status = RX_ROK;
    if (ether_is_broadcast(frame)) {
        *status |= RX_BAR;
        return rcr & (RCR_AB | RCR_AAP);
    }
    if (ether_is_group(frame)) {
        unsigned bit = ether_hash(frame, false);

        *status |= RX_MAR;
        return (rcr & RCR_AAP) || ((rcr & RCR_AM) && (r->reg[MAR + bit / 8] >> bit % 8 & 1));
    }
    if (!memcmp(frame, r->reg + IDR, ETHER_ADDRESS)) *status |= RX_PAM;
    return (rcr & RCR_AAP) || ((rcr & RCR_APM) && (*status & RX_PAM));
}

static void ring_write(struct rtl8139 *r, u32 at, const u8 *p, u32 n)
{
    u32 size = ring_size(r);

    at %= size;
    /* With WRAP (and less than 64 KiB) the last frame goes on behind the ring. */
    u32 first = (get32(r, RCR) & RCR_WRAP) && size < 65536 ? n : n < size - at ? n : size - at;
    (void)bus_dma_write(r->bus, (paddr)get32(r, RBSTART) + at, p, first);
    if (first < n) (void)bus_dma_write(r->bus, get32(r, RBSTART), p + first, n - first);
}

static bool take_in(struct rtl8139 *r, const u8 *frame, size_t len)
{
    u8 wire[RX_HEADER + ETHER_BUF + 4] = { 0 };
    u16 status;

    if (!accepts(r, frame, &status)) return true;
    u32 n = (u32)ether_wire(wire + RX_HEADER, frame, len), size = ring_size(r), at = get16(r, CBR) % size;
    u32 whole = (n + RX_HEADER + 3) & ~3u, used = (at + size - ring_read(r) % size) % size;
    if (used + whole >= size) { /* full and empty would look the same */
        cause(r, ISR_RXOVW);
        return false;
    }
    const u8 head[RX_HEADER] = { (u8)status, status >> 8, (u8)n, (u8)(n >> 8) };
    memcpy(wire, head, RX_HEADER);
    ring_write(r, at, wire, whole);
    put(r, CBR, 2, (at + whole) % size);
    r->overdue = false;
    cause(r, ISR_ROK);
    return true;
}

static bool rtl_receive(void *fe, const u8 *frame, size_t len)
{
    struct rtl8139 *r = fe;
    bool looped = (get32(r, TCR) & TCR_LOOPBACK) == TCR_LOOPBACK;

    if (!(r->reg[CR] & CR_RE) || looped || !pci_fn_bus_master(r->fn) || len > NETDEV_FRAME_MAX) return true;
    if (get16(r, ISR) & ISR_ROK && !r->overdue) return false;
    return take_in(r, frame, len);
}

static void on_late(void *arg)
{
    struct rtl8139 *r = arg;

    r->overdue = true;
    netdev_ready(r->net);
}

static void may_come(struct rtl8139 *r)
{
    if (get16(r, ISR) & ISR_ROK) {
        timer_arm(&r->late, clock_now(r->clk) + NS_OF_FRAME);
        return;
    }
    timer_cancel(&r->late);
    netdev_ready(r->net);
}

/* ---- registers ---- */

static void cr9346_write(struct rtl8139 *r, u8 val)
{
    enum { CS = 8, SK = 4, DI = 2 };

    r->reg[CR9346] = val & (0xc0 | CS | SK | DI);
    if (val >> 6 == CFG_PROGRAM) eeprom93_drive(&r->eeprom, val & CS, val & SK, val & DI);
    if (val >> 6 == CFG_LOAD) {
        address_load(r);
        r->reg[CR9346] = 0;
    }
}

/* Registers that are made when they are read, whole. */
static u8 byte_read(const struct rtl8139 *r, unsigned at)
{
    u32 v;

    switch (at & ~3u) {
    case TCR & ~3u: return at == TCR + 3 ? (u8)(r->reg[at] | TCR_VERSION >> 24) : r->reg[at];
    case TCTR: v = timer_count(r); return (u8)(v >> 8 * (at & 3));
    default: break;
    }
    switch (at) {
    case CR: return (r->reg[CR] & (CR_RE | CR_TE)) | (ring_read(r) % ring_size(r) == get16(r, CBR) ? CR_EMPTY : 0);
    case CR9346: return r->reg[at] | r->eeprom.dout;
    case MSR: return 0; /* linked, at 100 Mbit/s */
    case BMSR: return 0x2d;
    case BMSR + 1: return 0x78;
    case ANLPAR: return 0xe1;
    case ANLPAR + 1: return 0x45;
    case ANER: return 1;
    case RERID: return 0x10;
    case TSAD_ALL:
    case TSAD_ALL + 1: /* OWN and TOK of the four, and whether they were aborted or ran dry: never */
        v = 0;
        for (unsigned i = 0; i < DESCRIPTORS; i++) {
            u32 tsd = get32(r, TSD + 4 * i);

            v |= (tsd & TSD_OWN ? 1u : 0) << i | (tsd & TSD_TOK ? 1u : 0) << (12 + i);
        }
        return (u8)(v >> 8 * (at & 1));
    default: return r->reg[at];
    }
}

static u32 reg_read(void *dev, u32 off, unsigned size)
{
    u32 v = 0;

    for (unsigned i = 0; i < size; i++) v |= (u32)byte_read(dev, (off + i) & (REGS - 1)) << 8 * i;
    return v;
}

/* Drivers tell later chips of the family by what they have there. */
static bool is_reserved(unsigned at) { return at >= WAKE_END && at != CONFIG5; }
static bool is_config(unsigned at) { return at == CONFIG0 || at == CONFIG1 || at == CONFIG3 || at == CONFIG4; }

static void byte_write(struct rtl8139 *r, unsigned at, u8 val)
{
    switch (at) {
    case CR:
        r->reg[CR] = val & (CR_RE | CR_TE);
        if (val & CR_RST) soft_reset(r);
        return;
    case ISR:
    case ISR + 1: r->reg[at] &= (u8)~val; return;
    case CR9346: cr9346_write(r, val); return;
    case ERBCR:
    case ERBCR + 1:
    case ERSR:
    case CBR:
    case CBR + 1:
    case MSR:
    case BMSR:
    case BMSR + 1:
    case ANLPAR:
    case ANLPAR + 1:
    case ANER:
    case ANER + 1:
    case RERID:
    case TSAD_ALL:
    case TSAD_ALL + 1: return;
    case TCTR:
    case TCTR + 1:
    case TCTR + 2:
    case TCTR + 3: r->timer_from = clock_now(r->clk); return;
    case MPC:
    case MPC + 1:
    case MPC + 2: r->reg[at] = 0; return;
    default: break;
    }
    if (is_reserved(at)) return;
    if (at < MAR && r->reg[CR9346] >> 6 != CFG_WRITE) return;
    if (is_config(at) && r->reg[CR9346] >> 6 != CFG_WRITE) return;
    if (at >= TSD && at < TSAD && at % 4 == 1) val &= 0x3f; /* what the chip says of it is read only */
    else if (at >= TSD && at < TSAD && at % 4 > 1) val &= at % 4 == 2 ? 0x3f : 0;
    r->reg[at] = val;
}

static bool touches(u32 off, unsigned size, unsigned at, unsigned n) { return off < at + n && at < off + size; }

static void reg_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct rtl8139 *r = dev;

    for (unsigned i = 0; i < size; i++) byte_write(r, (off + i) & (REGS - 1), (u8)(val >> 8 * i));
    if (touches(off, size, IMR, 4)) interrupt_update(r);
    if (touches(off, size, TSD, 16) || touches(off, size, CR, 1)) transmit(r);
    if (touches(off, size, TIMERINT, 4) || touches(off, size, TCTR, 4)) timer_update(r);
    if (touches(off, size, CAPR, 2) || touches(off, size, CR, 1) || touches(off, size, RCR, 4)) may_come(r);
    else if (touches(off, size, ISR, 2) && !(get16(r, ISR) & ISR_ROK)) may_come(r);
}

static const struct io_ops reg_ops = { reg_read, reg_write };

/* ---- a board's part ---- */

static const struct snap_table rtl8139_table = { .name = "rtl8139",
                                                 .version = 2,
                                                 .size = sizeof(struct rtl8139),
                                                 .fields = rtl8139_fields,
                                                 .reset = rtl8139_on_reset };

static void eeprom_fill(struct rtl8139 *r, const u8 mac[ETHER_ADDRESS])
{
    static const u16 head[7] = { 0x8129, 0x10ec, 0x8139, 0x10ec, 0x8139, 0x4020, 0xe512 };

    memcpy(r->eeprom.word, head, sizeof head);
    for (unsigned i = 0; i < 3; i++) r->eeprom.word[7 + i] = (u16)(mac[2 * i] | mac[2 * i + 1] << 8);
}

int rtl8139_new(struct rtl8139 **out, struct bus *bus, struct clock *clk, struct pci *pci, const struct nic_desc *d)
{
    struct rtl8139 *r = calloc(1, sizeof *r);
    int err;

    if (!r) return -ENOMEM;
    const struct pci_desc fn = {
        .dev = d->slot,
        .vendor = 0x10ec,
        .device = 0x8139,
        .subsys_vendor = 0x10ec,
        .subsys = 0x8139,
        .revision = 0x10,
        .class_code = 2, /* network controller, Ethernet */
        .int_pin = 1,
        .bar = { { .size = REGS, .io = true, .ops = &reg_ops }, { .size = REGS, .ops = &reg_ops } },
        .rom = d->rom,
        .rom_size = d->rom_size,
        .opaque = r,
        .name = "rtl8139",
    };
    err = pci_add(pci, &r->fn, &fn);
    if (err) {
        free(r);
        return err;
    }
    r->bus = bus;
    r->clk = clk;
    r->net = d->net;
    r->name = d->name;
    r->intx = pci_fn_irq(r->fn);
    timer_init(&r->timer, clk, on_timer, r);
    timer_init(&r->late, clk, on_late, r);
    eeprom_fill(r, d->mac);
    rtl8139_on_reset(r);
    d->net->receive = rtl_receive;
    d->net->fe = r;
    *out = r;
    return 0;
}

void rtl8139_free(struct rtl8139 *r)
{
    if (!r) return;
    r->net->receive = NULL;
    timer_cancel(&r->timer);
    timer_cancel(&r->late);
    free(r);
}

struct snap_part rtl8139_part(struct rtl8139 *r) { return (struct snap_part){ r->name, &rtl8139_table, r }; }
