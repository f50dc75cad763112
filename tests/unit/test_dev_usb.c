/* The UHCI controller and the devices for people, as a driver sees them: good ones and bad ones. */
#include "tests/unit/usb_driver.h"

static struct usb_hid *tablet, *keyboard;
static u32 leds;
static void on_leds(void *arg UNUSED, u32 v) { leds = v; }

static void setup(void)
{
    board_new();
    ck_assert_int_eq(0, usb_hid_new(&tablet, false));
    ck_assert_int_eq(0, usb_hid_new(&keyboard, true));
    uhci_plug(uhci, 0, usb_hid_device(tablet));
    uhci_plug(uhci, 1, usb_hid_device(keyboard));
    usb_hid_on_leds(keyboard, (struct dev_event){ on_leds, NULL });
    leds = 0;
}
static void teardown(void)
{
    board_free();
    usb_hid_free(tablet);
    usb_hid_free(keyboard);
}

/* ---- the controller ---- */

START_TEST(a_driver_finds_the_controller_and_two_ports)
{
    ck_assert_uint_eq(0x70208086, cfg(0));
    ck_assert_uint_eq(0x0c0300, cfg(8) >> 8);
    ck_assert_uint_eq(4, cfg(0x3c) >> 8 & 0xff);
    ck_assert_uint_eq(0x20, rd(R_STS));
    ck_assert_uint_eq(0x93, rd(R_PORT)); /* something is there, at full speed */
    ck_assert_uint_eq(0x93, rd(R_PORT + 2));
    ck_assert_uint_eq(0xffff, rd(R_PORT + 4));
    ck_assert_uint_eq(64, bus_in(bus, (u16)(io + 12), 1));
    wr(R_PORT, 2);
    ck_assert_uint_eq(0x91, rd(R_PORT));
    wr(R_PORT, 0x204);
    ck_assert_uint_eq(0x291, rd(R_PORT)); /* not enabled while it is reset */
    wr(R_PORT, 4);
    ck_assert_uint_eq(0x95, rd(R_PORT));
    wr(R_CMD, 2);
    ck_assert_uint_eq(0x93, rd(R_PORT));
    ck_assert_uint_eq(0, rd(R_CMD));
}
END_TEST

START_TEST(frames_pass_each_millisecond_while_it_runs)
{
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
    driver_start();
    ck_assert_uint_eq(0, rd(R_STS));
    for (unsigned i = 0; i < 3000; i += 7) {
        ck_assert_uint_eq(i & 0x7ff, rd(R_FRNUM));
        advance(7 * MS);
    }
    advance(5000 * MS); /* the guest could not run for long */
    ck_assert_uint_eq((3003 + 5000) & 0x7ff, rd(R_FRNUM));
    wr(R_CMD, 0);
    ck_assert_uint_eq(0x20, rd(R_STS));
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
    advance(10 * MS);
    ck_assert_uint_eq((3003 + 5000) & 0x7ff, rd(R_FRNUM));
}
END_TEST

START_TEST(an_idle_controller_sleeps_and_a_device_wakes_it)
{
    u8 report[8];
    unsigned alarms = 0;
    driver_start();
    enumerate(0, 1);
    td_put(1, END, ACTIVE, IN, 1, 1, 6, DATA_AT); /* the pointer is asked for all the time */
    put32(QUEUE_AT + 4, TD_AT(1));
    for (u64 end = now + 2000 * MS; now < end; alarms++) advance(clock_next_deadline(clk) - now);
    ck_assert_uint_lt(alarms, 230); /* of 2000 */
    ck_assert_uint_gt(clock_next_deadline(clk) - now, 20 * MS);
    usb_tablet_move(tablet, 1, 2, 0, 0);
    ck_assert_uint_le(clock_next_deadline(clk) - now, MS);
    advance(MS);
    ck_assert_uint_eq(0, td_control(1) & ACTIVE);
    ck_assert_uint_eq(6, bus_dma_read(bus, DATA_AT, report, 6));
    ck_assert_mem_eq(((const u8[]){ 0, 1, 0, 2, 0, 0 }), report, 6);
    advance(1000 * MS);
    (void)rd(R_CMD);
    wr(R_INTR, 15); /* so does a driver */
    ck_assert_uint_le(clock_next_deadline(clk) - now, MS);
}
END_TEST

