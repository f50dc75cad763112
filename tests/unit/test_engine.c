/* run.c and engine.h: the loop around an engine, shown with an engine of a page that only counts; and what holds of the
 * real ones when rt_run() is called again and again, from one thread and from many. */
#include "core/clock.h"
#include "core/host_ns.h"
#include "runtime/run/rt.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

static struct rt *rt;

/* ---- an engine ---- */

/* Counts in EAX, and does at each count what the script says. h: HLT, s: rt_stop(), r: rt_request_reset(), d: triple
 * fault, f: the host fails, i/I: CLI/STI, a: HLT for an answer. */
static struct fake {
    const char *script;
    char log[64]; /* what the loop asked for, a letter each */
    unsigned ran, bound, unbound, kicks;
    u8 vector; /* of the last interrupt */
} fake;

static void fake_log(char what)
{
    size_t n = strlen(fake.log);
    if (n + 1 < sizeof fake.log) fake.log[n] = what, fake.log[n + 1] = 0;
}
static int fake_create(struct rt *m, const char **what)
{
    *what = "fake engine";
    m->cpu->iflag = 1;
    return fake.script ? 0 : -1;
}
/* ---- somebody who is asked, and answers by a post ---- */

#define QUESTIONS 3000u
static struct {
    _Atomic unsigned asked;
    unsigned answers;
} other;

static void answer(void *arg)
{
    (void)arg;
    other.answers++;
    rt_cpu(rt)->halted = 0;
}

/* At once, while the machine watches, about when it ceases to, and when it sleeps. */
static void *answer_each(void *arg)
{
    (void)arg;
    for (unsigned n = 0; n < QUESTIONS; n++) {
        while (other.asked == n) sched_yield();
        for (u64 end = host_ns(CLOCK_MONOTONIC) + n % 130 * 1000; host_ns(CLOCK_MONOTONIC) < end;) {}
        ck_assert_int_eq(rt_post(rt, answer, NULL), 0);
    }
    return NULL;
}

static void fake_destroy(struct rt *m) { (void)m, fake_log('D'); }
static int fake_bind(struct rt *m)
{
    (void)m, fake.bound++;
    return 0;
}
static void fake_unbind(struct rt *m) { (void)m, fake.unbound++; }
static enum engine_event fake_run(struct rt *m)
{
    fake.ran++;
    m->cpu->gpr[G_EAX]++;
    switch (*fake.script ? *fake.script++ : 's') {
    case 'h': m->cpu->halted = 1; break;
    case 's': rt_stop(m); break;
    case 'a': /* asks again and again */
        if (other.answers == QUESTIONS) break;
        fake.script--;
        m->cpu->halted = 1;
        rt_expect(m, 100000);
        other.asked++;
        break;
    case 'r': rt_request_reset(m); break;
    case 'b': rt_stop(m), rt_request_reset(m); break; /* both */
    case 'i': m->cpu->iflag = 0; break;
    case 'I': m->cpu->iflag = 1; break;
    case 'd': return ENGINE_SHUTDOWN;
    case 'f': return ENGINE_FAILED;
    default: break;
    }
    return ENGINE_AGAIN;
}
static enum engine_event fake_step(struct rt *m)
{
    fake_log('1');
    return fake_run(m);
}
static void fake_kick(struct rt *m)
{
    __atomic_add_fetch(&fake.kicks, 1, __ATOMIC_SEQ_CST);
    soft_kick(m);
}
static void fake_kicked(struct rt *m) { (void)m, fake_log('k'); }
static enum engine_event fake_inject(struct rt *m, enum engine_injection what, u8 vector)
{
    fake_log(what == INJECT_INTR ? 'q' : what == INJECT_NMI ? 'n' : 'e');
    fake.vector = vector;
    m->cpu->halted = 0;
    m->cpu->exc.valid = false;
    if (what == INJECT_NMI) m->cpu->nmi_pending = false;
    return ENGINE_AGAIN;
}
static void fake_out(struct rt *m) { (void)m, fake_log('o'); }
static void fake_in(struct rt *m) { (void)m, fake_log('i'); }
static void fake_flush(struct rt *m) { (void)m, fake_log('f'); }
static const struct engine_ops fake_ops = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .bind = fake_bind,
    .unbind = fake_unbind,
    .run = fake_run,
    .step = fake_step,
    .kick = fake_kick,
    .kicked = fake_kicked,
    .open = soft_open,
    .inject = fake_inject,
    .state_out = fake_out,
    .state_in = fake_in,
    .flush = fake_flush,
};

