/* Physical memory as the CPU's own parts see it: the RAM view, a byte of flags for each page, and who is told of writes
 * to code. What devices see of it is core/bus.h. */
#ifndef RUNTIME_PHYSMEM_H
#define RUNTIME_PHYSMEM_H
#include "core/bus.h"

struct coherence;
struct dirty_logs;

/* size: bytes of RAM, multiple of 4 KiB, up to 3.5 GiB. RAM above 3 GiB goes to 4 GiB upwards. Returns 0 or -errno
 * of memfd_create (and files in /dev/shm or /tmp would not do), ftruncate or mmap. */
MUST_CHECK int bus_new(struct bus **out, u64 ram_size);
void bus_free(struct bus *b);
struct coherence *bus_coherence(struct bus *b); /* what happens to guest memory is told there */

/* Host pointer in the RAM view, NULL if pa is not RAM. Pointers of one 4 KiB page are contiguous. */
u8 *bus_ram_ptr(struct bus *b, paddr pa);
/* RAM, and after it devices' memory, is one memory file: its descriptor, and the offset in it of what is RAM at pa, or
 * -1. For mapping it elsewhere. */
int bus_ram_fd(const struct bus *b);
s64 bus_ram_offset(const struct bus *b, paddr pa);
u64 bus_file_used(const struct bus *b);                     /* bytes: RAM, and the devices' memories that there are */
u64 bus_file_pages(const struct bus *b);                    /* at most, in its lifetime */
bool bus_page_pa(const struct bus *b, u64 page, paddr *pa); /* where a page of the file is; false: nowhere at present */
void bus_ram_pages(const struct bus *b, const struct bus_ram *r, u64 *first, u64 *n); /* those of r; NULL: RAM */
/* The first run of memory at or above pa that is one run of host memory too: of RAM, of a device's, or of ROM. False:
 * there is none. For a processor that has the whole of it mapped, and not page by page. */
struct bus_extent {
    paddr pa;
    u64 len;
    const u8 *host;
    bool rom; /* reads alone are memory */
    u64 page; /* of the file; nothing if it is ROM */
};
bool bus_extent(const struct bus *b, paddr pa, struct bus_extent *e);
/* Pages of the file that are nobody's memory, for the monitor's own use: n of them, zero at first, at *host until the
 * bus is freed. *first: the first, in the file. Whoever asks again gets the same. Returns 0 or -errno: the host has no
 * room for them. */
MUST_CHECK int bus_spare(struct bus *b, u64 n, u64 *first, u8 **host);
u32 bus_remaps(const struct bus *b);  /* how often memory has been covered, uncovered, mapped or unmapped */
void bus_forget_views(struct bus *b); /* as if it had been: all views start over */

enum page_flag {
    PG_CODE = 1,     /* there is code decoded or translated from it: every write is announced before it happens */
    PG_CLEAN = 2,    /* in a dirty log, and not dirty (dirty.h): likewise */
    PG_DIRECT = 4,   /* scanned: may be executed directly; PG_CODE is set too, so that a write is noticed */
    PG_INDIRECT = 8, /* scanned: may not; likewise */
    PG_MIXED = 32,   /* code is run from it, yet writes to it are not announced, and PG_CODE is clear: mixed.h */
    PG_NEAR = 16,    /* bus_touch() has been here */
    PG_TABLE = 64,   /* in use as a page table, where these are watched (tables.h) */
    PG_ROM = 128,    /* what the guest or a device writes there is dropped: bus_ram_readonly() */
};
#define PG_ANNOUNCED \
    (PG_CODE | PG_CLEAN | PG_TABLE | PG_ROM)    /* may be written only after bus_write_begins() or bus_mark_dirty() */
u8 *bus_page_flags(struct bus *b, paddr pa);    /* flags byte of the RAM page, NULL if not RAM */
u8 *bus_page_flags_at(struct bus *b, u64 page); /* likewise, of a page of the file */
struct dirty_logs *bus_dirty_logs(struct bus *b);

/* The first touch of a host page costs the host a fault, which costs several times what the page does. So the first
 * touch of a page without PG_NEAR, through the RAM view, has the host make its 64 KiB at once, and sets PG_NEAR there.
 * pa is RAM. A host that cannot do so faults page by page. */
void bus_touch(struct bus *b, paddr pa);

/* The page of RAM holds code from now on. Nothing writes to it unannounced until its code is gone. */
void bus_mark_code(struct bus *b, paddr page);
/* The page of RAM is in use as a page table. Who clears PG_TABLE is who has it set. */
void bus_mark_table(struct bus *b, paddr page);
/* [pa, pa+len), within one page of RAM, is about to be written, or, by host pointer, has been. Code is retired, and the
 * page is dirty. */
void bus_write_begins(struct bus *b, paddr pa, unsigned len);
void bus_host_written(struct bus *b, const u8 *p, unsigned len);
/* The page of RAM will be written without further notice: it is dirty from now on. Not for pages with PG_CODE. */
void bus_mark_dirty(struct bus *b, paddr pa);

/* Accesses by physical address of any size up to 8, RAM, ROM or device, within one page: what mem_read and mem_write
 * end in. */
u64 bus_phys_read(struct bus *b, paddr pa, unsigned n);
void bus_phys_write(struct bus *b, paddr pa, unsigned n, u64 val);
#endif
