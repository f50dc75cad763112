/* A machine's probes as data; what is done with them: probes.h. */
#ifndef RUNTIME_PROBE_SLOTS_H
#define RUNTIME_PROBE_SLOTS_H
#include "runtime/cpu/probe.h"
#include "runtime/runtime.h"

#define PROBES_MAX 64u
#define PROBE_SETS 256u

struct probe {
    bool used;
    u8 tally; /* > 0: blocks count it in line, in cpu_tally()[] */
    struct rt_probe is;
    u64 hits; /* without tally */
};
struct probes {
    struct rt *rt;
    struct probe slot[PROBES_MAX];
    u64 of[EV_COUNT];    /* bit i: slot i is of that event */
    u64 told[EV_COUNT];  /* of these: without tally */
    bool in_code;        /* some need translated code to tell (struct xl_tap) */
    bool skipped;        /* a helper has left because its instruction is to be skipped */
    bool stopped;        /* one has asked for a stop that the loop has not seen yet: */
    unsigned met;        /* that one */
    u64 set[PROBE_SETS]; /* of slots: what HELPER_TELL is given a number of */
    unsigned sets;
    struct probe_hooks hooks;
};

#endif
