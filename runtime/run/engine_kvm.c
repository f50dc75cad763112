/* KVM as an engine: the host's processor runs the guest, by hardware virtualization. All else is as with the others:
 * the loop has the interrupt controllers' INTR line and hands KVM one vector at a time, devices answer the exits, and
 * the interpreter does what KVM cannot (single steps and breakpoints of a debugger, instructions that KVM's emulator
 * does not know).
 *
 *   I1  While the state is at home (kvm_cpu.home), the CPU is struct cpu, and the soft_ functions serve it. [come_home]
 *   I2  Nothing that was decoded or translated from guest memory is used after KVM has run.                 [come_home]
 *   I3  An instruction that has left for a device is done before anybody looks at the state.                [finish]
 * NOT-HW: there is no FERR# pin; with CR0.NE clear the host decides what an unmasked x87 exception becomes. */
#define _GNU_SOURCE
#include "core/clock.h"
#include "core/host_ns.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/msr.h"
#include "runtime/cpu/state.h"
#include "runtime/interp/interp.h"
#include "runtime/kvm/kvm_cpu.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/watch.h"
#include "runtime/run/engine.h"
#include "runtime/run/rt.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define SLICE 10000u      /* instructions that the interpreter does in one go while it stands in */
#define DIRTY_NS 5000000u /* how often KVM is asked for what has been written */

enum exit_kind { EXITS_PIO, EXITS_MMIO, EXITS_MSR, EXITS_HLT, EXITS_WINDOW, EXITS_KICK, EXITS_EMULATED, EXIT_KINDS };
static const char *const exit_names[] = { "pio", "mmio", "msr", "hlt", "window", "kick", "emulated" };

struct engine_data {
    struct kvm_cpu kvm;
    bool died; /* while the state came home */
    int err;   /* -errno of what the host refused, for rt_trouble() */
    u64 exits[EXIT_KINDS];
    u64 dirty_ns; /* when the dirty logs were brought up to date last */
};

/* ---- the host's failures ---- */

static enum engine_event failed(struct rt *rt, const char *what, int err)
{
    rt->trouble = what;
    rt->trouble_err = err;
    return ENGINE_FAILED;
}

/* ---- exits ---- */

static void port_access(struct rt *rt, struct kvm_run *run)
{
    u8 *data = (u8 *)run + run->io.data_offset;
    unsigned size = run->io.size;
    for (u32 i = 0; i < run->io.count; i++, data += size) {
        u32 val = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&val, data, size);
            bus_out(rt->bus, run->io.port, size, val);
        } else {
            val = bus_in(rt->bus, run->io.port, size);
            memcpy(data, &val, size);
        }
    }
}

static void memory_access(struct rt *rt, struct kvm_run *run)
{
    u64 val = 0;
    if (run->mmio.is_write) {
        memcpy(&val, run->mmio.data, run->mmio.len);
        bus_phys_write(rt->bus, run->mmio.phys_addr, run->mmio.len, val);
        kvm_memory_written(&rt->engine_data->kvm, run->mmio.phys_addr);
    } else {
        val = bus_phys_read(rt->bus, run->mmio.phys_addr, run->mmio.len);
        memcpy(run->mmio.data, &val, run->mmio.len);
    }
}

/* The registers are ours; what of them the processor must obey is handed on. KVM raises #GP for an error. */
static int msr_access(struct rt *rt, struct kvm_run *run, bool write)
{
    struct cpu *c = rt->cpu;
    u64 val = run->msr.data;
    int fault = write ? cpu_wrmsr(c, run->msr.index, val) : cpu_rdmsr(c, run->msr.index, &val);
    c->exc.valid = false;
    run->msr.error = fault != 0;
    run->msr.data = val;
    return write && !fault ? kvm_cpu_send_msrs(&rt->engine_data->kvm) : 0;
}

/* What a device does for the guest's instruction. False: the exit is none of these. */
static bool serve(struct rt *rt, int *err)
{
    struct engine_data *e = rt->engine_data;
    struct kvm_run *run = e->kvm.run;
    enum exit_kind kind = EXITS_PIO;
    *err = 0;
    switch (run->exit_reason) {
    case KVM_EXIT_IO: port_access(rt, run); break;
    case KVM_EXIT_MMIO:
        kind = EXITS_MMIO;
        memory_access(rt, run);
        break;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kind = EXITS_MSR;
        *err = msr_access(rt, run, run->exit_reason == KVM_EXIT_X86_WRMSR);
        break;
    default: return false;
    }
    e->exits[kind]++;
    e->kvm.unfinished = true;
    return true;
}

/* ---- where the state is ---- */

