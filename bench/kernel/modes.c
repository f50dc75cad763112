/* What segmented code costs, as a Multiboot guest: the same loops in flat 32-bit code at CPL 0, in real mode, in
 * virtual-8086 mode at IOPL 3, and in 16-bit segments of protected mode at CPL 0. A pass is what is said below, and the
 * count-down. The time is taken outside, by bench/modes.py, which is told of each loop, lets it begin by a byte on
 * COM1, is told of its end and how many passes it was, and lets the guest go on by another byte. */
#include "tests/insn/rt.h"

const char guest_name[] = "modes";

/* Low memory: CS of all 16-bit code, its data and the screen's stead, its stack. */
enum { LOW_CODE = 0x8000, LOW_DATA = 0x20000, LOW_EXTRA = 0x30000, LOW_STACK = 0x40000, LOW_SP = 0xf000 };
enum { SEL_CODE16 = TEST_SEL(0), SEL_DATA16 = TEST_SEL(1), SEL_EXTRA16 = TEST_SEL(2), SEL_STACK16 = TEST_SEL(3) };
enum { INT_VECTOR = 0x60, LEAVE_VECTOR = 0x61, VM = 1 << 17 };
_Static_assert(SEL_CODE16 == 0x40 && SEL_DATA16 == 0x48 && SEL_EXTRA16 == 0x50 && SEL_STACK16 == 0x58
                   && SEL_KCODE == 0x08 && SEL_KDATA == 0x10,
               "as the instructions below have them");

/* Each loop as 16-bit and as flat code; EBP counts. SI and DI are 0 and 100h when it begins, BX is 0, CX 7.
 * Loops that name a code segment are made twice: a paragraph is not a selector. */
