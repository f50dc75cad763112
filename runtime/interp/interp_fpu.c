/* x87, MMX and SSE: what the host executes (hostexec.c), the checks before and the exceptions after it, and the
 * instructions that move state as a whole, which are done on cpu->fx.
 *
 *   I1  cpu->fx never holds a host address: FIP, FDP, FCS, FDS and FOP are the guest's, whatever the host executed.
 *       [fx_run, point_at]
 *   I2  Nothing here traps on the host. An x87 exception, unmasked, waits in FSW for the next waiting instruction,
 *       which raises #MF before the host sees it. SSE exceptions are masked while the host executes; one that the guest
 *       has not masked is found in MXCSR afterwards, and the state from before is put back.
 *
 * FIP and FOP change with every x87 instruction that is none of control, FDP with those that have a memory operand, and
 * FXSAVE stores them. So do Intel's up to the Core 2, and AMD's but for FXSAVE, which leaves them out unless an
 * exception is pending; later ones of Intel's keep FOP and FDP for exceptions only.
 *
 * With CR0.NE = 0 an exception is reported when an instruction that waits comes, as by P6 processors (SDM vol. 1,
 * D.2.1.3): FERR# is asserted, and the processor waits for an interrupt. FERR# is released as soon as nothing is
 * pending; until then translated code leaves all of x87, MMX and SSE to the interpreter (callout_fpu), which notices.
 *
 * NOT-HW: an SSE result that is tiny but exact does not raise an unmasked underflow. */
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/interp/interp_core.h"
#include "translator/front/x87.h"

#include <string.h>

#define HANDLER(name) static int name(struct interp *ip UNUSED, struct cpu *c UNUSED, const struct insn *in UNUSED)

#define FPU_EXCEPTIONS 0x3fu
#define FPU_IE 0x01u
#define FPU_DE 0x02u
#define FPU_ZE 0x04u
#define FPU_OE 0x08u
#define FPU_UE 0x10u
#define FSW_SUMMARY 0x8080u /* ES and B */
#define FSW_TOP_SHIFT 11
#define FCW_DEFINED 0x1f3fu
#define FCW_ONE 0x40u /* reads as one */
#define FCW_INIT 0x37fu
#define FOP_DEFINED 0x7ffu
#define MXCSR_MASKS 0x1f80u
#define MXCSR_DAZ 0x40u
#define MXCSR_ANY 0xffffu /* what any guest has, and every host */

/* ---- what must hold before ---- */

static bool x87_pending(const struct fxstate *fx) { return fx->fsw & ~fx->fcw & FPU_EXCEPTIONS; }

static u32 mxcsr_defined(const struct cpu *c) { return mxcsr_mask(c->model->features); }

static void fsw_summarize(struct fxstate *fx)
{
    fx->fsw = (u16)(x87_pending(fx) ? fx->fsw | FSW_SUMMARY : fx->fsw & ~FSW_SUMMARY);
}

/* Brings the state to cpu->fx, to be changed there. */
static void fx_claim(struct cpu *c)
{
    cpu_fpu_home(c);
    c->fx_version++;
}

/* An exception is pending, and an instruction waits for it. 0: the instruction runs nevertheless. */
static int report_pending(struct cpu *c)
{
    if (c->cr0 & CR0_NE) return exc_raise(c, V_MF);
    if (!c->ferr_hook) return 0; /* nobody would hear of it */
    cpu_set_ferr(c, true);
    if (c->ignne) return 0;
    c->halted = 1;
    return ST_WAIT;
}

static int wait_x87(struct cpu *c) { return unlikely(x87_pending(&c->fx)) ? report_pending(c) : 0; }

static int check_x87(struct cpu *c, const struct insn *in)
{
    fx_claim(c);
    if (c->cr0 & (CR0_EM | CR0_TS)) return exc_raise(c, V_NM);
    return in->row->attr & A_NOWAIT ? 0 : wait_x87(c);
}

static int check_mmx(struct cpu *c)
{
    fx_claim(c);
    if (c->cr0 & CR0_EM) return exc_raise(c, V_UD);
    if (c->cr0 & CR0_TS) return exc_raise(c, V_NM);
    return wait_x87(c);
}

static bool uses_mmx(const struct insn *in)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_MMX) return true;
    return false;
}

