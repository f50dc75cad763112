/* User code that tries to get out of what a monitor may run it in: another code segment's 64-bit mode, the host's
 * system calls by every door, the monitor's own page, every selector, every flag, code that overwrites itself, random
 * bytes. On a real processor all of this is a program that gets its exception, or goes on; so it must be here, and the
 * kernel carries on, and so do other programs.
 *
 * Where such code is run directly it first has to get past a scan of its page, so it hides: what a sweep of
 * instructions sees as the immediate operand of a MOV is what is returned to. Nothing here depends on how far it gets;
 * whoever runs it looks at that. */
#include "user.h"

const char guest_name[] = "hostile";

enum { STUB_CODE = 0x280, STUB_LIST = 0x600, HEAP = 0x20000000 };

/* Two to four bytes of code that no sweep finds; in either mode. A sweep that follows control sees a call of a function
 * that returns behind it; but that adds 1 to where it returns to. */
__asm__(".macro HIDE a, b, c=0x90, d=0x90\njmp 92f\n91: .byte 0xff, 0x04, 0x24, 0xc3\n" /* incl (%esp); ret */
        "92: call 91b\n.byte 0xb8, \\a, \\b, \\c, \\d\n.endm\n"
        /* To 64-bit code right behind, on the same stack; and back. ECX is lost. */
        ".macro TO64\njmp 98f\n97: HIDE 0xcb, 0x90\n98: pushl $0x33\ncall 97b\n.code64\n.endm\n"
        ".macro TO32\nleaq 98f(%rip), %rcx\nsubq $8, %rsp\nmovl %ecx, (%rsp)\nmovl $0x23, 4(%rsp)\nHIDE 0xcb, 0x90\n"
            "98:\n.code32\n.endm\n"
        ".macro SYSCALL\nHIDE 0x0f, 0x05\n.endm\n.macro SYSENTER\nHIDE 0x0f, 0x34\n.endm\n");
#define USER64(name, ...) USER(name, TO64; __VA_ARGS__; ud2; .code32)

/* ---- How a run ends, and whether all is well afterwards. */
static u32 ended[256], ticks_left, runs, sub_calls;
/* Ticks of 2 ms until it is ended by the timer. While it has not begun (a process may have to be made for it) they
 * count less. */
enum { TICK_BEGUN = 25, TICKS_MAX = 4 * TICK_BEGUN, TICKS_HONEST = 2000 * TICK_BEGUN };
static u32 patience = TICKS_MAX;

static bool tick(struct frame *f)
{
    pic_eoi(0);
    pit_oneshot(PIT_HZ / 500);
    u32 counts = f->eip == U_CODE ? 1 : TICK_BEGUN;
    ticks_left = ticks_left > counts ? ticks_left - counts : 0;
    return ticks_left > 0;
}

/* A kernel's system calls: none that helps. */
static bool call(struct frame *f)
{
    f->eax = (u32)-38;
    return ++sub_calls % 16 != 0;                              /* a loop of them is ended as well */
}

static u32 go(struct frame *f)
{
    ticks_left = patience;
    u32 vector = user_go(f);
    ended[vector & 0xff]++;
    runs++;
    return vector;
}

/* sums of integers, of doubles, by way of a thread's segment */
USER(honest,
    fninit;
    movl $1000, %ecx;
    xorl %eax, %eax;
    fldz;
1:  addl %ecx, %eax;
    addl %gs:0x100, %eax;
    movl %ecx, (%ebx);
    fiaddl (%ebx);
    loop 1b;
    int $0x80;
    fistpl (%ebx);
    movl (%ebx), %edx;
    DONE);
static struct frame honest_call;
static bool honest_system_call(struct frame *f)
{
    honest_call = *f;
    return true;
}

