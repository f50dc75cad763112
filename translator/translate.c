/* The story of one block: scan, live, lower, commit. Guest bytes and a mode key go in; host code in the cache comes
 * out. Unless another process has it (page.c), or a template (template.c).
 *
 *   scan    (scan.c)    bytes -> struct insn, up to where the block ends
 *   live    (live.c)    which arithmetic flags matter after each instruction
 *   lower   (lower*.c)  each instruction, as policy.c says, into host code
 *   commit  (cache.c)   the code gets its records, its key and its place in the graph; a template remembers it */
#include "translator/xl.h"

#include <x86intrin.h>

static bool has_room(const struct xl *xl)
{
    return xl->used + XL_MAX_HOST <= xl->cfg.cache_bytes && xl->side_used + XL_MAX_SIDE <= xl->side_max
           && xl->nblocks < xl->max_blocks;
}

static struct block *translate_anew(struct xl *xl, const struct xl_source *src)
{
    struct xl_ctx x; /* not initialised, for it is large: each pass begins by setting what it fills */
    struct block *b = &xl->arena[xl->nblocks];
    x.xl = xl;
    x.src = src;
    x.relocs.n = 0;
    x.e = (struct emit){
        .start = xl->rw + xl->used, .p = xl->rw + xl->used, .end = xl->rw + xl->used + XL_MAX_CODE, .relocs = &x.relocs
    };
    xl_scan(&x);
    xl_live(&x);
    xl_lower(&x);
    BUG_ON(x.e.overflow);
    xl_commit(&x, b);
    if (!template_add(&x, b)) xl_keep_bytes(xl, b, src);

    struct counters *c = xl->cfg.ctr;
    c->blocks++;
    c->guest_insns += b->ninsns;
    c->guest_bytes += b->guest_len;
    c->host_bytes += b->host_len;
    xl_trace_block(xl, &x, b);
    return b;
}

/* What other processes have run of a page, where this is the first block of it at this linear address. */
static struct block *find_moved(struct xl *xl, const struct xl_source *src)
{
    if (xl_traced(xl, src->eip) || !xl_page_move(xl, src->eip, src->pa)) return NULL;
    struct block *b = xl_find(xl, src->eip, src->pa, src->mode);
    return b && (b->state == BLOCK_LIVE || xl_revive(xl, b, src)) ? b : NULL;
}

struct block *xl_translate(struct xl *xl, const struct xl_source *src, bool *evicted)
{
    u64 begin = __rdtsc();
    struct counters *c = xl->cfg.ctr;
    *evicted = !has_room(xl);
    if (*evicted) xl_evict(xl);
    xl_prefault(xl);
    struct block *b = find_moved(xl, src);
    if (b) {
        c->clone_cycles += __rdtsc() - begin;
        return b; /* which has been named where it was moved */
    }
    if ((b = template_block(xl, src))) {
        c->cloned++;
        c->clone_cycles += __rdtsc() - begin;
    } else {
        b = translate_anew(xl, src);
        c->xl_cycles += __rdtsc() - begin;
    }
    xl_perf_block(xl, b);
    return b;
}
