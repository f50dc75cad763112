/* The virtual processor as generated code and the runtime see it.
 *
 * Generated code addresses struct cpu through R15 and the soft-TLB tables at fixed displacements after it,
 * so the whole of struct cpu_area is one mapping (runtime/cpu/cpu.c makes it). */
#ifndef CORE_CPU_H
#define CORE_CPU_H

#include "core/counters.h"
#include "core/cpu_arch.h"
#include "core/types.h"

/* One exception, as the diagnosis of a dead guest wants to know it. */
enum exc_fate { EXC_DELIVERED, EXC_NESTED /* its delivery raised the next one */, EXC_TRIPLE };
struct exc_record {
    u32 eip, esp, cr2, error;
    u16 cs;
    u8 vector, cpl;
    u8 has_error, fate; /* enum exc_fate */
};
#define EXC_LOG 16u

/* All that a translation assumed about the CPU, as one comparable word. CPL is in it; CR0.TS and EM are not: code that
 * uses the FPU checks fpu_hot, which is never set while they are. */
enum mode_key {
    MK_CPL = 3, /* current privilege level */
    MK_PE = 1 << 2,
    MK_VM = 1 << 3,     /* virtual-8086 */
    MK_CS32 = 1 << 4,   /* CS.D */
    MK_SS32 = 1 << 5,   /* SS.B */
    MK_CSFLAT = 1 << 6, /* base 0, limit 4 GiB, usable */
    MK_SSFLAT = 1 << 7,
    MK_DSFLAT = 1 << 8,
    MK_ESFLAT = 1 << 9,
    MK_PG = 1 << 10,
    MK_SLOW = 1 << 11,    /* TF, VIF with VIP, or alignment is checked: interpreter only */
    MK_CSLIMIT = 1 << 13, /* CS has a limit below 4 GiB */
    MK_ARMED = 1 << 15,   /* DR7 enables a breakpoint: for the interpreter; no part of a translation's key */
    /* Added by the dispatcher, never in cpu->mode: */
    MK_UWINDOW = 1 << 12, /* CPL 3 with a window of its own */
    MK_CHECKED = 1 << 14, /* code in a page whose writes are not noticed: the block compares its bytes at entry */
};

/* Segmented code: of 16 bits, on a stack of 16 bits, in real or virtual-8086 mode, or in a CS with a limit. Its
 * translations look at limit and base of a segment at each access, and no segment is flat to them: which ones are
 * changes too often there. */
static inline bool mode_segmented(u32 mode)
{
    const u32 wide = MK_PE | MK_CS32 | MK_SS32;
    return (mode & wide) != wide || mode & (MK_VM | MK_CSLIMIT);
}
/* What of cpu->mode translations are made for. */
static inline u32 mode_translated(u32 mode)
{
    const u32 flat = MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT;
    return mode & ~(u32)(MK_ARMED | (mode_segmented(mode) ? flat : 0));
}

struct clock;
struct rt;
struct bus;
struct tlb_book;
struct watch_book;
struct tables;
struct probe_hooks;
struct intc_ops;
struct cpu;

enum tlb_flush_kind { TLB_FLUSH_ALL, TLB_FLUSH_NONGLOBAL, TLB_FLUSH_PAGE };

/* One entry per 4 KiB linear page: host address of the page minus its linear address; 0 means "not cached".
 * Behind the 2^20 entries of a table lies address space that is never written and reads as zero: generated code folds
 * the low bits of a misaligned address into the index, so that a possibly page-crossing access finds a miss there. */
#define TLB_PAGES (1u << 20)
#define TLB_TABLE_BYTES ((u64)TLB_PAGES * 8 * 16)
enum tlb_kind { TLB_SUP_R, TLB_SUP_W, TLB_USER_R, TLB_USER_W, TLB_KINDS };

enum exit_reason {
#define EXIT(name, text) EXIT_##name,
#include "core/exits.def"
#undef EXIT
};
enum callout {
#define CALLOUT(name, text) CALLOUT_##name,
#include "core/callouts.def"
#undef CALLOUT
    CALLOUT_COUNT
};
#define CALLOUTS_MAX 8
_Static_assert(CALLOUT_COUNT <= CALLOUTS_MAX, "grow CALLOUTS_MAX");
/* CALLOUT_TLB's r9d: access size in bytes, which table missed, and what may be done to a device without leaving
 * translated code: what loads once (MOV, LODS), or stores once (MOV, STOS): a general register (TLB_STORES()), or a
 * constant (TLB_STORES_CONST), which is in r9's upper half then. */
