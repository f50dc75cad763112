/* Owns guest physical memory and the port space: RAM, what covers it (device memory, ROM), and dispatch to devices.
 *
 * RAM is one memfd. File offset 0 is physical 0; RAM above 3 GiB makes room for the PCI hole and goes on at 4 GiB:
 *
 *     physical   0 .. low               low = min(size, 3 GiB)
 *                4 GiB .. 4 GiB + high   high = size - low
 *
 * The RAM view is a reservation as large as the physical addresses in use, with RAM mapped in its place and nothing in
 * between, so that host pointer = view + pa, and a pointer that strays past RAM faults instead of finding host memory.
 *
 *   I1  A RAM pointer is handed out only for pages of RAM that no range touches (covered[] is 0).  [cover_pages]
 *   I2  Ranges are sorted by base and do not overlap.                                              [insert_range]
 *   I3  A write to a page with PG_CODE that is made here is announced before it happens.           [code_written]
 *   I4  Nothing here trusts an address, size or offset: what is not RAM and not a range floats (reads ones, drops
 *       writes).
 *
 * Enter at bus_phys_read(), bus_in(), bus_dma_read(). */
#define _GNU_SOURCE
#include "runtime/mem/physmem.h"
#include "runtime/mem/coherence.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GIB (1ull << 30)
#define LOW_MAX (3 * GIB)
#define HIGH_BASE (4 * GIB)
#define RAM_MAX (7 * GIB / 2)
#define PORTS 65536u
#define NO_PAGE UINT64_MAX
#define OFFSET_MASK ((paddr)PAGE_SIZE - 1)

struct range {
    u64 base, len;            /* len 0: a free slot (ports only) */
    const struct io_ops *ops; /* NULL: ROM */
    void *dev;
    const u8 *rom;
    const char *name;
};

struct bus {
    u8 *view;
    u64 view_len;        /* bytes reserved */
    u64 size, low, high; /* bytes of RAM */
    int fd;
    u8 *flags;   /* per page of RAM, by file offset: enum page_flag */
    u8 *covered; /* likewise: 1 if a range touches the page */

    struct range *range; /* device memory and ROM, sorted */
    unsigned nranges;
    struct range *port_range; /* slots; port[] holds slot + 1 */
    unsigned nports;
    u16 port[PORTS];

    struct coherence coherence;
    u32 remaps;
};

/* Without vector registers: the guest's may be live in them. */
static void copy_bytes(void *dst, const void *src, u64 n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
static void fill_ones(void *dst, u64 n) { __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(0xff) : "memory"); }

/* ---- lifetime ---- */

