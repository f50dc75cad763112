/* Owns the translation between struct cpu_arch and KVM's structures, both ways.
 *
 *   I1  A hidden part of a segment register that KVM gives back as it got it stays what it was, bit by bit: what the
 *       processor does not tell apart is not changed by having been away. [seg_fetch]
 * NOT-HW: FCS and FDS are not kept by hosts' kernels: they are 0 after a guest has used x87 instructions there. */
#define _GNU_SOURCE
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/kvm/kvm_cpu.h"
#include "runtime/mem/mmu.h"
#include "runtime/mem/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_PAT = 0x277,
};
enum { TYPE_TSS_BUSY = 11, TYPE_LDT = 2, MSRS_MAX = 8 };

union msrs {
    struct kvm_msrs head; /* its entries follow it */
    u8 room[sizeof(struct kvm_msrs) + MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

static int ask(const struct kvm_cpu *k, unsigned long request, void *arg)
{
    return ioctl(k->fd, request, arg) < 0 ? -errno : 0;
}

/* ---- segments ---- */

static struct kvm_segment seg_of(const struct seg *s)
{
    return (struct kvm_segment){ .base = s->base,
                                 .limit = s->limit,
                                 .selector = s->sel,
                                 .type = s->attr & SEG_TYPE,
                                 .present = (s->attr & SEG_P) != 0,
                                 .dpl = (u8)((s->attr & SEG_DPL) >> SEG_DPL_SHIFT),
                                 .db = (s->attr & SEG_D) != 0,
                                 .s = (s->attr & SEG_S) != 0,
                                 .g = (s->attr & SEG_G) != 0,
                                 .avl = (s->attr & SEG_AVL) != 0,
                                 .unusable = (s->attr & SEG_UNUSABLE) != 0 };
}

/* SS has the privilege level, a null one as well; virtual-8086 mode's segments are all alike. */
static struct kvm_segment data_of(const struct cpu *c, enum segreg r)
{
    struct kvm_segment k = seg_of(&c->seg[r]);
    if (c->eflags_sys & F_VM) k.type = 3, k.s = k.present = 1, k.dpl = 3, k.limit = 0xffff, k.db = k.g = 0;
    if (r == S_SS) k.dpl = c->cpl;
    return k;
}

/* Hardware wants a task register that is a busy task, whatever the guest has done so far. */
static struct kvm_segment task_of(const struct seg *s)
{
    struct kvm_segment k = seg_of(s);
    if (k.unusable || !k.present) k = (struct kvm_segment){ .limit = 0xffff, .selector = s->sel, .present = 1 };
    if (k.type != 3) k.type = TYPE_TSS_BUSY;
    k.unusable = 0;
    return k;
}

static struct kvm_segment ldt_of(const struct seg *s)
{
    struct kvm_segment k = seg_of(s);
    if (!k.present) k.unusable = 1;
    if (!k.unusable) k.type = TYPE_LDT;
    return k;
}

static bool seg_same(const struct kvm_segment *a, const struct kvm_segment *b)
{
    if (a->selector != b->selector) return false;
    if (a->unusable && b->unusable) return true;
    return a->base == b->base && a->limit == b->limit && a->type == b->type && a->dpl == b->dpl && a->db == b->db
           && a->s == b->s && a->g == b->g && a->avl == b->avl && a->present == b->present
           && a->unusable == b->unusable;
}

/* was: what KVM has been given for *s. */
static void seg_fetch(struct seg *s, const struct kvm_segment *now, const struct kvm_segment *was)
{
    if (seg_same(now, was)) return;
    if (now->unusable) {
        *s = (struct seg){ .sel = now->selector, .attr = SEG_UNUSABLE };
        return;
    }
    *s = (struct seg){ .sel = now->selector,
                       .base = (u32)now->base,
                       .limit = now->limit,
                       .attr = now->type | (now->s ? SEG_S : 0u) | (u32)now->dpl << SEG_DPL_SHIFT
                               | (now->present ? SEG_P : 0u) | (now->avl ? SEG_AVL : 0u) | (now->db ? SEG_D : 0u)
                               | (now->g ? SEG_G : 0u) };
}

/* ---- control registers and segments ---- */

/* KVM's two structures differ in their ends alone. */
#define SREGS_FROM(s, c)                                                                    \
    do {                                                                                    \
        (s)->cs = data_of(c, S_CS), (s)->ds = data_of(c, S_DS), (s)->es = data_of(c, S_ES); \
        (s)->fs = data_of(c, S_FS), (s)->gs = data_of(c, S_GS), (s)->ss = data_of(c, S_SS); \
        (s)->tr = task_of(&(c)->tr), (s)->ldt = ldt_of(&(c)->ldtr);                         \
        (s)->gdt.base = (c)->gdtr.base, (s)->gdt.limit = (u16)(c)->gdtr.limit;              \
        (s)->idt.base = (c)->idtr.base, (s)->idt.limit = (u16)(c)->idtr.limit;              \
        (s)->cr0 = (c)->cr0, (s)->cr2 = (c)->cr2, (s)->cr3 = (c)->cr3, (s)->cr4 = (c)->cr4; \
        (s)->cr8 = 0, (s)->efer = (c)->efer, (s)->apic_base = (c)->apic_base;               \
    } while (0)

static bool pae_paging(const struct cpu *c) { return c->cr0 & CR0_PG && c->cr4 & CR4_PAE; }

/* Intel's processors enter a guest with a busy task alone. AMD's do not ask; KVM shows their task as busy in any case.
 * QEMU's emulated SVM ends QEMU at the next change of ring through a task that is busy ("invalid tss type"). */
static void task_as_kept(struct kvm_segment *tr)
{
    if (__builtin_cpu_is("amd")) tr->type &= (u8)~2;
}

static int sregs_send(struct kvm_cpu *k)
{
    struct cpu *c = k->c;
    if (!k->has_sregs2) {
        struct kvm_sregs s = { .cr8 = 0 };
        SREGS_FROM(&s, c);
        task_as_kept(&s.tr);
        return ask(k, KVM_SET_SREGS, &s);
    }
    struct kvm_sregs2 s = { .cr8 = 0 };
    SREGS_FROM(&s, c);
    task_as_kept(&s.tr);
    if (pae_paging(c)) {
        s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        for (unsigned i = 0; i < 4; i++) s.pdptrs[i] = c->pdpte[i];
    }
    return ask(k, KVM_SET_SREGS2, &s);
}

static int sregs_fetch(struct kvm_cpu *k)
{
    struct cpu *c = k->c;
    struct kvm_sregs now, was;
    int rc = ask(k, KVM_GET_SREGS, &now);
    if (rc) return rc;
    SREGS_FROM(&was, c);
    struct kvm_segment *const from[S_COUNT] = {
        [S_ES] = &now.es, [S_CS] = &now.cs, [S_SS] = &now.ss, [S_DS] = &now.ds, [S_FS] = &now.fs, [S_GS] = &now.gs
    };
    const struct kvm_segment *const before[S_COUNT] = {
        [S_ES] = &was.es, [S_CS] = &was.cs, [S_SS] = &was.ss, [S_DS] = &was.ds, [S_FS] = &was.fs, [S_GS] = &was.gs
    };
    for (unsigned i = 0; i < S_COUNT; i++) seg_fetch(&c->seg[i], from[i], before[i]);
    seg_fetch(&c->tr, &now.tr, &was.tr);
    seg_fetch(&c->ldtr, &now.ldt, &was.ldt);
    c->gdtr = (struct table_reg){ (u32)now.gdt.base, now.gdt.limit };
    c->idtr = (struct table_reg){ (u32)now.idt.base, now.idt.limit };
    c->cr0 = (u32)now.cr0, c->cr2 = (u32)now.cr2, c->cr3 = (u32)now.cr3, c->cr4 = (u32)now.cr4;
    c->efer = now.efer & EFER_NXE;
    c->cpl = now.ss.dpl & 3;
    if (!pae_paging(c)) return 0;
    struct kvm_sregs2 more;
    if (k->has_sregs2 && !(rc = ask(k, KVM_GET_SREGS2, &more)) && more.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        for (unsigned i = 0; i < 4; i++) c->pdpte[i] = more.pdptrs[i];
    else if (!rc && cpu_read_pdptes(c, c->cr3, c->pdpte)) c->exc.valid = false; /* as the processor had them */
    return rc;
}

/* ---- general registers, x87 and SSE, debug registers ---- */

static int regs_send(struct kvm_cpu *k)
{
    const struct cpu *c = k->c;
    struct kvm_regs r = { .rax = c->gpr[G_EAX],
                          .rcx = c->gpr[G_ECX],
                          .rdx = c->gpr[G_EDX],
                          .rbx = c->gpr[G_EBX],
                          .rsp = c->gpr[G_ESP],
                          .rbp = c->gpr[G_EBP],
                          .rsi = c->gpr[G_ESI],
                          .rdi = c->gpr[G_EDI],
                          .rip = c->eip,
                          .rflags = cpu_eflags(c) };
    return ask(k, KVM_SET_REGS, &r);
}

static int regs_fetch(struct kvm_cpu *k)
{
    struct cpu *c = k->c;
    struct kvm_regs r;
    int rc = ask(k, KVM_GET_REGS, &r);
    if (rc) return rc;
    const u64 gpr[8] = { [G_EAX] = r.rax, [G_ECX] = r.rcx, [G_EDX] = r.rdx, [G_EBX] = r.rbx,
                         [G_ESP] = r.rsp, [G_EBP] = r.rbp, [G_ESI] = r.rsi, [G_EDI] = r.rdi };
    for (unsigned i = 0; i < 8; i++) c->gpr[i] = (u32)gpr[i];
    c->eip = (u32)r.rip;
    cpu_set_eflags(c, (u32)r.rflags);
    c->eflags_sys &= c->eflags_known;
    return 0;
}

/* XSAVE's area begins with FXSAVE's, as 64-bit code has it: 64-bit pointers in the place of offsets and selectors.
 * Bytes 512 to 519 say which parts are there at all; KVM_SET_FPU does not set them, and what it sets is then lost. */
enum { XSAVE_PARTS = 512 / sizeof(u32), PARTS_X87_SSE = 3 };

static int fpu_send(struct kvm_cpu *k)
{
    struct kvm_xsave x = { .region[XSAVE_PARTS] = PARTS_X87_SSE };
    struct fxstate fx = k->c->fx;
    fx.fcs = fx.fds = fx.rsvd2 = fx.rsvd3 = 0;
    fx.mxcsr_mask = 0;
    memset(fx.rest, 0, sizeof fx.rest);
    memcpy(x.region, &fx, sizeof fx);
    return ask(k, KVM_SET_XSAVE, &x);
}

static int fpu_fetch(struct kvm_cpu *k)
{
    struct cpu *c = k->c;
    struct kvm_xsave x;
    struct fxstate fx;
    int rc = ask(k, KVM_GET_XSAVE, &x);
    if (rc) return rc;
    memcpy(&fx, x.region, sizeof fx);
    fx.fcs = fx.fip == c->fx.fip ? c->fx.fcs : 0;
    fx.fds = fx.fdp == c->fx.fdp ? c->fx.fds : 0;
    c->fx = fx;
    c->fx_version++;
    return 0;
}

static int debug_send(struct kvm_cpu *k)
{
    struct kvm_debugregs d = { .dr6 = k->c->dr[6], .dr7 = k->c->dr[7] };
    for (unsigned i = 0; i < 4; i++) d.db[i] = k->c->dr[i];
    return ask(k, KVM_SET_DEBUGREGS, &d);
}

static int debug_fetch(struct kvm_cpu *k)
{
    struct kvm_debugregs d;
    int rc = ask(k, KVM_GET_DEBUGREGS, &d);
    if (rc) return rc;
    for (unsigned i = 0; i < 4; i++) k->c->dr[i] = (u32)d.db[i];
    k->c->dr[6] = (u32)d.dr6;
    k->c->dr[7] = (u32)d.dr7;
    return 0;
}

/* ---- model-specific registers: ours to answer, the processor's to obey ---- */

static int msrs_set(struct kvm_cpu *k, union msrs *m)
{
    int n = ioctl(k->fd, KVM_SET_MSRS, m);
    if (n < 0) return -errno;
    return n == (int)m->head.nmsrs ? 0 : -EINVAL;
}

static void msr_add(union msrs *m, u32 index, u64 data)
{
    m->head.entries[m->head.nmsrs++] = (struct kvm_msr_entry){ .index = index, .data = data };
}

int kvm_cpu_send_msrs(struct kvm_cpu *k)
{
    const struct cpu *c = k->c;
    union msrs m = { .room = { 0 } };
    struct kvm_sregs s;
    if (model_edx(c->model) & CPUID_PAT) msr_add(&m, MSR_PAT, c->pat);
    if (k->home && model_edx(c->model) & CPUID_SEP) { /* away they are the processor's: ours are old */
        msr_add(&m, MSR_SYSENTER_CS, c->sysenter_cs);
        msr_add(&m, MSR_SYSENTER_ESP, c->sysenter_esp);
        msr_add(&m, MSR_SYSENTER_EIP, c->sysenter_eip);
    }
    int rc = m.head.nmsrs ? msrs_set(k, &m) : 0;
    if (rc || k->home) return rc; /* the rest comes with the other registers */
    if ((rc = ask(k, KVM_GET_SREGS, &s))) return rc;
    if (s.efer == c->efer && s.apic_base == c->apic_base) return 0;
    s.efer = c->efer, s.apic_base = c->apic_base;
    task_as_kept(&s.tr);
    return ask(k, KVM_SET_SREGS, &s);
}

static int sysenter_fetch(struct kvm_cpu *k)
{
    struct cpu *c = k->c;
    union msrs m = { .room = { 0 } };
    if (!(model_edx(c->model) & CPUID_SEP)) return 0;
    msr_add(&m, MSR_SYSENTER_CS, 0);
    msr_add(&m, MSR_SYSENTER_ESP, 0);
    msr_add(&m, MSR_SYSENTER_EIP, 0);
    int n = ioctl(k->fd, KVM_GET_MSRS, &m);
    if (n != 3) return n < 0 ? -errno : -EINVAL;
    c->sysenter_cs = (u32)m.head.entries[0].data;
    c->sysenter_esp = (u32)m.head.entries[1].data;
    c->sysenter_eip = (u32)m.head.entries[2].data;
    return 0;
}

/* Before Linux 5.16 only the counter's value can be set, and KVM takes values that come one after another for attempts
 * to synchronize processors: good to a microsecond or so. */
int kvm_cpu_send_tsc(struct kvm_cpu *k)
{
    u64 offset = k->c->tsc_offset;
    if (k->tsc_known && offset == k->tsc_offset) return 0;
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)&offset };
    union msrs m = { .room = { 0 } };
    msr_add(&m, MSR_TSC, __builtin_ia32_rdtsc() + offset);
    int rc = k->has_tsc_offset ? ask(k, KVM_SET_DEVICE_ATTR, &attr) : msrs_set(k, &m);
    if (!rc) k->tsc_offset = offset, k->tsc_known = true;
    return rc;
}

/* ---- what is pending ---- */

static int events_send(struct kvm_cpu *k)
{
    const struct cpu *c = k->c;
    static const u8 shadow[] = {
        [SHADOW_STI] = KVM_X86_SHADOW_INT_STI,
        [SHADOW_SS] = KVM_X86_SHADOW_INT_MOV_SS,
    };
    struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
                                 .interrupt.shadow = shadow[c->intr_shadow],
                                 .nmi.masked = c->nmi_blocked };
    return ask(k, KVM_SET_VCPU_EVENTS, &e);
}

