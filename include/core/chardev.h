/* A byte stream to the outside (serial line, console), between a chip and its back end. */
#ifndef CORE_CHARDEV_H
#define CORE_CHARDEV_H
#include "core/types.h"

struct chardev_ops {
    void (*write)(void *be, const u8 *buf, size_t n); /* never blocks for long; may be NULL */
};
struct chardev {
    const struct chardev_ops *ops;
    void *be;
    void (*rx)(void *fe, const u8 *buf, size_t n); /* set by the chip in front; called on the vCPU thread */
    void *fe;
};
static inline void chardev_write(struct chardev *c, const u8 *buf, size_t n)
{
    if (c && c->ops && c->ops->write) c->ops->write(c->be, buf, n);
}

#endif
