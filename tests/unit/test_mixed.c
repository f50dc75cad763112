/* Pages in which code and what is written lie together (runtime/run/mixed.c): which become mixed ones, what in them is
 * worth a translation, and how both come to an end. */
#define _GNU_SOURCE
#include "runtime/mem/physmem.h"
#include "runtime/run/mixed.h"
#include "tests/emit/xl_fixture.h"

#include <check.h>

#define PAGE_A 0x5000u
#define PAGE_A_SLOT_TOO \
    (PAGE_A + PAGE_SIZE + 0xa5b) /* in the next page; what is known of one takes the other's place */
#define WRITES 64u               /* within a second or so, and executed in between */

static struct xlf f;
static struct cpu cpu;
static struct bus *bus;
static struct mixed m;
static struct trace trace;

static void setup(void)
{
    xlf_init(&f, 1 << 20, false, 0);
    memset(&cpu, 0, sizeof cpu);
    ck_assert_int_eq(bus_new(&bus, 16u << 20), 0);
    m = (struct mixed){ .bus = bus, .cpu = &cpu, .dec = f.dec, .features = ~0u, .xl = f.xl, .trace = &trace };
}
static void teardown(void)
{
    bus_free(bus);
    xlf_free(&f);
}

static u8 *bytes(paddr pa) { return bus_ram_ptr(bus, pa); }
static bool is_mixed(paddr page) { return *bus_page_flags(bus, page) & PG_MIXED; }
static struct xl_source source(paddr pa)
{
    return (struct xl_source){ .la = (laddr)pa,
                               .eip = (vaddr)pa,
                               .pa = pa,
                               .mode = MODE_FLAT,
                               .bytes = bytes(pa),
                               .nbytes = PAGE_SIZE - (unsigned)(pa % PAGE_SIZE),
                               .pa2 = XL_NO_PAGE };
}
static void translate(paddr pa)
{
    struct xl_source src = source(pa);
    bool evicted;
    *bytes(pa) = 0xc3;
    (void)xl_translate(f.xl, &src, &evicted);
}
/* Writes until the page is a mixed one; n: at most so many. */
static unsigned write_until_mixed(paddr page, unsigned n, u8 flags)
{
    unsigned i = 0;
    while (i < n && !is_mixed(page)) mixed_written(&m, page, flags, false), i++;
    return i;
}

START_TEST(a_page_that_is_written_to_often_and_executed_becomes_mixed)
{
    translate(PAGE_A);
    ck_assert_uint_eq(write_until_mixed(PAGE_A, 1000, PG_CODE), WRITES);
    ck_assert(is_mixed(PAGE_A));
    ck_assert_uint_eq(cpu.ctr.mixed_pages, 1);
}
END_TEST

START_TEST(one_that_is_never_executed_does_not)
{
    write_until_mixed(PAGE_A, 1000, PG_CODE);
    ck_assert(!is_mixed(PAGE_A));
}
END_TEST

START_TEST(writes_to_what_runs_directly_count_for_more)
{
    translate(PAGE_A);
    ck_assert_uint_eq(write_until_mixed(PAGE_A, 1000, PG_CODE | PG_DIRECT), WRITES / 16);
}
END_TEST

START_TEST(writes_by_code_in_the_page_count_for_more)
{
    unsigned i = 0;
    translate(PAGE_A);
    for (; i < WRITES && !is_mixed(PAGE_A); i++) mixed_written(&m, PAGE_A, PG_CODE, true);
    ck_assert_uint_eq(i, WRITES / 16);
}
END_TEST

START_TEST(writes_that_are_long_ago_count_for_less)
{
    translate(PAGE_A);
    for (u64 ms = 1000; ms < 100000; ms += 1000) {
        for (unsigned i = 0; i < WRITES / 2 - 1; i++) mixed_written(&m, PAGE_A, PG_CODE, false);
        mixed_age(&m, ms);
    }
    ck_assert(!is_mixed(PAGE_A));
}
END_TEST