static int events_fetch(struct kvm_cpu *k, int *vector)
{
    struct cpu *c = k->c;
    struct kvm_vcpu_events e;
    int rc = ask(k, KVM_GET_VCPU_EVENTS, &e);
    *vector = -1;
    if (rc) return rc;
    if (e.exception.injected)
        c->exc = (struct pending_exc){ .valid = true,
                                       .vector = e.exception.nr,
                                       .has_error = e.exception.has_error_code,
                                       .error = e.exception.has_error_code ? e.exception.error_code : 0 };
    if (e.interrupt.injected && !e.interrupt.soft) *vector = e.interrupt.nr;
    c->nmi_pending |= e.nmi.injected || e.nmi.pending;
    c->nmi_blocked = e.nmi.masked && !e.nmi.injected;
    bool ss = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS, sti = e.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
    c->intr_shadow = sti ? SHADOW_STI : ss ? SHADOW_SS : SHADOW_NONE; /* AMD's do not say which: both */
    return 0;
}

/* ---- the whole ---- */

int kvm_cpu_fetch(struct kvm_cpu *k, int *vector)
{
    struct cpu *c = k->c;
    int rc;
    *vector = -1;
    if (k->home) return 0;
    BUG_ON(k->unfinished);
    if ((rc = sregs_fetch(k)) || (rc = regs_fetch(k)) || (rc = fpu_fetch(k)) || (rc = debug_fetch(k))
        || (rc = sysenter_fetch(k)) || (rc = events_fetch(k, vector)))
        return rc;
    k->home = true;
    cpu_update_irq(c);
    cpu_update_mode(c);
    tlb_flush_all(c); /* what the guest has changed and flushed meanwhile nobody has seen */
    watch_update(c);
    return 0;
}

int kvm_cpu_send(struct kvm_cpu *k)
{
    int rc;
    if (!k->home) return 0;
    if ((rc = sregs_send(k)) || (rc = regs_send(k)) || (rc = fpu_send(k)) || (rc = kvm_cpu_send_msrs(k))
        || (rc = debug_send(k)) || (rc = events_send(k)))
        return rc;
    k->c->nmi_blocked = false; /* KVM's to know from here on */
    k->home = false;
    return 0;
}
