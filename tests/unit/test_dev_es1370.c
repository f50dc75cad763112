/* The ES1370 as drivers see it: Ensoniq's specification, rev. 1.0; its codec: AK4531. */
#include "tests/unit/sound_board.h"

#include <math.h>

enum { CONTROL = 0, STATUS = 4, PAGE = 0xc, CODEC = 0x10, SERIAL = 0x20, COUNT1 = 0x24, COUNT2 = 0x28, COUNTR = 0x2c };
enum { DAC1_EN = 1 << 6, DAC2_EN = 1 << 5, ADC_EN = 1 << 4 };
enum { P1_INTEN = 1 << 8, P2_INTEN = 1 << 9, R1_INTEN = 1 << 10, P2_PAUSE = 1 << 12, P2_STOP = 1 << 14 };
#define RATE1(n) ((n) << 12)
#define DIVIDER(rate) ((1411200u / (rate)-2) << 16)
#define INTR 0x80000000u
#define DATA 0x200000u
#define VOICE1 3
#define VOICE2 4

static struct es1370 *card;
static u16 io;

static u32 in(unsigned at) { return rd((u16)(io + at), 4); }
static void out(unsigned at, u32 v) { wr((u16)(io + at), 4, v); }
static void codec(unsigned reg, u8 v) { wr((u16)(io + CODEC), 2, reg << 8 | v); }

static void setup(void)
{
    board_new();
    ck_assert_int_eq(0, es1370_new(&card, bus, clk, pci, SLOT, (struct sound_out){ &ear_dev, VOICE1 }));
    board_start();
    io = (u16)(cfg_read(0x10) & ~3u);
    for (unsigned i = 0; i < 6; i++) codec(i, i < 2 ? 0 : 6); /* 0 dB */
}
static void teardown(void)
{
    es1370_free(card);
    board_free();
}
/* Buffers are of so many frames of 16 bits in stereo. */
static void buffer2(u32 at, u32 frames)
{
    out(PAGE, 0xc);
    out(0x38, at);
    out(0x3c, frames - 1);
}
static void buffer1(u32 at, u32 frames)
{
    out(PAGE, 0xc);
    out(0x30, at);
    out(0x34, frames - 1);
}

START_TEST(after_a_reset_it_stands)
{
    ck_assert_uint_eq(0x50001274, cfg_read(0));
    ck_assert_uint_eq(0x0401, cfg_read(8) >> 16);
    ck_assert_uint_eq(0, in(STATUS) & (INTR | 7));
    ck_assert_uint_eq(0, in(SERIAL));
    ck_assert_uint_eq(0, in(STATUS) >> 8 & 7); /* the codec is not busy */
}
END_TEST

START_TEST(dac2_goes_round_its_buffer_and_interrupts_at_each_count)
{
    put_square(DATA, 4410, 63);
    buffer2(DATA, 4410);
    out(COUNT2, 2204);
    out(SERIAL, 3 << 2 | P2_INTEN | 2 << 19);
    out(CONTROL, DIVIDER(44100) | DAC2_EN);
    advance(49 * MS);
    ck_assert(!intx);
    ck_assert_uint_eq(2204, in(COUNT2)&0xffff);
    ck_assert_uint_lt(in(COUNT2) >> 16, 60);
    out(PAGE, 0xc);
    ck_assert_uint_gt(in(0x3c) >> 16, 2150);
    advance(2 * MS);
    ck_assert(intx);
    ck_assert_uint_eq(INTR | 2, in(STATUS) & (INTR | 7));
    out(SERIAL, 3 << 2 | 2 << 19);
    ck_assert(!intx);
    ck_assert_uint_eq(0, in(STATUS) & (INTR | 7));
    out(SERIAL, 3 << 2 | P2_INTEN | 2 << 19);
    advance(950 * MS);
    out(CONTROL, DIVIDER(44100));
    u32 n = ears[VOICE2].n;
    ck_assert_msg(n >= 44100 && n <= 44200, "%u", n);
    ck_assert_uint_eq(44100, ears[VOICE2].rate);
    ck_assert_uint_eq(0, ears[VOICE2].gaps);
    ck_assert_msg(fabs(pitch(&ears[VOICE2], 0) - 700) < 1, "%f", pitch(&ears[VOICE2], 0));
    ck_assert_int_eq(8000, peak(&ears[VOICE2], 0));
    ck_assert_int_eq(4000, peak(&ears[VOICE2], 1));
    advance(100 * MS);
    ck_assert_uint_eq(n, ears[VOICE2].n);
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
}
END_TEST

