/* The reference interpreter: every instruction said plainly. Runs anything in 32-bit protected mode, and is the one
 * implementation that the translator falls back to for a single faulting, sensitive or rare instruction. */
#ifndef RUNTIME_INTERP_H
#define RUNTIME_INTERP_H
#include "core/cpu.h"
struct interp;
struct decoder;

MUST_CHECK int interp_new(struct interp **out, struct cpu *c, struct decoder *d); /* -ENOMEM or -errno of mmap */
void interp_free(struct interp *ip);

/* Why interp_run() came back. */
enum interp_stop {
    INTERP_BUDGET,     /* ran n instructions */
    INTERP_KICK,       /* cpu->kick is set */
    INTERP_HLT,        /* HLT executed: eip is behind it, cpu->halted is 1 */
    INTERP_SHUTDOWN,   /* triple fault */
    INTERP_INT_WINDOW, /* IF became 1 (or the shadow ended) with irq_pending set: deliver, then go on */
};
/* Runs at most n instructions from cpu->eip. Guest exceptions are delivered inside; interrupts are the caller's
 * business. On entry FPU state is in cpu->fx (fpu_hot 0), and again on return. */
enum interp_stop interp_run(struct interp *ip, u64 n);

/* Runs one instruction, with the delivery of what it raises, or one iteration of a repeated one, as the processor does
 * with TF set. A breakpoint of a debugger's at that instruction does not count. */
enum interp_stop interp_step(struct interp *ip);
void interp_probes_changed(struct interp *ip); /* what cpu->probes asks for is something else */
/* Probes have been told that the instruction at la begins: if it is the next that is run, they are not again. */
void interp_told(struct interp *ip, laddr la);
/* Whether a debugger's breakpoint is at the instruction that is next: it has then been met (breaks_meet). */
bool interp_breaks(struct cpu *c);

/* Executes exactly one instruction without delivering what it raises: returns 0 (committed, eip moved) or GUEST_FAULT
 * with cpu->exc set and eip at the instruction. REP instructions may come back early with eip unmoved and ECX advanced.
 */
MUST_CHECK int interp_one(struct interp *ip);

/* The mnemonic (enum insn_op) of the last instruction that interp_one() executed or tried. */
u16 interp_last_op(const struct interp *ip);

/* Code at these physical bytes has changed: drop decoded copies. len may span pages. */
void interp_invalidate(struct interp *ip, paddr pa, u64 len);
void interp_flush(struct interp *ip);  /* drop everything */
void interp_attend(struct interp *ip); /* what runs now comes back behind the present instruction if cpu->kick is set */
#endif
