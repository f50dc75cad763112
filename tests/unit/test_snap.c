/* core/snap.h on the whole board, with its real chips: what is not in a chip's table never changes, what is in it is
 * saved and loaded, and whatever a file says, no chip misbehaves. The CPU is two wires. */
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "runtime/runtime.h"
#include "src/board/cpu_part.h"
#include "src/board/firmware.h"
#include "src/board/pc.h"
#include "src/back/chardev.h"
#include "core/audiodev.h"
#include "core/rngdev.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define RAM (64ull << 20)
#define MS 1000000ull

struct rt {
    struct bus *bus;
    struct clock *clock;
    u64 now;
    bool intr, nmi;
    const struct intc_ops *intc;
    void *intc_dev;
    struct irq_line ferr;
    bool ignne;
    struct chardev serial, serial_more[3], hvc;
    struct rngdev entropy;
    struct rngdev_req *asked; /* of it, and not answered */
    struct pc *pc;
    struct pci_fn *card;
    struct snap_part part[PC_PARTS_MAX];
    unsigned parts;
    u64 rng;
};

struct bus *rt_bus(struct rt *rt) { return rt->bus; }
struct clock *rt_clock(struct rt *rt) { return rt->clock; }
struct trace *rt_trace(struct rt *rt UNUSED)
{
    static struct trace none;
    return &none;
}
void rt_set_intc(struct rt *rt, const struct intc_ops *ops, void *dev)
{
    rt->intc = ops;
    rt->intc_dev = dev;
}
static void set_intr(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->intr = level; }
static void set_nmi(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->nmi = level; }
struct irq_line rt_intr_line(struct rt *rt) { return (struct irq_line){ set_intr, rt, 0 }; }
struct irq_line rt_nmi_line(struct rt *rt) { return (struct irq_line){ set_nmi, rt, 0 }; }
static void set_ignne(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->ignne = level; }
struct irq_line rt_ignne_line(struct rt *rt) { return (struct irq_line){ set_ignne, rt, 0 }; }
void rt_set_ferr(struct rt *rt, struct irq_line line) { rt->ferr = line; }

static void nothing(void *arg UNUSED, u32 v UNUSED) {}

static void *chip(struct rt *rt, const char *name)
{
    for (unsigned i = 0; i < rt->parts; i++)
        if (!strcmp(rt->part[i].name, name)) return rt->part[i].chip;
    ck_abort_msg("the board has no %s", name);
}

static void unheard(void *be UNUSED, unsigned voice, u64 at_ns UNUSED, u32 rate, const s16 *frames UNUSED, u32 n)
{
    ck_assert(voice < AUDIO_VOICES && rate >= AUDIO_RATE_MIN && rate <= AUDIO_RATE_MAX && n);
}
static const struct audiodev_ops audio_ops = { unheard };
static const struct audiodev audio = { &audio_ops, NULL };

static void ask(void *rt, struct rngdev_req *r) { ((struct rt *)rt)->asked = r; }
static void answer(struct rt *rt)
{
    while (rt->asked) {
        struct rngdev_req *r = rt->asked;
        rt->asked = NULL;
        r->got = r->wanted;
        memset(r->buf, 0x5a, r->got);
        r->done(r);
    }
}

static u8 rom_bytes[65536];

/* A card without state: its header is what is of interest. */
static u32 card_read(void *dev UNUSED, u32 off, unsigned size UNUSED) { return 0xca7d0000 + off; }
static const struct io_ops card_ops = { .read = card_read };
static void card_set_intx(struct rt *rt, bool level)
{
    struct irq_line l = pci_fn_irq(rt->card);
    irq_set(&l, level);
}
static void card_reset(void *rt) { card_set_intx(rt, false); }
static const struct pci_desc card = { .dev = 3,
                                      .vendor = 0x1234,
                                      .device = 0x5678,
                                      .int_pin = 1,
                                      .bar = { { .size = 32, .io = true, .ops = &card_ops },
                                               { .size = 4096, .ops = &card_ops } },
                                      .rom = rom_bytes,
                                      .rom_size = 4096,
                                      .name = "card" };

static struct rt *board(u64 now)
{
    static const struct chardev_ops ops = { 0 };
    struct rt *rt = calloc(1, sizeof *rt);
    struct vm_error err = { "" };
    struct pci_desc d = card;
    d.opaque = rt;
    d.reset = card_reset;
    ck_assert_ptr_nonnull(rt);
    rt->rng = 88172645463325252ull;
    rt->now = now;
    rt->serial.ops = rt->hvc.ops = &ops;
    rt->entropy = (struct rngdev){ ask, rt };
    for (unsigned i = 0; i < ARRAY_LEN(rt->serial_more); i++) rt->serial_more[i].ops = &ops;
    ck_assert_int_eq(0, bus_new(&rt->bus, RAM));
    ck_assert_int_eq(0, clock_new(&rt->clock));
    clock_set_manual(rt->clock, now);
    clock_set_wall(rt->clock, 1700000000ull * 1000 * MS + now);
    const struct firmware rom = { .data = rom_bytes, .len = sizeof rom_bytes };
    struct pc_config cfg = { .serial = { &rt->serial, &rt->serial_more[0], &rt->serial_more[1] },
                             .parallel = &rt->serial_more[2],
                             .sounds = (1u << SOUND_KINDS) - 1,
                             .audio = &audio,
                             .paravirt = { PARAVIRT_RNG | PARAVIRT_BALLOON | PARAVIRT_CONSOLE, &rt->entropy, &rt->hvc },
                             .hpet = true,
                             .vga = true,
                             .vga_rom = &rom,
                             .poweroff = { nothing, NULL },
                             .reset = { nothing, NULL },
                             .debug = { nothing, NULL } };
    ck_assert_msg(!pc_new(&rt->pc, rt, &cfg, &err), "%s", err.text);
    rt->parts = pc_parts(rt->pc, rt->part, PC_PARTS_MAX);
    ck_assert_int_eq(0, pci_add(chip(rt, "pci"), &rt->card, &d));
    rt->parts = pc_parts(rt->pc, rt->part, PC_PARTS_MAX);
    ck_assert_int_eq(0, pc_reset(rt->pc));
    return rt;
}

