/* All clocks of the machine tell the same time: TSC, PIT (counted and interrupting), local APIC timer, ACPI PM timer, RTC.
 *
 * Two clocks are read at the beginning and at the end of the same stretch. A host may be busy between the two reads, so a
 * comparison is made several times and the best one counts: a clock that runs wrong is wrong every time. */
#include "rt.h"

const char guest_name[] = "timers";

enum { PM_HZ = 3579545, STRETCH_MS = 200, TRIES = 8 };

static volatile u32 ticks;
static volatile u64 last_tick;

static bool on_tick(struct frame *f)
{
    (void)f;
    ticks++;
    last_tick = rdtsc();
    pic_eoi(0);
    return true;
}

static bool on_apic_tick(struct frame *f)
{
    (void)f;
    ticks++;
    last_tick = rdtsc();
    apic_write(0xb0, 0);
    return true;
}

/* Difference of two durations in parts per million of the second. */
static u32 ppm(u64 a, u64 b)
{
    u64 d = a > b ? a - b : b - a;
    return (u32)(d * 1000000 / (b ? b : 1));
}

static u32 best(u32 (*measure)(void), int tries)
{
    u32 least = ~0u;
    for (int i = 0; i < tries && least > 1000; i++) {
        u32 off = measure();
        if (off < least)
            least = off;
    }
    return least;
}

static void check_clock(const char *name, u32 (*measure)(void), int tries, u32 allowed_ppm)
{
    u32 off = best(measure, tries);

    section(name);
    print("timers: %s: %u ppm off the TSC\n", name, off);
    CHECK(off <= allowed_ppm);
}

/* ---- PM timer: its port is in the FADT. */
static u32 pm_port;

static bool table_is(u32 at, const char *name, u32 n) { return memcmp((void *)at, name, n) == 0; }

static void find_pm_timer(void)
{
    for (u32 a = 0xe0000; a < 0x100000; a += 16) {
        if (!table_is(a, "RSD PTR ", 8))
            continue;
        u32 rsdt = peek(a + 16), n = (peek(rsdt + 4) - 36) / 4;
        for (u32 i = 0; i < n; i++) {
            u32 table = peek(rsdt + 36 + 4 * i);
            if (table_is(table, "FACP", 4))
                pm_port = peek(table + 76);
        }
    }
}

static u32 pm_against_tsc(void)
{
    u32 p0 = inl((u16)pm_port);
    u64 t0 = rdtsc(), span = tsc_hz() * STRETCH_MS / 1000;
    while (rdtsc() - t0 < span)
        ;
    u32 p1 = inl((u16)pm_port);
    u64 t1 = rdtsc();
    return ppm((u64)((p1 - p0) & 0xffffff) * tsc_hz() / PM_HZ, t1 - t0);
}

/* ---- PIT channel 2 counting down from 65536 in mode 2, latched; read often enough to see every wrap. */
static u32 pit2(void)
{
    outb(0x43, 0x80);
    u32 low = inb(0x42);
    return low | (u32)inb(0x42) << 8;
}

static u32 pit_against_tsc(void)
{
    outb(0x61, (inb(0x61) & 0xfc) | 1);
    outb(0x43, 0xb4), outb(0x42, 0), outb(0x42, 0);
    u32 last = pit2();
    u64 t0 = rdtsc(), span = tsc_hz() * STRETCH_MS / 1000, counted = 0;
    do {
        u32 now = pit2();
        counted += (last - now) & 0xffff;
        last = now;
    } while (rdtsc() - t0 < span);
    u32 now = pit2();
    u64 t1 = rdtsc();
    counted += (last - now) & 0xffff;
    return ppm(counted * tsc_hz() / PIT_HZ, t1 - t0);
}

/* ---- Periodic interrupts: so many ticks of so many counts take so long. */
static u32 pit_interrupts(void)
{
    enum { COUNT = 1193, N = 200 };                            /* close to 1 ms */
    outb(0x43, 0x34), outb(0x40, COUNT & 0xff), outb(0x40, COUNT >> 8);
    ticks = 0;
    pic_unmask(0);
    while (ticks < 1)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 t0 = last_tick;
    u32 n0 = ticks;
    while (ticks < n0 + N)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 t1 = last_tick;
    u32 n = ticks - n0;
    pic_mask(0);
    return ppm((u64)n * COUNT * tsc_hz() / PIT_HZ, t1 - t0);
}

