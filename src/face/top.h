/* `transvisor top`: what a running machine does, live, through its monitor's socket. */
#ifndef SRC_FACE_TOP_H
#define SRC_FACE_TOP_H
#include "core/types.h"
#include "transvisor/vm.h"

struct top_args {
    const char *monitor; /* unix:PATH */
    bool once;           /* one screen, and it ends */
    u64 ms;              /* that a screen is about */
};

/* Until the machine or its user ends it. 0 or -errno, with *err. */
MUST_CHECK int top_run(const struct top_args *a, struct vm_error *err);

#endif
