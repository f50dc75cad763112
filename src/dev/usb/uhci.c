/* Owns the USB function of the PIIX3: a UHCI controller with its ports, and its walk over the guest's schedule.
 *   I1  frame is armed iff the controller runs.                                              [run_update]
 *   I2  A frame visits at most VISITS_MAX entries of the schedule and moves at most FRAME_BYTES, whatever the guest
 *       has linked to what; it ends where the same queue comes by again and nothing has been moved since. [frame_walk]
 *   I3  INTx is asserted iff a reason in the status register is enabled.                     [intx_update]
 * Enter at uhci_write(), frames_run(). Intel, Universal Host Controller Interface 1.1; Intel 290550 (PIIX3), function
 * 2.
 *
 * Nobody tells a UHCI that there is something to do: it looks into memory every millisecond. While there is nothing,
 * it looks as often but less early: eight frames, later thirty-two, are walked at once when the last of them is over,
 * so that an idle guest sleeps. A device that has something for the guest, and any access to a register, end that.
 * NOT-HW: a frame moves more bytes than 12 Mbit/s do; data toggles are not compared, for nothing gets lost; nobody
 * wakes a suspended bus; a third and fourth port, if something is plugged in there, as UHCI allows them. */
#include "src/dev/usb/usb.h"

#include <errno.h>
#include <string.h>

#define PORTS UHCI_PORTS
#define FRAME_NS 1000000u
#define FRAME_BYTES 16384
#define VISITS_MAX 2048u
#define QUEUES_MAX 128u
#define LATE_MAX 64u /* frames that are made up for, if the guest could not run */
#define PACKET_MAX 1280u
enum { QUIET_SOON = 16, QUIET_LONG = 1024, FRAMES_SOON = 8, FRAMES_LONG = 32 };

enum { R_CMD = 0, R_STS = 2, R_INTR = 4, R_FRNUM = 6, R_BASE = 8, R_SOF = 12, R_PORT = 16, R_SIZE = 32 };
enum { CMD_RUN = 1, CMD_HCRESET = 2, CMD_GRESET = 4, CMD_KEPT = 0xfd };
enum {
    STS_INT = 1,
    STS_ERROR = 2,
    STS_RESUME = 4,
    STS_HOST = 8,
    STS_PROCESS = 0x10,
    STS_HALTED = 0x20,
    STS_CLEAR = 0x1f
};
enum { INTR_TIMEOUT = 1, INTR_RESUME = 2, INTR_IOC = 4, INTR_SHORT = 8, INTR_ALL = 15 };
enum {
    P_THERE = 1,
    P_CHANGED = 2,
    P_ENABLED = 4,
    P_ENABLE_CHANGED = 8,
    P_LINE = 0x10 /* D+ */,
    P_RESUME = 0x40,
    P_ONE = 0x80,
    P_RESET = 0x200,
    P_SUSPEND = 0x1000,
    P_WRITABLE = P_ENABLED | P_RESUME | P_RESET | P_SUSPEND
};
enum { LINK_END = 1, LINK_QUEUE = 2, LINK_DEPTH = 4 };
/* 3.2.2: a transfer descriptor's second and third words. */
#define TD_STATUS 0x007e0000u /* errors of all kinds */
#define TD_NAK 0x00080000u
#define TD_TIMEOUT 0x00040000u
#define TD_STALLED 0x00400000u
#define TD_ACTIVE 0x00800000u
#define TD_IOC 0x01000000u
#define TD_ISO 0x02000000u
#define TD_ERRORS 0x18000000u
#define TD_SHORT 0x20000000u
#define LEN_MASK 0x7ffu

struct uhci {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct usb_device *device[PORTS]; /* NULL: nothing is plugged in */
    unsigned ports;                   /* that there are: two, or more if more is plugged in */
    u16 cmd, sts, intr, frnum;
    u32 base;
    u8 sof, why; /* why: of STS_INT: INTR_IOC, INTR_SHORT */
    u16 port[PORTS];
    u64 next_ns; /* guest time at which the next frame's place in the schedule is looked at */
    u16 quiet;   /* frames in a row in which there was nothing to do */
    struct timer frame;
};