START_TEST(dac1_has_four_rates)
{
    static const u32 rates[] = { 5512, 11025, 22050, 44100 };
    put_square(DATA, 4096, 64);
    buffer1(DATA, 4096);
    out(COUNT1, 1023);
    out(SERIAL, 3);
    for (unsigned i = 0; i < 4; i++) {
        forget();
        out(CONTROL, RATE1(i) | DAC1_EN);
        advance(500 * MS);
        out(CONTROL, RATE1(i));
        ck_assert_uint_eq(rates[i], ears[VOICE1].rate);
        ck_assert_msg(abs((int)ears[VOICE1].n - (int)rates[i] / 2) < 4, "%u at %u", ears[VOICE1].n, rates[i]);
    }
    ck_assert_uint_eq(0, ears[VOICE2].n);
}
END_TEST

START_TEST(all_formats_are_heard)
{
    u8 bytes[4096];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = i % 64 < 32 ? 0xc0 : 0x40;
    put(DATA, bytes, sizeof bytes);
    for (unsigned f = 0; f < 4; f++) {
        static const double hz[] = { 16000.0 / 64, 16000.0 / 32, 16000.0 / 32, 16000.0 / 16 };
        forget();
        buffer2(DATA, 1024);
        out(COUNT2, 99);
        out(SERIAL, f << 2);
        out(CONTROL, DIVIDER(16000) | DAC2_EN);
        advance(300 * MS);
        out(CONTROL, 0);
        ck_assert_msg(fabs(pitch(&ears[VOICE2], 0) - hz[f] * 16036 / 16000) < 2, "%u: %f", f, pitch(&ears[VOICE2], 0));
        ck_assert_int_ge(peak(&ears[VOICE2], 1), 16000);
    }
}
END_TEST

START_TEST(a_pause_keeps_the_place_and_stop_mode_stops)
{
    put_square(DATA, 4800, 48);
    buffer2(DATA, 4800);
    out(COUNT2, 1599);
    out(SERIAL, 3 << 2 | P2_INTEN);
    out(CONTROL, DIVIDER(32000) | DAC2_EN);
    advance(20 * MS);
    out(SERIAL, 3 << 2 | P2_INTEN | P2_PAUSE);
    u32 left = in(COUNT2) >> 16;
    ck_assert_msg(left > 920 && left < 970, "%u", left);
    advance(200 * MS);
    ck_assert_uint_eq(left, in(COUNT2) >> 16);
    out(SERIAL, 3 << 2 | P2_INTEN | P2_STOP);
    advance(40 * MS);
    ck_assert(intx);
    u32 n = ears[VOICE2].n;
    ck_assert_uint_eq(1600, n);
    advance(100 * MS);
    ck_assert_uint_eq(n, ears[VOICE2].n);
    out(SERIAL, 3 << 2 | P2_INTEN);
    advance(10 * MS);
    ck_assert_uint_gt(ears[VOICE2].n, n);
}
END_TEST

