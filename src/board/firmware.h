/* Firmware that starts at the processor's reset vector: the image it is in, and what the machine tells it (fw_cfg). */
#ifndef SRC_BOARD_FIRMWARE_H
#define SRC_BOARD_FIRMWARE_H
#include "src/dev/pc_devices.h"
#include "src/wait.h"
#include "transvisor/vm.h"

#define FIRMWARE_MIN (64u << 10)
#define FIRMWARE_MAX (16u << 20)
struct firmware {
    u8 *data;
    u32 len; /* bytes, a multiple of 4 KiB */
};
/* Reads the image; path NULL: SeaBIOS, where Debian has it. 0 or -errno. */
MUST_CHECK int firmware_open(struct firmware *f, const char *path, const struct wait_end *end, struct vm_error *err);
/* The VGA's BIOS, where Debian has it. */
MUST_CHECK int firmware_open_vga(struct firmware *f, const struct wait_end *end, struct vm_error *err);
/* The boot ROM of a network card, `rom` being nic_rom()'s word, where Debian has it. */
MUST_CHECK int firmware_open_nic(struct firmware *f, const char *rom, const struct wait_end *end, struct vm_error *err);
/* An option ROM of a user's. */
MUST_CHECK int firmware_open_option(struct firmware *f, const char *path, const struct wait_end *end,
                                    struct vm_error *err);
void firmware_close(struct firmware *f); /* copes with one that was never opened */

struct firmware_config {
    u64 ram_low, ram_high;          /* bytes below and above 4 GiB */
    const struct acpi_tables *acpi; /* built for address 0 */
    const char *boot_order;         /* device paths, a line each; "": as the firmware likes */
    bool boot_menu;                 /* Esc while it starts shows a menu of what can be booted */
    u16 serial_console;             /* port of a serial line that stands in for screen and keyboard; 0: none */
};
/* Where a drive is: on the IDE controller (at / 2 is the channel) or the floppy's, or, VM_BUS_VIRTIO, a PCI function of
 * its own at 00:at.0. */
struct boot_drive {
    enum vm_bus bus;
    bool network; /* no drive: the card at 00:at.0 */
    bool cdrom;
    u8 at;
};
/* Device paths of drives and cards, in the order in which boot names kinds of them (floppy, disk, cdrom, network;
 * comma-separated; menu=on is no kind). */
#define BOOT_ORDER_MAX 768u
void firmware_boot_order(char out[BOOT_ORDER_MAX], const struct boot_drive *drive, unsigned drives, const char *boot);
bool firmware_boot_menu(const char *boot); /* whether there is a menu=on */
/* firmware_options.c: what a user gives it beside the machine, as struct vm_config has it. 0 or -errno. */
MUST_CHECK int firmware_option_rom(struct fw_cfg *f, const char *path, const struct wait_end *end,
                                   struct vm_error *err);
MUST_CHECK int firmware_smbios(struct fw_cfg *f, const char *spec, struct vm_error *err);
/* 0, -ENOMEM or -ENOSPC. */
MUST_CHECK int firmware_tell(struct fw_cfg *f, const struct firmware_config *cfg);

#endif
