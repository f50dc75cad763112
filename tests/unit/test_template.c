/* template.c and template_file.c: which blocks a template serves, that what it gives is what translation gives, and
 * what is not loaded. Whether that holds for all code is for tests/emit and tests/fuzz. */
#include "tests/diff/rng.h"
#include "tests/emit/clone_check.h"
#include "translator/lower/reloc.h"
#include "translator/store/alias.h"
#include "translator/store/chain.h"
#include "translator/store/hostmem.h"
#include "translator/store/jump.h"
#include "translator/store/recover.h"
#include "translator/store/store.h"
#include "translator/store/template.h"

#include <check.h>
#include <xxhash.h>

static struct xlf f, g;
static struct clone_page page;

static void setup(void)
{
    xlf_init(&f, 1 << 20, true, 0);
    xlf_init(&g, 1 << 20, true, 0);
    memset(page.bytes, 0x90, sizeof page.bytes);
}
static void teardown(void)
{
    xlf_free(&f);
    xlf_free(&g);
}

#define A 0x00401100u
#define B 0xb7d3c100u /* the same offset in the page */
#define PA 0x5000u
#define CODE(eip, code) memcpy(page.bytes + ((eip) & ~PAGE_MASK), code, sizeof(code) - 1)

static struct block *have(struct xlf *x, laddr eip, paddr pa, u32 mode)
{
    struct xl_source src = clone_source(&page, eip, pa, mode);
    bool evicted;
    return xl_translate(x->xl, &src, &evicted);
}

/* What became of the last one: it was translated, or a template served and gave the right thing. */
static bool cloned_at(struct xlf *x, laddr eip, paddr pa, u32 mode)
{
    u64 before = x->ctr.cloned;
    struct block *b = have(x, eip, pa, mode);
    if (x->ctr.cloned == before) return false;
    struct xl_source src = clone_source(&page, eip, pa, mode);
    const char *err = clone_check(x, b, &src);
    if (err) ck_abort_msg("%s", err);
    return true;
}

/* call far away; the other one: a load, a store of a constant, a jump in the page */
#define CALL_AWAY "\xe8\x00\x20\x00\x00\xc3\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90"
#define LOADS "\x8b\x83\x00\x00\x34\xc1\xc7\x03\x00\x10\x40\xc1\xeb\x10\x90\x90"

/* ---- which blocks a template serves ---- */

START_TEST(the_same_bytes_elsewhere_are_not_translated_again)
{
    CODE(A, CALL_AWAY);
    have(&f, A, PA, MODE_FLAT);
    ck_assert(cloned_at(&f, B, 0x9000, MODE_FLAT));
    ck_assert(cloned_at(&f, A, 0x9000, MODE_FLAT)); /* another copy of the page */
    ck_assert(cloned_at(&f, A, PA, MODE_FLAT));
    ck_assert(cloned_at(&f, 0xfffff100u, PA, MODE_FLAT)); /* its call wraps around */
}
END_TEST

START_TEST(another_mode_offset_or_byte_is_translated)
{
    CODE(A, CALL_AWAY);
    CODE(A + 0x20, CALL_AWAY);
    have(&f, A, PA, MODE_FLAT);
    ck_assert(!cloned_at(&f, A, PA, MODE_USER));
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT & ~(u32)MK_DSFLAT));
    ck_assert(!cloned_at(&f, A + 0x20, PA, MODE_FLAT));
    for (unsigned i = 0; i < 5; i++) {
        page.bytes[(A & ~PAGE_MASK) + i] ^= 1;
        ck_assert_msg(!cloned_at(&f, B, PA, MODE_FLAT), "byte %u", i);
        page.bytes[(A & ~PAGE_MASK) + i] ^= 1;
    }
    ck_assert(cloned_at(&f, B, PA, MODE_FLAT));
}
END_TEST

START_TEST(a_site_that_is_soft_or_wraps_is_part_of_what_is_compared)
{
    CODE(A, LOADS);
    have(&f, A, PA, MODE_FLAT);
    xl_site_fault(f.xl, 0x9106, false); /* the store, at 9000h: soft */
    ck_assert(!cloned_at(&f, A, 0x9000, MODE_FLAT));
    ck_assert(cloned_at(&f, A, 0x9000, MODE_FLAT)); /* the template of just now */
    ck_assert(cloned_at(&f, A, 0xa000, MODE_FLAT)); /* that of before */
    xl_site_fault(f.xl, 0xb106, true);              /* wraps */
    ck_assert(!cloned_at(&f, A, 0xb000, MODE_FLAT));
    xl_site_fault(f.xl, 0xc100, false); /* the load */
    ck_assert(!cloned_at(&f, A, 0xc000, MODE_FLAT));
}
END_TEST

START_TEST(what_lies_behind_a_block_counts_where_it_was_looked_at)
{
    laddr eip = 0x00401ff0;
    memset(page.bytes + 0xff0, 0x40, 16); /* inc eax */
    page.bytes[0xfff] = 0xb8;             /* mov eax, imm32: straddles, so that the block ends before it */
    struct block *b = have(&f, eip, PA, MODE_FLAT);
    ck_assert_uint_eq(b->guest_len, 15);
    ck_assert(cloned_at(&f, eip, 0x9000, MODE_FLAT));
    page.bytes[0xfff] = 0x40; /* it goes on to the page's end now */
    ck_assert(!cloned_at(&f, eip, 0xa000, MODE_FLAT));
}
END_TEST

