/* The Am79C973 as drivers see it: AMD 21510. */
#include "tests/unit/nic_board.h"

enum { STOP = 4, STRT = 2, INIT = 1, TDMD = 8, IENA = 0x40, INTR = 0x80, IDON = 0x100, TINT = 0x200, RINT = 0x400 };
#define BLOCK 0x100000u
#define RX_RING 0x101000u
#define TX_RING 0x102000u
#define RX_BUF(i) (0x110000u + 0x1000u * (i))
#define TX_BUF(i) (0x120000u + 0x1000u * (i))
#define OWN 0x80000000u
#define STP 0x02000000u
#define ENP 0x01000000u
#define COUNT(n) ((u32) - (n)&0xfff)

static struct pcnet *card;
static u16 io;

static void setup(void)
{
    struct nic_desc d = board_new();
    ck_assert_int_eq(0, pcnet_new(&card, bus, clk, pci, &d));
    board_start();
    io = (u16)(cfg_read(0x10) & ~3u);
}
static void teardown(void)
{
    pcnet_free(card);
    board_free();
}

static u16 csr(unsigned n)
{
    bus_out(bus, (u16)(io + 0x12), 2, n);
    return (u16)bus_in(bus, (u16)(io + 0x10), 2);
}
static void csr_set(unsigned n, u16 v)
{
    bus_out(bus, (u16)(io + 0x12), 2, n);
    bus_out(bus, (u16)(io + 0x10), 2, v);
}
static u16 bcr(unsigned n)
{
    bus_out(bus, (u16)(io + 0x12), 2, n);
    return (u16)bus_in(bus, (u16)(io + 0x16), 2);
}
static void bcr_set(unsigned n, u16 v)
{
    bus_out(bus, (u16)(io + 0x12), 2, n);
    bus_out(bus, (u16)(io + 0x16), 2, v);
}

/* Rings of four. filter: the first word of LADRF. */
static void start(unsigned style, u16 mode, u16 filter)
{
    u8 b[28] = { (u8)mode, mode >> 8 };
    csr_set(0, STOP);
    bcr_set(20, (u16)style);
    if (style) {
        b[2] = b[3] = 2 << 4;
        memcpy(b + 4, mac, 6);
        memcpy(b + 12, &filter, 2);
        memcpy(b + 20, &(u32){ RX_RING }, 4);
        memcpy(b + 24, &(u32){ TX_RING }, 4);
    } else {
        memcpy(b + 2, mac, 6);
        memcpy(b + 8, &filter, 2);
        memcpy(b + 16, &(u32){ RX_RING | 2u << 29 }, 4);
        memcpy(b + 20, &(u32){ TX_RING | 2u << 29 }, 4);
    }
    put(BLOCK, b, sizeof b);
    for (unsigned i = 0; i < 64; i += 4) put32(RX_RING + i, 0), put32(TX_RING + i, 0);
    csr_set(1, (u16)BLOCK);
    csr_set(2, BLOCK >> 16);
    csr_set(0, INIT);
    ck_assert_uint_eq(IDON | INIT | INTR, csr(0));
    csr_set(0, IDON | STRT | IENA);
    ck_assert(!intx);
}
/* A descriptor of either ring, for a buffer of n bytes. */
static void give(unsigned style, u32 ring, unsigned i, u32 buffer, unsigned n, u32 flags)
{
    if (style) {
        put32(ring + 16 * i + (style == 3 ? 8 : 0), buffer);
        put32(ring + 16 * i + 4, flags | 0xf000 | COUNT(n));
    } else {
        put32(ring + 8 * i + 4, 0xf000 | COUNT(n));
        put32(ring + 8 * i, flags | buffer);
    }
}
static u32 status_of(unsigned style, u32 ring, unsigned i)
{
    return style ? get32(ring + 16 * i + 4) & 0xffff0000 : get32(ring + 8 * i) & 0xff000000;
}
static u32 length_of(unsigned style, u32 ring, unsigned i)
{
    return style ? get32(ring + 16 * i + (style == 3 ? 0 : 8)) & 0xfff : get32(ring + 8 * i + 4) >> 16 & 0xfff;
}

START_TEST(the_prom_has_the_address_a_checksum_and_two_letters)
{
    u8 prom[16];
    u16 sum = 0;
    for (unsigned i = 0; i < 16; i++) prom[i] = (u8)bus_in(bus, (u16)(io + i), 1);
    ck_assert_mem_eq(mac, prom, 6);
    ck_assert_mem_eq("WW", prom + 14, 2);
    for (unsigned i = 0; i < 16; i++) sum += i == 12 || i == 13 ? 0 : prom[i];
    ck_assert_uint_eq(sum, prom[12] | prom[13] << 8);
    ck_assert_uint_eq(0x5003, csr(88));
    ck_assert_uint_eq(0x0262, csr(89));
}
END_TEST

