/* A machine that several parties drive at once: the thread that runs it, a debugger, a monitor. One thread runs the
 * machine; what the others want of it they have called there, between two runs. */
#ifndef SRC_FACE_SESSION_H
#define SRC_FACE_SESSION_H
#include "core/types.h"
#include "transvisor/vm.h"

#include <pthread.h>

enum session_state {
    SESSION_RUNS,
    SESSION_ASKED,   /* stands: somebody has asked for it */
    SESSION_BREAK,   /* stands at a breakpoint: vm_break_met() */
    SESSION_STEPPED, /* stands behind an instruction */
    SESSION_DISK,    /* stands after a write that failed, which is made once more when it goes on */
    SESSION_DIED,    /* stands after a triple fault; it ends when it is to go on */
};

struct symbols;
/* What somebody wants to have called on the machine's thread. */
struct session_call {
    void (*fn)(void *arg);
    void *arg;
    bool waits, done, made; /* under the session's lock */
    struct session_call *next;
};
/* What a drive could not do; err: an errno. */
struct session_failure {
    unsigned drive;
    bool write, stops;
    int err;
};
/* Told, on the machine's thread, of each change of state, and of each reset. A function may be NULL. */
struct session_listener {
    void (*changed)(void *arg);
    void (*was_reset)(void *arg, bool guest);                        /* guest: it has asked for it */
    void (*disk_failed)(void *arg, const struct session_failure *f); /* where the guest runs */
    void *arg;
    struct session_listener *next; /* the session's */
};

struct session {
    struct vm *vm;
    struct symbols *symbols; /* of the guest's, or NULL; borrowed */
    pthread_mutex_t lock;
    pthread_cond_t done;
    struct session_call *first, **last; /* waiting; under lock */
    bool over;                          /* no call is taken any more; under lock */
    /* The machine's thread's: */
    enum session_state state;
    bool step, interrupts; /* the next run is a step */
    bool hold_dead;        /* a machine that has died stands, for somebody to look at */
    bool end;              /* it is to end */
    bool quit;             /* by session_quit() */
    unsigned buttons;      /* of the mouse, that a monitor has pressed */
    unsigned x, y;         /* where it has put the pointer, if it has (placed) */
    bool placed;
    struct session_listener *listeners;
};

/* stopped: it stands before its first instruction. */
void session_init(struct session *s, struct vm *vm, bool stopped);
void session_listen(struct session *s, struct session_listener *l); /* before session_run(); l stays the caller's */
/* Runs the machine until it ends, as vm_run(): POWEROFF, RESET, STOPPED, DEBUG, LIMIT, PROBE, DIED or ERROR.
 */
enum vm_exit session_run(struct session *s, struct vm_error *err);
/* After it: nobody's call is taken any more, those that wait return. */
void session_end(struct session *s);

/* From another thread: calls fn(arg) on the machine's, which does not run meanwhile. False: the session is over. */
bool session_call(struct session *s, void (*fn)(void *arg), void *arg);
/* The same for who must not wait; c stays the caller's until session_end() has returned. One that waits already is
 * called once for both, and one that comes after the end is not. */
void session_post(struct session *s, struct session_call *c);

/* From such a function, or a listener: */
void session_stop(struct session *s);
void session_go(struct session *s);
void session_step(struct session *s, bool interrupts);
void session_quit(struct session *s); /* as vm_stop() */
void session_was_reset(struct session *s, bool guest);
void session_disk_failed(struct session *s, const struct session_failure *f);

#endif
