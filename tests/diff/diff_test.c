/* Differential tester: the same random cases on the real processor and in an engine, and everything compared.
 *
 *   diff_test --engine interp|bt|direct [--judge native|interp|auto] [--kernel] [--no-windows | --eager-windows]
 *             [--code16] [--seed N] [--count N] [--only OP] [--undefined-flags] [--native DIR] [--keep-going N]
 *             [--verbose]
 *
 * --undefined-flags: compares the flags that the manual leaves undefined as well, and makes forms whose result it
 * leaves undefined (SHLD, SHRD by more than the operand has bits): a guest must not see which engine ran it.
 *
 * --native: where native_child and native_probe are, if not where they were built.
 *
 * --judge: what an engine is compared with. native: the processor; exit status 77 (skipped) on a host that runs no
 * 32-bit processes. interp: the interpreter, set up like such a process; the translator alone can be compared with it.
 * auto: the processor, or where there is none to be had, the interpreter.
 *
 * --kernel: the engine runs the cases at CPL 0, which the translator does quite differently, and the processor as
 * before; instructions that privilege makes a difference to are left out. In an engine each case runs twice, the second
 * time on what has been translated and linked in the first. --no-windows: the translator uses the soft TLB for all
 * memory. --eager-windows: it uses windows at CPL 3 from the first.
 *
 * --engine direct: what may runs directly on the processor (docs/direct.md), the rest translated. How many cases did is
 * printed; at least DIRECT_SHARE percent must. On a host without direct execution the run is skipped.
 *
 * --code16: 16-bit code, in segments of an LDT, on a stack of 16 bits (gen16.h).
 *
 * A processor that is QEMU's (TCG) judges integer instructions only, and not its own deviations (gen.c): RF is clear in
 * its frames of faults, and a read-modify-write faults as a read.
 *
 * A case that differs is run again (a wild write may have hit the native program), then shrunk: instructions are
 * dropped as long as it still differs. It is printed as bytes, disassembly, initial state and differences, and the seed
 * and number that make it again. Exit code 1 if any differed.
 *
 * Not compared: without --undefined-flags, flags the manual leaves undefined (insn_flags_undef, followed through the
 * code); FIP, FDP and FOP in the FXSAVE image, and in memory where FXSAVE puts them, and where FNSTENV or FNSAVE does,
 * too, unless the judge is AMD's processor or the interpreter (Intel's newer ones keep them under other conditions);
 * what an instruction of several accesses (PUSHA, POPA, ENTER, FNSAVE ...) has done before a page fault, and which of
 * them faulted; of two memory operands that both fault, which is reported (operands.c: each must be reported as that
 * operand faults); the I/D bit of page-fault errors on fetches (the engine's paging is without NX); MXCSR_MASK; the x87
 * state after #XM in a conversion between XMM and MMX. */
#include <cpuid.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/diff/engine.h"
#include "tests/diff/gen.h"
#include "tests/diff/gen16.h"
#include "tests/diff/native.h"
#include "tests/diff/operands.h"

struct tester {
    struct native *native;      /* the judge: the processor, */
    struct engine *stand_in;    /* or the interpreter. The other is NULL */
    struct diff_shared *shared; /* native's, or our own */
    struct engine *engine;
    struct decoder *decoder;
    struct gen *gen;
    u64 seed, count;
    u64 done, skipped, failed, ran_directly;
    u64 by_vector[32];
    unsigned keep_going;
    unsigned only;
    bool kernel, direct, code16, verbose, undefined_flags;
    bool qemu; /* the processor that judges is QEMU's */
};

/* ---- Comparison ---- */

/* Text of differences is written to out, or nowhere if out is NULL. */
struct report {
    FILE *out;
    bool differs;
};

static void differ(struct report *rep, const char *what, u32 native, u32 engine)
{
    if (native == engine) return;
    rep->differs = true;
    if (rep->out)
        fprintf(rep->out, "  %-8s judge %08x  engine %08x  (xor %08x)\n", what, native, engine, native ^ engine);
}

