/* String instructions, with REP: MOVS STOS LODS CMPS SCAS INS OUTS.
 *
 *   I1  After each iteration ECX, ESI and EDI are committed, so that a fault or an interrupt in the middle leaves the
 *       state to go on from.
 *   I2  A REP comes back with ST_AGAIN after some thousand iterations, or when decoded code has changed: it may have
 *       overwritten itself.
 *
 * REP MOVS and STOS in plain RAM go page by page. So do, upwards, STOS to a device that takes fills, and INS and OUTS
 * of a device that moves strings. */
#include "runtime/interp/interp_core.h"
#include "runtime/interp/interp_sys.h"

#include <string.h>

#define HANDLER(name) static int name(struct interp *ip UNUSED, struct cpu *c UNUSED, const struct insn *in UNUSED)
#define ITERATIONS_MAX 4096u

ALWAYS_INLINE u32 index_mask(const struct insn *in) { return in->addrsize == 4 ? ~0u : 0xffffu; }
ALWAYS_INLINE u32 index_get(const struct cpu *c, const struct insn *in, unsigned reg)
{
    return c->gpr[reg] & index_mask(in);
}
ALWAYS_INLINE void index_add(struct cpu *c, const struct insn *in, unsigned reg, u32 by)
{
    u32 mask = index_mask(in);
    c->gpr[reg] = (c->gpr[reg] & ~mask) | ((c->gpr[reg] + by) & mask);
}
ALWAYS_INLINE void index_step(struct cpu *c, const struct insn *in, unsigned reg, unsigned size)
{
    index_add(c, in, reg, c->df < 0 ? 0 - size : size);
}

/* The size of one element: that of whichever operand is memory. */
ALWAYS_INLINE unsigned element_size(const struct insn *in)
{
    return in->opnd[0].kind == OPK_MEM ? in->opnd[0].size : in->opnd[1].size;
}

/* ---- one iteration ---- */

static int one_movs(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 v;
    if (load(ip, c, in->seg, index_get(c, in, G_ESI), size, &v)) return ST_FAULT;
    if (store(ip, c, S_ES, index_get(c, in, G_EDI), size, v)) return ST_FAULT;
    index_step(c, in, G_ESI, size);
    index_step(c, in, G_EDI, size);
    return ST_NEXT;
}

static int one_stos(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    if (store(ip, c, S_ES, index_get(c, in, G_EDI), size, c->gpr[G_EAX])) return ST_FAULT;
    index_step(c, in, G_EDI, size);
    return ST_NEXT;
}

static int one_lods(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 v;
    if (load(ip, c, in->seg, index_get(c, in, G_ESI), size, &v)) return ST_FAULT;
    reg_set(c, G_EAX, size, v);
    index_step(c, in, G_ESI, size);
    return ST_NEXT;
}

static int one_cmps(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 a, b;
    if (load(ip, c, in->seg, index_get(c, in, G_ESI), size, &a)) return ST_FAULT;
    if (load(ip, c, S_ES, index_get(c, in, G_EDI), size, &b)) return ST_FAULT;
    index_step(c, in, G_ESI, size);
    index_step(c, in, G_EDI, size);
    c->aflags = flags_sub(a, b, a - b, size);
    return ST_NEXT;
}

static int one_scas(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 a = reg_get(c, G_EAX, size), b;
    if (load(ip, c, S_ES, index_get(c, in, G_EDI), size, &b)) return ST_FAULT;
    index_step(c, in, G_EDI, size);
    c->aflags = flags_sub(a, b, a - b, size);
    return ST_NEXT;
}

/* The destination is checked before the device is asked: its data are gone once read. */
static int one_ins(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 edi = index_get(c, in, G_EDI);
    u16 port = (u16)c->gpr[G_EDX];
    if (interp_probe_write(ip, S_ES, edi, size)) return ST_FAULT;
    if (store(ip, c, S_ES, edi, size, interp_io_in(ip, port, size))) return ST_FAULT;
    index_step(c, in, G_EDI, size);
    return ST_NEXT;
}

