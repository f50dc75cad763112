/* Owns the windows' mappings: which page is where, and until when. Who makes them is the window's backend.
 *
 *   I1  page[n] is 0 iff host page n of a window is PROT_NONE; else it says which physical page is mapped, and whether
 *       writably.
 *   I2  A mapped page was, at the last validation, what the page tables said: same physical page, at least these
 *       rights, A set, and D set if mapped writably.                                            [leaf_rights,
 *       region_validate]
 *   I3  A page with PG_CODE is writable in no window.                                   [leaf_rights, windows_protect]
 *   I4  region[r].mapped counts the mapped pages of 4 MiB region r; its snapshot is of the page-table entries they came
 *       from.
 *   I5  A page of RAM that is writable in a window is so where writer[] says (1 + window and page there; WRITERS: in
 *       several places), or in the supervisor window at one of the deltas.                      [note_writers] */
#define _GNU_SOURCE
#include "runtime/mem/window.h"
#include "core/bus.h"
#include "runtime/mem/mmu_walk.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define USER_WINDOWS 15
#define LOCAL_WINDOWS (1 + USER_WINDOWS) /* in this process */
#define WINDOW_BYTES (1ull << 32)
#define WINDOW_STRIDE (WINDOW_BYTES + WINDOW_GUARD) /* the guard behind one window is the one before the next */
#define WINDOWS_HINT ((void *)0x100100000000ull)    /* clear of the sanitizers' shadow */
#define REGIONS 1024u
#define REGION_SHIFT 22
#define REGION_PAGES 1024u
#define MIN_RUN 16  /* pages: a shorter supervisor run is worth a mapping only if it stays */
#define CHURN_MAX 4 /* changes after which a page is not worth one, if it is not part of a long run */
#define CHURN_SLOTS 4096u
#define USER_RUN_MAX 64 /* pages mapped around a user fault, if contiguous */
#define SUP_CHUNK \
    64 /* likewise around a supervisor fault, aligned: 256 KiB. The host's mappings of neighbouring chunks merge */
#define DELTAS 32 /* kernels have one linear map, perhaps two */
#define PIECES_MAX \
    24000 /* each takes up to two VMAs of vm.max_map_count's default 65530, which the host process shares */

/* Translated code reaches [window + 32-bit register + signed 32-bit displacement], with operands of 512 bytes at most.
 */
_Static_assert(WINDOW_GUARD >= (1ull << 31) + 512, "no guest address may lead past a guard");

enum { MAPPED = 1, WRITABLE = 2, EXECUTABLE = 4 /* direct execution only */, PFN_SHIFT = 3 };
#define WRITERS UINT32_MAX

struct region {
    u16 mapped;
    bool global;   /* all of it from entries with G: a CR3 write does not concern it */
    u64 *snapshot; /* the page directory entries, then the page tables, as raw bytes; NULL if none */
};

struct window {
    struct windows *ws;
    struct window_backend be;
    u64 base;
    bool user, direct;
    u32 cr3; /* user window in use: its CR3 */
    bool used;
    u64 last_use;
    u32 *page;
    struct region region[REGIONS];
    u64 populated[REGIONS / 64]; /* regions that may have mapped pages */
    bool local;                  /* some region is not global */
    u32 delta[DELTAS], ndeltas;  /* supervisor: linear page minus physical page, of the long runs there have been */
    u32 pieces;                  /* mapped, unmapped or protected since the last reset: bounds the VMAs it can have */
};

struct windows {
    struct cpu *c;
    u8 *reservation;
    struct window w[LOCAL_WINDOWS + WINDOWS_DIRECT];
    u64 tick;
    u32 *writer[2];        /* I5, by [user] and page of RAM */
    u8 churn[CHURN_SLOTS]; /* by linear page, hashed: supervisor mappings that have gone stale, lately */
    u32 pieces;            /* of all windows in this process */
    u64 map_ns;            /* what mapping a run costs here: a running average */
    struct basis {
        u32 cr0, cr4, remaps;
    } basis; /* what rights depend on beside the page tables */
};

