/* What a monitor has done by a machine beside running it, in whatever language it is asked. Between runs. */
#ifndef SRC_FACE_SESSION_ACTIONS_H
#define SRC_FACE_SESSION_ACTIONS_H
#include "src/face/session.h"

/* Memory to a file, which is written over; physical, or as the page tables have it. 0 or -errno. */
MUST_CHECK int action_memory(struct vm *vm, bool physical, u64 address, u64 bytes, const char *path,
                             struct vm_error *err);
/* The reset button. */
MUST_CHECK int action_reset(struct session *s, struct vm_error *err);
/* A drive by its name, as action_drive_name() gives it. -1: there is no such. */
int action_drive(struct vm *vm, const char *name);
/* ide0-hd0, ide1-cd0, floppy0, virtio0: where drive i is; false: there is no such drive. */
bool action_drive_name(struct vm *vm, unsigned i, char name[24], struct vm_drive *d);
/* A balloon's statistic by its number (enum vm_balloon_stat): QEMU's words. */
const char *action_balloon_stat(unsigned i);
const char *action_status(const struct session *s); /* running, paused, debug, guest-panicked: QMP's words */

#endif
