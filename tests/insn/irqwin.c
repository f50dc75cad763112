/* Where an interrupt may come in and where it may not: the instruction after STI and after MOV SS, HLT, CLI regions,
 * POPF and IRET; and that it does come in wherever it may: in loops without calls, in ring 3, in long string
 * instructions. SDM vol. 3, 6.8; vol. 2, STI, HLT, MOV.
 *
 * An interrupt is made pending with IF=0 (PIT, mode 0, seen in the PIC's IRR), so that where it is taken is exact. */
#include "rt.h"

const char guest_name[] = "irqwin";

static volatile u32 ticks;
static volatile struct frame seen;

static bool on_tick(struct frame *f)
{
    seen = *f;
    ticks++;
    pic_eoi(0);
    return true;
}

/* Stops channel 0 (mode 0 without a count: OUT is low) and takes what it may have left pending. */
static void stop_timer(void)
{
    outb(0x43, 0x30);
    __asm__ volatile("sti; movl $10000, %%ecx; 1: loop 1b; cli" : : : "ecx", "memory");
}

static void make_pending(void)
{
    __asm__ volatile("cli");
    ticks = 0;
    pit_oneshot(50);
    for (u32 i = 0; i < 10000000 && !(pic_irr() & 1); i++)
        ;
    CHECK_EQ(pic_irr() & 1, 1);
    CHECK_EQ(ticks, 0);
}

/* Runs the instructions with an interrupt pending; it must come in exactly at the label. QEMU's SVM ("svm") loses the
 * shadow when the host's own interrupt leaves the guest within it, for its VMRUN does not load that: there, one of some
 * attempts must. */
#define AT(label, insns)                                                                          \
    do {                                                                                          \
        extern u8 label[];                                                                        \
        int attempts = told("svm") ? 10 : 1;                                                      \
        do {                                                                                      \
            make_pending();                                                                       \
            __asm__ volatile(insns "\n\tcli\n.globl " #label : : : "eax", "ecx", "edx", "memory", "cc"); \
            CHECK_EQ(ticks, 1);                                                                   \
        } while (seen.eip != (u32)label && --attempts);                                           \
        CHECK_EQ(seen.eip, (u32)label);                                                           \
    } while (0)

static void __attribute__((noinline, noclone)) shadows(void)
{
    section("STI");
    for (int i = 0; i < 3; i++) {
        AT(sti_nop, "sti\n\tnop\nsti_nop: nop\n\tnop");
        AT(sti_mov, "sti\n\tmovl $1, %%eax\nsti_mov: movl $2, %%eax");
        AT(sti_jmp, "sti\n\tjmp sti_jmp\n\tnop\nsti_jmp: nop");
        AT(sti_call, "sti\n\tcall sti_call\n\tjmp 1f\nsti_call: ret\n1: nop");
        AT(sti_sti, "sti\n\tsti\nsti_sti: nop");
        AT(sti_cr, "sti\n\tmovl %%cr0, %%eax\nsti_cr: nop");
        AT(sti_load, "sti\n\tmovl (%%esp), %%eax\nsti_load: nop");
        AT(sti_rep, "movl $0, %%ecx\n\tcld\n\tsti\n\trep lodsb\nsti_rep: nop");
        AT(sti_out, "sti\n\toutb %%al, $0x80\nsti_out: nop");
    }
    section("STI, CLI");
    make_pending();
    for (int i = 0; i < 100; i++)
        __asm__ volatile("sti; cli");
    CHECK(ticks == 0 || told("svm"));
    __asm__ volatile("sti; nop; cli");
    CHECK_EQ(ticks, 1);
    section("POPF, IRET");
    for (int i = 0; i < 3; i++) {
        AT(popf_at, "pushfl\n\torl $0x200, (%%esp)\n\tpopfl\npopf_at: nop");
        AT(iret_at, "pushfl\n\torl $0x200, (%%esp)\n\tpushl %%cs\n\tpushl $iret_at\n\tiretl\n\tnop\niret_at: nop");
    }
    section("MOV SS, POP SS");                                 /* which of the two shadows holds is left open */
    for (int i = 0; i < 3; i++) {
        extern u8 mov_ss_at[], mov_ss_next[], mov_ss_after[];
        make_pending();
        __asm__ volatile("movl %%ss, %%eax\n\tsti\nmov_ss_at: movl %%eax, %%ss\nmov_ss_next: nop\nmov_ss_after: nop\n\t"
                         "nop\n\tcli\n.globl mov_ss_at, mov_ss_next, mov_ss_after" : : : "eax", "memory");
        CHECK_EQ(ticks, 1);
        CHECK(seen.eip == (u32)mov_ss_next || seen.eip == (u32)mov_ss_after
              || (told("svm") && seen.eip == (u32)mov_ss_at));
        extern u8 pop_ss_at[], pop_ss_next[], pop_ss_after[];
        make_pending();
        __asm__ volatile("pushl %%ss\n\tsti\npop_ss_at: popl %%ss\npop_ss_next: nop\npop_ss_after: nop\n\tnop\n\tcli\n"
                         ".globl pop_ss_at, pop_ss_next, pop_ss_after" : : : "eax", "memory");
        CHECK_EQ(ticks, 1);
        CHECK(seen.eip == (u32)pop_ss_next || seen.eip == (u32)pop_ss_after
              || (told("svm") && seen.eip == (u32)pop_ss_at));
    }
}

static void __attribute__((noinline, noclone)) halts(void)
{
    section("HLT");
    for (int i = 0; i < 5 && !told("svm"); i++) {              /* without the shadow, nothing is left to end the HLT */
        AT(hlt_pending, "sti\n\thlt\nhlt_pending: nop");       /* STI; HLT: asleep first, then woken */
        extern u8 hlt_waits[];
        ticks = 0;
        u64 start = rdtsc();
        pit_oneshot(12000);                                    /* 10 ms */
        __asm__ volatile("sti\n\thlt\nhlt_waits: cli\n.globl hlt_waits" : : : "memory");
        u64 took = (rdtsc() - start) * 1000 / tsc_hz();
        CHECK_EQ(ticks, 1);
        CHECK_EQ(seen.eip, (u32)hlt_waits);
        CHECK(took >= 9);
    }
    section("HLT, many");
    u64 start = rdtsc();
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);      /* channel 0, mode 2, 1193: 1 kHz */
    ticks = 0;
    while (ticks < 200)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 ms = (rdtsc() - start) * 1000 / tsc_hz();
    CHECK(ms >= 190 || told("svm"));                          /* tsc_hz() is a rough guess there */
    stop_timer();
}

