/* What the translator's own files share: the block graph and the context of one translation. */
#ifndef TRANSLATOR_XL_H
#define TRANSLATOR_XL_H
#include "translator/emit_x64.h"
#include "translator/hostmem.h"
#include "translator/insn.h"
#include "translator/reloc.h"
#include "translator/translator.h"

#define XL_MAX_INSNS 48   /* per block */
#define XL_MAX_HOST_INSN 288 /* host bytes that one guest instruction may become, its islands included */
#define XL_MAX_RECORDS (XL_MAX_INSNS * 4 + XL_MAX_ISLANDS * 4)
#define XL_MAX_CODE (XL_MAX_INSNS * XL_MAX_HOST_INSN + 512) /* 512: the ways out */
#define XL_MAX_HOST (XL_MAX_CODE + XL_MAX_RECORDS * sizeof(struct record) + 32) /* per block: the room translate.c insists on */
#define XL_MAX_ISLANDS 16
#define XL_ROOM 66        /* bytes between two calls of xl_room(): a memory access takes up to 44, what follows it up to 21 */

struct edge {
    struct block *from, *to;   /* to NULL: not linked */
    struct edge *next_in;      /* among the edges into `to` */
    u32 patch;                 /* cache offset of the rel32 */
    u32 thunk;                 /* cache offset of the code that leaves with EXIT_CHAIN */
    laddr target;
    bool used;
};

/* From host offset `host` of a block on, the code belongs to guest instruction `insn`, `guest` bytes into the block. */
struct record { u16 host; u16 guest; };

enum block_state { BLOCK_LIVE, BLOCK_RETIRED, BLOCK_DEAD };
struct block {
    laddr eip;
    u32 mode;
    paddr pa, pa2;
    u64 hash;                  /* xxh3 of the guest bytes */
    u32 host_off, host_len;    /* in the code cache */
    u32 rec_off;               /* records, in the code cache */
    u16 nrec, guest_len, ninsns;
    u8 state;
    bool partial;              /* its one instruction runs into a page that was not there */
    struct edge edge[2];
    struct edge *in;
    struct block *hash_next;
    struct block *page_next[2]; /* on the lists of pa's and pa2's pages */
};

struct code_page {
    u64 pfn;
    struct block *first;
    unsigned live;
    struct code_page *next;
};

struct site_set { u64 *slot; unsigned cap, used; }; /* open addressing; 0 is empty, keys are pa + 1 */

#define XL_HASH_BITS 17
#define XL_PAGE_BITS 14
/* What is reached at random, together: few host pages, if they are huge. */
struct xl_tables {
    struct jump_entry jc[XL_JC_COUNT][JUMP_ENTRIES];
    struct block *hash[1u << XL_HASH_BITS];
    struct code_page *pages[1u << XL_PAGE_BITS];
    u16 jc_list[2][JUMP_ENTRIES];
    u8 jc_pages[2][TLB_PAGES / 8]; /* bitmap of linear pages that have entries */
};

struct xl {
    struct xl_config cfg;
    FILE *perf;                /* the perf map, or NULL */
    int fd;
    u8 *rw, *rx;               /* the two views of the code cache */
    u64 used;
    struct { u64 rw, rx, arena; } ready; /* how much of each is there already (hostmem.h) */
    struct block *arena;       /* block records, in order of host_off: xl_recover searches it */
    u32 nblocks, max_blocks;
    struct xl_tables *tables;  /* which these point into: */
    struct block **hash;
    struct code_page **pages;
    struct jump_entry *jc[XL_JC_COUNT];
    u16 *jc_list[2];
    u8 *jc_pages[2];
    u32 jc_count[2];           /* entries on jc_list */
    struct site_set soft;
};

/* One deferred piece of code, placed where control does not fall into it. */
struct island {
    enum { ISLAND_TLB, ISLAND_FPU } kind;
    u8 *branch;    /* rel8 to be pointed at it */
    u8 *back;      /* where it returns to */
    u32 desc;      /* ISLAND_TLB: TLB_DESC; ISLAND_FPU: 1 if SSE */
    u16 insn;
};

