/* The virtio transport, rings and block device as drivers see them, good ones and bad ones. */
#include "core/blockdev.h"
#include "tests/unit/virtio_driver.h"

#include <errno.h>

#define SECTORS 2048u
#define HEADER_AT 0x200000u
#define DATA_AT 0x210000u
#define STATUS_AT 0x220000u
#define TABLE_AT 0x230000u
#define MANY_AT 0x400000u
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
#define F_FLUSH (1ull << 9)

/* A disk in memory whose requests are done when the test says so. */
static struct blockdev disk;
static u8 *image;
static struct job *first;
static unsigned requests, flushes, zeroed, durable;
static int fail;
static struct virtio_blk *blk;

static void mem_submit(void *be UNUSED, struct blockdev_req *r)
{
    struct job **at = &first;
    while (*at) at = &(*at)->next;
    r->job.next = NULL;
    *at = &r->job;
    requests++;
}
static bool finish(void)
{
    if (!first) return false;
    struct blockdev_req *r = JOB_OF(first, struct blockdev_req);
    first = first->next;
    u64 at = r->offset;
    ck_assert_uint_le(at + r->len, disk.size);
    flushes += r->op == BLOCKDEV_FLUSH;
    durable += r->durable;
    zeroed += r->op == BLOCKDEV_ZERO;
    for (unsigned i = 0; i < r->niov && !fail; at += r->iov[i++].iov_len) {
        if (r->op == BLOCKDEV_READ) memcpy(r->iov[i].iov_base, image + at, r->iov[i].iov_len);
        if (r->op == BLOCKDEV_WRITE) memcpy(image + at, r->iov[i].iov_base, r->iov[i].iov_len);
    }
    r->done(r, fail);
    return true;
}

static void setup(void)
{
    static const struct blockdev_ops ops = { mem_submit };
    board_new();
    image = malloc(SECTORS * 512);
    ck_assert_ptr_nonnull(image);
    for (u32 i = 0; i < SECTORS * 512; i += 4) *(u32 *)(image + i) = i * 2654435761u;
    disk = (struct blockdev){ .ops = &ops, .size = SECTORS * 512 };
    first = NULL;
    requests = flushes = zeroed = durable = 0;
    fail = 0;
    ck_assert_int_eq(0, virtio_blk_new(&blk, bus, pci, SLOT, "virtio-blk0", &disk, "SERIAL"));
    board_start();
}
static void teardown(void)
{
    virtio_blk_free(blk);
    board_free();
    free(image);
}

static void header(u32 type, u64 sector)
{
    const struct {
        u32 type, reserved;
        u64 sector;
    } h = { type, 0, sector };
    put(HEADER_AT, &h, 16);
}
/* Descriptors i to i + 2: header, data, status. */
static void chain(unsigned i, u32 type, u64 sector, u32 len)
{
    header(type, sector);
    desc(0, i, HEADER_AT, 16, D_NEXT, (u16)(i + 1));
    desc(0, i + 1, DATA_AT, len, (u16)(D_NEXT | (type == T_IN || type == T_GET_ID ? D_WRITE : 0)), (u16)(i + 2));
    desc(0, i + 2, STATUS_AT, 1, D_WRITE, 0);
    offer(0, (u16)i);
}
static u8 answer(void)
{
    u8 s;
    get(STATUS_AT, &s, 1);
    return s;
}
static void request(u32 type, u64 sector, u32 len, u8 want)
{
    static const u8 none = 0xee;
    u16 before = used_idx(0);
    put(STATUS_AT, &none, 1);
    chain(0, type, sector, len);
    kick(0);
    while (finish()) {}
    ck_assert_uint_eq((u16)(before + 1), used_idx(0));
    ck_assert_uint_eq(want, answer());
    ck_assert_uint_eq(0, status() & S_NEEDS_RESET);
}

/* ---- the transport ---- */

