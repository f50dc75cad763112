/* Pass 2 and 3, a block of which something goes into the trace stream. Without flag effects. At its beginning:
 *     mov   r8, [r15+at]
 *     mov   r9, [r15+neg_limit]
 *     lea   r8, [r8+r9]          negative: there is room
 *     mov   r9d, 63
 *     shrx  r8, r8, r9
 *     mov   r10, rcx
 *     lea   rcx, [r8-1]
 *     jrcxz room
 *     mov   rcx, r10
 *     call  HELPER_STREAM
 *     mov   r10, rcx
 * room:
 *     mov   rcx, r10
 * and a record, for each block and each piece of an access:
 *     mov   r10, [r15+at]
 *     mov   [r10], kind, size, low half of the instruction's address
 *     mov   [r10+4], address
 *     mov   [r10+8], value
 *     lea   r10, [r10+16]
 *     mov   [r15+at], r10
 * The value of a read is read before the instruction does it; a fault is then that instruction's, and nothing has been
 * put. That of a write is read back behind it. */
#include "translator/lower/island.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_stream.h"

#include <string.h>

_Static_assert((XL_MAX_INSNS * 4 + 8) * STREAM_RECORD <= STREAM_RESERVE, "room for a block");

static unsigned wants(const struct xl_ctx *x, laddr la)
{
    const struct xl_tap *t = x->src->tap;
    return t ? t->streams(t->arg, la, x->src->mode & MK_CPL) : 0;
}

/* R10 becomes where the record is. */
static void record_begin(struct xl_ctx *x, enum stream_kind kind, unsigned size, laddr at)
{
    emit_load64(&x->e, H_R10, CPU_FIELD(stream.at));
    emit_store_imm(&x->e, hm(H_R10, 0), (u32)kind | size << 8 | at << 16, 4);
}

static void record_end(struct xl_ctx *x)
{
    emit_lea64(&x->e, H_R10, hm(H_R10, STREAM_RECORD));
    emit_store(&x->e, CPU_FIELD(stream.at), H_R10, 8);
    x->stream.records++;
}

static void make_room(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    emit_load64(e, H_R8, CPU_FIELD(stream.at));
    emit_load64(e, H_R9, CPU_FIELD(stream.neg_limit));
    emit_lea64(e, H_R8, hmx(H_R8, H_R9, 1, 0));
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_R8, H_R8, H_R9);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_lea64(e, H_CX, hm(H_R8, -1));
    u8 *room = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_call_helper(x, HELPER_STREAM);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_patch8(e, room, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
}

bool lower_stream_block(struct xl_ctx *x)
{
    bool any = false;
    for (unsigned i = 0; i < x->scan.n && !any; i++) any = wants(x, xl_linear(x, x->scan.insn[i].eip));
    if (!any) return false;
    make_room(x);
    if (!(wants(x, x->src->la) & STREAM_BLOCKS)) return true;
    record_begin(x, STREAM_KIND_BLOCK, 0, x->src->la);
    emit_store_imm(&x->e, hm(H_R10, STREAM_RECORD_ADDRESS), x->src->la, 4);
    emit_store_imm(&x->e, hm(H_R10, STREAM_RECORD_VALUE), 0, 4);
    x->stream.block_patch = x->e.p - 4;
    emit_store_imm(&x->e, hm(H_R10, STREAM_RECORD_VALUE + 4), x->src->mode & MK_CPL, 4);
    record_end(x);
    return true;
}

/* What is left to the interpreter counts there, and is told of there; it is the last. */
void lower_stream_end(struct xl_ctx *x)
{
    u32 n = 0, bytes = 0;
    BUG_ON(x->stream.records * STREAM_RECORD + 4 * STREAM_RECORD > STREAM_RESERVE);
    if (!x->stream.block_patch) return;
    for (unsigned i = 0; i < x->n; i++) {
        if (!(x->tally[i] & 1u << TALLY_INSNS)) continue;
        n++;
        bytes = x->scan.insn[i].eip + x->scan.insn[i].len - x->src->eip;
    }
    u32 v = n << 16 | bytes;
    memcpy(x->stream.block_patch, &v, 4);
}

