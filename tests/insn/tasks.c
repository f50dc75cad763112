/* Hardware tasks beyond dftask.c: TSSs of 16 bits, nested tasks, the debug trap of a TSS, LDT and CR3 out of a TSS, a
 * virtual-8086 task, task gates in the GDT and the IDT with their privilege checks, error codes through them, and what
 * goes wrong: TSSs on pages that are not there or may not be written (before the switch: nothing has happened), and bad
 * selectors in the new TSS (after it: the exception is the new task's). SDM vol. 3, 7.2 to 7.4, 6.12.2, 6.15 (#TS),
 * 17.3.1.5. QEMU 7.2 departs: it has switched in part when a TSS faults, and has no trap bit. */
#include "rt.h"

const char guest_name[] = "tasks";

enum { WINDOW = 0x40000000, BORDER = WINDOW + PAGE };
enum { A_TSS = TEST_SEL(0), B_TSS = TEST_SEL(1), TSS_16 = TEST_SEL(2), CODE_16 = TEST_SEL(3), STACK_16 = TEST_SEL(4),
       JUDGE_TSS = TEST_SEL(5), GATE = TEST_SEL(6), SPARE = TEST_SEL(7) };

struct tss16 {
    u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

static struct tss a, b, judge_tss;
static struct tss16 small;
static u8 a_stack[4096] __attribute__((aligned(16))), b_stack[4096] __attribute__((aligned(16)));
static u8 judge_stack[4096] __attribute__((aligned(16))), stack16[256] __attribute__((aligned(16)));

static u32 type_of(u16 selector) { return (u32)(gdt[selector / 8] >> 40) & 0xff; }
static void set_tss(u16 selector, const struct tss *t) {
        gdt[selector / 8] = descriptor((u32)t, sizeof(*t) - 1, 0x89, 0); }
static u32 task_register(void) { u32 v; __asm__ volatile("str %w0" : "=r"(v)); return v & 0xffff; }

static void task_init(struct tss *t, const void *entry, u8 *stack)
{
    memset(t, 0, sizeof(*t));
    t->eip = (u32)entry, t->esp = (u32)stack + 4096, t->eflags = 2;
    t->cs = SEL_KCODE, t->ss = t->ds = t->es = t->fs = t->gs = SEL_KDATA;
    t->ss0 = SEL_KDATA, t->esp0 = t->esp - 1024;
    t->cr3 = read_cr3();
    t->iomap = sizeof(*t);
}

static void call_a(void *unused) { (void)unused; __asm__ volatile("lcall %0, $0" : : "i"(A_TSS) : "memory"); }
static void jump_a(void *unused) { (void)unused; __asm__ volatile("ljmp %0, $0" : : "i"(A_TSS) : "memory"); }
static void call_gate(void *unused) { (void)unused; __asm__ volatile("lcall %0, $0" : : "i"(GATE | 3) : "memory"); }
static u32 user_call_gate(u32 x) { call_gate(NULL); return x; }
static u32 user_int90(u32 x) { __asm__ volatile("int $0x90" : : : "memory"); return x; }
static void kernel_int90(void *x) { user_int90((u32)x); }

/* ---- Bodies. Each notes what it finds in "seen", and goes on in a loop when it is entered again. */
static volatile struct { u32 ran, tr, flags, link, fs_word, window, dr7, ts, esp, cr3; } seen;
void note_task(const struct tss *self, u32 esp);
void note_task(const struct tss *self, u32 esp)
{
    u32 flags = read_eflags(), dr7;

    __asm__ volatile("movl %%db7, %0" : "=r"(dr7));
    seen.ran++, seen.flags = flags, seen.tr = task_register(), seen.link = self->link, seen.dr7 = dr7, seen.esp = esp;
    seen.ts = read_cr0() & CR0_TS, seen.cr3 = read_cr3();
}
extern const u8 a_entry[], a_calls_b[], b_entry[], ldt_entry[], code16[], judge_entry[], a_jumps_back[];
__asm__(".text\n.globl a_entry, a_calls_b, b_entry, ldt_entry, code16, judge_entry, a_jumps_back\n"
        "a_entry: movl %esp, %eax\n\tpushl %eax\n\tpushl $a\n\tcall note_task\n\taddl $8, %esp\n\tiretl\n\t"
            "jmp a_entry\n"
        "a_calls_b: lcall $0x48, $0\n\tmovl %esp, %eax\n\tpushl %eax\n\tpushl $a\n\tcall note_task\n\taddl $8, %esp\n\t"
            "iretl\n\t"
        "jmp a_calls_b\n"
        "b_entry: call look_nested\n\tiretl\n\tjmp b_entry\n"
        "ldt_entry: movl %fs:0, %eax\n\tmovl %eax, fs_word\n\tmovl window_at, %eax\n\tmovl (%eax), %eax\n\t"
            "movl %eax, window_word\n\t"
        "jmp a_entry\n"
        "a_jumps_back: ljmp $0x28, $0\n\tjmp a_jumps_back\n"
        /* inc ax; iret; jmp to the start: in 16 bits */
        "code16: .byte 0x40, 0xcf, 0xeb, 0xfc\n");
u32 fs_word, window_word, window_at = WINDOW;
static volatile u32 nested_types[4], nested_link;
void look_nested(void);
void look_nested(void)
{
    nested_types[0] = type_of(SEL_TSS), nested_types[1] = type_of(A_TSS), nested_types[2] = type_of(B_TSS);
    nested_types[3] = task_register();
    nested_link = b.link & 0xffff;
}

/* ---- 16 bits. */
static void sixteen_bits(void)
{
    section("a TSS of 16 bits");
    gdt[TSS_16 / 8] = descriptor((u32)&small, sizeof(small) - 1, 0x81, 0);
    gdt[CODE_16 / 8] = descriptor((u32)code16, 3, SEG_CODE, 0);
    gdt[STACK_16 / 8] = descriptor((u32)stack16, sizeof(stack16) - 1, SEG_DATA, 0);
    small = (struct tss16){.ax = 0x7fff, .cx = 0x1234, .sp = sizeof(stack16), .flags = 2, .cs = CODE_16,
        .ss = STACK_16, .ds = STACK_16,
                           .es = STACK_16, .dx = 0x5678};
    for (u32 i = 1; i <= 3; i++) {
        u32 ebx = 0xabcd1234, esi = 0x55667788, edi = 0x99aabbcc;
        __asm__ volatile("lcall %3, $0" : "+b"(ebx), "+S"(esi), "+D"(edi) : "i"(TSS_16) : "memory", "cc");
        CHECK_EQ(small.ax, 0x7fff + i);
        CHECK_EQ(small.cx, 0x1234);
        CHECK_EQ(small.dx, 0x5678);
        CHECK_EQ(small.link, SEL_TSS);
        CHECK_EQ(small.ip, 2);                                 /* behind its IRET */
        CHECK_EQ(small.flags & F_NT, 0);                       /* IRET has cleared it in what it saved */
        CHECK_EQ(small.cs, CODE_16);
        CHECK_EQ(ebx, 0xabcd1234);
        CHECK_EQ(esi, 0x55667788);
        CHECK_EQ(edi, 0x99aabbcc);
        CHECK_EQ(type_of(TSS_16), 0x81);
        CHECK_EQ(type_of(SEL_TSS), 0x8b);
        CHECK_EQ(task_register(), SEL_TSS);
    }
    gdt[TSS_16 / 8] = descriptor((u32)&small, 0x2a, 0x81, 0);  /* one byte short */
    gdt[GATE / 8] = gate(TSS_16, 0, 0xe5, 0);
    CHECK_TRAPS(call_gate, 0, V_TS, TSS_16);
    __asm__ volatile("clts");
}

/* ---- Nesting, the trap bit, what else a TSS has. */
static void nesting(void)
{
    section("a task calls another");
    set_tss(A_TSS, &a), set_tss(B_TSS, &b);
    task_init(&a, a_calls_b, a_stack);
    task_init(&b, b_entry, b_stack);
    seen.ran = 0;
    for (u32 i = 1; i <= 3; i++) {
        CHECK_EQ(caught(call_a, NULL), 0);
        CHECK_EQ(seen.ran, i);
        CHECK_EQ(nested_types[0], 0x8b);
        CHECK_EQ(nested_types[1], 0x8b);
        CHECK_EQ(nested_types[2], 0x8b);
        CHECK_EQ(nested_types[3], B_TSS);
        CHECK_EQ(nested_link, A_TSS);
        CHECK_EQ(a.link & 0xffff, SEL_TSS);
        CHECK_EQ(seen.flags & F_NT, F_NT);                     /* a's own, back from b */
        CHECK_EQ(seen.tr, A_TSS);
        CHECK_EQ(type_of(SEL_TSS), 0x8b);
        CHECK_EQ(type_of(A_TSS), 0x89);
        CHECK_EQ(type_of(B_TSS), 0x89);
    }
}

static volatile struct { u32 times, dr6, eip, tr, eflags; } debug;
static bool on_debug(struct frame *f)
{
    u32 dr6;

    __asm__ volatile("movl %%db6, %0" : "=r"(dr6));
    debug.times++, debug.dr6 = dr6, debug.eip = f->eip, debug.tr = task_register(), debug.eflags = f->eflags;
    __asm__ volatile("movl %0, %%db6" : : "r"(0));
    return true;
}

static void trap_bit(void)
{
    section("the trap bit of a TSS");
    if (told("tcg"))
        return;
    set_tss(A_TSS, &a);
    task_init(&a, a_entry, a_stack);
    a.trap = 1;
    seen.ran = debug.times = 0;
    on_trap(V_DB, on_debug);
    CHECK_EQ(caught(call_a, NULL), 0);
    on_trap(V_DB, NULL);
    CHECK_EQ(debug.times, 1);
    CHECK_EQ(debug.dr6 & 0xe00f, 0x8000);                      /* BT */
    CHECK_EQ(debug.eip, (u32)a_entry);                         /* before the new task's first instruction */
    CHECK_EQ(debug.tr, A_TSS);
    CHECK_EQ(seen.ran, 1);
}

static void contents(void)
{
    u32 one = (u32)page_alloc(), two = (u32)page_alloc(), mine = paging_root(), dr7;

    section("LDT, CR3, DR7 and CR0.TS");
    set_tss(A_TSS, &a);
    gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, 0x82, 0);
    ldt[2] = descriptor((u32)&a.eip, 0xff, SEG_DATA, SEG_BIG);
    poke(one, 0x1111), poke(two, 0x2222);
    pte_set(WINDOW, one | 3);
    u32 space = paging_new_space();
    paging_use(space);
    pte_set(WINDOW, two | 3);
    paging_use(mine);
    CHECK_EQ(peek(WINDOW), 0x1111);
    task_init(&a, ldt_entry, a_stack);
    a.ldt = SEL_LDT, a.fs = 2 << 3 | 4, a.cr3 = space;
    fs_word = window_word = 0;
    __asm__ volatile("movl %0, %%db7" : : "r"(0x3ff));         /* L0 to G3, LE, GE; DR0 to DR3 are 0 */
    __asm__ volatile("clts");
    CHECK_EQ(caught(call_a, NULL), 0);
    CHECK_EQ(fs_word, (u32)ldt_entry);                         /* the word at a.eip, when it was read */
    CHECK_EQ(window_word, 0x2222);
    CHECK_EQ(seen.cr3, space);
    CHECK_EQ(seen.ts, CR0_TS);
    CHECK_EQ(seen.dr7 & 0x3ff, 0x2aa);                         /* the local breakpoints are disabled */
    CHECK_EQ(read_cr3(), mine);
    CHECK_EQ(peek(WINDOW), 0x1111);
    __asm__ volatile("movl %%db7, %0" : "=r"(dr7));
    CHECK_EQ(dr7 & 0x3ff, 0x2aa);
    __asm__ volatile("movl %0, %%db7; clts" : : "r"(0));
    u32 left;
    __asm__ volatile("sldt %w0" : "=r"(left));
    CHECK_EQ(left & 0xffff, 0);                                /* ours: tss.ldt */
}

