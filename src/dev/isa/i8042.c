/* Owns the PS/2 keyboard controller and port 0x92; the keyboard and the mouse behind it are i8042_keyboard.c and
 * i8042_mouse.c.
 * Devices answer in no time; a byte enters the output buffer as soon as the one before has been read.
 *   I1  While the output buffer is empty, no source that may deliver has a byte waiting.             [kbc_fill]
 *   I2  irq1 is "output buffer full, not from the mouse, enabled in the command byte"; irq12 the same for the mouse.
 *       [kbc_update]
 *   I3  What a device replies goes before what its user does.                                        [port_next]
 * Enter at kbc_write_data() and kbc_write_command(). IBM PS/2 Hardware Interface TR, keyboard/auxiliary controller.
 * NOT-HW, for want of firmware: after reset the keyboard works, translated and interrupting, and A20 is open. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/isa/i8042_priv.h"

#include <errno.h>

enum { STAT_OBF = 0x01, STAT_SYS = 0x04, STAT_CMD = 0x08, STAT_UNLOCKED = 0x10, STAT_AUX = 0x20 };
/* clang-format off */
enum { CTR_KBD_INT = 0x01, CTR_AUX_INT = 0x02, CTR_SYS = 0x04, CTR_KBD_OFF = 0x10, CTR_AUX_OFF = 0x20,
    CTR_XLATE = 0x40 };
/* clang-format on */
enum { OUT_NO_RESET = 0x01, OUT_A20 = 0x02, OUT_IRQ1 = 0x10, OUT_IRQ12 = 0x20, OUT_CLOCKS = 0xcc };
/* clang-format off */
enum {
    CMD_READ_RAM = 0x20, CMD_WRITE_RAM = 0x60, CMD_PASSWORD_TEST = 0xa4, CMD_AUX_OFF = 0xa7, CMD_AUX_ON = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa, CMD_KBD_TEST = 0xab, CMD_KBD_OFF = 0xad, CMD_KBD_ON = 0xae, CMD_READ_IN = 0xc0,
    CMD_READ_OUT = 0xd0,
    CMD_WRITE_OUT = 0xd1, CMD_KBD_LOOP = 0xd2, CMD_AUX_LOOP = 0xd3, CMD_WRITE_AUX = 0xd4, CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_READ_TEST = 0xe0, CMD_PULSE = 0xf0,
};
/* clang-format on */
enum { P92_RESET = 0x01, P92_A20 = 0x02 };
enum { FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };

#define QUEUE_FIELDS(q)                                                                 \
    SNAP_ARRAY(struct i8042, q.data), SNAP(struct i8042, q.head, .max = QUEUE_LEN - 1), \
        SNAP(struct i8042, q.len, .max = QUEUE_LEN)
#define PS2_FIELDS(p) \
    QUEUE_FIELDS(p.reply), QUEUE_FIELDS(p.events), SNAP(struct i8042, p.param_of), SNAP(struct i8042, p.last)
