/* Owns the images of a machine and the disks made of them. On IDE disks take the first free drives in order, CDs
 * begin on the second channel, as people know it: hda, hdb, and the CD is hdc. */
#include "src/disks.h"
#include "src/back/image.h"
#include "src/board/pc.h"
#include "src/error.h"

#include <errno.h>

struct disks {
    struct {
        struct image image;
        struct pc_disk at;
        struct blockdev closed; /* what at.dev is where the machine never runs */
    } drive[VM_DISKS_MAX];      /* as they were named */
};

static bool taken(const struct disks *d, bool virtio, u8 at)
{
    bool is = false;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        is |= d->drive[i].at.dev && d->drive[i].at.virtio == virtio && d->drive[i].at.at == at;
    return is;
}

/* There are as many places on each bus as there may be drives. */
static u8 place(const struct disks *d, const struct vm_disk *v)
{
    static const u8 order[2][VM_DISKS_MAX] = { { 0, 1, 2, 3 }, { 2, 3, 1, 0 } };
    unsigned i = 0;
    while (taken(d, v->bus == VM_BUS_VIRTIO, order[v->cdrom][i])) i++;
    return order[v->cdrom][i];
}

static int disk_open(struct disks *d, unsigned i, const struct vm_config *cfg, const struct blockdev_host *host,
                     struct vm_error *err)
{
    const struct vm_disk *v = &cfg->disk[i];
    bool readonly = v->readonly || v->cdrom;
    if (v->cdrom && v->bus != VM_BUS_IDE) return vm_fail(err, -EINVAL, "disk %s: a CD-ROM drive is on IDE", v->file);
    d->drive[i].at = (struct pc_disk){
        .cdrom = v->cdrom, .virtio = v->bus == VM_BUS_VIRTIO, .at = place(d, v), .serial = cfg->disk_serial[i]
    };
    if (!host) { /* as large as it takes for whatever the drive was doing */
        d->drive[i].closed = (struct blockdev){ .size = (u64)1 << 50 };
        d->drive[i].at.dev = &d->drive[i].closed;
        return 0;
    }
    if (v->snapshot && readonly) return vm_fail(err, -EINVAL, "disk %s: a snapshot of what is never written", v->file);
    const struct image_options how = {
        .format = v->format, .readonly = readonly, .snapshot = v->snapshot, .unit = v->cdrom ? 2048 : BLOCKDEV_SECTOR
    };
    struct image *im = &d->drive[i].image;
    int rc = image_open(im, v->file, &how, err);
    if (rc) return rc;
    rc = blockdev_new(&d->drive[i].at.dev, im->ops, im->state, im->size, readonly, host);
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
            if (cfg->disk[i].cdrom == cdrom) rc = disk_open(d, i, cfg, host, err);
    if (rc) disks_close(d);
    else *out = d;
    return rc;
}

void disks_close(struct disks *d)
{
    if (!d) return;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (d->drive[i].image.ops) blockdev_free(d->drive[i].at.dev);
        image_close(&d->drive[i].image);
    }
    free(d);
}

void disks_complete(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].image.ops) blockdev_complete(d->drive[i].at.dev);
}

void disks_drain(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].image.ops) blockdev_drain(d->drive[i].at.dev);
}

const struct pc_disk *disks_get(const struct disks *d, unsigned i) { return &d->drive[i].at; }
