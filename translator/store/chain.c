/* Owns the graph: edges between blocks of one page. For everything else there are jump caches (jump.c).
 *
 *   I1  An edge is linked iff e->to is set; then its rel32 points at to's entry, and it is on to's `in` list.
 *   I2  Only LIVE blocks are linked to. */
#include "translator/store/chain.h"
#include "translator/store/jump.h"

struct edge *xl_edge(struct xl *xl, u64 number) { return &xl->arena[number / 2].edge[number % 2]; }
vaddr xl_edge_target(const struct edge *e) { return e->from->eip + e->target - (e->from->la & ~PAGE_MASK); }

static void point(struct xl *xl, const struct edge *e, u32 target_off)
{
    emit_patch32(xl->rw + e->patch, xl->rw + target_off);
}

/* Whether e leads to its block's own second copy, if that is wanted. */
static bool edge_turns(const struct edge *e)
{
    return e->from->x87 & BLOCK_X87_TURNS && e->target == (e->from->la & ~PAGE_MASK);
}

static bool same_place(const struct block *a, const struct block *b)
{
    return a->la == b->la && a->eip == b->eip && a->pa == b->pa && a->mode == b->mode && a->context == b->context;
}

/* LIVE: so that what has run is what is there. */
bool xl_turns(const struct edge *e, const struct block *to)
{
    const struct block *from = e->from;
    return unlikely(edge_turns(e)) && from->state == BLOCK_LIVE && to->state == BLOCK_LIVE && same_place(from, to)
           && to->x87 & BLOCK_X87_TURNS;
}

void xl_link(struct xl *xl, struct edge *e, struct block *to)
{
    const struct block *from = e->from;
    if (!(to->x87 & BLOCK_X87_DUE) == edge_turns(e)) return;
    if (e->to || from->state != BLOCK_LIVE || to->state != BLOCK_LIVE || to->pa2 != XL_NO_PAGE || to->partial) return;
    if (to->eip != xl_edge_target(e) || to->mode != from->mode || to->context != from->context
        || to->la - to->eip != from->la - from->eip || to->pa - to->la != from->pa - from->la)
        return; /* mapped elsewhere meanwhile, or another code segment */
    e->to = to;
    e->next_in = to->in;
    to->in = e;
    point(xl, e, to->host_off);
    xl->cfg.ctr->chains++;
    TRACE(xl->cfg.trace, chain, e->from->eip, "chain: %08x -> %08x\n", e->from->eip, to->eip);
}

static void unlink_out(struct xl *xl, struct edge *e)
{
    if (!e->to) return;
    struct edge **at = &e->to->in;
    while (*at != e) at = &(*at)->next_in;
    *at = e->next_in;
    e->to = NULL;
    point(xl, e, e->thunk);
    xl->cfg.ctr->unchains++;
}

void xl_unlink_out(struct xl *xl, struct block *b)
{
    for (unsigned i = 0; i < 2; i++) unlink_out(xl, &b->edge[i]);
}

void xl_unlink_block(struct xl *xl, struct block *b)
{
    while (b->in) unlink_out(xl, b->in);
    xl_unlink_out(xl, b);
    xl_jump_forget(xl, b);
}

void xl_reset_edges(struct xl *xl, struct block *b)
{
    for (unsigned i = 0; i < 2; i++)
        if (b->edge[i].to) point(xl, &b->edge[i], b->edge[i].thunk);
}
