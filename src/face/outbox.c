/* Owns the bytes that wait for a door's client. */
#include "src/face/outbox.h"

#include <stdlib.h>
#include <string.h>

void outbox_add(struct outbox *o, const void *bytes, size_t n)
{
    if (o->n + n > o->room) {
        size_t room = 2 * (o->n + n);
        u8 *more = realloc(o->bytes, room);
        if (!more) {
            o->failed = true;
            return;
        }
        o->bytes = more;
        o->room = room;
    }
    memcpy(o->bytes + o->n, bytes, n);
    o->n += n;
}

void outbox_send(struct outbox *o, struct door *d)
{
    door_send(d, o->bytes, o->n);
    o->n = 0;
    if (o->failed) door_hang_up(d);
}

void outbox_empty(struct outbox *o)
{
    o->n = 0;
    o->failed = false;
}

void outbox_free(struct outbox *o) { free(o->bytes); }
