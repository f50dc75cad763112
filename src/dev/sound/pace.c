/* Owns the arithmetic of samples and guest time, which a saved machine may have wrong. */
#include "src/dev/sound/pace.h"

#define NS_PER_S 1000000000ull
#define BEHIND_MAX 4 /* parts of a second: what is older is left out */

void pace_start(struct pace *p, u64 now_ns) { *p = (struct pace){ now_ns, 0 }; }

u32 pace_due(struct pace *p, u32 rate, u64 now_ns)
{
    u64 all = now_ns > p->from_ns ? (u64)((unsigned __int128)(now_ns - p->from_ns) * rate / NS_PER_S) : 0;

    if (p->from_ns > now_ns || p->done > all + 1 || (all > p->done && all - p->done > rate / BEHIND_MAX)) {
        pace_start(p, now_ns);
        return 0;
    }
    return all > p->done ? (u32)(all - p->done) : 0;
}

u64 pace_time(const struct pace *p, u32 rate, u64 n)
{
    return p->from_ns + (u64)(((unsigned __int128)(p->done + n) * NS_PER_S + rate - 1) / rate);
}
