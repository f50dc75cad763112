/* What the translator's own files share: the block graph and the context of one translation. */
#ifndef TRANSLATOR_XL_H
#define TRANSLATOR_XL_H
#include "translator/lower/emit_x64.h"
#include "translator/store/hostmem.h"
#include "translator/front/insn.h"
#include "translator/lower/reloc.h"
#include "translator/translator.h"

#define XL_MAX_INSNS 48      /* per block */
#define XL_MAX_HOST_INSN 288 /* host bytes that one guest instruction may become, its islands included */
#define XL_MAX_RECORDS (XL_MAX_INSNS * 4 + XL_MAX_ISLANDS * 4)
#define XL_MAX_CODE (XL_MAX_INSNS * XL_MAX_HOST_INSN + 512) /* 512: the ways out */
#define XL_MAX_GUEST (XL_MAX_INSNS * 15)
#define XL_LOOKAHEAD 16 /* bytes behind a block that may have been looked at to cut it there */
/* Per block, the room translate.c insists on: in the code cache, and beside it. */
#define XL_MAX_HOST (XL_MAX_CODE + 32)
#define XL_MAX_SIDE \
    (XL_MAX_RECORDS * sizeof(struct record) + XL_MAX_RELOCS * sizeof(struct reloc) + XL_MAX_GUEST + XL_LOOKAHEAD)
#define XL_MAX_ISLANDS 16
#define XL_ROOM                                                                                          \
    66 /* bytes between two calls of xl_room(): a memory access takes up to 44, what follows it up to 21 \
        */

struct edge {
    struct block *from, *to; /* to NULL: not linked */
    struct edge *next_in;    /* among the edges into `to` */
    u32 patch;               /* cache offset of the rel32 */
    u32 thunk;               /* cache offset of the code that leaves with EXIT_CHAIN */
    u16 target;              /* its offset in the page: edges never leave it (lower_ctl.c) */
    bool used;
};

/* From host offset `host` of a block on, the code belongs to guest instruction `insn`, `guest` bytes into the block. */
struct record {
    u16 host;
    u16 guest;
};

enum block_state {
    BLOCK_NONE /* a record that is free, or waits with its code for a block (template.c) */,
    BLOCK_LIVE,
    BLOCK_RETIRED,
    BLOCK_DEAD
};
struct block {
    /* What looking one up and moving one goes through is in one line of the host's caches, for that is what these are
     * paid for in. */
    _Alignas(64) laddr eip;
    u32 mode;
    paddr pa;
    struct block *hash_next;
    struct place *place; /* page.c: where it is on the list of, by place_next */
    struct block *place_next;
    u32 host_off; /* in the code cache */
    u32 from;     /* index + 1 of the template whose relocations its code has; 0: it cannot be moved */
    u16 nmoving;  /* the template's */
    u8 state;
    bool jumped;  /* has been in a jump cache */
    bool partial; /* its one instruction runs into a page that was not there */
    u32 host_len;
    u32 rec_off; /* records, in side; of a clone, its template's */
    u16 nrec, guest_len, ninsns;
    paddr pa2;
    u32 bytes; /* the guest's, guest_len of them, in side */
    struct edge edge[2];
    struct edge *in;
    struct block *into_next; /* if it straddles: on the list of pa2's page */
};

/* A linear page where a physical one is mapped, or has been. */
struct place {
    u64 pfn;
    laddr la;
    u32 id;   /* stays, wherever it is moved to */
    u32 used; /* xl->finds, when a block was last looked for there */
    struct block *first;
    struct place *next;
};
#define XL_PLACE_BITS 12
struct code_page {
    u64 pfn;
    struct place *places;
    struct block *into; /* those that straddle into it */
    unsigned live;
    struct code_page *next;
};

