/* Owns a USB mass storage device: the bulk-only transport and the SCSI commands of a disk, in front of an image.
 *   I1  at <= len <= CHUNK: what is in buf and has not been given to the host, or to the disk.
 *   I2  sector and sectors, what is still to be moved, are within the disk.                            [move_begin]
 *   I3  The disk has at most one request. It has it beyond a reset: it is stale then, and no command begins before it
 *       is back.                                                                         [storage_cleared, storage_out]
 *   I4  A write is on disk before the host hears of it: hosts do not ask whether such devices have a cache. [disk_done]
 * Enter at storage_out(). USB Mass Storage Class, Bulk-Only Transport 1.0; SCSI Block Commands.
 * Where the host expects more than there is, it gets a short packet, and none is stalled. */
#include "core/blockdev.h"
#include "src/dev/usb/usb.h"

#include <errno.h>
#include <string.h>

enum { GET_MAX_LUN = 0xfe, BULK_RESET = 0xff };
enum { CBW_LEN = 31, CSW_LEN = 13, PACKET = 64 };
#define CBW_SIGNATURE 0x43425355u
#define CSW_SIGNATURE 0x53425355u
enum { CHUNK = 0x10000 };
enum { PASSED, FAILED, PHASE_ERROR };
enum stage { COMMAND, DATA_IN, DATA_OUT, STATUS, STAGES };
enum moves { NOTHING, FROM_DISK, TO_DISK, MOVES };
/* Sense keys and codes, key << 16 | ASC << 8 | ASCQ. */
enum {
    NO_SENSE = 0,
    READ_ERROR = 0x031100,
    WRITE_ERROR = 0x030c00,
    BAD_COMMAND = 0x052000,
    BAD_RANGE = 0x052100,
    BAD_FIELD = 0x052400,
    PROTECTED = 0x072700
};

struct usb_storage {
    struct usb_device usb;
    struct blockdev *disk;
    const char *serial, *name; /* name: in a snapshot */
    const char *strings[4];
    struct blockdev_req req;
    struct iovec iov;
    bool under_way, stale; /* never when it is saved */

    u8 stage, moves, status;
    bool zero;     /* the data ends with a packet that has none */
    u32 tag, want; /* bytes that the host still expects */
    u32 sense;
    u64 sector;
    u32 sectors;
    u32 len, at;
    u8 buf[CHUNK];
};

static const struct snap_field storage_fields[] = {
    USB_FIELDS(struct usb_storage, usb),
    SNAP(struct usb_storage, stage, .max = STAGES - 1),
    SNAP(struct usb_storage, moves, .max = MOVES - 1),
    SNAP(struct usb_storage, status, .max = PHASE_ERROR),
    SNAP(struct usb_storage, zero),
    SNAP(struct usb_storage, tag),
    SNAP(struct usb_storage, want),
    SNAP(struct usb_storage, sense, .max = 0xfffff),
    SNAP(struct usb_storage, sector),
    SNAP(struct usb_storage, sectors),
    SNAP(struct usb_storage, len, .max = CHUNK),
    SNAP(struct usb_storage, at, .max = CHUNK),
    SNAP_ARRAY(struct usb_storage, buf),
    { 0 },
};

/* clang-format off */
static const u8 device_words[] = { 18, 1, 0x10, 0x01, 0, 0, 0, 8, 0xf4, 0x1a, 0x03, 0x54, 0x00, 0x01, 1, 2, 3, 1 };
/* Configuration; interface: mass storage, SCSI, bulk only; endpoints 1 IN and 2 OUT. */
static const u8 config_words[] = {
    9, 2, 32, 0, 1, 1, 0, 0xc0, 0, 9, 4, 0, 0, 2, 8, 6, 0x50, 0,
    7, 5, 0x81, 2, PACKET, 0, 0, 7, 5, 0x02, 2, PACKET, 0, 0
};
/* clang-format on */

static u32 le32(const u8 *p) { return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }
static u32 be16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }
static u32 be32(const u8 *p) { return be16(p) << 16 | be16(p + 2); }
static void put_be(u8 *p, u32 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> 8 * (n - 1 - i));
}

/* ---- ends ---- */

static void fail(struct usb_storage *s, u32 sense)
{
    s->sense = sense;
    s->status = FAILED;
    s->moves = NOTHING;
    s->sectors = 0;
    s->len = s->at = 0;
}

/* There is no more data for the host; if it waits for some, it learns that from a packet that is not full. */
static void data_end(struct usb_storage *s)
{
    if (s->stage == DATA_IN && s->want && !(s->zero = s->len % PACKET == 0)) s->stage = STATUS;
    if (s->stage == DATA_IN && !s->want) s->stage = STATUS;
}