static int map_ram(struct bus *b)
{
    b->fd = memfd_create("guest-ram", MFD_CLOEXEC);
    if (b->fd < 0 || ftruncate(b->fd, (off_t)b->size) < 0) return -errno;
    b->view_len = (b->high ? HIGH_BASE + b->high : b->low) + PAGE_SIZE;
    void *p = mmap(NULL, b->view_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return -errno;
    b->view = p;
    if (mmap(b->view, b->low, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, b->fd, 0) == MAP_FAILED) return -errno;
    if (b->high
        && mmap(b->view + HIGH_BASE, b->high, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, b->fd, (off_t)b->low)
               == MAP_FAILED)
        return -errno;
    return 0;
}

int bus_new(struct bus **out, u64 ram_size)
{
    if (!ram_size || ram_size > RAM_MAX || ram_size & OFFSET_MASK) return -EINVAL;
    struct bus *b = calloc(1, sizeof *b);
    if (!b) return -ENOMEM;
    b->fd = -1;
    b->size = ram_size;
    b->low = ram_size < LOW_MAX ? ram_size : LOW_MAX;
    b->high = ram_size - b->low;
    b->flags = calloc(ram_size >> PAGE_SHIFT, 1);
    b->covered = calloc(ram_size >> PAGE_SHIFT, 1);
    int err = b->flags && b->covered ? map_ram(b) : -ENOMEM;
    if (err) {
        bus_free(b);
        return err;
    }
    *out = b;
    return 0;
}

void bus_free(struct bus *b)
{
    if (!b) return;
    if (b->view) munmap(b->view, b->view_len);
    if (b->fd >= 0) close(b->fd);
    free(b->flags);
    free(b->covered);
    free(b->range);
    free(b->port_range);
    free(b);
}

struct coherence *bus_coherence(struct bus *b) { return &b->coherence; }
u32 bus_remaps(const struct bus *b) { return b->remaps; }

/* ---- RAM ---- */

u64 bus_ram_size(const struct bus *b) { return b->size; }
u64 bus_ram_low(const struct bus *b) { return b->low; }
int bus_ram_fd(const struct bus *b) { return b->fd; }

/* ---- residence ---- */

#define NEAR_PAGES 16u /* 64 KiB: a kernel that boots touches three quarters of those it touches one page of */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* [pa, pa+len) is RAM. A host that cannot (before Linux 5.14) faults the pages in one by one. */
static void populate(struct bus *b, paddr pa, u64 len)
{
    paddr first = pa & ~OFFSET_MASK;
    (void)!madvise(b->view + first, pa + len - first, MADV_POPULATE_WRITE);
}

void bus_touch(struct bus *b, paddr pa)
{
    u64 page = (u64)bus_ram_offset(b, pa) >> PAGE_SHIFT, first = page - page % NEAR_PAGES;
    u64 end = pa < HIGH_BASE ? b->low >> PAGE_SHIFT : b->size >> PAGE_SHIFT;
    u64 n = end - first < NEAR_PAGES ? end - first : NEAR_PAGES;
    for (u64 i = first; i < first + n; i++) b->flags[i] |= PG_NEAR;
    populate(b, pa - ((page - first) << PAGE_SHIFT), n << PAGE_SHIFT);
}

s64 bus_ram_offset(const struct bus *b, paddr pa)
{
    if (pa < b->low) return (s64)pa;
    if (pa >= HIGH_BASE && pa - HIGH_BASE < b->high) return (s64)(pa - HIGH_BASE + b->low);
    return -1;
}

/* Index of pa's page in flags[], NO_PAGE if its memory is not (only) RAM. */
static inline u64 ram_page(const struct bus *b, paddr pa)
{
    s64 off = bus_ram_offset(b, pa);
    if (unlikely(off < 0)) return NO_PAGE;
    u64 page = (u64)off >> PAGE_SHIFT;
    return likely(!b->covered[page]) ? page : NO_PAGE;
}

u8 *bus_ram_ptr(struct bus *b, paddr pa) { return ram_page(b, pa) == NO_PAGE ? NULL : b->view + pa; }

u8 *bus_page_flags(struct bus *b, paddr pa)
{
    u64 page = ram_page(b, pa);
    return page == NO_PAGE ? NULL : &b->flags[page];
}

/* ---- code in RAM ---- */

void bus_mark_code(struct bus *b, paddr page)
{
    u8 *flags = bus_page_flags(b, page);
    if (!flags || *flags & PG_CODE) return;
    *flags |= PG_CODE;
    coherence_protect(&b->coherence, page & ~OFFSET_MASK);
}

/* The code in a page of the file goes, as far as [pa, pa+len) overlaps it; what was known of the whole page does. */
static void code_written(struct bus *b, u64 page, paddr pa, unsigned len)
{
    u8 *flags = &b->flags[page], was = *flags;
    if (likely(!(was & PG_CODE))) return;
    *flags &= (u8) ~(PG_DIRECT | PG_INDIRECT);
    if (!coherence_written(&b->coherence, pa, len, was)) *flags &= (u8)~PG_CODE;
}

void bus_code_write(struct bus *b, paddr pa, unsigned len)
{
    s64 off = bus_ram_offset(b, pa);
    if (off >= 0) code_written(b, (u64)off >> PAGE_SHIFT, pa, len);
}

/* ---- ranges over physical memory ---- */

/* The first range that ends above pa; nranges if there is none. */
static unsigned range_from(const struct bus *b, paddr pa)
{
    unsigned lo = 0, hi = b->nranges;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (b->range[mid].base + b->range[mid].len > pa) hi = mid;
        else lo = mid + 1;
    }
    return lo;
}

