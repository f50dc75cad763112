/* Owns what is known of page tables in use, where they are watched.
 *
 *   I1  What is cached for the present CR3 (soft TLB, the supervisor's window, the windows and jump caches of this CR3)
 *       is what a walk would find now. What windows keep for another CR3 is compared with its tables when it comes
 *       back.                                                                 [tables_written, tables_flushed]
 *   I2  A page that I1 depends on has PG_TABLE, and a page table's places are in its role. One that I1 does not depend
 *       on (of another address space, or memory like any other since) loses it when it is written. [tables_note, who
 *       walks; tables_release]
 *   I3  Before a present entry changes, all that is cached of what it covers is gone; what DMA has changed already
 *       takes the whole page with it.                                     [tables_written, bus_host_written]
 *   I4  global[] has the directory's entry of each region of which something with G may be cached.  [tables_note]
 *
 * A page may be directory and table at once (one that maps itself), and serve several places, as a kernel's tables do
 * while it runs at two addresses. If they are more than PLACES, the directory is searched.
 * A new CR3 keeps what has G: of that I1 would not hold where the two directories differ. There it goes.
 * A write costs translated code a call and no more; the supervisor's instructions that write to page tables become soft
 * (window.h). */
#include "runtime/mem/tables.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/directory.h"
#include "runtime/mem/physmem.h"

#include <errno.h>

#define PLACES 4u
#define RECENT_MS 8000u
#define REGIONS_MAX 2048u /* that a directory has entries for, or four do */

struct tables {
    struct coherence_listener listener;
    struct role {
        u16 place[PLACES]; /* as a page table, up to a 0: 1 + the region that it serves */
        bool many;         /* there are more */
        u32 since_ms;      /* when it began to be watched; 0: never */
    } * role;              /* by page of the file of RAM */
    u64 global[REGIONS_MAX];
    u16 listed[REGIONS_MAX]; /* the regions with one */
    unsigned nlisted;
    bool pae;   /* what a region is, there */
    u32 now_ms; /* not 0 */
};

static unsigned regions(const struct cpu *c) { return 1u << (32 - directory_shift(c)); }
static laddr region_la(const struct cpu *c, unsigned region) { return (laddr)region << directory_shift(c); }

static struct role *role_of(struct cpu *c, paddr pa)
{
    s64 off = bus_ram_offset(c->bus, pa);
    return off < 0 ? NULL : &c->tables->role[off >> PAGE_SHIFT];
}

/* ---- in use ---- */

static void note_place(struct role *r, unsigned region)
{
    unsigned i = 0;
    if (likely(r->place[0] == region + 1)) return;
    while (i < PLACES && r->place[i] && r->place[i] != region + 1) i++;
    if (i < PLACES) r->place[i] = (u16)(region + 1);
    else r->many = true;
}

static void note_global(struct cpu *c, unsigned region)
{
    struct tables *t = c->tables;
    paddr table;
    if (!t->global[region]) t->listed[t->nlisted++] = (u16)region;
    t->global[region] = directory_entry(c, region_la(c, region), &table);
}

static void mark(struct cpu *c, paddr pa)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (!flags || likely(*flags & PG_TABLE)) return;
    role_of(c, pa)->since_ms = c->tables->now_ms;
    bus_mark_table(c->bus, pa & ~(paddr)(PAGE_SIZE - 1));
}

void tables_note(struct cpu *c, laddr la, paddr dir, paddr table, bool global)
{
    unsigned region = la >> directory_shift(c);
    struct role *r = table == NO_PAGE_TABLE ? NULL : role_of(c, table);
    mark(c, dir);
    if (r) {
        note_place(r, region);
        mark(c, table);
    }
    if (global && !c->tables->global[region]) note_global(c, region);
}

/* ---- writes ---- */

static void drop(struct cpu *c, laddr la, u32 pages)
{
    c->tlb_generation++;
    c->ctr.table_drops++;
    coherence_forget(bus_coherence(c->bus), la, pages);
}

static void drop_all(struct cpu *c)
{
    struct tables *t = c->tables;
    drop(c, 0, TLB_PAGES);
    while (t->nlisted) t->global[t->listed[--t->nlisted]] = 0;
}

static void drop_region(struct cpu *c, unsigned region)
{
    struct tables *t = c->tables;
    unsigned i = 0;
    drop(c, region_la(c, region), 1u << (directory_shift(c) - PAGE_SHIFT));
    if (!t->global[region]) return;
    while (t->listed[i] != region) i++;
    t->listed[i] = t->listed[--t->nlisted];
    t->global[region] = 0;
}

/* Whether region's entry in the directory in use is in r's page, */
static bool is_directory(struct cpu *c, const struct role *r, unsigned region)
{
    paddr page;
    return directory_page(c, region_la(c, region), &page) && role_of(c, page) == r;
}

