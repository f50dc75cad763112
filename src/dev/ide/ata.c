/* Owns the commands of an ATA disk: PIO (single and multiple), DMA, 28 and 48-bit addresses, CHS by the translation in
 * force.
 *   I1  lba + left is within the disk while a transfer is on.                                        [transfer_begin]
 *   I2  BSY is set while the disk's thread has a request; then the guest's accesses to the buffer do nothing.
 * Enter at ata_command(). ATA/ATAPI-6 (T13/1410D). NOT-HW: power modes and SMART are not there; flushes take no time
 * where nothing was written. */
#include "src/dev/ide/drive.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum {
    C_NOP = 0x00, C_RECALIBRATE = 0x10, C_READ = 0x20, C_READ_NO_RETRY = 0x21, C_READ_EXT = 0x24, C_READ_DMA_EXT = 0x25,
    C_READ_MAX_EXT = 0x27, C_READ_MULTIPLE_EXT = 0x29, C_WRITE = 0x30, C_WRITE_NO_RETRY = 0x31, C_WRITE_EXT = 0x34,
    C_WRITE_DMA_EXT = 0x35, C_WRITE_MULTIPLE_EXT = 0x39, C_VERIFY = 0x40, C_VERIFY_NO_RETRY = 0x41, C_VERIFY_EXT = 0x42,
    C_SEEK = 0x70, C_DIAGNOSE = 0x90, C_SET_GEOMETRY = 0x91, C_READ_MULTIPLE = 0xc4, C_WRITE_MULTIPLE = 0xc5,
    C_SET_MULTIPLE = 0xc6, C_READ_DMA = 0xc8, C_READ_DMA_NO_RETRY = 0xc9, C_WRITE_DMA = 0xca,
    C_WRITE_DMA_NO_RETRY = 0xcb,
    C_STANDBY_NOW = 0xe0, C_IDLE_NOW = 0xe1, C_STANDBY = 0xe2, C_IDLE = 0xe3, C_CHECK_POWER = 0xe5, C_SLEEP = 0xe6,
    C_FLUSH = 0xe7, C_FLUSH_EXT = 0xea, C_IDENTIFY = 0xec, C_SET_FEATURES = 0xef, C_READ_MAX = 0xf8,
};
enum { FEATURE_WRITE_CACHE = 0x02, FEATURE_TRANSFER_MODE = 0x03, FEATURE_READ_AHEAD = 0xaa,
    FEATURE_NO_READ_AHEAD = 0x55,    FEATURE_NO_WRITE_CACHE = 0x82 };
/* clang-format on */
#define SECTOR BLOCKDEV_SECTOR
#define CYLINDERS_MAX 16383u
#define LBA28_MAX 0x0fffffffu

void ata_signature(struct drive *d)
{
    d->reg[R_COUNT] = d->reg[R_LOW] = 1;
    d->reg[R_MID] = d->cdrom ? 0x14 : 0;
    d->reg[R_HIGH] = d->cdrom ? 0xeb : 0;
    memset(d->hob, 0, sizeof d->hob);
}

/* ---- where ---- */

static u32 cylinders(const struct drive *d)
{
    u64 n = d->sectors / ((u64)d->heads * d->per_track);
    return n < CYLINDERS_MAX ? (u32)n : CYLINDERS_MAX;
}

/* The address in the registers; more than the disk has where there is none. */
static u64 address(struct drive *d)
{
    const u8 *r = d->reg, *h = d->hob;
    u8 dev = drive_device(d);
    u64 low = r[R_LOW] | (u64)r[R_MID] << 8 | (u64)r[R_HIGH] << 16;

    if (d->ext) return low | (u64)h[R_LOW] << 24 | (u64)h[R_MID] << 32 | (u64)h[R_HIGH] << 40;
    if (dev & DEV_LBA) return low | (u64)(dev & DEV_HEAD) << 24;
    u64 track = (u64)(r[R_MID] | r[R_HIGH] << 8) * d->heads + (dev & DEV_HEAD);
    return r[R_LOW] && r[R_LOW] <= d->per_track ? track * d->per_track + r[R_LOW] - 1 : d->sectors;
}

static u32 count(const struct drive *d)
{
    u32 n = d->reg[R_COUNT] | (d->ext ? (u32)d->hob[R_COUNT] << 8 : 0);
    return n ? n : d->ext ? 0x10000 : 0x100;
}

