/* Pass 1: cut the block. Decodes from the source until an instruction ends it, the page does, or it is long enough.
 * An instruction that straddles the page end makes a block of its own, so that only such blocks depend on two pages. */
#include "translator/front/decode.h"
#include "translator/xl.h"

#include <string.h>

static enum decode_status decode_at(struct xl_ctx *x, unsigned off, struct insn *in)
{
    const struct xl_source *s = x->src;
    return decode(x->xl->cfg.dec, s->bytes + off, s->nbytes - off, s->eip + off, true, x->xl->cfg.features, in);
}

/* The one instruction that begins in this page and ends in the next. */
static enum decode_status decode_straddling(struct xl_ctx *x, struct insn *in)
{
    const struct xl_source *s = x->src;
    u8 joined[32];
    unsigned n2 = s->nbytes2 < 15 ? s->nbytes2 : 15;
    memcpy(joined, s->bytes, s->nbytes);
    if (n2) memcpy(joined + s->nbytes, s->bytes2, n2); /* bytes2 is NULL when the next page is not mapped */
    return decode(x->xl->cfg.dec, joined, s->nbytes + n2, s->eip, true, x->xl->cfg.features, in);
}

/* What cannot be decoded from the bytes there are is left to the interpreter, which raises the right fault. */
static void make_undecodable(const struct xl_source *s, struct insn *in)
{
    memset(in, 0, sizeof *in);
    in->row = &insn_rows[INSN_INVALID];
    in->eip = s->eip;
    in->len = 1;
    in->next = s->eip + 1;
}

void xl_scan(struct xl_ctx *x)
{
    unsigned off = 0;
    x->n = 0;
    x->straddles = x->partial = x->before_straddling = x->looked_ahead = x->bound = false;
    while (x->n < XL_MAX_INSNS && off < x->src->nbytes) {
        struct insn *in = &x->insn[x->n];
        enum decode_status st = decode_at(x, off, in);
        if (st == DECODE_TRUNCATED) {
            x->before_straddling = x->looked_ahead = x->n > 0;
            if (x->n) break;
            x->bound = true;
            st = x->src->nbytes < 16 ? decode_straddling(x, in) : DECODE_TOO_LONG;
            x->straddles = st == DECODE_OK && in->len > x->src->nbytes;
            x->partial = st == DECODE_TRUNCATED;
        }
        if (st != DECODE_OK) {
            x->looked_ahead = x->n > 0;
            if (x->n) break;
            x->bound = true;
            make_undecodable(x->src, in);
        }
        x->looked_ahead = in->row == &insn_rows[INSN_INVALID]; /* its length may be a guess, from what lies behind */
        x->n++;
        off += in->len;
        if (x->straddles || in->row->attr & A_END || xl_policy(x, in) == xl_lower_emulate) break;
    }
}
