/* Owns the host address space of the windows in this process, and every mapping in it.
 *
 *      guard   window 0   guard   window 1   guard   ...   window n-1   guard
 *
 *   I1  The guards are PROT_NONE for ever: whatever a guest adds to the address of a window leads into the window or
 *       one of its guards.                                                          [the assertion below]
 *   I2  Everything reserved is PROT_NONE, or RAM's file at its pages.
 *   I3  Unmapping a whole window does not fail for want of mappings. Cutting a mapping in two takes one more, and the
 * host has a limit (vm.max_map_count) that the whole process shares: the ballast, mappings of no use, is thrown to make
 *       room.                                                                                        [local_unmap] */
#define _GNU_SOURCE
#include "runtime/mem/window_local.h"

#include <errno.h>
#include <sys/mman.h>

#define WINDOW_BYTES (1ull << 32)
#define WINDOW_STRIDE (WINDOW_BYTES + WINDOW_GUARD)  /* the guard after one window is the one before the next */
#define RESERVATION_HINT ((void *)0x100100000000ull) /* clear of the sanitizers' shadow */

/* Translated code reaches [window + 32-bit register + signed 32-bit displacement], with operands of 512 bytes at most.
 */
_Static_assert(WINDOW_GUARD >= (1ull << 31) + 512, "no guest address may lead past a guard");

#define BALLAST_PAGES 32u /* every second one a mapping of its own */

struct window_local {
    u8 *reservation;
    u64 span;
    u8 *ballast; /* NULL: it has been thrown, or could not be had */
    struct place {
        struct window_local *l;
        u8 *base;
        int ram_fd;
    } place[];
};

static u8 *host_page(const struct place *p, u32 n) { return p->base + ((u64)n << PAGE_SHIFT); }

static int local_map(void *be, u32 page, u32 n, int prot, u64 file_off)
{
    const struct place *p = be;
    void *at = mmap(host_page(p, page), (u64)n << PAGE_SHIFT, prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, p->ram_fd,
                    (off_t)file_off);
    return at == MAP_FAILED ? -errno : 0;
}

static void ballast_take(struct window_local *l)
{
    u8 *p = mmap(NULL, BALLAST_PAGES * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return;
    l->ballast = p;
    for (unsigned i = 1; i < BALLAST_PAGES; i += 2) (void)!mprotect(p + i * PAGE_SIZE, PAGE_SIZE, PROT_READ);
}

static bool ballast_throw(struct window_local *l)
{
    if (!l->ballast || munmap(l->ballast, BALLAST_PAGES * PAGE_SIZE)) return false;
    l->ballast = NULL;
    return true;
}

static int try_unmap(const struct place *p, u32 page, u32 n)
{
    void *at = mmap(host_page(p, page), (u64)n << PAGE_SHIFT, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return at == MAP_FAILED ? -errno : 0;
}

static int local_unmap(void *be, u32 page, u32 n)
{
    const struct place *p = be;
    int err = try_unmap(p, page, n);
    if (!err || n < TLB_PAGES) return err;
    if (ballast_throw(p->l)) err = try_unmap(p, page, n);
    ballast_take(p->l); /* the window's mappings have gone: there is room again */
    return err;
}

static int local_protect(void *be, u32 page, u32 n, int prot)
{
    return mprotect(host_page(be, page), (u64)n << PAGE_SHIFT, prot) ? -errno : 0;
}

int window_local_new(struct window_local **out, unsigned n, int ram_fd)
{
    struct window_local *l = calloc(1, sizeof *l + n * sizeof l->place[0]);
    if (!l) return -ENOMEM;
    l->span = WINDOW_GUARD + n * WINDOW_STRIDE;
    l->reservation = mmap(RESERVATION_HINT, l->span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->reservation == MAP_FAILED) {
        int err = -errno;
        free(l);
        return err;
    }
    for (unsigned i = 0; i < n; i++)
        l->place[i] = (struct place){ l, l->reservation + WINDOW_GUARD + i * WINDOW_STRIDE, ram_fd };
    ballast_take(l);
    *out = l;
    return 0;
}

void window_local_free(struct window_local *l)
{
    if (!l) return;
    (void)ballast_throw(l);
    munmap(l->reservation, l->span);
    free(l);
}

u64 window_local_base(const struct window_local *l) { return (u64)l->reservation; }
u64 window_local_span(const struct window_local *l) { return l->span; }
u64 window_local_at(const struct window_local *l, unsigned i) { return (u64)l->place[i].base; }

struct window_backend window_local_backend(struct window_local *l, unsigned i)
{
    return (
        struct window_backend){ .map = local_map, .unmap = local_unmap, .protect = local_protect, .be = &l->place[i] };
}
