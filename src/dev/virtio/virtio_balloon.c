/* Owns the size that somebody wants the guest's memory to have, and the size that the driver says it has: the pages
 * between the two are the host's again. What the driver lists is taken for what it is, an offer to forget these pages:
 * it may use them again at any time, and finds zeroes or what was there.
 *   I1  The driver cannot make us forget anything but RAM of its own.                                [bus_ram_forget]
 *   I2  The buffer of statistics stays in the ring until they are asked for: nothing of it is ours.      [stats_hear]
 * Enter at balloon_notify(), virtio_balloon_want(), virtio_balloon_ask(). Virtual I/O Device (VIRTIO) 1.2, 5.5. Hints
 * of free pages and reports of them are not offered. */
#include "core/iov.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { INFLATE, DEFLATE, STATS, QUEUES };
enum { CONFIG_WANTED = 0, CONFIG_ACTUAL = 4, CONFIG_LEN = 8 };
#define F_STATS_VQ (1ull << 1)
#define FRAME_SHIFT 12u                  /* 5.5.6: pages of 4 KiB, whatever the guest's are */
#define PIECE 128u                       /* frames */
enum { STAT_LEN = 10, STATS_MOST = 64 }; /* 5.5.6.3: a tag of 16 bits, a value of 64; how many are looked at */

struct balloon {
    /* 5.5.4, little-endian: pages that the balloon should have, and has. */
    u8 wanted[CONFIG_ACTUAL - CONFIG_WANTED], actual[CONFIG_LEN - CONFIG_ACTUAL];
    u64 stat[BALLOON_STATS]; /* by tag, as the driver said them last */
    u64 said;                /* bits: which of them it has said, */
    u64 said_at;             /* and when: guest ns */
};
_Static_assert(offsetof(struct balloon, stat) == CONFIG_LEN, "what is before is the configuration");

struct virtio_balloon {
    struct virtio *v;
    struct bus *bus;
    struct clock *clk;
    struct vchain chain;
    struct balloon now;
};

static const struct snap_field balloon_fields[] = {
    SNAP_ARRAY(struct balloon, wanted, .keep = true), /* a wish of the host's */
    SNAP_ARRAY(struct balloon, actual),
    SNAP_ARRAY(struct balloon, stat, .since = 2),
    SNAP(struct balloon, said, .since = 2, .max = (1u << BALLOON_STATS) - 1),
    SNAP(struct balloon, said_at, .since = 2),
    { 0 },
};
static const struct snap_table balloon_table = { .name = "balloon",
                                                 .version = 2,
                                                 .size = sizeof(struct balloon),
                                                 .fields = balloon_fields };

/* Frames that follow each other are forgotten at once. */
static void frames_forget(struct virtio_balloon *b, const u8 *frames, size_t n)
{
    u64 first = 0, count = 0;

    for (size_t i = 0; i < n; i++) {
        const u64 frame = virtio_from_le(frames + 4 * i, 4);

        if (!count || frame != first + count) {
            bus_ram_forget(b->bus, first << FRAME_SHIFT, count << FRAME_SHIFT);
            first = frame;
            count = 0;
        }
        count++;
    }
    bus_ram_forget(b->bus, first << FRAME_SHIFT, count << FRAME_SHIFT);
}

/* The driver has put a buffer there with what it knows, and gets it back when it is asked for more. Tags that we do not
 * know are passed over, as 5.5.6.3 has it. */
static void stats_hear(struct virtio_balloon *b)
{
    struct vchain *c = &b->chain;
    struct balloon *now = &b->now;
    u8 stat[STAT_LEN];

    if (!virtio_pop(b->v, STATS, c)) return;
    now->said = 0;
    now->said_at = clock_now(b->clk);
    for (unsigned i = 0; i < STATS_MOST && iov_read(vchain_out(c), c->nout, i * STAT_LEN, stat, STAT_LEN) == STAT_LEN;
         i++) {
        const u64 tag = virtio_from_le(stat, 2);

        if (tag >= BALLOON_STATS) continue;
        now->stat[tag] = virtio_from_le(stat + 2, 8);
        now->said |= 1ull << tag;
    }
    virtio_unpop(b->v, STATS, 1);
}

