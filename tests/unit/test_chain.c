/* chain.c: edges between the blocks of a page. jump.c and targets.c: the jump caches. */
#include "tests/diff/rng.h"
#include "tests/emit/xl_fixture.h"
#include "translator/store/alias.h"
#include "translator/store/chain.h"
#include "translator/store/jump.h"
#include "translator/store/recover.h"

#include <check.h>

static struct xlf f;
static u8 code[64];

static void setup(void) { xlf_init(&f, 1 << 20, false, 0); }
static void teardown(void) { xlf_free(&f); }

#define EIP 0x00401000u
#define PA 0x5000u

static struct block *make(unsigned off, const char *bytes, unsigned n, u32 mode, paddr pa)
{
    memset(code, 0x90, sizeof code);
    memcpy(code, bytes, n);
    struct xl_source src = xlf_source2(EIP + off, pa + off, XL_NO_PAGE, mode, code, sizeof code);
    bool evicted;
    return xl_translate(f.xl, &src, &evicted);
}
/* jcc to EIP + 0x100 (in the same page), else on to EIP + off + 6 */
static struct block *make_branch(unsigned off)
{
    u32 rel = 0x100 - (off + 6);
    char bytes[6] = "\x0f\x84";
    memcpy(bytes + 2, &rel, 4);
    return make(off, bytes, 6, MODE_FLAT, PA);
}
static struct block *make_ret(unsigned off) { return make(off, "\xc3", 1, MODE_FLAT, PA); }

/* Where the edge's branch goes, as an offset into the cache. */
static u32 goes_to(const struct edge *e)
{
    s32 d;
    memcpy(&d, f.xl->rw + e->patch, 4);
    return e->patch + 4 + (u32)d;
}

START_TEST(an_edge_leaves_by_its_thunk_until_it_is_linked)
{
    struct block *from = make_branch(0), *to = make_ret(0x100);
    struct edge *e = &from->edge[0];
    ck_assert(e->from && from->edge[1].from);
    ck_assert_uint_eq(xl_edge_target(e), EIP + 0x100);
    ck_assert_uint_eq(xl_edge_target(&from->edge[1]), EIP + 6);
    ck_assert_ptr_eq(e->from, from);
    ck_assert_uint_eq(goes_to(e), e->thunk);
    xl_link(f.xl, e, to);
    ck_assert_uint_eq(goes_to(e), to->host_off);
    ck_assert_ptr_eq(to->in, e);
    ck_assert_uint_eq(goes_to(&from->edge[1]), from->edge[1].thunk);
    xl_link(f.xl, e, to); /* again: nothing happens */
    ck_assert_ptr_null(e->next_in);
}
END_TEST

START_TEST(a_thunk_names_its_own_edge)
{
    struct block *from = make_branch(0);
    for (unsigned i = 0; i < 2; i++) {
        u32 number;
        memcpy(&number, f.xl->rw + from->edge[i].thunk + 2, 4); /* mov r8d, imm32 */
        ck_assert_ptr_eq(xl_edge(f.xl, number), &from->edge[i]);
    }
}
END_TEST

START_TEST(a_retired_target_is_left_by_all_who_led_to_it)
{
    struct block *a = make_branch(0), *b = make_branch(0x40), *c = make_branch(0x80), *to = make_ret(0x100);
    xl_link(f.xl, &a->edge[0], to);
    xl_link(f.xl, &b->edge[0], to);
    xl_link(f.xl, &c->edge[0], to);
    xl_break(f.xl, (u64)xl_entry(f.xl, b)); /* one from the middle of the list goes first */
    ck_assert_uint_eq(goes_to(&b->edge[0]), b->edge[0].thunk);
    ck_assert_uint_eq(goes_to(&a->edge[0]), to->host_off);
    xl_retire(f.xl, PA + 0x100, 1);
    ck_assert_uint_eq(goes_to(&a->edge[0]), a->edge[0].thunk);
    ck_assert_uint_eq(goes_to(&c->edge[0]), c->edge[0].thunk);
    ck_assert_ptr_null(to->in);
    ck_assert_ptr_null(a->edge[0].to);
}
END_TEST

START_TEST(a_retired_source_is_off_its_targets_lists)
{
    struct block *a = make_branch(0), *b = make_branch(0x40), *to = make_ret(0x100);
    xl_link(f.xl, &a->edge[0], to);
    xl_link(f.xl, &b->edge[0], to);
    xl_retire(f.xl, PA, 1);
    ck_assert_ptr_eq(to->in, &b->edge[0]);
    ck_assert_ptr_null(b->edge[0].next_in);
    xl_forget(f.xl, a);
    xl_retire(f.xl, PA + 0x100, 1);
    ck_assert_uint_eq(goes_to(&b->edge[0]), b->edge[0].thunk);
}
END_TEST

