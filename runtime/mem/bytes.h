/* Guest memory by host pointer: little-endian, any alignment, without vector registers (the guest's may be live). */
#ifndef RUNTIME_BYTES_H
#define RUNTIME_BYTES_H
#include "core/types.h"

/* n: 0 to 8. Of the usual sizes in one access. */
static inline u64 bytes_load(const u8 *p, unsigned n)
{
    u64 v = 0;
    switch (n) {
    case 1: return *p;
    case 2: __builtin_memcpy(&v, p, 2); return v;
    case 4: __builtin_memcpy(&v, p, 4); return v;
    case 8: __builtin_memcpy(&v, p, 8); return v;
    }
    for (unsigned i = 0; i < n; i++) v |= (u64)p[i] << i * 8;
    return v;
}

static inline void bytes_store(u8 *p, unsigned n, u64 v)
{
    switch (n) {
    case 1: *p = (u8)v; return;
    case 2: __builtin_memcpy(p, &v, 2); return;
    case 4: __builtin_memcpy(p, &v, 4); return;
    case 8: __builtin_memcpy(p, &v, 8); return;
    }
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> i * 8);
}

static inline void bytes_copy(void *dst, const void *src, u64 n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
#endif
