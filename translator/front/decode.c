/* Bytes to struct insn.
 *
 * The table of insn.def decides: a first-level index by opcode map, mandatory prefix and opcode, and for opcodes whose
 * meaning depends on ModRM a second level by ModRM, both built once in decoder_new(). What a row's operands are tells
 * which bytes follow, so the length falls out of the same walk. Capstone is the second opinion: test_decode.c sweeps
 * the opcode space against it and lists every disagreement; at run time it is asked only how long an instruction is
 * that the table does not have, and for text. (The walk takes 15 ns an instruction, capstone 160 ns, and where the two
 * differ the table is right.)
 *
 *   I1  no byte at or beyond n, or beyond the 15th, is ever read.          [only take() reads]
 *   I2  row is never NULL; a row other than INSN_INVALID is matched in full: prefix, ModRM, operands, LOCK, feature.
 *   I3  1 <= len <= 15 whenever DECODE_OK is returned.
 *
 * Enter at decode(). SDM vol. 2, chapter 2 and appendix A. */
#include "translator/front/decode.h"

#include <capstone/capstone.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define MAX_LEN 15
#define MAPS 4
#define PFXS 4 /* NP, 66, F3, F2: enum simd_prefix less PFX_ANY */
#define GROUP_BIT 0x8000u

/* Second level: rows by ModRM of one (map, prefix, opcode). */
struct group {
    u16 mem[8];    /* by reg */
    u16 reg[8][8]; /* by reg, rm */
};

struct decoder {
    u16 index[MAPS][PFXS][256]; /* enum insn_id, or GROUP_BIT | number of a group */
    struct group *groups;
    unsigned ngroups;
    csh cs16, cs32;
    cs_insn *text16, *text32; /* capstone's scratch, one for each handle */
};

/* ---- The index ---- */

static bool row_covers(const struct insn_row *row, unsigned map, unsigned pfx, unsigned opcode)
{
    return row->map == map && (row->pfx == PFX_ANY || row->pfx == pfx) && opcode >= row->opcode
           && opcode < (unsigned)row->opcode + row->count;
}

static bool row_needs_group(const struct insn_row *row)
{
    return row->ext >= 0 || row->rm >= 0 || row->form == MR_MEM || row->form == MR_REG;
}

static void group_add(struct group *g, unsigned id)
{
    const struct insn_row *row = &insn_rows[id];

    for (unsigned reg = 0; reg < 8; reg++) {
        if (row->ext >= 0 && reg != (unsigned)row->ext) continue;
        if (row->form != MR_REG) g->mem[reg] = (u16)id;
        if (row->form == MR_MEM) continue;
        for (unsigned rm = 0; rm < 8; rm++)
            if (row->rm < 0 || rm == (unsigned)row->rm) g->reg[reg][rm] = (u16)id;
    }
}

/* Fills one cell of the first level. Rows for any prefix go in first, so that a mandatory prefix beats them. */
static int index_cell(struct decoder *d, unsigned map, unsigned pfx, unsigned opcode)
{
    u16 *cell = &d->index[map][pfx - PFX_NP][opcode];
    struct group *g = NULL;

    for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT && !g; id++)
        if (row_covers(&insn_rows[id], map, pfx, opcode) && row_needs_group(&insn_rows[id])) {
            struct group *more = realloc(d->groups, (d->ngroups + 1) * sizeof(*more));
            if (!more) return -ENOMEM;
            d->groups = more;
            g = &d->groups[d->ngroups];
            memset(g, 0, sizeof(*g));
            *cell = (u16)(GROUP_BIT | d->ngroups++);
        }
    for (unsigned specific = 0; specific < 2; specific++)
        for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++) {
            const struct insn_row *row = &insn_rows[id];
            if (!row_covers(row, map, pfx, opcode) || (row->pfx != PFX_ANY) != specific) continue;
            if (g) group_add(g, id);
            else *cell = (u16)id;
        }
    return 0;
}