static const struct snap_field uhci_fields[] = {
    SNAP(struct uhci, cmd, .max = 0xff),
    SNAP(struct uhci, sts, .reset = STS_HALTED, .max = 0x3f),
    SNAP(struct uhci, intr, .max = INTR_ALL),
    SNAP(struct uhci, frnum, .max = 0x7ff),
    SNAP(struct uhci, base),
    SNAP(struct uhci, sof, .reset = 64, .max = 0x7f),
    SNAP(struct uhci, why, .max = INTR_IOC | INTR_SHORT),
    SNAP_ARRAY(struct uhci, port, .max = 0x1fff),
    SNAP(struct uhci, next_ns),
    SNAP(struct uhci, quiet, .max = QUIET_LONG),
    SNAP(struct uhci, frame),
    { 0 },
};

static u32 word(const u8 *p) { return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }

/* At most four words of the schedule. What is not RAM reads as ones, which ends the list. */
static void words_read(struct uhci *u, u32 pa, u32 *to, unsigned n)
{
    u8 raw[16];
    (void)bus_dma_read(u->bus, pa, raw, 4 * n);
    for (unsigned i = 0; i < n; i++) to[i] = word(raw + 4 * i);
}

static void word_write(struct uhci *u, u32 pa, u32 v)
{
    const u8 raw[4] = { (u8)v, (u8)(v >> 8), (u8)(v >> 16), (u8)(v >> 24) };
    (void)bus_dma_write(u->bus, pa, raw, 4);
}

static void intx_update(struct uhci *u)
{
    const bool due = (u->sts & STS_INT && u->why & u->intr) || (u->sts & STS_ERROR && u->intr & INTR_TIMEOUT)
                     || (u->sts & STS_RESUME && u->intr & INTR_RESUME) || u->sts & (STS_HOST | STS_PROCESS);
    irq_set(&u->intx, due);
}

/* ---- one packet ---- */

enum outcome { NEXT, DONE, HALT };
enum { NOBODY = -3 };

static struct usb_device *device_at(const struct uhci *u, u8 address)
{
    for (unsigned i = 0; i < PORTS; i++)
        if (u->device[i] && (u->port[i] & (P_ENABLED | P_RESET | P_SUSPEND)) == P_ENABLED
            && u->device[i]->address == address)
            return u->device[i];
    return NULL;
}

static int packet(struct uhci *u, const u32 *td, u32 len)
{
    struct usb_device *d = device_at(u, td[2] >> 8 & 127);
    const u8 pid = (u8)td[2];
    u8 data[PACKET_MAX];
    if (!d) return NOBODY;
    if (pid != USB_IN) (void)bus_dma_read(u->bus, td[3], data, len);
    int n = usb_packet(d, pid, td[2] >> 15 & 15, data, len);
    if (pid == USB_IN && n > 0) (void)bus_dma_write(u->bus, td[3], data, (u32)n);
    return n;
}

/* The descriptor is done with, well or not: its second word, and what the guest is told. */
static void td_end(struct uhci *u, u32 at, u32 control, u32 status, u32 len)
{
    word_write(u, at + 4, (control & ~(TD_ACTIVE | TD_STATUS | LEN_MASK)) | status | ((len - 1) & LEN_MASK));
    if (control & TD_IOC) u->why |= INTR_IOC;
    u->quiet = 0;
}

