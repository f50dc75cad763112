/* Which pages of guest code the processor may run without supervision. */
#ifndef RUNTIME_SCAN_PAGE_H
#define RUNTIME_SCAN_PAGE_H
#include "translator/front/decode.h"

struct code_page_bytes {
    const u8 *bytes;   /* PAGE_SIZE of them */
    const u8 *next;    /* the first 16 of the page behind, or NULL */
    const u16 *starts; /* offsets at which instructions are known to begin */
    unsigned nstarts;
};
/* What the guest's processor has, and what of it the host's does differently. */
struct scan_rules {
    u32 features;    /* of the guest's CPU model: 1 << enum insn_feature */
    bool tzcnt;      /* F3 0F BC is TZCNT here, */
    bool lzcnt;      /* and F3 0F BD LZCNT */
    bool wide_mxcsr; /* MXCSR has bits that the guest's has not */
};
/* For this host. */
struct scan_rules scan_rules_of_host(u32 features);

/* Sweeps from the known starts, and from the top of the page. False: there is an instruction that gives another result,
 * or reaches further, in a process of the host's than under the guest's kernel, and that does not trap; *where is its
 * offset. */
bool scan_page(struct decoder *d, const struct scan_rules *rules, const struct code_page_bytes *page, u16 *where);

/* Whether direct execution gets this one wrong without a trap. in has been decoded for rules->features. */
bool scan_is_sensitive(const struct scan_rules *rules, const struct insn *in);
#endif
