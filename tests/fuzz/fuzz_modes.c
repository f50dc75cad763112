/* Lockstep of the engines in every mode of segmented code: the same random program, from the same random state, once in
 * the interpreter and twice in the translator, and all of the CPU's state and memory compared at the end. What is left
 * undefined by the manual is compared, too: a guest must not see which engine ran it.
 *
 *   fuzz_modes [--seed N] [--count N] [--from N] [--mode NAME] [--kicks] [--verbose]
 *
 * Modes: real (limits of 64 KiB), big (real mode with other limits), prot16 (16-bit protected mode, CPL 0), user16
 * (CPL 3, paging), vm86 (with any IOPL), mixed (32-bit code with a limit, on a stack of either width).
 *
 * --kicks: the translator is kicked every few dozen microseconds, as by timers; when is not the seed's to say. One
 * program in ten has a breakpoint at one of its instructions.
 *
 * Every vector leads to a stub that writes to the port of its number, which stops the machine. A program that does not
 * stop within some thousand instructions, or halts, is not run any further. */
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_priv.h"
#include "runtime/interp/interp.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"
#include "tests/diff/rng.h"
#include "tests/insn_encode.h"
#include "translator/front/decode.h"

#define IRETS 0xe0u /* vectors of real mode from there on lead to an IRET */
#define IRET_AT (STUBS_AT + 0x400)
#define USER_IRET_AT 0x1800u /* of protected modes, for gates that stay in their privilege; behind it one of 16 bits */
#define CONFORMING 4u        /* of the GDT: flat code for all */
#define OWN_FIRST 29u        /* from there on are a program's own code segments; the last is its CS */
#define OWN 3u
#define RAM_BYTES 0x100000u
#define SYS_AT 0xa0000u /* tables and stubs of the protected modes: programs start below */
#define PD_AT SYS_AT
#define PT_AT (SYS_AT + 0x1000)
#define GDT_AT (SYS_AT + 0x2000)
#define IDT_AT (SYS_AT + 0x3000)
#define STUBS_AT (SYS_AT + 0x4000) /* both kinds of stubs are the same bytes */
#define TSS_AT (SYS_AT + 0x5000)
#define TSS_LIMIT 0x87u /* with a map of software interrupts, and none of ports */
#define STACK_TOP (SYS_AT + 0x8000)
#define GDT_ENTRIES 64u
#define BUDGET 3000u
#define CODE_MAX 400u

enum fuzz_mode { REAL, BIG, PROT16, USER16, VM86, MIXED, MODES };
static const char *const mode_names[MODES] = { "real", "big", "prot16", "user16", "vm86", "mixed" };

#define NO_VECTOR 0x100u
struct machine {
    struct rt *rt;
    u32 vector; /* the port that it has written to last, which stops it; or NO_VECTOR */
};

struct program {
    enum fuzz_mode mode;
    struct cpu_arch in;
    u32 at; /* linear and physical */
    u16 start[64], n;
    u32 ncode;
    u8 code[CODE_MAX];
    u64 own[OWN]; /* bases lower by 32, 16 and 0 */
};

struct fuzz {
    struct rng rng;
    struct decoder *dec;
    struct machine a, b;
    u8 *pristine; /* RAM before each program */
    u8 *after;    /* what the interpreter left */
    u64 gdt[GDT_ENTRIES];
    u64 ran, skipped, insns, failed, emulated;
    bool verbose;
};

/* ---- machines ---- */

static void vector_out(void *dev, u32 off, unsigned size, u32 val)
{
    struct machine *m = dev;
    (void)size, (void)val;
    m->vector = off;
    rt_stop(m->rt);
}
static const struct io_ops vector_ops = { .write = vector_out };

static void machine_new(struct machine *m, enum rt_engine kind)
{
    struct rt_config cfg = { .ram_size = RAM_BYTES, .engine = kind };
    const char *what = "";
    int err = rt_new(&m->rt, &cfg, &what);
    if (err || bus_map_pio(rt_bus(m->rt), 0, 256, &vector_ops, m, "vectors")) {
        fprintf(stderr, "fuzz_modes: %s: %s\n", what, strerror(-err));
        exit(2);
    }
}

static u8 *ram(const struct machine *m) { return bus_ram_ptr(m->rt->bus, 0); }
static void put32(u8 *to, u32 v) { memcpy(to, &v, 4); }

/* ---- what all programs find in memory ---- */