START_TEST(protection_ends_halfway_and_with_it_all_blocks)
{
    translate(PAGE_A);
    unsigned all = 0;
    for (unsigned i = 1; i < WRITES; i++)
        if (mixed_written(&m, PAGE_A, PG_CODE, false)) all = all ? ~0u : i;
    ck_assert_uint_eq(all, WRITES / 2);
}
END_TEST

START_TEST(a_mixed_page_gets_another_chance_after_four_seconds)
{
    translate(PAGE_A);
    write_until_mixed(PAGE_A, WRITES, PG_CODE);
    mixed_age(&m, 3000);
    ck_assert(is_mixed(PAGE_A));
    mixed_age(&m, 5000);
    ck_assert(!is_mixed(PAGE_A));
}
END_TEST

START_TEST(more_mixed_pages_than_are_remembered_end_the_first_ones)
{
    for (u32 i = 0; i <= MIXED_MAX; i++) {
        translate(PAGE_A + i * PAGE_SIZE);
        write_until_mixed(PAGE_A + i * PAGE_SIZE, WRITES, PG_CODE);
        ck_assert(is_mixed(PAGE_A + i * PAGE_SIZE));
    }
    ck_assert(!is_mixed(PAGE_A));
    ck_assert(is_mixed(PAGE_A + PAGE_SIZE));
}
END_TEST

/* How often an instruction must be come to before it is translated. */
static unsigned times_until_seen(paddr pa)
{
    struct xl_source src = source(pa);
    unsigned n = 1;
    while (!mixed_seen(&m, &src)) ck_assert_uint_lt(n++, 100);
    return n;
}

START_TEST(what_has_never_been_anything_else_is_translated_at_once)
{
    memcpy(bytes(PAGE_A), "\xb8\1\0\0\0\xc3", 6);
    ck_assert_uint_eq(times_until_seen(PAGE_A), 1);
    *bytes(PAGE_A) ^= 1; /* it has been something else */
    ck_assert_uint_eq(times_until_seen(PAGE_A), 2);
    ck_assert_uint_eq(times_until_seen(PAGE_A_SLOT_TOO), 1); /* another page's, in its slot */
    ck_assert_uint_eq(times_until_seen(PAGE_A), 1);
    mixed_stale(&m, PAGE_A);
    ck_assert_uint_eq(times_until_seen(PAGE_A_SLOT_TOO), 3);
}
END_TEST

START_TEST(an_instruction_is_translated_when_it_has_stayed_the_same)
{
    memcpy(bytes(PAGE_A), "\xb8\1\0\0\0\xc3", 6);
    (void)times_until_seen(PAGE_A);
    for (u8 v = 2; v < 50; v++) { /* it changes each time */
        struct xl_source src = source(PAGE_A);
        bytes(PAGE_A)[1] = v;
        ck_assert(!mixed_seen(&m, &src));
    }
    bytes(PAGE_A)[5] = 0x90; /* what is behind it does not matter */
    ck_assert_uint_eq(times_until_seen(PAGE_A), 1);
}
END_TEST

START_TEST(one_that_was_not_worth_it_must_stay_the_same_for_longer_up_to_a_bound)
{
    (void)times_until_seen(PAGE_A);
    for (unsigned i = 1; i < 5; i++) {
        mixed_stale(&m, PAGE_A);
        ck_assert_uint_eq(times_until_seen(PAGE_A), 1u << i);
    }
    for (unsigned i = 0; i < 10; i++) mixed_stale(&m, PAGE_A);
    ck_assert_uint_le(times_until_seen(PAGE_A), 32);
    for (u64 ms = 1000; ms < 10000; ms += 1000) mixed_age(&m, ms);
    mixed_stale(&m, PAGE_A + 1); /* another */
    *bytes(PAGE_A) ^= 1;
    ck_assert_uint_eq(times_until_seen(PAGE_A), 2);
}
END_TEST

