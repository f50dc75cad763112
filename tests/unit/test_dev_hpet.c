/* The high precision event timers as drivers see them: IA-PC HPET specification, 1.0a. */
#include "core/clock.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>

enum { CAP = 0, CONF = 0x10, STATUS = 0x20, COUNT = 0xf0 };
#define T(n) (0x100u + 0x20 * (n))
#define CMP(n) (0x108u + 0x20 * (n))
enum { LEVEL = 2, ENABLE = 4, PERIODIC = 8, VAL_SET = 0x40, NARROW = 0x100 };
#define PIN(n) ((u32)(n) << 9)
#define MHZ 14318180ull
#define MS 1000000ull
#define WRAP_NS ((1ull << 32) * 1000000000 / MHZ + 1000) /* of 32 bits */
enum { IRQ0 = 4, IRQ8 = 5 };                             /* beside pins 20 to 23 */

static struct bus *bus;
static struct clock *clk;
static struct hpet *hpet;
static u64 now_ns;
static bool level[6];
static unsigned rises[6];

static void on_wire(void *opaque UNUSED, unsigned n, bool high)
{
    rises[n] += high && !level[n];
    level[n] = high;
}

static u32 rd(u32 at) { return bus_mmio_read(bus, HPET_BASE + at, 4); }
static void wr(u32 at, u32 v) { bus_mmio_write(bus, HPET_BASE + at, 4, v); }

static struct hpet *another(void)
{
    struct hpet_wires to;
    struct hpet *h;
    for (unsigned i = 0; i < 4; i++) to.apic[i] = (struct irq_line){ on_wire, NULL, i };
    for (unsigned i = 0; i < 2; i++) to.isa[i] = (struct irq_line){ on_wire, NULL, IRQ0 + i };
    ck_assert_int_eq(0, hpet_new(&h, bus, clk, &to));
    return h;
}

static void setup(void)
{
    ck_assert_int_eq(0, bus_new(&bus, 16u << 20));
    ck_assert_int_eq(0, clock_new(&clk));
    clock_set_manual(clk, now_ns = 5 * MS);
    for (unsigned i = 0; i < ARRAY_LEN(level); i++) level[i] = false, rises[i] = 0;
    hpet = another();
}
static void teardown(void)
{
    hpet_free(hpet);
    clock_free(clk);
    bus_free(bus);
}
static void advance(u64 ns)
{
    for (u64 to = now_ns + ns;;) {
        u64 at = clock_next_deadline(clk);
        if (at > to) {
            clock_set_manual(clk, now_ns = to);
            return;
        }
        clock_set_manual(clk, now_ns = at > now_ns ? at : now_ns);
        clock_run_due(clk);
    }
}
static void is_near(u64 want, u64 got)
{
    ck_assert_msg(got + 1 >= want && got <= want + 1, "%llu, not %llu", (unsigned long long)got,
                  (unsigned long long)want);
}

START_TEST(it_says_what_it_is)
{
    ck_assert_uint_eq(0x8086a201, rd(CAP));
    ck_assert_uint_eq(69841279, rd(CAP + 4));
    ck_assert_uint_eq(0x30, rd(T(0)));
    ck_assert_uint_eq(0, rd(T(1)));
    for (unsigned n = 0; n < 3; n++) ck_assert_uint_eq(0x00f00000, rd(T(n) + 4));
    ck_assert_uint_eq(0xffffffff, rd(CMP(0)));
    ck_assert_uint_eq(0xffffffff, rd(CMP(0) + 4));
    ck_assert_uint_eq(0, rd(CMP(1) + 4));
    wr(CAP, 0);
    wr(T(0), ~0u);
    ck_assert_uint_eq(0x17e, rd(T(0)) & 0x1ff); /* bit 0 is reserved, bit 7 too */
    wr(T(2), ~0u);
    ck_assert_uint_eq(LEVEL | ENABLE, rd(T(2))); /* and pin 31 is none of its */
    ck_assert_uint_eq(0x86, bus_mmio_read(bus, HPET_BASE + 2, 1));
}
END_TEST

START_TEST(the_counter_counts_while_it_is_enabled)
{
    wr(COUNT, 0xfffffff0), wr(COUNT + 4, 7);
    advance(MS);
    ck_assert_uint_eq(0xfffffff0, rd(COUNT));
    wr(CONF, 1);
    advance(1000 * MS);
    u64 count = rd(COUNT) | (u64)rd(COUNT + 4) << 32;
    is_near(0x7fffffff0 + MHZ, count);
    wr(CONF, 0);
    advance(MS);
    is_near(count, rd(COUNT) | (u64)rd(COUNT + 4) << 32);
    wr(CONF, 1);
    advance(1000 * MS);
    is_near(count + MHZ, rd(COUNT) | (u64)rd(COUNT + 4) << 32);
}
END_TEST

START_TEST(an_edge_comes_when_the_counter_is_there_and_after_a_wrap_again)
{
    wr(CONF, 1);
    wr(T(1), ENABLE | PIN(21));
    wr(CMP(1), rd(COUNT) + MHZ / 1000);
    advance(MS - 1000);
    ck_assert_uint_eq(0, rises[1]);
    advance(2000);
    ck_assert_uint_eq(1, rises[1]);
    ck_assert_uint_eq(0, rd(STATUS));
    advance(WRAP_NS);
    ck_assert_uint_eq(2, rises[1]);
    ck_assert_uint_eq(0, rises[0] + rises[2] + rises[3] + rises[IRQ0] + rises[IRQ8]);
    wr(T(0), ENABLE | PIN(20)); /* that of 64 bits comes once */
    wr(CMP(0), rd(COUNT) + 1000), wr(CMP(0) + 4, rd(COUNT + 4));
    advance(WRAP_NS);
    ck_assert_uint_eq(1, rises[0]);
}
END_TEST