START_TEST(a_packet_that_is_done_interrupts_if_it_is_to)
{
    driver_start();
    enumerate(0, 1);
    usb_tablet_move(tablet, 3, 4, 0, 0);
    td_put(1, TD_AT(2) | DEPTH, ACTIVE | IOC, IN, 1, 1, 6, DATA_AT);
    td_put(2, END, ACTIVE, IN, 1, 1, 6, DATA_AT + 8);
    put32(QUEUE_AT + 4, TD_AT(1));
    advance(MS);
    ck_assert(intx);
    ck_assert_uint_eq(1, rd(R_STS));
    ck_assert_uint_eq(TD_AT(2) | DEPTH, get32(QUEUE_AT + 4)); /* the queue has moved on */
    ck_assert_uint_eq(ACTIVE | NAKED, td_control(2) & (ACTIVE | NAKED));
    wr(R_STS, 1);
    ck_assert(!intx);
    put32(TD_AT(1) + 4, IOC); /* of one that is not active as well */
    put32(QUEUE_AT + 4, TD_AT(1));
    wr(R_INTR, 0);
    advance(MS);
    ck_assert_uint_eq(1, rd(R_STS));
    ck_assert(!intx);
    wr(R_INTR, 4);
    ck_assert(intx);
}
END_TEST

START_TEST(a_short_packet_stops_its_queue_if_it_is_to)
{
    driver_start();
    enumerate(0, 1);
    usb_tablet_move(tablet, 3, 4, 0, 0);
    td_put(1, TD_AT(2), ACTIVE | SPD, IN, 1, 1, 64, DATA_AT);
    td_put(2, END, ACTIVE, IN, 1, 1, 6, DATA_AT + 8);
    put32(QUEUE_AT + 4, TD_AT(1));
    advance(MS);
    ck_assert_uint_eq(5, td_control(1) & 0x7ff);
    ck_assert_uint_eq(TD_AT(1), get32(QUEUE_AT + 4));
    ck_assert_uint_eq(1, rd(R_STS));
    ck_assert(intx);
}
END_TEST

START_TEST(nobody_at_an_address_is_an_error)
{
    u8 data[8] = { 0 };
    driver_start();
    ck_assert_int_eq(STALL, packet(IN, 9, 0, data, 8));
    ck_assert_uint_eq(TIMEOUT, td_control(0) & TIMEOUT);
    ck_assert_uint_eq(2, rd(R_STS));
    ck_assert(intx);
    ck_assert_int_eq(STALL, packet(IN, 0, 0, data, 8)); /* a port that is not enabled has nobody */
    enumerate(0, 1);
    ck_assert_int_eq(6, usb_hid_has_room(tablet) ? 6 : 0);
    wr(R_CMD, 4); /* the whole bus is reset */
    wr(R_CMD, 1);
    ck_assert_int_eq(STALL, packet(IN, 1, 0, data, 8));
    ck_assert(!usb_hid_ready(tablet));
}
END_TEST

