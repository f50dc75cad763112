/* Instruction x mode x class switches -> how it is done. Adams & Agesen's terms: identity (copied, operands
 * re-encoded), simulation in line (a lower_* of its own), callout, and leaving for the interpreter. */
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_far.h"
#include "translator/lower/lower_int.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_stream.h"
#include "translator/lower/lower_string.h"
#include "translator/lower/lower_sys.h"
#include "translator/lower/policy.h"
#include "translator/translator.h"

static bool supervisor(const struct xl_ctx *x) { return (x->src->mode & MK_CPL) == 0; }

static bool user(const struct xl_ctx *x) { return (x->src->mode & MK_CPL) == 3; }

static bool gpr_is_esp(const struct operand *o) { return o->kind == OPK_REG && o->reg == G_ESP && o->size > 1; }
static bool high_byte(const struct operand *o) { return o->kind == OPK_REG && o->size == 1 && o->reg >= 4; }

/* AH..BH cannot be named in a host instruction that needs a REX prefix, which R14d (ESP) or R8-R11 do: the encoding
 * would mean SPL..DIL. For a memory operand lower_ident() finds a way through RSI. */
static bool high_byte_conflict(const struct insn *in)
{
    bool high = false, esp = false;
    for (unsigned i = 0; i < in->nops; i++) {
        high |= high_byte(&in->opnd[i]);
        esp |= gpr_is_esp(&in->opnd[i]);
    }
    return high && esp;
}

/* Where others use the memory: AH..BH as an operand takes a trial access that writes a byte back (lower_ident), which
 * could undo what somebody else has just written. */
static bool writes_back(const struct xl_ctx *x, const struct insn *in)
{
    if (!x->opt->shared || !insn_writes_mem(in)) return false;
    for (unsigned i = 0; i < in->nops; i++)
        if (high_byte(&in->opnd[i])) return true;
    return false;
}

/* Repeated: only what the helper does, with the segments it assumes. */
static lower_fn *policy_string(const struct xl_ctx *x, const struct insn *in)
{
    if (in->addrsize != 4 && !xl_segmented(x)) return xl_lower_emulate;
    if (!(in->prefixes & (IP_REP | IP_REPNE))) return lower_string;
    if (lower_stream_memory(x, in)) return xl_lower_emulate; /* the helper tells nobody of what it does */
    if (xl_segmented(x)) return in->op == OP_LODS ? xl_lower_emulate : lower_rep_string;
    if (in->op == OP_STOS || in->op == OP_SCAS) return x->src->mode & MK_ESFLAT ? lower_rep_string : xl_lower_emulate;
    bool flat = x->src->mode & MK_ESFLAT && x->src->mode & MK_DSFLAT
                && (!(in->prefixes & IP_SEG) || in->seg == S_DS || in->seg == S_ES);
    return (in->op == OP_MOVS || in->op == OP_CMPS) && flat ? lower_rep_string : xl_lower_emulate;
}

/* CR4 came with CPUID: without it, reading is #UD. */
static bool has_cr(const struct xl_ctx *x, unsigned n)
{
    return n == 0 || n == 2 || n == 3 || (n == 4 && x->opt->features & 1u << FEAT_CPUID);
}

/* Interrupts are to wait for the next instruction, which must be in this block, and stay there. */
static lower_fn *policy_load_ss(const struct xl_ctx *x)
{
    bool goes_on = x->cur + 1 < x->scan.n && !(x->src->mode & MK_CHECKED) && !x->src->tap;
    return xl_segmented(x) && goes_on ? lower_load_ss : xl_lower_emulate;
}

static lower_fn *policy_far(const struct xl_ctx *x, const struct insn *in)
{
    bool real = !(x->src->mode & MK_PE);
    if (!xl_segmented(x)) return xl_lower_emulate;
    if (!(x->src->context & CONTEXT_PARAGRAPHS) || in->opsize != 2 || x->stream.memory) return lower_far;
    if (in->op == OP_INT) return real ? lower_int_real : lower_far;
    return in->op == OP_IRET ? lower_iret_paragraph : lower_far_paragraph;
}