static const struct range *range_at(const struct bus *b, paddr pa)
{
    unsigned i = range_from(b, pa);
    return i < b->nranges && b->range[i].base <= pa ? &b->range[i] : NULL;
}

/* Recomputes covered[] for the pages of RAM that [base, base+len) touches, and tells whoever caches RAM pointers. */
static void cover_pages(struct bus *b, u64 base, u64 len)
{
    bool changed = false;
    const struct {
        u64 from, to;
    } ram[] = { { 0, b->low }, { HIGH_BASE, HIGH_BASE + b->high } };
    for (unsigned i = 0; i < ARRAY_LEN(ram); i++) {
        u64 from = base > ram[i].from ? base & ~OFFSET_MASK : ram[i].from;
        u64 to = base + len < ram[i].to ? base + len : ram[i].to;
        for (u64 pa = from; pa < to; pa += PAGE_SIZE) {
            unsigned r = range_from(b, pa);
            u8 now = r < b->nranges && b->range[r].base < pa + PAGE_SIZE;
            u8 *covered = &b->covered[bus_ram_offset(b, pa) >> PAGE_SHIFT];
            if (*covered == now) continue;
            changed = true;
            bus_code_write(b, pa, PAGE_SIZE); /* what was decoded from here is not there any more */
            *covered = now;
        }
    }
    if (!changed) return;
    b->remaps++;
    coherence_remapped(&b->coherence);
}

static int insert_range(struct bus *b, const struct range *r)
{
    if (!r->len || r->base + r->len < r->base) return -EINVAL;
    unsigned at = range_from(b, r->base);
    if (at < b->nranges && b->range[at].base < r->base + r->len) return -EBUSY;
    struct range *grown = realloc(b->range, (b->nranges + 1) * sizeof *grown);
    if (!grown) return -ENOMEM;
    b->range = grown;
    memmove(&grown[at + 1], &grown[at], (b->nranges - at) * sizeof *grown);
    grown[at] = *r;
    b->nranges++;
    cover_pages(b, r->base, r->len);
    return 0;
}

int bus_map_mmio(struct bus *b, paddr base, u64 len, const struct io_ops *ops, void *dev, const char *name)
{
    return insert_range(b, &(struct range){ .base = base, .len = len, .ops = ops, .dev = dev, .name = name });
}

int bus_map_rom(struct bus *b, paddr base, u64 len, const u8 *data, const char *name)
{
    return insert_range(b, &(struct range){ .base = base, .len = len, .rom = data, .name = name });
}

void bus_unmap_mmio(struct bus *b, paddr base)
{
    unsigned at = range_from(b, base);
    if (at == b->nranges || b->range[at].base != base) return;
    u64 len = b->range[at].len;
    b->nranges--;
    memmove(&b->range[at], &b->range[at + 1], (b->nranges - at) * sizeof b->range[0]);
    cover_pages(b, base, len);
}

/* ---- accesses by physical address ---- */

static u32 ones(unsigned size) { return size >= 4 ? ~0u : (1u << size * 8) - 1; }

static u64 load_bytes(const u8 *p, unsigned n)
{
    u64 v = 0;
    switch (n) {
    case 1: return *p;
    case 2: __builtin_memcpy(&v, p, 2); return v;
    case 4: __builtin_memcpy(&v, p, 4); return v;
    case 8: __builtin_memcpy(&v, p, 8); return v;
    default:
        for (unsigned i = 0; i < n; i++) v |= (u64)p[i] << i * 8;
        return v;
    }
}

static void store_bytes(u8 *p, unsigned n, u64 v)
{
    switch (n) {
    case 1: *p = (u8)v; return;
    case 2: __builtin_memcpy(p, &v, 2); return;
    case 4: __builtin_memcpy(p, &v, 4); return;
    case 8: __builtin_memcpy(p, &v, 8); return;
    default:
        for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> i * 8);
    }
}

