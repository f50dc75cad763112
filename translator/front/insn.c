/* The instruction table as data, and where one decoded instruction has its constants. */
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