static volatile struct { u32 times, eflags, cs, eip, tr, ds; } virtual86;
static bool on_virtual86(struct frame *f)
{
    if (!(f->eflags & 0x20000))
        return false;
    virtual86.times++, virtual86.eflags = f->eflags, virtual86.cs = f->cs & 0xffff, virtual86.eip = f->eip;
    virtual86.tr = task_register(), virtual86.ds = f->ds & 0xffff;
    __asm__ volatile("ljmp %0, $0" : : "i"(SEL_TSS) : "memory"); /* leaves the task for good */
    return true;
}

static void virtual_task(void)
{
    static const u8 body[] = {0xb8, 0x34, 0x12, 0x8e, 0xd8, 0xf4}; /* mov ax, 1234h; mov ds, ax; hlt */

    section("a virtual-8086 task");
    memcpy((void *)0x8000, body, sizeof(body));
    set_tss(A_TSS, &a);
    task_init(&a, NULL, a_stack);
    a.eflags = 2 | 0x20000, a.cs = 0x800, a.eip = 0, a.ss = 0x900, a.esp = 0x100, a.ds = a.es = a.fs = a.gs = 0xb000;
    virtual86.times = 0;
    on_trap(V_GP, on_virtual86);
    CHECK_EQ(caught(jump_a, NULL), 0);
    on_trap(V_GP, NULL);
    CHECK_EQ(virtual86.times, 1);
    CHECK_EQ(virtual86.eflags & 0x20000, 0x20000);
    CHECK_EQ(virtual86.cs, 0x800);
    CHECK_EQ(virtual86.eip, 5);
    CHECK_EQ(virtual86.tr, A_TSS);
    CHECK_EQ(virtual86.ds, 0);                                 /* null in the handler */
    CHECK_EQ(task_register(), SEL_TSS);
    __asm__ volatile("clts");
}

