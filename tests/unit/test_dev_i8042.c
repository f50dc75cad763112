/* The keyboard controller, asked what Linux's i8042, atkbd and psmouse drivers ask. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

static struct i8042 *kbc;
static struct wire irq1, irq12, a20;
static struct event_log reset;

static void setup(void)
{
    machine_clear();
    memset(&irq1, 0, sizeof(irq1));
    memset(&irq12, 0, sizeof(irq12));
    memset(&a20, 0, sizeof(a20));
    memset(&reset, 0, sizeof(reset));
    ck_assert_int_eq(i8042_new(&kbc, &fake_bus, &fake_clock, wire_line(&irq1), wire_line(&irq12), wire_line(&a20),
                               (struct dev_event){ event_fired, &reset }),
                     0);
}
static void teardown(void) { i8042_free(kbc); }

static u8 status(void) { return inb(0x64); }
static void command(u8 c) { outb(0x64, c); }
static void data(u8 v) { outb(0x60, v); }
static u8 read_ctr(void)
{
    command(0x20);
    return inb(0x60);
}
static void write_ctr(u8 v)
{
    command(0x60);
    data(v);
}
static void aux(u8 v)
{
    command(0xd4);
    data(v);
}
/* The next bytes are these, from the keyboard or the mouse, and then there are none. */
static void expect(bool from_aux, unsigned n, const u8 *bytes)
{
    for (unsigned i = 0; i < n; i++) {
        ck_assert_msg((status() & 0x21) == (from_aux ? 0x21 : 0x01), "byte %u of %u: status %02x", i, n, status());
        ck_assert_uint_eq(inb(0x60), bytes[i]);
    }
    ck_assert_uint_eq(status() & 1, 0);
}
#define KBD(...) expect(false, sizeof((u8[]){ __VA_ARGS__ }), (u8[]){ __VA_ARGS__ })
#define AUX(...) expect(true, sizeof((u8[]){ __VA_ARGS__ }), (u8[]){ __VA_ARGS__ })

START_TEST(the_controller_passes_its_tests)
{
    command(0xaa);
    KBD(0x55);
    command(0xab);
    KBD(0x00);
    command(0xa9);
    KBD(0x00);
    command(0xa4);
    KBD(0xf1);
    ck_assert_uint_eq(status() & 0x14, 0x14); /* system flag, not locked */
}
END_TEST

START_TEST(the_command_byte_reads_back)
{
    ck_assert_uint_eq(read_ctr(), 0x65);
    write_ctr(0x74);
    ck_assert_uint_eq(read_ctr(), 0x74);
    command(0xa8);
    ck_assert_uint_eq(read_ctr() & 0x20, 0);
    command(0xa7);
    ck_assert_uint_eq(read_ctr() & 0x20, 0x20);
    command(0xae);
    ck_assert_uint_eq(read_ctr() & 0x10, 0);
    command(0xad);
    ck_assert_uint_eq(read_ctr() & 0x10, 0x10);
    command(0x65);
    data(0x42);
    command(0x25);
    KBD(0x42);
}
END_TEST

START_TEST(the_aux_loop_returns_as_mouse_data_and_is_no_multiplexer)
{
    write_ctr(0x47);
    command(0xd3);
    data(0x5a);
    ck_assert(irq12.level && !irq1.level);
    AUX(0x5a);
    ck_assert(!irq12.level);
    static const u8 knock[] = { 0xf0, 0x56, 0xa4 };
    for (unsigned i = 0; i < 3; i++) {
        command(0xd3);
        data(knock[i]);
        AUX(knock[i]);
    }
    command(0xd2);
    data(0x77);
    ck_assert(irq1.level);
    KBD(0x77);
}
END_TEST

START_TEST(the_keyboard_identifies_itself_plain_and_translated)
{
    write_ctr(0x05);
    data(0xf2);
    KBD(0xfa, 0xab, 0x83);
    write_ctr(0x45);
    data(0xf2);
    KBD(0xfa, 0xab, 0x41);
    data(0xff);
    KBD(0xfa, 0xaa);
    data(0xee);
    KBD(0xee);
    data(0xed);
    KBD(0xfa);
    data(0x02);
    KBD(0xfa);
    data(0xf0);
    KBD(0xfa);
    data(0x00);
    KBD(0xfa, 0x41); /* set 2, translated */
    data(0xef);
    KBD(0xfe);
}
END_TEST

