/* Nanobenchmarks, as a Multiboot guest: cycles for one operation of those that a kernel does to its processor, each
 * alone in a loop (Adams & Agesen, ASPLOS 2006, section 6, called theirs FrobOS). */
#include "tests/insn/rt.h"

#define nano_print print
#include "bench/kernel/nano.h"

const char guest_name[] = "nano";

enum { INT_VECTOR = 0x82, SELF_VECTOR = 0x50, NOWHERE = 0x40000000, PAGES = 0x41000000, OTHER_PAGES = 16, PORT = 0x80 };
enum { MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176 };
enum { APIC_ID = 0x20, APIC_TPR = 0x80, APIC_EOI = 0xb0, APIC_SPURIOUS = 0xf0, APIC_ICR = 0x300 };
enum { USER_VECTOR = 0x83, MANY_PAGES = 256 /* from PAGES on, with a page-table entry each */, IRETS = 256 };
enum { SEL_GATE = TEST_SEL(0), SEL_TASK = TEST_SEL(1), SEL_CODE16 = TEST_SEL(2), HLT_SAMPLES = 41, HLT_TICKS = 240 };

extern const u8 nano_iret[], nano_sysexit[], nano_skip2[], nano_skip2_error[], nano_lret[], nano_lret16[], nano_eoi[],
    nano_task[], nano_patched[], nano_stamped[];
__asm__(".text\n"
        "nano_iret: iretl\n"
        "nano_sysexit: sysexit\n"
        "nano_skip2_error: addl $4, %esp\n" /* the error code */
        "nano_skip2: addl $2, (%esp)\n"
        "iretl\n"
        "nano_lret: lretl\n"
        "nano_lret16: .byte 0x66; lret\n"
        "nano_eoi: movl $0, 0xfee000b0\n"
        "iretl\n"
        "nano_stamped: rdtsc\n"
        "iretl\n"
        "nano_task: iretl\n"
        "jmp nano_task\n"
        ".data\n.balign 64\n"
        "nano_patched: movl $0, %eax\n"
        "ret\n"
        ".text\n");

/* ---- operations of CPL 0: n of them ---- */

#define OP(name, text, ...)                                               \
    static void name(void *arg, u32 n)                                    \
    {                                                                     \
        for (; n; n--) __asm__ volatile(text : : "r"(arg) : __VA_ARGS__); \
    }
OP(op_loop, "", "memory")
OP(op_in, "inb $0x80, %%al", "eax")
OP(op_out, "outb %%al, $0x80", "memory")
OP(op_cli_sti, "cli; sti", "memory")
OP(op_pushf_popf, "pushfl; popfl", "cc", "memory")
OP(op_rdtsc, "rdtsc", "eax", "edx")
OP(op_cpuid, "xorl %%eax, %%eax; cpuid", "eax", "ebx", "ecx", "edx")
OP(op_lgdt, "lgdt (%0)", "memory")
OP(op_invlpg, "invlpg (%0)", "memory")
OP(op_cr3, "movl %0, %%cr3", "memory")
OP(op_segment, "movl %%ds, %%eax; movl %%eax, %%es", "eax", "memory")
OP(op_page_fault, "movl %0, %%eax; .byte 0x8b, 0x00", "eax", "memory")
OP(op_divide, "xorl %%ecx, %%ecx; .byte 0xf7, 0xf1", "eax", "ecx", "edx", "cc")
OP(op_int, "int $0x82", "memory")
OP(op_gate, "lcall $0x40, $0", "memory")
OP(op_task, "lcall $0x48, $0", "memory")
OP(op_code16, "lcall $0x50, $0", "memory")
OP(op_self_modify, "incb 1(%0); call *%0", "eax", "memory", "cc")
OP(op_insw, "movl $256, %%ecx; movw $0x80, %%dx; movl %0, %%edi; rep insw", "ecx", "edx", "edi", "memory")
_Static_assert(SEL_GATE == 0x40 && SEL_TASK == 0x48 && SEL_CODE16 == 0x50 && INT_VECTOR == 0x82 && PORT == 0x80,
               "as the instructions above have them");

