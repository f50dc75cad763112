/* `transvisor bench`: the benchmark's words. What runs it is bench/run.py. */
#ifndef SRC_FACE_BENCH_H
#define SRC_FACE_BENCH_H
#include "src/face/options.h"

struct bench_args {
    bool quick, full;
    const char *only, *against, *json, *html, *compare;
    u64 runs;
};

extern const struct opt bench_options[];

/* Becomes the benchmark, with words after its own: returns -errno only, with *err set, if it cannot. */
int bench_become(int argc, char **argv, struct vm_error *err);

#endif