/* Largest power of two up to left (and 4) that pa is aligned to: what the processor puts on the bus in one go. */
static unsigned bus_cycle(paddr pa, unsigned left)
{
    unsigned n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    while (pa & (n - 1)) n /= 2;
    return n;
}

/* One aligned cycle of 1, 2 or 4 bytes, at something that is not plain RAM. */
static u32 read_cycle(struct bus *b, paddr pa, unsigned n)
{
    const struct range *r = range_at(b, pa);
    u64 end = r ? r->base + r->len - pa : 0;
    if (r && end >= n && r->ops) return r->ops->read ? r->ops->read(r->dev, (u32)(pa - r->base), n) & ones(n) : ones(n);
    if (r && end >= n) return (u32)load_bytes(r->rom + (pa - r->base), n);
    if (n > 1) return read_cycle(b, pa, n / 2) | read_cycle(b, pa + n / 2, n / 2) << n * 4;
    return bus_ram_offset(b, pa) >= 0 ? b->view[pa] : 0xff;
}

static void write_cycle(struct bus *b, paddr pa, unsigned n, u32 val)
{
    const struct range *r = range_at(b, pa);
    u64 end = r ? r->base + r->len - pa : 0;
    if (r && end >= n) {
        if (r->ops && r->ops->write) r->ops->write(r->dev, (u32)(pa - r->base), n, val & ones(n));
    } else if (n > 1) {
        write_cycle(b, pa, n / 2, val);
        write_cycle(b, pa + n / 2, n / 2, val >> n * 4);
    } else if (bus_ram_offset(b, pa) >= 0) {
        b->view[pa] = (u8)val; /* the rest of a page that a range covers in part: never translated from */
    }
}

u64 bus_phys_read(struct bus *b, paddr pa, unsigned n)
{
    const u8 *p = bus_ram_ptr(b, pa);
    if (p) return load_bytes(p, n);
    u64 v = 0;
    for (unsigned done = 0, k; done < n; done += k) {
        k = bus_cycle(pa + done, n - done);
        v |= (u64)read_cycle(b, pa + done, k) << done * 8;
    }
    return v;
}

void bus_phys_write(struct bus *b, paddr pa, unsigned n, u64 val)
{
    u64 page = ram_page(b, pa);
    if (page != NO_PAGE) {
        code_written(b, page, pa, n);
        store_bytes(b->view + pa, n, val);
        return;
    }
    for (unsigned done = 0, k; done < n; done += k) {
        k = bus_cycle(pa + done, n - done);
        write_cycle(b, pa + done, k, (u32)(val >> done * 8));
    }
}

u32 bus_mmio_read(struct bus *b, paddr pa, unsigned size)
{
    if ((pa & OFFSET_MASK) + size <= PAGE_SIZE) return (u32)bus_phys_read(b, pa, size);
    u32 v = 0;
    for (unsigned i = 0; i < size; i++) v |= (u32)bus_phys_read(b, pa + i, 1) << i * 8;
    return v;
}

void bus_mmio_write(struct bus *b, paddr pa, unsigned size, u32 val)
{
    if ((pa & OFFSET_MASK) + size <= PAGE_SIZE) {
        bus_phys_write(b, pa, size, val);
        return;
    }
    for (unsigned i = 0; i < size; i++) bus_phys_write(b, pa + i, 1, val >> i * 8 & 0xff);
}

/* ---- DMA ---- */

/* How far from pa, up to n, memory is of one kind: RAM, ROM (*rom), or neither. Stays within a page where pages matter.
 */
static u64 dma_run(struct bus *b, paddr pa, u64 n, u8 **ram, const u8 **rom)
{
    u64 left = PAGE_SIZE - (pa & OFFSET_MASK);
    if (n > left) n = left;
    *rom = NULL;
    *ram = bus_ram_ptr(b, pa);
    if (*ram) return n;
    unsigned i = range_from(b, pa);
    const struct range *r = i < b->nranges ? &b->range[i] : NULL;
    if (r && r->base <= pa) {
        left = r->base + r->len - pa;
        if (!r->ops) *rom = r->rom + (pa - r->base);
        return n < left ? n : left;
    }
    if (r && r->base - pa < n) n = r->base - pa;
    if (bus_ram_offset(b, pa) >= 0) *ram = b->view + pa;
    return n;
}

