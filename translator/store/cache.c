/* Owns code memory and the blocks in it: allocation, look-up by key, pages, retirement and revival, eviction.
 *
 *   I1  Code is written through rw and executed through rx; no mapping is both.            [xl_new]
 *   I2  arena[0..nblocks) is in order of host_off, so a host pc finds its block by bisection. [xl_commit]
 *   I3  A block on the hash is LIVE or RETIRED; only a LIVE one has links or a jump-cache entry. [retire_block]
 *   I4  A block whose code reloc_apply() cannot correct for another place has from 0.        [template.c]
 *   I5  A record that is BLOCK_NONE is all zeroes, but for the host_off of those that wait with their code.  [xl_flush]
 *
 * Eviction is total: the cache is used as a bump allocator and dropped as a whole when it is full. A finer scheme would
 * have to unlink what it drops block by block; a full cache is rare enough that the simple rule wins. */
#define _GNU_SOURCE
#include "translator/xl.h"

#include <errno.h>
#include <string.h>

_Static_assert(XL_CACHE_MIN >= 2 * XL_MAX_HOST, "room for a block at least");

/* A block takes at least this much of the cache, so this bounds the number of block records. */
#define MIN_BLOCK_BYTES 96

static void tables_init(struct xl *xl)
{
    struct xl_tables *t = xl->tables;
    xl->pages = t->pages;
    xl->place = t->place;
    for (unsigned i = 0; i < XL_JC_COUNT; i++) {
        xl->jc[i] = t->jc[i];
        xl_jump_empty(xl, (enum xl_jump_cache)i);
    }
    for (unsigned i = 0; i < JUMP_ENTRIES; i++) xl->jc[XL_JC_MISS][i].code = xl->cfg.miss;
    for (unsigned i = 0; i < 2; i++) {
        xl->jc_list[i] = t->jc_list[i];
        xl->jc_pages[i] = t->jc_pages[i];
    }
}

int xl_new(struct xl **out, const struct xl_config *cfg)
{
    if (cfg->cache_bytes < XL_CACHE_MIN || cfg->cache_bytes > XL_CACHE_MAX) return -EINVAL;
    struct xl *xl = calloc(1, sizeof *xl);
    if (!xl) return -ENOMEM;
    xl->cfg = *cfg;
    xl->cfg.cache_bytes = (cfg->cache_bytes + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1);
    int err;
    if (cfg->perf_map && (err = xl_perf_open(xl))) goto fail;
    if ((err = hostmem_map_code(xl->cfg.cache_bytes, cfg->perf_map, &xl->rw, &xl->rx))) goto fail;
    err = -ENOMEM;
    xl->max_blocks = (u32)(xl->cfg.cache_bytes / MIN_BLOCK_BYTES);
    xl->arena = (struct block *)hostmem_map((u64)xl->max_blocks * sizeof *xl->arena);
    xl->side_max = xl->cfg.cache_bytes;
    xl->side = hostmem_map(xl->side_max);
    xl->tables = (struct xl_tables *)hostmem_map(sizeof *xl->tables);
    xl->hash_bits = XL_HASH_BITS;
    xl->hash = (struct block **)hostmem_map(sizeof *xl->hash << xl->hash_bits);
    if (!xl->arena || !xl->side || !xl->tables || !xl->hash || template_store_init(xl)) goto fail;
    tables_init(xl);
    *out = xl;
    return 0;
fail:
    xl_free(xl);
    return err;
}

void xl_free(struct xl *xl)
{
    if (!xl) return;
    if (xl->pages) xl_pages_free(xl);
    hostmem_unmap(xl->rw, xl->cfg.cache_bytes);
    hostmem_unmap(xl->rx, xl->cfg.cache_bytes);
    if (xl->perf) fclose(xl->perf);
    hostmem_unmap(xl->arena, (u64)xl->max_blocks * sizeof *xl->arena);
    hostmem_unmap(xl->side, xl->side_max);
    hostmem_unmap(xl->tables, sizeof *xl->tables);
    hostmem_unmap(xl->hash, sizeof *xl->hash << xl->hash_bits);
    template_store_free(xl);
    free(xl->sites.slot);
    free(xl);
}

void xl_prefault(struct xl *xl)
{
    u64 size = xl->cfg.cache_bytes, want = xl->used + XL_MAX_HOST;
    hostmem_prefault(xl->rw, size, &xl->ready.rw, want, HOSTMEM_WRITE);
    hostmem_prefault(xl->rx, size, &xl->ready.rx, want, HOSTMEM_READ);
    hostmem_prefault(xl->arena, (u64)xl->max_blocks * sizeof *xl->arena, &xl->ready.arena,
                     (xl->nblocks + 1ull) * sizeof *xl->arena, HOSTMEM_WRITE);
    struct template_store *s = &xl->templates;
    hostmem_prefault(s->t, (u64)s->max * sizeof *s->t, &xl->ready.templates, (s->n + 1ull) * sizeof *s->t,
                     HOSTMEM_WRITE);
    hostmem_prefault(xl->side, xl->side_max, &xl->ready.side, xl->side_used + XL_MAX_SIDE, HOSTMEM_WRITE);
}

