/* Owns nothing: reads the page directory that CR3 or the PDPTEs lead to.
 *
 * Enter at directory_entry(). Reserved bits are not looked at: where they are set a walk fails, and what leads beyond
 * MAXPHYADDR leads to no RAM. */
#include "runtime/mem/directory.h"
#include "runtime/mem/physmem.h"

u64 directory_read(const struct cpu *c, paddr pa, unsigned size)
{
    const u8 *p = bus_ram_ptr(c->bus, pa);
    return !p ? 0 : size == 4 ? *(const u32 *)p : *(const u64 *)p;
}

bool directory_page(const struct cpu *c, laddr la, paddr *page)
{
    bool pae = (c->cr4 & CR4_PAE) != 0;
    u64 to = pae ? c->pdpte[la >> 30] : c->cr3;
    *page = directory_frame(c, to);
    return c->cr0 & CR0_PG && (!pae || to & PTE_P);
}

u64 directory_entry(const struct cpu *c, laddr la, paddr *table)
{
    const unsigned size = directory_entry_size(c), index = (la >> directory_shift(c)) % (PAGE_SIZE / size);
    paddr page;
    *table = NO_PAGE_TABLE;
    if (!directory_page(c, la, &page)) return 0;
    u64 entry = directory_read(c, page + index * size, size);
    if (!(entry & PTE_P)) return 0;
    bool large = entry & PTE_PS && c->cr4 & (CR4_PAE | CR4_PSE);
    if (!large) *table = directory_frame(c, entry);
    return directory_less(entry);
}
