/* User code as a kernel has it, in and out by every door: what a monitor that runs it on the processor itself must not
 * change. Registers and flags both ways, system calls, exceptions with their exact EIP, debug traps, the instructions
 * that show the privileged state without trapping, the timer. SDM vol. 3, chapter 6; vol. 2, the instructions. */
#include "user.h"

const char guest_name[] = "direct";

enum { ARITH = F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF };
enum { TLS = TEST_SEL(0) | 3, SHORT = TEST_SEL(1) | 3 };

static u32 data_page(void) { return (u32)pte_get(U_DATA) & ~0xfffu; }

/* ---- Registers, there and back. */
static struct frame call_frame;
static u32 calls;

static bool scramble(struct frame *f)
{
    call_frame = *f;
    calls++;
    f->eax += 1, f->ebx ^= 0x55555555, f->ecx = ~f->ecx, f->edx = -f->edx, f->esi += f->edi, f->edi -= f->ebp,
        f->ebp *= 3;
    return true;
}

USER(one_call,
    int $0x80;
    DONE);

static void registers(void)
{
    section("registers");
    on_trap(0x80, scramble);
    for (u32 i = 0; i < 50; i++) {
        struct frame f = user_frame(U_CODE), at;
        PROGRAM(U_CODE, one_call);
        f.eax = i * 0x01010101 + 1, f.ebx = i * 0x9e3779b9, f.ecx = 0x80000000 + i, f.edx = i << 24, f.esi = ~i,
            f.edi = i * 77, f.ebp = 0xffffffff - i;
        at = f;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(call_frame.eip, U_CODE + 2);
        CHECK_EQ(call_frame.vector, 0x80);
        CHECK_EQ(memcmp(&call_frame, &at, 4 * 3) | memcmp(&call_frame.ebx, &at.ebx, 4 * 8), 0);
        CHECK_EQ(call_frame.esp, at.esp);
        CHECK_EQ(call_frame.cs & 0xffff, SEL_UCODE);
        CHECK_EQ(call_frame.ss & 0xffff, SEL_UDATA);
        CHECK_EQ(call_frame.eflags, F_IF | 2);
        scramble(&at);
        CHECK_EQ(memcmp(&f, &at, 4 * 3) | memcmp(&f.ebx, &at.ebx, 4 * 8), 0);
        CHECK_EQ(f.esp, at.esp);
        CHECK_EQ(f.eip, U_CODE + 4);
    }
    on_trap(0x80, NULL);
}

/* ---- Flags: as the frame gives them, as PUSHF shows them, as the next frame has them. */
static u32 next_flags;
static bool set_flags(struct frame *f)
{
    call_frame = *f;
    f->eflags = next_flags;
    return true;
}

USER(show_flags,
    pushfl;
    popl %eax;
    int $0x80;
    pushfl;
    popl %ebx;
    DONE);
USER(own_flags,
    pushl %eax;
    popfl;
    pushfl;
    popl %ebx;
    DONE);
USER(id_only,
    pushfl;
    orl $0x200000, (%esp);
    popfl;
    pushfl;
    popl %eax;
    int $0x80;
    pushfl;
    popl %ebx;
    DONE);

static u32 pattern(u32 i)
{
    static const u32 bit[] = {F_CF, F_PF, F_AF, F_ZF, F_SF, F_OF, F_DF};
    u32 v = F_IF | 2;
    for (u32 k = 0; k < 7; k++)
        v |= i >> k & 1 ? bit[k] : 0;
    return v;
}

static void flags(void)
{
    struct frame f;

    section("flags");
    on_trap(0x80, set_flags);
    PROGRAM(U_CODE, show_flags);
    for (u32 i = 0; i < 128; i += 3) {
        const u32 more = i % 2 ? F_ID : 0;
        f = user_frame(U_CODE);
        f.eflags = pattern(i) | more;
        next_flags = pattern(~i) | (more ^ F_ID);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, pattern(i) | more);
        CHECK_EQ(call_frame.eflags, pattern(i) | more);
        CHECK_EQ(f.ebx, next_flags);
        CHECK_EQ(f.eflags, next_flags);
    }
    section("flags set by POPF");
    static const u32 sets[] = {0, F_ID, F_NT, F_AC, F_NT | F_ID | F_DF, F_AC | F_CF | F_OF, F_NT | F_AC | F_ID |
        F_SF | F_ZF};
    PROGRAM(U_CODE, own_flags);
    for (u32 i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        f = user_frame(U_CODE);
        f.eax = sets[i] | F_IOPL | 0x8000;                     /* without privilege IF and IOPL stay */
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.ebx, sets[i] | F_IF | 2);
        CHECK_EQ(f.eflags, sets[i] | F_IF | 2);
    }
    section("ID set by one program is not set in the next");
    next_flags = F_IF | 2;
    CHECK_EQ(RUN(id_only, 0, &f), U_DONE);
    CHECK_EQ(f.eax, F_ID | F_IF | (f.eax & ARITH) | 2);
    CHECK_EQ(call_frame.eflags & F_ID, F_ID);
    CHECK_EQ(f.ebx, F_IF | 2);
    on_trap(0x80, NULL);
}

/* ---- System calls. */
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
/* The SYSENTER is in the page behind, as in a kernel's vsyscall page: called by code that may run directly. */
USER(loop_sysenter,
    movl $7, %ebx;
    movl $200, %esi;
1:  call loop_sysenter + 0x1000;
    decl %esi;
    jnz 1b;
    DONE);
USER(vsyscall,
    pushl %ecx;
    pushl %edx;
    pushl %ebp;
    movl %esp, %ecx;
    movl $(0x08049000 + 1f - vsyscall), %edx;
    sysenter;
1:  popl %ebp;
    popl %edx;
    popl %ecx;
    ret);
/* Entered by SYSENTER: a frame as INT 82h would leave it, or back at once. */
extern u8 sysenter_slow[], sysenter_fast[];
__asm__(".text\nsysenter_slow: pushl $0x23; pushl %ecx; pushfl; orl $0x200, (%esp); pushl $0x1b; pushl %edx; pushl $0; "
        "pushl $0x82; jmp trap_common\n"
        "sysenter_fast: incl calls; leal (%eax,%eax,2), %eax; addl %ebx, %eax; sti; sysexit\n"
            ".globl sysenter_slow, sysenter_fast\n");

