/* Owns the images of a machine and the disks made of them. On IDE disks take the first free drives in order, CDs
 * begin on the second channel, as people know it: hda, hdb, and the CD is hdc. */
#include "src/disks.h"
#include "src/back/image.h"
#include "src/back/image_nbd.h"
#include "src/board/pc.h"
#include "src/error.h"

#include <errno.h>

#define FLOPPY_USUAL (1440u << 10)

bool vm_floppy_size(uint64_t bytes)
{
    const struct fdc_format *f = fdc_format(bytes);
    return f && f->bytes == bytes;
}

struct disks {
    struct disks_host host;
    struct drive {
        struct disks *disks;
        u8 number, werror;
        struct image image;     /* none: the drive is empty, or the machine never runs */
        struct blockdev *dev;   /* what at.dev is with a medium; NULL: the machine never runs */
        struct pc_disk at;      /* at.drive: there is one */
        struct blockdev closed; /* what at.dev is where the machine never runs */
    } drive[VM_DISKS_MAX];      /* as they were named */
};

static bool taken(const struct disks *d, enum vm_bus bus, u8 at)
{
    bool is = false;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        is |= d->drive[i].at.drive && d->drive[i].at.bus == bus && d->drive[i].at.at == at;
    return is;
}

/* There are as many places on each bus as there may be drives. */
static u8 place(const struct disks *d, const struct vm_disk *v)
{
    static const u8 order[2][VM_DISKS_MAX] = { { 0, 1, 2, 3 }, { 2, 3, 1, 0 } };
    unsigned i = 0;
    while (taken(d, v->bus, order[v->cdrom][i])) i++;
    return order[v->cdrom][i];
}

/* An image for a drive of the kind that v says. */
static int medium_open(struct image *im, const struct vm_disk *v, struct vm_error *err)
{
    bool readonly = v->readonly || v->cdrom;
    if (v->snapshot && readonly) return vm_fail(err, -EINVAL, "disk %s: a snapshot of what is never written", v->file);
    const struct image_options how = { .format = v->format,
                                       .readonly = readonly,
                                       .snapshot = v->snapshot,
                                       .direct = v->cache == VM_CACHE_NONE,
                                       .unit = v->cdrom ? 2048 : BLOCKDEV_SECTOR };
    int rc = image_open(im, v->file, &how, err);
    if (!rc && v->bus == VM_BUS_FLOPPY && !fdc_format(im->size)) {
        rc = vm_fail(err, -EINVAL, "disk %s: %llu bytes fit on no floppy disk", v->file, (unsigned long long)im->size);
        image_close(im);
    }
    return rc;
}

/* EFBIG: a limit of ours (RLIMIT_FSIZE), or of the file system's. */
static bool is_shortage(int err) { return err == -ENOSPC || err == -EDQUOT || err == -EFBIG; }

static bool on_failure(void *arg, bool write, int err)
{
    const struct drive *v = arg;
    const struct disks_host *host = &v->disks->host;
    bool stops = write && (v->werror == VM_WERROR_STOP || (v->werror == VM_WERROR_ENOSPC && is_shortage(err)));
    host->failed(host->arg, v->number, write, err, stops);
    return stops;
}

static struct blockdev_medium medium_of(const struct image *im, const struct vm_disk *v)
{
    return (struct blockdev_medium){ .ops = im->ops,
                                     .image = im->state,
                                     .size = im->size,
                                     .readonly = v->readonly || v->cdrom,
                                     .write_through = v->cache == VM_CACHE_WRITETHROUGH };
}

/* The drive's thread is there from the start, whether there is a medium or not: one may come when no thread can be made
 * any more (src/jail.h). */
static int drive_open(struct disks *d, unsigned i, const struct vm_disk *v, struct vm_error *err)
{
    struct image *im = &d->drive[i].image;
    const struct blockdev_host host = {
        .wake = d->host.wake, .asked = d->host.asked, .arg = d->host.arg, .hold = on_failure, .hold_arg = &d->drive[i]
    };
    int rc = *v->file ? medium_open(im, v, err) : 0;
    if (rc) return rc;
    const struct blockdev_medium medium = medium_of(im, v);
    rc = blockdev_new(&d->drive[i].dev, &medium, image_nbd_named(v->file) ? THREAD_NBD : THREAD_DISK, &host);
    if (!rc) return 0;
    image_close(im);
    return vm_fail(err, rc, "disk %s: its thread could not be made", v->file);
}

