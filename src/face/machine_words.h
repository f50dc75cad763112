/* The words of transvisor new, list, start, stop, rm and console. */
#ifndef SRC_MACHINE_WORDS_H
#define SRC_MACHINE_WORDS_H
#include "src/face/options.h"

struct machine_args {
    const char *name;
    bool console, force, json;
    u64 timeout_ms; /* how long a guest has to power off */
};
extern const struct opt machine_new_options[], machine_list_options[], machine_start_options[], machine_stop_options[],
    machine_rm_options[], machine_console_options[];

#endif
