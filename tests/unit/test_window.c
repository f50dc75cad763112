/* The windows: what gets mapped, with which rights, and that nothing outlives the flush that ends it. */
#define _GNU_SOURCE
#include "mem_fixture.h"
#include "runtime/cpu/cpu.h"
#include "runtime/mem/mmu.h"
#include "runtime/mem/tables.h"
#include "runtime/mem/window.h"

#include <sys/uio.h>
#include <unistd.h>

#define LA 0x80000000u
#define PA 0x800000u

static struct windows *ws;
static struct window *sup, *usr;

/* The user window of the address space at cr3, as after a CR3 write; or, if make, one for it. */
static struct window *window_at(u32 cr3, bool make)
{
    cpu->cr3 = cr3;
    tlb_flush_nonglobal(cpu);
    return make && !windows_here(ws) ? windows_make(ws) : windows_here(ws);
}

static void setup(void)
{
    fix_setup();
    ck_assert_int_eq(windows_new(&ws, cpu), 0);
    sup = windows_supervisor(ws);
    usr = NULL;
}
static void teardown(void)
{
    windows_free(ws);
    fix_teardown();
}

/* What translated code would meet at la. */
enum { NONE, READ, WRITE };
static int state(const struct window *w, laddr la)
{
    u32 v = 0;
    struct iovec here = { &v, 4 }, there = { (void *)(window_base(w) + la), 4 };
    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 4) return NONE;
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 4 ? WRITE : READ;
}
static u32 seen(const struct window *w, laddr la) { return *(volatile u32 *)(window_base(w) + la); }

/* n pages from LA on, to consecutive frames from PA on. */
static void map_linear(unsigned n, u32 flags, u32 upper)
{
    fix_paging(false);
    for (unsigned i = 0; i < n; i++) map32(LA + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | flags, upper);
    tlb_flush_all(cpu);
}

#define CHUNK 64 /* pages of a linear run that are mapped at once */

START_TEST(a_linear_run_is_mapped_in_aligned_pieces_from_wherever_it_is_touched)
{
    map_linear(2048, P | W | A | D, P | W | A);
    *ram32(PA + 5 * PAGE_SIZE) = 0xabcd;
    ck_assert_int_eq(state(sup, LA), NONE);
    ck_assert(window_map(sup, LA + 1500 * PAGE_SIZE + 12, true));
    ck_assert_uint_eq(cpu->ctr.window_maps, 1);
    const u32 piece = 1500 / CHUNK * CHUNK;
    ck_assert_int_eq(state(sup, LA + (piece - 1) * PAGE_SIZE), NONE);
    ck_assert_int_eq(state(sup, LA + piece * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + (piece + CHUNK - 1) * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + (piece + CHUNK) * PAGE_SIZE), NONE);
    ck_assert(window_map(sup, LA + 5 * PAGE_SIZE, true));
    ck_assert(window_map(sup, LA + 2047 * PAGE_SIZE, true));
    ck_assert_int_eq(state(sup, LA + 2047 * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + 2048 * PAGE_SIZE), NONE);
    ck_assert_int_eq(state(sup, LA - PAGE_SIZE), NONE);
    ck_assert_uint_eq(seen(sup, LA + 5 * PAGE_SIZE), 0xabcd);
    *(volatile u32 *)(window_base(sup) + LA) = 0x77;
    ck_assert_uint_eq(*ram32(PA), 0x77);
}
END_TEST

/* Where page tables are watched: the page is memory, a table, and memory again. */
START_TEST(what_was_a_page_table_lately_is_left_read_only_and_its_neighbours_are_not)
{
    const laddr region = 0xc0000000, la = LA + 3 * PAGE_SIZE;
    const paddr table = PA + 3 * PAGE_SIZE;
    u64 v;
    map_linear(CHUNK, P | W | A | D, P | W | A);
    ck_assert_int_eq(tables_new(cpu), 0);
    ck_assert(window_map(sup, la, true));
    ck_assert_int_eq(state(sup, la), WRITE);
    *ram32(table) = 0x400000 | P | W;
    *pde32(region) = (u32)table | P | W;
    ck_assert_int_eq(mem_read(cpu, region, 4, false, &v), 0);
    ck_assert_int_eq(state(sup, la), READ);
    bus_phys_write(bus, FIX_PD32 + (region >> 22) * 4, 4, 0);
    ck_assert(!window_map(sup, la, true));
    ck_assert_uint_eq(*bus_page_flags(bus, table) & PG_TABLE, 0); /* the soft TLB has it from now on */
    ck_assert_int_eq(mem_write(cpu, la, 4, false, 1), 0);
    ck_assert_ptr_eq((u8 *)(cpu_tlb(cpu, TLB_SUP_W)[la >> PAGE_SHIFT] + la), bus_ram_ptr(bus, table));
    ck_assert(!window_map(sup, la, true));
    ck_assert_int_eq(state(sup, la), READ);
    ck_assert_int_eq(state(sup, la + PAGE_SIZE), WRITE);
    coherence_aged(bus_coherence(bus), 20000);
    ck_assert(window_map(sup, la, true));
    ck_assert_int_eq(state(sup, la), WRITE);
    tables_free(cpu);
}
END_TEST

