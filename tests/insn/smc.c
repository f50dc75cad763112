/* Code that changes: the next fetch after a store sees it, whichever address wrote it and wherever it lies. A 32-bit
 * processor of family 6 needs no serialising instruction for its own stores (SDM vol. 3, 11.6, 8.1.3), except that a
 * store to code by another linear address than it is fetched from needs a jump or a serialising instruction; all
 * cases here have at least a jump between store and fetch, except where the store is through the code's own address. */
#include "rt.h"

const char guest_name[] = "smc";

enum { T = 0x40000000 };

static const u8 return_imm[] = {0xb8, 0, 0, 0, 0, 0xc3};       /* mov eax, imm32; ret */

static void make_return(u32 at, u32 value)
{
    memcpy((void *)at, return_imm, sizeof(return_imm));
    poke(at + 1, value);
}

static u32 call(u32 at)
{
    return ((u32 (*)(void))at)();
}

static void rewritten(u32 page)
{
    section("rewritten between calls");
    for (u32 i = 0; i < 300; i++) {
        make_return(page, i);
        CHECK_EQ(call(page), i);
    }
    section("only its immediate rewritten, after many calls");
    for (u32 i = 0; i < 20; i++) {
        for (int k = 0; k < 200; k++)
            call(page);
        poke(page + 1, i * 3);
        CHECK_EQ(call(page), i * 3);
    }
    section("one byte at a time, a word, across its parts");
    make_return(page, 0);
    for (u32 i = 0; i < 4; i++) {
        poke8(page + 1 + i, (u8)(i + 1));
        CHECK_EQ(call(page), 0x04030201u & (0xffffffffu >> (24 - 8 * i)));
    }
    *(volatile u16 *)(page + 2) = 0xaabb;
    CHECK_EQ(call(page), 0x04aabb01);
    section("back and forth");
    for (u32 i = 0; i < 200; i++) {
        poke(page + 1, i & 1);
        CHECK_EQ(call(page), i & 1);
    }
    section("data beside code");                               /* stores to the same page that touch no instruction */
    u32 sum = 0;
    make_return(page, 5);
    for (u32 i = 0; i < 500; i++) {
        poke(page + 0x800 + (i & 63) * 4, i);
        sum += call(page);
    }
    CHECK_EQ(sum, 2500);
    CHECK_EQ(peek(page + 0x800), 448);
}

/* A block that changes an instruction of its own that it has yet to reach. */
static void own_block(u32 page)
{
    /* mov byte [page+N], 42 ; mov eax, 1 (N: its immediate) ; ret */
    u8 code[] = {0xc6, 0x05, 0, 0, 0, 0, 42, 0xb8, 1, 0, 0, 0, 0xc3};
    u32 target = page + 8;

    section("own block, next instruction");
    for (int i = 0; i < 5; i++) {
        memcpy(code + 2, &target, 4);
        memcpy((void *)page, code, sizeof(code));
        CHECK_EQ(call(page), 42);
        poke8(target, 1);                                      /* as it was: the block must change itself again */
        CHECK_EQ(call(page), 42);
    }
    /* Further on in the block, by a store with computed address: mov [edx],cl; nops; mov eax,1; ret */
    section("own block, later instruction");
    for (u32 distance = 0; distance < 40; distance += 5) {
        u8 *p = (u8 *)page;
        *p++ = 0x88, *p++ = 0x0a;
        memset(p, 0x90, distance), p += distance;
        make_return((u32)p, 1);
        for (u32 i = 2; i < 6; i++) {
            u32 got;
            __asm__ volatile("call *%1" : "=a"(got) : "r"(page), "d"(p + 1), "c"(i) : "memory");
            CHECK_EQ(got, i);
        }
    }
    /* A loop that increments an immediate of its own: mov eax,imm ; inc dword [imm] ; dec ecx ; jnz ; ret */
    section("own loop");
    u8 loop[] = {0xb8, 0, 0, 0, 0, 0xff, 0x05, 0, 0, 0, 0, 0x49, 0x75, 0xf2, 0xc3};
    target = page + 1;
    memcpy(loop + 7, &target, 4);
    memcpy((void *)page, loop, sizeof(loop));
    u32 got, n = 100;
    __asm__ volatile("call *%2" : "=a"(got), "+c"(n) : "r"(page) : "memory", "cc");
    CHECK_EQ(got, 99);
    /* A string instruction that overwrites what follows it: rep movsb over the rest of the block. */
    section("overwritten by a string instruction");
    static u8 replacement[] = {0xb8, 77, 0, 0, 0, 0xc3};
    u8 *p = (u8 *)page;
    *p++ = 0xf3, *p++ = 0xa4;
    make_return((u32)p, 1);
    u32 c = sizeof(replacement), s = (u32)replacement, d = (u32)p;
    __asm__ volatile("call *%4" : "=a"(got), "+c"(c), "+S"(s), "+D"(d) : "r"(page) : "memory");
    CHECK_EQ(got, 77);
    /* A push whose ESP points into the code: at 0x200 "push imm32", whose four bytes land at 0x208, where control
     * arrives by three NOPs. They are "mov al, 9; jmp +6", to "mov esp, ebp; ret" at 0x212. */
    section("overwritten by a push");
    static const u8 pusher[] = {0x68, 0xb0, 9, 0xeb, 6, 0x90, 0x90, 0x90};
    static const u8 home[] = {0x89, 0xec, 0xc3};
    memcpy((void *)(page + 0x200), pusher, sizeof(pusher));
    make_return(page + 0x208, 1);
    memcpy((void *)(page + 0x212), home, sizeof(home));
    __asm__ volatile("movl %%ebp, %%esi; call 1f; jmp 2f; 1: movl %%esp, %%ebp; leal 0x20c(%1), %%esp; "
        "xorl %%eax, %%eax; leal 0x200(%1), %%ecx; "
                     "jmp *%%ecx; 2: movl %%esi, %%ebp" : "=&a"(got) : "b"(page) : "ecx", "esi", "memory", "cc");
    CHECK_EQ(got, 9);
}

