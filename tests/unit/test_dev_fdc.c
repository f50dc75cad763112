/* The floppy controller as a driver sees it: registers, commands, DMA; on a real bus, with disks that take their time.
 * */
#include "core/blockdev.h"
#include "core/clock.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <errno.h>
#include <string.h>

enum { DOR = 0x3f2, MSR = 0x3f4, DATA = 0x3f5, DIR = 0x3f7, RUN = 0x1c /* motor 0, gate, no reset */ };
enum { RQM = 0x80, DIO = 0x40, NDMA = 0x20, CB = 0x10 };
enum { ABNORMAL = 0x40, EN = 0x80, ND = 4, NW = 2, MA = 1, WC = 0x10 };
#define BUFFER 0x12340u
#define SIZE (1440u << 10)

struct memdisk {
    struct blockdev dev;
    u8 *data;
    struct blockdev_req *first;
    unsigned requests;
    int fail;
};
static struct bus *bus;
static struct clock *clk;
static struct dma8237 *dma;
static struct fdc *fdc;
static struct memdisk fd0;
static bool irq;
static bool later; /* requests wait for finish() */

static void finish(struct memdisk *m)
{
    struct blockdev_req *r = m->first;
    m->first = NULL;
    ck_assert_ptr_nonnull(r);
    ck_assert_uint_eq(1, r->niov);
    ck_assert_uint_eq(r->len, r->iov[0].iov_len);
    int err = m->fail ? m->fail : r->offset + r->len > m->dev.size ? -EINVAL : 0;
    if (!err && r->op == BLOCKDEV_READ) memcpy(r->iov[0].iov_base, m->data + r->offset, r->len);
    if (!err && r->op == BLOCKDEV_WRITE) memcpy(m->data + r->offset, r->iov[0].iov_base, r->len);
    r->done(r, err);
}
static void mem_submit(void *be, struct blockdev_req *r)
{
    struct memdisk *m = be;
    ck_assert_ptr_null(m->first); /* the controller asks for one thing at a time */
    m->first = r;
    m->requests++;
}
static void settle(void)
{
    while (fd0.first && !later) finish(&fd0);
}
static void on_irq(void *opaque UNUSED, unsigned n UNUSED, bool level) { irq = level; }

static u8 in(u16 port) { return (u8)bus_in(bus, port, 1); }
static void out(u16 port, u8 v)
{
    bus_out(bus, port, 1, v);
    settle();
}
static void command(const u8 *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_eq(RQM, in(MSR) & (RQM | DIO));
        out(DATA, c[i]);
    }
}
#define COMMAND(...) command((const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))
static u8 got[16];
static unsigned results(void)
{
    unsigned n = 0;
    while ((in(MSR) & (RQM | DIO)) == (RQM | DIO) && n < sizeof got) got[n++] = in(DATA);
    ck_assert_uint_eq(RQM, in(MSR));
    return n;
}
#define RESULT(...)                                                                                      \
    do {                                                                                                 \
        const u8 want[] = { __VA_ARGS__ };                                                               \
        ck_assert_uint_eq(sizeof want, results());                                                       \
        for (unsigned i_ = 0; i_ < sizeof want; i_++)                                                    \
            ck_assert_msg(want[i_] == got[i_], "result byte %u: %02x, not %02x", i_, got[i_], want[i_]); \
    } while (0)

/* Channel 2, single transfers, of n bytes at BUFFER. */
static void dma_set(bool to_memory, unsigned n)
{
    out(0x0a, 6);
    out(0x0c, 0);
    out(0x0b, to_memory ? 0x46 : 0x4a);
    out(0x04, (u8)BUFFER);
    out(0x04, (u8)(BUFFER >> 8));
    out(0x81, BUFFER >> 16);
    out(0x05, (u8)(n - 1));
    out(0x05, (u8)((n - 1) >> 8));
    out(0x0a, 2);
}
static u32 lba(unsigned c, unsigned h, unsigned s) { return ((c * 2 + h) * 18 + s - 1) * 512; }
static void memory_is(const u8 *want, u32 n)
{
    static u8 have[65536];
    bus_dma_read(bus, BUFFER, have, n);
    for (u32 i = 0; i < n; i++) ck_assert_msg(have[i] == want[i], "byte %u: %02x, not %02x", i, have[i], want[i]);
}

