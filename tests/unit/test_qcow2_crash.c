/* What a qcow2 image holds when its writer has died after any of its writes to the file, by kill -9 (all that it wrote
 * is there), by a power cut (what it wrote after the last sync is there in parts, sector by sector), or when the host's
 * disk was full: nothing is lost that a flush has promised, and a repair leaves nothing wrong.
 *
 * This program's pwritev(), fdatasync() and fallocate() take the place of the C library's, and keep a journal. */
#define _GNU_SOURCE
#include "qcow2_model.h"

#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- the journal ---- */

struct entry {
    enum { ENTRY_WRITE, ENTRY_PUNCH, ENTRY_SYNC } kind;
    u64 at, n;
    u8 *data;
};
static struct {
    struct entry e[40000];
    unsigned n;
    bool on;
    unsigned fail_from, fail_to, calls; /* writes that find the disk full */
    bool sync_fails;
} journal;

static void note(int kind, u64 at, u64 n, const void *data)
{
    if (!journal.on) return;
    ck_assert_uint_lt(journal.n, ARRAY_LEN(journal.e));
    struct entry *e = &journal.e[journal.n++];
    *e = (struct entry){ kind, at, n, data ? malloc(n) : NULL };
    if (data) memcpy(e->data, data, n);
}

/* Pieces are written, and fail, one by one: as a call that is cut short may have it. */
ssize_t pwritev(int fd, const struct iovec *iov, int niov, off_t at)
{
    ssize_t done = 0;
    for (int i = 0; i < niov; done += (ssize_t)iov[i++].iov_len) {
        if (journal.on && journal.calls++ >= journal.fail_from && journal.calls <= journal.fail_to) {
            errno = ENOSPC;
            return done ? done : -1;
        }
        note(ENTRY_WRITE, (u64)(at + done), iov[i].iov_len, iov[i].iov_base);
        if (pwrite(fd, iov[i].iov_base, iov[i].iov_len, at + done) != (ssize_t)iov[i].iov_len) ck_abort();
    }
    return done;
}
int fdatasync(int fd UNUSED)
{
    if (journal.sync_fails) {
        errno = EIO;
        return -1;
    }
    note(ENTRY_SYNC, 0, 0, NULL);
    return 0;
}
int fallocate(int fd, int mode, off_t at, off_t n)
{
    note(ENTRY_PUNCH, (u64)at, (u64)n, NULL);
    return (int)syscall(SYS_fallocate, fd, mode, at, n);
}

static void journal_clear(void)
{
    for (unsigned i = 0; i < journal.n; i++) free(journal.e[i].data);
    memset(&journal, 0, sizeof journal);
}

/* ---- what may be read after a crash ---- */

#define SECTORS 300u
#define STEPS 50u

/* For each sector: the tag that a flush has promised, and those that have been written since: any of them may be there.
 * A bit for each tag, of which there are fewer than 64. */
struct promise {
    u64 may[SECTORS];
};
static struct {
    unsigned upto; /* entries of the journal when this was so */
    struct promise p;
} history[STEPS + 2];
static unsigned moments;

static void remember(const struct promise *p)
{
    history[moments].upto = journal.n;
    history[moments++].p = *p;
}

static const struct {
    struct qcow2_create how;
    bool backing;
} variants[] = {
    { { .version = 3, .cluster_bits = 9, .refcount_order = 4 }, true },
    { { .version = 2, .cluster_bits = 10, .refcount_order = 4 }, false },
    { { .version = 3, .cluster_bits = 9, .refcount_order = 6 }, false },
    { { .version = 3, .cluster_bits = 11, .refcount_order = 4, .lazy_refcounts = true }, true },
};

