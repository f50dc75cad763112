/* Owns the way of a CPU's state in and out as one piece: bringing home what lives elsewhere for speed, and taking in a
 * state that somebody else has made, which is checked as untrusted.
 *
 *   I1  After vcpu_sync(), arch has all of the CPU's state, and equal states are equal bytes.
 *   I2  A state that cpu_set_arch() has taken cannot harm us, whatever its guest then does with it. */
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/msr.h"
#include "runtime/cpu/state.h"
#include "runtime/mem/mmu.h"
#include "runtime/cpu/cpu_priv.h"

#include <string.h>

#define MXCSR_DEFINED 0xffffu

/* What is not the guest's, or nothing at all, has one value. */
static void make_canonical(struct cpu_arch *a)
{
    a->aflags &= F_ARITH;
    if (!a->exc.valid) memset(&a->exc, 0, sizeof a->exc);
    memset(a->fx.rest, 0, sizeof a->fx.rest); /* a 64-bit FXSAVE leaves XMM8-15 of the host there */
    a->fx.mxcsr_mask = MXCSR_DEFINED;
    a->fx.rsvd2 = a->fx.rsvd3 = 0;
    a->fx.fop &= 0x7ff;
    a->dr[4] = a->dr[5] = 0;
    a->dr[6] = dr6_of(a->dr[6]);
    a->dr[7] = dr7_of(a->dr[7]);
}

void vcpu_sync(struct cpu *c)
{
    BUG_ON(c->fpu_hot); /* only while translated code runs */
    cpu_fpu_home(c);
    make_canonical(&c->arch);
    c->tsc = cpu_tsc(c);
}

/* Names the first field whose value is impossible, or NULL. */
static const char *wrong_field(const struct cpu *c, const struct cpu_arch *a)
{
    u64 physical = (1ull << MAXPHYADDR) - 1;
    if (a->df != 1 && a->df != -1) return "df";
    if (a->eflags_sys & ~c->eflags_known) return "eflags_sys";
    if (a->iflag > 1) return "iflag";
    if (a->cpl > 3) return "cpl";
    if (a->cpl != 3 && a->eflags_sys & F_VM) return "cpl";
    if (a->cpl && !(a->cr0 & CR0_PE)) return "cpl";
    if (a->intr_shadow > SHADOW_LAST) return "intr_shadow";
    if (a->halted > 1) return "halted";
    if (a->ferr > 1) return "ferr";
    if (a->ignne > 1) return "ignne";
    if (a->fx.mxcsr & ~MXCSR_DEFINED) return "fx.mxcsr";
    if (cpu_cr0_bad(a->cr0)) return "cr0";
    if (a->cr4 & ~cpu_cr4_known(c->model)) return "cr4";
    if (a->cr0 & CR0_PG && a->cr4 & CR4_PAE)
        for (unsigned i = 0; i < 4; i++)
            if (a->pdpte[i] & 1 && a->pdpte[i] & cpu_pdpte_reserved()) return "pdpte";
    if (a->apic_base & ~physical) return "apic_base";
    if (a->exc.valid && a->exc.vector > 31) return "exc.vector";
    if (a->reserved || a->exc.pad) return "reserved";
    return NULL;
}

int cpu_set_arch(struct cpu *c, const struct cpu_arch *in, const char **field)
{
    *field = wrong_field(c, in);
    if (*field) return -1;
    cpu_fpu_home(c);
    u64 apic_base = c->apic_base, tsc = c->tsc;
    c->arch = *in;
    make_canonical(&c->arch);
    c->fpu_hot = c->sse_hot = 0;
    c->fx_version++;
    if (in->tsc != tsc) cpu_set_tsc(c, in->tsc); /* one that has been looked at and given back has gone on counting */
    if (c->apic_base != apic_base && c->apic_base_hook) c->apic_base_hook(c->apic_base_arg, c->apic_base);
    cpu_update_irq(c);
    cpu_update_mode(c);
    tlb_flush_all(c);
    return 0;
}
