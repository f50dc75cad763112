/* Drivers that lie: registers, lists and buffers of every sound card hold whatever comes. Nothing may crash, stop for
 * ever, or leave the guest's memory (under ASan, that of the device either); and at any moment a card can be saved, and
 * what is loaded from that is the same.
 *
 *   fuzz_sound [--seed N] [--count N]
 *   libfuzzer_sound (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/audiodev.h"
#include "runtime/mem/physmem.h"
#include "src/board/sounds.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/drivers.h"

#include <string.h>

#define FIRST_SLOT 3u

static u64 heard;
static volatile u32 sum; /* each frame is looked at, as a mixer would */
static void on_put(void *be UNUSED, unsigned voice, u64 at_ns UNUSED, u32 rate, const s16 *frames, u32 n)
{
    BUG_ON(voice >= AUDIO_VOICES || rate < AUDIO_RATE_MIN || rate > AUDIO_RATE_MAX || !n);
    for (u32 i = 0; i < 2 * n; i++) sum += (u32)frames[i];
    heard += n;
}

struct board {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct pit *pit;
    struct dma8237 *dma;
    struct sounds *sounds;
    u64 now;
    unsigned kind;
    u16 at[8], len[8]; /* ranges of ports */
    unsigned ranges;
};

static void board_new(struct board *b, unsigned kind)
{
    static const struct audiodev_ops ops = { on_put };
    static const struct audiodev audio = { &ops, NULL };
    static const struct irq_line none[16];
    struct vm_error err;
    *b = (struct board){ .kind = kind, .now = 1000 };
    BUG_ON(bus_new(&b->bus, RAM) || clock_new(&b->clk));
    clock_set_manual(b->clk, b->now);
    BUG_ON(pci_new(&b->pci, b->bus, none, none, (struct dev_event){ 0 }));
    BUG_ON(pit_new(&b->pit, b->bus, b->clk, none[0]) || dma8237_new(&b->dma, b->bus));
    const struct sound_buses on = { b->bus, b->clk, b->pci, b->pit, b->dma, none, &audio, FIRST_SLOT };
    BUG_ON(sounds_new(&b->sounds, &on, 1u << kind, &err));
    pci_firmware_setup(b->pci, MEM_BASE, IO_BASE);
    bus_out(b->bus, 0xcf8, 4, 0x80000004u | (FIRST_SLOT + kind) << 11);
    bus_out(b->bus, 0xcfc, 4, 7);
    for (unsigned i = 0; i < 2; i++) {
        bus_out(b->bus, 0xcf8, 4, (0x80000010u | (FIRST_SLOT + kind) << 11) + 4 * i);
        u32 bar = bus_in(b->bus, 0xcfc, 4);
        if (bar == ~0u || !(bar & 1)) continue;
        b->at[b->ranges] = (u16)(bar & ~3u);
        b->len[b->ranges++] = i ? 64 : kind == SOUND_AC97 ? 128 : 64;
    }
    const u16 fixed[][2] = { { 0x40, 4 }, { 0x61, 1 }, { 0x220, 16 }, { 0, 16 }, { 0xc0, 32 }, { 0x81, 15 } };
    for (unsigned i = 0; !b->ranges && i < ARRAY_LEN(fixed); i++) b->at[i] = fixed[i][0], b->len[i] = fixed[i][1];
    if (!b->ranges) b->ranges = ARRAY_LEN(fixed);
}

static void board_free(struct board *b)
{
    sounds_free(b->sounds);
    dma8237_free(b->dma);
    pit_free(b->pit);
    pci_free(b->pci);
    clock_free(b->clk);
    bus_free(b->bus);
}

static struct snap_part part(const struct board *b)
{
    struct snap_part p;
    BUG_ON(sounds_parts(b->sounds, &p, 1) != 1);
    return p;
}

static void access_any(struct board *b)
{
    unsigned i = rnd(b->ranges), size = 1u << rnd(3);
    u16 at = (u16)(b->at[i] + (rnd(b->len[i]) & ~(size - 1)));
    if (rnd(4)) bus_out(b->bus, at, size, value());
    else (void)bus_in(b->bus, at, size);
}

/* ---- drivers that begin by the book ---- */

static void out(struct board *b, unsigned range, unsigned at, unsigned size, u32 v)
{
    bus_out(b->bus, (u16)(b->at[range] + at), size, v);
}

static void speaker_start(struct board *b)
{
    bus_out(b->bus, 0x43, 1, 0x80 | rnd(64));
    bus_out(b->bus, 0x42, 1, rnd(256)), bus_out(b->bus, 0x42, 1, rnd(256));
    bus_out(b->bus, 0x61, 1, 3);
}

static void ac97_start(struct board *b)
{
    for (unsigned i = 0; i < 32; i++) {
        const u32 bd[2] = { address(), rnd(4) ? rnd(2000) | rnd(4) << 30 : rnd(3) << 30 };
        (void)bus_dma_write(b->bus, AREA + 8 * i, bd, sizeof bd);
    }
    out(b, 0, 0x2a, 2, rnd(2)), out(b, 0, 0x2c, 2, rnd(65536)), out(b, 0, 2, 2, rnd(3) ? 0 : rnd(65536));
    out(b, 0, 0x18, 2, rnd(65536));
    for (unsigned m = 0; m < 0x30; m += 0x10)
        out(b, 1, m, 4, AREA), out(b, 1, m + 5, 1, rnd(256)), out(b, 1, m + 11, 1, 0x1d);
}

