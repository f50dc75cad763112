/* A driver of a UHCI controller: its registers, and a schedule of transfer descriptors in memory. Time is the
 * test's. */
#ifndef TESTS_UNIT_USB_DRIVER_H
#define TESTS_UNIT_USB_DRIVER_H
#include "core/clock.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <string.h>

#define RAM (16u << 20)
#define IO_BASE 0xc000u
#define FRAMES_AT 0x100000u /* the list of frames: all of them lead to the queue */
#define QUEUE_AT 0x101000u
#define TD_AT(n) (0x102000u + (n)*32u)
#define DATA_AT 0x110000u
#define MS 1000000ull
enum { IN = 0x69, OUT = 0xe1, SETUP = 0x2d };
enum { R_CMD = 0, R_STS = 2, R_INTR = 4, R_FRNUM = 6, R_BASE = 8, R_PORT = 16 };
enum { END = 1, QUEUE = 2, DEPTH = 4 };
#define ACTIVE 0x00800000u
#define STALLED 0x00400000u
#define TIMEOUT 0x00040000u
#define NAKED 0x00080000u
#define IOC 0x01000000u
#define SPD 0x20000000u
enum { NAK = -1, STALL = -2 };

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static struct uhci *uhci;
static bool intx;
static u64 now;
static u16 io;

static void on_pirq(void *opaque UNUSED, unsigned n UNUSED, bool level) { intx = level; }

static u32 cfg(u8 off)
{
    bus_out(bus, 0xcf8, 4, 0x80000a00u | (off & 0xfcu)); /* 00:01.2 */
    return bus_in(bus, 0xcfc, 4);
}

static void board_new(void)
{
    const struct irq_line none[16] = { 0 };
    struct irq_line pirq[4];
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct irq_line){ on_pirq, NULL, i };
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, clock_new(&clk));
    ck_assert_int_eq(0, pci_new(&pci, bus, none, pirq, (struct dev_event){ 0 }));
    now = 100 * MS;
    clock_set_manual(clk, now);
    intx = false;
    ck_assert_int_eq(0, uhci_new(&uhci, bus, clk, pci));
    pci_firmware_setup(pci, 0xe0000000u, IO_BASE);
    (void)cfg(4);
    bus_out(bus, 0xcfc, 4, 7);
    io = (u16)(cfg(0x20) & ~3u);
}

static void board_free(void)
{
    uhci_free(uhci);
    pci_free(pci);
    clock_free(clk);
    bus_free(bus);
}

static u32 rd(u32 off) { return bus_in(bus, (u16)(io + off), 2); }
static void wr(u32 off, u32 v) { bus_out(bus, (u16)(io + off), 2, v); }
static void put32(u32 at, u32 v) { ck_assert_uint_eq(4, bus_dma_write(bus, at, &v, 4)); }
static u32 get32(u32 at)
{
    u32 v;
    ck_assert_uint_eq(4, bus_dma_read(bus, at, &v, 4));
    return v;
}

static void advance(u64 ns)
{
    now += ns;
    clock_set_manual(clk, now);
    clock_run_due(clk);
}

static void td_put(unsigned n, u32 link, u32 control, u8 pid, u8 address, u8 endpoint, u32 len, u32 buffer)
{
    put32(TD_AT(n), link);
    put32(TD_AT(n) + 4, control);
    put32(TD_AT(n) + 8, (u32)pid | (u32)address << 8 | (u32)endpoint << 15 | ((len - 1) & 0x7ff) << 21);
    put32(TD_AT(n) + 12, buffer);
}
static u32 td_control(unsigned n) { return get32(TD_AT(n) + 4); }

/* Runs with an empty queue. */
static void driver_start(void)
{
    for (u32 i = 0; i < 1024; i++) put32(FRAMES_AT + 4 * i, QUEUE_AT | QUEUE);
    put32(QUEUE_AT, END);
    put32(QUEUE_AT + 4, END);
    bus_out(bus, (u16)(io + R_BASE), 4, FRAMES_AT);
    wr(R_INTR, 15);
    wr(R_CMD, 0x81);
}

static UNUSED void port_enable(unsigned i)
{
    wr(R_PORT + 2 * i, 0x200);
    wr(R_PORT + 2 * i, 0);
    wr(R_PORT + 2 * i, 0x4 | 0x2);
}

/* One packet, once: its bytes, NAK or STALL. */
static int packet(u8 pid, u8 address, u8 endpoint, void *data, u32 len)
{
    if (pid != IN && len) ck_assert_uint_eq(len, bus_dma_write(bus, DATA_AT, data, len));
    td_put(0, END, ACTIVE | 3u << 27, pid, address, endpoint, len, DATA_AT);
    put32(QUEUE_AT + 4, TD_AT(0));
    (void)rd(R_CMD);
    wr(R_STS, 0x1f);
    advance(MS);
    u32 c = td_control(0);
    put32(QUEUE_AT + 4, END);
    if (c & STALLED) return STALL;
    if (c & ACTIVE) {
        ck_assert_uint_ne(0, c & NAKED);
        return NAK;
    }
    u32 n = (c + 1) & 0x7ff;
    if (pid == IN && n) ck_assert_uint_eq(n, bus_dma_read(bus, DATA_AT, data, n));
    return (int)n;
}

/* A control transfer with packets of 8 bytes: the bytes of its data, or STALL. */
static UNUSED int control(u8 address, u8 type, u8 request, u16 value, u16 index, void *data, u16 len)
{
    u8 setup[8] = { type, request, (u8)value, (u8)(value >> 8), (u8)index, (u8)(index >> 8), (u8)len, (u8)(len >> 8) };
    u32 at = 0;
    ck_assert_int_eq(8, packet(SETUP, address, 0, setup, 8));
    for (u32 part = 8; at < len && part == 8; at += part) {
        u8 pid = type & 0x80 ? IN : OUT;
        u32 want = len - at < 8 ? len - at : 8;
        int n = packet(pid, address, 0, (u8 *)data + at, want);
        if (n < 0) return n;
        part = (u32)n;
    }
    int n = packet(type & 0x80 && len ? OUT : IN, address, 0, setup, 0);
    return n < 0 ? n : (int)at;
}

/* By the book, 9.1. */
static UNUSED void enumerate(unsigned port, u8 address)
{
    port_enable(port);
    ck_assert_int_eq(0, control(0, 0x00, 5, address, 0, NULL, 0));
    ck_assert_int_eq(0, control(address, 0x00, 9, 1, 0, NULL, 0));
}

#endif
