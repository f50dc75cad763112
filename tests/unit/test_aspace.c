/* aspace.c: the rule by which address spaces get and lose windows and processes, on made-up histories. Nothing here
 * takes time: mechanisms say what they cost. */
#include "runtime/mem/aspace.h"

#include <check.h>
#include <string.h>

#define MS 1000000u
#define TEXT 0x1234567890abcdefull

static struct aspaces *as;
static struct trace trace;
static u32 cr3;

/* A mechanism that can do everything, for two address spaces' CR3. */
struct made_up {
    u64 price, cost; /* what it says, and what it then costs */
    u64 stops;       /* what the kernel's entries between two kicks would cost */
    bool refuses, unfit;
    u32 held[4]; /* CR3s that have it */
    unsigned asked, given, taken, resumed;
};
static struct made_up win, dir;

static u32 *place(struct made_up *m, u32 key)
{
    for (unsigned i = 0; i < 4; i++)
        if (m->held[i] == key) return &m->held[i];
    return NULL;
}
static bool has(void *arg) { return place(arg, cr3); }
static bool fits(void *arg) { return !((struct made_up *)arg)->unfit; }
static u64 price(void *arg)
{
    ((struct made_up *)arg)->asked++;
    return ((struct made_up *)arg)->price;
}
static u64 stops(void *arg) { return ((struct made_up *)arg)->stops; }
static u64 give(void *arg)
{
    struct made_up *m = arg;
    if (m->refuses) return 0;
    ck_assert_ptr_null(place(m, cr3));
    *place(m, 0) = cr3;
    m->given++;
    return m->cost;
}
static void take(void *arg)
{
    struct made_up *m = arg;
    ck_assert_ptr_nonnull(place(m, cr3));
    *place(m, cr3) = 0;
    m->taken++;
}
static void resume(void *arg) { ((struct made_up *)arg)->resumed++; }

static struct aspace_mech mech(struct made_up *m)
{
    return (struct aspace_mech){ m, has, fits, price, stops, give, take, resume };
}

static void setup(void)
{
    win = (struct made_up){ .price = 2 * MS, .cost = 2 * MS };
    dir = (struct made_up){ .price = 5 * MS, .cost = 5 * MS };
    trace = (struct trace){ .out = stderr };
    ck_assert_int_eq(aspaces_new(&as, &trace), 0);
    const struct aspace_mech w = mech(&win), d = mech(&dir);
    aspaces_way(as, ASPACE_WINDOW, &w, false);
    aspaces_way(as, ASPACE_DIRECT, &d, false);
    cr3 = 0x1000;
    aspaces_switch(as, cr3);
}
static void teardown(void) { aspaces_free(as); }

static void go(u32 to)
{
    cr3 = to;
    aspaces_switch(as, to);
}
static void run(unsigned ms, bool user)
{
    for (unsigned i = 0; i < ms; i++) aspaces_kick(as, MS, user, user ? TEXT : 0);
}
/* Kicks of a millisecond in user code until it has the way. */
static unsigned time_to(struct made_up *m)
{
    for (unsigned ms = 1;; ms++) {
        ck_assert_uint_lt(ms, 100000);
        run(1, true);
        if (place(m, cr3)) return ms;
    }
}
/* The address space dies, and its page directory serves another process. */
static void die(struct made_up *m)
{
    if (place(m, cr3)) *place(m, cr3) = 0;
    go(cr3);
}

START_TEST(who_has_lost_the_price_gets_it)
{
    dir.unfit = true;
    unsigned ms = time_to(&win); /* 3/8 of the time is lost */
    ck_assert_msg(ms == 6, "after %u ms", ms);
    ck_assert_uint_eq(win.given, 1);
    go(0x2000); /* nobody gains from what another has paid */
    ck_assert_uint_eq(time_to(&win), 6);
    go(0x1000);
    ck_assert_ptr_nonnull(place(&win, cr3));
}
END_TEST

