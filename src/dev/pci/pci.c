/* Owns PCI bus 0: configuration mechanism #1 at 0xcf8, the i440FX host bridge, the PIIX3 ISA bridge with its interrupt
 * router and reset control register, and the header of every function added with pci_add().
 *   I1  config[] changes only where writable[] has a bit, or by this file's and the owner's own hand.
 *       [cfg_write_byte]
 *   I2  A BAR is mapped on the bus iff its space is enabled in COMMAND, it has an address, and nothing else was there
 *       first.
 *       [pci_update_bars]
 *   I3  apic[p] is the OR of the INTx of the functions on PIRQ p, and isa[n] the OR of the PIRQs routed to ISA
 *       interrupt n. isa[n] is driven only while one is routed there.
 *       [pci_update_pirq]
 * Enter at data_read(), data_write(). PCI 2.1; Intel 290549 (440FX), 290550 (PIIX3). */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum {
    CFG_VENDOR = 0x00, CFG_DEVICE = 0x02, CFG_COMMAND = 0x04, CFG_STATUS = 0x06, CFG_REVISION = 0x08,
    CFG_PROG_IF = 0x09,
    CFG_SUBCLASS = 0x0a, CFG_CLASS = 0x0b, CFG_CACHE_LINE = 0x0c, CFG_LATENCY = 0x0d, CFG_HEADER = 0x0e, CFG_BAR = 0x10,
    CFG_SUBSYS_VENDOR = 0x2c, CFG_SUBSYS = 0x2e, CFG_ROM = 0x30, CFG_CAPABILITIES = 0x34, CFG_INT_LINE = 0x3c,
    CFG_INT_PIN = 0x3d,
};
/* clang-format on */
enum { CMD_IO = 1, CMD_MEM = 2, CMD_MASTER = 4, CMD_SERR = 0x100, CMD_INTX_OFF = 0x400 };
enum { STATUS_INTX = 0x08, STATUS_CAPABILITIES = 0x10 /* of the low byte */, HEADER_MULTI = 0x80 };
enum { BAR_IO = 1, BAR_PREFETCH = 8, ROM_ENABLE = 1 };
enum { PIIX_PIRQ = 0x60, PIRQ_OFF = 0x80 };
#define HEADER_LEN 64u
#define ADDRESS_ENABLE 0x80000000u
#define PIIX_ISA_IRQS 0xdef8u /* what a PIRQ may be routed to: 3-7, 9-12, 14, 15 */

struct pci_fn {
    struct pci *pci;
    struct pci_desc d;
    char part[24]; /* its name in a snapshot: "00:1f.7 name" */
    u8 config[256], writable[256];
    u32 mapped[6];  /* address each BAR is mapped at; 0: not mapped */
    u32 rom_mapped; /* likewise, the expansion ROM's */
    bool intx;      /* as the device drives it */
};

static const struct snap_field fn_fields[] = {
    SNAP_ARRAY(struct pci_fn, config, .keep = true),
    SNAP_ARRAY(struct pci_fn, mapped, .keep = true),
    SNAP(struct pci_fn, intx, .keep = true),
    SNAP(struct pci_fn, rom_mapped, .since = 2, .keep = true),
    { 0 },
};

struct pci {
    struct bus *bus;
    u32 address;            /* 0xcf8 */
    u8 reset_control;       /* 0xcf9 */
    struct pci_fn *fn[256]; /* by device * 8 + function */
    struct pci_fn *piix;
    struct irq_line isa[16], apic[4];
    u16 isa_driven; /* levels last given to isa[] */
    u8 apic_driven;
    struct dev_event reset;
    void (*msi)(void *opaque, u32 address, u32 data);
    void *msi_opaque;
};

static const struct snap_field pci_fields[] = {
    SNAP(struct pci, address, .max = 0x80fffffc),
    SNAP(struct pci, reset_control, .max = 6),
    SNAP(struct pci, isa_driven, .keep = true),
    SNAP(struct pci, apic_driven, .keep = true, .max = 15),
    { 0 },
};

