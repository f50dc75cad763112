/* The board: which chips there are, at which address, and which wire goes where. */
#ifndef SRC_PC_H
#define SRC_PC_H
#include "src/dev/pc_devices.h"
#include "src/board/loader.h"
#include "src/board/nics.h"
#include "src/board/paravirt.h"
#include "src/board/usb_ports.h"
#include "src/board/sounds.h"
#include "src/wait.h"
#include "transvisor/vm.h"

#define SERIAL_PORTS (1 + VM_SERIAL_MORE)
struct rt;
struct pc;

/* A disk, and where it is. */
struct pc_disk {
    bool drive;           /* there is one */
    struct blockdev *dev; /* borrowed; NULL: a CD-ROM or floppy drive is empty */
    enum vm_bus bus;
    bool cdrom;
    u8 at;              /* IDE: which drive, channel at / 2; else: the how manieth */
    const char *serial; /* NULL: one of ours; borrowed */
};

struct pc_config {
    struct chardev
        *serial[SERIAL_PORTS]; /* COM1 and port E9h, to COM4; borrowed; NULL: no such port, or COM1 with nobody */
    struct chardev *parallel;  /* LPT1; borrowed; NULL: there is none */
    s64 rtc_offset;            /* seconds that the clock is ahead of UTC at first */
    bool has_debug_exit;
    u16 debug_exit;
    struct pc_disk disk[VM_DISKS_MAX]; /* firmware tries those of a kind in this order */
    struct nic_config nic[VM_NETS_MAX];
    unsigned sounds;                       /* which sound cards: bits of enum sound_kind */
    const struct audiodev *audio;          /* where they play to; borrowed; NULL where there are none */
    struct sharedev *share[VM_SHARES_MAX]; /* folders of the host's; borrowed; NULL: there is none */
    const char *boot;                      /* comma-separated: floppy, disk, cdrom, network */
    unsigned usb;                          /* what is plugged in: bits of enum usb_kind */
    struct paravirt_config paravirt;
    bool hpet;
    bool vga;
    const struct firmware *vga_rom;  /* its BIOS; borrowed until pc_new() returns; empty: none */
    const struct firmware *firmware; /* borrowed; NULL: none runs, and what it would leave behind is written here */
    const char *const *option_rom;   /* NULL, or VM_OPTION_ROMS_MAX files for it, NULL past the last */
    const char *const *smbios;       /* likewise, VM_SMBIOS_MAX of them, words for its SMBIOS tables */
    struct wait_end end;             /* ends a wait for one of those files */
    struct dev_event poweroff;       /* value: none */
    struct dev_event reset;          /* of the whole machine; value: none */
    struct dev_event init;  /* of the processor alone, where firmware runs that knows what to do then; value: none */
    struct dev_event debug; /* value: the exit status that was asked for */
};

/* Builds the machine around rt's CPU, with what firmware would leave in memory for an OS. Borrows rt. Returns 0 or
 * -errno. */
MUST_CHECK int pc_new(struct pc **out, struct rt *rt, const struct pc_config *cfg, struct vm_error *err);
void pc_free(struct pc *pc); /* before rt_free() */
/* RESET#: all chips, in place, and what firmware then leaves in memory, unless one runs. Returns 0 or -ENOMEM. */
MUST_CHECK int pc_reset(struct pc *pc);
/* The chips, in the order in which they are saved and loaded. At most room of them; returns how many. */
unsigned pc_parts(struct pc *pc, struct snap_part *out, unsigned room);
#define PC_PARTS_MAX 300u
/* Another medium (d->dev), or none, is in that CD-ROM or floppy drive, which has nothing at work. */
void pc_change_medium(struct pc *pc, const struct pc_disk *d);
/* The guest wants the medium to stay; the drive's tray is open. */
bool pc_medium_prevented(const struct pc *pc, const struct pc_disk *d);
bool pc_tray_open(const struct pc *pc, const struct pc_disk *d);
/* Somebody has pressed the drive's button: a guest that prevents removal is told. */
void pc_eject_request(struct pc *pc, const struct pc_disk *d);
/* Before it is saved, with nothing under way: what is the back ends' of the guest's state is taken. */
void pc_before_save(struct pc *pc);
/* Bytes of RAM that the guest should have, and has, of the balloon. -ENODEV: there is none. */
MUST_CHECK int pc_balloon(struct pc *pc, u64 bytes);
MUST_CHECK int pc_balloon_now(const struct pc *pc, u64 *bytes);
/* What the guest has said last of its memory; it is asked to say it again. -ENODEV: there is no balloon. */
MUST_CHECK int pc_balloon_stats(struct pc *pc, struct balloon_stats *out);
void pc_power_button(struct pc *pc);            /* pressed and let go */
struct vga *pc_vga(const struct pc *pc);        /* NULL: there is none */
struct i8042 *pc_keyboard(const struct pc *pc); /* keyboard and mouse */
/* Those on USB; NULL: there is no such, or no driver for it at present. */
struct usb_hid *pc_usb_tablet(const struct pc *pc);
struct usb_hid *pc_usb_keyboard(const struct pc *pc);
/* As usb_hid_on_room(), usb_hid_on_leds() of the keyboard, if there is one. */
void pc_usb_on_room(struct pc *pc, struct dev_event room);
void pc_usb_on_leds(struct pc *pc, struct dev_event leds);
const struct memory_map *pc_memory_map(const struct pc *pc);

#endif
