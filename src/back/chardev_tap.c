/* Owns the bytes that an embedder has sent and the chip has not got yet; hands everything else on. */
#include "src/back/chardev_tap.h"

#include <errno.h>
#include <string.h>

#define ROOM_MIN 64u
#define PIECE 512u /* a chip takes or drops a piece as a whole */

static void tap_write(void *be, const u8 *buf, size_t n)
{
    struct chardev_tap *t = be;
    t->sent += n;
    chardev_write(t->behind, buf, n);
    if (t->told) t->told(t->arg, buf, n);
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
    *t = (struct chardev_tap){ .dev = { .ops = &ops, .be = t }, .told = told, .arg = arg };
    pthread_mutex_init(&t->lock, NULL);
    chardev_tap_behind(t, behind);
}

void chardev_tap_behind(struct chardev_tap *t, struct chardev *behind)
{
    if (t->behind) t->behind->rx = NULL;
    t->behind = behind;
    behind->rx = tap_rx;
    behind->fe = t;
}

void chardev_tap_fini(struct chardev_tap *t)
{
    if (!t->behind) return;
    t->behind->rx = NULL;
    free(t->waiting);
    pthread_mutex_destroy(&t->lock);
    memset(t, 0, sizeof *t);
}

static bool make_room(struct chardev_tap *t, size_t n)
{
    size_t room = t->room ? t->room : ROOM_MIN;
    while (room - t->len < n && room <= SIZE_MAX / 2) room *= 2;
    u8 *grown = room - t->len < n ? NULL : realloc(t->waiting, room);
    if (!grown) return false;
    t->waiting = grown;
    t->room = room;
    return true;
}

int chardev_tap_send(struct chardev_tap *t, const u8 *buf, size_t n)
{
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    if (t->room - t->len < n && !make_room(t, n)) rc = -ENOMEM;
    if (!rc && n) memcpy(t->waiting + t->len, buf, n);
    if (!rc) t->len += n;
    pthread_mutex_unlock(&t->lock);
    return rc;
}

void chardev_tap_deliver(struct chardev_tap *t)
{
    pthread_mutex_lock(&t->lock);
    u8 *bytes = t->waiting;
    size_t len = t->len;
    t->waiting = NULL;
    t->len = t->room = 0;
    pthread_mutex_unlock(&t->lock);
    for (size_t at = 0; at < len; at += PIECE) tap_rx(t, bytes + at, len - at < PIECE ? len - at : PIECE);
    free(bytes);
}
