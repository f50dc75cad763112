/* Owns what monitors do by a machine, apart from the words in which it is said. */
#include "src/face/session_actions.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define PIECE 65536u

int action_memory(struct vm *vm, bool physical, u64 address, u64 bytes, const char *path, struct vm_error *err)
{
    static const char what[] = "there is no memory at";
    if (!physical && (address > UINT32_MAX || bytes > (u64)1 << 32))
        return vm_fail(err, -EINVAL, "%s 0x%llx", what, (unsigned long long)address);
    if (physical && bytes > (u64)1 << 36) return vm_fail(err, -EINVAL, "there is less memory than that");
    u8 *piece = malloc(PIECE);
    FILE *out = piece ? fopen(path, "we") : NULL;
    int rc = piece ? out ? 0 : -errno : -ENOMEM;
    for (u64 done = 0, n; !rc && done < bytes; done += n) {
        n = bytes - done < PIECE ? bytes - done : PIECE;
        if (physical) vm_read_physical(vm, address + done, piece, n);
        else if (vm_read_linear(vm, (u32)(address + done), piece, n) != n) {
            fclose(out);
            free(piece);
            return vm_fail(err, -EFAULT, "%s 0x%llx..0x%llx", what, (unsigned long long)address,
                           (unsigned long long)(address + bytes - 1));
        }
        if (fwrite(piece, 1, n, out) != n) rc = -errno;
    }
    if (out && fclose(out) && !rc) rc = -errno;
    free(piece);
    return rc ? vm_fail(err, rc, "%.200s: %s", path, strerror(-rc)) : 0;
}

int action_reset(struct session *s, struct vm_error *err)
{
    int rc = vm_reset(s->vm, err);
    if (!rc) session_was_reset(s, false);
    return rc;
}

bool action_drive_name(struct vm *vm, unsigned i, char name[24], struct vm_drive *d)
{
    unsigned ide = 0, virtio = 0, floppy = 0, usb = 0;
    if (vm_get_drive(vm, i, d)) return false;
    for (unsigned k = 0; k < i; k++) {
        struct vm_drive before;
        if (vm_get_drive(vm, k, &before)) continue;
        if (before.disk.bus == VM_BUS_VIRTIO) virtio++;
        else if (before.disk.bus == VM_BUS_FLOPPY) floppy++;
        else if (before.disk.bus == VM_BUS_USB) usb++;
        else ide++;
    }
    if (d->disk.bus == VM_BUS_VIRTIO) snprintf(name, 24, "virtio%u", virtio);
    else if (d->disk.bus == VM_BUS_FLOPPY) snprintf(name, 24, "floppy%u", floppy);
    else if (d->disk.bus == VM_BUS_USB) snprintf(name, 24, "usb%u", usb);
    else snprintf(name, 24, "ide%u-%s%u", ide / 2, d->disk.cdrom ? "cd" : "hd", ide % 2);
    return true;
}

int action_drive(struct vm *vm, const char *wanted)
{
    char name[24];
    struct vm_drive d;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (action_drive_name(vm, i, name, &d) && !strcmp(name, wanted)) return (int)i;
    return -1;
}

const char *action_status(const struct session *s)
{
    switch (s->state) {
    case SESSION_RUNS: return "running";
    case SESSION_BREAK:
    case SESSION_STEPPED: return "debug";
    case SESSION_DISK: return "io-error";
    case SESSION_DIED: return "guest-panicked";
    case SESSION_ASKED: break;
    }
    return "paused";
}

const char *action_balloon_stat(unsigned i)
{
    static const char *const names[] = { "stat-swap-in",          "stat-swap-out",    "stat-major-faults",
                                         "stat-minor-faults",     "stat-free-memory", "stat-total-memory",
                                         "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc",
                                         "stat-htlb-pgfail" };
    _Static_assert(ARRAY_LEN(names) == VM_BALLOON_STATS, "in their order");
    return names[i];
}