static u64 apic_hz(void)
{
    apic_write(0x3e0, 3);                                      /* divide by 16 */
    apic_write(0x320, 0x10000);
    apic_write(0x380, 0xffffffff);
    u32 c0 = apic_read(0x390);
    u64 t0 = rdtsc(), span = tsc_hz() / 5;
    while (rdtsc() - t0 < span)
        ;
    u32 c1 = apic_read(0x390);
    u64 t1 = rdtsc();
    return (u64)(c0 - c1) * tsc_hz() / (t1 - t0);
}

static u64 apic_rate;

static u32 apic_interrupts(void)
{
    enum { N = 200 };
    u32 count = (u32)(apic_rate / 1000);
    ticks = 0;
    apic_write(0x320, 0x20000 | 0x50);                         /* periodic */
    apic_write(0x380, count);
    while (ticks < 1)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 t0 = last_tick;
    u32 n0 = ticks;
    while (ticks < n0 + N)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 t1 = last_tick;
    u32 n = ticks - n0;
    apic_write(0x380, 0);
    apic_write(0x320, 0x10000);
    __asm__ volatile("sti; nop; nop; cli");
    return ppm((u64)n * count * tsc_hz() / apic_rate, t1 - t0);
}

/* A one-shot must not be early, and not be late by much when the host is idle. */
static u32 apic_oneshot(void)
{
    u64 wanted = tsc_hz() / 100;
    ticks = 0;
    apic_write(0x320, 0x50);
    u64 t0 = rdtsc();
    apic_write(0x380, (u32)(apic_rate / 100));
    while (ticks == 0)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 took = last_tick - t0;
    CHECK(took >= wanted - wanted / 1000);
    return ppm(took, wanted);
}

static u32 pit_oneshot_accuracy(void)
{
    ticks = 0;
    pic_unmask(0);
    u64 t0 = rdtsc(), wanted = tsc_hz() * 11932 / PIT_HZ;
    pit_oneshot(11932);
    while (ticks == 0)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 took = last_tick - t0;
    pic_mask(0);
    CHECK(took >= wanted - wanted / 1000);
    return ppm(took, wanted);
}

/* ---- RTC: its seconds. */
static u8 cmos(u8 reg) { outb(0x70, reg); return inb(0x71); }

static u32 rtc_against_tsc(void)
{
    u8 s = cmos(0);
    while (cmos(0) == s)
        ;
    u64 t0 = rdtsc();
    s = cmos(0);
    while (cmos(0) == s)
        ;
    return ppm(rdtsc() - t0, tsc_hz());
}

static void monotonic(void)
{
    section("TSC never goes back");
    u64 last = rdtsc();
    u32 back = 0;
    pic_unmask(0);
    outb(0x43, 0x34), outb(0x40, 0xa9), outb(0x40, 0x04);
    __asm__ volatile("sti");
    for (u32 i = 0; i < 200000; i++) {
        u64 now = rdtsc();
        back += now < last;
        last = now;
    }
    __asm__ volatile("cli");
    pic_mask(0);
    CHECK_EQ(back, 0);
}

void guest_main(void)
{
    on_trap(IRQ_BASE, on_tick);
    on_trap(0x50, on_apic_tick);
    print("timers: TSC %u kHz by PIT channel 2\n", (u32)(tsc_hz() / 1000));
    CHECK(tsc_hz() > 100000000);
    find_pm_timer();
    section("ACPI");
    CHECK(pm_port != 0);
    if (pm_port)
        check_clock("PM timer", pm_against_tsc, TRIES, 1000);
    check_clock("PIT, counting", pit_against_tsc, TRIES, 1000);
    check_clock("PIT, periodic interrupts", pit_interrupts, TRIES, 5000);
    check_clock("PIT, one-shot of 10 ms", pit_oneshot_accuracy, TRIES, 30000);
    apic_write(0xf0, 0x1ff);
    apic_rate = apic_hz();
    print("timers: APIC timer %u kHz at divider 16\n", (u32)(apic_rate / 1000));
    CHECK(apic_rate > 100000);
    check_clock("APIC timer, periodic interrupts", apic_interrupts, TRIES, 5000);
    check_clock("APIC timer, one-shot of 10 ms", apic_oneshot, TRIES, 30000);
    check_clock("RTC, one second", rtc_against_tsc, 2, 5000);
    monotonic();
}