static void differ_bytes(struct report *rep, const char *what, u32 at, const u8 *native, const u8 *engine, unsigned n)
{
    if (!memcmp(native, engine, n)) return;
    rep->differs = true;
    if (!rep->out) return;
    fprintf(rep->out, "  %-8s %08x judge    ", what, at);
    for (unsigned i = 0; i < n; i++) fprintf(rep->out, " %02x", native[i]);
    fprintf(rep->out, "\n  %-8s %8s engine   ", "", "");
    for (unsigned i = 0; i < n; i++) fprintf(rep->out, " %02x", engine[i]);
    fprintf(rep->out, "\n");
}

static void compare_fx(struct report *rep, const u8 *native, const u8 *engine, bool x87)
{
    if (x87) {
        differ_bytes(rep, "fcw", 0, native, engine, 2);
        differ_bytes(rep, "fsw", 0, native + 2, engine + 2, 2);
        differ_bytes(rep, "ftw", 0, native + 4, engine + 4, 1);
        for (unsigned i = 0; i < 8; i++) differ_bytes(rep, "st/mm", i, native + 32 + 16 * i, engine + 32 + 16 * i, 10);
    }
    differ_bytes(rep, "mxcsr", 0, native + 24, engine + 24, 4);
    for (unsigned i = 0; i < 8; i++) differ_bytes(rep, "xmm", i, native + 160 + 16 * i, engine + 160 + 16 * i, 16);
}

static u32 memory_address(u32 offset)
{
    return offset < DATA_BYTES ? DATA_BASE + offset : STACK_BASE + offset - DATA_BYTES;
}

static bool ignored(const struct sequence *s, u32 at)
{
    for (unsigned i = 0; i < s->n; i++)
        if (at - s->unit[i].ignore_at < s->unit[i].ignore_len || at - s->unit[i].ignore2_at < s->unit[i].ignore2_len)
            return true;
    return false;
}

/* What is left open: n bytes at `at`. */
struct open_bytes {
    u32 at, n;
};

static void compare_memory(struct report *rep, const struct sequence *s, const u8 *native, const u8 *engine,
                           struct open_bytes open)
{
    unsigned shown = 0;
    if (!memcmp(native, engine, IMAGE_BYTES)) return;
    for (u32 i = 0; i < IMAGE_BYTES; i++) {
        if (i % 64 == 0 && !memcmp(native + i, engine + i, 64)) {
            i += 63;
            continue;
        }
        if (native[i] == engine[i] || ignored(s, memory_address(i)) || memory_address(i) - open.at < open.n) continue;
        i &= ~15u;
        if (shown++ < 8) differ_bytes(rep, "memory", memory_address(i), native + i, engine + i, 16);
        i |= 15;
        rep->differs = true;
    }
}

/* The instruction at the end of a case. Returns false if there is none (a jump out of the code). */
static bool last_insn(struct decoder *d, const struct diff_case *k, const struct diff_state *out, struct insn *in)
{
    u32 at = out->eip - (k->code16 ? 0 : CODE_BASE);
    return at < k->ncode && decode(d, k->code + at, k->ncode - at, out->eip, !k->code16, ~0u, in) == DECODE_OK;
}
static unsigned last_op(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    struct insn in;
    return last_insn(d, k, out, &in) ? in.op : OP_INVALID;
}

static u32 effective_address(const struct insn *in, const struct diff_state *s)
{
    return in->disp + (in->base < 0 ? 0 : s->gpr[in->base]) + (in->index < 0 ? 0 : s->gpr[in->index] * in->scale);
}

/* Whether the memory operand of the instruction at the end reaches across the end of the address space. */
static bool wraps(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    struct insn in;
    u32 ea;
    if (!last_insn(d, k, out, &in) || !insn_has_mem(&in) || in.addrsize != 4) return false;
    ea = effective_address(&in, out);
    return ea + insn_mem(&in)->size < ea;
}

