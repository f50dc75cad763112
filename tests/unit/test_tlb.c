/* The soft TLB: what is cached, for whom, and until when. */
#include "mem_fixture.h"
#include "runtime/cpu/cpu.h"
#include "runtime/mem/mmu.h"

#define LA 0x40345000u
#define PA 0x345000u

static u64 entry(enum tlb_kind k, laddr la) { return cpu_tlb(cpu, k)[la >> PAGE_SHIFT]; }
static u64 entry_for(paddr pa, laddr la) { return (u64)bus_ram_ptr(bus, pa) - la; }

/* Which of the four tables have an entry, as bits. */
static unsigned kinds(laddr la)
{
    unsigned k = 0;
    for (unsigned i = 0; i < TLB_KINDS; i++) k |= (entry(i, la) != 0) << i;
    return k;
}
enum { SR = 1 << TLB_SUP_R, SW = 1 << TLB_SUP_W, UR = 1 << TLB_USER_R, UW = 1 << TLB_USER_W };

static unsigned fill(laddr la, enum access acc, bool user)
{
    bool fault = true;
    u8 *host = tlb_fill(cpu, la + 0x10, acc, user, &fault);
    ck_assert_ptr_nonnull(host);
    ck_assert(!fault);
    ck_assert_ptr_eq(host, bus_ram_ptr(bus, PA + 0x10));
    return kinds(la);
}

START_TEST(a_fill_gives_its_own_privilege_what_it_may_have)
{
    fix_paging(false);
    map32(LA, PA | P | W | U, P | W | U);
    ck_assert_uint_eq(fill(LA, ACC_R, false), SR); /* clean: no write entry, or D would never be set */
    ck_assert_uint_eq(fill(LA, ACC_W, false), SR | SW);
    ck_assert_uint_eq(fill(LA, ACC_R, true), SR | SW | UR | UW); /* dirty already: a read fill serves writes too */
    ck_assert_uint_eq(entry(TLB_SUP_R, LA), entry_for(PA, LA));
    ck_assert_uint_eq(entry(TLB_USER_W, LA), entry_for(PA, LA));
    tlb_flush_all(cpu);
    ck_assert_uint_eq(kinds(LA), 0);
    *pte32(LA) = PA | P | U | D; /* read-only and dirty: only a supervisor without WP writes */
    ck_assert_uint_eq(fill(LA, ACC_R, false), SR);
    cpu->cr0 &= ~CR0_WP;
    tlb_flush_all(cpu);
    ck_assert_uint_eq(fill(LA, ACC_R, false), SR | SW);
    ck_assert_uint_eq(fill(LA, ACC_R, true), SR | SW | UR);
    tlb_flush_all(cpu);
    *pte32(LA) = PA | P | W | D;
    bool fault;
    ck_assert_ptr_null(tlb_fill(cpu, LA, ACC_R, true, &fault));
    ck_assert(fault);
    ck_assert_uint_eq(kinds(LA), 0);
}
END_TEST

START_TEST(setting_wp_takes_back_what_its_being_clear_allowed_and_flushes_nothing)
{
    enum { READ_ONLY = LA, WRITABLE = LA + PAGE_SIZE, MANY = 100 };
    for (unsigned pages = 1; pages <= MANY; pages += MANY - 1) { /* few are listed, many are not */
        fix_paging(false);
        ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 & ~CR0_WP), 0);
        map32(WRITABLE, PA | P | W | D, P | W | U);
        ck_assert_uint_eq(fill(WRITABLE, ACC_W, false), SR | SW);
        for (unsigned i = 0; i < pages; i++) {
            laddr la = READ_ONLY + 2 * i * PAGE_SIZE;
            map32(la, PA | P | D, P | W | U);
            ck_assert_uint_eq(fill(la, ACC_W, false), SR | SW);
        }
        u32 generation = cpu->tlb_generation;
        ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 | CR0_WP), 0);
        ck_assert_uint_eq(cpu->tlb_generation, generation);
        for (unsigned i = 0; i < pages; i++) {
            laddr la = READ_ONLY + 2 * i * PAGE_SIZE;
            ck_assert_msg(!(kinds(la) & SW), "page %u of %u", i, pages);
            bool fault;
            ck_assert_ptr_null(tlb_fill(cpu, la, ACC_W, false, &fault));
            ck_assert(fault);
            cpu->exc.valid = false;
        }
        if (pages == 1) ck_assert_uint_eq(kinds(WRITABLE), SR | SW);
        ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 & ~CR0_WP), 0); /* and back: it may write again */
        ck_assert_uint_eq(fill(READ_ONLY, ACC_W, false) & SW, SW);
    }
}
END_TEST