/* ---- Gates. */
static void gates(void)
{
    section("task gates");
    set_tss(A_TSS, &a);
    task_init(&a, a_entry, a_stack);
    seen.ran = 0;
    tss.cr3 = read_cr3();
    gdt[GATE / 8] = gate(A_TSS, 0xdead, 0xe5, 0);
    CHECK_EQ(caught(call_gate, NULL), 0);
    CHECK_EQ(ring3(user_call_gate, 7), 0);                     /* the TSS's own DPL is not looked at */
    CHECK_EQ(trap.eax, 7);
    CHECK_EQ(seen.ran, 2);
    CHECK_EQ(seen.esp, a.esp);
    gdt[GATE / 8] = gate(A_TSS, 0, 0x85, 0);
    CHECK_EQ(ring3(user_call_gate, 7), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, GATE);
    gdt[GATE / 8] = gate(A_TSS, 0, 0x65, 0);
    CHECK_EQ(ring3(user_call_gate, 7), 1);
    CHECK_EQ(trap.vector, V_NP);
    CHECK_EQ(trap.error, GATE);
    gdt[GATE / 8] = gate(A_TSS | 4, 0, 0xe5, 0);               /* a TSS in the LDT is none */
    CHECK_TRAPS(call_gate, 0, V_GP, A_TSS | 4);
    gdt[GATE / 8] = gate(SEL_KDATA, 0, 0xe5, 0);
    CHECK_TRAPS(call_gate, 0, V_GP, SEL_KDATA);
    gdt[GATE / 8] = gate(SEL_TSS, 0, 0xe5, 0);                 /* busy */
    CHECK_TRAPS(call_gate, 0, V_GP, SEL_TSS);
    gdt[GATE / 8] = gate(0, 0, 0xe5, 0);
    CHECK_TRAPS(call_gate, 0, V_GP, 0);
    section("task gates in the IDT");
    idt_set(0x90, gate(A_TSS, 0, 0xe5, 0));
    seen.ran = 0;
    CHECK_EQ(ring3(user_int90, 9), 0);
    CHECK_EQ(trap.eax, 9);
    CHECK_EQ(caught(kernel_int90, NULL), 0);
    CHECK_EQ(seen.ran, 2);
    CHECK_EQ(seen.flags & F_NT, F_NT);
    idt_set(0x90, gate(A_TSS, 0, 0x85, 0));
    CHECK_EQ(ring3(user_int90, 9), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, 0x90 * 8 + 2);
    idt_set(0x90, gate(A_TSS, 0, 0x65, 0));
    CHECK_EQ(ring3(user_int90, 9), 1);
    CHECK_EQ(trap.vector, V_NP);
    CHECK_EQ(trap.error, 0x90 * 8 + 2);
    idt_set(0x90, gate(SEL_KDATA, 0, 0xe5, 0));
    CHECK_TRAPS(kernel_int90, 0, V_GP, SEL_KDATA);
    idt_set(0x90, gate(SEL_KCODE, idt_stub(0x90), 0x8e, 0));
    __asm__ volatile("clts");
}

