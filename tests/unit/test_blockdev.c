/* core/blockdev.h and its thread: a chip that has many requests under way, in front of an image in memory. */
#include "src/back/blockdev.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#define SECTORS 256u
#define SIZE (SECTORS * BLOCKDEV_SECTOR)

/* The image: memory, and what a power cut would leave of it. */
struct image {
    u8 now[SIZE], durable[SIZE];
    unsigned flushes, reads, zeroed;
    int fail; /* -errno of the next write */
    bool slow;
    pthread_t by; /* who called last */
};

static int image_read(void *image, u64 offset, const struct iovec *iov, unsigned n)
{
    struct image *m = image;
    m->by = pthread_self();
    m->reads++;
    if (m->slow) usleep(2000);
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len) memcpy(iov[i].iov_base, m->now + offset, iov[i].iov_len);
    return 0;
}
static int image_write(void *image, u64 offset, const struct iovec *iov, unsigned n)
{
    struct image *m = image;
    if (m->fail) return m->fail;
    for (unsigned i = 0; i < n; offset += iov[i++].iov_len) memcpy(m->now + offset, iov[i].iov_base, iov[i].iov_len);
    return 0;
}
static int image_flush(void *image)
{
    struct image *m = image;
    memcpy(m->durable, m->now, SIZE);
    m->flushes++;
    return 0;
}
static int image_discard(void *image, u64 offset, u64 len)
{
    memset(((struct image *)image)->now + offset, 0, len);
    return 0;
}
static int image_zero(void *image, u64 offset, u64 len)
{
    memset(((struct image *)image)->now + offset, 0, len);
    ((struct image *)image)->zeroed++;
    return 0;
}
static const struct block_image_ops image_ops = { image_read, image_write, image_flush, image_zero, image_discard };

static struct image image;
static struct blockdev *disk;
static sem_t woken;
static void wake(void *arg) { sem_post(arg); }
static unsigned announced;
static u64 announced_ns;
static void asked(void *arg UNUSED, u64 ns)
{
    announced++;
    announced_ns = ns;
}

/* The chip: requests of its own, which note how they ended. */
struct request {
    struct blockdev_req r;
    struct iovec iov[3];
    bool done;
    int err;
    pthread_t by;
    struct request *then; /* submitted from within done() */
};

static void chip_done(struct blockdev_req *r, int err)
{
    struct request *q = r->arg;
    q->done = true;
    q->err = err;
    q->by = pthread_self();
    if (q->then) blockdev_submit(disk, &q->then->r);
}

static void submit(struct request *q, enum blockdev_op op, u64 sector, void *data, u64 n)
{
    q->done = false;
    q->iov[0] = (struct iovec){ data, n / 2 };
    q->iov[1] = (struct iovec){ (u8 *)data + n / 2, 0 };
    q->iov[2] = (struct iovec){ (u8 *)data + n / 2, n - n / 2 };
    q->r = (struct blockdev_req){ .op = op,
                                  .offset = op == BLOCKDEV_FLUSH ? 0 : sector * BLOCKDEV_SECTOR,
                                  .len = n,
                                  .iov = q->iov,
                                  .niov = op == BLOCKDEV_READ || op == BLOCKDEV_WRITE ? 3 : 0,
                                  .durable = q->r.durable,
                                  .done = chip_done,
                                  .arg = q };
    blockdev_submit(disk, &q->r);
}

/* As the vCPU thread does: waits to be woken, and completes. */
static void until(const struct request *q)
{
    while (!q->done) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += 20;
        ck_assert_msg(!sem_timedwait(&woken, &t), "nobody was woken in 20 s");
        blockdev_complete(disk);
    }
}

/* What the host says to a failure, so many times. */
static unsigned holds, holds_asked;
static bool hold(void *arg, bool write, int err)
{
    unsigned *left = arg;
    ck_assert_int_lt(err, 0);
    holds_asked += write;
    return *left && (*left)--;
}