START_TEST(a_driver_finds_a_transitional_function_with_five_capabilities_and_msix)
{
    unsigned types = 0;
    u8 msix = 0;
    ck_assert_uint_eq(0x10011af4, cfg_read(0));
    ck_assert_uint_eq(0x00021af4, cfg_read(0x2c));
    ck_assert_uint_eq(0, cfg_read(8) & 0xff); /* revision */
    ck_assert(cfg_read(4) >> 20 & 1);
    for (u8 at = (u8)cfg_read(0x34); at; at = (u8)(cfg_read(at) >> 8)) {
        u32 v = cfg_read(at);
        if ((v & 0xff) == 0x11) msix = at;
        else types |= 1u << (v >> 24);
    }
    ck_assert_uint_eq(0x3e, types);
    ck_assert_uint_ne(0, msix);
    ck_assert_uint_eq(1, cfg_read(msix) >> 16 & 0x7ff); /* two vectors */
}
END_TEST

START_TEST(features_that_are_not_offered_are_not_agreed_on)
{
    wr(20, 1, S_ACK | S_DRIVER);
    features(VERSION_1 | 1ull << 50);
    wr(20, 1, S_ACK | S_DRIVER | S_FEATURES_OK);
    ck_assert_uint_eq(S_ACK | S_DRIVER, status());
    features(0); /* a driver of before 1.0 behind the registers of 1.x */
    wr(20, 1, S_ACK | S_DRIVER | S_FEATURES_OK);
    ck_assert_uint_eq(S_ACK | S_DRIVER, status());
}
END_TEST

START_TEST(the_configuration_says_what_the_disk_is)
{
    ck_assert_uint_eq(SECTORS, rd(0x2000, 4));
    ck_assert_uint_eq(512, rd(0x2000 + 20, 4));
    ck_assert_uint_eq(510, rd(0x2000 + 12, 4)); /* pieces of a request: two less than the queue has entries */
    ck_assert_uint_eq(SECTORS, bus_in(bus, (u16)(io_bar + 20), 4));
}
END_TEST

START_TEST(the_window_in_configuration_space_reaches_the_registers)
{
    cfg_write(0x88, 4); /* BAR */
    cfg_write(0x8c, 0x2000);
    cfg_write(0x90, 4);
    ck_assert_uint_eq(SECTORS, cfg_read(0x94));
    cfg_write(0x8c, 20);
    cfg_write(0x90, 1);
    cfg_write(0x94, S_ACK);
    ck_assert_uint_eq(S_ACK, status());
    cfg_write(0x8c, 0xfffffffc); /* nowhere */
    cfg_write(0x90, 4);
    (void)cfg_read(0x94);
    cfg_write(0x90, 1u << 31);
    cfg_write(0x94, 1);
    (void)cfg_read(0x94);
}
END_TEST

static struct {
    unsigned n;
    u32 address, data;
} sent;
static void on_msi(void *opaque UNUSED, u32 address, u32 data)
{
    sent.n++;
    sent.address = address;
    sent.data = data;
}

START_TEST(msix_sends_the_vector_of_the_queue_and_keeps_what_is_masked)
{
    pci_on_msi(pci, on_msi, NULL);
    bus_mmio_write(bus, msix_bar + 16, 4, 0xfee01000);
    bus_mmio_write(bus, msix_bar + 24, 4, 0x4041);
    cfg_write(0x98, 0x80000000);
    driver_start(F_FLUSH, 0);
    wr(22, 2, 0);
    wr(26, 2, 1);
    ck_assert_uint_eq(1, rd(26, 2));
    wr(26, 2, 7); /* there are two */
    ck_assert_uint_eq(0xffff, rd(26, 2));
    wr(26, 2, 1);
    queue_enable(0, DESC_AT(0), AVAIL_AT(0), USED_AT(0));
    avail_idx[0] = 0;
    request(T_IN, 0, 512, 0);
    ck_assert_uint_eq(0, sent.n); /* masked */
    ck_assert_uint_eq(2, bus_mmio_read(bus, msix_bar + 0x800, 4));
    bus_mmio_write(bus, msix_bar + 28, 4, 0);
    ck_assert_uint_eq(1, sent.n);
    ck_assert_uint_eq(0xfee01000, sent.address);
    ck_assert_uint_eq(0x4041, sent.data);
    ck_assert_uint_eq(0, bus_mmio_read(bus, msix_bar + 0x800, 4));
    request(T_IN, 0, 512, 0);
    ck_assert_uint_eq(2, sent.n);
    ck_assert_uint_eq(0, rises); /* and INTx never */
}
END_TEST

/* ---- the disk ---- */