START_TEST(what_depends_on_another_page_has_no_template)
{
    laddr eip = 0x00401ffe;
    memcpy(page.bytes + 0xffe, "\xb8\x78\x56\x34\x12", 5);
    have(&f, eip, PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.templates, 0);
    struct xl_source src = clone_source(&page, eip, PA, MODE_FLAT);
    src.bytes2 = NULL, src.nbytes2 = 0, src.pa2 = XL_NO_PAGE;
    bool evicted;
    ck_assert(xl_block_partial(xl_translate(f.xl, &src, &evicted)));
    memset(page.bytes + 0xf00, 0x66, 32); /* prefixes without end */
    have(&f, 0x00401f00, PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.templates, 0);
    src = clone_source(&page, A, PA, MODE_FLAT);
    src.nbytes = 20; /* a source that does not go to the end of its page */
    xl_translate(f.xl, &src, &evicted);
    ck_assert_uint_eq(f.ctr.templates, 0);
}
END_TEST

/* ---- one physical page at ever other linear addresses, as a library is ---- */

#define ALIASES 2 /* as many as readdress.c keeps, unless all of them are in use */
static void time_passes(void) { f.xl->finds += 1 << 14; }
#define NTH(eip, i) ((eip) + ((i) << PAGE_SHIFT))
static struct block *there(laddr eip) { return xlf_find(f.xl, eip, PA | (eip & ~PAGE_MASK), MODE_FLAT); }

START_TEST(a_page_has_so_many_places_and_no_more)
{
    CODE(A, CALL_AWAY);
    for (u32 i = 0; i < ALIASES; i++) have(&f, NTH(A, i), PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.readdressed, 0);
    u32 blocks = f.xl->nblocks;
    for (u32 i = ALIASES; i < 5 * ALIASES; i++) {
        time_passes();
        struct block *b = have(&f, NTH(A, i), PA, MODE_FLAT);
        ck_assert_uint_eq(f.xl->nblocks, blocks);
        ck_assert_ptr_null(there(NTH(A, i - ALIASES))); /* the oldest */
        ck_assert_ptr_eq(there(NTH(A, i)), b);
        ck_assert_uint_eq(xl_page(f.xl, PA)->live, ALIASES);
    }
    ck_assert_uint_eq(f.ctr.readdressed, 4 * ALIASES);
    ck_assert(cloned_at(&f, B, 0x9000, MODE_FLAT)); /* out of a template whose own code has been moved */
}
END_TEST

START_TEST(a_place_that_is_looked_for_stays)
{
    CODE(A, CALL_AWAY);
    for (u32 i = 0; i < 20 * ALIASES; i++) {
        have(&f, NTH(A, i), PA, MODE_FLAT);
        time_passes();
        ck_assert_ptr_nonnull(there(A));
    }
}
END_TEST

/* A branch and where it goes, linked, both in a jump cache; what has been forgotten, and what has no template. */
START_TEST(a_page_is_moved_with_its_links)
{
    CODE(A, "\x74\x1e\xeb\x0e"); /* jz +20h; jmp +12h */
    CODE(A + 0x20, CALL_AWAY);
    CODE(A + 0x40, "\xc3");
    memcpy(page.bytes + 0xffe, "\xb8\x78\x56\x34\x12", 5); /* straddles */
    struct block *from = have(&f, A, PA, MODE_FLAT), *to = have(&f, A + 0x20, PA, MODE_FLAT),
                 *gone = have(&f, A + 0x40, PA, MODE_FLAT);
    have(&f, A | 0xffe, PA, MODE_FLAT);
    xl_link(f.xl, &from->edge[0], to);
    xl_forget(f.xl, gone);
    for (u32 i = 1; i < ALIASES; i++) have(&f, NTH(A, i), PA, MODE_FLAT);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, from);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, to);
    ck_assert_ptr_eq(xl_jump_again(f.xl, XL_JC_SUPERVISOR, MODE_FLAT, A), xl_entry(f.xl, from));
    const struct jump_entry *j = xl_jump_cache(f.xl, XL_JC_SUPERVISOR);
    ck_assert_uint_eq(j[jump_index(to->eip)].neg_eip, -to->eip);

    time_passes();
    ck_assert_ptr_eq(have(&f, B, PA, MODE_FLAT), from);
    ck_assert_ptr_eq(there(B + 0x20), to);
    ck_assert_ptr_eq(from->edge[0].to, to);
    ck_assert_uint_eq(xl_edge_target(&from->edge[0]), B + 0x20);
    ck_assert_uint_eq(xl_edge_target(&from->edge[1]), B + 2);
    for (laddr off = 0; off < PAGE_SIZE; off++) {
        laddr la = (A & PAGE_MASK) + off;
        ck_assert_ptr_null(there(la));
        ck_assert_uint_ne(j[jump_index(la)].neg_eip, -la);
    }
    ck_assert_uint_eq(gone->state, BLOCK_DEAD);
    ck_assert_ptr_null(xl_jump_again(f.xl, XL_JC_SUPERVISOR, MODE_FLAT, A));
    ck_assert_ptr_null(xl_jump_again(f.xl, XL_JC_SUPERVISOR, MODE_FLAT, B));
    struct xl_source moved = clone_source(&page, B, PA, MODE_FLAT);
    ck_assert_ptr_eq(xl_jump_known(f.xl, XL_JC_SUPERVISOR, &moved), xl_entry(f.xl, from)); /* its page as well */
    ck_assert_uint_eq(j[jump_index(B + 0x20)].neg_eip, -(B + 0x20));
    ck_assert_ptr_eq(have(&f, A, PA, MODE_FLAT)->edge[0].to, NULL); /* another one */
    struct xl_source src = clone_source(&page, B + 0x20, PA, MODE_FLAT);
    const char *err = clone_check(&f, to, &src);
    if (err) ck_abort_msg("%s", err);
    ck_assert_ptr_null(from->edge[0].to);
}
END_TEST

