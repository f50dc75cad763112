/* Owns an 82540EM's registers, EEPROM, PHY and interrupt. Rings and packets are e1000_ring.c's.
 *   I1  INTA is asserted iff ICR & IMS, and ITR's time since the last assertion has passed.      [interrupt_update]
 *   I2  STATUS, EECD, MDIC and the interrupt registers are made when they are read; reg[] has what was written.
 *       [reg_read]
 * NOT-HW: nothing is ever in flight: transfers, PHY and EEPROM take no time; there is no flow control (the back end
 * keeps what does not fit), no wake-up, no management engine; delays are not extended by further packets.
 * Enter at reg_read(), reg_write(). Intel 317453 (PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's
 * Manual, 8254x). */
#include "src/dev/net/e1000_priv.h"

#include <errno.h>
#include <string.h>

#define MEM_SIZE 0x20000u
#define IO_SIZE 64u
#define PHY_ADDRESS 1u
#define NS_OF_ITR 256u
/* clang-format off */
enum { STATUS_FD = 1, STATUS_LU = 2, STATUS_1000 = 0x280 /* speed, and as it was detected */ };
enum { EE_SK = 1, EE_CS = 2, EE_DI = 4, EE_DO = 8, EE_REQUEST = 0x40, EE_GRANT = 0x80, EE_PRESENT = 0x100 };
enum { EERD_START = 1, EERD_DONE = 0x10 };
enum { MDI_WRITE = 1, MDI_READ = 2, MDI_READY = 1 << 28, MDI_INTERRUPT = 1 << 29, MDI_ERROR = 1 << 30 };
enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_PARTNER = 5, PHY_EXPANSION = 6,
       PHY_1000_STATUS = 10,
       PHY_EXT_STATUS = 15, PHY_SPEC_STATUS = 17 };
enum { PHY_RESET = 0x8000, PHY_RESTART = 0x200 };
enum { RAH_VALID = 1u << 31 };
/* clang-format on */

/* An M88E1011: 1000 Mbit/s, full duplex, negotiated. */
static const u16 phy_reset[E1000_PHY_REGS] = {
    [PHY_CONTROL] = 0x1140,
    [PHY_STATUS] = 0x796d,
    [PHY_ID1] = 0x0141,
    [PHY_ID2] = 0x0c24,
    [4] = 0x0de1,
    [PHY_PARTNER] = 0xcde1,
    [PHY_EXPANSION] = 0xf,
    [9] = 0x0e00,
    [PHY_1000_STATUS] = 0x3c00,
    [PHY_EXT_STATUS] = 0x3000,
    [16] = 0x0068,
    [PHY_SPEC_STATUS] = 0xac08,
    [20] = 0x0d60,
};

static const struct snap_field e1000_fields[] = {
    SNAP_ARRAY(struct e1000, reg, .keep = true),
    SNAP_ARRAY(struct e1000, phy, .keep = true),
    SNAP(struct e1000, io_address),
    SNAP_COLUMN(struct e1000, context, ip_start),
    SNAP_COLUMN(struct e1000, context, ip_place),
    SNAP_COLUMN(struct e1000, context, l4_start),
    SNAP_COLUMN(struct e1000, context, l4_place),
    SNAP_COLUMN(struct e1000, context, header),
    SNAP_COLUMN(struct e1000, context, ip_end),
    SNAP_COLUMN(struct e1000, context, l4_end),
    SNAP_COLUMN(struct e1000, context, size),
    SNAP_COLUMN(struct e1000, context, tcp),
    SNAP_COLUMN(struct e1000, context, ip4),
    SNAP(struct e1000, throttle),
    SNAP(struct e1000, tx_delay),
    SNAP(struct e1000, rx_delay),
    SNAP(struct e1000, quiet_until),
    EEPROM93_FIELDS(struct e1000, eeprom),
    { 0 },
};

/* ---- interrupts ---- */

