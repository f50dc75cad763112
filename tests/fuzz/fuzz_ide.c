/* Drivers that lie: the IDE controller's registers, command sets, packets and bus-master lists hold whatever comes.
 * Nothing may crash, stop for ever, leave the guest's memory or a disk; and whenever the disks rest, controller and
 * drives can be saved, and what is loaded from that is the same.
 *
 *   fuzz_ide [--seed N] [--count N]
 *   libfuzzer_ide (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#include "core/clock.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"
#include "tests/fuzz/card.h"
#include "tests/fuzz/disk.h"
#include "tests/fuzz/drivers.h"

#define PARTS 6u /* two channels, four drives at most */

/* What is on the two cables: drives of all sizes that an address can have, CDs, and nothing. */
static const struct {
    u64 sectors[IDE_DRIVES]; /* 0: no disk */
    bool cdrom[IDE_DRIVES], readonly;
} kinds[] = {
    { { 40000, 0, 1200 }, { [2] = true }, false },
    { { 1, 70000, 0, 4 }, { [2] = true, [3] = true }, true },
    { { 0x0fffffff, 0x10000001, 0, 0x2000 }, { [3] = true }, false },
    { { 0xffffffffffffull, 17, 16ull << 30, 3 }, { [2] = true }, false },
    { { [2] = 63 }, { false }, false },
};

struct side {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct ide *ide;
    struct fuzz_disk disk[IDE_DRIVES];
    struct snap_part part[PARTS];
    unsigned parts;
};
struct board {
    struct side a, twin; /* the second is one to load into */
    unsigned kind;
};

static void side_new(struct side *s, unsigned kind)
{
    static const struct irq_line none[16];
    struct ide_disk disk[IDE_DRIVES] = { 0 };
    BUG_ON(bus_new(&s->bus, RAM) || clock_new(&s->clk));
    BUG_ON(pci_new(&s->pci, s->bus, none, none, (struct dev_event){ 0 }));
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        disk_init(&s->disk[i], kinds[kind].sectors[i], kinds[kind].readonly || kinds[kind].cdrom[i]);
        disk[i].cdrom = kinds[kind].cdrom[i];
        if (kinds[kind].sectors[i]) disk[i].dev = &s->disk[i].dev;
    }
    BUG_ON(ide_new(&s->ide, s->bus, s->pci, none[14], none[15], disk));
    pci_firmware_setup(s->pci, MEM_BASE, IO_BASE);
    bus_out(s->bus, 0xcf8, 4, 0x80000904u);
    bus_out(s->bus, 0xcfc, 2, 5);
    s->parts = ide_parts(s->ide, s->part, PARTS);
}
static void side_free(struct side *s)
{
    ide_free(s->ide);
    pci_free(s->pci);
    clock_free(s->clk);
    bus_free(s->bus);
}
static void board_new(struct board *b, unsigned kind)
{
    *b = (struct board){ .kind = kind };
    side_new(&b->a, kind);
    side_new(&b->twin, kind);
}
static void settle(struct board *b) { disks_settle(b->a.disk, IDE_DRIVES); }
static void board_free(struct board *b)
{
    settle(b);
    side_free(&b->a);
    side_free(&b->twin);
}

static void check_saved(struct board *b)
{
    settle(b);
    for (unsigned i = 0; i < b->a.parts; i++) check_handed_over(b->a.part[i], b->twin.part[i]);
}

static void out(struct board *b, u32 port, u32 v) { bus_out(b->a.bus, (u16)port, 1, v); }

static void access_any(struct board *b)
{
    static const u16 at[] = { 0x1f0, 0x170, 0x3f6, 0x376, IO_BASE };
    static const u8 len[] = { 8, 8, 1, 1, 16 };
    unsigned i = rnd(ARRAY_LEN(at)), size = 1u << rnd(3);
    u16 port = (u16)(at[i] + (rnd(len[i]) & ~(size - 1)));
    if (rnd(2)) bus_out(b->a.bus, port, size, value());
    else (void)bus_in(b->a.bus, port, size);
}

/* ---- drivers that begin by the book ---- */

