/* Owns the choice of instructions, operands and initial state.
 *
 *   I1  A case cannot run forever: every branch goes forward, and REP counts are loaded small.
 *   I2  Nothing that the manual leaves undefined reaches a register or memory: an instruction that reads a flag which
 *       may be undefined gets a CMP before it, forms with undefined results are not made (undefined_result), and what
 *       stores FPU pointers to memory comes last.
 *   I3  Memory operands go where this file decides as long as their registers hold values it knows; a register of
 *       unknown value is loaded first (or, rarely, used as it is). */
#include "tests/diff/gen.h"

#include <string.h>

#include "tests/insn_encode.h"
#include "tests/insn_flags.h"

struct gen {
    struct rng rng;
    struct decoder *d;
    u16 rows[INSN_COUNT]; /* what may be generated, integer instructions first */
    unsigned nrows, ninteger;
    unsigned choice; /* how many of them the present sequence draws from */
    bool kernel, qemu, undefined;
    enum x87_pointers x87_pointers;
    unsigned next; /* enum insn_id of the next unit, or 0: any */
    /* While a sequence is made: */
    u32 value[8];
    u8 known;      /* bit per register: value[] holds at this point */
    u32 undef;     /* flags that may be undefined at this point */
    bool branched; /* some later unit may be skipped: definitions do not count for sure */
    struct unit *u;
    u8 busy; /* registers the unit being made has loaded for its own use */
};

/* ---- What is run ---- */

bool gen_shows_host(const struct insn_row *row)
{
    switch (row->op) {
    case OP_SYSENTER:
    case OP_SYSEXIT:
    case OP_CPUID:
    case OP_RDTSC:
    case OP_RDPMC:
    case OP_SGDT:
    case OP_SIDT:
    case OP_SLDT:
    case OP_STR:
    case OP_SMSW:
    case OP_INT1:
    case OP_LES:
    case OP_LDS:
    case OP_LSS:
    case OP_LFS:
    case OP_LGS: return true;
    default: return false;
    }
}

/* Privileged instructions stay in: they fault. */
static bool row_allowed(const struct insn_row *row)
{
    return !gen_shows_host(row) && (row->form != MR_MEM || (row->op != OP_CALLF && row->op != OP_JMPF));
}

/* Selectors that mean the same in Linux's GDT and in the engine's: null, the flat user segments with any RPL, segments
 * of the kernel, nothing at all, and one in the LDT that no target of a case is within. */
static u32 safe_selector(struct rng *r)
{
    static const u16 sel[] = { 0,    1,    2,    3,    0x20, 0x23, 0x23, 0x28, 0x2a,  0x2b,
                               0x2b, 0x2b, 0x08, 0x0b, 0x10, 0x18, 0x04, 0x07, 0xfffb };
    return sel[rng_below(r, ARRAY_LEN(sel))];
}

static bool row_allowed_in_kernel(const struct insn_row *row)
{
    if (row->op == OP_PUSHF || row->op == OP_POPF || row->op == OP_INT3) return true;
    if (row->op == OP_CLI || row->op == OP_STI || row->op == OP_INT || row->op == OP_IRET) return false;
    return !(row->attr & A_PRIV) && row->cls != CLS_seg && row->cls != CLS_sys && row->cls != CLS_io;
}

bool gen_makes(unsigned id, bool kernel)
{
    return row_allowed(&insn_rows[id]) && (!kernel || row_allowed_in_kernel(&insn_rows[id]));
}

/* Half of all rows are MMX and SSE: sequences without them have the flags, and what the translator does about them, to
 * themselves. */
static bool row_is_integer(const struct insn_row *row)
{
    return row->cls == CLS_int || row->cls == CLS_bcd || row->cls == CLS_ctl || row->cls == CLS_stack
           || row->cls == CLS_flag;
}

/* What a processor that is QEMU 7.2's can judge. It has no x87 and SSE exceptions; it takes some encodings for others;
 * it lets IRET load IOPL at CPL 3, CMPXCHG8B load EFLAGS with anything, and does not keep ID; SETcc, RCL and RCR have
 * changed flags when they fault, ARPL, CLFLUSH and ENTER fault at the wrong address or not at all. Of prefixes
 * (random_prefixes) it lets LOCK pass or aborts over it, and a segment override reaches what the segment does not
 * allow. */
static bool row_allowed_for_qemu(unsigned id)
{
    switch (id) {
    case INSN_NOP_18_0:
    case INSN_NOP_18_1:
    case INSN_NOP_18_2:
    case INSN_NOP_18_3:
    case INSN_TEST_Eb_Ib_1:
    case INSN_TEST_Ev_Iz_1: return false;
    default: break;
    }
    switch (insn_rows[id].op) {
    case OP_SETCC:
    case OP_ENTER:
    case OP_IRET:
    case OP_CMPXCHG8B:
    case OP_PUSHF:
    case OP_RCL:
    case OP_RCR:
    case OP_ARPL:
    case OP_CLFLUSH: return false;
    default: return row_is_integer(&insn_rows[id]);
    }
}

struct gen *gen_new(struct decoder *d, const struct gen_config *cfg)
{
    struct gen *g = calloc(1, sizeof(*g));
    if (!g) return NULL;
    rng_seed(&g->rng, cfg->seed);
    g->d = d;
    g->kernel = cfg->kernel;
    g->qemu = cfg->qemu;
    g->x87_pointers = cfg->x87_pointers;
    g->undefined = cfg->undefined;
    for (int integer = 1; integer >= 0; integer--) {
        for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++) {
            const struct insn_row *row = &insn_rows[id];
            bool allowed = row_allowed(row) && (!cfg->kernel || row_allowed_in_kernel(row))
                           && (!cfg->qemu || row_allowed_for_qemu(id))
                           && (cfg->only == OP_INVALID || row->op == cfg->only);
            if (allowed && row_is_integer(row) == integer) g->rows[g->nrows++] = (u16)id;
        }
        if (integer) g->ninteger = g->nrows;
    }
    if (g->nrows) return g;
    free(g);
    return NULL;
}

