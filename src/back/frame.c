/* Owns a picture and the lock between the chip that draws it and the threads that show it.
 *   I1  From frame_begin() to frame_end(), and from frame_lock() to frame_unlock(), the lock is held.
 *   I2  A viewer's changed is the rectangle around all that differs from what it saw.   [frame_end, frame_lock] */
#include "src/back/frame.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

struct frame {
    struct display display;
    pthread_mutex_t lock;
    struct display_frame picture;
    struct frame_viewer *viewers;
    void (*tell)(void *arg);
    void *arg;
};

static bool reshape(struct display_frame *p, const struct display_shape *shape)
{
    u32 *pixels = calloc((size_t)shape->width * shape->height, sizeof *pixels);
    struct display_cell *cells = calloc((size_t)shape->columns * shape->rows + 1, sizeof *cells);

    if (!pixels || !cells) {
        free(pixels);
        free(cells);
        return false;
    }
    free(p->pixels);
    free(p->cells);
    *p = (struct display_frame){ .shape = *shape, .pixels = pixels, .cells = cells };
    return true;
}

static struct display_frame *frame_begin(void *be, const struct display_shape *shape, bool *fresh)
{
    struct frame *f = be;

    pthread_mutex_lock(&f->lock);
    *fresh = memcmp(&f->picture.shape, shape, sizeof *shape);
    if (!*fresh || reshape(&f->picture, shape)) return &f->picture;
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static u32 least(u32 a, u32 b) { return a < b ? a : b; }
static u32 most(u32 a, u32 b) { return a > b ? a : b; }

static void include(struct display_rect *all, const struct display_rect *r)
{
    u32 right = r->x + r->width, bottom = r->y + r->height;

    if (all->width) {
        right = most(right, all->x + all->width);
        bottom = most(bottom, all->y + all->height);
    }
    all->x = all->width ? least(all->x, r->x) : r->x;
    all->y = all->width ? least(all->y, r->y) : r->y;
    all->width = right - all->x;
    all->height = bottom - all->y;
}

static void frame_end(void *be, const struct display_rect *changed, unsigned n)
{
    struct frame *f = be;

    for (struct frame_viewer *v = f->viewers; v; v = v->next)
        for (unsigned i = 0; i < n; i++) include(&v->changed, &changed[i]);
    pthread_mutex_unlock(&f->lock);
    if (f->tell) f->tell(f->arg);
}

static struct display_rect whole(const struct frame *f)
{
    return (struct display_rect){ 0, 0, f->picture.shape.width, f->picture.shape.height };
}

void frame_viewer_add(struct frame *f, struct frame_viewer *v)
{
    pthread_mutex_lock(&f->lock);
    *v = (struct frame_viewer){ whole(f), f->viewers };
    f->viewers = v;
    pthread_mutex_unlock(&f->lock);
}

void frame_viewer_remove(struct frame *f, struct frame_viewer *v)
{
    pthread_mutex_lock(&f->lock);
    struct frame_viewer **at = &f->viewers;
    while (*at != v) at = &(*at)->next;
    *at = v->next;
    pthread_mutex_unlock(&f->lock);
}

const struct display_frame *frame_lock(struct frame *f, struct frame_viewer *v, struct display_rect *changed)
{
    pthread_mutex_lock(&f->lock);
    if (!v) return &f->picture;
    if (changed) *changed = v->changed;
    v->changed = (struct display_rect){ 0 };
    /* Of a picture that has become smaller since. */
    if (changed
        && (changed->x + changed->width > f->picture.shape.width
            || changed->y + changed->height > f->picture.shape.height))
        *changed = whole(f);
    return &f->picture;
}

void frame_unlock(struct frame *f) { pthread_mutex_unlock(&f->lock); }

const struct display *frame_display(struct frame *f) { return &f->display; }

int frame_new(struct frame **out, void (*changed)(void *arg), void *arg)
{
    static const struct display_ops ops = { frame_begin, frame_end };
    struct frame *f = calloc(1, sizeof *f);

    if (!f) return -ENOMEM;
    f->display = (struct display){ &ops, f };
    f->tell = changed;
    f->arg = arg;
    pthread_mutex_init(&f->lock, NULL);
    *out = f;
    return 0;
}

void frame_free(struct frame *f)
{
    if (!f) return;
    pthread_mutex_destroy(&f->lock);
    free(f->picture.pixels);
    free(f->picture.cells);
    free(f);
}