START_TEST(large_pages_of_both_kinds_are_mapped_and_stay_read_only_until_dirty)
{
    for (unsigned pae = 0; pae < 2; pae++) {
        fix_paging(pae);
        tlb_flush_all(cpu);
        unsigned pages = pae ? 512 : 1024;
        if (pae) *pde_pae(LA) = PA | P | W | PS;
        else *pde32(LA) = PA | P | W | PS;
        ck_assert(window_map(sup, LA + 0x3000, false));
        ck_assert_int_eq(state(sup, LA), READ);
        ck_assert_int_eq(state(sup, LA + (CHUNK - 1) * PAGE_SIZE), READ);
        ck_assert(window_map(sup, LA + (pages - 1) * PAGE_SIZE, false));
        ck_assert_int_eq(state(sup, LA + pages * PAGE_SIZE), NONE);
        ck_assert_uint_eq((pae ? *pde_pae(LA) : *pde32(LA)) & (A | D), A);
        ck_assert(window_map(sup, LA + 0x3000, true));
        ck_assert_uint_eq((pae ? *pde_pae(LA) : *pde32(LA)) & (A | D), A | D);
        ck_assert_int_eq(state(sup, LA), WRITE);
        ck_assert_int_eq(state(sup, LA + (pages - 1) * PAGE_SIZE), READ);
        ck_assert(window_map(sup, LA + (pages - 1) * PAGE_SIZE, true));
        ck_assert_int_eq(state(sup, LA + (pages - 1) * PAGE_SIZE), WRITE);
        cpu->pdpte[2] = 0;
        *pde32(LA) = 0;
        tlb_flush_all(cpu);
        ck_assert_int_eq(state(sup, LA), NONE);
    }
}
END_TEST

START_TEST(a_page_is_writable_only_when_its_own_entry_is_dirty)
{
    map_linear(64, P | W | A, P | W | A);
    ck_assert(window_map(sup, LA + 7 * PAGE_SIZE, false));
    ck_assert_int_eq(state(sup, LA + 7 * PAGE_SIZE), READ);
    ck_assert(window_map(sup, LA + 9 * PAGE_SIZE, true));
    ck_assert_int_eq(state(sup, LA + 8 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, LA + 9 * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + 10 * PAGE_SIZE), READ);
    for (unsigned i = 0; i < 64; i++) ck_assert_uint_eq(*pte32(LA + i * PAGE_SIZE) & D, i == 9 ? D : 0);
}
END_TEST

START_TEST(pages_not_accessed_yet_are_left_out_so_that_their_a_bit_gets_set)
{
    map_linear(64, P | W | A, P | W | A);
    *pte32(LA + 40 * PAGE_SIZE) &= ~A;
    ck_assert(window_map(sup, LA, false));
    ck_assert_int_eq(state(sup, LA + 39 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, LA + 40 * PAGE_SIZE), NONE);
    ck_assert(window_map(sup, LA + 40 * PAGE_SIZE, false));
    ck_assert_uint_eq(*pte32(LA + 40 * PAGE_SIZE) & A, A);
    /* A of the directory entry counts as well */
    map_linear(2048, P | W | A, P | W | A);
    *pde32(LA + 1024 * PAGE_SIZE) &= ~A;
    tlb_flush_all(cpu);
    ck_assert(window_map(sup, LA + 1022 * PAGE_SIZE, false));
    ck_assert_int_eq(state(sup, LA + 1023 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, LA + 1024 * PAGE_SIZE), NONE);
}
END_TEST

START_TEST(a_short_run_that_keeps_changing_is_refused_every_other_time)
{
    map_linear(15, P | W | A | D, P | W | A);
    unsigned mapped = 0;
    for (unsigned i = 0; i < 100; i++) {
        *pte32(LA) = (PA + (i & 1) * 0x100000) | P | W | A | D;
        tlb_flush_page(cpu, LA);
        bool done = window_map(sup, LA, true);
        ck_assert_int_eq(state(sup, LA), done ? WRITE : NONE);
        ck_assert(done || i >= 4);
        mapped += done;
    }
    ck_assert_uint_ge(mapped, 40);
    ck_assert_uint_le(mapped, 60);
    ck_assert(window_map(sup, LA + 5 * PAGE_SIZE, true)); /* another page is none the worse for it */
    map_linear(64, P | W | A | D, P | W | A);             /* nor is a long run */
    ck_assert(window_map(sup, LA, true));
}
END_TEST

