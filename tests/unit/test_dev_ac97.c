/* The 82801AA's AC'97 controller as drivers see it: data sheet 290655-003; its codec: AD1881A. */
#include "tests/unit/sound_board.h"

#include <math.h>

enum { PO = 0x10, BDBAR = 0, CIV = 4, LVI = 5, SR = 6, PICB = 8, PIV = 10, CR = 11, PI = 0, MC = 0x20 };
enum { GLOB_CNT = 0x2c, GLOB_STA = 0x30, CAS = 0x34 };
enum { DCH = 1, CELV = 2, LVBCI = 4, BCIS = 8, RPBM = 1, RR = 2, LVBIE = 4, IOCE = 16 };
#define IOC 0x80000000u
#define LIST 0x100000u
#define DATA 0x200000u

static struct ac97 *card;
static u16 nam, nabm;

static u32 in(unsigned at, unsigned n) { return rd((u16)(nabm + at), n); }
static void out(unsigned at, unsigned n, u32 v) { wr((u16)(nabm + at), n, v); }
static u16 codec(unsigned at) { return (u16)rd((u16)(nam + at), 2); }
static void codec_set(unsigned at, u16 v) { wr((u16)(nam + at), 2, v); }

static void setup(void)
{
    board_new();
    ck_assert_int_eq(0, ac97_new(&card, bus, clk, pci, SLOT, (struct sound_out){ &ear_dev, 1 }));
    board_start();
    nam = (u16)(cfg_read(0x10) & ~3u);
    nabm = (u16)(cfg_read(0x14) & ~3u);
    out(GLOB_CNT, 4, 2);
    codec_set(0x02, 0);      /* as loud as it goes */
    codec_set(0x18, 0x0808); /* 0 dB */
}
static void teardown(void)
{
    ac97_free(card);
    board_free();
}
/* Descriptor i: so many frames at a place. */
static void buffer(unsigned i, u32 at, u32 frames, u32 flags)
{
    put32(LIST + 8 * i, at);
    put32(LIST + 8 * i + 4, frames * 2 | flags);
}
static void start(unsigned master, unsigned last)
{
    out(master + BDBAR, 4, LIST);
    out(master + LVI, 1, last);
    out(master + CR, 1, RPBM | IOCE | LVBIE);
}

START_TEST(after_a_reset_it_stands_and_its_codec_is_ready)
{
    ck_assert_uint_eq(0x24158086, cfg_read(0));
    ck_assert_uint_eq(0x04010002, cfg_read(8));
    for (unsigned m = PI; m <= MC; m += 0x10) {
        ck_assert_uint_eq(DCH, in(m + SR, 2));
        ck_assert_uint_eq(0, in(m + CIV, 1) | in(m + LVI, 1) | in(m + PICB, 2) | in(m + CR, 1));
    }
    ck_assert_uint_eq(0x100, in(GLOB_STA, 4));
    ck_assert_uint_eq(0x4144, codec(0x7c));
    ck_assert_uint_eq(0x5348, codec(0x7e));
    ck_assert_uint_eq(0x000f, codec(0x26));
    ck_assert_uint_eq(1, codec(0x28) & 1);
    ck_assert_uint_eq(0xffff, rd((u16)(nam + 0x80 + 0x7c), 2)); /* there is no second one */
}
END_TEST

