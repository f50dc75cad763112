/* QMP, the protocol by which programs drive QEMU: JSON objects come in and go out. Knows no socket. */
#ifndef SRC_FACE_QMP_H
#define SRC_FACE_QMP_H
#include "src/face/session.h"

struct qmp;

/* What may be sent before it is asked for. */
enum qmp_event { QMP_STOP, QMP_RESUME, QMP_RESET, QMP_SHUTDOWN, QMP_POWERDOWN, QMP_DISK };

/* One for each client, who is greeted at once. s and what send() needs outlive it. NULL: out of memory. */
struct qmp *qmp_new(struct session *s, void (*send)(void *arg, const void *bytes, size_t n), void *arg);
void qmp_free(struct qmp *q); /* copes with NULL */
/* What has come from the client. Between runs. */
void qmp_input(struct qmp *q, const u8 *bytes, size_t n);
/* Told to a client that has made itself known. guest and reason (QMP's word): of RESET and SHUTDOWN. */
/* BLOCK_IO_ERROR. */
void qmp_disk_failed(struct qmp *q, const struct session_failure *f);
void qmp_event(struct qmp *q, enum qmp_event event, bool guest, const char *reason);

#endif
