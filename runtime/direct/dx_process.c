/* Owns direct-execution processes: their first steps, their mappings, their registers, and why they stop.
 *
 *   I1  The runner is stopped whenever a function here returns, or dead.
 *   I2  Its system calls never reach the host's kernel: it is resumed by PTRACE_SYSEMU only, and its filter refuses the
 *       rest.
 *   I3  It is killed with its tracer (PTRACE_O_EXITKILL, PR_SET_PDEATHSIG), and so is the mapper (PR_SET_PDEATHSIG, and
 *       its socket).
 *   I4  A runner whose mappings are not what they should be does not run.    [dx_run]
 *   I5  Operations are written to the shared page, and the mapper runs, only while the runner is stopped.
 *       [dx_commit]
 *   I6  Somebody may stop or kill either of them at any moment, from the first: no wait here is for one that cannot go
 *       on, and both are buried, however far they came.    [settle, answered, dx_free]
 *
 * How they are made is dx_birth.c's; the other half is dx_stub_x64.S. */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "runtime/direct/dx_process.h"
#include "runtime/direct/dx_birth.h"
#include "runtime/direct/dx_layout.h"

#include <asm/ldt.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif
#define PTRACE_SET_THREAD_AREA_ 26

/* Selectors of every x86-64 Linux (arch/x86/include/asm/segment.h is its ABI: ptrace and core dumps show them). */
#define HOST_CS32 0x23
#define HOST_DS 0x2b
#define HOST_TLS_FIRST 12 /* index in the GDT of the first of three thread-local descriptors */
#define SEL_FS (HOST_TLS_FIRST * 8 + 3)
#define SEL_GS ((HOST_TLS_FIRST + 1) * 8 + 3)

extern const u8 dx_stub_begin[], dx_stub_ready[], dx_stub_popf[], dx_stub_flags[];

struct op {
    u64 nr, a, b, c, d, f;
};
_Static_assert(sizeof(struct op) == DX_OP_BYTES && DX_OPS + 8 + DX_OPS_MAX * DX_OP_BYTES <= DX_USER, "dx_layout.h");
struct list {
    u32 n, pad;
    struct op op[DX_OPS_MAX];
};

/* The x87 unit's pointers that the host gives without an exception: the instruction's, the operand's. */
struct fx_given {
    bool ip, dp;
};

struct dx {
    pid_t runner, mapper;
    int page_fd, socket; /* socket: our end */
    u8 *page;            /* our view of the shared page */
    struct list *list;
    int broken;                   /* -errno of the first mapping that failed; -ESRCH also: the mapper is gone */
    bool dead, reaped;            /* reaped: and its pid is no longer ours to signal */
    bool refused;                 /* the host knows no PTRACE_SYSEMU, or lets nobody have it */
    int cpu;                      /* where it is pinned; -1: nowhere yet */
    struct user_regs_struct base; /* what never changes of its registers */
    u64 round_trip_ns;
    struct dx_seg tls[2]; /* what the two descriptors hold */
    bool id;              /* its EFLAGS.ID */
    struct fx_given fx_given;
};

static u64 now_ms(void) { return host_ns(CLOCK_MONOTONIC) / 1000000; }

#define WHY DX_WHY

int dx_signo(void) { return SIGURG; } /* ignored by default, so a late one does no harm */
pid_t dx_tid(const struct dx *d) { return d->runner; }

/* Which pointers a process's state shows when no exception is pending: AMD's processors leave out all of them then, and
 * newer ones of Intel's the operand's. Asked of the host's, once. */
static struct fx_given fx_given_by_host(void)
{
    struct fxstate image = { 0 };
    static const u32 operand;
    __asm__ volatile("fninit; fildl %1; fxsave64 %0; fninit" : "+m"(image) : "m"(operand));
    return (struct fx_given){ .ip = image.fip != 0, .dp = image.fdp != 0 };
}

/* ---- making one ---- */

