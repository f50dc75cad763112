/* What direct execution may not run: sweeps a page of code for instructions that do not trap at CPL 3 and do not give
 * the guest's result.
 *
 * Popek and Goldberg's condition fails on IA-32 for some 17 instructions (Robin & Irvine 2000). At CPL 3 with IOPL 0,
 * and in 64-bit Linux's compatibility mode, those that matter are: readers of descriptor tables and selectors (SGDT,
 * SIDT, SLDT, STR, SMSW, LAR, LSL, VERR, VERW, ARPL, moves and pushes of segment registers), what loads selectors from
 * the host's tables (moves and pops to segment registers, LDS and its like, far transfers, IRET), CPUID, the system
 * call instructions whose return address the host does not report (SYSENTER; SYSCALL, which is #UD on the guest's
 * processor), and software interrupts that the host takes for its own (INT 3 and 4 as CD 03, CD 04, INTO, INT1: the
 * trap's kind or place is lost). PUSHF and POPF are none: an admitted guest has IF=1 and IOPL=0, as the host has. INT3
 * is none: compilers fill with it what is never reached, and should it be, the trap says where.
 *
 * A linear sweep is not a proof: code may jump into the middle of what was swept. What it finds there harms the guest's
 * own process alone: a selector it loaded is seen at the next exit (dx_process.h), and the host is behind a filter. */
#include "runtime/direct/scan_page.h"

#include <string.h>

/* At the top of a page a sweep may begin inside an instruction. Within so many bytes it has fallen into step. */
#define SETTLE 16

bool scan_is_sensitive(const struct insn *in)
{
    switch (in->op) {
    case OP_PUSHF:
    case OP_POPF: return false;
    case OP_INT3: return false;  /* a trap that is recognised by its byte */
    case OP_RDTSC: return false; /* admission sees to it that the guest's is the host's */
    case OP_INT: return (in->imm & 0xff) == 3 || (in->imm & 0xff) == 4;
    case OP_INTO:
    case OP_INT1:
    case OP_IRET: return true;
    case OP_CALLF:
    case OP_JMPF:
    case OP_RETF: return true;
    case OP_POP_SREG:
    case OP_MOV_TO_SREG: return true;
    case OP_IN:
    case OP_OUT:
    case OP_INS:
    case OP_OUTS:
    case OP_HLT:
    case OP_CLI:
    case OP_STI: return false; /* #GP */
    default: return in->row->attr & A_SENS && !(in->row->attr & A_PRIV);
    }
}

struct sweep {
    struct decoder *d;
    const struct code_page_bytes *page;
    u64 seen[PAGE_SIZE / 64]; /* instructions known to begin here: a sweep that meets one is a sweep done before */
};

/* The instruction at off, or false: there is none that the guest knows. */
static bool decode_here(const struct sweep *s, unsigned off, struct insn *in)
{
    u8 joined[32];
    const u8 *p = s->page->bytes + off;
    unsigned n = PAGE_SIZE - off;
    if (n < 16) {
        memcpy(joined, p, n);
        if (s->page->next) memcpy(joined + n, s->page->next, 16);
        p = joined;
        n += s->page->next ? 16 : 0;
    }
    return decode(s->d, p, n, off, true, ~0u, in) == DECODE_OK;
}

/* SYSCALL, which the decoder does not know. */
static bool is_syscall(const struct sweep *s, unsigned off)
{
    const u8 *p = s->page->bytes + off;
    return off + 1 < PAGE_SIZE && p[0] == 0x0f && p[1] == 0x05;
}

/* From off to the end of the page. Findings before trust are not believed: data, or the middle of an instruction. */
static bool sweep(struct sweep *s, unsigned off, unsigned trust, u16 *where)
{
    struct insn in;
    while (off < PAGE_SIZE && !(s->seen[off / 64] >> off % 64 & 1)) {
        bool valid = decode_here(s, off, &in);
        if (off >= trust) {
            s->seen[off / 64] |= 1ull << off % 64;
            if (valid && (scan_is_sensitive(&in) || is_syscall(s, off))) {
                *where = (u16)off;
                return false;
            }
        }
        off += valid && in.len ? in.len : 1;
    }
    return true;
}

bool scan_page(struct decoder *d, const struct code_page_bytes *page, u16 *where)
{
    struct sweep s = { .d = d, .page = page };
    for (unsigned i = 0; i < page->nstarts; i++)
        if (!sweep(&s, page->starts[i], 0, where)) return false;
    return sweep(&s, 0, SETTLE, where);
}
