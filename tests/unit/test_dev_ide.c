/* IDE as a driver sees it: registers, PIO, bus master, packets; on a real bus, with disks that take their time. */
#include "core/blockdev.h"
#include "core/clock.h"
#include "core/snap.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#define DISK_SECTORS 40000u /* more than CHS with 16 heads reaches in one byte, less than a file is slow for */
#define CD_BLOCKS 300u
#define BM 0xc000
enum { ERR = 1, DRQ = 8, DRDY = 0x40, BSY = 0x80 };

/* A disk in memory whose requests are done when the test says so. */
struct memdisk {
    struct blockdev dev;
    u8 *data;
    struct blockdev_req *first;
    unsigned requests, durable;
    int fail; /* what requests are answered with */
    u64 bad;  /* a sector that cannot be read; 0: none */
};

static struct bus *bus;
static struct clock *clk; /* that loading of fields knows; no drive needs it */
static struct pci *pci;
static struct ide *ide;
static struct memdisk hd, cd;
static bool irq[2];
static unsigned rises;

static void mem_submit(void *be, struct blockdev_req *r)
{
    struct memdisk *m = be;
    ck_assert_ptr_null(m->first); /* a drive asks for one thing at a time */
    m->first = r;
    m->requests++;
    m->durable += r->durable;
}
static bool finish(struct memdisk *m)
{
    struct blockdev_req *r = m->first;
    u64 at = r ? r->offset : 0;
    if (!r) return false;
    m->first = NULL;
    ck_assert_uint_le(at + r->len, m->dev.size);
    u64 bytes = 0;
    for (unsigned i = 0; i < r->niov; at += r->iov[i++].iov_len) {
        bytes += r->iov[i].iov_len;
        if (m->fail) continue;
        if (r->op == BLOCKDEV_READ) memcpy(r->iov[i].iov_base, m->data + at, r->iov[i].iov_len);
        if (r->op == BLOCKDEV_WRITE) memcpy(m->data + at, r->iov[i].iov_base, r->iov[i].iov_len);
    }
    ck_assert_uint_eq(bytes, r->len);
    bool meets = m->bad && r->op == BLOCKDEV_READ && m->bad - r->offset / 512 < r->len / 512;
    r->done(r, meets ? -EIO : m->fail);
    return true;
}
static void memdisk_init(struct memdisk *m, u64 size)
{
    static const struct blockdev_ops ops = { mem_submit };
    *m = (struct memdisk){ .dev = { .ops = &ops, .be = m, .size = size }, .data = malloc(size) };
    ck_assert_ptr_nonnull(m->data);
    for (u64 i = 0; i < size; i += 4) *(u32 *)(m->data + i) = (u32)(i * 2654435761u);
}
static void on_irq(void *opaque UNUSED, unsigned n, bool level)
{
    rises += level && !irq[n];
    irq[n] = level;
}

static void setup(void)
{
    const struct irq_line none[16] = { 0 };
    ck_assert_int_eq(0, bus_new(&bus, 64 << 20));
    ck_assert_int_eq(0, clock_new(&clk));
    ck_assert_int_eq(0, pci_new(&pci, bus, none, none, (struct dev_event){ 0 }));
    memdisk_init(&hd, (u64)DISK_SECTORS * 512);
    memdisk_init(&cd, (u64)CD_BLOCKS * 2048);
    const struct ide_disk disk[IDE_DRIVES] = { [0] = { .dev = &hd.dev }, [2] = { .dev = &cd.dev, .cdrom = true } };
    ck_assert_int_eq(
        0, ide_new(&ide, bus, pci, (struct irq_line){ on_irq, NULL, 0 }, (struct irq_line){ on_irq, NULL, 1 }, disk));
    pci_firmware_setup(pci, 0xe0000000, BM);
    bus_out(bus, 0xcf8, 4, 0x80000904u);
    bus_out(bus, 0xcfc, 2, 5); /* I/O, bus master */
    rises = 0;
}
static void teardown(void)
{
    ide_free(ide);
    pci_free(pci);
    clock_free(clk);
    bus_free(bus);
    free(hd.data);
    free(cd.data);
}

static u8 in(u16 port) { return (u8)bus_in(bus, port, 1); }
static void out(u16 port, u8 v) { bus_out(bus, port, 1, v); }
static void lba28(u32 lba, u8 n)
{
    out(0x1f2, n);
    out(0x1f3, (u8)lba);
    out(0x1f4, (u8)(lba >> 8));
    out(0x1f5, (u8)(lba >> 16));
    out(0x1f6, (u8)(0xe0 | lba >> 24));
}
/* Moves n bytes by words and compares them with what is there. */
static void read_pio(u16 port, const u8 *want, unsigned n)
{
    for (unsigned i = 0; i < n; i += 2) {
        u16 v = (u16)bus_in(bus, port, 2);
        ck_assert_msg(v == (want[i] | want[i + 1] << 8), "byte %u: %04x, expected %02x%02x", i, v, want[i + 1],
                      want[i]);
    }
}