START_TEST(a_page_that_has_been_written_is_moved_and_looked_at_anew)
{
    CODE(A, CALL_AWAY);
    CODE(A + 0x20, "\xc3");
    for (u32 i = 0; i < ALIASES; i++) have(&f, NTH(A, i), PA, MODE_FLAT), have(&f, NTH(A + 0x20, i), PA, MODE_FLAT);
    xl_retire_page(f.xl, PA);
    page.bytes[A & ~PAGE_MASK] = 0xe9; /* a jump now */
    time_passes();
    struct block *ret = have(&f, B + 0x20, PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.readdressed, 2);
    ck_assert_uint_eq(f.ctr.revived, 1);
    ck_assert(xl_block_live(ret));
    ck_assert(!cloned_at(&f, B, PA, MODE_FLAT));
    ck_assert_uint_eq(xl_page(f.xl, PA)->live, 1 + 1);
}
END_TEST

START_TEST(what_is_traced_is_translated_though_its_page_could_be_moved_there)
{
    CODE(A, CALL_AWAY);
    for (u32 i = 0; i < ALIASES; i++) have(&f, NTH(A, i), PA, MODE_FLAT);
    u64 translated = f.ctr.blocks;
    time_passes();
    f.trace = (struct trace){ .mask = 1u << TR_host, .from = B, .to = B, .out = fopen("/dev/null", "w") };
    have(&f, B, PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.blocks, translated + 1);
    fclose(f.trace.out);
}
END_TEST

/* Second preimages of unseeded XXH3 for 16 bytes. It is a bijection of bswap(lo) + hi + fold(lo * hi), where lo and hi
 * are the two halves exclusive-or constants: for a small lo the other half follows bit by bit. */
static u64 half_lo(void) { return 0x6782737bea4239b9ull; }
static u64 half_hi(void) { return 0xaf56bc3b0996523aull; } /* 40 ^ 48 */

static u64 fold(u64 a, u64 b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (u64)p ^ (u64)(p >> 64);
}

/* Other bytes of the same hash, which begin with 81 39: cmp dword [ecx], imm32. */
static bool same_hash(const u8 *victim, u8 *other)
{
    u64 lo, hi, a = 0x81 ^ 0xb9;
    memcpy(&lo, victim, 8);
    memcpy(&hi, victim + 8, 8);
    lo ^= half_lo(), hi ^= half_hi();
    u64 want = __builtin_bswap64(lo) + hi + fold(lo, hi) - __builtin_bswap64(a);
    for (u64 high = 0; high < a; high++) {
        u64 h = 0;
        for (unsigned bit = 0; bit < 64; bit++)
            if (((h + ((a * h) ^ high)) ^ want) >> bit & 1) h |= 1ull << bit;
        if (h + fold(a, h) != want) continue;
        lo = a ^ half_lo(), hi = h ^ half_hi();
        memcpy(other, &lo, 8);
        memcpy(other + 8, &hi, 8);
        return true;
    }
    return false;
}

/* One process writes a page, runs it, and gives it back; it becomes another process's, elsewhere. */
START_TEST(a_process_cannot_leave_its_code_to_another_that_gets_its_page)
{
    u8 victim[16] = "\xb8....\xbb\x78\x56\x34\x12\x01\xd8\x40\x43\x90\xc3", other[16];
    struct block *b = NULL;
    for (u32 n = 0; !b || b->guest_len != 16; n++) {
        ck_assert_uint_lt(n, 100000);
        memcpy(victim + 1, &n, 4);
        if (!same_hash(victim, other)) continue;
        ck_assert_uint_eq(XXH3_64bits(victim, 16), XXH3_64bits(other, 16));
        memcpy(page.bytes + 0x100, other, 16);
        xl_flush(g.xl);
        b = have(&g, A, PA, MODE_USER);
    }
    for (u32 i = 0; i < ALIASES; i++) have(&f, NTH(A, i), PA, MODE_USER);
    xl_retire_page(f.xl, PA);
    memcpy(page.bytes + 0x100, victim, 16);
    struct xl_source src = clone_source(&page, B, PA, MODE_USER);
    time_passes();
    b = have(&f, B, PA, MODE_USER);
    const char *err = clone_check(&f, b, &src);
    if (err) ck_abort_msg("another's code: %s", err);
}
END_TEST

/* More processes than places take turns, as a busy machine has them: what has no template must not be made anew each
 * time. */
START_TEST(pages_that_take_turns_do_not_fill_the_cache)
{
    CODE(A, CALL_AWAY);
    memcpy(page.bytes + 0xffe, "\xb8\x78\x56\x34\x12", 5); /* straddles */
    u64 used = 0;
    for (u32 round = 0; round < 20; round++) {
        if (round == 2) used = f.xl->used;
        for (u32 i = 0; i <= ALIASES; i++)
            for (unsigned k = 0; k < 2; k++) {
                laddr eip = k ? NTH(A, i) | 0xfff : NTH(A, i);
                eip = k ? eip - 1 : eip;
                struct block *b = there(eip);
                if (!b) have(&f, eip, PA, MODE_FLAT);
            }
    }
    ck_assert_uint_eq(f.xl->used, used);
}
END_TEST

/* ---- whatever happens to it ---- */

enum { PHYS = 3, LINEAR = 24, SPOTS = 40 };
static struct clone_page ram[PHYS];
static struct rng dice;

static laddr spot(unsigned la, unsigned i) { return 0x10000000u + la * 0x00123000u + (i * 101u & 0xfff); }
static paddr phys(unsigned p) { return 0x7000 + p * 0x10000ull; }

/* A branch in the page, a call out of it, a load from an address, something that ends at once; the last spots reach the
 * page's end. */