static u32 own, other;
static struct ring pages;
static void carries_on(void)
{
    for (int i = 0; i < 2; i++) {
        struct frame f = user_frame(U_CODE + PAGE);
        paging_use(i ? other : own);
        PROGRAM(U_CODE + PAGE, honest);
        user_page(U_DATA, P_RW);
        poke(((u32)pte_get(U_DATA) & ~0xfffu) + 0x100, 3);
        gdt[TEST_SEL(0) / 8] = descriptor(U_DATA, 0xfff, SEG_DATA | SEG_DPL3, SEG_BIG);
        f.ebx = U_DATA, f.gs = TEST_SEL(0) | 3, f.ebp = 0x12345;
        on_trap(0x80, honest_system_call);
        ticks_left = TICKS_HONEST;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 1000 * 1001 / 2 + 3000);
        CHECK_EQ(f.edx, 1000 * 1001 / 2);
        CHECK_EQ(f.ebp, 0x12345);
        CHECK_EQ(honest_call.eax, f.eax);
        CHECK_EQ(f.ss & 0xffff, SEL_UDATA);
        CHECK_EQ(f.gs & 0xffff, TEST_SEL(0) | 3);
        on_trap(0x80, call);
        user_page(U_STACK, P_RW);
    }
    paging_use(own);
}

static u32 attempt_(const u8 *code, const u8 *end, struct frame f)
{
    user_program(U_CODE, code, end);
    return go(&f);
}
#define ATTEMPT(name, ...) attempt_(name, name##_end, with((struct frame){__VA_ARGS__}))

/* One that must come to this end by itself, however slow the machine. */
#define ENDS_BY(vector, attempt)    \
    do {                            \
        patience = TICKS_HONEST;    \
        CHECK_EQ(attempt, vector);  \
        patience = TICKS_MAX;       \
    } while (0)

static struct frame with(struct frame regs)
{
    struct frame f = user_frame(U_CODE);

    f.eax = regs.eax, f.ebx = regs.ebx, f.ecx = regs.ecx, f.edx = regs.edx, f.esi = regs.esi, f.edi = regs.edi,
        f.ebp = regs.ebp;
    f.eflags |= regs.eflags;
    if (regs.esp)
        f.esp = regs.esp;
    return f;
}

/* ---- The host's system calls. The numbers are such that a call that was let through leaves a trace and does no
 * harm. */
USER(int80, int $0x80; DONE);
USER(sysenter32, SYSENTER; DONE);
USER(syscall32, SYSCALL; DONE);
USER(int80_prefixed, .byte 0x66; .byte 0x2e; int $0x80; DONE);
USER64(int80_64, int $0x80);
USER64(syscall64, movq $-1, %r8; xorl %r9d, %r9d; movl $0x22, %r10d; SYSCALL);
USER64(sysenter64, SYSENTER);
USER64(vsyscall64, cltq; movl %esp, %edi; xorl %esi, %esi; call *%rax);
USER64(vsyscall_read, cltq; movq (%rax), %rcx; movq %rcx, (%rax));

static void system_calls(void)
{
    static const u16 numbers64[] = {0, 1, 2, 3, 9, 10, 11, 12, 13, 15, 24, 39, 56, 57, 58, 60, 101, 157, 158, 202,
        231, 257, 317, 319, 322, 425, 435,
                                    500, 0x4001},
                     numbers32[] = {1, 2, 3, 4, 5, 11, 20, 26, 45, 90, 91, 120, 123, 125, 173, 192, 243, 252, 354,
                         358, 500};

    section("system calls, 32 bits");
    for (u32 i = 0; i < sizeof(numbers32) / 2; i++) {
        struct frame regs = {.eax = numbers32[i], .ebx = 1, .ecx = U_DATA, .edx = 16};
        sub_calls = 0;
        ENDS_BY(U_DONE, attempt_(int80, int80_end, with(regs)));
        CHECK_EQ(sub_calls, 1);
        CHECK_EQ(trap_frame.eax, (u32)-38);
        attempt_(int80_prefixed, int80_prefixed_end, with(regs));
        CHECK(attempt_(sysenter32, sysenter32_end, with(regs)) != U_DONE);
        regs.esp = HEAP, regs.ebp = HEAP;                      /* nothing is there */
        CHECK(attempt_(sysenter32, sysenter32_end, with(regs)) != U_DONE);
        CHECK(attempt_(syscall32, syscall32_end, with(regs)) != U_DONE);
        CHECK(ATTEMPT(syscall32, .eax = numbers32[i], .ebx = 1, .ecx = U_DATA, .edx = 16, .esi = 1,
            .ebp = U_DATA) != U_DONE);
    }
    carries_on();
    section("system calls, 64 bits");
    for (u32 i = 0; i < sizeof(numbers64) / 2; i++)
        CHECK(ATTEMPT(syscall64, .eax = numbers64[i], .edi = 1, .esi = U_DATA, .edx = 7) != U_DONE);
    for (u32 i = 0; i < sizeof(numbers32) / 2; i++)
        CHECK(ATTEMPT(int80_64, .eax = numbers32[i], .ebx = 1, .ecx = U_DATA, .edx = 16) != U_DONE);
    for (u32 i = 0; i < 8; i++)
        CHECK(ATTEMPT(sysenter64, .eax = numbers64[i], .edi = 1, .esi = U_DATA,
            .ebp = i & 1 ? U_DATA : HEAP) != U_DONE);
    for (u32 i = 0; i < 3; i++) {
        CHECK(ATTEMPT(vsyscall64, .eax = 0xff600000 + i * 0x400) != U_DONE);
        CHECK(ATTEMPT(vsyscall_read, .eax = 0xff600000 + i * 0x400) != U_DONE);
    }
    carries_on();
}