START_TEST(who_has_more_to_map_must_have_lost_more)
{
    dir.unfit = true;
    win.price = 20 * MS;
    ck_assert_uint_eq(time_to(&win), 54);
    ck_assert_uint_lt(win.asked, 10); /* to look costs something as well */
}
END_TEST

START_TEST(time_in_the_kernel_and_where_it_does_not_fit_earns_nothing)
{
    run(1000, false);
    ck_assert(!win.given && !dir.given);
    win.unfit = dir.unfit = true;
    run(1000, true);
    ck_assert(!win.given && !dir.given);
}
END_TEST

START_TEST(a_kick_after_a_long_time_is_not_one_processes)
{
    dir.unfit = true;
    win.price = 8 * MS;
    aspaces_kick(as, 1000000000, true, TEXT);
    ck_assert_uint_eq(win.given, 0);
}
END_TEST

START_TEST(with_a_window_direct_execution_has_less_to_gain)
{
    win.unfit = true;
    dir.price = 50 * MS;
    unsigned soft = time_to(&dir);
    aspaces_free(as);
    setup();
    dir.price = 50 * MS;
    time_to(&win);
    unsigned windowed = time_to(&dir);
    ck_assert_msg(windowed > 3 * soft, "%u ms with a window, %u without", windowed, soft);
}
END_TEST

/* What had been announced may come later, as stops at pages of code that are swept when control comes there. */
START_TEST(what_was_announced_to_cost_more_may_go_on_costing_that)
{
    win.unfit = true;
    cr3 = 0x1000;
    dir.price = 20 * MS;
    dir.cost = 3 * MS;
    time_to(&dir);
    for (unsigned i = 0; i < 19; i++) {
        aspaces_cost(as, ASPACE_DIRECT, MS);
        run(1, true);
        ck_assert_msg(!dir.taken, "taken after %u ms", i + 1);
    }
    aspaces_cost(as, ASPACE_DIRECT, 2 * MS);
    run(1, true);
    ck_assert_uint_eq(dir.taken, 1);
}
END_TEST

/* Without a window 38/64 of a millisecond are lost to translation, 594 us. */
START_TEST(who_would_lose_by_its_stops_what_it_gains_does_not_get_it_until_it_has_fewer)
{
    win.unfit = true;
    cr3 = 0x1000;
    dir.stops = 594 * 1000;
    run(1000, true);
    ck_assert_uint_eq(dir.given, 0);
    ck_assert_uint_le(dir.asked, 1); /* to know it once */
    dir.stops = 294 * 1000;          /* half of what it loses: twice the time */
    const unsigned half = time_to(&dir);
    go(0x2000);
    dir.stops = 0;
    const unsigned none = time_to(&dir);
    ck_assert_msg(half >= 2 * none - 1 && half <= 2 * none + 1, "%u ms, %u without stops", half, none);
}
END_TEST

START_TEST(costs_beyond_gain_and_price_end_it_and_less_does_not)
{
    dir.unfit = true;
    time_to(&win);
    aspaces_cost(as, ASPACE_WINDOW, MS); /* 0.59 of each ms are gained: loses 0.4 of the 2 ms that it has cost */
    run(1, true);
    ck_assert_uint_eq(win.taken, 0);
    aspaces_cost(as, ASPACE_WINDOW, MS); /* 0.8: more than a quarter, and a sixteenth of the 1.2 ms gained */
    run(1, true);
    ck_assert_uint_eq(win.taken, 1);
    ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT), 2);
}
END_TEST

