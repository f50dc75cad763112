/* The MC146818: the time in all its encodings, the three interrupts, CMOS. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

#include <time.h>

static struct rtc *rtc;
static struct wire irq8, nmi_mask;

static u8 get(u8 i)
{
    outb(0x70, i);
    return inb(0x71);
}
static void put(u8 i, u8 v)
{
    outb(0x70, i);
    outb(0x71, v);
}
static void make(u64 wall_s)
{
    machine_clear();
    fake_clock.wall_at_zero = wall_s * SEC;
    fake_bus.ram_size = 5ull << 30;
    fake_bus.ram_low = 3ull << 30;
    memset(&irq8, 0, sizeof(irq8));
    memset(&nmi_mask, 0, sizeof(nmi_mask));
    ck_assert_int_eq(rtc_new(&rtc, &fake_bus, &fake_clock, wire_line(&irq8), wire_line(&nmi_mask)), 0);
}
#define WALL 1709210096ull /* Thu 2024-02-29 12:34:56 UTC */
static void setup(void) { make(WALL); }
static void teardown(void) { rtc_free(rtc); }

#define EXPECT_TIME(century, year, month, day, wday, h, m, s) \
    do {                                                      \
        ck_assert_uint_eq(get(0x32), century);                \
        ck_assert_uint_eq(get(9), year);                      \
        ck_assert_uint_eq(get(8), month);                     \
        ck_assert_uint_eq(get(7), day);                       \
        ck_assert_uint_eq(get(6), wday);                      \
        ck_assert_uint_eq(get(4), h);                         \
        ck_assert_uint_eq(get(2), m);                         \
        ck_assert_uint_eq(get(0), s);                         \
    } while (0)

START_TEST(the_time_is_the_hosts_utc)
{
    EXPECT_TIME(0x20, 0x24, 0x02, 0x29, 5, 0x12, 0x34, 0x56);
    pass(&fake_clock, 12 * 3600 * SEC);
    EXPECT_TIME(0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x34, 0x56);
}
END_TEST

START_TEST(binary_and_twelve_hours_are_the_same_time)
{
    put(0x0b, 0x06);
    EXPECT_TIME(0x20, 24, 2, 29, 5, 12, 34, 56);
    put(0x0b, 0x00);
    ck_assert_uint_eq(get(4), 0x92); /* 12 PM is noon */
    pass(&fake_clock, 3600 * SEC);
    ck_assert_uint_eq(get(4), 0x81);
    pass(&fake_clock, 11 * 3600 * SEC);
    ck_assert_uint_eq(get(4), 0x12); /* 12 AM is midnight */
}
END_TEST

START_TEST(a_time_set_under_set_runs_on_from_there)
{
    put(0x0b, 0x82);
    static const u8 bytes[][2] = { { 0x32, 0x19 }, { 9, 0x99 }, { 8, 0x12 }, { 7, 0x31 },
                                   { 4, 0x23 },    { 2, 0x59 }, { 0, 0x58 } };
    for (unsigned i = 0; i < ARRAY_LEN(bytes); i++) put(bytes[i][0], bytes[i][1]);
    pass(&fake_clock, 100 * SEC);
    ck_assert_uint_eq(get(0), 0x58);
    put(0x0b, 0x02);
    pass(&fake_clock, 1 * SEC);
    EXPECT_TIME(0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59);
    pass(&fake_clock, 1 * SEC);
    EXPECT_TIME(0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00);
}
END_TEST

START_TEST(letting_the_divider_go_starts_half_a_second_before_the_update)
{
    put(0x0a, 0x76);
    put(0, 0x10);
    pass(&fake_clock, 5 * SEC);
    put(0x0a, 0x26);
    ck_assert_uint_eq(get(0), 0x10);
    pass(&fake_clock, 499 * MS);
    ck_assert_uint_eq(get(0), 0x10);
    pass(&fake_clock, 2 * MS);
    ck_assert_uint_eq(get(0), 0x11);
}
END_TEST