/* A kernel with some pages of its own for each process must not lose all that lies near them at each switch. */
START_TEST(pages_that_change_with_cr3_leave_their_neighbours_mapped)
{
    enum { N = 128, FIRST = 64, OTHERS = 16 };
    map_linear(N, P | W | A | D, P | W | A);
    for (unsigned i = 0; i < N; i++)
        if (state(sup, LA + i * PAGE_SIZE) == NONE) ck_assert(window_map(sup, LA + i * PAGE_SIZE, true));
    u64 unmaps = cpu->ctr.window_unmaps;
    for (unsigned i = FIRST; i < FIRST + OTHERS; i++) *pte32(LA + i * PAGE_SIZE) += 0x200000;
    tlb_flush_nonglobal(cpu);
    for (unsigned i = 0; i < N; i++)
        ck_assert_int_eq(state(sup, LA + i * PAGE_SIZE), i - FIRST < OTHERS ? NONE : WRITE);
    ck_assert_uint_eq(cpu->ctr.window_unmaps, unmaps + 1);
    for (unsigned i = 0; i < FIRST; i += 4) *pte32(LA + i * PAGE_SIZE) += 0x200000; /* all of it by one call, too */
    tlb_flush_nonglobal(cpu);
    for (unsigned i = 0; i < N; i++) ck_assert_int_eq(state(sup, LA + i * PAGE_SIZE), NONE);
    ck_assert_uint_eq(cpu->ctr.window_unmaps, unmaps + 2);
}
END_TEST

/* Nothing that protection relies on to find a mapping may run out. */
START_TEST(short_runs_are_protected_wherever_they_are)
{
    fix_paging(false);
    for (unsigned i = 0; i < 200; i++) {
        map32(LA + i * PAGE_SIZE, (PA + i * 2 * PAGE_SIZE) | P | W | A | D, P | W | A);
        map32(0x90000000 + i * PAGE_SIZE, (PA + (199 - i) * 2 * PAGE_SIZE) | P | W | A | D, P | W | A);
    }
    tlb_flush_all(cpu);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert(window_map(sup, LA + i * PAGE_SIZE, true));
        if (i & 1) ck_assert(window_map(sup, 0x90000000 + i * PAGE_SIZE, true));
    }
    for (unsigned i = 0; i < 200; i++) {
        bus_mark_code(bus, PA + i * 2 * PAGE_SIZE);
        ck_assert_int_eq(state(sup, LA + i * PAGE_SIZE), READ);
        ck_assert_int_eq(state(sup, 0x90000000 + (199 - i) * PAGE_SIZE), (199 - i) & 1 ? READ : NONE);
        if (i < 199) ck_assert_int_eq(state(sup, LA + (i + 1) * PAGE_SIZE), WRITE);
    }
}
END_TEST

START_TEST(what_is_not_supervisor_ram_is_refused)
{
    map_linear(64, P | W | U | A | D, P | W | U | A); /* user pages */
    ck_assert(!window_map(sup, LA, false));
    ck_assert(!window_map(sup, LA + 64 * PAGE_SIZE, false)); /* not present */
    ck_assert(!cpu->exc.valid);
    ck_assert_uint_eq(cpu->cr2, 0);
    map_linear(64, P | A, P | W | A); /* read-only, WP */
    ck_assert(!window_map(sup, LA, true));
    ck_assert_uint_eq(*pte32(LA) & D, 0);
    ck_assert(window_map(sup, LA, false));
    fix_paging(false);
    for (unsigned i = 0; i < 64; i++)
        map32(0x90000000 + i * PAGE_SIZE, (0xe0000000 + i * PAGE_SIZE) | P | W | A | D, P | W | A);
    ck_assert(!window_map(sup, 0x90000000, true)); /* no RAM */
}
END_TEST

START_TEST(reserved_bits_end_a_run)
{
    fix_paging(true);
    for (unsigned i = 0; i < 64; i++)
        map_pae(LA + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | P | W | A | D | (i == 33 ? 1ull << 40 : 0), P | W | A);
    ck_assert(window_map(sup, LA, true));
    ck_assert_int_eq(state(sup, LA + 32 * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + 33 * PAGE_SIZE), NONE);
}
END_TEST

/* ---- code ---- */

