/* With --tlb strict a change of a page table is seen by the next access, without INVLPG: by reads, writes and fetches,
 * at CPL 0 and 3, of tables and of directories, however they are written. No processor promises that (SDM vol. 3,
 * 4.10.4.3); Windows 98 and Me rely on it. */
#include "rt.h"
#include "user.h"

const char guest_name[] = "strict";

enum { T = 0x40000000, U = 0x50000000, V = 0x60000000, RW = 7, RO = 5 };

static u32 one, two; /* pages that hold 1 and 2, and at 16 code that returns them */

static void sup_write(void *p) { *(volatile u32 *)p = 7; }
static void sup_read(void *p) { (void)*(volatile u32 *)p; }
static u32 user_read(u32 p) { return *(volatile u32 *)p; }
static u32 __attribute__((noinline)) load(u32 a) { return peek(a); }

static u32 call(u32 a)
{
    u32 v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(a) : "ecx", "edx", "memory");
    return v;
}

static u32 page_with(u32 v)
{
    u32 p = (u32)page_alloc();
    poke(p, v);
    poke8(p + 16, 0xb8), poke(p + 17, v), poke8(p + 21, 0xc3);
    return p;
}

/* The same page tables' entry, by other instructions. */
static volatile u32 *entry_of(u32 linear)
{
    u32 table = (u32)pde_get(linear) & 0xfffff000;
    return (volatile u32 *)(paging_is_pae() ? table + 8 * (linear >> 12 & 511) : table + 4 * (linear >> 12 & 1023));
}

