/* scan.c: where a block ends, and what happens where a page does. */
#include "tests/emit/xl_fixture.h"

#include <check.h>

static struct xlf f;
static struct scan x;
static struct xl_source src;

static void setup(void) { xlf_init(&f, XL_CACHE_MIN, false, 0); }
static void teardown(void) { xlf_free(&f); }

/* n bytes of code at eip; those that do not fit into its page are on the next one, which is present iff pa2 is. */
static void scan(laddr eip, paddr pa2, const char *bytes, unsigned n)
{
    src = xlf_source2(eip, eip, pa2, MODE_FLAT, (const u8 *)bytes, n);
    xl_scan(&x, &src, f.dec, ~0u);
}
#define SCAN(eip, bytes) scan(eip, 0x900000, bytes, sizeof(bytes) - 1)

START_TEST(instructions_follow_each_other)
{
    SCAN(0x401000, "\x40\x83\xc0\x05\x8b\x03\xc3\x90");
    const laddr eip[] = { 0x401000, 0x401001, 0x401004, 0x401006 };
    ck_assert_uint_eq(x.n, 4);
    for (unsigned i = 0; i < 4; i++) ck_assert_uint_eq(x.insn[i].eip, eip[i]);
    ck_assert(!x.straddles && !x.partial);
}
END_TEST

START_TEST(what_ends_a_block_is_its_last_instruction)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } last[] = {
        { "\xc3", 1 },     { "\xeb\x00", 2 }, { "\x74\x00", 2 },     { "\xe8\0\0\0\0", 5 },
        { "\xff\xe0", 2 }, { "\xcd\x80", 2 }, { "\xf4", 1 }, /* transfers, HLT */
        { "\x8e\xd8", 2 }, { "\x9d", 1 },     { "\x0f\x22\xd8", 3 }, { "\x0f\x01\x38", 3 },
        { "\xcf", 1 },                        /* mode changes */
        { "\x0f\x0b", 2 }, { "\x0f\xff", 2 }, /* undefined */
    };
    for (unsigned i = 0; i < ARRAY_LEN(last); i++) {
        char code[16];
        memset(code, 0x40, sizeof code);
        memcpy(code + 1, last[i].bytes, last[i].n);
        scan(0x401000, XL_NO_PAGE, code, sizeof code);
        ck_assert_msg(x.n == 2, "case %u: %u instructions", i, x.n);
    }
}
END_TEST

START_TEST(a_block_has_at_most_so_many_instructions)
{
    char code[200];
    memset(code, 0x40, sizeof code);
    scan(0x401000, XL_NO_PAGE, code, sizeof code);
    ck_assert_uint_eq(x.n, XL_MAX_INSNS);
}
END_TEST

START_TEST(the_page_ends_a_block)
{
    SCAN(0x401ffe, "\x40\x43\x40\x43");
    ck_assert_uint_eq(x.n, 2);
    ck_assert_uint_eq(x.insn[1].next, 0x402000);
    ck_assert(!x.straddles && !x.before_straddling);
}
END_TEST

START_TEST(a_straddling_instruction_is_a_block_of_its_own)
{
    SCAN(0x401ffd, "\x40\x83\xc0\x05\x43"); /* add eax, 5 begins two bytes before the end */
    ck_assert_uint_eq(x.n, 1);
    ck_assert(!x.straddles && x.before_straddling);
    SCAN(0x401ffe, "\x83\xc0\x05\x43");
    ck_assert_uint_eq(x.n, 1);
    ck_assert(x.straddles && !x.before_straddling);
    ck_assert_uint_eq(x.insn[0].len, 3);
    ck_assert_int_eq(x.insn[0].op, OP_ADD);
    ck_assert_uint_eq(x.insn[0].next, 0x402001);
}
END_TEST

START_TEST(every_split_of_a_long_instruction_decodes)
{
    /* add dword ptr fs:[eax+ecx*4+0x12345678], 0x9abcdef0 */
    static const char code[] = "\x64\x81\x84\x88\x78\x56\x34\x12\xf0\xde\xbc\x9a\xc3";
    for (unsigned first = 1; first < 12; first++) {
        SCAN(0x402000 - first, code);
        ck_assert_msg(x.n == 1 && x.straddles && x.insn[0].len == 12 && x.insn[0].imm == 0x9abcdef0, "split after %u",
                      first);
    }
}
END_TEST

START_TEST(without_the_next_page_the_interpreter_will_say)
{
    scan(0x401ffe, XL_NO_PAGE, "\x83\xc0\x05", 3);
    ck_assert_uint_eq(x.n, 1);
    ck_assert(x.partial && !x.straddles);
    ck_assert_ptr_eq(x.insn[0].row, &insn_rows[INSN_INVALID]);
    ck_assert_uint_eq(x.insn[0].len, 1);
}
END_TEST

START_TEST(too_many_prefixes_are_an_undecodable_instruction_not_a_partial_one)
{
    char code[32];
    memset(code, 0x66, sizeof code);
    scan(0x401000, XL_NO_PAGE, code, sizeof code);
    ck_assert_uint_eq(x.n, 1);
    ck_assert(!x.partial && !x.straddles);
    scan(0x401ff8, 0x900000, code, sizeof code); /* eight of them before the page ends */
    ck_assert_uint_eq(x.n, 1);
    ck_assert(!x.partial && !x.straddles);
}
END_TEST

START_TEST(what_cannot_be_decoded_comes_first_in_a_block_of_its_own)
{
    char code[32];
    memset(code, 0x66, sizeof code);
    code[0] = 0x40;
    scan(0x401000, XL_NO_PAGE, code, sizeof code);
    ck_assert_uint_eq(x.n, 1);
    ck_assert_int_eq(x.insn[0].op, OP_INC);
}
END_TEST

START_TEST(the_last_page_is_followed_by_the_first)
{
    SCAN(0xfffffffe, "\x83\xc0\x05\x43");
    ck_assert(x.straddles);
    ck_assert_uint_eq(x.insn[0].next, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan");
    TCase *t = tcase_create("blocks");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, instructions_follow_each_other);
    tcase_add_test(t, what_ends_a_block_is_its_last_instruction);
    tcase_add_test(t, a_block_has_at_most_so_many_instructions);
    tcase_add_test(t, the_page_ends_a_block);
    tcase_add_test(t, a_straddling_instruction_is_a_block_of_its_own);
    tcase_add_test(t, every_split_of_a_long_instruction_decodes);
    tcase_add_test(t, without_the_next_page_the_interpreter_will_say);
    tcase_add_test(t, too_many_prefixes_are_an_undecodable_instruction_not_a_partial_one);
    tcase_add_test(t, what_cannot_be_decoded_comes_first_in_a_block_of_its_own);
    tcase_add_test(t, the_last_page_is_followed_by_the_first);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
