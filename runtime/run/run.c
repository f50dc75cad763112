/* The loop: services what is pending, delivers interrupts, runs an engine, idles. One thread, one vCPU.
 *
 *   I1  Devices, timers and posts run here only, between guest blocks.
 *   I2  cpu->irq_pending is nonzero iff something could be delivered as soon as IF and the shadow allow. [update_irq]
 *   I3  A request to stop or reset sets kick, so that it is seen within one block. */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "runtime/run/alarm.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/run/count.h"
#include "runtime/run/pace.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/probes.h"
#include "runtime/interp/interp.h"
#include "runtime/run/rt.h"
#include "runtime/run/stream.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/watch.h"
#include "runtime/mem/tables.h"
#include "runtime/mem/window.h"
#include "translator/front/decode.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#define WATCH_LOOKS 16u
#define WATCH_PASSES_MAX 63u

/* ---- the thread ---- */

static void unbind(struct rt *rt)
{
    if (!rt->bound) return;
    rt->engine->unbind(rt);
    alarm_free(rt->alarm);
    rt->alarm = NULL;
    rt->bound = 0;
}

/* What the host ties to a thread, and is dear to make, stays from one rt_run() to the next, as long as they are made by
 * the same thread. */
static int bind(struct rt *rt)
{
    int err;
    u64 me = hostsig_thread();
    if (rt->bound == me) return 0;
    unbind(rt);
    rt->tid = (pid_t)syscall(SYS_gettid);
    if ((err = alarm_new(&rt->alarm, hostsig_kick_signo(), rt->tid))) return err;
    rt->bound = me;
    if ((err = rt->engine->bind(rt))) unbind(rt);
    return err;
}

/* ---- lifetime ---- */

/* A debugger's breakpoint has been met, on the vCPU's thread: translated code must see it as well. */
static void on_break(void *arg)
{
    struct rt *rt = arg;
    rt->cpu->kick = 1;
    interp_attend(rt->interp);
    rt->engine->kick(rt);
}

static int make_machine(struct rt *rt, const char **what)
{
    int err;
    *what = "CPU model";
    if (cpu_model_make(&rt->model, rt->cfg.cpu_model)) return -EINVAL;
    *what = "guest memory";
    if ((err = bus_new(&rt->bus, rt->cfg.ram_size))) return err;
    *what = "clock";
    if ((err = clock_new(&rt->clock))) return err;
    *what = "CPU";
    if ((err = cpu_new(&rt->cpu, rt->bus, &rt->model))) return err;
    rt->cpu->rt = rt;
    rt->cpu->clock = rt->clock;
    if (rt->cfg.tlb_strict && (err = tables_new(rt->cpu))) return err;
    cpu_reset(rt->cpu);
    *what = "decoder";
    if ((err = decoder_new(&rt->dec))) return err;
    *what = "interpreter";
    if ((err = interp_new(&rt->interp, rt->cpu, rt->dec))) return err;
    rt->cpu->watch->breaks.notify = on_break;
    rt->cpu->watch->breaks.arg = rt;
    if ((err = rt->engine->create(rt, what))) return err;
    dispatch_listen(rt);
    rt->tap.limit = rt->tap.step = INSNS_NO_LIMIT;
    if (rt->cfg.speed_mhz) pace_begin(rt);
    return 0;
}

int rt_new(struct rt **out, const struct rt_config *cfg, const char **what)
{
    static const struct engine_ops *const engines[] = {
        [RT_BT] = &engine_bt, [RT_INTERP] = &engine_interp, [RT_KVM] = &engine_kvm
    };
    return rt_new_with(out, cfg, engines[cfg->engine], what);
}

