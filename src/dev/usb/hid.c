/* Owns USB's human interface devices: a tablet, whose places are the screen's, and a keyboard.
 *   I1  Reports are given in the order of what happened; a button or key that goes down and up again is seen as both.
 *       [report_add]
 *   I2  A place that has not been asked for is replaced by the next, if no button changes.        [usb_tablet_move]
 * Enter at usb_tablet_move(), usb_keyboard_key(), hid_in(). Device Class Definition for HID 1.11; HID Usage Tables. */
#include "src/dev/usb/usb.h"

#include <errno.h>
#include <string.h>

#define REPORTS 32u
#define REPORT_MAX 8u
enum { TABLET_REPORT = 6, KEYBOARD_REPORT = 8, KEYS_AT_ONCE = 6 };
enum { GET_REPORT = 1, GET_IDLE = 2, GET_PROTOCOL = 3, SET_REPORT = 9, SET_IDLE = 10, SET_PROTOCOL = 11 };
#define PLACE_MAX 0x7fffu

struct usb_hid {
    struct usb_device usb;
    bool keyboard; /* else a tablet */
    struct dev_event room, leds_event;

    u8 report[REPORTS][REPORT_MAX]; /* a ring: from head on, as many as there are */
    u8 head, n;
    u8 now[REPORT_MAX]; /* what the last report says, or would say */
    u8 idle, protocol, leds;
};

static const struct snap_field hid_fields[] = {
    USB_FIELDS(struct usb_hid, usb),
    SNAP_BYTES(struct usb_hid, report),
    SNAP(struct usb_hid, head, .max = REPORTS - 1),
    SNAP(struct usb_hid, n, .max = REPORTS),
    SNAP_ARRAY(struct usb_hid, now),
    SNAP(struct usb_hid, idle),
    SNAP(struct usb_hid, protocol, .reset = 1, .max = 1),
    SNAP(struct usb_hid, leds, .max = 0x1f),
    { 0 },
};

/* ---- what they say of themselves ---- */

/* clang-format off */
static const u8 tablet_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01,             /* generic desktop, mouse: collection: application */
    0x09, 0x01, 0xa1, 0x00,                         /*   pointer: collection: physical */
    0x05, 0x09, 0x19, 0x01, 0x29, 0x03,             /*     buttons 1 to 3 */
    0x15, 0x00, 0x25, 0x01, 0x95, 0x03, 0x75, 0x01, 0x81, 0x02, /* 3 bits: input, absolute */
    0x95, 0x01, 0x75, 0x05, 0x81, 0x01,             /*     5 bits: constant */
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31,             /*     X, Y */
    0x15, 0x00, 0x26, 0xff, 0x7f, 0x35, 0x00, 0x46, 0xff, 0x7f, /* 0 to 32767 */
    0x75, 0x10, 0x95, 0x02, 0x81, 0x02,             /*     2 words: input, absolute */
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00, /* wheel, -127 to 127 */
    0x75, 0x08, 0x95, 0x01, 0x81, 0x06,             /*     a byte: input, relative */
    0xc0, 0xc0,
};
/* The boot keyboard of HID 1.11, appendix B.1. */
static const u8 keyboard_report[] = {
    0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,             /* generic desktop, keyboard: collection: application */
    0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7,             /*   modifiers */
    0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02,
    0x95, 0x01, 0x75, 0x08, 0x81, 0x01,             /*   a byte: constant */
    0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x95, 0x05, 0x75, 0x01, 0x91, 0x02, /* lamps: output */
    0x95, 0x01, 0x75, 0x03, 0x91, 0x01,
    0x05, 0x07, 0x19, 0x00, 0x2a, 0xff, 0x00, 0x15, 0x00, 0x26, 0xff, 0x00, /* six keys */
    0x75, 0x08, 0x95, 0x06, 0x81, 0x00,
    0xc0,
};
#define HID_DEVICE(product) \
    { 18, 1, 0x10, 0x01, 0, 0, 0, 8, 0xf4, 0x1a, (product) & 0xff, (product) >> 8, 0x00, 0x01, 1, 2, 0, 1 }
