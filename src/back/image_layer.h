/* A layer over an image that takes the writes. */
#ifndef SRC_IMAGE_LAYER_H
#define SRC_IMAGE_LAYER_H
#include "src/back/image_base.h"

/* Takes over *base, which keeps its contents: what is written goes to a file without a name. 0 or -errno; *base is to
 * be closed in any case. */
MUST_CHECK int image_layer(struct image *base, const char *path, struct vm_error *err);

#endif