static void start(const char *script)
{
    const char *what;
    const struct rt_config cfg = { .ram_size = 4 << 20 };
    fake = (struct fake){ .script = script };
    ck_assert_int_eq(rt_new_with(&rt, &cfg, &fake_ops, &what), 0);
}
static void end(void)
{
    rt_free(rt);
    rt = NULL;
}

START_TEST(an_engine_that_cannot_be_made_is_named)
{
    const char *what = "";
    const struct rt_config cfg = { .ram_size = 4 << 20 };
    fake = (struct fake){ 0 };
    ck_assert_int_eq(rt_new_with(&rt, &cfg, &fake_ops, &what), -1);
    ck_assert_str_eq(what, "fake engine");
    ck_assert_str_eq(fake.log, "D");
}
END_TEST

START_TEST(each_event_ends_a_run_and_the_next_goes_on)
{
    start("..s.r..d.fb");
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_eq(fake.ran, 3);
    ck_assert_int_eq(rt_run(rt), RT_RESET);
    ck_assert_uint_eq(fake.ran, 5);
    ck_assert_int_eq(rt_run(rt), RT_SHUTDOWN);
    ck_assert_uint_eq(fake.ran, 8);
    ck_assert_int_eq(rt_run(rt), RT_ERROR);
    ck_assert_uint_eq(fake.ran, 10);
    /* Neither of two requests is lost, and the reset comes first. */
    ck_assert_int_eq(rt_run(rt), RT_RESET);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_eq(fake.ran, 11);
    ck_assert_uint_eq(rt_cpu(rt)->gpr[G_EAX], 11);
    ck_assert_uint_eq(fake.bound, 1);
    end();
    ck_assert_uint_eq(fake.unbound, 1);
}
END_TEST

START_TEST(a_stop_before_the_run_ends_it_before_it_has_begun)
{
    start("");
    rt_stop(rt);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_eq(fake.ran, 0);
    end();
}
END_TEST

static int acknowledge(void *dev) { return *(int *)dev; }

START_TEST(interrupts_are_given_when_the_engine_is_open_to_them_and_NMIs_first)
{
    int vector = 0x31;
    const struct intc_ops intc = { .acknowledge = acknowledge };
    start(".Is");
    rt_set_intc(rt, &intc, &vector);
    struct irq_line intr = rt_intr_line(rt), nmi = rt_nmi_line(rt);
    rt_cpu(rt)->iflag = 0;
    irq_set(&intr, true);
    irq_set(&nmi, true);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    irq_set(&intr, false);
    ck_assert_str_eq(fake.log, "knqko");
    ck_assert_uint_eq(fake.vector, 0x31);
    end();
}
END_TEST

START_TEST(an_exception_that_came_with_the_state_is_delivered_first)
{
    struct cpu_arch s;
    const char *field;
    start("s");
    rt_get_state(rt, &s);
    s.exc = (struct pending_exc){ .valid = true, .vector = V_UD };
    ck_assert_int_eq(rt_set_state(rt, &s, &field), 0);
    rt_flush(rt);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_str_eq(fake.log, "oifekko");
    end();
}
END_TEST

static void *stop_soon(void *arg)
{
    const struct timespec ms = { 0, 20000000 };
    (void)arg;
    nanosleep(&ms, NULL);
    rt_stop(rt);
    return NULL;
}