/* The registers say how far a command has come; after an error, where. */
static void set_address(struct drive *d, u64 lba)
{
    if (!d->ext && !(drive_device(d) & DEV_LBA)) return; /* NOT-HW: CHS registers stay */
    if (!d->ext) drive_set_head(d, (u8)(lba >> 24 & DEV_HEAD));
    for (unsigned i = 0; i < 3; i++) d->reg[R_LOW + i] = (u8)(lba >> 8 * i);
    for (unsigned i = 0; i < 3 && d->ext; i++) d->hob[R_LOW + i] = (u8)(lba >> (24 + 8 * i));
}

/* ---- transfers ---- */

static void pio_next(struct drive *d);

static void fail_at(struct drive *d, u8 error)
{
    set_address(d, d->lba);
    drive_end(d, error);
}

static u32 block_now(const struct drive *d) { return d->left < d->block ? d->left : d->block; }

/* The next block is in the buffer. */
static void pio_offer(struct drive *d)
{
    d->pos = 0;
    d->end = d->have = block_now(d) * SECTOR;
    d->lba += block_now(d);
    d->left -= block_now(d);
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
    channel_irq(d->ch, true);
}

static void pio_read_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;

    if (!drive_completed(d)) return;
    if (err) fail_at(d, ERR_UNC);
    else pio_offer(d);
}

/* What is before the sector that cannot be read has been read all the same. */
static void pio_ahead_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;

    if (!drive_completed(d)) return;
    d->careful = err;
    d->ahead_lba = d->lba;
    d->ahead_n = err ? 0 : (u32)(r->len / SECTOR);
    pio_next(d);
}

static void pio_write_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;

    if (!drive_completed(d)) return;
    if (err) {
        fail_at(d, err == -EROFS ? ERR_ABRT : ERR_UNC);
        return;
    }
    d->lba += d->end / SECTOR;
    d->left -= d->end / SECTOR;
    if (!d->left) {
        set_address(d, d->lba - 1);
        drive_end(d, 0);
        return;
    }
    pio_next(d);
    channel_irq(d->ch, true);
}

/* Gets the next block from the disk, or asks the guest for it. */
static void pio_next(struct drive *d)
{
    d->pos = d->end = 0;
    if (d->phase == PHASE_PIO_IN) {
        u64 at = d->lba - d->ahead_lba;
        u32 n = block_now(d);
        if (at < d->ahead_n && n <= d->ahead_n - at) {
            memcpy(d->buffer, d->ahead + at * SECTOR, (size_t)n * SECTOR);
            pio_offer(d);
        } else if (n == d->left || d->careful) {
            drive_submit(d, BLOCKDEV_READ, d->lba * SECTOR, (u64)n * SECTOR, pio_read_done);
        } else {
            n = d->left < DRIVE_AHEAD / SECTOR ? d->left : DRIVE_AHEAD / SECTOR;
            drive_read_ahead(d, d->lba * SECTOR, n * SECTOR, pio_ahead_done);
        }
    } else {
        d->end = block_now(d) * SECTOR;
        d->status = ST_DRDY | ST_DSC | ST_DRQ;
    }
}

void ata_moved(struct drive *d)
{
    if (d->phase == PHASE_PIO_OUT) {
        drive_submit(d, BLOCKDEV_WRITE, d->lba * SECTOR, d->end, pio_write_done);
    } else if (d->left) {
        pio_next(d);
    } else { /* the last block has been read: there is no interrupt any more */
        d->phase = PHASE_NONE;
        d->status = ST_DRDY | ST_DSC;
        if (d->command != C_IDENTIFY) set_address(d, d->lba - 1);
    }
}

static void dma_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;
    bool in = r->op == BLOCKDEV_READ;

    drive_dma_unmap(d, in, !err);
    if (!drive_completed(d)) return;
    if (err) {
        fail_at(d, err == -EROFS ? ERR_ABRT : ERR_UNC);
        return;
    }
    d->lba += d->left;
    d->left = 0;
    set_address(d, d->lba - 1);
    drive_end(d, 0);
}

void ata_dma(struct drive *d)
{
    bool in = d->phase == PHASE_DMA_IN;
    int err;

    if (d->phase != PHASE_DMA_IN && d->phase != PHASE_DMA_OUT) return;
    err = drive_dma_map(d, (u64)d->left * SECTOR, in);
    if (err == -EAGAIN) return;
    if (err) drive_end(d, ERR_ABRT);
    else drive_submit(d, in ? BLOCKDEV_READ : BLOCKDEV_WRITE, d->lba * SECTOR, (u64)d->left * SECTOR, dma_done);
}

