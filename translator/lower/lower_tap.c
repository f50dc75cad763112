/* Pass 3, a block of which something is to be noticed (struct xl_tap). Where the flags are of no use to anyone, before
 * an instruction that sets them:
 *     inc   qword [r15+tally]    for each that its being entered adds to
 *     add   qword [r15+tally], n for each that its instructions add to, how often being known at its end
 * Else when it is entered, without flag effects:
 *     mov   r8, [r15+tally]
 *     lea   r8, [r8+n]
 *     mov   [r15+tally], r8
 * and where there is a limit, r8 being the number of instructions:
 *     not   r8
 *     mov   r9, [r15+limit]
 *     lea   r8, [r8+r9+1]        limit less instructions
 *     mov   r9d, 63
 *     shrx  r8, r8, r9
 *     mov   r10, rcx
 *     mov   ecx, r8d
 *     jrcxz within
 *     mov   rcx, r10
 *     call  [EMULATE]
 * within:
 *     mov   rcx, r10 */
#include "translator/lower/island.h"
#include "translator/lower/lower_stream.h"
#include "translator/lower/lower_tap.h"

#include <string.h>

#define N_PLACEHOLDER 0x7fffffff /* so that it has 32 bits */
_Static_assert(XL_MAX_INSNS < 128, "ADD has it in 8");

static struct hmem tally_field(unsigned i) { return hm(H_CPU, CPU_TALLY_AT + 8 * (s32)i); }

static void add(struct xl_ctx *x, unsigned i, s32 n)
{
    emit_load64(&x->e, H_R8, tally_field(i));
    emit_lea64(&x->e, H_R8, hm(H_R8, n));
    if (n == N_PLACEHOLDER) x->tally_patch[i] = x->e.p - 4;
    emit_store(&x->e, tally_field(i), H_R8, 8);
}

/* R8: the number of instructions. */
static void look_at_limit(struct xl_ctx *x)
{
    struct emit *e = &x->e;
    emit_not64(e, H_R8);
    emit_load64(e, H_R9, CPU_FIELD(insns_limit));
    emit_lea64(e, H_R8, hmx(H_R8, H_R9, 1, 1));
    emit_mov_ri32(e, H_R9, 63);
    emit_shrx64(e, H_R8, H_R8, H_R9);
    emit_mov_rr64(e, H_R10, H_CX);
    emit_mov_rr32(e, H_CX, H_R8);
    xl_emulate_unless_cx_is_0(x);
}

/* For whoever asks how many have been retired: what has been counted is all of the block. */
static void say_ahead(struct xl_ctx *x, unsigned i)
{
    if (!(x->tallied >> TALLY_INSNS & 1)) return;
    emit_store_imm(&x->e, CPU_FIELD(insns_ahead), N_PLACEHOLDER, 4);
    x->ahead_patch[i] = x->e.p - 4;
}

static unsigned cpl(const struct xl_ctx *x) { return x->src->mode & MK_CPL; }

/* Sets the flags that counting changes, whatever they were. It cannot fault: who is told of a fault sees the old ones.
 * The logic ones set AF too: it is only not said to what. */
static bool sets_flags(const struct xl_ctx *x, const struct insn *in)
{
    const struct insn_row *row = in->row;
    u32 changed = x->tallied ? F_ARITH : F_ARITH & ~F_CF; /* ADD, INC */
    switch (in->op) {
    case OP_ADD:
    case OP_ADC:
    case OP_SUB:
    case OP_SBB:
    case OP_CMP:
    case OP_NEG:
    case OP_INC:
    case OP_DEC:
    case OP_AND:
    case OP_OR:
    case OP_XOR:
    case OP_TEST: return !insn_has_mem(in) && !(changed & ~(row->writes | row->undef)) && !(changed & row->reads);
    default: return false;
    }
}

/* Before which instruction it may be counted, and not at the entry: for those that nobody looks at meanwhile. */
static unsigned counted_before(const struct xl_ctx *x)
{
    for (unsigned i = 0; i < x->scan.n; i++) {
        if (x->told[i] != TAP_NOBODY || x->scan.insn[i].row->attr & A_END) break;
        if (sets_flags(x, &x->scan.insn[i])) return i;
    }
    return XL_AT_ENTRY;
}