void gen_free(struct gen *g) { free(g); }
struct rng *gen_rng(struct gen *g) { return &g->rng; }

/* ---- Values ---- */

static u32 random_value(struct rng *r)
{
    static const u32 corner[] = { 0,          1,          2,          0x7f,       0x80,       0xff,
                                  0x100,      0x7fff,     0x8000,     0xffff,     0x10000,    0x7fffffff,
                                  0x80000000, 0x80000001, 0xfffffffe, 0xffffffff, 0x55555555, 0xaaaaaaaa,
                                  0x00ff00ff, 0x0f0f0f0f, 0x99999999, 0xffff8000, 0xffffff80 };
    switch (rng_below(r, 8)) {
    case 0:
    case 1: return corner[rng_below(r, ARRAY_LEN(corner))];
    case 2: return 1u << rng_below(r, 32);
    case 3: return rng_below(r, 40);
    case 4: return (u32) - (s32)rng_below(r, 300);
    case 5: return DATA_BASE + rng_below(r, DATA_BYTES);
    default: return rng_u32(r);
    }
}

static u64 double_bits(struct rng *r)
{
    static const u64 corner[] = { 0,
                                  0x8000000000000000,
                                  0x3ff0000000000000,
                                  0xbff0000000000000,
                                  0x7ff0000000000000,
                                  0xfff0000000000000,
                                  0x7ff8000000000000,
                                  0x7ff0000000000001,
                                  0x0000000000000001,
                                  0x000fffffffffffff,
                                  0x0010000000000000,
                                  0x7fefffffffffffff,
                                  0x41dfffffffc00000,
                                  0x41e0000000000000,
                                  0xc1e0000000000000,
                                  0x4330000000000000,
                                  0x3fe0000000000000,
                                  0x400921fb54442d18,
                                  0x43e0000000000000,
                                  0x3fb999999999999a };
    switch (rng_below(r, 4)) {
    case 0: return rng_u64(r);
    case 1: return (rng_u64(r) & 0x800fffffffffffff) | (u64)(1003 + rng_below(r, 41)) << 52; /* around 1.0 */
    default: return corner[rng_below(r, ARRAY_LEN(corner))];
    }
}

static u32 float_bits(struct rng *r)
{
    static const u32 corner[] = { 0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
                                  0x7f800001, 1,          0x007fffff, 0x00800000, 0x7f7fffff, 0x4effffff, 0x4f000000,
                                  0xcf000000, 0x3f000000, 0x40490fdb, 0x3dcccccd, 0x3fc00000 };
    switch (rng_below(r, 4)) {
    case 0: return rng_u32(r);
    case 1: return (rng_u32(r) & 0x807fffff) | (107 + rng_below(r, 41)) << 23;
    default: return corner[rng_below(r, ARRAY_LEN(corner))];
    }
}

/* 80-bit real: every class there is, including encodings that processors since the 387 refuse. */
static void extended_bytes(struct rng *r, u8 out[10])
{
    u64 frac = rng_u64(r);
    u32 exp = rng_u32(r) & 0x7fff;
    switch (rng_below(r, 12)) {
    case 0:
        frac = 0;
        exp = 0;
        break;
    case 1:
        frac = 1ull << 63;
        exp = 0x7fff;
        break;
    case 2:
        frac |= 3ull << 62;
        exp = 0x7fff;
        break;
    case 3:
        frac = (frac | 1ull << 63) & ~(1ull << 62);
        exp = 0x7fff;
        break;
    case 4:
        frac &= ~(1ull << 63);
        exp = 0;
        break;
    case 5: frac &= ~(1ull << 63); break; /* unnormal, pseudo-NaN, pseudo-infinity */
    case 6:
        frac |= 1ull << 63;
        exp = 0;
        break; /* pseudo-denormal */
    case 7:
        frac = 1ull << 63;
        exp = 0x3fff;
        break; /* 1.0 */
    case 8:
        frac = (u64)(1 + rng_below(r, 1000)) << 54 | 1ull << 63;
        exp = 0x3fff + rng_below(r, 12);
        break;
    default:
        frac |= 1ull << 63;
        exp = 0x3fff - 70 + rng_below(r, 140);
        break;
    }
    exp |= rng_percent(r, 50) ? 0x8000 : 0;
    memcpy(out, &frac, 8);
    memcpy(out + 8, &exp, 2);
}

void gen_fx_state(struct rng *r, u8 fx[512])
{
    /* Exceptions unmasked now and then; then flags are either all clear or consistent with ES and B. */
    u32 fcw = 0x40 | (rng_percent(r, 85) ? 0x3f : rng_below(r, 64)) | rng_below(r, 4) << 8 | rng_below(r, 4) << 10;
    u32 fsw = rng_below(r, 8) << 11 | (rng_u32(r) & 0x4700) | (rng_percent(r, 30) ? rng_below(r, 64) : 0);
    /* Overflow and underflow stay masked: unmasked, they depend on whether the result is exact, which the interpreter,
     * running with all masked, does not see (NOT-HW in interp_fpu.c). */
    u32 mxcsr =
        (rng_percent(r, 85) ? 0x1f80 : rng_below(r, 64) << 7 | 0xc00) | rng_below(r, 4) << 13 | rng_below(r, 64);

    if (fcw >> 8 & 1) fcw ^= rng_percent(r, 90) ? 0x100 : 0; /* precision control 01 is reserved: rarely */
    if (rng_percent(r, 60)) fcw |= 0x300;
    if (rng_percent(r, 5)) mxcsr |= 0x8000;
    if (rng_percent(r, 5)) mxcsr |= 0x40;
    if (fsw & ~fcw & 0x3f) fsw = rng_percent(r, 30) ? fsw | 0x8080 : fsw & ~0x3fu;
    memset(fx, 0, 512);
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = (u8)(rng_percent(r, 50) ? 0xff : rng_u32(r));
    memcpy(fx + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) extended_bytes(r, fx + 32 + 16 * i);
    for (unsigned i = 0; i < 16; i++) {
        u64 bits = rng_percent(r, 50)   ? double_bits(r)
                   : rng_percent(r, 70) ? (u64)float_bits(r) << 32 | float_bits(r)
                                        : rng_u64(r);
        memcpy(fx + 160 + 8 * i, &bits, 8);
    }
}