static u32 get32(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }
static void put16(u8 *p, u16 v)
{
    p[0] = v;
    p[1] = v >> 8;
}
static void put32(u8 *p, u32 v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

/* ---- interrupts ---- */

static unsigned fn_pirq(const struct pci_fn *f) { return (f->d.dev + f->d.int_pin - 2u) & 3; }

static void pci_update_pirq(struct pci *p)
{
    u8 pirq = 0;
    u16 isa = 0;

    for (unsigned i = 0; i < ARRAY_LEN(p->fn); i++) {
        struct pci_fn *f = p->fn[i];

        if (f && f->intx && !(f->config[CFG_COMMAND + 1] & CMD_INTX_OFF >> 8)) pirq |= 1u << fn_pirq(f);
    }
    for (unsigned i = 0; i < 4; i++) {
        u8 route = p->piix->config[PIIX_PIRQ + i];

        if ((pirq >> i & 1) && !(route & PIRQ_OFF)) isa |= (1u << (route & 15)) & PIIX_ISA_IRQS;
        if ((pirq ^ p->apic_driven) >> i & 1) irq_set(&p->apic[i], pirq >> i & 1);
    }
    p->apic_driven = pirq;
    for (unsigned n = 0; n < 16; n++)
        if ((isa ^ p->isa_driven) >> n & 1) irq_set(&p->isa[n], isa >> n & 1);
    p->isa_driven = isa;
}

static void fn_set_intx(void *opaque, unsigned n UNUSED, bool level)
{
    struct pci_fn *f = opaque;

    if (f->intx == level) return;
    f->intx = level;
    f->config[CFG_STATUS] = level ? f->config[CFG_STATUS] | STATUS_INTX : f->config[CFG_STATUS] & ~STATUS_INTX;
    pci_update_pirq(f->pci);
}

struct irq_line pci_fn_irq(struct pci_fn *f)
{
    BUG_ON(!f->d.int_pin);
    return (struct irq_line){ .set = fn_set_intx, .opaque = f };
}

void pci_on_msi(struct pci *p, void (*deliver)(void *opaque, u32 address, u32 data), void *opaque)
{
    p->msi = deliver;
    p->msi_opaque = opaque;
}

void pci_msi(struct pci *p, u32 address, u32 data)
{
    if (p->msi) p->msi(p->msi_opaque, address, data);
}

/* ---- base address registers ---- */

static u32 bar_address(const struct pci_fn *f, unsigned i)
{
    const struct pci_bar *bar = &f->d.bar[i];
    u8 enable = bar->io ? CMD_IO : CMD_MEM;
    u32 base = get32(f->config + CFG_BAR + 4 * i) & ~(bar->io ? 3u : 15u);

    if (!bar->size || !(f->config[CFG_COMMAND] & enable)) return 0;
    if (bar->io && base > 0xffff) return 0;
    /* All address bits set is a guest asking for the size. */
    if (base == (u32)-bar->size) return 0;
    return base;
}

static void fn_unmap_bar(struct pci_fn *f, unsigned i)
{
    if (!f->mapped[i]) return;
    if (f->d.bar[i].io) bus_unmap_pio(f->pci->bus, f->mapped[i]);
    else if (f->d.bar[i].ram) bus_unmap_ram(f->d.bar[i].ram);
    else bus_unmap_mmio(f->pci->bus, f->mapped[i]);
    f->mapped[i] = 0;
}

static void fn_map_bar(struct pci_fn *f, unsigned i, u32 base)
{
    const struct pci_bar *bar = &f->d.bar[i];
    int err;

    if (bar->io) err = bus_map_pio(f->pci->bus, base, bar->size, bar->ops, f->d.opaque, f->d.name);
    else if (bar->ram) err = bus_map_ram(f->pci->bus, base, bar->ram, f->d.name);
    else err = bus_map_mmio(f->pci->bus, base, bar->size, bar->ops, f->d.opaque, f->d.name);
    if (!err) f->mapped[i] = base;
}

/* ---- expansion ROM ---- */

static u32 rom_address(const struct pci_fn *f)
{
    u32 reg = get32(f->config + CFG_ROM), base = reg & ~0x7ffu;

    if (!f->d.rom || !(reg & ROM_ENABLE) || !(f->config[CFG_COMMAND] & CMD_MEM)) return 0;
    return base == (u32)-f->d.rom_size ? 0 : base;
}

static void fn_unmap_rom(struct pci_fn *f)
{
    if (f->rom_mapped) bus_unmap_mmio(f->pci->bus, f->rom_mapped);
    f->rom_mapped = 0;
}

static void fn_map_rom(struct pci_fn *f, u32 base)
{
    if (!bus_map_rom(f->pci->bus, base, f->d.rom_size, f->d.rom, f->d.name)) f->rom_mapped = base;
}

static void pci_update_bars(struct pci_fn *f)
{
    for (unsigned i = 0; i < 6; i++) {
        u32 base = bar_address(f, i);

        if (base == f->mapped[i]) continue;
        fn_unmap_bar(f, i);
        if (base) fn_map_bar(f, i, base);
    }
    u32 base = rom_address(f);

    if (base == f->rom_mapped) return;
    fn_unmap_rom(f);
    if (base) fn_map_rom(f, base);
}

/* ---- configuration space ---- */

static struct pci_fn *pci_selected(const struct pci *p)
{
    if (!(p->address & ADDRESS_ENABLE) || (p->address >> 16 & 0xff) != 0) return NULL; /* there is one bus */
    return p->fn[p->address >> 8 & 0xff];
}

static void cfg_write_byte(struct pci_fn *f, u8 off, u8 val)
{
    f->config[off] = (f->config[off] & ~f->writable[off]) | (val & f->writable[off]);
}

static u32 data_read(void *dev, u32 off, unsigned size)
{
    struct pci *p = dev;
    struct pci_fn *f = pci_selected(p);
    unsigned at = (p->address & 0xfc) + off;
    u32 v = 0;

    if (!f) return ~0u;
    if (f->d.cfg_reading) f->d.cfg_reading(f->d.opaque, at, size);
    for (unsigned i = 0; i < size; i++) v |= (u32)f->config[(at + i) & 0xff] << 8 * i;
    return v;
}

static void data_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct pci *p = dev;
    struct pci_fn *f = pci_selected(p);
    unsigned at = (p->address & 0xfc) + off;

    if (!f) return;
    for (unsigned i = 0; i < size; i++) cfg_write_byte(f, at + i, val >> 8 * i);
    pci_update_bars(f);
    pci_update_pirq(p);
    if (f->d.cfg_written) f->d.cfg_written(f->d.opaque, at, size);
}

