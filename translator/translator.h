/* The translator's only public face: guest bytes in, host code out, and the graph of what was made.
 *
 * It runs nothing and reads no guest memory: bytes come with the request. One struct xl serves one vCPU and is used by
 * its thread only; the functions marked async-signal-safe may be called from a handler that interrupted translated
 * code.
 *
 * A block is keyed by (linear address, EIP, physical address, mode key). LIVE blocks may be entered. RETIRED ones have
 * had their bytes written to: they are linked from nowhere, and xl_revive() makes them LIVE again if the bytes turn out
 * to be the same. */
#ifndef TRANSLATOR_TRANSLATOR_H
#define TRANSLATOR_TRANSLATOR_H
#include "core/cpu.h"
#include "core/trace.h"
#include "translator/front/insn.h"
#include "translator/front/source.h"

struct xl;
struct block;
struct edge;
struct decoder;

struct xl_config {
    u64 cache_bytes; /* size of the code cache; records and templates may take as much again */
    struct xl_options opt;
    bool no_templates; /* translate everything that is asked for: for tests and measurements */
    bool perf_map;     /* name blocks in /tmp/perf-PID.map, the file that perf(1) looks for */
    bool jitdump;      /* and write them with their code to /tmp/jit-PID.dump, for perf inject --jit */
    const char *(*symbol)(void *arg, u32 address, u32 *offset); /* names kernel code for both; NULL: nobody does */
    void *symbol_arg;
    void *miss;                /* where the all-miss jump cache sends control, with the target in r8d */
    const struct trace *trace; /* borrowed */
    struct counters *ctr;      /* borrowed */
    struct decoder *dec;       /* borrowed */
};
/* Cache sizes: room for a few blocks at least, and all of it within reach of a 32-bit displacement. */
#define XL_CACHE_MIN (64u << 10)
#define XL_CACHE_MAX (1u << 30)
MUST_CHECK int xl_new(struct xl **out, const struct xl_config *cfg); /* 0, -EINVAL (cache size), or -errno of asking the
                                                                        host for memory */
void xl_free(struct xl *xl);

/* Whether code in this mode can be translated at all; otherwise it is the interpreter's. */
static inline bool xl_can_translate(u32 mode) { return !(mode & MK_SLOW); }
/* Whether code in this mode reaches memory through a window, if there are windows: then R12 must be its base, and the
 * window must have the guards of runtime/mem/window.h around it. Otherwise R12 must be XL_NO_WINDOW. */
static inline bool xl_mode_has_window(u32 mode)
{
    return (mode & MK_CPL) == 0 || !(mode & MK_PG) || (mode & MK_UWINDOW) != 0;
}
#define XL_NO_WINDOW 10u
/* Makes a block. Never fails: when the cache is full everything is evicted first (*evicted is set: all block and edge
 * pointers held elsewhere are dead). */
struct block *xl_translate(struct xl *xl, const struct xl_source *src, bool *evicted);
struct block *xl_find(struct xl *xl, const struct xl_source *src); /* by its key; LIVE or RETIRED, or NULL */
bool xl_block_live(const struct block *b);
/* Whether b compares its bytes (MK_CHECKED): at entry up to its first write to memory, after each write up to the
 * next. It leaves at an instruction from which on they are others. Such a block does not straddle: src has 16 bytes of
 * its page at least. */
bool xl_block_checked(const struct block *b);
/* Whether the bytes of such a block, from the instruction at src on, are those of src. False: *change is the
 * instruction where they differ first: a block should end before it. */
bool xl_block_holds(const struct xl *xl, const struct block *b, const struct xl_source *src, paddr *change);
unsigned xl_block_bytes(const struct block *b); /* of guest code */
bool xl_block_turned(const struct block *b);    /* it has xl_source.x87_due: for no jump cache */
paddr xl_block_pa2(const struct block *b);      /* XL_NO_PAGE unless its last instruction straddles */
bool xl_block_partial(const struct block *b);   /* its one instruction runs into a page that was not there: linked from
                                                 * nowhere, and to be made anew once that page is */