/* ---- the disk ---- */

static void disk_done(struct blockdev_req *r, int err);
static void disk_submit(struct usb_storage *s, enum blockdev_op op)
{
    const u64 len = op == BLOCKDEV_FLUSH ? 0 : s->len;
    s->iov = (struct iovec){ s->buf, len };
    s->req = (struct blockdev_req){ .op = op,
                                    .offset = op == BLOCKDEV_FLUSH ? 0 : s->sector * BLOCKDEV_SECTOR,
                                    .len = len,
                                    .iov = &s->iov,
                                    .niov = op == BLOCKDEV_FLUSH ? 0 : 1,
                                    .done = disk_done,
                                    .arg = s };
    s->under_way = true;
    blockdev_submit(s->disk, &s->req);
}

static u32 chunk(const struct usb_storage *s)
{
    return s->sectors < CHUNK / BLOCKDEV_SECTOR ? s->sectors * BLOCKDEV_SECTOR : CHUNK;
}

static void read_on(struct usb_storage *s)
{
    s->len = chunk(s);
    s->at = 0;
    disk_submit(s, BLOCKDEV_READ);
}

static void disk_done(struct blockdev_req *r, int err)
{
    struct usb_storage *s = r->arg;
    s->under_way = false;
    if (s->stale) {
        s->stale = false;
    } else if (err) {
        fail(s, r->op == BLOCKDEV_READ ? READ_ERROR : WRITE_ERROR);
        if (s->stage == DATA_IN) data_end(s);
        else if (!s->want) s->stage = STATUS;
    } else if (r->op == BLOCKDEV_FLUSH) {
        if (s->stage == DATA_OUT && !s->want) s->stage = STATUS;
    } else {
        s->sector += s->len / BLOCKDEV_SECTOR;
        s->sectors -= s->len / BLOCKDEV_SECTOR;
        if (r->op == BLOCKDEV_WRITE) {
            s->len = s->at = 0;
            if (!s->sectors) disk_submit(s, BLOCKDEV_FLUSH);
        }
    }
    usb_wake(&s->usb);
}

/* ---- commands ---- */

/* len bytes of buf for the host, as far as the command allows. */
static void answer(struct usb_storage *s, u32 len, u32 allowed)
{
    s->len = len < allowed ? len : allowed;
    s->at = 0;
}

static void move_begin(struct usb_storage *s, bool to_disk, u64 sector, u32 sectors, bool to_host)
{
    const u64 all = s->disk->size / BLOCKDEV_SECTOR;
    if (sector > all || sectors > all - sector) {
        fail(s, BAD_RANGE);
    } else if (to_disk && s->disk->readonly) {
        fail(s, PROTECTED);
    } else if ((u64)sectors * BLOCKDEV_SECTOR > s->want || (sectors && to_host == to_disk)) {
        s->status = PHASE_ERROR; /* the host expects something else than its command says */
    } else if (sectors) {
        s->sector = sector;
        s->sectors = sectors;
        s->moves = to_disk ? TO_DISK : FROM_DISK;
        if (!to_disk) read_on(s);
    }
}

static void inquiry(struct usb_storage *s, const u8 *cdb)
{
    u8 *p = s->buf;
    memset(p, 0, 64);
    if (cdb[1] & 1) {
        const u32 n = (u32)strnlen(s->serial, 20);
        if (cdb[2] != 0x00 && cdb[2] != 0x80) {
            fail(s, BAD_FIELD);
            return;
        }
        p[1] = cdb[2];
        p[3] = cdb[2] ? (u8)n : 2;
        if (cdb[2]) memcpy(p + 4, s->serial, n);
        else p[5] = 0x80;
        answer(s, 4u + p[3], be16(cdb + 3));
        return;
    }
    p[2] = 4; /* SPC-2 */
    p[3] = 2;
    p[4] = 31;
    memcpy(p + 8, "TRANSVISUSB Disk        1.0 ", 28);
    answer(s, 36, be16(cdb + 3));
}

static void sense_give(struct usb_storage *s, u32 allowed)
{
    memset(s->buf, 0, 18);
    s->buf[0] = 0x70;
    s->buf[2] = (u8)(s->sense >> 16);
    s->buf[7] = 10;
    s->buf[12] = (u8)(s->sense >> 8);
    s->buf[13] = (u8)s->sense;
    s->sense = NO_SENSE;
    answer(s, 18, allowed);
}

