/* A virtio device on PCI: the transport (virtio_pci.c) as the devices behind it see it: virtio_blk.c,
 * virtio_net.c, .. */
#ifndef SRC_DEV_VIRTIO_VIRTIO_H
#define SRC_DEV_VIRTIO_VIRTIO_H
#include "core/snap.h"
#include "src/dev/pc_devices.h"
#include "src/dev/virtio/vring.h"

#define VIRTIO_QUEUES 3u      /* at most */
#define VIRTIO_ENTRIES 256u   /* of a queue, unless a device has a reason */
#define VIRTIO_CONFIG_MAX 64u /* bytes of a device's configuration */

/* Bits of the features that belong to the transport. */
#define VIRTIO_F_INDIRECT (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

struct virtio;
struct virtio_ops {
    void (*notify)(void *dev, unsigned queue); /* there may be chains to take; also when the device begins */
    void (*reset)(void *dev); /* what is under way counts no more; the transport has forgotten it. May be NULL */
    /* Is something still under way that was begun before a reset? The driver waits for that. NULL: never. */
    bool (*busy)(const void *dev);
    /* The driver has written to the configuration. NULL: there is nothing in it to be written. */
    void (*config)(void *dev, u32 off, unsigned size, u32 val);
};
struct virtio_desc {
    u8 slot;  /* 00:slot.0 */
    u16 type; /* virtio device ID: 1 network card, 2 block device, 3 console, 4 entropy, 5 balloon, 9 9P */
    u8 class_code, subclass;
    const char *name; /* in a snapshot */
    u8 *rom;          /* a boot ROM, as pci_desc has it */
    u32 rom_size;
    unsigned queues;
    u16 entries;  /* of a queue, at most: a power of two up to VRING_MAX; 0: VIRTIO_ENTRIES */
    u64 features; /* of the device */
    const u8 *config;
    u32 config_len; /* bytes, up to VIRTIO_CONFIG_MAX */
    const struct virtio_ops *ops;
    void *dev;
};
/* The descriptor is copied; name, config, ops and dev are borrowed. 0 or -errno. */
MUST_CHECK int virtio_new(struct virtio **out, struct bus *b, struct pci *p, const struct virtio_desc *d);
void virtio_free(struct virtio *v);
struct snap_part virtio_part(struct virtio *v);

bool virtio_has(const struct virtio *v, u64 feature);                /* device and driver have agreed on it */
bool virtio_running(const struct virtio *v, unsigned queue);         /* the driver is ready, and has broken no rule */
bool virtio_pop(struct virtio *v, unsigned queue, struct vchain *c); /* false: there is none, or may be none now */
/* Gives c back with `written` bytes in it, and interrupts if the driver wants it. */
void virtio_push(struct virtio *v, unsigned queue, const struct vchain *c, u32 written);
/* The same in parts, for what is one thing to the driver: c as number i, then n of them at once. */
void virtio_put(struct virtio *v, unsigned queue, const struct vchain *c, unsigned i, u32 written);
void virtio_publish(struct virtio *v, unsigned queue, unsigned n);
void virtio_unpop(struct virtio *v, unsigned queue, unsigned n);
/* The driver has broken the rules: nothing goes on until it resets the device (2.1.2). */
void virtio_break(struct virtio *v);
/* The device has changed its configuration: the driver is told. */
void virtio_config_changed(struct virtio *v);

static inline void virtio_le(u8 *p, u64 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> 8 * i);
}
static inline u64 virtio_from_le(const u8 *p, unsigned n)
{
    u64 v = 0;
    for (unsigned i = 0; i < n; i++) v |= (u64)p[i] << 8 * i;
    return v;
}

#endif