/* ---- The page that a monitor has in the process: read, written, executed. */
USER(stub_read, movl %eax, 0x20000000; movl %eax, 0x20000000; TO64; movabsq $0x6a0000000000, %rsi; movl $0x20000000,
     %edi; movl $512, %ecx;
     rep movsq; ud2; .code32);
USER64(stub_write, movabsq $0x6a0000000000, %rcx; addq %rax, %rcx; movq %rax, (%rcx));
USER64(stub_add, movabsq $0x6a0000000000, %rcx; lock addq $1, (%rcx, %rax));
USER64(stub_push, movabsq $0x6a0000000000, %rcx; leaq (%rcx, %rax), %rsp; pushq %rax);
USER64(stub_fill, movabsq $0x6a0000000000, %rdi; movb $0x90, %al; movl $4096, %ecx; rep stosb);
USER64(stub_call, movabsq $0x6a0000000000, %rsp; leaq 0x800(%rsp), %rsp; call 1f; 1:);
USER64(beyond_write, movabsq $0x6a0000100000, %rcx; movq %rax, (%rcx));
USER64(high_write, movabsq $0x7fffffffe000, %rcx; movq %rax, (%rcx));
USER64(kernel_write, movabsq $0xffff888000000000, %rcx; movq %rax, (%rcx));
USER64(kernel_jump, movabsq $0xffffffff81000000, %rcx; jmp *%rcx);
USER64(not_canonical, movabsq $0x8000000000000000, %rsp; pushq %rax);
USER64(not_canonical_jump, movabsq $0x8000000000000000, %rcx; jmp *%rcx);
/* To the stub's code at EAX, with registers as its own code would have them, but for a list of our own. */
USER64(stub_jump,
    movl %edi, %r12d; leaq 8(%r12), %r14; movl $40, %r13d; movl %edi, %r15d;
    movabsq $0x6a0000000000, %rcx; addq %rcx, %rax; movl $5, %ebp; xchgq %rax, %rcx;
    movl $3, %r8d; xorl %r9d, %r9d; movl $0x32, %r10d; movl $4096, %esi; movl $7, %edx; movl $10, %eax; jmp *%rcx);

