/* Owns the floppy disk controller and its drives.
 *   I1  phase says what the data register is good for, and MSR says phase.                             [status_main]
 *   I2  One request is with the disk at most. A reset abandons it; a command that needs the disk, and the buffer that
 *       the request still has, then waits.                                                                 [execute]
 *   I3  The irq wire is: wanted, and the gate of the digital output register open.                     [irq_update]
 * Enter at data_write(), execute(), disk_done(). Intel 82077AA, 290166.
 * NOT-HW: nothing turns and nothing steps, so seeks are done at once; there is one format on a disk, that of its size,
 * with sectors of 512 bytes; SCAN commands are invalid; without a disk a command ends, where a controller waits for an
 * index hole for ever; an image that is shorter than its format ends in blank sectors that cannot be written. */
#include "src/dev/isa/byte_ports.h"
#include "core/blockdev.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

#define BASE 0x3f0
#define DMA_CHANNEL 2
#define SECTOR BLOCKDEV_SECTOR
#define SIZE_CODE 2 /* N of such sectors: 128 << N */
#define TRACK_MAX 36u
#define USUAL (1440u << 10)
#define BUFFER (2 * TRACK_MAX * SECTOR) /* both sides of a track */

enum { R_DOR = 2, R_TDR = 3, R_MSR_DSR = 4, R_DATA = 5, R_DIR_CCR = 7 };
enum { DOR_DRIVE = 0x03, DOR_NORESET = 0x04, DOR_GATE = 0x08, DOR_MOTOR = 0x10 };
enum { MSR_BUSY = 0x10, MSR_NDMA = 0x20, MSR_DIO = 0x40, MSR_RQM = 0x80 };
enum { DSR_RATE = 0x03, DSR_RESET = 0x80, DIR_CHANGE = 0x80 };
enum { ST0_ABNORMAL = 0x40, ST0_INVALID = 0x80, ST0_POLL = 0xc0, ST0_SEEK_END = 0x20, ST0_CHECK = 0x10 };
enum {
    ST1_END = 0x80,
    ST1_CRC = 0x20,
    ST1_OVERRUN = 0x10,
    ST1_NO_DATA = 0x04,
    ST1_PROTECTED = 0x02,
    ST1_NO_MARK = 0x01
};
enum { ST2_CRC = 0x20, ST2_CYLINDER = 0x10 };
enum { ST3_PROTECTED = 0x40, ST3_READY = 0x20, ST3_TRACK0 = 0x10, ST3_TWO_SIDES = 0x08 };
enum { CONFIG_IMPLIED_SEEK = 0x40 };
enum { OPT_MT = 0x80 };

enum phase { IDLE, COMMAND, BUSY, READING, WRITING, RESULT, PHASE_LAST = RESULT };

/* The bits of an opcode that choose a command, and those that are options. */
enum command {
    READ_TRACK,
    SPECIFY,
    SENSE_DRIVE,
    WRITE,
    READ,
    RECALIBRATE,
    SENSE_INTERRUPT,
    WRITE_DELETED,
    READ_ID,
    READ_DELETED,
    FORMAT,
    DUMPREG,
    SEEK,
    VERSION,
    PERPENDICULAR,
    CONFIGURE,
    LOCK,
    VERIFY,
    PART_ID,
    SEEK_OUT,
    SEEK_IN,
    COMMANDS
};
static const struct {
    u8 code, options, len;
} commands[COMMANDS] = {
    [READ_TRACK] = { 0x02, 0x40, 9 },
    [SPECIFY] = { 0x03, 0, 3 },
    [SENSE_DRIVE] = { 0x04, 0, 2 },
    [WRITE] = { 0x05, 0xc0, 9 },
    [READ] = { 0x06, 0xe0, 9 },
    [RECALIBRATE] = { 0x07, 0, 2 },
    [SENSE_INTERRUPT] = { 0x08, 0, 1 },
    [WRITE_DELETED] = { 0x09, 0xc0, 9 },
    [READ_ID] = { 0x0a, 0x40, 2 },
    [READ_DELETED] = { 0x0c, 0xe0, 9 },
    [FORMAT] = { 0x0d, 0x40, 6 },
    [DUMPREG] = { 0x0e, 0, 1 },
    [SEEK] = { 0x0f, 0, 3 },
    [VERSION] = { 0x10, 0, 1 },
    [PERPENDICULAR] = { 0x12, 0, 2 },
    [CONFIGURE] = { 0x13, 0, 4 },
    [LOCK] = { 0x14, 0x80, 1 },
    [VERIFY] = { 0x16, 0xe0, 9 },
    [PART_ID] = { 0x18, 0, 1 },
    [SEEK_OUT] = { 0x8f, 0, 3 },
    [SEEK_IN] = { 0xcf, 0, 3 },
};

