/* A chardev in front of another: the embedder's hand on the line. It tells of what goes out, and puts in bytes beside
 * those that the other brings. */
#ifndef SRC_CHARDEV_TAP_H
#define SRC_CHARDEV_TAP_H
#include "core/chardev.h"

#include <pthread.h>

struct chardev_tap {
    struct chardev dev; /* what the chip sees */
    struct chardev *behind;
    void (*told)(void *arg, const u8 *buf, size_t n);
    void *arg;
    u64 sent;             /* bytes that have gone out; the vCPU thread's */
    pthread_mutex_t lock; /* of what waits to be delivered */
    u8 *waiting;
    size_t len, room;
};
/* Borrows behind, whose rx is the tap's from now on. told may be NULL. */
void chardev_tap_init(struct chardev_tap *t, struct chardev *behind, void (*told)(void *arg, const u8 *buf, size_t n),
                      void *arg);
void chardev_tap_behind(struct chardev_tap *t, struct chardev *behind); /* another from now on */
void chardev_tap_fini(struct chardev_tap *t);                           /* after chardev_tap_init(), or of zeroes */
/* Thread-safe: the chip gets these bytes at the next chardev_tap_deliver(), which is for the vCPU thread. 0 or -ENOMEM.
 */
MUST_CHECK int chardev_tap_send(struct chardev_tap *t, const u8 *buf, size_t n);
void chardev_tap_deliver(struct chardev_tap *t);

#endif
