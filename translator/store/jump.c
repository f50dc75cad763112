/* Owns the jump caches: where control goes that is not on an edge.
 *
 *   I1  Only LIVE blocks are found in a jump cache.
 *   I2  A jump-cache entry that is not empty is on its list exactly once. One whose block has gone, or that has been
 *       dropped, is a tombstone: it matches no EIP, and stays on the list until a flush.
 *       [xl_jump_forget, xl_jump_drop_some]
 *   I3  An EIP has two entries where it may be: that of its jump_index(), and the one after that. It is filled in at
 * the first; what it finds there of the same index moves on to the second. Translated code looks at the first only; its
 * way out, rt_exit_jump in enter_x64.S, looks at the second before it leaves.             [put]
 *   I4  Segmented code has a jump cache of its own, whose entries name the context too: it goes on being right when CS
 *       changes. There each has one entry.
 *   I5  A page's memo names the targets of the alias that the page is known to be. It goes when the page's entries go,
 *       and is as right as they are.                                     [memo_of, xl_jump_drop_page] */
#include "translator/store/alias.h"
#include "translator/store/jump.h"
#include "translator/store/targets.h"

#include <string.h>

static u32 index_of(u32 context, vaddr eip)
{
    return context ? (eip + jump_spread(context)) % JUMP_ENTRIES : jump_index(eip);
}

/* A tombstone is the entry of an EIP 800h below that of the block that has gone. The index of such an EIP is 800h or
 * 801h less (jump_index()), so that it is looked for neither here nor in the entry before this one. */
#define TOMBSTONE 0x800u

