/* Tracing what the guest's processor does, from wherever it is done. */
#ifndef RUNTIME_CPU_TRACE_H
#define RUNTIME_CPU_TRACE_H
#include "core/trace.h"
#include "runtime/cpu/fpu_park.h"
#include "runtime/run/rt.h"

/* Also from helpers, which translated code calls with the guest's x87/SSE state in the host's registers: printing may
 * use those. Without a machine around the processor (tests), nothing is printed. */
#define CPU_TRACE(c, channel, ...)                                          \
    do {                                                                    \
        if ((c)->rt && trace_on(&(c)->rt->trace, TR_##channel, (c)->eip)) { \
            struct fpu_parked cpu_trace_fpu;                                \
            fpu_park((c), &cpu_trace_fpu);                                  \
            fprintf((c)->rt->trace.out, __VA_ARGS__);                       \
            fpu_unpark(&cpu_trace_fpu);                                     \
        }                                                                   \
    } while (0)

#endif
