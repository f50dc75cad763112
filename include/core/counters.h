/* Counters that --stats prints. One X-list: the struct, the printer and the tests come of it. */
#ifndef CORE_COUNTERS_H
#define CORE_COUNTERS_H
#include "core/types.h"

struct counters {
#define COUNTER(name, text) u64 name;
#include "core/counters.def"
#undef COUNTER
};
#endif
