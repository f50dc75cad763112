/* struct xl: what the files of this folder share. Each field is filled by the file that its comment names. */
#ifndef TRANSLATOR_XL_H
#define TRANSLATOR_XL_H
#include "translator/lower/ctx.h"
#include "translator/lower/sites.h"
#include "translator/store/graph.h"
#include "translator/translator.h"

/* Per block, the room translate.c insists on: in the code cache, and beside it. */
#define XL_MAX_HOST (XL_MAX_CODE + 32)
#define XL_MAX_SIDE                                                                                              \
    (XL_MAX_RECORDS * sizeof(struct record) + XL_MAX_RELOCS * sizeof(struct reloc) + XL_MAX_GUEST + XL_LOOKAHEAD \
     + sizeof(struct counted) + (XL_MAX_INSNS + 1) * sizeof(u32))

#define XL_HASH_BITS 17 /* to begin with */
#define XL_PAGE_BITS 14
#define XL_ALIAS_BITS 12
#define XL_TEMPLATE_BITS 17
/* A set of linear pages that costs what is in it to empty: line[] says which 64 bytes of bit[] are not all zero. */
#define PAGE_SET_LINE 512u /* pages */
struct page_set {
    u64 bit[TLB_PAGES / 64];
    u64 line[TLB_PAGES / PAGE_SET_LINE / 64];
};

/* Of a linear page that has entries in a jump cache: what else may be filled in there. */
#define PAGE_MEMOS 4096u
struct page_memo {
    u32 page;       /* its number, */
    u32 generation; /* xl->jc_generation then: it is right while that has not changed */
    struct targets *targets;
};

/* What is reached at random, together: few host pages, if they are huge. */
struct xl_tables {
    struct jump_entry jc[XL_JC_COUNT][JUMP_ENTRIES];
    struct code_page *pages[1u << XL_PAGE_BITS];
    struct alias *alias_found[1u << XL_ALIAS_BITS];
    u16 jc_list[XL_JC_MISS][JUMP_ENTRIES];
    struct page_set jc_pages[XL_JC_MISS];             /* linear pages that have entries */
    struct page_memo jc_memo[XL_JC_MISS][PAGE_MEMOS]; /* by the page's number, modulo their own */
    u32 template_head[2][1u << XL_TEMPLATE_BITS];
};

struct template_store;

#define XL_CONTEXTS 2048u
struct context {
    u32 mode, base, limit;
    u32 number; /* 0: free */
};
struct context_set {
    struct context slot[XL_CONTEXTS]; /* by hash, with open addressing */
    u32 used, numbered;
};

struct xl {
    struct xl_config cfg;
    FILE *perf; /* perf.c: the map, or NULL */

    /* jitdump.c */
    FILE *jitdump; /* or NULL */
    void *jit_marker;
    u64 jit_index;

    /* store.c: memory */
    u8 *rw, *rx; /* the two views of the code cache */
    u64 used;
    u8 *side; /* what goes with code, but is not run: records, and what templates have */
    u64 side_used, side_max;
    struct {
        u64 rw, rx, side, arena, templates;
    } ready; /* how much of each is there already (hostmem.h) */
    struct xl_tables *tables;

    /* cache.c: blocks */
    struct block *arena; /* block records, in order of host_off: xl_recover searches it */
    u32 nblocks, max_blocks;
    struct block **hash; /* grows with the number of blocks */
    unsigned hash_bits;

    /* alias.c: where they are */
    u32 finds; /* a clock for struct alias */
    struct code_page *code_page;
    struct alias *alias;
    u32 ncode_pages, naliases, max_pages; /* of each, max_pages */
    struct code_page **pages;             /* by hash */
    struct alias **alias_found;           /* the last one found of each hash, or NULL */

    struct context_set contexts; /* context.c */

    /* chain.c: jump caches */
    struct jump_entry *jc[XL_JC_COUNT];
    u16 *jc_list[XL_JC_MISS];
    struct page_set *jc_pages[XL_JC_MISS];
    u32 jc_count[XL_JC_MISS]; /* entries on jc_list */
    struct page_memo *jc_memo[XL_JC_MISS];
    u32 jc_generation[XL_JC_MISS]; /* not 0; another one after a flush */
    u32 jc_drops[XL_JC_MISS];      /* pages dropped since it was filled last */
    u32 jc_base[XL_JC_MISS];       /* linear address less EIP of all blocks in it; not of segmented code's */

    struct site_set sites;            /* lower/sites.c */
    struct template_store *templates; /* template.c */
};

/* Where the next block begins, after what ends there. */
static inline u64 xl_align(u64 cache_offset) { return (cache_offset + 15) & ~(u64)15; }

/* What is to be shown when it is translated has to be translated. */
static inline bool xl_traced(const struct xl *xl, vaddr eip)
{
    return trace_on(xl->cfg.trace, TR_guest, eip) || trace_on(xl->cfg.trace, TR_host, eip);
}

#endif
