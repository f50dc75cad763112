/* Owns the board: an i440FX/PIIX3 class PC. The only file that knows both the CPU and the chips.
 *   I1  chips are made in dependency order and freed in reverse.                       [pc_new, pc_free]
 *   I2  ISA interrupt n drives PIC input n and I/O APIC pin n, but 0 drives pin 2.      [as the MADT says; wire_isa]
 *   I3  the memory map never calls usable what firmware tables occupy.                 [map_build]
 * Enter at pc_new(): it reads top to bottom as the schematic does.
 * NOT-HW: a closed A20 gate acts on the second megabyte alone, where DMA finds nothing then. */
#include "src/board/pc.h"
#include "core/blockdev.h"
#include "runtime/runtime.h"
#include "src/board/firmware.h"
#include "src/board/mp_tables.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define LAPIC_BASE 0xfee00000u
#define IOAPIC_BASE 0xfec00000u
#define CPUS 1
#define IOAPIC_ID 1 /* the CPU has local APIC ID 0 */
#define PCI_MEM_LAST 0xfebfffffu
#define PCI_IO_FIRST 0xc000
#define PCI_MEM_FIRST 0xe0000000u /* above the most RAM there can be below 4 GiB */
#define FW_DEBUG_PORT 0x402
#define SLOT_NET 3
#define SLOT_NETS 8 /* 00:08.0 and on: further network cards */
#define SLOT_SOUNDS 16
#define SLOT_SHARES 24   /* 00:18.0 to 00:1b.0: shared folders */
#define SLOT_PARAVIRT 28 /* 00:1c.0 to 00:1e.0 */
#define SLOT_DISKS 4     /* 00:04.0 to 00:07.0: virtio disks */

enum { BDA_COM1 = 0x400, BDA_LPT1 = 0x408, BDA_EBDA_SEG = 0x40e, BDA_EQUIPMENT = 0x410, BDA_BASE_KIB = 0x413 };
#define COM1 0x3f8
#define LPT1 0x378
static const u16 com_base[SERIAL_PORTS] = { COM1, 0x2f8, 0x3e8, 0x2e8 };
#define CMOS_FLOPPY 0x10 /* types of the drives, A in the upper half */
#define CMOS_FLOPPY_1440 4
#define EBDA_BASE 0x9fc00u
#define ROM_AREA 0xe0000u /* to 1 MiB: where an OS looks for the RSDP */
#define RSDP_AT 0xf0000u
#define MP_TABLES_AT 0xf0100u
#define TABLES_ALIGN 0x10000u

struct pc {
    struct bus *bus;
    struct memory_map map;
    const struct firmware *firmware; /* NULL: none runs */
    struct rt *rt;
    struct acpi_tables acpi;
    paddr acpi_at;
    struct irq_split isa[16];
    struct irq_split pic_int;
    struct pic *pic;
    struct lapic *lapic;
    struct ioapic *ioapic;
    struct hpet *hpet; /* NULL: there is none */
    struct pit *pit;
    struct rtc *rtc;
    struct uart *com[SERIAL_PORTS]; /* NULL: there is no such port */
    struct irq_or *com_irq[2];      /* of COM1 and COM3, COM2 and COM4, where both are; else NULL */
    struct lpt *lpt;                /* NULL: there is none */
    struct i8042 *kbd;
    struct acpi_pm *pm;
    struct pci *pci;
    struct pam *pam;
    struct vga *vga; /* NULL: there is no screen */
    struct ide *ide; /* NULL: there are no drives */
    struct fdc *fdc; /* NULL: there are no drives of its */
    struct virtio_blk *virtio_disk[VM_DISKS_MAX];
    struct nic *nic[VM_NETS_MAX]; /* NULL: there is no such card */
    struct sounds *sounds;        /* NULL: there are no sound cards */
    struct virtio_9p *share[VM_SHARES_MAX];
    struct usb_ports *usb;     /* NULL: there is no USB */
    struct paravirt *paravirt; /* NULL: there are no such devices */
    struct fw_cfg *fw_cfg;
    struct chardev fw_debug; /* to the trace */
    struct porte9 *fw_port;
    bool a20_closed;
    struct dma8237 *dma;
    struct port80 *port80;
    struct porte9 *porte9;
    struct debug_exit *debug_exit;
};

