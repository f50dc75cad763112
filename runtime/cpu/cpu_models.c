/* Owns the processors that --cpu names: what CPUID answers, and which instructions the decoder accepts.
 *
 *   I1  A feature bit is set only if the machine has the feature. Where a real processor of the name has more (thermal
 *       control, MONITOR, 3DNow!, ...) its bit is clear here.
 *       NOT-HW
 *   I2  Physical addresses are MAXPHYADDR bits wide in every model with PAE, for RAM above the PCI hole. An N270 has
 *       32. NOT-HW
 *   I3  Rows are sorted by leaf; rows of one leaf are its subleaves 0, 1, 2, ...
 *
 * AP-485 (Intel Processor Identification and the CPUID Instruction); SDM vol. 2, CPUID; AMD 20734 for K6 and Athlon;
 * 80386 Programmer's Reference Manual, 10.1; Intel486 Processor Family Programmer's Reference Manual, 9.1. */
#include "runtime/cpu/cpu_models.h"
#include "translator/front/insn.h"

#include <cpuid.h>

#define F(feature) (1u << FEAT_##feature)
#define FEAT_P5 (F(BASE) | F(I486) | F(CPUID) | F(TSC) | F(MSR) | F(CX8) | F(FPU))
#define FEAT_P5MMX (FEAT_P5 | F(PMC) | F(MMX))
#define FEAT_P2 (FEAT_P5MMX | F(CMOV) | F(SEP) | F(FXSR))
#define FEAT_P6 (FEAT_P2 | F(SSE))
#define FEAT_P4 (FEAT_P6 | F(SSE2) | F(CLFLUSH))
#define FEAT_P6M (FEAT_P4 | F(SSE3))

#define EDX_P5 \
    (CPUID_FPU | CPUID_VME | CPUID_DE | CPUID_PSE | CPUID_TSC | CPUID_MSR | CPUID_MCE | CPUID_CX8 | CPUID_APIC)
#define EDX_P6                                                                                                \
    (EDX_P5 | CPUID_PAE | CPUID_SEP | CPUID_MTRR | CPUID_PGE | CPUID_MCA | CPUID_CMOV | CPUID_PAT | CPUID_MMX \
     | CPUID_FXSR | CPUID_SSE)
#define EDX_P2 (EDX_P6 & ~CPUID_SSE)
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

static const struct cpuid_leaf leaves_pentium_mmx[] = {
    { 0, 1, INTEL },
    { 1, 0x543, 0, 0, EDX_P5 | CPUID_MMX },
};

/* Deschutes, 512 KiB. */
static const struct cpuid_leaf leaves_pentium2[] = {
    { 0, 2, INTEL },
    { 1, 0x652, 0, 0, EDX_P2 | CPUID_PSE36 },
    { 2, 0x03020101, 0, 0, 0x0c040843 },
};

static const struct cpuid_leaf leaves_pentium3[] = {
    { 0, 2, INTEL },
    { 1, 0x686, 0x00000002, 0, EDX_P6 | CPUID_PSE36 },
    { 2, 0x03020101, 0, 0, 0x0c040882 },
};

