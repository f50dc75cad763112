/* Dirty logs: a page is dirty whoever has written to it, by whatever way, and clean until then; and nothing else is
 * asked of pages in no log. */
#define _GNU_SOURCE
#include "mem_fixture.h"
#include "runtime/mem/window.h"

#include <sys/uio.h>
#include <unistd.h>

#define LA 0x80000000u
#define ULA 0x10000000u
#define FB 0xe0000000u
#define PAGES 40u

static struct windows *ws;
static struct bus_ram *fb;
static struct dirty_log *dl;
static u64 bits[FIX_RAM / PAGE_SIZE / 64];

static void setup(void)
{
    fix_setup();
    ck_assert_int_eq(windows_new(&ws, cpu), 0);
    ck_assert_int_eq(bus_ram_new(&fb, bus, PAGES * PAGE_SIZE), 0);
    ck_assert_int_eq(bus_map_ram(bus, FB, fb, "fb"), 0);
    fix_paging(false);
    for (u32 i = 0; i < PAGES; i++) {
        map32(LA + i * PAGE_SIZE, (FB + i * PAGE_SIZE) | P | W | A | D, P | W | A);
        map32(ULA + i * PAGE_SIZE, (FB + i * PAGE_SIZE) | P | W | U | A | D, P | W | U | A);
    }
    tlb_flush_all(cpu);
    ck_assert_int_eq(dirty_log_new(&dl, bus, fb), 0);
}
static void teardown(void)
{
    dirty_log_free(dl);
    windows_free(ws);
    fix_teardown();
}

/* The dirty pages of the log, as a sum of 1 << page; at most one is expected beyond page 63. */
static u64 taken(struct dirty_log *l)
{
    u64 n = dirty_log_take(l, bits);
    ck_assert_uint_eq(n, (u64)__builtin_popcountll(bits[0]));
    return bits[0];
}

/* A store of translated code through a window: what the host does not let through comes back as a fault. */
static bool store(struct window *w, laddr la)
{
    u32 v = 1;
    struct iovec here = { &v, 4 }, there = { (void *)(window_base(w) + la), 4 };
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 4;
}

START_TEST(a_write_through_the_soft_tlb_is_noticed_once)
{
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_uint_eq(taken(dl), 0);
        for (u32 i = 0; i < 4; i++) rd(LA + i * PAGE_SIZE, 4, false); /* to look is not to write */
        ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_W)[LA >> PAGE_SHIFT], 0);
        ck_assert_uint_eq(taken(dl), 0);
        wr(LA + 3 * PAGE_SIZE, 4, false, round);
        ck_assert_uint_ne(cpu_tlb(cpu, TLB_SUP_W)[(LA >> PAGE_SHIFT) + 3], 0); /* the next one costs nothing */
        wr(ULA + 2 * PAGE_SIZE - 2, 4, true, round);
        ck_assert_uint_eq(taken(dl), 1 << 3 | 1 << 2 | 1 << 1);
        ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_W)[(LA >> PAGE_SHIFT) + 3], 0);
    }
}
END_TEST

START_TEST(a_store_through_a_window_is_noticed_once)
{
    struct window *w[2] = { windows_supervisor(ws), windows_make(ws) };
    const laddr at[2] = { LA, ULA };
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 2; i++) {
            ck_assert(window_map(w[i], at[i], false));
            ck_assert(!store(w[i], at[i] + 5 * PAGE_SIZE)); /* it is there to be read */
            ck_assert(!window_map_ahead(w[i], at[i] + 5 * PAGE_SIZE, true));
            ck_assert_uint_eq(taken(dl), 0);
            ck_assert(window_map(w[i], at[i] + 5 * PAGE_SIZE, true));
            ck_assert(store(w[i], at[i] + 5 * PAGE_SIZE));
            ck_assert(!store(w[i], at[i] + 6 * PAGE_SIZE)); /* what is mapped around it is not */
            ck_assert_uint_eq(taken(dl), 1 << 5);
            ck_assert(!store(w[i], at[i] + 5 * PAGE_SIZE));
        }
}
END_TEST

START_TEST(dma_devices_and_page_walks_are_noticed)
{
    const u8 bytes[6000] = { 0 };
    bus_dma_write(bus, FB + 7 * PAGE_SIZE + 100, bytes, sizeof bytes);
    ck_assert_uint_eq(taken(dl), 3 << 7);
    bus_phys_write(bus, FB + 9 * PAGE_SIZE, 4, 0);
    ck_assert_uint_eq(taken(dl), 1 << 9);
    bus_ram_host(fb)[11 * PAGE_SIZE] = 1;
    bus_ram_written(fb, 11 * PAGE_SIZE, 1);
    ck_assert_uint_eq(taken(dl), 1 << 11);
    u64 len = PAGE_SIZE;
    u8 *p = bus_dma_map(bus, FB + 12 * PAGE_SIZE, &len);
    bus_dma_unmap(bus, p, len, DMA_FROM_GUEST);
    ck_assert_uint_eq(taken(dl), 0);
    bus_dma_unmap(bus, p, len, DMA_TO_GUEST);
    ck_assert_uint_eq(taken(dl), 1 << 12);
    /* a page table in there, whose A and D the processor sets */
    memset(bus_ram_host(fb) + 14 * PAGE_SIZE, 0, PAGE_SIZE);
    *(u32 *)(bus_ram_host(fb) + 14 * PAGE_SIZE) = 0x345000 | P | W;
    *pde32(0x40000000) = (FB + 14 * PAGE_SIZE) | P | W | A;
    rd(0x40000000, 4, false);
    ck_assert_uint_eq(taken(dl), 1 << 14);
    rd(0x40000000, 4, false);
    ck_assert_uint_eq(taken(dl), 0);
}
END_TEST