static void power_on(u64 size, bool readonly)
{
    static const struct blockdev_ops ops = { mem_submit };
    later = irq = false;
    ck_assert_int_eq(0, bus_new(&bus, 64 << 20));
    ck_assert_int_eq(0, clock_new(&clk));
    fd0 = (struct memdisk){ .dev = { .ops = &ops, .be = &fd0, .size = size, .readonly = readonly },
                            .data = malloc(size) };
    for (u64 i = 0; i < size; i += 4) *(u32 *)(fd0.data + i) = (u32)(i * 2654435761u);
    ck_assert_int_eq(0, dma8237_new(&dma, bus));
    const struct fdc_disk disk[FDC_DRIVES] = { { true, &fd0.dev } };
    ck_assert_int_eq(0, fdc_new(&fdc, bus, dma, (struct irq_line){ on_irq, NULL, 0 }, disk));
}
static void seek_to(u8 track)
{
    COMMAND(0x0f, 0, track);
    ck_assert(irq);
    COMMAND(0x08);
    RESULT(0x20, track);
    ck_assert(!irq);
}
/* As a BIOS leaves it: reset, 500 kbit/s, DMA. */
static void setup(void)
{
    power_on(SIZE, false);
    out(DOR, RUN);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(0x08);
        RESULT(0xc0 | i, 0);
    }
    out(DIR, 0);
    COMMAND(0x03, 0xdf, 0x02);
}
static void teardown(void)
{
    fdc_free(fdc);
    dma8237_free(dma);
    clock_free(clk);
    bus_free(bus);
    free(fd0.data);
}

START_TEST(the_change_line_tells_of_another_disk_until_the_heads_move_with_one_in_the_drive)
{
    ck_assert_uint_eq(0, in(DIR));
    fdc_change_medium(fdc, 0, NULL);
    ck_assert_uint_eq(0x80, in(DIR));
    seek_to(3);
    ck_assert_uint_eq(0x80, in(DIR)); /* it is empty */
    COMMAND(0x4a, 0);
    RESULT(0x40, 1, 0, 3, 0, 1, 2); /* there are no sectors */
    fdc_change_medium(fdc, 0, &fd0.dev);
    ck_assert_uint_eq(0x80, in(DIR));
    out(DOR, 0x0c);
    ck_assert_uint_eq(0, in(DIR)); /* of a drive whose motor is off nothing is seen */
    out(DOR, RUN);
    seek_to(0);
    ck_assert_uint_eq(0, in(DIR));
}
END_TEST

START_TEST(a_disk_taken_out_while_a_sector_is_on_its_way_is_no_sector)
{
    COMMAND(0x03, 0xdf, 0x03); /* no DMA */
    COMMAND(0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    fdc_change_medium(fdc, 0, NULL);
    for (unsigned i = 0; i < 18 * 512; i++) out(DATA, (u8)i);
    RESULT(0x40, 1, 0, 0, 0, 1, 2);
}
END_TEST

START_TEST(a_reset_tells_of_four_drives_and_is_over_when_the_bit_is_set)
{
    out(DOR, 0);
    ck_assert_uint_eq(0, in(MSR));
    out(DOR, RUN);
    ck_assert(irq);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(0x08);
        RESULT(0xc0 | i, 0);
    }
    COMMAND(0x08);
    RESULT(0x80);
    out(MSR, 0x80); /* the reset of the data rate register ends by itself */
    ck_assert(irq);
    out(DOR, RUN & ~8);
    ck_assert(!irq); /* the gate */
}
END_TEST

START_TEST(it_says_what_it_is_and_refuses_what_is_no_command)
{
    COMMAND(0x10);
    RESULT(0x90);
    COMMAND(0x18);
    RESULT(0x41);
    COMMAND(0x1f);
    RESULT(0x80);
    COMMAND(0x94);
    RESULT(0x10);
    COMMAND(0x13, 0, 0x57, 0);
    COMMAND(0x0e);
    ck_assert_uint_eq(10, results());
    ck_assert_uint_eq(0x57, got[8]);
    ck_assert_uint_eq(0x80, got[7] & 0x80);
}
END_TEST