static enum outcome td_run(struct uhci *u, u32 at, const u32 *td, bool queued, int *room)
{
    const u32 control = td[1], len = ((td[2] >> 21) + 1) & LEN_MASK;
    const u8 pid = (u8)td[2];
    if (!(control & TD_ACTIVE)) {
        if (control & TD_IOC) u->why |= INTR_IOC, u->quiet = 0;
        return NEXT;
    }
    if ((pid != USB_IN && pid != USB_OUT && pid != USB_SETUP) || len > PACKET_MAX) {
        u->sts |= STS_PROCESS | STS_HALTED;
        u->cmd &= (u16)~CMD_RUN;
        return HALT;
    }
    int n = packet(u, td, len);
    if (n == USB_NAK && !(control & TD_ISO)) {
        if (!(control & TD_NAK)) word_write(u, at + 4, control | TD_NAK);
        return NEXT;
    }
    if (n < 0 && !(control & TD_ISO)) {
        u->sts |= STS_ERROR;
        td_end(u, at, control & ~TD_ERRORS, TD_STALLED | (n == NOBODY ? TD_TIMEOUT : 0), 0);
        return NEXT;
    }
    *room -= (int)len;
    td_end(u, at, control, 0, n < 0 ? 0 : (u32)n);
    if (pid == USB_IN && n < (int)len && control & TD_SHORT && queued) {
        u->why |= INTR_SHORT;
        return NEXT;
    }
    return DONE;
}

/* ---- one frame ---- */

/* The queues that have come by since something was moved. */
struct seen {
    u32 at[QUEUES_MAX];
    unsigned n;
};
static bool seen_before(struct seen *s, u32 at)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->at[i] == at) return true;
    if (s->n < QUEUES_MAX) s->at[s->n++] = at;
    return false;
}

static void frame_walk(struct uhci *u, u32 link)
{
    struct seen seen = { .n = 0 };
    u32 queue = 0, queue_link = LINK_END;
    bool queued = false;
    int room = FRAME_BYTES;
    for (unsigned visits = 0; !(link & LINK_END) && visits < VISITS_MAX && room > 0; visits++) {
        const u32 at = link & ~15u;
        u32 w[4];
        if (link & LINK_QUEUE) {
            if (seen_before(&seen, at)) return;
            words_read(u, at, w, 2);
            queue = at;
            queue_link = w[0];
            queued = !(w[1] & LINK_END);
            link = queued ? w[1] : w[0];
            continue;
        }
        words_read(u, at, w, 4);
        enum outcome what = td_run(u, at, w, queued, &room);
        if (what == HALT) return;
        if (what == DONE) seen.n = 0;
        if (what == DONE && queued) word_write(u, queue + 4, w[0]);
        if (!queued || (what == DONE && w[0] & LINK_DEPTH && !(w[0] & LINK_END))) {
            link = w[0];
        } else {
            link = queue_link;
            queued = false;
        }
    }
}

static void frame_run(struct uhci *u)
{
    u32 link = LINK_END;
    if (pci_fn_bus_master(u->fn)) words_read(u, (u->base & ~0xfffu) + 4 * (u->frnum & 1023u), &link, 1);
    if (u->quiet < QUIET_LONG) u->quiet++;
    frame_walk(u, link);
    u->frnum = (u->frnum + 1) & 0x7ff;
    if (u->why) u->sts |= STS_INT;
    intx_update(u);
}

/* ---- time ---- */

static bool running(const struct uhci *u) { return u->cmd & CMD_RUN && !(u->cmd & CMD_GRESET); }

static bool devices_wait(const struct uhci *u)
{
    for (unsigned i = 0; i < PORTS; i++)
        if (u->device[i] && u->port[i] & P_ENABLED && usb_waiting(u->device[i])) return true;
    return false;
}

static void frame_arm(struct uhci *u)
{
    unsigned frames = u->quiet >= QUIET_LONG ? FRAMES_LONG : u->quiet >= QUIET_SOON ? FRAMES_SOON : 1;
    if (devices_wait(u)) frames = 1;
    timer_arm(&u->frame, u->next_ns + (frames - 1) * (u64)FRAME_NS);
}

/* Those that are due; of too many the first ones only, the others go by with nothing on the bus. */
static void frames_run(struct uhci *u)
{
    const u64 now = clock_now(u->clk);
    unsigned n = 0;
    for (; running(u) && u->next_ns <= now; n++) {
        if (n == LATE_MAX) {
            u64 late = (now - u->next_ns) / FRAME_NS + 1;
            u->frnum = (u16)((u->frnum + late) & 0x7ff);
            u->next_ns += late * FRAME_NS;
            break;
        }
        u->next_ns += FRAME_NS;
        frame_run(u);
    }
    if (!running(u)) timer_cancel(&u->frame);
    else if (n) frame_arm(u);
}

