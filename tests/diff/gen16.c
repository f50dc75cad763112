/* Owns the choice of 16-bit cases. Registers are offsets more often than not; what they become is not followed, since
 * every segment lies on memory that is there: what an operand can do wrong is to leave its segment, and that is what is
 * to be compared.
 *
 *   I1  A case cannot run forever: branches go forward, and REP counts are loaded small.
 *   I2  An instruction that reads a flag which may be undefined gets a CMP before it, and forms with undefined results
 *       are not made. */
#include "tests/diff/gen16.h"

#include <string.h>

#include "tests/insn_encode.h"
#include "tests/insn_flags.h"

struct making {
    struct rng *r;
    struct decoder *d;
    struct unit *u;
    u32 undef;     /* flags that may be undefined at this point */
    bool branched; /* some later unit may be skipped: definitions do not count for sure */
};

static void put(struct making *m, const void *bytes, unsigned n)
{
    BUG_ON(m->u->n + n > UNIT_BYTES);
    memcpy(m->u->bytes + m->u->n, bytes, n);
    m->u->n = (u8)(m->u->n + n);
}

static void put_define_flags(struct making *m) /* CMP AX, imm16 */
{
    u32 v = rng_u32(m->r);
    const u8 bytes[3] = { 0x3d, (u8)v, (u8)(v >> 8) };
    put(m, bytes, sizeof bytes);
    if (!m->branched) m->undef = 0;
}

static void put_mov(struct making *m, unsigned reg, u32 v, bool wide) /* MOV r16, imm or MOV r32, imm */
{
    const u8 bytes[6] = { 0x66, (u8)(0xb8 + reg), (u8)v, (u8)(v >> 8), (u8)(v >> 16), (u8)(v >> 24) };
    if (wide) put(m, bytes, 6);
    else put(m, bytes + 1, 3);
}

static void put_push(struct making *m, u32 v) /* PUSH imm16 */
{
    const u8 bytes[3] = { 0x68, (u8)v, (u8)(v >> 8) };
    put(m, bytes, sizeof bytes);
}

static void put_push_target(struct making *m)
{
    put_push(m, 0);
    m->u->fix_at = (u8)(m->u->n - 2);
    m->u->fix_size = FIX_ABS16;
}

static u32 selector(struct rng *r, bool stack)
{
    static const u16 any[] = { LDT_DATA, LDT_EXTRA, LDT_DOWN, LDT_READ_ONLY, LDT_CODE, LDT_STACK, 0,
                               3,        USER_DS,   USER_CS,  0x04,          0x3f,     0xfffb,    LDT_DATA & ~3u };
    static const u16 ss[] = { LDT_STACK, LDT_STACK, LDT_DATA, LDT_DOWN, LDT_EXTRA };
    if (stack && rng_percent(r, 80)) return ss[rng_below(r, ARRAY_LEN(ss))];
    return any[rng_below(r, ARRAY_LEN(any))];
}

/* Left out besides what gen_shows_host() names: targets from memory; the x87 unit's environments, whose pointers
 * processors treat differently; what may set TF, AC or NT out of random memory. */
static bool row_fits(const struct insn_row *row)
{
    if (gen_shows_host(row)) return false;
    switch (row->op) {
    case OP_INT:
    case OP_LAR:
    case OP_FNSTENV:
    case OP_FNSAVE:
    case OP_FLDENV:
    case OP_FRSTOR:
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_LDMXCSR:
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU: return false;
    case OP_JMP:
    case OP_CALL: return row->enc[0] != ENC_Ev;
    case OP_JMPF:
    case OP_CALLF: return row->enc[0] == ENC_Ap;
    default: return true;
    }
}

bool gen16_makes(unsigned id) { return row_fits(&insn_rows[id]); }

static bool undefined_result(const struct insn *in)
{
    if (in->op == OP_BSWAP && in->opsize == 2) return true;
    if ((in->op == OP_SHLD || in->op == OP_SHRD) && in->opsize == 2)
        return in->row->enc[2] == ENC_CL || (in->imm & 31) > 16;
    return (in->op == OP_BSF || in->op == OP_BSR) && in->prefixes & IP_REP;
}

static void account(struct making *m, const struct insn *in)
{
    if (in->row->attr & A_END) m->branched = true;
    if (!m->branched) m->undef &= ~insn_flags_written(in);
    m->undef |= insn_flags_undef(in);
}

