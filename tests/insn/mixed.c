/* User programs whose code lies in the pages that they write to, often enough for a monitor to do something about it:
 * what has been written is what runs next, even where it is the very next instruction (SDM vol. 3, 8.1.3, 11.6). How
 * often that may cost a monitor more than the instruction itself is counted in run_insn.py. */
#include "user.h"

const char guest_name[] = "mixed";

enum { ROUNDS = 3000, BESIDE = U_DATA + 0x40, PLAIN = U_DATA + 0x200, ALIAS = 0x20000000 };

static u32 run(const u8 *from, const u8 *end)
{
    struct frame f;
    user_program(U_CODE, from, end);
    f = user_frame(U_CODE);
    CHECK_EQ(user_go(&f), U_DONE);
    return f.eax;
}
#define RESULT(name) run(name, name##_end)

/* MOV EAX, value; RET: at a physical address, which is the kernel's own. */
static void put_function(u32 at, u32 value)
{
    static const u8 code[] = {0xb8, 0, 0, 0, 0, 0xc3};
    memcpy((void *)at, code, sizeof(code));
    poke(at + 1, value);
}

USER(beside,
    movl $0x08080000, %ebx;
    movl $3000, %ecx;
    xorl %esi, %esi;
1:  incl 0x40(%ebx);
    call *%ebx;
    addl %eax, %esi;
    decl %ecx;
    jnz 1b;
    movl %esi, %eax;
    DONE);

static void counter(void)
{
    section("a counter beside a function");
    u32 page = user_page(U_DATA, P_RW);
    put_function(page, 3);
    CHECK_EQ(RESULT(beside), 3 * ROUNDS);
    CHECK_EQ(peek(page + 0x40), ROUNDS);
    put_function(page, 5);                                     /* and the function itself, by somebody else */
    CHECK_EQ(RESULT(beside), 5 * ROUNDS);
    CHECK_EQ(peek(page + 0x40), 2 * ROUNDS);
}

/* A page of ADD [EAX], AL and a RET. AL is 0, so nothing changes; then 1, and it adds to the ModRM byte of the first
 * instruction, which becomes ADD BH, BH and the like. */
USER(zeros,
    movl $0x08080000, %eax;
    movl $10, %esi;
1:  call *%eax;
    decl %esi;
    jnz 1b;
    DONE);
USER(ones,
    movl $0x08080001, %eax;
    movl $0x08080000, %edi;
    movl $10, %esi;
1:  call *%edi;
    decl %esi;
    jnz 1b;
    DONE);

static void zero_page(void)
{
    section("a page of zeros");
    u32 page = user_page(U_DATA, P_RW);
    memset((void *)page, 0, PAGE);
    poke8(page + 4094, 0xc3);
    RESULT(zeros);
    CHECK_EQ(peek(page), 0);
    RESULT(ones);
    u8 want = 0;
    for (int pass = 0; pass < 10; pass++)
        /* the first instruction is one of them the first time only */
        want += want >= 0xc0 ? 2046 & 0xff : 2047 & 0xff;
    CHECK_EQ(peek8(page + 1), want);
}

/* Offsets: MOV 0, INC 5, MOV EAX 11, whose immediate is at 12. */
USER(next_insn,
    movl $3000, %ecx;
1:  incl 0x0804800c;
    movl $0, %eax;
    decl %ecx;
    jnz 1b;
    DONE);
/* The same through another linear address of the page. */
USER(next_by_alias,
    movl $3000, %ecx;
1:  incl 0x2000000c;
    jmp 2f;
2:  movl $0, %eax;
    decl %ecx;
    jnz 1b;
    DONE);

static void own_code(void)
{
    section("the next instruction");
    CHECK_EQ(RESULT(next_insn), ROUNDS);
    section("by an alias");
    user_program(U_CODE, next_by_alias, next_by_alias_end);
    pte_set(ALIAS, (pte_get(U_CODE) & ~(u64)0xfff) | P_RW);
    invlpg(ALIAS);
    poke8(ALIAS + 7, 0x0e);                                    /* two bytes further on: a JMP is between */
    struct frame f = user_frame(U_CODE);
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax, ROUNDS);
    pte_set(ALIAS, 0);
    invlpg(ALIAS);
}

