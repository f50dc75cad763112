/* recover.c: host pc to guest instruction, islands and all. */
#include "tests/emit/xl_fixture.h"

#include <check.h>

static struct xlf f;
static void setup(void) { xlf_init(&f, 1 << 20, false, 0); }
static void teardown(void) { xlf_free(&f); }

#define EIP 0x00401000u

static struct xl_point at(const struct block *b, u32 off)
{
    struct xl_point p;
    ck_assert(xl_recover(f.xl, (u64)xl_entry(f.xl, b) + off, &p));
    ck_assert_ptr_eq(p.block, b);
    return p;
}

/* Host offset of the nth occurrence of some bytes. */
static u32 find(const struct block *b, const char *bytes, unsigned n, unsigned nth)
{
    for (u32 i = 0; i + n <= b->host_len; i++)
        if (!memcmp(xlf_host(&f, b) + i, bytes, n) && nth-- == 0) return i;
    ck_abort_msg("the host code has no such bytes");
    return 0;
}

START_TEST(registers_only)
{
    static const u8 code[] = { 0x40, 0x83, 0xc0, 0x05, 0xf7, 0xf1, 0xc3 }; /* inc eax; add eax, 5; div ecx; ret */
    struct block *b = xlf_translate(&f, EIP, MODE_FLAT, code, sizeof code);
    ck_assert_uint_eq(at(b, 0).eip, EIP);
    ck_assert_uint_eq(at(b, find(b, "\x83\xc0\x05", 3, 0)).eip, EIP + 1);
    ck_assert_uint_eq(at(b, find(b, "\xf7\xf1", 2, 0)).eip, EIP + 4);
    ck_assert_uint_eq(at(b, b->host_len - 1).eip, EIP + 6);
}
END_TEST

/* Four loads and then RET: each TLB miss is an island at the end or after the second load, and belongs to its own load.
 */
START_TEST(an_island_belongs_to_the_instruction_that_branches_to_it)
{
    static const u8 code[] = { 0x8b, 0x03, 0x8b, 0x0b, 0x8b, 0x13, 0x8b, 0x33, 0xc3 };
    struct block *b = xlf_translate(&f, EIP, MODE_FLAT, code, sizeof code);
    char call[4] = { 0x41, (char)0xff, 0x57, (char)(offsetof(struct cpu, callouts) + 8 * CALLOUT_TLB) };
    const laddr eip[] = { EIP, EIP + 2, EIP + 4, EIP + 6, EIP + 8 };
    for (unsigned i = 0; i < 5; i++) {
        u32 off = find(b, call, 4, i);
        ck_assert_uint_eq(at(b, off).eip, eip[i]);
        ck_assert_uint_eq(at(b, off + 3).eip, eip[i]); /* return address - 1: what CALLOUT_EMULATE reports */
    }
}
END_TEST

START_TEST(both_accesses_of_one_instruction_are_that_instruction)
{
    static const u8 code[] = { 0x40, 0xff, 0x33, 0x43, 0xc3 }; /* inc eax; push [ebx]; inc ebx; ret */
    struct block *b = xlf_translate(&f, EIP, MODE_FLAT, code, sizeof code);
    u32 load = find(b, "\x47\x8b\x1c\x01", 4, 0), store = find(b, "\x47\x89\x1c\x01", 4, 0); /* mov r11d, [r9+r8]; mov
                                                                                                [r9+r8], r11d */
    ck_assert_uint_eq(at(b, load).eip, EIP + 1);
    ck_assert_uint_eq(at(b, store).eip, EIP + 1);
    ck_assert_uint_eq(at(b, find(b, "\xff\xc3", 2, 0)).eip, EIP + 3); /* inc ebx */
}
END_TEST

START_TEST(the_site_of_an_instruction_on_the_second_page)
{
    static const u8 code[] = { 0x8b, 0x83, 0x00, 0x10, 0x00, 0x00, 0xc3 }; /* mov eax, [ebx+0x1000], split after two
                                                                              bytes */
    struct xl_source src = xlf_source2(EIP + 0xffe, 0x5ffe, 0x9000, MODE_FLAT, code, sizeof code);
    bool evicted;
    struct block *b = xl_translate(f.xl, &src, &evicted);
    ck_assert_uint_eq(b->ninsns, 1);
    ck_assert_uint_eq(at(b, 0).pa, 0x5ffe);
    ck_assert_uint_eq(at(b, b->host_len - 1).pa, 0x5ffe);
}
END_TEST

START_TEST(retired_and_forgotten_code_is_still_recovered)
{
    static const u8 code[] = { 0x8b, 0x03, 0xc3 };
    struct block *b = xlf_translate(&f, EIP, MODE_FLAT, code, sizeof code);
    xl_retire(f.xl, EIP, 1); /* by a helper, while it runs */
    ck_assert_uint_eq(at(b, 0).eip, EIP);
    xl_forget(f.xl, b);
    ck_assert_uint_eq(at(b, 0).eip, EIP);
}
END_TEST

START_TEST(other_addresses_are_not_recovered)
{
    static const u8 code[] = { 0xc3 };
    struct xl_point p;
    ck_assert(!xl_recover(f.xl, (u64)f.xl->rx, &p));
    struct block *b = xlf_translate(&f, EIP, MODE_FLAT, code, sizeof code);
    ck_assert(!xl_recover(f.xl, (u64)xl_entry(f.xl, b) + b->host_len, &p)); /* its records lie there */
    ck_assert(!xl_recover(f.xl, (u64)xl_entry(f.xl, b) - 1, &p));
    ck_assert(!xl_recover(f.xl, (u64)f.xl->rw, &p));
    ck_assert(!xl_recover(f.xl, 0, &p));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recover");
    TCase *t = tcase_create("points");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, registers_only);
    tcase_add_test(t, an_island_belongs_to_the_instruction_that_branches_to_it);
    tcase_add_test(t, both_accesses_of_one_instruction_are_that_instruction);
    tcase_add_test(t, the_site_of_an_instruction_on_the_second_page);
    tcase_add_test(t, retired_and_forgotten_code_is_still_recovered);
    tcase_add_test(t, other_addresses_are_not_recovered);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
