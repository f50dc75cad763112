/* Owns the keyboard behind the controller: scan code sets 1 to 3, typematic, lamps.
 *   I1  A key's codes go into the buffer together, or a code for the overrun instead.                        [kbd_send]
 *   I2  repeat is armed iff a key is held that repeats, and the keyboard scans.    [i8042_key, kbd_repeat, kbd_quiet]
 * Enter at kbd_command() and i8042_key(). IBM PS/2 Hardware Interface TR, "Keyboard (101/102-key)". NOT-HW: Print
 * Screen and the keys of the middle block are the same with Shift, Alt and Num Lock. */
#include "src/dev/isa/i8042_priv.h"

#include <string.h>

#define KBD_BUFFER 16u /* bytes of codes that wait; an overrun's comes after them */
#define NS_PER_MS 1000000ull
enum { KEY_PREFIXED = 0x100, KEY_PAUSE = 0x277, KEY_PRINT = 0x17c };
enum { MAKES = 0, BREAKS = 1, REPEATS = 2 };

/* ---- set 3 ---- */

/* Where set 3 differs from set 2 for the same key. */
static const struct {
    u16 key;
    u8 set3;
} set3_codes[] = {
    { 0x05, 0x07 },  { 0x06, 0x0f },  { 0x04, 0x17 },  { 0x0c, 0x1f },  { 0x03, 0x27 },  { 0x0b, 0x2f },
    { 0x83, 0x37 },  { 0x0a, 0x3f },  { 0x01, 0x47 },  { 0x09, 0x4f },  { 0x78, 0x56 },  { 0x07, 0x5e },
    { 0x76, 0x08 },  { 0x58, 0x14 },  { 0x14, 0x11 },  { 0x11, 0x19 },  { 0x5d, 0x5c },  { 0x61, 0x13 },
    { 0x7e, 0x5f },  { 0x77, 0x76 },  { 0x7c, 0x7e },  { 0x7b, 0x84 },  { 0x79, 0x7c },  { 0x84, 0x57 },
    { 0x17c, 0x57 }, { 0x277, 0x62 }, { 0x114, 0x58 }, { 0x111, 0x39 }, { 0x11f, 0x8b }, { 0x127, 0x8c },
    { 0x12f, 0x8d }, { 0x170, 0x67 }, { 0x171, 0x64 }, { 0x16c, 0x6e }, { 0x169, 0x65 }, { 0x17d, 0x6f },
    { 0x17a, 0x6d }, { 0x175, 0x63 }, { 0x172, 0x60 }, { 0x16b, 0x61 }, { 0x174, 0x6a }, { 0x14a, 0x77 },
    { 0x15a, 0x79 },
};

static u8 set3_code(unsigned key)
{
    for (size_t i = 0; i < ARRAY_LEN(set3_codes); i++)
        if (set3_codes[i].key == key) return set3_codes[i].set3;
    return key < SET3_CODES ? (u8)key : 0;
}

/* After a reset: these make and break, these make only, all others make and repeat. */
static unsigned set3_default(u8 code)
{
    static const u8 breaks[] = { 0x11, 0x12, 0x14, 0x19, 0x59 };
    static const u8 makes[] = { 0x07, 0x08, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x39, 0x3f, 0x47, 0x4f, 0x56, 0x57,
                                0x58, 0x5e, 0x5f, 0x62, 0x65, 0x67, 0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71,
                                0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x79, 0x7a, 0x7d, 0x7e, 0x84, 0x8b, 0x8c, 0x8d };

    if (memchr(breaks, code, sizeof breaks)) return BREAKS;
    return memchr(makes, code, sizeof makes) ? MAKES : REPEATS;
}

static unsigned set3_does(const struct i8042 *k, u8 code)
{
    static const u8 does[] = {
        [SET3_MAKE] = MAKES, [SET3_BREAK] = BREAKS, [SET3_REPEAT] = REPEATS, [SET3_ALL] = BREAKS | REPEATS
    };
    u8 type = code < SET3_CODES ? k->typing.set3[code] : SET3_DEFAULT;

    return type == SET3_DEFAULT ? set3_default(code) : does[type];
}

/* ---- keys ---- */

static unsigned key_does(const struct i8042 *k, unsigned key)
{
    if (k->scan_set == 3) return set3_does(k, set3_code(key));
    return key == KEY_PAUSE ? MAKES : BREAKS | REPEATS;
}

/* A key's codes, at most 8, as they are now. Returns how many. */
static unsigned key_codes(const struct i8042 *k, unsigned key, bool down, u8 out[8])
{
    static const u8 pause[8] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
    static const u8 print[] = { 0xe0, 0x12, 0xe0, 0x7c }, unprint[] = { 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12 };
    unsigned n = 0, codes = 0;

    if (k->scan_set == 3) {
        if (!down) out[n++] = 0xf0;
        out[n++] = set3_code(key);
        return n;
    }
    if (key == KEY_PAUSE) memcpy(out, pause, n = sizeof pause);
    else if (key == KEY_PRINT && down) memcpy(out, print, n = sizeof print);
    else if (key == KEY_PRINT) memcpy(out, unprint, n = sizeof unprint);
    else {
        if (key & KEY_PREFIXED) out[n++] = 0xe0;
        if (!down) out[n++] = 0xf0;
        out[n++] = (u8)key;
    }
    if (k->scan_set != 1) return n;
    for (unsigned i = 0, release = 0; i < n; i++) { /* the same in set 1 */
        if (out[i] == 0xf0) {
            release = 0x80;
            continue;
        }
        out[codes++] = out[i] >= 0xe0 ? out[i] : kbc_translate(out[i]) | release;
        release = 0;
    }
    return codes;
}