/* A PUSH that writes the two instructions after it: MOV AL, n; JMP over two NOPs. */
USER(pushed,
    movl $3000, %ecx;
    xorl %esi, %esi;
1:  movzbl %cl, %edx;
    shll $8, %edx;
    orl $0x02eb00b0, %edx;
    xorl %eax, %eax;
    movl $0x08048100, %esp;
    .org pushed + 0xfb, 0x90;
    pushl %edx;
    .long 0x02eb00b0;
    nop;
    nop;
    addl %eax, %esi;
    decl %ecx;
    jnz 1b;
    movl $0xbfffefe0, %esp;
    movl %esi, %eax;
    DONE);
/* A REP STOSD likewise: MOV AL, n; NOPs. */
USER(stored,
    movl $3000, %ebp;
    xorl %esi, %esi;
1:  movl $2, %ecx;
    movl %ebp, %eax;
    shll $8, %eax;
    andl $0xff00, %eax;
    orl $0x909000b0, %eax;
    movl $0x08048100, %edi;
    .org stored + 0xfe, 0x90;
    rep stosl;
    .long 0x90909090, 0x90909090;
    movzbl %al, %eax;
    addl %eax, %esi;
    decl %ebp;
    jnz 1b;
    movl %esi, %eax;
    DONE);

static void implicit_writes(void)
{
    u32 sum = 0;
    for (u32 i = 1; i <= ROUNDS; i++)
        sum += i & 0xff;
    section("what a PUSH has written");
    CHECK_EQ(RESULT(pushed), sum);
    section("what a REP STOSD has written");
    CHECK_EQ(RESULT(stored), sum);
}

/* Decodes 16 bytes at U_DATA + 200h in place, from the page's beginning, and runs them. */
USER(decode_here,
    movl $0x08080200, %edi;
    movl $4, %ecx;
1:  xorl $0x5a5a5a5a, (%edi);
    addl $4, %edi;
    loop 1b;
    movl $0x08080200, %edi;
    jmp *%edi);
USER(decoded,
    movl $3000, %esi;
    xorl %ebx, %ebx;
1:  movl %esi, %eax;
    xorl $0x5a5a5a5a, %eax;
    movb $0xe2, 0x08080200;                                    /* B8: MOV EAX, imm32 */
    movl %eax, 0x08080201;
    movb $0x99, 0x08080205;                                    /* C3: RET */
    movl $0x08080000, %eax;
    call *%eax;
    addl %eax, %ebx;
    decl %esi;
    jnz 1b;
    movl %ebx, %eax;
    DONE);

static void decoder(void)
{
    section("code that is decoded and run, another each time");
    u32 page = user_page(U_DATA, P_RW);
    memcpy((void *)page, decode_here, (size_t)(decode_here_end - decode_here));
    CHECK_EQ(RESULT(decoded), ROUNDS * (ROUNDS + 1) / 2);
}

/* A function in a page with a CPUID, which may not run on the processor itself. */
USER(calls_unfit,
    movl $0x08080000, %ebx;
    movl $3000, %ecx;
    xorl %eax, %eax;
1:  call *%ebx;
    decl %ecx;
    jnz 1b;
    DONE);
USER(unfit,
    incl %eax;
    ret;
    cpuid);

static void page_pair(void)
{
    section("two pages that call each other");
    u32 page = user_page(U_DATA, P_RW);
    memcpy((void *)page, unfit, (size_t)(unfit_end - unfit));
    CHECK_EQ(RESULT(calls_unfit), ROUNDS);
}

/* The kernel alters the function between two runs of the program, again and again. */
USER(calls_once,
    movl $0x08080000, %ebx;
    call *%ebx;
    DONE);

static void from_outside(void)
{
    section("altered by the kernel, through its own map");
    u32 page = user_page(U_DATA, P_RW);
    put_function(page, 0);
    PROGRAM(U_CODE, calls_once);
    for (u32 i = 0; i < 300; i++) {
        poke(page + 1, i);
        struct frame f = user_frame(U_CODE);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, i);
    }
    section("replaced as a whole, and back");
    static u8 saved[PAGE];
    memcpy(saved, (void *)page, PAGE);
    for (u32 i = 0; i < 20; i++) {
        struct frame f = user_frame(U_CODE);
        memset((void *)page, 0xcc, PAGE);
        CHECK_EQ(user_go(&f), V_BP);
        memcpy((void *)page, saved, PAGE);
        f = user_frame(U_CODE);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 299);
    }
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        counter();
        zero_page();
        own_code();
        implicit_writes();
        decoder();
        page_pair();
        from_outside();
        user_stop();
    }
}