START_TEST(devices_and_code_are_never_cached_for_writing)
{
    struct probe_dev d = { 0 };
    bool fault = true;
    ck_assert_int_eq(bus_map_mmio(bus, 0xa0000, 0x1000, &probe_ops, &d, "dev"), 0);
    ck_assert_ptr_null(tlb_fill(cpu, 0xa0000, ACC_R, false, &fault));
    ck_assert(!fault && kinds(0xa0000) == 0);
    *bus_page_flags(bus, 0x5000) |= PG_CODE;
    ck_assert_ptr_null(tlb_fill(cpu, 0x5000, ACC_W, false, &fault));
    ck_assert(!fault);
    ck_assert_uint_eq(kinds(0x5000), SR);
    wr(0x5000, 4, false, 0x1234);
    ck_assert_uint_eq(rd(0x5000, 4, false), 0x1234);
    *bus_page_flags(bus, 0x5000) &= (u8)~PG_CODE;
    wr(0x5000, 4, false, 0x5678);
    ck_assert_uint_eq(kinds(0x5000), SR | SW);
}
END_TEST

/* ---- until when ---- */

START_TEST(a_changed_pte_is_seen_after_invlpg_and_not_before)
{
    fix_paging(false);
    map32(LA, PA | P | W, P | W);
    *ram32(PA) = 1;
    *ram32(0x777000) = 2;
    ck_assert_uint_eq(rd(LA, 4, false), 1);
    *pte32(LA) = 0x777000 | P;
    ck_assert_uint_eq(rd(LA, 4, false), 1);
    u32 generation = cpu->tlb_generation;
    tlb_flush_page(cpu, LA + 0xabc);
    ck_assert_uint_ne(cpu->tlb_generation, generation);
    ck_assert_uint_eq(rd(LA, 4, false), 2);
}
END_TEST

START_TEST(a_range_that_is_forgotten_is_dropped_whatever_was_flushed_before_and_nothing_else_is)
{
    const laddr region = LA & ~(4 * MIB - 1), half = 2 * MIB;
    fix_paging(false);
    for (unsigned flushed = 0; flushed < 3; flushed++) {
        for (unsigned global = 0; global < 2; global++)
            for (unsigned i = 0; i < 4; i++) { /* both halves of the region, and its neighbours */
                laddr la = region - half + i * half + global * PAGE_SIZE;
                map32(la, PA | P | W | (global ? G : 0), P | W);
                rd(la, 4, false);
            }
        if (flushed == 1) tlb_flush_nonglobal(cpu);
        if (flushed == 2) tlb_flush_all(cpu);
        for (unsigned i = 0; i < 4; i++) rd(region - half + i * half, 4, false);
        coherence_forget(bus_coherence(bus), region + half, 512);
        for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(kinds(region - half + i * half) != 0, i != 2);
        ck_assert_uint_eq(kinds(region + half + PAGE_SIZE), 0);
        coherence_forget(bus_coherence(bus), region, 1024);
        for (unsigned i = 0; i < 4; i++) ck_assert_int_eq(kinds(region - half + i * half) != 0, i % 3 == 0);
        coherence_forget(bus_coherence(bus), 0, TLB_PAGES);
        for (unsigned i = 0; i < 4; i++) ck_assert_uint_eq(kinds(region - half + i * half), 0);
    }
}
END_TEST

START_TEST(a_fault_drops_what_is_cached_for_its_address)
{
    fix_paging(false);
    map32(LA, PA | P, P | W);
    rd(LA, 4, false);
    *pte32(LA) = 0;
    ck_pf(mem_write(cpu, LA, 4, false, 0), LA, PF_W);
    *pte32(LA) = 0x777000 | P;
    *ram32(0x777000) = 9;
    ck_assert_uint_eq(rd(LA, 4, false), 9); /* no INVLPG needed from not present to present */
}
END_TEST

START_TEST(a_cr3_write_keeps_global_pages_and_drops_the_rest)
{
    fix_paging(false);
    map32(LA, PA | P | W | U | G | D, P | W | U);
    map32(LA + PAGE_SIZE, 0x346000 | P | W | U | D, P | W | U);
    rd(LA, 4, false);
    rd(LA, 4, true);
    rd(LA + PAGE_SIZE, 4, false);
    rd(LA + PAGE_SIZE, 4, true);
    u32 generation = cpu->tlb_generation;
    tlb_flush_nonglobal(cpu);
    ck_assert_uint_ne(cpu->tlb_generation, generation);
    ck_assert_uint_eq(kinds(LA), SR | SW | UR | UW);
    ck_assert_uint_eq(kinds(LA + PAGE_SIZE), 0);
    tlb_flush_page(cpu, LA);
    ck_assert_uint_eq(kinds(LA), 0);
    rd(LA, 4, false);
    tlb_flush_all(cpu);
    ck_assert_uint_eq(kinds(LA), 0);
    cpu->cr4 &= ~CR4_PGE; /* G means nothing then */
    rd(LA, 4, false);
    tlb_flush_nonglobal(cpu);
    ck_assert_uint_eq(kinds(LA), 0);
}
END_TEST

