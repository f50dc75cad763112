/* Owns the IDE function of the PIIX3: two cables with their registers, two bus masters, the drives' reset and state.
 *   I1  The interrupt wire of a channel is: wanted, and not switched off in the control register.     [channel_update]
 *   I2  A drive with a request under way has BSY, and its registers cannot be written.               [task_write]
 *   I3  pos moves towards end, and at end the command set is told.                              [data_read, data_write]
 * Enter at task_write(), bm_write(). Intel 290550 (PIIX3), function 1; ATA/ATAPI-6; SFF-8038i (bus master).
 * NOT-HW: the channels are decoded from the start, whatever IDETIM says; its timings cost nothing. */
#include "core/snap.h"
#include "src/dev/ide/drive.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

enum { T_DATA, T_FEATURE, T_COUNT, T_LOW, T_MID, T_HIGH, T_DEVICE, T_COMMAND };
enum { CTL_NIEN = 0x02, CTL_SRST = 0x04, CTL_HOB = 0x80 };
enum { BM_START = 1, BM_TO_MEMORY = 8 };
enum { BM_ACTIVE = 1, BM_ERROR = 2, BM_INTERRUPT = 4, BM_CAPABLE = 0x60 };
enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4 };
enum { C_DEVICE_RESET = 0x08, C_DIAGNOSE = 0x90 };
/* A cable without drives: its lines float high, but for DD7, which the host pulls down (ATA/ATAPI-6: by 10 kilohms), so
 * that nobody waits for BSY there. */
enum { NOBODY = 0x7f, NOBODY_WORD = 0xff7f };
enum { CFG_IDETIM = 0x40, CFG_IDETIM_LEN = 5, IDETIM_DECODE = 0x8000 };
#define PRD_LAST 0x80000000u
#define PRD_MAX 8192u /* entries: a table of 64 KiB */

struct channel {
    struct ide *ide;
    struct drive drive[2];
    u8 device, control;
    bool intrq; /* of the selected drive */
    u8 bm_command, bm_status;
    u32 bm_table;
    struct irq_line irq;
};
struct ide {
    struct bus *bus;
    struct pci_fn *fn;
    struct channel ch[2];
};

static const struct snap_field channel_fields[] = {
    SNAP(struct channel, device, .reset = DEV_ALWAYS),
    SNAP(struct channel, control),
    SNAP(struct channel, intrq),
    SNAP(struct channel, bm_command, .max = BM_START | BM_TO_MEMORY),
    SNAP(struct channel, bm_status, .max = 0x67),
    SNAP(struct channel, bm_table),
    { 0 },
};
static const struct snap_field drive_fields[] = {
    SNAP(struct drive, feature),
    SNAP(struct drive, error, .reset = 1),
    SNAP(struct drive, status),
    SNAP(struct drive, command),
    SNAP_ARRAY(struct drive, reg),
    SNAP_ARRAY(struct drive, hob),
    SNAP(struct drive, heads, .reset = 16, .max = 16),
    SNAP(struct drive, per_track, .reset = 63),
    SNAP(struct drive, multiple, .max = MULTIPLE_MAX),
    SNAP(struct drive, dma_mode),
    SNAP(struct drive, phase, .max = PHASE_LAST),
    SNAP_ARRAY(struct drive, buffer),
    SNAP(struct drive, pos, .max = DRIVE_BUFFER),
    SNAP(struct drive, end, .max = DRIVE_BUFFER),
    SNAP(struct drive, have, .max = DRIVE_BUFFER),
    SNAP(struct drive, lba),
    SNAP(struct drive, left),
    SNAP(struct drive, block, .max = MULTIPLE_MAX),
    SNAP(struct drive, ext),
    SNAP(struct drive, sense, .max = 15),
    SNAP(struct drive, asc),
    SNAP(struct drive, attention, .reset = 1),
    SNAP(struct drive, ascq, .since = 2),
    SNAP(struct drive, tray_open, .since = 2, .keep = true),
    SNAP(struct drive, prevented, .since = 2),
    SNAP(struct drive, event, .since = 2, .max = EVENT_LAST),
    SNAP(struct drive, uncached, .since = 3),
    { 0 },
};

/* ---- interrupts ---- */

static void channel_update(struct channel *ch) { irq_set(&ch->irq, ch->intrq && !(ch->control & CTL_NIEN)); }

