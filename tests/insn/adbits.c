/* Accessed and dirty bits: set by exactly the accesses that the manual says, and by none that faults. SDM vol. 3,
 * 4.8. */
#include "rt.h"

const char guest_name[] = "adbits";

enum { T = 0x40000000, AD = PTE_A | PTE_D };

static u32 page;

static void sup_read(void *p) { (void)*(volatile u32 *)p; }
static void sup_write(void *p) { *(volatile u32 *)p = 0xc3; }
static void sup_exec(void *p) { __asm__ volatile("call *%0" : : "r"(p) : "memory"); }
static void locked_add(void *p) { __asm__ volatile("lock addl $0, (%0)" : : "r"(p) : "memory"); }
static void compare_exchange_fails(void *p)
{
    __asm__ volatile("lock cmpxchgl %1, (%0)" : : "r"(p), "r"(1), "a"(0x99999999) : "memory", "cc");
}
static u32 user_read(u32 p) { return *(volatile u32 *)p; }
static u32 user_write(u32 p) { *(volatile u32 *)p = 0xc3; return 0; }

static void fresh(u32 flags)
{
    pde_set(T, pde_get(T) & ~(u64)PTE_A);
    pte_set(T, page | flags);
    write_cr3(read_cr3());
}

static u32 bits(void) { return (u32)pte_get(T) & AD; }

static void small_pages(void)
{
    page = (u32)page_alloc();
    poke(page, 0xc3);
    pte_set(T, page | 7);

    section("reads and fetches");
    fresh(7);
    CHECK_EQ(bits(), 0);
    CHECK_EQ(pde_get(T) & PTE_A, 0);
    sup_read((void *)T);
    CHECK_EQ(bits(), PTE_A);
    CHECK_EQ(pde_get(T) & PTE_A, PTE_A);
    CHECK_EQ(pde_get(T) & PTE_D, 0);                    /* ignored in an entry that leads to a table */
    fresh(7);
    sup_exec((void *)T);
    CHECK_EQ(bits(), PTE_A);
    fresh(7);
    CHECK_EQ(ring3(user_read, T), 0);
    CHECK_EQ(bits(), PTE_A);

    section("writes");
    fresh(7);
    sup_write((void *)T);
    CHECK_EQ(bits(), AD);
    fresh(7);
    sup_read((void *)T);
    CHECK_EQ(bits(), PTE_A);
    sup_write((void *)T);                               /* the entry was cached clean: the write must still mark it */
    CHECK_EQ(bits(), AD);
    fresh(7);
    CHECK_EQ(ring3(user_read, T), 0);
    CHECK_EQ(ring3(user_write, T), 0);
    CHECK_EQ(bits(), AD);
    fresh(7);
    locked_add((void *)T);
    CHECK_EQ(bits(), AD);
    fresh(7);
    compare_exchange_fails((void *)T);                  /* writes the old value back */
    CHECK_EQ(bits(), AD);
    fresh(5);
    sup_write((void *)T);                               /* WP is off */
    CHECK_EQ(bits(), AD);

    section("cleared and invalidated, they are set again");
    for (int i = 0; i < 3; i++) {
        fresh(7);
        sup_write((void *)T);
        pte_set(T, pte_get(T) & ~(u64)AD);
        invlpg(T);
        sup_read((void *)T);
        CHECK_EQ(bits(), PTE_A);
        sup_write((void *)T);
        CHECK_EQ(bits(), AD);
        pte_set(T, pte_get(T) & ~(u64)PTE_D);
        invlpg(T);
        sup_write((void *)T);
        CHECK_EQ(bits(), AD);
    }

    section("faulting accesses");
    fresh(5);
    CHECK_EQ(ring3(user_write, T), 1);
    CHECK_EQ(bits() & PTE_D, 0);
    fresh(6);
    CHECK_TRAPS(sup_write, T, V_PF, 2);
    CHECK_EQ(bits(), 0);
    fresh(3);
    CHECK_EQ(ring3(user_write, T), 1);
    CHECK_EQ(bits() & PTE_D, 0);

    section("across pages");
    u32 second = (u32)page_alloc();
    pte_set(T + PAGE, second | 7);
    fresh(7);
    sup_write((void *)(T + PAGE - 2));
    CHECK_EQ(bits(), AD);
    CHECK_EQ(pte_get(T + PAGE) & AD, AD);
    write_cr0(read_cr0() | CR0_WP);
    pte_set(T + PAGE, second | 5);
    fresh(7);
    CHECK_TRAPS(sup_write, T + PAGE - 2, V_PF, 3);
    CHECK_EQ(pte_get(T + PAGE) & PTE_D, 0);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    pte_set(T + PAGE, 0);

    section("string instructions");
    u32 run = (u32)pages_alloc(4, PAGE);
    for (u32 i = 0; i < 4; i++)
        pte_set(T + (i + 4) * PAGE, (run + i * PAGE) | 7);
    write_cr3(read_cr3());
    u32 d = T + 4 * PAGE + 0x800, n = 0x800;            /* half of the first page, the second, half of the third */
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(0) : "memory");
    for (u32 i = 0; i < 4; i++)
        CHECK_EQ(pte_get(T + (i + 4) * PAGE) & AD, i < 3 ? AD : 0);
    for (u32 i = 0; i < 4; i++)
        pte_set(T + (i + 4) * PAGE, (run + i * PAGE) | 7);
    write_cr3(read_cr3());
    u32 s = T + 4 * PAGE;
    d = T + 6 * PAGE, n = 0x400;
    __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    CHECK_EQ(pte_get(T + 4 * PAGE) & AD, PTE_A);
    CHECK_EQ(pte_get(T + 5 * PAGE) & AD, 0);
    CHECK_EQ(pte_get(T + 6 * PAGE) & AD, AD);
    n = 0;
    for (u32 i = 0; i < 4; i++)
        pte_set(T + (i + 4) * PAGE, (run + i * PAGE) | 7);
    write_cr3(read_cr3());
    d = T + 4 * PAGE;
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(0) : "memory");
    CHECK_EQ(pte_get(T + 4 * PAGE) & AD, 0);            /* a count of zero touches nothing */
}

