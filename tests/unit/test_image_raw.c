/* Raw images: what is written arrives or, under snapshot, does not; and who may open one beside whom.
 *
 * This program's preadv() and pwritev() take the place of the C library's: they count, and can do less than they are
 * asked for. */
#define _GNU_SOURCE
#include "src/back/image.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE (64u << 10)

#define LIST 256u

static struct {
    unsigned n;
    size_t most; /* bytes that one does; 0: all */
} calls;

static ssize_t call(long nr, int fd, const struct iovec *iov, int n, off_t at)
{
    struct iovec v[LIST];
    size_t left = calls.most ? calls.most : SIZE_MAX;
    int k = 0;
    ck_assert_int_le(n, (int)LIST);
    for (; k < n && left; left -= v[k++].iov_len)
        v[k] = (struct iovec){ iov[k].iov_base, iov[k].iov_len < left ? iov[k].iov_len : left };
    calls.n++;
    return syscall(nr, fd, v, k, at, 0);
}
ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at) { return call(SYS_preadv, fd, iov, n, at); }
ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at) { return call(SYS_pwritev, fd, iov, n, at); }

static char path[64];
static u8 bytes[SIZE];

static void setup(void)
{
    strcpy(path, "/tmp/test_image_raw.XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    for (unsigned i = 0; i < SIZE; i++) bytes[i] = (u8)(i >> 8 ^ i);
    ck_assert_int_eq(SIZE, write(fd, bytes, SIZE));
    close(fd);
}
static void teardown(void) { unlink(path); }

static int try_open(struct image *im, const char *name, bool readonly, bool snapshot, struct vm_error *err)
{
    const struct image_options how = { .readonly = readonly, .snapshot = snapshot, .unit = 512 };
    return image_open(im, name, &how, err);
}
static struct image opened(bool readonly, bool snapshot)
{
    struct image im;
    struct vm_error err = { "" };
    ck_assert_msg(!try_open(&im, path, readonly, snapshot, &err), "%s", err.text);
    return im;
}
static int move(struct image im, bool w, u64 at, u8 *a, size_t na, u8 *b, size_t nb)
{
    const struct iovec iov[2] = { { a, na }, { b, nb } };
    return w ? im.ops->write(im.state, at, iov, nb ? 2 : 1) : im.ops->read(im.state, at, iov, nb ? 2 : 1);
}
static u8 in_file(u64 at)
{
    u8 v;
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(1, pread(fd, &v, 1, (off_t)at));
    close(fd);
    return v;
}

START_TEST(what_is_written_is_in_the_file)
{
    struct image im = opened(false, false);
    u8 a[512], b[1024], got[1536];
    memset(a, 0xaa, sizeof a);
    memset(b, 0xbb, sizeof b);
    ck_assert_uint_eq(SIZE, im.size);
    ck_assert_int_eq(0, move(im, true, 3584, a, sizeof a, b, sizeof b));
    ck_assert_int_eq(0, im.ops->flush(im.state));
    ck_assert_uint_eq(0xaa, in_file(3584));
    ck_assert_uint_eq(0xbb, in_file(5119));
    ck_assert_uint_eq(bytes[5120], in_file(5120));
    ck_assert_int_eq(0, move(im, false, 3584, got, 1536, NULL, 0));
    ck_assert(got[511] == 0xaa && got[512] == 0xbb);
    image_close(&im);
}
END_TEST

START_TEST(a_snapshot_shows_what_was_written_and_the_file_stays)
{
    struct image im = opened(false, true);
    u8 want[SIZE], got[SIZE], piece[12288];
    memcpy(want, bytes, SIZE);
    for (unsigned i = 0; i < 40; i++) {
        unsigned at = i * 7919 % (SIZE / 512 - 24) * 512, n = (i % 24 + 1) * 512;
        memset(piece, (int)(i + 1), n);
        memcpy(want + at, piece, n);
        ck_assert_int_eq(0, move(im, true, at, piece, n / 1024 * 512, piece, n - n / 1024 * 512));
        ck_assert_int_eq(0, move(im, false, 0, got, SIZE, NULL, 0));
        ck_assert_mem_eq(want, got, SIZE);
    }
    for (unsigned i = 0; i < SIZE; i += 511) ck_assert_uint_eq(bytes[i], in_file(i));
    image_close(&im);
}
END_TEST

START_TEST(a_zeroed_range_reads_as_zeroes_and_its_neighbours_as_before)
{
    struct image im = opened(false, _i);
    u8 want[SIZE], got[SIZE];
    memcpy(want, bytes, SIZE);
    memset(want + 1536, 0, 8192);
    ck_assert_int_eq(0, im.ops->zero(im.state, 1536, 8192));
    ck_assert_int_eq(0, move(im, false, 0, got, SIZE, NULL, 0));
    ck_assert_mem_eq(want, got, SIZE);
    ck_assert_uint_eq(_i ? bytes[1537] : 0, in_file(1537));
    image_close(&im);
}
END_TEST

START_TEST(one_may_write_or_many_may_read)
{
    static const struct {
        bool ro1, snap1, ro2, snap2, fine;
    } pair[] = { { false, false, false, false, false }, { false, false, true, false, false },
                 { true, false, false, false, false },  { false, true, false, false, false },
                 { true, false, true, false, true },    { false, true, false, true, true },
                 { true, false, false, true, true } };
    for (unsigned i = 0; i < ARRAY_LEN(pair); i++) {
        struct vm_error err = { "" };
        struct image second = { 0 }, first = opened(pair[i].ro1, pair[i].snap1);
        int rc = try_open(&second, path, pair[i].ro2, pair[i].snap2, &err);
        ck_assert_msg(rc == (pair[i].fine ? 0 : -EBUSY), "pair %u: %d", i, rc);
        if (rc) ck_assert_msg(strstr(err.text, "another machine uses it") && strstr(err.text, path), "%s", err.text);
        image_close(&second);
        image_close(&first);
        struct image third = opened(false, false); /* nobody has it any more */
        image_close(&third);
    }
}
END_TEST

START_TEST(what_is_no_disk_is_refused_by_name)
{
    struct image im;
    struct vm_error err;
    ck_assert_int_eq(-ENOENT, try_open(&im, "/nowhere/disk.img", false, false, &err));
    ck_assert_str_eq("disk /nowhere/disk.img: No such file or directory", err.text);
    ck_assert_int_eq(-ENOTBLK, try_open(&im, "/dev/null", false, false, &err));
    ck_assert_int_eq(0, truncate(path, 511));
    ck_assert_int_eq(-ENOEXEC, try_open(&im, path, false, false, &err));
    unlink(path);
    ck_assert_int_eq(0, mkfifo(path, 0600));
    ck_assert_int_eq(-ENOTBLK, try_open(&im, path, true, false, &err));
}
END_TEST

START_TEST(a_file_that_has_become_shorter_is_an_error_not_a_crash)
{
    struct image im = opened(false, false);
    u8 got[512];
    ck_assert_int_eq(0, truncate(path, 4096));
    ck_assert_int_eq(-EIO, move(im, false, 8192, got, sizeof got, NULL, 0));
    image_close(&im);
}
END_TEST

/* What the file holds stays the same to the byte, whatever memory and places are asked for. */
START_TEST(without_the_hosts_cache_anything_may_be_moved)
{
    const struct image_options how = { .format = VM_FORMAT_RAW, .direct = true, .unit = 512 };
    struct vm_error err = { "" };
    struct image im;
    u8 want[SIZE], *got = malloc(SIZE + 8), *piece = malloc(SIZE + 8);
    int rc = image_open(&im, path, &how, &err);
    if (rc == -ENOTSUP) { /* the file system's choice, and one line */
        ck_assert_msg(strstr(err.text, path) && strstr(err.text, "cache=none"), "%s", err.text);
        return;
    }
    ck_assert_msg(!rc, "%s", err.text);
    memcpy(want, bytes, SIZE);
    for (unsigned i = 0; i < 200; i++) {
        const unsigned at = i * 7919 % (SIZE / 512) * 512, room = SIZE - at, n = (i * 31 % 24 + 1) * 512 % (room + 1);
        u8 *from = piece + i % 8;
        memset(from, (int)(i + 1), n);
        memcpy(want + at, from, n);
        ck_assert_int_eq(0, move(im, true, at, from, n / 3, from + n / 3, n - n / 3));
        ck_assert_int_eq(0, move(im, false, 0, got + i % 7, SIZE / 5, got + i % 7 + SIZE / 5, SIZE - SIZE / 5));
        ck_assert_mem_eq(want, got + i % 7, SIZE);
    }
    ck_assert_int_eq(0, im.ops->zero(im.state, 1536, 8192));
    memset(want + 1536, 0, 8192);
    ck_assert_int_eq(0, move(im, false, 0, got, SIZE, NULL, 0));
    ck_assert_mem_eq(want, got, SIZE);
    ck_assert_int_eq(0, im.ops->flush(im.state));
    image_close(&im);
    for (unsigned i = 0; i < SIZE; i += 97) ck_assert_uint_eq(want[i], in_file(i));
    free(got);
    free(piece);
}
END_TEST

/* As a guest's pages lie: each somewhere else, from the memory's end to its front. Its last piece is empty. */
static unsigned pages_listed(struct iovec *iov, u8 *memory, size_t each)
{
    unsigned n = 0;
    for (size_t left = SIZE; left; left -= each) iov[n++] = (struct iovec){ memory + left - each, each };
    iov[n++] = (struct iovec){ memory, 0 };
    return n;
}

/* Each call is dear where the host is itself a guest: a page a call made a disk twelve times slower than its file. */
START_TEST(a_request_is_one_call_however_many_pages_it_has)
{
    struct image im = opened(false, false);
    static u8 got[SIZE];
    struct iovec iov[LIST];
    const unsigned n = pages_listed(iov, got, 512);
    calls.n = 0;
    ck_assert_int_eq(0, im.ops->read(im.state, 0, iov, n));
    ck_assert_uint_eq(1, calls.n);
    for (unsigned i = 0; i < SIZE; i++) ck_assert_uint_eq(bytes[i], got[SIZE - 512 - i / 512 * 512 + i % 512]);
    ck_assert_int_eq(0, im.ops->write(im.state, 0, iov, n));
    ck_assert_uint_eq(2, calls.n);
    image_close(&im);
}
END_TEST

START_TEST(a_call_that_does_less_is_gone_on_with)
{
    static const size_t most[] = { 1, 7, 511, 512, 513, 4095, 5000, SIZE - 1 };
    static u8 memory[SIZE], got[SIZE];
    struct image im = opened(false, false);
    struct iovec iov[LIST];
    const unsigned n = pages_listed(iov, memory, 1024);
    for (unsigned i = 0; i < ARRAY_LEN(most); i++) {
        calls.most = most[i];
        memset(memory, 0, SIZE);
        ck_assert_int_eq(0, im.ops->read(im.state, 0, iov, n));
        for (unsigned k = 0; k < SIZE; k++)
            ck_assert_uint_eq(bytes[k], memory[iov[k / 1024].iov_base - (void *)memory + k % 1024]);
        for (unsigned k = 0; k < SIZE; k++) memory[k] = (u8)(k * 13 + i);
        for (unsigned k = 0; k < SIZE; k += 1024) memcpy(bytes + k, iov[k / 1024].iov_base, 1024);
        ck_assert_int_eq(0, im.ops->write(im.state, 0, iov, n));
        calls.most = 0;
        ck_assert_int_eq(0, move(im, false, 0, got, SIZE, NULL, 0));
        ck_assert_mem_eq(bytes, got, SIZE);
    }
    /* Cut off in the middle: an error, and neither a loop nor what was there before. */
    ck_assert_int_eq(0, truncate(path, SIZE / 2));
    ck_assert_int_eq(-EIO, im.ops->read(im.state, 0, iov, n));
    image_close(&im);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("image_raw");
    TCase *t = tcase_create("image_raw");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_written_is_in_the_file);
    tcase_add_test(t, a_snapshot_shows_what_was_written_and_the_file_stays);
    tcase_add_loop_test(t, a_zeroed_range_reads_as_zeroes_and_its_neighbours_as_before, 0, 2);
    tcase_add_test(t, one_may_write_or_many_may_read);
    tcase_add_test(t, what_is_no_disk_is_refused_by_name);
    tcase_add_test(t, a_file_that_has_become_shorter_is_an_error_not_a_crash);
    tcase_add_test(t, without_the_hosts_cache_anything_may_be_moved);
    tcase_add_test(t, a_request_is_one_call_however_many_pages_it_has);
    tcase_add_test(t, a_call_that_does_less_is_gone_on_with);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
