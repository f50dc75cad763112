/* Owns a debug console port of Bochs fame: a byte written is a character printed. */
#include "src/dev/isa/byte_ports.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define PRESENT 0xe9

struct porte9 {
    struct chardev *be;
};

static u8 console_read(void *dev UNUSED, u32 off UNUSED) { return PRESENT; }

static void console_write(void *dev, u32 off UNUSED, u8 val)
{
    struct porte9 *p = dev;
    chardev_write(p->be, &val, 1);
}

BYTE_PORT_OPS(console_ops, console_read, console_write);

int porte9_new(struct porte9 **out, struct bus *b, u16 port, struct chardev *be)
{
    struct porte9 *p = calloc(1, sizeof(*p));
    int err;

    if (!p) return -ENOMEM;
    p->be = be;
    err = bus_map_pio(b, port, 1, &console_ops, p, "debug console");
    if (err) {
        free(p);
        return err;
    }
    *out = p;
    return 0;
}

void porte9_free(struct porte9 *p) { free(p); }
