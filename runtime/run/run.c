/* The loop: services what is pending, delivers interrupts, runs an engine, idles. One thread, one vCPU.
 *
 *   I1  Devices, timers and posts run here only, between guest blocks.
 *   I2  cpu->irq_pending is nonzero iff something could be delivered as soon as IF and the shadow allow. [update_irq]
 *   I3  A request to stop or reset sets kick, so that it is seen within one block. */
#define _GNU_SOURCE
#include "runtime/run/alarm.h"
#include "runtime/cpu/cpu_layout.h"
#include "runtime/cpu/cpu_ops.h"
#include "runtime/direct/direct.h"
#include "runtime/run/hostsig.h"
#include "runtime/interp/interp.h"
#include "runtime/run/rt.h"
#include "runtime/mem/aspace.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/window.h"
#include "translator/front/decode.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

_Static_assert(offsetof(struct cpu, gpr) == CPU_GPR && offsetof(struct cpu, eip) == CPU_EIP
                   && offsetof(struct cpu, aflags) == CPU_AFLAGS && offsetof(struct cpu, fpu_hot) == CPU_FPU_HOT
                   && offsetof(struct cpu, sse_hot) == CPU_SSE_HOT && offsetof(struct cpu, jump_cache) == CPU_JUMP_CACHE
                   && offsetof(struct cpu, exit_arg) == CPU_EXIT_ARG && offsetof(struct cpu, host_rsp) == CPU_HOST_RSP
                   && offsetof(struct cpu, scratch) == CPU_SCRATCH && offsetof(struct cpu, window) == CPU_WINDOW
                   && offsetof(struct cpu, fx) == CPU_FX,
               "cpu_layout.h");
_Static_assert(EXIT_JUMP == ASM_EXIT_JUMP && EXIT_CHAIN == ASM_EXIT_CHAIN && EXIT_EMULATE == ASM_EXIT_EMULATE
                   && EXIT_FAULT == ASM_EXIT_FAULT && EXIT_SIGNAL == ASM_EXIT_SIGNAL && EXIT_NEXT == ASM_EXIT_NEXT
                   && HELPER_DONE == 0 && HELPER_NEXT == ASM_HELPER_NEXT && HELPER_JUMP == ASM_HELPER_JUMP,
               "cpu_layout.h");
_Static_assert(offsetof(struct fxstate, fip) == FX_FIP && offsetof(struct fxstate, fdp) == FX_FDP
                   && offsetof(struct fxstate, xmm) == FX_XMM,
               "cpu_layout.h");

_Static_assert(RT_CODE_CACHE_MIN == XL_CACHE_MIN && RT_CODE_CACHE_MAX == XL_CACHE_MAX, "what runtime.h promises");

#define DEFAULT_CACHE_BYTES \
    (256u << 20) /* address space, until it is used: building a C program went through 64 MiB five times */

extern char rt_exit_jump[], rt_exit_chain[], rt_exit_emulate[], rt_stub_tlb[], rt_stub_fpu[], rt_stub_helper[];

#define HELPER(name, fn, text) int fn(struct cpu *c, u32 arg);
#include "core/helpers.def"
#undef HELPER

/* ---- lifetime ---- */

