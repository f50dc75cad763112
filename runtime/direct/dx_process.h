/* A direct-execution process: holds the user pages of one guest address space at their own addresses, and runs 32-bit
 * code in them until something stops it. Knows nothing of guests: what is mapped, what registers are, why it stopped.
 *
 * Everything in the process is hostile once it has run; nothing is taken from it but registers. It makes no system call
 * (its own come here instead), holds no descriptor, and dies with the calling thread, which is its tracer: all
 * functions are for the thread that called dx_new(). */
#ifndef RUNTIME_DX_PROCESS_H
#define RUNTIME_DX_PROCESS_H
#include "core/cpu.h"

#include <sys/types.h>

struct dx;
struct dx_maker;

/* maker: who makes it (dx_birth.h); NULL: the calling thread. ram_fd: the file that dx_map() maps from. tsc_faults:
 * RDTSC stops it (DX_OTHER), for the guest's counter is not the host's. Returns 0 or -errno, and *why a text: -ENOTSUP
 * if this host's processor or kernel does not run 32-bit code, -ESRCH: somebody killed it; else what the host refused.
 */
MUST_CHECK int dx_new(struct dx **out, struct dx_maker *maker, int ram_fd, bool tsc_faults, const char **why);
void dx_free(struct dx *d); /* kills it; copes with NULL */

/* Mappings, in pages from linear 0. They are noted, and made by dx_commit(), or when there are too many. prot: PROT_*.
 * Once one has failed the process is of no more use: dx_commit() says so. */
void dx_map(struct dx *d, u32 page, u32 n, int prot, u64 offset);
void dx_unmap(struct dx *d, u32 page, u32 n);
void dx_protect(struct dx *d, u32 page, u32 n, int prot);
MUST_CHECK int dx_commit(struct dx *d);  /* 0, or -errno of a mapping or -ESRCH: the process is gone */
unsigned dx_waiting(const struct dx *d); /* how many wait for dx_commit() */

/* The part of a register file that 32-bit code has. base and limit matter for FS and GS only. */
struct dx_seg {
    u16 sel;
    u32 base, limit;
    bool writable;
};
struct dx_regs {
    u32 gpr[8];
    u32 eip, eflags;
    bool null[S_COUNT];   /* in: DS, ES, FS, GS hold a null selector. out: as it went in */
    struct dx_seg fs, gs; /* in: what a non-null FS or GS addresses: 32-bit data */
    u16 loaded[S_COUNT];  /* out: a selector that the code has loaded itself, where changed has the bit */
    u8 changed;           /* out: 1 << enum segreg */
};

enum dx_why {
    DX_KICKED,  /* dx_kick(), or a signal that somebody sent to it */
    DX_SYSCALL, /* INT 80h, SYSENTER or SYSCALL was executed: EIP is behind it (behind SYSENTER: unknown) */
    DX_FAULT,   /* page fault: addr is the linear address */
    DX_SEALED,  /* access to addr, whose page has PROT_EXEC alone, or which the code has forbidden itself by WRPKRU */
    DX_TRAP,    /* #DB or #BP: EIP is as the processor pushes it. step: after a single step */
    DX_OTHER,   /* another exception of the instruction at EIP; placeless: or #OF, of the one before */
    DX_ESCAPED, /* it has left 32-bit code, or what it may access: registers are truncated, and no exception of the
                 * guest's will do justice to it */
    DX_DIED,    /* the process is gone: regs are unchanged, and if it ran at all, what they have become since is lost */
};
struct dx_stop {
    enum dx_why why;
    u32 addr;
    bool step, placeless, ran;
};

/* Runs until a stop; DX_DIED at once if a mapping has failed. */
void dx_run(struct dx *d, struct dx_regs *regs, struct dx_stop *stop);
/* Another thread's or a signal handler's way to stop it: send dx_signo() to this task. */
pid_t dx_tid(const struct dx *d);
int dx_signo(void);
/* The x87/SSE state. 0, or -errno if the process is gone. Of the x87 unit's pointers dx_get_fx() leaves in *fx what was
 * there wherever the host does not give them: selectors always, and all of them where no exception is pending, on some
 * hosts. */
MUST_CHECK int dx_get_fx(struct dx *d, struct fxstate *fx);
MUST_CHECK int dx_set_fx(struct dx *d, const struct fxstate *fx);
/* What a run costs that stops at once, as measured when it was made. */
u64 dx_round_trip_ns(const struct dx *d);
/* Moves it to a processor, where it stays. */
void dx_pin(struct dx *d, int cpu);
#endif
