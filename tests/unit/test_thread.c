/* How a thread of ours begins. */
#include "core/thread.h"

#include <check.h>
#include <unistd.h>

static volatile sig_atomic_t met, role_met;
static void on_signal(int sig UNUSED)
{
    met++;
    role_met = (sig_atomic_t)thread_role();
}
static void *wait_for_it(void *arg UNUSED)
{
    while (!met) usleep(100);
    return NULL;
}

/* A jail is entered by a signal, and what of the host is left depends on the role: it waits until there is one. */
START_TEST(a_signal_finds_a_thread_that_knows_its_role)
{
    sigset_t one;
    pthread_t t;
    sigemptyset(&one);
    sigaddset(&one, THREAD_SIGNAL);
    ck_assert_int_eq(0, pthread_sigmask(SIG_BLOCK, &one, NULL));
    ck_assert(signal(THREAD_SIGNAL, on_signal) != SIG_ERR);
    ck_assert_int_eq(0, kill(getpid(), THREAD_SIGNAL));
    ck_assert_int_eq(0, thread_start(&t, THREAD_SERIAL, wait_for_it, NULL));
    ck_assert_int_eq(0, pthread_join(t, NULL));
    ck_assert_int_eq(1, met);
    ck_assert_int_eq(THREAD_SERIAL, role_met);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("thread");
    TCase *t = tcase_create("thread");
    tcase_add_test(t, a_signal_finds_a_thread_that_knows_its_role);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