static void board_free(struct rt *rt)
{
    pc_free(rt->pc);
    clock_free(rt->clock);
    bus_free(rt->bus);
    free(rt);
}

static u32 rnd(struct rt *rt)
{
    rt->rng ^= rt->rng << 13;
    rt->rng ^= rt->rng >> 7;
    rt->rng ^= rt->rng << 17;
    return (u32)(rt->rng >> 32);
}

/* ---- a guest that does everything to its chips, at random ---- */

static void advance(struct rt *rt, u64 ns)
{
    rt->now += ns;
    clock_set_manual(rt->clock, rt->now);
    clock_run_due(rt->clock);
}

static const u16 ports[] = { 0x00,  0x08,  0x0b,  0x0c,  0xd0,  0xd4,  0xd6,  0xd8,  0x0f,  0x20,  0x21, 0xa0,
                             0xa1,  0x4d0, 0x4d1, 0x40,  0x43,  0x61,  0x70,  0x71,  0x60,  0x64,  0x92, 0x3f8,
                             0x3ff, 0x80,  0x81,  0x8f,  0xc0,  0xdf,  0x600, 0x60b, 0x620, 0x623, 0xb2, 0xb3,
                             0xcf8, 0xcfc, 0xcff, 0xcf9, 0x2f8, 0x2ff, 0x3e8, 0x3ef, 0x378 };

/* A kernel's way with the 8259As, and the clock's periodic interrupt. */
static void start_interrupts(struct rt *rt)
{
    static const struct {
        u16 port;
        u8 val;
    } script[] = { { 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 4 },    { 0x21, 1 },  { 0x21, 0 },   { 0xa0, 0x11 },
                   { 0xa1, 0x28 }, { 0xa1, 2 },    { 0xa1, 1 },    { 0xa1, 0 },  { 0x70, 0xa }, { 0x71, 0x26 },
                   { 0x70, 0xb },  { 0x71, 0xc2 }, { 0x71, 0x52 }, { 0x70, 0xc } };
    for (unsigned i = 0; i < ARRAY_LEN(script); i++) bus_out(rt->bus, script[i].port, 1, script[i].val);
    rt->intc->set_apic_base(rt->intc_dev, 0xfee00800u);
    bus_in(rt->bus, 0x71, 1);
    advance(rt, 2 * MS);
    while (rt->intr && rnd(rt) % 8) rt->intc->acknowledge(rt->intc_dev);
}

/* The clock's interrupt once more, level-triggered and by way of the APICs. */
static void start_apic(struct rt *rt)
{
    rt->intc->set_apic_base(rt->intc_dev, 0xfee00800u);
    bus_mmio_write(rt->bus, 0xfee000f0u, 4, 0x1ff);
    bus_mmio_write(rt->bus, 0xfec00000u, 4, 0x10 + 2 * 8 + 1);
    bus_mmio_write(rt->bus, 0xfec00010u, 4, 0xff000000u);
    bus_mmio_write(rt->bus, 0xfec00000u, 4, 0x10 + 2 * 8);
    bus_mmio_write(rt->bus, 0xfec00010u, 4, 0x8000u | 0x30 | rnd(rt) % 0xc0);
    start_interrupts(rt);
}