static void interrupt_update(struct e1000 *e)
{
    bool wanted = e1000_get(e, ICR) & e1000_get(e, IMS);
    u64 now = clock_now(e->clk), gap = (u64)(e1000_get(e, ITR) & 0xffff) * NS_OF_ITR;

    if (!wanted) {
        irq_set(&e->intx, false);
    } else if (gap && now < e->quiet_until) {
        if (!e->throttle.armed) timer_arm(&e->throttle, e->quiet_until);
    } else {
        e->quiet_until = now + gap;
        irq_set(&e->intx, true);
    }
}

void e1000_cause(struct e1000 *e, u32 causes)
{
    *e1000_reg(e, ICR) |= causes;
    /* What is asserted already is not delayed. */
    if (e1000_get(e, ICR) & ~causes & e1000_get(e, IMS)) return;
    interrupt_update(e);
}

static void on_throttle(void *arg) { interrupt_update(arg); }
static void on_tx_delay(void *arg) { e1000_cause(arg, INT_TXDW); }
static void on_rx_delay(void *arg) { e1000_cause(arg, INT_RXT0); }

static u32 icr_read(struct e1000 *e)
{
    u32 v = e1000_get(e, ICR);

    *e1000_reg(e, ICR) = 0;
    interrupt_update(e);
    return v;
}

/* ---- life ---- */

static void address_load(struct e1000 *e)
{
    const u16 *w = e->eeprom.word;

    *e1000_reg(e, RA) = w[0] | (u32)w[1] << 16;
    *e1000_reg(e, RA + 4) = w[2] | RAH_VALID;
}

/* All registers but those of the PHY and the EEPROM. */
static void soft_reset(struct e1000 *e)
{
    static const struct {
        u32 at, value;
    } value[] = { { CTRL, 0x0201 },       { VET, 0x8100 },       { TIPG, 0x00602008 },
                  { LEDCTL, 0x07068302 }, { PBA, 0x00100030 },   { RXDCTL, 0x010000 },
                  { TXDCTL, 0 },          { TSPMT, 0x01000400 }, { MANC, 0 } };

    timer_cancel(&e->throttle);
    timer_cancel(&e->tx_delay);
    timer_cancel(&e->rx_delay);
    memset(e->reg, 0, sizeof e->reg);
    memset(e->context, 0, sizeof e->context);
    e->quiet_until = 0;
    for (unsigned i = 0; i < ARRAY_LEN(value); i++) *e1000_reg(e, value[i].at) = value[i].value;
    address_load(e);
    irq_set(&e->intx, false);
}

static void e1000_on_reset(void *chip)
{
    struct e1000 *e = chip;

    timer_cancel(&e->throttle);
    timer_cancel(&e->tx_delay);
    timer_cancel(&e->rx_delay);
    snap_reset(&e1000_table, e);
    memcpy(e->phy, phy_reset, sizeof e->phy);
    eeprom93_idle(&e->eeprom);
    soft_reset(e);
}

/* ---- EEPROM and PHY ---- */

static u32 eecd_read(const struct e1000 *e)
{
    u32 v = e1000_get(e, EECD) & (EE_SK | EE_CS | EE_DI | EE_REQUEST | 0x30);

    return v | EE_PRESENT | (v & EE_REQUEST ? EE_GRANT : 0) | (e->eeprom.dout ? EE_DO : 0);
}

static void eecd_write(struct e1000 *e, u32 val)
{
    *e1000_reg(e, EECD) = val;
    if (val & EE_REQUEST) eeprom93_drive(&e->eeprom, val & EE_CS, val & EE_SK, val & EE_DI);
}

static void eerd_write(struct e1000 *e, u32 val)
{
    u32 at = val >> 8 & 0xff;

    if (!(val & EERD_START)) return;
    *e1000_reg(e, EERD) = at << 8 | EERD_DONE | (u32)(at < EEPROM93_WORDS ? e->eeprom.word[at] : 0xffff) << 16;
}

