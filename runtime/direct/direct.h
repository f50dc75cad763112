/* Direct execution: user code of hot address spaces runs on the processor itself, in processes that hold its pages and
 * nothing else (dx_process.h). This is the guest's side of it: who is admitted, what is mapped when, and what a stop
 * means. */
#ifndef RUNTIME_DIRECT_H
#define RUNTIME_DIRECT_H
#include "runtime/run/rt.h"

struct direct;

/* For the thread in rt_run(), which becomes the tracer of all its processes. Makes none yet. Returns 0 or -ENOMEM. */
MUST_CHECK int direct_new(struct direct **out, struct rt *rt, enum rt_direct mode);
/* From now on the thread may not make processes: another process, which is made now, does that. What goes wrong is told
 * as a host's that cannot. */
void direct_confine(struct direct *d);
/* The guest's time-stamp counter is not the host's any more: what runs directly must not read that. Its processes are
 * made anew. Between runs, on the bound thread. */
void direct_retimed(struct direct *d);
void direct_free(struct direct *d); /* brings the FPU state home; copes with NULL */

/* Whether the code at cpu->eip is to run directly, now. Scans and maps its page if need be. */
bool direct_here(struct direct *d);
/* Runs it until something stops it, and answers that. Returns 0, or EXC_SHUTDOWN. */
MUST_CHECK int direct_run(struct direct *d);
/* Whether the page of la runs directly in the present address space: translated code must then not go there by itself.
 */
bool direct_owns(struct direct *d, laddr la);

void direct_kick(struct direct *d); /* at every kick: ends processes whose address spaces are gone */
/* Whether this host can: makes a process and ends it. Returns 0, or -errno and *why. */
MUST_CHECK int direct_probe(int ram_fd, const char **why);
const char *direct_status(const struct direct *d); /* "on", or why the host cannot; "not tried" */
#endif
