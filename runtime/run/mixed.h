/* Mixed pages: those in which code and what is written often lie together. A page of code is write-protected, and each
 * write to it costs an exit, or a host fault; in a mixed page (PG_MIXED) nothing is protected, and each block compares
 * its guest bytes at entry instead. */
#ifndef RUNTIME_MIXED_H
#define RUNTIME_MIXED_H
#include "core/types.h"

struct bus;
struct cpu;
struct decoder;
struct trace;
struct xl;
struct xl_source;

#define MIXED_MAX 64u
#define MIXED_SLOTS 4096u
/* An instruction in a mixed page. */
struct mixed_slot {
    u32 page;    /* its page's number + 1; 0: none has been come to */
    u32 hash;    /* of its address and bytes, when it was last come to */
    u8 same;     /* times in a row that it was the same, */
    u8 need;     /* and how often that must be before it is translated */
    bool begins; /* a block does, as far as is known */
};
struct mixed {
    struct bus *bus; /* these are borrowed */
    struct cpu *cpu;
    struct decoder *dec;
    u32 features;  /* of the CPU model */
    struct xl *xl; /* NULL: no page is ever mixed */
    const struct trace *trace;
    u8 writes[MIXED_SLOTS];              /* by page of RAM, hashed: noticed writes to its code, lately */
    struct mixed_slot seen[MIXED_SLOTS]; /* by address, hashed: each is for one page at a time */
    struct {
        paddr page;
        u64 since_ms;
    } page[MIXED_MAX]; /* a ring */
    u32 next;
    u64 aged_ms;
};

/* A write to page has been noticed, which had these flags; own: by code in it. True: all of the page's
 * blocks are to go, since it is written to often; it may be a mixed page from now on. */
bool mixed_written(struct mixed *m, paddr page, u8 flags, bool own);
/* Whether what src begins with, in a mixed page, has been there often enough to be worth a translation. What has never
 * been anything else is so at once: most of such a page is ordinary code. */
bool mixed_seen(struct mixed *m, const struct xl_source *src);
/* Bytes of a block were found to be others, from the instruction at pa on: it has not been worth it. */
void mixed_stale(struct mixed *m, paddr pa);
/* A block of src that compares its bytes ends before what has been stale lately, and before another block: else a page
 * of straight code that is entered at two places is translated twice. */
void mixed_bound(struct mixed *m, struct xl_source *src);
/* To be called now and then: counts fade, and a page that has been mixed for a while gets another chance. */
void mixed_age(struct mixed *m, u64 now_ms);
#endif
