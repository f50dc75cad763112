/* The benchmark program's own contract: a table of measurements, each in a file of its own or in os.c.
 * One static i386 program holds them all, so that the very same code runs on the host and in both guests. */
#ifndef BENCH_GUEST_BENCH_H
#define BENCH_GUEST_BENCH_H
#include <stdint.h>

uint64_t now_ns(void); /* CLOCK_MONOTONIC */
void report(const char *name, double value, const char *unit);
/* Calls body(n), which does n operations and returns the ns they took, with doubled n until that is long enough to
 * tell; reports the ns of one. */
void measure(const char *name, unsigned first, uint64_t (*body)(unsigned n));
void share_one_processor(void); /* with all threads and children to come: the guests have only one */
void die(const char *what) __attribute__((noreturn)); /* a wrong result is not a measurement: BENCH-FAILED, status 1 */

/* User compute: so many units of fixed work, 0.5 to 10 ms each on the reference host. Each checks its result and
 * reports ms. */
void bench_sha256(unsigned units);
void bench_matmul(unsigned units);
void bench_qsort(unsigned units);
void bench_fib(unsigned units);
void bench_tree(unsigned units);
void bench_indirect(unsigned units);
void bench_memcpy(unsigned units);
void bench_bytecode(unsigned units);

/* Operating system: repeated until it has taken long enough to tell, whatever the units. Each reports ns. i386 only. */
void bench_getppid_sysenter(unsigned units);
void bench_getppid_int80(unsigned units);
void bench_pagefault(unsigned units);
void bench_mprotect(unsigned units);
void bench_fork(unsigned units);
void bench_exec(unsigned units);
void bench_pipe(unsigned units);
void bench_signal(unsigned units);
void bench_ctxsw(unsigned units);

/* Code beside what it writes (smc.c), and under a debugger (watch.c): likewise. */
void bench_smc_zero_page(unsigned units);
void bench_smc_counter(unsigned units);
void bench_smc_cross_modify(unsigned units);
void bench_smc_decoder(unsigned units);
void bench_watch(unsigned units);

/* Operations of a processor by themselves (nano.c): cycles of the TSC, with their distribution. */
void bench_nano_user(unsigned units);
/* lmbench's latencies (lmbench.c): ns, by their names there. */
void bench_lmbench(unsigned units);

/* A disk, or a file in its place (disk.c): PREFIX_read, PREFIX_write, us for a MiB one after another; PREFIX_rread,
 * PREFIX_rwrite, us for 4 KiB anywhere. What is on it is lost. */
void bench_disk(const char *path, const char *prefix);
/* The paper's forkwait (os.c): ms for so many processes one after another. */
void bench_forkwait(unsigned units);

/* Other programs, as processes (process.c). Each reports ms of wall time; a child's failure is a failure. */
/* `name` of this program, `count` times over: ms of one */
void run_young(const char *label, unsigned count, const char *name, const char *units);
void run_timed(const char *name, char **command);
#endif
