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
#define ALIAS 0xc0000000u
#define WAYS_APART 64u /* pages of which one is remembered at a time */

/* By the supervisor, at pa's alias in linear memory. */
static bool let_write(paddr pa, unsigned n)
{
    return tables_let_write(cpu, ALIAS + (laddr)pa, pa, n) == bus_ram_ptr(bus, pa);
}
static bool let_again(paddr pa, unsigned n)
{
    return tables_let_again(cpu, ALIAS + (laddr)pa, n) == bus_ram_ptr(bus, pa);
}

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
    ck_assert(let_write(TABLE + 4 * ((LA >> 12 & 1023) + 1), 4));
    ck_assert(entry(TLB_SUP_R));
    ck_assert_uint_eq(forgot_times, 0);
}
END_TEST

/* A walk would have set A (SDM vol. 3, 4.8). */
START_TEST(a_write_to_an_entry_that_has_not_been_used_drops_nothing)
{
    map(0x200000);
    ram32(TABLE)[(LA >> 12 & 1023) + 1] = 0x201000 | P | W | U;
    ck_assert(let_write(TABLE + 4 * ((LA >> 12 & 1023) + 1), 4));
    ck_assert_uint_eq(forgot_times, 0);
    ram32(TABLE)[(LA >> 12 & 1023) + 1] |= A;
    ck_assert(let_write(TABLE + 4 * ((LA >> 12 & 1023) + 1), 4));
    ck_assert_uint_eq(forgot, LA + PAGE_SIZE);
}
END_TEST

static const paddr pte = TABLE + (LA >> 12 & 1023) * 4;
static const paddr pde = FIX_PD32 + (LA >> 22) * 4;

START_TEST(a_second_write_needs_no_walk_and_drops_as_well)
{
    u64 v;
    map(0x200000);
    ck_assert(!let_again(pte, 4));
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(i ? let_again(pte, 4) : let_write(pte, 4));
        ck_assert(!entry(TLB_SUP_R));
        ck_assert_uint_eq(forgot_times, i + 1);
        ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    }
    ck_assert(let_again(pte + 4, 4)); /* an absent one */
    ck_assert(entry(TLB_SUP_R));
    ck_assert(let_write(pde, 4));
    ck_assert_uint_eq(forgot_pages, 1024);
    ck_assert(let_again(pde, 4));
    ck_assert_uint_eq(forgot_times, 5);
}
END_TEST

START_TEST(a_second_write_finds_what_the_table_has_come_to_serve_since)
{
    laddr other = (0x200u << 22) + (LA & (4 * MIB - 1));
    u64 v;
    map(0x200000);
    ck_assert(let_write(pte, 4));
    ram32(FIX_PD32)[0x200] = TABLE | P | W | U;
    ck_assert_int_eq(mem_read(cpu, other, 4, false, &v), 0);
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    ck_assert(let_again(pte, 4));
    ck_assert(!entry(TLB_SUP_R));
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[other >> PAGE_SHIFT], 0);
}
END_TEST

START_TEST(a_second_write_to_what_is_no_table_any_more_is_let_go)
{
    map(0x200000);
    ck_assert(let_write(pte, 4));
    ck_assert(let_write(pde, 4));
    *ram32(pde) = 0x400000 | P | W | PS;
    forgot_times = 0;
    ck_assert(let_again(pte, 4));
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, 0);
    ck_assert(!let_again(pte, 4));
    ck_assert_uint_eq(forgot_times, 0);
}
END_TEST

/* Where an earlier write's walk has ended is no longer known, */
START_TEST(a_second_write_walks_again_where_the_first_walk_may_not_count)
{
    map(0x200000);
    cpu->cr0 &= ~CR0_WP;
    ck_assert(let_write(pte, 4));
    ck_assert(!let_again(pte, 4));
    cpu->cr0 |= CR0_WP;
    for (unsigned i = 0; i < 5; i++) {
        ck_assert(let_write(pte, 4));
        ck_assert(!tables_let_again(cpu, ALIAS + (laddr)pte + (WAYS_APART << PAGE_SHIFT), 4));
        ck_assert(let_again(pte, 4));
        if (i == 0) coherence_forget(bus_coherence(bus), ALIAS + (laddr)pte, 1);
        if (i == 1) coherence_forget(bus_coherence(bus), ALIAS, 1024);
        if (i == 2) tlb_flush_nonglobal(cpu);
        if (i == 3) tlb_flush_page(cpu, ALIAS);
        if (i == 4) coherence_remapped(bus_coherence(bus));
        ck_assert(!let_again(pte, 4));
        ck_assert(let_write(pte, 4));
    }
    cpu->cpl = 3; /* nor does it count for a user */
    ck_assert(!let_again(pte, 4));
    ck_assert(let_write(pte + 8, 4));
    cpu->cpl = 0;
}
END_TEST

