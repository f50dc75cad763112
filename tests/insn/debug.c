/* Single-stepping and debug registers: which instruction a trap is reported after, what DR6 says, what stops it.
 * SDM vol. 3, 17.2, 17.3. The memory of what was trapped is a list of EIPs, compared with labels.
 * QEMU 7.2 departs: DR7.GD, I/O breakpoints, INT1, breakpoints around MOV SS. */
#include "rt.h"

const char guest_name[] = "debug";

enum { DR6_BS = 1 << 14, DR6_BD = 1 << 13 };
enum { LIST = 64 };

static inline void write_dr(unsigned n, u32 v)
{
    switch (n) {
    case 0: __asm__ volatile("movl %0, %%db0" : : "r"(v)); break;
    case 1: __asm__ volatile("movl %0, %%db1" : : "r"(v)); break;
    case 2: __asm__ volatile("movl %0, %%db2" : : "r"(v)); break;
    case 3: __asm__ volatile("movl %0, %%db3" : : "r"(v)); break;
    case 6: __asm__ volatile("movl %0, %%db6" : : "r"(v)); break;
    default: __asm__ volatile("movl %0, %%db7" : : "r"(v)); break;
    }
}
static inline u32 read_dr6(void) { u32 v; __asm__ volatile("movl %%db6, %0" : "=r"(v)); return v; }
static inline u32 read_dr7(void) { u32 v; __asm__ volatile("movl %%db7, %0" : "=r"(v)); return v; }

static volatile u32 stepped[LIST], dr6s[LIST], count, handler_flags;
static bool resume_with_rf;

static bool on_debug(struct frame *f)
{
    if (count < LIST)
        stepped[count] = f->eip, dr6s[count] = read_dr6();
    count++;
    handler_flags = read_eflags();
    write_dr(6, 0);
    if (resume_with_rf)
        f->eflags |= F_RF;
    if (count > 5000)
        f->eflags &= ~(u32)F_TF;
    return true;
}

static bool just_return(struct frame *f)
{
    (void)f;
    return true;
}

#define STEP_ON "pushfl\n\torl $0x100, (%%esp)\n\tpopfl\n"
#define STEP_OFF "pushfl\n\tandl $~0x100, (%%esp)\n\tpopfl\n"

static void check_steps(int line, u32 want, const u32 *eips)
{
    check_equal(__FILE__, line, "number of steps", count, want);
    for (u32 i = 0; i < want && i < count && i < LIST; i++)
        check_equal(__FILE__, line, "step", stepped[i], eips[i]);
    for (u32 i = 0; i < want && i < count && i < LIST; i++)
        check_equal(__FILE__, line, "DR6", dr6s[i] & 0xe00f, DR6_BS);
}

