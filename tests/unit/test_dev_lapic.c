/* The local APIC: priorities, EOI, messages, LVT, the timer, and the 8259A beside it. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

#define BASE 0xfee00000u

static struct lapic *lapic;
static struct wire intr, nmi, fake_pic_int;
static int pic_vector;
static unsigned pic_acks;
static unsigned eoi_count;
static u8 eoi_vector;

static u32 get(u32 reg) { return bus_mmio_read(&fake_bus, BASE + reg, 4); }
static void put(u32 reg, u32 v) { bus_mmio_write(&fake_bus, BASE + reg, 4, v); }
static int ack(void) { return lapic_intc_ops.acknowledge(lapic); }
static void lint(unsigned n, bool level)
{
    struct irq_line l = n ? lapic_lint1(lapic) : lapic_lint0(lapic);
    irq_set(&l, level);
}
static int fake_pic_ack(void *pic UNUSED)
{
    pic_acks++;
    lint(0, false);
    return pic_vector;
}
static void fake_eoi(void *ioapic, u8 vector)
{
    ck_assert_ptr_eq(ioapic, &eoi_count);
    eoi_count++;
    eoi_vector = vector;
}
static bool send(u8 dest, bool logical, u8 vector)
{
    struct apic_msg m = { .dest = dest, .logical = logical, .vector = vector, .delivery = APIC_FIXED };
    return lapic_deliver(lapic, &m);
}

static void setup(void)
{
    machine_clear();
    memset(&intr, 0, sizeof(intr));
    memset(&nmi, 0, sizeof(nmi));
    memset(&fake_pic_int, 0, sizeof(fake_pic_int));
    pic_vector = 0x30;
    pic_acks = eoi_count = 0;
    ck_assert_int_eq(
        lapic_new(&lapic, &fake_bus, &fake_clock, 3, wire_line(&intr), wire_line(&nmi), fake_pic_ack, NULL), 0);
    lapic_on_eoi(lapic, fake_eoi, &eoi_count);
    put(0xf0, 0x1ff);
}
static void teardown(void) { lapic_free(lapic); }

START_TEST(it_says_what_it_is)
{
    ck_assert_uint_eq(get(0x20), 3u << 24);
    ck_assert_uint_eq(get(0x30), 0x00050014);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, BASE + 0x32, 2), 5);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, BASE + 0x34, 4), 0);
}
END_TEST

START_TEST(the_higher_class_goes_first_and_nests)
{
    send(3, false, 0x41);
    send(3, false, 0x61);
    ck_assert(intr.level);
    ck_assert_int_eq(ack(), 0x61);
    ck_assert_uint_eq(get(0xa0), 0x60);
    ck_assert(!intr.level);
    send(3, false, 0x62); /* same class: waits */
    ck_assert(!intr.level);
    send(3, false, 0x71);
    ck_assert_int_eq(ack(), 0x71);
    put(0xb0, 0);
    ck_assert(!intr.level);
    put(0xb0, 0);
    ck_assert_int_eq(ack(), 0x62);
    put(0xb0, 0);
    ck_assert_int_eq(ack(), 0x41);
    put(0xb0, 0);
    ck_assert_int_eq(ack(), -1);
    ck_assert_uint_eq(eoi_count, 0); /* edges are none of the I/O APIC's business */
}
END_TEST

START_TEST(tpr_holds_back_its_class_and_below)
{
    put(0x80, 0x50);
    send(3, false, 0x55);
    ck_assert(!intr.level);
    ck_assert_int_eq(ack(), 0xff); /* asked for nevertheless: the spurious vector */
    ck_assert_uint_eq(get(0x120), 0);
    send(3, false, 0x60);
    ck_assert(intr.level);
    put(0x80, 0x60);
    ck_assert(!intr.level);
    put(0x80, 0x4f);
    ck_assert_uint_eq(get(0xa0), 0x4f);
    ck_assert_int_eq(ack(), 0x60);
}
END_TEST

START_TEST(irr_isr_and_tmr_show_each_vector_at_its_place)
{
    struct apic_msg m = { .dest = 0xff, .level = true, .vector = 0x93, .delivery = APIC_FIXED };

    ck_assert(lapic_deliver(lapic, &m));
    ck_assert_uint_eq(get(0x240), 1u << 19);
    ck_assert_uint_eq(get(0x1c0), 1u << 19);
    ck_assert_int_eq(ack(), 0x93);
    ck_assert_uint_eq(get(0x240), 0);
    ck_assert_uint_eq(get(0x140), 1u << 19);
    put(0xb0, 0);
    ck_assert_uint_eq(eoi_count, 1);
    ck_assert_uint_eq(eoi_vector, 0x93);
    put(0xb0, 0); /* with nothing in service */
    ck_assert_uint_eq(eoi_count, 1);
}
END_TEST

