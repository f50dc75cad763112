/* Owns the blocks in the cache: look-up by key, retirement and revival.
 *
 *   I1  arena[0..nblocks) is in order of host_off, so a host pc finds its block by bisection. [xl_commit]
 *   I2  A block on the hash is LIVE or RETIRED; only a LIVE one has links or a jump-cache entry. [retire_block]
 *   I3  A block whose code reloc_apply() cannot correct for another address has template 0.       [template.c] */
#include "translator/store/alias.h"
#include "core/hash.h"
#include "translator/store/cache.h"
#include "translator/store/chain.h"
#include "translator/store/hostmem.h"
#include "translator/store/targets.h"

#include <string.h>

void xl_prefault(struct xl *xl)
{
    u64 size = xl->cfg.cache_bytes, want = xl->used + XL_MAX_HOST;
    hostmem_prefault(xl->rw, size, &xl->ready.rw, want, HOSTMEM_WRITE);
    hostmem_prefault(xl->rx, size, &xl->ready.rx, want, HOSTMEM_READ);
    hostmem_prefault(xl->arena, (u64)xl->max_blocks * sizeof *xl->arena, &xl->ready.arena,
                     (xl->nblocks + 1ull) * sizeof *xl->arena, HOSTMEM_WRITE);
    hostmem_prefault(xl->side, xl->side_max, &xl->ready.side, xl->side_used + XL_MAX_SIDE, HOSTMEM_WRITE);
}

/* ---- look-up ---- */

/* By alias, not by linear address: a block stays in its slot when its alias is re-addressed. */
static unsigned block_slot(const struct xl *xl, const struct alias *p, paddr pa, u32 mode)
{
    u64 key = (pa & ~(paddr)PAGE_MASK) ^ (u64)(p - xl->alias + 1) << PAGE_SHIFT ^ (u64)mode << 44;
    return (unsigned)hash_slot(key, xl->hash_bits);
}

struct block *xl_find(struct xl *xl, const struct xl_source *src)
{
    struct alias *p = xl_alias(xl, src->la, src->pa);
    if (!p) return NULL;
    p->used = ++xl->finds;
    for (struct block *b = xl->hash[block_slot(xl, p, src->pa, src->mode)]; b; b = b->hash_next)
        if (b->la == src->la && b->eip == src->eip && b->pa == src->pa && b->mode == src->mode
            && b->context == src->context && !(b->x87 & BLOCK_X87_DUE) == !src->x87_due)
            return b;
    return NULL;
}

unsigned xl_block_bytes(const struct block *b) { return b->guest_len; }
bool xl_block_turned(const struct block *b) { return b->x87 & BLOCK_X87_DUE; }
bool xl_block_live(const struct block *b) { return b->state == BLOCK_LIVE; }
bool xl_block_partial(const struct block *b) { return b->partial; }
paddr xl_block_pa2(const struct block *b) { return b->pa2; }
const void *xl_entry(const struct xl *xl, const struct block *b) { return xl->rx + b->host_off; }

/* ---- commit, retirement, revival ---- */

/* How many of len bytes are on the first page. */
static unsigned on_first(const struct xl_source *src, unsigned len) { return len < src->nbytes ? len : src->nbytes; }

void xl_keep_bytes(struct xl *xl, struct block *b, const struct xl_source *src)
{
    unsigned n = on_first(src, b->guest_len);
    u8 *to = xl->side + xl->side_used;
    b->bytes = (u32)xl->side_used;
    memcpy(to, src->bytes, n);
    if (n < b->guest_len) memcpy(to + n, src->bytes2, b->guest_len - n);
    xl->side_used += (b->guest_len + 3u) & ~3u;
}

/* Compared, not hashed: no process of a guest may leave its code to another that gets its page. */
static bool has_bytes(const struct xl *xl, const struct block *b, const struct xl_source *src)
{
    unsigned n = on_first(src, b->guest_len);
    const u8 *bytes = xl->side + b->bytes;
    return !memcmp(bytes, src->bytes, n) && (n == b->guest_len || !memcmp(bytes + n, src->bytes2, b->guest_len - n));
}

bool xl_block_checked(const struct block *b) { return (b->mode & MK_CHECKED) != 0; }