static int check_sse(struct cpu *c, const struct insn *in)
{
    fx_claim(c);
    if ((c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR)) return exc_raise(c, V_UD);
    if (c->cr0 & CR0_TS) return exc_raise(c, V_NM);
    return uses_mmx(in) ? wait_x87(c) : 0;
}

static int check_align16(struct cpu *c, unsigned seg, u32 off)
{
    return (c->seg[seg].base + off) & 15 ? exc_raise_err(c, V_GP, 0) : 0;
}

/* ---- the x87 stack ---- */

/* Registers stay where they are when the stack top moves, but fx->st goes by distance from the top. */
static void fx_set_top(struct fxstate *fx, unsigned new)
{
    unsigned by = (new - (fx->fsw >> FSW_TOP_SHIFT)) & 7;
    u8 st[8][16];
    for (unsigned i = 0; i < 8; i++) memcpy(st[i], fx->st[(i + by) & 7], 16);
    memcpy(fx->st, st, sizeof st);
    fx->fsw = (u16)((fx->fsw & ~(7u << FSW_TOP_SHIFT)) | new << FSW_TOP_SHIFT);
}

/* What any MMX instruction does to the x87 state: the stack top becomes 0, all registers valid. */
static void mmx_enter(struct fxstate *fx)
{
    fx_set_top(fx, 0);
    fx->ftw = 0xff;
}

/* ---- the host's part ---- */

struct hostop {
    u8 mem[32] __attribute__((aligned(16)));
    struct hostexec_regs regs;
    int mem_operand, gpr_operand; /* or -1 */
    unsigned size;
    u32 ea;
    bool writes_mem;
};

static int operand_of_kind(const struct insn *in, unsigned kind)
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == kind) return (int)i;
    return -1;
}

/* Reads the operands, and makes sure that the result can be written. */
static int hostop_open(struct hostop *op, struct interp *ip, struct cpu *c, const struct insn *in)
{
    memset(op->mem, 0, sizeof op->mem);
    op->mem_operand = operand_of_kind(in, OPK_MEM);
    op->gpr_operand = operand_of_kind(in, OPK_REG);
    op->writes_mem = op->mem_operand == 0 && (in->row->attr & A_WR);
    op->regs = (struct hostexec_regs){ .fx = &c->fx, .mem = op->mem, .flags = (c->aflags & F_ARITH) | F_FIXED | F_IF };
    if (op->gpr_operand >= 0) op->regs.gpr = c->gpr[in->opnd[op->gpr_operand].reg];
    if (op->mem_operand < 0) return 0;
    op->size = in->opnd[op->mem_operand].size;
    op->ea = insn_ea(c, in);
    BUG_ON(op->size > sizeof op->mem);
    if ((in->row->attr & A_ALIGN16) && check_align16(c, in->seg, op->ea)) return ST_FAULT;
    if (op->writes_mem) return interp_probe_write(ip, in->seg, op->ea, op->size);
    return interp_read_buf(ip, in->seg, op->ea, op->mem, op->size);
}

static int hostop_close(struct hostop *op, struct interp *ip, struct cpu *c, const struct insn *in)
{
    if (op->writes_mem && interp_write_buf(ip, in->seg, op->ea, op->mem, op->size)) return ST_FAULT;
    if (op->gpr_operand == 0 && (in->row->attr & A_WR)) c->gpr[in->opnd[0].reg] = (u32)op->regs.gpr;
    if (in->row->writes) c->aflags = (u32)op->regs.flags & F_ARITH;
    return ST_NEXT;
}

static void fx_run(struct interp *ip, const struct insn *in, struct hostop *op)
{
    struct fxstate *fx = op->regs.fx;
    const u16 fop = fx->fop, fcs = fx->fcs, fds = fx->fds;
    const u32 fip = fx->fip, fdp = fx->fdp;
    fx->mxcsr &= MXCSR_ANY; /* or FXRSTOR would trap */
    hostexec_run(ip->fpu, in, &op->regs);
    fx->fop = fop, fx->fcs = fcs, fx->fds = fds;
    fx->fip = fip, fx->fdp = fdp;
    fx->rsvd2 = fx->rsvd3 = 0;
    fx->mxcsr_mask = MXCSR_ANY;
}

