/* The human monitor: commands as a person types them, a line each. */
#ifndef SRC_FACE_HMP_H
#define SRC_FACE_HMP_H
#include "src/face/session.h"

/* Does what line says; what comes of it, or why nothing does, goes to out. Between runs. */
void hmp_line(struct session *s, const char *line, FILE *out);
/* The i-th command whose name begins with prefix, for completion; NULL past the last. */
const char *hmp_complete(const char *prefix, unsigned i);

#endif
