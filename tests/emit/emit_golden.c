/* Golden host code: what single blocks are translated to, as text that a reviewer can read, compared with what was
 * accepted.
 *
 *   emit_golden CASES EXPECTED             status 1 and a diff if they differ
 *   emit_golden --accept CASES EXPECTED    writes EXPECTED
 *
 * A case is a line "name | mode | window or soft | code", mode being flat, user, based (no flat data segment), uwin,
 * mixed (compares its bytes), real, or para and vm86 (CS is a paragraph), and code hex bytes with spaces, or @N for "at
 * offset N of the page". A line without | is a heading. Each case is also had from a template, at another place and
 * after an eviction, in every mode, and must be what translation gives. Addresses are labels, fields of struct cpu have
 * their names, edges and helpers are named: the text changes only when the code does. */
#include "tests/emit/clone_check.h"
#include "tests/emit/host_check.h"
#include "translator/store/store.h"
#include "translator/store/template.h"

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#define EIP 0x00401000u

struct field {
    u32 offset;
    const char *name;
};
#define FIELD(f)                    \
    {                               \
        offsetof(struct cpu, f), #f \
    }
static const struct field fields[] = {
    FIELD(idtr.limit),  FIELD(idtr.base),   FIELD(nmi_blocked), FIELD(far_target), FIELD(x87.ip),  FIELD(x87.cs),
    FIELD(x87.dp),      FIELD(x87.ds),      FIELD(x87.op),      FIELD(eip),        FIELD(aflags),  FIELD(df),
    FIELD(eflags_sys),  FIELD(irq_pending), FIELD(fpu_hot),     FIELD(iflag),      FIELD(sse_hot), FIELD(tsc_offset),
    FIELD(tsc_until),   FIELD(cr0),         FIELD(cr2),         FIELD(cr3),        FIELD(cr4),     FIELD(kick),
    FIELD(intr_shadow), FIELD(ram),
};
static const char *const callout_name[] = {
#define CALLOUT(name, text) #name,
#include "core/callouts.def"
#undef CALLOUT
};
static const char *const helper_name[] = {
#define HELPER(name, fn, text) #name,
#include "core/helpers.def"
#undef HELPER
};
static const char *const seg_name[S_COUNT] = { "es", "cs", "ss", "ds", "fs", "gs" };
static const char *const tlb_name[TLB_KINDS] = { "sup_r", "sup_w", "user_r", "user_w" };

/* ---- names for displacements ---- */

static void name_cpu_field(u64 disp, char *out, size_t n)
{
    u64 slot = disp - offsetof(struct cpu, callouts), helper = disp - offsetof(struct cpu, helpers),
        complex = disp - offsetof(struct cpu, seg_complex), seg = disp - offsetof(struct cpu, seg);
    u64 room = disp - offsetof(struct cpu, seg_room);
    snprintf(out, n, "0x%llx", (unsigned long long)disp);
    if (room < sizeof((struct cpu *)0)->seg_room)
        snprintf(out, n, "room_%s[%llu]", room / 8 < S_COUNT ? "read" : "write",
                 (unsigned long long)room / 8 % S_COUNT);
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++)
        if (fields[i].offset == disp) snprintf(out, n, "%s", fields[i].name);
    if (slot % 8 == 0 && slot / 8 < CALLOUT_COUNT) snprintf(out, n, "callout.%s", callout_name[slot / 8]);
    if (helper % 8 == 0 && helper / 8 < HELPER_COUNT) snprintf(out, n, "helper.%s", helper_name[helper / 8]);
    if (complex % 4 == 0 && complex / 4 < S_COUNT) snprintf(out, n, "complex.%s", seg_name[complex / 4]);
    if (seg / sizeof(struct seg) < S_COUNT)
        snprintf(out, n, "%s.%s", seg_name[seg / sizeof(struct seg)],
                 seg % sizeof(struct seg) == offsetof(struct seg, base) ? "base" : "sel");
}