static void mark_dead(struct dx *d)
{
    d->dead = true;
    if (!d->broken) d->broken = -ESRCH;
}

/* Waits for the runner to stop. False: it is dead. */
static bool stopped(struct dx *d, int *status)
{
    if (!dx_wait(d->runner, status) && WIFSTOPPED(*status)) return true;
    d->reaped = true;
    mark_dead(d);
    return false;
}

static void bury_runner(struct dx *d)
{
    if (d->runner > 0 && !d->reaped) dx_bury(d->runner);
    d->reaped = true;
}

/* By how it ended. *err: -ESRCH if it was killed, else what is to be said of a refusal. */
static const char *birth_failure(int status, int *err)
{
    static const struct {
        int step;
        const char *why;
    } steps[] = {
        { DX_BORN_DUP, WHY "too few descriptors (RLIMIT_NOFILE, ulimit -n)" },
        { DX_BORN_DUP3, WHY "too few descriptors (RLIMIT_NOFILE, ulimit -n)" },
        { DX_BORN_CLOSE_RANGE, WHY "close_range is refused (it is of Linux 5.9)" },
        { DX_BORN_PRLIMIT, WHY "prlimit is refused" },
        { DX_BORN_PRCTL, WHY "prctl (PR_SET_PDEATHSIG) is refused" },
        { DX_BORN_TSC, WHY "prctl (PR_SET_TSC) is refused" },
        { DX_BORN_PTRACE, WHY "ptrace is refused" },
        { DX_BORN_EXEC, WHY "execveat of a memory file is refused" },
        { DX_STEP_MMAP, WHY "mmap of a memory file is refused" },
        { DX_STEP_CAPSET, WHY "capset is refused" },
        { DX_STEP_PRCTL, WHY "prctl is refused" },
        { DX_STEP_CLONE, WHY "clone is refused (RLIMIT_NPROC, ulimit -u?)" },
        { DX_STEP_MUNMAP, WHY "munmap is refused" },
        { DX_STEP_SIGPROCMASK, WHY "rt_sigprocmask is refused" },
        { DX_STEP_SECCOMP, WHY "seccomp filters are refused" },
    };
    for (size_t i = 0; WIFEXITED(status) && i < ARRAY_LEN(steps); i++) {
        if (WEXITSTATUS(status) != steps[i].step) continue;
        *err = -EPERM;
        return steps[i].why;
    }
    *err = -ESRCH;
    return WHY "somebody has killed its process";
}

/* Lets it go on, from its birth up to the stub's INT3, whatever signals somebody sends meanwhile. All but SIGKILL and
 * SIGSTOP are blocked up to the stub's last steps; SIGSTOP stops it for good where it is not traced yet. */
static int settle(struct dx *d, const char **why)
{
    const u64 ready = DX_PAGE + (u64)(dx_stub_ready - dx_stub_begin);
    int status = 0;
    for (;;) {
        if (!stopped(d, &status)) {
            int err;
            *why = birth_failure(status, &err);
            return err;
        }
        if (WSTOPSIG(status) == SIGTRAP && !ptrace(PTRACE_GETREGS, d->runner, NULL, &d->base) && d->base.rip == ready)
            break;
        if (ptrace(PTRACE_CONT, d->runner, NULL, NULL)) syscall(SYS_tgkill, d->runner, d->runner, SIGCONT);
    }
    d->base.orig_rax = ~0ull; /* no system call to restart */
    *why = WHY "ptrace (PTRACE_SETOPTIONS) is refused";
    return ptrace(PTRACE_SETOPTIONS, d->runner, NULL, (void *)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) ? -errno : 0;
}

/* Whether this host runs 32-bit code: the first instruction at 0, where nothing is, must fault there and then. 0,
 * -ENOTSUP, or -ESRCH; *why says which it is. */
