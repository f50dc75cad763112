/* A processor of a given speed (rt_config.speed_mhz): the guest's clock goes by the instructions it has done, and its
 * thread sleeps whenever that clock is ahead of the host's. */
#ifndef RUNTIME_PACE_H
#define RUNTIME_PACE_H
#include "core/types.h"

struct rt;

void pace_begin(struct rt *rt); /* when the machine is made */
/* At a step's end (count_is_full): sleeps until a kick if the guest is ahead; else lets it go on for another step, and
 * sets cpu->kick if a timer is due. */
void pace_step(struct rt *rt);
/* The earliest deadline is another one, in guest ns: the step ends there at the latest. */
void pace_deadline(struct rt *rt, u64 deadline_ns);

#endif
