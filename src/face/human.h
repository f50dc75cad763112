/* A person at the human monitor, on whatever terminal: what is typed comes in, what the terminal is to show goes out.
 * Between runs. */
#ifndef SRC_FACE_HUMAN_H
#define SRC_FACE_HUMAN_H
#include "src/face/session.h"

struct human;
/* put() gets what goes to the terminal. files: commands may open any; the person is told if they may not. NULL: out of
 * memory. */
struct human *human_new(bool files, void (*put)(void *arg, const char *bytes, size_t n), void *arg);
void human_free(struct human *h);                      /* copes with NULL */
void human_columns(struct human *h, unsigned columns); /* of the terminal; 0: not known */
void human_begins(struct human *h, struct session *s); /* the person turns to the monitor; s is borrowed from now on */
void human_input(struct human *h, const u8 *bytes, size_t n); /* what is typed behind that */

#endif