/* What an instruction of k read at la, or zero where there is nothing. */
static u8 memory_byte(const struct tester *t, const struct diff_result *r, u32 la)
{
    if (la - DATA_BASE < DATA_BYTES) return r->memory[la - DATA_BASE];
    if (la - RO_BASE < PAGE) return t->shared->ro[la - RO_BASE];
    return la - STACK_BASE < PAGE ? r->memory[DATA_BYTES + la - STACK_BASE] : 0;
}

/* Whether the engine has refused an MXCSR with AMD's misaligned mode, which the guest's CPU does not have and the
 * host's may. */
static bool refused_misaligned_mode(const struct tester *t, const struct diff_case *k, const struct diff_result *engine)
{
    const struct diff_state *e = &engine->out;
    struct insn in;
    u32 at;
    if (k->code16 || e->vector != V_GP || !last_insn(t->decoder, k, e, &in)
        || (in.op != OP_FXRSTOR && in.op != OP_LDMXCSR) || in.addrsize != 4)
        return false;
    at = effective_address(&in, e) + (in.op == OP_FXRSTOR ? 24 : 0);
    return memory_byte(t, engine, at + 2) == 2 && memory_byte(t, engine, at + 3) == 0;
}

/* Instructions that make several accesses: a page fault may leave half of what they write, and which access raises it
 * is open. Where a segment's limit lies in their midst, a processor may have done the accesses before it, too (AMD's
 * has even loaded POPA's first registers). */
static bool faulted_halfway(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    if (out->vector != V_PF && !(k->code16 && out->vector == V_SS)) return false;
    switch (last_op(d, k, out)) {
    case OP_PUSHA:
    case OP_POPA:
    case OP_CALLF:
    case OP_ENTER:
    case OP_FNSAVE:
    case OP_FNSTENV:
    case OP_FXSAVE:
    case OP_FRSTOR:
    case OP_FLDENV:
    case OP_FXRSTOR: return true;
    default: return false;
    }
}

/* Below ESP: at CPL 0 the frame of the exception that ends a case; and what a far CALL pushes whose offset is beyond
 * the limit of the segment: AMD's processors push first, and Intel's look first (SDM vol. 2, CALL). */
static struct open_bytes open_below_esp(struct tester *t, const struct diff_case *k, const struct diff_state *out)
{
    struct insn in;
    u32 n = t->kernel ? FRAME_BYTES : 0;
    if (out->vector == V_GP && last_insn(t->decoder, k, out, &in) && in.op == OP_CALLF) n = 2u * in.opsize;
    return (struct open_bytes){ out->gpr[G_ESP] - n, n };
}

/* Whether a conversion between XMM and MMX that raises #XM, or a MASKMOVQ that faults, has already switched to MMX mode
 * is the processor's business. */
static bool mmx_mode_open(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    switch (last_op(d, k, out)) {
    case OP_MASKMOVQ: return true;
    case OP_CVTPS2PI:
    case OP_CVTTPS2PI:
    case OP_CVTPD2PI:
    case OP_CVTTPD2PI:
    case OP_CVTPI2PS:
    case OP_CVTPI2PD: return out->vector == V_XM;
    default: return false;
    }
}

/* Whether judge and engine have each reported a fault of another one of two memory operands. */
static bool other_operand(struct tester *t, const struct diff_case *k, const struct diff_state *n,
                          const struct diff_state *e)
{
    struct insn in;
    return !k->code16 && last_insn(t->decoder, k, n, &in) && operand_order_differs(&in, n, e, t->kernel);
}

static bool has_error_code(u32 vector) { return vector == V_DF || (vector >= V_TS && vector <= V_PF); }