/* What the window accesses of one guest instruction have taught us. */
enum site_state {
    SITE_FITS,
    SITE_WRAPS /* its address wraps around at 4 GiB */,
    SITE_SOFT /* it reaches for what no window holds */
};
struct site {
    u64 key;         /* physical address + 1, or 0: empty */
    u32 due;         /* SOFT: when it goes back to the window, in ms */
    u8 state, waits; /* how often it has been SOFT */
};
struct site_set {
    struct site *slot;
    unsigned cap, used, soft, hand;
    u32 now;
    u64 pages[64]; /* a bit for each page that has a site, by hash: most have none */
};
#define SITE_FIRST_WAIT 2000u /* ms */
#define SITE_MAX_WAITS 16     /* a day and a half */
#define SITE_LOOK 64          /* entries looked at for one that is due */

/* A block that can be had again: see template.c. The same in memory and in a file. */
struct template
{
    u32 key;        /* hash of how its bytes begin, its mode and its offset in the page */
    u32 next;       /* index + 1 of the next one in the chain of that; 0: none */
    u32 next_place; /* the same, in the chain of where it was when it was loaded */
    u32 code;       /* where it is in the code cache */
    u32 side;       /* its records, relocations and guest bytes, in side */
    laddr eip;      /* what the code is right for at present */
    u32 sites;      /* the state of the sites in it, hashed; 0: all as they begin */
    u16 mode, host_len, nrec, nrel, guest_len, ninsns;
    u16 nmoving;            /* relocations of its that depend on the place */
    u16 depends;            /* guest bytes that it depends on: guest_len, or more (looked_ahead) */
    u16 patch[2], thunk[2]; /* edges, by host offset in the block */
    u16 target[2];          /* and their targets, by offset in the page */
    u8 nedges;
    u8 used; /* made or used since it was loaded */
    u16 reserved[3];
};
_Static_assert(sizeof(struct template) == 64, "a cache line, and the format of a file");

struct template_store {
    struct template *t;
    u32 n, max;
    u32 nloaded;            /* the first so many were loaded, the others have been made since */
    u32 made;               /* since the program has started */
    u32 *head, *head_place; /* of chains: index + 1 */
    u32 expected;           /* index of the one that is likely to be wanted next, or n */
    u32 moved[256]; /* by the upper byte of an address: how far what lies there was from there when it was loaded */
    u64 loaded_code, loaded_side; /* bytes at the beginning of the code cache and of side that are theirs */
};

#define XL_HASH_BITS 17 /* to begin with */
#define XL_PAGE_BITS 14
#define XL_TEMPLATE_BITS 17
/* What is reached at random, together: few host pages, if they are huge. */
struct xl_tables {
    struct jump_entry jc[XL_JC_COUNT][JUMP_ENTRIES];
    struct code_page *pages[1u << XL_PAGE_BITS];
    struct place *place[1u << XL_PLACE_BITS];
    u16 jc_list[2][JUMP_ENTRIES];
    u8 jc_pages[2][TLB_PAGES / 8]; /* bitmap of linear pages that have entries */
    u32 template_head[2][1u << XL_TEMPLATE_BITS];
};

struct xl {
    struct xl_config cfg;
    FILE *perf;  /* the perf map, or NULL */
    u8 *rw, *rx; /* the two views of the code cache */
    u64 used;
    u8 *side; /* what goes with code, but is not run: records, and what templates have */
    u64 side_used, side_max;
    struct {
        u64 rw, rx, side, arena, templates;
    } ready;             /* how much of each is there already (hostmem.h) */
    struct block *arena; /* block records, in order of host_off: xl_recover searches it */
    u32 nblocks, max_blocks;
    u32 finds;           /* a clock for struct place */
    u32 nplaces;         /* ids given */
    struct block **hash; /* grows with the number of blocks */
    unsigned hash_bits;
    struct xl_tables *tables; /* which these point into: */
    struct code_page **pages;
    struct place **place; /* the last one found of each hash, or NULL */
    struct jump_entry *jc[XL_JC_COUNT];
    u16 *jc_list[2];
    u8 *jc_pages[2];
    u32 jc_count[2]; /* entries on jc_list */
    struct site_set sites;
    struct template_store templates;
};

/* One deferred piece of code, placed where control does not fall into it. */
struct island {
    enum { ISLAND_TLB, ISLAND_FPU } kind;
    u8 *branch; /* rel8 to be pointed at it */
    u8 *back;   /* where it returns to */
    u32 desc;   /* ISLAND_TLB: TLB_DESC; ISLAND_FPU: 1 if SSE */
    u16 insn;
};

