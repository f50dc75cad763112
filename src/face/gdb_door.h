/* The debugger's door: gdb's protocol behind a socket, for a machine of a session. */
#ifndef SRC_FACE_GDB_DOOR_H
#define SRC_FACE_GDB_DOOR_H
#include "src/face/session.h"

struct gdb_door;
/* Listens at spec (door_open()). 0 or -errno. */
MUST_CHECK int gdb_door_open(struct gdb_door **out, const char *spec, struct vm_error *err);
/* Debuggers come in from now on; s outlives the door. 0 or -errno. */
MUST_CHECK int gdb_door_start(struct gdb_door *g, struct session *s);
/* After session_end(): a debugger that waits is told that the program has ended with this status. Copes with NULL. */
void gdb_door_close(struct gdb_door *g, int status);

#endif
