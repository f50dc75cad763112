/* The pair of 8259As, as the board programs and as the data sheet says. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

static struct pic *pic;
static struct wire intr;

static void init_both(u8 icw4)
{
    outb(0x20, 0x11);
    outb(0x21, 0x20);
    outb(0x21, 0x04);
    outb(0x21, icw4);
    outb(0xa0, 0x11);
    outb(0xa1, 0x28);
    outb(0xa1, 0x02);
    outb(0xa1, icw4);
}
static void setup(void)
{
    machine_clear();
    memset(&intr, 0, sizeof(intr));
    ck_assert_int_eq(pic_new(&pic, &fake_bus, wire_line(&intr)), 0);
    init_both(0x01);
}
static void teardown(void) { pic_free(pic); }

static void set(unsigned n, bool level)
{
    struct irq_line l = pic_input(pic, n);
    irq_set(&l, level);
}
static void pulse(unsigned n)
{
    set(n, false);
    set(n, true);
}
static u8 isr(u16 base)
{
    outb(base, 0x0b);
    return inb(base);
}
static u8 irr(u16 base)
{
    outb(base, 0x0a);
    return inb(base);
}

START_TEST(an_untouched_pic_asks_for_nothing)
{
    struct pic *other;
    struct wire w = { 0 };
    struct bus *b = calloc(1, sizeof(*b));

    ck_assert_int_eq(pic_new(&other, b, wire_line(&w)), 0);
    struct irq_line l = pic_input(other, 3);
    irq_set(&l, true);
    ck_assert(!w.level);
    pic_free(other);
    free(b);
}
END_TEST

START_TEST(an_edge_is_served_once_with_its_vector)
{
    pulse(4);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x24);
    ck_assert(!intr.level);
    ck_assert_uint_eq(isr(0x20), 0x10);
    outb(0x20, 0x20);
    ck_assert_uint_eq(isr(0x20), 0);
    ck_assert(!intr.level); /* the line is still high, but that is no new edge */
    pulse(4);
    ck_assert(intr.level);
}
END_TEST

START_TEST(a_request_that_is_taken_back_gives_the_default_ir7)
{
    pulse(3);
    set(3, false);
    ck_assert(!intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x27);
    ck_assert_uint_eq(isr(0x20), 0);
}
END_TEST

START_TEST(polling_the_slave_takes_its_request_from_the_master_too)
{
    pulse(10);
    ck_assert(intr.level);
    outb(0xa0, 0x0c);
    ck_assert_uint_eq(inb(0xa0), 0x82);
    ck_assert(!intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x27);
    outb(0xa0, 0x20);
    pulse(11);
    ck_assert_int_eq(pic_acknowledge(pic), 0x2b);
    ck_assert_uint_eq(isr(0x20), 0x04);
}
END_TEST

START_TEST(slave_vectors_come_through_the_cascade)
{
    pulse(8);
    ck_assert_int_eq(pic_acknowledge(pic), 0x28);
    ck_assert_uint_eq(isr(0x20), 0x04);
    ck_assert_uint_eq(isr(0xa0), 0x01);
    pulse(9);
    ck_assert(!intr.level); /* of lower priority than what the slave serves */
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x29);
}
END_TEST

START_TEST(higher_priority_nests_and_lower_waits)
{
    pulse(5);
    ck_assert_int_eq(pic_acknowledge(pic), 0x25);
    pulse(6);
    ck_assert(!intr.level);
    pulse(1);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x21);
    ck_assert_uint_eq(isr(0x20), 0x22);
    outb(0x20, 0x20); /* non-specific: the highest, 1 */
    ck_assert_uint_eq(isr(0x20), 0x20);
    outb(0x20, 0x65); /* specific: 5 */
    ck_assert_int_eq(pic_acknowledge(pic), 0x26);
}
END_TEST

START_TEST(a_masked_request_waits_in_irr)
{
    outb(0x21, 0x10);
    ck_assert_uint_eq(inb(0x21), 0x10);
    pulse(4);
    ck_assert(!intr.level);
    ck_assert_uint_eq(irr(0x20), 0x10);
    outb(0x21, 0x00);
    ck_assert(intr.level);
}
END_TEST

