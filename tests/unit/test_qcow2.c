/* qcow2 images: what a disk of every variant of the format reads, and what is refused. Where qemu-img is installed it
 * has to agree. */
#include "qcow2_model.h"

#include <sys/stat.h>
#include <zlib.h>

static bool has_qemu_img(void) { return !access("/usr/bin/qemu-img", X_OK); }

/* qemu-img's status, with the image for %s. */
static int qemu_img(const char *words, const char *a, const char *b)
{
    char line[512];
    int n = snprintf(line, sizeof line, "cd %s && qemu-img ", folder);
    n += snprintf(line + n, sizeof line - (size_t)n, words, a, b);
    snprintf(line + n, sizeof line - (size_t)n, " >/dev/null 2>&1");
    return system(line);
}

/* ---- the disk is what was written ---- */

static const struct {
    struct qcow2_create how;
    int backing; /* 0 none, 1 raw, 2 qcow2 on raw */
} variants[] = {
    { { .version = 3, .cluster_bits = 16, .refcount_order = 4 }, 0 },
    { { .version = 2, .cluster_bits = 16, .refcount_order = 4 }, 0 },
    { { .version = 3, .cluster_bits = 9, .refcount_order = 4 }, 0 },
    { { .version = 2, .cluster_bits = 9, .refcount_order = 4 }, 1 },
    { { .version = 3, .cluster_bits = 9, .refcount_order = 6 }, 2 },
    { { .version = 3, .cluster_bits = 12, .refcount_order = 0 }, 1 },
    { { .version = 3, .cluster_bits = 10, .refcount_order = 1 }, 0 },
    { { .version = 3, .cluster_bits = 11, .refcount_order = 2 }, 2 },
    { { .version = 3, .cluster_bits = 12, .refcount_order = 3 }, 0 },
    { { .version = 3, .cluster_bits = 12, .refcount_order = 5 }, 1 },
    { { .version = 3, .cluster_bits = 12, .refcount_order = 4, .lazy_refcounts = true }, 1 },
    { { .version = 3, .cluster_bits = 21, .refcount_order = 4 }, 0 },
};
#define SECTORS 2051u /* no multiple of a cluster */
#define BASE_SECTORS 1000u