void channel_irq(struct channel *ch, bool level)
{
    ch->intrq = level;
    if (level) ch->bm_status |= BM_INTERRUPT;
    channel_update(ch);
}

/* ---- what the command sets ask for ---- */

u8 drive_device(const struct drive *d) { return d->ch->device; }
void drive_set_head(struct drive *d, u8 head) { d->ch->device = (u8)((d->ch->device & ~DEV_HEAD) | head); }

void drive_end(struct drive *d, u8 error)
{
    d->error = error;
    d->status = ST_DRDY | ST_DSC | (error ? ST_ERR : 0);
    d->phase = PHASE_NONE;
    d->left = 0;
    channel_irq(d->ch, true);
}

/* buffer: where it goes or comes from; NULL: iov says. */
static void submit(struct drive *d, enum blockdev_op op, u64 offset, u64 n, u8 *buffer,
                   void (*then)(struct blockdev_req *r, int err))
{
    BUG_ON(d->busy);
    if (buffer && n) {
        d->iov[0] = (struct iovec){ buffer, n };
        d->niov = 1;
    }
    d->req = (struct blockdev_req){ .op = op,
                                    .offset = offset,
                                    .len = n,
                                    .iov = d->iov,
                                    .niov = n ? d->niov : 0,
                                    .durable = d->uncached,
                                    .done = then,
                                    .arg = d };
    d->busy = true;
    d->status = ST_BSY;
    blockdev_submit(d->dev, &d->req);
}

void drive_submit(struct drive *d, enum blockdev_op op, u64 offset, u64 n,
                  void (*then)(struct blockdev_req *r, int err))
{
    bool dma = d->phase == PHASE_DMA_IN || d->phase == PHASE_DMA_OUT;
    submit(d, op, offset, n, dma ? NULL : d->buffer, then);
}

void drive_read_ahead(struct drive *d, u64 offset, u32 n, void (*then)(struct blockdev_req *r, int err))
{
    submit(d, BLOCKDEV_READ, offset, n, d->ahead, then);
}

/* The guest's list, up to n bytes. *more: it has more than that. */
static int prd_read(struct channel *ch, u64 n, struct dma_seg *seg, unsigned *nseg, bool *more)
{
    u64 have = 0;
    u32 at = ch->bm_table;

    *nseg = 0;
    for (unsigned i = 0; i < PRD_MAX && have < n && *nseg < DRIVE_SEGMENTS; i++, at += 8) {
        u32 entry[2];
        if (bus_dma_read(ch->ide->bus, at, entry, sizeof entry) != sizeof entry) return -EFAULT;
        u64 len = (entry[1] & 0xfffe) ? entry[1] & 0xfffe : 0x10000;
        *more = !(entry[1] & PRD_LAST) || len > n - have;
        if (len > n - have) len = n - have;
        seg[(*nseg)++] = (struct dma_seg){ entry[0] & ~1u, len };
        have += len;
        if (entry[1] & PRD_LAST) break;
    }
    return have == n ? 0 : -EFAULT;
}

int drive_dma_map(struct drive *d, u64 n, bool to_guest)
{
    struct channel *ch = d->ch;
    struct dma_seg seg[DRIVE_SEGMENTS];
    unsigned nseg;
    bool more = false;
    int rc;

    if (!(ch->bm_command & BM_START) || !pci_fn_bus_master(ch->ide->fn)) return -EAGAIN;
    rc = to_guest == !!(ch->bm_command & BM_TO_MEMORY) ? prd_read(ch, n, seg, &nseg, &more) : -EFAULT;
    if (!rc) rc = bus_sg_map(ch->ide->bus, seg, nseg, d->iov, DRIVE_SEGMENTS);
    if (rc < 0) {
        ch->bm_status = (u8)((ch->bm_status & ~BM_ACTIVE) | BM_ERROR);
        return -EFAULT;
    }
    d->niov = (unsigned)rc;
    if (!more) ch->bm_status &= (u8)~BM_ACTIVE; /* NOT-HW: as soon as it begins; BSY tells the guest to wait */
    return 0;
}