enum { AREA = 0x3000000, DATA = AREA + 0xa000, AREA_SIZE = 0xb000 }; /* far from where other chips look */
/* A driver of one of the small virtio devices. All memory that these look at is set first, as it is no chip's. */
static u32 use_virtio(struct rt *rt)
{
    static const u8 zero[AREA_SIZE];
    /* Where no other function's BAR fits, as the I/O APIC is too near. */
    const u32 which = rnd(rt) % 3, queues = which == 2 ? 3 : 2; /* numbers, a console, a balloon */
    const u32 mem = 0xfe100000u + (which << 16), msix = mem + 0x8000, io = 0xd800 + which * 0x100;
    const u32 config[][2] = { { 0x10, io }, { 0x14, msix }, { 0x20, mem }, { 4, 7 } };
    u32 sum = 0;
    (void)bus_dma_write(rt->bus, AREA, zero, sizeof zero);
    for (unsigned i = 0; i < ARRAY_LEN(config); i++) {
        bus_out(rt->bus, 0xcf8, 4, 0x80000000u | (28 + which) << 11 | config[i][0]);
        bus_out(rt->bus, 0xcfc, 4, config[i][1]);
    }
    bus_out(rt->bus, 0xcf8, 4, 0x80000000u | (28 + which) << 11 | 0x98);
    bus_out(rt->bus, 0xcff, 1, rnd(rt) & 0xc0);
    bus_mmio_write(rt->bus, msix + rnd(rt) % 16 * 4, 4, rnd(rt) % 2 ? rnd(rt) : rnd(rt) & 1);
    if (rnd(rt) % 4) {
        bus_mmio_write(rt->bus, mem + 20, 1, 0);
        for (u32 i = 0; i < 2; i++) {
            bus_mmio_write(rt->bus, mem + 8, 4, i);
            bus_mmio_write(rt->bus, mem + 12, 4, i ? 1 : rnd(rt) & (which == 2 ? 0x30000002 : 0x30000000));
        }
        bus_mmio_write(rt->bus, mem + 20, 1, 0xb);
    }
    for (u32 q = 0; q < queues; q++) {
        const u32 at = AREA + q * 0x3000 + rnd(rt) % 16 * 16, place[] = { at, 0, at + 0x1000, 0, at + 0x2000, 0 };
        bus_mmio_write(rt->bus, mem + 22, 2, q);
        bus_mmio_write(rt->bus, mem + 24, 2, 8u << rnd(rt) % 5);
        bus_mmio_write(rt->bus, mem + 26, 2, rnd(rt) % 4);
        for (u32 i = 0; i < ARRAY_LEN(place); i++) bus_mmio_write(rt->bus, mem + 32 + 4 * i, 4, place[i]);
        bus_mmio_write(rt->bus, mem + 28, 2, 1);
        for (u32 i = 0; i < 4; i++) {
            const u32 desc[4] = { DATA + i * 0x100, 0, 1 + rnd(rt) % 64, rnd(rt) % 2 * 2 };
            (void)bus_dma_write(rt->bus, at + 16 * i, desc, sizeof desc);
        }
        const u16 avail[8] = { 0, (u16)(rnd(rt) % 5), 0, 1, 2, 3 };
        (void)bus_dma_write(rt->bus, at + 0x1000, avail, sizeof avail);
    }
    bus_mmio_write(rt->bus, mem + 20, 1, 0xf);
    const u32 statistic[3] = { rnd(rt) % 12 | rnd(rt) << 16, rnd(rt), rnd(rt) };
    (void)bus_dma_write(rt->bus, DATA, statistic, sizeof statistic);
    if (which == 1) rt->hvc.rx(rt->hvc.fe, zero, rnd(rt) % 100);
    for (u32 q = 0; q < queues; q++) bus_mmio_write(rt->bus, mem + 0x3000 + 4 * q, 2, q);
    struct balloon_stats said;
    if (which == 2) ck_assert_int_eq(0, pc_balloon_stats(rt->pc, &said));
    answer(rt);
    for (unsigned i = 0; i < 8; i++) {
        u32 v = rnd(rt), size = 1u << (v >> 8) % 3, off = (v >> 12) % 64 & ~(size - 1);
        switch (v % 4) {
        case 0: sum = sum * 31 + bus_mmio_read(rt->bus, mem + off + ((v >> 24) % 3 << 12), size); break;
        case 1: sum = sum * 31 + bus_in(rt->bus, (u16)(io + off), size); break;
        case 2: bus_mmio_write(rt->bus, mem + 0x2000 + off % 16, size, rnd(rt)); break;
        case 3: /* which register, or which vector */
            bus_mmio_write(rt->bus, mem + (v & 0x10000 ? 0 : 8), 4, rnd(rt) % 3);
            bus_mmio_write(rt->bus, mem + 16, 2, rnd(rt) % 4);
            break;
        }
    }
    return sum;
}

/* What does not come from the guest. */
static void use(struct rt *rt)
{
    u32 v = rnd(rt);
    static const u8 words[] = { 0xf4, 0xed, 5,    0xf0, 1, 2,    0xf3, 200,  0xf3, 100,
                                0xf3, 80,   0xe7, 0xe8, 3, 0xee, 0xec, 0xea, 0xf5, 0xf4 };
    static u8 passing[65536];
    bool tc;
    switch (v % 9) {
    case 8: (void)dma8237_transfer(chip(rt, "dma"), v >> 9 & 7, v & 256, passing, v >> 16, &tc); break;
    case 4:
    case 5: /* to the keyboard and to the mouse */
        for (unsigned i = 0; i < 8; i++) {
            if (v & 1) bus_out(rt->bus, 0x64, 1, 0xd4);
            bus_out(rt->bus, 0x60, 1, words[(v >> 8) % (ARRAY_LEN(words) - 7) + i]);
            while (bus_in(rt->bus, 0x64, 1) & 1) bus_in(rt->bus, 0x60, 1);
        }
        break;
    case 7:
        if (v & 1024) { /* an answer that nobody fetches for now */
            bus_out(rt->bus, 0x64, 1, 0xa7);
            bus_out(rt->bus, 0x64, 1, 0xd4);
            bus_out(rt->bus, 0x60, 1, 0xeb);
        }
        card_set_intx(rt, v & 256);
        break;
    case 6: bus_out(rt->bus, 0x64, 1, v & 256 ? 0xa8 : 0xae); break;
    case 0: i8042_key(chip(rt, "i8042"), v >> 8 & 0x17f, v & 0x80); break;
    case 1: i8042_mouse(chip(rt, "i8042"), (s16)(v >> 8), (s16)(v >> 12), (s8)(v >> 20) / 16, v >> 28); break;
    case 2: acpi_pm_gpe(chip(rt, "acpi"), v >> 8 & 15); break;
    case 3:
        if (v & 256) acpi_pm_power_button(chip(rt, "acpi"));
        else ck_assert_int_eq(0, pc_balloon(rt->pc, v >> 9 & ~0xfffu));
        break;
    }
}