bool xl_revive(struct xl *xl, struct block *b, const struct xl_source *src); /* false: bytes differ, block forgotten */
const void *xl_entry(const struct xl *xl, const struct block *b);            /* where to jump, in the executable view */

/* Writes to guest memory. Retires the LIVE blocks that overlap [pa, pa+len) within one page; returns how many LIVE
 * blocks the page still has. xl_retire_page takes all of them. */
unsigned xl_retire(struct xl *xl, paddr pa, unsigned len);
void xl_retire_page(struct xl *xl, paddr pa);
void xl_flush(struct xl *xl);                      /* forget everything, but for templates that were loaded */
bool xl_page_known(const struct xl *xl, paddr pa); /* something in it has been translated */
/* Offsets in pa's page, whose bytes are those at page, at which blocks begin that were made of them: instructions that
 * are known to be ones. At most max of them; returns how many. */
unsigned xl_page_starts(const struct xl *xl, paddr pa, const u8 *page, u16 *off, unsigned max);

/* Edges. An edge's target is in the same guest page as its block, so linking is safe for as long as both live. */
struct edge *xl_edge(struct xl *xl, u64 number); /* what EXIT_CHAIN tells */
vaddr xl_edge_target(const struct edge *e);
void xl_link(struct xl *xl, struct edge *e, struct block *to);
/* Whether e, which was just left by, is a loop's from its end to its beginning, at to, and is better led to a copy of
 * that which has the x87 unit's pointers still to be stored: to the block with to's key and xl_source.x87_due. It may
 * be entered by whoever has come by e, and by nobody else. */
bool xl_turns(const struct edge *e, const struct block *to);
/* Makes the block around host pc leave for the dispatcher at its end. Async-signal-safe. Returns false if pc is in
 * none. */
bool xl_break(struct xl *xl, u64 host_pc);

/* The number, not 0 and below CONTEXT_PARAGRAPHS, of what segmented code of this mode, in a CS of that base and limit,
 * has in common, for struct xl_source. After very many others it may have got another number, and its blocks are made
 * anew; no number is used twice. */
u32 xl_context(struct xl *xl, u32 mode, u32 base, u32 limit);

/* Jump caches: one for supervisor code, one for user code, one for segmented code, which goes by context and EIP, and
 * one that always misses. */
enum xl_jump_cache { XL_JC_SUPERVISOR, XL_JC_USER, XL_JC_SEGMENTED, XL_JC_MISS, XL_JC_COUNT };
void *xl_jump_cache(struct xl *xl, enum xl_jump_cache which);
void xl_jump_fill(struct xl *xl, enum xl_jump_cache which, struct block *b);
/* Fills in b, as after an exit that missed it. If it is the first of its linear page there, as after a flush, the other
 * blocks of that page fill in, too, that have been in a jump cache before: of the same mode and base of CS, and none
 * that straddles. The embedder has just seen that the page is mapped where b says, so they are right as well, and are
 * likely to be wanted next. */
void xl_jump_fill_page(struct xl *xl, enum xl_jump_cache which, struct block *b);
/* Where the code for src is, if a block there has been in a jump cache before, and does not straddle: it and its page
 * are filled in, as above. NULL: no such block. It costs a fraction of what xl_find() does. */
const void *xl_jump_known(struct xl *xl, enum xl_jump_cache which, const struct xl_source *src);
/* The same by EIP alone, for flat code of that mode, in a page that has had entries there without a break since it was
 * filled in; only what is at EIP is filled in again. The base of CS is that of the cache's entries. */
