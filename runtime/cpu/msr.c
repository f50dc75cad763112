/* Owns the model-specific registers: which of them a CPU model has, what they hold, and which values are #GP(0). SDM
 * vol. 4, tables 2-2 (architectural), 2-4 (Atom), 2-20 (P6, Pentium M), 2-56 (Pentium 4), 2-63 (Pentium); AMD 22007,
 * appendix A, for the K7; AMD 21828 for the K6. Performance
 * monitoring of Intel's models is version 0 (CPUID leaf 0AH says so), so its registers do not exist; a K7's do. NOT-HW:
 * they count nothing.
 *
 *   I1  An MSR that the model's CPUID does not announce, and any that is not listed here, is #GP(0).
 *   I2  A WRMSR that raises #GP has changed nothing. */
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/msr.h"
#include "core/clock.h"
#include "runtime/cpu/cpu_priv.h"
#include "runtime/cpu/cpu_trace.h"

#include <x86intrin.h>

/* clang-format off */
enum msr {
    MSR_P5_MC_ADDR = 0x00, MSR_P5_MC_TYPE = 0x01, MSR_TR12 = 0x0e, MSR_TSC = 0x10,
    MSR_P5_CESR = 0x11, MSR_P5_CTR0 = 0x12, MSR_P5_CTR1 = 0x13, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b,
    MSR_EBL_CR_POWERON = 0x2a,
    MSR_BIOS_UPDT_TRIG = 0x79, MSR_BIOS_SIGN_ID = 0x8b, MSR_FSB_FREQ = 0xcd, MSR_MTRRCAP = 0xfe,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9, MSR_MTRR_VAR = 0x200, MSR_MTRR_VAR_LAST = 0x20f, MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX16K_2 = 0x259, MSR_MTRR_FIX4K = 0x268, MSR_MTRR_FIX4K_LAST = 0x26f, MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_MC0 = 0x400, MSR_EFER = 0xc0000080, MSR_K6_WHCR = 0xc0000082, MSR_K7_EVTSEL = 0xc0010000,
    MSR_K7_PERFCTR = 0xc0010004, MSR_K7_HWCR = 0xc0010015, MSR_K7_CLK_CTL = 0xc001001b,
};
/* clang-format on */

#define MTRR_CAP 0x508u /* write combining, fixed ranges, 8 variable ones */
#define MC_BANKS ARRAY_LEN(((struct cpu *)0)->mc_ctl)
#define PHYS_MASK ((1ull << MAXPHYADDR) - 1)
/* IA32_MISC_ENABLE as the N270 has it (SDM vol. 4, table 2-4). Bit 18 enables MONITOR, which the model does not have.
 * What thermal control, SpeedStep and the bus would do is kept, without effect. */
#define MISC_FERR_MULTIPLEX (1ull << 10)
#define MISC_SPEEDSTEP (1ull << 16)
#define MISC_SPEEDSTEP_LOCK (1ull << 20) /* until reset */
#define MISC_CORE                                                                                            \
    (1ull << 3 /* automatic thermal control */ | MISC_FERR_MULTIPLEX | 1ull << 13 /* TM2 */ | MISC_SPEEDSTEP \
     | MISC_LIMIT_CPUID | MISC_XD_DISABLE)
#define MISC_ATOM (MISC_CORE | 1ull << 0 /* fast strings */ | MISC_SPEEDSTEP_LOCK | 1ull << 23 /* xTPR disable */)
#define MISC_READ_ONLY (1ull << 7 | 1ull << 11 /* no BTS */ | 1ull << 12 /* no PEBS */)
/* High enough for guests not to look for errata that were mended by microcode (Atom AAE44). */
#define MICROCODE_REVISION (0x218ull << 32)

/* The model's kind is one of these. */
#define KIND(kind) (1u << MSRS_##kind)
static bool kind(const struct cpu *c, u32 set) { return set >> c->model->msrs & 1; }
static bool intel_p6(const struct cpu *c) { return kind(c, KIND(P6) | KIND(PENTIUM4) | KIND(CORE)); }
static bool has(const struct cpu *c, u32 edx_bit) { return model_edx(c->model) & edx_bit; }

