/* The host's random numbers for a guest, read by a thread of their own. */
#ifndef SRC_ENTROPY_H
#define SRC_ENTROPY_H
#include "core/rngdev.h"
#include "transvisor/vm.h"

struct entropy;
/* wake: called on that thread: requests are done, arrange for entropy_complete() on the vCPU thread, soon. 0 or -errno,
 * with *err set. */
MUST_CHECK int entropy_open(struct entropy **out, void (*wake)(void *arg), void *arg, struct vm_error *err);
void entropy_close(struct entropy *e); /* copes with NULL, as those below do */
/* NULL: of none. Borrowed. */
const struct rngdev *entropy_dev(const struct entropy *e);
/* Calls done() for all requests that are. On the vCPU thread. */
void entropy_complete(struct entropy *e);
/* Waits until nothing is under way, and completes it: before a save, a reset, the end. */
void entropy_drain(struct entropy *e);

#endif