#define TLB_DESC(size, kind) ((size) | (kind) << 8)
#define TLB_DESC_SIZE(desc) ((desc)&0xff)
#define TLB_DESC_KIND(desc) ((enum tlb_kind)((desc) >> 8 & 3))
#define TLB_LOADS (1u << 12)
#define TLB_STORES(reg) (1u << 13 | (u32)(reg) << 16) /* 1-byte registers as in operands */
#define TLB_STORED(desc) ((u32)(desc) >> 16)
#define TLB_STORES_CONST (1u << 14)
#define TLB_CONST(desc) ((u32)((desc) >> 32))

enum helper {
#define HELPER(name, fn, text) HELPER_##name,
#include "core/helpers.def"
#undef HELPER
    HELPER_COUNT
};
enum helper_result {
    HELPER_DONE,           /* committed: go on behind it */
    HELPER_EMULATE,        /* nothing committed that could not be done again: interpret the instruction */
    HELPER_NEXT,           /* committed, cpu->eip is right: to the dispatcher */
    HELPER_JUMP,           /* committed, cpu->eip is right: through the jump cache */
    HELPER_JUMP_SEGMENTED, /* the same, through that of segmented code; cpu->context_tag and _spread are right */
};
enum helper_string { STRING_MOVS, STRING_STOS, STRING_CMPS, STRING_SCAS };
enum helper_far { FAR_JMP, FAR_CALL, FAR_RET, FAR_IRET, FAR_INT };
#define HELPER_FAR_OF(kind, opsize, len) ((u32)(kind) | (u32)(opsize) << 8 | (u32)(len) << 16)
#define HELPER_FAR_KIND(how) ((enum helper_far)((how)&0xff))
#define HELPER_FAR_OPSIZE(how) ((how) >> 8 & 0xff)
#define HELPER_FAR_LEN(how) ((how) >> 16)
#define HELPER_STRING_ARG(size, op, repne) ((u32)(size) | (u32)(op) << 8 | (u32)(repne) << 16)
#define HELPER_STRING_FROM(seg, addrsize) ((u32)(seg) << 20 | (u32)(addrsize) << 24)

/* One entry of a jump cache. */
struct jump_entry {
    union {
        u32 neg_eip; /* minus the EIP: adding the EIP gives zero on a hit, without touching flags */
        u64 neg_tag; /* of segmented code: minus context << 32 | EIP */
    };
    void *code;
};
#define JUMP_ENTRIES 65536u
/* The low 16 bits of the EIP alone would be the same for the same offset in libraries that lie 64 KiB apart.
 * lower_ctl.c and enter_x64.S compute the same. */
static inline u32 jump_index(vaddr eip) { return (eip + (eip >> 12 | eip << 20)) % JUMP_ENTRIES; }
/* Of segmented code: the same EIP is in use in many segments. What its translations assume of mode and CS is their
 * context. Where CS is what loading a paragraph makes of it in real or virtual-8086 mode (cpu_in_paragraph), that is
 * CONTEXT_PARAGRAPHS | the rest of the mode << 16 | the paragraph, so that far transfers compute it in line; others are
 * numbered from 1 (xl_context). */
#define CONTEXT_PARAGRAPHS 0x80000000u
static inline u32 context_of_paragraph(u32 mode, u16 paragraph)
{
    u32 rest =
        (mode & MK_VM ? 1u : 0) | (mode & MK_PG ? 2u : 0) | (mode & MK_SS32 ? 4u : 0) | (mode & MK_UWINDOW ? 8u : 0);
    return CONTEXT_PARAGRAPHS | rest << 16 | paragraph;
}
/* lower_far.c computes the same. */
static inline u32 jump_spread(u32 context)
{
    u32 paragraph = context & 0xffff;
    u32 spread = context & CONTEXT_PARAGRAPHS ? (paragraph << 4) + (paragraph >> 8) : context * 0x9e5u;
    return spread % JUMP_ENTRIES;
}
static inline u64 jump_tag(u32 context, vaddr eip) { return (u64)context << 32 | eip; }

/* The x87 unit's instruction and data pointers while its state is hot: the host's own are of translated code. fx has
 * them when it has the rest. What translated code stores is an offset; the selector that goes with it is the one that
 * the segment register had at that time, and is looked up when that register is about to change, or at the exit
 * (cpu_x87_latch). So op and ip are written by one store of a constant, dp and ds by one of a zero-extended address. */
