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

/* What is still to be stored, and the instructions that it is of. */
struct due {
    struct x87_track t;
    struct insn last, operand;
};

/* Through the instructions of b up to the one at eip, or all. */
static void follow(struct xl *xl, const struct block *b, vaddr eip, struct due *d)
{
    struct insn in;
    for (u32 off = 0; off < b->guest_len; off += in.len) {
        enum decode_status st = decode(xl->cfg.dec, xl->side + b->bytes + off, b->guest_len - off, b->eip + off,
                                       (b->mode & MK_CS32) != 0, xl->cfg.opt.features, &in);
        if (st != DECODE_OK) break;                            /* left to the interpreter, and the last */
        if (x87_operand_lost(&d->t, &in)) d->t.operand = NULL; /* it is stored */
        if (in.eip == eip) break;
        x87_track(&d->t, &in);
        if (d->t.operand == &in) d->t.operand = &d->operand, d->operand = in;
        if (d->t.last == &in) d->t.last = &d->last, d->last = in;
    }
}

bool xl_recover_x87(struct xl *xl, const struct xl_point *at, struct xl_x87 *out)
{
    const struct block *b = at->block;
    struct due d;
    if (!b->x87) return false;
    d.t = (struct x87_track){ 0 };
    if (b->x87 & BLOCK_X87_DUE) follow(xl, b, b->eip + b->guest_len, &d); /* the turn before */
    follow(xl, b, at->eip, &d);
    *out = (struct xl_x87){ .moved = d.t.last != NULL, .addressed = d.t.operand != NULL };
    if (d.t.last) out->ip = d.t.last->eip, out->op = x87_opcode(d.t.last);
    if (d.t.operand) out->operand = d.operand, out->off = d.t.moved;
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