static void on_frame(void *chip) { frames_run(chip); }

/* After the command register, or what stops the controller. */
static void run_update(struct uhci *u)
{
    if (!running(u)) {
        timer_cancel(&u->frame);
        u->sts |= STS_HALTED;
        return;
    }
    u->sts &= (u16)~STS_HALTED;
    if (!u->frame.armed) u->next_ns = clock_now(u->clk) + FRAME_NS;
    u->quiet = 0;
    frame_arm(u);
}

/* A device has something for the guest. */
static void on_wake(void *chip, u32 value UNUSED)
{
    struct uhci *u = chip;
    if (!running(u) || !u->quiet) return;
    frames_run(u); /* those in which there was nothing */
    u->quiet = 0;
    if (running(u)) frame_arm(u);
}

/* ---- registers ---- */

static void port_reset(struct uhci *u, unsigned i)
{
    if (u->device[i]) usb_bus_reset(u->device[i]);
    u->port[i] &= (u16)~P_ENABLED;
}

static void controller_reset(struct uhci *u, const struct snap_table *t)
{
    snap_reset(t, u);
    for (unsigned i = 0; i < PORTS; i++) {
        port_reset(u, i);
        u->port[i] = u->device[i] ? P_ONE | P_LINE | P_THERE | P_CHANGED : P_ONE;
    }
    intx_update(u);
}

static const struct snap_table uhci_table;

static void cmd_write(struct uhci *u, u16 val)
{
    if (val & CMD_HCRESET) {
        controller_reset(u, &uhci_table);
        return;
    }
    if (val & CMD_GRESET)
        for (unsigned i = 0; i < PORTS; i++) port_reset(u, i);
    u->cmd = val & CMD_KEPT;
    run_update(u);
}

static void port_write(struct uhci *u, unsigned i, u16 val)
{
    const u16 was = u->port[i];
    u16 now = (u16)((was & ~(P_WRITABLE | (val & (P_CHANGED | P_ENABLE_CHANGED)))) | (val & P_WRITABLE));
    if (!(was & P_THERE)) now &= (u16) ~(P_ENABLED | P_SUSPEND);
    u->port[i] = now;
    if (val & P_RESET && !(was & P_RESET)) port_reset(u, i);
    if (now & P_RESET) u->port[i] &= (u16)~P_ENABLED;
}

static u32 uhci_read(void *chip, u32 off, unsigned size)
{
    struct uhci *u = chip;
    u8 reg[R_SIZE + 4];
    u32 v = 0;
    frames_run(u);
    memset(reg, 0xff, sizeof reg); /* there are no more ports */
    const u16 first[] = { u->cmd, u->sts, u->intr, u->frnum, (u16)u->base, (u16)(u->base >> 16), u->sof, 0 };
    for (unsigned i = 0; i < ARRAY_LEN(first) + u->ports; i++) {
        const u16 r = i < ARRAY_LEN(first) ? first[i] : u->port[i - ARRAY_LEN(first)];
        reg[2 * i] = (u8)r;
        reg[2 * i + 1] = (u8)(r >> 8);
    }
    for (unsigned i = 0; i < size; i++) v |= (u32)reg[(off + i) % R_SIZE] << 8 * i;
    return v;
}

static void write16(struct uhci *u, u32 off, u16 val)
{
    switch (off) {
    case R_CMD: cmd_write(u, val); break;
    case R_STS:
        u->sts &= (u16) ~(val & STS_CLEAR);
        if (val & STS_INT) u->why = 0;
        break;
    case R_INTR: u->intr = val & INTR_ALL; break;
    case R_FRNUM:
        if (!running(u)) u->frnum = val & 0x7ff;
        break;
    case R_BASE: u->base = (u->base & 0xffff0000u) | (val & 0xf000u); break;
    case R_BASE + 2: u->base = (u->base & 0xffffu) | (u32)val << 16; break;
    case R_SOF: u->sof = val & 0x7f; break;
    default:
        if (off >= R_PORT && off < R_PORT + 2 * u->ports) port_write(u, (off - R_PORT) / 2, val);
    }
}