static int disk_open(struct disks *d, unsigned i, const struct vm_config *cfg, bool inspect, struct vm_error *err)
{
    const struct vm_disk *v = &cfg->disk[i];
    bool floppy = v->bus == VM_BUS_FLOPPY;
    if (v->cdrom && v->bus != VM_BUS_IDE) return vm_fail(err, -EINVAL, "disk %s: a CD-ROM drive is on IDE", v->file);
    if (!*v->file && !v->cdrom && !floppy)
        return vm_fail(err, -EINVAL, "disk: only CD-ROM and floppy drives can be empty");
    struct pc_disk at = {
        .drive = true, .bus = v->bus, .cdrom = v->cdrom, .at = place(d, v), .serial = cfg->disk_serial[i]
    };
    if (v->bus == VM_BUS_USB && at.at >= USB_PORTS)
        return vm_fail(err, -EINVAL, "disk %s: there are %u USB ports", v->file, USB_PORTS);
    if (floppy && at.at >= FDC_DRIVES)
        return vm_fail(err, -EINVAL, "disk %s: there are %u floppy drives at most", v->file, FDC_DRIVES);
    if (inspect) { /* as large as it takes for whatever the drive was doing */
        d->drive[i].closed = (struct blockdev){ .size = floppy ? FLOPPY_USUAL : (u64)1 << 50 };
        at.dev = &d->drive[i].closed;
    } else {
        int rc = drive_open(d, i, v, err);
        if (rc) return rc;
        if (*v->file) at.dev = d->drive[i].dev;
    }
    d->drive[i].at = at;
    d->drive[i].disks = d;
    d->drive[i].number = (u8)i;
    d->drive[i].werror = v->werror;
    return 0;
}

int disks_open(struct disks **out, const struct vm_config *cfg, const struct disks_host *host, struct vm_error *err)
{
    struct disks *d = calloc(1, sizeof *d);
    if (!d) return vm_fail(err, -ENOMEM, "machine: out of memory");
    if (host) d->host = *host;
    int rc = 0;
    /* Disks first: a CD that was named before a third disk must not have taken its place. */
    for (unsigned cdrom = 0; cdrom < 2; cdrom++)
        for (unsigned i = 0; i < VM_DISKS_MAX && cfg->disk[i].file && !rc; i++)
            if (cfg->disk[i].cdrom == cdrom) rc = disk_open(d, i, cfg, !host, err);
    if (rc) disks_close(d);
    else *out = d;
    return rc;
}

void disks_close(struct disks *d)
{
    if (!d) return;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        blockdev_free(d->drive[i].dev);
        image_close(&d->drive[i].image);
    }
    free(d);
}

/* What is given up may bring more. */
static void settle(struct blockdev *dev)
{
    for (blockdev_drain(dev); blockdev_holds(dev); blockdev_drain(dev)) blockdev_give_up(dev);
}

int disks_change(struct disks *d, unsigned i, const struct vm_disk *medium, struct vm_error *err)
{
    struct pc_disk *at = &d->drive[i].at;
    struct image *im = &d->drive[i].image, fresh = { 0 };
    struct vm_disk v = *medium;
    v.cdrom = at->cdrom;
    v.bus = (u8)at->bus;
    int rc = *v.file ? medium_open(&fresh, &v, err) : 0;
    if (rc) return rc;
    settle(d->drive[i].dev);
    const struct blockdev_medium next = medium_of(&fresh, &v);
    blockdev_change(d->drive[i].dev, &next);
    image_close(im);
    *im = fresh;
    at->dev = fresh.ops ? d->drive[i].dev : NULL;
    return 0;
}

void disks_complete(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].dev) blockdev_complete(d->drive[i].dev);
}

void disks_drain(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].dev) blockdev_drain(d->drive[i].dev);
}

bool disks_hold(const struct disks *d)
{
    bool held = false;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) held |= d->drive[i].dev && blockdev_holds(d->drive[i].dev);
    return held;
}

void disks_retry(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].dev) blockdev_retry(d->drive[i].dev);
}

void disks_settle(struct disks *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (d->drive[i].dev) settle(d->drive[i].dev);
}

const struct pc_disk *disks_get(const struct disks *d, unsigned i) { return &d->drive[i].at; }