START_TEST(identify_tells_of_size_and_geometry)
{
    u16 w[256];
    out(0x1f6, 0xa0);
    out(0x1f7, 0xec);
    ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x3f6));
    ck_assert(irq[0]);
    for (unsigned i = 0; i < 256; i++) w[i] = (u16)bus_in(bus, 0x1f0, 2);
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
    ck_assert(!irq[0]);
    ck_assert_uint_eq(DISK_SECTORS, w[60] | (u32)w[61] << 16);
    ck_assert_uint_eq(DISK_SECTORS, w[100]);
    ck_assert_uint_eq(DISK_SECTORS / (16 * 63), w[1]);
    ck_assert_uint_eq('T' << 8 | 'R', w[27]);
    out(0x1f6, 0xb0); /* there is no second drive */
    ck_assert_uint_eq(0, in(0x1f7));
}
END_TEST

/* Words 82 and 85, bit 5. */
static unsigned write_cache(void)
{
    u16 w[256];
    out(0x1f6, 0xa0);
    out(0x1f7, 0xec);
    for (unsigned i = 0; i < 256; i++) w[i] = (u16)bus_in(bus, 0x1f0, 2);
    return (w[82] >> 5 & 1) << 1 | (w[85] >> 5 & 1);
}
static u8 set_feature(u8 feature)
{
    out(0x1f1, feature);
    out(0x1f7, 0xef);
    return in(0x1f7);
}
static void write_sector(void)
{
    lba28(100, 1);
    out(0x1f7, 0x30);
    for (unsigned i = 0; i < 256; i++) bus_out(bus, 0x1f0, 2, i);
    ck_assert(finish(&hd));
}

START_TEST(a_write_is_durable_while_the_write_cache_is_off)
{
    ck_assert_uint_eq(3, write_cache());
    write_sector();
    ck_assert_uint_eq(0, hd.durable);
    ck_assert(!(set_feature(0x82) & ERR));
    ck_assert_uint_eq(2, write_cache());
    write_sector();
    ck_assert_uint_eq(1, hd.durable);
    ck_assert(!(set_feature(0x02) & ERR));
    ck_assert_uint_eq(3, write_cache());
    write_sector();
    ck_assert_uint_eq(1, hd.durable);
}
END_TEST

START_TEST(a_disk_without_a_write_cache_says_so_and_cannot_switch_it_on)
{
    struct snap_part part[8];
    hd.dev.write_through = true;
    for (unsigned i = ide_parts(ide, part, 8); i--;) snap_part_reset(&part[i]);
    ck_assert_uint_eq(0, write_cache());
    ck_assert(set_feature(0x02) & ERR);
    ck_assert_uint_eq(0, write_cache());
    write_sector();
    ck_assert_uint_eq(1, hd.durable);
}
END_TEST

START_TEST(sectors_are_read_one_by_one_with_an_interrupt_for_each)
{
    lba28(100, 3);
    out(0x1f7, 0x20);
    ck_assert_uint_eq(BSY, in(0x1f7));
    ck_assert(!irq[0]);
    ck_assert(finish(&hd)); /* all of them at once */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(irq[0]);
        ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x1f7));
        ck_assert(!irq[0]);
        read_pio(0x1f0, hd.data + (100 + i) * 512, 512);
    }
    ck_assert_uint_eq(1, hd.requests);
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
    ck_assert_uint_eq(3, rises);
    ck_assert_uint_eq(102, in(0x1f3)); /* the last one */
}
END_TEST

START_TEST(what_is_before_a_bad_sector_is_read)
{
    hd.bad = 102;
    lba28(100, 4);
    out(0x1f7, 0x20);
    ck_assert(finish(&hd)); /* all four: in vain */
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(BSY, in(0x1f7));
        ck_assert(!irq[0]);
        ck_assert(finish(&hd));
        ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x1f7));
        read_pio(0x1f0, hd.data + (100 + i) * 512, 512);
    }
    ck_assert(finish(&hd));
    ck_assert(irq[0]);
    ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x1f7));
    ck_assert_uint_eq(0x40, in(0x1f1));
    ck_assert_uint_eq(102, in(0x1f3));
    ck_assert(!finish(&hd));
    hd.bad = 0;
    lba28(100, 4); /* that was of that command alone */
    out(0x1f7, 0x20);
    ck_assert(finish(&hd));
    for (unsigned i = 0; i < 4; i++) read_pio(0x1f0, hd.data + (100 + i) * 512, 512);
    ck_assert(!finish(&hd));
}
END_TEST