static u32 called_often(u32 x, u32 n)
{
    for (u32 i = 0; i < n; i++)
        x = x * 3 + 7;
    return x;
}

static void system_calls(void)
{
    struct frame f;

    section("INT 80h");
    calls = 0;
    on_trap(0x80, call);
    CHECK_EQ(RUN(loop_calls, 5, &f), U_DONE);
    CHECK_EQ(calls, 1000);
    CHECK_EQ(f.eax, called_often(5, 1000));
    CHECK_EQ(f.eip, U_CODE + (u32)(loop_calls_end - loop_calls));
    section("SYSENTER");
    PROGRAM(U_CODE + PAGE, vsyscall);
    on_trap(0x82, call);
    for (int fast = 0; fast < 2; fast++) {
        calls = 0;
        wrmsr(0x174, SEL_KCODE), wrmsr(0x175, (u32)trap_stack_top),
            wrmsr(0x176, (u32)(fast ? sysenter_fast : sysenter_slow));
        CHECK_EQ(RUN(loop_sysenter, 5, &f), U_DONE);
        CHECK_EQ(calls, 200);
        CHECK_EQ(f.eax, called_often(5, 200));
        CHECK_EQ(f.eflags & F_IF, F_IF);
    }
    on_trap(0x80, NULL);
    on_trap(0x82, NULL);
}

/* ---- Exceptions: vector, error code, EIP; nothing else of the state changes. */
#define TRAPPING(name, before, insn) \
    __asm__(".pushsection .text.user\n.balign 16\n" #name ":\n" before "\n" #name "_at:\n" insn "\n" \
        #name "_behind:\nnop\nnop\nDONE\n" \
            #name "_end:\n.globl " #name ", " #name "_at, " #name "_behind, " #name "_end\n.popsection\n");            \
    extern const u8 name[], name##_at[], name##_behind[], name##_end[]
#define UNMASK_X87 "pushl $0x0340; fninit; fldcw (%esp); popl %eax; "
#define UNMASK_SSE "pushl $0x1000; ldmxcsr (%esp); popl %eax; "

TRAPPING(de, "xorl %ecx, %ecx; movl $9, %eax", "divl %ecx");
TRAPPING(de_big, "movl $9, %edx; movl $1, %ecx", "divl %ecx");
TRAPPING(de_aam, "", ".byte 0xd4, 0");
TRAPPING(ud2, "", "ud2");
TRAPPING(ud_lock, "", ".byte 0xf0, 0x90");
TRAPPING(ud_ff, "", ".byte 0xff, 0xff");
TRAPPING(bp, "", "int3");
TRAPPING(bp_long, "", ".byte 0xcd, 3");
TRAPPING(bp_prefix, "", ".byte 0x66, 0xcc");
TRAPPING(of, "movb $127, %al; addb $1, %al", ".byte 0xce");
TRAPPING(of_long, "", ".byte 0xcd, 4");
TRAPPING(no_of, "xorl %eax, %eax", ".byte 0xce; ud2");
TRAPPING(br, "movl $5, %eax", "boundl %eax, 0x08080010");
TRAPPING(gp_hlt, "", "hlt");
TRAPPING(gp_cli, "", "cli");
TRAPPING(gp_sti, "", "sti");
TRAPPING(gp_in, "", "inb $0x60, %al");
TRAPPING(gp_out, "", "outl %eax, %dx");
TRAPPING(gp_ins, "movl $0x08080000, %edi", "insb");
TRAPPING(gp_outs, "movl $0x08080000, %esi; movl $9, %ecx", "rep outsl");
TRAPPING(gp_cr0, "", "movl %cr0, %eax");
TRAPPING(gp_cr3, "", "movl %eax, %cr3");
TRAPPING(gp_dr7, "", "movl %db7, %eax");
TRAPPING(gp_rdmsr, "", "rdmsr");
TRAPPING(gp_wrmsr, "", "wrmsr");
TRAPPING(gp_clts, "", "clts");
TRAPPING(gp_invlpg, "", "invlpg (%eax)");
TRAPPING(gp_wbinvd, "", "wbinvd");
TRAPPING(gp_lgdt, "movl $0x08080000, %eax", "lgdt (%eax)");
TRAPPING(gp_lidt, "movl $0x08080000, %eax", "lidt (%eax)");
TRAPPING(gp_lmsw, "", "lmsw %ax");
TRAPPING(gp_ltr, "", "ltr %ax");
TRAPPING(gp_lldt, "", "lldt %ax");
TRAPPING(gp_sysexit, "", "sysexit");
TRAPPING(gp_int21, "", "int $0x21");
TRAPPING(gp_int0e, "", "int $0x0e");
TRAPPING(gp_int1, "", ".byte 0xcd, 1");
TRAPPING(gp_intff, "", "int $0xff");
TRAPPING(gp_int80, "", "int $0x80");            /* with a gate of DPL 0 */
TRAPPING(int_83, "", "int $0x83");              /* DPL 3 */
TRAPPING(gp_movaps, "movl $0x08080008, %eax", "movaps (%eax), %xmm0");
TRAPPING(gp_sreg, "movl $0x10, %eax", "movl %eax, %es");
TRAPPING(gp_sreg_far, "movl $0x7ff8, %eax", "movl %eax, %fs");
TRAPPING(gp_pop, "pushl $0x10", "popl %ds");
TRAPPING(gp_jmpf, "", "ljmp $0x10, $0");
TRAPPING(gp_iret, "pushl $2; pushl $8; pushl $0", "iretl");
TRAPPING(gp_short, "xorl %eax, %eax; movl $0x1000, %ebx", "movl %fs:(%ebx), %eax");
TRAPPING(gp_readonly, "xorl %eax, %eax", "movl %eax, %gs:(%eax)");
TRAPPING(gp_null, "xorl %eax, %eax; movl %eax, %gs", "movl %gs:(%eax), %eax");
TRAPPING(mf, UNMASK_X87 "fld1; fldz; fdivrp", "fwait");
TRAPPING(mf_next, UNMASK_X87 "fld1; fldz; fdivrp; movl $1, %eax", "fld1");
TRAPPING(xm, UNMASK_SSE "xorps %xmm1, %xmm1; movl $0x3f800000, %eax; movd %eax, %xmm0", "divss %xmm1, %xmm0");
TRAPPING(ac, "pushfl; orl $0x40000, (%esp); popfl; movl $0x08080001, %ebx", "movl (%ebx), %eax");
TRAPPING(ac_word, "movl $0x08080003, %ebx", "movw (%ebx), %ax");
TRAPPING(pf_read, "movl $0x30000004, %ebx", "movl (%ebx), %eax");
TRAPPING(pf_write, "movl $0x30000004, %ebx", "movl %eax, (%ebx)");
TRAPPING(pf_rmw, "movl $0x30000ffc, %ebx", "lock addl %eax, (%ebx)");
TRAPPING(pf_kernel, "movl $0x00100000, %ebx", "movl (%ebx), %eax");
TRAPPING(pf_kernel_write, "movl $0x00100000, %ebx", "movl %eax, (%ebx)");
TRAPPING(pf_push, "movl $0x30001000, %esp", "pushl %eax");
TRAPPING(pf_pusha, "movl $0x08080010, %esp", "pushal");
TRAPPING(pf_call, "movl $0x30001000, %esp", "call 1f; 1:");
TRAPPING(pf_across, "movl $0x08080ffe, %ebx", "movl (%ebx), %eax");
TRAPPING(pf_across_write, "movl $0x08080ffd, %ebx", "movl %eax, (%ebx)");
TRAPPING(pf_high, "movl $0xfffff000, %ebx", "movl (%ebx), %eax");
TRAPPING(pf_zero, "xorl %ebx, %ebx", "movl (%ebx), %eax");

enum where { AT, BEHIND };
static const struct exception {
    const char *name;
    const u8 *code, *at, *behind, *end;
    u32 vector, error;
    enum where where;
    u32 cr2;
    const char *unless; /* told so, it is left out */
    u32 esp;            /* where the program has moved it; 0: not at all */
} exceptions[] = {
#define E(name, vector, error, where) {#name, name, name##_at, name##_behind, name##_end, vector, error, where, 0, \
    NULL, 0}
#define PF(name, error, cr2) {#name, name, name##_at, name##_behind, name##_end, V_PF, error, AT, cr2, NULL, 0}
#define UNLESS(name, vector, error, where, what) {#name, name, name##_at, name##_behind, name##_end, vector, error, \
    where, 0, what, 0}