u64 cpu_tsc(const struct cpu *cpu)
{
    struct cpu *c = (struct cpu *)cpu; /* reading the clock may mean to look at it */
    u64 host = __rdtsc();
    if (host >= c->tsc_until && c->clock) host = clock_tsc(c->clock, &c->tsc_until);
    return host + c->tsc_offset;
}

void cpu_set_tsc(struct cpu *c, u64 val) { c->tsc_offset += val - cpu_tsc(c); }

/* ---- memory types ---- */

static bool type_ok(u64 type)
{
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
} /* UC WC WT WP WB */

static bool types_ok(u64 v, bool pat)
{
    for (unsigned i = 0; i < 8; i++, v >>= 8)
        if (!type_ok(v & 0xff) && !(pat && (v & 0xff) == 7)) return false; /* UC- */
    return true;
}

static bool mtrr_var_ok(u32 msr, u64 v)
{
    if (v & ~PHYS_MASK) return false;
    return msr & 1 ? !(v & 0x7ff) : !(v & 0xf00) && type_ok(v & 0xff);
}

/* Where a fixed-range MTRR is kept, or -1. */
static int mtrr_fixed_index(u32 msr)
{
    if (msr == MSR_MTRR_FIX64K) return 0;
    if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K_2) return 1 + (int)(msr - MSR_MTRR_FIX16K);
    if (msr >= MSR_MTRR_FIX4K && msr <= MSR_MTRR_FIX4K_LAST) return 3 + (int)(msr - MSR_MTRR_FIX4K);
    return -1;
}

static bool mtrr_read(const struct cpu *c, u32 msr, u64 *v)
{
    int fixed = mtrr_fixed_index(msr);
    if (!has(c, CPUID_MTRR)) return false;
    if (fixed >= 0) *v = c->mtrr_fixed[fixed];
    else if (msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_LAST) *v = c->mtrr_var[msr - MSR_MTRR_VAR];
    else if (msr == MSR_MTRR_DEF_TYPE) *v = c->mtrr_def_type;
    else if (msr == MSR_MTRRCAP) *v = MTRR_CAP;
    else return false;
    return true;
}

static bool mtrr_write(struct cpu *c, u32 msr, u64 v)
{
    int fixed = mtrr_fixed_index(msr);
    if (!has(c, CPUID_MTRR)) return false;
    if (fixed >= 0) {
        if (!types_ok(v, false)) return false;
        c->mtrr_fixed[fixed] = v;
    } else if (msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_LAST) {
        if (!mtrr_var_ok(msr, v)) return false;
        c->mtrr_var[msr - MSR_MTRR_VAR] = v;
    } else if (msr == MSR_MTRR_DEF_TYPE) {
        if (v & ~0xcffull || !type_ok(v & 0xff)) return false;
        c->mtrr_def_type = v;
    } else return false;
    return true;
}

/* ---- machine check: five banks that never report anything ---- */

static bool mc_read(const struct cpu *c, u32 msr, u64 *v)
{
    u32 bank = (msr - MSR_MC0) / 4;
    if (!has(c, CPUID_MCA) || msr < MSR_MC0 || bank >= MC_BANKS || msr % 4 == 3 /* MISC */) return false;
    *v = msr % 4 == 0 ? c->mc_ctl[bank] : 0;
    return true;
}

/* STATUS and ADDR can only be cleared. */
static bool mc_write(struct cpu *c, u32 msr, u64 v)
{
    u64 old;
    if (!mc_read(c, msr, &old)) return false;
    if (msr % 4 == 0) c->mc_ctl[(msr - MSR_MC0) / 4] = v;
    return msr % 4 == 0 || v == 0;
}

/* ---- the K7's performance counters ---- */

#define K7_COUNTER_MASK ((1ull << 48) - 1)

static u64 *k7_counter(struct cpu *c, u32 msr)
{
    u32 i = msr - MSR_K7_EVTSEL;
    if (!kind(c, KIND(K7)) || i >= 2 * K7_COUNTERS) return NULL;
    return i < K7_COUNTERS ? &c->k7_evtsel[i] : &c->k7_perfctr[i - K7_COUNTERS];
}

