/* The 8254: modes, access ways and the promise that no tick drifts or is lost without bound. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

#define HZ 1193182ull

static struct pit *pit;
static struct wire irq0;

static void setup(void)
{
    machine_clear();
    memset(&irq0, 0, sizeof(irq0));
    ck_assert_int_eq(pit_new(&pit, &fake_bus, &fake_clock, wire_line(&irq0)), 0);
    irq0.rises = irq0.falls = 0;
}
static void teardown(void) { pit_free(pit); }

/* Time until the chip has counted n more clocks. */
static void clocks(u64 n)
{
    u64 now = (unsigned __int128)fake_clock.now * HZ / SEC;
    u64 ns = ((unsigned __int128)(now + n) * SEC + HZ - 1) / HZ;

    pass(&fake_clock, ns - fake_clock.now);
}
static void program(unsigned n, unsigned mode, u16 count)
{
    outb(0x43, n << 6 | 0x30 | mode << 1);
    outb(0x40 + n, count);
    outb(0x40 + n, count >> 8);
}
static unsigned count(unsigned n)
{
    u8 lo;

    outb(0x43, n << 6);
    lo = inb(0x40 + n);
    return lo | inb(0x40 + n) << 8;
}
static u8 status(unsigned n)
{
    outb(0x43, 0xe0 | 2 << n);
    return inb(0x40 + n);
}

START_TEST(nothing_ticks_before_it_is_programmed)
{
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq0.rises, 0);
    ck_assert_uint_eq(clock_next_deadline(&fake_clock), UINT64_MAX);
}
END_TEST

START_TEST(mode_2_ticks_for_an_hour_without_drift)
{
    program(0, 2, 11932);
    irq0.rises = 0;
    pass(&fake_clock, 3600 * SEC);
    ck_assert_uint_eq(irq0.rises, (3600 * HZ - 1) / 11932);
}
END_TEST

START_TEST(mode_2_counts_down_from_the_reload_to_one)
{
    program(0, 2, 1000);
    clocks(1);
    ck_assert_uint_eq(count(0), 1000);
    clocks(999);
    ck_assert_uint_eq(count(0), 1);
    ck_assert_uint_eq(status(0) & 0x80, 0); /* OUT is low for the last clock */
    clocks(1);
    ck_assert_uint_eq(count(0), 1000);
    ck_assert_uint_eq(status(0), 0x80 | 0x34);
}
END_TEST

START_TEST(mode_2_takes_a_new_count_at_the_end_of_the_cycle)
{
    program(0, 2, 1000);
    clocks(501);
    outb(0x40, 100);
    outb(0x40, 0);
    ck_assert_uint_eq(count(0), 500);
    ck_assert_uint_eq(status(0) & 0x40, 0x40); /* null count: not yet loaded */
    irq0.rises = 0;
    clocks(499);
    ck_assert_uint_eq(irq0.rises, 0);
    clocks(1);
    ck_assert_uint_eq(irq0.rises, 1);
    ck_assert_uint_eq(count(0), 100);
    ck_assert_uint_eq(status(0) & 0x40, 0);
    clocks(100);
    ck_assert_uint_eq(irq0.rises, 2);
}
END_TEST

START_TEST(mode_3_is_a_square_wave_even_and_odd)
{
    program(2, 3, 10);
    outb(0x61, 1);
    clocks(1);
    for (unsigned i = 0; i < 40; i++, clocks(1)) {
        ck_assert_msg(!!(inb(0x61) & 0x20) == (i % 10 < 5), "clock %u", i);
        ck_assert_uint_eq(count(2), 10 - 2 * (i % 5));
    }
    program(2, 3, 5); /* three high, two low */
    clocks(1);
    for (unsigned i = 0; i < 20; i++, clocks(1)) {
        static const unsigned value[5] = { 4, 2, 0, 4, 2 };
        ck_assert_msg(!!(inb(0x61) & 0x20) == (i % 5 < 3), "odd, clock %u", i);
        ck_assert_uint_eq(count(2), value[i % 5]);
    }
}
END_TEST