bool lower_stream_memory(const struct xl_ctx *x, const struct insn *in)
{
    return (wants(x, xl_linear(x, in->eip)) & STREAM_MEMORY) != 0;
}
void lower_stream_insn(struct xl_ctx *x, const struct insn *in) { x->stream.memory = lower_stream_memory(x, in); }

/* What writes its operand in memory, and reads it before. */
static bool reads_what_it_writes(const struct insn *in)
{
    switch (in->op) {
    case OP_ADD:
    case OP_OR:
    case OP_ADC:
    case OP_SBB:
    case OP_AND:
    case OP_SUB:
    case OP_XOR:
    case OP_INC:
    case OP_DEC:
    case OP_NOT:
    case OP_NEG:
    case OP_ROL:
    case OP_ROR:
    case OP_RCL:
    case OP_RCR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
    case OP_SHLD:
    case OP_SHRD:
    case OP_BTS:
    case OP_BTR:
    case OP_BTC:
    case OP_XCHG:
    case OP_XADD:
    case OP_CMPXCHG:
    case OP_CMPXCHG8B: return true;
    default: return false;
    }
}

static laddr here(const struct xl_ctx *x) { return xl_linear(x, x->scan.insn[x->cur].eip); }

static void load_value(struct xl_ctx *x, struct hmem m, unsigned size)
{
    if (size == 8) emit_load64(&x->e, H_R9, m);
    else emit_loadz(&x->e, H_R9, m, size);
}

/* R9 is kept if m needs it. */
static void put_reads(struct xl_ctx *x, struct hmem m, unsigned size)
{
    struct emit *e = &x->e;
    bool keep = m.base == H_R9;
    for (unsigned off = 0, n; off < size; off += n) {
        struct hmem piece = m;
        n = stream_piece(size - off);
        piece.disp += (s32)off;
        record_begin(x, STREAM_KIND_READ, n, here(x));
        if (keep) emit_store(e, CPU_FIELD(stream.spill), H_R9, 8);
        if (off) emit_lea32(e, H_R9, hm(H_R8, (s32)off));
        emit_store(e, hm(H_R10, STREAM_RECORD_ADDRESS), off ? H_R9 : H_R8, 4);
        if (keep && off) emit_load64(e, H_R9, CPU_FIELD(stream.spill));
        load_value(x, piece, n);
        emit_store(e, hm(H_R10, STREAM_RECORD_VALUE), H_R9, 8);
        if (keep) emit_load64(e, H_R9, CPU_FIELD(stream.spill));
        record_end(x);
    }
}

void lower_stream_access(struct xl_ctx *x, struct hmem m, bool write, unsigned size)
{
    if (!size) return;
    xl_flush_islands(x, true); /* which are not to get out of reach */
    BUG_ON(m.index != H_R8 || m.scale != 1 || m.disp || x->stream.writing);
    if (!write || reads_what_it_writes(&x->scan.insn[x->cur])) put_reads(x, m, size);
    if (!write) return;
    emit_store(&x->e, CPU_FIELD(stream.la), H_R8, 4);
    emit_lea64(&x->e, H_R10, m);
    emit_store(&x->e, CPU_FIELD(stream.host), H_R10, 8);
    x->stream.writing = (u8)size;
}

void lower_stream_wrote(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    unsigned size = x->stream.writing;
    if (!size) return;
    xl_flush_islands(x, true);
    for (unsigned off = 0, n; off < size; off += n) {
        n = stream_piece(size - off);
        record_begin(x, STREAM_KIND_WRITE, n, here(x));
        emit_load32(e, H_R9, CPU_FIELD(stream.la));
        if (off) emit_lea32(e, H_R9, hm(H_R9, (s32)off));
        emit_store(e, hm(H_R10, STREAM_RECORD_ADDRESS), H_R9, 4);
        emit_load64(e, H_R9, CPU_FIELD(stream.host));
        load_value(x, hm(H_R9, (s32)off), n);
        emit_store(e, hm(H_R10, STREAM_RECORD_VALUE), H_R9, 8);
        record_end(x);
    }
    x->stream.writing = 0;
}
