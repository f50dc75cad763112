/* Sound's way to the host: the mixer, the queue, the recording. */
#include "src/back/audio.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define HEARD_MAX 400000u

/* ---- the mixer ---- */

static s16 heard[HEARD_MAX][2]; /* from frame `first` on */
static u64 first, behind;
static unsigned calls;

static int on_mixed(void *arg UNUSED, u64 at, const s16 *frames, u32 n)
{
    if (!calls++) first = behind = at;
    ck_assert_uint_ge(at, behind);
    ck_assert_uint_le(at + n - first, HEARD_MAX);
    memcpy(heard[at - first], frames, n * 4);
    behind = at + n;
    return 0;
}

static int in_order(void *arg UNUSED, u64 at, const s16 *frames UNUSED, u32 n)
{
    ck_assert_uint_ge(at, behind);
    behind = at + n;
    return 0;
}

static struct audio_mix *mix;
static struct vm_error err;
static void setup(void)
{
    memset(heard, 0, sizeof heard);
    first = behind = calls = 0;
    ck_assert_int_eq(0, audio_mix_new(&mix, on_mixed, NULL, &err));
}
static void teardown(void) { audio_mix_free(mix); }

/* From frame `from` of a tone on, n frames of it. */
static void tone(unsigned voice, u64 start_ns, u32 rate, double hz, double loud, u64 from, u32 n)
{
    static s16 f[48000][2];
    for (u32 i = 0; i < n; i++) f[i][0] = f[i][1] = (s16)(loud * sin(2 * M_PI * hz * (double)(from + i) / rate));
    ck_assert_int_eq(0, audio_mix_put(mix, voice, start_ns + from * SECOND / rate, rate, f[0], n));
}

/* How much of a frequency there is in [from, to): the amplitude. */
static double amplitude(u32 from, u32 to, double hz)
{
    double re = 0, im = 0;
    for (u32 i = from; i < to; i++) {
        re += heard[i][0] * cos(2 * M_PI * hz * i / AUDIO_RATE);
        im += heard[i][0] * sin(2 * M_PI * hz * i / AUDIO_RATE);
    }
    return 2 * sqrt(re * re + im * im) / (to - from);
}

START_TEST(every_rate_comes_out_at_48_khz_in_its_time)
{
    static const u32 rates[] = { 4000, 8000, 11025, 22050, 32000, 44100, 48000, 96000 };
    u32 rate = rates[_i], part = rate / 97;
    for (u64 done = 0; done < rate; done += part) tone(1, 3 * SECOND, rate, 440, 10000, done, part);
    ck_assert_int_eq(0, audio_mix_flush(mix));
    ck_assert_uint_eq(3 * AUDIO_RATE, first);
    double want = (double)((rate + part - 1) / part * part) * AUDIO_RATE / rate;
    ck_assert_msg(fabs((double)(behind - first) - want) < 50, "%llu frames instead of %f",
                  (unsigned long long)(behind - first), want);
    ck_assert_msg(fabs(amplitude(4800, 43200, 440) - 10000) < 300, "%f", amplitude(4800, 43200, 440));
    for (u32 i = 4800; i < 43200; i++) { /* nothing else is there, and nothing is missing */
        double rms = 0;
        if (i % 480) continue;
        for (u32 k = 0; k < 480; k++) rms += (double)heard[i + k][0] * heard[i + k][0] / 480;
        ck_assert_msg(fabs(sqrt(rms) - 10000 / sqrt(2)) < 900, "at %u: %f", i, sqrt(rms));
    }
}
END_TEST

START_TEST(sources_are_added_at_their_times)
{
    for (unsigned i = 0; i < 100; i++) {
        tone(0, SECOND, 48000, 400, 8000, 480 * i, 480);
        tone(1, SECOND, 44100, 1000, 6000, 441 * i, 441);
        if (i >= 50) tone(2, SECOND, 22050, 2500, 4000, 220 * i, 220);
    }
    ck_assert_int_eq(0, audio_mix_flush(mix));
    ck_assert_uint_eq(AUDIO_RATE, first);
    ck_assert_msg(fabs(amplitude(4800, 19200, 400) - 8000) < 200, "%f", amplitude(4800, 19200, 400));
    ck_assert_msg(fabs(amplitude(4800, 19200, 1000) - 6000) < 200, "%f", amplitude(4800, 19200, 1000));
    ck_assert_msg(amplitude(4800, 19200, 2500) < 100, "%f", amplitude(4800, 19200, 2500));
    ck_assert_msg(fabs(amplitude(28800, 43200, 400) - 8000) < 200, "%f", amplitude(28800, 43200, 400));
}
END_TEST

