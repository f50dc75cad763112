/* The back ends of the ports behind COM1: COM2 to COM4, LPT1, and the virtio console. */
#ifndef SRC_LINES_H
#define SRC_LINES_H
#include "src/back/chardev.h"
#include "transvisor/vm.h"

#define LINE_LPT VM_SERIAL_MORE
#define LINE_HVC (LINE_LPT + 1u)
#define LINES (LINE_HVC + 1u)
struct lines {
    struct chardev *line[LINES]; /* NULL: there is no such port */
};
/* What cfg says of one; NULL: there is no such port. */
const char *lines_spec(const struct vm_config *cfg, unsigned i);
/* Opens what cfg names. 0 or -errno; what is open stays so until lines_close(). */
MUST_CHECK int lines_open(struct lines *l, const struct vm_config *cfg, const struct chardev_host *host,
                          struct vm_error *err);
void lines_deliver(struct lines *l);
void lines_say(struct lines *l, const void *bytes, size_t n); /* as chardev_say() */
void lines_cancel(struct lines *l);                           /* as chardev_cancel() */
void lines_close(struct lines *l);                            /* copes with none */

#endif
