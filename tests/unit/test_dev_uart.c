/* The 16550A: what Linux's probe asks of it, interrupt priority, FIFO, timeout, loopback. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define BASE 0x3f8

static struct uart *uart;
static struct wire irq;
static u8 sent[4096];
static size_t n_sent;

static void be_write(void *be UNUSED, const u8 *buf, size_t n)
{
    ck_assert_uint_le(n_sent + n, sizeof(sent));
    memcpy(sent + n_sent, buf, n);
    n_sent += n;
}
static const struct chardev_ops be_ops = { .write = be_write };
static struct chardev be;

static u8 get(unsigned reg) { return inb(BASE + reg); }
static void put(unsigned reg, u8 v) { outb(BASE + reg, v); }
static void receive(const char *s) { be.rx(be.fe, (const u8 *)s, strlen(s)); }

static void setup(void)
{
    machine_clear();
    memset(&irq, 0, sizeof(irq));
    be = (struct chardev){ .ops = &be_ops };
    n_sent = 0;
    ck_assert_int_eq(uart_new(&uart, &fake_bus, &fake_clock, BASE, wire_line(&irq), &be), 0);
    put(LCR, 0x80);
    put(0, 1); /* 115200 */
    put(1, 0);
    put(LCR, 0x03);
    put(MCR, 0x0b);
    get(MSR);
}
static void teardown(void) { uart_free(uart); }

START_TEST(bytes_written_leave_at_once)
{
    put(RBR, 'h');
    put(RBR, 'i');
    ck_assert_uint_eq(n_sent, 2);
    ck_assert(!memcmp(sent, "hi", 2));
    ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

START_TEST(short_characters_lose_their_high_bits)
{
    put(LCR, 0x00);
    put(RBR, 0xff);
    ck_assert_uint_eq(sent[0], 0x1f);
}
END_TEST

START_TEST(the_probe_finds_a_16550a_and_no_more)
{
    put(IER, 0xff);
    ck_assert_uint_eq(get(IER), 0x0f);
    put(IER, 0);
    put(MCR, 0x1a);
    ck_assert_uint_eq(get(MSR) & 0xf0, 0x90);
    put(MCR, 0x0b);
    put(SCR, 0xa5);
    ck_assert_uint_eq(get(SCR), 0xa5);
    put(2, 0x01);
    ck_assert_uint_eq(get(IIR) >> 6, 3);
    put(2, 0x21); /* 64-byte FIFO of a 16750 */
    ck_assert_uint_eq(get(IIR) & 0x20, 0);
    put(2, 0x00);
    ck_assert_uint_eq(get(IIR) >> 6, 0);
}
END_TEST

START_TEST(enabling_thre_interrupts_every_time)
{
    for (unsigned i = 0; i < 3; i++) {
        put(IER, 0x02);
        ck_assert(irq.level);
        ck_assert_uint_eq(get(IIR) & 0x0f, 0x02);
        ck_assert(!irq.level);
        ck_assert_uint_eq(get(IIR) & 0x0f, 0x01);
        put(IER, 0x00);
    }
}
END_TEST

START_TEST(each_byte_sent_raises_thre_anew)
{
    put(IER, 0x02);
    get(IIR);
    unsigned rises = irq.rises;
    put(RBR, 'a');
    ck_assert_uint_eq(irq.rises, rises + 1);
    put(RBR, 'b'); /* an edge-triggered controller sees this one, too */
    ck_assert_uint_eq(irq.rises, rises + 2);
    get(IIR);
    ck_assert(!irq.level);
}
END_TEST

START_TEST(out2_gates_the_interrupt)
{
    put(MCR, 0x03);
    put(IER, 0x02);
    ck_assert(!irq.level);
    ck_assert_uint_eq(get(IIR) & 0x0f, 0x02);
    put(IER, 0);
    put(IER, 2);
    put(MCR, 0x0b);
    ck_assert(irq.level);
}
END_TEST

START_TEST(without_fifo_a_byte_interrupts_and_the_next_waits)
{
    put(IER, 0x01);
    receive("xy");
    ck_assert(irq.level);
    ck_assert_uint_eq(get(IIR), 0x04);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(RBR), 'x');
    ck_assert_uint_eq(get(RBR), 'y');
    ck_assert_uint_eq(get(LSR), 0x60);
    ck_assert(!irq.level);
}
END_TEST

START_TEST(the_fifo_interrupts_at_its_trigger)
{
    put(2, 0x41); /* 4 */
    put(IER, 0x01);
    receive("abc");
    ck_assert(!irq.level);
    receive("d");
    ck_assert(irq.level);
    ck_assert_uint_eq(get(IIR), 0xc4);
    get(RBR);
    ck_assert(!irq.level);
}
END_TEST