static void write_spot(unsigned p, unsigned i)
{
    u8 code[16] = { 0 };
    u32 v = (u32)rng_below(&dice, 0x10000);
    unsigned off = i * 101u & 0xfff;
    switch (rng_below(&dice, 4)) {
    case 0:
        code[0] = 0x0f, code[1] = 0x84, v = (rng_below(&dice, SPOTS) * 101u & 0xfff) - (off + 6),
        memcpy(code + 2, &v, 4), code[6] = 0xc3;
        break;
    case 1: code[0] = 0xe8, v += 0x2000, memcpy(code + 1, &v, 4); break;
    case 2: code[0] = 0xa1, memcpy(code + 1, &v, 4), code[5] = 0xc3; break;
    default: code[0] = 0x40, code[1] = 0xc3; break;
    }
    unsigned n = off + 16 <= PAGE_SIZE + 16 ? 16 : 0;
    memcpy(ram[p].bytes + off, code, n);
}

static struct block *get(unsigned la, unsigned p, unsigned i, u32 mode)
{
    struct xl_source src = clone_source(&ram[p], spot(la, i), phys(p), mode);
    src.bytes2 = ram[(p + 1) % PHYS].bytes;
    src.pa2 = phys((p + 1) % PHYS);
    bool evicted;
    struct block *b = xlf_find(f.xl, src.eip, src.pa, mode);
    if (b && b->state == BLOCK_LIVE && !b->partial) return b;
    if (b && b->partial) xl_forget(f.xl, b);
    else if (b && xl_revive(f.xl, b, &src)) return b;
    return xl_translate(f.xl, &src, &evicted);
}

static const char *block_wrong(struct block *b)
{
    if (b->state != BLOCK_LIVE && b->state != BLOCK_RETIRED) return NULL;
    unsigned times = 0;
    if (b->alias->la != (b->eip & PAGE_MASK) || b->alias->pfn != b->pa >> PAGE_SHIFT)
        return "is in another place than its own";
    for (const struct block *o = b->alias->first; o; o = o->alias_next) times += o == b;
    if (times != 1) return "is not once on its list";
    if (xlf_find(f.xl, b->eip, b->pa, b->mode) != b) return "is not found";
    for (unsigned i = 0; i < 2; i++) {
        const struct edge *e = &b->edge[i];
        if (!e->from || !e->to) continue;
        if (b->state != BLOCK_LIVE || e->to->state != BLOCK_LIVE) return "has a link from or to what is not alive";
        if (e->to->eip != xl_edge_target(e) || e->to->mode != b->mode || e->to->alias != b->alias)
            return "has a link to elsewhere";
    }
    return NULL;
}

static const char *all_wrong(void)
{
    unsigned live[PHYS] = { 0 };
    for (u32 i = 0; i < f.xl->nblocks; i++) {
        struct block *b = &f.xl->arena[i];
        const char *err = block_wrong(b);
        if (err) return err;
        for (unsigned p = 0; p < PHYS && b->state == BLOCK_LIVE; p++)
            live[p] += b->pa >> PAGE_SHIFT == phys(p) >> PAGE_SHIFT
                       || (b->pa2 != XL_NO_PAGE && b->pa2 >> PAGE_SHIFT == phys(p) >> PAGE_SHIFT);
    }
    for (unsigned p = 0; p < PHYS; p++) {
        const struct code_page *pg = xl_page(f.xl, phys(p));
        if ((pg ? pg->live : 0) != live[p]) return "a page miscounts";
        unsigned n = 0;
        for (const struct alias *q = pg ? pg->aliases : NULL; q; q = q->next) n++;
        if (n > LINEAR) return "too many places";
    }
    for (unsigned w = 0; w < 2; w++)
        for (unsigned i = 0; i < JUMP_ENTRIES; i++) {
            const struct jump_entry *j = &f.xl->jc[w][i];
            if (!j->code || (i - jump_index(-j->neg_eip)) % JUMP_ENTRIES > 1) continue;
            const struct block *b = xl_block_at(f.xl, (u64)j->code);
            if (!b || b->state != BLOCK_LIVE || j->code != xl_entry(f.xl, b) || b->eip + j->neg_eip
                || ((b->mode & 3) == 3) != (w == XL_JC_USER))
                return "a jump cache leads to what is not there";
            if (!xl_jump_knows(f.xl, (enum xl_jump_cache)w, b->eip)) return "a jump cache does not know a page";
        }
    return NULL;
}

/* The same code as a translation now would make. Consumes the block. */
static const char *code_wrong(struct block *b, unsigned p)
{
    struct xl_source src = clone_source(&ram[p], b->eip, phys(p), b->mode);
    if (!b->template) return NULL;
    for (unsigned i = 0; i < 2; i++)
        if (b->edge[i].to) xl_break(f.xl, (u64)xl_entry(f.xl, b));
    if (f.xl->used + 2 * XL_MAX_HOST > f.xl->cfg.cache_bytes) return NULL;
    return clone_check(&f, b, &src);
}