/* Visits only cells that some row covers: a full product would be millions of steps. */
static int index_build(struct decoder *d)
{
    for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        for (unsigned pfx = PFX_NP; pfx <= PFX_F2; pfx++)
            for (unsigned i = 0; i < row->count; i++) {
                unsigned opcode = (unsigned)row->opcode + i;
                if (row->pfx != PFX_ANY && row->pfx != pfx) continue;
                if (d->index[row->map][pfx - PFX_NP][opcode]) continue; /* done for an earlier row */
                if (index_cell(d, row->map, pfx, opcode)) return -ENOMEM;
            }
    }
    return 0;
}

int decoder_new(struct decoder **out)
{
    struct decoder *d = calloc(1, sizeof(*d));

    if (!d) return -ENOMEM;
    if (index_build(d)) goto fail;
    if (cs_open(CS_ARCH_X86, CS_MODE_16, &d->cs16) != CS_ERR_OK) goto fail;
    if (cs_open(CS_ARCH_X86, CS_MODE_32, &d->cs32) != CS_ERR_OK) goto fail;
    d->text16 = cs_malloc(d->cs16);
    d->text32 = cs_malloc(d->cs32);
    if (!d->text16 || !d->text32) goto fail;
    *out = d;
    return 0;
fail:
    decoder_free(d);
    return -ENOMEM;
}

void decoder_free(struct decoder *d)
{
    if (!d) return;
    if (d->text16) cs_free(d->text16, 1);
    if (d->text32) cs_free(d->text32, 1);
    if (d->cs16) cs_close(&d->cs16);
    if (d->cs32) cs_close(&d->cs32);
    free(d->groups);
    free(d);
}

static const cs_insn *capstone_decode(struct decoder *d, const u8 *bytes, unsigned n, u32 eip, bool code32)
{
    const uint8_t *code = bytes;
    size_t left = n < MAX_LEN ? n : MAX_LEN;
    uint64_t address = eip;
    cs_insn *text = code32 ? d->text32 : d->text16;

    return cs_disasm_iter(code32 ? d->cs32 : d->cs16, &code, &left, &address, text) ? text : NULL;
}

/* ---- The walk over the bytes ---- */

struct cursor {
    const u8 *bytes;
    unsigned n;   /* bytes given */
    unsigned pos; /* bytes consumed */
    bool ended;   /* a byte was wanted that is not there */
};

static u32 take(struct cursor *c, unsigned size)
{
    u32 val = 0;

    if (c->ended || c->pos + size > c->n || c->pos + size > MAX_LEN) {
        c->ended = true;
        return 0;
    }
    for (unsigned i = 0; i < size; i++) val |= (u32)c->bytes[c->pos + i] << (8 * i);
    c->pos += size;
    return val;
}

static u32 take_signed(struct cursor *c, unsigned size)
{
    u32 val = take(c, size);
    return size == 1 ? (u32)(s8)val : size == 2 ? (u32)(s16)val : val;
}

/* What decode() knows beside the record itself. */
struct walk {
    struct cursor c;
    bool code32;
    u8 pfx;       /* enum simd_prefix: what a mandatory prefix would be */
    s8 seg;       /* segment override, or -1 */
    bool invalid; /* matched a row, but with an operand that does not exist */
    u8 nimm;      /* immediates taken */
};

/* Legacy prefixes, in any order and number. Of segment overrides, and of F2 and F3, the last one counts. */
static u8 take_prefixes(struct walk *w, struct insn *in)
{
    for (;;) {
        u8 byte = (u8)take(&w->c, 1);
        if (w->c.ended) return 0;
        switch (byte) {
        case 0x26: w->seg = S_ES; break;
        case 0x2e: w->seg = S_CS; break;
        case 0x36: w->seg = S_SS; break;
        case 0x3e: w->seg = S_DS; break;
        case 0x64: w->seg = S_FS; break;
        case 0x65: w->seg = S_GS; break;
        case 0x66: in->prefixes |= IP_OPSIZE; break;
        case 0x67: in->prefixes |= IP_ADDRSIZE; break;
        case 0xf0: in->prefixes |= IP_LOCK; break;
        case 0xf2: in->prefixes = (u8)((in->prefixes & ~IP_REP) | IP_REPNE); break;
        case 0xf3: in->prefixes = (u8)((in->prefixes & ~IP_REPNE) | IP_REP); break;
        default:
            in->npfx = (u8)(w->c.pos - 1);
            if (w->seg >= 0) in->prefixes |= IP_SEG;
            in->opsize = w->code32 != !!(in->prefixes & IP_OPSIZE) ? 4 : 2;
            in->addrsize = w->code32 != !!(in->prefixes & IP_ADDRSIZE) ? 4 : 2;
            w->pfx = in->prefixes & IP_REP      ? PFX_F3
                     : in->prefixes & IP_REPNE  ? PFX_F2
                     : in->prefixes & IP_OPSIZE ? PFX_66
                                                : PFX_NP;
            return byte;
        }
    }
}