static void address_set(struct board *b, u32 base)
{
    bool near = rnd(2);                      /* a few sectors from the start */
    for (unsigned old = 0; old < 2; old++) { /* the second is the lower half of 48 bits */
        for (unsigned r = 2; r < 6; r++) {
            if (near) out(b, base + r, old ? 0 : r < 4 ? 1 + rnd(17) : 0);
            else if (rnd(8)) out(b, base + r, rnd(3) ? rnd(4) : rnd(256));
        }
        if (rnd(2)) return;
    }
}
static void command(struct board *b)
{
    static const u8 code[] = { 0x00, 0x08, 0x10, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35, 0x39,
                               0x40, 0x41, 0x42, 0x70, 0x90, 0x91, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8, 0xc9, 0xca,
                               0xcb, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xf8 };
    static const u8 moves[] = { 0x20, 0x30, 0x24, 0x34, 0xc4, 0xc5, 0x29, 0x39, 0xc8, 0xca, 0x25, 0x35 };
    u32 base = rnd(2) ? 0x170 : 0x1f0;
    if (rnd(2)) out(b, base + 0x206, 0);
    out(b, base + 6, 0xa0 | (rnd(4) ? 0 : 0x10) | rnd(4) / 3 * 15 | (rnd(3) ? 0x40 : 0));
    address_set(b, base);
    if (rnd(4)) out(b, base + 1, rnd(3) ? rnd(4) : value());
    out(b, base + 7, rnd(2) ? moves[rnd(ARRAY_LEN(moves))] : rnd(16) ? code[rnd(ARRAY_LEN(code))] : rnd(256));
}
static void packet(struct board *b)
{
    static const u8 code[] = { 0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x43,
                               0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbb, 0xbd, 0xbe };
    u32 base = rnd(8) ? 0x170 : 0x1f0;
    u8 p[12] = { rnd(16) ? code[rnd(ARRAY_LEN(code))] : (u8)rnd(256) };
    for (unsigned i = 1; i < 12; i++) p[i] = (u8)(rnd(4) ? rnd(3) : rnd(256));
    if (rnd(2)) p[2] = p[3] = p[6] = p[7] = 0; /* as a driver asks that wants few blocks from the start */
    if (rnd(2)) out(b, base + 0x206, 0);
    out(b, base + 6, 0xa0 | (rnd(4) ? 0 : 0x10));
    out(b, base + 1, rnd(2));
    out(b, base + 4, rnd(3) ? 0 : rnd(256));
    out(b, base + 5, rnd(3) ? 8 : rnd(256));
    out(b, base + 7, 0xa0);
    for (unsigned i = 0; i < 12; i += 2) bus_out(b->a.bus, (u16)base, 2, p[i] | (u32)p[i + 1] << 8);
}
static void list(struct board *b)
{
    u32 at = AREA + rnd(AREA_SIZE / 16) * 16;
    for (unsigned i = 1 + rnd(8); i--; at += 8) {
        const u32 entry[2] = { address(), rnd(4) ? 512u << rnd(6) : rnd(0x10000) | (i && rnd(4) ? 0 : 1u << 31) };
        (void)bus_dma_write(b->a.bus, at, entry, sizeof entry);
        if (!rnd(3)) bus_out(b->a.bus, (u16)(IO_BASE + 4 + 8 * rnd(2)), 4, at);
    }
}
static void master(struct board *b)
{
    u32 base = IO_BASE + 8 * rnd(2);
    if (rnd(2)) bus_out(b->a.bus, (u16)(base + 4), 4, AREA + rnd(AREA_SIZE / 16) * 16);
    if (rnd(2)) out(b, base + 2, 6);
    out(b, base, 0);
    out(b, base, rnd(2) << 3 | (rnd(8) ? 1 : 0));
}
/* Blocks of data, where a drive has or wants them, or anywhere; as much as that, or more. */
static void burst(struct board *b)
{
    u32 base = rnd(2) ? 0x170 : 0x1f0;
    if (rnd(8) && !(bus_in(b->a.bus, (u16)(base + 0x206), 1) & 8)) base ^= 0x1f0 ^ 0x170;
    bool write = rnd(2);
    unsigned size = rnd(4) ? 2 : 4;
    for (unsigned i = rnd(4) ? 256 : rnd(5000); i--;) {
        if (write) bus_out(b->a.bus, (u16)base, size, i);
        else (void)bus_in(b->a.bus, (u16)base, size);
    }
}
static void medium(struct board *b)
{
    unsigned i = rnd(IDE_DRIVES);
    if (!kinds[b->kind].cdrom[i] || b->a.disk[i].waits) return;
    if (rnd(2)) {
        ide_eject_request(b->a.ide, i);
        return;
    }
    bool there = rnd(3);
    u64 n = there && rnd(2) ? 4 + rnd(5000) * 4 : there ? 1200 : 0;
    for (unsigned k = 0; k < 2; k++) {
        struct side *s = k ? &b->twin : &b->a;
        disk_init(&s->disk[i], n, true);
        ide_change_medium(s->ide, i, there ? &s->disk[i].dev : NULL);
    }
}
static void reset(struct board *b)
{
    if (rnd(4)) {
        u32 port = rnd(2) ? 0x376 : 0x3f6;
        out(b, port, 4 | rnd(4) << 1);
        if (rnd(8)) out(b, port, rnd(2) << 1);
        return;
    }
    settle(b);
    for (unsigned i = 0; i < b->a.parts; i++) snap_part_reset(&b->a.part[i]);
}

static void step(struct board *b)
{
    u32 v;
    switch (rnd(24)) {
    case 0 ... 3: command(b); break;
    case 4 ... 5: packet(b); break;
    case 6: list(b); break;
    case 7 ... 8: master(b); break;
    case 9 ... 10: burst(b); break;
    case 11 ... 15: (void)disk_finish(&b->a.disk[rnd(IDE_DRIVES)]); break;
    case 16:
        v = value();
        (void)bus_dma_write(b->a.bus, AREA + rnd(AREA_SIZE / 4) * 4, &v, 4);
        break;
    case 17:
        if (!rnd(4)) medium(b);
        break;
    case 18:
        if (!rnd(8)) reset(b);
        break;
    case 19:
        if (!rnd(16)) check_saved(b);
        break;
    default: access_any(b); break;
    }
}

/* ---- their course ---- */

static struct board board;

static void driver_begin(unsigned kind) { board_new(&board, kind); }
static void driver_step(void) { step(&board); }
static void driver_end(void)
{
    check_saved(&board);
    board_free(&board);
}
static unsigned driver_kinds(void) { return ARRAY_LEN(kinds); }
static bool driver_reached(unsigned kind, u64 n)
{
    bool enough = n < 20 || (disk_reads && (disk_writes || kinds[kind].readonly));
    printf("kind %u: %llu drivers, %llu reads, %llu writes, %llu other requests\n", kind, (unsigned long long)n,
           (unsigned long long)disk_reads, (unsigned long long)disk_writes, (unsigned long long)disk_others);
    disk_reads = disk_writes = disk_others = 0;
    return enough;
}
static const struct drivers drivers = { .kinds = driver_kinds,
                                        .count = 200,
                                        .steps = 1000,
                                        .begin = driver_begin,
                                        .step = driver_step,
                                        .end = driver_end,
                                        .reached = driver_reached };