/* Of the instruction that has byte `at` of the block's. */
static unsigned insn_of_byte(const struct xl *xl, const struct block *b, unsigned at)
{
    const struct record *rec = (const struct record *)(xl->side + b->rec_off);
    unsigned begin = 0;
    for (unsigned i = 0; i < b->nrec; i++)
        if (record_guest(&rec[i]) <= at && record_guest(&rec[i]) > begin) begin = record_guest(&rec[i]);
    return begin;
}

bool xl_block_holds(const struct xl *xl, const struct block *b, const struct xl_source *src, paddr *change)
{
    u32 from = src->eip - b->eip;
    const u8 *bytes = xl->side + b->bytes + from;
    unsigned n = b->guest_len - from, same = 0;
    if (n <= src->nbytes && !memcmp(bytes, src->bytes, n)) return true;
    while (same < n && same < src->nbytes && bytes[same] == src->bytes[same]) same++;
    *change = src->pa - from + insn_of_byte(xl, b, from + same);
    return false;
}

/* Takes a lowered context into the cache: code is in place already (x->e writes there), records and links follow. */
void xl_commit(struct xl *xl, const struct xl_ctx *x, struct block *b)
{
    const struct insn *last = &x->scan.insn[x->n - 1];
    b->la = x->src->la;
    b->eip = x->src->eip;
    b->mode = x->src->mode;
    b->context = x->src->context;
    b->pa = x->src->pa;
    b->pa2 = x->scan.straddles ? x->src->pa2 : XL_NO_PAGE;
    b->ninsns = (u16)x->n;
    b->guest_len = (u16)(last->eip + last->len - b->eip);
    b->host_off = (u32)xl->used;
    b->host_len = (u32)(x->e.p - x->e.start);
    b->rec_off = (u32)xl->side_used;
    b->nrec = (u16)x->nrec;
    b->partial = x->scan.partial;
    b->x87 = x->x87_kind;
    memcpy(xl->side + b->rec_off, x->rec, x->nrec * sizeof x->rec[0]);
    xl->used = xl_align(b->host_off + b->host_len);
    xl->side_used += x->nrec * sizeof x->rec[0];
    b->tallies = 0;
    if (x->tallied || x->entered) {
        struct counted how = { .before = x->counted_before, .entered = x->entered };
        xl->side_used = (xl->side_used + 3) & ~3ull;
        b->tallies = (u32)xl->side_used;
        memcpy(xl->side + b->tallies, &how, sizeof how);
        memcpy(xl->side + b->tallies + sizeof how, x->tally, x->n * sizeof x->tally[0]);
        xl->side_used += sizeof how + x->n * sizeof x->tally[0];
    }
    for (unsigned i = 0; i < x->nedges; i++)
        b->edge[i] = (struct edge){ .from = b,
                                    .patch = (u32)(x->edge[i].patch - xl->rw),
                                    .thunk = (u32)(x->edge[i].thunk - xl->rw),
                                    .target = (u16)(x->edge[i].target & ~PAGE_MASK) };
    xl->nblocks++;
    xl_block_add(xl, b);
}

static void hash_add(struct xl *xl, struct block *b)
{
    struct block **slot = &xl->hash[block_slot(xl, b->alias, b->pa, b->mode)];
    b->hash_next = *slot;
    *slot = b;
}

/* Each process that maps a library has blocks of its own, so there may be many; each step along a chain misses the
 * host's caches. */
static void hash_grow(struct xl *xl)
{
    struct block **bigger = (struct block **)hostmem_map(sizeof *xl->hash << (xl->hash_bits + 2));
    if (!bigger) return;
    hostmem_unmap(xl->hash, sizeof *xl->hash << xl->hash_bits);
    xl->hash = bigger;
    xl->hash_bits += 2;
    for (u32 i = 0; i < xl->nblocks; i++) {
        struct block *b = &xl->arena[i];
        if (b->state == BLOCK_LIVE || b->state == BLOCK_RETIRED) hash_add(xl, b);
    }
}

void xl_block_add(struct xl *xl, struct block *b)
{
    if (xl->nblocks >> xl->hash_bits >= 2) hash_grow(xl);
    b->state = BLOCK_LIVE;
    xl_page_add(xl, b);
    hash_add(xl, b);
}

