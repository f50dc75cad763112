/* Owns the re-addressing of a page's blocks: from one linear page to another.
 *
 * A library is mapped elsewhere in each process, and most processes do not live long. If each left its blocks behind,
 * the code cache would be full of them, and what is looked up or written would be in none of the host's caches. So once
 * a physical page has ALIASES aliases, the blocks of the one that has not been looked at for longest are made right for
 * the next linear page, all at once, with the links between them: a new process finds its libraries translated, except
 * for what no process has run so far. Only if all of these are in use, as by many processes taking turns, there are
 * more of them, up to ALIASES_MAX. */
#include "translator/store/alias.h"
#include "translator/store/cache.h"
#include "translator/store/jump.h"
#include "translator/store/perf.h"
#include "translator/store/readdress.h"
#include "translator/store/template.h"

#define ALIASES 2
#define ALIASES_MAX 64
/* In xl->finds: what runs makes some hundred in a time slice, since a CR3 write takes pages out of its jump cache. */
#define IN_USE (1u << 12)

/* What has no template, or is to be seen being translated, is made anew if it is wanted. */
static void readdress(struct xl *xl, struct alias *p, laddr la)
{
    u32 delta = la - p->la;
    bool jumped_to = xl_jump_knows(xl, XL_JC_USER, p->la) || xl_jump_knows(xl, XL_JC_SUPERVISOR, p->la);
    for (struct block *b = p->first, *next; b; b = next) {
        next = b->alias_next;
        if (!b->template || xl_traced(xl, b->eip + delta)) xl_forget(xl, b);
    }
    for (struct block *b = p->first; b; b = b->alias_next) {
        if (jumped_to) xl_jump_forget(xl, b);
        template_readdress(xl, b, delta);
        b->la += delta;
        b->eip += delta;
        xl_perf_block(xl, b);
        xl->cfg.ctr->readdressed++;
    }
    p->la = la;
    p->used = ++xl->finds;
}

bool xl_readdress(struct xl *xl, laddr la, paddr pa)
{
    struct code_page *pg = xl_page(xl, pa);
    if (!pg || xl_alias_of(pg, la)) return false;
    struct alias *oldest = pg->aliases;
    unsigned n = 0;
    for (struct alias *p = pg->aliases; p; p = p->next, n++)
        if (xl->finds - p->used > xl->finds - oldest->used) oldest = p;
    if (n < ALIASES || (n < ALIASES_MAX && xl->finds - oldest->used < IN_USE)) return false;
    readdress(xl, oldest, la & PAGE_MASK);
    return true;
}