#define MOVED(name, vector, error, cr2, esp) {#name, name, name##_at, name##_behind, name##_end, vector, error, AT, \
    cr2, NULL, esp}
    E(de, V_DE, 0, AT), E(de_big, V_DE, 0, AT), E(de_aam, V_DE, 0, AT), E(ud2, V_UD, 0, AT), E(ud_lock, V_UD, 0, AT),
        E(ud_ff, V_UD, 0, AT),
    E(bp, V_BP, 0, BEHIND), E(bp_long, V_BP, 0, BEHIND), E(bp_prefix, V_BP, 0, BEHIND), E(of, V_OF, 0, BEHIND),
        E(of_long, V_OF, 0, BEHIND),
    E(br, V_BR, 0, AT), E(gp_hlt, V_GP, 0, AT), E(gp_cli, V_GP, 0, AT), E(gp_sti, V_GP, 0, AT), E(gp_in, V_GP, 0, AT),
        E(gp_out, V_GP, 0, AT),
    E(gp_ins, V_GP, 0, AT), E(gp_outs, V_GP, 0, AT), E(gp_cr0, V_GP, 0, AT), E(gp_cr3, V_GP, 0, AT),
        E(gp_dr7, V_GP, 0, AT),
    E(gp_rdmsr, V_GP, 0, AT), E(gp_wrmsr, V_GP, 0, AT), E(gp_clts, V_GP, 0, AT), E(gp_invlpg, V_GP, 0, AT),
        E(gp_wbinvd, V_GP, 0, AT),
    E(gp_lgdt, V_GP, 0, AT), E(gp_lidt, V_GP, 0, AT), E(gp_lmsw, V_GP, 0, AT), E(gp_ltr, V_GP, 0, AT),
        E(gp_lldt, V_GP, 0, AT),
    E(gp_sysexit, V_GP, 0, AT), E(gp_int21, V_GP, 0x21 * 8 + 2, AT), E(gp_int0e, V_GP, 0x0e * 8 + 2, AT),
        E(gp_int1, V_GP, 1 * 8 + 2, AT),
    E(gp_intff, V_GP, 0xff * 8 + 2, AT), E(gp_int80, V_GP, 0x80 * 8 + 2, AT), E(int_83, 0x83, 0, BEHIND),
        E(gp_movaps, V_GP, 0, AT),
    E(gp_sreg, V_GP, 0x10, AT), E(gp_sreg_far, V_GP, 0x7ff8, AT), MOVED(gp_pop, V_GP, 0x10, 0, U_TOP - 20),
        E(gp_jmpf, V_GP, 0x10, AT),
    MOVED(gp_iret, V_GP, 8, 0, U_TOP - 28),
    UNLESS(gp_short, V_GP, 0, AT, "tcg"), UNLESS(gp_readonly, V_GP, 0, AT, "tcg"),
    UNLESS(gp_null, V_GP, 0, AT, "tcg"), E(mf, V_MF, 0, AT), UNLESS(mf_next, V_MF, 0, AT, "tcg"),
        UNLESS(xm, V_XM, 0, AT, "tcg"),
    UNLESS(ac, V_AC, 0, AT, "tcg"),
    PF(pf_read, 4, 0x30000004), PF(pf_write, 6, 0x30000004), PF(pf_rmw, 6, 0x30000ffc), PF(pf_kernel, 5, 0x100000),
        PF(pf_kernel_write, 7, 0x100000),
    MOVED(pf_push, V_PF, 6, 0x30000ffc, 0x30001000), MOVED(pf_call, V_PF, 6, 0x30000ffc, 0x30001000),
        PF(pf_across, 4, 0x08081000),
    PF(pf_across_write, 6, 0x08081000), PF(pf_high, 4, 0xfffff000), PF(pf_zero, 5, 0),
};

