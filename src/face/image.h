/* What kind of file a user names, by its first bytes: a kernel, or something else that he may have meant to boot. */
#ifndef SRC_IMAGE_H
#define SRC_IMAGE_H
#include "core/types.h"

enum image_kind {
    IMAGE_UNKNOWN, /* or it cannot be read; the loader says why */
    IMAGE_LINUX,
    IMAGE_ELF,
    IMAGE_DISK,        /* raw or qcow2 */
    IMAGE_FLOPPY,      /* raw, and of a floppy disk's size */
    IMAGE_CDROM,       /* ISO 9660 */
    IMAGE_DISK_FORMAT, /* a disk in a format that has to be converted first */
    IMAGE_RAM_DISK,
};
/* *what: the format's name, for IMAGE_DISK_FORMAT and IMAGE_RAM_DISK. Only regular files are opened; of a file that is
 * not there, or says nothing, the name's ending counts. */
enum image_kind image_probe(const char *path, const char **what);

#endif
