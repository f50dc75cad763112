/* Copies of three sizes, by REP MOVSL and by a loop of word moves. Not the C library's memcpy: that one chooses its
 * instructions by CPUID, and the host and the guest would not run the same ones. */
#include "bench.h"

enum { WORDS = 16384 };

static uint32_t from[WORDS], to[WORDS];

static void copy_rep(uint32_t *d, const uint32_t *s, uint32_t words)
{
    __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(words) : : "memory");
}

static void __attribute__((noinline, optimize("no-tree-loop-distribute-patterns", "no-tree-vectorize")))
copy_loop(uint32_t *d, const uint32_t *s, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) d[i] = s[i];
}

static void check(uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        if (to[i] != from[i]) die("copy differs");
        to[i] = 0;
    }
}

void bench_memcpy(unsigned units)
{
    static const uint32_t sizes[] = { 16, 1024, WORDS }; /* 64 bytes, 4 KiB, 64 KiB */
    uint64_t start = now_ns();

    for (uint32_t i = 0; i < WORDS; i++) from[i] = i * 2654435761u;
    for (unsigned round = 0; round < units; round++) {
        for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            unsigned repeats = 40 * WORDS / sizes[k];
            if (repeats > 12000) repeats = 12000;
            for (unsigned i = 0; i < repeats; i++) copy_rep(to, from, sizes[k]);
            check(sizes[k]);
            for (unsigned i = 0; i < repeats; i++) copy_loop(to, from, sizes[k]);
            check(sizes[k]);
        }
    }
    report("memcpy", (double)(now_ns() - start) / 1e6, "ms");
}
