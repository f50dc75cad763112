/* Owns what is made of registers and video memory: the picture. Nothing here changes the VGA.
 *   I1  What is drawn is what the registers say now, and memory is now; what has not changed is left as it is, found by
 *       the dirty log, the mode and the colours of the time before.                              [vga_screen_draw]
 *   I2  No register leads out of video memory or out of the frame: addresses wrap, sizes are bounded.  [mode_of, at_of]
 * Enter at vga_screen_draw(). IBM PS/2 Hardware Interface TR, Video Subsystem: "CRT Controller", "Attribute
 * Controller". A line that the CRT controller shows several times (double scanning, maximum scan line in graphics)
 * is one of the picture.
 * NOT-HW: addresses count as vga_mem.c lays memory out, whatever the word and doubleword bits say; a row scan
 * of CGA-like modes (CRTC 17h, bits 0 and 1) selects its half of memory as with word addressing off or on. */
#include "src/dev/vga/vga_priv.h"
#include "core/display.h"

#include <errno.h>
#include <string.h>

#define FONT_LEN 8192u         /* 256 characters of 32 lines */
#define CURSOR_NS 266666667ull /* on for 16 pictures of 60 a second, off for as many */
#define RECTS_MAX 32u
#define NOWHERE UINT32_MAX

enum kind { BLANK, TEXT, PLANAR, CGA, PACKED_8, DIRECT_15, DIRECT_16, DIRECT_24, DIRECT_32 };

/* All that a picture depends on besides memory and colours. Without padding: it is compared as bytes. */
struct mode {
    struct display_shape shape;
    enum kind kind;
    u32 start, pitch;                 /* bytes of memory, from the first line (of text: row) to the next */
    u32 wrap;                         /* bytes, a power of two */
    u32 split;                        /* the line from which on memory is shown from its start again; NOWHERE: none */
    u32 preset;                       /* text: the first row's first line */
    u32 pan, split_pan;               /* pixels that are left out on the left, above the split and below it */
    u32 cell_width, cell_height;      /* text */
    u32 font[2];                      /* text: offsets in plane 2, for attribute bit 3 clear and set */
    u32 row_scan_bits, row_scan_from; /* CGA-like: these bits of the line number select a part of memory, from this
                                         address bit on */
    u32 ninth, blinking;              /* text: if not 0 */
    u32 underline;                    /* text: line of it, in monochrome modes; NOWHERE: none */
};
struct cursor {
    u32 at; /* cell; NOWHERE: not shown */
    u32 first, last;
};

struct vga_screen {
    struct vga *vga;
    const struct display *display;
    struct dirty_log *log;
    u64 dirty[VGA_RAM / PAGE_SIZE / 64];
    /* as it was drawn: */
    struct mode mode;
    u32 colour[256];
    struct cursor cursor;
    bool blink_off;
    u8 font[2][FONT_LEN];
    struct display_rect rect[RECTS_MAX];
    unsigned rects;
};

/* ---- the mode ---- */

static u32 least(u32 a, u32 b) { return a < b ? a : b; }

static struct mode vbe_mode(const struct vga *v)
{
    static const struct {
        u8 bpp;
        enum kind kind;
    } kinds[] = { { 4, PLANAR },     { 8, PACKED_8 },   { 15, DIRECT_15 },
                  { 16, DIRECT_16 }, { 24, DIRECT_24 }, { 32, DIRECT_32 } };
    const u16 *r = v->vbe;
    struct mode m = { .shape = { r[VBE_XRES], r[VBE_YRES], 0, 0 }, .wrap = VGA_RAM, .split = NOWHERE };

    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].bpp == r[VBE_BPP]) m.kind = kinds[i].kind;
    m.pitch = vga_pitch(r[VBE_VIRT_WIDTH], r[VBE_BPP]);
    m.start = r[VBE_Y] * m.pitch + vga_pitch(r[VBE_X] & ~7u, r[VBE_BPP]);
    m.pan = m.split_pan = r[VBE_X] & 7;
    return m;
}

