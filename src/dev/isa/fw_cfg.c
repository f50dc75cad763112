/* Owns the firmware configuration device of QEMU, which SeaBIOS and others ask for memory map, ACPI tables, boot order.
 *   I1  at is within the selected item, or at its end: nothing outside of an item is read.        [fw_select, fw_take]
 *   I2  Items never change once the guest runs.
 * Enter at fw_write(). QEMU, docs/specs/fw_cfg: selector at 0x510 (16 bits), data at 0x511, DMA address at 0x514 (big
 * endian, its lower half starts the transfer). NOT-HW: no processor has such a thing. Writing to items is refused. */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

enum { KEY_SIGNATURE = 0x00, KEY_ID = 0x01, KEY_DIRECTORY = 0x19, KEY_FILES = 0x20, KEYS = 0x60 };
enum { ID_TRADITIONAL = 1, ID_DMA = 2 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
#define DIRECTORY_ENTRY 64u

struct item {
    u8 *data;
    u32 n;
    char name[FW_CFG_NAME];
};
struct fw_cfg {
    struct bus *bus;
    struct item item[KEYS];
    unsigned nfiles;
    u16 key;
    u32 at; /* next byte of the item */
    u32 dma_high;
};

static const struct snap_field fw_fields[] = {
    SNAP(struct fw_cfg, key),
    SNAP(struct fw_cfg, at),
    SNAP(struct fw_cfg, dma_high),
    { 0 },
};

static void put_be(u8 *p, u64 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> 8 * (n - 1 - i));
}
static u64 get_be(const u8 *p, unsigned n)
{
    u64 v = 0;
    for (unsigned i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

static const struct item *fw_item(const struct fw_cfg *f)
{
    static const struct item none;
    return f->key < KEYS ? &f->item[f->key] : &none;
}

static void fw_select(struct fw_cfg *f, u16 key)
{
    f->key = key;
    f->at = 0;
}

/* The next n bytes, as zeroes past the item's end. buf NULL: they are skipped. */
static void fw_take(struct fw_cfg *f, u8 *buf, u32 n)
{
    const struct item *it = fw_item(f);
    u32 left = it->n - f->at, have = n < left ? n : left;

    if (buf) memset(buf, 0, n);
    if (buf && have) memcpy(buf, it->data + f->at, have);
    f->at += have;
}

static void dma_run(struct fw_cfg *f, paddr at)
{
    u8 block[16], piece[512], answer[4] = { 0 };

    if (bus_dma_read(f->bus, at, block, sizeof block) != sizeof block) return; /* it asks outside of RAM */
    u32 control = (u32)get_be(block, 4), len = (u32)get_be(block + 4, 4);
    paddr to = get_be(block + 8, 8);
    if (control & DMA_SELECT) fw_select(f, (u16)(control >> 16));
    if (control & DMA_WRITE) {
        put_be(answer, DMA_ERROR, 4);
    } else if (control & DMA_READ) {
        u32 most = (u32)bus_ram_size(f->bus); /* more cannot be meant, and would take for ever */
        if (len > most) len = most;
        for (u32 n; len; len -= n, to += n) {
            n = len < sizeof piece ? len : (u32)sizeof piece;
            fw_take(f, piece, n);
            (void)!bus_dma_write(f->bus, to, piece, n);
        }
    } else if (control & DMA_SKIP) {
        fw_take(f, NULL, len);
    }
    (void)!bus_dma_write(f->bus, at, answer, 4);
}

static u32 fw_read(void *dev, u32 off, unsigned size)
{
    struct fw_cfg *f = dev;
    u8 v;

    if (off != 1 || size != 1) return ~0u;
    fw_take(f, &v, 1);
    return v;
}
static void fw_write(void *dev, u32 off, unsigned size, u32 val)
{
    if (off == 0 && size == 2) fw_select(dev, (u16)val);
}

static u32 swap32(u32 v) { return __builtin_bswap32(v); }

static u32 dma_read(void *dev UNUSED, u32 off, unsigned size)
{
    if (size != 4) return ~0u;
    return off ? 0x47464320 : 0x554d4551; /* "QEMU CFG", big-endian */
}
static void dma_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct fw_cfg *f = dev;

    if (size != 4) return;
    if (!off) {
        f->dma_high = swap32(val);
        return;
    }
    paddr at = (u64)f->dma_high << 32 | swap32(val);
    f->dma_high = 0;
    dma_run(f, at);
}
static const struct io_ops fw_ops = { fw_read, fw_write };
static const struct io_ops dma_ops = { dma_read, dma_write };

static bool fw_check(const void *chip)
{
    const struct fw_cfg *f = chip;
    return f->at <= fw_item(f)->n;
}

static const struct snap_table fw_table = { .name = "fw_cfg",
                                            .version = 1,
                                            .size = sizeof(struct fw_cfg),
                                            .fields = fw_fields,
                                            .check = fw_check };

struct snap_part fw_cfg_part(struct fw_cfg *f) { return (struct snap_part){ fw_table.name, &fw_table, f }; }

static int item_set(struct item *it, const void *data, u32 n)
{
    u8 *copy = malloc(n ? n : 1);

    if (!copy) return -ENOMEM;
    if (n) memcpy(copy, data, n);
    free(it->data);
    it->data = copy;
    it->n = n;
    return 0;
}

int fw_cfg_item(struct fw_cfg *f, u16 key, const void *data, u32 n)
{
    return key < KEY_FILES ? item_set(&f->item[key], data, n) : -EINVAL;
}

/* The directory: how many, and of each its size, its key, two bytes of nothing and its name. */
static int directory_build(struct fw_cfg *f)
{
    u32 n = 4 + f->nfiles * DIRECTORY_ENTRY;
    u8 *dir = calloc(1, n);
    int err;

    if (!dir) return -ENOMEM;
    put_be(dir, f->nfiles, 4);
    for (unsigned i = 0; i < f->nfiles; i++) {
        u8 *entry = dir + 4 + i * DIRECTORY_ENTRY;

        put_be(entry, f->item[KEY_FILES + i].n, 4);
        put_be(entry + 4, KEY_FILES + i, 2);
        memcpy(entry + 8, f->item[KEY_FILES + i].name, FW_CFG_NAME);
    }
    err = item_set(&f->item[KEY_DIRECTORY], dir, n);
    free(dir);
    return err;
}

int fw_cfg_file(struct fw_cfg *f, const char *name, const void *data, u32 n)
{
    struct item *it;
    int err;

    if (strlen(name) >= FW_CFG_NAME) return -EINVAL;
    if (f->nfiles == KEYS - KEY_FILES) return -ENOSPC;
    it = &f->item[KEY_FILES + f->nfiles];
    if ((err = item_set(it, data, n))) return err;
    strcpy(it->name, name);
    f->nfiles++;
    return directory_build(f);
}

int fw_cfg_new(struct fw_cfg **out, struct bus *b)
{
    static const u8 id[4] = { ID_TRADITIONAL | ID_DMA };
    struct fw_cfg *f = calloc(1, sizeof *f);
    int err;

    if (!f) return -ENOMEM;
    f->bus = b;
    if ((err = fw_cfg_item(f, KEY_SIGNATURE, "QEMU", 4))) goto fail;
    if ((err = fw_cfg_item(f, KEY_ID, id, sizeof id))) goto fail;
    if ((err = directory_build(f))) goto fail;
    if ((err = bus_map_pio(b, 0x510, 2, &fw_ops, f, "fw_cfg"))) goto fail;
    if ((err = bus_map_pio(b, 0x514, 8, &dma_ops, f, "fw_cfg dma"))) goto fail_ports;
    *out = f;
    return 0;

fail_ports:
    bus_unmap_pio(b, 0x510);
fail:
    fw_cfg_free(f);
    return err;
}

void fw_cfg_free(struct fw_cfg *f)
{
    if (!f) return;
    for (unsigned i = 0; i < KEYS; i++) free(f->item[i].data);
    free(f);
}
