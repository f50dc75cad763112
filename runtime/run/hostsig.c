/* Owns the handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and the kick signal, and each thread's pointer to the
 * vCPU that it runs: thread-local, because a signal handler has no other way to find it. What is the process's (the
 * handlers that were there before, what a fault costs) is written once, under install_once().
 *
 *   I1  A handler never emulates. In translated code it redirects RIP to an exit stub, which finds all guest registers
 *       where they are; the dispatcher does the rest.
 *   I2  A kick that arrives in a stub, or just before the thread sleeps, is repeated by a timer until the dispatcher
 *       acknowledges it. One that arrives elsewhere outside of rt_enter() is not: that looks at cpu->kick before it
 *       enters a block.                                                                       [on_kick, hostsig_sleep]
 */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/hosttimer.h"
#include "translator/translator.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define REKICK_NS 50000

extern char rt_exit_fault[], rt_exit_signal[], rt_probe_load[], rt_probe_after[];
void rt_probe(const void *where); /* enter_x64.S: reads a byte */

struct vthread {
    struct hostsig_cpu run;   /* run.cpu NULL: this thread runs none */
    sigset_t before;          /* the thread's mask, as it came */
    u64 number;               /* 0: not given yet */
    struct hosttimer *rekick; /* NULL: not made yet */
    bool rekick_armed;
    volatile bool sleeps; /* it may be on its way to sleep */
    volatile int forward_tid, forward_signo;
    u64 fault_addr;
    bool fault_write;
};
static __thread struct vthread self;
static u64 fault_ns;                    /* written once */
static struct sigaction previous[NSIG]; /* what to hand over to when a fault is not the guest's; written once */

static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };

/* Of no other use on x86, and not a real-time signal: those are refused once too many wait (RLIMIT_SIGPENDING). */
int hostsig_kick_signo(void) { return SIGSTKFLT; }

static void rekick_later(void)
{
    self.rekick_armed = true;
    hosttimer_set(self.rekick, host_ns(CLOCK_MONOTONIC) + REKICK_NS);
}

static void on_kick(int sig, siginfo_t *si, void *ctx)
{
    (void)sig, (void)si;
    struct cpu *c = self.run.cpu;
    if (!c) return;
    int saved = errno;
    greg_t *r = ((ucontext_t *)ctx)->uc_mcontext.gregs;
    c->kick = 1;
    if (self.run.leave) *self.run.leave = 1;
    if (self.sleeps) {
        rekick_later();
    } else if (self.forward_tid) {
        syscall(SYS_tgkill, self.forward_tid, self.forward_tid, self.forward_signo);
    } else if (self.run.xl) {
        c->jump_cache = xl_jump_cache(self.run.xl, XL_JC_MISS);
        if (xl_break(self.run.xl, (u64)r[REG_RIP])) r[REG_R13] = (greg_t)(u64)c->jump_cache;
        else if (c->host_rsp) rekick_later();
    }
    errno = saved;
}

static void hand_over(int sig, siginfo_t *si, void *ctx)
{
    const struct sigaction *sa = &previous[sig];
    if (sa->sa_flags & SA_SIGINFO && sa->sa_sigaction) sa->sa_sigaction(sig, si, ctx);
    else if (sa->sa_handler != SIG_DFL && sa->sa_handler != SIG_IGN) sa->sa_handler(sig);
    else {
        sigaction(sig, sa, NULL);         /* returning repeats the fault, with the default action */
        if (si->si_code <= 0) raise(sig); /* what somebody sent does not repeat itself */
    }
}

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
    greg_t *r = ((ucontext_t *)ctx)->uc_mcontext.gregs;
    u64 pc = (u64)r[REG_RIP];
    struct xl_point at;
    if (pc == (u64)rt_probe_load) {
        r[REG_RIP] = (greg_t)(u64)rt_probe_after;
        return;
    }
    /* A code of 0 or less: sent by a process, so no fault of the guest's, wherever it happened to interrupt us. */
    if (si->si_code <= 0 || !self.run.cpu || !self.run.xl || !xl_recover(self.run.xl, pc, &at)) {
        hand_over(sig, si, ctx);
        return;
    }
    self.run.cpu->exit_arg = pc;
    u64 addr = (u64)si->si_addr;
    bool window = addr - self.run.window < self.run.window_span;
    if ((sig == SIGSEGV || sig == SIGBUS) && window) {
        self.fault_addr = addr;
        self.fault_write = (r[REG_ERR] & 2) != 0;
        r[REG_RIP] = (greg_t)(u64)rt_exit_fault;
    } else {
        r[REG_RIP] = (greg_t)(u64)rt_exit_signal;
    }
}

