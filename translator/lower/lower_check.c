/* Pass 3, a block in a page whose writes nobody notices (MK_CHECKED): the bytes that it was made of are compared with
 * those that are there now. At entry these are the ones up to its first write to memory, and after each instruction
 * that may write, those up to the next one that may. Where they differ, the next instruction leaves for the
 * interpreter, and the dispatcher forgets the block.
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
#include "translator/lower/lower_tap.h"
#include "translator/lower/policy.h"

#include <string.h>

#define STOPS (sizeof(((struct cpu *)0)->stop_neg) / sizeof(u32))

/* The first n of the eight bytes at offset `at`. */
static void check_eight(struct xl_ctx *x, unsigned at, unsigned n)
{
    struct emit *e = &x->e;
    u64 bytes;
    memcpy(&bytes, x->src->bytes + at, 8);
    emit_load64(e, H_CX, hm(H_R8, (s32)at));
    if (n < 8) {
        unsigned behind = 64 - 8 * n;
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

static void check_bytes(struct xl_ctx *x, unsigned from, unsigned to)
{
    struct emit *e = &x->e;
    unsigned n = to - from;
    BUG_ON(to > x->src->nbytes || (n < 8 && from + 8 > x->src->nbytes));
    xl_record(x, x->cur);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_load64(e, H_R8, CPU_FIELD(ram));
    emit_mov_ri64(e, H_R9, x->src->pa);
    emit_lea64(e, H_R8, hmx(H_R8, H_R9, 1, 0));
    for (unsigned at = from; at < to; at += 8) check_eight(x, n < 8 || to - at >= 8 ? at : to - 8, n < 8 ? n : 8);
    emit_mov_rr64(e, H_CX, H_R10);
}

/* Of the block's first n instructions. */
static unsigned bytes_of(const struct xl_ctx *x, unsigned n)
{
    const struct insn *last = &x->scan.insn[n - 1];
    return last->eip + last->len - x->src->eip;
}

/* It ends where an instruction is left to the interpreter. */
static void cut(struct xl_ctx *x)
{
    struct scan *s = &x->scan;
    for (unsigned i = 0; i < s->n; i++)
        if (lower_tap_leaves(x, i) || xl_policy(x, &s->insn[i]) == xl_lower_emulate) s->n = i + 1;
    if (s->head > bytes_of(x, s->n)) s->head = 0;
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
    cut(x);
    x->cur = 0;
    check_bytes(x, 0, x->scan.head ? x->scan.head : bytes_of(x, x->scan.n));
}

void lower_check_behind(struct xl_ctx *x)
{
    const struct scan *s = &x->scan;
    if (x->ended || x->n + 1 == s->n || !scan_may_write(&s->insn[x->n])) return;
    xl_flush_islands(x, true);
    x->cur = x->n + 1; /* which is what a difference concerns */
    unsigned last = x->cur;
    while (last + 1 < s->n && !scan_may_write(&s->insn[last])) last++;
    check_bytes(x, bytes_of(x, x->cur), bytes_of(x, last + 1));
}
