/* What the runtime's own files share: one struct rt per VM. */
#ifndef RUNTIME_RT_H
#define RUNTIME_RT_H
#include "core/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/mem/coherence.h"
#include "runtime/run/engine.h"
#include "runtime/run/mixed.h"
#include "runtime/run/probe_slots.h"
#include "runtime/run/stops.h"
#include "runtime/run/stream_slots.h"
#include "runtime/runtime.h"
#include "translator/translator.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct interp;
struct alarm;
struct windows;
struct window;
struct aspaces;
struct direct;

struct post {
    void (*fn)(void *);
    void *arg;
    struct post *next;
};

enum rt_request { REQUEST_STOP = 1, REQUEST_RESET = 2 };

/* What the loop is asked to do. */
enum rt_way { WAY_RUN, WAY_STEP, WAY_STEP_WITH_INTERRUPTS, WAY_WAIT };

enum { EMULATED_TIMED = 61 /* a prime: guests repeat themselves in other numbers */ };

struct rt {
    struct rt_config cfg;
    const struct engine_ops *engine;
    struct engine_data *engine_data; /* of an engine that keeps its state apart */
    struct trace trace;
    struct bus *bus;
    struct clock *clock;
    struct cpu_model model; /* cpu's */
    struct cpu *cpu;
    struct decoder *dec;
    struct interp *interp;
    struct xl *xl;           /* NULL with RT_INTERP */
    struct windows *windows; /* NULL: none (interpreter, or rt_config.no_windows) */
    struct aspaces *aspaces; /* likewise */
    struct {
        laddr la;
        u32 cr3;
        bool waits, write;
    } missing; /* the last access through a user window that was the guest's page fault; waits: not mapped since */
    struct direct *direct; /* of the bound thread; NULL: none */
    struct {
        struct coherence_listener listener;
        u64 kicked_ns;     /* the thread's CPU time at the last kick; 0: there was none */
        u64 sites_ns;      /* CPU time that may go into sending sites back */
    } account;             /* account.c */
    volatile u8 *leave;    /* hostsig_cpu.leave, of an engine that has such a thing */
    const char *no_direct; /* why it cannot be had in any run; NULL: it can */
    const char *trouble;   /* RT_ERROR: what failed, */
    int trouble_err;       /* and why: -errno */
    const struct intc_ops *intc;
    void *intc_dev;
    struct irq_line ferr;

    u64 bound; /* hostsig_thread() of the thread that alarm, direct and the engine's own are made for; 0: of none */
    pid_t tid; /* its */
    struct alarm *alarm;
    bool running;
    pthread_t thread; /* the one in rt_run() */
    struct {
        u64 ns;                /* rt_expect() since the last HLT: the longest; 0: none */
        atomic_bool now;       /* a HLT watches cpu->kick: no signal is needed */
        unsigned vain, passes; /* how often it is not to, as it was in vain before; and yet */
    } watch;                   /* run.c */
    enum rt_way way;
    bool pass;     /* a debugger's breakpoint at the first instruction of the next run does not count */
    bool standing; /* guest time stands */

    /* Written by any thread under lock; looked at when cpu->kick is set. */
    pthread_mutex_t lock;
    struct post *posts, **posts_tail;
    unsigned requests; /* a set of enum rt_request */

    struct coherence_listener code_listener; /* dispatch.c */
    bool jump_local;                         /* the supervisor's jump cache has entries for pages that are not global */
    u32 jump_mode[2];                        /* the mode key that each jump cache was filled for, */
    u32 jump_base[2];                        /* and the base of CS */
    u32 contexts;                            /* the highest number of a context (xl_context) so far */
    int step_result;                         /* of a helper that has interpreted an instruction: 0, or EXC_SHUTDOWN */
    struct mixed mixed;
    struct {
        bool on;     /* the translator is asked for tap */
        bool count;  /* rt_count() */
        bool counts; /* instructions are counted, for that or for a limit */
        u64 limit;   /* of cpu_tally()[TALLY_INSNS], by rt_limit(), */
        u64 step;    /* and by count_step() */
        struct xl_tap tap;
    } tap; /* count.c */
    struct probes probes;
    struct stream stream;
    struct stops stops;
    u64 emulated_op[OP_COUNT];     /* by mnemonic: what translated code left to the interpreter */
    u64 emulated_cycles[OP_COUNT]; /* host TSC, likewise: of a sample, one in EMULATED_TIMED, times that */
    u64 sampled_at, sampled_idle;  /* host TSC and idle_cycles at the last sample of where the guest's time goes */
    u64 run_began;                 /* host TSC, of the present rt_run() or the last */
    u64 run_cycles;                /* in all of them that have ended */
};

/* Something can be delivered at this boundary, unless a shadow is open. While an NMI handler runs with IF clear,
 * neither an asserted INTR nor another NMI can. */
static inline bool rt_interrupt_waits(const struct cpu *c)
{
    return c->irq_pending && (c->iflag || (c->nmi_pending && !c->nmi_blocked));
}

/* rt_new() with an engine that runtime.h does not name. */
MUST_CHECK int rt_new_with(struct rt **out, const struct rt_config *cfg, const struct engine_ops *engine,
                           const char **what);
/* For the runtime's own tests: the CPU itself, to be looked at and changed while it does not run. */
struct cpu *rt_cpu(struct rt *rt);
struct decoder *rt_decoder(struct rt *rt);
void rt_update(struct rt *rt); /* after changes of the CPU's fields: recomputes what depends on them, and rt_flush() */

/* count.c: what is to be noticed of code is another than before. */
void rt_tap_changed(struct rt *rt);
/* report.c: one line, without a newline, to whoever wants to know what goes wrong without stopping the machine. */
void rt_warn(const struct rt *rt, const char *fmt, ...) PRINTF_LIKE(2, 3);
void rt_sleep(struct rt *rt); /* run.c: until a kick */
/* dispatch.c: one step of an engine; returns 0, or EXC_SHUTDOWN. */
MUST_CHECK int dispatch_translated(struct rt *rt);
/* Prepares R12 and R13 for the present mode: cpu->window, and cpu->jump_cache, which is emptied if it was filled for
 * another. */
enum xl_jump_cache dispatch_prepare(struct rt *rt);
/* For whoever else runs guest code: interprets the instruction at eip, delivering what it raises; delivers cpu->exc. 0
 * or EXC_SHUTDOWN. */
MUST_CHECK int dispatch_emulate(struct rt *rt, vaddr eip);
MUST_CHECK int dispatch_deliver(struct rt *rt);
void dispatch_trace(struct rt *rt);  /* what is about to run (--trace exec) */
void dispatch_listen(struct rt *rt); /* keeps jump caches, translated and decoded code up to date from now on */
/* account.c: what address spaces cost and gain. Only where there are windows. */
void account_listen(struct rt *rt); /* follows CR3 from now on */
void account_kick(struct rt *rt);
u64 account_begin(void);                          /* around what is done for a user window: */
void account_fault_end(struct rt *rt, u64 begin); /* the answer to a fault in it, */
void account_map_end(struct rt *rt, u64 begin);   /* or a mapping without one */
#endif
