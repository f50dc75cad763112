/* Constructors of all the chips of the PC.
 *
 * Rules common to all of them:
 * - xxx_new() names all that the chip touches. What it is handed (bus, clock, other chips behind function pointers)
 *   is borrowed and outlives it; struct irq_line, struct dev_event and struct intc come by value.
 * - It returns 0 or -errno (-ENOMEM, -EBUSY when ports or addresses overlap); on failure nothing is left behind.
 * - xxx_free() copes with NULL, and unmaps nothing: the bus goes down together with its chips.
 * - xxx_reset() is what the RESET# pin does (the constructor ends in that state); contents that a battery keeps stay.
 * - xxx_part() gives the chip to whoever resets, saves and loads the board (core/snap.h).
 * - An interrupt line carries "asserted", whatever the wire's polarity is on a real board.
 * - All of it runs on the vCPU thread. */
#ifndef SRC_DEV_PC_DEVICES_H
#define SRC_DEV_PC_DEVICES_H
#include "core/bus.h"
#include "core/chardev.h"
#include "core/clock.h"
#include "core/snap.h"
#include "core/types.h"

/* Something that happens once: reset, power-off, a test's exit code. fn may be NULL. */
struct dev_event {
    void (*fn)(void *opaque, u32 value);
    void *opaque;
};
static inline void dev_event_fire(const struct dev_event *e, u32 value)
{
    if (e->fn) e->fn(e->opaque, value);
}

/* irq_split.c: one wire in, up to four out. No constructor: the board embeds it. Not to be moved while wired. */
struct irq_split {
    struct irq_line out[4];
};
struct irq_line irq_split_input(struct irq_split *s);

/* pic.c: two cascaded 8259A at 0x20 and 0xa0, ELCR at 0x4d0, coprocessor error at 0xf0. intr: INT of the master. */
struct pic;
MUST_CHECK int pic_new(struct pic **out, struct bus *b, struct irq_line intr);
void pic_free(struct pic *p);
void pic_reset(struct pic *p);
struct snap_part pic_part(struct pic *p);
struct irq_line pic_input(struct pic *p, unsigned n); /* 0..15 without 2 */
/* The latch behind FERR#: returns its input. irq13: set by FERR#, cleared by a write to port F0h; ignne: from that
 * write until FERR# is released. */
struct irq_line pic_ferr(struct pic *p, struct irq_line irq13, struct irq_line ignne);
int pic_acknowledge(void *pic);            /* the INTA cycle: always gives a vector */
extern const struct intc_ops pic_intc_ops; /* for a board without APIC; dev: struct pic */

/* pit.c: 8254 at 0x40, port B at 0x61. irq0: OUT of counter 0. */
struct pit;
MUST_CHECK int pit_new(struct pit **out, struct bus *b, struct clock *clk, struct irq_line irq0);
void pit_free(struct pit *p);
void pit_reset(struct pit *p);
struct snap_part pit_part(struct pit *p);
/* What its counter 2 and port B make of the speaker's input. speaking: fired before that becomes another. High: for how
 * many of the parts from `from` to `to`, since power-on, PIT_SPEAKER_PARTS of which are a period of its clock, the
 * input is high; asked for in order, without leaving any out since it was last fired. */
#define PIT_HZ 1193182u
#define PIT_SPEAKER_PARTS 256u
void pit_on_speaker(struct pit *p, struct dev_event speaking);
u32 pit_speaker_high(struct pit *p, u64 from, u64 to);

/* hpet.c: three high precision event timers. apic: the I/O APIC's pins 20 to 23; isa: interrupts 0 and 8, which the
 * 8254 and the RTC then reach by hpet_legacy_input(). */
#define HPET_BASE 0xfed00000u
#define HPET_LEN 0x400u
#define HPET_ID 0x8086a201u /* Intel's, replaces the old timers, 64 bits, three of them, revision 1 */
struct hpet;
struct hpet_wires {
    struct irq_line apic[4], isa[2];
};
MUST_CHECK int hpet_new(struct hpet **out, struct bus *b, struct clock *clk, const struct hpet_wires *to);
void hpet_free(struct hpet *h);
struct snap_part hpet_part(struct hpet *h);
struct irq_line hpet_legacy_input(struct hpet *h, unsigned n); /* 0: the 8254's, 1: the RTC's */

