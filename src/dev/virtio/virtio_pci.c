/* Owns what all virtio devices on PCI have in common: a transitional function with the registers of before 1.0 in an
 * I/O BAR and those of 1.x in a memory BAR, feature bits, status, rings, and interrupts by INTx or MSI-X.
 *   I1  A ring is read only while the driver is ready, has broken no rule, and lets us master the bus.
 *       [virtio_running]
 *   I2  Once DEVICE_NEEDS_RESET is set it stays until a reset.                                         [status_write]
 *   I3  INTx is asserted iff ISR is not 0 and MSI-X is off.                                            [intx_update]
 * Enter at modern_write(), legacy_write(). Virtual I/O Device (VIRTIO) 1.2: 2.1 (status), 2.2 (features), 4.1 (PCI). */
#include "src/dev/pci/msix.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };
enum { LEGACY_SIZE = 128, MODERN_SIZE = 0x4000 };
enum { AT_COMMON = 0x0000, AT_ISR = 0x1000, AT_DEVICE = 0x2000, AT_NOTIFY = 0x3000, PART_SIZE = 0x1000 };
/* clang-format off */
/* 4.1.4.3. */
enum {
    C_DEVICE_SELECT = 0, C_DEVICE_FEATURE = 4, C_DRIVER_SELECT = 8, C_DRIVER_FEATURE = 12, C_CONFIG_VECTOR = 16,
    C_QUEUES = 18, C_STATUS = 20, C_GENERATION = 21, C_QUEUE_SELECT = 22, C_QUEUE_SIZE = 24, C_QUEUE_VECTOR = 26,
    C_QUEUE_ENABLE = 28, C_NOTIFY_OFF = 30, C_DESC = 32, C_AVAIL = 40, C_USED = 48, C_SIZE = 56,
};
/* 4.1.4.8. */
enum {
    L_DEVICE_FEATURES = 0, L_DRIVER_FEATURES = 4, L_QUEUE_PAGE = 8, L_QUEUE_SIZE = 12, L_QUEUE_SELECT = 14,
    L_NOTIFY = 16, L_STATUS = 18, L_ISR = 19, L_CONFIG_VECTOR = 20, L_QUEUE_VECTOR = 22, L_SIZE = 24,
};
enum { STATUS_FEATURES_OK = 8, STATUS_DRIVER_OK = 4, STATUS_NEEDS_RESET = 0x40 };
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };
/* Capabilities, 4.1.4: where each is in configuration space. */
enum { CAP_COMMON = 0x40, CAP_NOTIFY = 0x50, CAP_ISR = 0x64, CAP_DEVICE = 0x74, CAP_PCI_CFG = 0x84, CAP_MSIX = 0x98 };
enum { CAP_VENDOR = 0x09, CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_EXTRA = 16 };
/* clang-format on */
#define LEGACY_ALIGN 4096u
#define NOTIFY_MULTIPLIER 4u

struct virtio {
    struct virtio_desc d;
    struct pci_fn *fn;
    struct irq_line intx;
    struct bus *bus;
    struct msix msix;
    u32 device_select, driver_select; /* which 32 bits of the features are shown */
    u64 driver_features;
    u16 config_vector, queue_select;
    u8 status, isr;
    u8 generation;            /* of the configuration, 4.1.4.3 */
    struct vring q[2], third; /* ring_at() */
};

static const struct snap_field virtio_fields[] = {
    SNAP(struct virtio, device_select),
    SNAP(struct virtio, driver_select),
    SNAP(struct virtio, driver_features),
    SNAP(struct virtio, config_vector, .reset = MSIX_NONE),
    SNAP(struct virtio, queue_select),
    SNAP(struct virtio, status),
    SNAP(struct virtio, isr, .max = ISR_QUEUE | ISR_CONFIG),
    SNAP_COLUMN(struct virtio, q, size, .max = VRING_MAX),
    SNAP_COLUMN(struct virtio, q, enabled),
    SNAP_COLUMN(struct virtio, q, vector, .reset = MSIX_NONE),
    SNAP_COLUMN(struct virtio, q, desc),
    SNAP_COLUMN(struct virtio, q, avail),
    SNAP_COLUMN(struct virtio, q, used),
    SNAP_COLUMN(struct virtio, q, next_avail),
    SNAP_COLUMN(struct virtio, q, next_used),
    SNAP_COLUMN(struct virtio, q, told),
    MSIX_FIELDS(struct virtio, msix),
    SNAP(struct virtio, generation, .since = 2),
    SNAP(struct virtio, third.size, .since = 3, .max = VRING_MAX, .reset = VIRTIO_ENTRIES),
    SNAP(struct virtio, third.enabled, .since = 3),
    SNAP(struct virtio, third.vector, .since = 3, .reset = MSIX_NONE),
    SNAP(struct virtio, third.desc, .since = 3),
    SNAP(struct virtio, third.avail, .since = 3),
    SNAP(struct virtio, third.used, .since = 3),
    SNAP(struct virtio, third.next_avail, .since = 3),
    SNAP(struct virtio, third.next_used, .since = 3),
    SNAP(struct virtio, third.told, .since = 3),
    { 0 },
};

