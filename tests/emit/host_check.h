/* What must hold of every block's host code, whatever the guest's bytes were. Returns NULL, or a sentence saying what
 * does not.
 *
 *   H1  every byte decodes; no instruction is one that would leave the process or change what the host runs on.
 *   H2  direct branches go to instruction starts of the same block; indirect ones go through struct cpu's callouts or
 *       R13.
 *   H3  R12, R13 and R15 are never written, RSP only by a balanced PUSHFQ and POP.
 *   H4  memory is reached through R15 (struct cpu, the soft TLB; only the former is written), R13 (read only), R9+R8 as
 *       an address that the soft TLB has vouched for, R12 with or without one register that is not scaled (in modes
 *       with a window: that register holds 32 bits, so the sum lies in the window or its guards, see
 *       runtime/mem/window.h), or RSI right behind a LEA of one of the last two. In modes with a window R12 is nothing
 *       else. A block that compares its bytes reads them, into RCX, from where R8 and a displacement of no more than
 *       its length lead: R8 is the RAM view and the block's own physical address, which the embedder has looked up.
 *   H5  records ascend in host offset, the first is at 0, and each names the start of a guest instruction of the block.
 *   H6  the guest's registers hold 32 bits: of the registers that 64-bit code has, only R8-R11, RCX (from the soft TLB,
 *   from the bytes that are compared, in segmented code from limits and jump entries, or a copy of itself)
 *       and RSI (see H4) are ever written with 64, and none of these is added to R12 while it holds them. */
#ifndef TESTS_EMIT_HOST_CHECK_H
#define TESTS_EMIT_HOST_CHECK_H
#include "tests/emit/xl_fixture.h"

#include <capstone/capstone.h>

struct host_check {
    csh cs;
    cs_insn *ci;
    bool window;      /* the block's mode has one */
    bool segmented;   /* it looks at limits, and at jump entries that name a context */
    u32 compares;     /* bytes of it that it compares */
    bool rsi_is_host; /* H4: the instruction before was the LEA */
    u32 wide;         /* H6: 1 << enum hreg */
    char text[128], where[400];
};

static inline void host_check_init(struct host_check *h)
{
    BUG_ON(cs_open(CS_ARCH_X86, CS_MODE_64, &h->cs) != CS_ERR_OK);
    cs_option(h->cs, CS_OPT_DETAIL, CS_OPT_ON);
    h->ci = cs_malloc(h->cs);
}
static inline void host_check_free(struct host_check *h)
{
    cs_free(h->ci, 1);
    cs_close(&h->cs);
}

#define HOST_FAIL(h, ...) (snprintf((h)->text, sizeof(h)->text, __VA_ARGS__), (h)->text)

static inline bool host_is_scratch_address(const cs_x86_op *op, x86_reg base, x86_reg index)
{
    return op->mem.base == base && op->mem.index == index && op->mem.disp == 0;
}

/* The 64-bit register that reg is all of, or -1. */
static inline int host_wide_reg(unsigned reg)
{
    static const u16 wide[16] = { X86_REG_RAX, X86_REG_RCX, X86_REG_RDX, X86_REG_RBX, X86_REG_RSP, X86_REG_RBP,
                                  X86_REG_RSI, X86_REG_RDI, X86_REG_R8,  X86_REG_R9,  X86_REG_R10, X86_REG_R11,
                                  X86_REG_R12, X86_REG_R13, X86_REG_R14, X86_REG_R15 };
    for (int i = 0; i < 16; i++)
        if (wide[i] == reg) return i;
    return -1;
}

/* The 64-bit register that reg is the lower half of, or -1. */
static inline int host_half_reg(unsigned reg)
{
    static const u16 half[16] = { X86_REG_EAX,  X86_REG_ECX,  X86_REG_EDX,  X86_REG_EBX, X86_REG_ESP,  X86_REG_EBP,
                                  X86_REG_ESI,  X86_REG_EDI,  X86_REG_R8D,  X86_REG_R9D, X86_REG_R10D, X86_REG_R11D,
                                  X86_REG_R12D, X86_REG_R13D, X86_REG_R14D, X86_REG_R15D };
    for (int i = 0; i < 16; i++)
        if (half[i] == reg) return i;
    return -1;
}