/* "[r15 + 0x68]" becomes "[cpu.callout.TLB]", "[r15 + r9*8 + 0x4000]" becomes "[tlb.sup_r + r9*8]". */
static void print_mem(const char *text, s64 disp, FILE *out)
{
    const char *open = strstr(text, "[r15 + "), *close = open ? strchr(open, ']') : NULL;
    char name[40];
    if (!close) {
        fputs(text, out);
        return;
    }
    fprintf(out, "%.*s", (int)(open - text), text);
    if (!strncmp(open + 7, "r9*8", 4)) {
        fprintf(out, "[tlb.%s + r9*8]", tlb_name[(disp - CPU_TLB_AT) / (s64)TLB_TABLE_BYTES]);
    } else {
        name_cpu_field((u64)disp, name, sizeof name);
        fprintf(out, "[cpu.%s]", name);
    }
    fputs(close + 1, out);
}

static s64 mem_disp(const cs_insn *ci)
{
    const cs_x86 *x = &ci->detail->x86;
    for (unsigned i = 0; i < x->op_count; i++)
        if (x->operands[i].type == X86_OP_MEM) return x->operands[i].mem.disp;
    return 0;
}

/* ---- one block ---- */

struct labels {
    u16 number[XL_MAX_HOST];
    unsigned n;
};

static void find_labels(struct host_check *h, const u8 *code, u32 len, struct labels *l)
{
    size_t left = len;
    u64 addr = 0;
    memset(l, 0, sizeof *l);
    while (cs_disasm_iter(h->cs, &code, &left, &addr, h->ci))
        if (host_is_branch(h, h->ci) && h->ci->detail->x86.operands[0].type == X86_OP_IMM)
            l->number[h->ci->detail->x86.operands[0].imm] = 1;
    for (u32 i = 0; i < len; i++)
        if (l->number[i]) l->number[i] = (u16)++l->n;
}

/* The thunk of an edge begins with its number, which depends on the block's. */
static bool print_edge(struct host_check *h, const struct xlf *f, const struct block *b, u64 at, FILE *out)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!b->edge[i].from || b->edge[i].thunk - b->host_off != at) continue;
        fprintf(out, "    %s r8d, edge%u%s\n", h->ci->mnemonic, i,
                xl_edge(f->xl, (u64)h->ci->detail->x86.operands[1].imm) == &b->edge[i] ? "" : " (wrong number)");
        return true;
    }
    return false;
}

static void print_insn(struct host_check *h, const struct labels *l, FILE *out)
{
    const cs_insn *ci = h->ci;
    const cs_x86 *x = &ci->detail->x86;
    fprintf(out, "    %s", ci->mnemonic);
    if (host_is_branch(h, ci) && x->operands[0].type == X86_OP_IMM) {
        fprintf(out, " L%u", l->number[x->operands[0].imm]);
    } else if (*ci->op_str) {
        fputc(' ', out);
        print_mem(ci->op_str, mem_disp(ci), out);
    }
    fputc('\n', out);
}

static void print_host(struct host_check *h, const struct xlf *f, const struct block *b, FILE *out)
{
    struct labels l;
    const u8 *code = xlf_host(f, b);
    const struct record *rec = xlf_records(f, b);
    size_t left = b->host_len;
    unsigned next = 0;
    find_labels(h, code, b->host_len, &l);
    for (u64 addr = 0, at = 0; at = addr, cs_disasm_iter(h->cs, &code, &left, &addr, h->ci);) {
        for (; next < b->nrec && rec[next].host <= at; next++) fprintf(out, "  +%u\n", rec[next].guest);
        if (l.number[at]) fprintf(out, "  L%u:\n", l.number[at]);
        if (!print_edge(h, f, b, at, out)) print_insn(h, &l, out);
    }
    if (left) fprintf(out, "    (%zu bytes that do not decode)\n", left);
}