/* ---- Initial memory: 16-byte slots of every kind of operand, and whole FPU images at known places ---- */

#define FX_AT (DATA_BASE + 0x400)    /* FXRSTOR */
#define FSAVE_AT (DATA_BASE + 0x700) /* FRSTOR, FLDENV */
#define MXCSR_AT (DATA_BASE + 0x7f0)

static void slot(struct rng *r, u8 out[16])
{
    u64 lo = rng_u64(r), hi = rng_u64(r);
    switch (rng_below(r, 6)) {
    case 0: break;
    case 1:
        lo = double_bits(r);
        hi = double_bits(r);
        break;
    case 2:
        lo = (u64)float_bits(r) << 32 | float_bits(r);
        hi = (u64)float_bits(r) << 32 | float_bits(r);
        break;
    case 3:
        lo = random_value(r);
        hi = (u64)random_value(r) << 32 | random_value(r);
        break;
    case 4: extended_bytes(r, out); return; /* and what was there before behind it */
    case 5:                                 /* packed BCD */
        for (unsigned i = 0; i < 16; i++) out[i] = (u8)(rng_below(r, 10) << 4 | rng_below(r, 10));
        out[9] = rng_percent(r, 50) ? 0x80 : 0;
        return;
    }
    memcpy(out, &lo, 8);
    memcpy(out + 8, &hi, 8);
}

static void image(struct rng *r, u8 *m)
{
    u32 env[7] = { 0xffff0000, 0xffff0000, 0xffff0000, 0, 0, 0, 0xffff0000 };
    u32 mxcsr = rng_percent(r, 80) ? 0x1f80 | rng_below(r, 4) << 13 : (rng_u32(r) & 0xffff) | 0xc00;

    for (unsigned i = 0; i < IMAGE_BYTES; i += 16) slot(r, m + i);
    gen_fx_state(r, m + (FX_AT - DATA_BASE));
    env[0] |= 0x37f | rng_below(r, 4) << 10;
    env[1] |= rng_below(r, 8) << 11 | (rng_u32(r) & 0x4700);
    env[2] |= rng_u32(r) & 0xffff;
    memcpy(m + (FSAVE_AT - DATA_BASE), env, sizeof(env));
    for (unsigned i = 0; i < 8; i++) extended_bytes(r, m + (FSAVE_AT - DATA_BASE) + 28 + 10 * i);
    memcpy(m + (MXCSR_AT - DATA_BASE), &mxcsr, 4);
    for (unsigned i = DATA_BYTES; i < IMAGE_BYTES; i += 16) { /* a stack that returns into the code page */
        u32 ret = CODE_BASE + rng_below(r, CODE_MAX);
        memcpy(m + i, &ret, 4);
    }
}

void gen_memory(struct gen *g, struct diff_shared *s)
{
    for (unsigned i = 0; i < PAGE; i += 16) slot(&g->rng, s->ro + i);
    for (unsigned i = 0; i < IMAGES; i++) image(&g->rng, s->images[i]);
}

/* ---- Emission into the unit at hand ---- */

static void put(struct gen *g, const void *bytes, unsigned n)
{
    BUG_ON(g->u->n + n > UNIT_BYTES);
    memcpy(g->u->bytes + g->u->n, bytes, n);
    g->u->n = (u8)(g->u->n + n);
}

static void put_mov_imm(struct gen *g, unsigned reg, u32 val)
{
    u8 bytes[5] = { (u8)(0xb8 + reg), (u8)val, (u8)(val >> 8), (u8)(val >> 16), (u8)(val >> 24) };
    put(g, bytes, 5);
    g->value[reg] = val;
    g->known |= (u8)(1u << reg);
}

/* CMP EAX, imm32: defines all arithmetic flags and changes no register. */
static void put_define_flags(struct gen *g)
{
    u32 imm = random_value(&g->rng);
    u8 bytes[5] = { 0x3d, (u8)imm, (u8)(imm >> 8), (u8)(imm >> 16), (u8)(imm >> 24) };
    put(g, bytes, 5);
    g->undef = g->branched ? g->undef : 0;
}

static bool is_known(const struct gen *g, int reg) { return reg < 0 || (g->known >> reg & 1); }

/* A register to be loaded for the unit's own use. */
static unsigned pick_register(struct gen *g, u8 avoid)
{
    for (;;) {
        unsigned reg = rng_below(&g->rng, 8);
        if (reg != G_ESP && !((avoid | g->busy) >> reg & 1)) return reg;
    }
}

/* Where a memory operand goes: mostly writable and aligned, with all the ways of going wrong. */
static u32 pick_target(struct gen *g, unsigned size, bool align16)
{
    struct rng *r = &g->rng;
    u32 inside = DATA_BASE + PAGE * (1 + rng_below(r, DATA_BYTES / PAGE - 1)); /* a page boundary with data on both
                                                                                  sides */
    unsigned room = DATA_BYTES - size;
    unsigned w = rng_below(r, 100);

    if (size >= 512) align16 = true;
    if (w < 45 || (align16 && w < 86)) return DATA_BASE + (rng_below(r, room) & ~15u);
    if (w < 70) return DATA_BASE + rng_below(r, room);
    if (w < 80) return inside - rng_below(r, size + 1);
    if (w < 84) return RO_BASE - rng_below(r, size + 1);
    if (w < 88) return RO_BASE + (rng_below(r, PAGE - 16) & (align16 ? ~15u : ~0u));
    if (w < 91) return DATA_BASE - rng_below(r, size + 1);
    if (w < 94) return RO_BASE + PAGE - rng_below(r, size + 1);
    if (w < 98) return STACK_BASE + rng_below(r, PAGE - 16);
    if (w < 99) return random_value(r);
    return CODE_BASE + rng_below(r, PAGE - 16);
}

