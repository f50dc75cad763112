/* CR4.VME and CR4.PVI: virtual interrupts of 8086 programs and of programs at CPL 3, and INT n that the program has its
 * own handler for. SDM vol. 3, 20.2.7 (sensitive instructions), 20.3.2 (VIF and VIP), 20.3.3, table 20-2 (the methods
 * of INT n), 20.4 (protected mode); SDM vol. 2, CLI, STI, PUSHF, POPF, IRET. QEMU 7.2 has neither. */
#include "rt.h"

const char guest_name[] = "vme";

enum { VME = 1, PVI = 2, VM = 1 << 17, VIF = 1 << 19, VIP = 1 << 20, IOPL1 = 0x1000, IOPL2 = 0x2000, IOPL3 = 0x3000 };
/* The program's selectors have RPL 3, so that the run-time takes its traps for those of an outer ring. */
enum { CS86 = 0x803, SS86 = 0x903, SP86 = 0x100, STACK = SS86 << 4, HANDLER = 0x200 /* of INT 40h, in CS86 */ };
enum { OWN = 0x40, KERNELS = 0x41 };

#define PROGRAM(name, ...) \
    __asm__(".pushsection .text.user\n.code16\n" #name ": " #__VA_ARGS__ "\n" #name "_end:\n.code32\n.popsection\n"); \
    extern const u8 name[], name##_end[]

PROGRAM(flags, cli; pushf; pop %ax; sti; pushf; pop %dx; hlt);
PROGRAM(only_cli, cli; hlt);
PROGRAM(only_sti, nop; sti; hlt);
PROGRAM(only_pushf, pushf; pop %ax; hlt);
PROGRAM(pushfd, pushfl; hlt);
PROGRAM(popfd, pushl $2; popfl; hlt);
PROGRAM(popf_0, push $2; popf; hlt);
PROGRAM(popf_if, pushw $0x202; popf; hlt);
PROGRAM(popf_all, pushw $0x7ed7; popf; hlt);
PROGRAM(popf_tf, pushw $0x102; popf; hlt);
PROGRAM(iret_0, pushw $2; pushw %cs; pushw $1f - iret_0; iretw; nop; 1: hlt);
PROGRAM(iret_if, pushw $0x202; pushw %cs; pushw $1f - iret_if; iretw; nop; 1: hlt);
PROGRAM(iret_tf, pushw $0x102; pushw %cs; pushw $1f - iret_tf; iretw; nop; 1: hlt);
PROGRAM(iretd, pushl $2; pushw $0; pushw %cs; pushl $1f - iretd; iretl; nop; 1: hlt);
PROGRAM(int_own, int $0x40; hlt);
PROGRAM(int_kernels, int $0x41; hlt);
PROGRAM(breaks, int3; hlt);
PROGRAM(int_own_back, int $0x40; nop; hlt);
PROGRAM(halts, hlt);
PROGRAM(returns, push %ax; mov $0x1234, %ax; pop %ax; iretw);

static volatile u32 ivt; /* 0, which the compiler takes for no object's address */

static void enter(void *eflags)
{
    __asm__ volatile("pushl %1; pushl %1; pushl %1; pushl %1; pushl %1; pushl %2; pushl %0; pushl %3; pushl $0; iretl"
                     : : "r"(eflags), "i"(SS86), "i"(SP86), "i"(CS86) : "memory");
}

static void put(u32 to, const u8 *from, const u8 *end)
{
    while (from < end)
        poke8(to++, *from++);
}

/* Runs it until it traps. */
static void run(const u8 *from, const u8 *end, u32 cr4, u32 eflags)
{
    write_cr4((read_cr4() & ~3u) | cr4);
    put(ivt + (CS86 << 4), from, end);
    CHECK_EQ(caught(enter, (void *)(eflags | VM | 2)), 1);
    CHECK_EQ(trap.eflags & VM, VM);
}
#define RUN(program, cr4, eflags) run(program, program##_end, cr4, eflags)

/* It ended in HLT, at eip, with these of VIF and IF. */
#define HALTED(at, vif) halted(__LINE__, at, vif)
static void halted(int line, u32 at, u32 vif)
{
    check_equal(__FILE__, line, "vector", trap.vector, V_GP);
    check_equal(__FILE__, line, "error", trap.error, 0);
    check_equal(__FILE__, line, "eip", trap.eip, at);
    check_equal(__FILE__, line, "VIF, IF", trap.eflags & (VIF | F_IF), vif);
}
#define FAULTED(at, vif) HALTED(at, vif) /* #GP(0) as well */

static u32 word(u32 off) { return peek(ivt + STACK + off) & 0xffff; }

static void interrupt_flag(void)
{
    section("CLI, STI, PUSHF below IOPL 3");
    for (u32 iopl = 0; iopl < IOPL3; iopl += IOPL1) {
        RUN(flags, VME, iopl | VIF);
        HALTED(6, VIF);
        CHECK_EQ(trap.eax & 0xffff, IOPL3 | 2);
        CHECK_EQ(trap.edx & 0xffff, IOPL3 | F_IF | 2);
        CHECK_EQ(trap.eflags & F_IOPL, iopl);
        RUN(only_cli, VME, iopl | VIF | VIP);                  /* #GP before anything */
        FAULTED(0, VIF);
        RUN(only_cli, VME, iopl | VIP);
        HALTED(1, 0);
        RUN(only_sti, VME, iopl | VIP);
        FAULTED(1, 0);
        RUN(only_sti, VME, iopl);
        HALTED(2, VIF);
        RUN(only_cli, 0, iopl | VIF);                          /* without VME: the monitor's */
        FAULTED(0, VIF);
        RUN(only_sti, PVI, iopl);
        FAULTED(1, 0);
        RUN(only_pushf, 0, iopl);
        FAULTED(0, 0);
        RUN(pushfd, VME, iopl);
        FAULTED(0, 0);
        CHECK_EQ(trap.esp & 0xffff, SP86);
    }
    section("CLI, STI, PUSHF at IOPL 3");
    RUN(only_cli, VME, IOPL3 | VIF | VIP);
    HALTED(1, VIF);
    RUN(only_pushf, VME, IOPL3 | VIF);
    HALTED(2, VIF);
    CHECK_EQ(trap.eax & 0xffff, IOPL3 | 2);
    RUN(pushfd, VME, IOPL3);
    HALTED(2, 0);
}

static void popf_and_iret(void)
{
    section("POPF");
    RUN(popf_0, VME, VIF | VIP);
    FAULTED(0, VIF);
    RUN(popf_0, VME, VIF);
    HALTED(3, 0);
    RUN(popf_if, VME, 0);
    HALTED(4, VIF);
    RUN(popf_if, VME, VIP);
    FAULTED(3, 0);
    CHECK_EQ(trap.esp & 0xffff, SP86 - 2);
    RUN(popf_0, VME, VIP);
    HALTED(3, 0);
    CHECK_EQ(trap.eflags & VIP, VIP);
    RUN(popf_all, VME, IOPL1);
    HALTED(4, VIF);
    CHECK_EQ(trap.eflags & 0x7fff, 0x7cd7 & ~(u32)IOPL2);      /* not IF, nor IOPL */
    RUN(popf_tf, VME, 0);
    FAULTED(3, 0);
    RUN(popfd, VME, 0);
    FAULTED(3, 0);
    RUN(popf_0, 0, 0);
    FAULTED(2, 0);
    RUN(popf_0, VME, IOPL3 | VIF);
    HALTED(3, VIF);
    section("IRET");
    RUN(iret_0, VME, VIF | IOPL2);
    HALTED(8, 0);
    CHECK_EQ(trap.eflags & F_IOPL, IOPL2);
    CHECK_EQ(trap.esp & 0xffff, SP86);
    RUN(iret_if, VME, 0);
    HALTED(9, VIF);
    RUN(iret_if, VME, VIP);
    FAULTED(7, 0);
    CHECK_EQ(trap.esp & 0xffff, SP86 - 6);
    RUN(iret_tf, VME, 0);
    FAULTED(7, 0);
    RUN(iretd, VME, 0);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.esp & 0xffff, SP86 - 12);
    RUN(iret_0, 0, 0);
    FAULTED(6, 0);
    RUN(iret_0, VME, IOPL3 | VIF);
    HALTED(8, VIF);
}