START_TEST(code_pages_are_read_only_from_the_moment_they_are_code)
{
    map_linear(64, P | W | A | D, P | W | A);
    *bus_page_flags(bus, PA + 3 * PAGE_SIZE) |= PG_CODE;
    ck_assert(window_map(sup, LA, true));
    ck_assert_int_eq(state(sup, LA + 2 * PAGE_SIZE), WRITE);
    ck_assert(window_map(sup, LA + 3 * PAGE_SIZE, false));
    ck_assert_int_eq(state(sup, LA + 3 * PAGE_SIZE), READ);
    ck_assert(!window_map(sup, LA + 3 * PAGE_SIZE, true));
    ck_assert(window_map(sup, LA + 5 * PAGE_SIZE, true));
    bus_mark_code(bus, PA + 5 * PAGE_SIZE);
    ck_assert_int_eq(state(sup, LA + 5 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, LA + 6 * PAGE_SIZE), WRITE);
    *bus_page_flags(bus, PA + 5 * PAGE_SIZE) &= (u8)~PG_CODE;
    u64 maps = cpu->ctr.window_maps;
    ck_assert(window_map(sup, LA + 5 * PAGE_SIZE, true));
    ck_assert_int_eq(state(sup, LA + 5 * PAGE_SIZE), WRITE);
    ck_assert_uint_eq(cpu->ctr.window_maps, maps + 1);
}
END_TEST

START_TEST(protection_reaches_every_alias_in_every_window)
{
    map_linear(64, P | W | A | D, P | W | U | A);
    for (unsigned i = 0; i < 64; i++) {
        map32(0x90000000 + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | P | W | A | D, P | W | U | A);
        map32(0x10000000 + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | P | W | U | A | D, P | W | U | A);
    }
    usr = window_at(cpu->cr3, true);
    ck_assert_ptr_nonnull(usr);
    ck_assert(window_map(sup, LA, true));
    ck_assert(window_map(sup, 0x90000000, true));
    ck_assert(window_map(usr, 0x10000000, true));
    bus_mark_code(bus, PA + 4 * PAGE_SIZE);
    ck_assert_int_eq(state(sup, LA + 4 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, 0x90004000), READ);
    ck_assert_int_eq(state(usr, 0x10004000), READ);
    ck_assert_int_eq(state(usr, 0x10005000), WRITE);
}
END_TEST

/* ---- until when ---- */

START_TEST(a_changed_entry_is_gone_after_its_invlpg)
{
    map_linear(64, P | W | A | D | G, P | W | A);
    ck_assert(window_map(sup, LA, true));
    *pte32(LA + 8 * PAGE_SIZE) = 0x345000 | P | W | A | D | G;
    *pte32(LA + 9 * PAGE_SIZE) &= ~W;
    tlb_flush_page(cpu, LA + 8 * PAGE_SIZE);
    ck_assert_int_eq(state(sup, LA + 8 * PAGE_SIZE), NONE);
    tlb_flush_page(cpu, LA + 9 * PAGE_SIZE);
    ck_assert_int_ne(state(sup, LA + 9 * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, LA + 10 * PAGE_SIZE), WRITE);
}
END_TEST

START_TEST(a_cr3_write_ends_what_is_not_global)
{
    map_linear(64, P | W | A | D, P | W | A);
    for (unsigned i = 0; i < 64; i++)
        map32(0x90000000 + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | P | W | A | D | G, P | W | A);
    ck_assert(window_map(sup, LA, true));
    ck_assert(window_map(sup, 0x90000000, true));
    *pte32(LA + PAGE_SIZE) = 0;
    *pte32(0x90001000) = 0;
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(sup, LA + PAGE_SIZE), NONE);
    ck_assert_int_eq(state(sup, LA + 2 * PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, 0x90001000), WRITE); /* the architecture lets a global page live on */
    tlb_flush_all(cpu);
    ck_assert_int_eq(state(sup, 0x90001000), NONE);
}
END_TEST

START_TEST(a_run_does_not_lend_its_g_to_pages_without)
{
    map_linear(64, P | W | A | D | G, P | W | A);
    for (unsigned i = 32; i < 64; i++) *pte32(LA + i * PAGE_SIZE) &= ~G;
    ck_assert(window_map(sup, LA, true));
    ck_assert(window_map(sup, LA + 40 * PAGE_SIZE, true));
    *pte32(LA + 41 * PAGE_SIZE) = 0;
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(sup, LA + 41 * PAGE_SIZE), NONE);
}
END_TEST

START_TEST(without_pge_a_cr3_write_ends_global_pages_too)
{
    map_linear(64, P | W | A | D | G, P | W | A);
    ck_assert(window_map(sup, LA, true));
    cpu->cr4 &= ~CR4_PGE;
    tlb_flush_all(cpu);
    *pte32(LA + PAGE_SIZE) = 0;
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(sup, LA + PAGE_SIZE), NONE);
}
END_TEST