static int make_engines(struct rt *rt, const char **what)
{
    int err;
    *what = "decoder";
    if ((err = decoder_new(&rt->dec))) return err;
    *what = "interpreter";
    if ((err = interp_new(&rt->interp, rt->cpu, rt->dec))) return err;
    if (rt->cfg.engine == RT_INTERP) return 0;
    *what = "host processor without BMI2 (--engine interp does without)";
    if (!__builtin_cpu_supports("bmi2")) return -ENOTSUP;
    *what = "windows";
    if (!rt->cfg.no_windows && (err = windows_new(&rt->windows, rt->cpu))) return err;
    if (rt->windows && (err = aspaces_new(&rt->aspaces, &rt->trace))) return err;
    /* Without windows there are no books of what is mapped. */
    if (rt->cfg.direct == RT_DIRECT_ALWAYS && (err = direct_probe(bus_ram_fd(rt->bus), what))) return err;
    *what = "code cache";
    struct xl_config cfg = { .cache_bytes = rt->cfg.code_cache_size ? rt->cfg.code_cache_size : DEFAULT_CACHE_BYTES,
                             .opt = { .disabled = rt->cfg.disabled_classes,
                                      .features = rt->cpu->model->features,
                                      .window = rt->windows != NULL },
                             .perf_map = rt->cfg.perf_map,
                             .miss = rt_exit_jump,
                             .trace = &rt->trace,
                             .ctr = &rt->cpu->ctr,
                             .dec = rt->dec };
#define HELPER(name, fn, text) rt->cpu->helpers[HELPER_##name] = fn;
#include "core/helpers.def"
#undef HELPER
    if ((err = xl_new(&rt->xl, &cfg))) {
        if (err == -EEXIST) *what = "--perf-map: what is there under /tmp/perf-PID.map is no file of ours";
        return err;
    }
    void **slot = rt->cpu->callouts;
    slot[CALLOUT_JUMP] = rt_exit_jump;
    slot[CALLOUT_CHAIN] = rt_exit_chain;
    slot[CALLOUT_EMULATE] = rt_exit_emulate;
    slot[CALLOUT_TLB] = rt_stub_tlb;
    slot[CALLOUT_FPU] = rt_stub_fpu;
    slot[CALLOUT_HELPER] = rt_stub_helper;
    return 0;
}

static int make_machine(struct rt *rt, const char **what)
{
    int err;
    *what = "CPU model";
    const struct cpu_model *model = rt->cfg.cpu_model ? cpu_model_find(rt->cfg.cpu_model) : cpu_model_at(0);
    if (!model) return -EINVAL;
    *what = "guest memory";
    if ((err = bus_new(&rt->bus, rt->cfg.ram_size))) return err;
    *what = "clock";
    if ((err = clock_new(&rt->clock))) return err;
    *what = "CPU";
    if ((err = cpu_new(&rt->cpu, rt->bus, model))) return err;
    rt->cpu->rt = rt;
    cpu_reset(rt->cpu);
    if ((err = make_engines(rt, what))) return err;
    dispatch_listen(rt);
    if (!rt->windows) return 0;
    const struct aspace_mech windows = windows_mech(rt->windows);
    aspaces_way(rt->aspaces, ASPACE_WINDOW, &windows, rt->cfg.eager_windows);
    account_listen(rt);
    return 0;
}

int rt_new(struct rt **out, const struct rt_config *cfg, const char **what)
{
    *what = "memory";
    struct rt *rt = calloc(1, sizeof *rt);
    if (!rt) return -ENOMEM;
    rt->cfg = *cfg;
    rt->trace = cfg->trace;
    if (!rt->trace.out) rt->trace.out = stderr;
    if (!rt->trace.to) rt->trace.to = ~0u;
    rt->request = -1;
    rt->posts_tail = &rt->posts;
    pthread_mutex_init(&rt->lock, NULL);
    int err = make_machine(rt, what);
    if (err) {
        rt_free(rt);
        return err;
    }
    *out = rt;
    return 0;
}

void rt_free(struct rt *rt)
{
    if (!rt) return;
    while (rt->posts) {
        struct post *p = rt->posts;
        rt->posts = p->next;
        free(p);
    }
    if (rt->bus) { /* nobody is told of anything any more */
        coherence_unlisten(bus_coherence(rt->bus), &rt->code_listener);
        coherence_unlisten(bus_coherence(rt->bus), &rt->account.listener);
    }
    xl_free(rt->xl);
    aspaces_free(rt->aspaces);
    windows_free(rt->windows);
    interp_free(rt->interp);
    decoder_free(rt->dec);
    cpu_free(rt->cpu);
    clock_free(rt->clock);
    bus_free(rt->bus);
    pthread_mutex_destroy(&rt->lock);
    free(rt);
}

struct bus *rt_bus(struct rt *rt) { return rt->bus; }
struct clock *rt_clock(struct rt *rt) { return rt->clock; }
struct cpu *rt_cpu(struct rt *rt) { return rt->cpu; }
struct decoder *rt_decoder(struct rt *rt) { return rt->dec; }
struct trace *rt_trace(struct rt *rt) { return &rt->trace; }

/* ---- wiring ---- */

