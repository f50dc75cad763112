/* One drive on an IDE cable, as the channel and the two command sets (ata.c, atapi.c) see it. */
#ifndef SRC_DEV_IDE_DRIVE_H
#define SRC_DEV_IDE_DRIVE_H
#include "core/blockdev.h"
#include "core/bus.h"

/* clang-format off */
enum { ST_ERR = 0x01, ST_DRQ = 0x08, ST_DSC = 0x10, ST_DF = 0x20, ST_DRDY = 0x40, ST_BSY = 0x80 };
enum { ERR_ABRT = 0x04, ERR_IDNF = 0x10, ERR_UNC = 0x40 };
enum { DEV_HEAD = 0x0f, DEV_SECOND = 0x10, DEV_LBA = 0x40, DEV_ALWAYS = 0xa0 };
enum { REASON_COMMAND = 1, REASON_TO_HOST = 2 }; /* in the count register, for packets */
/* clang-format on */

#define DRIVE_BUFFER 8192u /* bytes: sixteen sectors, four of a CD */
#define MULTIPLE_MAX 16u
#define DRIVE_AHEAD 65536u  /* bytes */
#define DRIVE_SEGMENTS 512u /* pieces of one DMA transfer */
#define CD_SECTOR 2048u

/* What happens with the data of the present command. */
enum phase {
    PHASE_NONE,
    PHASE_PIO_IN,  /* the guest reads the buffer */
    PHASE_PIO_OUT, /* the guest fills it */
    PHASE_PACKET,  /* the guest fills it with a packet */
    PHASE_DMA_IN,  /* waits for the bus master, or is under way */
    PHASE_DMA_OUT,
    PHASE_DMA_REPLY, /* likewise, of what is in the buffer */
    PHASE_LAST = PHASE_DMA_REPLY
};

struct channel;
struct drive {
    struct channel *ch;
    bool there;           /* there is a drive */
    struct blockdev *dev; /* its disk; NULL: no drive, or a CD-ROM drive that is empty */
    bool cdrom;
    const char *serial;
    u64 sectors; /* of 512 bytes */

    /* What a guest can see and change: drive_fields. */
    u8 feature, error, status, command;
    u8 reg[5], hob[5];   /* count, LBA low, mid, high; [4] is not used; hob: what was written before */
    u8 heads, per_track; /* translation, as INITIALIZE DEVICE PARAMETERS has set it */
    u8 multiple;         /* sectors in a block of READ MULTIPLE; 0: not set */
    u8 dma_mode;         /* as SET FEATURES has set it: 0x20.. multi-word, 0x40.. Ultra DMA */
    u8 phase;
    u8 buffer[DRIVE_BUFFER];
    u32 pos, end;        /* of what the guest moves in buffer: pos <= end */
    u32 have;            /* bytes in buffer that are data; atapi: of which [.., end) is the present burst */
    u64 lba;             /* next sector to go to or come from the disk */
    u32 left;            /* sectors of the command that have not been moved yet (CD: of 2048 bytes) */
    u8 block;            /* sectors of a PIO block */
    bool ext;            /* a 48-bit command */
    u8 sense, asc, ascq; /* of the last packet */
    bool attention;      /* a medium has come or gone, and nobody has been told */
    bool tray_open;      /* by the guest: what lies in it is still there once it is closed */
    bool prevented;      /* the guest wants its medium to stay */
    bool uncached;       /* each write is durable: the write cache is off, by SET FEATURES or for good */
    u8 event;            /* what GET EVENT STATUS has to tell of the medium: enum media_event */

    /* What a PIO command will come to, read at once. Whoever has not got it reads it again. */
    u8 *ahead; /* DRIVE_AHEAD bytes of a disk's */
    u64 ahead_lba;
    u32 ahead_n;  /* sectors; 0: none */
    bool careful; /* there is a sector ahead that cannot be read: one block at a time */

    /* Under way: never while the board is saved or reset (pc_quiesce). */
    struct blockdev_req req;
    struct iovec iov[DRIVE_SEGMENTS];
    unsigned niov;
    bool busy;  /* req is the back end's */
    bool reset; /* a reset waits for it */
};

enum { R_COUNT, R_LOW, R_MID, R_HIGH };

/* ---- the channel's, for both command sets ---- */

void channel_irq(struct channel *ch, bool level);
u8 drive_device(const struct drive *d); /* the device register: one for both drives */
void drive_set_head(struct drive *d, u8 head);
/* Starts the disk's work on buffer[0, n), or on iov; done() of the command set goes on from there. */
void drive_submit(struct drive *d, enum blockdev_op op, u64 offset, u64 n,
                  void (*then)(struct blockdev_req *r, int err));
/* Reads n bytes into ahead; likewise. */
void drive_read_ahead(struct drive *d, u64 offset, u32 n, void (*then)(struct blockdev_req *r, int err));
/* Ends the command: status and an interrupt. error: bits of the error register, 0: it went well. */
void drive_end(struct drive *d, u8 error);
/* Is the bus master running in this direction? Then makes iov of its list, for exactly n bytes. 0, -EAGAIN: it is not
 * running; -EFAULT: its list is short, or not in memory. */
MUST_CHECK int drive_dma_map(struct drive *d, u64 n, bool to_guest);
void drive_dma_unmap(struct drive *d, bool to_guest, bool ok);
/* First of all in each completion: false where the drive has been reset meanwhile, and there is nothing to do. */
MUST_CHECK bool drive_completed(struct drive *d);

/* ---- the command sets ---- */

void ata_signature(struct drive *d);
void ata_command(struct drive *d, u8 command);
void ata_moved(struct drive *d); /* the guest has moved the buffer up to end */
void ata_dma(struct drive *d);   /* the bus master has been started */
/* What has become of the medium, since it was asked last (MMC-3, table 169). */
enum media_event { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW, EVENT_REMOVAL, EVENT_LAST = EVENT_REMOVAL };
void atapi_command(struct drive *d, u8 command);
void atapi_packet(struct drive *d); /* a whole one is in the buffer */
void atapi_moved(struct drive *d);
void atapi_dma(struct drive *d);

static inline void put_word(u8 *buffer, unsigned word, unsigned v)
{
    buffer[word * 2] = (u8)v;
    buffer[word * 2 + 1] = (u8)(v >> 8);
}
/* Strings of IDENTIFY: blank-padded, the first character of each word in its high byte. */
static inline void put_text(u8 *buffer, unsigned word, unsigned words, const char *text)
{
    for (unsigned i = 0; i < words * 2; i++) buffer[word * 2 + (i ^ 1)] = (u8)(*text ? *text++ : ' ');
}

#endif