/* ---- ModRM ---- */

/* Fills e with a memory operand at target. With clean registers any base and index do, the displacement makes up for
 * them; for short forms a base is loaded. exact: nothing is left to what earlier units did (they may be skipped). */
static void encode_memory(struct gen *g, struct encoding *e, u32 target, u8 avoid, bool exact)
{
    struct rng *r = &g->rng;
    unsigned base, index, scale = rng_below(r, 4);
    unsigned reg = e->modrm & 0x38;
    u32 sum;

    if (rng_percent(r, 12)) { /* [disp32], both encodings */
        e->disp = target;
        e->sib = 0x25;
        e->modrm = (u8)(reg | (rng_percent(r, 50) ? 5 : 4));
        return;
    }
    if (exact || rng_percent(r, 55)) { /* [base + disp8] or [base], base loaded for it */
        s8 disp = rng_percent(r, 25) ? 0 : (s8)rng_u32(r);
        base = pick_register(g, avoid);
        if (exact || !is_known(g, (int)base) || (u32)(g->value[base] - target + 128) > 255)
            put_mov_imm(g, base, target - (u32)disp);
        else disp = (s8)(target - g->value[base]);
        g->busy |= (u8)(1u << base);
        e->disp = (u8)disp;
        e->modrm = (u8)(reg | base | (disp == 0 && base != G_EBP && rng_percent(r, 80) ? 0 : 0x40));
        if (rng_percent(r, 15)) { /* the same through a SIB without an index */
            e->sib = (u8)(scale << 6 | 4 << 3 | base);
            e->modrm = (u8)((e->modrm & 0xf8) | 4);
        }
        return;
    }
    base = rng_below(r, 8);
    index = rng_below(r, 8); /* 4: none */
    if (!is_known(g, (int)base) && rng_percent(r, 97)) {
        base = pick_register(g, avoid);
        put_mov_imm(g, base, random_value(r));
    }
    g->busy |= (u8)(1u << base);
    if (index != 4 && !is_known(g, (int)index) && rng_percent(r, 97)) {
        index = pick_register(g, avoid);
        put_mov_imm(g, index, random_value(r));
    }
    if (index != 4) g->busy |= (u8)(1u << index);
    sum = g->value[base] + (index == 4 ? 0 : g->value[index] << scale);
    e->disp = target - sum;
    e->sib = (u8)(scale << 6 | index << 3 | base);
    e->modrm = (u8)(0x80 | reg | 4);
    if (index == 4 && base != G_ESP) e->modrm = (u8)(0x80 | reg | base);
}

/* ---- Per-instruction needs ---- */

static unsigned memory_size(const struct gen *g, const struct insn_row *row, const struct encoding *e)
{
    struct insn in;
    u8 bytes[32];
    struct encoding probe = *e;
    unsigned n;
    probe.modrm = (u8)((e->modrm & 0x38) | 5);
    n = insn_encode(row, &probe, bytes);
    if (decode(g->d, bytes, n > 15 ? 15 : n, 0, true, ~0u, &in) != DECODE_OK || !insn_mem(&in)) return 4;
    return insn_mem(&in)->size ? insn_mem(&in)->size : 1;
}

static bool row_has_memory_operand(const struct insn_row *row)
{
    if (row->form == MR_REG || row->form == MR_NONE || row_ignores_mod(row)) return false;
    return true;
}

/* Addresses of prepared images for what loads FPU state. */
static u32 special_target(struct gen *g, const struct insn_row *row, u32 target)
{
    if (!rng_percent(&g->rng, 80)) return target;
    switch (row->op) {
    case OP_FXRSTOR: return FX_AT;
    case OP_FRSTOR:
    case OP_FLDENV: return FSAVE_AT;
    case OP_LDMXCSR: return MXCSR_AT;
    default: return target;
    }
}

/* What the judge's processor does not give of the x87 unit's pointers. AMD's leave them out of FXSAVE unless an
 * exception is pending, Intel's newer ones keep some of them for exceptions only. */
static void ignore_pointers(const struct gen *g, struct unit *u, unsigned op, u32 at, bool op16)
{
    if (op == OP_FNSTENV || op == OP_FNSAVE) {
        if (g->x87_pointers == POINTERS_ALL) return;
        if (g->x87_pointers == POINTERS_NONE) {
            u->ignore_at = at + (op16 ? 6 : 12);
            u->ignore_len = op16 ? 8 : 16;
            return;
        }
        u->ignore_at = at + (op16 ? 8 : 16); /* FCS, FDS: each CPL has its own */
        u->ignore2_at = at + (op16 ? 12 : 24);
        u->ignore_len = u->ignore2_len = 2;
    } else if (op == OP_FXSAVE) {
        u->ignore_at = at + 6;
        u->ignore_len = 18;
        u->ignore2_at = at + 28; /* MXCSR_MASK: the CPU model's, not the host's */
        u->ignore2_len = 4;
    }
}

static bool row_names(const struct insn_row *row, const u8 *encs, unsigned n)
{
    for (unsigned i = 0; i < 4; i++)
        if (encode_has(encs, n, row->enc[i])) return true;
    return false;
}

