/* The VGA on a real bus: what its registers make of bytes, and what is seen on the screen. Facts from the IBM PS/2
 * Hardware Interface TR, Video Subsystem (below: IBM), and from Bochs's VBE registers. */
#include "core/bus.h"
#include "core/clock.h"
#include "runtime/mem/physmem.h"
#include "src/back/frame.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <string.h>

#define LFB 0xe0000000u
#define WINDOW 0xa0000u

static struct bus *bus;
static struct clock *clk;
static struct pci *pci;
static struct vga *vga;
static struct frame *frame;
static struct frame_viewer viewer;
static struct vga_screen *screen;

static void nothing(void *arg UNUSED, unsigned n UNUSED, bool level UNUSED) {}

static void setup(void)
{
    const struct irq_line none = { nothing, NULL, 0 };
    struct irq_line isa[16], apic[4];
    for (unsigned i = 0; i < 16; i++) isa[i] = apic[i % 4] = none;
    ck_assert_int_eq(0, bus_new(&bus, 4 << 20));
    ck_assert_int_eq(0, clock_new(&clk));
    clock_set_manual(clk, 0);
    ck_assert_int_eq(0, pci_new(&pci, bus, isa, apic, (struct dev_event){ 0 }));
    ck_assert_int_eq(0, vga_new(&vga, bus, clk, pci, NULL, 0));
    ck_assert_int_eq(0, frame_new(&frame, NULL, NULL));
    frame_viewer_add(frame, &viewer);
    ck_assert_int_eq(0, vga_screen_new(&screen, vga, frame_display(frame), false));
    pci_firmware_setup(pci, LFB, 0xc000);
}

static void teardown(void)
{
    vga_screen_free(screen);
    frame_free(frame);
    vga_free(vga);
    pci_free(pci);
    clock_free(clk);
    bus_free(bus);
}

static void out(u16 port, u8 val) { bus_out(bus, port, 1, val); }
static void pair(u16 port, u8 index, u8 val) { bus_out(bus, port, 2, index | val << 8); }
static void seq(u8 index, u8 val) { pair(0x3c4, index, val); }
static void gr(u8 index, u8 val) { pair(0x3ce, index, val); }
static void cr(u8 index, u8 val) { pair(0x3d4, index, val); }
static void ar(u8 index, u8 val)
{
    bus_in(bus, 0x3da, 1);
    out(0x3c0, index);
    out(0x3c0, val);
}
static void vbe(u16 index, u16 val)
{
    bus_out(bus, 0x1ce, 2, index);
    bus_out(bus, 0x1cf, 2, val);
}
static u16 vbe_read(u16 index)
{
    bus_out(bus, 0x1ce, 2, index);
    return (u16)bus_in(bus, 0x1cf, 2);
}
static void poke(u32 at, u8 val) { bus_mmio_write(bus, at, 1, val); }
static u8 peek(u32 at) { return (u8)bus_mmio_read(bus, at, 1); }

/* Attribute palette and DAC of a mode with 16 colours: colour i is (i * 4, 0, 63 - i * 4). */
static void colours(void)
{
    for (u8 i = 0; i < 16; i++) ar(i, i);
    out(0x3c8, 0);
    for (unsigned i = 0; i < 256; i++) {
        out(0x3c9, (u8)(i * 4));
        out(0x3c9, 0);
        out(0x3c9, (u8)(63 - i * 4));
    }
    bus_in(bus, 0x3da, 1);
    out(0x3c0, 0x20);
}
static u32 colour(unsigned i)
{
    u32 red = i * 4 & 63, blue = (63 - i * 4) & 63;
    return (red << 2 | red >> 4) << 16 | (blue << 2 | blue >> 4);
}

/* The registers of BIOS modes, IBM "BIOS video modes": those that count here. */
struct mode {
    u8 misc, seq1, seq4, max_scan, cr17, offset, gr5, gr6, ar10, hdisplay;
    u16 lines;
};
static const struct mode text80 = { 0x67, 0x00, 0x02, 0x0f, 0xa3, 0x28, 0x10, 0x0e, 0x0c, 79, 400 };
static const struct mode planar640 = { 0xe3, 0x01, 0x06, 0x00, 0xe3, 0x28, 0x00, 0x05, 0x01, 79, 480 };
static const struct mode linear320 = { 0x63, 0x01, 0x0e, 0x41, 0xa3, 0x28, 0x40, 0x05, 0x41, 79, 400 };

