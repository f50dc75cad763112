/* The virtio network card as drivers see it, with a network that the test plays. */
#include "core/netdev.h"
#include "tests/unit/virtio_driver.h"

enum { RX, TX };
#define MRG_RXBUF (1ull << 15)
#define BUF_AT 0x300000u

static struct netdev net;
static struct virtio_net *card;
static u8 sent[NETDEV_LARGE_MAX], frame[NETDEV_FRAME_MAX];
static size_t sent_len;
static unsigned sents, readies;

static void on_send(void *be UNUSED, const u8 *data, size_t n)
{
    ck_assert_uint_le(n, sizeof sent);
    memcpy(sent, data, n);
    sent_len = n;
    sents++;
}
static void on_ready(void *be UNUSED) { readies++; }

static void setup(void)
{
    static const struct netdev_ops ops = { on_send, on_ready };
    board_new();
    net = (struct netdev){ .ops = &ops };
    sents = readies = 0;
    for (unsigned i = 0; i < sizeof frame; i++) frame[i] = (u8)(i * 7 + i / 256);
    const struct nic_desc d = { .slot = SLOT, .net = &net, .mac = { 0x52, 0x54, 0, 1, 2, 3 }, .name = "virtio-net" };
    ck_assert_int_eq(0, virtio_net_new(&card, bus, pci, &d));
    board_start();
}
static void teardown(void)
{
    virtio_net_free(card);
    board_free();
}
static bool receive(size_t n) { return net.receive(net.fe, frame, n); }
static void offer_buffer(u16 i, u32 len)
{
    desc(RX, i, BUF_AT + 0x1000u * i, len, D_WRITE, 0);
    offer(RX, i);
}

START_TEST(its_address_and_link_are_in_the_configuration)
{
    ck_assert_uint_eq(0x01005452, rd(0x2000, 4));
    ck_assert_uint_eq(0x00010302, rd(0x2004, 4));
}
END_TEST

START_TEST(what_the_driver_sends_goes_out_without_its_header)
{
    driver_start(0, 2);
    put(BUF_AT, frame, 600);
    desc(TX, 0, BUF_AT, 5, D_NEXT, 1); /* the header of 12 bytes in two pieces */
    desc(TX, 1, BUF_AT + 5, 500, 0, 0);
    offer(TX, 0);
    kick(TX);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(505 - 12, sent_len);
    ck_assert_mem_eq(frame + 12, sent, sent_len);
    ck_assert_uint_eq(1, used_idx(TX));
    ck_assert_uint_eq(1, rises);
}
END_TEST

START_TEST(frames_too_long_or_too_short_are_dropped_and_given_back)
{
    driver_start(0, 2);
    desc(TX, 0, BUF_AT, 12 + NETDEV_FRAME_MAX + 1, 0, 0);
    desc(TX, 1, BUF_AT, 12 + NETDEV_FRAME_MIN - 1, 0, 0);
    desc(TX, 2, BUF_AT, 12 + NETDEV_FRAME_MAX, 0, 0);
    for (u16 i = 0; i < 3; i++) offer(TX, i);
    kick(TX);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(NETDEV_FRAME_MAX, sent_len);
    ck_assert_uint_eq(3, used_idx(TX));
}
END_TEST

START_TEST(a_frame_comes_in_behind_a_header_that_counts_its_buffers)
{
    u8 got[1612];
    u32 id, len;
    driver_start(MRG_RXBUF, 2);
    for (u16 i = 0; i < 4; i++) offer_buffer(i, 512);
    ck_assert(receive(1400));
    ck_assert_uint_eq(3, used_idx(RX));
    for (u16 i = 0; i < 3; i++) {
        used(RX, i, &id, &len);
        ck_assert_uint_eq(i, id);
        ck_assert_uint_eq(i < 2 ? 512 : 1412 - 1024, len);
        get(BUF_AT + 0x1000u * i, got + 512 * i, 512);
    }
    ck_assert_uint_eq(3, got[10] | got[11] << 8);
    ck_assert_mem_eq(frame, got + 12, 1400);
    ck_assert_uint_eq(1, rises);
}
END_TEST

START_TEST(a_frame_without_room_waits_until_the_driver_offers_more)
{
    u8 got[512];
    driver_start(MRG_RXBUF | EVENT_IDX, 2);
    unsigned before = readies;
    offer_buffer(0, 512);
    ck_assert(!receive(1000)); /* it needs two */
    ck_assert_uint_eq(0, used_idx(RX));
    ck_assert_uint_eq(1, get16(USED_AT(RX) + 4 + 8 * QUEUE_SIZE)); /* tell me of the second */
    offer_buffer(1, 512);
    kick(RX);
    ck_assert_uint_eq(before + 1, readies);
    ck_assert(receive(1000));
    ck_assert_uint_eq(2, used_idx(RX));
    get(BUF_AT, got, 512);
    ck_assert_mem_eq(frame, got + 12, 500);
}
END_TEST

