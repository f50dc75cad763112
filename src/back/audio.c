/* Owns the queue between the guest's sound cards and a sink, and the thread that mixes and plays.
 *   I1  first, last, waiting, ending and dropped are touched only under lock; nothing waits for the host under it.
 *   I2  A sink that has failed is given nothing more, and is told of once.                                  [fail]
 * Enter at audio_put(), audio_thread(). */
#include "src/back/audio.h"
#include "core/thread.h"
#include "src/error.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define REST_MS 100u /* nobody has played for so long: what is half mixed is played */

struct block {
    struct block *next;
    unsigned voice;
    u32 rate, n;
    u64 at_ns;
    s16 frames[];
};

struct audio {
    struct audiodev dev;
    struct audio_host host;
    struct audio_sink *sink; /* NULL: nobody listens */
    struct audio_mix *mix;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct block *first, **last;
    u64 waiting; /* AUDIO_RATE frames' worth in the queue */
    u64 dropped;
    bool ending;
    bool failed;         /* the thread's */
    _Atomic int failure; /* -errno, until it has been asked for */
};

/* ---- what there is ---- */

static const struct kind {
    const char *name, *shown, *what;
    bool arg, file;
    int (*open)(struct audio_sink **out, const char *arg, struct vm_error *err);
} kinds[] = {
    { "none", "none", "nobody hears it", false, true, NULL },
    { "wav:", "wav:FILE", "recorded in a file, in the guest's time", true, true, audio_wav_open },
    { "pulse", "pulse", "PulseAudio, or PipeWire in its place", false, false, audio_pulse_open },
    { "alsa", "alsa", "ALSA's default device", false, false, audio_alsa_open },
    { "sdl", "sdl", "SDL's default device", false, false, audio_sdl_open },
};

static const struct kind *kind_of(const char *spec, const char **arg)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t n = strlen(kinds[i].name);
        if (kinds[i].arg ? strncmp(spec, kinds[i].name, n) || !spec[n] : strcmp(spec, kinds[i].name)) continue;
        *arg = spec + n;
        return &kinds[i];
    }
    return NULL;
}

const char *audio_name(unsigned i, const char **what)
{
    if (i >= ARRAY_LEN(kinds)) return NULL;
    if (what) *what = kinds[i].what;
    return kinds[i].shown;
}

bool audio_is_file(const char *spec)
{
    const char *arg;
    const struct kind *k = kind_of(spec, &arg);
    return !k || k->file;
}

int audio_check(const char *spec, struct vm_error *err)
{
    const char *arg;
    return kind_of(spec, &arg) ? 0
                               : vm_fail(err, -EINVAL,
                                         "audio: there is no '%.64s'; there are none, wav:FILE, pulse, "
                                         "alsa, sdl",
                                         spec);
}

/* ---- the vCPU thread ---- */

static void audio_put(void *be, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n)
{
    struct audio *a = be;
    BUG_ON(voice >= AUDIO_VOICES || rate < AUDIO_RATE_MIN || rate > AUDIO_RATE_MAX);
    if (!a->sink || !n) return;
    struct block *b = malloc(sizeof *b + (size_t)n * 4);
    u64 worth = (u64)n * AUDIO_RATE / rate;
    if (b) {
        *b = (struct block){ .voice = voice, .rate = rate, .n = n, .at_ns = at_ns };
        memcpy(b->frames, frames, (size_t)n * 4);
    }
    pthread_mutex_lock(&a->lock);
    bool fits = b && a->waiting < a->sink->patience;
    if (fits) {
        a->waiting += worth;
        *a->last = b;
        a->last = &b->next;
        pthread_cond_signal(&a->changed);
    } else {
        a->dropped += worth;
    }
    pthread_mutex_unlock(&a->lock);
    if (!fits) free(b);
}

static void nobody_put(void *be UNUSED, unsigned voice UNUSED, u64 at_ns UNUSED, u32 rate UNUSED,
                       const s16 *frames UNUSED, u32 n UNUSED)
{
}