static void set_mode(const struct mode *m)
{
    u16 last = m->lines - 1;
    out(0x3c2, m->misc);
    seq(1, m->seq1);
    seq(2, 15);
    seq(4, m->seq4);
    cr(0x11, 0);
    for (u8 i = 0; i < 0x19; i++) cr(i, 0);
    cr(0x00, 0x5f);
    cr(0x01, m->hdisplay);
    cr(0x06, 0xbf);
    cr(0x07, (0x1f & ~0x42) | (last >> 7 & 2) | (last >> 3 & 0x40));
    cr(0x09, 0x40 | m->max_scan);
    cr(0x10, 0x9c);
    cr(0x11, 0x0e);
    cr(0x12, (u8)last);
    cr(0x13, m->offset);
    cr(0x17, m->cr17);
    cr(0x18, 0xff);
    gr(5, m->gr5);
    gr(6, m->gr6);
    gr(7, 15);
    gr(8, 0xff);
    ar(0x10, m->ar10);
    ar(0x12, 15);
    ar(0x13, m == &text80 ? 8 : 0);
    colours();
}

static const struct display_frame *draw(void)
{
    vga_screen_draw(screen);
    const struct display_frame *f = frame_lock(frame, NULL, NULL);
    frame_unlock(frame);
    return f;
}
static u32 pixel(u32 x, u32 y)
{
    const struct display_frame *f = draw();
    ck_assert_uint_lt(x, f->shape.width);
    ck_assert_uint_lt(y, f->shape.height);
    return f->pixels[y * f->shape.width + x];
}
static u32 drawn_pixels(void)
{
    struct display_rect r;
    vga_screen_draw(screen);
    frame_lock(frame, &viewer, &r);
    frame_unlock(frame);
    return r.width * r.height;
}

/* Plane n of a byte, through read map select. */
static u8 plane(u32 at, u8 n)
{
    gr(4, n);
    return peek(at);
}

START_TEST(write_modes_do_what_the_data_sheet_says)
{
    set_mode(&planar640);
    seq(2, 0x05); /* map mask: planes 0 and 2 */
    poke(WINDOW, 0xa5);
    for (u8 n = 0; n < 4; n++) ck_assert_uint_eq(plane(WINDOW, n), n % 2 ? 0 : 0xa5);
    seq(2, 15);
    /* Mode 0: set/reset for planes that are enabled, rotation for the others, latches where the bit mask is 0. */
    peek(WINDOW);
    gr(0, 0x02);
    gr(1, 0x03);
    gr(3, 4);
    gr(8, 0xf0);
    poke(WINDOW, 0x0f);
    ck_assert_uint_eq(plane(WINDOW, 0), 0x05); /* set/reset 0 above, latch A5h below */
    ck_assert_uint_eq(plane(WINDOW, 1), 0xf0); /* set/reset 1 above, latch 0 below */
    ck_assert_uint_eq(plane(WINDOW, 2), 0xf5); /* 0Fh rotated by 4 is F0h */
    ck_assert_uint_eq(plane(WINDOW, 3), 0xf0);
    /* Mode 1: the latches. */
    gr(5, 1);
    peek(WINDOW);
    poke(WINDOW + 9, 0x77);
    gr(5, 0);
    ck_assert_uint_eq(plane(WINDOW + 9, 2), 0xf5);
    /* Mode 2: bit n of the data is all of plane n, by the function: XOR. */
    gr(3, 0x18);
    gr(8, 0xff);
    gr(5, 2);
    peek(WINDOW);
    poke(WINDOW, 0x04);
    gr(5, 0);
    ck_assert_uint_eq(plane(WINDOW, 2), 0x0a);
    ck_assert_uint_eq(plane(WINDOW, 1), 0xf0);
    /* Mode 3: set/reset where both the rotated data and the bit mask have a 1. */
    gr(3, 0);
    gr(0, 0x0f);
    gr(5, 3);
    gr(8, 0x3c);
    peek(WINDOW + 100);
    poke(WINDOW + 100, 0xf0);
    gr(5, 0);
    for (u8 n = 0; n < 4; n++) ck_assert_uint_eq(plane(WINDOW + 100, n), 0x30);
}
END_TEST

