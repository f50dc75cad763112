/* What a device sees: address ranges with handlers, memory of its own, interrupt lines, and DMA into guest RAM.
 * The bus itself is implemented in runtime/mem/; a chip builds against this header alone.
 *
 * Threads. Everything declared here is for the vCPU thread: chips are called on it, and call back on it. What runs on
 * another thread (a disk's worker, a display, a network card's reader) may do two things only: read and write guest
 * memory through pointers that bus_dma_map() or bus_ram_host() has given to the vCPU thread, while they are mapped, and
 * ask for a call on the vCPU thread (rt_post(), rt_kick(): runtime.h). So the worker moves the bytes, and the vCPU
 * thread maps before, unmaps after, and raises the interrupt. */
#ifndef CORE_BUS_H
#define CORE_BUS_H
#include "core/types.h"

#include <sys/uio.h>

struct bus;

/* off is relative to the start of the range; size is 1, 2 or 4 bytes (8 never reaches a device: it is split).
 * A read returns its value in the low size bytes. A missing read floats (all ones), a missing write is dropped. */
struct io_ops {
    u32 (*read)(void *dev, u32 off, unsigned size);
    void (*write)(void *dev, u32 off, unsigned size, u32 val);
};

/* Maps [base, base+len). Borrows ops, dev and name, which outlive the bus. Returns 0, -EBUSY on overlap, -ENOMEM. */
MUST_CHECK int bus_map_pio(struct bus *b, u16 base, u32 len, const struct io_ops *ops, void *dev, const char *name);
MUST_CHECK int bus_map_mmio(struct bus *b, paddr base, u64 len, const struct io_ops *ops, void *dev, const char *name);
void bus_unmap_pio(struct bus *b, u16 base);
void bus_unmap_mmio(struct bus *b, paddr base);
/* The device mapped at base takes equal writes in a row in one call: n of val, at off, off + size, .. */
typedef void io_fill(void *dev, u32 off, unsigned size, u32 val, u32 n);
void bus_mmio_fills(struct bus *b, paddr base, io_fill *fill);
/* An access to the device mapped at base concerns what is in it alone: no interrupt, mapping or clock of the machine's.
 * Translated code is not left for it. */
void bus_mmio_passive(struct bus *b, paddr base);
bool bus_is_passive(const struct bus *b, paddr pa, unsigned size);
/* The device mapped at base takes part in string instructions: n times size bytes from or to the port at off, one after
 * another as IN and OUT would. Returns how many it has moved. 0: it wants them one by one. */
struct io_strings {
    u32 (*in)(void *dev, u32 off, unsigned size, u8 *to, u32 n);
    u32 (*out)(void *dev, u32 off, unsigned size, const u8 *from, u32 n);
};
void bus_pio_strings(struct bus *b, u16 base, const struct io_strings *strings);
/* Maps a read-only memory: reads are memory, writes are dropped. data is borrowed; len is a multiple of 4 KiB. */
MUST_CHECK int bus_map_rom(struct bus *b, paddr base, u64 len, const u8 *data, const char *name);

/* The page of RAM at pa, even where a range covers it: for the chip that decides which is seen there. NULL: there is
 * none. It says so before it writes n bytes within the page; it writes only while the page is covered. */
u8 *bus_ram_behind(struct bus *b, paddr pa);
void bus_ram_behind_written(struct bus *b, paddr pa, unsigned n);
/* Of RAM in [base, base + len), pages: writes by the CPU and by DMA are dropped, or not any more. All else that RAM can
 * stays: code there runs at full speed. */
void bus_ram_readonly(struct bus *b, paddr base, u64 len, bool on);

/* Accesses by the CPU. Unclaimed ports and addresses read as all ones. A port access wider than the device's range, or
 * straddling two, is split into bytes. */
u32 bus_in(struct bus *b, u16 port, unsigned size);
void bus_out(struct bus *b, u16 port, unsigned size, u32 val);
/* Up to n in a row. Returns how many there were; 0: none, they go one by one. */
u32 bus_in_string(struct bus *b, u16 port, unsigned size, u8 *to, u32 n);
u32 bus_out_string(struct bus *b, u16 port, unsigned size, const u8 *from, u32 n);
u32 bus_mmio_read(struct bus *b, paddr pa, unsigned size);
void bus_mmio_write(struct bus *b, paddr pa, unsigned size, u32 val);
/* n writes of val from pa on, which is aligned, all of them within a page. false: nothing there takes them in one call,
 * and none was made. */
bool bus_mmio_fill(struct bus *b, paddr pa, unsigned size, u32 val, u32 n);

/* Memory of a device's own: a frame buffer, a card's RAM. Where it is mapped it is as fast as RAM: the guest may run
 * code in it, windows and direct execution reach it, DMA does. It is zero at first, keeps its contents wherever it is
 * mapped, at one place at a time, and takes up to BUS_DEVICE_RAM_MAX bytes in all. */
