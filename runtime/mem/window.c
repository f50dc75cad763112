/* Owns the windows' mappings: which page is where, and until when. Who makes them is the window's backend.
 *
 *   I1  page[n] is 0 iff host page n of a window is PROT_NONE; else it says which physical page is mapped, and whether
 *       writably.
 *   I2  A mapped page was, at the last validation, what the page tables said: same physical page, at least these
 *       rights, A set, and D set if mapped writably.                              [rights_at, region_validate]
 *   I3  A page with PG_ANNOUNCED is writable in no window.                          [rights_at, windows_protect]
 *   I4  region[r].mapped counts the mapped pages of 4 MiB region r; its snapshot is of the page-table entries they
 *       came from.
 *   I5  Who has a page of RAM writable is found without a search. Of a supervisor window's long runs, each linear page
 *       is its physical page plus one of delta[] (a kernel's linear map): all of these are tried. Every other place is
 *       in writer[user or not][page of RAM]: 1 + the window and the page in it; WRITERS, if there have been several:
 *       then all windows of that kind are searched.                               [note_writers] */
#define _GNU_SOURCE
#include "runtime/mem/window.h"
#include "core/host_ns.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/tables.h"
#include "runtime/mem/watch.h"
#include "runtime/mem/window_local.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define USER_WINDOWS 15
#define LOCAL_WINDOWS (1 + USER_WINDOWS) /* in this process */
#define REGIONS 1024u
#define REGION_SHIFT MMU_REGION_SHIFT
#define REGION_PAGES 1024u
#define MIN_RUN 16  /* pages: a shorter supervisor run is worth a mapping only if it stays */
#define CHURN_MAX 4 /* changes after which a page is not worth one, if it is not part of a long run */
#define CHURN_SLOTS 4096u
#define UNMAPS_MAX \
    8 /* runs of stale pages in a region; of more all of it goes by one call, and what was good comes back */
#define USER_RUN_MAX 64 /* pages mapped around a user fault, if contiguous */
#define SUP_CHUNK \
    64 /* likewise around a supervisor fault, aligned: 256 KiB. The host's mappings of neighbouring chunks merge */
#define DELTAS 32 /* kernels have one linear map, perhaps two */
#define PIECES_MAX \
    24000 /* each takes up to two VMAs of vm.max_map_count's default 65530, which the host process shares */

#define REST_BYTES (2ull << 30) /* code cache, the windows' books, direct execution */

enum { MAPPED = 1, WRITABLE = 2, EXECUTABLE = 4 /* direct execution only */, PFN_SHIFT = 3 };
#define WRITERS UINT32_MAX

struct region {
    u16 mapped;
    bool global;               /* all of it from entries with G: a CR3 write does not concern it */
    struct snapshot *snapshot; /* of the page tables; NULL: there is none */
};

struct window {
    struct windows *ws;
    struct window_backend be;
    u64 base;
    bool user, direct;
    u64 last_use;
    u32 *page;
    struct region region[REGIONS];
    u64 populated[REGIONS / 64]; /* regions that may have mapped pages */
    bool local;                  /* some region is not global */
    u32 delta[DELTAS], ndeltas;  /* supervisor: linear page minus physical page, of the long runs there have been */
    u32 pieces;                  /* mapped, unmapped or protected since the last reset: bounds the VMAs it can have */
};

#define NO_OWNER UINT64_MAX
struct windows {
    struct cpu *c;
    struct window_local *local;
    struct coherence_listener listener;
    struct window *here; /* user window of the present address space, or NULL */
    unsigned nlocal;     /* of the first LOCAL_WINDOWS below, those that there is room for */
    struct window w[LOCAL_WINDOWS + WINDOWS_DIRECT];
    u64 owner[LOCAL_WINDOWS + WINDOWS_DIRECT]; /* the CR3 that the user window of that index is of, or NO_OWNER */
    u64 tick;
    u32 *writer[2];        /* I5, by [user] and page of RAM */
    u8 churn[CHURN_SLOTS]; /* by linear page, hashed: supervisor mappings that have gone stale, lately */
    u32 pieces;            /* of all windows in this process */
    bool failed;           /* the host did not take a mapping away */
    bool fill_recent;      /* when the price was last asked: the working set is too large to be mapped at once */
    u64 map_ns;            /* what mapping a run costs here: a running average */
    struct basis {
        u32 cr0, cr4, remaps;
    } basis; /* what rights depend on beside the page tables */
};

/* What page[] may say for page n: 0 if the window may not map it. Without paging there is no user. What a supervisor
 * may write to only because CR0.WP is clear is left to the soft TLB, so that a change of WP is none of a window's. */
