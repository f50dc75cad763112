/* Tasks: #DF through a task gate when the stack is gone, #SS from a stack segment's limit, nested faults that become
 * #DF, and the task switches themselves (JMP, CALL, IRET with NT). SDM vol. 3, 6.15 (interrupt 8), 7.2, 7.3. QEMU 7.2
 * departs: no stack limits. */
#include "rt.h"

const char guest_name[] = "dftask";

enum { OTHER_TSS = TEST_SEL(0), SMALL_STACK = TEST_SEL(1), BAD = 0x50000000 };

static struct tss other;
static u8 other_stack[8192] __attribute__((aligned(16)));

static volatile u32 task_ran, task_flags, task_error, task_esp, task_cr3, task_tr, task_backlink, task_ts;
static volatile struct tss main_then;                          /* what the interrupted task's TSS held */
static volatile u32 resume_eip, resume_esp;

/* The task behind a gate. It mends the interrupted task's ESP and EIP and returns to it; entered again, it goes on
 * behind IRET. */
void task_body(u32 error, u32 esp);
void task_body(u32 error, u32 esp)
{
    u32 flags = read_eflags(), tr;

    __asm__ volatile("str %w0" : "=r"(tr));
    task_ran++;
    task_flags = flags, task_error = error, task_esp = esp, task_tr = tr & 0xffff, task_cr3 = read_cr3();
    task_ts = read_cr0() & CR0_TS;
    main_then = tss;
    if (resume_eip)
        tss.eip = resume_eip, tss.esp = resume_esp, tss.ss = SEL_KDATA;
}

extern u8 df_entry[], plain_entry[];
__asm__(".text\n"
        "df_entry: movl %esp, %eax\n\tpushl %eax\n\tpushl 4(%esp)\n\tcall task_body\n\taddl $12, %esp\n\tiretl\n\t"
            "jmp df_entry\n"
        "plain_entry: pushl %esp\n\tpushl $0\n\tcall task_body\n\taddl $8, %esp\n\tiretl\n\tjmp plain_entry\n"
        ".globl df_entry, plain_entry\n");

static void task_init(struct tss *t, const u8 *entry)
{
    memset(t, 0, sizeof(*t));
    t->eip = (u32)entry, t->esp = (u32)other_stack + sizeof(other_stack), t->eflags = 2;
    t->cs = SEL_KCODE, t->ss = t->ds = t->es = t->fs = t->gs = SEL_KDATA;
    t->ss0 = SEL_KDATA, t->esp0 = t->esp;
    t->cr3 = read_cr3();
    t->iomap = sizeof(*t);
    task_ran = 0;
}

static u32 tss_type(u16 selector)
{
    return (u32)(gdt[selector / 8] >> 40) & 0xff;
}

/* Runs the instructions, which end in a #DF, and goes on at the label "after". */
#define DOUBLE_FAULT(name, insns) \
    __asm__ volatile("movl %%esp, %1\n\tmovl $" #name "_after, %0\n\tmovl $0x1111, %%ebx\n\tmovl $0x2222, %%esi\n\t" \
        "stc\n\t" insns "\n" \
                     #name "_after: movl $0, %0\n.globl " #name "_after, " #name "_at" : "=m"(resume_eip), \
                         "=m"(resume_esp) \
                     : : "eax", "ecx", "edx", "ebx", "esi", "memory", "cc")

static void judge(u32 at, u32 esp)
{
    CHECK_EQ(task_ran, 1);
    CHECK_EQ(task_error, 0);
    CHECK_EQ(task_tr, SEL_DFTSS);
    CHECK_EQ(task_flags & F_NT, F_NT);
    CHECK_EQ(task_ts, CR0_TS);
    CHECK_EQ(task_esp, (u32)other_stack + sizeof(other_stack) - 4);
    CHECK_EQ(dftss.link & 0xffff, SEL_TSS);
    CHECK_EQ(main_then.eip, at);
    CHECK_EQ(main_then.esp, esp);
    CHECK_EQ(main_then.ebx, 0x1111);
    CHECK_EQ(main_then.esi, 0x2222);
    CHECK_EQ(main_then.eflags & F_CF, F_CF);
    CHECK_EQ(main_then.cs & 0xffff, SEL_KCODE);
    CHECK_EQ(main_then.ss & 0xffff, SEL_KDATA);
    CHECK_EQ(tss_type(SEL_TSS), 0x8b);                         /* busy again, and the other free */
    CHECK_EQ(tss_type(SEL_DFTSS), 0x89);
}