/* KVM completes the instruction at the next entry, without running a further one. It may be in several parts. */
static int finish(struct rt *rt)
{
    struct kvm_cpu *k = &rt->engine_data->kvm;
    int err = 0;
    while (k->unfinished && !err) {
        k->unfinished = false;
        k->run->immediate_exit = 1;
        int rc = kvm_cpu_enter(k);
        if (rc && rc != -EINTR) return rc;
        if (!rc) (void)serve(rt, &err);
    }
    return err;
}

static int come_home(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    int vector, rc;
    if (e->kvm.home) return 0;
    if ((rc = finish(rt)) || (rc = kvm_cpu_fetch(&e->kvm, &vector)) || (rc = kvm_memory_dirty(&e->kvm))) return rc;
    interp_flush(rt->interp);
    /* It has been acknowledged: no controller will give it again. */
    if (vector >= 0 && soft_inject(rt, INJECT_INTR, (u8)vector) == ENGINE_SHUTDOWN) e->died = true;
    return 0;
}

static void state_out(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    int rc = come_home(rt);
    if (rc) e->err = rc;
    vcpu_sync(rt->cpu);
}

/* The interpreter stands in for so many instructions. */
static enum engine_event stand_in(struct rt *rt, u64 n)
{
    int rc = come_home(rt);
    if (rc) return failed(rt, "/dev/kvm: the processor's state", rc);
    if (rt->engine_data->died) return ENGINE_SHUTDOWN;
    return soft_interpret(rt, n);
}

/* ---- running ---- */

/* In the guest until there is a reason to leave it; what KVM has to say is in the run page. Guest code reads the host's
 * TSC meanwhile. 0 or -errno. */
static int enter(struct rt *rt)
{
    struct kvm_cpu *k = &rt->engine_data->kvm;
    struct cpu *c = rt->cpu;
    struct kvm_run *run = k->run;
    run->request_interrupt_window = c->intr_line;
    /* Whoever kicks sets both: a kick that comes before this is seen in the one, a later one in the other. */
    run->immediate_exit = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (c->kick) run->immediate_exit = 1;
    int rc = kvm_cpu_send_tsc(k);
    if (rc) return rc;
    clock_expose(rt->clock);
    k->unfinished = false;
    rc = kvm_cpu_enter(k);
    clock_exposed(rt->clock);
    c->eip = (u32)run->s.regs.regs.rip;
    c->iflag = run->if_flag;
    return rc;
}

/* For whoever samples where time goes. */
static void note_privilege(struct rt *rt)
{
    struct kvm_sregs s;
    if (!ioctl(rt->engine_data->kvm.fd, KVM_GET_SREGS, &s)) rt->cpu->cpl = s.ss.dpl & 3;
}

static enum engine_event ended(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    struct kvm_run *run = e->kvm.run;
    int err;
    if (serve(rt, &err)) return err ? failed(rt, "/dev/kvm: a model-specific register", err) : ENGINE_AGAIN;
    switch (run->exit_reason) {
    case KVM_EXIT_HLT:
        e->exits[EXITS_HLT]++;
        rt->cpu->halted = 1;
        return ENGINE_AGAIN;
    case KVM_EXIT_IRQ_WINDOW_OPEN: e->exits[EXITS_WINDOW]++; return ENGINE_AGAIN;
    case KVM_EXIT_INTR: e->exits[EXITS_KICK]++; return ENGINE_AGAIN;
    case KVM_EXIT_SHUTDOWN: return ENGINE_SHUTDOWN;
    case KVM_EXIT_INTERNAL_ERROR: e->exits[EXITS_EMULATED]++; return stand_in(rt, 1);
    case KVM_EXIT_FAIL_ENTRY: return failed(rt, "/dev/kvm: the processor refuses the guest's state", -EINVAL);
    default: return failed(rt, "/dev/kvm: it left the guest for no reason that is known here", -EIO);
    }
}

static enum engine_event run(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    struct cpu *c = rt->cpu;
    int rc;
    if (e->died) return ENGINE_SHUTDOWN;
    if (e->err) return failed(rt, "/dev/kvm: the processor's state", e->err);
    if (c->watch->breaks.n || rt->tap.on) return stand_in(rt, SLICE); /* stops, or counts, at each instruction */
    if (e->kvm.remapped && (rc = kvm_memory_update(&e->kvm))) return failed(rt, "/dev/kvm: guest memory", rc);
    if (e->kvm.home && (rc = kvm_cpu_send(&e->kvm))) return failed(rt, "/dev/kvm: the processor's state", rc);
    for (;;) {
        rc = enter(rt);
        if (rc == -EINTR || rc == -EAGAIN) {
            e->exits[EXITS_KICK]++;
            note_privilege(rt);
            return ENGINE_AGAIN;
        }
        if (rc) return failed(rt, "/dev/kvm: running the guest (KVM_RUN)", rc);
        enum engine_event event = ended(rt);
        if (event != ENGINE_AGAIN || e->kvm.home || c->halted || c->kick || e->kvm.remapped) return event;
        if (c->nmi_pending || (c->intr_line && e->kvm.run->ready_for_interrupt_injection)) return event;
    }
}