/* Whatever the registers are, n writes in one call are n writes. */
START_TEST(a_fill_is_as_many_writes)
{
    static u8 before[0x40000], one_by_one[sizeof before], at_once[sizeof before];
    u64 x = 88172645463325252ull;
    unsigned changed = 0;
    for (u32 i = 0; i < sizeof before; i++) before[i] = (u8)(i * 2654435761u >> 24);
    for (unsigned round = 0; round < 400; round++) {
        u32 r[6];
        for (unsigned i = 0; i < 6; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            r[i] = (u32)(x >> 20);
        }
        set_mode(&planar640);
        seq(2, round % 4 ? r[0] & 15 : 15);
        seq(4, r[0] >> 4 & 7 ? 6 : (u8)(r[0] >> 8 & 14)); /* mostly planes */
        for (u8 i = 0; i < 5; i++) gr(i, (u8)(round & 1 ? 0 : r[1] >> 4 * i & 15));
        gr(3, (u8)(round & 2 ? 0 : r[2] & 31));
        gr(5, (u8)(r[2] >> 8 & 3));
        gr(6, (u8)(r[2] >> 12 & 15) | 1);
        gr(8, (u8)(round & 4 ? 0xff : r[2] >> 16));
        peek(WINDOW + (r[3] & 0xffff)); /* latches */
        const unsigned size = 1u << r[3] % 3, n = 1 + r[4] % (4096 / size);
        const u32 room = 4096 - n * size;
        const u32 pa = WINDOW + (r[5] & 0x1f000) + (room ? (r[5] >> 20) % room & ~(size - 1) : 0);
        const u32 val = round & 8 ? (r[1] & 0xff) * 0x01010101u : r[1];
        if (bus_ram_ptr(bus, pa)) continue; /* linear: no device */
        bus_dma_write(bus, LFB, before, sizeof before);
        ck_assert(bus_mmio_fill(bus, pa, size, val, n));
        bus_dma_read(bus, LFB, at_once, sizeof at_once);
        bus_dma_write(bus, LFB, before, sizeof before);
        for (u32 i = 0; i < n; i++) bus_mmio_write(bus, pa + i * size, size, val);
        bus_dma_read(bus, LFB, one_by_one, sizeof one_by_one);
        changed += !!memcmp(before, at_once, sizeof before);
        ck_assert_msg(!memcmp(one_by_one, at_once, sizeof at_once), "round %u: %u of %u bytes at %x", round, n, size,
                      pa);
    }
    ck_assert_uint_gt(changed, 100);
    ck_assert(!bus_mmio_fill(bus, LFB, 1, 0, 1)); /* memory is none of its business */
}
END_TEST

START_TEST(read_mode_1_compares_colours)
{
    set_mode(&planar640);
    seq(2, 0x03);
    poke(WINDOW, 0xf0); /* colour 3 on the left */
    gr(5, 8);
    gr(2, 3);
    gr(7, 15);
    ck_assert_uint_eq(peek(WINDOW), 0xf0);
    gr(7, 0x0c); /* planes 2 and 3 alone count: 0 is looked for */
    ck_assert_uint_eq(peek(WINDOW), 0xff);
}
END_TEST