static void count_at_entry(struct xl_ctx *x)
{
    for (unsigned i = 0; i < TALLIES; i++) /* the number of instructions last */
        if (x->tallied >> i & 1) add(x, i, N_PLACEHOLDER);
    if (x->src->tap->limited) look_at_limit(x);
    for (unsigned i = 0; i < TALLIES; i++)
        if (x->entered >> i & 1) add(x, i, 1);
}

void lower_tap_begin(struct xl_ctx *x)
{
    const struct xl_tap *t = x->src->tap;
    x->tallied = x->entered = 0;
    x->was_told = 0;
    if (!t) return;
    memset(x->ahead_patch, 0, sizeof x->ahead_patch);
    memset(x->tally_patch, 0, sizeof x->tally_patch);
    for (unsigned i = 0; i < x->scan.n; i++) {
        const struct insn *in = &x->scan.insn[i];
        x->tally[i] = t->insn(t->arg, in, xl_linear(x, in->eip), cpl(x));
        x->told[i] = t->told(t->arg, in, xl_linear(x, in->eip), cpl(x));
        x->tallied |= x->tally[i];
    }
    x->cur = 0;
    xl_record(x, 0);
    bool streams = lower_stream_block(x), told = t->told_entry(t->arg, x->src->la, cpl(x));
    x->entered = t->entry(t->arg, x->src->la, cpl(x));
    x->counted_before = streams || told || t->limited ? XL_AT_ENTRY : counted_before(x);
    if (x->counted_before == XL_AT_ENTRY) count_at_entry(x);
    if (!told) return;
    say_ahead(x, 0);
    emit_mov_ri32(&x->e, H_R8, x->src->eip);
    xl_call_helper(x, HELPER_ENTRY);
}

void lower_tap_count(struct xl_ctx *x)
{
    if (x->cur != x->counted_before) return;
    for (unsigned i = 0; i < TALLIES; i++) {
        if (x->entered >> i & 1) emit_inc64_m(&x->e, tally_field(i));
        if (!(x->tallied >> i & 1)) continue;
        emit_add64_mi8(&x->e, tally_field(i), 0);
        x->tally_patch[i] = x->e.p - 1;
    }
    xl_room(x);
}

bool lower_tap_leaves(const struct xl_ctx *x, unsigned i) { return x->src->tap && x->told[i] == TAP_INTERPRET; }

/* As the interpreter does in segmented code: without a way out, if that can be. */
void lower_tap_interpret(struct xl_ctx *x, const struct insn *in)
{
    xl_room(x);
    x->tally[x->n] = 0;
    emit_mov_ri32(&x->e, H_R8, in->eip);
    xl_call_helper(x, HELPER_STEP);
    x->ended = true;
}

/* Whoever leaves from here on has told of it: the records say so. */
void lower_tap_tell(struct xl_ctx *x, const struct insn *in)
{
    if (x->told[x->cur] == TAP_NOBODY) return;
    xl_flush_islands(x, true); /* those before belong to others */
    emit_store_imm(&x->e, CPU_FIELD(eip), in->eip, 4);
    say_ahead(x, 1 + x->cur);
    emit_mov_ri32(&x->e, H_R8, x->told[x->cur] | (in->next - in->eip) << 16);
    x->was_told |= 1ull << x->cur;
    xl_record(x, x->cur);
    xl_call_helper(x, HELPER_TELL);
}

void lower_tap_end(struct xl_ctx *x)
{
    for (unsigned i = 0; i < TALLIES; i++) {
        u32 n = 0;
        if (!(x->tallied >> i & 1) || !x->tally_patch[i]) continue;
        for (unsigned k = 0; k < x->n; k++) n += x->tally[k] >> i & 1;
        memcpy(x->tally_patch[i], &n, x->counted_before == XL_AT_ENTRY ? 4 : 1);
    }
    u32 ahead = 0;
    for (unsigned k = x->n; k-- > 0;) {
        ahead += x->tally[k] >> TALLY_INSNS & 1;
        if (x->ahead_patch[1 + k]) memcpy(x->ahead_patch[1 + k], &ahead, 4);
    }
    if (x->ahead_patch[0]) memcpy(x->ahead_patch[0], &ahead, 4);
    lower_stream_end(x);
}