/* Configuration, interface, HID, endpoint 1 IN; it is powered by itself. */
#define HID_CONFIG(boot, protocol, report_len, packet, interval)                                          \
    { 9, 2, 34, 0, 1, 1, 0, 0xc0, 0, 9, 4, 0, 0, 1, 3, boot, protocol, 0,                                 \
      9, 0x21, 0x11, 0x01, 0, 1, 0x22, (report_len) & 0xff, (report_len) >> 8, 7, 5, 0x81, 3, packet, 0, interval }
/* clang-format on */
static const u8 tablet_device[] = HID_DEVICE(0x5401), keyboard_device[] = HID_DEVICE(0x5402);
static const u8 tablet_config[] = HID_CONFIG(0, 0, sizeof tablet_report, TABLET_REPORT, 8);
static const u8 keyboard_config[] = HID_CONFIG(1, 1, sizeof keyboard_report, KEYBOARD_REPORT, 8);
static const char *const tablet_strings[] = { "transvisor", "USB Tablet", NULL };
static const char *const keyboard_strings[] = { "transvisor", "USB Keyboard", NULL };

/* ---- reports ---- */

static u32 report_len(const struct usb_hid *h) { return h->keyboard ? KEYBOARD_REPORT : TABLET_REPORT; }
static u8 *report_at(struct usb_hid *h, unsigned i) { return h->report[(h->head + i) % REPORTS]; }

/* What is now, as one more report. Without room the last one becomes that: what lies between is lost. */
static void report_add(struct usb_hid *h)
{
    if (!usb_configured(&h->usb)) return;
    if (h->n < REPORTS) h->n++;
    memcpy(report_at(h, h->n - 1u), h->now, REPORT_MAX);
    usb_wake(&h->usb);
}

static int hid_in(void *dev, unsigned endpoint, u8 *data, u32 room)
{
    struct usb_hid *h = dev;
    u32 n = report_len(h) < room ? report_len(h) : room;
    if (endpoint != 1) return USB_STALL;
    if (!h->n) return USB_NAK;
    memcpy(data, report_at(h, 0), n);
    h->head = (u8)((h->head + 1) % REPORTS);
    h->n--;
    if (!h->keyboard) h->now[5] = 0; /* the wheel has turned */
    if (!h->n) dev_event_fire(&h->room, 0);
    return (int)n;
}

static bool hid_waiting(const void *dev) { return ((const struct usb_hid *)dev)->n; }

static int hid_control(void *dev, const struct usb_setup *s, u8 *data)
{
    struct usb_hid *h = dev;
    if ((s->type & USB_TYPE) != USB_TYPE_CLASS) return USB_STALL;
    switch (s->request) {
    case GET_REPORT: memcpy(data, h->now, REPORT_MAX); return (int)report_len(h);
    case GET_IDLE: data[0] = h->idle; return 1;
    case GET_PROTOCOL: data[0] = h->protocol; return 1;
    case SET_REPORT:
        if (!h->keyboard || s->value >> 8 != 2 || !s->length) return USB_STALL;
        h->leds = data[0] & 0x1f;
        dev_event_fire(&h->leds_event, (h->leds >> 2 & 1) | (h->leds & 1) << 1 | (h->leds & 2) << 1);
        return 0;
    case SET_IDLE: h->idle = (u8)(s->value >> 8); return 0;  /* a report that has not changed is not given again */
    case SET_PROTOCOL: h->protocol = s->value & 1; return 0; /* both give the same reports */
    default: return USB_STALL;
    }
}

static void hid_cleared(void *dev)
{
    struct usb_hid *h = dev;
    h->head = h->n = h->idle = 0;
    h->protocol = 1;
    memset(h->now, 0, sizeof h->now);
}

/* ---- what people do ---- */