/* In is the last x87 instruction now. */
static void point_at(struct cpu *c, const struct insn *in)
{
    struct fxstate *fx = &c->fx;
    fx->fip = in->eip;
    fx->fcs = c->seg[S_CS].sel;
    fx->fop = x87_opcode(in);
    if (!insn_has_mem(in)) return;
    fx->fdp = insn_ea(c, in);
    fx->fds = c->seg[in->seg].sel;
}

/* x87 and MMX. An unmasked exception of a store leaves memory alone if it came before there was a result to store. */
static int host_x87(struct interp *ip, struct cpu *c, const struct insn *in)
{
    struct hostop op;
    if (hostop_open(&op, ip, c, in)) return ST_FAULT;
    u16 fcw = c->fx.fcw;
    bool ignored = x87_pending(&c->fx);
    if (ignored) { /* CR0.NE is 0: goes on as if all were masked */
        c->fx.fcw |= FPU_EXCEPTIONS;
        fsw_summarize(&c->fx);
    }
    fx_run(ip, in, &op);
    if (x87_pending(&c->fx) && (c->fx.fsw & ~c->fx.fcw & (FPU_IE | FPU_OE | FPU_UE))) op.writes_mem = false;
    if (ignored) {
        c->fx.fcw = fcw;
        fsw_summarize(&c->fx);
    }
    return hostop_close(&op, ip, c, in);
}

/* The flags that an unmasked exception leaves: those found before any result, if one of these is unmasked. */
static u32 sse_flags_reported(u32 raised, u32 unmasked)
{
    const u32 before = FPU_IE | FPU_DE | FPU_ZE;
    return unmasked & before ? raised & before : raised;
}

static int host_sse(struct interp *ip, struct cpu *c, const struct insn *in)
{
    struct hostop op;
    if (hostop_open(&op, ip, c, in)) return ST_FAULT;
    u32 mxcsr = c->fx.mxcsr;
    bool may_raise = (mxcsr & MXCSR_MASKS) != MXCSR_MASKS;
    struct fxstate before;
    if (unlikely(may_raise)) before = c->fx;
    c->fx.mxcsr = (mxcsr | MXCSR_MASKS) & ~FPU_EXCEPTIONS;
    fx_run(ip, in, &op);
    u32 raised = c->fx.mxcsr & FPU_EXCEPTIONS, unmasked = raised & ~(mxcsr >> 7);
    if (unlikely(unmasked)) {
        c->fx = before;
        c->fx.mxcsr = mxcsr | sse_flags_reported(raised, unmasked);
        if (uses_mmx(in)) mmx_enter(&c->fx); /* as processors do, though the instruction faults */
        return exc_raise(c, c->cr4 & CR4_OSXMMEXCPT ? V_XM : V_UD);
    }
    c->fx.mxcsr = mxcsr | raised;
    return hostop_close(&op, ip, c, in);
}

HANDLER(do_x87)
{
    int st = check_x87(c, in);
    if (st) return st;
    st = host_x87(ip, c, in);
    if (st == ST_NEXT && x87_moves(in)) point_at(c, in);
    return st;
}
HANDLER(do_mmx)
{
    int st = check_mmx(c);
    return st ? st : host_x87(ip, c, in);
}
HANDLER(do_sse)
{
    int st = check_sse(c, in);
    if (st) return st;
    if (uses_mmx(in) && x87_pending(&c->fx)) { /* CR0.NE is 0: the host must not see it */
        u16 fcw = c->fx.fcw;
        c->fx.fcw |= FPU_EXCEPTIONS;
        fsw_summarize(&c->fx);
        st = host_sse(ip, c, in);
        c->fx.fcw = fcw;
        fsw_summarize(&c->fx);
        return st;
    }
    return host_sse(ip, c, in);
}

/* ---- x87 control ---- */

static void fpu_init(struct fxstate *fx)
{
    fx_set_top(fx, 0);
    fx->fcw = FCW_INIT;
    fx->fsw = 0;
    fx->ftw = 0; /* abridged: all empty */
    fx->fop = 0;
    fx->fip = fx->fdp = 0;
    fx->fcs = fx->fds = 0;
}

HANDLER(do_fwait)
{
    cpu_fpu_home(c);
    if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return exc_raise(c, V_NM);
    return wait_x87(c);
}

