/* Owns one port through which a test guest ends the run with an exit code. */
#include "src/dev/isa/byte_ports.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

struct debug_exit {
    struct dev_event exit;
};

static u8 exit_read(void *dev UNUSED, u32 off UNUSED) { return 0xff; }

/* The low bit is always set, so that no guest can pretend to a clean exit of the program, 0. */
static void exit_write(void *dev, u32 off UNUSED, u8 val)
{
    struct debug_exit *d = dev;
    dev_event_fire(&d->exit, (u32)val << 1 | 1);
}

BYTE_PORT_OPS(exit_ops, exit_read, exit_write);

int debug_exit_new(struct debug_exit **out, struct bus *b, u16 port, struct dev_event exit)
{
    struct debug_exit *d = calloc(1, sizeof(*d));
    int err;

    if (!d) return -ENOMEM;
    d->exit = exit;
    err = bus_map_pio(b, port, 1, &exit_ops, d, "debug exit");
    if (err) {
        free(d);
        return err;
    }
    *out = d;
    return 0;
}

void debug_exit_free(struct debug_exit *d) { free(d); }
