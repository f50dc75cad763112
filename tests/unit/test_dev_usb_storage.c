/* A USB mass storage device behind the UHCI controller, as a driver sees it; the disk behind it is the test's. */
#include "core/blockdev.h"
#include "tests/unit/usb_driver.h"

#include <errno.h>

#define SECTORS 4096u

static struct blockdev disk;
static u8 image[SECTORS * 512];
static struct blockdev_req *pending;
static unsigned flushes, requests;
static bool by_hand; /* requests are done when the test says so */
static int error;
static struct usb_storage *stick;

static void finish(void)
{
    struct blockdev_req *r = pending;
    u64 at = r->offset;
    pending = NULL;
    flushes += r->op == BLOCKDEV_FLUSH;
    ck_assert_uint_le(at + r->len, sizeof image);
    for (unsigned i = 0; i < r->niov && !error; at += r->iov[i++].iov_len) {
        if (r->op == BLOCKDEV_READ) memcpy(r->iov[i].iov_base, image + at, r->iov[i].iov_len);
        if (r->op == BLOCKDEV_WRITE) memcpy(image + at, r->iov[i].iov_base, r->iov[i].iov_len);
    }
    r->done(r, error);
}

static void on_submit(void *be UNUSED, struct blockdev_req *r)
{
    ck_assert_ptr_null(pending);
    pending = r;
    requests++;
}

static void setup(void)
{
    static const struct blockdev_ops ops = { on_submit };
    board_new();
    disk = (struct blockdev){ .ops = &ops, .size = sizeof image };
    for (u32 i = 0; i < sizeof image; i++) image[i] = (u8)(i * 7 + i / 512);
    pending = NULL;
    flushes = requests = 0;
    by_hand = false;
    error = 0;
    ck_assert_int_eq(0, usb_storage_new(&stick, "usb-storage0", &disk, "SERIAL"));
    uhci_plug(uhci, 0, usb_storage_device(stick));
    driver_start();
    enumerate(0, 1);
}
static void teardown(void)
{
    board_free();
    usb_storage_free(stick);
}

/* One packet that is not refused for now; while it is, the disk works. */
static int move(u8 pid, u8 endpoint, void *data, u32 len)
{
    for (unsigned i = 0; i < 10; i++) {
        int n = packet(pid, 1, endpoint, data, len);
        if (n != NAK) return n;
        if (pending && !by_hand) finish();
    }
    return NAK;
}

static u32 tag = 0x1000;
static int command_send(const u8 *cdb, u8 n, u32 len, bool in)
{
    u8 cbw[31] = { 'U', 'S', 'B', 'C' };
    tag++;
    for (unsigned i = 0; i < 4; i++) {
        cbw[4 + i] = (u8)(tag >> 8 * i);
        cbw[8 + i] = (u8)(len >> 8 * i);
    }
    cbw[12] = in ? 0x80 : 0;
    cbw[14] = n;
    memcpy(cbw + 15, cdb, n);
    return move(OUT, 2, cbw, 31);
}

/* Status, and what was not moved. */
static u8 status(u32 *residue)
{
    u8 csw[13];
    ck_assert_int_eq(13, move(IN, 1, csw, 64));
    ck_assert_mem_eq("USBS", csw, 4);
    ck_assert_uint_eq(tag, (u32)csw[4] | (u32)csw[5] << 8 | (u32)csw[6] << 16 | (u32)csw[7] << 24);
    *residue = (u32)csw[8] | (u32)csw[9] << 8 | (u32)csw[10] << 16 | (u32)csw[11] << 24;
    return csw[12];
}

/* A whole command: its status; *moved: bytes. */
static u8 command(const u8 *cdb, u8 n, void *data, u32 len, bool in, u32 *moved)
{
    u32 residue;
    *moved = 0;
    ck_assert_int_eq(31, command_send(cdb, n, len, in));
    while (*moved < len) {
        u32 part = len - *moved < 64 ? len - *moved : 64;
        int got = move(in ? IN : OUT, in ? 1 : 2, (u8 *)data + *moved, part);
        ck_assert_int_ge(got, 0);
        *moved += (u32)got;
        if (got < (int)part) break;
    }
    u8 s = status(&residue);
    if (in) ck_assert_uint_eq(len - *moved, residue);
    return s;
}

static u32 sense(void)
{
    u8 d[18];
    u32 n;
    ck_assert_uint_eq(0, command((const u8[]){ 3, 0, 0, 0, 18, 0 }, 6, d, 18, true, &n));
    ck_assert_uint_eq(18, n);
    return (u32)d[2] << 16 | (u32)d[12] << 8 | d[13];
}

static void cdb10(u8 *cdb, u8 op, u32 sector, u16 n)
{
    const u8 c[10] = { op,    0, (u8)(sector >> 24), (u8)(sector >> 16), (u8)(sector >> 8), (u8)sector, 0, (u8)(n >> 8),
                       (u8)n, 0 };
    memcpy(cdb, c, 10);
}