START_TEST(a_level_stays_until_its_status_is_written)
{
    wr(CONF, 1);
    wr(T(2), ENABLE | LEVEL | PIN(23));
    wr(CMP(2), rd(COUNT) + 1000);
    advance(MS);
    ck_assert(level[3]);
    ck_assert_uint_eq(4, rd(STATUS));
    wr(STATUS, 3);
    ck_assert(level[3]);
    wr(T(2), LEVEL | PIN(23));
    ck_assert(!level[3]);
    wr(T(2), ENABLE | LEVEL | PIN(23));
    ck_assert(level[3]);
    wr(STATUS, 4);
    ck_assert(!level[3] && !rd(STATUS));
}
END_TEST

/* As Linux sets it: the first match with VAL_SET, then the period alone. */
START_TEST(a_periodic_timer_goes_on_by_its_period)
{
    wr(CONF, 1);
    u32 count = rd(COUNT);
    wr(T(0), ENABLE | PERIODIC | VAL_SET | NARROW | PIN(22));
    wr(CMP(0), count + 5 * MHZ / 1000);
    ck_assert_uint_eq(0, rd(T(0)) & VAL_SET);
    wr(CMP(0), 2 * MHZ / 1000);
    advance(4 * MS);
    ck_assert_uint_eq(0, rises[2]);
    advance(2 * MS);
    ck_assert_uint_eq(1, rises[2]);
    advance(100 * MS);
    ck_assert_uint_eq(51, rises[2]);
    ck_assert_uint_eq((u32)(count + 5 * MHZ / 1000 + 51 * (2 * MHZ / 1000)), rd(CMP(0)));
    wr(T(0), PERIODIC | NARROW | PIN(22));
    advance(100 * MS);
    ck_assert(rises[2] == 51 && !level[2]);
}
END_TEST

START_TEST(timers_take_the_place_of_the_8254_and_the_rtc)
{
    struct irq_line pit = hpet_legacy_input(hpet, 0), rtc = hpet_legacy_input(hpet, 1);
    irq_set(&pit, true), irq_set(&pit, false), irq_set(&rtc, true);
    ck_assert(rises[IRQ0] == 1 && level[IRQ8]);
    wr(CONF, 3);
    ck_assert(!level[IRQ8]);
    irq_set(&pit, true);
    ck_assert_uint_eq(1, rises[IRQ0]);
    wr(T(0), ENABLE | NARROW | PIN(20)), wr(T(1), ENABLE | LEVEL | PIN(21));
    wr(CMP(0), rd(COUNT) + 1000), wr(CMP(1), rd(COUNT) + 1000);
    advance(MS);
    ck_assert(rises[IRQ0] == 2 && level[IRQ8] && !rises[0] && !rises[1]);
    wr(CONF, 1);
    ck_assert(level[IRQ0] && level[IRQ8] && level[1]); /* the 8254 and the RTC have been high all the time */
    irq_set(&pit, false);
    ck_assert(!level[IRQ0]);
}
END_TEST

START_TEST(a_guest_that_asks_for_a_million_interrupts_gets_fewer)
{
    wr(CONF, 1);
    wr(T(0), ENABLE | PERIODIC | VAL_SET | NARROW | PIN(22));
    wr(CMP(0), 1);
    advance(10 * MS);
    ck_assert_msg(rises[2] > 100 && rises[2] <= 200, "%u", rises[2]);
}
END_TEST

START_TEST(saved_in_the_middle_it_goes_on_in_another)
{
    struct snap_buf saved = { 0 }, again = { 0 };
    char why[128] = "";
    wr(CONF, 1);
    wr(T(0), ENABLE | PERIODIC | VAL_SET | NARROW | PIN(22));
    wr(CMP(0), 2 * MHZ / 1000);
    wr(T(1), ENABLE | PIN(21));
    wr(CMP(1), 100 * MHZ / 1000);
    advance(31 * MS);
    struct snap_part part = hpet_part(hpet);
    snap_save(&part, &saved);
    bus_unmap_mmio(bus, HPET_BASE);
    hpet_free(hpet);
    hpet = another();
    part = hpet_part(hpet);
    ck_assert_msg(!snap_load(&part, saved.data, saved.len, why, sizeof why), "%s", why);
    snap_save(&part, &again);
    ck_assert(saved.len == again.len && !memcmp(saved.data, again.data, saved.len));
    unsigned before = rises[2];
    advance(70 * MS);
    ck_assert_uint_eq(before + 35, rises[2]);
    ck_assert_uint_eq(1, rises[1]);
    snap_buf_free(&saved);
    snap_buf_free(&again);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hpet");
    TCase *t = tcase_create("hpet");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, it_says_what_it_is);
    tcase_add_test(t, the_counter_counts_while_it_is_enabled);
    tcase_add_test(t, an_edge_comes_when_the_counter_is_there_and_after_a_wrap_again);
    tcase_add_test(t, a_level_stays_until_its_status_is_written);
    tcase_add_test(t, a_periodic_timer_goes_on_by_its_period);
    tcase_add_test(t, timers_take_the_place_of_the_8254_and_the_rtc);
    tcase_add_test(t, a_guest_that_asks_for_a_million_interrupts_gets_fewer);
    tcase_add_test(t, saved_in_the_middle_it_goes_on_in_another);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
