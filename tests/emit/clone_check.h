/* What a template gives must be what translation gives: byte for byte, but for the numbers of the block's own edges. */
#ifndef TESTS_EMIT_CLONE_CHECK_H
#define TESTS_EMIT_CLONE_CHECK_H
#include "tests/emit/xl_fixture.h"

#define CLONE_FAIL(...) (snprintf(clone_text, sizeof clone_text, __VA_ARGS__), clone_text)
static char clone_text[160];

static inline const char *clone_edges(const struct xlf *f, const struct block *a, const struct block *b, u8 *code_a,
                                      u8 *code_b)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct edge *x = &a->edge[i], *y = &b->edge[i];
        if (!x->from != !y->from) return CLONE_FAIL("edge %u is there in one only", i);
        if (!x->from) continue;
        if (x->target != y->target) return CLONE_FAIL("edge %u goes to %03x, not %03x", i, x->target, y->target);
        if (x->patch - a->host_off != y->patch - b->host_off || x->thunk - a->host_off != y->thunk - b->host_off)
            return CLONE_FAIL("edge %u lies elsewhere", i);
        u32 at = x->thunk - a->host_off + 2, na, nb; /* mov r8d, imm32 */
        memcpy(&na, code_a + at, 4);
        memcpy(&nb, code_b + at, 4);
        if (xl_edge(f->xl, na) != x || xl_edge(f->xl, nb) != y)
            return CLONE_FAIL("a thunk names another edge than %u", i);
        memset(code_a + at, 0, 4);
        memset(code_b + at, 0, 4);
    }
    return NULL;
}

/* Two blocks of one translator that are not linked. Returns NULL, or what is different. */
static inline const char *clone_compare(const struct xlf *f, const struct block *a, const struct block *b)
{
    static u8 code_a[XL_MAX_HOST], code_b[XL_MAX_HOST];
    if (a->la != b->la || a->eip != b->eip || a->pa != b->pa || a->pa2 != b->pa2 || a->mode != b->mode)
        return "another place or mode";
    if (a->host_len != b->host_len || a->guest_len != b->guest_len || a->ninsns != b->ninsns || a->nrec != b->nrec
        || a->partial != b->partial)
        return CLONE_FAIL("%u host bytes, %u guest bytes, %u instructions, %u records; not %u, %u, %u, %u", a->host_len,
                          a->guest_len, a->ninsns, a->nrec, b->host_len, b->guest_len, b->ninsns, b->nrec);
    if (memcmp(xlf_records(f, a), xlf_records(f, b), a->nrec * sizeof(struct record))) return "other records";
    memcpy(code_a, xlf_host(f, a), a->host_len);
    memcpy(code_b, xlf_host(f, b), b->host_len);
    const char *err = clone_edges(f, a, b, code_a, code_b);
    for (u32 i = 0; i < a->host_len && !err; i++)
        if (code_a[i] != code_b[i]) return CLONE_FAIL("host byte +%x is %02x, not %02x", i, code_a[i], code_b[i]);
    return err;
}

/* b has come out of a template: translates src in earnest and compares. b is gone then. There must be room for a block.
 */
static inline const char *clone_check(struct xlf *f, struct block *b, const struct xl_source *src)
{
    bool evicted;
    xl_forget(f->xl, b);
    f->xl->cfg.no_templates = true;
    struct block *again = xl_translate(f->xl, src, &evicted);
    f->xl->cfg.no_templates = false;
    const char *err = evicted ? "no room" : clone_compare(f, b, again);
    xl_forget(f->xl, again);
    return err;
}

/* A page of code, so that sources end where their page does. */
struct clone_page {
    u8 bytes[PAGE_SIZE + 16];
};

static inline struct xl_source clone_source(const struct clone_page *p, laddr eip, paddr pa, u32 mode)
{
    unsigned off = eip & ~PAGE_MASK;
    return (struct xl_source){ .la = eip,
                               .eip = eip,
                               .pa = (pa & ~(paddr)(PAGE_SIZE - 1)) | off,
                               .mode = mode,
                               .bytes = p->bytes + off,
                               .nbytes = PAGE_SIZE - off,
                               .bytes2 = p->bytes + PAGE_SIZE,
                               .nbytes2 = 16,
                               .pa2 = (pa & ~(paddr)(PAGE_SIZE - 1)) + PAGE_SIZE };
}

#endif