START_TEST(a_key_makes_and_breaks_in_each_coding)
{
    i8042_key(kbc, 0x1c, true); /* A */
    ck_assert(irq1.level);
    KBD(0x1e);
    i8042_key(kbc, 0x1c, false);
    KBD(0x9e);
    i8042_key(kbc, 0x175, true); /* up */
    i8042_key(kbc, 0x175, false);
    KBD(0xe0, 0x48, 0xe0, 0xc8);
    write_ctr(0x05);
    i8042_key(kbc, 0x1c, false);
    KBD(0xf0, 0x1c);
    data(0xf0);
    KBD(0xfa);
    data(0x01);
    KBD(0xfa);
    i8042_key(kbc, 0x1c, false);
    KBD(0x9e);
}
END_TEST

START_TEST(each_byte_makes_its_own_edge)
{
    unsigned rises = irq1.rises;

    i8042_key(kbc, 0x175, true);
    ck_assert_uint_eq(irq1.rises, rises + 1);
    inb(0x60);
    ck_assert_uint_eq(irq1.rises, rises + 2);
    inb(0x60);
    ck_assert(!irq1.level);
}
END_TEST

START_TEST(a_disabled_keyboard_keeps_its_keys)
{
    command(0xad);
    i8042_key(kbc, 0x1c, true);
    ck_assert_uint_eq(status() & 1, 0);
    command(0xae);
    KBD(0x1e);
    data(0xf5);
    KBD(0xfa);
    i8042_key(kbc, 0x1c, true);
    ck_assert_uint_eq(status() & 1, 0);
    data(0xf4);
    KBD(0xfa);
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
}
END_TEST

START_TEST(too_many_keys_lose_whole_keys_and_say_so)
{
    for (unsigned i = 0; i < 100; i++) i8042_key(kbc, 0x175, false); /* three bytes each; one is in the output buffer */
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(inb(0x60), 0xe0);
        ck_assert_uint_eq(inb(0x60), 0xc8);
    }
    KBD(0xff); /* 00h of set 2 */
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
}
END_TEST

static void set_3(void)
{
    write_ctr(0x05);
    data(0xf0);
    KBD(0xfa);
    data(0x03);
    KBD(0xfa);
}
static void press(unsigned key)
{
    i8042_key(kbc, key, true);
    i8042_key(kbc, key, false);
}

START_TEST(set_3_has_codes_of_its_own_and_a_kind_for_each_key)
{
    set_3();
    data(0xf0);
    KBD(0xfa);
    data(0x00);
    KBD(0xfa, 0x03);
    press(0x175); /* up: makes, as reset leaves it */
    KBD(0x63);
    press(0x12); /* Shift breaks */
    KBD(0x12, 0xf0, 0x12);
    press(0x277); /* Pause */
    KBD(0x62);
    data(0xfa); /* all keys make, break and repeat */
    KBD(0xfa);
    press(0x05); /* F1 */
    KBD(0x07, 0xf0, 0x07);
    data(0xfd); /* these make only */
    KBD(0xfa);
    data(0x07);
    KBD(0xfa);
    data(0x0f);
    KBD(0xfa);
    data(0xf4);
    KBD(0xfa);
    press(0x05);
    press(0x06);
    press(0x04);
    KBD(0x07, 0x0f, 0x17, 0xf0, 0x17);
    data(0xf6); /* set 2 again */
    KBD(0xfa);
    press(0x05);
    KBD(0x05, 0xf0, 0x05);
}
END_TEST

