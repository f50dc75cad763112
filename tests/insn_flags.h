/* What one decoded instruction does to the flags: for those who compare flags, or show what is compared. A row of
 * insn.def says what a form does to them at its most; these refine that for one instance, and err to the safe side
 * where the instance alone does not tell:
 *
 *   I1  insn_flags_read      never leaves out a flag whose old value can show in the result.
 *   I2  insn_flags_written   has only flags that get a defined value whatever the registers hold.
 *   I3  insn_flags_undef     has every flag that may come out undefined; it is disjoint from insn_flags_written. */
#ifndef TESTS_INSN_FLAGS_H
#define TESTS_INSN_FLAGS_H
#include "core/cpu.h"
#include "translator/front/insn.h"

/* Condition codes (SDM vol. 1, appendix B): pairs of opposite conditions read the same flags. */
static const u32 cc_reads[8] = {
    F_OF, F_CF, F_ZF, F_CF | F_ZF, F_SF, F_PF, F_SF | F_OF, F_ZF | F_SF | F_OF,
};

/* How often a shift or rotate moves, after the masking that all processors since the 186 do. */
enum count_kind { COUNT_ZERO, COUNT_ONE, COUNT_MANY, COUNT_UNKNOWN };

static inline enum count_kind shift_count(const struct insn *in, u32 *count)
{
    unsigned last = in->row->enc[2] != ENC_NONE ? 2 : 1; /* SHLD and SHRD: third operand */
    if (in->row->enc[last] == ENC_CL) return COUNT_UNKNOWN;
    *count = in->imm & 31;
    return *count == 0 ? COUNT_ZERO : *count == 1 ? COUNT_ONE : COUNT_MANY;
}

/* REP CMPS and REP SCAS with a count of zero leave the flags alone. */
static inline bool rep_may_do_nothing(const struct insn *in)
{
    return (in->row->attr & A_REPCC) && (in->prefixes & (IP_REP | IP_REPNE));
}

/* Flags beyond row->undef that a count other than one leaves undefined (SDM vol. 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR,
 * SHLD, SHRD). */
static inline u32 undef_by_count(const struct insn *in)
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

static inline u32 insn_flags_read(const struct insn *in)
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

static inline u32 insn_flags_undef(const struct insn *in)
{
    const struct insn_row *row = in->row;
    u32 count = 0;

    if ((row->attr & A_FLAGCNT) && shift_count(in, &count) == COUNT_ZERO) return 0;
    if (row->attr & A_FLAGS0) return row->undef | undef_by_count(in);
    return row->undef;
}

static inline u32 insn_flags_written(const struct insn *in)
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

#endif
