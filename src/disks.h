/* The disks of a machine: images, their threads, and where each is. */
#ifndef SRC_DISKS_H
#define SRC_DISKS_H
#include "src/back/blockdev.h"
#include "transvisor/vm.h"

struct disks;
struct pc_disk;
struct disks_host {
    void (*wake)(void *arg);          /* on a disk's thread: disks_complete() is wanted */
    void (*asked)(void *arg, u64 ns); /* on the vCPU thread: it will be, perhaps within ns */
    /* On the vCPU thread: what a drive was asked for has failed at its image. held: it waits for disks_retry(). */
    void (*failed)(void *arg, unsigned drive, bool write, int err, bool held);
    void *arg;
};
/* Opens all that cfg names. host: NULL: the machine never runs, and its disks stay closed. 0 or -errno; -EINVAL: more
 * than there is room for, or contradictory. */
MUST_CHECK int disks_open(struct disks **out, const struct vm_config *cfg, const struct disks_host *host,
                          struct vm_error *err);
void disks_close(struct disks *d); /* what must not be lost has been drained; copes with NULL */
void disks_complete(struct disks *d);
void disks_drain(struct disks *d); /* but for what is held: */
bool disks_hold(const struct disks *d);
void disks_retry(struct disks *d);
void disks_settle(struct disks *d); /* as disks_drain(), and what is held has failed */
/* Drive i, in the order of the description, as the board wants it. */
const struct pc_disk *disks_get(const struct disks *d, unsigned i);
/* Drive i, a CD-ROM or floppy drive, gets another medium, or becomes empty (its file is ""). What was under way with
 * the one before is completed first, and the board is to be told right afterwards. 0 or -errno: it is as it was. */
MUST_CHECK int disks_change(struct disks *d, unsigned i, const struct vm_disk *medium, struct vm_error *err);

#endif