static void stub(void)
{
    section("the monitor's own page");
    for (u32 i = 0; i < 4096; i += 509) {
        CHECK(ATTEMPT(stub_write, .eax = i) != U_DONE);
        CHECK(ATTEMPT(stub_push, .eax = i + 8) != U_DONE);
        CHECK(ATTEMPT(stub_add, .eax = i) != U_DONE);
    }
    CHECK(ATTEMPT(stub_fill) != U_DONE);
    CHECK(ATTEMPT(stub_call) != U_DONE);
    CHECK(ATTEMPT(beyond_write) != U_DONE);
    CHECK(ATTEMPT(high_write) != U_DONE);
    CHECK(ATTEMPT(kernel_write) != U_DONE);
    CHECK(ATTEMPT(kernel_jump) != U_DONE);
    CHECK(ATTEMPT(not_canonical) != U_DONE);
    CHECK(ATTEMPT(not_canonical_jump) != U_DONE);
    u32 heap = user_page(HEAP, P_RW);
    CHECK(ATTEMPT(stub_read) != U_DONE);
    u32 seen = 0;                                              /* no list of what is mapped where is left lying there */
    for (u32 i = STUB_LIST; i < PAGE; i += 4)
        seen += peek(heap + i) != 0;
    CHECK_EQ(seen, 0);
    pte_set(HEAP, 0);
    invlpg(HEAP);
    carries_on();
    section("the monitor's own code");
    for (u32 i = 0; i < STUB_CODE; i++) {
        /* two calls: mprotect of the stub, mmap of something over it */
        u32 list = user_page(U_DATA, P_RW);
        static const u32 op[2][12] = {{10, 0, 0, 0x6a00, 4096, 0, 7, 0}, {9, 0, 0, 0x6a00, 4096, 0, 7, 0, 0x32, 0}};
        poke(list, 2);
        memcpy((void *)(list + 8), op, sizeof(op));
        CHECK(ATTEMPT(stub_jump, .eax = i, .edi = U_DATA) != U_DONE);
        if (i % 128 == 0)
            carries_on();
    }
    carries_on();
}

/* ---- Selectors: every one of them that LAR says anything about, and a sample of the others, into every segment
 * register. */
/* ESI: the first selector above it that the processor knows, or 65536 */
USER(next_lar,
1:  incl %esi;
    cmpl $0x10000, %esi;
    je 2f;
    jmp 3f;
    movl $0x90ce020f, %eax;                                    /* lar %esi, %ecx */
3:  .byte 0xeb, 1, 0xb8, 0x0f, 0x02, 0xce, 0x90;
    jnz 1b;
2:  DONE);
USER(load_ds, HIDE 0x8e, 0xd8; movl (%ebx), %ecx; movl %ecx, 4(%ebx); int $0x80; movl (%ebx), %ecx; DONE);
USER(load_es, HIDE 0x8e, 0xc0; movl %ebx, %edi; stosl; int $0x80; stosl; DONE);
USER(load_fs, HIDE 0x8e, 0xe0; movl %fs:(%ebx), %ecx; movl %ecx, %fs:4(%ebx); int $0x80; movl %fs:(%ebx), %ecx; DONE);
USER(load_gs, HIDE 0x8e, 0xe8; movl %gs:(%ebx), %ecx; movl %ecx, %gs:4(%ebx); int $0x80; movl %gs:(%ebx), %ecx; DONE);
USER(load_ss, HIDE 0x8e, 0xd0; pushl %eax; popl %ecx; int $0x80; pushl %eax; DONE);
USER(load_cs, movl %esp, %ecx; pushl %eax; call 1f; nop; int $0x80; pushl %eax; popl %eax; DONE; 1: HIDE 0xcb, 0x90);
USER(load_all, pushl %eax; HIDE 0x07, 0x90; pushl %eax; HIDE 0x1f, 0x90; pushl %eax; HIDE 0x0f, 0xa1; pushl %eax;
     HIDE 0x0f, 0xa9; pushl %eax;
     HIDE 0x17, 0x90; int $0x80; DONE);

static void into_every_register(u32 selector)
{
    struct frame regs = {.eax = selector, .ebx = U_DATA};

    attempt_(load_ds, load_ds_end, with(regs));
    attempt_(load_es, load_es_end, with(regs));
    attempt_(load_fs, load_fs_end, with(regs));
    attempt_(load_gs, load_gs_end, with(regs));
    attempt_(load_ss, load_ss_end, with(regs));
    attempt_(load_cs, load_cs_end, with(regs));
    attempt_(load_all, load_all_end, with(regs));
}

