/* Owns an ES1370 (AudioPCI) with its codec, an AK4531: two channels that play and one that records, each of which goes
 * round a buffer in memory.
 *   I1  INTA is asserted iff a channel has come to the end of its count, and is enabled to say so.  [interrupt_update]
 *   I2  A channel that runs moves samples as guest time passes.                                     [channel_play]
 *   I3  tick is armed iff one runs: for the end of its count, or soon.                              [schedule]
 * Enter at reg_read(), reg_write(). Ensoniq AudioPCI ES1370 specification, rev. 1.0 (1997); AKM AK4531 data sheet
 * (1996).
 * NOT-HW: what is recorded is silence; the UART takes and gives nothing, there is no joystick; of the codec the volumes
 * of output and of its two inputs from the chip are heard, and its routing is not; rates are kept to what an audio
 * device takes. */
#include "core/audiodev.h"
#include "src/dev/pc_devices.h"
#include "src/dev/sound/pace.h"
#include "src/dev/sound/pcm.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum { DAC1, DAC2, ADC, CHANNELS };
enum { CONTROL = 0x00, STATUS = 0x04, UART = 0x08, PAGE = 0x0c, CODEC = 0x10, SERIAL = 0x20, COUNT = 0x24,
    WINDOW = 0x30, PORTS = 64 };
enum { CTL_ADC_EN = 1 << 4, CTL_DAC2_EN = 1 << 5, CTL_DAC1_EN = 1 << 6, CTL_WTSRSEL = 12, CTL_PCLKDIV = 16 };
enum { STAT_UART_READY = 2 << 8 };
enum { SER_P1_INTEN = 1 << 8, SER_P1_PAUSE = 1 << 11, SER_P1_STOP = 1 << 13 }; /* P2's, R1's are the next */
enum { SER_BITS = 0x3fffff };
enum { FMT_STEREO = 1, FMT_WIDE = 2 };
enum { AK_MASTER = 0x00, AK_VOICE = 0x02, AK_FM = 0x04, AK_RESET = 0x16, AK_REGS = 0x1a };
/* clang-format on */
#define TICK_NS 10000000u
#define CHUNK 512u /* frames */
#define PCLK 1411200u
#define AK_MUTE 0x80u
#define INTR (1u << 31)

struct channel {
    u32 at;          /* the buffer */
    u16 size, place; /* double words: of the buffer less one; where in it the next frame is, */
    u8 within;       /* and at which byte of that */
    u16 count, left; /* frames less one: between two interrupts; until the next */
    bool held;       /* it was to stop at the end of the count, which has come */
    struct pace pace;
};

struct es1370 {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct sound_out to; /* DAC1 plays there, DAC2 at the next */
    struct channel c[CHANNELS];
    u32 control, serial;
    u8 page, pending; /* pending: bit n, channel n */
    u8 codec[AK_REGS];
    struct timer tick;
};

static const struct snap_field es1370_fields[] = {
    SNAP_COLUMN(struct es1370, c, at),
    SNAP_COLUMN(struct es1370, c, size),
    SNAP_COLUMN(struct es1370, c, place),
    SNAP_COLUMN(struct es1370, c, within, .max = 3),
    SNAP_COLUMN(struct es1370, c, count),
    SNAP_COLUMN(struct es1370, c, left),
    SNAP_COLUMN(struct es1370, c, held),
    PACE_COLUMNS(struct es1370, c, pace),
    SNAP(struct es1370, control, .reset = 1),
    SNAP(struct es1370, serial, .max = SER_BITS),
    SNAP(struct es1370, page, .max = 15),
    SNAP(struct es1370, pending, .max = 7),
    SNAP_ARRAY(struct es1370, codec, .keep = true),
    SNAP(struct es1370, tick),
    { 0 },
};

static void interrupt_update(struct es1370 *e) { irq_set(&e->intx, e->pending); }

/* ---- channels ---- */

static bool channel_runs(const struct es1370 *e, unsigned n)
{
    static const u32 enable[CHANNELS] = { CTL_DAC1_EN, CTL_DAC2_EN, CTL_ADC_EN };

    if (n != ADC && e->serial & (u32)SER_P1_PAUSE << n) return false;
    return e->control & enable[n] && !e->c[n].held;
}

static u32 rate(const struct es1370 *e, unsigned n)
{
    static const u16 fixed[4] = { 5512, 11025, 22050, 44100 };
    u32 r;

    if (n == DAC1) return fixed[e->control >> CTL_WTSRSEL & 3];
    r = PCLK / ((e->control >> CTL_PCLKDIV & 0x1fff) + 2);
    return r < AUDIO_RATE_MIN ? AUDIO_RATE_MIN : r > AUDIO_RATE_MAX ? AUDIO_RATE_MAX : r;
}

static struct pcm_format format(const struct es1370 *e, unsigned n)
{
    u32 f = e->serial >> 2 * n & 3;

    return (struct pcm_format){ .wide = f & FMT_WIDE, .stereo = f & FMT_STEREO, .is_signed = f & FMT_WIDE };
}

