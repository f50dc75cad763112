/* What the files of the VGA share: its registers and its memory. */
#ifndef SRC_DEV_VGA_VGA_PRIV_H
#define SRC_DEV_VGA_VGA_PRIV_H
#include "core/bus.h"
#include "core/clock.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#define VGA_RAM (16u << 20)     /* bytes of video memory, a power of two */
#define VGA_PLANES_LEN 0x40000u /* bytes of it that the four planes of an IBM VGA are: byte 4 * offset + plane */
#define VGA_WINDOW 0xa0000u
#define VGA_WINDOW_LEN 0x20000u
#define VGA_BANK 0x10000u

/* clang-format off */
enum { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_FONT, SEQ_MEMORY, SEQ_COUNT };
enum { SEQ_8_DOTS = 0x01, SEQ_HALF_CLOCK = 0x08, SEQ_SCREEN_OFF = 0x20 }; /* clocking mode */
enum { SEQ_NO_ODD_EVEN = 0x04, SEQ_CHAIN_4 = 0x08 };                     /* memory mode */
enum { GR_SET_RESET, GR_ENABLE_SET, GR_COMPARE, GR_ROTATE, GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE, GR_BIT_MASK,
    GR_COUNT };
enum { GR_READ_COMPARE = 0x08, GR_ODD_EVEN = 0x10, GR_SHIFT_CGA = 0x20, GR_SHIFT_256 = 0x40 }; /* mode */
enum { GR_GRAPHICS = 0x01 };                                                                   /* miscellaneous */
enum { CR_HTOTAL = 0x00, CR_HDISPLAY = 0x01, CR_HRETRACE = 0x04, CR_VTOTAL = 0x06, CR_OVERFLOW = 0x07, CR_PRESET = 0x08,
    CR_MAX_SCAN = 0x09, CR_CURSOR_START = 0x0a, CR_CURSOR_END = 0x0b, CR_START_HIGH = 0x0c, CR_START_LOW = 0x0d,
    CR_CURSOR_HIGH = 0x0e, CR_CURSOR_LOW = 0x0f, CR_VRETRACE = 0x10, CR_VRETRACE_END = 0x11, CR_VDISPLAY = 0x12,
    CR_OFFSET = 0x13, CR_MODE = 0x17, CR_LINE_COMPARE = 0x18, CR_COUNT = 0x19 };
enum { AR_MODE = 0x10, AR_OVERSCAN = 0x11, AR_PLANES = 0x12, AR_PAN = 0x13, AR_SELECT = 0x14, AR_COUNT = 0x15 };
enum { AR_LINE_GRAPHICS = 0x04, AR_BLINK = 0x08, AR_PAN_TOP_ONLY = 0x20, AR_SELECT_45 = 0x80 }; /* mode control */
enum { AR_INDEX_ON = 0x20 };                                                                    /* index */
enum { MISC_COLOUR = 0x01, MISC_RAM = 0x02 };
enum { VBE_ID, VBE_XRES, VBE_YRES, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_VIRT_WIDTH, VBE_VIRT_HEIGHT, VBE_X, VBE_Y,
    VBE_MEMORY, VBE_COUNT };
enum { VBE_ON = 0x01, VBE_GET_CAPS = 0x02, VBE_DAC_8 = 0x20, VBE_LFB = 0x40, VBE_NO_CLEAR = 0x80 };
/* clang-format on */
#define VBE_XRES_MAX 1920u
#define VBE_YRES_MAX 1200u
#define VBE_BPP_MAX 32u

struct vga {
    u8 misc, feature;
    u8 seq_index, seq[SEQ_COUNT];
    u8 gr_index, gr[GR_COUNT];
    u8 cr_index, cr[CR_COUNT];
    u8 ar_index, ar[AR_COUNT];
    bool ar_data; /* the next write to 3C0h is data */
    u8 dac[768], dac_mask, dac_write, dac_read, dac_part, dac_state;
    u32 latch; /* plane n is byte n */
    u16 vbe_index, vbe[VBE_COUNT];
    bool window; /* video memory itself is mapped at A0000h */

    struct bus *bus;
    struct clock *clk;
    struct bus_ram *ram;
    u8 *mem; /* its bytes */
    u8 *rom;
};

static inline bool vbe_on(const struct vga *v) { return v->vbe[VBE_ENABLE] & VBE_ON; }

/* Bytes from one line of a VBE mode to the next; with 4 bits those of all planes. */
static inline u32 vga_pitch(u32 width, u32 bpp) { return bpp == 4 ? width / 2 : width * ((bpp + 7) / 8); }

/* vga_mem.c: what the CPU sees at A0000h to BFFFFh. */
MUST_CHECK int vga_mem_new(struct vga *v);
void vga_mem_free(struct vga *v);
void vga_map(struct vga *v);       /* registers may have changed what is there */
void vga_mem_unmap(struct vga *v); /* nothing but the planes by way of the graphics controller is there */

#endif