/* Machines that were saved have an array of two. */
static struct vring *ring_at(struct virtio *v, unsigned queue)
{
    return queue < ARRAY_LEN(v->q) ? &v->q[queue] : &v->third;
}
static const struct vring *ring_of(const struct virtio *v, unsigned queue)
{
    return ring_at((struct virtio *)v, queue);
}

static u64 offered(const struct virtio *v)
{
    return v->d.features | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

bool virtio_has(const struct virtio *v, u64 feature) { return v->driver_features & feature; }

static struct vring_mode mode(const struct virtio *v)
{
    return (struct vring_mode){ .bus = v->bus,
                                .indirect = virtio_has(v, VIRTIO_F_INDIRECT),
                                .event_idx = virtio_has(v, VIRTIO_F_EVENT_IDX) };
}

/* ---- interrupts ---- */

static void intx_update(struct virtio *v) { irq_set(&v->intx, v->isr && !msix_enabled(&v->msix)); }

static void interrupt(struct virtio *v, u8 why, u16 vector)
{
    if (msix_enabled(&v->msix)) {
        msix_send(&v->msix, vector);
        return;
    }
    v->isr |= why;
    intx_update(v);
}

static u8 isr_read(struct virtio *v)
{
    u8 isr = v->isr;

    v->isr = 0;
    intx_update(v);
    return isr;
}

/* ---- rings ---- */

bool virtio_running(const struct virtio *v, unsigned queue)
{
    return (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK && ring_of(v, queue)->enabled
           && pci_fn_bus_master(v->fn);
}

static void notify(struct virtio *v, unsigned queue)
{
    if (queue < v->d.queues && virtio_running(v, queue)) v->d.ops->notify(v->d.dev, queue);
}

static void notify_all(struct virtio *v)
{
    for (unsigned i = 0; i < v->d.queues; i++) notify(v, i);
}

void virtio_break(struct virtio *v)
{
    if (v->status & STATUS_NEEDS_RESET) return;
    v->status |= STATUS_NEEDS_RESET;
    if (v->status & STATUS_DRIVER_OK) interrupt(v, ISR_CONFIG, v->config_vector);
}

void virtio_config_changed(struct virtio *v)
{
    v->generation++;
    if (v->status & STATUS_DRIVER_OK) interrupt(v, ISR_CONFIG, v->config_vector);
}

bool virtio_pop(struct virtio *v, unsigned queue, struct vchain *c)
{
    if (!virtio_running(v, queue)) return false;
    const struct vring_mode m = mode(v);
    enum vring_pop what = vring_pop(ring_at(v, queue), &m, c);
    if (what == VRING_BROKEN) virtio_break(v);
    return what == VRING_CHAIN;
}

void virtio_unpop(struct virtio *v, unsigned queue, unsigned n) { vring_unpop(ring_at(v, queue), n); }

void virtio_put(struct virtio *v, unsigned queue, const struct vchain *c, unsigned i, u32 written)
{
    const struct vring_mode m = mode(v);
    if (!vring_put(ring_at(v, queue), &m, c, i, written)) virtio_break(v);
}

void virtio_publish(struct virtio *v, unsigned queue, unsigned n)
{
    const struct vring_mode m = mode(v);
    struct vring *r = ring_at(v, queue);

    if (v->status & STATUS_NEEDS_RESET) return;
    if (!vring_publish(r, &m, n)) virtio_break(v);
    else if (vring_wants_interrupt(r, &m)) interrupt(v, ISR_QUEUE, r->vector);
}

void virtio_push(struct virtio *v, unsigned queue, const struct vchain *c, u32 written)
{
    virtio_put(v, queue, c, 0, written);
    virtio_publish(v, queue, 1);
}

/* ---- status ---- */

static void fields_reset(struct virtio *v);

/* 2.4: by the driver, or by RESET#. */
static void device_reset(struct virtio *v)
{
    fields_reset(v);
    if (v->d.ops->reset) v->d.ops->reset(v->d.dev);
}

/* 2.4.1: what it reads is not 0 before all that was begun is done. */
static u8 status_read(const struct virtio *v)
{
    bool busy = v->d.ops->busy && v->d.ops->busy(v->d.dev);

    return busy ? v->status | STATUS_NEEDS_RESET : v->status;
}

static void status_write(struct virtio *v, u8 val)
{
    u8 was = v->status;

    if (!val) {
        device_reset(v);
        intx_update(v);
        return;
    }
    /* 3.1.1: FEATURES_OK is how we agree. Who does not know of version 1 does not ask. */
    if ((val & STATUS_FEATURES_OK) && !(was & STATUS_FEATURES_OK)
        && ((v->driver_features & ~offered(v)) || !virtio_has(v, VIRTIO_F_VERSION_1)))
        val &= (u8)~STATUS_FEATURES_OK;
    v->status = (val & (u8)~STATUS_NEEDS_RESET) | (was & STATUS_NEEDS_RESET);
    if (!(was & STATUS_DRIVER_OK)) notify_all(v);
}

/* ---- the device's configuration ---- */

static u32 config_read(const struct virtio *v, u32 off, unsigned size)
{
    u32 val = 0;

    for (unsigned i = 0; i < size && off + i < v->d.config_len; i++) val |= (u32)v->d.config[off + i] << 8 * i;
    return val;
}

static void config_write(struct virtio *v, u32 off, unsigned size, u32 val)
{
    if (v->d.ops->config && off + size <= v->d.config_len) v->d.ops->config(v->d.dev, off, size, val);
}

/* ---- registers of 1.x ---- */

static struct vring *selected(struct virtio *v)
{
    return v->queue_select < v->d.queues ? ring_at(v, v->queue_select) : NULL;
}

static u32 half(u64 features, u32 select) { return select < 2 ? (u32)(features >> 32 * select) : 0; }

static u32 common_read(struct virtio *v, u32 off, unsigned size)
{
    const struct vring *r = selected(v);
    u8 reg[C_SIZE + 4] = { 0 };

    if (off + size > C_SIZE) return 0;
    virtio_le(reg + C_DEVICE_SELECT, v->device_select, 4);
    virtio_le(reg + C_DEVICE_FEATURE, half(offered(v), v->device_select), 4);
    virtio_le(reg + C_DRIVER_SELECT, v->driver_select, 4);
    virtio_le(reg + C_DRIVER_FEATURE, half(v->driver_features, v->driver_select), 4);
    virtio_le(reg + C_CONFIG_VECTOR, v->config_vector, 2);
    virtio_le(reg + C_QUEUES, v->d.queues, 2);
    reg[C_STATUS] = status_read(v);
    reg[C_GENERATION] = v->generation;
    virtio_le(reg + C_QUEUE_SELECT, v->queue_select, 2);
    if (r) {
        virtio_le(reg + C_QUEUE_SIZE, r->size, 2);
        virtio_le(reg + C_QUEUE_VECTOR, r->vector, 2);
        virtio_le(reg + C_QUEUE_ENABLE, r->enabled, 2);
        virtio_le(reg + C_NOTIFY_OFF, v->queue_select, 2);
        virtio_le(reg + C_DESC, r->desc, 8);
        virtio_le(reg + C_AVAIL, r->avail, 8);
        virtio_le(reg + C_USED, r->used, 8);
    }
    return (u32)virtio_from_le(reg + off, size);
}

/* 4.1.5.1.2: a vector that is not there reads back as none. */
static u16 vector(const struct virtio *v, u32 val) { return val < v->msix.n ? (u16)val : MSIX_NONE; }

static void set_half(u64 *reg, bool high, u32 val)
{
    *reg = high ? (u32)*reg | (u64)val << 32 : (*reg & ~(u64)UINT32_MAX) | val;
}

/* 4.1.4.3.2: nothing of a ring changes once it is enabled. */
static void queue_write(struct virtio *v, u32 off, unsigned size, u32 val)
{
    struct vring *r = selected(v);

    if (!r) return;
    if (off == C_QUEUE_VECTOR && size == 2) r->vector = vector(v, val);
    if (r->enabled) return;
    if (off == C_QUEUE_SIZE && size == 2 && val && val <= v->d.entries && !(val & (val - 1))) r->size = (u16)val;
    if (off == C_QUEUE_ENABLE && size == 2 && val == 1) r->enabled = true;
    if (size != 4 || off % 4) return;
    if (off / 8 == C_DESC / 8) set_half(&r->desc, off % 8, val);
    if (off / 8 == C_AVAIL / 8) set_half(&r->avail, off % 8, val);
    if (off / 8 == C_USED / 8) set_half(&r->used, off % 8, val);
}

/* Each register in one access of its size; addresses in halves (4.1.3.1). */
static void common_write(struct virtio *v, u32 off, unsigned size, u32 val)
{
    if (off >= C_QUEUE_SIZE) {
        queue_write(v, off, size, val);
    } else if (off == C_STATUS && size == 1) {
        status_write(v, (u8)val);
    } else if (size == 2) {
        if (off == C_CONFIG_VECTOR) v->config_vector = vector(v, val);
        if (off == C_QUEUE_SELECT) v->queue_select = (u16)val;
    } else if (size == 4) {
        if (off == C_DEVICE_SELECT) v->device_select = val;
        if (off == C_DRIVER_SELECT) v->driver_select = val;
        if (off == C_DRIVER_FEATURE && v->driver_select < 2 && !(v->status & STATUS_FEATURES_OK))
            set_half(&v->driver_features, v->driver_select, val);
    }
}

static u32 modern_read(void *dev, u32 off, unsigned size)
{
    struct virtio *v = dev;

    switch (off / PART_SIZE * PART_SIZE) {
    case AT_COMMON: return common_read(v, off, size);
    case AT_ISR: return off == AT_ISR ? isr_read(v) : 0;
    case AT_DEVICE: return config_read(v, off - AT_DEVICE, size);
    default: return 0;
    }
}

static void modern_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct virtio *v = dev;

    if (off < AT_COMMON + PART_SIZE) common_write(v, off, size, val);
    else if (off >= AT_NOTIFY) notify(v, (off - AT_NOTIFY) / NOTIFY_MULTIPLIER);
    else if (off >= AT_DEVICE) config_write(v, off - AT_DEVICE, size, val);
}

static const struct io_ops modern_ops = { modern_read, modern_write };

/* ---- registers of before 1.0 ---- */

static u32 legacy_config_at(const struct virtio *v) { return msix_enabled(&v->msix) ? L_SIZE : L_CONFIG_VECTOR; }

static u32 legacy_read(void *dev, u32 off, unsigned size)
{
    struct virtio *v = dev;
    const struct vring *r = selected(v);
    u8 reg[L_SIZE + 4] = { 0 };

    if (off >= legacy_config_at(v)) return config_read(v, off - legacy_config_at(v), size);
    if (off == L_ISR) return isr_read(v);
    virtio_le(reg + L_DEVICE_FEATURES, (u32)offered(v), 4);
    virtio_le(reg + L_DRIVER_FEATURES, (u32)v->driver_features, 4);
    virtio_le(reg + L_QUEUE_SELECT, v->queue_select, 2);
    virtio_le(reg + L_CONFIG_VECTOR, v->config_vector, 2);
    reg[L_STATUS] = status_read(v);
    if (r) {
        virtio_le(reg + L_QUEUE_PAGE, r->enabled ? r->desc / LEGACY_ALIGN : 0, 4);
        virtio_le(reg + L_QUEUE_SIZE, r->size, 2);
        virtio_le(reg + L_QUEUE_VECTOR, r->vector, 2);
    }
    return (u32)virtio_from_le(reg + off, size);
}

/* 2.7.2: the three parts follow one another. */
static void legacy_place(struct vring *r, u32 page)
{
    u64 end;

    r->desc = (u64)page * LEGACY_ALIGN;
    r->avail = r->desc + 16u * r->size;
    end = r->avail + 6 + 2u * r->size;
    r->used = (end + LEGACY_ALIGN - 1) & ~(u64)(LEGACY_ALIGN - 1);
    r->next_avail = r->next_used = r->told = 0;
    r->enabled = page;
}

static void legacy_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct virtio *v = dev;
    struct vring *r = selected(v);

    if (off >= legacy_config_at(v)) {
        config_write(v, off - legacy_config_at(v), size, val);
        return;
    }
    if (off == L_STATUS && size == 1) {
        status_write(v, (u8)val);
    } else if (size == 2) {
        if (off == L_QUEUE_SELECT) v->queue_select = (u16)val;
        if (off == L_NOTIFY) notify(v, val);
        if (off == L_CONFIG_VECTOR) v->config_vector = vector(v, val);
        if (off == L_QUEUE_VECTOR && r) r->vector = vector(v, val);
    } else if (size == 4) {
        if (off == L_DRIVER_FEATURES) v->driver_features = val & (u32)offered(v);
        if (off == L_QUEUE_PAGE && r && (!val || !r->enabled)) legacy_place(r, val);
    }
}

