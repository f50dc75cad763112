/* sites.c: the set of sites that went soft. */
#include "tests/diff/rng.h"
#include "tests/emit/xl_fixture.h"

#include <check.h>

static struct site_set set;
static void setup(void) { set = (struct site_set){ 0 }; }
static void teardown(void) { free(set.slot); }

START_TEST(an_empty_set_has_nothing)
{
    const u64 key[] = { 0, 1, 0xffffffff, 0x1234567890ull, ~0ull - 1 };
    for (unsigned i = 0; i < ARRAY_LEN(key); i++) ck_assert(!site_has(&set, key[i]));
}
END_TEST

START_TEST(what_was_added_is_there_through_all_growth)
{
    enum { N = 20000 };
    struct rng r;
    rng_seed(&r, 1);
    for (unsigned i = 0; i < N; i++) site_add(&set, rng_u64(&r) & 0xfffffffffe);
    rng_seed(&r, 1);
    for (unsigned i = 0; i < N; i++) {
        u64 key = rng_u64(&r) & 0xfffffffffe;
        ck_assert(site_has(&set, key));
        ck_assert(!site_has(&set, key + 1)); /* all keys are even */
    }
}
END_TEST

START_TEST(physical_address_0_is_a_key_like_any_other)
{
    site_add(&set, 5);
    ck_assert(!site_has(&set, 0));
    site_add(&set, 0);
    ck_assert(site_has(&set, 0));
    ck_assert(!site_has(&set, 1));
}
END_TEST

START_TEST(adding_twice_takes_room_once)
{
    for (unsigned round = 0; round < 3; round++)
        for (u64 i = 0; i < 100; i++) site_add(&set, i * PAGE_SIZE);
    ck_assert_uint_eq(set.used, 100);
}
END_TEST

START_TEST(addresses_in_a_row_do_not_cluster_without_end)
{
    for (u64 i = 0; i < 5000; i++) site_add(&set, 0x100000 + i);
    unsigned longest = 0, run = 0;
    for (unsigned i = 0; i < set.cap; i++) {
        run = set.slot[i] ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    ck_assert_uint_lt(longest, 200);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sites");
    TCase *t = tcase_create("set");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_empty_set_has_nothing);
    tcase_add_test(t, what_was_added_is_there_through_all_growth);
    tcase_add_test(t, physical_address_0_is_a_key_like_any_other);
    tcase_add_test(t, adding_twice_takes_room_once);
    tcase_add_test(t, addresses_in_a_row_do_not_cluster_without_end);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