static void selectors(void)
{
    struct frame f;

    section("selectors");
    for (u32 selector = (u32)-1, known = 0; known < 400; known++) {
        PROGRAM(U_CODE, next_lar);
        f = user_frame(U_CODE);
        f.esi = selector;
        ENDS_BY(U_DONE, go(&f));
        if (f.esi > 0xffff)
            break;
        selector = f.esi;
        into_every_register(selector);
        if (known % 16 == 0)
            carries_on();
    }
    for (u32 selector = 0; selector < 0x10000; selector += selector < 0x80 ? 1 : 2039)
        into_every_register(selector);
    carries_on();
}

/* ---- Flags, in all combinations, before whatever comes. */
USER(flags_nop, pushl %eax; popfl; nop; nop; pushfl; popl %ebx; DONE);
USER(flags_int80, pushl %eax; popfl; int $0x80; nop; DONE);
USER(flags_sysenter, pushl %eax; popfl; SYSENTER; nop; DONE);
USER(flags_fault, pushl %eax; popfl; movl 0, %ebx; DONE);
USER(flags_iret, pushl %eax; pushl %ebx; call 1f; nop; DONE; 1: HIDE 0xcf, 0x90);
USER(flags_misaligned, pushl %eax; popfl; movl 1(%ebx), %eax; movl %eax, 5(%ebx); DONE);
USER(flags_spin, pushl %eax; popfl; 1: jmp 1b);
USER64(flags_syscall64, pushq %rax; popfq; SYSCALL);
USER64(flags_int80_64, pushq %rax; popfq; int $0x80);
USER64(flags_spin64, pushq %rax; popfq; 1: jmp 1b);
USER64(flags_iretq, pushq $0x2b; pushq %rsp; pushq %rax; pushq $0x23; pushq $0x08048000; .byte 0x48; HIDE 0xcf, 0x90);

static void flags(void)
{
    static const u32 bit[] = {F_TF, F_AC, F_NT, F_RF, F_ID, F_DF, F_IOPL};

    section("flags");
    for (u32 i = 0; i < 128; i += i < 16 ? 1 : 7) {
        u32 v = 2;
        for (u32 k = 0; k < 7; k++)
            v |= i >> k & 1 ? bit[k] : 0;
        struct frame regs = {.eax = v, .ebx = U_DATA};
        struct frame iret = {.eax = v, .ebx = SEL_UCODE};
#define EACH(name) attempt_(name, name##_end, with(regs))
        EACH(flags_nop), EACH(flags_int80), EACH(flags_sysenter), EACH(flags_fault), EACH(flags_misaligned),
            EACH(flags_syscall64),
            EACH(flags_int80_64), EACH(flags_iretq);
        attempt_(flags_iret, flags_iret_end, with(iret));
        iret.ebx = 0x23;
        attempt_(flags_iret, flags_iret_end, with(iret));
        iret.ebx = 0x33;
        attempt_(flags_iret, flags_iret_end, with(iret));
        if (i < 2) {
            EACH(flags_spin);
            CHECK(EACH(flags_spin64) != U_DONE);
        }
    }
    struct frame tf = {.eflags = F_TF};
    CHECK(attempt_(syscall64, syscall64_end, with(tf)) != U_DONE);
    tf.eflags = F_AC | F_NT | F_RF;
    CHECK(attempt_(syscall64, syscall64_end, with(tf)) != U_DONE);
    carries_on();
}

/* ---- What newer processors and 64-bit mode have to offer. */
USER64(wrfsbase, movq $-1, %rax; shrq $20, %rax; wrfsbase %rax; wrgsbase %rax; rdfsbase %rcx; TO32; int $0x80;
     movl %fs:0x08080000, %eax; DONE; .code64);
