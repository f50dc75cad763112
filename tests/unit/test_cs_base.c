/* Code in a segment with a base: EIP is not the linear address. Blocks are found, linked, recovered, re-addressed and
 * had from templates by the one that each of these is about. */
#define _GNU_SOURCE
#include "tests/emit/clone_check.h"

#include <check.h>

#define MODE (MODE_FLAT & ~(u32)MK_CSFLAT)
#define BASE 0x00100540u /* of no page: offsets in pages differ, too */
#define EIP 0x00300ac0u
#define LA (BASE + EIP) /* 401000h */
#define PA 0x5000u

static struct xlf f;
static void setup(void) { xlf_init(&f, 1 << 20, false, 0); }
static void teardown(void) { xlf_free(&f); }

static struct xl_source at(laddr la, u32 base, const u8 *page)
{
    unsigned off = la & ~PAGE_MASK;
    return (struct xl_source){ .la = la,
                               .eip = la - base,
                               .pa = PA + off,
                               .mode = MODE,
                               .bytes = page + off,
                               .nbytes = PAGE_SIZE - off,
                               .pa2 = XL_NO_PAGE };
}

static u8 page[PAGE_SIZE];
static struct block *make(laddr la, u32 base)
{
    struct xl_source src = at(la, base, page);
    bool evicted;
    return xl_translate(f.xl, &src, &evicted);
}
static struct block *found(laddr la, u32 base)
{
    struct xl_source src = at(la, base, page);
    return xl_find(f.xl, &src);
}
static void same_as_translated(struct block *b)
{
    struct xl_source src = at(b->la, b->la - b->eip, page);
    const char *wrong = clone_check(&f, b, &src);
    ck_assert_msg(!wrong, "%s", wrong);
}
#define PUT(off, bytes) memcpy(page + (off), bytes, sizeof(bytes) - 1)

/* The one entry of a jump cache that an EIP finds. */
static const void *jump(u32 eip)
{
    const struct jump_entry *j = &f.xl->jc[XL_JC_SUPERVISOR][jump_index(eip)];
    return (u32)(j->neg_eip + eip) == 0 ? j->code : NULL;
}

START_TEST(a_block_is_found_by_linear_address_and_eip)
{
    PUT(0, "\x40\xc3");
    struct block *b = make(LA, BASE), *other = make(LA, BASE + 0x1000);
    ck_assert_ptr_ne(b, other);
    ck_assert_ptr_eq(found(LA, BASE), b);
    ck_assert_ptr_eq(found(LA, BASE + 0x1000), other);
    ck_assert_ptr_null(found(LA, 0));
    ck_assert_ptr_null(found(LA + 1, BASE + 1));
    ck_assert_uint_eq(xl_retire(f.xl, PA, 1), 0); /* both are on the page */
}
END_TEST

START_TEST(a_target_is_an_edge_if_its_linear_address_is_on_the_page)
{
    /* The page's last instructions are at EIP 301abxh, on another page of EIPs than its first. */
    PUT(0, "\xe9\xeb\x0f\0\0");         /* jmp to ff0h of the page: EIP 301ab0h */
    PUT(0xff0, "\xe9\x1b\0\0\0");       /* jmp to 10h of the next one */
    PUT(0x100, "\xe9\xfb\xfe\xff\xff"); /* jmp to 0 of the page */
    struct block *a = make(LA, BASE), *b = make(LA + 0xff0, BASE), *c = make(LA + 0x100, BASE);
    ck_assert_ptr_eq(a->edge[0].from, a);
    ck_assert_uint_eq(xl_edge_target(&a->edge[0]), EIP + 0xff0);
    ck_assert_ptr_null(b->edge[0].from);
    ck_assert_uint_eq(xl_edge_target(&c->edge[0]), EIP);
    xl_link(f.xl, &a->edge[0], b);
    ck_assert_ptr_eq(a->edge[0].to, b);
    xl_link(f.xl, &c->edge[0], make(LA, BASE + 0x1000)); /* the same bytes, but not the same EIP */
    ck_assert_ptr_null(c->edge[0].to);
    xl_link(f.xl, &c->edge[0], a);
    ck_assert_ptr_eq(c->edge[0].to, a);
}
END_TEST

START_TEST(a_jump_cache_is_searched_by_eip_and_flushed_by_linear_page)
{
    PUT(0, "\xc3");
    struct block *b = make(LA, BASE);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    ck_assert_ptr_eq(jump(EIP), xl_entry(f.xl, b));
    ck_assert_ptr_null(jump(LA));
    u32 linear = 0;
    ck_assert(xl_jump_next_page(f.xl, XL_JC_SUPERVISOR, &linear));
    ck_assert_uint_eq(linear, LA >> PAGE_SHIFT);
    xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, EIP);
    ck_assert_ptr_eq(jump(EIP), xl_entry(f.xl, b));
    xl_jump_drop_page(f.xl, XL_JC_SUPERVISOR, LA);
    ck_assert_ptr_null(jump(EIP));
}
END_TEST

