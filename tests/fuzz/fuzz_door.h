/* What the fuzzers of doors share: a machine to stand behind one, and bytes that are nearly what is spoken there. One
 * test program, one translation unit: so the definitions are right here. */
#ifndef TESTS_FUZZ_DOOR_H
#define TESTS_FUZZ_DOOR_H
#include "core/bug.h"
#include "tests/fuzz/choice.h"
#include "transvisor/vm.h"

#include <dirent.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifdef LIBFUZZER
/* The one machine stays, and some of what it has is reached by way of memory that the leak checker does not read. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

/* A processor without firmware, and a folder of its own in which files stay empty: what comes in at a door may name
 * some. libFuzzer's log has to be a pipe, then: what it found is there, in Base64. */
static char folder[] = "/tmp/fuzz-door-XXXXXX";
static struct vm *door_machine(void)
{
    const struct vm_config cfg = {
        .size = sizeof cfg, .firmware = VM_FIRMWARE_NONE, .memory = VM_MEMORY_MIN, .engine = VM_ENGINE_INTERP
    };
    const struct rlimit no_bytes = { 0, 0 };
    struct vm_error err;
    struct vm *vm;
    BUG_ON(!mkdtemp(folder) || chdir(folder));
    if (vm_create(&vm, &cfg, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(2);
    }
    signal(SIGXFSZ, SIG_IGN);
    BUG_ON(setrlimit(RLIMIT_FSIZE, &no_bytes));
    return vm;
}
/* What came to be there. */
static UNUSED void door_clean(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) (void)!unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    (void)!rmdir(folder);
}

/* One of n texts, as it is or with some bytes changed, repeated, left out. Returns its length, at most max. */
static UNUSED size_t nearly(const char *const *texts, size_t n, char *to, size_t max)
{
    const char *text = texts[rnd(n)];
    size_t len = 0;
    unsigned how = (unsigned)rnd(4);
    for (size_t i = 0; text[i] && len < max; i++) {
        u64 what = how ? rnd(12 * how) : 1000;
        if (what == 0) continue;
        to[len++] = what == 1 ? (char)rnd(256) : what == 2 ? (char)('0' + rnd(10)) : text[i];
        if (what == 3 && i) i -= rnd(i);
    }
    return len;
}

struct door_options {
    u64 seed, count, from, seconds;
};
static u64 now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec;
}
/* Runs cases by their numbers. */
static UNUSED int door_main(int argc, char **argv, void (*one)(void))
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { "from", required_argument, 0, 'f' },
                                             { "seconds", required_argument, 0, 't' },
                                             { 0 } };
    struct door_options o = { 1, UINT64_MAX, 0, 0 };
    u64 start = now_s(), i;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?') return 2;
        *(c == 's' ? &o.seed : c == 'c' ? &o.count : c == 'f' ? &o.from : &o.seconds) = strtoull(optarg, NULL, 0);
    }
    if (o.count == UINT64_MAX && !o.seconds) o.count = 1000;
    for (i = o.from; i - o.from < o.count && (!o.seconds || now_s() - start < o.seconds); i++) {
        rng = (o.seed << 32 ^ i) * 0x9e3779b97f4a7c15ull | 1;
        one();
    }
    printf("seed %llu: %llu cases\n", (unsigned long long)o.seed, (unsigned long long)(i - o.from));
    return 0;
}

#endif
