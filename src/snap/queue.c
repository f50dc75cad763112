/* Owns bytes that wait in order: those of lines, of keys, of what is in a file. */
#include "core/snap.h"

#include <stdlib.h>

bool byte_queue_put(struct byte_queue *q, const u8 *data, size_t n, size_t max)
{
    if (q->len > max || n > max - q->len) return false;
    if (q->len + n > q->room) {
        size_t room = q->room ? q->room : 256;
        while (room < q->len + n) room *= 2;
        u8 *grown = malloc(room);
        if (!grown) return false;
        for (u32 i = 0; i < q->len; i++) grown[i] = q->data[(q->head + i) % q->room];
        free(q->data);
        q->data = grown;
        q->room = (u32)room;
        q->head = 0;
    }
    for (size_t i = 0; i < n; i++) q->data[(q->head + q->len++) % q->room] = data[i];
    return true;
}

u8 byte_queue_take(struct byte_queue *q)
{
    BUG_ON(!q->len);
    u8 v = q->data[q->head];
    q->head = (q->head + 1) % q->room;
    q->len--;
    return v;
}

void byte_queue_free(struct byte_queue *q)
{
    free(q->data);
    *q = (struct byte_queue){ 0 };
}