START_TEST(destinations_are_matched_in_all_three_models)
{
    ck_assert(send(3, false, 0x40));
    ck_assert(send(0xff, false, 0x40));
    ck_assert(!send(2, false, 0x40));
    put(0xd0, 0x04u << 24);
    ck_assert(send(0x0c, true, 0x40));
    ck_assert(!send(0x03, true, 0x40));
    put(0xe0, 0x0fffffff);
    put(0xd0, 0x24u << 24);
    ck_assert(send(0x26, true, 0x40));
    ck_assert(!send(0x36, true, 0x40));
    ck_assert(!send(0x23, true, 0x40));
}
END_TEST

START_TEST(a_self_ipi_arrives_and_illegal_vectors_are_errors)
{
    put(0x300, 0x40045); /* self */
    ck_assert_int_eq(ack(), 0x45);
    put(0xb0, 0);
    put(0x310, 3u << 24);
    put(0x300, 0x46);
    ck_assert_int_eq(ack(), 0x46);
    put(0xb0, 0);
    put(0x300, 0xc0047); /* all but self: nobody */
    ck_assert_int_eq(ack(), -1);
    put(0x370, 0x50);
    put(0x300, 0x40005);
    ck_assert_int_eq(ack(), 0x50);
    ck_assert_uint_eq(get(0x280), 0);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x20);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0);
    get(0x3f0);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x80);
    send(3, false, 7);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x40);
}
END_TEST

START_TEST(an_illegal_error_vector_does_not_recurse)
{
    put(0x370, 0x03);
    put(0x300, 0x40001);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x60);
}
END_TEST

START_TEST(init_and_startup_do_not_disturb_the_only_cpu)
{
    put(0x320, 0x20040);
    put(0x300, 0x000c4500);
    put(0x300, 0x000c4610);
    put(0x300, 0x00040500);
    ck_assert_uint_eq(get(0x320), 0x20040);
    ck_assert_uint_eq(get(0xf0), 0x1ff);
}
END_TEST