void rt_set_intc(struct rt *rt, const struct intc_ops *ops, void *dev)
{
    rt->intc = ops;
    rt->intc_dev = dev;
    rt->cpu->apic_base_hook = ops->set_apic_base;
    rt->cpu->apic_base_arg = dev;
}

static void set_intr(void *opaque, unsigned n, bool level)
{
    (void)n;
    struct cpu *c = ((struct rt *)opaque)->cpu;
    c->intr_line = level;
    cpu_update_irq(c);
}

static void set_nmi(void *opaque, unsigned n, bool level)
{
    (void)n;
    struct cpu *c = ((struct rt *)opaque)->cpu;
    if (level) c->nmi_pending = true;
    cpu_update_irq(c);
}

struct irq_line rt_intr_line(struct rt *rt) { return (struct irq_line){ set_intr, rt, 0 }; }
struct irq_line rt_nmi_line(struct rt *rt) { return (struct irq_line){ set_nmi, rt, 0 }; }

/* ---- requests from outside ---- */

void rt_kick(struct rt *rt)
{
    /* Whoever raises it sends the one signal: real-time signals queue, and a busy sender would fill the host's queue.
     */
    bool raised = __atomic_exchange_n(&rt->cpu->kick, 1, __ATOMIC_SEQ_CST) != 0;
    if (!raised && rt->running && !pthread_equal(pthread_self(), rt->thread))
        syscall(SYS_tgkill, getpid(), rt->tid, hostsig_kick_signo());
}

static void request(struct rt *rt, enum rt_exit what)
{
    pthread_mutex_lock(&rt->lock);
    if (rt->request < 0) rt->request = (int)what;
    pthread_mutex_unlock(&rt->lock);
    rt_kick(rt);
}
void rt_stop(struct rt *rt) { request(rt, RT_STOPPED); }
void rt_request_reset(struct rt *rt) { request(rt, RT_RESET); }

int rt_post(struct rt *rt, void (*fn)(void *), void *arg)
{
    struct post *p = malloc(sizeof *p);
    if (!p) return -ENOMEM;
    *p = (struct post){ fn, arg, NULL };
    pthread_mutex_lock(&rt->lock);
    *rt->posts_tail = p;
    rt->posts_tail = &p->next;
    pthread_mutex_unlock(&rt->lock);
    rt_kick(rt);
    return 0;
}

static struct post *take_posts(struct rt *rt)
{
    pthread_mutex_lock(&rt->lock);
    struct post *p = rt->posts;
    rt->posts = NULL;
    rt->posts_tail = &rt->posts;
    pthread_mutex_unlock(&rt->lock);
    return p;
}

/* The kick signal comes when the next timer is due. */
static void on_deadline(void *arg, u64 deadline_ns)
{
    struct rt *rt = arg;
    alarm_set(rt->alarm, deadline_ns, rt->clock);
}

/* Time in guest kernel and user code, by sampling: what has passed since the last kick goes to the privilege found now.
 */
static void sample_time(struct rt *rt, u64 now)
{
    struct counters *n = &rt->cpu->ctr;
    u64 busy = now - rt->sampled_at - (n->idle_cycles - rt->sampled_idle);
    if (rt->cpu->cpl == 3) n->user_cycles += busy;
    else n->kernel_cycles += busy;
    rt->sampled_at = now;
    rt->sampled_idle = n->idle_cycles;
}

/* Returns the exit asked for, or -1. */
static int service(struct rt *rt)
{
    u64 begin = __rdtsc();
    hostsig_ack(rt->cpu);
    sample_time(rt, begin);
    rt->cpu->ctr.kicks++;
    account_kick(rt);
    clock_run_due(rt->clock);
    on_deadline(rt, clock_next_deadline(rt->clock)); /* this kick may have been the alarm's */
    for (struct post *p = take_posts(rt); p;) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
    pthread_mutex_lock(&rt->lock);
    int what = rt->request;
    rt->request = -1;
    pthread_mutex_unlock(&rt->lock);
    rt->cpu->ctr.dev_cycles += __rdtsc() - begin;
    return what;
}

/* ---- interrupts ---- */

