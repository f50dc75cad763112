/* Owns the processors that --cpu names: what CPUID answers, and which instructions the decoder accepts.
 *
 *   I1  A feature bit is set only if the machine has the feature. Where a real processor of the name has more (VME,
 *       PSE-36, thermal control, MONITOR, ...) its bit is clear here.
 *       NOT-HW
 *   I2  Physical addresses are MAXPHYADDR bits wide in every model with PAE, for RAM above the PCI hole. An N270 has
 *       32. NOT-HW
 *   I3  Rows are sorted by leaf; rows of one leaf are its subleaves 0, 1, 2, ...
 *
 * AP-485 (Intel Processor Identification and the CPUID Instruction); SDM vol. 2, CPUID; AMD 20734 for the Athlon. */
#include "runtime/cpu/cpu_models.h"
#include "translator/front/insn.h"

#include <cpuid.h>

#define F(feature) (1u << FEAT_##feature)
#define FEAT_P5 (F(BASE) | F(I486) | F(PENTIUM) | F(FPU))
#define FEAT_P6 (FEAT_P5 | F(CMOV) | F(SEP) | F(MMX) | F(FXSR) | F(SSE))
#define FEAT_P6M (FEAT_P6 | F(SSE2) | F(SSE3))

#define EDX_P5 (CPUID_FPU | CPUID_DE | CPUID_PSE | CPUID_TSC | CPUID_MSR | CPUID_MCE | CPUID_CX8 | CPUID_APIC)
#define EDX_P6                                                                                                \
    (EDX_P5 | CPUID_PAE | CPUID_SEP | CPUID_MTRR | CPUID_PGE | CPUID_MCA | CPUID_CMOV | CPUID_PAT | CPUID_MMX \
     | CPUID_FXSR | CPUID_SSE)
#define EDX_P6M (EDX_P6 | CPUID_SSE2 | CPUID_CLFSH)
enum cpuid_ecx { CPUID_SSE3 = 1u << 0, CPUID_SSSE3 = 1u << 9, CPUID_MOVBE = 1u << 22 };
enum cpuid_ext_edx { CPUID_EXT_NX = 1u << 20 };
#define ADDRESS_SIZES (32u << 8 | MAXPHYADDR)

#define INTEL 0x756e6547, 0x6c65746e, 0x49656e69 /* "GenuineIntel" as EBX, ECX, EDX */
#define AMD 0x68747541, 0x444d4163, 0x69746e65   /* "AuthenticAMD" */
/* Four bytes of a brand string. */
#define B(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

/* Caches as an N270 has them: 24 KiB data, 32 KiB code, 512 KiB second level; one thread on one core.
 * "Intel(R) Atom(TM) CPU N270   @ 1.60GHz" */
static const struct cpuid_leaf leaves_n270[] = {
    { 0, 10, INTEL },
    { 1, 0x106c2, 0x00000800, CPUID_SSE3 | CPUID_SSSE3 | CPUID_MOVBE, EDX_P6M },
    { 2, 0x4fba5901, 0x0e3080c0, 0, 0 },
    { 4, 0x121, 0x0140003f, 0x3f, 1 },
    { 4, 0x122, 0x01c0003f, 0x3f, 1 },
    { 4, 0x143, 0x01c0003f, 0x3ff, 1 },
    { 0x80000000, 0x80000008, 0, 0, 0 },
    { 0x80000001, 0, 0, 1 /* LAHF, SAHF */, CPUID_EXT_NX },
    { 0x80000002, B('I', 'n', 't', 'e'), B('l', '(', 'R', ')'), B(' ', 'A', 't', 'o'), B('m', '(', 'T', 'M') },
    { 0x80000003, B(')', ' ', 'C', 'P'), B('U', ' ', 'N', '2'), B('7', '0', ' ', ' '), B(' ', '@', ' ', '1') },
    { 0x80000004, B('.', '6', '0', 'G'), B('H', 'z', 0, 0), 0, 0 },
    { 0x80000006, 0, 0, 0x02008040, 0 },
    { 0x80000008, ADDRESS_SIZES, 0, 0, 0 },
};

static const struct cpuid_leaf leaves_pentium[] = {
    { 0, 1, INTEL },
    { 1, 0x52c, 0, 0, EDX_P5 },
};

static const struct cpuid_leaf leaves_pentium3[] = {
    { 0, 2, INTEL },
    { 1, 0x686, 0x00000002, 0, EDX_P6 },
    { 2, 0x03020101, 0, 0, 0x0c040882 },
};

/* "Genuine Intel(R) CPU           T2600  @ 2.16GHz" */
static const struct cpuid_leaf leaves_core_duo[] = {
    { 0, 10, INTEL },
    { 1, 0x6e8, 0x00000800, CPUID_SSE3, EDX_P6M },
    { 2, 0x02b3b001, 0x000000f0, 0, 0x2c04307d },
    { 4, 0x121, 0x01c0003f, 0x3f, 1 },
    { 4, 0x122, 0x01c0003f, 0x3f, 1 },
    { 4, 0x143, 0x01c0003f, 0xfff, 1 },
    { 0x80000000, 0x80000008, 0, 0, 0 },
    { 0x80000001, 0, 0, 0, CPUID_EXT_NX },
    { 0x80000002, B('G', 'e', 'n', 'u'), B('i', 'n', 'e', ' '), B('I', 'n', 't', 'e'), B('l', '(', 'R', ')') },
    { 0x80000003, B(' ', 'C', 'P', 'U'), B(' ', ' ', ' ', ' '), B(' ', ' ', ' ', ' '), B(' ', ' ', ' ', 'T') },
    { 0x80000004, B('2', '6', '0', '0'), B(' ', ' ', '@', ' '), B('2', '.', '1', '6'), B('G', 'H', 'z', 0) },
    { 0x80000006, 0, 0, 0x08006040, 0 },
    { 0x80000008, ADDRESS_SIZES, 0, 0, 0 },
};

