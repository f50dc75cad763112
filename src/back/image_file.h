/* The host's file below an image: opened, locked, read and written at offsets. */
#ifndef SRC_IMAGE_FILE_H
#define SRC_IMAGE_FILE_H
#include "core/types.h"
#include "transvisor/vm.h"

#include <sys/uio.h>

struct image_file {
    int fd;       /* -1: none */
    bool regular; /* else a block device */
    u64 size;     /* bytes, as it was opened */
    u64 dev, ino; /* what file it is */
    /* With IMAGE_DIRECT: what addresses, lengths and places in the file are multiples of, a power of two; and memory
     * for those that are not. Else 0 and NULL. */
    u32 align;
    u8 *bounce;
};
enum { IMAGE_WRITE = 1, IMAGE_DIRECT = 2 /* without the host's page cache */ };
/* Opens a regular file or block device, and locks it: alone if it is to be written to, else among readers. how: of the
 * above, or 0. Errors name path. Leaves f->fd at -1 if it fails. */
MUST_CHECK int image_file_open(struct image_file *f, const char *path, unsigned how, struct vm_error *err);
void image_file_close(struct image_file *f); /* copes with fd -1 */
/* All of it, or -errno. What lies behind the end of the file is -EIO, or zeroes in image_file_read() and _readv(). */
MUST_CHECK int image_file_move(const struct image_file *f, bool write, u64 at, const struct iovec *iov, unsigned niov);
MUST_CHECK int image_file_readv(const struct image_file *f, u64 at, const struct iovec *iov, unsigned niov);
MUST_CHECK int image_file_read(const struct image_file *f, u64 at, void *buf, size_t n);
MUST_CHECK int image_file_write(const struct image_file *f, u64 at, const void *buf, size_t n);
MUST_CHECK int image_file_sync(const struct image_file *f);
/* The range reads as zeroes, and takes no room. -errno: the host cannot, and nothing has changed. */
MUST_CHECK int image_file_punch(const struct image_file *f, u64 at, u64 n);

#endif