/* block: sectors between two interrupts, 0: DMA. */
static void transfer_begin(struct drive *d, enum phase phase, u8 block)
{
    d->lba = address(d);
    d->left = count(d);
    d->block = block;
    d->ahead_n = 0; /* it may have been written since */
    d->careful = false;
    if (d->lba >= d->sectors || d->left > d->sectors - d->lba) {
        drive_end(d, ERR_IDNF);
        return;
    }
    d->phase = phase;
    if (block) {
        pio_next(d);
        return;
    }
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
    ata_dma(d);
}

static void flush_done(struct blockdev_req *r, int err)
{
    struct drive *d = r->arg;
    if (drive_completed(d)) drive_end(d, err ? ERR_ABRT : 0);
}

/* ---- what it is ---- */

#define WRITE_CACHE 0x20u /* in words 82 and 85 */
static bool has_cache(const struct drive *d) { return !d->dev->write_through; }

static void identify(struct drive *d)
{
    u8 *b = d->buffer;
    u32 lba28 = d->sectors < LBA28_MAX ? (u32)d->sectors : LBA28_MAX, cyl = cylinders(d);
    u32 chs = cyl * d->heads * d->per_track;

    memset(b, 0, SECTOR);
    put_word(b, 0, 0x0040); /* fixed */
    put_word(b, 1, (unsigned)(d->sectors / (16 * 63) < CYLINDERS_MAX ? d->sectors / (16 * 63) : CYLINDERS_MAX));
    put_word(b, 3, 16);
    put_word(b, 6, 63);
    put_text(b, 10, 10, d->serial ? d->serial : "TV00000001");
    put_text(b, 23, 4, "1.0");
    put_text(b, 27, 20, "TRANSVISOR HARDDISK");
    put_word(b, 47, 0x8000 | MULTIPLE_MAX);
    put_word(b, 48, 1);      /* 32-bit accesses to the data port */
    put_word(b, 49, 0x0f00); /* IORDY, LBA, DMA */
    put_word(b, 51, 0x0200);
    put_word(b, 53, 7); /* words 54 to 58, 64 to 70 and 88 count */
    put_word(b, 54, cyl);
    put_word(b, 55, d->heads);
    put_word(b, 56, d->per_track);
    put_word(b, 57, chs & 0xffff);
    put_word(b, 58, chs >> 16);
    put_word(b, 59, d->multiple ? 0x100 | d->multiple : 0);
    put_word(b, 60, lba28 & 0xffff);
    put_word(b, 61, lba28 >> 16);
    put_word(b, 63, 0x07 | ((d->dma_mode & 0xf8) == 0x20 ? 0x100u << (d->dma_mode & 7) : 0));
    put_word(b, 64, 3);                                         /* PIO 3 and 4 */
    for (unsigned i = 65; i <= 68; i++) put_word(b, i, 120);    /* ns for a cycle */
    put_word(b, 80, 0x7e);                                      /* ATA-1 to ATA-6 */
    put_word(b, 82, 0x4000 | (has_cache(d) ? WRITE_CACHE : 0)); /* NOP */
    put_word(b, 83, 0x7400);                                    /* FLUSH CACHE (EXT), 48-bit addresses */
    put_word(b, 84, 0x4000);
    put_word(b, 85, 0x4000 | (d->uncached ? 0 : WRITE_CACHE));
    put_word(b, 86, 0x3400);
    put_word(b, 87, 0x4000);
    put_word(b, 88, 0x07 | ((d->dma_mode & 0xf8) == 0x40 ? 0x100u << (d->dma_mode & 7) : 0)); /* Ultra DMA 0 to 2 */
    put_word(b, 93, 0x6001);
    for (unsigned i = 0; i < 4; i++) put_word(b, 100 + i, (unsigned)(d->sectors >> 16 * i & 0xffff));
    d->phase = PHASE_PIO_IN;
    d->left = 0;
    d->pos = 0;
    d->end = d->have = SECTOR;
    d->status = ST_DRDY | ST_DSC | ST_DRQ;
    channel_irq(d->ch, true);
}