static void wire_isa(struct pc *pc)
{
    for (unsigned n = 0; n < 16; n++) {
        if (n == 2) continue; /* the cascade */
        pc->isa[n].out[0] = pic_input(pc->pic, n);
        pc->isa[n].out[1] = ioapic_input(pc->ioapic, n == 0 ? 2 : n);
    }
}

static int hpet_attach(struct pc *pc, struct irq_line *irq0, struct irq_line *irq8)
{
    struct hpet_wires to = { .isa = { *irq0, *irq8 } };
    int rc;

    for (unsigned i = 0; i < ARRAY_LEN(to.apic); i++) to.apic[i] = ioapic_input(pc->ioapic, 20 + i);
    rc = hpet_new(&pc->hpet, pc->bus, rt_clock(pc->rt), &to);
    if (rc) return rc;
    *irq0 = hpet_legacy_input(pc->hpet, 0);
    *irq8 = hpet_legacy_input(pc->hpet, 1);
    return 0;
}

/* ---- the A20 gate ---- */

#define A20 0x100000u

/* Seen at 1 MiB to 2 MiB while the gate is closed: what is a megabyte below. */
static u32 a20_read(void *bus, u32 off, unsigned size) { return bus_mmio_read(bus, off, size); }
static void a20_write(void *bus, u32 off, unsigned size, u32 val) { bus_mmio_write(bus, off, size, val); }

/* Without memory for the range the gate stays open. */
static void a20_set(void *opaque, unsigned n UNUSED, bool open)
{
    static const struct io_ops ops = { a20_read, a20_write };
    struct pc *pc = opaque;
    if (open == !pc->a20_closed) return;
    if (open) bus_unmap_mmio(pc->bus, A20);
    pc->a20_closed = !open && !bus_map_mmio(pc->bus, A20, A20, &ops, pc->bus, "A20 gate");
}

static void map_add(struct memory_map *m, u64 from, u64 to, enum e820_type type)
{
    BUG_ON(m->n == E820_MAX);
    if (from < to) m->entry[m->n++] = (struct e820_entry){ from, to - from, type };
}

/* The tables go to the top of low RAM, out of the way of kernels, which load from the bottom. */
static void map_build(struct pc *pc, u64 low, u64 total)
{
    struct memory_map *m = &pc->map;
    map_add(m, 0, EBDA_BASE, E820_RAM);
    map_add(m, EBDA_BASE, 0xa0000, E820_RESERVED);
    map_add(m, ROM_AREA, 0x100000, E820_RESERVED);
    map_add(m, 0x100000, pc->acpi_at, E820_RAM);
    map_add(m, pc->acpi_at, low, E820_RESERVED); /* not E820_ACPI: the FACS in it must outlive the OS's reading of
                                                    tables */
    map_add(m, IOAPIC_BASE, IOAPIC_BASE + PAGE_SIZE, E820_RESERVED);
    if (pc->hpet) map_add(m, HPET_BASE, HPET_BASE + PAGE_SIZE, E820_RESERVED);
    map_add(m, LAPIC_BASE, LAPIC_BASE + PAGE_SIZE, E820_RESERVED);
    map_add(m, (u64)1 << 32, ((u64)1 << 32) + (total - low), E820_RAM);
}

/* Firmware's choice for the start of PCI memory is its own; the tables have to say the same. */
static u32 pci_mem_first(const struct pc *pc)
{
    if (!pc->firmware) return PCI_MEM_FIRST;
    return bus_ram_low(pc->bus) <= 0x80000000u ? 0x80000000u : 0xc0000000u;
}

/* An interrupt as a memory write (SDM vol. 3, 11.11). Of the delivery modes those that a device has a use for. */
static void on_msi(void *opaque, u32 address, u32 data)
{
    struct pc *pc = opaque;
    const struct apic_msg m = { .dest = (u8)(address >> 12),
                                .logical = address >> 2 & 1,
                                .level = false,
                                .delivery = data >> 8 & 7,
                                .vector = (u8)data };
    bool plain = (m.delivery == APIC_FIXED || m.delivery == APIC_LOWEST) && m.vector >= 16;

    if (address >> 20 == LAPIC_BASE >> 20 && (plain || m.delivery == APIC_NMI)) lapic_deliver(pc->lapic, &m);
}

