/* The PC's speaker: what counter 2 and port B make is heard. */
#include "tests/unit/sound_board.h"

#include <math.h>

static struct pit *pit;
static struct speaker *speaker;

static void setup(void)
{
    static const struct irq_line none;
    board_new();
    ck_assert_int_eq(0, pit_new(&pit, bus, clk, none));
    ck_assert_int_eq(0, speaker_new(&speaker, clk, pit, (struct sound_out){ &ear_dev, 2 }));
}
static void teardown(void)
{
    speaker_free(speaker);
    pit_free(pit);
    board_free();
}
static void tone(u16 count)
{
    wr(0x43, 1, 0xb6);
    wr(0x42, 1, count & 0xff);
    wr(0x42, 1, count >> 8);
    wr(0x61, 1, 3);
}

START_TEST(a_tone_has_the_counter_s_frequency_and_no_gap)
{
    static const u16 counts[] = { 11932, 2712, 1193, 239 };
    for (unsigned i = 0; i < ARRAY_LEN(counts); i++) {
        double want = (double)PIT_HZ / counts[i];
        forget();
        tone(counts[i]);
        advance(600 * MS);
        ck_assert_msg(fabs(pitch(&ears[2], 0) - want) < want * 0.002, "%f instead of %f", pitch(&ears[2], 0), want);
        ck_assert_double_eq(pitch(&ears[2], 0), pitch(&ears[2], 1));
        ck_assert_uint_eq(0, ears[2].gaps);
        ck_assert_int_ge(peak(&ears[2], 0), 4000);
        wr(0x61, 1, 0);
        advance(100 * MS);
    }
}
END_TEST

START_TEST(nothing_is_played_while_nothing_is_to_be_heard)
{
    advance(100 * MS);
    ck_assert_uint_eq(0, ears[2].n);
    tone(1193);
    advance(100 * MS);
    wr(0x61, 1, 0);
    advance(SECOND);
    u32 n = ears[2].n;
    ck_assert_uint_ge(n, 4800);
    ck_assert_uint_le(n, 48000);
    advance(SECOND);
    ck_assert_uint_eq(n, ears[2].n);
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
    wr(0x61, 1, 2); /* the gate is shut: OUT is high for good */
    advance(SECOND);
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
}
END_TEST

START_TEST(a_tone_far_beyond_hearing_is_silent)
{
    tone(10); /* 119 kHz */
    advance(200 * MS);
    forget();
    advance(100 * MS);
    ck_assert_int_le(peak(&ears[2], 0), 1500);
}
END_TEST

START_TEST(the_bit_itself_makes_sound_while_out_is_high)
{
    wr(0x43, 1, 0x90); /* counter 2: mode 0, low byte */
    wr(0x42, 1, 1);
    wr(0x61, 1, 1);
    advance(MS);
    forget();
    for (unsigned i = 0; i < 400; i++) {
        wr(0x61, 1, 1 | (i & 1) << 1);
        advance(MS);
    }
    ck_assert_msg(fabs(pitch(&ears[2], 0) - 500) < 2, "%f", pitch(&ears[2], 0));
    ck_assert_uint_eq(0, ears[2].gaps);
}
END_TEST

/* As games play samples: a pulse of counter 2 in mode 0 for each, 16 kHz, whose width is the sample. */
START_TEST(pulse_widths_are_samples)
{
    wr(0x43, 1, 0x90);
    wr(0x61, 1, 3);
    forget();
    for (unsigned i = 0; i < 6400; i++) {
        double s = sin(2 * M_PI * 440 * i / 16000);
        wr(0x42, 1, (u8)(36 - s * 30)); /* low for so many clocks of 74.6 */
        advance(62500);
    }
    ears[2].n -= 10; /* its end */
    /* What is above 8 kHz goes; then the tone is left. */
    double mean[3] = { 0 }, was = 0;
    unsigned rising = 0;
    for (u32 i = 2; i < ears[2].n; i++) {
        mean[i % 3] = ears[2].frame[i][0];
        double v = (mean[0] + mean[1] + mean[2]) / 3;
        rising += was < -200 && v >= -200;
        if (v < -200 || v > 200) was = v;
        else if (was < -200) was = 0;
    }
    ck_assert_msg(rising > 150 && rising < 200, "%u cycles of 176", rising);
}
END_TEST

START_TEST(it_is_saved_in_the_middle_of_a_tone)
{
    struct pit *pit2;
    struct speaker *other;
    static const struct irq_line none;
    struct bus *first = bus;
    tone(2712);
    advance(105 * MS);
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    ck_assert_int_eq(0, pit_new(&pit2, bus, clk, none));
    ck_assert_int_eq(0, speaker_new(&other, clk, pit2, (struct sound_out){ &ear_dev, 3 }));
    hand_over(pit_part(pit), pit_part(pit2));
    hand_over(speaker_part(speaker), speaker_part(other));
    forget();
    advance(200 * MS);
    ck_assert_uint_eq(ears[2].n, ears[3].n);
    ck_assert_uint_eq(ears[2].from_ns, ears[3].from_ns);
    ck_assert_mem_eq(ears[2].frame, ears[3].frame, ears[2].n * 4);
    ck_assert_int_ge(peak(&ears[3], 0), 4000);
    speaker_free(other);
    pit_free(pit2);
    bus_free(bus);
    bus = first;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("speaker");
    TCase *c = tcase_create("speaker");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_tone_has_the_counter_s_frequency_and_no_gap);
    tcase_add_test(c, nothing_is_played_while_nothing_is_to_be_heard);
    tcase_add_test(c, a_tone_far_beyond_hearing_is_silent);
    tcase_add_test(c, the_bit_itself_makes_sound_while_out_is_high);
    tcase_add_test(c, pulse_widths_are_samples);
    tcase_add_test(c, it_is_saved_in_the_middle_of_a_tone);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
