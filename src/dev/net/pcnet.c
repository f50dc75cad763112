/* Owns an Am79C973's registers: CSRs and BCRs, the address PROM, EEPROM and PHY behind them, and its interrupt. Frames
 * and descriptor rings are pcnet_ring.c's.
 *   I1  INTA is asserted iff INTR and IENA are set; INTR follows from the flags and masks alone.    [pcnet_interrupt]
 *   I2  The rings' places, lengths and MODE change only while the chip is stopped or suspended.     [csr_write]
 *   I3  The interrupt timer runs iff its interrupt is enabled (NOT-HW: the chip's runs always).     [timer_update]
 * NOT-HW: transfers take no time; the expansion bus, OnNow, the bus statistics and big-endian mode (CSR3.BSWP) are not
 * there. Enter at reg_read(), reg_write(). AMD 21510 (Am79C973/Am79C975 PCnet-FAST III, 2000). */
#include "src/dev/net/pcnet_priv.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum { IO_APROM = 0, IO_REGS = 0x10, IO_SIZE = 0x20 };
enum { REG_RDP, REG_RAP, REG_RESET, REG_BDP };             /* 2 bytes apart in WIO mode, 4 in DWIO mode */
enum { BCR18_DWIO = 0x80 };
enum { EE_VALID = 0x8000, EE_READ = 0x4000, EE_DETECTED = 0x2000, EE_ENABLE = 0x10, EE_CS = 4, EE_SK = 2, EE_DATA = 1 };
enum { MII_CONTROL, MII_STATUS, MII_ID1, MII_ID2, MII_ADVERTISE, MII_PARTNER, MII_EXPANSION };
enum { MII_RESET = 0x8000, MII_RESTART = 0x200 };
#define PHY_ADDRESS 30u /* of the chip's own */
#define CHIP_ID 0x02625003u
#define NS_OF_STVAL 12800u
/* clang-format on */

static const u16 phy_reset[PCNET_PHY_REGS] = {
    [MII_CONTROL] = 0x3100,   /* 100 Mbit/s, negotiated, full duplex */
    [MII_STATUS] = 0x782d,    /* 10 and 100, half and full duplex; negotiated; the link is up */
    [MII_ID1] = 0x0022,       /* NetPHY */
    [MII_ID2] = 0x561b,       /* */
    [MII_ADVERTISE] = 0x01e1, /* all four */
    [MII_PARTNER] = 0x45e1,   /* likewise */
    [MII_EXPANSION] = 0x0001, /* the partner negotiates */
};

const struct snap_field pcnet_fields[] = {
    SNAP_ARRAY(struct pcnet, csr, .keep = true),
    SNAP_ARRAY(struct pcnet, bcr, .keep = true),
    SNAP_ARRAY(struct pcnet, aprom, .keep = true),
    SNAP_ARRAY(struct pcnet, phy, .keep = true),
    SNAP(struct pcnet, rap, .max = PCNET_CSRS - 1),
    SNAP(struct pcnet, rx_waits),
    SNAP(struct pcnet, poll),
    SNAP(struct pcnet, stimer),
    EEPROM93_FIELDS(struct pcnet, eeprom),
    { 0 },
};

/* ---- interrupts ---- */

void pcnet_interrupt(struct pcnet *p)
{
    u16 *c = p->csr;
    bool intr = (c[0] & ~c[3] & (CSR0_BABL | CSR0_MISS | CSR0_MERR | CSR0_RINT | CSR0_TINT | CSR0_IDON))
                || (c[4] & ~(c[4] << 1) & (CSR4_MFCO | CSR4_RCVCCO | CSR4_TXSTRT | CSR4_JAB)) || (c[4] & CSR4_UINT)
                || (c[5] >> 1 & c[5] & CSR5_ENABLES) || (c[7] >> 1 & c[7] & CSR7_ENABLES);

    c[0] &= (u16) ~(CSR0_ERR | CSR0_INTR);
    if (c[0] & (CSR0_BABL | CSR0_CERR | CSR0_MISS | CSR0_MERR)) c[0] |= CSR0_ERR;
    if (intr) c[0] |= CSR0_INTR;
    irq_set(&p->intx, intr && (c[0] & CSR0_IENA));
}

