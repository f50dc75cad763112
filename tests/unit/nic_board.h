/* A board with one network card on PCI, whose driver and whose network the test plays. */
#ifndef TESTS_UNIT_NIC_BOARD_H
#define TESTS_UNIT_NIC_BOARD_H
#include "core/clock.h"
#include "core/netdev.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <string.h>
#include <zlib.h>

#define SLOT 4u
#define IO_BASE 0xc000u
#define MEM_BASE 0xe0000000u
#define RAM (16u << 20)
static const u8 mac[6] = { 0x52, 0x54, 0x00, 0x01, 0x02, 0x03 };

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static struct netdev net;
static u64 now_ns;
static bool intx;
static unsigned rises, sents, readies;
static u8 sent[8][NETDEV_FRAME_MAX], frame[NETDEV_FRAME_MAX];
static size_t sent_len[8];

static void on_pirq(void *opaque UNUSED, unsigned n UNUSED, bool level)
{
    rises += level && !intx;
    intx = level;
}
static void on_send(void *be UNUSED, const u8 *data, size_t n)
{
    ck_assert_uint_le(n, NETDEV_FRAME_MAX);
    ck_assert_uint_ge(n, NETDEV_FRAME_MIN);
    memcpy(sent[sents % 8], data, n);
    sent_len[sents++ % 8] = n;
}
static void on_ready(void *be UNUSED) { readies++; }

static UNUSED u32 cfg_read(u8 off)
{
    bus_out(bus, 0xcf8, 4, 0x80000000u | SLOT << 11 | (off & 0xfcu));
    return bus_in(bus, 0xcfc, 4);
}
static UNUSED void cfg_write(u8 off, u32 v)
{
    bus_out(bus, 0xcf8, 4, 0x80000000u | SLOT << 11 | (off & 0xfcu));
    bus_out(bus, 0xcfc, 4, v);
}
static const struct irq_line isa_lines[16]; /* nobody listens */

static struct nic_desc board_new(void)
{
    static const struct netdev_ops ops = { on_send, on_ready };
    struct irq_line pirq[4];
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct irq_line){ on_pirq, NULL, i };
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, clock_new(&clk));
    clock_set_manual(clk, now_ns = 1000000);
    ck_assert_int_eq(0, pci_new(&pci, bus, isa_lines, pirq, (struct dev_event){ 0 }));
    net = (struct netdev){ .ops = &ops };
    intx = false;
    rises = sents = readies = 0;
    for (unsigned i = 0; i < sizeof frame; i++) frame[i] = (u8)(i * 7 + i / 256);
    memcpy(frame, mac, sizeof mac);
    struct nic_desc d = { .slot = SLOT, .net = &net, .name = "card", .port = 0x300, .irq = 3 };
    memcpy(d.mac, mac, sizeof mac);
    return d;
}
/* After the card has been made. */
static UNUSED void board_start(void)
{
    pci_firmware_setup(pci, MEM_BASE, IO_BASE);
    cfg_write(4, 7); /* I/O, memory, bus master */
}
static void board_free(void)
{
    pci_free(pci);
    clock_free(clk);
    bus_free(bus);
}
static UNUSED void advance(u64 ns)
{
    clock_set_manual(clk, now_ns += ns);
    clock_run_due(clk);
}

static UNUSED void put(paddr at, const void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_write(bus, at, p, n)); }
static UNUSED void get(paddr at, void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_read(bus, at, p, n)); }
static UNUSED void put32(paddr at, u32 v) { put(at, &v, 4); }
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

/* Saves the chip of `from` into `to`, another of its kind, and is sure that saving that gives the same. */
static UNUSED void hand_over(struct snap_part from, struct snap_part to)
{
    struct snap_buf a = { 0 }, b = { 0 };
    char why[128] = "";
    snap_save(&from, &a);
    snap_unmap(&to);
    ck_assert_msg(!snap_load(&to, a.data, a.len, why, sizeof why), "%s", why);
    snap_save(&to, &b);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    snap_buf_free(&a);
    snap_buf_free(&b);
}

#endif
