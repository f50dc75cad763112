/* Drivers that lie: the floppy controller's registers and commands hold whatever comes, by DMA and without, with disks
 * of all formats and drives that are empty. Nothing may crash, stop for ever, or leave the guest's memory or a disk;
 * and whenever the disks rest, the controller can be saved, and what is loaded from that is the same.
 *
 *   fuzz_fdc [--seed N] [--count N]
 *   libfuzzer_fdc (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/clock.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/disk.h"
#include "tests/fuzz/drivers.h"

enum { DOR = 0x3f2, MSR = 0x3f4, DATA = 0x3f5, RATE = 0x3f7 };
enum { MSR_READY = 0x80, MSR_TO_HOST = 0x40 };

/* KiB of the two drives' disks. 0: empty. */
static const u16 kinds[][FDC_DRIVES] = { { 1440, 0 }, { 360, 720 }, { 1200, 160 }, { 2880, 1722 }, { 0, 320 } };

struct side {
    struct bus *bus;
    struct clock *clk; /* that loading of fields knows; no drive needs it */
    struct dma8237 *dma;
    struct fdc *fdc;
    struct fuzz_disk disk[FDC_DRIVES];
};
struct board {
    struct side a, twin; /* the second is one to load into */
    u8 track;            /* where a head has been sent last */
};

static void side_new(struct side *s, unsigned kind, bool readonly)
{
    static const struct irq_line none;
    struct fdc_disk disk[FDC_DRIVES] = { 0 };
    BUG_ON(bus_new(&s->bus, RAM) || clock_new(&s->clk) || dma8237_new(&s->dma, s->bus));
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        disk_init(&s->disk[i], kinds[kind][i] * 2u, readonly);
        disk[i].drive = true;
        if (kinds[kind][i]) disk[i].dev = &s->disk[i].dev;
    }
    BUG_ON(fdc_new(&s->fdc, s->bus, s->dma, none, disk));
}
static void side_free(struct side *s)
{
    fdc_free(s->fdc);
    dma8237_free(s->dma);
    clock_free(s->clk);
    bus_free(s->bus);
}
static void board_new(struct board *b, unsigned kind)
{
    bool readonly = !rnd(8);
    *b = (struct board){ 0 };
    side_new(&b->a, kind, readonly);
    side_new(&b->twin, kind, readonly);
}
static void settle(struct board *b) { disks_settle(b->a.disk, FDC_DRIVES); }
static void board_free(struct board *b)
{
    settle(b);
    side_free(&b->a);
    side_free(&b->twin);
}
static void check_saved(struct board *b)
{
    settle(b);
    check_handed_over(fdc_part(b->a.fdc), fdc_part(b->twin.fdc));
    check_handed_over(dma8237_part(b->a.dma), dma8237_part(b->twin.dma));
}

static void out(struct board *b, u16 port, u32 v) { bus_out(b->a.bus, port, 1, v); }
static u8 in(struct board *b, u16 port) { return (u8)bus_in(b->a.bus, port, 1); }

static void access_any(struct board *b)
{
    static const u16 at[] = { 0x3f0, 0x3f1, 0x3f2, 0x3f3, 0x3f4, 0x3f5, 0x3f7 };
    u16 port = at[rnd(ARRAY_LEN(at))];
    if (rnd(2)) out(b, port, value() & 0xff);
    else (void)in(b, port);
}

/* ---- drivers that begin by the book ---- */