/* ---- page tables, read only ---- */

static u64 entry_at(const struct cpu *c, paddr pa, unsigned size)
{
    const u8 *p = bus_ram_ptr(c->bus, pa);
    u64 v = 0;
    if (p) memcpy(&v, p, size);
    return v;
}

static bool pae(const struct cpu *c) { return (c->cr4 & CR4_PAE) != 0; }

/* What page[] may say for page n: 0 if the window may not map it. Without paging there is no user. */
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
    bool write = l.dirty && !(*flags & PG_CODE) && (l.write || (!w->user && !(c->cr0 & CR0_WP)));
    bool exec = w->direct && *flags & PG_DIRECT && !l.nx;
    return (u32)(l.pa >> PAGE_SHIFT) << PFN_SHIFT | (write ? WRITABLE : 0) | (exec ? EXECUTABLE : 0) | MAPPED;
}

/* ---- snapshots: has anything in a region's page tables changed? ---- */

/* 4 MiB of linear space: one PDE and one page table, or with PAE two of each. */
#define SNAPSHOT_BYTES (16 + 2 * PAGE_SIZE)

static void region_tables(const struct cpu *c, unsigned r, u64 *pde, const u8 **table)
{
    laddr la = (laddr)r << REGION_SHIFT;
    pde[0] = pde[1] = 0;
    table[0] = table[1] = NULL;
    if (!(c->cr0 & CR0_PG)) return;
    for (unsigned i = 0; i < (pae(c) ? 2 : 1); i++) {
        if (pae(c)) {
            u64 pdpte = c->pdpte[la >> 30];
            if (pdpte & 1) pde[i] = entry_at(c, (pdpte & 0xffffff000ull) + ((la >> 21 & 511) + i) * 8, 8);
        } else {
            pde[i] = entry_at(c, (c->cr3 & PAGE_MASK) + (la >> 22) * 4, 4);
        }
        bool large = pde[i] & 0x80 && (pae(c) || c->cr4 & CR4_PSE);
        if (pde[i] & 1 && !large) table[i] = bus_ram_ptr(c->bus, pde[i] & (pae(c) ? 0xffffff000ull : PAGE_MASK));
    }
}

static void region_snapshot(const struct window *w, unsigned r, u64 *out)
{
    u64 pde[2];
    const u8 *table[2];
    region_tables(w->ws->c, r, pde, table);
    memcpy(out, pde, 16);
    for (unsigned i = 0; i < 2; i++)
        if (table[i]) memcpy((u8 *)out + 16 + i * PAGE_SIZE, table[i], PAGE_SIZE);
}

static bool region_unchanged(const struct window *w, unsigned r)
{
    const u64 *old = w->region[r].snapshot;
    u64 pde[2];
    const u8 *table[2];
    if (!old) return false;
    region_tables(w->ws->c, r, pde, table);
    if (memcmp(old, pde, 16)) return false;
    for (unsigned i = 0; i < 2; i++)
        if (table[i] && memcmp((const u8 *)old + 16 + i * PAGE_SIZE, table[i], PAGE_SIZE)) return false;
    return true;
}

static void region_note(struct window *w, unsigned r)
{
    struct region *g = &w->region[r];
    if (!g->snapshot) g->snapshot = malloc(SNAPSHOT_BYTES);
    if (g->snapshot) region_snapshot(w, r, g->snapshot);
}

/* ---- the default backend: this process ---- */

static u8 *host_page(const struct window *w, u32 n) { return (u8 *)w->base + ((u64)n << PAGE_SHIFT); }

static int here_map(void *be, u32 page, u32 n, int prot, u64 file_off)
{
    const struct window *w = be;
    void *at = host_page(w, page);
    void *p = mmap(at, (u64)n << PAGE_SHIFT, prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, bus_ram_fd(w->ws->c->bus),
                   (off_t)file_off);
    return p == MAP_FAILED ? -errno : 0;
}

