/* A split virtqueue from the device's side (virtio 1.2, 2.7). All that is in it is the driver's word: every index,
 * length and address is checked when it is taken, and what is wrong breaks the ring for good (until a reset). */
#ifndef SRC_DEV_VIRTIO_VRING_H
#define SRC_DEV_VIRTIO_VRING_H
#include "core/bus.h"
#include "core/iov.h"

#define VRING_MAX 512u                /* entries */
#define VRING_PIECES (VRING_MAX + 16) /* of host memory; RAM has few places where it is not contiguous */

/* What a driver sets and sees; the transport's fields. */
struct vring {
    u16 size; /* entries: a power of two up to VRING_MAX */
    bool enabled;
    u16 vector; /* of MSI-X */
    u64 desc, avail, used;
    u16 next_avail; /* entries taken, modulo 2^16 */
    u16 next_used;  /* entries given back, likewise */
    u16 told;       /* next_used when it was last decided whether to interrupt */
};
/* What driver and device have agreed on (2.7.5.3, 2.7.7). */
struct vring_mode {
    struct bus *bus;
    bool indirect, event_idx;
};

/* A chain of descriptors, mapped: what the driver wrote first, then what it wants written. */
struct vchain {
    u16 head;
    unsigned nout, nin;
    u32 out_len, in_len; /* bytes */
    struct iovec iov[VRING_PIECES];
};
static inline struct iovec *vchain_out(struct vchain *c) { return c->iov; }
static inline struct iovec *vchain_in(struct vchain *c) { return c->iov + c->nout; }

enum vring_pop { VRING_EMPTY, VRING_CHAIN, VRING_BROKEN };
/* Takes the next chain. It is the device's until vring_put(), which must come before RAM is gone. When there is none,
 * the driver has been asked to notify of the next. */
enum vring_pop vring_pop(struct vring *r, const struct vring_mode *m, struct vchain *c);
/* Puts chain c back as number i after next_used, with its first `written` bytes of in written; the driver sees it with
 * the next vring_publish(). false: the ring is not in RAM any more. */
MUST_CHECK bool vring_put(struct vring *r, const struct vring_mode *m, const struct vchain *c, unsigned i, u32 written);
MUST_CHECK bool vring_publish(struct vring *r, const struct vring_mode *m, unsigned n);
/* The device is done with what c points to, and has written that much of it; vring_put() does it by itself. */
void vchain_unmap(struct bus *b, const struct vchain *c, u32 written);
/* Undoes the last n vring_pop(), which have been given up. */
void vring_unpop(struct vring *r, unsigned n);
/* Does the driver want to be interrupted for what has been published since this was last asked? */
bool vring_wants_interrupt(struct vring *r, const struct vring_mode *m);

#endif
