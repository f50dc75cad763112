/* What a machine leaves behind for people to read: the diagnosis of a dead guest, and the counters as JSON. */
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/except.h"
#include "runtime/mem/mmu.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"
#include "translator/front/decode.h"

#include <stdarg.h>
#include <x86intrin.h>

void rt_warn(const struct rt *rt, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    if (!rt->cfg.warn) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    rt->cfg.warn(rt->cfg.warn_arg, text);
}

static void print_seg(FILE *out, const char *name, const struct seg *s)
{
    fprintf(out, "  %-4s %04x base %08x limit %08x attr %05x%s\n", name, s->sel, s->base, s->limit, s->attr,
            s->attr & SEG_UNUSABLE ? " (null)" : "");
}

/* The instruction at CS:EIP, read without side effects. */
static void print_instruction(struct rt *rt, FILE *out)
{
    struct cpu *c = rt->cpu;
    u8 bytes[15];
    unsigned n = 0;
    for (; n < sizeof bytes; n++) {
        paddr pa;
        if (!mmu_probe(c, c->seg[S_CS].base + c->eip + n, &pa)) break;
        const u8 *p = bus_ram_ptr(rt->bus, pa);
        if (!p) break;
        bytes[n] = *p;
    }
    if (!n) {
        fprintf(out, "  the instruction at %08x cannot be read\n", c->eip);
        return;
    }
    bool code32 = (c->seg[S_CS].attr & SEG_D) != 0;
    struct insn in;
    unsigned len = decode(rt->dec, bytes, n, c->eip, code32, c->model->features, &in) == DECODE_OK ? in.len : n;
    char text[128];
    insn_text(rt->dec, bytes, len, c->eip, code32, text, sizeof text);
    fprintf(out, "  %04x:%08x ", c->seg[S_CS].sel, c->eip);
    for (unsigned i = 0; i < len; i++) fprintf(out, " %02x", bytes[i]);
    fprintf(out, "  %s\n", text);
}

void rt_diagnose(struct rt *rt, FILE *out)
{
    static const char *const gpr[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
    static const char *const seg[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    const struct cpu *c = rt->cpu;
    fprintf(out, "guest CPU state:\n ");
    for (unsigned i = 0; i < 8; i++) fprintf(out, " %s %08x%s", gpr[i], c->gpr[i], i == 3 ? "\n " : "");
    fprintf(out, "\n  eip %08x eflags %08x cpl %u\n", c->eip, cpu_eflags(c), c->cpl);
    fprintf(out, "  cr0 %08x cr2 %08x cr3 %08x cr4 %08x efer %llx\n", c->cr0, c->cr2, c->cr3, c->cr4,
            (unsigned long long)c->efer);
    for (unsigned i = 0; i < S_COUNT; i++) print_seg(out, seg[i], &c->seg[i]);
    print_seg(out, "ldtr", &c->ldtr);
    print_seg(out, "tr", &c->tr);
    fprintf(out, "  gdtr base %08x limit %04x  idtr base %08x limit %04x\n", c->gdtr.base, c->gdtr.limit, c->idtr.base,
            c->idtr.limit);
    print_instruction(rt, out);
    exc_describe_chain(c, out);
}

static void print_by_op(FILE *out, const char *what, const u64 by_op[OP_COUNT])
{
    static const char *const name[OP_COUNT] = {
        [OP_INVALID] = "invalid",
#define INSN_OP(op) [OP_##op] = #op,
#include "translator/front/insn_op.def"
#undef INSN_OP
    };
    const char *sep = "";
    fprintf(out, "  \"%s\": {", what);
    for (unsigned i = 0; i < OP_COUNT; i++) {
        if (!by_op[i]) continue;
        fprintf(out, "%s\"%s\": %llu", sep, name[i], (unsigned long long)by_op[i]);
        sep = ", ";
    }
    fprintf(out, "},\n");
}

void rt_stats_json(struct rt *rt, FILE *out)
{
    const struct counters *n = &rt->cpu->ctr;
    fprintf(out, "{\n");
#define COUNTER(name, text) fprintf(out, "  \"%s\": %llu,\n", #name, (unsigned long long)n->name);
#include "core/counters.def"
#undef COUNTER
    if (rt->engine->report) rt->engine->report(rt, out);
    print_by_op(out, "emulated_by_mnemonic", rt->emulated_op);
    print_by_op(out, "emulated_cycles_by_mnemonic", rt->emulated_cycles); /* of a sample */
    if (rt->tap.count || !rt->xl)
        fprintf(out, "  \"instructions_retired\": %llu,\n", (unsigned long long)rt_instructions(rt));
    u64 cycles = rt->run_cycles + (rt->running ? __rdtsc() - rt->run_began : 0);
    fprintf(out, "  \"run_cycles\": %llu,\n  \"guest_ns\": %llu,\n  \"hidden_ns\": %llu,\n  \"lag_ns\": %llu\n}\n",
            (unsigned long long)cycles, (unsigned long long)clock_now(rt->clock),
            (unsigned long long)clock_hidden_ns(rt->clock), (unsigned long long)clock_lag_ns(rt->clock));
}