START_TEST(reads_and_writes_move_what_is_there)
{
    u8 buf[1024];
    driver_start(F_FLUSH, 1);
    request(T_IN, 7, 1024, 0);
    get(DATA_AT, buf, 1024);
    ck_assert_mem_eq(image + 7 * 512, buf, 1024);
    ck_assert_uint_eq(1, rises);
    ck_assert_uint_eq(1, isr());
    ck_assert(!intx);
    memset(buf, 0x5a, sizeof buf);
    put(DATA_AT, buf, 1024);
    request(T_OUT, SECTORS - 2, 1024, 0);
    ck_assert_mem_eq(buf, image + (SECTORS - 2) * 512, 1024);
    ck_assert_uint_eq(0, flushes);
    request(T_FLUSH, 0, 0, 0);
    ck_assert_uint_eq(1, flushes);
}
END_TEST

START_TEST(without_the_flush_feature_a_write_is_durable)
{
    driver_start(F_FLUSH, 1);
    request(T_OUT, 0, 512, 0);
    ck_assert_uint_eq(0, durable);
    driver_start(0, 1);
    request(T_OUT, 0, 512, 0);
    ck_assert_uint_eq(1, durable);
}
END_TEST

static u64 offered(void)
{
    u64 f = 0;
    for (unsigned i = 0; i < 2; i++) {
        wr(0, 4, i);
        f |= (u64)rd(4, 4) << 32 * i;
    }
    return f;
}

START_TEST(a_disk_without_a_cache_offers_no_flush)
{
    ck_assert(offered() & F_FLUSH);
    virtio_blk_free(blk);
    board_free();
    board_new();
    disk.write_through = true;
    ck_assert_int_eq(0, virtio_blk_new(&blk, bus, pci, SLOT, "virtio-blk0", &disk, "SERIAL"));
    board_start();
    ck_assert(!(offered() & F_FLUSH));
}
END_TEST

START_TEST(beyond_the_end_and_in_parts_of_sectors_there_is_nothing)
{
    driver_start(F_FLUSH, 1);
    request(T_IN, SECTORS - 1, 1024, 1);
    request(T_IN, ~0ull, 512, 1);
    request(T_IN, 1ull << 55, 512, 1); /* times 512 it would be 0 */
    request(T_OUT, 0, 100, 1);
    request(99, 0, 512, 2);
    ck_assert_uint_eq(0, requests);
    fail = -EIO;
    request(T_IN, 0, 512, 1);
}
END_TEST

START_TEST(a_range_is_discarded_or_zeroed_and_a_wrong_one_is_not)
{
    struct {
        u64 sector;
        u32 n, flags;
    } range = { 8, 4, 0 };
    driver_start(F_FLUSH | 1ull << 13 | 1ull << 14, 1);
    put(DATA_AT, &range, 16);
    request(T_DISCARD, 0, 16, 0);
    range.flags = 1;
    put(DATA_AT, &range, 16);
    request(T_ZEROES, 0, 16, 0);
    ck_assert_uint_eq(1, zeroed);
    request(T_DISCARD, 0, 16, 2); /* a flag that it does not have */
    range.n = SECTORS;
    put(DATA_AT, &range, 16);
    request(T_ZEROES, 0, 16, 1);
    request(T_ZEROES, 0, 32, 1);
    ck_assert_uint_eq(2, requests);
}
END_TEST

START_TEST(its_name_is_what_it_was_given)
{
    char id[20];
    driver_start(F_FLUSH, 1);
    request(T_GET_ID, 0, 20, 0);
    get(DATA_AT, id, 20);
    ck_assert_str_eq("SERIAL", id);
}
END_TEST

START_TEST(more_requests_than_there_is_room_for_wait_their_turn)
{
    driver_start(F_FLUSH, 1);
    header(T_IN, 0);
    for (unsigned i = 0; i < QUEUE_SIZE; i++) { /* each an indirect table would be; here they share the descriptors */
        desc(0, 0, HEADER_AT, 16, D_NEXT, 1);
        desc(0, 1, DATA_AT, 512, D_NEXT | D_WRITE, 2);
        desc(0, 2, STATUS_AT, 1, D_WRITE, 0);
        offer(0, 0);
    }
    kick(0);
    ck_assert_uint_eq(QUEUE_SIZE, requests);
    offer(0, 0); /* one more than the ring has, while all are under way */
    kick(0);
    ck_assert(status() & S_NEEDS_RESET);
    while (finish()) {}
}
END_TEST