START_TEST(the_one_shot_timer_counts_down_once)
{
    put(0x3e0, 0x3); /* by 16 */
    put(0x320, 0x40);
    put(0x380, 1000);
    pass(&fake_clock, 4000);
    ck_assert_uint_eq(get(0x390), 750);
    pass(&fake_clock, 11999);
    ck_assert(!intr.level);
    pass(&fake_clock, 1);
    ck_assert_int_eq(ack(), 0x40);
    put(0xb0, 0);
    ck_assert_uint_eq(get(0x390), 0);
    pass(&fake_clock, SEC);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(a_count_shorter_than_the_host_is_slow_expires_all_the_same)
{
    put(0x3e0, 0xb);
    put(0x320, 0x40);
    fake_clock.passes_at_a_look = 1000; /* for whoever reads the clock more than once on the way */
    put(0x380, 15);
    pass(&fake_clock, SEC);
    ck_assert_int_eq(ack(), 0x40);
    put(0xb0, 0);
    for (u32 count = 100; count < 4000; count += 300) {
        put(0x380, count);
        put(0x3e0, 0xa); /* goes on from what is left */
        pass(&fake_clock, SEC);
        ck_assert_int_eq(ack(), 0x40);
        put(0xb0, 0);
        put(0x3e0, 0xb);
    }
}
END_TEST

START_TEST(an_expiry_that_the_host_is_late_with_is_not_lost_when_the_guest_changes_the_mode)
{
    put(0x3e0, 0xb);
    put(0x320, 0x40);
    put(0x380, 1000);
    fake_clock.now += 2000; /* and no timer has been looked at */
    put(0x320, 0x41);
    ck_assert_int_eq(ack(), 0x40);
    put(0xb0, 0);
    put(0x380, 1000);
    fake_clock.now += 2000;
    put(0x3e0, 0xa);
    ck_assert_int_eq(ack(), 0x41);
    put(0xb0, 0);
    pass(&fake_clock, SEC);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(the_divider_has_eight_settings)
{
    static const struct {
        u8 tdcr;
        unsigned by;
    } d[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 } };

    for (unsigned i = 0; i < ARRAY_LEN(d); i++) {
        put(0x3e0, d[i].tdcr);
        put(0x380, 100000);
        pass(&fake_clock, 1000 * d[i].by);
        ck_assert_uint_eq(get(0x390), 99000);
    }
}
END_TEST

START_TEST(changing_the_divider_keeps_the_count)
{
    put(0x3e0, 0xb);
    put(0x320, 0x40);
    put(0x380, 100000);
    pass(&fake_clock, 40000);
    put(0x3e0, 0x0);
    ck_assert_uint_eq(get(0x390), 60000);
    pass(&fake_clock, 119999);
    ck_assert(!intr.level);
    pass(&fake_clock, 1);
    ck_assert(intr.level);
}
END_TEST

START_TEST(the_periodic_timer_does_not_drift)
{
    unsigned n = 0;

    put(0x3e0, 0xb);
    put(0x320, 0x20040);
    put(0x380, 1234567);
    for (unsigned i = 0; i < 10000; i++) {
        pass(&fake_clock, MS);
        while (intr.level) {
            ck_assert_int_eq(ack(), 0x40);
            put(0xb0, 0);
            n++;
        }
    }
    ck_assert_uint_eq(n, 10000000000ull / 1234567);
}
END_TEST

START_TEST(a_late_periodic_timer_drops_ticks_and_keeps_its_phase)
{
    put(0x3e0, 0xb);
    put(0x320, 0x20040);
    put(0x380, 1000000);
    stall(&fake_clock, 10500 * US);
    ck_assert_int_eq(ack(), 0x40);
    put(0xb0, 0);
    pass(&fake_clock, 499999);
    ck_assert(!intr.level);
    pass(&fake_clock, 1);
    ck_assert(intr.level);
}
END_TEST

START_TEST(absurd_timer_rates_are_slowed_down)
{
    put(0x3e0, 0xb);
    put(0x320, 0x20040);
    put(0x380, 1);
    unsigned n = 0;
    u64 end = fake_clock.now + SEC;
    while (fake_clock.now < end) {
        pass(&fake_clock, 10 * US);
        if (ack() == 0x40) n++;
        put(0xb0, 0);
    }
    ck_assert_uint_le(n, 20001);
    ck_assert_uint_ge(n, 19000);
}
END_TEST

START_TEST(a_masked_timer_counts_silently)
{
    put(0x320, 0x10040);
    put(0x380, 1000);
    ck_assert_uint_eq(clock_next_deadline(&fake_clock), UINT64_MAX);
    pass(&fake_clock, 1000);
    ck_assert_uint_eq(get(0x390), 500);
    put(0x320, 0x40);
    pass(&fake_clock, 1000);
    ck_assert(intr.level);
}
END_TEST

START_TEST(a_host_that_is_slower_than_the_timer_loses_no_interrupt)
{
    put(0x3e0, 0xb);
    put(0x320, 0x40);
    fake_clock.passes_at_a_look = MS;
    put(0x380, 1000);
    fake_clock.passes_at_a_look = 0;
    clock_run_due(&fake_clock);
    ck_assert_int_eq(ack(), 0x40);
    put(0xb0, 0);

    put(0x380, 1000);
    fake_clock.now += 2000; /* it has expired, but nobody has looked */
    put(0x320, 0x41);
    clock_run_due(&fake_clock);
    ck_assert_int_eq(ack(), 0x40); /* as LVT was at that moment */
    put(0xb0, 0);
    pass(&fake_clock, SEC);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(stopping_the_timer_stops_it)
{
    put(0x320, 0x20040);
    put(0x380, 100000);
    put(0x380, 0);
    pass(&fake_clock, SEC);
    ck_assert(!intr.level);
    ck_assert_uint_eq(get(0x390), 0);
}
END_TEST

START_TEST(lint0_brings_the_8259a_when_it_is_extint)
{
    lint(0, true); /* as after reset */
    ck_assert(intr.level);
    ck_assert_int_eq(ack(), 0x30);
    ck_assert_uint_eq(pic_acks, 1);
    ck_assert(!intr.level);
    ck_assert_uint_eq(get(0x110), 0); /* it does not go through ISR */
    put(0x350, 0x10700);
    lint(0, true);
    ck_assert(!intr.level);
    put(0x350, 0x00700);
    ck_assert(intr.level);
}
END_TEST

START_TEST(lint0_can_be_fixed_and_lint1_is_nmi)
{
    put(0x350, 0x44);
    lint(0, true);
    ck_assert_int_eq(ack(), 0x44);
    ck_assert_uint_eq(pic_acks, 0);
    lint(1, true);
    ck_assert_uint_eq(nmi.rises, 1);
    put(0x360, 0x10400);
    lint(1, false);
    lint(1, true);
    ck_assert_uint_eq(nmi.rises, 1);
}
END_TEST

START_TEST(software_disable_masks_the_lvt_and_passes_the_8259a)
{
    send(3, false, 0x40);
    put(0xf0, 0xff);
    ck_assert(!intr.level);
    ck_assert_uint_eq(get(0x350), 0x10700);
    put(0x320, 0x40);
    ck_assert_uint_eq(get(0x320), 0x10040);
    ck_assert(!send(3, false, 0x41));
    lint(0, true);
    ck_assert_int_eq(ack(), 0x30);
    put(0xf0, 0x1ff);
    ck_assert_int_eq(ack(), 0x40); /* what was pending has waited */
}
END_TEST

START_TEST(ia32_apic_base_moves_and_switches_off)
{
    lapic_intc_ops.set_apic_base(lapic, 0xfe000000u | 0x900);
    ck_assert_uint_eq(get(0x30), 0xffffffff);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, 0xfe000030u, 4), 0x00050014);
    lapic_intc_ops.set_apic_base(lapic, BASE | 0x100);
    ck_assert_uint_eq(get(0x30), 0xffffffff);
    ck_assert(!send(3, false, 0x40));
    lint(0, true);
    ck_assert_int_eq(ack(), 0x30);
    lapic_intc_ops.set_apic_base(lapic, BASE | 0x900);
    ck_assert_uint_eq(get(0xf0), 0xff);
    lapic_intc_ops.set_apic_base(lapic, BASE | 0x100);
    lapic_reset(lapic);
    ck_assert_uint_eq(get(0x30), 0x00050014);
}
END_TEST

