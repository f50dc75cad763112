/* Owns the images of a machine and the disks made of them. Disks take the first free drives in order, CDs begin on the
 * second channel, as people know it: hda, hdb, and the CD is hdc. */
#include "src/disks.h"
#include "src/back/image_raw.h"
#include "src/error.h"

#include <errno.h>

struct disks {
    struct {
        struct image_raw *image;
        struct blockdev *dev;
        bool cdrom;
        struct blockdev closed; /* what dev is where the machine never runs */
    } drive[VM_DISKS_MAX];
};

/* VM_DISKS_MAX: none is free. */
static unsigned place(const struct disks *d, bool cdrom)
{
    static const u8 order[2][VM_DISKS_MAX] = { { 0, 1, 2, 3 }, { 2, 3, 1, 0 } };
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (!d->drive[order[cdrom][i]].dev) return order[cdrom][i];
    return VM_DISKS_MAX;
}

static int disk_open(struct disks *d, const struct vm_disk *v, const struct blockdev_host *host, struct vm_error *err)
{
    unsigned i = place(d, v->cdrom);
    bool readonly = v->readonly || v->cdrom;
    if (i == VM_DISKS_MAX) return vm_fail(err, -EINVAL, "disk %s: there is room for %u drives", v->file, VM_DISKS_MAX);
    d->drive[i].cdrom = v->cdrom;
    if (!host) { /* as large as it takes for whatever the drive was doing */
        d->drive[i].closed = (struct blockdev){ .size = (u64)1 << 50 };
        d->drive[i].dev = &d->drive[i].closed;
        return 0;
    }
    if (v->snapshot && readonly) return vm_fail(err, -EINVAL, "disk %s: a snapshot of what is never written", v->file);
    int rc = image_raw_open(&d->drive[i].image, v->file, readonly, v->snapshot, v->cdrom ? 2048 : BLOCKDEV_SECTOR, err);
    if (rc) return rc;
    rc = blockdev_new(&d->drive[i].dev, &image_raw_ops, d->drive[i].image, image_raw_size(d->drive[i].image), readonly,
                      host);
    return rc ? vm_fail(err, rc, "disk %s: its thread could not be made", v->file) : 0;
}

int disks_open(struct disks **out, const struct vm_config *cfg, const struct blockdev_host *host, struct vm_error *err)
{
    struct disks *d = calloc(1, sizeof *d);
    if (!d) return vm_fail(err, -ENOMEM, "machine: out of memory");
    int rc = 0;
    /* Disks first: a CD that was named before a third disk must not have taken its place. */
    for (unsigned cdrom = 0; cdrom < 2; cdrom++)
        for (unsigned i = 0; i < VM_DISKS_MAX && cfg->disk[i].file && !rc; i++)
            if (cfg->disk[i].cdrom == cdrom) rc = disk_open(d, &cfg->disk[i], host, err);
    if (rc) disks_close(d);
    else *out = d;
    return rc;
}

void disks_close(struct disks *d)
{
    if (!d) return;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (d->drive[i].image) blockdev_free(d->drive[i].dev);
        image_raw_close(d->drive[i].image);
    }
    free(d);
}

void disks_complete(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].image) blockdev_complete(d->drive[i].dev);
}

void disks_drain(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].image) blockdev_drain(d->drive[i].dev);
}

struct blockdev *disks_drive(const struct disks *d, unsigned i, bool *cdrom)
{
    *cdrom = d->drive[i].cdrom;
    return d->drive[i].dev;
}
