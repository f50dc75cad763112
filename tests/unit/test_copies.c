/* Patched copies of pages of code: where they are, what they hold, and when one is not worth having. */
#include "runtime/direct/copies.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>

#define RAM (16ull << 20)

static struct bus *bus;
static struct copies *copies;
static u8 bytes[PAGE_SIZE];

static void setup(void)
{
    ck_assert_int_eq(bus_new(&bus, RAM), 0);
    ck_assert_int_eq(copies_new(&copies, bus), 0);
    for (unsigned i = 0; i < PAGE_SIZE; i++) bytes[i] = (u8)(i * 7);
}
static void teardown(void)
{
    copies_free(copies);
    bus_free(bus);
}

static bool make(u64 page, u16 at, u8 byte)
{
    const struct scan_result patches = { .n = 1, .patch = { { at, byte } } };
    return copies_make(copies, page, bytes, &patches);
}

START_TEST(a_copy_is_in_the_file_of_ram_behind_all_memory_of_the_guests)
{
    u64 copy, other;
    ck_assert(!copies_find(copies, 5, &copy));
    ck_assert(make(5, 0x123, 0xf4));
    ck_assert(make(6, 0x456, 0x3e));
    ck_assert(copies_find(copies, 5, &copy));
    ck_assert(copies_find(copies, 6, &other));
    ck_assert_uint_ne(copy, other);
    ck_assert_uint_ge(copy, bus_file_pages(bus));
    ck_assert_uint_ge(copy << PAGE_SHIFT, bus_file_used(bus));
    u8 *seen = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, bus_ram_fd(bus), (off_t)(copy << PAGE_SHIFT));
    ck_assert_ptr_ne(seen, MAP_FAILED);
    ck_assert_uint_eq(seen[0x123], 0xf4);
    bytes[0x123] = 0xf4;
    ck_assert_mem_eq(seen, bytes, PAGE_SIZE);
    munmap(seen, PAGE_SIZE);
}
END_TEST

START_TEST(devices_memory_made_later_leaves_it_alone)
{
    struct bus_ram *vga;
    u64 copy;
    ck_assert(make(5, 0x123, 0xf4));
    ck_assert_int_eq(bus_ram_new(&vga, bus, 1 << 20), 0);
    memset(bus_ram_host(vga), 0xaa, 1 << 20);
    ck_assert_uint_eq(bus_file_used(bus), RAM + (1 << 20));
    ck_assert(copies_find(copies, 5, &copy));
    u8 *seen = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, bus_ram_fd(bus), (off_t)(copy << PAGE_SHIFT));
    ck_assert_ptr_ne(seen, MAP_FAILED);
    ck_assert_uint_eq(seen[0x123], 0xf4);
    ck_assert_uint_eq(seen[0x124], bytes[0x124]);
    munmap(seen, PAGE_SIZE);
    bus_ram_free(vga);
}
END_TEST

START_TEST(a_dropped_one_makes_room_and_a_page_has_one_at_most)
{
    u64 copy, again;
    unsigned n = 0;
    while (n < 100000 && make(n, 0, 0xf4)) n++;
    ck_assert_uint_gt(n, 100);
    ck_assert_uint_lt(n, 100000);
    ck_assert(copies_find(copies, 7, &copy));
    ck_assert(make(7, 1, 0xf4)); /* anew, where it was */
    ck_assert(copies_find(copies, 7, &again));
    ck_assert_uint_eq(copy, again);
    ck_assert(!make(n, 0, 0xf4));
    copies_drop(copies, 7);
    ck_assert(!copies_find(copies, 7, &again));
    ck_assert(make(n, 0, 0xf4));
    ck_assert(copies_find(copies, n, &again));
    ck_assert_uint_eq(copy, again);
    copies_drop(copies, 100000); /* there is none */
}
END_TEST

START_TEST(one_that_is_read_often_is_not_worth_having_and_reads_are_forgotten)
{
    unsigned reads = 1;
    ck_assert(make(5, 0, 0xf4));
    while (!copies_read(copies, 5)) reads++;
    ck_assert_uint_eq(reads, 16);
    ck_assert(make(5, 0, 0xf4)); /* its next version begins anew */
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert(!copies_read(copies, 5));
        if (i % 7 == 6) copies_age(copies);
    }
    ck_assert(!copies_read(copies, 6));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("copies");
    TCase *t = tcase_create("copies");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_copy_is_in_the_file_of_ram_behind_all_memory_of_the_guests);
    tcase_add_test(t, devices_memory_made_later_leaves_it_alone);
    tcase_add_test(t, a_dropped_one_makes_room_and_a_page_has_one_at_most);
    tcase_add_test(t, one_that_is_read_often_is_not_worth_having_and_reads_are_forgotten);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
