/* What a device sees: address ranges with handlers, interrupt lines, and DMA into guest RAM.
 * The bus itself is implemented in runtime/mem/physmem.c; a chip builds against this header alone.
 * All of it runs on the vCPU thread. */
#ifndef CORE_BUS_H
#define CORE_BUS_H
#include "core/types.h"

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
/* Maps a read-only memory: reads are memory, writes are dropped. data is borrowed; len is a multiple of 4 KiB. */
MUST_CHECK int bus_map_rom(struct bus *b, paddr base, u64 len, const u8 *data, const char *name);

/* Accesses by the CPU. Unclaimed ports and addresses read as all ones. A port access wider than the device's range, or
 * straddling two, is split into bytes. */
u32 bus_in(struct bus *b, u16 port, unsigned size);
void bus_out(struct bus *b, u16 port, unsigned size, u32 val);
u32 bus_mmio_read(struct bus *b, paddr pa, unsigned size);
void bus_mmio_write(struct bus *b, paddr pa, unsigned size, u32 val);

/* DMA and loaders: any length, RAM and ROM only; bytes outside RAM read as ones and writes to them are dropped.
 * A write retires translations of what it overwrites. Returns the number of bytes that hit RAM. */
u64 bus_dma_read(struct bus *b, paddr pa, void *buf, u64 len);
u64 bus_dma_write(struct bus *b, paddr pa, const void *buf, u64 len);
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

/* A byte stream to the outside (serial line, console). The backend calls rx on the vCPU thread. */
struct chardev;
struct chardev_ops {
    void (*write)(void *be, const u8 *buf, size_t n); /* never blocks for long */
    void (*free)(void *be);
};
struct chardev {
    const struct chardev_ops *ops;
    void *be;
    void (*rx)(void *fe, const u8 *buf, size_t n); /* set by the chip that sits in front */
    void *fe;
};
static inline void chardev_write(struct chardev *c, const u8 *buf, size_t n)
{
    if (c && c->ops && c->ops->write) c->ops->write(c->be, buf, n);
}

#endif
