/* A line with nobody at the other end: output is dropped, input never comes. */
#include "src/back/chardev.h"
#include "src/error.h"

#include <errno.h>

static void null_close(struct chardev_be *be) { free(be); }

int chardev_null_open(struct chardev_be **out, const char *none UNUSED, const struct chardev_host *host UNUSED,
                      struct vm_error *err)
{
    static const struct chardev_ops ops = { 0 };
    struct chardev_be *be = calloc(1, sizeof *be);
    if (!be) return vm_fail(err, -ENOMEM, "serial null: out of memory");
    *be = (struct chardev_be){ .dev = { .ops = &ops, .be = be }, .close = null_close };
    *out = be;
    return 0;
}