START_TEST(a_held_key_repeats_after_the_delay_at_the_rate_that_was_set)
{
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
    i8042_key(kbc, 0x1c, true); /* it is down already */
    pass(&fake_clock, 499 * MS);
    ck_assert_uint_eq(status() & 1, 0);
    pass(&fake_clock, 1 * MS);
    KBD(0x1e);
    pass(&fake_clock, 91 * MS);
    ck_assert_uint_eq(status() & 1, 0);
    pass(&fake_clock, 1 * MS); /* 10.9 a second */
    KBD(0x1e);
    i8042_key(kbc, 0x32, true); /* another one: the first repeats no more */
    KBD(0x30);
    i8042_key(kbc, 0x1c, false);
    KBD(0x9e);
    pass(&fake_clock, 500 * MS);
    KBD(0x30);
    i8042_key(kbc, 0x32, false);
    KBD(0xb0);
    pass(&fake_clock, 2 * SEC);
    ck_assert_uint_eq(status() & 1, 0);
    data(0xf3);
    KBD(0xfa);
    data(0x00); /* 250 ms, 30 a second */
    KBD(0xfa);
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
    pass(&fake_clock, 250 * MS);
    KBD(0x1e);
    for (unsigned i = 0; i < 3; i++) {
        pass(&fake_clock, 34 * MS);
        KBD(0x1e);
    }
    data(0xf5);
    KBD(0xfa);
    pass(&fake_clock, 2 * SEC);
    ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(a_key_that_nobody_holds_any_more_is_let_go)
{
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
    i8042_let_go(kbc);
    KBD(0x9e);
    i8042_let_go(kbc);
    pass(&fake_clock, 2 * SEC);
    ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(pause_and_print_screen_are_sequences)
{
    write_ctr(0x05);
    press(0x277);
    KBD(0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    press(0x17c);
    KBD(0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12);
    write_ctr(0x45);
    press(0x277);
    KBD(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    press(0x17c);
    KBD(0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa);
}
END_TEST

START_TEST(lamps_are_told_and_go_out_at_a_reset)
{
    static struct event_log leds;
    i8042_on_leds(kbc, (struct dev_event){ event_fired, &leds });
    data(0xed);
    KBD(0xfa);
    data(0x06);
    KBD(0xfa);
    ck_assert_uint_eq(leds.value, 6);
    data(0xff);
    KBD(0xfa, 0xaa);
    ck_assert_uint_eq(leds.value, 0);
}
END_TEST

START_TEST(what_is_sent_again_is_what_the_device_sent)
{
    i8042_key(kbc, 0x1c, true);
    KBD(0x1e);
    data(0xfe); /* 1Ch once more, translated once */
    KBD(0x1e);
    i8042_key(kbc, 0x1c, false);
    KBD(0x9e);
    data(0xfe);
    KBD(0x1e); /* the last byte was the code, after F0 */
}
END_TEST

START_TEST(room_is_told_when_the_keyboard_has_sent_all_it_had)
{
    static struct event_log room;
    i8042_on_room(kbc, (struct dev_event){ event_fired, &room });
    i8042_key(kbc, 0x175, true);
    ck_assert(!i8042_has_room(kbc));
    unsigned count = room.count;
    inb(0x60);
    ck_assert(i8042_has_room(kbc));
    ck_assert_uint_gt(room.count, count);
}
END_TEST

START_TEST(a_mouse_reports_no_more_often_than_its_rate_and_loses_nothing)
{
    aux(0xf3);
    AUX(0xfa);
    aux(20);
    AUX(0xfa);
    aux(0xf4);
    AUX(0xfa);
    for (unsigned i = 0; i < 10; i++) {
        i8042_mouse(kbc, 1, -1, 0, 0);
        pass(&fake_clock, 4 * MS);
    }
    AUX(0x28, 0x01, 0xff);
    pass(&fake_clock, 10 * MS);
    AUX(0x28, 0x09, 0xf7);
    pass(&fake_clock, 100 * MS);
    ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(scaling_2_to_1_is_of_stream_mode)
{
    aux(0xe7);
    AUX(0xfa);
    aux(0xf4);
    AUX(0xfa);
    i8042_mouse(kbc, 3, -20, 0, 0);
    AUX(0x28, 3, 0xd8);
    pass(&fake_clock, 10 * MS);
    i8042_mouse(kbc, -2, 5, 0, 0);
    AUX(0x18, 0xff, 9);
    aux(0xf0); /* remote */
    AUX(0xfa);
    i8042_mouse(kbc, 3, 5, 0, 0);
    aux(0xeb);
    AUX(0xfa, 0x08, 3, 5);
}
END_TEST

START_TEST(the_mouse_resets_identifies_and_reports)
{
    write_ctr(0x47);
    aux(0xff);
    AUX(0xfa, 0xaa, 0x00);
    aux(0xf2);
    AUX(0xfa, 0x00);
    i8042_mouse(kbc, 5, 5, 0, 0);
    ck_assert_uint_eq(status() & 1, 0); /* not enabled yet */
    aux(0xeb);
    AUX(0xfa, 0x08, 5, 5);
    aux(0xf4);
    AUX(0xfa);
    i8042_mouse(kbc, -3, 4, 0, 1);
    ck_assert(irq12.level);
    AUX(0x19, 0xfd, 0x04);
    pass(&fake_clock, 10 * MS);
    i8042_mouse(kbc, 300, 0, 0, 0);
    AUX(0x08, 255, 0);
    pass(&fake_clock, 10 * MS);
    AUX(0x08, 45, 0);
    aux(0xe9);
    AUX(0xfa, 0x20, 2, 100);
}
END_TEST

START_TEST(the_wheel_appears_after_the_knock)
{
    static const u8 rate[] = { 200, 100, 80 };

    for (unsigned i = 0; i < 3; i++) {
        aux(0xf3);
        AUX(0xfa);
        aux(rate[i]);
        AUX(0xfa);
    }
    aux(0xf2);
    AUX(0xfa, 0x03);
    aux(0xf4);
    AUX(0xfa);
    i8042_mouse(kbc, 0, 0, 1, 4);
    AUX(0x0c, 0, 0, 0xff);
}
END_TEST

START_TEST(wrap_mode_echoes_until_it_is_left)
{
    aux(0xee);
    AUX(0xfa);
    aux(0x12);
    AUX(0x12);
    aux(0xf4);
    AUX(0xf4);
    aux(0xec);
    AUX(0xfa);
    aux(0x12);
    AUX(0xfe);
}
END_TEST

START_TEST(every_way_to_reset_resets)
{
    command(0xff);
    ck_assert_uint_eq(reset.count, 0);
    command(0xfe);
    ck_assert_uint_eq(reset.count, 1);
    command(0xd1);
    data(0xfe);
    ck_assert_uint_eq(reset.count, 2);
    outb(0x92, 0x03);
    ck_assert_uint_eq(reset.count, 3);
    outb(0x92, 0x03);
    ck_assert_uint_eq(reset.count, 3);
}
END_TEST

START_TEST(a20_has_three_switches_and_one_gate)
{
    ck_assert(a20.level);
    ck_assert_uint_eq(inb(0x92) & 2, 2);
    outb(0x92, 0x00);
    ck_assert(!a20.level);
    command(0xdf);
    ck_assert(a20.level);
    ck_assert_uint_eq(inb(0x92) & 2, 2);
    command(0xd1);
    data(0xdd);
    ck_assert(!a20.level);
    command(0xd0);
    ck_assert_uint_eq(inb(0x60) & 3, 1);
}
END_TEST

START_TEST(random_traffic_does_no_harm)
{
    u32 x = 271828;

    for (unsigned i = 0; i < 300000; i++) {
        x = x * 1664525 + 1013904223;
        switch (x >> 29) {
        case 0: command(x >> 8); break;
        case 1: data(x >> 8); break;
        case 2: aux(x >> 8); break;
        case 3: i8042_key(kbc, (x >> 8 & 0x3ff) % 0x300, x & 0x80); break;
        case 4: i8042_mouse(kbc, (int)x, (int)(x * 77), (int)(x * 13), x >> 8); break;
        case 5: outb(0x92, x >> 8); break;
        default: inb(0x60); status();
        }
        if (i % 64 == 0) pass(&fake_clock, 3 * MS);
    }
}
END_TEST

CHIP_SUITE("i8042", setup, teardown, the_controller_passes_its_tests, the_command_byte_reads_back,
           the_aux_loop_returns_as_mouse_data_and_is_no_multiplexer,
           the_keyboard_identifies_itself_plain_and_translated, a_key_makes_and_breaks_in_each_coding,
           each_byte_makes_its_own_edge, a_disabled_keyboard_keeps_its_keys, too_many_keys_lose_whole_keys_and_say_so,
           set_3_has_codes_of_its_own_and_a_kind_for_each_key,
           a_held_key_repeats_after_the_delay_at_the_rate_that_was_set, a_key_that_nobody_holds_any_more_is_let_go,
           pause_and_print_screen_are_sequences, lamps_are_told_and_go_out_at_a_reset,
           what_is_sent_again_is_what_the_device_sent, room_is_told_when_the_keyboard_has_sent_all_it_had,
           a_mouse_reports_no_more_often_than_its_rate_and_loses_nothing, scaling_2_to_1_is_of_stream_mode,
           the_mouse_resets_identifies_and_reports, the_wheel_appears_after_the_knock,
           wrap_mode_echoes_until_it_is_left, every_way_to_reset_resets, a20_has_three_switches_and_one_gate,
           random_traffic_does_no_harm)