START_TEST(mode_3_takes_a_new_count_at_the_end_of_a_half)
{
    program(0, 3, 100);
    clocks(1 + 20);
    irq0.rises = 0;
    outb(0x40, 40);
    outb(0x40, 0);
    clocks(30); /* end of the high half; the low half is 20 long now */
    ck_assert_uint_eq(status(0) & 0x80, 0);
    clocks(19);
    ck_assert_uint_eq(irq0.rises, 0);
    clocks(1);
    ck_assert_uint_eq(status(0) & 0x80, 0x80);
    clocks(1000); /* 50 us between interrupts at the least */
    ck_assert_uint_ge(irq0.rises, 10);
}
END_TEST

START_TEST(mode_0_interrupts_once_and_counts_on)
{
    program(0, 0, 500);
    ck_assert(!irq0.level);
    clocks(500);
    ck_assert(!irq0.level);
    clocks(1);
    ck_assert(irq0.level);
    ck_assert_uint_eq(irq0.rises, 1);
    clocks(1);
    ck_assert_uint_eq(count(0), 0xffff);
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq0.rises, 1);
}
END_TEST

START_TEST(mode_0_stops_at_the_first_byte_of_a_new_count)
{
    program(2, 0, 1000);
    outb(0x61, 1);
    clocks(101);
    outb(0x42, 200);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(5000);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    outb(0x42, 0);
    clocks(200);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
}
END_TEST

START_TEST(the_gate_holds_modes_0_and_4)
{
    program(2, 0, 100);
    clocks(50);
    ck_assert_uint_eq(count(2), 100); /* the gate is shut after reset */
    outb(0x61, 1);
    clocks(30);
    outb(0x61, 0);
    clocks(1000);
    ck_assert_uint_eq(count(2), 70);
    outb(0x61, 1);
    clocks(69);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
}
END_TEST

START_TEST(mode_1_is_a_retriggerable_one_shot)
{
    program(2, 1, 100);
    clocks(10);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
    outb(0x61, 1);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(60);
    outb(0x61, 0);
    outb(0x42, 20); /* for the next trigger */
    outb(0x42, 0);
    clocks(39);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
    outb(0x61, 1);
    clocks(20);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
}
END_TEST

START_TEST(mode_4_strobes_once)
{
    program(0, 4, 100);
    clocks(101);
    ck_assert_uint_eq(status(0) & 0x80, 0);
    ck_assert_uint_eq(irq0.rises, 0);
    clocks(1);
    ck_assert_uint_eq(status(0) & 0x80, 0x80);
    ck_assert_uint_eq(irq0.rises, 1);
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq0.rises, 1);
}
END_TEST

START_TEST(mode_5_strobes_after_a_trigger)
{
    program(2, 5, 10);
    clocks(100);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
    outb(0x61, 1);
    clocks(10);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0);
    clocks(1);
    ck_assert_uint_eq(inb(0x61) & 0x20, 0x20);
}
END_TEST

START_TEST(bcd_counts_in_tens)
{
    outb(0x61, 1);
    outb(0x43, 0xb1);
    outb(0x42, 0x00);
    outb(0x42, 0x10); /* 1000 */
    clocks(2);
    ck_assert_uint_eq(count(2), 0x0999);
    clocks(1000);
    ck_assert_uint_eq(count(2), 0x9999);
    outb(0x43, 0xb5);
    outb(0x42, 0); /* 0 means 10000 */
    outb(0x42, 0);
    clocks(2);
    ck_assert_uint_eq(count(2), 0x9999);
}
END_TEST

START_TEST(one_byte_access_leaves_the_other_byte_zero)
{
    outb(0x61, 1);
    outb(0x43, 0x90); /* LSB, mode 0 */
    outb(0x42, 0x80);
    clocks(1);
    ck_assert_uint_eq(inb(0x42), 0x80);
    outb(0x43, 0xa0); /* MSB */
    outb(0x42, 0x12);
    clocks(1);
    ck_assert_uint_eq(inb(0x42), 0x12);
    clocks(1);
    ck_assert_uint_eq(inb(0x42), 0x11);
}
END_TEST