static u64 descriptor(u32 base, u32 limit, u32 attr) /* attr as in struct seg; limit of up to 20 bits */
{
    return (u64)(limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40
           | (u64)(limit >> 16 & 0xf) << 48 | (u64)(attr >> 8 & 0xf0) << 48 | (u64)(base >> 24) << 56;
}

static u32 random_limit(struct rng *r)
{
    switch (rng_below(r, 6)) {
    case 0: return rng_below(r, 0x10000);
    case 1: return 0xfffff;
    case 2: return 0x10000 + rng_below(r, 0x20000);
    default: return 0xffff;
    }
}

static u32 random_base(struct rng *r)
{
    u32 base = rng_below(r, SYS_AT - 0x20000);
    return rng_percent(r, 70) ? base & ~15u : base;
}

static void make_gdt(struct fuzz *f)
{
    static const u32 types[] = {
        SEG_W, SEG_W, SEG_W, 0, SEG_W | SEG_E, SEG_CODE | SEG_R, SEG_CODE, SEG_CODE | SEG_R | SEG_C
    };
    struct rng *r = &f->rng;
    f->gdt[0] = 0;
    f->gdt[1] = descriptor(0, 0xfffff, SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A | SEG_D | SEG_G);
    f->gdt[2] = descriptor(0, 0xfffff, SEG_P | SEG_S | SEG_W | SEG_A | SEG_D | SEG_G);
    f->gdt[3] = descriptor(TSS_AT, TSS_LIMIT, SEG_P | 0xb);
    f->gdt[CONFORMING] = descriptor(0, 0xfffff, SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_C | SEG_D | SEG_G);
    for (unsigned i = CONFORMING + 1; i < GDT_ENTRIES; i++) {
        u32 attr = types[rng_below(r, ARRAY_LEN(types))] | SEG_S | (rng_percent(r, 95) ? SEG_P : 0);
        if (rng_percent(r, 50)) attr |= SEG_DPL;
        if (rng_percent(r, 25)) attr |= SEG_D;
        if (rng_percent(r, 10)) attr |= SEG_G;
        if (rng_percent(r, 70)) attr |= SEG_A;
        f->gdt[i] = descriptor(random_base(r), random_limit(r), attr);
    }
}

static void make_memory(struct fuzz *f)
{
    struct rng *r = &f->rng;
    u8 *m = f->pristine;
    for (u32 i = 0; i < RAM_BYTES; i += 4) put32(m + i, rng_u32(r));
    for (u32 i = 1; i < RAM_BYTES; i++) { /* it may be executed: nothing that reads a clock, no REP over itself */
        bool clock = m[i - 1] == 0x0f && m[i] >= 0x31 && m[i] <= 0x33;
        if (clock || m[i] == 0xf2 || m[i] == 0xf3) m[i] = 0x90;
    }
    memset(m + SYS_AT, 0, 0x8000);
    for (u32 v = 0; v < 256; v++) {
        const u8 stub[4] = { 0xe6, (u8)v, 0xeb, 0xfe }; /* out v, al; jmp . */
        u32 at = STUBS_AT + 4 * v;
        memcpy(m + at, stub, 4);
        put32(m + 4 * v, (STUBS_AT >> 4) << 16 | (v < IRETS ? 4 * v : IRET_AT - STUBS_AT));
        if (v >= IRETS) {
            bool wide = rng_percent(r, 50);
            put32(m + IDT_AT + 8 * v, CONFORMING << 19 | (wide ? USER_IRET_AT : USER_IRET_AT + 1));
            put32(m + IDT_AT + 8 * v + 4,
                  (wide ? 0x8e00 : 0x8600) | rng_below(r, 2) << 8 | (rng_percent(r, 80) ? 3 << 13 : 0));
            continue;
        }
        put32(m + IDT_AT + 8 * v, 8 << 16 | (at & 0xffff));
        put32(m + IDT_AT + 8 * v + 4, (at & 0xffff0000) | 0x8e00 | (rng_percent(r, 30) ? 3 << 13 : 0));
    }
    m[IRET_AT] = m[USER_IRET_AT] = m[USER_IRET_AT + 2] = 0xcf;
    m[USER_IRET_AT + 1] = 0x66;
    make_gdt(f);
    memcpy(m + GDT_AT, f->gdt, sizeof f->gdt);
    for (u32 i = 0; i < 1024; i++) {
        bool system = i * PAGE_SIZE >= SYS_AT;
        bool there = i * PAGE_SIZE < RAM_BYTES && (i < 16 || rng_percent(r, 95));
        /* Accessed and dirty: of an access that is misaligned to its #GP, translated code may have set these first. */
        put32(m + PT_AT + 4 * i, there || system ? i * PAGE_SIZE | 0x60
                                                       | (system               ? 3
                                                          : rng_percent(r, 95) ? 7
                                                                               : 5)
                                                 : 0);
    }
    put32(m + PD_AT, PT_AT | 7);
    put32(m + TSS_AT + 4, STACK_TOP);
    put32(m + TSS_AT + 8, 0x10);
    put32(m + TSS_AT + 0x64, (TSS_LIMIT + 1) << 16);
    for (u32 i = 0x68; i <= TSS_LIMIT; i += 4) put32(m + TSS_AT + i, rng_u32(r) & rng_u32(r));
}

/* Pages that differ from what they were are put back. */
static void restore(struct fuzz *f, const struct machine *m)
{
    for (u32 at = 0; at < RAM_BYTES; at += PAGE_SIZE)
        if (memcmp(ram(m) + at, f->pristine + at, PAGE_SIZE))
            bus_dma_write(m->rt->bus, at, f->pristine + at, PAGE_SIZE);
}

/* ---- programs ---- */

static bool row_allowed(const struct insn_row *row)
{
    switch (row->op) {
    case OP_RDTSC:
    case OP_RDPMC:
    case OP_HLT:
    case OP_WRMSR:
    case OP_RDMSR: return false;
    default: return true;
    }
}

static const struct insn_row *random_row(struct rng *r)
{
    bool plain = rng_percent(r, 75);
    for (;;) {
        const struct insn_row *row = &insn_rows[1 + rng_below(r, INSN_COUNT - 1)];
        bool is_plain = row->cls == CLS_int || row->cls == CLS_stack || row->cls == CLS_ctl || row->cls == CLS_string;
        bool vector = row->cls == CLS_mmx || row->cls == CLS_sse;
        if (!row_allowed(row) || (plain && !is_plain) || (vector && rng_percent(r, 80))) continue;
        if ((row->cls == CLS_sys || row->cls == CLS_io) && rng_percent(r, 80)) continue;
        return row;
    }
}

static u32 random_value(struct rng *r)
{
    static const u32 corner[] = { 0,      1,      2,      0x7f,   0x80,   0xff,    0x7fff,
                                  0x8000, 0xfffc, 0xfffd, 0xfffe, 0xffff, 0x10000, 0xffffffff };
    switch (rng_below(r, 5)) {
    case 0: return corner[rng_below(r, ARRAY_LEN(corner))];
    case 1: return rng_u32(r);
    case 2: return rng_below(r, 64);
    default: return rng_below(r, 0x10000);
    }
}

static unsigned random_insn(struct fuzz *f, bool code32, u8 out[32])
{
    static const u8 segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
    struct rng *r = &f->rng;
    const struct insn_row *row = random_row(r);
    struct encoding e = { .offset = (u8)rng_below(r, row->count),
                          .modrm = (u8)rng_u32(r),
                          .sib = (u8)rng_u32(r),
                          .disp = random_value(r),
                          .imm = random_value(r),
                          .imm2 = random_value(r),
                          .code32 = code32 };
    if (rng_percent(r, 20)) e.prefix[e.nprefix++] = 0x66;
    if (rng_percent(r, 15)) e.prefix[e.nprefix++] = segs[rng_below(r, 6)];
    if (rng_percent(r, row->cls == CLS_string ? 40 : 2)) e.prefix[e.nprefix++] = rng_percent(r, 50) ? 0xf3 : 0xf2;
    if (rng_percent(r, 12)) e.prefix[e.nprefix++] = 0x67;
    if (rng_percent(r, 1)) e.prefix[e.nprefix++] = 0xf0;
    if (row->cls == CLS_ctl) e.imm = row->op == OP_RET ? rng_below(r, 8) * 2 : rng_below(r, 60) - 12;
    if (row->op == OP_ENTER) e.imm2 = rng_below(r, 4), e.imm = rng_below(r, 300);
    if (row->enc[0] == ENC_Sw || row->enc[1] == ENC_Sw) e.modrm &= 0xdf;
    return insn_encode(row, &e, out);
}

static u8 *put_push16(u8 *to, u32 v)
{
    to[0] = 0x68, to[1] = (u8)v, to[2] = (u8)(v >> 8);
    return to + 3;
}

/* A far transfer of real or virtual-8086 mode to what follows it, mostly under another name; or INT to an IRET. */
static unsigned random_far(struct fuzz *f, const struct program *p, u8 *out)
{
    struct rng *r = &f->rng;
    unsigned what = rng_below(r, 5), len = what < 2 ? 5 : what == 2 ? 7 : what == 3 ? 10 : 2;
    u32 ip = p->in.eip + p->ncode + len, sel = p->in.seg[S_CS].sel, others = rng_below(r, 4);
    u8 *to = out;
    if (ip + others * 16 <= 0xffff && sel >= others) ip += others * 16, sel -= others;
    if (what < 2) {
        *to++ = what ? 0xea : 0x9a;
        *to++ = (u8)ip, *to++ = (u8)(ip >> 8), *to++ = (u8)sel, *to++ = (u8)(sel >> 8);
        return len;
    }
    if (what == 4) {
        *to++ = 0xcd, *to++ = (u8)(IRETS + rng_below(r, 256 - IRETS));
        return len;
    }
    u32 flags = rng_u32(r) & (rng_percent(r, 70) ? F_ARITH | F_DF | F_IF : 0xffff & ~(u32)F_TF);
    if (what == 3) to = put_push16(to, rng_percent(r, 3) ? flags | F_TF : flags | (p->in.eflags_sys & F_IOPL));
    to = put_push16(put_push16(to, sel), ip);
    *to = what == 3 ? 0xcf : 0xcb;
    return len;
}

static u8 *put(u8 *to, u32 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) *to++ = (u8)(v >> 8 * i);
    return to;
}

