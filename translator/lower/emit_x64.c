/* Owns the encoding of host instructions (SDM vol. 2, chapter 2). See emit_x64.h for the forms. */
#include "translator/lower/emit_x64.h"

#define INSN_MAX 16 /* bytes of what has no immediate, and one more */

/* Room for n bytes more, of an instruction or a part of one. */
static bool has_room(struct emit *e, unsigned n)
{
    bool fits = (size_t)(e->end - e->p) >= n;
    e->overflow |= !fits;
    return fits;
}

static void emit_u8(struct emit *e, u8 v)
{
    if (has_room(e, 1)) *e->p++ = v;
}

void emit_bytes(struct emit *e, const void *b, unsigned n)
{
    if (!has_room(e, n)) return;
    __builtin_memcpy(e->p, b, n);
    e->p += n;
}

static void emit_u32(struct emit *e, u32 v) { emit_bytes(e, &v, 4); }

void emit_note(struct emit *e, enum reloc_kind kind, unsigned at)
{
    struct reloc_list *l = e->relocs;
    if (e->overflow || (kind == RELOC_PLAIN && (!at || l->fixed))) return;
    BUG_ON(l->n == XL_MAX_RELOCS);
    l->r[l->n++] =
        (struct reloc){ .at = (u16)(e->p - 4 - e->start), .kind = kind, .field = (u16)(at ? l->insn + at : 0) };
}

/* What follows puts bytes at p, for which there is room, and returns where it has come to. */
static u8 *put_u32(u8 *p, u32 v)
{
    __builtin_memcpy(p, &v, 4);
    return p + 4;
}

/* Prefixes, REX, opcode. */
static u8 *put_opcode(u8 *p, u32 pfx, unsigned rex, bool always_rex, u32 opc)
{
    for (; pfx; pfx >>= 8) *p++ = (u8)pfx;
    if (rex || always_rex) *p++ = (u8)(0x40 | rex);
    if (opc >> 16) *p++ = (u8)(opc >> 16);
    if (opc >> 8) *p++ = (u8)(opc >> 8);
    *p++ = (u8)opc;
    return p;
}

static u8 *put_modrm_mem(u8 *p, int reg, struct hmem m)
{
    unsigned r = (unsigned)(reg & 7) << 3;
    unsigned ss = m.index == H_NONE ? 0 : (unsigned)__builtin_ctz(m.scale);
    unsigned ix = m.index == H_NONE ? 4 : (unsigned)(m.index & 7);
    if (m.base == H_NONE) { /* [disp32] or [index*scale+disp32]: mod 00, SIB with base 101 */
        *p++ = (u8)(r | 4);
        *p++ = (u8)(ss << 6 | ix << 3 | 5);
        return put_u32(p, (u32)m.disp);
    }
    unsigned b = (unsigned)(m.base & 7);
    unsigned mod = m.at ? 2 : m.disp == 0 && b != 5 ? 0 : m.disp >= -128 && m.disp <= 127 ? 1 : 2;
    if (m.index != H_NONE || b == 4) {
        *p++ = (u8)(mod << 6 | r | 4);
        *p++ = (u8)(ss << 6 | ix << 3 | b);
    } else {
        *p++ = (u8)(mod << 6 | r | b);
    }
    if (mod == 1) *p++ = (u8)m.disp;
    return mod == 2 ? put_u32(p, (u32)m.disp) : p;
}

void emit_op_rm(struct emit *e, u32 pfx, u32 opc, unsigned flags, int reg, struct hmem m)
{
    if (!has_room(e, INSN_MAX)) return;
    unsigned rex = (flags & OF_W ? 8 : 0) | (reg & 8 ? 4 : 0) | (m.index != H_NONE && (m.index & 8) ? 2 : 0)
                   | (m.base != H_NONE && (m.base & 8) ? 1 : 0);
    e->p = put_modrm_mem(put_opcode(e->p, pfx, rex, (flags & OF_BYTE_REG) && reg >= 4, opc), reg, m);
    if (m.at) emit_note(e, RELOC_PLAIN, m.at);
}

void emit_op_rr(struct emit *e, u32 pfx, u32 opc, unsigned flags, int reg, int rm)
{
    if (!has_room(e, INSN_MAX)) return;
    unsigned rex = (flags & OF_W ? 8 : 0) | (reg & 8 ? 4 : 0) | (rm & 8 ? 1 : 0);
    u8 *p = put_opcode(e->p, pfx, rex, (flags & OF_BYTE_REG) && (reg >= 4 || rm >= 4), opc);
    *p++ = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
    e->p = p;
}