/* A driver of the screen, with what it read. */
static u32 use_vga(struct rt *rt)
{
    static const u16 pairs[] = { 0x3c4, 0x3ce, 0x3d4, 0x3b4 }, bytes[] = { 0x3d4, 0x3d5, 0x3da, 0x3b4, 0x3b5, 0x3ba };
    static const u16 mode_13h[] = { 0x0f02, 0x0e04 }, graphics[] = { 0x0001, 0x0003, 0x4005, 0x0506, 0xff08 };
    u32 sum = 0;
    for (unsigned i = 0; i < 12; i++) {
        u32 v = rnd(rt), at = 0xa0000 + (v >> 8) % 0x20000, size = 1u << (v >> 6) % 3;
        u16 port = v >> 8 & 1 ? 0x3c0 + (v >> 9) % 16 : bytes[(v >> 9) % ARRAY_LEN(bytes)];
        switch (v % 8) {
        case 0: bus_out(rt->bus, pairs[(v >> 6) % ARRAY_LEN(pairs)], 2, (v >> 8 & 0x1f) | (v >> 8 & 0xff00)); break;
        case 1: bus_out(rt->bus, port, 1, v >> 24); break;
        case 2: sum = sum * 31 + bus_in(rt->bus, port, 1); break;
        case 3: bus_mmio_write(rt->bus, at & ~(size - 1), size, rnd(rt)); break;
        case 4: sum = sum * 31 + bus_mmio_read(rt->bus, at & ~(size - 1), size); break;
        case 5:
            bus_out(rt->bus, 0x1ce, 2, (v >> 8) % 12);
            bus_out(rt->bus, 0x1cf, 2, (v >> 8) % 12 == 4 ? (v >> 16 & 0x63) | 0x80 : v >> 16 & 0x3ff);
            break;
        case 6: sum = sum * 31 + bus_in(rt->bus, 0x1cf, 2); break;
        case 7: /* memory itself is at A0000h then */
            if (v & 8) break;
            bus_out(rt->bus, 0x3c2, 1, 0x63);
            for (unsigned k = 0; k < ARRAY_LEN(mode_13h); k++) bus_out(rt->bus, 0x3c4, 2, mode_13h[k]);
            for (unsigned k = 0; k < ARRAY_LEN(graphics); k++) bus_out(rt->bus, 0x3ce, 2, graphics[k]);
            break;
        }
    }
    return sum;
}

/* Sound cards that play what is in memory, and are looked at. */
static u32 use_sound(struct rt *rt)
{
    enum { AC97_NAM = 0xd000, AC97_NABM = 0xd100, ES1370 = 0xd200, SLOT_AC97 = 16 + SOUND_AC97 };
    static const u32 config[][2] = { { SLOT_AC97 << 11 | 0x10, AC97_NAM },
                                     { SLOT_AC97 << 11 | 0x14, AC97_NABM },
                                     { SLOT_AC97 << 11 | 4, 7 },
                                     { (16 + SOUND_ES1370) << 11 | 0x10, ES1370 },
                                     { (16 + SOUND_ES1370) << 11 | 4, 7 } };
    static const u8 commands[] = { 0x10, 0x14, 0x1c, 0x90, 0x24, 0x40, 0x41, 0x48, 0x80, 0xd0, 0xd1, 0xd4, 0xd5,
                                   0xd6, 0xe2, 0xe4, 0xe3, 0xf2, 0xb4, 0xb0, 0xc6, 0xb6, 0xd3, 0xda, 0xd9 };
    u32 sum = 0, which = rnd(rt) % 8;
    for (unsigned i = 0; i < ARRAY_LEN(config); i++) {
        bus_out(rt->bus, 0xcf8, 4, 0x80000000u | config[i][0]);
        bus_out(rt->bus, 0xcfc, 4, config[i][1]);
    }
    if (which == 0) {
        u16 m = (u16)(AC97_NABM + rnd(rt) % 3 * 16);
        for (u32 i = 0; i < 4; i++) {
            const u32 bd[2] = { rnd(rt), (rnd(rt) & 0xc0000000u) | (rnd(rt) & 0x3ff) };
            (void)bus_dma_write(rt->bus, 0x10000 + 8 * i, bd, sizeof bd);
        }
        bus_out(rt->bus, AC97_NAM + 0x2a, 2, 1);
        bus_out(rt->bus, AC97_NAM + 2 * (rnd(rt) % 64), 2, rnd(rt) & 0x7fff);
        bus_out(rt->bus, AC97_NAM + 0x74, 2, 0x7000);
        bus_out(rt->bus, m, 4, 0x10000), bus_out(rt->bus, m + 5u, 1, 3), bus_out(rt->bus, m + 11u, 1, 0x1d);
        bus_out(rt->bus, AC97_NABM + 0x2c, 4, 2);
        advance(rt, rnd(rt) % (20 * MS));
    } else if (which == 1) {
        bus_out(rt->bus, ES1370 + 0x0c, 1, 12 + rnd(rt) % 2);
        bus_out(rt->bus, ES1370 + 0x30, 4, rnd(rt)), bus_out(rt->bus, ES1370 + 0x34, 4, rnd(rt) & 0xff);
        bus_out(rt->bus, ES1370 + 0x24 + rnd(rt) % 3 * 4, 4, rnd(rt) & 0xff);
        bus_out(rt->bus, ES1370 + 0x20, 4, rnd(rt) & 0xf73f);
        bus_out(rt->bus, ES1370, 4, 0x00200070 | (rnd(rt) & 0x3000));
        advance(rt, rnd(rt) % (20 * MS));
    }
    if (which == 2 || which == 3) {
        if (rnd(rt) % 2) bus_out(rt->bus, SB16_PORT + 6, 1, 1);
        if (rnd(rt) % 4) bus_out(rt->bus, SB16_PORT + 6, 1, 0);
        for (unsigned c = 0; c < 2; c++) { /* its channels go round */
            unsigned base = c ? 0xc0 : 0, step = c ? 2 : 1;
            bus_out(rt->bus, (u16)(base + 11 * step), 1, 0x59), bus_out(rt->bus, (u16)(base + 10 * step), 1, 1);
            bus_out(rt->bus, (u16)(base + 8 * step), 1, 0);
        }
        if (rnd(rt) % 2) bus_out(rt->bus, SB16_PORT + 4, 1, rnd(rt) % 4 ? 0x30 + rnd(rt) % 0x18 : 0x80 + rnd(rt) % 2);
        if (rnd(rt) % 2) bus_out(rt->bus, SB16_PORT + 5, 1, rnd(rt));
        for (unsigned i = 0; i < 3; i++) {
            bus_out(rt->bus, SB16_PORT + 12, 1, commands[rnd(rt) % sizeof commands]);
            for (unsigned k = rnd(rt) % 5; k; k--)
                bus_out(rt->bus, SB16_PORT + 12, 1, rnd(rt) & (rnd(rt) % 2 ? 0x31 : 0xff));
            advance(rt, rnd(rt) % (5 * MS));
        }
        for (unsigned i = 0; i < 4; i++) sum = sum * 31 + bus_in(rt->bus, (u16)(SB16_PORT + rnd(rt) % 16), 1);
    }
    for (unsigned i = 0; i < 8; i++) {
        u32 v = rnd(rt);
        u16 port = (u16)(v & 1   ? ES1370 + (v >> 8) % 64
                         : v & 2 ? AC97_NABM + (v >> 8) % 64
                                 : AC97_NAM + (v >> 8) % 128);
        if (v & 4) bus_out(rt->bus, port & ~1u, 2, rnd(rt));
        else sum = sum * 31 + bus_in(rt->bus, port & ~1u, 2);
    }
    return sum;
}