/* A header, and no pages: what counts is whether it may be written to. */
static void mode_give(struct usb_storage *s, bool ten, u32 allowed)
{
    const u8 protect = s->disk->readonly ? 0x80 : 0;
    memset(s->buf, 0, 8);
    s->buf[ten ? 1 : 0] = ten ? 6 : 3;
    s->buf[ten ? 3 : 2] = protect;
    answer(s, ten ? 8 : 4, allowed);
}

static void capacity_give(struct usb_storage *s, bool formats)
{
    const u64 sectors = s->disk->size / BLOCKDEV_SECTOR;
    u8 *p = s->buf;
    if (formats) {
        put_be(p, 8, 4);
        put_be(p + 4, sectors > UINT32_MAX ? UINT32_MAX : (u32)sectors, 4);
        put_be(p + 8, 2u << 24 | BLOCKDEV_SECTOR, 4);
        answer(s, 12, 12);
        return;
    }
    put_be(p, sectors > UINT32_MAX ? UINT32_MAX : (u32)sectors - 1, 4);
    put_be(p + 4, BLOCKDEV_SECTOR, 4);
    answer(s, 8, 8);
}

static void command(struct usb_storage *s, const u8 *cdb, bool to_host)
{
    switch (cdb[0]) {
    case 0x00: /* TEST UNIT READY */
    case 0x1b: /* START STOP UNIT */
    case 0x1e: /* PREVENT ALLOW MEDIUM REMOVAL */
    case 0x2f: /* VERIFY (10) */ break;
    case 0x03: sense_give(s, cdb[4]); break;
    case 0x12: inquiry(s, cdb); break;
    case 0x1a: mode_give(s, false, cdb[4]); break;
    case 0x5a: mode_give(s, true, be16(cdb + 7)); break;
    case 0x23: capacity_give(s, true); break;
    case 0x25: capacity_give(s, false); break;
    case 0x08: /* READ (6) */
    case 0x0a: move_begin(s, cdb[0] == 0x0a, be32(cdb) & 0x1fffff, cdb[4] ? cdb[4] : 256, to_host); break;
    case 0x28: /* READ (10) */
    case 0x2a: move_begin(s, cdb[0] == 0x2a, be32(cdb + 2), be16(cdb + 7), to_host); break;
    case 0xa8: /* READ (12) */
    case 0xaa: move_begin(s, cdb[0] == 0xaa, be32(cdb + 2), be32(cdb + 6), to_host); break;
    case 0x35: disk_submit(s, BLOCKDEV_FLUSH); break; /* SYNCHRONIZE CACHE (10) */
    default: fail(s, BAD_COMMAND);
    }
}

/* A command block, 5.1. One that is none stalls everything until the host resets (6.6.1). */
static int command_begin(struct usb_storage *s, const u8 *p, u32 len)
{
    if (len != CBW_LEN || le32(p) != CBW_SIGNATURE || p[13] || !p[14] || p[14] > 16) {
        usb_halt(&s->usb, 1, true);
        usb_halt(&s->usb, 2, false);
        return USB_STALL;
    }
    const bool to_host = p[12] & 0x80;
    u8 cdb[16] = { 0 };
    memcpy(cdb, p + 15, p[14]);
    s->tag = le32(p + 4);
    s->want = le32(p + 8);
    s->status = PASSED;
    s->moves = NOTHING;
    s->zero = false;
    s->sectors = s->len = s->at = 0;
    s->stage = !s->want ? STATUS : to_host ? DATA_IN : DATA_OUT;
    command(s, cdb, to_host);
    if (s->len > s->want) s->len = s->want; /* of an answer: reads were seen to fit */
    if (s->stage == DATA_IN && !s->len && !s->under_way) data_end(s);
    if (s->stage != DATA_IN && s->moves == NOTHING) s->len = 0;
    return (int)len;
}

/* ---- packets ---- */

/* What the host sends though nobody wants it is taken and forgotten. */
static int data_take(struct usb_storage *s, const u8 *data, u32 len)
{
    if (len > s->want) len = s->want;
    if (s->moves == TO_DISK) {
        u32 room = chunk(s) - s->len, n = len < room ? len : room;
        if (n < len) return USB_STALL; /* packets do not end where sectors do */
        memcpy(s->buf + s->len, data, n);
        s->len += n;
        s->want -= n;
        if (s->len == chunk(s)) disk_submit(s, BLOCKDEV_WRITE);
        return (int)n;
    }
    s->want -= len;
    if (!s->want) s->stage = STATUS;
    return (int)len;
}

