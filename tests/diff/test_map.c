/* Walks the opcode map: all opcodes of one, two and three bytes, all ModRM bytes, all mandatory prefixes, for each CPU
 * model. What direct execution would run (scan_is_sensitive() says no) must be what the guest's processor does:
 *
 *   capstone: an instruction that the model has is the same with a prefix as without; what the model has not, capstone
 *   has not either, or it is #UD everywhere.
 *   the host's processor: what the model has not is #UD. (What it has is compared in diff_test.) */
#include <capstone/capstone.h>
#include <check.h>
#include <string.h>

#include "runtime/cpu/cpu_models.h"
#include "runtime/direct/scan_page.h"
#include "tests/diff/native.h"
#include "translator/front/decode.h"

static const u8 prefixes[][3] = { { 0 },          { 0x66 },       { 0xf3 },       { 0xf2 },
                                  { 0x66, 0xf3 }, { 0x66, 0xf2 }, { 0xf2, 0xf3 }, { 0xf3, 0xf2 } };
static const u8 escapes[4][2] = { { 0 }, { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };

/* ck_assert() costs a system call even where it holds. */
#define EXPECT(cond, ...)                       \
    do {                                        \
        if (!(cond)) ck_abort_msg(__VA_ARGS__); \
    } while (0)

/* One point of the map. */
struct point {
    u8 bytes[15];
    unsigned opcode_at; /* where the prefixes end */
};

/* Number n of the map, or false: it is a prefix or an escape, and comes under the points behind it. */
static bool point_at(unsigned n, struct point *p)
{
    unsigned modrm = n & 0xff, opcode = n >> 8 & 0xff, map = n >> 16 & 3, prefix = n >> 18, at = 0;
    memset(p, 0, sizeof(*p));
    for (unsigned i = 0; i < 3 && prefixes[prefix][i]; i++) p->bytes[at++] = prefixes[prefix][i];
    p->opcode_at = at;
    for (unsigned i = 0; i < 2 && escapes[map][i]; i++) p->bytes[at++] = escapes[map][i];
    p->bytes[at++] = (u8)opcode;
    p->bytes[at++] = (u8)modrm;
    switch (map << 8 | opcode) {
    case 0x0f:
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
    case 0x138:
    case 0x13a: return false;
    default: return true;
    }
}
#define POINTS (ARRAY_LEN(prefixes) << 18)

static struct decoder *dec;
static csh cs;
static cs_insn *text;

static void setup(void)
{
    ck_assert_int_eq(decoder_new(&dec), 0);
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_32, &cs), CS_ERR_OK);
    text = cs_malloc(cs);
}
static void teardown(void)
{
    cs_free(text, 1);
    cs_close(&cs);
    decoder_free(dec);
}

/* Capstone's name of what is at bytes, without prefixes that do not choose the instruction; "" if it knows none. */
static void name_of(const u8 *bytes, char name[32])
{
    static const char *const ignored[] = { "rep ", "repe ",     "repne ",    "repz ", "repnz ",
                                           "bnd ", "xacquire ", "xrelease ", "lock ", "notrack " };
    const uint8_t *code = bytes;
    size_t left = 15;
    uint64_t at = 0x1000;
    const char *p = cs_disasm_iter(cs, &code, &left, &at, text) ? text->mnemonic : "";
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        if (!strncmp(p, ignored[i], strlen(ignored[i]))) p += strlen(ignored[i]), i = ~0u;
    snprintf(name, 32, "%s", p);
}

/* A host that has everything. */
static struct scan_rules newest(u32 features)
{
    return (struct scan_rules){ .features = features, .tzcnt = true, .lzcnt = true, .wide_mxcsr = true };
}

/* Capstone reports UD0 to UD2, MOV CS and the like, which are #UD. */
static bool is_ud(const char *name)
{
    return !*name || !strcmp(name, "ud0") || !strcmp(name, "ud2") || !strcmp(name, "ud2b") || !strcmp(name, "ud1");
}

