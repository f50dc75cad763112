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
 * A page is looked at in three steps: what control reaches from the instructions that are known; what it would reach
 * from where a function or the case of a switch may begin, unless that turns out to be data; and the bytes between, of
 * which only what is rare in data counts. Tables stand between functions in hand-written assembly, and a page whose
 * constants look like POP ES is as fit as others.
 *
 * That is no proof: code may jump into the middle of an instruction, or of a table. What it finds there harms the
 * guest's own process alone: a selector it loaded is seen at the next exit (dx_process.h), and the host is behind a
 * filter. */
#include "runtime/direct/scan_page.h"

#include <cpuid.h>
#include <string.h>

/* At the top of a page a sweep may begin inside an instruction. Within so many bytes it has fallen into step. */
#define SETTLE 16
#define NOWHERE 0xffff

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

/* A bit for each offset. */
struct marks {
    u64 bits[PAGE_SIZE / 64];
};
static bool marked(const struct marks *m, unsigned off) { return m->bits[off / 64] >> off % 64 & 1; }
static void mark(struct marks *m, unsigned off) { m->bits[off / 64] |= 1ull << off % 64; }

/* What control can reach. */
struct code {
    struct marks begins, covered; /* where instructions begin, and their bytes */
};
struct sweep {
    struct decoder *d;
    const struct scan_rules *rules;
    const struct code_page_bytes *page;
    struct code code;
    struct marks tables; /* of addresses, that jumps read; in this page, or at the same offset of another */
    u16 todo[PAGE_SIZE]; /* offsets to follow */
    u16 where;           /* of what was found */
};
enum finding { FOUND_NOTHING, FOUND_SENSITIVE, FOUND_DATA };
#define INSN_MAX 16 /* no instruction is longer */

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

/* UD0 and UD1: like UD2, compilers put them where nothing comes to. */
static bool is_ud(const struct insn *in)
{
    return in->id == INSN_INVALID && in->bytes[in->npfx] == 0x0f && is_undefined_for_good(in);
}

static bool control_ends(const struct insn *in)
{
    return in->op == OP_JMP || in->op == OP_RET || in->op == OP_RETF || in->op == OP_IRET || in->op == OP_JMPF
           || in->op == OP_INT3 || in->op == OP_HLT /* abort() ends so */ || in->op == OP_UD2 || is_ud(in);
}

/* What no user code is made of, for it traps. */
static bool is_alien(const struct insn *in)
{
    switch (in->op) {
    case OP_IN:
    case OP_OUT:
    case OP_INS:
    case OP_OUTS:
    case OP_CLI:
    case OP_STI: return true;
    case OP_HLT: return false;
    default: return (in->id == INSN_INVALID && !is_ud(in)) || in->row->attr & A_PRIV;
    }
}

static bool is_relative(const struct insn *in) { return in->row->enc[0] == ENC_Jb || in->row->enc[0] == ENC_Jz; }

/* Follows control from off and adds what it finds to code. guess: nobody has come to off yet, so it may be data: then
 * its instructions soon trap, or lead into the middle of known code. */
static enum finding follow(struct sweep *s, struct code *code, unsigned off, bool guess)
{
    unsigned n = 0;
    s->todo[n++] = (u16)off;
    while (n) {
        struct insn in;
        for (off = s->todo[--n]; off < PAGE_SIZE && !marked(&code->begins, off); off += in.len) {
            if (guess && marked(&code->covered, off)) return FOUND_DATA;
            if (!decode_here(s, off, &in) || !in.len) break;
            if (guess && is_alien(&in)) return FOUND_DATA;
            if (scan_is_sensitive(s->rules, &in)) {
                s->where = (u16)off;
                if (!guess) return FOUND_SENSITIVE; /* else what follows may show that it is data */
            }
            mark(&code->begins, off);
            for (unsigned i = off; i < off + in.len && i < PAGE_SIZE; i++) mark(&code->covered, i);
            if (is_relative(&in) && in.target < PAGE_SIZE && !marked(&code->begins, in.target) && n < PAGE_SIZE)
                s->todo[n++] = (u16)in.target;
            if (in.op == OP_JMP && in.row->form == MR_ANY && in.index >= 0) mark(&s->tables, in.disp & ~PAGE_MASK);
            if (control_ends(&in)) break;
        }
    }
    return FOUND_NOTHING;
}

