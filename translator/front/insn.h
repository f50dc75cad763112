/* One guest instruction, and the table of all there are.
 *
 * struct insn is made by decode.c, from bytes, once; scan, lowering, the interpreter and the recovery of
 * guest state after a fault all read the same record. What an instruction does to flags, whether it may fault, whether
 * it ends a block: those come from its row in insn.def, never from the decoder library. */
#ifndef TRANSLATOR_INSN_H
#define TRANSLATOR_INSN_H

#include "core/cpu.h"
#include "core/types.h"

/* Classes: what policy.c decides by, and what --disable takes. */
enum insn_class {
#define INSN_CLASS(name, text) CLS_##name,
#include "insn_class.def"
#undef INSN_CLASS
    CLS_COUNT
};

/* Mnemonics: the forms of one operation share one. */
enum insn_op {
    OP_INVALID,
#define INSN_OP(name) OP_##name,
#include "insn_op.def"
#undef INSN_OP
    OP_COUNT
};

/* Forms: one per row of insn.def. */
enum insn_id {
    INSN_INVALID,
#define INSN(id, ...) INSN_##id,
#include "insn.def"
#undef INSN
    INSN_COUNT
};

/* How a row's operands are encoded and how wide they are: SDM vol. 2, appendix A.2.1 and A.2.2. */
/* clang-format off */
enum operand_enc {
    ENC_NONE,
    ENC_Eb, ENC_Ew, ENC_Ed, ENC_Ev,             /* ModRM.rm: register or memory (v: 2 or 4 by operand size) */
    ENC_Gb, ENC_Gw, ENC_Gd, ENC_Gv,             /* ModRM.reg */
    ENC_Rw, ENC_Rd, ENC_Rv,                     /* ModRM.rm, register only */
    ENC_RvMw,                                   /* register Rv, or memory of 16 bits (MOV Ev,Sw; SLDT; STR; SMSW) */
    ENC_RdMb, ENC_RdMw,                         /* register of 32 bits, or memory of 8/16 (PEXTRB-like, PINSRW) */
    ENC_M, ENC_Mb, ENC_Mw, ENC_Md, ENC_Mq, ENC_Mdq, ENC_Ms /* 6 bytes: pseudo-descriptor */, ENC_Mt /* 80-bit real */,
    ENC_Ma /* BOUND: two of v */, ENC_Mp /* far pointer: v + 2 */,
    ENC_Menv /* FPU environment: 14/28 */, ENC_Mfpu /* FPU state: 94/108 */, ENC_Mfx /* FXSAVE: 512 */,
    ENC_Mbcd /* 80-bit packed BCD */,
    ENC_Ib, ENC_Ibs /* sign-extended to the operand size */, ENC_Iw, ENC_Iz /* 2 or 4 bytes by operand size */,
    ENC_I1 /* the constant 1 */, ENC_I3,
    ENC_Jb, ENC_Jz,                             /* relative; struct insn.target holds the absolute EIP */
    ENC_Ap,                                     /* direct far pointer: imm = offset, imm2 = selector */
    ENC_Ob, ENC_Ov,                             /* moffs: memory at disp */
    ENC_Sw,                                     /* segment register in ModRM.reg */
    ENC_Cd, ENC_Dd,                             /* control / debug register in ModRM.reg */
    ENC_Zb, ENC_Zv,                             /* register in the low 3 bits of the opcode */
    ENC_AL, ENC_CL, ENC_DX, ENC_AX, ENC_eAX, ENC_EAX /* eAX: 2 or 4 bytes; EAX always 4 */,
    ENC_ES, ENC_CS, ENC_SS, ENC_DS, ENC_FS, ENC_GS, /* PUSH/POP Sreg and LDS family: fixed segment register */
    ENC_Xb, ENC_Xv, ENC_Yb, ENC_Yv,             /* string source DS:eSI, destination ES:eDI (implicit memory) */
    ENC_Pq, ENC_Qq, ENC_Qd, ENC_Nq,
                /* MMX: ModRM.reg; rm as reg or m64; rm as reg or m32; rm register only */
    ENC_Vx, ENC_Wdq, ENC_Wq, ENC_Wd, ENC_Ww,
    ENC_Ux, /* XMM: ModRM.reg; rm as reg or m128/m64/m32/m16; rm register only */
    ENC_ST0, ENC_STi,                           /* x87 stack */
    ENC_COUNT
};
/* clang-format on */