#define X87_LATCHED 0x10000u
struct x87_hot {
    u32 op; /* without X87_LATCHED: the selector is CS's */
    u32 ip;
    u32 dp;
    u32 ds; /* X87_LATCHED | selector; or X87_SEG() of the segment register */
    u32 cs; /* selector, if it is latched */
    u32 pad;
};
#define X87_SEG(s) ((u32)(s) ^ S_DS) /* 0: DS */

/* What loading a selector of the GDT, or a null one, made of ES, DS, FS or GS. It is that again as long as selector,
 * descriptor and what of the mode decides over it (SEG_MEMO_MODE) are the same; and the mode was the same after it. */
struct seg_memo {
    u64 raw; /* the descriptor, accessed; 0 for a null selector */
    u32 key; /* SEG_MEMO_KEY(); 0: nothing is remembered */
    u32 complex;
    struct seg seg;
    u64 room[2];
};
#define SEG_MEMOS 4u /* of each register, by the selector's low bits */
#define SEG_MEMO_MODE (MK_CPL | MK_PE | MK_VM | MK_DSFLAT | MK_ESFLAT)
#define SEG_MEMO_VALID 0x80000000u
#define SEG_MEMO_KEY(mode, sel) (SEG_MEMO_VALID | ((mode)&SEG_MEMO_MODE) << 16 | (u16)(sel))

/* What loading the selector of a code segment into CS has come to in protected mode, at CPL and with an RPL of CPL, and
 * the context (jump_tag()) of what runs there. It is that again as long as selector, descriptor, window and what of the
 * mode decides over it (FAR_MEMO_MODE) are the same. */
struct far_memo {
    u64 raw;  /* the descriptor, accessed */
    u32 key;  /* FAR_MEMO_KEY(); 0: nothing is remembered */
    u32 mode; /* CS's bits of the mode key */
    struct seg seg;
    u64 room[2];
    u64 context_tag;
    u32 context_spread;
    u32 complex;
    u64 window;
};
#define FAR_MEMOS 16u /* by the selector's low bits */
#define FAR_MEMO_MODE (MK_CPL | MK_PE | MK_VM | MK_SS32 | MK_PG | MK_SLOW | MK_ARMED)
#define FAR_MEMO_KEY(mode, sel) (((mode)&FAR_MEMO_MODE) << 16 | (u16)(sel))

/* What is counted of the code that runs (translator/front/source.h, struct xl_tap): by index, */
#define TALLIES 32u
#define TALLY_INSNS 31u /* instructions retired: REP is one, once it is done; what faults is none */
#define INSNS_NO_LIMIT (~(u64)0 >> 1)

/* A record of the trace stream as translated code writes it; transvisor/stream.h is what it is. */
#define STREAM_RECORD 16u
#define STREAM_RECORD_ADDRESS 4
#define STREAM_RECORD_VALUE 8
#define STREAM_RESERVE 4096u /* bytes that there are for the records of one block */
enum stream_what { STREAM_BLOCKS = 1, STREAM_MEMORY = 2 };
enum stream_kind { STREAM_KIND_BLOCK = 1, STREAM_KIND_READ = 3, STREAM_KIND_WRITE = 4 };
/* How much of an access of n bytes is in its next record. */
static inline unsigned stream_piece(unsigned n) { return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1; }

/* One virtual processor. Generated code, the stubs and the runtime have it; others see struct cpu_arch. */
struct cpu {
    /* ---- what translated code reaches most: within 8 bits of displacement from R15, with the first rows of arch ----
     */
    volatile u32 kick; /* set by a signal handler or another thread: go to the dispatcher at the next block boundary */
    u32 fpu_hot;       /* 1: the guest's x87/SSE state is in the host's registers, not in fx */
    u32 sse_hot;       /* fpu_hot and CR4.OSFXSR */
    u32 irq_pending;   /* nonzero: INTR asserted, NMI latched; looked at wherever IF may become 1 */
    void *callouts[CALLOUTS_MAX]; /* by enum callout */

    /* ---- what the manuals name: the same bytes as arch, and field by field ---- */
    union {
        struct cpu_arch arch;
        struct {
#define ARCH(type, name, dim, text) type name dim;
#include "core/cpu_arch.def"
#undef ARCH
        };
    };