static u32 rights_at(const struct window *w, u32 n, bool *global)
{
    struct cpu *c = w->ws->c;
    struct walk l;
    *global = false;
    if (!mmu_look(c, n << PAGE_SHIFT, &l) || !l.accessed) return 0;
    if (c->cr0 & CR0_PG ? l.user != w->user : w->user) return 0;
    const u8 *flags = bus_page_flags(c->bus, l.pa);
    if (!flags) return 0;
    *global = l.global;
    if (n < w->be.first_page) return 0;
    mmu_watch_tables(c, n << PAGE_SHIFT);
    unsigned watched = watch_kinds(c, n << PAGE_SHIFT);
    if (watched & WATCH_READS) return 0;
    bool write = l.dirty && !(*flags & PG_ANNOUNCED) && l.write && !(watched & WATCH_WRITES);
    if (!w->user && unlikely(c->tables != NULL) && tables_recent(c, l.pa)) write = false;
    bool exec = w->direct && *flags & PG_DIRECT && !l.nx && !(watched & WATCH_FETCHES);
    return (u32)(l.pa >> PAGE_SHIFT) << PFN_SHIFT | (write ? WRITABLE : 0) | (exec ? EXECUTABLE : 0) | MAPPED;
}

/* ---- snapshots: has anything in a region's page tables changed? ---- */

struct snapshot {
    u64 dir[MMU_REGION_TABLES];
    u8 table[MMU_REGION_TABLES][PAGE_SIZE];
};

static void tables_of(const struct window *w, unsigned r, struct mmu_tables *t)
{
    mmu_tables(w->ws->c, (laddr)r << REGION_SHIFT, t);
}

static bool region_unchanged(const struct window *w, unsigned r)
{
    const struct snapshot *old = w->region[r].snapshot;
    struct mmu_tables t;
    if (!old) return false;
    tables_of(w, r, &t);
    if (memcmp(old->dir, t.dir, sizeof t.dir)) return false;
    for (unsigned i = 0; i < MMU_REGION_TABLES; i++)
        if (t.table[i] && memcmp(old->table[i], t.table[i], PAGE_SIZE)) return false;
    return true;
}

/* Without memory for it there is no snapshot, and the region counts as changed each time. */
static void region_note(struct window *w, unsigned r)
{
    struct region *g = &w->region[r];
    struct mmu_tables t;
    if (!g->snapshot && !(g->snapshot = malloc(sizeof *g->snapshot))) return;
    tables_of(w, r, &t);
    memcpy(g->snapshot->dir, t.dir, sizeof t.dir);
    for (unsigned i = 0; i < MMU_REGION_TABLES; i++)
        if (t.table[i]) memcpy(g->snapshot->table[i], t.table[i], PAGE_SIZE);
}

/* ---- who maps a physical page writably ---- */

static u32 *writer_of(const struct windows *ws, bool user, u32 pfn)
{
    return &ws->writer[user][bus_ram_offset(ws->c->bus, (paddr)pfn << PAGE_SHIFT) >> PAGE_SHIFT];
}

static bool is_writer(const struct window *w, u32 n, u32 pfn)
{
    return w->page[n] >> PFN_SHIFT == pfn && w->page[n] & WRITABLE;
}

static void note_writer(struct window *w, u32 n, u32 pfn)
{
    struct windows *ws = w->ws;
    u32 *e = writer_of(ws, w->user, pfn), me = ((u32)(w - ws->w) << (32 - PAGE_SHIFT) | n) + 1;
    if (*e == WRITERS || *e == me) return;
    bool other = *e && is_writer(&ws->w[(*e - 1) >> (32 - PAGE_SHIFT)], (*e - 1) & (TLB_PAGES - 1), pfn);
    *e = other ? WRITERS : me;
}

/* Whether a supervisor run relates linear to physical in a way that windows_protect() tries; a long one's is added to
 * these. */
static bool has_delta(struct window *w, u32 first, u32 rights, u32 n)
{
    u32 delta = (first - (rights >> PFN_SHIFT)) & (TLB_PAGES - 1);
    for (u32 i = 0; i < w->ndeltas; i++)
        if (w->delta[i] == delta) return true;
    if (w->ndeltas == DELTAS || n < MIN_RUN) return false;
    w->delta[w->ndeltas++] = delta;
    return true;
}