/* Bytes, tracks, heads, sectors of a track, drive. */
static const struct fdc_format formats[] = {
    { 160 << 10, 40, 1, 8, 1 },   { 180 << 10, 40, 1, 9, 1 },   { 320 << 10, 40, 2, 8, 1 },
    { 360 << 10, 40, 2, 9, 1 },   { 720 << 10, 80, 2, 9, 3 },   { 800 << 10, 80, 2, 10, 4 },
    { 1200 << 10, 80, 2, 15, 2 }, { 1440 << 10, 80, 2, 18, 4 }, { 1680 << 10, 80, 2, 21, 4 },
    { 1722 << 10, 82, 2, 21, 4 }, { 2880 << 10, 80, 2, 36, 5 },
};

struct fdc_drive {
    bool there;                      /* there is a drive */
    struct blockdev *disk;           /* NULL: none is in it */
    const struct fdc_format *format; /* the disk's; NULL: none */
    bool changed;                    /* since the heads were stepped last with a disk in it: its line says so */
    u8 track;                        /* where the heads are */
    u8 ended;                        /* a seek has: its ST0 for SENSE INTERRUPT; 0: none */
    u8 rotor;                        /* the sector that READ ID saw last */
};
struct fdc {
    struct fdc_drive drive[FDC_DRIVES];
    struct dma8237 *dma;
    struct irq_line irq;
    u8 dor, rate, phase;
    bool intr;
    u8 polls;        /* of the four drives, SENSE INTERRUPT has still to tell of after a reset */
    u8 cmd[9], have; /* the command, and how much of it is there */
    u8 result[10], results, taken;
    u8 specify[2], config[3], perpendicular;
    bool locked;
    /* The transfer. */
    u8 buf[BUFFER];
    u32 pos, end;              /* of buf: what passes through the data register */
    u8 cylinder, head, sector; /* the next one */
    u8 st1;                    /* how it ends, if terminal count does not come first */
    bool tc;                   /* it came */
    u64 format_mask;           /* sectors still to be formatted; bit n: sector n + 1 */
    /* The request. */
    struct blockdev_req req;
    struct iovec iov;
    bool at_work, abandoned, waiting;
};

static const struct snap_field fdc_fields[] = {
    SNAP_COLUMN(struct fdc, drive, track),
    SNAP_COLUMN(struct fdc, drive, ended),
    SNAP_COLUMN(struct fdc, drive, rotor),
    SNAP(struct fdc, dor),
    SNAP(struct fdc, rate, .reset = 2, .max = DSR_RATE),
    SNAP(struct fdc, phase, .max = PHASE_LAST),
    SNAP(struct fdc, intr),
    SNAP(struct fdc, polls, .max = 4),
    SNAP_ARRAY(struct fdc, cmd),
    SNAP(struct fdc, have, .max = 9),
    SNAP_ARRAY(struct fdc, result),
    SNAP(struct fdc, results, .max = 10),
    SNAP(struct fdc, taken, .max = 10),
    SNAP_ARRAY(struct fdc, specify),
    SNAP_ARRAY(struct fdc, config),
    SNAP(struct fdc, perpendicular),
    SNAP(struct fdc, locked),
    SNAP_ARRAY(struct fdc, buf),
    SNAP(struct fdc, pos, .max = BUFFER),
    SNAP(struct fdc, end, .max = BUFFER),
    SNAP(struct fdc, cylinder),
    SNAP(struct fdc, head),
    SNAP(struct fdc, sector),
    SNAP(struct fdc, st1),
    SNAP(struct fdc, tc),
    SNAP(struct fdc, format_mask, .max = (1ull << TRACK_MAX) - 1),
    SNAP_COLUMN(struct fdc, drive, changed, .since = 2, .keep = true),
    { 0 },
};