START_TEST(before_1_0_it_works_by_ports_and_one_page_number)
{
    static const u8 zero[0x5000];
    u16 size;
    bus_out(bus, (u16)(io_bar + 18), 1, 0);
    bus_out(bus, (u16)(io_bar + 18), 1, S_ACK | S_DRIVER);
    bus_out(bus, (u16)(io_bar + 4), 4, (u32)F_FLUSH);
    bus_out(bus, (u16)(io_bar + 14), 2, 0);
    size = (u16)bus_in(bus, (u16)(io_bar + 12), 2);
    ck_assert_uint_eq(512, size);
    put(0x300000, zero, sizeof zero);
    bus_out(bus, (u16)(io_bar + 8), 4, 0x300);
    ck_assert_uint_eq(0x300, bus_in(bus, (u16)(io_bar + 8), 4));
    bus_out(bus, (u16)(io_bar + 18), 1, S_ACK | S_DRIVER | S_DRIVER_OK);
    header(T_IN, 3);
    desc_at(0x300000, 0, HEADER_AT, 16, D_NEXT, 1);
    desc_at(0x300000, 1, DATA_AT, 512, D_NEXT | D_WRITE, 2);
    desc_at(0x300000, 2, STATUS_AT, 1, D_WRITE, 0);
    put16(0x302000 + 4, 0);
    put16(0x302000 + 2, 1);
    bus_out(bus, (u16)(io_bar + 16), 2, 0);
    ck_assert(finish());
    ck_assert_uint_eq(1, get16(0x303000 + 2));
    ck_assert(intx);
    ck_assert_uint_eq(1, bus_in(bus, (u16)(io_bar + 19), 1));
    ck_assert(!intx);
    u8 buf[512];
    get(DATA_AT, buf, 512);
    ck_assert_mem_eq(image + 3 * 512, buf, 512);
}
END_TEST

/* ---- rings ---- */

START_TEST(indirect_tables_and_pieces_of_any_size_are_one_request)
{
    u8 buf[1024];
    driver_start(F_FLUSH | INDIRECT, 1);
    header(T_IN, 20);
    desc_at(TABLE_AT, 0, HEADER_AT, 5, D_NEXT, 4); /* a header in two, data in three pieces */
    desc_at(TABLE_AT, 4, HEADER_AT + 5, 11, D_NEXT, 1);
    desc_at(TABLE_AT, 1, DATA_AT, 1, D_NEXT | D_WRITE, 2);
    desc_at(TABLE_AT, 2, DATA_AT + 1, 700, D_NEXT | D_WRITE, 3);
    desc_at(TABLE_AT, 3, DATA_AT + 701, 324, D_WRITE, 0); /* the status is its last byte */
    desc(0, 9, TABLE_AT, 5 * 16, D_INDIRECT, 0);
    offer(0, 9);
    kick(0);
    ck_assert(finish());
    u32 id, len;
    used(0, 0, &id, &len);
    ck_assert_uint_eq(9, id);
    ck_assert_uint_eq(1025, len);
    get(DATA_AT, buf, 1024);
    ck_assert_mem_eq(image + 20 * 512, buf, 1024);
}
END_TEST

/* A read of so many sectors, a descriptor for each and header and status, in a table of n entries from entry 0 on. */
static void table(paddr at, unsigned sectors, u32 n)
{
    header(T_IN, 0);
    desc_at(at, 0, HEADER_AT, 16, D_NEXT, 1);
    for (unsigned i = 1; i <= sectors; i++)
        desc_at(at, i, MANY_AT + 512u * (i - 1), 512, D_NEXT | D_WRITE, (u16)(i + 1));
    desc_at(at, sectors + 1, STATUS_AT, 1, D_WRITE, 0);
    desc(0, 0, at, n * 16, D_INDIRECT, 0);
}
/* Whether the device takes it, as one request, and does it. */
static bool table_done(unsigned sectors)
{
    static const u8 none[512];
    static u8 buf[512];
    const unsigned before = requests;
    put(MANY_AT + 512 * (sectors - 1), none, sizeof none);
    offer(0, 0);
    kick(0);
    if (status() & S_NEEDS_RESET) return false;
    ck_assert_uint_eq(before + 1, requests);
    ck_assert(finish());
    get(MANY_AT + 512 * (sectors - 1), buf, sizeof buf);
    ck_assert_mem_eq(image + 512 * (sectors - 1), buf, sizeof buf);
    return true;
}