/* As it is chosen: the same bytes but for where it leads. */
struct far_choice {
    unsigned what; /* CALL, JMP, RETF, IRET */
    bool wide, code32;
    u16 sel;
    u32 flags;
};
static u8 *put_push(u8 *to, u32 v, const struct far_choice *c)
{
    if (c->wide != c->code32) *to++ = 0x66;
    *to++ = 0x68;
    return put(to, v, c->wide ? 4 : 2);
}
static unsigned put_far(u8 *out, const struct far_choice *c, u32 ip)
{
    u8 *to = out;
    if (c->what == 3) to = put_push(to, c->flags, c);
    if (c->what >= 2) to = put_push(put_push(to, c->sel, c), ip, c);
    if (c->wide != c->code32) *to++ = 0x66;
    *to++ = (const u8[4]){ 0x9a, 0xea, 0xcb, 0xcf }[c->what];
    if (c->what < 2) to = put(put(to, ip, c->wide ? 4 : 2), c->sel, 2);
    return (unsigned)(to - out);
}

/* A far transfer of protected mode to what follows it, by one of the program's own segments; or INT, mostly to an IRET
 * of the same privilege. */
static unsigned random_far_protected(struct fuzz *f, const struct program *p, bool code32, u8 *out)
{
    struct rng *r = &f->rng;
    unsigned own = rng_below(r, OWN), what = rng_below(r, 5);
    if (what == 4) {
        put(put(out, 0xcd, 1), rng_percent(r, 90) ? IRETS + rng_below(r, 256 - IRETS) : rng_u32(r), 1);
        return 2;
    }
    struct far_choice c = { .what = what,
                            .wide = rng_percent(r, 20) ? !code32 : code32,
                            .code32 = code32,
                            .sel = (u16)((OWN_FIRST + own) * 8 | (rng_percent(r, 95) ? p->in.cpl : rng_below(r, 4))),
                            .flags = rng_u32(r) & (rng_percent(r, 80) ? F_ARITH | F_DF | F_IF : 0xffff & ~(u32)F_TF) };
    if (rng_percent(r, 70)) c.flags = (c.flags & ~(u32)F_IOPL) | (p->in.eflags_sys & F_IOPL);
    if (rng_percent(r, 3)) c.flags |= F_TF;
    if (rng_percent(r, 10)) c.flags |= rng_u32(r) & (F_AC | F_ID | F_RF | F_VIF | F_VIP);
    unsigned len = put_far(out, &c, 0);
    return put_far(out, &c, p->in.eip + p->ncode + len + 16 * (OWN - 1 - own));
}

