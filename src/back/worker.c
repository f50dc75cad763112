/* Owns a worker's thread and its two queues: to do, and done.
 *   I1  todo, done, busy and ending are touched only under lock.
 *   I2  A job is in one of three places: in todo, with the thread (busy), in done. Then it is its owner's again.
 *   I3  Neither wake() nor finished() is called under lock: the host may take its own, the owner may submit.
 *   I4  Whoever watches looks at a count without lock, and at the queues under it before it sleeps.     [watch_for] */
#include "src/back/worker.h"
#include "core/host_ns.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define WATCH_NS 100000u /* the worker, for the next job, after a wait that was shorter than SHORT_WAIT_NS */
#define SHORT_WAIT_NS 1000000u
#define SETTLE_NS 60000u      /* the vCPU thread, for one job, */
#define SETTLE_ALL_NS 250000u /* and for all of them */
#define PASSED_MAX 63u        /* times in a row that it does not watch, as it was in vain before */

struct queue {
    struct job *first, **last;
};

struct worker {
    const struct worker_ops *ops;
    void *owner;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something came to todo or done, or ending */
    struct queue todo, done;
    bool busy, ending;
    bool settles; /* the vCPU thread watches: it need not be woken */
    bool watched; /* somebody does at times: the worker does, too */
    atomic_uint submitted, finished;
    unsigned in_vain, to_pass; /* the vCPU thread's */
};

static void queue_clear(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
}

static struct job *queue_take(struct queue *q)
{
    struct job *j = q->first;
    if (j && !(q->first = j->next)) q->last = &q->first;
    return j;
}

/* Until *count is not `mark` any more, or for ns nanoseconds. Whether it has changed. */
static bool watch_for(const atomic_uint *count, unsigned mark, u64 ns)
{
    const u64 begin = host_ns(CLOCK_MONOTONIC);
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (atomic_load_explicit(count, memory_order_relaxed) != mark) return true;
            __builtin_ia32_pause();
        }
    } while (host_ns(CLOCK_MONOTONIC) - begin < ns);
    return false;
}

/* Under lock, which is left meanwhile: until there may be something to do. Whether that was soon. */
static bool wait_for_job(struct worker *w, bool watches)
{
    if (watches) {
        const unsigned mark = atomic_load_explicit(&w->submitted, memory_order_relaxed);
        pthread_mutex_unlock(&w->lock);
        watches = watch_for(&w->submitted, mark, WATCH_NS);
        pthread_mutex_lock(&w->lock);
        return watches;
    }
    const u64 begin = host_ns(CLOCK_MONOTONIC);
    pthread_cond_wait(&w->changed, &w->lock);
    return w->watched && host_ns(CLOCK_MONOTONIC) - begin < SHORT_WAIT_NS;
}

static void *worker_thread(void *arg)
{
    struct worker *w = arg;
    bool watches = false;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        struct job *j = queue_take(&w->todo);
        if (!j) {
            watches = wait_for_job(w, watches);
            continue;
        }
        w->busy = true;
        pthread_mutex_unlock(&w->lock);
        w->ops->run(w->owner, j);
        pthread_mutex_lock(&w->lock);
        w->busy = false;
        bool first = !w->done.first;
        queue_put(&w->done, j);
        atomic_fetch_add_explicit(&w->finished, 1, memory_order_relaxed);
        pthread_cond_broadcast(&w->changed);
        if (!first || w->settles) continue; /* they have been told, and have not been yet; or they look */
        pthread_mutex_unlock(&w->lock);
        w->wake(w->wake_arg);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void worker_submit(struct worker *w, struct job *j)
{
    pthread_mutex_lock(&w->lock);
    queue_put(&w->todo, j);
    atomic_fetch_add_explicit(&w->submitted, 1, memory_order_relaxed);
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int worker_new(struct worker **out, enum thread_role role, const struct worker_ops *ops, void *owner,
               void (*wake)(void *arg), void *wake_arg)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return -ENOMEM;
    w->ops = ops;
    w->owner = owner;
    w->wake = wake;
    w->wake_arg = wake_arg;
    queue_clear(&w->todo);
    queue_clear(&w->done);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int rc = thread_start(&w->thread, role, worker_thread, w);
    if (rc) {
        free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void worker_free(struct worker *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
}

void worker_complete(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    struct job *j = w->done.first; /* what is done from now on wakes us again */
    queue_clear(&w->done);
    pthread_mutex_unlock(&w->lock);
    while (j) {
        struct job *next = j->next;
        w->ops->finished(w->owner, j);
        j = next;
    }
}

/* One job more, if it comes soon. */
static bool settle_one(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const unsigned mark = atomic_load_explicit(&w->finished, memory_order_relaxed);
    bool done = w->done.first;
    w->settles = !done && (w->todo.first || w->busy);
    const bool waits = w->settles;
    pthread_mutex_unlock(&w->lock);
    if (waits) {
        (void)watch_for(&w->finished, mark, SETTLE_NS);
        pthread_mutex_lock(&w->lock);
        w->settles = false;
        done = w->done.first;
        pthread_mutex_unlock(&w->lock);
        w->in_vain = done ? 0 : 2 * w->in_vain + 1;
        if (w->in_vain > PASSED_MAX) w->in_vain = PASSED_MAX;
        w->to_pass = w->in_vain;
    }
    if (done) worker_complete(w);
    return done;
}

void worker_watch(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->watched = true;
    pthread_mutex_unlock(&w->lock);
}

void worker_settle(struct worker *w)
{
    if (!w->watched) worker_watch(w);
    if (w->to_pass) {
        w->to_pass--;
        return;
    }
    const u64 begin = host_ns(CLOCK_MONOTONIC);
    while (settle_one(w) && host_ns(CLOCK_MONOTONIC) - begin < SETTLE_ALL_NS) {}
}

void worker_drain(struct worker *w)
{
    for (;;) {
        pthread_mutex_lock(&w->lock);
        while (w->todo.first || w->busy) pthread_cond_wait(&w->changed, &w->lock);
        bool none = !w->done.first;
        pthread_mutex_unlock(&w->lock);
        if (none) return;
        worker_complete(w);
    }
}
