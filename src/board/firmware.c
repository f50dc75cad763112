/* Owns the reading of firmware images, and the files of fw_cfg that SeaBIOS asks for: memory map, ACPI tables with the
 * commands that put them into place, boot order, serial console. SeaBIOS, docs/Runtime_config; QEMU, docs/specs/fw_cfg
 * and hw/acpi/bios-linker-loader. Enter at firmware_open(), firmware_tell(). */
#include "src/board/firmware.h"
#include "src/board/loader.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the image ---- */

static const char seabios[] = "/usr/share/seabios/bios-256k.bin", vgabios[] = "/usr/share/seabios/vgabios-stdvga.bin";
#define NIC_ROM_MAX (256u << 10)
#define OPTION_ROM_UNIT 512u /* bytes: PCI firmware specification, expansion ROM header */
#define OPTION_ROM_MAX (256u << 10)

static int image_read(struct firmware *f, int fd, u32 len, const struct wait_end *end)
{
    u32 have = 0;
    f->data = malloc(len);
    if (!f->data) return -ENOMEM;
    while (have < len) {
        ssize_t n = wait_read(fd, f->data + have, len - have, end);
        if (n <= 0) return n ? (int)n : -EIO;
        have += (u32)n;
    }
    f->len = len;
    return 0;
}

static int image_open(struct firmware *f, const char *what, const char *name, u32 min, u32 max, u32 unit,
                      const struct wait_end *end, struct vm_error *err)
{
    struct stat st;
    *f = (struct firmware){ 0 };
    int fd = wait_open(name, O_RDONLY, 0, end), rc;
    if (fd < 0) return vm_fail(err, fd, "%s %s: %s", what, name, strerror(-fd));
    rc = fstat(fd, &st) ? -errno : 0;
    if (rc) vm_fail(err, rc, "%s %s: %s", what, name, strerror(-rc));
    else if (!S_ISREG(st.st_mode)) rc = vm_fail(err, -ENOEXEC, "%s %s: is no regular file", what, name);
    else if (st.st_size < min || st.st_size > max || st.st_size % unit)
        rc = vm_fail(err, -ENOEXEC, "%s %s: %lld bytes are not %uK to %uK in whole units of %u bytes", what, name,
                     (long long)st.st_size, min >> 10, max >> 10, unit);
    else if ((rc = image_read(f, fd, (u32)st.st_size, end))) vm_fail(err, rc, "%s %s: %s", what, name, strerror(-rc));
    close(fd);
    if (rc) firmware_close(f);
    return rc;
}

int firmware_open(struct firmware *f, const char *path, const struct wait_end *end, struct vm_error *err)
{
    int rc = image_open(f, "firmware", path ? path : seabios, FIRMWARE_MIN, FIRMWARE_MAX, PAGE_SIZE, end, err);
    if (rc == -ENOENT && !path)
        return vm_fail(err, rc,
                       "firmware: SeaBIOS is not installed (%s; Debian: apt-get install seabios); "
                       "--firmware FILE takes another",
                       seabios);
    return rc;
}

int firmware_open_vga(struct firmware *f, const struct wait_end *end, struct vm_error *err)
{
    int rc = image_open(f, "vga", vgabios, OPTION_ROM_UNIT, VGA_ROM_MAX, OPTION_ROM_UNIT, end, err);
    if (rc == -ENOENT)
        return vm_fail(err, rc, "vga: its BIOS is not installed (%s; Debian: apt-get install seabios)", vgabios);
    return rc;
}

int firmware_open_nic(struct firmware *f, const char *rom, const struct wait_end *end, struct vm_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "/usr/lib/ipxe/qemu/pxe-%s.rom", rom);
    int rc = image_open(f, "boot ROM", name, OPTION_ROM_UNIT, NIC_ROM_MAX, OPTION_ROM_UNIT, end, err);
    if (rc == -ENOENT)
        return vm_fail(err, rc,
                       "boot: network: the card's ROM is not installed (%s; Debian: apt-get install ipxe-qemu)", name);
    return rc;
}