void drive_dma_unmap(struct drive *d, bool to_guest, bool ok)
{
    bus_sg_unmap(d->ch->ide->bus, d->iov, d->niov, to_guest ? DMA_TO_GUEST : DMA_FROM_GUEST);
    if (!ok) d->ch->bm_status |= BM_ERROR;
}

/* ---- reset ---- */

/* As after power-on, but for what a guest has set that a software reset leaves. */
static void drive_reset(struct drive *d)
{
    ata_signature(d);
    d->phase = PHASE_NONE;
    d->pos = d->end = d->have = 0;
    d->left = d->ahead_n = 0;
    d->error = 1; /* it is well */
    d->status = d->cdrom ? 0 : ST_DRDY | ST_DSC;
}

bool drive_completed(struct drive *d)
{
    bool fine = !d->reset;

    d->busy = d->reset = false;
    if (!fine) drive_reset(d);
    return fine;
}

/* A drive at work is reset when that is done. */
static void drive_reset_soon(struct drive *d)
{
    if (!d->there) return;
    if (d->busy) d->reset = true;
    else drive_reset(d);
}

static void diagnose(struct channel *ch)
{
    ch->device &= (u8)~DEV_SECOND;
    for (unsigned i = 0; i < 2; i++) drive_reset_soon(&ch->drive[i]);
    channel_irq(ch, true);
}

static void control_write(struct channel *ch, u8 val)
{
    bool was = ch->control & CTL_SRST, now = val & CTL_SRST;

    ch->control = val;
    if (was && !now) ch->device = DEV_ALWAYS;
    for (unsigned i = 0; i < 2; i++) {
        if (!was && now) ch->drive[i].status = ST_BSY;
        if (was && !now) drive_reset_soon(&ch->drive[i]);
    }
    if (now) ch->intrq = false;
    channel_update(ch);
}

/* ---- the task file ---- */

static struct drive *selected(struct channel *ch) { return &ch->drive[!!(ch->device & DEV_SECOND)]; }
static bool empty(const struct channel *ch) { return !ch->drive[0].there && !ch->drive[1].there; }

static void command_write(struct channel *ch, u8 val)
{
    struct drive *d = selected(ch);

    channel_irq(ch, false);
    if (val == C_DIAGNOSE) {
        diagnose(ch);
        return;
    }
    if (!d->there || (d->status & ST_BSY)) {
        if (d->there && d->busy && d->cdrom && val == C_DEVICE_RESET) d->reset = true;
        return;
    }
    d->command = val;
    d->error = 0;
    if (d->cdrom) atapi_command(d, val);
    else ata_command(d, val);
}

/* What waits in the FIFO of a drive that was busy is lost, as on a drive that does not listen. */
static void register_write(struct channel *ch, unsigned i, u8 val)
{
    ch->control &= (u8)~CTL_HOB;
    for (unsigned n = 0; n < 2; n++) {
        struct drive *d = &ch->drive[n];

        if (d->status & (ST_BSY | ST_DRQ)) continue;
        if (i == T_FEATURE) {
            d->feature = val;
        } else {
            d->hob[i - T_COUNT] = d->reg[i - T_COUNT];
            d->reg[i - T_COUNT] = val;
        }
    }
}

static u8 register_read(struct channel *ch, unsigned i)
{
    const struct drive *d = selected(ch);

    if (empty(ch)) return NOBODY;
    if (i == T_DEVICE) return ch->device | DEV_ALWAYS;
    if (!d->there) return 0;
    if (i == T_FEATURE) return d->error;
    return ch->control & CTL_HOB ? d->hob[i - T_COUNT] : d->reg[i - T_COUNT];
}

static u8 status_read(struct channel *ch)
{
    return empty(ch) ? NOBODY : selected(ch)->there ? selected(ch)->status : 0;
}

static u32 data_read(struct channel *ch, unsigned size)
{
    struct drive *d = selected(ch);
    u32 v = 0;

    if (empty(ch)) return NOBODY_WORD | (u32)NOBODY_WORD << 16;
    if (!(d->status & ST_DRQ) || d->phase != PHASE_PIO_IN) return ~0u;
    for (unsigned i = 0; i < size && d->pos < d->end; i++) v |= (u32)d->buffer[d->pos++] << 8 * i;
    if (d->pos == d->end) {
        if (d->cdrom) atapi_moved(d);
        else ata_moved(d);
    }
    return v;
}

