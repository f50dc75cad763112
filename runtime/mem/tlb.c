/* Owns the soft TLB: four tables (supervisor or user, read or write) of one entry per linear page behind struct cpu
 * (layout in core/cpu.h), and the books that make a flush cost what was filled.
 *
 *   I1  An entry leads to RAM that no device or ROM covers; a write entry moreover to a page without PG_ANNOUNCED,
 *       whose leaf has D set, and that its privilege may write.                              [tlb_fill,
 *       tlb_protect]
 *       What a breakpoint watches has none of the kind that could meet it.                    [tlb_fill, watch_page]
 *   I2  A page with a write entry has the read entry of the same privilege as well.
 *   I3  Every page with an entry in a privilege's tables is listed for that privilege, under "global" only if it must
 *       survive a CR3 write.                                                            [list_add]
 *   I4  For every write entry, writer[] of its physical page names its linear page or says TLB_WRITERS.  [writer_note]
 *   I5  With CR0.WP clear, every supervisor write entry of a page that its tables make read-only is a loan: listed, or
 *       there are too many to list. With CR0.WP set there are none.                          [loan_note,
 *       tlb_write_protect]
 *   I6  tlb_generation changes with every flush that the guest asks for, not when entries are dropped for our own ends.
 *   I7  A page with an entry in a privilege's tables has its bit in filled[] of that privilege. [list_add, drop_pages]
 *
 * A flush zeroes the listed entries: measured, this beats giving the tables' memory back with madvise() at any length,
 * since that pays a page fault per 2 MiB of linear space afterwards. */
#include "runtime/mem/coherence.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/tables.h"
#include "runtime/mem/watch.h"

#include <errno.h>
#include <string.h>

/* ---- lifetime ---- */

static void tlb_protect(void *arg, paddr page);
static void tlb_remapped(void *arg) { tlb_flush_all(arg); }
static void tlb_watched(void *arg, laddr la) { tlb_drop(arg, la); }
static void tlb_forget(void *arg, laddr la, u32 pages);
static void tlb_aged(void *arg, u64 now_ms) { watch_age(arg, now_ms); }

int tlb_init(struct cpu *c)
{
    struct tlb_book *t = calloc(1, sizeof *t);
    if (!t) return -ENOMEM;
    c->tlb = t;
    mmu_model(c);
    bool ok = !watch_book_new(c);
    for (unsigned i = 0; i < 4; i++) ok &= (t->list[i / 2][i % 2].page = malloc(TLB_LIST_MAX * sizeof(u32))) != NULL;
    ok &= (t->writer = calloc(bus_file_pages(c->bus), sizeof(u32))) != NULL;
    if (!ok) {
        tlb_fini(c);
        return -ENOMEM;
    }
    t->listener = (struct coherence_listener){ .rank = COHERENCE_TLB,
                                               .arg = c,
                                               .protect = tlb_protect,
                                               .watched = tlb_watched,
                                               .forget = tlb_forget,
                                               .remapped = tlb_remapped,
                                               .aged = tlb_aged };
    coherence_listen(bus_coherence(c->bus), &t->listener);
    return 0;
}

void tlb_fini(struct cpu *c)
{
    struct tlb_book *t = c->tlb;
    if (!t) return;
    coherence_unlisten(bus_coherence(c->bus), &t->listener);
    for (unsigned i = 0; i < 4; i++) free(t->list[i / 2][i % 2].page);
    free(t->writer);
    free(t);
    watch_book_free(c);
    c->tlb = NULL;
}

/* ---- dropping entries ---- */

static enum tlb_kind read_kind(bool user) { return user ? TLB_USER_R : TLB_SUP_R; }
static enum tlb_kind write_kind(bool user) { return user ? TLB_USER_W : TLB_SUP_W; }

static void list_flush(struct cpu *c, bool user, bool global)
{
    struct tlb_list *l = &c->tlb->list[user][global];
    u64 *r = cpu_tlb(c, read_kind(user)), *w = cpu_tlb(c, write_kind(user));
    for (u32 i = 0; i < l->n; i++) {
        r[l->page[i]] = 0;
        if (w[l->page[i]]) w[l->page[i]] = 0; /* looking first leaves untouched tables untouched */
        c->tlb->filled[user][l->page[i] / 64] &= ~(1ull << l->page[i] % 64);
    }
    l->n = 0;
}

static void lists_flush(struct cpu *c, bool global)
{
    list_flush(c, false, global);
    list_flush(c, true, global);
}

