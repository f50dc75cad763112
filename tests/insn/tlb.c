/* When a change of the page tables must be seen. Before the invalidation the old or the new translation may be used
 * (both are right, and nothing else is); after it only the new one. SDM vol. 3, 4.10. */
#include "rt.h"

const char guest_name[] = "tlb";

enum { T = 0x40000000 };

static u32 one, two;                    /* two pages, holding 1 and 2 in their first word */
static unsigned stale, fresh;           /* what was seen before an invalidation: reported, not judged */

static void sup_read(void *p) { (void)*(volatile u32 *)p; }
static void sup_write(void *p) { *(volatile u32 *)p = 7; }
static u32 user_read(u32 p) { return *(volatile u32 *)p; }
static u32 user_write(u32 p) { *(volatile u32 *)p = 7; return 0; }

static void call(void *p) { __asm__ volatile("call *%0" : : "r"(p) : "eax", "memory"); }

static u32 __attribute__((noinline)) load(u32 a) { return peek(a); }

static void remap(u32 flags)
{
    pte_set(T, one | flags);
    invlpg(T);
    CHECK_EQ(load(T), 1);
    pte_set(T, two | flags);
    u32 seen = load(T);
    CHECK(seen == 1 || seen == 2);
    *(seen == 1 ? &stale : &fresh) += 1;
}

static void flush_all(void) { write_cr3(read_cr3()); }

static void remapping(void)
{
    section("remap, INVLPG");
    for (int i = 0; i < 3; i++) {
        remap(7);
        invlpg(T);
        CHECK_EQ(load(T), 2);
        CHECK_EQ(ring3(user_read, T), 0);
        CHECK_EQ(trap.eax, 2);
    }
    section("remap, INVLPG by another address of the page");
    remap(7);
    invlpg(T + 0xabc);
    CHECK_EQ(load(T), 2);
    section("remap, MOV CR3");
    remap(7);
    flush_all();
    CHECK_EQ(load(T), 2);
    section("remap, CR4.PGE toggled");
    remap(7);
    write_cr4(read_cr4() ^ CR4_PGE);
    CHECK_EQ(load(T), 2);
    write_cr4(read_cr4() ^ CR4_PGE);
    section("remap, writes go to the new page");
    remap(7);
    invlpg(T);
    poke(T + 64, 0xabcd);
    CHECK_EQ(peek(two + 64), 0xabcd);
    CHECK_EQ(peek(one + 64), 0);
    poke(two + 64, 0);
}

static void appear_and_vanish(void)
{
    /* No TLB entry is made of a page that is not present: mapping it needs no invalidation. */
    section("not present to present");
    pte_set(T, 0);
    invlpg(T);
    CHECK_TRAPS(sup_read, T, V_PF, 0);
    pte_set(T, one | 7);
    CHECK_EQ(load(T), 1);
    section("unmapped by INVLPG");
    pte_set(T, 0);
    invlpg(T);
    CHECK_TRAPS(sup_read, T, V_PF, 0);
    CHECK_TRAPS(sup_write, T, V_PF, 2);
    section("unmapped by MOV CR3");
    pte_set(T, one | 7);
    CHECK_EQ(load(T), 1);
    sup_write((void *)(T + 128));
    pte_set(T, 0);
    flush_all();
    CHECK_TRAPS(sup_write, T + 128, V_PF, 2);
}

static void rights(void)
{
    /* More rights: a stale entry may fault once (4.10.4.3), and that fault drops it. */
    section("more rights");
    pte_set(T, one | 5);
    invlpg(T);
    CHECK_EQ(ring3(user_read, T), 0);
    pte_set(T, one | 7);
    if (ring3(user_write, T)) {
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.error, 7);
        stale++;
        CHECK_EQ(ring3(user_write, T), 0);
    } else {
        fresh++;
    }
    pte_set(T, one | 3);
    invlpg(T);
    CHECK_EQ(load(T), 7);
    CHECK_EQ(ring3(user_read, T), 1);
    CHECK_EQ(trap.error, 5);
    pte_set(T, one | 7);
    if (ring3(user_read, T))
        CHECK_EQ(ring3(user_read, T), 0);
    /* Fewer rights: gone after the invalidation at the latest. */
    section("fewer rights");
    CHECK_EQ(ring3(user_write, T), 0);
    pte_set(T, one | 5);
    invlpg(T);
    CHECK_EQ(ring3(user_write, T), 1);
    CHECK_EQ(trap.error, 7);
    pte_set(T, one | 7);
    invlpg(T);
    CHECK_EQ(ring3(user_write, T), 0);
    pte_set(T, one | 3);
    invlpg(T);
    CHECK_EQ(ring3(user_read, T), 1);
    CHECK_EQ(trap.error, 5);
    pte_set(T, one | 7);
    invlpg(T);
    section("CR0.WP");
    pte_set(T, one | 5);
    invlpg(T);
    CHECK_EQ(caught(sup_write, (void *)T), 0);
    write_cr0(read_cr0() | CR0_WP);
    CHECK_TRAPS(sup_write, T, V_PF, 3);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    CHECK_EQ(caught(sup_write, (void *)T), 0);
    poke(one, 1);
}

