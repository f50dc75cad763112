/* Disks that an NBD server has: every format that qemu-nbd or nbdkit serves. */
#ifndef SRC_IMAGE_NBD_H
#define SRC_IMAGE_NBD_H
#include "src/back/image_base.h"

/* Whether a file's name is a server's: nbd:unix:SOCKET, nbd:HOST:PORT (either may go on :exportname=NAME),
 * nbd://HOST[:PORT][/NAME], nbd+unix:///[NAME]?socket=SOCKET. */
bool image_nbd_named(const char *name);
/* Connects, for as long as the image is open: a server that has gone does not come back. 0 or -errno; -EROFS: it takes
 * no writes; -ENOTSUP: libnbd is not installed. */
MUST_CHECK int image_nbd_open(struct image *out, const char *name, bool write, struct vm_error *err);

#endif
