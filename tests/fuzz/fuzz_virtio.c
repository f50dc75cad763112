/* Drivers that lie: rings, descriptors and registers of virtio devices (a disk, a network card, random numbers, a
 * console, a balloon) hold whatever comes, mostly nearly right. Nothing may crash, stop for ever, or leave the guest's
 * memory (under ASan, that of the device either).
 *
 *   fuzz_virtio [--seed N] [--count N] */
#include "core/blockdev.h"
#include "core/netdev.h"
#include "core/rngdev.h"
#include "runtime/mem/physmem.h"
#include "src/dev/pc_devices.h"

#include <getopt.h>
#include <string.h>

#define RAM (16u << 20)
#define AREA 0x100000u /* where rings, tables and buffers are, all over each other */
#define AREA_SIZE 0x8000u
#define MEM_BASE 0xe0000000u
#define DEVICES 5u /* at 00:03.0 and on */

static u64 rng;
static u32 rnd(u32 n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (u32)((rng * 0x2545f4914f6cdd1dull) >> 32) % n;
}

static struct job *first;
static void on_submit(void *be UNUSED, struct blockdev_req *r)
{
    r->job.next = first;
    first = &r->job;
}
static u64 finished, sent, numbers, printed;
static struct rngdev_req *asked;
static void on_ask(void *be UNUSED, struct rngdev_req *r)
{
    BUG_ON(asked || !r->wanted || r->wanted > RNGDEV_MAX);
    asked = r;
}
static void on_print(void *be UNUSED, const u8 *buf UNUSED, size_t n) { printed += n; }
static void finish(void)
{
    struct rngdev_req *r = asked;
    asked = NULL;
    if (r) {
        r->got = rnd(8) ? 1 + rnd(r->wanted) : 0;
        numbers += r->got;
        r->done(r);
    }
    for (; first; finished++) {
        struct blockdev_req *r = JOB_OF(first, struct blockdev_req);
        first = first->next;
        if (r->op == BLOCKDEV_READ)
            for (unsigned i = 0; i < r->niov; i++) memset(r->iov[i].iov_base, 0x5a, r->iov[i].iov_len);
        r->done(r, rnd(8) ? 0 : -5);
    }
}
static void on_send(void *be UNUSED, const u8 *frame UNUSED, size_t n)
{
    BUG_ON(n > NETDEV_LARGE_MAX);
    sent++;
}
static void on_ready(void *be UNUSED) {}

static u64 address(void)
{
    static const u64 odd[] = { 0, RAM - 8, RAM, 0xf0000000, ~0ull, ~0ull - 16, 1ull << 63 };
    return rnd(40) ? AREA + rnd(AREA_SIZE / 16) * 16 : odd[rnd(ARRAY_LEN(odd))];
}
static void descriptor(struct bus *b, u64 at, bool table)
{
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } d = { address(), rnd(20) ? rnd(600) : rnd(0x7fffffff) * 2u, (u16)(rnd(4) | (rnd(6) || table ? 0 : 4)),
            (u16)rnd(rnd(30) ? 16 : 0xffff) };
    if (!rnd(3)) { /* the header of a read of the first sectors, and where they go */
        d.addr = AREA + AREA_SIZE + 0x1000;
        d.len = 16;
        d.flags = 1;
    } else if (!rnd(2)) {
        d.len = 513;
        d.flags = 2;
    }
    if (d.flags & 4) d.len = rnd(20) * 16;
    (void)bus_dma_write(b, at, &d, 16);
}

/* What the devices are in front of. */
struct behind {
    struct netdev *net;
    struct chardev *line;
    struct virtio_balloon *balloon;
};

static void step(struct bus *b, u32 bar, const struct behind *be)
{
    static u8 frame[NETDEV_LARGE_MAX];
    u16 v;
    switch (rnd(12)) {
    case 0: bus_mmio_write(b, bar + 20, 1, rnd(4) ? 0xf : rnd(256)); break;
    case 1: bus_mmio_write(b, bar + rnd(64), 1u << rnd(3), rnd(8) ? rnd(4) : rnd(0xffffffff)); break;
    case 2:
        if (!rnd(3)) bus_mmio_write(b, bar + 0x2000 + rnd(70), 1u << rnd(3), rnd(0xffffffff));
        (void)bus_mmio_read(b, bar + rnd(0x4000), 1u << rnd(3));
        break;
    case 3: finish(); break;
    case 4:
        switch (rnd(4)) {
        case 0: (void)be->net->receive(be->net->fe, frame, rnd(NETDEV_FRAME_MAX + 1)); break;
        case 1: be->line->rx(be->line->fe, frame, rnd(NETDEV_FRAME_MAX)); break;
        case 3: /* of no bytes but zeroes: what a header says is the card's to doubt */
            if (!be->net->large->takes(be->net->fe)) break;
            (void)be->net->large->receive(be->net->fe, frame, 54 + rnd(NETDEV_LARGE_MAX - 54 + 1), (u16)rnd(0x10000));
            break;
        case 2: virtio_balloon_want(be->balloon, rnd(0xffffffff)); break;
        }
        break;
    case 5:
    case 6: descriptor(b, AREA + rnd(32) * 16, false); break;
    case 7: descriptor(b, AREA + rnd(AREA_SIZE / 16) * 16, true); break;
    case 8:
    case 9:
        v = (u16)rnd(rnd(20) ? 16 : 0xffff);
        (void)bus_dma_write(b, AREA + 0x1000 + rnd(40) * 2, &v, 2);
        break;
    case 10:
        for (unsigned q = 0; q < 2; q++) {
            (void)bus_dma_read(b, AREA + 0x1002 + q * 0x3000, &v, 2);
            v = (u16)(v + rnd(rnd(30) ? 4 : 0xffff));
            (void)bus_dma_write(b, AREA + 0x1002 + q * 0x3000, &v, 2);
        }
        break;
    default: bus_mmio_write(b, bar + 0x3000 + 4 * rnd(3), 2, 0); break;
    }
}