START_TEST(what_is_too_loud_together_is_clipped)
{
    for (unsigned v = 0; v < 3; v++) tone(v, SECOND, 48000, 50, 30000, 0, 960);
    ck_assert_int_eq(0, audio_mix_flush(mix));
    ck_assert_int_eq(INT16_MAX, heard[240][0]);
    ck_assert_int_eq(INT16_MIN, heard[720][1]);
}
END_TEST

START_TEST(silence_between_sounds_is_nobody_s_and_takes_nothing)
{
    tone(0, SECOND, 48000, 400, 8000, 0, 480);
    tone(0, 5 * SECOND, 48000, 400, 8000, 0, 480);
    ck_assert_int_eq(0, audio_mix_flush(mix));
    ck_assert_uint_eq(5 * AUDIO_RATE + 480, behind);
    ck_assert_uint_eq(AUDIO_RATE, first);
    ck_assert_uint_le(calls, 4);
}
END_TEST

START_TEST(a_source_that_stops_does_not_hold_up_the_others)
{
    tone(0, SECOND, 48000, 400, 8000, 0, 480);
    for (unsigned i = 0; i < 100; i++) tone(1, SECOND, 48000, 400, 8000, 480 * i, 480);
    ck_assert_uint_ge(behind, AUDIO_RATE + 100 * 480 - 2400);
}
END_TEST

START_TEST(what_comes_too_late_is_left_out)
{
    tone(0, 2 * SECOND, 48000, 400, 8000, 0, 4800);
    ck_assert_uint_ge(behind, 2 * AUDIO_RATE + 2400);
    tone(1, 2 * SECOND, 48000, 400, 8000, 0, 4800);
    tone(1, 6 * SECOND, 48000, 400, 8000, 0, 480);
    ck_assert_int_eq(0, audio_mix_flush(mix));
    ck_assert_uint_eq(first, 2 * AUDIO_RATE);
    ck_assert_int_le(abs(heard[30][0]), 8000);
}
END_TEST

/* Times in ns, rates that change, sources that come and go, for as long as one likes: nothing breaks. */
START_TEST(nothing_that_a_card_may_do_breaks_it)
{
    static s16 noise[3000][2];
    u32 rng = 1;
    u64 now = SECOND;
    audio_mix_free(mix);
    ck_assert_int_eq(0, audio_mix_new(&mix, in_order, NULL, &err));
    for (unsigned i = 0; i < 3000; i++) {
        u32 r = rng = rng * 1664525 + 1013904223;
        u32 rate = r >> 8 & 1 ? 48000 : AUDIO_RATE_MIN + (r >> 9) % (AUDIO_RATE_MAX - AUDIO_RATE_MIN + 1);
        u64 at = r % 7 ? now : now + (u64)(r >> 3) * 1000;
        if (r % 101 == 0) at = 0;
        ck_assert_int_eq(0, audio_mix_put(mix, r % AUDIO_VOICES, at, rate, noise[0], 1 + (r >> 12) % 3000));
        now += 1000000;
        if (r % 50 == 1) ck_assert_int_eq(0, audio_mix_flush(mix));
    }
}
END_TEST

/* ---- the recording ---- */

static char folder[] = "/tmp/audio-XXXXXX", path[64], spec[80];
static unsigned wakes;
static void on_wake(void *arg UNUSED) { wakes++; }
static const struct audio_host host = { on_wake, NULL };

static u32 le32(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }

/* The file is a whole one; returns how many frames it has. */
static u32 wav_frames(void)
{
    u8 h[44];
    struct stat st;
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(sizeof h, read(fd, h, sizeof h));
    ck_assert_int_eq(0, fstat(fd, &st));
    close(fd);
    ck_assert_mem_eq(h, "RIFF", 4);
    ck_assert_mem_eq(h + 8, "WAVEfmt \x10\0\0\0\1\0\2\0\x80\xbb\0\0\0\xee\2\0\4\0\x10\0data", 32);
    ck_assert_uint_eq(le32(h + 4), le32(h + 40) + 36);
    ck_assert_uint_eq(0, le32(h + 40) % 4);
    ck_assert_int_ge(st.st_size, 44 + le32(h + 40));
    return le32(h + 40) / 4;
}

