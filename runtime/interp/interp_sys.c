/* Privileged, sensitive and far instructions: classes seg, flag, sys and io, and INTO.
 *
 * What they do to the CPU is in cpu.c, seg.c, far.c and except.c; here are operands, privilege checks and order. A_PRIV
 * is checked before anything else, except that what protected mode alone knows is #UD elsewhere. */
#include "runtime/cpu/probe.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/far.h"
#include "runtime/cpu/msr.h"
#include "core/bus.h"
#include "runtime/cpu/cpu_trace.h"
#include "runtime/interp/interp_core.h"
#include "runtime/interp/interp_sys.h"

#define HANDLER(name) static int name(struct interp *ip UNUSED, struct cpu *c UNUSED, const struct insn *in UNUSED)

static int raise_gp(struct cpu *c) { return exc_raise_err(c, V_GP, 0); }
static bool in_vm86(const struct cpu *c) { return c->eflags_sys & F_VM; }
static void set_zf(struct cpu *c, bool zf) { c->aflags = (c->aflags & ~(u32)F_ZF) | flag_if(zf, F_ZF); }

/* ---- ports ---- */

#define TSS32_TYPE 9 /* and 11, busy */
#define TSS_IOMAP_OFFSET 0x66
#define TSS32_LIMIT_MIN 0x67

int interp_io_check(struct interp *ip, u16 port, unsigned size)
{
    struct cpu *c = ip->c;
    u64 base, bits;
    if (!(c->cr0 & CR0_PE) || (!in_vm86(c) && c->cpl <= cpu_iopl(c))) return 0;
    bool tss32 = (c->tr.attr & SEG_P) && (c->tr.attr & SEG_TYPE & ~2u) == TSS32_TYPE;
    if (!tss32 || c->tr.limit < TSS32_LIMIT_MIN) return raise_gp(c);
    if (mem_read(c, c->tr.base + TSS_IOMAP_OFFSET, 2, false, &base)) return ST_FAULT;
    u32 at = (u32)base + port / 8; /* two bytes are always read, so one behind the map must be there */
    if (at + 1 > c->tr.limit) return raise_gp(c);
    if (mem_read(c, c->tr.base + at, 2, false, &bits)) return ST_FAULT;
    return bits >> port % 8 & ((1u << size) - 1) ? raise_gp(c) : 0;
}

u32 interp_io_in(struct interp *ip, u16 port, unsigned size)
{
    interp_watch_io(ip, port, size);
    ip->c->ctr.pio++;
    u32 val = bus_in(ip->c->bus, port, size) & size_mask(size);
    probe_tell(ip->c, EV_IN, port, size, val, 0);
    CPU_TRACE(ip->c, io, "in  %04x.%u = %x at %08x\n", port, size, val, ip->c->eip);
    return val;
}

void interp_io_out(struct interp *ip, u16 port, unsigned size, u32 val)
{
    interp_watch_io(ip, port, size);
    ip->c->ctr.pio++;
    probe_tell(ip->c, EV_OUT, port, size, val & size_mask(size), 0);
    CPU_TRACE(ip->c, io, "out %04x.%u = %x at %08x\n", port, size, val & size_mask(size), ip->c->eip);
    bus_out(ip->c->bus, port, size, val & size_mask(size));
}

/* For who has no probes to tell. */
u32 interp_io_in_string(struct interp *ip, u16 port, unsigned size, u8 *to, u32 n)
{
    n = bus_in_string(ip->c->bus, port, size, to, n);
    ip->c->ctr.pio += n;
    if (n) CPU_TRACE(ip->c, io, "in  %04x.%u, %u times at %08x\n", port, size, n, ip->c->eip);
    return n;
}

u32 interp_io_out_string(struct interp *ip, u16 port, unsigned size, const u8 *from, u32 n)
{
    n = bus_out_string(ip->c->bus, port, size, from, n);
    ip->c->ctr.pio += n;
    if (n) CPU_TRACE(ip->c, io, "out %04x.%u, %u times at %08x\n", port, size, n, ip->c->eip);
    return n;
}

static u16 port_operand(const struct cpu *c, const struct insn *in, unsigned i)
{
    return in->opnd[i].kind == OPK_IMM ? (u16)(in->imm & 0xff) : (u16)c->gpr[G_EDX];
}