/* ESP is mostly left alone. The same number is AH, MM4, XMM4 and ST(4), which are not. */
static u8 random_modrm(struct gen *g, const struct insn_row *row)
{
    static const u8 reg[] = { ENC_Gw, ENC_Gd, ENC_Gv },
                    rm[] = { ENC_Ew, ENC_Ed, ENC_Ev, ENC_Rw, ENC_Rd, ENC_Rv, ENC_RvMw, ENC_RdMb, ENC_RdMw };
    u8 modrm = (u8)rng_u32(&g->rng);
    if ((modrm & 7) == 4 && row_names(row, rm, sizeof(rm)) && rng_percent(&g->rng, 95)) modrm ^= 1;
    if ((modrm >> 3 & 7) == 4 && row_names(row, reg, sizeof(reg)) && rng_percent(&g->rng, 95)) modrm ^= 8;
    return modrm;
}

static bool undefined_result(const struct gen *g, const struct insn *in)
{
    if (in->op == OP_BSWAP && in->opsize == 2) return true;
    if (!g->undefined && (in->op == OP_SHLD || in->op == OP_SHRD) && in->opsize == 2) /* count beyond the operand:
                                                                                         result undefined */
        return in->row->enc[2] == ENC_CL || (in->imm & 31) > 16;
    /* F3 or F2 before what newer processors give a meaning (TZCNT, LZCNT) */
    if ((in->op == OP_BSF || in->op == OP_BSR) && (in->prefixes & IP_REP)) return true;
    return false;
}

/* Registers whose value is no longer known after in. */
static void forget_written(struct gen *g, const struct insn *in)
{
    u8 lost = 0;

    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_REG && (i == 0 || (i == 1 && (in->row->attr & A_WR1))))
            lost |= (u8)(1u << (in->opnd[i].size == 1 ? in->opnd[i].reg & 3 : in->opnd[i].reg));
    if (in->row->attr & A_STACK) lost |= 1 << G_ESP;
    if (in->row->attr & (A_REP | A_REPCC)) lost |= 1 << G_ESI | 1 << G_EDI | 1 << G_ECX | 1 << G_EAX;
    switch (in->op) {
    case OP_MUL:
    case OP_IMUL:
    case OP_DIV:
    case OP_IDIV:
    case OP_CWD:
    case OP_CMPXCHG8B: lost |= 1 << G_EAX | 1 << G_EDX; break;
    case OP_ENTER:
    case OP_LEAVE: lost |= 1 << G_EBP; break;
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE: lost |= 1 << G_ECX; break;
    case OP_POPA: lost = 0xff; break;
    case OP_CBW:
    case OP_CMPXCHG:
    case OP_XLAT:
    case OP_SALC:
    case OP_LAHF:
    case OP_DAA:
    case OP_DAS:
    case OP_AAA:
    case OP_AAS:
    case OP_AAM:
    case OP_AAD: lost |= 1 << G_EAX; break;
    default: break;
    }
    g->known &= (u8)~lost;
}

/* After the bytes of an instruction are in the unit: what it leaves behind. */
static void account(struct gen *g, const struct insn *in)
{
    if (in->row->attr & A_END) g->branched = true;
    if (!g->branched) g->undef &= ~insn_flags_written(in);
    g->undef |= insn_flags_undef(in);
    forget_written(g, in);
}

/* What must be in registers before the instruction proper. */
static void prepare(struct gen *g, const struct insn_row *row, bool rep, struct encoding *e)
{
    struct rng *r = &g->rng;
    bool mem = row_has_memory_operand(row) && encode_modrm(row, e->modrm) < 0xc0;

    if (row->attr & (A_REP | A_REPCC)) {
        if (rng_percent(r, 92)) put_mov_imm(g, G_ESI, pick_target(g, 4, false));
        if (rng_percent(r, 92)) put_mov_imm(g, G_EDI, pick_target(g, 4, false));
        if (row->cls == CLS_io)
            put_mov_imm(g, G_ECX, 1 + rng_below(r, 40)); /* 0: processors differ on whether I/O rights are checked */
        else if (rep) put_mov_imm(g, G_ECX, rng_percent(r, 90) ? rng_below(r, 40) : rng_below(r, 3000));
        return;
    }
    switch (row->op) {
    case OP_XLAT:
        if (rng_percent(r, 90)) put_mov_imm(g, G_EBX, pick_target(g, 256, false));
        break;
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU: /* never a fault: processors may raise one for bytes that the mask leaves out */
        put_mov_imm(g, G_EDI, DATA_BASE + rng_below(r, DATA_BYTES - 16));
        break;
    case OP_LEAVE:
        if (rng_percent(r, 80)) put_mov_imm(g, G_EBP, STACK_BASE + 64 + rng_below(r, PAGE - 80));
        break;
    case OP_ENTER:
        if (rng_percent(r, 80)) put_mov_imm(g, G_EBP, STACK_BASE + 256 + rng_below(r, PAGE - 300));
        break;
    case OP_DIV:
    case OP_IDIV:
        if (rng_percent(r, 70)) put_mov_imm(g, G_EDX, rng_percent(r, 70) ? rng_below(r, 4) : 0xffffffff);
        break;
    case OP_BT:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC:
        if (mem && row->enc[1] == ENC_Gv && rng_percent(r, 90)) { /* bit offset: signed, beyond the operand */
            unsigned reg = pick_register(g, 0);
            put_mov_imm(g, reg, rng_u32(r) % 4096 - 2048);
            g->busy |= (u8)(1u << reg);
            e->modrm = (u8)((e->modrm & 0xc7) | reg << 3);
        }
        break;
    default: break;
    }
}

/* CMPXCHG that succeeds: the accumulator loaded from the destination. */
static void maybe_load_accumulator(struct gen *g, const struct insn_row *row, const struct encoding *e)
{
    const struct insn_row *mov = &insn_rows[row->enc[0] == ENC_Eb ? INSN_MOV_Gb_Eb : INSN_MOV_Gv_Ev];
    struct encoding load = *e;
    u8 bytes[32];
    unsigned n;

    if (row->op != OP_CMPXCHG || rng_percent(&g->rng, 50) || encode_has(e->prefix, e->nprefix, 0x67)) return;
    load.modrm &= 0xc7;
    load.nprefix = 0;
    if (encode_has(e->prefix, e->nprefix, 0x66)) load.prefix[load.nprefix++] = 0x66;
    n = insn_encode(mov, &load, bytes);
    put(g, bytes, n);
    g->known &= (u8) ~(1u << G_EAX);
}

