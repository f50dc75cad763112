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
 * A page is looked at in two steps. What control reaches from instructions that have been executed, through branches
 * and into calls, is code for certain: there every sensitive instruction counts. It does not make the page unfit where
 * a copy of it can be run instead, in which its first byte is one that traps (or, of a prefix that the guest's
 * processor ignores, one that does nothing). What stands behind a call may be data that the callee skips, so it is
 * code once it has been executed. Of all other bytes only instructions of the system with two opcode bytes count, which
 * are rare in data, and only where decoding from the bytes before comes to them: what is another's operand must not be
 * changed.
 *
 * That is no proof: code that was not known when its page was swept may do what the host's processor does. That shows
 * it the host's CPUID bits or selectors: a selector it loaded is seen at the next exit (dx_process.h), and the host is
 * behind a filter. */
#include "runtime/direct/scan_page.h"

#include <cpuid.h>
#include <string.h>

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
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        r.tzcnt = b & 1u << 3 /* BMI1 */;
        r.execute_only = c & 1u << 4 /* OSPKE: Linux gives PROT_EXEC alone a protection key */;
    }
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

/* A bit for each offset. */
struct marks {
    u64 bits[PAGE_SIZE / 64];
};
static bool marked(const struct marks *m, unsigned off) { return m->bits[off / 64] >> off % 64 & 1; }
static void mark(struct marks *m, unsigned off) { m->bits[off / 64] |= 1ull << off % 64; }

struct sweep {
    struct decoder *d;
    const struct scan_rules *rules;
    const struct code_page_bytes *page;
    struct scan_result *result;
    struct marks begins, covered; /* where known instructions begin, and their bytes */
    struct marks inside;          /* their bytes but the first */
    u16 todo[PAGE_SIZE];          /* offsets to follow */
};
#define INSN_MAX 15

/* The instruction at off, or false: it goes on where there are no bytes. One that may run into the next page is decoded
 * from a copy with the beginning of that page after the end of this one. */
static bool decode_here(const struct sweep *s, unsigned off, struct insn *in)
{
    const u8 *bytes = s->page->bytes + off;
    unsigned here = PAGE_SIZE - off;
    if (here > INSN_MAX) return decode(s->d, bytes, here, off, true, s->rules->features, in) == DECODE_OK;
    u8 joined[2 * INSN_MAX + 2];
    unsigned there = s->page->next ? INSN_MAX : 0;
    memcpy(joined, bytes, here);
    if (there) memcpy(joined + here, s->page->next, there);
    return decode(s->d, joined, here + there, off, true, s->rules->features, in) == DECODE_OK;
}

/* Control does not go on behind it, or nobody knows. */
static bool control_ends(const struct insn *in)
{
    switch (in->op) {
    case OP_JMP:
    case OP_RET:
    case OP_RETF:
    case OP_IRET:
    case OP_JMPF:
    case OP_CALL:
    case OP_CALLF:
    case OP_INT3:
    case OP_HLT: /* abort() ends so */
    case OP_UD2: return true;
    default: return in->id == INSN_INVALID;
    }
}

static bool is_relative(const struct insn *in) { return in->row->enc[0] == ENC_Jb || in->row->enc[0] == ENC_Jz; }

/* ---- patches ---- */

#define HLT 0xf4
#define PREFIX_SS 0x36
#define PREFIX_DS 0x3e

/* F3 before BSF and BSR means nothing to the guest's processor, as the prefix of the segment that it uses anyway does
 * to all. Compilers write it for a count of zeros, so a trap would be a dear one. */
static bool is_prefixed_bit_scan(const struct insn *in)
{
    return (in->op == OP_BSF || in->op == OP_BSR) && in->id != INSN_INVALID && in->npfx == 1 && in->bytes[0] == 0xf3;
}

static u8 patch_byte(const struct insn *in)
{
    if (!is_prefixed_bit_scan(in)) return HLT;
    return in->seg == S_SS ? PREFIX_SS : PREFIX_DS;
}

/* What shows which x87 instruction was the last: one that ran directly is not known to every host. So a page that has
 * it is the translator's as a whole. */
static bool shows_x87_pointers(const struct insn *in)
{
    return in->op == OP_FNSTENV || in->op == OP_FNSAVE || in->op == OP_FXSAVE;
}

static bool patch(struct sweep *s, unsigned off, const struct insn *in)
{
    struct scan_result *r = s->result;
    r->where = (u16)off;
    if (!s->rules->execute_only || r->n == SCAN_PATCHES_MAX || shows_x87_pointers(in)) return false;
    if (off < INSN_MAX - 1) return false; /* it may be an operand of what begins on the page before, too */
    r->patch[r->n++] = (struct scan_patch){ (u16)off, patch_byte(in) };
    return true;
}

/* An instruction whose first byte is inside of another cannot be changed by itself. */
static bool patches_are_apart(struct sweep *s)
{
    struct scan_result *r = s->result;
    for (unsigned i = 0; i < r->n; i++) {
        if (!marked(&s->inside, r->patch[i].at)) continue;
        r->where = r->patch[i].at;
        return false;
    }
    return true;
}