static void random_code(struct fuzz *f, struct program *p, bool code32)
{
    struct rng *r = &f->rng;
    unsigned want = 1 + rng_below(r, ARRAY_LEN(p->start) - 1);
    bool wild = rng_percent(r, 5);
    for (p->n = 0; p->n < want && p->ncode + 32 < CODE_MAX; p->n++) {
        u8 bytes[32];
        bool far = rng_percent(r, 6), paragraphs = p->mode < PROT16 || p->mode == VM86;
        unsigned len = !far         ? random_insn(f, code32, bytes)
                       : paragraphs ? random_far(f, p, bytes)
                                    : random_far_protected(f, p, code32, bytes);
        if (wild)
            for (unsigned i = 0; i < len; i++) bytes[i] = (u8)rng_u32(r);
        p->start[p->n] = (u16)p->ncode;
        memcpy(p->code + p->ncode, bytes, len);
        p->ncode += len;
    }
}

static struct seg unpack(const struct fuzz *f, unsigned i, unsigned rpl)
{
    struct desc d = { .lo = (u32)f->gdt[i], .hi = (u32)(f->gdt[i] >> 32) };
    struct seg s;
    desc_unpack(&d, (u16)(i * 8 | rpl), &s);
    s.attr |= SEG_A;
    return s;
}

/* Any descriptor that register s could have been loaded with at this CPL. */
static struct seg random_descriptor(struct fuzz *f, enum segreg s, unsigned cpl)
{
    for (;;) {
        unsigned i = 4 + rng_below(&f->rng, GDT_ENTRIES - 4);
        struct seg g = unpack(f, i, cpl);
        bool ok = g.attr & SEG_P && (g.attr & SEG_DPL) >> SEG_DPL_SHIFT == cpl;
        if (s == S_SS) ok &= (g.attr & (SEG_CODE | SEG_W)) == SEG_W;
        else ok &= !(g.attr & SEG_CODE) || g.attr & SEG_R;
        if (ok) return g;
    }
}

