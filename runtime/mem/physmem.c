/* Owns guest physical memory and the port space: RAM, what covers it (device memory, ROM), and dispatch to devices.
 *
 * RAM is one memory file. File offset 0 is physical 0; RAM above 3 GiB makes room for the PCI hole and goes on at 4
 * GiB; then come the memories of devices, wherever they are mapped:
 *
 *     physical   0 .. low                file   0 .. low           low = min(size, 3 GiB)
 *                4 GiB .. 4 GiB + high          low .. size        high = size - low
 *                bus_ram.base ..                size .. size + BUS_DEVICE_RAM_MAX
 *                nowhere                        size + BUS_DEVICE_RAM_MAX ..      bus_spare()
 *
 * The RAM view is one mapping of the file in a reservation with a page to spare, so that a pointer that strays past its
 * end faults instead of finding host memory. Pages of the file that no memory has are not mapped.
 *
 *   I1  A RAM pointer is handed out only for pages of RAM that no range touches (covered[] is 0), and for those of a
 *       bus_ram that is mapped there.                                                              [ram_page]
 *   I2  Ranges are sorted by base and do not overlap.                                              [insert_range]
 *   I3  A write to a page with PG_ANNOUNCED that is made here is announced before it happens.        [page_written]
 *   I4  Neither the guest nor DMA writes to a page with PG_ROM.    [bus_phys_write, bus_dma_write, bus_dma_map]
 *   I5  Nothing here trusts an address, size or offset: what is not RAM and not a range floats (reads ones, drops
 *       writes).
 *
 * Enter at bus_phys_read(), bus_in(), bus_dma_read(). */
#define _GNU_SOURCE
#include "core/hostfd.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/bytes.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/dirty.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define GIB (1ull << 30)
#define LOW_MAX (3 * GIB)
#define HIGH_BASE (4 * GIB)
#define RAM_MAX (7 * GIB / 2)
#define PORTS 65536u
#define NO_PAGE UINT64_MAX
#define OFFSET_MASK ((paddr)PAGE_SIZE - 1)

struct range {
    u64 base, len;                    /* len 0: a free slot (ports only) */
    const struct io_ops *ops;         /* NULL: ROM */
    io_fill *fill;                    /* or NULL */
    const struct io_strings *strings; /* or NULL; ports only */
    bool passive;                     /* bus_mmio_passive() */
    void *dev;
    const u8 *rom;
    struct bus_ram *ram; /* or NULL */
    const char *name;
};

struct bus_ram {
    struct bus *b;
    u64 first, n; /* pages of the file */
    bool mapped;
    paddr base;
    u64 window_first, window_n; /* pages of it that are seen at window_base instead; window_n 0: none */
    paddr window_base;
    struct bus_ram *next; /* by first */
};

struct bus {
    u8 *view;            /* of the file */
    u64 view_len;        /* bytes reserved */
    u64 size, low, high; /* bytes of RAM */
    int fd;
    u8 *spare; /* NULL: none */
    u64 spare_n;
    u8 *flags;   /* per page of RAM, by file offset: enum page_flag */
    u8 *covered; /* likewise: 1 if a range touches the page */
    struct bus_ram *device_ram;
    struct dirty_logs logs;

    struct range *range; /* device memory and ROM, sorted */
    unsigned nranges;
    struct range *port_range; /* slots; port[] holds slot + 1 */
    unsigned nports;
    u16 port[PORTS];

    struct coherence coherence;
    u32 remaps;
};

static void fill_ones(void *dst, u64 n) { __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(0xff) : "memory"); }

/* ---- lifetime ---- */

static u64 page_of_file(u64 off) { return off >> PAGE_SHIFT; }

/* [first, first+n) of the file, in the view. */
static int map_view(struct bus *b, u64 first, u64 n)
{
    void *p = mmap(b->view + (first << PAGE_SHIFT), n << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                   b->fd, (off_t)(first << PAGE_SHIFT));
    return p == MAP_FAILED ? -errno : 0;
}