static void make_far(struct making *m, const struct insn_row *row)
{
    u32 sel = rng_percent(m->r, 85) ? LDT_CODE : selector(m->r, false);
    u8 bytes[5] = { row->opcode, 0, 0, (u8)sel, (u8)(sel >> 8) };
    if (row->op == OP_JMPF || row->op == OP_CALLF) {
        put(m, bytes, sizeof bytes);
        m->u->fix_at = (u8)(m->u->n - 4);
        m->u->fix_size = FIX_ABS16;
    } else {
        if (row->op == OP_IRET) put_push(m, (rng_u32(m->r) & (F_ARITH | F_DF)) | F_IF);
        put_push(m, sel);
        put_push_target(m);
        bytes[1] = (u8)(rng_below(m->r, 8) * 2);
        put(m, bytes, row->enc[0] == ENC_Iw ? 3 : 1);
    }
    m->branched = true;
}

static void make_return(struct making *m, const struct insn_row *row)
{
    const u8 bytes[3] = { row->opcode, (u8)(rng_below(m->r, 8) * 2), 0 };
    put_push_target(m);
    put(m, bytes, row->enc[0] == ENC_Iw ? 3 : 1);
    m->branched = true;
}

/* JMP, CALL, Jcc, LOOP, JCXZ: relative. */
static void make_relative(struct making *m, const struct insn_row *row)
{
    struct encoding e = { 0 };
    u8 bytes[32];
    bool op32 = rng_percent(m->r, 10);
    if (op32) e.prefix[e.nprefix++] = 0x66;
    if (row->op != OP_JCC && rng_percent(m->r, 20)) e.prefix[e.nprefix++] = 0x67;
    if (row->attr & A_CC) e.offset = (u8)rng_below(m->r, 16);
    unsigned n = insn_encode(row, &e, bytes);
    m->u->fix_size = row->enc[0] == ENC_Jb ? 1 : op32 ? 4 : 2;
    m->u->fix_at = (u8)(m->u->n + n - m->u->fix_size);
    put(m, bytes, n);
    m->branched = true;
}

static bool make_with_selector(struct making *m, const struct insn_row *row)
{
    struct encoding e = { 0 };
    struct insn in;
    u8 bytes[32];
    unsigned reg = rng_below(m->r, 4);
    bool stack = row->ext == S_SS || row->enc[0] == ENC_SS;
    if (row->op == OP_POP_SREG) put_push(m, selector(m->r, stack));
    else put_mov(m, reg, selector(m->r, stack), rng_percent(m->r, 20));
    e.modrm = (u8)(0xc0 | (rng_u32(m->r) & 0x18) | reg);
    unsigned n = insn_encode(row, &e, bytes);
    if (decode(m->d, bytes, n, 0, false, ~0u, &in) != DECODE_OK) return false;
    put(m, bytes, n);
    account(m, &in);
    return true;
}

static void make_popf(struct making *m)
{
    const u8 popf = 0x9d;
    u32 f = rng_u32(m->r) & (F_ARITH | F_DF | F_IF | F_IOPL | 0x8028);
    if (rng_percent(m->r, 10)) f |= F_TF;
    put_push(m, f);
    put(m, &popf, 1);
    if (!m->branched) m->undef = 0;
}

static bool make_general(struct making *m, const struct insn_row *row)
{
    static const u8 segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
    struct rng *r = m->r;
    bool string = row->attr & (A_REP | A_REPCC), rep = string && rng_percent(r, 60);
    struct encoding e = { .modrm = (u8)rng_u32(r), .imm = rng_u32(r), .imm2 = rng_u32(r) };
    struct insn in;
    u8 bytes[32];

    e.sib = (u8)rng_u32(r);
    e.disp = rng_percent(r, 70) ? rng_below(r, 256) - 128 : rng_u32(r) & 0xffff;
    if (rng_percent(r, 20) && (row->pfx == PFX_ANY || row->pfx == PFX_66)) e.prefix[e.nprefix++] = 0x66;
    if (rng_percent(r, 8)) e.prefix[e.nprefix++] = 0x67;
    if (rng_percent(r, 15)) e.prefix[e.nprefix++] = segs[rng_below(r, ARRAY_LEN(segs))];
    if (rep) {
        put_mov(m, G_ECX, rng_below(r, 40), true);
        e.prefix[e.nprefix++] = row->attr & A_REPCC && rng_percent(r, 50) ? 0xf2 : 0xf3;
    } else if (row->cls == CLS_io) put_mov(m, G_ECX, 1, true);
    e.offset = (u8)rng_below(r, row->count);
    if (row->op == OP_ENTER) e.imm2 = rng_percent(r, 70) ? 0 : rng_below(r, 32), e.imm = rng_below(r, 200);
    if (row->enc[1] == ENC_Sw && (e.modrm & 0x30) == 0x30) e.modrm &= 0xdf; /* 6 and 7 do not exist */
    unsigned n = insn_encode(row, &e, bytes);
    if (n > 15 || decode(m->d, bytes, n, 0, false, ~0u, &in) != DECODE_OK || in.len > n) return false;
    if (undefined_result(&in)) return false;
    if (insn_flags_read(&in) & m->undef) put_define_flags(m);
    put(m, bytes, n);
    account(m, &in);
    return true;
}