/* PIIX3 RC register: bit 1 says hard or soft, the rise of bit 2 does it. The difference would be the CPU's caches. */
static void reset_control_write(struct pci *p, u8 val)
{
    bool rise = (val & 4) && !(p->reset_control & 4);

    p->reset_control = val & 6;
    if (rise) dev_event_fire(&p->reset, val);
}

/* CONFIG_ADDRESS answers to dwords only; a byte access at 0xcf9 is the PIIX3's. */
static u32 address_read(void *dev, u32 off, unsigned size)
{
    struct pci *p = dev;

    if (off == 0 && size == 4) return p->address;
    if (off == 1 && size == 1) return p->reset_control;
    return ~0u;
}

static void address_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct pci *p = dev;

    if (off == 0 && size == 4) p->address = val & 0x80fffffc;
    else if (off == 1 && size == 1) reset_control_write(p, val);
}

static const struct io_ops address_ops = { address_read, address_write };
static const struct io_ops data_ops = { data_read, data_write };

u8 *pci_fn_config(struct pci_fn *f) { return f->config; }
u8 *pci_fn_writable(struct pci_fn *f) { return f->writable; }

void pci_host_hooks(struct pci *p, void *opaque, void (*reset)(void *opaque),
                    void (*cfg_written)(void *opaque, u8 off, unsigned size))
{
    struct pci_desc *d = &p->fn[0]->d;

    d->opaque = opaque;
    d->reset = reset;
    d->cfg_written = cfg_written;
}
const u8 *pci_host_config(const struct pci *p) { return p->fn[0]->config; }