static enum engine_event step(struct rt *rt)
{
    int rc = come_home(rt);
    if (rc) return failed(rt, "/dev/kvm: the processor's state", rc);
    if (rt->engine_data->died) return ENGINE_SHUTDOWN;
    return soft_step(rt);
}

/* ---- interrupts ---- */

/* KVM keeps an NMI until the guest can take it. */
static unsigned open_for(const struct rt *rt)
{
    const struct kvm_cpu *k = &rt->engine_data->kvm;
    if (k->home) return soft_open(rt);
    return (k->run->ready_for_interrupt_injection ? OPEN_INTR : 0u) | OPEN_NMI;
}

static enum engine_event inject(struct rt *rt, enum engine_injection what, u8 vector)
{
    struct kvm_cpu *k = &rt->engine_data->kvm;
    struct cpu *c = rt->cpu;
    struct kvm_interrupt irq = { .irq = vector };
    int rc = what == INJECT_EXCEPTION ? come_home(rt) : 0; /* it is in struct cpu */
    if (rc) return failed(rt, "/dev/kvm: the processor's state", rc);
    if (k->home) return soft_inject(rt, what, vector);
    c->halted = 0;
    if (what == INJECT_NMI) {
        c->nmi_pending = false;
        cpu_update_irq(c);
        return ioctl(k->fd, KVM_NMI) < 0 ? failed(rt, "/dev/kvm: an NMI (KVM_NMI)", -errno) : ENGINE_AGAIN;
    }
    k->run->ready_for_interrupt_injection = 0;
    return ioctl(k->fd, KVM_INTERRUPT, &irq) < 0 ? failed(rt, "/dev/kvm: an interrupt (KVM_INTERRUPT)", -errno)
                                                 : ENGINE_AGAIN;
}

/* ---- the engine ---- */

static int create(struct rt *rt, const char **what)
{
    struct rt_kvm probe;
    *what = "tlb_strict: KVM's TLB is the processor's own";
    if (rt->cfg.tlb_strict) return -ENOTSUP;
    int rc = rt_kvm_probe(&probe, what);
    if (rc) return rc;
    *what = "memory";
    if (!(rt->engine_data = calloc(1, sizeof *rt->engine_data))) return -ENOMEM;
    if ((rc = kvm_cpu_new(&rt->engine_data->kvm, rt->cpu, what))) return rc;
    rt->leave = &rt->engine_data->kvm.run->immediate_exit;
    return 0;
}

static void destroy(struct rt *rt)
{
    if (!rt->engine_data) return;
    rt->leave = NULL;
    kvm_cpu_free(&rt->engine_data->kvm);
    free(rt->engine_data);
    rt->engine_data = NULL;
}

static int bind(struct rt *rt)
{
    (void)rt;
    return 0;
}

static void unbind(struct rt *rt) { (void)rt; }

/* A display asks for what has been written at its own pace. */
static void kicked(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    u64 now = host_ns(CLOCK_MONOTONIC);
    if (now - e->dirty_ns < DIRTY_NS) return;
    e->dirty_ns = now;
    int rc = kvm_memory_dirty(&e->kvm);
    if (rc) e->err = rc;
}

static void kick(struct rt *rt)
{
    *rt->leave = 1;
    soft_kick(rt);
}

/* It goes to KVM at the next run. What KVM had is nobody's any more. */
static void state_in(struct rt *rt)
{
    struct engine_data *e = rt->engine_data;
    int rc = e->kvm.home ? 0 : finish(rt);
    e->kvm.home = true;
    e->died = false;
    e->err = rc;
}

static void flush(struct rt *rt) { interp_flush(rt->interp); }

static void report(const struct rt *rt, FILE *out)
{
    const struct engine_data *e = rt->engine_data;
    fprintf(out, "  \"direct\": \"off\",\n  \"kvm_exits\": {");
    for (unsigned i = 0; i < EXIT_KINDS; i++)
        fprintf(out, "%s \"%s\": %llu", i ? "," : "", exit_names[i], (unsigned long long)e->exits[i]);
    fprintf(out, " },\n");
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .create = create,
    .destroy = destroy,
    .bind = bind,
    .unbind = unbind,
    .run = run,
    .step = step,
    .kick = kick,
    .kicked = kicked,
    .open = open_for,
    .inject = inject,
    .state_out = state_out,
    .state_in = state_in,
    .flush = flush,
    .report = report,
};
