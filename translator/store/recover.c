/* Host pc to guest instruction, from the records that lowering left. Async-signal-safe, all of it. */
#include "translator/store/chain.h"
#include "translator/store/recover.h"

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
    out->eip = b->eip + rec[i].guest;
    unsigned first = PAGE_SIZE - (unsigned)(b->pa & (PAGE_SIZE - 1));
    out->pa = rec[i].guest < first ? b->pa + rec[i].guest : b->pa2 + (rec[i].guest - first);
    return true;
}

bool xl_break(struct xl *xl, u64 host_pc)
{
    struct block *b = xl_block_at(xl, host_pc);
    if (!b) return false;
    xl_unlink_out(xl, b);
    return true;
}