static inline const char *host_check_window(struct host_check *h, const cs_x86_op *op)
{
    if (!h->window) return HOST_FAIL(h, "a window in a mode without");
    if (op->mem.index == X86_REG_INVALID) return NULL;
    int r = host_wide_reg(op->mem.index);
    if (op->mem.scale != 1 || r < 0 || r == H_R12 || r == H_R13 || r == H_R15)
        return HOST_FAIL(h, "not a window's address");
    return h->wide & 1u << r ? HOST_FAIL(h, "an address of 64 bits in a window") : NULL;
}

/* H4. base RSI: only right behind the LEA that made it. */
static inline const char *host_check_mem(struct host_check *h, const cs_x86 *x, const cs_x86_op *op)
{
    bool write = (op->access & CS_AC_WRITE) != 0;
    if (op->mem.segment != X86_REG_INVALID) return HOST_FAIL(h, "segment override");
    if (x->addr_size != 8) return HOST_FAIL(h, "32-bit address");
    if (op->mem.base == X86_REG_R12) return host_check_window(h, op);
    if (op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_INVALID)
        return op->mem.disp >= CPU_TALLY_AT && op->mem.disp + op->size <= (s64)sizeof(struct cpu)
                   ? NULL
                   : HOST_FAIL(h, "outside of struct cpu and its counts");
    if (op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_R9) {
        s64 table = op->mem.disp - CPU_TLB_AT;
        return !write && op->mem.scale == 8 && table >= 0 && table % (s64)TLB_TABLE_BYTES == 0
                       && table / (s64)TLB_TABLE_BYTES < TLB_KINDS
                   ? NULL
                   : HOST_FAIL(h, "not a soft-TLB table");
    }
    if (op->mem.base == X86_REG_R13) {
        s64 room = op->mem.index == X86_REG_R9 ? 16 : (s64)(sizeof(struct jump_entry) * JUMP_ENTRIES);
        return !write && op->mem.disp >= 0 && op->mem.disp + op->size <= room
                   ? NULL
                   : HOST_FAIL(h, "outside of the jump cache");
    }
    if (op->mem.base == X86_REG_R8 && op->mem.index == X86_REG_INVALID && h->compares)
        return !write && op->size == 8 && op->mem.disp >= 0 && op->mem.disp < h->compares
                   ? NULL
                   : HOST_FAIL(h, "outside of the block's bytes");
    if (host_is_scratch_address(op, X86_REG_R9, X86_REG_R8)) return NULL;
    if (h->rsi_is_host && host_is_scratch_address(op, X86_REG_RSI, X86_REG_INVALID)) return NULL;
    return HOST_FAIL(h, "memory reached through neither cpu, TLB, jump cache nor window");
}

static inline const char *host_check_forbidden(struct host_check *h, unsigned id)
{
    switch (id) {
    case X86_INS_SYSCALL:
    case X86_INS_SYSENTER:
    case X86_INS_SYSEXIT:
    case X86_INS_SYSRET:
    case X86_INS_INT:
    case X86_INS_INT1:
    case X86_INS_INT3:
    case X86_INS_HLT:
    case X86_INS_IN:
    case X86_INS_OUT:
    case X86_INS_CPUID:
    case X86_INS_POPFQ:
    case X86_INS_POPF:
    case X86_INS_STD:
    case X86_INS_CLI:
    case X86_INS_STI:
    case X86_INS_RET:
    case X86_INS_RETF:
    case X86_INS_IRETQ:
    case X86_INS_WRGSBASE:
    case X86_INS_WRFSBASE:
    case X86_INS_SWAPGS:
    case X86_INS_SGDT:
    case X86_INS_SIDT:
    case X86_INS_SLDT:
    case X86_INS_STR:
    case X86_INS_SMSW:
    case X86_INS_LJMP:
    case X86_INS_LCALL:
    case X86_INS_UD2:
    case X86_INS_FXSAVE:
    case X86_INS_FNSAVE:
    case X86_INS_FNSTENV:
    case X86_INS_MOVSB:
    case X86_INS_STOSB: return HOST_FAIL(h, "forbidden instruction");
    default: return NULL;
    }
}

