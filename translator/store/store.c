/* Owns the code cache as a whole: its memory, from beginning to end, and how it is emptied.
 *
 *   I1  Code is written through rw and executed through rx; no mapping is both.            [xl_new]
 *   I2  A record that is BLOCK_NONE is all zeroes, but for the host_off of those that wait with their code.  [xl_flush]
 *
 * Eviction is total: the cache is used as a bump allocator and dropped as a whole when it is full. A finer scheme would
 * have to unlink what it drops block by block; a full cache is rare enough that the simple rule wins. */
#define _GNU_SOURCE
#include "translator/store/alias.h"
#include "translator/store/chain.h"
#include "translator/store/hostmem.h"
#include "translator/store/jitdump.h"
#include "translator/store/jump.h"
#include "translator/store/perf.h"
#include "translator/store/store.h"
#include "translator/store/template.h"
#include "translator/store/template_file.h"

#include <errno.h>
#include <string.h>

_Static_assert(XL_CACHE_MIN >= 2 * XL_MAX_HOST, "room for a block at least");

/* A block takes at least this much of the cache, so this bounds the number of block records. */
#define MIN_BLOCK_BYTES 96

static void tables_init(struct xl *xl)
{
    struct xl_tables *t = xl->tables;
    xl->pages = t->pages;
    xl->alias_found = t->alias_found;
    for (unsigned i = 0; i < XL_JC_COUNT; i++) {
        xl->jc[i] = t->jc[i];
        xl_jump_empty(xl, (enum xl_jump_cache)i);
    }
    for (unsigned i = 0; i < JUMP_ENTRIES; i++) xl->jc[XL_JC_MISS][i].code = xl->cfg.miss;
    for (unsigned i = 0; i < XL_JC_MISS; i++) {
        xl->jc_list[i] = t->jc_list[i];
        xl->jc_pages[i] = &t->jc_pages[i];
        xl->jc_memo[i] = t->jc_memo[i];
        xl->jc_generation[i] = 1;
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
    if (cfg->jitdump && (err = xl_jitdump_open(xl))) goto fail;
    if ((err = hostmem_map_code(xl->cfg.cache_bytes, cfg->perf_map || cfg->jitdump, &xl->rw, &xl->rx))) goto fail;
    err = -ENOMEM;
    xl->max_blocks = (u32)(xl->cfg.cache_bytes / MIN_BLOCK_BYTES);
    xl->arena = (struct block *)hostmem_map((u64)xl->max_blocks * sizeof *xl->arena);
    xl->side_max = xl->cfg.cache_bytes;
    xl->side = hostmem_map(xl->side_max);
    xl->tables = (struct xl_tables *)hostmem_map(sizeof *xl->tables);
    xl->hash_bits = XL_HASH_BITS;
    xl->hash = (struct block **)hostmem_map(sizeof *xl->hash << xl->hash_bits);
    if (!xl->arena || !xl->side || !xl->tables || !xl->hash || template_store_init(xl) || site_set_init(&xl->sites)
        || xl_pages_init(xl))
        goto fail;
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
    xl_pages_free(xl);
    hostmem_unmap(xl->rw, xl->cfg.cache_bytes);
    hostmem_unmap(xl->rx, xl->cfg.cache_bytes);
    if (xl->perf) fclose(xl->perf);
    xl_jitdump_close(xl);
    hostmem_unmap(xl->arena, (u64)xl->max_blocks * sizeof *xl->arena);
    hostmem_unmap(xl->side, xl->side_max);
    hostmem_unmap(xl->tables, sizeof *xl->tables);
    hostmem_unmap(xl->hash, sizeof *xl->hash << xl->hash_bits);
    template_store_free(xl);
    site_set_free(&xl->sites);
    free(xl);
}

bool xl_has_room(const struct xl *xl)
{
    return xl->used + XL_MAX_HOST <= xl->cfg.cache_bytes && xl->side_used + XL_MAX_SIDE <= xl->side_max
           && xl->nblocks < xl->max_blocks && xl_pages_have_room(xl);
}

struct xl_usage xl_usage(const struct xl *xl)
{
    const struct template_store *s = xl->templates;
    u64 meta = (u64)xl->nblocks * sizeof(struct block) + (u64)s->n * sizeof(struct template) + xl->side_used;
    return (struct xl_usage){ xl->cfg.cache_bytes, xl->used, xl->nblocks, meta, xl->sites.soft };
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
    xl_jump_flush(xl, XL_JC_SEGMENTED);
    template_drop_made(xl);
    xl_pages_forget(xl);
    memset(xl->hash, 0, sizeof *xl->hash << xl->hash_bits);
    const struct template_store *s = xl->templates;
    for (u32 i = 0; i < s->nloaded; i++) wait_again(xl, &xl->arena[i]);
    memset(xl->arena + s->nloaded, 0, (u64)(xl->nblocks - s->nloaded) * sizeof *xl->arena);
    xl->nblocks = s->nloaded;
    xl->used = s->loaded_code;
    xl->side_used = s->loaded_side;
    xl->cfg.ctr->evictions++;
}

/* The code goes, what it was worth stays: half a cache full of templates, those used last. */
void xl_evict(struct xl *xl)
{
    u64 len;
    u8 *image = xl->cfg.no_templates ? NULL : template_collect(xl, xl->cfg.cache_bytes / 2, &len);
    template_drop_all(xl); /* what was loaded has been copied, and is in the way */
    xl_flush(xl);
    if (!image) return;
    template_take(xl, image);
    hostmem_unmap(image, len);
}
