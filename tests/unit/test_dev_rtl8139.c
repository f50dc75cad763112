/* The RTL8139C as drivers see it: Realtek's data sheet, rev. 1.4. */
#include "tests/unit/nic_board.h"

enum {
    MAR = 8,
    TSD = 0x10,
    TSAD = 0x20,
    RBSTART = 0x30,
    CR = 0x37,
    CAPR = 0x38,
    CBR = 0x3a,
    IMR = 0x3c,
    ISR = 0x3e,
    TCR = 0x40,
    RCR = 0x44,
    TCTR = 0x48,
    CR9346 = 0x50,
    CONFIG1 = 0x52,
    TIMERINT = 0x54,
    TSAD_ALL = 0x60,
    BMSR = 0x64
};
enum { RST = 0x10, RE = 8, TE = 4, EMPTY = 1, ROK = 1, TOK = 4, RXOVW = 0x10, TIMEOUT = 0x4000 };
enum { AAP = 1, APM = 2, AM = 4, AB = 8, WRAP = 0x80 };
#define OWN (1u << 13)
#define RING 0x100000u
#define TX_BUF 0x120000u

static struct rtl8139 *card;
static u16 io;

static u32 rd(unsigned at, unsigned n) { return bus_in(bus, (u16)(io + at), n); }
static void wr(unsigned at, unsigned n, u32 v) { bus_out(bus, (u16)(io + at), n, v); }

static void setup(void)
{
    struct nic_desc d = board_new();
    ck_assert_int_eq(0, rtl8139_new(&card, bus, clk, pci, &d));
    board_start();
    io = (u16)(cfg_read(0x10) & ~3u);
}
static void teardown(void)
{
    rtl8139_free(card);
    board_free();
}
/* A frame of n bytes comes, and is acknowledged. */
static bool receive_next(size_t n)
{
    bool taken = receive(n);
    wr(ISR, 2, ROK);
    return taken;
}
static void start(u32 rcr)
{
    wr(CR, 1, RST);
    ck_assert_uint_eq(EMPTY, rd(CR, 1));
    wr(RBSTART, 4, RING);
    wr(CR, 1, RE | TE);
    wr(RCR, 4, rcr);
    wr(IMR, 2, 0xffff);
}

START_TEST(its_address_its_version_and_its_link_are_there)
{
    for (unsigned i = 0; i < 6; i++) ck_assert_uint_eq(mac[i], rd(i, 1));
    ck_assert_uint_eq(0x74000000, rd(TCR, 4) & 0x7cc00000);
    ck_assert_uint_eq(0x24, rd(BMSR, 2) & 0x24);
    wr(0, 4, 0x12345678); /* not unless CR9346 says so */
    ck_assert_uint_eq(mac[0], rd(0, 1));
    wr(CR9346, 1, 0xc0);
    wr(0, 4, 0x12345678);
    ck_assert_uint_eq(0x12345678, rd(0, 4));
    wr(CR9346, 1, 0x40); /* load it anew */
    ck_assert_uint_eq(mac[0], rd(0, 1));
}
END_TEST

/* iPXE takes what keeps a receive size at DAh for an RTL8169, and what keeps C+ commands at E0h for an RTL8139C+. */
START_TEST(what_later_chips_have_is_not_there)
{
    for (unsigned at = 0xd4; at < 0x100; at += 2) {
        wr(at, 2, 0x5a5a);
        ck_assert_uint_eq(at == 0xd8 ? 0x5a : 0, rd(at, 2));
    }
}
END_TEST

START_TEST(the_eeprom_is_read_by_its_wires)
{
    u32 out = 0;
    wr(CR9346, 1, 0x88);
    for (unsigned i = 0; i < 25; i++) { /* 110 000111: read word 7; then the word */
        u32 di = (0x187u << 16) >> (24 - i) & 1 ? 2 : 0;
        wr(CR9346, 1, 0x88 | di), wr(CR9346, 1, 0x8c | di);
        out = out << 1 | (rd(CR9346, 1) & 1);
        wr(CR9346, 1, 0x88 | di);
    }
    ck_assert_uint_eq(mac[0] | mac[1] << 8, out & 0xffff);
}
END_TEST