/* ESI, EDI, EBP and the stack pointer are not what these programs use, but for those of strings and stacks. */
static void check_exception(const struct exception *e, bool often)
{
    struct frame f = user_frame(U_CODE);

    f.esi = 0x51515151, f.edi = 0xd1d1d1d1, f.ebp = 0xb9b9b9b9, f.edx = 0xdadada, f.fs = SHORT, f.gs = TLS;
    u32 before = f.esp;
    user_program(U_CODE, e->code, e->end);
    u32 vector = user_go(&f), want = U_CODE + (u32)((e->where == AT ? e->at : e->behind) - e->code);
    bool right = vector == e->vector && f.error == e->error && f.eip == want &&
        (vector != V_PF || trap.cr2 == e->cr2) && f.ebp == 0xb9b9b9b9 &&
                 (f.esi == 0x51515151 || f.esi == U_DATA) && (f.edi == 0xd1d1d1d1 || f.edi == U_DATA) &&
                     (f.eflags & (F_IF | F_IOPL | F_TF)) == F_IF &&
                 f.esp == (e->esp ? e->esp : before);
    CHECK(right);
    if (!right)
        print("  %s%s: trap %u error 0x%x cr2 0x%x, want %u 0x%x 0x%x; "
            "eip 0x%x (want 0x%x) esp 0x%x eflags 0x%x esi 0x%x edi 0x%x ebp 0x%x\n", e->name,
              often ? ", again" : "", vector, f.error, trap.cr2, e->vector, e->error, e->cr2, f.eip, want, f.esp,
                  f.eflags, f.esi, f.edi, f.ebp);
}

static void set_up_segments(void)
{
    gdt[TLS / 8] = descriptor(U_DATA, 0xfff, SEG_DATA_RO | SEG_DPL3, SEG_BIG);
    gdt[SHORT / 8] = descriptor(U_DATA, 0xfff, SEG_DATA | SEG_DPL3, SEG_BIG);
}

static void exceptions_of_all_kinds(void)
{
    struct frame f;

    section("exceptions");
    set_up_segments();
    pte_set(U_DATA + PAGE, 0);
    pte_set(0x30000000, 0);
    invlpg(U_DATA + PAGE);
    idt_set(0x80, gate(SEL_KCODE, idt_stub(0x80), 0x8e, 0));
    idt_set(0x83, gate(SEL_KCODE, idt_stub(0x83), 0xee, 0));
    for (int round = 0; round < 2; round++)
        for (u32 i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++)
            if (!exceptions[i].unless || !told(exceptions[i].unless))
                check_exception(&exceptions[i], round);
    idt_set(0x80, gate(SEL_KCODE, idt_stub(0x80), 0xee, 0));
    CHECK_EQ(RUN(no_of, 0, &f), V_UD);                         /* INTO without OF does nothing */
    section("PUSHA that faults in its middle leaves ESP");
    pte_set(U_DATA - PAGE, 0);
    invlpg(U_DATA - PAGE);
    CHECK_EQ(RUN(pf_pusha, 0, &f), V_PF);
    CHECK_EQ(f.esp, U_DATA + 0x10);
    CHECK_EQ(f.error, 6);
    CHECK_EQ(trap.cr2, U_DATA - 4);
    if (!told("tcg")) {
        section("#AC, by the kernel's IRET");
        PROGRAM(U_CODE, ac_word);
        f = user_frame(U_CODE);
        f.eflags |= F_AC;
        CHECK_EQ(user_go(&f), V_AC);
        CHECK_EQ(f.eip, U_CODE + (u32)(ac_word_at - ac_word));
        write_cr0(read_cr0() & ~(u32)CR0_AM);
        CHECK_EQ(RUN(ac, 0, &f), U_DONE);                      /* without AM there is none */
        write_cr0(read_cr0() | CR0_AM);
    }
}

/* ---- Fetches that fault. */
USER(jump_away,
    jmp *%eax);
USER(nops,
    nop; nop; nop; nop);
USER(move_long,
    movl $0x12345678, %eax;
    DONE);
USER(show_cpuid,
    cpuid;
    DONE);

enum { CODE2 = 0x10000000 };
static bool nx;

static void fetch_fault(u32 at, u32 cr2, u32 error)
{
    struct frame f = user_frame(at);

    CHECK_EQ(user_go(&f), V_PF);
    CHECK_EQ(f.eip, at);
    CHECK_EQ(trap.cr2, cr2);
    CHECK_EQ(f.error, error | (nx ? 0x10 : 0));
}

static void fetches(void)
{
    struct frame f;
    u32 edge = CODE2 + PAGE - 2;

    section("jumps to nowhere");
    pte_set(CODE2, 0), pte_set(CODE2 + PAGE, 0);
    invlpg(CODE2), invlpg(CODE2 + PAGE);
    fetch_fault(0x30000004, 0x30000004, 4);
    fetch_fault(0x100000, 0x100000, 5);
    fetch_fault(0xfffffffe, 0xfffffffe, 4);
    f = user_frame(U_CODE);
    CHECK_EQ(RUN(jump_away, 0x30000777, &f), V_PF);
    CHECK_EQ(f.eip, 0x30000777);
    CHECK_EQ(trap.cr2, 0x30000777);
    section("falling off a page");
    user_page(CODE2, P_RW);
    user_load(CODE2 + PAGE - 4, nops, nops_end);
    f = user_frame(CODE2 + PAGE - 4);
    CHECK_EQ(user_go(&f), V_PF);
    CHECK_EQ(f.eip, CODE2 + PAGE);
    CHECK_EQ(trap.cr2, CODE2 + PAGE);
    section("an instruction across two pages");
    user_load(edge, move_long, move_long + 2);
    fetch_fault(edge, CODE2 + PAGE, 4);
    user_page(CODE2 + PAGE, P_RW);
    user_load(edge, move_long, move_long_end);
    for (int i = 0; i < 3; i++) {
        f = user_frame(edge);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 0x12345678);
    }
    pte_set(CODE2 + PAGE, 0);
    invlpg(CODE2 + PAGE);
    fetch_fault(edge, CODE2 + PAGE, 4);
    section("a sensitive one across two pages");
    user_page(CODE2 + PAGE, P_RW);
    user_load(CODE2 + PAGE - 1, show_cpuid, show_cpuid_end);
    u32 want[4];
    cpuid(0, want);
    for (int i = 0; i < 3; i++) {
        f = user_frame(CODE2 + PAGE - 1);
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.ebx, want[1]);
        CHECK_EQ(f.ecx, want[2]);
    }
    if (nx) {
        section("no-execute");
        u32 page = user_page(CODE2, P_RW);
        user_load(CODE2, move_long, move_long_end);
        f = user_frame(CODE2);
        CHECK_EQ(user_go(&f), U_DONE);
        pte_set(CODE2, (page | P_RW) | PTE_NX);
        invlpg(CODE2);
        fetch_fault(CODE2, CODE2, 5);
        fetch_fault(CODE2, CODE2, 5);
        pte_set(CODE2, page | P_RW);
        invlpg(CODE2);
        f = user_frame(CODE2);
        CHECK_EQ(user_go(&f), U_DONE);
    }
}