/* rtc.c: MC146818 with 128 bytes of CMOS RAM at 0x70. irq8: IRQ#; nmi_mask: bit 7 of port 0x70.
 * Memory sizes in CMOS are filled from the bus. */
struct rtc;
MUST_CHECK int rtc_new(struct rtc **out, struct bus *b, struct clock *clk, struct irq_line irq8,
                       struct irq_line nmi_mask);
void rtc_free(struct rtc *r);
void rtc_reset(struct rtc *r);
struct snap_part rtc_part(struct rtc *r);
void rtc_cmos_set(struct rtc *r, u8 index, u8 val); /* as firmware would: index 0x0e..0x7f */
u8 rtc_cmos_get(const struct rtc *r, u8 index);
void rtc_set_offset(struct rtc *r, s64 seconds); /* it shows UTC and so many seconds more: before the machine runs */

/* uart16550.c: 16550A, eight ports at base (COM1 is 0x3f8). be may be NULL: a line with nobody at the other end.
 * Takes over be->rx and be->fe. */
struct uart;
MUST_CHECK int uart_new(struct uart **out, struct bus *b, struct clock *clk, u16 base, struct irq_line irq,
                        struct chardev *be);
void uart_free(struct uart *u);
void uart_reset(struct uart *u);
struct snap_part uart_part(struct uart *u, const char *name);

/* lpt.c: parallel port with a printer, three ports at base (LPT1 is 0x378). be: gets what is printed; NULL: nobody. */
struct lpt;
MUST_CHECK int lpt_new(struct lpt **out, struct bus *b, u16 base, struct irq_line irq, struct chardev *be);
void lpt_free(struct lpt *l);
struct snap_part lpt_part(struct lpt *l);

/* irq_or.c: one wire that two chips drive: inputs 0 and 1. */
struct irq_or;
MUST_CHECK int irq_or_new(struct irq_or **out, struct irq_line to);
void irq_or_free(struct irq_or *o);
struct irq_line irq_or_input(struct irq_or *o, unsigned n);
struct snap_part irq_or_part(struct irq_or *o, const char *name);

/* i8042.c, i8042_keyboard.c, i8042_mouse.c: keyboard controller at 0x60/0x64 with a keyboard and a PS/2 mouse, and port
 * 0x92. reset: pulse of output port bit 0 or port 0x92 bit 0. a20: level of A20 (asserted = gate open). */
struct i8042;
MUST_CHECK int i8042_new(struct i8042 **out, struct bus *b, struct clock *clk, struct irq_line irq1,
                         struct irq_line irq12, struct irq_line a20, struct dev_event reset);
void i8042_free(struct i8042 *k);
void i8042_reset(struct i8042 *k);
struct snap_part i8042_part(struct i8042 *k);
/* What a user does. A key is named by its scan code set 2 make code, | 0x100 for those with the E0 prefix, and Pause is
 * 0x277; below 0x300. A key that is held repeats by itself, and its going down again means nothing. */
void i8042_key(struct i8042 *k, unsigned key, bool down);
/* The user's hands are not where they were, as after a load: the key that is held is let go. */
void i8042_let_go(struct i8042 *k);
/* No key waits in the keyboard. room: fired, often, when that is so; its function calls nothing of the chip's. */
bool i8042_has_room(const struct i8042 *k);
void i8042_on_room(struct i8042 *k, struct dev_event room);
/* The lamps have been set, perhaps as they were: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock. */
void i8042_on_leds(struct i8042 *k, struct dev_event leds);
void i8042_mouse(struct i8042 *k, int dx, int dy /* up is positive */, int dz,
                 unsigned buttons /* 1 left, 2 right, 4 middle */);

/* A message on the APIC bus. */
/* clang-format off */
enum apic_delivery {
    APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_STARTUP = 6, APIC_EXTINT = 7,
};
/* clang-format on */
struct apic_msg {
    u8 dest;
    bool logical; /* dest is a logical destination (MDA), not an APIC ID */
    bool level;   /* trigger mode */
    u8 delivery;  /* enum apic_delivery */
    u8 vector;
};

/* lapic.c: the local APIC of one CPU at 0xfee00000. intr, nmi: the CPU's pins. pic: whom to ask when LINT0 is ExtINT.
 * Its timer counts a nominal 1 GHz bus clock. */