START_TEST(what_was_read_ahead_is_read_again_by_the_next_command)
{
    for (unsigned round = 0; round < 2; round++) {
        lba28(100, 200);
        out(0x1f7, 0x20);
        ck_assert(finish(&hd));
        for (unsigned i = 0; i < 200; i++) {
            if (i == 128) ck_assert(finish(&hd)); /* no more than 64 KiB at once */
            read_pio(0x1f0, hd.data + (100 + i) * 512, 512);
        }
        ck_assert(!finish(&hd));
        for (unsigned i = 0; i < 200 * 512; i++) hd.data[100 * 512 + i] ^= 0x5a; /* as by another drive's command */
    }
}
END_TEST

START_TEST(strings_are_as_many_accesses)
{
    u8 buffer[4096];
    ck_assert_uint_eq(0, bus_in_string(bus, 0x1f0, 2, buffer, 256)); /* it has nothing to read */
    ck_assert_uint_eq(0, bus_in_string(bus, 0x1f7, 1, buffer, 1));
    ck_assert_uint_eq(0, bus_in_string(bus, 0x80, 1, buffer, 1));
    lba28(100, 2);
    out(0x1f7, 0x20);
    ck_assert_uint_eq(0, bus_in_string(bus, 0x1f0, 2, buffer, 256)); /* it is busy */
    ck_assert(finish(&hd));
    ck_assert_uint_eq(100, bus_in_string(bus, 0x1f0, 2, buffer, 100));
    ck_assert_uint_eq(2, bus_in_string(bus, 0x1f0, 1, buffer + 200, 2));
    ck_assert_uint_eq(77, bus_in_string(bus, 0x1f0, 4, buffer + 202, 500)); /* the sector's rest, but for two bytes */
    ck_assert_uint_eq(0, bus_in_string(bus, 0x1f0, 4, buffer + 510, 1));
    ck_assert_uint_eq(1, bus_in_string(bus, 0x1f0, 2, buffer + 510, 1));
    ck_assert_int_eq(0, memcmp(buffer, hd.data + 100 * 512, 512));
    ck_assert_uint_eq(256, bus_in_string(bus, 0x1f0, 2, buffer, 257));
    ck_assert_int_eq(0, memcmp(buffer, hd.data + 101 * 512, 512));
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
    lba28(300, 2);
    ck_assert_uint_eq(0, bus_out_string(bus, 0x1f0, 2, buffer, 256)); /* it wants nothing */
    out(0x1f7, 0x30);
    for (unsigned i = 0; i < 2; i++) {
        memset(buffer, (int)(0x11 + i), 512);
        ck_assert_uint_eq(256, bus_out_string(bus, 0x1f0, 2, buffer, 300));
        ck_assert_uint_eq(0, bus_out_string(bus, 0x1f0, 2, buffer, 44));
        ck_assert(finish(&hd));
    }
    ck_assert_uint_eq(0x11, hd.data[300 * 512]);
    ck_assert_uint_eq(0x11, hd.data[300 * 512 + 511]);
    ck_assert_uint_eq(0x12, hd.data[301 * 512]);
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
}
END_TEST

START_TEST(a_block_of_read_multiple_has_one_interrupt)
{
    lba28(7, 0);
    out(0x1f2, 8);
    out(0x1f7, 0xc6);
    rises = 0;
    lba28(7, 11);
    out(0x1f7, 0xc4);
    ck_assert(finish(&hd));
    read_pio(0x1f0, hd.data + 7 * 512, 8 * 512);
    ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x1f7));
    ck_assert(!irq[0]);
    read_pio(0x1f0, hd.data + 15 * 512, 3 * 512);
    ck_assert_uint_eq(DRDY | 0x10, in(0x3f6));
    ck_assert_uint_eq(1, hd.requests);
}
END_TEST

START_TEST(what_is_written_by_pio_arrives_and_48_bits_address_it)
{
    u8 before = hd.data[0x8001 * 512 - 1];
    for (unsigned high = 2; high--;) { /* what was written first is the upper half */
        out(0x1f2, high ? 0 : 2);
        out(0x1f3, high ? 0 : 0x01);
        out(0x1f4, high ? 0 : 0x80);
        out(0x1f5, 0);
    }
    out(0x1f6, 0x40);
    out(0x1f7, 0x34);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x1f7));
        for (unsigned k = 0; k < 128; k++) bus_out(bus, 0x1f0, 4, 0x11223344 + i);
        ck_assert_uint_eq(BSY, in(0x1f7));
        ck_assert(finish(&hd));
        ck_assert(irq[0]);
    }
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
    ck_assert_uint_eq(0x11223344, *(u32 *)(hd.data + 0x8001 * 512));
    ck_assert_uint_eq(0x11223345, *(u32 *)(hd.data + 0x8002 * 512 + 508));
    ck_assert_uint_eq(before, hd.data[0x8001 * 512 - 1]);
}
END_TEST