    /* ---- what the stubs need, and the rest of what translated code needs ---- */
    void *jump_cache; /* what R13 must be: the present privilege class's jump cache, or the all-miss one */
    u64 exit_arg;     /* see exits.def */
    u64 host_rsp;     /* rt_enter()'s frame; 0: no translated code runs */
    u64 scratch[3];   /* for enter_x64.S */
    u64 window;       /* what R12 must be: host address of guest linear 0 in the window of the present mode, or 10 where
                       * that has none (emit_x64.h) */
    struct x87_hot x87;
    u64 tsc_offset;           /* guest TSC = host TSC + tsc_offset */
    u32 mode;                 /* enum mode_key, kept up to date by cpu_update_mode() */
    u32 seg_complex[S_COUNT]; /* nonzero: translated code may not access through this segment without a check it does
                                  * not have:    null, limit below 4 GiB, expand-down, or execute-only/read-only (bit 0:
                                  * reads, bit 1: writes) */
    /* For reads, and for writes: minus limit + 1, so that adding offset + size - 1 gives a negative number if and only
     * if the access is within the limit. 0: none is (null, the wrong type), or that is not all to be looked at
     * (expand-down). */
    u64 seg_room[2][S_COUNT];
    u64 context_tag; /* jump_tag(), less an EIP, and jump_spread() of the present context */
    u32 context_spread;
    u32 far_target; /* CS << 16 | IP, while an instruction that goes there looks at the rest of its frame */
    void *helpers[HELPER_COUNT]; /* by enum helper: int (*)(struct cpu *, u32) */
    struct seg_memo seg_memo[S_COUNT][SEG_MEMOS];
    struct far_memo far_memo[FAR_MEMOS];
    struct {
        u32 how; /* HELPER_FAR_OF() */
        u32 off; /* or the immediate */
        u32 sel;
    } far;           /* what HELPER_FAR is to do */
    u32 insns_ahead; /* while translated code tells of an instruction: counted already, but not done */
    u64 insns_limit; /* of cpu_tally()[TALLY_INSNS]: the guest stops there; INSNS_NO_LIMIT: nowhere */
    /* Where the trace stream is written (runtime/run/stream.c), while there is one. */
    struct {
        u8 *at;        /* the next record */
        u64 neg_limit; /* minus the address from which on there is no room for a block any more */
        u64 spill;     /* lower_stream.c's, within an instruction: a register, */
        u8 *host;      /* and what is about to be written: where, */
        u32 la;        /* at which linear address */
    } stream;

    /* ---- the runtime's: the way back to the machine, and caches ---- */
    struct clock *clock; /* NULL: none, the TSC is the host's; else it is clock_tsc() + tsc_offset */
    u64 tsc_until;       /* while the host's TSC is below, clock_tsc() is just that */
    struct rt *rt;
    struct bus *bus;
    const struct cpu_model *model;
    u32 eflags_known;                           /* of F_SYS: what the model has */
    void (*apic_base_hook)(void *arg, u64 msr); /* told of every WRMSR IA32_APIC_BASE; may be NULL */
    void *apic_base_arg;
    void (*ferr_hook)(void *arg, bool level); /* told of every change of FERR#; NULL: the pin is not wired */
    void *ferr_arg;
    u8 *ram;                          /* the RAM view: through it blocks compare their bytes (MK_CHECKED) */
    u32 stop_neg[4];                  /* minus the addresses of enabled code breakpoints, else 0: stops.h */
    struct watch_book *watch;         /* runtime/mem/watch.c: pages with breakpoints */
    u64 bounced;                      /* what translated code loads in place of a device's memory, or stores */
    u32 tlb_generation;               /* bumped by every soft-TLB flush of any kind */
    struct tables *tables;            /* runtime/mem/tables.c: page tables in use; NULL: they are not watched */
    const struct probe_hooks *probes; /* runtime/cpu/probe.h: who wants to be told of what happens; NULL: nobody */
    struct tlb_book *tlb; /* runtime/mem/tlb.c: what is in the soft TLB, so that a flush costs what was filled */

    /* The guest's x87/SSE state may be somewhere else altogether (a direct-execution process): then neither fx nor the
     * host's registers have it until fpu_fetch() has put it in fx. Whoever looks at fx calls cpu_fpu_home() first. */
    bool fpu_away;
    void (*fpu_fetch)(struct cpu *c);
    u32 fx_version; /* changes whenever fx may have */

    struct exc_record exc_log[EXC_LOG]; /* a ring: the last EXC_LOG exceptions, for a diagnosis */
    u32 exc_count;                      /* exceptions so far; the next record is exc_log[exc_count % EXC_LOG] */
    struct counters ctr;
};
_Static_assert(offsetof(struct cpu, arch) == offsetof(struct cpu, gpr)
                   && offsetof(struct cpu, arch.mc_ctl) == offsetof(struct cpu, mc_ctl),
               "arch and its fields are the same bytes");
