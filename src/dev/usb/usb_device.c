/* Owns what all USB devices do alike: the transfers of endpoint 0 and the standard requests.
 *   I1  at <= len <= USB_CONTROL_MAX.                                                     [setup_begin, usb_packet]
 *   I2  A new address counts once the transfer that sets it has ended.                          [transfer_end]
 * Enter at usb_packet(). Universal Serial Bus Specification 1.1: 8.5.2 (control transfers), 9 (requests). */
#include "src/dev/usb/usb.h"

#include <string.h>

enum {
    GET_STATUS = 0,
    CLEAR_FEATURE = 1,
    SET_FEATURE = 3,
    SET_ADDRESS = 5,
    GET_DESCRIPTOR = 6,
    GET_CONFIGURATION = 8,
    SET_CONFIGURATION = 9,
    GET_INTERFACE = 10,
    SET_INTERFACE = 11
};
enum { D_DEVICE = 1, D_CONFIG = 2, D_STRING = 3, D_HID = 0x21, D_REPORT = 0x22 };
enum { TO_DEVICE = 0, TO_INTERFACE = 1, TO_ENDPOINT = 2 };
enum { FEATURE_HALT = 0 };

static u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }

void usb_bus_reset(struct usb_device *d)
{
    d->address = d->new_address = d->configuration = 0;
    d->stage = USB_IDLE;
    d->len = d->at = d->halted_in = d->halted_out = 0;
    d->ops->reset(d->dev);
}

void usb_halt(struct usb_device *d, unsigned endpoint, bool in)
{
    *(in ? &d->halted_in : &d->halted_out) |= (u16)(1u << (endpoint & 15));
}

bool usb_check(const struct usb_device *d) { return d->at <= d->len; }

/* ---- standard requests ---- */

static int give(struct usb_device *d, const void *p, u32 n)
{
    if (n > USB_CONTROL_MAX) n = USB_CONTROL_MAX;
    memcpy(d->data, p, n);
    return (int)n;
}

/* 9.6.5: number 0 is the list of languages: US English. */
static int string_give(struct usb_device *d, unsigned n)
{
    static const u8 languages[] = { 4, D_STRING, 0x09, 0x04 };
    const char *const *s = d->words.string;
    if (!n) return give(d, languages, sizeof languages);
    for (unsigned i = 1; *s && i < n; i++) s++;
    if (!*s) return USB_STALL;
    u32 len = (u32)strlen(*s);
    if (len > (USB_CONTROL_MAX - 2) / 2) len = (USB_CONTROL_MAX - 2) / 2;
    memset(d->data, 0, 2 + 2 * len);
    d->data[0] = (u8)(2 + 2 * len);
    d->data[1] = D_STRING;
    for (u32 i = 0; i < len; i++) d->data[2 + 2 * i] = (u8)(*s)[i];
    return (int)(2 + 2 * len);
}

/* A HID's descriptor lies in its configuration, behind the interface's (HID 1.11, 7.1). */
static int hid_give(struct usb_device *d)
{
    const u8 *p = d->words.config, *end = p + get16(p + 2);
    for (; p < end && p[0]; p += p[0])
        if (p[1] == D_HID) return give(d, p, p[0]);
    return USB_STALL;
}

static int descriptor_give(struct usb_device *d, u16 value)
{
    switch (value >> 8) {
    case D_DEVICE: return give(d, d->words.device, d->words.device[0]);
    case D_CONFIG: return value & 0xff ? USB_STALL : give(d, d->words.config, get16(d->words.config + 2));
    case D_STRING: return string_give(d, value & 0xff);
    case D_HID: return d->words.report ? hid_give(d) : USB_STALL;
    case D_REPORT: return d->words.report ? give(d, d->words.report, d->words.report_len) : USB_STALL;
    default: return USB_STALL;
    }
}

static bool has_endpoint(const struct usb_device *d, u16 index)
{
    const u8 *p = d->words.config, *end = p + get16(p + 2);
    if (!(index & 0x0f)) return true;
    for (; p < end && p[0]; p += p[0])
        if (p[1] == 5 && p[2] == (index & 0x8f)) return true;
    return false;
}

static int halt_set(struct usb_device *d, const struct usb_setup *s, bool on)
{
    u16 *halted = s->index & USB_DIR_IN ? &d->halted_in : &d->halted_out;
    const u16 bit = (u16)(1u << (s->index & 15));
    if (s->value != FEATURE_HALT || !has_endpoint(d, s->index)) return USB_STALL;
    *halted = on ? *halted | bit : *halted & (u16)~bit;
    return 0;
}

