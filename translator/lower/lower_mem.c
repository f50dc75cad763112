/* Pass 2, guest memory operands: through a window, or through the soft TLB in line.
 *
 * All of it is free of flag effects, so that the guest's flags stay in RFLAGS and are exact at every fault.
 *
 * Through the window, whose base R12 holds, in one of two forms:
 *     op    [r12+reg+disp]        reg: a guest register, zero-extended to 64 bits; disp: sign-extended, as ever
 *     op    [r12+r8]              after lea r8d, [ea], which wraps around at 4 GiB as the guest's address does
 * The first is a sum in 64 bits, the guest's is one in 32 bits. Either they are equal, or they differ by 4 GiB: reg +
 * disp lies between -2 GiB and 6 GiB. There are 4 GiB of guard before the window and after it (WINDOW_GUARD), where
 * nothing is ever mapped. So where the sums differ, the access faults in a guard and nothing has happened; the site
 * becomes SITE_WRAPS, and the instruction is made anew in the second form. A displacement that looks like an address in
 * the upper half has the second form from the beginning: it would nearly always differ. The second form reaches past
 * the window's end by no more than an operand's size (512 bytes at most), into the guard.
 *
 * The soft-TLB sequence (size 4; in modes without a window R12 holds the 10 and its MOV is not there):
 *     lea   r8d, [ea]             linear address
 *     mov   r10d, 10
 *     rorx  r9d, r8d, 2           the low two bits go to the top,
 *     shrx  r9d, r9d, r10d        the page number to the bottom: a misaligned address indexes empty space
 *     mov   r10, rcx
 *     mov   rcx, [r15+r9*8+table]
 *     jrcxz miss                  miss: r9d = TLB_DESC; call [TLB]; back, with rcx = the entry
 *     mov   r9, rcx
 *     mov   rcx, r10
 *     op    [r9+r8]
 * R11 is left alone: callers keep values in it across an access. */
#include "translator/lower/island.h"
#include "translator/lower/lower_mem.h"
#include "translator/lower/lower_stream.h"
#include "translator/translator.h"

int xl_gpr(unsigned guest_reg) { return guest_reg == G_ESP ? H_ESP : (int)guest_reg; }

struct hmem xl_ea(const struct insn *in)
{
    return (struct hmem){ .base = in->base < 0 ? H_NONE : (s8)xl_gpr((unsigned)in->base),
                          .index = in->index < 0 ? H_NONE : (s8)xl_gpr((unsigned)in->index),
                          .scale = in->scale ? in->scale : 1,
                          .at = (u8)insn_disp32_at(in),
                          .disp = (s32)in->disp };
}

bool xl_seg_flat(const struct xl_ctx *x, enum segreg seg)
{
    static const u32 key[S_COUNT] = { [S_ES] = MK_ESFLAT, [S_CS] = MK_CSFLAT, [S_SS] = MK_SSFLAT, [S_DS] = MK_DSFLAT };
    return (x->src->mode & key[seg]) != 0;
}

/* A segment that is not flat may still be one that only has a base. Looks once per block, leaves for the interpreter if
 * not. */
static void check_segment(struct xl_ctx *x, enum segreg seg)
{
    if (x->seg_checked & 1u << seg) return;
    x->seg_checked |= (u8)(1u << seg);
    emit_mov_rr64(&x->e, H_R10, H_CX);
    emit_load32(&x->e, H_CX, hm(H_CPU, (s32)(offsetof(struct cpu, seg_complex) + 4 * seg)));
    u8 *simple = emit_jrcxz(&x->e);
    emit_mov_rr64(&x->e, H_CX, H_R10);
    emit_call_m(&x->e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * CALLOUT_EMULATE)));
    emit_patch8(&x->e, simple, x->e.p);
    emit_mov_rr64(&x->e, H_CX, H_R10);
}

static unsigned log2_size(unsigned size) { return size <= 1 ? 0 : size <= 2 ? 1 : size <= 4 ? 2 : size <= 8 ? 3 : 4; }

static bool mode_has_window(const struct xl_ctx *x) { return x->opt->window && xl_mode_has_window(x->src->mode); }

/* What makes an access one that may be done to a device in its place: the only one of an instruction that has done
 * nothing before, and whose value can be told from here. */
