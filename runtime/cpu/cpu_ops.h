/* The CPU's own state changes: reset, control registers, segment loads, far transfers, exceptions, MSRs, CPUID.
 * Same convention as mmu.h: 0 or GUEST_FAULT with cpu->exc set and nothing committed. */
#ifndef RUNTIME_CPU_OPS_H
#define RUNTIME_CPU_OPS_H
#include "core/cpu.h"
#include "runtime/mem/mmu.h"

/* ---- cpu.c: lifetime, models, CRx, MSRs ---- */
struct cpu_model {
    const char *name; /* what --cpu takes */
    u32 features;     /* bit mask over enum insn_feature: what the decoder accepts */
    u32 max_leaf;
    const struct cpuid_leaf {
        u32 leaf, eax, ebx, ecx, edx;
    } * leaves;
    unsigned nleaves;
};
const struct cpu_model *cpu_model_find(const char *name); /* NULL if there is none */
const struct cpu_model *cpu_model_at(unsigned i);         /* NULL past the last */

MUST_CHECK int cpu_new(struct cpu **out, struct bus *bus, const struct cpu_model *model); /* maps struct cpu_area;
                                                                                             -errno */
void cpu_free(struct cpu *c);
void cpu_reset(struct cpu *c);       /* power-on state: real mode, CS:IP f000:fff0 */
void cpu_update_mode(struct cpu *c); /* recomputes mode and seg_complex; call after any change of what they hold */
MUST_CHECK int cpu_write_cr(struct cpu *c, unsigned n, u32 val); /* all checks and flushes; #GP(0) */
MUST_CHECK int cpu_read_cr(struct cpu *c, unsigned n, u32 *val);
void cpu_invlpg(struct cpu *c, laddr la);
MUST_CHECK int cpu_write_dr(struct cpu *c, unsigned n, u32 val);
MUST_CHECK int cpu_read_dr(struct cpu *c, unsigned n, u32 *val);
MUST_CHECK int cpu_rdmsr(struct cpu *c, u32 msr, u64 *val);
MUST_CHECK int cpu_rdpmc(struct cpu *c, u32 counter, u64 *val); /* #GP if there is no such counter, or it is the
                                                                   system's */
MUST_CHECK int cpu_wrmsr(struct cpu *c, u32 msr, u64 val);
void cpu_cpuid(struct cpu *c, u32 leaf, u32 subleaf, u32 out[4]); /* eax ebx ecx edx */
u64 cpu_tsc(const struct cpu *c);
void cpu_set_tsc(struct cpu *c, u64 val);
/* irq_pending is what intr_line and the NMI's latch and block say: call after any change of them. */
static inline void cpu_update_irq(struct cpu *c)
{
    c->irq_pending = c->intr_line || (c->nmi_pending && !c->nmi_blocked);
}

/* ---- state.c: the whole state, in and out ---- */

/* Brings home what of the CPU's state lives elsewhere for speed: from here until it runs again, arch is all of it. */
void vcpu_sync(struct cpu *c);
/* Takes the state *in, as if the CPU had always had it. Returns 0; or -1 with *field naming what is impossible, and
 * nothing done. */
MUST_CHECK int cpu_set_arch(struct cpu *c, const struct cpu_arch *in, const char **field);

/* ---- seg.c: descriptors ---- */
MUST_CHECK int seg_load(struct cpu *c, enum segreg s, u16 sel); /* MOV/POP/LDS: protected (all checks, accessed bit),
                                                                   real and vm86 */
/* Linear address of [off, off+size) in segment s, with limit and type checks: #GP(0), or #SS(0) for SS. acc ACC_X is
 * for far targets. size 0: no check (LEA-like). */
MUST_CHECK int seg_linear(struct cpu *c, enum segreg s, u32 off, unsigned size, enum access acc, laddr *out);
MUST_CHECK int seg_lldt(struct cpu *c, u16 sel);
MUST_CHECK int seg_ltr(struct cpu *c, u16 sel);
bool seg_lar(struct cpu *c, u16 sel, u32 *out, int *fault); /* ZF; *fault GUEST_FAULT on #PF while reading the
                                                               descriptor */
bool seg_lsl(struct cpu *c, u16 sel, u32 *out, int *fault);
bool seg_verr(struct cpu *c, u16 sel, bool write, int *fault);

/* ---- far.c: control transfers that can change CS, privilege or task. eip in cpu->eip is that of the instruction; next
 * is the return address. On success cpu->eip is the target. opsize 2 or 4. ---- */
MUST_CHECK int far_jmp(struct cpu *c, u16 sel, u32 off, unsigned opsize);
MUST_CHECK int far_call(struct cpu *c, u16 sel, u32 off, u32 next, unsigned opsize);
MUST_CHECK int far_ret(struct cpu *c, unsigned opsize, u16 pop_bytes);
MUST_CHECK int far_iret(struct cpu *c, unsigned opsize);
MUST_CHECK int far_sysenter(struct cpu *c);
MUST_CHECK int far_sysexit(struct cpu *c);

/* ---- except.c ---- */
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
