/* Where a fuzzer's choices come from: an input (libFuzzer's), or, if there is none, a seed. And the command line that
 * says the seed. One program, one translation unit: so the definitions are right here. */
#ifndef TESTS_FUZZ_CHOICE_H
#define TESTS_FUZZ_CHOICE_H
#include "core/types.h"

#include <getopt.h>
#include <stdlib.h>

static u64 rng = 1;
static const u8 *input; /* NULL: the seed's */
static size_t left;     /* bytes of it */

/* 0 to n - 1; 0 once the input has come to its end. */
static u32 rnd(u32 n)
{
    u32 v = 0;
    if (!input) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        return (u32)((rng * 0x2545f4914f6cdd1dull) >> 32) % n;
    }
    for (u32 k = n - 1; k && left; k >>= 8, left--) v = v << 8 | *input++;
    return v % n;
}

static UNUSED void choose_by_input(const u8 *data, size_t n)
{
    input = data;
    left = n;
}

/* Takes --seed N and --count N. false: there was something else. */
static UNUSED bool choose_by_options(int argc, char **argv, u64 *count)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { 0 } };
    u64 seed = 1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (o == '?') return false;
        *(o == 's' ? &seed : count) = strtoull(optarg, NULL, 0);
    }
    rng = seed * 0x9e3779b97f4a7c15ull | 1;
    return true;
}
#endif
