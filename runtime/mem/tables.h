/* Page tables in use, watched (--tlb strict): a change of a page table is seen by the next access, whether or not the
 * guest flushes its TLB. Windows 98 and Me forget to, and got away with it on the processors of their time.
 *
 * A page of RAM that a page walk has gone through is written to by nobody unseen (PG_TABLE). Before such a write, what
 * has been cached of the entries it changes is dropped. That is nothing if the entry was not present (SDM vol. 3,
 * 4.10.2.3: such entries are not cached), or if no walk from the present CR3 comes through the page: who keeps
 * something for other address spaces looks at their tables when they come back, and until then the page is watched no
 * more. Most such pages are no tables at all by then. */
#ifndef RUNTIME_TABLES_H
#define RUNTIME_TABLES_H
#include "core/cpu.h"

struct tables;

/* From now on for c, whose soft TLB is empty: c->tables is set. 0 or -ENOMEM. */
MUST_CHECK int tables_new(struct cpu *c);
void tables_free(struct cpu *c); /* copes with one that has none */
/* A walk of la has gone through the directory's entry at dir, and the page table's at table (NO_PAGE_TABLE: a large
 * page). global: what it ended at survives a CR3 write. */
void tables_note(struct cpu *c, laddr la, paddr dir, paddr table, bool global);
/* n bytes at la, within a page, are about to be written by translated code; pa is where a walk for that has ended.
 * Returns where to write them, this once. NULL: there is more that is in the way than a page table, or nothing is, and
 * nothing was done. */
u8 *tables_let_write(struct cpu *c, laddr la, paddr pa, unsigned n);
/* The same, where the walk would end as for an earlier write; also NULL if that is not known. */
u8 *tables_let_again(struct cpu *c, laddr la, unsigned n);
/* The page at pa is about to be written: no longer as a page table, unless the present ones lead through it. Whatever
 * the page is. */
void tables_release(struct cpu *c, paddr pa);
/* Whether the page at pa has become a page table lately, and may be one again soon. A guest's pages take turns at being
 * tables and something else: what such a page costs each time to be made writable to the supervisor, and then not, is
 * better saved. But what has been refused often is settled as something else, a stack perhaps: every instruction that
 * writes to that would become soft. */
bool tables_recent(struct cpu *c, paddr pa);
/* The supervisor writes to the page at pa by an instruction that expects it to be mapped. */
void tables_refused(struct cpu *c, paddr pa);
/* The page at pa is about to be written as a whole: it is no page table any more, until it is used as one again. */
void tables_forget(struct cpu *c, paddr pa);

#endif
