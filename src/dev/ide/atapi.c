/* Owns the packets of an ATAPI CD-ROM drive that never plays music.
 *   I1  What is in buffer[pos, have) is still to be moved; [pos, end) in the present burst.          [burst_begin]
 * Enter at atapi_command(). ATA/ATAPI-6; SFF-8020i; MMC-3.
 * What lies in an open tray is not there for the guest; the host may take it away or put another in
 * (ide_change_medium).
 * NOT-HW: there is one session. */
#include "src/dev/ide/drive.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum { C_DEVICE_RESET = 0x08, C_DIAGNOSE = 0x90, C_PACKET = 0xa0, C_IDENTIFY_PACKET = 0xa1, C_CHECK_POWER = 0xe5,
    C_STANDBY_NOW = 0xe0, C_IDLE_NOW = 0xe1, C_SLEEP = 0xe6, C_FLUSH = 0xe7, C_IDENTIFY = 0xec, C_SET_FEATURES = 0xef };
enum {
    P_TEST_READY = 0x00, P_REQUEST_SENSE = 0x03, P_INQUIRY = 0x12, P_START_STOP = 0x1b, P_PREVENT = 0x1e,
    P_READ_CAPACITY = 0x25, P_READ_10 = 0x28, P_SEEK_10 = 0x2b, P_READ_TOC = 0x43, P_GET_CONFIGURATION = 0x46,
    P_GET_EVENT = 0x4a, P_DISC_INFO = 0x51, P_MODE_SENSE_10 = 0x5a, P_READ_12 = 0xa8, P_SET_SPEED = 0xbb,
    P_MECHANISM = 0xbd, P_READ_CD = 0xbe,
};
enum { SENSE_NONE = 0, SENSE_NOT_READY = 2, SENSE_MEDIUM = 3, SENSE_ILLEGAL = 5, SENSE_ATTENTION = 6 };
enum { ASC_READ_ERROR = 0x11, ASC_INVALID_OPCODE = 0x20, ASC_OUT_OF_RANGE = 0x21, ASC_INVALID_FIELD = 0x24,
    ASC_MEDIUM_CHANGED = 0x28, ASC_NO_MEDIUM = 0x3a, ASC_REMOVAL_PREVENTED = 0x53 };
enum { ASCQ_CLOSED = 1, ASCQ_OPEN = 2 };
/* clang-format on */
#define PACKET_LEN 12u
#define LEADOUT 0xaa
#define FRAMES_PER_SECOND 75u
#define PREGAP_FRAMES 150u

static u32 get_be(const u8 *p, unsigned n)
{
    u32 v = 0;
    for (unsigned i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}
static void put_be(u8 *p, u32 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> 8 * (n - 1 - i));
}

static u32 cd_sectors(const struct drive *d) { return (u32)(d->sectors / (CD_SECTOR / BLOCKDEV_SECTOR)); }

/* ---- ends ---- */

static void packet_end(struct drive *d)
{
    d->sense = SENSE_NONE;
    d->asc = d->ascq = 0;
    d->reg[R_COUNT] = REASON_COMMAND | REASON_TO_HOST;
    drive_end(d, 0);
}

static void packet_fail_as(struct drive *d, u8 sense, u8 asc, u8 ascq)
{
    d->sense = sense;
    d->asc = asc;
    d->ascq = ascq;
    d->reg[R_COUNT] = REASON_COMMAND | REASON_TO_HOST;
    drive_end(d, (u8)(sense << 4 | ERR_ABRT));
}
static void packet_fail(struct drive *d, u8 sense, u8 asc) { packet_fail_as(d, sense, asc, 0); }

/* ---- the medium ---- */

static bool medium_there(const struct drive *d) { return d->dev && !d->tray_open; }

/* False: it is not, and the packet has failed. */
static bool medium_ready(struct drive *d)
{
    if (medium_there(d)) return true;
    packet_fail_as(d, SENSE_NOT_READY, ASC_NO_MEDIUM, d->tray_open ? ASCQ_OPEN : ASCQ_CLOSED);
    return false;
}

