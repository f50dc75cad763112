/* Host pc to guest instruction, from the records that lowering left: async-signal-safe. And what such a point of a
 * block means for the x87 unit's pointers. */
#include "translator/store/chain.h"
#include "translator/store/recover.h"
#include "translator/front/decode.h"
#include "translator/front/x87.h"
#include "translator/store/xl.h"

struct block *xl_block_at(struct xl *xl, u64 host_pc)
{
    u64 off = host_pc - (u64)xl->rx;
    if (off >= xl->used) return NULL;
    u32 lo = 0, hi = xl->nblocks;
    while (lo < hi) {
        u32 mid = (lo + hi) / 2;
        if (xl->arena[mid].host_off <= off) lo = mid + 1;
        else hi = mid;
    }
    if (lo == 0) return NULL;
    struct block *b = &xl->arena[lo - 1];
    return off < (u64)b->host_off + b->host_len ? b : NULL;
}

bool xl_recover(struct xl *xl, u64 host_pc, struct xl_point *out)
{
    struct block *b = xl_block_at(xl, host_pc);
    if (!b || !b->nrec) return false;
    const struct record *rec = (const struct record *)(xl->side + b->rec_off);
    u32 off = (u32)(host_pc - (u64)xl->rx) - b->host_off;
    unsigned i = 0;
    while (i + 1 < b->nrec && rec[i + 1].host <= off) i++;
    out->block = b;
    unsigned guest = record_guest(&rec[i]);
    out->told = rec[i].guest & RECORD_TOLD;
    out->begins = b->eip;
    out->eip = b->eip + guest;
    unsigned first = PAGE_SIZE - (unsigned)(b->pa & (PAGE_SIZE - 1));
    out->pa = guest < first ? b->pa + guest : b->pa2 + (guest - first);
    return true;
}

bool xl_recover_x87(struct xl *xl, const struct xl_point *at, struct xl_x87 *out)
{
    const struct block *b = at->block;
    struct insn insn[2], operand; /* the present one, and the last that has moved the pointers */
    struct x87_track t = { 0 };
    if (!b->moves_x87) return false;
    for (u32 off = 0; off < b->guest_len; off += insn->len) {
        enum decode_status st = decode(xl->cfg.dec, xl->side + b->bytes + off, b->guest_len - off, b->eip + off,
                                       (b->mode & MK_CS32) != 0, xl->cfg.opt.features, &insn[0]);
        if (st != DECODE_OK) break;                           /* left to the interpreter, and the last */
        if (x87_operand_lost(&t, &insn[0])) t.operand = NULL; /* it is stored */
        if (insn[0].eip == at->eip) break;
        x87_track(&t, &insn[0]);
        if (t.operand == &insn[0]) t.operand = &operand, operand = insn[0];
        if (t.last == &insn[0]) t.last = &insn[1], insn[1] = insn[0];
    }
    *out = (struct xl_x87){ .moved = t.last != NULL, .addressed = t.operand != NULL };
    if (t.last) out->ip = t.last->eip, out->op = x87_opcode(t.last);
    if (t.operand) out->operand = operand, out->off = t.moved;
    return out->moved;
}

/* Records ascend with the instructions, but for those of islands. */
static unsigned insn_index(const struct xl *xl, const struct block *b, unsigned guest)
{
    const struct record *rec = (const struct record *)(xl->side + b->rec_off);
    unsigned n = 0, seen = 0;
    for (unsigned i = 0; i < b->nrec && seen < guest; i++) {
        unsigned at = record_guest(&rec[i]);
        if (i && at <= seen) continue;
        seen = at;
        n += i != 0;
    }
    return n;
}

static void add(u64 tally[TALLIES], u32 mask, int n)
{
    for (u32 m = mask; m; m &= m - 1) tally[__builtin_ctz(m)] += (u64)(s64)n;
}

void xl_tallies_undo(const struct xl *xl, const struct xl_point *at, bool after, u64 tally[TALLIES])
{
    const struct block *b = at->block;
    if (!b->tallies) return;
    const struct counted *how = (const struct counted *)(xl->side + b->tallies);
    unsigned done = insn_index(xl, b, at->eip - b->eip) + after;
    if (how->before != XL_AT_ENTRY && done <= how->before) {
        add(tally, how->entered, 1);
        for (unsigned i = 0; i < done; i++) add(tally, how->insn[i], 1);
    } else
        for (unsigned i = done; i < b->ninsns; i++) add(tally, how->insn[i], -1);
}

bool xl_break(struct xl *xl, u64 host_pc)
{
    struct block *b = xl_block_at(xl, host_pc);
    if (!b) return false;
    xl_unlink_out(xl, b);
    return true;
}
