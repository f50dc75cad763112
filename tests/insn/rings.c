/* Ways between rings: interrupt and trap gates, call gates, SYSENTER/SYSEXIT, IRET and far RET outwards, with the stack
 * frames they make and the checks that stop them; what CPL 3 may do, by IOPL and by the I/O bitmap.
 * SDM vol. 3, 5.8, 6.12; vol. 1, 19.5; vol. 2, CALL, IRET, RET, SYSENTER, POPF.
 * QEMU 7.2 departs: no EXT bit when an exception's own gate is bad. */
#include "rt.h"

const char guest_name[] = "rings";

enum { GATE = TEST_SEL(0), CONFORMING = TEST_SEL(1), OTHER_CODE = TEST_SEL(2), OTHER_DATA = TEST_SEL(3) };

/* ---- Interrupt and trap gates. */
static volatile struct frame seen;
static volatile u32 seen_flags, seen_esp, times;

static bool look(struct frame *f)
{
    seen = *f;
    seen_flags = read_eflags();
    seen_esp = (u32)f;
    times++;
    return true;
}

extern u8 after_int80[];
static u32 __attribute__((noinline, noclone)) user_int80(u32 x)
{
    __asm__ volatile("int $0x80\nafter_int80:" : "+a"(x) : : "memory");
    return x;
}

static u32 user_int(u32 which)
{
    if (which == 0x82)
        __asm__ volatile("int $0x82");
    else if (which == 0x83)
        __asm__ volatile("int $0x83");
    else
        __asm__ volatile("int $0xff");
    return 0;
}
static void kernel_int(void *which) { user_int((u32)which); }

static void just_ud2(void *unused)
{
    (void)unused;
    __asm__ volatile("ud2");
}

static void gates(void)
{
    section("interrupt gate from ring 3");
    on_trap(0x80, look);
    ring3_eflags = 2 | F_IF | F_CF | F_OF;
    CHECK_EQ(ring3(user_int80, 0xabcd), 0);
    CHECK_EQ(trap.eax, 0xabcd);
    CHECK_EQ(seen.eax, 0xabcd);
    CHECK_EQ(seen.eip, (u32)after_int80);
    CHECK_EQ(seen.cs & 0xffff, SEL_UCODE);
    CHECK_EQ(seen.ss & 0xffff, SEL_UDATA);
    CHECK(seen.esp > (u32)user_stack && seen.esp < (u32)user_stack_top);
    CHECK_EQ(seen.eflags & (F_IF | F_TF | F_NT | 2), F_IF | 2);
    CHECK_EQ(seen_flags & (F_IF | F_TF | F_NT), 0);
    CHECK_EQ(seen_esp + sizeof(struct frame), (u32)trap_stack_top);
    section("trap gate from ring 3");
    idt_set(0x80, gate(SEL_KCODE, idt_stub(0x80), 0xef, 0));
    CHECK_EQ(ring3(user_int80, 5), 0);
    CHECK_EQ(seen_flags & F_IF, F_IF);
    idt_set(0x80, gate(SEL_KCODE, idt_stub(0x80), 0xee, 0));
    ring3_eflags = 2;
    section("many");
    times = 0;
    for (u32 i = 0; i < 500; i++)
        CHECK_EQ(ring3(user_int80, i) + trap.eax, i);
    CHECK_EQ(times, 500);
    section("no stack switch within ring 0");
    CHECK_EQ(user_int80(7), 7);
    CHECK_EQ(seen.cs & 0xffff, SEL_KCODE);
    CHECK(seen_esp < (u32)user_stack);
    on_trap(0x80, NULL);

    section("gates that refuse");
    CHECK_EQ(ring3(user_int, 0x82), 1);                        /* DPL 0 */
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0x82 * 8 + 2);
    CHECK_TRAPS(kernel_int, 0x82, 0x82, 0);
    idt_set(0x83, gate(SEL_KCODE, idt_stub(0x83), 0x6e, 0));
    CHECK_TRAPS(kernel_int, 0x83, V_NP, 0x83 * 8 + 2);
    CHECK_EQ(ring3(user_int, 0x83), 1);
    CHECK_EQ(trap.error, 0x83 * 8 + 2);
    idt_set(0x83, gate(SEL_KCODE, idt_stub(0x83), 0xe9, 0));   /* not a gate */
    CHECK_TRAPS(kernel_int, 0x83, V_GP, 0x83 * 8 + 2);
    idt_set(0x83, gate(SEL_KDATA, idt_stub(0x83), 0xee, 0));   /* leads to data */
    CHECK_TRAPS(kernel_int, 0x83, V_GP, SEL_KDATA);
    idt_set(0x83, gate(0, idt_stub(0x83), 0xee, 0));
    CHECK_TRAPS(kernel_int, 0x83, V_GP, 0);
    idt_set(0x83, gate(SEL_UCODE, idt_stub(0x83), 0xee, 0));   /* leads outwards */
    CHECK_TRAPS(kernel_int, 0x83, V_GP, SEL_UCODE & ~3);
    idt_set(0x83, gate(SEL_KCODE, idt_stub(0x83), 0xee, 0));
    struct { u16 limit; u32 base; } __attribute__((packed)) idtr = {0xff * 8 - 1, (u32)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
    CHECK_TRAPS(kernel_int, 0xff, V_GP, 0xff * 8 + 2);
    CHECK_EQ(ring3(user_int, 0xff), 1);
    CHECK_EQ(trap.error, 0xff * 8 + 2);
    idtr.limit = sizeof(idt) - 1;
    __asm__ volatile("lidt %0" : : "m"(idtr));
    section("an exception's own gate is bad");                 /* the error code says EXT */
    u64 good = idt[V_UD];
    idt_set(V_UD, gate(SEL_KCODE, idt_stub(V_UD), 0x0e, 0));
    CHECK_TRAPS(just_ud2, 0, V_NP, V_UD * 8 + 3);
    idt_set(V_UD, good);
}