static void es1370_start(struct board *b)
{
    for (unsigned i = 0; i < 6; i++) out(b, 0, 0x10, 2, i << 8 | rnd(32));
    for (unsigned i = 0; i < 3; i++) {
        out(b, 0, 0xc, 4, i == 2 ? 13 : 12);
        out(b, 0, 0x30 + i % 2 * 8, 4, address()), out(b, 0, 0x34 + i % 2 * 8, 4, rnd(3) ? rnd(1000) : value());
        out(b, 0, 0x24 + 4 * i, 4, rnd(3) ? rnd(1000) : 0);
    }
    out(b, 0, 0x20, 4, rnd(1 << 11));
    out(b, 0, 0, 4, rnd(0x2000) << 16 | rnd(4) << 12 | 0x70);
}

static void dsp(struct board *b, u32 v) { bus_out(b->bus, SB16_PORT + 12, 1, v); }

static void sb16_start(struct board *b)
{
    static const u8 old[] = { 0x14, 0x1c, 0x24, 0x2c, 0x90, 0x91, 0x80, 0x74 };
    for (unsigned c = 1; c <= 5; c += 4) { /* both channels, anywhere */
        u16 base = c == 1 ? 0 : 0xc0, step = c == 1 ? 1 : 2;
        bus_out(b->bus, base + 10 * step, 1, 5), bus_out(b->bus, base + 12 * step, 1, 0);
        bus_out(b->bus, base + 11 * step, 1, 1 | (rnd(4) ? 0x58 : rnd(256)));
        for (unsigned i = 0; i < 2; i++) bus_out(b->bus, base + 2 * step, 1, rnd(256));
        for (unsigned i = 0; i < 2; i++) bus_out(b->bus, base + 3 * step, 1, rnd(3) ? rnd(4) : rnd(256));
        bus_out(b->bus, c == 1 ? 0x83 : 0x8b, 1, AREA >> 16), bus_out(b->bus, base + 10 * step, 1, 1);
    }
    bus_out(b->bus, SB16_PORT + 6, 1, 1), bus_out(b->bus, SB16_PORT + 6, 1, 0);
    if (rnd(2)) dsp(b, 0x40), dsp(b, rnd(256));
    else dsp(b, 0x41), dsp(b, rnd(256)), dsp(b, rnd(256));
    dsp(b, 0x48), dsp(b, rnd(256)), dsp(b, rnd(8));
    if (rnd(2)) dsp(b, 0xb0 | rnd(32)), dsp(b, rnd(256)), dsp(b, rnd(256)), dsp(b, rnd(8));
    else dsp(b, old[rnd(ARRAY_LEN(old))]), dsp(b, rnd(256)), dsp(b, rnd(4));
}

static void (*const starts[SOUND_KINDS])(struct board *b) = {
    [SOUND_SPEAKER] = speaker_start,
    [SOUND_AC97] = ac97_start,
    [SOUND_ES1370] = es1370_start,
    [SOUND_SB16] = sb16_start,
};

static void start(struct board *b)
{
    struct snap_part p = part(b);
    snap_part_reset(&p);
    starts[b->kind](b);
}

static void check_saved(struct board *b, struct board *twin) { check_handed_over(part(b), part(twin)); }

/* What a saved machine says of a card may be anything. */
static void load_lies(struct board *b, struct board *twin)
{
    struct snap_buf a = { 0 };
    char why[128];
    struct snap_part from = part(b), to = part(twin);
    snap_save(&from, &a);
    for (unsigned i = 1 + rnd(6); i; i--) a.data[rnd((u32)a.len)] = (u8)rnd(256);
    snap_unmap(&to);
    if (!snap_load(&to, a.data, a.len, why, sizeof why))
        for (unsigned i = 0; i < 20; i++) {
            access_any(twin);
            clock_set_manual(twin->clk, twin->now += rnd(10000000));
            clock_run_due(twin->clk);
        }
    snap_buf_free(&a);
    board_free(twin); /* it may be anything now */
    board_new(twin, b->kind);
}

static void step(struct board *b, struct board *twin)
{
    u32 v = value();
    switch (rnd(16)) {
    case 0:
    case 1:
        clock_set_manual(b->clk, b->now += rnd(rnd(20) ? 10000000 : 2000000000));
        clock_run_due(b->clk);
        break;
    case 3:
    case 4: (void)bus_dma_write(b->bus, AREA + rnd(AREA_SIZE / 4) * 4, &v, 4); break;
    case 5:
        if (!rnd(20)) check_saved(b, twin);
        if (!rnd(50)) load_lies(b, twin);
        break;
    case 6:
        if (!rnd(20)) start(b);
        break;
    default: access_any(b); break;
    }
}

/* ---- their course ---- */

static struct board board, twin;

static void driver_begin(unsigned kind)
{
    board_new(&board, kind);
    board_new(&twin, kind);
}
static void driver_start(void) { start(&board); }
static void driver_step(void) { step(&board, &twin); }
static void driver_end(void)
{
    check_saved(&board, &twin);
    board_free(&board);
    board_free(&twin);
}
static unsigned driver_kinds(void) { return SOUND_KINDS; }
static bool driver_reached(unsigned kind, u64 n)
{
    bool enough = n < 100 || heard >= 10 * n;
    printf("%s: %llu drivers, %llu frames heard\n", sound_name(kind, NULL), (unsigned long long)n,
           (unsigned long long)heard);
    heard = 0;
    return enough;
}
static const struct drivers drivers = { .kinds = driver_kinds,
                                        .count = 200,
                                        .steps = 500,
                                        .begin = driver_begin,
                                        .start = driver_start,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