static void by_table(u32 rounds)
{
    section("a table, reads");
    u32 stale = 0;
    pte_set(T, one | RW);
    CHECK_EQ(load(T), 1);
    for (u32 i = 0; i < rounds; i++) {
        pte_set(T, (i & 1 ? one : two) | RW);
        stale += load(T) != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("a table, writes");
    for (u32 i = 0; i < 1000; i++) {
        pte_set(T, (i & 1 ? one : two) | RW);
        poke(T + 64, i);
        stale += peek((i & 1 ? one : two) + 64) != i;
    }
    CHECK_EQ(stale, 0);
    section("a table, code");
    for (u32 i = 0; i < 1000; i++) {
        pte_set(T, (i & 1 ? one : two) | RW);
        stale += call(T + 16) != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("a table, CPL 3");
    for (u32 i = 0; i < 1000; i++) {
        pte_set(T, (i & 1 ? one : two) | RW);
        CHECK_EQ(ring3(user_read, T), 0);
        stale += trap.eax != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("a table, XCHG and parts of an entry");
    for (u32 i = 0; i < 1000; i++) {
        u32 entry = (i & 1 ? one : two) | RW;
        if (i & 2)
            __asm__ volatile("xchgl %0, %1" : "+r"(entry), "+m"(*entry_of(T)) : : "memory");
        else
            for (u32 k = 4; k--;)
                ((volatile u8 *)entry_of(T))[k] = (u8)(entry >> 8 * k);
        stale += load(T) != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("rights");
    write_cr0(read_cr0() | CR0_WP);
    for (u32 i = 0; i < 200; i++) {
        pte_set(T, one | RW);
        sup_write((void *)(T + 64));
        pte_set(T, one | RO);
        CHECK_TRAPS(sup_write, T + 64, V_PF, 3);
        pte_set(T, 0);
        CHECK_TRAPS(sup_read, T, V_PF, 0);
        pte_set(T, one | 3);
        CHECK_EQ(ring3(user_read, T), 1);
        CHECK_EQ(trap.error, 5);
    }
    section("accessed and dirty");
    for (u32 i = 0; i < 200; i++) {
        pte_set(T, one | RW);
        load(T);
        CHECK_EQ(pte_get(T) & 0x60, PTE_A);
        sup_write((void *)(T + 64));
        CHECK_EQ(pte_get(T) & 0x60, PTE_A | PTE_D);
    }
}

static void by_directory(void)
{
    section("a directory");
    u64 first, second;
    u32 large = paging_is_pae() ? 2 << 20 : 4 << 20, stale = 0;
    pte_set(T, one | RW), pte_set(U, two | RW);
    first = pde_get(T), second = pde_get(U);
    for (u32 i = 0; i < 300; i++) {
        pde_set(T, i & 1 ? first : second);
        stale += load(T) != (i & 1 ? 1 : 2);
        stale += call(T + 16) != (i & 1 ? 1 : 2);
        CHECK_EQ(ring3(user_read, T), 0);
        stale += trap.eax != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("a table that two entries share");
    pde_set(T, second);
    for (u32 i = 0; i < 300; i++) {
        pte_set(U, (i & 1 ? one : two) | RW);
        stale += load(T) != (i & 1 ? 1 : 2);
        stale += load(U) != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    section("a large page");
    for (u32 i = 0; i < 300; i++) {
        pde_set(T, i & 1 ? first : (two & ~(large - 1)) | 0x80 | RW);
        u32 at = T + (i & 1 ? 0 : two & (large - 1));
        pte_set(U, (i & 1 ? one : two) | RW);
        stale += load(at) != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    pde_set(T, first);
}

static u32 stale_at(u32 linear, u32 v)
{
    u32 stale = load(linear) != v;
    stale += call(linear + 16) != v;
    CHECK_EQ(ring3(user_read, linear), 0);
    return stale + (trap.eax != v);
}

/* Tables of another address space, changed while it is not in use: what it comes back to is what they say then. */
static void by_another_space(u32 g)
{
    section(g ? "another address space, global pages" : "another address space");
    u32 first = paging_root(), stale = 0, in_first = 1, in_second = 2, in_first_alone = 1;
    pte_set(T, one | RW | g), pte_set(U, two | RW | g), pte_set(V, one | RW | g);
    u64 to_one = pde_get(T), to_two = pde_get(U);
    u32 second = paging_new_space();
    paging_of(second);
    pde_set(T, to_two);
    for (u32 i = 0; i < 200; i++) {
        paging_use(first);
        stale += stale_at(T, in_first);
        stale += stale_at(V, in_first_alone);
        paging_use(second);
        stale += stale_at(T, in_second);
        paging_of(first); /* CR3 is still the second */
        in_first = i & 1 ? 1 : 2, in_first_alone = i & 4 ? 1 : 2, in_second = i & 2 ? 1 : 2;
        pde_set(T, in_first == 1 ? to_one : to_two);
        pte_set(V, (in_first_alone == 1 ? one : two) | RW | g);
        paging_of(second);
        pde_set(T, in_second == 1 ? to_one : to_two);
        stale += stale_at(T, in_second);
    }
    CHECK_EQ(stale, 0);
    paging_use(first);
    pde_set(T, to_one);
}

/* A table is cleared, and becomes memory like any other. */
static void cleared(void)
{
    section("REP STOS over a table");
    for (u32 i = 0; i < 50; i++) {
        pte_set(T, one | RW);
        load(T);
        u32 table = (u32)pde_get(T) & 0xfffff000, to = table, n = 1024;
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(0) : "memory");
        CHECK_TRAPS(sup_read, T, V_PF, 0);
        for (u32 k = 0; k < 1024; k++)
            poke(table + 4 * k, k << 12);
        for (u32 k = 0; k < 1024; k++)
            if (peek(table + 4 * k) != k << 12)
                CHECK_EQ(peek(table + 4 * k), k << 12);
        for (u32 k = 0; k < 1024; k++)
            poke(table + 4 * k, 0);
    }
}

USER(reads, movl 0x08080000, %eax; DONE);

/* Programs of the kind that runs directly. */
static void programs(void)
{
    user_start(false);
    u32 a = (u32)page_alloc(), b = (u32)page_alloc(), stale = 0;
    struct frame f;
    poke(a, 1), poke(b, 2);
    user_page(U_DATA, P_RW);
    for (u32 i = 0; i < 500; i++) {
        pte_set(U_DATA, (i & 1 ? a : b) | P_RW);
        if (!i)
            CHECK_EQ(RUN(reads, 0, &f), U_DONE);
        else {
            f = user_frame(U_CODE);
            CHECK_EQ(user_go(&f), U_DONE);
        }
        stale += f.eax != (i & 1 ? 1 : 2);
    }
    CHECK_EQ(stale, 0);
    user_stop();
}

void guest_main(void)
{
    u32 rounds = told("million") ? 1000000 : told("tcg") ? 1000 : 20000; /* an emulated host is slow */
    one = page_with(1), two = page_with(2);
    for (u32 pae = told("tcg"); pae < 2; pae++) {
        paging_start(pae, false);
        by_table(rounds);
        by_directory();
        by_another_space(0);
        write_cr4(read_cr4() | CR4_PGE);
        by_another_space(PTE_G);
        write_cr4(read_cr4() & ~(u32)CR4_PGE);
        cleared();
        paging_stop();
    }
    section("programs");
    programs();
}
