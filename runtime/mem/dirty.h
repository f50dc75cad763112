/* Dirty logs: which pages of RAM, or of a device's memory, have been written since they were last asked for; by whom
 * and by what way does not matter. Their owners' side is core/bus.h; this is the writers'.
 *
 * A page that is in a log and clean has PG_CLEAN: then no view has it writable, as with PG_CODE, and whoever is about
 * to write to it says so here, once. Pages in no log, and dirty ones, cost nothing. */
#ifndef RUNTIME_DIRTY_H
#define RUNTIME_DIRTY_H
#include "core/bus.h"

struct dirty_logs {
    struct dirty_log *first;
};
/* The page of RAM's file has PG_CLEAN in *flags, and is about to be written. */
bool dirty_logged(const struct dirty_logs *logs, u64 first, u64 n); /* one of these pages of the file is in a log */
void dirty_note(const struct dirty_logs *logs, u64 page, u8 *flags);
#endif
