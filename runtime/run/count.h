/* How many instructions the guest has done, exactly, and a stop after so many. Counting is a way of translating code
 * (struct xl_tap): while it is off, only the interpreter counts. */
#ifndef RUNTIME_COUNT_H
#define RUNTIME_COUNT_H
#include "core/cpu.h"

struct rt;

/* Beside rt_limit(): so many more, then the guest is looked at. For a guest with a speed of its own (pace.c). */
void count_step(struct rt *rt, u64 more);
/* The limit of rt_limit() has been reached; it is gone. */
bool count_limit_met(struct rt *rt);
/* The limit has been reached: nothing is to be run. */
static inline bool count_is_full(const struct cpu *c) { return cpu_tally(c)[TALLY_INSNS] >= c->insns_limit; }
/* How many of n instructions may be run at once. */
static inline u64 count_room(const struct cpu *c, u64 n)
{
    u64 room = count_is_full(c) ? 0 : c->insns_limit - cpu_tally(c)[TALLY_INSNS];
    return room < n ? room : n;
}

#endif