START_TEST(places_stay_whole_whatever_happens)
{
    static const u32 modes[] = { MODE_FLAT, MODE_USER };
    u64 evictions = 0;
    xlf_free(&f);
    xlf_init(&f, 1 << 20, true, 0);
    rng_seed(&dice, 11 + (unsigned)_i);
    for (unsigned p = 0; p < PHYS; p++) {
        memset(ram[p].bytes, 0x90, sizeof ram[p].bytes);
        for (unsigned i = 0; i < SPOTS; i++) write_spot(p, i);
    }
    for (unsigned step = 0; step < 60000; step++) {
        unsigned la = rng_below(&dice, LINEAR), p = rng_below(&dice, 4) ? 0 : rng_below(&dice, PHYS),
                 i = rng_below(&dice, SPOTS);
        u32 mode = modes[rng_below(&dice, 2)];
        struct block *b = get(la, p, i, mode);
        const char *err = NULL;
        switch (rng_below(&dice, 16)) {
        case 0:
        case 1:
        case 2:
        case 3:
            for (unsigned k = 0; k < 2 && b; k++) {
                struct edge *e = &b->edge[k];
                if (!e->from) continue;
                for (unsigned t = 0; t < SPOTS; t++)
                    if (spot(la, t) == xl_edge_target(e)) {
                        evictions = f.ctr.evictions;
                        struct block *to = get(la, p, t, mode);
                        if (f.ctr.evictions != evictions) k = 2;
                        else xl_link(f.xl, e, to);
                        break;
                    }
            }
            break;
        case 4:
        case 5:
        case 6: xl_jump_fill_page(f.xl, mode == MODE_USER ? XL_JC_USER : XL_JC_SUPERVISOR, b); break;
        case 7: xl_retire(f.xl, b->pa, 1 + rng_below(&dice, 100)); break;
        case 8:
            xl_retire(f.xl, phys(p) + (i * 101u & 0xfff), (i * 101u & 0xfff) + 16 > PAGE_SIZE ? 1 : 16);
            if (rng_below(&dice, 4)) break;
            xl_retire_page(f.xl, phys(p)), xl_retire_page(f.xl, phys((p + 1) % PHYS)), write_spot(p, i);
            break;
        case 9: xl_forget(f.xl, b); break;
        case 10:
            if (!rng_below(&dice, 8)) xl_retire_page(f.xl, phys(p));
            break;
        case 11:
            if (!rng_below(&dice, 8)) xl_jump_flush(f.xl, rng_below(&dice, 2));
            break;
        case 12:
            if (!rng_below(&dice, 8)) xl_site_fault(f.xl, phys(p) + (i * 101u & 0xfff), false);
            break;
        case 13:
            if (!rng_below(&dice, 200)) xl_flush(f.xl);
            break;
        case 14:
            if (b->state == BLOCK_LIVE) err = code_wrong(b, p);
            break;
        default: time_passes();
        }
        ck_assert_msg(!err, "step %u: %s", step, err);
        err = step % 64 ? NULL : all_wrong();
        ck_assert_msg(!err, "step %u: %s", step, err);
    }
    ck_assert_uint_gt(f.ctr.readdressed, 1000);
}
END_TEST

START_TEST(a_template_whose_block_is_linked_gives_one_that_is_not)
{
    CODE(A, "\x74\x1e\xeb\x0e"); /* jz +20h; jmp +12h */
    CODE(A + 0x20, "\xc3");
    struct block *from = have(&f, A, PA, MODE_FLAT), *to = have(&f, A + 0x20, PA, MODE_FLAT);
    xl_link(f.xl, &from->edge[0], to);
    ck_assert(cloned_at(&f, B, 0x9000, MODE_FLAT));
    struct block *b = have(&f, B, 0x9000, MODE_FLAT), *there = have(&f, B + 0x20, 0x9000, MODE_FLAT);
    ck_assert_uint_eq(xl_edge_target(&b->edge[0]), B + 0x20);
    xl_link(f.xl, &b->edge[0], there); /* and can be linked */
    ck_assert_ptr_eq(b->edge[0].to, there);
    xl_retire(f.xl, PA, PAGE_SIZE);
    ck_assert_ptr_eq(b->edge[0].to, there);
    ck_assert(cloned_at(&f, A, 0xa000, MODE_FLAT)); /* the template's block is dead, its code is not */
}
END_TEST

START_TEST(a_revived_clone_has_the_right_hash)
{
    CODE(A, CALL_AWAY);
    have(&f, A, PA, MODE_FLAT);
    struct block *b = have(&f, B, 0x9000, MODE_FLAT);
    struct xl_source src = clone_source(&page, B, 0x9000, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.cloned, 1);
    xl_retire(f.xl, 0x9100, 1);
    ck_assert(xl_revive(f.xl, b, &src));
}
END_TEST

START_TEST(what_is_traced_is_translated)
{
    CODE(A, CALL_AWAY);
    have(&f, A, PA, MODE_FLAT);
    f.trace = (struct trace){ .mask = 1u << TR_host, .from = B, .to = B, .out = fopen("/dev/null", "w") };
    ck_assert(!cloned_at(&f, B, PA, MODE_FLAT));
    ck_assert(cloned_at(&f, 0x7000100, PA, MODE_FLAT));
    fclose(f.trace.out);
}
END_TEST

/* ---- over an eviction, and from one translator to another ---- */

static void two_templates(void)
{
    CODE(A, CALL_AWAY);
    CODE(A + 0x40, LOADS);
    have(&f, A, PA, MODE_FLAT);
    have(&f, A + 0x40, PA, MODE_FLAT);
}

START_TEST(an_eviction_leaves_templates_whose_code_is_taken_over_once_and_copied_then)
{
    two_templates();
    xl_evict(f.xl);
    ck_assert_ptr_null(xlf_find(f.xl, A, PA, MODE_FLAT));
    struct block *b = have(&f, A, PA, MODE_FLAT), *c = have(&f, B, PA, MODE_FLAT);
    ck_assert_uint_eq(f.ctr.cloned, 2);
    ck_assert_uint_eq(b->host_off, 0);
    ck_assert_uint_gt(c->host_off, 0);
    ck_assert(cloned_at(&f, A + 0x40, 0x9000, MODE_FLAT));
    ck_assert(cloned_at(&f, A + 0x40, 0xa000, MODE_FLAT));
    for (u32 at = 0; at < b->host_len; at++) ck_assert_ptr_eq(xl_block_at(f.xl, (u64)f.xl->rx + at), b);
    for (u32 at = 0; at < c->host_len; at++) ck_assert_ptr_eq(xl_block_at(f.xl, (u64)f.xl->rx + c->host_off + at), c);
}
END_TEST