static void paragraph(struct fuzz *f, struct program *p, enum segreg s, u32 limit)
{
    u16 sel = (u16)(random_base(&f->rng) >> 4);
    u32 attr = SEG_P | SEG_S | SEG_W | SEG_A | (p->mode == VM86 ? (u32)SEG_DPL : 0);
    p->in.seg[s] = (struct seg){ .sel = sel, .base = (u32)sel << 4, .limit = limit, .attr = attr };
}

static void random_segments(struct fuzz *f, struct program *p)
{
    struct rng *r = &f->rng;
    for (unsigned s = 0; s < S_COUNT; s++) {
        if (p->mode >= PROT16 && p->mode != VM86) p->in.seg[s] = random_descriptor(f, (enum segreg)s, p->in.cpl);
        else
            paragraph(f, p, (enum segreg)s,
                      p->mode == BIG && rng_percent(r, 70) ? rng_percent(r, 80) ? 0xffffffff : random_limit(r)
                                                           : 0xffff);
    }
    if (p->mode == BIG && rng_percent(r, 15)) p->in.seg[S_SS].attr |= SEG_D;
}

/* What the program can be reached by: CS itself, and segments that begin below it. */
static void own_segments(struct fuzz *f, struct program *p)
{
    struct rng *r = &f->rng;
    const struct seg *cs = &p->in.seg[S_CS];
    for (unsigned i = 0; i < OWN; i++) {
        u32 down = 16 * (OWN - 1 - i), attr = cs->attr;
        bool all = cs->limit == 0xffffffff;
        if (rng_percent(r, 20)) attr &= ~(u32)SEG_A;
        if (i < OWN - 1 && rng_percent(r, 15)) attr = (attr & ~(u32)SEG_DPL) | SEG_C;
        if (i == 0 && rng_percent(r, 10)) attr ^= (const u32[4]){ SEG_P, SEG_CODE, SEG_DPL, SEG_D }[rng_below(r, 4)];
        p->own[i] = descriptor(cs->base - down, all ? 0xfffff : cs->limit + down, attr | (all ? SEG_G : 0));
    }
}

/* CS so that the code is at eip in it, mostly within its limit. */
static void random_cs(struct fuzz *f, struct program *p)
{
    struct rng *r = &f->rng;
    struct seg *cs = &p->in.seg[S_CS];
    u32 eip = rng_percent(r, 15) ? 0xffff - rng_below(r, CODE_MAX) : rng_below(r, 0x8000);
    bool paragraphs = p->mode < PROT16 || p->mode == VM86;
    p->at = 0x2000 + rng_below(r, SYS_AT - 0x4000);
    if (paragraphs) {
        eip = (eip & ~15u) | (p->at & 15);
        if (eip > p->at) eip = p->at & 15;
        cs->base = p->at - eip;
        cs->sel = (u16)(cs->base >> 4);
    } else {
        u32 attr = SEG_P | SEG_S | SEG_CODE | SEG_A | (rng_percent(r, 90) ? SEG_R : 0) | p->in.cpl << SEG_DPL_SHIFT;
        u32 limit = rng_percent(r, 50) ? 0xffff : rng_percent(r, 40) ? 0xffffffff : eip + rng_below(r, CODE_MAX);
        if (p->mode == MIXED) attr |= SEG_D;
        *cs = (struct seg){
            .sel = (u16)((OWN_FIRST + OWN - 1) * 8 | p->in.cpl), .base = p->at - eip, .limit = limit, .attr = attr
        };
    }
    p->in.eip = eip;
}

static void random_program(struct fuzz *f, struct program *p, const struct cpu_arch *base, enum fuzz_mode mode)
{
    struct rng *r = &f->rng;
    struct cpu_arch *in = &p->in;
    memset(p, 0, sizeof *p);
    p->mode = mode;
    *in = *base;
    in->cpl = mode == USER16 || mode == VM86 || (mode == MIXED && rng_percent(r, 50)) ? 3 : 0;
    in->cr0 = CR0_ET | CR0_MP | CR0_NE | CR0_WP | (mode >= PROT16 ? CR0_PE : 0)
              | (mode >= PROT16 && (in->cpl == 3 || rng_percent(r, 30)) ? CR0_PG : 0);
    in->cr3 = PD_AT;
    in->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | (rng_percent(r, 50) ? CR4_VME | CR4_PVI : 0);
    in->gdtr = (struct table_reg){ GDT_AT, GDT_ENTRIES * 8 - 1 };
    in->idtr = mode >= PROT16 ? (struct table_reg){ IDT_AT, 0x7ff } : (struct table_reg){ 0, 0x3ff };
    in->tr = (struct seg){ .sel = 0x18, .base = TSS_AT, .limit = TSS_LIMIT, .attr = 0xb | SEG_P };
    in->ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    for (unsigned i = 0; i < 8; i++) in->gpr[i] = rng_percent(r, 70) ? rng_below(r, 0x10000) : random_value(r);
    if (rng_percent(r, 70)) in->gpr[G_ESP] &= 0xfffe;
    arch_set_eflags(in, (rng_u32(r) & F_ARITH) | (rng_percent(r, 30) ? F_DF : 0) | (rng_percent(r, 50) ? F_IF : 0)
                            | (rng_u32(r) & F_IOPL) | (mode == VM86 ? F_VM : 0) | (rng_percent(r, 40) ? F_VIF : 0)
                            | (rng_percent(r, 10) ? F_VIP : 0));
    random_segments(f, p);
    random_cs(f, p);
    own_segments(f, p);
    random_code(f, p, mode == MIXED);
    if (rng_percent(r, 10)) { /* an instruction of it has a breakpoint */
        in->dr[0] = p->at + p->start[rng_below(r, p->n)];
        in->dr[7] = 0x401;
    }
    if (rng_percent(r, 15)) { /* what it writes may be its own code */
        in->seg[S_DS].base = p->at & ~15u;
        if (mode < PROT16 || mode == VM86) in->seg[S_DS].sel = (u16)(in->seg[S_DS].base >> 4);
    }
}

