/* A USB 1.1 device, between the controller that has it at a port (uhci.c) and what it is (hid.c, storage.c). What all
 * devices have in common, the standard requests on endpoint 0, is usb_device.c's. */
#ifndef SRC_DEV_USB_USB_H
#define SRC_DEV_USB_USB_H
#include "core/snap.h"
#include "src/dev/pc_devices.h"

enum { USB_IN = 0x69, USB_OUT = 0xe1, USB_SETUP = 0x2d }; /* packet identifiers, 8.3.1 */
enum { USB_NAK = -1, USB_STALL = -2 };                    /* in place of a number of bytes */
enum { USB_DIR_IN = 0x80, USB_TYPE = 0x60, USB_TYPE_CLASS = 0x20, USB_RECIPIENT = 0x1f }; /* of bmRequestType, 9.3 */
#define USB_CONTROL_MAX 256u /* bytes of a control transfer's data */

/* 9.3. */
struct usb_setup {
    u8 type, request;
    u16 value, index, length;
};

struct usb_device_ops {
    void (*reset)(void *dev); /* the bus has been reset, or another configuration set */
    /* A class's or interface's request that is not standard. To the host: data is filled, returns the bytes. From it:
     * data has s->length bytes, returns 0. USB_STALL: there is no such request. */
    int (*control)(void *dev, const struct usb_setup *s, u8 *data);
    /* An endpoint but 0, which is not halted. The bytes given or taken, USB_NAK, USB_STALL. */
    int (*in)(void *dev, unsigned endpoint, u8 *data, u32 room);
    int (*out)(void *dev, unsigned endpoint, const u8 *data, u32 len);
    bool (*waiting)(const void *dev); /* it has something for the host, which asks in its own time */
};

/* What a device says of itself: descriptors as 9.6 lays them out. */
struct usb_words {
    const u8 *device, *config; /* 18 bytes; config: as many as its wTotalLength says */
    const u8 *report;          /* a HID's report descriptor, or NULL */
    u16 report_len;
    const char *const *string; /* from number 1 on; NULL past the last */
};

struct usb_device {
    struct usb_words words;
    const struct usb_device_ops *ops;
    void *dev;             /* for ops */
    struct dev_event wake; /* the controller's: there is something for the host */

    /* Fields. */
    u8 address, new_address; /* new: from the end of the present transfer on */
    u8 configuration;
    u8 stage; /* of endpoint 0's transfer: enum usb_stage */
    u8 setup[8];
    u8 data[USB_CONTROL_MAX];
    u16 len, at;               /* of data */
    u16 halted_in, halted_out; /* bit n: endpoint n */
};
enum usb_stage { USB_IDLE, USB_DATA_IN, USB_DATA_OUT, USB_STATUS_IN, USB_STATUS_OUT, USB_FAILED };
#define USB_FIELDS(T, m)                                                                                     \
    SNAP(T, m.address, .max = 127), SNAP(T, m.new_address, .max = 127), SNAP(T, m.configuration, .max = 1),  \
        SNAP(T, m.stage, .max = USB_FAILED), SNAP_ARRAY(T, m.setup), SNAP_ARRAY(T, m.data),                  \
        SNAP(T, m.len, .max = USB_CONTROL_MAX), SNAP(T, m.at, .max = USB_CONTROL_MAX), SNAP(T, m.halted_in), \
        SNAP(T, m.halted_out)

/* ---- for controllers ---- */

void usb_bus_reset(struct usb_device *d);
/* A packet for the address that the device has: the bytes of data given (IN) or taken, USB_NAK, USB_STALL. */
int usb_packet(struct usb_device *d, u8 pid, unsigned endpoint, u8 *data, u32 len);
static inline bool usb_waiting(const struct usb_device *d) { return d->ops->waiting && d->ops->waiting(d->dev); }

/* ---- for devices ---- */

static inline bool usb_configured(const struct usb_device *d) { return d->configuration; }
static inline void usb_wake(struct usb_device *d) { dev_event_fire(&d->wake, 0); }
void usb_halt(struct usb_device *d, unsigned endpoint, bool in); /* it stalls until the host has cleared that */
bool usb_check(const struct usb_device *d);                      /* for a table's check() */

#endif