static bool compare(struct tester *t, const struct sequence *s, const struct diff_case *k,
                    const struct diff_result *native, const struct diff_result *engine, FILE *out)
{
    static const char *const name[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
    static const char *const seg[6] = { "es", "cs", "ss", "ds", "fs", "gs" };
    struct report rep = { .out = out };
    const struct diff_state *n = &native->out, *e = &engine->out;
    u32 undefined = t->undefined_flags ? 0 : case_undefined_flags(t->decoder, k, n->eip);
    u32 flags = ~(undefined | F_TF | (t->qemu ? F_RF : 0));
    bool halfway = faulted_halfway(t->decoder, k, n), order_open = other_operand(t, k, n, e);

    if (e->vector == VECTOR_CRASH) rep.differs = true; /* no case shuts the machine down, whatever the judge found */
    if (!order_open) differ(&rep, "vector", n->vector, e->vector);
    differ(&rep, "eip", n->eip, e->eip);
    for (unsigned i = 0; i < 8; i++)
        if (!halfway || i == G_ESP) differ(&rep, name[i], n->gpr[i], e->gpr[i]); /* POPA */
    for (unsigned i = 0; i < 6 && !t->kernel; i++) differ(&rep, seg[i], n->seg[i], e->seg[i]);
    differ(&rep, "eflags", n->eflags & flags, e->eflags & flags);
    if (!order_open && n->vector == e->vector && has_error_code(n->vector)) {
        u32 mask = n->vector == V_PF && n->cr2 == n->eip ? ~(u32)PF_I : ~0u;
        if (n->vector == V_PF && t->kernel) mask &= ~(u32)PF_U;
        if (n->vector == V_PF && t->qemu) mask &= ~(u32)(PF_W | PF_P);
        if (!halfway) differ(&rep, "error", n->error & mask, e->error & mask);
    }
    if (n->vector == V_PF && e->vector == V_PF && !halfway && !order_open) differ(&rep, "cr2", n->cr2, e->cr2);
    compare_fx(&rep, n->fx, e->fx, !mmx_mode_open(t->decoder, k, n));
    if (!halfway) compare_memory(&rep, s, native->memory, engine->memory, open_below_esp(t, k, n));
    return rep.differs;
}

/* Whether the instruction at the end has two operands in memory. */
static bool two_operands(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    struct insn in;
    if (!last_insn(d, k, out, &in)) return false;
    return in.op == OP_MOVS || in.op == OP_CMPS || ((in.row->attr & A_STACK) && insn_has_mem(&in));
}

/* Different exceptions, each of which a processor may raise. */
static bool either_is_right(struct decoder *d, const struct diff_case *k, const struct diff_state *n,
                            const struct diff_state *e)
{
    if (n->vector == e->vector) return false;
    if (k->code16) return two_operands(d, k, n); /* of which either may be reported */
    switch (last_op(d, k, n)) {
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU: return true; /* faults of bytes that the mask leaves out */
    case OP_RETF:
    case OP_IRET:
        return n->vector == V_PF || e->vector == V_PF; /* stack read before or after the selector is checked */
    default: break;
    }
    /* SDM vol. 3, 5.3: with a limit of 4 GiB this may or may not fault, and differently from one execution to another.
     */
    return wraps(d, k, n) || (e->vector == V_PF && e->cr2 >= 0xfffffe00);
}

/* An operand that is accessed in two parts, the second of them beyond offset FFFF of a segment of 64 KiB: #GP on
 * Intel's processors, while AMD's cut the second offset to 16 bits. */
static bool second_part_wraps(struct decoder *d, const struct diff_case *k, const struct diff_state *out)
{
    struct insn in;
    if (!k->code16 || !last_insn(d, k, out, &in) || !insn_has_mem(&in) || in.addrsize != 2) return false;
    bool parts = in.op == OP_BOUND || (in.row->cls == CLS_x87 && insn_mem(&in)->size == 10);
    unsigned size = in.op == OP_BOUND ? 2u * in.opsize : insn_mem(&in)->size;
    return parts && (effective_address(&in, out) & 0xffff) + size > 0x10000;
}

/* At CPL 0 an exception needs the case's own stack. */
static bool room_for_frame(u32 esp)
{
    u32 at = esp - FRAME_BYTES;
    return (at >= DATA_BASE && at <= RO_BASE - FRAME_BYTES)
           || (at >= STACK_BASE && at <= STACK_BASE + PAGE - FRAME_BYTES);
}

/* A case that cannot be judged: it ran away, or reached for where the native program lives. */
static bool unusable(struct tester *t, const struct diff_case *k, const struct diff_state *n,
                     const struct diff_result *engine)
{
    struct decoder *d = t->decoder;
    const struct diff_state *e = &engine->out;
    if (t->kernel && !room_for_frame(n->gpr[G_ESP])) return true;
    if (t->native && (n->vector == VECTOR_TIMEOUT || n->vector == VECTOR_CRASH)) return true;
    if (refused_misaligned_mode(t, k, engine)) return true;
    if (t->qemu && n->vector == V_PF && e->vector == V_PF && n->cr2 != e->cr2)
        return true; /* across pages: the read or the write */
    if (k->code16 && n->vector == V_PF && e->vector == V_PF && n->cr2 != e->cr2 && two_operands(d, k, n)) return true;
    if (either_is_right(d, k, n, e) || second_part_wraps(d, k, e)) return true;
    return e->vector == V_PF && e->cr2 >= CHILD_LO && e->cr2 < CHILD_HI;
}

/* ---- The judge ---- */

/* Runs shared->cases[0..count) into shared->results. Returns 0 or -errno. */
static int judge_run(struct tester *t, unsigned count)
{
    struct diff_shared *s = t->shared;
    if (t->native) return native_run(t->native, count);
    for (unsigned i = 0; i < count; i++) {
        alarm(20);
        engine_run(t->stand_in, &s->cases[i], s->images[s->cases[i].image], false, &s->results[i]);
    }
    return 0;
}

/* ---- One sequence, alone ---- */

/* Runs k in the engine, twice, and compares both times. Returns 1 if it differs, 0 if not, -1 if it cannot be judged.
 */
static int judge(struct tester *t, const struct sequence *s, const struct diff_case *k, const struct diff_result *n,
                 FILE *out)
{
    struct diff_result e;
    for (unsigned again = 0; again < 2; again++) {
        engine_run(t->engine, k, t->shared->images[k->image], again, &e);
        if (unusable(t, k, &n->out, &e)) return -1;
        if (compare(t, s, k, n, &e, out)) {
            if (out && again) fprintf(out, "  (the second time)\n");
            return 1;
        }
    }
    return 0;
}

static bool differs_alone(struct tester *t, const struct sequence *s, FILE *out)
{
    sequence_to_case(s, &t->shared->cases[0]);
    if (judge_run(t, 1)) return false;
    return judge(t, s, &t->shared->cases[0], &t->shared->results[0], out) == 1;
}

static void shrink(struct tester *t, struct sequence *s)
{
    for (bool again = true; again && s->n > 1;) {
        again = false;
        for (unsigned i = 0; i < s->n && s->n > 1; i++) {
            struct sequence fewer = *s;
            memmove(&fewer.unit[i], &fewer.unit[i + 1], (s->n - i - 1) * sizeof(fewer.unit[0]));
            fewer.n--;
            if (!differs_alone(t, &fewer, NULL)) continue;
            *s = fewer;
            again = true;
            i--;
        }
    }
}

static void print_case(struct tester *t, const struct sequence *s)
{
    struct diff_case k;
    sequence_to_case(s, &k);
    for (u32 at = 0; at < k.ncode;) {
        struct insn in;
        char text[120];
        u32 eip = (k.code16 ? 0 : CODE_BASE) + at;
        if (decode(t->decoder, k.code + at, k.ncode - at, eip, !k.code16, ~0u, &in) != DECODE_OK) break;
        insn_text(t->decoder, k.code + at, k.ncode - at, eip, !k.code16, text, sizeof(text));
        printf("  %08x ", eip);
        for (unsigned i = 0; i < 12; i++) printf(i < in.len ? " %02x" : "   ", i < in.len ? in.bytes[i] : 0);
        printf("  %s\n", text);
        at += in.len;
    }
    printf("  eax %08x ecx %08x edx %08x ebx %08x esp %08x ebp %08x esi %08x edi %08x eflags %08x image %u\n",
           s->in.gpr[0], s->in.gpr[1], s->in.gpr[2], s->in.gpr[3], s->in.gpr[4], s->in.gpr[5], s->in.gpr[6],
           s->in.gpr[7], s->in.eflags, s->image);
    if (k.code16) printf("  ds %04x es %04x fs %04x\n", s->in.seg[S_DS], s->in.seg[S_ES], s->in.seg[S_FS]);
    printf("  fcw %02x%02x fsw %02x%02x ftw %02x mxcsr %02x%02x\n", s->in.fx[1], s->in.fx[0], s->in.fx[3], s->in.fx[2],
           s->in.fx[4], s->in.fx[25], s->in.fx[24]);
}

/* ---- The run ---- */

/* first: what differed the first time. */
static void fail(struct tester *t, const struct sequence *s, u64 number, const char *first)
{
    struct sequence small = *s;
    struct diff_case k;
    if (!differs_alone(t, s, NULL)) {
        printf("case %llu differed once and not again: counted as skipped\n%s", (unsigned long long)number, first);
        t->skipped++;
        return;
    }
    t->failed++;
    alarm(60);
    shrink(t, &small);
    sequence_to_case(&small, &k);
    printf("FAIL %s: seed %llu case %llu\n", insn_rows[small.unit[small.n - 1].row].name, (unsigned long long)t->seed,
           (unsigned long long)number);
    print_case(t, &small);
    differs_alone(t, &small, stdout);
    printf("\n");
    fflush(stdout);
}

static int run(struct tester *t)
{
    static struct sequence batch[BATCH];
    struct diff_result *results = malloc(BATCH * sizeof(*results));
    char first[4096];
    FILE *differences = fmemopen(first, sizeof first, "w");
    int err = 0;

    if (!results || !differences) return -1;
    while (t->done < t->count && t->failed < t->keep_going) {
        unsigned n = t->count - t->done < BATCH ? (unsigned)(t->count - t->done) : BATCH;
        for (unsigned i = 0; i < n; i++) {
            if (t->code16) gen16_sequence(gen_rng(t->gen), t->decoder, t->only, &batch[i]);
            else gen_sequence(t->gen, &batch[i]);
            sequence_to_case(&batch[i], &t->shared->cases[i]);
        }
        if ((err = judge_run(t, n))) break;
        memcpy(results, t->shared->results, n * sizeof(*results));
        for (unsigned i = 0; i < n && t->failed < t->keep_going; i++) {
            struct diff_case k;
            int verdict;
            sequence_to_case(&batch[i], &k);
            alarm(20);
            if (results[i].out.vector < 32) t->by_vector[results[i].out.vector]++;
            u64 runs = engine_direct_runs(t->engine);
            rewind(differences);
            verdict = judge(t, &batch[i], &k, &results[i], differences);
            fflush(differences);
            t->ran_directly += engine_direct_runs(t->engine) > runs;
            if (verdict < 0) t->skipped++;
            if (verdict > 0) fail(t, &batch[i], t->done + i, first);
        }
        t->done += n;
        if (t->verbose && t->done % (BATCH * 1000) == 0) {
            fprintf(stderr, "%llu cases, %llu failed\n", (unsigned long long)t->done, (unsigned long long)t->failed);
        }
    }
    alarm(0);
    fclose(differences);
    free(results);
    return err;
}

static unsigned op_by_name(const char *name)
{
    for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++)
        if (!strcmp(insn_rows[id].mnemonic, name)) return insn_rows[id].op;
    return OP_INVALID;
}

