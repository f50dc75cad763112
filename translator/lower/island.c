/* Owns islands and records: see island.h. */
#include "translator/lower/island.h"
#include "translator/lower/reloc.h"

void xl_record(struct xl_ctx *x, unsigned insn)
{
    u16 guest = (u16)(x->scan.insn[insn].eip - x->src->eip);
    if (x->was_told >> insn & 1) guest |= RECORD_TOLD;
    if (x->nrec && x->rec[x->nrec - 1].guest == guest) return;
    BUG_ON(x->nrec == sizeof x->rec / sizeof x->rec[0]);
    x->rec[x->nrec++] = (struct record){ (u16)(x->e.p - x->e.start), guest };
}

void xl_callout(struct xl_ctx *x, enum callout c)
{
    emit_call_m(&x->e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * c)));
}

void xl_emulate_unless_cx_is_0(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    u8 *zero = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_callout(x, CALLOUT_EMULATE);
    emit_patch8(e, zero, e->p);
    emit_mov_rr64(e, H_CX, H_R10);
}

void xl_island_beyond(struct xl_ctx *x, u8 *branch)
{
    BUG_ON(x->nislands == XL_MAX_ISLANDS);
    x->island[x->nislands++] = (struct island){ .kind = ISLAND_BEYOND, .branch = branch, .insn = (u16)x->cur };
}

/* With what MOV stores, if it is a constant. Another instruction may be being lowered by now. The island is no longer
 * than the code from one branch to the next, which xl_room() counts on. */
static void tlb_desc(struct xl_ctx *x, const struct island *is)
{
    const struct insn *in = &x->scan.insn[is->insn];
    const unsigned lowering = x->relocs.insn;
    if (!(is->desc & TLB_STORES_CONST)) {
        emit_mov_ri32(&x->e, H_R9, is->desc);
        return;
    }
    emit_mov_ri64_long(&x->e, H_R9, (u64)in->imm << 32 | is->desc);
    x->relocs.insn = in->eip - x->src->eip;
    emit_note(&x->e, RELOC_PLAIN, insn_imm32_at(in));
    x->relocs.insn = lowering;
}

void xl_flush_islands(struct xl_ctx *x, bool falls_through)
{
    if (!x->nislands) return;
    struct emit *e = &x->e;
    u8 *over = falls_through ? emit_jmp8(e) : NULL;
    for (unsigned i = 0; i < x->nislands; i++) {
        struct island *is = &x->island[i];
        xl_record(x, is->insn);
        emit_patch8(e, is->branch, e->p);
        if (is->kind == ISLAND_BEYOND) {
            emit_mov_rr64(e, H_CX, H_R10);
            xl_callout(x, CALLOUT_EMULATE);
            continue;
        }
        if (is->kind == ISLAND_TLB) {
            tlb_desc(x, is);
            xl_callout(x, CALLOUT_TLB);
        } else {
            emit_mov_ri32(e, H_R9, is->desc);
            xl_callout(x, CALLOUT_FPU);
        }
        emit_patch32(emit_jmp32(e), is->back);
    }
    x->nislands = 0;
    if (over) emit_patch8(e, over, e->p);
    xl_record(x, x->cur);
}

/* The oldest branch must reach the oldest island: 127 (a rel8) + 1 - XL_ROOM (what the caller is about to emit) - 2
 * (the jump over). The younger ones are further apart than their islands. */
void xl_room(struct xl_ctx *x)
{
    if (x->nislands && (x->e.p - x->island[0].branch > 128 - XL_ROOM - 2 || x->nislands >= 4))
        xl_flush_islands(x, true);
}

/* What a helper puts into the trace stream says which instruction it belongs to. */
void xl_call_helper(struct xl_ctx *x, enum helper h)
{
    if (x->stream.memory) emit_store_imm(&x->e, CPU_FIELD(eip), x->scan.insn[x->cur].eip, 4);
    emit_load64(&x->e, H_R9, hm(H_CPU, (s32)(offsetof(struct cpu, helpers) + 8 * h)));
    xl_callout(x, CALLOUT_HELPER);
}

/* Without leaving translated code, if that can be. */
void xl_lower_emulate(struct xl_ctx *x, const struct insn *in)
{
    xl_room(x);
    emit_mov_eip(&x->e, H_R8, in->eip, 0);
    xl_call_helper(x, HELPER_STEP);
    x->tally[x->n] = 0; /* which counts it */
    x->ended = true;
}

/* First use of x87/MMX/SSE state in a block: make sure that it is in the host's registers. */
void xl_check_fpu(struct xl_ctx *x, const struct insn *in)
{
    bool sse = in->row->cls == CLS_sse;
    if (x->sse_checked || (x->fpu_checked && !sse)) return;
    x->fpu_checked = true;
    x->sse_checked |= sse;
    xl_room(x);
    emit_mov_rr64(&x->e, H_R10, H_CX);
    emit_load32(&x->e, H_CX, sse ? CPU_FIELD(sse_hot) : CPU_FIELD(fpu_hot));
    u8 *cold = emit_jrcxz(&x->e);
    x->island[x->nislands++] =
        (struct island){ .kind = ISLAND_FPU, .branch = cold, .back = x->e.p, .desc = sse, .insn = (u16)x->cur };
    emit_mov_rr64(&x->e, H_CX, H_R10);
}
