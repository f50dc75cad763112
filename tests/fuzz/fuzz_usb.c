/* Drivers that lie: the registers of a UHCI controller, its schedule in memory, and what is said to the tablet, the
 * keyboard and the two disks at its ports, are whatever comes, mostly nearly right. Nothing may crash, stop for ever,
 * ask a disk for what it has not, or leave the guest's memory (under ASan, that of a device either); and at any moment
 * they can be saved, and what is loaded from that is the same.
 *
 *   fuzz_usb [--seed N] [--count N]
 *   libfuzzer_usb (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/blockdev.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/drivers.h"

#define SECTORS 512u
#define FRAMES_AT (AREA + AREA_SIZE) /* the list of frames, mostly left alone */
#define QUEUES 4u                    /* at AREA, 16 bytes each; behind them descriptors, 32 bytes each */
#define TDS 16u
#define TD_AT(n) (AREA + 0x100 + (n)*32)
#define DATA_AT(n) (AREA + 0x1000 + (n)*0x100)
enum { IN = 0x69, OUT = 0xe1, SETUP = 0x2d };
enum { END = 1, QUEUE = 2 };
enum { TABLET, KEYBOARD, STICK, LOCKED, DEVICES };

static u64 moved[DEVICES]; /* reports taken, disk requests done */
static void on_room(void *opaque UNUSED, u32 value) { moved[value]++; }
static void on_tablet_room(void *opaque, u32 value UNUSED) { on_room(opaque, TABLET); }
static void on_keyboard_room(void *opaque, u32 value UNUSED) { on_room(opaque, KEYBOARD); }

struct board {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct uhci *uhci;
    struct usb_hid *hid[2];
    struct usb_storage *stick[2];
    struct blockdev disk[2];
    struct blockdev_req *asked[2];
    u64 now;
    u16 io;
};

static void on_submit(void *be, struct blockdev_req *r)
{
    struct blockdev_req **asked = be;
    BUG_ON(*asked); /* a disk has one at most */
    *asked = r;
}

static void finish(struct board *b, unsigned i)
{
    struct blockdev_req *r = b->asked[i];
    u64 len = 0;
    if (!r) return;
    b->asked[i] = NULL;
    BUG_ON(r->offset > b->disk[i].size || r->len > b->disk[i].size - r->offset || r->len % BLOCKDEV_SECTOR);
    BUG_ON(r->op != BLOCKDEV_READ && r->op != BLOCKDEV_FLUSH && (r->op != BLOCKDEV_WRITE || b->disk[i].readonly));
    for (unsigned k = 0; k < r->niov; len += r->iov[k++].iov_len)
        if (r->op == BLOCKDEV_READ) memset(r->iov[k].iov_base, 0x5a, r->iov[k].iov_len);
    BUG_ON(r->op != BLOCKDEV_FLUSH && len != r->len);
    moved[STICK + i] += r->op != BLOCKDEV_FLUSH;
    r->done(r, rnd(8) ? 0 : -5);
}

static void finish_all(struct board *b)
{
    for (unsigned i = 0; i < 2; i++)
        while (b->asked[i]) finish(b, i);
}

static void board_new(struct board *b)
{
    static const struct blockdev_ops ops = { on_submit };
    static const struct irq_line none[16];
    *b = (struct board){ .now = 1000 };
    BUG_ON(bus_new(&b->bus, RAM) || clock_new(&b->clk));
    clock_set_manual(b->clk, b->now);
    BUG_ON(pci_new(&b->pci, b->bus, none, none, (struct dev_event){ 0 }));
    BUG_ON(uhci_new(&b->uhci, b->bus, b->clk, b->pci));
    for (unsigned i = 0; i < 2; i++) {
        b->disk[i] =
            (struct blockdev){ .ops = &ops, .be = &b->asked[i], .size = (u64)SECTORS * BLOCKDEV_SECTOR, .readonly = i };
        BUG_ON(usb_hid_new(&b->hid[i], i) || usb_storage_new(&b->stick[i], "stick", &b->disk[i], "SERIAL"));
        usb_hid_on_room(b->hid[i], (struct dev_event){ i ? on_keyboard_room : on_tablet_room, NULL });
        uhci_plug(b->uhci, i, usb_hid_device(b->hid[i]));
        uhci_plug(b->uhci, STICK + i, usb_storage_device(b->stick[i]));
    }
    pci_firmware_setup(b->pci, MEM_BASE, IO_BASE);
    bus_out(b->bus, 0xcf8, 4, 0x80000a04u); /* 00:01.2 */
    bus_out(b->bus, 0xcfc, 4, 7);
    bus_out(b->bus, 0xcf8, 4, 0x80000a20u);
    b->io = (u16)(bus_in(b->bus, 0xcfc, 4) & ~3u);
}

