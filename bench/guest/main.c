/* bench [--scale PERCENT] NAME...: runs the named measurements; each prints `BENCH name value unit`.
 * bench --list: their names. bench --exit: does nothing (what the exec measurement executes). */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*run)(unsigned scale);
} table[] = {
    {"sha256", bench_sha256},
    {"matmul", bench_matmul},
    {"qsort", bench_qsort},
    {"fib", bench_fib},
    {"tree", bench_tree},
    {"indirect", bench_indirect},
    {"memcpy", bench_memcpy},
    {"bytecode", bench_bytecode},
    {"getppid_sysenter", bench_getppid_sysenter},
    {"getppid_int80", bench_getppid_int80},
    {"pagefault", bench_pagefault},
    {"mprotect", bench_mprotect},
    {"fork", bench_fork},
    {"exec", bench_exec},
    {"pipe", bench_pipe},
    {"signal", bench_signal},
    {"ctxsw", bench_ctxsw},
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

void die(const char *what)
{
    printf("BENCH-FAILED %s: %s\n", running, what);
    fflush(stdout);
    _exit(1);
}

static void run(const char *name, unsigned scale)
{
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, name) == 0) {
            running = table[i].name;
            printf("BENCH-START %s\n", running);
            fflush(stdout);
            table[i].run(scale);
            return;
        }
    }
    fprintf(stderr, "bench: no measurement is called '%s'\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    unsigned scale = 100;
    int i = 1;

    if (argc > 1 && strcmp(argv[1], "--exit") == 0)
        return 0;
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (unsigned n = 0; n < sizeof(table) / sizeof(table[0]); n++)
            puts(table[n].name);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "--scale") == 0) {
        scale = (unsigned)atoi(argv[2]);
        i = 3;
    }
    if (scale < 1 || scale > 10000 || i >= argc) {
        fprintf(stderr, "usage: bench [--scale 1..10000] NAME... | --list\n");
        return 2;
    }
    /* A huge page would turn the page-fault measurement into one of memset. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    for (; i < argc; i++)
        run(argv[i], scale);
    return 0;
}
