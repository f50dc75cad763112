/* The Sound Blaster 16 as drivers see it: Creative's programming guide; and the DMA controllers it plays by. */
#include "tests/unit/sound_board.h"

#include <math.h>

/* clang-format off */
enum { MIXER = SB16_PORT + 4, RESET = SB16_PORT + 6, READ = SB16_PORT + 10, WRITE = SB16_PORT + 12,
    STATUS = SB16_PORT + 14 };
/* clang-format on */
#define DATA 0x200000u
#define VOICE 2

static struct sb16 *card;
static struct dma8237 *dma;

static void dsp(u8 v)
{
    ck_assert_uint_eq(0, rd(WRITE, 1) & 0x80);
    wr(WRITE, 1, v);
}
static void dsp_word(u8 command, u32 v)
{
    dsp(command);
    dsp((u8)v);
    dsp((u8)(v >> 8));
}
static void rate(u32 hz)
{
    dsp(0x41);
    dsp((u8)(hz >> 8));
    dsp((u8)hz);
}
static u8 answer(void)
{
    ck_assert_uint_eq(0x80, rd(STATUS, 1) & 0x80);
    return (u8)rd(READ, 1);
}
static void reset(void)
{
    wr(RESET, 1, 1);
    wr(RESET, 1, 0);
    ck_assert_uint_eq(0xaa, answer());
    ck_assert_uint_eq(0, rd(STATUS, 1) & 0x80);
}
static u8 mixer(u8 index)
{
    wr(MIXER, 1, index);
    return (u8)rd(MIXER + 1, 1);
}
static void mixer_set(u8 index, u8 v)
{
    wr(MIXER, 1, index);
    wr(MIXER + 1, 1, v);
}
/* A DMA channel (1, 3 or 5) reads so many bytes at a place. */
static void channel(unsigned n, u32 at, u32 bytes, bool again)
{
    static const u16 pages[] = { 0, 0x83, 0, 0x82, 0, 0x8b };
    unsigned base = n < 4 ? 0 : 0xc0, step = n < 4 ? 1 : 2, k = n % 4;
    u32 a = n < 4 ? at : at >> 1, c = (n < 4 ? bytes : bytes / 2) - 1;
    wr((u16)(base + 10 * step), 1, 4 | k);
    wr((u16)(base + 12 * step), 1, 0);
    wr((u16)(base + 11 * step), 1, 0x48 | (again ? 0x10u : 0) | k);
    for (unsigned i = 0; i < 2; i++) wr((u16)(base + 2 * k * step), 1, a >> 8 * i & 0xff);
    for (unsigned i = 0; i < 2; i++) wr((u16)(base + (2 * k + 1) * step), 1, c >> 8 * i & 0xff);
    wr(pages[n], 1, at >> 16);
    wr((u16)(base + 10 * step), 1, k);
}
/* A square wave of 8 bits without a sign. */
static void put_bytes(paddr at, u32 n, u32 cycle)
{
    for (u32 i = 0; i < n; i++) {
        u8 v = i % cycle < cycle / 2 ? 0xc0 : 0x40;
        put(at + i, &v, 1);
    }
}

static void setup(void)
{
    board_new();
    ck_assert_int_eq(0, dma8237_new(&dma, bus));
    const struct irq_line lines[4] = { isa_lines[9], isa_lines[5], isa_lines[7], isa_lines[10] };
    ck_assert_int_eq(0, sb16_new(&card, bus, clk, dma, lines, (struct sound_out){ &ear_dev, VOICE }));
}
static void teardown(void)
{
    sb16_free(card);
    dma8237_free(dma);
    board_free();
}