#define MOVED .min = -MOUSE_FAR, .max = MOUSE_FAR
static const struct snap_field i8042_fields[] = {
    SNAP(struct i8042, ctr, .reset = CTR_XLATE | CTR_AUX_OFF | CTR_SYS | CTR_KBD_INT),
    SNAP_ARRAY(struct i8042, ram),
    SNAP(struct i8042, pending),
    SNAP(struct i8042, last_was_command),
    SNAP(struct i8042, out_port, .reset = OUT_NO_RESET | OUT_A20 | OUT_CLOCKS),
    SNAP(struct i8042, fast_reset),
    SNAP(struct i8042, a20_level, .keep = true),
    SNAP(struct i8042, buf),
    SNAP(struct i8042, buf_from, .max = FROM_MOUSE),
    SNAP(struct i8042, full),
    QUEUE_FIELDS(own),
    PS2_FIELDS(kbd),
    SNAP(struct i8042, kbd.enabled, .reset = 1),
    SNAP(struct i8042, scan_set, .reset = 2, .max = 3),
    PS2_FIELDS(mouse.port),
    SNAP(struct i8042, mouse.port.enabled),
    SNAP(struct i8042, mouse.rate, .reset = 100),
    SNAP(struct i8042, mouse.resolution, .reset = 2, .max = 3),
    SNAP(struct i8042, mouse.id),
    SNAP_ARRAY(struct i8042, mouse.knock),
    SNAP(struct i8042, mouse.scaling21),
    SNAP(struct i8042, mouse.remote),
    SNAP(struct i8042, mouse.wrap),
    SNAP(struct i8042, mouse.dx, MOVED),
    SNAP(struct i8042, mouse.dy, MOVED),
    SNAP(struct i8042, mouse.dz, MOVED),
    SNAP(struct i8042, mouse.buttons, .max = 7),
    SNAP(struct i8042, mouse.reported, .max = 7),
    SNAP(struct i8042, mouse.pace, .since = 2),
    SNAP(struct i8042, typing.leds, .since = 2, .max = 7),
    SNAP(struct i8042, typing.typematic, .since = 2, .reset = TYPEMATIC_DEFAULT, .max = 127),
    SNAP(struct i8042, typing.held, .since = 2, .max = 0x2ff),
    SNAP(struct i8042, typing.overrun, .since = 2),
    SNAP(struct i8042, typing.repeat, .since = 2),
    SNAP_ARRAY(struct i8042, typing.set3, .since = 2, .max = SET3_TYPES - 1),
    { 0 },
};

/* Set 2 to set 1, as the controller translates; from 0x85 on a byte stands for itself. */
static const u8 translation[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, 0x65, 0x38, 0x2a,
    0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05,
    0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a,
    0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26,
    0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63,
    0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53,
    0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};
u8 kbc_translate(u8 set2) { return set2 < sizeof(translation) ? translation[set2] : set2; }

/* ---- the output buffer ---- */

static bool port_next(struct ps2_port *p, u8 *v)
{
    if (!p->reply.len && !p->events.len) return false;
    *v = p->last = queue_take(p->reply.len ? &p->reply : &p->events);
    return true;
}

/* Takes bytes from the keyboard until one is for the guest to see: translation swallows F0 and marks what follows. */
static bool kbc_take_kbd(struct i8042 *k)
{
    bool release = false; /* a key's F0 and its code come into the queue together */
    u8 v;

    while (!(k->ctr & CTR_KBD_OFF) && port_next(&k->kbd, &v)) {
        if (!(k->ctr & CTR_XLATE)) {
            k->buf = v;
            return true;
        }
        if (v == 0xf0) {
            release = true;
            continue;
        }
        k->buf = kbc_translate(v) | (release ? 0x80 : 0);
        return true;
    }
    return false;
}

static void kbc_fill(struct i8042 *k)
{
    if (k->full) return;
    k->full = true;
    if (k->own.len) {
        k->buf = queue_take(&k->own);
        k->buf_from = FROM_CONTROLLER;
    } else if (kbc_take_kbd(k)) {
        k->buf_from = FROM_KEYBOARD;
    } else if (!(k->ctr & CTR_AUX_OFF) && port_next(&k->mouse.port, &k->buf)) {
        k->buf_from = FROM_MOUSE;
    } else {
        k->full = false;
    }
}

void kbc_update(struct i8042 *k)
{
    bool aux, a20;

    kbc_fill(k);
    aux = k->full && k->buf_from == FROM_MOUSE;
    irq_set(&k->irq1, k->full && !aux && (k->ctr & CTR_KBD_INT));
    irq_set(&k->irq12, aux && (k->ctr & CTR_AUX_INT));
    a20 = k->out_port & OUT_A20;
    if (a20 != k->a20_level) {
        k->a20_level = a20;
        irq_set(&k->a20, a20);
    }
    if (i8042_has_room(k)) dev_event_fire(&k->room, 0);
}

/* ---- controller ---- */

static void kbc_loop(struct i8042 *k, u8 val, u8 from)
{
    k->buf = val; /* overwrites what was there, as the chip does */
    k->buf_from = from;
    k->full = true;
}

static void kbc_write_out(struct i8042 *k, u8 val)
{
    k->out_port = val;
    if (!(val & OUT_NO_RESET)) dev_event_fire(&k->reset, 0);
}

