/* Pass 2: the driver. */
#include "translator/lower/island.h"
#include "translator/lower/lower.h"
#include "translator/lower/lower_check.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_stream.h"
#include "translator/lower/lower_tap.h"
#include "translator/lower/lower_x87.h"
#include "translator/lower/policy.h"
#include "translator/lower/reloc.h"

_Static_assert(XL_MAX_RELOCS == XL_MAX_INSNS * 6 + 1 + 2 * 4 + 2 + 1 + 3 * 2, "see emit_x64.h");

static void emit_thunks(struct xl_ctx *x)
{
    for (unsigned i = 0; i < x->nedges; i++) {
        x->edge[i].thunk = x->e.p;
        emit_patch32(x->edge[i].patch, x->e.p);
        emit_edge(&x->e, x->number, i);
        if (x->edge[i].target == x->src->la) lower_x87_leave(x);
        emit_jmp_m(&x->e, hm(H_CPU, (s32)(offsetof(struct cpu, callouts) + 8 * CALLOUT_CHAIN)));
    }
}

/* Most code has nothing to do with the x87 unit's pointers. With some to be stored, each instruction may end that. */
static bool concerns_x87_pointers(const struct xl_ctx *x, const struct insn *in)
{
    return in->row->cls == CLS_x87 || x->x87.last;
}

/* Behind the instruction that has been lowered. Whoever leaves there does so before the next one: recovery takes what
 * that one would lose of the pointers as stored (xl_recover_x87). */
static void check_behind(struct xl_ctx *x)
{
    const struct insn *next = x->n + 1 < x->scan.n ? &x->scan.insn[x->n + 1] : NULL;
    if (next && !x->ended && concerns_x87_pointers(x, next)) lower_x87_before(x, next);
    lower_check_behind(x);
}

void xl_lower(struct xl_ctx *x)
{
    const bool tap = x->src->tap != NULL;
    x->nrec = x->nislands = x->nedges = 0;
    x->seg_checked = 0;
    x->fpu_checked = x->sse_checked = x->ended = false;
    x->relocs.n = 0;
    lower_x87_begin(x);
    x->stream = (struct stream_put){ 0 };
    lower_tap_begin(x);
    if (x->src->stop_here) lower_stop(x);
    if (x->src->mode & MK_CHECKED) lower_check(x);
    for (x->n = 0; x->n < x->scan.n && !x->ended; x->n++) {
        const struct insn *in = &x->scan.insn[x->n];
        x->cur = x->n;
        x->relocs.insn = in->eip - x->src->eip;
        xl_room(x);
        xl_record(x, x->cur);
        bool x87 = concerns_x87_pointers(x, in);
        if (x87) lower_x87_before(x, in); /* before anything that may leave */
        if (unlikely(tap)) lower_stream_insn(x, in);
        bool left = unlikely(tap) && lower_tap_leaves(x, x->cur);
        lower_fn *how = left ? lower_tap_interpret : xl_policy(x, in);
        left |= how == xl_lower_emulate;
        if (unlikely(tap) && !left) lower_tap_tell(x, in);
        if (!left && in->row->attr & A_FPU) xl_check_fpu(x, in);
        if (unlikely(tap) && !left) lower_tap_count(x);
        how(x, in);
        if (unlikely(tap) && !x->ended) lower_stream_wrote(x);
        if (x87) lower_x87_after(x, in);
        if (x->src->mode & MK_CHECKED) check_behind(x);
    }
    if (!x->ended) lower_x87_end(x);
    vaddr next = x->scan.insn[x->cur].next;
    if (!x->ended && x->scan.before_straddling) xl_goto_checked(x, next, 0);
    else if (!x->ended) xl_goto(x, next, 0);
    xl_flush_islands(x, false);
    emit_thunks(x);
    if (unlikely(tap) && !x->e.overflow) lower_tap_end(x);
}