/* The context of one translation: filled by scan, then live, then lower. */
struct xl_ctx {
    struct xl *xl;
    const struct xl_source *src;
    struct insn insn[XL_MAX_INSNS];
    u32 live[XL_MAX_INSNS];    /* arithmetic flags live after each */
    unsigned n;
    bool straddles, partial;
    bool before_straddling;    /* what follows straddles: such a block is found through the jump cache only */
    struct emit e;
    struct reloc_list relocs;
    unsigned cur;              /* index of the instruction being lowered */
    struct record rec[XL_MAX_RECORDS];
    unsigned nrec;
    struct island island[XL_MAX_ISLANDS];
    unsigned nislands;
    u8 seg_checked;            /* 1 << enum segreg: seg_complex has been looked at in this block */
    bool soft_only;            /* the access being lowered may not use the window */
    bool fpu_checked, sse_checked;
    bool ended;                /* control does not fall out of what has been emitted */
    struct { u8 *patch, *thunk; laddr target; } edge[2];
    unsigned nedges;
};

/* scan.c */    void xl_scan(struct xl_ctx *x);
/* live.c */    void xl_live(struct xl_ctx *x);
/* policy.c */  typedef void lower_fn(struct xl_ctx *x, const struct insn *in);
                lower_fn *xl_policy(const struct xl_ctx *x, const struct insn *in); /* how this instruction is done, never NULL */
/* lower.c */   void xl_lower(struct xl_ctx *x);
void xl_flush_islands(struct xl_ctx *x, bool falls_through);
void xl_room(struct xl_ctx *x); /* call before up to XL_ROOM bytes of code: keeps islands within reach of their branches */
lower_fn xl_lower_emulate;

/* lower_mem.c: guest memory operands. kind: what the access needs (a write access may be read too). */
enum xl_access { XL_R, XL_W };
struct hmem xl_ea(const struct insn *in);
int xl_gpr(unsigned guest_reg);
bool xl_seg_flat(const struct xl_ctx *x, enum segreg seg); /* base 0, limit 4 GiB in this block's mode */
bool xl_writes_mem(const struct insn *in); /* its explicit memory operand */
struct hmem xl_mem(struct xl_ctx *x, const struct insn *in, enum xl_access acc, unsigned size);
struct hmem xl_mem_at(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size);

/* lower_*.c */
lower_fn lower_ident, lower_incdec_z, lower_mov_zv, lower_moffs, lower_xchg_mem, lower_bt_mem, lower_lea, lower_nop, lower_bswap, lower_xchg_zv;
lower_fn lower_push, lower_pop, lower_leave;
lower_fn lower_jmp, lower_jcc, lower_call, lower_ret, lower_loop;
lower_fn lower_string;
lower_fn lower_rep_string, lower_mov_sreg, lower_pop_sreg, lower_push_sreg, lower_popf, lower_iret, lower_int, lower_sysenter, lower_sysexit, lower_invlpg;
lower_fn lower_pushf, lower_cli, lower_sti, lower_cldstd, lower_mov_from_sreg, lower_mov_from_cr, lower_rdtsc, lower_xlat;
void xl_check_fpu(struct xl_ctx *x, const struct insn *in);
void xl_goto(struct xl_ctx *x, laddr target);   /* direct transfer: an edge, or through the jump cache */
void xl_goto_checked(struct xl_ctx *x, laddr target); /* the same, always through the jump cache */
void xl_goto_r8(struct xl_ctx *x);              /* indirect: target EIP in r8d */

/* cache.c */
void xl_prefault(struct xl *xl); /* the host's pages that the next block will be written to */
void xl_commit(struct xl_ctx *x, struct block *b);
struct code_page *xl_page(const struct xl *xl, paddr pa);
struct block *xl_block_at(struct xl *xl, u64 host_pc);
/* chain.c */
void xl_unlink_block(struct xl *xl, struct block *b);
/* sites.c */
bool site_has(const struct site_set *s, u64 key);
void site_add(struct site_set *s, u64 key);
/* dump.c */
int xl_perf_open(struct xl *xl);
void xl_perf_block(struct xl *xl, const struct block *b);
void xl_trace_block(struct xl *xl, const struct xl_ctx *x, const struct block *b);
#endif
