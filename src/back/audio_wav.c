/* Owns a recording: RIFF WAVE, PCM (Microsoft, Multimedia Programming Interface 1.0, 1991), in guest time from the
 * first sound on. What is silent is a hole in the file.
 *   I1  The file is a whole one at any moment: samples are written first, then the header that counts them.  [wav_play]
 * Enter at wav_play(). */
#define _DEFAULT_SOURCE
#include "core/hostfd.h"
#include "src/back/audio.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define HEADER 44u
#define FRAME 4u                                   /* bytes */
#define FRAMES_MAX ((UINT32_MAX - HEADER) / FRAME) /* its lengths have 32 bits */

struct wav {
    struct audio_sink sink; /* first: the two are cast into each other */
    int fd;
    bool begun;
    u64 first, frames; /* of guest time; how many there are */
};

static void put32(u8 *p, u32 v)
{
    for (unsigned i = 0; i < 4; i++) p[i] = (u8)(v >> 8 * i);
}

static int write_at(struct wav *w, const void *data, size_t n, u64 at, size_t *done)
{
    for (*done = 0; *done < n;) {
        const struct iovec rest = { (u8 *)data + *done, n - *done };
        ssize_t got = pwritev(w->fd, &rest, 1, (off_t)(at + *done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got ? -errno : -ENOSPC;
        *done += (size_t)got;
    }
    return 0;
}

static int header_write(struct wav *w)
{
    /* RIFF, length, WAVE; fmt: PCM, two channels, rate, bytes a second, bytes a frame, bits; data, length. */
    u8 h[HEADER] = "RIFF----WAVEfmt \x10\0\0\0\1\0\2\0----****\4\0\x10\0data----";
    size_t done;
    put32(h + 4, HEADER - 8 + (u32)w->frames * FRAME);
    put32(h + 24, AUDIO_RATE);
    put32(h + 28, AUDIO_RATE * FRAME);
    put32(h + 40, (u32)w->frames * FRAME);
    return write_at(w, h, sizeof h, 0, &done);
}

static int wav_play(struct audio_sink *s, u64 at, const s16 *frames, u32 n)
{
    struct wav *w = (struct wav *)s;
    size_t done;
    if (!w->begun) w->first = at;
    w->begun = true;
    u64 from = at - w->first;
    if (from + n > FRAMES_MAX) return -EFBIG;
    int rc = write_at(w, frames, (size_t)n * FRAME, HEADER + from * FRAME, &done);
    if (done >= FRAME) w->frames = from + done / FRAME;
    int rc2 = header_write(w);
    return rc ? rc : rc2;
}

static void wav_close(struct audio_sink *s)
{
    struct wav *w = (struct wav *)s;
    if (w->fd >= 0) close(w->fd);
    free(w);
}

int audio_wav_open(struct audio_sink **out, const char *path, struct vm_error *err)
{
    struct stat st;
    struct wav *w = calloc(1, sizeof *w);
    if (!w) return vm_fail(err, -ENOMEM, "audio wav:%s: out of memory", path);
    w->sink =
        (struct audio_sink){ .patience = 10 * AUDIO_RATE, .guest_time = true, .play = wav_play, .close = wav_close };
    w->fd = hostfd(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0666));
    int rc = w->fd < 0 ? -errno : 0;
    if (!rc && (fstat(w->fd, &st) || !S_ISREG(st.st_mode))) {
        wav_close(&w->sink);
        return vm_fail(err, -EINVAL, "audio wav:%s: it is no regular file", path);
    }
    if (!rc) rc = header_write(w);
    if (rc) {
        wav_close(&w->sink);
        return vm_fail(err, rc, "audio wav:%s: %s", path, strerror(-rc));
    }
    *out = &w->sink;
    return 0;
}