START_TEST(a_halted_machine_sleeps_until_another_thread_stops_it)
{
    pthread_t t;
    start("h");
    rt_cpu(rt)->iflag = 0;
    ck_assert_int_eq(pthread_create(&t, NULL, stop_soon, NULL), 0);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    pthread_join(t, NULL);
    ck_assert_uint_eq(fake.ran, 1);
    ck_assert_uint_eq(fake.kicks, 1);
    end();
}
END_TEST

START_TEST(an_answer_wakes_a_machine_that_expects_it_whenever_it_comes)
{
    pthread_t t;
    start("a");
    other.asked = other.answers = 0;
    ck_assert_int_eq(pthread_create(&t, NULL, answer_each, NULL), 0);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    pthread_join(t, NULL);
    ck_assert_uint_eq(other.answers, QUESTIONS);
    ck_assert_uint_le(fake.kicks, QUESTIONS); /* what is seen at once needs no signal */
    end();
}
END_TEST

static void *run_once(void *arg)
{
    *(enum rt_exit *)arg = rt_run(rt);
    return NULL;
}
static enum rt_exit run_elsewhere(void)
{
    pthread_t t;
    enum rt_exit why = RT_ERROR;
    ck_assert_int_eq(pthread_create(&t, NULL, run_once, &why), 0);
    pthread_join(t, NULL);
    return why;
}

START_TEST(what_belongs_to_a_thread_is_made_once_and_again_only_for_another_thread)
{
    start("");
    for (unsigned i = 0; i < 100; i++) ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_eq(fake.bound, 1);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(run_elsewhere(), RT_STOPPED); /* a new thread each, often of one id */
    ck_assert_uint_eq(fake.bound, 11);
    ck_assert_uint_eq(fake.unbound, 10);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_eq(fake.bound, 12);
    end();
    ck_assert_uint_eq(fake.unbound, 12);
}
END_TEST

static void timer_fires(void *arg) { (void)arg, rt_stop(rt); }

START_TEST(timers_wake_a_halted_machine_on_whichever_thread_it_runs)
{
    struct timer t;
    start("");
    timer_init(&t, rt_clock(rt), timer_fires, NULL);
    for (unsigned i = 0; i < 6; i++) {
        timer_arm(&t, clock_now(rt_clock(rt)) + 3000000);
        rt_cpu(rt)->halted = 1;
        ck_assert_int_eq(i & 1 ? run_elsewhere() : rt_run(rt), RT_STOPPED);
        ck_assert_uint_eq(fake.ran, 0);
    }
    end();
}
END_TEST

START_TEST(a_timer_left_behind_does_not_disturb_the_thread)
{
    struct timer t;
    start("s");
    timer_init(&t, rt_clock(rt), timer_fires, NULL);
    timer_arm(&t, clock_now(rt_clock(rt)) + 30000000);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    const struct timespec long_enough = { 0, 60000000 };
    ck_assert_int_eq(nanosleep(&long_enough, NULL), 0); /* a signal would have ended it early */
    timer_cancel(&t);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine");
    TCase *t = tcase_create("engine");
    tcase_add_test(t, an_engine_that_cannot_be_made_is_named);
    tcase_add_test(t, each_event_ends_a_run_and_the_next_goes_on);
    tcase_add_test(t, a_stop_before_the_run_ends_it_before_it_has_begun);
    tcase_add_test(t, interrupts_are_given_when_the_engine_is_open_to_them_and_NMIs_first);
    tcase_add_test(t, an_exception_that_came_with_the_state_is_delivered_first);
    tcase_add_test(t, a_halted_machine_sleeps_until_another_thread_stops_it);
    tcase_add_test(t, an_answer_wakes_a_machine_that_expects_it_whenever_it_comes);
    tcase_add_test(t, what_belongs_to_a_thread_is_made_once_and_again_only_for_another_thread);
    tcase_add_test(t, timers_wake_a_halted_machine_on_whichever_thread_it_runs);
    tcase_add_test(t, a_timer_left_behind_does_not_disturb_the_thread);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
