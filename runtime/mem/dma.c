/* Owns DMA by pointer, and by lists of pieces. What is copied at once is physmem.c's bus_dma_read() and
 * bus_dma_write().
 *
 *   I1  Between map and unmap the guest may run code in the memory, and look at it; at unmap all that was cached of it
 *       is gone, and it is dirty.                                                                     [bus_dma_unmap]
 */
#define _GNU_SOURCE /* MADV_REMOVE */
#include "core/bus.h"
#include "runtime/mem/physmem.h"

#include <errno.h>
#include <sys/mman.h>

/* Which way the bytes will go is not known yet: what may not be written has no pointer. */
static u8 *writable_ptr(struct bus *b, paddr pa)
{
    const u8 *flags = bus_page_flags(b, pa);
    return flags && !(*flags & PG_ROM) ? bus_ram_ptr(b, pa) : NULL;
}

u8 *bus_dma_map(struct bus *b, paddr pa, u64 *len)
{
    u8 *p = writable_ptr(b, pa);
    if (!p || !*len) return NULL;
    u64 got = PAGE_SIZE - (pa & (PAGE_SIZE - 1));
    while (got < *len && writable_ptr(b, pa + got) == p + got) got += PAGE_SIZE;
    if (got < *len) *len = got;
    return p;
}

void bus_dma_unmap(struct bus *b, const u8 *p, u64 len, enum dma_dir dir)
{
    if (dir == DMA_FROM_GUEST) return;
    for (u64 done = 0, n; done < len; done += n) {
        n = PAGE_SIZE - ((u64)(p + done) & (PAGE_SIZE - 1));
        if (n > len - done) n = len - done;
        bus_host_written(b, p + done, (unsigned)n);
    }
}

void bus_ram_forget(struct bus *b, paddr pa, u64 len)
{
    const paddr end = (pa + len) & ~(paddr)(PAGE_SIZE - 1);
    for (pa = (pa + PAGE_SIZE - 1) & ~(paddr)(PAGE_SIZE - 1); pa < end;) {
        u64 n = end - pa;
        u8 *p = bus_dma_map(b, pa, &n);
        bool ram = p && (u64)bus_ram_offset(b, pa) < bus_ram_size(b);
        /* Of a file; where its file system cannot, what was there stays. */
        if (ram && !madvise(p, n, MADV_REMOVE)) bus_dma_unmap(b, p, n, DMA_TO_GUEST);
        pa += p ? n : PAGE_SIZE;
    }
}

/* Calls copy for each piece of [off, off+len) of the list. */
static u64 sg_walk(struct bus *b, const struct dma_seg *sg, unsigned nsg, u64 off, u8 *buf, u64 len, bool write)
{
    u64 done = 0;
    for (unsigned i = 0; i < nsg && done < len; i++) {
        if (off >= sg[i].len) {
            off -= sg[i].len;
            continue;
        }
        u64 n = sg[i].len - off < len - done ? sg[i].len - off : len - done;
        if (write) bus_dma_write(b, sg[i].pa + off, buf + done, n);
        else bus_dma_read(b, sg[i].pa + off, buf + done, n);
        done += n;
        off = 0;
    }
    return done;
}

u64 bus_sg_read(struct bus *b, const struct dma_seg *sg, unsigned nsg, u64 off, void *buf, u64 len)
{
    return sg_walk(b, sg, nsg, off, buf, len, false);
}

u64 bus_sg_write(struct bus *b, const struct dma_seg *sg, unsigned nsg, u64 off, const void *buf, u64 len)
{
    return sg_walk(b, sg, nsg, off, (u8 *)buf, len, true);
}

int bus_sg_map(struct bus *b, const struct dma_seg *sg, unsigned nsg, struct iovec *iov, unsigned max)
{
    unsigned n = 0;
    for (unsigned i = 0; i < nsg; i++)
        for (u64 done = 0, got; done < sg[i].len; done += got) {
            got = sg[i].len - done;
            u8 *p = bus_dma_map(b, sg[i].pa + done, &got);
            if (!p) return -EFAULT;
            bool goes_on = n && (u8 *)iov[n - 1].iov_base + iov[n - 1].iov_len == p;
            if (goes_on) {
                iov[n - 1].iov_len += got;
                continue;
            }
            if (n == max) return -E2BIG;
            iov[n++] = (struct iovec){ p, got };
        }
    return (int)n;
}

void bus_sg_unmap(struct bus *b, const struct iovec *iov, unsigned n, enum dma_dir dir)
{
    for (unsigned i = 0; i < n; i++) bus_dma_unmap(b, iov[i].iov_base, iov[i].iov_len, dir);
}
