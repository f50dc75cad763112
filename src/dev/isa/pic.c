/* Owns what the PIIX3 has of interrupt logic: the PC's pair of 8259A, the ELCR, and the latch that makes IRQ 13 of
 * FERR#.
 *   I1  irr is derived from the input lines: a level input shows its line, an edge input shows a rise that has not
 *       been acknowledged and whose line is still high.            [i8259_line, i8259_take, i8259_icw1, elcr_write]
 *   I2  the slave's INT is the master's line 2, and the master's INT is the intr wire, whenever the guest or the CPU
 *       can look: each entry point ends in pic_update().
 *   I3  IGNNE# is asserted only while FERR# is.                                      [ferr_set, ferr_write]
 * Enter at i8259_write() (the guest), pic_set_line() (the devices), pic_acknowledge() (the CPU).
 * Intel 8259A, 231468-003. ICW1.LTIM is ignored, as in the PIIX3, whose ELCR replaces it.
 *
 * IR falling before INTA gives up the request, and INTA without a request answers 7 (the "default IR7" of the data
 * sheet). */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

enum { ICW1_IC4 = 0x01, ICW1_SNGL = 0x02, ICW1_SELECT = 0x10 };
enum { ICW4_AEOI = 0x02, ICW4_SFNM = 0x10 };
enum { OCW3_SELECT = 0x08, OCW3_RIS = 0x01, OCW3_RR = 0x02, OCW3_POLL = 0x04, OCW3_SMM = 0x20, OCW3_ESMM = 0x40 };
enum { CASCADE = 2, SPURIOUS = 7, NONE = 8 };

struct i8259 {
    bool slave;   /* wiring */
    u8 elcr_mask; /* wiring: which bits of elcr exist */
    u8 line;      /* levels of the inputs */
    u8 elcr;      /* 1: level-triggered */
    u8 irr, isr, imr;
    u8 vector_base;
    u8 lowest;   /* the input of lowest priority: 7 until rotated */
    u8 next_icw; /* 0: initialised or untouched, 2..4: the ICW that the next write to A0=1 is */
    bool want_icw4, single;
    bool ready; /* an initialisation sequence has been completed */
    bool aeoi, sfnm, special_mask, rotate_on_aeoi, read_isr, poll;
};

struct pic {
    struct i8259 master, slave;
    struct irq_line intr;
    bool intr_level;
    struct irq_line irq13, ignne;
    bool ferr;       /* level at the pin */
    bool ferr_latch; /* IRQ 13: FERR# has risen since the last write to port F0h */
    bool ignored;    /* IGNNE# */
};

#define PIC_FIELDS(c)                                                                             \
    SNAP(struct pic, c.line, .keep = true), SNAP(struct pic, c.elcr), SNAP(struct pic, c.irr),    \
        SNAP(struct pic, c.isr), SNAP(struct pic, c.imr), SNAP(struct pic, c.vector_base),        \
        SNAP(struct pic, c.lowest, .reset = 7, .max = 7), SNAP(struct pic, c.next_icw, .max = 4), \
        SNAP(struct pic, c.want_icw4), SNAP(struct pic, c.single), SNAP(struct pic, c.ready),     \
        SNAP(struct pic, c.aeoi), SNAP(struct pic, c.sfnm), SNAP(struct pic, c.special_mask),     \
        SNAP(struct pic, c.rotate_on_aeoi), SNAP(struct pic, c.read_isr), SNAP(struct pic, c.poll)
static const struct snap_field pic_fields[] = { PIC_FIELDS(master),
                                                PIC_FIELDS(slave),
                                                SNAP(struct pic, intr_level, .keep = true),
                                                SNAP(struct pic, ferr, .keep = true, .since = 2),
                                                SNAP(struct pic, ferr_latch, .since = 2),
                                                SNAP(struct pic, ignored, .since = 2),
                                                { 0 } };

/* Rank of input n: 0 is served first. */
static unsigned i8259_rank(const struct i8259 *c, unsigned n) { return (n - c->lowest - 1) & 7; }

/* The input of highest priority among bits, or NONE. */
static unsigned i8259_first(const struct i8259 *c, u8 bits)
{
    for (unsigned rank = 0; rank < 8; rank++) {
        unsigned n = (c->lowest + 1 + rank) & 7;

        if (bits & (1u << n)) return n;
    }
    return NONE;
}

/* The input whose request would be served now, or NONE: unmasked, and of higher priority than what is in service.
 * Special mask: a masked input in service blocks nothing else. Special fully nested: the slave may interrupt itself. */
static unsigned i8259_request(const struct i8259 *c)
{
    unsigned n = i8259_first(c, c->irr & ~c->imr);
    u8 blocking = c->isr;
    unsigned busy;

    if (n == NONE || !c->ready || c->next_icw) return NONE;
    if (c->special_mask) blocking &= ~c->imr;
    if (c->sfnm && !c->slave && n == CASCADE) blocking &= ~(1u << CASCADE);
    busy = i8259_first(c, blocking);
    if (busy != NONE && i8259_rank(c, busy) <= i8259_rank(c, n)) return NONE;
    return n;
}

