/* What a terminal sends, as keys: characters, control characters, and the sequences of the other keys (ECMA-48, as
 * xterm and the Linux console have them). */
#ifndef SRC_BACK_TERM_KEYS_H
#define SRC_BACK_TERM_KEYS_H
#include "core/types.h"

struct term_keys {
    void (*key)(void *arg, unsigned key, bool down); /* as src/back/keys.h has it */
    void *arg;
    u8 seq[24]; /* an escape sequence that is not complete */
    unsigned n;
};
void term_keys_feed(struct term_keys *t, const u8 *buf, size_t n);
/* Nothing has followed for a while: an Esc alone was the Esc key. */
void term_keys_pause(struct term_keys *t);

#endif