/* ---- data to the guest ---- */

static void read_next(struct drive *d);

/* How many bytes the guest takes at a time, as it has said in LBA mid and high; even unless it is the last. */
static u32 byte_limit(const struct drive *d)
{
    u32 n = d->reg[R_MID] | (u32)d->reg[R_HIGH] << 8;
    if (n == 0xffff || !n) n = 0xfffe;
    return n > 1 ? n & ~1u : 2;
}

/* The next of buffer[pos, have) for the guest to read. The size goes where the limit was, which is kept in hob. */
static void burst_begin(struct drive *d)
{
    u32 n = d->have - d->pos, limit = d->hob[R_MID] | (u32)d->hob[R_HIGH] << 8;

    if (n > limit) n = limit;
    d->end = d->pos + n;
    d->reg[R_MID] = (u8)n;
    d->reg[R_HIGH] = (u8)(n >> 8);
    d->reg[R_COUNT] = REASON_TO_HOST;
    d->phase = PHASE_PIO_IN;
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
    channel_irq(d->ch, true);
}

/* What is in buffer[0, n) is the answer, of which the guest wants at most `want`. */
static void reply(struct drive *d, u32 n, u32 want)
{
    d->pos = 0;
    d->left = 0;
    d->have = n < want ? n : want;
    if (!d->have) {
        packet_end(d);
    } else if (d->feature & 1) {
        d->phase = PHASE_DMA_REPLY;
        d->status = ST_DRDY | ST_DSC | ST_DRQ;
        atapi_dma(d);
    } else {
        burst_begin(d);
    }
}

static void read_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;
    u32 n = DRIVE_BUFFER / CD_SECTOR;

    if (!drive_completed(d)) return;
    if (err) {
        packet_fail(d, SENSE_MEDIUM, ASC_READ_ERROR);
        return;
    }
    if (n > d->left) n = d->left;
    d->lba += n;
    d->left -= n;
    d->pos = 0;
    d->have = n * CD_SECTOR;
    burst_begin(d);
}

static void read_next(struct drive *d)
{
    u32 n = d->left < DRIVE_BUFFER / CD_SECTOR ? d->left : DRIVE_BUFFER / CD_SECTOR;
    if (!medium_ready(d)) return; /* it has been taken away in the middle of the command */
    drive_submit(d, BLOCKDEV_READ, d->lba * CD_SECTOR, (u64)n * CD_SECTOR, read_done);
}

void atapi_moved(struct drive *d)
{
    if (d->command == C_IDENTIFY_PACKET) {
        d->phase = PHASE_NONE;
        d->status = ST_DRDY | ST_DSC;
    } else if (d->pos < d->have) {
        burst_begin(d);
    } else if (d->left) {
        read_next(d);
    } else {
        packet_end(d);
    }
}

static void dma_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;

    drive_dma_unmap(d, true, !err);
    if (!drive_completed(d)) return;
    d->left = 0;
    if (err) packet_fail(d, SENSE_MEDIUM, ASC_READ_ERROR);
    else packet_end(d);
}

