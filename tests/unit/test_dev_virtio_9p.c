/* The virtio 9P device as a driver sees it: the folder behind it is the test's. */
#include "core/sharedev.h"
#include "tests/unit/virtio_driver.h"

#define MESSAGE_AT 0x200000u
#define ANSWER_AT 0x210000u

/* A folder that answers when the test says so, with what the message was. */
static struct sharedev folder;
static struct job *first;
static unsigned messages, resets, quick; /* quick: messages that it answers while it is watched */
static struct byte_queue given;
static struct virtio_9p *dev;

static void on_submit(void *be UNUSED, struct sharedev_req *r)
{
    struct job **at = &first;
    while (*at) at = &(*at)->next;
    r->job.next = NULL;
    *at = &r->job;
    messages++;
}
static bool answer(u32 n);
static void on_settle(void *be UNUSED)
{
    for (; quick; quick--) ck_assert(answer(8));
}
static void on_reset(void *be UNUSED) { resets++; }
static void on_save(void *be UNUSED, struct byte_queue *to)
{
    to->head = to->len = 0;
    ck_assert(byte_queue_put(to, (const u8 *)"open", 4, SHARE_STATE_MAX));
}
static void on_load(void *be UNUSED, const struct byte_queue *from)
{
    ck_assert(byte_queue_put(&given, from->data, from->len, SHARE_STATE_MAX));
}

static bool answer(u32 n)
{
    if (!first) return false;
    struct sharedev_req *r = JOB_OF(first, struct sharedev_req);
    first = first->next;
    if (n) memcpy(r->in[0].iov_base, r->out[0].iov_base, n);
    r->written = n;
    r->done(r);
    return true;
}

static void setup(void)
{
    static const struct sharedev_ops ops = { on_submit, on_settle, on_reset, on_save, on_load };
    board_new();
    folder = (struct sharedev){ .ops = &ops, .tag = "files" };
    first = NULL;
    messages = resets = quick = 0;
    ck_assert_int_eq(0, virtio_9p_new(&dev, bus, pci, SLOT, "virtio-9p0", &folder));
    board_start();
}
static void teardown(void)
{
    virtio_9p_free(dev);
    board_free();
    byte_queue_free(&given);
}

static void send(unsigned i)
{
    put(MESSAGE_AT, "message!", 8);
    desc(0, i, MESSAGE_AT, 8, D_NEXT, (u16)(i + 1));
    desc(0, i + 1, ANSWER_AT, 100, D_WRITE, 0);
    offer(0, (u16)i);
    kick(0);
}

START_TEST(a_driver_finds_the_device_and_its_tag)
{
    ck_assert_uint_eq(0x10091af4, cfg_read(0));
    ck_assert_uint_eq(0x00091af4, cfg_read(0x2c));
    ck_assert_uint_eq(1, rd(4, 4) & 1); /* it has a tag */
    ck_assert_uint_eq(5, rd(0x2000, 2));
    ck_assert_uint_eq('f' | 'i' << 8 | 'l' << 16 | 'e' << 24, rd(0x2002, 4));
    ck_assert_uint_eq('s', rd(0x2006, 4));
}
END_TEST

START_TEST(a_message_goes_to_the_folder_and_its_answer_comes_back)
{
    u32 id, len;
    char got[9] = "";
    driver_start(1, 1);
    send(0);
    send(4);
    ck_assert_uint_eq(2, messages);
    ck_assert_uint_eq(0, used_idx(0));
    ck_assert(answer(8));
    ck_assert_uint_eq(1, used_idx(0));
    used(0, 0, &id, &len);
    ck_assert_uint_eq(0, id);
    ck_assert_uint_eq(8, len);
    get(ANSWER_AT, got, 8);
    ck_assert_str_eq("message!", got);
    ck_assert(intx);
    ck_assert(answer(8));
    used(0, 1, &id, &len);
    ck_assert_uint_eq(4, id);
}
END_TEST

START_TEST(what_is_answered_soon_is_there_before_the_driver_goes_on)
{
    driver_start(1, 1);
    quick = 1;
    send(0);
    ck_assert_uint_eq(1, used_idx(0));
    ck_assert(intx);
    send(4);
    ck_assert_uint_eq(2, messages);
    ck_assert_uint_eq(1, used_idx(0));
    ck_assert(answer(8));
    ck_assert_uint_eq(2, used_idx(0));
}
END_TEST

START_TEST(what_cannot_be_answered_breaks_the_device_until_it_is_reset)
{
    driver_start(1, 1);
    send(0);
    ck_assert(answer(0));
    ck_assert(status() & S_NEEDS_RESET);
    driver_start(1, 1);
    send(0);
    ck_assert(answer(8));
    ck_assert_uint_eq(1, used_idx(0));
}
END_TEST

START_TEST(a_reset_waits_for_what_is_under_way_and_gives_it_to_nobody)
{
    driver_start(1, 1);
    unsigned before = resets;
    send(0);
    wr(20, 1, 0);
    ck_assert_uint_eq(before + 1, resets);
    ck_assert_uint_ne(0, status());
    ck_assert(answer(8));
    ck_assert_uint_eq(0, status());
    ck_assert_uint_eq(0, used_idx(0));
}
END_TEST

START_TEST(the_session_is_part_of_a_saved_machine)
{
    struct snap_part part[2];
    struct snap_buf b = { 0 };
    char why[100];
    ck_assert_uint_eq(1, virtio_9p_parts(dev, part, 1));
    ck_assert_uint_eq(2, virtio_9p_parts(dev, part, 2));
    virtio_9p_save(dev);
    snap_save(&part[1], &b);
    ck_assert_int_eq(0, snap_load(&part[1], b.data, b.len, why, sizeof why));
    ck_assert_uint_eq(4, given.len);
    ck_assert_mem_eq("open", given.data, 4);
    snap_buf_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio-9p");
    TCase *t = tcase_create("virtio-9p");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_driver_finds_the_device_and_its_tag);
    tcase_add_test(t, a_message_goes_to_the_folder_and_its_answer_comes_back);
    tcase_add_test(t, what_is_answered_soon_is_there_before_the_driver_goes_on);
    tcase_add_test(t, what_cannot_be_answered_breaks_the_device_until_it_is_reset);
    tcase_add_test(t, a_reset_waits_for_what_is_under_way_and_gives_it_to_nobody);
    tcase_add_test(t, the_session_is_part_of_a_saved_machine);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
