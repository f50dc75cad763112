/* Tracing: one bit per stage, an address window, one sink. X-list of channels in trace.def.
 * Costs one test of a bit when off. */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H
#include "core/types.h"

enum trace_channel {
#define TRACE_CHANNEL(name, text) TR_##name,
#include "core/trace.def"
#undef TRACE_CHANNEL
    TR_COUNT
};

struct trace {
    u32 mask;       /* 1 << enum trace_channel */
    laddr from, to; /* only for EIP in [from, to]; 0..0xffffffff by default */
    FILE *out;      /* borrowed; stderr by default */
};

static inline bool trace_on(const struct trace *t, enum trace_channel ch, laddr eip)
{
    return unlikely(t->mask & (1u << ch)) && eip >= t->from && eip <= t->to;
}
#define TRACE(t, ch, eip, ...)                                             \
    do {                                                                   \
        if (trace_on((t), TR_##ch, (eip))) fprintf((t)->out, __VA_ARGS__); \
    } while (0)

#endif
