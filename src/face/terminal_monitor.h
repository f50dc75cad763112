/* The human monitor on the machine's own terminal, between a Ctrl-A c and the next. */
#ifndef SRC_FACE_TERMINAL_MONITOR_H
#define SRC_FACE_TERMINAL_MONITOR_H
#include "src/face/session.h"

struct terminal_monitor;
/* NULL: out of memory. files: its commands may open any; it tells whoever opens it if they may not. */
struct terminal_monitor *terminal_monitor_new(bool files);
void terminal_monitor_talk(void *monitor, enum vm_talk what, const u8 *bytes, size_t n); /* for vm_config.talk */
/* From now on it is heard; s outlives session_end(). */
void terminal_monitor_start(struct terminal_monitor *m, struct session *s);
void terminal_monitor_free(struct terminal_monitor *m); /* once the machine is gone; copes with NULL */

#endif