START_TEST(a_loop_links_to_itself_and_comes_apart)
{
    struct block *b = make(0, "\xeb\xfe", 2, MODE_FLAT, PA);
    xl_link(f.xl, &b->edge[0], b);
    ck_assert_uint_eq(goes_to(&b->edge[0]), b->host_off);
    ck_assert(xl_break(f.xl, (u64)xl_entry(f.xl, b) + 1));
    ck_assert_uint_eq(goes_to(&b->edge[0]), b->edge[0].thunk);
    ck_assert_ptr_null(b->in);
    xl_link(f.xl, &b->edge[0], b);
    xl_retire(f.xl, PA, 1);
    ck_assert_ptr_null(b->in);
    ck_assert_uint_eq(goes_to(&b->edge[0]), b->edge[0].thunk);
}
END_TEST

START_TEST(what_must_not_be_linked_is_not)
{
    struct block *from = make_branch(0);
    struct edge *e = &from->edge[0];
    struct block *other_mode = make(0x100, "\xc3", 1, MODE_BARE, PA),
                 *other_frame = make(0x100, "\xc3", 1, MODE_FLAT, 0x7000), *elsewhere = make_ret(0x104);
    xl_link(f.xl, e, other_mode);
    xl_link(f.xl, e, other_frame);
    xl_link(f.xl, e, elsewhere);
    ck_assert_ptr_null(e->to);
    struct block *to = make_ret(0x100);
    xl_retire(f.xl, PA + 0x100, 1);
    xl_link(f.xl, e, to);
    ck_assert_ptr_null(e->to);
    ck_assert_uint_eq(goes_to(e), e->thunk);

    /* Blocks that depend on a second page, or on one that was not there, are found by look-up only. */
    xl_flush(f.xl);
    u8 jump[2] = { 0xeb, 0x10 }, mov[5] = { 0xb8, 1, 2, 3, 4 };
    for (unsigned partial = 0; partial < 2; partial++) {
        bool evicted;
        struct xl_source src = xlf_source2(EIP + 0xfec, PA + 0xfec, XL_NO_PAGE, MODE_FLAT, jump, 2);
        from = xl_translate(f.xl, &src, &evicted);
        src = xlf_source2(EIP + 0xffe, PA + 0xffe, partial ? XL_NO_PAGE : 0x9000, MODE_FLAT, mov, 5);
        to = xl_translate(f.xl, &src, &evicted);
        ck_assert_ptr_null(from->edge[0].from); /* there is no edge to what may be such a block */
        ck_assert_int_eq(xl_block_partial(to), partial);
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, to);
        ck_assert_int_eq(f.xl->jc[XL_JC_SUPERVISOR][jump_index(to->eip)].code == NULL, partial);
        xl_flush(f.xl);
    }
}
END_TEST

START_TEST(edges_lead_to_whatever_cannot_run_into_the_next_page)
{
    for (unsigned target = 0xfe0; target < 0x1010; target++) {
        u8 jump[5] = { 0xe9 }, jcc[6] = { 0x0f, 0x84 };
        u32 rel = target - 0xe05;
        bool evicted;
        memcpy(jump + 1, &rel, 4);
        rel--;
        memcpy(jcc + 2, &rel, 4);
        struct xl_source src = xlf_source2(EIP + 0xe00, PA + 0xe00, XL_NO_PAGE, MODE_FLAT, jump, sizeof jump);
        struct block *from = xl_translate(f.xl, &src, &evicted);
        ck_assert_int_eq(from->edge[0].from != NULL, target + 15 <= 0x1000);
        xl_flush(f.xl);
        src.bytes = jcc, src.nbytes = sizeof jcc;
        from = xl_translate(f.xl, &src, &evicted);
        ck_assert_int_eq(from->edge[1].from != NULL, target + 15 <= 0x1000);
        ck_assert_uint_eq(xl_edge_target(&from->edge[target + 15 <= 0x1000]), EIP + 0xe06);
        xl_flush(f.xl);
    }
}
END_TEST

START_TEST(a_break_outside_of_code_says_so)
{
    make_branch(0);
    ck_assert(!xl_break(f.xl, (u64)&f));
    ck_assert(!xl_break(f.xl, (u64)f.xl->rx + f.xl->cfg.cache_bytes - 1));
}
END_TEST