static void print_guest(struct xlf *f, const struct block *b, const u8 *code, FILE *out)
{
    char text[96];
    bool code32 = b->mode & MK_CS32;
    for (unsigned off = 0; off < b->guest_len;) {
        struct insn in;
        if (decode(f->dec, code + off, b->guest_len - off, b->eip + off, code32, ~0u, &in) != DECODE_OK) break;
        insn_text(f->dec, code + off, in.len, b->eip + off, code32, text, sizeof text);
        fprintf(out, "; +%u %s\n", off, text);
        off += in.len;
    }
    for (unsigned i = 0; i < 2; i++)
        if (b->edge[i].from) fprintf(out, "; edge%u to %08x\n", i, xl_edge_target(&b->edge[i]));
}

/* ---- the same from templates ---- */

static const u32 all_modes[] = {
    MODE_FLAT, MODE_USER, MODE_BARE, MODE_BARE | 3, MODE_USER | MK_UWINDOW, MODE_FLAT & ~(u32)MK_PG, MODE_FLAT | 1
};

static const char *clone_at(struct xlf *f, const struct clone_page *p, laddr eip, u32 mode)
{
    struct xl_source to = clone_source(p, eip, eip ^ 0x5000, mode);
    u64 before = f->ctr.cloned;
    bool evicted;
    struct block *b = xl_translate(f->xl, &to, &evicted);
    return f->ctr.cloned == before ? "translated once more" : clone_check(f, b, &to);
}

static const char *clone_mode(struct xlf *f, const struct clone_page *p, laddr eip, u32 mode)
{
    bool evicted;
    template_drop_all(f->xl);
    xl_flush(f->xl);
    struct xl_source at = clone_source(p, eip, eip, mode);
    xl_translate(f->xl, &at, &evicted);
    if (!f->xl->templates->n) return (eip & ~PAGE_MASK) < PAGE_SIZE - 16 ? "no template" : NULL; /* it straddles */
    const char *err = clone_at(f, p, eip ^ 0x8fff7000, mode);
    xl_evict(f->xl);
    if (!err) err = clone_at(f, p, eip ^ 0x00013000, mode); /* the code that lies there, */
    if (!err) err = clone_at(f, p, eip ^ 0x7f000000, mode); /* and a copy of it */
    return err;
}

static const char *clone_case(struct xlf *f, laddr eip, const u8 *code, unsigned n)
{
    static struct clone_page page;
    unsigned off = eip & ~PAGE_MASK;
    memset(page.bytes, 0xc3, sizeof page.bytes);
    memcpy(page.bytes + off, code, n);
    for (unsigned i = 0; i < ARRAY_LEN(all_modes); i++)
        for (unsigned w = 0; w < 2; w++) {
            const char *err = clone_mode(&f[w], &page, eip, all_modes[i]);
            if (err)
                return fprintf(stderr, "emit_golden: mode %04x %s: from a template: %s\n", all_modes[i],
                               w ? "window" : "soft", err),
                       err;
        }
    return NULL;
}

/* ---- cases ---- */

struct golden {
    struct xlf f[2];
    struct host_check h;
};

static char *trim(char *s)
{
    while (isspace((unsigned char)*s)) s++;
    for (char *end = s + strlen(s); end > s && isspace((unsigned char)end[-1]);) *--end = 0;
    return s;
}

static u32 mode_named(const char *name)
{
    if (!strcmp(name, "flat")) return MODE_FLAT;
    if (!strcmp(name, "user")) return MODE_USER;
    if (!strcmp(name, "based")) return MODE_BARE;
    if (!strcmp(name, "uwin")) return MODE_USER | MK_UWINDOW;
    if (!strcmp(name, "mixed")) return MODE_FLAT | MK_CHECKED;
    if (!strcmp(name, "real")) return 0;
    if (!strcmp(name, "para")) return MK_CSLIMIT;
    if (!strcmp(name, "vm86")) return MK_CSLIMIT | MK_PE | MK_VM | 3;
    fprintf(stderr, "emit_golden: no mode %s\n", name);
    exit(2);
}

