/* count.c: what the guest has retired is the same number in each engine, whatever leaves translated code in the middle
 * of a block; and a stop after exactly so many instructions finds the same state in each. */
#include "tests/unit/small_guest.h"
#include "runtime/run/count.h"

#include <pthread.h>

/* A bit of all that may interrupt a block: faults that are repaired and ones that are skipped, software interrupts,
 * flags and segments that are loaded, repeated strings, what the interpreter does, x87 and SSE, code that writes into
 * itself, instructions across two pages, 16-bit code. EAX at the end is a sum of what it has computed, and of the flags
 * that page faults found. */
__asm__(".pushsection .rodata\n"
        "count_guest:\n"
        ".code32\n"
        "        movl $6, %ecx\n"
        "        xorl %eax, %eax\n"
        "1:      addl %ecx, %eax\n"
        "        call 9f\n"
        "        decl %ecx\n"
        "        jnz 1b\n"
        "        movl $0x30000, %edi\n"
        "        movl $0x30800, %esi\n"
        "        movl $1500, %ecx\n"
        "        rep movsl\n"
        "        movl $0x30000, %edi\n"
        "        movl $300, %ecx\n"
        "        rep stosb\n"
        "        movl $0x30000, %edi\n"
        "        movl $0x30100, %esi\n"
        "        movl $300, %ecx\n"
        "        repe cmpsb\n"
        "        addl %ecx, %eax\n"
        "        movl $0, %ecx\n"
        "        rep stosl\n"
        "        int $0x40\n"
        "        addl $3, %eax\n"
        "        pushfl\n"
        "        orl $0x200, (%esp)\n"
        "        popfl\n"
        "        cli\n"
        "        addl 0x50000, %eax\n" /* #PF, repaired */
        "        movl %eax, 0x51004\n" /* #PF, repaired */
        "        addl $5, %eax\n"
        "        xorl %edx, %edx\n"
        "        xorl %ebx, %ebx\n"
        "        divl %ebx\n" /* #DE, skipped */
        "        addl $7, %eax\n"
        "        movw $0x10, %bx\n"
        "        movw %bx, %es\n"
        "        movw %bx, %fs\n"
        "        addl %fs:0x30000, %eax\n"
        "        pushl %eax\n"
        "        cpuid\n"
        "        popl %eax\n"
        "        fld1\n"
        "        fadd %st(0), %st(0)\n"
        "        fistpl 0x30010\n"
        "        addl 0x30010, %eax\n"
        "        movd %eax, %xmm0\n"
        "        paddd %xmm0, %xmm0\n"
        "        movd %xmm0, %edx\n"
        "        fldz\n"
        "        int $0x40\n"
        "        fstp %st(0)\n"
        "        movl $4, %ecx\n"
        "2:      movb %cl, 3f-count_guest+0x10001\n"
        "        addl %ecx, %edx\n"
        "3:      addb $1, %al\n" /* written to by the instruction two before */
        "        loop 2b\n"
        "        movw %ds, %bx\n"
        "        movw %bx, %ss\n"
        "        addl $11, %eax\n"
        "        sgdt 0x30020\n"
        "        lcall $0x28, $(8f - count_guest)\n"
        "        addl $13, %eax\n"
        "        ud2\n" /* #UD, skipped */
        "        invlpg 0x30000\n"
        "        jmp 4f\n"
        "9:      addl $2, %eax\n"
        "        bsfl %eax, %edx\n"
        "        ret\n"
        "5:      incl %ebp\n" /* INT 40h */
        "        iret\n"
        "6:      addl $2, (%esp)\n" /* #DE, #UD: behind it */
        "        iret\n"
        "7:      pushl %eax\n"          /* #PF: the page is there, writable */
        "        movl 16(%esp), %eax\n" /* the flags that it found */
        "        andl $0x8c5, %eax\n"
        "        addl %eax, %ebp\n"
        "        movl %cr2, %eax\n"
        "        shrl $12, %eax\n"
        "        shll $2, %eax\n"
        "        orl $3, 0x21000(%eax)\n"
        "        movl %cr2, %eax\n"
        "        invlpg (%eax)\n"
        "        popl %eax\n"
        "        addl $4, %esp\n"
        "        iret\n"
        ".code16\n"
        "8:      incw %ax\n"
        "        addw $3, %ax\n"
        "        pushw %ax\n"
        "        popw %bx\n"
        "        cpuid\n"
        "        lretl\n"
        ".code32\n"
        ".org count_guest + 0xffe\n" /* the first across the page's end */
        "4:      addl $0x12345678, %eax\n"
        "        addl $1, %eax\n"
        "        addl %ebp, %eax\n"
        "        outl %eax, $0xf4\n"
        "        jmp .\n"
        "count_end:\n"
        ".globl count_handlers\n"
        "count_handlers: .long 5b - count_guest, 6b - count_guest, 7b - count_guest\n"
        ".code64\n"
        ".popsection\n");
extern const u8 count_guest[], count_end[];
extern const u32 count_handlers[];

static void start_counted(int which)
{
    start(which);
    put(CODE, count_guest, (unsigned)(count_end - count_guest));
    put_desc(GDT + 0x28, CODE, 0xffff, 0x9b, 0);
    c->gdtr.limit = 0x2f;
    put_gate(0x40, CODE + count_handlers[0]);
    put_gate(V_DE, CODE + count_handlers[1]);
    put_gate(V_UD, CODE + count_handlers[1]);
    put_gate(V_PF, CODE + count_handlers[2]);
    page();
    put32(PT + 4 * 0x50, 0x50000);
    put32(PT + 4 * 0x51, 0x51000);
    rt_update(rt);
    rt_count(rt, true);
}