START_TEST(an_indirect_table_may_lie_anywhere_in_memory)
{
    driver_start(F_FLUSH | INDIRECT, 1);
    for (unsigned before = 16; before <= 64; before += 8) { /* across the end of a page, between entries and in one */
        table(TABLE_AT + 0x1000 - before, 4, 6);
        ck_assert(table_done(4));
    }
    table(TABLE_AT, 510, 512); /* all that a chain may have: two pages, aligned, */
    ck_assert(table_done(510));
    table(TABLE_AT + 0xff8, 510, 512); /* and a part of three */
    ck_assert(table_done(510));
    table(RAM - 6 * 16, 4, 6); /* the last bytes of memory */
    ck_assert(table_done(4));
}
END_TEST

START_TEST(of_an_indirect_table_only_what_the_chain_uses_must_be_there)
{
    driver_start(F_FLUSH | INDIRECT, 1);
    table(RAM - 6 * 16, 4, 7); /* one entry beyond memory */
    ck_assert(table_done(4));
    table(TABLE_AT, 4, 513); /* longer than any chain */
    ck_assert(table_done(4));
    table(TABLE_AT, 4, 1u << 20); /* as long as memory is, and not from its beginning on */
    ck_assert(table_done(4));
    table(TABLE_AT, 4, (1u << 28) - 1); /* the longest that can be said */
    ck_assert(table_done(4));
}
END_TEST

START_TEST(an_indirect_table_whose_chain_leaves_it_or_memory_is_refused)
{
    driver_start(F_FLUSH | INDIRECT, 1);
    table(TABLE_AT, 4, 6);
    switch (_i) {
    case 0: desc(0, 0, TABLE_AT, 5 * 16, D_INDIRECT, 0); break; /* the status is beyond its end */
    case 1: table(TABLE_AT, 511, 513); break;                   /* more entries than a chain may have, */
    case 2: table(TABLE_AT, 511, 1024); break;                  /* and the table has more yet */
    case 3: desc_at(TABLE_AT, 5, STATUS_AT, 1, D_WRITE | D_NEXT, 0xffff); break; /* and far away */
    case 4: /* the status is beyond memory; nothing of it is invented */
        for (unsigned i = 0; i < 5; i++) {
            u8 d[16];
            get(TABLE_AT + 16 * i, d, 16);
            put(RAM - 16 * (5 - i), d, 16);
        }
        desc(0, 0, RAM - 16 * 5, 6 * 16, D_INDIRECT, 0);
        break;
    case 5: desc(0, 0, TABLE_AT, 6 * 16 - 1, D_INDIRECT, 0); break;
    case 6: desc(0, 0, TABLE_AT, 0, D_INDIRECT, 0); break;
    case 7: desc(0, 0, ~0ull - 15, 6 * 16, D_INDIRECT, 0); break; /* around the end of addresses */
    }
    ck_assert(!table_done(4));
    ck_assert_uint_eq(0, requests);
}
END_TEST

START_TEST(with_event_indices_interrupts_come_when_they_are_asked_for)
{
    driver_start(F_FLUSH | EVENT_IDX, 1);
    put16(AVAIL_AT(0) + 4 + 2 * QUEUE_SIZE, 2); /* interrupt once entry 2 is used */
    for (unsigned i = 0; i < 2; i++) request(T_IN, 0, 512, 0);
    ck_assert_uint_eq(0, rises);
    ck_assert_uint_eq(2, get16(USED_AT(0) + 4 + 8 * QUEUE_SIZE)); /* tell me of the next */
    request(T_IN, 0, 512, 0);
    ck_assert_uint_eq(1, rises);
}
END_TEST

START_TEST(a_driver_that_wants_no_interrupts_gets_none)
{
    driver_start(F_FLUSH, 1);
    put16(AVAIL_AT(0), 1);
    request(T_IN, 0, 512, 0);
    ck_assert_uint_eq(0, rises);
}
END_TEST