/* ---- The judge: a task for what goes wrong in a task. It is entered through a task gate with an error code on its
 * stack, and jumps to the main task, which has left by a JMP and is free therefore. */
volatile u32 judged, judge_error, judge_link;
__asm__("judge_entry: popl %eax\n\tmovl %eax, judge_error\n\tmovw judge_tss, %ax\n\tmovzwl %ax, %eax\n\t"
        "movl %eax, judge_link\n\t"
        "incl judged\n\tljmp $0x28, $0\n\tjmp judge_entry\n");

static const char *vector_name(u32 v) { return v == V_TS ? "#TS" : v == V_NP ? "#NP" : v == V_SS ? "#SS" : "#GP"; }

static void bad_case(const char *what, u32 vector, u32 error)
{
    static const u8 all[] = {V_TS, V_NP, V_SS, V_GP};
    u64 saved[4];

    set_tss(A_TSS, &a), set_tss(JUDGE_TSS, &judge_tss);
    task_init(&judge_tss, judge_entry, judge_stack);
    for (unsigned i = 0; i < 4; i++) {
        saved[i] = idt[all[i]];
        idt_set(all[i], all[i] == vector ? gate(JUDGE_TSS, 0, 0x85, 0) : saved[i]);
    }
    judged = 0, judge_error = ~0u;
    u32 went = caught(jump_a, NULL);
    for (unsigned i = 0; i < 4; i++)
        idt_set(all[i], saved[i]);
    if (went || judged != 1 || judge_error != error)
        print("  %s: want %s(0x%x), judged %u error 0x%x, trapped %u vector %u error 0x%x\n", what,
            vector_name(vector), error, judged,
              judge_error, went, trap.vector, trap.error);
    CHECK_EQ(went, 0);
    CHECK_EQ(judged, 1);
    CHECK_EQ(judge_error, error);
    CHECK_EQ(judge_link, A_TSS);                               /* it is the new task that was interrupted */
    CHECK_EQ(a.eip, (u32)a_jumps_back);                        /* at its first instruction */
    CHECK_EQ(type_of(SEL_TSS), 0x8b);
    CHECK_EQ(task_register(), SEL_TSS);
    task_init(&a, a_jumps_back, a_stack);
}