/* ---- the two steps ---- */

/* Follows control from off, through code. False: there is something sensitive that cannot be patched. */
static bool follow(struct sweep *s, unsigned off)
{
    unsigned n = 0;
    s->todo[n++] = (u16)off;
    while (n) {
        struct insn in;
        for (off = s->todo[--n]; off < PAGE_SIZE && !marked(&s->begins, off); off += in.len) {
            if (!decode_here(s, off, &in) || !in.len) break;
            mark(&s->begins, off);
            mark(&s->covered, off);
            for (unsigned i = off + 1; i < off + in.len && i < PAGE_SIZE; i++)
                mark(&s->covered, i), mark(&s->inside, i);
            if (scan_is_sensitive(s->rules, &in) && !patch(s, off, &in)) return false;
            if (is_relative(&in) && in.target < PAGE_SIZE && !marked(&s->begins, in.target) && n < PAGE_SIZE)
                s->todo[n++] = (u16)in.target;
            if (control_ends(&in)) break;
        }
    }
    return true;
}

/* Of what is not known to be code: what shows the processor's identity, the host's tables or the last x87 instruction,
 * or enters the kernel by a door of its own, and has two opcode bytes, or is INT 3 or 4. Segment moves show at the next
 * exit; what the model does not have stands behind a CPUID that says so. */
static bool is_worth_caution(const struct insn *in)
{
    if (in->id == INSN_INVALID) return false;
    switch (in->op) {
    case OP_INT:
    case OP_FNSTENV:
    case OP_FNSAVE:
    case OP_FXSAVE:
    case OP_FXRSTOR: return true;
    case OP_PUSH_SREG:
    case OP_POP_SREG:
    case OP_LSS:
    case OP_LFS:
    case OP_LGS: return false;
    default: return in->bytes[in->npfx] == 0x0f && is_system(in);
    }
}

/* Whether the bytes at off may open one of those. A filter: decoding all there is would cost fifty times as much. */
static bool may_be_worth_caution(const struct sweep *s, unsigned off)
{
    const u8 first = s->page->bytes[off];
    if (first != 0x0f && first != 0xcd && (first & ~4) != 0xd9) return false;
    const u8 second = off + 1 < PAGE_SIZE ? s->page->bytes[off + 1] : s->page->next ? s->page->next[0] : 0xff;
    if (first == 0xcd) return second == 3 || second == 4;
    if (first != 0x0f) return second < 0xc0 && (second >> 3 & 7) == 6; /* FNSTENV, FNSAVE */
    return second <= 3 || second == 0x34 || second == 0xa2 || second == 0xae;
}

/* Decoding that begins anywhere soon falls into step with the instructions that there are. */
#define VOTES_FAR 64
#define VOTES_NEAR 16
#define PATCH_FROM (2 * VOTES_NEAR) /* from here on there are enough of them to change a byte for */

/* Whether an instruction begins at off, if that is code: of the decodings that begin at each of the bytes some way
 * before, three in four come there. Of data not so many do, and of code in which off is an operand's hardly one. */
static bool begins_by_vote(const struct sweep *s, unsigned off)
{
    unsigned votes = 0, from = off > VOTES_FAR ? off - VOTES_FAR : 0, to = off > VOTES_NEAR ? off - VOTES_NEAR : 0;
    if (to < from + 8) return false; /* near the top of the page, where the end of another instruction may be */
    for (unsigned begin = from; begin < to; begin++) {
        unsigned at = begin;
        for (struct insn in; at < off; at += in.len)
            if (!decode_here(s, at, &in) || !in.len) break;
        votes += at == off;
    }
    return votes * 4 >= (to - from) * 3;
}

/* The bytes that nothing is known to reach. */
static bool rest_is_fit(struct sweep *s)
{
    struct insn in;
    for (unsigned off = 0; off < PAGE_SIZE; off++) {
        if (!may_be_worth_caution(s, off) || marked(&s->covered, off)) continue;
        if (!decode_here(s, off, &in) || !is_worth_caution(&in) || !scan_is_sensitive(s->rules, &in)) continue;
        if (begins_by_vote(s, off) && !(off >= PATCH_FROM && patch(s, off, &in))) {
            s->result->where = (u16)off;
            return false;
        }
    }
    return true;
}

enum scan_verdict scan_page(struct decoder *d, const struct scan_rules *rules, const struct code_page_bytes *page,
                            struct scan_result *result)
{
    struct sweep s = { .d = d, .rules = rules, .page = page, .result = result };
    result->n = 0;
    for (unsigned i = 0; i < page->nstarts; i++)
        if (!follow(&s, page->starts[i])) return SCAN_UNFIT;
    if (!patches_are_apart(&s) || !rest_is_fit(&s)) return SCAN_UNFIT;
    return result->n ? SCAN_PATCHED : SCAN_FIT;
}
