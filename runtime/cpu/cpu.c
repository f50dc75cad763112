/* Owns one CPU's lifetime and its control and debug registers. Segment registers: seg.c. MSRs: msr.c. Models:
 * cpu_models.c.
 *
 *   I1  struct cpu is in one mapping with the counts in front of it and the soft-TLB tables behind.   [cpu_new,
 *       cpu_free]
 *   I2  mode and seg_complex say what CR0, EFLAGS, DR7, CPL and the segment registers say.           [cpu_update_mode]
 *   I3  With CR0.PG and CR4.PAE set, pdpte[] is valid and has no reserved bit set.                   [cpu_read_pdptes]
 *   I4  A change that the architecture says invalidates TLB entries has called a tlb_flush_*.
 *
 * SDM vol. 3, 2.5 (control registers), 4.4.1 (PDPTE registers), 4.10.4 (invalidation), 9.1.1 (reset), 17.2 (debug
 * registers). */
#define _GNU_SOURCE
#include "runtime/cpu/probe.h"
#include "runtime/cpu/msr.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/cpu_priv.h"
#include "runtime/cpu/cpu_trace.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/watch.h"
#include "runtime/run/rt.h"
#include "translator/front/insn.h"

#include <errno.h>
#include <sys/mman.h>

/* ---- lifetime ---- */

/* All but the tables' tails: where the host keeps account of what could be written (strict overcommit), half a gigabyte
 * would be too much to ask for. */
static int make_writable(struct cpu *c)
{
    int failed = mprotect(cpu_area(c), sizeof(struct cpu_area), PROT_READ | PROT_WRITE);
    for (enum tlb_kind k = 0; k < TLB_KINDS && !failed; k++)
        failed = mprotect(cpu_tlb(c, k), (u64)TLB_PAGES * sizeof(u64), PROT_READ | PROT_WRITE);
    return failed;
}

int cpu_new(struct cpu **out, struct bus *bus, const struct cpu_model *model)
{
    /* Address space for the most part: the tables are touched where the guest touches memory, and their tails never. */
    void *m = mmap(NULL, CPU_MAPPING, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED) return -errno;
    struct cpu *c = &((struct cpu_area *)m)->cpu;
    if (make_writable(c)) {
        int failed = -errno;
        munmap(m, CPU_MAPPING);
        return failed;
    }
    c->bus = bus;
    c->ram = bus_ram_ptr(bus, 0);
    c->model = model;
    c->eflags_known = model_eflags(model);
    c->insns_limit = INSNS_NO_LIMIT;
    int err = tlb_init(c);
    if (err) {
        cpu_free(c);
        return err;
    }
    cpu_reset(c);
    *out = c;
    return 0;
}

void cpu_free(struct cpu *c)
{
    if (!c) return;
    tlb_fini(c);
    munmap(cpu_area(c), CPU_MAPPING);
}

#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

/* A 386 has but these (80386 Programmer's Reference Manual, 4.1.3). */
#define CR0_KNOWN_386 (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_PG)

static u32 cr0_known(const struct cpu_model *m) { return m->features & 1u << FEAT_I486 ? CR0_KNOWN : CR0_KNOWN_386; }

static void reset_segments(struct cpu *c)
{
    const u32 data = SEG_P | SEG_S | SEG_W | SEG_A;
    for (unsigned i = 0; i < S_COUNT; i++)
        c->seg[i] = (struct seg){ .sel = 0, .base = 0, .limit = 0xffff, .attr = data };
    c->seg[S_CS].sel = 0xf000;
    c->seg[S_CS].base = 0xffff0000;
    c->ldtr = (struct seg){ .limit = 0xffff, .attr = SEG_P | ST_LDT };
    c->tr = (struct seg){ .limit = 0xffff, .attr = SEG_P | ST_TSS32_BUSY };
    c->gdtr = c->idtr = (struct table_reg){ .base = 0, .limit = 0xffff };
}

/* x87: as after power-on, not FINIT (SDM vol. 3, table 9-1). */
static void reset_fpu(struct cpu *c)
{
    u64 *p = (u64 *)&c->fx;
    for (unsigned i = 0; i < sizeof c->fx / 8; i++) p[i] = 0;
    c->fx.fcw = 0x40;
    c->fx.ftw = 0xff;
    c->fx.mxcsr = 0x1f80;
    c->fx.mxcsr_mask = 0xffff;
    c->fpu_hot = c->sse_hot = 0;
    c->fpu_away = false;
    c->fx_version++;
}