START_TEST(sixteen_colours_come_from_four_planes)
{
    set_mode(&planar640);
    gr(5, 2);
    poke(WINDOW + 80, 0x0b);
    ck_assert_uint_eq(draw()->shape.width, 640);
    ck_assert_uint_eq(draw()->shape.height, 480);
    ck_assert_uint_eq(pixel(7, 1), colour(11));
    ck_assert_uint_eq(pixel(8, 1), colour(0));
    ar(0x13, 3); /* panning to the left */
    out(0x3c0, 0x20);
    ck_assert_uint_eq(pixel(4, 1), colour(11));
    ck_assert_uint_eq(pixel(5, 1), colour(0));
    ar(0x13, 0);
    out(0x3c0, 0x20);
    cr(0x0d, 80); /* start address: a line further */
    ck_assert_uint_eq(pixel(0, 0), colour(11));
    /* Line compare: after line 99 memory is shown from its start. */
    cr(0x18, 99);
    cr(0x07, (0x1f & ~0x12) | 2);
    cr(0x09, 0);
    ck_assert_uint_eq(pixel(0, 99), colour(0));
    ck_assert_uint_eq(pixel(0, 101), colour(11));
}
END_TEST

START_TEST(mode_13h_is_memory_itself)
{
    set_mode(&linear320);
    ck_assert_ptr_nonnull(bus_ram_ptr(bus, WINDOW));
    poke(WINDOW + 320 * 10 + 5, 200);
    ck_assert_uint_eq(draw()->shape.width, 320);
    ck_assert_uint_eq(draw()->shape.height, 200);
    ck_assert_uint_eq(pixel(5, 10), colour(200));
    ck_assert_uint_eq(peek(LFB + 320 * 10 + 5), 200); /* the same bytes, where firmware has put the BAR */
    poke(LFB, 7);
    ck_assert_uint_eq(pixel(0, 0), colour(7));
    u8 dma = 9;
    bus_dma_write(bus, LFB + 1, &dma, 1);
    ck_assert_uint_eq(pixel(1, 0), colour(9));
    gr(8, 0x0f); /* what is written is not what arrives: the graphics controller's again */
    ck_assert_ptr_null(bus_ram_ptr(bus, WINDOW));
    peek(WINDOW);
    poke(WINDOW, 0xaa);
    ck_assert_uint_eq(peek(WINDOW), 0x0a);
}
END_TEST

START_TEST(mode_x_has_four_pixels_at_an_address)
{
    set_mode(&linear320);
    seq(4, 6); /* chain-4 off */
    cr(0x14, 0);
    cr(0x17, 0xe3);
    seq(2, 1 << 2);
    poke(WINDOW + 80, 99);
    ck_assert_uint_eq(pixel(2, 1), colour(99));
    ck_assert_uint_eq(pixel(1, 1), colour(0));
}
END_TEST

START_TEST(text_is_characters_of_the_loaded_font)
{
    set_mode(&text80);
    /* A font, as BIOSes load it: plane 2, sequential, at A0000h. */
    seq(2, 4);
    seq(4, 6);
    gr(5, 0);
    gr(6, 4);
    for (u32 i = 0; i < 16; i++) poke(WINDOW + 'A' * 32 + i, i == 3 ? 0x81 : 0);
    for (u32 i = 0; i < 16; i++) poke(WINDOW + 0xc4 * 32 + i, 0x01);
    seq(2, 3);
    seq(4, 2);
    gr(5, 0x10);
    gr(6, 0x0e);
    bus_mmio_write(bus, 0xb8000 + 2 * (80 * 2 + 3), 2, 0x1e41);
    bus_mmio_write(bus, 0xb8000 + 2 * (80 * 2 + 4), 2, 0x1ec4);
    cr(0x0a, 0x20); /* no cursor */
    const struct display_frame *f = draw();
    ck_assert_uint_eq(f->shape.columns, 80);
    ck_assert_uint_eq(f->shape.rows, 25);
    ck_assert_uint_eq(f->shape.width, 720);
    const struct display_cell *c = &f->cells[2 * 80 + 3];
    ck_assert_uint_eq(c->code, 'A');
    ck_assert_uint_eq(c->ink, 14);
    ck_assert_uint_eq(c->paper, 1);
    ck_assert_uint_eq(pixel(27, 35), colour(14));
    ck_assert_uint_eq(pixel(28, 35), colour(1));
    ck_assert_uint_eq(pixel(34, 35), colour(14));
    ck_assert_uint_eq(pixel(35, 35), colour(1));  /* the ninth dot is paper */
    ck_assert_uint_eq(pixel(44, 35), colour(14)); /* but that of a line-drawing character is its eighth */
    cr(0x0a, 13);
    cr(0x0b, 14);
    cr(0x0f, 5);
    ck_assert(draw()->cursor);
    ck_assert_uint_eq(draw()->cursor_column, 5);
    ck_assert_uint_eq(pixel(45, 13), colour(0)); /* ink of attribute 0 */
    ck_assert_uint_eq(peek(0xb8000 + 2 * (80 * 2 + 3)), 'A');
}
END_TEST

