/* CALL and RET that do not pair, and pairs between which something has changed: the stack, the code behind the CALL,
 * the page that it is in, the rights to it, the ring. A RET goes where the stack says, and finds there what is there
 * now. A monitor may remember CALLs to be fast at RETs. All of it comes twice, the second time with a timer's
 * interrupts. */
#include "rt.h"

const char guest_name[] = "returns";

enum { T = 0x40000000, ABSENT = 0x40800000, DEEP = 40000, BEHIND = 2 /* the CALL at T */ };

#define CODE(name, ...) __asm__(".pushsection .text\n" #name ":\n" #__VA_ARGS__ "\n.popsection\n")

static u32 pages[2]; /* each for T: CALL EBX, and EAX is the page's number then */
static u32 ticks;

/* EAX + .. + 1, that many calls deep. */
u32 sum_to(void);
CODE(sum_to,
    testl %eax, %eax;
    jz 1f;
    pushl %eax;
    decl %eax;
    call sum_to;
    popl %ecx;
    addl %ecx, %eax;
1:  ret);

static u32 sum(u32 n)
{
    __asm__ volatile("call sum_to" : "+a"(n) : : "ecx", "cc", "memory");
    return n;
}

/* As sum(), on a stack that has room for it. */
static u32 sum_on(u32 top, u32 n)
{
    __asm__ volatile("movl %%esp, %%esi; movl %1, %%esp; call sum_to; movl %%esi, %%esp"
                     : "+a"(n) : "r"(top) : "ecx", "esi", "cc", "memory");
    return n;
}

static void depth(void)
{
    u32 top = (u32)pages_alloc(DEEP * 8 / PAGE + 1, PAGE) + (DEEP * 8 / PAGE + 1) * PAGE;

    section("depth");
    for (u32 n = 1; n <= DEEP; n = n * 3 + 1) CHECK_EQ(sum_on(top, n), n * (n + 1) / 2);
    for (u32 i = 0; i < 3; i++) CHECK_EQ(sum_on(top, DEEP), DEEP * (DEEP + 1u) / 2);
}

/* Down EAX calls, and up at once. */
u32 dive(void);
CODE(dive,
    testl %eax, %eax;
    jz 1f;
    decl %eax;
    call dive;
    ret;
1:  movl %esi, %esp;
    jmp *%edi);

static u32 leave(u32 n)
{
    u32 left;
    __asm__ volatile("movl %%esp, %%esi; movl $1f, %%edi; call dive; 1: movl %%esi, %%esp"
                     : "=a"(left) : "0"(n) : "esi", "edi", "cc", "memory");
    return left + sum(20);
}

static u32 __attribute__((noinline)) leaves(u32 levels) { return levels ? leave(levels) + leaves(levels - 1) : 0; }

static void left_by_a_jump(void)
{
    section("left by a jump");
    for (u32 i = 0; i < 200; i++) CHECK_EQ(leaves(30), 30 * 210);
}

/* Two stacks that take turns in the middle of calls. Each counts in EAX and gives the other its turn 4 calls deep. */
u32 other_stack;
void turn(void), turn4(void), coroutine(void);
CODE(turn, xchgl %esp, other_stack; ret);
CODE(turn4, call 1f; incl %eax; ret; 1: call 2f; incl %eax; ret; 2: call turn; incl %eax; ret);
CODE(coroutine, 1: call turn4; addl $0x10000, %eax; jmp 1b);

static void two_stacks(void)
{
    u32 *stack = page_alloc(), n = 0;

    section("two stacks");
    stack[PAGE / 4 - 1] = (u32)coroutine;
    other_stack = (u32)&stack[PAGE / 4 - 1];
    for (u32 i = 0; i < 20000; i++) __asm__ volatile("call turn4" : "+a"(n) : : "cc", "memory");
    CHECK_EQ(n, 20000 * 3 + 19999 * (0x10000 + 3));
}

static void not_paired(void)
{
    u32 n = 0, at = 0, behind = 0;

    section("CALLs without a RET");
    __asm__ volatile("movl $300000, %%ecx; 1: call 2f; nop; 2: popl %0; incl %1; loop 1b; movl $1b+5, %2"
                     : "=&r"(at), "+&r"(n), "=&r"(behind) : : "ecx", "cc", "memory");
    CHECK_EQ(n, 300000);
    CHECK_EQ(at, behind);
    CHECK_EQ(sum(300), 45150);
    section("RETs without a CALL");
    __asm__ volatile("movl $100000, %%ecx; 1: pushl $2f; ret; ud2; 2: incl %0; loop 1b"
                     : "+r"(n) : : "ecx", "cc", "memory");
    CHECK_EQ(n, 400000);
    section("RETs to elsewhere");
    __asm__ volatile("movl $100000, %%ecx; 1: call 3f; ud2; 2: loop 1b; jmp 4f; 3: addl $2, (%%esp); incl %0; ret; 4:"
                     : "+r"(n) : : "ecx", "cc", "memory");
    CHECK_EQ(n, 500000);
    section("RET n");
    __asm__ volatile("movl %%esp, %%esi; movl $1000, %%ecx; 1: pushl %%ecx; pushl %%ecx; call 3f; loop 1b; jmp 4f;"
                     "3: ret $8; 4: subl %%esp, %%esi"
                     : "=&S"(n) : : "ecx", "cc", "memory");
    CHECK_EQ(n, 0);
}

