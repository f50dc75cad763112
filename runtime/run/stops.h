/* Code breakpoints for translated code. Where one is or has been enabled is a stop: no block runs across it, and a
 * block that begins at one looks at cpu->stop_neg first. So changing DR7 costs nothing once an address is known. */
#ifndef RUNTIME_STOPS_H
#define RUNTIME_STOPS_H
#include "core/types.h"

struct breaks;
struct cpu;
struct xl;
struct xl_source;

#define STOPS_MAX 16u
struct stops {
    laddr la[STOPS_MAX];
    u32 n, next;
};

/* DR0 to DR3 or DR7 have changed. */
void stops_update(struct stops *s, struct cpu *c, struct xl *xl);
/* Tells a source of the stops in its page, and of a debugger's breakpoints: blocks end before those too, but none
 * begins at one, so that whatever leads there comes to the dispatcher. */
void stops_note(const struct stops *s, const struct breaks *b, struct xl_source *src);
#endif
