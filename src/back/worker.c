/* Owns a worker's thread and its two queues: to do, and done.
 *   I1  todo, done, busy and ending are touched only under lock.
 *   I2  A job is in one of three places: in todo, with the thread (busy), in done. Then it is its owner's again.
 *   I3  Neither wake() nor finished() is called under lock: the host may take its own, the owner may submit. */
#include "src/back/worker.h"

#include <errno.h>
#include <pthread.h>

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

static void *worker_thread(void *arg)
{
    struct worker *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        struct job *j = queue_take(&w->todo);
        if (!j) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        w->busy = true;
        pthread_mutex_unlock(&w->lock);
        w->ops->run(w->owner, j);
        pthread_mutex_lock(&w->lock);
        w->busy = false;
        bool first = !w->done.first;
        queue_put(&w->done, j);
        pthread_cond_broadcast(&w->changed);
        if (!first) continue; /* they have been told, and have not been yet */
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