int firmware_open_option(struct firmware *f, const char *path, const struct wait_end *end, struct vm_error *err)
{
    return image_open(f, "option_rom", path, OPTION_ROM_UNIT, OPTION_ROM_MAX, OPTION_ROM_UNIT, end, err);
}

void firmware_close(struct firmware *f)
{
    free(f->data);
    *f = (struct firmware){ 0 };
}

/* ---- what it is told ---- */

static void put_le(u8 *p, u64 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (u8)(v >> 8 * i);
}

static int tell_memory(struct fw_cfg *f, const struct firmware_config *cfg)
{
    enum { ENTRY = 20 };
    u8 map[2 * ENTRY] = { 0 };
    put_le(map + 8, cfg->ram_low, 8);
    put_le(map + 16, E820_RAM, 4);
    put_le(map + ENTRY, (u64)1 << 32, 8);
    put_le(map + ENTRY + 8, cfg->ram_high, 8);
    put_le(map + ENTRY + 16, E820_RAM, 4);
    return fw_cfg_file(f, "etc/e820", map, cfg->ram_high ? 2 * ENTRY : ENTRY);
}

/* The loader's script: commands of 128 bytes. */
enum { CMD_ALLOCATE = 1, CMD_ADD_POINTER = 2, CMD_ADD_CHECKSUM = 3, CMD_SIZE = 128, ZONE_HIGH = 1, ZONE_FSEG = 2 };
#define COMMANDS_MAX (2 + ACPI_POINTERS_MAX + 2 + ACPI_TABLES_MAX + 2)
static const char tables_file[] = "etc/acpi/tables", rsdp_file[] = "etc/acpi/rsdp";

struct script {
    u8 cmd[COMMANDS_MAX][CMD_SIZE];
    unsigned n;
};

static u8 *script_add(struct script *s, u32 command)
{
    BUG_ON(s->n == COMMANDS_MAX);
    u8 *c = s->cmd[s->n++];
    put_le(c, command, 4);
    return c + 4;
}
static void add_allocate(struct script *s, const char *file, u32 align, u8 zone)
{
    u8 *c = script_add(s, CMD_ALLOCATE);
    strcpy((char *)c, file);
    put_le(c + FW_CFG_NAME, align, 4);
    c[FW_CFG_NAME + 4] = zone;
}
/* The pointer at `at` in file is relative to the tables: from now on to memory. */
static void add_pointer(struct script *s, const char *file, u32 at, u8 size)
{
    u8 *c = script_add(s, CMD_ADD_POINTER);
    strcpy((char *)c, file);
    strcpy((char *)c + FW_CFG_NAME, tables_file);
    put_le(c + 2 * FW_CFG_NAME, at, 4);
    c[2 * FW_CFG_NAME + 4] = size;
}
static void add_checksum(struct script *s, const char *file, u32 at, u32 from, u32 len)
{
    u8 *c = script_add(s, CMD_ADD_CHECKSUM);
    strcpy((char *)c, file);
    put_le(c + FW_CFG_NAME, at, 4);
    put_le(c + FW_CFG_NAME + 4, from, 4);
    put_le(c + FW_CFG_NAME + 8, len, 4);
}

