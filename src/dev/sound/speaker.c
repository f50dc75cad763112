/* Owns the PC's speaker: OUT of the 8254's counter 2 and port B's bit 1, as a level that is averaged over each frame,
 * so that tones, and samples played by pulse width, come out as a real one's inertia makes them.
 *   I1  Frames before `frame`, counted from power-on, have been played.                                  [speaker_play]
 *   I2  tick is armed iff sounding: the level may change, or the last change has not died away.          [speaker_play]
 * Enter at on_speaking(), speaker_play(). IBM PC AT technical reference, speaker; Intel 8254, 231164-005.
 * NOT-HW: the filter is a high pass of 38 Hz alone; a real speaker has resonances. */
#include "core/audiodev.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define RATE 48000u
#define NS_PER_S 1000000000ull
#define TICK_NS 10000000u
#define BEHIND_MAX (RATE / 4) /* frames: what is older is not made up for */
#define CHUNK 256u            /* frames */
#define LOUD 12000            /* the step from low to high */
#define DECAY 200             /* of the filter: one part in so many is lost with each frame */
#define STEP 256              /* its state has so many parts of a sample's unit */
#define STATE_MAX (4 * LOUD * STEP)

struct speaker {
    struct clock *clk;
    struct pit *pit;
    struct sound_out to;
    u64 frame;
    bool sounding;
    s32 level, filtered; /* of the last frame: 0 to LOUD; what is heard of it, in STEPs */
    struct timer tick;
};

static const struct snap_field speaker_fields[] = {
    SNAP(struct speaker, frame, .keep = true),
    SNAP(struct speaker, sounding),
    SNAP(struct speaker, level, .min = 0, .max = LOUD),
    SNAP(struct speaker, filtered, .min = -STATE_MAX, .max = STATE_MAX),
    SNAP(struct speaker, tick),
    { 0 },
};

static u64 frame_now(const struct speaker *s) { return (unsigned __int128)clock_now(s->clk) * RATE / NS_PER_S; }

/* In parts of the PIT's clock, since power-on. */
static u64 frame_start(u64 frame) { return (unsigned __int128)frame * PIT_HZ * PIT_SPEAKER_PARTS / RATE; }

static s16 filter(struct speaker *s, s32 level)
{
    s32 f = (level - s->level) * STEP + s->filtered - s->filtered / DECAY;

    s->level = level;
    s->filtered = f > STATE_MAX ? STATE_MAX : f < -STATE_MAX ? -STATE_MAX : f;
    return (s16)(s->filtered / STEP > INT16_MAX   ? INT16_MAX
                 : s->filtered / STEP < INT16_MIN ? INT16_MIN
                                                  : s->filtered / STEP);
}

/* Everything up to now. Returns whether any of it was to be heard. */
static bool speaker_play(struct speaker *s)
{
    u64 now = frame_now(s);
    s16 out[CHUNK][2];
    bool heard = false;

    if (s->frame > now || now - s->frame > BEHIND_MAX) s->frame = now > BEHIND_MAX ? now - BEHIND_MAX : 0;
    while (s->frame < now) {
        u64 first = s->frame;
        u32 n = 0;

        for (; n < CHUNK && s->frame < now; n++, s->frame++) {
            u64 from = frame_start(s->frame), to = frame_start(s->frame + 1);
            u64 high = pit_speaker_high(s->pit, from, to);

            out[n][0] = out[n][1] = filter(s, (s32)(high * LOUD / (to - from)));
            heard |= out[n][0] != 0;
        }
        audiodev_put(s->to.dev, s->to.voice, (unsigned __int128)first * NS_PER_S / RATE, RATE, out[0], n);
    }
    if (!heard) s->filtered = 0;
    return heard;
}

static void on_tick(void *arg)
{
    struct speaker *s = arg;

    s->sounding = speaker_play(s);
    if (s->sounding) timer_arm(&s->tick, clock_now(s->clk) + TICK_NS);
}

/* Counter 2 or port B changes. */
static void on_speaking(void *arg, u32 value UNUSED)
{
    struct speaker *s = arg;

    if (s->sounding) (void)speaker_play(s);
    else s->frame = frame_now(s);
    if (s->sounding) return;
    s->sounding = true;
    timer_arm(&s->tick, clock_now(s->clk) + TICK_NS);
}

static const struct snap_table speaker_table;

static void speaker_on_reset(void *chip)
{
    struct speaker *s = chip;

    timer_cancel(&s->tick);
    snap_reset(&speaker_table, s);
    s->frame = 0;
}

static const struct snap_table speaker_table = { .name = "speaker",
                                                 .version = 1,
                                                 .size = sizeof(struct speaker),
                                                 .fields = speaker_fields,
                                                 .reset = speaker_on_reset };

struct snap_part speaker_part(struct speaker *s) { return (struct snap_part){ speaker_table.name, &speaker_table, s }; }

int speaker_new(struct speaker **out, struct clock *clk, struct pit *pit, struct sound_out to)
{
    struct speaker *s = calloc(1, sizeof *s);

    if (!s) return -ENOMEM;
    s->clk = clk;
    s->pit = pit;
    s->to = to;
    timer_init(&s->tick, clk, on_tick, s);
    speaker_on_reset(s);
    pit_on_speaker(pit, (struct dev_event){ on_speaking, s });
    *out = s;
    return 0;
}

void speaker_free(struct speaker *s)
{
    if (!s) return;
    timer_cancel(&s->tick);
    pit_on_speaker(s->pit, (struct dev_event){ 0 });
    free(s);
}