/* H6: RCX is what an access has left of a limit, or a jump entry's tag and what is looked for. */
static inline bool host_limits(const struct host_check *h, const cs_insn *ci)
{
    const cs_x86_op *op = ci->detail->x86.operands;
    if (!h->segmented) return false;
    if (ci->id == X86_INS_MOV) return op[1].type == X86_OP_MEM && op[1].mem.base == X86_REG_R13;
    if (ci->id == X86_INS_SHRX) return op[1].reg == X86_REG_RCX;
    return ci->id == X86_INS_LEA
           && (op[1].mem.base == X86_REG_RCX || op[1].mem.index == X86_REG_R9) /* [rcx+r8], [r8+r9] */;
}

/* H6: RCX is made of bytes that are compared. */
static inline bool host_compares(const struct host_check *h, const cs_insn *ci)
{
    const cs_x86_op *op = ci->detail->x86.operands;
    if (!h->compares) return false;
    if (ci->id == X86_INS_MOV) return op[1].type == X86_OP_MEM && op[1].mem.base == X86_REG_R8;
    if (ci->id == X86_INS_LEA) return op[1].mem.base == X86_REG_RCX && op[1].mem.index == X86_REG_R9;
    return ci->id == X86_INS_SHLX && op[1].reg == X86_REG_RCX;
}

/* H6 */
static inline const char *host_check_wide(struct host_check *h, const cs_insn *ci, const uint16_t *write, unsigned n)
{
    const cs_x86_op *op = ci->detail->x86.operands;
    if (ci->id == X86_INS_RDTSC) return NULL; /* EDX:EAX; capstone has it write RAX and RDX */
    for (unsigned i = 0; i < n; i++) {
        int w = host_wide_reg(write[i]), half = host_half_reg(write[i]);
        if (half >= 0) h->wide &= ~(1u << half);
        if (w < 0 || w == H_SP) continue;
        bool mov = ci->id == X86_INS_MOV || ci->id == X86_INS_MOVABS, copy = mov && op[1].type == X86_OP_REG;
        bool back = copy && ((w == H_CX && op[1].reg == X86_REG_R10) || (w == H_SI && op[1].reg == X86_REG_R11));
        bool host = (w >= H_R8 && w <= H_R11) || (w == H_CX && mov && op[1].mem.base == X86_REG_R15)
                    || (w == H_CX && (host_compares(h, ci) || host_limits(h, ci)))
                    || (w == H_SI && ci->id == X86_INS_LEA);
        if (!back && !host) return HOST_FAIL(h, "writes 64 bits to %s", cs_reg_name(h->cs, write[i]));
        if (back) h->wide &= ~(1u << w);
        else h->wide |= 1u << w;
    }
    return NULL;
}