START_TEST(chs_goes_by_the_translation_in_force)
{
    out(0x1f2, 17);
    out(0x1f6, 0xa3); /* 4 heads */
    out(0x1f7, 0x91);
    out(0x1f2, 1);
    out(0x1f3, 5);
    out(0x1f4, 0x2c);
    out(0x1f5, 1); /* cylinder 300 */
    out(0x1f6, 0xa2);
    out(0x1f7, 0x20);
    ck_assert(finish(&hd));
    read_pio(0x1f0, hd.data + ((300 * 4 + 2) * 17 + 4) * 512, 512);
}
END_TEST

START_TEST(beyond_the_end_there_is_nothing)
{
    static const u8 commands[] = { 0x20, 0x30, 0x40, 0xc8, 0xca };
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        lba28(DISK_SECTORS - 1, 2);
        out(0x1f7, commands[i]);
        ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x1f7));
        ck_assert_uint_eq(0x10, in(0x1f1)); /* IDNF */
        ck_assert_uint_eq(0, hd.requests);
    }
    out(0x1f7, 0xdd);
    ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x1f7));
    ck_assert_uint_eq(0x04, in(0x1f1)); /* ABRT */
}
END_TEST

START_TEST(a_host_that_cannot_read_is_an_error_of_the_medium)
{
    hd.fail = -EIO;
    lba28(9, 1);
    out(0x1f7, 0x20);
    ck_assert(finish(&hd));
    ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x1f7));
    ck_assert_uint_eq(0x40, in(0x1f1));
}
END_TEST

/* A list at 1000h: pieces of these lengths, each 64 KiB after the one before, from 100000h. */
static void list(const u32 *len, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        bus_mmio_write(bus, 0x1000 + i * 8, 4, 0x100000 + i * 0x10000);
        bus_mmio_write(bus, 0x1004 + i * 8, 4, (len[i] & 0xffff) | (i == n - 1 ? 0x80000000u : 0));
    }
    bus_out(bus, BM + 4, 4, 0x1000);
}

START_TEST(the_bus_master_moves_sectors_through_its_list)
{
    static const u32 len[] = { 100, 412, 1024 };
    u8 got[1536];
    list(len, 3);
    lba28(50, 3);
    out(0x1f7, 0xc8);
    ck_assert_uint_eq(0, hd.requests); /* it has not been started */
    out(BM, 9);
    ck_assert_uint_eq(1, hd.requests);
    ck_assert(finish(&hd));
    ck_assert(irq[0]);
    ck_assert_uint_eq(4, in(BM + 2) & 7); /* interrupt; not active */
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
    for (unsigned i = 0, at = 0; i < 3; at += len[i++]) bus_dma_read(bus, 0x100000 + i * 0x10000, got + at, len[i]);
    ck_assert_mem_eq(got, hd.data + 50 * 512, 1536);
    out(BM, 0);
    out(BM + 2, 4);
    ck_assert_uint_eq(0, in(BM + 2) & 7);

    /* The other way, and started first. */
    out(BM, 1);
    lba28(60, 3);
    out(0x1f7, 0xca);
    ck_assert(finish(&hd));
    ck_assert_mem_eq(hd.data + 60 * 512, got, 1536);
}
END_TEST

START_TEST(a_list_that_is_short_or_nowhere_ends_in_an_error)
{
    static const u32 len[] = { 512 };
    for (unsigned nowhere = 0; nowhere < 2; nowhere++) {
        list(len, 1);
        if (nowhere) bus_out(bus, BM + 4, 4, 0xe0001000);
        lba28(50, 2);
        out(0x1f7, 0xc8);
        out(BM, 9);
        ck_assert_uint_eq(0, hd.requests);
        ck_assert_uint_eq(2, in(BM + 2) & 3);
        ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x1f7));
        out(BM, 0);
        out(BM + 2, 6);
    }
}
END_TEST

START_TEST(a_reset_while_the_disk_works_waits_for_it)
{
    lba28(1, 1);
    out(0x1f7, 0x20);
    out(0x3f6, 4);
    ck_assert_uint_eq(BSY, in(0x3f6));
    out(0x3f6, 0);
    ck_assert_uint_eq(BSY, in(0x3f6));
    ck_assert(finish(&hd));
    ck_assert(!irq[0]);
    ck_assert_uint_eq(DRDY | 0x10, in(0x3f6));
    ck_assert_uint_eq(1, in(0x1f1));
    ck_assert_uint_eq(1, in(0x1f2));
    ck_assert_uint_eq(0, in(0x1f5));
}
END_TEST