static int floppies_attach(struct pc *pc, const struct fdc_disk floppy[FDC_DRIVES], struct irq_line irq6)
{
    u8 types = 0;
    for (unsigned i = 0; i < FDC_DRIVES; i++)
        if (floppy[i].drive)
            types |= (u8)((floppy[i].dev ? fdc_format(floppy[i].dev->size)->cmos : CMOS_FLOPPY_1440) << (i ? 0 : 4));
    rtc_cmos_set(pc->rtc, CMOS_FLOPPY, types);
    return fdc_new(&pc->fdc, pc->bus, pc->dma, irq6, floppy);
}

static int disks_attach(struct pc *pc, const struct pc_config *cfg, const struct irq_line *isa)
{
    static const char *const names[VM_DISKS_MAX] = { "virtio-blk0", "virtio-blk1", "virtio-blk2", "virtio-blk3" };
    static const char *const serials[VM_DISKS_MAX] = { "TV00000010", "TV00000011", "TV00000012", "TV00000013" };
    struct ide_disk ide[IDE_DRIVES] = { 0 };
    struct fdc_disk floppy[FDC_DRIVES] = { 0 };
    bool any = false;
    int rc = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX && !rc; i++) {
        const struct pc_disk *d = &cfg->disk[i];

        if (!d->drive || d->bus == VM_BUS_USB) continue;
        if (d->bus == VM_BUS_FLOPPY) {
            floppy[d->at] = (struct fdc_disk){ true, d->dev };
            continue;
        }
        if (d->bus == VM_BUS_VIRTIO) {
            rc = virtio_blk_new(&pc->virtio_disk[d->at], pc->bus, pc->pci, (u8)(SLOT_DISKS + d->at), names[d->at],
                                d->dev, d->serial ? d->serial : serials[d->at]);
            continue;
        }
        ide[d->at] = (struct ide_disk){ d->dev, d->cdrom, d->serial };
        any = true;
    }
    if (!rc && any) rc = ide_new(&pc->ide, pc->bus, pc->pci, isa[14], isa[15], ide);
    if (!rc && (floppy[0].drive || floppy[1].drive)) rc = floppies_attach(pc, floppy, isa[6]);
    return rc;
}

static int shares_attach(struct pc *pc, const struct pc_config *cfg)
{
    static const char *const names[VM_SHARES_MAX] = { "virtio-9p0", "virtio-9p1", "virtio-9p2", "virtio-9p3" };
    int rc = 0;

    for (unsigned i = 0; i < VM_SHARES_MAX && !rc; i++)
        if (cfg->share[i])
            rc = virtio_9p_new(&pc->share[i], pc->bus, pc->pci, (u8)(SLOT_SHARES + i), names[i], cfg->share[i]);
    return rc;
}

static u8 nic_slot(unsigned i) { return (u8)(i ? SLOT_NETS + i - 1 : SLOT_NET); }

/* COM1, which is always there, to COM4; two of them share an interrupt, as people had it on the ISA bus. */
static int serial_attach(struct pc *pc, const struct pc_config *cfg, const struct irq_line *isa)
{
    struct clock *clk = rt_clock(pc->rt);
    int rc = 0;

    for (unsigned i = 0; i < 2 && !rc; i++)
        if ((!i || cfg->serial[i]) && cfg->serial[i + 2]) rc = irq_or_new(&pc->com_irq[i], isa[i ? 3 : 4]);
    for (unsigned i = 0; i < SERIAL_PORTS && !rc; i++) {
        struct irq_or *shared = pc->com_irq[i % 2];

        if (!i || cfg->serial[i])
            rc = uart_new(&pc->com[i], pc->bus, clk, com_base[i],
                          shared ? irq_or_input(shared, i / 2) : isa[i % 2 ? 3 : 4], cfg->serial[i]);
    }
    return rc;
}

/* Where firmware finds it: its slot, its port, or which of the channels' drives it is. */
static u8 drive_place(const struct pc_config *cfg, const struct pc_disk *d)
{
    if (d->bus == VM_BUS_USB) return (u8)usb_disk_port(cfg->usb, d->at);
    return (u8)(d->at + (d->bus == VM_BUS_VIRTIO ? SLOT_DISKS : 0));
}