/* The opcode after the prefixes, and the row. Takes ModRM only where the row has one. */
static unsigned take_opcode(const struct decoder *d, struct walk *w, struct insn *in, u8 byte)
{
    unsigned map = MAP_1B;
    unsigned id;

    if (byte == 0x0f) {
        map = MAP_0F;
        byte = (u8)take(&w->c, 1);
        if (!w->c.ended && (byte == 0x38 || byte == 0x3a)) {
            map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
            byte = (u8)take(&w->c, 1);
        }
        if (w->c.ended) return INSN_INVALID;
    }
    in->opcode = byte;
    id = d->index[map][w->pfx - PFX_NP][byte];
    if (id & GROUP_BIT) {
        const struct group *g = &d->groups[id & ~GROUP_BIT];
        unsigned reg, rm;
        in->modrm = (u8)take(&w->c, 1);
        reg = in->modrm >> 3 & 7;
        rm = in->modrm & 7;
        return in->modrm >= 0xc0 ? g->reg[reg][rm] : g->mem[reg];
    }
    if (insn_rows[id].form != MR_NONE) in->modrm = (u8)take(&w->c, 1);
    return id;
}

/* SDM vol. 2, table 2-1. A BP base makes SS the default segment. */
static void take_address16(struct walk *w, struct insn *in)
{
    static const s8 base[8] = { G_EBX, G_EBX, G_EBP, G_EBP, G_ESI, G_EDI, G_EBP, G_EBX };
    static const s8 index[8] = { G_ESI, G_EDI, G_ESI, G_EDI, -1, -1, -1, -1 };
    unsigned mod = in->modrm >> 6, rm = in->modrm & 7;

    in->base = mod == 0 && rm == 6 ? -1 : base[rm];
    in->index = index[rm];
    if (mod == 1) in->disp = take_signed(&w->c, 1);
    if (mod == 2 || in->base < 0) in->disp = take_signed(&w->c, 2);
}

/* SDM vol. 2, tables 2-2 and 2-3. */
static void take_address32(struct walk *w, struct insn *in)
{
    unsigned mod = in->modrm >> 6;

    in->base = in->modrm & 7;
    if (in->base == 4) {
        u8 sib = (u8)take(&w->c, 1);
        in->base = sib & 7;
        if ((sib >> 3 & 7) != 4) {
            in->index = sib >> 3 & 7;
            in->scale = (u8)(1 << (sib >> 6));
        }
    }
    if (mod == 0 && in->base == G_EBP) {
        in->base = -1;
        in->disp = take(&w->c, 4);
    }
    if (mod == 1) in->disp = take_signed(&w->c, 1);
    if (mod == 2) in->disp = take(&w->c, 4);
}

/* Rows whose R operand is ModRM.rm whatever mod says (MOV CRx, MOV DRx) have no address bytes. */
static bool modrm_is_address(const struct insn *in)
{
    const struct insn_row *row = in->row;

    return row->form != MR_NONE && in->modrm < 0xc0 && row->enc[0] != ENC_Rd && row->enc[1] != ENC_Rd;
}

static void operand_reg(struct operand *o, unsigned kind, unsigned reg, unsigned size)
{
    o->kind = (u8)kind;
    o->reg = (u8)reg;
    o->size = (u16)size;
}

/* ModRM.rm: a register of the given kind and size, or memory. */
static void operand_rm(struct operand *o, const struct insn *in, unsigned kind, unsigned size, unsigned memsize)
{
    if (modrm_is_address(in)) operand_reg(o, OPK_MEM, 0, memsize);
    else operand_reg(o, kind, in->modrm & 7, size);
}

static void operand_imm(struct walk *w, struct insn *in, struct operand *o, u32 val, unsigned size)
{
    operand_reg(o, OPK_IMM, 0, size);
    if (w->nimm++ == 0) in->imm = val;
    else in->imm2 = val;
}

