/* A translator without a machine, for the tests that look at what it makes: code from byte arrays.
 * One test program, one translation unit: so the definitions are right here. */
#ifndef TESTS_EMIT_XL_FIXTURE_H
#define TESTS_EMIT_XL_FIXTURE_H
#include "translator/front/decode.h"
#include "translator/store/alias.h"
#include "translator/store/xl.h"

#include <string.h>

/* Nothing is there. */
#define XLF_MISS 0x7e00000f0000ull

#define MODE_BARE (MK_PE | MK_CS32 | MK_SS32 | MK_CSFLAT | MK_PG)
#define MODE_FLAT (MODE_BARE | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT)
#define MODE_USER (MODE_FLAT | 3)

struct xlf {
    struct xl *xl;
    struct decoder *dec;
    struct counters ctr;
    struct trace trace;
};

static inline void xlf_init(struct xlf *f, u64 cache_bytes, bool window, u32 disabled)
{
    memset(f, 0, sizeof *f);
    f->trace = (struct trace){ .to = ~0u, .out = stderr };
    BUG_ON(decoder_new(&f->dec));
    struct xl_config cfg = { .cache_bytes = cache_bytes,
                             .opt = { .disabled = disabled, .features = ~0u, .window = window },
                             .miss = (void *)XLF_MISS,
                             .trace = &f->trace,
                             .ctr = &f->ctr,
                             .dec = f->dec };
    BUG_ON(xl_new(&f->xl, &cfg));
}

static inline void xlf_free(struct xlf *f)
{
    xl_free(f->xl);
    decoder_free(f->dec);
}

/* Of segmented code: with a limit, in a paragraph of real or virtual-8086 mode. */
#define XLF_PARAGRAPH 0x1234
static inline u32 xlf_context(u32 mode)
{
    bool paragraph = mode & MK_CSLIMIT && (mode & (MK_PE | MK_VM)) != MK_PE;
    return !mode_segmented(mode) ? 0 : paragraph ? context_of_paragraph(mode, XLF_PARAGRAPH) : 1;
}

/* n bytes at eip, which may run past its page: those on the next page are at physical pa2. */
static inline struct xl_source xlf_source2(laddr eip, paddr pa, paddr pa2, u32 mode, const u8 *bytes, unsigned n)
{
    unsigned room = PAGE_SIZE - (eip & ~PAGE_MASK), first = n < room ? n : room;
    bool more = n > first && pa2 != XL_NO_PAGE;
    return (struct xl_source){ .la = eip,
                               .eip = eip,
                               .pa = pa,
                               .mode = mode,
                               .context = xlf_context(mode),
                               .limit = mode & MK_CSLIMIT ? 0xffff : 0xffffffff,
                               .bytes = bytes,
                               .nbytes = first,
                               .bytes2 = more ? bytes + first : NULL,
                               .nbytes2 = more ? n - first : 0,
                               .pa2 = more ? pa2 : XL_NO_PAGE };
}
static inline struct xl_source xlf_source(laddr eip, u32 mode, const u8 *bytes, unsigned n)
{
    return xlf_source2(eip, eip, (eip & PAGE_MASK) + (paddr)PAGE_SIZE, mode, bytes, n);
}

static inline struct block *xlf_translate(struct xlf *f, laddr eip, u32 mode, const u8 *bytes, unsigned n)
{
    struct xl_source src = xlf_source(eip, mode, bytes, n);
    bool evicted;
    return xl_translate(f->xl, &src, &evicted);
}

/* Flat code. */
static inline struct block *xlf_find(struct xl *xl, laddr la, paddr pa, u32 mode)
{
    struct xl_source key = { .la = la, .eip = la, .pa = pa, .mode = mode };
    return xl_find(xl, &key);
}

/* Whether the page of pa has LIVE blocks. */
static inline bool xlf_has_live(const struct xl *xl, paddr pa)
{
    const struct code_page *page = xl_page(xl, pa);
    return page && page->live;
}

/* Host code and records of a block, in the view that may be read. */
static inline const u8 *xlf_host(const struct xlf *f, const struct block *b) { return f->xl->rw + b->host_off; }
static inline const struct record *xlf_records(const struct xlf *f, const struct block *b)
{
    return (const struct record *)(f->xl->side + b->rec_off);
}

#endif
