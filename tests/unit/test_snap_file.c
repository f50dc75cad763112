/* src/snap: sections and memory in a file. What comes out is what went in; what is not whole is refused. */
#define _GNU_SOURCE
#include "src/snap/file.h"

#include <check.h>
#include <fcntl.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM (20u << 20)

static int memory_file(u64 size)
{
    int fd = memfd_create("test", 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(0, ftruncate(fd, (off_t)size));
    return fd;
}

static u8 *map(int fd, u64 size)
{
    u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static u64 size_of(int fd)
{
    struct stat st;
    ck_assert_int_eq(0, fstat(fd, &st));
    return (u64)st.st_size;
}

/* Two sections and the RAM in fd, unless that is -1. */
static int saved(int ram)
{
    int fd = memory_file(0);
    struct snap_writer *w;
    ck_assert_int_eq(0, snap_writer_new(&w, fd));
    ck_assert_int_eq(0, snap_write(w, "one", "abc", 3));
    ck_assert_int_eq(0, snap_write(w, "two", NULL, 0));
    if (ram >= 0) ck_assert_int_eq(0, snap_ram_save(w, ram, RAM));
    ck_assert_int_eq(0, snap_write_end(w));
    snap_writer_free(w);
    return fd;
}

/* Reads all of it: 0, or the failure, with why. */
static int loaded(int fd, u8 *ram, const char **why)
{
    struct snap_reader *r = NULL;
    struct snap_section s;
    u64 next = 0;
    lseek(fd, 0, SEEK_SET);
    *why = "";
    int rc = snap_reader_new(&r, fd, why);
    if (rc) return rc;
    while (!(rc = snap_read(r, &s, why)) && strcmp(s.name, "end")) {
        if (strcmp(s.name, "ram")) continue;
        if (!ram) break;
        rc = snap_ram_load(&s, ram, RAM, &next, why);
        if (rc) break;
    }
    snap_reader_free(r);
    return rc;
}

START_TEST(sections_come_back_in_order_through_a_pipe)
{
    int fd = saved(-1), p[2];
    u8 buf[1024];
    struct snap_reader *r;
    struct snap_section s;
    const char *why = "";
    ck_assert_int_eq(0, pipe(p));
    u64 n = size_of(fd);
    ck_assert_int_lt(n, sizeof buf);
    ck_assert_int_eq((ssize_t)n, pread(fd, buf, sizeof buf, 0));
    ck_assert_int_eq((ssize_t)n, write(p[1], buf, n));
    close(p[1]);
    ck_assert_int_eq(0, snap_reader_new(&r, p[0], &why));
    ck_assert_int_eq(0, snap_read(r, &s, &why));
    ck_assert_str_eq("one", s.name);
    ck_assert_uint_eq(3, s.len);
    ck_assert_mem_eq("abc", s.data, 3);
    ck_assert_int_eq(0, snap_read(r, &s, &why));
    ck_assert_str_eq("two", s.name);
    ck_assert_uint_eq(0, s.len);
    ck_assert_int_eq(0, snap_read(r, &s, &why));
    ck_assert_str_eq("end", s.name);
    snap_reader_free(r);
    close(p[0]);
    close(fd);
}
END_TEST

START_TEST(a_file_flipped_at_any_bit_or_cut_off_anywhere_is_refused)
{
    int fd = saved(-1);
    u64 n = size_of(fd);
    const char *why;
    for (u64 at = 0; at < n; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            u8 v, flipped;
            ck_assert_int_eq(1, pread(fd, &v, 1, (off_t)at));
            flipped = v ^ (u8)(1u << bit);
            ck_assert_int_eq(1, pwrite(fd, &flipped, 1, (off_t)at));
            int rc = loaded(fd, NULL, &why);
            ck_assert_msg(rc == -EINVAL && *why, "byte %llu, bit %u: %d '%s'", (unsigned long long)at, bit, rc, why);
            ck_assert_int_eq(1, pwrite(fd, &v, 1, (off_t)at));
        }
    }
    ck_assert_int_eq(0, loaded(fd, NULL, &why));
    for (u64 at = n; at--;) {
        ck_assert_int_eq(0, ftruncate(fd, (off_t)at));
        ck_assert_int_eq(-EINVAL, loaded(fd, NULL, &why));
        ck_assert_str_eq("it is cut off", why);
    }
    close(fd);
}
END_TEST

START_TEST(sections_of_two_files_do_not_mix)
{
    /* Each is whole in itself; the second section follows another first one. */
    int fd = memory_file(0), other = memory_file(0);
    struct snap_writer *w;
    const char *why;
    u8 tail[256];
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(0, snap_writer_new(&w, i ? other : fd));
        ck_assert_int_eq(0, snap_write(w, "one", i ? "x" : "y", 1));
        ck_assert_int_eq(0, snap_write(w, "two", "z", 1));
        ck_assert_int_eq(0, snap_write_end(w));
        snap_writer_free(w);
    }
    u64 first = 24 + 40 + 1 + 16, n = size_of(fd) - first;
    ck_assert_int_eq((ssize_t)n, pread(other, tail, n, (off_t)first));
    ck_assert_int_eq((ssize_t)n, pwrite(fd, tail, n, (off_t)first));
    ck_assert_int_eq(-EINVAL, loaded(fd, NULL, &why));
    ck_assert_str_eq("it is damaged", why);
    close(fd);
    close(other);
}
END_TEST