static int setup_error(const char *what, int err)
{
    fprintf(stderr, "diff_test: %s: %s\n", what, strerror(-err));
    return 2;
}

/* An engine that does not come back: the case is found again by seed. */
static u64 hung_seed;
static void on_alarm(int signo)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "FAIL: the engine hangs (seed %llu)\n", (unsigned long long)hung_seed);
    (void)signo;
    if (write(2, text, (size_t)n) < 0) _exit(3);
    _exit(2);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: diff_test --engine interp|bt|direct [--judge native|interp|auto] [--kernel] [--no-windows | "
            "--eager-windows] [--code16] [--seed N] [--count N] [--only OP] "
            "[--undefined-flags] [--native DIR] [--keep-going N] [--verbose]\n");
    return 2;
}

static void summary(const struct tester *t)
{
    printf("seed %llu: %llu cases, %llu failed, %llu skipped", (unsigned long long)t->seed, (unsigned long long)t->done,
           (unsigned long long)t->failed, (unsigned long long)t->skipped);
    if (t->direct) printf(", %llu ran directly", (unsigned long long)t->ran_directly);
    printf("; ended by");
    for (unsigned v = 0; v < 32; v++)
        if (t->by_vector[v]) printf(" #%u:%llu", v, (unsigned long long)t->by_vector[v]);
    printf("\n");
}