START_TEST(a_page_that_is_refused_often_is_no_table_lately)
{
    map(0x200000);
    ck_assert(tables_recent(cpu, TABLE));
    ck_assert(!tables_recent(cpu, 0x200000));
    for (unsigned i = 0; i < 1000; i++) tables_refused(cpu, TABLE); /* it is a table */
    ck_assert(tables_recent(cpu, TABLE));
    unsigned before = 0;
    for (unsigned turn = 0; turn < 4; turn++) {
        unsigned n = 0;
        tables_forget(cpu, TABLE);
        for (; tables_recent(cpu, TABLE); n++) tables_refused(cpu, TABLE);
        ck_assert_uint_gt(n, before); /* more often, the more turns it takes */
        before = n;
        map(0x200000);
        ck_assert(tables_recent(cpu, TABLE));
    }
    tables_forget(cpu, TABLE);
    coherence_aged(bus_coherence(bus), 100000);
    ck_assert(!tables_recent(cpu, TABLE));
}
END_TEST

START_TEST(a_write_to_a_directory_drops_all_that_it_covers)
{
    map(0x200000);
    ck_assert(let_write(FIX_PD32 + (LA >> 22) * 4, 4));
    ck_assert(!entry(TLB_SUP_R));
    ck_assert_uint_eq(forgot, LA & ~(4 * MIB - 1));
    ck_assert_uint_eq(forgot_pages, 1024);
}
END_TEST

START_TEST(a_table_drops_its_page_in_each_place_however_many)
{
    u64 v;
    map(0x200000);
    for (u32 region = 0x200; region < 0x205; region++) {
        laddr other = (region << 22) + (LA & (4 * MIB - 1));
        *ram32(FIX_PD32 + 4 * region) = TABLE | P | W | U;
        ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
        ck_assert_int_eq(mem_read(cpu, other, 4, false, &v), 0);
        forgot_times = 0;
        ck_assert(let_write(TABLE + (LA >> 12 & 1023) * 4, 4));
        ck_assert(!entry(TLB_SUP_R));
        ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[other >> PAGE_SHIFT], 0);
        ck_assert_uint_eq(forgot_pages, 1);
        ck_assert_uint_eq(forgot_times, region - 0x200 + 2);
    }
}
END_TEST

#define OTHER_PD 0x300000u

/* The other directory is a copy, but for LA's region: there it has nothing. */
static void use_other(void)
{
    memcpy(ram32(OTHER_PD), ram32(FIX_PD32), PAGE_SIZE);
    ram32(OTHER_PD)[LA >> 22] = 0;
    cpu->cr3 = OTHER_PD;
    tlb_flush_nonglobal(cpu);
    forgot_times = 0;
}

START_TEST(tables_that_no_walk_comes_through_now_drop_nothing)
{
    map(0x200000);
    use_other();
    ck_assert(let_write(FIX_PD32 + (LA >> 22) * 4, 4));
    ck_assert(let_write(TABLE + (LA >> 12 & 1023) * 4, 4));
    tables_forget(cpu, TABLE);
    tables_forget(cpu, FIX_PD32);
    ck_assert_uint_eq(*bus_page_flags(bus, FIX_PD32) & PG_TABLE, 0);
    ck_assert_uint_eq(forgot_times, 0);
}
END_TEST

START_TEST(a_directory_written_as_a_whole_drops_everything_only_while_it_is_in_use)
{
    map(0x200000);
    tables_forget(cpu, FIX_PD32);
    ck_assert_uint_eq(forgot_pages, TLB_PAGES);
    ck_assert(!entry(TLB_SUP_R));
}
END_TEST

START_TEST(what_is_global_goes_where_the_next_directory_leads_elsewhere_and_stays_where_it_does_not)
{
    laddr same = 0x80000000;
    u64 v;
    map(0x200000);
    *ram32(TABLE + (LA >> 12 & 1023) * 4) |= G;
    tlb_flush_all(cpu);
    *ram32(FIX_PD32 + (same >> 22) * 4) = 0x400000 | P | W | PS | G;
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    ck_assert_int_eq(mem_read(cpu, same, 4, false, &v), 0);
    use_other();
    ck_assert(!entry(TLB_SUP_R));
    ck_assert(cpu_tlb(cpu, TLB_SUP_R)[same >> PAGE_SHIFT]);
    /* Nothing has walked through the new directory yet, but what is cached depends on it. */
    bus_phys_write(bus, OTHER_PD + (same >> 22) * 4, 4, 0);
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[same >> PAGE_SHIFT], 0);
}
END_TEST

START_TEST(what_a_directory_kept_of_a_region_is_not_taken_for_what_it_says_now)
{
    u32 *pde = ram32(FIX_PD32 + (LA >> 22) * 4), old;
    u64 v;
    map(0x200000);
    *ram32(TABLE + (LA >> 12 & 1023) * 4) |= G;
    tlb_flush_all(cpu);
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    memcpy(ram32(OTHER_PD), ram32(FIX_PD32), PAGE_SIZE);
    old = *pde;
    bus_phys_write(bus, FIX_PD32 + (LA >> 22) * 4, 4, 0x400000 | P | W | PS | G);
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    ck_assert_uint_eq(ram32(OTHER_PD)[LA >> 22], old);
    cpu->cr3 = OTHER_PD; /* as the first one was */
    tlb_flush_nonglobal(cpu);
    ck_assert(!entry(TLB_SUP_R));
}
END_TEST