static void random_prefixes(struct gen *g, const struct insn_row *row, struct encoding *e, bool rep)
{
    static const u8 segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
    struct rng *r = &g->rng;

    if (row->op == OP_MASKMOVQ || row->op == OP_MASKMOVDQU) return;
    if (row->pfx == PFX_ANY || row->pfx == PFX_66)
        if (rng_percent(r, 20)) e->prefix[e->nprefix++] = 0x66;
    if (rng_percent(r, 4) && !g->qemu)
        e->prefix[e->nprefix++] = segs[rng_below(r, ARRAY_LEN(segs) - (g->qemu ? 2 : 0))];
    if (rng_percent(r, row->op == OP_LEA || row->op == OP_JCXZ || row->op == OP_LOOP ? 20 : 1))
        e->prefix[e->nprefix++] = 0x67;
    if ((row->attr & A_LOCK ? rng_percent(r, 15) : rng_percent(r, 1) && row->map == MAP_1B) && !g->qemu)
        e->prefix[e->nprefix++] = 0xf0;
    if (rep)
        e->prefix[e->nprefix++] = (row->attr & A_REPCC) && rng_percent(r, 50) ? 0xf2 : rng_percent(r, 95) ? 0xf3 : 0xf2;
}

/* A branch: forward by some units. Returns false if row is none. */
static bool make_branch(struct gen *g, const struct insn_row *row)
{
    struct rng *r = &g->rng;
    struct unit *u = g->u;
    u8 bytes[16];
    unsigned reg;
    bool op16;

    u->skip = (u8)(1 + rng_below(r, 3));
    switch (row->op) {
    case OP_RET: { /* the address to return to is pushed before it */
        static const u8 push = 0x68;
        put(g, &push, 1);
        u->fix_at = u->n;
        u->fix_size = FIX_ABS;
        put(g, "\0\0\0", 4);
        bytes[0] = row->opcode;
        bytes[1] = (u8)(rng_below(r, 8) * 4);
        bytes[2] = 0;
        put(g, bytes, row->enc[0] == ENC_Iw ? 3 : 1);
        break;
    }
    case OP_JMP:
    case OP_CALL:
        if (row->enc[0] == ENC_Ev) { /* through a register, or through the stack */
            if (rng_percent(r, 50)) {
                reg = pick_register(g, 0);
                bytes[0] = (u8)(0xb8 + reg);
                put(g, bytes, 1);
                bytes[0] = 0xff;
                bytes[1] = (u8)(0xc0 | row->ext << 3 | reg);
            } else {
                reg = G_ESP;
                bytes[0] = 0x68;
                put(g, bytes, 1);
                bytes[0] = 0xff;
                bytes[1] = (u8)(row->ext << 3 | 4);
                bytes[2] = 0x24;
            }
            u->fix_at = u->n;
            u->fix_size = FIX_ABS;
            put(g, "\0\0\0", 4);
            put(g, bytes, reg == G_ESP ? 3 : 2);
            g->known &= (u8) ~(1u << reg);
            break;
        }
        /* fallthrough */
    case OP_JCC:
    case OP_LOOP:
    case OP_LOOPE:
    case OP_LOOPNE:
    case OP_JCXZ: {
        struct encoding e = { .code32 = true };
        unsigned n;
        op16 = rng_percent(r, 1);
        if (op16) e.prefix[e.nprefix++] = 0x66;
        if ((row->op == OP_JCXZ || row->op == OP_LOOP) && rng_percent(r, 20)) e.prefix[e.nprefix++] = 0x67;
        if (row->attr & A_CC) e.offset = (u8)rng_below(r, 16);
        n = insn_encode(row, &e, bytes);
        u->fix_size = row->enc[0] == ENC_Jb ? 1 : op16 ? 2 : 4;
        u->fix_at = (u8)(u->n + n - u->fix_size);
        put(g, bytes, n);
        break;
    }
    default: return false;
    }
    if (row->op == OP_LOOP || row->op == OP_LOOPE || row->op == OP_LOOPNE) g->known &= (u8) ~(1u << G_ECX);
    if (row->attr & A_STACK) g->known &= (u8) ~(1u << G_ESP);
    g->branched = true;
    return true;
}

/* PUSH imm8 or imm32 as the unit's next bytes. */
static void put_push(struct gen *g, u32 val)
{
    u8 bytes[5] = { 0x68, (u8)val, (u8)(val >> 8), (u8)(val >> 16), (u8)(val >> 24) };
    put(g, bytes, 5);
    g->known &= (u8) ~(1u << G_ESP);
}

/* PUSH of the address of a later unit. */
static void put_push_target(struct gen *g)
{
    put_push(g, 0);
    g->u->fix_at = (u8)(g->u->n - 4);
    g->u->fix_size = FIX_ABS;
}

/* Far transfers within the privilege level, forward; one in eight with another selector. */
static void make_far(struct gen *g, const struct insn_row *row)
{
    struct rng *r = &g->rng;
    u32 sel = rng_percent(r, 87) ? USER_CS : safe_selector(r);
    u8 bytes[8];

    g->u->skip = (u8)(1 + rng_below(r, 3));
    if (row->op == OP_IRET) {
        put_push(g, (rng_u32(r) & (F_ARITH | F_DF | F_ID)) | F_IF);
        put_push(g, sel);
        put_push_target(g);
        put(g, &row->opcode, 1);
    } else if (row->op == OP_RETF) {
        put_push(g, sel);
        put_push_target(g);
        bytes[0] = row->opcode;
        bytes[1] = (u8)(rng_below(r, 8) * 4);
        bytes[2] = 0;
        put(g, bytes, row->enc[0] == ENC_Iw ? 3 : 1);
    } else { /* direct CALLF and JMPF */
        memset(bytes, 0, sizeof(bytes));
        bytes[0] = row->opcode;
        bytes[5] = (u8)sel;
        bytes[6] = (u8)(sel >> 8);
        g->u->fix_at = (u8)(g->u->n + 1);
        g->u->fix_size = FIX_ABS;
        put(g, bytes, 7);
    }
    g->known &= (u8) ~(1u << G_ESP);
    g->branched = true;
}