static lower_fn *policy_system(const struct xl_ctx *x, const struct insn *in)
{
    bool segmented = xl_segmented(x);
    switch (in->op) {
    case OP_PUSHF: /* in virtual-8086 mode it depends on IOPL */
        if (x->src->mode & MK_VM) return in->opsize == 2 ? lower_pushf_vm86 : xl_lower_emulate;
        return in->opsize == 4 || segmented ? lower_pushf : xl_lower_emulate;
    case OP_CLI: return supervisor(x) ? lower_cli : segmented && user(x) ? lower_cli_user : xl_lower_emulate;
    case OP_STI: return supervisor(x) ? lower_sti : segmented && user(x) ? lower_sti_user : xl_lower_emulate;
    case OP_MOV_FROM_SREG: return lower_mov_from_sreg;
    case OP_MOV_FROM_CR: return supervisor(x) && has_cr(x, in->opnd[1].reg) ? lower_mov_from_cr : xl_lower_emulate;
    case OP_POPF:
        if (segmented) return in->opsize == 2 ? lower_popf16 : xl_lower_emulate;
        return supervisor(x) && in->opsize == 4 ? lower_popf : xl_lower_emulate;
    case OP_PUSH_SREG: return in->opsize == 4 || segmented ? lower_push_sreg : xl_lower_emulate;
    case OP_POP_SREG:
        if (in->opnd[0].reg == S_SS) return policy_load_ss(x);
        return in->opsize == 4 || segmented ? lower_pop_sreg : xl_lower_emulate;
    case OP_MOV_TO_SREG:
        if (in->opnd[0].reg == S_SS) return policy_load_ss(x);
        return in->opnd[0].reg != S_CS ? lower_mov_sreg : xl_lower_emulate;
    case OP_LSS:
    case OP_LDS:
    case OP_LES:
    case OP_LFS:
    case OP_LGS: return segmented ? lower_load_far : xl_lower_emulate;
    case OP_IRET: return segmented || in->opsize != 4 ? policy_far(x, in) : lower_iret;
    case OP_INT: return segmented ? policy_far(x, in) : lower_int;
    case OP_RETF:
    case OP_JMPF:
    case OP_CALLF: return policy_far(x, in);
    case OP_SYSENTER: return lower_sysenter;
    case OP_SYSEXIT: return lower_sysexit;
    case OP_INVLPG:
        return supervisor(x) && (in->seg == S_DS || in->seg == S_SS) && x->src->mode & MK_DSFLAT
                       && x->src->mode & MK_SSFLAT
                   ? lower_invlpg
                   : xl_lower_emulate;
    case OP_RDTSC: return lower_rdtsc;
    default: return xl_lower_emulate;
    }
}

static lower_fn *policy_fp(const struct xl_ctx *x, const struct insn *in)
{
    switch (in->op) {
    case OP_LDMXCSR: return mxcsr_mask(x->opt->features) == 0xffff ? lower_ldmxcsr : xl_lower_emulate;
    /* These carry the FPU's instruction and data pointers or host-sized images, or touch memory that is not an operand.
     */
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_FNSAVE:
    case OP_FRSTOR:
    case OP_FNSTENV:
    case OP_FLDENV:
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU: return xl_lower_emulate;
    default: return lower_ident;
    }
}