static int try_32bit(struct dx *d, const char **why)
{
    *why = WHY "the host runs no 32-bit code";
    d->round_trip_ns = ~0ull;
    for (unsigned i = 0; i < 4;) {
        struct dx_regs r = { .null = { [S_FS] = true, [S_GS] = true }, .eflags = F_IF | F_FIXED };
        struct dx_stop stop;
        u64 begin = host_ns(CLOCK_MONOTONIC);
        dx_run(d, &r, &stop);
        u64 took = host_ns(CLOCK_MONOTONIC) - begin;
        if (stop.why == DX_DIED) {
            *why = d->refused ? WHY "PTRACE_SYSEMU is refused" : WHY "somebody has killed its process";
            return d->refused ? -ENOTSUP : -ESRCH;
        }
        if (stop.why == DX_KICKED) continue;
        if (stop.why != DX_FAULT || stop.addr || r.eip || r.changed) return -ENOTSUP;
        if (took < d->round_trip_ns) d->round_trip_ns = took;
        i++;
    }
    return 0;
}

/* The kernel has written it there before the mapper's first instruction, and before the end of a runner that is killed
 * in that call. */
static pid_t mapper_noted(const struct dx *d)
{
    u32 pid = 0;
    if (d->page != MAP_FAILED) memcpy(&pid, d->page + DX_MAPPER, sizeof pid);
    return (pid_t)pid;
}

int dx_new(struct dx **out, struct dx_maker *maker, int ram_fd, bool tsc_faults, const char **why)
{
    struct dx_born b;
    struct dx *d = calloc(1, sizeof *d);
    *why = WHY "out of memory";
    if (!d) return -ENOMEM;
    *d = (struct dx){ .page_fd = -1, .socket = -1, .page = MAP_FAILED, .cpu = -1, .fx_given = fx_given_by_host() };
    int err = dx_birth(&b, maker, ram_fd, tsc_faults, why);
    if (!err) {
        d->runner = b.pid;
        d->page_fd = b.page_fd;
        d->socket = b.socket;
        d->page = b.page;
        d->list = (struct list *)(d->page + DX_OPS);
        if ((err = settle(d, why))) bury_runner(d); /* before its stack goes */
        dx_birth_settled(&b);
    }
    if (!err) {
        d->mapper = mapper_noted(d);
        memset(d->page + DX_USER, 0, DX_MAPPER + sizeof(u32) - DX_USER); /* no business of guest code's */
        err = try_32bit(d, why);
    }
    if (err) {
        dx_free(d);
        return err;
    }
    *out = d;
    return 0;
}

void dx_free(struct dx *d)
{
    if (!d) return;
    bury_runner(d);
    if (!d->mapper) d->mapper = mapper_noted(d); /* the runner came no further than that */
    if (d->mapper > 0) dx_bury(d->mapper);
    if (d->page != MAP_FAILED) munmap(d->page, PAGE_SIZE);
    if (d->page_fd >= 0) close(d->page_fd);
    if (d->socket >= 0) close(d->socket);
    free(d);
}

void dx_pin(struct dx *d, int cpu)
{
    cpu_set_t set;
    if (cpu < 0 || cpu >= CPU_SETSIZE || cpu == d->cpu) return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    d->cpu = cpu; /* a host that refuses is not asked again and again */
    sched_setaffinity(d->runner, sizeof set, &set);
    sched_setaffinity(d->mapper, sizeof set, &set);
}

/* ---- mappings ---- */

static bool ask(struct dx *d)
{
    ssize_t r;
    do r = write(d->socket, "", 1); /* a socket of packets raises no SIGPIPE */
    while (r < 0 && errno == EINTR);
    return r == 1;
}

/* The mapper's answer. recvmsg() returns without one when the mapper is gone, after DX_DOUBT_MS, and at every signal of
 * ours.
 */