START_TEST(code_that_waits_belongs_to_no_block)
{
    CODE(A, CALL_AWAY);
    struct block *b = have(&f, A, PA, MODE_FLAT);
    u32 len = b->host_len;
    xl_evict(f.xl);
    for (u32 at = 0; at < len; at++) ck_assert_ptr_null(xl_block_at(f.xl, (u64)f.xl->rx + at));
    ck_assert(!xlf_has_live(f.xl, PA));
}
END_TEST

START_TEST(a_flush_keeps_what_was_loaded_as_if_it_had_never_been_used)
{
    CODE(A, "\x74\x1e\xeb\x0e\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90");
    CODE(A + 0x20, "\xc3");
    have(&f, A, PA, MODE_FLAT);
    have(&f, A + 0x20, PA, MODE_FLAT);
    xl_evict(f.xl);
    xl_link(f.xl, &have(&f, A, PA, MODE_FLAT)->edge[0], have(&f, A + 0x20, PA, MODE_FLAT));
    CODE(A + 0x60, LOADS);
    have(&f, A + 0x60, PA, MODE_FLAT);
    xl_flush(f.xl);
    ck_assert_uint_eq(f.xl->templates->n, 2);
    ck_assert(cloned_at(&f, A, PA, MODE_FLAT)); /* unlinked: it is what translation gives */
    ck_assert(cloned_at(&f, A + 0x20, PA, MODE_FLAT));
    ck_assert(!cloned_at(&f, A + 0x60, PA, MODE_FLAT));
}
END_TEST

static u8 *image;
static u64 image_len;

static void save(struct xlf *from, u64 max)
{
    ck_assert_int_eq(xl_templates_save(from->xl, max, &image, &image_len), 0);
}
static const char *load(struct xlf *to) { return xl_templates_load(to->xl, image, image_len); }
static void discard(void) { xl_templates_discard(image, image_len); }

START_TEST(another_translator_serves_itself_from_what_one_has_saved)
{
    two_templates();
    ck_assert(xl_templates_changed(f.xl));
    save(&f, 1 << 20);
    ck_assert_ptr_null(load(&g));
    discard();
    ck_assert_uint_eq(g.ctr.templates_loaded, 2);
    ck_assert(!xl_templates_changed(g.xl));
    ck_assert(cloned_at(&g, A, PA, MODE_FLAT));
    ck_assert(cloned_at(&g, B, PA, MODE_FLAT));
    ck_assert(cloned_at(&g, B + 0x40, PA, MODE_FLAT)); /* in place, but moved */
    ck_assert_uint_eq(g.ctr.templates, 0);
}
END_TEST

START_TEST(what_is_saved_has_no_trace_of_the_host)
{
    CODE(A, "\x74\x1e\xeb\x0e");
    CODE(A + 0x20, "\x9d\xcf");         /* popf, iret: helpers */
    have(&g, A + 0x800, PA, MODE_FLAT); /* so that indices and places differ */
    template_drop_all(g.xl);
    for (unsigned i = 0; i < 2; i++) {
        struct xlf *x = i ? &g : &f;
        struct block *from = have(x, A, PA, MODE_FLAT), *to = have(x, A + 0x20, PA, MODE_FLAT);
        xl_link(x->xl, &from->edge[0], to);
    }
    save(&f, 1 << 20);
    u8 *first = image;
    u64 first_len = image_len;
    save(&g, 1 << 20);
    ck_assert_uint_eq(image_len, first_len);
    ck_assert(!memcmp(image, first, first_len));
    discard();
    xl_templates_discard(first, first_len);
}
END_TEST

START_TEST(a_limit_keeps_what_was_used_last)
{
    two_templates();
    save(&f, 1 << 20);
    u64 both = image_len;
    ck_assert_ptr_null(load(&g));
    discard();
    have(&g, A + 0x40, PA, MODE_FLAT);
    save(&g, both - 1);
    ck_assert_uint_lt(image_len, both);
    xl_flush(f.xl);
    ck_assert_ptr_null(load(&f));
    discard();
    ck_assert_uint_eq(f.xl->templates->n, 1);
    ck_assert(cloned_at(&f, A + 0x40, PA, MODE_FLAT));
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
    save(&f, 0);
    ck_assert_uint_lt(image_len, 100);
    discard();
}
END_TEST

/* ---- constants ---- */

static void load_moved(const char *code, unsigned n)
{
    memcpy(page.bytes + (A & ~PAGE_MASK), code, n);
    have(&f, A, PA, MODE_FLAT);
    xl_evict(f.xl);
}
#define LOAD_MOVED(code) load_moved(code, sizeof(code) - 1)

static void constant(unsigned at, u32 v) { memcpy(page.bytes + (A & ~PAGE_MASK) + at, &v, 4); }

START_TEST(code_whose_constants_have_moved_is_not_translated_again)
{
    LOAD_MOVED(LOADS); /* mov eax, [ebx-3ecc0000h]; mov dword [ebx], c1401000h; jmp */
    constant(2, 0xc7340000);
    constant(8, 0xc7401000);
    ck_assert(cloned_at(&f, A, PA, MODE_FLAT)); /* in place */
    constant(2, 0xd0000000);
    ck_assert(cloned_at(&f, A, 0x9000, MODE_FLAT)); /* a copy of what has other constants by now */
}
END_TEST