static void board_free(struct board *b)
{
    uhci_free(b->uhci);
    for (unsigned i = 0; i < 2; i++) {
        usb_hid_free(b->hid[i]);
        usb_storage_free(b->stick[i]);
    }
    pci_free(b->pci);
    clock_free(b->clk);
    bus_free(b->bus);
}

enum { PARTS = 5 };
static void parts(const struct board *b, struct snap_part p[PARTS])
{
    p[0] = uhci_part(b->uhci);
    for (unsigned i = 0; i < 2; i++) {
        p[1 + i] = usb_hid_part(b->hid[i]);
        p[3 + i] = usb_storage_part(b->stick[i]);
    }
}

static void advance(struct board *b, u64 ns)
{
    clock_set_manual(b->clk, b->now += ns);
    clock_run_due(b->clk);
}

static void put32(struct board *b, u32 at, u32 v) { (void)bus_dma_write(b->bus, at, &v, 4); }
static void out(struct board *b, unsigned reg, u32 v) { bus_out(b->bus, (u16)(b->io + reg), 2, v); }

static void access_any(struct board *b)
{
    static const u8 often[] = { 0, 2, 4, 16, 18, 20, 22 };
    unsigned size = 1u << rnd(3), at = rnd(2) ? often[rnd(ARRAY_LEN(often))] : rnd(32);
    at &= ~(size - 1);
    if (!rnd(3)) (void)bus_in(b->bus, (u16)(b->io + at), size);
    else if (!at && rnd(4)) out(b, 0, 0x81); /* mostly it runs on */
    else bus_out(b->bus, (u16)(b->io + at), size, value());
}

/* ---- the schedule ---- */

static u32 link_any(void)
{
    switch (rnd(8)) {
    case 0: return END;
    case 1: return value();
    case 2:
    case 3: return (AREA + rnd(QUEUES) * 16) | QUEUE;
    default: return TD_AT(rnd(TDS)) | (rnd(2) ? 4 : 0); /* in depth */
    }
}

static u32 token(u8 pid, u32 address, u32 endpoint, u32 len)
{
    return (u32)pid | address << 8 | endpoint << 15 | ((len - 1) & 0x7ff) << 21;
}

static void td_any(struct board *b, unsigned n)
{
    static const u8 pids[] = { IN, OUT, SETUP };
    u32 active = rnd(5) ? 0x00800000u : 0, bits = rnd(3) ? 0 : rnd(0xffffffff);
    u32 len = rnd(3) ? rnd(4) * 32 : rnd(0x800);
    put32(b, TD_AT(n), link_any());
    put32(b, TD_AT(n) + 4, rnd(20) ? active | (rnd(2) ? 0x21000000u : bits & ~0x02000000u) : bits);
    put32(b, TD_AT(n) + 8,
          rnd(30) ? token(pids[rnd(ARRAY_LEN(pids))], rnd(1 + DEVICES), rnd(3), len) : rnd(0xffffffff));
    put32(b, TD_AT(n) + 12, rnd(10) ? DATA_AT(rnd(8)) + rnd(64) : address());
}

/* One packet by the book, in a queue of its own. */
static void packet(struct board *b, u8 pid, u32 to, u32 endpoint, const void *data, u32 len)
{
    if (data) (void)bus_dma_write(b->bus, DATA_AT(0), data, len);
    put32(b, AREA, END);
    put32(b, AREA + 4, TD_AT(0));
    put32(b, TD_AT(0), END);
    put32(b, TD_AT(0) + 4, 0x19800000u);
    put32(b, TD_AT(0) + 8, token(pid, to, endpoint, len));
    put32(b, TD_AT(0) + 12, DATA_AT(0));
    out(b, 0, 0x81);
    advance(b, 2000000);
}

static void request(struct board *b, u32 to, u8 type, u8 what, u16 val, u16 index, u16 len)
{
    const u8 setup[8] = { type, what, (u8)val, (u8)(val >> 8), (u8)index, (u8)(index >> 8), (u8)len, (u8)(len >> 8) };
    packet(b, SETUP, to, 0, setup, 8);
    for (unsigned i = 0; len && i < 1 + len / 64u; i++) packet(b, type & 0x80 ? IN : OUT, to, 0, NULL, 64);
    packet(b, type & 0x80 && len ? OUT : IN, to, 0, NULL, 0);
}

