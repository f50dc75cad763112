/* Drivers that lie: the VGA's registers, VBE registers and windows hold whatever comes, and any of it can be drawn.
 * Nothing may crash, or leave video memory or the picture; what is drawn of changes is what is drawn from the start;
 * and at any moment the VGA can be saved, and what is loaded from that is the same.
 *
 *   fuzz_vga [--seed N] [--count N]
 *   libfuzzer_vga (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/clock.h"
#include "core/display.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/drivers.h"

#define WINDOW 0xa0000u
#define WINDOW_LEN 0x20000u
#define VIDEO_LEN (16u << 20)
#define PIXELS_MAX (1u << 18) /* larger pictures are drawn seldom: they take their time */

/* ---- a display: a picture of just the size that was asked for ---- */

static u64 drawn[2], compared; /* text, graphics */
struct picture {
    struct display_frame f;
    bool begun, ended; /* ended: the last drawing came to its end */
};

static u64 pixels_of(const struct display_shape *p) { return (u64)p->width * p->height; }

static void picture_free(struct picture *to)
{
    free(to->f.pixels);
    free(to->f.cells);
    *to = (struct picture){ 0 };
}
static struct display_frame *on_begin(void *be, const struct display_shape *shape, bool *fresh)
{
    struct picture *to = be;
    u64 cells = (u64)shape->columns * shape->rows;
    BUG_ON(to->begun || !shape->width || !shape->height);
    BUG_ON(shape->width > DISPLAY_MAX || shape->height > DISPLAY_MAX);
    to->ended = false;
    if (pixels_of(shape) > PIXELS_MAX ? rnd(16) : rnd(64) == 1) return NULL; /* no memory for it */
    *fresh = !to->f.pixels || memcmp(shape, &to->f.shape, sizeof *shape);
    if (*fresh) {
        picture_free(to);
        to->f.shape = *shape;
        to->f.pixels = malloc(pixels_of(shape) * sizeof to->f.pixels[0]);
        to->f.cells = calloc(cells ? cells : 1, sizeof to->f.cells[0]);
        BUG_ON(!to->f.pixels || !to->f.cells);
    }
    to->begun = true;
    return &to->f;
}
static void on_end(void *be, const struct display_rect *changed, unsigned n)
{
    struct picture *to = be;
    const struct display_frame *f = &to->f;
    const struct display_shape *p = &f->shape;
    BUG_ON(!to->begun);
    to->begun = false;
    to->ended = true;
    for (unsigned i = 0; i < n; i++) {
        const struct display_rect *r = &changed[i];
        BUG_ON(!r->width || !r->height || r->x >= p->width || r->y >= p->height);
        BUG_ON(r->width > p->width - r->x || r->height > p->height - r->y);
    }
    BUG_ON(f->cursor && (f->cursor_column >= p->columns || f->cursor_row >= p->rows));
    drawn[!p->columns] += n != 0;
}

/* ---- the board ---- */

struct side {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct vga *vga;
};
struct board {
    struct side a, twin; /* the second is one to load into */
    struct picture picture;
    struct display display;
    struct vga_screen *screen;
    u64 now;
};
static const struct display_ops ops = { on_begin, on_end };

static void side_new(struct side *s)
{
    static const struct irq_line none[16];
    BUG_ON(bus_new(&s->bus, RAM) || clock_new(&s->clk));
    clock_set_manual(s->clk, 0);
    BUG_ON(pci_new(&s->pci, s->bus, none, none, (struct dev_event){ 0 }));
    BUG_ON(vga_new(&s->vga, s->bus, s->clk, s->pci, NULL, 0));
    pci_firmware_setup(s->pci, MEM_BASE, IO_BASE);
}
static void side_free(struct side *s)
{
    vga_free(s->vga);
    pci_free(s->pci);
    clock_free(s->clk);
    bus_free(s->bus);
}
static void board_new(struct board *b)
{
    *b = (struct board){ .display = { &ops, &b->picture } };
    side_new(&b->a);
    side_new(&b->twin);
    BUG_ON(vga_screen_new(&b->screen, b->a.vga, &b->display, false));
}
static void board_free(struct board *b)
{
    vga_screen_free(b->screen);
    picture_free(&b->picture);
    side_free(&b->a);
    side_free(&b->twin);
}
static void check_saved(struct board *b) { check_handed_over(vga_part(b->a.vga), vga_part(b->twin.vga)); }