START_TEST(blocks_of_another_base_do_not_come_back_into_the_jump_cache_with_a_page)
{
    PUT(0, "\xc3");
    PUT(0x40, "\xc3");
    struct block *b = make(LA, BASE), *other = make(LA + 0x40, BASE + 0x1000), *same = make(LA + 0x40, BASE);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, other);
    xl_jump_flush(f.xl, XL_JC_SUPERVISOR);
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, same);
    xl_jump_flush(f.xl, XL_JC_SUPERVISOR); /* as a change of the base does */
    xl_jump_fill_page(f.xl, XL_JC_SUPERVISOR, b);
    ck_assert_ptr_eq(jump(EIP), xl_entry(f.xl, b));
    ck_assert_ptr_eq(jump(EIP + 0x40), xl_entry(f.xl, same));
    ck_assert_ptr_null(jump(EIP + 0x40 - 0x1000));
}
END_TEST

START_TEST(a_host_address_leads_back_to_the_eip_and_the_physical_address)
{
    PUT(0x20, "\x40\x83\xc0\x05\xf7\xf1\xc3"); /* inc eax; add eax, 5; div ecx; ret */
    struct block *b = make(LA + 0x20, BASE);
    const u8 *div = memmem(xlf_host(&f, b), b->host_len, "\xf7\xf1", 2);
    struct xl_point p;
    ck_assert_ptr_nonnull(div);
    ck_assert(xl_recover(f.xl, (u64)xl_entry(f.xl, b) + (u64)(div - xlf_host(&f, b)), &p));
    ck_assert_uint_eq(p.eip, EIP + 0x24);
    ck_assert_uint_eq(p.pa, PA + 0x24);
}
END_TEST

/* What host code has of the guest's addresses are EIPs: a return address, and targets on other pages. */
START_TEST(host_code_has_eips)
{
    PUT(0x30, "\xe8\0\x20\0\0"); /* call 2000h on */
    struct block *b = make(LA + 0x30, BASE);
    u32 back = EIP + 0x35, target = back + 0x2000, linear = LA + 0x35;
    ck_assert_ptr_nonnull(memmem(xlf_host(&f, b), b->host_len, &back, 4));
    ck_assert_ptr_nonnull(memmem(xlf_host(&f, b), b->host_len, &target, 4));
    ck_assert_ptr_null(memmem(xlf_host(&f, b), b->host_len, &linear, 4));
}
END_TEST

/* Where the code lies in its linear page decides what is an edge; where in the segment does not. */
START_TEST(a_template_serves_any_base_at_the_same_offset_of_a_linear_page)
{
    PUT(0, "\xe8\0\x20\0\0");
    PUT(0x80, "\x74\x0e\xe8\0\x20\0\0\xc3");
    for (unsigned off = 0; off <= 0x80; off += 0x80) {
        (void)make(LA + off, BASE);
        u64 cloned = f.ctr.cloned;
        struct block *b = make(LA + off, 0);
        ck_assert_uint_eq(f.ctr.cloned, cloned + 1);
        ck_assert_uint_eq(b->eip, LA + off);
        same_as_translated(b);
        struct block *c = make(LA + off + 0x7000, BASE - 0x123);
        ck_assert_uint_eq(f.ctr.cloned, cloned + 2);
        same_as_translated(c);
        struct block *d = make(LA + off + 0x41, BASE);
        ck_assert_uint_eq(f.ctr.cloned, cloned + 2);
        ck_assert_uint_eq(d->eip, EIP + off + 0x41);
    }
}
END_TEST

START_TEST(re_addressing_a_page_moves_eips_as_far_as_linear_addresses)
{
    PUT(0, "\xe8\0\x20\0\0");
    laddr la = LA;
    for (unsigned i = 0; i < 9; i++, la += 0x10000) {
        (void)make(la, BASE);
        f.xl->finds += 1u << 20; /* time goes by: none is in use */
    }
    ck_assert_uint_gt(f.ctr.readdressed, 0);
    struct block *b = found(la - 0x10000, BASE);
    ck_assert_ptr_nonnull(b);
    same_as_translated(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cs_base");
    TCase *t = tcase_create("cs_base");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_block_is_found_by_linear_address_and_eip);
    tcase_add_test(t, a_target_is_an_edge_if_its_linear_address_is_on_the_page);
    tcase_add_test(t, a_jump_cache_is_searched_by_eip_and_flushed_by_linear_page);
    tcase_add_test(t, blocks_of_another_base_do_not_come_back_into_the_jump_cache_with_a_page);
    tcase_add_test(t, a_host_address_leads_back_to_the_eip_and_the_physical_address);
    tcase_add_test(t, host_code_has_eips);
    tcase_add_test(t, a_template_serves_any_base_at_the_same_offset_of_a_linear_page);
    tcase_add_test(t, re_addressing_a_page_moves_eips_as_far_as_linear_addresses);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
