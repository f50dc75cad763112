/* What an open disk image is to those who use one, whatever its format. */
#ifndef SRC_IMAGE_BASE_H
#define SRC_IMAGE_BASE_H
#include "src/back/blockdev.h"
#include "transvisor/vm.h"

struct image_file;

/* An open image. All zeroes: none. */
struct image {
    const struct block_image_ops *ops;
    void *state; /* what ops take */
    u64 size;    /* bytes */
    void (*close)(void *state);
};
/* Writes what its tables still lack; copes with none. */
static inline void image_close(struct image *im)
{
    if (im->close) im->close(im->state);
    *im = (struct image){ 0 };
}

/* The images that are based on the one to be opened, from the last one up; and how it opens what it is based on. */
struct image_chain {
    const struct image_file *file; /* NULL: this is the end */
    const struct image_chain *above;
    unsigned depth;
    /* format: its name, "": not said. 0 or -errno. */
    int (*open)(struct image *out, const char *path, const char *format, const struct image_chain *above,
                struct vm_error *err);
};

#endif