void emit_lea32(struct emit *e, int dst, struct hmem m)
{
    if (m.base == H_NONE && m.index == H_NONE) {
        emit_mov_ri32(e, dst, (u32)m.disp);
        emit_note(e, RELOC_PLAIN, m.at);
    } else if (m.index == H_NONE && m.disp == 0 && !m.at) {
        emit_mov_rr32(e, dst, m.base);
    } else {
        emit_op_rm(e, 0, 0x8d, 0, dst, m);
    }
}
void emit_lea16(struct emit *e, int dst, struct hmem m) { emit_op_rm(e, 0x66, 0x8d, 0, dst, m); }
void emit_lea64(struct emit *e, int dst, struct hmem m) { emit_op_rm(e, 0, 0x8d, OF_W, dst, m); }
void emit_mov_rr32(struct emit *e, int dst, int src) { emit_op_rr(e, 0, 0x8b, 0, dst, src); }
void emit_mov_rr64(struct emit *e, int dst, int src) { emit_op_rr(e, 0, 0x8b, OF_W, dst, src); }

void emit_mov_ri32(struct emit *e, int dst, u32 imm)
{
    if (!has_room(e, INSN_MAX)) return;
    u8 *p = e->p;
    if (dst & 8) *p++ = 0x41;
    *p++ = (u8)(0xb8 | (dst & 7));
    e->p = put_u32(p, imm);
}

void emit_mov_ri64(struct emit *e, int dst, u64 imm)
{
    if (imm >> 32 == 0) emit_mov_ri32(e, dst, (u32)imm);
    else emit_mov_ri64_long(e, dst, imm);
}

void emit_mov_ri64_long(struct emit *e, int dst, u64 imm)
{
    emit_u8(e, (u8)(dst & 8 ? 0x49 : 0x48));
    emit_u8(e, (u8)(0xb8 | (dst & 7)));
    emit_bytes(e, &imm, 8);
}

void emit_mov_ri8(struct emit *e, unsigned dst, u8 imm)
{
    emit_u8(e, (u8)(0xb0 | dst));
    emit_u8(e, imm);
}

void emit_bswap32(struct emit *e, int dst)
{
    if (dst & 8) emit_u8(e, 0x41);
    emit_u8(e, 0x0f);
    emit_u8(e, (u8)(0xc8 | (dst & 7)));
}

void emit_load32(struct emit *e, int dst, struct hmem m) { emit_op_rm(e, 0, 0x8b, 0, dst, m); }
void emit_load64(struct emit *e, int dst, struct hmem m) { emit_op_rm(e, 0, 0x8b, OF_W, dst, m); }
void emit_loads32(struct emit *e, int dst, struct hmem m) { emit_op_rm(e, 0, 0x63, OF_W, dst, m); }

void emit_loadz(struct emit *e, int dst, struct hmem m, unsigned size)
{
    emit_op_rm(e, 0, size == 1 ? 0x0fb6 : size == 2 ? 0x0fb7 : 0x8b, 0, dst, m);
}

void emit_store(struct emit *e, struct hmem m, int src, unsigned size)
{
    if (size == 1) emit_op_rm(e, 0, 0x88, OF_BYTE_REG, src, m);
    else emit_op_rm(e, size == 2 ? 0x66 : 0, 0x89, size == 8 ? OF_W : 0, src, m);
}

void emit_store_imm(struct emit *e, struct hmem m, u32 imm, unsigned size)
{
    emit_op_rm(e, size == 2 ? 0x66 : 0, size == 1 ? 0xc6 : 0xc7, size == 8 ? OF_W : 0, 0, m);
    if (size == 1) emit_u8(e, (u8)imm);
    else if (size == 2) {
        emit_u8(e, (u8)imm);
        emit_u8(e, (u8)(imm >> 8));
    } else emit_u32(e, imm);
}

void emit_movzx16(struct emit *e, int dst, int src) { emit_op_rr(e, 0, 0x0fb7, 0, dst, src); }