HANDLER(do_in)
{
    unsigned size = in->opnd[0].size;
    u16 port = port_operand(c, in, 1);
    if (interp_io_check(ip, port, size)) return ST_FAULT;
    c->eip = in->eip; /* for devices that trace */
    reg_set(c, G_EAX, size, interp_io_in(ip, port, size));
    return ST_NEXT;
}
HANDLER(do_out)
{
    unsigned size = in->opnd[1].size;
    u16 port = port_operand(c, in, 0);
    if (interp_io_check(ip, port, size)) return ST_FAULT;
    c->eip = in->eip;
    interp_io_out(ip, port, size, c->gpr[G_EAX]);
    return ST_NEXT;
}

/* ---- EFLAGS ---- */

static bool may_change_if(const struct cpu *c)
{
    if (in_vm86(c)) return cpu_iopl(c) == 3;
    return !(c->cr0 & CR0_PE) || c->cpl <= cpu_iopl(c);
}

HANDLER(do_cli)
{
    if (may_change_if(c)) c->iflag = 0;
    else if (cpu_uses_vif(c)) c->eflags_sys &= ~(u32)F_VIF;
    else return raise_gp(c);
    return ST_NEXT;
}

HANDLER(do_sti)
{
    if (may_change_if(c)) {
        if (!c->iflag) c->intr_shadow = SHADOW_STI;
        c->iflag = 1;
    } else if (cpu_uses_vif(c) && !(c->eflags_sys & F_VIP)) c->eflags_sys |= F_VIF;
    else return raise_gp(c);
    return ST_NEXT;
}

HANDLER(do_pushf)
{
    u32 f = cpu_eflags(c) & ~(u32)(F_RF | F_VM);
    if (in_vm86(c) && cpu_iopl(c) < 3) {
        if (!(c->cr4 & CR4_VME) || in->opsize == 4) return raise_gp(c);
        f = (f & ~(u32)F_IF) | F_IOPL | flag_if(f & F_VIF, F_IF);
    }
    return push(ip, c, in->opsize, f);
}

/* POPF with IF standing for VIF. */
static int popf_vme(struct cpu *c, u32 new)
{
    if ((new &F_TF) || ((new &F_IF) && (c->eflags_sys & F_VIP))) return raise_gp(c);
    u32 change = F_ARITH | F_TF | F_DF | F_NT;
    u32 f = (cpu_eflags(c) & ~(change | F_VIF)) | (new &change) | flag_if(new &F_IF, F_VIF);
    cpu_set_eflags(c, f);
    return ST_NEXT;
}

HANDLER(do_popf)
{
    u32 new, old = cpu_eflags(c), change = F_ARITH | F_TF | F_DF | F_NT;
    bool vme = in_vm86(c) && cpu_iopl(c) < 3;
    if (vme && (!(c->cr4 & CR4_VME) || in->opsize == 4)) return raise_gp(c);
    if (stack_peek(ip, c, 0, in->opsize, &new)) return ST_FAULT;
    if (vme) {
        if (popf_vme(c, new)) return ST_FAULT;
    } else {
        if (may_change_if(c)) change |= F_IF;
        if (c->cpl == 0 && !in_vm86(c)) change |= F_IOPL;
        if (in->opsize == 4) change |= (F_AC | F_ID) & c->eflags_known;
        cpu_set_eflags(c, ((old & ~change) | (new &change)) & ~(u32)F_RF);
    }
    stack_set(c, c->gpr[G_ESP] + in->opsize);
    if ((old ^ cpu_eflags(c)) & (F_TF | F_AC)) cpu_update_mode(c);
    return ST_NEXT;
}

/* ---- segment registers ---- */

HANDLER(do_mov_to_sreg)
{
    u32 sel;
    if (operand_read(ip, c, in, 1, &sel)) return ST_FAULT;
    if (seg_load(c, (enum segreg)in->opnd[0].reg, (u16)sel)) return ST_FAULT;
    if (in->opnd[0].reg == S_SS) c->intr_shadow = SHADOW_SS;
    return ST_NEXT;
}

HANDLER(do_mov_from_sreg) { return operand_write(ip, c, in, 0, c->seg[in->opnd[1].reg].sel); }
HANDLER(do_push_sreg) { return push(ip, c, in->opsize, c->seg[in->opnd[0].reg].sel); }