START_TEST(a_page_that_stops_being_global_goes_with_the_next_cr3_write)
{
    fix_paging(false);
    map32(LA, PA | P | W | G, P | W);
    rd(LA, 4, false);
    *pte32(LA) &= ~G;
    wr(LA, 4, false, 1); /* walks again, to set D */
    tlb_flush_nonglobal(cpu);
    ck_assert_uint_eq(kinds(LA), 0);
}
END_TEST

struct flush_log {
    unsigned n;
    enum tlb_flush_kind kind;
    laddr la;
};
static struct flush_log flushes;
static void on_flush(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    (void)arg, (void)c;
    flushes = (struct flush_log){ flushes.n + 1, kind, la };
}

START_TEST(invlpg_of_a_large_page_drops_all_of_it)
{
    flushes.n = 0;
    struct coherence_listener l = { .rank = COHERENCE_CODE, .flushed = on_flush };
    coherence_listen(bus_coherence(bus), &l);
    fix_paging(false);
    *pde32(0x80000000) = 0x800000 | P | W | PS | G;
    for (laddr la = 0x80000000; la < 0x80400000; la += 64 * PAGE_SIZE) wr(la, 4, false, la);
    tlb_flush_page(cpu, 0x80123456);
    ck_assert_uint_eq(flushes.n, 1);
    ck_assert_int_eq(flushes.kind, TLB_FLUSH_ALL); /* more than one page has gone */
    for (laddr la = 0x80000000; la < 0x80400000; la += 64 * PAGE_SIZE) ck_assert_uint_eq(kinds(la), 0);
    tlb_flush_page(cpu, 0x80123456);
    ck_assert(flushes.n == 2 && flushes.kind == TLB_FLUSH_PAGE && flushes.la == 0x80123456);
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(flushes.kind, TLB_FLUSH_NONGLOBAL);
    tlb_flush_all(cpu);
    ck_assert(flushes.n == 4 && flushes.kind == TLB_FLUSH_ALL);
}
END_TEST

START_TEST(fetches_follow_the_page_tables_as_reads_do)
{
    fix_paging(false);
    map32(LA, PA | P | U, P | U);
    *ram32(PA) = 0x90;
    *ram32(0x777000) = 0xcc;
    u8 b;
    unsigned got;
    ck_assert_int_eq(mem_fetch(cpu, LA, &b, 1, &got), 0);
    ck_assert_uint_eq(b, 0x90);
    *pte32(LA) = 0x777000 | P | U;
    tlb_flush_page(cpu, LA);
    ck_assert_int_eq(mem_fetch(cpu, LA, &b, 1, &got), 0);
    ck_assert_uint_eq(b, 0xcc);
    *pte32(LA) = PA | P | U;
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(mem_fetch(cpu, LA, &b, 1, &got), 0);
    ck_assert_uint_eq(b, 0x90);
    *pte32(LA) = 0x777000 | P; /* cached for the supervisor only: a user's fetch walks */
    cpu->cpl = 3;
    ck_pf(mem_fetch(cpu, LA, &b, 1, &got), LA, PF_P | PF_U);
}
END_TEST

/* ---- pages that become code ---- */

START_TEST(protecting_a_page_takes_the_write_entries_of_every_alias)
{
    fix_paging(false);
    map32(LA, PA | P | W | U, P | W | U);
    map32(0x80001000, PA | P | W | G, P | W);
    map32(0x80002000, 0x346000 | P | W, P | W);
    wr(0x80002000, 4, false, 1);
    wr(LA, 4, true, 1); /* one writer */
    coherence_protect(bus_coherence(bus), PA);
    ck_assert_uint_eq(kinds(LA), UR);
    wr(LA, 4, true, 1);
    wr(LA, 4, false, 1);
    wr(0x80001000, 4, false, 1); /* three entries, two linear pages */
    coherence_protect(bus_coherence(bus), PA);
    ck_assert_uint_eq(kinds(LA), SR | UR);
    ck_assert_uint_eq(kinds(0x80001000), SR);
    ck_assert_uint_eq(kinds(0x80002000), SR | SW);     /* another page: not touched */
    coherence_protect(bus_coherence(bus), 0xe0000000); /* not RAM: nothing to do */
}
END_TEST

START_TEST(protection_finds_the_writer_that_took_over_from_one_that_was_flushed)
{
    fix_paging(false);
    map32(LA, PA | P | W, P | W);
    map32(0x80001000, PA | P | W, P | W);
    wr(LA, 4, false, 1);
    tlb_flush_all(cpu);
    wr(0x80001000, 4, false, 1);
    wr(LA, 4, false, 1);
    tlb_flush_page(cpu, 0x80001000);
    coherence_protect(bus_coherence(bus), PA);
    ck_assert_uint_eq(kinds(LA), SR);
}
END_TEST

