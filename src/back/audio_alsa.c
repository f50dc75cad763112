/* Owns a playback stream of ALSA's default device. */
#include "src/back/audio.h"
#include "src/error.h"

#include <alsa/asoundlib.h>
#include <errno.h>

#define LATENCY_US 100000u
#define WAIT_MS 1000 /* a device that takes nothing for so long takes nothing any more */

struct alsa {
    struct audio_sink sink; /* first: the two are cast into each other */
    snd_pcm_t *pcm;
    __typeof__(snd_pcm_open) *open;
    __typeof__(snd_pcm_close) *close;
    __typeof__(snd_pcm_set_params) *set_params;
    __typeof__(snd_pcm_writei) *writei;
    __typeof__(snd_pcm_wait) *wait;
    __typeof__(snd_pcm_recover) *recover;
    __typeof__(snd_pcm_start) *start;
    __typeof__(snd_strerror) *strerror;
    __typeof__(snd_lib_error_set_handler) *error_set_handler;
};

static int alsa_play(struct audio_sink *s, u64 at UNUSED, const s16 *frames, u32 n)
{
    struct alsa *a = (struct alsa *)s;
    while (n) {
        snd_pcm_sframes_t got = a->writei(a->pcm, frames, n);
        if (got == -EAGAIN) {
            int rc = a->wait(a->pcm, WAIT_MS);
            if (!rc) return -EIO;
            got = rc < 0 ? rc : 0;
        }
        if (got < 0) got = a->recover(a->pcm, (int)got, 1); /* it ran dry, or the host slept */
        if (got < 0) return (int)got;
        frames += 2 * got;
        n -= (u32)got;
    }
    return 0;
}

/* It starts by itself once its buffer is full. */
static void alsa_rest(struct audio_sink *s)
{
    struct alsa *a = (struct alsa *)s;
    (void)a->start(a->pcm);
}

static void alsa_close(struct audio_sink *s)
{
    struct alsa *a = (struct alsa *)s;
    if (a->pcm) a->close(a->pcm);
    free(a);
}

static void nothing(const char *file UNUSED, int line UNUSED, const char *function UNUSED, int why UNUSED,
                    const char *format UNUSED, ...)
{
}

int audio_alsa_open(struct audio_sink **out, const char *arg UNUSED, struct vm_error *err)
{
    struct alsa *a = calloc(1, sizeof *a);
    if (!a) return vm_fail(err, -ENOMEM, "audio alsa: out of memory");
    a->sink =
        (struct audio_sink){ .patience = AUDIO_RATE / 4, .play = alsa_play, .rest = alsa_rest, .close = alsa_close };
    const struct audio_symbol list[] = {
        { "snd_pcm_open", &a->open },
        { "snd_pcm_close", &a->close },
        { "snd_pcm_set_params", &a->set_params },
        { "snd_pcm_writei", &a->writei },
        { "snd_pcm_wait", &a->wait },
        { "snd_pcm_recover", &a->recover },
        { "snd_pcm_start", &a->start },
        { "snd_strerror", &a->strerror },
        { "snd_lib_error_set_handler", &a->error_set_handler },
    };
    int rc = audio_library("alsa", "libasound.so.2", "libasound2", list, ARRAY_LEN(list), err);
    if (!rc) {
        (void)a->error_set_handler(nothing); /* what fails is told once, by us */
        rc = a->open(&a->pcm, "default", SND_PCM_STREAM_PLAYBACK, SND_PCM_NONBLOCK);
        if (!rc)
            rc = a->set_params(a->pcm, SND_PCM_FORMAT_S16_LE, SND_PCM_ACCESS_RW_INTERLEAVED, 2, AUDIO_RATE, 1,
                               LATENCY_US);
        if (rc) rc = vm_fail(err, -ENODEV, "audio alsa: %.100s", a->strerror(rc));
    }
    if (rc) alsa_close(&a->sink);
    else *out = &a->sink;
    return rc;
}