START_TEST(a_list_is_played_in_its_time_and_its_ends_interrupt)
{
    put_square(DATA, 4800, 48);
    for (unsigned i = 0; i < 5; i++) buffer(i, DATA + i * 3840, 960, i == 1 || i == 4 ? IOC : 0);
    start(PO, 4);
    ck_assert_uint_eq(0, in(PO + CIV, 1));
    ck_assert_uint_eq(1, in(PO + PIV, 1));
    ck_assert_uint_eq(1920, in(PO + PICB, 2));
    advance(10 * MS);
    ck_assert_uint_eq(960, in(PO + PICB, 2));
    advance(29 * MS);
    ck_assert(!intx);
    ck_assert_uint_eq(1, in(PO + CIV, 1));
    advance(2 * MS); /* the end of the second: 40 ms */
    ck_assert(intx);
    ck_assert_uint_eq(1, rises);
    ck_assert_uint_eq(BCIS, in(PO + SR, 2));
    ck_assert_uint_eq(0x140, in(GLOB_STA, 4));
    out(PO + SR, 2, BCIS);
    ck_assert(!intx);
    advance(100 * MS);
    ck_assert_uint_eq(DCH | CELV | LVBCI | BCIS, in(PO + SR, 2));
    ck_assert(intx);
    ck_assert_uint_eq(4, in(PO + CIV, 1));
    ck_assert_uint_eq(0, in(PO + PICB, 2));
    out(PO + SR, 2, LVBCI | BCIS);
    ck_assert(!intx);
    ck_assert_uint_eq(4800, ears[1].n);
    ck_assert_uint_eq(0, ears[1].gaps);
    ck_assert_msg(fabs(pitch(&ears[1], 0) - 1000) < 1, "%f", pitch(&ears[1], 0));
    ck_assert_int_eq(8000, peak(&ears[1], 0));
    ck_assert_int_eq(4000, peak(&ears[1], 1));
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
}
END_TEST

START_TEST(it_goes_on_when_the_list_is_made_longer)
{
    put_square(DATA, 960, 48);
    for (unsigned i = 0; i < 32; i++) buffer(i, DATA, 480, IOC);
    start(PO, 0);
    advance(50 * MS);
    ck_assert_uint_eq(480, ears[1].n);
    out(PO + LVI, 1, 0); /* that is where it is */
    advance(50 * MS);
    ck_assert_uint_eq(480, ears[1].n);
    out(PO + LVI, 1, 2);
    advance(50 * MS);
    ck_assert_uint_eq(3 * 480, ears[1].n);
    ck_assert_uint_eq(2, in(PO + CIV, 1));
    out(PO + LVI, 1, 1); /* all around */
    advance(400 * MS);
    ck_assert_uint_eq((3 + 31) * 480, ears[1].n);
}
END_TEST

START_TEST(a_pause_keeps_the_place_and_a_reset_forgets_it)
{
    put_square(DATA, 4800, 48);
    buffer(0, DATA, 4800, IOC);
    start(PO, 0);
    advance(20 * MS);
    out(PO + CR, 1, IOCE);
    ck_assert_uint_eq(DCH, in(PO + SR, 2));
    ck_assert_uint_eq(2 * 3840, in(PO + PICB, 2));
    advance(300 * MS);
    ck_assert_uint_eq(2 * 3840, in(PO + PICB, 2));
    out(PO + CR, 1, IOCE | RPBM);
    advance(81 * MS);
    ck_assert_uint_eq(4800, ears[1].n);
    ck_assert(intx);
    out(PO + CR, 1, IOCE);
    out(PO + CR, 1, RR);
    ck_assert_uint_eq(DCH, in(PO + SR, 2));
    ck_assert_uint_eq(0, in(PO + BDBAR, 4) | in(PO + LVI, 1) | in(PO + CIV, 1) | in(PO + PICB, 2));
    ck_assert(!intx);
}
END_TEST

START_TEST(empty_buffers_are_passed_over_and_never_for_ever)
{
    put_square(DATA, 480, 48);
    for (unsigned i = 0; i < 32; i++) buffer(i, DATA, i == 5 ? 480 : 0, 0);
    start(PO, 9);
    advance(MS);
    ck_assert_uint_eq(5, in(PO + CIV, 1));
    advance(20 * MS);
    ck_assert_uint_eq(480, ears[1].n);
    ck_assert_uint_eq(9, in(PO + CIV, 1));
    ck_assert_uint_eq(DCH, in(PO + SR, 2) & DCH);
    for (unsigned i = 0; i < 32; i++) buffer(i, DATA, 0, IOC);
    out(PO + LVI, 1, 8);
    advance(20 * MS);
    ck_assert_uint_eq(DCH, in(PO + SR, 2) & DCH);
    put32(LIST + 8 * 9 + 4, 1 | IOC); /* half a frame */
    out(PO + LVI, 1, 9);
    advance(20 * MS);
    ck_assert_uint_eq(DCH, in(PO + SR, 2) & DCH);
}
END_TEST

