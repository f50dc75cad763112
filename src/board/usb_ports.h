/* The board's USB controller and what is plugged into it. */
#ifndef SRC_BOARD_USB_PORTS_H
#define SRC_BOARD_USB_PORTS_H
#include "src/dev/pc_devices.h"
#include "transvisor/vm.h"

enum usb_kind { USB_TABLET = 1, USB_KEYBOARD = 2 }; /* bits of a set */
/* A list of "tablet" and "keyboard" as such a set; "none" and NULL are none. 0 or -EINVAL, with *err set. */
MUST_CHECK int usb_parse(const char *list, unsigned *kinds, struct vm_error *err);

#define USB_PORTS UHCI_PORTS
_Static_assert(USB_PORTS == VM_USB_MAX, "an embedder counts them");
struct usb_ports;
/* What is plugged in, port by port: a tablet, a keyboard, disks. */
struct usb_disk {
    struct blockdev *dev; /* borrowed; NULL: there is none */
    const char *serial;
};
struct usb_plugged {
    unsigned kinds; /* bits of enum usb_kind */
    struct usb_disk disk[USB_PORTS];
};
/* NULL if that is nothing. 0 or -errno, with *err set: -EINVAL: it is more than there are ports. */
MUST_CHECK int usb_ports_new(struct usb_ports **out, struct bus *b, struct clock *clk, struct pci *p,
                             const struct usb_plugged *what, struct vm_error *err);
/* The number of disk i's port, as people count. */
unsigned usb_disk_port(unsigned kinds, unsigned i);
/* All cope with NULL. */
void usb_ports_free(struct usb_ports *u);
unsigned usb_ports_parts(struct usb_ports *u, struct snap_part *out, unsigned room);
struct usb_hid *usb_ports_tablet(struct usb_ports *u); /* NULL: there is none */
struct usb_hid *usb_ports_keyboard(struct usb_ports *u);

#endif
