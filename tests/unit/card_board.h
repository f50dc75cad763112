/* A board with a place for one card on PCI, whose driver the test plays. One program, one translation unit. */
#ifndef TESTS_UNIT_CARD_BOARD_H
#define TESTS_UNIT_CARD_BOARD_H
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

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static u64 now_ns;
static bool intx;
static unsigned rises; /* of any interrupt line */

static void on_pirq(void *opaque UNUSED, unsigned n UNUSED, bool level)
{
    rises += level && !intx;
    intx = level;
}
static void machine_new(void)
{
    static const struct irq_line none[16];
    struct irq_line pirq[4];
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct irq_line){ on_pirq, NULL, i };
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, clock_new(&clk));
    clock_set_manual(clk, now_ns = 5000000);
    ck_assert_int_eq(0, pci_new(&pci, bus, none, pirq, (struct dev_event){ 0 }));
    intx = false;
    rises = 0;
}
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
/* Timers fire at their time. */
static UNUSED void advance(u64 ns)
{
    u64 to = now_ns + ns;
    while (clock_next_deadline(clk) <= to) {
        u64 at = clock_next_deadline(clk);
        clock_set_manual(clk, now_ns = at > now_ns ? at : now_ns);
        clock_run_due(clk);
    }
    clock_set_manual(clk, now_ns = to);
}
static UNUSED void put(paddr at, const void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_write(bus, at, p, n)); }
static UNUSED void put32(paddr at, u32 v) { put(at, &v, 4); }

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
