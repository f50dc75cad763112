/* Owns one 16550A serial port. Transmission takes no time: a byte written to THR has left when the write returns, so
 * THRE and TEMT are always 1, and the THRE interrupt, which marks the passage from full to empty, comes up again at
 * once.
 *   I1  fifo holds at most uart_capacity() bytes; what the line brings beyond waits in queue, and moves up as the
 *       guest reads, unless loopback has cut the line off.                                     [uart_pump]
 *   I2  The irq wire is "an interrupt is pending and OUT2 is on": on a PC, OUT2 gates the driver. [uart_update]
 * Enter at uart_write() (the guest) and uart_rx() (the line). National PC16550D, TL/C/8652. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

enum { IER_RDA = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_MODEM = 0, IIR_NONE = 1, IIR_THRE = 2, IIR_RDA = 4, IIR_LINE = 6, IIR_TIMEOUT = 12, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { LCR_DLAB = 0x80, LCR_STOP = 4, LCR_PARITY = 8 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_ERRORS = 0x1e, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_DELTAS = 0x0f, MSR_TERI = 4, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

#define FIFO_SIZE 16u
#define QUEUE_MAX (1u << 20) /* bytes; a line that brings more unread input than this overruns */
#define INPUT_HZ 115200u     /* 1.8432 MHz / 16 */

struct uart {
    u8 ier, fcr, lcr, mcr, lsr /* DR and errors only */, msr, scr;
    u16 divisor;
    bool thre_pending, timeout_pending;
    u8 fifo[FIFO_SIZE];
    unsigned fifo_len;
    struct byte_queue queue;
    struct clock *clk;
    struct timer timeout;
    struct irq_line irq;
    struct chardev *be;
};

static const struct snap_field uart_fields[] = {
    SNAP(struct uart, ier, .max = 15),
    SNAP(struct uart, fcr),
    SNAP(struct uart, lcr),
    SNAP(struct uart, mcr, .max = 0x1f),
    SNAP(struct uart, lsr, .max = LSR_DR | LSR_ERRORS),
    SNAP(struct uart, msr),
    SNAP(struct uart, scr, .keep = true),
    SNAP(struct uart, divisor, .reset = 12), /* undefined on the chip; 9600 baud */
    SNAP(struct uart, thre_pending),
    SNAP(struct uart, timeout_pending),
    SNAP_ARRAY(struct uart, fifo),
    SNAP(struct uart, fifo_len, .max = FIFO_SIZE),
    SNAP(struct uart, queue, .max = QUEUE_MAX),
    SNAP(struct uart, timeout),
    { 0 },
};

static unsigned uart_capacity(const struct uart *u) { return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1; }
static unsigned uart_trigger(const struct uart *u)
{
    static const u8 level[4] = { 1, 4, 8, 14 };

    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

/* Time that one character takes on the line. */
static u64 uart_char_ns(const struct uart *u)
{
    unsigned half_bits = 2 * (1 + 5 + (u->lcr & 3)) + (u->lcr & LCR_PARITY ? 2 : 0);

    half_bits += !(u->lcr & LCR_STOP) ? 2 : (u->lcr & 3) ? 4 : 3;
    return 1000000000ull * half_bits * (u->divisor ? u->divisor : 1) / (2 * INPUT_HZ);
}

/* The pending interrupt of highest priority, as IIR bits 3:0 name it. */
static u8 uart_pending(const struct uart *u)
{
    if ((u->ier & IER_LINE) && (u->lsr & LSR_ERRORS)) return IIR_LINE;
    if ((u->ier & IER_RDA) && u->fifo_len >= uart_trigger(u)) return IIR_RDA;
    if ((u->ier & IER_RDA) && u->timeout_pending) return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending) return IIR_THRE;
    if ((u->ier & IER_MODEM) && (u->msr & MSR_DELTAS)) return IIR_MODEM;
    return IIR_NONE;
}

static void uart_update(struct uart *u)
{
    irq_set(&u->irq, uart_pending(u) != IIR_NONE && (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2);
}

/* Something came into or went out of the FIFO: the four character times of the timeout start anew. */
static void uart_fifo_moved(struct uart *u)
{
    u->lsr = u->fifo_len ? u->lsr | LSR_DR : u->lsr & ~LSR_DR;
    u->timeout_pending = false;
    if ((u->fcr & FCR_ENABLE) && u->fifo_len) timer_arm(&u->timeout, clock_now(u->clk) + 4 * uart_char_ns(u));
    else timer_cancel(&u->timeout);
}

static void uart_timeout(void *arg)
{
    struct uart *u = arg;

    u->timeout_pending = u->fifo_len != 0;
    uart_update(u);
}

/* Moves waiting input up into the FIFO (I1). */
static void uart_pump(struct uart *u)
{
    bool moved = false;

    if (u->mcr & MCR_LOOP) return;
    while (u->queue.len && u->fifo_len < uart_capacity(u)) {
        u->fifo[u->fifo_len++] = byte_queue_take(&u->queue);
        moved = true;
    }
    if (moved) uart_fifo_moved(u);
}

static void uart_rx(void *fe, const u8 *buf, size_t n)
{
    struct uart *u = fe;

    if (!n) return;
    if (byte_queue_put(&u->queue, buf, n, QUEUE_MAX)) uart_pump(u);
    else u->lsr |= LSR_OE;
    uart_update(u);
}

static void uart_transmit(struct uart *u, u8 val)
{
    val &= 0xff >> (3 - (u->lcr & 3));
    if (!(u->mcr & MCR_LOOP)) {
        chardev_write(u->be, &val, 1);
    } else if (u->fifo_len < uart_capacity(u)) {
        u->fifo[u->fifo_len++] = val;
        uart_fifo_moved(u);
    } else {
        if (uart_capacity(u) == 1) u->fifo[0] = val; /* without FIFO the old character is overwritten */
        u->lsr |= LSR_OE;
    }
    /* Full for an instant, then empty again: an edge-triggered interrupt controller must see that as a new request. */
    u->thre_pending = false;
    uart_update(u);
    u->thre_pending = true;
}

/* Modem inputs as they are now, in MSR bits 7:4. */
static u8 uart_modem_inputs(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP)) return u->be ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_OUT1 ? MSR_RI : 0)
           | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void uart_update_modem(struct uart *u)
{
    u8 now = uart_modem_inputs(u), changed = (now ^ u->msr) & 0xf0;

    if ((changed & MSR_RI) && (now & MSR_RI)) changed &= ~MSR_RI; /* only the end of a ring counts */
    u->msr = now | (u->msr & MSR_DELTAS) | changed >> 4;
}

