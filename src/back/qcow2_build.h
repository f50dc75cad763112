/* Refcounts written anew, all of them: for a new image, and for one whose refcounts are wrong. */
#ifndef SRC_QCOW2_BUILD_H
#define SRC_QCOW2_BUILD_H
#include "src/back/qcow2_format.h"

/* How often each cluster of a file is in use. */
struct qcow2_counts {
    u32 *count;
    u64 n, room;
};
#define QCOW2_COUNTS_MAX ((u64)1 << 27) /* 512 MiB of them: a file of 8 TiB at 64 KiB a cluster */
/* Counts n clusters from first on. 0, -ENOMEM, or -EFBIG. */
MUST_CHECK int qcow2_count(struct qcow2_counts *c, u64 first, u64 n);

/* Writes blocks and a table behind all that is counted, and makes it durable; the header is the caller's. The table
 * has at_least entries. *offset, *clusters: of the table. */
MUST_CHECK int qcow2_build(const struct image_file *f, const struct qcow2_header *h, struct qcow2_counts *c,
                           u64 at_least, u64 *offset, u64 *clusters);

#endif
