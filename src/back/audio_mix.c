/* Owns the mixing of sources into one stream of AUDIO_RATE: each is brought to that rate by libsamplerate, and added to
 * what the others play at the same guest time.
 *   I1  Frames before `from` have been given away; sum holds WINDOW frames from there on, all others are zero.
 *   I2  A source that plays has given what is heard before its next; no frame is given away that one of them has yet to
 *       add to, and none of the last HOLD: another source may begin there.                                   [horizon]
 *   I3  A source that has fallen HOLD behind the others has stopped.                                       [late_stop]
 * Enter at audio_mix_put(). */
#include "src/back/audio.h"
#include "src/error.h"

#include <errno.h>
#include <samplerate.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define WINDOW 32768u              /* frames; a power of two */
#define HOLD (AUDIO_RATE / 40)     /* frames */
#define SAME_NS (5 * 1000000ull)   /* what follows within this follows at once: times are rounded */
#define CHUNK 512u                 /* frames through the converter at a time */
#define OUT_MAX (CHUNK * 48u + 64) /* frames that come of a chunk, at AUDIO_RATE_MIN */
#define RATIO(rate) ((double)AUDIO_RATE / (rate))

struct source {
    bool plays;
    u32 rate;
    u64 end_ns; /* guest time behind its last frame */
    u64 next;   /* the frame that its next one is added to */
    SRC_STATE *converter;
};

struct audio_mix {
    audio_out_fn *fn;
    void *arg;
    __typeof__(src_new) *src_new;
    __typeof__(src_delete) *src_delete;
    __typeof__(src_process) *src_process;
    __typeof__(src_reset) *src_reset;
    __typeof__(src_set_ratio) *src_set_ratio;
    __typeof__(src_short_to_float_array) *to_float;
    __typeof__(src_float_to_short_array) *to_short;
    u64 from, last; /* frames: not given away yet; behind all that has been added */
    struct source source[AUDIO_VOICES];
    s32 sum[WINDOW][2];
    float in[CHUNK * 2], out[OUT_MAX * 2];
    s16 shorts[OUT_MAX * 2];
};

static u64 frame_at(u64 ns) { return ((unsigned __int128)ns * AUDIO_RATE + NS_PER_S / 2) / NS_PER_S; }

static s16 clip(s32 v) { return (s16)(v > INT16_MAX ? INT16_MAX : v < INT16_MIN ? INT16_MIN : v); }

/* Gives away what is before `to`. */
static int give(struct audio_mix *m, u64 to)
{
    s16 block[CHUNK][2];
    int rc = 0;
    if (to > m->last) to = m->last;
    while (m->from < to) {
        u32 n = to - m->from < CHUNK ? (u32)(to - m->from) : CHUNK;
        for (u32 i = 0; i < n; i++) {
            s32 *sum = m->sum[(m->from + i) % WINDOW];
            for (unsigned c = 0; c < 2; c++) {
                block[i][c] = clip(sum[c]);
                sum[c] = 0;
            }
        }
        if (!rc) rc = m->fn(m->arg, m->from, block[0], n);
        m->from += n;
    }
    return rc;
}

/* A source's n frames, at AUDIO_RATE by now. */
static int add(struct audio_mix *m, struct source *s, const s16 *frames, u32 n)
{
    int rc = 0;
    for (u32 i = 0; i < n; i++, s->next++) {
        if (s->next < m->from) continue; /* too late */
        if (s->next - m->from >= WINDOW) {
            /* Far ahead of what the others have: what is before has been played. */
            int given = give(m, s->next);
            if (!rc) rc = given;
            m->from = s->next;
        }
        for (unsigned c = 0; c < 2; c++) m->sum[s->next % WINDOW][c] += frames[2 * i + c];
        if (s->next >= m->last) m->last = s->next + 1;
    }
    return rc;
}

/* n frames of in, through the source's converter; end: and what is in there still. */
static int convert(struct audio_mix *m, struct source *s, u32 n, bool end)
{
    SRC_DATA d = { .data_in = m->in,
                   .data_out = m->out,
                   .input_frames = (long)n,
                   .output_frames = OUT_MAX,
                   .end_of_input = end,
                   .src_ratio = RATIO(s->rate) };
    if (m->src_process(s->converter, &d)) return 0; /* none of its errors can be: buffers and ratio are in bounds */
    m->to_short(m->out, m->shorts, (int)d.output_frames_gen * 2);
    return add(m, s, m->shorts, (u32)d.output_frames_gen);
}

