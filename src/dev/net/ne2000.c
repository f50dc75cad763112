/* Owns an NE2000: a DP8390 with 16 KiB of its own, on ISA, or on PCI as an RTL8029.
 *   I1  The interrupt is asserted iff ISR & IMR.                                               [interrupt_update]
 *   I2  Received frames lie between BNRY and CURR; one goes in only if CURR does not come to BNRY by it. Else it waits
 *       outside, until the driver moves BNRY (NOT-HW: the chip drops it and sets OVW).         [ne_receive]
 *   I3  A driver that is interrupted by frames gets the next one when it has acknowledged the last (NOT-HW: it comes
 *       when it comes). Drivers look for further frames first and acknowledge then; at ten megabits what came between
 *       was rare, and another followed soon.                                                   [ne_receive]
 *   I4  Addresses of the chip's are masked or looked at wherever they are used: memory is 4000h to 7fffh, the PROM 0 to
 *       1fh, and nothing is elsewhere.                                                         [mem_read, mem_write]
 * NOT-HW: transfers take no time; there is no "send packet" remote DMA, and what is sent in loopback goes nowhere.
 * Enter at reg_read(), reg_write(). National Semiconductor DP8390D (1995), Novell NE2000, Realtek RTL8029AS (1997). */
#include "src/dev/net/ether.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum { PORTS = 0x20, DATA = 0x10, RESET = 0x18 };
enum { CR_STP = 1, CR_STA = 2, CR_TXP = 4, CR_READ = 8, CR_WRITE = 0x10, CR_ABORT = 0x20 };
enum { ISR_PRX = 1, ISR_PTX = 2, ISR_RDC = 0x40, ISR_RST = 0x80 };
enum { RCR_AB = 4, RCR_AM = 8, RCR_PRO = 0x10, RCR_MON = 0x20 };
enum { RSR_PRX = 1, RSR_PHY = 0x20, TSR_PTX = 1 };
enum { DCR_WTS = 1, TCR_LOOPBACK = 6 };
/* Registers of page 0, of page 1. */
enum { P0_CR, P0_PSTART, P0_PSTOP, P0_BNRY, P0_TPSR, P0_TBCR0, P0_TBCR1, P0_ISR, P0_RSAR0, P0_RSAR1, P0_RBCR0, P0_RBCR1,
       P0_RCR, P0_TCR, P0_DCR, P0_IMR };
enum { P1_PAR = 1, P1_CURR = 7, P1_MAR = 8 };
/* clang-format on */
#define PROM 32u
#define MEM_AT 0x4000u
#define MEM_SIZE 0x4000u
#define PAGE 256u

struct ne2000 {
    struct bus *bus;
    struct irq_line irq;
    struct netdev *net;
    const char *name;
    bool is_pci;
    u16 port; /* on ISA */
    u8 prom[PROM];
    u8 mem[MEM_SIZE];
    u8 page0[16]; /* as they were written, by P0_ */
    u8 page1[16];
    u8 tsr, rsr;
    u16 remote; /* where remote DMA is */
};

static const struct snap_field ne2000_fields[] = {
    SNAP_ARRAY(struct ne2000, prom, .keep = true),
    SNAP_ARRAY(struct ne2000, mem, .keep = true),
    SNAP_ARRAY(struct ne2000, page0),
    SNAP_ARRAY(struct ne2000, page1, .keep = true),
    SNAP(struct ne2000, tsr),
    SNAP(struct ne2000, rsr),
    SNAP(struct ne2000, remote),
    { 0 },
};

static void interrupt_update(struct ne2000 *n) { irq_set(&n->irq, n->page0[P0_ISR] & n->page0[P0_IMR] & 0x7f); }

static void cause(struct ne2000 *n, u8 bits)
{
    n->page0[P0_ISR] |= bits;
    interrupt_update(n);
}

/* ---- memory ---- */

static u8 mem_read(const struct ne2000 *n, u16 at)
{
    if (at < PROM) return n->prom[at];
    return at >= MEM_AT && at < MEM_AT + MEM_SIZE ? n->mem[at - MEM_AT] : 0xff;
}
static void mem_write(struct ne2000 *n, u16 at, u8 v)
{
    if (at >= MEM_AT && at < MEM_AT + MEM_SIZE) n->mem[at - MEM_AT] = v;
}