enum judge_kind { JUDGE_NATIVE, JUDGE_INTERP, JUDGE_AUTO };
#define SKIPPED 77       /* exit status: ctest's SKIP_RETURN_CODE */
#define DIRECT_SHARE 50u /* percent */

struct settings {
    enum judge_kind judge;
    struct engine_config engine;
    const char *native;
    unsigned only;
};

/* Returns whether the command line makes sense. */
static bool parse(int argc, char **argv, struct tester *t, struct settings *set)
{
    static const struct option options[] = {
        { "engine", required_argument, NULL, 'e' },  { "seed", required_argument, NULL, 's' },
        { "count", required_argument, NULL, 'c' },   { "only", required_argument, NULL, 'o' },
        { "native", required_argument, NULL, 'n' },  { "keep-going", required_argument, NULL, 'k' },
        { "verbose", no_argument, NULL, 'v' },       { "kernel", no_argument, NULL, 'r' },
        { "no-windows", no_argument, NULL, 'w' },    { "judge", required_argument, NULL, 'j' },
        { "eager-windows", no_argument, NULL, 'W' }, { "undefined-flags", no_argument, NULL, 'u' },
        { "code16", no_argument, NULL, '6' },        { 0 },
    };
    bool have_engine = false;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) switch (opt) {
        case 'e':
            t->direct = set->engine.direct = !strcmp(optarg, "direct");
            if (strcmp(optarg, "interp") && strcmp(optarg, "bt") && !t->direct) return false;
            set->engine.kind = !strcmp(optarg, "interp") ? RT_INTERP : RT_BT;
            have_engine = true;
            break;
        case 'j':
            if (!strcmp(optarg, "native")) set->judge = JUDGE_NATIVE;
            else if (!strcmp(optarg, "interp")) set->judge = JUDGE_INTERP;
            else if (!strcmp(optarg, "auto")) set->judge = JUDGE_AUTO;
            else return false;
            break;
        case 's': t->seed = strtoull(optarg, NULL, 0); break;
        case 'c': t->count = strtoull(optarg, NULL, 0); break;
        case 'n': set->native = optarg; break;
        case 'k': t->keep_going = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'v': t->verbose = true; break;
        case 'r': t->kernel = set->engine.kernel = true; break;
        case 'w': set->engine.no_windows = true; break;
        case 'u': t->undefined_flags = true; break;
        case '6': t->code16 = true; break;
        case 'W': set->engine.eager_windows = true; break;
        case 'o':
            if ((t->only = set->only = op_by_name(optarg)) == OP_INVALID) return false;
            break;
        default: return false;
        }
    if (t->code16 && (t->kernel || t->direct)) return false;
    if (t->direct && (t->kernel || set->engine.no_windows))
        return false; /* user code only, and windows keep its books */
    /* The interpreter would agree with itself. */
    return have_engine && !(set->judge == JUDGE_INTERP && set->engine.kind == RT_INTERP);
}

