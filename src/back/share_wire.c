/* Owns the layout of 9P's numbers and strings. */
#include "src/back/share_wire.h"

#include <string.h>

static const u8 *take(struct wire_in *in, u32 n)
{
    const u8 *p = in->p;
    if (in->bad || n > in->left) {
        in->bad = true;
        return NULL;
    }
    in->p += n;
    in->left -= n;
    return p;
}

u64 wire_get(struct wire_in *in, unsigned bytes)
{
    const u8 *p = take(in, bytes);
    u64 v = 0;
    for (unsigned i = 0; p && i < bytes; i++) v |= (u64)p[i] << 8 * i;
    return v;
}

void wire_get_string(struct wire_in *in, char *to, u32 room)
{
    u16 n = wire_get16(in);
    const u8 *p = take(in, n);
    *to = 0;
    if (!p || n >= room || memchr(p, 0, n)) {
        in->bad = true;
        return;
    }
    memcpy(to, p, n);
    to[n] = 0;
}

void wire_put_bytes(struct wire_out *out, const void *p, u32 n)
{
    if (out->full || n > out->room - out->n) {
        out->full = true;
        return;
    }
    memcpy(out->data + out->n, p, n);
    out->n += n;
}

void wire_put(struct wire_out *out, u64 v, unsigned bytes)
{
    u8 le[8];
    for (unsigned i = 0; i < bytes; i++) le[i] = (u8)(v >> 8 * i);
    wire_put_bytes(out, le, bytes);
}

void wire_patch(struct wire_out *out, u32 at, u64 v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && at + i < out->n; i++) out->data[at + i] = (u8)(v >> 8 * i);
}

void wire_put_string(struct wire_out *out, const char *s)
{
    size_t n = strlen(s);
    if (n > UINT16_MAX) {
        out->full = true;
        return;
    }
    wire_put(out, n, 2);
    wire_put_bytes(out, s, (u32)n);
}
