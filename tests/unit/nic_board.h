/* A board with one network card on PCI, whose driver and whose network the test plays. */
#ifndef TESTS_UNIT_NIC_BOARD_H
#define TESTS_UNIT_NIC_BOARD_H
#include "core/netdev.h"
#include "tests/unit/card_board.h"

#include <zlib.h>

static const u8 mac[6] = { 0x52, 0x54, 0x00, 0x01, 0x02, 0x03 };

static struct netdev net;
static unsigned sents, readies;
static u8 sent[8][NETDEV_FRAME_MAX], frame[NETDEV_FRAME_MAX];
static size_t sent_len[8];

static void on_send(void *be UNUSED, const u8 *data, size_t n)
{
    ck_assert_uint_le(n, NETDEV_FRAME_MAX);
    ck_assert_uint_ge(n, NETDEV_FRAME_MIN);
    memcpy(sent[sents % 8], data, n);
    sent_len[sents++ % 8] = n;
}
static void on_ready(void *be UNUSED) { readies++; }

static const struct irq_line isa_lines[16]; /* nobody listens */

static struct nic_desc board_new(void)
{
    static const struct netdev_ops ops = { on_send, on_ready };
    machine_new();
    net = (struct netdev){ .ops = &ops };
    sents = readies = 0;
    for (unsigned i = 0; i < sizeof frame; i++) frame[i] = (u8)(i * 7 + i / 256);
    memcpy(frame, mac, sizeof mac);
    struct nic_desc d = { .slot = SLOT, .net = &net, .name = "card", .port = 0x300, .irq = 3 };
    memcpy(d.mac, mac, sizeof mac);
    return d;
}
static UNUSED void get(paddr at, void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_read(bus, at, p, n)); }
static UNUSED u32 get32(paddr at)
{
    u32 v;
    get(at, &v, 4);
    return v;
}
static UNUSED u16 get16(paddr at)
{
    u16 v;
    get(at, &v, 2);
    return v;
}
/* What is at `at` is the test's frame of n bytes, and its checksum. */
static UNUSED void has_frame(paddr at, size_t n)
{
    u8 got[NETDEV_FRAME_MAX];
    get(at, got, n);
    ck_assert_mem_eq(frame, got, n);
    ck_assert_uint_eq((u32)crc32(0, frame, (uInt)n), get32(at + n));
}
static UNUSED bool receive(size_t n) { return net.receive(net.fe, frame, n); }

#endif
