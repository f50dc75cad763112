/* Owns whether a machine runs or stands (session.h).
 *   I1  A call is made once, on the machine's thread, between two runs; its caller waits for it.   [calls, session_end]
 *   I2  state changes on the machine's thread only, and every change is told.                      [change] */
#include "src/face/session.h"

void session_init(struct session *s, struct vm *vm, bool stopped)
{
    *s = (struct session){ .vm = vm, .state = stopped ? SESSION_ASKED : SESSION_RUNS };
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->done, NULL);
}

void session_listen(struct session *s, struct session_listener *l)
{
    l->next = s->listeners;
    s->listeners = l;
}

static void tell(struct session *s)
{
    for (struct session_listener *l = s->listeners; l; l = l->next)
        if (l->changed) l->changed(l->arg);
}

void session_was_reset(struct session *s, bool guest)
{
    for (struct session_listener *l = s->listeners; l; l = l->next)
        if (l->was_reset) l->was_reset(l->arg, guest);
}

void session_disk_failed(struct session *s, const struct session_failure *f)
{
    for (struct session_listener *l = s->listeners; l; l = l->next)
        if (l->disk_failed) l->disk_failed(l->arg, f);
}

static void change(struct session *s, enum session_state state)
{
    s->state = state;
    tell(s);
}

/* ---- on the machine's thread ---- */

void session_stop(struct session *s)
{
    s->step = false;
    if (s->state == SESSION_RUNS) change(s, SESSION_ASKED);
}

void session_go(struct session *s)
{
    if (s->state == SESSION_DIED) s->end = true;
    if (s->state != SESSION_RUNS) change(s, SESSION_RUNS);
}

void session_step(struct session *s, bool interrupts)
{
    s->step = true;
    s->interrupts = interrupts;
    session_go(s);
}

void session_quit(struct session *s)
{
    s->quit = true;
    vm_stop(s->vm);
}

/* One at a time: it may make the machine go on, and another wait for what comes of that. */
static void calls(struct session *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->first) {
        struct session_call *c = s->first;
        s->first = c->next;
        if (!s->first) s->last = &s->first;
        c->waits = false;
        pthread_mutex_unlock(&s->lock);
        c->fn(c->arg);
        pthread_mutex_lock(&s->lock);
        c->done = c->made = true;
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
}

static enum vm_exit run(struct session *s, struct vm_error *err)
{
    if (s->state != SESSION_RUNS) return vm_wait(s->vm, err);
    if (!s->step) return vm_run(s->vm, err);
    enum vm_exit how = vm_step(s->vm, s->interrupts, err);
    if (how == VM_EXIT_STEPPED || how == VM_EXIT_BREAK) s->step = false;
    return how;
}

enum vm_exit session_run(struct session *s, struct vm_error *err)
{
    for (;;) {
        calls(s);
        if (s->end) return VM_EXIT_DIED;
        enum vm_exit how = run(s, err);
        switch (how) {
        case VM_EXIT_PAUSED: break;
        case VM_EXIT_BREAK: change(s, SESSION_BREAK); break;
        case VM_EXIT_DISK: change(s, SESSION_DISK); break;
        case VM_EXIT_STEPPED: change(s, SESSION_STEPPED); break;
        case VM_EXIT_PROBE:
            if (!s->listeners) return how;
            change(s, SESSION_ASKED); /* somebody is there who can look, and let it go on */
            break;
        case VM_EXIT_DIED:
            if (!s->hold_dead) return how;
            change(s, SESSION_DIED);
            break;
        default: return how;
        }
    }
}

void session_end(struct session *s)
{
    pthread_mutex_lock(&s->lock);
    s->over = true;
    for (; s->first; s->first = s->first->next) s->first->done = true;
    s->last = &s->first;
    pthread_cond_broadcast(&s->done);
    pthread_mutex_unlock(&s->lock);
}

/* ---- on any other ---- */

/* Under lock. */
static void enqueue(struct session *s, struct session_call *c)
{
    c->waits = true;
    c->next = NULL;
    *s->last = c;
    s->last = &c->next;
    vm_pause(s->vm);
}

void session_post(struct session *s, struct session_call *c)
{
    pthread_mutex_lock(&s->lock);
    if (!s->over && !c->waits) enqueue(s, c);
    pthread_mutex_unlock(&s->lock);
}

bool session_call(struct session *s, void (*fn)(void *arg), void *arg)
{
    struct session_call c = { .fn = fn, .arg = arg };
    pthread_mutex_lock(&s->lock);
    if (!s->over) {
        enqueue(s, &c);
        while (!c.done) pthread_cond_wait(&s->done, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return c.made;
}
