/* Owns a Sound Blaster 16 (DSP 4.05): the DSP's commands, and what it moves by the PC's DMA controllers. The mixer is
 * sb16_mixer.c's.
 *   I1  The interrupt line that the mixer names is asserted iff a cause is pending.                  [interrupt_update]
 *   I2  A transfer that is active has left, 1 to 65536 samples, until the end of its block.          [begin, block_end]
 *   I3  tick is armed iff a transfer runs: for the end of its block, or soon.                        [schedule]
 * Enter at sb16_read(), sb16_write(), command(). Creative, Sound Blaster Series Hardware Programming Guide (1996),
 * chapters 2, 3 and 6.
 * NOT-HW: no OPL3, no MPU-401, no signal processor; what is recorded is silence, and ADPCM is played as such; rates are
 * 4000 to 48000; the DSP is never busy. */
#include "core/audiodev.h"
#include "src/dev/isa/byte_ports.h"
#include "src/dev/pc_devices.h"
#include "src/dev/sound/pace.h"
#include "src/dev/sound/pcm.h"
#include "src/dev/sound/sb16_mixer.h"

#include <errno.h>
#include <string.h>

enum { P_MIXER_INDEX = 4, P_MIXER, P_RESET, P_DATA = 10, P_COMMAND = 12, P_STATUS_8 = 14, P_STATUS_16, PORTS };
enum { BY_8, BY_16, TRANSFERS };
#define TICK_NS 10000000u
#define CHUNK 512u     /* frames */
#define SAMPLES 65536u /* the most in a block */
#define ANSWERS 64u    /* bytes */
#define RATE_MIN 4000u
#define RATE_MAX 48000u
#define DIRECT_RATE 48000u
#define DIRECT_HOLD 960u /* frames for which a sample that was written directly stands */
#define NS_PER_S 1000000000ull

struct transfer {
    bool active, paused, records, repeats, silent; /* repeats: auto-init; silent: nothing is moved */
    bool wide, stereo, is_signed;
    u32 block, left; /* samples, of all channels */
    u32 rate;        /* frames a second */
    struct pace pace;
};

struct sb16 {
    struct clock *clk;
    struct dma8237 *dma;
    struct irq_line irq[4]; /* 2, 5, 7, 10 */
    struct sound_out to;    /* 8-bit transfers there, 16-bit ones at the next */
    struct sb16_mixer mixer;
    struct transfer t[TRANSFERS];
    u8 pending;                               /* SB16_PENDING_8, SB16_PENDING_16 */
    u8 command, arg[3], args, wanted;         /* one that is being written: it has args arguments of those wanted */
    u8 answer[ANSWERS], answers, taken, last; /* last: what was read when there was something */
    bool resetting, speaker, fast;            /* fast: until a high-speed transfer ends, no command is heard */
    bool by_constant;                         /* rate is of all channels */
    u32 rate, block;
    u8 test, e2_sum, e2_count;
    u8 direct;        /* the sample written last, */
    u64 direct_frame; /* and the frame of guest time from which on it is heard */
    struct timer tick;
};

static const struct snap_field sb16_fields[] = {
    SB16_MIXER_FIELDS(struct sb16, mixer),
    SNAP_COLUMN(struct sb16, t, active),
    SNAP_COLUMN(struct sb16, t, paused),
    SNAP_COLUMN(struct sb16, t, records),
    SNAP_COLUMN(struct sb16, t, repeats),
    SNAP_COLUMN(struct sb16, t, silent),
    SNAP_COLUMN(struct sb16, t, wide),
    SNAP_COLUMN(struct sb16, t, stereo),
    SNAP_COLUMN(struct sb16, t, is_signed),
    SNAP_COLUMN(struct sb16, t, block, .reset = 1, .max = SAMPLES),
    SNAP_COLUMN(struct sb16, t, left, .reset = 1, .max = SAMPLES),
    SNAP_COLUMN(struct sb16, t, rate, .reset = RATE_MIN, .max = RATE_MAX),
    PACE_COLUMNS(struct sb16, t, pace),
    SNAP(struct sb16, pending, .max = SB16_PENDING_8 | SB16_PENDING_16),
    SNAP(struct sb16, command),
    SNAP_ARRAY(struct sb16, arg),
    SNAP(struct sb16, args, .max = 3),
    SNAP(struct sb16, wanted, .max = 3),
    SNAP_ARRAY(struct sb16, answer),
    SNAP(struct sb16, answers, .max = ANSWERS),
    SNAP(struct sb16, taken, .max = ANSWERS),
    SNAP(struct sb16, last),
    SNAP(struct sb16, resetting),
    SNAP(struct sb16, speaker),
    SNAP(struct sb16, fast),
    SNAP(struct sb16, by_constant),
    SNAP(struct sb16, rate, .reset = 11025, .max = RATE_MAX * 2),
    SNAP(struct sb16, block, .reset = 0x800, .max = SAMPLES),
    SNAP(struct sb16, test),
    SNAP(struct sb16, e2_sum, .reset = 0xaa),
    SNAP(struct sb16, e2_count, .max = 3),
    SNAP(struct sb16, direct),
    SNAP(struct sb16, direct_frame),
    SNAP(struct sb16, tick),
    { 0 },
};