static void phy_write(struct e1000 *e, unsigned reg, u16 val)
{
    switch (reg) {
    case PHY_STATUS:
    case PHY_ID1:
    case PHY_ID2:
    case PHY_PARTNER:
    case PHY_EXPANSION:
    case PHY_1000_STATUS:
    case PHY_EXT_STATUS:
    case PHY_SPEC_STATUS: return;
    case PHY_CONTROL:
        if (val & PHY_RESET) memcpy(e->phy, phy_reset, sizeof e->phy);
        else e->phy[reg] = val & (u16)~PHY_RESTART;
        if (val & (PHY_RESET | PHY_RESTART)) e1000_cause(e, INT_LSC);
        return;
    default: e->phy[reg] = val; return;
    }
}

static void mdic_write(struct e1000 *e, u32 val)
{
    unsigned reg = val >> 16 & 31, phy = val >> 21 & 31, op = val >> 26 & 3;
    u32 result = (val & 0x0fffffff & ~0xffffu) | MDI_READY;

    if (phy != PHY_ADDRESS || (op != MDI_READ && op != MDI_WRITE)) result |= MDI_ERROR | (val & 0xffff);
    else if (op == MDI_READ) result |= e->phy[reg];
    else {
        phy_write(e, reg, (u16)val);
        result |= val & 0xffff;
    }
    *e1000_reg(e, MDIC) = result;
    if (val & MDI_INTERRUPT) e1000_cause(e, INT_MDAC);
}

/* ---- registers ---- */

static u32 reg_get(struct e1000 *e, u32 at)
{
    u32 v;

    switch (at) {
    case STATUS: return STATUS_FD | STATUS_1000 | (e1000_get(e, CTRL) & CTRL_SLU ? STATUS_LU : 0);
    case EECD: return eecd_read(e);
    case ICR: return icr_read(e);
    case ICS:
    case IMC: return 0;
    default: break;
    }
    if (at >= REGS_END) return 0;
    v = e1000_get(e, at);
    if (at >= STATS && at < STATS_END) *e1000_reg(e, at) = 0; /* they count from the last reading */
    return v;
}

static void reg_set(struct e1000 *e, u32 at, u32 val)
{
    switch (at) {
    case CTRL:
        if (val & CTRL_RST) {
            soft_reset(e);
            return;
        }
        if (val & CTRL_PHY_RST) memcpy(e->phy, phy_reset, sizeof e->phy);
        if ((val & CTRL_SLU) && !(e1000_get(e, CTRL) & CTRL_SLU)) e1000_cause(e, INT_LSC);
        *e1000_reg(e, CTRL) = val & ~CTRL_PHY_RST;
        return;
    case CTRL_EXT:
        if (val & 0x2000) address_load(e); /* EE_RST */
        *e1000_reg(e, CTRL_EXT) = val & ~0x2000u;
        return;
    case STATUS: return;
    case EECD: eecd_write(e, val); return;
    case EERD: eerd_write(e, val); return;
    case MDIC: mdic_write(e, val); return;
    case ICR:
        *e1000_reg(e, ICR) &= ~val;
        interrupt_update(e);
        return;
    case ICS: e1000_cause(e, val & 0x1ffff); return;
    case IMS:
        *e1000_reg(e, IMS) |= val & 0x1ffff;
        interrupt_update(e);
        return;
    case IMC:
        *e1000_reg(e, IMS) &= ~val;
        interrupt_update(e);
        return;
    case RDLEN:
    case TDLEN: val &= 0xfff80; break;
    case RDH:
    case RDT:
    case TDH:
    case TDT: val &= 0xffff; break;
    default: break;
    }
    if (at >= REGS_END || (at >= STATS && at < STATS_END)) return;
    *e1000_reg(e, at) = val;
    if (at == TDT || at == TCTL) e1000_transmit(e);
    if (at == RDT || at == RCTL) netdev_ready(e->net);
    if (at == RDTR && (val & 0x80000000u)) on_rx_delay(e); /* FPD: what is delayed comes now */
}

/* Dwords alone are registers; a smaller read is a part of one. */
static u32 mem_read(void *dev, u32 off, unsigned size)
{
    u32 v = reg_get(dev, off & ~3u) >> 8 * (off & 3);

    return size == 4 ? v : v & ((1u << 8 * size) - 1);
}
static void mem_write(void *dev, u32 off, unsigned size, u32 val)
{
    if (size == 4 && !(off & 3)) reg_set(dev, off, val);
}
static const struct io_ops mem_ops = { mem_read, mem_write };

