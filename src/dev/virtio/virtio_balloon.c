/* Owns the size that somebody wants the guest's memory to have, and the size that the driver says it has: the pages
 * between the two are the host's again. What the driver lists is taken for what it is, an offer to forget these pages:
 * it may use them again at any time, and finds zeroes or what was there.
 *   I1  The driver cannot make us forget anything but RAM of its own.                            [bus_ram_forget]
 * Enter at balloon_notify(), virtio_balloon_want(). Virtual I/O Device (VIRTIO) 1.2, 5.5. Statistics, hints of free
 * pages and reports of them are not offered. */
#include "core/iov.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { INFLATE, DEFLATE, QUEUES };
enum { CONFIG_WANTED = 0, CONFIG_ACTUAL = 4, CONFIG_LEN = 8 };
#define FRAME_SHIFT 12u /* 5.5.6: pages of 4 KiB, whatever the guest's are */
#define PIECE 128u      /* frames */

/* 5.5.4, little-endian: pages that the balloon should have, and has. */
struct balloon {
    u8 wanted[CONFIG_ACTUAL - CONFIG_WANTED], actual[CONFIG_LEN - CONFIG_ACTUAL];
};
_Static_assert(sizeof(struct balloon) == CONFIG_LEN, "it is the configuration");

struct virtio_balloon {
    struct virtio *v;
    struct bus *bus;
    struct vchain chain;
    struct balloon size;
};

static const struct snap_field balloon_fields[] = {
    SNAP_ARRAY(struct balloon, wanted, .keep = true), /* a wish of the host's */
    SNAP_ARRAY(struct balloon, actual),
    { 0 },
};
static const struct snap_table balloon_table = { .name = "balloon",
                                                 .version = 1,
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

static void balloon_notify(void *dev, unsigned queue)
{
    struct virtio_balloon *b = dev;

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
            b->size.actual[off + i - CONFIG_ACTUAL] = (u8)(val >> 8 * i);
}

/* All memory is the guest's again. */
static void balloon_reset(void *dev)
{
    struct virtio_balloon *b = dev;
    memset(b->size.actual, 0, sizeof b->size.actual);
}

void virtio_balloon_want(struct virtio_balloon *b, u32 pages)
{
    virtio_le(b->size.wanted, pages, sizeof b->size.wanted);
    virtio_config_changed(b->v);
}

u32 virtio_balloon_pages(const struct virtio_balloon *b)
{
    return (u32)virtio_from_le(b->size.actual, sizeof b->size.actual);
}

int virtio_balloon_new(struct virtio_balloon **out, struct bus *bus, struct pci *p, u8 slot)
{
    static const struct virtio_ops ops = { .notify = balloon_notify, .reset = balloon_reset, .config = balloon_config };
    struct virtio_balloon *b = calloc(1, sizeof *b);
    int err;

    if (!b) return -ENOMEM;
    b->bus = bus;
    const struct virtio_desc d = {
        .slot = slot,
        .type = 5,
        .class_code = 0, /* none of the classes there were */
        .subclass = 0xff,
        .name = "virtio-balloon",
        .queues = QUEUES,
        .config = (const u8 *)&b->size,
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
    if (n < room) out[n++] = (struct snap_part){ "balloon", &balloon_table, &b->size };
    return n;
}
