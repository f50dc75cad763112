/* The course of a fuzzer of chips: machines of one kind after another, and in each a driver that lies. The fuzzer
 * defines `drivers`; here are its main(), and its entry for libFuzzer, whose input is the choices that a seed makes
 * otherwise. One program, one translation unit: so the definitions are right here. */
#ifndef TESTS_FUZZ_DRIVERS_H
#define TESTS_FUZZ_DRIVERS_H
#include "tests/fuzz/choice.h"

struct drivers {
    unsigned (*kinds)(void); /* how many kinds of machines there are; NULL: one */
    u64 count;               /* drivers of each, if the command line does not say */
    unsigned steps;          /* of a driver: at least so many, less than three times as many */
    void (*begin)(unsigned kind);
    void (*start)(void); /* what a driver does first, by the book; NULL: nothing */
    void (*step)(void);
    void (*end)(void); /* the last checks; then all that begin() made is gone */
    /* Prints what n drivers have reached, and forgets it. False: it is too little for so many. */
    bool (*reached)(unsigned kind, u64 n);
};
static const struct drivers drivers;

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const u8 *data, size_t n);
int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
    const unsigned kinds = drivers.kinds ? drivers.kinds() : 1;
    if (!n) return 0;
    choose_by_input(data + 1, n - 1);
    drivers.begin(data[0] % kinds);
    if (drivers.start && rnd(8)) drivers.start();
    while (left) drivers.step();
    drivers.end();
    return 0;
}
#else
int main(int argc, char **argv)
{
    const unsigned kinds = drivers.kinds ? drivers.kinds() : 1;
    u64 count = drivers.count;
    bool bad = false;
    if (!choose_by_options(argc, argv, &count)) return 2;
    for (unsigned kind = 0; kind < kinds; kind++) {
        for (u64 n = 0; n < count; n++) {
            drivers.begin(kind);
            if (drivers.start) drivers.start();
            for (unsigned i = drivers.steps + rnd(2 * drivers.steps); i--;) drivers.step();
            drivers.end();
        }
        bad |= !drivers.reached(kind, count);
    }
    return bad;
}
#endif
#endif
