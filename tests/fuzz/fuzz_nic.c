/* Drivers that lie: registers, rings and buffers of every network card hold whatever comes. Nothing may crash, stop for
 * ever, or leave the guest's memory (under ASan, that of the device either); and at any moment a card can be saved, and
 * what is loaded from that is the same.
 *
 *   fuzz_nic [--seed N] [--count N]
 *   libfuzzer_nic (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/netdev.h"
#include "runtime/mem/physmem.h"
#include "src/board/nics.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/drivers.h"

#include <string.h>

#define ISA_PORT 0x300u
#define SLOT 3u

static u64 sent, received;
static void on_send(void *be UNUSED, const u8 *frame UNUSED, size_t n)
{
    BUG_ON(n < NETDEV_FRAME_MIN || n > NETDEV_FRAME_MAX);
    sent++;
}
static void on_ready(void *be UNUSED) {}

struct board {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct netdev net[2];
    struct nic *card[2]; /* the second is one to load into */
    int kind;            /* enum nic_kind */
    u64 now;
    u32 bar[6], bar_size[6];
    bool bar_io[6];
};

/* The function's BARs, by asking for their sizes. */
static void bars_find(struct board *b)
{
    for (unsigned i = 0; i < 6; i++) {
        bus_out(b->bus, 0xcf8, 4, (0x80000010u | SLOT << 11) + 4 * i);
        u32 was = bus_in(b->bus, 0xcfc, 4);
        bus_out(b->bus, 0xcfc, 4, ~0u);
        u32 mask = bus_in(b->bus, 0xcfc, 4);
        bus_out(b->bus, 0xcfc, 4, was);
        b->bar_io[i] = was & 1;
        b->bar[i] = was & (was & 1 ? ~3u : ~15u);
        b->bar_size[i] = mask ? -(mask & (was & 1 ? ~3u : ~15u)) : 0;
        if (b->bar_io[i]) b->bar_size[i] &= 0xffff;
    }
}

static void board_new(struct board *b, const char *model)
{
    static const struct netdev_ops ops = { on_send, on_ready };
    static const struct irq_line none[16];
    struct vm_error err;
    *b = (struct board){ .kind = nic_kind(model), .now = 1000 };
    BUG_ON(bus_new(&b->bus, RAM) || clock_new(&b->clk));
    clock_set_manual(b->clk, b->now);
    BUG_ON(pci_new(&b->pci, b->bus, none, none, (struct dev_event){ 0 }));
    const struct nic_buses on = { b->bus, b->clk, b->pci, none };
    for (unsigned i = 0; i < 2; i++) {
        b->net[i] = (struct netdev){ .ops = &ops };
        const struct nic_config cfg = {
            .net = &b->net[i], .model = model, .mac = { 2 }, .port = (u16)(ISA_PORT + 0x40 * i), .irq = 3
        };
        BUG_ON(nic_new(&b->card[i], &on, i, (u8)(SLOT + i), &cfg, &err));
    }
    pci_firmware_setup(b->pci, MEM_BASE, IO_BASE);
    bus_out(b->bus, 0xcf8, 4, 0x80000004u | SLOT << 11);
    bus_out(b->bus, 0xcfc, 4, 7);
    if (!nic_is_isa(model)) {
        bars_find(b);
        return;
    }
    b->bar[0] = ISA_PORT;
    b->bar_size[0] = 0x20;
    b->bar_io[0] = true;
}

static void board_free(struct board *b)
{
    for (unsigned i = 0; i < 2; i++) nic_free(b->card[i]);
    pci_free(b->pci);
    clock_free(b->clk);
    bus_free(b->bus);
}