int rt_new_with(struct rt **out, const struct rt_config *cfg, const struct engine_ops *engine, const char **what)
{
    *what = "memory";
    struct rt *rt = calloc(1, sizeof *rt);
    if (!rt) return -ENOMEM;
    rt->cfg = *cfg;
    rt->engine = engine;
    rt->trace = cfg->trace;
    if (!rt->trace.out) rt->trace.out = stderr;
    if (!rt->trace.to) rt->trace.to = ~0u;
    rt->posts_tail = &rt->posts;
    probes_init(&rt->probes, rt);
    stream_init(&rt->stream, rt);
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
    unbind(rt);
    stream_free(&rt->stream);
    if (rt->bus) { /* nobody is told of anything any more */
        coherence_unlisten(bus_coherence(rt->bus), &rt->code_listener);
        coherence_unlisten(bus_coherence(rt->bus), &rt->account.listener);
    }
    rt->engine->destroy(rt);
    interp_free(rt->interp);
    decoder_free(rt->dec);
    if (rt->cpu) tables_free(rt->cpu);
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

static void on_ferr(void *arg, bool level) { irq_set(&((struct rt *)arg)->ferr, level); }

void rt_set_ferr(struct rt *rt, struct irq_line line)
{
    rt->ferr = line;
    rt->cpu->ferr_hook = on_ferr;
    rt->cpu->ferr_arg = rt;
}

static void set_ignne(void *opaque, unsigned n, bool level)
{
    (void)n;
    ((struct rt *)opaque)->cpu->ignne = level;
}

struct irq_line rt_ignne_line(struct rt *rt) { return (struct irq_line){ set_ignne, rt, 0 }; }
struct irq_line rt_intr_line(struct rt *rt) { return (struct irq_line){ set_intr, rt, 0 }; }
struct irq_line rt_nmi_line(struct rt *rt) { return (struct irq_line){ set_nmi, rt, 0 }; }

/* ---- requests from outside ---- */

void rt_kick(struct rt *rt)
{
    /* Whoever raises it sends the one signal: real-time signals queue, and a busy sender would fill the host's queue.
     */
    bool raised = __atomic_exchange_n(&rt->cpu->kick, 1, __ATOMIC_SEQ_CST) != 0;
    if (raised || !rt->running || pthread_equal(pthread_self(), rt->thread)) return;
    if (!atomic_load(&rt->watch.now)) rt->engine->kick(rt);
}

void rt_expect(struct rt *rt, u64 ns)
{
    if (rt->watch.ns < ns) rt->watch.ns = ns;
}

static void request(struct rt *rt, unsigned what)
{
    pthread_mutex_lock(&rt->lock);
    rt->requests |= what;
    pthread_mutex_unlock(&rt->lock);
    rt_kick(rt);
}
void rt_stop(struct rt *rt) { request(rt, REQUEST_STOP); }
void rt_request_reset(struct rt *rt) { request(rt, REQUEST_RESET); }

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

/* The kick signal comes when the next timer is due; or the guest's step ends there. */
static void on_deadline(void *arg, u64 deadline_ns)
{
    struct rt *rt = arg;
    if (rt->cfg.speed_mhz && !rt->cpu->halted) pace_deadline(rt, deadline_ns);
    else alarm_set(rt->alarm, deadline_ns, rt->clock);
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

/* A reset comes before a stop: a machine that has been stopped is to be found reset. */
static bool take_request(struct rt *rt, enum rt_exit *why)
{
    pthread_mutex_lock(&rt->lock);
    unsigned what = rt->requests & REQUEST_RESET ? REQUEST_RESET : rt->requests;
    rt->requests &= ~what;
    pthread_mutex_unlock(&rt->lock);
    *why = what == REQUEST_RESET ? RT_RESET : RT_STOPPED;
    return what != 0;
}

/* Whether the loop is to end, and why. */
static bool service(struct rt *rt, enum rt_exit *why)
{
    u64 begin = __rdtsc();
    hostsig_ack(rt->cpu);
    clock_look(rt->clock);
    sample_time(rt, begin);
    rt->cpu->ctr.kicks++;
    if (rt->engine->kicked) rt->engine->kicked(rt);
    if (unlikely(rt->stream.cfg.what)) stream_look(&rt->stream);
    coherence_aged(bus_coherence(rt->bus), clock_now(rt->clock) / 1000000);
    clock_run_due(rt->clock);
    on_deadline(rt, clock_next_deadline(rt->clock)); /* this kick may have been the alarm's */
    for (struct post *p = take_posts(rt); p;) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
    rt->cpu->ctr.dev_cycles += __rdtsc() - begin;
    if (rt->windows && windows_failed(rt->windows)) {
        *why = RT_ERROR;
        return true;
    }
    if (take_request(rt, why)) return true;
    if (rt->way != WAY_WAIT && rt->probes.stopped) {
        rt->probes.stopped = false;
        *why = RT_PROBE;
        return true;
    }
    if (rt->way == WAY_WAIT || !rt->cpu->watch->breaks.met) return false;
    breaks_forget(&rt->cpu->watch->breaks);
    *why = RT_BREAK;
    return true;
}

/* ---- interrupts ---- */

/* *delivered is set if there was one. */
static enum engine_event deliver_interrupt(struct rt *rt, bool *delivered)
{
    struct cpu *c = rt->cpu;
    unsigned open = rt->engine->open(rt);
    if (c->nmi_pending && open & OPEN_NMI) {
        *delivered = true;
        return rt->engine->inject(rt, INJECT_NMI, V_NMI);
    }
    if (!c->intr_line || !(open & OPEN_INTR) || !rt->intc) return ENGINE_AGAIN;
    int vector = rt->intc->acknowledge(rt->intc_dev);
    if (vector < 0) return ENGINE_AGAIN;
    c->ctr.interrupts++;
    *delivered = true;
    TRACE(&rt->trace, exc, c->eip, "interrupt %02x at %08x\n", (unsigned)vector, c->eip);
    return rt->engine->inject(rt, INJECT_INTR, (u8)vector);
}

void rt_sleep(struct rt *rt)
{
    u64 begin = __rdtsc();
    hostsig_sleep();
    rt->cpu->ctr.idle_cycles += __rdtsc() - begin;
}

/* Watches for a kick before the thread sleeps: to be put to sleep and to be woken takes longer than what is expected.
 * What is in vain is left off for a while. Whoever kicks looks at watch.now behind cpu->kick, this looks at cpu->kick
 * behind watch.now: so a kick without a signal is seen here, or in rt_sleep(). */
static bool watch_for_kick(struct rt *rt)
{
    const u64 ns = rt->watch.ns;
    if (!ns) return false;
    rt->watch.ns = 0;
    if (rt->watch.passes) {
        rt->watch.passes--;
        return false;
    }
    const u64 begin = __rdtsc(), until = host_ns(CLOCK_MONOTONIC) + ns;
    atomic_store(&rt->watch.now, true);
    while (!rt->cpu->kick && host_ns(CLOCK_MONOTONIC) < until)
        for (unsigned i = 0; i < WATCH_LOOKS && !rt->cpu->kick; i++) __builtin_ia32_pause();
    atomic_store(&rt->watch.now, false);
    const bool kicked = rt->cpu->kick;
    rt->watch.vain = kicked ? 0 : 2 * rt->watch.vain + 1;
    if (rt->watch.vain > WATCH_PASSES_MAX) rt->watch.vain = WATCH_PASSES_MAX;
    rt->watch.passes = rt->watch.vain;
    rt->cpu->ctr.idle_cycles += __rdtsc() - begin;
    return kicked;
}

/* HLT. */
static void idle(struct rt *rt)
{
    clock_sleep(rt->clock);
    if (rt->cfg.speed_mhz) on_deadline(rt, clock_next_deadline(rt->clock));
    if (!watch_for_kick(rt)) rt_sleep(rt);
    clock_wake(rt->clock);
}

/* ---- guest time between runs ---- */

/* Stops guest time and TSC, until go_on(). */
static void stand(struct rt *rt)
{
    if (rt->standing) return;
    rt->standing = true;
    clock_stand(rt->clock);
    rt->cpu->tsc_until = 0;
}

/* What runs directly read the host's TSC, if that was the guest's. It is not any more. On the bound thread. */
static void go_on(struct rt *rt)
{
    if (!rt->standing) return;
    rt->standing = false;
    rt->cpu->tsc_offset -= clock_walk(rt->clock);
    if (rt->engine->retimed) rt->engine->retimed(rt);
}

/* ---- the loop ---- */

static enum rt_exit end_of(enum engine_event event) { return event == ENGINE_SHUTDOWN ? RT_SHUTDOWN : RT_ERROR; }

static enum rt_exit loop(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    enum engine_event event = ENGINE_AGAIN;
    enum rt_exit why;
    if (c->exc.valid) event = rt->engine->inject(rt, INJECT_EXCEPTION, 0); /* came with the state */
    if (event == ENGINE_AGAIN && rt->pass && !c->halted) event = rt->engine->step(rt);
    while (event == ENGINE_AGAIN) {
        if (c->kick && service(rt, &why)) return why;
        if (unlikely(count_is_full(c))) {
            if (count_limit_met(rt)) return RT_LIMIT;
            pace_step(rt);
            continue;
        }
        cpu_update_irq(c); /* an IRET may have unblocked NMIs */
        if (c->irq_pending) {
            bool delivered = false;
            event = deliver_interrupt(rt, &delivered);
            if (event != ENGINE_AGAIN) break;
            cpu_update_irq(c);
        }
        if (c->halted) idle(rt);
        else event = rt->engine->run(rt);
    }
    return end_of(event);
}

/* One instruction; in HLT, until an interrupt is delivered. */
static enum rt_exit step(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    enum rt_exit why;
    for (;;) {
        enum engine_event event = ENGINE_AGAIN;
        bool done = false;
        if (c->kick && service(rt, &why)) return why;
        cpu_update_irq(c);
        if (c->exc.valid) event = rt->engine->inject(rt, INJECT_EXCEPTION, 0), done = true;
        else if (c->irq_pending && (c->halted || rt->way == WAY_STEP_WITH_INTERRUPTS))
            event = deliver_interrupt(rt, &done);
        if (event == ENGINE_AGAIN && !done && c->halted) {
            idle(rt);
            continue;
        }
        if (event == ENGINE_AGAIN && !done) event = rt->engine->step(rt);
        if (event != ENGINE_AGAIN) return end_of(event);
        if (!c->kick || !service(rt, &why)) return RT_STEPPED;
        if (why != RT_STOPPED) return why; /* it has met a breakpoint, or reset the machine */
        request(rt, REQUEST_STOP);         /* for the next run: this one has done what it was to do */
        if (c->watch->breaks.met) {        /* which the request has come before */
            breaks_forget(&c->watch->breaks);
            return RT_BREAK;
        }
        return RT_STEPPED;
    }
}

static enum rt_exit wait_for_requests(struct rt *rt)
{
    enum rt_exit why;
    for (;;) {
        if (rt->cpu->kick && service(rt, &why)) return why;
        rt_sleep(rt);
    }
}

static void sampling_begins(struct rt *rt)
{
    rt->run_began = rt->sampled_at = __rdtsc();
    rt->sampled_idle = rt->cpu->ctr.idle_cycles;
    rt->account.kicked_ns = 0; /* what the thread has done meanwhile was not for the guest */
}

int rt_trouble(const struct rt *rt, const char **what)
{
    *what = rt->trouble;
    return rt->trouble_err;
}

/* The calling thread becomes the guest's. 0 or -errno, with *what. */
static int attach(struct rt *rt, const char **what)
{
    struct hostsig_cpu here = { .cpu = rt->cpu, .xl = rt->xl, .leave = rt->leave };
    if (rt->windows) here.window = windows_base(rt->windows), here.window_span = windows_span(rt->windows);
    *what = "signal handlers (rt_sigaction)";
    int rc = hostsig_install();
    if (rc) return rc;
    *what = "timers (timer_create and timerfd_create, or a thread)";
    rc = bind(rt);
    return rc ? rc : hostsig_attach(&here);
}

int rt_confine(struct rt *rt, const char **what)
{
    int rc = attach(rt, what);
    if (rc) return rc;
    if (rt->engine->confine) rt->engine->confine(rt);
    hostsig_detach();
    return 0;
}

static enum rt_exit run(struct rt *rt, enum rt_way way)
{
    if (way == WAY_WAIT) stand(rt);
    if ((rt->trouble_err = attach(rt, &rt->trouble))) return RT_ERROR;
    if (way != WAY_WAIT) go_on(rt);
    rt->trouble = "the engine";
    rt->trouble_err = -EIO;
    rt->thread = pthread_self();
    rt->running = true;
    rt->way = way;
    clock_on_deadline(rt->clock, on_deadline, rt);
    rt->cpu->kick = 1; /* whatever was asked for before is looked at first */
    sampling_begins(rt);
    clock_start(rt->clock);
    enum rt_exit why = way == WAY_RUN ? loop(rt) : way == WAY_WAIT ? wait_for_requests(rt) : step(rt);
    rt->pass = false;
    if (why == RT_BREAK || why == RT_STEPPED || why == RT_PROBE) stand(rt);
    clock_stop(rt->clock);
    rt->running = false;
    rt->run_cycles += __rdtsc() - rt->run_began;
    clock_on_deadline(rt->clock, NULL, NULL);
    alarm_stop(rt->alarm);
    if (rt->stream.cfg.what) stream_publish(&rt->stream);
    rt->engine->state_out(rt); /* so that any thread may look at it */
    hostsig_detach();
    return why;
}

enum rt_exit rt_run(struct rt *rt) { return run(rt, WAY_RUN); }
enum rt_exit rt_step(struct rt *rt, bool interrupts)
{
    return run(rt, interrupts ? WAY_STEP_WITH_INTERRUPTS : WAY_STEP);
}
enum rt_exit rt_wait(struct rt *rt) { return run(rt, WAY_WAIT); }