struct xl_usage xl_usage(const struct xl *xl)
{
    const struct template_store *s = &xl->templates;
    u64 meta = (u64)xl->nblocks * sizeof(struct block) + (u64)s->n * sizeof(struct template) + xl->side_used;
    return (struct xl_usage){ xl->cfg.cache_bytes, xl->used, xl->nblocks, meta, xl->sites.soft };
}

/* ---- look-up ---- */

/* By place, so that a block stays in its slot when that is moved. */
static unsigned block_slot(const struct xl *xl, const struct place *p, paddr pa, u32 mode)
{
    u64 h = ((pa & ~(paddr)PAGE_MASK) ^ (u64)p->id << PAGE_SHIFT ^ (u64)mode << 44) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - xl->hash_bits));
}

struct block *xl_find(struct xl *xl, laddr eip, paddr pa, u32 mode)
{
    struct place *p = xl_place(xl, eip, pa);
    if (!p) return NULL;
    p->used = ++xl->finds;
    for (struct block *b = xl->hash[block_slot(xl, p, pa, mode)]; b; b = b->hash_next)
        if (b->eip == eip && b->pa == pa && b->mode == mode) return b;
    return NULL;
}

unsigned xl_block_bytes(const struct block *b) { return b->guest_len; }
bool xl_block_live(const struct block *b) { return b->state == BLOCK_LIVE; }
bool xl_block_partial(const struct block *b) { return b->partial; }
paddr xl_block_pa2(const struct block *b) { return b->pa2; }
const void *xl_entry(const struct xl *xl, const struct block *b) { return xl->rx + b->host_off; }

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

u64 xl_align(u64 cache_offset) { return (cache_offset + 15) & ~(u64)15; }

/* Takes a lowered context into the cache: code is in place already (x->e writes there), records and links follow. */
void xl_commit(struct xl_ctx *x, struct block *b)
{
    struct xl *xl = x->xl;
    const struct insn *last = &x->insn[x->n - 1];
    b->eip = x->src->eip;
    b->mode = x->src->mode;
    b->pa = x->src->pa;
    b->pa2 = x->straddles ? x->src->pa2 : XL_NO_PAGE;
    b->ninsns = (u16)x->n;
    b->guest_len = (u16)(last->eip + last->len - b->eip);
    b->host_off = (u32)xl->used;
    b->host_len = (u32)(x->e.p - x->e.start);
    b->rec_off = (u32)xl->side_used;
    b->nrec = (u16)x->nrec;
    b->partial = x->partial;
    memcpy(xl->side + b->rec_off, x->rec, x->nrec * sizeof x->rec[0]);
    xl->used = xl_align(b->host_off + b->host_len);
    xl->side_used += x->nrec * sizeof x->rec[0];
    for (unsigned i = 0; i < x->nedges; i++)
        b->edge[i] = (struct edge){ .from = b,
                                    .patch = (u32)(x->edge[i].patch - xl->rw),
                                    .thunk = (u32)(x->edge[i].thunk - xl->rw),
                                    .target = (u16)(x->edge[i].target & ~PAGE_MASK),
                                    .used = true };
    xl->nblocks++;
    xl_block_place(xl, b);
}

static void hash_add(struct xl *xl, struct block *b)
{
    struct block **slot = &xl->hash[block_slot(xl, b->place, b->pa, b->mode)];
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

void xl_block_place(struct xl *xl, struct block *b)
{
    if (xl->nblocks >> xl->hash_bits >= 2) hash_grow(xl);
    b->state = BLOCK_LIVE;
    xl_page_add(xl, b);
    hash_add(xl, b);
}

static void retire_block(struct xl *xl, struct block *b)
{
    xl_unlink_block(xl, b);
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
    struct block **at = &xl->hash[block_slot(xl, b->place, b->pa, b->mode)];
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

/* The record of a template that was loaded, as it was before a block took it. */
static void wait_again(struct xl *xl, struct block *b)
{
    xl_reset_edges(xl, b);
    *b = (struct block){ .host_off = b->host_off };
}

void xl_flush(struct xl *xl)
{
    xl_jump_flush(xl, XL_JC_SUPERVISOR);
    xl_jump_flush(xl, XL_JC_USER);
    template_drop_made(xl);
    xl_pages_free(xl);
    memset(xl->hash, 0, sizeof *xl->hash << xl->hash_bits);
    const struct template_store *s = &xl->templates;
    for (u32 i = 0; i < s->nloaded; i++) wait_again(xl, &xl->arena[i]);
    memset(xl->arena + s->nloaded, 0, (u64)(xl->nblocks - s->nloaded) * sizeof *xl->arena);
    xl->nblocks = s->nloaded;
    xl->used = s->loaded_code;
    xl->side_used = s->loaded_side;
    xl->cfg.ctr->evictions++;
}
