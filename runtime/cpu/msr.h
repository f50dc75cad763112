/* Model-specific registers. Those that can fault return 0, or GUEST_FAULT (mmu.h) with cpu->exc set and nothing
 * committed. */
#ifndef RUNTIME_CPU_MSR_H
#define RUNTIME_CPU_MSR_H
#include "core/cpu.h"

MUST_CHECK int cpu_rdmsr(struct cpu *c, u32 msr, u64 *val);
MUST_CHECK int cpu_rdpmc(struct cpu *c, u32 counter, u64 *val); /* #GP if there is no such counter, or it is the
                                                                   system's */
MUST_CHECK int cpu_wrmsr(struct cpu *c, u32 msr, u64 val);
u64 cpu_tsc(const struct cpu *c);
void cpu_set_tsc(struct cpu *c, u64 val);

#endif
