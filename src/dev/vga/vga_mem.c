/* Owns the way between the CPU and the planes: which of A0000h to BFFFFh is decoded, and what the graphics controller
 * makes of a byte.
 *   I1  Video memory itself is mapped at A0000h iff a byte there is a byte of it, read and written.     [vga_map]
 * Byte 4 * offset + plane of video memory is that plane's. IBM VGA (PS/2 Hardware Interface TR, Video Subsystem),
 * "Graphics Controller", "Sequencer: Memory Mode".
 * NOT-HW: chain-4 and odd/even addressing use offset A >> 2 and A >> 1, where an IBM VGA leaves three, or one, of four
 * offsets unused; so the CRT controller's doubleword and word modes do nothing more (vga_draw.c). A read of memory
 * that is mapped loads no latches. */
#include "src/dev/vga/vga_priv.h"

#include <string.h>

/* ---- where ---- */

/* Offset into the window's memory of what is off bytes above A0000h. False: it is not decoded. */
static bool window_offset(const struct vga *v, u32 off, u32 *at)
{
    static const struct {
        u32 base, len;
    } map[4] = { { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 } };
    unsigned m = v->gr[GR_MISC] >> 2 & 3;

    if (!(v->misc & MISC_RAM) || off - map[m].base >= map[m].len) return false;
    *at = off - map[m].base;
    return true;
}

static u32 bank_at(const struct vga *v) { return vbe_on(v) ? v->vbe[VBE_BANK] * VGA_BANK & (VGA_RAM - 1) : 0; }

/* What is behind chain-4: with VBE all of memory by banks, else the four planes. */
static u32 chained(const struct vga *v, u32 at)
{
    return vbe_on(v) ? (bank_at(v) + at) & (VGA_RAM - 1) : at & (VGA_PLANES_LEN - 1);
}

/* Where the four planes' bytes at this offset are. */
static u32 planar(const struct vga *v, u32 at)
{
    return vbe_on(v) ? (bank_at(v) + at) * 4 & (VGA_RAM - 1) : at * 4 & (VGA_PLANES_LEN - 1);
}

/* Every byte at A0000h to AFFFFh is one byte of memory, as it is. */
static bool is_linear(const struct vga *v)
{
    return (v->seq[SEQ_MEMORY] & SEQ_CHAIN_4) && v->seq[SEQ_MAP_MASK] == 15 && !(v->gr[GR_MODE] & (3 | GR_READ_COMPARE))
           && !v->gr[GR_ENABLE_SET] && !v->gr[GR_ROTATE] && v->gr[GR_BIT_MASK] == 0xff && (v->gr[GR_MISC] >> 2 & 3) < 2
           && (v->misc & MISC_RAM);
}

static const struct io_ops low_ops, high_ops;
static io_fill low_fill, high_fill;

/* Where memory is too short for that, nothing is there, and a guest reads ones. */
static void map_low(struct vga *v)
{
    if (bus_map_mmio(v->bus, VGA_WINDOW, VGA_BANK, &low_ops, v, "VGA window")) return;
    bus_mmio_fills(v->bus, VGA_WINDOW, low_fill);
    bus_mmio_passive(v->bus, VGA_WINDOW);
}

void vga_map(struct vga *v)
{
    bool want = is_linear(v);
    u32 at = bank_at(v);

    if (want && v->window) {
        bus_move_ram_window(v->ram, at);
    } else if (want) {
        bus_unmap_mmio(v->bus, VGA_WINDOW);
        v->window = !bus_map_ram_window(v->bus, VGA_WINDOW, v->ram, at, VGA_BANK, "VGA memory");
        want = v->window;
    } else if (v->window) {
        bus_unmap_ram_window(v->ram);
        v->window = false;
    } else {
        return;
    }
    if (!want) map_low(v);
}

