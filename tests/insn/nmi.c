/* NMIs: taken with IF=0, not within their own handler, one more kept meanwhile, taken again from any IRET on; INT 2
 * blocks none; HLT with IF=0 ends by one. They come from the local APIC, by its own command, and from the I/O APIC. SDM
 * vol. 3, 6.7, 10.6.1; 82093AA, 3.2.4. */
#include "rt.h"

const char guest_name[] = "nmi";

enum { SVR = 0xf0, ICR_LOW = 0x300, NMI_TO_SELF = 0x44400 };
static volatile u32 depth, deepest, times, sent_within, unblock, seen_if, resumed_at;

static void send(void) { apic_write(ICR_LOW, NMI_TO_SELF); }

static bool on_iret(struct frame *f) { (void)f; return true; }

static bool on_nmi(struct frame *f)
{
    times++, depth++;
    if (depth > deepest)
        deepest = depth;
    seen_if = f->eflags & F_IF;
    resumed_at = f->eip;
    for (u32 n = sent_within; n; n--) {
        sent_within = 0;
        send();
    }
    if (unblock) {
        unblock = 0;
        CHECK_EQ(depth, 1);
        __asm__ volatile("int $0x84" : : : "memory");          /* its IRET is one */
        CHECK_EQ(deepest, 2);
    }
    depth--;
    return true;
}

static void start(u32 within)
{
    times = deepest = depth = 0;
    sent_within = within;
}

static u32 user_work(u32 n)
{
    volatile u32 sum = 0;
    for (u32 i = 0; i < n; i++)
        sum += i ^ n;
    return sum;
}

static void ioapic_write(u32 reg, u32 v) { poke(IOAPIC_BASE, reg), poke(IOAPIC_BASE + 0x10, v); }

void guest_main(void)
{
    apic_write(SVR, 0x1ff);
    on_trap(V_NMI, on_nmi);
    on_trap(0x84, on_iret);
    section("with IF=0");
    for (u32 i = 0; i < 100; i++) {
        start(0);
        send();
        CHECK_EQ(times, 1);
        CHECK_EQ(seen_if, 0);
    }
    section("not within its handler, and one more is kept");
    for (u32 n = 1; n < 4; n++) {
        start(n);
        send();
        CHECK_EQ(times, 2);
        CHECK_EQ(deepest, 1);
    }
    section("any IRET ends it");
    start(1);
    unblock = 1;
    send();
    CHECK_EQ(times, 2);
    CHECK_EQ(deepest, 2);
    section("INT 2 is none");
    start(1);
    __asm__ volatile("int $2" : : : "memory");
    CHECK_EQ(times, 2);
    CHECK_EQ(deepest, 2);
    section("an exception in the handler, and its IRET");
    start(0);
    send();
    CHECK_EQ(times, 1);

    section("from the I/O APIC: HLT with IF=0");
    ioapic_write(0x10 + 2 * 2 + 1, 0);                         /* to APIC 0 */
    ioapic_write(0x10 + 2 * 2, 0x400);                         /* NMI, edge */
    for (u32 i = 0; i < 5; i++) {
        start(0);
        pit_oneshot(told("tcg") ? PIT_HZ / 20 : PIT_HZ / 1000); /* not before HLT, on a slow host either */
        __asm__ volatile("hlt\n.globl after_hlt\nafter_hlt:" : : : "memory");
        extern u8 after_hlt[];
        CHECK_EQ(times, 1);
        CHECK_EQ(resumed_at, (u32)after_hlt);
    }
    section("from the I/O APIC: within work, with IF=0, in ring 0 and 3");
    for (u32 ring = 0; ring < 2; ring++) {
        start(0);
        pit_oneshot(PIT_HZ / 1000);
        for (u32 i = 0; i < 100000 && !times; i++) {
            if (ring)
                CHECK_EQ(ring3(user_work, 1000), 0);
            else
                user_work(1000);
        }
        CHECK_EQ(times, 1);
        CHECK_EQ(depth, 0);
    }
    ioapic_write(0x10 + 2 * 2, 0x10000);
}
