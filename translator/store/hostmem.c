/* Owns how memory is asked of the host. */
#define _GNU_SOURCE
#include "translator/store/hostmem.h"
#include "core/hostfd.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((u64)2 << 20)
#define PREFAULT_BYTES ((u64)64 << 10) /* some tens of microseconds */

#ifndef MADV_POPULATE_READ /* from Linux 5.14 on; before, pages come one by one as they are touched */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static u64 whole_pages(u64 bytes) { return bytes ? (bytes + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1) : PAGE_SIZE; }

/* Anonymous memory, at a multiple of what a huge page covers if it is large enough for one. Or MAP_FAILED. */
static u8 *map_aligned(u64 size, int prot)
{
    u64 slack = size >= HUGE_BYTES ? HUGE_BYTES : 0;
    u8 *p = mmap(NULL, size + slack, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || !slack) return p;
    u64 before = -(u64)p & (HUGE_BYTES - 1);
    if (before) munmap(p, before);
    if (before < slack) munmap(p + before + size, slack - before);
    return p + before;
}

u8 *hostmem_map(u64 bytes)
{
    u64 size = whole_pages(bytes);
    u8 *p = map_aligned(size, PROT_READ | PROT_WRITE);
    if (p == MAP_FAILED) return NULL;
    if (size >= HUGE_BYTES) (void)madvise(p, size, MADV_HUGEPAGE); /* a host without does without */
    return p;
}

u8 *hostmem_map_small(u64 bytes)
{
    u64 size = whole_pages(bytes);
    u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    (void)madvise(p, size, MADV_NOHUGEPAGE); /* a host without has none to give */
    return p;
}

/* perf(1) looks into its map for anonymous memory only. But where memory may not become executable afterwards
 * (PR_SET_MDWE, systemd's MemoryDenyWriteExecute) a file's can be mapped twice, and this cannot. */
static int map_anonymous(u64 size, u8 *rw, u8 *rx)
{
    if (mmap(rw, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
            == MAP_FAILED
        || mremap(rw, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, rx) == MAP_FAILED /* 0 of shared memory: a second view */
        || mprotect(rx, size, PROT_READ | PROT_EXEC))
        return -errno;
    return 0;
}

static int map_file(u64 size, u8 *rw, u8 *rx)
{
    int fd = hostfd(memfd_create("transvisor-code", MFD_CLOEXEC)), err = 0;
    if (fd < 0) return -errno;
    if (ftruncate(fd, (off_t)size) < 0
        || mmap(rw, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED
        || mmap(rx, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        err = -errno;
    close(fd);
    return err;
}

int hostmem_map_code(u64 bytes, bool for_perf, u8 **rw, u8 **rx)
{
    u64 size = whole_pages(bytes);
    *rw = map_aligned(size, PROT_NONE), *rx = map_aligned(size, PROT_NONE);
    int err = *rw == MAP_FAILED || *rx == MAP_FAILED ? -errno : for_perf ? -ENOTSUP : map_file(size, *rw, *rx);
    /* memfd_create() may be refused, or nothing may be executed from its files */
    if (err && *rw != MAP_FAILED && *rx != MAP_FAILED) err = map_anonymous(size, *rw, *rx);
    if (!err) {
        if (size >= HUGE_BYTES) (void)(madvise(*rw, size, MADV_HUGEPAGE) || madvise(*rx, size, MADV_HUGEPAGE));
        return 0;
    }
    if (*rx != MAP_FAILED) munmap(*rx, size);
    if (*rw != MAP_FAILED) munmap(*rw, size);
    *rw = *rx = NULL;
    return err;
}

void hostmem_unmap(void *p, u64 bytes)
{
    if (p) munmap(p, whole_pages(bytes));
}

/* A file's memory comes in huge pages only where the host's administrator has said so for all files; one that is made
 * of a small one that is there (Linux 6.1) does not depend on that. */
static bool huge_page_made(void *base, u64 size, u64 at)
{
    u8 *p = (u8 *)base + at;
    return at % HUGE_BYTES == 0 && size - at >= HUGE_BYTES && !madvise(p, PAGE_SIZE, MADV_POPULATE_WRITE)
           && !madvise(p, HUGE_BYTES, MADV_COLLAPSE);
}

void hostmem_prefault(void *base, u64 size, u64 *ready, u64 want, enum hostmem_use use)
{
    if (use == HOSTMEM_CODE)
        while (*ready < want && *ready < size && huge_page_made(base, size, *ready)) *ready += HUGE_BYTES;
    while (*ready < want && *ready < size) {
        u64 left = whole_pages(size - *ready), n = left < PREFAULT_BYTES ? left : PREFAULT_BYTES;
        *ready = madvise((u8 *)base + *ready, n, use == HOSTMEM_READ ? MADV_POPULATE_READ : MADV_POPULATE_WRITE)
                     ? size
                     : *ready + n;
    }
}
