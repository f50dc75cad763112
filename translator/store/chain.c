/* Owns the graph: edges between blocks of one page, and the jump caches for everything else.
 *
 *   I1  An edge is linked iff e->to is set; then its rel32 points at to's entry, and it is on to's `in` list.
 *   I2  Only LIVE blocks are linked to or found in a jump cache.
 *   I3  A jump-cache entry that is not empty is on its list exactly once. One whose block has gone, or that has been
 *       dropped, is a tombstone: it matches no EIP, and stays on the list until a flush.
 *       [xl_jump_forget, xl_jump_drop_some]
 *   I4  An EIP has two entries where it may be: that of its jump_index(), and the one after that. It is filled in at
 * the first; what it finds there of the same index moves on to the second. Translated code looks at the first only; its
 * way out, rt_exit_jump in enter_x64.S, looks at the second before it leaves.             [xl_jump_fill]
 *   I5  Segmented code has a jump cache of its own, whose entries name the context too: it goes on being right when CS
 *       changes. There each has one entry. */
#include "translator/store/chain.h"
#include "translator/store/alias.h"

#include <string.h>

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

static u32 index_of(const struct block *b)
{
    return b->context ? (b->eip + jump_spread(b->context)) % JUMP_ENTRIES : jump_index(b->eip);
}

/* A tombstone is the entry of an EIP 800h below that of the block that has gone. The index of such an EIP is 800h or
 * 801h less (jump_index()), so that it is looked for neither here nor in the entry before this one. */
#define TOMBSTONE 0x800u