USER64(swapgs, swapgs; xorl %edi, %edi);
USER64(back_in_32, movq $-1, %r8; movq %r8, %r9; movq %r8, %r15; movq %r8, %rax; TO32; int $0x80; DONE; .code64);
USER64(spin64, 1: jmp 1b);
USER64(hlt64, hlt);
USER64(out64, movl $0x80, %edx; outb %al, %dx; cli);
USER64(cr64, movq %cr3, %rax; movq %rax, %cr3);
USER64(msr64, movl $0xc0000082, %ecx; xorl %eax, %eax; xorl %edx, %edx; wrmsr);
USER64(sysret64, xorl %ecx, %ecx; .byte 0x48; HIDE 0x0f, 0x07);
USER64(iretq_kernel, pushq $0x18; pushq $0; pushq $2; pushq $0x10; pushq $0; .byte 0x48; HIDE 0xcf, 0x90);
USER64(bad_stack64, xorl %esp, %esp; pushq %rax);
USER(xgetbv, xorl %ecx, %ecx; xgetbv; DONE);
USER(rdpkru, xorl %ecx, %ecx; rdpkru; DONE);
USER(wrpkru, xorl %ecx, %ecx; xorl %edx, %edx; movl $-4, %eax; wrpkru; movl 0x08080000, %eax; movl %eax, 0x08080004;
     int $0x80; movl 0x08080000, %ebx; DONE);
USER(wrpkru_none, xorl %ecx, %ecx; xorl %edx, %edx; movl $-1, %eax; wrpkru; movl 0x08080000, %eax; movl %eax,
     0x08080004; int $0x80; pushl %eax; DONE);
USER(avx, vpxor %ymm0, %ymm0, %ymm0; vpcmpeqd %ymm1, %ymm1, %ymm1; vmovdqu %ymm1, 0x08080000; int $0x80;
     vmovdqu %ymm0, 0x08080000; DONE);
USER(xsave, movl $-1, %eax; movl $-1, %edx; movl $0x08080000, %ebx; xsave (%ebx); movl $0, 516(%ebx); xrstor (%ebx);
     DONE);
USER(xrstor_bad, movl $-1, %eax; movl $-1, %edx; movl $0x08080000, %ebx; movl $0xffffffff, 24(%ebx); movl $2,
     512(%ebx); xrstor (%ebx); DONE);
USER(rdrand, rdrand %eax; rdseed %ebx; DONE);
USER(rdtscp, HIDE 0x0f, 0x01, 0xf9; DONE);
USER(rdpid, .byte 0xf3; .byte 0x0f; .byte 0xc7; .byte 0xf8; DONE);
USER(clflush, clflush 0x08080000; clflush 0; DONE);
USER(vmcall, HIDE 0x0f, 0x01, 0xc1; DONE);
USER(monitor, HIDE 0x0f, 0x01, 0xc8; DONE);
USER(xbegin, .byte 0xc7; .byte 0xf8; .long 0; int $0x80; DONE);
USER(hidden_cpuid, HIDE 0x0f, 0xa2; DONE);
USER(hidden_sgdt, movl $0x08080000, %eax; HIDE 0x0f, 0x01, 0x00; HIDE 0x0f, 0x01, 0x08; HIDE 0x0f, 0x00, 0x08;
     HIDE 0x0f, 0x01, 0x20; DONE);
USER(hidden_into, movb $127, %al; addb $1, %al; HIDE 0xce, 0x90; DONE);
USER(hidden_int3, HIDE 0xcd, 3; HIDE 0xcd, 4; HIDE 0xf1, 0x90; HIDE 0xcc, 0x90; DONE);
USER(hlt, hlt; DONE);
USER(inout, inb $0x60, %al; DONE);
USER(out_exit, movl $0xf4, %edx; movl $0x11, %eax; outl %eax, %dx; DONE);

static void newer(void)
{
    struct frame f = {0};

    section("newer instructions");
#define TRY(name) attempt_(name, name##_end, with(f))
    for (int i = 0; i < 2; i++) {
        TRY(wrfsbase);
        carries_on();
        TRY(back_in_32), TRY(swapgs), TRY(xgetbv), TRY(rdpkru), TRY(wrpkru);
        carries_on();
        TRY(wrpkru_none);
        carries_on();
        TRY(avx), TRY(xsave), TRY(xrstor_bad), TRY(rdrand), TRY(rdtscp), TRY(rdpid), TRY(clflush), TRY(vmcall),
            TRY(monitor), TRY(xbegin);
        carries_on();
        TRY(hidden_cpuid), TRY(hidden_sgdt), TRY(hidden_into), TRY(hidden_int3);
        CHECK(TRY(spin64) != U_DONE);
        CHECK(TRY(hlt64) != U_DONE);
        CHECK(TRY(out64) != U_DONE);
        CHECK(TRY(cr64) != U_DONE);
        CHECK(TRY(msr64) != U_DONE);
        CHECK(TRY(sysret64) != U_DONE);
        CHECK(TRY(iretq_kernel) != U_DONE);
        CHECK(TRY(bad_stack64) != U_DONE);
        ENDS_BY(V_GP, TRY(hlt));
        ENDS_BY(V_GP, TRY(inout));
        ENDS_BY(V_GP, TRY(out_exit));
        carries_on();
    }
}