static void __attribute__((noinline, noclone)) stepping(void)
{
    extern u8 s1[], s2[], s3[], s4[], s5[], s6[], s7[], r1[], r2[], r3[], m1[], m3[], m4[], i1[], i3[];

    section("single steps");
    for (int round = 0; round < 3; round++) {
        u32 x = 0;
        count = 0;
        /* POPF that sets TF: the first trap comes after the instruction that follows it. */
        __asm__ volatile(STEP_ON "nop\ns1: addl $1, %0\ns2: jmp 1f\n\tnop\n1:\ns3: movl (%%esp), %%eax\ns4: pushfl\n"
            "s5: andl $~0x100, (%%esp)\n"
                         "s6: popfl\ns7: nop\n.globl s1, s2, s3, s4, s5, s6, s7" : "+r"(x) : : "eax", "memory", "cc");
        /* POPF that clears TF is itself still followed by a trap: TF was set when it began. */
        check_steps(__LINE__, 7, (u32[]){(u32)s1, (u32)s2, (u32)s3, (u32)s4, (u32)s5, (u32)s6, (u32)s7});
        CHECK_EQ(x, 1);
        CHECK_EQ(handler_flags & F_TF, 0);
    }
    section("string instructions, one element a step");
    u32 c = 3, d = (u32)user_stack;
    count = 0;
    __asm__ volatile(STEP_ON "nop\nr1: rep stosb\nr2: nop\nr3:" STEP_OFF "\n.globl r1, r2, r3" : "+c"(c),
        "+D"(d) : : "memory", "cc");
    CHECK_EQ(stepped[0], (u32)r1);
    CHECK_EQ(stepped[1], (u32)r1);
    CHECK_EQ(stepped[2], (u32)r1);
    CHECK_EQ(stepped[3], (u32)r2);
    CHECK_EQ(stepped[4], (u32)r3);
    CHECK_EQ(c, 0);
    section("MOV SS holds the trap back");
    count = 0;
    __asm__ volatile("movl %%ss, %%eax\n\t" STEP_ON "nop\nm1: movl %%eax, %%ss\nm2: nop\nm3: nop\nm4:"
        STEP_OFF "\n.globl m1, m2, m3, m4"
                     : : : "eax", "memory", "cc");
    CHECK_EQ(stepped[0], (u32)m1);
    CHECK_EQ(stepped[1], (u32)m3);
    CHECK_EQ(stepped[2], (u32)m4);
    /* no trap inside; none after the INT, one after the IRET's next */
    section("INT n and its handler");
    on_trap(0x80, just_return);
    count = 0;
    __asm__ volatile(STEP_ON "nop\ni1: int $0x80\ni2: nop\ni3:" STEP_OFF "\n.globl i1, i2, i3" : : : "memory", "cc");
    CHECK_EQ(stepped[0], (u32)i1);
    CHECK_EQ(stepped[1], (u32)i3);
    on_trap(0x80, NULL);
}

static u32 user_steps(u32 x)
{
    __asm__ volatile(STEP_ON "nop\nu1: addl $5, %0\nu2: call 1f\nu3:"
        STEP_OFF "jmp 2f\n1:\nu4: ret\n2:\n.globl u1, u2, u3, u4" : "+r"(x) : : "memory", "cc");
    return x;
}

static void user_stepping(void)
{
    extern u8 u1[], u2[], u3[], u4[];

    section("single steps in ring 3");
    count = 0;
    CHECK_EQ(ring3(user_steps, 1), 0);
    CHECK_EQ(trap.eax, 6);
    CHECK_EQ(stepped[0], (u32)u1);
    CHECK_EQ(stepped[1], (u32)u2);
    CHECK_EQ(stepped[2], (u32)u4);
    CHECK_EQ(stepped[3], (u32)u3);
}

static u32 variables[16] __attribute__((aligned(64)));

enum { EXEC, WRITE, IO, ACCESS };
static u32 dr7(unsigned n, unsigned kind, unsigned length_code)
{
    return 0x400u | 2u << (2 * n) | kind << (16 + 4 * n) | length_code << (18 + 4 * n);
}

static void __attribute__((noinline, noclone)) store(u32 *p, u32 v) { *(volatile u32 *)p = v; }
static u32 __attribute__((noinline, noclone)) load(u32 *p) { return *(volatile u32 *)p; }
static u32 user_store(u32 p) { store((u32 *)p, 9); return load((u32 *)p); }

