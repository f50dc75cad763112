/* Samples in guest time: how many a card owes since it began, and when the next ones are due. */
#ifndef SRC_DEV_SOUND_PACE_H
#define SRC_DEV_SOUND_PACE_H
#include "core/snap.h"

struct pace {
    u64 from_ns, done; /* guest time at which it began; frames since */
};
#define PACE_FIELDS(T, m) SNAP(T, m.from_ns, .keep = true), SNAP(T, m.done)
#define PACE_COLUMNS(T, array, m) SNAP_COLUMN(T, array, m.from_ns, .keep = true), SNAP_COLUMN(T, array, m.done)

void pace_start(struct pace *p, u64 now_ns);
/* Frames that are due by now, at rate a second; after a time that nobody would make up for, none. */
u32 pace_due(struct pace *p, u32 rate, u64 now_ns);
/* Guest time at which n frames more will be due. */
u64 pace_time(const struct pace *p, u32 rate, u64 n);

#endif