static u32 low_bytes(u32 val, unsigned size) { return size == 2 ? val & 0xffff : val; }

/* Implicit memory of string instructions. Those with both keep the source in base and seg: the destination is ES:EDI
 * always. */
static void operand_string(struct walk *w, struct insn *in, struct operand *o, bool source, unsigned size)
{
    operand_reg(o, OPK_MEM, 0, size);
    if (source) {
        in->base = G_ESI;
        in->seg = (u8)(w->seg >= 0 ? w->seg : S_DS);
    } else if (in->base != G_ESI) {
        in->base = G_EDI;
        in->seg = S_ES;
    }
}

static void operand_take(struct walk *w, struct insn *in, struct operand *o, unsigned enc)
{
    unsigned v = in->opsize, reg = in->modrm >> 3 & 7, rm = in->modrm & 7, low = in->opcode & 7;

    switch ((enum operand_enc)enc) {
    case ENC_NONE:
    case ENC_COUNT: break;
    case ENC_Eb: operand_rm(o, in, OPK_REG, 1, 1); break;
    case ENC_Ew: operand_rm(o, in, OPK_REG, 2, 2); break;
    case ENC_Ed: operand_rm(o, in, OPK_REG, 4, 4); break;
    case ENC_Ev: operand_rm(o, in, OPK_REG, v, v); break;
    case ENC_Gb: operand_reg(o, OPK_REG, reg, 1); break;
    case ENC_Gw: operand_reg(o, OPK_REG, reg, 2); break;
    case ENC_Gd: operand_reg(o, OPK_REG, reg, 4); break;
    case ENC_Gv: operand_reg(o, OPK_REG, reg, v); break;
    case ENC_Rw: operand_reg(o, OPK_REG, rm, 2); break;
    case ENC_Rd: operand_reg(o, OPK_REG, rm, 4); break;
    case ENC_Rv: operand_reg(o, OPK_REG, rm, v); break;
    case ENC_RvMw: operand_rm(o, in, OPK_REG, v, 2); break;
    case ENC_RdMb: operand_rm(o, in, OPK_REG, 4, 1); break;
    case ENC_RdMw: operand_rm(o, in, OPK_REG, 4, 2); break;
    case ENC_M: operand_reg(o, OPK_MEM, 0, 0); break;
    case ENC_Mb: operand_reg(o, OPK_MEM, 0, 1); break;
    case ENC_Mw: operand_reg(o, OPK_MEM, 0, 2); break;
    case ENC_Md: operand_reg(o, OPK_MEM, 0, 4); break;
    case ENC_Mq: operand_reg(o, OPK_MEM, 0, 8); break;
    case ENC_Mdq: operand_reg(o, OPK_MEM, 0, 16); break;
    case ENC_Ms: operand_reg(o, OPK_MEM, 0, 6); break;
    case ENC_Mt:
    case ENC_Mbcd: operand_reg(o, OPK_MEM, 0, 10); break;
    case ENC_Ma: operand_reg(o, OPK_MEM, 0, 2 * v); break;
    case ENC_Mp: operand_reg(o, OPK_MEM, 0, v + 2); break;
    case ENC_Menv: operand_reg(o, OPK_MEM, 0, v == 2 ? 14 : 28); break;
    case ENC_Mfpu: operand_reg(o, OPK_MEM, 0, v == 2 ? 94 : 108); break;
    case ENC_Mfx: operand_reg(o, OPK_MEM, 0, 512); break;
    case ENC_Ib: operand_imm(w, in, o, take(&w->c, 1), 1); break;
    case ENC_Ibs: operand_imm(w, in, o, low_bytes(take_signed(&w->c, 1), v), v); break;
    case ENC_Iw: operand_imm(w, in, o, take(&w->c, 2), 2); break;
    case ENC_Iz: operand_imm(w, in, o, take(&w->c, v), v); break;
    case ENC_I1: operand_imm(w, in, o, 1, 1); break;
    case ENC_I3: operand_imm(w, in, o, 3, 1); break;
    case ENC_Jb:
        operand_imm(w, in, o, take_signed(&w->c, 1), v);
        o->kind = OPK_REL;
        break;
    case ENC_Jz:
        operand_imm(w, in, o, take_signed(&w->c, v), v);
        o->kind = OPK_REL;
        break;
    case ENC_Ap:
        operand_imm(w, in, o, take(&w->c, v), v + 2);
        o->kind = OPK_FAR;
        in->imm2 = take(&w->c, 2);
        break;
    case ENC_Ob:
    case ENC_Ov:
        operand_reg(o, OPK_MEM, 0, enc == ENC_Ob ? 1 : v);
        in->disp = take_signed(&w->c, in->addrsize);
        break;
    case ENC_Sw:
        operand_reg(o, OPK_SREG, reg, 2);
        w->invalid |= reg >= S_COUNT;
        break;
    case ENC_Cd:
        operand_reg(o, OPK_CR, reg, 4);
        w->invalid |= reg != 0 && (reg < 2 || reg > 4);
        break;
    case ENC_Dd: operand_reg(o, OPK_DR, reg, 4); break;
    case ENC_Zb: operand_reg(o, OPK_REG, low, 1); break;
    case ENC_Zv: operand_reg(o, OPK_REG, low, v); break;
    case ENC_AL: operand_reg(o, OPK_REG, G_EAX, 1); break;
    case ENC_CL: operand_reg(o, OPK_REG, G_ECX, 1); break;
    case ENC_DX: operand_reg(o, OPK_REG, G_EDX, 2); break;
    case ENC_AX: operand_reg(o, OPK_REG, G_EAX, 2); break;
    case ENC_eAX: operand_reg(o, OPK_REG, G_EAX, v); break;
    case ENC_EAX: operand_reg(o, OPK_REG, G_EAX, 4); break;
    case ENC_ES: operand_reg(o, OPK_SREG, S_ES, 2); break;
    case ENC_CS: operand_reg(o, OPK_SREG, S_CS, 2); break;
    case ENC_SS: operand_reg(o, OPK_SREG, S_SS, 2); break;
    case ENC_DS: operand_reg(o, OPK_SREG, S_DS, 2); break;
    case ENC_FS: operand_reg(o, OPK_SREG, S_FS, 2); break;
    case ENC_GS: operand_reg(o, OPK_SREG, S_GS, 2); break;
    case ENC_Xb: operand_string(w, in, o, true, 1); break;
    case ENC_Xv: operand_string(w, in, o, true, v); break;
    case ENC_Yb: operand_string(w, in, o, false, 1); break;
    case ENC_Yv: operand_string(w, in, o, false, v); break;
    case ENC_Pq: operand_reg(o, OPK_MMX, reg, 8); break;
    case ENC_Qq: operand_rm(o, in, OPK_MMX, 8, 8); break;
    case ENC_Qd: operand_rm(o, in, OPK_MMX, 4, 4); break;
    case ENC_Nq: operand_reg(o, OPK_MMX, rm, 8); break;
    case ENC_Vx: operand_reg(o, OPK_XMM, reg, 16); break;
    case ENC_Wdq: operand_rm(o, in, OPK_XMM, 16, 16); break;
    case ENC_Wq: operand_rm(o, in, OPK_XMM, 8, 8); break;
    case ENC_Wd: operand_rm(o, in, OPK_XMM, 4, 4); break;
    case ENC_Ww: operand_rm(o, in, OPK_XMM, 2, 2); break;
    case ENC_Ux: operand_reg(o, OPK_XMM, rm, 16); break;
    case ENC_ST0: operand_reg(o, OPK_ST, 0, 10); break;
    case ENC_STi: operand_reg(o, OPK_ST, rm, 10); break;
    }
}

