/* Pass 1: where a block ends, and the instructions in it. */
#ifndef TRANSLATOR_SCAN_H
#define TRANSLATOR_SCAN_H
#include "translator/front/decode.h"
#include "translator/front/insn.h"
#include "translator/front/source.h"

#define XL_MAX_INSNS 48 /* per block */
/* In one that compares its bytes: so many instructions, since what it gains by length it pays there; and where its
 * page goes on for so many bytes, since that is what one comparison behind a write takes. */
#define SCAN_CHECKED_INSNS 32
#define SCAN_COMPARED 8
#define XL_MAX_GUEST (XL_MAX_INSNS * 15)
#define XL_LOOKAHEAD 16 /* bytes after a block that may have been looked at to end it there */

/* The instructions that a block may have: up to the first that ends one. Lowering may end it earlier. */
struct scan {
    struct insn insn[XL_MAX_INSNS];
    unsigned n;     /* 1 at least */
    unsigned head;  /* with MK_CHECKED: bytes up to and with the first that may write memory; 0: there is none */
    bool straddles; /* its one instruction ends in the next page */
    bool partial;   /* its one instruction runs into a next page that is not there */
    bool before_straddling; /* what follows straddles: such a block is found through the jump cache only */
    bool looked_ahead;      /* where it ends was decided by up to XL_LOOKAHEAD bytes after it, too */
    bool bound;             /* it depends on more than the bytes in its page, so no template can stand for it */
};

/* Whether in may write memory, in any way. */
bool scan_may_write(const struct insn *in);
/* Fills in all of s. */
void xl_scan(struct scan *s, const struct xl_source *src, struct decoder *dec, u32 features);

#endif