/* ---- interrupts ---- */

static void interrupt_update(struct sb16 *s)
{
    int irq = sb16_mixer_irq(&s->mixer);

    if (irq >= 0) irq_set(&s->irq[irq == 2 ? 0 : irq == 5 ? 1 : irq == 7 ? 2 : 3], s->pending);
}

static void cause(struct sb16 *s, unsigned which)
{
    s->pending |= which == BY_8 ? SB16_PENDING_8 : SB16_PENDING_16;
    interrupt_update(s);
}

static void acknowledge(struct sb16 *s, unsigned which)
{
    s->pending &= (u8) ~(which == BY_8 ? SB16_PENDING_8 : SB16_PENDING_16);
    interrupt_update(s);
}

/* ---- transfers ---- */

static void block_end(struct sb16 *s, unsigned which)
{
    struct transfer *t = &s->t[which];

    t->left = t->block;
    if (!t->repeats) t->active = t->silent = false;
    if (!t->active && which == BY_8) s->fast = false;
    cause(s, which);
}

/* Up to n samples. Returns how many there were: none while the DMA controller gives none. */
static u32 move(struct sb16 *s, unsigned which, u32 n)
{
    struct transfer *t = &s->t[which];
    struct pcm_format f = { .wide = t->wide, .stereo = t->stereo, .is_signed = t->is_signed };
    u32 unit = t->wide ? 2 : 1, gain[2], got, frames;
    int channel = sb16_mixer_dma(&s->mixer, which == BY_16);
    u8 data[CHUNK * PCM_FRAME_MAX];
    s16 out[CHUNK * 2];
    bool tc;

    if (t->silent) return n;
    if (channel < 0) return 0;
    memset(data, t->is_signed ? 0 : 0x80, sizeof data);
    got = dma8237_transfer(s->dma, (unsigned)channel, t->records, data, n * unit, &tc) / unit;
    frames = got >> t->stereo;
    if (!t->records && frames) {
        sb16_mixer_gain(&s->mixer, gain);
        pcm_decode(out, data, frames, f, gain);
        audiodev_put(s->to.dev, s->to.voice + which, pace_time(&t->pace, t->rate, 0), t->rate, out, frames);
    }
    return got;
}

static bool transfer_runs(const struct transfer *t) { return t->active && !t->paused; }

static void transfer_play(struct sb16 *s, unsigned which)
{
    struct transfer *t = &s->t[which];
    u64 now = clock_now(s->clk);
    u32 due, n, got;

    if (!transfer_runs(t)) return;
    for (due = pace_due(&t->pace, t->rate, now); due && transfer_runs(t); due -= n) {
        n = due < CHUNK ? due : CHUNK;
        if (n << t->stereo > t->left) n = (t->left + t->stereo) >> t->stereo;
        got = n << t->stereo < t->left ? n << t->stereo : t->left;
        got = move(s, which, got);
        if (!got) {
            pace_start(&t->pace, now); /* it waits for the controller */
            return;
        }
        n = (got + t->stereo) >> t->stereo;
        t->pace.done += n;
        t->left -= got;
        if (!t->left) block_end(s, which);
    }
}

static void schedule(struct sb16 *s)
{
    u64 now = clock_now(s->clk), at = UINT64_MAX;

    for (unsigned i = 0; i < TRANSFERS; i++) {
        struct transfer *t = &s->t[i];
        u64 end = pace_time(&t->pace, t->rate, (t->left + t->stereo) >> t->stereo);

        if (!transfer_runs(t)) continue;
        if (end > now + TICK_NS || end <= now) end = now + TICK_NS;
        if (end < at) at = end;
    }
    if (at == UINT64_MAX) timer_cancel(&s->tick);
    else timer_arm(&s->tick, at);
}

