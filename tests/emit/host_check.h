/* What must hold of every block's host code, whatever the guest's bytes were. Returns NULL, or a sentence saying what does not.
 *
 *   H1  every byte decodes; no instruction is one that would leave the process or change what the host runs on.
 *   H2  direct branches go to instruction starts of the same block; indirect ones go through struct cpu's callouts or R13.
 *   H3  R12, R13 and R15 are never written, RSP only by a balanced PUSHFQ and POP.
 *   H4  memory is reached through R15 (struct cpu, the soft TLB; only the former is written), R13 (read only), R9+R8 or RSI as
 *       an address that the soft TLB has vouched for, or GS with 32-bit addressing.
 *   H5  records ascend in host offset, the first is at 0, and each names the start of a guest instruction of the block. */
#ifndef TESTS_EMIT_HOST_CHECK_H
#define TESTS_EMIT_HOST_CHECK_H
#include "tests/emit/xl_fixture.h"

#include <capstone/capstone.h>

struct host_check {
    csh cs;
    cs_insn *ci;
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

#define HOST_FAIL(h, ...) (snprintf((h)->text, sizeof (h)->text, __VA_ARGS__), (h)->text)

static inline bool host_is_scratch_address(const cs_x86_op *op, x86_reg base, x86_reg index)
{
    return op->mem.base == base && op->mem.index == index && op->mem.disp == 0;
}

/* H4. base RSI: only right behind the LEA that made it. */
static inline const char *host_check_mem(struct host_check *h, const cs_x86 *x, const cs_x86_op *op, bool rsi_is_host)
{
    bool write = (op->access & CS_AC_WRITE) != 0;
    if (op->mem.segment == X86_REG_GS) return x->addr_size == 4 ? NULL : HOST_FAIL(h, "GS without a 32-bit address");
    if (op->mem.segment != X86_REG_INVALID) return HOST_FAIL(h, "segment override");
    if (x->addr_size != 8) return HOST_FAIL(h, "32-bit address outside of a window");
    if (op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_INVALID)
        return op->mem.disp >= 0 && op->mem.disp + op->size <= (s64)sizeof(struct cpu) ? NULL : HOST_FAIL(h, "outside of struct cpu");
    if (op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_R9) {
        s64 table = op->mem.disp - (s64)sizeof(struct cpu_area);
        return !write && op->mem.scale == 8 && table >= 0 && table % (s64)TLB_TABLE_BYTES == 0 && table / (s64)TLB_TABLE_BYTES < TLB_KINDS
                   ? NULL : HOST_FAIL(h, "not a soft-TLB table");
    }
    if (op->mem.base == X86_REG_R13) {
        s64 room = op->mem.index == X86_REG_R9 ? 16 : (s64)(sizeof(struct jump_entry) * JUMP_ENTRIES);
        return !write && op->mem.disp >= 0 && op->mem.disp + op->size <= room ? NULL : HOST_FAIL(h, "outside of the jump cache");
    }
    if (host_is_scratch_address(op, X86_REG_R9, X86_REG_R8)) return NULL;
    if (rsi_is_host && host_is_scratch_address(op, X86_REG_RSI, X86_REG_INVALID)) return NULL;
    return HOST_FAIL(h, "memory reached through neither cpu, TLB, jump cache nor window");
}

static inline const char *host_check_forbidden(struct host_check *h, unsigned id)
{
    switch (id) {
    case X86_INS_SYSCALL: case X86_INS_SYSENTER: case X86_INS_SYSEXIT: case X86_INS_SYSRET: case X86_INS_INT: case X86_INS_INT1: case X86_INS_INT3:
    case X86_INS_HLT: case X86_INS_IN: case X86_INS_OUT: case X86_INS_CPUID: case X86_INS_POPFQ: case X86_INS_POPF: case X86_INS_STD:
    case X86_INS_CLI: case X86_INS_STI: case X86_INS_RET: case X86_INS_RETF: case X86_INS_IRETQ: case X86_INS_WRGSBASE: case X86_INS_WRFSBASE:
    case X86_INS_SWAPGS: case X86_INS_SGDT: case X86_INS_SIDT: case X86_INS_SLDT: case X86_INS_STR: case X86_INS_SMSW: case X86_INS_LJMP:
    case X86_INS_LCALL: case X86_INS_UD2: case X86_INS_FXSAVE: case X86_INS_FNSAVE: case X86_INS_FNSTENV: case X86_INS_MOVSB: case X86_INS_STOSB:
        return HOST_FAIL(h, "forbidden instruction");
    default: return NULL;
    }
}

/* H3 */
static inline const char *host_check_writes(struct host_check *h, const cs_insn *ci)
{
    cs_regs read, write;
    uint8_t nr, nw;
    if (ci->id == X86_INS_CALL || ci->id == X86_INS_JMP) return NULL;
    if (cs_regs_access(h->cs, ci, read, &nr, write, &nw)) return HOST_FAIL(h, "no register information");
    for (unsigned i = 0; i < nw; i++) switch (write[i]) {
        case X86_REG_R12: case X86_REG_R12D: case X86_REG_R12W: case X86_REG_R12B: case X86_REG_R13: case X86_REG_R13D: case X86_REG_R13W:
        case X86_REG_R13B: case X86_REG_R15: case X86_REG_R15D: case X86_REG_R15W: case X86_REG_R15B: case X86_REG_ESP: case X86_REG_SP: case X86_REG_SPL:
            return HOST_FAIL(h, "writes %s", cs_reg_name(h->cs, write[i]));
        case X86_REG_RSP:
            if (ci->id != X86_INS_PUSHFQ && ci->id != X86_INS_POP) return HOST_FAIL(h, "writes rsp");
            break;
        case X86_REG_CS: case X86_REG_DS: case X86_REG_ES: case X86_REG_SS: case X86_REG_FS: case X86_REG_GS:
            return HOST_FAIL(h, "writes a segment register");
        default: break;
        }
    return NULL;
}

/* Byte registers that a REX prefix turns into the low bytes of RSP..RDI are never meant. */
static inline const char *host_check_bytes(struct host_check *h, const cs_x86 *x)
{
    for (unsigned i = 0; i < x->op_count; i++)
        if (x->operands[i].type == X86_OP_REG) switch (x->operands[i].reg) {
            case X86_REG_SPL: case X86_REG_BPL: case X86_REG_SIL: case X86_REG_DIL: return HOST_FAIL(h, "AH..BH became SPL..DIL");
            default: break;
            }
    return NULL;
}

static inline const char *host_check_branch(struct host_check *h, const cs_insn *ci, const u8 *starts, u32 len)
{
    const cs_x86_op *op = &ci->detail->x86.operands[0];
    if (op->type == X86_OP_IMM) return (u64)op->imm < len && starts[op->imm] ? NULL : HOST_FAIL(h, "branch to %llx, which starts nothing", (long long)op->imm);
    if (op->type == X86_OP_REG) return HOST_FAIL(h, "branch through a register");
    if (op->mem.base == X86_REG_R13) return NULL;
    s64 slot = op->mem.disp - (s64)offsetof(struct cpu, callouts);
    return op->mem.base == X86_REG_R15 && op->mem.index == X86_REG_INVALID && slot >= 0 && slot % 8 == 0 && slot / 8 < CALLOUT_COUNT
               ? NULL : HOST_FAIL(h, "branch through something else than callouts");
}

static inline bool host_is_branch(const struct host_check *h, const cs_insn *ci)
{
    return cs_insn_group(h->cs, ci, X86_GRP_JUMP) || cs_insn_group(h->cs, ci, X86_GRP_CALL) || ci->id == X86_INS_JMP || ci->id == X86_INS_CALL;
}

static inline const char *host_check_insn(struct host_check *h, const cs_insn *ci, bool rsi_is_host)
{
    const cs_x86 *x = &ci->detail->x86;
    const char *err = host_check_forbidden(h, ci->id);
    if (!err) err = host_check_writes(h, ci);
    if (!err) err = host_check_bytes(h, x);
    for (unsigned i = 0; i < x->op_count && !err; i++)
        if (x->operands[i].type == X86_OP_MEM && ci->id != X86_INS_LEA) err = host_check_mem(h, x, &x->operands[i], rsi_is_host);
    return err;
}

/* H5. guest_start[i]: a guest instruction starts i bytes into the block. */
static inline const char *host_check_records(struct host_check *h, const struct block *b, const struct record *rec, const u8 *starts)
{
    if (!b->nrec || rec[0].host != 0) return HOST_FAIL(h, "first record is not at 0");
    for (unsigned i = 0; i < b->nrec; i++) {
        if (i && rec[i].host < rec[i - 1].host) return HOST_FAIL(h, "record %u goes back", i);
        if (rec[i].host > b->host_len) return HOST_FAIL(h, "record %u is behind the block", i);
        if (rec[i].host < b->host_len && !starts[rec[i].host]) return HOST_FAIL(h, "record %u is inside of a host instruction", i);
        if (rec[i].guest >= b->guest_len) return HOST_FAIL(h, "record %u names no guest instruction", i);
    }
    return NULL;
}

/* Length of what capstone 4.0.2 refuses but processors execute: fences with any r/m (SDM vol. 2, LFENCE), and x87 aliases (the
 * SDM does not list them; see insn.def), by their two bytes behind an optional 66. 0 if it is none of them. */
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
    bool rsi_is_host = false;
    if (b->host_len >= sizeof starts) return HOST_FAIL(h, "%u bytes of host code", b->host_len);
    memset(starts, 0, b->host_len + 1u);
    while (left && !err) { /* first pass: instruction starts, and all but branches */
        u64 at = addr;
        starts[at] = 1;
        if (!cs_disasm_iter(h->cs, &code, &left, &addr, h->ci)) {
            unsigned n = host_alias_length(base + at, b->host_len - at);
            if (!n) return HOST_FAIL(h, "+%llx: does not decode: %02x %02x %02x %02x", (long long)at, base[at], base[at + 1], base[at + 2], base[at + 3]);
            code = base + at + n, left = b->host_len - at - n, addr = at + n;
            continue;
        }
        err = host_check_insn(h, h->ci, rsi_is_host);
        if (err) {
            snprintf(h->where, sizeof h->where, "+%llx: %s %s: %s", (long long)at, h->ci->mnemonic, h->ci->op_str, h->text);
            return h->where;
        }
        const cs_x86 *x = &h->ci->detail->x86;
        rsi_is_host = h->ci->id == X86_INS_LEA && x->operands[0].reg == X86_REG_RSI && host_is_scratch_address(&x->operands[1], X86_REG_R9, X86_REG_R8);
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
