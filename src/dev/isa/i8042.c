/* Owns the PS/2 keyboard controller, port 0x92, and the keyboard and mouse behind it.
 * Devices answer in no time; a byte enters the output buffer as soon as the one before has been read.
 *   I1  While the output buffer is empty, no source that may deliver has a byte waiting.             [kbc_fill]
 *   I2  irq1 is "output buffer full, not from the mouse, enabled in the command byte"; irq12 the same for the mouse.
 *       [kbc_update]
 *   I3  What a device replies goes before what its user does.                                        [port_next]
 * Enter at kbc_write(). IBM PS/2 Hardware Interface TR, keyboard/auxiliary controller; the mouse speaks IntelliMouse
 * when asked. NOT-HW, for want of firmware: after reset the keyboard works, translated and interrupting, and A20 is
 * open. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

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
enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };
enum { FROM_CONTROLLER, FROM_KEYBOARD, FROM_MOUSE };
enum { PENDING_NONE = 0 };

#define QUEUE_LEN 32u /* a power of two; a keyboard's own buffer is 16 */
#define MOUSE_FAR (1 << 20)

struct queue {
    u8 data[QUEUE_LEN];
    unsigned head, len;
};

/* What keyboard and mouse have in common: bytes on their way, and a command whose parameter is awaited. */
struct ps2_port {
    struct queue reply, events;
    u8 param_of, last;
    bool enabled; /* scanning, or stream mode reporting */
};

struct mouse {
    struct ps2_port port;
    u8 rate, resolution, id;
    u8 knock[2]; /* the sample rates set before the present one */
    bool scaling21, remote, wrap;
    int dx, dy, dz; /* moved since the last report */
    unsigned buttons, reported;
};

struct i8042 {
    u8 ctr, ram[32]; /* ram[0] is ctr's place and unused */
    u8 pending;      /* command whose parameter the next write to 0x60 is */
    bool last_was_command;
    u8 out_port;     /* its A20 bit is port 0x92's, too */
    bool fast_reset; /* port 0x92 bit 0 */
    bool a20_level;
    u8 buf, buf_from;
    bool full;
    struct queue own; /* the controller's answers: low byte only */
    struct ps2_port kbd;
    u8 scan_set;
    struct mouse mouse;
    struct irq_line irq1, irq12, a20;
    struct dev_event reset;
};

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
static u8 translate(u8 set2) { return set2 < sizeof(translation) ? translation[set2] : set2; }

static bool queue_put(struct queue *q, u8 v)
{
    if (q->len == QUEUE_LEN) return false;
    q->data[(q->head + q->len++) % QUEUE_LEN] = v;
    return true;
}
static u8 queue_take(struct queue *q)
{
    u8 v = q->data[q->head];

    q->head = (q->head + 1) % QUEUE_LEN;
    q->len--;
    return v;
}

/* ---- the output buffer ---- */

