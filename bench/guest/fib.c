/* Naive Fibonacci: calls and returns, nothing else. */
#include "bench.h"

/* One plain call for each recursion: without these gcc turns much of the tree into loops. */
static unsigned __attribute__((noinline, optimize("no-optimize-sibling-calls", "no-inline"))) fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

void bench_fib(unsigned units)
{
    uint64_t start = now_ns();

    for (unsigned round = 0; round < units; round++) {
        volatile unsigned n = 27;
        if (fib(n) != 196418) die("wrong number");
    }
    report("fib", (double)(now_ns() - start) / 1e6, "ms");
}