void xl_jump_forget(struct xl *xl, const struct block *b)
{
    unsigned which = b->context ? XL_JC_SEGMENTED : (b->mode & MK_CPL) == 3 ? XL_JC_USER : XL_JC_SUPERVISOR;
    for (unsigned i = 0; i < 2; i++) {
        struct jump_entry *j = &xl->jc[which][(index_of(b->context, b->eip) + i) % JUMP_ENTRIES];
        if (j->code == xl_entry(xl, b)) j->neg_eip = (u32)-b->eip + TOMBSTONE;
    }
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

/* Whoever looks into the cache is in one code segment at a time: who enters another one has flushed it. */
static void note_base(struct xl *xl, enum xl_jump_cache which, u32 context, u32 base)
{
    BUG_ON(!context && xl->jc_count[which] && xl->jc_base[which] != base);
    xl->jc_base[which] = base;
}

static void jump_put(struct xl *xl, enum xl_jump_cache which, u32 index, struct jump_entry e)
{
    struct jump_entry *j = &xl->jc[which][index];
    if (!j->code) xl->jc_list[which][xl->jc_count[which]++] = (u16)index;
    *j = e;
}

static void put(struct xl *xl, enum xl_jump_cache which, u32 context, vaddr eip, void *code)
{
    u32 index = index_of(context, eip);
    const struct jump_entry *there = &xl->jc[which][index];
    if (!context && there->code && there->neg_eip != (u32)-eip && jump_index(-there->neg_eip) == index)
        jump_put(xl, which, (index + 1) % JUMP_ENTRIES, *there);
    u64 neg_tag = context ? -jump_tag(context, eip) : (u32)-eip;
    jump_put(xl, which, index, (struct jump_entry){ .neg_tag = neg_tag, .code = code });
}

void xl_jump_fill(struct xl *xl, enum xl_jump_cache which, struct block *b)
{
    if (b->partial || b->state != BLOCK_LIVE) return;
    note_base(xl, which, b->context, b->la - b->eip);
    xl->jc_drops[which] = 0;
    put(xl, which, b->context, b->eip, xl->rx + b->host_off);
    note_page(xl, which, b->la);
    if (b->pa2 != XL_NO_PAGE) note_page(xl, which, b->la + PAGE_SIZE);
}

static struct page_memo *memo_at(struct xl *xl, enum xl_jump_cache which, laddr la)
{
    return &xl->jc_memo[which][(la >> PAGE_SHIFT) % PAGE_MEMOS];
}

/* Of that page, if it has entries; NULL: not known. An alias that has been re-addressed is another page's. */
static struct targets *memo_of(struct xl *xl, enum xl_jump_cache which, laddr la)
{
    const struct page_memo *m = memo_at(xl, which, la);
    bool right = m->generation == xl->jc_generation[which] && m->page == la >> PAGE_SHIFT
                 && m->targets->alias->la == (la & PAGE_MASK);
    return right ? m->targets : NULL;
}

static void memo_set(struct xl *xl, enum xl_jump_cache which, laddr la, struct targets *t)
{
    *memo_at(xl, which, la) = (struct page_memo){ la >> PAGE_SHIFT, xl->jc_generation[which], t };
}

static void memo_forget(struct xl *xl, enum xl_jump_cache which, laddr la) { memo_at(xl, which, la)->generation = 0; }

static void memos_forget(struct xl *xl, enum xl_jump_cache which)
{
    if (++xl->jc_generation[which]) return;
    memset(xl->jc_memo[which], 0, PAGE_MEMOS * sizeof *xl->jc_memo[which]);
    xl->jc_generation[which] = 1;
}

static void put_target(struct xl *xl, enum xl_jump_cache which, const struct targets *t, const struct target *to)
{
    vaddr eip = t->alias->la + to->at - t->base;
    put(xl, which, t->context, eip, xl->rx + to->host_off);
}

/* All of a page that the embedder has just seen to be the alias's. */
static void fill_targets(struct xl *xl, enum xl_jump_cache which, struct targets *t)
{
    laddr la = t->alias->la;
    note_base(xl, which, t->context, t->base);
    xl->jc_drops[which] = 0;
    note_page(xl, which, la);
    memo_set(xl, which, la, t);
    for (u32 i = 0; i < t->n; i++) put_target(xl, which, t, &t->list[i]);
}

void xl_jump_fill_page(struct xl *xl, enum xl_jump_cache which, struct block *b)
{
    xl_jump_fill(xl, which, b);
    if (b->partial || b->state != BLOCK_LIVE || b->pa2 != XL_NO_PAGE) return;
    struct targets *t = xl_target_add(xl, b);
    if (t && memo_of(xl, which, b->la) != t) fill_targets(xl, which, t);
}

const void *xl_jump_known(struct xl *xl, enum xl_jump_cache which, const struct xl_source *src)
{
    struct alias *p = xl_alias(xl, src->la, src->pa);
    struct targets *t = p ? xl_targets_of(p, src->mode, src->context, src->la - src->eip) : NULL;
    const struct target *to = t ? xl_target_find(t, (u16)(src->la & ~PAGE_MASK)) : NULL;
    if (!to) return NULL;
    p->used = ++xl->finds;
    fill_targets(xl, which, t);
    return xl->rx + to->host_off;
}

const void *xl_jump_again(struct xl *xl, enum xl_jump_cache which, u32 mode, vaddr eip)
{
    laddr la = xl->jc_base[which] + eip;
    const struct targets *t = memo_of(xl, which, la);
    const struct target *to = t && t->mode == mode ? xl_target_find(t, (u16)(la & ~PAGE_MASK)) : NULL;
    if (!to) return NULL;
    xl->jc_drops[which] = 0;
    put_target(xl, which, t, to);
    return xl->rx + to->host_off;
}

void xl_jump_flush(struct xl *xl, enum xl_jump_cache which)
{
    memos_forget(xl, which);
    if (!xl->jc_count[which]) return;
    for (u32 i = 0; i < xl->jc_count[which]; i++) xl->jc[which][xl->jc_list[which][i]] = (struct jump_entry){ 0 };
    xl_jump_empty(xl, which);
    xl->jc_count[which] = 0;
    forget_pages(xl->jc_pages[which]);
}

static void drop_some(struct xl *xl, enum xl_jump_cache which, bool (*drops)(void *arg, vaddr eip), void *arg)
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

void xl_jump_drop_some(struct xl *xl, enum xl_jump_cache which, bool (*drops)(void *arg, vaddr eip), void *arg)
{
    memos_forget(xl, which);
    drop_some(xl, which, drops, arg);
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
    if (xl->jc_count[which] < PAGE_SIZE) drop_some(xl, which, in_page, &first);
    else drop_by_index(xl, which, first);
    xl->jc_pages[which]->bit[n / 64] &= ~(1ull << n % 64);
    memo_forget(xl, which, la);
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
