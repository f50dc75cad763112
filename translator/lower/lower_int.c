/* Pass 2: instructions that are copied. Only what 64-bit mode encodes differently, or cannot encode, is more than that.
 */
#include "translator/lower/island.h"
#include "translator/lower/lower_int.h"
#include "translator/lower/lower_mem.h"

/* Whether its operands are as wide as the operand size says. In 32-bit code a prefix that says nothing is copied, too;
 * in 16-bit code there need not be any. */
static bool row_has_width(const struct insn_row *row)
{
    for (unsigned i = 0; i < 4; i++) switch (row->enc[i]) {
        case ENC_Ev:
        case ENC_Gv:
        case ENC_Rv:
        case ENC_Zv:
        case ENC_eAX:
        case ENC_Ov: return true;
        default: break;
        }
    return row->op == OP_CBW || row->op == OP_CWD;
}

static u32 size_prefix(const struct xl_ctx *x, const struct insn *in)
{
    bool narrow = x->src->mode & MK_CS32 ? in->prefixes & IP_OPSIZE : in->opsize == 2 && row_has_width(in->row);
    return narrow ? 0x66 : 0;
}

static u32 mandatory_prefix(const struct xl_ctx *x, const struct insn *in)
{
    if (row_has_width(in->row)) return size_prefix(x, in); /* MOVBE has a row for either */
    switch (in->row->pfx) {
    case PFX_66: return 0x66;
    case PFX_F3: return 0xf3;
    case PFX_F2: return 0xf2;
    case PFX_NP: return 0;
    default: return size_prefix(x, in);
    }
}

/* The prefixes of the copy. LOCK is dropped where nobody else looks: it costs some twenty cycles, and what one
 * processor does to its own memory is seen by itself in order. */
static u32 copied_prefixes(const struct xl_ctx *x, const struct insn *in)
{
    u32 pfx = mandatory_prefix(x, in);
    return x->opt->shared && in->prefixes & IP_LOCK ? pfx << 8 | 0xf0 : pfx;
}

/* 82 is an alias of 80 that 64-bit mode does not have. */
static u32 opcode_of(const struct insn *in)
{
    static const u32 map[] = { [MAP_1B] = 0, [MAP_0F] = 0x0f00, [MAP_0F38] = 0x0f3800, [MAP_0F3A] = 0x0f3a00 };
    if (in->row->map == MAP_1B && in->opcode == 0x82) return 0x80;
    return map[in->row->map] | in->opcode;
}

static bool reg_field_is_gpr(const struct insn *in)
{
    for (unsigned i = 0; i < 4; i++) switch (in->row->enc[i]) {
        case ENC_Gw:
        case ENC_Gd:
        case ENC_Gv: return true;
        default: break;
        }
    return false;
}

static bool rm_field_is_gpr(const struct insn *in)
{
    for (unsigned i = 0; i < 4; i++) switch (in->row->enc[i]) {
        case ENC_Ew:
        case ENC_Ed:
        case ENC_Ev:
        case ENC_Rw:
        case ENC_Rd:
        case ENC_Rv:
        case ENC_RvMw:
        case ENC_RdMb:
        case ENC_RdMw: return true;
        default: break;
        }
    return false;
}

static bool has_high_byte(const struct insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_REG && in->opnd[i].size == 1 && in->opnd[i].reg >= 4) return true;
    return false;
}

static void copy_imm(struct xl_ctx *x, const struct insn *in)
{
    unsigned n = insn_imm_bytes(in);
    emit_bytes(&x->e, in->bytes + in->len - n, n);
    emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
}

/* Faults if a byte at m cannot be read, or written. Nobody else may see the byte being written back (policy.c). */
static void touch(struct xl_ctx *x, struct hmem m, bool write)
{
    emit_loadz(&x->e, H_R10, m, 1); /* m may be made of R8 and R9 */
    if (write) emit_store(&x->e, m, H_R10, 1);
}

static void ident_mem(struct xl_ctx *x, const struct insn *in, int reg)
{
    bool write = insn_writes_mem(in);
    struct hmem m = xl_mem(x, in, write ? XL_W : XL_R, insn_mem(in)->size);
    if (!has_high_byte(in)) {
        emit_op_rm(&x->e, copied_prefixes(x, in), opcode_of(in), 0, reg, m);
        copy_imm(x, in);
        return;
    }
    /* AH..BH: no REX, so the host address goes through ESI, which no such instruction uses otherwise. While that is in
     * place nothing may fault: what a window might refuse is tried before. */
    if (m.base == H_WINDOW) touch(x, m, write);
    emit_mov_rr64(&x->e, H_R11, H_SI);
    emit_lea64(&x->e, H_SI, m);
    emit_op_rm(&x->e, mandatory_prefix(x, in), opcode_of(in), 0, reg, hm(H_SI, 0));
    copy_imm(x, in);
    emit_mov_rr64(&x->e, H_SI, H_R11);
}

void lower_ident(struct xl_ctx *x, const struct insn *in)
{
    const struct insn_row *row = in->row;
    if (row->form == MR_NONE) {
        emit_bytes(&x->e, "\x66", size_prefix(x, in) ? 1 : 0);
        emit_bytes(&x->e, in->bytes + in->npfx, in->len - in->npfx);
        emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
        return;
    }
    int reg = in->modrm >> 3 & 7, rm = in->modrm & 7;
    if (reg_field_is_gpr(in)) reg = xl_gpr((unsigned)reg);
    if (in->modrm >> 6 != 3) {
        ident_mem(x, in, reg);
        return;
    }
    if (rm_field_is_gpr(in)) rm = xl_gpr((unsigned)rm);
    emit_op_rr(&x->e, mandatory_prefix(x, in), opcode_of(in), 0, reg, rm);
    copy_imm(x, in);
}

