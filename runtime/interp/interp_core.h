/* What the interpreter's files share: its state, how a handler reports, operands, memory and stack access, flags.
 *
 * A handler does one instruction. It commits nothing before the last thing that can fault, and leaves cpu->eip alone
 * unless it transfers control: the loop in interp.c advances it. */
#ifndef RUNTIME_INTERP_CORE_H
#define RUNTIME_INTERP_CORE_H
#include "runtime/cpu/except.h"
#include "runtime/cpu/seg.h"
#include "runtime/mem/mmu.h"
#include "runtime/interp/hostexec.h"
#include "translator/front/decode.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum interp_status {
    ST_NEXT = 0,            /* done: go on behind it */
    ST_FAULT = GUEST_FAULT, /* cpu->exc is set, nothing is committed */
    ST_JUMP,                /* done: cpu->eip is where to go on */
    ST_AGAIN,               /* REP: some iterations done, the instruction is to be run again */
    ST_WAIT,                /* not begun: cpu->halted is set, and the instruction is to be run after an interrupt */
};
struct interp;
typedef int (*interp_fn)(struct interp *ip, struct cpu *c, const struct insn *in);

struct irec {
    interp_fn fn;
    struct insn in;
};

/* A decoded basic block: recs[0..n) from linear address eip (offset in CS) and physical address pa. */
struct iblock {
    paddr pa;
    u32 eip;
    u32 code32;
    u64 generation; /* that of its page when it was decoded */
    struct irec *recs;
    u32 n, bytes;
};

/* Where a linear code page is, for as long as no TLB flush of any kind has happened. */
struct ifetch {
    u32 tag;        /* page | user << 1 | 1 */
    u32 generation; /* cpu->tlb_generation */
    paddr pa;       /* of the page */
    const u8 *host; /* NULL: not RAM */
};

#define IBLOCKS 32768u
#define IFETCHES 256u
#define IPAGES 4096u
#define IRECS (256u * 1024)
#define IBLOCK_MAX 32u /* instructions */

struct interp {
    struct cpu *c;
    struct decoder *dec;
    const u64 *tlb_r, *tlb_w; /* the soft-TLB tables of the present CPL, or an all-miss one (checked below) */
    u32 attention;            /* leave the current block: decoded code has changed, or there is a kick */
    u32 state;                /* interp_state() that tlb_r, tlb_w, checked, single are for */
    bool checked;             /* breakpoints, alignment checks, or told of: every access goes the slow way */
    bool single;              /* TF, breakpoints or interp_step(): string instructions do one iteration at a time */
    bool stepped;             /* in interp_step() */
    u8 watch_hits;            /* data and I/O breakpoints met by the current instruction: DR6 bits 0-3 */
    u16 last_op;              /* of step(): for those who count */
    u64 again;                /* for probes: 1 << 32 | linear address of an instruction that has begun before; or 0 */
    bool block_over;          /* for probes: control has just been transferred */
    struct hostexec *fpu;
    struct irec *recs; /* bump-allocated by blocks; when full, everything is dropped */
    u32 recs_used;
    struct irec scratch; /* an instruction that is not kept: it straddles pages, or is not in RAM */
    struct iblock blocks[IBLOCKS];
    struct ifetch fetch[IFETCHES];
    u64 page_generation[IPAGES]; /* by physical page, hashed: bumped when its bytes change */
};

/* ---- handlers, by class (interp_*.c) ---- */
interp_fn interp_int_handler(const struct insn *in);
interp_fn interp_ctl_handler(const struct insn *in);
interp_fn interp_string_handler(const struct insn *in);
interp_fn interp_sys_handler(const struct insn *in);
interp_fn interp_fpu_handler(const struct insn *in);

/* ---- registers ---- */

ALWAYS_INLINE u32 size_mask(unsigned size) { return size == 4 ? ~0u : size == 2 ? 0xffffu : 0xffu; }
ALWAYS_INLINE u32 sign_extend(u32 v, unsigned size) { return size == 4 ? v : size == 2 ? (u32)(s16)v : (u32)(s8)v; }

/* AL CL DL BL AH CH DH BH: byte n >> 2 of register n & 3. */
ALWAYS_INLINE u32 reg_get(const struct cpu *c, unsigned n, unsigned size)
{
    if (size == 4) return c->gpr[n];
    if (size == 2) return (u16)c->gpr[n];
    return (u8)(c->gpr[n & 3] >> (n & 4) * 2);
}
ALWAYS_INLINE void reg_set(struct cpu *c, unsigned n, unsigned size, u32 v)
{
    if (size == 4) c->gpr[n] = v;
    else if (size == 2) c->gpr[n] = (c->gpr[n] & 0xffff0000u) | (u16)v;
    else {
        unsigned shift = (n & 4) * 2;
        c->gpr[n & 3] = (c->gpr[n & 3] & ~(0xffu << shift)) | (u32)(u8)v << shift;
    }
}

