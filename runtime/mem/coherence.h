/* Coherence: whoever keeps a copy of guest memory, or of where it is, is told here when that copy ends. One per machine
 * (bus_coherence()); the bus and the soft TLB raise the events, and know nobody who listens.
 *
 * Each event reaches each listener once, in the order of enum coherence_rank, and of listening within a rank. A further
 * processor's soft TLB is one more listener; what one processor flushes says so by its struct cpu.
 *
 * All of it is for the vCPU thread. A listener neither listens nor stops listening while it is being told. It may be
 * called with the guest's x87 state in the host's registers: no floating point. */
#ifndef RUNTIME_COHERENCE_H
#define RUNTIME_COHERENCE_H
#include "core/cpu.h"

enum coherence_rank {
    COHERENCE_TLB,     /* soft TLBs */
    COHERENCE_WINDOWS, /* the windows' books, and which window is the present address space's */
    COHERENCE_DIRECT,  /* which direct-execution process is */
    COHERENCE_ASPACE,  /* what an address space has or has lost: asks the two above */
    COHERENCE_CODE,    /* decoded and translated code, jump caches */
};

/* Embedded in the listener, who keeps it alive. A function may be NULL. */
struct coherence_listener {
    enum coherence_rank rank;
    void *arg;
    /* c's guest has flushed its TLB: by INVLPG (TLB_FLUSH_PAGE, la), a CR3 write, a task switch, a change of paging. */
    void (*flushed)(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la);
    /* Writes to this page of RAM must be noticed from now on: what writes to it unseen must stop. */
    void (*protect)(void *arg, paddr page);
    /* [pa, pa+len), within one page that holds code, is about to be written, or to be replaced altogether. flags: the
     * page's, as they were (enum page_flag). True: there is still code in that page that is as it was. */
    bool (*written)(void *arg, paddr pa, unsigned len, u8 flags);
    /* c's debug registers have changed: DR7, or an address while it enables something. */
    void (*debug)(void *arg, struct cpu *c);
    /* A breakpoint has been set in la's page: no access of the kinds that watch_kinds() tells may go unnoticed. */
    void (*watched)(void *arg, laddr la);
    /* RAM has been covered by a device or ROM, or uncovered: pointers to RAM are stale, and all that was mapped. */
    void (*remapped)(void *arg);
    /* What is cached of pages linear pages from la on is no longer so, whatever the page tables say at this moment. */
    void (*forget)(void *arg, laddr la, u32 pages);
    /* len bytes at pa, within a page with PG_TABLE, are about to be written; a whole page perhaps has been. */
    void (*table_written)(void *arg, paddr pa, unsigned len);
    /* Time goes on: what is kept for a while only, or fades, is looked at. now_ms never goes back. */
    void (*aged)(void *arg, u64 now_ms);
    struct coherence_listener *next; /* coherence.c's */
};

struct coherence {
    struct coherence_listener *first;
};

void coherence_listen(struct coherence *co, struct coherence_listener *l);
void coherence_unlisten(struct coherence *co, struct coherence_listener *l); /* copes with one that does not listen */

void coherence_flushed(const struct coherence *co, struct cpu *c, enum tlb_flush_kind kind, laddr la);
void coherence_protect(const struct coherence *co, paddr page);
bool coherence_written(const struct coherence *co, paddr pa, unsigned len, u8 flags); /* true: some have code there */
void coherence_debug(const struct coherence *co, struct cpu *c);
void coherence_watched(const struct coherence *co, laddr la);
void coherence_forget(const struct coherence *co, laddr la, u32 pages);
void coherence_table_written(const struct coherence *co, paddr pa, unsigned len);
void coherence_remapped(const struct coherence *co);
void coherence_aged(const struct coherence *co, u64 now_ms); /* to be called now and then */
#endif
