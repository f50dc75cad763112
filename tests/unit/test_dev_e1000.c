/* The 82540EM as drivers see it: Intel 317453. */
#include "src/dev/net/ether.h"
#include "src/dev/net/segment.h"
#include "tests/unit/nic_board.h"

enum {
    CTRL = 0,
    STATUS = 8,
    EECD = 0x10,
    EERD = 0x14,
    MDIC = 0x20,
    ICR = 0xc0,
    ITR = 0xc4,
    ICS = 0xc8,
    IMS = 0xd0,
    IMC = 0xd8,
    RCTL = 0x100,
    TCTL = 0x400,
    RDBAL = 0x2800,
    RDLEN = 0x2808,
    RDH = 0x2810,
    RDT = 0x2818,
    RDTR = 0x2820,
    TDBAL = 0x3800,
    TDLEN = 0x3808,
    TDH = 0x3810,
    TDT = 0x3818,
    TIDV = 0x3820,
    GPRC = 0x4074,
    GPTC = 0x4080,
    RXCSUM = 0x5000,
    MTA = 0x5200,
    RAL = 0x5400,
    RAH = 0x5404,
    VFTA = 0x5600
};
enum { TXDW = 1, LSC = 4, RXDMT0 = 0x10, RXT0 = 0x80 };
enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40, IDE = 0x80 };
enum { EN = 2, UPE = 8, MPE = 0x10, BAM = 0x8000, SECRC = 1 << 26 };
#define RX_RING 0x101000u
#define TX_RING 0x102000u
#define RX_BUF(i) (0x110000u + 0x1000u * (i))
#define TX_BUF 0x130000u
#define N 8u

static struct e1000 *card;
static u32 mem, tx_at;
static u16 io;

static u32 rd(u32 at) { return bus_mmio_read(bus, mem + at, 4); }
static void wr(u32 at, u32 v) { bus_mmio_write(bus, mem + at, 4, v); }

static void setup(void)
{
    struct nic_desc d = board_new();
    ck_assert_int_eq(0, e1000_new(&card, bus, clk, pci, &d));
    board_start();
    mem = cfg_read(0x10) & ~15u;
    io = (u16)(cfg_read(0x18) & ~3u);
}
static void teardown(void)
{
    e1000_free(card);
    board_free();
}

static void start(u32 rctl)
{
    const u8 zero[16 * N] = { 0 };
    put(TX_RING, zero, sizeof zero);
    wr(TDBAL, TX_RING), wr(TDLEN, 16 * N), wr(TDH, 0), wr(TDT, 0);
    wr(RDBAL, RX_RING), wr(RDLEN, 16 * N), wr(RDH, 0), wr(RDT, 0);
    for (unsigned i = 0; i < N; i++) put32(RX_RING + 16 * i, RX_BUF(i)), put32(RX_RING + 16 * i + 4, 0);
    tx_at = 0;
    wr(TCTL, EN);
    wr(RCTL, rctl);
    wr(IMS, TXDW | RXT0 | RXDMT0);
}
/* One more descriptor; the card sees it with go(). */
static void tx(u32 d0, u32 d1, u32 d2, u32 d3)
{
    const u32 d[4] = { d0, d1, d2, d3 };
    put(TX_RING + 16 * tx_at, d, 16);
    tx_at = (tx_at + 1) % N;
}
static void go(void) { wr(TDT, tx_at); }

START_TEST(its_address_and_checksum_are_in_the_eeprom_by_register_and_by_wires)
{
    u16 sum = 0;
    for (unsigned i = 0; i < 64; i++) {
        wr(EERD, i << 8 | 1);
        ck_assert_uint_eq(0x10, rd(EERD) & 0x10);
        sum = (u16)(sum + (rd(EERD) >> 16));
        if (i < 3) ck_assert_uint_eq(mac[2 * i] | mac[2 * i + 1] << 8, rd(EERD) >> 16);
    }
    ck_assert_uint_eq(0xbaba, sum);
    ck_assert_uint_eq(0x00005452, rd(RAL) & 0xffff);
    ck_assert_uint_eq(0x80000302, rd(RAH));
    wr(EECD, 0x40);
    ck_assert_uint_eq(0x1c0, rd(EECD) & 0x1c0); /* granted, present */
    wr(EECD, 0x42);
    u32 out = 0;
    for (unsigned i = 0; i < 25; i++) { /* 110 000001: read word 1; then the word */
        u32 di = (0x181u << 16) >> (24 - i) & 1 ? 4 : 0;
        wr(EECD, 0x42 | di), wr(EECD, 0x43 | di);
        out = out << 1 | (rd(EECD) >> 3 & 1);
        wr(EECD, 0x42 | di);
    }
    ck_assert_uint_eq(mac[2] | mac[3] << 8, out & 0xffff);
}
END_TEST