START_TEST(memory_comes_back_and_zeroes_cost_nothing)
{
    int from = memory_file(RAM), to = memory_file(RAM);
    u8 *a = map(from, RAM), *b = map(to, RAM);
    const char *why;
    u64 rng = 1;
    int empty = saved(from);
    ck_assert_uint_lt(size_of(empty), 300);
    for (u64 at = 0; at < RAM; at += 4096) {
        rng = rng * 6364136223846793005ull + 1442695040888963407ull;
        unsigned kind = rng >> 40 & 7;
        if (at < (3u << 20) || kind < 3) continue; /* a hole, and pages of zeroes in chunks that have others */
        for (unsigned i = 0; i < 4096; i += 8) {
            if (kind == 3) rng = rng * 6364136223846793005ull + 1442695040888963407ull; /* does not compress */
            memcpy(a + at + i, &rng, 8);
        }
    }
    a[RAM - 1] = 7;
    int fd = saved(from);
    int rc = loaded(fd, b, &why);
    ck_assert_msg(!rc, "%d %s", rc, why);
    ck_assert(!memcmp(a, b, RAM));
    memset(a + (5u << 20), 0, 1u << 20);
    int less = saved(from);
    ck_assert_uint_lt(size_of(less), size_of(fd));
    munmap(a, RAM);
    munmap(b, RAM);
    close(fd);
    close(less);
    close(empty);
    close(from);
    close(to);
}
END_TEST

/* Checksums aside: what a chunk says of itself is not believed. */
#define CHUNKS 10000u
START_TEST(no_chunk_reaches_beyond_memory)
{
    int fd = memory_file(RAM);
    u8 *ram = map(fd, RAM), chunk[4 + 32 + 3 * 4096];
    const char *why = "";
    u64 rng = 12345;
    unsigned taken = 0;
    for (unsigned round = 0; round < CHUNKS; round++) {
        for (unsigned i = 0; i < 64; i++) {
            rng = rng * 6364136223846793005ull + 1442695040888963407ull;
            chunk[i] = (u8)(rng >> 40);
        }
        u32 number = (rng >> 33) % 24;
        memcpy(chunk, &number, 4);
        memset(chunk + 4, 0, 32);
        size_t n = sizeof chunk;
        if (rng >> 50 & 1) n = (rng >> 20) % sizeof chunk;
        if (rng >> 51 & 1) chunk[4 + (rng >> 8) % 32] = 7; /* three pages, which is what there is */
        struct snap_section s = { "ram", chunk, n };
        u64 next = (rng >> 16) % 24;
        int rc = snap_ram_load(&s, ram, RAM, &next, &why);
        taken += !rc;
        ck_assert(rc == 0 || rc == -EINVAL);
    }
    ck_assert_uint_gt(taken, CHUNKS / 200);
    munmap(ram, RAM);
    close(fd);
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    int fd = open("/dev/full", O_WRONLY);
    struct snap_writer *w = NULL;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(-ENOSPC, snap_writer_new(&w, fd));
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snap_file");
    TCase *c = tcase_create("snap_file");
    tcase_add_test(c, sections_come_back_in_order_through_a_pipe);
    tcase_add_test(c, a_file_flipped_at_any_bit_or_cut_off_anywhere_is_refused);
    tcase_add_test(c, sections_of_two_files_do_not_mix);
    tcase_add_test(c, memory_comes_back_and_zeroes_cost_nothing);
    tcase_add_test(c, no_chunk_reaches_beyond_memory);
    tcase_add_test(c, a_full_disk_is_an_error);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