/* ---- Debug traps. */
enum { DR6_BS = 1 << 14 };
static inline u32 read_dr6(void) { u32 v; __asm__ volatile("movl %%db6, %0" : "=r"(v)); return v; }
static inline void write_dr(unsigned n, u32 v)
{
    switch (n) {
    case 0: __asm__ volatile("movl %0, %%db0" : : "r"(v)); break;
    case 6: __asm__ volatile("movl %0, %%db6" : : "r"(v)); break;
    default: __asm__ volatile("movl %0, %%db7" : : "r"(v)); break;
    }
}

static u32 steps, step_eip[16], step_dr6;
static bool on_step(struct frame *f)
{
    if (steps < 16)
        step_eip[steps] = f->eip;
    steps++;
    step_dr6 = read_dr6();
    write_dr(6, 0);
    if (steps > 100)
        f->eflags &= ~(u32)F_TF;
    return true;
}

USER(popf_tf,
    pushfl;
    orl $0x100, (%esp);
    popfl;
    nop;
popf_tf_1:
    jmp 1f;
    nop;
1:
popf_tf_2:
    int $0x80;
popf_tf_3:
    movl $5, %eax;
popf_tf_4:
    pushfl;
popf_tf_5:
    DONE);
extern const u8 popf_tf_1[], popf_tf_2[], popf_tf_3[], popf_tf_4[], popf_tf_5[];
USER(icebp,
    nop;
    .byte 0xf1;
    nop;
    DONE);
USER(store_twice,
    movl $3, %ecx;
1:  movl %ecx, 0x08080100;
store_twice_1:
    movl %ecx, 0x08080104;
    loop 1b;
store_twice_2:
    DONE);
extern const u8 store_twice_1[], store_twice_2[];

static bool keep(struct frame *f)
{
    call_frame = *f;
    return true;
}

static void debug_traps(void)
{
    struct frame f;

    section("single steps, by POPF");
    on_trap(V_DB, on_step);
    on_trap(0x80, keep);
    for (int i = 0; i < 3; i++) {
        steps = 0;
        CHECK_EQ(RUN(popf_tf, 0, &f), U_DONE);
        CHECK_EQ(steps, 4);                                    /* none after INT 80h itself */
        CHECK_EQ(step_eip[0], U_CODE + (u32)(popf_tf_1 - popf_tf));
        CHECK_EQ(step_eip[1], U_CODE + (u32)(popf_tf_2 - popf_tf));
        CHECK_EQ(step_eip[2], U_CODE + (u32)(popf_tf_4 - popf_tf));
        CHECK_EQ(step_eip[3], U_CODE + (u32)(popf_tf_5 - popf_tf));
        CHECK_EQ(call_frame.eip, U_CODE + (u32)(popf_tf_3 - popf_tf));
        CHECK_EQ(call_frame.eflags & F_TF, F_TF);
        CHECK_EQ(step_dr6 & 0xe00f, DR6_BS);
    }
    section("single steps, by the kernel's IRET");
    for (int i = 0; i < 3; i++) {
        steps = 0;
        PROGRAM(U_CODE, move_long);
        f = user_frame(U_CODE);
        f.eflags |= F_TF;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(steps, 1);
        CHECK_EQ(step_eip[0], U_CODE + 5);
    }
    section("INT1");
    if (!told("tcg")) {
        steps = 0;
        CHECK_EQ(RUN(icebp, 0, &f), U_DONE);
        CHECK_EQ(steps, 1);
        CHECK_EQ(step_eip[0], U_CODE + 2);
        CHECK_EQ(step_dr6 & 0xe00f, 0);
    }
    section("breakpoints");
    write_dr(0, U_DATA + 0x100);
    write_dr(7, 0x402 | 1 << 16 | 3 << 18);                    /* DR0: writes of four bytes */
    steps = 0;
    CHECK_EQ(RUN(store_twice, 0, &f), U_DONE);
    CHECK_EQ(steps, 3);
    CHECK_EQ(step_eip[2], U_CODE + (u32)(store_twice_1 - store_twice));
    CHECK_EQ(step_dr6 & 0xe00f, 1);
    write_dr(7, 0x400);
    steps = 0;
    CHECK_EQ(RUN(store_twice, 0, &f), U_DONE);
    CHECK_EQ(steps, 0);
    write_dr(0, U_CODE + (u32)(store_twice_2 - store_twice));
    /* execution: before the instruction, so it is told once and ended */
    write_dr(7, 0x402);
    on_trap(V_DB, NULL);
    CHECK_EQ(RUN(store_twice, 0, &f), V_DB);
    CHECK_EQ(f.eip, U_CODE + (u32)(store_twice_2 - store_twice));
    write_dr(7, 0x400);
    on_trap(0x80, NULL);
}

/* ---- What shows the privileged state without trapping: as the kernel sees it. The page that has it is called from one
 * that has not. */
USER(call_behind,
    movl $5, %esi;
1:  call call_behind + 0x1000;
    decl %esi;
    jnz 1b;
    DONE);
#define SENSITIVE(name, ...)                                                                               \
    USER(name, movl $0x08080200, %edi; xorl %eax, %eax; xorl %edx, %edx; __VA_ARGS__; movl %eax, 16(%edi); \
         movl %edx, 20(%edi); ret)