#define PROGRAM16(name, text) #name "_16: " text "; decl %ebp; jnz " #name "_16; ret\n"
#define PROGRAM32(name, text) #name "_32: " text "; decl %ebp; jnz " #name "_32; ret\n"
/* clang-format off */
__asm__(".pushsection .rodata\n.code16\nlow_begin:\n"
    "far_here_16: lret\n"
    "far_work_16: addw %ax, %dx; lret\n"
    "near_here_16: ret\n"
    "int_here_16: iretw\n"
    "jump_there_real: ljmp $0x800, $(jump_back_real - low_begin)\n"
    "jump_there_pm: ljmp $0x40, $(jump_back_pm - low_begin)\n"
    PROGRAM16(registers, "addw %dx, %ax; rolw $1, %ax; xorw %bx, %ax; addw %dx, %ax; rolw $1, %ax; xorw %bx, %ax")
    PROGRAM16(memory, "movw (%si), %ax; addw 2(%si), %ax; movw %ax, (%di); addw %dx, 4(%di)")
    PROGRAM16(call, "call near_here_16")
    PROGRAM16(push_pop, "pushw %ax; pushw %dx; popw %dx; popw %ax")
    PROGRAM16(string, "lodsb; stosb; decw %si; decw %di")
    PROGRAM16(rep_movs, "xorw %si, %si; movw $0x100, %di; movw $32, %cx; rep movsw")
    PROGRAM16(rep_stos, "movw $0x100, %di; movw $32, %cx; rep stosw")
    PROGRAM16(rep_scas, "movw $0x100, %di; movw $32, %cx; movb $1, %al; repne scasb")
    PROGRAM16(segment_load, "movw %ds, %ax; movw %ax, %es; pushw %ds; popw %es")
    PROGRAM16(load_far, "lesw 0x40(%si), %bx")
    PROGRAM16(stack_load, "movw %ss, %ax; movw %ax, %ss; movw %sp, %sp")
    PROGRAM16(enter_leave, "enter $16, $0; leave")
    PROGRAM16(pusha_popa, "pushaw; popaw")
    PROGRAM16(pushf_popf, "pushfw; popfw")
    PROGRAM16(cli_sti, "cli; sti")
    PROGRAM16(int, "int $0x60")
    PROGRAM16(far_call_real, "lcall $0x800, $(far_here_16 - low_begin)")
    PROGRAM16(far_call_pm, "lcall $0x40, $(far_here_16 - low_begin)")
    PROGRAM16(far_jmp_real, "ljmp $0x800, $(jump_there_real - low_begin); jump_back_real:")
    PROGRAM16(far_jmp_pm, "ljmp $0x40, $(jump_there_pm - low_begin); jump_back_pm:")
    PROGRAM16(far_pointer, "lcall *0x50(%si)")
    /* As programs of DOS are: a line of text in upper case to the screen, a far function, an interrupt. */
    "dos_16: pushw %es; pushw %si; lesw 0x44(%si), %di; movw $16, %cx\n"
    "1: lodsb; cmpb $'a', %al; jb 2f; cmpb $'z', %al; ja 2f; subb $0x20, %al; 2: movb $7, %ah; stosw; loop 1b\n"
    "popw %si; lcall *0x54(%si); popw %es; int $0x60; decl %ebp; jnz dos_16; ret\n"

    /* In and out of real mode: BX is the loop. */
    "real_in: movw $0x48, %ax; movw %ax, %ds; movw %ax, %es; movw %ax, %ss; movl %cr0, %eax; andb $0xfe, %al\n"
    "movl %eax, %cr0; ljmp $0x800, $(real_here - low_begin)\n"
    "real_here: movw $0x2000, %ax; movw %ax, %ds; movw %ax, %es; movw $0x4000, %ax; movw %ax, %ss\n"
    "movw $0xf000, %sp; xorw %si, %si; movw $0x100, %di; movw %bx, %ax; xorw %bx, %bx; movw $7, %cx; call *%ax\n"
    "cli; movl %cr0, %eax; orb $1, %al; movl %eax, %cr0; ljmpl $8, $real_out\n"
    "vm86_in: movw %bx, %ax; xorw %bx, %bx; movw $7, %cx; call *%ax; int $0x61\n"
    "seg16_in: movw %bx, %ax; xorw %bx, %bx; movw $7, %cx; call *%ax; ljmpl $8, $seg16_out\n"
    "low_end:\n.code32\n.popsection\n"

    ".text\n"
    "near_here_32: ret\n"
    "far_here_32: lret\n"
    "far_work_32: addw %ax, %dx; ret\n"
    "int_here_32: iretl\n"
    "jump_there_32: ljmp $8, $jump_back_32\n"
    PROGRAM32(registers, "addw %dx, %ax; rolw $1, %ax; xorw %bx, %ax; addw %dx, %ax; rolw $1, %ax; xorw %bx, %ax")
    PROGRAM32(memory, "movw (%esi), %ax; addw 2(%esi), %ax; movw %ax, (%edi); addw %dx, 4(%edi)")
    PROGRAM32(call, "call near_here_32")
    PROGRAM32(push_pop, "pushl %eax; pushl %edx; popl %edx; popl %eax")
    PROGRAM32(string, "lodsb; stosb; decl %esi; decl %edi")
    PROGRAM32(rep_movs, "movl $0x20000, %esi; movl $0x20100, %edi; movl $32, %ecx; rep movsw")
    PROGRAM32(rep_stos, "movl $0x20100, %edi; movl $32, %ecx; rep stosw")
    PROGRAM32(rep_scas, "movl $0x20100, %edi; movl $32, %ecx; movb $1, %al; repne scasb")
    PROGRAM32(segment_load, "movl %ds, %eax; movl %eax, %es; pushl %ds; popl %es")
    PROGRAM32(load_far, "lesl 0x58(%esi), %ebx")
    PROGRAM32(stack_load, "movl %ss, %eax; movl %eax, %ss; movl %esp, %esp")
    PROGRAM32(enter_leave, "enter $16, $0; leave")
    PROGRAM32(pusha_popa, "pushal; popal")
    PROGRAM32(pushf_popf, "pushfl; popfl")
    PROGRAM32(cli_sti, "cli; sti")
    PROGRAM32(int, "int $0x60")
    PROGRAM32(far_call, "lcall $8, $far_here_32")
    PROGRAM32(far_jmp, "ljmp $8, $jump_there_32; jump_back_32:")
    PROGRAM32(far_pointer, "lcall *0x60(%esi)")
    "dos_32: pushl %edi; pushl %esi; movl $0x30000, %edi; movl $16, %ecx\n"
    "1: lodsb; cmpb $'a', %al; jb 2f; cmpb $'z', %al; ja 2f; subb $0x20, %al; 2: movb $7, %ah; stosw; loop 1b\n"
    "popl %esi; call *0x68(%esi); popl %edi; int $0x60; decl %ebp; jnz dos_32; ret\n"

    /* void run_flat(u32 loop, u32 n), run_real(u32 loop, u32 n), run_seg16(..): the loop's address, or offset. */
    "run_flat: pushal; movl 36(%esp), %eax; movl 40(%esp), %ebp; movl $0x20000, %esi; movl $0x20100, %edi\n"
    "xorl %ebx, %ebx; movl $7, %ecx; call *%eax; movl $0x10, %eax; movl %eax, %es; cli; popal; ret\n"
    "run_real: pushal; movl 36(%esp), %ebx; movl 40(%esp), %ebp; movl %esp, saved_esp; lidt idtr_real\n"
    "ljmp $0x40, $(real_in - low_begin)\n"
    "real_out: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl saved_esp, %esp\n"
    "lidt idtr_flat; popal; ret\n"
    "run_seg16: pushal; movl 36(%esp), %ebx; movl 40(%esp), %ebp; movl %esp, saved_esp\n"
    "movl $0x58, %eax; movl %eax, %ss; movl $0xf000, %esp; movl $0x48, %eax; movl %eax, %ds; movl %eax, %es\n"
    "xorl %esi, %esi; movl $0x100, %edi; ljmp $0x40, $(seg16_in - low_begin)\n"
    "seg16_out: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl saved_esp, %esp\n"
    "cli; popal; ret\n");