START_TEST(who_is_not_ready_gets_nothing_and_stops_nobody)
{
    ck_assert(receive(100));
    driver_start(0, 2);
    offer_buffer(0, 100); /* without merged buffers: too small, and the frame is lost */
    ck_assert(receive(1000));
    offer_buffer(1, 4); /* not even a header */
    ck_assert(receive(1000));
    ck_assert(status() & S_NEEDS_RESET);
    ck_assert(receive(1000));
}
END_TEST

START_TEST(a_driver_that_lies_about_its_buffers_breaks_the_card)
{
    driver_start(MRG_RXBUF, 2);
    desc(RX, 0, 0xf0000000, 512, D_WRITE, 0);
    offer(RX, 0);
    ck_assert(receive(100));
    ck_assert(status() & S_NEEDS_RESET);
    driver_start(MRG_RXBUF, 2);
    desc(RX, 0, BUF_AT, 2048, 0, 0); /* not to be written */
    offer(RX, 0);
    ck_assert(receive(100));
    ck_assert(status() & S_NEEDS_RESET);
    driver_start(MRG_RXBUF, 2);
    desc(TX, 0, BUF_AT, 11, 0, 0);
    offer(TX, 0);
    kick(TX);
    ck_assert(status() & S_NEEDS_RESET);
    ck_assert_uint_eq(0, sents);
}
END_TEST