SENSITIVE(see_sgdt, sgdt (%edi));
SENSITIVE(see_sidt, sidt (%edi));
SENSITIVE(see_sldt, sldt %eax);
SENSITIVE(see_str, str %eax);
SENSITIVE(see_smsw, smsw %eax);
SENSITIVE(see_cs, movl %cs, %eax; pushl %cs; popl %edx);
SENSITIVE(see_ds, movl %ds, %eax; pushl %ds; popl %edx);
SENSITIVE(see_es, movl %es, %eax; pushl %es; popl %edx);
SENSITIVE(see_fs, movl %fs, %eax; pushl %fs; popl %edx);
SENSITIVE(see_gs, movl %gs, %eax; pushl %gs; popl %edx);
SENSITIVE(see_ss, movl %ss, %eax; pushl %ss; popl %edx);
SENSITIVE(see_lar, movl $0x43, %ecx; larl %ecx, %eax; andl $0xf0ff00, %eax; lsll %ecx, %edx);
SENSITIVE(see_lar_ucode, movl $0x1b, %ecx; larl %ecx, %eax; andl $0xf0ff00, %eax; lsll %ecx, %edx);
SENSITIVE(see_lar_kernel, movl $0x08, %ecx; movl $3, %eax; larl %ecx, %eax; setz %dl);
SENSITIVE(see_verr, movl $0x43, %ecx; verr %cx; setz %al; verw %cx; setz %dl);
SENSITIVE(see_verr_tss, movl $0x28, %ecx; verr %cx; setz %al; verw %cx; setz %dl);
SENSITIVE(see_arpl, movl $0x40, %eax; movl $3, %ecx; arpl %cx, %ax; setz %dl);
SENSITIVE(see_lcall, lcall $0x1b, $(0x08049000 + 1f - see_lcall); jmp 2f; 1: movl 4(%esp), %eax; incl %edx; lret; 2:);
SENSITIVE(see_iret, pushfl; pushl $0x1b; pushl $(0x08049000 + 1f - see_iret); iretl; ud2; 1: incl %eax);
SENSITIVE(see_lds, movl $0x11223344, (%edi); movl $0x43, 4(%edi); lgs (%edi), %eax; movl %gs:0x200, %edx);
SENSITIVE(see_les, movl $0x11223344, (%edi); movl $0x23, 4(%edi); les (%edi), %eax; movl %es, %edx);
SENSITIVE(see_null, xorl %ecx, %ecx; movl %ecx, %gs; movl %gs, %eax; movl $0x43, %ecx; movl %ecx, %gs; movl %gs, %edx);
SENSITIVE(see_base, movl $0x77, 0x300(%edi); movl $0x43, %ecx; movl %ecx, %fs; movl %fs:0x500, %eax; movl $0x23, %ecx;
     movl %ecx, %fs);
SENSITIVE(see_cpuid, movl $1, %eax; pushl %ebx; cpuid; popl %ebx);
SENSITIVE(see_cpuid_0, pushl %ebx; cpuid; movl %ebx, %edx; popl %ebx);

static void sees_(const char *name, const u8 *code, const u8 *end, u32 eax, u32 edx, u32 word0, u32 word1)
{
    struct frame f = user_frame(U_CODE);
    u32 at = data_page() + 0x200;

    poke(at, 0), poke(at + 4, 0);
    PROGRAM(U_CODE, call_behind);
    user_program(U_CODE + PAGE, code, end);
    f.fs = f.gs = TEST_SEL(0) | 3;
    u32 vector = user_go(&f);
    bool right = vector == U_DONE && peek(at + 16) == eax && peek(at + 20) == edx && peek(at) == word0 &&
        peek(at + 4) == word1;
    CHECK(right);
    if (!right)
        print("  %s: trap %u error 0x%x eip 0x%x; eax 0x%x edx 0x%x memory 0x%x 0x%x, want 0x%x 0x%x 0x%x 0x%x\n",
            name, vector, f.error, f.eip,
              peek(at + 16), peek(at + 20), peek(at), peek(at + 4), eax, edx, word0, word1);
}
#define SEES(name, eax, edx) sees_(#name, name, name##_end, eax, edx, 0, 0)
#define SEES4(name, eax, edx, word0, word1) sees_(#name, name, name##_end, eax, edx, word0, word1)