START_TEST(a_schedule_without_end_ends_with_the_frame)
{
    driver_start();
    enumerate(0, 1);
    put32(QUEUE_AT, QUEUE_AT | QUEUE); /* a queue that leads to itself */
    td_put(1, TD_AT(1), ACTIVE, IN, 1, 1, 6, DATA_AT);
    put32(QUEUE_AT + 4, TD_AT(1));
    advance(3 * MS);
    put32(QUEUE_AT + 4, QUEUE_AT | QUEUE); /* also within */
    advance(3 * MS);
    for (u32 i = 0; i < 1024; i++) put32(FRAMES_AT + 4 * i, TD_AT(1)); /* packets that lead to themselves */
    td_put(1, TD_AT(1), 0, IN, 1, 1, 6, DATA_AT);
    advance(3 * MS);
    td_put(1, TD_AT(1), ACTIVE | 1u << 25, IN, 1, 1, 6, DATA_AT);
    advance(3 * MS);
    for (u32 i = 0; i < 1024; i++) put32(FRAMES_AT + 4 * i, 0xfffffff0u | (i & 2)); /* where no memory is */
    ck_assert_uint_eq(0, rd(R_STS) & 0x30);
    advance(3 * MS);
    ck_assert_uint_eq(0x30, rd(R_STS) & 0x30); /* what is read there is no packet */
    wr(R_STS, 0x1f);
    bus_out(bus, (u16)(io + R_BASE), 4, 0xfffff000u);
    wr(R_CMD, 1);
    advance(3 * MS);
    ck_assert_uint_eq(0, rd(R_STS) & 0x30);
}
END_TEST

START_TEST(a_packet_that_is_none_stops_the_controller)
{
    static const u32 tokens[] = { 0x7fe0002d & ~0xffu, 0x00000011, 0x7fc00069 /* 1535 bytes */ };
    for (unsigned i = 0; i < ARRAY_LEN(tokens); i++) {
        driver_start();
        td_put(1, END, ACTIVE, IN, 1, 1, 6, DATA_AT);
        put32(TD_AT(1) + 8, i == 2 ? (0x5ffu << 21 | IN) : tokens[i]);
        put32(QUEUE_AT + 4, TD_AT(1));
        advance(MS);
        ck_assert_uint_eq(0x30, rd(R_STS) & 0x30);
        ck_assert_uint_eq(0, rd(R_CMD) & 1);
        ck_assert(intx);
        wr(R_STS, 0x1f);
        ck_assert(!intx);
    }
}
END_TEST

/* ---- devices ---- */

START_TEST(a_device_tells_what_it_is)
{
    u8 d[256];
    driver_start();
    port_enable(0);
    ck_assert_int_eq(8, control(0, 0x80, 6, 0x100, 0, d, 8));
    ck_assert_uint_eq(18, d[0]);
    ck_assert_uint_eq(8, d[7]);
    ck_assert_int_eq(0, control(0, 0x00, 5, 5, 0, NULL, 0));
    ck_assert_int_eq(18, control(5, 0x80, 6, 0x100, 0, d, 18));
    ck_assert_int_eq(34, control(5, 0x80, 6, 0x200, 0, d, 255));
    ck_assert_uint_eq(34, d[2]);
    u16 report = (u16)(d[25] | d[26] << 8);
    ck_assert_int_eq(9, control(5, 0x81, 6, 0x2100, 0, d, 64));
    ck_assert_uint_eq(report, d[7] | d[8] << 8);
    ck_assert_int_eq(report, control(5, 0x81, 6, 0x2200, 0, d, 255));
    ck_assert_uint_eq(0xc0, d[report - 1]);
    ck_assert_int_eq(4, control(5, 0x80, 6, 0x300, 0, d, 255));
    ck_assert_int_eq(22, control(5, 0x80, 6, 0x302, 0x409, d, 255));
    ck_assert_uint_eq('U', d[2]);
    ck_assert_int_eq(STALL, control(5, 0x80, 6, 0x303, 0x409, d, 255));
    ck_assert_int_eq(STALL, control(5, 0x80, 6, 0x700, 0, d, 255));
    ck_assert_int_eq(STALL, control(5, 0xc0, 1, 0, 0, d, 8));
    ck_assert_int_eq(1, control(5, 0x80, 8, 0, 0, d, 1));
    ck_assert_uint_eq(0, d[0]);
    ck_assert_int_eq(STALL, packet(IN, 5, 1, d, 6)); /* it is not configured */
    ck_assert_int_eq(STALL, control(5, 0x00, 9, 2, 0, NULL, 0));
    ck_assert(!usb_hid_ready(tablet));
    ck_assert_int_eq(0, control(5, 0x00, 9, 1, 0, NULL, 0));
    ck_assert(usb_hid_ready(tablet));
    ck_assert_int_eq(NAK, packet(IN, 5, 1, d, 6));
    ck_assert_int_eq(0, control(5, 0x02, 3, 0, 0x81, NULL, 0)); /* halted, and again not */
    ck_assert_int_eq(STALL, packet(IN, 5, 1, d, 6));
    ck_assert_int_eq(2, control(5, 0x82, 0, 0, 0x81, d, 2));
    ck_assert_uint_eq(1, d[0]);
    ck_assert_int_eq(0, control(5, 0x02, 1, 0, 0x81, NULL, 0));
    ck_assert_int_eq(NAK, packet(IN, 5, 1, d, 6));
    ck_assert_int_eq(STALL, control(5, 0x02, 3, 0, 0x82, NULL, 0));
    ck_assert_int_eq(STALL, packet(IN, 5, 2, d, 6));
    ck_assert_int_eq(STALL, packet(OUT, 5, 1, d, 6));
    memset(d, 0xff, 8);
    d[0] = 0x21; /* more bytes than a control transfer can have */
    ck_assert_int_eq(8, packet(SETUP, 5, 0, d, 8));
    ck_assert_int_eq(STALL, packet(OUT, 5, 0, d, 8));
}
END_TEST