/* ---- Code that undoes itself; stacks that are none; loops. */
USER(fill_itself, movl $0x08048000, %edi; movl $4096, %ecx; cld; rep stosb; DONE);
USER(fill_upwards, movl $0x08048100, %edi; jmp 1f; .balign 64; 1: stosl; jmp 1b);
USER(fill_all, xorl %edi, %edi; 1: movl %eax, (%edi); addl $4096, %edi; jmp 1b);
USER(read_all, xorl %edi, %edi; 1: movl (%edi), %eax; addl $4096, %edi; jmp 1b);
USER(any_exception, jmp *%ecx);
USER(loop_of_faults, 1: movl 0x30000000, %eax; jmp 1b);
USER(spin, 1: jmp 1b);
USER(spin_rep, movl $0x08080000, %esi; movl %esi, %edi; movl $-1, %ecx; .byte 0xf3, 0xa6; jmp spin_rep);
USER(spin_calls, 1: int $0x80; jmp 1b);
USER(unmap, int $0x82; nop; nop; DONE);

static bool unmap_code(struct frame *f)
{
    pte_set(f->eip & ~0xfffu, 0);
    invlpg(f->eip);
    return true;
}

static bool skip_fault(struct frame *f)
{
    f->eip += 5;
    return ++sub_calls % 400 != 0;
}

static void self_destruction(void)
{
    static const u8 fill[] = {0x00, 0x0f, 0x90, 0xcc, 0xcd, 0xcb, 0xcf, 0xea, 0xf1, 0xf4, 0xff, 0xeb};
    static const u32 stacks[] = {0, 1, 3, 0x1000, 0x100000, U_DATA, U_DATA + 7, 0x7fffffff, 0x80000000, 0xc0000000,
        0xfffffffc, 0xffffffff};

    section("code that undoes itself");
    for (u32 i = 0; i < sizeof(fill); i++) {
        u32 v = fill[i] * 0x01010101u;
        ATTEMPT(fill_itself, .eax = v);
        ATTEMPT(fill_upwards, .eax = v);
    }
    ENDS_BY(V_PF, ATTEMPT(fill_all));
    ENDS_BY(V_PF, ATTEMPT(read_all));
    idt_set(0x82, gate(SEL_KCODE, idt_stub(0x82), 0xee, 0));
    on_trap(0x82, unmap_code);
    ENDS_BY(V_PF, ATTEMPT(unmap));
    CHECK_EQ(trap_frame.eip, U_CODE + 2);
    on_trap(0x82, NULL);
    carries_on();
    section("stacks that are none");
    for (u32 i = 0; i < sizeof(stacks) / sizeof(stacks[0]); i++) {
        ATTEMPT(int80, .esp = stacks[i]);
        ATTEMPT(syscall32, .esp = stacks[i], .ebp = stacks[i]);
        ATTEMPT(syscall64, .esp = stacks[i]);
        ATTEMPT(load_cs, .esp = stacks[i], .eax = 0x33);
        ATTEMPT(flags_nop, .esp = stacks[i], .eax = F_TF);
        ATTEMPT(hlt, .esp = stacks[i]);
        ATTEMPT(any_exception, .esp = stacks[i], .ecx = stacks[i]);
    }
    carries_on();
    section("loops");
    CHECK_EQ(ATTEMPT(spin), IRQ_BASE);
    ATTEMPT(spin_rep);
    ENDS_BY(0x80, ATTEMPT(spin_calls));
    on_trap(V_PF, skip_fault);
    sub_calls = 0;
    ATTEMPT(loop_of_faults);
    on_trap(V_PF, NULL);
    carries_on();
}

