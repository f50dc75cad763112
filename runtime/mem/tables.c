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
 *   I5  way[] has where a walk for the supervisor's writes to a linear page ends, with CR0.WP set; dir is of the
 *       directory in use.
 *                                                                        [tables_let_write, ways_forget]
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
#include <string.h>

#define PLACES 4u
#define RECENT_MS 8000u
#define PATIENCE_LEAST 4u /* each refusal has made an instruction soft that writes there */
#define PATIENCE_MOST 128u
#define REGIONS_MAX 2048u /* that a directory has entries for, or four do */
#define WAYS 64u

struct tables {
    struct coherence_listener listener;
    struct role {
        u16 place[PLACES]; /* as a page table, up to a 0: 1 + the region that it serves */
        bool many;         /* there are more */
        u8 refused;        /* as memory like any other: how often a window has been refused it */
        u8 patience;       /* that it may be */
        u32 since_ms;      /* when it began to be watched; 0: never */
    } * role;              /* by page of the file of RAM */
    u64 global[REGIONS_MAX];
    u16 listed[REGIONS_MAX]; /* the regions with one */
    unsigned nlisted;
    struct way {
        u64 key; /* ways << 32 | the linear page */
        u8 *host;
        const u8 *flags, *dir;
        paddr pa;
    } way[WAYS]; /* by the linear page's number */
    u32 ways;    /* how often all of them have been forgotten; not 0 */
    struct {
        paddr page; /* NO_PAGE_TABLE: none */
        const struct role *role;
    } directory[4]; /* what role_of() said last of each directory in use */
    bool pae;       /* what a region is, there */
    u32 now_ms;     /* not 0 */
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

static bool is_recent(const struct cpu *c, const struct role *r)
{
    return r->since_ms && c->tables->now_ms - r->since_ms < RECENT_MS;
}

static void mark(struct cpu *c, paddr pa)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (!flags || likely(*flags & PG_TABLE)) return;
    struct role *r = role_of(c, pa);
    if (!is_recent(c, r)) r->patience = PATIENCE_LEAST;
    else if (r->refused >= r->patience && r->patience < PATIENCE_MOST) r->patience *= 2; /* it was taken for settled */
    r->refused = 0;
    r->since_ms = c->tables->now_ms;
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
    laddr la = region_la(c, region);
    if (!directory_page(c, la, &page)) return false;
    unsigned i = c->cr4 & CR4_PAE ? la >> 30 : 0;
    if (unlikely(c->tables->directory[i].page != page)) {
        c->tables->directory[i].page = page;
        c->tables->directory[i].role = role_of(c, page);
    }
    return c->tables->directory[i].role == r;
}

/* and whether any region's is; */
static bool is_any_directory(struct cpu *c, const struct role *r)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    for (unsigned first = 0; first < regions(c); first += entries)
        if (is_directory(c, r, first)) return true;
    return false;
}

/* or leads there. pa: a place in that page. */
static bool is_table(struct cpu *c, const struct role *r, paddr pa, unsigned region)
{
    paddr table;
    if (!directory_entry(c, region_la(c, region), &table) || table == NO_PAGE_TABLE) return false;
    return likely(table == (pa & ~(paddr)(PAGE_SIZE - 1))) || role_of(c, table) == r;
}

/* The i-th region that r may be a page table for. False: there are no more. */
static bool next_place(const struct cpu *c, const struct role *r, unsigned i, unsigned *region)
{
    *region = r->many ? i : i < PLACES ? r->place[i] - 1u : UINT32_MAX;
    return *region < regions(c);
}

/* Whether a walk from the present CR3 may come through r's page. */
static bool serves(struct cpu *c, const struct role *r, paddr pa)
{
    unsigned region;
    if (is_any_directory(c, r)) return true;
    for (unsigned i = 0; next_place(c, r, i, &region); i++)
        if (is_table(c, r, pa, region)) return true;
    return false;
}

/* Both drop what n entries of r's page cover from the index-th on, and return whether the page serves so. */
static bool drop_of_directory(struct cpu *c, const struct role *r, unsigned index, unsigned n)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    bool any = false;
    for (unsigned first = 0; first < regions(c); first += entries)
        if (is_directory(c, r, first)) {
            any = true;
            for (unsigned i = 0; i < n; i++) drop_region(c, first + index + i);
        }
    return any;
}