static void op_call(void *arg, u32 n)
{
    (void)arg;
    nano_call(n);
}
static void op_indirect(void *arg, u32 n) { nano_indirect(n, (u32)arg); }

static void op_ts(void *arg, u32 n)
{
    u32 cr0 = read_cr0();
    for (; n; n--) {
        write_cr0(cr0 | CR0_TS);
        __asm__ volatile("clts");
    }
    (void)arg;
}

static void op_cr0(void *bits, u32 n)
{
    u32 cr0 = read_cr0();
    for (; n; n--) {
        write_cr0(cr0 ^ (u32)bits);
        write_cr0(cr0);
    }
}

static void op_cr4(void *bits, u32 n)
{
    u32 cr4 = read_cr4();
    for (; n; n--) {
        write_cr4(cr4 ^ (u32)bits);
        write_cr4(cr4);
    }
}

static void op_tpr(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) apic_write(APIC_TPR, 0);
}

static void op_mmio_read(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) (void)apic_read(APIC_ID);
}

static void op_mmio_write(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) apic_write(APIC_SPURIOUS, 0x1ff);
}

static void op_self_ipi(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) {
        apic_write(APIC_ICR, 1u << 18 | 1u << 14 | SELF_VECTOR);
        __asm__ volatile("sti; nop; cli" : : : "memory");
    }
}

/* Two address spaces by turns, some pages being read in each. */
static u32 spaces[2];
static void op_switch(void *arg, u32 n)
{
    u32 sum = 0;
    for (; n; n--) {
        write_cr3(spaces[n & 1]);
        for (u32 i = 0; i < OTHER_PAGES; i++) sum += peek(PAGES + i * PAGE);
    }
    write_cr3(spaces[0]);
    nano_sum = sum;
    (void)arg;
}

/* The page-table entry of PAGES. */
static volatile u32 *pte;
static u32 pte_value;
static void op_pte_same(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) *pte = pte_value;
}
static void op_pte_unmap_map(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) {
        *pte = 0;
        invlpg(PAGES);
        *pte = pte_value;
    }
}
static void op_pte_unmap_map_use(void *arg, u32 n)
{
    (void)arg;
    for (; n; n--) {
        *pte = 0;
        invlpg(PAGES);
        *pte = pte_value;
        (void)peek(PAGES);
    }
}

/* A change of many page-table entries, each of another page: all of them are put back meanwhile, which is not timed. */
static void many_set(u32 value)
{
    for (u32 i = 0; i < MANY_PAGES; i++) {
        pte[i] = value;
        invlpg(PAGES + i * PAGE);
        if (value) (void)peek(PAGES + i * PAGE);
    }
}
static u32 unmap_took(u32 n)
{
    many_set(pte_value);
    u64 start = rdtsc();
    for (u32 i = 0; i < n; i++) {
        pte[i] = 0;
        invlpg(PAGES + i * PAGE);
    }
    return (u32)(rdtsc() - start);
}
static u32 map_took(u32 n)
{
    many_set(0);
    u64 start = rdtsc();
    for (u32 i = 0; i < n; i++) pte[i] = pte_value;
    return (u32)(rdtsc() - start);
}
static u32 map_use_took(u32 n)
{
    many_set(0);
    u64 start = rdtsc();
    for (u32 i = 0; i < n; i++) {
        pte[i] = pte_value;
        (void)peek(PAGES + i * PAGE);
    }
    return (u32)(rdtsc() - start);
}

/* ---- from CPL 3 ---- */

static __attribute__((noinline)) u32 user_int(u32 n)
{
    for (; n; n--) __asm__ volatile("int $0x82" : : : "memory");
    return 0;
}

static __attribute__((noinline)) u32 user_sysenter(u32 n)
{
    for (; n; n--)
        __asm__ volatile("movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:" : : : "ecx", "edx", "memory", "cc");
    return 0;
}