static int deliver_interrupt(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    if (c->intr_shadow) return 0;
    if (c->nmi_pending && !c->nmi_blocked) {
        c->nmi_pending = false;
        c->nmi_blocked = true;
        c->halted = 0;
        cpu_update_irq(c);
        return exc_interrupt(c, V_NMI);
    }
    if (!c->intr_line || !c->iflag || !rt->intc) return 0;
    int vector = rt->intc->acknowledge(rt->intc_dev);
    if (vector < 0) return 0;
    c->halted = 0;
    c->ctr.interrupts++;
    TRACE(&rt->trace, exc, c->eip, "interrupt %02x at %08x\n", (unsigned)vector, c->eip);
    return exc_interrupt(c, (u8)vector);
}

/* HLT: sleeps until a kick. The signal is blocked, so that none slips in between, and taken without its handler, which
 * would cost two changes of the repeating timer and a signal frame: most of what an idle guest costs. */
static void idle(struct rt *rt)
{
    sigset_t kick, before;
    sigemptyset(&kick);
    sigaddset(&kick, hostsig_kick_signo());
    pthread_sigmask(SIG_BLOCK, &kick, &before);
    u64 begin = __rdtsc();
    if (!rt->cpu->kick && sigwaitinfo(&kick, NULL) > 0) rt->cpu->kick = 1;
    rt->cpu->ctr.idle_cycles += __rdtsc() - begin;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- the loop ---- */

#define INTERP_SLICE 100000

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

static int run_interp(struct rt *rt, u64 n)
{
    bool traced = unlikely(rt->trace.mask & 1u << TR_exec);
    return (traced ? run_traced(rt, n) : interp_run(rt->interp, n)) == INTERP_SHUTDOWN ? EXC_SHUTDOWN : 0;
}

/* One instruction under an interrupt shadow, so that what is pending can be delivered after it. */
static int step_engine(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    if (!cpu_shadow_is_idle(c)) return run_interp(rt, 1);
    if (!rt->xl) return run_interp(rt, INTERP_SLICE);
    if (!xl_can_translate(c->mode)) return run_interp(rt, 64);
    return dispatch_translated(rt);
}

static enum rt_exit loop(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    for (;;) {
        if (c->kick) {
            int what = service(rt);
            if (what >= 0) return (enum rt_exit)what;
        }
        cpu_update_irq(c); /* an IRET may have unblocked NMIs */
        if (c->irq_pending) {
            if (deliver_interrupt(rt) == EXC_SHUTDOWN) return RT_SHUTDOWN;
            cpu_update_irq(c);
        }
        if (c->halted) {
            idle(rt);
            continue;
        }
        if (step_engine(rt) == EXC_SHUTDOWN) return RT_SHUTDOWN;
    }
}

enum rt_exit rt_run(struct rt *rt)
{
    if (hostsig_install()) return RT_ERROR;
    rt->tid = (pid_t)syscall(SYS_gettid);
    rt->thread = pthread_self();
    u64 window = rt->windows ? windows_base(rt->windows) : 0, span = rt->windows ? windows_span(rt->windows) : 0;
    if (hostsig_attach(rt->cpu, rt->xl, window, span)) return RT_ERROR;
    if (alarm_new(&rt->alarm, hostsig_kick_signo(), rt->tid)) {
        hostsig_detach();
        return RT_ERROR;
    }
    rt->direct_status = "off";
    if (rt->windows && rt->cfg.direct != RT_DIRECT_OFF && direct_new(&rt->direct, rt, rt->cfg.direct)) {
        alarm_free(rt->alarm);
        hostsig_detach();
        return RT_ERROR;
    }
    rt->running = true;
    clock_on_deadline(rt->clock, on_deadline, rt);
    rt->account.kicked_ns = 0; /* another thread's, perhaps */
    rt->cpu->kick = 1;         /* whatever was asked for before is looked at first */
    rt->run_began = rt->sampled_at = __rdtsc();
    enum rt_exit e = loop(rt);
    rt->running = false;
    if (rt->direct) rt->direct_status = direct_status(rt->direct);
    direct_free(rt->direct);
    rt->direct = NULL;
    clock_on_deadline(rt->clock, NULL, NULL);
    alarm_free(rt->alarm);
    rt->alarm = NULL;
    hostsig_detach();
    return e;
}
