/* LOCK, XCHG and the fences: kept where others use the guest's memory, gone where nobody does. */
#include "tests/emit/xl_fixture.h"
#include "tests/insn_encode.h"

#include <capstone/capstone.h>
#include <check.h>

static csh cs;
static struct xlf on[2], off[2]; /* with a window and without; [1]: shared */
static void setup(void)
{
    for (unsigned i = 0; i < 2; i++) {
        xlf_init(&on[i], 1 << 20, true, 0);
        xlf_init(&off[i], 1 << 20, false, 0);
        on[i].xl->cfg.opt.shared = off[i].xl->cfg.opt.shared = i;
    }
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_64, &cs), CS_ERR_OK);
    cs_option(cs, CS_OPT_DETAIL, CS_OPT_ON);
}
static void teardown(void)
{
    for (unsigned i = 0; i < 2; i++) xlf_free(&on[i]), xlf_free(&off[i]);
    cs_close(&cs);
}

/* What of that is in a block. */
struct seen {
    unsigned locked; /* instructions with LOCK, or XCHG with memory */
    unsigned fences;
};

static struct seen look(const struct xlf *f, const struct block *b)
{
    struct seen seen = { 0 };
    const u8 *code = xlf_host(f, b);
    size_t left = b->host_len;
    u64 addr = 0;
    cs_insn *ci = cs_malloc(cs);
    while (left && cs_disasm_iter(cs, &code, &left, &addr, ci)) {
        const cs_x86 *x = &ci->detail->x86;
        bool mem = false;
        for (unsigned i = 0; i < x->op_count; i++)
            mem |= x->operands[i].type == X86_OP_MEM && x->operands[i].mem.base != X86_REG_R15
                   && x->operands[i].access & CS_AC_WRITE;
        seen.locked += x->prefix[0] == X86_PREFIX_LOCK || (ci->id == X86_INS_XCHG && mem);
        seen.fences += ci->id == X86_INS_MFENCE || ci->id == X86_INS_SFENCE || ci->id == X86_INS_LFENCE;
    }
    cs_free(ci, 1);
    return seen;
}

static struct seen translate(const u8 *code, unsigned n, bool window, bool shared, bool *emulated)
{
    struct xlf *f = window ? &on[shared] : &off[shared];
    u8 padded[32];
    memset(padded, 0x90, sizeof padded);
    memcpy(padded, code, n);
    struct block *b = xlf_translate(f, 0x401000, MODE_FLAT, padded, sizeof padded);
    *emulated = b->ninsns == 1; /* that ends a block */
    return look(f, b);
}

static bool names_high_byte(const struct insn_row *row, unsigned modrm)
{
    return (row->enc[0] == ENC_Gb || row->enc[1] == ENC_Gb) && (modrm >> 3 & 7) >= 4;
}

/* One of each row that may be locked, with [ebx] and each register; window and soft TLB. */
START_TEST(what_the_guest_locks_is_locked_where_memory_is_shared_and_not_where_it_is_not)
{
    unsigned rows = 0;
    for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        if (!(row->attr & A_LOCK)) continue;
        rows++;
        for (unsigned reg = 0; reg < 8; reg++)
            for (unsigned kind = 0; kind < 8; kind++) {
                bool window = kind & 1, shared = kind & 2, prefix = kind & 4, emulated;
                if (!prefix && !(row->attr & A_LOCKED)) continue;
                struct encoding e = {
                    .prefix = { 0xf0 }, .nprefix = prefix, .modrm = (u8)(reg << 3 | 3), .imm = 1, .code32 = true
                };
                u8 code[32];
                unsigned n = insn_encode(row, &e, code);
                struct seen seen = translate(code, n, window, shared, &emulated);
                ck_assert_msg(!emulated || (shared && names_high_byte(row, e.modrm)),
                              "%s, register %u, kind %u: emulated", row->name, reg, kind);
                if (emulated) continue;
                /* A byte is exchanged as the guest does it: its registers need no other encoding. */
                bool expected = shared || (row->op == OP_XCHG && row->enc[0] == ENC_Eb);
                ck_assert_msg(seen.locked == expected, "%s, register %u, window %d, shared %d, prefix %d: %u locked",
                              row->name, reg, window, shared, prefix, seen.locked);
            }
    }
    ck_assert_uint_gt(rows, 40);
}
END_TEST

START_TEST(fences_stay_where_memory_is_shared)
{
    static const u8 fence[3][3] = { { 0x0f, 0xae, 0xf0 }, { 0x0f, 0xae, 0xf8 }, { 0x0f, 0xae, 0xe8 } };
    bool emulated;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(translate(fence[i], 3, true, true, &emulated).fences, 1);
        ck_assert_uint_eq(translate(fence[i], 3, true, false, &emulated).fences, i == 2); /* LFENCE: RDTSC */
    }
}
END_TEST

/* mov [ebx], ah: through a window the byte is read and written back first, which could undo another's write. */
START_TEST(a_byte_is_not_written_back_where_memory_is_shared)
{
    bool emulated;
    (void)translate((const u8 *)"\x88\x23", 2, true, true, &emulated);
    ck_assert(emulated);
    (void)translate((const u8 *)"\x88\x23", 2, true, false, &emulated);
    ck_assert(!emulated);
    (void)translate((const u8 *)"\x8a\x23", 2, true, true, &emulated); /* mov ah, [ebx] */
    ck_assert(!emulated);
}
END_TEST

START_TEST(templates_of_the_one_do_not_serve_the_other)
{
    ck_assert(xl_templates_key(on[0].xl) != xl_templates_key(on[1].xl));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("locked");
    TCase *t = tcase_create("locked");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_the_guest_locks_is_locked_where_memory_is_shared_and_not_where_it_is_not);
    tcase_add_test(t, fences_stay_where_memory_is_shared);
    tcase_add_test(t, a_byte_is_not_written_back_where_memory_is_shared);
    tcase_add_test(t, templates_of_the_one_do_not_serve_the_other);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
