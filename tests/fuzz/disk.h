/* Disks for the fuzzers of controllers: of any size, for nothing is kept; a request is done when the fuzzer says so,
 * and fails at times. What is asked for must lie within the disk, and every byte of its memory is touched. */
#ifndef TESTS_FUZZ_DISK_H
#define TESTS_FUZZ_DISK_H
#include "core/blockdev.h"
#include "tests/fuzz/choice.h"

#include <errno.h>

struct fuzz_disk {
    struct blockdev dev;
    struct blockdev_req *waits; /* a controller asks for one thing at a time */
};

static UNUSED u64 disk_reads, disk_writes, disk_others;
static volatile u32 disk_sum;

static void disk_submit(void *be, struct blockdev_req *r)
{
    struct fuzz_disk *d = be;
    BUG_ON(d->waits);
    BUG_ON((r->offset | r->len) % BLOCKDEV_SECTOR || r->offset > d->dev.size || r->len > d->dev.size - r->offset);
    d->waits = r;
}

static UNUSED void disk_init(struct fuzz_disk *d, u64 sectors, bool readonly)
{
    static const struct blockdev_ops ops = { disk_submit };
    *d = (struct fuzz_disk){ .dev = { .ops = &ops, .be = d, .size = sectors * BLOCKDEV_SECTOR, .readonly = readonly } };
}

/* The disk has done what it was asked for. False: that was nothing. */
static UNUSED bool disk_finish(struct fuzz_disk *d)
{
    struct blockdev_req *r = d->waits;
    bool moves = r && (r->op == BLOCKDEV_READ || r->op == BLOCKDEV_WRITE);
    int err = r && r->op == BLOCKDEV_WRITE && d->dev.readonly ? -EROFS : rnd(16) ? 0 : -EIO;
    u64 n = 0;

    if (!r) return false;
    d->waits = NULL;
    for (unsigned i = 0; moves && i < r->niov; i++) {
        u8 *p = r->iov[i].iov_base;
        for (u64 k = 0; k < r->iov[i].iov_len; k++) {
            if (r->op == BLOCKDEV_WRITE) disk_sum += p[k];
            else p[k] = (u8)((r->offset + n + k) * 0x9e3779b9u >> 24);
        }
        n += r->iov[i].iov_len;
    }
    BUG_ON(moves && n != r->len);
    *(r->op == BLOCKDEV_READ ? &disk_reads : r->op == BLOCKDEV_WRITE ? &disk_writes : &disk_others) += !err;
    r->done(r, err);
    return true;
}

/* All n rest, as a board sees to it before it is saved, reset, or comes to its end. What one has done may begin
 * another's work. */
static UNUSED void disks_settle(struct fuzz_disk *d, unsigned n)
{
    for (unsigned i = 0; i < n; i = disk_finish(&d[i]) ? 0 : i + 1) {}
}
#endif
