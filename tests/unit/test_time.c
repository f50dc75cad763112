/* Timers: order, cancelling and re-arming from inside callbacks, what the owner is told; and the host's alarm. */
#define _GNU_SOURCE
#include "core/clock.h"
#include "runtime/run/alarm.h"

#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct clock *clk;
static char fired[64];
static u64 told;
static unsigned tellings;

static void setup(void)
{
    ck_assert_int_eq(clock_new(&clk), 0);
    clock_set_manual(clk, 0);
    memset(fired, 0, sizeof fired);
}
static void teardown(void) { clock_free(clk); }

static void mark(void *arg) { strcat(fired, arg); }
static void on_deadline(void *arg, u64 ns)
{
    (void)arg;
    told = ns;
    tellings++;
}

START_TEST(timers_fire_in_order_of_deadline_then_of_arming)
{
    struct timer a, b, c, d;
    timer_init(&a, clk, mark, "a");
    timer_init(&b, clk, mark, "b");
    timer_init(&c, clk, mark, "c");
    timer_init(&d, clk, mark, "d");
    timer_arm(&c, 300);
    timer_arm(&a, 100);
    timer_arm(&b, 200);
    timer_arm(&d, 200);
    ck_assert_uint_eq(clock_next_deadline(clk), 100);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "");
    clock_set_manual(clk, 99);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "");
    clock_set_manual(clk, 200);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "abd");
    ck_assert(!a.armed && !b.armed && c.armed);
    clock_set_manual(clk, 1000);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "abdc");
    ck_assert_uint_eq(clock_next_deadline(clk), UINT64_MAX);
}
END_TEST

START_TEST(arming_again_replaces_and_cancelling_is_idempotent)
{
    struct timer a, b;
    timer_init(&a, clk, mark, "a");
    timer_init(&b, clk, mark, "b");
    timer_cancel(&a);
    timer_arm(&a, 100);
    timer_arm(&b, 150);
    timer_arm(&a, 200);
    ck_assert_uint_eq(clock_next_deadline(clk), 150);
    timer_cancel(&b);
    timer_cancel(&b);
    clock_set_manual(clk, 500);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "a");
}
END_TEST

static struct timer victim, periodic;
static void kill_victim(void *arg)
{
    timer_cancel(&victim);
    mark(arg);
}
static void every_10(void *arg)
{
    mark(arg);
    timer_arm(&periodic, periodic.deadline + 10);
}

START_TEST(a_callback_may_cancel_and_arm_others_and_itself)
{
    struct timer killer;
    timer_init(&killer, clk, kill_victim, "k");
    timer_init(&victim, clk, mark, "v");
    timer_init(&periodic, clk, every_10, "p");
    timer_arm(&killer, 10);
    timer_arm(&victim, 11);
    timer_arm(&periodic, 15);
    clock_set_manual(clk, 40);
    clock_run_due(clk);
    ck_assert_str_eq(fired, "kppp");
    ck_assert_uint_eq(clock_next_deadline(clk), 45);
}
END_TEST

static struct timer stuck;
static unsigned stuck_count;
static void again_at_once(void *arg)
{
    (void)arg;
    stuck_count++;
    timer_arm(&stuck, 5);
}

START_TEST(a_timer_that_is_always_late_does_not_hold_up_the_guest)
{
    timer_init(&stuck, clk, again_at_once, NULL);
    clock_set_manual(clk, 10);
    clock_on_deadline(clk, on_deadline, NULL);
    timer_arm(&stuck, 5);
    clock_run_due(clk);
    ck_assert_uint_ge(stuck_count, 1);
    ck_assert(stuck.armed);
    ck_assert_uint_eq(told, 5);
    ck_assert_uint_eq(clock_next_deadline(clk), 5);
}
END_TEST