static bool k7_read(const struct cpu *c, u32 msr, u64 *v)
{
    const u64 *p = k7_counter((struct cpu *)c, msr);
    if (p) *v = *p;
    return p;
}

static bool k7_write(struct cpu *c, u32 msr, u64 v)
{
    u64 *p = k7_counter(c, msr);
    if (p) *p = msr < MSR_K7_PERFCTR ? (u32)v : v & K7_COUNTER_MASK;
    return p;
}

int cpu_rdpmc(struct cpu *c, u32 counter, u64 *v)
{
    bool allowed = c->cpl == 0 || !(c->cr0 & CR0_PE) || c->cr4 & CR4_PCE;
    if (!allowed || counter >= K7_COUNTERS || !k7_read(c, MSR_K7_PERFCTR + counter, v)) return guest_fault(c, V_GP, 0);
    return 0;
}

/* ---- RDMSR ---- */

static bool msr_read(const struct cpu *c, u32 msr, u64 *v)
{
    switch (msr) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE: *v = 0; return has(c, CPUID_MCE);
    case MSR_TSC: *v = cpu_tsc(c); return has(c, CPUID_TSC);
    case MSR_TR12:
    case MSR_K6_WHCR: *v = 0; return kind(c, msr == MSR_TR12 ? KIND(P5) | KIND(K6) : KIND(K6));
    case MSR_P5_CESR:
    case MSR_P5_CTR0:
    case MSR_P5_CTR1: *v = 0; return kind(c, KIND(P5)); /* count nothing. NOT-HW */
    case MSR_APIC_BASE: *v = c->apic_base; return has(c, CPUID_APIC) && (intel_p6(c) || kind(c, KIND(K7)));
    case MSR_PLATFORM_ID: *v = 1ull << 50; return intel_p6(c);
    case MSR_EBL_CR_POWERON: *v = 0; return intel_p6(c);
    case MSR_BIOS_SIGN_ID: *v = MICROCODE_REVISION; return intel_p6(c) || kind(c, KIND(K7));
    case MSR_FSB_FREQ: *v = 1 /* 133 MHz */; return kind(c, KIND(CORE));
    case MSR_SYSENTER_CS: *v = c->sysenter_cs; return has(c, CPUID_SEP);
    case MSR_SYSENTER_ESP: *v = c->sysenter_esp; return has(c, CPUID_SEP);
    case MSR_SYSENTER_EIP: *v = c->sysenter_eip; return has(c, CPUID_SEP);
    case MSR_MCG_CAP: *v = MC_BANKS; return has(c, CPUID_MCA);
    case MSR_MCG_STATUS: *v = c->mcg_status; return has(c, CPUID_MCA);
    case MSR_MISC_ENABLE: *v = c->misc_enable; return kind(c, KIND(PENTIUM4) | KIND(CORE));
    case MSR_DEBUGCTL: *v = c->debugctl; return intel_p6(c);
    case MSR_PAT: *v = c->pat; return has(c, CPUID_PAT);
    case MSR_EFER: *v = c->efer; return model_has_nx(c->model) && !(c->misc_enable & MISC_XD_DISABLE);
    case MSR_K7_HWCR: *v = 0; return kind(c, KIND(K7));
    case MSR_K7_CLK_CTL: *v = 0x20000000; return kind(c, KIND(K7));
    default: return mtrr_read(c, msr, v) || mc_read(c, msr, v) || k7_read(c, msr, v);
    }
}

int cpu_rdmsr(struct cpu *c, u32 msr, u64 *val)
{
    u64 v = 0;
    bool ok = msr_read(c, msr, &v);
    CPU_TRACE(c, msr, "rdmsr %08x: %s %llx\n", msr, ok ? "=" : "#GP", (unsigned long long)v);
    if (!ok) return guest_fault(c, V_GP, 0);
    *val = v;
    return 0;
}

/* ---- WRMSR ---- */