/* Each breaks one rule; i is which. */
static void break_rule(int i)
{
    switch (i) {
    case 0: /* a loop */
        desc(0, 0, HEADER_AT, 16, D_NEXT, 1);
        desc(0, 1, DATA_AT, 512, D_NEXT, 0);
        break;
    case 1: desc(0, 0, HEADER_AT, 16, D_NEXT, QUEUE_SIZE); break; /* an index outside of the table */
    case 2: desc(0, 0, 0xf0000000, 16, D_NEXT, 2); break;         /* not RAM */
    case 3: desc(0, 0, ~0ull - 7, 16, D_NEXT, 2); break;          /* beyond the end of addresses */
    case 4: desc(0, 0, RAM - 8, 16, D_NEXT, 2); break;            /* only half of it is RAM */
    case 5: desc(0, 0, HEADER_AT, 15, D_NEXT, 2); break;          /* a short header */
    case 6: desc(0, 1, DATA_AT, 512, 0, 0); break;                /* nowhere to write the status */
    case 7: desc(0, 2, STATUS_AT, 1, 0, 0); break;                /* readable after writable */
    case 8: desc(0, 0, TABLE_AT, 24, D_INDIRECT, 0); break;       /* one and a half descriptors */
    case 9: desc(0, 0, TABLE_AT, 0, D_INDIRECT, 0); break;
    case 10: desc(0, 0, TABLE_AT, 16, D_INDIRECT | D_NEXT, 1); break;
    case 11: /* a table in a table */
        desc_at(TABLE_AT, 0, TABLE_AT, 16, D_INDIRECT, 0);
        desc(0, 0, TABLE_AT, 16, D_INDIRECT, 0);
        break;
    case 12: desc(0, 0, 0xf0000000, 16, D_INDIRECT, 0); break; /* a table that is not in RAM */
    case 13: put16(AVAIL_AT(0) + 4, QUEUE_SIZE); break;        /* a head outside of the table */
    case 14: put16(AVAIL_AT(0) + 2, QUEUE_SIZE + 1); break;    /* more than the ring has room for */
    case 15:                                                   /* a loop in an indirect table */
        desc_at(TABLE_AT, 0, DATA_AT, 0, D_NEXT, 1);
        desc_at(TABLE_AT, 1, DATA_AT, 0, D_NEXT, 0);
        desc(0, 0, TABLE_AT, 32, D_INDIRECT, 0);
        break;
    case 16: /* 4 GiB and more */
        for (u16 k = 0; k < QUEUE_SIZE; k++)
            desc(0, k, 0, 0xffffffff, (u16)(k < QUEUE_SIZE - 1 ? D_NEXT : 0), (u16)(k + 1));
        break;
    }
}
START_TEST(a_broken_rule_stops_the_device_until_it_is_reset)
{
    driver_start(F_FLUSH | INDIRECT, 1);
    chain(0, T_IN, 0, 512);
    break_rule(_i);
    kick(0);
    ck_assert(status() & S_NEEDS_RESET);
    ck_assert_uint_eq(0, requests);
    ck_assert(isr() & 2);
    kick(0);
    wr(20, 1, 0xf);
    ck_assert(status() & S_NEEDS_RESET);
    ck_assert_uint_eq(0, used_idx(0));
    driver_start(F_FLUSH, 1);
    request(T_IN, 0, 512, 0);
}
END_TEST

START_TEST(rings_that_are_not_in_memory_stop_the_device)
{
    const u64 nowhere[] = { 0xf0000000, ~0ull, ~0ull - 1, ~0ull - 3, RAM, 1ull << 63 };
    for (unsigned i = 0; i < ARRAY_LEN(nowhere) * 3; i++) {
        u64 at[3] = { DESC_AT(0), AVAIL_AT(0), USED_AT(0) };
        driver_start(F_FLUSH | EVENT_IDX, 1);
        driver_start(F_FLUSH | EVENT_IDX, 0);
        avail_idx[0] = 0;
        chain(0, T_IN, 0, 512);
        at[i % 3] = nowhere[i / 3];
        queue_enable(0, at[0], at[1], at[2]);
        kick(0);
        while (finish()) {}
        ck_assert_msg(status() & S_NEEDS_RESET, "part %u at %llx: status %02x", i % 3,
                      (unsigned long long)nowhere[i / 3], status());
    }
}
END_TEST

