/* The human monitor: commands as a person types them, a line each. */
#ifndef SRC_FACE_HMP_H
#define SRC_FACE_HMP_H
#include "src/face/session.h"

/* Does what line says; what comes of it, or why nothing does, goes to out. Between runs. */
void hmp_line(struct session *s, const char *line, FILE *out);
/* Offers all that the last word of `before`, the line up to the cursor, may become: commands, or of a command's
 * arguments what is known. Between runs. */
void hmp_complete(struct session *s, const char *before, void (*offer)(void *arg, const char *word), void *arg);

#endif
