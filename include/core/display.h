/* A screen, between the chip that makes the picture and the back end that shows it.
 *
 * Threads. The chip draws on the vCPU thread, when the board asks it to; that is when the back end, on a thread of its
 * own, has asked the board (rt_post()). Both calls here are made on the vCPU thread. From begin() to end() the frame is
 * the chip's alone: the back end's other threads wait for it, so nothing in between takes long. */
#ifndef CORE_DISPLAY_H
#define CORE_DISPLAY_H
#include "core/types.h"

struct display_shape {
    u32 width, height; /* pixels, at most DISPLAY_MAX each; at least 1 */
    u32 columns, rows; /* characters of a text mode; 0: graphics */
};
#define DISPLAY_MAX 2560u

/* One character. Colours are numbers of frame.colour. */
struct display_cell {
    u8 code; /* as the guest has it: code page 437, as long as it loads no other font */
    u8 ink : 4, paper : 4;
    bool blinks, second_font;
};

/* What stands on the screen. */
struct display_frame {
    struct display_shape shape;
    u32 *pixels;                /* 0x00RRGGBB, shape.width in a row, top row first */
    struct display_cell *cells; /* of a text mode: shape.columns in a row */
    u32 colour[16];             /* 0x00RRGGBB, of a text mode */
    bool cursor;                /* of a text mode: it is shown, here: */
    u32 cursor_column, cursor_row;
    bool blank; /* the guest has switched the screen off: all is black, and cells are blanks */
};
struct display_rect {
    u32 x, y, width, height; /* pixels */
};

struct display_ops {
    /* The back end's frame, of this shape. *fresh: its contents are of another shape, or of none, and all of it is to
     * be drawn. NULL: there is no memory for it, nothing is shown, and end() is not called. */
    struct display_frame *(*begin)(void *be, const struct display_shape *shape, bool *fresh);
    /* It is drawn. changed: where it differs from before; n may be 0. Cursor and colours may differ anyway. */
    void (*end)(void *be, const struct display_rect *changed, unsigned n);
};
struct display {
    const struct display_ops *ops;
    void *be;
};

#endif