START_TEST(a_change_is_not_forgotten_when_a_neighbour_is_mapped_before_the_flush)
{
    map_linear(64, P | W | A | D, P | W | A);
    *pte32(LA + 40 * PAGE_SIZE) &= ~A;
    ck_assert(window_map(sup, LA, true));
    *pte32(LA + 3 * PAGE_SIZE) = 0x345000 | P | W | A | D;
    ck_assert(window_map(sup, LA + 40 * PAGE_SIZE, true)); /* takes a new snapshot of the same page table */
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(sup, LA + 3 * PAGE_SIZE), NONE);
}
END_TEST

START_TEST(another_directory_means_other_pages)
{
    map_linear(64, P | W | A | D, P | W | A);
    ck_assert(window_map(sup, LA, true));
    cpu->cr3 = 0x5000; /* empty */
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(sup, LA), NONE);
    ck_assert_int_eq(state(sup, LA + 63 * PAGE_SIZE), NONE);
}
END_TEST

START_TEST(what_is_writable_because_wp_is_clear_is_left_to_the_soft_tlb)
{
    map_linear(64, P | A | D, P | A);
    ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 & ~CR0_WP), 0);
    ck_assert(!window_map(sup, LA, true));
    ck_assert(window_map(sup, LA, false));
    ck_assert_int_eq(state(sup, LA), READ);
    u64 unmapped = cpu->ctr.window_unmaps;
    for (unsigned i = 0; i < 10; i++) ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 ^ CR0_WP), 0);
    ck_assert_int_eq(state(sup, LA), READ);
    ck_assert_uint_eq(cpu->ctr.window_unmaps, unmapped);
}
END_TEST

START_TEST(devices_over_ram_end_mappings_that_the_page_tables_still_allow)
{
    struct probe_dev d = { 0 };
    map_linear(64, P | A | D, P | A);
    ck_assert(window_map(sup, LA, false));
    ck_assert_int_eq(state(sup, LA + 20 * PAGE_SIZE), READ);
    ck_assert_int_eq(bus_map_mmio(bus, PA + 20 * PAGE_SIZE, PAGE_SIZE, &probe_ops, &d, "dev"), 0);
    ck_assert_int_eq(state(sup, LA + 20 * PAGE_SIZE), NONE);
    ck_assert(!window_map(sup, LA + 20 * PAGE_SIZE, false));
    ck_assert(window_map(sup, LA, false));
    ck_assert_int_eq(state(sup, LA + 19 * PAGE_SIZE), READ);
    ck_assert_int_eq(state(sup, LA + 20 * PAGE_SIZE), NONE);
}
END_TEST

START_TEST(without_paging_the_window_is_ram)
{
    *ram32(0x123000) = 0x55aa;
    ck_assert(window_map(sup, 0x123000, true));
    ck_assert_uint_eq(seen(sup, 0x123000), 0x55aa);
    ck_assert(window_map(sup, FIX_RAM - PAGE_SIZE, true));
    ck_assert_int_eq(state(sup, FIX_RAM - PAGE_SIZE), WRITE);
    ck_assert_int_eq(state(sup, FIX_RAM), NONE);
    fix_paging(false);
    tlb_flush_all(cpu);
    ck_assert_int_eq(state(sup, 0x123000), NONE);
}
END_TEST

/* ---- address spaces ---- */

START_TEST(user_windows_hold_user_pages_of_their_own_address_space)
{
    map_linear(64, P | W | A | D, P | W | U | A);
    map32(0x10000000, 0x345000 | P | W | U | A | D, P | W | U | A);
    *ram32(0x345000) = 0x1111;
    usr = window_at(cpu->cr3, true);
    ck_assert(!window_map(usr, LA, false));       /* a supervisor page */
    ck_assert(window_map(usr, 0x10000000, true)); /* one page is enough here */
    ck_assert_uint_eq(seen(usr, 0x10000000), 0x1111);
    ck_assert_int_eq(state(sup, 0x10000000), NONE);
    ck_assert_ptr_null(window_at(0x5000, false));
    struct window *other = window_at(0x5000, true);
    ck_assert_ptr_ne(other, usr);
    ck_assert_int_eq(state(other, 0x10000000), NONE);
    ck_assert_ptr_eq(window_at(FIX_PD32, false), usr);
    *pte32(0x10000000) = 0x346000 | P | W | U | A | D; /* while another is current, then back: as after a CR3 write */
    ck_assert_ptr_null(window_at(cpu->cr3, false));    /* nothing of it was left */
    ck_assert_int_eq(state(usr, 0x10000000), NONE);
}
END_TEST