static void take_operands(struct walk *w, struct insn *in)
{
    if (modrm_is_address(in)) {
        if (in->addrsize == 2) take_address16(w, in);
        else take_address32(w, in);
        if (w->seg < 0 && (in->base == G_ESP || in->base == G_EBP)) in->seg = S_SS;
    }
    while (in->nops < 4 && in->row->enc[in->nops] != ENC_NONE) {
        operand_take(w, in, &in->opnd[in->nops], in->row->enc[in->nops]);
        in->nops++;
    }
}

static bool lock_is_legal(const struct insn *in)
{
    return !(in->prefixes & IP_LOCK) || ((in->row->attr & A_LOCK) && in->opnd[0].kind == OPK_MEM);
}

/* #UD. The length matters to nobody but a reader of the disassembly: capstone's if it knows the instruction. */
static void make_invalid(struct decoder *d, const struct walk *w, struct insn *in)
{
    const cs_insn *text = capstone_decode(d, w->c.bytes, w->c.n, in->eip, w->code32);
    unsigned len = text ? text->size : w->c.pos;

    in->id = INSN_INVALID;
    in->row = &insn_rows[INSN_INVALID];
    in->op = OP_INVALID;
    in->nops = 0;
    in->base = in->index = -1;
    in->len = (u8)(len < 1 ? 1 : len > MAX_LEN ? MAX_LEN : len);
}