/* What follows page p in the receive ring. */
static u8 next_page(const struct ne2000 *n, u8 p)
{
    p++;
    return p == n->page0[P0_PSTOP] ? n->page0[P0_PSTART] : p;
}

/* ---- remote DMA ---- */

static u16 remote_left(const struct ne2000 *n) { return (u16)(n->page0[P0_RBCR0] | n->page0[P0_RBCR1] << 8); }

static bool remote_is(const struct ne2000 *n, u8 way)
{
    return (n->page0[P0_CR] & (CR_READ | CR_WRITE | CR_ABORT)) == way && remote_left(n);
}

/* One more byte; the ring's end is followed by its beginning. */
static void remote_step(struct ne2000 *n)
{
    u16 left = (u16)(remote_left(n) - 1);

    n->remote++;
    if (n->remote == n->page0[P0_PSTOP] * PAGE) n->remote = (u16)(n->page0[P0_PSTART] * PAGE);
    n->page0[P0_RBCR0] = (u8)left;
    n->page0[P0_RBCR1] = left >> 8;
    if (!left) cause(n, ISR_RDC);
}

/* A byte at a time, or, DCR.WTS, a word; then what is asked for as a byte is a word's lower half. */
static unsigned data_width(const struct ne2000 *n, unsigned size)
{
    if (!(n->page0[P0_DCR] & DCR_WTS)) return 1;
    return size < 2 ? 2 : size;
}

static u32 data_read(struct ne2000 *n, unsigned size)
{
    u32 v = 0;

    for (unsigned i = 0; i < data_width(n, size) && remote_is(n, CR_READ); i++) {
        v |= (u32)mem_read(n, n->remote) << 8 * i;
        remote_step(n);
    }
    return size < 4 ? v & ((1u << 8 * size) - 1) : v;
}

static void data_write(struct ne2000 *n, unsigned size, u32 val)
{
    for (unsigned i = 0; i < data_width(n, size) && remote_is(n, CR_WRITE); i++) {
        mem_write(n, n->remote, (u8)(val >> 8 * i));
        remote_step(n);
    }
}

/* ---- to the network ---- */

static void transmit(struct ne2000 *n)
{
    u8 frame[NETDEV_FRAME_MAX];
    size_t len = (size_t)(n->page0[P0_TBCR0] | n->page0[P0_TBCR1] << 8);
    u16 from = (u16)(n->page0[P0_TPSR] * PAGE);

    n->page0[P0_CR] &= (u8)~CR_TXP;
    if (len >= NETDEV_FRAME_MIN && len <= sizeof frame && !(n->page0[P0_TCR] & TCR_LOOPBACK)) {
        for (size_t i = 0; i < len; i++) frame[i] = mem_read(n, (u16)(from + i));
        netdev_send(n->net, frame, len);
    }
    n->tsr = TSR_PTX;
    cause(n, ISR_PTX);
}

/* ---- from the network ---- */

static bool accepts(const struct ne2000 *n, const u8 *frame)
{
    u8 rcr = n->page0[P0_RCR];

    if (ether_is_broadcast(frame)) return rcr & (RCR_AB | RCR_PRO);
    if (ether_is_group(frame)) {
        unsigned bit = ether_hash(frame, false);

        return (rcr & RCR_AM) && (n->page1[P1_MAR + bit / 8] >> bit % 8 & 1);
    }
    return (rcr & RCR_PRO) || !memcmp(frame, n->page1 + P1_PAR, ETHER_ADDRESS);
}

static bool is_listening(const struct ne2000 *n)
{
    const u8 *r = n->page0;

    return !(r[P0_CR] & CR_STP) && !(r[P0_TCR] & TCR_LOOPBACK) && !(r[P0_RCR] & RCR_MON) && r[P0_PSTART] < r[P0_PSTOP]
           && n->page1[P1_CURR] >= r[P0_PSTART] && n->page1[P1_CURR] < r[P0_PSTOP];
}

