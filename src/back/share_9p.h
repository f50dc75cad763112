/* A guest's session with a shared folder: 9P2000.L, as Linux's v9fs speaks it. Each message has one answer. */
#ifndef SRC_SHARE_9P_H
#define SRC_SHARE_9P_H
#include "core/sharedev.h"

struct share_session;
/* descriptors: how many it may have open. 0 or -errno: that of opening dir. */
MUST_CHECK int share_session_new(struct share_session **out, const char *dir, bool readonly, unsigned descriptors);
void share_session_free(struct share_session *s); /* copes with NULL */
/* Sets r->written. */
void share_session_serve(struct share_session *s, struct sharedev_req *r);
/* All that the guest has open is closed. */
void share_session_clear(struct share_session *s);
/* As sharedev_save() and sharedev_load(). */
void share_session_save(const struct share_session *s, struct byte_queue *to);
void share_session_load(struct share_session *s, const struct byte_queue *from);

#endif
