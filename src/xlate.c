/* The translator without a machine: what the `translate` verb prints.
 * Owns the cutting of raw code into pages, which is what the translator takes. */
#include "core/trace.h"
#include "runtime/cpu/cpu_ops.h"
#include "src/error.h"
#include "translator/front/decode.h"
#include "translator/translator.h"

#include <errno.h>
#include <string.h>

#define XLATE_MAX ((u64)1 << 20) /* of code: it is for reading */
#define XLATE_CACHE ((u64)64 << 20)

_Static_assert(VM_CODE_CACHE_MIN == XL_CACHE_MIN && VM_CODE_CACHE_MAX == XL_CACHE_MAX, "what vm.h promises");

struct xlate {
    const struct vm_translate_config *cfg;
    const struct cpu_model *model;
    struct decoder *dec;
    struct xl *xl;
    u8 *code;
    u64 len;
    u32 mode;
};

static int xlate_read(struct xlate *t, struct vm_error *err)
{
    const char *path = t->cfg->file;
    FILE *f = fopen(path, "re");
    if (!f) return vm_fail(err, -errno, "%s: %s", path, strerror(errno));
    t->code = malloc(XLATE_MAX + 1);
    if (t->code) t->len = fread(t->code, 1, XLATE_MAX + 1, f);
    int rc = !t->code ? -ENOMEM : ferror(f) ? -EIO : 0;
    fclose(f);
    if (rc) return vm_fail(err, rc, "%s: %s", path, strerror(-rc));
    if (!t->len) return vm_fail(err, -ENODATA, "%s: the file is empty", path);
    if (t->len > XLATE_MAX) return vm_fail(err, -EFBIG, "%s: more than 1 MiB of code", path);
    if (t->cfg->base + t->len > (u64)1 << 32) return vm_fail(err, -EINVAL, "--base: %s would reach beyond 4 GiB", path);
    return 0;
}

/* Length of the instruction at off; what cannot be decoded any further counts as one up to the end. */
static u64 xlate_insn_len(struct xlate *t, u64 off)
{
    struct insn in;
    u64 left = t->len - off;
    if (decode(t->dec, t->code + off, left > 15 ? 15 : (unsigned)left, t->cfg->base + (u32)off, !t->cfg->code16,
               t->model->features, &in)
        != DECODE_OK)
        return left > 15 ? 1 : left;
    return in.len;
}

/* For code that is never translated: only what it is. */
static void xlate_list(struct xlate *t, FILE *out)
{
    fprintf(out, "16-bit code is interpreted, not translated\n");
    for (u64 off = 0; off < t->len;) {
        char text[96];
        u64 n = xlate_insn_len(t, off);
        insn_text(t->dec, t->code + off, (unsigned)n, t->cfg->base + (u32)off, !t->cfg->code16, text, sizeof text);
        fprintf(out, "%08x  ", t->cfg->base + (u32)off);
        for (u64 i = 0; i < n; i++) fprintf(out, "%02x", t->code[off + i]);
        fprintf(out, "  %s\n", text);
        off += n;
    }
}

static void xlate_print(struct xlate *t, FILE *out)
{
    for (u64 off = 0; off < t->len;) {
        u32 eip = t->cfg->base + (u32)off;
        u64 in_page = PAGE_SIZE - (eip & ~PAGE_MASK), left = t->len - off;
        u64 n = left < in_page ? left : in_page, n2 = left - n < PAGE_SIZE ? left - n : PAGE_SIZE;
        struct xl_source src = {
            .eip = eip,
            .pa = eip,
            .mode = t->mode,
            .bytes = t->code + off,
            .nbytes = (unsigned)n,
            .bytes2 = n2 ? t->code + off + n : NULL,
            .nbytes2 = (unsigned)n2,
            .pa2 = n2 ? (paddr)eip + n : XL_NO_PAGE,
        };
        xl_dump_source(t->xl, &src, out);
        /* The next page begins where this one's last instruction ends. */
        u64 end = off + n;
        while (off < end) off += xlate_insn_len(t, off);
    }
}

static int xlate_setup(struct xlate *t, struct vm_error *err)
{
    const struct vm_translate_config *c = t->cfg;
    if (c->cpl > 3) return vm_fail(err, -EINVAL, "--cpl: %u is not a privilege level (0 to 3)", c->cpl);
    t->model = c->cpu ? cpu_model_find(c->cpu) : cpu_model_at(0);
    if (!t->model) return vm_fail(err, -EINVAL, "--cpu: there is no '%s' (see --help)", c->cpu);
    t->mode =
        c->cpl | MK_PE | MK_PG | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT | (c->code16 ? 0 : MK_CS32);
    int rc = decoder_new(&t->dec);
    return rc ? vm_fail(err, rc, "decoder: %s", strerror(-rc)) : 0;
}

int vm_translate(const struct vm_translate_config *cfg, FILE *out, struct vm_error *err)
{
    struct trace quiet = { .to = ~0u, .out = out };
    struct counters ctr = { 0 };
    struct xlate t = { .cfg = cfg };
    int rc = xlate_setup(&t, err);
    if (!rc) rc = xlate_read(&t, err);
    if (rc) goto out;
    if (!xl_can_translate(t.mode)) {
        xlate_list(&t, out);
        goto out;
    }
    struct xl_config xc = {
        .cache_bytes = XLATE_CACHE, .opt.features = t.model->features, .trace = &quiet, .ctr = &ctr, .dec = t.dec
    };
    rc = xl_new(&t.xl, &xc);
    if (rc) vm_fail(err, rc, "code cache: %s", strerror(-rc));
    else xlate_print(&t, out);
out:
    xl_free(t.xl);
    decoder_free(t.dec);
    free(t.code);
    return rc;
}
