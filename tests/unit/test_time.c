/* Timers: order, cancelling and re-arming from inside callbacks, what the owner is told; and the host's alarm. */
#define _GNU_SOURCE
#include "core/clock.h"
#include "runtime/run/alarm.h"

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

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

/* ---- what the host takes ---- */

#define MS 1000000ull

static void host_takes(u64 ns)
{
    struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    nanosleep(&t, NULL); /* the thread does not run, for whatever reason */
}

static void run_for(u64 ns)
{
    struct timespec t;
    u64 begin, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    begin = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
    do {
        (void)clock_now(clk);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        now = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
    } while (now - begin < ns);
}

static u64 host_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* All clocks at one moment. */
struct moment {
    u64 host, host_tsc, guest, tsc, lag;
};

/* Of many readings the one that took the least time: the host may take the processor away between any two clocks. */
static struct moment moment_read(void)
{
    struct moment m = { 0 };
    u64 least = UINT64_MAX, until;
    for (unsigned i = 0; i < 200; i++) {
        u64 begin = __rdtsc(), host = host_now(), host_tsc = __rdtsc(), guest = clock_now(clk);
        u64 tsc = clock_tsc(clk, &until), lag = clock_lag_ns(clk), took = __rdtsc() - begin;
        if (took >= least) continue;
        least = took;
        m = (struct moment){ host, host_tsc, guest, tsc, lag };
    }
    return m;
}

/* How far guest time and TSC are apart at b, in us, if they were not at a, and the host's are right. */
static double us_apart(const struct moment *a, const struct moment *b)
{
    double rate = (double)(b->host_tsc - a->host_tsc) / (double)(b->host - a->host);
    double off = (double)(b->tsc - a->tsc) / rate - (double)(b->guest - a->guest);
    return (off < 0 ? -off : off) / 1000;
}

static void live_setup(void)
{
    ck_assert_int_eq(clock_new(&clk), 0);
    host_takes(12 * MS); /* long enough to know the TSC's rate */
    clock_start(clk);
    clock_look(clk);
}
static void live_teardown(void)
{
    clock_stop(clk);
    clock_free(clk);
}

START_TEST(time_that_the_host_takes_is_not_shown_at_once)
{
    u64 before = clock_now(clk);
    host_takes(200 * MS);
    u64 after = clock_now(clk);
    ck_assert_uint_ge(after, before);
    ck_assert_uint_lt(after - before, 20 * MS);
    ck_assert_uint_gt(clock_lag_ns(clk), 150 * MS);
    ck_assert_uint_gt(clock_hidden_ns(clk), 150 * MS);
}
END_TEST

/* A busy host takes more meanwhile, so what is owed may never be nothing; but it is all that is missing. */
START_TEST(what_was_taken_is_given_back_and_only_the_lag_is_missing)
{
    struct moment begin = moment_read();
    host_takes(100 * MS);
    clock_look(clk);
    u64 owed = clock_lag_ns(clk);
    ck_assert_uint_gt(owed, 80 * MS);
    while (clock_hidden_ns(clk) - clock_lag_ns(clk) < owed * 9 / 10) run_for(5 * MS);
    clock_look(clk);
    struct moment end = moment_read();
    u64 passed = end.guest - begin.guest + end.lag - begin.lag, real = end.host - begin.host;
    ck_assert_uint_lt(passed > real ? passed - real : real - passed, 10 * MS);
}
END_TEST

START_TEST(time_and_tsc_never_go_back_and_agree)
{
    struct moment begin = moment_read(), end;
    u64 until, ns = clock_now(clk), tsc = clock_tsc(clk, &until);
    for (unsigned i = 0; i < 30; i++) {
        if (i % 3 == 0) host_takes((5 + i) * MS);
        for (unsigned k = 0; k < 2000; k++) {
            u64 now_ns = clock_now(clk), host_tsc = __rdtsc(), now_tsc = host_tsc;
            if (host_tsc >= until) now_tsc = clock_tsc(clk, &until); /* as the CPU does */
            ck_assert_msg(now_ns >= ns, "guest time goes back by %llu ns", (unsigned long long)(ns - now_ns));
            ck_assert_msg(now_tsc >= tsc, "the TSC goes back by %llu", (unsigned long long)(tsc - now_tsc));
            ns = now_ns;
            tsc = now_tsc;
        }
    }
    end = moment_read();
    ck_assert_double_lt(us_apart(&begin, &end), 500);
    /* Nor when the machine is stopped with time owed, as one that is saved on a busy host is. */
    host_takes(100 * MS);
    clock_look(clk);
    ck_assert_uint_gt(clock_lag_ns(clk), 50 * MS);
    clock_stop(clk);
    end = moment_read();
    ck_assert_double_lt(us_apart(&begin, &end), 500);
}
END_TEST