START_TEST(what_would_run_directly_is_what_capstone_reads)
{
    const struct cpu_model *m = cpu_model_at((unsigned)_i);
    const struct scan_rules rules = newest(m->features);
    unsigned long fit = 0, unfit = 0;
    for (unsigned n = 0; n < POINTS; n++) {
        struct point p;
        struct insn in;
        char name[32], plain[32];
        if (!point_at(n, &p)) continue;
        EXPECT(decode(dec, p.bytes, 15, 0x1000, true, m->features, &in) == DECODE_OK, "point %x", n);
        if (scan_is_sensitive(&rules, &in)) {
            unfit++;
            continue;
        }
        fit++;
        name_of(p.bytes, name);
        if (in.id == INSN_INVALID) {
            bool mov_cs = p.bytes[p.opcode_at] == 0x8e;
            EXPECT(is_ud(name) || mov_cs, "%s: %02x %02x %02x %02x is no instruction, would run, and is %s", m->name,
                   p.bytes[0], p.bytes[1], p.bytes[2], p.bytes[3], name);
        } else if (in.row->pfx == PFX_ANY && in.op != OP_NOP) { /* hints have many names */
            name_of(p.bytes + p.opcode_at, plain);
            bool sized = in.prefixes & IP_OPSIZE; /* then it may be CWD for CDQ, MOVSW for MOVSD */
            EXPECT(sized || !*name || !*plain || !strcmp(name, plain) || in.op == OP_PAUSE,
                   "%s: %02x %02x %02x %02x is %s, would run, and is %s", m->name, p.bytes[0], p.bytes[1], p.bytes[2],
                   p.bytes[3], plain, name);
        }
    }
    ck_assert_uint_gt(fit, 100000);
    ck_assert_uint_gt(unfit, 100000);
}
END_TEST

START_TEST(capstone_tells_a_redefined_instruction_from_the_old_one)
{
    static const u8 bsf[15] = { 0x0f, 0xbc, 0xc1 }, tzcnt[15] = { 0xf3, 0x0f, 0xbc, 0xc1 };
    char old[32], new[32];
    name_of(bsf, old);
    name_of(tzcnt, new);
    ck_assert_str_eq(old, "bsf");
    ck_assert_str_eq(new, "tzcnt");
}
END_TEST

/* ---- the processor ---- */

static void run_batch(struct native *native, unsigned n)
{
    struct diff_shared *s = native_shared(native);
    ck_assert_int_eq(native_run(native, n), 0);
    for (unsigned i = 0; i < n; i++)
        EXPECT(s->results[i].out.vector == V_UD, "%02x %02x %02x %02x %02x: vector %u, not #UD", s->cases[i].code[0],
               s->cases[i].code[1], s->cases[i].code[2], s->cases[i].code[3], s->cases[i].code[4],
               s->results[i].out.vector);
}

START_TEST(what_the_model_has_not_and_would_run_is_ud_here)
{
    struct native *native;
    struct scan_rules rules = scan_rules_of_host(cpu_model_find("n270")->features);
    unsigned n = 0, asked = 0;
    if (native_probe(NATIVE_DIR "/native_probe")) return; /* the host runs no 32-bit code */
    ck_assert_int_eq(native_new(&native, NATIVE_DIR "/native_child"), 0);
    struct diff_shared *s = native_shared(native);
    for (unsigned i = 0; i < POINTS; i++) {
        struct point p;
        struct insn in;
        if (!point_at(i, &p)) continue;
        EXPECT(decode(dec, p.bytes, 15, CODE_BASE, true, rules.features, &in) == DECODE_OK, "point %x", i);
        if (in.id != INSN_INVALID || scan_is_sensitive(&rules, &in)) continue;
        struct diff_case *k = &s->cases[n++];
        memset(k, 0, sizeof(*k));
        memcpy(k->code, p.bytes, sizeof(p.bytes));
        k->ncode = sizeof(p.bytes);
        for (unsigned r = 0; r < 8; r++) k->in.gpr[r] = r == G_ESP ? STACK_BASE + 0x800 : DATA_BASE + 0x800;
        k->in.eip = CODE_BASE;
        k->in.eflags = F_IF | F_FIXED;
        k->in.fx[0] = 0x7f, k->in.fx[1] = 0x03;
        k->in.fx[24] = 0x80, k->in.fx[25] = 0x1f;
        asked++;
        if (n == BATCH) run_batch(native, n), n = 0;
    }
    if (n) run_batch(native, n);
    ck_assert_uint_gt(asked, 1000);
    native_free(native);
}
END_TEST

int main(void)
{
    int models = 0;
    while (cpu_model_at((unsigned)models)) models++;
    Suite *s = suite_create("map");
    TCase *t = tcase_create("map");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_would_run_directly_is_what_capstone_reads, 0, models);
    tcase_add_test(t, capstone_tells_a_redefined_instruction_from_the_old_one);
    tcase_add_test(t, what_the_model_has_not_and_would_run_is_ud_here);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
