/* Owns the I/O APIC: 24 pins, each with a redirection entry, at 0xfec00000 (Intel 82093AA, version 0x11).
 *   I1  After each entry point no level pin is left that is asserted, unmasked and without Remote IRR, unless the APIC
 *       it is directed to would not take it.                                                     [ioapic_service]
 *   I2  Remote IRR is set only on level pins: an entry that turns to edge loses it. Old kernels, and Linux on this
 *       version, end a stuck interrupt that way.
 *       [ioapic_write_entry]
 * Enter at ioapic_write() (the guest), ioapic_set() (the devices), ioapic_eoi() (the local APICs). Polarity is stored
 * but means nothing here: irq_line carries "asserted" (pc_devices.h). An edge at a masked pin is lost, as the data
 * sheet has it. */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_LEN 0x1000u
#define PINS 24u

enum { IND_ID = 0, IND_VERSION = 1, IND_ARBITRATION = 2, IND_ENTRIES = 0x10 };
enum { RTE_LOGICAL = 1 << 11, RTE_RIRR = 1 << 14, RTE_LEVEL = 1 << 15, RTE_MASKED = 1 << 16 };
#define RTE_LO_WRITABLE 0x1afffu /* all but delivery status (12) and Remote IRR (14) */
#define RTE_HI_WRITABLE 0xff000000u

struct ioapic {
    u32 id;
    u8 index;
    u32 lo[PINS], hi[PINS];
    u32 line; /* levels of the pins */
    bool (*deliver)(void *lapic, const struct apic_msg *m);
    void *lapic;
    u8 reset_id;
};

static const struct snap_field ioapic_fields[] = {
    SNAP(struct ioapic, id, .max = 0x0f000000),
    SNAP(struct ioapic, index),
    SNAP_ARRAY(struct ioapic, lo, .reset = RTE_MASKED),
    SNAP_ARRAY(struct ioapic, hi),
    SNAP(struct ioapic, line, .keep = true, .max = (1u << PINS) - 1),
    { 0 },
};

static bool ioapic_send(struct ioapic *io, unsigned n)
{
    struct apic_msg m = {
        .dest = io->hi[n] >> 24,
        .logical = io->lo[n] & RTE_LOGICAL,
        .level = io->lo[n] & RTE_LEVEL,
        .delivery = io->lo[n] >> 8 & 7,
        .vector = io->lo[n],
    };
    return io->deliver(io->lapic, &m);
}

/* Sends what pin n owes, if it is a level pin (I1). */
static void ioapic_service(struct ioapic *io, unsigned n)
{
    if (!(io->line >> n & 1) || (io->lo[n] & (RTE_LEVEL | RTE_MASKED | RTE_RIRR)) != RTE_LEVEL) return;
    io->lo[n] |= RTE_RIRR; /* first: the CPU may answer with an EOI within the call */
    if (!ioapic_send(io, n)) io->lo[n] &= ~RTE_RIRR;
}

static void ioapic_set(void *opaque, unsigned n, bool level)
{
    struct ioapic *io = opaque;
    bool rise = level && !(io->line >> n & 1);

    io->line = level ? io->line | 1u << n : io->line & ~(1u << n);
    if (io->lo[n] & RTE_LEVEL) ioapic_service(io, n);
    else if (rise && !(io->lo[n] & RTE_MASKED)) ioapic_send(io, n);
}

struct irq_line ioapic_input(struct ioapic *io, unsigned n)
{
    BUG_ON(n >= PINS);
    return (struct irq_line){ .set = ioapic_set, .opaque = io, .n = n };
}

void ioapic_eoi(void *opaque, u8 vector)
{
    struct ioapic *io = opaque;

    for (unsigned n = 0; n < PINS; n++) {
        if ((io->lo[n] & (RTE_LEVEL | RTE_RIRR)) != (RTE_LEVEL | RTE_RIRR) || (io->lo[n] & 0xff) != vector) continue;
        io->lo[n] &= ~RTE_RIRR;
        ioapic_service(io, n);
    }
}