static enum x87_pointers pointers_judged(const struct tester *t)
{
    if (t->native && !__builtin_cpu_is("amd")) return POINTERS_NONE;
    return t->kernel ? POINTERS_BUT_SELECTORS : POINTERS_ALL; /* the judge, whoever it is, runs at CPL 3 */
}

static bool processor_is_qemu(void)
{
    unsigned a, b = 0, c = 0, d = 0;
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* "TCGTCGTCGTCG" */
}

/* Decides who judges, and makes the shared memory. Returns 0 or the exit status. */
static int judge_new(struct tester *t, const struct settings *set)
{
    char probe[PATH_MAX], child[PATH_MAX];
    if ((size_t)snprintf(probe, sizeof(probe), "%s/native_probe", set->native) >= sizeof(probe))
        return setup_error(set->native, -ENAMETOOLONG);
    snprintf(child, sizeof(child), "%s/native_child", set->native);
    int err = set->judge == JUDGE_INTERP ? -ENOEXEC : native_probe(probe);
    if (!err) {
        if ((err = native_new(&t->native, child))) return setup_error(child, err);
        t->shared = native_shared(t->native);
        t->qemu = processor_is_qemu();
        if (t->qemu) printf("judge: QEMU's processor, which is asked for integer instructions only\n");
        return 0;
    }
    if (err != -ENOEXEC) return setup_error(probe, err);
    if (set->judge == JUDGE_NATIVE || set->engine.kind == RT_INTERP) {
        printf("skipped: only the processor can judge this, and this host runs no 32-bit code\n");
        return SKIPPED;
    }
    printf("judge: interpreter%s\n", set->judge == JUDGE_AUTO ? ", this host runs no 32-bit code" : "");
    t->shared = calloc(1, sizeof(*t->shared));
    return t->shared ? 0 : setup_error("memory", -ENOMEM);
}