HANDLER(x87_control)
{
    u32 v;
    int st = check_x87(c, in);
    if (st) return st;
    switch (in->op) {
    case OP_FNINIT: fpu_init(&c->fx); return ST_NEXT;
    case OP_FNCLEX: c->fx.fsw &= 0x7f00; return ST_NEXT;
    case OP_FNSTSW: return operand_write(ip, c, in, 0, c->fx.fsw);
    case OP_FNSTCW: return operand_write(ip, c, in, 0, c->fx.fcw);
    case OP_FLDCW:
        if (operand_read(ip, c, in, 0, &v)) return ST_FAULT;
        c->fx.fcw = (u16)((v & FCW_DEFINED) | FCW_ONE);
        fsw_summarize(&c->fx);
        return ST_NEXT;
    default: return ST_NEXT; /* FNENI, FNDISI, FNSETPM */
    }
}

/* ---- the x87 environment and state in memory (SDM vol. 1, 8.1.10) ---- */

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static unsigned tag_of(const u8 st[10])
{
    u64 mantissa;
    u16 exponent;
    memcpy(&mantissa, st, 8);
    memcpy(&exponent, st + 8, 2);
    exponent &= 0x7fff;
    if (!exponent && !mantissa) return TAG_ZERO;
    return exponent == 0x7fff || !exponent || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}

/* Tags go by physical register, fx->st by distance from the top. */
static u16 tags_full(const struct fxstate *fx)
{
    unsigned top = fx->fsw >> FSW_TOP_SHIFT & 7;
    u16 tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        unsigned tag = fx->ftw >> r & 1 ? tag_of(fx->st[(r - top) & 7]) : TAG_EMPTY;
        tags |= (u16)(tag << 2 * r);
    }
    return tags;
}
static u8 tags_abridged(u16 tags)
{
    u8 ftw = 0;
    for (unsigned r = 0; r < 8; r++)
        if ((tags >> 2 * r & 3) != TAG_EMPTY) ftw |= (u8)(1u << r);
    return ftw;
}

/* Real mode's formats have linear addresses, of 20 bits or 32, and no selectors. */
static bool env_is_linear(const struct cpu *c) { return !cpu_protected(c); }
static u32 env_linear(u16 sel, u32 off) { return ((u32)sel << 4) + off; }

/* 7 words, or 7 doublewords whose upper halves read as ones where they mean nothing. Returns the length. */
static unsigned env_pack(const struct cpu *c, unsigned opsize, u8 *p)
{
    const struct fxstate *fx = &c->fx;
    const u32 ones = 0xffff0000u;
    u32 v[7] = { fx->fcw | ones, fx->fsw | ones, tags_full(fx) | ones };
    if (!env_is_linear(c)) {
        v[3] = fx->fip;
        v[4] = fx->fcs | (u32)fx->fop << 16;
        v[5] = fx->fdp;
        v[6] = fx->fds | ones;
    } else {
        u32 ip = env_linear(fx->fcs, fx->fip), dp = env_linear(fx->fds, fx->fdp);
        v[3] = (ip & 0xffff) | ones;
        v[4] = (opsize == 2 ? (ip >> 16 & 0xf) : ip >> 16) << 12 | fx->fop;
        v[5] = (dp & 0xffff) | ones;
        v[6] = (opsize == 2 ? (dp >> 16 & 0xf) : dp >> 16) << 12;
    }
    for (unsigned i = 0; i < 7; i++) host_store(p + i * opsize, opsize, v[i]);
    return 7 * opsize;
}

/* What a format does not have becomes zero. */
static void env_unpack_pointers(struct cpu *c, unsigned opsize, const u8 *p)
{
    struct fxstate *fx = &c->fx;
    u32 v[7];
    for (unsigned i = 3; i < 7; i++) v[i] = host_load(p + i * opsize, opsize);
    fx->fcs = fx->fds = fx->fop = 0;
    if (!env_is_linear(c)) {
        fx->fip = v[3], fx->fcs = (u16)v[4];
        fx->fdp = v[5], fx->fds = (u16)v[6];
        if (opsize == 4) fx->fop = v[4] >> 16 & FOP_DEFINED;
    } else {
        fx->fip = (v[3] & 0xffff) | (v[4] >> 12 & 0xffff) << 16;
        fx->fdp = (v[5] & 0xffff) | (v[6] >> 12 & 0xffff) << 16;
        fx->fop = v[4] & FOP_DEFINED;
    }
}

