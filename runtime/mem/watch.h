/* Debug registers for those who do not look at each access. A linear page with an enabled breakpoint is watched: the
 * soft TLB and the windows leave out what could meet it, and the interpreter, which does look, gets the access. */
#ifndef RUNTIME_WATCH_H
#define RUNTIME_WATCH_H
#include "core/cpu.h"
#include "runtime/mem/breaks.h"

enum watch_kind { WATCH_READS = 1, WATCH_WRITES = 2, WATCH_FETCHES = 4 };
#define WATCH_PAGES 8u
struct watch_book {
    struct {
        u32 page;
        u8 kinds; /* 0: free */
        u64 until_ms;
    } at[WATCH_PAGES];
    u32 n; /* in use */
    u64 now_ms;
    struct breaks breaks; /* of a debugger outside, beside those of the debug registers */
    struct breaks probes; /* what probes are to be told of: data only */
};

/* Made by tlb_init(), freed by tlb_fini(). Returns 0 or -ENOMEM. */
MUST_CHECK int watch_book_new(struct cpu *c);
void watch_book_free(struct cpu *c);
/* DR0 to DR3 or DR7 have changed. */
void watch_update(struct cpu *c);
/* Kinds of access to la's page that something watches, or has lately. */
unsigned watch_kinds(const struct cpu *c, laddr la);
/* Whether an access meets a data breakpoint that is enabled now. A write may be a read as well; it meets a debugger's
 * breakpoint of either kind, since only the interpreter tells what an instruction does. */
bool watch_hits(const struct cpu *c, laddr la, unsigned size, bool write);
/* An access that no soft-TLB entry serves is made: does it meet a debugger's breakpoint? */
void watch_access(struct cpu *c, laddr la, unsigned size, bool write);
/* A debugger's breakpoint comes or goes: as breaks_add() and breaks_remove(). */
MUST_CHECK int watch_break_add(struct cpu *c, struct break_point p);
MUST_CHECK int watch_break_remove(struct cpu *c, struct break_point p);
/* What probes are to be told of: all of it anew. 0 or -ENOMEM. */
void watch_probes_none(struct cpu *c);
MUST_CHECK int watch_probe_add(struct cpu *c, laddr from, laddr to, unsigned kinds);
/* Such an access is made, of a value: tells probes. */
void watch_probe(struct cpu *c, laddr la, unsigned size, bool write, u64 value);
/* To be called now and then, with a time that goes on. */
void watch_age(struct cpu *c, u64 now_ms);
#endif
