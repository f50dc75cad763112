/* Owns nothing: hands everything on. */
#include "src/back/chardev_tap.h"

static void tap_write(void *be, const u8 *buf, size_t n)
{
    struct chardev_tap *t = be;
    chardev_write(t->behind, buf, n);
    t->told(t->arg, buf, n);
}

static void tap_rx(void *fe, const u8 *buf, size_t n)
{
    struct chardev_tap *t = fe;
    if (t->dev.rx) t->dev.rx(t->dev.fe, buf, n);
}

void chardev_tap_init(struct chardev_tap *t, struct chardev *behind, void (*told)(void *arg, const u8 *buf, size_t n),
                      void *arg)
{
    static const struct chardev_ops ops = { .write = tap_write };
    *t = (struct chardev_tap){ .dev = { .ops = &ops, .be = t }, .behind = behind, .told = told, .arg = arg };
    behind->rx = tap_rx;
    behind->fe = t;
}
