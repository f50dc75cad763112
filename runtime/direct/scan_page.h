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
    u32 features;      /* of the guest's CPU model: 1 << enum insn_feature */
    bool tzcnt;        /* F3 0F BC is TZCNT here, */
    bool lzcnt;        /* and F3 0F BD LZCNT */
    bool wide_mxcsr;   /* MXCSR has bits that the guest's has not */
    bool execute_only; /* a page can be executed and not read, so that a patched copy of it may run */
};
/* For this host. */
struct scan_rules scan_rules_of_host(u32 features);

/* A byte of the copy that differs from the page's: the first of an instruction. HLT, where it has to trap; it is then
 * to be emulated as it stands in the page. */
struct scan_patch {
    u16 at;
    u8 byte;
};
#define SCAN_PATCHES_MAX 128
struct scan_result {
    unsigned n;
    struct scan_patch patch[SCAN_PATCHES_MAX];
    u16 where; /* the last offset that something was found at */
};
enum scan_verdict {
    SCAN_FIT,     /* it may run as it is */
    SCAN_PATCHED, /* a copy with these patches may, if nothing reads it */
    SCAN_UNFIT    /* because of what is at `where` */
};

/* Sweeps what control reaches from the known starts, and then the rest of the page, for instructions that give another
 * result, or reach further, in a process of the host's than under the guest's kernel, and that do not trap. */
enum scan_verdict scan_page(struct decoder *d, const struct scan_rules *rules, const struct code_page_bytes *page,
                            struct scan_result *result);

/* Whether direct execution gets this one wrong without a trap. in has been decoded for rules->features. */
bool scan_is_sensitive(const struct scan_rules *rules, const struct insn *in);
#endif