START_TEST(a_dword_to_rdp_makes_the_registers_dwords_until_a_hard_reset)
{
    ck_assert_uint_eq(4, csr(0));
    bus_out(bus, (u16)(io + 0x10), 4, 0);
    bus_out(bus, (u16)(io + 0x14), 4, 88);
    ck_assert_uint_eq(0x5003, bus_in(bus, (u16)(io + 0x10), 4));
    ck_assert_uint_eq(88, bus_in(bus, (u16)(io + 0x14), 4));
    bus_in(bus, (u16)(io + 0x18), 4); /* S_RESET */
    ck_assert_uint_eq(0, bus_in(bus, (u16)(io + 0x14), 4));
    struct snap_part p = pcnet_part(card);
    snap_part_reset(&p);
    ck_assert_uint_eq(4, csr(0));
}
END_TEST

START_TEST(frames_go_out_of_one_buffer_and_of_several_in_all_styles)
{
    static const unsigned styles[] = { 0, 2, 3 };
    for (unsigned s = 0; s < 3; s++) {
        unsigned style = styles[s], before = sents;
        start(style, 0, 0);
        put(TX_BUF(0), frame, 700);
        give(style, TX_RING, 0, TX_BUF(0), 700, OWN | STP | ENP);
        csr_set(0, TDMD | IENA);
        ck_assert_uint_eq(before + 1, sents);
        ck_assert_uint_eq(700, sent_len[before % 8]);
        ck_assert_mem_eq(frame, sent[before % 8], 700);
        ck_assert(intx && (csr(0) & TINT));
        csr_set(0, TINT | IENA);
        ck_assert(!intx);
        ck_assert_uint_eq(STP | ENP, status_of(style, TX_RING, 0));
        give(style, TX_RING, 2, TX_BUF(0) + 100, 50, OWN | ENP);
        give(style, TX_RING, 1, TX_BUF(0), 100, OWN | STP);
        csr_set(0, TDMD | IENA);
        ck_assert_uint_eq(before + 2, sents);
        ck_assert_uint_eq(150, sent_len[(before + 1) % 8]);
        ck_assert_mem_eq(frame, sent[(before + 1) % 8], 150);
        ck_assert_uint_eq(STP, status_of(style, TX_RING, 1));
        ck_assert_uint_eq(ENP, status_of(style, TX_RING, 2));
    }
}
END_TEST

START_TEST(a_frame_whose_end_is_not_there_waits_and_one_without_a_start_is_skipped)
{
    start(2, 0, 0);
    give(2, TX_RING, 0, TX_BUF(0), 100, OWN | STP);
    csr_set(0, TDMD | IENA);
    ck_assert_uint_eq(0, sents);
    give(2, TX_RING, 1, TX_BUF(0), 100, OWN | ENP);
    csr_set(0, TDMD | IENA);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(200, sent_len[0]);
    give(2, TX_RING, 2, TX_BUF(0), 100, OWN | ENP);
    give(2, TX_RING, 3, TX_BUF(0), 60, OWN | STP | ENP);
    csr_set(0, TDMD | IENA);
    ck_assert_uint_eq(2, sents);
    ck_assert_uint_eq(60, sent_len[1]);
    ck_assert_uint_eq(ENP, status_of(2, TX_RING, 2));
}
END_TEST

START_TEST(what_is_longer_than_a_frame_is_babble)
{
    start(2, 0, 0);
    give(2, TX_RING, 0, TX_BUF(0), 1519, OWN | STP | ENP);
    csr_set(0, TDMD | IENA);
    ck_assert_uint_eq(0, sents);
    ck_assert_uint_eq(0xc000, csr(0) & 0xc000); /* BABL, and ERR with it */
    csr_set(0, 0x4000);
    ck_assert_uint_eq(0, csr(0) & 0xc000);
}
END_TEST

START_TEST(a_frame_comes_in_with_padding_and_checksum_in_all_styles)
{
    static const unsigned styles[] = { 0, 2, 3 };
    for (unsigned s = 0; s < 3; s++) {
        unsigned style = styles[s];
        start(style, 0, 0);
        for (unsigned i = 0; i < 4; i++) give(style, RX_RING, i, RX_BUF(i), 256, OWN);
        ck_assert(receive(500));
        ck_assert(intx && (csr(0) & RINT));
        ck_assert_uint_eq(STP, status_of(style, RX_RING, 0));
        ck_assert_uint_eq(ENP | (style ? 0x400000 : 0), status_of(style, RX_RING, 1)); /* PAM */
        ck_assert_uint_eq(504, length_of(style, RX_RING, 1));
        u8 got[512];
        get(RX_BUF(0), got, 256);
        get(RX_BUF(1), got + 256, 248);
        ck_assert_mem_eq(frame, got, 500);
        memset(frame + 20, 0, 40);
        ck_assert(receive(20));
        ck_assert_uint_eq(64, length_of(style, RX_RING, 2));
        has_frame(RX_BUF(2), 60);
        for (unsigned i = 20; i < 60; i++) frame[i] = (u8)(i * 7);
        csr_set(0, STOP);
        ck_assert(!intx);
    }
}
END_TEST