static const struct io_ops legacy_ops = { legacy_read, legacy_write };

static u32 msix_bar_read(void *dev, u32 off, unsigned size)
{
    return msix_read(&((struct virtio *)dev)->msix, off, size);
}
static void msix_bar_write(void *dev, u32 off, unsigned size, u32 val)
{
    msix_write(&((struct virtio *)dev)->msix, off, size, val);
}
static const struct io_ops msix_ops = { msix_bar_read, msix_bar_write };

/* ---- configuration space ---- */

/* 4.1.4.9: a window through which the BARs can be reached without being mapped. NULL: it is not set to one. */
static const struct io_ops *window(const struct virtio *v, u32 *off, unsigned *size)
{
    const u8 *cap = pci_fn_config(v->fn) + CAP_PCI_CFG;
    u32 len = (u32)virtio_from_le(cap + CAP_LENGTH, 4), room;
    const struct io_ops *ops;

    *off = (u32)virtio_from_le(cap + CAP_OFFSET, 4);
    *size = len;
    switch (cap[CAP_BAR]) {
    case BAR_LEGACY:
        ops = &legacy_ops;
        room = LEGACY_SIZE;
        break;
    case BAR_MODERN:
        ops = &modern_ops;
        room = MODERN_SIZE;
        break;
    default: return NULL;
    }
    return (len == 1 || len == 2 || len == 4) && *off % len == 0 && *off < room ? ops : NULL;
}