/* Engines come last: their read-only page is the generator's. Returns 0 or the exit status. */
static int tester_new(struct tester *t, struct settings *set)
{
    struct engine_config stand_in = { .kind = RT_INTERP };
    const char *what = "";
    int err = judge_new(t, set);
    const struct gen_config asked = { .seed = t->seed,
                                      .only = set->only,
                                      .kernel = t->kernel,
                                      .qemu = t->qemu,
                                      .undefined = t->undefined_flags,
                                      .x87_pointers = pointers_judged(t) };

    if (err) return err;
    if ((err = decoder_new(&t->decoder))) return setup_error("decoder", err);
    if (!(t->gen = gen_new(t->decoder, &asked))) {
        fprintf(stderr, "diff_test: nothing to generate\n");
        return 2;
    }
    gen_memory(t->gen, t->shared);
    set->engine.ro = stand_in.ro = t->shared->ro;
    if (!t->native && (err = engine_new(&t->stand_in, &stand_in, &what))) return setup_error(what, err);
    err = engine_new(&t->engine, &set->engine, &what);
    if (err == -ENOTSUP && t->direct) {
        printf("skipped: %s\n", what);
        return SKIPPED;
    }
    return err ? setup_error(what, err) : 0;
}

static void tester_free(struct tester *t)
{
    engine_free(t->engine);
    engine_free(t->stand_in);
    gen_free(t->gen);
    decoder_free(t->decoder);
    if (!t->native) free(t->shared);
    native_free(t->native);
}

int main(int argc, char **argv)
{
    struct tester t = { .seed = 1, .count = 5000, .keep_going = 10, .only = OP_INVALID };
    struct settings set = { .native = NATIVE_DIR, .only = OP_INVALID };
    int err;

    if (!parse(argc, argv, &t, &set)) return usage();
    printf("diff_test: seed %llu, %llu cases\n", (unsigned long long)t.seed, (unsigned long long)t.count);
    hung_seed = t.seed;
    signal(SIGALRM, on_alarm);
    if (!(err = tester_new(&t, &set))) {
        err = run(&t);
        if (t.verbose) rt_stats_json(engine_rt(t.engine), stderr);
        if (err) setup_error(set.native, err);
        summary(&t);
        bool few = t.direct && set.only == OP_INVALID && t.ran_directly * 100 < t.done * DIRECT_SHARE;
        if (few) printf("FAIL: less than %u of 100 cases ran directly\n", DIRECT_SHARE);
        err = err || t.failed || few ? 1 : 0;
    }
    tester_free(&t);
    return err;
}
