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
/* Sweeps from the known starts, and from the top of the page. False: there is an instruction that gives another result,
 * or reaches further, in a process of the host's than under the guest's kernel, and that does not trap; *where is its
 * offset. */
bool scan_page(struct decoder *d, const struct code_page_bytes *page, u16 *where);

/* Whether direct execution gets this one wrong without a trap. */
bool scan_is_sensitive(const struct insn *in);
#endif
