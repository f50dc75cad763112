/* The instruction table as data, and what one decoded instruction does to the flags.
 *
 * Owns insn_rows[]. A row says what a form does to the flags at its most; the functions below refine that for one
 * instance, and err to the safe side where the instance alone does not tell:
 *   I1  insn_flags_read      never leaves out a flag whose old value can show in the result.
 *   I2  insn_flags_written   has only flags that get a defined value whatever the registers hold.
 *   I3  insn_flags_undef     has every flag that may come out undefined; it is disjoint from insn_flags_written. */
#include "translator/front/insn.h"

#include "core/cpu.h"

/* clang-format off */
const struct insn_row insn_rows[INSN_COUNT] = {
    [INSN_INVALID] = {
        .name = "INVALID", .mnemonic = "(bad)", .ext = -1, .rm = -1, .op = OP_INVALID, .cls = CLS_int,
        .feat = FEAT_BASE,
        .attr = A_FAULT | A_END,
    },
#define INSN(id, map_, pfx_, opcode_, count_, ext_, rm_, form_, e0, e1, e2, e3, \
             op_, cls_, feat_, reads_, writes_, undef_, attr_) \
    [INSN_##id] = { \
        .name = #id, .mnemonic = #op_, .map = map_, .pfx = pfx_, .opcode = opcode_, .count = count_, .ext = ext_, \
        .rm = rm_, .form = form_, .enc = {ENC_##e0, ENC_##e1, ENC_##e2, ENC_##e3}, .op = OP_##op_, .cls = CLS_##cls_, \
        .feat = FEAT_##feat_, .reads = reads_, .writes = writes_, .undef = undef_, .attr = attr_, \
    },
#include "translator/front/insn.def"
#undef INSN
};
/* clang-format on */

/* Condition codes (SDM vol. 1, appendix B): pairs of opposite conditions read the same flags. */
static const u32 cc_reads[8] = {
    F_OF, F_CF, F_ZF, F_CF | F_ZF, F_SF, F_PF, F_SF | F_OF, F_ZF | F_SF | F_OF,
};

/* How often a shift or rotate moves, after the masking that all processors since the 186 do. */
enum count_kind { COUNT_ZERO, COUNT_ONE, COUNT_MANY, COUNT_UNKNOWN };

static enum count_kind shift_count(const struct insn *in, u32 *count)
{
    unsigned last = in->row->enc[2] != ENC_NONE ? 2 : 1; /* SHLD and SHRD: third operand */
    if (in->row->enc[last] == ENC_CL) return COUNT_UNKNOWN;
    *count = in->imm & 31;
    return *count == 0 ? COUNT_ZERO : *count == 1 ? COUNT_ONE : COUNT_MANY;
}

/* REP CMPS and REP SCAS with a count of zero leave the flags alone. */
static bool rep_may_do_nothing(const struct insn *in)
{
    return (in->row->attr & A_REPCC) && (in->prefixes & (IP_REP | IP_REPNE));
}

/* Flags beyond row->undef that a count other than one leaves undefined (SDM vol. 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR,
 * SHLD, SHRD). */
static u32 undef_by_count(const struct insn *in)
{
    u32 count = 0;
    u32 bits = in->opnd[0].size * 8u;
    enum count_kind kind = shift_count(in, &count);

    if (kind == COUNT_ZERO || kind == COUNT_ONE) return 0;
    switch (in->op) {
    case OP_SHL:
    case OP_SHR: /* CF holds no bit of the operand once all have gone */
        if (kind == COUNT_UNKNOWN ? bits < 32 : count >= bits) return F_OF | F_CF;
        return F_OF;
    case OP_SHLD:
    case OP_SHRD: /* beyond the operand size even the result is undefined */
        if (kind == COUNT_UNKNOWN ? bits < 32 : count > bits) return F_ARITH;
        return F_OF;
    default: return F_OF;
    }
}

u32 insn_flags_read(const struct insn *in)
{
    const struct insn_row *row = in->row;
    u32 count = 0;

    if (row->attr & A_CC) return cc_reads[in->cc >> 1];
    if (row->attr & A_FLAGCNT) {
        switch (shift_count(in, &count)) {
        case COUNT_ZERO: return 0;
        case COUNT_UNKNOWN: return row->reads | row->writes | row->undef;
        default: return row->reads;
        }
    }
    if (rep_may_do_nothing(in)) return row->reads | row->writes;
    return row->reads;
}

u32 insn_flags_written(const struct insn *in)
{
    const struct insn_row *row = in->row;
    u32 count = 0;

    if (row->attr & A_FLAGCNT) {
        enum count_kind kind = shift_count(in, &count);
        if (kind == COUNT_ZERO || kind == COUNT_UNKNOWN) return 0;
    }
    if (rep_may_do_nothing(in)) return 0;
    return row->writes & ~insn_flags_undef(in);
}

u32 insn_flags_undef(const struct insn *in)
{
    const struct insn_row *row = in->row;
    u32 count = 0;

    if ((row->attr & A_FLAGCNT) && shift_count(in, &count) == COUNT_ZERO) return 0;
    if (row->attr & A_FLAGS0) return row->undef | undef_by_count(in);
    return row->undef;
}

/* ---- where it has constants ---- */

static unsigned imm_size(const struct insn *in, u8 enc)
{
    switch (enc) {
    case ENC_Ib:
    case ENC_Ibs:
    case ENC_Jb: return 1;
    case ENC_Iw: return 2;
    case ENC_Iz:
    case ENC_Jz: return in->opsize;
    case ENC_Ap: return in->opsize + 2u;
    default: return 0;
    }
}

unsigned insn_imm_bytes(const struct insn *in)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 4; i++) n += imm_size(in, in->row->enc[i]);
    return n;
}

unsigned insn_imm32_at(const struct insn *in)
{
    for (unsigned i = 0; i < 4; i++)
        if ((in->row->enc[i] == ENC_Iz || in->row->enc[i] == ENC_Jz) && in->opsize == 4) return in->len - 4u;
    return 0;
}

unsigned insn_disp32_at(const struct insn *in)
{
    if (in->addrsize != 4) return 0;
    bool moffs = false;
    for (unsigned i = 0; i < 4; i++) moffs |= in->row->enc[i] == ENC_Ob || in->row->enc[i] == ENC_Ov;
    unsigned mod = in->row->form == MR_NONE ? 3 : in->modrm >> 6;
    bool disp32 = moffs || mod == 2 || (mod == 0 && in->base < 0);
    return disp32 ? in->len - insn_imm_bytes(in) - 4 : 0;
}

bool insn_writes_mem(const struct insn *in)
{
    const struct operand *mem = insn_mem(in);
    if (!mem) return false;
    return mem == &in->opnd[0] ? (in->row->attr & A_WR) != 0 : mem == &in->opnd[1] && in->row->attr & A_WR1;
}