static void __attribute__((noinline, noclone)) double_faults(void)
{
    extern u8 df1_at[], df2_at[], df3_at[], df4_at[];
    u64 saved;

    idt_set(V_DF, gate(SEL_DFTSS, 0, 0x85, 0));
    section("#PF without a stack");
    for (int i = 0; i < 3; i++) {
        task_init(&dftss, df_entry);
        DOUBLE_FAULT(df1, "movl $0x50000100, %%esp\ndf1_at: pushl %%eax");
        judge((u32)df1_at, BAD + 0x100);
    }
    section("#UD without a stack");
    task_init(&dftss, df_entry);
    DOUBLE_FAULT(df2, "movl $0x50000100, %%esp\ndf2_at: ud2");
    judge((u32)df2_at, BAD + 0x100);
    __asm__ volatile("clts");
    section("#GP whose gate is not present");
    saved = idt[V_GP];
    idt_set(V_GP, gate(SEL_KCODE, idt_stub(V_GP), 0x0e, 0));
    task_init(&dftss, df_entry);
    DOUBLE_FAULT(df3, "xorl %%eax, %%eax\n\tmovl $0xfff8, %%ecx\n\tstc\ndf3_at: movl %%ecx, %%fs");
    judge((u32)df3_at, resume_esp);
    idt_set(V_GP, saved);
    section("#PF whose handler is no code");
    saved = idt[V_PF];
    idt_set(V_PF, gate(SEL_KDATA, idt_stub(V_PF), 0x8e, 0));
    task_init(&dftss, df_entry);
    DOUBLE_FAULT(df4, "df4_at: movl 0x50000000, %%eax");
    judge((u32)df4_at, resume_esp);
    idt_set(V_PF, saved);
    idt_set(V_DF, gate(SEL_KCODE, idt_stub(V_DF), 0x8e, 0));
}

static void fault_with_bad_gate(void *unused)
{
    (void)unused;
    __asm__ volatile("movl %0, %%fs" : : "r"(0xfff8));
}
static void undefined(void *unused)
{
    (void)unused;
    __asm__ volatile("ud2");
}

static void without_task(void)
{
    u64 saved = idt[V_GP];

    section("#DF through an interrupt gate");
    idt_set(V_GP, gate(SEL_KCODE, idt_stub(V_GP), 0x0e, 0));
    CHECK_TRAPS(fault_with_bad_gate, 0, V_DF, 0);
    idt_set(V_GP, saved);
    section("benign, then contributory: not double");
    saved = idt[V_UD];
    idt_set(V_UD, gate(SEL_KCODE, idt_stub(V_UD), 0x0e, 0));
    CHECK_EQ(caught(undefined, NULL), 1);
    CHECK_EQ(trap.vector, V_NP);
    idt_set(V_UD, saved);
}

/* #SS: the stack segment's limit, with the handler in a task so that it has a stack. */
static void stack_limit(void)
{
    u64 saved = idt[V_SS];
    extern u8 ss1_at[];

    section("#SS by the stack segment's limit");
    gdt[SMALL_STACK / 8] = descriptor((u32)user_stack, 0xfff, SEG_DATA, SEG_BIG);
    idt_set(V_SS, gate(SEL_DFTSS, 0, 0x85, 0));
    task_init(&dftss, df_entry);
    __asm__ volatile("movl %%esp, %1\n\tmovl $ss1_after, %0\n\tmovl %2, %%ss\n\tmovl $0x1002, %%esp\n"
        "ss1_at: pushl %%eax\n\t"
                     "movl %3, %%ss\n\tmovl %1, %%esp\nss1_after: movl $0, %0\n.globl ss1_at"
                     : "=m"(resume_eip), "=m"(resume_esp) : "r"(SMALL_STACK), "r"(SEL_KDATA) : "memory", "eax");
    CHECK_EQ(task_ran, 1);
    CHECK_EQ(task_error, 0);
    CHECK_EQ(main_then.eip, (u32)ss1_at);
    CHECK_EQ(main_then.esp, 0x1002);
    CHECK_EQ(main_then.ss & 0xffff, SMALL_STACK);
    idt_set(V_SS, saved);
}

