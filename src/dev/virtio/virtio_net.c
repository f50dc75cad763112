/* Owns the frames between a virtio network card's rings and its network. It has no state beside the transport's: what
 * is under way is in the rings, or with the back end.
 *   I1  A frame is given to the driver as a whole or not at all.                                      [packet_give]
 * Enter at net_receive(), transmit(). Virtual I/O Device (VIRTIO) 1.2, 5.1. Checksums and segments that the driver
 * leaves to the card are made here. There is no control queue: frames for any address come in, as of a card that is
 * promiscuous. */
#include "core/netdev.h"
#include "src/dev/net/segment.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { RX, TX, QUEUES };
enum { MAC_LEN = 6, CONFIG_STATUS = 6, CONFIG_LEN = 8, LINK_UP = 1 };
enum { HEADER_OLD = 10, HEADER_MAX = 12, NUM_BUFFERS = 10 };
/* The header, 5.1.6. */
enum { H_FLAGS = 0, H_GSO_TYPE = 1, H_LENGTH = 2, H_GSO_SIZE = 4, H_CSUM_START = 6, H_CSUM_OFFSET = 8 };
enum { TCP_AT = NETDEV_FRAME_MIN + 20, TCP_SUM_AT = 16 }; /* behind an IPv4 without options */
enum { NEEDS_CSUM = 1, DATA_VALID = 2, GSO_NONE = 0, GSO_TCP4 = 1, GSO_TCP6 = 4, GSO_ECN = 0x80 };
#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_GUEST_TSO4 (1ull << 7)
#define F_HOST_TSO4 (1ull << 11)
#define F_HOST_TSO6 (1ull << 12)
#define F_HOST_ECN (1ull << 13)
#define F_MAC (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)
#define PACKET_ROOM (HEADER_MAX + SEGMENT_PACKET_MAX)

struct virtio_net {
    struct virtio *v;
    struct netdev *net;
    u8 config[CONFIG_LEN];
    struct vchain chain[2]; /* the first of a frame, and the present one */
    u8 *packet;             /* PACKET_ROOM bytes, of what is being sent or received */
};

/* 5.1.6.1: before 1.0 without merged buffers, the number of them is not there. */
static unsigned header_len(const struct virtio_net *n)
{
    return virtio_has(n->v, F_MRG_RXBUF | VIRTIO_F_VERSION_1) ? HEADER_MAX : HEADER_OLD;
}

/* ---- from the network ---- */