START_TEST(what_is_mapped_ahead_is_what_an_access_would_not_change)
{
    const u32 f[4] = { P | W | U | A | D, P | W | U | A, P | W | U, 0 };
    map_linear(64, P | W | A | D, P | W | U | A);
    for (unsigned i = 0; i < 4; i++)
        map32(0x10000000 + i * PAGE_SIZE, (0x345000 + i * 2 * PAGE_SIZE) | f[i], P | W | U | A);
    usr = window_at(cpu->cr3, true);
    for (unsigned write = 0; write < 2; write++)
        for (unsigned i = 0; i < 4; i++) {
            ck_assert_int_eq(window_map_ahead(usr, 0x10000000 + i * PAGE_SIZE, write), i + write < 2);
            ck_assert_uint_eq(*pte32(0x10000000 + i * PAGE_SIZE), (0x345000 + i * 2 * PAGE_SIZE) | f[i]);
        }
    ck_assert(!window_map_ahead(usr, LA, false)); /* a supervisor page */
    ck_assert_int_eq(state(usr, 0x10000000), WRITE);
    ck_assert_int_eq(state(usr, 0x10001000), READ);
    ck_assert_int_eq(state(usr, 0x10002000), NONE);
}
END_TEST

START_TEST(a_group_maps_what_has_been_used_with_all_rights_it_has_by_now_and_nothing_twice)
{
    const u32 f[3] = { P | W | U | A | D, P | W | U | A, P | W | U }, at = 0x10010000;
    const int expect[3] = { WRITE, READ, NONE };
    map_linear(64, P | W | A | D, P | W | U | A);
    for (unsigned i = 0; i < 18; i++) /* to frames that do not follow each other, and a page on either side */
        map32(at + (i - 1) * PAGE_SIZE, (0x345000 + i * 2 * PAGE_SIZE) | f[(i + 2) % 3], P | W | U | A);
    usr = window_at(cpu->cr3, true);
    u64 before = cpu->ctr.window_maps;
    window_map_group(usr, at + 0x5123, 16);
    for (unsigned i = 0; i < 16; i++) ck_assert_int_eq(state(usr, at + i * PAGE_SIZE), expect[i % 3]);
    ck_assert_int_eq(state(usr, at - PAGE_SIZE), NONE);
    ck_assert_int_eq(state(usr, at + 16 * PAGE_SIZE), NONE);
    ck_assert_uint_eq(cpu->ctr.window_maps, before + 11);
    window_map_group(usr, at, 16);
    ck_assert_uint_eq(cpu->ctr.window_maps, before + 11);
    *pte32(at + PAGE_SIZE) |= D; /* it may be written to by now */
    window_map_group(usr, at, 16);
    ck_assert_uint_eq(cpu->ctr.window_maps, before + 12);
    ck_assert_int_eq(state(usr, at + PAGE_SIZE), WRITE);
    *pte32(at + 3 * PAGE_SIZE) = 0; /* and what the guest takes away goes, with the flush */
    tlb_flush_nonglobal(cpu);
    ck_assert_int_eq(state(usr, at + 3 * PAGE_SIZE), NONE);
    ck_assert_int_eq(state(usr, at + PAGE_SIZE), WRITE);
}
END_TEST

START_TEST(a_page_that_is_not_global_goes_with_a_flush_whatever_is_mapped_before_it)
{
    for (unsigned filled = 0; filled < 2; filled++) {
        fix_paging(false);
        map32(0x10000000, 0x345000 | P | W | U | A | D | G, P | W | U | A);
        map32(0x10001000, 0x346000 | P | W | U | A | D, P | W | U | A);
        tlb_flush_all(cpu);
        usr = window_at(cpu->cr3, true);
        if (filled) window_fill(usr, false);
        else window_map_group(usr, 0x10000000, 2);
        ck_assert_int_eq(state(usr, 0x10001000), WRITE);
        *pte32(0x10001000) = 0;
        tlb_flush_nonglobal(cpu);
        ck_assert_msg(state(usr, 0x10001000) == NONE, "%s", filled ? "filled" : "in a group");
        window_drop(usr);
    }
}
END_TEST

