/* The small virtio devices as drivers see them: random numbers, console, balloon. */
#include "core/rngdev.h"
#include "tests/unit/virtio_driver.h"

#include <sys/stat.h>

#define DATA_AT 0x200000u
enum { INFLATE, DEFLATE };
#define F_EMERG_WRITE 4u

/* ---- random numbers ---- */

static struct rngdev_req *asked;
static struct virtio_rng *rng;
static void on_submit(void *be UNUSED, struct rngdev_req *r)
{
    ck_assert_ptr_null(asked);
    ck_assert(r->wanted >= 1 && r->wanted <= RNGDEV_MAX);
    asked = r;
}
static void answer(u32 got)
{
    struct rngdev_req *r = asked;
    asked = NULL;
    for (u32 i = 0; i < got; i++) r->buf[i] = (u8)(i + 1);
    r->got = got;
    r->done(r);
}
static void rng_setup(void)
{
    static const struct rngdev source = { on_submit, NULL };
    board_new();
    asked = NULL;
    ck_assert_int_eq(0, virtio_rng_new(&rng, bus, pci, SLOT, &source));
    board_start();
}
static void rng_teardown(void)
{
    virtio_rng_free(rng);
    board_free();
}

START_TEST(random_numbers_come_one_request_after_another_and_no_more_than_there_is_room_for)
{
    static const u8 want[] = { 1, 2, 3, 4, 5, 0 };
    u8 got[sizeof want];
    u32 id, len;
    ck_assert_uint_eq(0x10051af4, cfg_read(0));
    ck_assert_uint_eq(0x00041af4, cfg_read(0x2c));
    driver_start(0, 1);
    desc(0, 0, DATA_AT, 5, D_WRITE, 0);
    desc(0, 1, DATA_AT + 0x1000, 0x10000, D_WRITE, 0);
    offer(0, 0);
    offer(0, 1);
    kick(0);
    ck_assert_uint_eq(5, asked->wanted);
    ck_assert_uint_eq(0, used_idx(0));
    answer(5);
    used(0, 0, &id, &len);
    ck_assert_uint_eq(5, len);
    get(DATA_AT, got, sizeof got);
    ck_assert_mem_eq(want, got, sizeof got);
    ck_assert(intx);
    ck_assert_uint_eq(RNGDEV_MAX, asked->wanted);
    answer(7); /* fewer than were wanted */
    used(0, 1, &id, &len);
    ck_assert_uint_eq(1, id);
    ck_assert_uint_eq(7, len);
    ck_assert_ptr_null(asked);
}
END_TEST

START_TEST(what_was_asked_for_before_a_reset_goes_to_nobody)
{
    u8 got = 0;
    driver_start(0, 1);
    desc(0, 0, DATA_AT, 1, D_WRITE, 0);
    offer(0, 0);
    kick(0);
    driver_start(0, 1);
    desc(0, 0, DATA_AT + 8, 1, D_WRITE, 0);
    offer(0, 0);
    kick(0);
    answer(1);
    get(DATA_AT, &got, 1);
    ck_assert_uint_eq(0, got);
    ck_assert_uint_eq(0, used_idx(0));
    answer(1);
    ck_assert_uint_eq(1, used_idx(0));
    get(DATA_AT + 8, &got, 1);
    ck_assert_uint_eq(1, got);
}
END_TEST

START_TEST(a_source_that_has_failed_breaks_the_device)
{
    driver_start(0, 1);
    desc(0, 0, DATA_AT, 1, D_WRITE, 0);
    offer(0, 0);
    kick(0);
    answer(0);
    ck_assert(status() & S_NEEDS_RESET);
    ck_assert_uint_eq(0, used_idx(0));
}
END_TEST

/* ---- console ---- */

static struct virtio_console *console;
static struct chardev line;
static char out[4096];
static size_t out_len;
static void on_write(void *be UNUSED, const u8 *buf, size_t n)
{
    ck_assert_uint_le(out_len + n, sizeof out);
    memcpy(out + out_len, buf, n);
    out_len += n;
}
static void console_setup(void)
{
    static const struct chardev_ops ops = { .write = on_write };
    board_new();
    line = (struct chardev){ .ops = &ops };
    out_len = 0;
    ck_assert_int_eq(0, virtio_console_new(&console, bus, pci, SLOT, &line));
    board_start();
}
static void console_teardown(void)
{
    virtio_console_free(console);
    ck_assert_ptr_null(line.rx);
    board_free();
}
static void type(const char *text) { line.rx(line.fe, (const u8 *)text, strlen(text)); }