/* ---- Call gates: parameters are copied, RET n drops them from both stacks. */
extern u8 gate_target[], gate_target_plain[];
__asm__(".text\n"
        "gate_target:\n\t"                  /* ring 0: eip cs p1 p2 esp ss on the new stack */
        "movl 8(%esp), %eax\n\tshll $16, %eax\n\tmovw 12(%esp), %ax\n\tmovl %esp, %ecx\n\tmovl %cs, %edx\n\tlret $8\n"
        "gate_target_plain: movl %cs, %edx\n\tmovl %esp, %ecx\n\tlret\n"
        ".globl gate_target, gate_target_plain\n");

static struct { u32 result, esp0, cs, esp_before, esp_after; } called;

static u32 user_call_gate(u32 parameters)
{
    u32 result = 0, esp0 = 0, cs = 0, before, after;

    __asm__ volatile("movl %%esp, %%esi; pushl $0x2222; pushl $0x1111; testl %5, %5; jnz 1f; addl $8, %%esp; "
        "1: lcall %6, $0; movl %%esp, %%edi"
                     : "=&a"(result), "=&c"(esp0), "=&d"(cs), "=&S"(before), "=&D"(after)
                     : "b"(parameters), "i"(GATE | 3) : "memory", "cc");
    called.result = result, called.esp0 = esp0, called.cs = cs, called.esp_before = before, called.esp_after = after;
    return 1;
}
static void kernel_call_gate(void *parameters) { user_call_gate((u32)parameters); }

static u32 user_call_conforming(u32 unused)
{
    u32 cs, esp0;
    (void)unused;
    __asm__ volatile("lcall %2, $gate_target_plain" : "=d"(cs), "=c"(esp0) : "i"(CONFORMING) : "memory");
    return cs;
}
static u32 user_jump_gate(u32 unused)
{
    __asm__ volatile("ljmp %0, $0" : : "i"(GATE | 3));
    return unused;
}