static void dma_set(struct board *b, u32 mode)
{
    u32 at = address(), n = rnd(4) ? 512u << rnd(6) : rnd(0x10000);
    out(b, 0x0a, 6);
    out(b, 0x0c, 0);
    out(b, 0x0b, mode);
    for (unsigned i = 0; i < 2; i++) out(b, 0x04, at >> 8 * i & 0xff);
    out(b, 0x81, at >> 16 & 0xff);
    for (unsigned i = 0; i < 2; i++) out(b, 0x05, (n - 1) >> 8 * i & 0xff);
    if (rnd(8)) out(b, 0x0a, 2);
}
static void command(struct board *b)
{
    static const u8 code[] = { 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0c, 0x0d,
                               0x0e, 0x0f, 0x10, 0x12, 0x13, 0x14, 0x16, 0x18, 0x8f, 0xcf };
    u8 c[9] = { code[rnd(ARRAY_LEN(code))] };
    if (rnd(2)) c[0] = (u8)(rnd(2) ? 0x46 : 0x45); /* what they are for: READ and WRITE */
    if (!rnd(4)) c[0] |= (u8)(rnd(8) << 5);
    bool id = rnd(8);
    for (unsigned i = 1; i < 9; i++) c[i] = (u8)(rnd(4) ? rnd(4) : rnd(256));
    if (id) {
        c[1] = (u8)(rnd(2) << 2 | rnd(2));
        c[2] = b->track;
        c[3] = c[1] >> 2;
        c[4] = (u8)(1 + rnd(9));
        c[5] = 2;
        c[6] = 18;
    }
    if (rnd(8) && (c[0] & 0x1f) == 3) c[2] = (u8)rnd(2); /* SPECIFY: with DMA, or without */
    if (rnd(2)) out(b, DOR, 0x1c | rnd(2) * 0x11);
    if (rnd(2)) dma_set(b, (c[0] & 0x1f) == 0x05 ? 0x4a : 0x46);
    for (unsigned i = 0; i < 9 && (in(b, MSR) & (MSR_READY | MSR_TO_HOST)) == MSR_READY; i++) out(b, DATA, c[i]);
}
/* The head goes where the next commands look for their sectors. */
static void seek(struct board *b)
{
    unsigned drive = rnd(2);
    out(b, DOR, 0x1c | drive * 0x21);
    out(b, RATE, rnd(4));
    for (unsigned i = 0; i < 16 && in(b, MSR) & MSR_TO_HOST; i++) (void)in(b, DATA);
    b->track = (u8)(rnd(4) ? rnd(4) : rnd(90));
    out(b, DATA, 0x0f), out(b, DATA, drive), out(b, DATA, b->track);
    out(b, DATA, 0x08), (void)in(b, DATA), (void)in(b, DATA);
}
/* What waits in the data register, or is asked for, without DMA. */
static void burst(struct board *b)
{
    for (unsigned i = rnd(3) ? 16 : 1100; i--;) {
        u8 status = in(b, MSR);
        if (!(status & MSR_READY)) return;
        if (status & MSR_TO_HOST) (void)in(b, DATA);
        else out(b, DATA, rnd(3));
    }
}
static void medium(struct board *b)
{
    static const u16 size[] = { 160, 180, 320, 360, 720, 800, 1200, 1440, 1680, 1722, 2880 };
    unsigned i = rnd(FDC_DRIVES);
    bool there = rnd(4), readonly = !rnd(4);
    u64 sectors = size[rnd(ARRAY_LEN(size))] * 2u;
    settle(b);
    for (unsigned k = 0; k < 2; k++) {
        struct side *s = k ? &b->twin : &b->a;
        disk_init(&s->disk[i], sectors, readonly);
        fdc_change_medium(s->fdc, i, there ? &s->disk[i].dev : NULL);
    }
}
static void reset(struct board *b)
{
    struct snap_part p = fdc_part(b->a.fdc);
    if (rnd(4)) {
        out(b, DOR, rnd(2) ? 0x08 : value() & 0xff);
        out(b, DOR, 0x1c);
        return;
    }
    settle(b);
    snap_part_reset(&p);
    dma8237_reset(b->a.dma);
}

static void step(struct board *b)
{
    switch (rnd(16)) {
    case 0 ... 3: command(b); break;
    case 4: dma_set(b, rnd(256)); break;
    case 5: seek(b); break;
    case 6 ... 7: burst(b); break;
    case 8 ... 11: (void)disk_finish(&b->a.disk[rnd(FDC_DRIVES)]); break;
    case 12:
        if (!rnd(8)) medium(b);
        break;
    case 13:
        if (!rnd(8)) reset(b);
        break;
    case 14:
        if (!rnd(16)) check_saved(b);
        break;
    default: access_any(b); break;
    }
}

/* ---- their course ---- */

static struct board board;

static void driver_begin(unsigned kind) { board_new(&board, kind); }
static void driver_step(void) { step(&board); }
static void driver_end(void)
{
    check_saved(&board);
    board_free(&board);
}
static unsigned driver_kinds(void) { return ARRAY_LEN(kinds); }
static bool driver_reached(unsigned kind, u64 n)
{
    bool enough = n < 20 || (disk_reads && disk_writes);
    printf("kind %u: %llu drivers, %llu reads, %llu writes\n", kind, (unsigned long long)n,
           (unsigned long long)disk_reads, (unsigned long long)disk_writes);
    disk_reads = disk_writes = 0;
    return enough;
}
static const struct drivers drivers = { .kinds = driver_kinds,
                                        .count = 200,
                                        .steps = 1000,
                                        .begin = driver_begin,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