static void i8259_line(struct i8259 *c, unsigned n, bool level)
{
    u8 bit = 1u << n;
    bool rise = level && !(c->line & bit);

    c->line = level ? c->line | bit : c->line & ~bit;
    if (!level) c->irr &= ~bit;
    else if (rise || (c->elcr & bit)) c->irr |= bit;
}

/* What INTA does to the input it serves. */
static void i8259_take(struct i8259 *c, unsigned n)
{
    u8 bit = 1u << n;

    if (!(c->elcr & bit)) c->irr &= ~bit;
    if (!c->aeoi) c->isr |= bit;
    else if (c->rotate_on_aeoi) c->lowest = n;
}

static void pic_update(struct pic *p)
{
    bool level;

    i8259_line(&p->master, CASCADE, i8259_request(&p->slave) != NONE);
    level = i8259_request(&p->master) != NONE;
    if (level == p->intr_level) return;
    p->intr_level = level;
    irq_set(&p->intr, level);
}

static void pic_set_line(void *opaque, unsigned n, bool level)
{
    struct pic *p = opaque;

    i8259_line(n < 8 ? &p->master : &p->slave, n & 7, level);
    pic_update(p);
}

struct irq_line pic_input(struct pic *p, unsigned n)
{
    BUG_ON(n > 15 || n == CASCADE);
    return (struct irq_line){ .set = pic_set_line, .opaque = p, .n = n };
}

int pic_acknowledge(void *opaque)
{
    struct pic *p = opaque;
    unsigned n = i8259_request(&p->master), s;
    int vector;

    if (n == NONE) {
        vector = p->master.vector_base | SPURIOUS;
    } else if (n != CASCADE || p->master.single) {
        i8259_take(&p->master, n);
        vector = p->master.vector_base | n;
    } else {
        i8259_take(&p->master, CASCADE);
        s = i8259_request(&p->slave);
        if (s != NONE) i8259_take(&p->slave, s);
        vector = p->slave.vector_base | (s != NONE ? s : (unsigned)SPURIOUS);
        /* The cascade input sees the slave's INT drop during INTA, so a further request of it is a new edge. */
        i8259_line(&p->master, CASCADE, false);
    }
    pic_update(p);
    return vector;
}

static void i8259_icw1(struct i8259 *c, u8 val)
{
    c->imr = c->isr = 0;
    c->irr = c->line & c->elcr; /* the edge latches are cleared */
    c->lowest = 7;
    c->special_mask = c->read_isr = c->poll = false;
    c->aeoi = c->sfnm = c->rotate_on_aeoi = false; /* what an ICW4 of zero says */
    c->want_icw4 = val & ICW1_IC4;
    c->single = val & ICW1_SNGL;
    c->next_icw = 2;
    c->ready = false;
}

static void i8259_icw(struct i8259 *c, u8 val)
{
    switch (c->next_icw) {
    case 2:
        c->vector_base = val & 0xf8;
        c->next_icw = !c->single ? 3 : c->want_icw4 ? 4 : 0;
        break;
    case 3: /* the cascade is wired: which inputs have slaves is not for software to say */
        c->next_icw = c->want_icw4 ? 4 : 0;
        break;
    default:
        c->aeoi = val & ICW4_AEOI;
        c->sfnm = val & ICW4_SFNM;
        c->next_icw = 0;
    }
    if (!c->next_icw) c->ready = true;
}

static void i8259_ocw2(struct i8259 *c, u8 val)
{
    bool rotate = val & 0x80, specific = val & 0x40, eoi = val & 0x20;
    unsigned n = val & 7;

    if (!eoi) {
        if (rotate && specific) c->lowest = n; /* set priority */
        else if (!specific) c->rotate_on_aeoi = rotate;
        return; /* 010 is no operation */
    }
    if (!specific) n = i8259_first(c, c->special_mask ? c->isr & ~c->imr : c->isr);
    if (n == NONE) return;
    c->isr &= ~(1u << n);
    if (rotate) c->lowest = n;
}

static void i8259_ocw3(struct i8259 *c, u8 val)
{
    if (val & OCW3_ESMM) c->special_mask = val & OCW3_SMM;
    if (val & OCW3_POLL) c->poll = true;
    else if (val & OCW3_RR) c->read_isr = val & OCW3_RIS;
}

static void i8259_write(struct pic *p, struct i8259 *c, u32 off, u8 val)
{
    if (off == 0) {
        if (val & ICW1_SELECT) i8259_icw1(c, val);
        else if (val & OCW3_SELECT) i8259_ocw3(c, val);
        else i8259_ocw2(c, val);
    } else if (c->next_icw) {
        i8259_icw(c, val);
    } else {
        c->imr = val;
    }
    pic_update(p);
}

static u8 i8259_read(struct pic *p, struct i8259 *c, u32 off)
{
    unsigned n;

    if (!c->poll) return off ? c->imr : c->read_isr ? c->isr : c->irr;
    c->poll = false; /* this read is the acknowledge */
    n = i8259_request(c);
    if (n == NONE) return SPURIOUS;
    i8259_take(c, n);
    pic_update(p);
    return 0x80 | n;
}