const struct fdc_format *fdc_format(u64 bytes)
{
    const struct fdc_format *room = NULL;
    for (size_t i = ARRAY_LEN(formats); i--;) {
        if (formats[i].bytes == bytes) return &formats[i];
        if (formats[i].bytes > bytes && formats[i].bytes >= USUAL) room = &formats[i];
    }
    return room;
}

static void irq_update(struct fdc *f) { irq_set(&f->irq, f->intr && f->dor & DOR_GATE); }

static void interrupt(struct fdc *f, bool on)
{
    f->intr = on;
    irq_update(f);
}

static enum command command_of(u8 opcode)
{
    unsigned c = 0;
    while (c < COMMANDS && (opcode & ~commands[c].options) != commands[c].code) c++;
    return c;
}

static struct fdc_drive *drive_of(struct fdc *f)
{
    unsigned n = f->cmd[1] & DOR_DRIVE;
    return n < FDC_DRIVES && f->drive[n].there ? &f->drive[n] : NULL;
}
static u8 head_of(const struct fdc *f) { return f->cmd[1] >> 2 & 1; }
static bool by_dma(const struct fdc *f) { return !(f->specify[1] & 1); }

/* A disk is read at the rate that it was written at (82077AA, 2.1.5): else there is nothing that looks like a sector.
 * Double density turns faster in a 1.2M drive, hence two rates. */
static bool rate_fits(const struct fdc *f, const struct fdc_drive *d)
{
    unsigned n = d->format->per_track;
    if (n <= 10) return f->rate == 1 || f->rate == 2;
    return f->rate == (n <= 21 ? 0 : 3);
}

/* ---- results ---- */

static void result(struct fdc *f, const u8 *bytes, u8 n)
{
    if (n) memcpy(f->result, bytes, n);
    f->results = n;
    f->taken = 0;
    f->phase = n ? RESULT : IDLE;
    f->have = 0;
}

/* The end of a command that touches the disk. */
static void finish(struct fdc *f, u8 st1, u8 st2)
{
    u8 st0 = (st1 || st2 ? ST0_ABNORMAL : 0) | f->head << 2 | (f->cmd[1] & DOR_DRIVE);
    const u8 r[7] = { st0, st1, st2, f->cylinder, f->head, f->sector, SIZE_CODE };
    result(f, r, sizeof r);
    interrupt(f, true);
}

/* Past a sector: 82077AA, table 5-5. EOT is the last of a side. */
static void step(struct fdc *f)
{
    bool both = f->cmd[0] & OPT_MT;
    if (f->sector++ != f->cmd[6]) return;
    f->sector = 1;
    if (!both || f->head) f->cylinder++;
    if (both) f->head ^= 1;
}

/* ---- the disk ---- */

static void disk_done(struct blockdev_req *r, int err);
static void disk_ended(struct fdc *f, int err);
static void execute(struct fdc *f);

static void submit(struct fdc *f)
{
    const struct fdc_drive *d = drive_of(f);
    f->phase = BUSY;
    const struct fdc_format *g = d->format;
    enum command c = command_of(f->cmd[0]);
    u32 sectors = (f->end + SECTOR - 1) / SECTOR, first = f->sector - 1;
    if (c == FORMAT) {
        sectors = 1;
        first = (u32)__builtin_ctzll(f->format_mask);
    }
    bool writes = c == WRITE || c == WRITE_DELETED || c == FORMAT;
    u64 at = (u64)((d->track * g->heads + f->head) * g->per_track + first) * SECTOR, len = (u64)sectors * SECTOR;
    u64 there = at < d->disk->size ? d->disk->size - at : 0;
    if (!writes && there < len) {
        memset(f->buf, 0, len);
        len = there;
    }
    if (!len || (writes && there < len)) {
        disk_ended(f, len ? -EIO : 0);
        return;
    }
    f->iov = (struct iovec){ f->buf, len };
    f->req = (struct blockdev_req){ .op = writes ? BLOCKDEV_WRITE : BLOCKDEV_READ,
                                    .offset = at,
                                    .len = len,
                                    .iov = &f->iov,
                                    .niov = 1,
                                    .done = disk_done,
                                    .arg = f };
    f->at_work = true;
    blockdev_submit(d->disk, &f->req);
}

/* All that was to be moved has been, or terminal count has come: bytes of it. */
static void moved(struct fdc *f, u32 bytes)
{
    for (u32 n = (bytes + SECTOR - 1) / SECTOR; n; n--) step(f);
    finish(f, f->tc ? 0 : f->st1, 0);
}