/* IRET to ring 3 alone, with the RDTSC after it: each is timed by itself, from the RDTSC before. */
static __attribute__((noinline)) u32 user_iret(u32 n)
{
    u32 took = 0;
    for (; n; n--) {
        u32 begin, end;
        __asm__ volatile("int $0x83; movl %%eax, %0; rdtsc; movl %%eax, %1"
                         : "=&r"(begin), "=&r"(end)
                         :
                         : "eax", "edx", "memory");
        took += end - begin;
    }
    return took;
}

static u32 iret_took(u32 n)
{
    ring3(user_iret, n);
    return trap.eax;
}

static void op_ring3(void *fn, u32 n) { ring3((u32(*)(u32))fn, n); }

/* ---- HLT to the interrupt that ends it: how late that comes, a sample each ---- */

static u64 woken;
static bool on_timer(struct frame *f)
{
    (void)f;
    woken = rdtsc();
    pic_eoi(0);
    return true;
}

static void measure_hlt(void)
{
    u32 late[HLT_SAMPLES], due = (u32)(tsc_hz() * HLT_TICKS / PIT_HZ);
    on_trap(IRQ_BASE, on_timer);
    pic_unmask(0);
    for (u32 i = 0; i < HLT_SAMPLES; i++) {
        woken = 0;
        u64 start = rdtsc();
        pit_oneshot(HLT_TICKS);
        while (!woken) __asm__ volatile("sti; hlt; cli" : : : "memory");
        late[i] = woken - start > due ? (u32)(woken - start) - due : 0;
    }
    pic_mask(0);
    nano_sort(late, HLT_SAMPLES);
    print("BENCH hlt_to_interrupt %u.0 cycles %u.0 %u.0 %u.0 %u.0 %u.0\n", late[HLT_SAMPLES / 2], late[0],
          late[HLT_SAMPLES / 4], late[HLT_SAMPLES / 2], late[3 * HLT_SAMPLES / 4], late[HLT_SAMPLES - 1]);
}

/* ---- */

static struct tss other_task;
static u8 other_stack[4096];
static u16 words[256];
static struct {
    u16 limit;
    u32 base;
} __attribute__((packed)) gdt_register = { sizeof gdt - 1, 0 };

static void prepare(void)
{
    paging_start(false, false);
    write_cr0(read_cr0() | CR0_WP);
    write_cr4(read_cr4() | CR4_PGE);
    for (u32 i = 0; i < OTHER_PAGES; i++) pte_set(PAGES + i * PAGE, (u32)page_alloc() | PTE_P | PTE_W | PTE_A | PTE_D);
    spaces[0] = paging_root();
    pte_value = (u32)pte_get(PAGES);
    pte = (volatile u32 *)((u32)pde_get(PAGES) & ~0xfffu) + (PAGES >> 12 & 0x3ff);
    spaces[1] = paging_new_space();
    paging_of(spaces[1]);
    for (u32 i = 0; i < OTHER_PAGES; i++) pte_set(PAGES + i * PAGE, (u32)page_alloc() | PTE_P | PTE_W | PTE_A | PTE_D);
    paging_of(spaces[0]);
    gdt_register.base = (u32)gdt;
    idt_set(INT_VECTOR, gate(SEL_KCODE, (u32)nano_iret, 0xee, 0));
    idt_set(USER_VECTOR, gate(SEL_KCODE, (u32)nano_stamped, 0xee, 0));
    idt_set(SELF_VECTOR, gate(SEL_KCODE, (u32)nano_eoi, 0x8e, 0));
    wrmsr(MSR_SYSENTER_CS, SEL_KCODE);
    wrmsr(MSR_SYSENTER_ESP, (u32)trap_stack_top);
    wrmsr(MSR_SYSENTER_EIP, (u32)nano_sysexit);
    gdt[SEL_GATE / 8] = gate(SEL_KCODE, (u32)nano_lret, 0x8c, 0);
    gdt[SEL_CODE16 / 8] = descriptor((u32)nano_lret16, 0xffff, SEG_CODE, 0);
    gdt[SEL_TASK / 8] = descriptor((u32)&other_task, sizeof other_task - 1, 0x89, 0);
    other_task = (struct tss){ .cr3 = spaces[0],
                               .eip = (u32)nano_task,
                               .eflags = 2,
                               .esp = (u32)other_stack + sizeof other_stack,
                               .es = SEL_KDATA,
                               .cs = SEL_KCODE,
                               .ss = SEL_KDATA,
                               .ds = SEL_KDATA,
                               .fs = SEL_KDATA,
                               .gs = SEL_KDATA,
                               .iomap = sizeof other_task };
    tss.cr3 = spaces[0];
    apic_write(APIC_SPURIOUS, 0x1ff);
}

