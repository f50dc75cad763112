/* CPU models: what --cpu names, and what CPUID says of them. */
#ifndef RUNTIME_CPU_MODELS_H
#define RUNTIME_CPU_MODELS_H
#include "core/cpu.h"

/* Registers of CPUID that announce features: leaf 1 EDX and ECX, leaf 80000001H EDX. */
enum cpuid_word { CPUID_1_EDX, CPUID_1_ECX, CPUID_EXT_EDX, CPUID_WORDS };
/* Whose model-specific registers it has, beside those that its CPUID announces. */
enum cpu_msrs { MSRS_NONE, MSRS_P5, MSRS_P6, MSRS_PENTIUM4, MSRS_CORE, MSRS_K6, MSRS_K7 };

struct cpu_model {
    const char *name; /* what --cpu takes */
    u32 features;     /* bit mask over enum insn_feature: what the decoder accepts */
    u32 max_leaf;
    const struct cpuid_leaf {
        u32 leaf, eax, ebx, ecx, edx;
    } * leaves;
    unsigned nleaves;
    u32 signature; /* in EDX at reset, of those without CPUID; others have leaf 1's */
    u8 msrs;       /* enum cpu_msrs */
    bool host_name;
    u32 added[CPUID_WORDS], removed[CPUID_WORDS]; /* by --cpu MODEL,+FEATURE,-FEATURE */
};
const struct cpu_model *cpu_model_find(const char *name); /* NULL if there is none */
const struct cpu_model *cpu_model_at(unsigned i);         /* NULL past the last */
/* Makes *out of MODEL[,+FEATURE|,-FEATURE]..; NULL is the default. A feature comes with those that it needs, and goes
 * with those that need it. Returns NULL; or where in spec the word is that names nothing, or that the model cannot
 * have. out's leaves stay those of the model. */
MUST_CHECK const char *cpu_model_make(struct cpu_model *out, const char *spec);
const char *cpu_feature_name(unsigned i); /* NULL past the last */

/* CPUID leaf 1, EDX. */
/* clang-format off */
enum cpuid_edx {
    CPUID_FPU = 1u << 0, CPUID_VME = 1u << 1, CPUID_DE = 1u << 2, CPUID_PSE = 1u << 3, CPUID_TSC = 1u << 4,
    CPUID_MSR = 1u << 5,
    CPUID_PAE = 1u << 6, CPUID_MCE = 1u << 7, CPUID_CX8 = 1u << 8, CPUID_APIC = 1u << 9, CPUID_SEP = 1u << 11,
    CPUID_MTRR = 1u << 12,
    CPUID_PGE = 1u << 13, CPUID_MCA = 1u << 14, CPUID_CMOV = 1u << 15, CPUID_PAT = 1u << 16, CPUID_PSE36 = 1u << 17,
    CPUID_CLFSH = 1u << 19,
    CPUID_MMX = 1u << 23,
    CPUID_FXSR = 1u << 24, CPUID_SSE = 1u << 25, CPUID_SSE2 = 1u << 26,
};
/* clang-format on */
u32 model_edx(const struct cpu_model *m);
u32 model_signature(const struct cpu_model *m);      /* leaf 1 EAX, or what EDX holds at reset */
u32 model_eflags(const struct cpu_model *m);         /* the bits of EFLAGS that there are, of F_SYS */
unsigned model_phys_bits(const struct cpu_model *m); /* width of physical addresses */
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