START_TEST(the_four_transmit_descriptors_take_turns)
{
    start(0);
    for (unsigned i = 0; i < 6; i++) {
        put(TX_BUF, frame, 200 + i);
        ck_assert_uint_eq(OWN, rd(TSD + 4 * (i % 4), 4) & OWN);
        wr(TSAD + 4 * (i % 4), 4, TX_BUF);
        wr(TSD + 4 * (i % 4), 4, 200 + i);
        ck_assert_uint_eq(i + 1, sents);
        ck_assert_uint_eq(200 + i, sent_len[i]);
        ck_assert_mem_eq(frame, sent[i], 200 + i);
        ck_assert_uint_eq(0xa000, rd(TSD + 4 * (i % 4), 4) & 0xe000); /* TOK, OWN */
        ck_assert_uint_eq(TOK, rd(ISR, 2));
        ck_assert(intx);
        wr(ISR, 2, TOK);
        ck_assert(!intx);
    }
    wr(TSD, 4, 100); /* it is the turn of number 2 */
    ck_assert_uint_eq(6, sents);
    wr(TSD + 8, 4, 100), wr(TSD + 12, 4, 100);
    ck_assert_uint_eq(9, sents);
    ck_assert_uint_eq(0xf00f, rd(TSAD_ALL, 2));
}
END_TEST

START_TEST(frames_follow_each_other_in_the_ring_behind_headers)
{
    start(APM);
    ck_assert(receive_next(101));
    ck_assert_uint_eq(0, rd(CR, 1) & EMPTY);
    ck_assert_uint_eq(0x00694001, get32(RING)); /* 105 bytes, for us, fine */
    has_frame(RING + 4, 101);
    ck_assert_uint_eq(112, rd(CBR, 2)); /* to a whole dword */
    ck_assert(receive(60));
    ck_assert_uint_eq(0x00404001, get32(RING + 112));
    ck_assert(intx && (rd(ISR, 2) & ROK));
    wr(CAPR, 2, 112 - 16);
    ck_assert_uint_eq(0, rd(CR, 1) & EMPTY);
    wr(CAPR, 2, 180 - 16);
    ck_assert_uint_eq(EMPTY, rd(CR, 1) & EMPTY);
}
END_TEST

START_TEST(a_full_ring_keeps_frames_waiting_until_capr_moves_and_its_end_wraps)
{
    u32 at = 0;
    start(APM);                                                         /* 8 KiB */
    for (; at + 1008 < 8192; at += 1008) ck_assert(receive_next(1000)); /* 8 of 1008 bytes */
    ck_assert_uint_eq(0, rd(ISR, 2));
    ck_assert(!receive(1000));
    ck_assert_uint_eq(RXOVW, rd(ISR, 2));
    unsigned before = readies;
    wr(CAPR, 2, 2016 - 16);
    ck_assert_uint_eq(before + 1, readies);
    ck_assert(receive(1000));
    u8 got[1004];
    get(RING + 8064 + 4, got, 124);
    get(RING, got + 124, 876);
    ck_assert_mem_eq(frame, got, 1000);
    wr(CR, 1, RST);
    start(APM | WRAP);
    for (at = 0; at + 1008 < 8192; at += 1008) ck_assert(receive_next(1000));
    wr(CAPR, 2, 2016 - 16);
    ck_assert(receive(1000));
    has_frame(RING + 8064 + 4, 1000); /* behind the ring */
    ck_assert_uint_eq(880, rd(CBR, 2));
}
END_TEST

/* Linux looks at ISR, reads up to 64 frames, moving CAPR and then acknowledging for each, and looks again. */
START_TEST(a_driver_that_acknowledges_behind_capr_sees_every_frame)
{
    start(APM);
    wr(IMR, 2, 0);
    ck_assert(receive(1000));
    for (u32 i = 1, at = 1008; i < 200; i++, at = (at + 1008) % 8192) {
        ck_assert(rd(ISR, 2) & ROK);
        ck_assert(!(rd(CR, 1) & EMPTY));
        ck_assert(!receive(1000)); /* it waits outside */
        unsigned before = readies;
        wr(CAPR, 2, (at - 16) & 0xffff);
        ck_assert_uint_eq(before, readies);
        wr(ISR, 2, ROK);
        ck_assert_uint_eq(before + 1, readies);
        ck_assert(receive(1000));
    }
}
END_TEST