/* Linux's driver asks IDETIM whether a channel is decoded, and leaves it alone if not. */
START_TEST(a_driver_finds_both_channels_decoded_before_and_after_a_reset)
{
    for (unsigned i = 0; i < 2; i++, pci_reset(pci)) {
        bus_out(bus, 0xcf8, 4, 0x80000940u);
        ck_assert_uint_eq(0x80008000, bus_in(bus, 0xcfc, 4));
    }
}
END_TEST

/* DD7 alone is pulled down (ATA/ATAPI-6): who waits for BSY to go is not kept waiting. */
START_TEST(a_cable_without_drives_reads_7f_and_keeps_nothing_and_is_never_busy)
{
    static const struct ide_disk none[IDE_DRIVES];
    struct ide *lone = NULL;
    struct bus *other;
    ck_assert_int_eq(0, bus_new(&other, 1 << 20));
    const struct irq_line wire[16] = { 0 };
    struct pci *slots;
    ck_assert_int_eq(0, pci_new(&slots, other, wire, wire, (struct dev_event){ 0 }));
    ck_assert_int_eq(0, ide_new(&lone, other, slots, (struct irq_line){ on_irq, NULL, 0 },
                                (struct irq_line){ on_irq, NULL, 1 }, none));
    for (unsigned c = 0; c < 2; c++) {
        const u16 base = c ? 0x170 : 0x1f0, control = c ? 0x376 : 0x3f6;
        for (unsigned device = 0xa0; device <= 0xb0; device += 0x10) {
            bus_out(other, base + 6, 1, device);
            for (u16 r = 1; r < 8; r++) {
                if (r < 6) bus_out(other, base + r, 1, 0x55);
                ck_assert_uint_eq(0x7f, bus_in(other, base + r, 1));
            }
            ck_assert_uint_eq(0x7f, bus_in(other, base, 1));
            ck_assert_uint_eq(0xff7f, bus_in(other, base, 2));
            ck_assert_uint_eq(0xff7fff7f, bus_in(other, base, 4));
            bus_out(other, base + 7, 1, 0xec);
            ck_assert_uint_eq(0x7f, bus_in(other, control, 1));
        }
        bus_out(other, control, 1, 4);
        ck_assert_uint_eq(0x7f, bus_in(other, control, 1));
        bus_out(other, control, 1, 0);
        ck_assert_uint_eq(0x7f, bus_in(other, control, 1));
    }
    ck_assert_uint_eq(0, rises);
    ide_free(lone);
    pci_free(slots);
    bus_free(other);
}
END_TEST

START_TEST(no_interrupt_comes_while_it_is_switched_off)
{
    out(0x3f6, 2);
    out(0x1f6, 0xa0);
    out(0x1f7, 0xec);
    ck_assert(!irq[0]);
    out(0x3f6, 0);
    ck_assert(irq[0]);
}
END_TEST

/* ---- packets ---- */

static void send(const u8 *packet, u16 limit, bool dma)
{
    out(0x171, dma);
    out(0x174, (u8)limit);
    out(0x175, (u8)(limit >> 8));
    out(0x176, 0xa0);
    out(0x177, 0xa0);
    ck_assert_uint_eq(1, in(0x172) & 3); /* it wants a command */
    for (unsigned i = 0; i < 12; i += 2) bus_out(bus, 0x170, 2, packet[i] | packet[i + 1] << 8);
}
static void cd_ready(void)
{
    static const u8 test_ready[12] = { 0 };
    send(test_ready, 0, false);
    ck_assert_uint_eq(0x64, in(0x171)); /* attention: a medium has come */
    ck_assert(in(0x177) & ERR);
    send(test_ready, 0, false);
    ck_assert_uint_eq(DRDY | 0x10, in(0x177));
}

START_TEST(a_cd_drive_says_so_by_its_signature)
{
    ck_assert_uint_eq(0x14, in(0x174));
    ck_assert_uint_eq(0xeb, in(0x175));
    out(0x176, 0xa0);
    out(0x177, 0xec);
    ck_assert(in(0x177) & ERR);
    out(0x177, 0xa1);
    ck_assert_uint_eq(0x85c0, bus_in(bus, 0x170, 2));
}
END_TEST