static bool in_window(u8 off) { return off >= CAP_PCI_CFG + CAP_EXTRA && off < CAP_PCI_CFG + CAP_EXTRA + 4; }

static void cfg_reading(void *opaque, u8 at, unsigned len UNUSED)
{
    struct virtio *v = opaque;
    u32 off;
    unsigned size;
    const struct io_ops *ops = in_window(at) ? window(v, &off, &size) : NULL;

    if (ops) virtio_le(pci_fn_config(v->fn) + CAP_PCI_CFG + CAP_EXTRA, ops->read(v, off, size), size);
}

static void cfg_written(void *opaque, u8 at, unsigned len)
{
    struct virtio *v = opaque;
    u32 off;
    unsigned size;
    const struct io_ops *ops = in_window(at) ? window(v, &off, &size) : NULL;

    if (ops) ops->write(v, off, size, (u32)virtio_from_le(pci_fn_config(v->fn) + CAP_PCI_CFG + CAP_EXTRA, size));
    if (at < CAP_MSIX + MSIX_CAP && at + len > CAP_MSIX) {
        msix_update(&v->msix);
        intx_update(v);
    }
    if (at == 4) notify_all(v); /* it may master the bus now */
}

/* Puts one capability into the list. */
static u8 *cap_put(struct virtio *v, u8 at, u8 next, u8 len, u8 type, u32 offset)
{
    u8 *cap = pci_fn_config(v->fn) + at;

    cap[0] = CAP_VENDOR;
    cap[1] = next;
    cap[2] = len;
    cap[3] = type;
    if (type == 5) return cap; /* the driver says which */
    cap[CAP_BAR] = BAR_MODERN;
    virtio_le(cap + CAP_OFFSET, offset, 4);
    virtio_le(cap + CAP_LENGTH, PART_SIZE, 4);
    return cap;
}

