/* Calls through a table of functions, the next chosen by the last one's result. */
#include "bench.h"

#define OP(n, expr) \
    static uint32_t __attribute__((noinline)) op##n(uint32_t x) { return (expr); }
OP(0, x + 0x9e3779b9u)
OP(1, x ^ 0x85ebca6bu)
OP(2, x * 5u)
OP(3, x - 0x1234567u)
OP(4, x << 7 | x >> 25)
OP(5, ~x)
OP(6, x ^ x >> 3)
OP(7, x * 9u + 1u)

static uint32_t (*volatile const table_source[8])(uint32_t) = { op0, op1, op2, op3, op4, op5, op6, op7 };

/* The same steps without a call: what the result is checked against. */
static uint32_t step(uint32_t x, unsigned which)
{
    switch (which) {
    case 0: return x + 0x9e3779b9u;
    case 1: return x ^ 0x85ebca6bu;
    case 2: return x * 5u;
    case 3: return x - 0x1234567u;
    case 4: return x << 7 | x >> 25;
    case 5: return ~x;
    case 6: return x ^ x >> 3;
    default: return x * 9u + 1u;
    }
}

void bench_indirect(unsigned units)
{
    uint32_t (*table[8])(uint32_t);
    uint32_t x = 1, check = 1;
    unsigned rounds = 500000 * units;
    uint64_t start;

    for (int i = 0; i < 8; i++) table[i] = table_source[i];
    start = now_ns();
    for (unsigned i = 0; i < rounds; i++) x = table[(x ^ i) & 7](x);
    report("indirect", (double)(now_ns() - start) / 1e6, "ms");
    for (unsigned i = 0; i < rounds; i++) check = step(check, (check ^ i) & 7);
    if (x != check) die("wrong result");
}