START_TEST(rates_are_variable_once_that_is_on)
{
    codec_set(0x2c, 22050);
    ck_assert_uint_eq(48000, codec(0x2c));
    codec_set(0x2a, 1);
    codec_set(0x2c, 22050);
    ck_assert_uint_eq(22050, codec(0x2c));
    codec_set(0x32, 3000);
    ck_assert_uint_eq(7040, codec(0x32));
    codec_set(0x32, 65000);
    ck_assert_uint_eq(48000, codec(0x32));
    put_square(DATA, 22050, 50);
    for (unsigned i = 0; i < 8; i++) buffer(i, DATA, 2205, 0);
    start(PO, 7);
    advance(950 * MS);
    ck_assert_uint_eq(8 * 2205, ears[1].n);
    ck_assert_uint_eq(22050, ears[1].rate);
    ck_assert_uint_eq(0, ears[1].gaps);
    codec_set(0x2a, 0);
    ck_assert_uint_eq(48000, codec(0x2c));
}
END_TEST

START_TEST(volumes_are_in_steps_of_one_and_a_half_decibels)
{
    static const struct {
        u16 master, pcm;
        double left, right; /* dB */
    } cases[] = {
        { 0, 0x0808, 0, 0 }, { 0x0200, 0x0808, -3, 0 },    { 0x0404, 0x0808, -6, -6 },     { 0, 0x0c08, -6, 0 },
        { 0, 0x0408, 6, 0 }, { 0x1f1f, 0x1f1f, -81, -81 }, { 0x8000, 0x0808, -200, -200 }, { 0, 0x8808, -200, -200 }
    };
    for (unsigned i = 0; i < 480; i++) {
        const s16 f[2] = { 10000, 10000 };
        put(DATA + 4 * i, f, 4);
    }
    buffer(0, DATA, 480, 0);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        codec_set(0x02, cases[i].master);
        codec_set(0x18, cases[i].pcm);
        out(PO + CR, 1, 0);
        out(PO + CR, 1, RR);
        forget();
        start(PO, 0);
        advance(20 * MS);
        double want[2] = { 10000 * pow(10, cases[i].left / 20), 10000 * pow(10, cases[i].right / 20) };
        for (unsigned c = 0; c < 2; c++)
            ck_assert_msg(fabs(ears[1].frame[100][c] - want[c]) < 1 + want[c] * 0.01, "case %u, %u: %d not %f", i, c,
                          ears[1].frame[100][c], want[c]);
    }
    codec_set(0x02, 0x2020); /* six bits are as much as five */
    ck_assert_uint_eq(0x1f1f, codec(0x02));
}
END_TEST

START_TEST(what_is_recorded_is_silence_in_its_time)
{
    put_square(DATA, 960, 48);
    put_square(DATA + 3840, 960, 48);
    buffer(0, DATA, 480, IOC);
    start(PI, 0);
    ck_assert_uint_eq(0, in(GLOB_STA, 4) & 0xe0);
    advance(11 * MS);
    ck_assert_uint_eq(0x120, in(GLOB_STA, 4));
    u32 last, next;
    ck_assert_uint_eq(4, bus_dma_read(bus, DATA + 4 * 479, &last, 4));
    ck_assert_uint_eq(4, bus_dma_read(bus, DATA + 4 * 480, &next, 4));
    ck_assert_uint_eq(0, last);
    ck_assert_uint_ne(0, next);
    out(PI + SR, 2, 0x1c);
    start(MC, 0); /* in mono: twice as long */
    advance(11 * MS);
    ck_assert_uint_eq(0x100, in(GLOB_STA, 4));
    advance(10 * MS);
    ck_assert_uint_eq(0x180, in(GLOB_STA, 4));
}
END_TEST