static bool answered(struct dx *d, u8 *answer)
{
    for (u64 first = now_ms();;) {
        struct iovec v = { answer, 1 };
        struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1 };
        ssize_t r = recvmsg(d->socket, &h, 0);
        if (r >= 0 || (errno != EINTR && errno != EAGAIN)) return r == 1;
        u64 waited = now_ms() - first;
        if (waited > DX_PATIENCE_MS || (waited >= DX_DOUBT_MS && dx_is_idle(d->mapper))) return false;
    }
}

int dx_commit(struct dx *d)
{
    u8 answer;
    if (d->broken || !d->list->n) return d->broken;
    if (!ask(d) || !answered(d, &answer)) d->broken = -ESRCH;
    else if (answer) d->broken = -ENOMEM;
    memset(d->list->op, 0, d->list->n * sizeof d->list->op[0]); /* where things are in guest RAM is not for its programs
                                                                   to read */
    d->list->n = 0;
    return d->broken;
}

unsigned dx_waiting(const struct dx *d) { return d->list->n; }
u64 dx_round_trip_ns(const struct dx *d) { return d->round_trip_ns; }

static void note(struct dx *d, struct op op)
{
    if (d->list->n == DX_OPS_MAX) (void)!dx_commit(d); /* a failure is remembered */
    if (!d->broken) d->list->op[d->list->n++] = op;
}

#define ADDRESS(page) ((u64)(page) << PAGE_SHIFT)

void dx_map(struct dx *d, u32 page, u32 n, int prot, u64 offset)
{
    note(d,
         (struct op){ SYS_mmap, ADDRESS(page), ADDRESS(n), (u64)prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, offset });
}

void dx_unmap(struct dx *d, u32 page, u32 n)
{
    note(d, (struct op){ .nr = SYS_munmap, .a = ADDRESS(page), .b = ADDRESS(n) });
}

void dx_protect(struct dx *d, u32 page, u32 n, int prot)
{
    note(d, (struct op){ .nr = SYS_mprotect, .a = ADDRESS(page), .b = ADDRESS(n), .c = (u64)prot });
}

/* ---- registers ---- */

/* FS and GS have a descriptor each, whose limit and rights the processor then checks as it would the guest's. */
static void set_tls(struct dx *d, unsigned i, const struct dx_seg *want)
{
    struct dx_seg *have = &d->tls[i];
    if (have->base == want->base && have->limit == want->limit && have->writable == want->writable) return;
    bool pages = want->limit > 0xfffff;
    struct user_desc desc = { .entry_number = HOST_TLS_FIRST + i,
                              .base_addr = want->base,
                              .limit = pages ? want->limit >> PAGE_SHIFT : want->limit,
                              .seg_32bit = 1,
                              .read_exec_only = !want->writable,
                              .limit_in_pages = pages,
                              .useable = 1 };
    if (ptrace(PTRACE_SET_THREAD_AREA_, d->runner, (void *)(u64)(HOST_TLS_FIRST + i), &desc)) mark_dead(d);
    *have = *want;
}

/* Sets EFLAGS.ID. Programs toggle that flag to see whether there is CPUID, and PTRACE_SETREGS leaves it as it is, so
 * the runner does it itself: POPFQ in the stub, of one of two images there, then a breakpoint. False: the process is
 * dead, or a signal has stopped it before it came that far. */
static bool set_id(struct dx *d, bool id)
{
    struct user_regs_struct u = d->base;
    int status;
    u.rip = DX_PAGE + (u64)(dx_stub_popf - dx_stub_begin);
    u.rsp = DX_PAGE + (u64)(dx_stub_flags - dx_stub_begin) + 8 * id;
    if (ptrace(PTRACE_SETREGS, d->runner, NULL, &u) || ptrace(PTRACE_SYSEMU, d->runner, NULL, NULL)
        || !stopped(d, &status) || ptrace(PTRACE_GETREGS, d->runner, NULL, &u)) {
        mark_dead(d);
        return false;
    }
    d->id = u.eflags & F_ID;
    return d->id == id && WSTOPSIG(status) == SIGTRAP;
}

