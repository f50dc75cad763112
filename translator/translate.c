/* The story of one block: scan, lower, commit. Guest bytes and a mode key go in; host code in the cache comes
 * out. Unless another process has it (readdress.c), or a template (template.c).
 *
 *   scan    (scan.c)    bytes -> struct insn, up to where the block ends
 *   lower   (lower*.c)  each instruction, as policy.c says, into host code
 *   commit  (cache.c)   the code gets its records, its key and its place in the graph; a template remembers it */
#include "translator/dump.h"
#include "translator/front/scan.h"
#include "translator/lower/lower.h"
#include "translator/store/cache.h"
#include "translator/store/perf.h"
#include "translator/store/readdress.h"
#include "translator/store/store.h"
#include "translator/store/template.h"

#include <x86intrin.h>

static struct block *translate_anew(struct xl *xl, const struct xl_source *src)
{
    struct xl_ctx x; /* not initialised, for it is large: each pass begins by setting what it fills */
    struct block *b = &xl->arena[xl->nblocks];
    x.src = src;
    x.opt = &xl->cfg.opt;
    x.sites = &xl->sites;
    x.number = xl->nblocks;
    x.e = (struct emit){
        .start = xl->rw + xl->used, .p = xl->rw + xl->used, .end = xl->rw + xl->used + XL_MAX_CODE, .relocs = &x.relocs
    };
    xl_scan(&x.scan, src, xl->cfg.dec, xl->cfg.opt.features);
    xl_lower(&x);
    BUG_ON(x.e.overflow);
    xl_commit(xl, &x, b);
    if (!template_add(xl, &x, b)) xl_keep_bytes(xl, b, src);

    struct counters *c = xl->cfg.ctr;
    c->blocks++;
    c->guest_insns += b->ninsns;
    c->guest_bytes += b->guest_len;
    c->host_bytes += b->host_len;
    xl_trace_block(xl, &x, b);
    return b;
}

/* Whether code for other places may serve here. Segmented code has targets that wrap around at 64 KiB. */
static bool movable(const struct xl_source *src) { return !src->bound && !mode_segmented(src->mode); }

/* What other processes have run of a page, where this is the first block of it at this linear address. */
static struct block *find_readdressed(struct xl *xl, const struct xl_source *src)
{
    if (!movable(src) || xl_traced(xl, src->eip) || !xl_readdress(xl, src->la, src->pa)) return NULL;
    struct block *b = xl_find(xl, src);
    return b && (b->state == BLOCK_LIVE || xl_revive(xl, b, src)) ? b : NULL;
}

struct block *xl_translate(struct xl *xl, const struct xl_source *src, bool *evicted)
{
    u64 begin = __rdtsc();
    struct counters *c = xl->cfg.ctr;
    *evicted = !xl_has_room(xl);
    if (*evicted) xl_evict(xl);
    xl_prefault(xl);
    struct block *b = find_readdressed(xl, src);
    if (b) {
        c->clone_cycles += __rdtsc() - begin;
        return b; /* which has been named where it was moved */
    }
    if (movable(src) && (b = template_block(xl, src))) {
        c->cloned++;
        c->clone_cycles += __rdtsc() - begin;
    } else {
        b = translate_anew(xl, src);
        c->xl_cycles += __rdtsc() - begin;
    }
    xl_perf_block(xl, b);
    return b;
}
