/* Handlers of an 8-bit chip: the ISA bus splits wider accesses into bytes, lowest port first. BYTE_PORT_OPS(ops, rd,
 * wr) defines struct io_ops ops from u8 rd(void *dev, u32 off) and void wr(void *dev, u32 off, u8 val). */
#ifndef SRC_DEV_BYTE_PORTS_H
#define SRC_DEV_BYTE_PORTS_H
#include "core/bus.h"

#define BYTE_PORT_OPS(ops, rd, wr)                                                 \
    static u32 ops##_read(void *dev, u32 off, unsigned size)                       \
    {                                                                              \
        u32 val = 0;                                                               \
        for (unsigned i = 0; i < size; i++) val |= (u32)rd(dev, off + i) << 8 * i; \
        return val;                                                                \
    }                                                                              \
    static void ops##_write(void *dev, u32 off, unsigned size, u32 val)            \
    {                                                                              \
        for (unsigned i = 0; i < size; i++) wr(dev, off + i, (u8)(val >> 8 * i));  \
    }                                                                              \
    static const struct io_ops ops = { ops##_read, ops##_write }

#endif