/* ---- jump caches, asked as translated code does ---- */

static const void *jump(enum xl_jump_cache which, laddr eip)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct jump_entry *j =
            (const struct jump_entry *)xl_jump_cache(f.xl, which) + (jump_index(eip) + i) % JUMP_ENTRIES;
        if (j->neg_eip + eip == 0) return j->code;
    }
    return NULL;
}

START_TEST(a_jump_cache_answers_for_what_it_was_told_and_for_nothing_else)
{
    struct block *b = make_ret(0x100);
    for (unsigned i = 0; i < JUMP_ENTRIES; i++) ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, i));
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b->eip), xl_entry(f.xl, b));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip + JUMP_ENTRIES));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip + 1));
    ck_assert_ptr_null(jump(XL_JC_USER, b->eip));
}
END_TEST

/* Empty entries are zero, and so is EIP 0. */
START_TEST(nothing_is_at_EIP_0_before_it_is_filled_nor_after_a_flush)
{
    const laddr eip[] = { 0, 0x10000, 0xffff0000, 0xffffffff, 1, 0x8000 };
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_LEN(eip); i++)
            for (unsigned which = 0; which < XL_JC_COUNT; which++) ck_assert_ptr_null(jump(which, eip[i]));
        code[0] = 0xc3;
        struct xl_source src = xlf_source2(0, 0, XL_NO_PAGE, MODE_FLAT, code, 1);
        bool evicted;
        struct block *b = xl_translate(f.xl, &src, &evicted);
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, 0), xl_entry(f.xl, b));
        ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, 0x10000));
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
        ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, 0));
        xl_forget(f.xl, b);
    }
}
END_TEST

START_TEST(the_all_miss_cache_sends_everything_to_the_miss_stub)
{
    const struct jump_entry *j = xl_jump_cache(f.xl, XL_JC_MISS);
    for (unsigned i = 0; i < JUMP_ENTRIES; i++) {
        ck_assert_ptr_eq(j[i].code, (void *)XLF_MISS); /* for who has compared already */
        ck_assert_ptr_null(jump(XL_JC_MISS, i));
        ck_assert_ptr_null(jump(XL_JC_MISS, i + 0xffff0000u));
    }
}
END_TEST

START_TEST(a_retired_block_is_in_no_jump_cache)
{
    struct block *b = make_ret(0x100), *user = make(0x100, "\xc3", 1, MODE_USER, PA);
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
    xl_jump_fill(f.xl, XL_JC_USER, user);
    xl_retire(f.xl, PA + 0x100, 1);
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
    ck_assert_ptr_null(jump(XL_JC_USER, b->eip));
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b); /* refused */
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
    struct block *next = make_ret(0x100);
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, next);
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b->eip), xl_entry(f.xl, next));
    xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
}
END_TEST

START_TEST(dropping_a_page_drops_what_has_code_there)
{
    struct block *b = make_ret(0x100);
    u8 mov[5] = { 0xb8, 1, 2, 3, 4 };
    bool evicted;
    struct xl_source src = xlf_source2(EIP + 0xffe, PA + 0xffe, 0x9000, MODE_FLAT, mov, 5);
    struct block *straddling = xl_translate(f.xl, &src, &evicted);
    for (unsigned page = 0; page < 4; page++) {
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
        xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP + page * PAGE_SIZE - PAGE_SIZE);
        ck_assert_int_eq(jump(XL_JC_SUPERVISOR, b->eip) == NULL, page == 1);
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, straddling);
        xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP + page * PAGE_SIZE - PAGE_SIZE);
        ck_assert_int_eq(jump(XL_JC_SUPERVISOR, straddling->eip) == NULL, page == 1 || page == 2);
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    }
}
END_TEST

