/* Drivers that lie: rings, descriptors and registers of virtio devices (a disk, a network card, random numbers, a
 * console, a balloon) hold whatever comes, mostly nearly right. Nothing may crash, stop for ever, or leave the guest's
 * memory (under ASan, that of the device either).
 *
 *   fuzz_virtio [--seed N] [--count N]
 *   libfuzzer_virtio (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/blockdev.h"
#include "core/netdev.h"
#include "core/rngdev.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"
#include "tests/fuzz/drivers.h"

#include <stdio.h>
#include <string.h>

#define RAM (16u << 20)
#define AREA 0x100000u /* where rings, tables and buffers are, all over each other */
#define AREA_SIZE 0x8000u
#define MEM_BASE 0xe0000000u
#define FIRST_SLOT 3u

/* ---- what is behind the devices ---- */

static struct job *first;
static void on_submit(void *be UNUSED, struct blockdev_req *r)
{
    r->job.next = first;
    first = &r->job;
}
static u64 finished, sent, numbers, printed;
static struct rngdev_req *asked;
static void on_ask(void *be UNUSED, struct rngdev_req *r)
{
    BUG_ON(asked || !r->wanted || r->wanted > RNGDEV_MAX);
    asked = r;
}
static void on_print(void *be UNUSED, const u8 *buf UNUSED, size_t n) { printed += n; }
static void finish(void)
{
    struct rngdev_req *r = asked;
    asked = NULL;
    if (r) {
        r->got = rnd(8) ? 1 + rnd(r->wanted) : 0;
        numbers += r->got;
        r->done(r);
    }
    for (; first; finished++) {
        struct blockdev_req *r = JOB_OF(first, struct blockdev_req);
        first = first->next;
        if (r->op == BLOCKDEV_READ)
            for (unsigned i = 0; i < r->niov; i++) memset(r->iov[i].iov_base, 0x5a, r->iov[i].iov_len);
        r->done(r, rnd(8) ? 0 : -5);
    }
}
static void on_send(void *be UNUSED, const u8 *frame UNUSED, size_t n)
{
    BUG_ON(n > NETDEV_LARGE_MAX);
    sent++;
}
static void on_ready(void *be UNUSED) {}

static const struct blockdev_ops disk_ops = { on_submit };
static const struct netdev_ops net_ops = { on_send, on_ready };
static const struct chardev_ops line_ops = { on_print };
static const struct rngdev source = { on_ask, NULL };

/* ---- the board ---- */

enum kind { NET, DISK, NUMBERS, LINE, BALLOON, KINDS }; /* at 00:03.0 and on */

static struct {
    struct bus *bus;
    struct clock *clk; /* that fields of chips know of */
    struct pci *pci;
    struct virtio_net *net_card;
    struct virtio_blk *blk;
    struct virtio_rng *rng_card;
    struct virtio_console *console;
    struct virtio_balloon *balloon;
    struct blockdev disk;
    struct netdev net;
    struct chardev line;
    u32 bar; /* of the device that this driver is for */
} board;

static u64 address(void)
{
    static const u64 odd[] = { 0, RAM - 8, RAM, 0xf0000000, ~0ull, ~0ull - 16, 1ull << 63 };
    return rnd(40) ? AREA + rnd(AREA_SIZE / 16) * 16 : odd[rnd(ARRAY_LEN(odd))];
}
static void descriptor(u64 at, bool table)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d = { address(), rnd(20) ? rnd(600) : rnd(0x7fffffff) * 2u, (u16)(rnd(4) | (rnd(6) || table ? 0 : 4)),
            (u16)rnd(rnd(30) ? 16 : 0xffff) };
    if (!rnd(3)) { /* the header of a read of the first sectors, and where they go */
        d.addr = AREA + AREA_SIZE + 0x1000;
        d.len = 16;
        d.flags = 1;
    } else if (!rnd(2)) {
        d.len = 513;
        d.flags = 2;
    }
    if (d.flags & 4) d.len = rnd(20) * 16;
    (void)bus_dma_write(board.bus, at, &d, 16);
}

/* From the device's other side. */
static void behind(void)
{
    static u8 frame[NETDEV_LARGE_MAX];
    switch (rnd(4)) {
    case 0: (void)board.net.receive(board.net.fe, frame, rnd(NETDEV_FRAME_MAX + 1)); break;
    case 1: board.line.rx(board.line.fe, frame, rnd(NETDEV_FRAME_MAX)); break;
    case 2:
        virtio_balloon_want(board.balloon, rnd(0xffffffff));
        virtio_balloon_ask(board.balloon);
        break;
    default: /* of no bytes but zeroes: what a header says is the card's to doubt */
        if (!board.net.large->takes(board.net.fe)) break;
        (void)board.net.large->receive(board.net.fe, frame, 54 + rnd(NETDEV_LARGE_MAX - 54 + 1), (u16)rnd(0x10000));
    }
}