/* One of COM1 to COM3 has input. */
static void receive(struct rt *rt, unsigned n, u32 val)
{
    struct chardev *line = n % 3 ? &rt->serial_more[n % 3 - 1] : &rt->serial;
    if (line->rx) line->rx(line->fe, (const u8 *)&val, 1 + val % 4);
}

static u32 use_hpet(struct rt *rt, u32 val, u32 size)
{
    static const u16 regs[] = { 0x00, 0x10, 0x20, 0xf0, 0xf4, 0x100, 0x108, 0x10c, 0x120, 0x128, 0x140, 0x148 };
    u32 at = HPET_BASE + regs[rnd(rt) % ARRAY_LEN(regs)];
    if (rnd(rt) % 4 == 0) return bus_mmio_read(rt->bus, at, size);
    bus_mmio_write(rt->bus, at, size, val);
    if (rnd(rt) % 4 == 0) bus_mmio_write(rt->bus, HPET_BASE + 0x10, 1, 1 + (val & 2));
    return 0;
}

/* One access, with what it gave. */
static u32 poke(struct rt *rt)
{
    u32 pick = rnd(rt), val = rnd(rt), size = 1u << rnd(rt) % 3;
    if (rnd(rt) % 2) val &= 0xff >> rnd(rt) % 8;
    switch (pick % 8) {
    case 0:
        if (pick / 8 % 4 == 0) return use_hpet(rt, val, size);
        bus_mmio_write(rt->bus, 0xfee00000u + (rnd(rt) % 0x40) * 16, 4, val);
        return 0;
    case 1: return bus_mmio_read(rt->bus, 0xfee00000u + (rnd(rt) % 0x40) * 16, 4);
    case 2:
        bus_mmio_write(rt->bus, 0xfec00000u, 4, rnd(rt) % 0x40);
        bus_mmio_write(rt->bus, 0xfec00010u, 4, val);
        return bus_mmio_read(rt->bus, 0xfec00010u, 4);
    case 3:
        if (pick / 8 % 64 == 4) start_interrupts(rt);
        if (pick / 8 % 64 == 5) start_apic(rt);
        if (pick / 8 % 8 == 4) return use_vga(rt);
        if (pick / 8 % 8 == 6) return use_sound(rt);
        if (pick / 8 % 8 == 7) use(rt);
        if (pick / 8 % 16 == 13) return use_virtio(rt);
        if (pick / 8 % 16 == 0) rt->intc->set_apic_base(rt->intc_dev, (val & 0xff000) | (pick & 0x8000 ? 0x800 : 0));
        if (pick / 8 % 16 == 1) rt->intc->set_apic_base(rt->intc_dev, 0xfee00800u);
        if (pick / 8 % 16 == 5) irq_set(&rt->ferr, val & 1);
        if (pick / 8 % 16 == 9) bus_out(rt->bus, 0xf0, 1, 0);
        if (pick / 8 % 4 == 2) return rt->intr ? (u32)rt->intc->acknowledge(rt->intc_dev) : ~0u;
        if (pick / 8 % 4 == 3) receive(rt, pick >> 16 & 3, val);
        return 0;
    case 4: advance(rt, pick % 4 ? val % 100000 : val); return 0;
    case 5:
        bus_out(rt->bus, 0xcf8, 4, 0x80000000u | (val & 0x1ffc));
        bus_out(rt->bus, 0xcfc, 4, val & 0x4000 ? rnd(rt) : rnd(rt) & 0xffff);
        return bus_in(rt->bus, 0xcfc, 4);
    case 6: return bus_in(rt->bus, (u16)(ports[val % ARRAY_LEN(ports)] + (val >> 8) % 4), size);
    default: bus_out(rt->bus, (u16)(ports[val % ARRAY_LEN(ports)] + (val >> 8) % 4), size, rnd(rt)); return 0;
    }
}