struct lapic;
MUST_CHECK int lapic_new(struct lapic **out, struct bus *b, struct clock *clk, u8 id, struct irq_line intr,
                         struct irq_line nmi, int (*pic_ack)(void *pic), void *pic);
void lapic_free(struct lapic *l);
void lapic_reset(struct lapic *l);
struct snap_part lapic_part(struct lapic *l);
void lapic_on_eoi(struct lapic *l, void (*eoi)(void *ioapic, u8 vector), void *ioapic); /* EOI of a level interrupt */
bool lapic_deliver(void *lapic, const struct apic_msg *m); /* true if this APIC is addressed and accepts it */
struct irq_line lapic_lint0(struct lapic *l);              /* INT of the 8259A */
struct irq_line lapic_lint1(struct lapic *l);              /* NMI */
extern const struct intc_ops lapic_intc_ops;               /* for rt_set_intc; dev: struct lapic */

/* ioapic.c: 24 pins at 0xfec00000, version 0x11. deliver: lapic_deliver. */
struct ioapic;
MUST_CHECK int ioapic_new(struct ioapic **out, struct bus *b, u8 id,
                          bool (*deliver)(void *lapic, const struct apic_msg *m), void *lapic);
void ioapic_free(struct ioapic *io);
void ioapic_reset(struct ioapic *io);
struct snap_part ioapic_part(struct ioapic *io);
struct irq_line ioapic_input(struct ioapic *io, unsigned n); /* 0..23 */
void ioapic_eoi(void *ioapic, u8 vector);                    /* for lapic_on_eoi */

/* acpi_pm.c: ACPI fixed hardware at ACPI_PM_BASE, GPE0 at ACPI_GPE0_BASE, SMI command port at 0xb2. sci: level. */
enum {
    ACPI_PM_BASE = 0x600,   /* +0 PM1a event (4), +4 PM1a control (2), +8 PM timer (4) */
    ACPI_GPE0_BASE = 0x620, /* 2 status, 2 enable */
    ACPI_SMI_CMD = 0xb2,
    ACPI_ENABLE_CMD = 0xf1,
    ACPI_DISABLE_CMD = 0xf0,
    ACPI_SCI_IRQ = 9,
    ACPI_S5_TYP = 5, /* SLP_TYP for soft-off, as \_S5 in the DSDT says */
    ACPI_RESET_PORT = 0xcf9,
    ACPI_RESET_VALUE = 0x06,
};
struct acpi_pm;
MUST_CHECK int acpi_pm_new(struct acpi_pm **out, struct bus *b, struct clock *clk, struct irq_line sci,
                           struct dev_event poweroff);
void acpi_pm_free(struct acpi_pm *a);
void acpi_pm_reset(struct acpi_pm *a);
struct snap_part acpi_pm_part(struct acpi_pm *a);
void acpi_pm_power_button(struct acpi_pm *a);    /* pressed and let go */
void acpi_pm_gpe(struct acpi_pm *a, unsigned n); /* 0..15: raise a general-purpose event */
struct pci;
/* Its PCI function, 00:01.3, by which firmware moves the fixed hardware to where it wants it (PMBA). */
MUST_CHECK int acpi_pm_attach(struct acpi_pm *a, struct pci *p);

/* acpi_tables.c: everything from RSDP to DSDT, for firmware-less boot. */
struct acpi_config {
    paddr tables; /* where the blob will be; 64-byte aligned, below 4 GiB. FACS in it is written by the OS */
    u32 lapic_base, ioapic_base;
    u8 cpus, ioapic_id;              /* APIC IDs are 0..cpus-1 */
    u32 pci_mem_first, pci_mem_last; /* window for memory BARs, inclusive */
    u8 serial_ports;                 /* bit n: COM(n+1) is there */
    bool parallel_port;              /* LPT1 is */
    bool has_vga, has_hpet;
    u16 isa_irqs; /* interrupts of ISA cards, which PCI is not to get */
};
#define ACPI_TABLES_MAX 8u
#define ACPI_POINTERS_MAX 16u
struct acpi_tables {
    u8 *blob; /* goes to cfg->tables */
    size_t len;
    u8 rsdp[36]; /* goes to a 16-byte boundary in 0xe0000..0xfffff */
    /* For firmware that chooses the place itself: what in the blob is an address in it, and which tables have a
     * checksum over it. Those of the RSDP are at fixed places. */
    struct {
        u32 at;
        u8 size; /* bytes */
    } pointer[ACPI_POINTERS_MAX];
    struct {
        u32 at, len;
    } table[ACPI_TABLES_MAX];
    unsigned npointers, ntables;
};
enum { ACPI_RSDP_RSDT = 16, ACPI_RSDP_XSDT = 24, ACPI_CHECKSUM = 9 /* of a table; from its start */ };
MUST_CHECK int acpi_tables_build(struct acpi_tables *out, const struct acpi_config *cfg); /* 0, -ENOMEM, -EINVAL */
void acpi_tables_free(struct acpi_tables *t);