static int install_all(void)
{
    struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++)
        if (sigaction(faults[i], &sa, &previous[faults[i]]) < 0) return -errno;
    struct sigaction kick = { .sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_RESTART };
    return sigaction(hostsig_kick_signo(), &kick, NULL) < 0 ? -errno : 0;
}

/* Whoever started us may have blocked anything: a fault with its signal blocked kills, and a kick would never come. */
static void let_in(sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++) sigaddset(&set, faults[i]);
    sigaddset(&set, hostsig_kick_signo());
    pthread_sigmask(SIG_UNBLOCK, &set, before);
}

/* The best of a few: others may run in between. */
static u64 measure_fault(void)
{
    u64 best = UINT64_MAX;
    void *nothing = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigset_t before;
    if (nothing == MAP_FAILED) return 5000;
    let_in(&before);
    for (unsigned i = 0; i < 8; i++) {
        u64 begin = host_ns(CLOCK_MONOTONIC);
        rt_probe(nothing);
        u64 ns = host_ns(CLOCK_MONOTONIC) - begin;
        if (ns < best) best = ns;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(nothing, PAGE_SIZE);
    return best;
}

u64 hostsig_fault_ns(void) { return fault_ns; }

static int install_result;
static pthread_key_t at_exit; /* of a thread that has a timer */

static void thread_ends(void *timer)
{
    (void)timer;
    hosttimer_free(self.rekick);
    self.rekick = NULL;
}

static void install_once(void)
{
    install_result = install_all();
    if (!install_result) install_result = -pthread_key_create(&at_exit, thread_ends);
    if (!install_result) fault_ns = measure_fault();
}

int hostsig_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_once);
    return install_result;
}

u64 hostsig_thread(void)
{
    static _Atomic u64 threads;
    if (!self.number) self.number = ++threads;
    return self.number;
}

/* A timer that signals this thread: made at its first run. */
static int make_rekick(void)
{
    if (self.rekick) return 0;
    int err = hosttimer_new(&self.rekick, hostsig_kick_signo(), (pid_t)syscall(SYS_gettid));
    if (err) return err;
    err = pthread_setspecific(at_exit, &self);
    if (err) thread_ends(NULL);
    return -err;
}

int hostsig_attach(const struct hostsig_cpu *c)
{
    int err = make_rekick();
    if (err) return err;
    let_in(&self.before);
    self.run.xl = c->xl;
    self.run.window = c->window;
    self.run.window_span = c->window_span;
    self.run.leave = c->leave;
    self.forward_tid = 0;                    /* set, if a bug's handler has left a run for good */
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the handler looks at cpu first */
    self.run.cpu = c->cpu;
    return 0;
}

void hostsig_detach(void)
{
    self.run.cpu = NULL;
    if (self.rekick_armed) hosttimer_set(self.rekick, 0);
    self.rekick_armed = false;
    pthread_sigmask(SIG_SETMASK, &self.before, NULL);
}

void hostsig_ack(struct cpu *c)
{
    c->kick = 0;
    if (!self.rekick_armed) return;
    self.rekick_armed = false;
    hosttimer_set(self.rekick, 0);
}

/* The signal is taken without its handler, whose frame and repeating timer were most of what an idle guest cost. Two
 * calls to block it meanwhile are saved as well: Linux gives a signal to who waits for it, blocked or not. One that
 * comes before that, or where a host does otherwise, has its handler run, which sees to it that another one comes. */
void hostsig_sleep(void)
{
    struct cpu *c = self.run.cpu;
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, hostsig_kick_signo());
    self.sleeps = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the handler looks at it */
    if (!c->kick && sigwaitinfo(&kick, NULL) > 0) c->kick = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self.sleeps = false;
}

/* The signal's number never changes while there is a thread to send it to: a kick may come in between. */
void hostsig_forward(int tid, int signo)
{
    self.forward_tid = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self.forward_signo = signo;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self.forward_tid = tid;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

u64 hostsig_fault_addr(bool *write)
{
    *write = self.fault_write;
    return self.fault_addr;
}
