/* x87, MMX and SSE instructions executed by the host: on the guest's state, with a memory operand of our choosing. Code
 * for each form is made on first use, in memory that is written through one mapping and executed through another. */
#ifndef RUNTIME_HOSTEXEC_H
#define RUNTIME_HOSTEXEC_H
#include "core/cpu.h"
struct insn;
struct hostexec;

/* Returns 0, -ENOMEM or -errno of memfd_create, ftruncate or mmap. */
MUST_CHECK int hostexec_new(struct hostexec **out);
void hostexec_free(struct hostexec *h); /* copes with NULL */

/* What the instruction may use beside struct fxstate. Layout known to hostexec_x64.S. */
struct hostexec_regs {
    struct fxstate *fx;
    void *mem; /* where a memory operand is; 16-byte aligned if the instruction needs it */
    u64 flags; /* in and out: arithmetic flags */
    u64 gpr;   /* in and out: the one general-purpose register operand, whichever it is */
};
/* Runs *in, which must be a row of class x87, mmx or sse that has no implicit operand but the FPU. Never traps: pending
 * x87 exceptions and unmasked SSE exceptions are the caller's to exclude. */
void hostexec_run(struct hostexec *h, const struct insn *in, struct hostexec_regs *r);
#endif