void lower_nop(struct xl_ctx *x, const struct insn *in) { (void)x, (void)in; }

void lower_lea(struct xl_ctx *x, const struct insn *in)
{
    int dst = xl_gpr(in->opnd[0].reg);
    if (in->opsize == 4 && in->addrsize == 2) {
        emit_lea32(&x->e, H_R8, xl_ea(in));
        emit_movzx16(&x->e, dst, H_R8);
    } else if (in->opsize == 4) emit_lea32(&x->e, dst, xl_ea(in));
    else emit_lea16(&x->e, dst, xl_ea(in));
}

/* 40..4F are REX prefixes in 64-bit mode. */
void lower_incdec_z(struct xl_ctx *x, const struct insn *in)
{
    emit_op_rr(&x->e, in->opsize == 2 ? 0x66 : 0, 0xff, 0, in->op == OP_INC ? 0 : 1, xl_gpr(in->opnd[0].reg));
}

void lower_mov_zv(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *dst = &in->opnd[0];
    if (dst->size == 4) {
        emit_mov_ri32(&x->e, xl_gpr(dst->reg), in->imm);
        emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
    } else if (dst->size == 2) {
        emit_op_rr(&x->e, 0x66, 0xc7, 0, 0, xl_gpr(dst->reg));
        emit_bytes(&x->e, in->bytes + in->len - 2, 2);
    } else {
        emit_mov_ri8(&x->e, dst->reg, (u8)in->imm);
    }
}

/* A0..A3 take 64-bit addresses in 64-bit mode. */
void lower_moffs(struct xl_ctx *x, const struct insn *in)
{
    bool store = in->opnd[0].kind == OPK_MEM;
    unsigned size = insn_mem(in)->size;
    struct hmem m = xl_mem(x, in, store ? XL_W : XL_R, size);
    if (store) emit_store(&x->e, m, H_AX, size);
    else emit_op_rm(&x->e, size == 2 ? 0x66 : 0, size == 1 ? 0x8a : 0x8b, 0, H_AX, m);
}

/* XCHG with memory is locked: three MOVs are less where nobody else looks. */
void lower_xchg_mem(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *r = in->opnd[0].kind == OPK_REG ? &in->opnd[0] : &in->opnd[1];
    if (r->size == 1) {
        lower_ident(x, in);
        return;
    }
    int reg = xl_gpr(r->reg);
    u32 pfx = r->size == 2 ? 0x66 : 0;
    struct hmem m = xl_mem(x, in, XL_W, r->size);
    if (x->opt->shared) {
        emit_op_rm(&x->e, pfx, 0x87, 0, reg, m);
        return;
    }
    emit_op_rm(&x->e, pfx, 0x8b, 0, H_R11, m);
    emit_op_rm(&x->e, pfx, 0x89, 0, reg, m);
    emit_op_rr(&x->e, pfx, 0x8b, 0, reg, H_R11);
}

void lower_xchg_zv(struct xl_ctx *x, const struct insn *in)
{
    const struct operand *r = in->row->enc[0] == ENC_Zv ? &in->opnd[0] : &in->opnd[1];
    emit_op_rr(&x->e, in->opsize == 2 ? 0x66 : 0, 0x87, 0, H_AX, xl_gpr(r->reg));
}

void lower_bswap(struct xl_ctx *x, const struct insn *in) { emit_bswap32(&x->e, xl_gpr(in->opnd[0].reg)); }

/* BT m32, r32 reaches beyond its operand: address the right dword, then use the low five bits. */
void lower_bt_mem(struct xl_ctx *x, const struct insn *in)
{
    int reg = xl_gpr(in->opnd[1].reg);
    struct emit *e = &x->e;
    xl_room(x);
    emit_rorx32(e, H_R11, reg, 5);
    emit_mov_ri32(e, H_R10, 27);
    emit_shrx32(e, H_R11, H_R11, H_R10);
    emit_mov_ri32(e, H_R9, 5);
    emit_sarx32(e, H_R9, reg, H_R9);
    emit_lea32(e, H_R8, xl_ea(in));
    struct hmem ea = hmx(H_R8, H_R9, 4, 0);
    emit_lea32(e, H_R8, ea);
    struct hmem m = xl_mem_at(x, hm(H_R8, 0), (enum segreg)in->seg, in->op == OP_BT ? XL_R : XL_W, 4);
    emit_op_rm(e, copied_prefixes(x, in), opcode_of(in), 0, H_R11, m);
}

void lower_xlat(struct xl_ctx *x, const struct insn *in)
{
    xl_room(x);
    emit_op_rr(&x->e, 0, 0x0fb6, 0, H_R8, H_AX);
    struct hmem m = hmx(H_BX, H_R8, 1, 0);
    m = (in->addrsize == 4 ? xl_mem_at : xl_mem_at16)(x, m, (enum segreg)in->seg, XL_R, 1);
    emit_op_rm(&x->e, 0, 0x8a, 0, H_AX, m);
}

void lower_cldstd(struct xl_ctx *x, const struct insn *in)
{
    emit_store_imm(&x->e, CPU_FIELD(df), in->op == OP_CLD ? 1 : (u32)-1, 4);
}