START_TEST(seeks_end_with_an_interrupt_and_say_where_the_heads_are)
{
    seek_to(40);
    COMMAND(0x04, 4);
    RESULT(0x20 | 0x08 | 4); /* ready, two sides */
    COMMAND(0xcf, 0, 5);
    COMMAND(0x08);
    RESULT(0x20, 45);
    COMMAND(0x8f, 0, 50);
    COMMAND(0x08);
    RESULT(0x20, 0);
    seek_to(7);
    COMMAND(0x07, 0);
    COMMAND(0x08);
    RESULT(0x20, 0);
    COMMAND(0x04, 0);
    RESULT(0x20 | 0x10 | 0x08);
    COMMAND(0x07, 1); /* there is no second drive */
    COMMAND(0x08);
    RESULT(0x70 | 1, 0);
}
END_TEST

/* Where and how much; what comes after it. Multi-track; SENSE's C, H, R as 82077AA, table 5-5. */
static const struct {
    u8 opcode, c, h, r, eot;
    unsigned n; /* sectors */
    u8 c2, h2, r2;
} reads[] = {
    { 0xe6, 0, 0, 1, 18, 1, 0, 0, 2 },  { 0xe6, 3, 1, 5, 18, 4, 3, 1, 9 },    { 0xe6, 3, 0, 17, 18, 4, 3, 1, 3 },
    { 0xe6, 3, 0, 1, 18, 36, 4, 0, 1 }, { 0x46, 79, 1, 18, 18, 1, 80, 1, 1 }, { 0x46, 2, 0, 18, 18, 1, 3, 0, 1 },
    { 0xec, 2, 0, 2, 18, 1, 2, 0, 3 },
};
START_TEST(a_read_by_dma_ends_at_terminal_count)
{
    unsigned n = reads[_i].n * 512;
    u8 c = reads[_i].c, h = reads[_i].h, r = reads[_i].r;
    seek_to(c);
    dma_set(true, n);
    COMMAND(reads[_i].opcode, (u8)(h << 2), c, h, r, 2, reads[_i].eot, 0x1b, 0xff);
    ck_assert(irq);
    RESULT((u8)(reads[_i].h2 << 2), 0, 0, reads[_i].c2, reads[_i].h2, reads[_i].r2, 2);
    ck_assert(!irq);
    memory_is(fd0.data + lba(c, h, r), n);
    ck_assert_uint_eq(4, in(0x08) & 0x0f); /* channel 2 has ended, */
    ck_assert_uint_eq(0, in(0x08) & 0x0f); /* which is told once, */
    ck_assert_uint_eq(4, in(0x0f) & 4);    /* and is masked */
}
END_TEST

