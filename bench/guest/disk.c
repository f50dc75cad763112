/* A disk's throughput, or that of a file in its place. In a guest its own page cache is left out (O_DIRECT), so that
 * each request is one of the device's; a contestant's program serves it from the host's page cache, as the host
 * serves its own accesses to the same file, which are measured natively. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGE = 1 << 20, SMALL = 4096, LEAST_NS = 300000000 };

static struct {
    int fd;
    off_t size;
    char *buffer; /* LARGE bytes, aligned */
    uint32_t random;
} disk;

static void at(off_t where, size_t len, int writes)
{
    ssize_t done = writes ? pwrite(disk.fd, disk.buffer, len, where) : pread(disk.fd, disk.buffer, len, where);
    if (done != (ssize_t)len) die("an access to the disk is short");
}

static uint64_t sequential(unsigned n, int writes)
{
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) at((off_t)(i % (unsigned)(disk.size / LARGE)) * LARGE, LARGE, writes);
    return now_ns() - start;
}

static uint64_t anywhere(unsigned n, int writes)
{
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        disk.random = disk.random * 1664525 + 1013904223;
        at((off_t)((disk.random >> 8) % (uint32_t)(disk.size / SMALL)) * SMALL, SMALL, writes);
    }
    return now_ns() - start;
}

/* At least the whole disk, or as much as takes long enough to tell. */
static void speed(const char *prefix, const char *what, unsigned first, uint64_t (*body)(unsigned n, int writes),
                  int writes)
{
    char name[64];
    for (unsigned n = first;; n *= 2) {
        uint64_t took = body(n, writes);
        if (took < LEAST_NS && n < 1u << 24) continue;
        snprintf(name, sizeof name, "%s_%s", prefix, what);
        report(name, (double)took / n / 1e3, "us");
        return;
    }
}

void bench_disk(const char *path, const char *prefix)
{
    struct stat st;

    disk.fd = open(path, O_RDWR | O_CLOEXEC);
    if (disk.fd < 0 || fstat(disk.fd, &st) != 0) die("cannot open the disk");
    if (S_ISBLK(st.st_mode)) {
        close(disk.fd);
        disk.fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
    }
    disk.size = lseek(disk.fd, 0, SEEK_END);
    if (disk.fd < 0 || disk.size < LARGE) die("cannot open the disk, or it is too small");
    if (posix_memalign((void **)&disk.buffer, SMALL, LARGE) != 0) die("no memory");
    memset(disk.buffer, 0x5a, LARGE);
    disk.random = 1;
    speed(prefix, "read", (unsigned)(disk.size / LARGE), sequential, 0);
    speed(prefix, "write", (unsigned)(disk.size / LARGE), sequential, 1);
    speed(prefix, "rread", 256, anywhere, 0);
    speed(prefix, "rwrite", 256, anywhere, 1);
    free(disk.buffer);
    close(disk.fd);
}