bool pci_fn_bus_master(const struct pci_fn *f) { return f->config[CFG_COMMAND] & CMD_MASTER; }

/* ---- functions ---- */

static void fn_init_bar(struct pci_fn *f, unsigned i)
{
    const struct pci_bar *bar = &f->d.bar[i];
    u8 *reg = f->config + CFG_BAR + 4 * i;

    if (!bar->size) return;
    put32(reg, bar->io ? BAR_IO : bar->prefetch ? BAR_PREFETCH : 0);
    put32(f->writable + CFG_BAR + 4 * i, (u32)-bar->size & ~(bar->io ? 3u : 15u));
}

/* Power-on values of the header, and what of it the guest may write. */
static void fn_init_header(struct pci_fn *f)
{
    const struct pci_desc *d = &f->d;
    bool io = false, mem = d->rom;

    put16(f->config + CFG_VENDOR, d->vendor);
    put16(f->config + CFG_DEVICE, d->device);
    f->config[CFG_REVISION] = d->revision;
    f->config[CFG_PROG_IF] = d->prog_if;
    f->config[CFG_SUBCLASS] = d->subclass;
    f->config[CFG_CLASS] = d->class_code;
    put16(f->config + CFG_SUBSYS_VENDOR, d->subsys_vendor);
    put16(f->config + CFG_SUBSYS, d->subsys);
    f->config[CFG_INT_PIN] = d->int_pin;
    f->config[CFG_CAPABILITIES] = d->cap;
    if (d->cap) f->config[CFG_STATUS] = STATUS_CAPABILITIES;
    for (unsigned i = 0; i < 6; i++) {
        fn_init_bar(f, i);
        if (d->bar[i].size) *(d->bar[i].io ? &io : &mem) = true;
    }
    if (d->rom) put32(f->writable + CFG_ROM, (u32)-d->rom_size | ROM_ENABLE);
    put16(f->writable + CFG_COMMAND,
          (io ? CMD_IO : 0) | (mem ? CMD_MEM : 0) | CMD_MASTER | CMD_SERR | (d->int_pin ? CMD_INTX_OFF : 0));
    f->writable[CFG_CACHE_LINE] = f->writable[CFG_LATENCY] = 0xff;
    if (d->int_pin) f->writable[CFG_INT_LINE] = 0xff;
}

static void fn_reset(struct pci_fn *f)
{
    for (unsigned i = 0; i < 6; i++) fn_unmap_bar(f, i);
    fn_unmap_rom(f);
    for (unsigned i = 0; i < sizeof f->config; i++) f->config[i] &= ~f->writable[i];
    for (unsigned i = 0; i < 6; i++) fn_init_bar(f, i);
    if (f->d.reset) f->d.reset(f->d.opaque);
}

/* ---- save and load ---- */

/* Which function it is, and what kind of BARs it has, no guest can change. */
static bool fn_check(const void *chip)
{
    const struct pci_fn *f = chip;
    struct pci_fn fresh = { .d = f->d };

    fn_init_header(&fresh);
    for (unsigned i = 0; i < HEADER_LEN; i++) {
        if (i / 4 == CFG_COMMAND / 4 || i == CFG_HEADER) continue;
        if ((f->config[i] ^ fresh.config[i]) & ~f->writable[i]) return false;
    }
    for (unsigned i = 0; i < 6; i++)
        if (f->mapped[i] && f->mapped[i] != bar_address(f, i)) return false;
    return !f->rom_mapped || f->rom_mapped == rom_address(f);
}

static void fn_unmap(void *chip)
{
    for (unsigned i = 0; i < 6; i++) fn_unmap_bar(chip, i);
    fn_unmap_rom(chip);
}