/* Volumes are steps of 2 dB down from 0 dB (output) and from +12 dB (what is mixed into it). */
static void gains(const struct es1370 *e, unsigned n, u32 gain[2])
{
    const u8 *out = &e->codec[AK_MASTER], *in = &e->codec[n == DAC1 ? AK_FM : AK_VOICE];

    for (unsigned i = 0; i < 2; i++)
        gain[i] = (out[i] | in[i]) & AK_MUTE ? 0 : pcm_gain((out[i] & 31) + (in[i] & 31) - 6, 200);
}

/* n bytes at the channel's place, which goes round the buffer. */
static void copy(struct es1370 *e, unsigned n, u8 *data, u32 len)
{
    struct channel *c = &e->c[n];

    while (len) {
        u32 size = (c->size + 1u) * 4, from = c->place * 4u + c->within, part;

        if (from >= size) from = 0; /* the size has been made less */
        part = len < size - from ? len : size - from;
        if (n == ADC) (void)bus_dma_write(e->bus, (paddr)c->at + from, data, part);
        else (void)bus_dma_read(e->bus, (paddr)c->at + from, data, part);
        from = from + part == size ? 0 : from + part;
        c->place = (u16)(from / 4);
        c->within = from % 4;
        data += part;
        len -= part;
    }
}

static void move(struct es1370 *e, unsigned n, u32 frames)
{
    struct channel *c = &e->c[n];
    struct pcm_format f = format(e, n);
    u8 data[CHUNK * PCM_FRAME_MAX];
    s16 out[CHUNK * 2];
    u32 gain[2];

    memset(data, f.is_signed ? 0 : 0x80, sizeof data);
    copy(e, n, data, frames * pcm_frame(f));
    if (n != ADC) {
        gains(e, n, gain);
        pcm_decode(out, data, frames, f, gain);
        audiodev_put(e->to.dev, e->to.voice + n, pace_time(&c->pace, rate(e, n), 0), rate(e, n), out, frames);
    }
    c->pace.done += frames;
}

/* The count has ended. */
static void count_end(struct es1370 *e, unsigned n)
{
    struct channel *c = &e->c[n];

    c->left = c->count;
    if (e->serial & (u32)SER_P1_STOP << n) c->held = true;
    if (e->serial & (u32)SER_P1_INTEN << n) e->pending |= 1u << n;
}

static void channel_play(struct es1370 *e, unsigned n)
{
    struct channel *c = &e->c[n];
    u32 due, part;

    if (!channel_runs(e, n) || !pci_fn_bus_master(e->fn)) return;
    for (due = pace_due(&c->pace, rate(e, n), clock_now(e->clk)); due && channel_runs(e, n); due -= part) {
        part = c->left + 1u < due ? c->left + 1u : due;
        if (part > CHUNK) part = CHUNK;
        move(e, n, part);
        if (part == c->left + 1u) count_end(e, n);
        else c->left -= (u16)part;
    }
}

static void schedule(struct es1370 *e)
{
    u64 now = clock_now(e->clk), at = UINT64_MAX;

    for (unsigned n = 0; n < CHANNELS; n++) {
        u64 end = pace_time(&e->c[n].pace, rate(e, n), e->c[n].left + 1u);

        if (!channel_runs(e, n)) continue;
        if (end > now + TICK_NS || end <= now) end = now + TICK_NS;
        if (end < at) at = end;
    }
    if (at == UINT64_MAX) timer_cancel(&e->tick);
    else timer_arm(&e->tick, at);
}

static void play(struct es1370 *e)
{
    for (unsigned n = 0; n < CHANNELS; n++) channel_play(e, n);
    interrupt_update(e);
    schedule(e);
}

static void on_tick(void *arg) { play(arg); }

/* Control and serial become what the driver says. Channels that begin, or go at another rate, begin now. */
static void modes_write(struct es1370 *e, u32 control, u32 serial)
{
    u32 was[CHANNELS];
    bool ran[CHANNELS];

    for (unsigned n = 0; n < CHANNELS; n++) {
        was[n] = rate(e, n);
        ran[n] = channel_runs(e, n);
    }
    e->control = control;
    e->serial = serial & SER_BITS;
    for (unsigned n = 0; n < CHANNELS; n++) {
        if (!(serial & (u32)SER_P1_STOP << n)) e->c[n].held = false;
        if (!(serial & (u32)SER_P1_INTEN << n)) e->pending &= (u8) ~(1u << n);
        if (channel_runs(e, n) && (!ran[n] || rate(e, n) != was[n])) pace_start(&e->c[n].pace, clock_now(e->clk));
    }
}

/* ---- the codec ---- */

static void codec_reset(struct es1370 *e)
{
    static const u8 reset[AK_REGS] = {
        [0] = AK_MUTE, [1] = AK_MUTE, [2] = 0x86,  [3] = 0x86,     [4] = 0x86,       [5] = 0x86,
        [6] = 0x86,    [7] = 0x86,    [8] = 0x86,  [9] = 0x86,     [10] = 0x86,      [11] = 0x86,
        [12] = 0x86,   [13] = 0x86,   [14] = 0x86, [15] = AK_MUTE, [AK_RESET] = 0x3,
    };

    memcpy(e->codec, reset, sizeof reset);
}