static void caps_init(struct virtio *v, struct pci *p)
{
    u8 *writable = pci_fn_writable(v->fn) + CAP_PCI_CFG;

    cap_put(v, CAP_COMMON, CAP_NOTIFY, 16, 1, AT_COMMON);
    virtio_le(cap_put(v, CAP_NOTIFY, CAP_ISR, 20, 2, AT_NOTIFY) + CAP_EXTRA, NOTIFY_MULTIPLIER, 4);
    cap_put(v, CAP_ISR, CAP_DEVICE, 16, 3, AT_ISR);
    cap_put(v, CAP_DEVICE, CAP_PCI_CFG, 16, 4, AT_DEVICE);
    cap_put(v, CAP_PCI_CFG, CAP_MSIX, 20, 5, 0);
    writable[CAP_BAR] = 0xff;
    memset(writable + CAP_OFFSET, 0xff, 12);
    msix_init(&v->msix, p, v->fn, CAP_MSIX, 0, BAR_MSIX, (u16)(v->d.queues + 1));
}

/* ---- a board's part ---- */

static bool virtio_check(const void *chip)
{
    const struct virtio *v = chip;

    for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
        const struct vring *r = ring_of(v, i);

        if (i >= v->d.queues && r->enabled) return false;
        if (i < v->d.queues && (!r->size || (r->size & (r->size - 1)))) return false;
        if ((u16)(r->next_avail - r->next_used) > r->size) return false;
    }
    return true;
}