START_TEST(messages_of_other_kinds_do_what_they_say)
{
    struct apic_msg m = { .dest = 3, .delivery = APIC_NMI };

    ck_assert(lapic_deliver(lapic, &m));
    ck_assert_uint_eq(nmi.rises, 1);
    m.delivery = APIC_EXTINT;
    ck_assert(lapic_deliver(lapic, &m));
    ck_assert(intr.level);
    ck_assert_int_eq(ack(), 0x30);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(random_programs_do_no_harm)
{
    u32 x = 4711;

    for (unsigned i = 0; i < 300000; i++) {
        x = x * 1664525 + 1013904223;
        u32 reg = x >> 8 & 0x3f0, v = x * 2654435761u;
        switch (x >> 28) {
        case 0: lint(x >> 9 & 1, x >> 10 & 1); break;
        case 1: ack(); break;
        case 2: send(x >> 8, x >> 7 & 1, x >> 12); break;
        case 3: bus_mmio_write(&fake_bus, BASE + (x >> 8 & 0xfff), 1 << (x & 1), v); break;
        case 4: bus_mmio_read(&fake_bus, BASE + (x >> 8 & 0xfff), 1 << (x & 1)); break;
        case 5 ... 9: put(reg, v); break;
        default: get(reg);
        }
        pass(&fake_clock, x >> 4 & 0xffff);
    }
}
END_TEST

CHIP_SUITE("lapic", setup, teardown, it_says_what_it_is, the_higher_class_goes_first_and_nests,
           tpr_holds_back_its_class_and_below, irr_isr_and_tmr_show_each_vector_at_its_place,
           destinations_are_matched_in_all_three_models, a_self_ipi_arrives_and_illegal_vectors_are_errors,
           an_illegal_error_vector_does_not_recurse, init_and_startup_do_not_disturb_the_only_cpu,
           the_one_shot_timer_counts_down_once, a_count_shorter_than_the_host_is_slow_expires_all_the_same,
           an_expiry_that_the_host_is_late_with_is_not_lost_when_the_guest_changes_the_mode,
           the_divider_has_eight_settings, changing_the_divider_keeps_the_count, the_periodic_timer_does_not_drift,
           a_late_periodic_timer_drops_ticks_and_keeps_its_phase, absurd_timer_rates_are_slowed_down,
           a_masked_timer_counts_silently, a_host_that_is_slower_than_the_timer_loses_no_interrupt,
           stopping_the_timer_stops_it, lint0_brings_the_8259a_when_it_is_extint, lint0_can_be_fixed_and_lint1_is_nmi,
           software_disable_masks_the_lvt_and_passes_the_8259a, ia32_apic_base_moves_and_switches_off,
           messages_of_other_kinds_do_what_they_say, random_programs_do_no_harm)