/* H3 */
static inline const char *host_check_writes(struct host_check *h, const cs_insn *ci)
{
    cs_regs read, write;
    uint8_t nr, nw;
    if (ci->id == X86_INS_CALL || ci->id == X86_INS_JMP) return NULL;
    if (cs_regs_access(h->cs, ci, read, &nr, write, &nw)) return HOST_FAIL(h, "no register information");
    for (unsigned i = 0; i < nw; i++) switch (write[i]) {
        case X86_REG_R12:
        case X86_REG_R12D:
        case X86_REG_R12W:
        case X86_REG_R12B:
        case X86_REG_R13:
        case X86_REG_R13D:
        case X86_REG_R13W:
        case X86_REG_R13B:
        case X86_REG_R15:
        case X86_REG_R15D:
        case X86_REG_R15W:
        case X86_REG_R15B:
        case X86_REG_ESP:
        case X86_REG_SP:
        case X86_REG_SPL: return HOST_FAIL(h, "writes %s", cs_reg_name(h->cs, write[i]));
        case X86_REG_RSP:
            if (ci->id != X86_INS_PUSHFQ && ci->id != X86_INS_POP) return HOST_FAIL(h, "writes rsp");
            break;
        case X86_REG_CS:
        case X86_REG_DS:
        case X86_REG_ES:
        case X86_REG_SS:
        case X86_REG_FS:
        case X86_REG_GS: return HOST_FAIL(h, "writes a segment register");
        default: break;
        }
    return host_check_wide(h, ci, write, nw);
}

/* Byte registers that a REX prefix turns into the low bytes of RSP..RDI are never meant. */
static inline const char *host_check_bytes(struct host_check *h, const cs_x86 *x)
{
    for (unsigned i = 0; i < x->op_count; i++)
        if (x->operands[i].type == X86_OP_REG) switch (x->operands[i].reg) {
            case X86_REG_SPL:
            case X86_REG_BPL:
            case X86_REG_SIL:
            case X86_REG_DIL: return HOST_FAIL(h, "AH..BH became SPL..DIL");
            default: break;
            }
    return NULL;
}

static inline const char *host_check_branch(struct host_check *h, const cs_insn *ci, const u8 *starts, u32 len)
{
    const cs_x86_op *op = &ci->detail->x86.operands[0];
    if (op->type == X86_OP_IMM)
        return (u64)op->imm < len && starts[op->imm]
                   ? NULL
                   : HOST_FAIL(h, "branch to %llx, which starts nothing", (long long)op->imm);
    if (op->type == X86_OP_REG) return HOST_FAIL(h, "branch through a register");
    if (op->mem.base == X86_REG_R13) return NULL;
    s64 slot = op->mem.disp - (s64)offsetof(struct cpu, callouts);
    return op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_INVALID && slot >= 0 && slot % 8 == 0
                   && slot / 8 < CALLOUT_COUNT
               ? NULL
               : HOST_FAIL(h, "branch through something else than callouts");
}

static inline bool host_is_branch(const struct host_check *h, const cs_insn *ci)
{
    return cs_insn_group(h->cs, ci, X86_GRP_JUMP) || cs_insn_group(h->cs, ci, X86_GRP_CALL) || ci->id == X86_INS_JMP
           || ci->id == X86_INS_CALL;
}

/* What a LEA may make of RSI: an address that would do as an operand. */
static inline bool host_makes_rsi(const struct host_check *h, const cs_insn *ci)
{
    const cs_x86_op *op = ci->detail->x86.operands;
    if (ci->id != X86_INS_LEA || op[0].reg != X86_REG_RSI) return false;
    return host_is_scratch_address(&op[1], X86_REG_R9, X86_REG_R8) || (h->window && op[1].mem.base == X86_REG_R12);
}

static inline const char *host_check_insn(struct host_check *h, const cs_insn *ci)
{
    const cs_x86 *x = &ci->detail->x86;
    const char *err = host_check_forbidden(h, ci->id);
    for (unsigned i = 0; i < x->op_count && !err; i++) {
        const cs_x86_op *op = &x->operands[i];
        bool makes_rsi = ci->id == X86_INS_LEA && x->operands[0].reg == X86_REG_RSI;
        if (op->type == X86_OP_MEM && (ci->id != X86_INS_LEA || makes_rsi)) err = host_check_mem(h, x, op);
        if (op->type == X86_OP_REG && op->reg == X86_REG_R12D && h->window)
            err = HOST_FAIL(h, "R12 as a number where it is a window");
    }
    if (!err) err = host_check_writes(h, ci);
    if (!err) err = host_check_bytes(h, x);
    return err;
}