int vga_mem_new(struct vga *v)
{
    int err = bus_map_mmio(v->bus, VGA_WINDOW, VGA_BANK, &low_ops, v, "VGA window");
    if (err) return err;
    err = bus_map_mmio(v->bus, VGA_WINDOW + VGA_BANK, VGA_BANK, &high_ops, v, "VGA window");
    if (err) {
        bus_unmap_mmio(v->bus, VGA_WINDOW);
        return err;
    }
    bus_mmio_fills(v->bus, VGA_WINDOW, low_fill);
    bus_mmio_passive(v->bus, VGA_WINDOW);
    bus_mmio_fills(v->bus, VGA_WINDOW + VGA_BANK, high_fill);
    bus_mmio_passive(v->bus, VGA_WINDOW + VGA_BANK);
    return 0;
}

void vga_mem_free(struct vga *v)
{
    bus_unmap_mmio(v->bus, VGA_WINDOW);
    bus_unmap_mmio(v->bus, VGA_WINDOW + VGA_BANK);
}

void vga_mem_unmap(struct vga *v)
{
    if (!v->window) return;
    bus_unmap_ram_window(v->ram);
    v->window = false;
    map_low(v);
}

/* ---- what ---- */

/* Each bit of a map mask, or of set/reset, as a byte of its plane. */
static u32 planes(unsigned mask)
{
    return ((mask & 1) | (mask & 2) << 7 | (mask & 4) << 14 | (mask & 8) << 21) * 0xffu;
}
static u32 in_all(u8 val) { return val * 0x01010101u; }

static u32 load(const struct vga *v, u32 at)
{
    u32 val;
    memcpy(&val, v->mem + at, sizeof val);
    return val;
}

/* Function select of the data rotate register. */
static u32 combine(const struct vga *v, u32 val)
{
    switch (v->gr[GR_ROTATE] >> 3) {
    case 1: return val & v->latch;
    case 2: return val | v->latch;
    case 3: return val ^ v->latch;
    }
    return val;
}

static u8 rotated(const struct vga *v, u8 val)
{
    unsigned n = v->gr[GR_ROTATE] & 7;
    return (u8)(val >> n | val << (8 - n));
}

/* The four planes' new bytes, where the bit mask does not keep those of the latches. */
static u32 write_data(const struct vga *v, u8 val)
{
    u32 mask = in_all(v->gr[GR_BIT_MASK]), data, set = planes(v->gr[GR_SET_RESET]);

    switch (v->gr[GR_MODE] & 3) {
    case 0: {
        u32 enabled = planes(v->gr[GR_ENABLE_SET]);
        data = combine(v, (in_all(rotated(v, val)) & ~enabled) | (set & enabled));
        break;
    }
    case 1: return v->latch;
    case 2: data = combine(v, planes(val & 15)); break;
    default: data = combine(v, set); mask &= in_all(rotated(v, val));
    }
    return (data & mask) | (v->latch & ~mask);
}

static void write_byte(struct vga *v, u32 off, u8 val)
{
    unsigned map = v->seq[SEQ_MAP_MASK];
    u32 at, to, mask;

    if (!window_offset(v, off, &at)) return;
    if (v->seq[SEQ_MEMORY] & SEQ_CHAIN_4) {
        map &= 1u << (at & 3);
        to = chained(v, at) & ~3u;
    } else if (!(v->seq[SEQ_MEMORY] & SEQ_NO_ODD_EVEN)) {
        map &= at & 1 ? 10 : 5;
        to = (at & ~1u) * 2 & (VGA_PLANES_LEN - 1);
    } else {
        to = planar(v, at);
    }
    if (!map) return;
    mask = planes(map);
    u32 data = (write_data(v, val) & mask) | (load(v, to) & ~mask);
    bus_ram_written(v->ram, to, sizeof data);
    memcpy(v->mem + to, &data, sizeof data);
}

