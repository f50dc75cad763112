/* Owns what of the guest's code is counted.
 *   I2  cpu->insns_limit is the nearer one of tap.limit and tap.step.                                  [limits_set]
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
    bool limited = rt->tap.limit != INSNS_NO_LIMIT || rt->cfg.speed_mhz, on = rt->tap.count || limited;
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

static u64 more_than_now(const struct rt *rt, u64 more)
{
    u64 now = rt->cpu->tally[TALLY_INSNS];
    return more < INSNS_NO_LIMIT - now ? now + more : INSNS_NO_LIMIT;
}

static void limits_set(struct rt *rt, u64 limit, u64 step)
{
    rt->tap.limit = limit;
    rt->tap.step = step;
    rt->cpu->insns_limit = limit < step ? limit : step;
    tap_update(rt);
}

void rt_limit(struct rt *rt, u64 more) { limits_set(rt, more_than_now(rt, more), rt->tap.step); }
void count_step(struct rt *rt, u64 more) { limits_set(rt, rt->tap.limit, more_than_now(rt, more)); }

bool count_limit_met(struct rt *rt)
{
    if (rt->cpu->tally[TALLY_INSNS] < rt->tap.limit) return false;
    rt_limit(rt, UINT64_MAX);
    return true;
}
