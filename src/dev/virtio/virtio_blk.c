/* Owns the requests of a virtio block device.
 *   I1  A request is free, or the disk's. The disk has it until done(), also beyond a reset by the driver: it is stale
 *       then, and goes back to nobody.                                                                 [blk_reset]
 *   I2  Without VIRTIO_BLK_F_FLUSH a write is on disk before the driver hears of it (5.2.6.2).           [submit]
 * Enter at blk_notify(). Virtual I/O Device (VIRTIO) 1.2, 5.2. */
#include "core/blockdev.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { HEADER = 16, RANGE = 16, ID_LEN = 20, ZEROES_UNMAP = 1 };
#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH (1ull << 9)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)
#define REQUESTS 64u
#define ENTRIES VRING_MAX    /* header and status, and more pages than what Linux makes one request of: 256 */
#define RANGE_MAX (1u << 22) /* sectors of one discard: 2 GiB */

struct request {
    struct blockdev_req req;
    struct vchain chain;
    struct iovec data[VRING_PIECES];
    struct virtio_blk *blk;
    struct request *next; /* that is free */
    u32 epoch;
};

struct virtio_blk {
    struct virtio *v;
    struct bus *bus;
    struct blockdev *disk;
    char id[ID_LEN];
    u8 config[60];
    struct request request[REQUESTS];
    struct request *idle;
    u32 epoch; /* of resets */
    unsigned under_way, stale;
};

/* ---- ends ---- */

static void idle_put(struct virtio_blk *b, struct request *r)
{
    r->next = b->idle;
    b->idle = r;
}

/* The status is the last byte of what the driver wants written; all of that may have been. */
static void finish(struct request *r, u8 status)
{
    struct virtio_blk *b = r->blk;
    struct vchain *c = &r->chain;

    iov_write(vchain_in(c), c->nin, c->in_len - 1, &status, 1);
    virtio_push(b->v, 0, c, c->in_len);
    idle_put(b, r);
}

static void blk_notify(void *dev, unsigned queue);
static void blk_done(struct blockdev_req *req, int err)
{
    struct request *r = req->arg;
    struct virtio_blk *b = r->blk;

    if (r->epoch != b->epoch) {
        b->stale--;
        vchain_unmap(b->bus, &r->chain, r->chain.in_len);
        idle_put(b, r);
        return;
    }
    b->under_way--;
    finish(r, err ? S_IOERR : S_OK);
    blk_notify(b, 0); /* there may have been more than there was room for */
}

/* ---- begins ---- */

static void submit(struct request *r, enum blockdev_op op, u64 sector, u64 len, unsigned niov)
{
    struct virtio_blk *b = r->blk;
    u64 sectors = b->disk->size / BLOCKDEV_SECTOR;

    if (len % BLOCKDEV_SECTOR || sector > sectors || len / BLOCKDEV_SECTOR > sectors - sector) {
        finish(r, S_IOERR);
        return;
    }
    r->req = (struct blockdev_req){ .op = op,
                                    .offset = op == BLOCKDEV_FLUSH ? 0 : sector * BLOCKDEV_SECTOR,
                                    .len = len,
                                    .iov = r->data,
                                    .niov = niov,
                                    .durable = !virtio_has(b->v, F_FLUSH),
                                    .done = blk_done,
                                    .arg = r };
    r->epoch = b->epoch;
    b->under_way++;
    blockdev_submit(b->disk, &r->req);
}

/* 5.2.6: one range, as max_discard_seg and max_write_zeroes_seg say. */
static void range_begin(struct request *r, bool zeroes)
{
    struct vchain *c = &r->chain;
    u8 range[RANGE];
    u32 flags, n;

    if (c->out_len != HEADER + RANGE || iov_read(vchain_out(c), c->nout, HEADER, range, RANGE) != RANGE) {
        finish(r, S_IOERR);
        return;
    }
    n = (u32)virtio_from_le(range + 8, 4);
    flags = (u32)virtio_from_le(range + 12, 4);
    if (flags & ~(zeroes ? ZEROES_UNMAP : 0u)) finish(r, S_UNSUPP);
    else if (n > RANGE_MAX) finish(r, S_IOERR);
    else submit(r, zeroes ? BLOCKDEV_ZERO : BLOCKDEV_DISCARD, virtio_from_le(range, 8), (u64)n * BLOCKDEV_SECTOR, 0);
}

