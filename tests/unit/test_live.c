/* live.c: which arithmetic flags matter after each instruction. */
#include "tests/emit/xl_fixture.h"

#include <check.h>

static struct xlf f;
static struct xl_ctx x;
static struct xl_source src;

static void setup(void) { xlf_init(&f, XL_CACHE_MIN, false, 0); }
static void teardown(void) { xlf_free(&f); }

static void live(const char *bytes, unsigned n)
{
    src = xlf_source(0x401000, MODE_FLAT, (const u8 *)bytes, n);
    x = (struct xl_ctx){ .xl = f.xl, .src = &src };
    xl_scan(&x);
    xl_live(&x);
}
#define LIVE(bytes) live(bytes, sizeof(bytes) - 1)

START_TEST(all_flags_are_live_at_the_end_of_a_block)
{
    LIVE("\x01\xd8\x01\xd8"); /* add eax, ebx; twice */
    ck_assert_uint_eq(x.n, 2);
    ck_assert_uint_eq(x.live[1], F_ARITH);
}
END_TEST

START_TEST(flags_that_are_written_next_are_dead)
{
    LIVE("\x01\xd8\x01\xd8\xc3");
    ck_assert_uint_eq(x.live[0], 0);
    LIVE("\x01\xd8\x40\xc3"); /* INC keeps CF */
    ck_assert_uint_eq(x.live[0], F_CF);
    LIVE("\x01\xd8\x21\xd8\xc3"); /* AND leaves AF undefined: as good as written */
    ck_assert_uint_eq(x.live[0], 0);
}
END_TEST

START_TEST(flags_that_are_read_are_live)
{
    LIVE("\x01\xd8\x0f\x94\xc0\x01\xd8\xc3"); /* add; sete al; add */
    ck_assert_uint_eq(x.live[0], F_ZF);
    LIVE("\x01\xd8\x11\xd8\xc3"); /* add; adc */
    ck_assert_uint_eq(x.live[0], F_CF);
    LIVE("\x01\xd8\x74\x00"); /* add; je: and all of them behind it */
    ck_assert_uint_eq(x.live[0], F_ARITH);
}
END_TEST

START_TEST(a_shift_by_CL_may_leave_flags_alone)
{
    LIVE("\x01\xd8\xd3\xe0\x01\xd8\xc3"); /* add; shl eax, cl; add */
    ck_assert_uint_eq(x.live[0], F_ARITH);
    LIVE("\x01\xd8\xc1\xe0\x04\xc3"); /* shl eax, 4 does not */
    ck_assert_uint_eq(x.live[0], 0);
}
END_TEST

START_TEST(whatever_may_fault_shows_all_flags)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } may[] = {
        { "\x8b\x03", 2 }, { "\x50", 1 },         { "\xa4", 1 },         { "\xd7", 1 }, { "\xf7\xf1", 2 },
        { "\xd9\xe8", 2 }, { "\x0f\x57\xc0", 3 }, { "\x0f\x20\xc0", 3 }, { "\xfa", 1 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(may); i++) {
        char code[16] = "\x01\xd8"; /* add; the one that may fault; add */
        memcpy(code + 2, may[i].bytes, may[i].n);
        memcpy(code + 2 + may[i].n, "\x01\xd8\xc3", 3);
        live(code, may[i].n + 5);
        ck_assert_msg(x.live[0] == F_ARITH, "case %u: %x", i, x.live[0]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("live");
    TCase *t = tcase_create("flags");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, all_flags_are_live_at_the_end_of_a_block);
    tcase_add_test(t, flags_that_are_written_next_are_dead);
    tcase_add_test(t, flags_that_are_read_are_live);
    tcase_add_test(t, a_shift_by_CL_may_leave_flags_alone);
    tcase_add_test(t, whatever_may_fault_shows_all_flags);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