/* What it is based on: smaller than the disk. Tags 201 and 202. */
static void bases_make(u8 *tag, int backing)
{
    u8 buf[SECTOR];
    int fd = open(path_of("base.raw", 1), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (u64 s = 0; s < BASE_SECTORS; s++) {
        sector_fill(buf, s, 201);
        tag[s] = 201;
        ck_assert_int_eq(SECTOR, pwrite(fd, buf, SECTOR, (off_t)(s * SECTOR)));
    }
    close(fd);
    if (backing < 2) return;
    const struct qcow2_create how = { .size = (BASE_SECTORS + 100) * SECTOR,
                                      .version = 3,
                                      .cluster_bits = 12,
                                      .refcount_order = 4,
                                      .backing = "base.raw",
                                      .backing_format = "raw" };
    image_make(path_of("base.qcow2", 1), &how);
    struct image im = image_at(path_[1], false);
    ck_assert_int_eq(0, tags_write(&im, 990, 30, 202));
    memset(tag + 990, 202, 30);
    image_close(&im);
}

static void disk_is(struct image *im, const u8 *tag, const char *when)
{
    static u8 buf[SECTORS * SECTOR];
    ck_assert_int_eq(0, sectors_move(im, false, 0, buf, SECTORS));
    for (u64 s = 0; s < SECTORS; s++) {
        int is = sector_tag(buf + s * SECTOR, s);
        ck_assert_msg(is == tag[s], "%s: sector %u has %d, not %u", when, (unsigned)s, is, tag[s]);
    }
}

/* A random request. */
static void step(struct image *im, u8 *tag, unsigned i)
{
    u64 s = rnd(SECTORS), n = 1 + rnd(rnd(4) ? 20 : 300);
    u8 now = (u8)(1 + i % 200), buf[16 * SECTOR];
    if (n > SECTORS - s) n = SECTORS - s;
    switch (rnd(8)) {
    case 0:
        ck_assert_int_eq(0, im->ops->zero(im->state, s * SECTOR, n * SECTOR));
        memset(tag + s, 0, n);
        break;
    case 1: ck_assert_int_eq(0, im->ops->flush(im->state)); break;
    case 2: /* reads as zeroes or as it was */
        ck_assert_int_eq(0, im->ops->discard(im->state, s * SECTOR, n * SECTOR));
        for (u64 k; n; s += k, n -= k) {
            k = n < 16 ? n : 16;
            ck_assert_int_eq(0, sectors_move(im, false, s, buf, k));
            for (u64 j = 0; j < k; j++) {
                int is = sector_tag(buf + j * SECTOR, s + j);
                ck_assert_msg(!is || is == tag[s + j], "discarded sector %u has %d", (unsigned)(s + j), is);
                tag[s + j] = (u8)is;
            }
        }
        break;
    default: ck_assert_int_eq(0, tags_write(im, s, n, now)); memset(tag + s, now, n);
    }
}

/* Without the host's page cache, where its file system can. */
static struct image image_direct_at(const char *path)
{
    const struct image_options how = { .direct = true, .unit = SECTOR };
    struct vm_error err = { "" };
    struct image im;
    int rc = image_open(&im, path, &how, &err);
    ck_assert_msg(!rc || rc == -ENOTSUP, "%s", err.text);
    return rc ? image_at(path, false) : im;
}

START_TEST(every_variant_reads_what_was_written_now_and_when_it_is_opened_again)
{
    struct qcow2_create how = variants[_i].how;
    u8 tag[SECTORS] = { 0 };
    rng = (u64)_i + 1;
    how.size = SECTORS * SECTOR;
    if (variants[_i].backing) {
        bases_make(tag, variants[_i].backing);
        how.backing = variants[_i].backing == 1 ? "base.raw" : "base.qcow2";
        how.backing_format = variants[_i].backing == 1 ? "raw" : "qcow2";
    }
    image_make(path_of("disk", 0), &how);
    for (unsigned round = 0; round < 4; round++) {
        struct image im = round % 2 ? image_direct_at(path_[0]) : image_at(path_[0], false);
        ck_assert_uint_eq(SECTORS * SECTOR, im.size);
        disk_is(&im, tag, "opened");
        for (unsigned i = 0; i < 150; i++) step(&im, tag, round * 150 + i);
        disk_is(&im, tag, "written");
        image_close(&im);
        struct qcow2_check c = checked(path_[0], false);
        ck_assert_msg(!c.corruptions && !c.leaks, "round %u: %u corruptions, %u leaks", round, (unsigned)c.corruptions,
                      (unsigned)c.leaks);
    }
    if (!has_qemu_img()) return;
    ck_assert_int_eq(0, qemu_img("check %s", path_[0], ""));
    ck_assert_int_eq(0, qemu_img("convert -O raw %s copy.raw", path_[0], ""));
    struct image copy = image_at(path_of("copy.raw", 2), true);
    disk_is(&copy, tag, "as qemu-img has it");
    image_close(&copy);
}
END_TEST

START_TEST(what_qemu_img_has_made_is_read_and_written)
{
    static const char *const options[] = { "compat=0.10",           "compat=1.1",
                                           "cluster_size=512",      "cluster_size=2M,lazy_refcounts=on",
                                           "refcount_bits=1",       "refcount_bits=64,cluster_size=1k",
                                           "preallocation=metadata" };
    char words[200];
    u8 tag[SECTORS] = { 0 };
    if (!has_qemu_img()) return; /* what it writes is made by hand in the other cases */
    snprintf(words, sizeof words, "create -f qcow2 -o %s disk %u", options[_i], SECTORS * SECTOR);
    ck_assert_int_eq(0, qemu_img(words, "", ""));
    struct image im = image_at(path_of("disk", 0), false);
    disk_is(&im, tag, "new");
    for (unsigned i = 0; i < 200; i++) step(&im, tag, i);
    image_close(&im);
    ck_assert_int_eq(0, qemu_img("check %s", path_[0], ""));
    ck_assert_int_eq(0, qemu_img("convert -c -O qcow2 %s packed", path_[0], ""));
    im = image_at(path_of("packed", 0), false);
    disk_is(&im, tag, "compressed");
    for (unsigned i = 0; i < 200; i++) step(&im, tag, i);
    disk_is(&im, tag, "compressed and written to");
    image_close(&im);
    ck_assert_int_eq(0, qemu_img("check %s", path_[0], ""));
}
END_TEST

/* ---- parts of the format ---- */

static const struct qcow2_create plain = { .size = 1 << 20, .version = 3, .cluster_bits = 12, .refcount_order = 4 };

/* The place of the L2 entry of the cluster at `at`. */
static u64 entry_place(const char *path, u64 at, unsigned bits)
{
    u64 per = 1ull << (bits - 3), l1 = peek64(path, 40);
    u64 l2 = peek64(path, l1 + (at >> bits) / per * 8) & QCOW2_OFFSET;
    ck_assert_msg(l2, "no L2 table");
    return l2 + (at >> bits) % per * 8;
}

static void written_at(const char *path, u64 s, u64 n, u8 tag)
{
    struct image im = image_at(path, false);
    ck_assert_int_eq(0, tags_write(&im, s, n, tag));
    image_close(&im);
}

START_TEST(a_compressed_cluster_is_read_and_becomes_an_ordinary_one_when_it_is_written_to)
{
    u8 cluster[4096], packed[4096];
    image_make(path_of("disk", 0), &plain);
    written_at(path_[0], 0, 1, 1);
    for (u64 s = 0; s < 8; s++) sector_fill(cluster + s * SECTOR, 8 + s, s < 7 ? 9 : 0);
    z_stream z = { .next_in = cluster, .avail_in = sizeof cluster, .next_out = packed, .avail_out = sizeof packed };
    ck_assert_int_eq(Z_OK, deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY));
    ck_assert_int_eq(Z_STREAM_END, deflate(&z, Z_FINISH));
    deflateEnd(&z);
    struct stat st;
    stat(path_[0], &st);
    u64 at = (((u64)st.st_size + 4095) & ~4095ull) + 100, n = sizeof packed - z.avail_out; /* not at a sector's start */
    poke(path_[0], at, packed, n);
    u64 sectors = (at % 512 + n + 511) / 512 - 1;
    ck_assert_int_eq(0, truncate(path_[0], (off_t)((at & ~4095ull) + 4096)));
    poke64(path_[0], entry_place(path_[0], 4096, 12), QCOW2_COMPRESSED | sectors << (62 - 4) | at);
    ck_assert_uint_eq(1, checked(path_[0], true).corruptions); /* the cluster was not counted */
    u8 tag[24], got[24 * SECTOR];
    memset(tag, 0, sizeof tag);
    tag[0] = 1;
    memset(tag + 8, 9, 7);
    for (unsigned round = 0; round < 3; round++) {
        struct image im = image_at(path_[0], false);
        if (round == 1) {
            ck_assert_int_eq(0, tags_write(&im, 10, 2, 77));
            tag[10] = tag[11] = 77;
        }
        ck_assert_int_eq(0, sectors_move(&im, false, 0, got, 24));
        for (u64 s = 0; s < 24; s++)
            ck_assert_msg(sector_tag(got + s * SECTOR, s) == tag[s], "round %u, sector %u", round, (unsigned)s);
        image_close(&im);
    }
    struct qcow2_check c = checked(path_[0], false);
    ck_assert_msg(!c.corruptions && !c.leaks, "%u %u", (unsigned)c.corruptions, (unsigned)c.leaks);
}
END_TEST

