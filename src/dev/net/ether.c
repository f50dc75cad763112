#include "src/dev/net/ether.h"

#include <immintrin.h>
#include <string.h>
#include <zlib.h>

/* ---- the checksum ----
 *
 * Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction (Gopal and others, Intel 2009), section 3:
 * what is multiplied by x^n modulo the polynomial goes n bits further down the message, and its checksum stays. So 64
 * bytes at a time are added to the next 64, and what 16 bytes are left of it has the checksum of the whole. */

enum { LANE = 16, FOLDED_MIN = 128 };

/* Each half of x by its factor. */
__attribute__((target("pclmul"))) static __m128i folded(__m128i x, __m128i factors, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(x, factors, 0x00), high = _mm_clmulepi64_si128(x, factors, 0x11);

    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

static __m128i lane(const u8 *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

/* n: at least 4 * LANE. */
__attribute__((target("pclmul"))) static u32 fcs_folded(const u8 *p, size_t n)
{
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i x0 = _mm_xor_si128(lane(p), _mm_cvtsi32_si128(-1));
    __m128i x1 = lane(p + LANE), x2 = lane(p + 2 * LANE), x3 = lane(p + 3 * LANE);
    u8 rest[LANE];

    for (p += 4 * LANE, n -= 4 * LANE; n >= 4 * LANE; p += 4 * LANE, n -= 4 * LANE) {
        x0 = folded(x0, by_64, lane(p));
        x1 = folded(x1, by_64, lane(p + LANE));
        x2 = folded(x2, by_64, lane(p + 2 * LANE));
        x3 = folded(x3, by_64, lane(p + 3 * LANE));
    }
    x0 = folded(folded(folded(x0, by_16, x1), by_16, x2), by_16, x3);
    for (; n >= LANE; p += LANE, n -= LANE) x0 = folded(x0, by_16, lane(p));
    memcpy(rest, &x0, LANE);
    const u32 crc = (u32)crc32(~0u, rest, LANE); /* which begins with 0 in the register */
    return (u32)crc32(crc, p, (uInt)n);
}

u32 ether_fcs(const u8 *p, size_t n)
{
    if (n >= FOLDED_MIN && __builtin_cpu_supports("pclmul")) return fcs_folded(p, n);
    return (u32)crc32(0, p, (uInt)n);
}

/* ---- addresses and frames ---- */

unsigned ether_hash(const u8 address[ETHER_ADDRESS], bool lsb)
{
    u32 crc = ~ether_fcs(address, ETHER_ADDRESS);
    unsigned reversed = 0;

    if (lsb) return crc >> 26;
    for (unsigned i = 0; i < 6; i++) reversed |= (crc >> i & 1) << (5 - i);
    return reversed;
}

bool ether_is_broadcast(const u8 *frame)
{
    static const u8 all[ETHER_ADDRESS] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    return !memcmp(frame, all, sizeof all);
}

size_t ether_wire(u8 out[ETHER_BUF], const u8 *frame, size_t len)
{
    u32 fcs;

    BUG_ON(len > NETDEV_FRAME_MAX);
    memcpy(out, frame, len);
    if (len < ETHER_MIN) {
        memset(out + len, 0, ETHER_MIN - len);
        len = ETHER_MIN;
    }
    fcs = ether_fcs(out, len);
    for (unsigned i = 0; i < ETHER_FCS; i++) out[len + i] = (u8)(fcs >> 8 * i);
    return len + ETHER_FCS;
}