/* clang-format off */
enum operand_kind { OPK_NONE, OPK_REG, OPK_MEM, OPK_IMM, OPK_REL, OPK_FAR, OPK_SREG, OPK_CR, OPK_DR, OPK_MMX, OPK_XMM,
    OPK_ST };
/* clang-format on */

struct operand {
    u8 kind;  /* enum operand_kind */
    u8 reg;   /* number; for 1-byte GPRs 0..7 = AL CL DL BL AH CH DH BH */
    u16 size; /* bytes accessed; for OPK_MEM the size of the memory access; 0 for LEA, INVLPG and other pure addresses
               */
};

enum insn_attr {
    A_NONE = 0,
    A_FAULT = 1 << 0,   /* may raise an exception other than through its memory operand or privilege */
    A_END = 1 << 1,     /* ends a basic block: control transfer, or changes what translations assume */
    A_PRIV = 1 << 2,    /* #GP unless CPL is 0 */
    A_LOCKED = 1 << 3,  /* locked without LOCK, too, when an operand is memory (XCHG) */
    A_LOCK = 1 << 4,    /* LOCK is allowed when the destination is memory */
    A_STACK = 1 << 5,   /* pushes or pops */
    A_FENCE = 1 << 6,   /* orders accesses to memory, and does nothing else */
    A_WR = 1 << 7,      /* writes its operand 0 */
    A_WR1 = 1 << 8,     /* writes its operand 1 too (XCHG, XADD) */
    A_FLAGCNT = 1 << 9, /* flags written only if a count is not zero (shifts and rotates): the old ones count as read */
    A_REP = 1 << 10,    /* REP applies (string instruction) */
    A_REPCC = 1 << 11,  /* REPE/REPNE apply (CMPS, SCAS) */
    A_CC = 1 << 12,     /* condition in the low nibble of the opcode; flags read are refined by it */
    A_FPU = 1 << 13,    /* touches x87/MMX/SSE state: #NM if CR0.TS, hot FPU state needed */
    A_ALIGN16 = 1 << 14, /* #GP if a 16-byte memory operand is misaligned */
    A_IMPMEM = 1 << 15, /* touches memory that is not in the operand list (strings, XLAT, MASKMOV, stack, ENTER, tables)
                         */
    A_SHADOW = 1 << 16, /* inhibits interrupts until after the next instruction */
    A_SENS = 1 << 17,   /* sensitive: reads or changes CPU state that the guest must not share with the host */
    A_NOWAIT = 1 << 18, /* x87 without a wait: does not report pending #MF */
    A_FLAGS0 = 1 << 19, /* flags undefined by the manual only when the count exceeds 1 (OF of shifts), or
                           operand-dependent */
};

/* clang-format off */
enum insn_feature { FEAT_BASE, FEAT_I486, FEAT_CPUID /* and CR4 */, FEAT_TSC, FEAT_MSR, FEAT_CX8, FEAT_PMC, FEAT_CMOV,
    FEAT_SEP, FEAT_FPU, FEAT_MMX, FEAT_FXSR, FEAT_SSE, FEAT_SSE2, FEAT_CLFLUSH, FEAT_SSE3, FEAT_SSSE3, FEAT_MONITOR,
    FEAT_MOVBE, FEAT_COUNT };
/* clang-format on */

/* The bits of MXCSR that a CPU with these features has (1 << enum insn_feature): denormals-are-zeros came with SSE2. */
static inline u32 mxcsr_mask(u32 features) { return features & 1u << FEAT_SSE2 ? 0xffff : 0xffbf; }

enum opcode_map { MAP_1B, MAP_0F, MAP_0F38, MAP_0F3A };
enum simd_prefix { PFX_ANY, PFX_NP, PFX_66, PFX_F3, PFX_F2 }; /* mandatory prefix; ANY for instructions without one */
enum modrm_form { MR_NONE, MR_ANY, MR_MEM, MR_REG };          /* has no ModRM; any; memory only; register only */

