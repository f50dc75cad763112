/* Owns the bytes between a virtio console's rings and the line behind it. One port: F_MULTIPORT is not offered, nor is
 * F_SIZE, since a line says nothing of a terminal's size.
 *   I1  What the line brings waits in `input` until the driver has room, over its resets as well.   [console_input]
 * Enter at console_rx() (the line), console_notify() (the driver). Virtual I/O Device (VIRTIO) 1.2, 5.3. */
#include "core/iov.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>

enum { RX, TX, QUEUES };
#define F_EMERG_WRITE (1ull << 2)
enum { CONFIG_EMERG = 8, CONFIG_LEN = 12 };
#define INPUT_MAX (1u << 20) /* bytes; what comes beyond is lost */
#define PIECE 512u

/* Of a saved machine's, beside the transport. */
struct line {
    struct byte_queue input;
};

struct virtio_console {
    struct virtio *v;
    struct chardev *be;
    struct vchain chain;
    struct line line;
};

static const struct snap_field line_fields[] = {
    SNAP(struct line, input, .max = INPUT_MAX),
    { 0 },
};
static const struct snap_table line_table = { .name = "hvc",
                                              .version = 1,
                                              .size = sizeof(struct line),
                                              .fields = line_fields };

static void console_input(struct virtio_console *c)
{
    struct byte_queue *q = &c->line.input;

    while (q->len && virtio_pop(c->v, RX, &c->chain)) {
        u32 n = q->len < c->chain.in_len ? q->len : c->chain.in_len;
        u8 buf[PIECE];

        for (u32 done = 0, k; done < n; done += k) {
            k = n - done < PIECE ? n - done : PIECE;
            for (u32 i = 0; i < k; i++) buf[i] = byte_queue_take(q);
            iov_write(vchain_in(&c->chain), c->chain.nin, done, buf, k);
        }
        virtio_push(c->v, RX, &c->chain, n);
    }
}

static void console_rx(void *fe, const u8 *buf, size_t n)
{
    struct virtio_console *c = fe;

    (void)!byte_queue_put(&c->line.input, buf, n, INPUT_MAX);
    console_input(c);
}

static void console_output(struct virtio_console *c)
{
    for (unsigned done = 0; done < VIRTIO_ENTRIES && virtio_pop(c->v, TX, &c->chain); done++) {
        u8 buf[PIECE];

        for (size_t at = 0, k; (k = iov_read(vchain_out(&c->chain), c->chain.nout, at, buf, sizeof buf)) > 0; at += k)
            chardev_write(c->be, buf, k);
        virtio_push(c->v, TX, &c->chain, 0);
    }
}

static void console_notify(void *dev, unsigned queue)
{
    struct virtio_console *c = dev;

    if (queue == TX) console_output(c);
    else console_input(c);
}

/* 5.3.4: a character without any ring, of a kernel that has just begun or is about to end. */
static void console_config(void *dev, u32 off, unsigned size UNUSED, u32 val)
{
    struct virtio_console *c = dev;
    const u8 byte = (u8)val;

    if (off == CONFIG_EMERG) chardev_write(c->be, &byte, 1);
}

int virtio_console_new(struct virtio_console **out, struct bus *bus, struct pci *p, u8 slot, struct chardev *line)
{
    static const struct virtio_ops ops = { .notify = console_notify, .config = console_config };
    static const u8 config[CONFIG_LEN];
    struct virtio_console *c = calloc(1, sizeof *c);
    int err;

    if (!c) return -ENOMEM;
    c->be = line;
    const struct virtio_desc d = {
        .slot = slot,
        .type = 3,
        .class_code = 7, /* simple communication controller */
        .subclass = 0x80,
        .name = "virtio-console",
        .queues = QUEUES,
        .features = F_EMERG_WRITE,
        .config = config,
        .config_len = CONFIG_LEN,
        .ops = &ops,
        .dev = c,
    };
    err = virtio_new(&c->v, bus, p, &d);
    if (err) {
        free(c);
        return err;
    }
    line->rx = console_rx;
    line->fe = c;
    *out = c;
    return 0;
}

void virtio_console_free(struct virtio_console *c)
{
    if (!c) return;
    if (c->be->fe == c) c->be->rx = NULL;
    virtio_free(c->v);
    byte_queue_free(&c->line.input);
    free(c);
}

unsigned virtio_console_parts(struct virtio_console *c, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (n < room) out[n++] = virtio_part(c->v);
    if (n < room) out[n++] = (struct snap_part){ "hvc", &line_table, &c->line };
    return n;
}
