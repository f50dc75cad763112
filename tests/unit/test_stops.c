/* Code breakpoints as the translator knows them (runtime/run/stops.c): no block runs across one, those that did are
 * forgotten, and one that is disabled costs nothing when it comes again. */
#define _GNU_SOURCE
#include "runtime/mem/breaks.h"
#include "runtime/run/stops.h"
#include "tests/emit/xl_fixture.h"

#include <check.h>

#define LA 0x00401000u
#define PA 0x5000u

static struct xlf f;
static struct cpu cpu;
static struct stops stops;
static struct breaks breaks;
static u8 page[PAGE_SIZE];

static void setup(void)
{
    xlf_init(&f, 1 << 20, false, 0);
    memset(&cpu, 0, sizeof cpu);
    memset(&stops, 0, sizeof stops);
    memset(page, 0x40, sizeof page); /* inc eax */
    page[0x100] = 0xc3;
}
static void teardown(void) { xlf_free(&f); }

static struct xl_source source(unsigned off)
{
    struct xl_source src = { .la = LA + off,
                             .eip = LA + off,
                             .pa = PA + off,
                             .mode = MODE_FLAT,
                             .bytes = page + off,
                             .nbytes = PAGE_SIZE - off,
                             .pa2 = XL_NO_PAGE };
    stops_note(&stops, &breaks, &src);
    return src;
}
static struct block *make(unsigned off)
{
    struct xl_source src = source(off);
    bool evicted;
    return xl_translate(f.xl, &src, &evicted);
}
static struct block *found(unsigned off)
{
    struct xl_source src = source(off);
    return xl_find(f.xl, &src);
}
static void enable(unsigned i, laddr la, bool on)
{
    cpu.dr[i] = la;
    cpu.dr[7] &= ~(3u << 2 * i);
    if (on) cpu.dr[7] |= 1u << 2 * i;
    stops_update(&stops, &cpu, f.xl);
}

START_TEST(blocks_across_a_stop_are_forgotten_and_others_stay)
{
    struct block *across = make(0), *behind = make(0x20);
    unsigned bytes = xl_block_bytes(across);
    ck_assert_uint_gt(bytes, 0x10);
    enable(0, LA + 0x10, true);
    ck_assert_ptr_null(found(0));
    ck_assert_ptr_eq(found(0x20), behind);
    ck_assert_uint_eq(xl_block_bytes(make(0)), 0x10);
    ck_assert_uint_eq(cpu.stop_neg[0], -(LA + 0x10));
}
END_TEST

START_TEST(only_enabled_code_breakpoints_are_stops)
{
    cpu.dr[0] = LA + 0x10;
    cpu.dr[7] = 0x10001; /* writes */
    stops_update(&stops, &cpu, f.xl);
    ck_assert_uint_eq(stops.n, 0);
    ck_assert_uint_eq(cpu.stop_neg[0], 0);
    cpu.dr[7] = 0;
    stops_update(&stops, &cpu, f.xl);
    ck_assert_uint_eq(stops.n, 0);
    cpu.dr[7] = 2; /* G0 */
    stops_update(&stops, &cpu, f.xl);
    ck_assert_uint_eq(stops.n, 1);
}
END_TEST

START_TEST(one_that_comes_again_costs_no_block)
{
    enable(0, LA + 0x10, true);
    struct block *at = make(0x10);
    for (unsigned i = 0; i < 5; i++) {
        enable(0, LA + 0x10, false);
        ck_assert_uint_eq(cpu.stop_neg[0], 0);
        ck_assert_ptr_eq(found(0x10), at);
        enable(0, LA + 0x10, true);
        ck_assert_ptr_eq(found(0x10), at);
    }
    ck_assert_uint_eq(stops.n, 1);
}
END_TEST

START_TEST(a_source_knows_the_stops_of_its_page_and_no_others)
{
    enable(0, LA + 0x10, true);
    enable(1, LA + 0x30, true);
    enable(2, LA + PAGE_SIZE, true);
    struct xl_source src = source(0x10);
    ck_assert(src.bound && src.stop_here);
    ck_assert_uint_eq(src.stop_before, LA + 0x30);
    src = source(0x31);
    ck_assert(src.bound && !src.stop_here);
    ck_assert_uint_eq(src.stop_before, 0);
    src = (struct xl_source){ .la = LA + 2 * PAGE_SIZE };
    stops_note(&stops, &breaks, &src);
    ck_assert(!src.bound);
}
END_TEST

START_TEST(when_there_are_too_many_those_that_are_enabled_stay)
{
    enable(3, LA + 0xf00, true);
    for (unsigned i = 0; i < 3 * STOPS_MAX; i++) {
        enable(i % 3, LA + 0x10 * i, true);
        bool kept[2] = { false };
        for (unsigned k = 0; k < stops.n; k++) {
            kept[0] |= stops.la[k] == LA + 0xf00;
            kept[1] |= stops.la[k] == LA + 0x10 * i;
        }
        ck_assert_msg(kept[0] && kept[1], "after %u", i);
    }
    ck_assert_uint_eq(stops.n, STOPS_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stops");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, blocks_across_a_stop_are_forgotten_and_others_stay);
    tcase_add_test(t, only_enabled_code_breakpoints_are_stops);
    tcase_add_test(t, one_that_comes_again_costs_no_block);
    tcase_add_test(t, a_source_knows_the_stops_of_its_page_and_no_others);
    tcase_add_test(t, when_there_are_too_many_those_that_are_enabled_stay);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