START_TEST(what_the_driver_sends_goes_out_in_its_order)
{
    u8 text[1500];
    for (unsigned i = 0; i < sizeof text; i++) text[i] = (u8)('a' + i % 26);
    ck_assert_uint_eq(0x10031af4, cfg_read(0));
    driver_start(0, 2);
    put(DATA_AT, text, sizeof text);
    desc(1, 0, DATA_AT, 700, D_NEXT, 1);
    desc(1, 1, DATA_AT + 700, 799, 0, 0);
    desc(1, 2, DATA_AT + 1499, 1, 0, 0);
    offer(1, 0);
    offer(1, 2);
    kick(1);
    ck_assert_uint_eq(sizeof text, out_len);
    ck_assert_mem_eq(text, out, sizeof text);
    ck_assert_uint_eq(2, used_idx(1));
}
END_TEST

START_TEST(what_the_line_brings_waits_for_the_driver_and_for_its_room)
{
    char got[8] = "";
    u32 id, len;
    type("hello");
    driver_start(0, 2);
    desc(0, 0, DATA_AT, 3, D_WRITE, 0);
    desc(0, 1, DATA_AT + 3, 100, D_WRITE, 0);
    offer(0, 0);
    kick(0);
    used(0, 0, &id, &len);
    ck_assert_uint_eq(3, len);
    type(", you"); /* there is no room */
    ck_assert_uint_eq(1, used_idx(0));
    offer(0, 1);
    kick(0);
    used(0, 1, &id, &len);
    ck_assert_uint_eq(7, len);
    get(DATA_AT, got, 8);
    ck_assert_mem_eq("hello, y", got, 8);
    offer(0, 0);
    kick(0);
    ck_assert_uint_eq(2, used_idx(0));
    type("!");
    ck_assert_uint_eq(3, used_idx(0));
}
END_TEST

START_TEST(a_kernel_without_rings_writes_by_the_configuration)
{
    ck_assert_uint_eq(F_EMERG_WRITE, rd(4, 4) & 7);
    wr(0x2008, 4, 'x');
    wr(0x2004, 4, 'y');
    ck_assert_uint_eq(1, out_len);
    ck_assert_uint_eq('x', out[0]);
    bus_out(bus, (u16)(io_bar + 20 + 8), 4, 'z'); /* before 1.0 */
    ck_assert_uint_eq('z', out[1]);
}
END_TEST

START_TEST(what_was_typed_is_in_a_saved_machine)
{
    struct snap_part part[2];
    struct snap_buf b = { 0 };
    char why[128] = "", got[3] = "";
    type("abc");
    ck_assert_uint_eq(2, virtio_console_parts(console, part, 2));
    snap_save(&part[1], &b);
    ck_assert(!b.failed);
    type("d");
    ck_assert_int_eq(0, snap_load(&part[1], b.data, b.len, why, sizeof why));
    snap_buf_free(&b);
    driver_start(0, 2);
    desc(0, 0, DATA_AT, 100, D_WRITE, 0);
    offer(0, 0);
    kick(0);
    u32 id, len;
    used(0, 0, &id, &len);
    ck_assert_uint_eq(3, len);
    get(DATA_AT, got, 3);
    ck_assert_mem_eq("abc", got, 3);
}
END_TEST

/* ---- balloon ---- */

static struct virtio_balloon *balloon;
static void balloon_setup(void)
{
    board_new();
    ck_assert_int_eq(0, virtio_balloon_new(&balloon, bus, clk, pci, SLOT));
    board_start();
}
static void balloon_teardown(void)
{
    virtio_balloon_free(balloon);
    board_free();
}

/* Pages of RAM that the host has behind it. */
static u64 resident(void)
{
    struct stat st;
    ck_assert_int_eq(0, fstat(bus_ram_fd(bus), &st));
    return (u64)st.st_blocks * 512 / 4096;
}
static void offer_frames(unsigned q, const u32 *frames, unsigned n)
{
    put(DATA_AT, frames, 4 * n);
    desc(q, 0, DATA_AT, 4 * n, 0, 0);
    offer(q, 0);
    kick(q);
}