/* A few blocks are found on the list, many (of every third byte) by index. */
START_TEST(dropping_a_page_keeps_what_has_code_elsewhere)
{
    enum { PAGES = 4 };
    for (unsigned step = 0x200; step; step = step == 3 ? 0 : 3) {
        for (unsigned off = 0; off < PAGES * PAGE_SIZE; off += step)
            xl_jump_fill(f.xl, XL_JC_SUPERVISOR, make_ret(off));
        ck_assert_int_eq(f.xl->jc_count[XL_JC_SUPERVISOR] > PAGE_SIZE, step == 3);
        xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP + 2 * PAGE_SIZE);
        for (unsigned off = 0; off < PAGES * PAGE_SIZE; off += step) {
            bool in_page = off / PAGE_SIZE == 2, before = off / PAGE_SIZE == 1 && off % PAGE_SIZE > PAGE_SIZE - 16;
            if (!before) ck_assert_int_eq(jump(XL_JC_SUPERVISOR, EIP + off) == NULL, in_page);
        }
        ck_assert(!xl_jump_knows(f.xl, XL_JC_SUPERVISOR, EIP + 2 * PAGE_SIZE));
        ck_assert(xl_jump_knows(f.xl, XL_JC_SUPERVISOR, EIP + PAGE_SIZE));
        struct block *again = make_ret(2 * PAGE_SIZE);
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, again);
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, again->eip), xl_entry(f.xl, again));
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    }
}
END_TEST

/* An address space is taken apart page by page: from the third on it is not looked through for each. */
START_TEST(dropping_page_after_page_empties_it_and_a_fill_between_does_not)
{
    enum { PAGES = 6 };
    for (unsigned between = 0; between < 2; between++) {
        struct block *b[PAGES];
        for (unsigned i = 0; i < PAGES; i++) xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b[i] = make_ret(i * PAGE_SIZE));
        for (unsigned i = 0; i < 3; i++) {
            if (between) xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b[5]);
            xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP + i * PAGE_SIZE);
            ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b[i]->eip));
            ck_assert_int_eq(jump(XL_JC_SUPERVISOR, b[4]->eip) == NULL, i == 2 && !between);
        }
        ck_assert_int_eq(xl_jump_knows(f.xl, XL_JC_SUPERVISOR, EIP + 4 * PAGE_SIZE), between);
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    }
}
END_TEST

START_TEST(dropping_many_pages_drops_what_has_code_there)
{
    struct block *b = make_ret(0x100);
    for (unsigned at = 0; at < 4096; at += 512) {
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
        xl_jump_drop_pages(f.xl, XL_JC_SUPERVISOR, at << PAGE_SHIFT, 512);
        ck_assert_int_eq(jump(XL_JC_SUPERVISOR, b->eip) == NULL, at == (EIP >> PAGE_SHIFT) / 512 * 512);
    }
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
    xl_jump_drop_pages(f.xl, XL_JC_SUPERVISOR, 0, TLB_PAGES);
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
}
END_TEST

/* A block that returns, at the top of that linear page. */
static struct block *make_at(u32 page)
{
    struct xl_source src =
        xlf_source2(page << PAGE_SHIFT, (paddr)(page & 0xffff) << PAGE_SHIFT, XL_NO_PAGE, MODE_FLAT, code, 1);
    bool evicted;
    code[0] = 0xc3;
    return xl_translate(f.xl, &src, &evicted);
}

START_TEST(the_pages_that_a_jump_cache_knows_are_told_in_order_until_a_flush)
{
    static const u32 pages[] = { 0,    1,     63,    64,      65,      511,     512,     1000,
                                 1023, 32767, 32768, 0x80000, 0xbffff, 0xfffc0, 0xffffe, 0xfffff };
    const unsigned n = ARRAY_LEN(pages);
    for (unsigned subset = 1; subset < 1u << n; subset = subset * 3 + 1) {
        for (unsigned i = n; i-- > 0;)
            if (subset >> i & 1) xl_jump_fill(f.xl, XL_JC_SUPERVISOR, make_at(pages[i]));
        u32 page = 0;
        for (unsigned i = 0; i < n; i++) {
            ck_assert_uint_eq(xl_jump_knows(f.xl, XL_JC_SUPERVISOR, pages[i] << PAGE_SHIFT), subset >> i & 1);
            if (!(subset >> i & 1)) continue;
            ck_assert(xl_jump_next_page(f.xl, XL_JC_SUPERVISOR, &page));
            ck_assert_uint_eq(page++, pages[i]);
        }
        ck_assert(!xl_jump_next_page(f.xl, XL_JC_SUPERVISOR, &page));
        page = 0;
        ck_assert(!xl_jump_next_page(f.xl, XL_JC_USER, &page));
        xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
        page = 0;
        ck_assert(!xl_jump_next_page(f.xl, XL_JC_SUPERVISOR, &page));
        u32 known = 0;
        for (u32 k = 0; k < TLB_PAGES; k++) known += xl_jump_knows(f.xl, XL_JC_SUPERVISOR, k << PAGE_SHIFT);
        ck_assert_uint_eq(known, 0);
    }
}
END_TEST

static bool below(void *arg, vaddr eip) { return eip < *(vaddr *)arg; }