/* clang-format on */
static u32 saved_esp __attribute__((used));
static struct {
    u16 limit;
    u32 base;
} __attribute__((packed)) idtr_real __attribute__((used)) = { 0x3ff, 0 },
                                    idtr_flat __attribute__((used)) = { sizeof idt - 1, (u32)idt };
void run_flat(u32 loop, u32 n);
void run_real(u32 loop, u32 n);
void run_seg16(u32 loop, u32 n);
extern const u8 low_begin[], low_end[], vm86_in[], int_here_16[], int_here_32[], far_here_16[], far_work_16[],
    far_here_32[], far_work_32[];

/* As user_enter() wants it; what IRET takes to virtual-8086 mode follows. */
static void run_vm86(u32 loop, u32 n)
{
    const struct {
        struct frame f;
        u32 es, ds, fs, gs;
    } v = { .f = { .edi = 0x100,
                   .ebp = n,
                   .ebx = loop,
                   .ds = SEL_KDATA,
                   .es = SEL_KDATA,
                   .fs = SEL_KDATA,
                   .gs = SEL_KDATA,
                   .eip = (u32)(vm86_in - low_begin),
                   .cs = LOW_CODE >> 4,
                   .eflags = VM | F_IOPL | 2,
                   .esp = LOW_SP,
                   .ss = LOW_STACK >> 4 },
            .es = LOW_DATA >> 4,
            .ds = LOW_DATA >> 4 };
    user_enter(&v.f);
    if (trap.vector != LEAVE_VECTOR) print("vm86: trap %x at %x\n", trap.vector, trap.eip);
}

enum mode { FLAT, REAL, VM86, SEG16, MODES };
static const struct {
    const char *name;
    void (*run)(u32 loop, u32 n);
} modes[MODES] = { { "flat", run_flat }, { "real", run_real }, { "vm86", run_vm86 }, { "seg16", run_seg16 } };

#define EVERYWHERE(X) \
    X(registers)      \
    X(memory)         \
    X(call)           \
    X(push_pop)       \
    X(string)         \
    X(rep_movs)       \
    X(rep_stos)       \
    X(rep_scas)       \
    X(segment_load)   \
    X(load_far) X(stack_load) X(enter_leave) X(pusha_popa) X(pushf_popf) X(cli_sti) X(int) X(far_pointer) X(dos)
#define DECLARE(name) extern const u8 name##_16[], name##_32[];
EVERYWHERE(DECLARE)
extern const u8 far_call_real_16[], far_call_pm_16[], far_jmp_real_16[], far_jmp_pm_16[], far_call_32[], far_jmp_32[];