bool usb_hid_ready(const struct usb_hid *h) { return usb_configured(&h->usb); }
bool usb_hid_has_room(const struct usb_hid *h) { return !h->n; }
void usb_hid_on_room(struct usb_hid *h, struct dev_event room) { h->room = room; }
void usb_hid_on_leds(struct usb_hid *h, struct dev_event leds) { h->leds_event = leds; }

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

void usb_tablet_move(struct usb_hid *h, unsigned x, unsigned y, int dz, unsigned buttons)
{
    u8 *last = h->n ? report_at(h, h->n - 1u) : NULL;
    const bool merge = last && last[0] == (buttons & 7);
    BUG_ON(h->keyboard);
    if (x > PLACE_MAX) x = PLACE_MAX;
    if (y > PLACE_MAX) y = PLACE_MAX;
    const int turned = (merge ? (int)(s8)last[5] : 0) + dz;
    const u8 now[TABLET_REPORT] = {
        buttons & 7, (u8)x, (u8)(x >> 8), (u8)y, (u8)(y >> 8), (u8)clamp(turned, -127, 127)
    };
    memcpy(h->now, now, sizeof now);
    if (merge) h->n--;
    report_add(h);
}

/* Usage of a key, by its make code in scan code set 2 (IBM PS/2 Hardware Interface TR); 0x100 where that has the prefix
 * E0, 0x200 for the Pause key's E1. HID Usage Tables 1.12, 10. */
static u8 usage_of(unsigned key)
{
    /* clang-format off */
    static const u8 plain[0x85] = {
        [0x1c] = 0x04, [0x32] = 0x05, [0x21] = 0x06, [0x23] = 0x07, [0x24] = 0x08, [0x2b] = 0x09, [0x34] = 0x0a,
        [0x33] = 0x0b, [0x43] = 0x0c, [0x3b] = 0x0d, [0x42] = 0x0e, [0x4b] = 0x0f, [0x3a] = 0x10, [0x31] = 0x11,
        [0x44] = 0x12, [0x4d] = 0x13, [0x15] = 0x14, [0x2d] = 0x15, [0x1b] = 0x16, [0x2c] = 0x17, [0x3c] = 0x18,
        [0x2a] = 0x19, [0x1d] = 0x1a, [0x22] = 0x1b, [0x35] = 0x1c, [0x1a] = 0x1d,
        [0x16] = 0x1e, [0x1e] = 0x1f, [0x26] = 0x20, [0x25] = 0x21, [0x2e] = 0x22, [0x36] = 0x23, [0x3d] = 0x24,
        [0x3e] = 0x25, [0x46] = 0x26, [0x45] = 0x27,
        [0x5a] = 0x28, [0x76] = 0x29, [0x66] = 0x2a, [0x0d] = 0x2b, [0x29] = 0x2c, [0x4e] = 0x2d, [0x55] = 0x2e,
        [0x54] = 0x2f, [0x5b] = 0x30, [0x5d] = 0x31, [0x4c] = 0x33, [0x52] = 0x34, [0x0e] = 0x35, [0x41] = 0x36,
        [0x49] = 0x37, [0x4a] = 0x38, [0x58] = 0x39, [0x61] = 0x64,
        [0x05] = 0x3a, [0x06] = 0x3b, [0x04] = 0x3c, [0x0c] = 0x3d, [0x03] = 0x3e, [0x0b] = 0x3f, [0x83] = 0x40,
        [0x0a] = 0x41, [0x01] = 0x42, [0x09] = 0x43, [0x78] = 0x44, [0x07] = 0x45, [0x84] = 0x46, [0x7e] = 0x47,
        [0x77] = 0x53, [0x7c] = 0x55, [0x7b] = 0x56, [0x79] = 0x57, [0x69] = 0x59, [0x72] = 0x5a, [0x7a] = 0x5b,
        [0x6b] = 0x5c, [0x73] = 0x5d, [0x74] = 0x5e, [0x6c] = 0x5f, [0x75] = 0x60, [0x7d] = 0x61, [0x70] = 0x62,
        [0x71] = 0x63, [0x14] = 0xe0, [0x12] = 0xe1, [0x11] = 0xe2, [0x59] = 0xe5,
    };
    static const u8 extended[0x80] = {
        [0x7c] = 0x46, [0x70] = 0x49, [0x6c] = 0x4a, [0x7d] = 0x4b, [0x71] = 0x4c, [0x69] = 0x4d, [0x7a] = 0x4e,
        [0x74] = 0x4f, [0x6b] = 0x50, [0x72] = 0x51, [0x75] = 0x52, [0x4a] = 0x54, [0x5a] = 0x58, [0x2f] = 0x65,
        [0x1f] = 0xe3, [0x14] = 0xe4, [0x11] = 0xe6, [0x27] = 0xe7,
    };
    /* clang-format on */
    if (key == 0x277) return 0x48; /* Pause */
    if (key >= 0x100) return key - 0x100 < sizeof extended ? extended[key - 0x100] : 0;
    return key < sizeof plain ? plain[key] : 0;
}