/* What was mapped, not what would be: a BAR that lost its place to something else has lost it still. */
static int fn_loaded(void *chip)
{
    struct pci_fn *f = chip;

    for (unsigned i = 0; i < 6; i++) {
        u32 base = f->mapped[i];

        f->mapped[i] = 0;
        if (base) fn_map_bar(f, i, base);
        if (f->mapped[i] != base) return -EBUSY;
    }
    u32 rom = f->rom_mapped;

    f->rom_mapped = 0;
    if (rom) fn_map_rom(f, rom);
    return f->rom_mapped == rom ? 0 : -EBUSY;
}

static const struct snap_table fn_table = { .name = "pci function",
                                            .version = 2,
                                            .size = sizeof(struct pci_fn),
                                            .fields = fn_fields,
                                            .check = fn_check,
                                            .unmap = fn_unmap,
                                            .loaded = fn_loaded };

static bool bar_sane(const struct pci_bar *bar)
{
    if (!bar->size) return true;
    if (!bar->ops == !bar->ram || (bar->io && bar->ram) || (bar->size & (bar->size - 1))) return false;
    return bar->io ? bar->size >= 4 && bar->size <= 256 : bar->size >= 16 && bar->size <= 1u << 31;
}

int pci_add(struct pci *p, struct pci_fn **out, const struct pci_desc *d)
{
    unsigned devfn = d->dev * 8u + d->fn;
    struct pci_fn *f, *first;

    BUG_ON(d->dev > 31 || d->fn > 7 || d->int_pin > 4);
    for (unsigned i = 0; i < 6; i++) BUG_ON(!bar_sane(&d->bar[i]));
    BUG_ON(d->rom && (d->rom_size < PAGE_SIZE || d->rom_size & (d->rom_size - 1)));
    if (p->fn[devfn]) return -EBUSY;
    f = calloc(1, sizeof(*f));
    if (!f) return -ENOMEM;
    f->pci = p;
    f->d = *d;
    fn_init_header(f);
    if (d->rom) pci_rom_name(d->rom, d->rom_size, d->vendor, d->device);
    snprintf(f->part, sizeof f->part, "00:%02x.%u %s", d->dev, d->fn, d->name);
    p->fn[devfn] = f;
    first = p->fn[d->dev * 8u];
    if (d->fn && first) first->config[CFG_HEADER] |= HEADER_MULTI;
    for (unsigned i = 1; !d->fn && i < 8; i++)
        if (p->fn[devfn + i]) f->config[CFG_HEADER] |= HEADER_MULTI;
    if (out) *out = f;
    return 0;
}

/* ---- the two bridges ---- */

static void piix_reset(void *opaque)
{
    struct pci *p = opaque;

    if (!p->piix) return;
    p->piix->config[CFG_COMMAND] = 7; /* an ISA bridge answers always */
    memset(p->piix->config + PIIX_PIRQ, PIRQ_OFF, 4);
}

static int pci_add_bridges(struct pci *p)
{
    const struct pci_desc host = {
        .dev = 0,
        .vendor = 0x8086,
        .device = 0x1237,
        .class_code = 6,
        .revision = 2,
        .name = "i440fx",
        .subsys_vendor = 0x1af4,
        .subsys = 0x1100, /* NOT-HW: by this SeaBIOS knows that it may ask fw_cfg */
    };
    const struct pci_desc isa = { .dev = 1,
                                  .vendor = 0x8086,
                                  .device = 0x7000,
                                  .class_code = 6,
                                  .subclass = 1,
                                  .opaque = p,
                                  .name = "piix3",
                                  .reset = piix_reset };
    struct pci_fn *h;
    int err;

    if ((err = pci_add(p, &h, &host))) return err;
    for (unsigned i = 0x58; i < 0xa0; i++)
        h->writable[i] = 0xff; /* DRB and the like: kept, without effect; all of RAM is always there. PAM is pam.c's */
    h->writable[0x72] = 0x78;  /* SMRAM: NOT-HW: never opened, since there is no SMM */
    if ((err = pci_add(p, &p->piix, &isa))) return err;
    put16(p->piix->config + CFG_STATUS, 0x0200); /* medium DEVSEL */
    put16(p->piix->writable + CFG_COMMAND, CMD_SERR);
    memset(p->piix->writable + PIIX_PIRQ, 0x8f, 4);
    for (unsigned i = 0x4c; i < 0xd0; i++)
        if (!p->piix->writable[i]) p->piix->writable[i] = i >= 0x64 || i < 0x60 ? 0xff : 0;
    return 0;
}