START_TEST(pages_in_the_balloon_are_the_host_s_again_and_read_as_zeroes)
{
    enum { FIRST = 0x400, PAGES = 200 };
    static u8 full[4096];
    u32 frames[PAGES + 4], word;
    memset(full, 0x77, sizeof full);
    ck_assert_uint_eq(0x10021af4, cfg_read(0));
    driver_start(0, 2);
    for (u32 i = 0; i < PAGES; i++) put((FIRST + i) << 12, full, sizeof full);
    u64 before = resident();
    for (u32 i = 0; i < PAGES; i++) frames[i] = FIRST + (i % 2 ? i : PAGES - 2 - i); /* every other backwards */
    frames[PAGES] = 0xfee00;
    frames[PAGES + 1] = RAM >> 12; /* no RAM, or nothing at all */
    frames[PAGES + 2] = 0xffffffff;
    frames[PAGES + 3] = MEM_BASE >> 12;
    offer_frames(INFLATE, frames, PAGES + 4);
    ck_assert_uint_eq(1, used_idx(INFLATE));
    ck_assert_uint_le(resident() + PAGES, before + 1); /* one for the list */
    for (u32 i = 0; i < PAGES; i++) {
        get((FIRST + i) << 12, &word, 4);
        ck_assert_uint_eq(0, word);
    }
    offer_frames(DEFLATE, frames, PAGES);
    ck_assert_uint_eq(1, used_idx(DEFLATE));
    ck_assert_uint_eq(0, status() & S_NEEDS_RESET);
}
END_TEST

#define STATS 2u
#define F_STATS (1ull << 1)
struct __attribute__((packed)) statistic {
    u16 tag;
    u64 value;
};
static void offer_stats(const struct statistic *s, u32 bytes)
{
    put(DATA_AT, s, bytes);
    desc(STATS, 0, DATA_AT, bytes, 0, 0);
    offer(STATS, 0);
    kick(STATS);
}
static void stats_are(u32 said, u64 free, u64 total)
{
    struct balloon_stats s;
    virtio_balloon_stats(balloon, &s);
    ck_assert_uint_eq(said, s.said);
    ck_assert_uint_eq(free, s.value[4]);
    ck_assert_uint_eq(total, s.value[5]);
}
/* Two that we know, one that nobody does, and a part of one. */
static const struct statistic some[] = { { 5, 1ull << 40 }, { 999, 7 }, { 4, 0x123456789a }, { 0, ~0ull } };

START_TEST(what_the_driver_says_of_the_memory_is_kept_and_its_buffer_until_it_is_asked)
{
    struct balloon_stats s;
    driver_start(F_STATS | EVENT_IDX, 3);
    put16(AVAIL_AT(STATS) + 4 + 2 * QUEUE_SIZE, 0); /* interrupt for the first */
    stats_are(0, 0, 0);
    virtio_balloon_ask(balloon); /* nobody is there who could be */
    ck_assert_uint_eq(0, rises);
    clock_set_manual(clk, 12345);
    offer_stats(some, 3 * sizeof some[0] + 9);
    stats_are(1 << 4 | 1 << 5, 0x123456789a, 1ull << 40);
    virtio_balloon_stats(balloon, &s);
    ck_assert_uint_eq(12345, s.said_at);
    ck_assert_uint_eq(0, used_idx(STATS));
    ck_assert_uint_eq(0, rises);
    virtio_balloon_ask(balloon);
    ck_assert_uint_eq(1, used_idx(STATS));
    ck_assert_uint_eq(1, rises);
    ck_assert_uint_eq(1, get16(USED_AT(STATS) + 4 + 8 * QUEUE_SIZE)); /* tell us of the next */
    virtio_balloon_ask(balloon);                                      /* it has not answered yet */
    ck_assert_uint_eq(1, used_idx(STATS));
    offer_stats(&some[2], sizeof some[0]);
    stats_are(1 << 4, 0x123456789a, 1ull << 40); /* the total is what it was; it has not said it again */
    wr(20, 1, 0);
    stats_are(0, 0, 0);
}
END_TEST

START_TEST(long_statistics_and_those_that_are_nowhere_do_no_harm)
{
    driver_start(F_STATS, 3);
    desc(STATS, 0, 0, RAM, 0, 0); /* all of memory */
    offer(STATS, 0);
    kick(STATS);
    ck_assert_uint_eq(0, status() & S_NEEDS_RESET);
    virtio_balloon_ask(balloon);
    ck_assert_uint_eq(1, used_idx(STATS));
    desc(STATS, 0, DATA_AT, 100, D_WRITE, 0); /* to be written to: there is nothing in it */
    offer(STATS, 0);
    kick(STATS);
    struct balloon_stats s;
    virtio_balloon_stats(balloon, &s);
    ck_assert_uint_eq(0, s.said);
    virtio_balloon_ask(balloon);
    ck_assert_uint_eq(2, used_idx(STATS));
    desc(STATS, 0, RAM - 8, 100, 0, 0);
    offer(STATS, 0);
    kick(STATS);
    ck_assert(status() & S_NEEDS_RESET);
    virtio_balloon_ask(balloon);
    ck_assert_uint_eq(2, used_idx(STATS));
}
END_TEST