static void retire_block(struct xl *xl, struct block *b)
{
    xl_unlink_block(xl, b);
    xl_target_remove(b);
    b->state = BLOCK_RETIRED;
    xl_page_count(xl, b, -1);
    xl->cfg.ctr->retired++;
    TRACE(xl->cfg.trace, smc, b->eip, "smc: retire %08x pa %llx\n", b->eip, (unsigned long long)b->pa);
}

static bool overlaps(const struct block *b, paddr pa, unsigned len)
{
    unsigned first = b->guest_len;
    if (b->pa2 != XL_NO_PAGE) {
        first = PAGE_SIZE - (unsigned)(b->pa & ~(paddr)PAGE_MASK);
        if (pa < b->pa2 + (b->guest_len - first) && b->pa2 < pa + len) return true;
    }
    return pa < b->pa + first && b->pa < pa + len;
}

unsigned xl_retire(struct xl *xl, paddr pa, unsigned len)
{
    struct code_page *pg = xl_page(xl, pa);
    if (!pg) return 0;
    for (struct block *b = xl_page_first(pg); b; b = xl_page_after(pg, b))
        if (b->state == BLOCK_LIVE && overlaps(b, pa, len)) retire_block(xl, b);
    return pg->live;
}

void xl_retire_page(struct xl *xl, paddr pa) { (void)xl_retire(xl, pa & ~(paddr)(PAGE_SIZE - 1), PAGE_SIZE); }

static void hash_remove(struct xl *xl, const struct block *b)
{
    struct block **at = &xl->hash[block_slot(xl, b->alias, b->pa, b->mode)];
    while (*at != b) at = &(*at)->hash_next;
    *at = b->hash_next;
}

void xl_forget(struct xl *xl, struct block *b)
{
    if (b->state == BLOCK_DEAD) return;
    if (b->state == BLOCK_LIVE) retire_block(xl, b);
    hash_remove(xl, b);
    xl_page_remove(xl, b);
    b->state = BLOCK_DEAD;
}

void xl_forget_linear(struct xl *xl, laddr la)
{
    for (unsigned i = 0; i < 1u << XL_PAGE_BITS; i++)
        for (const struct code_page *pg = xl->pages[i]; pg; pg = pg->next) {
            struct alias *a = xl_alias_of(pg, la);
            for (struct block *b = a ? a->first : NULL, *next; b; b = next) {
                next = b->alias_next;
                if (la - b->la < b->guest_len) xl_forget(xl, b);
            }
        }
}

void xl_forget_at(struct xl *xl, paddr pa)
{
    struct code_page *pg = xl_page(xl, pa);
    for (struct block *b = xl_page_first(pg), *next; b; b = next) {
        next = xl_page_after(pg, b);
        if (overlaps(b, pa, 1)) xl_forget(xl, b);
    }
}

bool xl_revive(struct xl *xl, struct block *b, const struct xl_source *src)
{
    bool have = b->pa2 == XL_NO_PAGE ? b->guest_len <= src->nbytes
                                     : src->pa2 == b->pa2 && b->guest_len <= src->nbytes + src->nbytes2;
    if (!have || !has_bytes(xl, b, src)) {
        xl_forget(xl, b);
        return false;
    }
    b->state = BLOCK_LIVE;
    xl_page_count(xl, b, 1);
    xl->cfg.ctr->revived++;
    TRACE(xl->cfg.trace, smc, b->eip, "smc: revive %08x\n", b->eip);
    return true;
}

/* ---- sites ---- */

void xl_site_fault(struct xl *xl, paddr pa, bool guard)
{
    bool soft = site_fault(&xl->sites, pa, guard) == SITE_SOFT;
    xl_forget_at(xl, pa);
    if (soft) xl->cfg.ctr->site_soft++;
    else xl->cfg.ctr->site_wrap++;
    TRACE(xl->cfg.trace, sites, 0, "site: pa %llx %s\n", (unsigned long long)pa, soft ? "soft" : "wraps");
}

void xl_sites_age(struct xl *xl, u32 now_ms, unsigned most)
{
    xl->sites.now = now_ms;
    for (; most; most--) {
        paddr pa = site_next_due(&xl->sites, SITE_LOOK);
        if (pa == XL_NO_PAGE) return;
        xl_forget_at(xl, pa);
        xl->cfg.ctr->site_back++;
        TRACE(xl->cfg.trace, sites, 0, "site: pa %llx back\n", (unsigned long long)pa);
    }
}