static int storage_out(void *dev, unsigned endpoint, const u8 *data, u32 len)
{
    struct usb_storage *s = dev;
    if (endpoint != 2) return USB_STALL;
    if (s->under_way) return USB_NAK;
    if (s->stage == COMMAND) return command_begin(s, data, len);
    if (s->stage != DATA_OUT) return USB_STALL;
    if (!s->sectors) s->moves = NOTHING; /* all that was wanted is written */
    return data_take(s, data, len);
}

static int data_give(struct usb_storage *s, u8 *data, u32 room)
{
    u32 n = s->len - s->at < room ? s->len - s->at : room;
    if (s->zero) {
        s->zero = false;
        s->stage = STATUS;
        return 0;
    }
    memcpy(data, s->buf + s->at, n);
    s->at += n;
    s->want -= n;
    if (s->at < s->len) return (int)n;
    if (s->sectors) read_on(s);
    else data_end(s);
    return (int)n;
}

static int storage_in(void *dev, unsigned endpoint, u8 *data, u32 room)
{
    struct usb_storage *s = dev;
    u8 csw[CSW_LEN];
    if (endpoint != 1) return USB_STALL;
    if (s->under_way) return USB_NAK;
    if (s->stage == DATA_IN) return data_give(s, data, room);
    if (s->stage != STATUS) return USB_NAK;
    if (room < CSW_LEN) return USB_STALL;
    const u32 words[] = { CSW_SIGNATURE, s->tag, s->want };
    for (unsigned i = 0; i < 12; i++) csw[i] = (u8)(words[i / 4] >> 8 * (i % 4));
    csw[12] = s->status;
    memcpy(data, csw, CSW_LEN);
    s->stage = COMMAND;
    return CSW_LEN;
}

static int storage_control(void *dev, const struct usb_setup *r, u8 *data)
{
    struct usb_storage *s = dev;
    if ((r->type & USB_TYPE) != USB_TYPE_CLASS) return USB_STALL;
    if (r->request == GET_MAX_LUN) {
        data[0] = 0;
        return 1;
    }
    if (r->request != BULK_RESET) return USB_STALL;
    s->usb.ops->reset(s);
    return 0;
}

static void storage_cleared(void *dev)
{
    struct usb_storage *s = dev;
    s->stale |= s->under_way;
    s->stage = COMMAND;
    s->moves = NOTHING;
    s->status = PASSED;
    s->zero = false;
    s->want = s->sectors = s->len = s->at = 0;
}

static bool storage_waiting(const void *dev)
{
    const struct usb_storage *s = dev;
    return s->stage != COMMAND && !s->under_way;
}

/* ---- a board's part ---- */

static void storage_on_reset(void *chip);
static bool storage_check(const void *chip)
{
    const struct usb_storage *s = chip;
    const u64 all = s->disk->size / BLOCKDEV_SECTOR, left = (u64)s->sectors * BLOCKDEV_SECTOR;
    if (!usb_check(&s->usb) || s->at > s->len || s->sector > all || s->sectors > all - s->sector) return false;
    if (s->moves == TO_DISK) return s->sectors ? s->len < chunk(s) && s->len <= left : !s->len;
    return s->stage != DATA_IN || s->len - s->at + left <= s->want;
}

static const struct snap_table storage_table = { .name = "usb-storage",
                                                 .version = 1,
                                                 .size = sizeof(struct usb_storage),
                                                 .fields = storage_fields,
                                                 .reset = storage_on_reset,
                                                 .check = storage_check };

static void storage_on_reset(void *chip)
{
    struct usb_storage *s = chip;
    snap_reset(&storage_table, s);
    usb_bus_reset(&s->usb);
}

struct snap_part usb_storage_part(struct usb_storage *s) { return (struct snap_part){ s->name, &storage_table, s }; }
struct usb_device *usb_storage_device(struct usb_storage *s) { return &s->usb; }

int usb_storage_new(struct usb_storage **out, const char *name, struct blockdev *disk, const char *serial)
{
    static const struct usb_device_ops ops = { storage_cleared, storage_control, storage_in, storage_out,
                                               storage_waiting };
    struct usb_storage *s = calloc(1, sizeof *s);
    if (!s) return -ENOMEM;
    s->name = name;
    s->disk = disk;
    s->serial = serial;
    s->strings[0] = "transvisor";
    s->strings[1] = "USB Disk";
    s->strings[2] = serial;
    s->usb.ops = &ops;
    s->usb.dev = s;
    s->usb.words = (struct usb_words){ device_words, config_words, NULL, 0, s->strings };
    storage_on_reset(s);
    *out = s;
    return 0;
}

void usb_storage_free(struct usb_storage *s) { free(s); }