static void sensitive(void)
{
    u32 r[4], smsw;

    section("what user code can see");
    gdt[TLS / 8] = descriptor(U_DATA, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    __asm__ volatile("smsw %0" : "=r"(smsw));
    SEES4(see_sgdt, 0, 0, (u32)gdt << 16 | (sizeof(gdt) - 1), (u32)gdt >> 16);
    SEES4(see_sidt, 0, 0, (u32)idt << 16 | (sizeof(idt) - 1), (u32)idt >> 16);
    SEES(see_sldt, 0, 0);
    SEES(see_str, SEL_TSS, 0);
    SEES(see_smsw, smsw, 0);
    SEES(see_cs, SEL_UCODE, SEL_UCODE);
    SEES(see_ds, SEL_UDATA, SEL_UDATA);
    SEES(see_es, SEL_UDATA, SEL_UDATA);
    SEES(see_fs, TLS, TLS);
    SEES(see_gs, TLS, TLS);
    SEES(see_ss, SEL_UDATA, SEL_UDATA);
    SEES(see_lar, 0xc0f300, 0xffffffff);
    SEES(see_lar_ucode, 0xc0fb00, 0xffffffff);
    SEES(see_lar_kernel, 3, 0);
    SEES(see_verr, 1, 1);
    SEES(see_verr_tss, 0, 0);
    SEES(see_arpl, 0x43, 1);
    SEES(see_lcall, SEL_UCODE, 1);
    SEES(see_iret, 1, 0);
    SEES4(see_lds, 0x11223344, 0x11223344, 0x11223344, 0x43);
    SEES4(see_les, 0x11223344, SEL_UDATA, 0x11223344, 0x23);
    SEES(see_null, 0, TLS);
    SEES(see_base, 0x77, 0);
    cpuid(1, r);
    SEES(see_cpuid, r[0], r[3]);
    cpuid(0, r);
    SEES(see_cpuid_0, r[0], r[1]);
}

/* ---- A page with sensitive instructions in the way of others: it shows its own bytes to whoever reads it, is written
 * to like others, and goes on as it is then. F3 before BSF and BSR means nothing to a processor without TZCNT and
 * LZCNT. */
USER(pays,                                     /* computes for some 50 ms: whatever rested has been forgotten */
    rdtsc;
    movl %eax, %esi;
1:  movl $1000, %ecx;
2:  decl %ecx;
    jnz 2b;
    rdtsc;
    subl %esi, %eax;
    cmpl $150000000, %eax;
    jb 1b;
    DONE);
USER(cpuid_in_a_loop,
    xorl %edi, %edi;
1:  pushl %ebx;
    xorl %eax, %eax;
    cpuid;
    addl %eax, %edi;
    popl %ebx;
    decl %ebx;
    jnz 1b;
    movl %edi, %eax;
    DONE);
USER(sum_of_itself,                                            /* EBX: where it is; ESI: its length */
    pushl %ebx;
    xorl %eax, %eax;
    cpuid;
    popl %ebx;
    movl %esi, %ecx;
    pushl %esi;
    movl %ebx, %esi;
    movl $0x08080000, %edi;
    rep movsb;
    popl %esi;
    xorl %eax, %eax;
1:  movzbl -1(%ebx, %esi), %edx;
    addl %edx, %eax;
    decl %esi;
    jnz 1b;
    DONE);
USER(patches_a_call,                                           /* EBX: what it calls; ESI: what it writes there then */
    pushl %ebx;
    call *%ebx;
    popl %ebx;
    movl %esi, (%ebx);
    jmp 1f;
1:  movl %eax, %ebp;
    movl $7, %eax;
    call *%ebx;
    DONE);
USER(cpuid_0, cpuid; ret; nop);
USER(bit_scans,                                                /* EBX: how often */
    movl $0x08080000, %ebp;
    movl $0x08080004, %edi;
1:  movl $5, %eax;
    .byte 0xf3, 0x0f, 0xbc, 0x45, 0;
    setz %dl;
    .byte 0xf3, 0x0f, 0xbd, 0x37;
    movl $0x300, %ecx;
    .byte 0xf3, 0x0f, 0xbd, 0xc9;
    decl %ebx;
    jnz 1b;
    DONE);

static void pay(void)
{
    struct frame f = user_frame(U_CODE + 4 * PAGE);

    PROGRAM(U_CODE + 4 * PAGE, pays);
    CHECK_EQ(user_go(&f), U_DONE);
}

enum { INNER = U_CODE + 0x20040 }; /* where no breakpoint was, and not where another page's operand may be */

static void patched(void)
{
    struct frame f;
    u32 r[4], want = 0;
    const u32 length = (u32)(sum_of_itself_end - sum_of_itself), alias = 0x20000000;

    section("a sensitive instruction in a loop");
    cpuid(0, r);
    PROGRAM(INNER, cpuid_in_a_loop);
    for (u32 i = 0; i < 3; i++) {
        pay();
        f = user_frame(INNER);
        f.ebx = 50;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 50 * r[0]);
        CHECK_EQ(f.edx, r[3]);
    }
    section("its page as the program reads it");
    PROGRAM(INNER, sum_of_itself);
    for (u32 i = 0; i < length; i++)
        want += sum_of_itself[i];
    for (u32 i = 0; i < 5; i++) {
        pay();
        memset((void *)data_page(), 0, length);
        f = user_frame(INNER);
        f.ebx = INNER, f.esi = length;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, want);
        CHECK_EQ(memcmp((void *)data_page(), sum_of_itself, length), 0);
    }
    section("the same page elsewhere");                        /* not executed there, so not patched */
    pte_set(alias, (u32)pte_get(INNER));
    invlpg(alias);
    f = user_frame(INNER);
    f.ebx = alias + 0x40, f.esi = length;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax, want);
    section("its page as the program writes it");
    for (u32 i = 0; i < 6; i++) {
        if (i % 3 == 0)
            pay();
        PROGRAM(INNER, patches_a_call);
        PROGRAM(INNER + PAGE, cpuid_0);
        if (i & 1) {                                           /* from here it is another's */
            pte_set(alias, (u32)pte_get(INNER + PAGE));
            invlpg(alias);
        }
        f = user_frame(INNER);
        f.ebx = i & 1 ? alias + 0x40 : INNER + PAGE, f.esi = 0xc340c031; /* xor eax, eax; inc eax; ret */
        f.eax = 0;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.ebp, r[0]);
        CHECK_EQ(f.eax, 1);
        CHECK_EQ(peek(((u32)pte_get(INNER + PAGE) & ~0xfffu) + 0x40), 0xc340c031);
        f = user_frame(INNER + PAGE);                          /* and returns into nowhere */
        f.esp = U_STACK + 0x100;
        CHECK_EQ(user_go(&f), V_PF);
        CHECK_EQ(f.eax, 1);
    }
    pte_set(alias, 0);
    invlpg(alias);
    section("bit scans with a prefix");
    pay();
    PROGRAM(INNER, bit_scans);
    for (u32 i = 0; i < 4; i++) {
        poke(data_page(), i & 1 ? 0x500 : 0), poke(data_page() + 4, 0x10);
        f = user_frame(INNER);
        f.ebx = 1000;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, i & 1 ? 8 : 5);
        CHECK_EQ(f.edx & 0xff, i & 1 ? 0 : 1);
        CHECK_EQ(f.esi, 4);
        CHECK_EQ(f.ecx, 9);
    }
}

/* ---- A table that is jumped into: data to whoever looks for code, until somebody comes there. With CPUID in it, or
 * in the middle of one of its constants. */
USER(into_table,
    call *%ebx;
    DONE;
    ud2;
    .byte 0xfa, 0x06, 0x17;
    .byte 0xb8, 0x40, 0xc3, 0x06, 0x1e;
    .byte 0xc3, 0xec, 0x1f);
USER(into_cpuid,
    call *%ebx;
    DONE;
    ud2;
    .byte 0xfa, 0x06, 0x17;
    .byte 0x31, 0xc0, 0x0f, 0xa2, 0xc3);
/* MOV EAX, 7FFFFFFF; INC EAX or a NOP; INTO or INT 4; RET */
USER(into_overflow,
    call *%ebx;
    DONE;
    ud2;
    .byte 0xfa, 0x06, 0x17;
    .byte 0xb8, 0xff, 0xff, 0xff, 0x7f, 0x40, 0xce, 0xc3);
USER(into_no_overflow,
    call *%ebx;
    DONE;
    ud2;
    .byte 0xfa, 0x06, 0x17;
    .byte 0xb8, 0xff, 0xff, 0xff, 0x7f, 0x90, 0xce, 0xc3);
enum { TABLE = U_CODE + 6 };