START_TEST(a_cold_reset_takes_all_and_the_semaphore_is_one)
{
    put_square(DATA, 4800, 48);
    buffer(0, DATA, 4800, IOC);
    start(PO, 0);
    advance(10 * MS);
    ck_assert_uint_eq(0, in(CAS, 1));
    ck_assert_uint_eq(1, in(CAS, 1));
    (void)codec(0);
    ck_assert_uint_eq(0, in(CAS, 1));
    out(GLOB_CNT, 4, 0);
    out(GLOB_CNT, 4, 2);
    ck_assert_uint_eq(DCH, in(PO + SR, 2));
    ck_assert_uint_eq(0, in(PO + CR, 1));
    ck_assert_uint_eq(0x8000, codec(2));
    ck_assert_uint_eq(UINT64_MAX, clock_next_deadline(clk));
}
END_TEST

START_TEST(other_codecs_of_the_link_do_not_answer)
{
    ck_assert_uint_eq(0x7000, codec(0x74));
    codec_set(0x74, 0x2000);
    ck_assert_uint_eq(0, codec(0x7e));
    codec_set(0x02, 0x0808);
    codec_set(0x74, 0x1000);
    ck_assert_uint_eq(0x5348, codec(0x7e));
    ck_assert_uint_eq(0, codec(0x02));
}
END_TEST

START_TEST(it_is_saved_in_the_middle_of_a_buffer)
{
    struct ac97 *other;
    codec_set(0x2a, 1);
    codec_set(0x2c, 32000);
    put_square(DATA, 9600, 64);
    for (unsigned i = 0; i < 4; i++) buffer(i, DATA + 3200 * 4 * (i % 3), 3200, IOC);
    start(PO, 3);
    advance(117 * MS);
    ck_assert_int_eq(0, ac97_new(&other, bus, clk, pci, SLOT + 1, (struct sound_out){ &ear_dev, 2 }));
    hand_over(ac97_part(card), ac97_part(other));
    cfg_write(4, 7);
    bus_out(bus, 0xcf8, 4, 0x80000004u | (SLOT + 1) << 11);
    bus_out(bus, 0xcfc, 4, 4); /* its own bus mastering, which is PCI's to save */
    forget();
    advance(600 * MS);
    ck_assert_uint_ge(ears[1].n, 9000);
    ck_assert_uint_eq(ears[1].n, ears[2].n);
    ck_assert_uint_eq(ears[1].from_ns, ears[2].from_ns);
    ck_assert_mem_eq(ears[1].frame, ears[2].frame, ears[1].n * 4);
    ck_assert_uint_eq(0, ears[2].gaps);
    ac97_free(other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ac97");
    TCase *c = tcase_create("ac97");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, after_a_reset_it_stands_and_its_codec_is_ready);
    tcase_add_test(c, a_list_is_played_in_its_time_and_its_ends_interrupt);
    tcase_add_test(c, it_goes_on_when_the_list_is_made_longer);
    tcase_add_test(c, a_pause_keeps_the_place_and_a_reset_forgets_it);
    tcase_add_test(c, empty_buffers_are_passed_over_and_never_for_ever);
    tcase_add_test(c, rates_are_variable_once_that_is_on);
    tcase_add_test(c, volumes_are_in_steps_of_one_and_a_half_decibels);
    tcase_add_test(c, what_is_recorded_is_silence_in_its_time);
    tcase_add_test(c, a_cold_reset_takes_all_and_the_semaphore_is_one);
    tcase_add_test(c, other_codecs_of_the_link_do_not_answer);
    tcase_add_test(c, it_is_saved_in_the_middle_of_a_buffer);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