START_TEST(a_reset_gives_aah_and_the_dsp_tells_who_it_is)
{
    ck_assert_uint_eq(0, rd(STATUS, 1) & 0x80);
    reset();
    dsp(0xe1);
    ck_assert_uint_eq(4, answer());
    ck_assert_uint_eq(5, answer());
    dsp(0xe0), dsp(0x5a);
    ck_assert_uint_eq(0xa5, answer());
    dsp(0xe4), dsp(0x77), dsp(0xe8);
    ck_assert_uint_eq(0x77, answer());
    dsp(0xe3);
    char text[64];
    unsigned n = 0;
    do text[n] = (char)answer();
    while (text[n++]);
    ck_assert_str_eq(text, "COPYRIGHT (C) CREATIVE TECHNOLOGY LTD, 1992.");
    dsp(0xd1), dsp(0xd8);
    ck_assert_uint_eq(0xff, answer());
    dsp(0xd3), dsp(0xd8);
    ck_assert_uint_eq(0, answer());
}
END_TEST

START_TEST(e2h_gives_by_dma_what_drivers_look_for)
{
    static const u8 args[] = { 0x01, 0xff, 0x00, 0x80 }, want[] = { 0x41, 0x9b, 0x04, 0xde };
    u8 byte;
    reset();
    for (unsigned i = 0; i < sizeof args; i++) {
        channel(1, DATA, 1, false);
        wr(0x0b, 1, 0x45); /* to memory */
        dsp(0xe2), dsp(args[i]);
        ck_assert_uint_eq(1, bus_dma_read(bus, DATA, &byte, 1));
        ck_assert_msg(byte == want[i], "%u: %02x, not %02x", i, byte, want[i]);
    }
}
END_TEST

START_TEST(eight_bits_in_one_go_as_the_first_card_did)
{
    reset();
    put_bytes(DATA, 22222, 22);
    channel(1, DATA, 22222, false);
    dsp(0xd1);
    dsp(0x40), dsp(211); /* 22222 */
    dsp_word(0x14, 22221);
    advance(990 * MS);
    ck_assert(!irq[5]);
    advance(11 * MS);
    ck_assert(irq[5]);
    ck_assert_uint_eq(1, mixer(0x82));
    ck_assert_uint_eq(0, rd(STATUS, 1) & 0x80);
    ck_assert(!irq[5]);
    ck_assert_uint_eq(0, mixer(0x82));
    ck_assert_uint_eq(22222, ears[VOICE].n);
    ck_assert_uint_eq(22222, ears[VOICE].rate);
    ck_assert_uint_eq(0, ears[VOICE].gaps);
    ck_assert_msg(fabs(pitch(&ears[VOICE], 0) - 1010) < 2, "%f", pitch(&ears[VOICE], 0));
    ck_assert_int_eq(0x4000, peak(&ears[VOICE], 1));
    ck_assert_uint_eq(1, rises);
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
}
END_TEST

START_TEST(auto_init_goes_on_until_it_is_told_to_end)
{
    reset();
    put_bytes(DATA, 2000, 20);
    channel(1, DATA, 2000, true);
    dsp(0x40), dsp(206); /* 20000 */
    dsp_word(0x48, 999);
    dsp(0x1c);
    for (unsigned i = 0; i < 10; i++) {
        advance(50 * MS);
        advance(MS / 10);
        ck_assert_uint_eq(i + 1, rises);
        (void)rd(STATUS, 1);
    }
    dsp(0xda);
    advance(200 * MS);
    ck_assert_uint_eq(11, rises);
    ck_assert_uint_eq(11000, ears[VOICE].n);
    ck_assert_uint_eq(0, ears[VOICE].gaps);
}
END_TEST

START_TEST(high_speed_hears_no_command_until_it_ends)
{
    reset();
    put_bytes(DATA, 4000, 20);
    channel(1, DATA, 4000, true);
    dsp(0x40), dsp(233); /* 43478 */
    dsp_word(0x48, 3999);
    dsp(0x91);
    advance(10 * MS);
    wr(WRITE, 1, 0xe1);
    ck_assert_uint_eq(0, rd(STATUS, 1) & 0x80);
    advance(100 * MS);
    ck_assert_uint_eq(4000, ears[VOICE].n);
    dsp(0xe1);
    ck_assert_uint_eq(4, answer());
    (void)answer();
    dsp(0x90);
    advance(10 * MS);
    reset();
    u32 n = ears[VOICE].n;
    advance(100 * MS);
    ck_assert_uint_eq(n, ears[VOICE].n);
}
END_TEST

