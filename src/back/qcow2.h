/* qcow2 images, read and written. */
#ifndef SRC_QCOW2_H
#define SRC_QCOW2_H
#include "src/back/image_base.h"
#include "src/back/image_file.h"

struct qcow2_header;

/* Opens it, and what it is based on. Takes over *f, also where it fails. above: the images that are based on it.
 * One that was not closed is repaired first if it is to be written to. */
MUST_CHECK int qcow2_open(struct image *out, struct image_file *f, const char *path, bool write,
                          const struct image_chain *above, struct vm_error *err);

struct qcow2_create {
    u64 size;         /* bytes, a multiple of 512 */
    unsigned version; /* 2 or 3 */
    unsigned cluster_bits;
    unsigned refcount_order;
    bool lazy_refcounts;
    const char *backing, *backing_format; /* NULL: none */
};
/* Makes an empty image of the empty file f. 0 or -errno. */
MUST_CHECK int qcow2_make(const struct image_file *f, const char *path, const struct qcow2_create *how,
                          struct vm_error *err);

/* What a check has found. */
struct qcow2_check {
    u64 corruptions;         /* entries that lead nowhere; refcounts that are too low; wrong flags */
    u64 leaks;               /* clusters that nobody uses, but that are not free */
    u64 left;                /* what has not been repaired of the corruptions */
    u64 allocated, clusters; /* of the disk's */
};
/* Walks all tables. repair: counts anew, and writes what was wrong; f is open for writing then. 0 if it could be
 * checked, or -errno. */
MUST_CHECK int qcow2_check(const struct image_file *f, const char *path, bool repair, struct qcow2_check *out,
                           struct vm_error *err);

/* The file that an image at path is based on: relative to its folder. To be freed; NULL: no memory. */
char *qcow2_backing_path(const char *path, const char *backing);

/* How much from offset on the image at state holds itself (else what it is based on does): *own tells, up to len bytes
 * are returned. -errno. */
MUST_CHECK int qcow2_own(void *state, u64 offset, u64 len, bool *own, u64 *n);
/* Drops all that the image holds itself: what it is based on shows again. */
MUST_CHECK int qcow2_empty(void *state);
const struct qcow2_header *qcow2_header(const void *state);

#endif
