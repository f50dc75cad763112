/* Host pc to guest instruction, from the records that lowering left. Reads the graph only: async-signal-safe. */
#include "translator/xl.h"

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