static unsigned parse_code(char *hex, u8 *code, laddr *eip)
{
    unsigned n = 0;
    for (char *word = strtok(hex, " "); word; word = strtok(NULL, " ")) {
        if (*word == '@') *eip = (EIP & PAGE_MASK) + (u32)strtoul(word + 1, NULL, 0);
        else
            for (char *p = word; p[0] && p[1]; p += 2) {
                const char byte[3] = { p[0], p[1], 0 };
                code[n++] = (u8)strtoul(byte, NULL, 16);
            }
    }
    return n;
}

/* Returns 0, or 1 if the block breaks a rule that has nothing to do with taste. */
static int one_case(struct golden *g, char *line, FILE *out)
{
    char *part[4] = { line };
    for (unsigned i = 1; i < 4; i++) {
        part[i] = strchr(part[i - 1], '|');
        if (!part[i]) return fprintf(stderr, "emit_golden: not a case: %s\n", line), 2;
        *part[i]++ = 0;
    }
    for (unsigned i = 0; i < 4; i++) part[i] = trim(part[i]);
    u8 code[256] = { 0 };
    laddr eip = EIP;
    struct xlf *f = &g->f[!strcmp(part[2], "window")];
    u32 mode = mode_named(part[1]);
    if (mode & MK_CSLIMIT) eip &= 0xffff;
    unsigned n = parse_code(part[3], code, &eip);
    xl_flush(f->xl);
    struct block *b = xlf_translate(f, eip, mode, code, mode & MK_CHECKED && n < 48 ? 48 : n);
    fprintf(out, "== %s (%s, %s): %u instructions, %u bytes\n", part[0], part[1], part[2], b->ninsns, b->host_len);
    print_guest(f, b, code, out);
    print_host(&g->h, f, b, out);
    const char *err = host_check_block(&g->h, f, b);
    if (!err) err = clone_case(g->f, eip, code, n);
    if (err) fprintf(stderr, "emit_golden: %s: %s\n", part[0], err);
    return err != NULL;
}

static int all_cases(const char *path, FILE *out)
{
    struct golden g;
    char line[512];
    int bad = 0;
    FILE *in = fopen(path, "r");
    if (!in) return perror(path), 2;
    for (unsigned i = 0; i < 2; i++) xlf_init(&g.f[i], 1 << 20, i, 0);
    host_check_init(&g.h);
    while (fgets(line, sizeof line, in)) {
        char *s = trim(line);
        if (*s == '#' || !*s) continue;
        if (strchr(s, '|')) bad |= one_case(&g, s, out);
        else fprintf(out, "\n==== %s ====\n", s);
    }
    host_check_free(&g.h);
    for (unsigned i = 0; i < 2; i++) xlf_free(&g.f[i]);
    fclose(in);
    return bad;
}

int main(int argc, char **argv)
{
    bool accept = argc == 4 && !strcmp(argv[1], "--accept");
    if (!accept && argc != 3) return fprintf(stderr, "usage: emit_golden [--accept] CASES EXPECTED\n"), 2;
    const char *cases = argv[argc - 2], *expected = argv[argc - 1];
    char fresh[] = "emit_golden.XXXXXX", command[4096];
    int fd = accept ? -1 : mkstemp(fresh);
    FILE *out = accept ? fopen(expected, "w") : fd < 0 ? NULL : fdopen(fd, "w");
    if (!out) return perror(accept ? expected : fresh), 2;
    int bad = all_cases(cases, out);
    if (fclose(out)) bad = 2;
    if (accept) return bad;
    snprintf(command, sizeof command, "diff -u '%s' '%s'", expected, fresh);
    if (!bad && system(command)) {
        printf("emit_golden: host code has changed. If that was the intention: tests/emit/accept.sh BUILD-DIRECTORY, "
               "and look at the diff\n");
        bad = 1;
    }
    unlink(fresh);
    return bad;
}