static void reset_msrs(struct cpu *c)
{
    c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
    c->efer = 0;
    c->apic_base = 0xfee00000u | APIC_BASE_EN | 1u << 8 /* bootstrap processor */;
    c->pat = 0x0007040600070406ull;
    c->misc_enable = 1 /* fast strings */ | 1ull << 11 | 1ull << 12 /* neither BTS nor PEBS */;
    c->tsc = c->tsc_offset = 0; /* NOT-HW: a reset TSC is 0; this way the guest may read the host's without a trap */
    c->mtrr_def_type = 0;
    for (unsigned i = 0; i < ARRAY_LEN(c->mtrr_fixed); i++) c->mtrr_fixed[i] = 0;
    for (unsigned i = 0; i < ARRAY_LEN(c->mtrr_var); i++) c->mtrr_var[i] = 0;
    for (unsigned i = 0; i < ARRAY_LEN(c->mc_ctl); i++) c->mc_ctl[i] = 0;
    for (unsigned i = 0; i < K7_COUNTERS; i++) c->k7_evtsel[i] = c->k7_perfctr[i] = 0;
    c->mcg_status = 0;
    c->debugctl = 0;
}

void cpu_set_ferr(struct cpu *c, bool level)
{
    if (c->ferr == level) return;
    c->ferr = level;
    if (c->ferr_hook) c->ferr_hook(c->ferr_arg, level);
}

void cpu_reset(struct cpu *c)
{
    for (unsigned i = 0; i < 8; i++) c->gpr[i] = c->dr[i] = 0;
    c->gpr[G_EDX] = model_signature(c->model);
    c->eip = 0xfff0;
    cpu_set_eflags(c, 0);
    c->cpl = 0;
    c->intr_shadow = c->debug_pending = c->halted = 0;
    c->cr0 = (CR0_CD | CR0_NW | CR0_ET) & cr0_known(c->model);
    c->cr2 = c->cr3 = c->cr4 = 0;
    for (unsigned i = 0; i < 4; i++) c->pdpte[i] = 0;
    c->dr[6] = 0xffff0ff0;
    c->dr[7] = 0x400;
    reset_segments(c);
    reset_fpu(c);
    reset_msrs(c);
    c->exc.valid = false;
    c->exc_count = 0;
    c->nmi_pending = c->nmi_blocked = false;
    cpu_set_ferr(c, false);
    cpu_update_irq(c); /* the controllers' wire is not ours to reset */
    cpu_update_mode(c);
    tlb_flush_all(c);
}

void cpu_update_mode(struct cpu *c)
{
    c->mode = 0;
    for (unsigned i = 0; i < S_COUNT; i++) seg_refresh(c, (enum segreg)i);
    mode_refresh(c);
}

/* ---- control registers ---- */

#define PDPTE_RESERVED (0x1e6ull | ~((1ull << MAXPHYADDR) - 1)) /* of a present one */

u64 cpu_pdpte_reserved(void) { return PDPTE_RESERVED; }

int cpu_read_pdptes(struct cpu *c, u32 cr3, u64 out[4])
{
    for (unsigned i = 0; i < 4; i++) {
        out[i] = bus_phys_read(c->bus, (cr3 & ~31u) + 8 * i, 8);
        if (out[i] & 1 && out[i] & PDPTE_RESERVED) return guest_fault(c, V_GP, 0);
    }
    return 0;
}

static void commit_pdptes(struct cpu *c, const u64 v[4])
{
    for (unsigned i = 0; i < 4; i++) c->pdpte[i] = v[i];
}

bool cpu_cr0_bad(u32 cr0) { return (cr0 & CR0_PG && !(cr0 & CR0_PE)) || (cr0 & CR0_NW && !(cr0 & CR0_CD)); }

static int write_cr0(struct cpu *c, u32 val)
{
    const u32 reloads = CR0_PG | CR0_CD | CR0_NW; /* SDM vol. 3, 4.4.1 */
    u64 pdpte[4];
    /* Writes to reserved bits are ignored. */
    u32 cr0 = (val & cr0_known(c->model)) | CR0_ET, changed = cr0 ^ c->cr0;
    if (cpu_cr0_bad(cr0)) return guest_fault(c, V_GP, 0);
    if (changed & reloads && cr0 & CR0_PG && c->cr4 & CR4_PAE) {
        if (cpu_read_pdptes(c, c->cr3, pdpte)) return GUEST_FAULT;
        commit_pdptes(c, pdpte);
    }
    c->cr0 = cr0;
    if (changed & CR0_PG) tlb_flush_all(c);
    if (changed & cr0 & CR0_WP) tlb_write_protect(c);
    if (changed & CR0_PE) cpu_update_mode(c); /* real mode sees segments differently */
    else if (changed & (CR0_PG | CR0_AM)) mode_refresh(c);
    return 0;
}