/* A soft store has its constant twice: where it stores, and where it misses. */
START_TEST(a_soft_store_of_another_constant_is_not_translated_again)
{
    const u32 moved = 0xc7401234;
    xl_site_fault(f.xl, (PA & ~(paddr)(PAGE_SIZE - 1)) | ((A & ~PAGE_MASK) + 6), false);
    LOAD_MOVED(LOADS);
    constant(8, moved);
    const struct block *b = have(&f, A, PA, MODE_FLAT);
    const u8 *code = xlf_host(&f, b);
    unsigned found = 0;
    for (u32 i = 0; i + 4 <= b->host_len; i++) found += !memcmp(code + i, &moved, 4);
    ck_assert_uint_eq(found, 2);
    xl_evict(f.xl);
    constant(8, 0x80000001);
    ck_assert(cloned_at(&f, A, PA, MODE_FLAT));
}
END_TEST

START_TEST(moved_code_is_found_where_its_neighbours_are)
{
    CODE(A, "\x40\x41\x42\x43\x45\x46\x47\x48\x49\x4a\x4b" CALL_AWAY); /* long enough to be no accident */
    CODE(A + 0x40, LOADS);
    have(&f, A, PA, MODE_FLAT);
    have(&f, A + 0x40, PA, MODE_FLAT);
    CODE(A + 0x80, LOADS "\x40");
    have(&f, A + 0x80, PA, MODE_FLAT);
    xl_evict(f.xl);
    constant(0x82, 0xc2340000);
    ck_assert(!cloned_at(&f, B + 0x80, PA, MODE_FLAT)); /* nothing is known of B yet */
    ck_assert(cloned_at(&f, B, PA, MODE_FLAT));         /* by its bytes */
    f.xl->templates->expected = f.xl->templates->n;     /* not by luck */
    constant(0x42, 0xc2340000);
    ck_assert(cloned_at(&f, B + 0x40, PA, MODE_FLAT));
}
END_TEST

START_TEST(a_constant_that_gives_the_code_another_shape_is_translated)
{
    LOAD_MOVED(LOADS);
    constant(2, 0x00340000); /* no longer an address in the upper half */
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
    constant(2, 0xfffffff0);
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
    constant(2, 0xc1340000);
    template_drop_all(f.xl);
    xl_flush(f.xl);
    LOAD_MOVED(CALL_AWAY);
    constant(1, 0x100); /* into the page: an edge */
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
    constant(1, 0x3000);
    ck_assert(cloned_at(&f, A, PA, MODE_FLAT));
}
END_TEST

START_TEST(bytes_that_are_no_such_constant_are_part_of_what_is_compared)
{
    LOAD_MOVED("\x83\x83\x00\x00\x34\xc1\x10\x8f\x84\x24\x00\x01\x00\x00\xc3"); /* add dword [ebx+disp32], 10h; pop
                                                                                   [esp+100h]; ret */
    page.bytes[(A & ~PAGE_MASK) + 6] = 0x11;
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
    page.bytes[(A & ~PAGE_MASK) + 6] = 0x10;
    constant(10, 0x200); /* POP's displacement is used plus four */
    ck_assert(!cloned_at(&f, A, PA, MODE_FLAT));
}
END_TEST

/* ---- what is not loaded ---- */

/* As template_file.c has it. */
#define AT_CHECK 8
#define AT_CHECKED 24
#define AT_N 32
#define AT_TEMPLATES 64

static void saved_two(void)
{
    CODE(A, CALL_AWAY);
    CODE(A + 0x40, "\x40\x74\x1e\xeb\x0e");
    have(&f, A, PA, MODE_FLAT);
    have(&f, A + 0x40, PA, MODE_FLAT);
    save(&f, 1 << 20);
}

static void ck_refused(const char *why)
{
    const char *wrong = load(&g);
    if (!wrong) ck_abort_msg("it is loaded");
    if (why) ck_assert_str_eq(wrong, why);
    ck_assert_uint_eq(g.xl->templates->n, 0);
    ck_assert_uint_eq(g.xl->nblocks, 0);
}

START_TEST(no_bit_of_it_may_be_wrong)
{
    saved_two();
    for (u64 i = 0; i < image_len; i++) {
        image[i] ^= (u8)(1u << i % 8);
        ck_refused(NULL);
        image[i] ^= (u8)(1u << i % 8);
    }
    ck_assert_ptr_null(load(&g));
    discard();
}
END_TEST

START_TEST(no_byte_of_it_may_be_missing_or_too_much)
{
    saved_two();
    u64 whole = image_len;
    for (image_len = 0; image_len < whole; image_len++)
        ck_refused(image_len < AT_TEMPLATES ? "is no file of templates" : "is truncated");
    u8 *longer = calloc(1, whole + 1);
    memcpy(longer, image, whole);
    ck_assert_str_eq(xl_templates_load(g.xl, longer, whole + 1), "is truncated");
    free(longer);
    discard();
}
END_TEST

START_TEST(other_options_or_processors_have_other_templates)
{
    saved_two();
    u64 key = xl_templates_key(f.xl);
    ck_assert_uint_eq(key, xl_templates_key(g.xl));
    g.xl->cfg.opt.window = false;
    ck_assert_uint_ne(key, xl_templates_key(g.xl));
    ck_refused("is of another version, processor or set of options");
    g.xl->cfg.opt.window = true;
    g.xl->cfg.opt.disabled = 1;
    ck_refused("is of another version, processor or set of options");
    g.xl->cfg.opt.disabled = 0;
    g.xl->cfg.opt.features = 1;
    ck_refused("is of another version, processor or set of options");
    discard();
}
END_TEST

START_TEST(it_comes_before_anything_is_translated)
{
    saved_two();
    have(&g, A, PA, MODE_FLAT);
    ck_assert_str_eq(load(&g), "comes too late");
    discard();
}
END_TEST