static int stop(struct audio_mix *m, struct source *s)
{
    if (!s->plays) return 0;
    int rc = s->converter && s->rate != AUDIO_RATE ? convert(m, s, 0, true) : 0;
    s->plays = false;
    return rc;
}

static int start(struct audio_mix *m, struct source *s, u64 at_ns, u32 rate)
{
    bool others = false;
    int rc = 0, why;
    for (unsigned i = 0; i < AUDIO_VOICES; i++) others |= m->source[i].plays;
    s->next = frame_at(at_ns);
    s->rate = rate;
    if (!others && s->next > m->last) {
        rc = give(m, m->last);
        m->from = m->last = s->next;
    }
    if (rate != AUDIO_RATE && !s->converter) s->converter = m->src_new(SRC_SINC_FASTEST, 2, &why);
    if (rate != AUDIO_RATE && !s->converter) return -ENOMEM;
    if (s->converter) (void)m->src_reset(s->converter);
    s->plays = true;
    return rc;
}

static int late_stop(struct audio_mix *m)
{
    int rc = 0;
    for (unsigned i = 0; i < AUDIO_VOICES; i++) {
        struct source *s = &m->source[i];
        if (!s->plays || s->next + HOLD >= m->last) continue;
        int stopped = stop(m, s);
        if (!rc) rc = stopped;
    }
    return rc;
}

static u64 horizon(const struct audio_mix *m)
{
    u64 to = m->last > HOLD ? m->last - HOLD : 0;
    for (unsigned i = 0; i < AUDIO_VOICES; i++)
        if (m->source[i].plays && m->source[i].next < to) to = m->source[i].next;
    return to;
}

int audio_mix_put(struct audio_mix *m, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n)
{
    struct source *s = &m->source[voice];
    bool follows = s->plays && at_ns + SAME_NS > s->end_ns && at_ns < s->end_ns + SAME_NS;
    int rc = 0, got;
    if (!follows || (rate != s->rate && (rate == AUDIO_RATE || s->rate == AUDIO_RATE))) {
        rc = stop(m, s);
        got = start(m, s, at_ns, rate);
        if (!rc) rc = got;
    } else if (rate != s->rate) {
        s->rate = rate;
        (void)m->src_set_ratio(s->converter, RATIO(rate));
    }
    if (!s->plays) return rc;
    s->end_ns = at_ns + (u64)n * NS_PER_S / rate;
    for (u32 done = 0; done < n;) {
        u32 part = n - done < CHUNK ? n - done : CHUNK;
        if (rate == AUDIO_RATE) {
            got = add(m, s, frames + 2 * done, part);
        } else {
            m->to_float(frames + 2 * done, m->in, (int)part * 2);
            got = convert(m, s, part, false);
        }
        if (!rc) rc = got;
        done += part;
    }
    got = late_stop(m);
    if (!rc) rc = got;
    got = give(m, horizon(m));
    return rc ? rc : got;
}

int audio_mix_flush(struct audio_mix *m)
{
    int rc = 0;
    for (unsigned i = 0; i < AUDIO_VOICES; i++) {
        int got = stop(m, &m->source[i]);
        if (!rc) rc = got;
    }
    int given = give(m, m->last);
    return rc ? rc : given;
}

int audio_mix_new(struct audio_mix **out, audio_out_fn *fn, void *arg, struct vm_error *err)
{
    struct audio_mix *m = calloc(1, sizeof *m);
    if (!m) return vm_fail(err, -ENOMEM, "audio: out of memory");
    const struct audio_symbol calls[] = {
        { "src_new", &m->src_new },
        { "src_delete", &m->src_delete },
        { "src_process", &m->src_process },
        { "src_reset", &m->src_reset },
        { "src_set_ratio", &m->src_set_ratio },
        { "src_short_to_float_array", &m->to_float },
        { "src_float_to_short_array", &m->to_short },
    };
    int rc = audio_library("mixer", "libsamplerate.so.0", "libsamplerate0", calls, ARRAY_LEN(calls), err);
    if (rc) {
        free(m);
        return rc;
    }
    m->fn = fn;
    m->arg = arg;
    *out = m;
    return 0;
}

void audio_mix_free(struct audio_mix *m)
{
    if (!m) return;
    for (unsigned i = 0; i < AUDIO_VOICES; i++)
        if (m->source[i].converter) (void)m->src_delete(m->source[i].converter);
    free(m);
}