static void play(struct sb16 *s)
{
    for (unsigned i = 0; i < TRANSFERS; i++) transfer_play(s, i);
    schedule(s);
}

static void on_tick(void *arg) { play(arg); }

static u32 rate_of(const struct sb16 *s, bool stereo)
{
    u32 r = s->by_constant && stereo ? s->rate / 2 : s->rate;

    return r < RATE_MIN ? RATE_MIN : r > RATE_MAX ? RATE_MAX : r;
}

enum how { RECORDS = 1, REPEATS = 2, SILENT = 4, WIDE = 8, STEREO = 16, SIGNED = 32 };

/* Field by field: the copy of a whole struct would carry its padding, which is in no snapshot. */
static void begin(struct sb16 *s, unsigned which, u32 block, unsigned how)
{
    struct transfer *t = &s->t[which];

    t->active = true;
    t->paused = false;
    t->records = how & RECORDS;
    t->repeats = how & REPEATS;
    t->silent = how & SILENT;
    t->wide = how & WIDE;
    t->stereo = how & STEREO;
    t->is_signed = how & SIGNED;
    t->block = t->left = block;
    t->rate = rate_of(s, t->stereo);
    pace_start(&t->pace, clock_now(s->clk));
}

/* The commands of earlier cards: 8 bits without a sign. */
static void begin_old(struct sb16 *s, u32 block, bool records, bool repeats)
{
    bool stereo = sb16_mixer_stereo(&s->mixer);

    begin(s, BY_8, block, (records ? RECORDS : 0) | (repeats ? REPEATS : 0) | (stereo ? STEREO : 0));
}

static void resume(struct sb16 *s, unsigned which)
{
    s->t[which].paused = false;
    pace_start(&s->t[which].pace, clock_now(s->clk));
}

/* ---- samples that are written one by one ---- */

static void direct_write(struct sb16 *s, u8 val)
{
    u64 now = (u64)((unsigned __int128)clock_now(s->clk) * DIRECT_RATE / NS_PER_S);
    const struct pcm_format f = { 0 };
    u8 held[DIRECT_HOLD];
    s16 out[DIRECT_HOLD * 2];
    u32 gain[2];

    if (now > s->direct_frame && now - s->direct_frame <= DIRECT_HOLD) {
        u32 n = (u32)(now - s->direct_frame);

        memset(held, s->direct, n);
        sb16_mixer_gain(&s->mixer, gain);
        pcm_decode(out, held, n, f, gain);
        audiodev_put(s->to.dev, s->to.voice, (u64)((unsigned __int128)s->direct_frame * NS_PER_S / DIRECT_RATE),
                     DIRECT_RATE, out, n);
    }
    s->direct_frame = now;
    s->direct = val;
}

/* ---- commands ---- */

static void answer(struct sb16 *s, u8 val)
{
    if (s->taken == s->answers) s->taken = s->answers = 0;
    if (s->answers < ANSWERS) s->answer[s->answers++] = val;
}

static void answer_text(struct sb16 *s, const char *text)
{
    do answer(s, (u8)*text);
    while (*text++);
}

static unsigned args_of(u8 command)
{
    switch (command) {
    case 0x04:
    case 0x05:
    case 0x08:
    case 0x0f:
    case 0x10:
    case 0x38:
    case 0x40:
    case 0xe0:
    case 0xe2:
    case 0xe4: return 1;
    case 0x0e:
    case 0x14:
    case 0x15:
    case 0x16:
    case 0x17:
    case 0x24:
    case 0x41:
    case 0x42:
    case 0x48:
    case 0x74:
    case 0x75:
    case 0x76:
    case 0x77:
    case 0x80: return 2;
    default: return command >> 4 == 0xb || command >> 4 == 0xc ? 3 : 0;
    }
}