static char *info(const struct snap_part *p)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    snap_info(p, f);
    fclose(f);
    return text;
}

static void chips_same(const struct rt *a, const struct rt *b)
{
    for (unsigned i = 0; i < a->parts; i++) {
        struct snap_buf one = { 0 }, two = { 0 };
        snap_save(&a->part[i], &one);
        snap_save(&b->part[i], &two);
        ck_assert(!one.failed && !two.failed);
        if (one.len != two.len || memcmp(one.data, two.data, one.len))
            ck_abort_msg("%s is\n%sand\n%s", a->part[i].name, info(&a->part[i]), info(&b->part[i]));
        snap_buf_free(&one);
        snap_buf_free(&two);
    }
}

/* The memories of devices, which are in a saved machine with its RAM. */
static u8 *device_memory(const struct rt *rt, size_t *len)
{
    *len = bus_file_used(rt->bus) - RAM;
    u8 *p = mmap(NULL, *len, PROT_READ | PROT_WRITE, MAP_SHARED, bus_ram_fd(rt->bus), RAM);
    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static void device_memory_load(const struct rt *to, const struct rt *from)
{
    size_t n, m;
    u8 *a = device_memory(from, &n), *b = device_memory(to, &m);
    ck_assert_uint_eq(n, m);
    memcpy(b, a, n);
    munmap(a, n);
    munmap(b, n);
}

static void device_memory_same(const struct rt *x, const struct rt *y)
{
    size_t n, m;
    u8 *a = device_memory(x, &n), *b = device_memory(y, &m);
    ck_assert_uint_eq(n, m);
    for (size_t i = 0; i < n; i += 4096)
        ck_assert_msg(!memcmp(a + i, b + i, 4096), "devices' memories differ in page %zu", i / 4096);
    munmap(a, n);
    munmap(b, n);
}

/* What drivers have left in RAM, where chips may still look. */
static void ram_load(const struct rt *to, const struct rt *from)
{
    static const u32 part[][2] = { { 0, 0x40000 }, { AREA, AREA_SIZE } };
    static u8 buf[0x40000];
    for (unsigned i = 0; i < ARRAY_LEN(part); i++) {
        (void)bus_dma_read(from->bus, part[i][0], buf, part[i][1]);
        (void)bus_dma_write(to->bus, part[i][0], buf, part[i][1]);
    }
}

static void load(struct rt *to, struct rt *from)
{
    char why[128] = "";
    device_memory_load(to, from);
    ram_load(to, from);
    for (unsigned i = 0; i < to->parts; i++) snap_unmap(&to->part[i]);
    for (unsigned i = 0; i < to->parts; i++) {
        struct snap_buf b = { 0 };
        ck_assert_str_eq(to->part[i].name, from->part[i].name);
        snap_save(&from->part[i], &b);
        int rc = snap_load(&to->part[i], b.data, b.len, why, sizeof why);
        ck_assert_msg(!rc, "%s: %d %s", to->part[i].name, rc, why);
        snap_buf_free(&b);
    }
    to->intr = from->intr; /* the CPU's own state */
    to->rng = from->rng;
    to->now = from->now;
}

/* ---- no state outside the table ---- */

static size_t element_size(const struct snap_field *f)
{
    static const size_t size[] = { [SNAP_BOOL] = 1,
                                   [SNAP_U8] = 1,
                                   [SNAP_U16] = 2,
                                   [SNAP_U32] = 4,
                                   [SNAP_U64] = 8,
                                   [SNAP_S32] = 4,
                                   [SNAP_S64] = 8,
                                   [SNAP_TIMER] = sizeof(struct timer),
                                   [SNAP_QUEUE] = sizeof(struct byte_queue) };
    return size[f->type];
}

/* 1 for each byte of the object that is part of a field. */
static u8 *cover(const struct snap_table *t)
{
    u8 *map = calloc(t->size, 1);
    ck_assert_ptr_nonnull(map);
    for (const struct snap_field *f = t->fields; f->name; f++)
        for (u32 i = 0; i < f->count; i++)
            for (size_t k = 0; k < element_size(f); k++) {
                size_t at = f->offset + (size_t)f->stride * i + k;
                ck_assert_msg(at < t->size && !map[at], "%s: %s[%u] is outside of it or in the table twice", t->name,
                              f->name, i);
                map[at] = 1;
            }
    return map;
}

/* The last field before the byte, to find the culprit by. */
static const char *after(const struct snap_table *t, size_t at)
{
    const char *name = "the start";
    size_t best = 0;
    for (const struct snap_field *f = t->fields; f->name; f++)
        if (f->offset < at && f->offset >= best) {
            best = f->offset;
            name = f->name;
        }
    return name;
}

START_TEST(what_is_in_no_table_never_changes)
{
    struct rt *rt = board(5 * MS);
    u8 *before[PC_PARTS_MAX], *map[PC_PARTS_MAX];
    for (unsigned i = 0; i < rt->parts; i++) {
        const struct snap_table *t = rt->part[i].table;
        map[i] = cover(t);
        before[i] = malloc(t->size);
        ck_assert_ptr_nonnull(before[i]);
        memcpy(before[i], rt->part[i].chip, t->size);
    }
    for (unsigned n = 0; n < 400000; n++) {
        poke(rt);
        if (n % 50000 == 49999) ck_assert_int_eq(0, pc_reset(rt->pc));
        for (unsigned i = n % rt->parts; i < rt->parts; i += rt->parts) { /* one after each access: what changes may
                                                                             change back soon */
            const struct snap_table *t = rt->part[i].table;
            for (size_t k = 0; k < t->size; k++)
                if (!map[i][k] && before[i][k] != ((u8 *)rt->part[i].chip)[k])
                    ck_abort_msg("%s: byte %zu, somewhere after %s, has changed and is in no field", rt->part[i].name,
                                 k, after(t, k));
        }
    }
    for (unsigned i = 0; i < rt->parts; i++) {
        free(map[i]);
        free(before[i]);
    }
    board_free(rt);
}
END_TEST

/* And the other way round: every field is reached, or else nobody would notice if it were not saved. */
START_TEST(every_field_changes_under_a_busy_guest)
{
    struct rt *rt = board(5 * MS);
    bool *moved[PC_PARTS_MAX];
    u8 *before[PC_PARTS_MAX];
    for (unsigned i = 0; i < rt->parts; i++) {
        const struct snap_table *t = rt->part[i].table;
        before[i] = malloc(t->size);
        moved[i] = calloc(256, sizeof(bool));
        ck_assert(before[i] && moved[i]);
        memcpy(before[i], rt->part[i].chip, t->size);
    }
    for (unsigned n = 0; n < 400000; n++) {
        poke(rt);
        for (unsigned i = n % rt->parts; i < rt->parts; i += rt->parts) {
            const struct snap_table *t = rt->part[i].table;
            for (unsigned k = 0; t->fields[k].name; k++) {
                const struct snap_field *f = &t->fields[k];
                for (u32 e = 0; !moved[i][k] && e < f->count; e++) {
                    size_t at = f->offset + (size_t)f->stride * e;
                    if (memcmp(before[i] + at, (u8 *)rt->part[i].chip + at, element_size(f))) moved[i][k] = true;
                }
            }
        }
    }
    for (unsigned i = 0; i < rt->parts; i++) {
        bool bridge = strstr(rt->part[i].name, "i440fx") || strstr(rt->part[i].name, "piix"); /* no BARs, no INTx */
        bool screen = !strcmp(rt->part[i].name, "00:02.0 vga");                               /* no INTx */
        bool virtio = strstr(rt->part[i].name, "virtio"), balloon = strstr(rt->part[i].name, "balloon");
        bool no_rom = virtio || strstr(rt->part[i].name, "0 ac97") || strstr(rt->part[i].name, "0 es1370");
        for (unsigned k = 0; rt->part[i].table->fields[k].name; k++) {
            const char *name = rt->part[i].table->fields[k].name;
            ck_assert_msg(moved[i][k] || bridge || (screen && !strcmp(name, "intx"))
                              || (no_rom && !strcmp(name, "rom_mapped"))
                              /* constant is their configuration, and they have no such queue */
                              || (virtio && !balloon && (!strcmp(name, "generation") || !strncmp(name, "third.", 6))),
                          "%s.%s has not changed in 400000 accesses", rt->part[i].name, name);
        }
        free(moved[i]);
        free(before[i]);
    }
    board_free(rt);
}
END_TEST

START_TEST(all_of_the_processor_s_state_is_in_its_table)
{
    struct cpu_arch a;
    struct snap_part p = cpu_part(&a);
    u8 *map = cover(p.table);
    ck_assert_uint_eq(sizeof a, p.table->size);
    for (size_t k = 0; k < sizeof a; k++)
        if (!map[k]) ck_abort_msg("byte %zu of struct cpu_arch, after %s, is in no field", k, after(p.table, k));
    free(map);
}
END_TEST

/* ---- save, load ---- */

START_TEST(a_loaded_board_does_what_the_saved_one_does)
{
    struct rt *a = board(5 * MS);
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned n = 0; n < 3000; n++) poke(a);
        struct rt *b = board(a->now);
        for (unsigned n = 0; n < 500; n++) poke(b); /* what was there before must not matter */
        clock_set_manual(b->clock, a->now);
        load(b, a);
        chips_same(a, b);
        for (unsigned n = 0; n < 3000; n++) {
            u32 x = poke(a), y = poke(b);
            ck_assert_msg(x == y && a->intr == b->intr,
                          "round %u, access %u: %08x of the saved one, %08x of the loaded; INTR %d %d", round, n, x, y,
                          a->intr, b->intr);
        }
        device_memory_same(a, b);
        chips_same(a, b);
        board_free(b);
    }
    board_free(a);
}
END_TEST