static int tell_acpi(struct fw_cfg *f, const struct acpi_tables *t)
{
    struct script s = { .n = 0 };
    add_allocate(&s, tables_file, 64, ZONE_HIGH);
    add_allocate(&s, rsdp_file, 16, ZONE_FSEG);
    for (unsigned i = 0; i < t->npointers; i++) add_pointer(&s, tables_file, t->pointer[i].at, t->pointer[i].size);
    for (unsigned i = 0; i < t->ntables; i++)
        add_checksum(&s, tables_file, t->table[i].at + ACPI_CHECKSUM, t->table[i].at, t->table[i].len);
    add_pointer(&s, rsdp_file, ACPI_RSDP_RSDT, 4);
    add_pointer(&s, rsdp_file, ACPI_RSDP_XSDT, 8);
    add_checksum(&s, rsdp_file, 8, 0, 20);
    add_checksum(&s, rsdp_file, 32, 0, sizeof t->rsdp);
    int rc = fw_cfg_file(f, tables_file, t->blob, (u32)t->len);
    if (!rc) rc = fw_cfg_file(f, rsdp_file, t->rsdp, sizeof t->rsdp);
    return rc ? rc : fw_cfg_file(f, "etc/table-loader", s.cmd, s.n * CMD_SIZE);
}

/* As Open Firmware names devices, which is what SeaBIOS reads. */
static size_t drive_path(char *out, size_t room, const struct boot_drive *d)
{
    int len = 0;
    if (d->network) {
        len = snprintf(out, room, "/pci@i0cf8/ethernet@%x/ethernet-phy@0", d->at);
        BUG_ON((size_t)len >= room);
        return (size_t)len;
    }
    switch (d->bus) {
    case VM_BUS_IDE: len = snprintf(out, room, "/pci@i0cf8/ide@1,1/drive@%u/disk@%u", d->at / 2, d->at % 2); break;
    case VM_BUS_VIRTIO: len = snprintf(out, room, "/pci@i0cf8/scsi@%x/disk@0,0", d->at); break;
    case VM_BUS_USB: len = snprintf(out, room, "/pci@i0cf8/usb@1,2/storage@%x/channel@0/disk@0,0", d->at); break;
    case VM_BUS_FLOPPY: len = snprintf(out, room, "/pci@i0cf8/isa@1/fdc@03f0/floppy@%u", d->at); break;
    }
    BUG_ON((size_t)len >= room);
    return (size_t)len;
}

/* What its kind's word begins with. */
static char kind_of(const struct boot_drive *d)
{
    if (d->network) return 'n';
    return d->bus == VM_BUS_FLOPPY ? 'f' : d->cdrom ? 'c' : 'd';
}

void firmware_boot_order(char out[BOOT_ORDER_MAX], const struct boot_drive *drive, unsigned drives, const char *boot)
{
    size_t n = 0;
    out[0] = 0;
    for (const char *word = boot; *word; word += strcspn(word, ","), word += *word == ',')
        for (unsigned i = 0; i < drives; i++) {
            if (*word != kind_of(&drive[i])) continue;
            if (n) out[n++] = '\n';
            n += drive_path(out + n, BOOT_ORDER_MAX - n, &drive[i]);
        }
}

bool firmware_boot_menu(const char *boot)
{
    const char *menu = strstr(boot, "menu=on");
    return menu && (menu == boot || menu[-1] == ',');
}

int firmware_tell(struct fw_cfg *f, const struct firmware_config *cfg)
{
    enum { ITEM_CPUS = 0x05, ITEM_BOOT_MENU = 0x0e, ITEM_CPUS_MAX = 0x0f };
    static const u8 one[2] = { 1 };
    u8 console[2];
    put_le(console, cfg->serial_console, 2);
    int rc = tell_memory(f, cfg);
    if (!rc) rc = tell_acpi(f, cfg->acpi);
    if (!rc) rc = fw_cfg_item(f, ITEM_CPUS, one, sizeof one);
    if (!rc) rc = fw_cfg_item(f, ITEM_CPUS_MAX, one, sizeof one);
    if (!rc && cfg->boot_menu) rc = fw_cfg_item(f, ITEM_BOOT_MENU, one, sizeof one);
    if (!rc && *cfg->boot_order) rc = fw_cfg_file(f, "bootorder", cfg->boot_order, (u32)strlen(cfg->boot_order) + 1);
    if (!rc && cfg->serial_console) rc = fw_cfg_file(f, "etc/sercon-port", console, sizeof console);
    return rc;
}