/* E2h: a byte that a driver checks comes by DMA. Each bit of the argument moves the sum by its weight. */
static void identify(struct sb16 *s, u8 arg)
{
    static const s16 weight[4][9] = { { 1, -2, -4, 8, -16, 32, 64, -128, -106 },
                                      { -1, 2, -4, 8, 16, -32, 64, -128, 165 },
                                      { -1, 2, 4, -8, 16, -32, -64, 128, -151 },
                                      { 1, -2, 4, -8, -16, 32, -64, 128, 90 } };
    int channel = sb16_mixer_dma(&s->mixer, false), sum = s->e2_sum;
    bool tc;

    for (unsigned i = 0; i < 8; i++)
        if (arg >> i & 1) sum += weight[s->e2_count][i];
    s->e2_sum = (u8)(sum + weight[s->e2_count][8]);
    s->e2_count = (s->e2_count + 1) % 4;
    u8 byte = s->e2_sum;
    if (channel >= 0) (void)dma8237_transfer(s->dma, (unsigned)channel, true, &byte, 1, &tc);
}

static void general(struct sb16 *s, u8 command, u8 mode, u32 block)
{
    bool wide = command >> 4 == 0xb;

    begin(s, wide ? BY_16 : BY_8, block,
          (command & 8 ? RECORDS : 0) | (command & 4 ? REPEATS : 0) | (wide ? WIDE : 0) | (mode & 0x20 ? STEREO : 0)
              | (mode & 0x10 ? SIGNED : 0));
}

static void command(struct sb16 *s)
{
    const u32 word = s->arg[0] | (u32)s->arg[1] << 8, big = (u32)s->arg[0] << 8 | s->arg[1];

    switch (s->command) {
    case 0x08:                          /* the signal processor's version, */
    case 0x0f: answer(s, 0xff); return; /* and a register of it: there is none */
    case 0x10: direct_write(s, s->arg[0]); return;
    case 0x14:
    case 0x15:
    case 0x91: begin_old(s, s->command == 0x91 ? s->block : word + 1, false, false); break;
    case 0x1c:
    case 0x90: begin_old(s, s->block, false, true); break;
    case 0x20: answer(s, 0x80); return;
    case 0x24:
    case 0x99: begin_old(s, s->command == 0x99 ? s->block : word + 1, true, false); break;
    case 0x2c:
    case 0x98: begin_old(s, s->block, true, true); break;
    case 0x16:
    case 0x17: /* ADPCM: two bits a sample, */
    case 0x74:
    case 0x75: /* four, */
    case 0x76:
    case 0x77: /* two and a half */ begin(s, BY_8, (word + 1) * 2 > SAMPLES ? SAMPLES : (word + 1) * 2, SILENT); break;
    case 0x80: begin(s, BY_8, word + 1, SILENT); break; /* silence */
    case 0x40:
        s->rate = 1000000 / (256u - s->arg[0]);
        if (s->rate > 2 * RATE_MAX) s->rate = 2 * RATE_MAX;
        s->by_constant = true;
        return;
    case 0x41:
    case 0x42:
        s->rate = big > RATE_MAX ? RATE_MAX : big;
        s->by_constant = false;
        return;
    case 0x45: s->t[BY_8].repeats = true; return;
    case 0x47: s->t[BY_16].repeats = true; return;
    case 0x48: s->block = word + 1; return;
    case 0xd0: s->t[BY_8].paused = true; break;
    case 0xd1: s->speaker = true; return;
    case 0xd3: s->speaker = false; return;
    case 0xd4: resume(s, BY_8); break;
    case 0xd5: s->t[BY_16].paused = true; break;
    case 0xd6: resume(s, BY_16); break;
    case 0xd8: answer(s, s->speaker ? 0xff : 0); return;
    case 0xd9: s->t[BY_16].repeats = false; return;
    case 0xda: s->t[BY_8].repeats = false; return;
    case 0xe0: answer(s, (u8)~s->arg[0]); return;
    case 0xe1:
        answer(s, 4);
        answer(s, 5);
        return;
    case 0xe2: identify(s, s->arg[0]); return;
    case 0xe3: answer_text(s, "COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992."); return;
    case 0xe4: s->test = s->arg[0]; return;
    case 0xe8: answer(s, s->test); return;
    case 0xf2: cause(s, BY_8); return;
    case 0xf3: cause(s, BY_16); return;
    case 0xf8: answer(s, 0); return;
    default:
        if (s->command >> 4 != 0xb && s->command >> 4 != 0xc) return;
        general(s, s->command, s->arg[0], (s->arg[1] | (u32)s->arg[2] << 8) + 1);
        break;
    }
    if (s->command >> 4 == 9) s->fast = true;
    schedule(s);
}

