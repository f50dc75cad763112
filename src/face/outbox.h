/* What the machine's thread has for a door's client, until the door's thread sends it. */
#ifndef SRC_FACE_OUTBOX_H
#define SRC_FACE_OUTBOX_H
#include "src/face/door.h"

struct outbox { /* all zero: empty */
    u8 *bytes;
    size_t n, room;
    bool failed; /* there is no memory for what is to be sent: the client has to go */
};

void outbox_add(struct outbox *o, const void *bytes, size_t n);
void outbox_send(struct outbox *o, struct door *d); /* empties it */
void outbox_empty(struct outbox *o);                /* for another client */
void outbox_free(struct outbox *o);

#endif