START_TEST(a_level_input_asks_again_until_it_falls)
{
    outb(0x4d1, 0x0c); /* 10 and 11 */
    ck_assert_uint_eq(inb(0x4d1), 0x0c);
    set(10, true);
    ck_assert_int_eq(pic_acknowledge(pic), 0x2a);
    ck_assert(!intr.level);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    ck_assert(intr.level);
    set(10, false);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(elcr_keeps_the_system_interrupts_edge_triggered)
{
    bus_out(&fake_bus, 0x4d0, 2, 0xffff);
    ck_assert_uint_eq(bus_in(&fake_bus, 0x4d0, 2), 0xdef8);
}
END_TEST

START_TEST(rotation_moves_the_served_input_to_the_end)
{
    pulse(2 + 1);
    ck_assert_int_eq(pic_acknowledge(pic), 0x23);
    outb(0x20, 0xa0); /* rotate on non-specific EOI: 3 is lowest now, 4 highest */
    pulse(3);
    pulse(7);
    ck_assert_int_eq(pic_acknowledge(pic), 0x27);
    outb(0x20, 0x20);
    ck_assert_int_eq(pic_acknowledge(pic), 0x23);
    outb(0x20, 0x20);
    outb(0x20, 0xc0 | 5); /* set priority: 5 lowest, 6 highest */
    pulse(0);
    pulse(6);
    ck_assert_int_eq(pic_acknowledge(pic), 0x26);
    outb(0x20, 0xe6); /* rotate on specific EOI of 6: 7 highest */
    ck_assert_int_eq(pic_acknowledge(pic), 0x20);
}
END_TEST

START_TEST(automatic_eoi_leaves_nothing_in_service)
{
    init_both(0x03);
    pulse(1);
    ck_assert_int_eq(pic_acknowledge(pic), 0x21);
    ck_assert_uint_eq(isr(0x20), 0);
    outb(0x20, 0x80); /* rotate in automatic EOI mode */
    pulse(1);
    ck_assert_int_eq(pic_acknowledge(pic), 0x21);
    pulse(0);
    pulse(4);
    ck_assert_int_eq(pic_acknowledge(pic), 0x24); /* 1 is lowest, so 2.. come before 0 */
}
END_TEST

START_TEST(special_mask_mode_lets_lower_inputs_in)
{
    pulse(1);
    ck_assert_int_eq(pic_acknowledge(pic), 0x21);
    pulse(6);
    ck_assert(!intr.level);
    outb(0x21, 0x02);
    outb(0x20, 0x68);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x26);
    outb(0x20, 0x20); /* non-specific EOI passes over the masked 1 */
    ck_assert_uint_eq(isr(0x20), 0x02);
    outb(0x20, 0x48);
    pulse(6);
    ck_assert(!intr.level);
}
END_TEST

START_TEST(special_fully_nested_mode_lets_the_slave_interrupt_itself)
{
    init_both(0x11);
    outb(0x21, 0x00);
    pulse(12);
    ck_assert_int_eq(pic_acknowledge(pic), 0x2c);
    pulse(8);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x28);
}
END_TEST

START_TEST(polling_acknowledges_without_inta)
{
    outb(0x20, 0x0c);
    ck_assert_uint_eq(inb(0x20), 0x07);
    pulse(5);
    outb(0x20, 0x0c);
    ck_assert_uint_eq(inb(0x20), 0x85);
    ck_assert(!intr.level);
    ck_assert_uint_eq(isr(0x20), 0x20);
}
END_TEST

START_TEST(icw1_starts_over)
{
    pulse(5);
    pic_acknowledge(pic);
    pulse(3);
    outb(0x21, 0xfb);
    outb(0x20, 0x11);
    ck_assert(!intr.level);
    outb(0x21, 0x40);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    ck_assert_uint_eq(inb(0x21), 0x00); /* IMR is cleared */
    ck_assert_uint_eq(isr(0x20), 0x00);
    ck_assert_uint_eq(irr(0x20), 0x00); /* and the edge detectors */
    pulse(3);
    ck_assert_int_eq(pic_acknowledge(pic), 0x43);
}
END_TEST

START_TEST(without_ic4_the_sequence_ends_at_icw3)
{
    outb(0x20, 0x10);
    outb(0x21, 0x60);
    outb(0x21, 0x04);
    outb(0x21, 0xaa); /* already OCW1 */
    ck_assert_uint_eq(inb(0x21), 0xaa);
}
END_TEST

START_TEST(ferr_is_irq_13_until_port_f0_and_ignne_until_ferr_is_released)
{
    struct wire ignne = { 0 };
    struct irq_line ferr = pic_ferr(pic, pic_input(pic, 13), wire_line(&ignne));
    outb(0xf0, 0); /* nothing is pending */
    ck_assert(!ignne.level);
    irq_set(&ferr, true);
    ck_assert(intr.level);
    ck_assert_int_eq(pic_acknowledge(pic), 0x2d);
    irq_set(&ferr, false); /* the handler clears the exception first */
    outb(0xf0, 0);
    ck_assert(!ignne.level);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    irq_set(&ferr, true);
    ck_assert(intr.level);
    outb(0xf0, 0); /* or last */
    ck_assert(!intr.level);
    ck_assert(ignne.level);
    irq_set(&ferr, false);
    ck_assert(!ignne.level);
    irq_set(&ferr, true);
    ck_assert(intr.level);
    outb(0xf0, 0);
    pic_reset(pic);
    ck_assert(!ignne.level);
}
END_TEST

CHIP_SUITE("pic", setup, teardown, an_untouched_pic_asks_for_nothing, an_edge_is_served_once_with_its_vector,
           a_request_that_is_taken_back_gives_the_default_ir7, polling_the_slave_takes_its_request_from_the_master_too,
           slave_vectors_come_through_the_cascade, higher_priority_nests_and_lower_waits, a_masked_request_waits_in_irr,
           a_level_input_asks_again_until_it_falls, elcr_keeps_the_system_interrupts_edge_triggered,
           rotation_moves_the_served_input_to_the_end, automatic_eoi_leaves_nothing_in_service,
           special_mask_mode_lets_lower_inputs_in, special_fully_nested_mode_lets_the_slave_interrupt_itself,
           polling_acknowledges_without_inta, icw1_starts_over, without_ic4_the_sequence_ends_at_icw3,
           ferr_is_irq_13_until_port_f0_and_ignne_until_ferr_is_released)