HANDLER(do_pop_sreg) /* the width of ESP is that of the old SS */
{
    u32 sel, mask = stack_mask(c), esp = c->gpr[G_ESP];
    if (stack_peek(ip, c, 0, in->opsize, &sel)) return ST_FAULT;
    if (seg_load(c, (enum segreg)in->opnd[0].reg, (u16)sel)) return ST_FAULT;
    c->gpr[G_ESP] = (esp & ~mask) | ((esp + in->opsize) & mask);
    if (in->opnd[0].reg == S_SS) c->intr_shadow = SHADOW_SS;
    return ST_NEXT;
}

/* A far pointer in memory. */
static int read_far(struct interp *ip, const struct insn *in, u32 *off, u16 *sel)
{
    u8 p[6];
    if (interp_read_parts(ip, in->seg, insn_ea(ip->c, in), p, in->opsize + 2u, in->opsize)) return ST_FAULT;
    *off = host_load(p, in->opsize);
    *sel = (u16)host_load(p + in->opsize, 2);
    return 0;
}

HANDLER(do_lds)
{
    u32 off;
    u16 sel;
    if (read_far(ip, in, &off, &sel)) return ST_FAULT;
    if (seg_load(c, (enum segreg)in->opnd[2].reg, sel)) return ST_FAULT;
    reg_set(c, in->opnd[0].reg, in->opsize, off);
    return ST_NEXT;
}

/* ---- far transfers ---- */

HANDLER(do_far)
{
    u32 off = in->imm;
    u16 sel = (u16)in->imm2;
    if (in->opnd[0].kind == OPK_MEM && read_far(ip, in, &off, &sel)) return ST_FAULT;
    c->eip = in->eip;
    if (in->op == OP_JMPF ? far_jmp(c, sel, off, in->opsize) : far_call(c, sel, off, in->next, in->opsize))
        return ST_FAULT;
    return ST_JUMP;
}

HANDLER(do_retf)
{
    c->eip = in->eip;
    return far_ret(c, in->opsize, in->nops ? (u16)in->imm : 0) ? ST_FAULT : ST_JUMP;
}
HANDLER(do_iret)
{
    c->eip = in->eip;
    return far_iret(c, in->opsize) ? ST_FAULT : ST_JUMP;
}
HANDLER(do_sysenter)
{
    c->eip = in->eip;
    return (in->op == OP_SYSENTER ? far_sysenter(c) : far_sysexit(c)) ? ST_FAULT : ST_JUMP;
}

HANDLER(do_int)
{
    u8 vector = in->op == OP_INT ? (u8)in->imm : in->op == OP_INT3 ? V_BP : in->op == OP_INTO ? V_OF : V_DB;
    if (in->op == OP_INTO && !(c->aflags & F_OF)) return ST_NEXT;
    c->eip = in->eip;
    return exc_soft_int(c, vector, in->next, in->op == OP_INT) ? ST_FAULT : ST_JUMP;
}

/* ---- descriptor tables ---- */

HANDLER(do_store_sel)
{
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    return operand_write(ip, c, in, 0, in->op == OP_SLDT ? c->ldtr.sel : c->tr.sel);
}

HANDLER(do_load_sel)
{
    u32 sel;
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (c->cpl) return raise_gp(c);
    if (operand_read(ip, c, in, 0, &sel)) return ST_FAULT;
    return in->op == OP_LLDT ? seg_lldt(c, (u16)sel) : seg_ltr(c, (u16)sel);
}

HANDLER(do_verr)
{
    u32 sel;
    int fault = 0;
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (operand_read(ip, c, in, 0, &sel)) return ST_FAULT;
    bool ok = seg_verr(c, (u16)sel, in->op == OP_VERW, &fault);
    if (fault) return ST_FAULT;
    set_zf(c, ok);
    return ST_NEXT;
}

HANDLER(do_lar_lsl)
{
    u32 sel, v = 0;
    int fault = 0;
    if (!cpu_protected(c)) return exc_raise(c, V_UD);
    if (operand_read(ip, c, in, 1, &sel)) return ST_FAULT;
    bool ok = in->op == OP_LAR ? seg_lar(c, (u16)sel, &v, &fault) : seg_lsl(c, (u16)sel, &v, &fault);
    if (fault) return ST_FAULT;
    if (ok) reg_set(c, in->opnd[0].reg, in->opnd[0].size, v);
    set_zf(c, ok);
    return ST_NEXT;
}

HANDLER(do_store_table)
{
    const struct table_reg *t = in->op == OP_SGDT ? &c->gdtr : &c->idtr;
    u8 p[6];
    host_store(p, 2, t->limit);
    host_store(p + 2, 4, t->base);
    return interp_write_buf(ip, in->seg, insn_ea(c, in), p, sizeof p);
}