void xl_jump_forget(struct xl *xl, const struct block *b)
{
    unsigned which = b->context ? XL_JC_SEGMENTED : (b->mode & MK_CPL) == 3 ? XL_JC_USER : XL_JC_SUPERVISOR;
    for (unsigned i = 0; i < 2; i++) {
        struct jump_entry *j = &xl->jc[which][(index_of(b) + i) % JUMP_ENTRIES];
        if (j->code == xl_entry(xl, b)) j->neg_eip = (u32)-b->eip + TOMBSTONE;
    }
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

void *xl_jump_cache(struct xl *xl, enum xl_jump_cache which) { return xl->jc[which]; }

/* An empty entry matches no EIP that is looked for there; 0 would match EIP 0. */
void xl_jump_empty(struct xl *xl, enum xl_jump_cache which) { xl->jc[which][0].neg_eip = xl->jc[which][1].neg_eip = 1; }

static void note_page(struct xl *xl, unsigned which, laddr la)
{
    struct page_set *pages = xl->jc_pages[which];
    u32 n = la >> PAGE_SHIFT, line = n / PAGE_SET_LINE;
    pages->bit[n / 64] |= 1ull << n % 64;
    pages->line[line / 64] |= 1ull << line % 64;
}

static void forget_pages(struct page_set *pages)
{
    for (unsigned i = 0; i < ARRAY_LEN(pages->line); i++)
        for (; pages->line[i]; pages->line[i] &= pages->line[i] - 1) {
            u32 line = i * 64 + (u32)__builtin_ctzll(pages->line[i]);
            memset(&pages->bit[line * PAGE_SET_LINE / 64], 0, PAGE_SET_LINE / 8);
        }
}

bool xl_jump_knows(const struct xl *xl, enum xl_jump_cache which, laddr la)
{
    const struct page_set *pages = xl->jc_pages[which];
    u32 n = la >> PAGE_SHIFT, line = n / PAGE_SET_LINE;
    return pages->line[line / 64] >> line % 64 & 1 && pages->bit[n / 64] >> n % 64 & 1;
}

bool xl_jump_next_page(const struct xl *xl, enum xl_jump_cache which, u32 *page)
{
    const struct page_set *pages = xl->jc_pages[which];
    u32 n = *page;
    while (n < TLB_PAGES) {
        u32 line = n / PAGE_SET_LINE;
        u64 bits = pages->bit[n / 64] >> n % 64;
        if (bits) {
            *page = n + (u32)__builtin_ctzll(bits);
            return true;
        }
        bool any = pages->line[line / 64] >> line % 64 & 1;
        n = any ? (n / 64 + 1) * 64 : (line + 1) * PAGE_SET_LINE;
    }
    return false;
}

static u64 neg_tag(const struct block *b) { return b->context ? -jump_tag(b->context, b->eip) : (u32)-b->eip; }

/* Whoever looks into the cache is in one code segment at a time: who enters another one has flushed it. */
static void note_base(struct xl *xl, enum xl_jump_cache which, const struct block *b)
{
    BUG_ON(!b->context && xl->jc_count[which] && xl->jc_base[which] != b->la - b->eip);
    xl->jc_base[which] = b->la - b->eip;
}

static void jump_put(struct xl *xl, enum xl_jump_cache which, u32 index, struct jump_entry e)
{
    struct jump_entry *j = &xl->jc[which][index];
    if (!j->code) xl->jc_list[which][xl->jc_count[which]++] = (u16)index;
    *j = e;
}

void xl_jump_fill(struct xl *xl, enum xl_jump_cache which, struct block *b)
{
    u32 index = index_of(b);
    const struct jump_entry *there = &xl->jc[which][index];
    if (b->partial || b->state != BLOCK_LIVE) return;
    note_base(xl, which, b);
    xl->jc_drops[which] = 0;
    if (!b->context && there->code && there->neg_eip != (u32)-b->eip && jump_index(-there->neg_eip) == index)
        jump_put(xl, which, (index + 1) % JUMP_ENTRIES, *there);
    jump_put(xl, which, index, (struct jump_entry){ .neg_tag = neg_tag(b), .code = xl->rx + b->host_off });
    note_page(xl, which, b->la);
    if (b->pa2 != XL_NO_PAGE) note_page(xl, which, b->la + PAGE_SIZE);
}

/* Whether EIPs of the one mean the same in the other's mode and code segment. */
static bool same_segment(const struct block *a, const struct block *b)
{
    return a->mode == b->mode && a->context == b->context && a->la - a->eip == b->la - b->eip;
}

void xl_jump_fill_page(struct xl *xl, enum xl_jump_cache which, struct block *b)
{
    bool first = !xl_jump_knows(xl, which, b->la);
    xl_page_jumped(b);
    xl_jump_fill(xl, which, b);
    if (!first) return;
    for (struct block *other = b->alias->first; other && other->jumped; other = other->alias_next)
        if (same_segment(other, b)) xl_jump_fill(xl, which, other);
}

void xl_jump_flush(struct xl *xl, enum xl_jump_cache which)
{
    if (!xl->jc_count[which]) return;
    for (u32 i = 0; i < xl->jc_count[which]; i++) xl->jc[which][xl->jc_list[which][i]] = (struct jump_entry){ 0 };
    xl_jump_empty(xl, which);
    xl->jc_count[which] = 0;
    forget_pages(xl->jc_pages[which]);
}

void xl_jump_drop_some(struct xl *xl, enum xl_jump_cache which, bool (*drops)(void *arg, vaddr eip), void *arg)
{
    for (u32 i = 0; i < xl->jc_count[which]; i++) {
        u32 index = xl->jc_list[which][i];
        struct jump_entry *j = &xl->jc[which][index];
        vaddr eip = (u32)-j->neg_eip;
        u32 home = jump_index(eip);
        bool there = home == index || (home + 1) % JUMP_ENTRIES == index; /* else a tombstone already */
        if (there && drops(arg, eip)) j->neg_eip += TOMBSTONE;
    }
}

/* Pages dropped with nothing filled between them: an address space that is being taken apart, whose entries nobody will
 * look up again. To look through all of them for each of its pages costs more than to fill some again. */
#define DROPS_IN_A_ROW 2u
#define REACH 15u /* an instruction of the page before may run into this one */

/* The EIPs whose blocks may have code in one page: from *first on. */
static bool in_page(void *first, vaddr eip) { return eip - *(const vaddr *)first < PAGE_SIZE + REACH; }

/* They are found by index: an entry for each of them, and the next. */
static void drop_by_index(struct xl *xl, enum xl_jump_cache which, vaddr first)
{
    for (vaddr eip = first; in_page(&first, eip); eip++)
        for (u32 place = 0; place < 2; place++) {
            struct jump_entry *j = &xl->jc[which][(jump_index(eip) + place) % JUMP_ENTRIES];
            if (j->code && j->neg_eip == (u32)-eip) j->neg_eip += TOMBSTONE;
        }
}

void xl_jump_drop_page(struct xl *xl, enum xl_jump_cache which, laddr la)
{
    vaddr first = (la & PAGE_MASK) - REACH - xl->jc_base[which];
    u32 n = la >> PAGE_SHIFT;
    if (!xl_jump_knows(xl, which, la)) return;
    if (which == XL_JC_SEGMENTED || ++xl->jc_drops[which] > DROPS_IN_A_ROW) {
        xl_jump_flush(xl, which);
        return;
    }
    if (xl->jc_count[which] < PAGE_SIZE) xl_jump_drop_some(xl, which, in_page, &first);
    else drop_by_index(xl, which, first);
    xl->jc_pages[which]->bit[n / 64] &= ~(1ull << n % 64);
}

void xl_jump_drop_pages(struct xl *xl, enum xl_jump_cache which, laddr la, u32 n)
{
    u32 page = la >> PAGE_SHIFT, end = page + n;
    if (n == 1) {
        xl_jump_drop_page(xl, which, la);
        return;
    }
    while (page < end && !xl->jc_pages[which]->bit[page / 64]) page = (page / 64 + 1) * 64;
    if (page < end) xl_jump_flush(xl, which);
}
