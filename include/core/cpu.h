/* The CPU as generated code, the interpreter, a debugger and a snapshot all see it.
 *
 * Generated code addresses struct cpu through R15 and the soft-TLB tables at fixed displacements behind it,
 * so the whole of struct cpu_area is one mapping (runtime/cpu/cpu.c makes it).
 *
 * EFLAGS lives in four places, because translated code must be able to change IF and DF without touching the
 * host's flags:
 *   aflags      OF SF ZF AF PF CF, in their architectural positions; other bits are ignored.
 *               In translated code these live in the host's RFLAGS and aflags is stale.
 *   iflag       0 or 1
 *   df          +1 (DF=0) or -1 (DF=1); the host's own DF is always 0
 *   eflags_sys  TF IOPL NT RF VM AC VIF VIP ID
 * cpu_eflags() and cpu_set_eflags() compose and split them. */
#ifndef CORE_CPU_H
#define CORE_CPU_H

#include "core/counters.h"
#include "core/types.h"

enum gpr { G_EAX, G_ECX, G_EDX, G_EBX, G_ESP, G_EBP, G_ESI, G_EDI };
enum segreg { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS, S_COUNT };

/* clang-format off */
enum eflags_bit {
    F_CF = 1u << 0, F_PF = 1u << 2, F_AF = 1u << 4, F_ZF = 1u << 6, F_SF = 1u << 7, F_TF = 1u << 8,
    F_IF = 1u << 9, F_DF = 1u << 10, F_OF = 1u << 11, F_IOPL = 3u << 12, F_NT = 1u << 14,
    F_RF = 1u << 16, F_VM = 1u << 17, F_AC = 1u << 18, F_VIF = 1u << 19, F_VIP = 1u << 20, F_ID = 1u << 21,
};
/* clang-format on */
#define F_ARITH (F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF)
#define F_SYS (F_TF | F_IOPL | F_NT | F_RF | F_VM | F_AC | F_VIF | F_VIP | F_ID)
#define F_FIXED 2u /* bit 1 reads as one */

/* clang-format off */
enum cr0_bit {
    CR0_PE = 1u << 0, CR0_MP = 1u << 1, CR0_EM = 1u << 2, CR0_TS = 1u << 3, CR0_ET = 1u << 4,
    CR0_NE = 1u << 5, CR0_WP = 1u << 16, CR0_AM = 1u << 18, CR0_NW = 1u << 29, CR0_CD = 1u << 30, CR0_PG = 1u << 31,
};
/* clang-format on */
/* clang-format off */
enum cr4_bit {
    CR4_VME = 1u << 0, CR4_PVI = 1u << 1, CR4_TSD = 1u << 2, CR4_DE = 1u << 3, CR4_PSE = 1u << 4, CR4_PAE = 1u << 5,
    CR4_MCE = 1u << 6, CR4_PGE = 1u << 7, CR4_PCE = 1u << 8, CR4_OSFXSR = 1u << 9, CR4_OSXMMEXCPT = 1u << 10,
};
/* clang-format on */
#define EFER_NXE (1u << 11)