/* A bit is set where the planes that count have the colour that is looked for. */
static u8 compared(const struct vga *v)
{
    u32 differ = (v->latch ^ planes(v->gr[GR_COMPARE])) & planes(v->gr[GR_DONT_CARE]);
    return (u8) ~(differ | differ >> 8 | differ >> 16 | differ >> 24);
}

static u8 read_byte(struct vga *v, u32 off)
{
    unsigned plane = v->gr[GR_READ_MAP];
    u32 at, from;

    if (!window_offset(v, off, &at)) return 0xff;
    if (v->seq[SEQ_MEMORY] & SEQ_CHAIN_4) {
        plane = at & 3;
        from = chained(v, at) & ~3u;
    } else if (v->gr[GR_MODE] & GR_ODD_EVEN) {
        plane = (plane & 2) | (at & 1);
        from = (at & ~1u) * 2 & (VGA_PLANES_LEN - 1);
    } else {
        from = planar(v, at);
    }
    v->latch = load(v, from);
    if (v->gr[GR_MODE] & GR_READ_COMPARE) return compared(v);
    return (u8)(v->latch >> 8 * plane);
}

static u32 low_read(void *dev, u32 off, unsigned size)
{
    u32 val = 0;
    for (unsigned i = 0; i < size; i++) val |= (u32)read_byte(dev, off + i) << 8 * i;
    return val;
}
static void low_write(void *dev, u32 off, unsigned size, u32 val)
{
    for (unsigned i = 0; i < size; i++) write_byte(dev, off + i, (u8)(val >> 8 * i));
}
static u32 high_read(void *dev, u32 off, unsigned size) { return low_read(dev, off + VGA_BANK, size); }
static void high_write(void *dev, u32 off, unsigned size, u32 val) { low_write(dev, off + VGA_BANK, size, val); }

/* Planar memory: what a byte becomes depends on itself, registers and latches alone, none of which a write changes. */
static void fill_planes(struct vga *v, u32 off, unsigned size, u32 val, u32 n)
{
    typedef u32 four __attribute__((vector_size(16)));
    u32 mask = planes(v->seq[SEQ_MAP_MASK]), data[4], first, i = 0;

    if (!mask || !window_offset(v, off, &first)) return;
    for (unsigned k = 0; k < 4; k++) data[k] = write_data(v, (u8)(val >> 8 * (k % size))) & mask;
    n *= size;
    bus_ram_written(v->ram, planar(v, first), (u64)n * 4);
    u8 *p = v->mem + planar(v, first);
    four pattern = { data[0], data[1], data[2], data[3] };
    for (; i + 4 <= n; i += 4) {
        four old;
        memcpy(&old, p + i * 4, sizeof old);
        old = (old & ~mask) | pattern;
        memcpy(p + i * 4, &old, sizeof old);
    }
    for (; i < n; i++) {
        u32 now = (load(v, planar(v, first) + i * 4) & ~mask) | data[i % 4];
        memcpy(p + i * 4, &now, sizeof now);
    }
}
static void low_fill(void *dev, u32 off, unsigned size, u32 val, u32 n)
{
    struct vga *v = dev;
    bool planes_only = !(v->seq[SEQ_MEMORY] & SEQ_CHAIN_4) && v->seq[SEQ_MEMORY] & SEQ_NO_ODD_EVEN;
    u32 first, last, end = off + n * size - 1;

    /* All of it is in one piece of memory, or none of it is. */
    if (planes_only && window_offset(v, off, &first) && window_offset(v, end, &last)
        && planar(v, last) - planar(v, first) == (last - first) * 4)
        fill_planes(v, off, size, val, n);
    else
        for (u32 i = 0; i < n; i++) low_write(dev, off + i * size, size, val);
}
static void high_fill(void *dev, u32 off, unsigned size, u32 val, u32 n)
{
    low_fill(dev, off + VGA_BANK, size, val, n);
}

static const struct io_ops low_ops = { low_read, low_write };
static const struct io_ops high_ops = { high_read, high_write };