static void tables(void)
{
    struct frame f;
    u32 r[4];

    section("a table that is jumped into");
    cpuid(0, r);
    for (u32 with_cpuid = 0; with_cpuid < 2; with_cpuid++) {
        if (with_cpuid)
            PROGRAM(U_CODE, into_cpuid);
        else
            PROGRAM(U_CODE, into_table);
        for (u32 i = 0; i < 40; i++) {
            f = user_frame(U_CODE);
            f.ebx = TABLE + 3 + (!with_cpuid && i % 2), f.eax = i;
            CHECK_EQ(user_go(&f), U_DONE);
            CHECK_EQ(f.eax, with_cpuid ? r[0] : i % 2 ? i + 1 : 0x1e06c340u);
            CHECK_EQ(f.ebx, with_cpuid ? r[1] : TABLE + 3 + i % 2);
            CHECK_EQ(f.eip, U_CODE + 4);
        }
    }
    section("INTO in one");
    PROGRAM(U_CODE, into_overflow);
    f = user_frame(U_CODE);
    f.ebx = TABLE + 3;
    CHECK_EQ(user_go(&f), V_OF);
    CHECK_EQ(f.eip, TABLE + 10);
    CHECK_EQ(f.eax, 0x80000000u);
    PROGRAM(U_CODE, into_no_overflow);
    f = user_frame(U_CODE);
    f.ebx = TABLE + 3, f.eflags |= F_OF;
    CHECK_EQ(user_go(&f), V_OF);                               /* MOV and NOP leave OF alone */
    f = user_frame(U_CODE);
    f.ebx = TABLE + 3;
    CHECK_EQ(user_go(&f), U_DONE);
    f = user_frame(U_CODE);                                    /* its first byte: CLI */
    f.ebx = TABLE;
    CHECK_EQ(user_go(&f), V_GP);
    CHECK_EQ(f.eip, TABLE);
}

/* ---- RDTSC: one clock for user and kernel. */
static u32 wrong_order;
static bool compare_clock(struct frame *f)
{
    u64 user = (u64)f->edx << 32 | f->eax, now = rdtsc();

    if (now < user || now - user > tsc_hz())                   /* a second: something else is being shown */
        wrong_order++;
    f->eax = (u32)now, f->edx = (u32)(now >> 32);
    return true;
}

USER(clock_loop,
    movl $200, %esi;
    xorl %ebp, %ebp;
1:  rdtsc;
    int $0x80;
    movl %eax, %ecx;
    movl %edx, %ebx;
    rdtsc;
    subl %ecx, %eax;
    sbbl %ebx, %edx;
    jae 2f;
    incl %ebp;
2:  decl %esi;
    jnz 1b;
    DONE);

static void one_clock(void)
{
    struct frame f;

    section("RDTSC");
    wrong_order = 0;
    on_trap(0x80, compare_clock);
    CHECK_EQ(RUN(clock_loop, 0, &f), U_DONE);
    CHECK_EQ(wrong_order, 0);
    CHECK_EQ(f.ebp, 0);
    on_trap(0x80, NULL);
}

/* ---- The timer, while user code does not call. */
USER(spin,
    movl $0x08080000, %ebx;
    movl $0, (%ebx);
1:  incl (%ebx);
    cmpl $0, 4(%ebx);
    je 1b;
    DONE);

enum { TICKS = 40, TICK = PIT_HZ / 1000 };
static u64 armed;
static u32 late_us[TICKS];

static bool count_ticks(struct frame *f)
{
    u64 late = rdtsc() - armed;

    CHECK_EQ(f->cs & 3, 3);
    late_us[ticks++] = (u32)(late * 1000 / (tsc_hz() / 1000)) - 1000;
    pic_eoi(0);
    if (ticks == TICKS) {
        poke(data_page() + 4, 1);
        return true;
    }
    armed = rdtsc();
    pit_oneshot(TICK);
    return true;
}

static void timer(void)
{
    struct frame f;
    u32 data = data_page(), least = ~0u;

    section("timer while user code spins");
    poke(data + 4, 0);
    tsc_hz();
    on_trap(IRQ_BASE, count_ticks);
    PROGRAM(U_CODE, spin);
    f = user_frame(U_CODE);
    ticks = 0;
    armed = rdtsc();
    pit_oneshot(TICK);
    pic_unmask(0);
    CHECK_EQ(user_go(&f), U_DONE);
    pic_mask(0);
    CHECK_EQ(ticks, TICKS);
    CHECK(peek(data) > 1000);
    for (u32 i = 0; i < TICKS; i++) {
        for (u32 k = i; k > 0 && late_us[k - 1] > late_us[k]; k--) {
            u32 t = late_us[k];
            late_us[k] = late_us[k - 1], late_us[k - 1] = t;
        }
        least = late_us[0];
    }
    /* how much depends on the host; the figure is for who compares */
    CHECK(least < 20000);
    print("direct: timer late by us: least %u median %u most %u\n", least, late_us[TICKS / 2], late_us[TICKS - 1]);
}

/* ---- Code that is none of a modern kernel's: IF clear, IOPL 3, segments with a base. It runs, however. */
USER(with_iopl,
    cli;
    pushfl;
    popl %eax;
    inb $0x21, %al;
    sti;
    pushfl;
    popl %ebx;
    DONE);
USER(plain,
    movl %eax, 0x20;
    movl 0x20, %ebx;
    DONE);

static void unusual(void)
{
    struct frame f = user_frame(U_CODE);

    section("IOPL 3");
    PROGRAM(U_CODE, with_iopl);
    f.eflags |= F_IOPL;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax & F_IF, 0);
    CHECK_EQ(f.ebx & F_IF, F_IF);
    section("IF clear");
    f = user_frame(U_CODE);
    f.eflags &= ~(u32)F_IF;
    CHECK_EQ(user_go(&f), V_GP);
    CHECK_EQ(f.eflags & F_IF, 0);
    section("a data segment with a base");
    gdt[TLS / 8] = descriptor(U_DATA + 0x400, 0xff, SEG_DATA | SEG_DPL3, SEG_BIG);
    PROGRAM(U_CODE, plain);
    f = user_frame(U_CODE);
    f.ds = TLS;
    f.eax = 0xabcdef;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.ebx, 0xabcdef);
    CHECK_EQ(peek(data_page() + 0x420), 0xabcdef);
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        nx = pae;
        registers();
        flags();
        system_calls();
        exceptions_of_all_kinds();
        fetches();
        debug_traps();
        sensitive();
        patched();
        tables();
        one_clock();
        timer();
        unusual();
        user_stop();
    }
}