static void boot_order_make(char out[BOOT_ORDER_MAX], const struct pc_config *cfg)
{
    struct boot_drive drive[VM_DISKS_MAX + VM_NETS_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        const struct pc_disk *d = &cfg->disk[i];

        if (d->drive) drive[n++] = (struct boot_drive){ d->bus, false, d->cdrom, drive_place(cfg, d) };
    }
    for (unsigned i = 0; i < VM_NETS_MAX; i++)
        if (cfg->nic[i].net && !nic_is_isa(cfg->nic[i].model))
            drive[n++] = (struct boot_drive){ .network = true, .at = nic_slot(i) };
    firmware_boot_order(out, drive, n, cfg->boot && *cfg->boot != 'm' ? cfg->boot : "floppy,disk,cdrom,network");
}

static void fw_debug_write(void *be, const u8 *buf, size_t n)
{
    struct pc *pc = be;
    TRACE(rt_trace(pc->rt), firmware, 0, "%.*s", (int)n, (const char *)buf);
}

/* The devices by which firmware learns about the machine, and tells what it does if somebody wants to know. */
static int firmware_new(struct pc *pc, const char *boot_order, bool menu)
{
    static const struct chardev_ops ops = { .write = fw_debug_write };
    const struct firmware_config cfg = {
        .ram_low = bus_ram_low(pc->bus),
        .ram_high = bus_ram_size(pc->bus) - bus_ram_low(pc->bus),
        .acpi = &pc->acpi,
        .boot_order = boot_order,
        .boot_menu = menu,
        .serial_console = COM1,
    };
    pc->fw_debug = (struct chardev){ .ops = &ops, .be = pc };
    int rc = fw_cfg_new(&pc->fw_cfg, pc->bus);
    if (!rc) rc = firmware_tell(pc->fw_cfg, &cfg);
    if (!rc && trace_on(rt_trace(pc->rt), TR_firmware, 0))
        rc = porte9_new(&pc->fw_port, pc->bus, FW_DEBUG_PORT, &pc->fw_debug);
    return rc;
}

static int firmware_options(struct pc *pc, const struct pc_config *cfg, struct vm_error *err)
{
    int rc = 0;
    for (unsigned i = 0; cfg->option_rom && i < VM_OPTION_ROMS_MAX && !rc && cfg->option_rom[i]; i++)
        rc = firmware_option_rom(pc->fw_cfg, cfg->option_rom[i], &cfg->end, err);
    for (unsigned i = 0; cfg->smbios && i < VM_SMBIOS_MAX && !rc && cfg->smbios[i]; i++)
        rc = firmware_smbios(pc->fw_cfg, cfg->smbios[i], err);
    return rc;
}

/* All of RAM below 1 MiB is RAM: nobody runs who would say so. */
static void shadow_open(struct pc *pc)
{
    static const u8 pam[7] = { 0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33 };
    for (unsigned i = 0; i < ARRAY_LEN(pam); i++) {
        bus_out(pc->bus, 0xcf8, 4, 0x80000000u | ((0x59 + i) & 0xfc));
        bus_out(pc->bus, (u16)(0xcfc + ((0x59 + i) & 3)), 1, pam[i]);
    }
}

