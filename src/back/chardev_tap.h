/* A chardev in front of another, which tells of what goes out through it. Input passes untouched. */
#ifndef SRC_CHARDEV_TAP_H
#define SRC_CHARDEV_TAP_H
#include "core/bus.h"

struct chardev_tap {
    struct chardev dev; /* what the chip sees */
    struct chardev *behind;
    void (*told)(void *arg, const u8 *buf, size_t n);
    void *arg;
};
/* Borrows behind, whose rx is the tap's from now on. */
void chardev_tap_init(struct chardev_tap *t, struct chardev *behind, void (*told)(void *arg, const u8 *buf, size_t n),
                      void *arg);

#endif
