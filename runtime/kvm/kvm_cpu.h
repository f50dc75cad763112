/* A machine's other half on /dev/kvm: one VM with one processor, which runs the guest in the place of our own code.
 * Interrupt controllers, timers and devices stay ours, and so do CPUID and the model-specific registers: what a guest
 * sees of them does not depend on the engine.
 *
 * The CPU's state is in one of two places. At home it is struct cpu, as with the other engines; away it is KVM's.
 * kvm_cpu_fetch() brings it home, kvm_cpu_send() puts it back. All calls are the vCPU thread's, or whoever's has the
 * machine while it does not run. */
#ifndef RUNTIME_KVM_CPU_H
#define RUNTIME_KVM_CPU_H
#include "core/cpu.h"
#include "runtime/mem/coherence.h"

#include <linux/kvm.h>

struct kvm_slot {
    paddr pa;
    u64 len, flags; /* len 0: free */
    const u8 *host;
    u8 *copy; /* of a ROM that does not begin with a host page; or NULL */
};
#define KVM_SLOTS 64u /* runs of contiguous memory that a PC has, with room to spare */

struct kvm_cpu {
    struct cpu *c;
    int dev, vm, fd; /* /dev/kvm, the machine, its processor; -1: not open */
    struct kvm_run *run;
    u64 run_len;
    bool home;       /* the state is in c */
    bool unfinished; /* the last exit's instruction is not done yet: KVM does the rest of it at the next entry */
    bool remapped;   /* memory is elsewhere than the slots say */
    bool has_sregs2, has_tsc_offset;
    bool tsc_known;
    u64 tsc_offset; /* as KVM has it, once tsc_known is set */
    struct kvm_slot slot[KVM_SLOTS];
    u64 *dirty; /* room for one slot's bits */
    struct coherence_listener listener;
};

/* Makes the machine, of c's model, without memory yet. Returns 0, or -errno with *what naming what failed; in either
 * case kvm_cpu_free() cleans up. */
MUST_CHECK int kvm_cpu_new(struct kvm_cpu *k, struct cpu *c, const char **what);
void kvm_cpu_free(struct kvm_cpu *k);

/* Enters the guest once. 0: run->exit_reason says why it came back; -EINTR: somebody wants the thread; other -errno. */
MUST_CHECK int kvm_cpu_enter(struct kvm_cpu *k);

/* The registers, both ways (kvm_state.c). 0 or -errno. There is nothing unfinished when the state is fetched. *vector:
 * an interrupt that has been acknowledged and not delivered, or -1; it is the caller's to deliver. */
MUST_CHECK int kvm_cpu_fetch(struct kvm_cpu *k, int *vector);
MUST_CHECK int kvm_cpu_send(struct kvm_cpu *k);
/* What of the MSRs that c has KVM must have, too: after c's WRMSR. 0 or -errno. */
MUST_CHECK int kvm_cpu_send_msrs(struct kvm_cpu *k);
MUST_CHECK int kvm_cpu_send_tsc(struct kvm_cpu *k); /* if c's offset is another than KVM's. 0 or -errno */

/* Memory (kvm_memory.c): makes the slots what the bus has, if that has changed; and notes in the dirty logs what the
 * guest has written. 0 or -errno. */
void kvm_memory_listen(struct kvm_cpu *k);
void kvm_memory_unlisten(struct kvm_cpu *k);
MUST_CHECK int kvm_memory_update(struct kvm_cpu *k);
MUST_CHECK int kvm_memory_dirty(struct kvm_cpu *k);
/* A write has come to us as if to a device: if it is to RAM, the slots are old. */
void kvm_memory_written(struct kvm_cpu *k, paddr pa);

#endif