#define ROW(name) { #name, { name##_32, name##_16, name##_16, name##_16 } },
static const struct loop {
    const char *name;
    const u8 *code[MODES];
} loops[] = { EVERYWHERE(ROW){ "far_call", { far_call_32, far_call_real_16, far_call_real_16, far_call_pm_16 } },
              { "far_jmp", { far_jmp_32, far_jmp_real_16, far_jmp_real_16, far_jmp_pm_16 } } };

/* The compiler takes low addresses for no object's. */
static void poke_far(volatile u32 at, const u8 *target, u32 segment)
{
    poke(at, (u32)(target - low_begin) | segment << 16);
}

static void fill_data(enum mode mode)
{
    bool paragraphs = mode != SEG16;
    u32 code = paragraphs ? LOW_CODE >> 4 : SEL_CODE16;
    for (u32 i = 0; i < 0x400; i += 4) poke(LOW_DATA + i, 0);
    memcpy((void *)LOW_DATA, "A line of 16 ch.", 16);
    poke(LOW_DATA + 0x40, (paragraphs ? LOW_DATA >> 4 : SEL_DATA16) << 16);
    poke(LOW_DATA + 0x44, (paragraphs ? LOW_EXTRA >> 4 : SEL_EXTRA16) << 16);
    poke_far(LOW_DATA + 0x50, far_here_16, code);
    poke_far(LOW_DATA + 0x54, far_work_16, code);
    poke(LOW_DATA + 0x58, 0);
    poke(LOW_DATA + 0x5c, SEL_KDATA);
    poke(LOW_DATA + 0x60, (u32)far_here_32);
    poke(LOW_DATA + 0x64, SEL_KCODE);
    poke(LOW_DATA + 0x68, (u32)far_work_32);
}

struct pass {
    enum mode mode;
    const u8 *code;
};
static void run_passes(const struct pass *p, u32 n)
{
    modes[p->mode].run(p->mode == FLAT ? (u32)p->code : (u32)(p->code - low_begin), n);
}

enum { COM1 = 0x3f8, ENOUGH = 4000000 /* cycles */, TIMES = 16, LEAST = 1 << 12, MOST = 1 << 22 };

static void await_byte(void)
{
    while (!(inb(COM1 + 5) & 1)) continue;
    (void)inb(COM1);
}

static void let_measure(const char *loop, struct pass *p)
{
    u32 n = LEAST;
    run_passes(p, n);
    for (;; n *= 2) {
        u64 start = rdtsc();
        run_passes(p, n);
        if (rdtsc() - start >= ENOUGH || n >= MOST) break;
    }
    n *= TIMES;
    print("BEGINS %s %s\n", modes[p->mode].name, loop);
    await_byte();
    run_passes(p, n);
    print("ENDS %u\n", n);
    await_byte();
}

static void prepare(void)
{
    memcpy((void *)LOW_CODE, low_begin, (u32)(low_end - low_begin));
    gdt[SEL_CODE16 / 8] = descriptor(LOW_CODE, 0xffff, SEG_CODE, 0);
    gdt[SEL_DATA16 / 8] = descriptor(LOW_DATA, 0xffff, SEG_DATA, 0);
    gdt[SEL_EXTRA16 / 8] = descriptor(LOW_EXTRA, 0xffff, SEG_DATA, 0);
    gdt[SEL_STACK16 / 8] = descriptor(LOW_STACK, 0xffff, SEG_DATA, 0);
    idt_set(INT_VECTOR, gate(SEL_KCODE, (u32)int_here_32, 0xee, 0));
    idt_set(LEAVE_VECTOR, gate(SEL_KCODE, idt_stub(LEAVE_VECTOR), 0xee, 0));
    poke_far(4 * INT_VECTOR, int_here_16, LOW_CODE >> 4);
}

void guest_main(void)
{
    prepare();
    for (u32 i = 0; i < sizeof loops / sizeof loops[0]; i++)
        for (u32 mode = FLAT; mode < MODES; mode++) {
            struct pass p = { (enum mode)mode, loops[i].code[mode] };
            fill_data((enum mode)mode);
            let_measure(loops[i].name, &p);
        }
    CHECK(peek(LOW_EXTRA) == 0x07200741); /* the line is on the screen */
}