START_TEST(some_entries_are_dropped_however_often_and_the_others_stay)
{
    struct block *low = make_ret(0x100), *high = make_ret(0x900);
    vaddr bound = EIP + 0x800;
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, high);
    for (unsigned i = 0; i < 100; i++) {
        xl_jump_drop_some(f.xl, XL_JC_SUPERVISOR, below, &bound);
        for (unsigned n = 0; n < 100; n++) xl_jump_drop_some(f.xl, XL_JC_SUPERVISOR, below, &bound);
        ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, low->eip));
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, high->eip), xl_entry(f.xl, high));
        for (unsigned off = 0; off < 0x900; off++) ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, EIP + off));
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, low);
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, low->eip), xl_entry(f.xl, low));
    }
    ck_assert_uint_eq(f.xl->jc_count[XL_JC_SUPERVISOR], 2);
}
END_TEST

START_TEST(two_of_the_same_index_fit_into_a_jump_cache)
{
    struct block *b[3];
    unsigned off = 0x100;
    for (unsigned i = 0; i < 3; off++)
        if (jump_index(EIP + off) == jump_index(EIP + 0x100)) b[i++] = make(off, "\xc3", 1, MODE_FLAT, 0x100000);
    for (unsigned i = 0; i < 3; i++) xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b[i]);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b[i]->eip), i ? xl_entry(f.xl, b[i]) : NULL);
    for (unsigned i = 1; i < 3; i++) /* each of them can be taken out, and does not come up for its neighbours */
        for (unsigned again = 0; again < 2; again++) {
            xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b[3 - i]);
            xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b[i]);
            xl_retire(f.xl, b[again ? i : 3 - i]->pa, 1);
            for (unsigned k = 0; k < 0x2000; k++)
                if (EIP + k != b[1]->eip && EIP + k != b[2]->eip) ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, EIP + k));
            for (unsigned k = 1; k < 3; k++)
                ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b[k]->eip),
                                 b[k]->state == BLOCK_LIVE ? xl_entry(f.xl, b[k]) : NULL);
            xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
            for (unsigned k = 1; k < 3; k++) {
                ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b[k]->eip));
                xl_forget(f.xl, b[k]);
                b[k] = make(b[k]->eip - EIP, "\xc3", 1, MODE_FLAT, 0x100000);
            }
        }
}
END_TEST

/* What xl_jump_known() and xl_jump_again() say of an offset in the page at EIP, and whether it is filled in after. */
static const void *known(unsigned off, paddr pa, u32 mode)
{
    struct xl_source src = xlf_source2(EIP + off, pa + off, XL_NO_PAGE, mode, code, sizeof code);
    return xl_jump_known(f.xl, XL_JC_SUPERVISOR, &src);
}
static const void *again(unsigned off) { return xl_jump_again(f.xl, XL_JC_SUPERVISOR, MODE_FLAT, EIP + off); }

/* In any order, and more of them than a set begins with. */
START_TEST(what_has_been_jumped_to_is_known_by_page_and_offset)
{
    struct block *b[40];
    for (unsigned i = 0; i < 40; i++) {
        b[i] = make_ret(i * 7 % 40 * 0x20);
        ck_assert_ptr_null(known(b[i]->eip - EIP, PA, MODE_FLAT));
        xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b[i]);
    }
    xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    for (unsigned i = 0; i < 40; i++) ck_assert_ptr_null(again(b[i]->eip - EIP));
    ck_assert_ptr_null(known(0x21, PA, MODE_FLAT));
    ck_assert_ptr_null(known(0x20, PA, MODE_USER));
    ck_assert_ptr_null(known(0x20, 0x7000, MODE_FLAT));
    ck_assert_uint_eq(f.xl->jc_count[XL_JC_SUPERVISOR], 0);
    ck_assert_ptr_eq(known(b[3]->eip - EIP, PA, MODE_FLAT), xl_entry(f.xl, b[3]));
    for (unsigned i = 0; i < 40; i++) {
        ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b[i]->eip), xl_entry(f.xl, b[i]));
        ck_assert_ptr_eq(again(b[i]->eip - EIP), xl_entry(f.xl, b[i]));
    }
    ck_assert_ptr_null(again(0x21));
    ck_assert_ptr_null(xl_jump_again(f.xl, XL_JC_SUPERVISOR, MODE_USER, b[0]->eip));
    ck_assert_ptr_null(xl_jump_again(f.xl, XL_JC_USER, MODE_FLAT, b[0]->eip));
}
END_TEST