/* A file in memory for RAM. Where memfd_create() is refused, one in a file system that is mostly memory, without a
 * name. */
static int ram_file(void)
{
    static const char *const folders[] = { "/dev/shm", "/run", "/tmp", "/var/tmp" };
    int fd = hostfd(memfd_create("guest-ram", MFD_CLOEXEC)), err = errno;
    for (unsigned i = 0; i < ARRAY_LEN(folders) && fd < 0; i++)
        fd = hostfd(open(folders[i], O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600));
    errno = err; /* what the others said is of less use */
    return fd;
}

static int map_ram(struct bus *b)
{
    b->fd = ram_file();
    if (b->fd < 0 || ftruncate(b->fd, (off_t)b->size) < 0) return -errno;
    b->view_len = b->size + BUS_DEVICE_RAM_MAX + PAGE_SIZE;
    void *p = mmap(NULL, b->view_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return -errno;
    b->view = p;
    return map_view(b, 0, page_of_file(b->size));
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
    b->flags = calloc(bus_file_pages(b), 1);
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
    while (b->device_ram) bus_ram_free(b->device_ram);
    if (b->view) munmap(b->view, b->view_len);
    if (b->spare) munmap(b->spare, b->spare_n << PAGE_SHIFT);
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
u64 bus_file_used(const struct bus *b)
{
    u64 end = page_of_file(b->size);
    for (const struct bus_ram *r = b->device_ram; r; r = r->next) end = r->first + r->n;
    return end << PAGE_SHIFT;
}
u64 bus_file_pages(const struct bus *b) { return (b->size + BUS_DEVICE_RAM_MAX) >> PAGE_SHIFT; }

int bus_spare(struct bus *b, u64 n, u64 *first, u8 **host)
{
    const u64 at = bus_file_pages(b), end = (at + n) << PAGE_SHIFT;
    struct rlimit most;
    BUG_ON(b->spare && b->spare_n != n);
    *first = at;
    *host = b->spare;
    if (b->spare) return 0;
    if (!getrlimit(RLIMIT_FSIZE, &most) && end > most.rlim_cur) return -EFBIG; /* else a signal would say so */
    if (ftruncate(b->fd, (off_t)end)) return -errno;
    u8 *p = mmap(NULL, n << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, (off_t)(at << PAGE_SHIFT));
    if (p == MAP_FAILED) return -errno;
    b->spare = *host = p;
    b->spare_n = n;
    return 0;
}

struct dirty_logs *bus_dirty_logs(struct bus *b) { return &b->logs; }
int bus_ram_fd(const struct bus *b) { return b->fd; }

/* ---- residence ---- */

#define NEAR_PAGES 16u /* 64 KiB: a kernel that boots touches three quarters of those it touches one page of */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* A host that cannot (before Linux 5.14) faults the pages in one by one. */
static void populate(struct bus *b, u64 first, u64 n)
{
    (void)!madvise(b->view + (first << PAGE_SHIFT), n << PAGE_SHIFT, MADV_POPULATE_WRITE);
}

void bus_touch(struct bus *b, paddr pa)
{
    u64 page = page_of_file((u64)bus_ram_offset(b, pa)), first = page - page % NEAR_PAGES, end = first + NEAR_PAGES;
    u64 most = page < page_of_file(b->size) ? page_of_file(b->size) : bus_file_pages(b);
    if (end > most) end = most;
    for (u64 i = first; i < end; i++) b->flags[i] |= PG_NEAR;
    populate(b, first, end - first);
}

/* ---- which page is where ---- */

#define IN_RAM(b, pa) ((pa) < (b)->low || ((pa) >= HIGH_BASE && (pa)-HIGH_BASE < (b)->high))

/* Of RAM itself, covered or not: IN_RAM(b, pa). */
static inline u64 plain_page(const struct bus *b, paddr pa)
{
    return page_of_file(pa < b->low ? pa : pa - HIGH_BASE + b->low);
}

static bool in_window(const struct bus_ram *r, u64 page) { return page - r->window_first < r->window_n; }

/* Of a device's memory that is mapped at pa; NO_PAGE: there is none. */
static u64 device_page(const struct bus *b, paddr pa)
{
    for (const struct bus_ram *r = b->device_ram; r; r = r->next) {
        u64 page = r->first + ((pa - r->base) >> PAGE_SHIFT);
        if (pa - r->window_base < r->window_n << PAGE_SHIFT)
            return r->window_first + ((pa - r->window_base) >> PAGE_SHIFT);
        if (r->mapped && pa - r->base < r->n << PAGE_SHIFT) return in_window(r, page) ? NO_PAGE : page;
    }
    return NO_PAGE;
}

/* The page of the file that is pa's memory, NO_PAGE if that is not (only) RAM. */
static inline u64 ram_page(const struct bus *b, paddr pa)
{
    if (likely(IN_RAM(b, pa))) {
        u64 page = plain_page(b, pa);
        if (likely(!b->covered[page])) return page;
    }
    return likely(!b->device_ram) ? NO_PAGE : device_page(b, pa);
}

static inline u8 *page_ptr(const struct bus *b, u64 page, paddr pa)
{
    return b->view + (page << PAGE_SHIFT | (pa & OFFSET_MASK));
}

s64 bus_ram_offset(const struct bus *b, paddr pa)
{
    u64 page = ram_page(b, pa);
    return page == NO_PAGE ? -1 : (s64)(page << PAGE_SHIFT | (pa & OFFSET_MASK));
}

u8 *bus_ram_ptr(struct bus *b, paddr pa)
{
    u64 page = ram_page(b, pa);
    return page == NO_PAGE ? NULL : page_ptr(b, page, pa);
}

u8 *bus_page_flags(struct bus *b, paddr pa)
{
    u64 page = ram_page(b, pa);
    return page == NO_PAGE ? NULL : &b->flags[page];
}

u8 *bus_page_flags_at(struct bus *b, u64 page) { return &b->flags[page]; }

void bus_ram_pages(const struct bus *b, const struct bus_ram *r, u64 *first, u64 *n)
{
    *first = r ? r->first : 0;
    *n = r ? r->n : page_of_file(b->size);
}

bool bus_page_pa(const struct bus *b, u64 page, paddr *pa)
{
    u64 off = page << PAGE_SHIFT;
    if (off < b->size) {
        *pa = off < b->low ? off : off - b->low + HIGH_BASE;
        return !b->covered[page];
    }
    for (const struct bus_ram *r = b->device_ram; r; r = r->next) {
        if (in_window(r, page)) *pa = r->window_base + ((page - r->window_first) << PAGE_SHIFT);
        else if (r->mapped && page - r->first < r->n) *pa = r->base + ((page - r->first) << PAGE_SHIFT);
        else continue;
        return true;
    }
    return false;
}

/* ---- code in RAM ---- */

void bus_mark_code(struct bus *b, paddr page)
{
    u8 *flags = bus_page_flags(b, page);
    if (!flags || *flags & PG_CODE) return;
    *flags |= PG_CODE;
    coherence_protect(&b->coherence, page & ~OFFSET_MASK);
}

void bus_mark_table(struct bus *b, paddr page)
{
    u8 *flags = bus_page_flags(b, page), was;
    if (!flags || *flags & PG_TABLE) return;
    was = *flags;
    *flags |= PG_TABLE;
    if (!(was & PG_ANNOUNCED)) coherence_protect(&b->coherence, page & ~OFFSET_MASK);
}

/* [pa, pa+len) of a page of the file: its code goes as far as it overlaps, and what was known of the whole page does.
 */
static void page_written(struct bus *b, u64 page, paddr pa, unsigned len)
{
    u8 *flags = &b->flags[page], was = *flags;
    if (likely(!(was & PG_ANNOUNCED))) return;
    if (was & PG_CLEAN) dirty_note(&b->logs, page, flags);
    if (was & PG_TABLE) coherence_table_written(&b->coherence, pa, len);
    if (!(was & PG_CODE)) return;
    *flags &= (u8) ~(PG_DIRECT | PG_INDIRECT);
    if (!coherence_written(&b->coherence, pa, len, was)) *flags &= (u8)~PG_CODE;
}

void bus_write_begins(struct bus *b, paddr pa, unsigned len)
{
    u64 page = ram_page(b, pa);
    if (page != NO_PAGE) page_written(b, page, pa, len);
}

/* Memory that is nowhere has no code: it went when it was unmapped. */
void bus_host_written(struct bus *b, const u8 *p, unsigned len)
{
    u64 off = (u64)(p - b->view), page = page_of_file(off);
    paddr pa = 0;
    (void)bus_page_pa(b, page, &pa);
    if (b->flags[page] & PG_TABLE) coherence_table_written(&b->coherence, pa, PAGE_SIZE); /* it has been written */
    page_written(b, page, pa | (off & OFFSET_MASK), len);
}

void bus_mark_dirty(struct bus *b, paddr pa)
{
    u64 page = ram_page(b, pa);
    if (page != NO_PAGE && b->flags[page] & PG_CLEAN) dirty_note(&b->logs, page, &b->flags[page]);
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

/* All code goes from a page of the file that is about to be no longer at pa. Its bytes stay. */
static void code_leaves(struct bus *b, u64 page, paddr pa)
{
    u8 *flags = &b->flags[page], was = *flags;
    if (!(was & PG_CODE)) return;
    *flags &= (u8) ~(PG_CODE | PG_DIRECT | PG_INDIRECT);
    (void)coherence_written(&b->coherence, pa, PAGE_SIZE, was);
}

void bus_forget_views(struct bus *b)
{
    b->remaps++;
    coherence_remapped(&b->coherence);
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
            u64 page = plain_page(b, pa);
            if (b->covered[page] == now) continue;
            changed = true;
            code_leaves(b, page, pa); /* what was decoded from here is not there any more */
            b->covered[page] = now;
        }
    }
    if (changed) bus_forget_views(b);
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

u8 *bus_ram_behind(struct bus *b, paddr pa) { return IN_RAM(b, pa) ? page_ptr(b, plain_page(b, pa), pa) : NULL; }

/* A covered page has no code: only a dirty log may want to know. */
void bus_ram_behind_written(struct bus *b, paddr pa, unsigned n)
{
    if (IN_RAM(b, pa)) page_written(b, plain_page(b, pa), pa, n);
}

/* To those who write the page is as one with code. Who may write to it again finds out at the next write. */
void bus_ram_readonly(struct bus *b, paddr base, u64 len, bool on)
{
    for (paddr pa = base; pa < base + len; pa += PAGE_SIZE) {
        if (!IN_RAM(b, pa)) continue;
        u8 *flags = &b->flags[plain_page(b, pa)], was = *flags;
        *flags = on ? was | PG_ROM : was & (u8)~PG_ROM;
        if (on && !(was & PG_ANNOUNCED)) coherence_protect(&b->coherence, pa);
    }
}

/* ---- devices' memory ---- */

int bus_ram_new(struct bus_ram **out, struct bus *b, u64 len)
{
    if (!len || len & OFFSET_MASK) return -EINVAL;
    u64 n = page_of_file(len), first = page_of_file(b->size);
    struct bus_ram **p = &b->device_ram;
    for (; *p && (*p)->first - first < n; p = &(*p)->next) first = (*p)->first + (*p)->n; /* the first gap */
    if (n > bus_file_pages(b) - first) return -ENOSPC;
    struct bus_ram *r = calloc(1, sizeof *r);
    if (!r) return -ENOMEM;
    *r = (struct bus_ram){ .b = b, .first = first, .n = n, .next = *p };
    bool longest = !*p && !b->spare;
    int err = longest && ftruncate(b->fd, (off_t)((first + n) << PAGE_SHIFT)) ? -errno : map_view(b, first, n);
    if (err) {
        free(r);
        return err;
    }
    *p = r;
    *out = r;
    return 0;
}

void bus_ram_free(struct bus_ram *r)
{
    if (!r) return;
    struct bus *b = r->b;
    u8 *host = bus_ram_host(r);
    bus_unmap_ram_window(r);
    bus_unmap_ram(r);
    struct bus_ram **p = &b->device_ram;
    while (*p != r) p = &(*p)->next;
    *p = r->next;
    for (u64 i = r->first; i < r->first + r->n; i++) b->flags[i] = 0;
    (void)!madvise(host, r->n << PAGE_SHIFT, MADV_REMOVE); /* zero for the next one */
    (void)!mmap(host, r->n << PAGE_SHIFT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    free(r);
}

u8 *bus_ram_host(const struct bus_ram *r) { return r->b->view + (r->first << PAGE_SHIFT); }

void bus_ram_written(struct bus_ram *r, u64 off, u64 len)
{
    bus_dma_unmap(r->b, bus_ram_host(r) + off, len, DMA_TO_GUEST);
}

int bus_map_ram(struct bus *b, paddr base, struct bus_ram *r, const char *name)
{
    if (base & OFFSET_MASK) return -EINVAL;
    if (r->mapped) return -EBUSY;
    int err = insert_range(b, &(struct range){ .base = base, .len = r->n << PAGE_SHIFT, .ram = r, .name = name });
    if (err) return err;
    r->mapped = true;
    r->base = base;
    bus_forget_views(b); /* what was not RAM there is now */
    return 0;
}

void bus_unmap_ram(struct bus_ram *r)
{
    struct bus *b = r->b;
    if (!r->mapped) return;
    for (u64 i = 0; i < r->n; i++)
        if (!in_window(r, r->first + i)) code_leaves(b, r->first + i, r->base + (i << PAGE_SHIFT));
    r->mapped = false;
    bus_unmap_mmio(b, r->base);
    bus_forget_views(b);
}

/* The window's pages are about to be where r is mapped, or nowhere. */
static void window_leaves(struct bus_ram *r)
{
    for (u64 i = 0; i < r->window_n; i++) code_leaves(r->b, r->window_first + i, r->window_base + (i << PAGE_SHIFT));
}

/* The first pages of the window leave r's own place. */
static void window_comes(struct bus_ram *r, u64 first, u64 n)
{
    for (u64 i = 0; i < n && r->mapped; i++)
        code_leaves(r->b, first + i, r->base + ((first + i - r->first) << PAGE_SHIFT));
    r->window_first = first;
    r->window_n = n;
    bus_forget_views(r->b);
}

int bus_map_ram_window(struct bus *b, paddr base, struct bus_ram *r, u64 off, u64 len, const char *name)
{
    u64 first = r->first + page_of_file(off), n = page_of_file(len);
    if ((base | off | len) & OFFSET_MASK || !n || off >> PAGE_SHIFT >= r->n || n > r->n - (off >> PAGE_SHIFT))
        return -EINVAL;
    if (r->window_n) return -EBUSY;
    int err = insert_range(b, &(struct range){ .base = base, .len = len, .ram = r, .name = name });
    if (err) return err;
    r->window_base = base;
    window_comes(r, first, n);
    return 0;
}

void bus_move_ram_window(struct bus_ram *r, u64 off)
{
    u64 first = r->first + page_of_file(off);
    BUG_ON(!r->window_n || off & OFFSET_MASK || off >> PAGE_SHIFT > r->n - r->window_n);
    if (first == r->window_first) return;
    window_leaves(r);
    window_comes(r, first, r->window_n);
}

void bus_unmap_ram_window(struct bus_ram *r)
{
    if (!r->window_n) return;
    window_leaves(r);
    r->window_n = 0;
    bus_unmap_mmio(r->b, r->window_base);
    bus_forget_views(r->b);
}

/* ---- runs of memory ---- */

/* The page at pa, as memory. */
static bool extent_page(const struct bus *b, paddr pa, struct bus_extent *e)
{
    u64 page = ram_page(b, pa);
    if (page != NO_PAGE) {
        *e = (struct bus_extent){ .pa = pa, .len = PAGE_SIZE, .host = page_ptr(b, page, pa), .page = page };
        e->rom = b->flags[page] & PG_ROM;
        return true;
    }
    const struct range *r = range_at(b, pa);
    if (!r || r->ops || r->ram || r->base + r->len - pa < PAGE_SIZE) return false;
    *e = (struct bus_extent){ .pa = pa, .len = PAGE_SIZE, .host = r->rom + (pa - r->base), .rom = true };
    return true;
}

/* The next page at which there may be memory, from one on that is none; 0: there is no more. */
static paddr extent_after(const struct bus *b, paddr pa)
{
    unsigned i = range_from(b, pa);
    if (IN_RAM(b, pa) || (i < b->nranges && b->range[i].base <= pa)) return pa + PAGE_SIZE;
    paddr next = b->high && pa < HIGH_BASE ? HIGH_BASE : 0;
    if (i < b->nranges && (!next || b->range[i].base < next)) next = b->range[i].base & ~OFFSET_MASK;
    return next > pa ? next : next ? pa + PAGE_SIZE : 0;
}

bool bus_extent(const struct bus *b, paddr pa, struct bus_extent *e)
{
    struct bus_extent more;
    pa &= ~OFFSET_MASK;
    while (!extent_page(b, pa, e))
        if (!(pa = extent_after(b, pa))) return false;
    while (extent_page(b, pa += PAGE_SIZE, &more) && more.rom == e->rom && more.host == e->host + e->len)
        e->len += PAGE_SIZE;
    return true;
}

/* ---- accesses by physical address ---- */

static u32 ones(unsigned size) { return size >= 4 ? ~0u : (1u << size * 8) - 1; }

/* Largest power of two up to left (and 4) that pa is aligned to: what the processor puts on the bus in one go. */
static unsigned bus_cycle(paddr pa, unsigned left)
{
    unsigned n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    while (pa & (n - 1)) n /= 2;
    return n;
}

/* At the place of a device's memory, where a window has taken it from. */
static u8 *behind_window(const struct range *r, paddr pa) { return bus_ram_host(r->ram) + (pa - r->base); }

/* One aligned cycle of 1, 2 or 4 bytes, at something that is not plain RAM. */
static u32 read_cycle(struct bus *b, paddr pa, unsigned n)
{
    const struct range *r = range_at(b, pa);
    u64 end = r ? r->base + r->len - pa : 0;
    if (r && end >= n && r->ops) return r->ops->read ? r->ops->read(r->dev, (u32)(pa - r->base), n) & ones(n) : ones(n);
    if (r && end >= n && r->ram) return (u32)bytes_load(behind_window(r, pa), n);
    if (r && end >= n) return (u32)bytes_load(r->rom + (pa - r->base), n);
    if (n > 1) return read_cycle(b, pa, n / 2) | read_cycle(b, pa + n / 2, n / 2) << n * 4;
    return IN_RAM(b, pa) ? *page_ptr(b, plain_page(b, pa), pa) : 0xff;
}

static void write_cycle(struct bus *b, paddr pa, unsigned n, u32 val)
{
    const struct range *r = range_at(b, pa);
    u64 end = r ? r->base + r->len - pa : 0;
    if (r && end >= n && r->ram) {
        bus_host_written(b, behind_window(r, pa), n);
        bytes_store(behind_window(r, pa), n, val);
    } else if (r && end >= n) {
        if (r->ops && r->ops->write) r->ops->write(r->dev, (u32)(pa - r->base), n, val & ones(n));
    } else if (n > 1) {
        write_cycle(b, pa, n / 2, val);
        write_cycle(b, pa + n / 2, n / 2, val >> n * 4);
    } else if (IN_RAM(b, pa)) { /* the rest of a page that a range covers in part: never translated from */
        page_written(b, plain_page(b, pa), pa, 1);
        *page_ptr(b, plain_page(b, pa), pa) = (u8)val;
    }
}

u64 bus_phys_read(struct bus *b, paddr pa, unsigned n)
{
    const u8 *p = bus_ram_ptr(b, pa);
    if (p) return bytes_load(p, n);
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
        if (unlikely(b->flags[page] & PG_ROM)) return;
        page_written(b, page, pa, n);
        bytes_store(page_ptr(b, page, pa), n, val);
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

void bus_mmio_fills(struct bus *b, paddr base, io_fill *fill)
{
    unsigned i = range_from(b, base);
    BUG_ON(i >= b->nranges || b->range[i].base != base || !b->range[i].ops);
    b->range[i].fill = fill;
}

void bus_mmio_passive(struct bus *b, paddr base)
{
    unsigned i = range_from(b, base);
    BUG_ON(i >= b->nranges || b->range[i].base != base || !b->range[i].ops);
    b->range[i].passive = true;
}

bool bus_is_passive(const struct bus *b, paddr pa, unsigned size)
{
    const struct range *r = ram_page(b, pa) == NO_PAGE ? range_at(b, pa) : NULL;
    return r && r->passive && r->base + r->len - pa >= size;
}

bool bus_mmio_fill(struct bus *b, paddr pa, unsigned size, u32 val, u32 n)
{
    const struct range *r = ram_page(b, pa) == NO_PAGE ? range_at(b, pa) : NULL;
    if (!r || !r->fill || r->base + r->len - pa < (u64)n * size) return false;
    r->fill(r->dev, (u32)(pa - r->base), size, val & (u32)ones(size), n);
    return true;
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
        if (r->ram) { /* no further than the page */
            *ram = behind_window(r, pa);
            return n;
        }
        left = r->base + r->len - pa;
        if (!r->ops) *rom = r->rom + (pa - r->base);
        return n < left ? n : left;
    }
    if (r && r->base - pa < n) n = r->base - pa;
    if (IN_RAM(b, pa)) *ram = page_ptr(b, plain_page(b, pa), pa);
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
            bytes_copy(to + done, ram ? ram : rom, n);
            hit += n;
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
    if (len > PAGE_SIZE && pa + len <= b->low)
        populate(b, page_of_file(pa), page_of_file(pa + len - 1) - page_of_file(pa) + 1);
    for (u64 done = 0, n; done < len; done += n) {
        n = dma_run(b, pa + done, len - done, &ram, &rom);
        if (!ram || b->flags[page_of_file((u64)(ram - b->view))] & PG_ROM) continue;
        bus_host_written(b, ram, (unsigned)n);
        bytes_copy(ram, from + done, n);
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

void bus_pio_strings(struct bus *b, u16 base, const struct io_strings *strings)
{
    BUG_ON(!b->port[base]);
    struct range *r = &b->port_range[b->port[base] - 1];
    BUG_ON(r->base != base);
    r->strings = strings;
}

u32 bus_in_string(struct bus *b, u16 port, unsigned size, u8 *to, u32 n)
{
    const struct range *r = port_at(b, port, size);
    return r && r->strings ? r->strings->in(r->dev, (u32)(port - r->base), size, to, n) : 0;
}

u32 bus_out_string(struct bus *b, u16 port, unsigned size, const u8 *from, u32 n)
{
    const struct range *r = port_at(b, port, size);
    return r && r->strings ? r->strings->out(r->dev, (u32)(port - r->base), size, from, n) : 0;
}
