/* The human monitor's door: a socket behind which a person's terminal is, for a machine of a session. */
#ifndef SRC_FACE_HUMAN_DOOR_H
#define SRC_FACE_HUMAN_DOOR_H
#include "src/face/session.h"

struct human_door;
/* Listens there. files: as human_new(). 0 or -errno. */
MUST_CHECK int human_door_open(struct human_door **out, const char *spec, bool files, struct vm_error *err);
/* Lets people in; s outlives session_end(). 0 or -errno. */
MUST_CHECK int human_door_start(struct human_door *h, struct session *s);
void human_door_close(struct human_door *h); /* copes with NULL */

#endif