START_TEST(what_another_has_driven_out_is_filled_in_again)
{
    struct block *b = make_ret(0x100);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    unsigned n = 0;
    for (unsigned off = 0x1000; n < 2; off++)
        if (jump_index(EIP + off) == jump_index(b->eip)) {
            xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, make(off, "\xc3", 1, MODE_FLAT, 0x100000));
            n++;
        }
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
    ck_assert_ptr_eq(again(0x100), xl_entry(f.xl, b));
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b->eip), xl_entry(f.xl, b));
}
END_TEST

static bool drops_all(void *arg, vaddr eip) { return (void)arg, (void)eip, true; }

/* Each of them is what a page that is mapped elsewhere now does to it. */
START_TEST(a_page_that_has_been_dropped_is_not_known_by_eip)
{
    struct block *b = make_ret(0x100), *other = make_ret(0x200);
    for (unsigned how = 0; how < 4; how++) {
        xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
        xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, other);
        ck_assert_ptr_nonnull(again(0x100));
        switch (how) {
        case 0: xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP); break;
        case 1: xl_jump_drop_pages(f.xl, XL_JC_SUPERVISOR, EIP - 2 * PAGE_SIZE, 4); break;
        case 2: xl_jump_drop_some(f.xl, XL_JC_SUPERVISOR, drops_all, NULL); break;
        default: xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
        }
        ck_assert_ptr_null(again(0x100));
        ck_assert_ptr_null(again(0x200));
        ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
    }
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, make(0x300, "\xc3", 1, MODE_FLAT, 0x7000)); /* is another one now */
    ck_assert_ptr_null(again(0x100));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, b->eip));
}
END_TEST

/* A block of the page before makes the page one that has entries, and tells nothing of what else is in it. */
START_TEST(a_block_that_straddles_makes_no_page_known)
{
    struct block *b = make_ret(0x1100);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP + PAGE_SIZE);
    memset(code, 0x90, sizeof code);
    memcpy(code, "\xb8\x78\x56\x34\x12", 5);
    struct xl_source src = xlf_source2(EIP + 0xffe, PA + 0xffe, 0x9000, MODE_FLAT, code, sizeof code);
    bool evicted;
    struct block *straddles = xl_translate(f.xl, &src, &evicted);
    ck_assert_uint_eq(xl_block_pa2(straddles), 0x9000);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, straddles);
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, straddles->eip), xl_entry(f.xl, straddles));
    ck_assert_ptr_null(again(0xffe));
    ck_assert_ptr_null(again(0x1100));
    ck_assert_ptr_null(xl_jump_known(f.xl, XL_JC_SUPERVISOR, &src));
}
END_TEST

START_TEST(a_block_that_is_gone_is_not_known)
{
    struct block *a = make_ret(0x100), *b = make_ret(0x200);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, a);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    xl_retire(f.xl, a->pa, 1);
    ck_assert_ptr_null(again(0x100));
    ck_assert_ptr_null(known(0x100, PA, MODE_FLAT));
    ck_assert_ptr_eq(again(0x200), xl_entry(f.xl, b));
    struct block *next = make(0x100, "\x90\xc3", 2, MODE_FLAT, PA);
    ck_assert_ptr_ne(next, a);
    ck_assert_ptr_null(again(0x100));
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, next);
    ck_assert_ptr_eq(again(0x100), xl_entry(f.xl, next));
    xl_flush(f.xl);
    ck_assert_ptr_null(again(0x200));
    ck_assert_ptr_null(known(0x200, PA, MODE_FLAT));
}
END_TEST

/* Side memory that has run out costs time and nothing else. */
START_TEST(without_room_for_it_a_block_is_filled_in_all_the_same)
{
    struct block *a = make_ret(0x100), *b = make(0x200, "\xc3", 1, MODE_USER, PA);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, a);
    f.xl->side_max = f.xl->side_used;
    xl_jump_fill_page(f.xl, XL_JC_USER, b);
    ck_assert_ptr_eq(jump(XL_JC_USER, b->eip), xl_entry(f.xl, b));
    ck_assert_ptr_null(xl_jump_again(f.xl, XL_JC_USER, MODE_USER, b->eip));
    ck_assert_ptr_eq(again(0x100), xl_entry(f.xl, a));
}
END_TEST