/* ---- the thread ---- */

static int on_mixed(void *arg, u64 at, const s16 *frames, u32 n)
{
    struct audio *a = arg;
    return a->failed ? 0 : a->sink->play(a->sink, at, frames, n);
}

static void fail(struct audio *a, int rc)
{
    if (!rc || a->failed) return;
    a->failed = true;
    atomic_store(&a->failure, rc);
    if (a->host.wake) a->host.wake(a->host.arg);
}

/* The next block, for the caller to free; NULL: nothing has come for REST_MS, or it ends. rested: do not look at the
 * time. */
static struct block *take(struct audio *a, bool rested, bool *ending)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += REST_MS * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&a->lock);
    while (!a->first && !a->ending && !rc)
        rc = rested ? pthread_cond_wait(&a->changed, &a->lock) : pthread_cond_timedwait(&a->changed, &a->lock, &until);
    struct block *b = a->first;
    if (b) {
        a->first = b->next;
        if (!a->first) a->last = &a->first;
        u64 worth = (u64)b->n * AUDIO_RATE / b->rate;
        a->waiting -= worth;
    }
    *ending = a->ending;
    pthread_mutex_unlock(&a->lock);
    return b;
}

static void *audio_thread(void *arg)
{
    struct audio *a = arg;
    for (bool ending = false, rested = true; !ending;) {
        struct block *b = take(a, rested || a->sink->guest_time, &ending);
        rested = !b;
        if (b) {
            fail(a, audio_mix_put(a->mix, b->voice, b->at_ns, b->rate, b->frames, b->n));
            free(b);
            ending = false; /* what is left is played first */
        } else {
            fail(a, audio_mix_flush(a->mix));
            if (a->sink->rest && !a->failed) a->sink->rest(a->sink);
        }
    }
    return NULL;
}

/* ---- life ---- */

int audio_open(struct audio **out, const char *spec, const struct audio_host *host, struct vm_error *err)
{
    static const struct audiodev_ops heard = { audio_put }, unheard = { nobody_put };
    const char *arg = NULL;
    int rc = audio_check(spec, err);
    if (rc) return rc;
    const struct kind *k = kind_of(spec, &arg);
    struct audio *a = calloc(1, sizeof *a);
    if (!a) return vm_fail(err, -ENOMEM, "audio: out of memory");
    a->host = *host;
    a->last = &a->first;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&a->lock, NULL);
    if (k->open) rc = k->open(&a->sink, arg, err);
    a->dev = (struct audiodev){ .ops = a->sink ? &heard : &unheard, .be = a };
    if (!rc && a->sink) {
        rc = audio_mix_new(&a->mix, on_mixed, a, err);
        if (!rc && (rc = thread_start(&a->thread, THREAD_AUDIO, audio_thread, a)))
            vm_fail(err, rc, "audio: its thread could not be made");
        a->runs = !rc;
    }
    if (rc) audio_close(a);
    else *out = a;
    return rc;
}

void audio_close(struct audio *a)
{
    if (!a) return;
    if (a->runs) {
        pthread_mutex_lock(&a->lock);
        a->ending = true;
        pthread_cond_signal(&a->changed);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->thread, NULL);
    }
    if (a->sink) a->sink->close(a->sink);
    audio_mix_free(a->mix);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

struct audiodev *audio_dev(struct audio *a) { return &a->dev; }

u64 audio_dropped(struct audio *a)
{
    pthread_mutex_lock(&a->lock);
    u64 n = a->dropped;
    pthread_mutex_unlock(&a->lock);
    return n;
}

bool audio_trouble(struct audio *a, struct vm_error *why)
{
    int rc = a ? atomic_exchange(&a->failure, 0) : 0;
    if (rc) vm_fail(why, rc, "audio: it has ended early: %s", strerror(-rc));
    return rc;
}