/* Of what has changed since the last drawing, the picture is as one that is drawn from the start. Of text, whose cursor
 * blinks, the shape is. */
static void draw(struct board *b)
{
    struct picture whole = { 0 };
    const struct display display = { &ops, &whole };
    struct vga_screen *once;
    vga_screen_draw(b->screen);
    if (!b->picture.ended || rnd(4)) return;
    BUG_ON(vga_screen_new(&once, b->a.vga, &display, true));
    vga_screen_draw(once);
    if (whole.ended) {
        const struct display_frame *f = &whole.f, *g = &b->picture.f;
        BUG_ON(memcmp(&f->shape, &g->shape, sizeof f->shape) || f->blank != g->blank);
        u64 n = pixels_of(&f->shape) * sizeof f->pixels[0];
        BUG_ON(!f->shape.columns && memcmp(f->pixels, g->pixels, n));
        compared += !f->shape.columns && !f->blank;
    }
    vga_screen_free(once);
    picture_free(&whole);
}

static void out(struct board *b, u16 port, u32 v) { bus_out(b->a.bus, port, 1, v); }
static void vbe(struct board *b, u32 index, u32 v)
{
    bus_out(b->a.bus, 0x1ce, 2, index);
    bus_out(b->a.bus, 0x1cf, 2, v);
}

static void access_any(struct board *b)
{
    unsigned size = 1u << rnd(3);
    u16 port = (u16)(rnd(8) ? 0x3b0 + rnd(0x30) : 0x1ce + rnd(4));
    port &= (u16) ~(size - 1);
    if (rnd(3)) bus_out(b->a.bus, port, size, value());
    else (void)bus_in(b->a.bus, port, size);
}
static void memory_any(struct board *b)
{
    unsigned size = 1u << rnd(3);
    bool linear = !rnd(4);
    u32 at = linear ? MEM_BASE + rnd(VIDEO_LEN) : WINDOW + rnd(WINDOW_LEN);
    if (rnd(2)) at = (linear ? MEM_BASE : WINDOW + rnd(4) * 0x8000) + rnd(0x1000); /* what is seen, most likely */
    at &= ~(size - 1);
    if (rnd(4)) bus_mmio_write(b->a.bus, at, size, value());
    else (void)bus_mmio_read(b->a.bus, at, size);
}

/* ---- drivers that begin by the book ---- */