/* ---- memory ---- */

ALWAYS_INLINE u32 insn_ea(const struct cpu *c, const struct insn *in) { return insn_address(in, c->gpr); }

/* Any access that is not a plain one within a page in the soft TLB. */
MUST_CHECK int interp_read_slow(struct interp *ip, laddr la, unsigned size, u32 *out);
MUST_CHECK int interp_write_slow(struct interp *ip, laddr la, unsigned size, u32 val);
MUST_CHECK int interp_modify_slow(struct interp *ip, laddr la, unsigned size, u32 *out); /* reads what may be written */
/* Longer operands: any size up to 512. */
MUST_CHECK int interp_read_buf(struct interp *ip, unsigned seg, u32 off, void *buf, unsigned size);
/* The same for an operand of parts that are aligned each for itself: far pointers, bounds. */
MUST_CHECK int interp_read_parts(struct interp *ip, unsigned seg, u32 off, void *buf, unsigned size,
                                 unsigned alignment);
MUST_CHECK int interp_write_buf(struct interp *ip, unsigned seg, u32 off, const void *buf, unsigned size);
/* Makes sure that a following interp_write_buf() of the same bytes does not fault. */
MUST_CHECK int interp_probe_write(struct interp *ip, unsigned seg, u32 off, unsigned size);

ALWAYS_INLINE int seg_to_linear(struct cpu *c, unsigned seg, u32 off, unsigned size, enum access acc, laddr *la)
{
    if (unlikely(c->seg_complex[seg] & (acc == ACC_W ? 2 : 1)))
        return seg_linear(c, (enum segreg)seg, off, size, acc, la);
    *la = off + c->seg[seg].base;
    return 0;
}

ALWAYS_INLINE u8 *tlb_hit(const u64 *table, laddr la, unsigned size)
{
    u64 addend = table[la >> PAGE_SHIFT];
    if (likely(addend && (la & ~PAGE_MASK) <= PAGE_SIZE - size)) return (u8 *)(addend + la);
    return NULL;
}
ALWAYS_INLINE u32 host_load(const u8 *p, unsigned size)
{
    u32 v = 0;
    __builtin_memcpy(&v, p, size);
    return v;
}
ALWAYS_INLINE void host_store(u8 *p, unsigned size, u32 v) { __builtin_memcpy(p, &v, size); }

ALWAYS_INLINE int load_linear(struct interp *ip, laddr la, unsigned size, u32 *out)
{
    const u8 *p = tlb_hit(ip->tlb_r, la, size);
    if (unlikely(!p)) return interp_read_slow(ip, la, size, out);
    *out = host_load(p, size);
    return 0;
}
ALWAYS_INLINE int store_linear(struct interp *ip, laddr la, unsigned size, u32 val)
{
    u8 *p = tlb_hit(ip->tlb_w, la, size);
    if (unlikely(!p)) return interp_write_slow(ip, la, size, val);
    host_store(p, size, val);
    return 0;
}
ALWAYS_INLINE int load(struct interp *ip, struct cpu *c, unsigned seg, u32 off, unsigned size, u32 *out)
{
    laddr la;
    if (seg_to_linear(c, seg, off, size, ACC_R, &la)) return ST_FAULT;
    return load_linear(ip, la, size, out);
}
ALWAYS_INLINE int store(struct interp *ip, struct cpu *c, unsigned seg, u32 off, unsigned size, u32 val)
{
    laddr la;
    if (seg_to_linear(c, seg, off, size, ACC_W, &la)) return ST_FAULT;
    return store_linear(ip, la, size, val);
}

/* Read-modify-write: the read already needs write permission, so that the write cannot fault. */
struct modify {
    u8 *p;
    laddr la;
};
ALWAYS_INLINE int modify_open(struct interp *ip, struct cpu *c, unsigned seg, u32 off, unsigned size, struct modify *m,
                              u32 *out)
{
    if (seg_to_linear(c, seg, off, size, ACC_W, &m->la)) return ST_FAULT;
    m->p = tlb_hit(ip->tlb_w, m->la, size);
    if (unlikely(!m->p)) return interp_modify_slow(ip, m->la, size, out);
    *out = host_load(m->p, size);
    return 0;
}
ALWAYS_INLINE int modify_close(struct interp *ip, const struct modify *m, unsigned size, u32 val)
{
    if (unlikely(!m->p)) return interp_write_slow(ip, m->la, size, val);
    host_store(m->p, size, val);
    return 0;
}

/* Operand i, of any kind that has a value of up to 4 bytes. An immediate is imm if it is the first, else imm2: rows
 * with two do not come here. */