static void access_any(struct board *b)
{
    unsigned i = rnd(6), size = 1u << rnd(3);
    while (!b->bar_size[i]) i = (i + 1) % 6;
    /* Most cards have what matters at the start. */
    u32 at = rnd(3) ? rnd(b->bar_size[i] < 64 ? b->bar_size[i] : 64) : rnd(b->bar_size[i]);
    bool write = rnd(4);
    at &= ~(size - 1);
    if (b->bar_io[i] && write) bus_out(b->bus, (u16)(b->bar[i] + at), size, value());
    else if (b->bar_io[i]) (void)bus_in(b->bus, (u16)(b->bar[i] + at), size);
    else if (write) bus_mmio_write(b->bus, b->bar[i] + at, size, value());
    else (void)bus_mmio_read(b->bus, b->bar[i] + at, size);
}

/* ---- drivers that begin by the book ---- */

static void put32(struct board *b, u32 at, u32 v) { (void)bus_dma_write(b->bus, at, &v, 4); }

static void pcnet_start(struct board *b)
{
    const u16 io = (u16)b->bar[0];
    const u16 csr[][2] = { { 1, (u16)AREA }, { 2, AREA >> 16 }, { 0, 1 }, { 0, 0x4a } };
    const u32 block[7] = {
        rnd(4) << 28 | rnd(4) << 20 | (rnd(2) ? 0x8000 : 0), 2, 0, ~0u, 0, AREA + 0x100, AREA + 0x200
    };
    bus_out(b->bus, (u16)(io + 0x12), 2, 20);
    bus_out(b->bus, (u16)(io + 0x16), 2, 2 + rnd(2));
    for (unsigned i = 0; i < 7; i++) put32(b, AREA + 4 * i, block[i]);
    for (unsigned i = 0; i < 16; i++) {
        put32(b, AREA + 0x104 + 16 * i, 0x8000f000 | rnd(0x1000));
        put32(b, AREA + 0x204 + 16 * i, 0x8300f000 | rnd(0x1000));
        for (unsigned k = 0; k < 2; k++) put32(b, AREA + 0x100 + 0x100 * k + 16 * i + (rnd(2) ? 0 : 8), address());
    }
    for (unsigned i = 0; i < 4; i++) {
        bus_out(b->bus, (u16)(io + 0x12), 2, csr[i][0]);
        bus_out(b->bus, (u16)(io + 0x10), 2, csr[i][1]);
    }
}

static void mem_out(struct board *b, u32 at, u32 v) { bus_mmio_write(b->bus, b->bar[0] + at, 4, v); }

static void e1000_start(struct board *b)
{
    enum { N = 16 };
    for (unsigned i = 0; i < N; i++) {
        const u32 command = (u32)(rnd(4) ? 0x01000000 : 0) | rnd(256) << 24 | (rnd(2) ? 1u << 20 : 0) | rnd(0x900);
        const u32 d[8] = { address(), 0, 0, 0, rnd(3) ? address() : rnd(0x40404040), 0, command, rnd(0xffffffff) };
        (void)bus_dma_write(b->bus, AREA + 0x100 + 16 * i, d, 16);
        (void)bus_dma_write(b->bus, AREA + 0x200 + 16 * i, d + 4, 16);
    }
    mem_out(b, 0x2800, AREA + 0x100), mem_out(b, 0x2808, 16 * N), mem_out(b, 0x2818, N - 1);
    mem_out(b, 0x3800, AREA + 0x200), mem_out(b, 0x3808, 16 * N);
    mem_out(b, 0x5000, rnd(0x400)), mem_out(b, 0xd0, 0x1ffff), mem_out(b, 0xc4, rnd(100)), mem_out(b, 0, rnd(2) << 30);
    mem_out(b, 0x100, 0x801a | rnd(4) << 16 | (rnd(8) ? 0 : 0xc0)), mem_out(b, 0x400, 2);
    mem_out(b, 0x3818, rnd(N));
}

static void io_bytes(struct board *b, const u8 (*pairs)[2], unsigned n)
{
    for (unsigned i = 0; i < n; i++) bus_out(b->bus, (u16)(b->bar[0] + pairs[i][0]), 1, pairs[i][1]);
}