/* Calls fn from the page at T. */
static u32 through(void (*fn)(void))
{
    u32 v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(T), "b"(fn) : "ecx", "edx", "cc", "memory");
    return v;
}

static void nothing(void) { __asm__ volatile(""); }
static u32 flags = 7;
static void exchange(u32 page) { pte_set(T, pages[page] | flags); }
static void second_by_invlpg(void) { exchange(1); invlpg(T); }
static void second_by_cr3(void) { exchange(1); write_cr3(read_cr3()); }
static void second_by_pge(void) { exchange(1); write_cr4(read_cr4() ^ CR4_PGE); write_cr4(read_cr4() ^ CR4_PGE); }
static void gone(void) { pte_set(T, 0); invlpg(T); }
static void call_through(void *fn) { through((void (*)(void))(u32)fn); }

static void hot(void)
{
    exchange(0);
    invlpg(T);
    for (u32 i = 0; i < 5; i++) CHECK_EQ(through(nothing), 1);
}

static void remapped(void)
{
    void (*const second[])(void) = { second_by_invlpg, second_by_cr3, second_by_pge };

    section("remapped by what was called");
    for (u32 round = 0; round < 10; round++) {
        for (u32 i = 0; i < 3; i++) {
            hot();
            CHECK_EQ(through(second[i]), 2);
            CHECK_EQ(through(nothing), 2);
        }
        hot();
        CHECK_TRAPS(call_through, gone, V_PF, 0);
        CHECK_EQ(trap.eip, T + BEHIND);
        CHECK_EQ(trap.cr2, T + BEHIND);
    }
}

static void write_behind(void) { poke8(pages[0] + BEHIND + 1, 77); }
static void write_trap(void) { poke8(pages[0] + BEHIND, 0xcc); }

static void rewritten(void)
{
    section("rewritten by what was called");
    for (u32 i = 0; i < 100; i++) {
        hot();
        CHECK_EQ(through(write_behind), 77);
        poke8(pages[0] + BEHIND + 1, 1);
        CHECK_EQ(through(nothing), 1);
        CHECK_TRAPS(call_through, write_trap, V_BP, 0);
        CHECK_EQ(trap.eip, T + BEHIND + 1);
        poke8(pages[0] + BEHIND, 0xb8);
    }
}

/* Ring 3. What it touches is not there, and what answers that fault changes the page that it will return to. */
static void touch(void) { *(volatile u32 *)ABSENT = 1; }
static u32 user_through(u32 fn) { return through((void (*)(void))fn); }
static u32 user_to(u32 eip)
{
    __asm__ volatile("pushl %0; ret" : : "r"(eip));
    return 0;
}
static void (*answer)(void);
static bool absent(struct frame *f)
{
    if (f->vector != V_PF || read_cr2() != ABSENT || !answer) return false;
    sum(5);
    answer();
    answer = NULL;
    pte_set(ABSENT, (u32)pages_alloc(1, PAGE) | 7);
    return true;
}

static void touching(void (*then)(void))
{
    pte_set(ABSENT, 0);
    invlpg(ABSENT);
    answer = then;
}
static void taken_away(void) { pte_set(T, pages[0] | 3); invlpg(T); }
static void user_there(void) { CHECK_EQ(ring3(user_to, T + BEHIND), 1); }

static void rings(void)
{
    u32 mark = pages_mark();

    section("ring 3");
    on_trap(V_PF, absent);
    for (u32 round = 0; round < 10; round++) {
        hot();
        for (u32 i = 0; i < 3; i++) {
            CHECK_EQ(ring3(user_through, (u32)nothing), 0);
            CHECK_EQ(trap.eax, 1);
        }
        touching(second_by_invlpg);
        CHECK_EQ(ring3(user_through, (u32)touch), 0);
        CHECK_EQ(trap.eax, 2);
        hot();
        touching(taken_away);
        CHECK_EQ(ring3(user_through, (u32)touch), 1);
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.error & 7, 5);
        CHECK_EQ(trap.eip, T + BEHIND);
        /* Now it is the supervisor's: who has called from there, and will return there. */
        CHECK_EQ(through(user_there), 1);
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.error & 7, 5);
        CHECK_EQ(trap.eip, T + BEHIND);
        CHECK_EQ(through(nothing), 1);
        pages_release(mark);
    }
    on_trap(V_PF, NULL);
}

static bool tick(struct frame *f)
{
    (void)f;
    ticks++;
    sum(3);
    pic_eoi(0);
    pit_oneshot(PIT_HZ / 2000);
    return true;
}

static void all(void)
{
    depth();
    left_by_a_jump();
    two_stacks();
    not_paired();
    remapped();
    rewritten();
    rings();
}

void guest_main(void)
{
    static const u8 code[] = { 0xff, 0xd3, 0xb8, 1, 0, 0, 0, 0xc3 }; /* call *%ebx; movl $n, %eax; ret */

    paging_start(false, false);
    for (u32 i = 0; i < 2; i++) {
        pages[i] = (u32)page_alloc();
        memcpy((void *)pages[i], code, sizeof code);
        poke8(pages[i] + BEHIND + 1, (u8)(i + 1));
    }
    pte_set(T, 0); /* tables that stay */
    pte_set(ABSENT, 0);
    u32 mark = pages_mark();
    all();
    pages_release(mark);
    on_trap(IRQ_BASE, tick);
    pic_unmask(0);
    pit_oneshot(PIT_HZ / 2000);
    __asm__ volatile("sti");
    all();
    __asm__ volatile("cli");
    CHECK(ticks > 3);
    paging_stop();
}
