/* Owns the POST code port. It also is page register 0 of the DMA controller, which nothing uses: what is written reads
 * back. Linux writes to it by the thousand, as a delay. */
#include "src/dev/isa/byte_ports.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

struct port80 {
    u8 code;
    struct dev_event changed;
};

static u8 post_read(void *dev, u32 off UNUSED)
{
    struct port80 *p = dev;
    return p->code;
}

static void post_write(void *dev, u32 off UNUSED, u8 val)
{
    struct port80 *p = dev;

    if (p->code == val) return;
    p->code = val;
    dev_event_fire(&p->changed, val);
}

BYTE_PORT_OPS(post_ops, post_read, post_write);

int port80_new(struct port80 **out, struct bus *b, struct dev_event changed)
{
    struct port80 *p = calloc(1, sizeof(*p));
    int err;

    if (!p) return -ENOMEM;
    p->changed = changed;
    err = bus_map_pio(b, 0x80, 1, &post_ops, p, "post code");
    if (err) {
        free(p);
        return err;
    }
    *out = p;
    return 0;
}

void port80_free(struct port80 *p) { free(p); }
