/* qcow2 images that lie. Bytes of an image are changed, its tables most of all; it is refused with a reason or opened,
 * read and written to at random, closed, checked and repaired. Nothing may crash, take memory without bound or run for
 * ever, and whatever a guest writes, what the header says of other files stays as it was: the name of what the image is
 * based on, and where that stands.
 *
 *   fuzz_qcow2 [--seed N] [--count N] [--from N] [--seconds N]
 *
 * Built with -DLIBFUZZER by clang -fsanitize=fuzzer it is a libFuzzer target: an input is an image. */
#define _GNU_SOURCE
#include "src/back/image.h"
#include "src/back/qcow2.h"
#include "src/back/qcow2_format.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512u
#define SECTORS 600u
#define FILE_MAX (4u << 20)

static u64 rng = 1;
static u64 rnd(u64 n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng * 0x2545f4914f6cdd1dull >> 16) % n;
}

/* ---- one case ---- */

static void use(struct image *im)
{
    static u8 buf[64 * SECTOR];
    u64 sectors = im->size / SECTOR;
    for (unsigned i = 0; i < 24; i++) {
        u64 n = 1 + rnd(rnd(3) ? 8 : 64);
        u64 s = rnd(4) ? rnd(sectors < SECTORS ? sectors : SECTORS) : rnd(sectors);
        if (n > sectors - s) n = sectors - s;
        const struct iovec iov = { buf, n * SECTOR };
        memset(buf, (int)rnd(256), n * SECTOR);
        /* What fails is the guest's I/O error. */
        switch (rnd(8)) {
        case 0: (void)!im->ops->flush(im->state); break;
        case 1: (void)!im->ops->zero(im->state, s * SECTOR, n * SECTOR); break;
        case 2: (void)!im->ops->discard(im->state, s * SECTOR, n * SECTOR); break;
        case 3:
        case 4: (void)!im->ops->read(im->state, s * SECTOR, &iov, 1); break;
        default: (void)!im->ops->write(im->state, s * SECTOR, &iov, 1);
        }
    }
}

/* What of a header no guest may reach: all but the bits of features, and where the refcount table is. */
static void head_keep(int fd, u8 *head)
{
    memset(head, 0, SECTOR);
    BUG_ON(pread(fd, head, SECTOR, 0) < 0);
    memset(head + 48, 0, 12);
    memset(head + 72, 0, 8);
    memset(head + 88, 0, 8);
}

/* The image in fd. Returns whether it was opened. */
static bool image_try(int fd)
{
    char path[64];
    u8 before[SECTOR], after[SECTOR];
    struct image im;
    struct vm_error err = { "" };
    struct qcow2_check found;
    struct image_file f;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    head_keep(fd, before);
    const struct image_options how = { .format = VM_FORMAT_QCOW2, .readonly = rnd(8) == 0, .unit = SECTOR };
    int rc = image_open(&im, path, &how, &err);
    BUG_ON(rc && !*err.text); /* each refusal has a reason */
    if (!rc) use(&im);
    image_close(&im);
    head_keep(fd, after);
    BUG_ON(memcmp(before, after, SECTOR));
    if (!image_file_open(&f, path, true, &err)) {
        int checked = qcow2_check(&f, path, rnd(2), &found, &err);
        BUG_ON(checked && !*err.text);
        image_file_close(&f);
    }
    return !rc;
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
    rng = 1 + size;
    image_try(fd);
    close(fd);
    return 0;
}

#else

/* ---- the images that the others are made of ---- */

struct base {
    u8 bytes[FILE_MAX];
    u64 size;
};