/* The context of one translation: filled by scan, then live, then lower. */
struct xl_ctx {
    struct xl *xl;
    const struct xl_source *src;
    struct insn insn[XL_MAX_INSNS];
    u32 live[XL_MAX_INSNS]; /* arithmetic flags live after each */
    unsigned n;
    bool straddles, partial;
    bool before_straddling; /* what follows straddles: such a block is found through the jump cache only */
    bool looked_ahead;      /* up to XL_LOOKAHEAD bytes behind it had a part in where it ends */
    bool bound;             /* to this place, by more than the bytes in its page: no template */
    struct emit e;
    struct reloc_list relocs;
    unsigned cur; /* index of the instruction being lowered */
    struct record rec[XL_MAX_RECORDS];
    unsigned nrec;
    struct island island[XL_MAX_ISLANDS];
    unsigned nislands;
    u8 seg_checked; /* 1 << enum segreg: seg_complex has been looked at in this block */
    bool fpu_checked, sse_checked;
    bool ended; /* control does not fall out of what has been emitted */
    struct {
        u8 *patch, *thunk;
        laddr target;
    } edge[2];
    unsigned nedges;
};

/* scan.c */ void xl_scan(struct xl_ctx *x);
/* live.c */ void xl_live(struct xl_ctx *x);
/* policy.c */ typedef void lower_fn(struct xl_ctx *x, const struct insn *in);
lower_fn *xl_policy(const struct xl_ctx *x, const struct insn *in); /* how this instruction is done, never NULL */
/* lower.c */ void xl_lower(struct xl_ctx *x);
void xl_flush_islands(struct xl_ctx *x, bool falls_through);
void xl_room(struct xl_ctx *x); /* call before up to XL_ROOM bytes of code: keeps islands within reach of their branches
                                 */
lower_fn xl_lower_emulate;

/* lower_mem.c: guest memory operands. kind: what the access needs (a write access may be read too). */
enum xl_access { XL_R, XL_W };
struct hmem xl_ea(const struct insn *in);
/* All that lowering asks of the value of a displacement of 32 bits. */
enum xl_disp_class { DISP_UP, DISP_DOWN /* up to half a MiB */, DISP_FAR_DOWN };
static inline enum xl_disp_class xl_disp_class(s32 disp)
{
    return disp >= 0 ? DISP_UP : disp >= -0x80000 ? DISP_DOWN : DISP_FAR_DOWN;
}
int xl_gpr(unsigned guest_reg);
bool xl_seg_flat(const struct xl_ctx *x, enum segreg seg); /* base 0, limit 4 GiB in this block's mode */
bool xl_writes_mem(const struct insn *in);                 /* its explicit memory operand */
struct hmem xl_mem(struct xl_ctx *x, const struct insn *in, enum xl_access acc, unsigned size);
struct hmem xl_mem_at(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size);

/* lower_*.c */
lower_fn lower_ident, lower_incdec_z, lower_mov_zv, lower_moffs, lower_xchg_mem, lower_bt_mem, lower_lea, lower_nop,
    lower_bswap, lower_xchg_zv;
lower_fn lower_push, lower_pop, lower_leave;
lower_fn lower_jmp, lower_jcc, lower_call, lower_ret, lower_loop;
lower_fn lower_string;
lower_fn lower_rep_string, lower_mov_sreg, lower_pop_sreg, lower_push_sreg, lower_popf, lower_iret, lower_int,
    lower_sysenter, lower_sysexit, lower_invlpg;
lower_fn lower_pushf, lower_cli, lower_sti, lower_cldstd, lower_mov_from_sreg, lower_mov_from_cr, lower_rdtsc,
    lower_xlat;
void xl_check_fpu(struct xl_ctx *x, const struct insn *in);
/* at: where in the instruction the target is, relative, as 32 bits; 0: it is not. */
void xl_goto(struct xl_ctx *x, laddr target, unsigned at); /* direct transfer: an edge, or through the jump cache */
void xl_goto_checked(struct xl_ctx *x, laddr target, unsigned at); /* the same, always through the jump cache */
void xl_goto_r8(struct xl_ctx *x);                                 /* indirect: target EIP in r8d */