static void bad_selectors(void)
{
    u64 absent = descriptor(0, 0xfffff, SEG_DATA & 0x7f, SEG_BIG | SEG_GRAN);

    section("bad selectors in the new TSS");
    task_init(&a, a_jumps_back, a_stack);
    gdt[SPARE / 8] = absent;
    a.ldt = SEL_KDATA, bad_case("LDT: data", V_TS, SEL_KDATA);
    a.ldt = SEL_LDT | 4, bad_case("LDT in the LDT", V_TS, SEL_LDT | 4);
    a.ldt = GDT_ENTRIES * 8, bad_case("LDT beyond the table", V_TS, GDT_ENTRIES * 8);
    a.cs = SEL_KDATA, bad_case("CS: data", V_TS, SEL_KDATA);
    a.cs = 0, bad_case("CS: null", V_TS, 0);
    a.cs = SEL_KCODE | 3, bad_case("CS: RPL is not DPL", V_TS, SEL_KCODE);
    a.ss = 0, bad_case("SS: null", V_TS, 0);
    a.ss = SEL_KCODE, bad_case("SS: code", V_TS, SEL_KCODE);
    a.ss = SEL_UDATA, bad_case("SS: of another ring", V_TS, SEL_UDATA & ~3u);
    a.ss = SPARE, bad_case("SS: absent", V_SS, SPARE);
    a.ds = GDT_ENTRIES * 8, bad_case("DS beyond the table", V_TS, GDT_ENTRIES * 8);
    a.ds = A_TSS, bad_case("DS: a TSS", V_TS, A_TSS);
    a.es = SPARE, bad_case("ES: absent", V_NP, SPARE);
    a.gs = SPARE, bad_case("GS: absent", V_NP, SPARE);
    gdt[SPARE / 8] = descriptor(0, 0xfffff, SEG_CODE & 0x7f, SEG_BIG | SEG_GRAN);
    a.cs = SPARE, bad_case("CS: absent", V_NP, SPARE);
    gdt[SPARE / 8] = descriptor(0, 0xfffff, SEG_CODE_XO, SEG_BIG | SEG_GRAN);
    a.fs = SPARE, bad_case("FS: execute-only", V_TS, SPARE);
    gdt[SPARE / 8] = descriptor(0, 0xff, SEG_CODE, SEG_BIG);
    a.cs = SPARE, bad_case("EIP beyond CS", V_GP, 0);
    __asm__ volatile("clts");
}