ALWAYS_INLINE int operand_read(struct interp *ip, struct cpu *c, const struct insn *in, unsigned i, u32 *out)
{
    const struct operand *o = &in->opnd[i];
    switch (o->kind) {
    case OPK_MEM: return load(ip, c, in->seg, insn_ea(c, in), o->size, out);
    case OPK_IMM: *out = in->imm; return 0;
    default: *out = reg_get(c, o->reg, o->size); return 0;
    }
}
ALWAYS_INLINE int operand_write(struct interp *ip, struct cpu *c, const struct insn *in, unsigned i, u32 val)
{
    const struct operand *o = &in->opnd[i];
    if (o->kind == OPK_MEM) return store(ip, c, in->seg, insn_ea(c, in), o->size, val);
    reg_set(c, o->reg, o->size, val);
    return 0;
}
/* Operand 0, read to be written back. */
ALWAYS_INLINE int operand_open(struct interp *ip, struct cpu *c, const struct insn *in, struct modify *m, u32 *out)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_MEM) return modify_open(ip, c, in->seg, insn_ea(c, in), o->size, m, out);
    *out = reg_get(c, o->reg, o->size);
    return 0;
}
ALWAYS_INLINE int operand_close(struct interp *ip, struct cpu *c, const struct insn *in, const struct modify *m,
                                u32 val)
{
    const struct operand *o = &in->opnd[0];
    if (o->kind == OPK_MEM) return modify_close(ip, m, o->size, val);
    reg_set(c, o->reg, o->size, val);
    return 0;
}

/* ---- stack ---- */

ALWAYS_INLINE u32 stack_mask(const struct cpu *c) { return c->mode & MK_SS32 ? ~0u : 0xffffu; }
ALWAYS_INLINE void stack_set(struct cpu *c, u32 esp)
{
    u32 mask = stack_mask(c);
    c->gpr[G_ESP] = (c->gpr[G_ESP] & ~mask) | (esp & mask);
}
ALWAYS_INLINE int push(struct interp *ip, struct cpu *c, unsigned size, u32 val)
{
    u32 esp = c->gpr[G_ESP] - size;
    if (store(ip, c, S_SS, esp & stack_mask(c), size, val)) return ST_FAULT;
    stack_set(c, esp);
    return 0;
}
/* Reads the top of the stack, at displacement disp; ESP stays. */
ALWAYS_INLINE int stack_peek(struct interp *ip, struct cpu *c, u32 disp, unsigned size, u32 *out)
{
    return load(ip, c, S_SS, (c->gpr[G_ESP] + disp) & stack_mask(c), size, out);
}

/* ---- flags ---- */

ALWAYS_INLINE u32 flag_if(bool set, u32 flag) { return set ? flag : 0; }
ALWAYS_INLINE u32 flag_parity(u32 v) { return (u32)!__builtin_parity(v & 0xff) << 2; }
ALWAYS_INLINE u32 flags_szp(u32 r, unsigned size)
{
    r &= size_mask(size);
    return flag_if(r == 0, F_ZF) | (r >> (size * 8 - 1)) << 7 | flag_parity(r);
}
/* From the vector of carries (or borrows) out of each bit: CF is that out of the top bit, AF out of bit 3, OF where the
 * top two differ. */
ALWAYS_INLINE u32 flags_carry(u32 cv, unsigned size)
{
    unsigned top = size * 8 - 1;
    return (cv >> top & 1) | (cv << 1 & F_AF) | ((cv >> top ^ cv >> (top - 1)) & 1) << 11;
}
ALWAYS_INLINE u32 flags_add(u32 a, u32 b, u32 r, unsigned size) /* r = a + b + carry */
{
    return flags_carry((a & b) | ((a | b) & ~r), size) | flags_szp(r, size);
}
ALWAYS_INLINE u32 flags_sub(u32 a, u32 b, u32 r, unsigned size) /* r = a - b - borrow */
{
    return flags_carry((~a & b) | ((~a | b) & r), size) | flags_szp(r, size);
}

/* SDM vol. 1, appendix B. */
ALWAYS_INLINE bool condition(u32 f, unsigned cc)
{
    bool r;
    switch (cc >> 1) {
    case 0: r = f & F_OF; break;
    case 1: r = f & F_CF; break;
    case 2: r = f & F_ZF; break;
    case 3: r = f & (F_CF | F_ZF); break;
    case 4: r = f & F_SF; break;
    case 5: r = f & F_PF; break;
    case 6: r = (f >> 7 ^ f >> 11) & 1; break;
    default: r = ((f >> 7 ^ f >> 11) & 1) | (f & F_ZF); break;
    }
    return r != (cc & 1);
}

/* ---- control ---- */

/* Near transfer. A target outside of CS faults at the transfer, not at the target. */
ALWAYS_INLINE int jump_to(struct cpu *c, u32 target)
{
    if (unlikely(!(c->mode & MK_CSFLAT)) && target > c->seg[S_CS].limit) return exc_raise_err(c, V_GP, 0);
    c->eip = target;
    return ST_JUMP;
}

#endif