START_TEST(an_unchanged_screen_draws_nothing)
{
    set_mode(&linear320);
    ck_assert_uint_eq(drawn_pixels(), 320 * 200);
    ck_assert_uint_eq(drawn_pixels(), 0);
    poke(WINDOW + 320 * 100, 1);
    u32 n = drawn_pixels();
    ck_assert_msg(n > 0 && n <= 320 * 14, "%u pixels for one that changed", n);
    ck_assert_uint_eq(drawn_pixels(), 0);
    set_mode(&text80);
    seq(2, 3); /* characters and attributes, not the font */
    drawn_pixels();
    bus_mmio_write(bus, 0xb8000, 2, 0x0741);
    ck_assert_uint_eq(drawn_pixels(), 9 * 16);
}
END_TEST

START_TEST(each_viewer_is_told_what_has_changed_since_it_looked)
{
    struct frame_viewer second;
    struct display_rect r;
    set_mode(&linear320);
    drawn_pixels();
    frame_viewer_add(frame, &second);
    frame_lock(frame, &second, &r); /* all of it, at first */
    frame_unlock(frame);
    ck_assert_uint_eq(r.width * r.height, 320 * 200);
    poke(WINDOW, 1);
    u32 n = drawn_pixels();
    ck_assert_uint_gt(n, 0);
    poke(WINDOW + 320 * 199, 1);
    ck_assert_uint_gt(drawn_pixels(), 0);
    frame_lock(frame, &second, &r); /* both changes */
    frame_unlock(frame);
    ck_assert_uint_eq(r.width * r.height, 320 * 200);
    frame_lock(frame, &second, &r);
    frame_unlock(frame);
    ck_assert_uint_eq(r.width, 0);
    frame_viewer_remove(frame, &second);
}
END_TEST

static struct display_frame *no_frame(void *be UNUSED, const struct display_shape *shape UNUSED, bool *fresh UNUSED)
{
    return NULL;
}

START_TEST(what_changes_while_there_is_no_memory_for_a_frame_is_drawn_later)
{
    const struct display *real = frame_display(frame);
    static struct display_ops ops;
    static struct display display;
    ops = *real->ops;
    display = (struct display){ &ops, real->be };
    struct vga_screen *lean;
    vga_screen_free(screen);
    screen = NULL;
    ck_assert_int_eq(0, vga_screen_new(&lean, vga, &display, false));
    set_mode(&linear320);
    colours();
    vga_screen_draw(lean);
    poke(WINDOW + 320, 9);
    ops.begin = no_frame;
    vga_screen_draw(lean);
    ops.begin = real->ops->begin;
    vga_screen_draw(lean);
    const struct display_frame *f = frame_lock(frame, NULL, NULL);
    ck_assert_uint_eq(f->pixels[f->shape.width], colour(9));
    frame_unlock(frame);
    vga_screen_free(lean);
}
END_TEST

