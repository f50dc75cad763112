/* Files that may keep us waiting: FIFOs without a partner, sockets, terminals. Every wait here ends soon after the
 * caller's own reason to stop has come up; regular files are as ever. */
#ifndef SRC_WAIT_H
#define SRC_WAIT_H
#include "core/types.h"

#include <sys/types.h>

/* asked() is called some fifty times a second while something is waited for; NULL: nothing ends a wait. */
struct wait_end {
    bool (*asked)(void *arg);
    void *arg;
};

/* open(2), O_CLOEXEC and O_NONBLOCK added, above descriptor 2. To write to a FIFO it waits for a reader. Returns a
 * descriptor or -errno; -ECANCELED: end->asked() said so. */
MUST_CHECK int wait_open(const char *path, int flags, mode_t mode, const struct wait_end *end);
/* As read(2), of what wait_open() gave: at least a byte, 0 at the end, -errno, -ECANCELED. */
MUST_CHECK ssize_t wait_read(int fd, void *buf, size_t n, const struct wait_end *end);
/* All of it: 0, -errno, -ECANCELED. */
MUST_CHECK int wait_write(int fd, const void *buf, size_t n, const struct wait_end *end);

#endif
