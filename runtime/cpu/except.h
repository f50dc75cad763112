/* Exceptions and interrupts: raised, and delivered. */
#ifndef RUNTIME_CPU_EXCEPT_H
#define RUNTIME_CPU_EXCEPT_H
#include "core/cpu.h"

int exc_raise(struct cpu *c, enum vector v); /* always GUEST_FAULT: `return exc_raise(c, V_UD);` */
int exc_raise_err(struct cpu *c, enum vector v, u32 error);
int exc_raise_db(struct cpu *c, u32 dr6); /* #DB: sets these bits (DR6_*) of DR6 */
enum dr6_bit { DR6_B0 = 1, DR6_B1 = 2, DR6_B2 = 4, DR6_B3 = 8, DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15 };
/* Delivers cpu->exc (contributory/double/triple fault rules applied) through the IDT or IVT. cpu->eip must be the
 * address to push (the faulting instruction, or the next one for traps). Returns 0, or EXC_SHUTDOWN on a triple fault.
 */
#define EXC_SHUTDOWN 2
MUST_CHECK int exc_deliver(struct cpu *c);
/* INT n, INT3, INTO, ICEBP: software; checks gate DPL (not for INT1). next: the return address. */
MUST_CHECK int exc_soft_int(struct cpu *c, u8 vector, u32 next, bool int_n);
/* External interrupt or NMI: vector already acknowledged. Returns 0 or EXC_SHUTDOWN (faults on delivery are delivered).
 */
MUST_CHECK int exc_interrupt(struct cpu *c, u8 vector);
/* The last few exceptions, oldest first, as lines of text for a diagnosis. */
void exc_describe_chain(const struct cpu *c, FILE *out);

#endif