static void disk_done(struct blockdev_req *r, int err)
{
    struct fdc *f = r->arg;
    f->at_work = false;
    if (f->abandoned) {
        f->abandoned = false;
        if (f->waiting) {
            f->waiting = false;
            f->phase = COMMAND;
            execute(f);
        }
    } else {
        disk_ended(f, err);
    }
}

static void disk_ended(struct fdc *f, int err)
{
    enum command c = command_of(f->cmd[0]);
    if (err) {
        finish(f, err == -EROFS ? ST1_PROTECTED : ST1_CRC, err == -EROFS ? 0 : ST2_CRC);
        return;
    }
    switch (c) {
    case FORMAT:
        f->format_mask &= f->format_mask - 1;
        if (f->format_mask) submit(f);
        else finish(f, 0, 0);
        break;
    case VERIFY:
        f->tc = true; /* it has come to its end by its own count */
        moved(f, f->end);
        break;
    case WRITE:
    case WRITE_DELETED: moved(f, f->end); break;
    default:
        if (by_dma(f)) {
            u32 n = dma8237_transfer(f->dma, DMA_CHANNEL, true, f->buf, f->end, &f->tc);
            if (!f->tc && n < f->end) f->st1 = ST1_OVERRUN;
            moved(f, n);
        } else {
            f->phase = READING;
            f->pos = 0;
            interrupt(f, true);
        }
    }
}

/* Takes the data of a write or format from memory, or lets the data register take them. */
static void gather(struct fdc *f)
{
    if (!by_dma(f)) {
        f->phase = WRITING;
        f->pos = 0;
        interrupt(f, true);
        return;
    }
    u32 n = dma8237_transfer(f->dma, DMA_CHANNEL, false, f->buf, f->end, &f->tc);
    if (n < f->end && !f->tc) {
        f->st1 = ST1_OVERRUN;
        if (!n) {
            finish(f, f->st1, 0);
            return;
        }
    }
    f->end = n;
    f->pos = n;
}

/* ---- commands ---- */

static void invalid(struct fdc *f)
{
    const u8 st0 = ST0_INVALID;
    result(f, &st0, 1);
}

/* What every access to a disk finds out first. 0, or it has been finished. */
static int disk_ready(struct fdc *f, bool writes)
{
    const struct fdc_drive *d = drive_of(f);
    bool fits = d && d->disk && rate_fits(f, d) && head_of(f) < d->format->heads && d->track < d->format->tracks;
    u8 st1 = fits ? 0 : ST1_NO_MARK;
    if (!st1 && writes && d->disk->readonly) st1 = ST1_PROTECTED;
    if (st1) finish(f, st1, 0);
    return st1;
}

static void fill_and_write(struct fdc *f)
{
    memset(f->buf + f->end, 0, (SECTOR - f->end % SECTOR) % SECTOR); /* a sector is always written whole */
    submit(f);
}

static void read_or_write(struct fdc *f, enum command c)
{
    struct fdc_drive *d = drive_of(f);
    bool writes = c == WRITE || c == WRITE_DELETED;
    f->cylinder = f->cmd[2];
    f->head = head_of(f);
    f->sector = c == READ_TRACK ? 1 : f->cmd[4];
    if (d && f->config[0] & CONFIG_IMPLIED_SEEK) d->track = f->cylinder;
    if (disk_ready(f, writes)) return;
    const struct fdc_format *g = d->format;
    if (c == READ_TRACK) f->cylinder = d->track;
    if (f->cylinder != d->track) {
        finish(f, ST1_NO_DATA, ST2_CYLINDER);
        return;
    }
    if ((c != READ_TRACK && f->cmd[3] != f->head) || f->cmd[5] != SIZE_CODE || !f->sector || f->sector > g->per_track) {
        finish(f, ST1_NO_DATA, 0);
        return;
    }
    unsigned last = f->cmd[6] < g->per_track ? f->cmd[6] : g->per_track;
    unsigned n = last < f->sector ? g->per_track - f->sector + 1u : last - f->sector + 1u;
    bool whole = f->cmd[6] >= f->sector && f->cmd[6] <= g->per_track;
    /* Sides follow each other in the file only where a side is read to its end. */
    if (whole && f->cmd[0] & OPT_MT && !f->head && g->heads == 2 && last == g->per_track) n += last;
    if (c == VERIFY && f->cmd[1] & 0x80 && f->cmd[8] < n) n = f->cmd[8] ? f->cmd[8] : n;
    f->st1 = whole ? ST1_END : ST1_NO_DATA;
    f->tc = false;
    f->end = n * SECTOR;
    if (!writes) {
        submit(f);
        return;
    }
    gather(f);
    if (f->phase == COMMAND) fill_and_write(f);
}

