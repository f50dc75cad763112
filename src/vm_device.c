/* Owns what an embedder adds to a machine: devices behind callbacks, and bytes for the guest's serial port. */
#include "core/bus.h"
#include "runtime/runtime.h"
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <string.h>

/* ---- devices ---- */

struct vm_mapped {
    struct io_ops ops;
    struct vm_mapped *next;
};

static int map(struct vm *vm, bool port, u64 base, u64 n, const struct vm_device *device, struct vm_error *err)
{
    struct vm_mapped *m = NULL;
    int rc = vm->running ? -EBUSY : 0;
    if (!rc && !(m = malloc(sizeof *m))) rc = -ENOMEM;
    if (!rc) {
        m->ops = (struct io_ops){ device->read, device->write };
        rc = port ? bus_map_pio(rt_bus(vm->rt), (u16)base, (u32)n, &m->ops, device->arg, "embedder's")
                  : bus_map_mmio(rt_bus(vm->rt), base, n, &m->ops, device->arg, "embedder's");
    }
    if (rc) {
        free(m);
        return vm_fail(err, rc, "device at %s 0x%llx: %s", port ? "port" : "memory", (unsigned long long)base,
                       vm->running    ? "the machine runs"
                       : rc == -EBUSY ? "another device is there"
                                      : strerror(-rc));
    }
    m->next = vm->mapped;
    vm->mapped = m;
    return 0;
}

int vm_map_ports(struct vm *vm, u16 base, u32 n, const struct vm_device *device, struct vm_error *err)
{
    if (!n || n > 0x10000u - base)
        return vm_fail(err, -EINVAL, "device at port 0x%x: %u ports do not end by 0xffff", base, n);
    return map(vm, true, base, n, device, err);
}

int vm_map_memory(struct vm *vm, u64 base, u64 n, const struct vm_device *device, struct vm_error *err)
{
    const u64 limit = (u64)1 << 36;
    if (!n || base >= limit || n > limit - base || n > (u64)1 << 32)
        return vm_fail(err, -EINVAL,
                       "device at memory 0x%llx: 0x%llx bytes are none, more than 4 GiB or beyond the processor's 64",
                       (unsigned long long)base, (unsigned long long)n);
    return map(vm, false, base, n, device, err);
}

void vm_mapped_free(struct vm *vm)
{
    while (vm->mapped) {
        struct vm_mapped *m = vm->mapped;
        vm->mapped = m->next;
        free(m);
    }
}

/* ---- the serial port ---- */

static void sent_deliver(void *arg)
{
    struct vm *vm = arg;
    chardev_tap_deliver(&vm->tap);
}

int vm_serial_send(struct vm *vm, const void *bytes, size_t n)
{
    int rc = chardev_tap_send(&vm->tap, bytes, n);
    return rc ? rc : rt_post(vm->rt, sent_deliver, vm);
}

const char *vm_serial_terminal(const struct vm *vm) { return chardev_terminal(vm->serial); }