START_TEST(who_has_gained_much_may_lose_a_sixteenth_of_it_again)
{
    dir.unfit = true;
    time_to(&win);
    for (unsigned i = 0; i < 100; i++) { /* pays: 59 ms are gained */
        aspaces_cost(as, ASPACE_WINDOW, MS / 2);
        run(1, true);
    }
    ck_assert_uint_eq(win.taken, 0);
    for (unsigned i = 0; i < 10; i++) { /* loses 4.1 ms: the sixteenth is 4.0, a quarter of the price 0.5 */
        aspaces_cost(as, ASPACE_WINDOW, MS);
        run(1, true);
    }
    ck_assert_uint_eq(win.taken, 0);
    for (unsigned i = 0; i < 3; i++) { /* 5.3 */
        aspaces_cost(as, ASPACE_WINDOW, MS);
        run(1, true);
    }
    ck_assert_uint_eq(win.taken, 1);
}
END_TEST

START_TEST(a_text_that_did_not_pay_is_dearer_for_its_next_process_and_one_that_did_is_cheaper)
{
    dir.unfit = true;
    for (int i = 0; i < 3; i++) { /* dies at once */
        ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT), i);
        unsigned ms = time_to(&win);
        ck_assert_msg(ms >= 5u << i && ms <= 6u << i, "%u ms at level %d", ms, i);
        die(&win);
    }
    for (int i = 3; i > ASPACE_LEVEL_MIN; i--) { /* lives for long, in another address space each time */
        ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT), i);
        go(0x10000 + (u32)i * 0x1000);
        time_to(&win);
        run(500, true);
        die(&win);
    }
    ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT), ASPACE_LEVEL_MIN);
    ck_assert_uint_eq(time_to(&win), 2);
    ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT + 1), 0); /* nothing is known of others, */
    ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT), 0);     /* nor of other ways */
}
END_TEST

START_TEST(direct_execution_is_never_had_below_half_its_price)
{
    win.unfit = true;
    unsigned first = time_to(&dir), later = 0;
    for (u32 i = 0; i < 4; i++) {
        aspaces_ran(as, ASPACE_DIRECT, 1000 * MS, 0, false);
        run(10, true);
        die(&dir);
        ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT), -1);
        go(0x10000 + i * 0x1000);
        later = time_to(&dir);
    }
    ck_assert_msg(later == (first + 1) / 2, "%u ms, after %u at first", later, first);
}
END_TEST

/* A kick finds one of n pages of a program's code. */
static void run_among(unsigned ms, unsigned n)
{
    for (unsigned i = 0; i < ms; i++) aspaces_kick(as, MS, true, TEXT + i % n);
}

START_TEST(the_text_is_what_most_kicks_find)
{
    dir.unfit = true;
    win.price = 100 * MS;
    unsigned n = 0;
    for (; !win.given; n++) aspaces_kick(as, MS, true, n % 3 ? TEXT : TEXT + 1 + n);
    die(&win);
    ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT), 1);
    for (unsigned i = 0; i < n; i += 3) ck_assert_int_eq(aspaces_level(as, ASPACE_WINDOW, TEXT + 1 + i), 0);
}
END_TEST

START_TEST(a_program_of_several_pages_is_known_by_all_of_them)
{
    win.unfit = true;
    run_among(60, 6);
    ck_assert_uint_eq(dir.given, 1);
    die(&dir);
    for (unsigned i = 0; i < 6; i++) ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT + i), 1);
    aspaces_free(as);
    setup(); /* a program of three of these pages, which lost on all of them, waits twice as long */
    win.unfit = true;
    unsigned first = time_to(&dir);
    die(&dir);
    for (unsigned i = 1; i < 3; i++) {
        go(0x10000 + i * 0x1000);
        for (unsigned ms = 0; !place(&dir, cr3); ms++) aspaces_kick(as, MS, true, TEXT + i);
        die(&dir);
    }
    go(0x1000);
    run(2000, false); /* fills the purse */
    unsigned ms = 0;
    for (; !place(&dir, cr3); ms++) aspaces_kick(as, MS, true, TEXT + ms % 3);
    ck_assert_msg(ms + 1 >= 2 * first && ms <= 2 * first, "%u ms, after %u at first", ms, first);
}
END_TEST

