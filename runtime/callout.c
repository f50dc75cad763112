/* Bodies of the C functions that enter_x64.S calls for translated code. They run while the guest's x87/SSE state is in the
 * host's registers: this file and what it calls are compiled without floating-point registers. */
#include "runtime/mmu.h"

u64 callout_tlb(struct cpu *c, laddr la, u32 desc);
int callout_fpu(struct cpu *c, u32 sse);

/* A soft-TLB miss: the addend of la's page, or 0 if the access is not plain RAM within one page (or faults): the
 * interpreter then does the whole instruction. */
u64 callout_tlb(struct cpu *c, laddr la, u32 desc)
{
    u32 size = desc & 0xff;
    enum tlb_kind kind = (enum tlb_kind)(desc >> 8);
    if ((la & ~PAGE_MASK) + size > PAGE_SIZE) return 0;
    u64 *entry = &cpu_tlb(c, kind)[la >> PAGE_SHIFT];
    if (*entry) return *entry; /* misaligned, but within its page */
    bool fault = false;
    u8 *host = tlb_fill(c, la, kind == TLB_SUP_W || kind == TLB_USER_W ? ACC_W : ACC_R, kind >= TLB_USER_R, &fault);
    if (fault) c->exc.valid = false; /* raised again, at the right place, by the interpreter */
    return host ? (u64)host - la : 0;
}

/* Whether x87/SSE instructions may run on the host's registers now: not with CR0.TS or EM, nor SSE without CR4.OSFXSR.
 * fpu_hot becomes 2 when the state must be loaded, which the stub does. */
int callout_fpu(struct cpu *c, u32 sse)
{
    if (c->cr0 & (CR0_TS | CR0_EM)) return 0;
    if (sse && !(c->cr4 & CR4_OSFXSR)) return 0;
    if (!c->fpu_hot) c->fpu_hot = 2;
    c->sse_hot = (c->cr4 & CR4_OSFXSR) != 0;
    return 1;
}
