/* Breakpoints of the debug registers over hot code and data: each is reported exactly when it is met, by code that ran
 * before they were set and runs on after they are gone, at CPL 3 and 0, in one address space and in another; and code
 * that does not meet them runs as ever, which run_insn.py holds by counting. SDM vol. 3, 17.2, 17.3.1. */
#include "user.h"

const char guest_name[] = "watched";

enum { EXEC = 0, WRITE = 1, ACCESS = 3, BYTE = 0, WORD = 1, DWORD = 3, SWITCHES = 300 };
/* Of each loop. A hit under direct execution is several stops of a process, which are dear on an emulated host. */
static u32 rounds;
enum { COUNTER = U_DATA + 0x10, SUM = U_DATA + 0x20, BESIDE = U_DATA + 0x40 };

static void set_address(unsigned n, u32 v)
{
    switch (n) {
    case 0: __asm__ volatile("movl %0, %%db0" : : "r"(v)); break;
    case 1: __asm__ volatile("movl %0, %%db1" : : "r"(v)); break;
    case 2: __asm__ volatile("movl %0, %%db2" : : "r"(v)); break;
    default: __asm__ volatile("movl %0, %%db3" : : "r"(v)); break;
    }
}
static void set_dr7(u32 v) { __asm__ volatile("movl %0, %%db7" : : "r"(v | 0x400)); }
static u32 enable(unsigned n, u32 kind, u32 length) { return 2u << 2 * n | kind << (16 + 4 * n) |
        length << (18 + 4 * n); }
static void arm(unsigned n, u32 at, u32 kind, u32 length) { set_address(n, at), set_dr7(enable(n, kind, length)); }
static void disarm(void) { set_dr7(0); }

/* Of the two kinds, only the one before the instruction needs RF to go on. */
static volatile u32 hits, last_eip, last_dr6;
static bool on_debug(struct frame *f)
{
    u32 dr6, dr7;
    __asm__ volatile("movl %%db6, %0" : "=r"(dr6));
    __asm__ volatile("movl %%db7, %0" : "=r"(dr7));
    __asm__ volatile("movl %0, %%db6" : : "r"(0));
    hits++, last_eip = f->eip, last_dr6 = dr6 & 0xe00f;
    for (unsigned n = 0; n < 4; n++)
        if (dr6 >> n & 1 && !(dr7 >> (16 + 4 * n) & 3))
            f->eflags |= F_RF;
    return true;
}

USER(work,
    movl $0x08080000, %ebx;
    xorl %eax, %eax;
1:  incl 0x10(%ebx);
    .globl after_inc;
after_inc:
    addl 0x10(%ebx), %eax;
    movl %eax, 0x20(%ebx);
    .globl after_store;
after_store:
    pushl %eax;
    popl %edx;
    .globl loop_end;
loop_end:
    decl %ecx;
    jnz 1b;
    DONE);
extern const u8 after_inc[], after_store[], loop_end[];
#define AT(label) (U_CODE + (u32)(label - work))

static void run_work(u32 page, u32 want_hits)
{
    poke(page + 0x10, 0);
    hits = 0;
    struct frame f = user_frame(U_CODE);
    f.ecx = rounds;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax, rounds * (rounds + 1) / 2);
    CHECK_EQ(f.edx, f.eax);
    CHECK_EQ(peek(page + 0x20), f.eax);
    CHECK_EQ(hits, want_hits);
}

static void data(u32 page)
{
    section("data breakpoints, not met");
    run_work(page, 0);
    arm(0, BESIDE, WRITE, DWORD);                              /* in the page that is written to */
    run_work(page, 0);
    arm(1, SUM + 4, ACCESS, BYTE);
    run_work(page, 0);
    arm(2, U_DATA + PAGE + 0x10, ACCESS, DWORD);               /* in another */
    run_work(page, 0);
    section("data breakpoints, met");
    for (unsigned n = 0; n < 4; n++) {
        arm(n, SUM, WRITE, DWORD);
        run_work(page, rounds);
        CHECK_EQ(last_eip, AT(after_store));
        CHECK_EQ(last_dr6, 1u << n);
    }
    arm(0, SUM + 2, WRITE, WORD);                              /* in its second half */
    run_work(page, rounds);
    arm(0, COUNTER, ACCESS, DWORD);                            /* by the INC and by the ADD */
    run_work(page, 2 * rounds);
    arm(0, COUNTER, WRITE, DWORD);
    run_work(page, rounds);
    CHECK_EQ(last_eip, AT(after_inc));
    disarm();
    run_work(page, 0);
    section("a breakpoint on the stack");
    arm(3, U_TOP - 4, WRITE, DWORD);
    u32 top = user_frame(U_CODE).esp;
    arm(3, top - 4, WRITE, DWORD);
    run_work(page, rounds);
    arm(3, top - 4, ACCESS, DWORD);
    run_work(page, 2 * rounds);
    disarm();
    run_work(page, 0);
}

