/* A line that a person types and edits on a terminal: bytes come in, bytes go out. Knows no terminal. */
#ifndef SRC_FACE_LINE_EDIT_H
#define SRC_FACE_LINE_EDIT_H
#include "core/types.h"

#define LINE_MAX_BYTES 1000u /* in a line */
#define LINE_HISTORY 64u     /* lines that are kept */

struct line_edit;
struct line_words;
struct line_edit_host {
    void (*put)(void *arg, const char *bytes, size_t n); /* to the terminal: ASCII, UTF-8, and ECMA-48's sequences */
    void (*done)(void *arg, const char *line);           /* Enter; the cursor stands at the beginning of the next row */
    /* Tab: is to call line_words_add() with all that the last word of `before` may become. */
    void (*complete)(void *arg, const char *before, struct line_words *words);
    void *arg;
};

/* prompt: ASCII, static. NULL: out of memory. */
struct line_edit *line_edit_new(const char *prompt, const struct line_edit_host *host);
void line_edit_free(struct line_edit *e);                      /* copes with NULL */
void line_edit_columns(struct line_edit *e, unsigned columns); /* of the terminal; 80 if that is never said */
void line_edit_show(struct line_edit *e);                      /* prompt and line, where the cursor stands */
void line_edit_input(struct line_edit *e, const u8 *bytes, size_t n);
/* A word that the one before the cursor may be completed to. What ends in a slash goes on. */
void line_words_add(struct line_words *words, const char *word);

#endif
