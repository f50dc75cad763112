/* The nanobenchmarks of CPL 3, natively or in a guest's process: bench/kernel/nano.h has them. */
#include "bench.h"
#include <stdio.h>

typedef uint32_t u32;
typedef uint64_t u64;
static inline u64 rdtsc(void) { return __builtin_ia32_rdtsc(); }
#define nano_print printf
#include "../kernel/nano.h"

static void op(void *fn, u32 n) { ((u32(*)(u32))fn)(n); }

void bench_nano_user(unsigned units)
{
    (void)units;
    for (unsigned i = 0; i < sizeof nano_user / sizeof nano_user[0]; i++)
        nano_measure(nano_user[i].name, op, (void *)nano_user[i].fn);
    fflush(stdout);
}