const void *xl_jump_again(struct xl *xl, enum xl_jump_cache which, u32 mode, vaddr eip);
/* The next linear page from number *page on that has entries: true, and its number. */
bool xl_jump_next_page(const struct xl *xl, enum xl_jump_cache which, u32 *page);
void xl_jump_flush(struct xl *xl, enum xl_jump_cache which);
/* Drops the entries of those EIPs for which drops() says so, and keeps the others. */
void xl_jump_drop_some(struct xl *xl, enum xl_jump_cache which, bool (*drops)(void *arg, vaddr eip), void *arg);
/* Drops the entries whose block has code in linear page la. */
void xl_jump_drop_page(struct xl *xl, enum xl_jump_cache which, laddr la);
/* The same for n pages from la's on. Of several all others may go, too, if there are any. */
void xl_jump_drop_pages(struct xl *xl, enum xl_jump_cache which, laddr la, u32 n);

/* From a host pc in translated code back to the guest. Async-signal-safe. */
struct xl_point {
    struct block *block;
    vaddr eip;    /* of the guest instruction that the host pc belongs to */
    paddr pa;     /* its physical address: the key of its site */
    bool told;    /* probes have been told that it begins (struct xl_tap) */
    vaddr begins; /* where the block does */
};
bool xl_recover(struct xl *xl, u64 host_pc, struct xl_point *out);
/* A block that counts (struct xl_tap) was left there, before the instruction at that point, or with `after` behind it:
 * what it has counted of those that follow in it is taken off, or if it has counted nothing yet, what it has done is
 * added. */
void xl_tallies_undo(const struct xl *xl, const struct xl_point *at, bool after, u64 tally[TALLIES]);
/* What a block that was left before its end has not stored in cpu->x87: fills in *out for the guest instruction at
 * which it was left. False: nothing. Not for signal handlers. */
struct xl_x87 {
    bool moved, addressed; /* the instruction's pointer, the operand's */
    vaddr ip;
    u16 op;
    struct insn operand; /* whose address, from the registers as they are, and `off`, make the operand's */
    u32 off;
};
MUST_CHECK bool xl_recover_x87(struct xl *xl, const struct xl_point *at, struct xl_x87 *out);
/* A window access of the instruction at pa has faulted, in a guard or on a page that the window cannot hold, and will
 * again. From now on the instruction does it another way: with an address that wraps around, or through the soft TLB.
 * Forgets its blocks. */
void xl_site_fault(struct xl *xl, paddr pa, bool guard);
/* Sends up to `most` instructions back from the soft TLB to the window, whose time has come; their blocks are
 * forgotten. To be called now and then, with a time that goes on. */
void xl_sites_age(struct xl *xl, u32 now_ms, unsigned most);
/* Removes all blocks that contain the byte at linear la, wherever it is mapped. Looks at all pages. */
void xl_forget_linear(struct xl *xl, laddr la);
/* Removes one block for good, so that it will be translated again (a site has changed). */
void xl_forget(struct xl *xl, struct block *b);

/* Templates: what has been translated, for use wherever the same bytes turn up again in the same mode and at the same
 * offset in a page. xl_translate() makes and uses them. All of them, or those used last, as one piece of memory: */
MUST_CHECK int xl_templates_save(const struct xl *xl, u64 max, u8 **out, u64 *len); /* at most max bytes; 0 or -ENOMEM
                                                                                     */
bool xl_templates_changed(const struct xl *xl); /* whether that is worth it: there are many that were not loaded */
/* Loads what that has made, before anything is translated. Returns NULL, or what is wrong with it. */
MUST_CHECK const char *xl_templates_load(struct xl *xl, const u8 *image, u64 len);
u8 *xl_templates_buffer(u64 len);              /* to load from; NULL: out of memory */
void xl_templates_discard(u8 *image, u64 len); /* what that or saving gave */
u64 xl_templates_key(const struct xl *xl); /* names what they are good for: translator version, CPU model's features,
                                              options */

struct xl_usage {
    u64 cache_bytes, cache_used, blocks, meta_bytes, soft_sites;
};
struct xl_usage xl_usage(const struct xl *xl);

/* Prints guest and host code of src side by side, for the `translate` verb. */
void xl_dump_source(struct xl *xl, const struct xl_source *src, FILE *out);

#endif