START_TEST(one_known_page_among_unknown_ones_does_not_decide)
{
    win.unfit = true;
    for (unsigned i = 0; i < 3; i++) { /* a library's page, in programs that gained nothing */
        time_to(&dir);
        die(&dir);
    }
    ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT), 3);
    go(0x2000);
    run(2000, false); /* fills the purse */
    unsigned ms = 0;
    for (; !place(&dir, cr3); ms++) aspaces_kick(as, MS, true, ms % 7 ? TEXT + 1 + ms % 7 : TEXT);
    ck_assert_msg(ms <= 18, "%u ms", ms); /* 68, by what is known of that page */
}
END_TEST

START_TEST(a_burst_of_futile_runs_makes_it_rest_and_longer_each_time)
{
    win.unfit = true;
    time_to(&dir);
    unsigned rests[4];
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 3; i++) {
            ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
            aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
        }
        for (rests[k] = 0; aspaces_rests(as, ASPACE_DIRECT); rests[k]++) run(1, true);
        ck_assert_uint_eq(dir.resumed, k + 1);
    }
    ck_assert(rests[0] == 1 && rests[1] == 2 && rests[2] == 4 && rests[3] == 8);
    aspaces_ran(as, ASPACE_DIRECT, MS, 20, false); /* a time that pays: the next burst is forgiven */
    run(1, true);
    for (unsigned i = 0; i < 3; i++) aspaces_ran(as, ASPACE_DIRECT, 0, MS, false); /* more than that has gained */
    ck_assert(aspaces_rests(as, ASPACE_DIRECT));
    run(1, true);
    ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
    for (unsigned i = 0; i < 5; i++) { /* never three in a row */
        aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
        aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
        aspaces_ran(as, ASPACE_DIRECT, 30, 20, false);
        ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
    }
}
END_TEST

/* A program that works for a while, calls a few functions that may not run directly, and works on. */
START_TEST(a_burst_may_lose_half_of_what_was_gained_before_it)
{
    win.unfit = true;
    time_to(&dir);
    for (unsigned k = 0; k < 10; k++) { /* 0.5 ms gained, 0.1 lost */
        aspaces_ran(as, ASPACE_DIRECT, MS / 2, 0, false);
        for (unsigned i = 0; i < 5; i++) aspaces_ran(as, ASPACE_DIRECT, 0, MS / 50, false);
        ck_assert_msg(!aspaces_rests(as, ASPACE_DIRECT), "rests after %u times", k);
    }
    run(1, true);
    unsigned stops = 0;
    for (; !aspaces_rests(as, ASPACE_DIRECT); stops++) aspaces_ran(as, ASPACE_DIRECT, 0, MS / 50, false);
    ck_assert_msg(stops >= 3 + 25 && stops <= 3 + 50, "%u stops of 20 us: at most 1 ms, and three", stops);
    run(1, true);
    for (unsigned i = 0; i < 3; i++) aspaces_ran(as, ASPACE_DIRECT, 0, MS / 50, false);
    ck_assert(aspaces_rests(as, ASPACE_DIRECT)); /* nothing is left */
}
END_TEST

/* Ticks that waited while the process was made, for one. */
START_TEST(runs_that_a_kick_cuts_short_are_no_burst)
{
    win.unfit = true;
    time_to(&dir);
    for (unsigned i = 0; i < 10; i++) aspaces_ran(as, ASPACE_DIRECT, 10, 20, true);
    ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
    aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
    aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
    aspaces_ran(as, ASPACE_DIRECT, 10, 20, true); /* nor do they end one */
    ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
    aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
    ck_assert(aspaces_rests(as, ASPACE_DIRECT));
}
END_TEST

/* What a process has cost is not got back by not using it. */
START_TEST(an_empty_purse_holds_up_no_rest)
{
    win.unfit = true;
    dir.cost = 50 * MS; /* says 5: more than all that may be lost */
    time_to(&dir);
    for (unsigned i = 0; i < 3; i++) aspaces_ran(as, ASPACE_DIRECT, 10, 20, false);
    ck_assert(aspaces_rests(as, ASPACE_DIRECT));
    run(1, true);
    ck_assert_uint_eq(dir.resumed, 1);
    ck_assert(!aspaces_rests(as, ASPACE_DIRECT));
    go(0x2000); /* but another is not given one: the purse fills by 10 us a kick */
    run(1000, true);
    ck_assert_uint_eq(dir.given, 1);
}
END_TEST