static void drop_some(struct cpu *c, bool user, u32 page, u64 which)
{
    u64 *r = cpu_tlb(c, read_kind(user)) + page, *w = cpu_tlb(c, write_kind(user)) + page;
    for (; which; which &= which - 1) r[__builtin_ctzll(which)] = w[__builtin_ctzll(which)] = 0;
}

/* The tables are wide, and mostly empty: each look into one is a miss in the host's own TLB. */
static void drop_pages(struct cpu *c, u32 page, u32 n)
{
    for (u32 end = page + n, at = page, next; at < end; at = next) {
        u32 word = at / 64;
        next = (word + 1) * 64 < end ? (word + 1) * 64 : end;
        u64 some = (~0ull >> (64 - (next - at))) << at % 64;
        for (unsigned user = 0; user < 2; user++) {
            u64 *filled = &c->tlb->filled[user][word];
            if (likely(!(*filled & some))) continue;
            drop_some(c, user, word * 64, *filled & some);
            *filled &= ~some;
        }
    }
}

void tlb_drop(struct cpu *c, laddr la)
{
    drop_pages(c, la >> PAGE_SHIFT, 1);
    c->tlb->exec[(la >> PAGE_SHIFT) % TLB_EXEC_ENTRIES].key = 0;
}

static void flushed(struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    c->tlb_generation++;
    coherence_flushed(bus_coherence(c->bus), c, kind, la);
}

void tlb_flush_all(struct cpu *c)
{
    struct tlb_book *t = c->tlb;
    lists_flush(c, false);
    lists_flush(c, true);
    for (unsigned i = 0; i < ARRAY_LEN(t->large); i++) t->large[i] = 0;
    t->nloans = 0;
    c->ctr.tlb_flushes++;
    flushed(c, TLB_FLUSH_ALL, 0);
}

void tlb_flush_nonglobal(struct cpu *c)
{
    lists_flush(c, false);
    c->ctr.tlb_flushes++;
    flushed(c, TLB_FLUSH_NONGLOBAL, 0);
}

/* The page may be part of a large one, which goes as a whole: then others who cache pages must drop more than one, too.
 */
void tlb_flush_page(struct cpu *c, laddr la)
{
    unsigned region = la >> TLB_REGION_SHIFT;
    u64 *large = &c->tlb->large[region / 64], bit = 1ull << region % 64;
    if (*large & bit) {
        const u32 pages = 1u << (TLB_REGION_SHIFT - PAGE_SHIFT);
        drop_pages(c, region * pages, pages);
        *large &= ~bit;
        flushed(c, TLB_FLUSH_ALL, 0);
        return;
    }
    tlb_drop(c, la);
    flushed(c, TLB_FLUSH_PAGE, la);
}

static void tlb_forget(void *arg, laddr la, u32 pages)
{
    struct cpu *c = arg;
    if (pages == 1) {
        tlb_drop(c, la);
    } else if (pages < TLB_PAGES) {
        drop_pages(c, la >> PAGE_SHIFT, pages);
    } else {
        lists_flush(c, false);
        lists_flush(c, true);
    }
}

/* ---- write entries by physical page ---- */

static bool has_write_entry(struct cpu *c, u32 page)
{
    return cpu_tlb(c, TLB_SUP_W)[page] || cpu_tlb(c, TLB_USER_W)[page];
}

static void writer_note(struct cpu *c, paddr pa, u32 page)
{
    u32 *w = &c->tlb->writer[bus_ram_offset(c->bus, pa) >> PAGE_SHIFT];
    if (likely(*w == page + 1) || *w == TLB_WRITERS) return;
    *w = *w && has_write_entry(c, *w - 1) ? TLB_WRITERS : page + 1;
}

static void unwrite(struct cpu *c, u32 page, const u8 *host)
{
    for (unsigned user = 0; user < 2; user++) {
        u64 *e = &cpu_tlb(c, write_kind(user))[page];
        if (*e && (u8 *)(*e + ((u64)page << PAGE_SHIFT)) == host) *e = 0;
    }
}