START_TEST(sixteen_bits_go_by_the_other_channel)
{
    struct ear *e = &ears[VOICE + 1];
    reset();
    put_square(DATA, 8820, 63);
    channel(5, DATA, 8820 * 4, true);
    rate(44100);
    dsp(0xb6), dsp_word(0x30, 8819); /* two channels: 4410 frames */
    advance(99 * MS);
    ck_assert(!irq[5]);
    advance(2 * MS);
    ck_assert(irq[5]);
    ck_assert_uint_eq(2, mixer(0x82));
    (void)rd(STATUS, 1);
    ck_assert(irq[5]);
    (void)rd(STATUS + 1, 1);
    ck_assert(!irq[5]);
    advance(900 * MS);
    dsp(0xd9);
    advance(200 * MS);
    ck_assert_uint_eq(11 * 4410, e->n);
    ck_assert_uint_eq(44100, e->rate);
    ck_assert_uint_eq(0, e->gaps);
    ck_assert_msg(fabs(pitch(e, 0) - 700) < 1, "%f", pitch(e, 0));
    ck_assert_int_eq(8000, peak(e, 0));
    ck_assert_int_eq(4000, peak(e, 1));
}
END_TEST

START_TEST(a_pause_keeps_the_place_and_a_masked_channel_waits)
{
    reset();
    put_bytes(DATA, 2000, 20);
    channel(1, DATA, 2000, false);
    rate(20000);
    dsp(0xc0), dsp_word(0, 1999);
    advance(50 * MS);
    dsp(0xd0);
    advance(300 * MS);
    ck_assert_uint_eq(1000, ears[VOICE].n);
    dsp(0xd4);
    advance(25 * MS);
    wr(0x0a, 1, 5); /* masked */
    advance(300 * MS);
    ck_assert(!irq[5]);
    u32 n = ears[VOICE].n;
    ck_assert_msg(n >= 1300 && n <= 1600, "%u", n);
    wr(0x0a, 1, 1);
    advance(60 * MS);
    ck_assert(irq[5]);
    ck_assert_uint_eq(2000, ears[VOICE].n);
}
END_TEST

START_TEST(the_mixer_says_where_it_is_and_how_loud)
{
    ck_assert_uint_eq(2, mixer(0x80));
    ck_assert_uint_eq(0x22, mixer(0x81));
    reset();
    mixer_set(0x80, 8); /* 10 */
    mixer_set(0x81, 8); /* 3 alone: for both */
    put_square(DATA, 480, 48);
    channel(3, DATA, 480 * 4, false);
    mixer_set(0x30, 0xf8 - 3 * 8), mixer_set(0x31, 0xf8);
    mixer_set(0x32, 0xf8), mixer_set(0x33, 0xf8 - 6 * 8);
    rate(44100);
    dsp(0xb0), dsp_word(0x30, 959);
    advance(20 * MS);
    ck_assert(irq[10] && !irq[5]);
    ck_assert_uint_eq(480, ears[VOICE + 1].n);
    ck_assert_int_le(abs(ears[VOICE + 1].frame[1][0] - 4010), 10); /* -6 dB */
    ck_assert_int_le(abs(ears[VOICE + 1].frame[1][1] - 1005), 5);  /* -12 dB of 4000 */
    mixer_set(0x22, 0xa5);                                         /* as a Pro has it */
    ck_assert_uint_eq(0xa8, mixer(0x30));
    ck_assert_uint_eq(0x58, mixer(0x31));
    ck_assert_uint_eq(0xa5, mixer(0x22));
    mixer_set(0, 0);
    ck_assert_uint_eq(0xf8, mixer(0x30));
    ck_assert_uint_eq(8, mixer(0x80));
    mixer_set(0x80, 2);
    ck_assert(irq[5] && !irq[10]);
}
END_TEST