/* A byte is half of what its register is, and the other half stays; what is cleared by ones is not. */
static void write8(struct uhci *u, u32 off, u8 val)
{
    const u32 reg = off & ~1u;
    const u16 keep = reg == R_STS ? 0 : reg >= R_PORT ? (u16) ~(P_CHANGED | P_ENABLE_CHANGED) : 0xffff;
    const u16 was = (u16)uhci_read(u, reg, 2) & keep;
    write16(u, reg, off & 1 ? (u16)((was & 0xff) | val << 8) : (u16)((was & 0xff00) | val));
}

static void uhci_write(void *chip, u32 off, unsigned size, u32 val)
{
    struct uhci *u = chip;
    frames_run(u);
    if (size == 1) write8(u, off, (u8)val);
    if (size >= 2) write16(u, off, (u16)val);
    if (size == 4) write16(u, off + 2, (u16)(val >> 16));
    intx_update(u);
    if (running(u)) {
        u->quiet = 0;
        frame_arm(u);
    }
}

/* ---- a board's part ---- */

static void uhci_on_reset(void *chip);
static bool uhci_check(const void *chip)
{
    const struct uhci *u = chip;
    bool fine = u->frame.armed == running(u) && !(u->base & 0xfff);
    for (unsigned i = 0; i < PORTS; i++) fine &= (u->port[i] & P_ONE) && !(u->port[i] & P_THERE) == !u->device[i];
    return fine && u->next_ns < UINT64_MAX / 2;
}

static const struct snap_table uhci_table = { .name = "uhci",
                                              .version = 1,
                                              .size = sizeof(struct uhci),
                                              .fields = uhci_fields,
                                              .reset = uhci_on_reset,
                                              .check = uhci_check };

static void uhci_on_reset(void *chip) { controller_reset(chip, &uhci_table); }

struct snap_part uhci_part(struct uhci *u) { return (struct snap_part){ uhci_table.name, &uhci_table, u }; }

enum { CFG_RELEASE = 0x60, CFG_LEGACY = 0xc0 };

static void config_reset(void *chip)
{
    u8 *config = pci_fn_config(((struct uhci *)chip)->fn);
    config[CFG_RELEASE] = 0x10;    /* USB 1.0 */
    config[CFG_LEGACY + 1] = 0x20; /* its interrupt goes to PIRQD */
}

int uhci_new(struct uhci **out, struct bus *b, struct clock *clk, struct pci *p)
{
    static const struct io_ops ops = { uhci_read, uhci_write };
    struct uhci *u = calloc(1, sizeof *u);
    if (!u) return -ENOMEM;
    u->bus = b;
    u->clk = clk;
    u->ports = 2;
    timer_init(&u->frame, clk, on_frame, u);
    const struct pci_desc d = { .dev = 1,
                                .fn = 2,
                                .vendor = 0x8086,
                                .device = 0x7020,
                                .class_code = 0x0c,
                                .subclass = 3,
                                .int_pin = 4,
                                .bar = { [4] = { .size = R_SIZE, .io = true, .ops = &ops } },
                                .opaque = u,
                                .name = "piix3 usb",
                                .reset = config_reset };
    int err = pci_add(p, &u->fn, &d);
    if (err) {
        free(u);
        return err;
    }
    u->intx = pci_fn_irq(u->fn);
    pci_fn_writable(u->fn)[CFG_LEGACY] = 0xbf;
    pci_fn_writable(u->fn)[CFG_LEGACY + 1] = 0x20;
    config_reset(u);
    uhci_on_reset(u);
    *out = u;
    return 0;
}

void uhci_plug(struct uhci *u, unsigned port, struct usb_device *d)
{
    BUG_ON(port >= PORTS || u->device[port]);
    d->wake = (struct dev_event){ on_wake, u };
    u->device[port] = d;
    if (u->ports <= port) u->ports = port + 1;
    uhci_on_reset(u);
}

void uhci_free(struct uhci *u)
{
    if (!u) return;
    timer_cancel(&u->frame);
    free(u);
}
