/* The context of one translation: what scan has found, and what lowering has made of it so far. */
#ifndef TRANSLATOR_CTX_H
#define TRANSLATOR_CTX_H
#include "translator/front/scan.h"
#include "translator/front/x87.h"
#include "translator/lower/emit_x64.h"
#include "translator/lower/sites.h"

#define XL_MAX_HOST_INSN 288 /* host bytes that one guest instruction may become, its islands included */
#define XL_MAX_ISLANDS 16
#define XL_AT_ENTRY XL_MAX_INSNS /* xl_ctx.counted_before, struct counted */
#define XL_MAX_RECORDS (XL_MAX_INSNS * 4 + XL_MAX_ISLANDS * 4)
#define XL_MAX_TALLIES (TALLIES * 24 + 80) /* host bytes of counting them, and of looking at the limit */
#define XL_MAX_CODE (XL_MAX_INSNS * XL_MAX_HOST_INSN + XL_MAX_TALLIES + 128 + 1024) /* 1024: the ways out */

/* From host offset `host` of a block on, the code belongs to the guest instruction `guest` bytes into the block. */
struct record {
    u16 host;
    u16 guest; /* and RECORD_TOLD, where probes have been told of it */
};
#define RECORD_TOLD 0x8000u
_Static_assert(XL_MAX_GUEST < RECORD_TOLD, "an offset beside it");
static inline unsigned record_guest(const struct record *r) { return r->guest & ~RECORD_TOLD; }

/* One deferred piece of code, placed where control does not fall into it. */
struct island {
    enum { ISLAND_TLB, ISLAND_FPU, ISLAND_BEYOND } kind;
    u8 *branch; /* rel8 to be pointed at it */
    u8 *back;   /* where it returns to; not of ISLAND_BEYOND, which leaves */
    u32 desc;   /* ISLAND_TLB: TLB_DESC; ISLAND_FPU: 1 if SSE */
    u16 insn;
};

/* What goes into the trace stream. */
struct stream_put {
    bool memory;      /* the accesses of the instruction that is being lowered do */
    u8 writing;       /* size of one whose address has been noted, and that is to be put once it is made; or 0 */
    u8 *block_patch;  /* where the block's record has instructions << 16 | bytes; NULL: it has no record */
    unsigned records; /* at most, so far */
};

struct xl_ctx {
    const struct xl_source *src;
    const struct xl_options *opt;
    const struct site_set *sites;
    u32 number; /* index that the block will have: its edges' numbers come of it */
    struct scan scan;
    unsigned n; /* instructions lowered: scan.n, or fewer if one of them ends the block by the way it is done */
    struct emit e;
    struct reloc_list relocs;
    unsigned cur; /* index of the instruction being lowered */
    struct record rec[XL_MAX_RECORDS];
    unsigned nrec;
    struct island island[XL_MAX_ISLANDS];
    unsigned nislands;
    u8 seg_checked; /* 1 << enum segreg: seg_complex has been looked at in this block */
    bool fpu_checked, sse_checked;
    struct x87_track x87;              /* what of the x87 unit's pointers is still to be stored */
    u8 x87_kind;                       /* enum block_x87: what is known of it so far */
    bool turns;                        /* the block ends in a branch to its own beginning */
    u32 tally[XL_MAX_INSNS];           /* what each instruction adds to (struct xl_tap); 0: the interpreter counts it */
    u32 told[XL_MAX_INSNS];            /* xl_tap.told, where there is a tap */
    u64 was_told;                      /* 1 << index: code before has told of it */
    u8 *tally_patch[TALLIES];          /* where how many that are is to be filled in; NULL: nowhere */
    u8 *ahead_patch[1 + XL_MAX_INSNS]; /* how many are counted but not done: at the entry, [0], and at an instruction */
    u32 tallied;                       /* the set of what its instructions add to, */
    u32 entered;                       /* and that of what its being entered adds to */
    unsigned counted_before;           /* which instruction; XL_AT_ENTRY */
    struct stream_put stream;          /* lower_stream.c */
    bool ended;                        /* control does not fall out of what has been emitted */
    struct {
        u8 *patch, *thunk;
        laddr target; /* on the page that the block begins on */
    } edge[2];
    unsigned nedges;
};

/* Where an EIP of this block's code segment is in linear memory. */
static inline laddr xl_linear(const struct xl_ctx *x, vaddr eip) { return x->src->la + (eip - x->src->eip); }

/* How one instruction is done. */
typedef void lower_fn(struct xl_ctx *x, const struct insn *in);

#endif