START_TEST(uip_warns_before_the_update_and_not_after)
{
    ck_assert_uint_eq(get(0x0a), 0x26);
    pass(&fake_clock, SEC - 244 * US);
    ck_assert_uint_eq(get(0x0a), 0xa6);
    ck_assert_uint_eq(get(0), 0x56);
    pass(&fake_clock, 244 * US);
    ck_assert_uint_eq(get(0x0a), 0x26);
    ck_assert_uint_eq(get(0), 0x57);
    put(0x0b, 0x82);
    pass(&fake_clock, SEC - 100 * US);
    ck_assert_uint_eq(get(0x0a), 0x26);
}
END_TEST

START_TEST(update_interrupts_once_a_second_if_read)
{
    put(0x0b, 0x12);
    pass(&fake_clock, 999 * MS);
    ck_assert(!irq8.level);
    pass(&fake_clock, 1 * MS);
    ck_assert(irq8.level);
    pass(&fake_clock, 5 * SEC);
    ck_assert_uint_eq(irq8.rises, 1);
    ck_assert_uint_eq(get(0x0c), 0xd0); /* PF comes up at 1024 Hz all the time */
    ck_assert(!irq8.level);
    ck_assert_uint_eq(get(0x0c), 0x00);
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq8.rises, 2);
}
END_TEST

START_TEST(flags_come_up_without_interrupts_enabled)
{
    put(1, 0xff);
    put(3, 0xff);
    put(5, 0xff);
    get(0x0c);
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(clock_next_deadline(&fake_clock), UINT64_MAX);
    ck_assert_uint_eq(get(0x0c), 0x70);
    ck_assert_uint_eq(irq8.rises, 0);
}
END_TEST

START_TEST(the_alarm_goes_off_at_its_second)
{
    put(5, 0x12);
    put(3, 0x35);
    put(1, 0x10);
    put(0x0b, 0x22);
    pass(&fake_clock, 14 * SEC - 1);
    ck_assert(!irq8.level);
    pass(&fake_clock, 1);
    ck_assert(irq8.level);
    ck_assert_uint_eq(get(0x0c) & 0xa0, 0xa0);
    pass(&fake_clock, 86399 * SEC);
    ck_assert(!irq8.level);
    pass(&fake_clock, SEC);
    ck_assert(irq8.level);
}
END_TEST

START_TEST(an_alarm_byte_of_c0_and_up_fits_anything)
{
    put(5, 0xc0);
    put(3, 0xff);
    put(1, 0x05);
    put(0x0b, 0x22);
    for (unsigned i = 0; i < 5; i++) {
        pass(&fake_clock, 60 * SEC);
        ck_assert_uint_eq(irq8.rises, i + 1);
        get(0x0c);
    }
}
END_TEST

START_TEST(an_alarm_at_no_time_of_day_never_comes)
{
    put(5, 0x25);
    put(3, 0x00);
    put(1, 0x00);
    put(0x0b, 0x22);
    ck_assert_uint_eq(clock_next_deadline(&fake_clock), UINT64_MAX);
}
END_TEST

START_TEST(the_periodic_interrupt_keeps_its_rate)
{
    unsigned n = 0;

    put(0x0a, 0x2a); /* 64 Hz */
    put(0x0b, 0x42);
    for (unsigned i = 0; i < 100000; i++) {
        pass(&fake_clock, MS);
        if (irq8.level && (get(0x0c) & 0xc0) == 0xc0) n++;
    }
    ck_assert_uint_eq(n, 6400);
    put(0x0a, 0x20);
    n = irq8.rises;
    pass(&fake_clock, SEC);
    ck_assert_uint_eq(irq8.rises, n);
}
END_TEST

