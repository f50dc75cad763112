/* Bytes of 9P messages: numbers are little-endian, strings have a length of 16 bits before them. */
#ifndef SRC_SHARE_WIRE_H
#define SRC_SHARE_WIRE_H
#include "core/types.h"

#define WIRE_NAME_MAX 4096u /* bytes of the longest string that is taken, with the zero behind it */

/* What is left of a message. bad: it has ended before what was asked for; nothing that was read since counts. */
struct wire_in {
    const u8 *p;
    u32 left;
    bool bad;
};
u64 wire_get(struct wire_in *in, unsigned bytes); /* 1 to 8 */
static inline u8 wire_get8(struct wire_in *in) { return (u8)wire_get(in, 1); }
static inline u16 wire_get16(struct wire_in *in) { return (u16)wire_get(in, 2); }
static inline u32 wire_get32(struct wire_in *in) { return (u32)wire_get(in, 4); }
static inline u64 wire_get64(struct wire_in *in) { return wire_get(in, 8); }
/* Into to, of room bytes, with a zero behind it. A string that has a zero in it, or is too long, is bad. */
void wire_get_string(struct wire_in *in, char *to, u32 room);

/* An answer. full: there was no room for all of it. */
struct wire_out {
    u8 *data;
    u32 n, room;
    bool full;
};
void wire_put(struct wire_out *out, u64 v, unsigned bytes);
void wire_put_bytes(struct wire_out *out, const void *p, u32 n);
void wire_patch(struct wire_out *out, u32 at, u64 v, unsigned bytes); /* a number that has been put already */
void wire_put_string(struct wire_out *out, const char *s);

#endif