START_TEST(the_tablet_tells_where_the_pointer_is_and_loses_no_click)
{
    u8 r[8];
    driver_start();
    usb_tablet_move(tablet, 9, 9, 0, 1); /* nobody listens yet */
    enumerate(0, 1);
    ck_assert_int_eq(NAK, packet(IN, 1, 1, r, 6));
    usb_tablet_move(tablet, 100, 200, 0, 0);
    usb_tablet_move(tablet, 32767, 40000, 1, 0);
    usb_tablet_move(tablet, 0x1234, 0x5678, -3, 0);
    ck_assert_int_eq(6, packet(IN, 1, 1, r, 6));
    ck_assert_mem_eq(((const u8[]){ 0, 0x34, 0x12, 0x78, 0x56, 0xfe }), r, 6);
    ck_assert_int_eq(NAK, packet(IN, 1, 1, r, 6));
    usb_tablet_move(tablet, 1, 1, 0, 1);
    usb_tablet_move(tablet, 1, 1, 0, 0);
    usb_tablet_move(tablet, 2, 40000, 0, 2);
    static const u8 want[3][6] = { { 1, 1, 0, 1, 0, 0 }, { 0, 1, 0, 1, 0, 0 }, { 2, 2, 0, 0xff, 0x7f, 0 } };
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(6, packet(IN, 1, 1, r, 6));
        ck_assert_mem_eq(want[i], r, 6);
    }
    for (unsigned i = 0; i < 1000; i++) usb_tablet_move(tablet, i, i, 0, i & 1);
    unsigned n = 0;
    while (packet(IN, 1, 1, r, 6) == 6) n++;
    ck_assert_uint_eq(32, n);
    ck_assert_uint_eq(999 & 0xff, r[1]); /* the last is where it is */
}
END_TEST

START_TEST(the_keyboard_tells_of_keys_and_has_lamps)
{
    u8 r[8], lamps = 2; /* Caps Lock */
    driver_start();
    enumerate(1, 2);
    usb_keyboard_key(keyboard, 0x12, true);  /* Shift */
    usb_keyboard_key(keyboard, 0x1c, true);  /* A */
    usb_keyboard_key(keyboard, 0x1c, true);  /* it repeats: the host does that by itself */
    usb_keyboard_key(keyboard, 0x175, true); /* up */
    usb_keyboard_key(keyboard, 0x1c, false);
    usb_keyboard_key(keyboard, 0x12, false);
    usb_keyboard_key(keyboard, 0x2ff, true); /* none */
    static const u8 want[5][8] = { { 2 }, { 2, 0, 4 }, { 2, 0, 4, 0x52 }, { 2, 0, 0, 0x52 }, { 0, 0, 0, 0x52 } };
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(8, packet(IN, 2, 1, r, 8));
        ck_assert_mem_eq(want[i], r, 8);
    }
    ck_assert_int_eq(NAK, packet(IN, 2, 1, r, 8));
    ck_assert(usb_hid_has_room(keyboard));
    ck_assert_int_eq(1, control(2, 0x21, 9, 0x200, 0, &lamps, 1));
    ck_assert_uint_eq(4, leds); /* as the PS/2 keyboard has it */
    ck_assert_int_eq(0, control(2, 0x21, 10, 0, 0, NULL, 0));
    ck_assert_int_eq(8, control(2, 0xa1, 1, 0x100, 0, r, 8));
    ck_assert_mem_eq(want[4], r, 8);
    for (unsigned key = 1; key < 0x300; key++) { /* all at once */
        usb_keyboard_key(keyboard, key, true);
        while (packet(IN, 2, 1, r, 8) == 8) {}
    }
}
END_TEST