static void note_writers(struct window *w, u32 first, u32 n, u32 rights)
{
    if (!(rights & WRITABLE) || (!w->user && has_delta(w, first, rights, n))) return;
    for (u32 i = 0; i < n; i++) note_writer(w, first + i, (rights >> PFN_SHIFT) + i);
}

/* ---- mappings ---- */

static void window_reset(struct window *w)
{
    for (unsigned r = 0; r < REGIONS; r++) {
        w->region[r].mapped = 0;
        free(w->region[r].snapshot);
        w->region[r].snapshot = NULL;
    }
    /* A stale mapping must not survive. If the host takes neither away, the guest must not go on. */
    if (w->be.unmap(w->be.be, 0, TLB_PAGES) && w->be.protect(w->be.be, 0, TLB_PAGES, PROT_NONE)) {
        w->ws->failed = true;
        w->ws->c->kick = 1;
    }
    if (w->page) madvise(w->page, TLB_PAGES * sizeof *w->page, MADV_DONTNEED);
    memset(w->populated, 0, sizeof w->populated);
    if (!w->direct) w->ws->pieces -= w->pieces;
    w->pieces = w->ndeltas = 0;
    w->local = false;
}

static void count_piece(struct window *w)
{
    w->pieces++;
    if (!w->direct) w->ws->pieces++;
}

static void unmap_pages(struct window *w, u32 first, u32 n)
{
    w->ws->c->ctr.window_unmaps++;
    if (w->be.unmap(w->be.be, first, n)) { /* out of VMAs */
        window_reset(w);
        return;
    }
    count_piece(w);
    for (u32 i = first; i < first + n; i++) {
        if (w->page[i]) w->region[i / REGION_PAGES].mapped--;
        w->page[i] = 0;
    }
}

/* Starts over when the windows may hold too many VMAs, with the one that has most of them. False: there is no room now.
 */
static bool room_for_pieces(struct window *w)
{
    struct windows *ws = w->ws;
    if (w->direct) { /* has a process of its own, and its VMAs */
        if (w->pieces >= PIECES_MAX) window_reset(w);
        return true;
    }
    if (ws->pieces < PIECES_MAX) return true;
    struct window *most = w;
    for (unsigned i = 0; i < ws->nlocal; i++)
        if (ws->w[i].pieces > most->pieces) most = &ws->w[i];
    window_reset(most);
    return ws->pieces < PIECES_MAX;
}

/* A mapping during which the host ran something else says little about the price. */
static void note_price(struct windows *ws, u64 ns)
{
    if (ns > 4 * ws->map_ns) ns = 4 * ws->map_ns;
    ws->map_ns += ns / 16 - ws->map_ns / 16;
}

static s64 offset_of(const struct window *w, u32 rights)
{
    return bus_ram_offset(w->ws->c->bus, (paddr)(rights >> PFN_SHIFT) << PAGE_SHIFT);
}

/* Whether next, n pages on from rights, is so in the file, too: there a device's memory does not go on from the RAM
 * that it follows, as a VGA's at A0000h. */
static bool file_goes_on(const struct window *w, u32 rights, u32 next, int n)
{
    return offset_of(w, next) == offset_of(w, rights) + n * (s64)PAGE_SIZE;
}

static bool map_run(struct window *w, u32 first, u32 n, u32 rights)
{
    struct cpu *c = w->ws->c;
    s64 off = offset_of(w, rights);
    int prot = PROT_READ | (rights & WRITABLE ? PROT_WRITE : 0) | (rights & EXECUTABLE ? PROT_EXEC : 0);
    if (off < 0) return false;
    u64 begin = host_ns(CLOCK_MONOTONIC);
    if (w->be.map(w->be.be, first, n, prot, (u64)off)) return false; /* vm.max_map_count: the soft TLB will do */
    if (!w->direct) note_price(w->ws, host_ns(CLOCK_MONOTONIC) - begin);
    count_piece(w);
    c->ctr.window_maps++;
    for (u32 i = 0; i < n; i++) {
        u32 *e = &w->page[first + i];
        if (!*e) w->region[(first + i) >> (REGION_SHIFT - PAGE_SHIFT)].mapped++;
        *e = rights + (i << PFN_SHIFT);
    }
    note_writers(w, first, n, rights);
    return true;
}

/* How far the linear-to-physical relation at page n goes on in one direction, up to max pages: whatever may be written,
 * or (alike) with the same rights and the same G, and only to what is mapped so already: mapping that again would cost
 * the host a fault for each page. */