START_TEST(nothing_is_touched_before_the_driver_is_ready_or_without_bus_mastering)
{
    driver_start(F_FLUSH, 1);
    cfg_write(4, 3);
    chain(0, T_IN, 0, 512);
    kick(0);
    ck_assert_uint_eq(0, requests);
    cfg_write(4, 7); /* and then it goes on */
    ck_assert_uint_eq(1, requests);
    ck_assert(finish());
    wr(20, 1, 0);
    kick(0);
    ck_assert_uint_eq(1, requests);
}
END_TEST

START_TEST(a_reset_waits_for_what_is_under_way_and_gives_nothing_back)
{
    driver_start(F_FLUSH, 1);
    chain(0, T_IN, 0, 512);
    kick(0);
    wr(20, 1, 0);
    ck_assert_uint_ne(0, status());
    ck_assert(finish());
    ck_assert_uint_eq(0, status());
    ck_assert_uint_eq(0, used_idx(0));
    ck_assert(!intx);
    driver_start(F_FLUSH, 1);
    request(T_IN, 1, 512, 0);
}
END_TEST

START_TEST(it_goes_on_after_save_and_load)
{
    const struct snap_part part = virtio_blk_part(blk);
    struct snap_buf a = { 0 }, b = { 0 };
    char why[200];
    driver_start(F_FLUSH | EVENT_IDX, 1);
    put16(AVAIL_AT(0) + 4 + 2 * QUEUE_SIZE, 1);
    request(T_IN, 0, 512, 0);
    snap_save(&part, &a);
    wr(20, 1, 0);
    ck_assert_int_eq(0, snap_load(&part, a.data, a.len, why, sizeof why));
    snap_save(&part, &b);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    request(T_IN, 5, 512, 0);
    ck_assert_uint_eq(1, rises);
    snap_buf_free(&a);
    snap_buf_free(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("virtio");
    TCase *t = tcase_create("virtio");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_driver_finds_a_transitional_function_with_five_capabilities_and_msix);
    tcase_add_test(t, features_that_are_not_offered_are_not_agreed_on);
    tcase_add_test(t, the_configuration_says_what_the_disk_is);
    tcase_add_test(t, the_window_in_configuration_space_reaches_the_registers);
    tcase_add_test(t, msix_sends_the_vector_of_the_queue_and_keeps_what_is_masked);
    tcase_add_test(t, reads_and_writes_move_what_is_there);
    tcase_add_test(t, without_the_flush_feature_a_write_is_durable);
    tcase_add_test(t, a_disk_without_a_cache_offers_no_flush);
    tcase_add_test(t, beyond_the_end_and_in_parts_of_sectors_there_is_nothing);
    tcase_add_test(t, a_range_is_discarded_or_zeroed_and_a_wrong_one_is_not);
    tcase_add_test(t, its_name_is_what_it_was_given);
    tcase_add_test(t, more_requests_than_there_is_room_for_wait_their_turn);
    tcase_add_test(t, before_1_0_it_works_by_ports_and_one_page_number);
    tcase_add_test(t, indirect_tables_and_pieces_of_any_size_are_one_request);
    tcase_add_test(t, an_indirect_table_may_lie_anywhere_in_memory);
    tcase_add_test(t, of_an_indirect_table_only_what_the_chain_uses_must_be_there);
    tcase_add_loop_test(t, an_indirect_table_whose_chain_leaves_it_or_memory_is_refused, 0, 8);
    tcase_add_test(t, with_event_indices_interrupts_come_when_they_are_asked_for);
    tcase_add_test(t, a_driver_that_wants_no_interrupts_gets_none);
    tcase_add_loop_test(t, a_broken_rule_stops_the_device_until_it_is_reset, 0, 17);
    tcase_add_test(t, rings_that_are_not_in_memory_stop_the_device);
    tcase_add_test(t, nothing_is_touched_before_the_driver_is_ready_or_without_bus_mastering);
    tcase_add_test(t, a_reset_waits_for_what_is_under_way_and_gives_nothing_back);
    tcase_add_test(t, it_goes_on_after_save_and_load);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
