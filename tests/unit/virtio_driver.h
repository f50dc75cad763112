/* A driver of virtio devices, good or bad as the test wants it: registers of 1.x and of before, and a split ring whose
 * every field can be set. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H
#include "core/clock.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <string.h>

#define SLOT 4u
#define IO_BASE 0xc000u
#define MEM_BASE 0xe0000000u
#define RAM (16u << 20)
#define QUEUE_SIZE 16u
#define RING_AT(q) (0x100000u + (q)*0x10000u)
#define DESC_AT(q) RING_AT(q)
#define AVAIL_AT(q) (RING_AT(q) + 0x1000u)
#define USED_AT(q) (RING_AT(q) + 0x2000u)
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };
enum { S_ACK = 1, S_DRIVER = 2, S_DRIVER_OK = 4, S_FEATURES_OK = 8, S_NEEDS_RESET = 0x40 };
#define VERSION_1 (1ull << 32)
#define EVENT_IDX (1ull << 29)
#define INDIRECT (1ull << 28)

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static bool intx;
static unsigned rises;
static u32 mem_bar, msix_bar;
static u16 io_bar;

static void on_pirq(void *opaque UNUSED, unsigned n UNUSED, bool level)
{
    rises += level && !intx;
    intx = level;
}

static u32 cfg_read(u8 off)
{
    bus_out(bus, 0xcf8, 4, 0x80000000u | SLOT << 11 | (off & 0xfcu));
    return bus_in(bus, 0xcfc, 4);
}
static void cfg_write(u8 off, u32 v)
{
    bus_out(bus, 0xcf8, 4, 0x80000000u | SLOT << 11 | (off & 0xfcu));
    bus_out(bus, 0xcfc, 4, v);
}

static void board_new(void)
{
    const struct irq_line none[16] = { 0 };
    struct irq_line pirq[4];
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct irq_line){ on_pirq, NULL, i };
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, clock_new(&clk));
    ck_assert_int_eq(0, pci_new(&pci, bus, none, pirq, (struct dev_event){ 0 }));
    intx = false;
    rises = 0;
}
/* After the device has been made. */
static void board_start(void)
{
    pci_firmware_setup(pci, MEM_BASE, IO_BASE);
    cfg_write(4, 7); /* I/O, memory, bus master */
    io_bar = (u16)(cfg_read(0x10) & ~3u);
    msix_bar = cfg_read(0x14);
    mem_bar = cfg_read(0x20);
}
static void board_free(void)
{
    pci_free(pci);
    clock_free(clk);
    bus_free(bus);
}

static u32 rd(u32 off, unsigned size) { return bus_mmio_read(bus, mem_bar + off, size); }
static void wr(u32 off, unsigned size, u32 v) { bus_mmio_write(bus, mem_bar + off, size, v); }
static u8 status(void) { return (u8)rd(20, 1); }
static UNUSED u8 isr(void) { return (u8)rd(0x1000, 1); }
static void kick(unsigned q) { wr(0x3000 + 4 * q, 2, q); }

static void put(paddr at, const void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_write(bus, at, p, n)); }
static void get(paddr at, void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_read(bus, at, p, n)); }
static void put16(paddr at, u16 v) { put(at, &v, 2); }
static u16 get16(paddr at)
{
    u16 v;
    get(at, &v, 2);
    return v;
}

static void desc_at(paddr table, unsigned i, u64 addr, u32 len, u16 flags, u16 next)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d = { addr, len, flags, next };
    put(table + 16u * i, &d, 16);
}
static void desc(unsigned q, unsigned i, u64 addr, u32 len, u16 flags, u16 next)
{
    desc_at(DESC_AT(q), i, addr, len, flags, next);
}
static u16 used_idx(unsigned q) { return get16(USED_AT(q) + 2); }
static void used(unsigned q, unsigned i, u32 *id, u32 *len)
{
    u32 e[2];
    get(USED_AT(q) + 4 + 8 * (i % QUEUE_SIZE), e, 8);
    *id = e[0];
    *len = e[1];
}
static u16 avail_idx[4];
static void offer(unsigned q, u16 head)
{
    put16(AVAIL_AT(q) + 4 + 2 * (avail_idx[q] % QUEUE_SIZE), head);
    put16(AVAIL_AT(q) + 2, ++avail_idx[q]);
}

static void queue_enable(unsigned q, u64 d, u64 a, u64 u)
{
    wr(22, 2, q);
    wr(24, 2, QUEUE_SIZE);
    const u64 at[3] = { d, a, u };
    for (unsigned i = 0; i < 3; i++) {
        wr(32 + 8 * i, 4, (u32)at[i]);
        wr(36 + 8 * i, 4, (u32)(at[i] >> 32));
    }
    wr(28, 2, 1);
}
static void features(u64 f)
{
    for (unsigned i = 0; i < 2; i++) {
        wr(8, 4, i);
        wr(12, 4, (u32)(f >> 32 * i));
    }
}
/* By the book, 3.1.1. */
static void driver_start(u64 f, unsigned queues)
{
    static const u8 zero[0x3000];
    wr(20, 1, 0);
    ck_assert_uint_eq(0, status());
    wr(20, 1, S_ACK | S_DRIVER);
    features(f | VERSION_1);
    wr(20, 1, S_ACK | S_DRIVER | S_FEATURES_OK);
    ck_assert_uint_eq(S_ACK | S_DRIVER | S_FEATURES_OK, status());
    for (unsigned q = 0; q < queues; q++) {
        put(RING_AT(q), zero, sizeof zero);
        avail_idx[q] = 0;
        queue_enable(q, DESC_AT(q), AVAIL_AT(q), USED_AT(q));
    }
    wr(20, 1, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

#endif
