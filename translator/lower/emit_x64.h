/* A typed assembler for the host forms in use, and no more. What a call is named is what is encoded.
 *
 * Register convention of translated code (docs/architecture.md, "Translated code"):
 *   guest EAX ECX EDX EBX EBP ESI EDI   the same-numbered host register, upper half zero
 *   guest ESP                           R14d
 *   R15 struct cpu   R13 jump cache   R12 window base or 10   R8-R11 scratch   RSP the host's stack
 * An instruction within 16 bytes of the buffer's end is dropped as a whole, and that is remembered in overflow: the
 * caller looks once, at the end. */
#ifndef TRANSLATOR_EMIT_X64_H
#define TRANSLATOR_EMIT_X64_H
#include "core/types.h"

enum hreg { H_AX, H_CX, H_DX, H_BX, H_SP, H_BP, H_SI, H_DI, H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15 };
#define H_NONE (-1)
#define H_CPU H_R15
#define H_JC H_R13
#define H_WINDOW H_R12 /* in modes that have a window: where guest linear 0 is in it */
#define H_TEN H_R12    /* in the others: XL_NO_WINDOW, a shift count */
#define H_ESP H_R14

/* A host memory operand. */
struct hmem {
    s8 base, index; /* enum hreg or H_NONE */
    u8 scale;       /* 1, 2, 4, 8 */
    u8 at; /* disp is the displacement of the instruction that is being lowered, which has it there; 0: it is not
              (reloc.h) */
    s32 disp;
};
static inline struct hmem hm(int base, s32 disp)
{
    return (struct hmem){ .base = base, .index = H_NONE, .scale = 1, .disp = disp };
}
static inline struct hmem hmx(int base, int index, unsigned scale, s32 disp)
{
    return (struct hmem){ .base = base, .index = index, .scale = scale, .disp = disp };
}
#define CPU_FIELD(f) hm(H_CPU, (s32)offsetof(struct cpu, f))

/* What in the code depends on where the block lies, or is a constant of 32 bits that the guest has as it is: noted when
 * it is emitted, for reloc.c to correct. All kinds are of 32 bits. */
enum reloc_kind {
    RELOC_EIP,   /* an EIP as far from the block's as the guest's code says */
    RELOC_SLOT,  /* the displacement, in a jump cache, of a field of the entry for the EIP of the note before */
    RELOC_PLAIN, /* a constant of the guest's */
    RELOC_KINDS
};
struct reloc {
    u16 at; /* host offset in the block */
    u16 kind : 2;
    u16 field : 14; /* guest offset in the block of 32 bits that it changes with, one for one; 0: none */
};

/* For each instruction of a block: an address and an immediate in it, twice, its displacement up to three times (of an
 * x87 instruction, which has no immediate, once more). And what ends one: a return address, two ways through the jump
 * cache, two edges. The x87 unit's pointers: those of the turn before, and both on two ways out and at the end. */
#define XL_MAX_RELOCS (48 * 6 + 1 + 2 * 4 + 2 + 1 + 3 * 2)
struct reloc_list {
    struct reloc r[XL_MAX_RELOCS];
    unsigned n;
    unsigned insn; /* guest offset in the block of the instruction that is being lowered */
    bool fixed;    /* its constants are in other code, too: the block is good for no others */
};

struct emit {
    u8 *start, *p, *end; /* the writable view */
    bool overflow;
    struct reloc_list *relocs; /* notes (reloc.h) */
};

/* The last 32 bits emitted. at: where in the instruction that is being lowered what they change with is
 * (insn_imm32_at(), insn_disp32_at()); 0: nowhere. */
void emit_note(struct emit *e, enum reloc_kind kind, unsigned at);

void emit_bytes(struct emit *e, const void *b, unsigned n);

/* The general forms. pfx: 0, 0x66, 0xf2 or 0xf3 (several: low byte first, e.g. 0x66f3). opc: 0xNN, 0x0fNN, 0x0f38NN. */
enum opform { OF_W = 1, OF_BYTE_REG = 2 /* reg 4..7 is spl..dil: force REX */ };
void emit_op_rm(struct emit *e, u32 pfx, u32 opc, unsigned flags, int reg, struct hmem m);
void emit_op_rr(struct emit *e, u32 pfx, u32 opc, unsigned flags, int reg, int rm);

void emit_lea16(struct emit *e, int dst, struct hmem m); /* the upper half stays */
void emit_lea32(struct emit *e, int dst, struct hmem m);
void emit_lea64(struct emit *e, int dst, struct hmem m);
void emit_mov_rr32(struct emit *e, int dst, int src);
void emit_mov_rr64(struct emit *e, int dst, int src);
void emit_mov_ri32(struct emit *e, int dst, u32 imm);
void emit_mov_ri64(struct emit *e, int dst, u64 imm);
void emit_mov_ri64_long(struct emit *e, int dst, u64 imm); /* of one length, whatever imm is */
void emit_mov_ri8(struct emit *e, unsigned dst, u8 imm);   /* 0..7 = AL CL DL BL AH CH DH BH */
void emit_bswap32(struct emit *e, int dst);
void emit_load32(struct emit *e, int dst, struct hmem m);
void emit_load64(struct emit *e, int dst, struct hmem m);
void emit_loads32(struct emit *e, int dst, struct hmem m);                  /* movsxd */
void emit_loadz(struct emit *e, int dst, struct hmem m, unsigned size);     /* 1, 2: zero-extended; 4 */
void emit_store(struct emit *e, struct hmem m, int src, unsigned size);     /* 1 (src as spl..r15b form), 2, 4, 8 */
void emit_store_imm(struct emit *e, struct hmem m, u32 imm, unsigned size); /* 8: sign-extended */
void emit_movzx16(struct emit *e, int dst, int src);
void emit_rorx32(struct emit *e, int dst, int src, unsigned n);
void emit_shrx32(struct emit *e, int dst, int src, int count);
void emit_shrx64(struct emit *e, int dst, int src, int count);
void emit_shlx64(struct emit *e, int dst, int src, int count);
void emit_sarx32(struct emit *e, int dst, int src, int count);
void emit_not64(struct emit *e, int reg); /* changes no flags */
void emit_and_ri32(struct emit *e, int dst, u32 imm);
void emit_inc64_m(struct emit *e, struct hmem m);
void emit_add64_mi8(struct emit *e, struct hmem m, u8 imm); /* sign-extended */
void emit_rdtsc(struct emit *e);
void emit_pushfq(struct emit *e);
/* The arithmetic flags to AH and, of OF, AL; and back, AL being 0 or 1. */
void emit_flags_to_ax(struct emit *e);
void emit_flags_from_ax(struct emit *e);
void emit_pop64(struct emit *e, int dst);
void emit_jmp_m(struct emit *e, struct hmem m);
void emit_call_m(struct emit *e, struct hmem m);

/* Branches to be patched. Each returns the address of its displacement. */
u8 *emit_jrcxz(struct emit *e); /* rel8, tests RCX */
u8 *emit_jecxz(struct emit *e); /* rel8, tests ECX */
u8 *emit_jmp8(struct emit *e);
u8 *emit_jcc8(struct emit *e, unsigned cc);
u8 *emit_jmp32(struct emit *e);
u8 *emit_jcc32(struct emit *e, unsigned cc);
void emit_patch8(struct emit *e, u8 *at, const u8 *target);
void emit_patch32(u8 *at, const u8 *target); /* both in the same view */
#endif