/* With another handler of an exception, which skips the two bytes of the instruction. */
static void measure_fault(const char *name, u8 vector, const u8 *handler, void (*op)(void *, u32), void *arg)
{
    u64 before = idt[vector];
    idt_set(vector, gate(SEL_KCODE, (u32)handler, 0x8e, 0));
    nano_measure(name, op, arg);
    idt_set(vector, before);
}

void guest_main(void)
{
    static const struct {
        const char *name;
        void (*op)(void *, u32);
        u32 arg;
    } ops[] = {
        { "loop", op_loop, 0 },
        { "call_ret", op_call, 0 },
        { "indirect_1", op_indirect, 0 },
        { "indirect_4", op_indirect, 3 },
        { "indirect_64", op_indirect, 63 },
        { "rdtsc", op_rdtsc, 0 },
        { "cpuid", op_cpuid, 0 },
        { "segment_load", op_segment, 0 },
        { "pushf_popf", op_pushf_popf, 0 },
        { "cli_sti", op_cli_sti, 0 },
        { "in", op_in, 0 },
        { "out", op_out, 0 },
        { "rep_insw_256", op_insw, (u32)words },
        { "mmio_read", op_mmio_read, 0 },
        { "mmio_write", op_mmio_write, 0 },
        { "tpr_write", op_tpr, 0 },
        { "cr0_ts", op_ts, 0 },
        { "cr0_wp", op_cr0, CR0_WP },
        { "cr4_pge", op_cr4, CR4_PGE },
        { "invlpg", op_invlpg, PAGES },
        { "pte_same", op_pte_same, 0 },
        { "pte_unmap_map", op_pte_unmap_map, 0 },
        { "pte_unmap_map_use", op_pte_unmap_map_use, 0 },
        { "address_space_switch", op_switch, 0 },
        { "int_iret", op_int, 0 },
        { "syscall_int", op_ring3, (u32)user_int },
        { "syscall_sysenter", op_ring3, (u32)user_sysenter },
        { "self_ipi", op_self_ipi, 0 },
        { "self_modify", op_self_modify, (u32)nano_patched },
        { "call_gate", op_gate, 0 },
        { "code16_call", op_code16, 0 },
    };
    prepare();
    print("BENCH-START nano\n");
    for (u32 i = 0; i < sizeof ops / sizeof ops[0]; i++) nano_measure(ops[i].name, ops[i].op, (void *)ops[i].arg);
    nano_measure("cr3_load", op_cr3, (void *)spaces[0]);
    nano_measure("lgdt", op_lgdt, &gdt_register);
    measure_fault("page_fault", V_PF, nano_skip2_error, op_page_fault, (void *)NOWHERE);
    measure_fault("divide_error", V_DE, nano_skip2, op_divide, NULL);
    for (u32 i = 0; i < sizeof nano_user / sizeof nano_user[0]; i++)
        nano_measure(nano_user[i].name, op_ring3, (void *)nano_user[i].fn);
    nano_measure_own("iret_to_user", iret_took, IRETS);
    nano_measure_own("pte_p_to_np", unmap_took, MANY_PAGES);
    nano_measure_own("pte_np_to_p", map_took, MANY_PAGES);
    nano_measure_own("pte_np_to_p_use", map_use_took, MANY_PAGES);
    measure_hlt();
    nano_measure("task_switch", op_task, NULL);
    CHECK(nano_patched[1] != 0); /* it has been written to */
}
