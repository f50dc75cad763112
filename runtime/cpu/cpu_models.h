/* CPU models: what --cpu names, and what CPUID says of them. */
#ifndef RUNTIME_CPU_MODELS_H
#define RUNTIME_CPU_MODELS_H
#include "core/cpu.h"

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

/* CPUID leaf 1, EDX. */
/* clang-format off */
enum cpuid_edx {
    CPUID_FPU = 1u << 0, CPUID_VME = 1u << 1, CPUID_DE = 1u << 2, CPUID_PSE = 1u << 3, CPUID_TSC = 1u << 4,
    CPUID_MSR = 1u << 5,
    CPUID_PAE = 1u << 6, CPUID_MCE = 1u << 7, CPUID_CX8 = 1u << 8, CPUID_APIC = 1u << 9, CPUID_SEP = 1u << 11,
    CPUID_MTRR = 1u << 12,
    CPUID_PGE = 1u << 13, CPUID_MCA = 1u << 14, CPUID_CMOV = 1u << 15, CPUID_PAT = 1u << 16, CPUID_CLFSH = 1u << 19,
    CPUID_MMX = 1u << 23,
    CPUID_FXSR = 1u << 24, CPUID_SSE = 1u << 25, CPUID_SSE2 = 1u << 26,
};
/* clang-format on */
u32 model_edx(const struct cpu_model *m);
u32 model_signature(const struct cpu_model *m); /* leaf 1 EAX */
bool model_has_nx(const struct cpu_model *m);
bool model_is_amd(const struct cpu_model *m);
unsigned model_family(const struct cpu_model *m);
unsigned model_number(const struct cpu_model *m);
#define MAXPHYADDR 36u /* with PAE; CPUID 80000008H says the same */

/* What CPUID goes by, of MSRs. */
#define APIC_BASE_EN (1u << 11)       /* IA32_APIC_BASE */
#define MISC_LIMIT_CPUID (1ull << 22) /* IA32_MISC_ENABLE: leaves above 3 are hidden */
#define MISC_XD_DISABLE (1ull << 34)  /* NX is hidden */

void cpu_cpuid(struct cpu *c, u32 leaf, u32 subleaf, u32 out[4]); /* eax ebx ecx edx */

#endif
