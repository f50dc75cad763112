/* Owns how a picture is written to a file: PNG by libpng, or the text that stands there, in UTF-8. */
#include "src/back/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>

/* ---- code page 437 ---- */

/* 80h to FFh; the same as the table of Unicode's CP437.TXT. */
static const u16 high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee,
    0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6,
    0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa,
    0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502,
    0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514,
    0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550,
    0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c,
    0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4,
    0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320,
    0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};
/* What the character generator has for 00h to 1Fh. */
static const u16 low[32] = {
    0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
    0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
    0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};

void cp437_utf8(u8 code, char out[CP437_MAX])
{
    u32 c = code < 0x20 ? low[code] : code == 0x7f ? 0x2302 : code < 0x80 ? code : high[code - 0x80];
    unsigned n = 0;

    if (c >= 0x800) {
        out[n++] = (char)(0xe0 | c >> 12);
        out[n++] = (char)(0x80 | (c >> 6 & 63));
        out[n++] = (char)(0x80 | (c & 63));
    } else if (c >= 0x80) {
        out[n++] = (char)(0xc0 | c >> 6);
        out[n++] = (char)(0x80 | (c & 63));
    } else {
        out[n++] = (char)c;
    }
    out[n] = 0;
}

/* ---- files ---- */

static int write_text(const struct display_frame *f, FILE *out)
{
    if (!f->shape.columns) return -ENOTSUP;
    for (u32 y = 0; y < f->shape.rows; y++) {
        const struct display_cell *row = f->cells + (size_t)y * f->shape.columns;
        u32 n = f->shape.columns;
        char text[CP437_MAX];

        while (n && (row[n - 1].code == ' ' || !row[n - 1].code || row[n - 1].code == 0xff)) n--;
        for (u32 x = 0; x < n; x++) {
            cp437_utf8(row[x].code, text);
            fputs(text, out);
        }
        putc('\n', out);
    }
    return 0;
}

static void png_line(const u32 *from, u32 n, u8 *to)
{
    for (u32 i = 0; i < n; i++) {
        *to++ = (u8)(from[i] >> 16);
        *to++ = (u8)(from[i] >> 8);
        *to++ = (u8)from[i];
    }
}

/* libpng leaves by longjmp(). */
static int write_png(const struct display_frame *f, FILE *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    u8 *line = malloc((size_t)f->shape.width * 3);
    int rc = png && info && line ? 0 : -ENOMEM;

    if (!rc && setjmp(png_jmpbuf(png))) rc = -EIO;
    else if (!rc) {
        png_init_io(png, out);
        png_set_IHDR(png, info, f->shape.width, f->shape.height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
        png_write_info(png, info);
        for (u32 y = 0; y < f->shape.height; y++) {
            png_line(f->pixels + (size_t)y * f->shape.width, f->shape.width, line);
            png_write_row(png, line);
        }
        png_write_end(png, info);
    }
    png_destroy_write_struct(&png, &info);
    free(line);
    return rc;
}

int picture_write(const struct display_frame *f, bool text, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3), rc;
    FILE *out = own < 0 ? NULL : fdopen(own, "wb");

    if (!out) {
        rc = -errno;
        if (own >= 0) close(own);
        return rc;
    }
    rc = text ? write_text(f, out) : write_png(f, out);
    if (ferror(out) && !rc) rc = -EIO;
    if (fclose(out) && !rc) rc = -errno;
    return rc;
}