static bool is_padding(u8 byte) { return byte == 0x90 || byte == 0xcc || byte == 0; }

#define FILL_MIN 8 /* so many zeros are no constant's */

/* Whether the padding bytes from begin to end are padding: zeros are also the upper bytes of constants, and then they
 * end a NOP of several bytes (0F 1F, or LEA of a register to itself), or are many. */
static bool ends_padding(const struct sweep *s, unsigned begin, unsigned end)
{
    if (begin == end) return false;
    if (s->page->bytes[end - 1] || end - begin >= FILL_MIN) return true;
    for (unsigned len = 3; len <= 11 && len <= end; len++) {
        struct insn in;
        if (!decode_here(s, end - len, &in) || in.len != len) continue;
        if (in.op == OP_NOP || (in.op == OP_LEA && in.base == (s8)in.opnd[0].reg && in.index < 0 && !in.disp))
            return true;
    }
    return false;
}

/* Functions that nobody has called yet, and cases of a switch: they begin where other code ends, or at a multiple of
 * 16 behind padding. */
static bool may_begin(const struct sweep *s, unsigned off)
{
    const u8 *bytes = s->page->bytes;
    if (marked(&s->code.covered, off) || marked(&s->tables, off) || is_padding(bytes[off])) return false;
    unsigned before = off;
    while (before && is_padding(bytes[before - 1]) && !marked(&s->code.covered, before - 1)) before--;
    return (before && marked(&s->code.covered, before - 1)) || (off % 16 == 0 && ends_padding(s, before, off));
}

static bool guesses_are_fit(struct sweep *s)
{
    for (unsigned off = 0; off < PAGE_SIZE; off++) {
        if (!may_begin(s, off)) continue;
        struct code more = s->code;
        s->where = NOWHERE;
        if (follow(s, &more, off, true) == FOUND_DATA) continue;
        if (s->where != NOWHERE) return false;
        s->code = more;
    }
    return true;
}

/* Of what nothing reaches, the instructions of two opcode bytes that concern the system, and INT 3 and 4: they are
 * rare in data. Those of one byte are frequent there. */
static bool is_worth_caution(const struct insn *in) { return in->bytes[in->npfx] == 0x0f || in->op == OP_INT; }

/* The bytes that nothing reaches, from the top of the page and from where known code ends. */
static bool rest_is_fit(struct sweep *s)
{
    struct insn in;
    for (unsigned off = 0, trust = SETTLE; off < PAGE_SIZE;) {
        if (marked(&s->code.covered, off)) {
            trust = ++off;
            continue;
        }
        bool valid = decode_here(s, off, &in);
        if (valid && off >= trust && is_worth_caution(&in) && scan_is_sensitive(s->rules, &in)) {
            s->where = (u16)off;
            return false;
        }
        unsigned end = off + (valid && in.len ? in.len : 1); /* data: the next byte is tried */
        while (++off < end && off < PAGE_SIZE && !marked(&s->code.covered, off)) continue;
    }
    return true;
}

bool scan_page(struct decoder *d, const struct scan_rules *rules, const struct code_page_bytes *page, u16 *where)
{
    struct sweep s = { .d = d, .rules = rules, .page = page };
    bool fit = true;
    for (unsigned i = 0; fit && i < page->nstarts; i++)
        fit = follow(&s, &s.code, page->starts[i], false) != FOUND_SENSITIVE;
    fit = fit && guesses_are_fit(&s) && rest_is_fit(&s);
    if (!fit) *where = s.where;
    return fit;
}