START_TEST(both_play_together_and_what_is_recorded_is_silence)
{
    put_square(DATA, 4410, 63);
    put_square(DATA + 0x10000, 4410, 45);
    put_square(DATA + 0x20000, 4410, 45);
    buffer1(DATA + 0x10000, 4410);
    buffer2(DATA, 4410);
    out(PAGE, 0xd);
    out(0x30, DATA + 0x20000);
    out(0x34, 4409);
    out(COUNT1, 999), out(COUNT2, 999), out(COUNTR, 2204);
    out(SERIAL, 3 | 3 << 2 | 3 << 4 | R1_INTEN);
    out(CONTROL, DIVIDER(44100) | RATE1(3) | DAC1_EN | DAC2_EN | ADC_EN);
    advance(51 * MS);
    ck_assert_uint_eq(INTR | 1, in(STATUS) & (INTR | 7));
    u32 v;
    ck_assert_uint_eq(4, bus_dma_read(bus, DATA + 0x20000 + 4 * 2000, &v, 4));
    ck_assert_uint_eq(0, v);
    ck_assert_msg(fabs(pitch(&ears[VOICE2], 0) - 700) < 20, "%f", pitch(&ears[VOICE2], 0));
    ck_assert_msg(fabs(pitch(&ears[VOICE1], 0) - 980) < 20, "%f", pitch(&ears[VOICE1], 0));
}
END_TEST

START_TEST(the_codec_s_volumes_are_in_steps_of_two_decibels)
{
    for (unsigned i = 0; i < 512; i++) put32(DATA + 4 * i, 5000 | 5000 << 16);
    buffer2(DATA, 512);
    out(COUNT2, 511);
    out(SERIAL, 3 << 2);
    static const struct {
        u8 master, voice;
        double db;
    } cases[] = { { 0, 6, 0 }, { 3, 6, -6 }, { 0, 9, -6 }, { 0, 3, 6 }, { 0x80, 6, -200 }, { 0, 0x86, -200 } };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        codec(0, cases[i].master), codec(2, cases[i].voice);
        forget();
        out(CONTROL, DIVIDER(44100) | DAC2_EN);
        advance(10 * MS);
        out(CONTROL, 0);
        double want = 5000 * pow(10, cases[i].db / 20);
        ck_assert_msg(fabs(ears[VOICE2].frame[9][0] - want) < 1 + want * 0.01, "%u: %d", i, ears[VOICE2].frame[9][0]);
        ck_assert_int_eq(5000, ears[VOICE2].frame[9][1]);
    }
}
END_TEST

START_TEST(it_is_saved_in_the_middle_of_a_buffer)
{
    struct es1370 *other;
    put_square(DATA, 4410, 63);
    buffer2(DATA, 4410);
    out(COUNT2, 999);
    out(SERIAL, 3 << 2 | P2_INTEN);
    out(CONTROL, DIVIDER(22050) | DAC2_EN);
    advance(117 * MS);
    ck_assert_int_eq(0, es1370_new(&other, bus, clk, pci, SLOT + 1, (struct sound_out){ &ear_dev, VOICE2 + 1 }));
    hand_over(es1370_part(card), es1370_part(other));
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 4); /* its bus mastering, which is PCI's to save */
    forget();
    advance(500 * MS);
    ck_assert_uint_ge(ears[VOICE2].n, 10000);
    ck_assert_uint_eq(ears[VOICE2].n, ears[VOICE2 + 2].n);
    ck_assert_mem_eq(ears[VOICE2].frame, ears[VOICE2 + 2].frame, ears[VOICE2].n * 4);
    es1370_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("es1370");
    TCase *c = tcase_create("es1370");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, after_a_reset_it_stands);
    tcase_add_test(c, dac2_goes_round_its_buffer_and_interrupts_at_each_count);
    tcase_add_test(c, dac1_has_four_rates);
    tcase_add_test(c, all_formats_are_heard);
    tcase_add_test(c, a_pause_keeps_the_place_and_stop_mode_stops);
    tcase_add_test(c, both_play_together_and_what_is_recorded_is_silence);
    tcase_add_test(c, the_codec_s_volumes_are_in_steps_of_two_decibels);
    tcase_add_test(c, it_is_saved_in_the_middle_of_a_buffer);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
