/* A board with one sound card, whose driver the test plays, and ears. */
#ifndef TESTS_UNIT_SOUND_BOARD_H
#define TESTS_UNIT_SOUND_BOARD_H
#include "core/audiodev.h"
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
#define HEARD_MAX (1u << 18)
#define MS 1000000ull
#define SECOND 1000000000ull

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static u64 now_ns;
static bool intx, irq[16];
static unsigned rises; /* of any of them */

/* What one voice has played, of which each part followed the one before. */
static struct ear {
    s16 frame[HEARD_MAX][2];
    u32 n, rate, gaps;
    u64 from_ns, end_ns;
} ears[AUDIO_VOICES];

static void on_put(void *be UNUSED, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n)
{
    struct ear *e = &ears[voice];
    ck_assert_uint_lt(voice, AUDIO_VOICES);
    ck_assert(rate >= AUDIO_RATE_MIN && rate <= AUDIO_RATE_MAX && n);
    if (!e->n) e->from_ns = at_ns;
    else e->gaps += at_ns + 100000 < e->end_ns || at_ns > e->end_ns + 100000;
    ck_assert_uint_le(e->n + n, HEARD_MAX);
    memcpy(e->frame[e->n], frames, n * 4);
    e->n += n;
    e->rate = rate;
    e->end_ns = at_ns + n * SECOND / rate;
}
static const struct audiodev_ops ear_ops = { on_put };
static const struct audiodev ear_dev = { &ear_ops, NULL };
static UNUSED void forget(void) { memset(ears, 0, sizeof ears); }

/* Cycles a second of a voice's left or right channel, by its rising zero crossings, from the first of them to the last;
 * 0: there are fewer than three. */
static UNUSED double pitch(const struct ear *e, unsigned channel)
{
    u32 first = 0, last = 0, crossings = 0;
    for (u32 i = 1; i < e->n; i++)
        if (e->frame[i - 1][channel] < 0 && e->frame[i][channel] >= 0) {
            if (!crossings++) first = i;
            last = i;
        }
    return crossings < 3 ? 0 : (double)(crossings - 1) * e->rate / (last - first);
}
static UNUSED s16 peak(const struct ear *e, unsigned channel)
{
    int most = 0;
    for (u32 i = 0; i < e->n; i++) {
        int v = e->frame[i][channel] < 0 ? -e->frame[i][channel] : e->frame[i][channel];
        if (v > most) most = v;
    }
    return (s16)(most > 32767 ? 32767 : most);
}

static void on_isa(void *opaque UNUSED, unsigned n, bool level)
{
    rises += level && !irq[n];
    irq[n] = level;
}
static void on_pirq(void *opaque UNUSED, unsigned n UNUSED, bool level)
{
    rises += level && !intx;
    intx = level;
}
static struct irq_line isa_lines[16];

static void board_new(void)
{
    struct irq_line pirq[4];
    for (unsigned i = 0; i < 4; i++) pirq[i] = (struct irq_line){ on_pirq, NULL, i };
    for (unsigned i = 0; i < 16; i++) isa_lines[i] = (struct irq_line){ on_isa, NULL, i };
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, clock_new(&clk));
    clock_set_manual(clk, now_ns = 5 * MS);
    static const struct irq_line none[16];
    ck_assert_int_eq(0, pci_new(&pci, bus, none, pirq, (struct dev_event){ 0 }));
    intx = false;
    memset(irq, 0, sizeof irq);
    rises = 0;
    forget();
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
/* After a card on PCI has been made. */
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
static UNUSED u32 rd(u16 port, unsigned n) { return bus_in(bus, port, n); }
static UNUSED void wr(u16 port, unsigned n, u32 v) { bus_out(bus, port, n, v); }
static UNUSED void put(paddr at, const void *p, u64 n) { ck_assert_uint_eq(n, bus_dma_write(bus, at, p, n)); }
static UNUSED void put32(paddr at, u32 v) { put(at, &v, 4); }

/* A square wave of so many frames a cycle, at `at`: 16 bits, left at +-8000, right at half of that. */
static UNUSED void put_square(paddr at, u32 frames, u32 cycle)
{
    for (u32 i = 0; i < frames; i++) {
        s16 v = i % cycle < cycle / 2 ? 8000 : -8000, f[2] = { v, (s16)(v / 2) };
        put(at + 4 * i, f, 4);
    }
}

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