static void regions(void)
{
    section("CLI region");
    make_pending();
    u32 x = 0;
    for (u32 i = 0; i < 300000; i++)
        x += i * 3;
    *(volatile u32 *)user_stack = x;
    CHECK_EQ(ticks, 0);
    __asm__ volatile("sti; nop; cli" : : : "memory");
    CHECK_EQ(ticks, 1);
    section("masked in the PIC");
    make_pending();
    pic_mask(0);
    __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
    CHECK_EQ(ticks, 0);
    pic_unmask(0);                                             /* a controller takes a moment */
    __asm__ volatile("sti; movl $100000, %%ecx; 1: loop 1b; cli" : : : "ecx", "memory");
    CHECK_EQ(ticks, 1);
}

/* Code with no way out but the interrupt. Every loop here runs while ECX is 1. An interrupt may be as early as to come
 * before the loop on a busy host, so there is always another. */
static bool leave_loop(struct frame *f)
{
    on_tick(f);
    if (f->ecx == 1)
        f->ecx = 0;
    pit_oneshot(3000);
    return true;
}

static u32 spin_register(u32 x)
{
    __asm__ volatile("movl $1, %%ecx\n1: incl %0\n\ttestl %%ecx, %%ecx\n\tjnz 1b" : "+r"(x) : : "ecx", "cc");
    return x;
}
static u32 spin_self(u32 x)
{
    __asm__ volatile("movl $1, %%ecx\n1: jecxz 2f\n\tjmp 1b\n2:" : : : "ecx");
    return x;
}
static u32 spin_memory(u32 x)
{
    u32 start = ticks;
    while (ticks == start)
        x++;
    return x;
}
static u32 spin_indirect(u32 x)
{
    __asm__ volatile("movl $1, %%ecx\n\tmovl $1f, %%edx\n1: incl %0\n\ttestl %%ecx, %%ecx\n\tjz 2f\n\tjmp *%%edx\n2:"
        : "+r"(x) : : "ecx", "edx", "cc");
    return x;
}
static u32 spin_call(u32 x)
{
    __asm__ volatile("movl $1, %%ecx\n1: call 3f\n\ttestl %%ecx, %%ecx\n\tjnz 1b\n\tjmp 2f\n3: incl %0\n\tret\n2:"
        : "+r"(x) : : "ecx", "cc");
    return x;
}
static void kernel_spin(void *fn)
{
    __asm__ volatile("sti");
    ((u32 (*)(u32))fn)(0);
    __asm__ volatile("cli");
}

static void loops(void)
{
    static u32 (*const spins[])(u32) = {spin_register, spin_self, spin_memory, spin_indirect, spin_call};

    section("loops that only an interrupt ends");
    on_trap(IRQ_BASE, leave_loop);
    for (unsigned i = 0; i < sizeof(spins) / sizeof(spins[0]); i++)
        for (int again = 0; again < 4; again++) {
            ticks = 0;
            pit_oneshot(3000);
            CHECK_EQ(caught(kernel_spin, (void *)spins[i]), 0);
            CHECK(ticks >= 1);
            CHECK_EQ(seen.cs & 0xffff, SEL_KCODE);
            ticks = 0;
            ring3_eflags = 2 | F_IF;
            pit_oneshot(3000);
            CHECK_EQ(ring3(spins[i], 0), 0);
            CHECK(ticks >= 1);
            CHECK_EQ(seen.cs & 0xffff, SEL_UCODE);
            CHECK_EQ(seen.eflags & F_IF, F_IF);
            ring3_eflags = 2;
        }
    on_trap(IRQ_BASE, on_tick);
    stop_timer();
}