START_TEST(what_is_packed_wrongly_is_an_error)
{
    u8 got[SECTOR];
    image_make(path_of("disk", 0), &plain);
    written_at(path_[0], 0, 1, 1);
    poke64(path_[0], entry_place(path_[0], 4096, 12), QCOW2_COMPRESSED | 1);
    struct image im = image_at(path_[0], true);
    ck_assert_int_eq(-EIO, sectors_move(&im, false, 8, got, 1));
    ck_assert_int_eq(0, sectors_move(&im, false, 0, got, 1));
    image_close(&im);
}
END_TEST

START_TEST(the_refcount_table_grows)
{
    const struct qcow2_create how = { .size = 4 << 20, .version = 3, .cluster_bits = 9, .refcount_order = 6 };
    image_make(path_of("disk", 0), &how);
    poke(path_[0], 56, "\0\0\0\1", 4); /* 64 blocks, 2 MiB */
    u64 was = peek64(path_[0], 48);
    (void)checked(path_[0], true); /* the rest of the table is free now */
    struct image im = image_at(path_[0], false);
    for (u64 s = 0; s < 8192; s += 64) ck_assert_int_eq(0, tags_write(&im, s, 64, (u8)(1 + s / 64)));
    image_close(&im);
    ck_assert_uint_ne(was, peek64(path_[0], 48));
    struct qcow2_check c = checked(path_[0], false);
    ck_assert_msg(!c.corruptions && !c.leaks, "%u %u", (unsigned)c.corruptions, (unsigned)c.leaks);
    u8 got[SECTOR];
    im = image_at(path_[0], true);
    for (u64 s = 0; s < 8192; s++) {
        ck_assert_int_eq(0, sectors_move(&im, false, s, got, 1));
        ck_assert_int_eq((u8)(1 + s / 64), sector_tag(got, s));
    }
    image_close(&im);
}
END_TEST