/* pci.c: i440FX host bridge at 00:00.0, PIIX3 ISA bridge at 00:01.0, configuration mechanism #1, reset control at
 * 0xcf9. PIRQA..D go to the ISA interrupt that the PIIX3 routes them to, and always to apic[0..3] (I/O APIC pins
 * 16..19). INTx of device d reaches PIRQ (d + x - 1) mod 4, INTA being x = 0: as SeaBIOS takes it to be. */
struct pci;
MUST_CHECK int pci_new(struct pci **out, struct bus *b, const struct irq_line isa[16], const struct irq_line apic[4],
                       struct dev_event reset);
void pci_free(struct pci *p);
void pci_reset(struct pci *p);
/* The bridges and every function added so far: itself first. At most room of them; returns how many. */
unsigned pci_parts(struct pci *p, struct snap_part *out, unsigned room);

struct pci_fn;
struct pci_bar {
    u64 size; /* 0: absent; else a power of two, I/O: 4..256, memory: at least 16 (mapped at its size) */
    bool io, prefetch;
    const struct io_ops *ops; /* with the descriptor's dev */
    struct bus_ram *ram;      /* instead of ops: memory of the device's, size bytes */
};
struct pci_desc {
    u8 dev, fn; /* 00:dev.fn */
    u16 vendor, device, subsys_vendor, subsys;
    u8 class_code, subclass, prog_if, revision;
    u8 int_pin; /* 0 none, 1 INTA .. 4 INTD */
    struct pci_bar bar[6];
    u8 *rom;      /* expansion ROM, borrowed; NULL: none. It comes to name this function: pci_rom_name() */
    u32 rom_size; /* a power of two, at least 4 KiB */
    void *opaque; /* handed to bar[].ops and the hooks */
    const char *name;
    void (*reset)(void *opaque); /* all that the guest may write is zero already; may be NULL */
    u8 cap;                      /* where its list of capabilities begins in configuration space; 0: there is none */
    void (*cfg_reading)(void *opaque, u8 off, unsigned size); /* before configuration space is read; may be NULL */
    void (*cfg_written)(void *opaque, u8 off, unsigned size); /* after a write to configuration space; may be NULL */
};
/* Adds a function to bus 0. The descriptor is copied; ops, opaque and name are borrowed. -EBUSY if the slot is taken.
 */
MUST_CHECK int pci_add(struct pci *p, struct pci_fn **out, const struct pci_desc *d);
/* pci_rom.c: a ROM's first image is for that function from now on, whichever of its kind it was made for: firmware
 * starts no other. Its sum stays 0. What is no ROM stays as it is. */
void pci_rom_name(u8 *rom, u32 len, u16 vendor, u16 device);
struct irq_line pci_fn_irq(struct pci_fn *f); /* its INTx, level */
u8 *pci_fn_config(struct pci_fn *f);          /* 256 bytes; the header's first 64 belong to pci.c */
u8 *pci_fn_writable(struct pci_fn *f);        /* 256 bytes: mask of the bits the guest may write */
bool pci_fn_bus_master(const struct pci_fn *f);
/* A function's interrupt as a memory write, and where such writes go: for the board. */
void pci_msi(struct pci *p, u32 address, u32 data);
void pci_on_msi(struct pci *p, void (*deliver)(void *opaque, u32 address, u32 data), void *opaque);
/* Who else looks after the host bridge: the owner of its PAM registers. Called as pci_desc's hooks are. */
void pci_host_hooks(struct pci *p, void *opaque, void (*reset)(void *opaque),
                    void (*cfg_written)(void *opaque, u8 off, unsigned size));