/* sum: EAX at the end. */
static u64 count_and_sum(int which, u32 *sum)
{
    start_counted(which);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    ck_assert_uint_ne(out_value, 0xdead);
    *sum = out_value;
    u64 n = rt_instructions(rt);
    end();
    return n;
}

static u64 count_all(int which)
{
    u32 sum;
    return count_and_sum(which, &sum);
}

START_TEST(a_known_program_retires_what_one_can_count_by_hand)
{
    start(_i);
    CODE_AT(CODE, "\xb9\x05\x00\x00\x00"         /* mov ecx, 5           1 */
                  "\x49\x75\xfd"                 /* dec ecx; jnz        10 */
                  "\xb9\x00\x01\x00\x00"         /* mov ecx, 100h        1 */
                  "\xbf\x00\x00\x03\x00\xf3\xaa" /* mov edi; rep stosb   2 */
                  "\xcd\x40"                     /* int 40h              1 */
                  "\xf7\xf1"                     /* div ecx: #DE         0 */
                  "\xe7\xf4\xeb\xfe");           /* out 0xf4, eax        1 */
    CODE_AT(0x6000, "\x83\x04\x24\x02\xcf");     /* add dword [esp], 2; iret */
    put_gate(0x40, 0x6004);
    put_gate(V_DE, 0x6000);
    rt_count(rt, true);
    (void)run();
    ck_assert_uint_eq(rt_instructions(rt), 16 + 1 /* iret */ + 2 /* add, iret */);
    end();
}
END_TEST

START_TEST(each_engine_retires_as_many_instructions_as_the_interpreter)
{
    u32 want, sum;
    u64 n = count_and_sum(0, &want);
    ck_assert_uint_gt(n, 130);
    ck_assert_uint_eq(count_and_sum(_i, &sum), n);
    ck_assert_uint_eq(sum, want);
}
END_TEST

/* The state without the time; and without a shadow, which may be forgotten while nothing waits for its end. */
static struct cpu_arch state(void)
{
    struct cpu_arch a;
    rt_get_state(rt, &a);
    a.tsc = 0;
    a.intr_shadow = 0;
    return a;
}

static enum rt_exit after(u64 n, struct cpu_arch *a)
{
    rt_limit(rt, n);
    enum rt_exit why = rt_run(rt);
    *a = state();
    return why;
}

START_TEST(a_stop_after_N_instructions_finds_the_interpreters_state)
{
    u64 all = count_all(0);
    for (u64 n = 1; n < all; n++) {
        struct cpu_arch a, b;
        start_counted(0);
        ck_assert_int_eq(after(n, &a), RT_LIMIT);
        ck_assert_uint_eq(rt_instructions(rt), n);
        end();
        start_counted(_i);
        ck_assert_int_eq(after(n, &b), RT_LIMIT);
        ck_assert_msg(rt_instructions(rt) == n, "%llu instead of %llu", (unsigned long long)rt_instructions(rt),
                      (unsigned long long)n);
        ck_assert_msg(a.eip == b.eip && a.gpr[G_EAX] == b.gpr[G_EAX], "after %llu: eip %x eax %x instead of %x %x",
                      (unsigned long long)n, b.eip, b.gpr[G_EAX], a.eip, a.gpr[G_EAX]);
        ck_assert_mem_eq(&a, &b, sizeof a);
        end();
    }
}
END_TEST

START_TEST(stops_one_after_another_miss_nothing)
{
    u64 all = count_all(0), n = 0;
    struct rt *interp;
    start_counted(0);
    interp = rt;
    for (u64 step = 1; n < all; step = step % 23 + 1) {
        struct cpu_arch a, b;
        rt = interp;
        enum rt_exit first = after(step, &a);
        if (!n) start_counted(_i);
        else rt = c->rt;
        ck_assert_int_eq(after(step, &b), first);
        ck_assert_mem_eq(&a, &b, sizeof a);
        n = rt_instructions(rt);
    }
    ck_assert_uint_eq(n, all);
    end();
    rt = interp;
    end();
}
END_TEST

static void *kicker(void *stop)
{
    while (!__atomic_load_n((bool *)stop, __ATOMIC_SEQ_CST)) rt_kick(rt);
    return NULL;
}

START_TEST(kicks_do_not_change_the_count)
{
    u64 n = count_all(0);
    for (unsigned i = 0; i < 20; i++) {
        pthread_t t;
        bool stop = false;
        start_counted(_i);
        pthread_create(&t, NULL, kicker, &stop);
        ck_assert_int_eq(rt_run(rt), RT_STOPPED);
        __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
        pthread_join(t, NULL);
        ck_assert_uint_eq(rt_instructions(rt), n);
        end();
    }
}
END_TEST

START_TEST(what_does_not_count_is_translated_without_it)
{
    start_counted(_i);
    rt_count(rt, false);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    if (engine[_i].cfg.engine == RT_BT) ck_assert_uint_lt(rt_instructions(rt), 100);
    end();
}
END_TEST

SMALL_GUEST_SUITE("count", 60, a_known_program_retires_what_one_can_count_by_hand,
                  each_engine_retires_as_many_instructions_as_the_interpreter,
                  a_stop_after_N_instructions_finds_the_interpreters_state, stops_one_after_another_miss_nothing,
                  kicks_do_not_change_the_count, what_does_not_count_is_translated_without_it)