START_TEST(the_phy_is_an_m88e1011_with_a_link)
{
    const u32 read = 2u << 26 | 1u << 21;
    wr(MDIC, read | 2u << 16);
    ck_assert_uint_eq(0x10000141, rd(MDIC) & 0x5000ffff);
    wr(MDIC, read | 3u << 16);
    ck_assert_uint_eq(0x0c20, rd(MDIC) & 0xfff0);
    wr(MDIC, read | 1u << 16);
    ck_assert_uint_eq(0x24, rd(MDIC) & 0x24);
    wr(MDIC, 2u << 26 | 2u << 21 | 1u << 16);
    ck_assert_uint_eq(0x50000000, rd(MDIC) & 0x50000000); /* nobody is there */
    ck_assert_uint_eq(0, rd(STATUS) & 2);
    wr(CTRL, 0x40);
    ck_assert_uint_eq(2, rd(STATUS) & 2);
    ck_assert_uint_eq(LSC, rd(ICR));
    ck_assert_uint_eq(0, rd(ICR));
}
END_TEST

START_TEST(registers_are_reached_through_io_as_well_and_reset_by_it)
{
    wr(IMS, 1);
    bus_out(bus, io, 4, IMS);
    ck_assert_uint_eq(1, bus_in(bus, (u16)(io + 4), 4));
    bus_out(bus, io, 4, CTRL);
    bus_out(bus, (u16)(io + 4), 4, 1 << 26);
    ck_assert_uint_eq(0, rd(IMS));
}
END_TEST