static void call_gates(void)
{
    section("call gate inwards");
    gdt[GATE / 8] = gate(SEL_KCODE, (u32)gate_target, 0xec, 2);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(ring3(user_call_gate, 2), 0);
        CHECK_EQ(called.result, 0x11112222);
        CHECK_EQ(called.cs, SEL_KCODE);
        CHECK_EQ(called.esp0, (u32)trap_stack_top - 24);
        CHECK_EQ(called.esp_after, called.esp_before);
    }
    gdt[GATE / 8] = gate(SEL_KCODE, (u32)gate_target_plain, 0xec, 0);
    CHECK_EQ(ring3(user_call_gate, 0), 0);
    CHECK_EQ(called.esp0, (u32)trap_stack_top - 16);
    CHECK_EQ(called.esp_after, called.esp_before);
    section("call gate within ring 0");
    CHECK_EQ(caught(kernel_call_gate, NULL), 0);
    CHECK_EQ(called.esp_after, called.esp_before);
    CHECK_EQ(called.esp0, called.esp_before - 8);
    section("call gates that refuse");
    CHECK_EQ(ring3(user_jump_gate, 0), 1);                     /* a jump may not go inwards */
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, SEL_KCODE);
    gdt[GATE / 8] = gate(SEL_KCODE, (u32)gate_target_plain, 0x8c, 0);
    CHECK_EQ(ring3(user_call_gate, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, GATE);
    gdt[GATE / 8] = gate(SEL_KCODE, (u32)gate_target_plain, 0x6c, 0);
    CHECK_EQ(ring3(user_call_gate, 0), 1);
    CHECK_EQ(trap.vector, V_NP);
    CHECK_EQ(trap.error, GATE);
    gdt[GATE / 8] = gate(SEL_KDATA, (u32)gate_target_plain, 0xec, 0);
    CHECK_EQ(ring3(user_call_gate, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, SEL_KDATA);
    gdt[GATE / 8] = gate(0, (u32)gate_target_plain, 0xec, 0);
    CHECK_EQ(ring3(user_call_gate, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0);
    section("conforming code keeps CPL");
    gdt[CONFORMING / 8] = descriptor(0, 0xfffff, SEG_CODE_CONF, SEG_BIG | SEG_GRAN);
    CHECK_EQ(ring3(user_call_conforming, 0), 0);
    CHECK_EQ(trap.eax, CONFORMING | 3);
}

/* ---- SYSENTER and SYSEXIT. */
extern u8 sysenter_entry[], after_sysenter[];
u32 sysenter_flags, sysenter_esp, sysenter_cs, sysenter_ss;
__asm__(".text\nsysenter_entry:\n\t"
        "movl %esp, sysenter_esp\n\tpushfl\n\tpopl sysenter_flags\n\tmovl %cs, %edi\n\tmovl %edi, sysenter_cs\n\t"
            "movl %ss, %edi\n\t"
        "movl %edi, sysenter_ss\n\taddl $1, %eax\n\tsysexit\n.globl sysenter_entry\n");

static u32 __attribute__((noinline, noclone)) user_sysenter(u32 x)
{
    u32 cs, ss, flags;
    __asm__ volatile("pushl %%ebp; movl %%esp, %%ecx; movl $after_sysenter, %%edx; sysenter; "
        "after_sysenter: popl %%ebp; "
                     "movl %%cs, %1; movl %%ss, %2; pushfl; popl %3"
                     : "+a"(x), "=&b"(cs), "=&S"(ss), "=&D"(flags) : : "ecx", "edx", "memory", "cc");
    return cs == SEL_UCODE && ss == SEL_UDATA && !(flags & F_IF) ? x : 0xbad;
}
static u32 user_sysexit(u32 x) { __asm__ volatile("sysexit"); return x; }

static void fast_calls(void)
{
    section("SYSENTER");
    wrmsr(0x174, SEL_KCODE), wrmsr(0x175, (u32)trap_stack_top - 64), wrmsr(0x176, (u32)sysenter_entry);
    ring3_eflags = 2 | F_IF;                                   /* cleared on the way in, not restored by SYSEXIT */
    for (u32 i = 0; i < 300; i++) {
        CHECK_EQ(ring3(user_sysenter, i), 0);
        CHECK_EQ(trap.eax, i + 1);
    }
    CHECK_EQ(sysenter_esp, (u32)trap_stack_top - 64);
    CHECK_EQ(sysenter_flags & F_IF, 0);
    CHECK_EQ(sysenter_cs, SEL_KCODE);
    CHECK_EQ(sysenter_ss, SEL_KDATA);
    ring3_eflags = 2;
    CHECK_EQ((u32)rdmsr(0x174), SEL_KCODE);
    CHECK_EQ((u32)rdmsr(0x176), (u32)sysenter_entry);
    CHECK_EQ(ring3(user_sysexit, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0);
    wrmsr(0x174, 0);
    CHECK_EQ(ring3(user_sysenter, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0);
    wrmsr(0x174, SEL_KCODE);
}

/* ---- IRET and far RET. */
static struct { u32 eip, cs, eflags, esp, ss; } frame;

/* Executes IRET (or LRET 8) with the given frame on the stack; what it leads to ends in ring3_end. */
static void do_iret(void *unused)
{
    (void)unused;
    __asm__ volatile("pushl %0; pushl %1; pushl %2; pushl %3; pushl %4; iretl" : : "m"(frame.ss), "m"(frame.esp),
        "m"(frame.eflags),
                     "m"(frame.cs), "m"(frame.eip) : "memory");
}
static void do_iret_same(void *unused)
{
    (void)unused;
    __asm__ volatile("pushl %0; pushl %1; pushl %2; iretl" : : "m"(frame.eflags), "m"(frame.cs),
        "m"(frame.eip) : "memory");
}
static void do_lret(void *unused)
{
    (void)unused;
    /* DS must be one that ring 3 may keep: the landing stores through it. */
    __asm__ volatile("movl %4, %%ds; movl %4, %%es; pushl %0; pushl %1; pushl $7; pushl $8; pushl %2; pushl %3; lret $8"
                     : : "m"(frame.ss), "m"(frame.esp), "m"(frame.cs), "m"(frame.eip), "r"(SEL_UDATA) : "memory");
}
u32 landed_esp;
extern u8 landing[];
__asm__(".text\nlanding: movl %esp, landed_esp\n\tmovl %fs, %ebx\n\tmovl %gs, %ecx\n\tpushfl\n\tpopl %edx\n\t"
        "movl $0x1234, %eax\n\tint $0x81\n"
        ".globl landing");

static void set_fs_gs_and_iret(void *selector)
{
    __asm__ volatile("movl %0, %%fs; movl %1, %%gs; movl %1, %%eax; movl %%eax, %%ds; movl %%eax, %%es"
        : : "r"(selector), "r"(SEL_UDATA) : "eax");
    do_iret(NULL);
}

extern u8 same_landing[], user_lret[], user_iret[];

static void outwards(void)
{
    const u32 top = (u32)user_stack_top;

    section("IRET outwards");
    frame.eip = (u32)landing, frame.cs = SEL_UCODE, frame.eflags = 2 | F_CF | F_DF, frame.esp = top - 64,
        frame.ss = SEL_UDATA;
    landed_esp = 0;
    CHECK_EQ(caught(set_fs_gs_and_iret, (void *)SEL_KDATA), 0);
    CHECK_EQ(trap.eax, 0x1234);
    CHECK_EQ(landed_esp, top - 64);
    CHECK_EQ(trap.ebx & 0xffff, 0);                            /* FS held a ring-0 segment: null now */
    CHECK_EQ(trap.ecx & 0xffff, SEL_UDATA);
    CHECK_EQ(trap.edx & (F_CF | F_DF | F_ZF), F_CF | F_DF);
    section("RET outwards");
    landed_esp = 0;
    CHECK_EQ(caught(do_lret, NULL), 0);
    CHECK_EQ(trap.eax, 0x1234);
    CHECK_EQ(landed_esp, top - 64 + 8);
    section("IRET that refuses");
    frame.cs = 0;
    CHECK_TRAPS(do_iret, 0, V_GP, 0);
    frame.cs = SEL_UDATA;
    CHECK_TRAPS(do_iret, 0, V_GP, SEL_UDATA & ~3u);
    frame.cs = SEL_KCODE | 3;                                  /* RPL 3, DPL 0 */
    CHECK_TRAPS(do_iret, 0, V_GP, SEL_KCODE);
    gdt[OTHER_CODE / 8] = descriptor(0, 0xfffff, (SEG_CODE | SEG_DPL3) & 0x7f, SEG_BIG | SEG_GRAN);
    frame.cs = OTHER_CODE | 3;
    CHECK_TRAPS(do_iret, 0, V_NP, OTHER_CODE);
    CHECK_TRAPS(do_lret, 0, V_NP, OTHER_CODE);
    frame.cs = SEL_UCODE, frame.ss = 0;
    CHECK_TRAPS(do_iret, 0, V_GP, 0);
    frame.ss = SEL_KDATA;
    CHECK_TRAPS(do_iret, 0, V_GP, SEL_KDATA);
    gdt[OTHER_DATA / 8] = descriptor(0, 0xfffff, (SEG_DATA | SEG_DPL3) & 0x7f, SEG_BIG | SEG_GRAN);
    frame.ss = OTHER_DATA | 3;
    /* the manual's pseudocode says #SS, its list of exceptions #NP */
    CHECK_EQ(caught(do_iret, NULL), 1);
    CHECK(trap.vector == V_SS || trap.vector == V_NP);
    CHECK_EQ(trap.error, OTHER_DATA);
    frame.ss = SEL_UDATA;
    section("IRET within ring 0");
    frame.eip = (u32)same_landing, frame.cs = SEL_KCODE, frame.eflags = 2 | F_ZF;
    CHECK_EQ(caught(do_iret_same, NULL), 0);
    CHECK_EQ(trap.edx & (F_ZF | F_CF), F_ZF);
    section("RET inwards refuses");
    frame.cs = SEL_KCODE;
    CHECK_EQ(ring3((u32 (*)(u32))(u32)user_lret, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, SEL_KCODE);
    CHECK_EQ(ring3((u32 (*)(u32))(u32)user_iret, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, SEL_KCODE);
}
__asm__(".text\nsame_landing: pushfl\n\tpopl %edx\n\tint $0x81\n"
        "user_lret: pushl $8\n\tpushl $user_lret\n\tlret\n"
        "user_iret: pushl $2\n\tpushl $8\n\tpushl $user_lret\n\tiretl\n.globl same_landing, user_lret, user_iret");

/* ---- What CPL 3 may do. */
static u32 user_cli(u32 x) { __asm__ volatile("cli"); return x; }
static u32 user_sti(u32 x) { __asm__ volatile("sti; nop; cli"); return x; }
static u32 user_out(u32 port) { outb((u16)port, 0); return 0; }
static u32 user_in32(u32 port) { return inl((u16)port); }
static u32 user_popf(u32 flags) { write_eflags(flags); return read_eflags(); }
static u32 user_rdtsc(u32 x) { rdtsc(); return x; }
static u32 user_smsw(u32 x) { __asm__ volatile("smsw %w0" : "+r"(x)); return x; }
static u32 user_sgdt(u32 p) { __asm__ volatile("sgdt (%0)" : : "r"(p) : "memory"); return 0; }
static u32 user_cpuid(u32 x) { u32 r[4]; cpuid(x, r); return r[1]; }
#define USER_INSN(name, insn) static u32 name(u32 x) { __asm__ volatile(insn : : "m"(*(u8 *)user_stack), "a"(0), \
    "c"(0), "d"(0) : "memory"); return x; }
USER_INSN(user_hlt, "hlt")
USER_INSN(user_lgdt, "lgdt %0")
USER_INSN(user_lidt, "lidt %0")
USER_INSN(user_lldt, "lldt %w1")
USER_INSN(user_ltr, "ltr %w1")
USER_INSN(user_lmsw, "lmsw %w1")
USER_INSN(user_clts, "clts")
USER_INSN(user_invlpg, "invlpg %0")
USER_INSN(user_invd, "invd")
USER_INSN(user_wbinvd, "wbinvd")
USER_INSN(user_mov_from_cr, "movl %%cr0, %%eax")
USER_INSN(user_mov_to_cr, "movl %%eax, %%cr4")
USER_INSN(user_mov_from_dr, "movl %%db7, %%eax")
USER_INSN(user_mov_to_dr, "movl %%eax, %%db0")
USER_INSN(user_wrmsr, "wrmsr")
USER_INSN(user_rdmsr, "rdmsr")

static void rights(void)
{
    static u32 (*const privileged[])(u32) = {
        user_hlt, user_lgdt, user_lidt, user_lldt, user_ltr, user_lmsw, user_clts, user_invlpg, user_invd, user_wbinvd,
        user_mov_from_cr, user_mov_to_cr, user_mov_from_dr, user_mov_to_dr, user_wrmsr, user_rdmsr,
    };

    section("privileged instructions");
    for (u32 iopl = 0; iopl < 2; iopl++) {
        ring3_eflags = 2 | (iopl ? F_IOPL : 0);
        for (unsigned i = 0; i < sizeof(privileged) / sizeof(privileged[0]); i++) {
            CHECK_EQ(ring3(privileged[i], i), 1);
            CHECK_EQ(trap.vector, V_GP);
            CHECK_EQ(trap.error, 0);
        }
    }
    section("IOPL 0");
    ring3_eflags = 2;
    CHECK_EQ(ring3(user_cli, 0), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(ring3(user_sti, 0), 1);
    CHECK_EQ(ring3(user_out, 0x80), 1);
    CHECK_EQ(ring3(user_popf, 2 | F_IF | F_IOPL | F_ZF), 0);   /* IF and IOPL are silently kept */
    CHECK_EQ(trap.eax & (F_IF | F_IOPL | F_ZF), F_ZF);
    ring3_eflags = 2 | F_IF;
    CHECK_EQ(ring3(user_popf, 2), 0);
    CHECK_EQ(trap.eax & F_IF, F_IF);
    section("IOPL 3");
    ring3_eflags = 2 | F_IOPL;
    CHECK_EQ(ring3(user_cli, 0), 0);
    CHECK_EQ(ring3(user_sti, 0), 0);
    CHECK_EQ(ring3(user_out, 0x80), 0);
    CHECK_EQ(ring3(user_popf, 2 | F_IF), 0);                   /* IF follows, IOPL stays */
    CHECK_EQ(trap.eax & (F_IF | F_IOPL), F_IF | F_IOPL);
    section("I/O bitmap");
    ring3_eflags = 2;
    tss.iobits[0x80 / 8] &= (u8)~(1u << (0x80 & 7));
    CHECK_EQ(ring3(user_out, 0x80), 0);
    CHECK_EQ(ring3(user_out, 0x81), 1);
    CHECK_EQ(ring3(user_in32, 0x80), 1);                       /* four ports, of which one is open */
    tss.iobits[0x80 / 8] &= 0xf0;
    CHECK_EQ(ring3(user_in32, 0x80), 0);
    CHECK_EQ(ring3(user_in32, 0x81), 1);
    CHECK_EQ(ring3(user_out, 0x400), 1);                       /* beyond the TSS's limit */
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0);
    tss.iobits[0x80 / 8] = 0xff;
    CHECK_EQ(ring3(user_out, 0x80), 1);
    section("not privileged");
    CHECK_EQ(ring3(user_smsw, 0), 0);
    CHECK_EQ(trap.eax & 1, 1);
    CHECK_EQ(ring3(user_sgdt, (u32)user_stack), 0);
    CHECK_EQ(peek((u32)user_stack + 2), (u32)gdt);
    CHECK_EQ(ring3(user_cpuid, 0), 0);
    CHECK_EQ(ring3(user_rdtsc, 3), 0);
    write_cr4(read_cr4() | CR4_TSD);
    CHECK_EQ(ring3(user_rdtsc, 3), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(caught((void (*)(void *))(u32)user_rdtsc, 0), 0);
    write_cr4(read_cr4() & ~(u32)CR4_TSD);
    CHECK_EQ(ring3(user_rdtsc, 3), 0);
}

/* What the processor does for itself is done as ring 0, whatever the CPL: tables and stacks may be supervisor pages. */
static u32 user_reload(u32 x)
{
    __asm__ volatile("movl %0, %%fs; movl %0, %%gs" : : "r"(SEL_UDATA));
    return x + 1;
}

static void supervisor_pages(void)
{
    u32 hidden = 0x40000000, tables = (u32)gdt & ~0xfffu, stack = (u32)page_alloc();

    section("tables and stacks on supervisor pages");
    pte_set(hidden, tables | 3);
    pte_set(hidden + PAGE, (tables + PAGE) | 3);
    pte_set(hidden + 8 * PAGE, stack | 3);
    write_cr3(read_cr3());
    struct { u16 limit; u32 base; } __attribute__((packed)) gdtr = {sizeof(gdt) - 1, hidden + ((u32)gdt & 0xfff)};
    __asm__ volatile("lgdt %0" : : "m"(gdtr) : "memory");
    tss.esp0 = hidden + 9 * PAGE;
    CHECK_EQ(ring3(user_reload, 4), 0);
    CHECK_EQ(trap.eax, 5);
    tss.esp0 = (u32)trap_stack_top;
    gdtr.base = (u32)gdt;
    __asm__ volatile("lgdt %0" : : "m"(gdtr) : "memory");
}

void guest_main(void)
{
    for (int mode = 0; mode < 3; mode++) {
        if (mode)
            paging_start(mode == 2, false);
        gates();
        call_gates();
        fast_calls();
        outwards();
        rights();
        if (mode) {
            supervisor_pages();
            paging_stop();
        }
    }
}