static void int_n(void)
{
    section("INT n, its own: method 6");
    for (u32 iopl = 0; iopl < IOPL3; iopl += IOPL1) {
        put(ivt + (CS86 << 4) + HANDLER, halts, halts_end);
        for (u32 vif = 0; vif < 2; vif++) {
            RUN(int_own, VME, iopl | (vif ? VIF : 0) | F_CF);
            HALTED(HANDLER, 0);
            CHECK_EQ(trap.esp & 0xffff, SP86 - 6);
            CHECK_EQ(word(SP86 - 6), 2);
            CHECK_EQ(word(SP86 - 4), CS86);
            CHECK_EQ(word(SP86 - 2), IOPL3 | 2 | F_CF | (vif ? F_IF : 0));
            CHECK_EQ(trap.eflags & F_IOPL, iopl);
        }
        put(ivt + (CS86 << 4) + HANDLER, returns, returns_end);
        RUN(int_own_back, VME, iopl | VIF);
        HALTED(3, VIF);
        section("the monitor's: method 3");
        RUN(int_kernels, VME, iopl | VIF);
        FAULTED(0, VIF);
        section("without VME: method 2");
        RUN(int_own, 0, iopl | VIF);
        FAULTED(0, VIF);
    }
    section("INT n, its own, IOPL 3: method 5");
    put(ivt + (CS86 << 4) + HANDLER, halts, halts_end);
    RUN(int_own, VME, IOPL3 | VIF);
    HALTED(HANDLER, VIF);
    CHECK_EQ(word(SP86 - 2), IOPL3 | 2);
    section("IOPL 3, the kernel's: method 4");
    RUN(int_kernels, VME, IOPL3 | VIF);
    CHECK_EQ(trap.vector, KERNELS);
    CHECK_EQ(trap.eip, 2);
    section("IOPL 3, without VME: method 1");
    idt_set(OWN, gate(SEL_KCODE, idt_stub(OWN), 0xee, 0));
    RUN(int_own, 0, IOPL3);
    CHECK_EQ(trap.vector, OWN);
    section("INT3 is none");
    idt_set(V_BP, gate(SEL_KCODE, idt_stub(V_BP), 0xee, 0));
    tss.iobits[0] = 0;
    RUN(breaks, VME, 0);
    CHECK_EQ(trap.vector, V_BP);
    section("a TSS without room for the map");
    u16 iomap = tss.iomap;
    tss.iomap = 16;
    RUN(int_own, VME, IOPL3);
    FAULTED(0, 0);
    tss.iomap = 0x200;
    RUN(int_own, VME, IOPL3);
    FAULTED(0, 0);
    tss.iomap = iomap;
}

