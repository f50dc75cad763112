/* Bodies of the C functions that enter_x64.S calls for translated code. They run while the guest's x87/SSE state is in
 * the host's registers. The stubs keep XMM0-7 over them, so that what they call may copy with SSE; x87 and MMX
 * registers and floating-point arithmetic (the guest's MXCSR is in force) are for none of it. */
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/far.h"
#include "runtime/cpu/msr.h"
#include "runtime/cpu/seg.h"
#include "runtime/mem/mmu.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/tables.h"
#include "runtime/mem/watch.h"
#include "runtime/run/count.h"
#include "runtime/run/rt.h"
#include "runtime/run/x87.h"

u64 callout_tlb(struct cpu *c, laddr la, u64 desc);
int callout_fpu(struct cpu *c, u32 sse);

/* In a page that a breakpoint watches: most of it does not concern that, but nothing is cached. */
static u64 watched_access(struct cpu *c, laddr la, unsigned size, bool write, bool user)
{
    paddr pa;
    if (watch_hits(c, la, size, write) || !mmu_try(c, la, write ? ACC_W : ACC_R, user, &pa)) return 0;
    u8 *host = bus_ram_ptr(c->bus, pa);
    if (!host || (write && *bus_page_flags(c->bus, pa) & PG_ANNOUNCED)) return 0;
    c->ctr.watched++;
    return (u64)host - la;
}

/* A fault is raised again, at the right place, by the interpreter; unless that finds another one first. */
static u8 *fill(struct cpu *c, laddr la, bool write, bool user)
{
    bool fault = false;
    u32 cr2 = c->cr2;
    u8 *host = tlb_fill(c, la, write ? ACC_W : ACC_R, user, &fault);
    if (fault) c->exc.valid = false, c->cr2 = cr2;
    return host;
}

/* To a page table in use, where these are watched: once. */
static u64 table_write(struct cpu *c, laddr la, unsigned size, bool user)
{
    paddr pa;
    if (!mmu_try(c, la, ACC_W, user, &pa)) return 0;
    u8 *host = tables_let_write(c, la, pa, size);
    return host ? (u64)host - la : 0;
}

/* What an instruction stores: a constant, or a general register; the stub has put all of them home. */
static u32 stored(const struct cpu *c, u64 desc)
{
    if (desc & TLB_STORES_CONST) return TLB_CONST(desc);
    unsigned reg = TLB_STORED(desc);
    return TLB_DESC_SIZE(desc) == 1 ? c->gpr[reg & 3] >> reg / 4 * 8 & 0xff : c->gpr[reg];
}

/* MOV and the like from or to a passive device: it is done here, and what translated code does then is done to
 * c->bounced. */
static u64 device_access(struct cpu *c, laddr la, u64 desc, bool write, bool user)
{
    u32 size = TLB_DESC_SIZE(desc);
    if (!(desc & (write ? TLB_STORES(0) | TLB_STORES_CONST : TLB_LOADS)) || (c->rt && c->rt->trace.mask)) return 0;
    c->bounced = write ? stored(c, desc) : 0;
    return mem_passive_access(c, la, size, write, user, &c->bounced) ? (u64)&c->bounced - la : 0;
}

/* A soft-TLB miss: the addend of la's page, or of what is in place of a device's memory; or 0 if the access is neither
 * (or faults): the interpreter then does the whole instruction. */
u64 callout_tlb(struct cpu *c, laddr la, u64 desc)
{
    u32 size = TLB_DESC_SIZE(desc);
    enum tlb_kind kind = TLB_DESC_KIND(desc);
    if ((la & ~PAGE_MASK) + size > PAGE_SIZE) return 0;
    bool write = kind == TLB_SUP_W || kind == TLB_USER_W;
    u64 *entry = &cpu_tlb(c, kind)[la >> PAGE_SHIFT];
    if (*entry) return *entry; /* misaligned, but within its page */
    bool user = kind >= TLB_USER_R;
    if (unlikely(watch_kinds(c, la))) return watched_access(c, la, size, write, user);
    const u8 *again = write && unlikely(c->tables != NULL) ? tables_let_again(c, la, size) : NULL;
    if (again) return (u64)again - la;
    if (write && unlikely(c->tables != NULL) && cpu_tlb(c, user ? TLB_USER_R : TLB_SUP_R)[la >> PAGE_SHIFT]) {
        /* Filling it again would cost a walk, and a place in the soft TLB's list, for each write. */
        u64 once = table_write(c, la, size, user);
        if (once) return once;
    }
    u8 *host = fill(c, la, write, user);
    if (host) return (u64)host - la;
    u64 once = write && c->tables ? table_write(c, la, size, user) : 0;
    return once ? once : device_access(c, la, desc, write, user);
}