static void play(struct audio *a, u64 at_ns, u32 n)
{
    static s16 f[96000][2];
    for (u32 i = 0; i < n; i++) f[i][0] = f[i][1] = (s16)(i % 100 + 1);
    audiodev_put(audio_dev(a), 0, at_ns, 48000, f[0], n);
}

START_TEST(a_recording_is_whole_at_any_moment_and_in_guest_time)
{
    struct audio *a;
    struct vm_error err;
    ck_assert_msg(!audio_open(&a, spec, &host, &err), "%s", err.text);
    ck_assert_uint_eq(0, wav_frames());
    for (unsigned i = 0; i < 50; i++) { /* the guest pauses after each: there is no gap in its time */
        play(a, 7 * SECOND + i * SECOND / 100, 480);
        usleep(3000);
        ck_assert_uint_le(wav_frames(), 480 * (i + 1));
    }
    play(a, 17 * SECOND, 480);
    audio_close(a);
    ck_assert_uint_eq(10 * AUDIO_RATE + 480, wav_frames());
    struct stat st;
    ck_assert_int_eq(0, stat(path, &st));
    ck_assert_int_eq(44 + (10 * AUDIO_RATE + 480) * 4, st.st_size);
    ck_assert_int_lt(st.st_blocks * 512, 400000); /* silence is a hole */
    s16 f[2];
    int fd = open(path, O_RDONLY);
    for (u32 i = 0; i < 24000; i++) {
        ck_assert_int_eq(4, pread(fd, f, 4, 44 + 4 * i));
        ck_assert_int_eq((s16)(i % 480 % 100 + 1), f[0]);
    }
    close(fd);
}
END_TEST

START_TEST(a_full_disk_leaves_a_whole_file_and_is_told_once)
{
    struct audio *a;
    struct vm_error err;
    const struct rlimit small = { 40000, RLIM_INFINITY };
    ck_assert_msg(!audio_open(&a, spec, &host, &err), "%s", err.text);
    ck_assert_int_eq(0, setrlimit(RLIMIT_FSIZE, &small));
    for (unsigned i = 0; i < 100; i++) play(a, SECOND + i * SECOND / 100, 480);
    for (unsigned i = 0; i < 1000 && !__atomic_load_n(&wakes, __ATOMIC_ACQUIRE); i++) usleep(10000);
    ck_assert_uint_eq(1, wakes);
    ck_assert(audio_trouble(a, &err));
    ck_assert_str_eq(err.text, "audio: it has ended early: File too large");
    ck_assert(!audio_trouble(a, &err));
    audio_close(a);
    ck_assert_uint_eq((40000 - 44) / 4, wav_frames());
    ck_assert_uint_eq(1, wakes);
}
END_TEST

START_TEST(what_cannot_be_recorded_is_one_line)
{
    struct audio *a;
    struct vm_error err;
    static const char *const bad[][2] = {
        { "wav:/nonexistent/x", "audio wav:/nonexistent/x: No such file or directory" },
        { "wav:/dev/null", "audio wav:/dev/null: it is no regular file" },
        { "wav:", "audio: there is no 'wav:'; there are none, wav:FILE, pulse, alsa, sdl" },
        { "oss", "audio: there is no 'oss'; there are none, wav:FILE, pulse, alsa, sdl" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_int_lt(audio_open(&a, bad[i][0], &host, &err), 0);
        ck_assert_str_eq(err.text, bad[i][1]);
    }
}
END_TEST

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/a.wav", folder);
    snprintf(spec, sizeof spec, "wav:%s", path);
    Suite *s = suite_create("audio");
    TCase *c = tcase_create("mixer");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, every_rate_comes_out_at_48_khz_in_its_time, 0, 8);
    tcase_add_test(c, sources_are_added_at_their_times);
    tcase_add_test(c, what_is_too_loud_together_is_clipped);
    tcase_add_test(c, silence_between_sounds_is_nobody_s_and_takes_nothing);
    tcase_add_test(c, a_source_that_stops_does_not_hold_up_the_others);
    tcase_add_test(c, what_comes_too_late_is_left_out);
    tcase_add_test(c, nothing_that_a_card_may_do_breaks_it);
    suite_add_tcase(s, c);
    c = tcase_create("recording");
    tcase_add_test(c, a_recording_is_whole_at_any_moment_and_in_guest_time);
    tcase_add_test(c, a_full_disk_leaves_a_whole_file_and_is_told_once);
    tcase_add_test(c, what_cannot_be_recorded_is_one_line);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    unlink(path);
    rmdir(folder);
    return failed != 0;
}
