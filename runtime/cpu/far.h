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

/* The same for translated segmented code, where a transfer stays in its privilege level and all that it depends on has
 * been seen before (struct far_memo): true, with cpu->context_tag and _spread those of the target; or nothing has been
 * done. (far_again.c) */
bool far_again(struct cpu *c, u32 how, u16 sel, u32 off); /* how: HELPER_FAR_OF() */
/* Remembers how CS has been loaded, if that was as such a transfer would: cpu->context_tag and _spread say where. */
void far_remember(struct cpu *c);
void far_forget(struct cpu *c); /* all of it */

#endif
