/* Guest memory as the guest's instructions see it: page walks, permissions, A/D bits, the soft TLB.
 *
 * Functions that can raise a guest exception return 0 when done, or GUEST_FAULT with cpu->exc (and CR2) set and nothing
 * committed: a write that would fault on its second page writes nothing on its first. */
#ifndef RUNTIME_MMU_H
#define RUNTIME_MMU_H
#include "core/cpu.h"

#define GUEST_FAULT 1

enum access { ACC_R, ACC_W, ACC_X };

/* Linear to physical with all checks, setting A (and D for ACC_W). user: as CPL 3 would. */
MUST_CHECK int mmu_translate(struct cpu *c, laddr la, enum access acc, bool user, paddr *out);
/* The same, but a fault is only reported: no exception is raised and CR2 stays. For looking ahead on the guest's
 * behalf. */
bool mmu_try(struct cpu *c, laddr la, enum access acc, bool user, paddr *out);
/* Whether la's page is (still) the physical page that holds page. Asks the soft TLB first; no side effects. */
bool mmu_maps(struct cpu *c, laddr la, bool user, paddr page);
/* The same without side effects, for debuggers and dumps. Returns false if not mapped. */
bool mmu_probe(const struct cpu *c, laddr la, paddr *out);

/* Data accesses by linear address, any alignment, crossing pages, RAM, ROM or device. n: 1, 2, 4 or 8 for the typed
 * ones. */
MUST_CHECK int mem_read(struct cpu *c, laddr la, unsigned n, bool user, u64 *out);
MUST_CHECK int mem_write(struct cpu *c, laddr la, unsigned n, bool user, u64 val);
/* Longer ones (FXSAVE, TSS, strings): any n up to 4096. */
MUST_CHECK int mem_read_buf(struct cpu *c, laddr la, void *buf, unsigned n, bool user);
MUST_CHECK int mem_write_buf(struct cpu *c, laddr la, const void *buf, unsigned n, bool user);
/* Checks that [la, la+n) may be written (read) and sets A/D, without accessing it: for instructions that must not
 * commit half their work, and read-modify-write. */
MUST_CHECK int mem_probe_write(struct cpu *c, laddr la, unsigned n, bool user);
MUST_CHECK int mem_probe_read(struct cpu *c, laddr la, unsigned n, bool user);

/* Fetches up to n code bytes at linear la; *got says how many could be read before a page that faults. Raises #PF only
 * if not even one byte can be read. */
MUST_CHECK int mem_fetch(struct cpu *c, laddr la, u8 *buf, unsigned n, unsigned *got);

/* Host pointer to the RAM behind linear la for an access that stays within its page, or NULL with *fault false (device,
 * ROM or code page on write: take the slow way) or true (guest exception raised). Fills the soft TLB. This is what
 * generated code calls on a soft-TLB miss; uses no floating-point register. */
u8 *tlb_fill(struct cpu *c, laddr la, enum access acc, bool user, bool *fault);

/* The soft TLB's bookkeeping: made by cpu_new() once c->bus is set, freed by cpu_free(). Returns 0 or -ENOMEM. */
MUST_CHECK int tlb_init(struct cpu *c);
void tlb_fini(struct cpu *c); /* copes with a cpu that tlb_init() never saw */

void tlb_flush_all(struct cpu *c);            /* with global pages: CR4.PGE/PAE/PSE, CR0.PG/WP changes */
void tlb_flush_nonglobal(struct cpu *c);      /* MOV CR3 */
void tlb_flush_page(struct cpu *c, laddr la); /* INVLPG */
/* Write access to this physical page must take the slow way from now on (it holds translated code). */
void tlb_protect_phys(struct cpu *c, paddr page);

/* Physical memory (runtime/mem/physmem.c): per-page flags and the RAM view. */
enum page_flag {
    PG_CODE = 1,
    PG_DIRTY = 2,
    PG_DIRECT = 4,   /* scanned: may be executed directly; PG_CODE is set too, so that a write is noticed */
    PG_INDIRECT = 8, /* scanned: may not; likewise */
    PG_NEAR = 16,    /* it or a neighbour has been touched: the host has it mapped, if it could */
};
u8 *bus_ram_ptr(struct bus *b, paddr pa);    /* host pointer in the RAM view, NULL if pa is not RAM; pointers of one 4K
                                                page are contiguous */
u8 *bus_page_flags(struct bus *b, paddr pa); /* flags byte of the RAM page, NULL if not RAM */
/* pa, RAM without PG_NEAR, is about to be touched through the RAM view: has the host map it and its neighbours at once.
 * A fault for each costs it several times as much, and most of them will be touched. */
void bus_touch(struct bus *b, paddr pa);
/* Every write to a page with PG_CODE that does not come from generated code's fast path calls this hook first. */
void bus_on_code_write(struct bus *b, void (*fn)(void *arg, paddr pa, u64 len), void *arg);
/* RAM is one memfd: fd and offsets for mapping it elsewhere. Returns the file offset of pa, or -1. */
void bus_code_write(struct bus *b, paddr pa, u64 len); /* calls it, if [pa, pa+len), within one page of RAM, holds code
                                                        */
/* Called when a page of RAM has been covered by a device or ROM, or uncovered: cached RAM pointers are stale.
 * [tlb_init] */
void bus_on_remap(struct bus *b, void (*fn)(void *arg), void *arg);
u32 bus_remaps(const struct bus *b); /* how often that has happened */
/* Accesses by physical address of any size up to 8, RAM, ROM or device, within one page: what mem_read and mem_write
 * end in. */
u64 bus_phys_read(struct bus *b, paddr pa, unsigned n);
void bus_phys_write(struct bus *b, paddr pa, unsigned n, u64 val);
int bus_ram_fd(const struct bus *b);
s64 bus_ram_offset(const struct bus *b, paddr pa);
/* size: bytes of RAM, multiple of 4 KiB, up to 3.5 GiB. RAM above 3 GiB goes to 4 GiB upwards. Returns 0 or -errno
 * (of memfd_create, ftruncate or mmap). */
MUST_CHECK int bus_new(struct bus **out, u64 ram_size);
void bus_free(struct bus *b);

#endif
