/* Guest code for the translator's fuzzers: instructions made from the rows of insn.def with every operand form, runs of
 * one form (the largest blocks there are), plain random bytes, and any of them cut by the end of a page. */
#ifndef TESTS_FUZZ_GEN_GUEST_H
#define TESTS_FUZZ_GEN_GUEST_H
#include "tests/diff/rng.h"
#include "tests/insn_encode.h"

#include <string.h>

#define GUEST_MAX 1024u

static inline u32 guest_value(struct rng *r)
{
    static const u32 corner[] = { 0, 1, 4, 0x7f, 0x80, 0xff, 0x1000, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff };
    return rng_percent(r, 40)   ? corner[rng_below(r, ARRAY_LEN(corner))]
           : rng_percent(r, 30) ? rng_below(r, 64)
                                : rng_u32(r);
}

/* Any prefix now and then, none mostly; segment overrides often. */
static inline void guest_prefixes(struct rng *r, struct encoding *e, bool wild)
{
    static const u8 seg[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 }, rep[] = { 0xf2, 0xf3 };
    if (rng_percent(r, 20)) e->prefix[e->nprefix++] = 0x66;
    if (rng_percent(r, 25)) e->prefix[e->nprefix++] = seg[rng_below(r, ARRAY_LEN(seg))];
    if (rng_percent(r, wild ? 12 : 6)) e->prefix[e->nprefix++] = rep[rng_below(r, 2)];
    if (rng_percent(r, 5)) e->prefix[e->nprefix++] = 0xf0;
    if (rng_percent(r, wild ? 8 : 2)) e->prefix[e->nprefix++] = 0x67;
}

static inline unsigned guest_insn_of(struct rng *r, const struct insn_row *row, bool wild, u8 *out)
{
    struct encoding e = { .offset = (u8)rng_below(r, row->count),
                          .modrm = (u8)rng_u32(r),
                          .sib = (u8)rng_u32(r),
                          .disp = guest_value(r),
                          .imm = guest_value(r),
                          .imm2 = guest_value(r),
                          .code32 = true };
    u8 bytes[32];
    guest_prefixes(r, &e, wild);
    unsigned n = insn_encode(row, &e, bytes);
    if (n > 15) n = 15;
    memcpy(out, bytes, n);
    return n;
}

/* Memory operands of the longest kind, 16 bits wide, in a segment that is not flat: what strains the reach of short
 * branches. */
static inline unsigned guest_insn_long(struct rng *r, u8 *out)
{
    static const u8 modrm[] = { 0x84, 0x94, 0xac, 0xbc, 0x04, 0x44, 0x06, 0xa4 };
    u8 bytes[32];
    struct encoding e = { .offset = 0,
                          .modrm = modrm[rng_below(r, ARRAY_LEN(modrm))],
                          .sib = (u8)rng_u32(r),
                          .disp = guest_value(r) | 0x1000,
                          .imm = guest_value(r),
                          .code32 = true };
    if (rng_percent(r, 70)) e.prefix[e.nprefix++] = 0x66;
    if (rng_percent(r, 70)) e.prefix[e.nprefix++] = rng_percent(r, 50) ? 0x64 : 0x36;
    const struct insn_row *row;
    do row = &insn_rows[1 + rng_below(r, INSN_COUNT - 1)];
    while (row->form == MR_REG
           || (row->form == MR_NONE && row->cls != CLS_string && row->cls != CLS_stack && row->op != OP_XLAT));
    unsigned n = insn_encode(row, &e, bytes);
    if (n > 15) n = 15;
    memcpy(out, bytes, n);
    return n;
}

static inline unsigned guest_insn(struct rng *r, bool wild, u8 *out)
{
    return guest_insn_of(r, &insn_rows[1 + rng_below(r, INSN_COUNT - 1)], wild, out);
}

/* Fills out[0..max) and returns how much of it is meant; the rest are NOPs. */
static inline unsigned guest_code(struct rng *r, u8 *out, unsigned max)
{
    unsigned n = 0, kind = rng_below(r, 10);
    memset(out, 0x90, max);
    if (kind == 0) {
        for (; n < 64 && n < max; n++) out[n] = (u8)rng_u32(r);
    } else if (kind <= 3) { /* one instruction, over and over: with the same operands, or with others */
        const struct insn_row *row = &insn_rows[1 + rng_below(r, INSN_COUNT - 1)];
        u8 one[16];
        unsigned len = guest_insn_of(r, row, false, one);
        for (unsigned i = 0; i < 60 && n + 16 < max; i++) {
            if (kind == 3) len = guest_insn_of(r, row, false, one);
            memcpy(out + n, one, len);
            n += len;
        }
    } else {
        unsigned count = 1 + rng_below(r, 60);
        for (unsigned i = 0; i < count && n + 16 < max; i++)
            n += kind <= 6 ? guest_insn_long(r, out + n) : guest_insn(r, kind == 7, out + n);
    }
    return n;
}
#endif