static void disk_make(unsigned v, struct promise *p)
{
    struct qcow2_create how = variants[v].how;
    how.size = SECTORS * SECTOR;
    for (unsigned s = 0; s < SECTORS; s++) p->may[s] = 1;
    if (variants[v].backing) {
        u8 buf[SECTOR];
        int fd = open(path_of("base", 2), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        for (unsigned s = 0; s < SECTORS / 2; s++) {
            sector_fill(buf, s, 63);
            ck_assert_int_eq(SECTOR, pwrite(fd, buf, SECTOR, s * SECTOR));
            p->may[s] = 1ull << 63;
        }
        close(fd);
        how.backing = "base";
        how.backing_format = "raw";
    }
    image_make(path_of("disk", 0), &how);
}

/* One request; p becomes what may be read from the moment on in which it begins. The last tag is kept in now. */
static int step(struct image *im, unsigned i, struct promise *p, u8 *now)
{
    u64 s = rnd(SECTORS), n = 1 + rnd(rnd(3) ? 6 : 60);
    u8 tag = (u8)(1 + i % 60);
    int rc;
    if (n > SECTORS - s) n = SECTORS - s;
    unsigned kind = (unsigned)rnd(10);
    if (kind == 0) {
        rc = im->ops->flush(im->state);
        if (!rc)
            for (unsigned k = 0; k < SECTORS; k++) p->may[k] = now[k] == 0xff ? p->may[k] : 1ull << now[k];
        return rc;
    }
    if (kind < 3) tag = 0;
    for (u64 k = s; k < s + n; k++) p->may[k] |= 1ull << tag;
    if (kind == 1) rc = im->ops->zero(im->state, s * SECTOR, n * SECTOR);
    else if (kind == 2) rc = im->ops->discard(im->state, s * SECTOR, n * SECTOR);
    else rc = tags_write(im, s, n, tag);
    /* What a discard or a failure leaves is not known. */
    for (u64 k = s; k < s + n; k++) now[k] = rc || kind == 2 ? 0xff : tag;
    return rc;
}

static void record(unsigned v, u64 seed)
{
    struct promise p;
    u8 now[SECTORS];
    moments = 0;
    rng = seed;
    disk_make(v, &p);
    for (unsigned s = 0; s < SECTORS; s++) now[s] = variants[v].backing && s < SECTORS / 2 ? 63 : 0;
    struct image im = image_at(path_[0], false);
    journal_clear();
    journal.on = true;
    for (unsigned i = 0; i < STEPS; i++) {
        struct promise before = p;
        /* What a request may leave holds from its first write on; what a flush promises from its end on. */
        int rc = step(&im, i, &p, now);
        ck_assert_int_eq(0, rc);
        for (unsigned s = 0; s < SECTORS; s++) before.may[s] |= p.may[s];
        remember(&before);
        history[moments - 1].upto = journal.n;
    }
    struct promise end = p;
    image_close(&im);
    remember(&end);
    journal.on = false;
}

/* ---- the file after a crash ---- */

static struct {
    u8 bytes[8 << 20];
    u64 size;
} file;

static void apply(const struct entry *e, bool torn)
{
    u64 end = e->at + e->n;
    if (e->kind == ENTRY_SYNC) return;
    ck_assert_uint_le(end, sizeof file.bytes);
    if (e->kind == ENTRY_WRITE && end > file.size) file.size = end;
    for (u64 at = e->at, n; at < end; at += n) {
        n = SECTOR - at % SECTOR < end - at ? SECTOR - at % SECTOR : end - at;
        if (torn && rnd(2)) continue;
        if (e->kind == ENTRY_WRITE) memcpy(file.bytes + at, e->data + (at - e->at), n);
        else memset(file.bytes + at, 0, n);
    }
}

/* The first upto entries; of those after the last sync only parts if there is a power cut. */
static void crash(const u8 *start, u64 size, unsigned upto, bool power, const char *path)
{
    unsigned sync = 0;
    memset(file.bytes, 0, sizeof file.bytes);
    memcpy(file.bytes, start, size);
    file.size = size;
    for (unsigned i = 0; i < upto; i++)
        if (journal.e[i].kind == ENTRY_SYNC) sync = i;
    for (unsigned i = 0; i < upto; i++) apply(&journal.e[i], power && i > sync);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_eq((ssize_t)file.size, pwrite(fd, file.bytes, file.size, 0));
    close(fd);
}

static void disk_keeps(struct image *im, const struct promise *p, const char *how, unsigned upto)
{
    static u8 buf[SECTORS * SECTOR];
    ck_assert_int_eq(0, sectors_move(im, false, 0, buf, SECTORS));
    for (unsigned s = 0; s < SECTORS; s++) {
        int tag = sector_tag(buf + s * SECTOR, s);
        ck_assert_msg(tag >= 0 && tag < 64 && p->may[s] >> tag & 1,
                      "%s after entry %u of %u: sector %u has %d, not one of %llx", how, upto, journal.n, s, tag,
                      (unsigned long long)p->may[s]);
    }
}

/* Whoever goes on without a repair harms nothing. */
static void goes_on(const char *path, const struct promise *p, const char *how, unsigned upto)
{
    struct promise q = *p;
    struct image im = image_at(path, false);
    for (unsigned i = 0; i < 6; i++) {
        u64 s = rnd(SECTORS - 8);
        ck_assert_int_eq(0, tags_write(&im, s, 8, 62));
        for (unsigned k = 0; k < 8; k++) q.may[s + k] = 1ull << 62;
    }
    disk_keeps(&im, &q, how, upto);
    image_close(&im);
    im = image_at(path, true);
    disk_keeps(&im, &q, how, upto);
    image_close(&im);
}

START_TEST(nothing_that_was_flushed_is_lost_wherever_the_writer_dies)
{
    static u8 start[8 << 20];
    unsigned v = (unsigned)_i % ARRAY_LEN(variants), moment = 0;
    struct promise p;
    rng = (u64)_i + 1;
    disk_make(v, &p);
    int fd = open(path_[0], O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, start, sizeof start);
    close(fd);
    record(v, (u64)_i + 1);
    ck_assert_uint_gt(journal.n, 100);
    for (unsigned upto = 0; upto <= journal.n; upto++) {
        while (moment + 1 < moments && history[moment].upto < upto) moment++;
        const struct promise *may = &history[moment].p;
        for (unsigned round = 0; round < 3; round++) {
            const char *how = round ? "power cut" : "kill";
            if (round > 1 && upto % 4) continue;
            crash(start, (u64)size, upto, round, path_[0]);
            if (round == 2) {
                goes_on(path_[0], may, "going on", upto);
                continue;
            }
            struct qcow2_check c = checked(path_[0], true);
            ck_assert_msg(!c.left, "%s after entry %u: %u left", how, upto, (unsigned)c.left);
            if (!variants[v].how.lazy_refcounts)
                ck_assert_msg(!c.corruptions, "%s after entry %u: %u corruptions", how, upto, (unsigned)c.corruptions);
            c = checked(path_[0], false);
            ck_assert_msg(!c.corruptions && !c.leaks, "%s after entry %u: %u, %u after the repair", how, upto,
                          (unsigned)c.corruptions, (unsigned)c.leaks);
            struct image im = image_at(path_[0], true);
            disk_keeps(&im, may, how, upto);
            image_close(&im);
        }
    }
}
END_TEST

START_TEST(a_full_disk_of_the_hosts_loses_nothing)
{
    unsigned v = (unsigned)_i % ARRAY_LEN(variants), failures = 0;
    for (unsigned from = 0; from < 120; from += 5) {
        struct promise p;
        u8 now[SECTORS];
        rng = (u64)_i + 1;
        disk_make(v, &p);
        for (unsigned s = 0; s < SECTORS; s++) now[s] = variants[v].backing && s < SECTORS / 2 ? 63 : 0;
        struct image im = image_at(path_[0], false);
        journal_clear();
        journal.on = true;
        journal.fail_from = from;
        journal.fail_to = from + 1 + from % 40;
        for (unsigned i = 0; i < 50; i++) {
            int rc = step(&im, i, &p, now);
            ck_assert_msg(!rc || rc == -ENOSPC, "%d", rc);
            failures += rc != 0;
        }
        journal.fail_from = journal.fail_to = 0; /* there is room again */
        ck_assert_int_eq(0, im.ops->flush(im.state));
        disk_keeps(&im, &p, "full", from);
        image_close(&im);
        journal.on = false;
        im = image_at(path_[0], true);
        disk_keeps(&im, &p, "opened again", from);
        image_close(&im);
        struct qcow2_check c = checked(path_[0], false);
        ck_assert_msg(!c.corruptions, "%u corruptions", (unsigned)c.corruptions);
    }
    ck_assert_uint_gt(failures, 20);
}
END_TEST

START_TEST(when_a_sync_has_failed_nothing_is_written_any_more)
{
    struct promise p;
    rng = 1;
    disk_make(0, &p);
    struct image im = image_at(path_[0], false);
    journal_clear();
    ck_assert_int_eq(0, tags_write(&im, 0, 8, 1));
    journal.sync_fails = true;
    ck_assert_int_eq(-EIO, im.ops->flush(im.state));
    journal.sync_fails = false;
    journal.on = true;
    ck_assert_int_eq(-EIO, tags_write(&im, 0, 8, 2));
    ck_assert_int_eq(-EIO, im.ops->flush(im.state));
    image_close(&im);
    ck_assert_uint_eq(0, journal.n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("qcow2_crash");
    TCase *t = tcase_create("qcow2_crash");
    pieces_are_whole = true;
    tcase_add_checked_fixture(t, folder_make, folder_remove);
    tcase_add_loop_test(t, nothing_that_was_flushed_is_lost_wherever_the_writer_dies, 0, ARRAY_LEN(variants));
    tcase_add_loop_test(t, a_full_disk_of_the_hosts_loses_nothing, 0, ARRAY_LEN(variants));
    tcase_add_test(t, when_a_sync_has_failed_nothing_is_written_any_more);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
