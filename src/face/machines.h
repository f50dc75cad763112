/* transvisor new, list, start, stop, rm and console: machines by name. */
#ifndef SRC_MACHINES_H
#define SRC_MACHINES_H
#include "src/face/machine_words.h"

/* Runs a machine as `transvisor run` does, with these words. folder: what names of files in its configuration are
 * relative to. Writes a byte to ready once the guest runs. Returns the exit status. */
typedef int machine_run_fn(int argc, char **argv, const char *folder, int ready);

/* They return the exit status, or -errno with *err set. */
MUST_CHECK int machine_new(const char *name, int argc, char **argv, struct vm_error *err);
MUST_CHECK int machine_start(const struct machine_args *a, int argc, char **argv, machine_run_fn *run,
                             struct vm_error *err);
MUST_CHECK int machine_list(const struct machine_args *a, struct vm_error *err);
MUST_CHECK int machine_stop(const struct machine_args *a, struct vm_error *err);
MUST_CHECK int machine_rm(const struct machine_args *a, struct vm_error *err);
MUST_CHECK int machine_console_of(const struct machine_args *a, struct vm_error *err);

#endif
