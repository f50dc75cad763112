/* Disk images of every format, opened: raw and qcow2, as they are or under a layer that takes the writes. */
#ifndef SRC_IMAGE_OPEN_H
#define SRC_IMAGE_OPEN_H
#include "src/back/image_base.h"

struct image_options {
    u8 format; /* enum vm_format; VM_FORMAT_PROBE: its first bytes say */
    bool readonly;
    bool snapshot; /* writes go to a file without a name, and are gone with it */
    bool direct;   /* it and what it is based on are reached without the host's page cache */
    u32 unit;      /* the size is a multiple of so many bytes, the rest is not seen */
};
/* Opens and locks it, and what it is based on. A raw image whose format was not said takes no write that would make it
 * look like qcow2 from then on: its guest could name any file of the host's as what it is based on. 0 or -errno; errors
 * name the file. */
MUST_CHECK int image_open(struct image *out, const char *path, const struct image_options *how, struct vm_error *err);

/* enum vm_format of a name, or -1. The other way: "raw", "qcow2". */
int image_format_named(const char *name);
const char *image_format_name(unsigned format);
struct image_file;
/* What the first bytes say: VM_FORMAT_RAW or VM_FORMAT_QCOW2, or -errno. */
MUST_CHECK int image_format_probe(const struct image_file *f);

#endif
