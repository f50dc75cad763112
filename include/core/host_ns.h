/* The host's clocks, in nanoseconds. */
#ifndef CORE_HOST_NS_H
#define CORE_HOST_NS_H
#include "core/types.h"

#include <time.h>

static inline u64 host_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}
#endif