START_TEST(a_latched_count_stands_until_it_is_read)
{
    program(0, 2, 5000);
    clocks(101);
    outb(0x43, 0x00);
    clocks(100);
    outb(0x43, 0x00); /* ignored: one is latched already */
    ck_assert_uint_eq(inb(0x40), 4900 & 0xff);
    ck_assert_uint_eq(inb(0x40), 4900 >> 8);
    outb(0x43, 0xc2); /* read back count and status: status comes first */
    clocks(7);
    ck_assert_uint_eq(inb(0x40), 0xb4);
    ck_assert_uint_eq(inb(0x40), 4800 & 0xff);
    ck_assert_uint_eq(inb(0x40), 4800 >> 8);
}
END_TEST

START_TEST(port_61_toggles_refresh_and_keeps_its_low_bits)
{
    u8 first = inb(0x61) & 0x10;

    outb(0x61, 0xff);
    ck_assert_uint_eq(inb(0x61) & 0xcf, 0x0f);
    pass(&fake_clock, 15100);
    ck_assert_uint_ne(inb(0x61) & 0x10, first);
}
END_TEST

START_TEST(ticks_missed_in_a_stall_are_given_later)
{
    program(0, 2, 11932); /* 10 ms */
    clocks(1);
    irq0.rises = 0;
    stall(&fake_clock, 105 * MS);
    ck_assert_uint_eq(irq0.rises, 1); /* not ten at once */
    pass(&fake_clock, 15 * MS);
    ck_assert_uint_eq(irq0.rises, 11); /* but within the next period or two */
    pass(&fake_clock, 385 * MS);
    ck_assert_uint_eq(irq0.rises, 50);
}
END_TEST

START_TEST(a_long_stall_costs_the_guest_time_and_not_us)
{
    program(0, 2, 11932);
    clocks(1);
    irq0.rises = 0;
    stall(&fake_clock, 3600 * SEC);
    pass(&fake_clock, 10 * SEC);
    ck_assert_uint_le(irq0.rises, 1000 + 101);
    ck_assert_uint_ge(irq0.rises, 1000 + 99);
}
END_TEST

START_TEST(absurd_rates_are_slowed_down)
{
    for (unsigned n = 1; n < 4; n++) {
        program(0, 2, n);
        irq0.rises = 0;
        pass(&fake_clock, SEC);
        ck_assert_uint_le(irq0.rises, 20000);
        ck_assert_uint_ge(irq0.rises, 19000);
    }
}
END_TEST

START_TEST(reset_stops_the_ticks)
{
    program(0, 2, 1000);
    pit_reset(pit);
    irq0.rises = 0;
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq0.rises, 0);
}
END_TEST

/* Whatever a guest writes, the chip neither divides by zero nor overflows (run under UBSan). */
START_TEST(random_programs_do_no_harm)
{
    u32 x = 12345;

    for (unsigned i = 0; i < 200000; i++) {
        x = x * 1664525 + 1013904223;
        u16 port = (x >> 8 & 7) == 7 ? 0x61 : 0x40 + (x >> 8 & 3);
        if (x >> 31) outb(port, x >> 16);
        else inb(port);
        pass(&fake_clock, x >> 12 & 0xffff);
    }
}
END_TEST

CHIP_SUITE("pit", setup, teardown, nothing_ticks_before_it_is_programmed, mode_2_ticks_for_an_hour_without_drift,
           mode_2_counts_down_from_the_reload_to_one, mode_2_takes_a_new_count_at_the_end_of_the_cycle,
           mode_3_is_a_square_wave_even_and_odd, mode_3_takes_a_new_count_at_the_end_of_a_half,
           mode_0_interrupts_once_and_counts_on, mode_0_stops_at_the_first_byte_of_a_new_count,
           the_gate_holds_modes_0_and_4, mode_1_is_a_retriggerable_one_shot, mode_4_strobes_once,
           mode_5_strobes_after_a_trigger, bcd_counts_in_tens, one_byte_access_leaves_the_other_byte_zero,
           a_latched_count_stands_until_it_is_read, port_61_toggles_refresh_and_keeps_its_low_bits,
           ticks_missed_in_a_stall_are_given_later, a_long_stall_costs_the_guest_time_and_not_us,
           absurd_rates_are_slowed_down, reset_stops_the_ticks, random_programs_do_no_harm)
