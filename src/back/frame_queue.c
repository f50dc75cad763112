/* Owns frames that wait. */
#include "src/back/netdev.h"

#include <string.h>

void frame_queue_init(struct frame_queue *q, size_t max)
{
    *q = (struct frame_queue){ .max = max };
    q->last = &q->first;
}

void frame_queue_free(struct frame_queue *q)
{
    for (struct frame *f; (f = frame_queue_take(q));) free(f);
}

bool frame_queue_put(struct frame_queue *q, const void *data, size_t n)
{
    struct frame *f = n <= q->max - q->bytes ? malloc(sizeof *f + n) : NULL;
    if (!f) return false;
    f->next = NULL;
    f->len = n;
    memcpy(f->data, data, n);
    *q->last = f;
    q->last = &f->next;
    q->bytes += n;
    return true;
}

struct frame *frame_queue_take(struct frame_queue *q)
{
    struct frame *f = q->first;
    if (!f) return NULL;
    if (!(q->first = f->next)) q->last = &q->first;
    q->bytes -= f->len;
    return f;
}