static bool drop_of_table(struct cpu *c, const struct role *r, paddr pa, unsigned index, unsigned n)
{
    unsigned region;
    bool any = false;
    for (unsigned i = 0; next_place(c, r, i, &region); i++)
        if (is_table(c, r, pa, region)) {
            any = true;
            if (n) drop(c, region_la(c, region) + (index << PAGE_SHIFT), n);
        }
    return any;
}

void tables_forget(struct cpu *c, paddr pa)
{
    struct role *r = role_of(c, pa);
    u8 *flags = bus_page_flags(c->bus, pa);
    if (!r || !(*flags & PG_TABLE)) return;
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    if (is_any_directory(c, r)) drop_all(c);
    else (void)drop_of_table(c, r, pa, 0, entries);
    *r = (struct role){ .patience = r->patience, .since_ms = r->since_ms };
    *flags &= (u8)~PG_TABLE;
}

void tables_release(struct cpu *c, paddr pa)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (flags && *flags & PG_TABLE && !serves(c, role_of(c, pa), pa)) tables_forget(c, pa);
}

bool tables_recent(struct cpu *c, paddr pa)
{
    const struct role *r = c->tables ? role_of(c, pa) : NULL;
    return r && is_recent(c, r) && r->refused < r->patience;
}

void tables_refused(struct cpu *c, paddr pa)
{
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (flags && !(*flags & PG_TABLE) && tables_recent(c, pa)) role_of(c, pa)->refused++;
}

/* Nothing is cached of an entry that is not present, or has not been used. Its first byte says so. */
static bool may_be_cached(u8 entry) { return (entry & (PTE_P | PTE_A)) == (PTE_P | PTE_A); }

static void write_begins(struct cpu *c, const struct role *r, paddr pa, unsigned len, const u8 *host)
{
    unsigned size = directory_entry_size(c), first = (unsigned)(pa & (PAGE_SIZE - 1)), end = first + len;
    bool in_use = len <= 8;
    c->ctr.table_writes++;
    for (unsigned at = first & ~(size - 1); in_use && at < end && at < PAGE_SIZE; at += size) {
        unsigned n = may_be_cached(host[at]);
        bool directory = drop_of_directory(c, r, at / size, n);
        in_use = drop_of_table(c, r, pa, at / size, n) || directory;
    }
    if (!in_use) tables_forget(c, pa);
}

static void tables_written(void *arg, paddr pa, unsigned len)
{
    struct cpu *c = arg;
    const struct role *r = role_of(c, pa);
    const u8 *host = bus_ram_ptr(c->bus, pa & ~(paddr)(PAGE_SIZE - 1));
    if (r && host) write_begins(c, r, pa, len, host);
}

/* ---- where writes lead ---- */

static u64 way_key(const struct tables *t, laddr la) { return (u64)t->ways << 32 | la >> PAGE_SHIFT; }

/* The directory's entry that leads to r's page, where that is all that it is in use for; else NULL. */
static const u8 *only_entry(struct cpu *c, const struct role *r, paddr page)
{
    unsigned size = directory_entry_size(c), entries = PAGE_SIZE / size, region = r->place[0] - 1u;
    paddr dir;
    if (!r->place[0] || r->place[1] || r->many || is_any_directory(c, r)) return NULL;
    if (!is_table(c, r, page, region) || !directory_page(c, region_la(c, region), &dir)) return NULL;
    return bus_ram_ptr(c->bus, dir + region % entries * size);
}

/* True: r is in use as it was when the way was found, and no more; what its n bytes at off cover has been dropped. */
static bool write_again(struct cpu *c, const struct way *w, const struct role *r, unsigned off, unsigned n)
{
    unsigned size = directory_entry_size(c), last = off + n - 1;
    u64 entry = !w->dir ? 0 : size == 8 ? *(const u64 *)w->dir : *(const u32 *)w->dir;
    if (!(entry & PTE_P) || entry & PTE_PS || directory_frame(c, entry) != w->pa) return false;
    if (r->place[1] || r->many) return false;
    c->ctr.table_writes++;
    for (unsigned at = off & ~(size - 1); at <= last; at += size)
        if (may_be_cached(w->host[at])) drop(c, region_la(c, r->place[0] - 1u) + (at / size << PAGE_SHIFT), 1);
    return true;
}

static bool write_as_table(struct cpu *c, const struct way *w, unsigned off, unsigned n)
{
    const struct role *r = role_of(c, w->pa);
    if (!r || (*w->flags & PG_ANNOUNCED) != PG_TABLE) return false;
    if (!write_again(c, w, r, off, n)) write_begins(c, r, w->pa + off, n, w->host);
    return true;
}