/* Fills chains until all of n->packet is in: header and frame. false: there are not enough; nothing has been given. */
static bool packet_give(struct virtio_net *n, unsigned header, size_t total)
{
    size_t done = 0;
    unsigned used = 0;

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
        size_t k = iov_write(vchain_in(c), c->nin, 0, n->packet + done, total - done);
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

/* Puts a frame into n->packet, behind an empty header. false: nobody listens. */
static bool frame_begin(struct virtio_net *n, unsigned header, const u8 *frame, size_t len)
{
    if (!virtio_running(n->v, RX)) return false;
    memset(n->packet, 0, header);
    memcpy(n->packet + header, frame, len);
    return true;
}

static bool net_receive(void *fe, const u8 *frame, size_t len)
{
    struct virtio_net *n = fe;
    const unsigned header = header_len(n);

    if (len > NETDEV_FRAME_MAX || !frame_begin(n, header, frame, len)) return true;
    if (virtio_has(n->v, F_GUEST_CSUM) && inet_is_valid(frame, len)) n->packet[H_FLAGS] = DATA_VALID;
    return packet_give(n, header, header + len);
}

/* Without merged buffers each would have to be as large as the largest packet. */
static bool large_takes(void *fe)
{
    const struct virtio_net *n = fe;

    return virtio_has(n->v, F_GUEST_TSO4) && virtio_has(n->v, F_GUEST_CSUM) && virtio_has(n->v, F_MRG_RXBUF);
}

/* 5.1.6.4.1: the checksum is the driver's to make, if it should need one. */
static bool large_receive(void *fe, const u8 *packet, size_t len, u16 part)
{
    struct virtio_net *n = fe;
    u8 *head = n->packet;

    if (!large_takes(fe) || len > NETDEV_LARGE_MAX || !frame_begin(n, HEADER_MAX, packet, len)) return true;
    head[H_FLAGS] = NEEDS_CSUM;
    head[H_GSO_TYPE] = GSO_TCP4;
    virtio_le(head + H_LENGTH, TCP_AT + (packet[TCP_AT + 12] >> 4) * 4u, 2);
    virtio_le(head + H_GSO_SIZE, part, 2);
    virtio_le(head + H_CSUM_START, TCP_AT, 2);
    virtio_le(head + H_CSUM_OFFSET, TCP_SUM_AT, 2);
    segment_join(head + HEADER_MAX, len);
    return packet_give(n, HEADER_MAX, HEADER_MAX + len);
}

/* ---- to the network ---- */

/* 5.1.6.2: what the driver has left to the card. The packet is n->packet; head its header. */
static void packet_send(struct virtio_net *n, const u8 *head, size_t len)
{
    const size_t start = virtio_from_le(head + H_CSUM_START, 2), offset = virtio_from_le(head + H_CSUM_OFFSET, 2);
    /* What has not been agreed on is no more than bytes. */
    const bool sums = virtio_has(n->v, F_CSUM), cuts = virtio_has(n->v, F_HOST_TSO4 | F_HOST_TSO6);
    const u8 type = cuts ? head[H_GSO_TYPE] & (u8)~GSO_ECN : GSO_NONE;
    u8 *p = n->packet;

    if (type == GSO_NONE) {
        if (sums && (head[H_FLAGS] & NEEDS_CSUM)) (void)inet_insert(p, len, start, SIZE_MAX, start + offset);
        if (len >= NETDEV_FRAME_MIN && len <= NETDEV_FRAME_MAX) netdev_send(n->net, p, len);
        return;
    }
    if ((type != GSO_TCP4 && type != GSO_TCP6) || !(head[H_FLAGS] & NEEDS_CSUM) || start + 13 > len) return;
    const struct segment s = {
        .network = inet_network(p, len),
        .transport = start,
        .header = start + (p[start + 12] >> 4) * 4u, /* what the driver says of it is a hint */
        .size = (u16)virtio_from_le(head + H_GSO_SIZE, 2),
        .v6 = type == GSO_TCP6,
    };
    (void)segment_send(p, len, &s, n->net);
}

static void transmit(struct virtio_net *n)
{
    struct vchain *c = &n->chain[0];
    u8 head[HEADER_MAX];
    unsigned header = header_len(n), done = 0;

    for (; done < VIRTIO_ENTRIES && virtio_pop(n->v, TX, c); done++) {
        size_t len;

        if (c->out_len < header) {
            virtio_break(n->v);
            return;
        }
        len = c->out_len - header;
        if (len <= SEGMENT_PACKET_MAX) {
            iov_read(vchain_out(c), c->nout, 0, head, header);
            iov_read(vchain_out(c), c->nout, header, n->packet, len);
            packet_send(n, head, len);
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
    static const struct netdev_large large = { large_takes, large_receive };
    struct virtio_net *n = calloc(1, sizeof *n);
    int err;

    if (!n || !(n->packet = malloc(PACKET_ROOM))) {
        free(n);
        return -ENOMEM;
    }
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
        .features = F_MAC | F_MRG_RXBUF | F_STATUS | F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_HOST_TSO4 | F_HOST_TSO6
                    | F_HOST_ECN,
        .config = n->config,
        .config_len = CONFIG_LEN,
        .ops = &ops,
        .dev = n,
    };
    err = virtio_new(&n->v, bus, p, &d);
    if (err) {
        free(n->packet);
        free(n);
        return err;
    }
    n->net->receive = net_receive;
    n->net->large = &large;
    n->net->fe = n;
    *out = n;
    return 0;
}

void virtio_net_free(struct virtio_net *n)
{
    if (!n) return;
    n->net->receive = NULL;
    n->net->large = NULL;
    virtio_free(n->v);
    free(n->packet);
    free(n);
}

struct snap_part virtio_net_part(struct virtio_net *n) { return virtio_part(n->v); }