static void setup(void)
{
    memset(&image, 0, sizeof image);
    sem_init(&woken, 0, 0);
    const struct blockdev_host host = { wake, asked, &woken, hold, &holds };
    holds = holds_asked = 0;
    const struct blockdev_medium medium = { .ops = &image_ops, .image = &image, .size = SIZE };
    ck_assert_int_eq(0, blockdev_new(&disk, &medium, THREAD_DISK, &host));
    ck_assert_uint_eq(SIZE, disk->size);
}
static void teardown(void)
{
    blockdev_free(disk);
    sem_destroy(&woken);
}

START_TEST(what_is_written_is_read_and_done_comes_to_the_thread_that_completes)
{
    u8 out[1536], in[1536];
    struct request w = { 0 }, r = { 0 };
    for (unsigned i = 0; i < sizeof out; i++) out[i] = (u8)(i * 7);
    announced = 0;
    submit(&w, BLOCKDEV_WRITE, 5, out, sizeof out);
    ck_assert(!w.done && announced == 1); /* whoever sleeps next may watch for it before */
    until(&w);
    submit(&r, BLOCKDEV_READ, 5, in, sizeof in);
    until(&r);
    ck_assert_int_eq(0, w.err);
    ck_assert_int_eq(0, r.err);
    ck_assert_mem_eq(out, in, sizeof in);
    ck_assert_mem_eq(image.now + 5 * BLOCKDEV_SECTOR, out, sizeof out);
    ck_assert(pthread_equal(r.by, pthread_self()));
    ck_assert(!pthread_equal(image.by, pthread_self()));
}
END_TEST

START_TEST(what_is_longer_may_be_watched_for_longer_up_to_a_limit)
{
    static u8 data[SIZE];
    struct request q = { 0 };
    u64 least;
    submit(&q, BLOCKDEV_READ, 0, data, BLOCKDEV_SECTOR);
    until(&q);
    least = announced_ns;
    ck_assert_uint_ge(least, 50000);
    submit(&q, BLOCKDEV_READ, 0, data, SIZE);
    until(&q);
    ck_assert_uint_gt(announced_ns, least);
    q.done = false;
    q.r.len = 1u << 30; /* too long for the disk: nothing is read */
    blockdev_submit(disk, &q.r);
    until(&q);
    ck_assert_int_ne(0, q.err);
    ck_assert_uint_le(announced_ns, 1000000);
    submit(&q, BLOCKDEV_DISCARD, 0, NULL, SIZE); /* moves nothing */
    until(&q);
    ck_assert_uint_le(announced_ns, least);
}
END_TEST

START_TEST(submitting_waits_for_nothing)
{
    static u8 in[64][BLOCKDEV_SECTOR];
    static struct request q[64];
    image.slow = true;
    for (unsigned i = 0; i < 64; i++) submit(&q[i], BLOCKDEV_READ, i, in[i], BLOCKDEV_SECTOR);
    ck_assert_uint_lt(image.reads, 60); /* 2 ms each: most of them are still to come */
    for (unsigned i = 0; i < 64; i++) until(&q[i]);
    ck_assert_uint_eq(64, image.reads);
}
END_TEST

START_TEST(a_flush_makes_durable_what_was_written_before)
{
    u8 data[BLOCKDEV_SECTOR];
    struct request w = { 0 }, f = { 0 };
    memset(data, 0x5a, sizeof data);
    submit(&w, BLOCKDEV_WRITE, 9, data, sizeof data);
    until(&w);
    ck_assert_uint_eq(0, image.durable[9 * BLOCKDEV_SECTOR]);
    submit(&f, BLOCKDEV_FLUSH, 0, NULL, 0);
    until(&f);
    ck_assert_int_eq(0, f.err);
    ck_assert_mem_eq(image.durable + 9 * BLOCKDEV_SECTOR, data, sizeof data);
}
END_TEST

