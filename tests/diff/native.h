/* The real processor as an engine: runs batches of cases in a 32-bit process. */
#ifndef TESTS_DIFF_NATIVE_H
#define TESTS_DIFF_NATIVE_H
#include "tests/diff/diff.h"

/* Whether this host runs 32-bit processes at all, by starting one (program: path of native_probe). Returns 0 if so,
 * -ENOEXEC if not (also if it dies of its first instructions), another -errno if it starts and does not do what it
 * should. */
int native_probe(const char *program);

struct native;
/* program: path of native_child. Returns 0 or -errno. The shared memory's images and ro page are the caller's to fill,
 * before the first run. */
int native_new(struct native **out, const char *program);
void native_free(struct native *n);
struct diff_shared *native_shared(struct native *n);
/* Runs shared->cases[0..count) into shared->results. A case that kills the process gets VECTOR_CRASH. Returns 0 or
 * -errno. */
int native_run(struct native *n, unsigned count);
#endif