static void text_mode(const struct vga *v, struct mode *m, u32 lines)
{
    u8 map = v->seq[SEQ_FONT];
    bool eight = v->seq[SEQ_CLOCKING] & SEQ_8_DOTS;

    m->kind = TEXT;
    m->cell_width = eight ? 8 : 9;
    m->cell_height = (v->cr[CR_MAX_SCAN] & 31) + 1u;
    m->shape.columns = least(v->cr[CR_HDISPLAY] + 1u, DISPLAY_MAX / m->cell_width);
    m->shape.rows = lines / m->cell_height ? lines / m->cell_height : 1;
    m->shape.width = m->shape.columns * m->cell_width;
    m->shape.height = lines < m->shape.rows * m->cell_height ? m->shape.rows * m->cell_height : lines;
    m->preset = v->cr[CR_PRESET] & 31;
    m->ninth = v->ar[AR_MODE] & AR_LINE_GRAPHICS;
    m->blinking = v->ar[AR_MODE] & AR_BLINK;
    m->underline = v->ar[AR_MODE] & 2 ? v->cr[0x14] & 31u : NOWHERE;
    m->font[0] = (map & 3u) << 14 | (map & 0x10u) << 9;      /* map B */
    m->font[1] = (map >> 2 & 3u) << 14 | (map & 0x20u) << 8; /* map A */
    /* With 9 dots a panning of 8 is none, and less is one more. */
    if (!eight) m->pan = m->pan > 7 ? 0 : m->pan + 1;
    else m->pan &= 7;
}

static void graphics_mode(const struct vga *v, struct mode *m, u32 lines)
{
    u8 scan = v->cr[CR_MAX_SCAN], mode = v->cr[CR_MODE];
    u32 repeat = (mode & 3) == 3 ? (scan & 31) + 1u : 1;

    m->kind = v->gr[GR_MODE] & GR_SHIFT_256 ? PACKED_8 : v->gr[GR_MODE] & GR_SHIFT_CGA ? CGA : PLANAR;
    if (scan & 0x80) repeat *= 2;
    m->shape.width = (v->cr[CR_HDISPLAY] + 1u) * (m->kind == PACKED_8 ? 4 : 8);
    m->shape.height = lines / repeat ? lines / repeat : 1;
    if (m->split != NOWHERE) m->split = (m->split + repeat - 1) / repeat;
    m->pan = m->kind == PACKED_8 ? m->pan >> 1 & 3 : m->pan & 7;
    if ((mode & 3) == 3) return;
    /* Lines take turns between two, or four, parts of memory, each one row of which holds all lines of a scan. */
    m->row_scan_bits = least((scan & 31) + 1u, 4);
    m->row_scan_from =
        mode & 0x40 ? 15 : 14; /* of the address in bytes: plane offset bit 13, or 12 where memory is odd/even */
}

static struct mode mode_of(const struct vga *v)
{
    u8 over = v->cr[CR_OVERFLOW];
    struct mode m = { .wrap = VGA_PLANES_LEN, .kind = BLANK };
    u32 lines = (v->cr[CR_VDISPLAY] | (over & 2u) << 7 | (over & 0x40u) << 3) + 1;
    u32 split = v->cr[CR_LINE_COMPARE] | (over & 0x10u) << 4 | (v->cr[CR_MAX_SCAN] & 0x40u) << 3;

    if (vbe_on(v)) {
        m = vbe_mode(v);
    } else {
        m.start = (v->cr[CR_START_HIGH] << 8 | v->cr[CR_START_LOW]) * 4u + (v->cr[CR_PRESET] >> 5 & 3) * 4u;
        m.pitch = v->cr[CR_OFFSET] * 8u;
        m.split = split + 1 < lines ? split + 1 : NOWHERE;
        m.pan = v->ar[AR_PAN];
        if (v->gr[GR_MISC] & GR_GRAPHICS) graphics_mode(v, &m, lines);
        else text_mode(v, &m, lines);
        m.split_pan = v->ar[AR_MODE] & AR_PAN_TOP_ONLY ? 0 : m.pan;
    }
    if (!(v->ar_index & AR_INDEX_ON) || v->seq[SEQ_CLOCKING] & SEQ_SCREEN_OFF) m.kind = BLANK;
    return m;
}

/* ---- colours ---- */

