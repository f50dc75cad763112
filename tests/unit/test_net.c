/* What a description may say of a network, and that there is one behind it. */
#include "src/net.h"

#include <check.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>

static sem_t woken;
static void wake(void *arg) { sem_post(arg); }
static const struct netdev_host host = { wake, &woken };

static u8 got[NETDEV_FRAME_MAX];
static size_t got_len;
static bool room;
static bool on_receive(void *fe UNUSED, const u8 *frame, size_t n)
{
    if (!room) return false;
    memcpy(got, frame, n);
    got_len = n;
    return true;
}

START_TEST(what_makes_no_sense_is_refused_with_the_word)
{
    static const char *const wrong[][2] = {
        { "usr", "'usr'" },
        { "user,colour=red", "'colour=red'" },
        { "user,model=ne2k", "model=ne2k" },
        { "user,mac=1:2:3", "'mac=1:2:3'" },
        { "user,mac=01:00:00:00:00:01", "mac=01" }, /* a group's */
        { "user,mac=00:00:00:00:00:00", "mac=00" },
        { "user,mac=52:54:00:00:00:01x", "mac=52" },
        { "user,hostfwd=sctp::1-:1", "sctp" },
        { "user,hostfwd=tcp::0-:1", "hostfwd" },
        { "user,hostfwd=tcp::2222", "hostfwd" },
        { "user,hostfwd=tcp:nowhere:2222-:22", "hostfwd" },
        { "user,hostfwd=tcp::70000-:22", "hostfwd" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        struct vm_error err = { "" };
        struct net *n;
        ck_assert_msg(net_open(&n, wrong[i][0], &host, &err) == -EINVAL, "%s", wrong[i][0]);
        ck_assert_ptr_null(n);
        ck_assert_msg(!strncmp(err.text, "net: ", 5) && strstr(err.text, wrong[i][1]), "%s: %s", wrong[i][0], err.text);
    }
}
END_TEST

START_TEST(none_is_no_card_and_what_never_runs_is_on_no_wire)
{
    struct vm_error err;
    struct net *n;
    const u8 *mac;
    ck_assert_int_eq(0, net_open(&n, "none", &host, &err));
    ck_assert_ptr_null(n);
    ck_assert_int_eq(0, net_open(&n, "user,mac=02:00:00:00:00:09", NULL, &err));
    ck_assert_ptr_nonnull(net_dev(n, &mac));
    ck_assert_uint_eq(9, mac[5]);
    netdev_send(net_dev(n, &mac), got, 60);
    net_close(n);
}
END_TEST

START_TEST(the_host_answers_to_arp_and_the_answer_waits_for_room)
{
    static const u8 ask[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,    0x12, 0x34, 0x56, 8,    6,
                                0,    1,    8,    0,    6,    4,    0,    1,    0x52, 0x54, 0,    0x12, 0x34, 0x56,
                                10,   0,    2,    15,   0,    0,    0,    0,    0,    0,    10,   0,    2,    2 };
    static const u8 host_ip[4] = { 10, 0, 2, 2 };
    struct vm_error err = { "" };
    struct net *n;
    const u8 *mac;
    ck_assert_msg(!net_open(&n, "user,restrict=on", &host, &err), "%s", err.text);
    struct netdev *d = net_dev(n, &mac);
    ck_assert_uint_eq(0x56, mac[5]);
    d->receive = on_receive;
    netdev_send(d, ask, sizeof ask);
    sem_wait(&woken);
    net_deliver(n);
    ck_assert_uint_eq(0, got_len);
    room = true;
    netdev_ready(d);
    ck_assert_uint_ge(got_len, 42);
    ck_assert_mem_eq(ask + 6, got, 6);
    ck_assert_uint_eq(2, got[21]); /* a reply */
    ck_assert_mem_eq(host_ip, got + 28, 4);
    ck_assert_uint_eq(0, net_dropped(n));
    net_close(n);
}
END_TEST

START_TEST(a_port_that_is_taken_is_an_error_with_its_reason)
{
    struct vm_error err = { "" };
    struct net *n, *second;
    ck_assert_msg(!net_open(&n, "user,hostfwd=tcp::47113-:22", &host, &err), "%s", err.text);
    ck_assert_int_eq(-EADDRINUSE, net_open(&second, "user,hostfwd=tcp::47113-:22", &host, &err));
    ck_assert_msg(strstr(err.text, "47113") && strstr(err.text, "in use"), "%s", err.text);
    net_close(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net");
    TCase *t = tcase_create("net");
    sem_init(&woken, 0, 0);
    tcase_add_test(t, what_makes_no_sense_is_refused_with_the_word);
    tcase_add_test(t, none_is_no_card_and_what_never_runs_is_on_no_wire);
    tcase_add_test(t, the_host_answers_to_arp_and_the_answer_waits_for_room);
    tcase_add_test(t, a_port_that_is_taken_is_an_error_with_its_reason);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