static bool make(struct making *m, const struct insn_row *row)
{
    if ((row->cls == CLS_ctl || row->op == OP_INTO) && row->reads & m->undef) put_define_flags(m);
    m->u->skip = (u8)(1 + rng_below(m->r, 3));
    switch (row->op) {
    case OP_POPF: make_popf(m); return true;
    case OP_MOV_TO_SREG:
    case OP_POP_SREG:
    case OP_LSL:
    case OP_VERR:
    case OP_VERW: return make_with_selector(m, row);
    case OP_JMPF:
    case OP_CALLF:
    case OP_RETF:
    case OP_IRET: make_far(m, row); return true;
    case OP_RET: make_return(m, row); return true;
    case OP_JMP:
    case OP_CALL:
    case OP_JCC:
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE:
    case OP_JCXZ: make_relative(m, row); return true;
    default: return make_general(m, row);
    }
}

static void make_unit(struct making *m, unsigned only, bool integer)
{
    for (;;) {
        unsigned id = 1 + rng_below(m->r, INSN_COUNT - 1);
        const struct insn_row *row = &insn_rows[id];
        struct making before = *m;
        bool vector = row->cls == CLS_x87 || row->cls == CLS_mmx || row->cls == CLS_sse;
        if (only != OP_INVALID ? row->op != only : integer && vector) continue;
        if (!row_fits(row)) continue;
        if ((row->attr & A_PRIV || row->cls == CLS_io) && rng_percent(m->r, 85)) continue; /* a case's end, mostly */
        memset(m->u, 0, sizeof *m->u);
        m->u->row = (u16)id;
        if (make(m, row)) return;
        *m = before;
    }
}

void gen16_sequence(struct rng *r, struct decoder *d, unsigned only, struct sequence *s)
{
    struct making m = { .r = r, .d = d };
    static const u16 data[] = { LDT_DATA, LDT_DATA, LDT_EXTRA, LDT_DOWN, LDT_READ_ONLY };
    memset(s, 0, sizeof *s);
    s->code16 = true;
    for (unsigned i = 0; i < 8; i++)
        s->in.gpr[i] = rng_percent(r, 60)   ? rng_below(r, 0x10000)
                       : rng_percent(r, 50) ? rng_below(r, 64) - 32
                                            : rng_u32(r);
    s->in.gpr[G_ESP] = (rng_percent(r, 70) ? 0 : rng_u32(r) & 0xffff0000) | (512 + rng_below(r, PAGE - 1024));
    if (rng_percent(r, 80)) s->in.gpr[G_ESP] &= ~1u;
    if (rng_percent(r, 5)) s->in.gpr[G_ESP] = rng_below(r, PAGE);
    s->in.eflags = (rng_u32(r) & F_ARITH) | (rng_percent(r, 30) ? F_DF : 0) | F_IF | F_FIXED;
    s->in.seg[S_CS] = LDT_CODE, s->in.seg[S_SS] = LDT_STACK;
    s->in.seg[S_DS] = data[rng_below(r, ARRAY_LEN(data))], s->in.seg[S_ES] = data[rng_below(r, ARRAY_LEN(data))];
    s->in.seg[S_FS] = data[rng_below(r, ARRAY_LEN(data))];
    gen_fx_state(r, s->in.fx);
    s->image = rng_below(r, IMAGES);
    s->n = 1 + rng_below(r, UNITS_MAX);
    bool integer = rng_percent(r, 60);
    for (unsigned i = 0; i < s->n; i++) {
        m.u = &s->unit[i];
        make_unit(&m, only, integer);
    }
}
