/* All clocks of the machine tell the same time: TSC, PIT (counted and interrupting), local APIC timer, ACPI PM timer,
 * RTC.
 *
 * The host may be busy at any moment, which delays a read or an interrupt and never hastens it. So a clock is read
 * between two reads of the TSC and the pair with the closest bracket counts; and a periodic interrupt is judged by its
 * most punctual arrivals early and late in a run, which a lost or late tick between them does not change. */
#include "rt.h"

const char guest_name[] = "timers";

enum { PM_HZ = 3579545, STRETCH_MS = 200, TRIES = 8, TICKS_KEPT = 256 };

static volatile u32 ticks;
static volatile u64 last_tick, tick_times[TICKS_KEPT];

static void note_tick(void)
{
    last_tick = rdtsc();
    if (ticks < TICKS_KEPT)
        tick_times[ticks] = last_tick;
    ticks++;
}

static bool on_tick(struct frame *f)
{
    (void)f;
    note_tick();
    pic_eoi(0);
    return true;
}

static bool on_apic_tick(struct frame *f)
{
    (void)f;
    note_tick();
    apic_write(0xb0, 0);
    return true;
}

/* A clock's count and the TSC at the same moment. */
struct moment { u32 count; u64 tsc; };

static struct moment read_together(u32 (*clock)(void))
{
    struct moment best = {0, 0};
    u64 closest = ~0ull;

    for (int i = 0; i < 20; i++) {
        u64 before = rdtsc();
        u32 count = clock();
        u64 after = rdtsc();
        if (after - before < closest)
            closest = after - before, best = (struct moment){count, (before + after) / 2};
    }
    return best;
}

/* Difference of two durations in parts per million of the second. */
static u32 ppm(u64 a, u64 b)
{
    u64 d = a > b ? a - b : b - a;
    return (u32)(d * 1000000 / (b ? b : 1));
}

static u32 best(u32 (*measure)(void), int tries, u32 enough)
{
    u32 least = ~0u;
    for (int i = 0; i < tries && least > enough; i++) {
        u32 off = measure();
        if (off < least)
            least = off;
    }
    return least;
}

static void check_clock(const char *name, u32 (*measure)(void), int tries, u32 allowed_ppm)
{
    u32 off = best(measure, tries, allowed_ppm / 3);

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

static u32 pm_read(void) { return inl((u16)pm_port); }

static void pass_time(void)
{
    for (u64 t0 = rdtsc(), span = tsc_hz() * STRETCH_MS / 1000; rdtsc() - t0 < span;)
        ;
}

static u32 pm_against_tsc(void)
{
    struct moment from = read_together(pm_read);
    pass_time();
    struct moment to = read_together(pm_read);
    return ppm((u64)((to.count - from.count) & 0xffffff) * tsc_hz() / PM_HZ, to.tsc - from.tsc);
}

/* ---- PIT channel 2 counting down from 65536 in mode 2, latched. */
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
    struct moment from = read_together(pit2);
    pass_time();
    struct moment to = read_together(pit2);
    u64 span = to.tsc - from.tsc, counted = span * PIT_HZ / tsc_hz();
    /* How often it has wrapped is not seen, but what is meant is within half a wrap (27 ms) of the TSC, or far off. */
    counted += (int16_t)((from.count - to.count) - (u32)counted);
    return ppm(counted * tsc_hz() / PIT_HZ, span);
}

/* ---- Periodic interrupts. The most punctual of some ticks: how far it lies from a whole number of periods after the
 * first. */
static s64 most_punctual(u32 from, u32 to, u64 period)
{
    s64 least = (s64)period;

    for (u32 i = from; i < to; i++) {
        s64 late = (s64)((tick_times[i] - tick_times[0]) % period);
        if (late > (s64)period / 2)
            late -= (s64)period;
        if (late < least)
            least = late;
    }
    return least;
}

static u32 judge_ticks(u64 began, u64 period)
{
    u64 span = tick_times[TICKS_KEPT - 1] - tick_times[0];
    s64 drift = most_punctual(TICKS_KEPT * 2 / 3, TICKS_KEPT, period) - most_punctual(0, TICKS_KEPT / 3, period);

    /* Never more ticks than time (a late one may be followed by others in haste). Long stretches without: another
     * try. */
    CHECK((TICKS_KEPT - 1) * period <= tick_times[TICKS_KEPT - 1] - began);
    if (span > TICKS_KEPT * period * 8)
        return ~0u;
    return (u32)((u64)(drift < 0 ? -drift : drift) * 1000000 / (span * 2 / 3));
}

