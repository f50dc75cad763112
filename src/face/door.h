/* A door: a place where another program comes to look at the machine, one client at a time; a second one is turned away
 * at once. Each has a thread of its own, on which all its functions are called. */
#ifndef SRC_FACE_DOOR_H
#define SRC_FACE_DOOR_H
#include "core/types.h"
#include "transvisor/vm.h"

struct door;
struct door_ops {
    void (*opened)(void *arg); /* a client is there */
    void (*input)(void *arg, const u8 *bytes, size_t n);
    void (*closed)(void *arg); /* it has gone, or has been sent away */
    void (*woken)(void *arg);  /* door_wake() has been called, perhaps several times; there need be no client */
};

/* tcp:[ADDRESS:]PORT, unix:PATH, or stdio: our own standard input and output, whose client is there from the beginning
 * and comes once. Listens from here on; clients are let in by door_start(). what begins errors. 0 or -errno; -EINVAL:
 * spec is none of these. */
MUST_CHECK int door_open(struct door **out, const char *spec, const char *what, struct vm_error *err);
MUST_CHECK int door_start(struct door *d, const struct door_ops *ops, void *arg); /* 0 or -errno */
/* Ends the thread, after a last woken(). Copes with NULL, and with a door that was never started. */
void door_close(struct door *d);

void door_wake(struct door *d); /* from any thread */

/* From the door's own functions: */
void door_send(struct door *d, const void *bytes, size_t n); /* to the client; one that does not take it is sent away */
void door_hang_up(struct door *d);
bool door_has_client(const struct door *d);
bool door_ends(const struct door *d); /* this woken() is the last: the door is about to be closed */

#endif