START_TEST(legacy_descriptors_send_with_a_checksum_where_it_is_asked_for)
{
    u8 expect[2];
    start(0);
    put(TX_BUF, frame, 300);
    tx(TX_BUF, 0, 100, 0);
    tx(TX_BUF + 100, 0, 200 | 50u << 16 | (EOP | IFCS | IC | RS) << 24, 20u << 8); /* from 20 on, into 50 */
    go();
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(300, sent_len[0]);
    ck_assert_uint_eq(1, get32(TX_RING + 16 + 12) & 1);
    ck_assert_uint_eq(0, get32(TX_RING + 12) & 1); /* it did not ask */
    ck_assert(intx);
    ck_assert_uint_eq(TXDW, rd(ICR) & TXDW);
    ck_assert(!intx);
    u32 sum = 0;
    for (unsigned i = 20; i < 300; i += 2) sum += (u32)(frame[i] << 8 | frame[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16), sum = ~(sum + (sum >> 16));
    expect[0] = sum >> 8 & 0xff, expect[1] = sum & 0xff;
    ck_assert_mem_eq(expect, sent[0] + 50, 2);
    ck_assert_mem_eq(frame, sent[0], 50);
    ck_assert_uint_eq(2, rd(TDH));
    ck_assert_uint_eq(1, rd(GPTC));
    ck_assert_uint_eq(0, rd(GPTC)); /* cleared by that */
}
END_TEST

START_TEST(a_packet_waits_for_its_last_descriptor)
{
    start(0);
    tx(TX_BUF, 0, 100 | RS << 24, 0);
    go();
    ck_assert_uint_eq(0, sents);
    ck_assert_uint_eq(0, rd(TDH));
    tx(TX_BUF, 0, 60 | (EOP | RS) << 24, 0);
    go();
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(160, sent_len[0]);
}
END_TEST

static u16 sum16(const u8 *p, size_t n, u32 sum)
{
    for (size_t i = 0; i < n; i++) sum += (u32)p[i] << (i & 1 ? 0 : 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

/* An IPv4 packet with TCP whose checksums are not there yet. */
static void tcp_make(u8 *p, size_t data)
{
    static const u8 head[54] = { 0x52, 0x54, 0,    1, 2,    3,    2,    0,    0,  0, 0, 9, 8,    0, /* Ethernet */
                                 0x45, 0,    0,    0, 0x12, 0x34, 0x40, 0,    64, 6, 0, 0, 10,   0,
                                 2,    15,   10,   0, 2,    2, /* IP */
                                 0x10, 0,    0x20, 0, 1,    2,    0xff, 0xf0, 0,  0, 0, 0, 0x50, 0x19,
                                 0x20, 0,    0,    0, 0,    0 };
    memcpy(p, head, sizeof head);
    p[16] = (u8)((40 + data) >> 8), p[17] = (u8)(40 + data);
    for (size_t i = 0; i < data; i++) p[54 + i] = (u8)(i * 13 + i / 256);
}
/* Its checksums are right. */
static void tcp_check(const u8 *p, size_t n)
{
    ck_assert_uint_eq(n - 14, (size_t)(p[16] << 8 | p[17]));
    ck_assert_uint_eq(0xffff, sum16(p + 14, 20, 0));
    ck_assert_uint_eq(0xffff, sum16(p + 34, n - 34, sum16(p + 26, 8, 6 + (u32)(n - 34))));
}

START_TEST(a_large_packet_is_cut_into_frames_with_headers_of_their_own)
{
    static u8 packet[54 + 3500];
    tcp_make(packet, 3500);
    put(TX_BUF, packet, sizeof packet);
    start(0);
    tx(14 | 24u << 8 | 33u << 16, 34 | 50u << 8, 3500 | (1u | 2u | TSE | DEXT) << 24, 54u << 8 | 1460u << 16);
    tx(TX_BUF, 0, 54 | 1u << 20 | (DEXT | TSE) << 24, 0x300);
    tx(TX_BUF + 54, 0, 3500 | 1u << 20 | (DEXT | TSE | EOP | RS) << 24, 0);
    go();
    ck_assert_uint_eq(3, sents);
    size_t done = 0;
    for (unsigned i = 0; i < 3; i++) {
        size_t n = i < 2 ? 1460 : 3500 - 2920;
        const u8 *p = sent[i];
        ck_assert_uint_eq(54 + n, sent_len[i]);
        tcp_check(p, 54 + n);
        ck_assert_mem_eq(packet + 54 + done, p + 54, n);
        ck_assert_uint_eq(0x1234 + i, (u32)(p[18] << 8 | p[19]));
        ck_assert_uint_eq(0x0102fff0u + (u32)done, (u32)p[38] << 24 | (u32)p[39] << 16 | (u32)p[40] << 8 | p[41]);
        ck_assert_uint_eq(i < 2 ? 0x10 : 0x19, p[47]); /* FIN and PSH in the last alone */
        done += n;
    }
    ck_assert_uint_eq(3, rd(TDH));
}
END_TEST

START_TEST(a_context_has_checksums_put_in_and_does_not_outlive_its_kind)
{
    static u8 packet[54 + 100];
    tcp_make(packet, 100);
    u16 seed = sum16(packet + 26, 8, 6 + 120); /* the pseudo header, as drivers leave it */
    packet[50] = seed >> 8, packet[51] = (u8)seed;
    put(TX_BUF, packet, sizeof packet);
    start(0);
    tx(14 | 24u << 8 | 33u << 16, 34 | 50u << 8, (1u | 2u | DEXT) << 24, 0);
    tx(TX_BUF, 0, 154 | 1u << 20 | (DEXT | EOP | RS) << 24, 0x300);
    go();
    ck_assert_uint_eq(1, sents);
    tcp_check(sent[0], 154);
    tx(TX_BUF, 0, 154 | 1u << 20 | (DEXT | TSE | EOP | RS) << 24, 0x300); /* nothing said how to cut */
    go();
    ck_assert_uint_eq(1, sents);
}
END_TEST

START_TEST(a_frame_comes_in_and_its_checksums_are_judged)
{
    u8 packet[154];
    start(EN);
    wr(RDT, N - 1);
    ck_assert(receive(300));
    has_frame(RX_BUF(0), 300);
    ck_assert_uint_eq(304, get16(RX_RING + 8));
    ck_assert_uint_eq(1 | 2 | 4, get32(RX_RING + 12) & 0xffff); /* done, end, no checksum looked at */
    ck_assert(intx);
    ck_assert_uint_eq(RXT0, rd(ICR) & RXT0);
    wr(RXCSUM, 0x300);
    tcp_make(packet, 100);
    u16 ip = (u16)~sum16(packet + 14, 20, 0);
    packet[24] = ip >> 8, packet[25] = (u8)ip;
    u16 l4 = (u16)~sum16(packet + 34, 120, sum16(packet + 26, 8, 6 + 120));
    packet[50] = l4 >> 8, packet[51] = (u8)l4;
    ck_assert(net.receive(net.fe, packet, sizeof packet));
    ck_assert_uint_eq(0x0063, get32(RX_RING + 16 + 12) & 0xffff);
    packet[100] ^= 1;
    ck_assert(net.receive(net.fe, packet, sizeof packet));
    ck_assert_uint_eq(0x2063, get32(RX_RING + 32 + 12) & 0xffff); /* TCPE */
    ck_assert_uint_eq(3, rd(GPRC));
    wr(RCTL, EN | SECRC | 3 << 16); /* buffers of 256 bytes */
    ck_assert(receive(600));
    ck_assert_uint_eq(6, rd(RDH));
    ck_assert_uint_eq(256, get16(RX_RING + 3 * 16 + 8));
    ck_assert_uint_eq(1, get32(RX_RING + 3 * 16 + 12) & 0xff);
    ck_assert_uint_eq(600 - 512, get16(RX_RING + 5 * 16 + 8));
}
END_TEST

START_TEST(a_frame_without_descriptors_waits_for_rdt)
{
    start(EN);
    ck_assert(!receive(100));
    unsigned before = readies;
    wr(RDT, 5);
    ck_assert_uint_eq(before + 1, readies);
    ck_assert(receive(100));
    ck_assert_uint_eq(RXT0 | RXDMT0, rd(ICR) & (RXT0 | RXDMT0)); /* four of eight are left */
    wr(RCTL, 0);
    ck_assert(receive(100)); /* into the void */
    ck_assert_uint_eq(1, rd(RDH));
}
END_TEST

static bool is_taken(u32 rctl, const char *to)
{
    start(EN | rctl);
    wr(RDT, N - 1);
    memcpy(frame, to, 6);
    ck_assert(receive(100));
    return rd(RDH);
}

START_TEST(addresses_are_filtered_as_registers_say)
{
    ck_assert(is_taken(0, "\x52\x54\x00\x01\x02\x03"));
    ck_assert(!is_taken(0, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(is_taken(BAM, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(!is_taken(BAM, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(is_taken(UPE, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(!is_taken(UPE, "\x01\x00\x5e\x00\x12\x34"));
    ck_assert(is_taken(MPE, "\x01\x00\x5e\x00\x12\x34"));
    u32 bit = 0x3412 >> 4 & 0xfff; /* bits 47:36 of the address */
    wr(MTA + 4 * (bit / 32), 1u << bit % 32);
    ck_assert(is_taken(0, "\x01\x00\x5e\x00\x12\x34"));
    ck_assert(!is_taken(1 << 12, "\x01\x00\x5e\x00\x12\x34"));
    wr(RAL + 8, 0x00000002), wr(RAH + 8, 0x80000100);
    ck_assert(is_taken(0, "\x02\x00\x00\x00\x00\x01"));
}
END_TEST

START_TEST(tags_are_taken_out_put_in_and_filtered)
{
    start(EN);
    wr(RDT, N - 1);
    memcpy(frame + 12, "\x81\x00\x20\x05\x08\x00", 6);
    wr(CTRL, 1u << 30);
    ck_assert(receive(100));
    u32 status = get32(RX_RING + 12);
    ck_assert_uint_eq(0x2005, status >> 16);
    ck_assert_uint_eq(8, status & 8);
    ck_assert_uint_eq(100, get16(RX_RING + 8)); /* 100 and the checksum, less the tag */
    ck_assert_uint_eq(0x0008, get16(RX_BUF(0) + 12));
    wr(RCTL, EN | 1 << 18);
    ck_assert(receive(100));
    ck_assert_uint_eq(1, rd(RDH));
    wr(VFTA, 1u << 5);
    ck_assert(receive(100));
    ck_assert_uint_eq(2, rd(RDH));
    put(TX_BUF, frame, 12), put(TX_BUF + 12, frame + 16, 84);
    tx(TX_BUF, 0, 96 | (EOP | VLE) << 24, 0x2005u << 16);
    go();
    ck_assert_uint_eq(100, sent_len[0]);
    ck_assert_mem_eq(frame, sent[0], 100);
}
END_TEST

START_TEST(interrupts_come_no_faster_than_itr_says)
{
    start(EN);
    wr(RDT, N - 1);
    wr(ITR, 1000); /* 256 us */
    ck_assert(receive(100));
    ck_assert(intx);
    rd(ICR);
    ck_assert(!intx);
    ck_assert(receive(100));
    ck_assert(!intx);
    advance(255000);
    ck_assert(!intx);
    advance(2000);
    ck_assert(intx);
    wr(IMC, ~0u);
    ck_assert(!intx);
}
END_TEST

START_TEST(what_may_be_delayed_is)
{
    start(EN);
    wr(RDT, N - 1);
    wr(TIDV, 100);
    tx(TX_BUF, 0, 60 | (u32)(EOP | RS | IDE) << 24, 0);
    go();
    ck_assert_uint_eq(0, rd(ICR) & TXDW);
    advance(103000);
    ck_assert_uint_eq(TXDW, rd(ICR) & TXDW);
    wr(RDTR, 50);
    ck_assert(receive(100));
    ck_assert_uint_eq(0, rd(ICR) & RXT0);
    advance(52000);
    ck_assert_uint_eq(RXT0, rd(ICR) & RXT0);
}
END_TEST

/* IEEE 802.3, 3.2.9, a bit at a time; RFC 1071, a word at a time. */
START_TEST(sums_of_any_length_are_what_their_definitions_say)
{
    static u8 data[NETDEV_FRAME_MAX + 3];
    for (unsigned i = 0; i < sizeof data; i++) data[i] = (u8)(i * i * 7 + (i >> 3));
    for (unsigned at = 0; at < 3; at++) {
        u32 crc = ~0u, words = 0;
        for (unsigned n = 0; n < NETDEV_FRAME_MAX; n++) {
            ck_assert_msg(ether_fcs(data + at, n) == ~crc, "%u bytes at %u: %08x", n, at, ether_fcs(data + at, n));
            const u16 sum = (u16)~inet_fold(inet_sum(0, data + at, n));
            ck_assert_msg(sum == words, "%u bytes at %u: %04x, not %04x", n, at, sum, words);
            crc ^= data[at + n];
            for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
            words += n & 1 ? (u32)data[at + n] << 8 : data[at + n];
            words = (words & 0xffff) + (words >> 16);
        }
    }
}
END_TEST

START_TEST(in_loopback_frames_come_back)
{
    start(EN | 0xc0);
    wr(RDT, N - 1);
    put(TX_BUF, frame, 100);
    tx(TX_BUF, 0, 100 | (EOP | RS) << 24, 0);
    go();
    ck_assert_uint_eq(0, sents);
    has_frame(RX_BUF(0), 100);
}
END_TEST

START_TEST(a_card_saved_in_the_middle_goes_on_in_another)
{
    struct e1000 *other;
    struct nic_desc d = { .slot = SLOT + 1, .net = &net, .name = "card", .mac = { 2 } };
    start(EN);
    wr(RDT, 1);
    ck_assert(receive(80));
    ck_assert(!receive(90));
    tx(14 | 24u << 8 | 33u << 16, 34 | 50u << 8, (1u | 2u | DEXT) << 24, 0);
    tx(TX_BUF, 0, 154 | 1u << 20 | (DEXT | RS) << 24, 0x300);
    go();
    ck_assert_int_eq(0, e1000_new(&other, bus, clk, pci, &d));
    board_start();
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 7);
    hand_over(e1000_part(card), e1000_part(other));
    bus_out(bus, 0xcf8, 4, 0x80000010u | (SLOT + 1) << 11);
    mem = bus_in(bus, 0xcfc, 4) & ~15u;
    wr(RDT, 3);
    ck_assert(receive(90));
    has_frame(RX_BUF(1), 90);
    static u8 packet[154];
    tcp_make(packet, 100);
    u16 seed = sum16(packet + 26, 8, 6 + 120);
    packet[50] = seed >> 8, packet[51] = (u8)seed;
    put(TX_BUF, packet, sizeof packet);
    tx(TX_BUF, 0, 0 | 1u << 20 | (DEXT | EOP | RS) << 24, 0x300);
    go();
    tcp_check(sent[0], 154);
    e1000_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("e1000");
    TCase *t = tcase_create("e1000");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, its_address_and_checksum_are_in_the_eeprom_by_register_and_by_wires);
    tcase_add_test(t, the_phy_is_an_m88e1011_with_a_link);
    tcase_add_test(t, registers_are_reached_through_io_as_well_and_reset_by_it);
    tcase_add_test(t, legacy_descriptors_send_with_a_checksum_where_it_is_asked_for);
    tcase_add_test(t, a_packet_waits_for_its_last_descriptor);
    tcase_add_test(t, a_large_packet_is_cut_into_frames_with_headers_of_their_own);
    tcase_add_test(t, a_context_has_checksums_put_in_and_does_not_outlive_its_kind);
    tcase_add_test(t, a_frame_comes_in_and_its_checksums_are_judged);
    tcase_add_test(t, a_frame_without_descriptors_waits_for_rdt);
    tcase_add_test(t, addresses_are_filtered_as_registers_say);
    tcase_add_test(t, tags_are_taken_out_put_in_and_filtered);
    tcase_add_test(t, interrupts_come_no_faster_than_itr_says);
    tcase_add_test(t, what_may_be_delayed_is);
    tcase_add_test(t, in_loopback_frames_come_back);
    tcase_add_test(t, sums_of_any_length_are_what_their_definitions_say);
    tcase_add_test(t, a_card_saved_in_the_middle_goes_on_in_another);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