static void virtio_on_reset(void *chip)
{
    struct virtio *v = chip;

    msix_reset(&v->msix);
    device_reset(v);
    irq_set(&v->intx, false);
}

static const struct snap_table virtio_table = { .name = "virtio",
                                                .version = 3,
                                                .size = sizeof(struct virtio),
                                                .fields = virtio_fields,
                                                .reset = virtio_on_reset,
                                                .check = virtio_check };

/* MSI-X is PCI's, and stays as it is when the driver resets the device. */
static void fields_reset(struct virtio *v)
{
    const u32 pending = v->msix.pending;
    u32 table[ARRAY_LEN(v->msix.table)];

    memcpy(table, v->msix.table, sizeof table);
    snap_reset(&virtio_table, v);
    memcpy(v->msix.table, table, sizeof table);
    v->msix.pending = pending;
    for (unsigned i = 0; i < v->d.queues; i++) ring_at(v, i)->size = v->d.entries;
}

struct snap_part virtio_part(struct virtio *v) { return (struct snap_part){ v->d.name, &virtio_table, v }; }

/* 4.1.2.1: of a transitional device. */
static u16 device_id(u16 type)
{
    static const u16 of[] = {
        [1] = 0x1000, [2] = 0x1001, [3] = 0x1003, [4] = 0x1005, [5] = 0x1002, [8] = 0x1004, [9] = 0x1009
    };

    BUG_ON(type >= ARRAY_LEN(of) || !of[type]);
    return of[type];
}

int virtio_new(struct virtio **out, struct bus *b, struct pci *p, const struct virtio_desc *d)
{
    struct virtio *v = calloc(1, sizeof *v);
    int err;

    if (!v) return -ENOMEM;
    BUG_ON(d->queues > VIRTIO_QUEUES || d->config_len > VIRTIO_CONFIG_MAX);
    v->d = *d;
    if (!v->d.entries) v->d.entries = VIRTIO_ENTRIES;
    v->bus = b;
    const struct pci_desc fn = {
        .dev = d->slot,
        .vendor = 0x1af4,
        .device = device_id(d->type),
        .subsys_vendor = 0x1af4,
        .subsys = d->type,
        .class_code = d->class_code,
        .subclass = d->subclass,
        .int_pin = 1,
        .bar = { [BAR_LEGACY] = { .size = LEGACY_SIZE, .io = true, .ops = &legacy_ops },
                 [BAR_MSIX] = { .size = MSIX_BAR, .ops = &msix_ops },
                 [BAR_MODERN] = { .size = MODERN_SIZE, .ops = &modern_ops } },
        .rom = d->rom,
        .rom_size = d->rom_size,
        .opaque = v,
        .name = d->name,
        .cap = CAP_COMMON,
        .cfg_reading = cfg_reading,
        .cfg_written = cfg_written,
    };
    err = pci_add(p, &v->fn, &fn);
    if (err) {
        free(v);
        return err;
    }
    v->intx = pci_fn_irq(v->fn);
    caps_init(v, p);
    fields_reset(v);
    *out = v;
    return 0;
}

void virtio_free(struct virtio *v) { free(v); }
