/* Owns how memory is asked of the host. */
#define _GNU_SOURCE
#include "translator/hostmem.h"

#include <errno.h>
#include <sys/mman.h>

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

/* Not a file's, not even one in memory only: perf(1) takes the names of what runs here out of its map (--perf-map) for anonymous memory only. */
int hostmem_map_code(u64 bytes, u8 **rw, u8 **rx)
{
    u64 size = whole_pages(bytes);
    *rw = *rx = NULL;
    u8 *w = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w == MAP_FAILED) return -errno;
    u8 *x = mremap(w, 0, size, MREMAP_MAYMOVE); /* of shared memory, a length of 0 makes a second view */
    if (x == MAP_FAILED || mprotect(x, size, PROT_READ | PROT_EXEC)) {
        int err = errno;
        if (x != MAP_FAILED) munmap(x, size);
        munmap(w, size);
        return -err;
    }
    *rw = w, *rx = x;
    return 0;
}

void hostmem_unmap(void *p, u64 bytes)
{
    if (p) munmap(p, whole_pages(bytes));
}

void hostmem_prefault(void *base, u64 size, u64 *ready, u64 want, enum hostmem_use use)
{
    while (*ready < want && *ready < size) {
        u64 left = whole_pages(size - *ready), n = left < PREFAULT_BYTES ? left : PREFAULT_BYTES;
        *ready = madvise((u8 *)base + *ready, n, use == HOSTMEM_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) ? size : *ready + n;
    }
}