void usb_keyboard_key(struct usb_hid *h, unsigned key, bool down)
{
    const u8 usage = usage_of(key);
    u8 *keys = h->now + 2, *at = NULL;
    BUG_ON(!h->keyboard);
    if (!usage) return;
    if (usage >= 0xe0) {
        const u8 bit = (u8)(1u << (usage - 0xe0));
        h->now[0] = down ? h->now[0] | bit : h->now[0] & (u8)~bit;
    } else {
        u8 *held = memchr(keys, usage, KEYS_AT_ONCE);
        if (down == !!held) return;
        at = down ? memchr(keys, 0, KEYS_AT_ONCE) : held;
        if (!at) return; /* more than six */
        *at = down ? usage : 0;
    }
    report_add(h);
}

/* ---- a board's part ---- */

static void hid_on_reset(void *chip);
static bool hid_check(const void *chip) { return usb_check(&((const struct usb_hid *)chip)->usb); }

static const struct snap_table tablet_table = { .name = "usb-tablet",
                                                .version = 1,
                                                .size = sizeof(struct usb_hid),
                                                .fields = hid_fields,
                                                .reset = hid_on_reset,
                                                .check = hid_check };
static const struct snap_table keyboard_table = { .name = "usb-keyboard",
                                                  .version = 1,
                                                  .size = sizeof(struct usb_hid),
                                                  .fields = hid_fields,
                                                  .reset = hid_on_reset,
                                                  .check = hid_check };

static const struct snap_table *table_of(const struct usb_hid *h)
{
    return h->keyboard ? &keyboard_table : &tablet_table;
}

static void hid_on_reset(void *chip)
{
    struct usb_hid *h = chip;
    snap_reset(table_of(h), h);
    usb_bus_reset(&h->usb);
}

struct snap_part usb_hid_part(struct usb_hid *h) { return (struct snap_part){ table_of(h)->name, table_of(h), h }; }
struct usb_device *usb_hid_device(struct usb_hid *h) { return &h->usb; }

int usb_hid_new(struct usb_hid **out, bool keyboard)
{
    static const struct usb_device_ops ops = { hid_cleared, hid_control, hid_in, NULL, hid_waiting };
    struct usb_hid *h = calloc(1, sizeof *h);
    if (!h) return -ENOMEM;
    h->keyboard = keyboard;
    h->usb.ops = &ops;
    h->usb.dev = h;
    h->usb.words = keyboard ? (struct usb_words){ keyboard_device, keyboard_config, keyboard_report,
                                                  sizeof keyboard_report, keyboard_strings }
                            : (struct usb_words){ tablet_device, tablet_config, tablet_report, sizeof tablet_report,
                                                  tablet_strings };
    hid_on_reset(h);
    *out = h;
    return 0;
}

void usb_hid_free(struct usb_hid *h) { free(h); }