/* A jump to itself: the handler moves EIP past it. */
static bool step_over(struct frame *f)
{
    on_tick(f);
    if (*(u8 *)f->eip == 0xeb)
        f->eip += 2;
    return true;
}

static void jump_to_self(void)
{
    section("jump to itself");
    on_trap(IRQ_BASE, step_over);
    for (int i = 0; i < 3; i++) {
        ticks = 0;
        pit_oneshot(2000);
        extern u8 self[];
        __asm__ volatile("sti\nself: jmp self\n\tcli\n.globl self" : : : "memory");
        CHECK_EQ(ticks, 1);
        CHECK_EQ(seen.eip, (u32)self);
    }
    on_trap(IRQ_BASE, on_tick);
}

static void in_strings(void)
{
    enum { SIZE = 1 << 20 };
    u8 *a = pages_alloc(SIZE / PAGE, PAGE), *b = pages_alloc(SIZE / PAGE, PAGE);
    u32 wrong = 0, hits = 0, enough = told("svm") ? 10 : 100; /* an exit takes a tenth of a millisecond there */

    section("string instructions");
    for (u32 i = 0; i < SIZE; i += 4)
        *(u32 *)(a + i) = i * 2654435761u;
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);
    ticks = 0;
    u64 end = rdtsc() + 20 * tsc_hz(); /* a busy host delivers fewer ticks a second */
    while (ticks < enough + 20 && rdtsc() < end) {
        u32 s = (u32)a, d = (u32)b, n = SIZE / 4, before = ticks;
        extern u8 rep_at[];
        __asm__ volatile("sti\n\tnop\nrep_at: rep movsl\n\tcli\n.globl rep_at" : "+S"(s), "+D"(d),
            "+c"(n) : : "memory");
        if (ticks != before && seen.eip == (u32)rep_at) {      /* between two elements: registers tell how far it is */
            hits++;
            if (seen.esi - (u32)a != seen.edi - (u32)b || seen.ecx * 4 + seen.esi - (u32)a != SIZE)
                wrong++;
        }
        if (n != 0 || s != (u32)a + SIZE || d != (u32)b + SIZE || memcmp(a, b, 4096) ||
            memcmp(a + SIZE - 4096, b + SIZE - 4096, 4096))
            wrong++;
        *(u32 *)b = 0, *(u32 *)(b + SIZE - 4) = 0;
    }
    CHECK_EQ(wrong, 0);
    CHECK(ticks >= enough);
    stop_timer();
    print("irqwin: %u of %u interrupts came within REP MOVS\n", hits, ticks);
}

static volatile u32 inner;
static bool on_outer(struct frame *f)
{
    on_tick(f);
    CHECK_EQ(read_eflags() & F_IF, 0);
    if (inner == 0) {
        inner = 1;
        pit_oneshot(50);
        for (u32 i = 0; i < 10000000 && !(pic_irr() & 1); i++)
            ;
        CHECK_EQ(ticks, 1);                                    /* the gate cleared IF: not nested */
    }
    return true;
}

static void nested(void)
{
    section("not within an interrupt gate's handler");
    make_pending();
    on_trap(IRQ_BASE, on_outer);
    inner = 0;
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    CHECK_EQ(ticks, 2);
    on_trap(IRQ_BASE, on_tick);
}

static u32 user_compute(u32 n)
{
    u32 x = 1;
    for (u32 i = 0; i < n; i++)
        x = x * 1664525 + 1013904223;
    return x;
}

/* Interrupts at any point of real work change nothing of it. */
static void undisturbed(void)
{
    section("work under 1 kHz");
    u32 want = user_compute(2000000), before;
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);
    ticks = 0;
    ring3_eflags = 2 | F_IF;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(ring3(user_compute, 2000000), 0);
        CHECK_EQ(trap.eax, want);
    }
    ring3_eflags = 2;
    before = ticks;
    __asm__ volatile("sti");
    u32 got = user_compute(2000000);
    __asm__ volatile("cli");
    CHECK_EQ(got, want);
    CHECK(before > 0);
    stop_timer();
}

void guest_main(void)
{
    tsc_hz();
    on_trap(IRQ_BASE, on_tick);
    pic_unmask(0);
    stop_timer();
    for (int paging = 0; paging < 2; paging++) {
        if (paging)
            paging_start(false, false);
        shadows();
        halts();
        regions();
        loops();
        jump_to_self();
        nested();
        in_strings();
        undisturbed();
        if (paging)
            paging_stop();
    }
}