/* ---- TSSs on bad pages: all is as before the instruction. */
static u8 *pages;
static void map(u32 low, u32 high)
{
    pte_set(WINDOW, low ? (u32)pages | low : 0);
    pte_set(BORDER, high ? ((u32)pages + PAGE) | high : 0);
    write_cr3(read_cr3());
}

static void check_nothing_happened(u32 cr2_page, u32 error)
{
    CHECK_EQ(trap.vector, V_PF);
    CHECK_EQ(trap.error, error);
    CHECK_EQ(trap.cr2 & ~0xfffu, cr2_page);
    CHECK_EQ(trap.cs, SEL_KCODE);
    CHECK_EQ(task_register(), SEL_TSS);
    CHECK_EQ(type_of(SEL_TSS), 0x8b);
    CHECK_EQ(read_cr0() & CR0_TS, 0);
}

static void bad_pages(void)
{
    enum { HALF = 0x40 };                                      /* of the TSS on the first page */
    struct tss *t = (struct tss *)(pages + PAGE - HALF);
    u64 saved = gdt[SEL_TSS / 8];

    if (told("tcg"))
        return;
    section("the new TSS on two pages");
    task_init(t, a_entry, a_stack);
    task_init(&a, a_entry, a_stack);
    gdt[A_TSS / 8] = descriptor(BORDER - HALF, sizeof(*t) - 1, 0x89, 0);
    seen.ran = 0;
    for (u32 how = 0; how < 2; how++) {
        void (*go)(void *) = how ? jump_a : call_a;
        map(0, 3);
        CHECK_EQ(caught(go, NULL), 1);
        check_nothing_happened(WINDOW, trap.error & 2);
        CHECK_EQ(type_of(A_TSS), 0x89);
        map(3, 0);
        CHECK_EQ(caught(go, NULL), 1);
        check_nothing_happened(BORDER, trap.error & 2);
        CHECK_EQ(type_of(A_TSS), 0x89);
    }
    section("the new TSS is read-only: its link cannot be written");
    write_cr0(read_cr0() | CR0_WP);
    map(1, 1);
    CHECK_EQ(caught(call_a, NULL), 1);
    check_nothing_happened(WINDOW, 3);
    CHECK_EQ(type_of(A_TSS), 0x89);
    map(3, 3);
    CHECK_EQ(seen.ran, 0);
    CHECK_EQ(caught(call_a, NULL), 0);
    CHECK_EQ(seen.ran, 1);
    __asm__ volatile("clts");
    section("the old TSS on two pages");
    struct tss *mine = (struct tss *)(pages + PAGE - HALF);
    memcpy(mine, &tss, sizeof(tss));
    set_tss(A_TSS, &a);
    gdt[SEL_TSS / 8] = descriptor(BORDER - HALF, sizeof(tss) - 1, 0x89, 0);
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    for (u32 bad = 0; bad < 3; bad++) {
        map(bad == 1 ? 1 : 3, bad == 0 ? 0 : bad == 2 ? 1 : 3);
        CHECK_EQ(caught(call_a, NULL), 1);
        check_nothing_happened(bad == 1 ? WINDOW : BORDER, bad ? 3 : 2);
        CHECK_EQ(type_of(A_TSS), 0x89);
        CHECK_EQ(a.link, 0);
    }
    map(3, 3);
    CHECK_EQ(caught(call_a, NULL), 0);
    CHECK_EQ(seen.ran, 2);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    gdt[SEL_TSS / 8] = saved & ~(2ull << 40);
    __asm__ volatile("ltr %w0; clts" : : "r"(SEL_TSS));
}

