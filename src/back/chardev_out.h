/* Writing to whatever may not take it: a pipe, a socket, a terminal. What is not taken in time is dropped, and counted.
 */
#ifndef SRC_CHARDEV_OUT_H
#define SRC_CHARDEV_OUT_H
#include "core/types.h"

struct chardev_out {
    int stall_ms;           /* how long a write waits for a reader before it drops what is left; -1: until cancelled */
    bool stalled;           /* the last write was cut short: nothing is waited for until the reader reads again */
    _Atomic bool cancelled; /* set by any thread, for good */
    _Atomic u64 dropped;    /* bytes */
};

/* Writes n bytes to fd, or as many as are taken. 0, or -errno: there will never be a reader again. */
int chardev_out_write(struct chardev_out *o, int fd, const u8 *buf, size_t n);

#endif
