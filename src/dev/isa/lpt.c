/* Owns a parallel port with a printer that takes each byte at once: what is strobed out goes to a back end.
 *   I1  The irq wire is: the printer acknowledges, and the guest wants to know (control bit 4).         [irq_update]
 * The acknowledgement lasts until the status has been read once: BIOSes wait for it, and drivers for its end.
 * Enter at lpt_write(). IBM PC AT technical reference, printer adapter; IEEE 1284, compatibility mode. NOT-HW: no paper
 * is ever out. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

enum { R_DATA, R_STATUS, R_CONTROL, PORTS };
enum { CTL_STROBE = 0x01, CTL_IRQ = 0x10, CTL_INPUT = 0x20, CTL_BITS = 0x3f, CTL_UNUSED = 0xc0 };
enum { ST_NOT_BUSY = 0x80, ST_NOT_ACK = 0x40, ST_SELECTED = 0x10, ST_NO_ERROR = 0x08, ST_UNUSED = 0x07 };

struct lpt {
    u8 data, control;
    bool acks;
    struct irq_line irq;
    struct chardev *be; /* NULL: nobody is at the other end */
};

static const struct snap_field lpt_fields[] = {
    SNAP(struct lpt, data),
    SNAP(struct lpt, control, .reset = 0x0c, .max = CTL_BITS), /* selected, not being initialised */
    SNAP(struct lpt, acks),
    { 0 },
};
static void lpt_on_reset(void *chip);
static const struct snap_table lpt_table = { .name = "lpt1",
                                             .version = 1,
                                             .size = sizeof(struct lpt),
                                             .fields = lpt_fields,
                                             .reset = lpt_on_reset };

static void irq_update(struct lpt *l) { irq_set(&l->irq, l->acks && l->control & CTL_IRQ); }

static void lpt_on_reset(void *chip)
{
    snap_reset(&lpt_table, chip);
    irq_update(chip);
}

static u8 lpt_read(void *dev, u32 off)
{
    struct lpt *l = dev;
    if (off == R_DATA) return l->control & CTL_INPUT ? 0xff : l->data; /* a printer drives nothing */
    if (off == R_CONTROL) return l->control | CTL_UNUSED;
    u8 v = (u8)((l->acks ? 0 : ST_NOT_BUSY | ST_NOT_ACK) | ST_SELECTED | ST_NO_ERROR | ST_UNUSED);
    l->acks = false;
    irq_update(l);
    return v;
}

static void lpt_write(void *dev, u32 off, u8 val)
{
    struct lpt *l = dev;
    if (off == R_DATA) l->data = val;
    if (off != R_CONTROL) return;
    bool strobed = val & CTL_STROBE && !(l->control & CTL_STROBE);
    l->control = val & CTL_BITS;
    if (strobed) {
        if (l->be) chardev_write(l->be, &l->data, 1);
        l->acks = true;
    }
    irq_update(l);
}

BYTE_PORT_OPS(lpt_ops, lpt_read, lpt_write);

struct snap_part lpt_part(struct lpt *l) { return (struct snap_part){ lpt_table.name, &lpt_table, l }; }

int lpt_new(struct lpt **out, struct bus *b, u16 base, struct irq_line irq, struct chardev *be)
{
    struct lpt *l = calloc(1, sizeof *l);
    if (!l) return -ENOMEM;
    l->irq = irq;
    l->be = be;
    lpt_on_reset(l);
    int err = bus_map_pio(b, base, PORTS, &lpt_ops, l, "parallel port");
    if (err) free(l);
    else *out = l;
    return err;
}

void lpt_free(struct lpt *l) { free(l); }