/* Instructions that take a selector: with one that is safe. */
static void make_selector(struct gen *g, const struct insn_row *row)
{
    struct rng *r = &g->rng;
    u32 sel = safe_selector(r);
    struct encoding e = { .code32 = true };
    struct insn in;
    u8 bytes[32];
    unsigned reg, n;

    if ((row->ext == S_SS || row->enc[0] == ENC_SS) && rng_percent(r, 80)) sel = USER_DS;
    if (row->op == OP_POP_SREG) {
        put_push(g, sel);
    } else {
        reg = pick_register(g, 0);
        put_mov_imm(g, reg, (rng_u32(r) & 0xffff0000) | sel);
        e.modrm = (u8)(0xc0 | (rng_u32(r) & 0x18) | reg); /* a destination, if any, among EAX, ECX, EDX, EBX */
        /* LAR's bits 16-19 are undefined */
        if (row->op == OP_LAR || rng_percent(r, 20)) e.prefix[e.nprefix++] = 0x66;
    }
    n = insn_encode(row, &e, bytes);
    if (decode(g->d, bytes, n, 0, true, ~0u, &in) != DECODE_OK) BUG_ON(true);
    put(g, bytes, n);
    account(g, &in);
}

static bool takes_selector(const struct insn_row *row)
{
    return row->op == OP_MOV_TO_SREG || row->op == OP_POP_SREG || row->op == OP_LAR || row->op == OP_LSL
           || row->op == OP_VERR || row->op == OP_VERW;
}

/* PUSH imm; POPF. TF now and then: a debug trap after the next instruction. Never AC: Linux has CR0.AM set, the engine
 * has not. */
static void make_popf(struct gen *g)
{
    u32 f = rng_u32(&g->rng) & (F_ARITH | F_DF | F_IF | F_IOPL | F_ID | 0x8028 /* reserved */);
    if (g->kernel) f = (f & ~(u32)F_IOPL) | F_IF; /* would take effect there */
    if (rng_percent(&g->rng, 10)) f |= F_TF;
    u8 bytes[7] = { 0x68, (u8)f, (u8)(f >> 8), (u8)(f >> 16), 0, 0x9d, 0 };
    bool op16 = rng_percent(&g->rng, 15);
    if (op16) {
        u8 bytes16[6] = { 0x66, 0x68, (u8)f, (u8)(f >> 8), 0x66, 0x9d };
        put(g, bytes16, 6);
    } else put(g, bytes, 6);
    if (!g->branched) g->undef = 0;
    g->known &= (u8) ~(1u << G_ESP);
}

/* INT n through a gate that user code may not use: #GP. 3 and 4 are open to it, 80 is Linux's. */
static void make_int(struct gen *g)
{
    u8 bytes[2] = { 0xcd, (u8)rng_u32(&g->rng) };
    if (bytes[1] == 0x80) bytes[1] = 0x81;
    put(g, bytes, 2);
    g->branched = true;
}

static bool make_general(struct gen *g, const struct insn_row *row)
{
    struct rng *r = &g->rng;
    bool rep = (row->attr & (A_REP | A_REPCC))
                   ? rng_percent(r, 60)
                   : row->pfx == PFX_ANY && (row->map == MAP_1B || !g->qemu) && rng_percent(r, 1);
    struct encoding e = {
        .modrm = random_modrm(g, row), .imm = random_value(r), .imm2 = random_value(r), .code32 = true
    };
    struct insn in;
    u8 bytes[32];
    unsigned n;
    u32 target = 0;

    random_prefixes(g, row, &e, rep && !(row->opcode >= 0xa0 && row->opcode <= 0xa3));
    e.offset = (u8)rng_below(r, row->count);
    if (row->enc[0] == ENC_Zv && ((row->opcode + e.offset) & 7) == 4 && !(row->attr & A_STACK) && rng_percent(r, 95))
        e.offset ^= 1; /* not ESP */
    if (row->op == OP_ENTER) {
        e.imm = rng_below(r, 200);
        e.imm2 = rng_percent(r, 70) ? 0 : rng_below(r, 32) & (rng_percent(r, 80) ? 3 : 31);
    }
    if (row_has_memory_operand(row) && rng_percent(r, 50)) e.modrm &= 0x3f; /* memory as often as registers */
    prepare(g, row, rep, &e);
    if (row_has_memory_operand(row) && encode_modrm(row, e.modrm) < 0xc0) {
        e.modrm = encode_modrm(row, e.modrm);
        target = special_target(g, row, pick_target(g, memory_size(g, row, &e), row->attr & A_ALIGN16));
        ignore_pointers(g, g->u, row->op, target, encode_has(e.prefix, e.nprefix, 0x66));
        if (encode_has(e.prefix, e.nprefix, 0x67)) {
            e.disp = rng_u32(r);
        } else {
            u8 avoid = (u8)(row->op == OP_CMPXCHG ? 1 << G_EAX : 0);
            encode_memory(g, &e, target, avoid, g->u->ignore_len);
        }
    } else if (row->enc[0] == ENC_Ob || row->enc[0] == ENC_Ov || row->enc[1] == ENC_Ob || row->enc[1] == ENC_Ov) {
        e.disp = pick_target(g, 4, false);
    } else if (row->form != MR_NONE) {
        e.modrm = encode_modrm(row, (u8)(e.modrm | 0xc0));
    }
    if (row->enc[1] == ENC_Sw && (e.modrm & 0x30) == 0x30) e.modrm &= 0xdf; /* 6 and 7 do not exist */
    maybe_load_accumulator(g, row, &e);
    n = insn_encode(row, &e, bytes);
    if (n > 15 || decode(g->d, bytes, n, 0, true, ~0u, &in) != DECODE_OK || in.len > n) return false;
    if (undefined_result(g, &in)) return false;
    if (insn_flags_read(&in) & g->undef) put_define_flags(g);
    put(g, bytes, n);
    account(g, &in);
    return true;
}