static u32 dac_colour(const struct vga *v, u32 i)
{
    const u8 *p = v->dac + (i & v->dac_mask) * 3u;

    if (v->vbe[VBE_ENABLE] & VBE_DAC_8) return (u32)p[0] << 16 | p[1] << 8 | p[2];
    return (u32)(p[0] << 2 | p[0] >> 4) << 16 | (u32)(p[1] << 2 | p[1] >> 4) << 8 | (u32)(p[2] << 2 | p[2] >> 4);
}

/* By number of colour: 256 of the DAC, or the 16 of the attribute controller. */
static void colours_of(const struct vga *v, enum kind kind, u32 colour[256])
{
    u8 select = v->ar[AR_SELECT];

    memset(colour, 0, 256 * sizeof colour[0]);
    for (u32 i = 0; i < 256; i++) {
        u32 at = i, p = v->ar[i & v->ar[AR_PLANES] & 15];

        if (kind != PACKED_8 && i > 15) return;
        if (kind != PACKED_8)
            at = v->ar[AR_MODE] & AR_SELECT_45 ? (p & 15) | (select & 15u) << 4 : p | (select & 12u) << 4;
        colour[i] = dac_colour(v, at);
    }
}

/* ---- lines ---- */

/* Where line y of the picture is in memory; text: the row's first cell, and *scan is the line of it. */
static u32 line_at(const struct mode *m, u32 y, u32 *scan)
{
    bool below = m->split != NOWHERE && y >= m->split;
    u32 line = below ? y - m->split : y + m->preset, at = below ? 0 : m->start, parts = m->row_scan_bits;

    *scan = 0;
    if (m->kind == TEXT) {
        *scan = line % m->cell_height;
        return at + line / m->cell_height * m->pitch;
    }
    if (!parts) return at + line * m->pitch;
    return (at + line / parts * m->pitch) ^ ((line % parts & 1) << m->row_scan_from)
           ^ ((line % parts & 2) << m->row_scan_from);
}

static u32 pan_at(const struct mode *m, u32 y) { return m->split != NOWHERE && y >= m->split ? m->split_pan : m->pan; }

static u32 load32(const struct vga *v, const struct mode *m, u32 at)
{
    u32 val;
    memcpy(&val, v->mem + (at & (m->wrap - 1) & ~3u), sizeof val);
    return val;
}

/* Bit 7 - n of each plane's byte. */
static unsigned planar_pixel(u32 planes, unsigned n)
{
    u32 bit = planes >> (7 - n);
    return (bit & 1) | (bit >> 7 & 2) | (bit >> 14 & 4) | (bit >> 21 & 8);
}

/* Two bits of plane 0 (the first four pixels) or 1, with those of plane 2 or 3 above them. */
static unsigned cga_pixel(u32 planes, unsigned n)
{
    u32 pair = planes >> (n < 4 ? 0 : 8) >> (6 - n % 4 * 2);
    return (pair & 3) | (pair >> 14 & 12);
}

static void draw_planes(const struct vga_screen *s, u32 at, u32 pan, u32 *to, u32 n, unsigned (*pixel)(u32, unsigned))
{
    u32 planes = load32(s->vga, &s->mode, at);

    for (u32 i = 0, x = pan; i < n; i++) {
        to[i] = s->colour[pixel(planes, x)];
        if (++x < 8) continue;
        x = 0;
        planes = load32(s->vga, &s->mode, at += 4);
    }
}

static u32 widen(u32 val, unsigned bits) { return val << (8 - bits) | val >> (2 * bits - 8); }

static u32 direct_colour(const struct vga *v, enum kind kind, u32 at)
{
    const u8 *p = v->mem + (at & (VGA_RAM - 1));
    u32 w = p[0] | p[1] << 8; /* a pixel does not straddle the end: sizes are even, and 24 bits are read by bytes */

    if (kind == DIRECT_15) return widen(w >> 10 & 31, 5) << 16 | widen(w >> 5 & 31, 5) << 8 | widen(w & 31, 5);
    return widen(w >> 11 & 31, 5) << 16 | widen(w >> 5 & 63, 6) << 8 | widen(w & 31, 5);
}

static u8 byte_at(const struct vga *v, u32 at) { return v->mem[at & (VGA_RAM - 1)]; }