START_TEST(a_block_ends_before_another_that_is_known)
{
    struct xl_source late = source(PAGE_A + 20), early = source(PAGE_A), elsewhere = source(PAGE_A + PAGE_SIZE);
    (void)mixed_seen(&m, &late);
    mixed_bound(&m, &late);
    ck_assert_uint_eq(late.stop_before, 0);
    mixed_bound(&m, &early);
    ck_assert_uint_eq(early.stop_before, PAGE_A + 20);
    mixed_bound(&m, &elsewhere);
    ck_assert_uint_eq(elsewhere.stop_before, 0);
    mixed_stale(&m, PAGE_A + 20); /* it begins there no more, but should not be in the middle of one either */
    early.stop_before = 0;
    mixed_bound(&m, &early);
    ck_assert_uint_eq(early.stop_before, PAGE_A + 20);
    for (u64 ms = 1000; ms < 10000; ms += 1000) mixed_age(&m, ms);
    early.stop_before = 0;
    mixed_bound(&m, &early);
    ck_assert_uint_eq(early.stop_before, 0);
}
END_TEST

START_TEST(a_block_ends_before_what_has_not_been_worth_it)
{
    mixed_stale(&m, PAGE_A + 10);
    for (unsigned from = 0; from < 12; from++) {
        struct xl_source src = source(PAGE_A + from);
        mixed_bound(&m, &src);
        ck_assert_uint_eq(src.stop_before, from < 10 ? PAGE_A + 10 : 0);
    }
    struct xl_source src = source(PAGE_A);
    src.stop_before = PAGE_A + 6; /* a breakpoint */
    mixed_bound(&m, &src);
    ck_assert_uint_eq(src.stop_before, PAGE_A + 6);
    for (u64 ms = 1000; ms < 10000; ms += 1000) mixed_age(&m, ms);
    src = source(PAGE_A);
    mixed_bound(&m, &src);
    ck_assert_uint_eq(src.stop_before, 0);
}
END_TEST

/* INC EAX; MOV [EBX], EAX; INC EBX; RET */
START_TEST(a_change_is_that_of_the_instruction_whose_bytes_are_others)
{
    static const struct {
        unsigned byte, change;
    } at[] = { { 0, 0 }, { 1, 1 }, { 2, 1 }, { 3, 3 }, { 4, 4 } };
    memcpy(bytes(PAGE_A), "\x40\x89\x03\x43\xc3", 5);
    struct xl_source src = source(PAGE_A), behind = source(PAGE_A + 3);
    bool evicted;
    paddr change = 0;
    src.mode |= MK_CHECKED;
    const struct block *b = xl_translate(f.xl, &src, &evicted);
    ck_assert_uint_eq(xl_block_bytes(b), 5);
    ck_assert(xl_block_holds(f.xl, b, &src, &change) && xl_block_holds(f.xl, b, &behind, &change));
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        bytes(PAGE_A)[at[i].byte] ^= 1;
        ck_assert(!xl_block_holds(f.xl, b, &src, &change));
        ck_assert_uint_eq(change, PAGE_A + at[i].change);
        ck_assert_int_eq(xl_block_holds(f.xl, b, &behind, &change), at[i].byte < 3);
        bytes(PAGE_A)[at[i].byte] ^= 1;
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mixed");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_page_that_is_written_to_often_and_executed_becomes_mixed);
    tcase_add_test(t, one_that_is_never_executed_does_not);
    tcase_add_test(t, writes_to_what_runs_directly_count_for_more);
    tcase_add_test(t, writes_by_code_in_the_page_count_for_more);
    tcase_add_test(t, writes_that_are_long_ago_count_for_less);
    tcase_add_test(t, protection_ends_halfway_and_with_it_all_blocks);
    tcase_add_test(t, a_mixed_page_gets_another_chance_after_four_seconds);
    tcase_add_test(t, more_mixed_pages_than_are_remembered_end_the_first_ones);
    tcase_add_test(t, what_has_never_been_anything_else_is_translated_at_once);
    tcase_add_test(t, an_instruction_is_translated_when_it_has_stayed_the_same);
    tcase_add_test(t, one_that_was_not_worth_it_must_stay_the_same_for_longer_up_to_a_bound);
    tcase_add_test(t, a_block_ends_before_another_that_is_known);
    tcase_add_test(t, a_block_ends_before_what_has_not_been_worth_it);
    tcase_add_test(t, a_change_is_that_of_the_instruction_whose_bytes_are_others);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
