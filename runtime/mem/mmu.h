/* Guest memory as the guest's instructions see it: page walks, permissions, A/D bits, the soft TLB.
 *
 * Functions that can raise a guest exception return 0 when done, or GUEST_FAULT with cpu->exc (and CR2) set and nothing
 * committed: a write that would fault on its second page writes nothing on its first. */
#ifndef RUNTIME_MMU_H
#define RUNTIME_MMU_H
#include "core/cpu.h"

#define GUEST_FAULT 1

enum access { ACC_R, ACC_W, ACC_X };

/* Takes from c->model what page tables depend on: for who changes it. tlb_init() calls it. */
void mmu_model(struct cpu *c);

/* Linear to physical with all checks, setting A (and D for ACC_W). user: as CPL 3 would. */
MUST_CHECK int mmu_translate(struct cpu *c, laddr la, enum access acc, bool user, paddr *out);
/* The same, but a fault is only reported: no exception is raised and CR2 stays. For looking ahead on the guest's
 * behalf. */
bool mmu_try(struct cpu *c, laddr la, enum access acc, bool user, paddr *out);
/* The same without side effects, for debuggers and dumps. Returns false if not mapped. */
bool mmu_probe(const struct cpu *c, laddr la, paddr *out);

/* The page tables behind 4 MiB of linear space, as they lie in RAM: for who keeps a copy, to see whether they have
 * changed. dir: the directory's entries, 0 where there is none. table: what they lead to, 4 KiB each; NULL: a large
 * page, nothing, or not in RAM. */
#define MMU_REGION_SHIFT 22
#define MMU_REGION_TABLES 2
struct mmu_tables {
    u64 dir[MMU_REGION_TABLES];
    const u8 *table[MMU_REGION_TABLES];
    bool pae;
};
void mmu_tables(const struct cpu *c, laddr la, struct mmu_tables *out); /* without paging: all zero */
/* Whether page k of the region may have a page that user code has accessed: a cheap look before mmu_look(). */
bool mmu_tables_user_accessed(const struct mmu_tables *t, unsigned k);

/* Data accesses by linear address, any alignment, crossing pages, RAM, ROM or device. n: 1, 2, 4 or 8 for the typed
 * ones. */
MUST_CHECK int mem_read(struct cpu *c, laddr la, unsigned n, bool user, u64 *out);
MUST_CHECK int mem_write(struct cpu *c, laddr la, unsigned n, bool user, u64 val);
/* Equal writes in a row, as mem_write() makes them, to a device that takes them in one call (bus_mmio_fill()): n of
 * val, size bytes each, within a page. false: none was made; mem_write() finds out why. */
MUST_CHECK bool mem_fill_device(struct cpu *c, laddr la, unsigned size, bool user, u32 val, u32 n);
/* One access to a passive device (bus_mmio_passive()): *val is written, or read into. false: it is no such access, and
 * nothing was done; mem_read() or mem_write() find out why. */
MUST_CHECK bool mem_passive_access(struct cpu *c, laddr la, unsigned size, bool write, bool user, u64 *val);
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

void tlb_flush_all(struct cpu *c);            /* with global pages: CR4.PGE/PAE/PSE, CR0.PG changes */
void tlb_flush_nonglobal(struct cpu *c);      /* MOV CR3 */
void tlb_flush_page(struct cpu *c, laddr la); /* INVLPG */
/* CR0.WP has been set: takes back what the supervisor could write to only while it was clear. This is no flush: what
 * the processor has cached of a page is its R/W bit, and WP is looked at with each access (SDM vol. 3, 4.6). */
void tlb_write_protect(struct cpu *c);

#endif
