/* A quicksort of its own (the C library's differs between versions) with the comparison behind a function pointer. */
#include "bench.h"

enum { COUNT = 100000 };

static uint32_t items[COUNT];

static int __attribute__((noinline)) by_value(const uint32_t *x, const uint32_t *y) { return *x < *y ? -1 : *x > *y; }

static int (*volatile comparison)(const uint32_t *, const uint32_t *) = by_value;

static void swap(uint32_t *x, uint32_t *y)
{
    uint32_t t = *x;
    *x = *y, *y = t;
}

static void sort(uint32_t *v, int n, int (*cmp)(const uint32_t *, const uint32_t *))
{
    while (n > 8) {
        uint32_t pivot = v[n / 2];
        int i = 0, j = n - 1;
        while (i <= j) {
            while (cmp(&v[i], &pivot) < 0) i++;
            while (cmp(&v[j], &pivot) > 0) j--;
            if (i <= j) swap(&v[i++], &v[j--]);
        }
        sort(v, j + 1, cmp);
        v += i, n -= i;
    }
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && cmp(&v[j - 1], &v[j]) > 0; j--) swap(&v[j - 1], &v[j]);
}

void bench_qsort(unsigned units)
{
    uint64_t total = 0;

    for (unsigned round = 0; round < units; round++) {
        uint32_t x = round + 1, sum = 0, mix = 0;
        uint64_t start;

        for (int i = 0; i < COUNT; i++) {
            x = x * 1664525 + 1013904223;
            items[i] = x, sum += x, mix ^= x;
        }
        start = now_ns();
        sort(items, COUNT, comparison);
        total += now_ns() - start;
        for (int i = 0; i < COUNT; i++) {
            sum -= items[i], mix ^= items[i];
            if (i > 0 && items[i - 1] > items[i]) die("not sorted");
        }
        if (sum != 0 || mix != 0) die("items lost");
    }
    report("qsort", (double)total / 1e6, "ms");
}
