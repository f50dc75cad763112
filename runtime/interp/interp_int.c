/* Integer instructions of class int and bcd: arithmetic, logic, moves, shifts, bits, decimal adjustment.
 *
 * Each operation is said once, in a template over operand size and form; the frequent ones are instantiated per size
 * and form so that the compiler folds the template, the others decide at run time.
 *
 * Flags that the manual leaves undefined are the host's (hostflags.h), but for what 64-bit mode has not: AAA, AAS, AAM,
 * AAD, DAA and DAS give those of AMD's Zen. BT leaves the undefined ones alone. */
#include "runtime/interp/hostflags.h"
#include "runtime/interp/interp_core.h"

#define HANDLER(name) static int name(struct interp *ip UNUSED, struct cpu *c UNUSED, const struct insn *in UNUSED)
/* A handler that is a template with constants put in. */
#define INSTANCE(name, template, ...) \
    HANDLER(name) { return template(ip, c, in, __VA_ARGS__); }

enum form { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_COUNT };

static int form_of(const struct insn *in)
{
    unsigned dst = in->opnd[0].kind, src = in->opnd[1].kind;
    if (dst == OPK_REG) return src == OPK_REG ? FORM_RR : src == OPK_IMM ? FORM_RI : src == OPK_MEM ? FORM_RM : -1;
    if (dst == OPK_MEM) return src == OPK_REG ? FORM_MR : src == OPK_IMM ? FORM_MI : -1;
    return -1;
}
static unsigned size_index(unsigned size) { return size == 4 ? 2 : size == 2 ? 1 : 0; }

/* ---- two-operand arithmetic and logic ---- */

ALWAYS_INLINE u32 alu_result(unsigned op, unsigned size, u32 carry, u32 a, u32 b, u32 *flags)
{
    u32 r;
    switch (op) {
    case OP_ADD:
        r = a + b;
        *flags = flags_add(a, b, r, size);
        return r;
    case OP_ADC:
        r = a + b + carry;
        *flags = flags_add(a, b, r, size);
        return r;
    case OP_SUB:
    case OP_CMP:
        r = a - b;
        *flags = flags_sub(a, b, r, size);
        return r;
    case OP_SBB:
        r = a - b - carry;
        *flags = flags_sub(a, b, r, size);
        return r;
    case OP_AND:
    case OP_TEST: r = a & b; break;
    case OP_OR: r = a | b; break;
    default: r = a ^ b; break;
    }
    *flags = flags_szp(r, size);
    return r;
}

ALWAYS_INLINE int source(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, enum form form, u32 *b)
{
    if (form == FORM_RM) return load(ip, c, in->seg, insn_ea(c, in), size, b);
    *b = form == FORM_RI || form == FORM_MI ? in->imm : reg_get(c, in->opnd[1].reg, size);
    return 0;
}

ALWAYS_INLINE int alu(struct interp *ip, struct cpu *c, const struct insn *in, unsigned op, unsigned size,
                      enum form form)
{
    const bool mem = form == FORM_MR || form == FORM_MI, reads_only = op == OP_CMP || op == OP_TEST;
    u32 a, b, r, flags;
    struct modify m;
    if (source(ip, c, in, size, form, &b)) return ST_FAULT;
    if (!mem) a = reg_get(c, in->opnd[0].reg, size);
    else if (reads_only ? load(ip, c, in->seg, insn_ea(c, in), size, &a)
                        : modify_open(ip, c, in->seg, insn_ea(c, in), size, &m, &a))
        return ST_FAULT;
    r = alu_result(op, size, c->aflags & F_CF, a, b, &flags);
    if (!reads_only && mem && modify_close(ip, &m, size, r)) return ST_FAULT;
    if (!reads_only && !mem) reg_set(c, in->opnd[0].reg, size, r);
    c->aflags = flags;
    return ST_NEXT;
}

ALWAYS_INLINE int mov(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, enum form form)
{
    u32 v;
    if (source(ip, c, in, size, form, &v)) return ST_FAULT;
    if (form == FORM_MR || form == FORM_MI) return store(ip, c, in->seg, insn_ea(c, in), size, v);
    reg_set(c, in->opnd[0].reg, size, v);
    return ST_NEXT;
}

