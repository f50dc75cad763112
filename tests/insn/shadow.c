/* Shadow RAM that the host bridge write-protects, as firmware leaves its own: stores are dropped, all else is as in
 * RAM, and code there runs as fast. Intel 290549 (440FX), 3.2.12 PAM. */
#include "user.h"

const char guest_name[] = "shadow";

enum { PAGE_AT = 0xf0000, U_PAGE_AT = 0xf8000, U_SHADOW = 0x20000000, LOOPS = 300000 };

/* The half byte of 0xf0000 and up, and the four bytes' worth of 0xe0000 and up: 1 reads RAM, 2 writes RAM. */
static void pam(u8 upper, u8 lower)
{
    outl(0xcf8, 0x80000058);                                    /* 59h, then 5Eh and 5Fh */
    outb(0xcfd, (u8)(upper << 4));
    outl(0xcf8, 0x8000005c);
    outb(0xcfe, (u8)(lower << 4 | lower));
    outb(0xcff, (u8)(lower << 4 | lower));
}
static void unlock(void) { pam(3, 3); }
static void lock(void) { pam(1, 3); }

static const u8 return_imm[] = {0xb8, 0, 0, 0, 0, 0xc3};        /* mov eax, imm32; ret */
static void make_return(u32 at, u32 value)
{
    memcpy((void *)at, return_imm, sizeof(return_imm));
    poke(at + 1, value);
}
static u32 call(u32 at) { return ((u32 (*)(void))at)(); }

/* Every kind of store; what it would have made of 5 is none of our business. */
static void stores(u32 at)
{
    u32 old = 5, n = 4;
    void *to = (void *)at;

    poke(at, 0x11111111);
    poke8(at + 1, 0x22);
    *(volatile u16 *)(at + 3) = 0x3333;                         /* not aligned */
    __asm__ volatile("addl $7, (%0)\n\tlock incl (%0)\n\txchgl %1, (%0)\n\tbtsl $3, (%0)" : : "r"(at),
        "r"(9) : "memory", "cc");
    __asm__ volatile("lock cmpxchgl %2, (%1)" : "+a"(old) : "r"(at), "r"(8) : "memory", "cc");
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(0x44444444) : "memory");
    __asm__ volatile("movl %%esp, %%ecx\n\tleal 8(%0), %%esp\n\tpushl $1\n\tpushl $2\n\tmovl %%ecx, %%esp"
        : : "r"(at) : "ecx", "memory");
}

static void dropped(u32 at)
{
    section("stores are dropped");
    unlock();
    for (u32 i = 0; i < 8; i++)
        poke(at + 0x800 + 4 * i, 5);
    make_return(at, 77);
    for (u32 i = 0; i < 50; i++) {
        if (i == 20)
            lock();
        if (i >= 20) {
            stores(at + 0x800);
            poke(at + 1, i);
        }
        CHECK_EQ(call(at), 77);
    }
    for (u32 i = 0; i < 8; i++)
        CHECK_EQ(peek(at + 0x800 + 4 * i), 5);
    section("and taken again");
    for (u32 i = 0; i < 40; i++) {
        unlock();
        poke(at + 0x800, i);
        poke(at + 1, i * 3);
        lock();
        poke(at + 0x800, 0);
        poke(at + 1, 0);
        CHECK_EQ(peek(at + 0x800), i);
        CHECK_EQ(call(at), i * 3);
    }
}

/* A string that begins where RAM is RAM. */
static void across(u32 at)
{
    u32 n = 64;
    void *to = (void *)(at - 128);

    section("a string across the border");
    unlock();
    memset((void *)(at - 128), 1, 256);
    lock();
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(0x02020202) : "memory");
    CHECK_EQ(peek(at - 128), 0x02020202);
    CHECK_EQ(peek(at - 4), 0x02020202);
    CHECK_EQ(peek(at), 0x01010101);
    CHECK_EQ(peek(at + 124), 0x01010101);
}

/* What run_insn.py counts: a loop that is not translated would be interpreted a million times. */
USER(looping,
    movl %ecx, %eax;
1:  addl %ecx, %eax;
    xorl 0x404(%edx), %eax;
    decl %ecx;
    jnz 1b;
    ret);
static void fast(u32 at)
{
    u32 sum, n = LOOPS, expected = LOOPS;

    section("a loop in it");
    unlock();
    memcpy((void *)at, looping, looping_end - looping);
    poke(at + 0x404, 0x5678);
    lock();
    for (u32 i = LOOPS; i; i--)
        expected = (expected + i) ^ 0x5678;
    __asm__ volatile("call *%3" : "=a"(sum), "+c"(n) : "d"(at), "r"(at) : "memory", "cc");
    CHECK_EQ(sum, expected);
}

USER(in_shadow,
    movl $200, %ecx;
    movl $0x20000000, %edi;
1:  movl %ecx, 0x300(%edi);
    movl $0xcccccccc, (%edi);
    addl 0x300(%edi), %eax;
    decl %ecx;
    jnz 1b;
    movl $0x20000304, %edi;
    movl $16, %ecx;
    rep stosl;
    DONE);
static void user(bool pae)
{
    struct frame f;

    section("a user program in it");
    user_start(pae);
    unlock();
    memcpy((void *)U_PAGE_AT, in_shadow, in_shadow_end - in_shadow);
    for (u32 i = 0; i < 32; i++)
        poke(U_PAGE_AT + 0x300 + 4 * i, 3);
    lock();
    pte_set(U_SHADOW, U_PAGE_AT | P_RW);
    for (u32 i = 0; i < 5; i++) {
        f = user_frame(U_SHADOW);
        f.eax = 1;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 601);
    }
    CHECK_EQ(peek(U_PAGE_AT + 0x300), 3);
    CHECK_EQ(peek(U_PAGE_AT + 0x310), 3);
    CHECK_EQ(memcmp((void *)U_PAGE_AT, in_shadow, in_shadow_end - in_shadow), 0);
    unlock();
    poke(U_PAGE_AT, 0x81cd);                                      /* INT 81h: ends at once */
    f = user_frame(U_SHADOW);
    f.eax = 1;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax, 1);
    user_stop();
}

/* A page table in it: read like any other, and neither accessed nor dirty is noted. */
static void tables(void)
{
    u32 page, target;

    section("a page table in it");
    paging_start(false, false);
    unlock();
    memset((void *)PAGE_AT, 0, PAGE);
    page = (u32)page_alloc();
    target = (u32)page_alloc();
    poke(target, 0xabcd);
    poke(PAGE_AT, target | PTE_P | PTE_W);
    poke(PAGE_AT + 4, page | PTE_P | PTE_W);
    pde_set(0x40000000, PAGE_AT | PTE_P | PTE_W);
    lock();
    write_cr3(read_cr3());
    CHECK_EQ(peek(0x40000000), 0xabcd);
    poke(0x40001000, 99);
    poke(0x40001004, 98);
    CHECK_EQ(peek(page), 99);
    CHECK_EQ(peek(page + 4), 98);
    CHECK_EQ(peek(PAGE_AT), target | PTE_P | PTE_W);
    CHECK_EQ(peek(PAGE_AT + 4), page | PTE_P | PTE_W);
    pde_set(0x40000000, 0);
    write_cr3(read_cr3());
    paging_stop();
}

void guest_main(void)
{
    dropped(PAGE_AT);
    across(PAGE_AT);
    fast(PAGE_AT + 0x1000);
    tables();
    paging_start(false, false);
    dropped(PAGE_AT + 0x2000);
    across(PAGE_AT);
    fast(PAGE_AT + 0x3000);
    paging_stop();
    user(false);
    user(true);
}