static void rtl8139_start(struct board *b)
{
    const u16 io = (u16)b->bar[0];
    bus_out(b->bus, (u16)(io + 0x30), 4, address());
    bus_out(b->bus, (u16)(io + 0x37), 1, 12);
    bus_out(b->bus, (u16)(io + 0x44), 4, 0xf | rnd(4) << 11 | rnd(2) << 7);
    bus_out(b->bus, (u16)(io + 0x3c), 2, 0xffff);
    for (unsigned i = 0; i < 4; i++) bus_out(b->bus, (u16)(io + 0x20 + 4 * i), 4, address());
    for (unsigned i = 0; i < 4; i++) bus_out(b->bus, (u16)(io + 0x10 + 4 * i), 4, rnd(0x800));
}

static void ne2000_start(struct board *b)
{
    const u8 pairs[][2] = { { 0, 0x21 },         { 14, 0x49 }, { 12, 0x1c }, { 13, 0 },
                            { 1, 0x46 },         { 2, 0x80 },  { 3, 0x46 },  { 15, 0xff },
                            { 0, 0x61 },         { 7, 0x47 },  { 0, 0x22 },  { 4, (u8)rnd(256) },
                            { 5, 100 },          { 6, 0 },     { 0, 0x26 },  { 8, (u8)rnd(256) },
                            { 9, (u8)rnd(128) }, { 10, 200 },  { 11, 0 },    { 0, (u8)(rnd(2) ? 0x0a : 0x12) } };
    io_bytes(b, pairs, ARRAY_LEN(pairs));
}

static void (*const starts[NIC_KINDS])(struct board *b) = {
    [NIC_E1000] = e1000_start,     [NIC_RTL8139] = rtl8139_start, [NIC_NE2K] = ne2000_start,
    [NIC_NE2K_ISA] = ne2000_start, [NIC_PCNET] = pcnet_start,
};

static void start(struct board *b)
{
    struct snap_part p = nic_part(b->card[0]);
    snap_part_reset(&p);
    if (starts[b->kind]) starts[b->kind](b);
}

static void check_saved(struct board *b)
{
    struct snap_part twin = nic_part(b->card[1]);
    check_handed_over(nic_part(b->card[0]), twin);
    snap_part_reset(&twin); /* its timers are not to run beside the first one's */
}

static void step(struct board *b)
{
    static u8 frame[NETDEV_FRAME_MAX] = { 2 };
    u32 v = value();
    switch (rnd(16)) {
    case 0:
        if (b->net[0].receive && b->net[0].receive(b->net[0].fe, frame, NETDEV_FRAME_MIN + rnd(1505))) received++;
        break;
    case 1:
        frame[0] = rnd(2) ? 2 : 0xff;
        memset(frame + 1, rnd(2) ? 0 : 0xff, 5);
        break;
    case 2:
        clock_set_manual(b->clk, b->now += rnd(10000000));
        clock_run_due(b->clk);
        break;
    case 3:
    case 4:
    case 5: (void)bus_dma_write(b->bus, AREA + rnd(AREA_SIZE / 4) * 4, &v, 4); break;
    case 6:
        if (!rnd(20)) check_saved(b);
        break;
    case 7:
        if (!rnd(20)) start(b);
        break;
    default: access_any(b); break;
    }
}

/* ---- their course ---- */

static struct board board;

static unsigned driver_kinds(void)
{
    unsigned n = 0;
    while (nic_model(n)) n++;
    return n;
}
static void driver_begin(unsigned kind) { board_new(&board, nic_model(kind)); }
static void driver_start(void) { start(&board); }
static void driver_step(void) { step(&board); }
static void driver_end(void)
{
    check_saved(&board);
    board_free(&board);
}
static bool driver_reached(unsigned kind, u64 n)
{
    bool enough = n < 100 || !starts[kind] || (sent && received);
    printf("%s: %llu drivers, %llu frames sent, %llu received\n", nic_model(kind), (unsigned long long)n,
           (unsigned long long)sent, (unsigned long long)received);
    sent = received = 0;
    return enough;
}
static const struct drivers drivers = { .kinds = driver_kinds,
                                        .count = 200,
                                        .steps = 1000,
                                        .begin = driver_begin,
                                        .start = driver_start,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