static int one_outs(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size)
{
    u32 v;
    u16 port = (u16)c->gpr[G_EDX];
    if (load(ip, c, in->seg, index_get(c, in, G_ESI), size, &v)) return ST_FAULT;
    index_step(c, in, G_ESI, size);
    interp_io_out(ip, port, size, v);
    return ST_NEXT;
}

typedef int (*iteration)(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size);

/* ---- many at once ---- */

static u32 min_u32(u32 a, u32 b) { return a < b ? a : b; }

static bool bulk_allowed(const struct interp *ip) { return !ip->single && !ip->checked; }

/* How many elements from the one at la on are on its page, in the direction of DF; 0: it runs into the next page. */
static u32 room_in_page(const struct cpu *c, laddr la, unsigned size)
{
    u32 at = la & ~PAGE_MASK;
    if (c->df > 0) return (PAGE_SIZE - at) / size;
    return at + size <= PAGE_SIZE ? at / size + 1 : 0;
}

/* How many from offset off on are in the segment, and before the offset wraps around. */
static u32 room_in_segment(const struct cpu *c, const struct insn *in, unsigned seg, bool write, u32 off, unsigned size)
{
    u64 end = -c->seg_room[write][seg]; /* limit + 1, or 0 */
    if (in->addrsize == 2 && end > 0x10000) end = 0x10000;
    u64 n = end > off ? (end - off) / size : 0;
    if (c->df < 0 && n) n = off / size + 1ull;
    return n < UINT32_MAX ? (u32)n : UINT32_MAX;
}

/* Element by element where the destination runs into the source: REP MOVS then repeats a pattern. dst and src are the
 * first elements, the highest if the direction is down. */
static void copy_elements(u8 *dst, const u8 *src, u32 n, unsigned size, bool down)
{
    u64 bytes = (u64)n * size;
    u64 ahead = down ? (u64)(src - dst) : (u64)(dst - src);
    if (ahead >= bytes || !ahead) {
        u64 back = down ? bytes - size : 0;
        memmove(dst - back, src - back, bytes);
        return;
    }
    for (u32 i = 0; i < n; i++) {
        u64 at = (u64)i * size;
        if (down) host_store(dst - at, size, host_load(src - at, size));
        else host_store(dst + at, size, host_load(src + at, size));
    }
}

/* Up to n elements, as far as both pages reach. Returns how many; 0: not plain RAM, take the plain way. */
static u32 bulk_movs(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, u32 n)
{
    if (!bulk_allowed(ip)) return 0;
    u32 si = index_get(c, in, G_ESI), di = index_get(c, in, G_EDI);
    laddr from = si + c->seg[in->seg].base, to = di + c->seg[S_ES].base;
    n = min_u32(n, room_in_segment(c, in, in->seg, false, si, size));
    n = min_u32(n, room_in_segment(c, in, S_ES, true, di, size));
    n = min_u32(n, min_u32(room_in_page(c, from, size), room_in_page(c, to, size)));
    const u8 *src = tlb_hit(ip->tlb_r, from, 1);
    u8 *dst = tlb_hit(ip->tlb_w, to, 1);
    if (!n || !src || !dst) return 0;
    copy_elements(dst, src, n, size, c->df < 0);
    index_step(c, in, G_ESI, n * size);
    index_step(c, in, G_EDI, n * size);
    return n;
}

static u32 bulk_stos(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, u32 n)
{
    if (!bulk_allowed(ip)) return 0;
    u32 di = index_get(c, in, G_EDI);
    laddr to = di + c->seg[S_ES].base;
    u8 *dst = tlb_hit(ip->tlb_w, to, 1);
    bool down = c->df < 0;
    n = min_u32(n, min_u32(room_in_segment(c, in, S_ES, true, di, size), room_in_page(c, to, size)));
    if (!n || (!dst && (down || !mem_fill_device(c, to, size, c->cpl == 3, c->gpr[G_EAX], n)))) return 0;
    if (dst && down) dst -= (n - 1) * size;
    for (u32 i = 0; dst && i < n; i++) host_store(dst + i * size, size, c->gpr[G_EAX]);
    index_step(c, in, G_EDI, n * size);
    return n;
}

