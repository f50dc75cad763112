/* What direct execution may not run: sweeps a page of code for instructions that do not trap at CPL 3 and do not give
 * the guest's result. Three kinds: what shows or loads the host's system state, what the host's processor defines and
 * the guest's does not, and what both define differently. docs/direct.md lists the last two, with the reasons;
 * tests/diff/test_map.c walks the opcode map against this file, capstone and the processor.
 *
 * Popek and Goldberg's condition fails on IA-32 for some 17 instructions (Robin & Irvine 2000). At CPL 3 with IOPL 0,
 * and in 64-bit Linux's compatibility mode, those that matter are: readers of descriptor tables and selectors (SGDT,
 * SIDT, SLDT, STR, SMSW, LAR, LSL, VERR, VERW, ARPL, moves and pushes of segment registers), what loads selectors from
 * the host's tables (moves and pops to segment registers, LDS and its like, far transfers, IRET), CPUID, the system
 * call instructions whose return address the host does not report (SYSENTER), and software interrupts that the host
 * takes for its own (INT 3 and 4 as CD 03, CD 04, INTO, INT1: the trap's kind or place is lost). PUSHF and POPF are
 * none: an admitted guest has IF=1 and IOPL=0, as the host has. INT3 is none: compilers fill with it what is never
 * reached, and should it be, the trap says where.
 *
 * A linear sweep is not a proof: code may jump into the middle of what was swept. What it finds there harms the guest's
 * own process alone: a selector it loaded is seen at the next exit (dx_process.h), and the host is behind a filter. */
#include "runtime/direct/scan_page.h"

#include <cpuid.h>
#include <string.h>

/* At the top of a page a sweep may begin inside an instruction. Within so many bytes it has fallen into step. */
#define SETTLE 16

/* ---- the host ---- */

static u32 host_mxcsr_mask(void)
{
    u8 image[512] __attribute__((aligned(16)));
    u32 mask;
    __asm__ volatile("fxsave %0" : "=m"(image));
    memcpy(&mask, image + 28, sizeof mask);
    return mask ? mask : 0xffbf;
}

struct scan_rules scan_rules_of_host(u32 features)
{
    struct scan_rules r = { .features = features, .wide_mxcsr = host_mxcsr_mask() & ~mxcsr_mask(features) };
    u32 a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) r.tzcnt = b & 1u << 3 /* BMI1 */;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) r.lzcnt = c & 1u << 5 /* ABM */;
    return r;
}

/* ---- one instruction ---- */

static bool is_system(const struct insn *in)
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

/* What the guest's processor does not have: some processor may, or may have one day, so it is not run unless it is #UD
 * for good. Of one byte, that is all but the openings that VEX, EVEX, XOP and TSX came through, and x87; of two, UD0,
 * UD1 and UD2. */
static bool is_undefined_for_good(const struct insn *in)
{
    const u8 *p = in->bytes + in->npfx;
    unsigned left = in->len > in->npfx ? (unsigned)(in->len - in->npfx) : 0;
    if (in->prefixes & IP_LOCK || !left) return false;
    if (p[0] == 0x0f) return left > 1 && (p[1] == 0x0b || p[1] == 0xb9 || p[1] == 0xff);
    if (p[0] >= 0xd8 && p[0] <= 0xdf) return false;
    switch (p[0]) {
    case 0x62:
    case 0x8f:
    case 0xc4:
    case 0xc5:
    case 0xc6:
    case 0xc7: return false;
    default: return true;
    }
}

/* F2 or F3 before an opcode of two or three bytes that they do not select: ignored where they mean nothing, and the way
 * in which new instructions have come. Those that are hints (0F 18 to 0F 1F: ENDBR, CLDEMOTE, MPX and RDSSP do nothing
 * in a process that did not ask for them) and branches (BND) stay hints and branches. */
