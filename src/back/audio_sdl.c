/* Owns SDL's default audio device. */
#include "src/back/audio.h"
#include "src/error.h"

#include <SDL2/SDL.h>
#include <errno.h>
#include <time.h>

#define QUEUED_MAX (AUDIO_RATE / 10 * 4) /* bytes: a tenth of a second */
#define WAIT_MS 5u
#define WAITS 200u /* a device that takes nothing for so long takes nothing any more */

struct sdl {
    struct audio_sink sink; /* first: the two are cast into each other */
    SDL_AudioDeviceID device;
    bool started;
    __typeof__(SDL_InitSubSystem) *init;
    __typeof__(SDL_QuitSubSystem) *quit;
    __typeof__(SDL_SetHint) *set_hint;
    __typeof__(SDL_OpenAudioDevice) *open;
    __typeof__(SDL_CloseAudioDevice) *close;
    __typeof__(SDL_PauseAudioDevice) *pause;
    __typeof__(SDL_QueueAudio) *queue;
    __typeof__(SDL_GetQueuedAudioSize) *queued;
    __typeof__(SDL_GetError) *error;
};

static int sdl_play(struct audio_sink *s, u64 at UNUSED, const s16 *frames, u32 n)
{
    const struct timespec moment = { 0, WAIT_MS * 1000000 };
    struct sdl *d = (struct sdl *)s;
    for (unsigned i = 0; d->queued(d->device) > QUEUED_MAX; i++) {
        if (i == WAITS) return -EIO;
        nanosleep(&moment, NULL);
    }
    return d->queue(d->device, frames, n * 4) ? -EIO : 0;
}

static void sdl_close(struct audio_sink *s)
{
    struct sdl *d = (struct sdl *)s;
    const struct timespec moment = { 0, WAIT_MS * 1000000 };
    for (unsigned i = 0; d->device && d->queued(d->device) && i < WAITS; i++) nanosleep(&moment, NULL);
    if (d->device) d->close(d->device);
    if (d->started) d->quit(SDL_INIT_AUDIO);
    free(d);
}

int audio_sdl_open(struct audio_sink **out, const char *arg UNUSED, struct vm_error *err)
{
    static const SDL_AudioSpec format = { .freq = AUDIO_RATE, .format = AUDIO_S16LSB, .channels = 2, .samples = 1024 };
    struct sdl *d = calloc(1, sizeof *d);
    if (!d) return vm_fail(err, -ENOMEM, "audio sdl: out of memory");
    d->sink = (struct audio_sink){ .patience = AUDIO_RATE / 4, .play = sdl_play, .close = sdl_close };
    const struct audio_symbol list[] = {
        { "SDL_InitSubSystem", &d->init },     { "SDL_QuitSubSystem", &d->quit },
        { "SDL_SetHint", &d->set_hint },       { "SDL_OpenAudioDevice", &d->open },
        { "SDL_CloseAudioDevice", &d->close }, { "SDL_PauseAudioDevice", &d->pause },
        { "SDL_QueueAudio", &d->queue },       { "SDL_GetQueuedAudioSize", &d->queued },
        { "SDL_GetError", &d->error },
    };
    int rc = audio_library("sdl", "libSDL2-2.0.so.0", "libsdl2-2.0-0", list, ARRAY_LEN(list), err);
    if (!rc) {
        (void)d->set_hint(SDL_HINT_NO_SIGNAL_HANDLERS, "1"); /* signals are the program's */
        d->started = !d->init(SDL_INIT_AUDIO);
        if (d->started) d->device = d->open(NULL, 0, &format, NULL, 0);
        if (d->device) d->pause(d->device, 0);
        else rc = vm_fail(err, -ENODEV, "audio sdl: %.200s", d->error());
    }
    if (rc) sdl_close(&d->sink);
    else *out = &d->sink;
    return rc;
}