/* Takes the write entries of a physical page. */
static void tlb_protect(void *arg, paddr page)
{
    struct cpu *c = arg;
    const u8 *host = bus_ram_ptr(c->bus, page);
    if (!host) return;
    host -= page & (PAGE_SIZE - 1);
    u32 *w = &c->tlb->writer[bus_ram_offset(c->bus, page) >> PAGE_SHIFT];
    if (*w == TLB_WRITERS) {
        for (unsigned i = 0; i < 4; i++) {
            const struct tlb_list *l = &c->tlb->list[i / 2][i % 2];
            for (u32 j = 0; j < l->n; j++) unwrite(c, l->page[j], host);
        }
    } else if (*w) {
        unwrite(c, *w - 1, host);
    }
    *w = 0;
}

/* ---- write entries that CR0.WP lends ---- */

static void loan_note(struct cpu *c, u32 page)
{
    struct tlb_book *t = c->tlb;
    if (t->nloans < TLB_LOANS_MAX) t->loan[t->nloans] = page;
    if (t->nloans <= TLB_LOANS_MAX) t->nloans++;
}

void tlb_write_protect(struct cpu *c)
{
    struct tlb_book *t = c->tlb;
    if (t->nloans > TLB_LOANS_MAX)
        for (unsigned global = 0; global < 2; global++) list_flush(c, false, global);
    else
        for (u32 i = 0; i < t->nloans; i++) cpu_tlb(c, TLB_SUP_W)[t->loan[i]] = 0;
    t->nloans = 0;
}

/* ---- filling ---- */

static void list_add(struct cpu *c, bool user, bool global, u32 page)
{
    struct tlb_list *l = &c->tlb->list[user][global];
    if (unlikely(l->n == TLB_LIST_MAX)) list_flush(c, user, global);
    l->page[l->n++] = page;
    c->tlb->filled[user][page / 64] |= 1ull << page % 64;
}

bool tlb_exec(struct cpu *c, laddr la, bool user, paddr *page, const u8 **host, u32 *error)
{
    struct tlb_exec *e = &c->tlb->exec[(la >> PAGE_SHIFT) % TLB_EXEC_ENTRIES];
    u32 key = (la & PAGE_MASK) | (u32)user << 1 | 1;
    if (unlikely(e->key != key || e->generation != c->tlb_generation)) {
        struct walk w;
        if (!mmu_walk(c, la & PAGE_MASK, ACC_X, user, &w)) {
            *error = w.error;
            return false;
        }
        *e = (struct tlb_exec){ key, c->tlb_generation, w.pa, bus_ram_ptr(c->bus, w.pa) };
    }
    *page = e->pa;
    *host = e->host;
    return true;
}

static u8 *exec_fill(struct cpu *c, laddr la, bool user, bool *fault)
{
    paddr page;
    const u8 *host;
    u32 error;
    if (!tlb_exec(c, la, user, &page, &host, &error)) {
        *fault = true;
        (void)mmu_page_fault(c, la, error);
        return NULL;
    }
    return host ? (u8 *)host + (la & ~PAGE_MASK) : NULL;
}

u8 *tlb_fill(struct cpu *c, laddr la, enum access acc, bool user, bool *fault)
{
    struct walk w;
    *fault = false;
    if (acc == ACC_X) return exec_fill(c, la, user, fault);
    c->ctr.tlb_fills++;
    if (!mmu_walk(c, la, acc, user, &w)) {
        *fault = true;
        (void)mmu_page_fault(c, la, w.error);
        return NULL;
    }
    u8 *host = bus_ram_ptr(c->bus, w.pa);
    if (unlikely(!host)) return NULL;
    u8 *flags = bus_page_flags(c->bus, w.pa);
    u32 page = la >> PAGE_SHIFT;
    u64 entry = (u64)host - la;
    if (unlikely(!(*flags & PG_NEAR))) bus_touch(c->bus, w.pa);
    unsigned breaks = watch_kinds(c, la);
    if (unlikely(breaks & WATCH_READS)) return NULL;
    if (unlikely(*flags & PG_TABLE) && acc == ACC_W) tables_release(c, w.pa);
    if (unlikely(*flags & PG_CLEAN) && acc == ACC_W) bus_mark_dirty(c->bus, w.pa);
    bool watched = *flags & PG_ANNOUNCED || breaks & WATCH_WRITES;
    list_add(c, user, w.global, page); /* first: it may empty the list */
    cpu_tlb(c, read_kind(user))[page] = entry;
    if (!watched && w.dirty && (w.write || (!user && !(c->cr0 & CR0_WP)))) {
        if (unlikely(!w.write)) loan_note(c, page);
        writer_note(c, w.pa, page);
        cpu_tlb(c, write_kind(user))[page] = entry;
    }
    return acc == ACC_W && watched ? NULL : host;
}
