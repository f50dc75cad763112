/* Pass 3, the beginning of a block in a page whose writes nobody notices (MK_CHECKED): the bytes that it was made of
 * are compared with those that are there now. Where they differ, the first instruction leaves for the interpreter, and
 * the dispatcher forgets the block.
 *
 * Eight bytes at a time, without flag effects (the last eight overlap those before; of a block shorter than that, the
 * bytes behind it are shifted out):
 *     mov   r10, rcx
 *     mov   r8, [r15+ram]
 *     mov   r9, pa
 *     lea   r8, [r8+r9]
 *     mov   rcx, [r8+n]
 *     mov   r9, -bytes
 *     lea   rcx, [rcx+r9]
 *     jrcxz same
 *     mov   rcx, r10
 *     call  [EMULATE]
 * same: ...
 *     mov   rcx, r10 */
#include "translator/lower/lower_check.h"
#include "translator/lower/island.h"
#include "translator/lower/policy.h"

#include <string.h>

#define STOPS (sizeof(((struct cpu *)0)->stop_neg) / sizeof(u32))

static void check_eight(struct xl_ctx *x, unsigned at, unsigned len)
{
    struct emit *e = &x->e;
    u64 bytes;
    memcpy(&bytes, x->src->bytes + at, 8);
    emit_load64(e, H_CX, hm(H_R8, (s32)at));
    if (len < 8) {
        unsigned behind = 64 - 8 * len;
        emit_mov_ri32(e, H_R9, behind);
        emit_shlx64(e, H_CX, H_CX, H_R9);
        bytes <<= behind;
    }
    emit_mov_ri64(e, H_R9, -bytes);
    emit_lea64(e, H_CX, hmx(H_CX, H_R9, 1, 0));
    u8 *same = emit_jrcxz(e);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_callout(x, CALLOUT_EMULATE);
    emit_patch8(e, same, e->p);
}

/* How many bytes the block will have: it ends where an instruction is left to the interpreter. */
static unsigned cut(struct xl_ctx *x)
{
    struct scan *s = &x->scan;
    for (unsigned i = 0; i < s->n; i++)
        if (xl_policy(x, &s->insn[i]) == xl_lower_emulate) s->n = i + 1;
    const struct insn *last = &s->insn[s->n - 1];
    return last->eip + last->len - x->src->eip;
}

/*     mov   r10, rcx
 *     mov   ecx, [r15+stop0]      minus an address; four times
 *     lea   ecx, [rcx+eip]
 *     jrcxz met
 *     mov   rcx, r10
 *     jmp   on
 * met: mov  rcx, r10
 *     call  [EMULATE]
 * on: */
void lower_stop(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    u8 *met[STOPS];
    x->cur = 0;
    xl_record(x, 0);
    emit_mov_rr64(e, H_R10, H_CX);
    for (unsigned i = 0; i < STOPS; i++) {
        emit_load32(e, H_CX, hm(H_CPU, (s32)(offsetof(struct cpu, stop_neg) + 4 * i)));
        emit_lea32(e, H_CX, hm(H_CX, (s32)x->src->la));
        met[i] = emit_jrcxz(e);
    }
    emit_mov_rr64(e, H_CX, H_R10);
    u8 *on = emit_jmp8(e);
    for (unsigned i = 0; i < STOPS; i++) emit_patch8(e, met[i], e->p);
    emit_mov_rr64(e, H_CX, H_R10);
    xl_callout(x, CALLOUT_EMULATE);
    emit_patch8(e, on, e->p);
}

void lower_check(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    unsigned len = cut(x);
    x->cur = 0;
    xl_record(x, 0);
    BUG_ON(x->src->nbytes < 8 || len > x->src->nbytes);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load64(e, H_R8, CPU_FIELD(ram));
    emit_mov_ri64(e, H_R9, x->src->pa);
    emit_lea64(e, H_R8, hmx(H_R8, H_R9, 1, 0));
    for (unsigned at = 0; at < len; at += 8) check_eight(x, len < 8 || len - at >= 8 ? at : len - 8, len);
    emit_mov_rr64(e, H_CX, H_R10);
}