/* ---- runs ---- */

static void load(struct fuzz *f, const struct machine *m, const struct program *p, bool code)
{
    const char *field = NULL;
    u8 fill[64];
    restore(f, m);
    bus_dma_write(m->rt->bus, GDT_AT + 8 * OWN_FIRST, p->own, sizeof p->own);
    if (code) {
        memset(fill, 0xcc, sizeof fill);
        bus_dma_write(m->rt->bus, p->at, p->code, p->ncode);
        bus_dma_write(m->rt->bus, p->at + p->ncode, fill, sizeof fill);
    }
    BUG_ON(rt_set_state(m->rt, &p->in, &field));
}

enum outcome { STOPPED, DIED, UNDECIDED };

/* The program came to a vector's stub. One that wrote to such a port itself may have stopped in the middle of a REP. */
static bool in_stub(const struct cpu_arch *a) { return a->seg[S_CS].base + a->eip - STUBS_AT < 4 * 256; }

/* Of the trap behind the OUT that has asked for the stop: the next program must not find that asked for. */
static enum outcome died(struct machine *m)
{
    if (m->vector != NO_VECTOR) (void)rt_run(m->rt);
    return DIED;
}

static enum outcome run_interp(struct fuzz *f, const struct program *p, struct cpu_arch *out)
{
    struct machine *m = &f->a;
    load(f, m, p, true);
    m->vector = NO_VECTOR;
    u64 before = m->rt->cpu->ctr.interp_insns;
    enum interp_stop why = interp_run(m->rt->interp, BUDGET);
    f->insns += m->rt->cpu->ctr.interp_insns - before;
    if (why != INTERP_KICK && why != INTERP_SHUTDOWN) return UNDECIDED;
    if (why == INTERP_KICK) (void)rt_run(m->rt); /* which takes the request */
    rt_get_state(m->rt, out);
    if (why != INTERP_KICK) return died(m);
    return in_stub(out) ? STOPPED : UNDECIDED;
}

static enum outcome run_bt(struct fuzz *f, const struct program *p, bool again, struct cpu_arch *out)
{
    struct machine *m = &f->b;
    load(f, m, p, true);
    (void)again;
    m->vector = NO_VECTOR;
    enum rt_exit why = rt_run(m->rt);
    rt_get_state(m->rt, out);
    return why == RT_STOPPED ? STOPPED : died(m);
}

static bool differ(FILE *out, const char *what, u64 a, u64 b)
{
    if (a == b) return false;
    if (out)
        fprintf(out, "  %-10s interpreter %llx, translator %llx\n", what, (unsigned long long)a, (unsigned long long)b);
    return true;
}