static void base_make(struct base *b, unsigned i)
{
    static const struct qcow2_create variants[] = {
        { .size = SECTORS * SECTOR, .version = 3, .cluster_bits = 9, .refcount_order = 4 },
        { .size = SECTORS * SECTOR, .version = 2, .cluster_bits = 12, .refcount_order = 4 },
        { .size = SECTORS * SECTOR, .version = 3, .cluster_bits = 10, .refcount_order = 0, .lazy_refcounts = true },
        { .size = SECTORS * SECTOR, .version = 3, .cluster_bits = 16, .refcount_order = 6 },
    };
    char path[64];
    struct vm_error err;
    struct image_file f;
    struct image im;
    int fd = memfd_create("base", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    BUG_ON(fd < 0 || image_file_open(&f, path, true, &err) || qcow2_make(&f, path, &variants[i % 4], &err));
    image_file_close(&f);
    const struct image_options how = { .format = VM_FORMAT_QCOW2, .unit = SECTOR };
    BUG_ON(image_open(&im, path, &how, &err));
    use(&im);
    image_close(&im);
    ssize_t n = pread(fd, b->bytes, sizeof b->bytes, 0);
    BUG_ON(n <= 0);
    b->size = (u64)n;
    close(fd);
}

static u64 strange(const struct base *b)
{
    u64 cluster = 1ull << (b->bytes[23] & 31);
    u64 v = rnd(b->size / cluster + 3) * cluster;
    switch (rnd(8)) {
    case 0: return rnd(2) ? 0 : ~0ull;
    case 1: return 1ull << rnd(64);
    case 2: return v | QCOW2_COMPRESSED | rnd(1 << 16) << 46;
    case 3: return v | rnd(512);
    case 4: return v | QCOW2_COPIED | QCOW2_ZERO;
    default: return v | QCOW2_COPIED;
    }
}

/* A field of the header, an entry of a table that the header leads to, or any byte. */
static void change(struct base *b)
{
    u64 at = rnd(3) ? qcow2_get64(b->bytes + (rnd(2) ? 40 : 48)) & QCOW2_OFFSET : rnd(14) * 8;
    unsigned depth = (unsigned)rnd(3);
    while (depth-- > 0 && at + 8 <= b->size) {
        u64 next = qcow2_get64(b->bytes + at) & QCOW2_OFFSET;
        if (!next || next >= b->size) break;
        at = next;
    }
    at += 8 * rnd(rnd(2) ? 4 : 64);
    if (!rnd(8)) b->bytes[rnd(b->size)] = (u8)rnd(256);
    else if (!rnd(16)) b->size = 1 + rnd(b->size);
    else if (at + 8 <= b->size && rnd(3)) qcow2_put64(b->bytes + at, strange(b));
    else if (at + 8 <= b->size) b->bytes[at + rnd(8)] = (u8)(rnd(2) ? rnd(256) : 1ull << rnd(8));
}

static u64 now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { "from", required_argument, 0, 'f' },
                                             { "seconds", required_argument, 0, 't' },
                                             { 0 } };
    static struct base base, b;
    u64 seed = 1, count = UINT64_MAX, from = 0, seconds = 0, opened = 0, start = now_s(), i;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?') return 2;
        *(o == 's' ? &seed : o == 'c' ? &count : o == 'f' ? &from : &seconds) = strtoull(optarg, NULL, 0);
    }
    if (count == UINT64_MAX && !seconds) count = 1000;
    for (i = from; i - from < count && (!seconds || now_s() - start < seconds); i++) {
        rng = (seed << 32 ^ i) * 0x9e3779b97f4a7c15ull | 1;
        base_make(&base, (unsigned)i);
        b = base;
        for (u64 n = rnd(4); n-- + 1 > 0;) change(&b);
        int fd = memfd_create("image", MFD_CLOEXEC);
        BUG_ON(fd < 0 || write(fd, b.bytes, b.size) != (ssize_t)b.size);
        opened += image_try(fd);
        close(fd);
    }
    printf("fuzz_qcow2: %llu images, %llu of them were opened\n", (unsigned long long)(i - from),
           (unsigned long long)opened);
    return !opened;
}

#endif
