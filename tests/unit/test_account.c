/* account.c, window.c and aspace.c together: who gets a window, when, and who loses it. Times are real CPU time, so
 * only orders of magnitude are checked; the rule itself is test_aspace.c's. */
#define _GNU_SOURCE
#include "mem_fixture.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/rt.h"
#include "runtime/mem/window.h"

#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LA 0x08000000u
#define PA 0x800000u

static struct rt *rt;

static u64 cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}
static void burn(u64 ns)
{
    for (u64 end = cpu_ns() + ns; cpu_ns() < end;)
        ;
}

/* n user pages from LA on, none beside its neighbour in physical memory. */
static void map_scattered(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        map32(LA + i * PAGE_SIZE, (PA + (i * 7 + i % 2) % 0x1000 * PAGE_SIZE) | P | W | U | A | D, P | W | U | A);
}

static void setup(void)
{
    const struct rt_config cfg = { .ram_size = FIX_RAM, .engine = RT_BT };
    const char *what;
    ck_assert_int_eq(rt_new(&rt, &cfg, &what), 0);
    cpu = rt->cpu;
    bus = rt->bus;
    ck_assert_int_eq(hostsig_install(), 0); /* measures what a fault costs */
    fix_paging(false);
    cpu->cpl = 3;
    cpu->mode = MK_PE | MK_PG | MK_CS32 | MK_SS32 | MK_CPL;
    tlb_flush_all(cpu);
    account_kick(rt); /* time begins */
}
static void teardown(void) { rt_free(rt); }

static bool is_mapped(laddr la)
{
    u8 byte;
    struct iovec here = { &byte, 1 }, there = { (void *)(window_base(windows_here(rt->windows)) + la), 1 };
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

/* CPU time until it has a window, in kicks' steps. */
static u64 time_to_window(u64 step)
{
    u64 begin = cpu_ns();
    for (unsigned i = 0; !windows_here(rt->windows); i++) {
        ck_assert_uint_lt(i, 2000);
        burn(step);
        account_kick(rt);
    }
    return cpu_ns() - begin;
}

/* The page directory serves another process from now on. */
static void die(void)
{
    memset(pde32(LA), 0, 4);
    tlb_flush_nonglobal(cpu);
    ck_assert_ptr_null(windows_here(rt->windows));
}

START_TEST(a_window_is_filled_when_it_is_made)
{
    map_scattered(100);
    *pte32(LA + 50 * PAGE_SIZE) &= ~A;
    ck_assert_uint_eq(windows_runs(rt->windows, false), 99);
    time_to_window(1000000);
    ck_assert_uint_eq(cpu->ctr.window_made, 1);
    ck_assert_uint_eq(cpu->ctr.window_maps, 99);
    for (unsigned i = 0; i < 100; i++) ck_assert_int_eq(is_mapped(LA + i * PAGE_SIZE), i != 50);
    ck_assert_uint_eq(*pte32(LA + 50 * PAGE_SIZE) & A, 0);
}
END_TEST

/* What window_fault() leaves when the access has raised a page fault, and the guest kernel answers. */
static void back_from_page_fault(laddr la, u32 cr3)
{
    rt->missing.la = la, rt->missing.cr3 = cr3, rt->missing.write = true;
    rt->missing.waits = true;
    dispatch_prepare(rt);
    ck_assert(!rt->missing.waits);
}

START_TEST(a_page_that_was_missing_is_mapped_on_the_way_back)
{
    const laddr la = LA + 50 * PAGE_SIZE;
    map_scattered(100);
    u32 pte = *pte32(la);
    *pte32(la) = 0;
    time_to_window(1000000);
    back_from_page_fault(la, cpu->cr3); /* in vain */
    ck_assert(!is_mapped(la));
    *pte32(la) = pte & ~D; /* the write that may come sets D, and nobody else */
    back_from_page_fault(la, cpu->cr3);
    ck_assert(!is_mapped(la));
    ck_assert_uint_eq(*pte32(la) & D, 0);
    *pte32(la) = pte;
    back_from_page_fault(la, cpu->cr3 + PAGE_SIZE);
    ck_assert(!is_mapped(la));
    back_from_page_fault(la, cpu->cr3);
    ck_assert(is_mapped(la));
}
END_TEST

START_TEST(who_has_more_to_map_must_have_lost_more)
{
    map_scattered(2);
    u64 small = time_to_window(100000);
    die();
    cpu->cr3 = 0x5000; /* no space is like another */
    *(ram32(0x5000) + (LA >> 22)) = (FIX_TABLES + (LA >> 22) * PAGE_SIZE) | P | W | U | A;
    *(ram32(0x5000) + (LA >> 22) + 1) = (FIX_TABLES + ((LA >> 22) + 1) * PAGE_SIZE) | P | W | U | A;
    map_scattered(1500);
    tlb_flush_nonglobal(cpu);
    u64 large = time_to_window(100000), price = windows_map_ns(rt->windows);
    ck_assert_msg(large > small, "%llu ns for 1500 pages, %llu for 2", (unsigned long long)large,
                  (unsigned long long)small);
    ck_assert_msg(large > 1500 * price, "%llu ns for 1500 pages at %llu", (unsigned long long)large,
                  (unsigned long long)price);
}
END_TEST

START_TEST(time_in_the_kernel_earns_nothing)
{
    map_scattered(2);
    cpu->cpl = 0;
    for (unsigned i = 0; i < 20; i++) {
        burn(1000000);
        account_kick(rt);
    }
    ck_assert_ptr_null(windows_here(rt->windows));
}
END_TEST

START_TEST(a_window_that_faults_more_than_it_gains_is_given_up)
{
    map_scattered(10);
    time_to_window(1000000);
    const u64 a_tenth = 1000000 / hostsig_fault_ns();
    ck_assert_uint_gt(a_tenth, 0);
    for (unsigned i = 0; i < 5; i++) {
        for (u64 k = 0; k < a_tenth; k++) account_fault_end(rt, account_begin());
        burn(10000000);
        account_kick(rt);
        ck_assert_ptr_nonnull(windows_here(rt->windows));
    }
    for (u64 k = 0; k < 10 * a_tenth; k++) account_fault_end(rt, account_begin());
    burn(10000000);
    account_kick(rt);
    ck_assert_ptr_null(windows_here(rt->windows));
    ck_assert_uint_eq(cpu->ctr.window_given_up, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("account");
    TCase *t = tcase_create("account");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_window_is_filled_when_it_is_made);
    tcase_add_test(t, a_page_that_was_missing_is_mapped_on_the_way_back);
    tcase_add_test(t, who_has_more_to_map_must_have_lost_more);
    tcase_add_test(t, time_in_the_kernel_earns_nothing);
    tcase_add_test(t, a_window_that_faults_more_than_it_gains_is_given_up);
    suite_add_tcase(s, t);
    return fix_run(s);
}