static u32 bounces(const struct xl_ctx *x, enum xl_access acc, unsigned size)
{
    const struct insn *in = &x->scan.insn[x->cur];
    if (size > 4) return 0;
    if (in->op == OP_STOS) return TLB_STORES(G_EAX); /* AL, AX */
    if (in->op == OP_LODS) return TLB_LOADS;
    if (in->op != OP_MOV) return 0;
    if (acc != XL_W) return TLB_LOADS;
    return in->opnd[1].kind == OPK_REG   ? TLB_STORES(in->opnd[1].reg)
           : in->opnd[1].kind == OPK_IMM ? TLB_STORES_CONST
                                         : 0;
}

/* ecx_saved: R10 has the guest's ECX already, and RCX is free. */
static struct hmem soft_access(struct xl_ctx *x, enum xl_access acc, unsigned size, bool ecx_saved)
{
    struct emit *e = &x->e;
    bool user = (x->src->mode & MK_CPL) == 3;
    enum tlb_kind kind = user ? acc == XL_W ? TLB_USER_W : TLB_USER_R : acc == XL_W ? TLB_SUP_W : TLB_SUP_R;
    unsigned k = log2_size(size);
    int count = 12 - k == XL_NO_WINDOW && !mode_has_window(x) ? H_TEN : ecx_saved ? H_CX : H_R10;
    if (count != H_TEN) emit_mov_ri32(e, count, 12 - k);
    if (k) emit_rorx32(e, H_R9, H_R8, k);
    emit_shrx32(e, H_R9, k ? H_R9 : H_R8, count);
    if (!ecx_saved) emit_mov_rr64(e, H_R10, H_CX);
    emit_load64(e, H_CX, hmx(H_CPU, H_R9, 8, CPU_TLB_AT + (s32)(kind * TLB_TABLE_BYTES)));
    u8 *miss = emit_jrcxz(e);
    BUG_ON(x->nislands == XL_MAX_ISLANDS);
    x->island[x->nislands++] = (struct island){ .kind = ISLAND_TLB,
                                                .branch = miss,
                                                .back = e->p,
                                                .desc = TLB_DESC(size, kind) | bounces(x, acc, size),
                                                .insn = (u16)x->cur };
    emit_mov_rr64(e, H_R9, H_CX);
    emit_mov_rr64(e, H_CX, H_R10);
    return hmx(H_R9, H_R8, 1, 0);
}

/* Whether the sum in 64 bits is likely to be the guest's. A displacement from half a MiB below zero up is an offset
 * from a pointer, or an address in the lower half; below that it is an address in the upper half, which sign extension
 * would turn into a negative number. Without a register nothing is left to likelihood. */
static bool sum_fits(struct hmem ea)
{
    if (ea.index != H_NONE) return false;
    return xl_disp_class(ea.disp) <= (ea.base == H_NONE ? DISP_UP : DISP_DOWN);
}

static struct hmem window_access(struct xl_ctx *x, struct hmem ea, enum site_state site)
{
    if (sum_fits(ea) && site != SITE_WRAPS && !x->stream.memory) /* which wants the address in R8 */
        return (struct hmem){ .base = H_WINDOW, .index = ea.base, .scale = 1, .at = ea.at, .disp = ea.disp };
    emit_lea32(&x->e, H_R8, ea);
    return hmx(H_WINDOW, H_R8, 1, 0);
}

static struct hmem seg_field(enum segreg seg, unsigned field)
{
    return hm(H_CPU, (s32)(offsetof(struct cpu, seg) + seg * sizeof(struct seg) + field));
}

/* Adds the segment's base, which R9 gets. */
static struct hmem add_base(struct xl_ctx *x, struct hmem ea, enum segreg seg)
{
    check_segment(x, seg);
    xl_room(x);
    if (ea.index != H_NONE) {
        emit_lea32(&x->e, H_R8, ea);
        ea = hm(H_R8, 0);
    }
    emit_load32(&x->e, H_R9, seg_field(seg, offsetof(struct seg, base)));
    if (ea.base == H_NONE) ea.base = H_R9;
    else ea.index = H_R9;
    xl_room(x);
    return ea;
}

/* Of the instruction that is being lowered. */
static enum site_state site_here(const struct xl_ctx *x)
{
    const struct insn *in = &x->scan.insn[x->cur];
    return site_get(x->sites, x->src->pa + (in->eip - x->src->eip));
}

/* Words at an offset of 16 bits, in R8, of which none may wrap around to offset 0. The guest's ECX is in R10, RCX is
 * free. */
static void check_wrap(struct xl_ctx *x, unsigned size)
{
    struct emit *e = &x->e;
    emit_mov_ri32(e, H_CX, size - 1);
    emit_lea64(e, H_CX, hmx(H_CX, H_R8, 1, -0x10000)); /* negative: all below 64 KiB */
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_CX, H_CX, H_R9);
    xl_island_beyond(x, emit_jrcxz(e));
    xl_room(x);
}