START_TEST(a_frame_without_a_descriptor_waits_until_there_is_one)
{
    start(2, 0, 0);
    ck_assert(!receive(100));
    unsigned before = readies;
    advance(2000000); /* by itself */
    ck_assert_uint_eq(before + 1, readies);
    ck_assert(!receive(100));
    give(2, RX_RING, 0, RX_BUF(0), 1544, OWN);
    csr_set(0, IENA); /* or as soon as the driver says something */
    ck_assert_uint_eq(before + 2, readies);
    ck_assert(receive(100));
    has_frame(RX_BUF(0), 100);
    csr_set(5, 1); /* suspended: it goes on where it was */
    ck_assert_uint_eq(1, csr(5) & 1);
    ck_assert(!receive(100));
    csr_set(5, 0);
    ck_assert_uint_eq(before + 3, readies);
    csr_set(0, STOP);
    ck_assert(receive(100)); /* into the void */
}
END_TEST

/* How many of four frames are taken. */
static unsigned taken(u16 mode, u16 filter)
{
    static const u8 to[4][6] = { { 0x52, 0x54, 0, 1, 2, 3 },
                                 { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
                                 { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x01 },
                                 { 0x02, 0x00, 0x00, 0x00, 0x00, 0x01 } };
    unsigned mask = 0;
    for (unsigned i = 0; i < 4; i++) {
        start(2, mode, filter);
        give(2, RX_RING, 0, RX_BUF(0), 1544, OWN);
        memcpy(frame, to[i], 6);
        ck_assert(receive(100));
        if (!(status_of(2, RX_RING, 0) & OWN)) mask |= 1u << i;
    }
    return mask;
}

START_TEST(addresses_are_filtered_as_mode_and_filter_say)
{

    u8 group[6] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x01 };
    unsigned bit = ~(u32)crc32(0, group, 6) >> 26;
    ck_assert_uint_eq(3, taken(0, 0));
    ck_assert_uint_eq(15, taken(0x8000, 0));
    ck_assert_uint_eq(1, taken(0x4000, 0));
    ck_assert_uint_eq(2, taken(0x2000, 0));
    start(2, 0, 0);
    csr_set(0, STOP);
    for (unsigned i = 0; i < 4; i++) csr_set(8 + i, i == bit / 16 ? (u16)(1u << bit % 16) : 0);
    csr_set(0, STRT);
    give(2, RX_RING, 0, RX_BUF(0), 1544, OWN);
    memcpy(frame, group, 6);
    ck_assert(receive(100));
    ck_assert_uint_eq(STP | ENP | 0x200000, status_of(2, RX_RING, 0)); /* LAFM */
}
END_TEST

START_TEST(in_loopback_frames_come_back_and_none_comes_from_outside)
{
    start(2, 0x0044, 0); /* LOOP, INTL */
    for (unsigned i = 0; i < 2; i++) give(2, RX_RING, i, RX_BUF(i), 1544, OWN);
    put(TX_BUF(0), frame, 100);
    give(2, TX_RING, 0, TX_BUF(0), 100, OWN | STP | ENP);
    csr_set(0, TDMD | IENA);
    ck_assert_uint_eq(0, sents);
    has_frame(RX_BUF(0), 100);
    ck_assert(receive(100));
    ck_assert_uint_eq(OWN, status_of(2, RX_RING, 1));
}
END_TEST

START_TEST(rings_stand_still_while_the_chip_runs)
{
    start(2, 0, 0);
    csr_set(76, 0x1234);
    csr_set(15, 0x8000);
    ck_assert_uint_eq(0xfffc, csr(76));
    ck_assert_uint_eq(0, csr(15));
    ck_assert_uint_eq(0x2200, csr(6));
    bcr_set(20, 0);
    ck_assert_uint_eq(0x0302, bcr(20));
    csr_set(0, STOP);
    csr_set(76, 0x1234);
    ck_assert_uint_eq(0x1234, csr(76));
}
END_TEST

/* Clocks n bits of v into the EEPROM, highest first; returns what came out. */
static u32 shift(u32 v, unsigned n)
{
    u32 out = 0;
    while (n--) {
        u16 pins = (u16)(0x14 | (v >> n & 1));
        bcr_set(19, pins);
        bcr_set(19, pins | 2);
        out = out << 1 | (bcr(19) & 1);
    }
    bcr_set(19, 0x14);
    return out;
}