/* IOADDR and IODATA. */
static u32 io_read(void *dev, u32 off, unsigned size)
{
    struct e1000 *e = dev;

    if (size != 4) return ~0u;
    if (off == 0) return e->io_address;
    return off == 4 && !(e->io_address & 3) && e->io_address < MEM_SIZE ? reg_get(e, e->io_address) : 0;
}
static void io_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct e1000 *e = dev;

    if (size != 4) return;
    if (off == 0) e->io_address = val;
    else if (off == 4 && !(e->io_address & 3) && e->io_address < MEM_SIZE) reg_set(e, e->io_address, val);
}
static const struct io_ops io_ops = { io_read, io_write };

/* ---- a board's part ---- */

const struct snap_table e1000_table = { .name = "e1000",
                                        .version = 1,
                                        .size = sizeof(struct e1000),
                                        .fields = e1000_fields,
                                        .reset = e1000_on_reset };

static void eeprom_fill(struct e1000 *e, const u8 mac[ETHER_ADDRESS])
{
    enum { IMAGE = 4, CONTROL1 = 0x0a, SUBSYSTEM = 0x0b, SUM = 0x3f, SUM_IS = 0xbaba };
    static const u16 ids[] = { 0x001e, 0x8086, 0x100e, 0x8086 };
    u16 *w = e->eeprom.word, sum = 0;

    for (unsigned i = 0; i < 3; i++) w[i] = (u16)(mac[2 * i] | mac[2 * i + 1] << 8);
    w[IMAGE] = 0xffff;
    w[CONTROL1] = 0x4408; /* its signature; IDs are in here */
    memcpy(w + SUBSYSTEM, ids, sizeof ids);
    for (unsigned i = 0; i < SUM; i++) sum += w[i];
    w[SUM] = (u16)(SUM_IS - sum);
}

int e1000_new(struct e1000 **out, struct bus *bus, struct clock *clk, struct pci *pci, const struct nic_desc *d)
{
    struct e1000 *e = calloc(1, sizeof *e);
    int err;

    if (!e || !(e->packet = malloc(SEGMENT_PACKET_MAX))) {
        free(e);
        return -ENOMEM;
    }
    const struct pci_desc fn = {
        .dev = d->slot,
        .vendor = 0x8086,
        .device = 0x100e,
        .subsys_vendor = 0x8086,
        .subsys = 0x001e,
        .revision = 2,
        .class_code = 2, /* network controller, Ethernet */
        .int_pin = 1,
        .bar = { [0] = { .size = MEM_SIZE, .ops = &mem_ops }, [2] = { .size = IO_SIZE, .io = true, .ops = &io_ops } },
        .rom = d->rom,
        .rom_size = d->rom_size,
        .opaque = e,
        .name = "e1000",
    };
    err = pci_add(pci, &e->fn, &fn);
    if (err) {
        free(e->packet);
        free(e);
        return err;
    }
    e->bus = bus;
    e->clk = clk;
    e->net = d->net;
    e->name = d->name;
    e->intx = pci_fn_irq(e->fn);
    timer_init(&e->throttle, clk, on_throttle, e);
    timer_init(&e->tx_delay, clk, on_tx_delay, e);
    timer_init(&e->rx_delay, clk, on_rx_delay, e);
    eeprom_fill(e, d->mac);
    e1000_on_reset(e);
    d->net->receive = e1000_receive;
    d->net->fe = e;
    *out = e;
    return 0;
}

void e1000_free(struct e1000 *e)
{
    if (!e) return;
    e->net->receive = NULL;
    timer_cancel(&e->throttle);
    timer_cancel(&e->tx_delay);
    timer_cancel(&e->rx_delay);
    free(e->packet);
    free(e);
}

struct snap_part e1000_part(struct e1000 *e) { return (struct snap_part){ e->name, &e1000_table, e }; }