static void balloon_notify(void *dev, unsigned queue)
{
    struct virtio_balloon *b = dev;

    if (queue == STATS) {
        stats_hear(b);
        return;
    }

    for (unsigned done = 0; done < VIRTIO_ENTRIES && virtio_pop(b->v, queue, &b->chain); done++) {
        u8 frames[4 * PIECE];
        const struct vchain *c = &b->chain;

        for (size_t at = 0, k; queue == INFLATE && at < c->out_len; at += k) {
            k = iov_read(vchain_out(&b->chain), c->nout, at, frames, sizeof frames);
            frames_forget(b, frames, k / 4);
        }
        virtio_push(b->v, queue, c, 0);
    }
}

/* In as many accesses as the driver likes; before 1.0 byte by byte. */
static void balloon_config(void *dev, u32 off, unsigned size, u32 val)
{
    struct virtio_balloon *b = dev;

    for (unsigned i = 0; i < size; i++)
        if (off + i >= CONFIG_ACTUAL && off + i < CONFIG_LEN)
            b->now.actual[off + i - CONFIG_ACTUAL] = (u8)(val >> 8 * i);
}

/* All memory is the guest's again. */
static void balloon_reset(void *dev)
{
    struct virtio_balloon *b = dev;
    memset(b->now.actual, 0, sizeof b->now.actual);
    memset(b->now.stat, 0, sizeof b->now.stat);
    b->now.said = b->now.said_at = 0;
}

void virtio_balloon_want(struct virtio_balloon *b, u32 pages)
{
    virtio_le(b->now.wanted, pages, sizeof b->now.wanted);
    virtio_config_changed(b->v);
}

u32 virtio_balloon_pages(const struct virtio_balloon *b)
{
    return (u32)virtio_from_le(b->now.actual, sizeof b->now.actual);
}

/* After it the ring is looked at again, and the driver so asked to tell of the next buffer. */
void virtio_balloon_ask(struct virtio_balloon *b)
{
    if (!virtio_pop(b->v, STATS, &b->chain)) return;
    virtio_push(b->v, STATS, &b->chain, 0);
    stats_hear(b);
}

void virtio_balloon_stats(const struct virtio_balloon *b, struct balloon_stats *out)
{
    _Static_assert(sizeof out->value == sizeof b->now.stat, "all of them");
    memcpy(out->value, b->now.stat, sizeof out->value);
    out->said = (u32)b->now.said;
    out->said_at = b->now.said_at;
}

int virtio_balloon_new(struct virtio_balloon **out, struct bus *bus, struct clock *clk, struct pci *p, u8 slot)
{
    static const struct virtio_ops ops = { .notify = balloon_notify, .reset = balloon_reset, .config = balloon_config };
    struct virtio_balloon *b = calloc(1, sizeof *b);
    int err;

    if (!b) return -ENOMEM;
    b->bus = bus;
    b->clk = clk;
    const struct virtio_desc d = {
        .slot = slot,
        .type = 5,
        .class_code = 0, /* none of the classes there were */
        .subclass = 0xff,
        .name = "virtio-balloon",
        .queues = QUEUES,
        .features = F_STATS_VQ,
        .config = (const u8 *)&b->now,
        .config_len = CONFIG_LEN,
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

void virtio_balloon_free(struct virtio_balloon *b)
{
    if (!b) return;
    virtio_free(b->v);
    free(b);
}

unsigned virtio_balloon_parts(struct virtio_balloon *b, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (n < room) out[n++] = virtio_part(b->v);
    if (n < room) out[n++] = (struct snap_part){ "balloon", &balloon_table, &b->now };
    return n;
}