static void let_pending_in(void)
{
    __asm__ volatile("sti; movl $10000, %%ecx; 1: loop 1b; cli" : : : "ecx", "memory");
}

static void take_ticks(void)
{
    ticks = 0;
    while (ticks < TICKS_KEPT)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static u32 pit_interrupts(void)
{
    enum { COUNT = 1193 };                                     /* close to 1 ms */
    u64 began = rdtsc();
    outb(0x43, 0x34), outb(0x40, COUNT & 0xff), outb(0x40, COUNT >> 8);
    pic_unmask(0);
    take_ticks();
    pic_mask(0);
    return judge_ticks(began, (u64)COUNT * tsc_hz() / PIT_HZ);
}

static u32 apic_count(void) { return apic_read(0x390); }

static u64 apic_hz(void)
{
    apic_write(0x3e0, 3);                                      /* divide by 16 */
    apic_write(0x320, 0x10000);
    apic_write(0x380, 0xffffffff);
    struct moment from = read_together(apic_count);
    pass_time();
    struct moment to = read_together(apic_count);
    return (u64)(from.count - to.count) * tsc_hz() / (to.tsc - from.tsc);
}

static u64 apic_rate;

static u32 apic_interrupts(void)
{
    u32 count = (u32)(apic_rate / 1000);
    u64 began = rdtsc();
    apic_write(0x320, 0x20000 | 0x50);                         /* periodic */
    apic_write(0x380, count);
    take_ticks();
    apic_write(0x380, 0);
    apic_write(0x320, 0x10000);
    let_pending_in();
    return judge_ticks(began, (u64)count * tsc_hz() / apic_rate);
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
    if (took < wanted - wanted / 500)                          /* early: it cannot be the host's fault */
        CHECK(took >= wanted - wanted / 500);
    return ppm(took, wanted);
}

static u32 pit_oneshot_accuracy(void)
{
    outb(0x43, 0x30);                                          /* OUT low: no more ticks of what ran before */
    pic_unmask(0);
    let_pending_in();
    ticks = 0;
    u64 t0 = rdtsc(), wanted = tsc_hz() * 11932 / PIT_HZ;
    pit_oneshot(11932);
    while (ticks == 0)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    u64 took = last_tick - t0;
    pic_mask(0);
    if (took < wanted - wanted / 500)                          /* early: it cannot be the host's fault */
        CHECK(took >= wanted - wanted / 500);
    return ppm(took, wanted);
}

/* ---- RTC: its seconds. */
static u8 cmos(u8 reg) { outb(0x70, reg); return inb(0x71); }

/* The moment at which the seconds change: after the last read that saw the old one began, before the first that saw the
 * new one ended. How far apart these are is added to *doubt. */
static u64 rtc_edge(u64 *doubt)
{
    u8 s = cmos(0), seen;
    u64 old_began, began = rdtsc(), now = began;

    do {
        old_began = began;
        began = now;
        seen = cmos(0);
        now = rdtsc();
    } while (seen == s);
    *doubt += now - old_began;
    return (old_began + now) / 2;
}

static u32 rtc_against_tsc(void)
{
    u64 doubt = 0, t0 = rtc_edge(&doubt), took = rtc_edge(&doubt) - t0;
    u32 off = ppm(took, tsc_hz()), excuse = ppm(tsc_hz() + doubt, tsc_hz());

    return off > excuse ? off - excuse : 0;
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
    check_clock("PIT, one-shot of 10 ms", pit_oneshot_accuracy, 5 * TRIES, 30000);
    apic_write(0xf0, 0x1ff);
    apic_rate = apic_hz();
    print("timers: APIC timer %u kHz at divider 16\n", (u32)(apic_rate / 1000));
    CHECK(apic_rate > 100000);
    check_clock("APIC timer, periodic interrupts", apic_interrupts, TRIES, 5000);
    check_clock("APIC timer, one-shot of 10 ms", apic_oneshot, 5 * TRIES, 30000);
    check_clock("RTC, one second", rtc_against_tsc, 3, 5000);
    monotonic();
}
