/* A disk whose sectors hold one tag each, and an image of it: what the tests of qcow2 share. */
#ifndef TESTS_UNIT_QCOW2_MODEL_H
#define TESTS_UNIT_QCOW2_MODEL_H
#include "src/back/image.h"
#include "src/back/qcow2.h"
#include "src/back/qcow2_format.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512u

static char folder[64];
static char path_[3][128];

/* Paths in the test's own folder. */
static UNUSED const char *path_of(const char *name, unsigned i)
{
    snprintf(path_[i], sizeof path_[i], "%s/%s", folder, name);
    return path_[i];
}

static UNUSED void folder_make(void)
{
    /* In memory where that can be: what is tested is order, not how long the host takes. */
    strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/test_qcow2.XXXXXX" : "/dev/shm/test_qcow2.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}
static UNUSED void folder_remove(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(0, system(command));
}

static UNUSED void image_make(const char *path, const struct qcow2_create *how)
{
    struct vm_error err = { "" };
    struct image_file f;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_msg(!image_file_open(&f, path, IMAGE_WRITE, &err), "%s", err.text);
    ck_assert_msg(!qcow2_make(&f, path, how, &err), "%s", err.text);
    image_file_close(&f);
}

static UNUSED int image_try(struct image *im, const char *path, u8 format, bool readonly, struct vm_error *err)
{
    const struct image_options how = { .format = format, .readonly = readonly, .unit = SECTOR };
    return image_open(im, path, &how, err);
}
static UNUSED struct image image_at(const char *path, bool readonly)
{
    struct image im;
    struct vm_error err = { "" };
    ck_assert_msg(!image_try(&im, path, VM_FORMAT_PROBE, readonly, &err), "%s", err.text);
    return im;
}

/* Sector s with a tag: 0 is all zeroes. */
static UNUSED void sector_fill(u8 *p, u64 s, u8 tag)
{
    for (unsigned i = 0; i < SECTOR; i++) p[i] = tag ? (u8)(tag ^ (i * 31 + s * 7) % 251) : 0;
}
/* The tag of a sector, -1: it is none of the last. */
static UNUSED int sector_tag(const u8 *p, u64 s)
{
    u8 want[SECTOR];
    u8 tag = (u8)(p[0] ^ s * 7 % 251);
    sector_fill(want, s, tag);
    if (tag && !memcmp(p, want, SECTOR)) return tag;
    memset(want, 0, SECTOR);
    return memcmp(p, want, SECTOR) ? -1 : 0;
}

/* Whether each piece of memory ends with a sector: then one is never written in halves. */
static bool pieces_are_whole;

/* n sectors, as three pieces of memory. */
static UNUSED int sectors_move(struct image *im, bool write, u64 s, u8 *buf, u64 n)
{
    u64 first = pieces_are_whole ? n / 3 * SECTOR : n * SECTOR / 3;
    const struct iovec iov[3] = { { buf, first }, { NULL, 0 }, { buf + first, n * SECTOR - first } };
    return write ? im->ops->write(im->state, s * SECTOR, iov, 3) : im->ops->read(im->state, s * SECTOR, iov, 3);
}
static UNUSED int tags_write(struct image *im, u64 s, u64 n, u8 tag)
{
    u8 *buf = malloc(n * SECTOR);
    for (u64 i = 0; i < n; i++) sector_fill(buf + i * SECTOR, s + i, tag);
    int rc = sectors_move(im, true, s, buf, n);
    free(buf);
    return rc;
}

static UNUSED struct qcow2_check checked(const char *path, bool repair)
{
    struct image_file f;
    struct vm_error err = { "" };
    struct qcow2_check found;
    ck_assert_msg(!image_file_open(&f, path, repair ? IMAGE_WRITE : 0, &err), "%s", err.text);
    ck_assert_msg(!qcow2_check(&f, path, repair, &found, &err), "%s", err.text);
    image_file_close(&f);
    return found;
}

static u64 rng = 1;
static UNUSED u64 rnd(u64 n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng * 0x2545f4914f6cdd1dull >> 16) % n;
}

/* Eight bytes of a file. */
static UNUSED u64 peek64(const char *path, u64 at)
{
    u8 b[8];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(8, pread(fd, b, 8, (off_t)at));
    close(fd);
    return qcow2_get64(b);
}
static UNUSED void poke(const char *path, u64 at, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq((ssize_t)n, pwrite(fd, bytes, n, (off_t)at));
    close(fd);
}
static UNUSED void poke64(const char *path, u64 at, u64 v)
{
    u8 b[8];
    qcow2_put64(b, v);
    poke(path, at, b, 8);
}

#endif