static void rehash(void)
{
    XXH128_hash_t check = XXH3_128bits(image + AT_CHECKED, image_len - AT_CHECKED);
    memcpy(image + AT_CHECK, &check.low64, 8);
    memcpy(image + AT_CHECK + 8, &check.high64, 8);
}

/* With a hash that fits, as only a friend could make it, there is still nothing that the translator would stumble over.
 */
START_TEST(fields_out_of_bounds_are_refused_whatever_the_hash)
{
    saved_two();
    u8 *good = malloc(image_len);
    memcpy(good, image, image_len);
    struct template *t = (struct template *)(image + AT_TEMPLATES) + 1;
#define WRONG(what)                     \
    do {                                \
        what;                           \
        rehash();                       \
        ck_refused("is malformed");     \
        memcpy(image, good, image_len); \
    } while (0)
    WRONG(t->code += 16);
    WRONG(t->code = 0xfffffff0);
    WRONG(t->side += 4);
    WRONG(t->side = 0xfffffffc);
    WRONG(t->host_len = 0);
    WRONG(t->host_len = 0xffff);
    WRONG(t->host_len += 64);
    WRONG(t->nrec = 0);
    WRONG(t->nrec = 0xffff);
    WRONG(t->nrel = 0xffff);
    WRONG(t->nrel += 16);
    WRONG(t->guest_len = 0);
    WRONG(t->guest_len = 0xffff);
    WRONG(t->depends = (u16)(t->guest_len - 1));
    WRONG(t->depends = (u16)(t->guest_len + 100));
    WRONG(t->ninsns = 0);
    WRONG(t->ninsns = 200);
    WRONG(t->mode = 0);
    WRONG(t->mode |= MK_VM);
    WRONG(t->nedges = 3);
    WRONG(t->patch[0] = t->host_len);
    WRONG(t->patch[1] = (u16)(t->host_len - 3));
    WRONG(t->thunk[0] = t->host_len);
    WRONG(t->target[1] = PAGE_SIZE);
    WRONG(t->offset |= 0xfff);
    u8 *side = image + AT_TEMPLATES + 2 * sizeof *t + t->side;
    struct record *rec = (struct record *)side;
    ck_assert_uint_ge(t->nrec, 2);
    WRONG(rec[0].host = 1);
    WRONG(rec[1].host = (u16)(t->host_len + 1));
    WRONG(rec[1].guest = t->guest_len);
    t--; /* the call */
    ck_assert_uint_gt(t->nrel, 0);
    struct reloc *r = (struct reloc *)(image + AT_TEMPLATES + 2 * sizeof *t + t->side + t->nrec * sizeof *rec);
    WRONG(r->at = (u16)(t->host_len - 3));
    WRONG(r->kind = RELOC_KINDS);
    WRONG(r->field = t->guest_len);
    (*(u64 *)(void *)(image + AT_N))++;
    rehash();
    ck_refused("is truncated");
    memcpy(image, good, image_len);
    rehash();
    ck_assert_ptr_null(load(&g));
    free(good);
    discard();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("template");
    TCase *t = tcase_create("template");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_same_bytes_elsewhere_are_not_translated_again);
    tcase_add_test(t, another_mode_offset_or_byte_is_translated);
    tcase_add_test(t, a_site_that_is_soft_or_wraps_is_part_of_what_is_compared);
    tcase_add_test(t, what_lies_behind_a_block_counts_where_it_was_looked_at);
    tcase_add_test(t, what_depends_on_another_page_has_no_template);
    tcase_add_test(t, a_page_has_so_many_places_and_no_more);
    tcase_add_test(t, a_place_that_is_looked_for_stays);
    tcase_add_test(t, a_page_is_moved_with_its_links);
    tcase_add_test(t, a_page_that_has_been_written_is_moved_and_looked_at_anew);
    tcase_set_timeout(t, 100);
    tcase_add_test(t, what_is_traced_is_translated_though_its_page_could_be_moved_there);
    tcase_add_test(t, a_process_cannot_leave_its_code_to_another_that_gets_its_page);
    tcase_add_test(t, pages_that_take_turns_do_not_fill_the_cache);
    tcase_add_loop_test(t, places_stay_whole_whatever_happens, 0, 3);
    tcase_add_test(t, a_template_whose_block_is_linked_gives_one_that_is_not);
    tcase_add_test(t, a_revived_clone_has_the_right_hash);
    tcase_add_test(t, what_is_traced_is_translated);
    tcase_add_test(t, an_eviction_leaves_templates_whose_code_is_taken_over_once_and_copied_then);
    tcase_add_test(t, code_that_waits_belongs_to_no_block);
    tcase_add_test(t, a_flush_keeps_what_was_loaded_as_if_it_had_never_been_used);
    tcase_add_test(t, another_translator_serves_itself_from_what_one_has_saved);
    tcase_add_test(t, what_is_saved_has_no_trace_of_the_host);
    tcase_add_test(t, a_limit_keeps_what_was_used_last);
    tcase_add_test(t, code_whose_constants_have_moved_is_not_translated_again);
    tcase_add_test(t, moved_code_is_found_where_its_neighbours_are);
    tcase_add_test(t, a_soft_store_of_another_constant_is_not_translated_again);
    tcase_add_test(t, a_constant_that_gives_the_code_another_shape_is_translated);
    tcase_add_test(t, bytes_that_are_no_such_constant_are_part_of_what_is_compared);
    tcase_add_test(t, no_bit_of_it_may_be_wrong);
    tcase_add_test(t, no_byte_of_it_may_be_missing_or_too_much);
    tcase_add_test(t, other_options_or_processors_have_other_templates);
    tcase_add_test(t, it_comes_before_anything_is_translated);
    tcase_add_test(t, fields_out_of_bounds_are_refused_whatever_the_hash);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