/* An IPv4 packet with TCP and n bytes of data: 54 + n. The sums are not there. */
static void tcp_make(u8 *p, size_t n)
{
    static const u8 head[54] = { 0x52, 0x54, 0,    1, 2,    3,    2,    0,    0,  0, 0, 9, 8,    0, /* Ethernet */
                                 0x45, 0,    0,    0, 0x12, 0x34, 0x40, 0,    64, 6, 0, 0, 10,   0,
                                 2,    15,   10,   0, 2,    2, /* IP */
                                 0x10, 0,    0x20, 0, 1,    2,    0xff, 0xf0, 0,  0, 0, 0, 0x50, 0x19,
                                 0x20, 0,    0,    0, 0,    0 };
    memcpy(p, head, sizeof head);
    p[16] = (u8)((40 + n) >> 8), p[17] = (u8)(40 + n);
    for (size_t i = 0; i < n; i++) p[54 + i] = (u8)(i * 13 + i / 256);
}
static u32 sum16(const u8 *p, size_t n, u32 sum)
{
    for (size_t i = 0; i < n; i++) sum += (u32)p[i] << (i & 1 ? 0 : 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}
static u32 tcp_sum(const u8 *p, size_t len) { return sum16(p + 34, len - 34, sum16(p + 26, 8, 6 + (u32)(len - 34))); }

START_TEST(checksums_and_segments_that_the_driver_leaves_out_are_made)
{
    static u8 packet[12 + 54 + 3000];
    u32 seed;
    driver_start(1 | 1 << 11, 2); /* CSUM, HOST_TSO4 */
    tcp_make(packet + 12, 100);
    seed = sum16(packet + 12 + 26, 8, 6 + 120);
    packet[12 + 50] = (u8)(seed >> 8), packet[12 + 51] = (u8)seed;
    packet[0] = 1, packet[6] = 34, packet[8] = 16;
    put(BUF_AT, packet, 12 + 154);
    desc(TX, 0, BUF_AT, 12 + 154, 0, 0);
    offer(TX, 0);
    kick(TX);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(0xffff, tcp_sum(sent, sent_len));
    tcp_make(packet + 12, 3000);
    packet[1] = 1, packet[2] = 54, packet[4] = 1448 & 0xff, packet[5] = 1448 >> 8;
    put(BUF_AT, packet, sizeof packet);
    desc(TX, 1, BUF_AT, sizeof packet, 0, 0);
    offer(TX, 1);
    kick(TX);
    ck_assert_uint_eq(4, sents); /* 1448, 1448, 104 */
    ck_assert_uint_eq(54 + 104, sent_len);
    ck_assert_mem_eq(packet + 12 + 54 + 2896, sent + 54, 104);
    ck_assert_uint_eq(0xffff, tcp_sum(sent, sent_len));
    ck_assert_uint_eq(0xffff, sum16(sent + 14, 20, 0));
    ck_assert_uint_eq(0x1236, (u32)(sent[18] << 8 | sent[19]));
    ck_assert_uint_eq(0x01030b40, (u32)sent[38] << 24 | (u32)sent[39] << 16 | (u32)sent[40] << 8 | sent[41]);
    packet[6] = 0xff, packet[7] = 0xff; /* a checksum that is nowhere */
    put(BUF_AT, packet, sizeof packet);
    desc(TX, 2, BUF_AT, sizeof packet, 0, 0);
    offer(TX, 2);
    kick(TX);
    ck_assert_uint_eq(4, sents);
    ck_assert_uint_eq(3, used_idx(TX));
}
END_TEST

START_TEST(a_packet_goes_out_whole_where_that_is_taken)
{
    static u8 packet[12 + 54 + 3000];
    driver_start(1 | 1 << 11, 2);
    net.sends_large = true;
    tcp_make(packet + 12, 3000);
    packet[0] = 1, packet[6] = 34, packet[8] = 16;
    packet[1] = 1, packet[2] = 54, packet[4] = 1448 & 0xff, packet[5] = 1448 >> 8;
    put(BUF_AT, packet, sizeof packet);
    desc(TX, 0, BUF_AT, sizeof packet, 0, 0);
    offer(TX, 0);
    kick(TX);
    ck_assert_uint_eq(1, sents);
    ck_assert_uint_eq(54 + 3000, sent_len);
    ck_assert_mem_eq(packet + 12 + 54, sent + 54, 3000);
    ck_assert_uint_eq(54 - 14 + 3000, (u32)(sent[16] << 8 | sent[17]));
    ck_assert_uint_eq(0xffff, tcp_sum(sent, sent_len));
    ck_assert_uint_eq(0xffff, sum16(sent + 14, 20, 0));
}
END_TEST

START_TEST(frames_put_together_come_in_as_one_packet_that_says_so)
{
    enum { LEN = 54 + 3000, GUEST_CSUM = 1 << 1, GUEST_TSO4 = 1 << 7 };
    static u8 packet[LEN], got[12 + LEN];
    driver_start(MRG_RXBUF | GUEST_CSUM, 2);
    ck_assert(!net.large->takes(net.fe));
    driver_start(GUEST_CSUM | GUEST_TSO4, 2);
    ck_assert(!net.large->takes(net.fe));
    driver_start(MRG_RXBUF | GUEST_CSUM | GUEST_TSO4, 2);
    ck_assert(net.large->takes(net.fe));
    tcp_make(packet, 3000);
    packet[16] = packet[17] = packet[24] = 0x5a; /* lengths and sums of one of the frames */
    offer_buffer(0, 2048);
    ck_assert(!net.large->receive(net.fe, packet, LEN, 1448)); /* it needs two */
    ck_assert_uint_eq(0, used_idx(RX));
    offer_buffer(1, 2048);
    ck_assert(net.large->receive(net.fe, packet, LEN, 1448));
    ck_assert_uint_eq(2, used_idx(RX));
    get(BUF_AT, got, 2048);
    get(BUF_AT + 0x1000, got + 2048, sizeof got - 2048);
    static const u8 head[12] = { 1, 1, 54, 0, 1448 & 0xff, 1448 >> 8, 34, 0, 16, 0, 2, 0 };
    ck_assert_mem_eq(head, got, sizeof head);
    ck_assert_mem_eq(packet + 54, got + 12 + 54, 3000);
    ck_assert_uint_eq(LEN - 14, (u32)(got[28] << 8 | got[29]));
    ck_assert_uint_eq(0xffff, sum16(got + 26, 20, 0));
    const u32 seed = sum16(got + 12 + 26, 8, 6 + 3020);
    ck_assert_uint_eq(seed, (u32)(got[62] << 8 | got[63]));
}
END_TEST

START_TEST(a_driver_that_asks_hears_which_checksums_are_right)
{
    u8 got;
    driver_start(MRG_RXBUF | 2, 2); /* GUEST_CSUM */
    for (u16 i = 0; i < 3; i++) offer_buffer(i, 512);
    tcp_make(frame, 100);
    u32 ip = 0xffff & ~sum16(frame + 14, 20, 0), l4 = 0xffff & ~tcp_sum(frame, 154);
    frame[24] = (u8)(ip >> 8), frame[25] = (u8)ip, frame[50] = (u8)(l4 >> 8), frame[51] = (u8)l4;
    ck_assert(receive(154));
    get(BUF_AT, &got, 1);
    ck_assert_uint_eq(2, got);
    frame[100] ^= 1;
    ck_assert(receive(154));
    get(BUF_AT + 0x1000, &got, 1);
    ck_assert_uint_eq(0, got);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("virtio-net");
    TCase *t = tcase_create("virtio-net");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, its_address_and_link_are_in_the_configuration);
    tcase_add_test(t, what_the_driver_sends_goes_out_without_its_header);
    tcase_add_test(t, frames_too_long_or_too_short_are_dropped_and_given_back);
    tcase_add_test(t, a_frame_comes_in_behind_a_header_that_counts_its_buffers);
    tcase_add_test(t, a_frame_without_room_waits_until_the_driver_offers_more);
    tcase_add_test(t, who_is_not_ready_gets_nothing_and_stops_nobody);
    tcase_add_test(t, a_driver_that_lies_about_its_buffers_breaks_the_card);
    tcase_add_test(t, checksums_and_segments_that_the_driver_leaves_out_are_made);
    tcase_add_test(t, a_packet_goes_out_whole_where_that_is_taken);
    tcase_add_test(t, frames_put_together_come_in_as_one_packet_that_says_so);
    tcase_add_test(t, a_driver_that_asks_hears_which_checksums_are_right);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
