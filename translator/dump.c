/* Owns every printed form of a block: guest instructions and the host code they became, side by side. */
#include "translator/dump.h"

#include <capstone/capstone.h>
#include <string.h>

static void print_bytes(FILE *out, const u8 *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) fprintf(out, "%02x", b[i]);
}

static void print_guest(const struct xl *xl, bool code32, const struct insn *in, FILE *out)
{
    char text[96];
    insn_text(xl->cfg.dec, in->bytes, in->len, in->eip, code32, text, sizeof text);
    fprintf(out, "%08x  ", in->eip);
    print_bytes(out, in->bytes, in->len);
    fprintf(out, "  %s\n", text);
}

static void print_host(const struct xl *xl, const struct block *b, u32 from, u32 to, FILE *out)
{
    csh cs;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &cs) != CS_ERR_OK) return;
    const u8 *code = xl->rw + b->host_off + from;
    size_t left = to - from;
    u64 addr = (u64)xl->rx + b->host_off + from;
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
        if (x->scan.insn[i].eip - x->src->eip == guest) return &x->scan.insn[i];
    return NULL;
}

static void print_block(const struct xl *xl, const struct xl_ctx *x, const struct block *b, bool guest, bool host,
                        FILE *out)
{
    fprintf(out, "block %08x pa %llx mode %03x: %u instructions, %u bytes -> %u bytes\n", b->eip,
            (unsigned long long)b->pa, b->mode, b->ninsns, b->guest_len, b->host_len);
    for (unsigned i = 0; i < x->nrec; i++) {
        u32 to = i + 1 < x->nrec ? x->rec[i + 1].host : b->host_len;
        const struct insn *in = insn_at(x, record_guest(&x->rec[i]));
        if (guest && in) print_guest(xl, (b->mode & MK_CS32) != 0, in, out);
        if (host) print_host(xl, b, x->rec[i].host, to, out);
    }
}

void xl_trace_block(struct xl *xl, const struct xl_ctx *x, const struct block *b)
{
    const struct trace *t = xl->cfg.trace;
    bool guest = trace_on(t, TR_guest, b->eip), host = trace_on(t, TR_host, b->eip);
    if (guest || host) print_block(xl, x, b, guest, host, t->out);
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
        at.la += n;
        at.eip += n;
        at.pa += n;
        at.bytes += n;
        at.nbytes -= n;
    }
    xl->cfg.trace = before;
}
