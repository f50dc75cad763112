/* The chips that every PC system relies on, at their registers: 8259A, 8254, 16550A, local APIC, I/O APIC, RTC, 8042,
 * PCI. QEMU 7.2 departs: its 8254 counts in mode 0 although the gate is low. */
#include "rt.h"

const char guest_name[] = "devices";

static volatile u32 ticks, last_vector, nmis;

static bool on_irq(struct frame *f)
{
    ticks++;
    last_vector = f->vector;
    if (f->vector >= IRQ_BASE && f->vector < IRQ_BASE + 16)
        pic_eoi(f->vector - IRQ_BASE);
    else
        apic_write(0xb0, 0);
    return true;
}

static bool on_irq_no_eoi(struct frame *f)
{
    ticks++;
    last_vector = f->vector;
    return true;
}

static bool on_nmi(struct frame *f)
{
    (void)f;
    nmis++;
    return true;
}

static void open_window(void)
{
    __asm__ volatile("sti; movl $20000, %%ecx; 1: loop 1b; cli" : : : "ecx", "memory");
}

static void pit_stop(void)
{
    outb(0x43, 0x30);
    open_window();
    ticks = 0;
}

static void raise_irq0(void)
{
    pit_oneshot(20);
    for (u32 i = 0; i < 10000000 && !(pic_irr() & 1); i++)
        ;
}

static u8 pic_isr(void)
{
    outb(0x20, 0x0b);
    u8 v = inb(0x20);
    outb(0x20, 0x0a);
    return v;
}

static void pic(void)
{
    section("8259A");
    outb(0x21, 0xfa), outb(0xa1, 0x5a);
    CHECK_EQ(inb(0x21), 0xfa);
    CHECK_EQ(inb(0xa1), 0x5a);
    outb(0xa1, 0xff);
    pit_stop();
    raise_irq0();
    CHECK_EQ(pic_irr() & 1, 1);
    CHECK_EQ(pic_isr(), 0);
    on_trap(IRQ_BASE, on_irq_no_eoi);
    open_window();
    CHECK_EQ(ticks, 1);
    CHECK_EQ(last_vector, IRQ_BASE);
    CHECK_EQ(pic_irr() & 1, 0);
    CHECK_EQ(pic_isr(), 1);                                    /* in service until EOI */
    raise_irq0();
    CHECK_EQ(pic_irr() & 1, 1);
    open_window();
    CHECK_EQ(ticks, 1);                                        /* its own level is closed */
    outb(0x20, 0x60);                                          /* specific EOI */
    CHECK_EQ(pic_isr(), 0);
    open_window();
    CHECK_EQ(ticks, 2);
    outb(0x20, 0x20);
    CHECK_EQ(pic_isr(), 0);
    section("8259A, automatic EOI, other base");
    outb(0x20, 0x11), outb(0x21, 0x60), outb(0x21, 4), outb(0x21, 3);
    outb(0x21, 0xfa);
    on_trap(0x60, on_irq_no_eoi);
    raise_irq0();
    open_window();
    CHECK_EQ(ticks, 3);
    CHECK_EQ(last_vector, 0x60);
    CHECK_EQ(pic_isr(), 0);
    outb(0x20, 0x11), outb(0x21, IRQ_BASE), outb(0x21, 4), outb(0x21, 1);
    outb(0x21, 0xfa);
    on_trap(IRQ_BASE, on_irq);
    section("8259A, masked while pending");
    raise_irq0();
    pic_mask(0);
    open_window();
    CHECK_EQ(ticks, 3);
    pic_unmask(0);
    open_window();
    CHECK_EQ(ticks, 4);
}

static u8 pit_status(unsigned channel)
{
    outb(0x43, (u8)(0xe0 | 2u << channel));                    /* read-back: status only */
    return inb((u16)(0x40 + channel));
}

static u32 pit_count2(void)
{
    outb(0x43, 0x80);
    u32 low = inb(0x42);
    return low | (u32)inb(0x42) << 8;
}

/* Channel 2 counts down from 0xf234, which takes 52 ms. Returns false if the host was so busy that it may have come to
 * the end. */
static bool pit_counts_down(void)
{
    outb(0x43, 0xb0), outb(0x42, 0x34), outb(0x42, 0xf2);
    u64 start = rdtsc();
    outb(0x61, (inb(0x61) & 0xfc) | 1);
    delay_us(1000);
    u32 before = pit_count2();
    outb(0x43, 0x80);
    delay_us(300);
    u32 latched = inb(0x42);
    latched |= (u32)inb(0x42) << 8;
    u32 after = pit_count2();
    if (rdtsc() - start > tsc_hz() / 1000 * 45)
        return false;
    CHECK(before < 0xf234 - 1000);
    CHECK(latched <= before);
    /* a latched count stays until it is read: 300 us are 358 */
    CHECK(after + 300 < latched);
    return true;
}

