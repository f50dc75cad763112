/* The small ones: DMA registers, debug exit, POST port, port 0xe9, the parallel port, wires split and joined. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

static void setup(void) { machine_clear(); }
static void teardown(void) {}

START_TEST(dma_registers_take_low_then_high_byte)
{
    struct dma8237 *d;

    ck_assert_int_eq(dma8237_new(&d, &fake_bus), 0);
    outb(0x0c, 0);
    outb(0x04, 0x34);
    outb(0x04, 0x12);
    outb(0x05, 0x78);
    outb(0x05, 0x56);
    outb(0x0c, 0);
    ck_assert_uint_eq(inb(0x04), 0x34);
    ck_assert_uint_eq(inb(0x04), 0x12);
    ck_assert_uint_eq(inb(0x05), 0x78);
    outb(0x0c, 0);
    ck_assert_uint_eq(inb(0x05), 0x78);
    outb(0xd8, 0);
    outb(0xc4, 0xcd); /* channel 5 */
    outb(0xc4, 0xab);
    ck_assert_uint_eq(inb(0xc4), 0xcd);
    ck_assert_uint_eq(inb(0x05), 0x56); /* each controller has its own flip-flop */
    dma8237_free(d);
}
END_TEST

START_TEST(dma_masks_and_pages_read_back)
{
    struct dma8237 *d;

    ck_assert_int_eq(dma8237_new(&d, &fake_bus), 0);
    ck_assert_uint_eq(inb(0x0f) & 0x0f, 0x0f);
    outb(0x0a, 0x02);
    ck_assert_uint_eq(inb(0x0f) & 0x0f, 0x0b);
    outb(0x0e, 0);
    ck_assert_uint_eq(inb(0x0f) & 0x0f, 0);
    outb(0x0d, 0);
    ck_assert_uint_eq(inb(0x0f) & 0x0f, 0x0f);
    outb(0xde, 0x05);
    ck_assert_uint_eq(inb(0xde) & 0x0f, 0x05);
    outb(0x09, 0x06);
    ck_assert_uint_eq(inb(0x08), 0x40);
    for (unsigned i = 0x81; i < 0x90; i++) outb(i, i);
    for (unsigned i = 0x81; i < 0x90; i++) ck_assert_uint_eq(inb(i), i);
    dma8237_free(d);
}
END_TEST

START_TEST(dma_ports_that_are_taken_leave_nothing_behind)
{
    struct dma8237 *d;
    struct port80 *p;

    ck_assert_int_eq(port80_new(&p, &fake_bus, (struct dev_event){ 0 }), 0);
    ck_assert_int_eq(dma8237_new(&d, &fake_bus), 0);
    unsigned n = fake_bus.pio.n;
    struct dma8237 *again;
    ck_assert_int_eq(dma8237_new(&again, &fake_bus), -EBUSY);
    ck_assert_uint_eq(fake_bus.pio.n, n);
    bus_unmap_pio(&fake_bus, 0x00);
    bus_unmap_pio(&fake_bus, 0xc0);
    ck_assert_int_eq(dma8237_new(&again, &fake_bus), -EBUSY); /* the pages are still there */
    ck_assert_uint_eq(fake_bus.pio.n, n - 2);
    dma8237_free(d);
    port80_free(p);
}
END_TEST

START_TEST(debug_exit_gives_an_odd_code)
{
    struct debug_exit *d;
    struct event_log e = { 0 };

    ck_assert_int_eq(debug_exit_new(&d, &fake_bus, 0xf4, (struct dev_event){ event_fired, &e }), 0);
    outb(0xf4, 0x10);
    ck_assert_uint_eq(e.count, 1);
    ck_assert_uint_eq(e.value, 0x21);
    outb(0xf4, 0xff);
    ck_assert_uint_eq(e.value, 0x1ff);
    ck_assert_uint_eq(inb(0xf4), 0xff);
    debug_exit_free(d);
}
END_TEST

