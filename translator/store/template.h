/* Templates: what has been translated, to be had again. See template.c. */
#ifndef TRANSLATOR_TEMPLATE_H
#define TRANSLATOR_TEMPLATE_H
#include "translator/store/xl.h"

/* A block that can be had again: see template.c. The same in memory and in a file. */
struct template
{
    u32 key;     /* hash of how its bytes begin, its mode and its offset in the page */
    u32 next;    /* index + 1 of the next one in the chain of that; 0: none */
    u32 next_at; /* the same, in the chain of the address that it was loaded for */
    u32 code;    /* where it is in the code cache */
    u32 side;    /* its records, relocations and guest bytes, in side */
    vaddr eip;   /* what the code is right for at present */
    u32 sites;   /* the state of the sites in it, hashed; 0: all as they begin */
    u16 mode, host_len, nrec, nrel, guest_len, ninsns;
    u16 nmoving;            /* relocations of its that depend on its address */
    u16 depends;            /* guest bytes that it depends on: guest_len, and more if scan looked ahead */
    u16 patch[2], thunk[2]; /* edges, by host offset in the block */
    u16 target[2];          /* and their targets, by offset in the page */
    u8 nedges;
    u8 used;    /* made or used since it was loaded */
    u16 offset; /* in its linear page */
    u8 x87;     /* the block's */
    u8 pad;
    u16 reserved;
};
_Static_assert(sizeof(struct template) == 64, "a cache line, and the format of a file");

struct template_store {
    struct template *t;
    u32 n, max;
    u32 nloaded;         /* the first so many were loaded, the others have been made since */
    u32 made;            /* since the program has started */
    u32 *head, *head_at; /* of chains: index + 1 */
    u32 expected;        /* index of the one that is likely to be wanted next, or n */
    /* By the upper byte of an EIP: how far the code thereabouts is now from what its template was loaded for, as the
     * last one shows that was found. */
    u32 moved_by[256];
    u64 loaded_code, loaded_side; /* bytes at the beginning of the code cache and of side that are theirs */
};

MUST_CHECK int template_store_init(struct xl *xl);
void template_store_free(struct xl *xl);
void template_prefault(struct xl *xl);                                     /* the host's pages of what is made next */
struct block *template_block(struct xl *xl, const struct xl_source *src);  /* NULL: none serves */
bool template_add(struct xl *xl, const struct xl_ctx *x, struct block *b); /* whether there is one, which has b's guest
                                                                              bytes */
void template_readdress(struct xl *xl, const struct block *b, u32 delta);  /* its code, by nmoving */
void template_edges(const struct template *t, u8 *code, u32 block);
void template_drop_made(struct xl *xl); /* all but the loaded: the code cache is about to be emptied */
void template_drop_all(struct xl *xl);
void template_chain(struct template_store *s, u32 i);
void template_chain_at(struct template_store *s, u32 i);
void template_prefetch(const struct xl *xl, u32 i); /* what both of these will touch, and its block record */
u32 template_side_len(const struct template *t);    /* a multiple of 4 */
const struct reloc *template_relocs(const struct template *t, const u8 *side); /* side: where its own begins */

#endif