static void draw_line(const struct vga_screen *s, u32 at, u32 pan, u32 *to, u32 n)
{
    const struct vga *v = s->vga;
    const struct mode *m = &s->mode;

    switch (m->kind) {
    case PLANAR: draw_planes(s, at, pan, to, n, planar_pixel); break;
    case CGA: draw_planes(s, at, pan, to, n, cga_pixel); break;
    case PACKED_8:
        for (u32 i = 0; i < n; i++) to[i] = s->colour[v->mem[(at + pan + i) & (m->wrap - 1)]];
        break;
    case DIRECT_15:
    case DIRECT_16:
        for (u32 i = 0; i < n; i++) to[i] = direct_colour(v, m->kind, at + (pan + i) * 2);
        break;
    case DIRECT_24:
        for (u32 i = 0, p = at + pan * 3; i < n; i++, p += 3)
            to[i] = byte_at(v, p) | (u32)byte_at(v, p + 1) << 8 | (u32)byte_at(v, p + 2) << 16;
        break;
    case DIRECT_32:
        for (u32 i = 0; i < n; i++) to[i] = load32(v, m, at + (pan + i) * 4) & 0xffffff;
        break;
    case BLANK:
    case TEXT: break;
    }
}

/* ---- what has changed ---- */

static void rect_add(struct vga_screen *s, u32 x, u32 y, u32 width, u32 height)
{
    struct display_rect *last = s->rects ? &s->rect[s->rects - 1] : NULL;

    if (last && last->x == x && last->width == width && last->y + last->height == y) {
        last->height += height;
    } else if (s->rects < RECTS_MAX) {
        s->rect[s->rects++] = (struct display_rect){ x, y, width, height };
    } else { /* lines come from top to bottom */
        last->x = 0;
        last->width = s->mode.shape.width;
        last->height = y + height - last->y;
    }
}

static bool is_dirty(const struct vga_screen *s, u32 at, u32 len)
{
    u32 mask = s->mode.wrap / PAGE_SIZE - 1;

    for (u32 page = at / PAGE_SIZE; page <= (at + len - 1) / PAGE_SIZE; page++)
        if (s->dirty[(page & mask) / 64] >> (page & mask) % 64 & 1) return true;
    return false;
}

/* ---- graphics ---- */

static u32 line_bytes(const struct mode *m)
{
    u32 n = m->shape.width + 8;

    switch (m->kind) {
    case PLANAR:
    case CGA: return n / 2 + 4;
    case DIRECT_15:
    case DIRECT_16: return n * 2;
    case DIRECT_24: return n * 3;
    case DIRECT_32: return n * 4;
    default: return n;
    }
}

static void draw_graphics(struct vga_screen *s, struct display_frame *f, bool all)
{
    const struct mode *m = &s->mode;
    u32 scan, len = line_bytes(m);

    for (u32 y = 0; y < m->shape.height; y++) {
        u32 at = line_at(m, y, &scan);
        if (!all && !is_dirty(s, at, len)) continue;
        draw_line(s, at, pan_at(m, y), f->pixels + (size_t)y * m->shape.width, m->shape.width);
        rect_add(s, 0, y, m->shape.width, 1);
    }
}

/* ---- text ---- */

static struct cursor cursor_of(const struct vga *v, const struct mode *m)
{
    u32 at = (v->cr[CR_CURSOR_HIGH] << 8 | v->cr[CR_CURSOR_LOW]) * 4u - m->start;
    struct cursor c = { NOWHERE, v->cr[CR_CURSOR_START] & 31, v->cr[CR_CURSOR_END] & 31 };
    u32 row = m->pitch ? at / m->pitch : 0, column = m->pitch ? at % m->pitch / 4 : 0;

    if (v->cr[CR_CURSOR_START] & 0x20 || c.first > c.last || row >= m->shape.rows || column >= m->shape.columns)
        return c;
    c.at = row * m->shape.columns + column;
    return c;
}

/* Copies the fonts. True: they have changed. */
static bool fonts_take(struct vga_screen *s)
{
    bool changed = false;

    for (unsigned n = 0; n < 2; n++)
        for (u32 i = 0; i < FONT_LEN; i++) {
            u8 bits = s->vga->mem[((s->mode.font[n] + i) * 4 + 2) & (VGA_PLANES_LEN - 1)];
            changed |= bits != s->font[n][i];
            s->font[n][i] = bits;
        }
    return changed;
}

