/* Owns the frames between a virtio network card's rings and its network. It has no state beside the transport's: what
 * is under way is in the rings, or with the back end.
 *   I1  A frame is given to the driver as a whole or not at all.                                      [net_receive]
 * Enter at net_receive(), transmit(). Virtual I/O Device (VIRTIO) 1.2, 5.1. There is no control queue: frames for any
 * address come in, as of a card that is promiscuous. */
#include "core/netdev.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { RX, TX, QUEUES };
enum { MAC_LEN = 6, CONFIG_STATUS = 6, CONFIG_LEN = 8, LINK_UP = 1 };
enum { HEADER_OLD = 10, HEADER_MAX = 12, NUM_BUFFERS = 10 };
#define F_MAC (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)

struct virtio_net {
    struct virtio *v;
    struct netdev *net;
    u8 config[CONFIG_LEN];
    struct vchain chain[2]; /* the first of a frame, and the present one */
};

/* 5.1.6.1: before 1.0 without merged buffers, the number of them is not there. */
static unsigned header_len(const struct virtio_net *n)
{
    return virtio_has(n->v, F_MRG_RXBUF | VIRTIO_F_VERSION_1) ? HEADER_MAX : HEADER_OLD;
}

/* ---- from the network ---- */

/* Fills chains until all of the frame is in. false: there are not enough; nothing has been given. */
static bool net_receive(void *fe, const u8 *frame, size_t len)
{
    struct virtio_net *n = fe;
    u8 buf[HEADER_MAX + NETDEV_FRAME_MAX] = { 0 };
    unsigned header = header_len(n), used = 0;
    size_t total = header + len, done = 0;

    if (!virtio_running(n->v, RX) || len > NETDEV_FRAME_MAX) return true; /* nobody listens */
    memcpy(buf + header, frame, len);
    while (done < total) {
        struct vchain *c = &n->chain[used > 0];

        if (!virtio_pop(n->v, RX, c)) {
            virtio_unpop(n->v, RX, used);
            return !virtio_running(n->v, RX); /* a driver that has broken the rules gets nothing more */
        }
        if (c->in_len < (used ? 1 : header)) {
            virtio_break(n->v);
            return true;
        }
        if (c->in_len < total && !virtio_has(n->v, F_MRG_RXBUF)) { /* 5.1.6.3.1: it should have room */
            virtio_push(n->v, RX, c, 0);
            return true;
        }
        size_t k = iov_write(vchain_in(c), c->nin, 0, buf + done, total - done);
        virtio_put(n->v, RX, c, used++, (u32)k);
        done += k;
    }
    if (header == HEADER_MAX) {
        u8 count[2];

        virtio_le(count, used, 2);
        iov_write(vchain_in(&n->chain[0]), n->chain[0].nin, NUM_BUFFERS, count, 2);
    }
    virtio_publish(n->v, RX, used);
    return true;
}

/* ---- to the network ---- */

static void transmit(struct virtio_net *n)
{
    struct vchain *c = &n->chain[0];
    u8 frame[NETDEV_FRAME_MAX];
    unsigned header = header_len(n), done = 0;

    for (; done < VRING_MAX && virtio_pop(n->v, TX, c); done++) {
        size_t len;

        if (c->out_len < header) {
            virtio_break(n->v);
            return;
        }
        len = c->out_len - header;
        if (len >= NETDEV_FRAME_MIN && len <= sizeof frame) {
            iov_read(vchain_out(c), c->nout, header, frame, len);
            netdev_send(n->net, frame, len);
        }
        virtio_put(n->v, TX, c, done, 0);
    }
    if (done) virtio_publish(n->v, TX, done);
}

static void net_notify(void *dev, unsigned queue)
{
    struct virtio_net *n = dev;

    if (queue == TX) transmit(n);
    else netdev_ready(n->net);
}

/* ---- life ---- */

int virtio_net_new(struct virtio_net **out, struct bus *bus, struct pci *p, const struct nic_desc *nic)
{
    static const struct virtio_ops ops = { .notify = net_notify };
    struct virtio_net *n = calloc(1, sizeof *n);
    int err;

    if (!n) return -ENOMEM;
    n->net = nic->net;
    memcpy(n->config, nic->mac, MAC_LEN);
    n->config[CONFIG_STATUS] = LINK_UP;
    const struct virtio_desc d = {
        .slot = nic->slot,
        .type = 1,
        .class_code = 2, /* network controller, Ethernet */
        .name = nic->name,
        .rom = nic->rom,
        .rom_size = nic->rom_size,
        .queues = QUEUES,
        .features = F_MAC | F_MRG_RXBUF | F_STATUS,
        .config = n->config,
        .config_len = CONFIG_LEN,
        .ops = &ops,
        .dev = n,
    };
    err = virtio_new(&n->v, bus, p, &d);
    if (err) {
        free(n);
        return err;
    }
    n->net->receive = net_receive;
    n->net->fe = n;
    *out = n;
    return 0;
}

void virtio_net_free(struct virtio_net *n)
{
    if (!n) return;
    n->net->receive = NULL;
    virtio_free(n->v);
    free(n);
}

struct snap_part virtio_net_part(struct virtio_net *n) { return virtio_part(n->v); }
