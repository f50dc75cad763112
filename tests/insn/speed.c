/* A processor of the speed that --speed says (the command line repeats it: mhz=N): TSC, a loop of known length and all
 * clocks agree, however fast the host is; and time in HLT is the host's. */
#include "rt.h"

const char guest_name[] = "speed";

static u32 mhz;

static u32 pit_count(void)
{
    outb(0x43, 0);
    u32 low = inb(0x40);
    return low | (u32)inb(0x40) << 8;
}

/* Counts down from 65536, 55 ms; a little of which has passed. */
static void pit_start(void)
{
    outb(0x43, 0x34);
    outb(0x40, 0);
    outb(0x40, 0);
    while (pit_count() - 1 > 0xff00)
        ;
}

/* Of the PIT, while a loop of two instructions goes round. */
static u32 loop_ticks(u32 rounds)
{
    pit_start();
    u32 before = pit_count();
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(rounds));
    return before - pit_count();
}

static bool near(u64 got, u64 want, u32 permille)
{
    u64 off = got > want ? got - want : want - got;
    return off * 1000 <= want * permille;
}

static void loops(void)
{
    section("a loop takes an instruction a cycle");
    for (u32 us = 500; us <= 20000; us *= 2) {
        u32 insns = us * mhz, ticks = loop_ticks(insns / 2);
        u64 want = (u64)PIT_HZ * us / 1000000;
        if (!near(ticks, want, 20))
            print("speed: %u us by count, %u ticks of the PIT for %u\n", us, ticks, (u32)want);
        CHECK(near(ticks, want, 20));
    }
}

static void counter(void)
{
    section("the TSC counts its cycles");
    pit_start();
    u32 begin = pit_count(), end = begin, back = 0;
    u64 tsc = rdtsc(), last = tsc;
    while (begin - end < 20000) {
        end = pit_count();
        u64 now = rdtsc();
        back += now <= last;
        last = now;
    }
    CHECK_EQ(back, 0);
    u64 ran = last - tsc, want = (u64)(begin - end) * mhz * 1000000 / PIT_HZ;
    if (!near(ran, want, 10))
        print("speed: TSC went by %u, expected %u\n", (u32)ran, (u32)want);
    CHECK(near(ran, want, 10));
}

enum { TICK = 1193 /* of the PIT: 1 ms */, TICKS = 200 };
static volatile u32 ticks;
static bool on_tick(struct frame *f)
{
    (void)f;
    ticks++;
    pic_eoi(0);
    return true;
}

/* Half of the time asleep, half busy: no tick is lost, and between two there is the time that the TSC says. */
static void sleeping(void)
{
    section("ticks between sleep and work");
    on_trap(IRQ_BASE, on_tick);
    outb(0x43, 0x34);
    outb(0x40, TICK & 0xff);
    outb(0x40, TICK >> 8);
    pic_unmask(0);
    __asm__ volatile("sti");
    while (!ticks)
        __asm__ volatile("hlt");
    u64 tsc = rdtsc();
    for (u32 first = ticks; ticks - first < TICKS;) {
        u32 rounds = 250 * mhz;
        __asm__ volatile("1: dec %0; jnz 1b" : "+r"(rounds));
        __asm__ volatile("hlt");
    }
    u64 ran = rdtsc() - tsc, want = (u64)TICKS * TICK * mhz * 1000000 / PIT_HZ;
    __asm__ volatile("cli");
    if (!near(ran, want, 10))
        print("speed: %u cycles in %u ticks, expected %u\n", (u32)ran, TICKS, (u32)want);
    CHECK(near(ran, want, 10));
}

void guest_main(void)
{
    mhz = told("mhz=20") ? 20 : told("mhz=300") ? 300 : 0;
    CHECK(mhz != 0);
    loops();
    counter();
    sleeping();
}
