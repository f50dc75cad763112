/* Owns the USB controller and its devices: which is in which port. */
#include "src/board/usb_ports.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct usb_ports {
    struct uhci *uhci;
    struct usb_hid *hid[2]; /* tablet, keyboard; NULL: there is none */
    unsigned used;          /* ports */
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

static int hid_plug(struct usb_ports *u, bool keyboard)
{
    int rc = usb_hid_new(&u->hid[keyboard], keyboard);
    if (!rc) uhci_plug(u->uhci, u->used++, usb_hid_device(u->hid[keyboard]));
    return rc;
}

int usb_ports_new(struct usb_ports **out, struct bus *b, struct clock *clk, struct pci *p, unsigned kinds)
{
    if (!kinds) return 0;
    struct usb_ports *u = calloc(1, sizeof *u);
    if (!u) return -ENOMEM;
    int rc = uhci_new(&u->uhci, b, clk, p);
    if (!rc && kinds & USB_TABLET) rc = hid_plug(u, false);
    if (!rc && kinds & USB_KEYBOARD) rc = hid_plug(u, true);
    if (rc) usb_ports_free(u);
    else *out = u;
    return rc;
}

void usb_ports_free(struct usb_ports *u)
{
    if (!u) return;
    uhci_free(u->uhci);
    for (unsigned i = 0; i < ARRAY_LEN(u->hid); i++) usb_hid_free(u->hid[i]);
    free(u);
}

/* Devices first: a controller that is loaded is asked by them for nothing. */
unsigned usb_ports_parts(struct usb_ports *u, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (!u) return 0;
    for (unsigned i = 0; i < ARRAY_LEN(u->hid); i++)
        if (u->hid[i] && n < room) out[n++] = usb_hid_part(u->hid[i]);
    if (n < room) out[n++] = uhci_part(u->uhci);
    return n;
}

struct usb_hid *usb_ports_tablet(struct usb_ports *u) { return u ? u->hid[0] : NULL; }
struct usb_hid *usb_ports_keyboard(struct usb_ports *u) { return u ? u->hid[1] : NULL; }