static void data_write(struct drive *d, unsigned size, u32 val)
{
    if (!(d->status & ST_DRQ) || (d->phase != PHASE_PIO_OUT && d->phase != PHASE_PACKET)) return;
    for (unsigned i = 0; i < size && d->pos < d->end; i++) d->buffer[d->pos++] = (u8)(val >> 8 * i);
    if (d->pos < d->end) return;
    if (d->phase == PHASE_PACKET) atapi_packet(d);
    else ata_moved(d);
}

/* No further than the end of a block: what comes then may want the processor. */
static u32 data_in(void *dev, u32 off, unsigned size, u8 *to, u32 n)
{
    struct channel *ch = dev;
    struct drive *d = selected(ch);

    if (off != T_DATA || empty(ch) || !(d->status & ST_DRQ) || d->phase != PHASE_PIO_IN) return 0;
    u32 most = (d->end - d->pos) / size;
    if (n > most) n = most;
    memcpy(to, d->buffer + d->pos, (size_t)n * size);
    d->pos += n * size;
    if (n && d->pos == d->end) {
        if (d->cdrom) atapi_moved(d);
        else ata_moved(d);
    }
    return n;
}
static u32 data_out(void *dev, u32 off, unsigned size, const u8 *from, u32 n)
{
    struct drive *d = selected(dev);

    if (off != T_DATA || !(d->status & ST_DRQ) || d->phase != PHASE_PIO_OUT) return 0;
    u32 most = (d->end - d->pos) / size;
    if (n > most) n = most;
    memcpy(d->buffer + d->pos, from, (size_t)n * size);
    d->pos += n * size;
    if (n && d->pos == d->end) ata_moved(d);
    return n;
}

static u32 task_read(void *dev, u32 off, unsigned size)
{
    struct channel *ch = dev;
    u32 v = 0;

    if (off == T_DATA) return data_read(ch, size);
    for (unsigned i = 0; i < size; i++) {
        u8 byte = off + i == T_COMMAND ? status_read(ch) : register_read(ch, off + i);
        if (off + i == T_COMMAND) channel_irq(ch, false);
        v |= (u32)byte << 8 * i;
    }
    return v;
}

static void task_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct channel *ch = dev;

    if (off == T_DATA) {
        data_write(selected(ch), size, val);
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        u8 byte = (u8)(val >> 8 * i);
        if (off + i == T_COMMAND) command_write(ch, byte);
        else if (off + i == T_DEVICE) ch->device = byte;
        else register_write(ch, off + i, byte);
    }
}

static u32 control_read(void *dev, u32 off UNUSED, unsigned size UNUSED) { return status_read(dev); }
static void control_io_write(void *dev, u32 off UNUSED, unsigned size UNUSED, u32 val) { control_write(dev, (u8)val); }

static const struct io_ops task_ops = { task_read, task_write };
static const struct io_strings task_strings = { data_in, data_out };
static const struct io_ops control_ops = { control_read, control_io_write };

/* ---- the bus masters ---- */

static u8 bm_read_byte(struct channel *ch, unsigned reg)
{
    switch (reg) {
    case BM_COMMAND: return ch->bm_command;
    case BM_STATUS: return ch->bm_status;
    case BM_TABLE ... BM_TABLE + 3: return (u8)(ch->bm_table >> 8 * (reg - BM_TABLE));
    default: return 0;
    }
}

static void bm_start(struct channel *ch)
{
    struct drive *d = selected(ch);

    ch->bm_status |= BM_ACTIVE;
    if (!d->there || d->busy) return;
    if (d->cdrom) atapi_dma(d);
    else ata_dma(d);
}

static void bm_write_byte(struct channel *ch, unsigned reg, u8 val)
{
    unsigned shift = 8 * (reg & 3);
    bool was = ch->bm_command & BM_START;

    switch (reg) {
    case BM_COMMAND:
        ch->bm_command = val & (BM_START | BM_TO_MEMORY);
        if (!was && (val & BM_START)) bm_start(ch);
        if (!(val & BM_START)) ch->bm_status &= (u8)~BM_ACTIVE;
        break;
    case BM_STATUS:
        ch->bm_status = (u8)((ch->bm_status & ~(val & (BM_ERROR | BM_INTERRUPT)) & ~BM_CAPABLE) | (val & BM_CAPABLE));
        break;
    case BM_TABLE ... BM_TABLE + 3: ch->bm_table = (ch->bm_table & ~(0xffu << shift)) | ((u32)val << shift); break;
    default: break;
    }
    ch->bm_table &= ~3u;
}