/* In segmented code: the offset in R8 against the segment's limit, then its base.
 *     mov   r10, rcx
 *     mov   rcx, [r15+seg_room]
 *     lea   rcx, [rcx+r8+size-1]  negative: within the limit
 *     mov   r9d, 63
 *     shrx  rcx, rcx, r9
 *     jrcxz beyond                beyond: mov rcx, r10; call [EMULATE]
 *     mov   r9d, [r15+base]
 *     lea   r8d, [r8+r9] */
enum offset_width { OFFSET_32, OFFSET_16, OFFSET_FRAME16 /* of several words */ };
static struct hmem segmented_access(struct xl_ctx *x, struct hmem ea, enum offset_width width, enum segreg seg,
                                    enum xl_access acc, unsigned size)
{
    struct emit *e = &x->e;
    const s32 room = (s32)(offsetof(struct cpu, seg_room) + ((acc == XL_W) * S_COUNT + seg) * sizeof(u64));
    emit_lea32(e, H_R8, ea);
    if (width != OFFSET_32) emit_movzx16(e, H_R8, H_R8);
    emit_mov_rr64(e, H_R10, H_CX);
    if (width == OFFSET_FRAME16) check_wrap(x, size);
    emit_load64(e, H_CX, hm(H_CPU, room));
    emit_lea64(e, H_CX, hmx(H_CX, H_R8, 1, (s32)size - 1));
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_CX, H_CX, H_R9);
    xl_island_beyond(x, emit_jrcxz(e));
    xl_room(x);
    emit_load32(e, H_R9, seg_field(seg, offsetof(struct seg, base)));
    emit_lea32(e, H_R8, hmx(H_R8, H_R9, 1, 0));
    if (!mode_has_window(x) || site_here(x) == SITE_SOFT) return soft_access(x, acc, size, true);
    emit_mov_rr64(e, H_CX, H_R10);
    return hmx(H_WINDOW, H_R8, 1, 0);
}

struct hmem xl_mem_at16(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size)
{
    BUG_ON(!xl_segmented(x));
    xl_room(x);
    struct hmem m = segmented_access(x, ea, OFFSET_16, seg, acc, size);
    if (unlikely(x->stream.memory)) lower_stream_access(x, m, acc == XL_W, size);
    return m;
}

struct hmem xl_mem_linear(struct xl_ctx *x, enum xl_access acc, unsigned size)
{
    xl_room(x);
    if (!mode_has_window(x) || site_here(x) == SITE_SOFT) return soft_access(x, acc, size, false);
    return hmx(H_WINDOW, H_R8, 1, 0);
}

struct hmem xl_stack(struct xl_ctx *x, int reg, s32 disp, enum xl_access acc, unsigned size)
{
    bool narrow = !(x->src->mode & MK_SS32);
    return (narrow ? xl_mem_at16 : xl_mem_at)(x, hm(reg, disp), S_SS, acc, size);
}

/* Virtual-8086 mode has no limit but 64 KiB, which is looked at anyway. */
struct hmem xl_frame(struct xl_ctx *x, s32 disp, enum xl_access acc, unsigned size)
{
    if (x->src->mode & (MK_SS32 | MK_VM)) return xl_stack(x, H_ESP, disp, acc, size);
    xl_room(x);
    return segmented_access(x, hm(H_ESP, disp), OFFSET_FRAME16, S_SS, acc, size);
}

static struct hmem access(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size)
{
    if (xl_segmented(x)) return segmented_access(x, ea, OFFSET_32, seg, acc, size);
    if (!xl_seg_flat(x, seg)) ea = add_base(x, ea, seg);
    if (mode_has_window(x)) {
        enum site_state site = site_here(x);
        if (site != SITE_SOFT) return window_access(x, ea, site);
    }
    emit_lea32(&x->e, H_R8, ea);
    return soft_access(x, acc, size, false);
}

struct hmem xl_mem_at(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size)
{
    xl_room(x);
    struct hmem m = access(x, ea, seg, acc, size);
    if (unlikely(x->stream.memory)) lower_stream_access(x, m, acc == XL_W, size);
    return m;
}

struct hmem xl_mem(struct xl_ctx *x, const struct insn *in, enum xl_access acc, unsigned size)
{
    return (in->addrsize == 4 ? xl_mem_at : xl_mem_at16)(x, xl_ea(in), (enum segreg)in->seg, acc, size);
}