/* As Linux's clocksource watchdog reads them: time, TSC, time. Others want the same processor, so that the host takes
 * it away at any place between. */
START_TEST(a_tsc_that_is_read_between_two_readings_of_guest_time_lies_between_them)
{
    enum { OTHERS = 3 };
    pid_t other[OTHERS];
    cpu_set_t all, one;
    int cpu = sched_getcpu();
    ck_assert_int_ge(cpu, 0);
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    for (unsigned i = 0; i < OTHERS; i++) {
        other[i] = fork();
        ck_assert_int_ge(other[i], 0);
        if (other[i]) continue;
        alarm(60);
        for (;;) __builtin_ia32_pause();
    }
    struct moment begin = moment_read();
    u64 until = 0;
    double worst = 0;
    while (host_now() - begin.host < 1500 * MS) {
        struct moment m;
        u64 before = clock_now(clk);
        m.tsc = __rdtsc();
        if (m.tsc >= until) m.tsc = clock_tsc(clk, &until);
        m.guest = clock_now(clk);
        if (m.guest - before > 100000) continue; /* time was taken between, and shown */
        u64 first = __rdtsc();
        m.host = host_now();
        m.host_tsc = __rdtsc();
        if (m.host_tsc - first > 20000) continue; /* the rate is not to be had now */
        double off = us_apart(&begin, &m);
        if (off > worst) worst = off;
    }
    for (unsigned i = 0; i < OTHERS; i++) {
        kill(other[i], SIGKILL);
        waitpid(other[i], NULL, 0);
    }
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    ck_assert_uint_gt(clock_hidden_ns(clk), 100 * MS);
    ck_assert_msg(worst < 800, "TSC and guest time were %g us apart", worst);
}
END_TEST

START_TEST(in_a_sleep_a_lag_is_made_good_and_a_late_awakening_is_hidden)
{
    struct timer t;
    timer_init(&t, clk, mark, "t");
    host_takes(100 * MS);
    u64 before = clock_now(clk);
    timer_arm(&t, before + 50 * MS);
    clock_sleep(clk);
    clock_wake(clk); /* at once: all of the 50 ms that it may be given */
    u64 after = clock_now(clk);
    ck_assert_uint_ge(after - before, 50 * MS);
    ck_assert_uint_lt(after - before, 60 * MS);
    timer_arm(&t, after + 500 * MS);
    clock_sleep(clk);
    clock_wake(clk);
    ck_assert_uint_eq(clock_lag_ns(clk), 0);
    u64 now = clock_now(clk);
    timer_arm(&t, now + 10 * MS);
    clock_sleep(clk);
    host_takes(110 * MS);
    clock_wake(clk);
    ck_assert_uint_lt(clock_now(clk) - now, 30 * MS);
    ck_assert_uint_gt(clock_lag_ns(clk), 80 * MS);
    timer_cancel(&t);
}
END_TEST

START_TEST(what_runs_directly_sees_all_time)
{
    u64 until, guest = clock_now(clk), host = host_now();
    host_takes(60 * MS);
    clock_look(clk);
    ck_assert_uint_gt(clock_lag_ns(clk), 40 * MS);
    clock_expose(clk);
    ck_assert_uint_eq(clock_lag_ns(clk), 0);
    host_takes(60 * MS);
    u64 seen = __rdtsc();
    clock_exposed(clk);
    host = host_now() - host;
    clock_look(clk);
    ck_assert_uint_eq(clock_lag_ns(clk), 0);
    ck_assert_uint_ge(clock_tsc(clk, &until), seen);
    ck_assert_uint_ge(clock_now(clk) - guest, host);
}
END_TEST

/* ---- time by instructions ---- */

static u64 done;

static void setup_speed(void)
{
    ck_assert_int_eq(clock_new(&clk), 0);
    done = 12345; /* of before */
    clock_set_speed(clk, 25, &done);
}