struct insn_row {
    const char *name;           /* the id, for dumps and tests */
    const char *mnemonic;       /* the name of its op, upper case as in the manual */
    u8 map, pfx, opcode, count; /* opcode..opcode+count-1 (count 8 for Z forms, 16 for cc) */
    s8 ext;                     /* ModRM.reg must be this (-1: any) */
    s8 rm;                      /* ModRM.rm must be this, register form (-1: any): x87 and 0F 01 groups */
    u8 form;                    /* enum modrm_form */
    u8 enc[4];                  /* enum operand_enc */
    u16 op;                     /* enum insn_op */
    u8 cls;                     /* enum insn_class */
    u8 feat;                    /* enum insn_feature */
    u32 reads, writes, undef;   /* EFLAGS bits; undef is not part of writes */
    u32 attr;                   /* enum insn_attr */
};
extern const struct insn_row insn_rows[INSN_COUNT];

enum insn_prefix { IP_LOCK = 1, IP_REP = 2, IP_REPNE = 4, IP_OPSIZE = 8, IP_ADDRSIZE = 16, IP_SEG = 32 };

struct insn {
    const struct insn_row *row; /* never NULL: insn_rows[INSN_INVALID] for what must raise #UD */
    u16 id, op;
    vaddr eip;  /* offset in CS of the first byte */
    vaddr next; /* eip + len, in 32 bits whatever the code size: a 16-bit segment goes on beyond FFFF, and only targets
                 * of jumps are cut to 16 bits */
    vaddr target; /* OPK_REL: the absolute EIP, wrapped to the operand size */
    u8 bytes[15];
    u8 len;
    u8 prefixes;         /* enum insn_prefix */
    u8 npfx;             /* number of legacy prefix bytes; bytes[npfx] is the first opcode byte (or 0x0f) */
    u8 opsize, addrsize; /* 2 or 4 */
    u8 opcode;           /* last opcode byte */
    u8 modrm;            /* valid if row->form != MR_NONE */
    u8 cc;               /* A_CC rows: condition 0..15 */
    u8 nops;
    struct operand opnd[4];
    u8 seg;         /* segment of the memory operand: override, or the default for its base (enum segreg) */
    s8 base, index; /* enum gpr or -1; 16-bit forms decode to BX/BP + SI/DI here with addrsize 2; strings: ESI (seg: the
                     * override or DS) if the form has a source, else EDI (seg: ES). The destination is always ES:EDI */
    u8 scale;       /* 1, 2, 4 or 8 */
    u32 disp;       /* sign-extended to 32 bits */
    u32 imm, imm2;  /* imm is sign-extended to the operand size for Ibs, to 32 bits for J, else zero-extended; imm2:
                       ENTER's level, far selector, second immediate */
};

static inline bool insn_has_mem(const struct insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_MEM) return true;
    return false;
}
/* The explicit memory operand (ModRM or moffs), or NULL. Implicit ones (strings, stack) are not operands of kind
 * OPK_MEM but X/Y encodings appear in nops as OPK_MEM with base ESI/EDI and the right segment. */
static inline const struct operand *insn_mem(const struct insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_MEM) return &in->opnd[i];
    return NULL;
}

/* Whether its access to memory is a locked one: for everybody else, reading and writing are one (SDM vol. 3, 9.1.2). */
static inline bool insn_locked(const struct insn *in)
{
    return in->prefixes & IP_LOCK || (in->row->attr & A_LOCKED && insn_has_mem(in));
}

/* The offset of its memory operand in segment in->seg. */
static inline u32 insn_address(const struct insn *in, const u32 gpr[8])
{
    u32 ea = in->disp;
    if (in->base >= 0) ea += gpr[in->base];
    if (in->index >= 0) ea += gpr[in->index] * in->scale;
    return in->addrsize == 4 ? ea : ea & 0xffff;
}

bool insn_writes_mem(const struct insn *in); /* its explicit memory operand */

unsigned insn_imm_bytes(const struct insn *in); /* of immediates and targets, at the end of the encoding */
/* Where in its bytes the instruction has a displacement, or at its end an immediate or relative target, of 32 bits; 0:
 * nowhere. */
unsigned insn_disp32_at(const struct insn *in);
unsigned insn_imm32_at(const struct insn *in);

#endif
