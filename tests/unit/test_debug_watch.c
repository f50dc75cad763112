/* Which linear pages are watched for data breakpoints, in what way, and for how long after (runtime/mem/watch.c). */
#include "runtime/mem/watch.h"
#include "tests/unit/mem_fixture.h"

#define PAGE_A 0x00123000u
#define PAGE_B 0x00456000u
enum { DR7_WRITES = 1, DR7_ACCESSES = 3, LEN_1 = 0, LEN_2 = 1, LEN_8 = 2, LEN_4 = 3 };

/* Breakpoint i, as DR7 has it. */
static void arm(unsigned i, laddr la, unsigned rw, unsigned len)
{
    cpu->dr[i] = la;
    cpu->dr[7] &= ~(0xfu << (16 + 4 * i));
    cpu->dr[7] |= 1u << 2 * i | rw << (16 + 4 * i) | len << (18 + 4 * i);
    watch_update(cpu);
}
static void disarm(unsigned i)
{
    cpu->dr[7] &= ~(3u << 2 * i);
    watch_update(cpu);
}

START_TEST(a_page_is_watched_for_what_can_meet_its_breakpoints)
{
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), 0);
    arm(0, PAGE_A + 8, DR7_WRITES, LEN_4);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), WATCH_WRITES);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A + 0xfff), WATCH_WRITES);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A + 0x1000), 0);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A - 1), 0);
    arm(1, PAGE_A + 0x800, DR7_ACCESSES, LEN_1);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), WATCH_READS | WATCH_WRITES);
    arm(2, PAGE_B, 0, LEN_1);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_B), WATCH_FETCHES);
}
END_TEST

START_TEST(an_access_meets_a_breakpoint_where_their_bytes_overlap)
{
    static const struct {
        unsigned rw, len;
        u32 off, size;
        bool write, hits;
    } row[] = {
        { DR7_WRITES, LEN_4, 8, 4, true, true },     { DR7_WRITES, LEN_4, 8, 4, false, false },
        { DR7_WRITES, LEN_4, 7, 1, true, false },    { DR7_WRITES, LEN_4, 7, 2, true, true },
        { DR7_WRITES, LEN_4, 11, 1, true, true },    { DR7_WRITES, LEN_4, 12, 4, true, false },
        { DR7_ACCESSES, LEN_1, 8, 1, false, true },  { DR7_ACCESSES, LEN_1, 9, 1, false, false },
        { DR7_ACCESSES, LEN_8, 15, 1, false, true }, { DR7_ACCESSES, LEN_8, 16, 1, false, false },
        { DR7_WRITES, LEN_2, 0, 16, true, true },
    };
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        arm(0, PAGE_A + 8, row[i].rw, row[i].len);
        ck_assert_msg(watch_hits(cpu, PAGE_A + row[i].off, row[i].size, row[i].write) == row[i].hits, "row %u", i);
    }
    arm(0, PAGE_A + 11, DR7_WRITES, LEN_4); /* the low bits of a longer one do not count (SDM vol. 3, 17.2.5) */
    ck_assert(watch_hits(cpu, PAGE_A + 8, 1, true));
    ck_assert(!watch_hits(cpu, PAGE_A + 12, 1, true));
}
END_TEST

START_TEST(what_is_disabled_is_met_no_more_but_its_page_stays_watched_for_a_while)
{
    watch_age(cpu, 1000);
    arm(0, PAGE_A, DR7_WRITES, LEN_4);
    disarm(0);
    ck_assert(!watch_hits(cpu, PAGE_A, 4, true));
    watch_age(cpu, 2000);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), WATCH_WRITES);
    watch_age(cpu, 3000);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), 0);
    ck_assert_uint_eq(cpu->watch->n, 0);
}
END_TEST

START_TEST(what_is_enabled_stays_watched_for_ever)
{
    arm(0, PAGE_A, DR7_WRITES, LEN_4);
    for (u64 ms = 0; ms < 20000; ms += 500) watch_age(cpu, ms);
    ck_assert_uint_eq(watch_kinds(cpu, PAGE_A), WATCH_WRITES);
}
END_TEST

START_TEST(more_pages_than_the_book_has_room_for_push_out_what_nobody_needs)
{
    arm(3, PAGE_B, DR7_WRITES, LEN_4);
    for (unsigned i = 0; i < 3 * WATCH_PAGES; i++) {
        watch_age(cpu, i);
        arm(i % 3, PAGE_A + i * PAGE_SIZE, DR7_WRITES, LEN_4);
        ck_assert_uint_eq(watch_kinds(cpu, PAGE_B), WATCH_WRITES);
        for (unsigned k = 0; k < 3 && k <= i; k++)
            ck_assert_uint_eq(watch_kinds(cpu, PAGE_A + (i - k) * PAGE_SIZE), WATCH_WRITES);
        ck_assert_uint_le(cpu->watch->n, WATCH_PAGES);
    }
}
END_TEST

static u8 *write_entry(void)
{
    bool fault = false;
    return tlb_fill(cpu, PAGE_A, ACC_W, false, &fault);
}

START_TEST(the_soft_tlb_has_nothing_of_a_watched_page_not_even_from_before)
{
    fix_paging(false);
    map32(PAGE_A, PAGE_A | P | W | U | A | D, P | W | U | A);
    ck_assert_ptr_nonnull(write_entry());
    ck_assert_uint_ne(cpu_tlb(cpu, TLB_SUP_W)[PAGE_A >> PAGE_SHIFT], 0);
    arm(0, PAGE_A, DR7_WRITES, LEN_4);
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_W)[PAGE_A >> PAGE_SHIFT], 0);
    (void)write_entry();
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_W)[PAGE_A >> PAGE_SHIFT], 0);
    disarm(0);
    watch_age(cpu, 100000);
    ck_assert_ptr_nonnull(write_entry());
    ck_assert_uint_ne(cpu_tlb(cpu, TLB_SUP_W)[PAGE_A >> PAGE_SHIFT], 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("debug_watch");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_add_test(t, a_page_is_watched_for_what_can_meet_its_breakpoints);
    tcase_add_test(t, an_access_meets_a_breakpoint_where_their_bytes_overlap);
    tcase_add_test(t, what_is_disabled_is_met_no_more_but_its_page_stays_watched_for_a_while);
    tcase_add_test(t, what_is_enabled_stays_watched_for_ever);
    tcase_add_test(t, more_pages_than_the_book_has_room_for_push_out_what_nobody_needs);
    tcase_add_test(t, the_soft_tlb_has_nothing_of_a_watched_page_not_even_from_before);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