static u32 extent(const struct window *w, u32 n, u32 rights, int step, u32 max, bool alike, bool global)
{
    u32 count = 0;
    const u32 mask = alike ? ~0u : ~(u32)(WRITABLE | EXECUTABLE);
    while (count < max) {
        u32 next = n + (u32)(step * (int)(count + 1));
        if (next >= TLB_PAGES) break;
        bool g;
        u32 want = rights + (u32)(step * (int)(count + 1)) * (1u << PFN_SHIFT);
        if ((rights_at(w, next, &g) & mask) != (want & mask) || (alike && (g != global || w->page[next] == want)))
            break;
        if (!file_goes_on(w, rights, want, step * (int)(count + 1))) break;
        count++;
    }
    return count;
}

/* ---- validation ---- */

static bool page_valid(const struct window *w, u32 n)
{
    bool global;
    if (!w->page[n]) return true;
    u32 rights = rights_at(w, n, &global);
    /* Fewer rights than the tables allow is fine: more are given at the next fault. */
    const u32 extra = WRITABLE | EXECUTABLE;
    return (rights | extra) == (w->page[n] | extra) && !(w->page[n] & ~rights & extra);
}

static u8 *churn_of(struct windows *ws, u32 n) { return &ws->churn[n % CHURN_SLOTS]; }

static void count_stale(struct window *w, u32 n)
{
    u8 *churn = churn_of(w->ws, n);
    if (!w->user && *churn < CHURN_MAX) ++*churn;
}

static void page_validate(struct window *w, u32 n)
{
    if (page_valid(w, n)) return;
    count_stale(w, n);
    unmap_pages(w, n, 1);
}

static void region_validate(struct window *w, unsigned r)
{
    if (!w->region[r].mapped) return;
    if (region_unchanged(w, r)) {
        mmu_watch_region(w->ws->c, (laddr)r << REGION_SHIFT);
        return;
    }
    u8 stale[REGION_PAGES + 1] = { 0 };
    u32 first = r * REGION_PAGES, runs = 0;
    for (u32 i = 0; i < REGION_PAGES; i++) {
        if (page_valid(w, first + i)) continue;
        stale[i] = 1;
        count_stale(w, first + i);
        runs += !i || !stale[i - 1];
    }
    if (runs > UNMAPS_MAX) unmap_pages(w, first, REGION_PAGES);
    else
        for (u32 i = 0, n; runs && i < REGION_PAGES; i += n + 1) {
            for (n = 0; stale[i + n]; n++)
                ;
            if (n) unmap_pages(w, first + i, n);
        }
    region_note(w, r);
}

static void window_validate(struct window *w, bool global_too)
{
    if (!global_too && !w->local) return;
    for (unsigned i = 0; i < REGIONS / 64; i++)
        for (u64 bits = w->populated[i]; bits; bits &= bits - 1) {
            unsigned r = i * 64 + (unsigned)__builtin_ctzll(bits);
            if (global_too || !w->region[r].global) region_validate(w, r);
            if (!w->region[r].mapped) w->populated[i] &= ~(1ull << (r % 64));
        }
}

/* ---- mapping on demand ---- */

/* Regions that a run of pages is about to be mapped in. What they hold must be valid before their snapshot is taken
 * anew, or a change that the guest has made but not flushed yet would go unnoticed for good. */
static void regions_before(struct window *w, u32 first, u32 n)
{
    for (unsigned r = first / REGION_PAGES; r <= (first + n - 1) / REGION_PAGES; r++) {
        region_validate(w, r);
        if (!w->region[r].mapped) w->region[r].global = true;
    }
}

static void regions_after(struct window *w, u32 first, u32 n, bool global)
{
    for (unsigned r = first / REGION_PAGES; r <= (first + n - 1) / REGION_PAGES; r++) {
        w->region[r].global &= global;
        w->populated[r / 64] |= 1ull << (r % 64);
        w->local |= !w->region[r].global;
        region_note(w, r);
    }
}

/* A short supervisor run whose page keeps changing costs a fault and two mappings each time. A refusal costs as much,
 * once for each instruction that meets it: they take turns, so that neither costs more than twice what the other would
 * have. */
static bool worth_mapping(struct window *w, u32 n, u32 rights, bool global)
{
    u8 *churn = churn_of(w->ws, n);
    if (*churn < CHURN_MAX) return true;
    u32 run = 1 + extent(w, n, rights, 1, MIN_RUN, false, global) + extent(w, n, rights, -1, MIN_RUN, false, global);
    if (run >= MIN_RUN) return true;
    --*churn;
    return false;
}