START_TEST(what_a_reset_in_place_gives_is_what_power_on_gives)
{
    struct rt *a = board(0);
    for (unsigned n = 0; n < 100000; n++) poke(a);
    static const u16 scratch[] = { 0x3ff, 0x2ff, 0x3ef }; /* which a UART's reset pin leaves alone */
    for (unsigned i = 0; i < ARRAY_LEN(scratch); i++) bus_out(a->bus, scratch[i], 1, 0);
    irq_set(&a->ferr, false);                    /* the processor's */
    ck_assert_int_eq(0, pc_balloon(a->pc, RAM)); /* what somebody wants outlives a reset */
    ck_assert_int_eq(0, pc_reset(a->pc));
    struct rt *b = board(a->now);
    for (unsigned i = 0; i < a->parts; i++) {
        if (!strcmp(a->part[i].name, "rtc")) continue; /* its battery outlives a reset */
        char *one = info(&a->part[i]), *two = info(&b->part[i]);
        ck_assert_str_eq(one, two);
        free(one);
        free(two);
    }
    board_free(a);
    board_free(b);
}
END_TEST

/* ---- files that lie ---- */

/* Whatever the bytes are: refused with a reason, or taken; and then the chips go on working. */
START_TEST(no_bytes_make_a_chip_misbehave)
{
    struct rt *a = board(5 * MS);
    unsigned refused = 0, taken = 0;
    for (unsigned n = 0; n < 20000; n++) poke(a);
    for (unsigned round = 0; round < 1500; round++) {
        struct rt *b = board(a->now);
        unsigned i = rnd(a) % a->parts;
        struct snap_buf s = { 0 };
        char why[128] = "";
        snap_save(&a->part[i], &s);
        for (unsigned k = 1 + rnd(a) % 4; k; k--)
            s.data[rnd(a) % s.len] = rnd(a) % 3 ? (u8)rnd(a) : (u8)(0xff * (rnd(a) % 2));
        if (rnd(a) % 16 == 0) s.len = rnd(a) % s.len;
        int rc = snap_load(&b->part[i], s.data, s.len, why, sizeof why);
        if (rc == -EINVAL) ck_assert_str_ne(why, "");
        refused += rc != 0;
        taken += rc == 0;
        b->rng = a->rng;
        for (unsigned n = 0; !rc && n < 200; n++) poke(b);
        snap_buf_free(&s);
        board_free(b);
    }
    ck_assert_msg(refused > 150 && taken > 150, "%u refused, %u taken", refused, taken);
    board_free(a);
}
END_TEST

