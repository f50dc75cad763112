/* A picture in our own memory: the display that the others are made of. */
#ifndef SRC_BACK_FRAME_H
#define SRC_BACK_FRAME_H
#include "core/display.h"

/* changed() is told on the vCPU thread, with the frame unlocked, that something has been drawn; NULL: nobody is. */
struct frame;
MUST_CHECK int frame_new(struct frame **out, void (*changed)(void *arg), void *arg); /* 0 or -ENOMEM */
void frame_free(struct frame *f);                                                    /* copes with NULL */
const struct display *frame_display(struct frame *f);                                /* for the chip; the frame's */

/* Somebody who looks again and again. */
struct frame_viewer {
    struct display_rect changed; /* since the last look; width 0: nothing */
    struct frame_viewer *next;
};
void frame_viewer_add(struct frame *f, struct frame_viewer *v); /* borrows it until: */
void frame_viewer_remove(struct frame *f, struct frame_viewer *v);
/* For any thread: the picture, until frame_unlock(). A shape of 0 by 0: nothing has been drawn yet. changed: the
 * rectangle around all that has changed since v's last look; at the first that is everything. v and changed may be
 * NULL. */
const struct display_frame *frame_lock(struct frame *f, struct frame_viewer *v, struct display_rect *changed);
void frame_unlock(struct frame *f);

/* Writes the picture to fd: as a PNG, or as lines of text in UTF-8 (a text mode's only; -ENOTSUP). 0 or -errno. */
MUST_CHECK int picture_write(const struct display_frame *f, bool text, int fd);
/* A character of code page 437 in UTF-8, a zero after it. Control codes have the pictures that a VGA shows. */
#define CP437_MAX 4
void cp437_utf8(u8 code, char out[CP437_MAX]);

#endif
