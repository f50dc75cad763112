/* A CPU's lifetime, its control and debug registers. Those that can fault return 0, or GUEST_FAULT (mmu.h) with
 * cpu->exc set and nothing committed. */
#ifndef RUNTIME_CPU_CPU_H
#define RUNTIME_CPU_CPU_H
#include "core/cpu.h"

struct cpu_model;

MUST_CHECK int cpu_new(struct cpu **out, struct bus *bus, const struct cpu_model *model); /* maps struct cpu_area;
                                                                                             -errno */
void cpu_free(struct cpu *c);
void cpu_reset(struct cpu *c);       /* power-on state: real mode, CS:IP f000:fff0 */
void cpu_update_mode(struct cpu *c); /* recomputes mode and seg_complex; call after any change of what they hold */
MUST_CHECK int cpu_write_cr(struct cpu *c, unsigned n, u32 val); /* all checks and flushes; #GP(0) */
MUST_CHECK int cpu_read_cr(struct cpu *c, unsigned n, u32 *val);
/* Reads the four PDPTEs that cr3 points to; #GP(0) if one has a reserved bit set. */
MUST_CHECK int cpu_read_pdptes(struct cpu *c, u32 cr3, u64 out[4]);

bool cpu_cr0_bad(u32 cr0);                    /* combinations that MOV CR0 answers with #GP. */
u32 cpu_cr4_known(const struct cpu_model *m); /* the bits of CR4 that the model has. */
u64 cpu_pdpte_reserved(void);                 /* bits that must be 0 in a present PDPTE. */
void cpu_invlpg(struct cpu *c, laddr la);
MUST_CHECK int cpu_write_dr(struct cpu *c, unsigned n, u32 val);
MUST_CHECK int cpu_read_dr(struct cpu *c, unsigned n, u32 *val);
/* Drives FERR# (cpu_arch.ferr). */
void cpu_set_ferr(struct cpu *c, bool level);
/* irq_pending is what intr_line and the NMI's latch and block say: call after any change of them. */
static inline void cpu_update_irq(struct cpu *c)
{
    c->irq_pending = c->intr_line || (c->nmi_pending && !c->nmi_blocked);
}

#endif