/* CSR7.STINT each BCR31 * 12.8 us. */
static void timer_update(struct pcnet *p)
{
    if (!(p->csr[7] & CSR7_STINTE)) timer_cancel(&p->stimer);
    else if (!p->stimer.armed) timer_arm(&p->stimer, clock_now(p->clk) + (u64)(p->bcr[31] | 1) * NS_OF_STVAL);
}

static void on_stimer(void *arg)
{
    struct pcnet *p = arg;

    p->csr[7] |= CSR7_STINT;
    timer_update(p);
    pcnet_interrupt(p);
}

/* ---- life of the chip: stop, start, reset ---- */

static void stop(struct pcnet *p)
{
    p->csr[0] = CSR0_STOP;
    p->csr[5] &= (u16)~CSR5_SPND;
    p->rx_waits = false;
    timer_cancel(&p->poll);
}

static void start(struct pcnet *p)
{
    u16 mode = p->csr[15];

    p->csr[0] &= (u16) ~(CSR0_STOP | CSR0_TXON | CSR0_RXON);
    p->csr[0] |= CSR0_STRT | (mode & MODE_DTX ? 0 : CSR0_TXON) | (mode & MODE_DRX ? 0 : CSR0_RXON);
}

/* CSR0 to 7 and what a reset does to the other CSRs; BCRs stay (S_RESET: a read of the reset register). */
static void soft_reset(struct pcnet *p)
{
    stop(p);
    p->rap = 0;
    p->csr[3] = 0;
    p->csr[4] = 0x0115;
    p->csr[5] = p->csr[7] = 0;
    p->csr[15] = 0;
    p->csr[80] = 0x1410;
    p->csr[88] = (u16)CHIP_ID;
    p->csr[89] = CHIP_ID >> 16;
    p->csr[112] = p->csr[114] = p->csr[124] = 0;
    timer_update(p);
    pcnet_interrupt(p);
}

/* What the chip loads from its EEPROM by itself: the address PROM. */
static void eeprom_load(struct pcnet *p)
{
    for (unsigned i = 0; i < PCNET_APROM / 2; i++) {
        p->aprom[2 * i] = (u8)p->eeprom.word[i];
        p->aprom[2 * i + 1] = p->eeprom.word[i] >> 8;
    }
    for (unsigned i = 0; i < 3; i++) p->csr[12 + i] = p->eeprom.word[i];
}

/* H_RESET. */
static void pcnet_on_reset(void *chip)
{
    static const struct {
        u8 reg;
        u16 value;
    } bcr[] = { { 0, 5 },       { 1, 5 },       { 2, 0x0002 },  { 4, 0x00c0 },  { 5, 0x0084 },
                { 6, 0x0088 },  { 7, 0x0090 },  { 18, 0x9001 }, { 20, 0x0200 }, { 22, 0xff06 },
                { 23, 0x1022 }, { 24, 0x2000 }, { 31, 0xffff }, { 32, 0x0400 }, { 33, PHY_ADDRESS << 5 },
                { 35, 0x1022 }, { 36, 0xc811 } };
    struct pcnet *p = chip;

    timer_cancel(&p->poll);
    timer_cancel(&p->stimer);
    snap_reset(&pcnet_table, p);
    memset(p->csr, 0, sizeof p->csr);
    memset(p->bcr, 0, sizeof p->bcr);
    for (unsigned i = 0; i < ARRAY_LEN(bcr); i++) p->bcr[bcr[i].reg] = bcr[i].value;
    memcpy(p->phy, phy_reset, sizeof p->phy);
    eeprom93_idle(&p->eeprom);
    eeprom_load(p);
    soft_reset(p);
}