/* By the request that asks for it, and on a disk without a cache. */
START_TEST(a_durable_write_outlives_a_power_cut_when_it_is_done)
{
    const struct blockdev_medium through = { &image_ops, &image, SIZE, .write_through = true };
    u8 data[BLOCKDEV_SECTOR];
    struct request w = { .r.durable = !_i }, r = { .r.durable = true };
    memset(data, 0x5a, sizeof data);
    if (_i) blockdev_change(disk, &through);
    submit(&w, BLOCKDEV_WRITE, 9, data, sizeof data);
    until(&w);
    ck_assert_int_eq(0, w.err);
    ck_assert_mem_eq(image.durable + 9 * BLOCKDEV_SECTOR, data, sizeof data);
    submit(&w, BLOCKDEV_ZERO, 9, NULL, BLOCKDEV_SECTOR);
    until(&w);
    ck_assert_uint_eq(0, image.durable[9 * BLOCKDEV_SECTOR]);
    ck_assert_uint_eq(2, image.flushes);
    submit(&r, BLOCKDEV_READ, 9, data, sizeof data);
    until(&r);
    image.fail = -ENOSPC;
    submit(&w, BLOCKDEV_WRITE, 9, data, sizeof data);
    until(&w);
    ck_assert_int_eq(-ENOSPC, w.err);
    ck_assert_uint_eq(2, image.flushes);
}
END_TEST

START_TEST(a_range_is_discarded_or_zeroed)
{
    struct request d = { 0 };
    memset(image.now, 1, SIZE);
    submit(&d, _i ? BLOCKDEV_ZERO : BLOCKDEV_DISCARD, 2, NULL, 2 * BLOCKDEV_SECTOR);
    until(&d);
    ck_assert_int_eq(0, d.err);
    ck_assert_uint_eq(1, image.now[2 * BLOCKDEV_SECTOR - 1]);
    ck_assert_uint_eq(0, image.now[2 * BLOCKDEV_SECTOR]);
    ck_assert_uint_eq(0, image.now[4 * BLOCKDEV_SECTOR - 1]);
    ck_assert_uint_eq(1, image.now[4 * BLOCKDEV_SECTOR]);
    ck_assert_uint_eq((unsigned)_i, image.zeroed);
}
END_TEST

START_TEST(what_does_not_fit_the_disk_never_reaches_the_image)
{
    static u8 data[4 * BLOCKDEV_SECTOR];
    const struct {
        u64 offset, len;
    } bad[] = {
        { SIZE, 512 }, { SIZE - 512, 1024 }, { 1, 512 }, { 0, 511 }, { ~0ull - 511, 512 }, { 512, ~0ull - 511 }
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct request q = { .iov = { { data, bad[i].len } } };
        q.r = (struct blockdev_req){ .op = BLOCKDEV_READ,
                                     .offset = bad[i].offset,
                                     .len = bad[i].len,
                                     .iov = q.iov,
                                     .niov = 1,
                                     .done = chip_done,
                                     .arg = &q };
        blockdev_submit(disk, &q.r);
        until(&q);
        ck_assert_msg(q.err == -EINVAL, "%u: %d", i, q.err);
    }
    struct request q = { .iov = { { data, 512 } } }; /* a list that is shorter than it says */
    q.r = (struct blockdev_req){
        .op = BLOCKDEV_READ, .len = 1024, .iov = q.iov, .niov = 1, .done = chip_done, .arg = &q
    };
    blockdev_submit(disk, &q.r);
    until(&q);
    ck_assert_int_eq(-EINVAL, q.err);
    ck_assert_uint_eq(0, image.reads);
}
END_TEST

START_TEST(failures_come_back_with_their_reason)
{
    u8 data[BLOCKDEV_SECTOR] = { 0 };
    struct request q = { 0 };
    image.fail = -ENOSPC;
    submit(&q, BLOCKDEV_WRITE, 0, data, sizeof data);
    until(&q);
    ck_assert_int_eq(-ENOSPC, q.err);
    disk->readonly = true;
    submit(&q, BLOCKDEV_WRITE, 0, data, sizeof data);
    until(&q);
    ck_assert_int_eq(-EROFS, q.err);
}
END_TEST