static u32 bm_read(void *dev, u32 off, unsigned size)
{
    struct ide *ide = dev;
    u32 v = 0;

    for (unsigned i = 0; i < size; i++) v |= (u32)bm_read_byte(&ide->ch[(off + i) >> 3 & 1], (off + i) & 7) << 8 * i;
    return v;
}
static void bm_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct ide *ide = dev;

    for (unsigned i = 0; i < size; i++) bm_write_byte(&ide->ch[(off + i) >> 3 & 1], (off + i) & 7, (u8)(val >> 8 * i));
}
static const struct io_ops bm_ops = { bm_read, bm_write };

/* ---- a board's part ---- */

static void channel_on_reset(void *chip);
static void drive_on_reset(void *chip);

static bool channel_check(const void *chip)
{
    const struct channel *ch = chip;
    return !(ch->bm_table & 3) && !(ch->bm_status & ~(BM_ACTIVE | BM_ERROR | BM_INTERRUPT | BM_CAPABLE));
}

/* What the transfers rely on. */
static bool drive_check(const void *chip)
{
    const struct drive *d = chip;
    u64 room = d->cdrom ? d->sectors / (CD_SECTOR / BLOCKDEV_SECTOR) : d->sectors;
    bool packets = d->phase == PHASE_PACKET || d->phase == PHASE_DMA_REPLY;

    if (d->pos > d->end || d->end > DRIVE_BUFFER || d->have > DRIVE_BUFFER || !d->heads || !d->per_track) return false;
    if (d->left && (d->lba > room || d->left > room - d->lba)) return false;
    if (d->phase == PHASE_PIO_IN && d->cdrom && d->end > d->have) return false;
    if (!d->cdrom && d->left && d->phase != PHASE_DMA_IN && d->phase != PHASE_DMA_OUT && !d->block) return false;
    if (packets && !d->cdrom) return false;
    if (d->cdrom && (d->phase == PHASE_PIO_OUT || d->phase == PHASE_DMA_OUT)) return false;
    if (d->phase == PHASE_PACKET && d->end != 12) return false;
    if (d->phase == PHASE_PIO_OUT && (!d->end || d->end % BLOCKDEV_SECTOR || d->end / BLOCKDEV_SECTOR > d->left))
        return false;
    return !((d->status & ST_DRQ) && d->phase != PHASE_NONE && d->phase < PHASE_DMA_IN && d->pos == d->end);
}

static const struct snap_table channel_table = { .name = "ide channel",
                                                 .version = 1,
                                                 .size = sizeof(struct channel),
                                                 .fields = channel_fields,
                                                 .reset = channel_on_reset,
                                                 .check = channel_check };
static const struct snap_table drive_table = { .name = "ide drive",
                                               .version = 3,
                                               .size = sizeof(struct drive),
                                               .fields = drive_fields,
                                               .reset = drive_on_reset,
                                               .check = drive_check };

static void channel_on_reset(void *chip)
{
    snap_reset(&channel_table, chip);
    channel_update(chip);
}
static void drive_on_reset(void *chip)
{
    struct drive *d = chip;

    BUG_ON(d->busy);
    snap_reset(&drive_table, d);
    d->uncached = d->dev && d->dev->write_through;
    drive_reset(d);
}

/* ---- media ---- */

static void drive_put(struct drive *d, struct blockdev *dev);

bool ide_medium_prevented(const struct ide *ide, unsigned i) { return ide->ch[i / 2].drive[i % 2].prevented; }
bool ide_tray_open(const struct ide *ide, unsigned i) { return ide->ch[i / 2].drive[i % 2].tray_open; }

void ide_eject_request(struct ide *ide, unsigned i) { ide->ch[i / 2].drive[i % 2].event = EVENT_EJECT_REQUEST; }

void ide_change_medium(struct ide *ide, unsigned i, struct blockdev *dev)
{
    struct drive *d = &ide->ch[i / 2].drive[i % 2];

    BUG_ON(!d->cdrom || d->busy);
    drive_put(d, dev);
    d->tray_open = d->prevented = false;
    d->attention = true;
    d->event = dev ? EVENT_NEW : EVENT_REMOVAL;
}

