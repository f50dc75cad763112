/* The test guests' run-time: see rt.h for what it offers. Owns the descriptor tables, COM1 and the page allocator. */
#include "rt.h"
#include <stdarg.h>

void rt_start(u32 magic, u32 info);
void trap_dispatch(struct frame *f);
extern const u8 trap_stubs[256][16];

u64 gdt[GDT_ENTRIES], ldt[16], idt[256];
struct tss tss, dftss;
volatile struct trap trap;
struct frame trap_frame;
static bool (*handlers[256])(struct frame *f);
static unsigned checks, failures;
static const char *section_name = "";
const char *command_line = "";
static bool in_caught_report;

/* ---- Strings. gcc may make calls of these out of any loop, so they are written as loops it does not recognise. */
void *memset(void *d, int c, size_t n)
{
    void *start = d;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return start;
}

void *memcpy(void *d, const void *s, size_t n)
{
    void *start = d;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;

    for (; n > 0; n--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}

/* ---- Output: COM1, polled. */
enum { COM1 = 0x3f8 };

static void put(char c)
{
    if (c == '\n')
        put('\r');
    for (unsigned i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
        ;
    outb(COM1, (u8)c);
}

/* libgcc's division of 64 bits is not for every processor that we run on. */
static u32 divide(u64 *v, u32 by)
{
    u32 high = (u32)(*v >> 32), low = (u32)*v, quotient, rest = high % by;

    __asm__("divl %4" : "=a"(quotient), "=d"(rest) : "0"(low), "1"(rest), "r"(by) : "cc");
    *v = (u64)(high / by) << 32 | quotient;
    return rest;
}

static void put_number(u64 v, unsigned base, int width, char pad)
{
    char digits[24];
    int n = 0;

    do {
        digits[n++] = "0123456789abcdef"[divide(&v, base)];
    } while (v);
    for (; width > n; width--)
        put(pad);
    while (n > 0)
        put(digits[--n]);
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    for (; *format; format++) {
        int width = 0, longs = 0;
        char pad = ' ';

        if (*format != '%') {
            put(*format);
            continue;
        }
        if (*++format == '0')
            pad = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + *format - '0';
        for (; *format == 'l'; format++)
            longs++;
        switch (*format) {
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++)
                put(*s);
            break;
        case 'c': put((char)va_arg(args, int)); break;
        case 'd': {
            int v = va_arg(args, int);
            if (v < 0)
                put('-');
            put_number(v < 0 ? 0u - (u32)v : (u32)v, 10, width, pad);
            break;
        }
        case 'u': put_number(longs > 1 ? va_arg(args, u64) : va_arg(args, u32), 10, width, pad); break;
        case 'x': put_number(longs > 1 ? va_arg(args, u64) : va_arg(args, u32), 16, width, pad); break;
        default: put(*format); break;
        }
    }
    va_end(args);
}

/* ---- Checks. */
static void failed(const char *file, int line)
{
    failures++;
    print("FAIL %s:%d [%s] ", file, line, section_name);
    if (failures > 200) {
        print("too many failures\n");
        finish();
    }
}

void check_equal(const char *file, int line, const char *what, u32 got, u32 want)
{
    checks++;
    if (got == want)
        return;
    failed(file, line);
    print("%s: got 0x%x, want 0x%x\n", what, got, want);
}

void check_true(const char *file, int line, const char *what, bool holds)
{
    checks++;
    if (holds)
        return;
    failed(file, line);
    print("%s does not hold\n", what);
}

void check_traps(const char *file, int line, const char *what, void (*fn)(void *), void *arg, u32 vector, u32 error)
{
    checks++;
    if (traps(fn, arg, vector, error))
        return;
    failed(file, line);
    if (in_caught_report)
        print("%s(0x%x): trap %u error 0x%x at 0x%x cr2 0x%x, want trap %u error 0x%x\n", what, (u32)arg, trap.vector,
            trap.error,
              trap.eip, trap.cr2, vector, error);
    else
        print("%s(0x%x): no trap, want trap %u error 0x%x\n", what, (u32)arg, vector, error);
}

bool traps(void (*fn)(void *arg), void *arg, u32 vector, u32 error)
{
    in_caught_report = caught(fn, arg);
    return in_caught_report && trap.vector == vector && trap.error == error;
}

bool told(const char *word)
{
    for (const char *at = command_line; *at;) {
        const char *w = word;
        while (*w && *at == *w)
            at++, w++;
        if (!*w && (!*at || *at == ' '))
            return true;
        while (*at && *at++ != ' ')
            ;
    }
    return false;
}

void section(const char *name)
{
    section_name = name;
}

void finish(void)
{
    if (failures)
        print("%s: FAILED, %u of %u checks\n", guest_name, failures, checks);
    else
        print("%s: PASS, %u checks\n", guest_name, checks);
    for (;;) {
        outl(0xf4, failures ? 0x11 : 0x10);
        __asm__ volatile("cli; hlt");
    }
}

/* ---- Descriptor tables. */
u64 descriptor(u32 base, u32 limit20, u8 access, u8 flags)
{
    u32 low = (limit20 & 0xffff) | base << 16;
    u32 high = (base >> 16 & 0xff) | (u32)access << 8 | (limit20 & 0xf0000) | (u32)flags << 20 | (base & 0xff000000);
    return (u64)high << 32 | low;
}

u64 gate(u16 selector, u32 offset, u8 type_dpl_p, u8 params)
{
    return (u64)((offset & 0xffff0000) | (u32)type_dpl_p << 8 | params) << 32 |
        ((offset & 0xffff) | (u32)selector << 16);
}

u32 idt_stub(u8 vector)
{
    return (u32)trap_stubs[vector];
}

void idt_set(u8 vector, u64 gate_descriptor)
{
    idt[vector] = gate_descriptor;
}

void on_trap(u8 vector, bool (*fn)(struct frame *f))
{
    handlers[vector] = fn;
}

void trap_dispatch(struct frame *f)
{
    bool outer = (f->cs & 3) != 0;

    if (handlers[f->vector] && handlers[f->vector](f))
        return;
    memcpy(&trap_frame, f, sizeof(trap_frame) - (outer ? 0 : 8));
    trap.vector = f->vector, trap.error = f->error, trap.eip = f->eip, trap.cs = f->cs & 0xffff,
        trap.eflags = f->eflags;
    trap.esp = outer ? f->esp : (u32)&f->esp, trap.ss = outer ? f->ss & 0xffff : SEL_KDATA;
    trap.cr2 = read_cr2();
    trap.eax = f->eax, trap.ecx = f->ecx, trap.edx = f->edx, trap.ebx = f->ebx;
    trap.ebp = f->ebp, trap.esi = f->esi, trap.edi = f->edi;
    extern u32 unwind_esp;
    if (!unwind_esp) {
        failures++;
        print("FAIL [%s] unexpected trap %u error 0x%x at %x:0x%x cr2 0x%x\n", section_name, f->vector, f->error,
            f->cs, f->eip,
              trap.cr2);
        finish();
    }
    unwind_trap(f->vector != 0x81);
}

static void descriptors_init(void)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) gdtr = {sizeof(gdt) - 1, (u32)gdt},
        idtr = {sizeof(idt) - 1, (u32)idt};

    gdt[SEL_KCODE / 8] = descriptor(0, 0xfffff, SEG_CODE, SEG_BIG | SEG_GRAN);
    gdt[SEL_KDATA / 8] = descriptor(0, 0xfffff, SEG_DATA, SEG_BIG | SEG_GRAN);
    gdt[SEL_UCODE / 8] = descriptor(0, 0xfffff, SEG_CODE | SEG_DPL3, SEG_BIG | SEG_GRAN);
    gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    gdt[SEL_TSS / 8] = descriptor((u32)&tss, sizeof(tss) - 1, 0x89, 0);
    gdt[SEL_DFTSS / 8] = descriptor((u32)&dftss, sizeof(dftss) - 1, 0x89, 0);
    gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, 0x82, 0);
    tss.ss0 = SEL_KDATA, tss.esp0 = (u32)trap_stack_top;
    tss.iomap = offsetof(struct tss, iobits);
    memset(tss.iobits, 0xff, sizeof(tss.iobits) + 1);
    for (unsigned v = 0; v < 256; v++)
        idt[v] = gate(SEL_KCODE, idt_stub((u8)v), v == 3 || v == 4 || v == 0x80 || v == 0x81 ? 0xee : 0x8e, 0);
    __asm__ volatile(
        "lgdt %0\n\tlidt %1\n\tljmp %2, $1f\n1:\n\t"
        "movl %3, %%ds\n\tmovl %3, %%es\n\tmovl %3, %%fs\n\tmovl %3, %%gs\n\tmovl %3, %%ss\n\t"
        "ltr %w4\n\tlldt %w5"
        : : "m"(gdtr), "m"(idtr), "i"(SEL_KCODE), "r"(SEL_KDATA), "r"(SEL_TSS), "r"(0) : "memory");
}