START_TEST(drained_means_that_nothing_is_under_way_nor_what_that_brought_about)
{
    static u8 data[BLOCKDEV_SECTOR];
    static struct request q[40];
    image.slow = true;
    for (unsigned i = 39; i > 0; i--) { /* 0 is followed by 1, and so on */
        q[i].iov[0] = (struct iovec){ data, sizeof data };
        q[i].r = (struct blockdev_req){
            .op = BLOCKDEV_READ, .len = sizeof data, .iov = q[i].iov, .niov = 1, .done = chip_done, .arg = &q[i]
        };
        q[i - 1].then = &q[i];
    }
    submit(&q[0], BLOCKDEV_READ, 0, data, sizeof data);
    blockdev_drain(disk);
    for (unsigned i = 0; i < 40; i++) ck_assert_msg(q[i].done && !q[i].err, "%u", i);
    ck_assert_uint_eq(40, image.reads);
}
END_TEST

/* Two writes fail, the one behind them does not wait for them. */
static void two_are_held(struct request q[3], u8 data[BLOCKDEV_SECTOR])
{
    image.fail = -ENOSPC;
    holds = 2;
    for (unsigned i = 0; i < 2; i++) submit(&q[i], BLOCKDEV_WRITE, i, data, BLOCKDEV_SECTOR);
    blockdev_drain(disk);
    image.fail = 0;
    ck_assert(blockdev_holds(disk) && !q[0].done && !q[1].done);
    submit(&q[2], BLOCKDEV_READ, 9, data, BLOCKDEV_SECTOR);
    blockdev_drain(disk);
    ck_assert(q[2].done && !q[2].err && !q[0].done);
    ck_assert_uint_eq(2, holds_asked);
}

START_TEST(what_is_held_is_made_once_more_and_only_then_done)
{
    u8 data[BLOCKDEV_SECTOR] = { 1 };
    struct request q[3] = { 0 };
    two_are_held(q, data);
    image.fail = -ENOSPC;
    holds = 1; /* there is still no room for the first; the second is reported */
    blockdev_retry(disk);
    blockdev_drain(disk);
    ck_assert(!q[0].done && q[1].done && q[1].err == -ENOSPC);
    image.fail = 0;
    blockdev_retry(disk);
    blockdev_drain(disk);
    ck_assert(q[0].done && !q[0].err && !blockdev_holds(disk));
}
END_TEST

START_TEST(what_is_given_up_has_failed_of_what_it_was_held_for)
{
    u8 data[BLOCKDEV_SECTOR] = { 1 };
    struct request q[3] = { 0 };
    two_are_held(q, data);
    blockdev_give_up(disk);
    for (unsigned i = 0; i < 2; i++) ck_assert(q[i].done && q[i].err == -ENOSPC);
    ck_assert(!blockdev_holds(disk));
}
END_TEST

START_TEST(freed_in_the_middle_of_its_work_it_calls_nobody)
{
    static u8 data[BLOCKDEV_SECTOR];
    static struct request q[200];
    image.slow = true;
    for (unsigned i = 0; i < 200; i++) submit(&q[i], BLOCKDEV_READ, 0, data, sizeof data);
    blockdev_free(disk);
    for (unsigned i = 0; i < 200; i++) ck_assert(!q[i].done);
    ck_assert_uint_lt(image.reads, 200);
    setup();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("blockdev");
    TCase *c = tcase_create("blockdev");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, what_is_written_is_read_and_done_comes_to_the_thread_that_completes);
    tcase_add_test(c, what_is_longer_may_be_watched_for_longer_up_to_a_limit);
    tcase_add_test(c, submitting_waits_for_nothing);
    tcase_add_test(c, a_flush_makes_durable_what_was_written_before);
    tcase_add_loop_test(c, a_durable_write_outlives_a_power_cut_when_it_is_done, 0, 2);
    tcase_add_loop_test(c, a_range_is_discarded_or_zeroed, 0, 2);
    tcase_add_test(c, what_does_not_fit_the_disk_never_reaches_the_image);
    tcase_add_test(c, failures_come_back_with_their_reason);
    tcase_add_test(c, drained_means_that_nothing_is_under_way_nor_what_that_brought_about);
    tcase_add_test(c, what_is_held_is_made_once_more_and_only_then_done);
    tcase_add_test(c, what_is_given_up_has_failed_of_what_it_was_held_for);
    tcase_add_test(c, freed_in_the_middle_of_its_work_it_calls_nobody);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