static void code(u32 page)
{
    section("code breakpoints");
    run_work(page, 0);                                         /* known code, in one piece */
    const u32 places[] = {AT(after_store), AT(after_inc), AT(loop_end), U_CODE, AT(loop_end) + 1};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        u32 once = places[i] == U_CODE;
        arm(i & 3, places[i], EXEC, 0);
        run_work(page, once ? 1 : rounds);
        CHECK_EQ(last_eip, places[i]);
        CHECK_EQ(last_dr6, 1u << (i & 3));
        disarm();
        run_work(page, 0);
    }
    arm(0, AT(after_store) + 1, EXEC, 0);                      /* POP EDX, that is */
    run_work(page, rounds);
    arm(0, AT(after_inc) + 1, EXEC, 0);                        /* inside of an instruction: never */
    run_work(page, 0);
    set_address(1, AT(loop_end)), set_address(2, SUM);
    set_dr7(enable(1, EXEC, 0) | enable(2, WRITE, DWORD));
    run_work(page, 2 * rounds);
    disarm();
    section("many places, one after another");                /* more than anybody keeps in mind */
    for (u32 i = 0; i < 40; i++) {
        arm(0, U_CODE + i, EXEC, 0);
        hits = 0;
        struct frame f = user_frame(U_CODE);
        f.ecx = rounds;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK(hits == 0 || hits == 1 || hits == rounds);
    }
    disarm();
    run_work(page, 0);
}

/* What a kernel does at each switch to a process that is debugged, and from it. */
USER(once,
    movl $0x08080000, %ebx;
    incl 0x10(%ebx);
    .globl once_middle;
once_middle:
    nop;
    DONE);
extern const u8 once_middle[];

static void switches(u32 page)
{
    section("set and taken away again and again");
    poke(page + 0x10, 0);
    for (u32 i = 0; i < SWITCHES; i++) {
        set_address(0, U_CODE + (u32)(once_middle - once));
        set_address(1, COUNTER);
        set_dr7(i % 3 ? enable(0, EXEC, 0) | enable(1, WRITE, DWORD) : 0);
        hits = 0;
        struct frame f = user_frame(U_CODE);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(hits, i % 3 ? 2 : 0);
    }
    CHECK_EQ(peek(page + 0x10), SWITCHES);
    disarm();
}

/* A linear address is watched in every address space. */
static void spaces(void)
{
    section("in another address space");
    u32 first = paging_root(), other = user_space(), page[2];
    for (int i = 0; i < 2; i++) {
        paging_use(i ? other : first);
        PROGRAM(U_CODE, work);
        page[i] = user_page(U_DATA, P_RW);
        run_work(page[i], 0);
    }
    arm(0, AT(loop_end), EXEC, 0);
    for (int i = 0; i < 4; i++) {
        paging_use(i & 1 ? other : first);
        run_work(page[i & 1], rounds);
    }
    arm(0, SUM, WRITE, DWORD);
    for (int i = 0; i < 4; i++) {
        paging_use(i & 1 ? other : first);
        run_work(page[i & 1], rounds);
    }
    disarm();
    paging_use(first);
}

/* ---- The kernel's own code. */
static u32 words[32] __attribute__((aligned(128)));

static u32 __attribute__((noinline, noclone)) add_up(u32 n)
{
    volatile u32 *w = words;
    for (u32 i = 0; i < n; i++) {
        w[1] += i;
        w[2] = w[1];
    }
    return w[2];
}

static void kernel(void)
{
    section("in the kernel");
    const u32 at[] = {0, 1, 2, 3}, want[] = {0, rounds, rounds, 0};
    for (int i = 0; i < 4; i++) {
        disarm();
        words[1] = hits = 0;
        arm(1, (u32)&words[at[i]], WRITE, DWORD);
        CHECK_EQ(add_up(rounds), rounds * (rounds - 1) / 2);
        CHECK_EQ(hits, want[i]);
    }
    arm(0, (u32)add_up, EXEC, 0);
    hits = 0;
    for (int i = 0; i < 100; i++)
        add_up(1);
    CHECK_EQ(hits, 100);
    CHECK_EQ(last_eip, (u32)add_up);
    section("instructions with memory of their own");
    u32 sp, c = 16, s = (u32)&words[8], d = (u32)&words[16];
    words[24] = 2, words[25] = SEL_KDATA;
    arm(0, (u32)&words[24], ACCESS, DWORD);
    hits = 0;
    __asm__ volatile("cli; movl %%esp, %0; movl %1, %%esp; popfl; movl %0, %%esp"
        : "=&r"(sp) : "r"(&words[24]) : "memory", "cc");
    CHECK_EQ(hits, 1);
    arm(0, (u32)&words[25], ACCESS, DWORD);
    hits = 0;
    __asm__ volatile("movl %%esp, %0; movl %1, %%esp; pop %%es; movl %0, %%esp"
        : "=&r"(sp) : "r"(&words[25]) : "memory");
    CHECK_EQ(hits, 1);
    arm(0, (u32)&words[18], WRITE, WORD);                      /* two of sixteen bytes */
    hits = 0;
    __asm__ volatile("rep movsb" : "+c"(c), "+S"(s), "+D"(d) : : "memory");
    CHECK_EQ(hits, 2);
    CHECK_EQ(c, 0);
    disarm();
}

void guest_main(void)
{
    rounds = told("tcg") ? 200 : 2000;
    on_trap(V_DB, on_debug);
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        u32 page = user_page(U_DATA, P_RW);
        user_page(U_DATA + PAGE, P_RW);
        PROGRAM(U_CODE, work);
        data(page);
        code(page);
        PROGRAM(U_CODE, once);
        switches(page);
        spaces();
        kernel();
        user_stop();
    }
}