enum decode_status decode(struct decoder *d, const u8 *bytes, unsigned n, u32 eip, bool code32, u32 features,
                          struct insn *in)
{
    struct walk w = { .c = { .bytes = bytes, .n = n }, .code32 = code32, .seg = -1 };
    unsigned id = INSN_INVALID;
    u8 byte;

    memset(in, 0, sizeof(*in));
    in->eip = eip;
    in->base = in->index = -1;
    in->scale = 1;
    in->row = &insn_rows[INSN_INVALID];
    byte = take_prefixes(&w, in);
    if (!w.c.ended) id = take_opcode(d, &w, in, byte);
    if (!w.c.ended && id != INSN_INVALID) {
        in->id = (u16)id;
        in->row = &insn_rows[id];
        in->op = in->row->op;
        in->cc = in->row->attr & A_CC ? in->opcode & 15 : 0;
        in->seg = (u8)(w.seg >= 0 ? w.seg : S_DS);
        take_operands(&w, in);
    }
    if (w.c.ended) return n >= MAX_LEN ? DECODE_TOO_LONG : DECODE_TRUNCATED;

    in->len = (u8)w.c.pos;
    if (id == INSN_INVALID || w.invalid || !(features & 1u << in->row->feat) || !lock_is_legal(in))
        make_invalid(d, &w, in);
    memcpy(in->bytes, bytes, in->len);
    in->next = eip + in->len;
    if (in->nops && in->opnd[0].kind == OPK_REL) in->target = low_bytes(eip + in->len + in->imm, in->opsize);
    return DECODE_OK;
}

/* ---- Text ---- */

static void text_db(const u8 *bytes, unsigned n, char *buf, size_t bufsize)
{
    size_t used = (size_t)snprintf(buf, bufsize, "db");

    for (unsigned i = 0; i < n && used + 1 < bufsize; i++)
        used += (size_t)snprintf(buf + used, bufsize - used, "%s0x%02x", i ? ", " : " ", bytes[i]);
}

static void text_row(const struct insn *in, char *buf, size_t bufsize)
{
    char name[24] = "", db[8 + 6 * MAX_LEN];

    for (unsigned i = 0; in->row->mnemonic[i] && i + 1 < sizeof(name); i++)
        name[i] = (char)tolower((unsigned char)in->row->mnemonic[i]);
    text_db(in->bytes, in->len, db, sizeof(db));
    snprintf(buf, bufsize, "%s ; %s", name, db);
}

void insn_text(struct decoder *d, const u8 *bytes, unsigned n, u32 eip, bool code32, char *buf, size_t bufsize)
{
    struct insn in;
    bool ok = decode(d, bytes, n, eip, code32, ~0u, &in) == DECODE_OK;
    const cs_insn *text = capstone_decode(d, bytes, n, eip, code32);

    if (!bufsize) return;
    if (ok && in.id == INSN_INVALID) {
        text_db(bytes, in.len, buf, bufsize);
        if (text) { /* known elsewhere, though not to this CPU */
            size_t used = strlen(buf);
            snprintf(buf + used, bufsize - used, " ; %s %s", text->mnemonic, text->op_str);
        }
    } else if (ok && text && text->size == in.len) {
        snprintf(buf, bufsize, text->op_str[0] ? "%s %s" : "%s", text->mnemonic, text->op_str);
    } else if (ok) {
        text_row(&in, buf, bufsize);
    } else {
        text_db(bytes, n < MAX_LEN ? n : MAX_LEN, buf, bufsize);
    }
}