static int here_unmap(void *be, u32 page, u32 n)
{
    void *p = mmap(host_page(be, page), (u64)n << PAGE_SHIFT, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}

static int here_protect(void *be, u32 page, u32 n, int prot)
{
    return mprotect(host_page(be, page), (u64)n << PAGE_SHIFT, prot) ? -errno : 0;
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
    /* Without a VMA to spare: the second needs none. A stale mapping must not survive. */
    BUG_ON(w->be.unmap(w->be.be, 0, TLB_PAGES) && w->be.protect(w->be.be, 0, TLB_PAGES, PROT_NONE));
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
    for (unsigned i = 0; i < LOCAL_WINDOWS; i++)
        if (ws->w[i].pieces > most->pieces) most = &ws->w[i];
    window_reset(most);
    return ws->pieces < PIECES_MAX;
}

static u64 now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* A mapping during which the host ran something else says little about the price. */
static void note_price(struct windows *ws, u64 ns)
{
    if (ns > 4 * ws->map_ns) ns = 4 * ws->map_ns;
    ws->map_ns += ns / 16 - ws->map_ns / 16;
}

static bool map_run(struct window *w, u32 first, u32 n, u32 rights)
{
    struct cpu *c = w->ws->c;
    s64 off = bus_ram_offset(c->bus, (paddr)(rights >> PFN_SHIFT) << PAGE_SHIFT);
    int prot = PROT_READ | (rights & WRITABLE ? PROT_WRITE : 0) | (rights & EXECUTABLE ? PROT_EXEC : 0);
    if (off < 0) return false;
    u64 begin = now_ns();
    if (w->be.map(w->be.be, first, n, prot, (u64)off)) return false; /* vm.max_map_count: the soft TLB will do */
    if (!w->direct) note_price(w->ws, now_ns() - begin);
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
    if (!w->region[r].mapped || region_unchanged(w, r)) return;
    u32 stale = 0;
    for (u32 i = 0; i < REGION_PAGES; i++) {
        if (page_valid(w, r * REGION_PAGES + i)) continue;
        if (++stale > 8) count_stale(w, r * REGION_PAGES + i); /* the others are counted below */
    }
    if (stale > 8)
        unmap_pages(w, r * REGION_PAGES, REGION_PAGES); /* one call instead of many; what was good comes back */
    else if (stale)
        for (u32 i = 0; i < REGION_PAGES; i++) page_validate(w, r * REGION_PAGES + i);
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
    paddr pa;
    return mmu_try(w->ws->c, la, write ? ACC_W : ACC_R, w->user, &pa) /* sets A and D as the access will */
           && window_map_ahead(w, la, write);
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

/* ---- filling ---- */

/* Whether the page tables have anything of interest for page k of a region: a cheap look before the careful one. */
static bool maybe_used(const struct cpu *c, const u64 *pde, const u8 *const *table, u32 k)
{
    const u32 used = 0x25; /* P, U, A */
    unsigned half = pae(c) ? k / 512 : 0;
    if ((pde[half] & used) != used) return false;
    if (!table[half]) return true; /* large */
    return (table[half][pae(c) ? k % 512 * 8 : k * 4] & used) == used;
}

/* Calls for each run of accessed user pages in a region, within it: maps it if map. Returns their number. */
static u32 region_runs(struct window *w, unsigned r, bool recent, bool map)
{
    struct cpu *c = w->ws->c;
    u64 pde[2];
    const u8 *table[2];
    u32 runs = 0, first = 0, n = 0, rights = 0;
    bool all_global = true, global;
    region_tables(c, r, pde, table);
    if (!(pde[0] & 1) && !(pde[1] & 1)) return 0;
    if (map) regions_before(w, r * REGION_PAGES, 1);
    for (u32 k = 0; k <= REGION_PAGES; k++) {
        u32 page = r * REGION_PAGES + k;
        bool use = k < REGION_PAGES && maybe_used(c, pde, table, k) && (!recent || cpu_tlb(c, TLB_USER_R)[page]);
        u32 now = use ? rights_at(w, page, &global) : 0;
        if (n && now == rights + (n << PFN_SHIFT)) {
            n++;
            continue;
        }
        if (n) runs++;
        if (n && map && !map_run(w, first, n, rights)) break;
        first = page, rights = now, n = now != 0;
        if (n) all_global &= global;
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

/* ---- keeping up with the guest ---- */

/* CR0.WP and PG, CR4.PAE and PSE, and which pages of RAM a device covers: when they change, nothing that was mapped
 * counts. */
static void basis_check(struct windows *ws)
{
    const struct cpu *c = ws->c;
    struct basis now = { c->cr0 & (CR0_PG | CR0_WP), c->cr4 & (CR4_PAE | CR4_PSE), bus_remaps(c->bus) };
    if (!memcmp(&now, &ws->basis, sizeof now)) return;
    ws->basis = now;
    window_reset(&ws->w[0]);
    for (unsigned i = 1; i < ARRAY_LEN(ws->w); i++)
        if (ws->w[i].used) window_drop(&ws->w[i]);
}

void windows_flush(struct windows *ws, struct window *user, enum tlb_flush_kind kind, laddr la)
{
    struct window *sup = &ws->w[0];
    if (kind != TLB_FLUSH_PAGE) {
        basis_check(ws);
        window_validate(sup, kind == TLB_FLUSH_ALL || !(ws->c->cr4 & CR4_PGE));
        if (user) window_validate(user, true);
        return;
    }
    page_validate(sup, la >> PAGE_SHIFT);
    if (user) page_validate(user, la >> PAGE_SHIFT);
    /* INVLPG drops the whole of a large page. */
    if (sup->region[la >> REGION_SHIFT].mapped) region_validate(sup, la >> REGION_SHIFT);
}

void window_flush_page(struct window *w, laddr la) { page_validate(w, la >> PAGE_SHIFT); }

/* ---- code pages ---- */

/* Takes a right away from page n, if that is where pfn is mapped. */
static void page_deny(struct window *w, u32 n, u32 pfn, u32 right)
{
    u32 *e = &w->page[n];
    if (*e >> PFN_SHIFT != pfn || !(*e & right)) return;
    if (w->be.protect(w->be.be, n, 1, PROT_READ)) { /* nothing is both writable and executable */
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

void windows_protect(struct windows *ws, paddr page)
{
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

void windows_no_exec(struct windows *ws, paddr page)
{
    for (unsigned i = LOCAL_WINDOWS; i < ARRAY_LEN(ws->w); i++)
        window_deny(&ws->w[i], (u32)(page >> PAGE_SHIFT), EXECUTABLE);
}

/* ---- lifetime ---- */

static int window_init(struct windows *ws, struct window *w)
{
    unsigned i = (unsigned)(w - ws->w);
    w->ws = ws;
    w->user = i > 0;
    w->direct = i >= LOCAL_WINDOWS;
    if (!w->direct) {
        w->be = (struct window_backend){ .map = here_map, .unmap = here_unmap, .protect = here_protect, .be = w };
        w->base = (u64)ws->reservation + WINDOW_GUARD + i * WINDOW_STRIDE;
    }
    w->page = mmap(NULL, TLB_PAGES * sizeof *w->page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->page != MAP_FAILED) return 0;
    w->page = NULL;
    return -errno;
}

int windows_new(struct windows **out, struct cpu *c)
{
    struct windows *ws = calloc(1, sizeof *ws);
    if (!ws) return -ENOMEM;
    ws->c = c;
    ws->map_ns = 8000; /* until it is known */
    ws->reservation =
        mmap(WINDOWS_HINT, windows_span(ws), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int err = ws->reservation == MAP_FAILED ? -errno : 0;
    for (unsigned i = 0; i < ARRAY_LEN(ws->w) && !err; i++) err = window_init(ws, &ws->w[i]);
    for (unsigned i = 0; i < 2 && !err; i++)
        if (!(ws->writer[i] = calloc(bus_ram_size(c->bus) >> PAGE_SHIFT, sizeof(u32)))) err = -ENOMEM;
    if (err) {
        windows_free(ws);
        return err;
    }
    *out = ws;
    return 0;
}

void windows_free(struct windows *ws)
{
    if (!ws) return;
    for (unsigned i = 0; i < ARRAY_LEN(ws->w); i++) {
        for (unsigned r = 0; r < REGIONS; r++) free(ws->w[i].region[r].snapshot);
        if (ws->w[i].page) munmap(ws->w[i].page, TLB_PAGES * sizeof *ws->w[i].page);
    }
    for (unsigned i = 0; i < 2; i++) free(ws->writer[i]);
    if (ws->reservation != MAP_FAILED) munmap(ws->reservation, windows_span(ws));
    free(ws);
}

u64 windows_base(const struct windows *ws) { return (u64)ws->reservation; }
u64 windows_span(const struct windows *ws)
{
    (void)ws;
    return WINDOW_GUARD + LOCAL_WINDOWS * WINDOW_STRIDE;
}
struct window *windows_supervisor(struct windows *ws) { return &ws->w[0]; }
u64 window_base(const struct window *w) { return w->base; }

void window_drop(struct window *w)
{
    window_reset(w);
    w->used = false;
}

static bool window_empty(const struct window *w)
{
    u64 any = 0;
    for (unsigned i = 0; i < REGIONS / 64; i++) any |= w->populated[i];
    return !any;
}

/* The one of w[from..to) that serves cr3, validated; or, if make, the one to be made it: unused, or least recently
 * used. */
static struct window *window_find(struct windows *ws, unsigned from, unsigned to, u32 cr3, bool make)
{
    struct window *oldest = NULL;
    basis_check(ws);
    for (unsigned i = from; i < to; i++) {
        struct window *w = &ws->w[i];
        if (w->used && w->cr3 == cr3) {
            w->last_use = ++ws->tick;
            window_validate(w, true);
            if (make || !window_empty(w)) return w;
            window_drop(w); /* the page directory serves another process now */
            return NULL;
        }
        if (!oldest || !w->used || (oldest->used && w->last_use < oldest->last_use)) oldest = w;
    }
    return make ? oldest : NULL;
}

static struct window *window_assign(struct window *w, u32 cr3)
{
    if (w->used && w->cr3 != cr3) window_drop(w);
    w->used = true;
    w->cr3 = cr3;
    w->last_use = ++w->ws->tick;
    return w;
}

struct window *windows_user(struct windows *ws, u32 cr3, bool make)
{
    struct window *w = window_find(ws, 1, LOCAL_WINDOWS, cr3, make);
    return w ? window_assign(w, cr3) : NULL;
}

struct window *windows_direct(struct windows *ws, u32 cr3)
{
    return window_find(ws, LOCAL_WINDOWS, ARRAY_LEN(ws->w), cr3, false);
}

struct window *windows_direct_make(struct windows *ws, u32 cr3)
{
    struct window *w = window_find(ws, LOCAL_WINDOWS, ARRAY_LEN(ws->w), cr3, true);
    if (w->used) window_drop(w);
    return w;
}

void window_direct_start(struct window *w, u32 cr3, const struct window_backend *be)
{
    BUG_ON(!w->direct || w->used);
    w->be = *be;
    window_assign(w, cr3);
}

unsigned window_direct_index(const struct window *w) { return (unsigned)(w - w->ws->w) - LOCAL_WINDOWS; }
bool window_used(const struct window *w) { return w->used; }
bool window_has(const struct window *w, laddr la) { return w->page[la >> PAGE_SHIFT] & MAPPED; }
bool window_executes(const struct window *w, laddr la) { return w->page[la >> PAGE_SHIFT] & EXECUTABLE; }
