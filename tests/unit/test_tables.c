/* Page tables in use, watched: what is dropped before an entry changes, and what is not. */
#include "mem_fixture.h"
#include "runtime/mem/tables.h"

static struct coherence_listener views;
static laddr forgot;
static u32 forgot_pages, forgot_times;

static void on_forget(void *arg UNUSED, laddr la, u32 pages) { forgot = la, forgot_pages = pages, forgot_times++; }

static void setup(void)
{
    fix_setup();
    ck_assert_int_eq(tables_new(cpu), 0);
    views = (struct coherence_listener){ .rank = COHERENCE_CODE, .forget = on_forget };
    coherence_listen(bus_coherence(bus), &views);
    forgot_times = 0;
}
static void teardown(void)
{
    tables_free(cpu);
    fix_teardown();
}

#define LA 0x40003000u
#define TABLE (FIX_TABLES + 0x3000)

static void map(u32 page)
{
    u64 v;
    fix_paging(false);
    *ram32(FIX_PD32 + (LA >> 22) * 4) = TABLE | P | W | U;
    *ram32(TABLE + (LA >> 12 & 1023) * 4) = page | P | W | U;
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    ck_assert_int_eq(mem_write(cpu, LA, 4, false, 1), 0);
}
static u64 entry(enum tlb_kind k) { return cpu_tlb(cpu, k)[LA >> PAGE_SHIFT]; }

START_TEST(a_walk_marks_directory_and_table)
{
    map(0x200000);
    ck_assert_uint_eq(*bus_page_flags(bus, FIX_PD32) & PG_TABLE, PG_TABLE);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, PG_TABLE);
    ck_assert_uint_eq(*bus_page_flags(bus, 0x200000) & PG_TABLE, 0);
    ck_assert_uint_eq(forgot_times, 0); /* setting A and D is no change */
}
END_TEST

START_TEST(a_write_to_a_present_entry_drops_its_page)
{
    u32 generation;
    map(0x200000);
    ck_assert(entry(TLB_SUP_R) && entry(TLB_SUP_W));
    generation = cpu->tlb_generation;
    bus_phys_write(bus, TABLE + (LA >> 12 & 1023) * 4, 4, 0x201000 | P | W | U);
    ck_assert(!entry(TLB_SUP_R) && !entry(TLB_SUP_W));
    ck_assert_uint_ne(cpu->tlb_generation, generation);
    ck_assert_uint_eq(forgot, LA);
    ck_assert_uint_eq(forgot_pages, 1);
}
END_TEST

START_TEST(a_write_to_an_absent_entry_drops_nothing)
{
    map(0x200000);
    ck_assert(tables_let_write(cpu, TABLE + 4 * ((LA >> 12 & 1023) + 1), 4));
    ck_assert(entry(TLB_SUP_R));
    ck_assert_uint_eq(forgot_times, 0);
}
END_TEST

START_TEST(a_write_to_a_directory_drops_all_that_it_covers)
{
    map(0x200000);
    ck_assert(tables_let_write(cpu, FIX_PD32 + (LA >> 22) * 4, 4));
    ck_assert(!entry(TLB_SUP_R));
    ck_assert_uint_eq(forgot, LA & ~(4 * MIB - 1));
    ck_assert_uint_eq(forgot_pages, 1024);
}
END_TEST

START_TEST(a_table_of_two_places_drops_its_page_in_both_and_one_of_many_everything)
{
    u64 v;
    map(0x200000);
    for (u32 region = 0x200; region < 0x205; region++) {
        laddr other = (region << 22) + (LA & (4 * MIB - 1));
        *ram32(FIX_PD32 + 4 * region) = TABLE | P | W | U;
        ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
        ck_assert_int_eq(mem_read(cpu, other, 4, false, &v), 0);
        forgot_times = 0;
        ck_assert(tables_let_write(cpu, TABLE + (LA >> 12 & 1023) * 4, 4));
        ck_assert(!entry(TLB_SUP_R));
        ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[other >> PAGE_SHIFT], 0);
        ck_assert_uint_eq(forgot_pages, region < 0x203 ? 1 : TLB_PAGES);
    }
}
END_TEST

START_TEST(a_table_with_code_is_not_let_through)
{
    map(0x200000);
    bus_mark_code(bus, TABLE);
    ck_assert(!tables_let_write(cpu, TABLE + 8, 4));
    ck_assert(!tables_let_write(cpu, 0x200000, 4)); /* nor what is none */
}
END_TEST

START_TEST(what_a_device_has_written_already_drops_all_of_its_table)
{
    map(0x200000);
    u64 len = 4;
    u8 *p = bus_dma_map(bus, TABLE + (LA >> 12 & 1023) * 4, &len);
    memset(p, 0, 4); /* it does not look like a present entry any more */
    bus_dma_unmap(bus, p, 4, DMA_TO_GUEST);
    ck_assert(!entry(TLB_SUP_R));
    ck_assert_uint_eq(forgot_pages, 1024);
}
END_TEST

START_TEST(a_run_of_writes_makes_it_memory_like_any_other)
{
    u8 zero[64] = { 0 };
    map(0x200000);
    bus_dma_write(bus, TABLE, zero, sizeof zero);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, 0);
    ck_assert(!entry(TLB_SUP_R));
    map(0x200000); /* until it is used again */
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, PG_TABLE);
    for (unsigned i = 0; i < 10000; i++) bus_phys_write(bus, TABLE + 8, 4, 0);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tables");
    TCase *t = tcase_create("tables");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_walk_marks_directory_and_table);
    tcase_add_test(t, a_write_to_a_present_entry_drops_its_page);
    tcase_add_test(t, a_write_to_an_absent_entry_drops_nothing);
    tcase_add_test(t, a_write_to_a_directory_drops_all_that_it_covers);
    tcase_add_test(t, a_table_of_two_places_drops_its_page_in_both_and_one_of_many_everything);
    tcase_add_test(t, a_table_with_code_is_not_let_through);
    tcase_add_test(t, what_a_device_has_written_already_drops_all_of_its_table);
    tcase_add_test(t, a_run_of_writes_makes_it_memory_like_any_other);
    suite_add_tcase(s, t);
    return fix_run(s);
}
