/* Owns the PC's two 8237A DMA controllers and the page registers.
 *   I1  Controller 1 (channels 4-7) has its registers on even addresses only; odd ones alias them.
 *   I2  A channel that has come to its end is masked, or begins again.                             [count_down]
 * Enter at controller_write(), dma8237_transfer(). Intel 8237A, 231466-005.
 * NOT-HW: a transfer takes no time, so modes single, demand and block are one; that channel 4 passes on the requests of
 * 0 to 3 is taken for granted; memory to memory, and requests by software, are not done. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

/* clang-format off */
enum { COMMAND_DISABLE = 0x04 };
enum { MODE_TYPE = 0x0c, MODE_VERIFY = 0, MODE_TO_MEMORY = 0x04, MODE_FROM_MEMORY = 0x08, MODE_AUTO = 0x10,
    MODE_DOWN = 0x20, MODE_SELECT = 0xc0, MODE_CASCADE = 0xc0 };
enum { REG_COMMAND = 8, REG_REQUEST, REG_MASK_ONE, REG_MODE, REG_CLEAR_FLIPFLOP, REG_MASTER_CLEAR, REG_CLEAR_MASK,
    REG_MASK_ALL };
/* clang-format on */

struct dma_channel {
    u16 base_addr, base_count, addr, count;
    u8 mode;
};
struct controller {
    struct dma_channel ch[4];
    u8 command, request, mask;
    u8 ended;      /* channels that have come to terminal count since the status was read */
    bool flipflop; /* the next byte of an address or count is the high one */
};
struct dma8237 {
    struct bus *bus;
    struct controller c[2];
    u8 page[16]; /* 0x80..0x8f, less 0x80 itself, which is port80.c's */
};

#define DMA_FIELDS(n)                                                                                           \
    SNAP_COLUMN(struct dma8237, c[n].ch, base_addr), SNAP_COLUMN(struct dma8237, c[n].ch, base_count),          \
        SNAP_COLUMN(struct dma8237, c[n].ch, addr), SNAP_COLUMN(struct dma8237, c[n].ch, count),                \
        SNAP_COLUMN(struct dma8237, c[n].ch, mode), SNAP(struct dma8237, c[n].command),                         \
        SNAP(struct dma8237, c[n].request, .max = 15), SNAP(struct dma8237, c[n].mask, .reset = 15, .max = 15), \
        SNAP(struct dma8237, c[n].flipflop)
#define ENDED_FIELD(n) SNAP(struct dma8237, c[n].ended, .max = 15, .since = 2)
static const struct snap_field dma_fields[] = { DMA_FIELDS(0),  DMA_FIELDS(1),  SNAP_ARRAY(struct dma8237, page),
                                                ENDED_FIELD(0), ENDED_FIELD(1), { 0 } };
static const struct snap_table dma_table = { .name = "dma",
                                             .version = 2,
                                             .size = sizeof(struct dma8237),
                                             .fields = dma_fields };

static void half_write(u16 *reg, bool high, u8 val)
{
    *reg = high ? (*reg & 0x00ff) | val << 8 : (*reg & 0xff00) | val;
}

static void master_clear(struct controller *c)
{
    c->command = c->request = c->ended = 0;
    c->flipflop = false;
    c->mask = 0x0f;
}

static void controller_write(struct controller *c, unsigned reg, u8 val)
{
    struct dma_channel *ch = &c->ch[reg / 2 & 3];
    u8 bit = 1u << (val & 3);

    switch (reg) {
    case REG_COMMAND: c->command = val; break;
    case REG_REQUEST: c->request = val & 4 ? c->request | bit : c->request & ~bit; break;
    case REG_MASK_ONE: c->mask = val & 4 ? c->mask | bit : c->mask & ~bit; break;
    case REG_MODE: c->ch[val & 3].mode = val & 0xfc; break;
    case REG_CLEAR_FLIPFLOP: c->flipflop = false; break;
    case REG_MASTER_CLEAR: master_clear(c); break;
    case REG_CLEAR_MASK: c->mask = 0; break;
    case REG_MASK_ALL: c->mask = val & 0x0f; break;
    default: /* base and current registers are written together */
        half_write(reg & 1 ? &ch->base_count : &ch->base_addr, c->flipflop, val);
        half_write(reg & 1 ? &ch->count : &ch->addr, c->flipflop, val);
        c->flipflop = !c->flipflop;
    }
}

static u8 controller_read(struct controller *c, unsigned reg)
{
    const struct dma_channel *ch = &c->ch[reg / 2 & 3];
    u16 v;

    switch (reg) {
    case REG_COMMAND: /* status */
        v = c->request << 4 | c->ended;
        c->ended = 0;
        return v;
    case REG_MASK_ALL: return c->mask | 0xf0;
    case REG_REQUEST:
    case REG_MASK_ONE:
    case REG_MODE:
    case REG_CLEAR_FLIPFLOP:
    case REG_MASTER_CLEAR:
    case REG_CLEAR_MASK: return 0;
    default:
        v = reg & 1 ? ch->count : ch->addr;
        v = c->flipflop ? v >> 8 : v;
        c->flipflop = !c->flipflop;
        return v;
    }
}