static bool compare(struct fuzz *f, const struct cpu_arch *a, const struct cpu_arch *b, const u8 *mem, FILE *out)
{
    bool d = false;
    if (mem == ram(&f->b)) d |= differ(out, "vector", f->a.vector, f->b.vector);
#define ARCH(type, name, dim, text)                                                    \
    if (memcmp(&a->name, &b->name, sizeof a->name) && strcmp(#name, "tsc")) {          \
        d = true;                                                                      \
        for (unsigned i_ = 0; out && i_ < sizeof a->name; i_ += 4) {                   \
            u32 va = 0, vb = 0;                                                        \
            unsigned n_ = sizeof a->name - i_ < 4 ? (unsigned)sizeof a->name - i_ : 4; \
            memcpy(&va, (const u8 *)&a->name + i_, n_);                                \
            memcpy(&vb, (const u8 *)&b->name + i_, n_);                                \
            char w_[40];                                                               \
            snprintf(w_, sizeof w_, #name "+%x", i_);                                  \
            differ(out, w_, va, vb);                                                   \
        }                                                                              \
    }
#include "core/cpu_arch.def"
#undef ARCH
    if (memcmp(f->after, mem, RAM_BYTES)) {
        d = true;
        unsigned shown = 0;
        for (u32 i = 0; out && i < RAM_BYTES && shown < 8; i++)
            if (f->after[i] != mem[i]) {
                fprintf(out, "  memory %05x: interpreter %02x, translator %02x\n", i, f->after[i], mem[i]);
                shown++;
            }
    }
    return d;
}

/* A REP that overwrites itself goes on with what it has become at once, or some iterations later. */
static bool rep_overwrites(struct fuzz *f, const struct program *p)
{
    bool rep = false;
    for (u32 i = 0; i < p->ncode; i++) rep |= p->code[i] == 0xf3 || p->code[i] == 0xf2;
    return rep && memcmp(f->after + p->at, p->code, p->ncode);
}

/* RDTSC, RDMSR, RDPMC: two machines, two clocks. */
static bool reads_clock(const struct program *p)
{
    for (u32 i = 0; i + 1 < p->ncode; i++)
        if (p->code[i] == 0x0f && p->code[i + 1] >= 0x31 && p->code[i + 1] <= 0x33) return true;
    return false;
}

static bool touches_debug(const struct program *p)
{
    if (p->in.dr[7] & 1) return true;
    for (u32 i = 0; i + 1 < p->ncode; i++)
        if (p->code[i] == 0x0f && (p->code[i + 1] & 0xfd) == 0x21) return true;
    return false;
}

/* Whether it ends in another state with other values in DR0 and DR7, none of which enables a breakpoint: then code that
 * it has jumped to reads them. */
static bool reads_debug(struct fuzz *f, const struct program *p, const struct cpu_arch *a)
{
    struct program q = *p;
    struct cpu_arch b;
    q.in.dr[0] = 0xfffffff0, q.in.dr[7] ^= 0xffff0000;
    if (run_interp(f, &q, &b) == UNDECIDED) return true;
    memcpy(b.dr, a->dr, sizeof b.dr);
    return compare(f, a, &b, ram(&f->a), NULL);
}

/* With a breakpoint somewhere the interpreter takes its careful way, strings element by element. */
static bool careful_differs(struct fuzz *f, const struct program *p, enum outcome oa, const struct cpu_arch *a,
                            FILE *out)
{
    struct program q = *p;
    struct cpu_arch b;
    u32 vector = f->a.vector;
    q.in.dr[0] = 0xfffffff0, q.in.dr[7] |= 1;
    enum outcome oc = run_interp(f, &q, &b);
    bool d = false;
    if (oc != UNDECIDED) { /* each element counts there */
        memcpy(b.dr, a->dr, sizeof b.dr);
        d = differ(out, "careful", oa, oc);
        d |= differ(out, "vector", vector, f->a.vector);
        d |= compare(f, a, &b, ram(&f->a), out);
        d = d && !reads_debug(f, p, a);
    }
    f->a.vector = vector;
    return d;
}

/* 1: it differs; 0: not; -1: it does not come to an end, or is open. */
static int judge(struct fuzz *f, const struct program *p, FILE *out)
{
    struct cpu_arch a, b;
    if (reads_clock(p)) return -1;
    enum outcome oa = run_interp(f, p, &a);
    if (oa == UNDECIDED) return -1;
    memcpy(f->after, ram(&f->a), RAM_BYTES);
    if (rep_overwrites(f, p)) return -1;
    if (!touches_debug(p) && careful_differs(f, p, oa, &a, out)) return 1;
    for (unsigned again = 0; again < 2; again++) {
        enum outcome ob = run_bt(f, p, again, &b);
        bool d = differ(out, "outcome", oa, ob);
        d |= compare(f, &a, &b, ram(&f->b), out);
        if (d) return 1;
    }
    return 0;
}

static void print_program(struct fuzz *f, const struct program *p)
{
    bool code32 = p->in.seg[S_CS].attr & SEG_D;
    for (u32 at = 0; at < p->ncode;) {
        struct insn in;
        char text[120];
        if (decode(f->dec, p->code + at, p->ncode - at, p->in.eip + at, code32, ~0u, &in) != DECODE_OK) break;
        insn_text(f->dec, p->code + at, p->ncode - at, p->in.eip + at, code32, text, sizeof text);
        if (in.op == OP_NOP) {
            at += in.len;
            continue;
        }
        printf("  %08x ", p->in.eip + at);
        for (unsigned i = 0; i < in.len; i++) printf(" %02x", in.bytes[i]);
        printf("  %s\n", text);
        at += in.len;
    }
    const u32 *g = p->in.gpr;
    printf("  eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x eflags %08x\n", g[0], g[1], g[2],
           g[3], g[4], g[5], g[6], g[7], arch_eflags(&p->in));
    static const char *const name[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    for (unsigned i = 0; i < S_COUNT; i++)
        printf("  %s %04x base %08x limit %08x attr %04x\n", name[i], p->in.seg[i].sel, p->in.seg[i].base,
               p->in.seg[i].limit, p->in.seg[i].attr);
}

/* Instructions become NOPs one by one, as long as it still differs. */
static void shrink(struct fuzz *f, struct program *p)
{
    while (p->n > 1) { /* from the end */
        struct program q = *p;
        q.n--;
        q.ncode = q.start[q.n];
        if (judge(f, &q, NULL) != 1) break;
        *p = q;
    }
    for (unsigned i = 0; i < p->n; i++) {
        struct program q = *p;
        u32 end = i + 1u < p->n ? p->start[i + 1] : p->ncode;
        memset(q.code + q.start[i], 0x90, end - q.start[i]);
        if (judge(f, &q, NULL) == 1) *p = q;
    }
}

static u64 running_seed, running_number;
static void on_limit(int signo)
{
    char text[100];
    (void)signo;
    int n = snprintf(text, sizeof text, "FAIL: hangs: --seed %llu --from %llu --count 1\n",
                     (unsigned long long)running_seed, (unsigned long long)running_number);
    if (write(1, text, (size_t)n) < 0) _exit(3);
    _exit(1);
}

/* What counts is the time in which it ran: others may have the processor for longer. 0: no limit. */
static void limit(unsigned seconds)
{
    const struct itimerval it = { .it_value.tv_sec = seconds };
    setitimer(ITIMER_VIRTUAL, &it, NULL);
}

static struct rt *kicked;
static void on_prof(int signo)
{
    (void)signo;
    rt_kick(kicked);
}
static void kick_often(struct rt *rt) /* NULL: no more */
{
    const struct itimerval it = { .it_interval.tv_usec = rt ? 40 : 0, .it_value.tv_usec = rt ? 40 : 0 };
    if (rt) kicked = rt;
    if (rt) signal(SIGPROF, on_prof);
    setitimer(ITIMER_PROF, &it, NULL);
}

static int usage(void)
{
    fprintf(stderr, "usage: fuzz_modes [--seed N] [--count N] [--from N] [--mode NAME] [--kicks] [--verbose]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, NULL, 's' },
                                             { "count", required_argument, NULL, 'c' },
                                             { "from", required_argument, NULL, 'f' },
                                             { "mode", required_argument, NULL, 'm' },
                                             { "kicks", no_argument, NULL, 'k' },
                                             { "verbose", no_argument, NULL, 'v' },
                                             { 0 } };
    static struct fuzz f;
    u64 seed = 1, count = 2000, from = 0;
    bool kicks = false;
    int only = -1, opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) switch (opt) {
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': from = strtoull(optarg, NULL, 0); break;
        case 'k': kicks = true; break;
        case 'v': f.verbose = true; break;
        case 'm':
            for (int i = 0; i < MODES; i++)
                if (!strcmp(optarg, mode_names[i])) only = i;
            if (only < 0) return usage();
            break;
        default: return usage();
        }
    f.pristine = malloc(RAM_BYTES), f.after = malloc(RAM_BYTES);
    if (!f.pristine || !f.after || decoder_new(&f.dec)) return 2;
    machine_new(&f.a, RT_INTERP);
    machine_new(&f.b, RT_BT);
    struct cpu_arch base;
    rt_get_state(f.a.rt, &base);
    rng_seed(&f.rng, seed);
    make_memory(&f);
    running_seed = seed;
    signal(SIGVTALRM, on_limit);
    if (kicks) kick_often(f.b.rt);
    for (u64 i = from; i < from + count && f.failed < 5; i++) {
        struct program p;
        running_number = i;
        rng_seed(&f.rng, seed * 0x10000000000ull + i);
        random_program(&f, &p, &base, (enum fuzz_mode)(only >= 0 ? only : (int)(i % MODES)));
        limit(20);
        int verdict = judge(&f, &p, NULL);
        f.ran += verdict >= 0;
        f.skipped += verdict < 0;
        if (verdict != 1) continue;
        f.failed++;
        shrink(&f, &p);
        printf("FAIL %s: --seed %llu --from %llu --count 1\n", mode_names[p.mode], (unsigned long long)seed,
               (unsigned long long)i);
        print_program(&f, &p);
        judge(&f, &p, stdout);
        printf("  ended by vector %u\n", f.a.vector);
        fflush(stdout);
    }
    limit(0);
    if (kicks) kick_often(NULL);
    printf("seed %llu: %llu programs, %llu failed, %llu without an end; %llu instructions\n", (unsigned long long)seed,
           (unsigned long long)f.ran, (unsigned long long)f.failed, (unsigned long long)f.skipped,
           (unsigned long long)f.insns);
    if (f.verbose) rt_stats_json(f.b.rt, stdout);
    rt_free(f.a.rt);
    rt_free(f.b.rt);
    decoder_free(f.dec);
    free(f.pristine);
    free(f.after);
    return f.failed ? 1 : 0;
}