START_TEST(more_fills_than_the_lists_hold_are_still_flushed)
{
    /* 64 MiB of linear space eight times over, all on 8 MiB of RAM. */
    fix_paging(false);
    for (unsigned i = 0; i < 128; i++) pde32(0)[128 + i] = (i & 1 ? 0x400000u : 0x800000u) | P | W | PS | D;
    for (laddr la = 0x20000000; la < 0x40000000; la += PAGE_SIZE) rd(la, 1, false);
    unsigned cached = 0;
    for (laddr la = 0x20000000; la < 0x40000000; la += PAGE_SIZE) cached += kinds(la) != 0;
    ck_assert_uint_gt(cached, 1000);
    tlb_flush_nonglobal(cpu);
    for (laddr la = 0x20000000; la < 0x40000000; la += PAGE_SIZE) ck_assert_uint_eq(kinds(la), 0);
}
END_TEST

/* Random page-table edits and flushes; every access is checked against the walk of a page table that is remembered from
 * the last flush, which is the most that the architecture lets a TLB remember. */
START_TEST(accesses_agree_with_some_page_table_since_the_last_flush)
{
    enum { PAGES = 8 };
    u32 old[PAGES] = { 0 };
    u32 seed = 12345;
    fix_paging(false);
    for (unsigned f = 0; f < PAGES; f++) *ram32(0x400000 + f * PAGE_SIZE) = f;
    for (unsigned i = 0; i < PAGES; i++) map32(LA + i * PAGE_SIZE, 0, P | W | U);
    tlb_flush_all(cpu);
    for (unsigned step = 0; step < 200000; step++) {
        seed = seed * 1664525 + 1013904223;
        u32 r = seed >> 8, i = r % PAGES;
        laddr la = LA + i * PAGE_SIZE;
        if (r >> 4 & 3) { /* access */
            u64 v = 99;
            bool user = r >> 6 & 1;
            int st = mem_read(cpu, la, 4, user, &v);
            u32 now = *pte32(la);
            bool now_ok = now & P && (!user || now & U), old_ok = old[i] & P && (!user || old[i] & U);
            if (st) {
                ck_assert(!now_ok);
                old[i] = 0; /* a fault drops it */
            } else {
                ck_assert((now_ok && v == (now >> 12) - 0x400) || (old_ok && v == (old[i] >> 12) - 0x400));
            }
        } else { /* edit, then flush, so that only one older table is possible */
            old[i] = *pte32(la);
            *pte32(la) = (0x400000 + (r >> 10 & 7) * PAGE_SIZE) | (r >> 16 & (P | W | U));
            if (r >> 20 & 1) {
                tlb_flush_page(cpu, la);
                old[i] = 0;
            } else if (old[i] & P) { /* stale is allowed; let it be seen, then flush */
                u64 v;
                int st = mem_read(cpu, la, 4, false, &v);
                ck_assert(st || v == (old[i] >> 12) - 0x400 || v == (*pte32(la) >> 12) - 0x400);
                tlb_flush_page(cpu, la);
                old[i] = 0;
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tlb");
    TCase *t = tcase_create("tlb");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_fill_gives_its_own_privilege_what_it_may_have);
    tcase_add_test(t, setting_wp_takes_back_what_its_being_clear_allowed_and_flushes_nothing);
    tcase_add_test(t, devices_and_code_are_never_cached_for_writing);
    tcase_add_test(t, a_changed_pte_is_seen_after_invlpg_and_not_before);
    tcase_add_test(t, a_range_that_is_forgotten_is_dropped_whatever_was_flushed_before_and_nothing_else_is);
    tcase_add_test(t, a_fault_drops_what_is_cached_for_its_address);
    tcase_add_test(t, a_cr3_write_keeps_global_pages_and_drops_the_rest);
    tcase_add_test(t, a_page_that_stops_being_global_goes_with_the_next_cr3_write);
    tcase_add_test(t, invlpg_of_a_large_page_drops_all_of_it);
    tcase_add_test(t, fetches_follow_the_page_tables_as_reads_do);
    tcase_add_test(t, protecting_a_page_takes_the_write_entries_of_every_alias);
    tcase_add_test(t, protection_finds_the_writer_that_took_over_from_one_that_was_flushed);
    tcase_add_test(t, more_fills_than_the_lists_hold_are_still_flushed);
    tcase_add_test(t, accesses_agree_with_some_page_table_since_the_last_flush);
    suite_add_tcase(s, t);
    return fix_run(s);
}