const u8 *pci_host_config(const struct pci *p); /* 256 bytes */
/* What firmware does before it boots an OS: PIRQ routing, BARs (memory from mem_base, I/O from io_base), interrupt
 * lines. */
void pci_firmware_setup(struct pci *p, u32 mem_base, u16 io_base);

/* pam.c: what is seen at 0xc0000..0xfffff, RAM or ROM, as the host bridge's PAM registers say; and the ROM below 4 GiB.
 * rom: borrowed, a multiple of 4 KiB and at least 64 KiB, or NULL: there is none. */
struct pam;
MUST_CHECK int pam_new(struct pam **out, struct bus *b, struct pci *p, const u8 *rom, u32 rom_len);
void pam_free(struct pam *p);
struct snap_part pam_part(struct pam *p);

/* vga/vga.c: 00:02.0, IBM's VGA with 16 MiB of memory, and VBE registers by which modes up to 1920x1200x32 are set.
 * rom: its BIOS, copied; NULL: none. */
struct vga;
#define VGA_ROM_MAX 0x10000u
MUST_CHECK int vga_new(struct vga **out, struct bus *b, struct clock *clk, struct pci *p, const u8 *rom, u32 rom_len);
void vga_free(struct vga *v);
struct snap_part vga_part(struct vga *v);

/* vga/vga_draw.c: what a display shows of it. There may be several; each draws what has changed since it last did. */
struct display;
struct vga_screen;
/* once: for one drawing, of all there is. */
MUST_CHECK int vga_screen_new(struct vga_screen **out, struct vga *v, const struct display *d, bool once);
void vga_screen_free(struct vga_screen *s); /* before the VGA; copes with NULL */
void vga_screen_draw(struct vga_screen *s);

/* ide/piix3_ide.c: 00:01.1, two channels at their old places (0x1f0, 0x170, interrupts 14 and 15), bus-master DMA.
 * Drive i is on channel i / 2. Disks are borrowed; while one is at work, the board is neither saved nor reset. */
struct blockdev;
struct ide_disk {
    struct blockdev *dev; /* NULL: no drive, or a CD-ROM drive that is empty */
    bool cdrom;
    const char *serial; /* at most 20 characters of it are shown; NULL: one of ours */
};
#define IDE_DRIVES 4u
struct ide;
MUST_CHECK int ide_new(struct ide **out, struct bus *b, struct pci *p, struct irq_line irq14, struct irq_line irq15,
                       const struct ide_disk *disk /* IDE_DRIVES */);
void ide_free(struct ide *i);
/* Its channels and drives. At most room of them; returns how many. */
unsigned ide_parts(struct ide *i, struct snap_part *out, unsigned room);
/* Drive i, a CD-ROM drive with nothing at work, has another medium from now on, or none (NULL); its tray is closed. A
 * command under way fails where it needs the one before. */
void ide_change_medium(struct ide *ide, unsigned i, struct blockdev *dev);
bool ide_medium_prevented(const struct ide *ide, unsigned i); /* the guest wants it to stay */
bool ide_tray_open(const struct ide *ide, unsigned i);
void ide_eject_request(struct ide *ide, unsigned i); /* the drive's button has been pressed */

/* virtio/virtio_blk.c: a disk at 00:slot.0 behind a transitional virtio function. name: in a snapshot; borrowed.
 * serial: at most 20 characters of it are shown. The disk is borrowed; while it is at work, the board is neither saved
 * nor reset. */
struct virtio_blk;
MUST_CHECK int virtio_blk_new(struct virtio_blk **out, struct bus *b, struct pci *p, u8 slot, const char *name,
                              struct blockdev *disk, const char *serial);
void virtio_blk_free(struct virtio_blk *b);
struct snap_part virtio_blk_part(struct virtio_blk *b);

/* virtio/virtio_9p.c: a folder of the host's at 00:slot.0. The folder is borrowed; while it is at work, the board is
 * neither saved nor reset. name: in a snapshot; borrowed. */
struct virtio_9p;
struct sharedev;
MUST_CHECK int virtio_9p_new(struct virtio_9p **out, struct bus *b, struct pci *p, u8 slot, const char *name,
                             struct sharedev *folder);