START_TEST(what_is_discarded_takes_no_room_on_the_host)
{
    struct stat st;
    image_make(path_of("disk", 0), &plain);
    written_at(path_[0], 0, 2048, 5);
    stat(path_[0], &st);
    ck_assert_int_ge(st.st_blocks, 2048);
    struct image im = image_at(path_[0], false);
    ck_assert_int_eq(0, im.ops->discard(im.state, 0, 1 << 20));
    image_close(&im);
    stat(path_[0], &st);
    ck_assert_int_lt(st.st_blocks, 200);
    ck_assert_uint_eq(0, checked(path_[0], false).leaks);
}
END_TEST

START_TEST(a_snapshot_of_an_image_leaves_it_as_it_is)
{
    struct image im;
    struct vm_error err = { "" };
    const struct image_options how = { .snapshot = true, .unit = SECTOR };
    u8 got[SECTOR];
    image_make(path_of("disk", 0), &plain);
    written_at(path_[0], 3, 1, 5);
    ck_assert_msg(!image_open(&im, path_[0], &how, &err), "%s", err.text);
    ck_assert_int_eq(0, tags_write(&im, 3, 1, 6));
    ck_assert_int_eq(0, sectors_move(&im, false, 3, got, 1));
    ck_assert_int_eq(6, sector_tag(got, 3));
    image_close(&im);
    im = image_at(path_[0], true);
    ck_assert_int_eq(0, sectors_move(&im, false, 3, got, 1));
    ck_assert_int_eq(5, sector_tag(got, 3));
    image_close(&im);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    u64 at;
    const char *bytes;
    u8 n;
    bool v2;
    const char *answer;
} bad[] = {
    { 4, "\0\0\0\4", 4, false, "version 4" },
    { 20, "\0\0\0\x8", 4, false, "size of its clusters" },
    { 20, "\0\0\0\x16", 4, false, "size of its clusters" },
    { 24, "\x7f", 1, false, "too small for its size" },
    { 24, "\xff", 1, false, "too small for its size" },
    { 32, "\0\0\0\1", 4, false, "encrypted" },
    { 36, "\x7f", 1, false, "L1 table is too large" },
    { 36, "\0\0\0\0", 4, true, "too small for its size" },
    { 40, "\0\0\0\0\0\0\0\0", 8, false, "overlap" },
    { 40, "\0\0\0\0\0\0\x10\x08", 8, false, "start of a cluster" },
    { 40, "\1", 1, false, "behind the end of the file" },
    { 48, "\0\0\0\0\x40\0\0\0", 8, false, "behind the end of the file" },
    { 48, "\0\0\0\0\0\0\x10\0", 8, false, "overlap" },
    { 56, "\0\0\0\0", 4, false, "refcount table" },
    { 56, "\1", 1, false, "refcount table" },
    { 72, "\0\0\0\0\0\0\0\4", 8, false, "external data file" },
    { 72, "\0\0\0\0\0\0\0\x10", 8, false, "extended L2" },
    { 72, "\x80", 1, false, "incompatible bit 63" },
    { 72, "\0\0\0\0\0\0\0\2", 8, false, "marked as corrupt" },
    { 60, "\0\0\0\1", 4, false, "internal snapshots" },
    { 96, "\0\0\0\7", 4, false, "width of its refcounts" },
    { 100, "\0\0\0\x40", 4, false, "size of its header" },
    { 100, "\0\1", 2, false, "size of its header" },
    { 8, "\0\0\0\0\0\0\x0f\xff\0\0\0\2", 12, false, "based on is out of range" },
    { 8, "\0\0\0\0\0\0\2\0\0\0\4\0", 12, false, "based on is out of range" },
    { 8, "\0\0\0\0\0\0\2\0\0\0\0\4", 12, false, "header extensions" },
    { 104, "\xe2\x79\x2a\xca\x7f\0\0\0", 8, false, "header extensions" },
    { 4096, "\x80\0\0\0\0\0\x10\0", 8, false, "a table is where another one is" },
    { 4096, "\x80\0\0\0\0\0\x12\0", 8, false, "a table is where another one is" },
};