static u8 kbc_read_out(const struct i8042 *k)
{
    u8 v = (k->out_port & ~(OUT_IRQ1 | OUT_IRQ12 | OUT_A20)) | OUT_NO_RESET | (k->a20_level ? OUT_A20 : 0);

    if (k->full) v |= k->buf_from == FROM_MOUSE ? OUT_IRQ12 : OUT_IRQ1;
    return v;
}

static void kbc_command(struct i8042 *k, u8 val)
{
    k->last_was_command = true;
    k->pending = PENDING_NONE;
    switch (val) {
    case CMD_READ_RAM: queue_put(&k->own, k->ctr); break;
    case CMD_READ_RAM + 1 ... CMD_READ_RAM + 0x1f: queue_put(&k->own, k->ram[val & 0x1f]); break;
    case CMD_WRITE_RAM ... CMD_WRITE_RAM + 0x1f: k->pending = val; break;
    case CMD_PASSWORD_TEST: queue_put(&k->own, 0xf1); break; /* none is set */
    case CMD_AUX_OFF: k->ctr |= CTR_AUX_OFF; break;
    case CMD_AUX_ON: k->ctr &= ~CTR_AUX_OFF; break;
    case CMD_AUX_TEST: queue_put(&k->own, 0x00); break;
    case CMD_SELF_TEST:
        k->ctr |= CTR_SYS;
        queue_put(&k->own, 0x55);
        break;
    case CMD_KBD_TEST: queue_put(&k->own, 0x00); break;
    case CMD_KBD_OFF: k->ctr |= CTR_KBD_OFF; break;
    case CMD_KBD_ON: k->ctr &= ~CTR_KBD_OFF; break;
    case CMD_READ_IN: queue_put(&k->own, 0x80); break; /* not locked */
    case CMD_READ_OUT: queue_put(&k->own, kbc_read_out(k)); break;
    case CMD_WRITE_OUT:
    case CMD_KBD_LOOP:
    case CMD_AUX_LOOP:
    case CMD_WRITE_AUX: k->pending = val; break;
    case CMD_A20_OFF: k->out_port &= ~OUT_A20; break;
    case CMD_A20_ON: k->out_port |= OUT_A20; break;
    case CMD_READ_TEST: queue_put(&k->own, 0x00); break;
    case CMD_PULSE ... CMD_PULSE + 0x0f:
        if (!(val & OUT_NO_RESET)) dev_event_fire(&k->reset, 0);
        break;
    default: break;
    }
}

static void kbc_data(struct i8042 *k, u8 val)
{
    u8 pending = k->pending;

    k->last_was_command = false;
    k->pending = PENDING_NONE;
    switch (pending) {
    case CMD_WRITE_RAM: k->ctr = val & ~0x80; break;
    case CMD_WRITE_RAM + 1 ... CMD_WRITE_RAM + 0x1f: k->ram[pending & 0x1f] = val; break;
    case CMD_WRITE_OUT: kbc_write_out(k, val); break;
    case CMD_KBD_LOOP: kbc_loop(k, val, FROM_KEYBOARD); break;
    case CMD_AUX_LOOP: kbc_loop(k, val, FROM_MOUSE); break;
    case CMD_WRITE_AUX: /* sending to a device turns its interface on */
        k->ctr &= ~CTR_AUX_OFF;
        mouse_command(&k->mouse, val);
        break;
    default: k->ctr &= ~CTR_KBD_OFF; kbd_command(k, val);
    }
}

static u8 kbc_status(const struct i8042 *k)
{
    return (k->full ? STAT_OBF : 0) | (k->ctr & CTR_SYS ? STAT_SYS : 0) | (k->last_was_command ? STAT_CMD : 0)
           | STAT_UNLOCKED | (k->full && k->buf_from == FROM_MOUSE ? STAT_AUX : 0);
}

static u8 kbc_take(struct i8042 *k)
{
    if (k->full) {
        k->full = false;
        irq_set(&k->irq1, false); /* the next byte, if there is one, makes a new edge */
        irq_set(&k->irq12, false);
    }
    return k->buf; /* an empty buffer still shows its last byte */
}