static struct display_cell cell_at(const struct vga_screen *s, u32 at)
{
    u32 w = load32(s->vga, &s->mode, at);
    u8 attr = (u8)(w >> 8);
    struct display_cell c = { .code = (u8)w, .ink = attr & 15, .paper = attr >> 4 };

    if (s->mode.blinking) {
        c.paper = attr >> 4 & 7;
        c.blinks = attr & 0x80;
    }
    c.second_font = attr & 8 && s->mode.font[0] != s->mode.font[1];
    return c;
}

static bool same_cell(struct display_cell a, struct display_cell b)
{
    return a.code == b.code && a.ink == b.ink && a.paper == b.paper && a.blinks == b.blinks
           && a.second_font == b.second_font;
}

/* Line scan of a character. */
static void draw_cell(const struct vga_screen *s, struct display_cell c, u32 scan, bool cursor, u32 *to, u32 width)
{
    u32 bits = (u32)s->font[c.second_font ? 1 : 0][c.code * 32u + scan] << 1;
    u32 ink = s->colour[c.ink], paper = s->colour[c.paper];

    if (s->mode.ninth && c.code >= 0xc0 && c.code <= 0xdf) bits |= bits >> 1 & 1; /* lines go on to the next one */
    if (c.blinks && s->blink_off) bits = 0;
    if (scan == s->mode.underline && c.ink == 1) bits = 0x1ff;
    if (cursor) bits = 0x1ff;
    for (u32 i = 0; i < width; i++) to[i] = bits >> (8 - i) & 1 ? ink : paper;
}

/* One line of the picture, through rows that start in their midst and characters that are cut. */
static void draw_text_line(struct vga_screen *s, u32 y, u32 from, u32 to_column, u32 *pixels)
{
    const struct mode *m = &s->mode;
    u32 scan, at = line_at(m, y, &scan), pan = pan_at(m, y), row = (y + m->preset) / m->cell_height;
    u32 line[16];

    if (m->split != NOWHERE && y >= m->split) row = NOWHERE; /* the cursor is above */
    for (u32 i = from; i <= to_column; i++) {
        struct display_cell c = cell_at(s, at + i * 4);
        bool cursor = row != NOWHERE && s->cursor.at == row * m->shape.columns + i && !s->blink_off
                      && scan >= s->cursor.first && scan <= s->cursor.last;
        u32 x = i * m->cell_width, skip = x < pan ? pan - x : 0;

        draw_cell(s, c, scan, cursor, line, m->cell_width);
        x = x < pan ? 0 : x - pan;
        for (u32 k = skip; k < m->cell_width && x < m->shape.width; k++) pixels[x++] = line[k];
    }
}

/* The cells of a row that differ from what the frame has; false: none does. The frame gets them. */
static bool row_take(struct vga_screen *s, struct display_frame *f, u32 row, u32 *from, u32 *to)
{
    const struct mode *m = &s->mode;
    struct display_cell *old = f->cells + (size_t)row * m->shape.columns;
    u32 scan, at = line_at(m, row * m->cell_height, &scan);

    *from = NOWHERE;
    for (u32 i = 0; i < m->shape.columns; i++) {
        struct display_cell c = cell_at(s, at + i * 4);
        if (same_cell(c, old[i])) continue;
        old[i] = c;
        if (*from == NOWHERE) *from = i;
        *to = i;
    }
    return *from != NOWHERE;
}

static void include(u32 *from, u32 *to, u32 i)
{
    if (*from == NOWHERE || i < *from) *from = i;
    if (*to == NOWHERE || i > *to) *to = i;
}

/* Whether a cell of the row blinks. */
static void include_blinking(const struct vga_screen *s, const struct display_frame *f, u32 row, u32 *from, u32 *to)
{
    u32 columns = s->mode.shape.columns;

    for (u32 i = 0; i < columns; i++)
        if (f->cells[(size_t)row * columns + i].blinks) include(from, to, i);
}