/* clang-format off */
enum vector {
    V_DE = 0, V_DB = 1, V_NMI = 2, V_BP = 3, V_OF = 4, V_BR = 5, V_UD = 6, V_NM = 7, V_DF = 8, V_TS = 10,
    V_NP = 11, V_SS = 12, V_GP = 13, V_PF = 14, V_MF = 16, V_AC = 17, V_MC = 18, V_XM = 19,
};
/* clang-format on */
enum pf_error { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

/* Hidden part of a segment register (SDM vol. 3, 3.4.3). limit is in bytes, inclusive, G already applied. */
struct seg {
    u16 sel;
    u16 pad;
    u32 base;
    u32 limit;
    u32 attr; /* SEG_* below; the descriptor's access byte and flags nibble */
};
/* clang-format off */
enum seg_attr {
    SEG_TYPE = 0xf,        /* for code/data: 1 accessed, 2 writable/readable, 4 expand-down/conforming, 8 code */
    SEG_A = 1, SEG_W = 2, SEG_R = 2, SEG_E = 4, SEG_C = 4, SEG_CODE = 8,
    SEG_S = 1 << 4,        /* 1: code or data, 0: system */
    SEG_DPL_SHIFT = 5, SEG_DPL = 3 << 5,
    SEG_P = 1 << 7,
    SEG_AVL = 1 << 12, SEG_D = 1 << 14, SEG_G = 1 << 15,
    SEG_UNUSABLE = 1 << 16, /* null selector loaded */
};
/* clang-format on */

struct table_reg {
    u32 base;
    u32 limit;
}; /* GDTR, IDTR: limit is 16 bits wide */

/* A guest exception (or interrupt) that has been decided but not yet delivered. */
struct pending_exc {
    bool valid;
    bool has_error;
    u8 vector;
    u32 error;
};

/* One exception, as the diagnosis of a dead guest wants to know it. */
enum exc_fate { EXC_DELIVERED, EXC_NESTED /* its delivery raised the next one */, EXC_TRIPLE };
struct exc_record {
    u32 eip, esp, cr2, error;
    u16 cs;
    u8 vector, cpl;
    u8 has_error, fate; /* enum exc_fate */
};
#define EXC_LOG 16u

/* FXSAVE image (SDM vol. 1, 10.5.1), 32-bit format. */
struct fxstate {
    u16 fcw, fsw;
    u8 ftw, rsvd1;
    u16 fop;
    u32 fip;
    u16 fcs, rsvd2;
    u32 fdp;
    u16 fds, rsvd3;
    u32 mxcsr, mxcsr_mask;
    u8 st[8][16];
    u8 xmm[8][16];
    u8 rest[224];
} __attribute__((aligned(16)));
_Static_assert(sizeof(struct fxstate) == 512, "FXSAVE image");

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
    MK_SLOW = 1 << 11,    /* TF or an armed breakpoint: interpreter only */
    MK_UWINDOW = 1 << 12, /* CPL 3 with a window of its own; added by the dispatcher, never in cpu->mode */
};

#define K7_COUNTERS 4

/* Until the next instruction is done: STI holds off interrupts; MOV SS and POP SS hold off debug traps as well, and
 * suppress an instruction breakpoint on that instruction (SDM vol. 3, 6.8.3). */
enum intr_shadow { SHADOW_NONE, SHADOW_STI, SHADOW_SS };

struct rt;
struct bus;
struct tlb_book;
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
/* CALLOUT_TLB's r9d: access size in bytes, and which table missed. */
#define TLB_DESC(size, kind) ((size) | (kind) << 8)

enum helper {
#define HELPER(name, fn, text) HELPER_##name,
#include "core/helpers.def"
#undef HELPER
    HELPER_COUNT
};
enum helper_result {
    HELPER_DONE,    /* committed: go on behind it */
    HELPER_EMULATE, /* nothing committed that could not be done again: interpret the instruction */
    HELPER_NEXT,    /* committed, cpu->eip is right: to the dispatcher */
    HELPER_JUMP,    /* committed, cpu->eip is right: through the jump cache */
};
enum helper_string { STRING_MOVS, STRING_STOS, STRING_CMPS, STRING_SCAS };
#define HELPER_STRING_ARG(size, op, repne) ((u32)(size) | (u32)(op) << 8 | (u32)(repne) << 16)

/* One entry of a jump cache. */
struct jump_entry {
    u32 neg_eip; /* minus the EIP: adding the EIP gives zero on a hit, without touching flags */
    u32 pad;
    void *code;
};
#define JUMP_ENTRIES 65536u
/* The low 16 bits of the EIP alone would be the same for the same offset in libraries that lie 64 KiB apart.
 * lower_ctl.c and enter_x64.S compute the same. */
static inline u32 jump_index(laddr eip) { return (eip + (eip >> 12 | eip << 20)) % JUMP_ENTRIES; }

struct cpu {
    /* Hot: within disp8 of R15. */
    u32 gpr[8];
    u32 eip;
    u32 aflags;
    s32 df;
    u32 eflags_sys;
    u32 irq_pending; /* nonzero: INTR asserted, NMI latched; looked at wherever IF may become 1 */
    u32 fpu_hot;     /* 1: the guest's x87/SSE state is in the host's registers, not in fx */
    u8 iflag, cpl, intr_shadow /* enum intr_shadow */, halted;
    volatile u32 kick; /* set by a signal handler or another thread: go to the dispatcher at the next block boundary */
    u32 sse_hot;       /* fpu_hot and CR4.OSFXSR */
    void *jump_cache;  /* what R13 must be: the present privilege class's jump cache, or the all-miss one */
    void *callouts[CALLOUTS_MAX]; /* by enum callout */
    u64 exit_arg;                 /* see exits.def */
    u64 host_rsp;                 /* rt_enter()'s frame */
    u64 scratch[3];               /* for enter_x64.S */
    u64 window; /* what R12 must be: host address of guest linear 0 in the window of the present mode, or 10 where
                 * that has none (emit_x64.h) */
    struct fxstate fx; /* the guest's x87/MMX/SSE state while fpu_hot is 0 */
    /* ---- up to here the layout is known to runtime/run/enter_x64.S (runtime/cpu/cpu_layout.h): add new fields below
     * ---- */