static void byte_written(struct sb16 *s, u8 val)
{
    if (s->resetting || s->fast) return;
    if (!s->wanted) {
        s->command = val;
        s->args = 0;
        s->wanted = (u8)args_of(val);
    } else {
        s->arg[s->args++] = val;
    }
    if (s->args < s->wanted) return;
    s->wanted = s->args = 0;
    play(s); /* what was before, up to now */
    command(s);
}

/* ---- ports ---- */

static void dsp_reset(struct sb16 *s)
{
    for (unsigned i = 0; i < TRANSFERS; i++) s->t[i].active = s->t[i].paused = s->t[i].silent = s->t[i].repeats = false;
    s->fast = s->speaker = false;
    s->wanted = s->args = s->answers = s->taken = 0;
    s->e2_sum = 0xaa;
    s->e2_count = 0;
    s->pending = 0;
    interrupt_update(s);
    schedule(s);
}

static void reset_write(struct sb16 *s, bool level)
{
    bool falls = s->resetting && !level;

    s->resetting = level;
    if (level) dsp_reset(s);
    if (falls) answer(s, 0xaa);
}

static u8 sb16_read(void *dev, u32 off)
{
    struct sb16 *s = dev;

    switch (off) {
    case P_MIXER_INDEX: return s->mixer.index;
    case P_MIXER: play(s); return sb16_mixer_read(&s->mixer, s->pending);
    case P_DATA:
        if (s->taken < s->answers) s->last = s->answer[s->taken++];
        return s->last;
    case P_COMMAND: return 0x7f; /* ready */
    case P_STATUS_8: acknowledge(s, BY_8); return s->taken < s->answers ? 0xff : 0x7f;
    case P_STATUS_16: acknowledge(s, BY_16); return 0xff;
    default: return 0xff;
    }
}

static void mixer_write(struct sb16 *s, u8 val)
{
    u8 pending = s->pending;

    play(s);
    s->pending = 0; /* off the line that may be another's from now on */
    interrupt_update(s);
    sb16_mixer_write(&s->mixer, val);
    s->pending = pending;
    interrupt_update(s);
}

static void sb16_write(void *dev, u32 off, u8 val)
{
    struct sb16 *s = dev;

    switch (off) {
    case P_MIXER_INDEX: s->mixer.index = val; break;
    case P_MIXER: mixer_write(s, val); break;
    case P_RESET: reset_write(s, val & 1); break;
    case P_COMMAND: byte_written(s, val); break;
    default: break;
    }
}

BYTE_PORT_OPS(sb16_ops, sb16_read, sb16_write);

/* ---- a board's part ---- */

static bool sb16_check(const void *chip)
{
    const struct sb16 *s = chip;

    for (unsigned i = 0; i < TRANSFERS; i++)
        if (!s->t[i].left || !s->t[i].block || s->t[i].rate < RATE_MIN) return false;
    return s->block && s->taken <= s->answers && (s->wanted ? s->args < s->wanted : !s->args);
}

static const struct snap_table sb16_table;

static void sb16_on_reset(void *chip)
{
    struct sb16 *s = chip;

    timer_cancel(&s->tick);
    s->pending = 0;
    interrupt_update(s);
    snap_reset(&sb16_table, s);
    for (unsigned i = 0; i < TRANSFERS; i++) pace_start(&s->t[i].pace, 0);
    sb16_mixer_power_on(&s->mixer);
}

static const struct snap_table sb16_table = { .name = "sb16",
                                              .version = 1,
                                              .size = sizeof(struct sb16),
                                              .fields = sb16_fields,
                                              .reset = sb16_on_reset,
                                              .check = sb16_check };

struct snap_part sb16_part(struct sb16 *s) { return (struct snap_part){ sb16_table.name, &sb16_table, s }; }

int sb16_new(struct sb16 **out, struct bus *bus, struct clock *clk, struct dma8237 *dma, const struct irq_line irq[4],
             struct sound_out to)
{
    struct sb16 *s = calloc(1, sizeof *s);
    int err;

    if (!s) return -ENOMEM;
    s->clk = clk;
    s->dma = dma;
    s->to = to;
    memcpy(s->irq, irq, sizeof s->irq);
    timer_init(&s->tick, clk, on_tick, s);
    sb16_mixer_power_on(&s->mixer);
    sb16_on_reset(s);
    err = bus_map_pio(bus, SB16_PORT, PORTS, &sb16_ops, s, "sb16");
    if (err) {
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

void sb16_free(struct sb16 *s)
{
    if (!s) return;
    timer_cancel(&s->tick);
    free(s);
}
