/* Segments and their descriptors. Those that can fault return 0, or GUEST_FAULT with cpu->exc set and nothing
 * committed. */
#ifndef RUNTIME_CPU_SEG_H
#define RUNTIME_CPU_SEG_H
#include "core/cpu.h"
#include "runtime/mem/mmu.h"

MUST_CHECK int seg_load(struct cpu *c, enum segreg s, u16 sel); /* MOV/POP/LDS: protected (all checks, accessed bit),
                                                                   real and vm86 */
/* As seg_load(), if that leaves the mode key as it is (*same). Else nothing has been loaded: where sel came from may
 * depend on the register (POP SS; MOV DS, [mem]), so that who does the instruction anew must find it as it was. */
MUST_CHECK int seg_load_in_mode(struct cpu *c, enum segreg s, u16 sel, bool *same);
/* Remembers (struct seg_memo) that sel has just been loaded into s, when c->mode was mode. */
void seg_remember(struct cpu *c, enum segreg s, u16 sel, u32 mode);
/* Linear address of [off, off+size) in segment s, with limit and type checks: #GP(0), or #SS(0) for SS. acc ACC_X is
 * for far targets. size 0: no check (LEA-like). */
MUST_CHECK int seg_linear(struct cpu *c, enum segreg s, u32 off, unsigned size, enum access acc, laddr *out);
MUST_CHECK int seg_lldt(struct cpu *c, u16 sel);
MUST_CHECK int seg_ltr(struct cpu *c, u16 sel);
bool seg_lar(struct cpu *c, u16 sel, u32 *out, int *fault); /* ZF; *fault GUEST_FAULT on #PF while reading the
                                                               descriptor */
bool seg_lsl(struct cpu *c, u16 sel, u32 *out, int *fault);
bool seg_verr(struct cpu *c, u16 sel, bool write, int *fault);

#endif