unsigned ide_parts(struct ide *ide, struct snap_part *out, unsigned room)
{
    static const char *const channel_name[2] = { "ide0", "ide1" };
    static const char *const drive_name[IDE_DRIVES] = { "ide0.0", "ide0.1", "ide1.0", "ide1.1" };
    unsigned n = 0;

    for (unsigned i = 0; i < 2 && n < room; i++)
        out[n++] = (struct snap_part){ channel_name[i], &channel_table, &ide->ch[i] };
    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        struct drive *d = &ide->ch[i / 2].drive[i % 2];
        if (d->there && n < room) out[n++] = (struct snap_part){ drive_name[i], &drive_table, d };
    }
    return n;
}

/* A driver leaves a channel alone that is not decoded. */
static void ide_fn_reset(void *opaque)
{
    struct ide *ide = opaque;

    if (!ide->fn) return;
    for (unsigned i = 0; i < 2; i++) pci_fn_config(ide->fn)[CFG_IDETIM + 2 * i + 1] = IDETIM_DECODE >> 8;
}

static int ide_attach(struct ide *ide, struct pci *p)
{
    const struct pci_desc d = { .dev = 1,
                                .fn = 1,
                                .vendor = 0x8086,
                                .device = 0x7010,
                                .class_code = 1,
                                .subclass = 1,
                                .prog_if = 0x80,
                                .bar = { [4] = { .size = 16, .io = true, .ops = &bm_ops } },
                                .opaque = ide,
                                .name = "piix3 ide",
                                .reset = ide_fn_reset };
    int err = pci_add(p, &ide->fn, &d);

    if (err) return err;
    memset(pci_fn_writable(ide->fn) + CFG_IDETIM, 0xff, CFG_IDETIM_LEN);
    ide_fn_reset(ide);
    return 0;
}

static void drive_put(struct drive *d, struct blockdev *dev)
{
    d->dev = dev;
    d->sectors = dev ? dev->size / BLOCKDEV_SECTOR : 0;
}

static int drive_init(struct drive *d, struct channel *ch, const struct ide_disk *disk)
{
    d->ch = ch;
    d->there = disk->dev || disk->cdrom;
    d->cdrom = disk->cdrom;
    d->serial = disk->serial;
    drive_put(d, disk->dev);
    if (d->there) drive_on_reset(d);
    if (d->there && !d->cdrom) d->ahead = malloc(DRIVE_AHEAD);
    return d->there && !d->cdrom && !d->ahead ? -ENOMEM : 0;
}

int ide_new(struct ide **out, struct bus *b, struct pci *p, struct irq_line irq14, struct irq_line irq15,
            const struct ide_disk *disk /* IDE_DRIVES */)
{
    static const u16 base[2] = { 0x1f0, 0x170 }, control[2] = { 0x3f6, 0x376 };
    struct ide *ide = calloc(1, sizeof *ide);
    int err = 0;

    if (!ide) return -ENOMEM;
    ide->bus = b;
    for (unsigned i = 0; i < 2; i++) {
        struct channel *ch = &ide->ch[i];

        ch->ide = ide;
        ch->irq = i ? irq15 : irq14;
        channel_on_reset(ch);
        for (unsigned n = 0; n < 2 && !err; n++) err = drive_init(&ch->drive[n], ch, &disk[i * 2 + n]);
    }
    for (unsigned i = 0; i < 2 && !err; i++) {
        err = bus_map_pio(b, base[i], 8, &task_ops, &ide->ch[i], "ide");
        if (!err) bus_pio_strings(b, base[i], &task_strings);
        if (!err) err = bus_map_pio(b, control[i], 1, &control_ops, &ide->ch[i], "ide control");
    }
    if (!err) err = ide_attach(ide, p);
    if (err) {
        ide_free(ide); /* NOT the ports: the bus goes down with a board that could not be built */
        return err;
    }
    *out = ide;
    return 0;
}

void ide_free(struct ide *ide)
{
    if (!ide) return;
    for (unsigned i = 0; i < IDE_DRIVES; i++) free(ide->ch[i / 2].drive[i % 2].ahead);
    free(ide);
}
