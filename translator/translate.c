/* The story of one block: scan, live, lower, commit. Guest bytes and a mode key go in; host code in the cache comes out.
 * Unless a template has it already (template.c).
 *
 *   scan    (scan.c)    bytes -> struct insn, up to where the block ends
 *   live    (live.c)    which arithmetic flags matter after each instruction
 *   lower   (lower*.c)  each instruction, as policy.c says, into host code
 *   commit  (cache.c)   the code gets its records, its key and its place in the graph; a template remembers it */
#include "translator/xl.h"

#include <x86intrin.h>

static bool has_room(const struct xl *xl)
{
    return xl->used + XL_MAX_HOST <= xl->cfg.cache_bytes && xl->side_used + XL_MAX_SIDE <= xl->side_max && xl->nblocks < xl->max_blocks;
}

static struct block *translate_anew(struct xl *xl, const struct xl_source *src)
{
    struct xl_ctx x; /* not initialised, for it is large: each pass begins by setting what it fills */
    struct block *b = &xl->arena[xl->nblocks];
    x.xl = xl;
    x.src = src;
    x.relocs.n = 0;
    x.e = (struct emit){ .start = xl->rw + xl->used, .p = xl->rw + xl->used, .end = xl->rw + xl->used + XL_MAX_CODE, .relocs = &x.relocs };
    xl_scan(&x);
    xl_live(&x);
    xl_lower(&x);
    BUG_ON(x.e.overflow);
    xl_commit(&x, b);
    template_add(&x, b);

    struct counters *c = xl->cfg.ctr;
    c->blocks++;
    c->guest_insns += b->ninsns;
    c->guest_bytes += b->guest_len;
    c->host_bytes += b->host_len;
    xl_trace_block(xl, &x, b);
    return b;
}

struct block *xl_translate(struct xl *xl, const struct xl_source *src, bool *evicted)
{
    u64 begin = __rdtsc();
    struct counters *c = xl->cfg.ctr;
    *evicted = !has_room(xl);
    if (*evicted) xl_evict(xl);
    xl_prefault(xl);
    struct block *b = template_block(xl, src);
    if (b) {
        c->cloned++;
        c->clone_cycles += __rdtsc() - begin;
    } else {
        b = translate_anew(xl, src);
        c->xl_cycles += __rdtsc() - begin;
    }
    xl_perf_block(xl, b);
    return b;
}
