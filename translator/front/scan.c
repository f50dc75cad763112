/* Pass 1: cuts the block. Decodes from the source until an instruction ends it, the page does, or it is long enough.
 * An instruction that straddles the page end makes a block of its own, so that only such blocks depend on two pages. */
#include "translator/front/scan.h"

#include <string.h>

_Static_assert(SCAN_CHECKED_INSNS * 15 == XL_CHECKED_MAX, "no instruction has more than 15 bytes");

static bool code32(const struct xl_source *src) { return (src->mode & MK_CS32) != 0; }

/* The one instruction that begins in this page and ends in the next. */
static enum decode_status decode_straddling(const struct xl_source *src, struct decoder *dec, u32 features,
                                            struct insn *in)
{
    u8 joined[32];
    unsigned n2 = src->nbytes2 < 15 ? src->nbytes2 : 15;
    memcpy(joined, src->bytes, src->nbytes);
    if (n2) memcpy(joined + src->nbytes, src->bytes2, n2); /* bytes2 is NULL when the next page is not mapped */
    return decode(dec, joined, src->nbytes + n2, src->eip, code32(src), features, in);
}

/* What cannot be decoded from the bytes there are is left to the interpreter, which raises the right fault. */
static void make_undecodable(const struct xl_source *src, struct insn *in)
{
    memset(in, 0, sizeof *in);
    in->row = &insn_rows[INSN_INVALID];
    in->eip = src->eip;
    in->len = 1;
    in->next = src->eip + 1;
}

/* Whether the first n bytes have a stop after the first of them. It may be inside of an instruction, where it is none.
 */
static bool reaches_stop(const struct xl_source *src, unsigned n)
{
    return src->stop_before && src->stop_before - src->la < n;
}

bool scan_may_write(const struct insn *in)
{
    return insn_writes_mem(in) || in->row->attr & (A_STACK | A_IMPMEM) || in->row->cls == CLS_seg;
}

/* Of a block that compares its bytes, n bytes long so far. What comes behind a write to memory is to run as that has
 * left it (SDM vol. 3, 11.6), so it is compared then: not where the page ends too soon for that. */
static bool ends_checked(struct scan *s, const struct xl_source *src, unsigned n)
{
    if (s->n == SCAN_CHECKED_INSNS) return true;
    if (!scan_may_write(&s->insn[s->n - 1])) return false;
    if (!s->head) s->head = n;
    return src->nbytes < n + SCAN_COMPARED;
}

/* Whether CS lets all of it be fetched. What does not fit is left to the interpreter, which raises the fault. One of
 * 4 GiB wraps around. */
static bool within_limit(const struct xl_source *src, const struct insn *in)
{
    u32 last = in->eip + in->len - 1;
    return !(src->mode & MK_CSLIMIT) || (last >= in->eip && last <= src->limit);
}

/* Segmented code goes on behind a load of SS: interrupts wait for the next instruction. */
static bool ends_block(const struct xl_source *src, const struct insn *in)
{
    return in->row->attr & A_END && !(in->row->attr & A_SHADOW && mode_segmented(src->mode));
}

void xl_scan(struct scan *s, const struct xl_source *src, struct decoder *dec, u32 features)
{
    unsigned off = 0;
    s->n = s->head = 0;
    s->straddles = s->partial = s->before_straddling = s->looked_ahead = s->bound = false;
    while (s->n < XL_MAX_INSNS && off < src->nbytes) {
        struct insn *in = &s->insn[s->n];
        enum decode_status st =
            decode(dec, src->bytes + off, src->nbytes - off, src->eip + off, code32(src), features, in);
        if (st == DECODE_TRUNCATED) {
            s->before_straddling = s->looked_ahead = s->n > 0;
            if (s->n) break;
            s->bound = true;
            st = src->nbytes < 16 ? decode_straddling(src, dec, features, in) : DECODE_TOO_LONG;
            s->straddles = st == DECODE_OK && in->len > src->nbytes;
            s->partial = st == DECODE_TRUNCATED;
        }
        if (st != DECODE_OK || !within_limit(src, in)) {
            s->looked_ahead = s->n > 0;
            if (s->n) break;
            s->bound = true;
            make_undecodable(src, in);
        }
        if (s->n && reaches_stop(src, off + in->len)) break;
        /* The length of one that is not known may be a guess, made from what lies after it. */
        s->looked_ahead = in->row == &insn_rows[INSN_INVALID];
        s->n++;
        off += in->len;
        if (reaches_stop(src, off)) break;
        if (s->straddles || ends_block(src, in)) break;
        if (src->mode & MK_CHECKED && ends_checked(s, src, off)) break;
    }
    s->bound |= src->bound || src->mode & MK_CHECKED || mode_segmented(src->mode);
}