/* Four bytes for each sector: cylinder, head, sector, size. */
static void format_ids(struct fdc *f)
{
    const struct fdc_drive *d = drive_of(f);
    u8 fill = f->cmd[5];
    f->format_mask = 0;
    for (u32 i = 0; i + 4 <= f->end; i += 4) {
        const u8 *id = f->buf + i;
        if (id[0] == d->track && id[1] == f->head && id[2] && id[2] <= d->format->per_track && id[3] == SIZE_CODE)
            f->format_mask |= 1ull << (id[2] - 1);
    }
    memset(f->buf, fill, SECTOR);
    if (f->format_mask) submit(f);
    else finish(f, ST1_NO_DATA, 0); /* nothing that the image has room for */
}

static void format_track(struct fdc *f)
{
    f->head = head_of(f);
    if (disk_ready(f, true)) return;
    f->cylinder = drive_of(f)->track;
    f->sector = 1;
    f->tc = false;
    f->end = f->cmd[3] * 4u;
    if (!f->end) {
        finish(f, ST1_NO_DATA, 0);
        return;
    }
    gather(f);
    if (f->phase == COMMAND) format_ids(f);
}

static void read_id(struct fdc *f)
{
    struct fdc_drive *d = drive_of(f);
    f->head = head_of(f);
    f->cylinder = d ? d->track : 0;
    f->sector = 1;
    if (disk_ready(f, false)) return;
    d->rotor = d->rotor % d->format->per_track + 1;
    f->sector = d->rotor;
    finish(f, 0, 0);
}

/* The heads are at track now. A drive that is not there does not find track 0 either. */
static void seek(struct fdc *f, bool recalibrate, unsigned track)
{
    unsigned n = f->cmd[1] & DOR_DRIVE;
    struct fdc_drive *d = drive_of(f);
    if (d) d->track = (u8)track;
    if (d && d->disk) d->changed = false;
    if (n < FDC_DRIVES)
        f->drive[n].ended = ST0_SEEK_END | (recalibrate && !d ? ST0_ABNORMAL | ST0_CHECK : 0) | head_of(f) << 2 | n;
    result(f, NULL, 0);
    interrupt(f, true);
}

static void sense_interrupt(struct fdc *f)
{
    interrupt(f, false);
    if (f->polls) {
        const u8 r[2] = { ST0_POLL | (4 - f->polls), 0 };
        f->polls--;
        result(f, r, 2);
        return;
    }
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        const u8 r[2] = { f->drive[i].ended, f->drive[i].track };
        if (!r[0]) continue;
        f->drive[i].ended = 0;
        result(f, r, 2);
        return;
    }
    invalid(f);
}

static void sense_drive(struct fdc *f)
{
    const struct fdc_drive *d = drive_of(f);
    u8 st3 = ST3_READY | (f->cmd[1] & 7);
    if (d && (!d->disk || d->format->heads == 2)) st3 |= ST3_TWO_SIDES;
    if (d && !d->track) st3 |= ST3_TRACK0;
    if (d && d->disk && d->disk->readonly) st3 |= ST3_PROTECTED;
    result(f, &st3, 1);
}

static void dumpreg(struct fdc *f)
{
    const u8 r[10] = {
        f->drive[0].track, f->drive[1].track, 0,         0,
        f->specify[0],     f->specify[1],     f->cmd[6], (u8)(f->locked << 7 | (f->perpendicular & 0x7f)),
        f->config[1],      f->config[2]
    };
    result(f, r, sizeof r);
}

