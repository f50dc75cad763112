/* The I/O APIC, first against a recording stand-in, then with the real local APIC behind it. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

#define BASE 0xfec00000u

static struct ioapic *io;
static struct apic_msg last;
static unsigned sent;
static bool accept;

static bool record(void *lapic UNUSED, const struct apic_msg *m)
{
    last = *m;
    sent++;
    return accept;
}
static u32 get(u8 index)
{
    bus_mmio_write(&fake_bus, BASE, 4, index);
    return bus_mmio_read(&fake_bus, BASE + 0x10, 4);
}
static void put(u8 index, u32 v)
{
    bus_mmio_write(&fake_bus, BASE, 4, index);
    bus_mmio_write(&fake_bus, BASE + 0x10, 4, v);
}
static void entry(unsigned pin, u32 lo, u32 hi)
{
    put(0x11 + 2 * pin, hi);
    put(0x10 + 2 * pin, lo);
}
static void set(unsigned pin, bool level)
{
    struct irq_line l = ioapic_input(io, pin);
    irq_set(&l, level);
}

static void setup(void)
{
    machine_clear();
    sent = 0;
    accept = true;
    ck_assert_int_eq(ioapic_new(&io, &fake_bus, 1, record, NULL), 0);
}
static void teardown(void) { ioapic_free(io); }

START_TEST(it_has_24_masked_pins)
{
    ck_assert_uint_eq(get(0), 1u << 24);
    ck_assert_uint_eq(get(1), 0x00170011);
    for (unsigned n = 0; n < 24; n++) {
        ck_assert_uint_eq(get(0x10 + 2 * n), 0x10000);
        ck_assert_uint_eq(get(0x11 + 2 * n), 0);
    }
    put(0, 0xffffffff);
    ck_assert_uint_eq(get(0), 0x0f000000);
    put(0x10, 0xffffffff);
    ck_assert_uint_eq(get(0x10), 0x1afff);
    put(0x40, 0xffffffff); /* beyond the last entry */
    ck_assert_uint_eq(get(0x40), 0);
    ck_assert_uint_eq(get(0xff), 0);
}
END_TEST

START_TEST(an_edge_sends_what_the_entry_says)
{
    entry(4, 0x0831 | 0x100, 0x05000000);
    set(4, true);
    ck_assert_uint_eq(sent, 1);
    ck_assert_uint_eq(last.vector, 0x31);
    ck_assert_uint_eq(last.dest, 5);
    ck_assert_uint_eq(last.delivery, APIC_LOWEST);
    ck_assert(last.logical && !last.level);
    set(4, true);
    set(4, false);
    ck_assert_uint_eq(sent, 1);
    set(4, true);
    ck_assert_uint_eq(sent, 2);
}
END_TEST

START_TEST(an_edge_at_a_masked_pin_is_lost)
{
    entry(4, 0x10031, 0);
    set(4, true);
    entry(4, 0x31, 0);
    ck_assert_uint_eq(sent, 0);
}
END_TEST

START_TEST(a_level_is_sent_again_after_eoi_while_it_lasts)
{
    entry(9, 0x8041, 0);
    set(9, true);
    ck_assert_uint_eq(sent, 1);
    ck_assert(last.level);
    ck_assert_uint_eq(get(0x10 + 18), 0xc041); /* Remote IRR */
    ioapic_eoi(io, 0x42);
    ck_assert_uint_eq(sent, 1);
    ioapic_eoi(io, 0x41);
    ck_assert_uint_eq(sent, 2);
    set(9, false);
    ioapic_eoi(io, 0x41);
    ck_assert_uint_eq(sent, 2);
    ck_assert_uint_eq(get(0x10 + 18), 0x8041);
    set(9, true);
    ck_assert_uint_eq(sent, 3);
}
END_TEST

START_TEST(a_level_at_a_masked_pin_waits)
{
    entry(9, 0x18041, 0);
    set(9, true);
    ck_assert_uint_eq(sent, 0);
    entry(9, 0x8041, 0);
    ck_assert_uint_eq(sent, 1);
}
END_TEST

START_TEST(a_refused_level_is_not_taken_as_delivered)
{
    accept = false;
    entry(9, 0x8041, 0);
    set(9, true);
    ck_assert_uint_eq(get(0x10 + 18), 0x8041);
    accept = true;
    entry(9, 0x8042, 0);
    ck_assert_uint_eq(get(0x10 + 18), 0xc042);
}
END_TEST

START_TEST(turning_to_edge_clears_remote_irr)
{
    entry(9, 0x8041, 0);
    set(9, true);
    entry(9, 0x10041, 0);
    entry(9, 0x8041, 0);
    ck_assert_uint_eq(sent, 2);
}
END_TEST

START_TEST(the_window_is_written_whole_and_read_in_parts)
{
    put(0x12, 0x00010077);
    bus_mmio_write(&fake_bus, BASE + 0x10, 1, 0x55);
    ck_assert_uint_eq(get(0x12), 0x10077);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, BASE + 0x12, 1), 1);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, BASE, 1), 0x12);
}
END_TEST

START_TEST(with_a_local_apic_a_level_interrupt_goes_round)
{
    struct lapic *l;
    struct ioapic *real;
    struct wire intr = { 0 };
    struct irq_line none = { 0 };

    teardown();
    machine_clear();
    ck_assert_int_eq(lapic_new(&l, &fake_bus, &fake_clock, 0, wire_line(&intr), none, NULL, NULL), 0);
    ck_assert_int_eq(ioapic_new(&real, &fake_bus, 1, lapic_deliver, l), 0);
    lapic_on_eoi(l, ioapic_eoi, real);
    io = real;
    bus_mmio_write(&fake_bus, 0xfee000f0u, 4, 0x1ff);
    entry(16, 0x8051, 0);
    set(16, true);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(intr.level);
        ck_assert_int_eq(lapic_intc_ops.acknowledge(l), 0x51);
        ck_assert(!intr.level);
        if (i == 2) set(16, false);
        bus_mmio_write(&fake_bus, 0xfee000b0u, 4, 0);
    }
    ck_assert(!intr.level);
    lapic_free(l);
}
END_TEST

CHIP_SUITE("ioapic", setup, teardown, it_has_24_masked_pins, an_edge_sends_what_the_entry_says,
           an_edge_at_a_masked_pin_is_lost, a_level_is_sent_again_after_eoi_while_it_lasts,
           a_level_at_a_masked_pin_waits, a_refused_level_is_not_taken_as_delivered, turning_to_edge_clears_remote_irr,
           the_window_is_written_whole_and_read_in_parts, with_a_local_apic_a_level_interrupt_goes_round)