START_TEST(the_owner_is_told_of_every_change_of_the_earliest_deadline)
{
    struct timer a, b;
    timer_init(&a, clk, mark, "a");
    timer_init(&b, clk, mark, "b");
    timer_arm(&a, 100);
    tellings = 0;
    clock_on_deadline(clk, on_deadline, NULL);
    ck_assert(tellings == 1 && told == 100);
    timer_arm(&b, 200);
    ck_assert_uint_eq(tellings, 1);
    timer_arm(&b, 50);
    ck_assert(tellings == 2 && told == 50);
    timer_cancel(&b);
    ck_assert(tellings == 3 && told == 100);
    clock_set_manual(clk, 100);
    clock_run_due(clk);
    ck_assert_uint_eq(clock_next_deadline(clk), UINT64_MAX);
    timer_arm(&a, 100); /* the same deadline once more must not be taken for known */
    ck_assert(told == 100 && tellings >= 4);
    timer_cancel(&a);
    ck_assert_uint_eq(told, UINT64_MAX);
}
END_TEST

START_TEST(guest_time_follows_the_hosts)
{
    struct clock *c;
    struct timespec nap = { 0, 20 * 1000000 };
    ck_assert_int_eq(clock_new(&c), 0);
    u64 t0 = clock_now(c), w0 = clock_wall_ns(c);
    nanosleep(&nap, NULL);
    u64 t1 = clock_now(c), w1 = clock_wall_ns(c);
    ck_assert_uint_ge(t1 - t0, 20 * 1000000);
    ck_assert_uint_lt(t1, 60ull * 1000000000);
    ck_assert_uint_ge(w1 - w0, 20 * 1000000);
    ck_assert_uint_lt(w1 / 1000000000 - (u64)time(NULL) + 2, 4);
    clock_free(c);
}
END_TEST

static volatile sig_atomic_t signals;
static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

/* Waits up to limit_ms for a signal. */
static bool signal_comes(unsigned limit_ms)
{
    struct timespec ms = { 0, 1000000 };
    for (unsigned i = 0; i < limit_ms && !signals; i++) nanosleep(&ms, NULL);
    bool came = signals != 0;
    signals = 0;
    return came;
}

START_TEST(the_alarm_rings_at_the_guest_deadline_or_at_an_earlier_one_that_was_set)
{
    struct clock *c;
    struct alarm *a;
    int signo = SIGRTMIN + 5;
    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(signo, &sa, NULL);
    ck_assert_int_eq(clock_new(&c), 0);
    ck_assert_int_eq(alarm_new(&a, signo, (pid_t)syscall(SYS_gettid)), 0);
    alarm_set(a, 0, c); /* past: at once */
    ck_assert(signal_comes(1000));
    u64 deadline = clock_now(c) + 10 * 1000000;
    alarm_set(a, deadline, c);
    ck_assert(signal_comes(1000));
    ck_assert_uint_ge(clock_now(c), deadline);
    alarm_set(a, UINT64_MAX, c);
    alarm_set(a, UINT64_MAX - 5, c); /* beyond what a host timer holds: never, and no error */
    ck_assert(!signal_comes(60));
    deadline = clock_now(c) + 20 * 1000000;
    alarm_set(a, deadline + 3600 * 1000000000ull, c);
    alarm_set(a, deadline, c);     /* earlier: moves it */
    alarm_set(a, deadline + 1, c); /* later, and never: leave it where it is */
    alarm_set(a, UINT64_MAX, c);
    ck_assert(signal_comes(1000));
    ck_assert_uint_ge(clock_now(c), deadline);
    ck_assert(!signal_comes(30));
    alarm_set(a, deadline, c); /* the same once more, which is past now */
    ck_assert(signal_comes(1000));
    alarm_free(a);
    alarm_free(NULL);
    clock_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("time");
    TCase *t = tcase_create("time");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, timers_fire_in_order_of_deadline_then_of_arming);
    tcase_add_test(t, arming_again_replaces_and_cancelling_is_idempotent);
    tcase_add_test(t, a_callback_may_cancel_and_arm_others_and_itself);
    tcase_add_test(t, a_timer_that_is_always_late_does_not_hold_up_the_guest);
    tcase_add_test(t, the_owner_is_told_of_every_change_of_the_earliest_deadline);
    tcase_add_test(t, guest_time_follows_the_hosts);
    tcase_add_test(t, the_alarm_rings_at_the_guest_deadline_or_at_an_earlier_one_that_was_set);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