static void data_breakpoints(void)
{
    section("data breakpoints");
    for (unsigned n = 0; n < 4; n++) {
        write_dr(n, (u32)&variables[4]);
        write_dr(7, dr7(n, WRITE, 3));
        count = 0;
        for (int i = 0; i < 3; i++)
            store(&variables[4], (u32)i + 1);
        CHECK_EQ(count, 3);
        CHECK_EQ(dr6s[0] & 0xe00f, 1u << n);
        CHECK_EQ(variables[4], 3);                             /* a trap: the store is done */
        count = 0;
        load(&variables[4]);
        store(&variables[3], 1);
        store(&variables[5], 1);
        CHECK_EQ(count, 0);
        store((u32 *)((u32)&variables[3] + 1), 7);             /* overlaps its first byte */
        CHECK_EQ(count, 1);
        store((u32 *)((u32)&variables[4] + 3), 7);
        CHECK_EQ(count, 2);
        write_dr(7, dr7(n, ACCESS, 3));
        count = 0;
        load(&variables[4]);
        CHECK_EQ(count, 1);
        store(&variables[4], 4);
        CHECK_EQ(count, 2);
        write_dr(7, dr7(n, WRITE, 0));                         /* one byte */
        write_dr(n, (u32)&variables[4] + 2);
        count = 0;
        poke8((u32)&variables[4] + 1, 1);
        poke8((u32)&variables[4] + 3, 1);
        CHECK_EQ(count, 0);
        poke8((u32)&variables[4] + 2, 1);
        store(&variables[4], 0);
        CHECK_EQ(count, 2);
        write_dr(7, 0x400);
        store(&variables[4], 1);
        CHECK_EQ(count, 2);
    }
    section("data breakpoints in ring 3");
    write_dr(1, (u32)&variables[8]);
    write_dr(7, dr7(1, WRITE, 3));
    count = 0;
    CHECK_EQ(ring3(user_store, (u32)&variables[8]), 0);
    CHECK_EQ(trap.eax, 9);
    CHECK_EQ(count, 1);
    CHECK_EQ(dr6s[0] & 0xe00f, 2);
    section("a string instruction runs into one");
    write_dr(7, dr7(1, WRITE, 3));
    count = 0;
    u32 d = (u32)variables, c = 16;
    extern u8 st1[];
    __asm__ volatile("st1: rep stosl\n.globl st1" : "+D"(d), "+c"(c) : "a"(0) : "memory");
    CHECK_EQ(count, 1);
    CHECK_EQ(stepped[0], (u32)st1);                            /* between two elements */
    CHECK_EQ(c, 0);
    write_dr(7, 0x400);
}

static u32 __attribute__((noinline, noclone)) victim(u32 x)
{
    __asm__ volatile("victim_1: addl $1, %0\nvictim_2: addl $2, %0\nvictim_3: addl $4, %0\n"
        ".globl victim_1, victim_2, victim_3" : "+r"(x));
    return x;
}

static void code_breakpoints(void)
{
    extern u8 victim_2[], victim_1[];

    section("code breakpoints");
    for (int i = 0; i < 200; i++)                              /* known code before it is broken into */
        CHECK_EQ(victim(1), 8);
    write_dr(2, (u32)victim_2);
    write_dr(7, dr7(2, EXEC, 0));
    resume_with_rf = true;
    count = 0;
    CHECK_EQ(victim(1), 8);
    CHECK_EQ(count, 1);                                        /* a fault: before the instruction; RF gets past it */
    CHECK_EQ(stepped[0], (u32)victim_2);
    CHECK_EQ(dr6s[0] & 0xe00f, 4);
    CHECK_EQ(ring3(victim, 2), 0);
    CHECK_EQ(trap.eax, 9);
    CHECK_EQ(count, 2);
    write_dr(0, (u32)victim_1);
    write_dr(7, dr7(2, EXEC, 0) | dr7(0, EXEC, 0));
    count = 0;
    CHECK_EQ(victim(1), 8);
    CHECK_EQ(count, 2);
    CHECK_EQ(stepped[0], (u32)victim_1);
    CHECK_EQ(stepped[1], (u32)victim_2);
    CHECK_EQ(dr6s[0] & 15, 1);
    CHECK_EQ(dr6s[1] & 15, 4);
    resume_with_rf = false;
    write_dr(7, 0x400);
    count = 0;
    CHECK_EQ(victim(1), 8);
    CHECK_EQ(count, 0);
}