static void codec_write(struct es1370 *e, unsigned reg, u8 val)
{
    if (reg >= AK_REGS) return;
    if (reg == AK_RESET && !(val & 1)) codec_reset(e);
    e->codec[reg] = val;
}

/* ---- registers ---- */

/* What the memory window shows: place and size of a channel's buffer. NULL: FIFOs. */
static struct channel *windowed(struct es1370 *e, unsigned at)
{
    if (e->page == 12) return &e->c[at >= WINDOW + 8 ? DAC2 : DAC1];
    return e->page == 13 && at < WINDOW + 8 ? &e->c[ADC] : NULL;
}

static u32 word_read(struct es1370 *e, unsigned at)
{
    const struct channel *c;

    switch (at) {
    case CONTROL: return e->control;
    case STATUS:
        return (e->pending ? INTR : 0) | (e->pending >> DAC1 & 1) << 2 | (e->pending >> DAC2 & 1) << 1
               | (e->pending >> ADC & 1);
    case UART: return STAT_UART_READY;
    case PAGE: return e->page;
    case SERIAL: return e->serial;
    case COUNT:
    case COUNT + 4:
    case COUNT + 8: c = &e->c[(at - COUNT) / 4]; return (u32)c->left << 16 | c->count;
    case WINDOW:
    case WINDOW + 4:
    case WINDOW + 8:
    case WINDOW + 12: c = windowed(e, at); return !c ? 0 : at & 4 ? (u32)c->place << 16 | c->size : c->at;
    default: return 0;
    }
}

static void word_write(struct es1370 *e, unsigned at, u32 val)
{
    struct channel *c;

    switch (at) {
    case CONTROL: modes_write(e, val, e->serial); break;
    case PAGE: e->page = val & 15; break;
    case CODEC: codec_write(e, val >> 8 & 0xff, (u8)val); break;
    case SERIAL: modes_write(e, e->control, val); break;
    case COUNT:
    case COUNT + 4:
    case COUNT + 8:
        c = &e->c[(at - COUNT) / 4];
        c->count = c->left = (u16)val;
        break;
    case WINDOW:
    case WINDOW + 4:
    case WINDOW + 8:
    case WINDOW + 12:
        c = windowed(e, at);
        if (!c) break;
        c->within = 0;
        if (at & 4) c->size = (u16)val, c->place = (u16)(val >> 16);
        else c->at = val;
        break;
    default: break;
    }
}

static u32 reg_read(void *dev, u32 off, unsigned size)
{
    struct es1370 *e = dev;

    play(e);
    return word_read(e, off & ~3u) >> 8 * (off & 3) & (size == 4 ? ~0u : (1u << 8 * size) - 1);
}

static void reg_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct es1370 *e = dev;
    unsigned at = off & ~3u, shift = 8 * (off & 3);
    u32 mask = (size == 4 ? ~0u : (1u << 8 * size) - 1) << shift;

    play(e);
    word_write(e, at, (word_read(e, at) & ~mask) | (val << shift & mask));
    play(e);
}

static const struct io_ops reg_ops = { reg_read, reg_write };

/* ---- a board's part ---- */

static const struct snap_table es1370_table;

static void es1370_on_reset(void *chip)
{
    struct es1370 *e = chip;

    timer_cancel(&e->tick);
    snap_reset(&es1370_table, e);
    for (unsigned n = 0; n < CHANNELS; n++) pace_start(&e->c[n].pace, 0);
    codec_reset(e);
    interrupt_update(e);
}

static const struct snap_table es1370_table = { .name = "es1370",
                                                .version = 1,
                                                .size = sizeof(struct es1370),
                                                .fields = es1370_fields,
                                                .reset = es1370_on_reset };

struct snap_part es1370_part(struct es1370 *e) { return (struct snap_part){ es1370_table.name, &es1370_table, e }; }

int es1370_new(struct es1370 **out, struct bus *bus, struct clock *clk, struct pci *pci, u8 slot, struct sound_out to)
{
    struct es1370 *e = calloc(1, sizeof *e);
    int err;

    if (!e) return -ENOMEM;
    const struct pci_desc fn = {
        .dev = slot,
        .vendor = 0x1274,
        .device = 0x5000,
        .subsys_vendor = 0x4942,
        .subsys = 0x4c4c,
        .class_code = 4, /* multimedia, audio */
        .subclass = 1,
        .int_pin = 1,
        .bar = { { .size = PORTS, .io = true, .ops = &reg_ops } },
        .opaque = e,
        .name = "es1370",
    };
    err = pci_add(pci, &e->fn, &fn);
    if (err) {
        free(e);
        return err;
    }
    e->bus = bus;
    e->clk = clk;
    e->to = to;
    e->intx = pci_fn_irq(e->fn);
    timer_init(&e->tick, clk, on_tick, e);
    es1370_on_reset(e);
    *out = e;
    return 0;
}

void es1370_free(struct es1370 *e)
{
    if (!e) return;
    timer_cancel(&e->tick);
    free(e);
}
