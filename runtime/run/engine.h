/* The seam between the loop (run.c) and what runs guest code: one table of calls for each engine.
 *
 * The loop owns time, posts, requests and the interrupt pins; an engine owns how instructions are carried out. All
 * calls are made on the thread that is in rt_run(), or by whoever has the machine while it does not run, unless they
 * say otherwise. What the guest flushes and which of its pages hold code an engine hears from coherence.h, if it wants
 * to: create() is where it begins to listen.
 *
 * Between two calls of run(), cpu->halted, intr_shadow, iflag, nmi_blocked and eip are up to date in every engine; the
 * rest of cpu->arch is after state_out(). */
#ifndef RUNTIME_ENGINE_H
#define RUNTIME_ENGINE_H
#include "core/types.h"

struct rt;
struct engine_data; /* an engine's own, in rt->engine_data; the engines here keep theirs in struct rt */

enum engine_event {
    ENGINE_AGAIN, /* something may have to be looked at: a kick, HLT, an interrupt that can be delivered, or nothing */
    ENGINE_SHUTDOWN, /* triple fault */
    ENGINE_FAILED,   /* the host failed; the machine cannot go on */
};

/* What the CPU would take at this instruction boundary: a set of these. */
enum engine_opening { OPEN_INTR = 1, OPEN_NMI = 2 };
enum engine_injection {
    INJECT_INTR,      /* an external interrupt: the vector has been acknowledged */
    INJECT_NMI,       /* blocks further ones until IRET */
    INJECT_EXCEPTION, /* what is in cpu->exc */
};

struct engine_ops {
    const char *name;
    /* Makes what is the engine's in rt, whose CPU, bus and clock are there. Returns 0, or -errno with *what naming the
     * thing that failed; destroy() then cleans up. */
    int (*create)(struct rt *rt, const char **what);
    void (*destroy)(struct rt *rt); /* copes with a half-made one */
    /* The calling thread is the one that will call run() from now on: for what the host ties to a thread. 0 or -errno.
     */
    int (*bind)(struct rt *rt);
    void (*unbind)(struct rt *rt);  /* from any thread; the bound one may be gone */
    void (*confine)(struct rt *rt); /* the bound thread goes to jail: make what it could not later; may be NULL */
    /* Between runs, on the bound thread: the guest's time-stamp counter is no longer what it was to the host's. */
    void (*retimed)(struct rt *rt); /* may be NULL */
    /* Runs guest code until something must be looked at. Soon if cpu->kick is set. */
    enum engine_event (*run)(struct rt *rt);
    /* Carries out one instruction, or one iteration of a repeated one, and delivers what it raises. A debugger's
     * breakpoint at it does not count. */
    enum engine_event (*step)(struct rt *rt);
    /* From any thread and from signal handlers: cpu->kick has been set, run() is to see it soon. */
    void (*kick)(struct rt *rt);
    void (*kicked)(struct rt *rt);         /* the loop answers a kick: time to settle accounts; may be NULL */
    unsigned (*open)(const struct rt *rt); /* enum engine_opening */
    /* Delivers it now. vector: INJECT_INTR. What delivery raises is delivered too. */
    enum engine_event (*inject)(struct rt *rt, enum engine_injection what, u8 vector);
    void (*state_out)(struct rt *rt); /* cpu->arch is all of the CPU's state from here until run() or inject() */
    void (*state_in)(struct rt *rt);  /* cpu->arch has been changed */
    void (*flush)(struct rt *rt);     /* RAM has been changed unseen: forget everything made of it */
    void (*report)(const struct rt *rt, FILE *out); /* lines of JSON of its own, each ending in a comma; may be NULL */
};

extern const struct engine_ops engine_bt, engine_interp, engine_kvm;

/* For engines whose CPU is struct cpu, carried out by our own code (engine_interp.c). */
void soft_kick(struct rt *rt);
unsigned soft_open(const struct rt *rt);
enum engine_event soft_inject(struct rt *rt, enum engine_injection what, u8 vector);
enum engine_event soft_interpret(struct rt *rt, u64 n); /* at most n instructions */
enum engine_event soft_step(struct rt *rt);

#endif