/* A square wave on OUT (mode 3, 4096 counts). Its half periods are measured, but those in which the host looked
 * away. */
static void pit_square_wave(void)
{
    enum { WANTED = 20 };
    u64 half = tsc_hz() * 2048 / PIT_HZ, glance = half / 16, edge = 0, seen = rdtsc(), end = seen + 10 * tsc_hz();
    u32 measured = 0, last = 0;
    bool watched = false;                                      /* last is the level at the time seen, within a glance */

    outb(0x43, 0xb6), outb(0x42, 0), outb(0x42, 0x10);
    CHECK_EQ(pit_status(2) & 0x0e, 6);
    while (measured < WANTED && seen < end) {
        u32 level = inb(0x61) & 0x20;
        u64 now = rdtsc();
        if (now - seen > glance || !watched) {
            watched = now - seen <= glance;
            edge = 0;
        } else if (level != last) {
            if (edge) {
                measured++;
                CHECK(now - edge > half - 2 * glance && now - edge < half + 2 * glance);
            }
            edge = now;
        }
        last = level;
        seen = now;
    }
    CHECK_EQ(measured, WANTED);
}

static void pit(void)
{
    section("8254");
    outb(0x61, inb(0x61) & 0xfc);                              /* channel 2's gate low */
    outb(0x43, 0xb0), outb(0x42, 0x34), outb(0x42, 0xf2);
    CHECK_EQ(pit_status(2) & 0x3f, 0x30);                      /* both bytes, mode 0, binary */
    CHECK_EQ(pit_status(2) & 0x80, 0);                         /* OUT low */
    CHECK_EQ(inb(0x61) & 0x20, 0);
    u32 first = pit_count2();
    delay_us(200);
    CHECK_EQ(first, pit_count2());                             /* gate low: it does not count */
    bool counted = false;
    for (u32 tries = 0; tries < 20 && !counted; tries++)
        counted = pit_counts_down();
    CHECK(counted);
    delay_us(60000);
    CHECK_EQ(inb(0x61) & 0x20, 0x20);                          /* mode 0 has ended: OUT high */
    CHECK_EQ(pit_status(2) & 0x80, 0x80);
    pit_square_wave();
    outb(0x43, 0xa0), outb(0x42, 7);                           /* high byte only */
    outb(0x61, inb(0x61) & 0xfc);
}

static void uart(void)
{
    const u16 com2 = 0x2f8, com1 = 0x3f8;
    u16 base = inb(com2 + 7) != 0xff || (outb(com2 + 7, 0x5a), inb(com2 + 7) == 0x5a) ? com2 : 0;

    section("16550A");
    for (u32 i = 0; i < 2; i++) {
        u16 p = i ? base : com1;
        if (!p)
            break;
        outb(p + 7, 0xa5);
        CHECK_EQ(inb(p + 7), 0xa5);
        outb(p + 2, 7);
        CHECK_EQ(inb(p + 2) & 0xc0, 0xc0);                     /* FIFOs on */
        while (!(inb(p + 5) & 0x40))
            ;
        outb(p + 3, 0x83);
        u8 low = inb(p), high = inb(p + 1);
        outb(p, 0x0c), outb(p + 1, 0);
        CHECK_EQ(inb(p), 0x0c);
        outb(p, low), outb(p + 1, high);
        outb(p + 3, 3);
        outb(p + 4, 0x1a);                                     /* loop-back: RTS to CTS, OUT2 to DCD */
        CHECK_EQ(inb(p + 6) & 0xf0, 0x90);
        outb(p + 4, 0x15);
        CHECK_EQ(inb(p + 6) & 0xf0, 0x60);
        outb(p, 0x5c);
        for (u32 n = 0; n < 1000000 && !(inb(p + 5) & 1); n++)
            ;
        CHECK_EQ(inb(p + 5) & 1, 1);
        CHECK_EQ(inb(p), 0x5c);
        CHECK_EQ(inb(p + 5) & 1, 0);
        outb(p + 1, 2);                                        /* transmitter empty: an interrupt at once */
        CHECK_EQ(inb(p + 2) & 0x0f, 2);
        CHECK_EQ(inb(p + 2) & 0x0f, 1);                        /* reading took it away */
        outb(p + 1, 0);
        outb(p + 4, 0x0b);
    }
}