static unsigned env_unpack(struct cpu *c, unsigned opsize, const u8 *p)
{
    struct fxstate *fx = &c->fx;
    fx->fcw = (u16)((host_load(p, 2) & FCW_DEFINED) | FCW_ONE);
    u16 fsw = (u16)host_load(p + opsize, 2);
    fx_set_top(fx, fsw >> FSW_TOP_SHIFT & 7);
    fx->fsw = fsw;
    fx->ftw = tags_abridged((u16)host_load(p + 2 * opsize, 2));
    env_unpack_pointers(c, opsize, p);
    fsw_summarize(fx);
    return 7 * opsize;
}

#define ENV_BYTES_MAX 28
#define STATE_BYTES_MAX (ENV_BYTES_MAX + 80)

HANDLER(x87_fnstenv)
{
    u8 p[ENV_BYTES_MAX];
    int st = check_x87(c, in);
    if (st) return st;
    unsigned n = env_pack(c, in->opsize, p);
    if (interp_write_buf(ip, in->seg, insn_ea(c, in), p, n)) return ST_FAULT;
    c->fx.fcw |= FPU_EXCEPTIONS;
    fsw_summarize(&c->fx);
    return ST_NEXT;
}

HANDLER(x87_fldenv)
{
    u8 p[ENV_BYTES_MAX];
    int st = check_x87(c, in);
    if (st) return st;
    if (interp_read_buf(ip, in->seg, insn_ea(c, in), p, 7u * in->opsize)) return ST_FAULT;
    env_unpack(c, in->opsize, p);
    return ST_NEXT;
}

HANDLER(x87_fnsave)
{
    u8 p[STATE_BYTES_MAX];
    int st = check_x87(c, in);
    if (st) return st;
    unsigned n = env_pack(c, in->opsize, p);
    for (unsigned i = 0; i < 8; i++, n += 10) memcpy(p + n, c->fx.st[i], 10);
    if (interp_write_buf(ip, in->seg, insn_ea(c, in), p, n)) return ST_FAULT;
    fpu_init(&c->fx);
    return ST_NEXT;
}

HANDLER(x87_frstor)
{
    u8 p[STATE_BYTES_MAX];
    int st = check_x87(c, in);
    if (st) return st;
    if (interp_read_buf(ip, in->seg, insn_ea(c, in), p, 7u * in->opsize + 80)) return ST_FAULT;
    unsigned n = env_unpack(c, in->opsize, p);
    for (unsigned i = 0; i < 8; i++, n += 10) memcpy(c->fx.st[i], p + n, 10);
    return ST_NEXT;
}

/* ---- FXSAVE, FXRSTOR, MXCSR ---- */

#define FX_BYTES_USED \
    offsetof(struct fxstate, rest) /* what outside 64-bit mode means something; FXSAVE leaves the rest alone */

HANDLER(do_fxsave)
{
    struct fxstate image;
    u32 ea = insn_ea(c, in);
    if (c->cr0 & (CR0_EM | CR0_TS)) return exc_raise(c, V_NM);
    if (check_align16(c, in->seg, ea) || interp_probe_write(ip, in->seg, ea, sizeof image)) return ST_FAULT;
    cpu_fpu_home(c);
    memcpy(&image, &c->fx, FX_BYTES_USED);
    image.rsvd1 = 0;
    image.mxcsr_mask = mxcsr_defined(c) & MXCSR_DAZ ? mxcsr_defined(c) : 0; /* SDM vol. 1, 11.6.6 */
    return interp_write_buf(ip, in->seg, ea, &image, FX_BYTES_USED);
}

HANDLER(x87_fxrstor)
{
    struct fxstate image;
    u32 ea = insn_ea(c, in);
    if (c->cr0 & (CR0_EM | CR0_TS)) return exc_raise(c, V_NM);
    if (check_align16(c, in->seg, ea) || interp_read_buf(ip, in->seg, ea, &image, sizeof image)) return ST_FAULT;
    if (image.mxcsr & ~mxcsr_defined(c)) return exc_raise_err(c, V_GP, 0);
    image.fcw = (u16)((image.fcw & FCW_DEFINED) | FCW_ONE);
    image.fop &= FOP_DEFINED;
    image.rsvd2 = image.rsvd3 = 0;
    for (unsigned i = 0; i < 8; i++)
        memset(image.st[i] + 10, 0, 6); /* reserved: not kept, so that the next FXSAVE stores zeros */
    fx_claim(c);
    memcpy(&c->fx, &image, FX_BYTES_USED);
    fsw_summarize(&c->fx);
    return ST_NEXT;
}