void virtio_9p_free(struct virtio_9p *d);
void virtio_9p_save(struct virtio_9p *d); /* before it is saved: takes what the guest has open */
/* The device and its session. At most room of them; returns how many. */
unsigned virtio_9p_parts(struct virtio_9p *d, struct snap_part *out, unsigned room);

/* virtio/virtio_rng.c: random numbers from a source, which is borrowed; while it is at work, the board is neither saved
 * nor reset. */
struct virtio_rng;
struct rngdev;
MUST_CHECK int virtio_rng_new(struct virtio_rng **out, struct bus *b, struct pci *p, u8 slot,
                              const struct rngdev *source);
void virtio_rng_free(struct virtio_rng *r);
struct snap_part virtio_rng_part(struct virtio_rng *r);

/* virtio/virtio_console.c: a console (Linux: hvc0) with a line behind it, which is borrowed. */
struct virtio_console;
MUST_CHECK int virtio_console_new(struct virtio_console **out, struct bus *b, struct pci *p, u8 slot,
                                  struct chardev *line);
void virtio_console_free(struct virtio_console *c);
/* The device, and what its line has brought. At most room of them; returns how many. */
unsigned virtio_console_parts(struct virtio_console *c, struct snap_part *out, unsigned room);

/* virtio/virtio_balloon.c: takes memory from the guest and gives it back, in pages of 4 KiB. */
struct virtio_balloon;
#define BALLOON_STATS 10u /* the tags of VIRTIO 1.2, 5.5.6.4 */
struct balloon_stats {
    u64 value[BALLOON_STATS]; /* by tag */
    u32 said;                 /* bits: which the driver has said; 0: none */
    u64 said_at;              /* guest ns */
};
MUST_CHECK int virtio_balloon_new(struct virtio_balloon **out, struct bus *b, struct clock *clk, struct pci *p,
                                  u8 slot);
void virtio_balloon_free(struct virtio_balloon *b);
unsigned virtio_balloon_parts(struct virtio_balloon *b, struct snap_part *out, unsigned room);
void virtio_balloon_want(struct virtio_balloon *b, u32 pages); /* that the guest should do without */
u32 virtio_balloon_pages(const struct virtio_balloon *b);      /* that it does without, as it says */
/* What the driver knows of the guest's memory: as it said it last, and asks it to say it again. */
void virtio_balloon_stats(const struct virtio_balloon *b, struct balloon_stats *out);
void virtio_balloon_ask(struct virtio_balloon *b);

/* usb/uhci.c: 00:01.2, the PIIX3's USB controller. */
struct uhci;
struct usb_device;
#define UHCI_PORTS 4u /* at most; two, if no more are needed: systems of the time look for no others */
MUST_CHECK int uhci_new(struct uhci **out, struct bus *b, struct clock *clk, struct pci *p);
void uhci_free(struct uhci *u);
struct snap_part uhci_part(struct uhci *u);
/* The device, which is borrowed, is in that port, which is empty, for good. */
void uhci_plug(struct uhci *u, unsigned port, struct usb_device *d);

/* usb/hid.c: a tablet, or a keyboard. */
struct usb_hid;
MUST_CHECK int usb_hid_new(struct usb_hid **out, bool keyboard);
void usb_hid_free(struct usb_hid *h);
struct snap_part usb_hid_part(struct usb_hid *h);
struct usb_device *usb_hid_device(struct usb_hid *h);
bool usb_hid_ready(const struct usb_hid *h);                    /* the guest has a driver for it */
bool usb_hid_has_room(const struct usb_hid *h);                 /* it has taken all that has happened */
void usb_hid_on_room(struct usb_hid *h, struct dev_event room); /* fired when it has; value: none */
void usb_hid_on_leds(struct usb_hid *h, struct dev_event leds); /* as i8042_on_leds() */
/* The pointer is at x, y of 0 to 32767 from the top left; the wheel has turned by dz; buttons as i8042_mouse(). */
void usb_tablet_move(struct usb_hid *h, unsigned x, unsigned y, int dz, unsigned buttons);
void usb_keyboard_key(struct usb_hid *h, unsigned key, bool down); /* key: as i8042_key() */

/* usb/storage.c: a disk. It is borrowed; while it is at work, the board is neither saved nor reset. name: in a
 * snapshot; serial: at most 20 characters of it are shown; both borrowed. */