START_TEST(what_contradicts_itself_or_is_not_known_is_refused_in_one_line)
{
    struct image im;
    struct vm_error err = { "" };
    struct qcow2_create how = plain;
    if (bad[_i].v2) how.version = 2;
    image_make(path_of("disk", 0), &how);
    poke(path_[0], bad[_i].at, bad[_i].bytes, bad[_i].n);
    int rc = image_try(&im, path_[0], VM_FORMAT_PROBE, false, &err);
    ck_assert_msg(rc < 0 && strstr(err.text, bad[_i].answer) && strstr(err.text, path_[0]), "%d %s", rc, err.text);
}
END_TEST

START_TEST(what_is_based_on_itself_or_on_too_many_or_on_none_is_refused)
{
    struct image im;
    struct vm_error err = { "" };
    struct qcow2_create how = plain;
    how.backing = "b";
    how.backing_format = "qcow2";
    image_make(path_of("a", 0), &how);
    ck_assert_int_eq(-ENOENT, image_try(&im, path_[0], 0, false, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "/b: No such file"));
    how.backing = "a";
    image_make(path_of("b", 1), &how);
    ck_assert_int_eq(-ELOOP, image_try(&im, path_[0], 0, true, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "based on itself"));
    for (unsigned i = 0; i < 70; i++) {
        char name[16], base[16];
        snprintf(name, sizeof name, "n%u", i);
        snprintf(base, sizeof base, "n%u", i + 1);
        how.backing = base;
        image_make(path_of(name, 1), &how);
    }
    ck_assert_int_eq(-ELOOP, image_try(&im, path_of("n0", 1), 0, false, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "more than 64"));
    how.backing = "nbd://host/x";
    image_make(path_[0], &how);
    ck_assert_int_eq(-ENOTSUP, image_try(&im, path_[0], 0, false, &err));
    how.backing = "b";
    how.backing_format = "vmdk";
    image_make(path_[0], &how);
    ck_assert_int_eq(-ENOTSUP, image_try(&im, path_[0], 0, false, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "neither raw nor qcow2"));
}
END_TEST

/* An entry that leads to a table of the image's own, as somebody makes it who wants his guest to write there. */
START_TEST(a_guest_never_writes_to_the_images_own_tables)
{
    image_make(path_of("disk", 0), &plain);
    written_at(path_[0], 0, 8, 1);
    u64 place = entry_place(path_[0], 0, 12), block = peek64(path_[0], peek64(path_[0], 48));
    const u64 target[] = { 0, peek64(path_[0], 40), peek64(path_[0], 48), block, place & ~4095ull };
    u64 was[ARRAY_LEN(target)];
    u64 to = target[_i] | QCOW2_COPIED;
    if (!_i) to |= QCOW2_ZERO; /* with offset 0 there is no cluster */
    poke64(path_[0], place, to);
    for (unsigned i = 0; i < ARRAY_LEN(target); i++) was[i] = peek64(path_[0], target[i]);
    struct image im = image_at(path_[0], false);
    int rc = tags_write(&im, 2, 1, 3);
    if (_i) ck_assert_int_eq(-EIO, rc);
    if (_i) ck_assert_int_eq(-EIO, tags_write(&im, 1000, 1, 3)); /* from now on */
    image_close(&im);
    if (_i) ck_assert_uint_eq(QCOW2_CORRUPT, peek64(path_[0], 72));
    for (unsigned i = 0; i < 4 && _i; i++) ck_assert_msg(was[i] == peek64(path_[0], target[i]), "table %u", i);
    ck_assert_uint_eq(0x514649fb00000003, peek64(path_[0], 0));
}
END_TEST