static bool ne_receive(void *fe, const u8 *frame, size_t len)
{
    enum { HEADER = 4 };
    struct ne2000 *n = fe;
    u8 whole[HEADER + ETHER_BUF], *bnry = &n->page0[P0_BNRY], curr = n->page1[P1_CURR];
    unsigned size = (unsigned)(n->page0[P0_PSTOP] - n->page0[P0_PSTART]);

    if (!is_listening(n) || len > NETDEV_FRAME_MAX || !accepts(n, frame)) return true;
    if (n->page0[P0_ISR] & n->page0[P0_IMR] & ISR_PRX) return false;
    size_t count = ether_wire(whole + HEADER, frame, len);
    unsigned pages = (unsigned)((count + HEADER + PAGE - 1) / PAGE);
    unsigned room = curr < *bnry ? (unsigned)(*bnry - curr) : size - (unsigned)(curr - *bnry) % size;
    if (pages >= size) return true; /* it never fits */
    if (pages >= room) return false;
    u8 at = curr;
    for (unsigned i = 0; i < pages; i++) curr = next_page(n, curr);
    n->rsr = RSR_PRX | (ether_is_group(frame) ? RSR_PHY : 0);
    const u8 head[HEADER] = { n->rsr, curr, (u8)count, (u8)(count >> 8) };
    memcpy(whole, head, HEADER);
    for (size_t i = 0; i < count + HEADER; i++) {
        if (i && !(i % PAGE)) at = next_page(n, at);
        mem_write(n, (u16)(at * PAGE + i % PAGE), whole[i]);
    }
    n->page1[P1_CURR] = curr;
    cause(n, ISR_PRX);
    return true;
}

/* ---- registers ---- */

static void soft_reset(struct ne2000 *n)
{
    n->page0[P0_CR] = CR_ABORT | CR_STP;
    n->page0[P0_IMR] = 0;
    n->page0[P0_ISR] |= ISR_RST;
    n->page0[P0_DCR] = 0;
    interrupt_update(n);
}

static void command_write(struct ne2000 *n, u8 val)
{
    u8 was = n->page0[P0_CR];

    if (val & CR_STP) n->page0[P0_ISR] |= ISR_RST;
    else if (val & CR_STA) n->page0[P0_ISR] &= (u8)~ISR_RST;
    n->page0[P0_CR] = val & (u8)~CR_TXP;
    if ((val & (CR_READ | CR_WRITE)) && !remote_left(n)) cause(n, ISR_RDC);
    if ((val & CR_TXP) && !(val & CR_STP)) transmit(n);
    if ((was & CR_STP) && !(val & CR_STP)) netdev_ready(n->net);
}

static u8 page0_read(struct ne2000 *n, unsigned reg)
{
    switch (reg) {
    case P0_PSTART: return (u8)n->remote; /* CLDA: local DMA is never seen at work */
    case P0_PSTOP: return n->remote >> 8;
    case P0_TPSR: return n->tsr;
    case P0_TBCR0:
    case P0_TBCR1: return 0; /* no collisions, nothing in the FIFO */
    case P0_RSAR0: return (u8)n->remote;
    case P0_RSAR1: return n->remote >> 8;
    case P0_RBCR0: return n->is_pci ? 0x50 : 0xff; /* the RTL8029's signature */
    case P0_RBCR1: return n->is_pci ? 0x43 : 0xff;
    case P0_RCR: return n->rsr;
    case P0_TCR:
    case P0_DCR:
    case P0_IMR: return 0; /* counters of errors */
    default: return n->page0[reg];
    }
}

static void page0_write(struct ne2000 *n, unsigned reg, u8 val)
{
    u8 *r = n->page0;

    switch (reg) {
    case P0_ISR: r[reg] &= (u8) ~(val & 0x7f); break;
    case P0_RSAR0: n->remote = (n->remote & 0xff00) | val; break;
    case P0_RSAR1: n->remote = (u16)((n->remote & 0xff) | val << 8); break;
    default: r[reg] = val; break;
    }
    if (reg == P0_ISR || reg == P0_IMR) interrupt_update(n);
    if (reg == P0_BNRY || reg == P0_RCR || reg == P0_TCR || reg == P0_ISR || reg == P0_IMR) netdev_ready(n->net);
}

/* A chip's register, a byte. Page 2 shows what was written to page 0; page 3 of the RTL8029 is its configuration. */
static u8 chip_read(struct ne2000 *n, unsigned reg)
{
    if (reg == P0_CR) return n->page0[P0_CR];
    switch (n->page0[P0_CR] >> 6) {
    case 0: return page0_read(n, reg);
    case 1: return n->page1[reg];
    case 2: return n->page0[reg];
    default: return 0;
    }
}
static void chip_write(struct ne2000 *n, unsigned reg, u8 val)
{
    if (reg == P0_CR) command_write(n, val);
    else if (n->page0[P0_CR] >> 6 == 0) page0_write(n, reg, val);
    else if (n->page0[P0_CR] >> 6 == 1) n->page1[reg] = val;
}