/* "AMD Athlon(tm) XP 2000+" */
static const struct cpuid_leaf leaves_athlon[] = {
    { 0, 1, AMD },
    { 1, 0x680, 0, 0, EDX_P6 },
    { 0x80000000, 0x80000008, AMD },
    { 0x80000001, 0x780, 0, 0, EDX_P6 & ~CPUID_SEP },
    { 0x80000002, B('A', 'M', 'D', ' '), B('A', 't', 'h', 'l'), B('o', 'n', '(', 't'), B('m', ')', ' ', 'X') },
    { 0x80000003, B('P', ' ', '2', '0'), B('0', '0', '+', 0), 0, 0 },
    { 0x80000004, 0, 0, 0, 0 },
    { 0x80000005, 0x0408ff08, 0xff20ff10, 0x40020140, 0x40020140 },
    { 0x80000006, 0, 0x41004100, 0x01008140, 0 },
    { 0x80000008, ADDRESS_SIZES, 0, 0, 0 },
};

#define LEAVES(a) .leaves = a, .nleaves = ARRAY_LEN(a)
static const struct cpu_model models[] = {
    { .name = "n270", .features = FEAT_P6M | F(SSSE3) | F(MOVBE), .max_leaf = 10, LEAVES(leaves_n270) },
    { .name = "486", .features = F(BASE) | F(I486) | F(FPU) }, /* of the kind without CPUID, and so without CR4 and MSRs
                                                                */
    { .name = "pentium", .features = FEAT_P5, .max_leaf = 1, LEAVES(leaves_pentium) },
    { .name = "pentium3", .features = FEAT_P6, .max_leaf = 2, LEAVES(leaves_pentium3) },
    { .name = "core-duo", .features = FEAT_P6M, .max_leaf = 10, LEAVES(leaves_core_duo) },
    { .name = "athlon", .features = FEAT_P6, .max_leaf = 1, LEAVES(leaves_athlon) },
    /* An n270 that carries the host's name: family and model stay, since guests choose errata and workarounds by them.
     */
    { .name = "host", .features = FEAT_P6M | F(SSSE3) | F(MOVBE), .max_leaf = 10, LEAVES(leaves_n270) },
};
#define MODEL_HOST (&models[ARRAY_LEN(models) - 1])

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

const struct cpu_model *cpu_model_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(models); i++)
        if (same(models[i].name, name)) return &models[i];
    return NULL;
}
const struct cpu_model *cpu_model_at(unsigned i) { return i < ARRAY_LEN(models) ? &models[i] : NULL; }

/* ---- questions ---- */

static const struct cpuid_leaf *leaf_find(const struct cpu_model *m, u32 leaf, u32 subleaf)
{
    unsigned i = 0;
    while (i < m->nleaves && m->leaves[i].leaf != leaf) i++;
    if (i == m->nleaves) return NULL;
    if (i + 1 == m->nleaves || m->leaves[i + 1].leaf != leaf) return &m->leaves[i]; /* has no subleaves */
    i += subleaf < m->nleaves - i ? subleaf : m->nleaves - i;
    return i < m->nleaves && m->leaves[i].leaf == leaf ? &m->leaves[i] : NULL;
}

u32 model_signature(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 1, 0);
    return l ? l->eax : 0x480;
}
u32 model_edx(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 1, 0);
    return l ? l->edx : CPUID_FPU;
}
unsigned model_family(const struct cpu_model *m) { return model_signature(m) >> 8 & 0xf; }
unsigned model_number(const struct cpu_model *m)
{
    return (model_signature(m) >> 4 & 0xf) | (model_signature(m) >> 12 & 0xf0);
}
bool model_has_nx(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 0x80000001, 0);
    return l && l->edx & CPUID_EXT_NX;
}
bool model_is_amd(const struct cpu_model *m) { return m->nleaves && m->leaves[0].ebx == 0x68747541; }

/* ---- the instruction ---- */

/* SDM vol. 2, CPUID: a leaf beyond both ranges answers like the highest basic one. */
static u32 leaf_clip(const struct cpu_model *m, u32 leaf, u32 max_basic)
{
    const struct cpuid_leaf *ext = leaf_find(m, 0x80000000, 0);
    bool known = leaf >= 0x80000000 ? ext && leaf <= ext->eax : leaf <= max_basic;
    return known ? leaf : max_basic;
}

void cpu_cpuid(struct cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct cpu_model *m = c->model;
    u32 max_basic = c->misc_enable & MISC_LIMIT_CPUID && m->max_leaf > 3 ? 3 : m->max_leaf;
    leaf = leaf_clip(m, leaf, max_basic);
    if (m == MODEL_HOST && leaf >= 0x80000002 && leaf <= 0x80000004) {
        __cpuid(leaf, out[0], out[1], out[2], out[3]);
        return;
    }
    const struct cpuid_leaf *l = leaf_find(m, leaf, subleaf);
    out[0] = l ? l->eax : 0;
    out[1] = l ? l->ebx : 0;
    out[2] = l ? l->ecx : 0;
    out[3] = l ? l->edx : 0;
    if (leaf == 0) out[0] = max_basic;
    if (leaf == 1 && !(c->apic_base & APIC_BASE_EN)) out[3] &= ~CPUID_APIC;
    if (leaf == 0x80000001 && c->misc_enable & MISC_XD_DISABLE) out[3] &= ~CPUID_EXT_NX;
}