START_TEST(a_page_comes_back_into_a_jump_cache_as_a_whole)
{
    struct block *a = make_ret(0x100), *b = make_ret(0x200), *never = make_ret(0x300), *gone = make_ret(0x400);
    struct block *user = make(0x500, "\xc3", 1, MODE_USER, PA), *elsewhere = make(0x1100, "\xc3", 1, MODE_FLAT, 0x7000);
    struct block *const filled[] = { a, b, gone, elsewhere };
    for (unsigned i = 0; i < 4; i++) xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, filled[i]);
    xl_jump_fill_page(f.xl, XL_JC_USER, user);
    ck_assert_uint_eq(f.xl->jc_count[XL_JC_SUPERVISOR], 4);
    xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    xl_retire(f.xl, gone->pa, 1);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, b->eip), xl_entry(f.xl, b));
    ck_assert_ptr_eq(jump(XL_JC_SUPERVISOR, a->eip), xl_entry(f.xl, a));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, never->eip));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, gone->eip));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, user->eip));
    ck_assert_ptr_null(jump(XL_JC_SUPERVISOR, elsewhere->eip));
}
END_TEST

START_TEST(a_jump_cache_can_be_filled_and_flushed_for_ever)
{
    struct block *b = make_ret(0x100), *c = make(0x100, "\xc3", 1, MODE_FLAT, 0x7000);
    for (unsigned i = 0; i < 3 * JUMP_ENTRIES; i++) {
        xl_jump_fill(f.xl, XL_JC_SUPERVISOR, i & 1 ? b : c); /* the same entry: on the list once */
        ck_assert_uint_eq(f.xl->jc_count[XL_JC_SUPERVISOR], 1);
        if (i % 7 == 0) xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    }
}
END_TEST

/* ---- everything at random, and the invariants of chain.c and cache.c after each step ---- */

enum { ALIASES = 24 };

static const char *broken(const struct block *b)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct edge *e = &b->edge[i];
        if (!e->from) continue;
        if (goes_to(e) != (e->to ? e->to->host_off : e->thunk)) return "an edge that goes elsewhere than it says";
        if (!e->to) continue;
        if (b->state != BLOCK_LIVE || e->to->state != BLOCK_LIVE) return "a link from or to what is not alive";
        unsigned times = 0;
        for (const struct edge *in = e->to->in; in; in = in->next_in) times += in == e;
        if (times != 1) return "an edge that is not once on its target's list";
    }
    for (const struct edge *in = b->in; in; in = in->next_in)
        if (in->to != b) return "an edge on a list where it does not belong";
    return NULL;
}

static const char *graph_broken(void)
{
    const char *err = NULL;
    unsigned live = 0, entries = 0;
    for (u32 i = 0; i < f.xl->nblocks && !err; i++) {
        err = broken(&f.xl->arena[i]);
        live += f.xl->arena[i].state == BLOCK_LIVE;
    }
    const struct code_page *pg = xl_page(f.xl, PA);
    if (!err && live != (pg ? pg->live : 0)) err = "a page that miscounts its blocks";
    for (unsigned i = 0; i < JUMP_ENTRIES && !err; i++) {
        const struct jump_entry *j = &f.xl->jc[XL_JC_SUPERVISOR][i];
        entries += j->code != NULL;
        if (!j->code || ((i - jump_index(-j->neg_eip)) % JUMP_ENTRIES) > 1) continue; /* nothing will find it */
        const struct block *b = xl_block_at(f.xl, (u64)j->code);
        if (!b || b->state != BLOCK_LIVE || (const void *)j->code != xl_entry(f.xl, b))
            err = "a jump cache that leads to what is not alive";
    }
    if (!err && entries != f.xl->jc_count[XL_JC_SUPERVISOR]) err = "a jump cache that has lost count";
    return err;
}

/* A branch from one of the places to another: in the same page, by a near Jcc. */
static struct block *place(unsigned at, unsigned to, u8 *bytes)
{
    u32 rel = (to - at) * 0x40 - 6;
    memset(bytes, 0x90, 64);
    memcpy(bytes, "\x0f\x84", 2);
    memcpy(bytes + 2, &rel, 4);
    struct xl_source src = xlf_source2(EIP + at * 0x40, PA + at * 0x40, XL_NO_PAGE, MODE_FLAT, bytes, 64);
    struct block *b = xlf_find(f.xl, src.eip, src.pa, src.mode);
    bool evicted;
    if (b && b->state == BLOCK_LIVE) return b;
    if (b && xl_revive(f.xl, b, &src)) return b;
    return xl_translate(f.xl, &src, &evicted);
}

