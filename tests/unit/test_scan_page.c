/* Which pages of code may run directly: what a scan finds, from where it sweeps, what it lets pass. */
#include "runtime/scan_page.h"

#include <check.h>
#include <string.h>

#define AT 0x100
static u8 page[PAGE_SIZE], next[16];
static u16 starts[2];
static unsigned nstarts;
static u16 where;

static bool fit(const char *code, unsigned n, bool with_next)
{
    static struct decoder *d;
    if (!d) ck_assert_int_eq(decoder_new(&d), 0);
    memset(page, 0x90, sizeof page);
    memcpy(page + AT, code, n);
    struct code_page_bytes bytes = { page, with_next ? next : NULL, starts, nstarts };
    return scan_page(d, &bytes, &where);
}
#define FIT(code) fit(code, sizeof(code) - 1, false)

START_TEST(finds_what_does_not_trap)
{
    static const struct { const char *code; unsigned n; } bad[] = {
#define C(s) { s, sizeof(s) - 1 }
        C("\x0f\xa2"), C("\x0f\x01\x00"), C("\x0f\x01\x08"), C("\x0f\x00\xc0"), C("\x0f\x00\xc8"), C("\x0f\x01\xe0"), /* CPUID SGDT SIDT SLDT STR SMSW */
        C("\x0f\x02\xc1"), C("\x0f\x03\xc1"), C("\x0f\x00\xe1"), C("\x0f\x00\xe9"), C("\x63\xc8"),                     /* LAR LSL VERR VERW ARPL */
        C("\x8c\xd8"), C("\x8e\xd8"), C("\x06"), C("\x07"), C("\x0e"), C("\x0f\xa0"), C("\x0f\xa9"), C("\x1f"),       /* segment registers */
        C("\xc5\x00"), C("\xc4\x00"), C("\x0f\xb4\x00"), C("\xea\0\0\0\0\x33\0"), C("\x9a\0\0\0\0\x33\0"),            /* LDS LES LFS far transfers */
        C("\xff\x18"), C("\xff\x28"), C("\xcb"), C("\xca\x04\x00"), C("\xcf"),
        C("\x0f\x34"), C("\x0f\x05"), C("\xcd\x03"), C("\xcd\x04"), C("\xce"), C("\xf1"),                             /* SYSENTER SYSCALL INT 3 INT 4 INTO INT1 */
        C("\x66\x0f\xa2"), C("\x2e\x8c\x18"),                                                                         /* with prefixes */
#undef C
    };
    nstarts = 0;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(!fit(bad[i].code, bad[i].n, false), "case %u", i);
        ck_assert_msg(where == AT, "case %u: found at %x", i, where);
    }
}
END_TEST

START_TEST(lets_pass_what_traps_or_is_alike)
{
    nstarts = 0;
    ck_assert(FIT("\xcd\x80"));         /* INT 80h */
    ck_assert(FIT("\xcd\x21"));
    ck_assert(FIT("\xcc"));
    ck_assert(FIT("\x9c\x9d"));         /* PUSHF POPF */
    ck_assert(FIT("\x0f\x31"));         /* RDTSC */
    ck_assert(FIT("\xf4\xfa\xfb\xec\xef\x6c\x6f"));
    ck_assert(FIT("\x0f\x22\xc0\x0f\x30\x0f\x32\x0f\x01\x10"));
    ck_assert(FIT("\xb8\x0f\xa2\x0f\xa2"));         /* CPUID in a constant */
    ck_assert(FIT("\x0f\x0b\x0f\xff"));
}
END_TEST

START_TEST(sweeps_from_known_starts)
{
    nstarts = 0;
    ck_assert(FIT("\xb8\x0f\xa2\x90\x90"));
    starts[0] = AT + 1, nstarts = 1;
    ck_assert(!FIT("\xb8\x0f\xa2\x90\x90"));
    ck_assert_uint_eq(where, AT + 1);
    starts[0] = 3;
    ck_assert(FIT("\xb8\x0f\xa2\x90\x90"));
}
END_TEST

START_TEST(believes_the_top_of_a_page_only_when_it_is_known)
{
    static struct decoder *d;
    ck_assert_int_eq(decoder_new(&d), 0);
    memset(page, 0x90, sizeof page);
    memcpy(page, "\x0f\xa2", 2);
    struct code_page_bytes bytes = { page, NULL, starts, 0 };
    ck_assert(scan_page(d, &bytes, &where)); /* the end of an instruction that began on the page before, perhaps */
    starts[0] = 0, bytes.nstarts = 1;
    ck_assert(!scan_page(d, &bytes, &where));
    decoder_free(d);
}
END_TEST

START_TEST(looks_across_the_page_end)
{
    static struct decoder *d;
    ck_assert_int_eq(decoder_new(&d), 0);
    memset(page, 0x90, sizeof page);
    memset(next, 0x90, sizeof next);
    page[PAGE_SIZE - 1] = 0x0f;
    struct code_page_bytes bytes = { page, next, starts, 0 };
    next[0] = 0xaf;
    ck_assert(scan_page(d, &bytes, &where));
    next[0] = 0xa2;
    ck_assert(!scan_page(d, &bytes, &where));
    ck_assert_uint_eq(where, PAGE_SIZE - 1);
    decoder_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan_page");
    TCase *tc = tcase_create("scan_page");
    tcase_add_test(tc, finds_what_does_not_trap);
    tcase_add_test(tc, lets_pass_what_traps_or_is_alike);
    tcase_add_test(tc, sweeps_from_known_starts);
    tcase_add_test(tc, believes_the_top_of_a_page_only_when_it_is_known);
    tcase_add_test(tc, looks_across_the_page_end);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
