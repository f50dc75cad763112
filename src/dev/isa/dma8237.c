/* Owns the register files of the PC's two 8237A DMA controllers and the page registers. No device here asks for DMA, so
 * nothing is ever transferred: counts stay, terminal counts do not come.
 *   I1  Controller 1 (channels 4-7) has its registers on even addresses only; odd ones alias them.
 * Enter at dma_write(). Intel 8237A, 231466-005. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

/* clang-format off */
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
    bool flipflop; /* the next byte of an address or count is the high one */
};
struct dma8237 {
    struct controller c[2];
    u8 page[16]; /* 0x80..0x8f, less 0x80 itself, which is port80.c's */
};

#define DMA_FIELDS(n)                                                                                           \
    SNAP_COLUMN(struct dma8237, c[n].ch, base_addr), SNAP_COLUMN(struct dma8237, c[n].ch, base_count),          \
        SNAP_COLUMN(struct dma8237, c[n].ch, addr), SNAP_COLUMN(struct dma8237, c[n].ch, count),                \
        SNAP_COLUMN(struct dma8237, c[n].ch, mode), SNAP(struct dma8237, c[n].command),                         \
        SNAP(struct dma8237, c[n].request, .max = 15), SNAP(struct dma8237, c[n].mask, .reset = 15, .max = 15), \
        SNAP(struct dma8237, c[n].flipflop)
static const struct snap_field dma_fields[] = { DMA_FIELDS(0), DMA_FIELDS(1), SNAP_ARRAY(struct dma8237, page), { 0 } };
static const struct snap_table dma_table = { .name = "dma",
                                             .version = 1,
                                             .size = sizeof(struct dma8237),
                                             .fields = dma_fields };

static void half_write(u16 *reg, bool high, u8 val)
{
    *reg = high ? (*reg & 0x00ff) | val << 8 : (*reg & 0xff00) | val;
}

static void master_clear(struct controller *c)
{
    c->command = c->request = 0;
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
    case REG_COMMAND: return c->request << 4; /* status: requests, and no terminal count */
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