/* VEX.LZ.pp.map.W opcode /r, register forms (SDM vol. 2, 2.3.5). */
static u8 *put_vex(u8 *p, unsigned map, unsigned pp, bool w, int vvvv, u8 opc, int reg, int rm)
{
    *p++ = 0xc4;
    *p++ = (u8)((reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | map);
    *p++ = (u8)((w ? 0x80 : 0) | (~vvvv & 15) << 3 | pp);
    *p++ = opc;
    *p++ = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
    return p;
}

static void emit_vex(struct emit *e, unsigned map, unsigned pp, bool w, int vvvv, u8 opc, int reg, int rm)
{
    if (has_room(e, INSN_MAX)) e->p = put_vex(e->p, map, pp, w, vvvv, opc, reg, rm);
}

void emit_rorx32(struct emit *e, int dst, int src, unsigned n)
{
    if (!has_room(e, INSN_MAX)) return;
    u8 *p = put_vex(e->p, 3, 3, false, 0, 0xf0, dst, src);
    *p++ = (u8)n;
    e->p = p;
}
void emit_shrx32(struct emit *e, int dst, int src, int count) { emit_vex(e, 2, 3, false, count, 0xf7, dst, src); }
void emit_shrx64(struct emit *e, int dst, int src, int count) { emit_vex(e, 2, 3, true, count, 0xf7, dst, src); }
void emit_shlx64(struct emit *e, int dst, int src, int count) { emit_vex(e, 2, 1, true, count, 0xf7, dst, src); }
void emit_sarx32(struct emit *e, int dst, int src, int count) { emit_vex(e, 2, 2, false, count, 0xf7, dst, src); }

void emit_not64(struct emit *e, int reg) { emit_op_rr(e, 0, 0xf7, OF_W, 2, reg); }
void emit_and_ri32(struct emit *e, int dst, u32 imm)
{
    emit_op_rr(e, 0, 0x81, 0, 4, dst);
    emit_u32(e, imm);
}
void emit_inc64_m(struct emit *e, struct hmem m) { emit_op_rm(e, 0, 0xff, OF_W, 0, m); }
void emit_add64_mi8(struct emit *e, struct hmem m, u8 imm)
{
    emit_op_rm(e, 0, 0x83, OF_W, 0, m);
    emit_u8(e, imm);
}
void emit_rdtsc(struct emit *e) { emit_bytes(e, "\x0f\x31", 2); }
void emit_flags_to_ax(struct emit *e) { emit_bytes(e, "\x9f\x0f\x90\xc0", 4); /* lahf; seto al */ }
void emit_flags_from_ax(struct emit *e) { emit_bytes(e, "\x04\x7f\x9e", 3); /* add al, 7f; sahf */ }
void emit_pushfq(struct emit *e) { emit_u8(e, 0x9c); }
void emit_pop64(struct emit *e, int dst)
{
    if (dst & 8) emit_u8(e, 0x41);
    emit_u8(e, (u8)(0x58 | (dst & 7)));
}

void emit_jmp_m(struct emit *e, struct hmem m) { emit_op_rm(e, 0, 0xff, 0, 4, m); }
void emit_call_m(struct emit *e, struct hmem m) { emit_op_rm(e, 0, 0xff, 0, 2, m); }

static u8 *emit_rel8(struct emit *e)
{
    emit_u8(e, 0);
    return e->p - 1;
}
static u8 *emit_rel32(struct emit *e)
{
    emit_u32(e, 0);
    return e->p - 4;
}
u8 *emit_jrcxz(struct emit *e)
{
    emit_u8(e, 0xe3);
    return emit_rel8(e);
}
u8 *emit_jecxz(struct emit *e)
{
    emit_u8(e, 0x67);
    emit_u8(e, 0xe3);
    return emit_rel8(e);
}
u8 *emit_jmp8(struct emit *e)
{
    emit_u8(e, 0xeb);
    return emit_rel8(e);
}
u8 *emit_jcc8(struct emit *e, unsigned cc)
{
    emit_u8(e, (u8)(0x70 | cc));
    return emit_rel8(e);
}
u8 *emit_jmp32(struct emit *e)
{
    emit_u8(e, 0xe9);
    return emit_rel32(e);
}
u8 *emit_jcc32(struct emit *e, unsigned cc)
{
    emit_u8(e, 0x0f);
    emit_u8(e, (u8)(0x80 | cc));
    return emit_rel32(e);
}

void emit_patch8(struct emit *e, u8 *at, const u8 *target)
{
    if (e->overflow) return;
    s64 d = target - (at + 1);
    BUG_ON(d < -128 || d > 127);
    *at = (u8)d;
}

void emit_patch32(u8 *at, const u8 *target)
{
    s32 d = (s32)(target - (at + 4));
    __builtin_memcpy(at, &d, 4);
}