START_TEST(cmos_says_how_much_memory_there_is)
{
    ck_assert_uint_eq(get(0x15) | get(0x16) << 8, 640);
    ck_assert_uint_eq(get(0x17) | get(0x18) << 8, 0xffff);
    ck_assert_uint_eq(get(0x30) | get(0x31) << 8, 0xffff);
    ck_assert_uint_eq(get(0x34) | get(0x35) << 8, (3072 - 16) * 16);
    ck_assert_uint_eq(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 2 << 14);
    ck_assert_uint_eq(get(0x0d), 0x80); /* the battery is fine */
    rtc_free(rtc);
    machine_clear();
    fake_bus.ram_low = fake_bus.ram_size = 8 << 20;
    ck_assert_int_eq(rtc_new(&rtc, &fake_bus, &fake_clock, wire_line(&irq8), wire_line(&nmi_mask)), 0);
    ck_assert_uint_eq(get(0x17) | get(0x18) << 8, 7 * 1024);
    ck_assert_uint_eq(get(0x34) | get(0x35) << 8, 0);
}
END_TEST

START_TEST(cmos_ram_outlives_reset_and_enables_do_not)
{
    put(0x40, 0x5a);
    put(0x0b, 0x72);
    rtc_reset(rtc);
    ck_assert_uint_eq(get(0x40), 0x5a);
    ck_assert_uint_eq(get(0x0b), 0x02);
    ck_assert(!irq8.level);
}
END_TEST

START_TEST(bit_7_of_the_index_masks_nmi)
{
    outb(0x70, 0x8d);
    ck_assert(nmi_mask.level);
    ck_assert_uint_eq(inb(0x71), 0x80);
    outb(0x70, 0x0d);
    ck_assert(!nmi_mask.level);
}
END_TEST

START_TEST(one_word_write_sets_index_and_data)
{
    bus_out(&fake_bus, 0x70, 2, 0x7741);
    ck_assert_uint_eq(get(0x41), 0x77);
}
END_TEST

/* Leap years and month lengths against the C library, a day at a time. */
START_TEST(the_calendar_agrees_with_gmtime)
{
    for (u64 day = 0; day < 366 * 140; day += 13) {
        teardown();
        make(day * 86400 + 4242);
        time_t t = day * 86400 + 4242;
        struct tm tm;
        gmtime_r(&t, &tm);
        put(0x0b, 0x06);
        int year = tm.tm_year + 1900;
        EXPECT_TIME(year / 1000 << 4 | year / 100 % 10, year % 100, tm.tm_mon + 1, tm.tm_mday, tm.tm_wday + 1,
                    tm.tm_hour, tm.tm_min, tm.tm_sec);
        /* And back: written as it was read, nothing moves. */
        for (unsigned i = 0; i < 10; i += i >= 6 ? 1 : 2) put(i, get(i));
        EXPECT_TIME(year / 1000 << 4 | year / 100 % 10, year % 100, tm.tm_mon + 1, tm.tm_mday, tm.tm_wday + 1,
                    tm.tm_hour, tm.tm_min, tm.tm_sec);
    }
}
END_TEST

START_TEST(random_programs_do_no_harm)
{
    u32 x = 99;

    for (unsigned i = 0; i < 100000; i++) {
        x = x * 1664525 + 1013904223;
        u8 index = x >> 24 & 1 ? x >> 8 & 0xf : x >> 8;
        if (x >> 31) put(index, x >> 16);
        else get(index);
        pass(&fake_clock, x & 0x3fffff);
    }
}
END_TEST

CHIP_SUITE("rtc", setup, teardown, the_time_is_the_hosts_utc, binary_and_twelve_hours_are_the_same_time,
           a_time_set_under_set_runs_on_from_there, letting_the_divider_go_starts_half_a_second_before_the_update,
           uip_warns_before_the_update_and_not_after, update_interrupts_once_a_second_if_read,
           flags_come_up_without_interrupts_enabled, the_alarm_goes_off_at_its_second,
           an_alarm_byte_of_c0_and_up_fits_anything, an_alarm_at_no_time_of_day_never_comes,
           the_periodic_interrupt_keeps_its_rate, cmos_says_how_much_memory_there_is,
           cmos_ram_outlives_reset_and_enables_do_not, bit_7_of_the_index_masks_nmi, one_word_write_sets_index_and_data,
           the_calendar_agrees_with_gmtime, random_programs_do_no_harm)