/* What firmware leaves behind: BIOS data area, EBDA, ACPI and MP tables, a usable COM1. */
static int firmware_write(struct pc *pc)
{
    static const u8 ebda_seg[2] = { (EBDA_BASE >> 4) & 0xff, EBDA_BASE >> 12 };
    static const u8 base_kib[2] = { (EBDA_BASE >> 10) & 0xff, EBDA_BASE >> 18 };
    u8 com[2 * SERIAL_PORTS] = { 0 }, lpt[2] = { 0 };
    unsigned coms = 0;
    for (unsigned i = 0; i < SERIAL_PORTS; i++) {
        if (!pc->com[i]) continue;
        com[2 * coms] = (u8)com_base[i];
        com[2 * coms++ + 1] = (u8)(com_base[i] >> 8);
    }
    if (pc->lpt) lpt[0] = LPT1 & 0xff, lpt[1] = LPT1 >> 8;
    const u8 equipment[2] = { 0x02 /* FPU */, (u8)(coms << 1 | (pc->lpt ? 0x40 : 0)) };
    static const u8 ebda_kib = 1;
    const struct mp_config mp_cfg = {
        .tables = MP_TABLES_AT,
        .lapic_base = LAPIC_BASE,
        .ioapic_base = IOAPIC_BASE,
        .cpus = CPUS,
        .ioapic_id = IOAPIC_ID,
        .sci_irq = ACPI_SCI_IRQ,
    };
    struct mp_tables mp;
    shadow_open(pc);
    mp_tables_build(&mp, &mp_cfg);
    const struct {
        paddr at;
        const void *data;
        size_t len;
    } piece[] = {
        { BDA_COM1, com, sizeof com },
        { BDA_LPT1, lpt, 2 },
        { BDA_EBDA_SEG, ebda_seg, 2 },
        { BDA_EQUIPMENT, equipment, 2 },
        { BDA_BASE_KIB, base_kib, 2 },
        { EBDA_BASE, &ebda_kib, 1 },
        { pc->acpi_at, pc->acpi.blob, pc->acpi.len },
        { RSDP_AT, pc->acpi.rsdp, sizeof pc->acpi.rsdp },
        { MP_TABLES_AT, mp.blob, mp.len },
    };
    for (size_t i = 0; i < ARRAY_LEN(piece); i++)
        if (bus_dma_write(pc->bus, piece[i].at, piece[i].data, piece[i].len) != piece[i].len) return -ENOMEM;
    pci_firmware_setup(pc->pci, PCI_MEM_FIRST, PCI_IO_FIRST);
    /* As POST leaves it: a kernel may print before it has a driver, and by interrupts alone. */
    for (unsigned i = 0; i < SERIAL_PORTS; i++) {
        if (!pc->com[i]) continue;
        bus_out(pc->bus, (u16)(com_base[i] + 3), 1, 0x03); /* 8N1 */
        bus_out(pc->bus, (u16)(com_base[i] + 4), 1, 0x08); /* OUT2: the interrupt reaches the bus */
    }
    return 0;
}

static u8 serial_ports(const struct pc *pc)
{
    unsigned ports = 0;
    for (unsigned i = 0; i < SERIAL_PORTS; i++) ports |= (unsigned)(pc->com[i] != NULL) << i;
    return (u8)ports;
}

/* The tables' place depends on their length, and their content on the place. */
static int acpi_build(struct pc *pc, u64 low, u16 isa_irqs)
{
    struct acpi_config cfg = {
        .tables = pc->firmware ? 0 : low - TABLES_ALIGN,
        .lapic_base = LAPIC_BASE,
        .ioapic_base = IOAPIC_BASE,
        .cpus = CPUS,
        .ioapic_id = IOAPIC_ID,
        .pci_mem_first = pci_mem_first(pc),
        .pci_mem_last = PCI_MEM_LAST,
        .serial_ports = serial_ports(pc),
        .parallel_port = pc->lpt,
        .has_vga = pc->vga,
        .has_hpet = pc->hpet,
        .isa_irqs = isa_irqs,
    };
    int rc = acpi_tables_build(&pc->acpi, &cfg);
    pc->acpi_at = cfg.tables;
    return rc ? rc : pc->acpi.len > TABLES_ALIGN ? -E2BIG : 0;
}

unsigned pc_parts(struct pc *pc, struct snap_part *out, unsigned room)
{
    /* The local APIC before PCI: a function that the guest has put where the APIC was finds the place empty. */
    const struct snap_part part[] = {
        pic_part(pc->pic),
        lapic_part(pc->lapic),
        ioapic_part(pc->ioapic),
        pit_part(pc->pit),
        rtc_part(pc->rtc),
        i8042_part(pc->kbd),
        uart_part(pc->com[0], "com1"),
        dma8237_part(pc->dma),
        port80_part(pc->port80),
        acpi_pm_part(pc->pm),
        pam_part(pc->pam),
    };
    unsigned n = 0;
    for (; n < ARRAY_LEN(part) && n < room; n++) out[n] = part[n];
    if (pc->hpet && n < room) out[n++] = hpet_part(pc->hpet);
    if (pc->vga && n < room) out[n++] = vga_part(pc->vga);
    static const char *const com_name[SERIAL_PORTS] = { NULL, "com2", "com3", "com4" };
    for (unsigned i = 1; i < SERIAL_PORTS; i++)
        if (pc->com[i] && n < room) out[n++] = uart_part(pc->com[i], com_name[i]);
    for (unsigned i = 0; i < 2; i++)
        if (pc->com_irq[i] && n < room) out[n++] = irq_or_part(pc->com_irq[i], i ? "irq3" : "irq4");
    if (pc->lpt && n < room) out[n++] = lpt_part(pc->lpt);
    if (pc->fw_cfg && n < room) out[n++] = fw_cfg_part(pc->fw_cfg);
    if (pc->ide) n += ide_parts(pc->ide, out + n, room - n);
    if (pc->fdc && n < room) out[n++] = fdc_part(pc->fdc);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (pc->virtio_disk[i] && n < room) out[n++] = virtio_blk_part(pc->virtio_disk[i]);
    for (unsigned i = 0; i < VM_NETS_MAX; i++)
        if (pc->nic[i] && n < room) out[n++] = nic_part(pc->nic[i]);
    n += sounds_parts(pc->sounds, out + n, room - n);
    for (unsigned i = 0; i < VM_SHARES_MAX; i++)
        if (pc->share[i]) n += virtio_9p_parts(pc->share[i], out + n, room - n);
    n += usb_ports_parts(pc->usb, out + n, room - n);
    n += paravirt_parts(pc->paravirt, out + n, room - n);
    return n + pci_parts(pc->pci, out + n, room - n);
}

