/* The run-time itself: that traps are caught, ring 3 is entered and left, paging comes on and goes off. */
#include "rt.h"

const char guest_name[] = "basic";

static void divide(void *arg)
{
    u32 zero = (u32)arg;
    __asm__ volatile("xorl %%edx, %%edx; divl %0" : : "r"(zero), "a"(1) : "edx");
}

static u32 user_add(u32 x)
{
    u32 cs;
    __asm__ volatile("movl %%cs, %0" : "=r"(cs));
    return (cs & 3) == 3 ? x + 1 : 0;
}

static u32 user_cli(u32 x)
{
    __asm__ volatile("cli");
    return x;
}

void guest_main(void)
{
    section("traps");
    CHECK_EQ(caught(divide, (void *)1), 0);
    CHECK_TRAPS(divide, 0, V_DE, 0);
    CHECK_EQ(ring3(user_add, 41), 0);
    CHECK_EQ(trap.eax, 42);
    CHECK_EQ(ring3(user_cli, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0);
    CHECK_EQ(trap.cs, SEL_UCODE);
    CHECK_EQ(trap.ss, SEL_UDATA);
    for (int pae = 0; pae < 2; pae++) {
        section(pae ? "pae" : "paging");
        paging_start(pae, false);
        u32 page = (u32)page_alloc();
        poke(page, 0x12345678);
        pte_set(0x40000000, page | PTE_P | PTE_W | PTE_U);
        CHECK_EQ(peek(0x40000000), 0x12345678);
        CHECK_EQ(ring3(user_add, 7), 0);
        CHECK_EQ(trap.eax, 8);
        paging_stop();
        CHECK_EQ(peek(page), 0x12345678);
    }
}
