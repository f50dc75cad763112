/* From a row of insn.def to bytes: what the table tests and the differential tester build instructions with. The caller
 * chooses what the row leaves open; what the row fixes (mandatory prefix, ModRM.reg, register or memory form) wins.
 * Written against the SDM, independently of decode.c, so that the two check each other. */
#ifndef TESTS_INSN_ENCODE_H
#define TESTS_INSN_ENCODE_H
#include "translator/front/insn.h"

struct encoding {
    u8 prefix[14]; /* legacy prefixes, in order, before a mandatory F2, F3 or 66 */
    unsigned nprefix;
    u8 offset; /* added to the row's opcode: register of Z forms, condition */
    u8 modrm, sib;
    u32 disp;
    u32 imm, imm2;
    bool code32;
};

static inline bool encode_has(const u8 *list, unsigned n, u8 byte)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == byte) return true;
    return false;
}

static inline unsigned encode_put(u8 *out, unsigned n, u32 val, unsigned size)
{
    for (unsigned i = 0; i < size; i++) out[n + i] = (u8)(val >> (8 * i));
    return n + size;
}

static inline bool row_ignores_mod(const struct insn_row *row)
{
    return row->enc[0] == ENC_Cd || row->enc[0] == ENC_Dd || row->enc[1] == ENC_Cd || row->enc[1] == ENC_Dd;
}

/* ModRM as the row allows it. */
static inline u8 encode_modrm(const struct insn_row *row, u8 modrm)
{
    if (row->ext >= 0) modrm = (u8)((modrm & 0xc7) | row->ext << 3);
    if (row->form == MR_REG) modrm |= 0xc0;
    if (row->form == MR_MEM && modrm >= 0xc0) modrm &= 0x3f;
    if (row->rm >= 0) modrm = (u8)((modrm & 0xf8) | row->rm);
    return modrm;
}

/* Returns the length; out has room for 32 bytes (more than 15 can come of many prefixes). */
static inline unsigned insn_encode(const struct insn_row *row, const struct encoding *e, u8 *out)
{
    static const u8 mandatory[] = { [PFX_66] = 0x66, [PFX_F3] = 0xf3, [PFX_F2] = 0xf2 };
    unsigned n = 0;
    bool op66, addr16;

    for (; n < e->nprefix; n++) out[n] = e->prefix[n];
    if (row->pfx >= PFX_66 && !encode_has(out, n, mandatory[row->pfx])) out[n++] = mandatory[row->pfx];
    op66 = encode_has(out, n, 0x66);
    addr16 = encode_has(out, n, 0x67) == e->code32;
    if (row->map != MAP_1B) out[n++] = 0x0f;
    if (row->map == MAP_0F38) out[n++] = 0x38;
    if (row->map == MAP_0F3A) out[n++] = 0x3a;
    out[n++] = (u8)(row->opcode + e->offset);
    if (row->form != MR_NONE) {
        u8 modrm = encode_modrm(row, e->modrm);
        unsigned mod = modrm >> 6, rm = modrm & 7;
        unsigned base = rm;

        out[n++] = modrm;
        if (mod != 3 && !row_ignores_mod(row)) {
            if (!addr16 && rm == 4) {
                out[n++] = e->sib;
                base = e->sib & 7;
            }
            if (mod == 1) n = encode_put(out, n, e->disp, 1);
            else if (mod == 2 || (mod == 0 && base == (addr16 ? 6 : 5)))
                n = encode_put(out, n, e->disp, addr16 ? 2 : 4);
        }
    }
    for (unsigned i = 0, nimm = 0; i < 4; i++) {
        unsigned v = e->code32 != op66 ? 4 : 2;
        u32 imm = nimm ? e->imm2 : e->imm;

        switch (row->enc[i]) {
        case ENC_Ib:
        case ENC_Ibs:
        case ENC_Jb:
            n = encode_put(out, n, imm, 1);
            nimm++;
            break;
        case ENC_Iw:
            n = encode_put(out, n, imm, 2);
            nimm++;
            break;
        case ENC_Iz:
        case ENC_Jz:
            n = encode_put(out, n, imm, v);
            nimm++;
            break;
        case ENC_Ap:
            n = encode_put(out, encode_put(out, n, e->imm, v), e->imm2, 2);
            nimm++;
            break;
        case ENC_Ob:
        case ENC_Ov: n = encode_put(out, n, e->disp, addr16 ? 2 : 4); break;
        default: break;
        }
    }
    return n;
}
#endif