/* Each lives just long enough to get a process, and gains nothing from it. */
START_TEST(programs_that_gain_nothing_lose_a_hundredth_of_their_time_at_most)
{
    win.unfit = true;
    for (unsigned i = 0; i < 1000; i++) {
        cr3 = 0x10000 + i * 0x1000;
        aspaces_switch(as, cr3);
        for (unsigned ms = 0; ms < 10; ms++) aspaces_kick(as, MS, true, TEXT + i); /* no two are of the same text */
        die(&dir);
    }
    ck_assert_msg(dir.given >= 10 && dir.given * 5 <= 10 + 10000 / 100, "%u times 5 ms of 10 s", dir.given);
}
END_TEST

START_TEST(what_has_gained_may_risk_more)
{
    win.unfit = true;
    for (unsigned i = 0; i < 1000; i++) {
        cr3 = 0x10000 + i * 0x1000;
        aspaces_switch(as, cr3);
        for (unsigned ms = 0; ms < 10; ms++) aspaces_kick(as, MS, true, TEXT + i);
        if (has(&dir)) aspaces_ran(as, ASPACE_DIRECT, 20 * MS, 0, false);
        die(&dir);
    }
    ck_assert_uint_gt(dir.given, 900);
}
END_TEST

START_TEST(a_text_that_gained_before_needs_no_purse)
{
    win.unfit = true;
    unsigned early = time_to(&dir);
    aspaces_ran(as, ASPACE_DIRECT, 11 * MS, 0, false);
    die(&dir);
    for (unsigned i = 0; i < 1000; i++) { /* others lose all that may be lost */
        go(0x10000 + i * 0x1000);
        for (unsigned ms = 0; ms < 10; ms++) aspaces_kick(as, MS, true, TEXT + 1 + i);
        die(&dir);
    }
    go(0x1000);
    unsigned given = dir.given, late = time_to(&dir);
    ck_assert_msg(late <= early, "%u ms, after %u early on", late, early);
    for (unsigned i = 0; i < 100; i++) { /* and loses that once it gains no more */
        die(&dir);
        go(0x200000 + i * 0x1000);
        for (unsigned ms = 0; ms < 10; ms++) aspaces_kick(as, MS, true, TEXT);
    }
    ck_assert_msg(dir.given - given <= 4, "%u times", dir.given - given);
}
END_TEST

START_TEST(what_giving_costs_beyond_its_price_is_learnt)
{
    dir.unfit = true;
    win.cost = 4 * MS; /* says 2 */
    for (unsigned i = 0; i < 30; i++) {
        go(0x10000 + i * 0x1000);
        time_to(&win);
        run(1000, true); /* pays, so that nothing is learnt of the text but good */
        die(&win);
    }
    win.price = 20 * MS, win.cost = 22 * MS;
    go(0x1000);
    unsigned ms = time_to(&win); /* (20 + 2) / 4 / 0.375 */
    ck_assert_msg(ms >= 14 && ms <= 16, "%u ms", ms);
}
END_TEST

START_TEST(what_cannot_be_had_is_asked_for_again_later)
{
    dir.unfit = true;
    win.refuses = true;
    run(60, true);
    ck_assert_uint_eq(win.given, 0);
    ck_assert_uint_lt(win.asked, 15);
    win.refuses = false;
    time_to(&win);
}
END_TEST