static void large_pages(void)
{
    u32 memory = (u32)pages_alloc(1, 4u << 20), at = T + (8u << 20);

    section("large pages");
    pde_set(at, memory | 7 | PTE_PS);
    write_cr3(read_cr3());
    sup_read((void *)(at + 0x5000));
    CHECK_EQ(pde_get(at) & AD, PTE_A);
    sup_write((void *)(at + 0x9000));
    CHECK_EQ(pde_get(at) & AD, AD);
    pde_set(at, memory | 7 | PTE_PS);
    write_cr3(read_cr3());
    sup_read((void *)(at + 0x5000));
    sup_read((void *)(at + 0x9000));
    CHECK_EQ(pde_get(at) & AD, PTE_A);
    pde_set(at, 0);
    write_cr3(read_cr3());
}

/* What the processor itself reads and writes counts too: a push of an interrupt frame, a descriptor's fetch. */
static bool resume(struct frame *f)
{
    (void)f;
    return true;
}

static void implicit(void)
{
    u32 stack = (u32)page_alloc();

    section("implicit accesses");
    on_trap(0x80, resume);
    pte_set(T + 32 * PAGE, stack | 7);
    write_cr3(read_cr3());
    __asm__ volatile("movl %%esp, %%esi; movl %0, %%esp; int $0x80; movl %%esi, %%esp"
                     : : "r"(T + 33 * PAGE) : "esi", "memory", "cc");
    CHECK_EQ(pte_get(T + 32 * PAGE) & AD, AD);
    on_trap(0x80, NULL);
    /* Loading a segment reads its descriptor, and marks it accessed if it was not. */
    u64 *table = page_alloc();
    table[1] = descriptor(0, 0xfffff, 0x92, SEG_BIG | SEG_GRAN);
    table[2] = descriptor(0, 0xfffff, 0x93, SEG_BIG | SEG_GRAN);
    pte_set(T + 40 * PAGE, (u32)table | 7);
    gdt[SEL_LDT / 8] = descriptor(T + 40 * PAGE, 0xfff, 0x82, 0);
    __asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
    write_cr3(read_cr3());
    __asm__ volatile("movl %0, %%fs; movl %1, %%fs" : : "r"(2 << 3 | 4), "r"(SEL_KDATA));
    CHECK_EQ(pte_get(T + 40 * PAGE) & PTE_A, PTE_A);
    __asm__ volatile("movl %0, %%fs; movl %1, %%fs" : : "r"(1 << 3 | 4), "r"(SEL_KDATA));
    CHECK_EQ(pte_get(T + 40 * PAGE) & AD, AD);
    CHECK_EQ((u32)(table[1] >> 40) & 0xff, 0x93);
    __asm__ volatile("lldt %w0" : : "r"(0));
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        paging_start(pae, false);
        small_pages();
        large_pages();
        implicit();
        paging_stop();
    }
}