static bool port_next(struct ps2_port *p, u8 *v)
{
    if (!p->reply.len && !p->events.len) return false;
    *v = queue_take(p->reply.len ? &p->reply : &p->events);
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
        k->buf = translate(v) | (release ? 0x80 : 0);
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

static void kbc_update(struct i8042 *k)
{
    bool aux, a20;

    kbc_fill(k);
    aux = k->full && k->buf_from == FROM_MOUSE;
    irq_set(&k->irq1, k->full && !aux && (k->ctr & CTR_KBD_INT));
    irq_set(&k->irq12, aux && (k->ctr & CTR_AUX_INT));
    a20 = k->out_port & OUT_A20;
    if (a20 == k->a20_level) return;
    k->a20_level = a20;
    irq_set(&k->a20, a20);
}

/* ---- keyboard ---- */

static void kbd_defaults(struct i8042 *k)
{
    k->kbd.events.len = 0;
    k->scan_set = 2;
}

static void kbd_param(struct i8042 *k, u8 command, u8 val)
{
    struct queue *reply = &k->kbd.reply;

    queue_put(reply, ACK);
    if (command != 0xf0) return; /* LEDs, typematic rate, keys of set 3: nothing to see here */
    if (val == 0) queue_put(reply, k->scan_set);
    else if (val == 1 || val == 2)
        k->scan_set = val; /* set 3 is acknowledged and not done, as many keyboards have it */
}

static void kbd_command(struct i8042 *k, u8 val)
{
    struct ps2_port *p = &k->kbd;
    u8 param_of = p->param_of;

    p->reply.len = 0;
    p->param_of = PENDING_NONE;
    if (param_of && val < 0xed) {
        kbd_param(k, param_of, val);
        return;
    }
    switch (val) {
    case 0xed:
    case 0xf0:
    case 0xf3:
    case 0xfb:
    case 0xfc:
    case 0xfd:
        p->param_of = val;
        queue_put(&p->reply, ACK);
        break;
    case 0xee: queue_put(&p->reply, 0xee); break;
    case 0xf2:
        queue_put(&p->reply, ACK);
        queue_put(&p->reply, 0xab);
        queue_put(&p->reply, 0x83);
        break;
    case 0xf4:
    case 0xf5:
    case 0xf6:
    case 0xff:
        p->enabled = val != 0xf5;
        p->events.len = 0;
        if (val != 0xf4) kbd_defaults(k);
        queue_put(&p->reply, ACK);
        if (val == 0xff) queue_put(&p->reply, BAT_OK);
        break;
    case 0xf7:
    case 0xf8:
    case 0xf9:
    case 0xfa: queue_put(&p->reply, ACK); break;
    default: /* 0xfe asks for the last byte again; anything else gets the request to say it again */
        queue_put(&p->reply, val == 0xfe ? p->last : RESEND);
    }
}

void i8042_key(struct i8042 *k, unsigned key, bool down)
{
    struct queue *q = &k->kbd.events;
    u8 code = key;

    if (!k->kbd.enabled || q->len + 3 > QUEUE_LEN) return;
    if (key & 0x100) queue_put(q, 0xe0);
    if (k->scan_set == 1) {
        queue_put(q, translate(code) | (down ? 0 : 0x80));
    } else {
        if (!down) queue_put(q, 0xf0);
        queue_put(q, code);
    }
    kbc_update(k);
}

/* ---- mouse ---- */

static void mouse_defaults(struct mouse *m)
{
    m->rate = 100;
    m->resolution = 2;
    m->scaling21 = m->remote = m->wrap = false;
    m->port.enabled = false;
    m->port.events.len = 0;
    m->dx = m->dy = m->dz = 0;
}

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

/* One movement report; more than fits stays for the next. */
static void mouse_report(struct mouse *m, struct queue *q)
{
    int dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255), dz = clamp(m->dz, -8, 7);

    queue_put(q, 0x08 | (m->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5);
    queue_put(q, dx);
    queue_put(q, dy);
    if (m->id == 3) queue_put(q, -dz);
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= dz;
    m->reported = m->buttons;
}

/* IntelliMouse: sample rates 200, 100, 80 in a row say that the host knows about the wheel. */
static void mouse_set_rate(struct mouse *m, u8 val)
{
    if (m->knock[0] == 200 && m->knock[1] == 100 && val == 80) m->id = 3;
    m->knock[0] = m->knock[1];
    m->knock[1] = val;
    m->rate = val;
}

static void mouse_status(const struct mouse *m, struct queue *q)
{
    u8 buttons = (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1;

    queue_put(q, m->remote << 6 | m->port.enabled << 5 | m->scaling21 << 4 | buttons);
    queue_put(q, m->resolution);
    queue_put(q, m->rate);
}

static void mouse_command(struct mouse *m, u8 val)
{
    struct queue *reply = &m->port.reply;
    u8 param_of = m->port.param_of;

    reply->len = 0;
    m->port.param_of = PENDING_NONE;
    if (m->wrap && val != 0xff && val != 0xec) {
        queue_put(reply, val);
        return;
    }
    if (param_of) {
        if (param_of == 0xf3) mouse_set_rate(m, val);
        else m->resolution = val & 3;
        queue_put(reply, ACK);
        return;
    }
    if (val == 0xfe) {
        queue_put(reply, m->port.last);
        return;
    }
    queue_put(reply, ACK);
    switch (val) {
    case 0xe6:
    case 0xe7: m->scaling21 = val & 1; break;
    case 0xe8:
    case 0xf3: m->port.param_of = val; break;
    case 0xe9: mouse_status(m, reply); break;
    case 0xea: m->remote = false; break;
    case 0xeb: mouse_report(m, reply); break;
    case 0xec: m->wrap = false; break;
    case 0xee: m->wrap = true; break;
    case 0xf0: m->remote = true; break;
    case 0xf2: queue_put(reply, m->id); break;
    case 0xf4: m->port.enabled = true; break;
    case 0xf5: m->port.enabled = false; break;
    case 0xf6: mouse_defaults(m); break;
    case 0xff:
        mouse_defaults(m);
        m->id = 0;
        queue_put(reply, BAT_OK);
        queue_put(reply, m->id);
        break;
    default: reply->len = 0; queue_put(reply, RESEND);
    }
}

void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned buttons)
{
    struct mouse *m = &k->mouse;

    m->dx = clamp(m->dx + clamp(dx, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->dy = clamp(m->dy + clamp(dy, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->dz = clamp(m->dz + clamp(dz, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->buttons = buttons & 7;
    if (!m->port.enabled || m->remote) return;
    while ((m->dx || m->dy || m->dz || m->buttons != m->reported) && m->port.events.len + 4 <= QUEUE_LEN)
        mouse_report(m, &m->port.events);
    kbc_update(k);
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
        if (k->buf_from == FROM_KEYBOARD) k->kbd.last = k->buf;
        if (k->buf_from == FROM_MOUSE) k->mouse.port.last = k->buf;
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

/* The A20 gate is the bus's: it is told, not asked. */
static int i8042_loaded(void *chip)
{
    struct i8042 *k = chip;
    irq_set(&k->a20, k->a20_level);
    return 0;
}

static void i8042_on_reset(void *chip) { i8042_reset(chip); }

static const struct snap_table i8042_table = { .name = "i8042",
                                               .version = 1,
                                               .size = sizeof(struct i8042),
                                               .fields = i8042_fields,
                                               .reset = i8042_on_reset,
                                               .loaded = i8042_loaded };

struct snap_part i8042_part(struct i8042 *k) { return (struct snap_part){ i8042_table.name, &i8042_table, k }; }

void i8042_reset(struct i8042 *k)
{
    snap_reset(&i8042_table, k);
    kbc_update(k);
}

int i8042_new(struct i8042 **out, struct bus *b, struct irq_line irq1, struct irq_line irq12, struct irq_line a20,
              struct dev_event reset)
{
    struct i8042 *k = calloc(1, sizeof(*k));
    int err;

    if (!k) return -ENOMEM;
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

void i8042_free(struct i8042 *k) { free(k); }