static bool put_regs(struct dx *d, const struct dx_regs *r, struct user_regs_struct *u)
{
    *u = d->base;
    u->rax = r->gpr[G_EAX], u->rcx = r->gpr[G_ECX], u->rdx = r->gpr[G_EDX], u->rbx = r->gpr[G_EBX];
    u->rsp = r->gpr[G_ESP], u->rbp = r->gpr[G_EBP], u->rsi = r->gpr[G_ESI], u->rdi = r->gpr[G_EDI];
    u->r8 = u->r9 = u->r10 = u->r11 = u->r12 = u->r13 = u->r14 = u->r15 = 0;
    u->rip = r->eip;
    u->eflags = r->eflags;
    u->cs = HOST_CS32;
    u->ss = HOST_DS;
    u->ds = r->null[S_DS] ? 0 : HOST_DS;
    u->es = r->null[S_ES] ? 0 : HOST_DS;
    u->fs = u->gs = u->fs_base = u->gs_base = 0;
    if (!r->null[S_FS]) {
        set_tls(d, 0, &r->fs);
        u->fs = SEL_FS;
        u->fs_base = r->fs.base; /* where the kernel has FSGSBASE the selector alone does not load it */
    }
    if (!r->null[S_GS]) {
        set_tls(d, 1, &r->gs);
        u->gs = SEL_GS;
        u->gs_base = r->gs.base;
    }
    return !d->dead && !ptrace(PTRACE_SETREGS, d->runner, NULL, u);
}

/* A selector that differs from what went in was loaded by the code itself, from the host's tables. */
static void note_loads(struct dx_regs *r, const struct user_regs_struct *in, const struct user_regs_struct *out)
{
    const u64 pair[S_COUNT][2] = { [S_ES] = { in->es, out->es },
                                   [S_SS] = { in->ss, out->ss },
                                   [S_DS] = { in->ds, out->ds },
                                   [S_FS] = { in->fs, out->fs },
                                   [S_GS] = { in->gs, out->gs } };
    r->changed = 0;
    for (unsigned i = 0; i < S_COUNT; i++) {
        if (pair[i][0] == pair[i][1]) continue;
        r->changed |= (u8)(1u << i);
        r->loaded[i] = (u16)pair[i][1];
    }
}

static void get_regs(struct dx_regs *r, const struct user_regs_struct *u)
{
    r->gpr[G_EAX] = (u32)u->rax, r->gpr[G_ECX] = (u32)u->rcx, r->gpr[G_EDX] = (u32)u->rdx, r->gpr[G_EBX] = (u32)u->rbx;
    r->gpr[G_ESP] = (u32)u->rsp, r->gpr[G_EBP] = (u32)u->rbp, r->gpr[G_ESI] = (u32)u->rsi, r->gpr[G_EDI] = (u32)u->rdi;
    r->eip = (u32)u->rip;
    r->eflags = (u32)u->eflags;
}

/* What a signal that stopped it means. False: it was killed before that could be asked. */
static bool classify(struct dx *d, int signo, struct dx_stop *stop)
{
    siginfo_t si = { 0 };
    stop->why = DX_OTHER;
    switch (signo) {
    case SIGTRAP | 0x80: stop->why = DX_SYSCALL; return true;
    case SIGSEGV:
    case SIGTRAP:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGSYS: break;
    default: stop->why = DX_KICKED; return true;
    }
    if (ptrace(PTRACE_GETSIGINFO, d->runner, NULL, &si)) return false;
    if (si.si_code <= 0) stop->why = DX_KICKED; /* sent by somebody, whatever it says */
    else if (signo == SIGSYS)
        stop->why = DX_SYSCALL; /* the filter: nothing was executed, as with PTRACE_SYSEMU's stop */
    else if (signo == SIGSEGV && (si.si_code == SEGV_MAPERR || si.si_code == SEGV_ACCERR)) {
        stop->why = DX_FAULT;
        stop->addr = (u32)(u64)si.si_addr;
    } else if (signo == SIGSEGV && si.si_code == SEGV_PKUERR) {
        stop->why = DX_SEALED;
        stop->addr = (u32)(u64)si.si_addr;
    } else if (signo == SIGSEGV) {
        stop->placeless = true;
    } else if (signo == SIGTRAP) {
        stop->why = DX_TRAP;
        stop->step = si.si_code == TRAP_TRACE;
    }
    return true;
}