START_TEST(code_pages_are_logged_as_well)
{
    bus_mark_code(bus, FB + 2 * PAGE_SIZE);
    ck_assert_uint_eq(taken(dl), 0);
    wr(LA + 2 * PAGE_SIZE, 4, false, 1); /* no code stays: nobody listens */
    ck_assert_uint_eq(taken(dl), 1 << 2);
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_W)[(LA >> PAGE_SHIFT) + 2], 0);
    wr(LA + 2 * PAGE_SIZE, 4, false, 1);
    ck_assert_uint_eq(taken(dl), 1 << 2);
}
END_TEST

START_TEST(logs_do_not_disturb_each_other)
{
    struct dirty_log *other;
    wr(LA, 4, false, 1);
    ck_assert_int_eq(dirty_log_new(&other, bus, fb), 0);
    ck_assert_uint_eq(dirty_log_pages(other), PAGES);
    ck_assert_uint_eq(taken(other), 0);
    wr(LA + PAGE_SIZE, 4, false, 1);
    ck_assert_uint_eq(taken(other), 2);
    wr(LA + PAGE_SIZE, 4, false, 1);
    wr(LA, 4, false, 1);
    ck_assert_uint_eq(taken(dl), 3);
    ck_assert_uint_eq(taken(other), 3);
    wr(LA + 4 * PAGE_SIZE, 4, false, 1);
    dirty_log_free(other);
    ck_assert_uint_eq(taken(dl) & 1 << 4, 1 << 4);
    wr(LA + 4 * PAGE_SIZE, 4, false, 1);
    ck_assert_uint_eq(taken(dl), 1 << 4);
}
END_TEST

START_TEST(a_log_of_all_ram_sees_every_page_and_without_a_log_nothing_is_watched)
{
    struct dirty_log *ram;
    ck_assert_uint_eq(*bus_page_flags(bus, 0x9000) & PG_ANNOUNCED, 0);
    cpu->cr0 = 0;
    tlb_flush_all(cpu);
    wr(0x9000, 4, false, 1);
    ck_assert(window_map(windows_supervisor(ws), 0x9000, true));
    ck_assert_int_eq(dirty_log_new(&ram, bus, NULL), 0);
    ck_assert_uint_eq(dirty_log_pages(ram), FIX_RAM / PAGE_SIZE);
    ck_assert(!store(windows_supervisor(ws), 0x9000));
    ck_assert_uint_eq(dirty_log_take(ram, bits), 0);
    for (u32 pa = 0x9000; pa < FIX_RAM; pa += 0x10000) wr(pa, 4, false, 1);
    u64 n = 0, want = (FIX_RAM - 0x9000 + 0xffff) / 0x10000;
    ck_assert_uint_eq(dirty_log_take(ram, bits), want);
    for (u32 pa = 0x9000; pa < FIX_RAM; pa += 0x10000) n += bits[pa / PAGE_SIZE / 64] >> pa / PAGE_SIZE % 64 & 1;
    ck_assert_uint_eq(n, want);
    dirty_log_free(ram);
    for (u32 pa = 0; pa < FIX_RAM; pa += PAGE_SIZE) ck_assert_uint_eq(*bus_page_flags(bus, pa) & PG_ANNOUNCED, 0);
}
END_TEST

START_TEST(moving_a_frame_buffer_loses_no_writes)
{
    wr(LA + PAGE_SIZE, 4, false, 1);
    bus_unmap_ram(fb);
    ck_assert_int_eq(bus_map_ram(bus, FB + 0x1000000, fb, "fb"), 0);
    ck_assert_uint_eq(taken(dl), 2);
    map32(LA, (FB + 0x1000000) | P | W | A | D, P | W | A);
    tlb_flush_all(cpu);
    wr(LA, 4, false, 1);
    ck_assert_uint_eq(taken(dl), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dirty");
    TCase *t = tcase_create("dirty");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_write_through_the_soft_tlb_is_noticed_once);
    tcase_add_test(t, a_store_through_a_window_is_noticed_once);
    tcase_add_test(t, dma_devices_and_page_walks_are_noticed);
    tcase_add_test(t, code_pages_are_logged_as_well);
    tcase_add_test(t, logs_do_not_disturb_each_other);
    tcase_add_test(t, a_log_of_all_ram_sees_every_page_and_without_a_log_nothing_is_watched);
    tcase_add_test(t, moving_a_frame_buffer_loses_no_writes);
    suite_add_tcase(s, t);
    return fix_run(s);
}