static u32 reg_read(void *dev, u32 off, unsigned size)
{
    struct ne2000 *n = dev;
    u32 v = 0;

    if (off >= RESET) {
        soft_reset(n);
        return 0;
    }
    if (off >= DATA) return data_read(n, size);
    for (unsigned i = 0; i < size && off + i < DATA; i++) v |= (u32)chip_read(n, off + i) << 8 * i;
    return v;
}
static void reg_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct ne2000 *n = dev;

    if (off >= RESET) return; /* ends what a read has begun */
    if (off >= DATA) data_write(n, size, val);
    else
        for (unsigned i = 0; i < size && off + i < DATA; i++) chip_write(n, off + i, (u8)(val >> 8 * i));
}
static const struct io_ops reg_ops = { reg_read, reg_write };

/* ---- a board's part ---- */

static const struct snap_table ne2000_table;

static void ne2000_on_reset(void *chip)
{
    struct ne2000 *n = chip;

    snap_reset(&ne2000_table, n);
    memset(n->mem, 0, sizeof n->mem);
    memset(n->page1, 0, sizeof n->page1);
    soft_reset(n);
}

static const struct snap_table ne2000_table = { .name = "ne2000",
                                                .version = 1,
                                                .size = sizeof(struct ne2000),
                                                .fields = ne2000_fields,
                                                .reset = ne2000_on_reset };

static struct ne2000 *card_new(struct bus *bus, const struct nic_desc *d)
{
    struct ne2000 *n = calloc(1, sizeof *n);

    if (!n) return NULL;
    n->bus = bus;
    n->net = d->net;
    n->name = d->name;
    /* Each byte twice, for it is 8 bits wide on a bus of 16; and a sign that it is. */
    for (unsigned i = 0; i < ETHER_ADDRESS; i++) n->prom[2 * i] = n->prom[2 * i + 1] = d->mac[i];
    for (unsigned i = 28; i < PROM; i++) n->prom[i] = 'W';
    return n;
}

static void card_start(struct ne2000 *n)
{
    ne2000_on_reset(n);
    n->net->receive = ne_receive;
    n->net->fe = n;
}

int ne2000_new(struct ne2000 **out, struct bus *bus, struct pci *pci, const struct nic_desc *d)
{
    struct ne2000 *n = card_new(bus, d);
    struct pci_fn *f;
    int err;

    if (!n) return -ENOMEM;
    const struct pci_desc fn = {
        .dev = d->slot,
        .vendor = 0x10ec,
        .device = 0x8029,
        .subsys_vendor = 0x10ec,
        .subsys = 0x8029,
        .class_code = 2, /* network controller, Ethernet */
        .int_pin = 1,
        .bar = { { .size = PORTS, .io = true, .ops = &reg_ops } },
        .rom = d->rom,
        .rom_size = d->rom_size,
        .opaque = n,
        .name = "ne2000",
    };
    err = pci_add(pci, &f, &fn);
    if (err) {
        free(n);
        return err;
    }
    n->is_pci = true;
    n->irq = pci_fn_irq(f);
    card_start(n);
    *out = n;
    return 0;
}

int ne2000_isa_new(struct ne2000 **out, struct bus *bus, struct irq_line irq, const struct nic_desc *d)
{
    struct ne2000 *n = card_new(bus, d);
    int err;

    if (!n) return -ENOMEM;
    n->irq = irq;
    n->port = d->port;
    err = bus_map_pio(bus, d->port, PORTS, &reg_ops, n, "ne2000");
    if (err) {
        free(n);
        return err;
    }
    card_start(n);
    *out = n;
    return 0;
}

void ne2000_free(struct ne2000 *n)
{
    if (!n) return;
    n->net->receive = NULL;
    if (!n->is_pci) bus_unmap_pio(n->bus, n->port);
    free(n);
}

struct snap_part ne2000_part(struct ne2000 *n) { return (struct snap_part){ n->name, &ne2000_table, n }; }