void atapi_dma(struct drive *d)
{
    u64 n = d->phase == PHASE_DMA_REPLY ? d->have : (u64)d->left * CD_SECTOR;
    int err;

    if (d->phase != PHASE_DMA_REPLY && d->phase != PHASE_DMA_IN) return;
    if (d->phase == PHASE_DMA_IN && !medium_ready(d)) return;
    err = drive_dma_map(d, n, true);
    if (err == -EAGAIN) return;
    if (err) {
        packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    if (d->phase == PHASE_DMA_IN) {
        drive_submit(d, BLOCKDEV_READ, d->lba * CD_SECTOR, n, dma_done);
        return;
    }
    for (unsigned i = 0, at = 0; i < d->niov; at += (unsigned)d->iov[i++].iov_len)
        memcpy(d->iov[i].iov_base, d->buffer + at, d->iov[i].iov_len);
    drive_dma_unmap(d, true, true);
    packet_end(d);
}

static void read_begin(struct drive *d, u32 lba, u32 n)
{
    if (lba > cd_sectors(d) || n > cd_sectors(d) - lba) {
        packet_fail(d, SENSE_ILLEGAL, ASC_OUT_OF_RANGE);
        return;
    }
    d->lba = lba;
    d->left = n;
    d->pos = d->have = d->end = 0;
    if (!n) {
        packet_end(d);
    } else if (d->feature & 1) {
        d->phase = PHASE_DMA_IN;
        d->status = ST_DRDY | ST_DSC | ST_DRQ;
        atapi_dma(d);
    } else {
        read_next(d);
    }
}

/* ---- answers ---- */

static u8 *answer(struct drive *d, u32 n)
{
    memset(d->buffer, 0, n);
    return d->buffer;
}

static void request_sense(struct drive *d, const u8 *p)
{
    u8 sense = d->sense, asc = d->asc, ascq = d->ascq, want = p[4];
    u8 *b = answer(d, 18);

    if (d->attention && !sense) {
        sense = SENSE_ATTENTION;
        asc = ASC_MEDIUM_CHANGED;
        ascq = 0;
        d->attention = false;
    }
    b[0] = 0x70;
    b[2] = sense;
    b[7] = 10;
    b[12] = asc;
    b[13] = ascq;
    d->sense = d->asc = d->ascq = 0;
    reply(d, 18, want);
}

static void inquiry(struct drive *d, const u8 *p)
{
    u8 want = p[4], *b = answer(d, 36);

    b[0] = 5; /* a CD-ROM drive */
    b[1] = 0x80;
    b[3] = 0x21;
    b[4] = 31;
    memcpy(b + 8, "TRNSVISRCD-ROM          1.0 ", 28);
    reply(d, 36, want);
}

/* Minutes, seconds and frames, or a block. */
static void put_position(u8 *p, bool msf, u32 lba)
{
    if (!msf) {
        put_be(p, lba, 4);
        return;
    }
    lba += PREGAP_FRAMES;
    put_be(p, lba / FRAMES_PER_SECOND / 60 << 16 | lba / FRAMES_PER_SECOND % 60 << 8 | lba % FRAMES_PER_SECOND, 4);
}

/* One data track, and the lead-out. */
static void read_toc(struct drive *d, const u8 *p)
{
    bool msf = p[1] & 2;
    u8 format = p[2] & 15 ? p[2] & 15 : p[9] >> 6, first = p[6];
    u32 want = get_be(p + 7, 2), n = 4;
    u8 *b = answer(d, 64);

    b[2] = b[3] = 1; /* first and last track, or session */
    if (format == 0 && first > 1 && first != LEADOUT) format = 15;
    switch (format) {
    case 0:
        for (unsigned i = first == LEADOUT; i < 2; i++, n += 8) {
            b[n + 1] = 0x14; /* data, position encoded */
            b[n + 2] = i ? LEADOUT : 1;
            put_position(b + n + 4, msf, i ? cd_sectors(d) : 0);
        }
        break;
    case 1: /* sessions: the first track of the last */
        b[n + 1] = 0x14;
        b[n + 2] = 1;
        put_position(b + n + 4, msf, 0);
        n += 8;
        break;
    default: packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_FIELD); return;
    }
    put_be(b, n - 2, 2);
    reply(d, n, want);
}

static void get_configuration(struct drive *d, const u8 *p)
{
    u32 want = get_be(p + 7, 2);
    u8 *b = answer(d, 20);

    put_be(b, 16, 4);
    put_be(b + 6, medium_there(d) ? 8 : 0, 2); /* current profile: CD-ROM */
    b[10] = 3;                                 /* feature 0: profiles; current, persistent */
    b[11] = 8;
    put_be(b + 12, 8, 2);
    b[14] = medium_there(d);
    put_be(b + 16, 0, 2);
    reply(d, 16, want);
}