/* n units have passed. True: that was the last. */
static bool count_down(struct controller *c, unsigned n, u32 units)
{
    struct dma_channel *ch = &c->ch[n];
    bool last = units == ch->count + 1u;

    ch->addr = ch->mode & MODE_DOWN ? ch->addr - units : ch->addr + units;
    ch->count -= units;
    if (!last) return false;
    c->ended |= 1u << n;
    if (ch->mode & MODE_AUTO) {
        ch->addr = ch->base_addr;
        ch->count = ch->base_count;
    } else {
        c->mask |= 1u << n;
    }
    return true;
}

u32 dma8237_transfer(struct dma8237 *d, unsigned channel, bool to_memory, u8 *buf, u32 len, bool *tc)
{
    static const u8 page_of[8] = { 7, 3, 1, 2, 15, 11, 9, 10 }; /* the PC's wiring */
    struct controller *c = &d->c[channel / 4];
    unsigned n = channel % 4, unit = channel / 4 + 1;
    struct dma_channel *ch = &c->ch[n];
    unsigned type = ch->mode & MODE_TYPE;
    u32 done = 0;

    *tc = false;
    if (c->command & COMMAND_DISABLE || c->mask >> n & 1 || (ch->mode & MODE_SELECT) == MODE_CASCADE) return 0;
    if (type != MODE_VERIFY && type != (to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY)) return 0;
    while (len - done >= unit && !*tc) {
        u32 units = (len - done) / unit, room = 0x10000u - ch->addr; /* the page register does not count */
        u8 page = d->page[page_of[channel]];
        paddr at = unit == 1 ? (u32)page << 16 | ch->addr : (u32)(page & 0xfe) << 16 | (u32)ch->addr << 1;

        if (units > ch->count + 1u) units = ch->count + 1u;
        if (units > room) units = room;
        if (ch->mode & MODE_DOWN) units = 1;
        if (type == MODE_TO_MEMORY) bus_dma_write(d->bus, at, buf + done, units * unit);
        if (type == MODE_FROM_MEMORY) bus_dma_read(d->bus, at, buf + done, units * unit);
        done += units * unit;
        *tc = count_down(c, n, units);
    }
    return done;
}

static u8 dma0_read(void *dev, u32 off)
{
    struct dma8237 *d = dev;
    return controller_read(&d->c[0], off);
}
static void dma0_write(void *dev, u32 off, u8 val)
{
    struct dma8237 *d = dev;
    controller_write(&d->c[0], off, val);
}
static u8 dma1_read(void *dev, u32 off)
{
    struct dma8237 *d = dev;
    return controller_read(&d->c[1], off / 2);
}
static void dma1_write(void *dev, u32 off, u8 val)
{
    struct dma8237 *d = dev;
    controller_write(&d->c[1], off / 2, val);
}
static u8 page_read(void *dev, u32 off)
{
    struct dma8237 *d = dev;
    return d->page[1 + off];
}
static void page_write(void *dev, u32 off, u8 val)
{
    struct dma8237 *d = dev;
    d->page[1 + off] = val;
}

BYTE_PORT_OPS(dma0_ops, dma0_read, dma0_write);
BYTE_PORT_OPS(dma1_ops, dma1_read, dma1_write);
BYTE_PORT_OPS(page_ops, page_read, page_write);

struct snap_part dma8237_part(struct dma8237 *d) { return (struct snap_part){ dma_table.name, &dma_table, d }; }

void dma8237_reset(struct dma8237 *d) { snap_reset(&dma_table, d); }

int dma8237_new(struct dma8237 **out, struct bus *b)
{
    struct dma8237 *d = calloc(1, sizeof(*d));
    int err;

    if (!d) return -ENOMEM;
    d->bus = b;
    dma8237_reset(d);
    if ((err = bus_map_pio(b, 0x00, 16, &dma0_ops, d, "dma 0"))) goto fail;
    if ((err = bus_map_pio(b, 0xc0, 32, &dma1_ops, d, "dma 1"))) goto fail_dma0;
    if ((err = bus_map_pio(b, 0x81, 15, &page_ops, d, "dma pages"))) goto fail_dma1;
    *out = d;
    return 0;

fail_dma1:
    bus_unmap_pio(b, 0xc0);
fail_dma0:
    bus_unmap_pio(b, 0x00);
fail:
    free(d);
    return err;
}

void dma8237_free(struct dma8237 *d) { free(d); }