/* Northwood. "Intel(R) Pentium(R) 4 CPU 2.40GHz" */
static const struct cpuid_leaf leaves_pentium4[] = {
    { 0, 2, INTEL },
    { 1, 0xf29, 0x00000809, 0, EDX_P6M | CPUID_PSE36 },
    { 2, 0x665b5001, 0, 0, 0x007b7040 },
    { 0x80000000, 0x80000004, 0, 0, 0 },
    { 0x80000001, 0, 0, 0, 0 },
    { 0x80000002, B(' ', ' ', ' ', ' '), B(' ', ' ', ' ', ' '), B(' ', ' ', ' ', ' '), B(' ', ' ', 'I', 'n') },
    { 0x80000003, B('t', 'e', 'l', '('), B('R', ')', ' ', 'P'), B('e', 'n', 't', 'i'), B('u', 'm', '(', 'R') },
    { 0x80000004, B(')', ' ', '4', ' '), B('C', 'P', 'U', ' '), B('2', '.', '4', '0'), B('G', 'H', 'z', 0) },
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

/* "AMD-K6tm w/ multimedia extensions" */
#define EDX_K6 ((EDX_P5 & ~CPUID_APIC) | CPUID_MMX)
static const struct cpuid_leaf leaves_k6[] = {
    { 0, 1, AMD },
    { 1, 0x570, 0, 0, EDX_K6 },
    { 0x80000000, 0x80000005, AMD },
    { 0x80000001, 0x670, 0, 0, EDX_K6 },
    { 0x80000002, B('A', 'M', 'D', '-'), B('K', '6', 't', 'm'), B(' ', 'w', '/', ' '), B('m', 'u', 'l', 't') },
    { 0x80000003, B('i', 'm', 'e', 'd'), B('i', 'a', ' ', 'e'), B('x', 't', 'e', 'n'), B('s', 'i', 'o', 'n') },
    { 0x80000004, B('s', 0, 0, 0), 0, 0, 0 },
    { 0x80000005, 0, 0x02800140, 0x20020220, 0x20020220 },
};

/* "AMD Athlon(tm) XP 2000+" */
static const struct cpuid_leaf leaves_athlon[] = {
    { 0, 1, AMD },
    { 1, 0x680, 0, 0, EDX_P6 | CPUID_PSE36 },
    { 0x80000000, 0x80000008, AMD },
    { 0x80000001, 0x780, 0, 0, (EDX_P6 & ~CPUID_SEP) | CPUID_PSE36 },
    { 0x80000002, B('A', 'M', 'D', ' '), B('A', 't', 'h', 'l'), B('o', 'n', '(', 't'), B('m', ')', ' ', 'X') },
    { 0x80000003, B('P', ' ', '2', '0'), B('0', '0', '+', 0), 0, 0 },
    { 0x80000004, 0, 0, 0, 0 },
    { 0x80000005, 0x0408ff08, 0xff20ff10, 0x40020140, 0x40020140 },
    { 0x80000006, 0, 0x41004100, 0x01008140, 0 },
    { 0x80000008, ADDRESS_SIZES, 0, 0, 0 },
};

#define LEAVES(a) .leaves = a, .nleaves = ARRAY_LEN(a)
/* clang-format off */
static const struct cpu_model models[] = {
    { .name = "n270", .features = FEAT_P6M | F(SSSE3) | F(MOVBE), .max_leaf = 10, LEAVES(leaves_n270),
      .msrs = MSRS_CORE },
    /* With a 80387: FPU instructions run. */
    { .name = "386", .features = F(BASE) | F(FPU), .signature = 0x308 },
    /* A 486 DX2 of the kind without CPUID, and so without CR4 and MSRs. */
    { .name = "486", .features = F(BASE) | F(I486) | F(FPU), .signature = 0x433 },
    { .name = "pentium", .features = FEAT_P5, .max_leaf = 1, LEAVES(leaves_pentium), .msrs = MSRS_P5 },
    { .name = "pentium-mmx", .features = FEAT_P5MMX, .max_leaf = 1, LEAVES(leaves_pentium_mmx), .msrs = MSRS_P5 },
    { .name = "pentium2", .features = FEAT_P2, .max_leaf = 2, LEAVES(leaves_pentium2), .msrs = MSRS_P6 },
    { .name = "pentium3", .features = FEAT_P6, .max_leaf = 2, LEAVES(leaves_pentium3), .msrs = MSRS_P6 },
    { .name = "pentium4", .features = FEAT_P4, .max_leaf = 2, LEAVES(leaves_pentium4), .msrs = MSRS_PENTIUM4 },
    { .name = "core-duo", .features = FEAT_P6M, .max_leaf = 10, LEAVES(leaves_core_duo), .msrs = MSRS_CORE },
    { .name = "k6", .features = FEAT_P5 | F(MMX), .max_leaf = 1, LEAVES(leaves_k6), .msrs = MSRS_K6 },
    { .name = "athlon", .features = FEAT_P6, .max_leaf = 1, LEAVES(leaves_athlon), .msrs = MSRS_K7 },
    /* An n270 that carries the host's name: family and model stay, since guests choose errata and workarounds by them.
     */
    { .name = "host", .features = FEAT_P6M | F(SSSE3) | F(MOVBE), .max_leaf = 10, LEAVES(leaves_n270),
      .msrs = MSRS_CORE, .host_name = true },
};
/* clang-format on */

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

static const struct cpuid_leaf *leaf_find(const struct cpu_model *m, u32 leaf, u32 subleaf)
{
    unsigned i = 0;
    while (i < m->nleaves && m->leaves[i].leaf != leaf) i++;
    if (i == m->nleaves) return NULL;
    if (i + 1 == m->nleaves || m->leaves[i + 1].leaf != leaf) return &m->leaves[i]; /* has no subleaves */
    i += subleaf < m->nleaves - i ? subleaf : m->nleaves - i;
    return i < m->nleaves && m->leaves[i].leaf == leaf ? &m->leaves[i] : NULL;
}

/* ---- features by name ---- */

#define NO_FEATURE 0xff
/* Their names are Linux's. needs: the row of what it does not go without. */
enum { ROW_FPU, ROW_MMX = 14, ROW_FXSR, ROW_SSE, ROW_SSE2, ROW_SSE3, ROW_SSSE3, ROW_PAE };
static const struct feature {
    const char *name;
    u8 word, bit; /* of CPUID: enum cpuid_word */
    u8 insns;     /* enum insn_feature: what the decoder has with it; or NO_FEATURE */
    u8 needs;     /* row; or NO_FEATURE */
} features[] = {
    /* clang-format off */
    [ROW_FPU] = { "fpu", CPUID_1_EDX, 0, FEAT_FPU, NO_FEATURE },
    { "de", CPUID_1_EDX, 2, NO_FEATURE, NO_FEATURE },
    { "pse", CPUID_1_EDX, 3, NO_FEATURE, NO_FEATURE },
    { "tsc", CPUID_1_EDX, 4, FEAT_TSC, NO_FEATURE },
    { "msr", CPUID_1_EDX, 5, FEAT_MSR, NO_FEATURE },
    { "mce", CPUID_1_EDX, 7, NO_FEATURE, NO_FEATURE },
    { "cx8", CPUID_1_EDX, 8, FEAT_CX8, NO_FEATURE },
    { "apic", CPUID_1_EDX, 9, NO_FEATURE, NO_FEATURE },
    { "sep", CPUID_1_EDX, 11, FEAT_SEP, NO_FEATURE },
    { "mtrr", CPUID_1_EDX, 12, NO_FEATURE, NO_FEATURE },
    { "pge", CPUID_1_EDX, 13, NO_FEATURE, NO_FEATURE },
    { "mca", CPUID_1_EDX, 14, NO_FEATURE, NO_FEATURE },
    { "cmov", CPUID_1_EDX, 15, FEAT_CMOV, NO_FEATURE },
    { "pat", CPUID_1_EDX, 16, NO_FEATURE, NO_FEATURE },
    [ROW_MMX] = { "mmx", CPUID_1_EDX, 23, FEAT_MMX, ROW_FPU },
    [ROW_FXSR] = { "fxsr", CPUID_1_EDX, 24, FEAT_FXSR, ROW_FPU },
    [ROW_SSE] = { "sse", CPUID_1_EDX, 25, FEAT_SSE, ROW_FXSR },
    [ROW_SSE2] = { "sse2", CPUID_1_EDX, 26, FEAT_SSE2, ROW_SSE },
    [ROW_SSE3] = { "sse3", CPUID_1_ECX, 0, FEAT_SSE3, ROW_SSE2 },
    [ROW_SSSE3] = { "ssse3", CPUID_1_ECX, 9, FEAT_SSSE3, ROW_SSE3 },
    [ROW_PAE] = { "pae", CPUID_1_EDX, 6, NO_FEATURE, NO_FEATURE },
    { "pse36", CPUID_1_EDX, 17, NO_FEATURE, NO_FEATURE },
    { "clflush", CPUID_1_EDX, 19, FEAT_CLFLUSH, NO_FEATURE },
    { "movbe", CPUID_1_ECX, 22, FEAT_MOVBE, NO_FEATURE },
    { "vme", CPUID_1_EDX, 1, NO_FEATURE, NO_FEATURE },
    { "nx", CPUID_EXT_EDX, 20, NO_FEATURE, ROW_PAE },
    /* clang-format on */
};

const char *cpu_feature_name(unsigned i) { return i < ARRAY_LEN(features) ? features[i].name : NULL; }

/* A word ends at a comma. */
static bool is_word(const char *name, const char *word)
{
    while (*name && *name == *word) name++, word++;
    return !*name && (!*word || *word == ',');
}
static const char *word_end(const char *p)
{
    while (*p && *p != ',') p++;
    return p;
}

static void feature_set(struct cpu_model *m, unsigned row, bool on)
{
    const struct feature *f = &features[row];
    u32 bit = 1u << f->bit, insns = f->insns == NO_FEATURE ? 0 : 1u << f->insns;
    m->features = on ? m->features | insns : m->features & ~insns;
    m->added[f->word] = on ? m->added[f->word] | bit : m->added[f->word] & ~bit;
    m->removed[f->word] = on ? m->removed[f->word] & ~bit : m->removed[f->word] | bit;
    if (on && f->needs != NO_FEATURE) feature_set(m, f->needs, true);
    for (unsigned i = 0; !on && i < ARRAY_LEN(features); i++)
        if (features[i].needs == row) feature_set(m, i, false);
}

/* Whether there is a place to announce it. Without CPUID there is none, but a 386 or 486 may lack its FPU. */
static bool feature_fits(const struct cpu_model *m, unsigned row, bool on)
{
    if (!m->nleaves) return row == ROW_FPU && !on;
    return features[row].word != CPUID_EXT_EDX || leaf_find(m, 0x80000001, 0);
}

const char *cpu_model_make(struct cpu_model *out, const char *spec)
{
    unsigned i = 0;
    if (spec)
        while (i < ARRAY_LEN(models) && !is_word(models[i].name, spec)) i++;
    if (i == ARRAY_LEN(models)) return spec;
    *out = models[i];
    for (const char *at = spec ? word_end(spec) : ""; *at; at = word_end(at)) {
        const char *word = ++at;
        bool on = *word == '+';
        if (!on && *word != '-') return word;
        unsigned row = 0;
        while (row < ARRAY_LEN(features) && !is_word(features[row].name, word + 1)) row++;
        if (row == ARRAY_LEN(features) || !feature_fits(out, row, on)) return word;
        feature_set(out, row, on);
    }
    return NULL;
}

/* ---- questions ---- */

/* A register of leaf 1 or 80000001H as the model shows it. */
static u32 word_shown(const struct cpu_model *m, enum cpuid_word w, u32 of_leaf)
{
    return (of_leaf & ~m->removed[w]) | m->added[w];
}

u32 model_signature(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 1, 0);
    return l ? l->eax : m->signature;
}
u32 model_edx(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 1, 0);
    return word_shown(m, CPUID_1_EDX, l ? l->edx : CPUID_FPU);
}
unsigned model_family(const struct cpu_model *m) { return model_signature(m) >> 8 & 0xf; }
unsigned model_number(const struct cpu_model *m)
{
    return (model_signature(m) >> 4 & 0xf) | (model_signature(m) >> 12 & 0xf0);
}
bool model_has_nx(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 0x80000001, 0);
    return l && word_shown(m, CPUID_EXT_EDX, l->edx) & CPUID_EXT_NX;
}
bool model_is_amd(const struct cpu_model *m) { return m->nleaves && m->leaves[0].ebx == 0x68747541; }

