/* The page directory in use, and the format of its entries: for who need not walk. Nothing here has side effects. */
#ifndef RUNTIME_DIRECTORY_H
#define RUNTIME_DIRECTORY_H
#include "core/cpu.h"

/* SDM vol. 3, 4.3 and 4.4: of directories' and tables' entries. */
enum pte_bit { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };

static inline unsigned directory_entry_size(const struct cpu *c) { return c->cr4 & CR4_PAE ? 8 : 4; }
/* Each entry covers 1 << that bytes of linear space, a region. */
static inline unsigned directory_shift(const struct cpu *c) { return c->cr4 & CR4_PAE ? 21 : 22; }
/* Where an entry leads, or CR3 without PAE, or a PDPTE. */
static inline paddr directory_frame(const struct cpu *c, u64 entry)
{
    return entry & (c->cr4 & CR4_PAE ? 0xffffffffff000ull : PAGE_MASK);
}
/* An entry less A and D; 0: not present. */
static inline u64 directory_less(u64 entry) { return entry & PTE_P ? entry & ~(u64)(PTE_A | PTE_D) : 0; }
/* The entry at pa, as it lies in RAM; elsewhere 0. */
u64 directory_read(const struct cpu *c, paddr pa, unsigned size);
/* The page that has la's entry. False: there is none, without paging or with a PDPTE that is not present. */
bool directory_page(const struct cpu *c, laddr la, paddr *page);
/* la's entry, by directory_less(). *table: the page table that it leads to, NO_PAGE_TABLE if none. */
#define NO_PAGE_TABLE (~(paddr)0)
u64 directory_entry(const struct cpu *c, laddr la, paddr *table);

#endif
