/* Windows: 4 GiB views of guest linear memory that translated code reaches as [R12 + 32-bit register + displacement]
 * (translator/lower/lower_mem.c), with guards around them that no guest address can leave. The supervisor window holds
 * long runs of supervisor pages (a kernel's linear map); a user window holds the pages of one hot user address space.
 * What a window does not map faults, and the dispatcher decides.
 *
 * A window is a cache of page-table entries with the same contract as the TLB: it is validated where the TLB is
 * flushed, and loses rights where a page becomes code. It listens for both (coherence.h). */
#ifndef RUNTIME_WINDOW_H
#define RUNTIME_WINDOW_H
#include "core/cpu.h"
#include "runtime/mem/aspace.h"

struct windows;
struct window;

/* Who makes a window's mappings. Pages are linear pages of the guest; prot is of mmap(2), file_off into the memfd of
 * RAM. Each returns 0 or -errno with nothing changed. An unmapped page faults; protect() may be asked for PROT_NONE as
 * well. */
struct window_backend {
    int (*map)(void *be, u32 page, u32 n, int prot, u64 file_off);
    int (*unmap)(void *be, u32 page, u32 n);
    int (*protect)(void *be, u32 page, u32 n, int prot);
    void *be;
    u32 first_page; /* pages below cannot be mapped */
};

/* Reserves address space for all of them. Returns 0 or -errno of mmap. */
MUST_CHECK int windows_new(struct windows **out, struct cpu *c);
void windows_free(struct windows *ws);
/* Nothing is ever mapped in WINDOW_GUARD bytes below and above a window. */
#define WINDOW_GUARD (4ull << 30)
u64 windows_base(const struct windows *ws); /* host address of the reservation: windows and guards */
u64 windows_span(const struct windows *ws); /* bytes */
struct window *windows_supervisor(struct windows *ws);

u64 window_base(const struct window *w); /* host address of guest linear 0 */
/* Translated code of w faulted at la. Maps what is there, if that is worth it: true if something was mapped. False:
 * device, code page on a write, a short run in the supervisor window, or a guest fault to come. */
bool window_map(struct window *w, laddr la, bool write);
/* The same ahead of an access that may not come: only if that would set neither A nor D. */
bool window_map_ahead(struct window *w, laddr la, bool write);
/* The same for the n pages (a power of two, at most a region's) about la, an aligned group of them: what the guest has
 * used, with all rights that it may have here by now. */
void window_map_group(struct window *w, laddr la, u32 n);

/* The user window of the present address space, valid as of the last flush; NULL: it has none. */
struct window *windows_here(const struct windows *ws);
struct window *windows_make(struct windows *ws); /* makes the one that is not there, empty; the least recently used
                                                    one makes room */
void window_drop(struct window *w);              /* forget a user window */
/* The runs of pages, in the present address space, that a user window would hold if all that has been accessed were
 * mapped (recent: only what the soft TLB has), and maps them in the one that has just been made. */
u32 windows_runs(struct windows *ws, bool recent);
void window_fill(struct window *w, bool recent);
/* The host has failed to take a mapping away: the guest must be stopped. cpu->kick has been set. */
bool windows_failed(const struct windows *ws);
u64 windows_map_ns(const struct windows *ws); /* what mapping a run has cost lately */
/* User windows as a way that an address space may be given: windows_make() and window_fill() with what is in use. */
struct aspace_mech windows_mech(struct windows *ws);

/* Windows for direct execution: like user windows, in other processes. Of their own they map pages with PG_DIRECT
 * executable. There are WINDOWS_DIRECT of them; whose turn it is to be given up is decided here, by least recent use.
 */
#define WINDOWS_DIRECT 6
struct window *windows_direct(struct windows *ws, u32 cr3); /* the one for CR3, validated; NULL: there is none */
/* One for CR3: out of use now, mappings forgotten by way of its backend. The caller starts it with a backend, empty. */
struct window *windows_direct_make(struct windows *ws, u32 cr3);
void window_direct_start(struct window *w, u32 cr3, const struct window_backend *be);
unsigned window_direct_index(const struct window *w); /* 0 to WINDOWS_DIRECT-1 */
void window_flush_page(struct window *w, laddr la);   /* INVLPG */
bool window_used(const struct window *w);
bool window_has(const struct window *w, laddr la); /* la's page is mapped, with whatever rights */
bool window_executes(const struct window *w, laddr la);
/* The page of RAM at pa is executable nowhere any more, whoever mapped it. */
void windows_end_execution(struct windows *ws, paddr pa);
#endif