static void driver_step(void)
{
    struct bus *b = board.bus;
    const u32 bar = board.bar;
    u16 v;
    switch (rnd(12)) {
    case 0: bus_mmio_write(b, bar + 20, 1, rnd(4) ? 0xf : rnd(256)); break;
    case 1: bus_mmio_write(b, bar + rnd(64), 1u << rnd(3), rnd(8) ? rnd(4) : rnd(0xffffffff)); break;
    case 2:
        if (!rnd(3)) bus_mmio_write(b, bar + 0x2000 + rnd(70), 1u << rnd(3), rnd(0xffffffff));
        (void)bus_mmio_read(b, bar + rnd(0x4000), 1u << rnd(3));
        break;
    case 3: finish(); break;
    case 4: behind(); break;
    case 5:
    case 6: descriptor(AREA + rnd(32) * 16, false); break;
    case 7: descriptor(AREA + rnd(AREA_SIZE / 16) * 16, true); break;
    case 8:
    case 9:
        v = (u16)rnd(rnd(20) ? 16 : 0xffff);
        (void)bus_dma_write(b, AREA + 0x1000 + rnd(40) * 2, &v, 2);
        break;
    case 10:
        for (unsigned q = 0; q < 2; q++) {
            (void)bus_dma_read(b, AREA + 0x1002 + q * 0x3000, &v, 2);
            v = (u16)(v + rnd(rnd(30) ? 4 : 0xffff));
            (void)bus_dma_write(b, AREA + 0x1002 + q * 0x3000, &v, 2);
        }
        break;
    default: bus_mmio_write(b, bar + 0x3000 + 4 * rnd(3), 2, 0); break;
    }
}

/* A driver that begins by the book. */
static void driver_start(void)
{
    struct bus *b = board.bus;
    const u32 bar = board.bar;
    bus_mmio_write(b, bar + 20, 1, 0);
    finish();
    for (unsigned i = 0; i < 2; i++) {
        bus_mmio_write(b, bar + 8, 4, i);
        bus_mmio_write(b, bar + 12, 4, i ? 1 : rnd(0xffffffff) & 0x30008a83);
    }
    bus_mmio_write(b, bar + 20, 1, 0xb);
    for (unsigned q = 0; q < 2; q++) {
        const u64 at[3] = { AREA, AREA + 0x1000 + q * 0x3000, AREA + 0x2000 + q * 0x3000 };
        bus_mmio_write(b, bar + 22, 2, q);
        bus_mmio_write(b, bar + 24, 2, 1u << rnd(9));
        for (unsigned i = 0; i < 3; i++) bus_mmio_write(b, bar + 32 + 8 * i, 4, (u32)(rnd(30) ? at[i] : address()));
        bus_mmio_write(b, bar + 28, 2, 1);
        const u32 zero = 0;
        (void)bus_dma_write(b, at[1], &zero, 4);
    }
    bus_mmio_write(b, bar + 20, 1, 0xf);
}

/* ---- their course ---- */

static unsigned driver_kinds(void) { return KINDS; }

static void driver_begin(unsigned kind)
{
    const struct irq_line none[16] = { 0 };
    board.disk = (struct blockdev){ .ops = &disk_ops, .size = 1 << 20 };
    board.net = (struct netdev){ .ops = &net_ops, .sends_large = true };
    board.line = (struct chardev){ .ops = &line_ops };
    first = NULL;
    asked = NULL;
    const struct nic_desc nic = { .slot = FIRST_SLOT + NET, .net = &board.net, .mac = { 2 }, .name = "virtio-net" };
    BUG_ON(bus_new(&board.bus, RAM) || clock_new(&board.clk));
    BUG_ON(pci_new(&board.pci, board.bus, none, none, (struct dev_event){ 0 }));
    BUG_ON(virtio_net_new(&board.net_card, board.bus, board.pci, &nic));
    BUG_ON(virtio_blk_new(&board.blk, board.bus, board.pci, FIRST_SLOT + DISK, "blk", &board.disk, "S"));
    BUG_ON(virtio_rng_new(&board.rng_card, board.bus, board.pci, FIRST_SLOT + NUMBERS, &source));
    BUG_ON(virtio_console_new(&board.console, board.bus, board.pci, FIRST_SLOT + LINE, &board.line));
    BUG_ON(virtio_balloon_new(&board.balloon, board.bus, board.clk, board.pci, FIRST_SLOT + BALLOON));
    pci_firmware_setup(board.pci, MEM_BASE, 0xc000);
    bus_out(board.bus, 0xcf8, 4, 0x80000004u | (FIRST_SLOT + kind) << 11);
    bus_out(board.bus, 0xcfc, 4, 7);
    bus_out(board.bus, 0xcf8, 4, 0x80000020u | (FIRST_SLOT + kind) << 11);
    board.bar = bus_in(board.bus, 0xcfc, 4);
}
static void driver_end(void)
{
    finish();
    virtio_balloon_free(board.balloon);
    virtio_console_free(board.console);
    virtio_rng_free(board.rng_card);
    virtio_blk_free(board.blk);
    virtio_net_free(board.net_card);
    pci_free(board.pci);
    clock_free(board.clk);
    bus_free(board.bus);
}
static bool driver_reached(unsigned kind, u64 n)
{
    static const struct {
        const char *what;
        u64 *count;
    } of[KINDS] = { [NET] = { "frames sent", &sent },
                    [DISK] = { "disk requests done", &finished },
                    [NUMBERS] = { "random numbers", &numbers },
                    [LINE] = { "characters", &printed },
                    [BALLOON] = { "drivers of a balloon", NULL } };
    const u64 count = of[kind].count ? *of[kind].count : n;
    printf("%llu drivers: %llu %s\n", (unsigned long long)n, (unsigned long long)count, of[kind].what);
    if (of[kind].count) *of[kind].count = 0;
    return n < 200 || count;
}
static const struct drivers drivers = { .kinds = driver_kinds,
                                        .count = 200,
                                        .steps = 50,
                                        .begin = driver_begin,
                                        .start = driver_start,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