/* The device at port n gets an address, n + 1, and is configured. */
static void enumerate(struct board *b, unsigned n)
{
    out(b, 16 + 2 * n, 0x200);
    out(b, 16 + 2 * n, 0);
    out(b, 16 + 2 * n, 6);
    request(b, 0, 0, 5, (u16)(n + 1), 0, 0);
    request(b, n + 1, 0, 9, 1, 0, 0);
}

static void start(struct board *b)
{
    struct snap_part p[PARTS];
    finish_all(b);
    parts(b, p);
    for (unsigned i = 0; i < PARTS; i++) snap_part_reset(&p[i]);
    for (u32 i = 0; i < 1024; i++) put32(b, FRAMES_AT + 4 * i, (AREA + i % QUEUES * 16) | QUEUE);
    for (u32 i = 0; i < QUEUES; i++) {
        put32(b, AREA + 16 * i, (AREA + (i + 1) % QUEUES * 16) | QUEUE);
        put32(b, AREA + 16 * i + 4, END);
    }
    bus_out(b->bus, (u16)(b->io + 8), 4, FRAMES_AT);
    out(b, 4, 15);
    out(b, 0, 0x81);
    for (unsigned i = 0; i < DEVICES; i++) enumerate(b, i);
}

/* ---- what is said to the devices ---- */

static void request_any(struct board *b)
{
    static const u8 types[] = { 0, 1, 2, 0x21, 0x80, 0x81, 0x82, 0xa1 };
    u16 val = rnd(2) ? (u16)(rnd(40) << 8 | rnd(4)) : (u16)rnd(0x10000);
    u8 what = rnd(8) ? (u8)rnd(12) : (u8)rnd(256);
    request(b, 1 + rnd(DEVICES), types[rnd(ARRAY_LEN(types))], what, val, (u16)rnd(rnd(2) ? 0x90 : 0x10000),
            (u16)(rnd(8) ? rnd(300) : rnd(0x10000)));
}

/* A command of a disk, and some of its data: as many packets as there would be, or not. */
static void command_any(struct board *b)
{
    static const u8 commands[] = { 0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x23, 0x25,
                                   0x28, 0x28, 0x2a, 0x2a, 0x2f, 0x35, 0x5a, 0xa8, 0xaa };
    const unsigned i = rnd(2);
    const u8 code = rnd(20) ? commands[rnd(ARRAY_LEN(commands))] : (u8)rnd(256), sectors = (u8)rnd(rnd(4) ? 4 : 200);
    const u32 at = rnd(10) ? rnd(SECTORS) : rnd(0xffffffff);
    const u32 want = rnd(6) ? sectors * BLOCKDEV_SECTOR : rnd(3) ? rnd(300) : rnd(0xffffffff);
    const bool to_host = code == 0x2a || code == 0x0a || code == 0xaa ? !rnd(10) : rnd(10);
    const u8 at_be[4] = { (u8)(at >> 24), (u8)(at >> 16), (u8)(at >> 8), (u8)at };
    const u8 block[31] = { 'U',
                           'S',
                           'B',
                           'C',
                           1,
                           2,
                           3,
                           4,
                           (u8)want,
                           (u8)(want >> 8),
                           (u8)(want >> 16),
                           (u8)(want >> 24),
                           to_host ? 0x80 : 0,
                           0,
                           (u8)(rnd(20) ? 10 : rnd(256)),
                           code,
                           (u8)(code < 0x20 ? at_be[1] & 0x1f
                                : rnd(20)   ? 0
                                            : rnd(256)),
                           code < 0x20 ? at_be[2] : at_be[0],
                           code < 0x20 ? at_be[3] : at_be[1],
                           code < 0x20 ? sectors : at_be[2],
                           at_be[3],
                           0,
                           (u8)(code < 0x80 ? 0
                                : rnd(4)    ? 0
                                            : rnd(256)),
                           code < 0x80 ? sectors : 0,
                           code < 0x80 ? 0 : sectors };
    packet(b, OUT, STICK + i + 1, 2, block, rnd(20) ? sizeof block : rnd(32));
    for (unsigned n = rnd(4) ? (want > 0x4000 ? 0x4000 : want) / 64 : rnd(10), k = 0; k < n; k++) {
        finish(b, i);
        packet(b, to_host ? IN : OUT, STICK + i + 1, to_host ? 1 : 2, NULL, 64);
    }
    for (unsigned n = rnd(4); n; n--) {
        finish(b, i);
        packet(b, IN, STICK + i + 1, 1, NULL, rnd(8) ? 13 : 64);
    }
}