START_TEST(one_that_never_acknowledges_gets_the_next_frame_a_little_later)
{
    start(APM);
    ck_assert(receive(1000));
    ck_assert(!receive(1000));
    wr(CAPR, 2, 1008 - 16);
    unsigned before = readies;
    advance(100000);
    ck_assert(readies == before && !receive(1000));
    advance(100000);
    ck_assert(readies == before + 1 && receive(1000) && !receive(1000));
}
END_TEST

static bool is_taken(u32 rcr, const char *to)
{
    start(rcr);
    memcpy(frame, to, 6);
    ck_assert(receive(100));
    return !(rd(CR, 1) & EMPTY);
}

START_TEST(addresses_are_filtered_as_rcr_says)
{
    ck_assert(is_taken(APM, "\x52\x54\x00\x01\x02\x03"));
    ck_assert(!is_taken(AB, "\x52\x54\x00\x01\x02\x03"));
    ck_assert(is_taken(AB, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(!is_taken(APM, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(!is_taken(APM | AB, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(is_taken(AAP, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(!is_taken(AM, "\x01\x00\x5e\x00\x00\x01"));
    wr(MAR, 4, 0), wr(MAR + 4, 4, 0x80000000); /* bit 63: the checksum of that begins with six ones */
    ck_assert(!is_taken(AM, "\x01\x00\x5e\x00\x00\x01"));
    wr(MAR, 4, 0x80000000), wr(MAR + 4, 4, 0); /* bit 31 */
    ck_assert(is_taken(AM, "\x01\x00\x5e\x00\x00\x01"));
}
END_TEST

START_TEST(the_timer_interrupts_when_it_comes_to_its_mark)
{
    start(0);
    wr(TIMERINT, 4, 1000);
    wr(TCTR, 4, 0);
    advance(29000);
    ck_assert_uint_eq(0, rd(ISR, 2));
    advance(1100);
    ck_assert_uint_eq(TIMEOUT, rd(ISR, 2));
}
END_TEST

START_TEST(in_loopback_frames_come_back)
{
    start(APM);
    wr(TCR, 4, 0x60000);
    put(TX_BUF, frame, 100);
    wr(TSAD, 4, TX_BUF), wr(TSD, 4, 100);
    ck_assert_uint_eq(0, sents);
    has_frame(RING + 4, 100);
}
END_TEST

START_TEST(a_card_saved_in_the_middle_goes_on_in_another)
{
    struct rtl8139 *other;
    struct nic_desc d = { .slot = SLOT + 1, .net = &net, .name = "card", .mac = { 2 } };
    start(APM);
    ck_assert(receive(101));
    wr(TSAD, 4, TX_BUF), wr(TSD, 4, 100);
    ck_assert_int_eq(0, rtl8139_new(&other, bus, clk, pci, &d));
    board_start();
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 7);
    hand_over(rtl8139_part(card), rtl8139_part(other));
    bus_out(bus, 0xcf8, 4, 0x80000010u | (SLOT + 1) << 11);
    io = (u16)(bus_in(bus, 0xcfc, 4) & ~3u);
    ck_assert(!receive(80)); /* the first is not acknowledged */
    wr(ISR, 2, ROK);
    ck_assert(receive(80));
    has_frame(RING + 112 + 4, 80);
    wr(TSAD + 4, 4, TX_BUF), wr(TSD + 4, 4, 90);
    ck_assert_uint_eq(2, sents);
    rtl8139_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rtl8139");
    TCase *t = tcase_create("rtl8139");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, its_address_its_version_and_its_link_are_there);
    tcase_add_test(t, the_eeprom_is_read_by_its_wires);
    tcase_add_test(t, what_later_chips_have_is_not_there);
    tcase_add_test(t, the_four_transmit_descriptors_take_turns);
    tcase_add_test(t, frames_follow_each_other_in_the_ring_behind_headers);
    tcase_add_test(t, a_full_ring_keeps_frames_waiting_until_capr_moves_and_its_end_wraps);
    tcase_add_test(t, a_driver_that_acknowledges_behind_capr_sees_every_frame);
    tcase_add_test(t, one_that_never_acknowledges_gets_the_next_frame_a_little_later);
    tcase_add_test(t, addresses_are_filtered_as_rcr_says);
    tcase_add_test(t, the_timer_interrupts_when_it_comes_to_its_mark);
    tcase_add_test(t, in_loopback_frames_come_back);
    tcase_add_test(t, a_card_saved_in_the_middle_goes_on_in_another);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
