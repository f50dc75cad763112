/* Owns a VGA's registers: IBM's, and those of Bochs by which SeaBIOS and drivers set modes with a linear frame buffer.
 *   I1  While VBE is on, its mode is one that fits into video memory.                                   [vbe_fix]
 * Enter at port_write(), vbe_write(). IBM PS/2 Hardware Interface TR, Video Subsystem (S68X-2251); the VBE registers
 * are described in Bochs's vbe_spec and SeaBIOS's vgasrc/bochsvga.h.
 * NOT-HW: switches of the video subsystem (3C3h, 46E8h) are not there: it is always on. No interrupt at retrace. The
 * palette can be written while the screen is on. */
#include "src/dev/vga/vga_priv.h"

#include <errno.h>
#include <string.h>

enum { PORTS = 0x3c0, MONO = 0x3b4, COLOUR = 0x3d4, VBE_PORTS = 0x1ce };
enum { PCI_SLOT = 2, PCI_COMMAND = 4, PCI_COMMAND_IO = 1 };
#define NS 1000000000ull

/* Bits that can be set. */
static const u8 seq_mask[SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const u8 gr_mask[GR_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
static const u8 cr_mask[CR_COUNT] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0x3f, 0x7f, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xef, 0xff };
static u8 ar_mask(unsigned i)
{
    static const u8 mode[] = { 0xef, 0xff, 0x3f, 0x0f, 0x0f };
    return i < AR_MODE ? 0x3f : mode[i - AR_MODE];
}

static const struct snap_field vga_fields[] = {
    SNAP(struct vga, misc),
    SNAP(struct vga, feature),
    SNAP(struct vga, seq_index),
    SNAP_ARRAY(struct vga, seq),
    SNAP(struct vga, gr_index),
    SNAP_ARRAY(struct vga, gr),
    SNAP(struct vga, cr_index),
    SNAP_ARRAY(struct vga, cr),
    SNAP(struct vga, ar_index),
    SNAP_ARRAY(struct vga, ar),
    SNAP(struct vga, ar_data),
    SNAP_ARRAY(struct vga, dac),
    SNAP(struct vga, dac_mask, .reset = 0xff),
    SNAP(struct vga, dac_write),
    SNAP(struct vga, dac_read),
    SNAP(struct vga, dac_part, .max = 2),
    SNAP(struct vga, dac_state, .max = 3),
    SNAP(struct vga, latch),
    SNAP(struct vga, vbe_index),
    SNAP_ARRAY(struct vga, vbe),
    SNAP(struct vga, window, .keep = true),
    { 0 },
};

/* ---- VBE ---- */

static u16 within(u32 val, u32 lo, u32 hi) { return (u16)(val < lo ? lo : val > hi ? hi : val); }

/* The nearest mode that there is. */
static void vbe_fix(u16 r[VBE_COUNT])
{
    static const u8 depth[] = { 4, 8, 15, 16, 24, 32 };
    bool known = false;

    for (unsigned i = 0; i < ARRAY_LEN(depth); i++) known |= r[VBE_BPP] == depth[i];
    if (!known) r[VBE_BPP] = 8;
    r[VBE_XRES] = within(r[VBE_XRES] & ~7u, 8, VBE_XRES_MAX);
    r[VBE_VIRT_WIDTH] = within(r[VBE_VIRT_WIDTH] & ~7u, r[VBE_XRES], 0x4000);
    u32 lines = VGA_RAM / vga_pitch(r[VBE_VIRT_WIDTH], r[VBE_BPP]);
    r[VBE_YRES] = within(r[VBE_YRES], 1, lines < VBE_YRES_MAX ? lines : VBE_YRES_MAX);
    r[VBE_VIRT_HEIGHT] = within(lines, 1, 0xffff);
    r[VBE_X] = within(r[VBE_X], 0, r[VBE_VIRT_WIDTH] - r[VBE_XRES]);
    r[VBE_Y] = within(r[VBE_Y], 0, r[VBE_VIRT_HEIGHT] - r[VBE_YRES]);
}

/* What a driver that knows the VGA only finds, or needs: graphics at A0000h, chained but with 4 bits a pixel. */
static void vbe_set_vga(struct vga *v)
{
    u32 height = v->vbe[VBE_YRES] - 1u;
    bool planar = v->vbe[VBE_BPP] == 4;

    v->misc |= MISC_RAM | MISC_COLOUR;
    v->gr[GR_MISC] = 0x04 | GR_GRAPHICS;
    v->gr[GR_MODE] = planar ? 0 : GR_SHIFT_256;
    v->gr[GR_ENABLE_SET] = v->gr[GR_ROTATE] = 0;
    v->gr[GR_BIT_MASK] = 0xff;
    v->seq[SEQ_CLOCKING] &= (u8) ~(SEQ_HALF_CLOCK | SEQ_SCREEN_OFF);
    v->seq[SEQ_MAP_MASK] = 15;
    v->seq[SEQ_MEMORY] = 0x02 | SEQ_NO_ODD_EVEN | (planar ? 0 : SEQ_CHAIN_4);
    v->cr[CR_MODE] |= 3;
    v->cr[CR_HDISPLAY] = (u8)(v->vbe[VBE_XRES] / 8 - 1);
    v->cr[CR_OFFSET] = (u8)(v->vbe[VBE_VIRT_WIDTH] / 16);
    v->cr[CR_VDISPLAY] = (u8)height;
    v->cr[CR_OVERFLOW] = (u8)((v->cr[CR_OVERFLOW] & ~0x52) | 0x10 | (height >> 7 & 0x02) | (height >> 3 & 0x40));
    v->cr[CR_LINE_COMPARE] = 0xff;
    v->cr[CR_MAX_SCAN] = 0x40;
}

static void vbe_enable(struct vga *v, u16 val)
{
    bool was = vbe_on(v);
    u16 *r = v->vbe;

    r[VBE_ENABLE] = val & (VBE_ON | VBE_GET_CAPS | VBE_DAC_8 | VBE_LFB | VBE_NO_CLEAR);
    if (!(val & VBE_ON)) {
        r[VBE_BANK] = 0;
        return;
    }
    if (was) return;
    r[VBE_VIRT_WIDTH] = r[VBE_XRES];
    r[VBE_X] = r[VBE_Y] = r[VBE_BANK] = 0;
    vbe_fix(r);
    vbe_set_vga(v);
    if (val & VBE_NO_CLEAR) return;
    u32 n = vga_pitch(r[VBE_VIRT_WIDTH], r[VBE_BPP]) * r[VBE_YRES];
    memset(v->mem, 0, n);
    bus_ram_written(v->ram, 0, n);
}

static void vbe_data(struct vga *v, u16 val)
{
    u16 *r = v->vbe;

    switch (v->vbe_index) {
    case VBE_ID:
        if (val >= 0xb0c0 && val <= 0xb0c5) r[VBE_ID] = val;
        return;
    case VBE_XRES:
    case VBE_YRES:
    case VBE_BPP: /* of the next mode */
        if (!vbe_on(v)) r[v->vbe_index] = val;
        return;
    case VBE_BANK: r[VBE_BANK] = val & (VGA_RAM / VGA_BANK - 1); return;
    case VBE_ENABLE: vbe_enable(v, val); return;
    case VBE_VIRT_WIDTH:
    case VBE_X:
    case VBE_Y: r[v->vbe_index] = val; break;
    default: return;
    }
    if (!vbe_on(v)) return;
    vbe_fix(r);
    v->cr[CR_OFFSET] = (u8)(r[VBE_VIRT_WIDTH] / 16);
}

static u16 vbe_value(const struct vga *v)
{
    bool caps = v->vbe[VBE_ENABLE] & VBE_GET_CAPS;

    switch (v->vbe_index) {
    case VBE_XRES: return caps ? VBE_XRES_MAX : v->vbe[VBE_XRES];
    case VBE_YRES: return caps ? VBE_YRES_MAX : v->vbe[VBE_YRES];
    case VBE_BPP: return caps ? VBE_BPP_MAX : v->vbe[VBE_BPP];
    case VBE_MEMORY: return VGA_RAM / VGA_BANK;
    }
    return v->vbe_index < VBE_COUNT ? v->vbe[v->vbe_index] : 0;
}

/* Index and data are words, each at a port of its own; data also where a word-aligned bus has it. */
static u32 vbe_read(void *dev, u32 off, unsigned size UNUSED)
{
    const struct vga *v = dev;
    return off == 0 ? v->vbe_index : vbe_value(v);
}
static void vbe_write(void *dev, u32 off, unsigned size UNUSED, u32 val)
{
    struct vga *v = dev;

    if (off == 0) v->vbe_index = (u16)val;
    else vbe_data(v, (u16)val);
    vga_map(v);
}
static const struct io_ops vbe_ops = { vbe_read, vbe_write };

/* ---- the screen's beam ---- */

/* Lines and characters as the CRT controller counts them; the dot clock in Hz. */
struct timing {
    u32 htotal, hdisplay, vtotal, vdisplay, vretrace, vretrace_end, dots, clock;
};
static struct timing timing_of(const struct vga *v)
{
    static const u32 clock[4] = { 25175000, 28322000, 25175000, 25175000 };
    u8 over = v->cr[CR_OVERFLOW];
    struct timing t = {
        .htotal = v->cr[CR_HTOTAL] + 5u,
        .hdisplay = v->cr[CR_HDISPLAY] + 1u,
        .vtotal = (v->cr[CR_VTOTAL] | (over & 1u) << 8 | (over & 0x20u) << 4) + 2,
        .vdisplay = (v->cr[CR_VDISPLAY] | (over & 2u) << 7 | (over & 0x40u) << 3) + 1,
        .vretrace = v->cr[CR_VRETRACE] | (over & 4u) << 6 | (over & 0x80u) << 2,
        .dots = v->seq[SEQ_CLOCKING] & SEQ_8_DOTS ? 8 : 9,
        .clock = clock[v->misc >> 2 & 3],
    };
    if (v->seq[SEQ_CLOCKING] & SEQ_HALF_CLOCK) t.dots *= 2;
    if (vbe_on(v)) { /* of no monitor in particular: 60 pictures a second, and a blank of one line in twenty */
        t.vdisplay = v->vbe[VBE_YRES];
        t.vretrace = t.vdisplay + t.vdisplay / 40 + 1;
        t.vtotal = t.vdisplay + t.vdisplay / 20 + 8;
        t.htotal = 100;
        t.hdisplay = 80;
        t.dots = 8;
        t.clock = t.htotal * t.dots * t.vtotal * 60;
    }
    t.vretrace_end = (t.vretrace & ~15u) | (v->cr[CR_VRETRACE_END] & 15);
    if (vbe_on(v)) t.vretrace_end = t.vretrace + 3;
    if (t.vretrace_end <= t.vretrace) t.vretrace_end += 16;
    return t;
}

/* Input status 1: bit 0 while nothing is displayed, bit 3 during vertical retrace. */
static u8 status1(const struct vga *v)
{
    struct timing t = timing_of(v);
    u64 line_ns = NS * t.htotal * t.dots / t.clock;
    u64 at = clock_now(v->clk) % (line_ns * t.vtotal), line = at / line_ns;
    bool hidden = line >= t.vdisplay || at % line_ns * t.htotal / line_ns >= t.hdisplay;

    return (hidden ? 0x01 : 0) | (line >= t.vretrace && line < t.vretrace_end ? 0x08 : 0);
}

/* ---- ports 3B0h to 3DFh ---- */

static void dac_write(struct vga *v, u8 val)
{
    v->dac[v->dac_write * 3u + v->dac_part] = v->vbe[VBE_ENABLE] & VBE_DAC_8 ? val : val & 0x3f;
    if (++v->dac_part < 3) return;
    v->dac_part = 0;
    v->dac_write++;
}
static u8 dac_read(struct vga *v)
{
    u8 val = v->dac[v->dac_read * 3u + v->dac_part];

    if (++v->dac_part < 3) return val;
    v->dac_part = 0;
    v->dac_read++;
    return val;
}

static void attribute_write(struct vga *v, u8 val)
{
    unsigned i = v->ar_index & 0x1f;

    v->ar_data = !v->ar_data;
    if (v->ar_data) v->ar_index = val & 0x3f;
    else if (i < AR_COUNT) v->ar[i] = val & ar_mask(i);
}

/* Bit 7 of the vertical retrace end register protects the first eight, but for a bit of line compare. */
static void crtc_write(struct vga *v, u8 val)
{
    unsigned i = v->cr_index;

    if (i >= CR_COUNT) return;
    if (i <= CR_OVERFLOW && v->cr[CR_VRETRACE_END] & 0x80) {
        if (i == CR_OVERFLOW) v->cr[i] = (v->cr[i] & ~0x10) | (val & 0x10);
        return;
    }
    v->cr[i] = val & cr_mask[i];
}

static void byte_write(struct vga *v, u16 port, u8 val)
{
    switch (port) {
    case 0x3c0: attribute_write(v, val); break;
    case 0x3c2: v->misc = val; break;
    case 0x3c4: v->seq_index = val & 7; break;
    case 0x3c5:
        if (v->seq_index < SEQ_COUNT) v->seq[v->seq_index] = val & seq_mask[v->seq_index];
        break;
    case 0x3c6: v->dac_mask = val; break;
    case 0x3c7:
        v->dac_read = val;
        v->dac_part = 0;
        v->dac_state = 3;
        break;
    case 0x3c8:
        v->dac_write = val;
        v->dac_part = 0;
        v->dac_state = 0;
        break;
    case 0x3c9: dac_write(v, val); break;
    case 0x3ce: v->gr_index = val & 15; break;
    case 0x3cf:
        if (v->gr_index < GR_COUNT) v->gr[v->gr_index] = val & gr_mask[v->gr_index];
        break;
    case COLOUR: v->cr_index = val & 0x1f; break;
    case COLOUR + 1: crtc_write(v, val); break;
    case COLOUR + 6: v->feature = val & 0x08; break;
    }
}

static u8 byte_read(struct vga *v, u16 port)
{
    switch (port) {
    case 0x3c0: return v->ar_index;
    case 0x3c1: return (v->ar_index & 0x1f) < AR_COUNT ? v->ar[v->ar_index & 0x1f] : 0;
    case 0x3c2: return 0x10; /* input status 0: a monitor is there */
    case 0x3c3: return 0x01;
    case 0x3c4: return v->seq_index;
    case 0x3c5: return v->seq_index < SEQ_COUNT ? v->seq[v->seq_index] : 0;
    case 0x3c6: return v->dac_mask;
    case 0x3c7: return v->dac_state;
    case 0x3c8: return v->dac_write;
    case 0x3c9: return dac_read(v);
    case 0x3ca: return v->feature;
    case 0x3cc: return v->misc;
    case 0x3ce: return v->gr_index;
    case 0x3cf: return v->gr_index < GR_COUNT ? v->gr[v->gr_index] : 0;
    case COLOUR: return v->cr_index;
    case COLOUR + 1: return v->cr_index < CR_COUNT ? v->cr[v->cr_index] : 0;
    case COLOUR + 6: v->ar_data = false; return status1(v);
    }
    return 0xff;
}

/* The CRT controller is at 3B4h or at 3D4h, as the miscellaneous output register says. False: here it is not. */
static bool selected(const struct vga *v, u16 *port)
{
    if (*port >= PORTS && *port < PORTS + 0x10) return true;
    bool colour = *port >= COLOUR;
    if (!colour) *port += COLOUR - MONO;
    return colour == !!(v->misc & MISC_COLOUR);
}

static u32 vga_in(struct vga *v, u16 port, unsigned size)
{
    u32 val = 0;
    for (unsigned i = 0; i < size; i++) {
        u16 p = (u16)(port + i);
        val |= (u32)(selected(v, &p) ? byte_read(v, p) : 0xff) << 8 * i;
    }
    return val;
}
static void vga_out(struct vga *v, u16 port, unsigned size, u32 val)
{
    for (unsigned i = 0; i < size; i++) {
        u16 p = (u16)(port + i);
        if (selected(v, &p)) byte_write(v, p, (u8)(val >> 8 * i));
    }
    vga_map(v);
}

#define PORT_OPS(name, base)                                                                                     \
    static u32 name##_read(void *dev, u32 off, unsigned size) { return vga_in(dev, (u16)((base) + off), size); } \
    static void name##_write(void *dev, u32 off, unsigned size, u32 val)                                         \
    {                                                                                                            \
        vga_out(dev, (u16)((base) + off), size, val);                                                            \
    }                                                                                                            \
    static const struct io_ops name##_ops = { name##_read, name##_write }
PORT_OPS(common, PORTS);
PORT_OPS(mono, MONO);
PORT_OPS(mono_status, MONO + 6);
PORT_OPS(colour, COLOUR);
PORT_OPS(colour_status, COLOUR + 6);

static const struct {
    u16 base;
    u8 len;
    const struct io_ops *ops;
} ports[] = { { PORTS, 16, &common_ops },
              { MONO, 2, &mono_ops },
              { MONO + 6, 1, &mono_status_ops },
              { COLOUR, 2, &colour_ops },
              { COLOUR + 6, 1, &colour_status_ops },
              { VBE_PORTS, 4, &vbe_ops } };

/* ---- life ---- */

static void vga_on_reset(void *chip);

static void vga_unmap(void *chip) { vga_mem_unmap(chip); }

static int vga_loaded(void *chip)
{
    struct vga *v = chip;
    v->window = false;
    vga_map(v);
    return 0;
}

/* Nothing is set that a guest could not have set. */
static bool registers_check(const struct vga *v)
{
    u8 wrong = 0;

    for (unsigned i = 0; i < SEQ_COUNT; i++) wrong |= v->seq[i] & ~seq_mask[i];
    for (unsigned i = 0; i < GR_COUNT; i++) wrong |= v->gr[i] & ~gr_mask[i];
    for (unsigned i = 0; i < CR_COUNT; i++) wrong |= v->cr[i] & ~cr_mask[i];
    for (unsigned i = 0; i < AR_COUNT; i++) wrong |= v->ar[i] & ~ar_mask(i);
    return !wrong;
}

static bool vga_check(const void *chip)
{
    const struct vga *v = chip;
    u16 r[VBE_COUNT];

    if (!registers_check(v)) return false;
    memcpy(r, v->vbe, sizeof r);
    if (vbe_on(v)) vbe_fix(r);
    return !memcmp(r, v->vbe, sizeof r) && r[VBE_BANK] < VGA_RAM / VGA_BANK;
}

static const struct snap_table vga_table = { .name = "vga",
                                             .version = 1,
                                             .size = sizeof(struct vga),
                                             .fields = vga_fields,
                                             .reset = vga_on_reset,
                                             .check = vga_check,
                                             .unmap = vga_unmap,
                                             .loaded = vga_loaded };

static void vga_on_reset(void *chip)
{
    struct vga *v = chip;

    snap_reset(&vga_table, v);
    v->vbe[VBE_ID] = 0xb0c5;
    v->vbe[VBE_BPP] = 8;
    vga_map(v);
}

struct snap_part vga_part(struct vga *v) { return (struct snap_part){ vga_table.name, &vga_table, v }; }

static int vga_wire(struct vga *v, struct pci *p, const u8 *rom, u32 rom_len)
{
    struct pci_desc d = { .dev = PCI_SLOT,
                          .vendor = 0x1234,
                          .device = 0x1111,
                          .subsys_vendor = 0x1af4,
                          .subsys = 0x1100,
                          .class_code = 3,
                          .opaque = v,
                          .name = "vga",
                          .bar = { { .size = VGA_RAM, .prefetch = true } } };
    struct pci_fn *fn;
    int err = bus_ram_new(&v->ram, v->bus, VGA_RAM);
    if (err) return err;
    v->mem = bus_ram_host(v->ram);
    d.bar[0].ram = v->ram;
    if (rom) {
        v->rom = calloc(1, VGA_ROM_MAX);
        if (!v->rom) return -ENOMEM;
        memcpy(v->rom, rom, rom_len);
        d.rom = v->rom;
        d.rom_size = VGA_ROM_MAX;
    }
    if ((err = vga_mem_new(v))) return err;
    unsigned n = 0;
    for (; n < ARRAY_LEN(ports) && !err; n++)
        err = bus_map_pio(v->bus, ports[n].base, ports[n].len, ports[n].ops, v, "VGA");
    if (!err) err = pci_add(p, &fn, &d);
    if (!err) {
        pci_fn_writable(fn)[PCI_COMMAND] |= PCI_COMMAND_IO; /* of the old ports: firmware looks whether it is there */
        return 0;
    }
    if (n < ARRAY_LEN(ports)) n--; /* the one that failed */
    while (n--) bus_unmap_pio(v->bus, ports[n].base);
    vga_mem_free(v);
    return err;
}

int vga_new(struct vga **out, struct bus *b, struct clock *clk, struct pci *p, const u8 *rom, u32 rom_len)
{
    struct vga *v = calloc(1, sizeof *v);

    BUG_ON(rom_len > VGA_ROM_MAX);
    if (!v) return -ENOMEM;
    v->bus = b;
    v->clk = clk;
    int err = vga_wire(v, p, rom, rom_len);
    if (err) {
        bus_ram_free(v->ram);
        vga_free(v);
        return err;
    }
    vga_on_reset(v);
    *out = v;
    return 0;
}

/* The memory goes down with the bus. */
void vga_free(struct vga *v)
{
    if (!v) return;
    free(v->rom);
    free(v);
}