/* H5. guest_start[i]: a guest instruction starts i bytes into the block. */
static inline const char *host_check_records(struct host_check *h, const struct block *b, const struct record *rec,
                                             const u8 *starts)
{
    if (!b->nrec || rec[0].host != 0) return HOST_FAIL(h, "first record is not at 0");
    for (unsigned i = 0; i < b->nrec; i++) {
        if (i && rec[i].host < rec[i - 1].host) return HOST_FAIL(h, "record %u goes back", i);
        if (rec[i].host > b->host_len) return HOST_FAIL(h, "record %u is behind the block", i);
        if (rec[i].host < b->host_len && !starts[rec[i].host])
            return HOST_FAIL(h, "record %u is inside of a host instruction", i);
        if (record_guest(&rec[i]) >= b->guest_len) return HOST_FAIL(h, "record %u names no guest instruction", i);
    }
    return NULL;
}

/* Length of what capstone 4.0.2 refuses but processors execute: fences with any r/m (SDM vol. 2, LFENCE), and x87
 * aliases (the SDM does not list them; see insn.def), by their two bytes behind an optional 66. 0 if it is none of
 * them. */
static inline unsigned host_alias_length(const u8 *p, size_t left)
{
    unsigned pre = left && *p == 0x66;
    if (left >= 3 && p[0] == 0x0f && p[1] == 0xae && p[2] >= 0xe8) return 3;
    if (left < pre + 2u || p[pre + 1] < 0xc0) return 0;
    return p[pre] >= 0xd8 && p[pre] <= 0xdf ? pre + 2 : 0;
}

static inline const char *host_check_block(struct host_check *h, const struct xlf *f, const struct block *b)
{
    u8 starts[XL_MAX_HOST];
    const u8 *base = xlf_host(f, b), *code = base;
    size_t left = b->host_len;
    u64 addr = 0;
    const char *err = NULL;
    h->window = f->xl->cfg.opt.window && xl_mode_has_window(b->mode);
    h->segmented = mode_segmented(b->mode);
    h->compares = b->mode & MK_CHECKED ? b->guest_len : 0;
    h->rsi_is_host = false;
    h->wide = 0;
    if (b->host_len >= sizeof starts) return HOST_FAIL(h, "%u bytes of host code", b->host_len);
    memset(starts, 0, b->host_len + 1u);
    while (left && !err) { /* first pass: instruction starts, and all but branches */
        u64 at = addr;
        starts[at] = 1;
        if (!cs_disasm_iter(h->cs, &code, &left, &addr, h->ci)) {
            unsigned n = host_alias_length(base + at, b->host_len - at);
            if (!n)
                return HOST_FAIL(h, "+%llx: does not decode: %02x %02x %02x %02x", (long long)at, base[at],
                                 base[at + 1], base[at + 2], base[at + 3]);
            code = base + at + n, left = b->host_len - at - n, addr = at + n;
            continue;
        }
        err = host_check_insn(h, h->ci);
        if (err) {
            snprintf(h->where, sizeof h->where, "+%llx: %s %s: %s", (long long)at, h->ci->mnemonic, h->ci->op_str,
                     h->text);
            return h->where;
        }
        h->rsi_is_host = host_makes_rsi(h, h->ci);
    }
    for (code = base, left = b->host_len, addr = 0; left && !err;) { /* second pass: where branches go */
        u64 at = addr;
        if (!cs_disasm_iter(h->cs, &code, &left, &addr, h->ci)) {
            unsigned n = host_alias_length(base + at, b->host_len - at);
            code = base + at + n, left = b->host_len - at - n, addr = at + n;
            continue;
        }
        if (host_is_branch(h, h->ci)) err = host_check_branch(h, h->ci, starts, b->host_len);
    }
    return err ? err : host_check_records(h, b, xlf_records(f, b), starts);
}

#endif
