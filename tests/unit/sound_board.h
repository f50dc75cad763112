/* A board with one sound card, whose driver the test plays, and ears. */
#ifndef TESTS_UNIT_SOUND_BOARD_H
#define TESTS_UNIT_SOUND_BOARD_H
#include "core/audiodev.h"
#include "tests/unit/card_board.h"

#define HEARD_MAX (1u << 18)
#define MS 1000000ull
#define SECOND 1000000000ull

static bool irq[16];

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
static struct irq_line isa_lines[16];

static void board_new(void)
{
    for (unsigned i = 0; i < 16; i++) isa_lines[i] = (struct irq_line){ on_isa, NULL, i };
    machine_new();
    memset(irq, 0, sizeof irq);
    forget();
}
static UNUSED u32 rd(u16 port, unsigned n) { return bus_in(bus, port, n); }
static UNUSED void wr(u16 port, unsigned n, u32 v) { bus_out(bus, port, n, v); }

/* A square wave of so many frames a cycle, at `at`: 16 bits, left at +-8000, right at half of that. */
static UNUSED void put_square(paddr at, u32 frames, u32 cycle)
{
    for (u32 i = 0; i < frames; i++) {
        s16 v = i % cycle < cycle / 2 ? 8000 : -8000, f[2] = { v, (s16)(v / 2) };
        put(at + 4 * i, f, 4);
    }
}

#endif