static void execute(struct fdc *f)
{
    static const u8 version = 0x90, part_id = 0x41;
    const struct fdc_drive *d = drive_of(f);
    enum command c = command_of(f->cmd[0]);
    f->waiting = f->at_work && (c == FORMAT || (c < COMMANDS && commands[c].len == 9));
    if (f->waiting) {
        f->phase = BUSY;
        return;
    }
    switch (c) {
    case READ_TRACK:
    case READ:
    case READ_DELETED:
    case WRITE:
    case WRITE_DELETED:
    case VERIFY: read_or_write(f, c); break;
    case READ_ID: read_id(f); break;
    case FORMAT: format_track(f); break;
    case RECALIBRATE: seek(f, true, 0); break;
    case SEEK: seek(f, false, f->cmd[2]); break;
    case SEEK_IN: seek(f, false, (d ? d->track : 0u) + f->cmd[2]); break;
    case SEEK_OUT: seek(f, false, d && d->track > f->cmd[2] ? (unsigned)(d->track - f->cmd[2]) : 0u); break;
    case SENSE_INTERRUPT: sense_interrupt(f); break;
    case SENSE_DRIVE: sense_drive(f); break;
    case SPECIFY:
        memcpy(f->specify, f->cmd + 1, 2);
        result(f, NULL, 0);
        break;
    case CONFIGURE:
        f->config[0] = f->cmd[2];
        f->config[1] = f->cmd[2];
        f->config[2] = f->cmd[3];
        result(f, NULL, 0);
        break;
    case PERPENDICULAR:
        f->perpendicular = f->cmd[1];
        result(f, NULL, 0);
        break;
    case LOCK: {
        f->locked = f->cmd[0] & 0x80;
        const u8 r = (u8)(f->locked << 4);
        result(f, &r, 1);
        break;
    }
    case DUMPREG: dumpreg(f); break;
    case VERSION: result(f, &version, 1); break;
    case PART_ID: result(f, &part_id, 1); break;
    case COMMANDS: invalid(f); break;
    }
}

/* ---- registers ---- */

static u8 status_main(const struct fdc *f)
{
    static const u8 of[] = {
        [IDLE] = MSR_RQM,
        [COMMAND] = MSR_RQM | MSR_BUSY,
        [BUSY] = MSR_BUSY,
        [READING] = MSR_RQM | MSR_DIO | MSR_NDMA | MSR_BUSY,
        [WRITING] = MSR_RQM | MSR_NDMA | MSR_BUSY,
        [RESULT] = MSR_RQM | MSR_DIO | MSR_BUSY,
    };
    return f->dor & DOR_NORESET ? of[f->phase] : 0;
}

static u8 data_read(struct fdc *f)
{
    u8 v = 0;
    if (f->phase == RESULT) {
        interrupt(f, false);
        v = f->result[f->taken++];
        if (f->taken >= f->results) f->phase = IDLE;
    } else if (f->phase == READING) {
        v = f->buf[f->pos++];
        if (f->pos >= f->end) moved(f, f->end);
    }
    return v;
}

static void data_write(struct fdc *f, u8 val)
{
    if (f->phase == WRITING) {
        f->buf[f->pos++] = val;
        if (f->pos < f->end) return;
        interrupt(f, false);
        if (!drive_of(f)->disk) finish(f, ST1_NO_MARK, 0); /* it has been taken out meanwhile */
        else if (command_of(f->cmd[0]) == FORMAT) format_ids(f);
        else submit(f);
    } else if (f->phase == IDLE || f->phase == COMMAND) {
        if (f->phase == IDLE) f->have = 0;
        f->phase = COMMAND;
        f->cmd[f->have++] = val;
        enum command c = command_of(f->cmd[0]);
        if (c == COMMANDS || f->have == commands[c].len) execute(f);
    }
}

/* The reset of DOR and DSR: what LOCK guards stays. */
static void soft_reset(struct fdc *f)
{
    f->abandoned = f->at_work;
    f->waiting = false;
    f->phase = IDLE;
    f->have = f->results = f->taken = 0;
    f->format_mask = 0;
    if (!f->locked) memset(f->config, 0, sizeof f->config);
    for (unsigned i = 0; i < FDC_DRIVES; i++) f->drive[i].ended = 0;
    f->polls = 0;
    interrupt(f, false);
}
static void reset_ends(struct fdc *f)
{
    f->polls = 4;
    interrupt(f, true);
}

static void dor_write(struct fdc *f, u8 val)
{
    u8 old = f->dor;
    f->dor = val;
    if (old & DOR_NORESET && !(val & DOR_NORESET)) soft_reset(f);
    if (!(old & DOR_NORESET) && val & DOR_NORESET) reset_ends(f);
    irq_update(f);
}