START_TEST(vbe_modes_have_a_linear_frame_buffer_and_a_bank)
{
    ck_assert_uint_eq(vbe_read(0), 0xb0c5);
    vbe(4, 2);
    ck_assert_uint_eq(vbe_read(1), 1920);
    ck_assert_uint_eq(vbe_read(2), 1200);
    vbe(4, 0);
    static const struct {
        u16 bpp;
        u32 value, colour;
    } depth[] = {
        { 15, 0x7c1f, 0xff00ff }, { 16, 0x07e0, 0x00ff00 }, { 24, 0x123456, 0x123456 }, { 32, 0x123456, 0x123456 }
    };
    for (unsigned i = 0; i < ARRAY_LEN(depth); i++) {
        u32 bytes = (depth[i].bpp + 7u) / 8;
        vbe(4, 0);
        vbe(1, 1920);
        vbe(2, 1200);
        vbe(3, depth[i].bpp);
        vbe(4, 0x41);
        bus_in(bus, 0x3da, 1);
        out(0x3c0, 0x20);
        for (u32 k = 0; k < bytes; k++) poke(LFB + (1199 * 1920 + 1919) * bytes + k, (u8)(depth[i].value >> 8 * k));
        ck_assert_uint_eq(pixel(1919, 1199), depth[i].colour);
        ck_assert_uint_eq(pixel(1918, 1199), 0);
        /* By the window: bank 3 is what is 192 KiB further. */
        vbe(5, 3);
        poke(WINDOW + 12, 0x5a);
        ck_assert_uint_eq(peek(LFB + 0x3000c), 0x5a);
    }
    vbe(6, 2048); /* a wider picture, seen from x 100, y 7 on */
    vbe(8, 100);
    vbe(9, 7);
    ck_assert_uint_eq(vbe_read(8), 100);
    bus_mmio_write(bus, LFB + (7 * 2048 + 100) * 4, 4, 0xabcdef);
    ck_assert_uint_eq(pixel(0, 0), 0xabcdef);
    vbe(4, 0);
    vbe(3, 77); /* there is no such depth */
    vbe(4, 1);
    ck_assert_uint_eq(vbe_read(3), 8);
}
END_TEST

START_TEST(retrace_comes_and_goes_with_guest_time)
{
    u32 seen[16] = { 0 };
    set_mode(&text80);
    for (u64 t = 0; t < 100000000; t += 5000) { /* 7 pictures of 70 a second */
        clock_set_manual(clk, t);
        seen[bus_in(bus, 0x3da, 1) & 9]++;
    }
    ck_assert_msg(seen[0] > 10000, "the screen is shown %u times of 20000", seen[0]);
    ck_assert_msg(seen[1] > 2000, "it is hidden %u times", seen[1]);
    ck_assert_msg(seen[9] > 40 && seen[9] < 1000, "vertical retrace is seen %u times", seen[9]);
    ck_assert_uint_eq(seen[8], 0); /* never while the screen is shown */
}
END_TEST

START_TEST(the_crt_controller_can_be_locked)
{
    set_mode(&text80);
    cr(0x11, 0x8e);
    cr(0x01, 1);
    cr(0x07, 0x00);
    out(0x3d4, 1);
    ck_assert_uint_eq(bus_in(bus, 0x3d5, 1), 79);
    out(0x3d4, 7);
    ck_assert_uint_eq(bus_in(bus, 0x3d5, 1) & 0x12, 0x02); /* but for line compare's bit */
    ck_assert_uint_eq(bus_in(bus, 0x3b5, 1), 0xff);        /* the other place is another card's */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dev_vga");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, write_modes_do_what_the_data_sheet_says);
    tcase_add_test(t, a_fill_is_as_many_writes);
    tcase_add_test(t, read_mode_1_compares_colours);
    tcase_add_test(t, sixteen_colours_come_from_four_planes);
    tcase_add_test(t, mode_13h_is_memory_itself);
    tcase_add_test(t, mode_x_has_four_pixels_at_an_address);
    tcase_add_test(t, text_is_characters_of_the_loaded_font);
    tcase_add_test(t, an_unchanged_screen_draws_nothing);
    tcase_add_test(t, each_viewer_is_told_what_has_changed_since_it_looked);
    tcase_add_test(t, what_changes_while_there_is_no_memory_for_a_frame_is_drawn_later);
    tcase_add_test(t, vbe_modes_have_a_linear_frame_buffer_and_a_bank);
    tcase_add_test(t, retrace_comes_and_goes_with_guest_time);
    tcase_add_test(t, the_crt_controller_can_be_locked);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
