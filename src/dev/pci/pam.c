/* Owns what is seen below 1 MiB from 0xc0000 on, and just below 4 GiB: shadow RAM and the BIOS ROM.
 *   I1  seg[i].state is what the host bridge's PAM registers say of segment i.                           [pam_update]
 *   I2  A segment that reads RAM has no range on the bus: it is RAM, writable or not.                     [segment_map]
 * Enter at pam_update(). Intel 290549 (440FX), 3.2.12 PAM; 290550 (PIIX3), XBCS: the ROM's last 128 KiB are seen at
 * 0xe0000, too. NOT-HW: the ROM is no flash: nothing writes to it. */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define SEGMENTS 13u
#define SHADOW_BASE 0xc0000u
#define SHADOW_END 0x100000u
#define ALIAS_MAX 0x20000u /* of the ROM's end, below 1 MiB */
#define CFG_PAM 0x59u      /* its upper half is segment 0's; then two segments in each byte */
enum { READS_RAM = 1, WRITES_RAM = 2, PLAIN = READS_RAM | WRITES_RAM };

struct segment {
    struct pam *pam;
    u32 base, len;
    const u8 *rom; /* what is behind it on the other side, or NULL */
    u8 *ram;
    u8 state;
    bool mapped;
};
struct pam {
    struct bus *bus;
    struct pci *pci;
    struct segment seg[SEGMENTS];
};

static const struct snap_field pam_fields[] = {
    SNAP_COLUMN(struct pam, seg, state, .keep = true, .max = PLAIN),
    SNAP_COLUMN(struct pam, seg, mapped, .keep = true),
    { 0 },
};

/* Whatever cannot be mapped as memory: RAM that is written and not read, or nothing. */
static u32 segment_read(void *dev, u32 off, unsigned size)
{
    const struct segment *s = dev;
    const u8 *from = s->rom;
    u32 v = 0;

    if (!from) return ~0u;
    for (unsigned i = 0; i < size; i++) v |= (u32)from[off + i] << 8 * i;
    return v;
}

static void segment_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct segment *s = dev;

    if (!(s->state & WRITES_RAM)) return;
    bus_ram_behind_written(s->pam->bus, s->base + off, size);
    for (unsigned i = 0; i < size; i++) s->ram[off + i] = (u8)(val >> 8 * i);
}
static const struct io_ops segment_ops = { segment_read, segment_write };

static void segment_unmap(struct segment *s)
{
    if (s->mapped) bus_unmap_mmio(s->pam->bus, s->base);
    bus_ram_readonly(s->pam->bus, s->base, s->len, false);
    s->mapped = false;
}

static int segment_map(struct segment *s)
{
    int err = 0;

    if (s->state & READS_RAM) {
        bus_ram_readonly(s->pam->bus, s->base, s->len, !(s->state & WRITES_RAM));
        return 0;
    }
    if (!s->state && s->rom) err = bus_map_rom(s->pam->bus, s->base, s->len, s->rom, "shadow");
    else err = bus_map_mmio(s->pam->bus, s->base, s->len, &segment_ops, s, "shadow");
    s->mapped = !err;
    return err;
}

/* What does not fit any more for want of memory is plain RAM: the guest goes on. */
static void segment_set(struct segment *s, u8 state)
{
    if (state == s->state && s->mapped == !(state & READS_RAM)) return;
    segment_unmap(s);
    s->state = state;
    (void)!segment_map(s);
}

static void pam_update(struct pam *p)
{
    const u8 *cfg = pci_host_config(p->pci) + CFG_PAM;

    for (unsigned i = 0; i < SEGMENTS; i++) segment_set(&p->seg[i], (cfg[(i + 1) / 2] >> (i & 1 ? 0 : 4)) & PLAIN);
}

static void pam_cfg_written(void *opaque, u8 off UNUSED, unsigned size UNUSED) { pam_update(opaque); }
static void pam_cfg_reset(void *opaque) { pam_update(opaque); }

/* The host bridge's reset has done it, or will. */
static void pam_on_reset(void *chip UNUSED) {}

static void pam_unmap(void *chip)
{
    struct pam *p = chip;
    for (unsigned i = 0; i < SEGMENTS; i++) segment_unmap(&p->seg[i]);
}

static int pam_loaded(void *chip)
{
    struct pam *p = chip;
    int err = 0;

    for (unsigned i = 0; i < SEGMENTS && !err; i++) {
        p->seg[i].mapped = false;
        err = segment_map(&p->seg[i]);
    }
    return err;
}

static const struct snap_table pam_table = { .name = "pam",
                                             .version = 1,
                                             .size = sizeof(struct pam),
                                             .fields = pam_fields,
                                             .reset = pam_on_reset,
                                             .unmap = pam_unmap,
                                             .loaded = pam_loaded };

struct snap_part pam_part(struct pam *p) { return (struct snap_part){ pam_table.name, &pam_table, p }; }

/* Segment 0 is the upper 64 KiB; then come pieces of 16 KiB from 0xc0000 on. */
static void segment_init(struct pam *p, unsigned i, const u8 *rom, u32 rom_len)
{
    struct segment *s = &p->seg[i];
    u32 alias = rom_len < ALIAS_MAX ? rom_len : ALIAS_MAX, from = SHADOW_END - alias;

    *s = (struct segment){
        .pam = p, .base = i ? SHADOW_BASE + (i - 1) * 0x4000u : 0xf0000u, .len = i ? 0x4000u : 0x10000u, .state = PLAIN
    };
    s->ram = bus_ram_behind(p->bus, s->base);
    if (rom && s->base >= from) s->rom = rom + (rom_len - alias) + (s->base - from);
}

int pam_new(struct pam **out, struct bus *b, struct pci *pci, const u8 *rom, u32 rom_len)
{
    struct pam *p = calloc(1, sizeof *p);
    int err = 0;

    if (!p) return -ENOMEM;
    p->bus = b;
    p->pci = pci;
    for (unsigned i = 0; i < SEGMENTS; i++) segment_init(p, i, rom, rom_len);
    if (rom) err = bus_map_rom(b, ((u64)1 << 32) - rom_len, rom_len, rom, "firmware");
    if (err) {
        free(p);
        return err;
    }
    pci_host_hooks(pci, p, pam_cfg_reset, pam_cfg_written);
    pam_update(p);
    *out = p;
    return 0;
}

void pam_free(struct pam *p) { free(p); }
