/* More code than a code cache holds, kept hot: thousands of distinct functions, called in changing order, directly,
 * through each other and through a table, by the kernel and by ring 3, while interrupts come in. A model in C says what
 * each must return. */
#include "rt.h"

const char guest_name[] = "evict";

enum { FUNCTIONS = 12000, SIZE = 64, HOT = 64 };

static u8 *code;
static volatile u32 ticks;

static bool on_tick(struct frame *f)
{
    (void)f;
    ticks++;
    pic_eoi(0);
    return true;
}

static u32 constant(u32 i, u32 k)
{
    return (i * 2654435761u) ^ (k * 0x9e3779b9u);
}

/* Function i: eax = f(eax); every third then jumps to function i/2, which makes chains across pages. */
static void generate(u32 i)
{
    u8 *p = code + i * SIZE;

#define BYTE(b) (*p++ = (u8)(b))
#define WORD(w) (*(u32 *)p = (w), p += 4)
    BYTE(0x05), WORD(constant(i, 1));                          /* add eax, imm32 */
    BYTE(0x35), WORD(constant(i, 2));                          /* xor eax, imm32 */
    BYTE(0xc1), BYTE(0xc0), BYTE(i % 31 + 1);                  /* rol eax, imm8 */
    BYTE(0xa8), BYTE(1);                                       /* test al, 1 */
    BYTE(0x74), BYTE(5);                                       /* jz +5 */
    BYTE(0x2d), WORD(constant(i, 3));                          /* sub eax, imm32 */
    BYTE(0x69), BYTE(0xc0), WORD(constant(i, 4) | 1);          /* imul eax, eax, imm32 */
    if (i % 3 == 2) {
        u32 target = (u32)(code + i / 2 * SIZE);
        BYTE(0xe9), WORD(target - ((u32)p + 4));               /* jmp rel32 */
    }
    BYTE(0xc3);
#undef BYTE
#undef WORD
}

static u32 model(u32 i, u32 x)
{
    for (;;) {
        x += constant(i, 1);
        x ^= constant(i, 2);
        x = x << (i % 31 + 1) | x >> (31 - i % 31);
        if (x & 1)
            x -= constant(i, 3);
        x *= constant(i, 4) | 1;
        if (i % 3 != 2)
            return x;
        i /= 2;
    }
}

static u32 call(u32 i, u32 x)
{
    __asm__ volatile("call *%1" : "+a"(x) : "r"(code + i * SIZE) : "cc");
    return x;
}

static u32 user_sweep(u32 from)
{
    u32 x = from;
    for (u32 i = 0; i < 2000; i++)
        x = call((from + i) % FUNCTIONS, x);
    return x;
}

static u32 model_sweep(u32 from)
{
    u32 x = from;
    for (u32 i = 0; i < 2000; i++)
        x = model((from + i) % FUNCTIONS, x);
    return x;
}

static void run(void)
{
    u32 wrong = 0, x = 1, order = 1;

    section("in order");
    for (u32 i = 0; i < FUNCTIONS; i++)
        wrong += call(i, i) != model(i, i);
    CHECK_EQ(wrong, 0);
    section("in any order, some of them hot");
    for (u32 i = 0; i < 3 * FUNCTIONS; i++) {
        order = order * 1664525 + 1013904223;
        u32 which = i & 1 ? (order >> 8) % FUNCTIONS : (order >> 8) % HOT;
        u32 want = model(which, x);
        x = call(which, x);
        wrong += x != want;
    }
    CHECK_EQ(wrong, 0);
    section("by ring 3, with interrupts");
    ring3_eflags = 2 | F_IF;
    for (u32 from = 0; from < FUNCTIONS; from += 2000) {
        CHECK_EQ(ring3(user_sweep, from), 0);
        CHECK_EQ(trap.eax, model_sweep(from));
    }
    ring3_eflags = 2;
    section("rewritten while others stay");
    for (u32 i = 0; i < FUNCTIONS; i += 7) {
        u32 *imm = (u32 *)(code + i * SIZE + 1);
        u32 saved = *imm, before = call(i, 5);
        *(volatile u32 *)imm = saved + 1;
        wrong += call(i, 4) != before;                         /* 4 + (k + 1) is 5 + k */
        *(volatile u32 *)imm = saved;
        wrong += call(i, 5) != before;
    }
    CHECK_EQ(wrong, 0);
}

void guest_main(void)
{
    code = pages_alloc(FUNCTIONS * SIZE / PAGE + 1, PAGE);
    for (u32 i = 0; i < FUNCTIONS; i++)
        generate(i);
    on_trap(IRQ_BASE, on_tick);
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);
    pic_unmask(0);
    for (int paging = told("tcg"); paging < 2; paging++) {         /* once is minutes on an emulated host */
        if (paging)
            paging_start(false, false);
        __asm__ volatile("sti");
        run();
        __asm__ volatile("cli");
        if (paging)
            paging_stop();
    }
    CHECK(ticks > 0);
}