static int write_cr3(struct cpu *c, u32 val)
{
    u64 pdpte[4];
    if (c->cr0 & CR0_PG && c->cr4 & CR4_PAE) {
        if (cpu_read_pdptes(c, val, pdpte)) return GUEST_FAULT;
        commit_pdptes(c, pdpte);
    }
    c->cr3 = val;
    c->ctr.cr3_writes++;
    tlb_flush_nonglobal(c);
    probe_tell(c, EV_CR3, val, 4, val, 0);
    return 0;
}

/* The bits of CR4 that the model has. */
u32 cpu_cr4_known(const struct cpu_model *m)
{
    static const struct {
        u32 edx, cr4;
    } bits[] = {
        { CPUID_VME, CR4_VME | CR4_PVI }, { CPUID_TSC, CR4_TSD },     { CPUID_DE, CR4_DE },
        { CPUID_PSE, CR4_PSE },           { CPUID_PAE, CR4_PAE },     { CPUID_MCE, CR4_MCE },
        { CPUID_PGE, CR4_PGE },           { CPUID_FXSR, CR4_OSFXSR }, { CPUID_SSE, CR4_OSXMMEXCPT },
    };
    u32 edx = model_edx(m), known = m->features & 1u << FEAT_PMC ? CR4_PCE : 0;
    for (unsigned i = 0; i < ARRAY_LEN(bits); i++)
        if (edx & bits[i].edx) known |= bits[i].cr4;
    return known;
}

static int write_cr4(struct cpu *c, u32 val)
{
    const u32 paging = CR4_PAE | CR4_PGE | CR4_PSE;
    u64 pdpte[4];
    u32 changed = val ^ c->cr4;
    if (val & ~cpu_cr4_known(c->model)) return guest_fault(c, V_GP, 0);
    if (c->cr0 & CR0_PG && val & CR4_PAE && changed & paging) {
        if (cpu_read_pdptes(c, c->cr3, pdpte)) return GUEST_FAULT;
        commit_pdptes(c, pdpte);
    }
    c->cr4 = val;
    if (changed & paging) tlb_flush_all(c);
    if (changed & (CR4_VME | CR4_PVI)) mode_refresh(c);
    return 0;
}

static bool has_cr4(const struct cpu *c) { return c->model->features & 1u << FEAT_CPUID; }

int cpu_write_cr(struct cpu *c, unsigned n, u32 val)
{
    CPU_TRACE(c, mmu, "cr%u = %08x at %08x\n", n, val, c->eip);
    switch (n) {
    case 0: return write_cr0(c, val);
    case 2: c->cr2 = val; return 0;
    case 3: return write_cr3(c, val);
    case 4: return has_cr4(c) ? write_cr4(c, val) : exc_raise(c, V_UD);
    default: return exc_raise(c, V_UD);
    }
}

int cpu_read_cr(struct cpu *c, unsigned n, u32 *val)
{
    switch (n) {
    case 0: *val = c->cr0; return 0;
    case 2: *val = c->cr2; return 0;
    case 3: *val = c->cr3; return 0;
    case 4:
        if (!has_cr4(c)) return exc_raise(c, V_UD);
        *val = c->cr4;
        return 0;
    default: return exc_raise(c, V_UD);
    }
}

void cpu_invlpg(struct cpu *c, laddr la)
{
    CPU_TRACE(c, mmu, "invlpg %08x at %08x\n", la, c->eip);
    tlb_flush_page(c, la);
    c->ctr.tlb_invlpg++;
}

/* ---- debug registers ---- */

/* DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE is set. Returns 8 for #UD. */
static unsigned dr_number(const struct cpu *c, unsigned n)
{
    if (n != 4 && n != 5) return n & 7;
    return c->cr4 & CR4_DE ? 8 : n + 2;
}

int cpu_write_dr(struct cpu *c, unsigned n, u32 val)
{
    n = dr_number(c, n);
    if (n == 8) return exc_raise(c, V_UD);
    c->dr[n] = n == 6 ? dr6_of(val) : n == 7 ? dr7_of(val) : val;
    if (n == 7) mode_refresh(c);
    if (n == 7 || c->mode & MK_ARMED) {
        watch_update(c);
        coherence_debug(bus_coherence(c->bus), c);
    }
    return 0;
}

int cpu_read_dr(struct cpu *c, unsigned n, u32 *val)
{
    n = dr_number(c, n);
    if (n == 8) return exc_raise(c, V_UD);
    *val = c->dr[n];
    return 0;
}
