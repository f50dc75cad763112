/* The NE2000 as drivers see it, on PCI and on ISA: National Semiconductor DP8390D, Realtek RTL8029AS. */
#include "tests/unit/nic_board.h"

#include <errno.h>

enum { CR, PSTART, PSTOP, BNRY, TPSR, TBCR0, TBCR1, ISR, RSAR0, RSAR1, RBCR0, RBCR1, RCR, TCR, DCR, IMR };
enum { CURR = 7, MAR = 8, DATA = 0x10, RESET = 0x1f };
enum { STP = 1, STA = 2, TXP = 4, READ = 8, WRITE = 0x10, NODMA = 0x20, PAGE1 = 0x40 };
enum { PRX = 1, PTX = 2, RDC = 0x40, RST = 0x80, AB = 4, AM = 8, PRO = 0x10 };
enum { START = 0x46, STOP = 0x60 };

static struct ne2000 *card;
static u16 io;
static bool isa_level;
static void on_isa(void *opaque UNUSED, unsigned n UNUSED, bool level) { isa_level = level; }

static u8 in(unsigned at) { return (u8)bus_in(bus, (u16)(io + at), 1); }
static void out(unsigned at, u8 v) { bus_out(bus, (u16)(io + at), 1, v); }

static void setup(void)
{
    struct nic_desc d = board_new();
    ck_assert_int_eq(0, ne2000_new(&card, bus, pci, &d));
    board_start();
    io = (u16)(cfg_read(0x10) & ~3u);
}
static void teardown(void)
{
    ne2000_free(card);
    board_free();
}
static void remote(u8 way, u16 at, u16 n)
{
    out(RBCR0, (u8)n), out(RBCR1, n >> 8), out(RSAR0, (u8)at), out(RSAR1, at >> 8);
    out(CR, way | STA);
}
static void read_mem(u16 at, u8 *p, unsigned n)
{
    remote(READ, at, (u16)n);
    for (unsigned i = 0; i < n; i += 2) {
        u16 v = (u16)bus_in(bus, (u16)(io + DATA), 2);
        memcpy(p + i, &v, 2);
    }
    ck_assert_uint_eq(RDC, in(ISR)&RDC);
    out(ISR, RDC);
}
static void start(u8 rcr)
{
    (void)in(RESET);
    ck_assert_uint_eq(RST, in(ISR)&RST);
    out(CR, NODMA | STP), out(DCR, 0x49), out(RCR, rcr), out(TCR, 0);
    out(PSTART, START), out(PSTOP, STOP), out(BNRY, START), out(ISR, 0xff), out(IMR, PRX | PTX);
    out(CR, NODMA | STP | PAGE1);
    for (unsigned i = 0; i < 6; i++) out(1 + i, mac[i]);
    for (unsigned i = 0; i < 8; i++) out(MAR + i, 0);
    out(CURR, START + 1);
    out(CR, NODMA | STA);
}
static u8 curr(void)
{
    out(CR, NODMA | STA | PAGE1);
    u8 v = in(CURR);
    out(CR, NODMA | STA);
    return v;
}

START_TEST(the_prom_has_each_byte_twice_and_the_chip_signs)
{
    u8 prom[32];
    out(DCR, 0x49);
    read_mem(0, prom, 32);
    for (unsigned i = 0; i < 6; i++) ck_assert(prom[2 * i] == mac[i] && prom[2 * i + 1] == mac[i]);
    ck_assert_mem_eq("WWWW", prom + 28, 4);
    remote(READ, 0, 32); /* bytes are taken from whole words: each one once */
    for (unsigned i = 0; i < 6; i++) ck_assert_uint_eq(mac[i], in(DATA));
    ck_assert_uint_eq(0x50, in(RBCR0));
    ck_assert_uint_eq(0x43, in(RBCR1));
}
END_TEST

START_TEST(memory_is_16_KiB_in_bytes_or_words)
{
    u8 got[4];
    out(DCR, 0x48); /* bytes */
    remote(WRITE, 0x7ffe, 4);
    for (unsigned i = 0; i < 4; i++) out(DATA, (u8)(0x11 * (i + 1))); /* two of them behind its end */
    out(DCR, 0x49);
    out(PSTOP, 0xff);
    read_mem(0x7ffe, got, 4);
    ck_assert_mem_eq("\x11\x22\xff\xff", got, 4);
    out(PSTART, START), out(PSTOP, 0x80);
    remote(WRITE, 0x7ffe, 4);
    bus_out(bus, (u16)(io + DATA), 4, 0x44332211); /* goes on at PSTART */
    read_mem(START << 8, got, 2);
    ck_assert_mem_eq("\x33\x44", got, 2);
}
END_TEST

START_TEST(a_frame_goes_out_of_its_memory)
{
    start(0);
    remote(WRITE, 0x4000, 300);
    for (unsigned i = 0; i < 300; i += 2) bus_out(bus, (u16)(io + DATA), 2, (u32)(frame[i] | frame[i + 1] << 8));
    out(TPSR, 0x40), out(TBCR0, 300 & 0xff), out(TBCR1, 300 >> 8);
    out(CR, NODMA | STA | TXP);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(300, sent_len[0]);
    ck_assert_mem_eq(frame, sent[0], 300);
    ck_assert(intx && (in(ISR)&PTX));
    ck_assert_uint_eq(1, in(TPSR)); /* TSR: fine */
    ck_assert_uint_eq(0, in(CR)&TXP);
    out(ISR, PTX);
    ck_assert(!intx);
}
END_TEST

