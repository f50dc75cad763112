/* What a kernel pays for CR0.WP and CR4.PGE cleared and set again, with some of its memory read in between, as a
 * Multiboot guest on the run-time of the test guests: cycles of the TSC. */
#include "tests/insn/rt.h"

const char guest_name[] = "toggle";

enum { GLOBAL = 0x40000000, OWN = 0x40100000, PAGES = 16, AT_LEAST = 200000000 /* cycles, once it is measured */ };

static void toggle_wp(void)
{
    u32 cr0 = read_cr0();
    write_cr0(cr0 ^ CR0_WP);
    write_cr0(cr0);
}

static void toggle_pge(void)
{
    u32 cr4 = read_cr4();
    write_cr4(cr4 ^ CR4_PGE);
    write_cr4(cr4);
}

/* The kernel's own pages, half of them global. */
static u32 read_pages(void)
{
    u32 sum = 0;
    for (u32 i = 0; i < PAGES; i++) sum += peek(GLOBAL + i * PAGE) + peek(OWN + i * PAGE);
    return sum;
}

static u64 cycles(void (*toggle)(void), u32 n)
{
    u32 wrong = 0;
    u64 start = rdtsc();
    for (u32 i = 0; i < n; i++) {
        toggle();
        wrong += read_pages() != 3 * PAGES;
    }
    u64 took = rdtsc() - start;
    CHECK_EQ(wrong, 0);
    return took;
}

static void measure(const char *name, void (*toggle)(void))
{
    u32 n = 1000;
    print("BENCH-START %s\n", name);
    u64 took = cycles(toggle, n);
    while (took < AT_LEAST) took = cycles(toggle, n *= 2);
    u32 one = (u32)took / n; /* no more than twice AT_LEAST, or n is small */
    if (took >> 32) one = ((u32)(took >> 10) / n) << 10;
    print("BENCH %s %u cycles\n", name, one);
}

void guest_main(void)
{
    paging_start(false, false);
    write_cr0(read_cr0() | CR0_WP);
    write_cr4(read_cr4() | CR4_PGE);
    for (u32 i = 0; i < PAGES; i++) {
        u32 *page = page_alloc();
        *page = 1;
        pte_set(GLOBAL + i * PAGE, (u32)page | PTE_P | PTE_W | PTE_G | PTE_A | PTE_D);
        page = page_alloc();
        *page = 2;
        pte_set(OWN + i * PAGE, (u32)page | PTE_P | PTE_W | PTE_A | PTE_D);
    }
    measure("wp_toggle", toggle_wp);
    measure("pge_toggle", toggle_pge);
}