u8 *tables_let_write(struct cpu *c, laddr la, paddr pa, unsigned n)
{
    struct tables *t = c->tables;
    paddr page = pa & ~(paddr)(PAGE_SIZE - 1);
    unsigned off = la & (PAGE_SIZE - 1);
    const struct role *r = role_of(c, page);
    struct way w = { way_key(t, la), bus_ram_ptr(c->bus, page), bus_page_flags(c->bus, page), NULL, page };
    if (!r || !w.host || !w.flags) return NULL;
    w.dir = only_entry(c, r, page);
    if (c->cpl != 3 && c->cr0 & CR0_WP) t->way[(la >> PAGE_SHIFT) % WAYS] = w; /* first: it may end with this */
    return write_as_table(c, &w, off, n) ? w.host + off : NULL;
}

u8 *tables_let_again(struct cpu *c, laddr la, unsigned n)
{
    const struct way w = c->tables->way[(la >> PAGE_SHIFT) % WAYS]; /* a copy: it may end with this */
    unsigned off = la & (PAGE_SIZE - 1);
    if (w.key != way_key(c->tables, la) || c->cpl == 3) return NULL;
    return write_as_table(c, &w, off, n) ? w.host + off : NULL;
}

static void ways_forget_all(struct tables *t)
{
    if (!++t->ways) memset(t->way, 0, sizeof t->way), t->ways = 1;
}

static void ways_forget(void *arg, laddr la, u32 pages)
{
    struct tables *t = ((struct cpu *)arg)->tables;
    u64 first = way_key(t, la);
    struct way *one = &t->way[(la >> PAGE_SHIFT) % WAYS], *begin = pages > 1 ? t->way : one;
    for (struct way *w = begin; w < (pages > 1 ? t->way + WAYS : one + 1); w++)
        if (w->key - first < pages) w->key = 0;
}

static void directories_forget(struct tables *t)
{
    for (unsigned i = 0; i < ARRAY_LEN(t->directory); i++) t->directory[i].page = NO_PAGE_TABLE;
}

static void tables_remapped(void *arg)
{
    struct cpu *c = arg;
    ways_forget_all(c->tables);
    directories_forget(c->tables);
}

/* ---- another CR3 ---- */

static void directories_note(struct cpu *c)
{
    unsigned entries = PAGE_SIZE / directory_entry_size(c);
    paddr page;
    for (unsigned first = 0; first < regions(c); first += entries)
        if (directory_page(c, region_la(c, first), &page)) mark(c, page);
}

/* What is cached of regions with G, and leads elsewhere in the directories that are in use now, goes. */
static void globals_compare(struct cpu *c)
{
    struct tables *t = c->tables;
    const unsigned size = directory_entry_size(c), entries = PAGE_SIZE / size;
    const u8 *dir = NULL;
    unsigned quarter = UINT32_MAX;
    for (unsigned i = t->nlisted; i--;) {
        unsigned region = t->listed[i];
        paddr page;
        if (region / entries != quarter) {
            quarter = region / entries;
            dir = directory_page(c, region_la(c, region), &page) ? bus_ram_ptr(c->bus, page) : NULL;
        }
        const u8 *p = dir ? dir + region % entries * size : NULL;
        u64 entry = !p ? 0 : size == 8 ? *(const u64 *)p : *(const u32 *)p;
        if (directory_less(entry) != t->global[region]) drop_region(c, region);
    }
    if (t->nlisted) directories_note(c);
}

/* What has no G is gone, or is being compared with the tables. */
static void tables_flushed(void *arg, struct cpu *flusher, enum tlb_flush_kind kind, laddr la UNUSED)
{
    struct cpu *c = arg;
    struct tables *t = c->tables;
    bool pae = (c->cr4 & CR4_PAE) != 0;
    if (flusher != c) return;
    ways_forget_all(t);
    if (kind == TLB_FLUSH_PAGE) return;
    if (pae != t->pae || !(c->cr0 & CR0_PG)) drop_all(c);
    t->pae = pae;
    globals_compare(c);
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
    t->listener = (struct coherence_listener){ .rank = COHERENCE_TLB,
                                               .arg = c,
                                               .flushed = tables_flushed,
                                               .forget = ways_forget,
                                               .remapped = tables_remapped,
                                               .table_written = tables_written,
                                               .aged = tables_aged };
    t->now_ms = t->ways = 1;
    directories_forget(t);
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