_Static_assert(offsetof(struct cpu, halted) < 128, "the hot part is within 8 bits of displacement");

/* EFLAGS as PUSHF sees it (not valid while in translated code: aflags is stale there). */
static inline u32 cpu_eflags(const struct cpu *c) { return arch_eflags(&c->arch); }
static inline void cpu_set_eflags(struct cpu *c, u32 f) { arch_set_eflags(&c->arch, f); }
/* Before a segment register changes while the x87 state is hot, and when it is brought home. */
static inline void cpu_x87_latch(struct cpu *c)
{
    if (likely(!c->fpu_hot)) return;
    if (!(c->x87.op & X87_LATCHED)) c->x87.op |= X87_LATCHED, c->x87.cs = c->seg[S_CS].sel;
    if (!(c->x87.ds & X87_LATCHED)) c->x87.ds = X87_LATCHED | c->seg[X87_SEG(c->x87.ds) % S_COUNT].sel;
}
static inline void cpu_fpu_home(struct cpu *c)
{
    if (unlikely(c->fpu_away)) c->fpu_fetch(c);
}
/* Whether a shadow may be forgotten: there is nothing that it would hold off. */
static inline bool cpu_shadow_is_idle(const struct cpu *c)
{
    return !c->intr_shadow || !(c->irq_pending || c->dr[7] & 0xff);
}
static inline unsigned cpu_iopl(const struct cpu *c) { return (c->eflags_sys & F_IOPL) >> 12; }
/* Virtual-8086 mode and CPL 3 may have VIF in the place of IF (SDM vol. 3, 20.3 and 20.4). */
static inline bool cpu_uses_vif(const struct cpu *c)
{
    if (!(c->cr0 & CR0_PE) || c->cpl != 3 || cpu_iopl(c) == 3) return false;
    return c->cr4 & (c->eflags_sys & F_VM ? CR4_VME : CR4_PVI);
}
/* The operating system has an interrupt for a program that takes it now: #GP before its next instruction. */
static inline bool cpu_vip_due(const struct cpu *c)
{
    return unlikely((c->eflags_sys & (F_VIF | F_VIP)) == (F_VIF | F_VIP)) && cpu_uses_vif(c);
}
/* CS is what real or virtual-8086 mode makes of its selector, with a limit of 64 KiB. */
static inline bool cpu_in_paragraph(const struct cpu *c)
{
    const struct seg *cs = &c->seg[S_CS];
    u32 attr = SEG_P | SEG_S | SEG_W | SEG_A | (c->eflags_sys & F_VM ? SEG_DPL : 0);
    bool protected = c->cr0 & CR0_PE && !(c->eflags_sys & F_VM);
    return !protected && cs->attr == attr && cs->limit == 0xffff && cs->base == (u32)cs->sel << 4;
}
static inline bool cpu_protected(const struct cpu *c) { return (c->cr0 & CR0_PE) && !(c->eflags_sys & F_VM); }

/* R15 points to cpu: half of what is counted is within 8 bits of displacement in front of it. */
struct cpu_area {
    u8 front[4096 - TALLIES * sizeof(u64)];
    u64 tally[TALLIES]; /* counts, where they are asked for; tally[TALLY_INSNS] by the interpreter always */
    struct cpu cpu;
    u8 pad[16384 - sizeof(struct cpu)];
    /* TLB_KINDS tables of TLB_TABLE_BYTES each follow. */
};
#define CPU_TALLY_AT ((s32)offsetof(struct cpu_area, tally) - (s32)offsetof(struct cpu_area, cpu))
#define CPU_TLB_AT ((s32)(sizeof(struct cpu_area) - offsetof(struct cpu_area, cpu)))
#define CPU_MAPPING (sizeof(struct cpu_area) + (u64)TLB_KINDS * TLB_TABLE_BYTES)
_Static_assert(offsetof(struct cpu_area, cpu) == 4096 && CPU_TLB_AT == 16384, "tables start on a page");
static inline struct cpu_area *cpu_area(struct cpu *c)
{
    return (struct cpu_area *)((u8 *)c - offsetof(struct cpu_area, cpu));
}
static inline u64 *cpu_tally(const struct cpu *c) { return cpu_area((struct cpu *)(uintptr_t)c)->tally; }
static inline u64 *cpu_tlb(struct cpu *c, enum tlb_kind k)
{
    return (u64 *)((u8 *)c + CPU_TLB_AT + (u64)k * TLB_TABLE_BYTES);
}

#endif