bool window_map(struct window *w, laddr la, bool write)
{
    struct cpu *c = w->ws->c;
    paddr pa;
    if (!mmu_try(c, la, write ? ACC_W : ACC_R, w->user, &pa)) return false; /* sets A and D as the access will */
    const u8 *flags = bus_page_flags(c->bus, pa);
    if (write && flags && *flags & PG_CLEAN) bus_mark_dirty(c->bus, pa);
    if (write && flags && *flags & PG_TABLE) tables_release(c, pa);
    if (write && !w->user && unlikely(c->tables != NULL)) tables_refused(c, pa); /* perhaps, and if often, no more */
    return window_map_ahead(w, la, write);
}

bool window_map_ahead(struct window *w, laddr la, bool write)
{
    bool global;
    u32 n = la >> PAGE_SHIFT, rights = rights_at(w, n, &global);
    if (!rights || (write && !(rights & WRITABLE))) return false;
    if (!w->user && !worth_mapping(w, n, rights, global)) return false;
    if (!room_for_pieces(w)) return false;
    u32 in_chunk = n % SUP_CHUNK;
    u32 after = extent(w, n, rights, 1, w->user ? USER_RUN_MAX : SUP_CHUNK - 1 - in_chunk, true, global);
    u32 before = extent(w, n, rights, -1, w->user ? USER_RUN_MAX : in_chunk, true, global);
    u32 first = n - before, count = before + 1 + after;
    regions_before(w, first, count);
    if (!map_run(w, first, count, rights - (before << PFN_SHIFT))) return false;
    regions_after(w, first, count, global);
    return true;
}

/* One validation and one look at the page tables for all of them: window_map_ahead() for each would cost more than the
 * faults that it saves. */
void window_map_group(struct window *w, laddr la, u32 n)
{
    const u32 begin = (la >> PAGE_SHIFT) & ~(n - 1);
    u32 rights = 0, len = 0;
    bool any = false, all_global = true, global = true;
    BUG_ON(n > REGION_PAGES);
    if (!room_for_pieces(w)) return;
    for (u32 page = begin; page <= begin + n; page++) {
        u32 now = page < begin + n ? rights_at(w, page, &global) : 0;
        if (now && now == w->page[page]) now = 0; /* it has that already */
        if (now) all_global &= global;
        if (len && now == rights + (len << PFN_SHIFT) && file_goes_on(w, rights, now, (int)len)) {
            len++;
            continue;
        }
        if (len && !any) regions_before(w, begin, n);
        any |= len != 0;
        if (len && !map_run(w, page - len, len, rights)) break;
        rights = now, len = now != 0;
    }
    if (any) regions_after(w, begin, n, all_global);
}

/* ---- filling ---- */

/* Calls for each run of accessed user pages in a region, within it: maps it if map. Returns their number. */
static u32 region_runs(struct window *w, unsigned r, bool recent, bool map)
{
    struct cpu *c = w->ws->c;
    struct mmu_tables t;
    u32 runs = 0, first = 0, n = 0, rights = 0;
    bool all_global = true, global;
    tables_of(w, r, &t);
    if (!t.dir[0] && !t.dir[1]) return 0;
    if (map) regions_before(w, r * REGION_PAGES, 1);
    for (u32 k = 0; k <= REGION_PAGES; k++) {
        u32 page = r * REGION_PAGES + k;
        bool use = k < REGION_PAGES && mmu_tables_user_accessed(&t, k) && (!recent || cpu_tlb(c, TLB_USER_R)[page]);
        u32 now = use ? rights_at(w, page, &global) : 0;
        if (now) all_global &= global;
        if (n && now == rights + (n << PFN_SHIFT) && file_goes_on(w, rights, now, (int)n)) {
            n++;
            continue;
        }
        if (n) runs++;
        if (n && map && !map_run(w, first, n, rights)) break;
        first = page, rights = now, n = now != 0;
    }
    if (map && w->region[r].mapped) regions_after(w, r * REGION_PAGES, 1, all_global);
    return runs;
}

u32 windows_runs(struct windows *ws, bool recent)
{
    u32 runs = 0;
    for (unsigned r = 0; r < REGIONS; r++)
        runs += region_runs(&ws->w[1], r, recent, false); /* any user window will do */
    return runs;
}

void window_fill(struct window *w, bool recent)
{
    for (unsigned r = 0; r < REGIONS && room_for_pieces(w); r++) region_runs(w, r, recent, true);
}

u64 windows_map_ns(const struct windows *ws) { return ws->map_ns; }
bool windows_failed(const struct windows *ws) { return ws->failed; }

/* ---- as a way that address spaces have ---- */

#define FILL_MAX 2048u /* runs; of a larger address space only what the soft TLB has is mapped */