struct usb_storage;
MUST_CHECK int usb_storage_new(struct usb_storage **out, const char *name, struct blockdev *disk, const char *serial);
void usb_storage_free(struct usb_storage *s);
struct snap_part usb_storage_part(struct usb_storage *s);
struct usb_device *usb_storage_device(struct usb_storage *s);

/* A network card, whatever its chip. The network is borrowed, and its receive() the card's. */
struct netdev;
struct nic_desc {
    u8 slot; /* 00:slot.0, of a card on PCI */
    struct netdev *net;
    u8 mac[6];
    const char *name; /* in a snapshot; borrowed */
    u8 *rom;          /* its boot ROM, as pci_desc has it */
    u32 rom_size;
    u16 port; /* of a card on ISA: its first port, and its interrupt */
    u8 irq;
};

/* virtio/virtio_net.c: a card that exists in virtual machines only, transitional. */
struct virtio_net;
MUST_CHECK int virtio_net_new(struct virtio_net **out, struct bus *b, struct pci *p, const struct nic_desc *d);
void virtio_net_free(struct virtio_net *n);
struct snap_part virtio_net_part(struct virtio_net *n);

/* net/pcnet.c: an Am79C973 (PCnet-FAST III). */
struct pcnet;
MUST_CHECK int pcnet_new(struct pcnet **out, struct bus *b, struct clock *clk, struct pci *p, const struct nic_desc *d);
void pcnet_free(struct pcnet *p);
struct snap_part pcnet_part(struct pcnet *p);

/* net/e1000.c: an 82540EM. */
struct e1000;
MUST_CHECK int e1000_new(struct e1000 **out, struct bus *b, struct clock *clk, struct pci *p, const struct nic_desc *d);
void e1000_free(struct e1000 *e);
struct snap_part e1000_part(struct e1000 *e);

/* net/rtl8139.c: an RTL8139C. */
struct rtl8139;
MUST_CHECK int rtl8139_new(struct rtl8139 **out, struct bus *b, struct clock *clk, struct pci *p,
                           const struct nic_desc *d);
void rtl8139_free(struct rtl8139 *r);
struct snap_part rtl8139_part(struct rtl8139 *r);

/* net/ne2000.c: an NE2000, on PCI (RTL8029) or on ISA; 32 ports there, or -EBUSY. */
struct ne2000;
MUST_CHECK int ne2000_new(struct ne2000 **out, struct bus *b, struct pci *p, const struct nic_desc *d);
MUST_CHECK int ne2000_isa_new(struct ne2000 **out, struct bus *b, struct irq_line irq, const struct nic_desc *d);
void ne2000_free(struct ne2000 *n);
struct snap_part ne2000_part(struct ne2000 *n);

/* Where a sound card plays to: one of the sources of an audio device, or two that follow each other. Borrowed. */
struct audiodev;
struct sound_out {
    const struct audiodev *dev;
    unsigned voice;
};

/* sound/speaker.c: what hangs on the PIT's counter 2. */
struct speaker;
MUST_CHECK int speaker_new(struct speaker **out, struct clock *clk, struct pit *pit, struct sound_out to);
void speaker_free(struct speaker *s); /* before the PIT */
struct snap_part speaker_part(struct speaker *s);

/* sound/ac97.c: the AC'97 controller of an 82801AA with a codec, at 00:slot.0. */
struct ac97;
MUST_CHECK int ac97_new(struct ac97 **out, struct bus *b, struct clock *clk, struct pci *p, u8 slot,
                        struct sound_out to);
void ac97_free(struct ac97 *a);
struct snap_part ac97_part(struct ac97 *a);

/* sound/es1370.c: an ES1370 (AudioPCI), at 00:slot.0. Plays to two sources. */
struct es1370;
MUST_CHECK int es1370_new(struct es1370 **out, struct bus *b, struct clock *clk, struct pci *p, u8 slot,
                          struct sound_out to);
void es1370_free(struct es1370 *e);
struct snap_part es1370_part(struct es1370 *e);

struct dma8237;
/* sound/sb16.c: a Sound Blaster 16, 16 ports at SB16_PORT, or -EBUSY. irq: ISA's 9 (its 2), 5, 7 and 10, of which its
 * mixer names one: 5 at first. Plays to two sources. */
