/* Owns a stream to a PulseAudio server, or to PipeWire in its place. */
#include "src/back/audio.h"
#include "src/error.h"

#include <errno.h>
#include <pulse/simple.h>
#include <string.h>

#define LATENCY_MS 100u

struct pulse {
    struct audio_sink sink; /* first: the two are cast into each other */
    pa_simple *stream;
    __typeof__(pa_simple_new) *new;
    __typeof__(pa_simple_free) *free;
    __typeof__(pa_simple_write) *write;
    __typeof__(pa_simple_drain) *drain;
};

static int pulse_play(struct audio_sink *s, u64 at UNUSED, const s16 *frames, u32 n)
{
    struct pulse *p = (struct pulse *)s;
    int why;
    return p->write(p->stream, frames, (size_t)n * 4, &why) < 0 ? -EIO : 0;
}

static void pulse_rest(struct audio_sink *s)
{
    struct pulse *p = (struct pulse *)s;
    (void)p->drain(p->stream, NULL);
}

static void pulse_close(struct audio_sink *s)
{
    struct pulse *p = (struct pulse *)s;
    if (p->stream) p->free(p->stream);
    free(p);
}

int audio_pulse_open(struct audio_sink **out, const char *arg UNUSED, struct vm_error *err)
{
    static const pa_sample_spec format = { .format = PA_SAMPLE_S16LE, .rate = AUDIO_RATE, .channels = 2 };
    static const pa_buffer_attr buffer = { .maxlength = UINT32_MAX,
                                           .tlength = AUDIO_RATE * 4 / 1000 * LATENCY_MS,
                                           .prebuf = UINT32_MAX,
                                           .minreq = UINT32_MAX,
                                           .fragsize = UINT32_MAX };
    struct pulse *p = calloc(1, sizeof *p);
    if (!p) return vm_fail(err, -ENOMEM, "audio pulse: out of memory");
    p->sink =
        (struct audio_sink){ .patience = AUDIO_RATE / 4, .play = pulse_play, .rest = pulse_rest, .close = pulse_close };
    const char *(*text)(int);
    const struct audio_symbol simple[] = { { "pa_simple_new", &p->new },
                                           { "pa_simple_free", &p->free },
                                           { "pa_simple_write", &p->write },
                                           { "pa_simple_drain", &p->drain } };
    const struct audio_symbol base[] = { { "pa_strerror", &text } };
    int why = 0, rc = audio_library("pulse", "libpulse-simple.so.0", "libpulse0", simple, ARRAY_LEN(simple), err);
    if (!rc) rc = audio_library("pulse", "libpulse.so.0", "libpulse0", base, ARRAY_LEN(base), err);
    if (!rc) {
        p->stream = p->new (NULL, "transvisor", PA_STREAM_PLAYBACK, NULL, "guest", &format, NULL, &buffer, &why);
        if (!p->stream) rc = vm_fail(err, -ENOTCONN, "audio pulse: %.100s", text(why));
    }
    if (rc) pulse_close(&p->sink);
    else *out = &p->sink;
    return rc;
}