static bool mech_has(void *arg) { return windows_here(arg); }

static bool mech_fits(void *arg)
{
    const struct windows *ws = arg;
    return ws->c->cr0 & CR0_PG;
}

static u64 mech_price(void *arg)
{
    struct windows *ws = arg;
    u32 runs = windows_runs(ws, false);
    ws->fill_recent = runs > FILL_MAX;
    if (ws->fill_recent) runs = windows_runs(ws, true);
    return (u64)(runs + 1) * ws->map_ns;
}

static u64 mech_give(void *arg)
{
    struct windows *ws = arg;
    u64 begin = host_ns(CLOCK_THREAD_CPUTIME_ID);
    window_fill(windows_make(ws), ws->fill_recent);
    ws->c->ctr.window_made++;
    return host_ns(CLOCK_THREAD_CPUTIME_ID) - begin + 1;
}

static void mech_take(void *arg)
{
    struct windows *ws = arg;
    if (!ws->here) return;
    window_drop(ws->here);
    ws->c->ctr.window_given_up++;
}

struct aspace_mech windows_mech(struct windows *ws)
{
    return (struct aspace_mech){
        .arg = ws, .has = mech_has, .fits = mech_fits, .price = mech_price, .give = mech_give, .take = mech_take
    };
}

/* ---- whose it is ---- */

static u64 *owner_of(const struct window *w) { return &w->ws->owner[w - w->ws->w]; }
bool window_used(const struct window *w) { return *owner_of(w) != NO_OWNER; }

/* ---- keeping up with the guest ---- */

/* CR0.PG, CR4.PAE and PSE, and which pages of RAM a device covers: when they change, nothing that was mapped
 * counts. */
static void basis_check(struct windows *ws)
{
    const struct cpu *c = ws->c;
    struct basis now = { c->cr0 & CR0_PG, c->cr4 & (CR4_PAE | CR4_PSE), bus_remaps(c->bus) };
    if (!memcmp(&now, &ws->basis, sizeof now)) return;
    ws->basis = now;
    window_reset(&ws->w[0]);
    for (unsigned i = 1; i < ARRAY_LEN(ws->w); i++)
        if (ws->owner[i] != NO_OWNER) window_drop(&ws->w[i]);
}

void window_drop(struct window *w)
{
    if (w->ws->here == w) w->ws->here = NULL;
    window_reset(w);
    *owner_of(w) = NO_OWNER;
}

static bool window_empty(const struct window *w)
{
    u64 any = 0;
    for (unsigned i = 0; i < REGIONS / 64; i++) any |= w->populated[i];
    return !any;
}

/* The one of w[from..to) that serves cr3, validated; NULL: none does. */
static struct window *window_find(struct windows *ws, unsigned from, unsigned to, u32 cr3)
{
    for (unsigned i = from; i < to; i++) {
        struct window *w = &ws->w[i];
        if (ws->owner[i] != cr3) continue;
        w->last_use = ++ws->tick;
        window_validate(w, true);
        if (!window_empty(w)) return w;
        window_drop(w); /* the page directory serves another process now */
    }
    return NULL;
}

/* The one of w[from..to) to be made another's: unused, or the least recently used. */
static struct window *window_oldest(struct windows *ws, unsigned from, unsigned to)
{
    struct window *oldest = &ws->w[from];
    for (unsigned i = from; i < to && window_used(oldest); i++)
        if (ws->owner[i] == NO_OWNER || ws->w[i].last_use < oldest->last_use) oldest = &ws->w[i];
    return oldest;
}

static void flush_page(struct windows *ws, laddr la)
{
    struct window *sup = &ws->w[0];
    page_validate(sup, la >> PAGE_SHIFT);
    if (ws->here) page_validate(ws->here, la >> PAGE_SHIFT);
    /* INVLPG drops the whole of a large page. */
    if (sup->region[la >> REGION_SHIFT].mapped) region_validate(sup, la >> REGION_SHIFT);
}

static void windows_flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    struct windows *ws = arg;
    if (kind == TLB_FLUSH_PAGE) {
        flush_page(ws, la);
        return;
    }
    basis_check(ws);
    window_validate(&ws->w[0], kind == TLB_FLUSH_ALL || !(c->cr4 & CR4_PGE));
    ws->here = c->cr0 & CR0_PG ? window_find(ws, 1, ws->nlocal, c->cr3) : NULL;
}