START_TEST(the_eeprom_is_read_and_written_by_its_wires)
{
    bcr_set(19, 0x14);
    shift(6u << 6 | 2, 9);
    ck_assert_uint_eq(mac[4] | mac[5] << 8, shift(0, 16));
    ck_assert_uint_eq(0, shift(0, 16)); /* the next */
    bcr_set(19, 0x10);
    bcr_set(19, 0x14);
    shift(5u << 6 | 40, 9);
    shift(0xbeef, 16); /* not without EWEN */
    bcr_set(19, 0x10), bcr_set(19, 0x14), shift(4u << 6 | 0x30, 9);
    bcr_set(19, 0x10), bcr_set(19, 0x14), shift(5u << 6 | 41, 9), shift(0xcafe, 16);
    bcr_set(19, 0x10), bcr_set(19, 0x14), shift(6u << 6 | 40, 9);
    ck_assert_uint_eq(0x0000cafe, shift(0, 32));
}
END_TEST

START_TEST(the_phy_has_a_link_and_nobody_is_at_other_addresses)
{
    bcr_set(33, 30 << 5 | 1);
    ck_assert_uint_eq(0x0024, bcr(34) & 0x0024); /* up, negotiated */
    bcr_set(33, 1 << 5 | 1);
    ck_assert_uint_eq(0xffff, bcr(34));
    bcr_set(33, 30 << 5 | 4);
    bcr_set(34, 0x0061);
    ck_assert_uint_eq(0x0061, bcr(34));
    bcr_set(33, 30 << 5);
    bcr_set(34, 0x8000);
    bcr_set(33, 30 << 5 | 4);
    ck_assert_uint_eq(0x01e1, bcr(34));
}
END_TEST

START_TEST(the_interrupt_timer_counts_units_of_12_8_us)
{
    bcr_set(31, 1001);
    csr_set(7, 0x0400);
    csr_set(0, IENA);
    advance(12800ull * 1000);
    ck_assert(!intx);
    advance(12800);
    ck_assert(intx);
    csr_set(7, 0x0c00);
    ck_assert(!intx);
    advance(12800ull * 1001);
    ck_assert(intx);
}
END_TEST

START_TEST(a_card_saved_in_the_middle_goes_on_in_another)
{
    struct pcnet *other;
    struct nic_desc d = { .slot = SLOT + 1, .net = &net, .name = "card", .mac = { 2 } };
    start(2, 0, 0);
    give(2, RX_RING, 0, RX_BUF(0), 1544, OWN);
    give(2, TX_RING, 0, TX_BUF(0), 100, OWN | STP);
    csr_set(0, TDMD | IENA);
    ck_assert(receive(80));
    ck_assert(!receive(90));
    ck_assert_int_eq(0, pcnet_new(&other, bus, clk, pci, &d));
    board_start();
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 7);
    hand_over(pcnet_part(card), pcnet_part(other));
    unsigned before = readies;
    advance(2000000);
    ck_assert_uint_eq(before + 2, readies); /* both */
    give(2, RX_RING, 1, RX_BUF(1), 1544, OWN);
    ck_assert(receive(90));
    has_frame(RX_BUF(1), 90);
    pcnet_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pcnet");
    TCase *t = tcase_create("pcnet");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_prom_has_the_address_a_checksum_and_two_letters);
    tcase_add_test(t, a_dword_to_rdp_makes_the_registers_dwords_until_a_hard_reset);
    tcase_add_test(t, frames_go_out_of_one_buffer_and_of_several_in_all_styles);
    tcase_add_test(t, a_frame_whose_end_is_not_there_waits_and_one_without_a_start_is_skipped);
    tcase_add_test(t, what_is_longer_than_a_frame_is_babble);
    tcase_add_test(t, a_frame_comes_in_with_padding_and_checksum_in_all_styles);
    tcase_add_test(t, a_frame_without_a_descriptor_waits_until_there_is_one);
    tcase_add_test(t, addresses_are_filtered_as_mode_and_filter_say);
    tcase_add_test(t, in_loopback_frames_come_back_and_none_comes_from_outside);
    tcase_add_test(t, rings_stand_still_while_the_chip_runs);
    tcase_add_test(t, the_eeprom_is_read_and_written_by_its_wires);
    tcase_add_test(t, the_phy_has_a_link_and_nobody_is_at_other_addresses);
    tcase_add_test(t, the_interrupt_timer_counts_units_of_12_8_us);
    tcase_add_test(t, a_card_saved_in_the_middle_goes_on_in_another);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
