/* Where a sound card's samples go, as the card sees it. All of it runs on the vCPU thread; what waits for the host is
 * the back end's own thread (src/back/audio.h). */
#ifndef CORE_AUDIODEV_H
#define CORE_AUDIODEV_H
#include "core/types.h"

#define AUDIO_VOICES 8u /* sources that are heard together */
#define AUDIO_RATE_MIN 1000u
#define AUDIO_RATE_MAX 200000u

struct audiodev_ops {
    void (*put)(void *be, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n);
};
struct audiodev {
    const struct audiodev_ops *ops;
    void *be;
};

/* n frames, left and right, at AUDIO_RATE_MIN to AUDIO_RATE_MAX a second, the first of which is heard at guest time
 * at_ns. Copies them; never waits. What a source gives follows what it gave before, or there is silence between. */
static inline void audiodev_put(const struct audiodev *d, unsigned voice, u64 at_ns, u32 rate, const s16 *frames, u32 n)
{
    d->ops->put(d->be, voice, at_ns, rate, frames, n);
}

#endif