/* Registers of a mode: sequencer 1 to 4, graphics controller 5 and 6, miscellaneous output, attribute mode. */
static const struct mode {
    u8 misc, seq[4], gr[2], ar, crtc[25];
} modes[] = {
    { 0x67, /* 3: text */
      { 0x00, 0x03, 0x00, 0x02 },
      { 0x10, 0x0e },
      0x0c,
      { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
        0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff } },
    { 0xe3, /* 12h: 640x480, planes */
      { 0x01, 0x0f, 0x00, 0x06 },
      { 0x00, 0x05 },
      0x01,
      { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff } },
    { 0x63, /* 13h: 320x200, chain-4 */
      { 0x01, 0x0f, 0x00, 0x0e },
      { 0x40, 0x05 },
      0x41,
      { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff } },
    { 0x63, /* 4: CGA */
      { 0x09, 0x03, 0x00, 0x02 },
      { 0x30, 0x0f },
      0x01,
      { 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff } },
};
static void mode_set(struct board *b)
{
    const struct mode *m = &modes[rnd(ARRAY_LEN(modes))];
    vbe(b, 4, 0);
    out(b, 0x3c2, m->misc);
    for (unsigned i = 0; i < 4; i++) bus_out(b->a.bus, 0x3c4, 2, (i + 1) | (u32)m->seq[i] << 8);
    bus_out(b->a.bus, 0x3d4, 2, 0x0011);
    for (unsigned i = 0; i < 25; i++) bus_out(b->a.bus, 0x3d4, 2, i | (u32)m->crtc[i] << 8);
    for (unsigned i = 0; i < 9; i++) {
        const u32 v = i == 5 ? m->gr[0] : i == 6 ? m->gr[1] : i == 7 ? 15 : i == 8 ? 0xff : 0;
        bus_out(b->a.bus, 0x3ce, 2, i | v << 8);
    }
    (void)bus_in(b->a.bus, 0x3da, 1);
    for (unsigned i = 0; i < 0x15; i++) {
        out(b, 0x3c0, i);
        out(b, 0x3c0, i < 0x10 ? i : i == 0x10 ? m->ar : i == 0x12 ? 15 : 0);
    }
    out(b, 0x3c0, 0x20);
}
static void vbe_set(struct board *b)
{
    static const u16 wide[] = { 320, 640, 800, 1024, 1920, 8, 1, 0xffff },
                     high[] = { 200, 480, 600, 768, 1200, 1, 0xffff };
    static const u8 bits[] = { 4, 8, 15, 16, 24, 32, 0, 255 };
    vbe(b, 4, 0);
    vbe(b, 1, rnd(4) ? wide[rnd(3)] : wide[rnd(ARRAY_LEN(wide))]);
    vbe(b, 2, rnd(4) ? high[rnd(3)] : high[rnd(ARRAY_LEN(high))]);
    vbe(b, 3, bits[rnd(ARRAY_LEN(bits))]);
    vbe(b, 4, 1 | rnd(256) | 0x80); /* clearing takes time */
    if (rnd(2)) vbe(b, 5 + rnd(5), value());
}
/* One register of a mode that is otherwise as it was. */
static void one(struct board *b)
{
    static const u16 index[] = { 0x3c4, 0x3ce, 0x3d4, 0x3b4 };
    if (rnd(8)) {
        bus_out(b->a.bus, index[rnd(4)], 2, rnd(32) | rnd(256) << 8);
        return;
    }
    (void)bus_in(b->a.bus, rnd(2) ? 0x3da : 0x3ba, 1);
    out(b, 0x3c0, rnd(64));
    out(b, 0x3c0, value() & 0xff);
    out(b, 0x3c0, 0x20);
}
static void reset(struct board *b)
{
    struct snap_part p = vga_part(b->a.vga);
    if (rnd(2)) { /* its memory goes elsewhere, or is not decoded */
        bus_out(b->a.bus, 0xcf8, 4, 0x80001000u | (rnd(2) ? 0x10 : 0x04));
        bus_out(b->a.bus, 0xcfc, 4, rnd(2) ? value() : MEM_BASE);
        bus_out(b->a.bus, 0xcf8, 4, 0x80001010u);
        bus_out(b->a.bus, 0xcfc, 4, MEM_BASE);
        bus_out(b->a.bus, 0xcf8, 4, 0x80001004u);
        bus_out(b->a.bus, 0xcfc, 4, 7);
    } else {
        snap_part_reset(&p);
    }
}

static void step(struct board *b)
{
    switch (rnd(32)) {
    case 0 ... 5: one(b); break;
    case 6 ... 16: memory_any(b); break;
    case 17:
        if (!rnd(8)) mode_set(b);
        break;
    case 18:
        if (!rnd(8)) vbe_set(b);
        break;
    case 19 ... 20:
        clock_set_manual(b->a.clk, b->now += rnd(1000000000));
        clock_run_due(b->a.clk);
        break;
    case 21 ... 22:
        if (!rnd(4)) draw(b);
        break;
    case 23:
        if (!rnd(16)) check_saved(b);
        break;
    case 24:
        if (!rnd(16)) reset(b);
        break;
    default: access_any(b); break;
    }
}

/* ---- their course ---- */

static struct board board;

static void driver_begin(unsigned kind UNUSED) { board_new(&board); }
static void driver_start(void) { mode_set(&board); }
static void driver_step(void) { step(&board); }
static void driver_end(void)
{
    draw(&board);
    check_saved(&board);
    board_free(&board);
}
static bool driver_reached(unsigned kind UNUSED, u64 n)
{
    printf("%llu drivers, %llu text screens, %llu pictures, %llu drawn again\n", (unsigned long long)n,
           (unsigned long long)drawn[0], (unsigned long long)drawn[1], (unsigned long long)compared);
    return n < 20 || (drawn[0] && drawn[1] && compared);
}
static const struct drivers drivers = { .count = 200,
                                        .steps = 1000,
                                        .begin = driver_begin,
                                        .start = driver_start,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
