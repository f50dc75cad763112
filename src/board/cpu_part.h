/* The processor as a part of a board that is saved. */
#ifndef SRC_BOARD_CPU_PART_H
#define SRC_BOARD_CPU_PART_H
#include "core/cpu_arch.h"
#include "core/snap.h"

/* Of a copy of the state: rt_get_state() makes it, rt_set_state() checks it and puts it back. */
struct snap_part cpu_part(struct cpu_arch *a);

#endif
