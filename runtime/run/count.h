/* How many instructions the guest has done, exactly, and a stop after so many. Counting is a way of translating code
 * (struct xl_tap): while it is off, only the interpreter counts. */
#ifndef RUNTIME_COUNT_H
#define RUNTIME_COUNT_H
#include "core/cpu.h"

/* The limit has been reached: nothing is to be run. */
static inline bool count_is_full(const struct cpu *c) { return c->tally[TALLY_INSNS] >= c->insns_limit; }
/* How many of n instructions may be run at once. */
static inline u64 count_room(const struct cpu *c, u64 n)
{
    u64 room = count_is_full(c) ? 0 : c->insns_limit - c->tally[TALLY_INSNS];
    return room < n ? room : n;
}

#endif