/* Whether x87/SSE instructions may run on the host's registers now: not with CR0.TS or EM, nor SSE without CR4.OSFXSR.
 * fpu_hot becomes 2 when the state must be loaded, which the stub does. */
int callout_fpu(struct cpu *c, u32 sse)
{
    if (c->cr0 & (CR0_TS | CR0_EM)) return 0;
    if (unlikely(c->ferr)) return 0; /* the interpreter notices what releases it */
    if (sse && !(c->cr4 & CR4_OSFXSR)) return 0;
    cpu_fpu_home(c);
    c->fx_version++;
    c->fx.mxcsr &= 0xffff; /* reserved bits, wherever they come from: the host's FXRSTOR would fault */
    if (!c->fpu_hot) {
        c->fpu_hot = 2;
        x87_hot(c);
    }
    c->sse_hot = (c->cr4 & CR4_OSFXSR) != 0;
    return 1;
}

/* ---- helpers (core/helpers.def) ---- */

#define HELPER(name, fn, text) int fn(struct cpu *c, u32 arg);
#include "core/helpers.def"
#undef HELPER

/* What raised an exception is done again by the interpreter, which raises it where it belongs. */
static int again(struct cpu *c)
{
    c->exc.valid = false;
    return HELPER_EMULATE;
}

/* Behind a transfer of control that may have changed mode and privilege. */
static int jump(struct cpu *c)
{
    if (rt_interrupt_waits(c) || c->kick || c->halted || c->intr_shadow || !xl_can_translate(c->mode))
        return HELPER_NEXT;
    if (unlikely(c->mode & MK_ARMED && c->eflags_sys & F_RF)) return HELPER_NEXT;
    return dispatch_prepare(c->rt) == XL_JC_SEGMENTED ? HELPER_JUMP_SEGMENTED : HELPER_JUMP;
}

/* The interpreter is no code for a hot x87/SSE state; else it saves a way out and in again. */
int helper_step(struct cpu *c, u32 eip)
{
    if (c->fpu_hot || count_is_full(c)) return HELPER_EMULATE;
    c->rt->step_result = dispatch_emulate(c->rt, eip);
    return c->rt->step_result ? HELPER_NEXT : jump(c);
}

int helper_rdtsc(struct cpu *c, u32 arg UNUSED)
{
    if (c->kick || (c->cr4 & CR4_TSD && c->cpl)) return HELPER_EMULATE; /* a delay loop is mostly in here; #GP */
    u64 tsc = cpu_tsc(c);
    c->gpr[G_EAX] = (u32)tsc;
    c->gpr[G_EDX] = (u32)(tsc >> 32);
    return HELPER_DONE;
}

/* ---- strings ---- */

static u8 *page_pointer(struct cpu *c, laddr la, bool write, bool user)
{
    u64 entry = cpu_tlb(c, user ? write ? TLB_USER_W : TLB_USER_R : write ? TLB_SUP_W : TLB_SUP_R)[la >> PAGE_SHIFT];
    if (entry) return (u8 *)(entry + la);
    u8 *host = fill(c, la, write, user);
    paddr pa;
    if (host || !write || !c->tables || !mmu_try(c, la, ACC_W, user, &pa)) return host;
    tables_forget(c, pa); /* a run of writes: it is cleared, or filled with something else */
    return fill(c, la, true, user);
}

/* Guest data has any alignment, and is read and written as the guest said: once, in one piece. */
typedef volatile u32 u32_unaligned __attribute__((aligned(1)));
typedef volatile u16 u16_unaligned __attribute__((aligned(1)));