START_TEST(blocks_are_read_by_packet_in_bursts_of_the_size_that_was_asked_for)
{
    static const u8 read10[12] = { 0x28, 0, 0, 0, 0, 17, 0, 0, 5 };
    static const u16 limits[] = { 2048, 512, 0xfffe, 3000 };
    cd_ready();
    for (unsigned i = 0; i < ARRAY_LEN(limits); i++) {
        unsigned at = 0;
        send(read10, limits[i], false);
        while (at < 5 * 2048) {
            if (in(0x376) & BSY) ck_assert(finish(&cd));
            ck_assert_uint_eq(DRDY | 0x10 | DRQ, in(0x177));
            ck_assert_uint_eq(2, in(0x172) & 3);
            unsigned n = in(0x174) | in(0x175) << 8;
            ck_assert_uint_le(n, limits[i]);
            ck_assert_uint_gt(n, 0);
            read_pio(0x170, cd.data + 17 * 2048 + at, n);
            at += n;
        }
        ck_assert_uint_eq(5 * 2048, at);
        ck_assert_uint_eq(DRDY | 0x10, in(0x177));
        ck_assert_uint_eq(3, in(0x172) & 3);
    }
}
END_TEST

/* What REQUEST SENSE says: key, ASC, ASCQ. */
static u32 sense(void)
{
    static const u8 request_sense[12] = { 0x03, 0, 0, 0, 18 };
    u8 b[18];
    send(request_sense, 18, false);
    for (unsigned i = 0; i < 18; i += 2) {
        u16 w = (u16)bus_in(bus, 0x170, 2);
        b[i] = (u8)w;
        b[i + 1] = (u8)(w >> 8);
    }
    return (u32)(b[2] << 16 | b[12] << 8 | b[13]);
}
/* What GET EVENT STATUS says of the medium: event, and what is there. */
static u32 media_event(void)
{
    static const u8 get_event[12] = { 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 };
    send(get_event, 8, false);
    ck_assert_uint_eq(0x0600, bus_in(bus, 0x170, 2));
    ck_assert_uint_eq(0x1004, bus_in(bus, 0x170, 2));
    u32 v = bus_in(bus, 0x170, 2);
    bus_in(bus, 0x170, 2);
    return v;
}

START_TEST(a_guest_is_told_once_that_its_medium_is_gone_and_once_that_there_is_another)
{
    static const u8 test_ready[12] = { 0 }, capacity[12] = { 0x25 };
    struct memdisk other;
    cd_ready();
    ck_assert_uint_eq(0x0200, media_event());
    ide_change_medium(ide, 2, NULL);
    ck_assert_uint_eq(0x0003, media_event());
    ck_assert_uint_eq(0x0000, media_event());
    send(test_ready, 0, false);
    ck_assert_uint_eq(0x062800, sense());
    for (unsigned i = 0; i < 2; i++) {
        send(test_ready, 0, false);
        ck_assert_uint_eq(0x24, in(0x171));
        ck_assert_uint_eq(0x023a01, sense());
    }
    memdisk_init(&other, 7 * 2048);
    ide_change_medium(ide, 2, &other.dev);
    ck_assert_uint_eq(0x0202, media_event());
    send(test_ready, 0, false);
    ck_assert_uint_eq(0x062800, sense());
    send(capacity, 8, false);
    ck_assert_uint_eq(0, bus_in(bus, 0x170, 2));
    ck_assert_uint_eq(6 << 8, bus_in(bus, 0x170, 2)); /* the last block */
    free(other.data);
}
END_TEST

START_TEST(a_tray_opens_unless_that_is_prevented_and_what_lies_in_it_comes_back_with_it)
{
    static const u8 test_ready[12] = { 0 }, prevent[12] = { 0x1e, 0, 0, 0, 1 }, allow[12] = { 0x1e };
    static const u8 eject[12] = { 0x1b, 0, 0, 0, 2 }, load[12] = { 0x1b, 0, 0, 0, 3 };
    cd_ready();
    send(prevent, 0, false);
    ck_assert(ide_medium_prevented(ide, 2));
    send(eject, 0, false);
    ck_assert_uint_eq(0x055302, sense());
    ide_eject_request(ide, 2);
    ck_assert_uint_eq(0x0201, media_event());
    send(allow, 0, false);
    send(eject, 0, false);
    ck_assert(ide_tray_open(ide, 2));
    ck_assert_uint_eq(0x0103, media_event());
    send(test_ready, 0, false);
    ck_assert_uint_eq(0x023a02, sense());
    send(load, 0, false);
    send(test_ready, 0, false);
    ck_assert_uint_eq(0x062800, sense());
    send(test_ready, 0, false);
    ck_assert_uint_eq(DRDY | 0x10, in(0x177));
}
END_TEST

