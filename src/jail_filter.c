/* Owns the table's translation into filters, and the rules on arguments. Uses libseccomp; the filters are installed by
 * jail.c, thread by thread. */
#define _GNU_SOURCE
#include "src/jail_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif
#define PTRACE_SET_THREAD_AREA_ 26

enum {
    V = 1 << THREAD_VCPU,
    M = 1 << THREAD_MAIN,
    D = 1 << THREAD_DISK,
    B = 1 << THREAD_NBD, /* blocks of a server */
    S = 1 << THREAD_SERIAL,
    T = 1 << THREAD_TEXT,
    W = 1 << THREAD_VNC, /* watched from afar */
    N = 1 << THREAD_NET,
    P = 1 << THREAD_AUDIO, /* plays */
    F = 1 << THREAD_SHARE,
    R = 1 << THREAD_RNG
};

static const struct call {
    int nr;
    unsigned roles;
    const char *name;
} calls[] = {
#define CALL(name, roles) { SYS_##name, roles, #name },
#define REFUSED(name, err, why)
#include "src/jail.def"
#undef CALL
#undef REFUSED
};

static const struct {
    int nr, err;
} refused[] = {
#define CALL(name, roles)
#define REFUSED(name, err, why) { SYS_##name, err },
#include "src/jail.def"
#undef CALL
#undef REFUSED
};

unsigned jail_filter_calls(unsigned roles)
{
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) n += (calls[i].roles & roles) != 0;
    return n;
}

const char *jail_filter_name(int nr)
{
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (calls[i].nr == nr) return calls[i].name;
    return NULL;
}

/* ---- arguments ---- */

/* One rule for each value that argument n may have, with mask over it. */
static int one_of(scmp_filter_ctx f, int nr, unsigned n, u64 mask, const u64 *values, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, nr, 1, SCMP_CMP64(n, SCMP_CMP_MASKED_EQ, mask, values[i]));
    return rc;
}

/* Nothing becomes executable any more: all code is there, and the translator writes to it through another mapping. */
static int no_code(scmp_filter_ctx f, int nr)
{
    const u64 none = 0;
    return one_of(f, nr, 2, PROT_EXEC, &none, 1);
}

/* Threads of this process; and, of the vCPU thread's children, what ends, continues or interrupts one. */
static int whom_to_signal(scmp_filter_ctx f, enum thread_role role)
{
    static const int others[] = { SIGKILL, SIGCONT, SIGURG };
    int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SYS_tgkill, 1, SCMP_CMP64(0, SCMP_CMP_EQ, (u64)getpid(), 0));
    if (role != THREAD_VCPU && role != THREAD_MAIN) return rc;
    for (size_t i = 0; i < ARRAY_LEN(others) && !rc; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SYS_tgkill, 1, SCMP_CMP64(2, SCMP_CMP_EQ, (u64)others[i], 0));
    return rc;
}

/* What a terminal is asked for, and how libraries ask whether a socket has something. No TIOCSTI, no interfaces. */
static int which_ioctl(scmp_filter_ctx f)
{
    static const u64 requests[] = { TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO };
    return one_of(f, SYS_ioctl, 1, UINT32_MAX, requests, ARRAY_LEN(requests));
}

/* What a tracer does with its own child; nobody is attached to, and no memory is read or written. */
static int which_ptrace(scmp_filter_ctx f)
{
    static const u64 requests[] = { PTRACE_CONT,      PTRACE_SYSEMU,    PTRACE_GETREGS,          PTRACE_SETREGS,
                                    PTRACE_GETFPREGS, PTRACE_SETFPREGS, PTRACE_SET_THREAD_AREA_, PTRACE_SETOPTIONS,
                                    PTRACE_GETSIGINFO };
    return one_of(f, SYS_ptrace, 0, UINT64_MAX, requests, ARRAY_LEN(requests));
}

/* A thread, as pthread_create() makes it; no process. */
static int only_threads(scmp_filter_ctx f)
{
    const u64 thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS
                       | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    return one_of(f, SYS_clone, 0, UINT64_MAX, &thread, 1);
}

/* runtime/run/hosttimer.c does with another kind where this one is refused. */
static int the_timer(scmp_filter_ctx f)
{
    struct sigevent nobody = { .sigev_notify = SIGEV_NONE };
    timer_t timer;
    bool refused = timer_create(CLOCK_MONOTONIC, &nobody, &timer);
    if (!refused) timer_delete(timer);
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, refused ? SYS_timerfd_settime : SYS_timer_settime, 0);
}

static int allow(scmp_filter_ctx f, int nr, enum thread_role role)
{
    switch (nr) {
    case SYS_mmap:
    case SYS_mprotect: return no_code(f, nr);
    case SYS_tgkill: return whom_to_signal(f, role);
    case SYS_ioctl: return which_ioctl(f);
    case SYS_ptrace: return which_ptrace(f);
    case SYS_clone: return only_threads(f);
    case SYS_timer_settime: return the_timer(f);
    }
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, nr, 0);
}

/* ---- programs ---- */

#define PROGRAM_MAX 32768u /* bytes: less than a pipe holds */

/* libseccomp 2.5 gives a program to a file only. */
static int program_take(struct jail_filter *out, scmp_filter_ctx f)
{
    int ends[2], rc = pipe2(ends, O_CLOEXEC | O_NONBLOCK) ? -errno : 0;
    if (rc) return rc;
    rc = seccomp_export_bpf(f, ends[1]);
    if (!rc && !(out->code = malloc(PROGRAM_MAX))) rc = -ENOMEM;
    ssize_t n = rc ? 0 : read(ends[0], out->code, PROGRAM_MAX);
    if (!rc && (n <= 0 || n == PROGRAM_MAX)) rc = -EIO;
    if (!rc) out->n = (unsigned short)((size_t)n / sizeof *out->code);
    close(ends[0]);
    close(ends[1]);
    return rc;
}

int jail_filter_make(struct jail_filter *out, enum thread_role role)
{
    *out = (struct jail_filter){ 0 };
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);
    if (!f) return -ENOMEM;
    int rc = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
    if (!rc) rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search, not a list */
    for (size_t i = 0; i < ARRAY_LEN(refused) && !rc; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO((u32)refused[i].err), refused[i].nr, 0);
    for (size_t i = 0; i < ARRAY_LEN(calls) && !rc; i++)
        if (calls[i].roles & 1u << role) rc = allow(f, calls[i].nr, role);
    if (!rc) rc = program_take(out, f);
    if (rc) {
        free(out->code);
        *out = (struct jail_filter){ 0 };
    }
    seccomp_release(f);
    return rc;
}