START_TEST(a_free_cluster_that_is_a_table_is_not_given_away)
{
    image_make(path_of("disk", 0), &plain);
    u64 block = peek64(path_[0], peek64(path_[0], 48));
    u8 zero[16] = { 0 };
    poke(path_[0], block, zero, sizeof zero); /* nothing is in use, it says */
    struct image im = image_at(path_[0], false);
    ck_assert_int_eq(-EIO, tags_write(&im, 0, 1, 3));
    image_close(&im);
    ck_assert_uint_eq(0x514649fb00000003, peek64(path_[0], 0));
    struct vm_error err;
    ck_assert_int_eq(-EIO, image_try(&im, path_[0], 0, false, &err)); /* marked */
    ck_assert_uint_lt(0, checked(path_[0], true).corruptions);
    written_at(path_[0], 0, 1, 3); /* repaired */
    ck_assert_uint_eq(0, checked(path_[0], false).corruptions);
}
END_TEST

/* ---- formats and locks ---- */

START_TEST(a_raw_image_whose_format_nobody_said_never_becomes_another)
{
    u8 sector[SECTOR] = QCOW2_MAGIC;
    struct image im;
    struct vm_error err;
    int fd = open(path_of("disk", 0), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(0, ftruncate(fd, 1 << 20));
    close(fd);
    im = image_at(path_[0], false);
    ck_assert_int_eq(-EPERM, sectors_move(&im, true, 0, sector, 1));
    ck_assert_int_eq(0, sectors_move(&im, true, 1, sector, 1));
    image_close(&im);
    ck_assert_uint_eq(0, peek64(path_[0], 0));
    ck_assert_int_eq(0, image_try(&im, path_[0], VM_FORMAT_RAW, false, &err));
    ck_assert_int_eq(0, sectors_move(&im, true, 0, sector, 1));
    image_close(&im);
    ck_assert_int_eq(0, image_try(&im, path_[0], VM_FORMAT_RAW, false, &err)); /* whatever it looks like */
    ck_assert_uint_eq(1 << 20, im.size);
    image_close(&im);
    ck_assert_int_eq(-ENOEXEC,
                     image_try(&im, path_of("none", 1), VM_FORMAT_QCOW2, false, &err) == -ENOENT ? -ENOEXEC : 0);
}
END_TEST

START_TEST(what_an_image_is_based_on_is_shared_by_readers_and_nobody_writes_to_it)
{
    struct image one, two, base;
    struct vm_error err = { "" };
    struct qcow2_create how = plain;
    image_make(path_of("base", 2), &how);
    how.backing = path_[2];
    how.backing_format = "qcow2";
    image_make(path_of("one", 0), &how);
    image_make(path_of("two", 1), &how);
    one = image_at(path_[0], false);
    two = image_at(path_[1], false);
    ck_assert_int_eq(-EBUSY, image_try(&base, path_[2], 0, false, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "another machine uses it"));
    ck_assert_int_eq(-EBUSY, image_try(&base, path_[0], 0, true, &err));
    image_close(&two);
    image_close(&one);
    base = image_at(path_[2], false);
    ck_assert_int_eq(-EBUSY, image_try(&one, path_[0], 0, false, &err));
    ck_assert_ptr_nonnull(strstr(err.text, path_[2]));
    image_close(&base);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("qcow2");
    TCase *t = tcase_create("qcow2");
    tcase_add_checked_fixture(t, folder_make, folder_remove);
    tcase_add_loop_test(t, every_variant_reads_what_was_written_now_and_when_it_is_opened_again, 0,
                        ARRAY_LEN(variants));
    tcase_add_loop_test(t, what_qemu_img_has_made_is_read_and_written, 0, 7);
    tcase_add_test(t, a_compressed_cluster_is_read_and_becomes_an_ordinary_one_when_it_is_written_to);
    tcase_add_test(t, what_is_packed_wrongly_is_an_error);
    tcase_add_test(t, the_refcount_table_grows);
    tcase_add_test(t, what_is_discarded_takes_no_room_on_the_host);
    tcase_add_test(t, a_snapshot_of_an_image_leaves_it_as_it_is);
    tcase_add_loop_test(t, what_contradicts_itself_or_is_not_known_is_refused_in_one_line, 0, ARRAY_LEN(bad));
    tcase_add_test(t, what_is_based_on_itself_or_on_too_many_or_on_none_is_refused);
    tcase_add_loop_test(t, a_guest_never_writes_to_the_images_own_tables, 0, 5);
    tcase_add_test(t, a_free_cluster_that_is_a_table_is_not_given_away);
    tcase_add_test(t, a_raw_image_whose_format_nobody_said_never_becomes_another);
    tcase_add_test(t, what_an_image_is_based_on_is_shared_by_readers_and_nobody_writes_to_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