static void local_apic(void)
{
    section("local APIC");
    CHECK_EQ((u32)rdmsr(0x1b) & 0xfffff900, APIC_BASE | 0x900);
    CHECK((apic_read(0x30) & 0xff) >= 0x10 && (apic_read(0x30) & 0xff) <= 0x15);
    apic_write(0xf0, 0x1ff);
    CHECK_EQ(apic_read(0xf0) & 0x1ff, 0x1ff);
    apic_write(0x80, 0x30);
    CHECK_EQ(apic_read(0x80), 0x30);
    CHECK_EQ(apic_read(0xa0) & 0xf0, 0x30);
    section("local APIC, interrupts to itself");
    on_trap(0x51, on_irq), on_trap(0x25 + 0x40, on_irq), on_trap(0x31, on_irq);
    apic_write(0x80, 0);
    ticks = 0;
    apic_write(0x300, 0x40000 | 0x51);                         /* shorthand: self */
    CHECK_EQ(apic_read(0x200 + 0x20) >> 0x11 & 1, 1);          /* IRR bit 0x51 */
    CHECK_EQ(ticks, 0);
    open_window();
    CHECK_EQ(ticks, 1);
    CHECK_EQ(last_vector, 0x51);
    CHECK_EQ(apic_read(0x220), 0);
    CHECK_EQ(apic_read(0x120), 0);
    apic_write(0x80, 0x50);                                    /* TPR holds back the class 5 and below */
    apic_write(0x300, 0x40000 | 0x51);
    open_window();
    CHECK_EQ(ticks, 1);
    apic_write(0x80, 0x40);
    open_window();
    CHECK_EQ(ticks, 2);
    apic_write(0x80, 0);
    apic_write(0x300, 0x40000 | 0x31), apic_write(0x300, 0x40000 | 0x51);
    on_trap(0x51, on_irq_no_eoi);
    open_window();
    CHECK_EQ(ticks, 3);                                        /* the higher first, and the lower waits for its EOI */
    CHECK_EQ(last_vector, 0x51);
    CHECK_EQ(apic_read(0x120) >> 0x11 & 1, 1);
    apic_write(0xb0, 0);
    open_window();
    CHECK_EQ(ticks, 4);
    CHECK_EQ(last_vector, 0x31);
    section("local APIC, NMI to itself");
    on_trap(V_NMI, on_nmi);
    nmis = 0;
    apic_write(0x310, apic_read(0x20) & 0xff000000);
    apic_write(0x300, 0x4400);                                 /* NMI, physical destination: this one */
    __asm__ volatile("movl $20000, %%ecx; 1: loop 1b" : : : "ecx", "memory");
    CHECK_EQ(nmis, 1);                                         /* IF is 0 */
    section("local APIC, timer");
    on_trap(0x51, on_irq);
    apic_write(0x3e0, 0xb);                                    /* divide by 1 */
    apic_write(0x320, 0x10051);                                /* masked */
    ticks = 0;
    apic_write(0x380, 1000);
    delay_us(1000);
    open_window();
    CHECK_EQ(ticks, 0);
    CHECK_EQ(apic_read(0x390), 0);
    apic_write(0x320, 0x51);
    apic_write(0x380, 100000);
    for (u32 i = 0; i < 1000 && ticks == 0; i++)
        open_window();
    CHECK_EQ(ticks, 1);
    open_window();
    CHECK_EQ(ticks, 1);
    apic_write(0x320, 0x20051);
    apic_write(0x380, 100000);
    for (u32 i = 0; i < 10000 && ticks < 5; i++)
        open_window();
    CHECK(ticks >= 5);
    apic_write(0x320, 0x10051);
    apic_write(0x380, 0);
    open_window();
}

static u32 ioapic_read(u32 reg) { poke(IOAPIC_BASE, reg); return peek(IOAPIC_BASE + 0x10); }
static void ioapic_write(u32 reg, u32 v) { poke(IOAPIC_BASE, reg); poke(IOAPIC_BASE + 0x10, v); }