void dx_run(struct dx *d, struct dx_regs *regs, struct dx_stop *stop)
{
    struct user_regs_struct in, out;
    int status;
    *stop = (struct dx_stop){ .why = DX_DIED };
    regs->changed = 0;
    if (d->broken) return;
    if (!d->dead && d->id != !!(regs->eflags & F_ID) && !set_id(d, !d->id)) {
        stop->why = d->dead ? DX_DIED : DX_KICKED;
        return;
    }
    bool ready = !d->dead && put_regs(d, regs, &in);
    stop->ran = ready && !ptrace(PTRACE_SYSEMU, d->runner, NULL, NULL);
    if (ready && !stop->ran && errno != ESRCH) d->refused = true;
    if (!stop->ran || !stopped(d, &status) || ptrace(PTRACE_GETREGS, d->runner, NULL, &out)
        || !classify(d, WSTOPSIG(status), stop)) {
        mark_dead(d);
        stop->why = DX_DIED;
        return;
    }
    d->id = out.eflags & F_ID;
    get_regs(regs, &out);
    note_loads(regs, &in, &out);
    if (stop->why == DX_SYSCALL && WSTOPSIG(status) == (SIGTRAP | 0x80)) regs->gpr[G_EAX] = (u32)out.orig_rax;
    if (out.cs != HOST_CS32 || out.rip >> 32) stop->why = DX_ESCAPED;
}

/* FXSAVE's 64-bit format differs from the guest's in the x87 unit's pointers: offsets have 64 bits, and there are no
 * selectors. */
_Static_assert(sizeof(struct user_fpregs_struct) == sizeof(struct fxstate), "both are FXSAVE images");

/* Takes over what the host gives. Some that emulate a processor give nothing at all. */
static void get_pointers(const struct dx *d, const struct fxstate *image, struct fxstate *fx)
{
    bool pending = image->fsw & ~image->fcw & 0x3f && image->fip;
    if (pending || d->fx_given.ip) fx->fip = image->fip, fx->fop = image->fop & 0x7ff;
    if (pending || d->fx_given.dp) fx->fdp = image->fdp;
}

int dx_get_fx(struct dx *d, struct fxstate *fx)
{
    struct fxstate image;
    if (d->dead || ptrace(PTRACE_GETFPREGS, d->runner, NULL, &image)) {
        mark_dead(d);
        return -ESRCH;
    }
    get_pointers(d, &image, fx);
    image.mxcsr &= 0xffff; /* a jump into the middle of a swept instruction may have found an LDMXCSR */
    image.fop = fx->fop;
    image.fip = fx->fip, image.fcs = fx->fcs, image.rsvd2 = 0;
    image.fdp = fx->fdp, image.fds = fx->fds, image.rsvd3 = 0;
    memcpy(fx, &image, offsetof(struct fxstate, rest)); /* there the 64-bit image has XMM8 to 15 */
    return 0;
}

int dx_set_fx(struct dx *d, const struct fxstate *fx)
{
    struct fxstate image = *fx;
    memset(image.rest, 0, sizeof image.rest);
    image.mxcsr &= 0xffff;
    image.fcs = image.fds = image.rsvd2 = image.rsvd3 = 0;
    if (!d->dead && !ptrace(PTRACE_SETFPREGS, d->runner, NULL, &image)) return 0;
    mark_dead(d);
    return -ESRCH;
}