/* What is to be shown when it is translated has to be translated. */
static inline bool xl_traced(const struct xl *xl, laddr eip)
{
    return trace_on(xl->cfg.trace, TR_guest, eip) || trace_on(xl->cfg.trace, TR_host, eip);
}

/* cache.c */
void xl_prefault(struct xl *xl); /* the host's pages that the next block will be written to */
u64 xl_align(u64 cache_offset);  /* where the next block begins, behind what ends there */
void xl_commit(struct xl_ctx *x, struct block *b);
void xl_keep_bytes(struct xl *xl, struct block *b, const struct xl_source *src); /* for xl_revive() */
void xl_block_place(struct xl *xl, struct block *b); /* makes a complete record LIVE, in its place in the graph */
void xl_forget_at(struct xl *xl, paddr pa);          /* the blocks that contain it */
struct block *xl_block_at(struct xl *xl, u64 host_pc);
/* page.c */
struct code_page *xl_page(const struct xl *xl, paddr pa); /* NULL: never had a block */
void xl_pages_free(struct xl *xl);
void xl_page_add(struct xl *xl, struct block *b); /* to where its eip, pa and pa2 say; LIVE */
void xl_page_remove(struct xl *xl, struct block *b);
void xl_page_count(struct xl *xl, const struct block *b, int by); /* of LIVE ones */
struct block *xl_page_first(const struct code_page *pg); /* of all blocks that have a byte on it; pg may be NULL */
struct block *xl_page_after(const struct code_page *pg, const struct block *b);
struct place *xl_place(struct xl *xl, laddr eip, paddr pa); /* NULL: no block has been there */
bool xl_page_move(struct xl *xl, laddr eip, paddr pa); /* eip's page has no blocks for pa's: gives it another one's, if
                                                          there are enough. Whether */
/* chain.c */
void xl_unlink_block(struct xl *xl, struct block *b);
void xl_jump_empty(struct xl *xl, enum xl_jump_cache which); /* completes one that is all zeroes */
void xl_jump_forget(struct xl *xl, const struct block *b);
bool xl_jump_knows(const struct xl *xl, enum xl_jump_cache which, laddr la); /* may have entries for la's page */
void xl_reset_edges(struct xl *xl, struct block *b); /* all its code as it was made: for when the whole graph goes */
/* template.c */
MUST_CHECK int template_store_init(struct xl *xl);
void template_store_free(struct xl *xl);
struct block *template_block(struct xl *xl, const struct xl_source *src); /* NULL: none serves */
bool template_add(struct xl_ctx *x, struct block *b); /* whether there is one, which has b's guest bytes */
void template_readdress(struct xl *xl, const struct block *b, u32 delta); /* its code, by nmoving */
void template_edges(const struct template *t, u8 *code, u32 block);
void template_drop_made(struct xl *xl); /* all but the loaded: the code cache is about to be emptied */
void template_drop_all(struct xl *xl);
void template_chain(struct template_store *s, u32 i);
void template_chain_place(struct template_store *s, u32 i);
void template_prefetch(const struct xl *xl, u32 i); /* what both of these will touch, and its block record */
u32 template_side_len(const struct template *t);    /* a multiple of 4 */
const struct reloc *template_relocs(const struct template *t, const u8 *side); /* side: where its own begins */
/* template_file.c */
void xl_evict(struct xl *xl); /* empties the code cache, but for templates */
/* sites.c */
bool site_page(const struct site_set *s, paddr pa); /* false: no site in the page of pa is known */
enum site_state site_get(const struct site_set *s, paddr pa);
enum site_state site_fault(struct site_set *s, paddr pa, bool guard); /* its new state */
paddr site_next_due(struct site_set *s, unsigned look); /* a site that has just gone back to the window, or XL_NO_PAGE
                                                         */
/* dump.c */
int xl_perf_open(struct xl *xl);
void xl_perf_block(struct xl *xl, const struct block *b);
void xl_trace_block(struct xl *xl, const struct xl_ctx *x, const struct block *b);
#endif