START_TEST(the_post_port_tells_of_changes)
{
    struct port80 *p;
    struct event_log e = { 0 };

    ck_assert_int_eq(port80_new(&p, &fake_bus, (struct dev_event){ event_fired, &e }), 0);
    outb(0x80, 0x42);
    outb(0x80, 0x42);
    ck_assert_uint_eq(e.count, 1);
    ck_assert_uint_eq(e.value, 0x42);
    ck_assert_uint_eq(inb(0x80), 0x42);
    port80_free(p);
}
END_TEST

static char printed[16];
static void print(void *be UNUSED, const u8 *buf, size_t n) { strncat(printed, (const char *)buf, n); }

START_TEST(port_e9_prints_and_answers)
{
    const struct chardev_ops ops = { .write = print };
    struct chardev c = { .ops = &ops };
    struct porte9 *p;

    ck_assert_int_eq(porte9_new(&p, &fake_bus, 0xe9, &c), 0);
    ck_assert_uint_eq(inb(0xe9), 0xe9);
    outb(0xe9, 'o');
    outb(0xe9, 'k');
    ck_assert_str_eq(printed, "ok");
    porte9_free(p);
}
END_TEST

START_TEST(a_split_wire_reaches_all_ends)
{
    struct wire w[4] = { 0 };
    struct irq_split s = { .out = { wire_line(&w[0]), wire_line(&w[1]), { 0 }, wire_line(&w[3]) } };
    struct irq_line l = irq_split_input(&s);

    irq_set(&l, true);
    ck_assert(w[0].level && w[1].level && !w[2].level && w[3].level);
    irq_set(&l, false);
    ck_assert(!w[0].level && !w[1].level && !w[3].level);
}
END_TEST

START_TEST(what_is_strobed_out_is_printed_and_acknowledged_once)
{
    const struct chardev_ops ops = { .write = print };
    struct chardev c = { .ops = &ops };
    struct wire irq7 = { 0 };
    struct lpt *l;

    ck_assert_int_eq(lpt_new(&l, &fake_bus, 0x378, wire_line(&irq7), &c), 0);
    printed[0] = 0;
    ck_assert_uint_eq(inb(0x379), 0xdf); /* not busy, selected, no error */
    for (const char *p = "lpt"; *p; p++) {
        outb(0x378, (u8)*p);
        ck_assert_uint_eq(inb(0x378), (u8)*p);
        outb(0x37a, 0x0d);
        outb(0x37a, 0x0d); /* the strobe goes on: it is one byte */
        outb(0x37a, 0x0c);
        ck_assert(!irq7.level);
        ck_assert_uint_eq(inb(0x379), 0x1f);
        ck_assert_uint_eq(inb(0x379), 0xdf);
    }
    ck_assert_str_eq(printed, "lpt");
    outb(0x37a, 0x1d);
    ck_assert(irq7.level);
    ck_assert_uint_eq(inb(0x37a), 0xdd);
    (void)inb(0x379);
    ck_assert(!irq7.level);
    outb(0x37a, 0x3c);
    ck_assert_uint_eq(inb(0x378), 0xff); /* nobody drives the lines */
    lpt_free(l);
}
END_TEST

START_TEST(a_shared_wire_is_high_while_either_chip_wants_it)
{
    struct wire w = { 0 };
    struct irq_or *o;
    ck_assert_int_eq(irq_or_new(&o, wire_line(&w)), 0);
    struct irq_line a = irq_or_input(o, 0), b = irq_or_input(o, 1);

    irq_set(&a, true);
    irq_set(&b, true);
    irq_set(&a, false);
    ck_assert(w.level);
    irq_set(&b, false);
    ck_assert(!w.level);
    irq_or_free(o);
}
END_TEST

CHIP_SUITE("small", setup, teardown, dma_registers_take_low_then_high_byte, dma_masks_and_pages_read_back,
           dma_ports_that_are_taken_leave_nothing_behind, debug_exit_gives_an_odd_code, the_post_port_tells_of_changes,
           port_e9_prints_and_answers, a_split_wire_reaches_all_ends,
           what_is_strobed_out_is_printed_and_acknowledged_once, a_shared_wire_is_high_while_either_chip_wants_it)