static void csr0_write(struct pcnet *p, u16 val)
{
    u16 *c0 = &p->csr[0];

    *c0 &= (u16) ~(val & (CSR0_BABL | CSR0_CERR | CSR0_MISS | CSR0_MERR | CSR0_RINT | CSR0_TINT | CSR0_IDON));
    *c0 = (*c0 & (u16)~CSR0_IENA) | (val & CSR0_IENA);
    if (val & CSR0_STOP) { /* it overrides the others */
        stop(p);
        pcnet_interrupt(p);
        return;
    }
    if ((val & CSR0_INIT) && !(*c0 & CSR0_INIT)) {
        *c0 &= (u16)~CSR0_STOP;
        *c0 |= CSR0_INIT | CSR0_IDON;
        pcnet_init_block(p);
    }
    if ((val & CSR0_STRT) && !(*c0 & CSR0_STRT)) start(p);
    pcnet_transmit(p);
    pcnet_interrupt(p);
    pcnet_poll(p, !!(val & CSR0_STRT));
}

/* ---- CSRs ---- */

static bool is_still(const struct pcnet *p) { return (p->csr[0] & CSR0_STOP) || (p->csr[5] & CSR5_SPND); }

/* BCR20 and CSR58: how descriptors look. SSIZE32 and CSRPCNET follow. */
static void style_write(struct pcnet *p, u16 val)
{
    static const u16 implied[4] = { 0x0200, 0x0000, 0x0300, 0x0300 };

    p->bcr[20] = implied[val & 3] | (val & 3);
}

/* Bits that a one clears; the others are as written. */
static u16 flags_write(u16 was, u16 val, u16 flags) { return (val & (u16)~flags) | (was & flags & (u16)~val); }

static void csr_write(struct pcnet *p, unsigned reg, u16 val)
{
    u16 *c = p->csr;

    switch (reg) {
    case 0: csr0_write(p, val); return;
    case 3:
        c[3] = val & 0x5f7c;
        pcnet_interrupt(p);
        pcnet_poll(p, false);
        return;
    case 4:
        c[4] = flags_write(c[4], val, CSR4_MFCO | CSR4_UINT | CSR4_RCVCCO | CSR4_TXSTRT | CSR4_JAB) & 0x7f7f;
        if (val & CSR4_UINTCMD) c[4] |= CSR4_UINT;
        pcnet_interrupt(p);
        return;
    case 5:
        c[5] = flags_write(c[5], val, CSR5_ENABLES << 1);
        pcnet_interrupt(p);
        pcnet_transmit(p);
        pcnet_interrupt(p);
        pcnet_poll(p, !(c[5] & CSR5_SPND));
        return;
    case 7:
        c[7] = flags_write(c[7], val, CSR7_ENABLES << 1) & (u16)~CSR7_RDMD;
        timer_update(p);
        pcnet_interrupt(p);
        pcnet_poll(p, val & CSR7_RDMD);
        return;
    case 58: style_write(p, val); return;
    case 6:
    case 88:
    case 89: return; /* read only */
    case 112:
    case 114: c[reg] = 0; return;
    case 16:
    case 17: reg -= 15; break; /* other names of CSR1 and 2 */
    default: break;
    }
    if (!is_still(p) && (reg < 16 || (reg >= 18 && reg <= 79))) return;
    c[reg] = val;
}

static u16 csr_read(const struct pcnet *p, unsigned reg)
{
    switch (reg) {
    case 6: return pcnet_ring_lengths(p);
    case 16:
    case 17: return p->csr[reg - 15];
    case 58: return p->bcr[20];
    default: return p->csr[reg];
    }
}

/* ---- BCRs ---- */

static u16 phy_read(const struct pcnet *p)
{
    unsigned reg = p->bcr[33] & 31;

    return (p->bcr[33] >> 5 & 31) == PHY_ADDRESS ? p->phy[reg] : 0xffff;
}