#define SB16_PORT 0x220
#define SB16_IRQ 5
struct sb16;
MUST_CHECK int sb16_new(struct sb16 **out, struct bus *b, struct clock *clk, struct dma8237 *dma,
                        const struct irq_line irq[4], struct sound_out to);
void sb16_free(struct sb16 *s); /* before the DMA controllers */
struct snap_part sb16_part(struct sb16 *s);

/* fw_cfg.c: what a virtual machine tells its firmware: numbered items and named files, at ports 0x510 and 0x514 (DMA).
 */
struct fw_cfg;
MUST_CHECK int fw_cfg_new(struct fw_cfg **out, struct bus *b);
void fw_cfg_free(struct fw_cfg *f);
struct snap_part fw_cfg_part(struct fw_cfg *f);
/* Data is copied; n may be 0. 0, -ENOMEM, -ENOSPC (too many), -EINVAL (a name of more than FW_CFG_NAME - 1 bytes). */
#define FW_CFG_NAME 56u
MUST_CHECK int fw_cfg_item(struct fw_cfg *f, u16 key, const void *data, u32 n); /* key below 0x20 */
MUST_CHECK int fw_cfg_file(struct fw_cfg *f, const char *name, const void *data, u32 n);

/* dma8237.c: the two 8237A at 0x00 and 0xc0 and the page registers 0x81..0x8f. */
struct dma8237;
MUST_CHECK int dma8237_new(struct dma8237 **out, struct bus *b);
void dma8237_free(struct dma8237 *d);
void dma8237_reset(struct dma8237 *d);
struct snap_part dma8237_part(struct dma8237 *d);
/* A device on a channel passes up to len bytes of buf to memory, or takes them from there. Returns how many; less than
 * len: the channel has ended, is masked, or goes the other way. A channel set to verify counts and moves nothing.
 * Channels 5 to 7 move words. *tc: it came to its terminal count. */
u32 dma8237_transfer(struct dma8237 *d, unsigned channel, bool to_memory, u8 *buf, u32 len, bool *tc);

/* fdc82077.c: 82077AA at 0x3f0 (not 0x3f6) with up to two drives, on DMA channel 2. Disks are borrowed; while one is at
 * work, the board is neither saved nor reset. */
struct fdc;
struct fdc_format {
    u32 bytes;
    u8 tracks, heads, per_track;
    u8 cmos; /* type of the smallest drive that takes it, as CMOS has it: 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M */
};
/* What a disk of so many bytes is: of just that size, or else the first of at least 1.44 MB that it fits on. NULL: it
 * is too large. */
const struct fdc_format *fdc_format(u64 bytes);
#define FDC_DRIVES 2u
struct fdc_disk {
    bool drive;           /* there is one */
    struct blockdev *dev; /* NULL: it is empty. Each has a format: or -EINVAL */
};
MUST_CHECK int fdc_new(struct fdc **out, struct bus *b, struct dma8237 *dma, struct irq_line irq6,
                       const struct fdc_disk disk[FDC_DRIVES]);
/* Another disk that has a format, or none (NULL), is in this drive, which has nothing at work. */
void fdc_change_medium(struct fdc *f, unsigned drive, struct blockdev *disk);
void fdc_free(struct fdc *f);
struct snap_part fdc_part(struct fdc *f);

/* debug_exit.c: a write of v to the port fires exit with (v << 1) | 1. Reads give all ones. */
struct debug_exit;
MUST_CHECK int debug_exit_new(struct debug_exit **out, struct bus *b, u16 port, struct dev_event exit);
void debug_exit_free(struct debug_exit *d);

/* port80.c: POST code latch (it is DMA page register 0 of an AT, read back as written). changed may have no fn. */
struct port80;
MUST_CHECK int port80_new(struct port80 **out, struct bus *b, struct dev_event changed);
void port80_free(struct port80 *p);
struct snap_part port80_part(struct port80 *p);

/* porte9.c: every byte written to the port (0xe9; 0x402 for firmware) goes to be; reads give 0xe9, as a sign that it is
 * there. */
struct porte9;
MUST_CHECK int porte9_new(struct porte9 **out, struct bus *b, u16 port, struct chardev *be);
void porte9_free(struct porte9 *p);

#endif