/* ---- Random bytes, in both modes: eight by eight where a sweep sees the displacement and the immediate of MOV
 * [ESP+disp32], imm32. */
USER(touch, movl %eax, (%ebx); pushl %eax; popl %eax; .byte 0xeb, 3, 0xc7, 0x84, 0x24);
USER(touch64, movl %eax, (%ebx); TO64; .byte 0xeb, 3, 0xc7, 0x84, 0x24);
__asm__(".code32\n");

static u32 seed = 12345;
static u8 random(void)
{
    seed = seed * 1664525 + 1013904223;
    return (u8)(seed >> 24);
}

/* Half of them begin with what is worth trying. */
static void random_eight(u8 *at)
{
    static const u8 heads[][2] = {{0x0f, 0x05}, {0x0f, 0x34}, {0xcd, 0x80}, {0x0f, 0x01}, {0x0f, 0x00}, {0x0f, 0xae},
        {0x0f, 0xc7}, {0x48, 0x0f}, {0x66, 0x0f},
                                  {0xf3, 0x0f}, {0x8e, 0xd8}, {0x8e, 0xd0}, {0x8e, 0xe8}, {0x9d, 0x90}, {0xcf, 0x90},
                                      {0xcb, 0x90}, {0x48, 0xcf}, {0xf3, 0xa4},
                                  {0xf1, 0x90}, {0xcc, 0x90}, {0x0f, 0x20}, {0x0f, 0x30}, {0xff, 0xe0}, {0x6a, 0x33},
                                      {0x5c, 0x50}, {0xc5, 0xf8}, {0xf4, 0xf4}};

    for (u32 k = 0; k < 8; k++)
        at[k] = random();
    if (random() & 1)
        memcpy(at, heads[random() % (sizeof(heads) / 2)], 2);
}

static void random_code(u32 n)
{
    enum { PIECES = 24, PIECE = 8 + 5 };
    static u8 bytes[PIECES * PIECE];
    struct frame f;

    section("random bytes");
    for (u32 i = 0; i < n; i++) {
        u32 head = (u32)(i & 1 ? touch64_end - touch64 : touch_end - touch);
        for (u32 k = 0; k < PIECES; k++) {
            random_eight(bytes + k * PIECE);
            memcpy(bytes + k * PIECE + 8, &touch[(u32)(touch_end - touch) - 5], 5);
        }
        if (i & 1)
            PROGRAM(U_CODE, touch64);
        else
            PROGRAM(U_CODE, touch);
        user_load(U_CODE + head, bytes, bytes + sizeof(bytes));
        f = user_frame(U_CODE);
        f.eax = random() & 1 ? random() : random() * 0x01010101u;
        f.ebx = U_DATA + random() * 4, f.ecx = random(), f.edx = U_CODE + random(), f.esi = U_DATA + random(),
            f.edi = U_DATA + 0x800, f.ebp = U_TOP - 512, f.esp = U_TOP - 1024;
        sub_calls = 0;
        go(&f);
        if (i % 32 == 0)
            carries_on();
    }
    carries_on();
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        own = paging_root();
        other = user_space();
        pages = user_ring(4000);
        user_take_from(&pages);
        on_trap(0x80, call);
        on_trap(IRQ_BASE, tick);
        wrmsr(0x174, 0);                                       /* no SYSENTER */
        pit_oneshot(PIT_HZ / 500);
        pic_unmask(0);
        carries_on();
        if (pae) {
            system_calls();
            stub();
            selectors();
            flags();
            newer();
            self_destruction();
        }
        random_code(told("long") ? 10000 : told("tcg") ? 60 : 200); /* each costs a process, dear on an emulated host */
        pic_mask(0);
        user_stop();
    }
    print("hostile: %u runs; ended by", runs);
    for (u32 v = 0; v < 256; v++)
        if (ended[v])
            print(" %x:%u", v, ended[v]);
    print("\n");
}