/* Nothing that is negotiated takes time. */
static void phy_write(struct pcnet *p, u16 val)
{
    unsigned reg = p->bcr[33] & 31;

    if ((p->bcr[33] >> 5 & 31) != PHY_ADDRESS) return;
    if (reg == MII_CONTROL && (val & MII_RESET)) memcpy(p->phy, phy_reset, sizeof p->phy);
    else if (reg == MII_CONTROL) p->phy[reg] = val & (u16)~MII_RESTART;
    else if (reg == MII_ADVERTISE || reg > MII_EXPANSION) p->phy[reg] = val;
}

static u16 eecas_read(const struct pcnet *p)
{
    u16 v = (p->bcr[19] & (EE_ENABLE | EE_CS | EE_SK)) | EE_VALID | EE_DETECTED;

    return v | (p->eeprom.dout ? EE_DATA : 0);
}

static void eecas_write(struct pcnet *p, u16 val)
{
    p->bcr[19] = val & (EE_ENABLE | EE_CS | EE_SK | EE_DATA);
    if (val & EE_ENABLE) eeprom93_drive(&p->eeprom, val & EE_CS, val & EE_SK, val & EE_DATA);
    else if (val & EE_READ) eeprom_load(p);
}

static u16 bcr_read(const struct pcnet *p, unsigned reg)
{
    enum { LINK = 0x40, OUT = 0x8000 };

    switch (reg) {
    case 4:
    case 5:
    case 6:
    case 7: return p->bcr[reg] | (p->bcr[reg] & LINK ? OUT : 0); /* a lamp that is on */
    case 19: return eecas_read(p);
    case 34: return phy_read(p);
    default: return reg < PCNET_BCRS ? p->bcr[reg] : 0;
    }
}

static void bcr_write(struct pcnet *p, unsigned reg, u16 val)
{
    switch (reg) {
    case 2:
    case 4:
    case 5:
    case 6:
    case 7:
    case 9:
    case 16:
    case 17:
    case 21:
    case 22:
    case 25:
    case 26:
    case 27:
    case 28:
    case 29:
    case 30:
    case 31:
    case 32:
    case 33:
    case 49: p->bcr[reg] = val; return;
    case 18: p->bcr[18] = (val & (u16)~BCR18_DWIO) | (p->bcr[18] & BCR18_DWIO); return;
    case 19: eecas_write(p, val); return;
    case 20:
        if (is_still(p)) style_write(p, val);
        return;
    case 34: phy_write(p, val); return;
    default: return;
    }
}

/* ---- the registers' place ---- */

static bool is_dwio(const struct pcnet *p) { return p->bcr[18] & BCR18_DWIO; }

static u16 port_read(struct pcnet *p, unsigned port)
{
    switch (port) {
    case REG_RDP: return csr_read(p, p->rap);
    case REG_RAP: return p->rap;
    case REG_BDP: return bcr_read(p, p->rap);
    default: soft_reset(p); return 0;
    }
}

static void port_write(struct pcnet *p, unsigned port, u16 val)
{
    switch (port) {
    case REG_RDP: csr_write(p, p->rap, val); break;
    case REG_RAP: p->rap = val % PCNET_CSRS; break;
    case REG_BDP: bcr_write(p, p->rap, val); break;
    default: break; /* reset is by a read */
    }
}

static u32 reg_read(void *dev, u32 off, unsigned size)
{
    struct pcnet *p = dev;
    u32 v = 0;

    if (off < IO_REGS) {
        for (unsigned i = 0; i < size && off + i < PCNET_APROM; i++) v |= (u32)p->aprom[off + i] << 8 * i;
        return v;
    }
    off -= IO_REGS;
    if (is_dwio(p)) return off % 4 || size != 4 ? ~0u : port_read(p, off / 4);
    return off % 2 || size == 1 || off / 2 > REG_BDP ? ~0u : port_read(p, off / 2);
}