/* or leads there. */
static bool is_table(struct cpu *c, const struct role *r, unsigned region)
{
    paddr table;
    return directory_entry(c, region_la(c, region), &table) && table != NO_PAGE_TABLE && role_of(c, table) == r;
}

/* The i-th region that r may be a page table for. False: there are no more. */
static bool next_place(const struct cpu *c, const struct role *r, unsigned i, unsigned *region)
{
    *region = r->many ? i : i < PLACES ? r->place[i] - 1u : UINT32_MAX;
    return *region < regions(c);
}

/* Whether a walk from the present CR3 may come through r's page. */
static bool serves(struct cpu *c, const struct role *r)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c), region;
    for (unsigned first = 0; first < regions(c); first += entries)
        if (is_directory(c, r, first)) return true;
    for (unsigned i = 0; next_place(c, r, i, &region); i++)
        if (is_table(c, r, region)) return true;
    return false;
}

static void drop_of_table(struct cpu *c, const struct role *r, unsigned index, unsigned n)
{
    unsigned region;
    for (unsigned i = 0; next_place(c, r, i, &region); i++)
        if (is_table(c, r, region)) drop(c, region_la(c, region) + (index << PAGE_SHIFT), n);
}

static void drop_entry(struct cpu *c, const struct role *r, unsigned index)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    for (unsigned first = 0; first < regions(c); first += entries)
        if (is_directory(c, r, first)) drop_region(c, first + index);
    drop_of_table(c, r, index, 1);
}

void tables_forget(struct cpu *c, paddr pa)
{
    struct role *r = role_of(c, pa);
    u8 *flags = bus_page_flags(c->bus, pa);
    if (!r || !(*flags & PG_TABLE)) return;
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    bool all = false;
    for (unsigned first = 0; first < regions(c); first += entries) all |= is_directory(c, r, first);
    if (all) drop_all(c);
    else drop_of_table(c, r, 0, entries);
    *r = (struct role){ .since_ms = r->since_ms };
    *flags &= (u8)~PG_TABLE;
}

void tables_release(struct cpu *c, paddr pa)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (flags && *flags & PG_TABLE && !serves(c, role_of(c, pa))) tables_forget(c, pa);
}

bool tables_recent(const struct cpu *c, paddr pa)
{
    const struct tables *t = c->tables;
    s64 off = bus_ram_offset(c->bus, pa);
    if (!t || off < 0) return false;
    u32 since = t->role[off >> PAGE_SHIFT].since_ms;
    return since && t->now_ms - since < RECENT_MS;
}

static void tables_written(void *arg, paddr pa, unsigned len)
{
    struct cpu *c = arg;
    struct role *r = role_of(c, pa);
    unsigned size = directory_entry_size(c);
    const u8 *host = bus_ram_ptr(c->bus, pa & ~(paddr)(PAGE_SIZE - 1));
    if (!r || !host) return;
    c->ctr.table_writes++;
    if (len > 8 || !serves(c, r)) {
        tables_forget(c, pa);
        return;
    }
    unsigned first = (unsigned)(pa & (PAGE_SIZE - 1)), end = first + len;
    for (unsigned at = first & ~(size - 1); at < end && at < PAGE_SIZE; at += size)
        if (host[at] & PTE_P) drop_entry(c, r, at / size);
}

bool tables_let_write(struct cpu *c, paddr pa, unsigned n)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (!flags || (*flags & PG_ANNOUNCED) != PG_TABLE) return false;
    tables_written(c, pa, n);
    return true;
}

/* ---- another CR3 ---- */

static void directories_note(struct cpu *c)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    paddr page;
    for (unsigned first = 0; first < regions(c); first += entries)
        if (directory_page(c, region_la(c, first), &page)) mark(c, page);
}

/* What has no G is gone, or is being compared with the tables. */
static void tables_flushed(void *arg, struct cpu *flusher, enum tlb_flush_kind kind, laddr la UNUSED)
{
    struct cpu *c = arg;
    struct tables *t = c->tables;
    bool pae = (c->cr4 & CR4_PAE) != 0;
    if (flusher != c || kind == TLB_FLUSH_PAGE) return;
    if (pae != t->pae || !(c->cr0 & CR0_PG)) drop_all(c);
    t->pae = pae;
    for (unsigned i = t->nlisted; i--;) {
        paddr table;
        unsigned region = t->listed[i];
        if (directory_entry(c, region_la(c, region), &table) != t->global[region]) drop_region(c, region);
    }
    if (t->nlisted) directories_note(c);
}

static void tables_aged(void *arg, u64 now_ms)
{
    struct cpu *c = arg;
    c->tables->now_ms = (u32)now_ms | 1;
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
    t->listener = (struct coherence_listener){
        .rank = COHERENCE_TLB, .arg = c, .flushed = tables_flushed, .table_written = tables_written, .aged = tables_aged
    };
    t->now_ms = 1;
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
