/* Raw disk images: what the disk holds is what the file holds. */
#ifndef SRC_IMAGE_RAW_H
#define SRC_IMAGE_RAW_H
#include "src/back/image_base.h"
#include "src/back/image_file.h"

/* Takes over *f, also where it fails. guessed: nobody said that it is raw; see image_open(). */
MUST_CHECK int image_raw_new(struct image *out, struct image_file *f, const char *path, bool guessed,
                             struct vm_error *err);

#endif