static void uart_write_fcr(struct uart *u, u8 val)
{
    if ((val ^ u->fcr) & FCR_ENABLE) val |= FCR_CLEAR_RX; /* changing mode clears the FIFOs */
    if (!(val & FCR_ENABLE)) val &= FCR_CLEAR_RX;         /* the other bits are written only together with it */
    u->fcr = val & (FCR_ENABLE | 0xc0);
    if (val & FCR_CLEAR_RX) {
        u->fifo_len = 0;
        uart_fifo_moved(u);
    }
    uart_pump(u);
}

static void uart_write(void *dev, u32 off, u8 val)
{
    struct uart *u = dev;

    switch (off) {
    case 0:
        if (u->lcr & LCR_DLAB) u->divisor = (u->divisor & 0xff00) | val;
        else uart_transmit(u, val);
        break;
    case 1:
        if (u->lcr & LCR_DLAB) {
            u->divisor = (u->divisor & 0x00ff) | val << 8;
            break;
        }
        if ((val & ~u->ier) & IER_THRE) u->thre_pending = true; /* enabled while THR is empty: interrupts at once */
        u->ier = val & 0x0f;
        break;
    case 2: uart_write_fcr(u, val); break;
    case 3: u->lcr = val; break;
    case 4:
        u->mcr = val & 0x1f;
        uart_update_modem(u);
        uart_pump(u);
        break;
    case 7: u->scr = val; break;
    default: return; /* LSR and MSR are not for writing ("factory testing") */
    }
    uart_update(u);
}

static u8 uart_read_rbr(struct uart *u)
{
    u8 v = u->fifo[0];

    if (!u->fifo_len) return 0;
    memmove(u->fifo, u->fifo + 1, --u->fifo_len);
    uart_fifo_moved(u);
    uart_pump(u);
    return v;
}

static u8 uart_read(void *dev, u32 off)
{
    struct uart *u = dev;
    u8 v;

    switch (off) {
    case 0:
        if (u->lcr & LCR_DLAB) return u->divisor & 0xff;
        v = uart_read_rbr(u);
        break;
    case 1: return u->lcr & LCR_DLAB ? u->divisor >> 8 : u->ier;
    case 2:
        v = uart_pending(u);
        if (v == IIR_THRE) u->thre_pending = false; /* reading it is the acknowledge */
        if (u->fcr & FCR_ENABLE) v |= IIR_FIFO;
        break;
    case 3: return u->lcr;
    case 4: return u->mcr;
    case 5:
        v = u->lsr | LSR_THRE | LSR_TEMT;
        u->lsr &= ~LSR_ERRORS;
        break;
    case 6:
        v = u->msr;
        u->msr &= ~MSR_DELTAS;
        break;
    default: return u->scr;
    }
    uart_update(u);
    return v;
}

BYTE_PORT_OPS(uart_ops, uart_read, uart_write);

static bool uart_check(const void *chip)
{
    const struct uart *u = chip;
    return !(u->fcr & ~(FCR_ENABLE | 0xc0)) && u->fifo_len <= uart_capacity(u);
}

static void uart_on_reset(void *chip) { uart_reset(chip); }

static const struct snap_table uart_table = { .name = "uart",
                                              .version = 1,
                                              .size = sizeof(struct uart),
                                              .fields = uart_fields,
                                              .reset = uart_on_reset,
                                              .check = uart_check };

struct snap_part uart_part(struct uart *u, const char *name) { return (struct snap_part){ name, &uart_table, u }; }

/* Master reset (table I of the data sheet); what the line has brought and nobody has read is gone. */
void uart_reset(struct uart *u)
{
    snap_reset(&uart_table, u);
    u->msr = uart_modem_inputs(u);
    uart_update(u);
}

int uart_new(struct uart **out, struct bus *b, struct clock *clk, u16 base, struct irq_line irq, struct chardev *be)
{
    struct uart *u = calloc(1, sizeof(*u));
    int err;

    if (!u) return -ENOMEM;
    u->clk = clk;
    u->irq = irq;
    u->be = be;
    timer_init(&u->timeout, clk, uart_timeout, u);
    uart_reset(u);
    err = bus_map_pio(b, base, 8, &uart_ops, u, "uart");
    if (err) {
        free(u);
        return err;
    }
    if (be) {
        be->rx = uart_rx;
        be->fe = u;
    }
    *out = u;
    return 0;
}

void uart_free(struct uart *u)
{
    if (!u) return;
    timer_cancel(&u->timeout);
    if (u->be && u->be->fe == u) u->be->rx = NULL;
    byte_queue_free(&u->queue);
    free(u);
}
