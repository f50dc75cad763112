/* User code as a kernel has it, in and out by every door: what a monitor that runs it on the processor itself must not change. */
#include "user.h"

const char guest_name[] = "direct";

/* ---- System calls. */
static u32 calls;
static bool call(struct frame *f)
{
    calls++;
    f->eax = f->eax * 3 + f->ebx;
    return true;
}

USER(loop_calls,
    movl $7, %ebx;
    movl $1000, %esi;
1:  int $0x80;
    decl %esi;
    jnz 1b;
    DONE);

static void system_calls(void)
{
    struct frame f;
    u32 want = 5;

    section("INT 80h, many");
    calls = 0;
    on_trap(0x80, call);
    CHECK_EQ(RUN(loop_calls, 5, &f), U_DONE);
    for (u32 i = 0; i < 1000; i++)
        want = want * 3 + 7;
    CHECK_EQ(calls, 1000);
    CHECK_EQ(f.eax, want);
    CHECK_EQ(f.eip, U_CODE + (loop_calls_end - loop_calls));
}

/* ---- Demand paging. */
enum { HEAP = 0x20000000, HEAP_PAGES = 300 };
static u32 faults, last_error, last_cr2;

static bool demand(struct frame *f)
{
    u32 at = read_cr2();

    if (at < HEAP || at >= HEAP + HEAP_PAGES * PAGE)
        return false;
    faults++;
    last_error = f->error;
    last_cr2 = at;
    user_page(at & ~0xfffu, P_RW);
    return true;
}

USER(touch_heap,
    movl $0x20000000, %edi;
    movl $300, %ecx;
1:  movl %edi, 4(%edi);
    addl $4096, %edi;
    decl %ecx;
    jnz 1b;
    movl $0x20000000, %esi;
    movl $300, %ecx;
    xorl %eax, %eax;
2:  addl 4(%esi), %eax;
    addl $4096, %esi;
    decl %ecx;
    jnz 2b;
    DONE);

static void demand_paging(void)
{
    struct frame f;
    u32 sum = 0;

    section("demand paging");
    faults = 0;
    on_trap(V_PF, demand);
    for (u32 i = 0; i < HEAP_PAGES; i++)
        sum += HEAP + i * PAGE;
    CHECK_EQ(RUN(touch_heap, 0, &f), U_DONE);
    CHECK_EQ(faults, HEAP_PAGES);
    CHECK_EQ(last_error, 6);
    CHECK_EQ(last_cr2, HEAP + (HEAP_PAGES - 1) * PAGE + 4);
    CHECK_EQ(f.eax, sum);
    on_trap(V_PF, NULL);
}

/* ---- The timer, while user code does not call. */
USER(spin,
    movl $0x08080000, %ebx;
    movl $0, (%ebx);
1:  incl (%ebx);
    cmpl $0, 4(%ebx);
    je 1b;
    DONE);

static u32 stop_at;
static bool count_ticks(struct frame *f)
{
    (void)f;
    ticks++;
    pic_eoi(0);
    if (ticks == stop_at)
        poke(((u32)pte_get(U_DATA) & ~0xfffu) + 4, 1);
    else
        pit_oneshot(PIT_HZ / 1000);
    return true;
}

static void timer(void)
{
    struct frame f;
    u32 data = (u32)pte_get(U_DATA) & ~0xfffu;

    section("timer while user code spins");
    poke(data + 4, 0);
    stop_at = 50;
    on_trap(IRQ_BASE, count_ticks);
    user_ticks(1000);
    CHECK_EQ(RUN(spin, 0, &f), U_DONE);
    CHECK_EQ(ticks, 50);
    CHECK(peek(data) > 1000);
    user_ticks(0);
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        system_calls();
        demand_paging();
        timer();
        user_stop();
    }
}