START_TEST(without_terminal_count_a_read_runs_off_the_last_sector)
{
    dma_set(true, 4096);
    COMMAND(0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
    RESULT(ABNORMAL, EN, 0, 1, 0, 1, 2);
    dma_set(true, 4096);
    COMMAND(0x46, 0, 0, 0, 17, 2, 30, 0x1b, 0xff); /* beyond what the track has */
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(ABNORMAL, got[0]);
    ck_assert_uint_eq(ND, got[1]);
    out(0x0a, 6); /* nobody takes it */
    COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(0x10, got[1]);
}
END_TEST

START_TEST(without_dma_every_byte_passes_through_the_data_register)
{
    COMMAND(0x03, 0xdf, 0x03);
    COMMAND(0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
    ck_assert(irq);
    for (unsigned i = 0; i < 1024; i++) {
        ck_assert_uint_eq(RQM | DIO | NDMA | CB, in(MSR));
        ck_assert_uint_eq(fd0.data[lba(0, 0, 17) + i], in(DATA));
    }
    RESULT(ABNORMAL, EN, 0, 1, 0, 1, 2);
    COMMAND(0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
    for (unsigned i = 0; i < 512; i++) {
        ck_assert_uint_eq(RQM | NDMA | CB, in(MSR));
        out(DATA, (u8)(i * 3));
    }
    RESULT(ABNORMAL, EN, 0, 1, 0, 1, 2);
    for (unsigned i = 0; i < 512; i++) ck_assert_uint_eq((u8)(i * 3), fd0.data[lba(0, 0, 18) + i]);
}
END_TEST

START_TEST(a_write_fills_up_the_last_sector_with_zeroes)
{
    u8 text[700], after = fd0.data[lba(1, 1, 6)];
    memset(text, 0xa5, sizeof text);
    bus_dma_write(bus, BUFFER, text, sizeof text);
    seek_to(1);
    dma_set(false, sizeof text);
    COMMAND(0xc5, 4, 1, 1, 4, 2, 18, 0x1b, 0xff);
    RESULT(4, 0, 0, 1, 1, 6, 2);
    for (unsigned i = 0; i < 1024; i++) ck_assert_uint_eq(i < sizeof text ? 0xa5 : 0, fd0.data[lba(1, 1, 4) + i]);
    ck_assert_uint_eq(after, fd0.data[lba(1, 1, 6)]);
}
END_TEST

static const struct {
    u8 cmd[9], st1, st2;
} wrong[] = {
    { { 0x46, 0, 1, 0, 1, 2, 18, 0x1b, 0xff }, ND, WC }, /* another cylinder */
    { { 0x46, 0, 0, 1, 1, 2, 18, 0x1b, 0xff }, ND, 0 },  /* another head */
    { { 0x46, 0, 0, 0, 0, 2, 18, 0x1b, 0xff }, ND, 0 },  /* no such sector */
    { { 0x46, 0, 0, 0, 19, 2, 18, 0x1b, 0xff }, ND, 0 },
    { { 0x46, 0, 0, 0, 1, 3, 18, 0x1b, 0xff }, ND, 0 }, /* sectors of 1024 bytes */
    { { 0x46, 1, 0, 0, 1, 2, 18, 0x1b, 0xff }, MA, 0 }, /* no such drive */
};
START_TEST(what_is_not_on_the_disk_is_not_found)
{
    dma_set(true, 512);
    command(wrong[_i].cmd, 9);
    ck_assert(irq);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(ABNORMAL | wrong[_i].cmd[1], got[0]);
    ck_assert_uint_eq(wrong[_i].st1, got[1]);
    ck_assert_uint_eq(wrong[_i].st2, got[2]);
    ck_assert_uint_eq(0, fd0.requests);
}
END_TEST

START_TEST(at_another_data_rate_there_are_no_sectors)
{
    for (u8 rate = 0; rate < 4; rate++) {
        out(DIR, rate);
        COMMAND(0x4a, 0);
        ck_assert_uint_eq(7, results());
        ck_assert_uint_eq(rate ? MA : 0, got[1]);
        if (!rate) ck_assert_uint_eq(1, got[5]);
    }
    out(DIR, 0);
    COMMAND(0x4a, 0);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(2, got[5]); /* it turns */
}
END_TEST

START_TEST(formatting_fills_the_sectors_that_are_named)
{
    u8 ids[18 * 4];
    for (u8 i = 0; i < 18; i++) {
        const u8 id[4] = { 5, 1, (u8)(i + 1), 2 };
        memcpy(ids + 4 * i, id, 4);
    }
    ids[4 * 3] = 6; /* sector 4 would be on another track: the image has no room for that */
    bus_dma_write(bus, BUFFER, ids, sizeof ids);
    seek_to(5);
    dma_set(false, sizeof ids);
    u8 kept = fd0.data[lba(5, 1, 4) + 9];
    COMMAND(0x4d, 4, 2, 18, 0x54, 0xf6);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(4, got[0]);
    for (unsigned s = 1; s <= 18; s++) ck_assert_uint_eq(s == 4 ? kept : 0xf6, fd0.data[lba(5, 1, s) + 9]);
}
END_TEST

START_TEST(a_reset_leaves_a_disk_at_work_alone_and_the_next_command_waits_for_it)
{
    dma_set(true, 512);
    later = true;
    COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(CB, in(MSR));
    out(DOR, 0);
    out(DOR, RUN);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(0x08);
        RESULT(0xc0 | i, 0);
    }
    COMMAND(0x46, 0, 0, 0, 9, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(CB, in(MSR));
    finish(&fd0); /* the first */
    ck_assert_uint_eq(CB, in(MSR));
    finish(&fd0);
    RESULT(0, 0, 0, 0, 0, 10, 2);
    memory_is(fd0.data + lba(0, 0, 9), 512);

    /* What the abandoned one reads does not get into what the next one writes. */
    static const u8 text[512] = { 'k', 'e', 'p', 't' };
    COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    out(DOR, 0);
    out(DOR, RUN);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(0x08);
        RESULT(0xc0 | i, 0);
    }
    bus_dma_write(bus, BUFFER, text, sizeof text);
    dma_set(false, sizeof text);
    COMMAND(0x45, 0, 0, 0, 7, 2, 18, 0x1b, 0xff);
    finish(&fd0);
    finish(&fd0);
    RESULT(0, 0, 0, 0, 0, 8, 2);
    ck_assert_mem_eq(text, fd0.data + lba(0, 0, 7), sizeof text);
    later = false;
}
END_TEST

START_TEST(a_disk_that_fails_is_a_bad_sector_and_a_protected_one_is_not_written)
{
    dma_set(true, 512);
    fd0.fail = -EIO;
    COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(0x20, got[1]);
    ck_assert_uint_eq(0x20, got[2]);
    fd0.dev.readonly = true;
    dma_set(false, 512);
    COMMAND(0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(NW, got[1]);
    COMMAND(0x04, 0);
    ck_assert_uint_eq(1, results());
    ck_assert_uint_eq(0x40, got[0] & 0x40);
}
END_TEST

START_TEST(saved_in_the_middle_of_a_transfer_it_goes_on)
{
    struct snap_buf b = { 0 };
    struct snap_part p = fdc_part(fdc);
    char why[128];
    COMMAND(0x03, 0xdf, 0x03);
    COMMAND(0x46, 0, 0, 0, 3, 2, 3, 0x1b, 0xff);
    for (unsigned i = 0; i < 100; i++) in(DATA);
    snap_save(&p, &b);
    for (unsigned i = 100; i < 512; i++) in(DATA);
    results();
    out(DOR, 0);
    ck_assert_msg(!snap_load(&p, b.data, b.len, why, sizeof why), "%s", why);
    for (unsigned i = 100; i < 512; i++) ck_assert_uint_eq(fd0.data[lba(0, 0, 3) + i], in(DATA));
    RESULT(ABNORMAL, EN, 0, 1, 0, 1, 2);
    snap_buf_free(&b);
}
END_TEST

START_TEST(a_disk_is_known_by_its_size)
{
    static const struct {
        u32 kib;
        u8 tracks, heads, per_track, cmos;
    } t[] = { { 160, 40, 1, 8, 1 },   { 360, 40, 2, 9, 1 },   { 720, 80, 2, 9, 3 },
              { 1200, 80, 2, 15, 2 }, { 1440, 80, 2, 18, 4 }, { 2880, 80, 2, 36, 5 } };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        const struct fdc_format *f = fdc_format((u64)t[i].kib << 10);
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(t[i].tracks, f->tracks);
        ck_assert_uint_eq(t[i].heads, f->heads);
        ck_assert_uint_eq(t[i].per_track, f->per_track);
        ck_assert_uint_eq(t[i].cmos, f->cmos);
        ck_assert_uint_eq(f->bytes, (u32)f->tracks * f->heads * f->per_track * 512);
    }
    ck_assert_uint_eq(1440 << 10, fdc_format(512)->bytes); /* a boot sector alone */
    ck_assert_uint_eq(1440 << 10, fdc_format(1296384)->bytes);
    ck_assert_uint_eq(2880 << 10, fdc_format(2000 << 10)->bytes);
    ck_assert_ptr_null(fdc_format(2881 << 10));
}
END_TEST

START_TEST(an_image_that_is_short_of_its_format_is_blank_behind_its_end)
{
    u8 want[1024] = { 0 };
    teardown();
    power_on(3 * 512, false);
    out(DOR, RUN);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(0x08);
        RESULT(0xc0 | i, 0);
    }
    out(DIR, 0);
    COMMAND(0x03, 0xdf, 0x02);
    memcpy(want, fd0.data + 1024, 512);
    dma_set(true, 1024);
    COMMAND(0x46, 0, 0, 0, 3, 2, 18, 0x1b, 0xff);
    RESULT(0, 0, 0, 0, 0, 5, 2);
    memory_is(want, 1024);
    dma_set(true, 512);
    COMMAND(0x46, 0, 0, 0, 9, 2, 18, 0x1b, 0xff); /* all of it */
    RESULT(0, 0, 0, 0, 0, 10, 2);
    memory_is(want + 512, 512);
    dma_set(false, 512);
    COMMAND(0x45, 0, 0, 0, 4, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(0x20, got[1]);
    dma_set(false, 512);
    COMMAND(0x45, 0, 0, 0, 3, 2, 18, 0x1b, 0xff);
    ck_assert_uint_eq(7, results());
    ck_assert_uint_eq(0, got[1]);
    ck_assert_mem_eq(want + 512, fd0.data + 1024, 512); /* what was read last */
}
END_TEST

/* ---- the DMA controller, by itself ---- */

START_TEST(dma_goes_down_begins_again_and_moves_words)
{
    u8 buf[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, mem[8] = { 0 };
    bool tc;
    dma_set(true, 4);
    out(0x0b, 0x76); /* down, and again from the start */
    ck_assert_uint_eq(4, dma8237_transfer(dma, 2, true, buf, 4, &tc));
    ck_assert(tc);
    bus_dma_read(bus, BUFFER - 3, mem, 4);
    ck_assert(mem[0] == 4 && mem[1] == 3 && mem[2] == 2 && mem[3] == 1);
    ck_assert_uint_eq(0, in(0x0f) & 4); /* not masked */
    ck_assert_uint_eq(2, dma8237_transfer(dma, 2, true, buf, 2, &tc));
    ck_assert(!tc);
    ck_assert_uint_eq(0, dma8237_transfer(dma, 2, false, buf, 2, &tc)); /* that is not its way */
    out(0xd6, 0x45);                                                    /* channel 5, to memory */
    out(0xc4, 0x00);
    out(0xc4, 0x91);
    out(0x8b, 0x03); /* bit 0 does not count: bit 16 is that of the address, 9100h words */
    out(0xc6, 3);
    out(0xc6, 0);
    out(0xd4, 1);
    ck_assert_uint_eq(8, dma8237_transfer(dma, 5, true, buf, 8, &tc));
    ck_assert(tc);
    bus_dma_read(bus, 0x32200, mem, 8);
    ck_assert_mem_eq(buf, mem, 8);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dev_fdc");
    TCase *t = tcase_create("fdc");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_reset_tells_of_four_drives_and_is_over_when_the_bit_is_set);
    tcase_add_test(t, it_says_what_it_is_and_refuses_what_is_no_command);
    tcase_add_test(t, seeks_end_with_an_interrupt_and_say_where_the_heads_are);
    tcase_add_loop_test(t, a_read_by_dma_ends_at_terminal_count, 0, ARRAY_LEN(reads));
    tcase_add_test(t, without_terminal_count_a_read_runs_off_the_last_sector);
    tcase_add_test(t, without_dma_every_byte_passes_through_the_data_register);
    tcase_add_test(t, a_write_fills_up_the_last_sector_with_zeroes);
    tcase_add_loop_test(t, what_is_not_on_the_disk_is_not_found, 0, ARRAY_LEN(wrong));
    tcase_add_test(t, at_another_data_rate_there_are_no_sectors);
    tcase_add_test(t, formatting_fills_the_sectors_that_are_named);
    tcase_add_test(t, a_reset_leaves_a_disk_at_work_alone_and_the_next_command_waits_for_it);
    tcase_add_test(t, a_disk_that_fails_is_a_bad_sector_and_a_protected_one_is_not_written);
    tcase_add_test(t, saved_in_the_middle_of_a_transfer_it_goes_on);
    tcase_add_test(t, a_disk_is_known_by_its_size);
    tcase_add_test(t, the_change_line_tells_of_another_disk_until_the_heads_move_with_one_in_the_drive);
    tcase_add_test(t, a_disk_taken_out_while_a_sector_is_on_its_way_is_no_sector);
    tcase_add_test(t, an_image_that_is_short_of_its_format_is_blank_behind_its_end);
    tcase_add_test(t, dma_goes_down_begins_again_and_moves_words);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