static void reg_write(void *dev, u32 off, unsigned size, u32 val)
{
    enum { APROM_WRITABLE = 0x100 }; /* BCR2 */
    struct pcnet *p = dev;

    if (off < IO_REGS) {
        if (p->bcr[2] & APROM_WRITABLE)
            for (unsigned i = 0; i < size && off + i < PCNET_APROM; i++) p->aprom[off + i] = (u8)(val >> 8 * i);
        return;
    }
    off -= IO_REGS;
    if (!is_dwio(p) && !off && size == 4) p->bcr[18] |= BCR18_DWIO; /* a dword to RDP: the mode of the driver */
    if (is_dwio(p)) {
        if (!(off % 4) && size == 4) port_write(p, off / 4, (u16)val);
    } else if (!(off % 2) && size != 1 && off / 2 <= REG_BDP) {
        port_write(p, off / 2, (u16)val);
    }
}

static const struct io_ops reg_ops = { reg_read, reg_write };

/* ---- a board's part ---- */

const struct snap_table pcnet_table = { .name = "pcnet",
                                        .version = 1,
                                        .size = sizeof(struct pcnet),
                                        .fields = pcnet_fields,
                                        .reset = pcnet_on_reset };

/* What the chip finds in its EEPROM: address, checksum of the PROM, and the end of what it loads. */
static void eeprom_fill(struct pcnet *p, const u8 mac[ETHER_ADDRESS])
{
    u8 bytes[2 * EEPROM93_WORDS] = { 0 };
    u16 sum = 0;

    memcpy(bytes, mac, ETHER_ADDRESS);
    bytes[9] = 0x11; /* hardware ID: a PCI card */
    bytes[14] = bytes[15] = 'W';
    for (unsigned i = 0; i < PCNET_APROM; i++)
        if (i != 12 && i != 13) sum += bytes[i];
    bytes[12] = (u8)sum;
    bytes[13] = sum >> 8;
    for (unsigned i = 0; i < EEPROM93_WORDS; i++) p->eeprom.word[i] = (u16)(bytes[2 * i] | bytes[2 * i + 1] << 8);
}

int pcnet_new(struct pcnet **out, struct bus *bus, struct clock *clk, struct pci *pci, const struct nic_desc *d)
{
    struct pcnet *p = calloc(1, sizeof *p);
    int err;

    if (!p) return -ENOMEM;
    const struct pci_desc fn = {
        .dev = d->slot,
        .vendor = 0x1022,
        .device = 0x2000,
        .subsys_vendor = 0x1022,
        .subsys = 0x2000,
        .revision = 0x40,
        .class_code = 2, /* network controller, Ethernet */
        .int_pin = 1,
        .bar = { { .size = IO_SIZE, .io = true, .ops = &reg_ops }, { .size = IO_SIZE, .ops = &reg_ops } },
        .rom = d->rom,
        .rom_size = d->rom_size,
        .opaque = p,
        .name = "pcnet",
    };
    err = pci_add(pci, &p->fn, &fn);
    if (err) {
        free(p);
        return err;
    }
    p->bus = bus;
    p->clk = clk;
    p->net = d->net;
    p->name = d->name;
    p->intx = pci_fn_irq(p->fn);
    timer_init(&p->poll, clk, pcnet_on_poll, p);
    timer_init(&p->stimer, clk, on_stimer, p);
    eeprom_fill(p, d->mac);
    pcnet_on_reset(p);
    d->net->receive = pcnet_receive;
    d->net->fe = p;
    *out = p;
    return 0;
}

void pcnet_free(struct pcnet *p)
{
    if (!p) return;
    p->net->receive = NULL;
    timer_cancel(&p->poll);
    timer_cancel(&p->stimer);
    free(p);
}

struct snap_part pcnet_part(struct pcnet *p) { return (struct snap_part){ p->name, &pcnet_table, p }; }
