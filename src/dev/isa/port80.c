/* Owns the POST code port. It also is page register 0 of the DMA controller, which nothing uses: what is written reads
 * back. Linux writes to it by the thousand, as a delay. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

struct port80 {
    u8 code;
    struct dev_event changed;
};

static const struct snap_field port80_fields[] = { SNAP(struct port80, code), { 0 } };
static const struct snap_table port80_table = { .name = "port80",
                                                .version = 1,
                                                .size = sizeof(struct port80),
                                                .fields = port80_fields };

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

struct snap_part port80_part(struct port80 *p) { return (struct snap_part){ port80_table.name, &port80_table, p }; }

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