static void host_movs(u8 *dst, const u8 *src, u64 n, unsigned size)
{
    if (size == 4 && n <= 32) { /* a REP has a start-up time */
        for (; n; n--, dst += 4, src += 4) *(u32_unaligned *)dst = *(const u32_unaligned *)src;
        return;
    }
    if (size == 4) __asm__ volatile("rep movsl" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
    else if (size == 2) __asm__ volatile("rep movsw" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
    else __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

static void host_stos(u8 *dst, u32 val, u64 n, unsigned size)
{
    if (size == 4) __asm__ volatile("rep stosl" : "+D"(dst), "+c"(n) : "a"(val) : "memory");
    else if (size == 2) __asm__ volatile("rep stosw" : "+D"(dst), "+c"(n) : "a"(val) : "memory");
    else __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(val) : "memory");
}

static u32 elements_in_page(laddr la, unsigned size) { return (PAGE_SIZE - (la & ~PAGE_MASK)) / size; }

/* Page by page, registers kept up to date, so that the interpreter can take over anywhere: at a device, at a page with
 * code, at a fault, at an element across two pages. */
static int move_or_fill(struct cpu *c, unsigned size, bool stos, bool user)
{
    while (c->gpr[G_ECX]) {
        if (c->kick) return HELPER_EMULATE;
        u32 n = c->gpr[G_ECX], room = elements_in_page(c->gpr[G_EDI], size);
        if (room < n) n = room;
        room = elements_in_page(c->gpr[G_ESI], size);
        if (!stos && room < n) n = room;
        if (!n) return HELPER_EMULATE;
        const u8 *src = stos ? NULL : page_pointer(c, c->gpr[G_ESI], false, user);
        if (!stos && !src) return HELPER_EMULATE;
        u8 *dst = page_pointer(c, c->gpr[G_EDI], true, user);
        if (!dst) return HELPER_EMULATE;
        if (stos) host_stos(dst, c->gpr[G_EAX], n, size);
        else host_movs(dst, src, n, size);
        c->gpr[G_ECX] -= n;
        c->gpr[G_EDI] += n * size;
        if (!stos) c->gpr[G_ESI] += n * size;
    }
    return HELPER_DONE;
}

/* Repeated comparisons by the processor itself: *n counts down to what is left; ax ends up with AH = flags, AL = OF. */
#define REPEATED(insn) \
    __asm__ volatile(insn "\n\tlahf\n\tseto %%al" : "+c"(*n), "+a"(ax), "+D"(dst), "+S"(src) : : "memory", "cc")
#define FLAGS_OF(ax) (((ax) >> 8 & 0xff & F_ARITH) | ((ax)&1 ? F_OF : 0))

static u32 host_cmps(const u8 *src, const u8 *dst, u64 *n, unsigned size, bool repne)
{
    u64 ax = 0;
    switch (size | (unsigned)repne << 3) {
    case 1: REPEATED("repe cmpsb"); break;
    case 2: REPEATED("repe cmpsw"); break;
    case 4: REPEATED("repe cmpsl"); break;
    case 9: REPEATED("repne cmpsb"); break;
    case 10: REPEATED("repne cmpsw"); break;
    default: REPEATED("repne cmpsl"); break;
    }
    return FLAGS_OF(ax);
}

static u32 host_scas(u32 val, const u8 *dst, u64 *n, unsigned size, bool repne)
{
    u64 ax = val;
    const u8 *src = NULL; /* not used by SCAS */
    switch (size | (unsigned)repne << 3) {
    case 1: REPEATED("repe scasb"); break;
    case 2: REPEATED("repe scasw"); break;
    case 4: REPEATED("repe scasl"); break;
    case 9: REPEATED("repne scasb"); break;
    case 10: REPEATED("repne scasw"); break;
    default: REPEATED("repne scasl"); break;
    }
    return FLAGS_OF(ax);
}

static int compare(struct cpu *c, unsigned size, bool scas, bool repne, bool user)
{
    while (c->gpr[G_ECX]) {
        if (c->kick) return HELPER_EMULATE;
        u64 n = c->gpr[G_ECX], room = elements_in_page(c->gpr[G_EDI], size);
        if (room < n) n = room;
        room = elements_in_page(c->gpr[G_ESI], size);
        if (!scas && room < n) n = room;
        if (!n) return HELPER_EMULATE;
        const u8 *src = scas ? NULL : page_pointer(c, c->gpr[G_ESI], false, user);
        const u8 *dst = page_pointer(c, c->gpr[G_EDI], false, user);
        if (!dst || (!scas && !src)) return HELPER_EMULATE;
        u64 left = n;
        c->aflags = scas ? host_scas(c->gpr[G_EAX], dst, &left, size, repne) : host_cmps(src, dst, &left, size, repne);
        n -= left;
        c->gpr[G_ECX] -= (u32)n;
        c->gpr[G_EDI] += (u32)n * size;
        if (!scas) c->gpr[G_ESI] += (u32)n * size;
        if (((c->aflags & F_ZF) != 0) == repne) break;
    }
    return HELPER_DONE;
}

int helper_string(struct cpu *c, u32 arg)
{
    unsigned size = arg & 0xff;
    enum helper_string op = arg >> 8 & 0xff;
    bool repne = arg >> 16, user = c->cpl == 3;
    if (c->df < 0) return HELPER_EMULATE;
    if (op == STRING_MOVS || op == STRING_STOS) return move_or_fill(c, size, op == STRING_STOS, user);
    return compare(c, size, op == STRING_SCAS, repne, user);
}

/* A string's place in a segment: how far it goes in one page, within the limit, before its offset wraps around. */
struct lane {
    enum segreg seg;
    bool write;
    unsigned reg; /* that has its offset */
};

static u32 lane_elements(const struct cpu *c, const struct lane *l, u32 mask, unsigned size)
{
    u32 off = c->gpr[l->reg] & mask, n = elements_in_page(c->seg[l->seg].base + off, size);
    s64 left = -(s64)(c->seg_room[l->write][l->seg] + off); /* up to the limit */
    u64 wraps = (u64)mask + 1 - off;
    if (!c->seg_room[l->write][l->seg] || left <= 0) return 0;
    if ((u64)left < wraps) wraps = (u64)left;
    return wraps / size < n ? (u32)(wraps / size) : n;
}
static u8 *lane_pointer(struct cpu *c, const struct lane *l, u32 mask)
{
    return page_pointer(c, c->seg[l->seg].base + (c->gpr[l->reg] & mask), l->write, c->cpl == 3);
}
static void masked_add(u32 *reg, u32 by, u32 mask) { *reg = (*reg & ~mask) | ((*reg + by) & mask); }

int helper_string_segmented(struct cpu *c, u32 arg)
{
    unsigned size = arg & 0xff;
    enum helper_string op = arg >> 8 & 0xff;
    bool repne = arg >> 16 & 1, has_source = op == STRING_MOVS || op == STRING_CMPS;
    bool writes = op == STRING_MOVS || op == STRING_STOS;
    const struct lane from = { (enum segreg)(arg >> 20 & 7), false, G_ESI }, to = { S_ES, writes, G_EDI };
    u32 mask = arg >> 24 == 4 ? ~0u : 0xffffu;
    if (c->df < 0) return HELPER_EMULATE;
    while (c->gpr[G_ECX] & mask) {
        u32 n = c->gpr[G_ECX] & mask, room = lane_elements(c, &to, mask, size);
        if (room < n) n = room;
        room = has_source ? lane_elements(c, &from, mask, size) : n;
        if (room < n) n = room;
        if (!n || c->kick) return HELPER_EMULATE;
        const u8 *src = has_source ? lane_pointer(c, &from, mask) : NULL;
        u8 *dst = has_source && !src ? NULL : lane_pointer(c, &to, mask);
        if (!dst) return HELPER_EMULATE;
        u64 left = writes ? 0 : n;
        if (op == STRING_MOVS) host_movs(dst, src, n, size);
        else if (op == STRING_STOS) host_stos(dst, c->gpr[G_EAX], n, size);
        else if (op == STRING_SCAS) c->aflags = host_scas(c->gpr[G_EAX], dst, &left, size, repne);
        else c->aflags = host_cmps(src, dst, &left, size, repne);
        n -= (u32)left;
        masked_add(&c->gpr[G_ECX], 0 - n, mask);
        masked_add(&c->gpr[G_EDI], n * size, mask);
        if (has_source) masked_add(&c->gpr[G_ESI], n * size, mask);
        if (!writes && ((c->aflags & F_ZF) != 0) == repne) break;
    }
    return HELPER_DONE;
}

/* ---- segment registers ---- */

/* A load that changes what the rest of the block was translated for is the interpreter's, which ends the block. */
int helper_mov_sreg(struct cpu *c, u32 arg)
{
    enum segreg s = (enum segreg)(arg & 7);
    u32 mode = c->mode;
    bool same;
    cpu_x87_latch(c);
    if (seg_load_in_mode(c, s, (u16)(arg >> 8), &same)) return again(c);
    if (!same) return HELPER_EMULATE;
    seg_remember(c, s, (u16)(arg >> 8), mode);
    return HELPER_DONE;
}

/* ---- segmented code ---- */

int helper_latch(struct cpu *c, u32 arg UNUSED)
{
    cpu_x87_latch(c);
    return HELPER_DONE;
}

static int far_transfer(struct cpu *c, u32 how, u16 sel, u32 off)
{
    u32 next = c->eip + HELPER_FAR_LEN(how);
    unsigned opsize = HELPER_FAR_OPSIZE(how);
    switch (HELPER_FAR_KIND(how)) {
    case FAR_JMP: return far_jmp(c, sel, off, opsize);
    case FAR_CALL: return far_call(c, sel, off, next, opsize);
    case FAR_RET: return far_ret(c, opsize, (u16)off);
    case FAR_IRET: return far_iret(c, opsize);
    default: return exc_soft_int(c, (u8)off, next, true);
    }
}

int helper_far(struct cpu *c, u32 eip)
{
    u32 off = c->far.off, how = c->far.how;
    u16 sel = (u16)c->far.sel;
    c->eip = eip;
    cpu_x87_latch(c);
    /* Code that was segmented and is: jump cache and window stay. */
    if (likely(!(c->mode & MK_VM) && far_again(c, how, sel, off)))
        return unlikely(rt_interrupt_waits(c) || c->kick || c->intr_shadow) ? HELPER_NEXT : HELPER_JUMP_SEGMENTED;
    if (far_transfer(c, how, sel, off)) return again(c);
    int way = jump(c);
    if (way == HELPER_JUMP_SEGMENTED) far_remember(c);
    return way;
}

/* All eight words within a page, the limit and SP's reach; else the interpreter. */
int helper_pusha(struct cpu *c, u32 arg)
{
    bool pop = arg & 0x100;
    u32 size = arg & 0xff, n = 8 * size, mask = c->mode & MK_SS32 ? ~0u : 0xffffu;
    u32 sp = c->gpr[G_ESP] & mask, off = pop ? sp : sp - n;
    laddr la = c->seg[S_SS].base + off;
    if (pop ? mask - sp < n : sp < n) return HELPER_EMULATE;
    if ((s64)(c->seg_room[!pop][S_SS] + off + n - 1) >= 0) return HELPER_EMULATE;
    u8 *p = (la & ~PAGE_MASK) + n <= PAGE_SIZE ? page_pointer(c, la, !pop, c->cpl == 3) : NULL;
    if (!p) return HELPER_EMULATE;
    for (unsigned i = 0; i < 8; i++) { /* from the lowest: EDI ... EAX */
        u32 *r = &c->gpr[7 - i];
        if (!pop) {
            if (size == 4) *(u32_unaligned *)(p + 4 * i) = *r;
            else *(u16_unaligned *)(p + 2 * i) = (u16)*r;
        } else if (7 - i != G_ESP) {
            *r = size == 4 ? *(const u32_unaligned *)(p + 4 * i)
                           : (*r & 0xffff0000u) | *(const u16_unaligned *)(p + 2 * i);
        }
    }
    u32 to = pop ? sp + n : off;
    c->gpr[G_ESP] = (c->gpr[G_ESP] & ~mask) | (to & mask);
    return HELPER_DONE;
}

/* Host pointer to n bytes at an offset on the stack, to be written to: within a page and the limit, else NULL. */
static u8 *stack_pointer(struct cpu *c, u32 off, unsigned n)
{
    laddr la = c->seg[S_SS].base + off;
    if ((la & ~PAGE_MASK) + n > PAGE_SIZE || (s64)(c->seg_room[1][S_SS] + off + n - 1) >= 0) return NULL;
    return page_pointer(c, la, true, c->cpl == 3);
}

int helper_enter(struct cpu *c, u32 arg)
{
    u32 size = arg & 0xff, mask = c->mode & MK_SS32 ? ~0u : 0xffffu, high = c->gpr[G_ESP] & ~mask;
    u32 frame = (c->gpr[G_ESP] - size) & mask, top = (frame - (arg >> 8)) & mask;
    u8 *p = stack_pointer(c, frame, size);
    if (!p || !stack_pointer(c, top, size)) return HELPER_EMULATE; /* the new top must be writable */
    if (size == 4) *(u32_unaligned *)p = c->gpr[G_EBP];
    else *(u16_unaligned *)p = (u16)c->gpr[G_EBP];
    masked_add(&c->gpr[G_EBP], (high | frame) - c->gpr[G_EBP], size == 4 ? ~0u : 0xffffu);
    c->gpr[G_ESP] = high | top;
    return HELPER_DONE;
}

/* ---- flags and transfers ---- */

int helper_popf(struct cpu *c, u32 next)
{
    u64 v;
    const u32 keep = F_VM | F_RF | F_VIF | F_VIP;
    if (unlikely(watch_kinds(c, c->gpr[G_ESP]))) return HELPER_EMULATE;
    if (!(c->mode & MK_SSFLAT) || mem_read(c, c->gpr[G_ESP], 4, false, &v)) return again(c);
    if (v & F_TF) return HELPER_EMULATE;
    u32 may = (u32)v & ~keep & (~(u32)F_SYS | c->eflags_known);
    cpu_set_eflags(c, may | (cpu_eflags(c) & keep & ~F_RF));
    c->gpr[G_ESP] += 4;
    if (!rt_interrupt_waits(c)) return HELPER_DONE;
    c->eip = next;
    return HELPER_NEXT;
}

int helper_popf16(struct cpu *c, u32 next)
{
    u32 mask = c->mode & MK_SS32 ? ~0u : 0xffffu, off = c->gpr[G_ESP] & mask;
    u32 may = F_ARITH | F_DF | F_NT | (c->cpl ? 0 : F_IOPL) | (c->cpl <= cpu_iopl(c) ? F_IF : 0);
    if (c->mode & MK_VM && cpu_iopl(c) < 3) return HELPER_EMULATE;
    laddr la = c->seg[S_SS].base + off;
    if (off == mask || (la & ~PAGE_MASK) == PAGE_SIZE - 1 || (s64)(c->seg_room[0][S_SS] + off + 1) >= 0)
        return HELPER_EMULATE;
    const u8 *p = page_pointer(c, la, false, c->cpl == 3);
    u32 v = p ? *(const u16_unaligned *)p : F_TF;
    if (v & F_TF) return HELPER_EMULATE;
    cpu_set_eflags(c, ((cpu_eflags(c) & ~may) | (v & may)) & ~(u32)F_RF);
    c->gpr[G_ESP] = (c->gpr[G_ESP] & ~mask) | ((off + 2) & mask);
    if (!rt_interrupt_waits(c)) return HELPER_DONE;
    c->eip = next;
    return HELPER_NEXT;
}

int helper_iret(struct cpu *c, u32 eip)
{
    c->eip = eip;
    cpu_x87_latch(c);
    return far_iret(c, 4) ? again(c) : jump(c);
}

int helper_int(struct cpu *c, u32 vector_and_length)
{
    cpu_x87_latch(c);
    return exc_soft_int(c, (u8)vector_and_length, c->eip + (vector_and_length >> 8), true) ? again(c) : jump(c);
}

int helper_sysenter(struct cpu *c, u32 eip)
{
    c->eip = eip;
    cpu_x87_latch(c);
    return far_sysenter(c) ? again(c) : jump(c);
}

int helper_sysexit(struct cpu *c, u32 eip)
{
    c->eip = eip;
    cpu_x87_latch(c);
    return far_sysexit(c) ? again(c) : jump(c);
}

int helper_invlpg(struct cpu *c, u32 la)
{
    cpu_invlpg(c, la);
    return HELPER_DONE;
}
