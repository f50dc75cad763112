/* The graph of blocks as data. What may be done with it: cache.h (blocks), chain.h (links between them), alias.h (where
 * they are). */
#ifndef TRANSLATOR_GRAPH_H
#define TRANSLATOR_GRAPH_H
#include "core/types.h"
#include "translator/front/x87.h"

/* A direct transfer of control within a page. */
struct edge {
    struct block *from, *to; /* to NULL: not linked */
    struct edge *next_in;    /* among the edges into `to` */
    u32 patch;               /* cache offset of the rel32 */
    u32 thunk;               /* cache offset of the code that leaves with EXIT_CHAIN */
    u16 target;              /* its offset in the linear page: edges never leave that (lower_ctl.c) */
};

enum block_state {
    BLOCK_NONE, /* a record that is free, or waits with its code for a block (template.c) */
    BLOCK_LIVE,
    BLOCK_RETIRED, /* its bytes have been written to */
    BLOCK_DEAD,    /* forgotten: its code stays, as all does until the cache is emptied */
};
struct block {
    /* What looking one up and re-addressing one goes through is in one line of the host's caches, for that is what
     * these are paid for in. */
    _Alignas(64) laddr la;
    vaddr eip; /* of the same byte: what la is less the base of CS */
    u32 mode;
    u32 context; /* of segmented code; else 0 */
    paddr pa;
    struct block *hash_next;
    struct alias *alias;      /* on whose list it is, */
    struct block *alias_next; /* by this */
    u32 host_off;             /* in the code cache */
    u32 template;             /* index + 1 of the one whose relocations its code has; 0: it cannot be re-addressed */
    u16 nmoving;              /* the template's */
    u8 state;                 /* enum block_state */
    u8 x87;                   /* enum block_x87 */
    bool partial;             /* its one instruction runs into a page that was not there */
    u32 host_len;
    u32 rec_off; /* records, in side; of a block from a template, that one's */
    u16 nrec, guest_len, ninsns;
    paddr pa2;   /* of the page that its one instruction ends in, or XL_NO_PAGE */
    u32 bytes;   /* the guest's, guest_len of them, in side */
    u32 tallies; /* struct counted, in side; 0: it counts nothing */
    struct edge edge[2];
    struct edge *in;
    struct block *into_next; /* if it straddles: on the list of pa2's page */
};

/* A linear page under which a physical page is run, or has been. Has the blocks that begin in it. */
struct alias {
    u64 pfn;
    laddr la;
    u32 used; /* xl->finds, when a block was last looked for there */
    struct block *first;
    struct targets *targets;
    struct alias *next; /* of the same physical page */
};

/* Those of an alias's blocks, of one mode and code segment, that have been in a jump cache (targets.c). */
struct target {
    u16 at; /* the block's offset in the page */
    u32 host_off;
};
struct targets {
    struct targets *next; /* of the same alias */
    const struct alias *alias;
    u32 mode, context;
    u32 base; /* of CS */
    u32 n, max;
    struct target *list;
};

/* What a block counts (struct xl_tap), in cpu_tally(). */
struct counted {
    u32 before;  /* it counts before this one of its instructions; XL_AT_ENTRY: when it is entered */
    u32 entered; /* what its being entered adds to: a mask, */
    u32 insn[];  /* and each instruction */
};

struct code_page {
    u64 pfn;
    struct alias *aliases;
    struct block *into; /* those that straddle into it */
    unsigned live;
    struct code_page *next; /* of the same hash */
};

#endif