static u8 kbc_read_data(void *dev, u32 off UNUSED)
{
    struct i8042 *k = dev;
    u8 v = kbc_take(k);

    kbc_update(k);
    return v;
}
static void kbc_write_data(void *dev, u32 off UNUSED, u8 val)
{
    struct i8042 *k = dev;

    kbc_data(k, val);
    kbc_update(k);
}
static u8 kbc_read_status(void *dev, u32 off UNUSED) { return kbc_status(dev); }
static void kbc_write_command(void *dev, u32 off UNUSED, u8 val)
{
    struct i8042 *k = dev;

    kbc_command(k, val);
    kbc_update(k);
}

static u8 port92_read(void *dev, u32 off UNUSED)
{
    struct i8042 *k = dev;
    return (k->fast_reset ? P92_RESET : 0) | (k->a20_level ? P92_A20 : 0);
}
static void port92_write(void *dev, u32 off UNUSED, u8 val)
{
    struct i8042 *k = dev;
    bool rise = (val & P92_RESET) && !k->fast_reset;

    k->fast_reset = val & P92_RESET;
    k->out_port = (k->out_port & ~OUT_A20) | (val & P92_A20 ? OUT_A20 : 0); /* one gate, two switches: the later decides
                                                                             */
    kbc_update(k);
    if (rise) dev_event_fire(&k->reset, 0);
}

BYTE_PORT_OPS(data_ops, kbc_read_data, kbc_write_data);
BYTE_PORT_OPS(command_ops, kbc_read_status, kbc_write_command);
BYTE_PORT_OPS(port92_ops, port92_read, port92_write);

/* The A20 gate is the bus's, the lamps are the user's: they are told, and do not ask. */
static int i8042_loaded(void *chip)
{
    struct i8042 *k = chip;
    irq_set(&k->a20, k->a20_level);
    dev_event_fire(&k->leds, k->typing.leds);
    return 0;
}

static void i8042_on_reset(void *chip) { i8042_reset(chip); }

static const struct snap_table i8042_table = { .name = "i8042",
                                               .version = 2,
                                               .size = sizeof(struct i8042),
                                               .fields = i8042_fields,
                                               .reset = i8042_on_reset,
                                               .loaded = i8042_loaded };

struct snap_part i8042_part(struct i8042 *k) { return (struct snap_part){ i8042_table.name, &i8042_table, k }; }

void i8042_reset(struct i8042 *k)
{
    snap_reset(&i8042_table, k);
    kbd_reset(k);
    kbc_update(k);
}

void i8042_on_room(struct i8042 *k, struct dev_event room) { k->room = room; }
void i8042_on_leds(struct i8042 *k, struct dev_event leds) { k->leds = leds; }

int i8042_new(struct i8042 **out, struct bus *b, struct clock *clk, struct irq_line irq1, struct irq_line irq12,
              struct irq_line a20, struct dev_event reset)
{
    struct i8042 *k = calloc(1, sizeof(*k));
    int err;

    if (!k) return -ENOMEM;
    k->clk = clk;
    timer_init(&k->typing.repeat, clk, kbd_repeat, k);
    timer_init(&k->mouse.pace, clk, mouse_pace, k);
    k->irq1 = irq1;
    k->irq12 = irq12;
    k->a20 = a20;
    k->reset = reset;
    i8042_reset(k);
    if ((err = bus_map_pio(b, 0x60, 1, &data_ops, k, "keyboard data"))) goto fail;
    if ((err = bus_map_pio(b, 0x64, 1, &command_ops, k, "keyboard command"))) goto fail_data;
    if ((err = bus_map_pio(b, 0x92, 1, &port92_ops, k, "port 92"))) goto fail_command;
    *out = k;
    return 0;

fail_command:
    bus_unmap_pio(b, 0x64);
fail_data:
    bus_unmap_pio(b, 0x60);
fail:
    free(k);
    return err;
}

void i8042_free(struct i8042 *k)
{
    if (!k) return;
    timer_cancel(&k->typing.repeat);
    timer_cancel(&k->mouse.pace);
    free(k);
}
