/* Puts a guest's kernel into memory and the processor at its entry: Linux bzImage, or Multiboot 1.
 *
 * Every file is untrusted: it is read whole into our own memory first, every offset in it is checked against that
 * copy's size, and nothing in it can name an address outside guest RAM. */
#ifndef SRC_LOADER_H
#define SRC_LOADER_H
#include "core/bus.h"
#include "transvisor/vm.h"

struct cpu_arch;
struct boot;
struct wait_end;

/* The memory map that firmware would hand over (ACPI, 15.: INT 15h, E820). */
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct e820_entry {
    u64 addr, size;
    u32 type;
};
#define E820_MAX 32
struct memory_map {
    struct e820_entry entry[E820_MAX];
    unsigned n;
};

/* Reads and checks the files of cfg (kernel, initrd, cmdline), before there is a machine. Returns 0 or -errno;
 * -ECANCELED: end (NULL: nothing) ended the wait for one of them. */
MUST_CHECK int boot_open(struct boot **out, const struct vm_config *cfg, const struct wait_end *end,
                         struct vm_error *err);
void boot_free(struct boot *b);
/* Places everything in RAM and sets registers in *c, which is the caller's to put into the CPU. Returns 0 or -errno. */
MUST_CHECK int boot_load(struct boot *b, struct bus *bus, struct cpu_arch *c, const struct memory_map *map,
                         struct vm_error *err);

#endif