#define FORMS_OF(X, op, size) X(op, size, RR) X(op, size, RI) X(op, size, RM) X(op, size, MR) X(op, size, MI)
#define SIZES_OF(X, op) FORMS_OF(X, op, 1) FORMS_OF(X, op, 2) FORMS_OF(X, op, 4)
#define TABLE_OF(op)                                                   \
    {                                                                  \
        { op##_1_RR, op##_1_RI, op##_1_RM, op##_1_MR, op##_1_MI },     \
            { op##_2_RR, op##_2_RI, op##_2_RM, op##_2_MR, op##_2_MI }, \
        {                                                              \
            op##_4_RR, op##_4_RI, op##_4_RM, op##_4_MR, op##_4_MI      \
        }                                                              \
    }
#define ALU_INSTANCE(op, size, form) INSTANCE(op##_##size##_##form, alu, OP_##op, size, FORM_##form)
#define MOV_INSTANCE(op, size, form) INSTANCE(op##_##size##_##form, mov, size, FORM_##form)
#define ALU_OPS(X) X(ADD) X(OR) X(ADC) X(SBB) X(AND) X(SUB) X(XOR) X(CMP) X(TEST)

#define X(op) SIZES_OF(ALU_INSTANCE, op)
ALU_OPS(X)
#undef X
SIZES_OF(MOV_INSTANCE, MOV)

static interp_fn alu_handler(const struct insn *in)
{
    static const struct {
        u16 op;
        interp_fn fn[3][FORM_COUNT];
    } table[] = {
#define X(op) { OP_##op, TABLE_OF(op) },
        ALU_OPS(X) X(MOV)
#undef X
    };
    int form = form_of(in);
    for (unsigned i = 0; form >= 0 && i < ARRAY_LEN(table); i++)
        if (table[i].op == in->op) return table[i].fn[size_index(in->opnd[0].size)][form];
    return NULL;
}

/* ---- one operand ---- */

HANDLER(do_inc_r32)
{
    u32 r = ++c->gpr[in->opnd[0].reg];
    c->aflags = (c->aflags & F_CF) | flags_szp(r, 4) | flag_if(!(r & 15), F_AF) | flag_if(r == 0x80000000u, F_OF);
    return ST_NEXT;
}
HANDLER(do_dec_r32)
{
    u32 r = --c->gpr[in->opnd[0].reg];
    c->aflags = (c->aflags & F_CF) | flags_szp(r, 4) | flag_if((r & 15) == 15, F_AF) | flag_if(r == 0x7fffffffu, F_OF);
    return ST_NEXT;
}

HANDLER(do_incdec)
{
    unsigned size = in->opnd[0].size;
    struct modify m;
    u32 a;
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    bool inc = in->op == OP_INC;
    u32 r = inc ? a + 1 : a - 1, flags = inc ? flags_add(a, 1, r, size) : flags_sub(a, 1, r, size);
    if (operand_close(ip, c, in, &m, r)) return ST_FAULT;
    c->aflags = (c->aflags & F_CF) | (flags & ~(u32)F_CF);
    return ST_NEXT;
}

HANDLER(do_not)
{
    struct modify m;
    u32 a;
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    return operand_close(ip, c, in, &m, ~a);
}

HANDLER(do_neg)
{
    struct modify m;
    u32 a;
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    if (operand_close(ip, c, in, &m, 0 - a)) return ST_FAULT;
    c->aflags = flags_sub(0, a, 0 - a, in->opnd[0].size);
    return ST_NEXT;
}

HANDLER(do_setcc) { return operand_write(ip, c, in, 0, condition(c->aflags, in->cc)); }

HANDLER(do_bswap)
{
    unsigned reg = in->opnd[0].reg;
    if (in->opsize == 4) c->gpr[reg] = __builtin_bswap32(c->gpr[reg]);
    else reg_set(c, reg, 2, 0); /* undefined by the manual; processors clear it */
    return ST_NEXT;
}

/* ---- moves ---- */

HANDLER(do_lea)
{
    reg_set(c, in->opnd[0].reg, in->opnd[0].size, insn_ea(c, in));
    return ST_NEXT;
}
HANDLER(do_lea_32)
{
    c->gpr[in->opnd[0].reg] = insn_ea(c, in);
    return ST_NEXT;
}

HANDLER(do_mov) /* MOVNTI */
{
    u32 v;
    if (operand_read(ip, c, in, 1, &v)) return ST_FAULT;
    return operand_write(ip, c, in, 0, v);
}

HANDLER(do_movbe)
{
    u32 v;
    if (operand_read(ip, c, in, 1, &v)) return ST_FAULT;
    return operand_write(ip, c, in, 0, in->opsize == 4 ? __builtin_bswap32(v) : __builtin_bswap16((u16)v));
}

ALWAYS_INLINE int movx(struct interp *ip, struct cpu *c, const struct insn *in, unsigned src_size, bool mem, bool sign)
{
    u32 v;
    if (mem) {
        if (load(ip, c, in->seg, insn_ea(c, in), src_size, &v)) return ST_FAULT;
    } else v = reg_get(c, in->opnd[1].reg, src_size);
    reg_set(c, in->opnd[0].reg, in->opnd[0].size, sign ? sign_extend(v, src_size) : v);
    return ST_NEXT;
}
INSTANCE(movzx_r8, movx, 1, false, false)
INSTANCE(movzx_r16, movx, 2, false, false)
INSTANCE(movzx_m8, movx, 1, true, false)
INSTANCE(movzx_m16, movx, 2, true, false)
INSTANCE(movsx_r8, movx, 1, false, true)
INSTANCE(movsx_r16, movx, 2, false, true)
INSTANCE(movsx_m8, movx, 1, true, true)
INSTANCE(movsx_m16, movx, 2, true, true)

static interp_fn movx_handler(const struct insn *in)
{
    static const interp_fn table[2][2][2] = { { { movzx_r8, movzx_r16 }, { movzx_m8, movzx_m16 } },
                                              { { movsx_r8, movsx_r16 }, { movsx_m8, movsx_m16 } } };
    return table[in->op == OP_MOVSX][in->opnd[1].kind == OPK_MEM][in->opnd[1].size == 2];
}

HANDLER(do_cmovcc) /* reads its source whatever the condition */
{
    u32 v;
    if (operand_read(ip, c, in, 1, &v)) return ST_FAULT;
    if (condition(c->aflags, in->cc)) reg_set(c, in->opnd[0].reg, in->opnd[0].size, v);
    return ST_NEXT;
}

HANDLER(do_xchg)
{
    unsigned size = in->opnd[1].size;
    struct modify m;
    u32 a, b = reg_get(c, in->opnd[1].reg, size);
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    if (operand_close(ip, c, in, &m, b)) return ST_FAULT;
    reg_set(c, in->opnd[1].reg, size, a);
    return ST_NEXT;
}

HANDLER(do_xadd) /* the sum last: with both operands the same register it is what stays */
{
    unsigned size = in->opnd[1].size;
    struct modify m;
    u32 a, b = reg_get(c, in->opnd[1].reg, size);
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    if (in->opnd[0].kind == OPK_REG) reg_set(c, in->opnd[1].reg, size, a);
    if (operand_close(ip, c, in, &m, a + b)) return ST_FAULT;
    if (in->opnd[0].kind == OPK_MEM) reg_set(c, in->opnd[1].reg, size, a);
    c->aflags = flags_add(a, b, a + b, size);
    return ST_NEXT;
}

/* The destination is written in either case, so that it faults in either. */
HANDLER(do_cmpxchg)
{
    unsigned size = in->opnd[0].size;
    struct modify m;
    u32 a, acc = reg_get(c, G_EAX, size), src = reg_get(c, in->opnd[1].reg, size);
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    if (operand_close(ip, c, in, &m, a == acc ? src : a)) return ST_FAULT;
    if (a != acc) reg_set(c, G_EAX, size, a);
    c->aflags = flags_sub(acc, a, acc - a, size);
    return ST_NEXT;
}

HANDLER(do_cmpxchg8b)
{
    u32 ea = insn_ea(c, in), old[2];
    if (interp_probe_write(ip, in->seg, ea, 8) || interp_read_buf(ip, in->seg, ea, old, 8)) return ST_FAULT;
    bool equal = old[0] == c->gpr[G_EAX] && old[1] == c->gpr[G_EDX];
    u32 new[2] = { equal ? c->gpr[G_EBX] : old[0], equal ? c->gpr[G_ECX] : old[1] };
    if (interp_write_buf(ip, in->seg, ea, new, 8)) return ST_FAULT;
    if (!equal) {
        c->gpr[G_EAX] = old[0];
        c->gpr[G_EDX] = old[1];
    }
    c->aflags = (c->aflags & ~(u32)F_ZF) | flag_if(equal, F_ZF);
    return ST_NEXT;
}

HANDLER(do_cbw)
{
    if (in->opsize == 4) c->gpr[G_EAX] = sign_extend(c->gpr[G_EAX], 2);
    else reg_set(c, G_EAX, 2, sign_extend(c->gpr[G_EAX], 1));
    return ST_NEXT;
}
HANDLER(do_cwd)
{
    if (in->opsize == 4) c->gpr[G_EDX] = c->gpr[G_EAX] >> 31 ? ~0u : 0;
    else reg_set(c, G_EDX, 2, c->gpr[G_EAX] >> 15 & 1 ? 0xffff : 0);
    return ST_NEXT;
}

HANDLER(do_xlat)
{
    u32 v, ea = c->gpr[G_EBX] + (c->gpr[G_EAX] & 0xff);
    if (load(ip, c, in->seg, in->addrsize == 4 ? ea : ea & 0xffff, 1, &v)) return ST_FAULT;
    reg_set(c, G_EAX, 1, v);
    return ST_NEXT;
}

/* ---- multiplication and division ---- */

/* The double-width accumulator: AX, DX:AX or EDX:EAX. */
static u64 wide_get(const struct cpu *c, unsigned size)
{
    if (size == 1) return (u16)c->gpr[G_EAX];
    if (size == 2) return (u32)(u16)c->gpr[G_EDX] << 16 | (u16)c->gpr[G_EAX];
    return (u64)c->gpr[G_EDX] << 32 | c->gpr[G_EAX];
}
/* MUL, IMUL, DIV, IDIV by b, which do not fault. */
static void muldiv(struct cpu *c, const struct insn *in, unsigned size, u32 b)
{
    u32 lo = c->gpr[G_EAX], hi = c->gpr[G_EDX];
    host_muldiv(in->op, size, b, &lo, &hi, &c->aflags);
    if (size == 1) reg_set(c, G_EAX, 2, lo);
    else {
        reg_set(c, G_EAX, size, lo);
        reg_set(c, G_EDX, size, hi);
    }
}

HANDLER(do_mul)
{
    u32 b;
    if (operand_read(ip, c, in, 0, &b)) return ST_FAULT;
    muldiv(c, in, in->opnd[0].size, b);
    return ST_NEXT;
}

static s64 widen(u32 v, unsigned size) { return (s32)sign_extend(v, size); }

HANDLER(do_imul)
{
    unsigned size = in->opnd[0].size;
    u32 a, b;
    if (operand_read(ip, c, in, in->nops == 1 ? 0 : 1, &b)) return ST_FAULT;
    if (in->nops == 1) {
        muldiv(c, in, size, b);
        return ST_NEXT;
    }
    a = in->nops == 2 ? reg_get(c, in->opnd[0].reg, size) : in->imm;
    reg_set(c, in->opnd[0].reg, size, host_imul(size, a, b, &c->aflags));
    return ST_NEXT;
}

HANDLER(do_div)
{
    unsigned size = in->opnd[0].size;
    u32 d;
    if (operand_read(ip, c, in, 0, &d)) return ST_FAULT;
    u64 n = wide_get(c, size);
    if (!d || n / d > size_mask(size)) return exc_raise(c, V_DE);
    muldiv(c, in, size, d);
    return ST_NEXT;
}

HANDLER(do_idiv)
{
    unsigned size = in->opnd[0].size;
    u32 v;
    if (operand_read(ip, c, in, 0, &v)) return ST_FAULT;
    s64 d = widen(v, size), n = (s64)wide_get(c, size);
    if (size == 1) n = (s16)n;
    if (size == 2) n = (s32)n;
    if (!d || (d == -1 && n == INT64_MIN) || n / d != widen((u32)(n / d), size)) return exc_raise(c, V_DE);
    muldiv(c, in, size, v);
    return ST_NEXT;
}

/* ---- shifts and rotates ---- */

static unsigned shift_count(const struct cpu *c, const struct insn *in, unsigned operand)
{
    return (in->opnd[operand].kind == OPK_IMM ? in->imm : c->gpr[G_ECX]) & 31;
}

HANDLER(do_shift)
{
    unsigned size = in->opnd[0].size, count = shift_count(c, in, 1);
    u32 a, r, flags = c->aflags;
    struct modify m;
    if (operand_open(ip, c, in, &m, &a)) return ST_FAULT;
    if (!count) r = a;
    else r = host_shift(in->op, size, a, count, &flags);
    if (operand_close(ip, c, in, &m, r)) return ST_FAULT;
    c->aflags = flags;
    return ST_NEXT;
}

ALWAYS_INLINE int shift_r32(struct cpu *c, const struct insn *in, unsigned op) /* immediate, not zero */
{
    u32 *r = &c->gpr[in->opnd[0].reg];
    *r = host_shift(op, 4, *r, in->imm & 31, &c->aflags);
    return ST_NEXT;
}
HANDLER(do_shl_r32) { return shift_r32(c, in, OP_SHL); }
HANDLER(do_shr_r32) { return shift_r32(c, in, OP_SHR); }
HANDLER(do_sar_r32) { return shift_r32(c, in, OP_SAR); }

static interp_fn shift_handler(const struct insn *in)
{
    if (in->opnd[0].kind == OPK_REG && in->opnd[0].size == 4 && in->opnd[1].kind == OPK_IMM && (in->imm & 31)) {
        if (in->op == OP_SHL) return do_shl_r32;
        if (in->op == OP_SHR) return do_shr_r32;
        if (in->op == OP_SAR) return do_sar_r32;
    }
    return do_shift;
}

HANDLER(do_shd)
{
    unsigned size = in->opnd[0].size, count = shift_count(c, in, 2);
    u32 v, b = reg_get(c, in->opnd[1].reg, size), flags = c->aflags;
    struct modify m;
    if (operand_open(ip, c, in, &m, &v)) return ST_FAULT;
    if (count) v = host_double_shift(in->op == OP_SHLD, size, v, b, count, &flags);
    if (operand_close(ip, c, in, &m, v)) return ST_FAULT;
    c->aflags = flags;
    return ST_NEXT;
}

/* ---- bits ---- */

static u32 bit_result(unsigned op, u32 a, u32 bit)
{
    switch (op) {
    case OP_BTS: return a | bit;
    case OP_BTR: return a & ~bit;
    case OP_BTC: return a ^ bit;
    default: return a;
    }
}

/* With a register index into memory the bit string reaches 2 GiB (32 KiB) to either side of the operand. */
HANDLER(do_bt)
{
    const struct operand *o = &in->opnd[0];
    unsigned size = o->size, bits = size * 8;
    bool by_reg = in->opnd[1].kind == OPK_REG;
    u32 index = by_reg ? reg_get(c, in->opnd[1].reg, size) : in->imm, bit = 1u << (index & (bits - 1)), a;
    if (o->kind == OPK_REG) {
        a = reg_get(c, o->reg, size);
        reg_set(c, o->reg, size, bit_result(in->op, a, bit));
    } else {
        u32 ea = insn_ea(c, in);
        if (by_reg) ea += (u32)((s32)sign_extend(index, size) >> (size == 4 ? 5 : 4)) * size;
        if (in->addrsize == 2) ea &= 0xffff;
        struct modify m;
        if (in->op == OP_BT ? load(ip, c, in->seg, ea, size, &a) : modify_open(ip, c, in->seg, ea, size, &m, &a))
            return ST_FAULT;
        if (in->op != OP_BT && modify_close(ip, &m, size, bit_result(in->op, a, bit))) return ST_FAULT;
    }
    c->aflags = (c->aflags & ~(u32)F_CF) | flag_if(a & bit, F_CF);
    return ST_NEXT;
}

HANDLER(do_bitscan) /* a source of zero leaves the destination alone */
{
    const struct operand *dst = &in->opnd[0];
    u32 v;
    if (operand_read(ip, c, in, 1, &v)) return ST_FAULT;
    u32 r = host_bit_scan(in->op == OP_BSF, v, c->gpr[dst->reg], &c->aflags);
    if (v) reg_set(c, dst->reg, dst->size, r);
    return ST_NEXT;
}

/* ---- flags ---- */

HANDLER(do_flagop)
{
    switch (in->op) {
    case OP_CLC: c->aflags &= ~(u32)F_CF; break;
    case OP_STC: c->aflags |= F_CF; break;
    case OP_CMC: c->aflags ^= F_CF; break;
    case OP_CLD: c->df = 1; break;
    case OP_STD: c->df = -1; break;
    case OP_SAHF: c->aflags = (c->aflags & F_OF) | ((c->gpr[G_EAX] >> 8) & F_ARITH & 0xff); break;
    default: /* LAHF */ reg_set(c, 4, 1, (c->aflags & F_ARITH & 0xff) | F_FIXED); break;
    }
    return ST_NEXT;
}

HANDLER(do_nop) { return ST_NEXT; }

HANDLER(do_clflush) /* translated like a read of one byte, but reads nothing */
{
    laddr la;
    if (seg_to_linear(c, in->seg, insn_ea(c, in), 1, ACC_R, &la)) return ST_FAULT;
    return mem_probe_read(c, la, 1, c->cpl == 3);
}

/* ---- decimal ---- */

HANDLER(do_daa_das)
{
    u32 al = c->gpr[G_EAX] & 0xff, f = c->aflags, by = 0;
    bool high = al > 0x99 || (f & F_CF), low = (al & 15) > 9 || (f & F_AF);
    by = (low ? 6 : 0) + (high ? 0x60 : 0);
    u32 r = in->op == OP_DAA ? al + by : al - by;
    u32 of = (in->op == OP_DAA ? flags_add(al, by, r, 1) : flags_sub(al, by, r, 1)) & F_OF;
    /* DAS: a borrow of the low adjustment alone also sets CF (SDM vol. 2, DAS). */
    bool cf = high || (in->op == OP_DAS && low && al < 6);
    reg_set(c, G_EAX, 1, r);
    c->aflags = of | flag_if(cf, F_CF) | flag_if(low, F_AF) | flags_szp(r, 1);
    return ST_NEXT;
}

HANDLER(do_aaa_aas)
{
    u32 ax = c->gpr[G_EAX] & 0xffff;
    bool adjust = (ax & 15) > 9 || (c->aflags & F_AF);
    u32 by = adjust ? 0x106 : 0, r = in->op == OP_AAA ? ax + by : ax - by;
    u32 flags = in->op == OP_AAA ? flags_add(ax, by, r, 2) : flags_sub(ax, by, r, 2);
    reg_set(c, G_EAX, 2, r & 0xff0f);
    c->aflags = (flags & ~(u32)(F_CF | F_AF)) | flag_if(adjust, F_CF | F_AF);
    return ST_NEXT;
}

HANDLER(do_aam)
{
    u32 al = c->gpr[G_EAX] & 0xff, base = in->imm & 0xff;
    if (!base) return exc_raise(c, V_DE);
    reg_set(c, G_EAX, 2, al / base << 8 | al % base);
    c->aflags = flags_szp(al % base, 1);
    return ST_NEXT;
}
HANDLER(do_aad)
{
    u32 al = c->gpr[G_EAX] & 0xff, by = (c->gpr[G_EAX] >> 8 & 0xff) * (in->imm & 0xff) & 0xff;
    reg_set(c, G_EAX, 2, (al + by) & 0xff);
    c->aflags = flags_add(al, by, al + by, 1);
    return ST_NEXT;
}

HANDLER(do_salc)
{
    reg_set(c, G_EAX, 1, c->aflags & F_CF ? 0xff : 0);
    return ST_NEXT;
}

HANDLER(do_bound)
{
    unsigned size = in->opsize;
    u8 pair[8];
    if (interp_read_parts(ip, in->seg, insn_ea(c, in), pair, 2 * size, size)) return ST_FAULT;
    s64 index = widen(reg_get(c, in->opnd[0].reg, size), size);
    if (index < widen(host_load(pair, size), size) || index > widen(host_load(pair + size, size), size))
        return exc_raise(c, V_BR);
    return ST_NEXT;
}

HANDLER(do_arpl)
{
    u32 dst;
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (operand_read(ip, c, in, 0, &dst)) return ST_FAULT;
    u32 rpl = c->gpr[in->opnd[1].reg] & 3;
    bool raise = (dst & 3) < rpl;
    if (raise && operand_write(ip, c, in, 0, (dst & ~3u) | rpl)) return ST_FAULT;
    c->aflags = (c->aflags & ~(u32)F_ZF) | flag_if(raise, F_ZF);
    return ST_NEXT;
}

/* ---- which ---- */

static bool reg32(const struct insn *in) { return in->opnd[0].kind == OPK_REG && in->opnd[0].size == 4; }

interp_fn interp_int_handler(const struct insn *in)
{
    switch (in->op) {
    case OP_ADD:
    case OP_OR:
    case OP_ADC:
    case OP_SBB:
    case OP_AND:
    case OP_SUB:
    case OP_XOR:
    case OP_CMP:
    case OP_TEST:
    case OP_MOV: return alu_handler(in);
    case OP_INC: return reg32(in) ? do_inc_r32 : do_incdec;
    case OP_DEC: return reg32(in) ? do_dec_r32 : do_incdec;
    case OP_NOT: return do_not;
    case OP_NEG: return do_neg;
    case OP_LEA: return reg32(in) ? do_lea_32 : do_lea;
    case OP_MOVZX:
    case OP_MOVSX: return movx_handler(in);
    case OP_CMOVCC: return do_cmovcc;
    case OP_SETCC: return do_setcc;
    case OP_XCHG: return do_xchg;
    case OP_XADD: return do_xadd;
    case OP_CMPXCHG: return do_cmpxchg;
    case OP_CMPXCHG8B: return do_cmpxchg8b;
    case OP_BSWAP: return do_bswap;
    case OP_MOVNTI: return do_mov;
    case OP_MOVBE: return do_movbe;
    case OP_CBW: return do_cbw;
    case OP_CWD: return do_cwd;
    case OP_XLAT: return do_xlat;
    case OP_MUL: return do_mul;
    case OP_IMUL: return do_imul;
    case OP_DIV: return do_div;
    case OP_IDIV: return do_idiv;
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
    case OP_ROL:
    case OP_ROR:
    case OP_RCL:
    case OP_RCR: return shift_handler(in);
    case OP_SHLD:
    case OP_SHRD: return do_shd;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC: return do_bt;
    case OP_BSF:
    case OP_BSR: return do_bitscan;
    case OP_CLC:
    case OP_STC:
    case OP_CMC:
    case OP_CLD:
    case OP_STD:
    case OP_SAHF:
    case OP_LAHF: return do_flagop;
    case OP_NOP:
    case OP_PAUSE:
    case OP_PREFETCH:
    case OP_LFENCE:
    case OP_MFENCE:
    case OP_SFENCE: return do_nop;
    case OP_CLFLUSH: return do_clflush;
    case OP_DAA:
    case OP_DAS: return do_daa_das;
    case OP_AAA:
    case OP_AAS: return do_aaa_aas;
    case OP_AAM: return do_aam;
    case OP_AAD: return do_aad;
    case OP_SALC: return do_salc;
    case OP_BOUND: return do_bound;
    case OP_ARPL: return do_arpl;
    default: return NULL;
    }
}
