/* The processor's state as the manuals name it: all that a snapshot, a debugger or another engine needs of a CPU.
 *
 * struct cpu_arch is plain data. It has no pointers, no host addresses and no padding, so it is copied by assignment
 * and compared by memcmp(). Its fields are the rows of cpu_arch.def.
 *
 * EFLAGS is in four fields, because translated code must be able to change IF and DF without touching the host's flags:
 *   aflags      OF SF ZF AF PF CF, in their architectural positions; other bits are ignored.
 *               While translated code runs, these are in the host's RFLAGS and aflags is stale.
 *   iflag       0 or 1
 *   df          +1 (DF=0) or -1 (DF=1); the host's own DF is always 0
 *   eflags_sys  TF IOPL NT RF VM AC VIF VIP ID
 * arch_eflags() and arch_set_eflags() compose and split them. */
#ifndef CORE_CPU_ARCH_H
#define CORE_CPU_ARCH_H

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
    u16 pad; /* 0 */
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

#define K7_COUNTERS 4 /* performance counters of --cpu athlon */

/* Until the next instruction is done: STI holds off interrupts; MOV SS and POP SS hold off debug traps as well, and
 * suppress an instruction breakpoint on that instruction (SDM vol. 3, 6.8.3). */
enum intr_shadow { SHADOW_NONE, SHADOW_STI, SHADOW_SS, SHADOW_LAST = SHADOW_SS };

/* A guest exception (or interrupt) that has been decided but not yet delivered. */
struct pending_exc {
    bool valid;
    bool has_error;
    u8 vector, pad;
    u32 error;
};

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

/* Rises whenever a row of cpu_arch.def changes its meaning or its type, or comes or goes. */
#define CPU_ARCH_VERSION 2u

struct cpu_arch {
#define ARCH(type, name, dim, text) type name dim;
#include "core/cpu_arch.def"
#undef ARCH
};
#define ARCH(type, name, dim, text) +sizeof(((struct cpu_arch *)0)->name)
_Static_assert(sizeof(struct cpu_arch) == 0
#include "core/cpu_arch.def"
               ,
               "no padding: memcmp() would see it");
#undef ARCH

/* EFLAGS as PUSHF sees it. */
static inline u32 arch_eflags(const struct cpu_arch *a)
{
    return (a->aflags & F_ARITH) | (a->iflag ? F_IF : 0) | (a->df < 0 ? F_DF : 0) | a->eflags_sys | F_FIXED;
}
static inline void arch_set_eflags(struct cpu_arch *a, u32 f)
{
    a->aflags = f & F_ARITH;
    a->iflag = (f & F_IF) != 0;
    a->df = (f & F_DF) ? -1 : 1;
    a->eflags_sys = f & F_SYS;
}

#endif