START_TEST(samples_are_written_one_by_one)
{
    reset();
    for (unsigned i = 0; i < 4000; i++) {
        dsp(0x10), dsp(i % 16 < 8 ? 0xc0 : 0x40);
        advance(125000); /* 8 kHz */
    }
    ck_assert_msg(fabs(pitch(&ears[VOICE], 0) - 500) < 1, "%f", pitch(&ears[VOICE], 0));
    ck_assert_uint_eq(0, ears[VOICE].gaps);
    u32 n = ears[VOICE].n;
    advance(SECOND);
    dsp(0x10), dsp(0x80);
    ck_assert_uint_eq(n, ears[VOICE].n);
}
END_TEST

START_TEST(interrupts_can_be_asked_for_and_silence_takes_time)
{
    reset();
    dsp(0xf2);
    ck_assert(irq[5]);
    (void)rd(STATUS, 1);
    ck_assert(!irq[5]);
    dsp(0xf3);
    ck_assert_uint_eq(2, mixer(0x82));
    (void)rd(STATUS + 1, 1);
    dsp(0x40), dsp(156); /* 10000 */
    dsp_word(0x80, 999);
    advance(99 * MS);
    ck_assert(!irq[5]);
    advance(2 * MS);
    ck_assert(irq[5]);
    ck_assert_uint_eq(0, ears[VOICE].n);
}
END_TEST

START_TEST(it_is_saved_in_the_middle_of_a_block)
{
    struct sb16 *other;
    struct dma8237 *dma2;
    struct bus *first = bus;
    const struct irq_line none[4] = { 0 };
    reset();
    put_square(DATA, 4410, 63);
    channel(5, DATA, 4410 * 4, true);
    rate(32000);
    dsp(0xb6), dsp_word(0x30, 8819);
    advance(117 * MS);
    dsp(0x48), dsp(7); /* half a command */
    ck_assert_int_eq(0, bus_new(&bus, RAM));
    put_square(DATA, 4410, 63);
    ck_assert_int_eq(0, dma8237_new(&dma2, bus));
    ck_assert_int_eq(0, sb16_new(&other, bus, clk, dma2, none, (struct sound_out){ &ear_dev, VOICE + 2 }));
    hand_over(dma8237_part(dma), dma8237_part(dma2));
    hand_over(sb16_part(card), sb16_part(other));
    forget();
    advance(500 * MS);
    ck_assert_uint_ge(ears[VOICE + 1].n, 15000);
    ck_assert_uint_eq(ears[VOICE + 1].n, ears[VOICE + 3].n);
    ck_assert_mem_eq(ears[VOICE + 1].frame, ears[VOICE + 3].frame, ears[VOICE + 1].n * 4);
    sb16_free(other);
    dma8237_free(dma2);
    bus_free(bus);
    bus = first;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sb16");
    TCase *c = tcase_create("sb16");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_reset_gives_aah_and_the_dsp_tells_who_it_is);
    tcase_add_test(c, e2h_gives_by_dma_what_drivers_look_for);
    tcase_add_test(c, eight_bits_in_one_go_as_the_first_card_did);
    tcase_add_test(c, auto_init_goes_on_until_it_is_told_to_end);
    tcase_add_test(c, high_speed_hears_no_command_until_it_ends);
    tcase_add_test(c, sixteen_bits_go_by_the_other_channel);
    tcase_add_test(c, a_pause_keeps_the_place_and_a_masked_channel_waits);
    tcase_add_test(c, the_mixer_says_where_it_is_and_how_loud);
    tcase_add_test(c, samples_are_written_one_by_one);
    tcase_add_test(c, interrupts_can_be_asked_for_and_silence_takes_time);
    tcase_add_test(c, it_is_saved_in_the_middle_of_a_block);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
