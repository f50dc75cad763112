/* The whole state of a CPU, in and out as one piece. */
#ifndef RUNTIME_CPU_STATE_H
#define RUNTIME_CPU_STATE_H
#include "core/cpu.h"

/* Brings home what of the CPU's state lives elsewhere for speed: from here until it runs again, arch is all of it. */
void vcpu_sync(struct cpu *c);
/* Takes the state *in, as if the CPU had always had it. Returns 0; or -1 with *field naming what is impossible, and
 * nothing done. */
MUST_CHECK int cpu_set_arch(struct cpu *c, const struct cpu_arch *in, const char **field);

#endif
