/* The command line; each measurement prints `BENCH name value unit`:
 *
 *   bench [--units N] NAME...              runs the named measurements
 *   bench --units N --young COUNT NAME     one of them in COUNT processes one after another: young_NAME, ms of each
 *   bench --medley NAME:UNITS...           several of them in this process, not told apart: medley, ms of all
 *   bench --time NAME COMMAND...           another program: NAME, ms
 *   bench --disk PATH PREFIX               a disk, which is written to: PREFIX_read and the like
 *   bench --list                           the measurements' names
 *   bench --exit                           nothing (what the exec measurement executes) */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { LONG_ENOUGH_NS = 300000000 };

static const struct {
    const char *name;
    void (*run)(unsigned units);
} table[] = {
    { "sha256", bench_sha256 },
    { "matmul", bench_matmul },
    { "qsort", bench_qsort },
    { "fib", bench_fib },
    { "tree", bench_tree },
    { "indirect", bench_indirect },
    { "memcpy", bench_memcpy },
    { "bytecode", bench_bytecode },
#ifdef __i386__
    { "getppid_sysenter", bench_getppid_sysenter },
    { "getppid_int80", bench_getppid_int80 },
    { "pagefault", bench_pagefault },
    { "mprotect", bench_mprotect },
    { "fork", bench_fork },
    { "exec", bench_exec },
    { "pipe", bench_pipe },
    { "signal", bench_signal },
    { "ctxsw", bench_ctxsw },
    { "forkwait", bench_forkwait },
    { "smc_zero_page", bench_smc_zero_page },
    { "smc_counter", bench_smc_counter },
    { "smc_cross_modify", bench_smc_cross_modify },
    { "smc_decoder", bench_smc_decoder },
    { "watch", bench_watch },
    { "nano_user", bench_nano_user },
    { "lmbench", bench_lmbench },
#endif
};

static const char *running = "none";

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void report(const char *name, double value, const char *unit)
{
    printf("BENCH %s %.3f %s\n", name, value, unit);
    fflush(stdout);
}

void measure(const char *name, unsigned first, uint64_t (*body)(unsigned n))
{
    for (unsigned n = first;; n *= 2) {
        uint64_t took = body(n);
        if (took >= LONG_ENOUGH_NS || n >= 1u << 30) {
            report(name, (double)took / n, "ns");
            return;
        }
    }
}

void share_one_processor(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one); /* fails in a sandbox without processor 0: measured all the same */
}

void die(const char *what)
{
    printf("BENCH-FAILED %s: %s\n", running, what);
    fflush(stdout);
    _exit(1);
}

static void begin(const char *name)
{
    running = name;
    printf("BENCH-START %s\n", name);
    fflush(stdout);
}

static void run(const char *name, unsigned units)
{
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, name) == 0) {
            begin(table[i].name);
            table[i].run(units);
            return;
        }
    }
    fprintf(stderr, "bench: no measurement is called '%s'\n", name);
    exit(2);
}

/* One program that does one thing after another, as real ones do: each for less than a second. */
static int run_medley(char **parts, int n)
{
    int own = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    uint64_t start;

    begin("medley");
    if (own < 0 || null < 0 || dup2(null, STDOUT_FILENO) < 0) die("cannot silence the measurements");
    start = now_ns();
    for (int i = 0; i < n; i++) {
        char *colon = strchr(parts[i], ':');
        int units = colon ? atoi(colon + 1) : 0;
        if (units < 1) return 2;
        *colon = 0;
        run(parts[i], (unsigned)units);
    }
    dup2(own, STDOUT_FILENO);
    report("medley", (double)(now_ns() - start) / 1e6, "ms");
    return 0;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: bench [--units 1..1000000] NAME... | --units N --young COUNT NAME | --medley NAME:UNITS... | "
            "--time NAME COMMAND... | --disk PATH PREFIX | --list\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *units_text = "100", *verb = argc > 1 ? argv[1] : "";
    char label[64];
    int units, i = 1;

    if (strcmp(verb, "--exit") == 0) return 0;
    if (strcmp(verb, "--list") == 0) {
        for (unsigned n = 0; n < sizeof(table) / sizeof(table[0]); n++) puts(table[n].name);
        return 0;
    }
    if (strcmp(verb, "--time") == 0 && argc > 3) {
        begin(argv[2]);
        run_timed(argv[2], argv + 3);
        return 0;
    }
    if (strcmp(verb, "--disk") == 0 && argc == 4) {
        begin(argv[3]);
        bench_disk(argv[2], argv[3]);
        return 0;
    }
    if (strcmp(verb, "--medley") == 0 && argc > 2) return run_medley(argv + 2, argc - 2);
    if (strcmp(verb, "--units") == 0 && argc > 2) {
        units_text = argv[2];
        i = 3;
    }
    units = atoi(units_text);
    if (units < 1 || units > 1000000 || i >= argc) return usage();
    /* A huge page would turn the page-fault measurement into one of memset. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (strcmp(argv[i], "--young") == 0) {
        int count = i + 3 == argc ? atoi(argv[i + 1]) : 0;
        if (count < 1) return usage();
        snprintf(label, sizeof(label), "young_%s", argv[i + 2]);
        begin(label);
        run_young(label, (unsigned)count, argv[i + 2], units_text);
        return 0;
    }
    for (; i < argc; i++) run(argv[i], (unsigned)units);
    return 0;
}