/* ---- Interrupt controllers and time. */
static void pic_init(void)
{
    outb(0x20, 0x11), outb(0xa0, 0x11);
    outb(0x21, IRQ_BASE), outb(0xa1, IRQ_BASE + 8);
    outb(0x21, 4), outb(0xa1, 2);
    outb(0x21, 1), outb(0xa1, 1);
    outb(0x21, 0xfb), outb(0xa1, 0xff);              /* the cascade alone is open */
}

void pic_unmask(unsigned irq)
{
    u16 port = irq < 8 ? 0x21 : 0xa1;
    outb(port, inb(port) & (u8)~(1u << (irq & 7)));
}

void pic_mask(unsigned irq)
{
    u16 port = irq < 8 ? 0x21 : 0xa1;
    outb(port, inb(port) | (u8)(1u << (irq & 7)));
}

void pic_eoi(unsigned irq)
{
    if (irq >= 8)
        outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

u16 pic_irr(void)
{
    outb(0x20, 0x0a), outb(0xa0, 0x0a);
    return (u16)(inb(0x20) | inb(0xa0) << 8);
}

void pit_oneshot(u32 ticks)
{
    outb(0x43, 0x30);                                /* channel 0, both bytes, mode 0 */
    outb(0x40, (u8)ticks);
    outb(0x40, (u8)(ticks >> 8));
}

/* Channel 2's count, counting down from 65535 in mode 0, and the TSC when it was latched: between these two reads. */
struct pit_read { u32 count; u64 before, after; };

static struct pit_read pit_read2(void)
{
    struct pit_read r;

    r.before = rdtsc();
    outb(0x43, 0x80);
    r.after = rdtsc();
    r.count = inb(0x42);
    r.count |= (u32)inb(0x42) << 8;
    return r;
}

/* The host may look away at any moment, for long. So the count is read again and again until it ends (55 ms), and of
 * all pairs of the first read and another the one with the least doubt, in relation to the time between, says how fast
 * the TSC is. */
u64 tsc_hz(void)
{
    static u64 hz;
    enum { TRIES = 40, ENOUGH = 400 };               /* millionths */
    u64 least = ~0ull;

    if (hz)
        return hz;
    for (int i = 0; i < TRIES && least > ENOUGH; i++) {
        outb(0x61, (inb(0x61) & 0xfc) | 1);          /* gate on, speaker off */
        outb(0x43, 0xb0);                            /* channel 2, both bytes, mode 0 */
        outb(0x42, 0xff), outb(0x42, 0xff);
        struct pit_read from = pit_read2();
        for (;;) {
            struct pit_read to = pit_read2();
            if (inb(0x61) & 0x20)                    /* OUT: it has ended, perhaps before it was read */
                break;
            u64 span = to.after - from.before,
                doubt = (from.after - from.before + to.after - to.before) * 1000000 / span;
            if (doubt < least && from.count != to.count) {
                least = doubt;
                hz = ((to.before + to.after) / 2 - (from.before + from.after) / 2) * PIT_HZ / (from.count - to.count);
            }
        }
    }
    return hz;
}

void delay_us(u32 us)
{
    u64 end = rdtsc() + tsc_hz() * us / 1000000;

    while (rdtsc() < end)
        ;
}

/* ---- Memory and paging. */
static u32 next_page;

void *pages_alloc(u32 count, u32 alignment)
{
    u32 page = (next_page + alignment - 1) & ~(alignment - 1);

    next_page = page + count * PAGE;
    if (next_page > 32u << 20) {
        print("FAIL out of pages\n");
        failures++;
        finish();
    }
    memset((void *)page, 0, count * PAGE);
    return (void *)page;
}

void *page_alloc(void)
{
    return pages_alloc(1, PAGE);
}

u32 pages_mark(void) { return next_page; }
void pages_release(u32 mark) { next_page = mark; }

static struct { bool pae; u32 root; u64 *pdpt; } paging;

bool paging_is_pae(void)
{
    return paging.pae;
}

u32 paging_root(void)
{
    return paging.root;
}

/* Where the directory entry is; tables for PAE's four directories are all there from the start. */
static void *pde_at(u32 linear)
{
    if (paging.pae)
        return (u64 *)((u32)paging.pdpt[linear >> 30] & ~0xfffu) + (linear >> 21 & 511);
    return (u32 *)paging.root + (linear >> 22);
}

u64 pde_get(u32 linear)
{
    return paging.pae ? *(volatile u64 *)pde_at(linear) : *(volatile u32 *)pde_at(linear);
}

void pde_set(u32 linear, u64 entry)
{
    if (paging.pae)
        *(volatile u64 *)pde_at(linear) = entry;
    else
        *(volatile u32 *)pde_at(linear) = (u32)entry;
}

static void *pte_at(u32 linear)
{
    if (!(pde_get(linear) & PTE_P))
        pde_set(linear, (u32)page_alloc() | PTE_P | PTE_W | PTE_U);
    u32 table = (u32)pde_get(linear) & ~0xfffu;
    if (paging.pae)
        return (u64 *)table + (linear >> 12 & 511);
    return (u32 *)table + (linear >> 12 & 1023);
}

u64 pte_get(u32 linear)
{
    return paging.pae ? *(volatile u64 *)pte_at(linear) : *(volatile u32 *)pte_at(linear);
}

void pte_set(u32 linear, u64 entry)
{
    if (paging.pae)
        *(volatile u64 *)pte_at(linear) = entry;
    else
        *(volatile u32 *)pte_at(linear) = (u32)entry;
}

void paging_start(bool pae, bool nx)
{
    paging.pae = pae;
    write_cr4((read_cr4() & ~(u32)CR4_PAE) | CR4_PSE | (pae ? CR4_PAE : 0));
    if (pae) {
        wrmsr(0xc0000080, nx ? rdmsr(0xc0000080) | 0x800 : rdmsr(0xc0000080) & ~0x800ull);
        paging.pdpt = page_alloc();
        paging.root = (u32)paging.pdpt;
        for (unsigned i = 0; i < 4; i++)
            paging.pdpt[i] = (u32)page_alloc() | PTE_P;
    } else {
        paging.root = (u32)page_alloc();
    }
    u32 step = pae ? 2u << 20 : 4u << 20;
    for (u32 a = 0; a < RAM_SIZE; a += step)
        pde_set(a, a | PTE_P | PTE_W | PTE_U | PTE_PS);
    pde_set(APIC_BASE, (APIC_BASE & ~(step - 1)) | PTE_P | PTE_W | PTE_PCD | PTE_PS);
    pde_set(IOAPIC_BASE, (IOAPIC_BASE & ~(step - 1)) | PTE_P | PTE_W | PTE_PCD | PTE_PS);
    write_cr3(paging.root);
    write_cr0(read_cr0() | CR0_PG);
}

void paging_stop(void)
{
    write_cr0(read_cr0() & ~CR0_PG);
}

/* Of a directory, what maps by large pages: the kernel's part. */
static void copy_large(void *to, const void *from)
{
    if (paging.pae)
        for (u32 i = 0; i < 512; i++)
            ((u64 *)to)[i] = ((const u64 *)from)[i] & PTE_PS ? ((const u64 *)from)[i] : 0;
    else
        for (u32 i = 0; i < 1024; i++)
            ((u32 *)to)[i] = ((const u32 *)from)[i] & PTE_PS ? ((const u32 *)from)[i] : 0;
}

u32 paging_new_space(void)
{
    u32 root = (u32)page_alloc();

    if (!paging.pae) {
        copy_large((void *)root, (void *)paging.root);
        return root;
    }
    for (unsigned i = 0; i < 4; i++) {
        void *directory = page_alloc();
        copy_large(directory, (void *)((u32)paging.pdpt[i] & ~0xfffu));
        ((u64 *)root)[i] = (u32)directory | PTE_P;
    }
    return root;
}

void paging_of(u32 root)
{
    paging.root = root;
    paging.pdpt = (u64 *)root;
}

void paging_use(u32 root)
{
    paging_of(root);
    write_cr3(root);
}

void rt_start(u32 magic, u32 info)
{
    outb(COM1 + 1, 0), outb(COM1 + 3, 0x80), outb(COM1, 1), outb(COM1 + 1, 0), outb(COM1 + 3, 3), outb(COM1 + 2, 7);
    descriptors_init();
    pic_init();
    next_page = ((u32)image_end + 0xfffff) & ~0xfffffu;
    if (((u32 *)info)[0] & 4)
        command_line = (const char *)((u32 *)info)[4];
    section("boot");
    CHECK_EQ(magic, 0x2BADB002);
    CHECK(((u32 *)info)[0] & 1);
    CHECK(((u32 *)info)[2] >= (RAM_SIZE >> 10) - 2048);         /* KiB above 1 MiB */
    guest_main();
    finish();
}
