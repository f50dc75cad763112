/* What mmu.c and tlb.c share: the page walk, and the soft TLB's books. */
#ifndef RUNTIME_MMU_WALK_H
#define RUNTIME_MMU_WALK_H
#include "runtime/cpu/fpu_park.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/mmu.h"

/* Where a linear address leads, with what rights. */
struct walk {
    paddr pa;
    bool user, write; /* U/S and R/W of all levels together */
    bool nx;
    bool accessed; /* A of all levels, as it is after the walk */
    bool dirty;    /* likewise D of the leaf */
    bool global;   /* G of the leaf, and CR4.PGE */
    bool large;
    u32 error; /* of a walk that failed: the page-fault error code */
};
/* Walks, checks, and sets A and D. False: w->error says why; nothing was set, no exception is raised. */
MUST_CHECK bool mmu_walk(struct cpu *c, laddr la, enum access acc, bool user, struct walk *w);
/* Where la leads, without checks or side effects. False: nowhere (not present, reserved bits). */
MUST_CHECK bool mmu_look(const struct cpu *c, laddr la, struct walk *w);
/* What mmu_look() has found at la is about to be cached: the tables that it came from are in use (tables.h). */
void mmu_watch_tables(struct cpu *c, laddr la);
/* What somebody keeps of la's region (1 << MMU_REGION_SHIFT bytes) has turned out to be what its tables say. */
void mmu_watch_region(struct cpu *c, laddr la);
/* Raises #PF, and drops what the soft TLB has for la, as the SDM demands (vol. 3, 4.10.4.1). Returns GUEST_FAULT. */
int mmu_page_fault(struct cpu *c, laddr la, u32 error);

/* A list that is full is emptied, entries and all: the soft TLB's capacity. */
#define TLB_LIST_MAX 65536u
#define TLB_EXEC_ENTRIES 256u
#define TLB_LOANS_MAX 64u
#define TLB_REGION_SHIFT 22 /* large pages are noted by 4 MiB */

struct tlb_list {
    u32 n;
    u32 *page; /* linear page numbers, TLB_LIST_MAX of them; a page may be listed twice, or no longer be cached */
};
struct tlb_exec {
    u32 key; /* linear page | user << 1 | 1 */
    u32 generation;
    paddr pa;
    const u8 *host; /* NULL: not RAM */
};
struct tlb_book {
    struct tlb_list list[2][2];    /* [user][global]: every page with an entry in that privilege's tables is in one */
    u64 large[16];                 /* bit per 4 MiB: a large page may have been cached from there */
    u64 filled[2][TLB_PAGES / 64]; /* [user], bit per linear page: it may have an entry in that privilege's tables */
    struct tlb_exec exec[TLB_EXEC_ENTRIES]; /* code fetches: the tables know nothing of execute permission */
    u32 *writer; /* per page of RAM: 0, or 1 + the linear page that may have a write entry for it, or TLB_WRITERS */
    struct coherence_listener listener;
    u32 loan[TLB_LOANS_MAX]; /* linear pages that the supervisor may write to because CR0.WP is clear */
    u32 nloans;              /* more than TLB_LOANS_MAX: some are not listed */
    u8 phys_bits;            /* MAXPHYADDR */
    u8 pse36_bits;           /* how many of those above 32 a 4 MiB page without PAE can have */
};
#define TLB_WRITERS UINT32_MAX /* several linear pages: search for them */

void tlb_drop(struct cpu *c, laddr la); /* what one linear page has in the tables; no flush as far as others can tell */
static inline void tlb_note_large(struct cpu *c, laddr la)
{
    unsigned region = la >> TLB_REGION_SHIFT;
    c->tlb->large[region / 64] |= 1ull << region % 64;
}
/* The page that code at la is fetched from. *host is NULL if it is not RAM. */
MUST_CHECK bool tlb_exec(struct cpu *c, laddr la, bool user, paddr *page, const u8 **host, u32 *error);

#endif