/* A linear page is watched in every address space. */
static void windows_watched(void *arg, laddr la)
{
    struct windows *ws = arg;
    for (unsigned i = 0; i < ARRAY_LEN(ws->w); i++)
        if (ws->w[i].page && ws->w[i].page[la >> PAGE_SHIFT]) unmap_pages(&ws->w[i], la >> PAGE_SHIFT, 1);
}

static void forget_pages(struct window *w, u32 first, u32 pages)
{
    for (u32 n = first, end = first + pages; n < end; n++) {
        bool whole = n % REGION_PAGES == 0 && end - n >= REGION_PAGES;
        if (!w->region[n / REGION_PAGES].mapped) n |= REGION_PAGES - 1;
        else if (whole) unmap_pages(w, n, REGION_PAGES), n |= REGION_PAGES - 1;
        else if (w->page[n]) unmap_pages(w, n, 1);
    }
}

/* The present page tables are about to change: what is mapped of them goes. Other address spaces' windows are validated
 * when they come back. */
static void windows_forget(void *arg, laddr la, u32 pages)
{
    struct windows *ws = arg;
    forget_pages(&ws->w[0], la >> PAGE_SHIFT, pages);
    for (unsigned i = 1; i < ARRAY_LEN(ws->w); i++)
        if (ws->owner[i] == ws->c->cr3) forget_pages(&ws->w[i], la >> PAGE_SHIFT, pages);
}

void window_flush_page(struct window *w, laddr la) { page_validate(w, la >> PAGE_SHIFT); }

/* ---- code pages ---- */

/* Takes a right away from page n, if that is where pfn is mapped. */
static void page_deny(struct window *w, u32 n, u32 pfn, u32 right)
{
    u32 *e = &w->page[n];
    if (*e >> PFN_SHIFT != pfn || !(*e & right)) return;
    /* Nothing is both writable and executable. What is executed may be a patched copy, and is not to be read. */
    if (right == EXECUTABLE || w->be.protect(w->be.be, n, 1, PROT_READ)) {
        unmap_pages(w, n, 1);
        return;
    }
    *e &= ~right;
    count_piece(w);
}

static void window_deny(struct window *w, u32 pfn, u32 right)
{
    for (unsigned i = 0; i < REGIONS / 64; i++)
        for (u64 bits = w->populated[i]; bits; bits &= bits - 1) {
            unsigned r = i * 64 + (unsigned)__builtin_ctzll(bits);
            for (u32 k = 0; w->region[r].mapped && k < REGION_PAGES; k++)
                page_deny(w, r * REGION_PAGES + k, pfn, right);
        }
}

static void protect_everywhere(struct windows *ws, bool user, u32 pfn)
{
    for (unsigned i = user; i < (user ? ARRAY_LEN(ws->w) : 1); i++) window_deny(&ws->w[i], pfn, WRITABLE);
}

static void windows_protect(void *arg, paddr page)
{
    struct windows *ws = arg;
    u32 pfn = (u32)(page >> PAGE_SHIFT);
    struct window *sup = &ws->w[0];
    for (u32 i = 0; i < sup->ndeltas; i++) page_deny(sup, (pfn + sup->delta[i]) & (TLB_PAGES - 1), pfn, WRITABLE);
    for (unsigned user = 0; user < 2; user++) {
        u32 *e = writer_of(ws, user, pfn);
        if (*e == WRITERS) protect_everywhere(ws, user, pfn);
        else if (*e) page_deny(&ws->w[(*e - 1) >> (32 - PAGE_SHIFT)], (*e - 1) & (TLB_PAGES - 1), pfn, WRITABLE);
        *e = 0;
    }
}

void windows_end_execution(struct windows *ws, paddr pa)
{
    for (unsigned i = LOCAL_WINDOWS; i < ARRAY_LEN(ws->w); i++)
        window_deny(&ws->w[i], (u32)(pa >> PAGE_SHIFT), EXECUTABLE);
}

/* A page that was scanned is about to be written: what is executable is never written to. */
static bool windows_written(void *arg, paddr pa, unsigned len, u8 flags)
{
    (void)len;
    if (flags & PG_DIRECT) windows_end_execution(arg, pa);
    return false;
}

/* ---- lifetime ---- */

static int window_init(struct windows *ws, struct window *w)
{
    unsigned i = (unsigned)(w - ws->w);
    w->ws = ws;
    w->user = i > 0;
    w->direct = i >= LOCAL_WINDOWS;
    if (!w->direct && i >= ws->nlocal) return 0; /* never looked at */
    if (!w->direct) {
        w->be = window_local_backend(ws->local, i);
        w->base = window_local_at(ws->local, i);
    }
    w->page = mmap(NULL, TLB_PAGES * sizeof *w->page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->page != MAP_FAILED) return 0;
    w->page = NULL;
    return -errno;
}