/* A driver that begins by the book. */
static void start(struct bus *b, u32 bar)
{
    bus_mmio_write(b, bar + 20, 1, 0);
    finish();
    for (unsigned i = 0; i < 2; i++) {
        bus_mmio_write(b, bar + 8, 4, i);
        bus_mmio_write(b, bar + 12, 4, i ? 1 : rnd(0xffffffff) & 0x30008a83);
    }
    bus_mmio_write(b, bar + 20, 1, 0xb);
    for (unsigned q = 0; q < 2; q++) {
        const u64 at[3] = { AREA, AREA + 0x1000 + q * 0x3000, AREA + 0x2000 + q * 0x3000 };
        bus_mmio_write(b, bar + 22, 2, q);
        bus_mmio_write(b, bar + 24, 2, 1u << rnd(9));
        for (unsigned i = 0; i < 3; i++) bus_mmio_write(b, bar + 32 + 8 * i, 4, (u32)(rnd(30) ? at[i] : address()));
        bus_mmio_write(b, bar + 28, 2, 1);
        const u32 zero = 0;
        (void)bus_dma_write(b, at[1], &zero, 4);
    }
    bus_mmio_write(b, bar + 20, 1, 0xf);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { 0 } };
    static const struct blockdev_ops disk_ops = { on_submit };
    static const struct netdev_ops net_ops = { on_send, on_ready };
    const struct irq_line none[16] = { 0 };
    struct blockdev disk = { .ops = &disk_ops, .size = 1 << 20 };
    struct netdev net = { .ops = &net_ops, .sends_large = true };
    const struct nic_desc nic = { .slot = 3, .net = &net, .mac = { 2 }, .name = "virtio-net" };
    static const struct chardev_ops line_ops = { on_print };
    static const struct rngdev source = { on_ask, NULL };
    struct chardev line = { .ops = &line_ops };
    struct virtio_rng *rng_card;
    struct virtio_console *console;
    struct virtio_balloon *balloon;
    struct virtio_blk *blk;
    struct virtio_net *card;
    struct bus *b;
    struct clock *clk; /* that fields of chips know of */
    struct pci *pci;
    u64 seed = 1, count = 20000;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (o == '?') return 2;
        *(o == 's' ? &seed : &count) = strtoull(optarg, NULL, 0);
    }
    BUG_ON(bus_new(&b, RAM) || clock_new(&clk) || pci_new(&pci, b, none, none, (struct dev_event){ 0 }));
    BUG_ON(virtio_net_new(&card, b, pci, &nic) || virtio_blk_new(&blk, b, pci, 4, "blk", &disk, "S"));
    BUG_ON(virtio_rng_new(&rng_card, b, pci, 5, &source) || virtio_console_new(&console, b, pci, 6, &line)
           || virtio_balloon_new(&balloon, b, pci, 7));
    const struct behind behind = { &net, &line, balloon };
    pci_firmware_setup(pci, MEM_BASE, 0xc000);
    u32 bar[DEVICES];
    for (unsigned i = 0; i < DEVICES; i++) {
        bus_out(b, 0xcf8, 4, 0x80000004u | (3 + i) << 11);
        bus_out(b, 0xcfc, 4, 7);
        bus_out(b, 0xcf8, 4, 0x80000020u | (3 + i) << 11);
        bar[i] = bus_in(b, 0xcfc, 4);
    }
    rng = seed * 0x9e3779b97f4a7c15ull | 1;
    for (u64 n = 0; n < count; n++) {
        start(b, bar[n % DEVICES]);
        for (unsigned i = rnd(200); i--;) step(b, bar[n % DEVICES], &behind);
    }
    finish();
    printf("%llu drivers, %llu disk requests done, %llu frames sent, %llu random numbers, %llu characters\n",
           (unsigned long long)count, (unsigned long long)finished, (unsigned long long)sent,
           (unsigned long long)numbers, (unsigned long long)printed);
    virtio_balloon_free(balloon);
    virtio_console_free(console);
    virtio_rng_free(rng_card);
    virtio_blk_free(blk);
    virtio_net_free(card);
    pci_free(pci);
    clock_free(clk);
    bus_free(b);
    return count >= 1000 && (!finished || !sent || !numbers || !printed); /* all must be reached */
}
