/* Sound outside of the machine.
 *
 * Threads. The vCPU thread puts samples into a bounded queue. A thread of the back end's own brings them to one rate,
 * mixes them and gives them to a sink: a file, or a library that plays them. What the queue has no room for is dropped
 * and counted.
 *
 * Time. Samples carry the guest time at which they are heard, so what is recorded is what the guest plays, whatever
 * the host does meanwhile. */
#ifndef SRC_AUDIO_H
#define SRC_AUDIO_H
#include "core/audiodev.h"
#include "transvisor/vm.h"

#define AUDIO_RATE 48000u /* frames a second, of what sinks get: two channels of 16 bits */

/* ---- audio.c: queue, mixer, thread ---- */

/* Called on the back end's thread: audio_trouble() has something to tell. */
struct audio_host {
    void (*wake)(void *arg);
    void *arg;
};
struct audio;
/* spec: as vm_config.audio has it. 0 or -errno; err: "audio ..: ..". */
MUST_CHECK int audio_open(struct audio **out, const char *spec, const struct audio_host *host, struct vm_error *err);
MUST_CHECK int audio_check(const char *spec, struct vm_error *err); /* whether there is such: 0 or -EINVAL */
void audio_close(struct audio *a); /* plays what is in the queue first; copes with NULL */
struct audiodev *audio_dev(struct audio *a);
u64 audio_dropped(struct audio *a); /* frames that the queue had no room for */
/* true, once: the sink has failed, and why. */
bool audio_trouble(struct audio *a, struct vm_error *why);
const char *audio_name(unsigned i, const char **what);
bool audio_is_file(const char *spec); /* needs nothing of the host but a file, or not even that */

/* ---- audio_mix.c: sources at whatever rate to one stream ---- */

/* n frames from frame `at` of guest time on; what lies between two calls is silent. 0 or -errno: no more is wanted. */
typedef int audio_out_fn(void *arg, u64 at, const s16 *frames, u32 n);
struct audio_mix;
/* 0 or -errno; libsamplerate is loaded. */
MUST_CHECK int audio_mix_new(struct audio_mix **out, audio_out_fn *fn, void *arg, struct vm_error *err);
void audio_mix_free(struct audio_mix *m); /* copes with NULL */
/* As audiodev_put(). Gives away what no source can add to any more. 0, or what fn has returned. */
MUST_CHECK int audio_mix_put(struct audio_mix *m, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n);
MUST_CHECK int audio_mix_flush(struct audio_mix *m); /* gives away all of it: nobody plays any more */

/* ---- sinks: on the back end's thread, once it runs ---- */

struct audio_sink {
    u32 patience;    /* frames that may wait in the queue */
    bool guest_time; /* silence on the host is none in the guest: a source that pauses is not taken for one that ends */
    int (*play)(struct audio_sink *s, u64 at, const s16 *frames, u32 n); /* as audio_out_fn; may wait */
    void (*rest)(struct audio_sink *s); /* nobody plays for now: what has been given is to be heard. NULL: it is */
    void (*close)(struct audio_sink *s);
};
MUST_CHECK int audio_wav_open(struct audio_sink **out, const char *path, struct vm_error *err);
MUST_CHECK int audio_pulse_open(struct audio_sink **out, const char *arg, struct vm_error *err);
MUST_CHECK int audio_alsa_open(struct audio_sink **out, const char *arg, struct vm_error *err);
MUST_CHECK int audio_sdl_open(struct audio_sink **out, const char *arg, struct vm_error *err);

/* ---- audio_library.c: libraries that are loaded when a machine wants them ---- */

struct audio_symbol {
    const char *name;
    void *at; /* where the pointer to it goes */
};
/* 0 or -errno. *handle, for dlclose(), is never closed once one of its functions has run: some leave threads. */
MUST_CHECK int audio_library(const char *who, const char *file, const char *package, const struct audio_symbol *list,
                             size_t n, struct vm_error *err);

#endif