HANDLER(do_load_table)
{
    u8 p[6];
    if (interp_read_buf(ip, in->seg, insn_ea(c, in), p, sizeof p)) return ST_FAULT;
    struct table_reg t = { .base = host_load(p + 2, 4) & (in->opsize == 4 ? ~0u : 0xffffffu),
                           .limit = host_load(p, 2) };
    if (in->op == OP_LGDT) c->gdtr = t;
    else c->idtr = t;
    return ST_NEXT;
}

/* ---- control, debug and model-specific registers ---- */

HANDLER(do_smsw) { return operand_write(ip, c, in, 0, c->cr0); }

HANDLER(do_lmsw) /* may set PE, but not clear it */
{
    u32 v;
    if (operand_read(ip, c, in, 0, &v)) return ST_FAULT;
    const u32 msw = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    return cpu_write_cr(c, 0, (c->cr0 & ~(msw & ~(u32)CR0_PE)) | (v & msw));
}

HANDLER(do_clts)
{
    c->cr0 &= ~(u32)CR0_TS;
    return ST_NEXT;
}

#define DR7_GD (1u << 13) /* general detect: debug registers belong to an in-circuit emulator */

HANDLER(do_mov_cr)
{
    if (in->op == OP_MOV_TO_CR) return cpu_write_cr(c, in->opnd[0].reg, c->gpr[in->opnd[1].reg]);
    return cpu_read_cr(c, in->opnd[1].reg, &c->gpr[in->opnd[0].reg]);
}
HANDLER(do_mov_dr)
{
    if (c->dr[7] & DR7_GD) {
        c->eflags_sys |= F_RF; /* a fault: in the image that is pushed */
        return exc_raise_db(c, DR6_BD);
    }
    if (in->op == OP_MOV_TO_DR) return cpu_write_dr(c, in->opnd[0].reg, c->gpr[in->opnd[1].reg]);
    return cpu_read_dr(c, in->opnd[1].reg, &c->gpr[in->opnd[0].reg]);
}

HANDLER(do_rdmsr)
{
    u64 v;
    if (cpu_rdmsr(c, c->gpr[G_ECX], &v)) return ST_FAULT;
    c->gpr[G_EAX] = (u32)v;
    c->gpr[G_EDX] = (u32)(v >> 32);
    return ST_NEXT;
}
HANDLER(do_wrmsr) { return cpu_wrmsr(c, c->gpr[G_ECX], (u64)c->gpr[G_EDX] << 32 | c->gpr[G_EAX]); }

HANDLER(do_rdtsc)
{
    if ((c->cr4 & CR4_TSD) && c->cpl) return raise_gp(c);
    u64 tsc = cpu_tsc(c);
    c->gpr[G_EAX] = (u32)tsc;
    c->gpr[G_EDX] = (u32)(tsc >> 32);
    return ST_NEXT;
}

HANDLER(do_rdpmc)
{
    u64 v;
    if (cpu_rdpmc(c, c->gpr[G_ECX], &v)) return ST_FAULT;
    c->gpr[G_EAX] = (u32)v;
    c->gpr[G_EDX] = (u32)(v >> 32);
    return ST_NEXT;
}

HANDLER(do_cpuid)
{
    u32 out[4];
    cpu_cpuid(c, c->gpr[G_EAX], c->gpr[G_ECX], out);
    CPU_TRACE(c, msr, "cpuid %08x.%x: %08x %08x %08x %08x\n", c->gpr[G_EAX], c->gpr[G_ECX], out[0], out[1], out[2],
              out[3]);
    c->gpr[G_EAX] = out[0];
    c->gpr[G_EBX] = out[1];
    c->gpr[G_ECX] = out[2];
    c->gpr[G_EDX] = out[3];
    return ST_NEXT;
}

/* ---- the rest ---- */

HANDLER(do_invlpg)
{
    cpu_invlpg(c, insn_ea(c, in) + c->seg[in->seg].base);
    return ST_NEXT;
}

HANDLER(do_nop) { return ST_NEXT; } /* INVD, WBINVD: caches are coherent here */

HANDLER(do_hlt)
{
    c->halted = 1;
    c->ctr.halts++;
    return ST_NEXT;
}