static void request_begin(struct request *r)
{
    struct virtio_blk *b = r->blk;
    struct vchain *c = &r->chain;
    u8 header[HEADER];
    u64 sector;

    if (!c->in_len || iov_read(vchain_out(c), c->nout, 0, header, HEADER) != HEADER) {
        idle_put(b, r);
        virtio_break(b->v);
        return;
    }
    sector = virtio_from_le(header + 8, 8);
    switch (virtio_from_le(header, 4)) {
    case T_IN:
        submit(r, BLOCKDEV_READ, sector, c->in_len - 1, iov_slice(r->data, vchain_in(c), c->nin, 0, c->in_len - 1));
        break;
    case T_OUT:
        submit(r, BLOCKDEV_WRITE, sector, c->out_len - HEADER,
               iov_slice(r->data, vchain_out(c), c->nout, HEADER, c->out_len - HEADER));
        break;
    case T_FLUSH: submit(r, BLOCKDEV_FLUSH, 0, 0, 0); break;
    case T_GET_ID:
        iov_write(vchain_in(c), c->nin, 0, b->id, c->in_len - 1 < ID_LEN ? c->in_len - 1 : ID_LEN);
        finish(r, S_OK);
        break;
    case T_DISCARD: range_begin(r, false); break;
    case T_WRITE_ZEROES: range_begin(r, true); break;
    default: finish(r, S_UNSUPP); break;
    }
}

static void blk_notify(void *dev, unsigned queue)
{
    struct virtio_blk *b = dev;

    while (b->idle) {
        struct request *r = b->idle;

        if (!virtio_pop(b->v, queue, &r->chain)) return;
        b->idle = r->next;
        request_begin(r);
    }
}

static void blk_reset(void *dev)
{
    struct virtio_blk *b = dev;

    b->stale += b->under_way;
    b->under_way = 0;
    b->epoch++;
}

static bool blk_busy(const void *dev) { return ((const struct virtio_blk *)dev)->stale; }

/* ---- life ---- */

/* 5.2.4. */
static void config_init(struct virtio_blk *b)
{
    enum { CAPACITY = 0, SEG_MAX = 12, BLK_SIZE = 20, DISCARD = 36, WRITE_ZEROES = 48, MAY_UNMAP = 56 };

    virtio_le(b->config + CAPACITY, b->disk->size / BLOCKDEV_SECTOR, 8);
    virtio_le(b->config + SEG_MAX, ENTRIES - 2, 4);
    virtio_le(b->config + BLK_SIZE, BLOCKDEV_SECTOR, 4);
    virtio_le(b->config + DISCARD, RANGE_MAX, 4);
    virtio_le(b->config + DISCARD + 4, 1, 4); /* ranges in a request */
    virtio_le(b->config + DISCARD + 8, 1, 4); /* alignment, sectors */
    virtio_le(b->config + WRITE_ZEROES, RANGE_MAX, 4);
    virtio_le(b->config + WRITE_ZEROES + 4, 1, 4);
    b->config[MAY_UNMAP] = 1;
}

int virtio_blk_new(struct virtio_blk **out, struct bus *bus, struct pci *p, u8 slot, const char *name,
                   struct blockdev *disk, const char *serial)
{
    static const struct virtio_ops ops = { .notify = blk_notify, .reset = blk_reset, .busy = blk_busy };
    struct virtio_blk *b = calloc(1, sizeof *b);
    int err;

    if (!b) return -ENOMEM;
    b->bus = bus;
    b->disk = disk;
    memcpy(b->id, serial, strnlen(serial, ID_LEN));
    for (unsigned i = 0; i < REQUESTS; i++) {
        b->request[i].blk = b;
        idle_put(b, &b->request[i]);
    }
    config_init(b);
    const struct virtio_desc d = {
        .slot = slot,
        .type = 2,
        .class_code = 1, /* mass storage */
        .name = name,
        .queues = 1,
        .entries = ENTRIES,
        .features = F_SEG_MAX | F_BLK_SIZE | (disk->write_through ? 0 : F_FLUSH)
                    | (disk->readonly ? F_RO : F_DISCARD | F_WRITE_ZEROES),
        .config = b->config,
        .config_len = sizeof b->config,
        .ops = &ops,
        .dev = b,
    };
    err = virtio_new(&b->v, bus, p, &d);
    if (err) {
        free(b);
        return err;
    }
    *out = b;
    return 0;
}

void virtio_blk_free(struct virtio_blk *b)
{
    if (!b) return;
    virtio_free(b->v);
    free(b);
}

struct snap_part virtio_blk_part(struct virtio_blk *b) { return virtio_part(b->v); }
