/* What isa.py makes docs/isa.md of: a line for each instruction, fields separated by tabs.
 *
 *   mnemonic, class, feature, forms; how the translator does it in each mode of modes[]; whether user code may have
 *   it run directly; whether the differential tester makes it at CPL 3, at CPL 0, in 16-bit code; whether it is
 *   privileged
 *
 * How it is done: yes (all forms that were tried are translated), interp (none), part. Each form is tried with
 * registers and with memory, in 32 and in 16 bits as the mode has them, as xl_policy() answers. */
#include "runtime/direct/scan_page.h"
#include "tests/diff/gen16.h"
#include "tests/insn_encode.h"
#include "translator/lower/island.h"
#include "translator/lower/policy.h"

#include <stdio.h>

#define FLAT (MK_PE | MK_CS32 | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT | MK_PG)
static const u32 modes[] = { FLAT, FLAT | 3 | MK_UWINDOW, MK_PE | MK_PG | 3, 0, 3 | MK_PE | MK_VM | MK_PG };
#define MODES ARRAY_LEN(modes)

static const char *const class_name[] = {
#define INSN_CLASS(name, text) #name,
#include "translator/front/insn_class.def"
#undef INSN_CLASS
};
static const char *const feature_name[FEAT_COUNT] = {
    [FEAT_BASE] = "386",    [FEAT_I486] = "486",        [FEAT_CPUID] = "cpuid",     [FEAT_TSC] = "tsc",
    [FEAT_MSR] = "msr",     [FEAT_CX8] = "cx8",         [FEAT_PMC] = "pmc",         [FEAT_CMOV] = "cmov",
    [FEAT_SEP] = "sep",     [FEAT_FPU] = "fpu",         [FEAT_MMX] = "mmx",         [FEAT_FXSR] = "fxsr",
    [FEAT_SSE] = "sse",     [FEAT_SSE2] = "sse2",       [FEAT_CLFLUSH] = "clflush", [FEAT_SSE3] = "sse3",
    [FEAT_SSSE3] = "ssse3", [FEAT_MONITOR] = "monitor", [FEAT_MOVBE] = "movbe",
};

struct tally {
    unsigned tried, done;
};
struct op_line {
    const struct insn_row *row; /* the first */
    unsigned forms;
    struct tally mode[MODES], direct;
    bool judged[3], priv;
};

static struct decoder *dec;

/* One form of a row in a mode. */
static void try_form(struct op_line *l, const struct insn_row *row, unsigned m, u8 modrm)
{
    static const struct xl_options opt = { .features = ~0u };
    static const struct scan_rules rules = { .features = ~0u, .tzcnt = true, .lzcnt = true, .wide_mxcsr = true };
    struct encoding e = { .modrm = modrm, .code32 = modes[m] & MK_CS32 };
    struct insn in;
    u8 bytes[32];
    unsigned n = insn_encode(row, &e, bytes);
    if (decode(dec, bytes, n, 0x1000, e.code32, ~0u, &in) != DECODE_OK || in.row != row) return;
    bool paragraphs = (modes[m] & (MK_PE | MK_VM)) != MK_PE;
    u32 context = paragraphs ? context_of_paragraph(modes[m], 0) : 1;
    const struct xl_source src = { .mode = modes[m], .context = context, .limit = ~0u };
    struct xl_ctx x = { .opt = &opt, .src = &src, .scan.n = 2 /* it is not the last of its block */ };
    l->mode[m].tried++;
    l->mode[m].done += xl_policy(&x, &in) != xl_lower_emulate;
    if (m != 1) return;
    l->direct.tried++;
    l->direct.done += !scan_is_sensitive(&rules, &in);
}

static const char *word(struct tally t) { return !t.done ? "interp" : t.done == t.tried ? "yes" : "part"; }

int main(void)
{
    static struct op_line line[OP_COUNT];
    if (decoder_new(&dec)) return 1;
    for (unsigned id = 1; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        struct op_line *l = &line[row->op];
        if (!l->row) l->row = row;
        l->forms++;
        l->priv |= (row->attr & A_PRIV) != 0;
        for (unsigned m = 0; m < MODES; m++) {
            try_form(l, row, m, 0xc1);
            if (row->form != MR_NONE) try_form(l, row, m, modes[m] & MK_CS32 ? 0x03 : 0x07);
        }
        l->judged[0] |= gen_makes(id, false);
        l->judged[1] |= gen_makes(id, true);
        l->judged[2] |= gen16_makes(id);
    }
    for (unsigned op = 1; op < OP_COUNT; op++) {
        const struct op_line *l = &line[op];
        if (!l->row) continue;
        printf("%s\t%s\t%s\t%u", l->row->mnemonic, class_name[l->row->cls], feature_name[l->row->feat], l->forms);
        for (unsigned m = 0; m < MODES; m++) printf("\t%s", word(l->mode[m]));
        printf("\t%s", word(l->direct));
        for (unsigned i = 0; i < 3; i++) printf("\t%d", l->judged[i]);
        printf("\t%d\n", l->priv);
    }
    decoder_free(dec);
    return 0;
}