static lower_fn *policy_int(const struct xl_ctx *x, const struct insn *in)
{
    switch (in->op) {
    case OP_NOP:
    case OP_PAUSE:
    case OP_PREFETCH: return lower_nop;
    case OP_MFENCE:
    case OP_SFENCE:
    case OP_LFENCE: /* orders RDTSC, too */ return x->opt->shared || in->op == OP_LFENCE ? lower_ident : lower_nop;
    case OP_LEA: return lower_lea;
    case OP_INC:
    case OP_DEC: return in->row->form == MR_NONE ? lower_incdec_z : lower_ident;
    case OP_MOV:
        if (in->row->form != MR_NONE) return lower_ident;
        return insn_has_mem(in) ? lower_moffs : lower_mov_zv;
    case OP_XCHG:
        if (in->row->form == MR_NONE) return lower_xchg_zv;
        return insn_has_mem(in) ? lower_xchg_mem : lower_ident;
    case OP_BSWAP: return in->opsize == 4 ? lower_bswap : xl_lower_emulate;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC:
        if (!insn_has_mem(in) || in->opnd[1].kind != OPK_REG) return lower_ident;
        return in->opsize == 4 && in->addrsize == 4 ? lower_bt_mem : xl_lower_emulate;
    case OP_ADD:
    case OP_OR:
    case OP_ADC:
    case OP_SBB:
    case OP_AND:
    case OP_SUB:
    case OP_XOR:
    case OP_CMP:
    case OP_TEST:
    case OP_NOT:
    case OP_NEG:
    case OP_MUL:
    case OP_IMUL:
    case OP_DIV:
    case OP_IDIV:
    case OP_ROL:
    case OP_ROR:
    case OP_RCL:
    case OP_RCR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
    case OP_SHLD:
    case OP_SHRD:
    case OP_MOVZX:
    case OP_MOVSX:
    case OP_CMOVCC:
    case OP_SETCC:
    case OP_BSF:
    case OP_BSR:
    case OP_XADD:
    case OP_CMPXCHG:
    case OP_CMPXCHG8B:
    case OP_CBW:
    case OP_CWD:
    case OP_LAHF:
    case OP_SAHF:
    case OP_CLC:
    case OP_STC:
    case OP_CMC:
    case OP_MOVBE: return lower_ident;
    case OP_CLD:
    case OP_STD: return lower_cldstd;
    case OP_XLAT:
        return in->addrsize == 4 || xl_segmented(x) ? lower_xlat
                                                    : xl_lower_emulate; /* no operands that would have been looked at */
    default: return xl_lower_emulate;
    }
}

static lower_fn *policy_stack(const struct xl_ctx *x, const struct insn *in)
{
    if (in->opsize != 4 && !xl_segmented(x)) return xl_lower_emulate;
    switch (in->op) {
    case OP_PUSH: return lower_push;
    case OP_POP: /* into memory: ESP as it will be is no sum if only SP is added to */
        return insn_has_mem(in) && in->base == G_ESP && !(x->src->mode & MK_SS32) ? xl_lower_emulate : lower_pop;
    case OP_LEAVE: return lower_leave;
    case OP_PUSHA:
    case OP_POPA: return x->stream.memory ? xl_lower_emulate : lower_pusha;
    case OP_ENTER: return in->imm2 & 31 || x->stream.memory ? xl_lower_emulate : lower_enter;
    default: return xl_lower_emulate;
    }
}

static lower_fn *policy_ctl(const struct xl_ctx *x, const struct insn *in)
{
    bool segmented = xl_segmented(x);
    if (in->opsize != 4 && !segmented) return xl_lower_emulate;
    if (segmented && in->opnd[0].kind == OPK_REL && in->target > x->src->limit) return xl_lower_emulate; /* #GP */
    switch (in->op) {
    case OP_JMP: return lower_jmp;
    case OP_JCC: return lower_jcc;
    case OP_CALL: return lower_call;
    case OP_RET: return lower_ret;
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE:
    case OP_JCXZ: return in->addrsize == 4 || segmented ? lower_loop : xl_lower_emulate;
    default: return xl_lower_emulate;
    }
}

lower_fn *xl_policy(const struct xl_ctx *x, const struct insn *in)
{
    const struct insn_row *row = in->row;
    if (row == &insn_rows[INSN_INVALID] || x->opt->disabled & 1u << row->cls) return xl_lower_emulate;
    if (insn_has_mem(in) && in->addrsize != 4 && !xl_segmented(x)) return xl_lower_emulate;
    if (high_byte_conflict(in) || writes_back(x, in)) return xl_lower_emulate;
    if (in->seg == S_CS && insn_writes_mem(in) && !xl_segmented(x))
        return xl_lower_emulate; /* flat as it may be, a code segment is not writable: #GP */
    switch (row->cls) {
    case CLS_int:
    case CLS_bcd: return policy_int(x, in);
    case CLS_stack: return policy_stack(x, in);
    case CLS_ctl: return policy_ctl(x, in);
    case CLS_string: return policy_string(x, in);
    case CLS_flag:
    case CLS_seg:
    case CLS_sys: return policy_system(x, in);
    case CLS_x87:
    case CLS_mmx:
    case CLS_sse: return policy_fp(x, in);
    default: return xl_lower_emulate;
    }
}
