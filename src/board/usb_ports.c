/* Owns the USB controller and its devices: which is in which port. */
#include "src/board/usb_ports.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct usb_ports {
    struct uhci *uhci;
    struct usb_hid *hid[2]; /* tablet, keyboard; NULL: there is none */
    struct usb_storage *storage[USB_PORTS];
    unsigned used; /* ports */
};

int usb_parse(const char *list, unsigned *kinds, struct vm_error *err)
{
    static const char *const names[] = { "none", "tablet", "keyboard" };
    *kinds = 0;
    for (const char *word = list; word; word += *word == ',') {
        const size_t n = strcspn(word, ",");
        unsigned i = 0;
        while (i < ARRAY_LEN(names) && (strlen(names[i]) != n || memcmp(names[i], word, n))) i++;
        if (i == ARRAY_LEN(names))
            return vm_fail(err, -EINVAL, "usb: '%.*s' is none of tablet, keyboard", (int)n, word);
        *kinds |= i;
        word += n;
        if (!*word) break;
    }
    return 0;
}

unsigned usb_disk_port(unsigned kinds, unsigned i) { return i + 1 + !!(kinds & USB_TABLET) + !!(kinds & USB_KEYBOARD); }

static int hid_plug(struct usb_ports *u, bool keyboard)
{
    int rc = usb_hid_new(&u->hid[keyboard], keyboard);
    if (!rc) uhci_plug(u->uhci, u->used++, usb_hid_device(u->hid[keyboard]));
    return rc;
}

static int disk_plug(struct usb_ports *u, unsigned i, const struct usb_disk *d)
{
    static const char *const names[USB_PORTS] = { "usb-storage0", "usb-storage1", "usb-storage2", "usb-storage3" };
    static const char *const serials[USB_PORTS] = { "TV00000020", "TV00000021", "TV00000022", "TV00000023" };
    int rc = usb_storage_new(&u->storage[i], names[i], d->dev, d->serial ? d->serial : serials[i]);
    if (!rc) uhci_plug(u->uhci, u->used++, usb_storage_device(u->storage[i]));
    return rc;
}

int usb_ports_new(struct usb_ports **out, struct bus *b, struct clock *clk, struct pci *p,
                  const struct usb_plugged *what, struct vm_error *err)
{
    unsigned disks = 0;
    while (disks < USB_PORTS && what->disk[disks].dev) disks++;
    if (!what->kinds && !disks) return 0;
    if (usb_disk_port(what->kinds, disks) - 1 > USB_PORTS)
        return vm_fail(err, -EINVAL, "usb: there are %u ports for tablet, keyboard and disks", USB_PORTS);
    struct usb_ports *u = calloc(1, sizeof *u);
    int rc = u ? uhci_new(&u->uhci, b, clk, p) : -ENOMEM;
    if (!rc && what->kinds & USB_TABLET) rc = hid_plug(u, false);
    if (!rc && what->kinds & USB_KEYBOARD) rc = hid_plug(u, true);
    for (unsigned i = 0; i < disks && !rc; i++) rc = disk_plug(u, i, &what->disk[i]);
    if (!rc) {
        *out = u;
        return 0;
    }
    usb_ports_free(u);
    return vm_fail(err, rc, "usb: %s", strerror(-rc));
}

void usb_ports_free(struct usb_ports *u)
{
    if (!u) return;
    uhci_free(u->uhci);
    for (unsigned i = 0; i < ARRAY_LEN(u->hid); i++) usb_hid_free(u->hid[i]);
    for (unsigned i = 0; i < USB_PORTS; i++) usb_storage_free(u->storage[i]);
    free(u);
}

/* Devices first: a controller that is loaded is asked by them for nothing. */
unsigned usb_ports_parts(struct usb_ports *u, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (!u) return 0;
    for (unsigned i = 0; i < ARRAY_LEN(u->hid); i++)
        if (u->hid[i] && n < room) out[n++] = usb_hid_part(u->hid[i]);
    for (unsigned i = 0; i < USB_PORTS; i++)
        if (u->storage[i] && n < room) out[n++] = usb_storage_part(u->storage[i]);
    if (n < room) out[n++] = uhci_part(u->uhci);
    return n;
}

struct usb_hid *usb_ports_tablet(struct usb_ports *u) { return u ? u->hid[0] : NULL; }
struct usb_hid *usb_ports_keyboard(struct usb_ports *u) { return u ? u->hid[1] : NULL; }