static bool has_stray_repeat(const struct scan_rules *r, const struct insn *in)
{
    if (!(in->prefixes & (IP_REP | IP_REPNE)) || in->row->map == MAP_1B || in->row->pfx != PFX_ANY) return false;
    switch (in->op) {
    case OP_NOP:
    case OP_PREFETCH:
    case OP_JCC: return false;
    case OP_BSF: return r->tzcnt;
    case OP_BSR: return r->lzcnt;
    default: return !(in->row->attr & A_PRIV); /* #GP */
    }
}

/* What both have, with another result: FCS, FDS and the last instruction's address, which new processors and context
 * switches lose; MXCSR_MASK; and flags that the manual leaves undefined where the interpreter cannot ask the host, for
 * 64-bit mode does not have the instruction. */
static bool differs(const struct scan_rules *r, const struct insn *in)
{
    switch (in->op) {
    case OP_FNSTENV:
    case OP_FLDENV:
    case OP_FNSAVE:
    case OP_FRSTOR:
    case OP_FXSAVE:
    case OP_FXRSTOR: return true;
    case OP_LDMXCSR: return r->wide_mxcsr;
    case OP_AAA:
    case OP_AAS:
    case OP_AAM:
    case OP_AAD:
    case OP_DAA:
    case OP_DAS: return true;
    default: return false;
    }
}

bool scan_is_sensitive(const struct scan_rules *r, const struct insn *in)
{
    if (in->id == INSN_INVALID) return !is_undefined_for_good(in);
    return is_system(in) || has_stray_repeat(r, in) || differs(r, in);
}

/* ---- a page ---- */

struct sweep {
    struct decoder *d;
    const struct scan_rules *rules;
    const struct code_page_bytes *page;
    u64 seen[PAGE_SIZE / 64]; /* a bit for each offset at which a sweep has looked at an instruction: what follows from
                               * there has been looked at as well */
};
#define INSN_MAX 16 /* no instruction is longer */

static bool seen_at(const struct sweep *s, unsigned off) { return s->seen[off / 64] >> off % 64 & 1; }
static void see(struct sweep *s, unsigned off) { s->seen[off / 64] |= 1ull << off % 64; }

/* The instruction at off, or false: it goes on where there are no bytes. One that may run into the next page is decoded
 * from a copy with the beginning of that page after the end of this one. */
static bool decode_here(const struct sweep *s, unsigned off, struct insn *in)
{
    const u8 *bytes = s->page->bytes + off;
    unsigned here = PAGE_SIZE - off;
    if (here >= INSN_MAX) return decode(s->d, bytes, here, off, true, s->rules->features, in) == DECODE_OK;
    u8 joined[2 * INSN_MAX];
    unsigned there = s->page->next ? INSN_MAX : 0;
    memcpy(joined, bytes, here);
    if (there) memcpy(joined + here, s->page->next, there);
    return decode(s->d, joined, here + there, off, true, s->rules->features, in) == DECODE_OK;
}

/* From off to the end of the page. Findings before trust are not believed: data, or the middle of an instruction. */
static bool sweep(struct sweep *s, unsigned off, unsigned trust, u16 *where)
{
    struct insn in;
    while (off < PAGE_SIZE && !seen_at(s, off)) {
        bool valid = decode_here(s, off, &in);
        bool sensitive = valid && scan_is_sensitive(s->rules, &in);
        if (off >= trust) {
            see(s, off);
            if (sensitive) {
                *where = (u16)off;
                return false;
            }
        }
        off += valid && in.len ? in.len : 1; /* data: the next byte is tried */
    }
    return true;
}

bool scan_page(struct decoder *d, const struct scan_rules *rules, const struct code_page_bytes *page, u16 *where)
{
    struct sweep s = { .d = d, .rules = rules, .page = page };
    for (unsigned i = 0; i < page->nstarts; i++)
        if (!sweep(&s, page->starts[i], 0, where)) return false;
    return sweep(&s, 0, SETTLE, where);
}
