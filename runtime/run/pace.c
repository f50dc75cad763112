/* Owns the steps in which a guest with a speed of its own runs.
 *
 *   I1  Time moves with instructions only, or while the guest sleeps in HLT; so no timer becomes due in the middle of a
 *       step.                                                                            [pace_step, pace_deadline]
 *   I2  A guest that is ahead of the host's clock gets no further step, whatever wakes its thread. [pace_step]
 *   I3  The host's alarm is for sleepers: a guest that runs comes to its deadline by itself. [run.c, on_deadline] */
#include "runtime/run/pace.h"
#include "core/clock.h"
#include "runtime/run/alarm.h"
#include "runtime/run/count.h"
#include "runtime/run/rt.h"

#define STEP_NS 1000000u
#define AHEAD_MIN_NS 100000u /* the host wakes no thread much more exactly than that */

void pace_begin(struct rt *rt)
{
    clock_set_speed(rt->clock, rt->cfg.speed_mhz, &cpu_tally(rt->cpu)[TALLY_INSNS]);
    count_step(rt, 0);
}

void pace_deadline(struct rt *rt, u64 deadline_ns)
{
    u64 now = clock_now(rt->clock), left = deadline_ns > now ? deadline_ns - now : 0;
    u64 cycles = clock_cycles_of(rt->clock, left < STEP_NS ? left : STEP_NS);
    count_step(rt, cycles ? cycles : 1); /* a timer that is always due must not keep the guest from going on */
}

void pace_step(struct rt *rt)
{
    u64 deadline = clock_next_deadline(rt->clock), now = clock_now(rt->clock);
    if (clock_ahead_ns(rt->clock) >= AHEAD_MIN_NS) {
        alarm_set(rt->alarm, now, rt->clock);
        rt_sleep(rt);
        return;
    }
    if (deadline <= now) rt->cpu->kick = 1;
    pace_deadline(rt, deadline);
}