START_TEST(it_says_what_it_is_and_how_large)
{
    u8 d[64], lun = 9;
    u32 n;
    ck_assert_int_eq(1, control(1, 0xa1, 0xfe, 0, 0, &lun, 1));
    ck_assert_uint_eq(0, lun);
    ck_assert_uint_eq(0, command((const u8[]){ 0x12, 0, 0, 0, 36, 0 }, 6, d, 36, true, &n));
    ck_assert_uint_eq(36, n);
    ck_assert_mem_eq("TRANSVISUSB Disk", d + 8, 16);
    ck_assert_uint_eq(0, command((const u8[]){ 0x12, 1, 0x80, 0, 64, 0 }, 6, d, 64, true, &n));
    ck_assert_uint_eq(10, n);
    ck_assert_mem_eq("SERIAL", d + 4, 6);
    ck_assert_uint_eq(0, command((const u8[]){ 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, d, 8, true, &n));
    ck_assert_mem_eq(((const u8[]){ 0, 0, 0x0f, 0xff, 0, 0, 2, 0 }), d, 8);
    ck_assert_uint_eq(0, command((const u8[]){ 0x1a, 0, 0x3f, 0, 192, 0 }, 6, d, 64, true, &n));
    ck_assert_uint_eq(4, n);
    ck_assert_uint_eq(0, d[2]);
    ck_assert_uint_eq(1, command((const u8[]){ 0xff, 0, 0, 0, 0, 0 }, 6, d, 64, true, &n));
    ck_assert_uint_eq(0, n);
    ck_assert_uint_eq(0x052000, sense());
    ck_assert_uint_eq(0, sense());
    ck_assert_uint_eq(0, command((const u8[]){ 0, 0, 0, 0, 0, 0 }, 6, d, 0, false, &n));
}
END_TEST

START_TEST(sectors_are_read_in_parts_and_the_host_waits_for_the_disk)
{
    static u8 d[200 * 512];
    u8 cdb[10];
    u32 n, left;
    cdb10(cdb, 0x28, 100, 200);
    ck_assert_uint_eq(0, command(cdb, 10, d, sizeof d, true, &n));
    ck_assert_uint_eq(sizeof d, n);
    ck_assert_mem_eq(image + 100 * 512, d, sizeof d);
    ck_assert_uint_eq(2, requests); /* 64 KiB and the rest */
    by_hand = true;
    cdb10(cdb, 0x28, 0, 1);
    ck_assert_int_eq(31, command_send(cdb, 10, 512, true));
    ck_assert_int_eq(NAK, packet(IN, 1, 1, d, 64));
    advance(3000 * MS);
    ck_assert_uint_gt(clock_next_deadline(clk) - now, 4 * MS); /* nobody looks all the time */
    finish();
    ck_assert_uint_le(clock_next_deadline(clk) - now, MS);
    for (unsigned i = 0; i < 8; i++) ck_assert_int_eq(64, packet(IN, 1, 1, d + 64 * i, 64));
    ck_assert_mem_eq(image, d, 512);
    ck_assert_uint_eq(0, status(&left));
}
END_TEST

START_TEST(what_is_written_is_on_disk_before_the_host_hears_of_it)
{
    static u8 d[160 * 512];
    u8 cdb[10], csw[13];
    u32 n, left;
    memset(d, 0x5a, sizeof d);
    cdb10(cdb, 0x2a, SECTORS - 160, 160);
    ck_assert_uint_eq(0, command(cdb, 10, d, sizeof d, false, &n));
    ck_assert_mem_eq(d, image + (SECTORS - 160) * 512, sizeof d);
    ck_assert_uint_eq(1, flushes);
    by_hand = true;
    cdb10(cdb, 0x2a, 0, 1);
    ck_assert_int_eq(31, command_send(cdb, 10, 512, false));
    for (unsigned i = 0; i < 8; i++) ck_assert_int_eq(64, packet(OUT, 1, 2, d, 64));
    for (unsigned i = 0; i < 2; i++) { /* the write, and its flush */
        ck_assert_int_eq(NAK, packet(IN, 1, 1, csw, 64));
        ck_assert_ptr_nonnull(pending);
        finish();
    }
    ck_assert_uint_eq(0, status(&left));
    ck_assert_uint_eq(2, flushes);
    by_hand = false;
    ck_assert_uint_eq(0, command((const u8[]){ 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, d, 0, false, &n));
    ck_assert_uint_eq(3, flushes);
}
END_TEST

START_TEST(what_cannot_be_done_says_why)
{
    static u8 d[8 * 512];
    u8 cdb[10];
    u32 n;
    cdb10(cdb, 0x28, SECTORS - 1, 2);
    ck_assert_uint_eq(1, command(cdb, 10, d, 1024, true, &n));
    ck_assert_uint_eq(0x052100, sense());
    cdb10(cdb, 0x2a, ~0u, 1);
    ck_assert_uint_eq(1, command(cdb, 10, d, 512, false, &n));
    ck_assert_uint_eq(512, n); /* taken, and forgotten */
    ck_assert_uint_eq(0x052100, sense());
    error = -EIO;
    cdb10(cdb, 0x28, 0, 8);
    ck_assert_uint_eq(1, command(cdb, 10, d, sizeof d, true, &n));
    ck_assert_uint_eq(0x031100, sense());
    cdb10(cdb, 0x2a, 0, 8);
    ck_assert_uint_eq(1, command(cdb, 10, d, sizeof d, false, &n));
    ck_assert_uint_eq(0x030c00, sense());
    error = 0;
    disk.readonly = true;
    ck_assert_uint_eq(1, command(cdb, 10, d, sizeof d, false, &n));
    ck_assert_uint_eq(0x072700, sense());
    ck_assert_uint_eq(0, command((const u8[]){ 0x1a, 0, 0x3f, 0, 192, 0 }, 6, d, 64, true, &n));
    ck_assert_uint_eq(0x80, d[2]);
    cdb10(cdb, 0x28, 0, 8); /* the host expects less, another way, more */
    ck_assert_uint_eq(2, command(cdb, 10, d, 512, true, &n));
    ck_assert_uint_eq(2, command(cdb, 10, d, sizeof d, false, &n));
    ck_assert_uint_eq(2, command(cdb, 10, d, 0, true, &n));
    cdb10(cdb, 0x28, 0, 1);
    ck_assert_uint_eq(0, command(cdb, 10, d, 1024, true, &n));
    ck_assert_uint_eq(512, n);
    ck_assert_mem_eq(image, d, 512);
}
END_TEST

START_TEST(a_block_that_is_no_command_stalls_until_a_reset)
{
    u8 junk[31] = { 1, 2, 3 }, csw[13];
    u32 n;
    ck_assert_int_eq(STALL, move(OUT, 2, junk, 31));
    ck_assert_int_eq(STALL, move(OUT, 2, junk, 31));
    ck_assert_int_eq(STALL, move(IN, 1, csw, 64));
    ck_assert_int_eq(0, control(1, 0x21, 0xff, 0, 0, NULL, 0));
    ck_assert_int_eq(0, control(1, 0x02, 1, 0, 0x81, NULL, 0));
    ck_assert_int_eq(0, control(1, 0x02, 1, 0, 0x02, NULL, 0));
    ck_assert_uint_eq(0, command((const u8[]){ 0, 0, 0, 0, 0, 0 }, 6, junk, 0, false, &n));
}
END_TEST

START_TEST(a_reset_does_not_wait_for_the_disk_but_the_next_command_does)
{
    u8 d[64], cdb[10];
    u32 n;
    by_hand = true;
    cdb10(cdb, 0x28, 0, 1);
    ck_assert_int_eq(31, command_send(cdb, 10, 512, true));
    enumerate(0, 1);
    ck_assert_int_eq(NAK, command_send((const u8[]){ 0, 0, 0, 0, 0, 0 }, 6, 0, false));
    finish();
    by_hand = false;
    ck_assert_uint_eq(0, command((const u8[]){ 0, 0, 0, 0, 0, 0 }, 6, d, 0, false, &n));
}
END_TEST

START_TEST(it_is_saved_and_loaded_in_the_middle_of_a_command)
{
    struct snap_part part = usb_storage_part(stick);
    struct snap_buf b = { 0 };
    u8 d[1024], cdb[10];
    char why[100];
    u32 left;
    cdb10(cdb, 0x28, 5, 2);
    ck_assert_int_eq(31, command_send(cdb, 10, 1024, true));
    for (unsigned i = 0; i < 5; i++) ck_assert_int_eq(64, move(IN, 1, d + 64 * i, 64));
    snap_save(&part, &b);
    ck_assert_int_eq(0, control(1, 0x21, 0xff, 0, 0, NULL, 0));
    for (size_t k = 0; k < 900; k++) { /* a file that lies */
        b.data[k] ^= 0x41;
        if (!snap_load(&part, b.data, b.len, why, sizeof why)) {
            u8 x[64];
            (void)packet(IN, 1, 1, x, 64);
            (void)packet(OUT, 1, 2, x, 64);
            if (pending) finish();
        }
        b.data[k] ^= 0x41;
    }
    ck_assert_int_eq(0, snap_load(&part, b.data, b.len, why, sizeof why));
    snap_buf_free(&b);
    for (unsigned i = 5; i < 16; i++) ck_assert_int_eq(64, move(IN, 1, d + 64 * i, 64));
    ck_assert_mem_eq(image + 5 * 512, d, 1024);
    ck_assert_uint_eq(0, status(&left));
    ck_assert_uint_eq(0, left);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("usb-storage");
    TCase *t = tcase_create("usb-storage");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, it_says_what_it_is_and_how_large);
    tcase_add_test(t, sectors_are_read_in_parts_and_the_host_waits_for_the_disk);
    tcase_add_test(t, what_is_written_is_on_disk_before_the_host_hears_of_it);
    tcase_add_test(t, what_cannot_be_done_says_why);
    tcase_add_test(t, a_block_that_is_no_command_stalls_until_a_reset);
    tcase_add_test(t, a_reset_does_not_wait_for_the_disk_but_the_next_command_does);
    tcase_add_test(t, it_is_saved_and_loaded_in_the_middle_of_a_command);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