START_TEST(fewer_bytes_than_the_trigger_time_out_after_four_characters)
{
    put(2, 0x81);
    put(IER, 0x01);
    receive("ab");
    pass(&fake_clock, 340 * US); /* 4 * 10 bits at 115200 are 347 us */
    ck_assert(!irq.level);
    pass(&fake_clock, 10 * US);
    ck_assert(irq.level);
    ck_assert_uint_eq(get(IIR), 0xcc);
    ck_assert_uint_eq(get(RBR), 'a');
    ck_assert(!irq.level); /* reading restarts the time */
    pass(&fake_clock, 350 * US);
    ck_assert(irq.level);
    ck_assert_uint_eq(get(RBR), 'b');
    pass(&fake_clock, SEC);
    ck_assert(!irq.level);
}
END_TEST

START_TEST(interrupts_come_in_order_of_priority)
{
    put(2, 0x01);
    put(MCR, 0x1f); /* loopback, to make errors and modem changes */
    get(MSR);
    put(IER, 0x0f);
    for (unsigned i = 0; i < 17; i++) put(RBR, i);
    put(MCR, 0x1b);
    ck_assert_uint_eq(get(IIR), 0xc6);
    ck_assert_uint_eq(get(LSR), 0x63); /* overrun */
    ck_assert_uint_eq(get(IIR), 0xc4);
    for (unsigned i = 0; i < 16; i++) ck_assert_uint_eq(get(RBR), i);
    ck_assert_uint_eq(get(IIR), 0xc2);
    ck_assert_uint_eq(get(IIR), 0xc0);
    ck_assert_uint_eq(get(MSR), 0xb4); /* RI has ended */
    ck_assert_uint_eq(get(IIR), 0xc1);
    ck_assert(!irq.level); /* loopback takes OUT2 away from the driver */
    ck_assert_uint_eq(n_sent, 0);
}
END_TEST

START_TEST(loopback_keeps_line_input_waiting)
{
    put(MCR, 0x1b);
    receive("z");
    ck_assert_uint_eq(get(LSR) & 1, 0);
    put(MCR, 0x0b);
    ck_assert_uint_eq(get(RBR), 'z');
}
END_TEST

START_TEST(clearing_the_fifo_drops_what_is_in_it)
{
    put(2, 0x01);
    receive("abc");
    put(2, 0x03);
    ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

START_TEST(much_input_arrives_whole_and_in_order)
{
    static u8 big[300000];
    size_t at = 0;

    for (size_t i = 0; i < sizeof(big); i++) big[i] = i * 7 + (i >> 8);
    put(2, 0xc1);
    be.rx(be.fe, big, 100);
    for (; at < 50; at++) ck_assert_uint_eq(get(RBR), big[at]);
    be.rx(be.fe, big + 100, sizeof(big) - 100);
    while (get(LSR) & 1) {
        ck_assert_uint_lt(at, sizeof(big));
        ck_assert_uint_eq(get(RBR), big[at]);
        at++;
    }
    ck_assert_uint_eq(at, sizeof(big));
}
END_TEST

START_TEST(endless_input_overruns_instead_of_eating_memory)
{
    static u8 big[1 << 20];

    be.rx(be.fe, big, sizeof(big));
    be.rx(be.fe, big, sizeof(big));
    ck_assert_uint_eq(get(LSR) & 0x02, 0x02);
}
END_TEST

START_TEST(a_line_without_a_far_end_has_no_modem_signals)
{
    struct uart *u;

    ck_assert_int_eq(uart_new(&u, &fake_bus, &fake_clock, 0x2f8, wire_line(&irq), NULL), 0);
    outb(0x2f8, 'x');
    ck_assert_uint_eq(inb(0x2f8 + MSR), 0);
    uart_free(u);
    ck_assert_uint_eq(get(MSR), 0xb0);
}
END_TEST

START_TEST(a_taken_port_is_an_error)
{
    struct uart *u;

    ck_assert_int_eq(uart_new(&u, &fake_bus, &fake_clock, BASE + 4, wire_line(&irq), NULL), -EBUSY);
}
END_TEST

CHIP_SUITE("uart", setup, teardown, bytes_written_leave_at_once, short_characters_lose_their_high_bits,
           the_probe_finds_a_16550a_and_no_more, enabling_thre_interrupts_every_time, each_byte_sent_raises_thre_anew,
           out2_gates_the_interrupt, without_fifo_a_byte_interrupts_and_the_next_waits,
           the_fifo_interrupts_at_its_trigger, fewer_bytes_than_the_trigger_time_out_after_four_characters,
           interrupts_come_in_order_of_priority, loopback_keeps_line_input_waiting,
           clearing_the_fifo_drops_what_is_in_it, much_input_arrives_whole_and_in_order,
           endless_input_overruns_instead_of_eating_memory, a_line_without_a_far_end_has_no_modem_signals,
           a_taken_port_is_an_error)
