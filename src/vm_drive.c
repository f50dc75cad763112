/* Owns what an embedder does with a machine's drives while it lives: which medium is in, and changing it. */
#include "src/board/pc.h"
#include "src/disks.h"
#include "src/error.h"
#include "src/vm_priv.h"
#include "src/back/image_nbd.h"

#include <errno.h>
#include <string.h>

/* NULL: there is no such drive. */
static const struct pc_disk *drive_at(const struct vm *vm, unsigned drive)
{
    const struct pc_disk *at = drive < VM_DISKS_MAX ? disks_get(vm->disks, drive) : NULL;
    return at && at->drive ? at : NULL;
}

static bool removable(const struct pc_disk *at) { return at->cdrom || at->bus == VM_BUS_FLOPPY; }

int vm_get_drive(const struct vm *vm, unsigned drive, struct vm_drive *out)
{
    const struct pc_disk *at = drive_at(vm, drive);
    if (!at) return -ENODEV;
    *out = (struct vm_drive){ .disk = vm->cfg.disk[drive],
                              .removable = removable(at),
                              .tray_open = pc_tray_open(vm->pc, at),
                              .locked = pc_medium_prevented(vm->pc, at) };
    return 0;
}

int vm_change_medium(struct vm *vm, unsigned drive, const struct vm_disk *medium, bool force, struct vm_error *err)
{
    const struct pc_disk *at = drive_at(vm, drive);
    struct vm_disk *now = &vm->cfg.disk[drive < VM_DISKS_MAX ? drive : 0];
    struct vm_disk next = { .file = "" };
    if (medium && medium->file) next = *medium;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    if (!at) return vm_fail(err, -ENODEV, "there is no drive %u", drive);
    if (!removable(at)) return vm_fail(err, -ENODEV, "drive %u: its disk is fixed", drive);
    if (vm->cfg.inspect) return vm_fail(err, -ENODEV, "drive %u: the machine is only looked at", drive);
    if (vm->confined && image_nbd_named(next.file))
        return vm_fail(err, -EPERM, "drive %u: a server can be connected to at the start only, or with --no-jail",
                       drive);
    if (!force && pc_medium_prevented(vm->pc, at)) {
        pc_eject_request(vm->pc, at);
        return vm_fail(err, -EPERM, "drive %u: the guest has locked its tray", drive);
    }
    char *file = strdup(next.file);
    if (!file) return vm_fail(err, -ENOMEM, "drive %u: out of memory", drive);
    int rc = disks_change(vm->disks, drive, &next, err);
    if (rc) {
        free(file);
        return rc;
    }
    pc_change_medium(vm->pc, at);
    next.cdrom = now->cdrom;
    next.bus = now->bus;
    next.file = file;
    free((char *)now->file);
    *now = next;
    return 0;
}
