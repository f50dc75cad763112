/* Double matrix product: x87 code, as gcc makes it for i686. */
#include "bench.h"

enum { N = 128 };

static double a[N][N], b[N][N], c[N][N];

void bench_matmul(unsigned units)
{
    uint64_t start;

    /* a[i][k] = i + k, b[k][j] = k - j: small whole numbers, so the sums are exact and known in closed form. */
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) a[i][k] = i + k, b[i][k] = i - k;
    start = now_ns();
    for (unsigned round = 0; round < units; round++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
    report("matmul", (double)(now_ns() - start) / 1e6, "ms");
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            /* sum over k of (i + k)(k - j) = sum k^2 + (i - j) sum k - N i j */
            double want = (N - 1.0) * N * (2 * N - 1) / 6 + (i - j) * ((N - 1.0) * N / 2) - (double)N * i * j;
            if (c[i][j] != want) die("wrong product");
        }
}
