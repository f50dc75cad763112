/* Which code may run without supervision: one instruction at a time, and whole pages. */
#include "runtime/direct/scan_page.h"

#include <check.h>
#include <string.h>

static struct decoder *dec;
static u8 page[PAGE_SIZE];
static u16 where;

static void setup(void)
{
    ck_assert_int_eq(decoder_new(&dec), 0);
    memset(page, 0x90, sizeof page);
}
static void teardown(void) { decoder_free(dec); }

static bool scan(const u16 *starts, unsigned n, const u8 *next)
{
    const struct code_page_bytes p = { page, next, starts, n };
    where = 0xffff;
    return scan_page(dec, &p, &where);
}

static void put(unsigned at, const char *hex)
{
    unsigned v;
    for (int n; sscanf(hex, "%x%n", &v, &n) == 1; hex += n) page[at++] = (u8)v;
}

/* What the processor would do for itself instead of for the guest, without a trap. */
/* clang-format off */
static const char *const sensitive[] = {
    "0f a2" /* cpuid */, "0f 34" /* sysenter */, "0f 01 00" /* sgdt [eax] */, "0f 01 08" /* sidt */,
    "0f 00 c0" /* sldt eax */, "0f 00 c8" /* str */,
    "0f 01 e0" /* smsw */, "0f 02 c0" /* lar */, "0f 03 c0" /* lsl */, "0f 00 e0" /* verr */, "0f 00 e8" /* verw */,
    "63 c8" /* arpl */,
    "8c d8" /* mov eax, ds */, "8e e8" /* mov gs, eax */, "8e d8" /* mov ds */, "8e d0" /* mov ss */,
    "06" /* push es */, "07" /* pop es */, "1f" /* pop ds */,
    "17" /* pop ss */, "0f a9" /* pop gs */, "0f a0" /* push fs */, "c5 00" /* lds eax, [eax] */, "c4 00" /* les */,
    "0f b2 00" /* lss */, "cf" /* iret */,
    "cb" /* retf */, "ca 04 00", "ff 18" /* call far [eax] */, "ff 28" /* jmp far [eax] */, "9a 00 00 00 00 33 00",
    "ea 00 00 00 00 33 00", "ce" /* into */,
    "0f 05" /* syscall */, "cd 03", "cd 04", "f1" /* int1 */, "66 8c d8", "2e 0f a2" /* with a prefix */,
};
/* clang-format on */
/* What traps, or gives the guest's own result. */
/* clang-format off */
static const char *const harmless[] = {
    "9c" /* pushf */, "9d" /* popf */, "0f 31" /* rdtsc */, "cd 80", "cd 21", "cc" /* int3 */, "f4" /* hlt */,
    "fa" /* cli */, "fb", "e4 10" /* in */,
    "ec", "6c" /* ins */, "0f 20 c0" /* mov eax, cr0 */, "0f 22 c0", "0f 0b" /* ud2 */, "0f 08" /* invd */,
    "0f 06" /* clts */, "0f 32" /* rdmsr */, "c3", "e8 00 00 00 00",
    "65 a1 14 00 00 00" /* mov eax, gs:[14h] */, "89 c8", "f3 a4", "0f 0d 00", "d9 c0", "0f 58 c1",
};
/* clang-format on */

START_TEST(each_sensitive_instruction_is_found)
{
    const u16 start = 0x100;
    put(0x100, sensitive[_i]);
    ck_assert_msg(!scan(&start, 1, NULL), "%s passes", sensitive[_i]);
    ck_assert_msg(where == 0x100, "%s found at %03x", sensitive[_i], where);
}
END_TEST

START_TEST(each_harmless_instruction_passes)
{
    const u16 start = 0x100;
    put(0x100, harmless[_i]);
    ck_assert_msg(scan(&start, 1, NULL), "%s is found at %03x", harmless[_i], where);
}
END_TEST

START_TEST(bytes_inside_an_instruction_are_not_instructions)
{
    const u16 start = 0x100;
    put(0x100, "b8 0f a2 0f a2"); /* mov eax, imm32 */
    ck_assert(scan(&start, 1, NULL));
    const u16 inside[] = { 0x100, 0x101 }; /* unless something jumps there */
    ck_assert(!scan(inside, 2, NULL));
    ck_assert_uint_eq(where, 0x101);
}
END_TEST

START_TEST(the_page_is_swept_from_its_top_too)
{
    put(0x800, "0f a2");
    ck_assert(!scan(NULL, 0, NULL));
    ck_assert_uint_eq(where, 0x800);
}
END_TEST

START_TEST(the_first_bytes_may_belong_to_an_instruction_of_the_page_before)
{
    put(0, "cf 0f a2"); /* the rest of an immediate, say */
    ck_assert(scan(NULL, 0, NULL));
    const u16 start = 1;
    ck_assert(!scan(&start, 1, NULL));
}
END_TEST

START_TEST(an_instruction_that_straddles_is_seen_whole)
{
    const u8 cpuid_next[16] = { 0xa2 }, other_next[16] = { 0xaf, 0xc0 };
    put(PAGE_SIZE - 1, "0f");
    ck_assert(!scan(NULL, 0, cpuid_next));
    ck_assert_uint_eq(where, PAGE_SIZE - 1);
    ck_assert(scan(NULL, 0, other_next)); /* imul eax, eax */
}
END_TEST

START_TEST(data_between_functions_does_not_hide_what_follows)
{
    const u16 start = 0x40;
    memset(page + 0x80, 0xff, 64); /* no instruction at all */
    put(0x200, "8e e8");
    ck_assert(!scan(&start, 1, NULL));
    ck_assert_uint_eq(where, 0x200);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan_page");
    TCase *t = tcase_create("scan_page");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, each_sensitive_instruction_is_found, 0, ARRAY_LEN(sensitive));
    tcase_add_loop_test(t, each_harmless_instruction_passes, 0, ARRAY_LEN(harmless));
    tcase_add_test(t, bytes_inside_an_instruction_are_not_instructions);
    tcase_add_test(t, the_page_is_swept_from_its_top_too);
    tcase_add_test(t, the_first_bytes_may_belong_to_an_instruction_of_the_page_before);
    tcase_add_test(t, an_instruction_that_straddles_is_seen_whole);
    tcase_add_test(t, data_between_functions_does_not_hide_what_follows);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