struct bus_ram;
#define BUS_DEVICE_RAM_MAX (256ull << 20)
/* len: bytes, a multiple of 4 KiB. 0, -EINVAL, -ENOSPC, or -errno of asking the host for memory. */
MUST_CHECK int bus_ram_new(struct bus_ram **out, struct bus *b, u64 len);
void bus_ram_free(struct bus_ram *r);      /* unmaps it; copes with NULL. No pointer into it is used any more */
u8 *bus_ram_host(const struct bus_ram *r); /* its bytes */
/* The device has written to its bytes by that pointer: code there is retired, and they are dirty. */
void bus_ram_written(struct bus_ram *r, u64 off, u64 len);
/* Maps it at base, a multiple of 4 KiB. 0, -EINVAL, -EBUSY (something is there, or it is mapped), -ENOMEM. */
MUST_CHECK int bus_map_ram(struct bus *b, paddr base, struct bus_ram *r, const char *name);
void bus_unmap_ram(struct bus_ram *r); /* if it is mapped */
/* A second place for a part of it: [off, off + len) is memory at base, and slow to reach at r's own place for as long.
 * There is one such window. Multiples of 4 KiB. 0, -EINVAL, -EBUSY (something is there, or it has one), -ENOMEM. */
MUST_CHECK int bus_map_ram_window(struct bus *b, paddr base, struct bus_ram *r, u64 off, u64 len, const char *name);
void bus_move_ram_window(struct bus_ram *r, u64 off); /* to another part of it; there is one */
void bus_unmap_ram_window(struct bus_ram *r);         /* if there is one */

/* Which pages of r, or of all RAM (r is NULL), have been written since the last dirty_log_take(), or since the log was
 * made: by the guest in whatever way, by DMA, by its own device. A set bit may be one too many, a clear one is true.
 * Pages that are in no log cost nothing. */
struct dirty_log;
MUST_CHECK int dirty_log_new(struct dirty_log **out, struct bus *b, const struct bus_ram *r); /* 0 or -ENOMEM */
void dirty_log_free(struct dirty_log *l);           /* before r; copes with NULL */
u64 dirty_log_pages(const struct dirty_log *l);     /* 4 KiB each, in the order of the file of RAM */
u64 dirty_log_take(struct dirty_log *l, u64 *bits); /* a bit for each, in words of 64; returns how many are set */

/* DMA and loaders: any length, RAM (devices' too) and ROM only; bytes outside read as ones and writes to them are
 * dropped. A write retires translations of what it overwrites. Returns the number of bytes that hit RAM or, read,
 * ROM. */
u64 bus_dma_read(struct bus *b, paddr pa, void *buf, u64 len);
u64 bus_dma_write(struct bus *b, paddr pa, const void *buf, u64 len);

/* DMA by pointer. Map gives a pointer to [pa, pa + *len), *len being cut to what is contiguous; NULL: pa is not RAM.
 * The pointer is good until the unmap, whatever the guest maps meanwhile. What has been written through it counts from
 * the unmap on (DMA_TO_GUEST): only then are translations retired and pages dirty, so unmap comes before the interrupt.
 */
enum dma_dir { DMA_FROM_GUEST, DMA_TO_GUEST };
u8 *bus_dma_map(struct bus *b, paddr pa, u64 *len);
void bus_dma_unmap(struct bus *b, const u8 *p, u64 len, enum dma_dir dir);

/* The same for a list of pieces of guest memory, as descriptors of disks and network cards give it. */
struct dma_seg {
    paddr pa;
    u64 len;
};
/* Copies up to len bytes from byte off of the list on; returns how many there were. */
u64 bus_sg_read(struct bus *b, const struct dma_seg *sg, unsigned nsg, u64 off, void *buf, u64 len);
u64 bus_sg_write(struct bus *b, const struct dma_seg *sg, unsigned nsg, u64 off, const void *buf, u64 len);
/* For preadv() and its like: at most max pieces. Returns their number, -EFAULT (not all of it is RAM), -E2BIG. */
MUST_CHECK int bus_sg_map(struct bus *b, const struct dma_seg *sg, unsigned nsg, struct iovec *iov, unsigned max);
void bus_sg_unmap(struct bus *b, const struct iovec *iov, unsigned n, enum dma_dir dir);

/* What is in [pa, pa+len) is of no use to the guest any more: the host has the memory back, of whole pages of RAM that
 * are seen there and may be written to; all else stays as it is. Zeroes are read there then, or what was there. */
void bus_ram_forget(struct bus *b, paddr pa, u64 len);

u64 bus_ram_size(const struct bus *b); /* bytes of RAM in all */
u64 bus_ram_low(const struct bus *b);  /* bytes of it below the PCI hole; the rest starts at 4 GiB */

/* An interrupt wire. The driver owns the level; the receiver gets (opaque, n, level) on every change of level it is
 * told of. */
struct irq_line {
    void (*set)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n;
};
static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l && l->set) l->set(l->opaque, l->n, level);
}

/* What the CPU asks of the interrupt controller wired to it. */
struct intc_ops {
    int (*acknowledge)(void *dev); /* INTA: the vector, or -1 if the request has gone (spurious without a vector) */
    void (*set_apic_base)(void *dev, u64 msr); /* WRMSR IA32_APIC_BASE; may be NULL */
};

#endif