static int status_give(struct usb_device *d, const struct usb_setup *s)
{
    u16 status = 0;
    if ((s->type & USB_RECIPIENT) == TO_DEVICE) status = 1; /* powered by itself */
    if ((s->type & USB_RECIPIENT) == TO_ENDPOINT)
        status = (s->index & USB_DIR_IN ? d->halted_in : d->halted_out) >> (s->index & 15) & 1;
    return give(d, (const u8[]){ (u8)status, 0 }, 2);
}

static int config_set(struct usb_device *d, u16 value)
{
    if (value > 1) return USB_STALL; /* bConfigurationValue of the one there is */
    d->configuration = (u8)value;
    d->halted_in = d->halted_out = 0;
    d->ops->reset(d->dev);
    return 0;
}

static int standard(struct usb_device *d, const struct usb_setup *s)
{
    const u8 to = s->type & USB_RECIPIENT;
    switch (s->request) {
    case GET_STATUS: return status_give(d, s);
    case CLEAR_FEATURE: return to == TO_ENDPOINT ? halt_set(d, s, false) : 0; /* remote wake-up is not there */
    case SET_FEATURE: return to == TO_ENDPOINT ? halt_set(d, s, true) : USB_STALL;
    case SET_ADDRESS: d->new_address = s->value & 127; return 0;
    case GET_DESCRIPTOR: return descriptor_give(d, s->value);
    case GET_CONFIGURATION: return give(d, &d->configuration, 1);
    case SET_CONFIGURATION: return config_set(d, s->value);
    case GET_INTERFACE: return s->index ? USB_STALL : give(d, (const u8[]){ 0 }, 1);
    case SET_INTERFACE: return s->index || s->value ? USB_STALL : 0;
    default: return USB_STALL;
    }
}

static int request(struct usb_device *d)
{
    const struct usb_setup s = { d->setup[0], d->setup[1], get16(d->setup + 2), get16(d->setup + 4),
                                 get16(d->setup + 6) };
    if (!(s.type & USB_TYPE)) return standard(d, &s);
    return d->ops->control ? d->ops->control(d->dev, &s, d->data) : USB_STALL;
}

/* ---- transfers ---- */

static void transfer_end(struct usb_device *d)
{
    d->stage = USB_IDLE;
    if (d->setup[0] == 0 && d->setup[1] == SET_ADDRESS) d->address = d->new_address;
}

/* 8.5.2: a new one ends whatever there was. */
static int setup_begin(struct usb_device *d, const u8 *data, u32 len)
{
    if (len != sizeof d->setup) return USB_STALL;
    memcpy(d->setup, data, sizeof d->setup);
    const u16 length = get16(d->setup + 6);
    d->at = d->len = 0;
    if (d->setup[0] & USB_DIR_IN) {
        int n = request(d);
        d->stage = n < 0 ? USB_FAILED : USB_DATA_IN;
        if (n > 0) d->len = n < length ? (u16)n : length;
    } else if (!length) {
        d->stage = request(d) < 0 ? USB_FAILED : USB_STATUS_IN;
    } else {
        d->stage = length > USB_CONTROL_MAX ? USB_FAILED : USB_DATA_OUT;
        if (d->stage == USB_DATA_OUT) d->len = length;
    }
    return (int)len;
}

static int control_in(struct usb_device *d, u8 *data, u32 room)
{
    if (d->stage == USB_STATUS_IN) {
        transfer_end(d);
        return 0;
    }
    if (d->stage != USB_DATA_IN) return USB_STALL;
    u32 n = (u32)(d->len - d->at);
    if (n > room) n = room;
    memcpy(data, d->data + d->at, n);
    d->at = (u16)(d->at + n);
    return (int)n;
}

static int control_out(struct usb_device *d, const u8 *data, u32 len)
{
    if (d->stage == USB_DATA_IN) { /* the host has enough */
        transfer_end(d);
        return (int)len;
    }
    if (d->stage != USB_DATA_OUT) return USB_STALL;
    u32 n = (u32)(d->len - d->at);
    if (n > len) n = len;
    memcpy(d->data + d->at, data, n);
    d->at = (u16)(d->at + n);
    if (d->at == d->len) d->stage = request(d) < 0 ? USB_FAILED : USB_STATUS_IN;
    return (int)n;
}

int usb_packet(struct usb_device *d, u8 pid, unsigned endpoint, u8 *data, u32 len)
{
    const u16 bit = (u16)(1u << (endpoint & 15));
    if (!endpoint) {
        if (pid == USB_SETUP) return setup_begin(d, data, len);
        return pid == USB_IN ? control_in(d, data, len) : control_out(d, data, len);
    }
    if (!d->configuration || pid == USB_SETUP) return USB_STALL;
    if (pid == USB_IN)
        return d->halted_in & bit ? USB_STALL : d->ops->in ? d->ops->in(d->dev, endpoint, data, len) : USB_STALL;
    return d->halted_out & bit ? USB_STALL : d->ops->out ? d->ops->out(d->dev, endpoint, data, len) : USB_STALL;
}
