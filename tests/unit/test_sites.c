/* sites.c: what is remembered of each site, and for how long. */
#include "tests/diff/rng.h"
#include "tests/emit/xl_fixture.h"

#include <check.h>
#include <sys/resource.h>

static struct site_set set;
static void setup(void) { ck_assert_int_eq(site_set_init(&set), 0); }
static void teardown(void) { site_set_free(&set); }

START_TEST(an_empty_set_has_nothing)
{
    const u64 key[] = { 0, 1, 0xffffffff, 0x1234567890ull };
    for (unsigned i = 0; i < ARRAY_LEN(key); i++) ck_assert_int_eq(site_get(&set, key[i]), SITE_FITS);
}
END_TEST

START_TEST(what_was_added_is_there_through_all_growth)
{
    enum { N = 20000 };
    struct rng r;
    rng_seed(&r, 1);
    for (unsigned i = 0; i < N; i++) ck_assert_int_eq(site_fault(&set, rng_u64(&r) & 0xfffffffffe, false), SITE_SOFT);
    rng_seed(&r, 1);
    for (unsigned i = 0; i < N; i++) {
        u64 key = rng_u64(&r) & 0xfffffffffe;
        ck_assert_int_eq(site_get(&set, key), SITE_SOFT);
        ck_assert_int_eq(site_get(&set, key + 1), SITE_FITS); /* all keys are even */
    }
}
END_TEST

START_TEST(physical_address_0_is_a_key_like_any_other)
{
    site_fault(&set, 5, false);
    ck_assert_int_eq(site_get(&set, 0), SITE_FITS);
    site_fault(&set, 0, true);
    ck_assert_int_eq(site_get(&set, 0), SITE_WRAPS);
    ck_assert_int_eq(site_get(&set, 1), SITE_FITS);
}
END_TEST

START_TEST(each_state_leads_to_the_next)
{
    ck_assert_int_eq(site_fault(&set, 1, true), SITE_WRAPS);
    ck_assert_int_eq(site_fault(&set, 1, true), SITE_SOFT);
    ck_assert_int_eq(site_fault(&set, 2, false), SITE_SOFT);
    ck_assert_int_eq(site_fault(&set, 3, true), SITE_WRAPS);
    ck_assert_int_eq(site_fault(&set, 3, false), SITE_SOFT);
    ck_assert_uint_eq(set.soft, 3);
    ck_assert_uint_eq(site_next_due(&set, 100000), XL_NO_PAGE);
    set.now = SITE_FIRST_WAIT;
    for (unsigned i = 0; i < 3; i++) {
        paddr pa = site_next_due(&set, 100000);
        ck_assert_int_eq(site_get(&set, pa), SITE_FITS);
    }
    ck_assert_uint_eq(site_next_due(&set, 100000), XL_NO_PAGE);
    ck_assert_uint_eq(set.soft, 0);
}
END_TEST

START_TEST(waits_grow_to_a_limit)
{
    u32 last = 0;
    for (unsigned i = 0; i < 40; i++) {
        site_fault(&set, 7, false);
        u32 wait = 0;
        for (unsigned k = 0; k < set.cap; k++)
            if (set.slot[k].key == 8) wait = set.slot[k].due - set.now;
        ck_assert_uint_ge(wait, last);
        ck_assert_uint_lt(wait, 1u << 31);
        last = wait;
        set.now += wait;
        ck_assert_uint_eq(site_next_due(&set, 100000), 7);
    }
}
END_TEST

START_TEST(adding_twice_takes_room_once)
{
    for (unsigned round = 0; round < 3; round++)
        for (u64 i = 0; i < 100; i++) site_fault(&set, i * PAGE_SIZE, false);
    ck_assert_uint_eq(set.used, 100);
}
END_TEST

START_TEST(addresses_in_a_row_do_not_cluster_without_end)
{
    for (u64 i = 0; i < 5000; i++) site_fault(&set, 0x100000 + i, false);
    unsigned longest = 0, run = 0;
    for (unsigned i = 0; i < set.cap; i++) {
        run = set.slot[i].key ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    ck_assert_uint_lt(longest, 200);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* its allocator ends the process where memory is short */
START_TEST(without_memory_to_grow_it_forgets_and_goes_on)
{
    enum { N = 1 << 16 }; /* what it grows to then does not fit into memory that the C library has left */
    for (u64 i = 0; i < N; i++) site_fault(&set, i, false);
    ck_assert_uint_eq(set.used * 2, set.cap);
    struct rlimit none;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &none), 0);
    none.rlim_cur = 1 << 20;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    ck_assert_int_eq(site_fault(&set, N, false), SITE_SOFT);
    ck_assert_int_eq(site_get(&set, N), SITE_SOFT);
    ck_assert_int_eq(site_get(&set, 5), SITE_FITS);
    ck_assert_uint_eq(set.used, 1);
    ck_assert_uint_eq(set.soft, 1);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("sites");
    TCase *t = tcase_create("set");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_empty_set_has_nothing);
    tcase_add_test(t, what_was_added_is_there_through_all_growth);
    tcase_add_test(t, physical_address_0_is_a_key_like_any_other);
    tcase_add_test(t, each_state_leads_to_the_next);
    tcase_add_test(t, waits_grow_to_a_limit);
    tcase_add_test(t, adding_twice_takes_room_once);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(t, without_memory_to_grow_it_forgets_and_goes_on);
#endif
    tcase_add_test(t, addresses_in_a_row_do_not_cluster_without_end);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
