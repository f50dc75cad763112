/* Random numbers that a seed reproduces on every machine: xorshift64*, seeded through splitmix64. */
#ifndef TESTS_DIFF_RNG_H
#define TESTS_DIFF_RNG_H
#include "core/types.h"

struct rng {
    u64 state;
};

static inline void rng_seed(struct rng *r, u64 seed)
{
    u64 z = seed + 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    r->state = (z ^ z >> 31) | 1;
}
static inline u64 rng_u64(struct rng *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1du;
}
static inline u32 rng_u32(struct rng *r) { return (u32)(rng_u64(r) >> 32); }
/* 0..n-1 */
static inline u32 rng_below(struct rng *r, u32 n) { return (u32)((u64)rng_u32(r) * n >> 32); }
static inline bool rng_percent(struct rng *r, u32 p) { return rng_below(r, 100) < p; }
#endif
