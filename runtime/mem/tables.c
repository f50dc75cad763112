/* Owns what is known of page tables in use, where they are watched.
 *
 *   I1  A page of RAM that anything cached has been read from has PG_TABLE, and what it is for is in role[]. Entries
 *       that are not present are cached nowhere.                                     [tables_note, who walks]
 *   I2  Before a present entry changes, all that is cached of what it covers is gone; what DMA has changed already
 *       takes the whole page with it.                                     [tables_written, bus_host_written]
 *
 * A page may be directory and table at once (one that maps itself), and serve several places, as a kernel's tables do
 * while it runs at two addresses. If they are more than PLACES, everything goes.
 * A write costs translated code a call and no more; the supervisor's instructions that write to page tables become soft
 * (window.h). What is written to all the time is taken to be no table any more. */
#include "runtime/mem/tables.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/physmem.h"

#include <errno.h>

#define PTE_P 1u
#define PLACES 4u
#define BASE_SHIFT 21 /* what a table with entries of 8 bytes covers */
#define WRITES_MAX 8192u

enum { LEAF, DIRECTORY, ROLES };

struct tables {
    struct coherence_listener listener;
    struct role {
        /* Up to a 0: 1 + the first linear address that it covers, >> BASE_SHIFT. */
        u16 base[ROLES][PLACES];
        bool many; /* there are more */
        u16 writes;
    } * role; /* by page of the file of RAM */
};

static unsigned entry_size(const struct cpu *c) { return c->cr4 & CR4_PAE ? 8 : 4; }
static unsigned directory_shift(const struct cpu *c) { return c->cr4 & CR4_PAE ? 21 : 22; }

static struct role *role_of(struct cpu *c, paddr pa)
{
    s64 off = bus_ram_offset(c->bus, pa);
    return off < 0 ? NULL : &c->tables->role[off >> PAGE_SHIFT];
}

void tables_note(struct cpu *c, laddr la, paddr pa, unsigned shift)
{
    struct role *r = role_of(c, pa);
    if (!r) return;
    unsigned kind = shift == PAGE_SHIFT ? LEAF : DIRECTORY;
    u64 covers = (u64)(PAGE_SIZE / entry_size(c)) << shift;
    u16 base = (u16)(1 + ((la & ~(covers - 1)) >> BASE_SHIFT));
    unsigned i = 0;
    while (i < PLACES && r->base[kind][i] && r->base[kind][i] != base) i++;
    if (i < PLACES) r->base[kind][i] = base;
    else r->many = true;
    bus_mark_table(c->bus, pa & ~(paddr)(PAGE_SIZE - 1));
}

/* ---- writes ---- */

static void drop(struct cpu *c, laddr la, u32 pages)
{
    c->tlb_generation++;
    coherence_forget(bus_coherence(c->bus), la, pages);
}

static void drop_covered(struct cpu *c, const struct role *r, unsigned index)
{
    if (r->many) {
        drop(c, 0, TLB_PAGES);
        return;
    }
    for (unsigned kind = 0; kind < ROLES; kind++) {
        unsigned shift = kind == LEAF ? PAGE_SHIFT : directory_shift(c);
        for (unsigned i = 0; i < PLACES && r->base[kind][i]; i++)
            drop(c, ((laddr)(r->base[kind][i] - 1) << BASE_SHIFT) + ((laddr)index << shift),
                 1u << (shift - PAGE_SHIFT));
    }
}

void tables_forget(struct cpu *c, paddr pa)
{
    struct role *r = role_of(c, pa);
    u8 *flags = bus_page_flags(c->bus, pa);
    if (!r || !(*flags & PG_TABLE)) return;
    unsigned n = PAGE_SIZE / entry_size(c);
    bool all = r->many || r->base[DIRECTORY][0];
    if (all) drop(c, 0, TLB_PAGES);
    for (unsigned i = 0; !all && i < PLACES && r->base[LEAF][i]; i++)
        drop(c, (laddr)(r->base[LEAF][i] - 1) << BASE_SHIFT, n);
    *r = (struct role){ .many = false };
    *flags &= (u8)~PG_TABLE;
}

static void tables_written(void *arg, paddr pa, unsigned len)
{
    struct cpu *c = arg;
    struct role *r = role_of(c, pa);
    unsigned size = entry_size(c);
    const u8 *host = bus_ram_ptr(c->bus, pa & ~(paddr)(PAGE_SIZE - 1));
    if (!r || !host) return;
    if (len > 8 || ++r->writes > WRITES_MAX) {
        tables_forget(c, pa);
        return;
    }
    unsigned first = (unsigned)(pa & (PAGE_SIZE - 1)), end = first + len;
    for (unsigned at = first & ~(size - 1); at < end && at < PAGE_SIZE; at += size)
        if (host[at] & PTE_P) drop_covered(c, r, at / size);
}

bool tables_let_write(struct cpu *c, paddr pa, unsigned n)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (!flags || (*flags & PG_ANNOUNCED) != PG_TABLE) return false;
    tables_written(c, pa, n);
    return true;
}

/* ---- lifetime ---- */

int tables_new(struct cpu *c)
{
    struct tables *t = calloc(1, sizeof *t);
    if (!t) return -ENOMEM;
    t->role = calloc(bus_file_pages(c->bus), sizeof *t->role);
    if (!t->role) {
        free(t);
        return -ENOMEM;
    }
    t->listener = (struct coherence_listener){ .rank = COHERENCE_TLB, .arg = c, .table_written = tables_written };
    coherence_listen(bus_coherence(c->bus), &t->listener);
    c->tables = t;
    return 0;
}

void tables_free(struct cpu *c)
{
    struct tables *t = c->tables;
    if (!t) return;
    coherence_unlisten(bus_coherence(c->bus), &t->listener);
    free(t->role);
    free(t);
    c->tables = NULL;
}
