/* Control transfers that can change CS, privilege or task. eip in cpu->eip is that of the instruction; next is the
 * return address. On success cpu->eip is the target. opsize 2 or 4. Return 0, or GUEST_FAULT (mmu.h) with cpu->exc set
 * and nothing committed. */
#ifndef RUNTIME_CPU_FAR_H
#define RUNTIME_CPU_FAR_H
#include "core/cpu.h"

MUST_CHECK int far_jmp(struct cpu *c, u16 sel, u32 off, unsigned opsize);
MUST_CHECK int far_call(struct cpu *c, u16 sel, u32 off, u32 next, unsigned opsize);
MUST_CHECK int far_ret(struct cpu *c, unsigned opsize, u16 pop_bytes);
MUST_CHECK int far_iret(struct cpu *c, unsigned opsize);
MUST_CHECK int far_sysenter(struct cpu *c);
MUST_CHECK int far_sysexit(struct cpu *c);

#endif