static void make_unit(struct gen *g, struct unit *u)
{
    for (;;) {
        unsigned id = g->next ? g->next : g->rows[rng_below(&g->rng, g->choice)];
        const struct insn_row *row = &insn_rows[id];
        u32 undef = g->undef, value[8];
        u8 known = g->known;
        bool branched = g->branched;

        memcpy(value, g->value, sizeof(value));
        memset(u, 0, sizeof(*u));
        u->row = (u16)id;
        g->u = u;
        g->busy = 0;
        if ((row->cls == CLS_ctl || row->op == OP_INTO) && (row->reads & g->undef)) put_define_flags(g);
        if (row->op == OP_POPF) {
            make_popf(g);
            return;
        }
        if (row->op == OP_INT) {
            make_int(g);
            return;
        }
        if (takes_selector(row)) {
            make_selector(g, row);
            return;
        }
        if (row->op == OP_CALLF || row->op == OP_JMPF || row->op == OP_RETF || row->op == OP_IRET) {
            make_far(g, row);
            return;
        }
        if (row->cls == CLS_ctl && make_branch(g, row)) return;
        if (make_general(g, row)) return;
        g->undef = undef; /* that did not work out: as if nothing had been tried */
        g->known = known;
        g->branched = branched;
        memcpy(g->value, value, sizeof(value));
    }
}

static bool has_x87(const struct sequence *s)
{
    for (unsigned i = 0; i < s->n; i++)
        if (insn_rows[s->unit[i].row].cls == CLS_x87) return true;
    return false;
}

void gen_sequence(struct gen *g, struct sequence *s)
{
    struct rng *r = &g->rng;

    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 8; i++) s->in.gpr[i] = random_value(r);
    s->in.gpr[G_ESP] =
        rng_percent(r, 90) ? STACK_BASE + 512 + (rng_below(r, PAGE - 1024) & ~3u) : STACK_BASE + rng_below(r, PAGE);
    s->in.eip = CODE_BASE;
    s->in.eflags = (rng_u32(r) & F_ARITH) | (rng_percent(r, 30) ? F_DF : 0) | F_IF | F_FIXED;
    gen_fx_state(r, s->in.fx);
    s->image = rng_below(r, IMAGES);
    memcpy(g->value, s->in.gpr, sizeof(g->value));
    g->known = 0xff;
    g->undef = 0;
    g->branched = false;
    s->n = 1 + rng_below(r, UNITS_MAX);
    g->choice = g->ninteger && rng_percent(r, 40) ? g->ninteger : g->nrows;
    for (unsigned i = 0; i < s->n; i++) {
        make_unit(g, &s->unit[i]);
        if (s->unit[i].ignore_len) s->n = i + 1; /* or what is not compared in memory could be read back */
    }
    if (s->n == UNITS_MAX || g->qemu || !has_x87(s) || rng_percent(r, 50) || s->unit[s->n - 1].ignore_len) return;
    g->next = INSN_FNSTENV_Menv; /* which instruction has the unit seen last, and which operand? */
    make_unit(g, &s->unit[s->n++]);
    g->next = 0;
}

/* ---- Layout ---- */

void sequence_to_case(const struct sequence *s, struct diff_case *k)
{
    u32 at[UNITS_MAX + 1];

    memset(k, 0, sizeof(*k));
    k->in = s->in;
    k->image = s->image;
    k->code16 = s->code16;
    at[0] = 0;
    for (unsigned i = 0; i < s->n; i++) at[i + 1] = at[i] + s->unit[i].n;
    BUG_ON(at[s->n] > CODE_MAX);
    for (unsigned i = 0; i < s->n; i++) {
        const struct unit *u = &s->unit[i];
        unsigned to = i + u->skip < s->n ? i + u->skip : s->n;
        u32 target = at[to];
        memcpy(k->code + at[i], u->bytes, u->n);
        if (u->fix_size == FIX_ABS) {
            target += CODE_BASE;
            memcpy(k->code + at[i] + u->fix_at, &target, 4);
        } else if (u->fix_size == FIX_ABS16) {
            memcpy(k->code + at[i] + u->fix_at, &target, 2);
        } else if (u->fix_size) {
            target -= at[i] + u->fix_at + u->fix_size;
            memcpy(k->code + at[i] + u->fix_at, &target, u->fix_size);
        }
    }
    k->ncode = at[s->n];
}

u32 case_undefined_flags(struct decoder *d, const struct diff_case *k, u32 eip)
{
    const u32 from = k->code16 ? 0 : CODE_BASE;
    u32 undef = 0, at = from;
    bool branched = false;

    while (at < from + k->ncode) {
        struct insn in;
        u32 left = from + k->ncode - at;
        u32 left15 = left < 15 ? left : 15;
        if (decode(d, k->code + (at - from), left15, at, !k->code16, ~0u, &in) != DECODE_OK) break;
        branched |= (in.row->attr & A_END) != 0;
        if (at == eip) { /* stopped here: it may have begun to change its flags, and may not */
            undef |= insn_flags_undef(&in);
            break;
        }
        if (!branched) undef &= ~insn_flags_written(&in);
        undef |= insn_flags_undef(&in);
        at += in.len;
    }
    return undef;
}