static void other_pages(u32 page)
{
    u32 next = page + PAGE;

    section("another page's block, called from this one");
    /* page: call next ; add eax, 1 ; ret.   next: mov eax, imm ; ret */
    u8 caller[] = {0xe8, 0, 0, 0, 0, 0x83, 0xc0, 1, 0xc3};
    u32 relative = next - (page + 5);
    memcpy(caller + 1, &relative, 4);
    memcpy((void *)page, caller, sizeof(caller));
    for (u32 i = 0; i < 100; i++) {
        make_return(next, i);
        CHECK_EQ(call(page), i + 1);
        CHECK_EQ(call(page), i + 1);
    }
    section("an instruction across a page border");
    memset((void *)page, 0x90, 2 * PAGE);
    make_return(next - 3, 0x01020304);
    CHECK_EQ(call(next - 3), 0x01020304);
    poke8(next, 0x22);                                         /* its third immediate byte, in the second page */
    CHECK_EQ(call(next - 3), 0x01220304);
    poke8(next - 1, 0x33);                                     /* and one in the first */
    CHECK_EQ(call(next - 3), 0x01223304);
    for (u32 i = 0; i < 50; i++) {
        poke8(next + 1, (u8)i);
        CHECK_EQ(call(next - 3), 0x00223304 | i << 24);
    }
    section("a jump's target rewritten");
    /* page: jmp next; next: mov eax,imm; ret; jump redirected to next+64 */
    u8 jump[] = {0xe9, 0, 0, 0, 0};
    make_return(next, 1);
    make_return(next + 64, 2);
    for (u32 i = 0; i < 100; i++) {
        relative = next + (i & 1) * 64 - (page + 5);
        memcpy(jump + 1, &relative, 4);
        memcpy((void *)page, jump, sizeof(jump));
        CHECK_EQ(call(page), 1 + (i & 1));
    }
}

/* With paging: the same physical page through another linear address, by the kernel and by user code. */
static u32 alias_store(u32 value)
{
    *(volatile u32 *)(T + 16 * PAGE + 1) = value;
    return 0;
}

static u32 call_user(u32 at)
{
    return ((u32 (*)(void))at)();
}

static void alias(u32 page)
{
    section("through an alias");
    pte_set(T, page | 7);
    pte_set(T + 16 * PAGE, page | 7);
    write_cr3(read_cr3());
    make_return(page, 0);
    for (u32 i = 0; i < 100; i++) {
        poke(T + 16 * PAGE + 1, i);
        CHECK_EQ(call(T), i);
        CHECK_EQ(call(page), i);
        poke(page + 1, i + 1000);
        CHECK_EQ(call(T), i + 1000);
        CHECK_EQ(call(T + 16 * PAGE), i + 1000);
    }
    section("user code written by the kernel, kernel code written by the user");
    for (u32 i = 0; i < 30; i++) {
        poke(T + 1, i);
        CHECK_EQ(ring3(call_user, T), 0);
        CHECK_EQ(trap.eax, i);
        CHECK_EQ(ring3(alias_store, i + 7), 0);
        CHECK_EQ(call(T), i + 7);
        CHECK_EQ(ring3(call_user, T), 0);
        CHECK_EQ(trap.eax, i + 7);
    }
    section("by string instructions");
    static u8 image[2 * PAGE];
    memset(image, 0x90, sizeof(image));
    for (u32 i = 0; i < 20; i++) {
        make_return((u32)image, i);
        u32 d = T + 16 * PAGE, s = (u32)image, n = PAGE / 4;
        __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        CHECK_EQ(call(T), i);
    }
    /* an accessed bit is set in a page that holds code too */
    section("by a processor's own store");
    u32 table_page = (u32)pde_get(T) & ~0xfffu;
    make_return(table_page + 0xf00, 5);                        /* the tail of the page table: entries nobody uses */
    CHECK_EQ(call(table_page + 0xf00), 5);
    pte_set(T + 5 * PAGE, page | 7);
    invlpg(T + 5 * PAGE);
    poke(T + 5 * PAGE + 0x900, 1);
    CHECK_EQ((u32)pte_get(T + 5 * PAGE) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_EQ(call(table_page + 0xf00), 5);
    poke(table_page + 0xf01, 6);
    CHECK_EQ(call(table_page + 0xf00), 6);
}

/* Code that is taken away and comes back unchanged, as a kernel's module loader or an exec of the same file does. */
static void revived(u32 page)
{
    static u8 saved[PAGE];

    section("gone and back");
    for (u32 i = 0; i < 16; i++)
        make_return(page + i * 64, i);
    memcpy(saved, (void *)page, PAGE);
    for (int round = 0; round < 20; round++) {
        for (u32 i = 0; i < 16; i++)
            CHECK_EQ(call(page + i * 64), i);
        memset((void *)page, 0xcc, PAGE);
        if (round & 1)
            make_return(page + 3 * 64, 1234), CHECK_EQ(call(page + 3 * 64), 1234);
        memcpy((void *)page, saved, PAGE);
    }
}

void guest_main(void)
{
    u32 page = (u32)pages_alloc(4, PAGE);

    for (int mode = 0; mode < 3; mode++) {
        if (mode)
            paging_start(mode == 2, false);
        rewritten(page);
        own_block(page);
        other_pages(page);
        revived(page);
        if (mode) {
            alias(page);
            paging_stop();
        }
    }
}