static bool pci_check(const void *chip)
{
    const struct pci *p = chip;
    return !(p->address & ~0x80fffffcu) && !(p->isa_driven & ~PIIX_ISA_IRQS);
}

static void pci_on_reset(void *chip) { pci_reset(chip); }

static const struct snap_table pci_table = { .name = "pci",
                                             .version = 1,
                                             .size = sizeof(struct pci),
                                             .fields = pci_fields,
                                             .reset = pci_on_reset,
                                             .check = pci_check };

unsigned pci_parts(struct pci *p, struct snap_part *out, unsigned room)
{
    unsigned n = 0;

    if (room) out[n++] = (struct snap_part){ pci_table.name, &pci_table, p };
    for (unsigned i = 0; i < ARRAY_LEN(p->fn); i++)
        if (p->fn[i] && n < room) out[n++] = (struct snap_part){ p->fn[i]->part, &fn_table, p->fn[i] };
    return n;
}

void pci_reset(struct pci *p)
{
    snap_reset(&pci_table, p);
    for (unsigned i = 0; i < ARRAY_LEN(p->fn); i++)
        if (p->fn[i]) fn_reset(p->fn[i]);
    pci_update_pirq(p);
}

/* The next address for a BAR of this size: aligned to it. */
static u32 align_up(u32 base, u64 size) { return (base + size - 1) & ~(size - 1); }

static void fn_assign_bars(struct pci_fn *f, u32 *mem, u32 *io)
{
    for (unsigned i = 0; i < 6; i++) {
        const struct pci_bar *bar = &f->d.bar[i];
        u32 *next = bar->io ? io : mem;
        u8 *reg = f->config + CFG_BAR + 4 * i;

        if (!bar->size) continue;
        *next = align_up(*next, bar->size);
        put32(reg, *next | (get32(reg) & 15));
        *next += bar->size;
        f->config[CFG_COMMAND] |= bar->io ? CMD_IO : CMD_MEM;
    }
    pci_update_bars(f);
}

void pci_firmware_setup(struct pci *p, u32 mem_base, u16 io_base)
{
    static const u8 route[4] = { 10, 10, 11, 11 };
    u32 io = io_base;

    memcpy(p->piix->config + PIIX_PIRQ, route, 4);
    for (unsigned i = 0; i < ARRAY_LEN(p->fn); i++) {
        struct pci_fn *f = p->fn[i];

        if (!f) continue;
        fn_assign_bars(f, &mem_base, &io);
        if (f->d.int_pin) f->config[CFG_INT_LINE] = route[fn_pirq(f)];
        if (f->d.cfg_written) f->d.cfg_written(f->d.opaque, CFG_COMMAND, 2);
    }
    pci_update_pirq(p);
}

int pci_new(struct pci **out, struct bus *b, const struct irq_line isa[16], const struct irq_line apic[4],
            struct dev_event reset)
{
    struct pci *p = calloc(1, sizeof(*p));
    int err;

    if (!p) return -ENOMEM;
    p->bus = b;
    memcpy(p->isa, isa, sizeof(p->isa));
    memcpy(p->apic, apic, sizeof(p->apic));
    p->reset = reset;
    if ((err = pci_add_bridges(p))) goto fail;
    pci_reset(p);
    if ((err = bus_map_pio(b, 0xcf8, 4, &address_ops, p, "pci address"))) goto fail;
    if ((err = bus_map_pio(b, 0xcfc, 4, &data_ops, p, "pci data"))) goto fail_address;
    *out = p;
    return 0;

fail_address:
    bus_unmap_pio(b, 0xcf8);
fail:
    pci_free(p);
    return err;
}

void pci_free(struct pci *p)
{
    if (!p) return;
    for (unsigned i = 0; i < ARRAY_LEN(p->fn); i++) free(p->fn[i]);
    free(p);
}
