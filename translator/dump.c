/* Owns every printed form of a block: guest instructions and the host code they became, side by side. */
#include "translator/front/decode.h"
#include "translator/xl.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static void print_bytes(FILE *out, const u8 *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) fprintf(out, "%02x", b[i]);
}

static void print_guest(const struct xl_ctx *x, const struct insn *in, FILE *out)
{
    char text[96];
    insn_text(x->xl->cfg.dec, in->bytes, in->len, in->eip, true, text, sizeof text);
    fprintf(out, "%08x  ", in->eip);
    print_bytes(out, in->bytes, in->len);
    fprintf(out, "  %s\n", text);
}

static void print_host(const struct xl_ctx *x, const struct block *b, u32 from, u32 to, FILE *out)
{
    csh cs;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &cs) != CS_ERR_OK) return;
    const u8 *code = x->xl->rw + b->host_off + from;
    size_t left = to - from;
    u64 addr = (u64)x->xl->rx + b->host_off + from;
    cs_insn *ci = cs_malloc(cs);
    while (left && cs_disasm_iter(cs, &code, &left, &addr, ci))
        fprintf(out, "    %12llx  %s %s\n", (unsigned long long)ci->address, ci->mnemonic, ci->op_str);
    if (left) fprintf(out, "    %12llx  (%zu bytes not decoded)\n", (unsigned long long)addr, left);
    cs_free(ci, 1);
    cs_close(&cs);
}

static const struct insn *insn_at(const struct xl_ctx *x, unsigned guest)
{
    for (unsigned i = 0; i < x->n; i++)
        if (x->insn[i].eip - x->src->eip == guest) return &x->insn[i];
    return NULL;
}

static void print_block(const struct xl_ctx *x, const struct block *b, bool guest, bool host, FILE *out)
{
    fprintf(out, "block %08x pa %llx mode %03x: %u instructions, %u bytes -> %u bytes\n", b->eip,
            (unsigned long long)b->pa, b->mode, b->ninsns, b->guest_len, b->host_len);
    for (unsigned i = 0; i < x->nrec; i++) {
        u32 to = i + 1 < x->nrec ? x->rec[i + 1].host : b->host_len;
        const struct insn *in = insn_at(x, x->rec[i].guest);
        if (guest && in) print_guest(x, in, out);
        if (host) print_host(x, b, x->rec[i].host, to, out);
    }
}

/* tools/perf/Documentation/jit-interface.txt: "START SIZE symbolname", hexadecimal. */
int xl_perf_open(struct xl *xl)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%ld.map", (long)getpid());
    xl->perf = fopen(name, "we");
    return xl->perf ? 0 : -errno;
}

void xl_perf_block(struct xl *xl, const struct block *b)
{
    if (!xl->perf) return;
    fprintf(xl->perf, "%llx %x guest_%s_%08x\n", (unsigned long long)((u64)xl->rx + b->host_off), b->host_len,
            (b->mode & MK_CPL) == 3 ? "user" : "kernel", b->eip);
}

void xl_trace_block(struct xl *xl, const struct xl_ctx *x, const struct block *b)
{
    const struct trace *t = xl->cfg.trace;
    bool guest = trace_on(t, TR_guest, b->eip), host = trace_on(t, TR_host, b->eip);
    if (guest || host) print_block(x, b, guest, host, t->out);
}

void xl_dump_source(struct xl *xl, const struct xl_source *src, FILE *out)
{
    struct xl_source at = *src;
    struct trace all = { .mask = 1u << TR_guest | 1u << TR_host, .from = 0, .to = ~0u, .out = out };
    const struct trace *before = xl->cfg.trace;
    xl->cfg.trace = &all;
    while (at.nbytes) {
        bool evicted;
        struct block *b = xl_translate(xl, &at, &evicted);
        unsigned n = b->guest_len < at.nbytes ? b->guest_len : at.nbytes;
        at.eip += n;
        at.pa += n;
        at.bytes += n;
        at.nbytes -= n;
    }
    xl->cfg.trace = before;
}