static void jump_back(void)
{
    __asm__ volatile("ljmp %0, $0" : : "i"(SEL_TSS));
}
extern u8 jumped_to[];
void jumped_body(void);
void jumped_body(void)
{
    for (;;) {
        u32 tr;
        __asm__ volatile("str %w0" : "=r"(tr));
        task_ran++, task_tr = tr & 0xffff, task_flags = read_eflags(), task_backlink = other.link;
        jump_back();
    }
}

static void call_task(void *unused) { (void)unused; __asm__ volatile("lcall %0, $0" : : "i"(OTHER_TSS) : "memory"); }
static void jump_task(void *unused) { (void)unused; __asm__ volatile("ljmp %0, $0" : : "i"(OTHER_TSS) : "memory"); }
static void iret_nt(void *unused)
{
    (void)unused;
    __asm__ volatile("pushfl; orl $0x4000, (%%esp); popfl; pushl $2; pushl %%cs; pushl $1f; iretl; 1:" : : : "memory",
        "cc");
}

static void switches(void)
{
    section("CALL and IRET");
    gdt[OTHER_TSS / 8] = descriptor((u32)&other, sizeof(other) - 1, 0x89, 0);
    resume_eip = 0;
    task_init(&other, plain_entry);
    other.ebp = 0x77;
    for (u32 i = 1; i <= 5; i++) {
        u32 ebx = 0x1234, edi = 0x5678;
        __asm__ volatile("lcall %2, $0" : "+b"(ebx), "+D"(edi) : "i"(OTHER_TSS) : "memory", "eax", "ecx", "edx", "cc");
        CHECK_EQ(task_ran, i);
        CHECK_EQ(task_tr, OTHER_TSS);
        CHECK_EQ(task_flags & F_NT, F_NT);
        CHECK_EQ(other.link & 0xffff, SEL_TSS);
        CHECK_EQ(ebx, 0x1234);
        CHECK_EQ(edi, 0x5678);
        CHECK_EQ(tss_type(SEL_TSS), 0x8b);
        CHECK_EQ(tss_type(OTHER_TSS), 0x89);
        CHECK_EQ(read_eflags() & F_NT, 0);
    }
    section("JMP");
    task_init(&other, (u8 *)(u32)jumped_body);
    other.link = 0xbeef;
    for (u32 i = 1; i <= 5; i++) {
        CHECK_EQ(caught(jump_task, NULL), 0);
        CHECK_EQ(task_ran, i);
        CHECK_EQ(task_tr, OTHER_TSS);
        CHECK_EQ(task_flags & F_NT, 0);
        CHECK_EQ(task_backlink, 0xbeef);
        CHECK_EQ(tss_type(SEL_TSS), 0x8b);
        CHECK_EQ(tss_type(OTHER_TSS), 0x89);
    }
    section("switches that refuse");
    gdt[OTHER_TSS / 8] = descriptor((u32)&other, sizeof(other) - 1, 0x8b, 0);
    CHECK_TRAPS(jump_task, 0, V_GP, OTHER_TSS);                /* busy */
    CHECK_TRAPS(call_task, 0, V_GP, OTHER_TSS);
    gdt[OTHER_TSS / 8] = descriptor((u32)&other, sizeof(other) - 1, 0x09, 0);
    CHECK_TRAPS(jump_task, 0, V_NP, OTHER_TSS);
    gdt[OTHER_TSS / 8] = descriptor((u32)&other, 0x66, 0x89, 0);
    CHECK_TRAPS(jump_task, 0, V_TS, OTHER_TSS);                /* too small */
    gdt[OTHER_TSS / 8] = descriptor((u32)&other, sizeof(other) - 1, 0x89, 0);
    tss.link = SEL_KDATA;
    CHECK_TRAPS(iret_nt, 0, V_TS, SEL_KDATA);
    write_eflags(2);
    tss.link = OTHER_TSS;                                      /* not busy: nothing to return to */
    CHECK_TRAPS(iret_nt, 0, V_TS, OTHER_TSS);
    write_eflags(2);
    __asm__ volatile("clts");
}

void guest_main(void)
{
    for (int mode = 0; mode < 2; mode++) {
        paging_start(mode, false);
        /* no switch saves it: it is for the operating system to set */
        tss.cr3 = read_cr3();
        double_faults();
        without_task();
        stack_limit();
        switches();
        paging_stop();
    }
}