static u32 does_cli(u32 x) { __asm__ volatile("cli"); return x; }
static u32 does_sti(u32 x) { __asm__ volatile("sti"); return x; }
static u32 does_pushf(u32 x) { (void)x; return read_eflags(); }
static u32 nothing(u32 x) { return x; }

/* At CPL 3: 0, or 1 if it was #GP(0). */
static int at_cpl3(u32 (*fn)(u32), u32 cr4, u32 eflags)
{
    write_cr4((read_cr4() & ~3u) | cr4);
    ring3_eflags = eflags | 2;
    int r = ring3(fn, 0);
    if (r) {
        CHECK_EQ(trap.vector, V_GP);
        CHECK_EQ(trap.error, 0);
    }
    return r;
}

static void protected_mode(void)
{
    u32 before = ring3_eflags;
    section("PVI");
    for (u32 iopl = 0; iopl < IOPL3; iopl += IOPL1) {
        CHECK_EQ(at_cpl3(does_cli, PVI, iopl | VIF), 0);
        CHECK_EQ(trap.eflags & (VIF | F_IF), 0);
        CHECK_EQ(at_cpl3(does_cli, PVI, iopl | VIP), 0);
        CHECK_EQ(at_cpl3(does_sti, PVI, iopl), 0);
        CHECK_EQ(trap.eflags & (VIF | F_IF), VIF);
        CHECK_EQ(at_cpl3(does_sti, PVI, iopl | VIP), 1);
        CHECK_EQ(trap.eflags & (VIF | VIP | F_IF), VIP);
        CHECK_EQ(at_cpl3(does_pushf, PVI, iopl | VIF), 0);     /* PUSHF shows what there is */
        CHECK_EQ(trap.eax & (F_IF | VIF | F_IOPL), VIF | iopl);
        CHECK_EQ(at_cpl3(nothing, PVI, iopl | VIF | VIP), 1);
        CHECK_EQ(trap.eip, (u32)nothing);
        CHECK_EQ(at_cpl3(nothing, VME, iopl | VIF | VIP), 0);
        CHECK_EQ(at_cpl3(does_cli, VME, iopl | VIF), 1);
        CHECK_EQ(at_cpl3(does_sti, 0, iopl), 1);
    }
    section("PVI, IOPL 3");
    CHECK_EQ(at_cpl3(does_cli, PVI, IOPL3 | VIF | VIP), 0);
    CHECK_EQ(trap.eflags & (VIF | VIP), VIF | VIP);
    ring3_eflags = before;
}

void guest_main(void)
{
    u32 r[4], flags32 = read_eflags();
    section("CPUID");
    cpuid(1, r);
    CHECK_EQ(r[3] >> 1 & 1, 1);
    poke(ivt + 4 * OWN, CS86 << 16 | HANDLER);
    poke(ivt + 4 * KERNELS, CS86 << 16 | HANDLER);
    poke(ivt + 4 * V_BP, CS86 << 16 | HANDLER);
    idt_set(KERNELS, gate(SEL_KCODE, idt_stub(KERNELS), 0xee, 0));
    tss.iomap = offsetof(struct tss, iobits) + sizeof(tss.iobits);
    tss.iobits[KERNELS / 8] = 1 << KERNELS % 8;
    for (u32 i = 0; i < 3; i++) {
        interrupt_flag();
        popf_and_iret();
        idt_set(OWN, 0);
        int_n();
        protected_mode();
    }
    write_cr4(read_cr4() & ~3u);
    write_eflags(flags32);
}
