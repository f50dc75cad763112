/* The translator without a machine: guest code and the host code it becomes, side by side.
 * Owns the cutting of raw code into pages, which is what the translator takes. */
#include "runtime/cpu/cpu_models.h"
#include "runtime/runtime.h"
#include "translator/front/decode.h"
#include "translator/translator.h"

#include <errno.h>

#define CACHE_BYTES ((u64)64 << 20)

struct listing {
    const struct rt_listing *in;
    u32 features, mode;
    struct decoder *dec;
    struct xl *xl;
    FILE *out;
};

/* Length of the instruction at off; what cannot be decoded any further counts as one up to the end. */
static u64 insn_len(const struct listing *t, u64 off)
{
    struct insn in;
    u64 left = t->in->len - off;
    if (decode(t->dec, t->in->code + off, left > 15 ? 15 : (unsigned)left, t->in->base + (u32)off, !t->in->code16,
               t->features, &in)
        != DECODE_OK)
        return left > 15 ? 1 : left;
    return in.len;
}

static void print_both(const struct listing *t)
{
    const u8 *code = t->in->code;
    for (u64 off = 0; off < t->in->len;) {
        u32 eip = t->in->base + (u32)off;
        u64 in_page = PAGE_SIZE - (eip & ~PAGE_MASK), left = t->in->len - off;
        u64 n = left < in_page ? left : in_page, n2 = left - n < PAGE_SIZE ? left - n : PAGE_SIZE;
        struct xl_source src = {
            .la = eip,
            .eip = eip,
            .pa = eip,
            .mode = t->mode,
            .context = mode_segmented(t->mode) ? 1 : 0,
            .limit = 0xffffffff,
            .bytes = code + off,
            .nbytes = (unsigned)n,
            .bytes2 = n2 ? code + off + n : NULL,
            .nbytes2 = (unsigned)n2,
            .pa2 = n2 ? (paddr)eip + n : XL_NO_PAGE,
        };
        xl_dump_source(t->xl, &src, t->out);
        /* The next page begins where this one's last instruction ends. */
        u64 end = off + n;
        while (off < end) off += insn_len(t, off);
    }
}

int rt_list_code(const struct rt_listing *in, FILE *out, const char **what)
{
    struct trace quiet = { .to = ~0u, .out = out };
    struct counters ctr = { 0 };
    struct cpu_model model;
    *what = "CPU model";
    if (cpu_model_make(&model, in->cpu_model)) return -EINVAL;
    struct listing t = { .in = in, .features = model.features, .out = out };
    t.mode = (in->cpl & MK_CPL) | MK_PE | MK_PG | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT;
    if (!in->code16) t.mode |= MK_CS32;
    t.mode = mode_translated(t.mode);
    *what = "decoder";
    int rc = decoder_new(&t.dec);
    if (rc) return rc;
    struct xl_config xc = {
        .cache_bytes = CACHE_BYTES, .opt.features = model.features, .trace = &quiet, .ctr = &ctr, .dec = t.dec
    };
    *what = "code cache";
    rc = xl_new(&t.xl, &xc);
    if (!rc) print_both(&t);
    xl_free(t.xl);
    decoder_free(t.dec);
    return rc;
}
