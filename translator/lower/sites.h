/* What the window accesses of guest instructions have taught us, by physical address of the instruction. */
#ifndef TRANSLATOR_SITES_H
#define TRANSLATOR_SITES_H
#include "translator/front/source.h"

enum site_state {
    SITE_FITS,  /* as it begins */
    SITE_WRAPS, /* its address wraps around at 4 GiB */
    SITE_SOFT,  /* it reaches for what no window holds */
};
struct site {
    u64 key;         /* physical address + 1, or 0: empty */
    u32 due;         /* SOFT: when it goes back to the window, in ms */
    u8 state, waits; /* how often it has been SOFT */
};
struct site_set {
    struct site *slot;
    unsigned cap, used, soft, hand;
    u32 now;       /* ms */
    u64 pages[64]; /* a bit for each page that has a site, by hash: most have none */
};
#define SITE_FIRST_WAIT 2000u /* ms */
#define SITE_MAX_WAITS 16     /* a day and a half */
#define SITE_LOOK 64          /* entries looked at for one that is due */

MUST_CHECK int site_set_init(struct site_set *s); /* 0 or -ENOMEM */
void site_set_free(struct site_set *s);
bool site_page(const struct site_set *s, paddr pa); /* false: no site in the page of pa is known */
enum site_state site_get(const struct site_set *s, paddr pa);
/* A window access of the instruction at pa has faulted; guard: in a guard. Returns its new state. Forgets all others if
 * there are too many of them for the memory there is. */
enum site_state site_fault(struct site_set *s, paddr pa, bool guard);
/* A site that has just gone back to the window, or XL_NO_PAGE. Looks at `look` entries at most. */
paddr site_next_due(struct site_set *s, unsigned look);

#endif