void pc_change_medium(struct pc *pc, const struct pc_disk *d)
{
    if (d->bus == VM_BUS_FLOPPY) fdc_change_medium(pc->fdc, d->at, d->dev);
    else ide_change_medium(pc->ide, d->at, d->dev);
}

bool pc_medium_prevented(const struct pc *pc, const struct pc_disk *d)
{
    return d->cdrom && ide_medium_prevented(pc->ide, d->at);
}

bool pc_tray_open(const struct pc *pc, const struct pc_disk *d) { return d->cdrom && ide_tray_open(pc->ide, d->at); }

void pc_eject_request(struct pc *pc, const struct pc_disk *d)
{
    if (d->cdrom) ide_eject_request(pc->ide, d->at);
}

void pc_before_save(struct pc *pc)
{
    for (unsigned i = 0; i < VM_SHARES_MAX; i++)
        if (pc->share[i]) virtio_9p_save(pc->share[i]);
}

int pc_balloon(struct pc *pc, u64 bytes)
{
    struct virtio_balloon *b = paravirt_balloon(pc->paravirt);
    const u64 all = bus_ram_size(pc->bus);
    if (!b) return -ENODEV;
    virtio_balloon_want(b, bytes < all ? (u32)((all - bytes) >> PAGE_SHIFT) : 0);
    return 0;
}

int pc_balloon_now(const struct pc *pc, u64 *bytes)
{
    const struct virtio_balloon *b = paravirt_balloon(pc->paravirt);
    const u64 all = bus_ram_size(pc->bus), gone = b ? (u64)virtio_balloon_pages(b) << PAGE_SHIFT : 0;
    *bytes = gone < all ? all - gone : 0;
    return b ? 0 : -ENODEV;
}

int pc_balloon_stats(struct pc *pc, struct balloon_stats *out)
{
    struct virtio_balloon *b = paravirt_balloon(pc->paravirt);
    if (!b) return -ENODEV;
    virtio_balloon_stats(b, out);
    virtio_balloon_ask(b);
    return 0;
}

void pc_power_button(struct pc *pc) { acpi_pm_power_button(pc->pm); }

int pc_reset(struct pc *pc)
{
    struct snap_part part[PC_PARTS_MAX];
    unsigned n = pc_parts(pc, part, PC_PARTS_MAX);
    for (unsigned i = 0; i < n; i++) snap_part_reset(&part[i]);
    /* Once more: a line that has risen because its device was reset is no request. */
    const struct snap_part pic = pic_part(pc->pic);
    snap_part_reset(&pic);
    return pc->firmware ? 0 : firmware_write(pc);
}

