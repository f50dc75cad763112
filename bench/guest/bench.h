/* The benchmark program's own contract: a table of measurements, each in a file of its own or in os.c.
 * One static i386 program holds them all, so that the very same code runs on the host and in both guests. */
#ifndef BENCH_GUEST_BENCH_H
#define BENCH_GUEST_BENCH_H
#include <stdint.h>

uint64_t now_ns(void);                                   /* CLOCK_MONOTONIC */
void report(const char *name, double value, const char *unit);
void die(const char *what) __attribute__((noreturn));    /* a wrong result is not a measurement: BENCH-FAILED, status 1 */

/* User compute: fixed work, 0.3 to 0.5 s on the reference host at scale 100. Each checks its result and reports ms. */
void bench_sha256(unsigned scale);
void bench_matmul(unsigned scale);
void bench_qsort(unsigned scale);
void bench_fib(unsigned scale);
void bench_tree(unsigned scale);
void bench_indirect(unsigned scale);
void bench_memcpy(unsigned scale);
void bench_bytecode(unsigned scale);

/* Operating system: repeated until it has taken long enough to tell, whatever the scale. Each reports ns. */
void bench_getppid_sysenter(unsigned scale);
void bench_getppid_int80(unsigned scale);
void bench_pagefault(unsigned scale);
void bench_mprotect(unsigned scale);
void bench_fork(unsigned scale);
void bench_exec(unsigned scale);
void bench_pipe(unsigned scale);
void bench_signal(unsigned scale);
void bench_ctxsw(unsigned scale);
#endif