START_TEST(a_loaded_machine_still_has_the_buffer_and_what_was_said)
{
    struct snap_part part[4];
    struct snap_buf b[4] = { 0 };
    char why[200];
    driver_start(F_STATS, 3);
    offer_stats(some, sizeof some);
    const unsigned n = virtio_balloon_parts(balloon, part, 4);
    ck_assert_uint_eq(2, n);
    for (unsigned i = 0; i < n; i++) snap_save(&part[i], &b[i]);
    virtio_balloon_ask(balloon);
    wr(20, 1, 0);
    put16(USED_AT(STATS) + 2, 0); /* as memory was */
    for (unsigned i = 0; i < n; i++) {
        ck_assert_int_eq(0, snap_load(&part[i], b[i].data, b[i].len, why, sizeof why));
        snap_buf_free(&b[i]);
    }
    stats_are(1 << 0 | 1 << 4 | 1 << 5, 0x123456789a, 1ull << 40);
    virtio_balloon_ask(balloon);
    ck_assert_uint_eq(1, used_idx(STATS));
}
END_TEST

START_TEST(what_the_host_wants_is_told_by_an_interrupt_and_what_the_guest_has_is_heard)
{
    driver_start(0, 2);
    u32 generation = rd(21, 1);
    virtio_balloon_want(balloon, 0x12345);
    ck_assert(intx);
    ck_assert_uint_eq(2, isr()); /* the configuration's */
    ck_assert_uint_ne(generation, rd(21, 1));
    ck_assert_uint_eq(0x12345, rd(0x2000, 4));
    wr(0x2000, 4, 7); /* that is not the driver's */
    ck_assert_uint_eq(0x12345, rd(0x2000, 4));
    wr(0x2004, 4, 0x321);
    ck_assert_uint_eq(0x321, virtio_balloon_pages(balloon));
    for (unsigned i = 0; i < 4; i++) bus_out(bus, (u16)(io_bar + 20 + 4 + i), 1, 0x10 + i); /* before 1.0 */
    ck_assert_uint_eq(0x13121110, virtio_balloon_pages(balloon));
    ck_assert_uint_eq(0x13121110, rd(0x2004, 4));
    wr(20, 1, 0); /* a reset: all memory is the guest's */
    ck_assert_uint_eq(0, virtio_balloon_pages(balloon));
    ck_assert_uint_eq(0x12345, rd(0x2000, 4));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("virtio_small");
    TCase *c = tcase_create("rng");
    tcase_add_checked_fixture(c, rng_setup, rng_teardown);
    tcase_add_test(c, random_numbers_come_one_request_after_another_and_no_more_than_there_is_room_for);
    tcase_add_test(c, what_was_asked_for_before_a_reset_goes_to_nobody);
    tcase_add_test(c, a_source_that_has_failed_breaks_the_device);
    suite_add_tcase(s, c);
    c = tcase_create("console");
    tcase_add_checked_fixture(c, console_setup, console_teardown);
    tcase_add_test(c, what_the_driver_sends_goes_out_in_its_order);
    tcase_add_test(c, what_the_line_brings_waits_for_the_driver_and_for_its_room);
    tcase_add_test(c, a_kernel_without_rings_writes_by_the_configuration);
    tcase_add_test(c, what_was_typed_is_in_a_saved_machine);
    suite_add_tcase(s, c);
    c = tcase_create("balloon");
    tcase_add_checked_fixture(c, balloon_setup, balloon_teardown);
    tcase_add_test(c, pages_in_the_balloon_are_the_host_s_again_and_read_as_zeroes);
    tcase_add_test(c, what_the_driver_says_of_the_memory_is_kept_and_its_buffer_until_it_is_asked);
    tcase_add_test(c, long_statistics_and_those_that_are_nowhere_do_no_harm);
    tcase_add_test(c, a_loaded_machine_still_has_the_buffer_and_what_was_said);
    tcase_add_test(c, what_the_host_wants_is_told_by_an_interrupt_and_what_the_guest_has_is_heard);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
