/* Owns what an embedder adds to a machine: devices behind callbacks, state that is saved, and bytes for the guest's
 * serial port.
 *   I1  A name is that of one state: added, or waiting.     [vm_add_state] */
#include "core/bus.h"
#include "runtime/runtime.h"
#include "src/back/chardev.h"
#include "src/error.h"
#include "src/snapshot.h"
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

/* ---- state ---- */

struct vm_added {
    struct vm_state ops;
    struct vm_added *next;
    char name[VM_STATE_NAME_MAX + 1];
};

static bool name_is_fine(const char *name)
{
    size_t n = 0;
    while (n <= VM_STATE_NAME_MAX && name[n] >= 0x20 && name[n] < 0x7f) n++;
    return n && n <= VM_STATE_NAME_MAX && !name[n];
}

static struct vm_added *added_find(const struct vm *vm, const char *name)
{
    struct vm_added *a = vm->added;
    while (a && strcmp(a->name, name)) a = a->next;
    return a;
}

/* Where the list has the state that waits under a name; the list's end if there is none. */
static struct snapshot_blob **waiting_at(struct vm *vm, const char *name)
{
    struct snapshot_blob **b = &vm->waiting;
    while (*b && strcmp((*b)->name, name)) b = &(*b)->next;
    return b;
}

int vm_add_state(struct vm *vm, const char *name, const struct vm_state *state, struct vm_error *err)
{
    if (!name_is_fine(name))
        return vm_fail(err, -EINVAL, "state: a name has 1 to %u printable characters", VM_STATE_NAME_MAX);
    if (state->size < sizeof *state || !state->save || !state->load)
        return vm_fail(err, -EINVAL, "state %s: size is not sizeof(struct vm_state), or a function is missing", name);
    if (vm->running) return vm_fail(err, -EBUSY, "state %s: the machine runs", name);
    if (added_find(vm, name)) return vm_fail(err, -EEXIST, "state %s: there is one of this name", name);
    struct vm_added *a = malloc(sizeof *a);
    if (!a) return vm_fail(err, -ENOMEM, "state %s: out of memory", name);
    struct snapshot_blob **at = waiting_at(vm, name), *b = *at;
    int rc = b ? state->load(state->arg, b->data, b->len) : 0;
    if (rc) {
        free(a);
        return vm_fail(err, rc, "state %s: the saved one was refused: %s", name, strerror(-rc));
    }
    if (b) {
        *at = b->next;
        free(b);
    }
    *a = (struct vm_added){ .ops = *state, .next = vm->added };
    strcpy(a->name, name);
    vm->added = a;
    return 0;
}

void vm_added_free(struct vm *vm)
{
    while (vm->added) {
        struct vm_added *a = vm->added;
        vm->added = a->next;
        free(a);
    }
    snapshot_blobs_free(vm->waiting);
}

int vm_added_check(const struct vm *vm, struct vm_error *err)
{
    return vm->waiting ? vm_fail(err, -ENODEV, "state %s: it is in the file, and whose it is has not been added",
                                 vm->waiting->name)
                       : 0;
}

static int added_save(const struct vm_added *a, struct snapshot_blob **out, struct vm_error *err)
{
    size_t n = a->ops.save(a->ops.arg, NULL, 0);
    if (n > VM_STATE_MAX)
        return vm_fail(err, -EFBIG, "state %s: %zu bytes; %zu are the most", a->name, n, VM_STATE_MAX);
    if (!(*out = snapshot_blob_new(a->name, n))) return vm_fail(err, -ENOMEM, "state %s: out of memory", a->name);
    size_t then = n ? a->ops.save(a->ops.arg, (*out)->data, n) : 0;
    return then == n ? 0 : vm_fail(err, -EIO, "state %s: it had %zu bytes, and then %zu", a->name, n, then);
}

int vm_added_save(struct vm *vm, struct snapshot_blob **out, struct vm_error *err)
{
    struct snapshot_blob **end = out;
    int rc = 0;
    *out = NULL;
    for (const struct vm_added *a = vm->added; a && !rc; a = a->next) {
        rc = added_save(a, end, err);
        if (!rc) end = &(*end)->next;
    }
    for (const struct snapshot_blob *b = vm->waiting; b && !rc; b = b->next, end = &(*end)->next) {
        *end = snapshot_blob_new(b->name, b->len);
        if (!*end) return vm_fail(err, -ENOMEM, "state %s: out of memory", b->name);
        memcpy((*end)->data, b->data, b->len);
    }
    return rc;
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

const char *vm_port_terminal(const struct vm *vm, unsigned port)
{
    const struct chardev *line = !port ? vm->serial : port <= LINES ? vm->lines.line[port - 1] : NULL;
    return line ? chardev_terminal(line) : NULL;
}

const char *vm_serial_terminal(const struct vm *vm) { return vm_port_terminal(vm, 0); }