START_TEST(a_medium_that_is_taken_away_in_the_middle_of_a_read_ends_it_with_an_error)
{
    static const u8 read10[12] = { 0x28, 0, 0, 0, 0, 17, 0, 0, 9 };
    cd_ready();
    send(read10, 2048, false);
    ck_assert(finish(&cd));
    ide_change_medium(ide, 2, NULL);
    for (unsigned i = 0; i < 4; i++) { /* what the drive has already */
        ck_assert(in(0x177) & DRQ);
        read_pio(0x170, cd.data + (17 + i) * 2048, 2048);
    }
    ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x177));
    ck_assert_uint_eq(0x24, in(0x171));
    ide_change_medium(ide, 2, &cd.dev);
    cd_ready();
    send(read10, 2048, true); /* waits for the bus master */
    ide_change_medium(ide, 2, NULL);
    bus_mmio_write(bus, 0x1000, 4, 0x200000);
    bus_mmio_write(bus, 0x1004, 4, 9 * 2048 | 0x80000000u);
    bus_out(bus, BM + 12, 4, 0x1000);
    out(BM + 8, 9);
    ck_assert_uint_eq(DRDY | 0x10 | ERR, in(0x177));
    ck_assert_ptr_null(cd.first);
}
END_TEST

START_TEST(blocks_are_read_by_the_bus_master)
{
    static const u8 read12[12] = { 0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2 };
    static const u32 len[] = { 4096 };
    u8 got[4096];
    cd_ready();
    bus_mmio_write(bus, 0x1000, 4, 0x200000);
    bus_mmio_write(bus, 0x1004, 4, len[0] | 0x80000000u);
    bus_out(bus, BM + 12, 4, 0x1000);
    send(read12, 0, true);
    out(BM + 8, 9);
    ck_assert(finish(&cd));
    ck_assert(irq[1]);
    bus_dma_read(bus, 0x200000, got, sizeof got);
    ck_assert_mem_eq(got, cd.data + 3 * 2048, sizeof got);
}
END_TEST

START_TEST(capacity_toc_and_what_it_does_not_know)
{
    static const u8 capacity[12] = { 0x25 }, toc[12] = { 0x43, 2, 0, 0, 0, 0, 0, 0, 20 }, play[12] = { 0x45 };
    static const u8 far[12] = { 0x28, 0, 0, 0, CD_BLOCKS >> 8, CD_BLOCKS & 0xff, 0, 0, 1 };
    static const u8 last[8] = { 0, 0, (CD_BLOCKS - 1) >> 8, (CD_BLOCKS - 1) & 0xff, 0, 0, 8, 0 };
    static const u8 tracks[20] = {
        0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xaa, 0, 0, 0, (CD_BLOCKS + 150) / 75, (CD_BLOCKS + 150) % 75
    };
    cd_ready();
    send(capacity, 0xfffe, false);
    read_pio(0x170, last, 8);
    send(toc, 0xfffe, false);
    read_pio(0x170, tracks, 20);
    send(play, 0xfffe, false);
    ck_assert_uint_eq(0x54, in(0x171)); /* illegal request */
    send(far, 0xfffe, false);
    ck_assert_uint_eq(0x54, in(0x171));
    ck_assert_uint_eq(0, cd.requests);
}
END_TEST

/* ---- state ---- */

START_TEST(a_transfer_goes_on_after_a_load)
{
    struct snap_part part[8];
    unsigned n = ide_parts(ide, part, 8);
    struct snap_buf saved[8] = { 0 };
    ck_assert_uint_eq(4, n);
    out(0x1f2, 4);
    out(0x1f7, 0xc6);
    lba28(33, 6);
    out(0x1f7, 0xc4);
    ck_assert(finish(&hd));
    read_pio(0x1f0, hd.data + 33 * 512, 700);
    for (unsigned i = 0; i < n; i++) snap_save(&part[i], &saved[i]);
    for (unsigned i = 0; i < n; i++) snap_part_reset(&part[i]);
    ck_assert_uint_eq(DRDY | 0x10, in(0x3f6));
    for (unsigned i = 0; i < n; i++) {
        char why[100] = "";
        ck_assert_msg(!snap_load(&part[i], saved[i].data, saved[i].len, why, sizeof why), "%s: %s", part[i].name, why);
        snap_buf_free(&saved[i]);
    }
    read_pio(0x1f0, hd.data + 33 * 512 + 700, 4 * 512 - 700);
    ck_assert(finish(&hd));
    read_pio(0x1f0, hd.data + 37 * 512, 2 * 512);
    ck_assert_uint_eq(DRDY | 0x10, in(0x1f7));
}
END_TEST