START_TEST(time_by_instructions_moves_with_them_alone)
{
    u64 until, ns = clock_now(clk), tsc = clock_tsc(clk, &until);
    usleep(2000);
    ck_assert_uint_eq(clock_now(clk), ns);
    ck_assert_uint_eq(until, 0);
    done += 25000;
    ck_assert_uint_eq(clock_now(clk), ns + 1000000);
    ck_assert_uint_eq(clock_tsc(clk, &until) - tsc, 25000);
    ck_assert_uint_eq(clock_cycles_of(clk, 1000), 25);
    ck_assert_uint_eq(clock_cycles_of(clk, 1001), 26);
    clock_stall(clk, 400);
    ck_assert_uint_eq(clock_now(clk), ns + 1000400);
}
END_TEST

START_TEST(no_two_readings_of_a_tsc_by_instructions_are_alike)
{
    u64 until, first = clock_tsc(clk, &until);
    for (u64 i = 1; i < 10; i++) ck_assert_uint_eq(clock_tsc(clk, &until), first + i);
}
END_TEST

START_TEST(a_clock_by_instructions_knows_how_far_it_is_ahead_of_the_hosts)
{
    done += 25000 * 50;
    u64 ahead = clock_ahead_ns(clk);
    ck_assert(ahead > 0 && ahead <= 50000000);
    usleep(60000);
    ck_assert_uint_eq(clock_ahead_ns(clk), 0);
    usleep(600000); /* more than it catches up */
    ck_assert_uint_eq(clock_ahead_ns(clk), 0);
    done += 25000 * 600;
    ck_assert_uint_gt(clock_ahead_ns(clk), 0);
}
END_TEST

START_TEST(sleep_moves_a_clock_by_instructions_with_the_host_up_to_its_deadline)
{
    struct timer t;
    timer_init(&t, clk, mark, "x");
    clock_start(clk);
    u64 from = clock_now(clk);
    clock_sleep(clk);
    usleep(3000);
    clock_wake(clk);
    u64 woken = clock_now(clk);
    ck_assert_uint_ge(woken - from, 3000000);
    timer_arm(&t, woken + 1000000);
    clock_sleep(clk);
    usleep(5000);
    clock_wake(clk);
    ck_assert_uint_eq(clock_now(clk), woken + 1000000);
    timer_cancel(&t);
    done += 25000 * 1000; /* ahead: there is nothing to catch up with */
    from = clock_now(clk);
    clock_sleep(clk);
    clock_wake(clk);
    ck_assert_uint_eq(clock_now(clk), from);
    clock_stop(clk);
}
END_TEST

START_TEST(a_clock_by_instructions_stands_and_goes_on_where_it_was)
{
    u64 until, ns = clock_now(clk), tsc = clock_tsc(clk, &until);
    clock_stand(clk);
    done += 100;
    usleep(2000);
    ck_assert_uint_eq(clock_now(clk), ns);
    u64 skipped = clock_walk(clk);
    ck_assert_uint_eq(clock_now(clk), ns);
    ck_assert_uint_le(clock_tsc(clk, &until) - skipped - tsc, 3);
    clock_set_manual(clk, 5000000000);
    clock_go_on(clk);
    ck_assert_uint_eq(clock_now(clk), 5000000000);
    done += 25;
    ck_assert_uint_eq(clock_now(clk), 5000001000);
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
    TCase *live = tcase_create("live");
    tcase_add_checked_fixture(live, live_setup, live_teardown);
    tcase_add_test(live, time_that_the_host_takes_is_not_shown_at_once);
    tcase_add_test(live, what_was_taken_is_given_back_and_only_the_lag_is_missing);
    tcase_add_test(live, time_and_tsc_never_go_back_and_agree);
    tcase_add_test(live, a_tsc_that_is_read_between_two_readings_of_guest_time_lies_between_them);
    tcase_add_test(live, in_a_sleep_a_lag_is_made_good_and_a_late_awakening_is_hidden);
    tcase_add_test(live, what_runs_directly_sees_all_time);
    suite_add_tcase(s, live);
    TCase *speed = tcase_create("speed");
    tcase_add_checked_fixture(speed, setup_speed, teardown);
    tcase_add_test(speed, time_by_instructions_moves_with_them_alone);
    tcase_add_test(speed, no_two_readings_of_a_tsc_by_instructions_are_alike);
    tcase_add_test(speed, a_clock_by_instructions_knows_how_far_it_is_ahead_of_the_hosts);
    tcase_add_test(speed, sleep_moves_a_clock_by_instructions_with_the_host_up_to_its_deadline);
    tcase_add_test(speed, a_clock_by_instructions_stands_and_goes_on_where_it_was);
    suite_add_tcase(s, speed);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