static void draw_text(struct vga_screen *s, struct display_frame *f, bool all, bool blinked, struct cursor was)
{
    const struct mode *m = &s->mode;
    u32 columns = m->shape.columns, width = m->shape.width;
    bool crooked = m->preset || m->pan || m->split != NOWHERE, any = all;

    for (u32 row = 0; row < m->shape.rows; row++) {
        u32 from = NOWHERE, to = NOWHERE, y = row * m->cell_height, height = m->cell_height;

        any |= row_take(s, f, row, &from, &to);
        if (crooked) continue;
        if (blinked) include_blinking(s, f, row, &from, &to);
        if (was.at / columns == row && was.at != NOWHERE) include(&from, &to, was.at % columns);
        if (s->cursor.at / columns == row && s->cursor.at != NOWHERE) include(&from, &to, s->cursor.at % columns);
        if (all) {
            from = 0;
            to = columns - 1;
        }
        if (from == NOWHERE) continue;
        for (u32 i = 0; i < height; i++) draw_text_line(s, y + i, from, to, f->pixels + (size_t)(y + i) * width);
        rect_add(s, from * m->cell_width, y, (to - from + 1) * m->cell_width, height);
    }
    bool moved = was.at != s->cursor.at || blinked;
    if (crooked && (any || moved)) {
        u32 last = m->pan || m->split_pan ? columns : columns - 1; /* panned, a piece of one more is seen */
        for (u32 y = 0; y < m->shape.height; y++) draw_text_line(s, y, 0, last, f->pixels + (size_t)y * width);
        rect_add(s, 0, 0, width, m->shape.height);
    }
    memcpy(f->colour, s->colour, sizeof f->colour);
    f->cursor = s->cursor.at != NOWHERE;
    f->cursor_column = f->cursor ? s->cursor.at % columns : 0;
    f->cursor_row = f->cursor ? s->cursor.at / columns : 0;
}

/* ---- all of it ---- */

static void draw_blank(struct vga_screen *s, struct display_frame *f)
{
    const struct display_shape *p = &s->mode.shape;

    memset(f->pixels, 0, (size_t)p->width * p->height * sizeof f->pixels[0]);
    for (u32 i = 0; i < p->columns * p->rows; i++) f->cells[i] = (struct display_cell){ .code = ' ' };
    memset(f->colour, 0, sizeof f->colour);
    f->cursor = false;
    rect_add(s, 0, 0, p->width, p->height);
}

void vga_screen_draw(struct vga_screen *s)
{
    const struct vga *v = s->vga;
    struct mode mode = mode_of(v);
    u32 colour[256];
    bool fresh;
    struct display_frame *f = s->display->ops->begin(s->display->be, &mode.shape, &fresh);

    if (!f) return;
    bool dirty = !s->log || dirty_log_take(s->log, s->dirty);
    colours_of(v, mode.kind, colour);
    bool all = fresh || !s->log || memcmp(&mode, &s->mode, sizeof mode) || memcmp(colour, s->colour, sizeof colour);
    struct cursor was = s->cursor;
    bool blink_off = s->log && mode.kind == TEXT && clock_now(v->clk) / CURSOR_NS % 2;
    s->mode = mode;
    memcpy(s->colour, colour, sizeof colour);
    s->rects = 0;
    f->blank = mode.kind == BLANK;
    if (mode.kind == BLANK) {
        if (all) draw_blank(s, f);
    } else if (mode.kind == TEXT) {
        bool blinked = blink_off != s->blink_off;
        s->blink_off = blink_off;
        s->cursor = cursor_of(v, &mode);
        if ((all || dirty) && fonts_take(s)) all = true;
        bool moved = memcmp(&was, &s->cursor, sizeof was);
        if (all || dirty || blinked || moved) draw_text(s, f, all, blinked, was);
    } else if (all || dirty) {
        draw_graphics(s, f, all);
    }
    s->display->ops->end(s->display->be, s->rect, s->rects);
}

int vga_screen_new(struct vga_screen **out, struct vga *v, const struct display *d, bool once)
{
    struct vga_screen *s = calloc(1, sizeof *s);
    int err;

    if (!s) return -ENOMEM;
    s->vga = v;
    s->display = d;
    s->cursor.at = NOWHERE;
    if (!once && (err = dirty_log_new(&s->log, v->bus, v->ram))) {
        free(s);
        return err;
    }
    *out = s;
    return 0;
}

void vga_screen_free(struct vga_screen *s)
{
    if (!s) return;
    dirty_log_free(s->log);
    free(s);
}