static void set_features(struct drive *d)
{
    u8 mode = d->reg[R_COUNT];

    switch (d->feature) {
    case FEATURE_TRANSFER_MODE:
        if ((mode & 0xf8) == 0x20 || (mode & 0xf8) == 0x40) d->dma_mode = mode;
        drive_end(d, (mode & 0xf8) <= 0x08 || ((mode & 0xd8) == 0 || (mode & 0xf8) == 0x40) ? 0 : ERR_ABRT);
        return;
    case FEATURE_WRITE_CACHE:
    case FEATURE_NO_WRITE_CACHE:
        if (has_cache(d)) d->uncached = d->feature == FEATURE_NO_WRITE_CACHE;
        drive_end(d, has_cache(d) ? 0 : ERR_ABRT);
        return;
    case FEATURE_READ_AHEAD:
    case FEATURE_NO_READ_AHEAD: drive_end(d, 0); return;
    default: drive_end(d, ERR_ABRT);
    }
}

static void set_multiple(struct drive *d)
{
    u8 n = d->reg[R_COUNT];
    bool fine = n <= MULTIPLE_MAX && !(n & (n - 1));

    if (fine) d->multiple = n;
    drive_end(d, fine ? 0 : ERR_ABRT);
}

static void set_geometry(struct drive *d)
{
    if (!d->reg[R_COUNT]) {
        drive_end(d, ERR_ABRT);
        return;
    }
    d->per_track = d->reg[R_COUNT];
    d->heads = (drive_device(d) & DEV_HEAD) + 1;
    drive_end(d, 0);
}

static void read_max(struct drive *d)
{
    u64 last = d->sectors - 1;
    if (!d->ext && last > LBA28_MAX - 1) last = LBA28_MAX - 1;
    set_address(d, last);
    drive_end(d, 0);
}

static void verify(struct drive *d)
{
    u64 lba = address(d);
    drive_end(d, lba >= d->sectors || count(d) > d->sectors - lba ? ERR_IDNF : 0);
}

void ata_command(struct drive *d, u8 command)
{
    u8 many = d->multiple;

    d->ext = command == C_READ_EXT || command == C_READ_DMA_EXT || command == C_READ_MULTIPLE_EXT
             || command == C_WRITE_EXT || command == C_WRITE_DMA_EXT || command == C_WRITE_MULTIPLE_EXT
             || command == C_VERIFY_EXT || command == C_READ_MAX_EXT;
    switch (command) {
    case C_READ:
    case C_READ_NO_RETRY:
    case C_READ_EXT: transfer_begin(d, PHASE_PIO_IN, 1); break;
    case C_WRITE:
    case C_WRITE_NO_RETRY:
    case C_WRITE_EXT: transfer_begin(d, PHASE_PIO_OUT, 1); break;
    case C_READ_MULTIPLE:
    case C_READ_MULTIPLE_EXT:
    case C_WRITE_MULTIPLE:
    case C_WRITE_MULTIPLE_EXT:
        if (!many) drive_end(d, ERR_ABRT);
        else
            transfer_begin(
                d, command == C_READ_MULTIPLE || command == C_READ_MULTIPLE_EXT ? PHASE_PIO_IN : PHASE_PIO_OUT, many);
        break;
    case C_READ_DMA:
    case C_READ_DMA_NO_RETRY:
    case C_READ_DMA_EXT: transfer_begin(d, PHASE_DMA_IN, 0); break;
    case C_WRITE_DMA:
    case C_WRITE_DMA_NO_RETRY:
    case C_WRITE_DMA_EXT: transfer_begin(d, PHASE_DMA_OUT, 0); break;
    case C_VERIFY:
    case C_VERIFY_NO_RETRY:
    case C_VERIFY_EXT: verify(d); break;
    case C_FLUSH:
    case C_FLUSH_EXT: drive_submit(d, BLOCKDEV_FLUSH, 0, 0, flush_done); break;
    case C_IDENTIFY: identify(d); break;
    case C_SET_FEATURES: set_features(d); break;
    case C_SET_MULTIPLE: set_multiple(d); break;
    case C_SET_GEOMETRY: set_geometry(d); break;
    case C_READ_MAX:
    case C_READ_MAX_EXT: read_max(d); break;
    case C_CHECK_POWER:
        d->reg[R_COUNT] = 0xff; /* active */
        drive_end(d, 0);
        break;
    case C_RECALIBRATE ... C_RECALIBRATE + 15:
    case C_SEEK:
    case C_STANDBY_NOW:
    case C_IDLE_NOW:
    case C_STANDBY:
    case C_IDLE:
    case C_SLEEP: drive_end(d, 0); break;
    default: drive_end(d, ERR_ABRT);
    }
}