    u32 mode;                    /* enum mode_key, kept up to date by cpu_update_mode() */
    u32 seg_complex[S_COUNT];    /* nonzero: translated code may not access through this segment without a check it does
                                  * not have:    null, limit below 4 GiB, expand-down, or execute-only/read-only (bit 0:
                                  * reads, bit 1: writes) */
    void *helpers[HELPER_COUNT]; /* by enum helper: int (*)(struct cpu *, u32) */
    struct seg seg[S_COUNT];
    struct seg ldtr, tr;
    struct table_reg gdtr, idtr;
    u32 cr0, cr2, cr3, cr4;
    u32 dr[8];
    u64 pdpte[4]; /* PAE: loaded by MOV CR3, as the SDM demands (vol. 3, 4.4.1) */

    /* Model-specific registers that are more than a constant. */
    u32 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 efer, apic_base, pat, misc_enable, tsc_offset /* guest TSC = host TSC + tsc_offset */;
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
    u64 mcg_status, mc_ctl[5];
    u64 k7_evtsel[K7_COUNTERS], k7_perfctr[K7_COUNTERS]; /* performance counters of --cpu athlon */
    u32 debugctl;
    void (*apic_base_hook)(void *arg, u64 msr); /* told of every WRMSR IA32_APIC_BASE; may be NULL */
    void *apic_base_arg;

    /* Exceptions and interrupts. */
    struct pending_exc exc;             /* raised by the current instruction; delivered by exc_deliver() */
    struct exc_record exc_log[EXC_LOG]; /* a ring: the last EXC_LOG exceptions */
    u32 exc_count;                      /* exceptions so far; the next record is exc_log[exc_count % EXC_LOG] */
    bool nmi_pending, nmi_blocked;
    u8 debug_pending; /* data breakpoints met by MOV SS or POP SS, as bits of DR6: #DB after the next instruction */
    u32 intr_line;    /* level of INTR as the interrupt controllers drive it */
    const struct cpu_model *model;

    u32 tlb_generation;   /* bumped by every soft-TLB flush of any kind */
    struct tlb_book *tlb; /* runtime/mem/tlb.c: what is in the soft TLB, so that a flush costs what was filled */
    struct rt *rt;
    struct bus *bus;

    /* The guest's x87/SSE state may be somewhere else altogether (a direct-execution process): then neither fx nor the
     * host's registers have it until fpu_fetch() has put it in fx. Whoever looks at fx calls cpu_fpu_home() first. */
    bool fpu_away;
    void (*fpu_fetch)(struct cpu *c);
    u32 fx_version; /* changes whenever fx may have */
    u8 *ram;        /* the RAM view: guest physical 0..ram_size, host pointer */
    u64 ram_size;   /* bytes */
    struct counters ctr;
};

/* EFLAGS as PUSHF sees it (not valid while in translated code: aflags is stale there). */
static inline u32 cpu_eflags(const struct cpu *c)
{
    return (c->aflags & F_ARITH) | (c->iflag ? F_IF : 0) | (c->df < 0 ? F_DF : 0) | c->eflags_sys | F_FIXED;
}
static inline void cpu_set_eflags(struct cpu *c, u32 f)
{
    c->aflags = f & F_ARITH;
    c->iflag = (f & F_IF) != 0;
    c->df = (f & F_DF) ? -1 : 1;
    c->eflags_sys = f & F_SYS;
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
static inline bool cpu_protected(const struct cpu *c) { return (c->cr0 & CR0_PE) && !(c->eflags_sys & F_VM); }

struct cpu_area {
    struct cpu cpu;
    u8 pad[16384 - sizeof(struct cpu)];
    /* TLB_KINDS tables of TLB_TABLE_BYTES each follow. */
};
_Static_assert(sizeof(struct cpu_area) == 16384, "tables start on a page");
static inline u64 *cpu_tlb(struct cpu *c, enum tlb_kind k)
{
    return (u64 *)((u8 *)c + sizeof(struct cpu_area) + (u64)k * TLB_TABLE_BYTES);
}

#endif