static void ioapic_write_entry(struct ioapic *io, unsigned n, bool high, u32 val)
{
    if (high) {
        io->hi[n] = val & RTE_HI_WRITABLE;
    } else {
        io->lo[n] = (val & RTE_LO_WRITABLE) | (io->lo[n] & RTE_RIRR);
        if (!(io->lo[n] & RTE_LEVEL)) io->lo[n] &= ~RTE_RIRR;
    }
    ioapic_service(io, n);
}

static void ioapic_write_reg(struct ioapic *io, u32 val)
{
    unsigned entry = io->index - IND_ENTRIES;

    if (io->index == IND_ID) io->id = val & 0x0f000000;
    else if (io->index >= IND_ENTRIES && entry < 2 * PINS) ioapic_write_entry(io, entry / 2, entry & 1, val);
}

static u32 ioapic_read_reg(const struct ioapic *io)
{
    unsigned entry = io->index - IND_ENTRIES;

    switch (io->index) {
    case IND_ID:
    case IND_ARBITRATION: return io->id;
    case IND_VERSION: return 0x11 | (PINS - 1) << 16;
    default:
        if (io->index < IND_ENTRIES || entry >= 2 * PINS) return 0;
        return entry & 1 ? io->hi[entry / 2] : io->lo[entry / 2];
    }
}

/* IOREGSEL at 0, IOWIN at 0x10. Parts of IOWIN can be read, but it is written whole. */
static u32 ioapic_read(void *dev, u32 off, unsigned size)
{
    struct ioapic *io = dev;
    u32 reg;

    switch (off & ~3u) {
    case 0x00: reg = io->index; break;
    case 0x10: reg = ioapic_read_reg(io); break;
    default: return 0;
    }
    if ((off & 3) + size > 4) return 0;
    return reg >> 8 * (off & 3) & (size == 4 ? ~0u : (1u << 8 * size) - 1);
}

static void ioapic_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct ioapic *io = dev;

    if (off == 0x00) io->index = val;
    else if (off == 0x10 && size == 4) ioapic_write_reg(io, val);
}

static const struct io_ops ioapic_ops = { ioapic_read, ioapic_write };

static bool ioapic_check(const void *chip)
{
    const struct ioapic *io = chip;

    for (unsigned n = 0; n < PINS; n++) {
        if ((io->lo[n] & ~(RTE_LO_WRITABLE | RTE_RIRR)) || (io->hi[n] & ~RTE_HI_WRITABLE)) return false;
        if ((io->lo[n] & (RTE_LEVEL | RTE_RIRR)) == RTE_RIRR) return false; /* I2 */
    }
    return true;
}

static void ioapic_on_reset(void *chip) { ioapic_reset(chip); }

static const struct snap_table ioapic_table = { .name = "ioapic",
                                                .version = 1,
                                                .size = sizeof(struct ioapic),
                                                .fields = ioapic_fields,
                                                .reset = ioapic_on_reset,
                                                .check = ioapic_check };

struct snap_part ioapic_part(struct ioapic *io) { return (struct snap_part){ ioapic_table.name, &ioapic_table, io }; }

void ioapic_reset(struct ioapic *io)
{
    snap_reset(&ioapic_table, io);
    io->id = (u32)io->reset_id << 24;
}

int ioapic_new(struct ioapic **out, struct bus *b, u8 id, bool (*deliver)(void *lapic, const struct apic_msg *m),
               void *lapic)
{
    struct ioapic *io = calloc(1, sizeof(*io));
    int err;

    if (!io) return -ENOMEM;
    io->reset_id = id;
    io->deliver = deliver;
    io->lapic = lapic;
    ioapic_reset(io);
    err = bus_map_mmio(b, IOAPIC_BASE, IOAPIC_LEN, &ioapic_ops, io, "ioapic");
    if (err) {
        free(io);
        return err;
    }
    *out = io;
    return 0;
}

void ioapic_free(struct ioapic *io) { free(io); }