static u32 bulk_ins(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, u32 n)
{
    if (!bulk_allowed(ip) || c->df < 0 || c->probes) return 0;
    u32 di = index_get(c, in, G_EDI);
    laddr to = di + c->seg[S_ES].base;
    u8 *dst = tlb_hit(ip->tlb_w, to, 1);
    n = min_u32(n, min_u32(room_in_segment(c, in, S_ES, true, di, size), room_in_page(c, to, size)));
    if (!n || !dst) return 0;
    n = interp_io_in_string(ip, (u16)c->gpr[G_EDX], size, dst, n);
    index_add(c, in, G_EDI, n * size);
    return n;
}

static u32 bulk_outs(struct interp *ip, struct cpu *c, const struct insn *in, unsigned size, u32 n)
{
    if (!bulk_allowed(ip) || c->df < 0 || c->probes) return 0;
    u32 si = index_get(c, in, G_ESI);
    laddr from = si + c->seg[in->seg].base;
    const u8 *src = tlb_hit(ip->tlb_r, from, 1);
    n = min_u32(n, min_u32(room_in_segment(c, in, in->seg, false, si, size), room_in_page(c, from, size)));
    if (!n || !src) return 0;
    n = interp_io_out_string(ip, (u16)c->gpr[G_EDX], size, src, n);
    index_add(c, in, G_ESI, n * size);
    return n;
}

/* ---- REP ---- */

enum rep_end { REP_COUNT, REP_COUNT_AND_ZF }; /* what ends it */

static bool zf_ends(const struct cpu *c, const struct insn *in)
{
    return !(c->aflags & F_ZF) == !!(in->prefixes & IP_REP); /* REPE goes on while ZF=1, REPNE while ZF=0 */
}

ALWAYS_INLINE int repeat(struct interp *ip, struct cpu *c, const struct insn *in, iteration one,
                         u32 (*bulk)(struct interp *, struct cpu *, const struct insn *, unsigned, u32),
                         enum rep_end end)
{
    unsigned size = element_size(in);
    if (!(in->prefixes & (IP_REP | IP_REPNE))) return one(ip, c, in, size);
    u32 left = ip->single ? 1 : ITERATIONS_MAX, count;
    while ((count = index_get(c, in, G_ECX)) != 0) {
        if (!left || ip->attention) return ST_AGAIN;
        u32 done = bulk ? bulk(ip, c, in, size, min_u32(count, left)) : 0;
        if (!done) {
            if (one(ip, c, in, size)) return ST_FAULT;
            done = 1;
        }
        index_add(c, in, G_ECX, 0 - done);
        left -= done;
        if (end == REP_COUNT_AND_ZF && zf_ends(c, in)) break;
    }
    return ST_NEXT;
}

HANDLER(do_movs) { return repeat(ip, c, in, one_movs, bulk_movs, REP_COUNT); }
HANDLER(do_stos) { return repeat(ip, c, in, one_stos, bulk_stos, REP_COUNT); }
HANDLER(do_lods) { return repeat(ip, c, in, one_lods, NULL, REP_COUNT); }
HANDLER(do_cmps) { return repeat(ip, c, in, one_cmps, NULL, REP_COUNT_AND_ZF); }
HANDLER(do_scas) { return repeat(ip, c, in, one_scas, NULL, REP_COUNT_AND_ZF); }
/* Permission is asked for even where ECX is 0, as processors do. */
HANDLER(do_ins)
{
    if (interp_io_check(ip, (u16)c->gpr[G_EDX], element_size(in))) return ST_FAULT;
    c->eip = in->eip; /* for devices that trace */
    return repeat(ip, c, in, one_ins, bulk_ins, REP_COUNT);
}
HANDLER(do_outs)
{
    if (interp_io_check(ip, (u16)c->gpr[G_EDX], element_size(in))) return ST_FAULT;
    c->eip = in->eip;
    return repeat(ip, c, in, one_outs, bulk_outs, REP_COUNT);
}

interp_fn interp_string_handler(const struct insn *in)
{
    switch (in->op) {
    case OP_MOVS: return do_movs;
    case OP_STOS: return do_stos;
    case OP_LODS: return do_lods;
    case OP_CMPS: return do_cmps;
    case OP_SCAS: return do_scas;
    case OP_INS: return do_ins;
    case OP_OUTS: return do_outs;
    default: return NULL;
    }
}