START_TEST(what_is_lost_counts_against_the_text_only_if_it_is_to_blame)
{
    win.unfit = true;
    time_to(&dir);
    *place(&dir, cr3) = 0;
    aspaces_lost(as, ASPACE_DIRECT, true);
    ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT), 2);
    time_to(&dir);
    *place(&dir, cr3) = 0;
    aspaces_lost(as, ASPACE_DIRECT, false);
    ck_assert_int_eq(aspaces_level(as, ASPACE_DIRECT, TEXT), 3); /* it has not gained its price, either way */
}
END_TEST

START_TEST(always_means_at_once_and_for_ever)
{
    const struct aspace_mech d = mech(&dir);
    win.unfit = true;
    aspaces_way(as, ASPACE_DIRECT, &d, true);
    go(0x3000);
    ck_assert_ptr_nonnull(place(&dir, cr3));
    for (unsigned i = 0; i < 100; i++) aspaces_ran(as, ASPACE_DIRECT, 0, 100 * MS, false);
    run(10, true);
    ck_assert(!dir.taken && !aspaces_rests(as, ASPACE_DIRECT));
    dir.unfit = true;
    go(0x4000);
    ck_assert_ptr_null(place(&dir, cr3));
    dir.unfit = false;
    aspaces_want(as, ASPACE_DIRECT);
    ck_assert_ptr_nonnull(place(&dir, cr3));
    win.unfit = false;
    aspaces_want(as, ASPACE_WINDOW); /* not one that everybody has */
    ck_assert_uint_eq(win.given, 0);
}
END_TEST

START_TEST(a_way_that_is_gone_is_nobodys)
{
    win.unfit = true;
    time_to(&dir);
    aspaces_way(as, ASPACE_DIRECT, NULL, false);
    go(cr3);
    run(100, true);
    ck_assert(!dir.taken && dir.given == 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("aspace");
    TCase *t = tcase_create("aspace");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, who_has_lost_the_price_gets_it);
    tcase_add_test(t, who_has_more_to_map_must_have_lost_more);
    tcase_add_test(t, time_in_the_kernel_and_where_it_does_not_fit_earns_nothing);
    tcase_add_test(t, a_kick_after_a_long_time_is_not_one_processes);
    tcase_add_test(t, with_a_window_direct_execution_has_less_to_gain);
    tcase_add_test(t, who_would_lose_by_its_stops_what_it_gains_does_not_get_it_until_it_has_fewer);
    tcase_add_test(t, what_was_announced_to_cost_more_may_go_on_costing_that);
    tcase_add_test(t, costs_beyond_gain_and_price_end_it_and_less_does_not);
    tcase_add_test(t, who_has_gained_much_may_lose_a_sixteenth_of_it_again);
    tcase_add_test(t, a_text_that_did_not_pay_is_dearer_for_its_next_process_and_one_that_did_is_cheaper);
    tcase_add_test(t, direct_execution_is_never_had_below_half_its_price);
    tcase_add_test(t, the_text_is_what_most_kicks_find);
    tcase_add_test(t, a_program_of_several_pages_is_known_by_all_of_them);
    tcase_add_test(t, one_known_page_among_unknown_ones_does_not_decide);
    tcase_add_test(t, a_burst_of_futile_runs_makes_it_rest_and_longer_each_time);
    tcase_add_test(t, programs_that_gain_nothing_lose_a_hundredth_of_their_time_at_most);
    tcase_add_test(t, what_has_gained_may_risk_more);
    tcase_add_test(t, a_text_that_gained_before_needs_no_purse);
    tcase_add_test(t, a_burst_may_lose_half_of_what_was_gained_before_it);
    tcase_add_test(t, runs_that_a_kick_cuts_short_are_no_burst);
    tcase_add_test(t, an_empty_purse_holds_up_no_rest);
    tcase_add_test(t, what_giving_costs_beyond_its_price_is_learnt);
    tcase_add_test(t, what_cannot_be_had_is_asked_for_again_later);
    tcase_add_test(t, what_is_lost_counts_against_the_text_only_if_it_is_to_blame);
    tcase_add_test(t, always_means_at_once_and_for_ever);
    tcase_add_test(t, a_way_that_is_gone_is_nobodys);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
