/* A thread that does one job after another, so that nothing that waits runs on the vCPU thread. A job is whatever has a
 * struct job in it: it is submitted and finished on the vCPU thread, and run on the worker's. */
#ifndef SRC_WORKER_H
#define SRC_WORKER_H
#include "core/job.h"
#include "core/thread.h"

struct worker;
struct worker_ops {
    void (*run)(void *owner, struct job *j);      /* on the worker's thread, one at a time */
    void (*finished)(void *owner, struct job *j); /* on the vCPU thread; it may be submitted again */
};
/* wake: called on the worker's thread: jobs are done, arrange for worker_complete() on the vCPU thread, soon.
 * Borrows owner. 0 or -errno. */
MUST_CHECK int worker_new(struct worker **out, enum thread_role role, const struct worker_ops *ops, void *owner,
                          void (*wake)(void *arg), void *wake_arg);
/* Waits for the job that is being run; the rest is dropped, and finished() is called for nothing any more. Copes with
 * NULL. Whoever must not lose a job drains first. */
void worker_free(struct worker *w);
void worker_submit(struct worker *w, struct job *j);
/* From now on the worker watches for a moment for the next job before it sleeps, if the one before came soon. */
void worker_watch(struct worker *w);
/* Watches for a moment for what has been submitted, and completes it: a job that is short is done by then, without that
 * either thread has slept and has been woken. From its first call on the worker watches, too. On the vCPU thread, not
 * from within finished(). */
void worker_settle(struct worker *w);
/* Calls finished() for all that is done. On the vCPU thread. */
void worker_complete(struct worker *w);
/* Waits until nothing is under way, and completes it: before a save, a reset, the end. What finished() submits, too. */
void worker_drain(struct worker *w);

#endif