int pc_new(struct pc **out, struct rt *rt, const struct pc_config *cfg, struct vm_error *err)
{
    struct bus *bus = rt_bus(rt);
    struct clock *clk = rt_clock(rt);
    const struct irq_line none = { 0 };
    const char *what = "board";
    int rc = -ENOMEM;
    struct pc *pc = calloc(1, sizeof *pc);
    if (!pc) goto fail;
    pc->bus = bus;
    pc->rt = rt;
    pc->firmware = cfg->firmware;
    const struct dev_event cpu_reset = cfg->firmware ? cfg->init : cfg->reset;

#define CHIP(name, call)   \
    do {                   \
        what = (name);     \
        rc = (call);       \
        if (rc) goto fail; \
    } while (0)
    /* Interrupt controllers: PIC -> LINT0 of the local APIC -> INTR. */
    CHIP("interrupt controller", pic_new(&pc->pic, bus, irq_split_input(&pc->pic_int)));
    CHIP("local APIC", lapic_new(&pc->lapic, bus, clk, 0, rt_intr_line(rt), rt_nmi_line(rt), pic_acknowledge, pc->pic));
    pc->pic_int.out[0] = lapic_lint0(pc->lapic);
    rt_set_intc(rt, &lapic_intc_ops, pc->lapic);
    CHIP("I/O APIC", ioapic_new(&pc->ioapic, bus, IOAPIC_ID, lapic_deliver, pc->lapic));
    lapic_on_eoi(pc->lapic, ioapic_eoi, pc->ioapic);
    wire_isa(pc);
    struct irq_line isa[16];
    for (unsigned n = 0; n < 16; n++) isa[n] = n == 2 ? none : irq_split_input(&pc->isa[n]);
    rt_set_ferr(rt, pic_ferr(pc->pic, isa[13], rt_ignne_line(rt)));

    /* Time. */
    struct irq_line irq0 = isa[0], irq8 = isa[8];
    if (cfg->hpet) CHIP("HPET", hpet_attach(pc, &irq0, &irq8));
    CHIP("timer", pit_new(&pc->pit, bus, clk, irq0));
    CHIP("real-time clock", rtc_new(&pc->rtc, bus, clk, irq8, none)); /* the only NMI source is the APIC, which 70h
                                                                           does not mask */
    if (cfg->rtc_offset) rtc_set_offset(pc->rtc, cfg->rtc_offset);

    /* Super I/O. */
    CHIP("keyboard controller",
         i8042_new(&pc->kbd, bus, clk, isa[1], isa[12], (struct irq_line){ .set = a20_set, .opaque = pc }, cpu_reset));
    CHIP("serial ports", serial_attach(pc, cfg, isa));
    if (cfg->parallel) CHIP("parallel port", lpt_new(&pc->lpt, bus, LPT1, isa[7], cfg->parallel));
    CHIP("DMA controller", dma8237_new(&pc->dma, bus));
    CHIP("POST port", port80_new(&pc->port80, bus, (struct dev_event){ 0 }));
    CHIP("port E9h console", porte9_new(&pc->porte9, bus, 0xe9, cfg->serial[0]));

    /* Chipset. */
    CHIP("power management", acpi_pm_new(&pc->pm, bus, clk, isa[ACPI_SCI_IRQ], cfg->poweroff));
    const struct irq_line pirq[4] = { ioapic_input(pc->ioapic, 16), ioapic_input(pc->ioapic, 17),
                                      ioapic_input(pc->ioapic, 18), ioapic_input(pc->ioapic, 19) };
    CHIP("PCI host bridge", pci_new(&pc->pci, bus, isa, pirq, cfg->reset));
    CHIP("power management", acpi_pm_attach(pc->pm, pc->pci));
    CHIP("shadow RAM", pam_new(&pc->pam, bus, pc->pci, pc->firmware ? pc->firmware->data : NULL,
                               pc->firmware ? pc->firmware->len : 0));

    pci_on_msi(pc->pci, on_msi, pc);
    CHIP("disks", disks_attach(pc, cfg, isa));
    const struct nic_buses buses = { bus, clk, pc->pci, isa };
    for (unsigned i = 0; i < VM_NETS_MAX; i++) {
        if (!cfg->nic[i].net) continue;
        rc = nic_new(&pc->nic[i], &buses, i, nic_slot(i), &cfg->nic[i], err);
        if (rc) goto out;
    }
    const struct sound_buses sound = { bus, clk, pc->pci, pc->pit, pc->dma, isa, cfg->audio, SLOT_SOUNDS };
    if (cfg->sounds && (rc = sounds_new(&pc->sounds, &sound, cfg->sounds, err))) goto out;
    struct usb_plugged plugged = { .kinds = cfg->usb };
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        const struct pc_disk *d = &cfg->disk[i];
        if (d->drive && d->bus == VM_BUS_USB) plugged.disk[d->at] = (struct usb_disk){ d->dev, d->serial };
    }
    if ((rc = usb_ports_new(&pc->usb, bus, clk, pc->pci, &plugged, err))) goto out;
    CHIP("shared folders", shares_attach(pc, cfg));
    CHIP("virtio devices", paravirt_new(&pc->paravirt, bus, clk, pc->pci, SLOT_PARAVIRT, &cfg->paravirt));
    if (cfg->vga)
        CHIP("VGA", vga_new(&pc->vga, bus, clk, pc->pci, cfg->vga_rom ? cfg->vga_rom->data : NULL,
                            cfg->vga_rom ? cfg->vga_rom->len : 0));

    if (cfg->has_debug_exit) {
        rc = debug_exit_new(&pc->debug_exit, bus, cfg->debug_exit, cfg->debug);
        if (rc == -EBUSY) {
            rc = vm_fail(err, -EINVAL, "debug_exit: port 0x%x belongs to another device", cfg->debug_exit);
            goto out;
        }
        CHIP("debug-exit port", rc);
    }

    /* Memory as an OS will be told of it. */
    CHIP("ACPI tables", acpi_build(pc, bus_ram_low(bus), cfg->sounds & 1u << SOUND_SB16 ? 1u << SB16_IRQ : 0));
    char boot_order[BOOT_ORDER_MAX];
    boot_order_make(boot_order, cfg);
    if (pc->firmware)
        CHIP("firmware's devices", firmware_new(pc, boot_order, cfg->boot && firmware_boot_menu(cfg->boot)));
    else map_build(pc, bus_ram_low(bus), bus_ram_size(bus));
    if (pc->firmware && (rc = firmware_options(pc, cfg, err))) goto out;
    /* What power-on gives is what a reset gives. */
    CHIP("firmware tables", pc_reset(pc));