START_TEST(frames_lie_in_pages_behind_headers_and_the_ring_wraps)
{
    u8 head[4], got[600];
    start(AB);
    ck_assert(receive(300));
    ck_assert(intx);
    read_mem((START + 1) << 8, head, 4);
    ck_assert_uint_eq(1, head[0]);
    ck_assert_uint_eq(START + 3, head[1]);
    ck_assert_uint_eq(304, head[2] | head[3] << 8);
    read_mem(((START + 1) << 8) + 4, got, 300);
    ck_assert_mem_eq(frame, got, 300);
    ck_assert(!receive(300)); /* the last one has not been acknowledged */
    unsigned before = readies;
    out(ISR, PRX);
    ck_assert_uint_eq(before + 1, readies);
    out(IMR, 0);                                               /* nor need it be, by who polls */
    for (unsigned i = 0; i < 11; i++) ck_assert(receive(300)); /* 24 of 26 pages */
    ck_assert(!receive(300));                                  /* CURR would come to BNRY */
    before = readies;
    out(BNRY, START + 6);
    ck_assert_uint_eq(before + 1, readies);
    ck_assert(receive(600)); /* three pages, of which one is at the end */
    ck_assert_uint_eq(START + 2, curr());
    read_mem((START << 8) + 0, got, 344);
    ck_assert_mem_eq(frame + 252, got, 344);
}
END_TEST

static bool is_taken(u8 rcr, const char *to)
{
    start(rcr);
    memcpy(frame, to, 6);
    ck_assert(receive(100));
    return curr() != START + 1;
}

START_TEST(addresses_are_filtered_as_rcr_says)
{
    ck_assert(is_taken(0, "\x52\x54\x00\x01\x02\x03"));
    ck_assert(!is_taken(0, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(is_taken(AB, "\xff\xff\xff\xff\xff\xff"));
    ck_assert(!is_taken(AB, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(is_taken(PRO, "\x02\x00\x00\x00\x00\x01"));
    ck_assert(!is_taken(AM, "\x01\x00\x5e\x00\x00\x01"));
    out(CR, NODMA | STA | PAGE1);
    out(MAR + 3, 0x80); /* bit 31 */
    out(CR, NODMA | STA);
    ck_assert(receive(100));
    ck_assert_uint_ne(START + 1, curr());
}
END_TEST

START_TEST(who_is_stopped_or_has_no_ring_takes_nothing)
{
    start(PRO);
    out(CR, NODMA | STP);
    ck_assert(receive(100));
    ck_assert_uint_eq(RST, in(ISR)&RST);
    out(CR, NODMA | STA);
    ck_assert_uint_eq(START + 1, curr());
    out(PSTOP, START);
    ck_assert(receive(100));
    ck_assert_uint_eq(START + 1, curr());
    out(PSTOP, START + 2); /* too short for any */
    ck_assert(receive(1000));
}
END_TEST

START_TEST(on_isa_it_has_a_port_and_an_interrupt_of_its_own)
{
    struct ne2000 *other, *third;
    struct nic_desc d = { .net = &net, .name = "isa", .port = 0x300, .irq = 3, .mac = { 2 } };
    struct irq_line line = { .set = on_isa };
    ck_assert_int_eq(0, ne2000_isa_new(&other, bus, line, &d));
    ck_assert_int_eq(-EBUSY, ne2000_isa_new(&third, bus, line, &d));
    io = 0x300;
    start(0);
    out(IMR, RDC);
    remote(READ, 0, 0); /* the way drivers look for its interrupt */
    ck_assert(isa_level);
    ck_assert_uint_eq(0xff, in(RBCR0)); /* it is no RTL8029 */
    ne2000_free(other);
    ck_assert_uint_eq(0xff, in(CR));
}
END_TEST

START_TEST(a_card_saved_in_the_middle_goes_on_in_another)
{
    struct ne2000 *other;
    struct nic_desc d = { .slot = SLOT + 1, .net = &net, .name = "card", .mac = { 2 } };
    u8 got[100];
    start(0);
    ck_assert(receive(100));
    remote(READ, ((START + 1) << 8) + 4, 100); /* half a frame has been read */
    for (unsigned i = 0; i < 50; i += 2) (void)bus_in(bus, (u16)(io + DATA), 2);
    ck_assert_int_eq(0, ne2000_new(&other, bus, pci, &d));
    board_start();
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 7);
    hand_over(ne2000_part(card), ne2000_part(other));
    bus_out(bus, 0xcf8, 4, 0x80000010u | (SLOT + 1) << 11);
    io = (u16)(bus_in(bus, 0xcfc, 4) & ~3u);
    for (unsigned i = 0; i < 50; i++) got[i] = (u8)0;
    for (unsigned i = 0; i < 50; i += 2) {
        u16 v = (u16)bus_in(bus, (u16)(io + DATA), 2);
        memcpy(got + i, &v, 2);
    }
    ck_assert_mem_eq(frame + 50, got, 50);
    out(ISR, PRX);
    ck_assert(receive(100));
    ck_assert_uint_eq(START + 3, curr());
    ne2000_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ne2000");
    TCase *t = tcase_create("ne2000");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_prom_has_each_byte_twice_and_the_chip_signs);
    tcase_add_test(t, memory_is_16_KiB_in_bytes_or_words);
    tcase_add_test(t, a_frame_goes_out_of_its_memory);
    tcase_add_test(t, frames_lie_in_pages_behind_headers_and_the_ring_wraps);
    tcase_add_test(t, addresses_are_filtered_as_rcr_says);
    tcase_add_test(t, who_is_stopped_or_has_no_ring_takes_nothing);
    tcase_add_test(t, on_isa_it_has_a_port_and_an_interrupt_of_its_own);
    tcase_add_test(t, a_card_saved_in_the_middle_goes_on_in_another);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