struct toy {
    u8 small;
    s32 way;
    u32 lately;
};
static const struct snap_field toy_fields[] = { SNAP(struct toy, small, .max = 5, .reset = 3),
                                                SNAP(struct toy, way, .min = -2, .max = 7),
                                                SNAP(struct toy, lately, .since = 2, .reset = 99),
                                                { 0 } };
static const struct snap_table toy_table = { .name = "toy",
                                             .version = 2,
                                             .size = sizeof(struct toy),
                                             .fields = toy_fields };
static const struct snap_table toy_older = { .name = "toy",
                                             .version = 1,
                                             .size = sizeof(struct toy),
                                             .fields = (const struct snap_field[]){
                                                 SNAP(struct toy, small, .max = 5, .reset = 3),
                                                 SNAP(struct toy, way, .min = -2, .max = 7),
                                                 { 0 } } };

START_TEST(a_field_that_an_older_file_lacks_is_at_its_reset_value)
{
    struct toy old = { 4, -1, 0 }, new = { 1, 1, 1 };
    const struct snap_part from = { "toy", &toy_older, &old }, to = { "toy", &toy_table, &new };
    struct snap_buf b = { 0 };
    char why[128] = "";
    snap_save(&from, &b);
    ck_assert_int_eq(0, snap_load(&to, b.data, b.len, why, sizeof why));
    ck_assert_uint_eq(4, new.small);
    ck_assert_int_eq(-1, new.way);
    ck_assert_uint_eq(99, new.lately);
    b.len = 0;
    snap_save(&to, &b);
    ck_assert_int_eq(-EINVAL, snap_load(&from, b.data, b.len, why, sizeof why));
    ck_assert_str_eq(why, "is of version 2");
    snap_buf_free(&b);
}
END_TEST

START_TEST(a_value_out_of_bounds_is_refused_by_name)
{
    const struct toy bad[] = { { 6, 0, 0 }, { 0, 8, 0 }, { 0, -3, 0 } };
    const char *const name[] = { "small is out of bounds", "way is out of bounds", "way is out of bounds" };
    struct toy from = bad[_i], to = { 0 };
    struct snap_buf b = { 0 };
    char why[128] = "";
    snap_save(&(struct snap_part){ "toy", &toy_table, &from }, &b);
    ck_assert_int_eq(-EINVAL, snap_load(&(struct snap_part){ "toy", &toy_table, &to }, b.data, b.len, why, sizeof why));
    ck_assert_str_eq(why, name[_i]);
    for (size_t n = 0; n < b.len; n++)
        ck_assert_int_eq(-EINVAL, snap_load(&(struct snap_part){ "toy", &toy_table, &to }, b.data, n, why, sizeof why));
    snap_buf_free(&b);
}
END_TEST

START_TEST(a_queue_keeps_its_order_and_its_limit)
{
    struct byte_queue q = { 0 };
    u8 in[1000], next = 0, out = 0;
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < sizeof in; i++) in[i] = next++;
        ck_assert(byte_queue_put(&q, in, sizeof in, 4000));
        for (unsigned i = 0; i < 900 + (round >= 30) * 100; i++) ck_assert_uint_eq(out++, byte_queue_take(&q));
        if (q.len > 3000) break;
    }
    ck_assert(!byte_queue_put(&q, in, 4001 - q.len, 4000));
    while (q.len) ck_assert_uint_eq(out++, byte_queue_take(&q));
    byte_queue_free(&q);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snap");
    TCase *c = tcase_create("snap");
    tcase_add_test(c, what_is_in_no_table_never_changes);
    tcase_add_test(c, every_field_changes_under_a_busy_guest);
    tcase_add_test(c, all_of_the_processor_s_state_is_in_its_table);
    tcase_add_test(c, a_loaded_board_does_what_the_saved_one_does);
    tcase_add_test(c, what_a_reset_in_place_gives_is_what_power_on_gives);
    tcase_add_test(c, no_bytes_make_a_chip_misbehave);
    tcase_add_test(c, a_field_that_an_older_file_lacks_is_at_its_reset_value);
    tcase_add_loop_test(c, a_value_out_of_bounds_is_refused_by_name, 0, 3);
    tcase_add_test(c, a_queue_keeps_its_order_and_its_limit);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
