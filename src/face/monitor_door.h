/* The monitor's door: QMP behind a socket, for a machine of a session. */
#ifndef SRC_FACE_MONITOR_DOOR_H
#define SRC_FACE_MONITOR_DOOR_H
#include "src/face/session.h"

struct monitor_door;
/* Listens at spec (door_open()). 0 or -errno. */
MUST_CHECK int monitor_door_open(struct monitor_door **out, const char *spec, struct vm_error *err);
/* Clients come in from now on; s outlives the door. 0 or -errno. */
MUST_CHECK int monitor_door_start(struct monitor_door *m, struct session *s);
/* After session_end(): a client is told why the machine has ended. Copes with NULL. */
void monitor_door_close(struct monitor_door *m, bool guest, const char *reason);

#endif