static u8 master_read(void *dev, u32 off)
{
    struct pic *p = dev;
    return i8259_read(p, &p->master, off);
}
static void master_write(void *dev, u32 off, u8 val)
{
    struct pic *p = dev;
    i8259_write(p, &p->master, off, val);
}
static u8 slave_read(void *dev, u32 off)
{
    struct pic *p = dev;
    return i8259_read(p, &p->slave, off);
}
static void slave_write(void *dev, u32 off, u8 val)
{
    struct pic *p = dev;
    i8259_write(p, &p->slave, off, val);
}

static u8 elcr_read(void *dev, u32 off)
{
    struct pic *p = dev;
    return off ? p->slave.elcr : p->master.elcr;
}
static void elcr_write(void *dev, u32 off, u8 val)
{
    struct pic *p = dev;
    struct i8259 *c = off ? &p->slave : &p->master;

    c->elcr = val & c->elcr_mask;
    c->irr = (c->irr & ~c->elcr) | (c->line & c->elcr);
    pic_update(p);
}

/* ---- x87 exceptions by interrupt (CR0.NE is clear; SDM vol. 1, 8.7.2 and appendix D; PIIX3, port F0h) ---- */

static void ferr_drive(struct pic *p)
{
    irq_set(&p->irq13, p->ferr_latch);
    irq_set(&p->ignne, p->ignored);
}

static void ferr_set(void *opaque, unsigned n UNUSED, bool level)
{
    struct pic *p = opaque;

    if (level && !p->ferr) p->ferr_latch = true;
    if (!level) p->ignored = false;
    p->ferr = level;
    ferr_drive(p);
}

static u8 ferr_read(void *dev UNUSED, u32 off UNUSED) { return 0xff; }

/* The interrupt is taken back, and until the handler has cleared the exception it does not hold up the handler. */
static void ferr_write(void *dev, u32 off UNUSED, u8 val UNUSED)
{
    struct pic *p = dev;

    p->ferr_latch = false;
    p->ignored = p->ferr;
    ferr_drive(p);
}

struct irq_line pic_ferr(struct pic *p, struct irq_line irq13, struct irq_line ignne)
{
    p->irq13 = irq13;
    p->ignne = ignne;
    return (struct irq_line){ .set = ferr_set, .opaque = p };
}

BYTE_PORT_OPS(ferr_ops, ferr_read, ferr_write);
BYTE_PORT_OPS(master_ops, master_read, master_write);
BYTE_PORT_OPS(slave_ops, slave_read, slave_write);
BYTE_PORT_OPS(elcr_ops, elcr_read, elcr_write);
const struct intc_ops pic_intc_ops = { .acknowledge = pic_acknowledge };

static bool pic_check(const void *chip)
{
    const struct pic *p = chip;
    if (p->ignored && !p->ferr) return false;
    return !(p->master.elcr & ~p->master.elcr_mask) && !(p->slave.elcr & ~p->slave.elcr_mask) && p->master.next_icw != 1
           && p->slave.next_icw != 1;
}

static void pic_on_reset(void *chip) { pic_reset(chip); }

static const struct snap_table pic_table = { .name = "pic",
                                             .version = 2,
                                             .size = sizeof(struct pic),
                                             .fields = pic_fields,
                                             .reset = pic_on_reset,
                                             .check = pic_check };

struct snap_part pic_part(struct pic *p) { return (struct snap_part){ pic_table.name, &pic_table, p }; }

void pic_reset(struct pic *p)
{
    snap_reset(&pic_table, p);
    ferr_drive(p);
    pic_update(p);
}

int pic_new(struct pic **out, struct bus *b, struct irq_line intr)
{
    struct pic *p = calloc(1, sizeof(*p));
    int err;

    if (!p) return -ENOMEM;
    p->intr = intr;
    p->master.elcr_mask = 0xf8; /* IRQ 0, 1, 2, 8 and 13 are always edge-triggered (PIIX3, 2.5.9) */
    p->slave.elcr_mask = 0xde;
    p->slave.slave = true;
    pic_reset(p);
    if ((err = bus_map_pio(b, 0x20, 2, &master_ops, p, "pic master"))) goto fail;
    if ((err = bus_map_pio(b, 0xa0, 2, &slave_ops, p, "pic slave"))) goto fail_master;
    if ((err = bus_map_pio(b, 0x4d0, 2, &elcr_ops, p, "elcr"))) goto fail_slave;
    if ((err = bus_map_pio(b, 0xf0, 1, &ferr_ops, p, "coprocessor error"))) goto fail_elcr;
    *out = p;
    return 0;

fail_elcr:
    bus_unmap_pio(b, 0x4d0);
fail_slave:
    bus_unmap_pio(b, 0xa0);
fail_master:
    bus_unmap_pio(b, 0x20);
fail:
    free(p);
    return err;
}

void pic_free(struct pic *p) { free(p); }