HANDLER(do_monitor)
{
    laddr la;
    u32 ea = in->addrsize == 4 ? c->gpr[G_EAX] : c->gpr[G_EAX] & 0xffff;
    if (c->cpl) return exc_raise(c, V_UD);
    if (c->gpr[G_ECX]) return raise_gp(c);
    if (seg_to_linear(c, in->seg, ea, 1, ACC_R, &la)) return ST_FAULT;
    return mem_probe_read(c, la, 1, false);
}

/* Waits like HLT if an interrupt can end it. Otherwise a NOP, which MWAIT may always be (SDM vol. 2, MWAIT): what would
 * end it is a store by someone else. */
HANDLER(do_mwait)
{
    if (c->cpl) return exc_raise(c, V_UD);
    if (c->gpr[G_ECX] & ~1u) return raise_gp(c);
    if (c->iflag) {
        c->halted = 1;
        c->ctr.halts++;
    }
    return ST_NEXT;
}

/* ---- which ---- */

static interp_fn unprivileged(const struct insn *in)
{
    switch (in->op) {
    case OP_IN: return do_in;
    case OP_OUT: return do_out;
    case OP_CLI: return do_cli;
    case OP_STI: return do_sti;
    case OP_PUSHF: return do_pushf;
    case OP_POPF: return do_popf;
    case OP_MOV_TO_SREG: return do_mov_to_sreg;
    case OP_MOV_FROM_SREG: return do_mov_from_sreg;
    case OP_PUSH_SREG: return do_push_sreg;
    case OP_POP_SREG: return do_pop_sreg;
    case OP_LDS:
    case OP_LES:
    case OP_LSS:
    case OP_LFS:
    case OP_LGS: return do_lds;
    case OP_JMPF:
    case OP_CALLF: return do_far;
    case OP_RETF: return do_retf;
    case OP_IRET: return do_iret;
    case OP_SYSENTER:
    case OP_SYSEXIT: return do_sysenter;
    case OP_INT:
    case OP_INT3:
    case OP_INTO:
    case OP_INT1: return do_int;
    case OP_SLDT:
    case OP_STR: return do_store_sel;
    case OP_LLDT:
    case OP_LTR: return do_load_sel;
    case OP_VERR:
    case OP_VERW: return do_verr;
    case OP_LAR:
    case OP_LSL: return do_lar_lsl;
    case OP_SGDT:
    case OP_SIDT: return do_store_table;
    case OP_SMSW: return do_smsw;
    case OP_RDTSC: return do_rdtsc;
    case OP_RDPMC: return do_rdpmc;
    case OP_CPUID: return do_cpuid;
    case OP_MONITOR: return do_monitor;
    case OP_MWAIT: return do_mwait;
    default: return NULL;
    }
}

/* Those that are #GP(0) outside of CPL 0 and nothing else beforehand. */
#define PRIVILEGED(name, fn) \
    HANDLER(name) { return c->cpl ? raise_gp(c) : fn(ip, c, in); }
PRIVILEGED(priv_load_table, do_load_table)
PRIVILEGED(priv_lmsw, do_lmsw)
PRIVILEGED(priv_clts, do_clts)
PRIVILEGED(priv_mov_cr, do_mov_cr)
PRIVILEGED(priv_mov_dr, do_mov_dr)
PRIVILEGED(priv_rdmsr, do_rdmsr)
PRIVILEGED(priv_wrmsr, do_wrmsr)
PRIVILEGED(priv_invlpg, do_invlpg)
PRIVILEGED(priv_nop, do_nop)
PRIVILEGED(priv_hlt, do_hlt)

static interp_fn privileged(const struct insn *in)
{
    switch (in->op) {
    case OP_LGDT:
    case OP_LIDT: return priv_load_table;
    case OP_LMSW: return priv_lmsw;
    case OP_CLTS: return priv_clts;
    case OP_MOV_TO_CR:
    case OP_MOV_FROM_CR: return priv_mov_cr;
    case OP_MOV_TO_DR:
    case OP_MOV_FROM_DR: return priv_mov_dr;
    case OP_RDMSR: return priv_rdmsr;
    case OP_WRMSR: return priv_wrmsr;
    case OP_INVLPG: return priv_invlpg;
    case OP_INVD:
    case OP_WBINVD: return priv_nop;
    case OP_HLT: return priv_hlt;
    default: return NULL;
    }
}

interp_fn interp_sys_handler(const struct insn *in)
{
    interp_fn fn = unprivileged(in);
    if (!fn) fn = privileged(in);
    BUG_ON(!fn); /* a row of insn.def that nobody interprets: test_interp.c walks them all */
    return fn;
}