START_TEST(filling_maps_accessed_user_pages_of_all_kinds_with_the_rights_they_have)
{
    for (unsigned pae = 0; pae < 2; pae++) {
        fix_paging(pae);
        tlb_flush_all(cpu);
        const unsigned large = pae ? 512 : 1024;
        for (unsigned i = 0; i < 8; i++) {
            const u32 f[8] = { P | W | U | A | D, P | W | U | A | D, P | W | U | A, P | U | A | D,
                               P | W | U,         P | W | A | D,     U | A | D,     P | W | U | A | D };
            if (pae) map_pae(0x10000000 + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | f[i], P | W | U | A);
            else map32(0x10000000 + i * PAGE_SIZE, (PA + i * PAGE_SIZE) | f[i], P | W | U | A);
        }
        if (pae) *pde_pae(0x20000000) = 0xc00000 | P | W | U | A | D | PS;
        else *pde32(0x20000000) = 0xc00000 | P | W | U | A | D | PS;
        usr = window_at(cpu->cr3, true);
        ck_assert_uint_eq(windows_runs(ws, false), 4);
        window_fill(usr, false);
        const int expect[8] = { WRITE, WRITE, READ, READ, NONE, NONE, NONE, WRITE };
        for (unsigned i = 0; i < 8; i++)
            ck_assert_msg(state(usr, 0x10000000 + i * PAGE_SIZE) == expect[i], "page %u, pae %u", i, pae);
        ck_assert_int_eq(state(usr, 0x20000000), WRITE);
        ck_assert_int_eq(state(usr, 0x20000000 + (large - 1) * PAGE_SIZE), WRITE);
        ck_assert_int_eq(state(usr, 0x20000000 + large * PAGE_SIZE), NONE);
        if (pae) *pte_pae(0x10001000) = 0;
        else *pte32(0x10001000) = 0;
        tlb_flush_nonglobal(cpu);
        ck_assert_int_eq(state(usr, 0x10001000), NONE);
        ck_assert_int_eq(state(usr, 0x10000000), WRITE);
        window_drop(usr);
        usr = NULL;
        memset(ram32(FIX_PD32), 0, PAGE_SIZE);
    }
}
END_TEST

START_TEST(filling_what_was_used_lately_takes_what_the_soft_TLB_has)
{
    map_linear(1, P | W | A | D, P | W | A);
    for (unsigned i = 0; i < 8; i++)
        map32(0x10000000 + i * PAGE_SIZE, (PA + i * 2 * PAGE_SIZE) | P | W | U | A | D, P | W | U | A);
    rd(0x10002000, 4, true);
    rd(0x10005000, 4, true);
    ck_assert_uint_eq(windows_runs(ws, false), 8);
    ck_assert_uint_eq(windows_runs(ws, true), 2);
    usr = windows_make(ws);
    window_fill(usr, true);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(state(usr, 0x10000000 + i * PAGE_SIZE), i == 2 || i == 5 ? WRITE : NONE);
}
END_TEST

START_TEST(the_least_recently_used_address_space_makes_room)
{
    fix_paging(false);
    struct window *first = window_at(0x5000, true);
    for (u32 i = 1; i < 40; i++) ck_assert_ptr_nonnull(window_at(0x5000 + i * PAGE_SIZE, true));
    struct window *again = window_at(0x5000, true);
    ck_assert_ptr_nonnull(again);
    ck_assert(window_base(first) >= windows_base(ws)
              && window_base(first) + (1ull << 32) <= windows_base(ws) + windows_span(ws));
}
END_TEST

/* The largest and smallest sum that [r12+reg+disp] can be, with the largest operand there is, and what lies between
 * them. */
START_TEST(nothing_is_mapped_in_the_guards_of_any_window)
{
    const s64 least = INT32_MIN, most = (s64)UINT32_MAX + INT32_MAX + 511;
    map_linear(64, P | W | A | D, P | W | A);
    for (u32 la = 0; la < 4 * PAGE_SIZE; la += PAGE_SIZE) { /* both ends of the window are in use */
        map32(la, (PA + la) | P | W | U | A | D, P | W | U | A);
        map32((u32)-PAGE_SIZE - la, (PA + la) | P | W | U | A | D, P | W | U | A);
    }
    tlb_flush_all(cpu);
    for (unsigned i = 0; i < 15; i++) {
        struct window *w = window_at(FIX_PD32 + (i ? 1u << 31 | i << PAGE_SHIFT : 0), true);
        const u64 base = window_base(w);
        ck_assert(base + (u64)least >= windows_base(ws) && base + (u64)most < windows_base(ws) + windows_span(ws));
        ck_assert(i || (window_map(w, 0, true) && window_map(w, (u32)-PAGE_SIZE, true)));
        ck_assert_int_eq(state(w, 0), i ? NONE : WRITE);
        for (s64 off = least; off <= most; off += 64 << 20) {
            u8 byte;
            if (off >= 0 && off < 1ll << 32) continue;
            struct iovec here = { &byte, 1 }, there = { (void *)(base + (u64)off), 1 };
            ck_assert_int_lt(process_vm_readv(getpid(), &here, 1, &there, 1, 0), 0);
        }
        for (unsigned k = 0; k < 4; k++) {
            const s64 edge[] = { least, -1, 1ll << 32, most };
            u8 byte;
            struct iovec here = { &byte, 1 }, there = { (void *)(base + (u64)edge[k]), 1 };
            ck_assert_int_lt(process_vm_readv(getpid(), &here, 1, &there, 1, 0), 0);
        }
    }
}
END_TEST