/* Whatever a guest writes, requests stay within the disk (mem_submit, finish) and what was saved can be loaded. */
START_TEST(garbage_in_all_registers_does_no_harm)
{
    u64 x = 88172645463325252ull + (u64)_i;
    struct snap_part part[8];
    unsigned n = ide_parts(ide, part, 8);
    for (unsigned i = 0; i < 300000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        u16 port = (u16)((x >> 60 & 1 ? 0x1f0 : 0x170) + (x >> 8 & 7));
        unsigned kind = x >> 16 & 31, size = 1u << (x >> 24) % 3;
        u8 v = (u8)(x >> 32);
        static const u8 commands[] = { 0x20, 0x24, 0x30, 0xc4, 0xc5, 0xc8, 0xca, 0xa0,
                                       0xa0, 0xec, 0xa1, 0xe7, 0xc6, 0x91, 0x90 };
        static const u8 packets[] = { 0x28, 0xa8, 0xbe, 0x43, 0x12, 0x03, 0x46, 0x5a, 0x51, 0x4a };
        if (kind < 8) bus_out(bus, port, 1, v);
        else if (kind < 12) out((u16)((port & 0x1f8) | 7), commands[v % ARRAY_LEN(commands)]);
        else if (kind < 16)
            for (unsigned k = 0; k < 8; k++)
                bus_out(bus, (u16)(port & 0x1f8), size, (u32)(k ? v & 3 : packets[v % ARRAY_LEN(packets)]));
        else if (kind < 24)
            for (unsigned k = 0; k < 300; k++) (void)bus_in(bus, (u16)(port & 0x1f8), size);
        else if (kind < 26) bus_out(bus, (u16)(BM + (x >> 40 & 15)), 1, v);
        else if (kind == 26) bus_out(bus, (u16)(BM + 4 + (v & 8)), 4, (u32)(x >> 20) & 0x3ffffff);
        else if (kind == 27) out(v & 1 ? 0x3f6 : 0x376, v & 0x80 ? 0 : v & 0x86);
        else if (kind < 30) (void)(finish(&hd) + finish(&cd));
        else if (kind == 30) {
            out(0x176, 0xa0);
            out(0x177, 0xa0);
            for (unsigned k = 0; k < 6; k++) bus_out(bus, 0x170, 2, k ? (u32)(x >> k * 5) & 0x0300 : 0x28);
        } else (void)bus_in(bus, port, size);
        if (i % 1000) continue;
        while (finish(&hd) || finish(&cd)) {}
        for (unsigned k = 0; k < n; k++) {
            struct snap_buf saved = { 0 };
            char why[100] = "";
            snap_save(&part[k], &saved);
            ck_assert_msg(!snap_load(&part[k], saved.data, saved.len, why, sizeof why), "%s: %s", part[k].name, why);
            snap_buf_free(&saved);
        }
    }
    ck_assert_uint_gt(hd.requests, 100);
    ck_assert_uint_gt(cd.requests, 10);
    while (finish(&hd) || finish(&cd)) {}
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        identify_tells_of_size_and_geometry,
        a_write_is_durable_while_the_write_cache_is_off,
        a_disk_without_a_write_cache_says_so_and_cannot_switch_it_on,
        sectors_are_read_one_by_one_with_an_interrupt_for_each,
        what_is_before_a_bad_sector_is_read,
        what_was_read_ahead_is_read_again_by_the_next_command,
        strings_are_as_many_accesses,
        a_block_of_read_multiple_has_one_interrupt,
        what_is_written_by_pio_arrives_and_48_bits_address_it,
        chs_goes_by_the_translation_in_force,
        beyond_the_end_there_is_nothing,
        a_host_that_cannot_read_is_an_error_of_the_medium,
        the_bus_master_moves_sectors_through_its_list,
        a_list_that_is_short_or_nowhere_ends_in_an_error,
        a_reset_while_the_disk_works_waits_for_it,
        a_driver_finds_both_channels_decoded_before_and_after_a_reset,
        a_cable_without_drives_reads_7f_and_keeps_nothing_and_is_never_busy,
        no_interrupt_comes_while_it_is_switched_off,
        a_cd_drive_says_so_by_its_signature,
        blocks_are_read_by_packet_in_bursts_of_the_size_that_was_asked_for,
        a_guest_is_told_once_that_its_medium_is_gone_and_once_that_there_is_another,
        a_tray_opens_unless_that_is_prevented_and_what_lies_in_it_comes_back_with_it,
        a_medium_that_is_taken_away_in_the_middle_of_a_read_ends_it_with_an_error,
        blocks_are_read_by_the_bus_master,
        capacity_toc_and_what_it_does_not_know,
        a_transfer_goes_on_after_a_load,
    };
    Suite *s = suite_create("ide");
    TCase *t = tcase_create("ide");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    for (unsigned i = 0; i < ARRAY_LEN(tests); i++) tcase_add_test(t, tests[i]);
    tcase_add_loop_test(t, garbage_in_all_registers_does_no_harm, 0, 3);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