START_TEST(a_pae_directory_drops_its_regions_in_each_quarter_that_has_it)
{
    u64 v;
    fix_paging(true);
    cpu->cr3 = 0;
    cpu->pdpte[2] = cpu->pdpte[1];
    map_pae(LA, 0x200000 | P | W | U, P | W | U);
    for (unsigned k = 0; k < 2; k++) ck_assert_int_eq(mem_read(cpu, LA + (k << 30), 4, false, &v), 0);
    ck_assert(let_write(FIX_PD_PAE + PAGE_SIZE + (LA >> 21 & 511) * 8, 8));
    ck_assert_uint_eq(forgot_times, 2);
    ck_assert_uint_eq(forgot_pages, 512);
    for (unsigned k = 0; k < 2; k++) ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[(LA + (k << 30)) >> PAGE_SHIFT], 0);
}
END_TEST

START_TEST(a_table_with_code_is_not_let_through)
{
    map(0x200000);
    bus_mark_code(bus, TABLE);
    ck_assert(!let_write(TABLE + 8, 4));
    ck_assert(!let_write(0x200000, 4)); /* nor what is none */
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
}
END_TEST

START_TEST(a_table_is_watched_however_often_it_is_written)
{
    map(0x200000);
    for (unsigned i = 0; i < 100000; i++) bus_phys_write(bus, TABLE + 8, 4, 0);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, PG_TABLE);
    ck_assert(entry(TLB_SUP_R));
}
END_TEST

/* A page that was a table, and is memory since, or another address space's. */
START_TEST(what_the_present_tables_do_not_lead_to_is_watched_until_it_is_written_once)
{
    const laddr at_table = 0x80000000;
    u64 v;
    map(0x200000);
    use_other();
    ram32(OTHER_PD)[at_table >> 22] = 0 | P | W | PS;
    ck_assert_int_eq(mem_read(cpu, at_table + TABLE, 4, false, &v), 0);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, PG_TABLE);
    ck_assert_int_eq(mem_write(cpu, at_table + TABLE, 4, false, 1), 0);
    ck_assert_uint_eq(*bus_page_flags(bus, TABLE) & PG_TABLE, 0);
    ck_assert(cpu_tlb(cpu, TLB_SUP_W)[(at_table + TABLE) >> PAGE_SHIFT]);
    ck_assert(!let_write(FIX_PD32, 4) || !(*bus_page_flags(bus, FIX_PD32) & PG_TABLE));
    ck_assert_uint_eq(forgot_times, 0);
    cpu->cr3 = FIX_PD32; /* where both are in use */
    tlb_flush_nonglobal(cpu);
    *ram32(TABLE + (LA >> 12 & 1023) * 4) = 0x200000 | P | W | U;
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    bus_phys_write(bus, TABLE + (LA >> 12 & 1023) * 4, 4, 0x201000 | P | W | U);
    ck_assert(!entry(TLB_SUP_R));
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
    tcase_add_test(t, a_write_to_an_entry_that_has_not_been_used_drops_nothing);
    tcase_add_test(t, a_second_write_needs_no_walk_and_drops_as_well);
    tcase_add_test(t, a_second_write_finds_what_the_table_has_come_to_serve_since);
    tcase_add_test(t, a_second_write_to_what_is_no_table_any_more_is_let_go);
    tcase_add_test(t, a_second_write_walks_again_where_the_first_walk_may_not_count);
    tcase_add_test(t, a_page_that_is_refused_often_is_no_table_lately);
    tcase_add_test(t, a_write_to_a_directory_drops_all_that_it_covers);
    tcase_add_test(t, a_table_drops_its_page_in_each_place_however_many);
    tcase_add_test(t, tables_that_no_walk_comes_through_now_drop_nothing);
    tcase_add_test(t, a_directory_written_as_a_whole_drops_everything_only_while_it_is_in_use);
    tcase_add_test(t, what_is_global_goes_where_the_next_directory_leads_elsewhere_and_stays_where_it_does_not);
    tcase_add_test(t, what_a_directory_kept_of_a_region_is_not_taken_for_what_it_says_now);
    tcase_add_test(t, a_pae_directory_drops_its_regions_in_each_quarter_that_has_it);
    tcase_add_test(t, a_table_with_code_is_not_let_through);
    tcase_add_test(t, what_a_device_has_written_already_drops_all_of_its_table);
    tcase_add_test(t, a_run_of_writes_makes_it_memory_like_any_other);
    tcase_add_test(t, a_table_is_watched_however_often_it_is_written);
    tcase_add_test(t, what_the_present_tables_do_not_lead_to_is_watched_until_it_is_written_once);
    suite_add_tcase(s, t);
    return fix_run(s);
}