START_TEST(it_is_saved_and_loaded_in_the_middle_of_a_transfer)
{
    struct snap_part part[] = { usb_hid_part(tablet), usb_hid_part(keyboard), uhci_part(uhci) };
    struct snap_buf b[ARRAY_LEN(part)] = { { 0 } };
    u8 setup_packet[8] = { 0x80, 6, 0, 1, 0, 0, 18, 0 }, d[18] = { 0 };
    char why[100];
    driver_start();
    enumerate(0, 1);
    usb_tablet_move(tablet, 7, 8, 0, 1);
    ck_assert_int_eq(8, packet(SETUP, 1, 0, setup_packet, 8));
    ck_assert_int_eq(8, packet(IN, 1, 0, d, 8));
    for (unsigned i = 0; i < ARRAY_LEN(part); i++) snap_save(&part[i], &b[i]);
    wr(R_CMD, 2); /* all of it is lost */
    ck_assert(!usb_hid_ready(tablet));
    for (unsigned i = 0; i < ARRAY_LEN(part); i++) {
        ck_assert_int_eq(0, snap_load(&part[i], b[i].data, b[i].len, why, sizeof why));
        for (size_t k = 0; k < b[i].len; k += 1 + k / 40) { /* a file that lies */
            b[i].data[k] ^= 0x80;
            if (snap_load(&part[i], b[i].data, b[i].len, why, sizeof why)) b[i].data[k] ^= 0x80;
            else {
                advance(5 * MS);
                b[i].data[k] ^= 0x80;
            }
            ck_assert_int_eq(0, snap_load(&part[i], b[i].data, b[i].len, why, sizeof why));
        }
        snap_buf_free(&b[i]);
    }
    ck_assert_int_eq(8, packet(IN, 1, 0, d + 8, 8));
    ck_assert_int_eq(2, packet(IN, 1, 0, d + 16, 8));
    ck_assert_uint_eq(18, d[0]);
    ck_assert_uint_eq(1, d[17]);
    ck_assert_int_eq(6, packet(IN, 1, 1, d, 6));
    ck_assert_mem_eq(((const u8[]){ 1, 7, 0, 8, 0, 0 }), d, 6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("usb");
    TCase *t = tcase_create("usb");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_driver_finds_the_controller_and_two_ports);
    tcase_add_test(t, frames_pass_each_millisecond_while_it_runs);
    tcase_add_test(t, an_idle_controller_sleeps_and_a_device_wakes_it);
    tcase_add_test(t, a_packet_that_is_done_interrupts_if_it_is_to);
    tcase_add_test(t, a_short_packet_stops_its_queue_if_it_is_to);
    tcase_add_test(t, nobody_at_an_address_is_an_error);
    tcase_add_test(t, a_schedule_without_end_ends_with_the_frame);
    tcase_add_test(t, a_packet_that_is_none_stops_the_controller);
    tcase_add_test(t, a_device_tells_what_it_is);
    tcase_add_test(t, the_tablet_tells_where_the_pointer_is_and_loses_no_click);
    tcase_add_test(t, the_keyboard_tells_of_keys_and_has_lamps);
    tcase_add_test(t, it_is_saved_and_loaded_in_the_middle_of_a_transfer);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
