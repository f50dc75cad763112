/* The interpreter as an engine, and what it shares with the translator: a CPU that is struct cpu. */
#define _GNU_SOURCE
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/state.h"
#include "runtime/interp/interp.h"
#include "runtime/run/count.h"
#include "runtime/run/engine.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/rt.h"

#include <sys/syscall.h>
#include <unistd.h>

#define SLICE 100000 /* instructions */

/* ---- a CPU of our own ---- */

void soft_kick(struct rt *rt) { syscall(SYS_tgkill, getpid(), rt->tid, hostsig_kick_signo()); }

unsigned soft_open(const struct rt *rt)
{
    const struct cpu *c = rt->cpu;
    if (c->intr_shadow) return 0;
    return (c->iflag ? OPEN_INTR : 0) | (c->nmi_blocked ? 0 : OPEN_NMI);
}

enum engine_event soft_inject(struct rt *rt, enum engine_injection what, u8 vector)
{
    struct cpu *c = rt->cpu;
    int r;
    if (what != INJECT_EXCEPTION) c->halted = 0;
    switch (what) {
    case INJECT_NMI:
        c->nmi_pending = false;
        c->nmi_blocked = true;
        cpu_update_irq(c);
        r = exc_interrupt(c, V_NMI);
        break;
    case INJECT_INTR: r = exc_interrupt(c, vector); break;
    default: r = exc_deliver(c); break;
    }
    return r == EXC_SHUTDOWN ? ENGINE_SHUTDOWN : ENGINE_AGAIN;
}

/* As interp_run(), an instruction at a time. */
static enum interp_stop run_traced(struct rt *rt, u64 n)
{
    enum interp_stop why = INTERP_BUDGET;
    while (n-- && why == INTERP_BUDGET) {
        dispatch_trace(rt);
        why = interp_run(rt->interp, 1);
    }
    return why;
}

enum engine_event soft_interpret(struct rt *rt, u64 n)
{
    n = count_room(rt->cpu, n);
    bool traced = unlikely(rt->trace.mask & 1u << TR_exec);
    enum interp_stop why = traced ? run_traced(rt, n) : interp_run(rt->interp, n);
    return why == INTERP_SHUTDOWN ? ENGINE_SHUTDOWN : ENGINE_AGAIN;
}

enum engine_event soft_step(struct rt *rt)
{
    dispatch_trace(rt);
    return interp_step(rt->interp) == INTERP_SHUTDOWN ? ENGINE_SHUTDOWN : ENGINE_AGAIN;
}

/* ---- the engine ---- */

static int create(struct rt *rt, const char **what)
{
    (void)rt, (void)what;
    return 0; /* rt->interp is there with every engine: it is the one slow path */
}

static void nothing(struct rt *rt) { (void)rt; }
static int bind(struct rt *rt)
{
    (void)rt;
    return 0;
}

/* One instruction under an interrupt shadow, so that what is pending can be delivered after it. */
static enum engine_event run(struct rt *rt) { return soft_interpret(rt, cpu_shadow_is_idle(rt->cpu) ? SLICE : 1); }

static void state_out(struct rt *rt) { vcpu_sync(rt->cpu); }
static void flush(struct rt *rt) { interp_flush(rt->interp); }
static void report(const struct rt *rt, FILE *out)
{
    (void)rt;
    fprintf(out, "  \"direct\": \"off\",\n");
}

const struct engine_ops engine_interp = {
    .name = "interp",
    .create = create,
    .destroy = nothing,
    .bind = bind,
    .unbind = nothing,
    .run = run,
    .step = soft_step,
    .kick = soft_kick,
    .open = soft_open,
    .inject = soft_inject,
    .state_out = state_out,
    .state_in = nothing, /* cpu_set_arch() has told everybody */
    .flush = flush,
    .report = report,
};