static void io_apic(void)
{
    section("I/O APIC");
    CHECK_EQ(ioapic_read(1) >> 16 & 0xff, 23);                 /* 24 inputs */
    CHECK(ioapic_read(1) & 0xff);
    ioapic_write(0x10 + 2 * 7, 0x10077);
    ioapic_write(0x11 + 2 * 7, 0xab000000);
    CHECK_EQ(ioapic_read(0x10 + 2 * 7) & 0x1afff, 0x10077);
    CHECK_EQ(ioapic_read(0x11 + 2 * 7), 0xab000000);
    ioapic_write(0x11 + 2 * 7, 0);
    section("I/O APIC, the timer on input 2");
    on_trap(0x61, on_irq);
    pic_mask(0);
    ioapic_write(0x11 + 2 * 2, apic_read(0x20) & 0xff000000);
    ioapic_write(0x10 + 2 * 2, 0x61);
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);
    ticks = 0;
    for (u32 i = 0; i < 100000 && ticks < 5; i++)
        open_window();
    CHECK(ticks >= 5);
    CHECK_EQ(last_vector, 0x61);
    ioapic_write(0x10 + 2 * 2, 0x10061);
    open_window();
    ticks = 0;
    delay_us(5000);
    open_window();
    CHECK_EQ(ticks, 0);
    pit_stop();
    pic_unmask(0);
}

static u8 cmos(u8 reg) { outb(0x70, reg); return inb(0x71); }
static void cmos_write(u8 reg, u8 v) { outb(0x70, reg); outb(0x71, v); }

static volatile u8 rtc_cause;
static bool on_rtc(struct frame *f)
{
    (void)f;
    rtc_cause |= cmos(0x0c);
    ticks++;
    pic_eoi(8);
    return true;
}

static void rtc(void)
{
    section("RTC");
    u8 b = cmos(0x0b);
    CHECK_EQ(cmos(0x0d) & 0x80, 0x80);                         /* battery good */
    /* 24 hours as it is, BCD or not: binary wanted is bit 2 */
    cmos_write(0x0b, (u8)((b | 2) & 0x8f));
    u8 seconds = cmos(0), minutes = cmos(2);
    if (!(cmos(0x0b) & 4))
        seconds = (u8)((seconds >> 4) * 10 + (seconds & 15)), minutes = (u8)((minutes >> 4) * 10 + (minutes & 15));
    CHECK(seconds < 60 && minutes < 60);
    cmos_write(0x40, 0x5a);
    CHECK_EQ(cmos(0x40), 0x5a);
    on_trap(IRQ_BASE + 8, on_rtc);
    cmos_write(0x0a, 0x26);                                    /* 1024 Hz */
    cmos(0x0c);
    ticks = 0, rtc_cause = 0;
    cmos_write(0x0b, (u8)(b | 0x42));
    pic_unmask(8);
    for (u32 i = 0; i < 100000 && ticks < 20; i++)
        open_window();
    CHECK(ticks >= 20);
    CHECK_EQ(rtc_cause & 0xc0, 0xc0);
    cmos_write(0x0b, b);
    cmos(0x0c);
    pic_mask(8);
}

static void keyboard(void)
{
    section("8042");
    for (u32 i = 0; i < 100 && inb(0x64) & 1; i++)
        inb(0x60);
    outb(0x64, 0xaa);
    for (u32 i = 0; i < 100000 && !(inb(0x64) & 1); i++)
        ;
    CHECK_EQ(inb(0x60), 0x55);
    outb(0x64, 0x20);
    for (u32 i = 0; i < 100000 && !(inb(0x64) & 1); i++)
        ;
    u8 command = inb(0x60);
    outb(0x64, 0x60), outb(0x60, command & 0xfc);
    outb(0x64, 0x20);
    for (u32 i = 0; i < 100000 && !(inb(0x64) & 1); i++)
        ;
    CHECK_EQ(inb(0x60), command & 0xfc);
}

static void pci(void)
{
    section("PCI");
    outl(0xcf8, 0x80000000);
    CHECK_EQ(inl(0xcf8), 0x80000000);
    CHECK_EQ(inl(0xcfc), 0x12378086);                          /* 440FX */
    CHECK_EQ(inw(0xcfe), 0x1237);
    outl(0xcf8, 0x80000008);
    CHECK_EQ(inl(0xcfc) >> 16, 0x0600);                        /* host bridge */
    outl(0xcf8, 0x8000f000);                                   /* device 30: nobody */
    CHECK_EQ(inl(0xcfc), 0xffffffff);
    outl(0xcf8, 0);
    section("nobody's ports");
    CHECK_EQ(inb(0x2345), 0xff);
    CHECK_EQ(inl(0x2344), 0xffffffff);
    outb(0x80, 0x42);
}

void guest_main(void)
{
    tsc_hz();
    on_trap(IRQ_BASE, on_irq);
    pic_unmask(0);
    pit_stop();
    pic();
    pit();
    uart();
    rtc();
    local_apic();
    io_apic();
    keyboard();
    pci();
}