/* SDM vol. 3, 6.8.3. */
static void mov_ss(void)
{
    extern u8 ss_next[], ss_after_2[];
    static u16 selector;

    section("MOV SS suppresses a breakpoint on the next instruction");
    __asm__ volatile("movw %%ss, %0" : "=m"(selector));
    write_dr(0, (u32)ss_next);
    write_dr(7, dr7(0, EXEC, 0) | dr7(1, ACCESS, 1));
    write_dr(1, (u32)&variables[0]);
    count = 0;
    __asm__ volatile("movw %0, %%ss\nss_next: nop\n\tnop\n.globl ss_next" : : "r"(selector));
    CHECK_EQ(count, 0);
    section("a data breakpoint that MOV SS meets comes after the next instruction");
    write_dr(1, (u32)&selector);
    __asm__ volatile("movw %0, %%ss\n\tnop\nss_after_2: nop\n.globl ss_after_2" : : "m"(selector));
    CHECK_EQ(count, 1);
    CHECK_EQ(stepped[0], (u32)ss_after_2);
    CHECK_EQ(dr6s[0] & 0xe00f, 2);
    write_dr(7, 0x400);
}

static void touch_dr(void *unused) { (void)unused; write_dr(0, 1); }
static void touch_dr4(void *unused) { (void)unused; __asm__ volatile(".byte 0x0f, 0x21, 0xe0" : : : "eax"); }
static void touch_dr5(void *unused) { (void)unused; __asm__ volatile(".byte 0x0f, 0x21, 0xe8" : : : "eax"); }

static void registers(void)
{
    section("debug registers as registers");
    write_dr(3, 0x12345678);
    u32 v;
    __asm__ volatile("movl %%db3, %0" : "=r"(v));
    CHECK_EQ(v, 0x12345678);
    CHECK_EQ(read_dr7() & 0xfc00, 0x400);
    write_dr(6, 0);
    CHECK_EQ(read_dr6() & 0x00001ff0, 0x0ff0);                 /* bit 12 reads 0, bits 4-11 read 1 */
    CHECK_EQ(read_dr6() >> 16, 0xffff);
    CHECK_EQ(caught(touch_dr4, NULL), 0);                      /* without CR4.DE they are DR6 and DR7 */
    write_cr4(read_cr4() | CR4_DE);
    CHECK_TRAPS(touch_dr4, 0, V_UD, 0);
    CHECK_TRAPS(touch_dr5, 0, V_UD, 0);
    section("general detect");
    on_trap(V_DB, NULL);
    write_dr(7, 0x2400);
    CHECK_TRAPS(touch_dr, 0, V_DB, 0);
    CHECK_EQ(read_dr6() & 0xe00f, DR6_BD);
    write_dr(7, 0x400);
    write_dr(6, 0);
    on_trap(V_DB, on_debug);
    section("I/O breakpoint");
    write_dr(0, 0x80);
    write_dr(7, dr7(0, IO, 0));
    count = 0;
    outb(0x80, 1);
    CHECK_EQ(count, 1);
    CHECK_EQ(dr6s[0] & 15, 1);
    outb(0x84, 1);
    CHECK_EQ(count, 1);
    write_dr(7, 0x400);
    write_cr4(read_cr4() & ~(u32)CR4_DE);
    section("ICEBP");
    extern u8 after_icebp[];
    count = 0;
    __asm__ volatile(".byte 0xf1\nafter_icebp: nop\n.globl after_icebp");
    CHECK_EQ(count, 1);
    CHECK_EQ(stepped[0], (u32)after_icebp);
}

void guest_main(void)
{
    on_trap(V_DB, on_debug);
    for (int paging = 0; paging < 2; paging++) {
        if (paging)
            paging_start(false, false);
        stepping();
        user_stepping();
        data_breakpoints();
        code_breakpoints();
        mov_ss();
        registers();
        if (paging)
            paging_stop();
    }
}