static void person(struct board *b)
{
    if (rnd(2)) usb_tablet_move(b->hid[TABLET], rnd(0x10000), rnd(0x8000), (int)rnd(1000) - 500, rnd(16));
    else usb_keyboard_key(b->hid[KEYBOARD], rnd(0x300), rnd(2));
}

/* ---- saved and loaded ---- */

static void check_saved(struct board *b, struct board *twin)
{
    struct snap_part from[PARTS], to[PARTS];
    finish_all(b);
    parts(b, from);
    parts(twin, to);
    for (unsigned i = 0; i < PARTS; i++) check_handed_over(from[i], to[i]);
}

/* What a saved machine says of them may be anything. */
static void load_lies(struct board *b, struct board *twin)
{
    struct snap_part from[PARTS], to[PARTS];
    char why[128];
    bool fine = true;
    finish_all(b);
    parts(b, from);
    parts(twin, to);
    for (unsigned i = 0; i < PARTS; i++) {
        struct snap_buf a = { 0 };
        snap_save(&from[i], &a);
        for (unsigned k = rnd(5); k; k--) a.data[rnd(rnd(2) && a.len > 400 ? 400 : (u32)a.len)] = (u8)rnd(256);
        snap_unmap(&to[i]);
        fine &= !snap_load(&to[i], a.data, a.len, why, sizeof why);
        snap_buf_free(&a);
    }
    for (unsigned i = 0; fine && i < 20; i++) {
        if (rnd(2)) access_any(twin);
        else if (rnd(2)) command_any(twin);
        else request_any(twin);
        finish(twin, rnd(2));
        advance(twin, rnd(10000000));
    }
    finish_all(twin);
    board_free(twin); /* it may be anything now */
    board_new(twin);
}

static void step(struct board *b, struct board *twin)
{
    u32 v = value();
    switch (rnd(16)) {
    case 0: advance(b, rnd(rnd(50) ? 4000000 : 2000000000)); break;
    case 1: finish(b, rnd(2)); break;
    case 2: (void)bus_dma_write(b->bus, AREA + rnd(AREA_SIZE / 4) * 4, &v, 4); break;
    case 3: put32(b, AREA + rnd(2 * QUEUES) * (rnd(2) ? 4 : 16), link_any()); break;
    case 4:
        if (!rnd(30)) put32(b, FRAMES_AT + 4 * rnd(1024), link_any());
        if (!rnd(50)) check_saved(b, twin);
        if (!rnd(60)) load_lies(b, twin);
        if (!rnd(5)) start(b);
        break;
    case 5:
    case 6: person(b); break;
    case 7:
        if (!rnd(4)) access_any(b);
        break;
    case 8:
        if (!rnd(4)) request_any(b);
        break;
    case 9:
    case 10: command_any(b); break;
    case 11: packet(b, IN, 1 + rnd(2), 1, NULL, rnd(20)); break;
    default: td_any(b, rnd(TDS)); break;
    }
}

/* ---- their course ---- */

static struct board board, twin;

static void driver_begin(unsigned kind UNUSED)
{
    board_new(&board);
    board_new(&twin);
}
static void driver_start(void) { start(&board); }
static void driver_step(void) { step(&board, &twin); }
static void driver_end(void)
{
    check_saved(&board, &twin);
    board_free(&board);
    board_free(&twin);
}
static bool driver_reached(unsigned kind UNUSED, u64 n)
{
    bool enough = true;
    printf("%llu drivers; reports: %llu, %llu; disk requests: %llu, %llu\n", (unsigned long long)n,
           (unsigned long long)moved[TABLET], (unsigned long long)moved[KEYBOARD], (unsigned long long)moved[STICK],
           (unsigned long long)moved[LOCKED]);
    for (unsigned i = 0; n >= 50 && i < DEVICES; i++) enough &= moved[i] >= n;
    return enough;
}
static const struct drivers drivers = { .count = 100,
                                        .steps = 500,
                                        .begin = driver_begin,
                                        .start = driver_start,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
