/* Owns what translated code is asked to notice: instructions to count, limits of them, and what probes want.
 *   I1  tap.on iff something has been asked for; code that was made for another wish is gone.   [rt_tap_changed]
 *   I2  cpu->insns_limit is the nearer one of tap.limit and tap.step.                           [limits_set] */
#include "runtime/run/count.h"
#include "runtime/run/probes.h"
#include "runtime/run/rt.h"
#include "runtime/run/stream.h"

static u32 tap_insn(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    const struct rt *rt = arg;
    return (rt->tap.counts ? 1u << TALLY_INSNS : 0) | probes_tally_insn(&rt->probes, in, la, cpl);
}
static u32 tap_entry(const void *arg, laddr la, unsigned cpl)
{
    return probes_tally_entry(&((const struct rt *)arg)->probes, la, cpl);
}
static u32 tap_told(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    return probes_told(&((struct rt *)(uintptr_t)arg)->probes, in, la, cpl); /* which notes the set */
}
static bool tap_told_entry(const void *arg, laddr la, unsigned cpl)
{
    return probes_told_entry(&((const struct rt *)arg)->probes, la, cpl);
}

static unsigned tap_streams(const void *arg, laddr la, unsigned cpl)
{
    return stream_of(&((const struct rt *)arg)->stream, la, cpl);
}

static bool has_limit(const struct rt *rt) { return rt->tap.limit != INSNS_NO_LIMIT || rt->cfg.speed_mhz; }

void rt_tap_changed(struct rt *rt)
{
    bool limited = has_limit(rt);
    rt->tap.counts = rt->tap.count || limited || stream_wants(&rt->stream, STREAM_BLOCKS);
    rt->tap.on = rt->tap.counts || rt->probes.in_code;
    rt->tap.tap = (struct xl_tap){ .limited = limited,
                                   .insn = tap_insn,
                                   .entry = tap_entry,
                                   .told = tap_told,
                                   .told_entry = tap_told_entry,
                                   .streams = tap_streams,
                                   .arg = rt };
    if (rt->xl) xl_flush(rt->xl);
}

void rt_count(struct rt *rt, bool on)
{
    if (rt->tap.count == on) return;
    rt->tap.count = on;
    rt_tap_changed(rt);
}

u64 rt_instructions(const struct rt *rt) { return cpu_tally(rt->cpu)[TALLY_INSNS] - rt->cpu->insns_ahead; }

static u64 more_than_now(const struct rt *rt, u64 more)
{
    u64 now = cpu_tally(rt->cpu)[TALLY_INSNS];
    return more < INSNS_NO_LIMIT - now ? now + more : INSNS_NO_LIMIT;
}

static void limits_set(struct rt *rt, u64 limit, u64 step)
{
    rt->tap.limit = limit;
    rt->tap.step = step;
    rt->cpu->insns_limit = limit < step ? limit : step;
    if (has_limit(rt) != rt->tap.tap.limited) rt_tap_changed(rt);
}

void rt_limit(struct rt *rt, u64 more) { limits_set(rt, more_than_now(rt, more), rt->tap.step); }
void count_step(struct rt *rt, u64 more) { limits_set(rt, rt->tap.limit, more_than_now(rt, more)); }

bool count_limit_met(struct rt *rt)
{
    if (cpu_tally(rt->cpu)[TALLY_INSNS] < rt->tap.limit) return false;
    rt_limit(rt, UINT64_MAX);
    return true;
}