static void global_pages(void)
{
    u32 seen;

    /* A global entry may outlive MOV CR3, and INVLPG and a change of CR4.PGE drop it. */
    section("global pages");
    write_cr4(read_cr4() | CR4_PGE);
    remap(7 | PTE_G);
    flush_all();
    seen = load(T);
    CHECK(seen == 1 || seen == 2);
    *(seen == 1 ? &stale : &fresh) += 1;
    invlpg(T);
    CHECK_EQ(load(T), 2);
    remap(7 | PTE_G);
    flush_all();
    write_cr4(read_cr4() & ~(u32)CR4_PGE);
    CHECK_EQ(load(T), 2);
    write_cr4(read_cr4() | CR4_PGE);
    remap(7 | PTE_G);
    write_cr0(read_cr0() & ~CR0_PG);                    /* turning paging off drops everything (4.10.4.1) */
    write_cr0(read_cr0() | CR0_PG);
    CHECK_EQ(load(T), 2);
    write_cr4(read_cr4() & ~(u32)CR4_PGE);
}

static void directories(void)
{
    u32 large = (u32)pages_alloc(1, 4u << 20), at = T + (16u << 20), table;

    /* A directory entry changes: INVLPG of an address drops what led to that address, large page or small. */
    section("directory entries");
    poke(large + 0x3000, 33);
    pte_set(at + 0x3000, one | 7);
    CHECK_EQ(load(at + 0x3000), 1);
    table = (u32)pde_get(at);
    pde_set(at, large | 7 | PTE_PS);
    invlpg(at + 0x3000);
    CHECK_EQ(load(at + 0x3000), 33);
    pde_set(at, table);
    invlpg(at + 0x3000);
    CHECK_EQ(load(at + 0x3000), 1);
    /* A large page may be cached in pieces, and INVLPG of any of its addresses drops all of them. */
    pde_set(at, large | 7 | PTE_PS);
    flush_all();
    poke(large + 0x10000, 44);
    CHECK_EQ(load(at + 0x3000), 33);
    CHECK_EQ(load(at + 0x10000), 44);
    pte_set(at + (4u << 20), one | 7);                  /* a neighbour, to be left alone or not */
    pde_set(at, 0);
    invlpg(at + 0x10000);
    CHECK_TRAPS(sup_read, at + 0x3000, V_PF, 0);
    CHECK_TRAPS(sup_read, at + 0x10000, V_PF, 0);
    CHECK_EQ(load(at + (4u << 20)), 1);
    /* The whole directory is another one after MOV CR3, even when only the register changes. */
    section("other directory");
    if (!paging_is_pae()) {
        u32 *other = page_alloc();
        u32 old = read_cr3();
        memcpy(other, (void *)old, PAGE);
        u32 *other_table = page_alloc();
        other[T >> 22] = (u32)other_table | 7;
        other_table[0] = two | 7;
        pte_set(T, one | 7);
        invlpg(T);
        for (int i = 0; i < 50; i++) {
            CHECK_EQ(load(T), 1);
            write_cr3((u32)other);
            CHECK_EQ(load(T), 2);
            write_cr3(old);
        }
        other_table[0] = one | 7;                       /* changed while that directory was not in use */
        pte_set(T, two | 7);
        write_cr3((u32)other);
        CHECK_EQ(load(T), 1);
        other_table[0] = 0;
        write_cr3(old);
        CHECK_EQ(load(T), 2);
        write_cr3((u32)other);
        CHECK_TRAPS(sup_read, T, V_PF, 0);
        write_cr3(old);
    }
}

/* Code follows the same rules: a page of code remapped, and invalidated, is the new code. */
static void code_pages(void)
{
    static const u8 return_1[] = {0xb8, 1, 0, 0, 0, 0xc3}, return_2[] = {0xb8, 2, 0, 0, 0, 0xc3};
    u32 a = (u32)page_alloc(), b = (u32)page_alloc();
    u32 (*fn)(u32) = (u32 (*)(u32))(T + PAGE);

    section("code");
    memcpy((void *)a, return_1, sizeof(return_1));
    memcpy((void *)b, return_2, sizeof(return_2));
    for (int i = 0; i < 4; i++) {
        pte_set(T + PAGE, a | 7);
        invlpg(T + PAGE);
        for (int k = 0; k < 100; k++)
            CHECK_EQ(fn(0), 1);
        CHECK_EQ(ring3(fn, 0), 0);
        CHECK_EQ(trap.eax, 1);
        pte_set(T + PAGE, b | 7);
        u32 seen = fn(0);
        CHECK(seen == 1 || seen == 2);
        if (i & 1)
            flush_all();
        else
            invlpg(T + PAGE);
        CHECK_EQ(fn(0), 2);
        CHECK_EQ(ring3(fn, 0), 0);
        CHECK_EQ(trap.eax, 2);
    }
    pte_set(T + PAGE, 0);
    invlpg(T + PAGE);
    CHECK_TRAPS(call, T + PAGE, V_PF, 0);
    CHECK_EQ(trap.eip, T + PAGE);
}

void guest_main(void)
{
    one = (u32)page_alloc(), two = (u32)page_alloc();
    poke(one, 1), poke(two, 2);
    for (int pae = 0; pae < 2; pae++) {
        paging_start(pae, false);
        pte_set(T, one | 7);
        remapping();
        appear_and_vanish();
        rights();
        global_pages();
        directories();
        code_pages();
        paging_stop();
    }
    print("tlb: before invalidation %u stale, %u fresh (both are right)\n", stale, fresh);
}
