/* Host signals, decided here alone: a fault in translated code is the guest's, a kick is for the dispatcher, and
 * anything else is our own mistake and left to the default action. */
#ifndef RUNTIME_HOSTSIG_H
#define RUNTIME_HOSTSIG_H
#include "core/cpu.h"
struct xl;

/* The signal that kicks a vCPU thread. */
int hostsig_kick_signo(void);
/* Installs the process-wide handlers, once. Returns 0 or -errno. */
MUST_CHECK int hostsig_install(void);
/* A number of the calling thread that no other thread of this process ever has. */
u64 hostsig_thread(void);
/* The calling thread runs this CPU from now on. What that needs of the host is made once for each thread, and goes with
 * it. Returns 0 or -errno (of hosttimer_new()). */
struct hostsig_cpu {
    struct cpu *cpu;
    struct xl *xl;           /* NULL: nothing is translated */
    volatile u8 *leave;      /* set to 1 by a kick, beside cpu->kick: what a host's KVM looks at; or NULL */
    u64 window, window_span; /* where windows are: host address and bytes; span 0: there are none */
};
MUST_CHECK int hostsig_attach(const struct hostsig_cpu *c);
void hostsig_detach(void);
/* From now on a kick of this thread is sent on to task tid as signal signo, as often as it comes; tid 0: no longer. For
 * a thread that waits for that task. A kick before the call is to be looked for in cpu->kick after it. */
void hostsig_forward(int tid, int signo);
/* The kick has been seen by the dispatcher: jump caches work again. */
void hostsig_ack(struct cpu *c);
/* Sleeps until there is a kick of this thread's CPU. */
void hostsig_sleep(void);
/* What a host fault costs, from the faulting instruction through the handler and back: measured once. */
u64 hostsig_fault_ns(void);
/* Host address that the last EXIT_FAULT was about, and whether it was a write. */
u64 hostsig_fault_addr(bool *write);
#endif