START_TEST(the_graph_stays_whole_whatever_happens)
{
    static u8 memory[ALIASES][64];
    static unsigned leads_to[ALIASES];
    struct rng r;
    rng_seed(&r, 7);
    for (unsigned step = 0; step < 4000; step++) {
        unsigned at = rng_below(&r, ALIASES);
        struct block *b = xlf_find(f.xl, EIP + at * 0x40, PA + at * 0x40, MODE_FLAT);
        switch (rng_below(&r, 12)) {
        case 0:
        case 1:
        case 2:
        case 3: { /* as the dispatcher: come from at by its edge, link */
            struct block *from = place(at, leads_to[at], memory[at]),
                         *to = place(leads_to[at], leads_to[leads_to[at]], memory[leads_to[at]]);
            if (from->state == BLOCK_LIVE) xl_link(f.xl, &from->edge[0], to);
            break;
        }
        case 4:
        case 5: xl_jump_fill(f.xl, XL_JC_SUPERVISOR, place(at, leads_to[at], memory[at])); break;
        case 6: xl_retire(f.xl, PA + at * 0x40, 1 + rng_below(&r, 100)); break;
        case 7: /* other code, when it comes to be looked at */
            xl_retire(f.xl, PA + at * 0x40, 6);
            leads_to[at] = rng_below(&r, ALIASES);
            break;
        case 8:
            if (b) xl_forget(f.xl, b);
            break;
        case 9:
            if (b) xl_break(f.xl, (u64)xl_entry(f.xl, b) + rng_below(&r, b->host_len));
            break;
        case 10:
            if (rng_percent(&r, 10)) xl_retire_page(f.xl, PA);
            break;
        default:
            if (rng_percent(&r, 5)) xl_flush(f.xl);
            else if (rng_percent(&r, 20)) xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
            break;
        }
        const char *err = step % 16 ? NULL : graph_broken();
        ck_assert_msg(!err, "step %u: %s", step, err);
    }
    ck_assert_uint_gt(f.ctr.chains, 100);
    ck_assert_uint_gt(f.ctr.unchains, 100);
    ck_assert_uint_gt(f.ctr.revived, 10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chain");
    TCase *t = tcase_create("graph");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_edge_leaves_by_its_thunk_until_it_is_linked);
    tcase_add_test(t, a_thunk_names_its_own_edge);
    tcase_add_test(t, a_retired_target_is_left_by_all_who_led_to_it);
    tcase_add_test(t, a_retired_source_is_off_its_targets_lists);
    tcase_add_test(t, a_loop_links_to_itself_and_comes_apart);
    tcase_add_test(t, what_must_not_be_linked_is_not);
    tcase_add_test(t, edges_lead_to_whatever_cannot_run_into_the_next_page);
    tcase_add_test(t, a_break_outside_of_code_says_so);
    tcase_add_test(t, a_jump_cache_answers_for_what_it_was_told_and_for_nothing_else);
    tcase_add_test(t, nothing_is_at_EIP_0_before_it_is_filled_nor_after_a_flush);
    tcase_add_test(t, the_all_miss_cache_sends_everything_to_the_miss_stub);
    tcase_add_test(t, a_retired_block_is_in_no_jump_cache);
    tcase_add_test(t, dropping_a_page_drops_what_has_code_there);
    tcase_add_test(t, dropping_a_page_keeps_what_has_code_elsewhere);
    tcase_add_test(t, dropping_page_after_page_empties_it_and_a_fill_between_does_not);
    tcase_add_test(t, dropping_many_pages_drops_what_has_code_there);
    tcase_add_test(t, a_jump_cache_can_be_filled_and_flushed_for_ever);
    tcase_add_test(t, what_has_been_jumped_to_is_known_by_page_and_offset);
    tcase_add_test(t, what_another_has_driven_out_is_filled_in_again);
    tcase_add_test(t, a_page_that_has_been_dropped_is_not_known_by_eip);
    tcase_add_test(t, a_block_that_straddles_makes_no_page_known);
    tcase_add_test(t, a_block_that_is_gone_is_not_known);
    tcase_add_test(t, without_room_for_it_a_block_is_filled_in_all_the_same);
    tcase_add_test(t, a_page_comes_back_into_a_jump_cache_as_a_whole);
    tcase_add_test(t, the_pages_that_a_jump_cache_knows_are_told_in_order_until_a_flush);
    tcase_add_test(t, some_entries_are_dropped_however_often_and_the_others_stay);
    tcase_add_test(t, two_of_the_same_index_fit_into_a_jump_cache);
    tcase_add_test(t, the_graph_stays_whole_whatever_happens);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
