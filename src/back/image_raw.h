/* Raw disk images: regular files and block devices, as they are or under a layer that takes the writes. */
#ifndef SRC_IMAGE_RAW_H
#define SRC_IMAGE_RAW_H
#include "src/back/blockdev.h"
#include "transvisor/vm.h"

struct image_raw;
/* Opens and locks it. snapshot: writes go to a file without a name, and are gone with it. unit: the size is a multiple
 * of so many bytes, the rest is not seen. Errors name the file. */
MUST_CHECK int image_raw_open(struct image_raw **out, const char *path, bool readonly, bool snapshot, u32 unit,
                              struct vm_error *err);
void image_raw_close(struct image_raw *im); /* copes with NULL */
u64 image_raw_size(const struct image_raw *im);
extern const struct block_image_ops image_raw_ops;

#endif