/* As many as the host lends address space for (RLIMIT_AS), with room left for the rest of the machine: the supervisor's
 * and one user window at least. */
static int reserve(struct windows *ws)
{
    void *rest = mmap(NULL, REST_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (rest == MAP_FAILED) return -errno;
    int err = -ENOMEM;
    for (ws->nlocal = LOCAL_WINDOWS; ws->nlocal >= 2; ws->nlocal /= 2)
        if (!(err = window_local_new(&ws->local, ws->nlocal, bus_ram_fd(ws->c->bus)))) break;
    munmap(rest, REST_BYTES);
    return err;
}

int windows_new(struct windows **out, struct cpu *c)
{
    struct windows *ws = calloc(1, sizeof *ws);
    if (!ws) return -ENOMEM;
    ws->c = c;
    ws->map_ns = 8000; /* until it is known */
    for (unsigned i = 0; i < ARRAY_LEN(ws->owner); i++) ws->owner[i] = NO_OWNER;
    int err = reserve(ws);
    for (unsigned i = 0; i < ARRAY_LEN(ws->w) && !err; i++) err = window_init(ws, &ws->w[i]);
    for (unsigned i = 0; i < 2 && !err; i++)
        if (!(ws->writer[i] = calloc(bus_file_pages(c->bus), sizeof(u32)))) err = -ENOMEM;
    if (err) {
        windows_free(ws);
        return err;
    }
    ws->listener = (struct coherence_listener){ .rank = COHERENCE_WINDOWS,
                                                .arg = ws,
                                                .flushed = windows_flushed,
                                                .protect = windows_protect,
                                                .watched = windows_watched,
                                                .forget = windows_forget,
                                                .written = windows_written };
    coherence_listen(bus_coherence(c->bus), &ws->listener);
    *out = ws;
    return 0;
}

void windows_free(struct windows *ws)
{
    if (!ws) return;
    coherence_unlisten(bus_coherence(ws->c->bus), &ws->listener);
    for (unsigned i = 0; i < ARRAY_LEN(ws->w); i++) {
        for (unsigned r = 0; r < REGIONS; r++) free(ws->w[i].region[r].snapshot);
        if (ws->w[i].page) munmap(ws->w[i].page, TLB_PAGES * sizeof *ws->w[i].page);
    }
    for (unsigned i = 0; i < 2; i++) free(ws->writer[i]);
    window_local_free(ws->local);
    free(ws);
}

u64 windows_base(const struct windows *ws) { return window_local_base(ws->local); }
u64 windows_span(const struct windows *ws) { return window_local_span(ws->local); }
struct window *windows_supervisor(struct windows *ws) { return &ws->w[0]; }
u64 window_base(const struct window *w) { return w->base; }

static struct window *window_assign(struct window *w, u32 cr3)
{
    *owner_of(w) = cr3;
    w->last_use = ++w->ws->tick;
    return w;
}

struct window *windows_here(const struct windows *ws) { return ws->here; }

struct window *windows_make(struct windows *ws)
{
    basis_check(ws);
    BUG_ON(ws->here);
    struct window *w = window_oldest(ws, 1, ws->nlocal);
    if (window_used(w)) window_drop(w);
    return ws->here = window_assign(w, ws->c->cr3);
}

struct window *windows_direct(struct windows *ws, u32 cr3)
{
    basis_check(ws);
    return window_find(ws, LOCAL_WINDOWS, ARRAY_LEN(ws->w), cr3);
}

struct window *windows_direct_make(struct windows *ws, u32 cr3)
{
    basis_check(ws);
    struct window *w = window_find(ws, LOCAL_WINDOWS, ARRAY_LEN(ws->w), cr3);
    if (!w) w = window_oldest(ws, LOCAL_WINDOWS, ARRAY_LEN(ws->w));
    if (window_used(w)) window_drop(w);
    return w;
}

void window_direct_start(struct window *w, u32 cr3, const struct window_backend *be)
{
    BUG_ON(!w->direct || window_used(w));
    w->be = *be;
    window_assign(w, cr3);
}

unsigned window_direct_index(const struct window *w) { return (unsigned)(w - w->ws->w) - LOCAL_WINDOWS; }
bool window_has(const struct window *w, laddr la) { return w->page[la >> PAGE_SHIFT] & MAPPED; }
bool window_executes(const struct window *w, laddr la) { return w->page[la >> PAGE_SHIFT] & EXECUTABLE; }