static void kbd_send(struct i8042 *k, unsigned key, bool down)
{
    struct queue *q = &k->kbd.events;
    u8 code[8];
    unsigned n = key_codes(k, key, down, code);

    if (q->len + n > KBD_BUFFER) {
        if (!k->typing.overrun) queue_put(q, k->scan_set == 1 ? 0xff : 0x00);
        k->typing.overrun = true;
        return;
    }
    k->typing.overrun = false;
    for (unsigned i = 0; i < n; i++) queue_put(q, code[i]);
}

static u64 typematic_delay(u8 v) { return ((v >> 5 & 3) + 1) * 250 * NS_PER_MS; }
static u64 typematic_period(u8 v) { return (8u + (v & 7)) * (1u << (v >> 3 & 3)) * NS_PER_MS * 417 / 100; }

void kbd_repeat(void *chip)
{
    struct i8042 *k = chip;

    if (!k->typing.held) return;
    kbd_send(k, k->typing.held, true);
    timer_arm(&k->typing.repeat, clock_now(k->clk) + typematic_period(k->typing.typematic));
    kbc_update(k);
}

/* No key waits or repeats. */
static void kbd_quiet(struct i8042 *k)
{
    k->kbd.events.len = 0;
    k->typing.overrun = false;
    k->typing.held = 0;
    timer_cancel(&k->typing.repeat);
}

void i8042_key(struct i8042 *k, unsigned key, bool down)
{
    struct typing *t = &k->typing;
    unsigned does = key_does(k, key);

    if (!k->kbd.enabled || (down && key == t->held)) return; /* who holds a key cannot press it */
    if (key == t->held || down) {
        t->held = 0;
        timer_cancel(&t->repeat);
    }
    if (down && does & REPEATS) {
        t->held = (u16)key;
        timer_arm(&t->repeat, clock_now(k->clk) + typematic_delay(t->typematic));
    }
    if (!down && !(does & BREAKS)) return;
    kbd_send(k, key, down);
    kbc_update(k);
}

void i8042_let_go(struct i8042 *k)
{
    if (k->typing.held) i8042_key(k, k->typing.held, false);
}

bool i8042_has_room(const struct i8042 *k) { return !k->kbd.events.len; }

/* ---- commands ---- */

static void kbd_set_leds(struct i8042 *k, u8 leds)
{
    k->typing.leds = leds & 7;
    dev_event_fire(&k->leds, k->typing.leds);
}

static void set3_all(struct i8042 *k, u8 type) { memset(k->typing.set3, type, sizeof k->typing.set3); }

static void kbd_defaults(struct i8042 *k)
{
    k->scan_set = 2;
    k->typing.typematic = TYPEMATIC_DEFAULT;
    set3_all(k, SET3_DEFAULT);
}

void kbd_reset(struct i8042 *k) { kbd_set_leds(k, 0); }

/* FBh to FDh go on with further keys until there is a command. */
static void kbd_param(struct i8042 *k, u8 command, u8 val)
{
    struct queue *reply = &k->kbd.reply;

    queue_put(reply, ACK);
    switch (command) {
    case 0xed: kbd_set_leds(k, val); break;
    case 0xf0:
        if (val == 0) queue_put(reply, k->scan_set);
        else if (val <= 3) k->scan_set = val;
        break;
    case 0xf3: k->typing.typematic = val & 0x7f; break;
    default:
        if (val < SET3_CODES)
            k->typing.set3[val] = command == 0xfb ? SET3_REPEAT : command == 0xfc ? SET3_BREAK : SET3_MAKE;
        k->kbd.param_of = command;
    }
}

void kbd_command(struct i8042 *k, u8 val)
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
        kbd_quiet(k);
        if (val != 0xf4) kbd_defaults(k);
        queue_put(&p->reply, ACK);
        if (val != 0xff) break;
        kbd_set_leds(k, 0);
        queue_put(&p->reply, BAT_OK);
        break;
    case 0xf7:
    case 0xf8:
    case 0xf9:
    case 0xfa: {
        static const u8 type[] = { SET3_REPEAT, SET3_BREAK, SET3_MAKE, SET3_ALL };
        set3_all(k, type[val - 0xf7]);
        queue_put(&p->reply, ACK);
        break;
    }
    default: /* 0xfe asks for the last byte again; anything else gets the request to say it again */
        queue_put(&p->reply, val == 0xfe ? p->last : RESEND);
    }
}