u64 bus_dma_read(struct bus *b, paddr pa, void *buf, u64 len)
{
    u8 *to = buf, *ram;
    const u8 *rom;
    u64 hit = 0;
    for (u64 done = 0, n; done < len; done += n) {
        n = dma_run(b, pa + done, len - done, &ram, &rom);
        if (ram || rom) {
            copy_bytes(to + done, ram ? ram : rom, n);
            hit += ram ? n : 0;
        } else {
            fill_ones(to + done, n);
        }
    }
    return hit;
}

u64 bus_dma_write(struct bus *b, paddr pa, const void *buf, u64 len)
{
    const u8 *from = buf, *rom;
    u8 *ram;
    u64 hit = 0;
    if (len > PAGE_SIZE && pa + len <= b->low) populate(b, pa, len);
    for (u64 done = 0, n; done < len; done += n) {
        n = dma_run(b, pa + done, len - done, &ram, &rom);
        if (!ram) continue;
        bus_code_write(b, pa + done, (unsigned)n);
        copy_bytes(ram, from + done, n);
        hit += n;
    }
    return hit;
}

/* ---- ports ---- */

static int port_slot(struct bus *b)
{
    for (unsigned i = 0; i < b->nports; i++)
        if (!b->port_range[i].len) return (int)i;
    struct range *grown = realloc(b->port_range, (b->nports + 1) * sizeof *grown);
    if (!grown) return -ENOMEM;
    b->port_range = grown;
    return (int)b->nports++;
}

int bus_map_pio(struct bus *b, u16 base, u32 len, const struct io_ops *ops, void *dev, const char *name)
{
    if (!len || len > PORTS - base) return -EINVAL;
    for (u32 i = 0; i < len; i++)
        if (b->port[base + i]) return -EBUSY;
    int slot = port_slot(b);
    if (slot < 0) return slot;
    b->port_range[slot] = (struct range){ .base = base, .len = len, .ops = ops, .dev = dev, .name = name };
    for (u32 i = 0; i < len; i++) b->port[base + i] = (u16)(slot + 1);
    return 0;
}

void bus_unmap_pio(struct bus *b, u16 base)
{
    if (!b->port[base]) return;
    struct range *r = &b->port_range[b->port[base] - 1];
    if (r->base != base) return;
    for (u32 i = 0; i < r->len; i++) b->port[base + i] = 0;
    r->len = 0;
}

/* The range that holds all of [port, port+size), or NULL. */
static const struct range *port_at(const struct bus *b, u16 port, unsigned size)
{
    if (!b->port[port]) return NULL;
    const struct range *r = &b->port_range[b->port[port] - 1];
    return port - r->base + size <= r->len ? r : NULL;
}

u32 bus_in(struct bus *b, u16 port, unsigned size)
{
    const struct range *r = port_at(b, port, size);
    if (r) return r->ops->read ? r->ops->read(r->dev, (u32)(port - r->base), size) & ones(size) : ones(size);
    if (size == 1) return 0xff;
    u32 v = 0;
    for (unsigned i = 0; i < size; i++) v |= (port + i < PORTS ? bus_in(b, (u16)(port + i), 1) : 0xff) << i * 8;
    return v;
}

void bus_out(struct bus *b, u16 port, unsigned size, u32 val)
{
    const struct range *r = port_at(b, port, size);
    if (r) {
        if (r->ops->write) r->ops->write(r->dev, (u32)(port - r->base), size, val & ones(size));
        return;
    }
    if (size == 1) return;
    for (unsigned i = 0; i < size; i++)
        if (port + i < PORTS) bus_out(b, (u16)(port + i), 1, val >> i * 8 & 0xff);
}