HANDLER(do_mxcsr)
{
    u32 v;
    int st = check_sse(c, in);
    if (st) return st;
    if (in->op == OP_STMXCSR) return operand_write(ip, c, in, 0, c->fx.mxcsr);
    if (operand_read(ip, c, in, 0, &v)) return ST_FAULT;
    if (v & ~mxcsr_defined(c)) return exc_raise_err(c, V_GP, 0);
    c->fx.mxcsr = v;
    return ST_NEXT;
}

/* ---- masked stores to [eDI]: the operand is implicit, and only the selected bytes are touched ---- */

static int masked_store(struct interp *ip, struct cpu *c, const struct insn *in, const u8 *data, const u8 *mask,
                        unsigned n)
{
    u32 width = in->addrsize == 4 ? ~0u : 0xffffu;
    laddr la;
    if (seg_to_linear(c, in->seg, c->gpr[G_EDI] & width, n, ACC_W, &la))
        return ST_FAULT; /* even if nothing is selected */
    for (unsigned i = 0; i < n; i++)
        if (mask[i] & 0x80 && interp_probe_write(ip, in->seg, (c->gpr[G_EDI] + i) & width, 1)) return ST_FAULT;
    for (unsigned i = 0; i < n; i++)
        if (mask[i] & 0x80 && store(ip, c, in->seg, (c->gpr[G_EDI] + i) & width, 1, data[i])) return ST_FAULT;
    return ST_NEXT;
}

HANDLER(do_maskmovdqu)
{
    int st = check_sse(c, in);
    if (st) return st;
    return masked_store(ip, c, in, c->fx.xmm[in->opnd[0].reg], c->fx.xmm[in->opnd[1].reg], 16);
}
HANDLER(do_maskmovq)
{
    int st = check_mmx(c);
    if (st) return st;
    unsigned top = c->fx.fsw >> FSW_TOP_SHIFT & 7;
    const u8 *data = c->fx.st[(in->opnd[0].reg - top) & 7], *mask = c->fx.st[(in->opnd[1].reg - top) & 7];
    if (masked_store(ip, c, in, data, mask, 8)) return ST_FAULT;
    mmx_enter(&c->fx);
    return ST_NEXT;
}

/* ---- which ---- */

/* Those by which nothing may be pending any more. */
#define MAY_CLEAR(name, fn)                                                    \
    HANDLER(name)                                                              \
    {                                                                          \
        int st = fn(ip, c, in);                                                \
        if (unlikely(c->ferr) && !x87_pending(&c->fx)) cpu_set_ferr(c, false); \
        return st;                                                             \
    }
MAY_CLEAR(do_x87_control, x87_control)
MAY_CLEAR(do_fnstenv, x87_fnstenv)
MAY_CLEAR(do_fldenv, x87_fldenv)
MAY_CLEAR(do_fnsave, x87_fnsave)
MAY_CLEAR(do_frstor, x87_frstor)
MAY_CLEAR(do_fxrstor, x87_fxrstor)

interp_fn interp_fpu_handler(const struct insn *in)
{
    switch (in->op) {
    case OP_FWAIT: return do_fwait;
    case OP_FNINIT:
    case OP_FNCLEX:
    case OP_FNSTSW:
    case OP_FNSTCW:
    case OP_FLDCW:
    case OP_FNENI:
    case OP_FNDISI:
    case OP_FNSETPM: return do_x87_control;
    case OP_FNSTENV: return do_fnstenv;
    case OP_FLDENV: return do_fldenv;
    case OP_FNSAVE: return do_fnsave;
    case OP_FRSTOR: return do_frstor;
    case OP_FXSAVE: return do_fxsave;
    case OP_FXRSTOR: return do_fxrstor;
    case OP_LDMXCSR:
    case OP_STMXCSR: return do_mxcsr;
    case OP_MASKMOVDQU: return do_maskmovdqu;
    case OP_MASKMOVQ: return do_maskmovq;
    default: break;
    }
    return in->row->cls == CLS_x87 ? do_x87 : in->row->cls == CLS_mmx ? do_mmx : do_sse;
}