static u8 fdc_read(void *dev, u32 off)
{
    struct fdc *f = dev;
    switch (off) {
    case R_DOR: return f->dor;
    case R_MSR_DSR: return status_main(f);
    case R_DATA: return f->dor & DOR_NORESET ? data_read(f) : 0;
    default: return 0xff; /* status A and B are not there in an AT */
    }
}

static void fdc_write(void *dev, u32 off, u8 val)
{
    struct fdc *f = dev;
    switch (off) {
    case R_DOR: dor_write(f, val); break;
    case R_MSR_DSR:
        f->rate = val & DSR_RATE;
        if (val & DSR_RESET && f->dor & DOR_NORESET) {
            soft_reset(f);
            reset_ends(f);
        }
        break;
    case R_DATA:
        if (f->dor & DOR_NORESET) data_write(f, val);
        break;
    default: break;
    }
}

/* 3F7h: the changed disk, and the rate. */
static u8 dir_read(void *dev, u32 off UNUSED)
{
    const struct fdc *f = dev;
    unsigned n = f->dor & DOR_DRIVE;
    bool changed = n >= FDC_DRIVES || !f->drive[n].disk || f->drive[n].changed;
    return changed && f->dor & DOR_MOTOR << n ? DIR_CHANGE : 0;
}
static void ccr_write(void *dev, u32 off UNUSED, u8 val)
{
    struct fdc *f = dev;
    f->rate = val & DSR_RATE;
}

BYTE_PORT_OPS(fdc_ops, fdc_read, fdc_write);
BYTE_PORT_OPS(dir_ops, dir_read, ccr_write);

/* ---- life ---- */

/* What a transfer relies on. */
static bool fdc_check(const void *chip)
{
    const struct fdc *f = chip;
    unsigned n = f->cmd[1] & DOR_DRIVE;
    enum command c = command_of(f->cmd[0]);
    bool drive = n < FDC_DRIVES && f->drive[n].there;
    switch (f->phase) {
    case COMMAND: return c != COMMANDS && f->have < commands[c].len;
    case READING:
    case WRITING: return drive && c != COMMANDS && f->pos < f->end;
    case RESULT: return f->taken < f->results;
    default: return f->phase == IDLE;
    }
}

static void fdc_on_reset(void *chip);
static const struct snap_table fdc_table = { .name = "fdc",
                                             .version = 2,
                                             .size = sizeof(struct fdc),
                                             .fields = fdc_fields,
                                             .reset = fdc_on_reset,
                                             .check = fdc_check };

static void fdc_on_reset(void *chip)
{
    struct fdc *f = chip;
    BUG_ON(f->at_work);
    snap_reset(&fdc_table, f);
    irq_update(f);
}

struct snap_part fdc_part(struct fdc *f) { return (struct snap_part){ fdc_table.name, &fdc_table, f }; }

static void drive_put(struct fdc_drive *d, struct blockdev *disk)
{
    d->disk = disk;
    d->format = disk ? fdc_format(disk->size) : NULL;
}

void fdc_change_medium(struct fdc *f, unsigned drive, struct blockdev *disk)
{
    struct fdc_drive *d = &f->drive[drive];
    BUG_ON(!d->there || f->at_work || (disk && !fdc_format(disk->size)));
    drive_put(d, disk);
    d->changed = true;
}

int fdc_new(struct fdc **out, struct bus *b, struct dma8237 *dma, struct irq_line irq6,
            const struct fdc_disk disk[FDC_DRIVES])
{
    struct fdc *f = calloc(1, sizeof *f);
    int err = 0;
    if (!f) return -ENOMEM;
    f->dma = dma;
    f->irq = irq6;
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        f->drive[i].there = disk[i].drive;
        drive_put(&f->drive[i], disk[i].dev);
        if (disk[i].dev && !f->drive[i].format) err = -EINVAL;
    }
    fdc_on_reset(f);
    if (!err) err = bus_map_pio(b, BASE, 6, &fdc_ops, f, "floppy");
    if (!err && (err = bus_map_pio(b, BASE + R_DIR_CCR, 1, &dir_ops, f, "floppy"))) bus_unmap_pio(b, BASE);
    if (err) free(f);
    else *out = f;
    return err;
}

void fdc_free(struct fdc *f) { free(f); }