/* AC came with the 486, ID with CPUID, VIF and VIP at the same time. */
u32 model_eflags(const struct cpu_model *m)
{
    u32 flags = F_SYS;
    if (!(m->features & F(I486))) flags &= ~(u32)F_AC;
    if (!(m->features & F(CPUID))) flags &= ~(u32)(F_ID | F_VIF | F_VIP);
    return flags;
}

unsigned model_phys_bits(const struct cpu_model *m)
{
    const struct cpuid_leaf *l = leaf_find(m, 0x80000008, 0);
    if (l) return l->eax & 0xff;
    return model_edx(m) & (CPUID_PAE | CPUID_PSE36) ? MAXPHYADDR : 32;
}

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
    if (m->host_name && leaf >= 0x80000002 && leaf <= 0x80000004) {
        __cpuid(leaf, out[0], out[1], out[2], out[3]);
        return;
    }
    const struct cpuid_leaf *l = leaf_find(m, leaf, subleaf);
    out[0] = l ? l->eax : 0;
    out[1] = l ? l->ebx : 0;
    out[2] = l ? l->ecx : 0;
    out[3] = l ? l->edx : 0;
    if (leaf == 0) out[0] = max_basic;
    if (leaf == 1) out[2] = word_shown(m, CPUID_1_ECX, out[2]), out[3] = word_shown(m, CPUID_1_EDX, out[3]);
    if (leaf == 0x80000001) out[3] = word_shown(m, CPUID_EXT_EDX, out[3]);
    if (leaf == 1 && !(c->apic_base & APIC_BASE_EN)) out[3] &= ~CPUID_APIC;
    if (leaf == 0x80000001 && c->misc_enable & MISC_XD_DISABLE) out[3] &= ~CPUID_EXT_NX;
}