static bool write_apic_base(struct cpu *c, u64 v)
{
    if (v & ~(PHYS_MASK & ~0xfffull) & ~(u64)(1u << 8 | APIC_BASE_EN)) return false;
    c->apic_base = v;
    if (c->apic_base_hook) c->apic_base_hook(c->apic_base_arg, v);
    return true;
}

/* NX changes what page tables mean. */
static bool write_efer(struct cpu *c, u64 v)
{
    if (v & ~(u64)EFER_NXE) return false;
    if (v != c->efer) {
        c->efer = v;
        tlb_flush_all(c);
    }
    return true;
}

static bool write_misc_enable(struct cpu *c, u64 v)
{
    u64 has = model_number(c->model) == 0x1c ? MISC_ATOM : MISC_CORE | 1;
    if (!model_has_nx(c->model)) has &= ~MISC_XD_DISABLE;
    if (v & ~(has | MISC_READ_ONLY)) return false;
    u64 writable = c->misc_enable & MISC_SPEEDSTEP_LOCK ? has & ~(MISC_SPEEDSTEP | MISC_SPEEDSTEP_LOCK) : has;
    if (v & MISC_XD_DISABLE) write_efer(c, 0);
    c->misc_enable = (c->misc_enable & ~writable) | (v & writable);
    return true;
}

static bool msr_write(struct cpu *c, u32 msr, u64 v)
{
    u64 old;
    switch (msr) {
    case MSR_APIC_BASE:
    case MSR_MISC_ENABLE:
    case MSR_SYSENTER_CS:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
    case MSR_TSC:
    case MSR_PAT:
    case MSR_EFER:
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
    case MSR_BIOS_SIGN_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_TR12:
    case MSR_P5_CESR:
    case MSR_P5_CTR0:
    case MSR_P5_CTR1:
    case MSR_K6_WHCR:
    case MSR_K7_HWCR:
    case MSR_K7_CLK_CTL:
        if (!msr_read(c, msr, &old)) return false; /* the model does not have it */
        break;
    default: break;
    }
    switch (msr) {
    case MSR_TSC: cpu_set_tsc(c, v); return true;
    case MSR_APIC_BASE: return write_apic_base(c, v);
    case MSR_BIOS_UPDT_TRIG: return intel_p6(c); /* microcode is not loaded */
    case MSR_BIOS_SIGN_ID:                       /* cleared before CPUID, which sets it again */
    case MSR_EBL_CR_POWERON:
    case MSR_TR12: /* write allocation, branch traces, counters: without effect. NOT-HW */
    case MSR_P5_CESR:
    case MSR_P5_CTR0:
    case MSR_P5_CTR1:
    case MSR_K6_WHCR:
    case MSR_K7_HWCR:
    case MSR_K7_CLK_CTL: return true;
    case MSR_SYSENTER_CS: c->sysenter_cs = (u32)v; return true;
    case MSR_SYSENTER_ESP: c->sysenter_esp = (u32)v; return true;
    case MSR_SYSENTER_EIP: c->sysenter_eip = (u32)v; return true;
    case MSR_MISC_ENABLE: return write_misc_enable(c, v);
    case MSR_EFER: return write_efer(c, v);
    case MSR_MCG_STATUS:
        if (v & ~7ull) return false;
        c->mcg_status = v;
        return true;
    case MSR_DEBUGCTL: /* LBR, BTF: kept, without effect. NOT-HW */
        if (v & ~3ull) return false;
        c->debugctl = (u32)v;
        return true;
    case MSR_PAT:
        if (!types_ok(v, true)) return false;
        c->pat = v;
        return true;
    default: return mtrr_write(c, msr, v) || mc_write(c, msr, v) || k7_write(c, msr, v);
    }
}

int cpu_wrmsr(struct cpu *c, u32 msr, u64 val)
{
    bool ok = msr_write(c, msr, val);
    CPU_TRACE(c, msr, "wrmsr %08x: %llx%s\n", msr, (unsigned long long)val, ok ? "" : " #GP");
    return ok ? 0 : guest_fault(c, V_GP, 0);
}
