/* Owns what of the guest's code is counted.
 *   I1  tap.on iff count or a limit has been asked for; code that was translated otherwise is gone.   [tap_update] */
#include "runtime/run/count.h"
#include "runtime/run/rt.h"

static u32 insn_tally(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    (void)arg, (void)in, (void)la, (void)cpl;
    return 1u << TALLY_INSNS;
}
static u32 entry_tally(const void *arg, laddr la, unsigned cpl)
{
    (void)arg, (void)la, (void)cpl;
    return 0;
}
static bool not_told(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    (void)arg, (void)in, (void)la, (void)cpl;
    return false;
}

static void tap_update(struct rt *rt)
{
    bool limited = rt->cpu->insns_limit != INSNS_NO_LIMIT, on = rt->tap.count || limited;
    if (on == rt->tap.on && limited == rt->tap.tap.limited) return;
    rt->tap.on = on;
    rt->tap.tap = (struct xl_tap){ .limited = limited, .insn = insn_tally, .entry = entry_tally, .told = not_told };
    if (rt->xl) xl_flush(rt->xl);
}

void rt_count(struct rt *rt, bool on)
{
    rt->tap.count = on;
    tap_update(rt);
}

u64 rt_instructions(const struct rt *rt) { return rt->cpu->tally[TALLY_INSNS]; }

void rt_limit(struct rt *rt, u64 more)
{
    u64 now = rt->cpu->tally[TALLY_INSNS];
    rt->cpu->insns_limit = more < INSNS_NO_LIMIT - now ? now + more : INSNS_NO_LIMIT;
    tap_update(rt);
}
