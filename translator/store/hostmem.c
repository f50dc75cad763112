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

static u64 whole_pages(u64 bytes) { return bytes ? (bytes + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1) : PAGE_SIZE; }

u8 *hostmem_map(u64 bytes)
{
    u64 size = whole_pages(bytes), slack = size >= HUGE_BYTES ? HUGE_BYTES : 0;
    u8 *p = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!slack) return p;
    u64 before = -(u64)p & (HUGE_BYTES - 1);
    if (before) munmap(p, before);
    if (before < slack) munmap(p + before + size, slack - before);
    (void)madvise(p + before, size, MADV_HUGEPAGE); /* a host without does without */
    return p + before;
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
static int map_anonymous(u64 size, u8 **rw, u8 **rx)
{
    *rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*rw == MAP_FAILED) return -errno;
    *rx = mremap(*rw, 0, size, MREMAP_MAYMOVE); /* of shared memory, a length of 0 makes a second view */
    return *rx == MAP_FAILED || mprotect(*rx, size, PROT_READ | PROT_EXEC) ? -errno : 0;
}

static int map_file(u64 size, u8 **rw, u8 **rx)
{
    int fd = hostfd(memfd_create("transvisor-code", MFD_CLOEXEC)), err = 0;
    if (fd < 0) return -errno;
    if (ftruncate(fd, (off_t)size) < 0
        || (*rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED
        || (*rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err = -errno;
    close(fd);
    return err;
}

static void unmap_both(u64 size, u8 **rw, u8 **rx)
{
    if (*rx != MAP_FAILED) munmap(*rx, size);
    if (*rw != MAP_FAILED) munmap(*rw, size);
    *rw = *rx = MAP_FAILED;
}

int hostmem_map_code(u64 bytes, bool for_perf, u8 **rw, u8 **rx)
{
    u64 size = whole_pages(bytes);
    *rw = *rx = MAP_FAILED;
    int err = for_perf ? -ENOTSUP : map_file(size, rw, rx);
    if (err) { /* or memfd_create() is refused, or nothing may be executed from its files */
        unmap_both(size, rw, rx);
        err = map_anonymous(size, rw, rx);
    }
    if (!err) return 0;
    unmap_both(size, rw, rx);
    *rw = *rx = NULL;
    return err;
}

void hostmem_unmap(void *p, u64 bytes)
{
    if (p) munmap(p, whole_pages(bytes));
}

void hostmem_prefault(void *base, u64 size, u64 *ready, u64 want, enum hostmem_use use)
{
    while (*ready < want && *ready < size) {
        u64 left = whole_pages(size - *ready), n = left < PREFAULT_BYTES ? left : PREFAULT_BYTES;
        *ready = madvise((u8 *)base + *ready, n, use == HOSTMEM_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ)
                     ? size
                     : *ready + n;
    }
}