#undef CHIP
    *out = pc;
    return 0;
fail:
    vm_fail(err, rc, "%s: %s", what, strerror(-rc));
out:
    pc_free(pc);
    return rc;
}

void pc_free(struct pc *pc)
{
    if (!pc) return;
    acpi_tables_free(&pc->acpi);
    debug_exit_free(pc->debug_exit);
    sounds_free(pc->sounds);
    usb_ports_free(pc->usb);
    paravirt_free(pc->paravirt);
    for (unsigned i = 0; i < VM_SHARES_MAX; i++) virtio_9p_free(pc->share[i]);
    for (unsigned i = 0; i < VM_NETS_MAX; i++) nic_free(pc->nic[i]);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) virtio_blk_free(pc->virtio_disk[i]);
    fdc_free(pc->fdc);
    ide_free(pc->ide);
    porte9_free(pc->fw_port);
    fw_cfg_free(pc->fw_cfg);
    pam_free(pc->pam);
    vga_free(pc->vga);
    pci_free(pc->pci);
    acpi_pm_free(pc->pm);
    porte9_free(pc->porte9);
    port80_free(pc->port80);
    dma8237_free(pc->dma);
    lpt_free(pc->lpt);
    for (unsigned i = 0; i < SERIAL_PORTS; i++) uart_free(pc->com[i]);
    for (unsigned i = 0; i < 2; i++) irq_or_free(pc->com_irq[i]);
    i8042_free(pc->kbd);
    rtc_free(pc->rtc);
    pit_free(pc->pit);
    hpet_free(pc->hpet);
    ioapic_free(pc->ioapic);
    lapic_free(pc->lapic);
    pic_free(pc->pic);
    free(pc);
}

struct vga *pc_vga(const struct pc *pc) { return pc->vga; }
struct i8042 *pc_keyboard(const struct pc *pc) { return pc->kbd; }
static struct usb_hid *ready(struct usb_hid *h) { return h && usb_hid_ready(h) ? h : NULL; }
struct usb_hid *pc_usb_tablet(const struct pc *pc) { return ready(usb_ports_tablet(pc->usb)); }
struct usb_hid *pc_usb_keyboard(const struct pc *pc) { return ready(usb_ports_keyboard(pc->usb)); }
void pc_usb_on_room(struct pc *pc, struct dev_event room)
{
    if (usb_ports_keyboard(pc->usb)) usb_hid_on_room(usb_ports_keyboard(pc->usb), room);
}
void pc_usb_on_leds(struct pc *pc, struct dev_event leds)
{
    if (usb_ports_keyboard(pc->usb)) usb_hid_on_leds(usb_ports_keyboard(pc->usb), leds);
}
const struct memory_map *pc_memory_map(const struct pc *pc) { return &pc->map; }
