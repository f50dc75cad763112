/* Owns what an expansion ROM says of the function that it is on. PCI Firmware Specification 3.0, 5.1: the header (55h
 * AAh, its length, and at 18h where the PCI data structure is), and that structure ("PCIR", vendor, device). */
#include "src/dev/pc_devices.h"

#include <string.h>

#define ROM_UNIT 512u
enum {
    ROM_LENGTH = 2,
    ROM_FREE = 6,
    ROM_PCIR = 0x18,
    ROM_HEADER = 0x1a,
    PCIR_VENDOR = 4,
    PCIR_DEVICE = 6,
    PCIR_SIZE = 24
};

static void set(u8 *rom, u32 at, u16 value)
{
    u8 was = (u8)(rom[at] + rom[at + 1]);

    rom[at] = (u8)value;
    rom[at + 1] = (u8)(value >> 8);
    rom[ROM_FREE] = (u8)(rom[ROM_FREE] + was - rom[at] - rom[at + 1]); /* unused by the header: makes up for it */
}

void pci_rom_name(u8 *rom, u32 len, u16 vendor, u16 device)
{
    u32 pcir;

    if (len < ROM_HEADER || rom[0] != 0x55 || rom[1] != 0xaa) return;
    pcir = rom[ROM_PCIR] | (u32)rom[ROM_PCIR + 1] << 8;
    if (pcir < ROM_HEADER || pcir + PCIR_SIZE > len || pcir + PCIR_SIZE > rom[ROM_LENGTH] * ROM_UNIT) return;
    if (memcmp(rom + pcir, "PCIR", 4)) return;
    set(rom, pcir + PCIR_VENDOR, vendor);
    set(rom, pcir + PCIR_DEVICE, device);
}