START_TEST(endless_remapping_neither_fails_nor_runs_out_of_host_mappings)
{
    map_linear(1024, P | W | A | D, P | W | A);
    for (unsigned i = 0; i < 30000; i++) {
        laddr la = LA + (i * 37 % 1024) * PAGE_SIZE;
        ck_assert(window_map(sup, la, true));
        u32 pte = *pte32(la);
        *pte32(la) = 0;
        tlb_flush_page(cpu, la);
        ck_assert_int_eq(state(sup, la), NONE);
        *pte32(la) = pte;
    }
    ck_assert(window_map(sup, LA, true));
    ck_assert_int_eq(state(sup, LA), WRITE);
}
END_TEST

/* The host's limit on mappings is the whole process's. Whoever has used it up, what must not stay mapped goes. */
START_TEST(a_window_lets_go_of_everything_when_the_host_has_no_mapping_to_spare)
{
    map_linear(512, P | W | A | D, P | W | A);
    for (unsigned i = 0; i < 512; i += CHUNK) ck_assert(window_map(sup, LA + i * PAGE_SIZE, true));
    const u64 most = 1u << 17;
    u8 *p = mmap(NULL, most * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    u64 n = 1;
    while (n < most && !mprotect(p + n * PAGE_SIZE, PAGE_SIZE, PROT_READ)) n += 2;
    if (n >= most) return; /* this host has no such limit */
    *pte32(LA + 5 * PAGE_SIZE) = 0;
    tlb_flush_all(cpu); /* one page of a run: a mapping is to be cut */
    ck_assert_int_eq(state(sup, LA + 5 * PAGE_SIZE), NONE);
    cpu->cr4 ^= CR4_PSE; /* everything */
    tlb_flush_all(cpu);
    for (unsigned i = 0; i < 512; i++) ck_assert_int_eq(state(sup, LA + i * PAGE_SIZE), NONE);
    ck_assert(!windows_failed(ws));
    munmap(p, most * PAGE_SIZE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("window");
    TCase *t = tcase_create("window");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_linear_run_is_mapped_in_aligned_pieces_from_wherever_it_is_touched);
    tcase_add_test(t, what_was_a_page_table_lately_is_left_read_only_and_its_neighbours_are_not);
    tcase_add_test(t, large_pages_of_both_kinds_are_mapped_and_stay_read_only_until_dirty);
    tcase_add_test(t, a_page_is_writable_only_when_its_own_entry_is_dirty);
    tcase_add_test(t, pages_not_accessed_yet_are_left_out_so_that_their_a_bit_gets_set);
    tcase_add_test(t, a_short_run_that_keeps_changing_is_refused_every_other_time);
    tcase_add_test(t, pages_that_change_with_cr3_leave_their_neighbours_mapped);
    tcase_add_test(t, short_runs_are_protected_wherever_they_are);
    tcase_add_test(t, what_is_not_supervisor_ram_is_refused);
    tcase_add_test(t, nothing_is_mapped_in_the_guards_of_any_window);
    tcase_add_test(t, reserved_bits_end_a_run);
    tcase_add_test(t, code_pages_are_read_only_from_the_moment_they_are_code);
    tcase_add_test(t, protection_reaches_every_alias_in_every_window);
    tcase_add_test(t, a_changed_entry_is_gone_after_its_invlpg);
    tcase_add_test(t, a_cr3_write_ends_what_is_not_global);
    tcase_add_test(t, a_run_does_not_lend_its_g_to_pages_without);
    tcase_add_test(t, without_pge_a_cr3_write_ends_global_pages_too);
    tcase_add_test(t, a_change_is_not_forgotten_when_a_neighbour_is_mapped_before_the_flush);
    tcase_add_test(t, another_directory_means_other_pages);
    tcase_add_test(t, what_is_writable_because_wp_is_clear_is_left_to_the_soft_tlb);
    tcase_add_test(t, devices_over_ram_end_mappings_that_the_page_tables_still_allow);
    tcase_add_test(t, without_paging_the_window_is_ram);
    tcase_add_test(t, user_windows_hold_user_pages_of_their_own_address_space);
    tcase_add_test(t, what_is_mapped_ahead_is_what_an_access_would_not_change);
    tcase_add_test(t, a_group_maps_what_has_been_used_with_all_rights_it_has_by_now_and_nothing_twice);
    tcase_add_test(t, a_page_that_is_not_global_goes_with_a_flush_whatever_is_mapped_before_it);
    tcase_add_test(t, filling_maps_accessed_user_pages_of_all_kinds_with_the_rights_they_have);
    tcase_add_test(t, filling_what_was_used_lately_takes_what_the_soft_TLB_has);
    tcase_add_test(t, the_least_recently_used_address_space_makes_room);
    tcase_add_test(t, endless_remapping_neither_fails_nor_runs_out_of_host_mappings);
    tcase_add_test(t, a_window_lets_go_of_everything_when_the_host_has_no_mapping_to_spare);
    suite_add_tcase(s, t);
    return fix_run(s);
}