static void mode_sense(struct drive *d, const u8 *p)
{
    u8 page = p[2] & 0x3f;
    u32 want = get_be(p + 7, 2);
    u8 *b = answer(d, 28);

    if (page != 0x2a && page != 0x3f) {
        packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be(b, 26, 2);
    b[2] = medium_there(d) ? 0x01 : d->tray_open ? 0x71 : 0x70; /* a data CD of 120 mm; the door is open; none */
    b[8] = 0x2a;
    b[9] = 18;
    b[14] = d->prevented ? 0x2b : 0x29; /* can lock, and has; can eject: a tray */
    put_be(b + 16, 706 * 4, 2);
    put_be(b + 22, 706 * 4, 2);
    reply(d, 28, want);
}

static void get_event(struct drive *d, const u8 *p)
{
    u32 want = get_be(p + 7, 2);
    u8 *b = answer(d, 8);

    if (!(p[1] & 1)) { /* asynchronous ones there are not */
        packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be(b, 6, 2);
    b[2] = 4; /* of the medium */
    b[3] = 0x10;
    b[4] = p[4] & 0x10 ? d->event : 0;
    b[5] = (u8)(medium_there(d) << 1 | d->tray_open);
    if (p[4] & 0x10) d->event = EVENT_NONE;
    reply(d, p[4] & 0x10 ? 8 : 4, want);
}

static void disc_info(struct drive *d, const u8 *p)
{
    u32 want = get_be(p + 7, 2);
    u8 *b = answer(d, 34);

    put_be(b, 32, 2);
    b[2] = 0x0e; /* complete */
    b[3] = b[4] = b[5] = b[6] = 1;
    b[7] = 0x20;
    memset(b + 16, 0xff, 8); /* no lead-in or lead-out to write */
    reply(d, 34, want);
}

static void read_capacity(struct drive *d)
{
    u8 *b = answer(d, 8);
    put_be(b, cd_sectors(d) - 1, 4);
    put_be(b + 4, CD_SECTOR, 4);
    reply(d, 8, 8);
}

static void read_cd(struct drive *d, const u8 *p)
{
    if ((p[9] & 0xf8) == 0x10) read_begin(d, get_be(p + 2, 4), get_be(p + 6, 3)); /* user data only */
    else if (!(p[9] & 0xf8)) packet_end(d);
    else packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_FIELD);
}

/* Load and eject are one bit each; spinning up and down is nothing to us. */
static void start_stop(struct drive *d, const u8 *p)
{
    bool load_eject = p[4] & 2, start = p[4] & 1;

    if (load_eject && !start && d->prevented) {
        packet_fail_as(d, SENSE_ILLEGAL, ASC_REMOVAL_PREVENTED, 2);
        return;
    }
    if (load_eject && d->tray_open == start) {
        d->tray_open = !start;
        d->event = start && d->dev ? EVENT_NEW : EVENT_REMOVAL;
        if (start) d->attention = d->dev;
    }
    packet_end(d);
}

static bool needs_medium(u8 opcode)
{
    static const u8 those[] = { P_TEST_READY, P_READ_CAPACITY, P_READ_10, P_SEEK_10,
                                P_READ_TOC,   P_DISC_INFO,     P_READ_12, P_READ_CD };
    return memchr(those, opcode, sizeof those);
}

void atapi_packet(struct drive *d)
{
    u8 p[PACKET_LEN];
    u32 limit = byte_limit(d);

    memcpy(p, d->buffer, sizeof p);
    d->hob[R_MID] = (u8)limit;
    d->hob[R_HIGH] = (u8)(limit >> 8);
    if (d->attention && p[0] != P_INQUIRY && p[0] != P_REQUEST_SENSE && p[0] != P_GET_CONFIGURATION
        && p[0] != P_GET_EVENT) {
        d->attention = false;
        packet_fail(d, SENSE_ATTENTION, ASC_MEDIUM_CHANGED);
        return;
    }
    if (needs_medium(p[0]) && !medium_ready(d)) return;
    switch (p[0]) {
    case P_START_STOP: start_stop(d, p); break;
    case P_PREVENT:
        d->prevented = p[4] & 1;
        packet_end(d);
        break;
    case P_TEST_READY:
    case P_SEEK_10:
    case P_SET_SPEED: packet_end(d); break;
    case P_REQUEST_SENSE: request_sense(d, p); break;
    case P_INQUIRY: inquiry(d, p); break;
    case P_READ_CAPACITY: read_capacity(d); break;
    case P_READ_10: read_begin(d, get_be(p + 2, 4), get_be(p + 7, 2)); break;
    case P_READ_12: read_begin(d, get_be(p + 2, 4), get_be(p + 6, 4)); break;
    case P_READ_CD: read_cd(d, p); break;
    case P_READ_TOC: read_toc(d, p); break;
    case P_GET_CONFIGURATION: get_configuration(d, p); break;
    case P_GET_EVENT: get_event(d, p); break;
    case P_DISC_INFO: disc_info(d, p); break;
    case P_MODE_SENSE_10: mode_sense(d, p); break;
    case P_MECHANISM:
        answer(d, 8);
        reply(d, 8, get_be(p + 8, 2));
        break;
    default: packet_fail(d, SENSE_ILLEGAL, ASC_INVALID_OPCODE);
    }
}

/* ---- the few commands beside packets ---- */

static void identify(struct drive *d)
{
    u8 *b = d->buffer;

    memset(b, 0, BLOCKDEV_SECTOR);
    put_word(b, 0, 0x85c0); /* ATAPI, CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
    put_text(b, 10, 10, d->serial ? d->serial : "TV00000002");
    put_text(b, 23, 4, "1.0");
    put_text(b, 27, 20, "TRANSVISOR CD-ROM");
    put_word(b, 48, 1);
    put_word(b, 49, 0x0f00);
    put_word(b, 53, 7);
    put_word(b, 63, 0x07 | ((d->dma_mode & 0xf8) == 0x20 ? 0x100u << (d->dma_mode & 7) : 0));
    put_word(b, 64, 3);
    for (unsigned i = 65; i <= 68; i++) put_word(b, i, 120);
    put_word(b, 80, 0x7e);
    put_word(b, 82, 0x4010); /* packets */
    put_word(b, 83, 0x4000);
    put_word(b, 84, 0x4000);
    put_word(b, 85, 0x4010);
    put_word(b, 87, 0x4000);
    put_word(b, 88, 0x07 | ((d->dma_mode & 0xf8) == 0x40 ? 0x100u << (d->dma_mode & 7) : 0));
    d->phase = PHASE_PIO_IN;
    d->left = 0;
    d->pos = 0;
    d->end = d->have = BLOCKDEV_SECTOR;
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
    channel_irq(d->ch, true);
}

static void packet_begin(struct drive *d)
{
    d->phase = PHASE_PACKET;
    d->pos = 0;
    d->end = d->have = PACKET_LEN;
    d->left = 0;
    d->reg[R_COUNT] = REASON_COMMAND;
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
}

void atapi_command(struct drive *d, u8 command)
{
    switch (command) {
    case C_PACKET: packet_begin(d); break;
    case C_IDENTIFY_PACKET: identify(d); break;
    case C_IDENTIFY: /* not for us, and the signature says who we are */
        ata_signature(d);
        drive_end(d, ERR_ABRT);
        break;
    case C_DEVICE_RESET:
        ata_signature(d);
        d->phase = PHASE_NONE;
        d->status = 0;
        d->error = 1;
        break;
    case C_SET_FEATURES:
        if (d->feature == 3 && d->reg[R_COUNT] & 0xe0) d->dma_mode = d->reg[R_COUNT];
        drive_end(d, 0);
        break;
    case C_CHECK_POWER:
        d->reg[R_COUNT] = 0xff;
        drive_end(d, 0);
        break;
    case C_STANDBY_NOW:
    case C_IDLE_NOW:
    case C_SLEEP:
    case C_FLUSH: drive_end(d, 0); break;
    default: drive_end(d, ERR_ABRT);
    }
}