/* ---- IRET with NT at CPL 3. */
static u32 user_iret_nt(u32 unused)
{
    __asm__ volatile("pushfl; orl $0x4000, (%%esp); popfl; pushl $2; pushl %%cs; pushl $1f; iretl; 1:" : : : "memory",
        "cc");
    return unused;
}

static void returns(void)
{
    section("IRET with NT");
    set_tss(A_TSS, &a);
    tss.link = A_TSS;                                          /* not busy */
    CHECK_EQ(ring3(user_iret_nt, 0), 1);
    CHECK_EQ(trap.vector, V_TS);
    CHECK_EQ(trap.error, A_TSS);
    CHECK_EQ(trap.eflags & F_NT, F_NT);
    tss.link = A_TSS | 4;
    CHECK_EQ(ring3(user_iret_nt, 0), 1);
    CHECK_EQ(trap.error, A_TSS | 4);
    tss.link = 0;
    CHECK_EQ(ring3(user_iret_nt, 0), 1);
    CHECK_EQ(trap.vector, V_TS);
    CHECK_EQ(trap.error, 0);
    gdt[A_TSS / 8] = descriptor((u32)&a, sizeof(a) - 1, 0x0b, 0);      /* busy, absent */
    tss.link = A_TSS;
    CHECK_EQ(ring3(user_iret_nt, 0), 1);
    CHECK_EQ(trap.vector, V_NP);
    CHECK_EQ(trap.error, A_TSS);
    tss.link = 0;
    write_eflags(2);
}

void guest_main(void)
{
    pages = pages_alloc(2, 2 * PAGE);
    for (int pae = 0; pae < 2; pae++) {
        paging_start(pae, false);
        tss.cr3 = read_cr3();
        sixteen_bits();
        nesting();
        trap_bit();
        contents();
        virtual_task();
        gates();
        bad_selectors();
        bad_pages();
        returns();
        paging_stop();
    }
}
